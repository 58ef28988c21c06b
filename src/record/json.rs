//! One JSON object as a record, and the values of a JSON file one by one.

use sonic_rs::{JsonType, JsonValueTrait, LazyValue};

use crate::core::limits::JSON_DEPTH;
use crate::record::{FieldNames, Fields, Problem};

/// Reads the fields of one JSON object; the whole of `line` is checked, whatever is in it.
///
/// # Errors
/// `utf8_invalid`, `json_invalid`, `json_depth`, `json_duplicate_key`, `field_missing`, `field_type` or
/// `annotate_key_taken`.
pub fn read_fields(line: &[u8], names: &FieldNames) -> Result<Fields, Problem> {
    match simdutf8::compat::from_utf8(line) {
        Ok(line) => read_str_fields(line, names),
        Err(error) => {
            let message = format!("byte {} of the record", error.valid_up_to());
            Err(Problem::new("utf8_invalid", message))
        }
    }
}

/// As [`read_fields`], for a record that is known to be UTF-8.
///
/// # Errors
/// As [`read_fields`].
pub fn read_str_fields(line: &str, names: &FieldNames) -> Result<Fields, Problem> {
    let line = line.trim_matches([' ', '\t', '\r', '\n']);
    if !line.starts_with('{') {
        return Err(not_an_object(line));
    }
    let mut fields = Fields::default();
    let mut text: Option<LazyValue<'_>> = None;
    let mut end = 1;
    let mut entries = sonic_rs::to_object_iter(line);
    loop {
        check_depth(line.as_bytes(), end)?;
        let Some(entry) = entries.next() else { break };
        let (key, value) = entry.map_err(|error| invalid(&error))?;
        end = value_end(line, &value);
        if key == names.text {
            if text.replace(value).is_some() {
                let message = format!("{:?} occurs twice", names.text);
                return Err(Problem::new("json_duplicate_key", message));
            }
        } else {
            read_other(&key, &value, names, &mut fields)?;
        }
    }
    if line[end..].trim_matches([' ', '\t', '\r', '\n']) != "}" {
        let message = format!("unexpected bytes after the object, at byte {end} of the record");
        return Err(Problem::new("json_invalid", message));
    }
    let text = text.ok_or_else(|| missing(&names.text))?;
    if text.get_type() != JsonType::String {
        return Err(wrong_type(&names.text, &text));
    }
    fields.text = decode_string(text.as_raw_str())?;
    Ok(fields)
}

fn read_other(
    key: &str,
    value: &LazyValue<'_>,
    names: &FieldNames,
    fields: &mut Fields,
) -> Result<(), Problem> {
    if key == names.id {
        fields.id = token(&names.id, value)?;
    }
    if Some(key) == names.rank.as_deref() && value.get_type() == JsonType::Number {
        fields.rank = value.as_f64();
    }
    if let Some(group) = names.group.as_deref().filter(|&group| group == key) {
        fields.group = token(group, value)?;
    }
    if names.reserved.iter().any(|reserved| reserved == key) {
        let message = format!("{key:?} is a field that --annotate adds");
        return Err(Problem::new("annotate_key_taken", message));
    }
    Ok(())
}

/// A string, number or boolean as its JSON token; null counts as absent.
fn token(name: &str, value: &LazyValue<'_>) -> Result<Option<String>, Problem> {
    match value.get_type() {
        JsonType::Null => Ok(None),
        JsonType::String | JsonType::Number | JsonType::Boolean => {
            Ok(Some(value.as_raw_str().to_owned()))
        }
        JsonType::Object | JsonType::Array => Err(wrong_type(name, value)),
    }
}

/// The characters of a checked JSON string literal, quotes included in `raw`. Texts are full of `\n`, so the
/// escapes of one letter are done here; at the first `\u` the library takes over.
fn decode_string(raw: &str) -> Result<String, Problem> {
    let mut rest = &raw[1..raw.len() - 1];
    let mut text = String::with_capacity(rest.len());
    while let Some(n) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..n]);
        text.push(match rest.as_bytes().get(n + 1) {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(&byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            _ => return sonic_rs::from_str::<String>(raw).map_err(|error| invalid(&error)),
        });
        rest = &rest[n + 2..];
    }
    text.push_str(rest);
    Ok(text)
}

/// The problem of a record whose field is absent.
pub fn missing(name: &str) -> Problem {
    Problem::new("field_missing", format!("no field {name:?}"))
}

fn wrong_type(name: &str, value: &LazyValue<'_>) -> Problem {
    let found = match value.get_type() {
        JsonType::Null => "null",
        JsonType::Boolean => "a boolean",
        JsonType::Number => "a number",
        JsonType::String => "a string",
        JsonType::Object => "an object",
        JsonType::Array => "an array",
    };
    Problem::new("field_type", format!("{name:?} is {found}, expected a string"))
}

fn not_an_object(line: &str) -> Problem {
    let found = line.chars().next().map_or("nothing".to_owned(), |c| format!("{c:?}"));
    Problem::new("json_invalid", format!("expected an object, found {found} first"))
}

