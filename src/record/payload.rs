//! A payload in JSON: an object, no key of it twice.

use serde_json::Value;

use crate::core::limits::PAYLOAD_BYTES;
use crate::record::Problem;
use crate::record::strict::{Strict, TWICE};

/// The payload that `text` is.
///
/// # Errors
/// `payload_json`, `payload_type` if it is no object, `json_duplicate_key`, `payload_size`.
pub fn parse(text: &str) -> Result<Value, Problem> {
    let Strict(value) = serde_json::from_str(text).map_err(|error| {
        let message = of_line(&error);
        let code = if message.starts_with(TWICE) { "json_duplicate_key" } else { "payload_json" };
        Problem::new(code, message)
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
