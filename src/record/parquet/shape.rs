//! The type that the values of one JSON field have in common.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, ErrorKind, Result};

/// Deepest nesting of a field: two levels of a Parquet schema for each, and three for each in a
/// list.
const DEPTH: usize = 40;

/// Fields in all, nested ones included: objects used as maps would make a column of every key.
const FIELDS: usize = 16_384;

/// Integers up to this are exact as floating-point numbers.
const EXACT: u64 = 1 << 53;

/// What has been seen of one field.
#[derive(Debug, Default)]
pub(super) struct Shape {
    kind: Kind,
    /// The line that decided `kind`.
    line: u64,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Null,
    Bool,
    Int(Ints),
    Float,
    Text,
    List(Box<Shape>),
    Object(Object),
}

/// Lines with integers of which one type or another can hold not all.
#[derive(Clone, Copy, Debug, Default)]
struct Ints {
    negative: Option<u64>,
    /// Over the largest Int64.
    large: Option<u64>,
    /// Beyond what Float64 holds exactly.
    long: Option<u64>,
}

#[derive(Debug, Default)]
struct Object {
    fields: Vec<(Arc<str>, Shape)>,
    by_name: HashMap<Arc<str>, usize>,
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Int(ints) if ints.large.is_some() => "an integer over 2^63",
            Self::Int(ints) if ints.long.is_some() => "an integer beyond 2^53",
            Self::Int(ints) if ints.negative.is_some() => "a negative integer",
            Self::Int(_) => "an integer",
            Self::Float => "a fraction",
            Self::Text => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// Widens this kind to hold values of `other` too; gives `other` back if there is no such kind.
    fn merge(&mut self, other: Self) -> std::result::Result<(), Box<Self>> {
        match (&mut *self, other) {
            (_, Self::Null)
            | (Self::Bool, Self::Bool)
            | (Self::Text, Self::Text)
            | (Self::Float, Self::Float)
            | (Self::List(_), Self::List(_))
            | (Self::Object(_), Self::Object(_)) => {}
            (Self::Float, Self::Int(ints)) if ints.long.is_none() => {}
            (Self::Null, other) => *self = other,
            (Self::Int(ints), Self::Float) if ints.long.is_none() => *self = Self::Float,
            (Self::Int(ints), Self::Int(others)) => {
                let all = ints.with(others);
                if all.negative.is_some() && all.large.is_some() {
                    return Err(Box::new(Self::Int(others)));
                }
                *ints = all;
            }
            (_, other) => return Err(Box::new(other)),
        }
        Ok(())
    }
}

impl Ints {
    fn with(self, other: Self) -> Self {
        Self {
            negative: self.negative.or(other.negative),
            large: self.large.or(other.large),
            long: self.long.or(other.long),
        }
    }
}

impl Shape {
    /// The columns of an object, which is called `path`.
    ///
    /// # Errors
    /// If one of them has no type in Parquet.
    pub fn fields(&self, path: &str) -> Result<Fields> {
        let Kind::Object(object) = &self.kind else { return Ok(Fields::empty()) };
        let fields = object.fields.iter().map(|(name, shape)| {
            let path = join(path, name);
            Ok(Field::new(&**name, shape.data_type(&path)?, true))
        });
        fields.collect()
    }

