//! The processor as a backend: rayon over loops that are compiled for each instruction set. It is always there,
//! and answers when a device cannot.

pub mod minhash;
pub mod rabitq_scan;

use std::ops::Range;
use std::sync::Arc;

use rayon::ThreadPool;

use crate::backend::codes::{RabitqCodes, Survivor};
use crate::backend::cpu::minhash::MinHasher;
use crate::backend::plain::Plain;
use crate::backend::resident::{Resident, ResidentCodes};
use crate::backend::{Backend, BackendKind, Facts, Pair, RabitqScan, Stream, Tile, check};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::distance::Level;
use crate::error::Result;

/// The processor.
pub struct Cpu {
    facts: Facts,
    pool: Arc<ThreadPool>,
    level: Level,
    plain: Plain,
}

impl Cpu {
    /// The processor at its best level, on the threads of `pool`, holding at most `budget_bytes`.
    pub fn new(pool: Arc<ThreadPool>, budget_bytes: u64) -> Self {
        Self::at_level(pool, budget_bytes, Level::best())
    }

    /// The same held to one level, for tests and benches.
    ///
    /// # Panics
    /// If this processor lacks the level.
    pub fn at_level(pool: Arc<ThreadPool>, budget_bytes: u64, level: Level) -> Self {
        assert!(Level::available().contains(&level), "{level:?} is not available here");
        let name = format!("processor, {}", level.name());
        let facts = Facts { kind: BackendKind::Cpu, name, n_streams: 1, budget_bytes };
        Self { facts, pool, level, plain: Plain::new(budget_bytes) }
    }

    /// The level in use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The threads in use.
    pub fn pool(&self) -> &Arc<ThreadPool> {
        &self.pool
    }
}

impl Backend for Cpu {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn upload(&self, rows: Arc<Rows>, metric: Metric) -> Result<Resident> {
        self.plain.upload(rows, metric)
    }

    fn upload_codes(&self, codes: Arc<RabitqCodes>) -> Result<ResidentCodes> {
        codes.check()?;
        let reserved = self.plain.budget().reserve(rabitq_scan::n_bytes(&codes))?;
        let layout = rabitq_scan::Layout::new(&self.pool, &codes);
        Ok(ResidentCodes::new(codes, Box::new(layout), reserved))
    }

    fn distances(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        range: Range<u32>,
    ) -> Result<Vec<f32>> {
        self.plain.distances(stream, queries, rows, range)
    }

    fn flat_scan(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Vec<Vec<Neighbor>>> {
        self.plain.flat_scan(stream, queries, rows, allow, k)
    }

    fn gather(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        slots: &[Vec<u32>],
    ) -> Result<Vec<Vec<f32>>> {
        self.plain.gather(stream, queries, rows, slots)
    }

    fn assign(
        &self,
        stream: Stream,
        rows: &Resident,
        range: Range<u32>,
        centroids: &Rows,
    ) -> Result<Vec<Neighbor>> {
        self.plain.assign(stream, rows, range, centroids)
    }

    fn rabitq_scan(
        &self,
        stream: Stream,
        scans: &[RabitqScan<'_>],
        codes: &ResidentCodes,
        allow: Allow<'_>,
    ) -> Result<Vec<Vec<Survivor>>> {
        check::scans(scans, codes, allow)?;
        let _ = stream;
        Ok(rabitq_scan::run((&self.pool, self.level), scans, codes, allow))
    }

    fn pairs(
        &self,
        stream: Stream,
        a: &Resident,
        b: Option<&Resident>,
        tiles: &[Tile],
        within: f32,
    ) -> Result<Vec<Pair>> {
        self.plain.pairs(stream, a, b, tiles, within)
    }

    fn minhash(
        &self,
        stream: Stream,
        hasher: &MinHasher,
        shingles: &[u32],
        ends: &[u32],
    ) -> Result<Vec<u32>> {
        self.plain.minhash(stream, hasher, shingles, ends)
    }
}
