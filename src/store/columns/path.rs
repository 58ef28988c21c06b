//! The way to a value inside a payload: `a`, `a.b`, `a[]`, `a[].b`, `a[0]`, `"a key.with dots"`.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::core::limits::PATH_BYTES;
use crate::error::{Error, Result};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Into the object, at this key.
    Key(String),
    /// Into the array, at this position.
    At(u64),
    /// Into the array, at every position.
    Every,
}

/// Steps from the payload to a value; the first is a key. Written and read as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<Step>);

impl Path {
    /// The values at this path, in order; an array that the path ends in is one value.
    pub fn values<'a>(&self, payload: &'a Value) -> Vec<&'a Value> {
        let mut found = Vec::new();
        follow(&self.0, payload, &mut found);
        found
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// This path with a last `[]`.
    pub fn of_elements(&self) -> Self {
        let mut steps = self.of_array().0;
        steps.push(Step::Every);
        Self(steps)
    }

    /// The path that leads on from every element of the array at this one: `a` and `a[]` with `b` give `a[].b`.
    pub fn each(&self, rest: &Self) -> Self {
        let mut steps = self.of_elements().0;
        steps.extend_from_slice(&rest.0);
        Self(steps)
    }

    /// This path without a last `[]`.
    pub fn of_array(&self) -> Self {
        let n = self.0.len() - usize::from(self.0.last() == Some(&Step::Every));
        Self(self.0[..n].to_vec())
    }
}

/// The values that a condition on `values` looks at: each of them, or its elements if it is an array.
pub fn elements<'a>(values: &[&'a Value]) -> Vec<&'a Value> {
    let mut found = Vec::with_capacity(values.len());
    for value in values {
        match value {
            Value::Array(array) => found.extend(array),
            other => found.push(*other),
        }
    }
    found
}

fn follow<'a>(steps: &[Step], value: &'a Value, found: &mut Vec<&'a Value>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value);
        return;
    };
    match (step, value) {
        (Step::Key(key), Value::Object(map)) => {
            if let Some(value) = map.get(key) {
                follow(rest, value, found);
            }
        }
        (Step::At(at), Value::Array(array)) => {
            if let Some(value) = usize::try_from(*at).ok().and_then(|at| array.get(at)) {
                follow(rest, value, found);
            }
        }
        (Step::Every, Value::Array(array)) => {
            array.iter().for_each(|value| follow(rest, value, found));
        }
        _ => {}
    }
}

fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

impl FromStr for Path {
    type Err = Error;

    /// Reads a path: keys of letters, digits, `_` and `-`, or in double quotes, apart by dots; `[]` and `[0]` after a key.
    ///
    /// # Errors
    /// `path_invalid` names the byte at which it stops being one; `path_length`.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() > PATH_BYTES {
            let message = format!("a path of {} bytes, limit {PATH_BYTES}", text.len());
            return Err(Error::usage("path_length", message));
        }
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() || steps.is_empty() {
            let step = if steps.is_empty() {
                key(rest)
            } else if let Some(inside) = rest.strip_prefix('[') {
                index(inside)
            } else {
                rest.strip_prefix('.').and_then(key)
            };
            let Some((step, after)) = step else {
                let at = text.len() - rest.len();
                let message =
                    format!("{text:?} at byte {at}, expected as a.b, a[], a[0] or \"a b\"");
                return Err(Error::usage("path_invalid", message));
            };
            steps.push(step);
            rest = after;
        }
        Ok(Self(steps))
    }
}

fn key(text: &str) -> Option<(Step, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (key, rest) = quoted.split_once('"')?;
        return (!key.contains('\\')).then(|| (Step::Key(key.to_owned()), rest));
    }
    let end = text.find(|c| !is_bare(c)).unwrap_or(text.len());
    (end > 0).then(|| (Step::Key(text[..end].to_owned()), &text[end..]))
}

fn index(text: &str) -> Option<(Step, &str)> {
    let (digits, rest) = text.split_once(']')?;
    if digits.is_empty() {
        return Some((Step::Every, rest));
    }
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(|at| (Step::At(at), rest))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    let dot = if n > 0 { "." } else { "" };
                    let quote = if key.is_empty() || !key.chars().all(is_bare) { "\"" } else { "" };
                    write!(f, "{dot}{quote}{key}{quote}")?;
                }
                Step::At(at) => write!(f, "[{at}]")?,
                Step::Every => f.write_str("[]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_displayed_is_read_back() {
        for text in ["a", "a.b", "a[]", "a[].b[3][].c", "\"a b.c[\".d", "\"\"", "höhe.\"\"", "a-_1"]
        {
            assert_eq!(path(text).to_string(), text);
        }
        assert_eq!(path("\"plain\"").to_string(), "plain");
    }

    #[test]
    fn what_is_no_path_is_refused_by_name() {
        let long = "a".repeat(PATH_BYTES + 1);
        let bad =
            ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "a b", "[]", "a]", "\"a", "a[] "];
        for text in
            bad.into_iter().chain([long.as_str(), "a[99999999999999999999]", "\"a\\\"", "a\"b\""])
        {
            let error = text.parse::<Path>().unwrap_err();
            assert!(matches!(error.code(), "path_invalid" | "path_length"), "{text}: {error}");
        }
    }

    #[test]
    fn a_path_leads_to_the_values_that_are_there() {
        let payload =
            json!({"a": [{"b": 1}, {"b": [2, 3]}, 4, {"c": null}], "d": {"e": null}, "f": []});
        let found = |text: &str| json!(path(text).values(&payload));
        assert_eq!(found("a[].b"), json!([1, [2, 3]]));
        assert_eq!(found("a[1].b[0]"), json!([2]));
        assert_eq!(found("a.b"), json!([]), "a key does not reach into an array");
        assert_eq!(found("d.e"), json!([null]));
        assert_eq!(found("d[]"), json!([]), "an object has no elements");
        assert_eq!(found("f"), json!([[]]));
        assert_eq!(found("f[]"), json!([]));
        assert_eq!(json!(elements(&path("a[].b").values(&payload))), json!([1, 2, 3]));
        assert_eq!(path("a").each(&path("b")), path("a[].b"));
        assert_eq!(path("a[]").each(&path("b")), path("a[].b"));
    }
}
