//! A payload in JSON: an object, no key of it twice.

use std::cell::RefCell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Value};

use crate::core::limits::PAYLOAD_BYTES;
use crate::record::Problem;

/// The payload that `text` is.
///
/// # Errors
/// `payload_json`, `payload_type` if it is no object, `json_duplicate_key`, `payload_size`.
pub fn parse(text: &str) -> Result<Value, Problem> {
    let twice = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { twice: &twice }.deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    let value = value.map_err(|error| match twice.borrow_mut().take() {
        Some(key) => {
            let message = format!("the key {key:?} twice in one object");
            Problem::new("json_duplicate_key", message)
        }
        None => Problem::new("payload_json", of_line(&error)),
    })?;
    if !value.is_object() {
        return Err(Problem::new("payload_type", "no JSON object"));
    }
    // What is kept is the value and not this text: numbers may grow by some digits.
    if text.len() > PAYLOAD_BYTES / 16 {
        let n_bytes = value.to_string().len();
        if n_bytes > PAYLOAD_BYTES {
            let message = format!("{n_bytes} bytes, the limit is {PAYLOAD_BYTES}");
            return Err(Problem::new("payload_size", message));
        }
    }
    Ok(value)
}

/// What is wrong and at which column; the line is the caller's.
pub(super) fn of_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

/// Builds a [`Value`] that has lost nothing; serde_json's own keeps the last of equal keys.
#[derive(Clone, Copy)]
struct Strict<'a> {
    /// The first key that came twice.
    twice: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(self)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            match map.entry(key) {
                Entry::Vacant(place) => place.insert(entries.next_value_seed(self)?),
                Entry::Occupied(first) => {
                    *self.twice.borrow_mut() = Some(first.key().clone());
                    return Err(A::Error::custom("a key twice"));
                }
            };
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_as_serde_json_does() {
        let text = r#" {"a": [1, -2, 3.5, null, true, "x\u00e9"], "b": {"c": {}}, "d": 18446744073709551615} "#;
        assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn what_is_no_payload_says_why() {
        let wrong = |text: &str| parse(text).unwrap_err();
        assert_eq!(wrong("[1]").code, "payload_type");
        for text in ["", "{", "{\"a\": 01}", "{} {}", "{\"a\": NaN}", "{\"a\": \"\\ud800\"}"] {
            assert_eq!(wrong(text).code, "payload_json", "{text}");
        }
        assert_eq!(wrong("{\"a\" 1}").message, "expected `:` at column 6");
        let twice = wrong(r#"{"a": [{"k": 1, "l": 2, "k": 1}]}"#);
        assert_eq!(twice.code, "json_duplicate_key");
        assert!(twice.message.contains("\"k\""), "{}", twice.message);
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(wrong(&deep).code, "payload_json");
        let long = |n: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(n - 8));
        assert_eq!(wrong(&long(PAYLOAD_BYTES + 1)).code, "payload_size");
        assert!(parse(&long(PAYLOAD_BYTES)).is_ok());
    }
}
