//! JSON in its one form, hashed: two bodies that say the same have one hash.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// What two bodies are compared by.
pub type Hash = [u8; 32];

/// A hash of values, each of which is told apart from its neighbours.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// One for values of this kind: hashes of two kinds are never equal.
    pub fn new(kind: &str) -> Self {
        let mut hasher = Self::default();
        hasher.text(kind);
        hasher
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a value, whatever the order of its keys and however its numbers are written.
    pub fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Null => self.0.update(b"0"),
            Value::Bool(is) => self.0.update(if *is { b"t" } else { b"f" }),
            Value::Number(number) => {
                self.0.update(b"n");
                self.text(&plain(number));
            }
            Value::String(text) => {
                self.0.update(b"s");
                self.text(text);
            }
            Value::Array(values) => {
                self.0.update(b"[");
                for value in values {
                    self.value(value);
                }
                self.0.update(b"]");
            }
            Value::Object(map) => {
                self.map(map);
            }
        }
        self
    }

    /// Adds an object.
    pub fn map(&mut self, map: &Map<String, Value>) -> &mut Self {
        let mut keys: Vec<&String> = map.keys().collect();
        keys.sort_unstable();
        self.0.update(b"{");
        for key in keys {
            self.text(key).value(&map[key]);
        }
        self.0.update(b"}");
        self
    }

    /// The hash of all that was added.
    pub fn hash(&self) -> Hash {
        self.0.clone().finalize().into()
    }
}

/// A number in its one form: `1.0` and `1` are one.
fn plain(number: &serde_json::Number) -> String {
    /// The whole numbers that are all there in 64 bits of floating point.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(x) if number.is_f64() && x.fract() == 0.0 && x.abs() < WHOLE => {
            format!("{}", x as i64)
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hash(text: &str) -> Hash {
        Hasher::new("test").value(&serde_json::from_str(text).unwrap()).hash()
    }

    #[test]
    fn what_says_the_same_has_one_hash_and_nothing_else_has() {
        let same = [
            (r#"{"a":1,"b":[1,2]}"#, r#"{ "b": [1.0, 2], "a": 1e0 }"#),
            (r#"{"a":{"x":null,"y":"\u0041"}}"#, r#"{"a":{"y":"A","x":null}}"#),
            ("0.1", "1e-1"),
        ];
        for (one, other) in same {
            assert_eq!(hash(one), hash(other), "{one} {other}");
        }
        let different = [
            "null",
            "0",
            "false",
            "\"\"",
            "[]",
            "{}",
            "[[]]",
            "[{}]",
            "[1,2]",
            "[12]",
            "[\"1\",2]",
            "[[1],2]",
            "[[1,2]]",
            "{\"a\":\"b\"}",
            "{\"ab\":\"\"}",
            "[\"a\",\"b\"]",
            "[\"ab\"]",
            "9007199254740993",
            "9007199254740992",
            "0.1",
            "-0.1",
        ];
        for (i, one) in different.iter().enumerate() {
            for other in &different[..i] {
                assert_ne!(hash(one), hash(other), "{one} {other}");
            }
        }
        let of = |kind| Hasher::new(kind).value(&json!(1)).hash();
        assert_ne!(of("one"), of("other"));
    }
}
