//! Payload fields as columns: which slots hold a value, without a look at payloads.
//!
//! In: payloads by slot. Out: exact sets of slots. Next: `plan::filter`, which asks the questions.
//!
//! A field is a [`Path`]; it may be indexed as several kinds. An index never changes an answer: of values that no column
//! takes in, [`Presence`] knows the slots and the type, and they are read from payloads when a filter asks for that type.

pub mod cells;
pub mod datetime;
pub mod dictionary;
pub mod geo;
pub mod keyword;
pub mod number;
pub mod number_column;
pub mod path;
pub mod presence;
pub mod text;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::core::limits::INDEXED_FIELDS;
use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::dictionary::n_bytes;
use crate::store::columns::geo::{GeoColumn, GeoPoint};
use crate::store::columns::keyword::KeywordColumn;
use crate::store::columns::number::{Layout, Number};
use crate::store::columns::number_column::NumberColumn;
use crate::store::columns::path::{Path, elements};
use crate::store::columns::presence::Presence;
use crate::store::columns::text::TextColumn;

/// What the values of an indexed field are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Strings, compared whole.
    Keyword,
    /// Numbers, most of them whole and of 64 bits.
    Integer,
    /// Numbers, most of them 64-bit floats.
    Float,
    /// True and false.
    Bool,
    /// Strings that say a moment.
    Datetime,
    /// Objects with `lat` and `lon`.
    Geo,
    /// Strings, by their words.
    Text,
    /// Strings, most of them UUIDs; compared whole, as keywords are.
    Uuid,
}

/// Every kind with its name.
const KINDS: [(Kind, &str); 8] = [
    (Kind::Keyword, "keyword"),
    (Kind::Integer, "integer"),
    (Kind::Float, "float"),
    (Kind::Bool, "bool"),
    (Kind::Datetime, "datetime"),
    (Kind::Geo, "geo"),
    (Kind::Text, "text"),
    (Kind::Uuid, "uuid"),
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = KINDS.iter().find(|(kind, _)| kind == self).expect("every kind is named");
        f.write_str(name)
    }
}

impl FromStr for Kind {
    type Err = Error;

    /// # Errors
    /// `field_kind` lists the names.
    fn from_str(text: &str) -> Result<Self> {
        let named = KINDS.iter().find(|(_, name)| *name == text);
        named.map(|(kind, _)| *kind).ok_or_else(|| {
            let names: Vec<&str> = KINDS.iter().map(|(_, name)| *name).collect();
            Error::usage("field_kind", format!("{text:?}, expected one of {}", names.join(", ")))
        })
    }
}

/// The values of one field, taken for one kind.
#[derive(Clone, Debug)]
pub enum Column {
    /// Of [`Kind::Keyword`] and [`Kind::Uuid`].
    Keyword(KeywordColumn),
    /// Of [`Kind::Integer`] and [`Kind::Float`].
    Number(NumberColumn),
    /// Slots with false, slots with true.
    Bool([RoaringBitmap; 2]),
    /// Moments in microseconds.
    Datetime(NumberColumn),
    /// Places.
    Geo(GeoColumn),
    /// Words.
    Text(TextColumn),
}