    fn data_type(&self, path: &str) -> Result<DataType> {
        Ok(match &self.kind {
            Kind::Null => DataType::Null,
            Kind::Bool => DataType::Boolean,
            Kind::Int(ints) if ints.large.is_some() => DataType::UInt64,
            Kind::Int(_) => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Text => DataType::Utf8,
            Kind::List(element) => {
                let element = element.data_type(&format!("{path}[]"))?;
                DataType::List(Arc::new(Field::new_list_field(element, true)))
            }
            Kind::Object(object) if object.fields.is_empty() => {
                let line = self.line;
                let message = format!(
                    "field {path:?} is an empty object (line {line}) on every line that has it, \
                     which Parquet has no type for"
                );
                return Err(Error::new(ErrorKind::BadInput, "schema_conflict", message));
            }
            Kind::Object(_) => DataType::Struct(self.fields(path)?),
        })
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// One line on its way into a [`Shape`].
pub(super) struct Shaping {
    line: u64,
    /// Names of the fields around the value.
    path: Vec<Step>,
    n_fields: usize,
    /// Why the line was refused, if not for its JSON.
    error: Option<Error>,
}

enum Step {
    Field(Arc<str>),
    Element,
}

impl Shaping {
    /// Takes the JSON object `json`, which is line `line` from 1, into account.
    ///
    /// # Errors
    /// `json_invalid`, `schema_conflict` or `schema_size`.
    pub fn run(json: &[u8], line: u64, root: &mut Shape) -> Result<()> {
        let mut shaping = Self { line, path: Vec::new(), n_fields: 0, error: None };
        let mut reader = serde_json::Deserializer::from_slice(json);
        let seed = Seed { shape: root, shaping: &mut shaping };
        let outcome = seed.deserialize(&mut reader).and_then(|()| reader.end());
        match (outcome, shaping.error.take(), &root.kind) {
            (_, Some(error), _) => Err(error),
            (Err(error), None, _) => Err(invalid(line, &error)),
            (Ok(()), None, Kind::Object(_)) => Ok(()),
            (Ok(()), None, _) => Err(invalid(line, &"expected an object")),
        }
    }

    /// Widens `shape` to hold `kind`.
    fn merge<E: serde::de::Error>(
        &mut self,
        shape: &mut Shape,
        kind: Kind,
    ) -> std::result::Result<(), E> {
        if matches!(kind, Kind::Null) {
            return Ok(());
        }
        let is_first = matches!(shape.kind, Kind::Null);
        let was_int = matches!(shape.kind, Kind::Int(_));
        if let Err(now) = shape.kind.merge(kind) {
            let message = self.conflict(&shape.kind, shape.line, &now);
            return self.refuse("schema_conflict", message);
        }
        if is_first || (was_int && matches!(shape.kind, Kind::Float)) {
            shape.line = self.line;
        }
        Ok(())
    }

    fn conflict(&self, before: &Kind, line: u64, now: &Kind) -> String {
        let line = match before {
            Kind::Int(ints) => ints.large.or(ints.long).or(ints.negative).unwrap_or(line),
            _ => line,
        };
        let (path, before, now) = (self.path(), before.name(), now.name());
        format!("field {path:?} is {now} on line {} but {before} on line {line}", self.line)
    }

    fn path(&self) -> String {
        self.path.iter().fold(String::new(), |path, step| match step {
            Step::Field(name) => join(&path, name),
            Step::Element => path + "[]",
        })
    }

    /// Ends the line with an error that is not about its JSON.
    fn refuse<T, E: serde::de::Error>(
        &mut self,
        code: &'static str,
        message: String,
    ) -> std::result::Result<T, E> {
        let refusal = E::custom(&message);
        self.error = Some(Error::new(ErrorKind::BadInput, code, message));
        Err(refusal)
    }

    fn descend<E: serde::de::Error>(&mut self, step: Step) -> std::result::Result<(), E> {
        self.path.push(step);
        if self.path.len() > DEPTH {
            let message = format!("line {}: fields nested deeper than {DEPTH}", self.line);
            return self.refuse("schema_size", message);
        }
        Ok(())
    }
}

fn invalid(line: u64, error: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::BadInput, "json_invalid", format!("line {line}: {error}"))
}

/// A value about to be read into a shape.
struct Seed<'a> {
    shape: &'a mut Shape,
    shaping: &'a mut Shaping,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        reader: D,
    ) -> std::result::Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> std::result::Result<(), E> {
        self.shaping.merge(self.shape, Kind::Bool)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> std::result::Result<(), E> {
        let line = Some(self.shaping.line);
        let ints = Ints {
            negative: line.filter(|_| value < 0),
            large: None,
            long: line.filter(|_| value.unsigned_abs() > EXACT),
        };
        self.shaping.merge(self.shape, Kind::Int(ints))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> std::result::Result<(), E> {
        let line = Some(self.shaping.line);
        let ints = Ints {
            negative: None,
            large: line.filter(|_| i64::try_from(value).is_err()),
            long: line.filter(|_| value > EXACT),
        };
        self.shaping.merge(self.shape, Kind::Int(ints))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> std::result::Result<(), E> {
        self.shaping.merge(self.shape, Kind::Float)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> std::result::Result<(), E> {
        self.shaping.merge(self.shape, Kind::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        self.shaping.merge(self.shape, Kind::List(Box::default()))?;
        let Kind::List(element) = &mut self.shape.kind else {
            return Err(A::Error::custom("an array that is none"));
        };
        self.shaping.descend(Step::Element)?;
        while seq.next_element_seed(Seed { shape: element, shaping: self.shaping })?.is_some() {}
        self.shaping.path.pop();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        self.shaping.merge(self.shape, Kind::Object(Object::default()))?;
        let Kind::Object(object) = &mut self.shape.kind else {
            return Err(A::Error::custom("an object that is none"));
        };
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let name: Arc<str> = name.into();
            let at = object.position(&name);
            self.shaping.n_fields += usize::from(at.is_none());
            let at = at.unwrap_or_else(|| object.add(&name));
            if object.fields.len() > FIELDS {
                let message = format!("line {}: more than {FIELDS} fields", self.shaping.line);
                return self.shaping.refuse("schema_size", message);
            }
            self.shaping.descend(Step::Field(name))?;
            map.next_value_seed(Seed { shape: &mut object.fields[at].1, shaping: self.shaping })?;
            self.shaping.path.pop();
        }
        Ok(())
    }
}

impl Object {
    fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    fn add(&mut self, name: &Arc<str>) -> usize {
        let at = self.fields.len();
        self.fields.push((Arc::clone(name), Shape::default()));
        self.by_name.insert(Arc::clone(name), at);
        at
    }
}
