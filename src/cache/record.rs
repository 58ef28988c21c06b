//! Entries at rest: the record of points, with an entry for each point.
//!
//! The payload is text and answer, and is read on a hit only. Beside it lie the head, the row, and counters, as vectors of these
//! names.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use half::f16;
use rayon::ThreadPool;
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::cache::entry::half;
use crate::cache::head::{Counters, Head};
use crate::cache::identity::{EntryId, PartitionKey};
use crate::core::ids::PointId;
use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::Disk;
use crate::store::durable::{Durable, Op, Parts, Point, Upsert};

const HEAD: &str = "head";
const ROW: &str = "row";
const COUNTERS: &str = "counters";

/// Slots that one task reads.
const PER_TASK: u32 = 4096;

/// The version of what is written here.
const FORMAT: u64 = 1;

/// Marks the files of a cache.
const OWNER: u64 = 0x6361_6368_6500_0001;

/// What a cache is made for; it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Elements of a vector.
    pub dim: usize,
    /// What makes the vectors: rows of two are never compared.
    pub embedder: String,
}

/// An entry on its way to the record.
#[derive(Debug)]
pub(super) struct Written {
    pub id: EntryId,
    pub head: Head,
    pub row: Option<Vec<f16>>,
    pub text: String,
    pub answer: Vec<u8>,
}

/// An entry as it comes back.
pub(super) struct Kept {
    pub id: EntryId,
    pub head: Head,
    /// Of the head.
    pub key: PartitionKey,
    /// Of the head.
    pub exact: u128,
    pub row: Option<Vec<f16>>,
    pub counters: Counters,
}

/// What one commit does.
#[derive(Default)]
pub(super) struct Changes {
    pub written: Vec<Arc<Written>>,
    pub removed: Vec<EntryId>,
    pub counted: Vec<(EntryId, Counters)>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.removed.is_empty() && self.counted.is_empty()
    }
}

/// The record of a cache.
pub(super) struct Record {
    store: Durable,
    settings: CacheSettings,
}

impl Record {
    /// Makes one in a folder.
    pub fn create(disk: Arc<dyn Disk>, folder: &Path, settings: CacheSettings) -> Result<Self> {
        let store = Durable::create(disk, folder, OWNER, &config(&settings, 0))?;
        Ok(Self { store, settings })
    }

