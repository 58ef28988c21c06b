//! The tables of the record, and how their values are spelled. Drawn in docs/file-format.md.
//!
//! Every value ends with a hash of itself, its table and its key, so that a value which was changed, or moved to another
//! key, is not taken for what was written.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::core::ids::{POINT_KEY_BYTES, PointId, TenantId};
use crate::core::mix;
use crate::store::durable::failure::{Fault, Stored};

/// The version of the tables that is written.
pub(super) const FORMAT: u32 = 1;

pub(super) type Bytes = &'static [u8];
pub(super) type Key = [u8; POINT_KEY_BYTES];

/// id -> slot, below a hash of both.
pub(super) const IDS: TableDefinition<'static, Key, u64> = TableDefinition::new("ids");
/// slot -> [`Row`].
pub(super) const SLOTS: TableDefinition<'static, u32, Bytes> = TableDefinition::new("slots");
/// [`part_key`] -> piece of a payload or vector.
pub(super) const PARTS: TableDefinition<'static, u64, Bytes> = TableDefinition::new("parts");
/// tenant, slot -> nothing.
pub(super) const GRANTS: TableDefinition<'static, u64, ()> = TableDefinition::new("grants");
/// Slot that may be used again -> its last generation.
pub(super) const FREE: TableDefinition<'static, u32, u32> = TableDefinition::new("free");
/// tenant -> its number of points, its name.
pub(super) const TENANTS: TableDefinition<'static, u32, Bytes> = TableDefinition::new("tenants");
/// name -> tenant.
pub(super) const TENANT_NAMES: TableDefinition<'static, &str, u32> =
    TableDefinition::new("tenant_names");
/// Name of a vector -> its field.
pub(super) const FIELDS: TableDefinition<'static, &str, u16> = TableDefinition::new("fields");
/// version -> runs of slots that it changed.
pub(super) const CHANGES: TableDefinition<'static, u64, Bytes> = TableDefinition::new("changes");
/// Single values by name.
pub(super) const META: TableDefinition<'static, &str, Bytes> = TableDefinition::new("meta");

/// The payload's field; vectors have those from 1 on.
pub(super) const PAYLOAD: u16 = 0;

/// Most bytes of a piece: five fit a page of 4 KiB with what is stored beside them, whatever the length of the whole.
const PIECE_BYTES: usize = 800;

pub(super) const HASH_BYTES: usize = 8;

/// Which values have a hash of their own, so that none is taken for one of another table.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Slot = 1,
    Part = 2,
    Tenant = 3,
    Change = 4,
    Meta = 5,
}

fn hash(of: Of, key: u64, value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, mix::mix64(key ^ (of as u64) << 56))
}

/// `value` with its hash behind it.
pub(super) fn sign(of: Of, key: u64, mut value: Vec<u8>) -> Vec<u8> {
    let hash = hash(of, key, &value);
    value.extend(hash.to_le_bytes());
    value
}

/// The value without its hash, if that is right.
pub(super) fn signed(of: Of, key: u64, bytes: &[u8]) -> Option<&[u8]> {
    let (value, found) = bytes.split_last_chunk::<HASH_BYTES>()?;
    (u64::from_le_bytes(*found) == hash(of, key, value)).then_some(value)
}

/// What [`IDS`] holds for an id at a slot.
pub(super) fn slot_value(key: &Key, slot: u32) -> u64 {
    let hash = mix::mix64(xxh3_64(key) ^ u64::from(slot));
    hash << 32 | u64::from(slot)
}

/// The slot in what [`IDS`] holds.
pub(super) fn slot_in(key: &Key, value: u64) -> Stored<u32> {
    let slot = value as u32;
    if slot_value(key, slot) == value {
        return Ok(slot);
    }
    Err(Fault::damaged(format!("the slot of {}", name_of(key))))
}

/// An id, or the bytes that are none.
pub(super) fn name_of(key: &Key) -> String {
    PointId::from_key(key).map_or_else(|| format!("{key:02x?}"), |id| format!("point {id}"))
}

/// The key of a grant.
pub(super) fn grant_key(tenant: u32, slot: u32) -> u64 {
    u64::from(tenant) << 32 | u64::from(slot)
}

/// The key of a piece of a field of the point at a slot.
pub(super) fn part_key(slot: u32, field: u16, piece: usize) -> u64 {
    u64::from(slot) << 32 | u64::from(field) << 16 | piece as u64
}