fn invalid(error: &sonic_rs::Error) -> Problem {
    // The parser's message goes on with an excerpt of the line; its first line says what and where.
    let text = error.to_string();
    Problem::new("json_invalid", text.lines().next().unwrap_or_default().trim().to_owned())
}

fn value_end(line: &str, value: &LazyValue<'_>) -> usize {
    let raw = value.as_raw_str();
    raw.as_ptr() as usize + raw.len() - line.as_ptr() as usize
}

/// Refuses a value that is nested too deeply, before the recursive parser meets it. `from` is where the
/// entry before ended; broken syntax is left to the parser.
fn check_depth(line: &[u8], from: usize) -> Result<(), Problem> {
    let Some(start) = value_start(line, from) else { return Ok(()) };
    if !matches!(line[start], b'{' | b'[') {
        return Ok(());
    }
    let mut depth = 0usize;
    let mut at = start;
    while at < line.len() {
        match line[at] {
            b'"' => at = string_end(line, at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        if depth > JSON_DEPTH {
            let message = format!("nested deeper than {JSON_DEPTH} at byte {at} of the record");
            return Err(Problem::new("json_depth", message));
        }
        if depth == 0 {
            break;
        }
        at += 1;
    }
    Ok(())
}

/// Start of the value of the entry after `from`.
fn value_start(line: &[u8], from: usize) -> Option<usize> {
    let key = skip(line, from, b" \t\r\n,")?;
    if line[key] != b'"' {
        return None;
    }
    skip(line, string_end(line, key) + 1, b" \t\r\n:")
}

fn skip(line: &[u8], from: usize, over: &[u8]) -> Option<usize> {
    line.get(from..)?.iter().position(|byte| !over.contains(byte)).map(|n| from + n)
}

/// Index of the quote that closes the string at `open`, or the end of the line.
fn string_end(line: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while let Some(n) = line.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        if line[at + n] == b'"' {
            return at + n;
        }
        at += n + 2;
    }
    line.len()
}

/// Finds the values of a JSON file: the elements of one array, or values one after another. Fed with
/// bytes as they come.
#[derive(Debug, Default)]
pub struct ValueSplitter {
    in_array: Option<bool>,
    ended: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
    in_scalar: bool,
    /// Whether a comma has to come before the next element.
    after_value: bool,
}

/// What [`ValueSplitter::next`] found in the bytes it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// A value starts at this index.
    Start(usize),
    /// The value that was open ends before this index.
    End(usize),
    /// All bytes were read.
    More,
    /// Bytes that cannot stand between values, at this index.
    Broken(usize),
}

impl ValueSplitter {
    /// Goes on at `from` in `bytes` until something happens.
    pub fn next(&mut self, bytes: &[u8], from: usize) -> Split {
        for (at, &byte) in bytes.iter().enumerate().skip(from) {
            if let Some(split) = self.step(byte, at) {
                return split;
            }
        }
        Split::More
    }

