//! Payload fields as columns: which slots hold a value, without a look at payloads.
//!
//! In: payloads by slot. Out: exact sets of slots. Next: `plan::filter`, which asks the questions.
//!
//! A field is a [`Path`]; it may be indexed as several kinds. It lies in memory, or in a sealed file until somebody asks for
//! it (`indexed`). An index never changes an answer: of values that no column
//! takes in, [`presence::Presence`] knows the slots and the type, and they are read from payloads when a filter asks for that type.

mod bytes;
pub mod cells;
pub mod datetime;
pub mod dictionary;
mod field;
pub mod geo;
mod group;
mod indexed;
pub mod keyword;
mod kind;
pub mod marked;
pub mod number;
pub mod number_column;
pub mod path;
pub mod presence;
mod seal;
mod short;
pub mod text;

use std::borrow::Borrow;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::core::limits::INDEXED_FIELDS;
use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::indexed::Indexed;
use crate::store::columns::path::Path;

pub use field::{Column, Field};
pub use kind::Kind;

/// All indexed fields of a collection.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    fields: BTreeMap<Path, Indexed>,
}

impl Columns {
    /// Indexes fields as one more kind each, in one walk over all payloads there are; returns how many were not indexed so
    /// before. Cost: every payload is read once.
    ///
    /// # Errors
    /// `fields` past [`INDEXED_FIELDS`]; those of [`Columns::field`] for a field that is there as another kind; those of
    /// `payloads`. Then nothing is changed.
    pub fn index<V: Borrow<Value>>(
        &mut self,
        fields: &[(Path, Kind)],
        payloads: impl IntoIterator<Item = Result<(u32, V)>>,
    ) -> Result<usize> {
        let mut fresh: BTreeMap<Path, Vec<Kind>> = BTreeMap::new();
        for (path, kind) in fields {
            let known = self.fields.get(path).map_or(Vec::new(), Indexed::kinds);
            let kinds = fresh.entry(path.clone()).or_default();
            if !kinds.contains(kind) && known.iter().all(|(known, _)| known != kind) {
                kinds.push(*kind);
            }
        }
        fresh.retain(|_, kinds| !kinds.is_empty());
        let mut n_fields = self.fields.len();
        for path in fresh.keys() {
            n_fields += usize::from(self.field(path)?.is_none());
        }
        if n_fields > INDEXED_FIELDS {
            let message = format!("{n_fields} indexed fields, limit {INDEXED_FIELDS}");
            return Err(Error::new(ErrorKind::Limit, "fields", message));
        }
        let n_columns = fresh.values().map(Vec::len).sum();
        for (path, mut field) in made(fresh, payloads)? {
            match self.fields.get_mut(&path) {
                Some(known) => known.get_mut()?.columns.append(&mut field.columns),
                None => {
                    self.fields.insert(path, Indexed::in_memory(field));
                }
            }
        }
        Ok(n_columns)
    }

    /// Forgets one kind of a field, and the field with its last kind; says whether it was indexed so.
    pub fn forget(&mut self, path: &Path, kind: Kind) -> bool {
        let Some(field) = self.fields.get_mut(path) else { return false };
        let was_there = field.forget(kind);
        if field.kinds().is_empty() {
            self.fields.remove(path);
        }
        was_there
    }

    /// Gives a slot its payload, in the place of any other. Fields that nobody has asked for stay in their file: what the
    /// slot has there now waits until they are.
    pub fn set(&mut self, slot: u32, payload: &Value) {
        self.fields.iter_mut().for_each(|(path, field)| field.set(slot, &path.values(payload)));
    }

    /// Takes a slot out of every column.
    pub fn remove(&mut self, slot: u32) {
        self.fields.values_mut().for_each(|field| field.set(slot, &[]));
    }

    /// The field at a path, if it is indexed. The first who asks for a field in a sealed file has it verified and decoded;
    /// others who ask meanwhile wait for that.
    ///
    /// # Errors
    /// `corrupt_file`, within the name of the field, until [`Columns::rebuild`]; those of the disk.
    pub fn field(&self, path: &Path) -> Result<Option<&Field>> {
        let field = self.fields.get(path).map(Indexed::get).transpose();
        field.map_err(|error| seal::of(path, error))
    }

