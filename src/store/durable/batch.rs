//! Operations on the record, and what each does to its tables.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use redb::{ReadableTable, Table, WriteTransaction};

use crate::core::ids::{PointId, TenantId};
use crate::core::limits;
use crate::error::{Error, ErrorKind};
use crate::store::durable::failure::{Fault, Stored};
use crate::store::durable::op::{Applied, Op, Upsert};
use crate::store::durable::points::find;
use crate::store::durable::tables::{self, Bytes, Key, Meta, Of, PAYLOAD, Row, part_key};
use crate::store::durable::view::{PAYLOAD_CHANGED, ROW, TENANTS_CHANGED};

/// What a transaction has gathered, to be written before it is committed.
pub(super) struct Pending {
    pub(super) version: u64,
    next_slot: u64,
    changed: BTreeMap<u32, u8>,
    /// Changes of numbers of points of tenants.
    counts: HashMap<u32, i64>,
    fields: HashMap<String, u16>,
    upserted: HashSet<PointId>,
    /// Versions from this one on are those of a load, in which no id may come twice.
    load_start: Option<u64>,
    n_removed: usize,
    /// A tenant went, though no slot may have changed.
    dropped: bool,
}

impl Pending {
    pub(super) fn new(transaction: &WriteTransaction, load_start: Option<u64>) -> Stored<Self> {
        let meta = transaction.open_table(tables::META)?;
        let mut fields = HashMap::new();
        for entry in transaction.open_table(tables::FIELDS)?.iter()? {
            let (name, field) = entry?;
            fields.insert(name.value().to_owned(), field.value());
        }
        Ok(Self {
            version: Meta::Version.number(&meta)? + 1,
            next_slot: Meta::NextSlot.number(&meta)?,
            changed: BTreeMap::new(),
            counts: HashMap::new(),
            fields,
            upserted: HashSet::new(),
            load_start,
            n_removed: 0,
            dropped: false,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && !self.dropped
    }

    pub(super) fn applied(&self) -> Applied {
        let version = if self.is_empty() { self.version - 1 } else { self.version };
        Applied { version, n_removed: self.n_removed }
    }
}

/// A batch on its way into the tables.
pub(super) struct Batch<'t, 'p> {
    ids: Table<'t, Key, u64>,
    slots: Table<'t, u32, Bytes>,
    parts: Table<'t, u64, Bytes>,
    grants: Table<'t, u64, ()>,
    free: Table<'t, u32, u32>,
    tenants: Table<'t, u32, Bytes>,
    transaction: &'t WriteTransaction,
    pending: &'p mut Pending,
}

impl<'t, 'p> Batch<'t, 'p> {
    pub(super) fn new(transaction: &'t WriteTransaction, pending: &'p mut Pending) -> Stored<Self> {
        Ok(Self {
            ids: transaction.open_table(tables::IDS)?,
            slots: transaction.open_table(tables::SLOTS)?,
            parts: transaction.open_table(tables::PARTS)?,
            grants: transaction.open_table(tables::GRANTS)?,
            free: transaction.open_table(tables::FREE)?,
            tenants: transaction.open_table(tables::TENANTS)?,
            transaction,
            pending,
        })
    }

    /// Whether nothing is to be committed.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Does one operation; the version is not complete before [`Batch::finish`].
    pub(super) fn apply(&mut self, op: &Op<'_>) -> Stored<()> {
        match *op {
            Op::Upsert(point) => self.upsert(&point),
            Op::SetPayload { id, payload } => {
                let (slot, mut row) = self.existing(id)?;
                self.set_payload(slot, &mut row, id, payload)?;
                self.store(slot, row, PAYLOAD_CHANGED)
            }
            Op::SetVectors { id, vectors } => {
                let (slot, mut row) = self.existing(id)?;
                for &(name, vector) in vectors {
                    if vector.is_none() && !self.pending.fields.contains_key(name) {
                        continue;
                    }
                    self.set_vector(slot, &mut row, id, name, vector)?;
                }
                self.store(slot, row, ROW)
            }
            Op::Remove { id } => self.remove(id),
            Op::Grant { id, tenant } => {
                self.check_tenant(tenant)?;
                let (slot, mut row) = self.existing(id)?;
                let Err(at) = row.tenants.binary_search(&tenant) else { return Ok(()) };
                row.tenants.insert(at, tenant);
                check_n_tenants(id, row.tenants.len())?;
                self.grant(slot, tenant)?;
                self.store(slot, row, TENANTS_CHANGED)
            }
            Op::Revoke { id, tenant } => {
                self.check_tenant(tenant)?;
                let (slot, mut row) = self.existing(id)?;
                let Ok(at) = row.tenants.binary_search(&tenant) else { return Ok(()) };
                row.tenants.remove(at);
                self.revoke(slot, tenant)?;
                self.store(slot, row, TENANTS_CHANGED)
            }
            Op::DropTenant { tenant } => self.drop_tenant(tenant),
        }
    }

    fn upsert(&mut self, point: &Upsert<'_>) -> Stored<()> {
        let id = point.id;
        let twice = || {
            let message = format!("id {id} is in the batch twice");
            Fault::Refused(Error::new(ErrorKind::BadInput, "id_duplicate", message))
        };
        if !self.pending.upserted.insert(id) {
            return Err(twice());
        }
        let mut named = HashSet::new();
        if let Some((name, _)) = point.vectors.iter().find(|(name, _)| !named.insert(*name)) {
            let message = format!("point {id} has vector {name:?} twice");
            return Err(Error::new(ErrorKind::BadInput, "vector_name_duplicate", message).into());
        }
        let key = id.to_key();
        let (slot, mut row) = match find(&self.ids, &key)? {
            Some(slot) => (slot, self.row(slot)?),
            None => self.new_slot(&key)?,
        };
        if self.pending.load_start.is_some_and(|start| row.version >= start) {
            return Err(twice());
        }
        self.set_payload(slot, &mut row, id, point.payload)?;
        let kept: HashSet<u16> = point
            .vectors
            .iter()
            .map(|&(name, vector)| self.set_vector(slot, &mut row, id, name, Some(vector)))
            .collect::<Stored<_>>()?;
        for (field, _) in row.fields.clone() {
            if field != PAYLOAD && !kept.contains(&field) {
                self.clear_field(slot, &mut row, field)?;
            }
        }
        let tenants: BTreeSet<TenantId> = point.tenants.iter().copied().collect();
        check_n_tenants(id, tenants.len())?;
        for &tenant in &row.tenants {
            if !tenants.contains(&tenant) {
                self.revoke(slot, tenant)?;
            }
        }
        for &tenant in &tenants {
            if row.tenants.binary_search(&tenant).is_err() {
                self.check_tenant(tenant)?;
                self.grant(slot, tenant)?;
            }
        }
        row.tenants = tenants.into_iter().collect();
        self.store(slot, row, ROW | PAYLOAD_CHANGED | TENANTS_CHANGED)
    }

    /// The free slot of the lowest number, or a new one, given to a key.
    fn new_slot(&mut self, key: &Key) -> Stored<(u32, Row)> {
        let freed = self.free.pop_first()?.map(|(slot, last)| (slot.value(), last.value()));
        let (slot, generation) = match freed {
            Some((slot, last)) => (slot, last.wrapping_add(1)),
            None if self.pending.next_slot < u64::from(u32::MAX) => {
                self.pending.next_slot += 1;
                (self.pending.next_slot as u32 - 1, 0)
            }
            None => {
                let message = format!("a collection has at most {} points", u32::MAX);
                return Err(Error::new(ErrorKind::Limit, "store_full", message).into());
            }
        };
        self.ids.insert(key, tables::slot_value(key, slot))?;
        Ok((slot, Row { key: *key, generation, ..Row::default() }))
    }

    fn row(&self, slot: u32) -> Stored<Row> {
        let bytes = self.slots.get(slot)?;
        let bytes = bytes.ok_or_else(|| Fault::damaged(format!("the row of slot {slot}")))?;
        Row::decode(slot, bytes.value())
    }

    fn existing(&self, id: PointId) -> Stored<(u32, Row)> {
        let Some(slot) = find(&self.ids, &id.to_key())? else {
            let message = format!("there is no point {id}");
            return Err(Error::new(ErrorKind::NotFound, "id_not_found", message).into());
        };
        Ok((slot, self.row(slot)?))
    }

    fn store(&mut self, slot: u32, mut row: Row, what: u8) -> Stored<()> {
        row.version = self.pending.version;
        self.slots.insert(slot, row.encode(slot).as_slice())?;
        *self.pending.changed.entry(slot).or_default() |= what;
        Ok(())
    }

    fn set_payload(&mut self, slot: u32, row: &mut Row, id: PointId, payload: &[u8]) -> Stored<()> {
        if payload.len() > limits::PAYLOAD_BYTES {
            let message = format!(
                "the payload of point {id} has {} bytes, the limit is {}",
                payload.len(),
                limits::PAYLOAD_BYTES
            );
            return Err(Error::new(ErrorKind::Limit, "payload_size", message).into());
        }
        self.set_field(slot, row, PAYLOAD, payload)
    }

    /// Sets a vector or takes it away, and returns its field.
    fn set_vector(
        &mut self,
        slot: u32,
        row: &mut Row,
        id: PointId,
        name: &str,
        vector: Option<&[u8]>,
    ) -> Stored<u16> {
        let limit = limits::VECTOR_BYTES;
        if let Some(vector) = vector.filter(|vector| vector.len() > limit) {
            let n_bytes = vector.len();
            let message =
                format!("vector {name:?} of point {id} has {n_bytes} bytes, the limit is {limit}");
            return Err(Error::new(ErrorKind::Limit, "vector_size", message).into());
        }
        let field = self.field(name)?;
        match vector {
            Some(vector) => self.set_field(slot, row, field, vector)?,
            None => self.clear_field(slot, row, field)?,
        }
        Ok(field)
    }

    /// The field of a vector name, which is given one if it is new.
    fn field(&mut self, name: &str) -> Stored<u16> {
        if let Some(&field) = self.pending.fields.get(name) {
            return Ok(field);
        }
        let n_names = self.pending.fields.len();
        if n_names == limits::VECTOR_NAMES || name.len() > limits::NAME_BYTES {
            let message = format!(
                "vector name {:?} after {n_names} others, at most {} names of {} bytes",
                name.chars().take(80).collect::<String>(),
                limits::VECTOR_NAMES,
                limits::NAME_BYTES
            );
            return Err(Error::new(ErrorKind::Limit, "vector_name", message).into());
        }
        let field = PAYLOAD + 1 + n_names as u16;
        self.transaction.open_table(tables::FIELDS)?.insert(name, field)?;
        self.pending.fields.insert(name.to_owned(), field);
        Ok(field)
    }

    fn set_field(&mut self, slot: u32, row: &mut Row, field: u16, value: &[u8]) -> Stored<()> {
        let start = part_key(slot, field, 0);
        let n_bytes = value.len() as u32;
        for (piece, bytes) in tables::pieces(&tables::sign(Of::Part, start, value.to_vec())) {
            self.parts.insert(start + piece as u64, bytes)?;
        }
        match row.fields.binary_search_by_key(&field, |&(field, _)| field) {
            Ok(at) => {
                let before = std::mem::replace(&mut row.fields[at].1, n_bytes);
                self.remove_pieces(start, tables::n_pieces(n_bytes)..tables::n_pieces(before))
            }
            Err(at) => {
                row.fields.insert(at, (field, n_bytes));
                Ok(())
            }
        }
    }

    fn clear_field(&mut self, slot: u32, row: &mut Row, field: u16) -> Stored<()> {
        let Ok(at) = row.fields.binary_search_by_key(&field, |&(field, _)| field) else {
            return Ok(());
        };
        let (_, n_bytes) = row.fields.remove(at);
        self.remove_pieces(part_key(slot, field, 0), 0..tables::n_pieces(n_bytes))
    }

    fn remove_pieces(&mut self, start: u64, pieces: std::ops::Range<usize>) -> Stored<()> {
        for piece in pieces {
            self.parts.remove(start + piece as u64)?;
        }
        Ok(())
    }

    fn remove(&mut self, id: PointId) -> Stored<()> {
        let key = id.to_key();
        let Some(slot) = find(&self.ids, &key)? else { return Ok(()) };
        let mut row = self.row(slot)?;
        for (field, _) in row.fields.clone() {
            self.clear_field(slot, &mut row, field)?;
        }
        for &tenant in &row.tenants {
            self.revoke(slot, tenant)?;
        }
        self.ids.remove(&key)?;
        self.slots.remove(slot)?;
        self.free.insert(slot, row.generation)?;
        // A point that a batch stores, removes and stores again is not there twice.
        self.pending.upserted.remove(&id);
        *self.pending.changed.entry(slot).or_default() |= ROW | PAYLOAD_CHANGED | TENANTS_CHANGED;
        self.pending.n_removed += 1;
        Ok(())
    }

    fn check_tenant(&self, tenant: TenantId) -> Stored<()> {
        if self.tenants.get(tenant.0)?.is_some() {
            return Ok(());
        }
        let message = format!("there is no tenant {}", tenant.0);
        Err(Error::new(ErrorKind::NotFound, "tenant_not_found", message).into())
    }

    fn grant(&mut self, slot: u32, tenant: TenantId) -> Stored<()> {
        self.grants.insert(tables::grant_key(tenant.0, slot), ())?;
        *self.pending.counts.entry(tenant.0).or_default() += 1;
        Ok(())
    }

    fn revoke(&mut self, slot: u32, tenant: TenantId) -> Stored<()> {
        self.grants.remove(tables::grant_key(tenant.0, slot))?;
        *self.pending.counts.entry(tenant.0).or_default() -= 1;
        Ok(())
    }

    fn drop_tenant(&mut self, tenant: TenantId) -> Stored<()> {
        self.check_tenant(tenant)?;
        let all = tables::grant_key(tenant.0, 0)..=tables::grant_key(tenant.0, u32::MAX);
        let granted = self.grants.range(all)?.map(|entry| Ok(entry?.0.value() as u32));
        let granted = granted.collect::<Stored<Vec<u32>>>()?;
        for slot in granted {
            let mut row = self.row(slot)?;
            row.tenants.retain(|&other| other != tenant);
            self.grants.remove(tables::grant_key(tenant.0, slot))?;
            self.store(slot, row, TENANTS_CHANGED)?;
        }
        let bytes = self.tenants.remove(tenant.0)?.map(|bytes| bytes.value().to_vec());
        let (_, name) = tables::decode_tenant(tenant.0, &bytes.unwrap_or_default())
            .map(|(n_points, name)| (n_points, name.to_owned()))?;
        self.transaction.open_table(tables::TENANT_NAMES)?.remove(name.as_str())?;
        self.pending.counts.remove(&tenant.0);
        self.pending.dropped = true;
        Ok(())
    }

    /// Writes what was gathered: numbers of points, the change log, the version.
    pub(super) fn finish(mut self) -> Stored<()> {
        for (tenant, change) in std::mem::take(&mut self.pending.counts) {
            let bytes = self.tenants.get(tenant)?.map(|bytes| bytes.value().to_vec());
            let bytes = bytes.ok_or_else(|| Fault::damaged(format!("tenant {tenant}")))?;
            let (n_points, name) = tables::decode_tenant(tenant, &bytes)?;
            let n_points = n_points.checked_add_signed(change);
            let n_points =
                n_points.ok_or_else(|| Fault::damaged(format!("the points of tenant {tenant}")))?;
            let value = tables::encode_tenant(tenant, n_points, name);
            self.tenants.insert(tenant, value.as_slice())?;
        }
        let version = self.pending.version;
        let changes = tables::encode_changes(self.pending.changed.iter());
        let mut log = self.transaction.open_table(tables::CHANGES)?;
        log.insert(version, tables::sign(Of::Change, version, changes).as_slice())?;
        let mut meta = self.transaction.open_table(tables::META)?;
        Meta::Version.set_number(&mut meta, version)?;
        Meta::NextSlot.set_number(&mut meta, self.pending.next_slot)?;
        let start = Meta::LogStart.number(&meta)?;
        if version - start > limits::CHANGE_LOG_VERSIONS {
            log.pop_first()?;
            Meta::LogStart.set_number(&mut meta, start + 1)?;
        }
        Ok(())
    }
}

fn check_n_tenants(id: PointId, n_tenants: usize) -> Stored<()> {
    if n_tenants <= limits::TENANTS_PER_POINT {
        return Ok(());
    }
    let limit = limits::TENANTS_PER_POINT;
    let message = format!("point {id} has {n_tenants} tenants, the limit is {limit}");
    Err(Error::new(ErrorKind::Limit, "tenants_per_point", message).into())
}
