//! A point as a line of JSON, in Qdrant's form: `{"id": 1, "vector": [0.5, 1], "payload": {"a": "b"}}`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::core::ids::PointId;
use crate::core::limits::DIM;
use crate::record::{Problem, payload};

/// A point of a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The id, if the line has one.
    pub id: Option<PointId>,
    /// 1 to 16,384 finite numbers.
    pub vector: Vec<f64>,
    /// An object, empty if the line has none.
    pub payload: Value,
}

impl Point {
    /// The point of a line.
    ///
    /// # Errors
    /// `json_invalid`, `json_duplicate_key`, `field_unknown`, `field_missing`, `field_type`, `id_invalid`, `vector_named`,
    /// `vector_not_finite`, `dim_range`, those of [`payload::parse`].
    pub fn parse(line: &str) -> Result<Self, Problem> {
        let entries: Entries<'_> = serde_json::from_str(line)
            .map_err(|error| Problem::new("json_invalid", payload::of_line(&error)))?;
        let [mut id, mut vector, mut of_payload] = [None; 3];
        for (key, value) in entries.0 {
            let place = match &*key {
                "id" => &mut id,
                "vector" => &mut vector,
                "payload" => &mut of_payload,
                _ => {
                    let message = format!("{key:?}, expected \"id\", \"vector\" and \"payload\"");
                    return Err(Problem::new("field_unknown", message));
                }
            };
            if place.replace(value.get()).is_some() {
                return Err(Problem::new("json_duplicate_key", format!("the key {key:?} twice")));
            }
        }
        // As in Qdrant, null is as good as nothing.
        for place in [&mut id, &mut vector, &mut of_payload] {
            *place = place.filter(|&raw| raw != "null");
        }
        let vector = vector.ok_or_else(|| {
            Problem::new("field_missing", "no \"vector\", expected a list of numbers")
        })?;
        let empty = || Ok(Value::Object(serde_json::Map::new()));
        Ok(Self {
            id: id.map(point_id).transpose()?,
            vector: numbers(vector)?,
            payload: of_payload.map_or_else(empty, payload::parse)?,
        })
    }
}

/// The id that a JSON value is: a number, or a string of one or of a UUID.
///
/// # Errors
/// `id_invalid`.
pub fn point_id(raw: &str) -> Result<PointId, Problem> {
    let invalid = || {
        let message = format!("{raw}, expected an unsigned 64-bit integer or a UUID");
        Problem::new("id_invalid", message)
    };
    if let Ok(text) = serde_json::from_str::<String>(raw) {
        return text.parse().map_err(|_| invalid());
    }
    serde_json::from_str(raw).map(PointId::Num).map_err(|_| invalid())
}

fn numbers(raw: &str) -> Result<Vec<f64>, Problem> {
    if raw.starts_with('{') {
        let message =
            "an object; points have one vector without a name, expected a list of numbers";
        return Err(Problem::new("vector_named", message));
    }
    let none = |what: &str| {
        Problem::new("field_type", format!("\"vector\" is {what}, expected a list of numbers"))
    };
    let Some(inside) = raw.strip_prefix('[') else { return Err(none("no list")) };
    // Lists in lists may be nested deeper than the parser's stack is.
    if memchr::memchr3(b'[', b'{', b'"', inside.as_bytes()).is_some() {
        return Err(none("a list of something else"));
    }
    let numbers: Vec<f64> =
        sonic_rs::from_str(raw).map_err(|_| none("a list with something else in it"))?;
    if !(1..=DIM).contains(&numbers.len()) {
        let message = format!("{} numbers, expected 1 to {DIM}", numbers.len());
        return Err(Problem::new("dim_range", message));
    }
    if let Some(at) = numbers.iter().position(|x| !x.is_finite()) {
        let message = format!("element {at} is {}", numbers[at]);
        return Err(Problem::new("vector_not_finite", message));
    }
    Ok(numbers)
}

/// Keys and values of an object, in their order; values are not looked at.
struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_a_point() {
        let line = r#" {"payload": {"a": [1]}, "vector": [1, -2.5e0, 0.1], "id": 7} "#;
        let point = Point::parse(line).unwrap();
        assert_eq!((point.id, point.vector), (Some(PointId::Num(7)), vec![1.0, -2.5, 0.1]));
        assert_eq!(point.payload, json!({"a": [1]}));
        let bare = Point::parse(r#"{"vector": [1], "id": null, "payload": null}"#).unwrap();
        assert_eq!((bare.id, bare.payload), (None, json!({})));
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        let id = |raw: String| point_id(&raw).map_err(|problem| problem.code);
        assert_eq!(id(format!("{uuid:?}")), Ok(uuid.parse().unwrap()));
        assert_eq!(id("\"9007199254740993\"".into()), Ok(PointId::Num(9_007_199_254_740_993)));
        for raw in ["-1", "1.0", "18446744073709551616", "\"x\"", "true", "[1]", &"1".repeat(32)] {
            assert_eq!(id(raw.to_owned()), Err("id_invalid"), "{raw}");
        }
    }

    #[test]
    fn a_line_that_is_none_says_why() {
        for (line, code) in [
            ("", "json_invalid"),
            ("[1]", "json_invalid"),
            (r#"{"vector": [1]"#, "json_invalid"),
            (r#"{"vector": [1]} {}"#, "json_invalid"),
            (r#"{"vector": [1], "vectors": [1]}"#, "field_unknown"),
            (r#"{"vector": [1], "vector": [1]}"#, "json_duplicate_key"),
            (r#"{"id": 1}"#, "field_missing"),
            (r#"{"vector": null}"#, "field_missing"),
            (r#"{"vector": {"a": [1]}}"#, "vector_named"),
            (r#"{"vector": "1"}"#, "field_type"),
            (r#"{"vector": [1, null]}"#, "field_type"),
            (r#"{"vector": [[1]]}"#, "field_type"),
            (r#"{"vector": []}"#, "dim_range"),
            (r#"{"vector": [1], "payload": [1]}"#, "payload_type"),
            (r#"{"vector": [1], "payload": {"a": 1, "a": 1}}"#, "json_duplicate_key"),
            (r#"{"vector": [1], "id": -1}"#, "id_invalid"),
        ] {
            assert_eq!(Point::parse(line).unwrap_err().code, code, "{line}");
        }
        let code = Point::parse(r#"{"vector": [1e400]}"#).unwrap_err().code;
        assert!(["field_type", "vector_not_finite"].contains(&code), "{code}");
        let deep = format!("{{\"vector\": {}", "[".repeat(100_000));
        assert_eq!(Point::parse(&deep).unwrap_err().code, "json_invalid");
        let deep = format!("{{\"vector\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(Point::parse(&deep).unwrap_err().code, "field_type");
    }
}