impl Column {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Keyword | Kind::Uuid => Self::Keyword(KeywordColumn::default()),
            Kind::Integer => Self::Number(NumberColumn::new(Layout::Int)),
            Kind::Float => Self::Number(NumberColumn::new(Layout::Float)),
            Kind::Bool => Self::Bool([RoaringBitmap::new(), RoaringBitmap::new()]),
            Kind::Datetime => Self::Datetime(NumberColumn::new(Layout::Int)),
            Kind::Geo => Self::Geo(GeoColumn::default()),
            Kind::Text => Self::Text(TextColumn::default()),
        }
    }

    fn insert(&mut self, slot: u32, values: &[&Value]) {
        let strings = || values.iter().filter_map(|value| value.as_str());
        match self {
            Self::Keyword(column) => column.insert(slot, &strings().collect::<Vec<_>>()),
            Self::Text(column) => column.insert(slot, &strings().collect::<Vec<_>>()),
            Self::Number(column) => {
                let numbers: Vec<Number> =
                    values.iter().filter_map(|value| Number::of(value)).collect();
                column.insert(slot, &numbers);
            }
            Self::Datetime(column) => {
                let moments = strings().filter_map(datetime::parse);
                let moments: Vec<Number> = moments.map(|us| Number::Int(us.into())).collect();
                column.insert(slot, &moments);
            }
            Self::Bool(slots) => {
                for value in values.iter().filter_map(|value| value.as_bool()) {
                    slots[usize::from(value)].insert(slot);
                }
            }
            Self::Geo(column) => {
                let points: Vec<GeoPoint> =
                    values.iter().filter_map(|value| GeoPoint::of(value)).collect();
                column.insert(slot, &points);
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        match self {
            Self::Keyword(column) => column.remove(slot),
            Self::Text(column) => column.remove(slot),
            Self::Number(column) | Self::Datetime(column) => column.remove(slot),
            Self::Bool(slots) => slots.iter_mut().for_each(|slots| {
                slots.remove(slot);
            }),
            Self::Geo(column) => column.remove(slot),
        }
    }

    fn settle(&mut self) {
        match self {
            Self::Number(column) | Self::Datetime(column) => column.settle(),
            Self::Geo(column) => column.settle(),
            Self::Keyword(_) | Self::Text(_) | Self::Bool(_) => {}
        }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::Keyword(column) => column.n_bytes(),
            Self::Text(column) => column.n_bytes(),
            Self::Number(column) | Self::Datetime(column) => column.n_bytes(),
            Self::Bool(slots) => slots.iter().map(n_bytes).sum(),
            Self::Geo(column) => column.n_bytes(),
        }
    }
}

/// One indexed field.
#[derive(Clone, Debug, Default)]
pub struct Field {
    presence: Presence,
    columns: BTreeMap<Kind, Column>,
}

impl Field {
    /// Which slots have a value at all.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    fn insert(&mut self, slot: u32, path: &Path, payload: &Value) {
        let values = path.values(payload);
        if !values.is_empty() {
            self.presence.insert(slot, &values);
            let elements = elements(&values);
            self.columns.values_mut().for_each(|column| column.insert(slot, &elements));
        }
    }

    /// The columns of the field.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.values()
    }
}

/// All indexed fields of a collection.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    fields: BTreeMap<Path, Field>,
}

impl Columns {
    /// Indexes fields as one more kind each, in one walk over all payloads there are; returns how many were not indexed so
    /// before. Cost: every payload is read once.
    ///
    /// # Errors
    /// `fields` past [`INDEXED_FIELDS`]; those of `payloads`. Then nothing is changed.
    pub fn index<V: Borrow<Value>>(
        &mut self,
        fields: &[(Path, Kind)],
        payloads: impl IntoIterator<Item = Result<(u32, V)>>,
    ) -> Result<usize> {
        let mut fresh: BTreeMap<&Path, Field> = BTreeMap::new();
        for (path, kind) in fields {
            let known = self.fields.get(path);
            if known.is_none_or(|field| !field.columns.contains_key(kind)) {
                let field = fresh.entry(path).or_default();
                field.columns.insert(*kind, Column::new(*kind));
            }
        }
        let n_fields = self.fields.len()
            + fresh.keys().filter(|path| !self.fields.contains_key(**path)).count();
        if n_fields > INDEXED_FIELDS {
            let message = format!("{n_fields} indexed fields, limit {INDEXED_FIELDS}");
            return Err(Error::new(ErrorKind::Limit, "fields", message));
        }
        for payload in payloads {
            let (slot, payload) = payload?;
            fresh.iter_mut().for_each(|(path, field)| field.insert(slot, path, payload.borrow()));
        }
        let n_columns = fresh.values().map(|field| field.columns.len()).sum();
        for (path, mut field) in fresh {
            field.columns.values_mut().for_each(Column::settle);
            match self.fields.get_mut(path) {
                Some(known) => known.columns.append(&mut field.columns),
                None => {
                    self.fields.insert(path.clone(), field);
                }
            }
        }
        Ok(n_columns)
    }

    /// Forgets one kind of a field, and the field with its last kind; says whether it was indexed so.
    pub fn forget(&mut self, path: &Path, kind: Kind) -> bool {
        let Some(field) = self.fields.get_mut(path) else { return false };
        let was_there = field.columns.remove(&kind).is_some();
        if field.columns.is_empty() {
            self.fields.remove(path);
        }
        was_there
    }