    /// The fields that were asked for and are damaged.
    pub fn damaged(&self) -> impl Iterator<Item = &Path> {
        self.fields.iter().filter(|(_, field)| field.is_damaged()).map(|(path, _)| path)
    }

    /// Indexes the damaged fields anew, as the kinds that they had, in one walk over all payloads there are; returns which
    /// these were. Without a damaged field, no payload is read.
    ///
    /// # Errors
    /// Those of `payloads`. Then nothing is changed.
    pub fn rebuild<V: Borrow<Value>>(
        &mut self,
        payloads: impl IntoIterator<Item = Result<(u32, V)>>,
    ) -> Result<Vec<Path>> {
        let kinds = |path| self.fields[path].kinds().into_iter().map(|(kind, _)| kind).collect();
        let damaged: BTreeMap<Path, Vec<Kind>> =
            self.damaged().map(|path| (path.clone(), kinds(path))).collect();
        if damaged.is_empty() {
            return Ok(Vec::new());
        }
        let made = made(damaged, payloads)?;
        let paths = made.keys().cloned().collect();
        self.fields.extend(made.into_iter().map(|(path, field)| (path, Indexed::in_memory(field))));
        Ok(paths)
    }

    /// Every indexed field and kind, with the bytes that its column takes: in memory, or in its file while nobody has asked
    /// for the field.
    pub fn list(&self) -> impl Iterator<Item = (&Path, Kind, usize)> {
        let kinds = |(path, field): (_, &Indexed)| {
            field.kinds().into_iter().map(move |(kind, n_bytes)| (path, kind, n_bytes))
        };
        self.fields.iter().flat_map(kinds)
    }

    /// Bytes that all columns take, about, as for [`Columns::list`].
    pub fn n_bytes(&self) -> usize {
        let presence: usize = self.fields.values().map(Indexed::presence_bytes).sum();
        presence + self.list().map(|(_, _, n_bytes)| n_bytes).sum::<usize>()
    }
}

/// Fields as these kinds, from all payloads there are.
fn made<V: Borrow<Value>>(
    kinds: BTreeMap<Path, Vec<Kind>>,
    payloads: impl IntoIterator<Item = Result<(u32, V)>>,
) -> Result<BTreeMap<Path, Field>> {
    let mut fields: BTreeMap<Path, Field> =
        kinds.into_iter().map(|(path, kinds)| (path, Field::new(kinds))).collect();
    for payload in payloads {
        let (slot, payload) = payload?;
        let payload = payload.borrow();
        fields.iter_mut().for_each(|(path, field)| field.insert(slot, &path.values(payload)));
    }
    fields.values_mut().for_each(Field::settle);
    Ok(fields)
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
        for kind in Kind::all() {
            let (mut columns, a) = (Columns::default(), "a".parse::<Path>().unwrap());
            let fields = [(a.clone(), kind), ("b".parse().unwrap(), kind)];
            assert_eq!(columns.index(&fields[..1], payloads()).unwrap(), 1);
            assert_eq!(columns.index(&fields, payloads()).unwrap(), 1, "one is indexed already");
            columns.set(2, &json!({"a": [[1]]}));
            columns.set(0, &json!({"a": {"lat": 1, "lon": 2}}));
            columns.remove(7);
            let presence = columns.field(&a).unwrap().unwrap().presence();
            let of_type = |kind| presence.of_type(kind).iter().collect::<Vec<u32>>();
            assert_eq!(presence.filled().iter().collect::<Vec<u32>>(), [0, 1, 2]);
            assert_eq!(presence.null().iter().collect::<Vec<u32>>(), [1, 3]);
            assert_eq!(of_type(JsonType::Object), [0]);
            assert_eq!(of_type(JsonType::Number), [1]);
            assert_eq!(of_type(JsonType::String), [1]);
            assert_eq!(of_type(JsonType::Array), [2]);
            assert!(columns.n_bytes() > 0);
            assert!(columns.forget(&a, kind) && columns.field(&a).unwrap().is_none());
        }
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
