//! Points as they are read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use redb::ReadableTable;

use crate::core::ids::{PointId, TenantId};
use crate::error::Result;
use crate::store::durable::failure::{Fault, Stored, reading};
use crate::store::durable::tables::{self, Bytes, Key, Of, PAYLOAD, Read, Row, part_key};

/// A point as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The caller's id.
    pub id: PointId,
    /// Its slot.
    pub slot: u32,
    /// How many points had this slot before.
    pub generation: u32,
    /// The version that changed it last.
    pub version: u64,
    /// Tenants that may read it, sorted.
    pub tenants: Vec<TenantId>,
    /// The payload, empty if it was not asked for.
    pub payload: Vec<u8>,
    /// Vectors by name, sorted; none if they were not asked for.
    pub vectors: Vec<(String, Vec<u8>)>,
}

/// Which parts of a point are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Id, slot and tenants.
    None,
    /// Those and the payload.
    Payload,
    /// Those and the vectors.
    Vectors,
    /// Everything.
    All,
}

/// The slot of a key.
pub(super) fn find(table: &impl ReadableTable<Key, u64>, key: &Key) -> Stored<Option<u32>> {
    match table.get(key)? {
        Some(value) => Ok(Some(tables::slot_in(key, value.value())?)),
        None => Ok(None),
    }
}

/// The bytes of one field of a slot.
pub(super) fn field(
    parts: &impl ReadableTable<u64, Bytes>,
    slot: u32,
    field: u16,
    n_bytes: u32,
) -> Stored<Vec<u8>> {
    let start = part_key(slot, field, 0);
    let n_pieces = tables::n_pieces(n_bytes);
    let mut whole = Vec::with_capacity(n_bytes as usize + tables::HASH_BYTES);
    for entry in parts.range(start..start + n_pieces as u64)? {
        whole.extend(entry?.1.value());
    }
    let Some(value) = tables::signed(Of::Part, start, &whole).map(<[u8]>::len) else {
        let what = if field == PAYLOAD { "payload".to_owned() } else { format!("vector {field}") };
        return Err(Fault::damaged(format!("the {what} of slot {slot}")));
    };
    whole.truncate(value);
    Ok(whole)
}

/// What points are read with.
pub(super) struct Reader {
    pub(super) slots: Read<u32, Bytes>,
    pub(super) parts: Read<u64, Bytes>,
    pub(super) names: BTreeMap<u16, String>,
    pub(super) wanted: Parts,
}

impl Reader {
    pub(super) fn point(&self, slot: u32) -> Stored<Option<Point>> {
        let Some(bytes) = self.slots.get(slot)? else { return Ok(None) };
        self.fill(slot, Row::decode(slot, bytes.value())?).map(Some)
    }

    /// The point that must be at a slot.
    pub(super) fn point_of(&self, key: &Key, slot: u32) -> Stored<Point> {
        let lost = || Fault::damaged(format!("the row of {}", tables::name_of(key)));
        let bytes = self.slots.get(slot)?.ok_or_else(lost)?;
        let row = Row::decode(slot, bytes.value())?;
        if row.key != *key {
            return Err(lost());
        }
        self.fill(slot, row)
    }

    fn fill(&self, slot: u32, row: Row) -> Stored<Point> {
        let id = PointId::from_key(&row.key);
        let id = id.ok_or_else(|| Fault::damaged(format!("the id at slot {slot}")))?;
        let (mut payload, mut vectors) = (Vec::new(), Vec::new());
        for &(number, n_bytes) in &row.fields {
            let is_wanted = match self.wanted {
                Parts::None => false,
                Parts::Payload => number == PAYLOAD,
                Parts::Vectors => number != PAYLOAD,
                Parts::All => true,
            };
            if !is_wanted {
                continue;
            }
            let bytes = field(&self.parts, slot, number, n_bytes)?;
            if number == PAYLOAD {
                payload = bytes;
                continue;
            }
            let name = self.names.get(&number);
            let name =
                name.ok_or_else(|| Fault::damaged(format!("the name of vector {number}")))?;
            vectors.push((name.clone(), bytes));
        }
        vectors.sort_unstable();
        let Row { generation, version, tenants, .. } = row;
        Ok(Point { id, slot, generation, version, tenants, payload, vectors })
    }
}

/// Points in the order of their ids.
pub struct Points {
    pub(super) entries: redb::Range<'static, Key, u64>,
    pub(super) reader: Reader,
    pub(super) path: PathBuf,
}

impl Iterator for Points {
    type Item = Result<Point>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { entries, reader, path } = self;
        let next = reading(path, || {
            let Some(entry) = entries.next() else { return Ok(None) };
            let (key, value) = entry?;
            let key = key.value();
            let slot = tables::slot_in(&key, value.value())?;
            reader.point_of(&key, slot).map(Some)
        });
        next.transpose()
    }
}

/// Points in the order of their slots.
pub struct PointsBySlot {
    pub(super) entries: redb::Range<'static, u32, Bytes>,
    pub(super) reader: Reader,
    pub(super) path: PathBuf,
}

impl Iterator for PointsBySlot {
    type Item = Result<Point>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { entries, reader, path } = self;
        let next = reading(path, || {
            let Some(entry) = entries.next() else { return Ok(None) };
            let (slot, bytes) = entry?;
            let slot = slot.value();
            reader.fill(slot, Row::decode(slot, bytes.value())?).map(Some)
        });
        next.transpose()
    }
}
