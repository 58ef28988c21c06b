//! Labelled requests: lines of JSON, all of them pairs or all of them requests of a stream.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::cli::lines::{at, each};
use crate::error::{Error, ErrorKind, Result};

/// Name of the category of lines that have none.
pub const DEFAULT: &str = "default";

/// Two prompts, and whether one answer is right for both.
#[derive(Debug)]
pub struct Pair {
    /// The stored prompt, and the one that is asked.
    pub texts: [String; 2],
    /// Whether one answer is right for both.
    pub is_same: bool,
    /// Its category, by number.
    pub category: u32,
}

/// A request of a stream.
#[derive(Debug)]
pub struct Request {
    /// The prompt.
    pub text: String,
    /// Requests of one intent have one answer; `None`: no other request has its answer.
    pub intent: Option<u32>,
    /// Its category, by number.
    pub category: u32,
}

/// What a file holds.
#[derive(Debug)]
pub enum Labels {
    Pairs(Vec<Pair>),
    Stream(Vec<Request>),
}

/// The lines of a file, and the names of their categories.
#[derive(Debug)]
pub struct Labelled {
    pub labels: Labels,
    pub categories: Vec<String>,
}

/// Numbers names in the order in which they come.
#[derive(Default)]
struct Names(HashMap<String, u32>);

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        let next = self.0.len() as u32;
        match self.0.get(name) {
            Some(&number) => number,
            None => *self.0.entry(name.to_owned()).or_insert(next),
        }
    }

    fn in_order(self) -> Vec<String> {
        let mut names: Vec<_> = self.0.into_iter().collect();
        names.sort_by_key(|(_, number)| *number);
        names.into_iter().map(|(name, _)| name).collect()
    }
}

/// Reads a file of pairs `{"a", "b", "same"}` or of requests `{"text", "intent"}`; the category is in `field`. Other fields
/// are not looked at.
///
/// # Errors
/// `labelled_row`, with file, line and field; what reading gives.
pub fn read(path: &Path, field: &str) -> Result<Labelled> {
    let name = path.display().to_string();
    let (mut pairs, mut stream) = (Vec::new(), Vec::new());
    let (mut intents, mut categories) = (Names::default(), Names::default());
    each(path, &mut |number, line| {
        let row = Row { file: &name, number, fields: object(&name, number, line)? };
        let category = categories.number(row.category(field)?);
        let is_pair = !row.fields.contains_key("text");
        if is_pair && stream.is_empty() {
            let texts = [row.text("a")?.to_owned(), row.text("b")?.to_owned()];
            pairs.push(Pair { texts, is_same: row.flag("same")?, category });
        } else if pairs.is_empty() && !is_pair {
            let intent = row.intent()?.map(|intent| intents.number(&intent));
            stream.push(Request { text: row.text("text")?.to_owned(), intent, category });
        } else {
            let (is, were) = if is_pair { ("a pair", "requests") } else { ("a request", "pairs") };
            return Err(row.wrong(&format!("{is}, lines before it are {were}")));
        }
        Ok(())
    })?;
    if pairs.is_empty() && stream.is_empty() {
        let message = format!("{name}: no lines");
        return Err(Error::new(ErrorKind::BadInput, "labelled_row", message));
    }
    let labels = if stream.is_empty() { Labels::Pairs(pairs) } else { Labels::Stream(stream) };
    Ok(Labelled { labels, categories: categories.in_order() })
}

fn object(file: &str, number: usize, line: &str) -> Result<Map<String, Value>> {
    let wrong =
        |what: String| Error::new(ErrorKind::BadInput, "labelled_row", at(file, number, &what));
    match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(wrong(format!("expected a JSON object, received {}", shown(&other)))),
        Err(error) => Err(wrong(format!("expected a JSON object: {error}"))),
    }
}

/// A line, and where it is.
struct Row<'a> {
    file: &'a str,
    number: usize,
    fields: Map<String, Value>,
}

impl Row<'_> {
    fn wrong(&self, what: &str) -> Error {
        Error::new(ErrorKind::BadInput, "labelled_row", at(self.file, self.number, what))
    }

    fn expected(&self, field: &str, expected: &str) -> Error {
        let received = self.fields.get(field).map_or("nothing".into(), shown);
        self.wrong(&format!("field {field:?}: expected {expected}, received {received}"))
    }

    fn text(&self, field: &str) -> Result<&str> {
        match self.fields.get(field) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(self.expected(field, "a string")),
        }
    }

    fn flag(&self, field: &str) -> Result<bool> {
        match self.fields.get(field) {
            Some(Value::Bool(flag)) => Ok(*flag),
            _ => Err(self.expected(field, "true or false")),
        }
    }

    fn category(&self, field: &str) -> Result<&str> {
        match self.fields.get(field) {
            None => Ok(DEFAULT),
            Some(Value::String(name)) if !name.is_empty() => Ok(name),
            Some(_) => Err(self.expected(field, "a string that is not empty")),
        }
    }

    /// A name or a number; `null`: none.
    fn intent(&self) -> Result<Option<String>> {
        match self.fields.get("intent") {
            Some(Value::Null) => Ok(None),
            Some(value @ (Value::String(_) | Value::Number(_))) => Ok(Some(value.to_string())),
            _ => Err(self.expected("intent", "a string, a number or null")),
        }
    }
}

/// A value, short enough for a message.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Labelled> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path, "category")
    }

    #[test]
    fn pairs_and_streams_are_told_by_their_fields() {
        let pairs = of("{\"a\": \"x\", \"b\": \"y\", \"same\": true, \"category\": \"c\"}\n\
                        {\"a\": \"x\", \"b\": \"z\", \"same\": false}\n")
        .unwrap();
        assert_eq!(pairs.categories, ["c", DEFAULT]);
        let Labels::Pairs(rows) = pairs.labels else { panic!("pairs") };
        assert!(rows[0].is_same && !rows[1].is_same && rows[1].category == 1);
        let stream = of("{\"text\": \"x\", \"intent\": 1}\n{\"text\": \"y\", \"intent\": \"1\"}\n\
                         {\"text\": \"x\", \"intent\": 1}\n{\"text\": \"z\", \"intent\": null}\n")
        .unwrap();
        let Labels::Stream(rows) = stream.labels else { panic!("a stream") };
        let intents: Vec<_> = rows.iter().map(|row| row.intent).collect();
        assert_eq!(intents, [Some(0), Some(1), Some(0), None]);
    }

    #[test]
    fn a_bad_row_is_refused_with_its_line_and_field() {
        for (text, what) in [
            ("", "l.jsonl: no lines"),
            ("\n", "line 1: expected a JSON object: EOF"),
            ("[1]", "line 1: expected a JSON object, received [1]"),
            (
                "{\"a\": \"x\", \"b\": 2, \"same\": true}",
                "line 1: field \"b\": expected a string, received 2",
            ),
            (
                "{\"a\": \"x\", \"b\": \"y\"}",
                "line 1: field \"same\": expected true or false, received nothing",
            ),
            (
                "{\"text\": \"x\"}",
                "field \"intent\": expected a string, a number or null, received nothing",
            ),
            (
                "{\"text\": \"x\", \"intent\": 1, \"category\": 3}",
                "field \"category\": expected a string that is not empty, received 3",
            ),
            (
                "{\"text\": \"x\", \"intent\": 1}\n{\"a\": \"x\", \"b\": \"y\", \"same\": true}",
                "line 2: a pair, lines before it are requests",
            ),
        ] {
            let error = of(text).unwrap_err();
            assert_eq!(error.code(), "labelled_row");
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
