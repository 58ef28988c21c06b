//! What is wanted of points, and which points: the parts that most requests share.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::engine::{Ask, With, WithVectors};
use crate::error::Result;
use crate::plan::filter::Filter;
use crate::server::call::Call;
use crate::server::qdrant::id::Id;
use crate::server::qdrant::json::Strict;
use crate::server::qdrant::vector::name;
use crate::server::reply::Refusal;
use crate::store::columns::path::{Path, Step};

/// The points that pass a filter, for whoever asks.
///
/// # Errors
/// Those of [`Filter::from_json`].
pub fn ask(call: &Call<'_>, filter: Option<&Strict>) -> Result<Ask> {
    let filter = match filter {
        None => Filter::default(),
        Some(Strict(value)) => Filter::from_json(value)?,
    };
    Ok(Ask::new(call.caller.tenant(), filter))
}

/// Points by their ids or by a filter.
pub enum Points {
    /// Of these ids.
    Ids(Vec<Id>),
    /// Those that pass.
    Matching(Ask),
}

impl Points {
    /// The points that are named, by ids or by a filter.
    ///
    /// # Errors
    /// `points_selector` if neither or both are given; those of filters.
    pub fn of(
        call: &Call<'_>,
        ids: Option<Vec<Id>>,
        filter: Option<&Strict>,
    ) -> Result<Self, Refusal> {
        match (ids, filter) {
            (Some(ids), None) => Ok(Self::Ids(ids)),
            (None, Some(_)) => Ok(Self::Matching(ask(call, filter)?)),
            (Some(_), Some(_)) => {
                Err(Refusal::bad("points_selector: both points and filter, expected one of them"))
            }
            (None, None) => Err(Refusal::bad(
                "points_selector: neither points nor filter, expected one of them",
            )),
        }
    }
}

/// Which part of payloads is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum WithPayload {
    /// Nothing.
    #[default]
    Nothing,
    /// All of it.
    All,
    /// What is at these paths, or leads there.
    Include(Vec<Path>),
    /// What is not at these paths.
    Exclude(Vec<Path>),
}

impl<'de> Deserialize<'de> for WithPayload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let Strict(value) = Strict::deserialize(deserializer)?;
        let expected = "expected true, false, a list of keys, or an object with include or exclude";
        let paths = |value: &Value| -> Result<Vec<Path>, D::Error> {
            let list = value.as_array().ok_or_else(|| D::Error::custom(expected))?;
            let path = |value: &Value| {
                let text = value.as_str().ok_or_else(|| D::Error::custom(expected))?;
                text.parse().map_err(D::Error::custom)
            };
            list.iter().map(path).collect()
        };
        match &value {
            Value::Null | Value::Bool(false) => Ok(Self::Nothing),
            Value::Bool(true) => Ok(Self::All),
            Value::Array(list) if list.is_empty() => Ok(Self::Nothing),
            Value::Array(_) => paths(&value).map(Self::Include),
            Value::Object(map) if map.len() == 1 => match map.iter().next() {
                Some((key, list)) if key == "include" => paths(list).map(Self::Include),
                Some((key, list)) if key == "exclude" => paths(list).map(Self::Exclude),
                _ => Err(D::Error::custom(expected)),
            },
            _ => Err(D::Error::custom(expected)),
        }
    }
}

impl WithPayload {
    /// The part of a payload that is wanted; none if nothing is.
    pub fn part(&self, payload: Option<Value>) -> Option<Value> {
        match self {
            Self::Nothing => None,
            Self::All => payload,
            Self::Include(paths) => payload.map(|payload| {
                let is_wanted = |at: &[Step]| paths.iter().any(|path| leads(path.steps(), at));
                kept(payload, &mut Vec::new(), &is_wanted)
            }),
            Self::Exclude(paths) => payload.map(|payload| {
                let is_within = |path: &Path, at: &[Step]| {
                    path.steps().len() <= at.len() && leads(path.steps(), at)
                };
                let is_wanted = |at: &[Step]| !paths.iter().any(|path| is_within(path, at));
                kept(payload, &mut Vec::new(), &is_wanted)
            }),
        }
    }

    /// Whether payloads must be read.
    pub fn is_some(&self) -> bool {
        *self != Self::Nothing
    }
}

/// Whether one of two ways is the beginning of the other.
fn leads(path: &[Step], at: &[Step]) -> bool {
    path.iter().zip(at).all(|(a, b)| a == b)
}

/// What of a value at a place is wanted, within objects and arrays.
fn kept(value: Value, at: &mut Vec<Step>, is_wanted: &dyn Fn(&[Step]) -> bool) -> Value {
    match value {
        Value::Object(map) => {
            let mut left = Map::new();
            for (key, value) in map {
                at.push(Step::Key(key.clone()));
                if is_wanted(at) {
                    left.insert(key, kept(value, at, is_wanted));
                }
                at.pop();
            }
            Value::Object(left)
        }
        Value::Array(elements) => {
            at.push(Step::Every);
            let elements = if is_wanted(at) { elements } else { Vec::new() };
            let left = elements.into_iter().map(|value| kept(value, at, is_wanted)).collect();
            at.pop();
            Value::Array(left)
        }
        other => other,
    }
}

/// Which vectors are wanted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(untagged, expecting = "with_vector: expected true, false or a list of names")]
pub enum WithVector {
    /// None or all.
    All(bool),
    /// Those of these names.
    Named(Vec<String>),
    /// None.
    #[default]
    Nothing,
}

/// What the engine is asked for.
pub fn with(payload: &WithPayload, vector: &WithVector) -> With {
    let vectors = match vector {
        WithVector::Nothing | WithVector::All(false) => WithVectors::Nothing,
        WithVector::All(true) => WithVectors::All,
        WithVector::Named(names) => {
            let own = |given: &String| name(given).to_owned();
            WithVectors::Named(names.iter().map(own).collect())
        }
    };
    With { payload: payload.is_some(), vectors }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_of_payloads_are_left_out_by_path() {
        let payload = json!({"a": {"b": 1, "c": 2}, "d": [{"e": 1, "f": 2}, 3], "aa": 4});
        let cases = [
            (json!(true), json!({"a": {"b": 1, "c": 2}, "d": [{"e": 1, "f": 2}, 3], "aa": 4})),
            (json!(["a"]), json!({"a": {"b": 1, "c": 2}})),
            (json!(["a.b"]), json!({"a": {"b": 1}})),
            (json!(["d[].e"]), json!({"d": [{"e": 1}, 3]})),
            (json!(["d.e"]), json!({"d": []})),
            (json!(["x"]), json!({})),
            (json!({"include": ["aa"]}), json!({"aa": 4})),
            (json!({"exclude": ["a.b", "d"]}), json!({"a": {"c": 2}, "aa": 4})),
            (json!({"exclude": ["d[].f", "a"]}), json!({"d": [{"e": 1}, 3], "aa": 4})),
            (json!({"exclude": []}), payload.clone()),
        ];
        for (with, expected) in cases {
            let selected: WithPayload = serde_json::from_value(with.clone()).unwrap();
            assert_eq!(selected.part(Some(payload.clone())), Some(expected), "{with}");
        }
        for nothing in [json!(false), json!(null), json!([])] {
            let selected: WithPayload = serde_json::from_value(nothing).unwrap();
            assert_eq!(selected.part(Some(payload.clone())), None);
        }
        for bad in [json!(1), json!({"includes": ["a"]}), json!([1]), json!(["a..b"]), json!({})] {
            assert!(serde_json::from_value::<WithPayload>(bad.clone()).is_err(), "{bad}");
        }
    }
}
