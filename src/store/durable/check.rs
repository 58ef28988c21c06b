//! Looks at every page and every value of a record, without changing it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use crate::error::Result;
use crate::store::disk::{At, Disk, Mode, open_file};
use crate::store::durable::failure::{Fault, Stored, guarded};
use crate::store::durable::open::{checked, refuse_empty};
use crate::store::durable::pages::Overlay;
use crate::store::durable::tables::{self, Meta, Of, PAYLOAD, Row};
use crate::store::durable::{RECORD, points};
use crate::store::verify::Damage;

/// What is wrong with the record at `path`; of a record that is whole, nothing. Pages are looked at first, then what they
/// say.
///
/// # Errors
/// Those of the disk; `not_found` and `file_type` if there is no such file.
pub(in crate::store) fn record(disk: &dyn Disk, path: &Path) -> Result<Vec<Damage>> {
    let mut damages = Vec::new();
    match open(disk, path, true)? {
        Ok(_) => {}
        Err(damage) => damages.push(damage),
    }
    match open(disk, path, false)? {
        Ok((database, last_read)) => Walk { database, last_read, damages: &mut damages }.all(),
        Err(damage) if damages.is_empty() => damages.push(damage),
        // That was said.
        Err(_) => {}
    }
    Ok(damages)
}

/// A database, and where its last read began.
type Opened = (Database, Arc<AtomicU64>);

fn open(disk: &dyn Disk, path: &Path, look_at_pages: bool) -> Result<Result<Opened, Damage>> {
    let file = open_file(disk, path, Mode::Read)?;
    let n_bytes = file.n_bytes().at("look at", path)?;
    let layer = Overlay::new(file).at("look at", path)?;
    let last_read = layer.last_read();
    // Without a cache the last read is that of what was looked at last.
    let opened = refuse_empty(n_bytes, path).map_err(Fault::from).and_then(|()| {
        guarded(|| {
            let mut builder = redb::Builder::new();
            builder.set_cache_size(0).set_check_integrity_on_open(look_at_pages);
            checked(builder.create_with_backend(layer)?)
        })
    });
    Ok(match opened {
        Ok((database, _)) => Ok((database, last_read)),
        Err(fault) => Err(Damage {
            file: RECORD.to_owned(),
            offset: last_read.load(Ordering::Relaxed),
            what: fault.named(path).to_string(),
            lost: "what that page holds, and the pages below it".to_owned(),
        }),
    })
}

struct Walk<'d> {
    database: Database,
    last_read: Arc<AtomicU64>,
    damages: &'d mut Vec<Damage>,
}

/// What the rows of slots say.
#[derive(Default)]
struct Seen {
    slots: HashSet<u32>,
    n_pieces: u64,
    /// Points by tenant.
    tenants: HashMap<u32, u64>,
}

