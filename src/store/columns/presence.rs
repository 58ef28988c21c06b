//! Which slots have a value at a path at all, how many, and of which types.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::error::Result;
use crate::store::columns::bytes::{Reader, put_count, put_set};
use crate::store::columns::dictionary::n_bytes;
use crate::store::columns::number::Interval;
use crate::store::columns::path::elements;

/// Type of a value other than null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonType {
    /// A string.
    String,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// An object.
    Object,
    /// An array inside of an array.
    Array,
}

impl JsonType {
    /// Every type.
    pub const ALL: [Self; 5] = [Self::String, Self::Number, Self::Bool, Self::Object, Self::Array];

    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::String(_) => Some(Self::String),
            Value::Number(_) => Some(Self::Number),
            Value::Bool(_) => Some(Self::Bool),
            Value::Object(_) => Some(Self::Object),
            Value::Array(_) => Some(Self::Array),
        }
    }
}

/// What is known of the values at one path, whatever their types.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    present: RoaringBitmap,
    filled: RoaringBitmap,
    null: RoaringBitmap,
    /// For each count, the slots that have a value which counts as so many.
    counts: BTreeMap<u64, RoaringBitmap>,
    /// For each type, the slots that have a value of it, or an array with an element of it.
    types: [RoaringBitmap; JsonType::ALL.len()],
}

/// As how many a value counts: null is none, an array its length, anything else one.
pub fn count(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::Array(array) => array.len() as u64,
        _ => 1,
    }
}

/// Whether a value is null, or an array with a null in it.
pub fn is_null(value: &Value) -> bool {
    match value {
        Value::Array(array) => array.iter().any(Value::is_null),
        other => other.is_null(),
    }
}

impl Presence {
    /// Notes the values of a slot of which nothing is noted.
    pub fn insert(&mut self, slot: u32, values: &[&Value]) {
        if values.is_empty() {
            return;
        }
        self.present.insert(slot);
        if values.iter().any(|value| count(value) > 0) {
            self.filled.insert(slot);
        }
        if values.iter().any(|value| is_null(value)) {
            self.null.insert(slot);
        }
        for value in values {
            self.counts.entry(count(value)).or_default().insert(slot);
        }
        for kind in elements(values).into_iter().filter_map(JsonType::of) {
            self.types[kind as usize].insert(slot);
        }
    }

    /// Forgets a slot; says whether it had a value.
    pub fn remove(&mut self, slot: u32) -> bool {
        let was_there = self.present.remove(slot);
        if was_there {
            self.filled.remove(slot);
            self.null.remove(slot);
            self.types.iter_mut().for_each(|slots| {
                slots.remove(slot);
            });
            self.counts.retain(|_, slots| {
                slots.remove(slot);
                !slots.is_empty()
            });
        }
        was_there
    }

    /// The slots with a value that is neither null nor an empty array.
    pub fn filled(&self) -> &RoaringBitmap {
        &self.filled
    }

    /// The slots with a null at the path, or in an array there.
    pub fn null(&self) -> &RoaringBitmap {
        &self.null
    }

    /// The slots with a value of this type, or an array with an element of it.
    pub fn of_type(&self, kind: JsonType) -> &RoaringBitmap {
        &self.types[kind as usize]
    }

    /// The slots of `within` with a value whose count is in the interval; no value counts as 0.
    pub fn counted(&self, counts: &Interval<u64>, within: &RoaringBitmap) -> RoaringBitmap {
        let mut found = RoaringBitmap::new();
        for (_, slots) in self.counts.iter().filter(|(count, _)| counts.contains(*count)) {
            found |= slots & within;
        }
        if counts.contains(&0) {
            found |= within - &self.present;
        }
        found
    }

    /// The slots with a value, of whatever type: those of the columns of the field are among them.
    pub fn present(&self) -> &RoaringBitmap {
        &self.present
    }

    /// Adds what [`Presence::decode`] reads.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let sets = [&self.present, &self.filled, &self.null];
        sets.into_iter().chain(&self.types).for_each(|set| put_set(out, set));
        put_count(out, self.counts.len());
        for (count, slots) in &self.counts {
            out.extend(count.to_le_bytes());
            put_set(out, slots);
        }
    }

    /// Reads what was encoded.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let (present, filled, null) = (reader.set()?, reader.set()?, reader.set()?);
        let mut types: [RoaringBitmap; JsonType::ALL.len()] = Default::default();
        for set in &mut types {
            *set = reader.set()?;
        }
        let mut counts = BTreeMap::new();
        for _ in 0..reader.count(size_of::<u64>())? {
            let count = reader.u64()?;
            if counts.insert(count, reader.set()?).is_some() {
                return Err(reader.corrupt(format!("a second set of those that count {count}")));
            }
        }
        Ok(Self { present, filled, null, counts, types })
    }

    /// Bytes held, about.
    pub fn n_bytes(&self) -> usize {
        let sets = [&self.present, &self.filled, &self.null];
        let sets = sets.into_iter().chain(self.counts.values()).chain(&self.types);
        sets.map(n_bytes).sum()
    }
}