    fn step(&mut self, byte: u8, at: usize) -> Option<Split> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    return (self.depth == 0).then(|| self.close(at + 1));
                }
                _ => {}
            }
            return None;
        }
        if self.depth > 0 {
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    return (self.depth == 0).then(|| self.close(at + 1));
                }
                _ => {}
            }
            return None;
        }
        if self.in_scalar {
            return matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b']')
                .then(|| self.close_scalar(at));
        }
        self.between(byte, at)
    }

    fn between(&mut self, byte: u8, at: usize) -> Option<Split> {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return None;
        }
        if self.in_array.is_none() {
            self.in_array = Some(byte == b'[');
            if byte == b'[' {
                return None;
            }
        }
        let in_array = self.in_array == Some(true);
        match byte {
            _ if self.ended => Some(Split::Broken(at)),
            b']' if in_array => {
                self.ended = true;
                None
            }
            b',' if in_array && self.after_value => {
                self.after_value = false;
                None
            }
            _ if in_array && self.after_value => Some(Split::Broken(at)),
            b',' | b':' | b'}' | b']' => Some(Split::Broken(at)),
            b'{' | b'[' => {
                self.depth = 1;
                Some(Split::Start(at))
            }
            b'"' => {
                self.in_string = true;
                Some(Split::Start(at))
            }
            _ => {
                self.in_scalar = true;
                Some(Split::Start(at))
            }
        }
    }

    fn close(&mut self, end: usize) -> Split {
        self.after_value = true;
        Split::End(end)
    }

    fn close_scalar(&mut self, end: usize) -> Split {
        self.in_scalar = false;
        self.close(end)
    }

    /// Whether the end of the file may come now: no value is open and the array, if any, is closed.
    pub fn is_complete(&self) -> bool {
        let open = self.depth > 0 || self.in_string || self.in_scalar;
        !open && (self.in_array != Some(true) || self.ended)
    }

    /// Whether a value is open; a number may end with the file.
    pub fn open_scalar(&self) -> bool {
        self.in_scalar && self.in_array != Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> FieldNames {
        FieldNames {
            text: "text".into(),
            id: "id".into(),
            rank: Some("score".into()),
            group: Some("lang".into()),
            vector: None,
            reserved: Vec::new(),
        }
    }

    fn code(line: &str) -> &'static str {
        read_fields(line.as_bytes(), &names()).unwrap_err().code
    }

    #[test]
    fn fields_are_read_and_the_others_only_checked() {
        let line = r#" {"id": 7, "text": "a\n\"b\"\u00e9\ud83d\ude00", "score": 1.5, "lang": "en", "m": {"x": [1]}} "#;
        let fields = read_fields(line.as_bytes(), &names()).unwrap();
        assert_eq!(fields.text, "a\n\"b\"é😀");
        assert_eq!(fields.id.as_deref(), Some("7"));
        assert_eq!(fields.rank, Some(1.5));
        assert_eq!(fields.group.as_deref(), Some("\"en\""));
    }

    #[test]
    fn escapes_are_decoded_as_the_library_does() {
        let inners =
            ["", "a", r"\n", r#"a\\n\tb\r\b\f\/\""#, r"\u0041\n", r"\n\ud83d\ude00 é", r"\\u0041"];
        for inner in inners {
            let raw = format!("\"{inner}\"");
            assert_eq!(decode_string(&raw).unwrap(), sonic_rs::from_str::<String>(&raw).unwrap());
        }
    }

    #[test]
    fn each_fault_has_its_code() {
        assert_eq!(code(r#"{"text": "a""#), "json_invalid");
        assert_eq!(code(r#"{"text": "a"} x"#), "json_invalid");
        assert_eq!(code(r#"{"text": "a", "m": [1,}"#), "json_invalid");
        assert_eq!(code(r#"{"text": "a", "m": 01}"#), "json_invalid");
        assert_eq!(code("{\"text\": \"a\u{1}\"}"), "json_invalid");
        assert_eq!(code(r#"{"text": "\ud800"}"#), "json_invalid");
        assert_eq!(code("[1]"), "json_invalid");
        assert_eq!(code("nonsense"), "json_invalid");
        assert_eq!(code(r#"{"text": "a", "text": "b"}"#), "json_duplicate_key");
        assert_eq!(code("{}"), "field_missing");
        assert_eq!(code(r#"{"id": 1}"#), "field_missing");
        assert_eq!(code(r#"{"text": null}"#), "field_type");
        assert_eq!(code(r#"{"text": ["a"]}"#), "field_type");
        assert_eq!(code(r#"{"id": {}, "text": "a"}"#), "field_type");
        let error = read_fields(b"{\"text\": \"\xff\"}", &names()).unwrap_err();
        assert_eq!(error.code, "utf8_invalid");
    }

    #[test]
    fn deep_nesting_is_refused_without_recursion() {
        let parser =
            std::thread::Builder::new().stack_size(crate::core::limits::PARSER_STACK_BYTES);
        parser.spawn(refuse_deep_nesting).unwrap().join().unwrap();
    }

    fn refuse_deep_nesting() {
        let deep = format!(r#"{{"text": "a", "m": {}"#, "[".repeat(1 << 20));
        assert_eq!(code(&deep), "json_depth");
        let first = format!(r#"{{"m": {}1{}, "text": "a"}}"#, "[".repeat(200), "]".repeat(200));
        assert_eq!(code(&first), "json_depth");
        let fine = format!(r#"{{"m": {}1{}, "text": "[[["}}"#, "[".repeat(128), "]".repeat(128));
        assert!(read_fields(fine.as_bytes(), &names()).is_ok());
    }

    fn values(bytes: &[u8], step: usize) -> (Vec<String>, bool) {
        let mut splitter = ValueSplitter::default();
        let (mut out, mut at, mut start) = (Vec::new(), 0, 0);
        for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
            loop {
                match splitter.next(&bytes[..end], at) {
                    Split::Start(i) => (start, at) = (i, i + 1),
                    Split::End(i) => {
                        out.push(String::from_utf8_lossy(&bytes[start..i]).into_owned());
                        // A scalar ends before a byte that has still to be read.
                        at = i;
                    }
                    Split::More => break,
                    Split::Broken(_) => return (out, false),
                }
            }
            at = end;
        }
        (out, splitter.is_complete())
    }

    #[test]
    fn values_of_arrays_and_sequences_are_found_whatever_the_buffer() {
        let array = br#" [ {"a": "}\"]"}, [1, 2] ,3, "x" ] "#;
        for step in [1, 2, 3, 7, 100] {
            let (found, complete) = values(array, step);
            assert_eq!(found, [r#"{"a": "}\"]"}"#, "[1, 2]", "3", "\"x\""], "step {step}");
            assert!(complete);
        }
        assert_eq!(
            values(b"{\"a\":1}\n{\"b\":2}", 3),
            (vec!["{\"a\":1}".into(), "{\"b\":2}".into()], true)
        );
        assert!(!values(b"[{}", 9).1);
        assert!(!values(b"[{} {}]", 9).1);
        assert!(!values(b"[{}] x", 9).1);
    }
}
