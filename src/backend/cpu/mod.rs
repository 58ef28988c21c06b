//! The processor as a backend: rayon over loops that are compiled for each instruction set. It is always there,
//! and answers when a device cannot.

mod assign;
mod distances;
mod flat_scan;
mod gather;
pub mod layout;
mod line;
pub mod minhash;
mod pairs;
mod panels;
pub mod placed;
pub mod rabitq_scan;
pub mod roofline;
mod tiles;

use std::ops::Range;
use std::sync::Arc;

use rayon::ThreadPool;

use crate::backend::budget::{Budget, Reservation};
use crate::backend::codes::{RabitqCodes, Survivor};
use crate::backend::cpu::layout::Layout;
use crate::backend::cpu::line::Source;
use crate::backend::cpu::minhash::MinHasher;
use crate::backend::cpu::placed::{Placed, Plan};
use crate::backend::resident::{Resident, ResidentCodes};
use crate::backend::{Backend, BackendKind, Facts, Pair, RabitqScan, Stream, Tile, check};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::distance::Level;
use crate::distance::simd::Kernels;
use crate::error::Result;

/// The processor.
pub struct Cpu {
    facts: Facts,
    pool: Arc<ThreadPool>,
    level: Level,
    kernels: &'static Kernels,
    budget: Budget,
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
        let kernels = Kernels::at(level);
        let name = format!("processor, {}", level.name());
        let facts = Facts { kind: BackendKind::Cpu, name, n_streams: 1, budget_bytes };
        Self { facts, pool, level, kernels, budget: Budget::new(budget_bytes) }
    }

    /// The level in use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The threads in use.
    pub fn pool(&self) -> &Arc<ThreadPool> {
        &self.pool
    }

    /// Takes bytes of the budget, for what is held beside rows and codes.
    ///
    /// # Errors
    /// `device_oom` if less is left.
    pub fn reserve(&self, n_bytes: u64) -> Result<Reservation> {
        self.budget.reserve(n_bytes)
    }
}

/// Rows of any backend as the processor reads them: what [`Cpu::upload`] kept, or, when another backend cannot answer for
/// rows of its own, the same made for this call from the host's copy, at the cost of one pass over the rows.
struct Held<'a> {
    rows: &'a Resident,
    made: Option<Placed>,
}

impl<'a> Held<'a> {
    fn new(rows: &'a Resident) -> Self {
        let is_ours = rows.device::<Placed>().is_some();
        let made = (!is_ours).then(|| Placed::new(rows.host(), rows.metric()));
        Self { rows, made }
    }

    fn source(&self) -> Source<'_> {
        let kept = self.made.as_ref().or_else(|| self.rows.device());
        let placed = kept.expect("made where it was not kept");
        Source { host: self.rows.host(), placed, metric: self.rows.metric() }
    }
}

impl Backend for Cpu {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn upload(&self, rows: Arc<Rows>, metric: Metric) -> Result<Resident> {
        rows.check(metric)?;
        let plan = Plan::new(&rows, metric);
        let reserved = self.budget.reserve(rows.n_bytes() + plan.n_bytes())?;
        let placed = plan.place(&rows, metric);
        Ok(Resident::new(rows, metric, Box::new(placed), reserved))
    }

    fn upload_codes(&self, codes: Arc<RabitqCodes>) -> Result<ResidentCodes> {
        codes.check()?;
        let reserved = self.budget.reserve(layout::n_bytes(&codes))?;
        let layout = Layout::new(&self.pool, &codes);
        Ok(ResidentCodes::new(codes, Box::new(layout), reserved))
    }

    fn upload_placed(&self, rows: Arc<Rows>, metric: Metric, placed: Placed) -> Result<Resident> {
        placed.check(&rows, metric)?;
        let reserved = self.budget.reserve(rows.n_bytes() + placed.n_bytes())?;
        Ok(Resident::new(rows, metric, Box::new(placed), reserved))
    }

    fn upload_laid_out(&self, codes: Arc<RabitqCodes>, layout: Layout) -> Result<ResidentCodes> {
        codes.check()?;
        layout.check(&codes)?;
        let reserved = self.budget.reserve(layout::n_bytes(&codes))?;
        Ok(ResidentCodes::new(codes, Box::new(layout), reserved))
    }

    fn distances(
        &self,
        _: Stream,
        queries: &Rows,
        rows: &Resident,
        range: Range<u32>,
    ) -> Result<Vec<f32>> {
        check::queries(queries, rows)?;
        check::range(&range, rows.host().n_rows())?;
        let (own, held) = (Placed::new(queries, rows.metric()), Held::new(rows));
        let rows = held.source();
        let queries = Source { host: queries, placed: &own, metric: rows.metric };
        Ok(distances::run(self.kernels, &self.pool, queries, rows, range))
    }

    fn flat_scan(
        &self,
        _: Stream,
        queries: &Rows,
        rows: &Resident,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Vec<Vec<Neighbor>>> {
        check::queries(queries, rows)?;
        check::allow(allow, rows.host().n_rows())?;
        check::k(k)?;
        let (own, held) = (Placed::new(queries, rows.metric()), Held::new(rows));
        let rows = held.source();
        let queries = Source { host: queries, placed: &own, metric: rows.metric };
        Ok(flat_scan::run(self.kernels, &self.pool, queries, rows, allow, k))
    }

    fn gather(
        &self,
        _: Stream,
        queries: &Rows,
        rows: &Resident,
        slots: &[Vec<u32>],
    ) -> Result<Vec<Vec<f32>>> {
        check::queries(queries, rows)?;
        check::slots(queries, rows, slots)?;
        let (own, held) = (Placed::new(queries, rows.metric()), Held::new(rows));
        let rows = held.source();
        let queries = Source { host: queries, placed: &own, metric: rows.metric };
        Ok(gather::run(self.kernels, &self.pool, queries, rows, slots))
    }

    fn assign(
        &self,
        _: Stream,
        rows: &Resident,
        range: Range<u32>,
        centroids: &Rows,
    ) -> Result<Vec<Neighbor>> {
        check::centroids(rows, centroids)?;
        check::range(&range, rows.host().n_rows())?;
        let (own, held) = (Placed::new(centroids, rows.metric()), Held::new(rows));
        let rows = held.source();
        let centroids = Source { host: centroids, placed: &own, metric: rows.metric };
        Ok(assign::run(self.kernels, &self.pool, rows, range, centroids))
    }

    fn rabitq_scan(
        &self,
        _: Stream,
        scans: &[RabitqScan<'_>],
        codes: &ResidentCodes,
        allow: Allow<'_>,
    ) -> Result<Vec<Vec<Survivor>>> {
        check::scans(scans, codes, allow)?;
        Ok(rabitq_scan::run((&self.pool, self.level), scans, codes, allow))
    }

    fn pairs(
        &self,
        _: Stream,
        a: &Resident,
        b: Option<&Resident>,
        tiles: &[Tile],
        within: f32,
    ) -> Result<Vec<Pair>> {
        check::pairs(a, b, tiles, within)?;
        let (a, b) = (Held::new(a), b.map(Held::new));
        let b = b.as_ref().map(Held::source);
        Ok(pairs::run(self.kernels, &self.pool, a.source(), b, tiles, within))
    }

    fn minhash(
        &self,
        _: Stream,
        hasher: &MinHasher,
        shingles: &[u32],
        ends: &[u32],
    ) -> Result<Vec<u32>> {
        check::ends(shingles, ends)?;
        Ok(minhash::run(&self.pool, &hasher.clone().at_level(self.level), shingles, ends))
    }
}