/// Pieces of a value of so many bytes.
pub(super) fn n_pieces(n_bytes: u32) -> usize {
    (n_bytes as usize + HASH_BYTES).div_ceil(PIECE_BYTES)
}

/// A signed value, cut in pieces of equal length but for the last.
pub(super) fn pieces(signed: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let n = signed.len().div_ceil(PIECE_BYTES);
    signed.chunks(signed.len().div_ceil(n)).enumerate()
}

/// What a slot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) generation: u32,
    /// The version that changed it last.
    pub(super) version: u64,
    /// Fields and their lengths, sorted.
    pub(super) fields: Vec<(u16, u32)>,
    /// Sorted.
    pub(super) tenants: Vec<TenantId>,
}

impl Row {
    pub(super) fn encode(&self, slot: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 + 6 * self.fields.len() + 4 * self.tenants.len());
        out.extend(self.key);
        out.extend(self.generation.to_le_bytes());
        out.extend(self.version.to_le_bytes());
        out.extend((self.fields.len() as u16).to_le_bytes());
        for (field, n_bytes) in &self.fields {
            out.extend(field.to_le_bytes());
            out.extend(n_bytes.to_le_bytes());
        }
        for tenant in &self.tenants {
            out.extend(tenant.0.to_le_bytes());
        }
        sign(Of::Slot, u64::from(slot), out)
    }

    pub(super) fn decode(slot: u32, bytes: &[u8]) -> Stored<Self> {
        let row = signed(Of::Slot, u64::from(slot), bytes).and_then(Self::parse);
        row.ok_or_else(|| Fault::damaged(format!("the row of slot {slot}")))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&key, bytes) = bytes.split_first_chunk::<POINT_KEY_BYTES>()?;
        let (&generation, bytes) = bytes.split_first_chunk::<4>()?;
        let (&version, bytes) = bytes.split_first_chunk::<8>()?;
        let (&n_fields, bytes) = bytes.split_first_chunk::<2>()?;
        let (fields, tenants) =
            bytes.split_at_checked(6 * usize::from(u16::from_le_bytes(n_fields)))?;
        let fields = fields.chunks_exact(6).map(|field| {
            let n_bytes = [field[2], field[3], field[4], field[5]];
            (u16::from_le_bytes([field[0], field[1]]), u32::from_le_bytes(n_bytes))
        });
        Some(Self {
            key,
            generation: u32::from_le_bytes(generation),
            version: u64::from_le_bytes(version),
            fields: fields.collect(),
            tenants: numbers(tenants)?.map(TenantId).collect(),
        })
    }
}

/// 32-bit numbers, if there is a whole number of them.
fn numbers(bytes: &[u8]) -> Option<impl Iterator<Item = u32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|&number| u32::from_le_bytes(number)))
}

/// Slots with what changed of each, as runs of neighbours of equal change.
pub(super) fn encode_changes<'c>(changes: impl Iterator<Item = (&'c u32, &'c u8)>) -> Vec<u8> {
    let mut runs: Vec<[u32; 3]> = Vec::new();
    for (&slot, &what) in changes {
        match runs.last_mut() {
            Some([start, n, kind]) if *start + *n == slot && *kind == u32::from(what) => *n += 1,
            _ => runs.push([slot, 1, u32::from(what)]),
        }
    }
    runs.iter().flatten().flat_map(|number| number.to_le_bytes()).collect()
}

/// What [`encode_changes`] was given.
pub(super) fn decode_changes(bytes: &[u8]) -> Option<Vec<(u32, u8)>> {
    let numbers: Vec<u32> = numbers(bytes)?.collect();
    let (runs, rest) = numbers.as_chunks::<3>();
    let mut changes = Vec::new();
    for &[start, n, what] in runs {
        let end = start.checked_add(n)?;
        let what = u8::try_from(what).ok()?;
        changes.extend((start..end).map(|slot| (slot, what)));
    }
    rest.is_empty().then_some(changes)
}

/// A tenant's number of points and its name, as [`TENANTS`] holds them.
pub(super) fn encode_tenant(tenant: u32, n_points: u64, name: &str) -> Vec<u8> {
    let mut out = n_points.to_le_bytes().to_vec();
    out.extend(name.as_bytes());
    sign(Of::Tenant, u64::from(tenant), out)
}

