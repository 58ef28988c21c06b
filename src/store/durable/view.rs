//! One version of the record, to be read while others write.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use crate::core::ids::{PointId, TenantId};
use crate::error::{Error, ErrorKind, Result};
use crate::store::durable::failure::{Fault, Stored, reading};
use crate::store::durable::points::{Parts, Point, Points, PointsBySlot, Reader, find};
use crate::store::durable::tables::{self, Bytes, Key, Meta, Of};

/// A slot that changed, and what of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The slot, which may hold another point than before, or none.
    pub slot: u32,
    /// The point in it came, went or got other vectors.
    pub row: bool,
    /// Its payload is another one.
    pub payload: bool,
    /// Its tenants are others.
    pub tenants: bool,
}

pub(super) const ROW: u8 = 1;
pub(super) const PAYLOAD_CHANGED: u8 = 2;
pub(super) const TENANTS_CHANGED: u8 = 4;

/// One version of the record.
pub struct View {
    pub(super) transaction: ReadTransaction,
    pub(super) path: PathBuf,
    names: BTreeMap<u16, String>,
    version: u64,
}

impl View {
    pub(super) fn new(transaction: ReadTransaction, path: PathBuf) -> Result<Self> {
        let (version, names) = reading(&path, || {
            let version = Meta::Version.number(&tables::read(&transaction, tables::META)?)?;
            let mut names = BTreeMap::new();
            for entry in tables::read(&transaction, tables::FIELDS)?.iter()? {
                let (name, field) = entry?;
                names.insert(field.value(), name.value().to_owned());
            }
            Ok((version, names))
        })?;
        Ok(Self { transaction, path, names, version })
    }

    /// Does `work`; what goes wrong names the file.
    pub(super) fn read<T>(&self, work: impl FnOnce() -> Stored<T>) -> Result<T> {
        reading(&self.path, work)
    }

    /// The data version, which every batch that changes something makes one larger.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Number of points.
    ///
    /// # Errors
    /// Those of reading, as for every method here: `record_corrupt` names what does not match its checksum;
    /// `store_closed` if the store failed or was closed since.
    pub fn n_points(&self) -> Result<u64> {
        self.read(|| Ok(tables::read(&self.transaction, tables::IDS)?.len()?))
    }

    /// Slots that are or were in use: every slot is below.
    ///
    /// # Errors
    /// Those of reading.
    pub fn n_slots(&self) -> Result<u32> {
        let number = self.meta(Meta::NextSlot)?;
        u32::try_from(number).map_err(|_| {
            Fault::Damaged(format!("{number} slots are more than there can be")).named(&self.path)
        })
    }

    /// The collection's configuration.
    ///
    /// # Errors
    /// Those of reading.
    pub fn config(&self) -> Result<Vec<u8>> {
        self.read(|| Meta::Config.bytes(&tables::read(&self.transaction, tables::META)?))
    }

    /// The number that sealed files of this collection carry.
    ///
    /// # Errors
    /// Those of reading.
    pub fn owner(&self) -> Result<u64> {
        self.meta(Meta::Owner)
    }

    fn meta(&self, meta: Meta) -> Result<u64> {
        self.read(|| meta.number(&tables::read(&self.transaction, tables::META)?))
    }

    /// Names of vectors that any point ever had, sorted.
    pub fn vector_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.names.values().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Slots of points, `None` where there is no such point.
    ///
    /// # Errors
    /// Those of reading.
    pub fn slots_of(&self, ids: &[PointId]) -> Result<Vec<Option<u32>>> {
        self.read(|| {
            let table = tables::read(&self.transaction, tables::IDS)?;
            ids.iter().map(|id| find(&table, &id.to_key())).collect()
        })
    }

    /// Points by id, `None` where there is no such point.
    ///
    /// # Errors
    /// Those of reading.
    pub fn get(&self, ids: &[PointId], parts: Parts) -> Result<Vec<Option<Point>>> {
        self.read(|| {
            let table = tables::read(&self.transaction, tables::IDS)?;
            let reader = self.reader(parts)?;
            let get = |id: &PointId| {
                let key = id.to_key();
                let slot = find(&table, &key)?;
                slot.map(|slot| reader.point_of(&key, slot)).transpose()
            };
            ids.iter().map(get).collect()
        })
    }

    /// Points by slot, `None` where a slot is empty.
    ///
    /// # Errors
    /// Those of reading.
    pub fn get_slots(&self, slots: &[u32], parts: Parts) -> Result<Vec<Option<Point>>> {
        self.read(|| {
            let reader = self.reader(parts)?;
            slots.iter().map(|&slot| reader.point(slot)).collect()
        })
    }

    /// Points in the order of their ids, from one id on (which need not exist) or from the first.
    ///
    /// # Errors
    /// Those of reading.
    pub fn points(&self, from: Option<PointId>, parts: Parts) -> Result<Points> {
        self.read(|| {
            let table = tables::read(&self.transaction, tables::IDS)?;
            let start = from.map_or(Bound::Unbounded, |id| Bound::Included(id.to_key()));
            let entries = table.range::<Key>((start, Bound::Unbounded))?;
            Ok(Points { entries, reader: self.reader(parts)?, path: self.path.clone() })
        })
    }

