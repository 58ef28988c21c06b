//! The columns of one field, and of one kind.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::error::Result;
use crate::store::columns::bytes::{Reader, put_set};
use crate::store::columns::datetime;
use crate::store::columns::dictionary::n_bytes;
use crate::store::columns::geo::{GeoColumn, GeoPoint};
use crate::store::columns::keyword::KeywordColumn;
use crate::store::columns::kind::Kind;
use crate::store::columns::number::{Layout, Number};
use crate::store::columns::number_column::NumberColumn;
use crate::store::columns::path::elements;
use crate::store::columns::presence::Presence;
use crate::store::columns::seal::Format;
use crate::store::columns::text::TextColumn;

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
    Geo(Box<GeoColumn>),
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
            Kind::Geo => Self::Geo(Box::default()),
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

    /// Adds what [`Column::decode`] reads.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Keyword(column) => column.encode(out),
            Self::Text(column) => column.encode(out),
            Self::Number(column) | Self::Datetime(column) => column.encode(out),
            Self::Bool(slots) => slots.iter().for_each(|slots| put_set(out, slots)),
            Self::Geo(column) => column.encode(out),
        }
    }

    /// Reads what was encoded of a column of this kind.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub(super) fn decode(kind: Kind, format: Format, reader: &mut Reader<'_>) -> Result<Self> {
        let numbers = |layout, reader: &mut _| NumberColumn::decode(layout, format, reader);
        Ok(match kind {
            Kind::Keyword | Kind::Uuid => Self::Keyword(match format {
                Format::Packed => KeywordColumn::decode_sets(reader)?,
                Format::Lent => KeywordColumn::decode(reader)?,
            }),
            Kind::Integer => Self::Number(numbers(Layout::Int, reader)?),
            Kind::Float => Self::Number(numbers(Layout::Float, reader)?),
            Kind::Bool => Self::Bool([reader.set()?, reader.set()?]),
            Kind::Datetime => Self::Datetime(numbers(Layout::Int, reader)?),
            Kind::Geo => Self::Geo(Box::new(GeoColumn::decode(format, reader)?)),
            Kind::Text => Self::Text(TextColumn::decode(reader)?),
        })
    }

    /// Adds what [`Column::decode`] reads of a packed one.
    #[cfg(test)]
    pub(super) fn encode_packed(&self, out: &mut Vec<u8>) {
        match self {
            Self::Keyword(column) => column.encode_sets(out),
            Self::Number(column) | Self::Datetime(column) => column.encode_packed(out),
            Self::Geo(column) => column.encode_packed(out),
            Self::Text(_) | Self::Bool(_) => self.encode(out),
        }
    }

    /// Bytes held, about.
    pub(super) fn n_bytes(&self) -> usize {
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
    pub(super) presence: Presence,
    pub(super) columns: BTreeMap<Kind, Column>,
}

impl Field {
    /// A field in which no slot has a value.
    pub(super) fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        let columns = kinds.into_iter().map(|kind| (kind, Column::new(kind))).collect();
        Self { presence: Presence::default(), columns }
    }

    /// Which slots have a value at all.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// The columns of the field.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.values()
    }

    /// Gives a slot that has none its values.
    pub(super) fn insert(&mut self, slot: u32, values: &[&Value]) {
        if !values.is_empty() {
            self.presence.insert(slot, values);
            let elements = elements(values);
            self.columns.values_mut().for_each(|column| column.insert(slot, &elements));
        }
    }

    /// Takes the values of a slot away.
    pub(super) fn remove(&mut self, slot: u32) {
        if self.presence.remove(slot) {
            self.columns.values_mut().for_each(|column| column.remove(slot));
        }
    }

    /// Brings the columns in order after many insertions.
    pub(super) fn settle(&mut self) {
        self.columns.values_mut().for_each(Column::settle);
    }
}