pub(super) fn decode_tenant(tenant: u32, bytes: &[u8]) -> Stored<(u64, &str)> {
    let value = signed(Of::Tenant, u64::from(tenant), bytes);
    let value = value.and_then(|value| value.split_first_chunk::<8>());
    let value =
        value.and_then(|(n, name)| Some((u64::from_le_bytes(*n), std::str::from_utf8(name).ok()?)));
    value.ok_or_else(|| Fault::damaged(format!("tenant {tenant}")))
}

/// Single values of [`META`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    Format,
    Owner,
    Config,
    Version,
    /// The version from which on all changes are listed.
    LogStart,
    NextSlot,
    NextTenant,
}

impl Meta {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Owner => "owner",
            Self::Config => "config",
            Self::Version => "version",
            Self::LogStart => "log_start",
            Self::NextSlot => "next_slot",
            Self::NextTenant => "next_tenant",
        }
    }

    pub(super) fn bytes(self, table: &impl ReadableTable<&'static str, Bytes>) -> Stored<Vec<u8>> {
        let damaged = || Fault::damaged(format!("the collection's {}", self.name()));
        let found = table.get(self.name())?.ok_or_else(damaged)?;
        let value = signed(Of::Meta, self as u64, found.value()).ok_or_else(damaged)?;
        Ok(value.to_vec())
    }

    pub(super) fn number(self, table: &impl ReadableTable<&'static str, Bytes>) -> Stored<u64> {
        let bytes = self.bytes(table)?;
        let bytes = bytes.try_into().map_err(|_| {
            Fault::damaged(format!("the collection's {}, which is no number", self.name()))
        })?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn set(
        self,
        table: &mut Table<'_, &'static str, Bytes>,
        value: &[u8],
    ) -> Stored<()> {
        let value = sign(Of::Meta, self as u64, value.to_vec());
        table.insert(self.name(), value.as_slice())?;
        Ok(())
    }

    pub(super) fn set_number(
        self,
        table: &mut Table<'_, &'static str, Bytes>,
        number: u64,
    ) -> Stored<()> {
        self.set(table, &number.to_le_bytes())
    }
}

/// Makes every table, so that readers find them.
pub(super) fn create_all(transaction: &WriteTransaction) -> Result<(), TableError> {
    transaction.open_table(IDS)?;
    transaction.open_table(SLOTS)?;
    transaction.open_table(PARTS)?;
    transaction.open_table(GRANTS)?;
    transaction.open_table(FREE)?;
    transaction.open_table(TENANTS)?;
    transaction.open_table(TENANT_NAMES)?;
    transaction.open_table(FIELDS)?;
    transaction.open_table(CHANGES)?;
    transaction.open_table(META)?;
    Ok(())
}

/// A table to be read.
pub(super) type Read<K, V> = redb::ReadOnlyTable<K, V>;

/// Opens a table of one version.
pub(super) fn read<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    table: TableDefinition<'static, K, V>,
) -> Stored<Read<K, V>> {
    Ok(transaction.open_table(table)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back_and_any_flip_is_seen() {
        let row = Row {
            key: PointId::Num(7).to_key(),
            generation: 2,
            version: 9,
            fields: vec![(0, 100), (3, 1536)],
            tenants: vec![TenantId(1), TenantId(70_000)],
        };
        let bytes = row.encode(5);
        assert_eq!(Row::decode(5, &bytes).unwrap(), row);
        assert!(Row::decode(6, &bytes).is_err(), "of another slot");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(Row::decode(5, &damaged).is_err(), "byte {at}");
            assert!(Row::decode(5, &bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn pieces_are_as_many_as_a_length_says_and_make_up_the_whole() {
        for n_bytes in (0..5000).chain([65_536]) {
            let whole = sign(Of::Part, 1, vec![7; n_bytes]);
            let cut: Vec<(usize, &[u8])> = pieces(&whole).collect();
            assert_eq!(cut.len(), n_pieces(n_bytes as u32), "{n_bytes}");
            assert!(cut.iter().enumerate().all(|(at, (piece, _))| at == *piece));
            let joined: Vec<u8> = cut.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
            assert_eq!(joined, whole);
        }
    }

    #[test]
    fn changes_are_runs_and_come_back() {
        let changes = [(1, 1), (2, 1), (3, 2), (5, 2), (6, 2), (u32::MAX - 1, 1)];
        let bytes = encode_changes(changes.iter().map(|(slot, what)| (slot, what)));
        assert_eq!(bytes.len(), 4 * 12);
        assert_eq!(decode_changes(&bytes).unwrap(), changes);
        assert_eq!(decode_changes(&bytes[1..]), None);
    }
}