    /// Points in the order of their slots, from one slot on: the order in which vectors are read fastest.
    ///
    /// # Errors
    /// Those of reading.
    pub fn points_by_slot(&self, from: u32, parts: Parts) -> Result<PointsBySlot> {
        self.read(|| {
            let reader = self.reader(parts)?;
            let entries = reader.slots.range(from..)?;
            Ok(PointsBySlot { entries, reader, path: self.path.clone() })
        })
    }

    fn reader(&self, parts: Parts) -> Stored<Reader> {
        Ok(Reader {
            slots: tables::read(&self.transaction, tables::SLOTS)?,
            parts: tables::read(&self.transaction, tables::PARTS)?,
            names: self.names.clone(),
            wanted: parts,
        })
    }

    /// Slots that changed after a version, sorted; `None` if the log no longer reaches back to it, and all must be looked
    /// at.
    ///
    /// # Errors
    /// `version_ahead`, of kind `Corrupt`, if the record has not reached that version; those of reading.
    pub fn changes_since(&self, version: u64) -> Result<Option<Vec<Change>>> {
        if version > self.version {
            let message = format!(
                "{} is at version {}, changes since {version} are asked for",
                self.path.display(),
                self.version
            );
            return Err(Error::new(ErrorKind::Corrupt, "version_ahead", message));
        }
        if version < self.meta(Meta::LogStart)? {
            return Ok(None);
        }
        self.read(|| {
            let mut merged: BTreeMap<u32, u8> = BTreeMap::new();
            let table = tables::read(&self.transaction, tables::CHANGES)?;
            let mut expected = version;
            for entry in table.range(version + 1..)? {
                let (at, bytes) = entry?;
                let at = at.value();
                expected += 1;
                let changes = tables::signed(Of::Change, at, bytes.value());
                let changes = changes.filter(|_| at == expected).and_then(tables::decode_changes);
                let lost = || Fault::damaged(format!("the change log at version {expected}"));
                for (slot, what) in changes.ok_or_else(lost)? {
                    *merged.entry(slot).or_default() |= what;
                }
            }
            if expected != self.version {
                return Err(Fault::damaged(format!("the change log after version {expected}")));
            }
            let change = |(slot, what): (u32, u8)| Change {
                slot,
                row: what & ROW != 0,
                payload: what & PAYLOAD_CHANGED != 0,
                tenants: what & TENANTS_CHANGED != 0,
            };
            Ok(Some(merged.into_iter().map(change).collect()))
        })
    }

    /// The tenant of a name.
    ///
    /// # Errors
    /// Those of reading.
    pub fn tenant(&self, name: &str) -> Result<Option<TenantId>> {
        self.read(|| {
            let table = tables::read(&self.transaction, tables::TENANT_NAMES)?;
            Ok(table.get(name)?.map(|tenant| TenantId(tenant.value())))
        })
    }

    /// Name of a tenant and its number of points, `None` if there is no such tenant.
    ///
    /// # Errors
    /// Those of reading.
    pub fn tenant_facts(&self, tenant: TenantId) -> Result<Option<(String, u64)>> {
        self.read(|| {
            let table = tables::read(&self.transaction, tables::TENANTS)?;
            let Some(bytes) = table.get(tenant.0)? else { return Ok(None) };
            let (n_points, name) = tables::decode_tenant(tenant.0, bytes.value())?;
            Ok(Some((name.to_owned(), n_points)))
        })
    }

    /// All tenants in the order of their ids: id, name, number of points.
    ///
    /// # Errors
    /// Those of reading.
    pub fn tenants(&self) -> Result<Vec<(TenantId, String, u64)>> {
        self.read(|| {
            let table = tables::read(&self.transaction, tables::TENANTS)?;
            let tenant =
                |entry: Result<(redb::AccessGuard<'_, u32>, redb::AccessGuard<'_, Bytes>), _>| {
                    let (id, bytes) = entry?;
                    let id = id.value();
                    let (n_points, name) = tables::decode_tenant(id, bytes.value())?;
                    Ok((TenantId(id), name.to_owned(), n_points))
                };
            table.iter()?.map(tenant).collect()
        })
    }

    /// Up to `n` tenants in the order of their names, from one name on (which need not exist): name, number of points.
    ///
    /// # Errors
    /// Those of reading.
    pub fn tenants_by_name(&self, from: &str, n: usize) -> Result<Vec<(String, u64)>> {
        self.read(|| {
            let names = tables::read(&self.transaction, tables::TENANT_NAMES)?;
            let by_id = tables::read(&self.transaction, tables::TENANTS)?;
            let mut found = Vec::new();
            for entry in names.range::<&str>(from..)?.take(n) {
                let (name, id) = entry?;
                let (name, id) = (name.value().to_owned(), id.value());
                let bytes = by_id.get(id)?;
                let bytes = bytes.ok_or_else(|| Fault::damaged(format!("tenant {id}")))?;
                let (n_points, _) = tables::decode_tenant(id, bytes.value())?;
                found.push((name, n_points));
            }
            Ok(found)
        })
    }

    /// Slots that a tenant may read, sorted.
    ///
    /// # Errors
    /// Those of reading.
    pub fn slots_of_tenant(&self, tenant: TenantId) -> Result<Vec<u32>> {
        self.read(|| {
            let table = tables::read(&self.transaction, tables::GRANTS)?;
            let all = tables::grant_key(tenant.0, 0)..=tables::grant_key(tenant.0, u32::MAX);
            table.range(all)?.map(|entry| Ok(entry?.0.value() as u32)).collect()
        })
    }
}