    /// Gives a slot its payload, in the place of any other.
    pub fn set(&mut self, slot: u32, payload: &Value) {
        self.remove(slot);
        self.fields.iter_mut().for_each(|(path, field)| field.insert(slot, path, payload));
    }

    /// Takes a slot out of every column.
    pub fn remove(&mut self, slot: u32) {
        for field in self.fields.values_mut() {
            if field.presence.remove(slot) {
                field.columns.values_mut().for_each(|column| column.remove(slot));
            }
        }
    }

    /// The field at a path, if it is indexed.
    pub fn field(&self, path: &Path) -> Option<&Field> {
        self.fields.get(path)
    }

    /// Every indexed field and kind, with the bytes that its column takes.
    pub fn list(&self) -> impl Iterator<Item = (&Path, Kind, usize)> {
        self.fields.iter().flat_map(|(path, field)| {
            field.columns.iter().map(move |(kind, column)| (path, *kind, column.n_bytes()))
        })
    }

    /// Bytes held, about.
    pub fn n_bytes(&self) -> usize {
        let presence: usize = self.fields.values().map(|field| field.presence.n_bytes()).sum();
        presence + self.list().map(|(_, _, n_bytes)| n_bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::columns::presence::JsonType;
    use serde_json::json;

    fn payloads() -> Vec<Result<(u32, Value)>> {
        let rows = [
            json!({"a": 1, "b": "x"}),
            json!({"a": [1, "two", null], "b": {"c": []}}),
            json!({}),
            json!({"a": null}),
        ];
        (0..).zip(rows).map(Ok).collect()
    }

    #[test]
    fn a_field_knows_presence_and_types_under_every_kind() {
        for (kind, name) in KINDS {
            assert_eq!(name.parse::<Kind>().unwrap(), kind);
            assert_eq!(kind.to_string(), name);
            let (mut columns, a) = (Columns::default(), "a".parse::<Path>().unwrap());
            let fields = [(a.clone(), kind), ("b".parse().unwrap(), kind)];
            assert_eq!(columns.index(&fields[..1], payloads()).unwrap(), 1);
            assert_eq!(columns.index(&fields, payloads()).unwrap(), 1, "one is indexed already");
            columns.set(2, &json!({"a": [[1]]}));
            columns.set(0, &json!({"a": {"lat": 1, "lon": 2}}));
            columns.remove(7);
            let presence = columns.field(&a).unwrap().presence();
            let of_type = |kind| presence.of_type(kind).iter().collect::<Vec<u32>>();
            assert_eq!(presence.filled().iter().collect::<Vec<u32>>(), [0, 1, 2]);
            assert_eq!(presence.null().iter().collect::<Vec<u32>>(), [1, 3]);
            assert_eq!(of_type(JsonType::Object), [0]);
            assert_eq!(of_type(JsonType::Number), [1]);
            assert_eq!(of_type(JsonType::String), [1]);
            assert_eq!(of_type(JsonType::Array), [2]);
            assert!(columns.n_bytes() > 0);
            assert!(columns.forget(&a, kind) && columns.field(&a).is_none());
        }
        assert_eq!("int".parse::<Kind>().unwrap_err().code(), "field_kind");
    }

    #[test]
    fn a_payload_that_cannot_be_read_leaves_the_columns_as_they_were() {
        let mut columns = Columns::default();
        let broken = || Error::new(ErrorKind::Corrupt, "corrupt_file", "a payload");
        let payloads = payloads().into_iter().chain([Err(broken())]);
        let error = columns.index(&[("a".parse().unwrap(), Kind::Keyword)], payloads).unwrap_err();
        assert_eq!((error, columns.list().count()), (broken(), 0));
    }

    #[test]
    fn no_more_fields_are_indexed_than_the_limit() {
        let mut columns = Columns::default();
        let field = |n: usize| (format!("f{n}").parse::<Path>().unwrap(), Kind::Bool);
        let none = || Vec::<Result<(u32, Value)>>::new();
        let all: Vec<_> = (0..INDEXED_FIELDS).map(field).collect();
        assert_eq!(columns.index(&all, none()).unwrap(), INDEXED_FIELDS);
        assert_eq!(
            columns.index(&[(field(0).0, Kind::Text)], none()).unwrap(),
            1,
            "the field is there"
        );
        let error = columns.index(&[field(INDEXED_FIELDS)], none()).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("fields", ErrorKind::Limit));
    }
}