impl Walk<'_> {
    fn damage(&mut self, what: impl Into<String>, lost: impl Into<String>) {
        self.damages.push(Damage {
            file: RECORD.to_owned(),
            offset: self.last_read.load(Ordering::Relaxed),
            what: what.into(),
            lost: lost.into(),
        });
    }

    /// Walks one table; what ends the walk is a damage too.
    fn table(&mut self, name: &str, walk: impl FnOnce(&mut Self) -> Stored<()>) {
        if let Err(fault) = guarded(|| walk(self)) {
            let what = fault.named(Path::new(RECORD)).to_string();
            self.damage(what, format!("what follows in the table of {name}"));
        }
    }

    fn all(mut self) {
        let transaction = match guarded(|| Ok(self.database.begin_read()?)) {
            Ok(transaction) => transaction,
            Err(fault) => {
                let what = fault.named(Path::new(RECORD)).to_string();
                return self.damage(what, "everything");
            }
        };
        let mut seen = Seen::default();
        self.table("slots", |walk| walk.slots(&transaction, &mut seen));
        self.table("ids", |walk| walk.ids(&transaction, &seen));
        self.table("parts", |walk| {
            let n = tables::read(&transaction, tables::PARTS)?.len()?;
            if n != seen.n_pieces {
                walk.damage(format!("{n} pieces, the rows name {}", seen.n_pieces), "room");
            }
            Ok(())
        });
        self.table("grants", |walk| walk.grants(&transaction, &seen));
        self.table("tenants", |walk| walk.tenants(&transaction, &seen));
        self.table("free slots", |walk| walk.free(&transaction, &seen));
        self.table("changes", |walk| walk.changes(&transaction));
    }

    fn slots(&mut self, transaction: &ReadTransaction, seen: &mut Seen) -> Stored<()> {
        let (slots, parts) =
            (tables::read(transaction, tables::SLOTS)?, tables::read(transaction, tables::PARTS)?);
        let (ids, grants) =
            (tables::read(transaction, tables::IDS)?, tables::read(transaction, tables::GRANTS)?);
        for entry in slots.iter()? {
            let (slot, bytes) = entry?;
            let slot = slot.value();
            seen.slots.insert(slot);
            let Ok(row) = Row::decode(slot, bytes.value()) else {
                self.damage("a row that does not match its checksum", format!("slot {slot}"));
                continue;
            };
            let name = tables::name_of(&row.key);
            if !matches!(points::find(&ids, &row.key), Ok(Some(found)) if found == slot) {
                self.damage(format!("{name} at slot {slot} is not among the ids"), name.clone());
            }
            for (number, n_bytes) in row.fields {
                seen.n_pieces += tables::n_pieces(n_bytes) as u64;
                match guarded(|| points::field(&parts, slot, number, n_bytes)) {
                    Ok(_) => {}
                    Err(Fault::Damaged(what)) => {
                        let part = if number == PAYLOAD { "payload" } else { "a vector" };
                        self.damage(what, format!("{part} of {name}"));
                    }
                    Err(fault) => return Err(fault),
                }
            }
            for tenant in row.tenants {
                *seen.tenants.entry(tenant.0).or_default() += 1;
                if grants.get(tables::grant_key(tenant.0, slot))?.is_none() {
                    let lost = format!("{name} for tenant {}", tenant.0);
                    self.damage("a grant that is only with the point", lost);
                }
            }
        }
        Ok(())
    }

    fn ids(&mut self, transaction: &ReadTransaction, seen: &Seen) -> Stored<()> {
        for entry in tables::read(transaction, tables::IDS)?.iter()? {
            let (key, value) = entry?;
            let key = key.value();
            let slot = tables::slot_in(&key, value.value()).ok();
            if !slot.is_some_and(|slot| seen.slots.contains(&slot)) {
                let name = tables::name_of(&key);
                self.damage(format!("{name} has slot {slot:?}, which holds nothing"), name);
            }
        }
        Ok(())
    }

    fn grants(&mut self, transaction: &ReadTransaction, seen: &Seen) -> Stored<()> {
        let n = tables::read(transaction, tables::GRANTS)?.len()?;
        let expected: u64 = seen.tenants.values().sum();
        if n != expected {
            self.damage(format!("{n} grants, the rows name {expected}"), "grants");
        }
        Ok(())
    }

    fn tenants(&mut self, transaction: &ReadTransaction, seen: &Seen) -> Stored<()> {
        let by_name = tables::read(transaction, tables::TENANT_NAMES)?;
        let mut known = HashSet::new();
        for entry in tables::read(transaction, tables::TENANTS)?.iter()? {
            let (tenant, bytes) = entry?;
            let tenant = tenant.value();
            known.insert(tenant);
            let expected = seen.tenants.get(&tenant).copied().unwrap_or(0);
            let Ok((n_points, name)) = tables::decode_tenant(tenant, bytes.value()) else {
                let what = format!("tenant {tenant} does not match its checksum");
                self.damage(what, "its name and number of points");
                continue;
            };
            let is_named = by_name.get(name)?.is_some_and(|found| found.value() == tenant);
            if !is_named || n_points != expected {
                let what =
                    format!("tenant {tenant} has {n_points} points, the rows name {expected}");
                self.damage(what, format!("the tenant {name:?}"));
            }
        }
        if by_name.len()? != known.len() as u64 {
            self.damage(format!("{} names of tenants", by_name.len()?), "names");
        }
        for tenant in seen.tenants.keys().filter(|tenant| !known.contains(tenant)) {
            self.damage(format!("points of tenant {tenant}, which is not there"), "its name");
        }
        Ok(())
    }

    fn free(&mut self, transaction: &ReadTransaction, seen: &Seen) -> Stored<()> {
        let next = Meta::NextSlot.number(&tables::read(transaction, tables::META)?)?;
        let mut n_free = 0;
        for entry in tables::read(transaction, tables::FREE)?.iter()? {
            let slot = entry?.0.value();
            n_free += 1;
            if seen.slots.contains(&slot) || u64::from(slot) >= next {
                self.damage(format!("slot {slot} is free and in use, or over all"), "nothing yet");
            }
        }
        let n_used = seen.slots.len() as u64;
        if n_used + n_free != next {
            let what = format!("{n_used} slots are used and {n_free} free, of {next}");
            self.damage(what, format!("{} points or slots", next.abs_diff(n_used + n_free)));
        }
        Ok(())
    }

    fn changes(&mut self, transaction: &ReadTransaction) -> Stored<()> {
        let meta = tables::read(transaction, tables::META)?;
        Meta::Config.bytes(&meta)?;
        let (mut at, end) = (Meta::LogStart.number(&meta)?, Meta::Version.number(&meta)?);
        for entry in tables::read(transaction, tables::CHANGES)?.iter()? {
            let (version, bytes) = entry?;
            at += 1;
            let changes = tables::signed(Of::Change, at, bytes.value());
            if version.value() != at || changes.and_then(tables::decode_changes).is_none() {
                let what =
                    format!("changes of version {}, expected those of {at}", version.value());
                self.damage(what, "what an index needs to catch up: it is built again");
                return Ok(());
            }
        }
        if at != end {
            let what = format!("changes up to version {at}, the record is at {end}");
            self.damage(what, "what an index needs to catch up: it is built again");
        }
        Ok(())
    }
}