    /// Opens the one in a folder, and the latest time it has seen.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        settings: CacheSettings,
    ) -> Result<(Self, u64)> {
        let store = Durable::open(disk, folder)?;
        let (found, seen_ms) = read_config(&store.view()?.config()?, folder)?;
        if found.dim != settings.dim || found.embedder != settings.embedder {
            let message = format!(
                "{} has vectors of {} values by {:?}, expected {} by {:?}",
                folder.display(),
                found.dim,
                found.embedder,
                settings.dim,
                settings.embedder
            );
            return Err(Error::usage("embedder_differs", message));
        }
        Ok((Self { store, settings }, seen_ms))
    }

    /// Does all of it or nothing; it is on disk when this returns.
    pub fn commit(&self, changes: &Changes) -> Result<()> {
        let heads: Vec<Vec<u8>> = changes.written.iter().map(|one| one.head.encode()).collect();
        let payloads: Vec<Vec<u8>> =
            changes.written.iter().map(|one| payload(&one.text, &one.answer)).collect();
        let bytes = |row: &Vec<f16>| row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let rows: Vec<Option<Vec<u8>>> =
            changes.written.iter().map(|one| one.row.as_ref().map(bytes)).collect();
        let vectors: Vec<Vec<(&str, &[u8])>> = changes
            .written
            .iter()
            .zip(&heads)
            .zip(&rows)
            .map(|((_, head), row)| {
                let row = row.as_ref().map(|row| (ROW, row.as_slice()));
                std::iter::once((HEAD, head.as_slice())).chain(row).collect()
            })
            .collect();
        let counters: Vec<Vec<u8>> = changes.counted.iter().map(|(_, one)| one.encode()).collect();
        let counters: Vec<_> =
            counters.iter().map(|bytes| [(COUNTERS, Some(bytes.as_slice()))]).collect();
        let written = changes.written.iter().zip(&payloads).zip(&vectors);
        let written = written.map(|((one, payload), vectors)| {
            Op::Upsert(Upsert { id: point(one.id), payload, vectors, tenants: &[] })
        });
        let removed = changes.removed.iter().map(|&id| Op::Remove { id: point(id) });
        let counted = changes.counted.iter().zip(&counters);
        let counted = counted.map(|((id, _), vectors)| Op::SetVectors { id: point(*id), vectors });
        let ops: Vec<Op<'_>> = written.chain(counted).chain(removed).collect();
        self.store.apply(&ops).map(|_| ())
    }

    /// Notes the time, and forgets what changed when: nobody follows this record.
    pub fn note(&self, seen_ms: u64) -> Result<()> {
        self.store.set_config(&config(&self.settings, seen_ms))?;
        self.store.sealed_at(self.store.view()?.version())
    }

    /// Entries, without their rows; `None` for those that are not there.
    pub fn read(&self, ids: &[EntryId]) -> Result<Vec<Option<Written>>> {
        let ids: Vec<PointId> = ids.iter().map(|&id| point(id)).collect();
        let points = self.store.view()?.get(&ids, Parts::All)?;
        points.into_iter().map(|point| point.map(|point| self.whole(point)).transpose()).collect()
    }

    fn whole(&self, point: Point) -> Result<Written> {
        let PointId::Num(number) = point.id else {
            return Err(self.corrupt(&format!("entry {} has no number", point.id)));
        };
        let head = Head::decode(vector(&point, HEAD).unwrap_or_default())?;
        let (text, answer) = split(point.payload)
            .ok_or_else(|| self.corrupt(&format!("text and answer of entry {}", point.id)))?;
        Ok(Written { id: EntryId(number), head, row: None, text, answer })
    }

    /// Every entry, in the order of their numbers, read by the threads of a pool.
    pub fn all(&self, pool: &ThreadPool) -> Result<Vec<Kept>> {
        let n_slots = self.store.view()?.n_slots()?;
        let firsts = (0..n_slots.div_ceil(PER_TASK)).into_par_iter().map(|task| task * PER_TASK);
        let parts = firsts.map(|first| self.of_slots(first..first.saturating_add(PER_TASK)));
        let parts: Vec<Vec<Kept>> = pool.install(|| parts.collect::<Result<_>>())?;
        let mut all: Vec<Kept> = parts.into_iter().flatten().collect();
        all.sort_unstable_by_key(|kept| kept.id);
        Ok(all)
    }

    fn of_slots(&self, slots: Range<u32>) -> Result<Vec<Kept>> {
        let points = self.store.view()?.points_by_slot(slots.start, Parts::Vectors)?;
        let is_own = |point: &Result<Point>| point.as_ref().map_or(true, |p| p.slot < slots.end);
        points.take_while(is_own).map(|point| self.kept(point?)).collect()
    }

    fn kept(&self, point: Point) -> Result<Kept> {
        let PointId::Num(number) = point.id else {
            return Err(self.corrupt(&format!("entry {} has no number", point.id)));
        };
        let row = vector(&point, ROW).map(|bytes| self.row(bytes)).transpose()?;
        let counters = match vector(&point, COUNTERS) {
            Some(bytes) => Counters::decode(bytes)?,
            None => Counters::default(),
        };
        let head = Head::decode(vector(&point, HEAD).unwrap_or_default())?;
        let (key, exact) = (head.partition()?, half(&head.exact()?));
        Ok(Kept { id: EntryId(number), head, key, exact, row, counters })
    }

    fn row(&self, bytes: &[u8]) -> Result<Vec<f16>> {
        let row: Vec<f16> =
            bytes.chunks_exact(2).map(|two| f16::from_le_bytes([two[0], two[1]])).collect();
        if row.len() != self.settings.dim || bytes.len() % 2 == 1 {
            return Err(self.corrupt(&format!("a row of {} bytes", bytes.len())));
        }
        match row.iter().all(|x| x.is_finite()) {
            true => Ok(row),
            false => Err(self.corrupt("a row that is not finite")),
        }
    }

    fn corrupt(&self, what: &str) -> Error {
        let message = format!("{}: {what} cannot be read", self.store.folder().display());
        Error::new(ErrorKind::Corrupt, "record_corrupt", message)
    }
}

fn point(id: EntryId) -> PointId {
    PointId::Num(id.0)
}

fn vector<'p>(point: &'p Point, name: &str) -> Option<&'p [u8]> {
    let found = point.vectors.iter().find(|(own, _)| own == name);
    found.map(|(_, bytes)| bytes.as_slice())
}

/// Length of the text, text, answer.
fn payload(text: &str, answer: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes(), text.as_bytes(), answer].concat()
}

fn split(payload: Vec<u8>) -> Option<(String, Vec<u8>)> {
    let (length, rest) = payload.split_first_chunk::<4>()?;
    let (text, answer) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((std::str::from_utf8(text).ok()?.to_owned(), answer.to_vec()))
}

fn config(settings: &CacheSettings, seen_ms: u64) -> Vec<u8> {
    let CacheSettings { dim, embedder } = settings;
    let config = json!({
        "cache": FORMAT, "dim": dim, "embedder": embedder, "metric": "cosine", "seen_ms": seen_ms,
    });
    config.to_string().into_bytes()
}

fn read_config(bytes: &[u8], folder: &Path) -> Result<(CacheSettings, u64)> {
    let refused = |code: &'static str, what: &str| {
        Error::new(ErrorKind::Corrupt, code, format!("{}: {what}", folder.display()))
    };
    let config: Value = serde_json::from_slice(bytes)
        .map_err(|error| refused("record_corrupt", &error.to_string()))?;
    match config["cache"].as_u64() {
        Some(FORMAT) => {}
        Some(other) => {
            let what = format!("a cache of format {other}, this build reads {FORMAT}");
            return Err(refused("format_newer", &what));
        }
        None => return Err(refused("not_a_cache", "this is a collection, expected a cache")),
    }
    let whole = |key: &str| config[key].as_u64();
    match (whole("dim"), config["embedder"].as_str(), whole("seen_ms")) {
        (Some(dim), Some(embedder), Some(seen_ms)) => {
            Ok((CacheSettings { dim: dim as usize, embedder: embedder.to_owned() }, seen_ms))
        }
        _ => Err(refused("record_corrupt", "its settings cannot be read")),
    }
}
