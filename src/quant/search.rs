//! Exact nearest rows by bounds: codes rule out nearly all rows, and raw rows decide among the rest.
//!
//! By bits: a scan of RaBitQ codes leaves a few rows whose lower bound does not exceed the `k`-th upper bound; these are
//! compared raw in order of their estimates, until no lower bound is below the `k`-th distance. By bytes: a scan of rows of
//! bytes gives `k' > k` candidates; if the `k'`-th, less all that rounding may have cost, is still beyond the `k`-th raw
//! distance, no row behind it can be nearer, otherwise `k'` grows for that query.
//!
//! Bounds hold with a chance that `e0` sets (`rabitq.rs`, `int8.rs`); at [`E0`] fewer than one neighbor in ten thousand is
//! missed on any data set measured (`docs/decisions/0008-codes.md`). Whoever needs certainty scans the raw rows.
//!
//! Paper: Gao, Long, "RaBitQ", SIGMOD 2024, 4 (re-ranking by bounds); the certificate of bytes is ours.

use std::sync::Arc;

use rayon::ThreadPool;

use crate::backend::codes::{RabitqQuery, Survivor};
use crate::backend::resident::{Resident, ResidentCodes};
use crate::backend::{Backend, BackendKind, RabitqScan, Stream, check};
use crate::core::allow::Allow;
use crate::core::limits::K;
use crate::core::metric::Metric;
use crate::core::neighbors::{Neighbor, TopK};
use crate::core::rows::{Rows, Values};
use crate::error::{Error, ErrorKind, Result};
use crate::quant::int8::{self, Int8Codes, Rounding};
use crate::quant::rabitq::Rabitq;
use crate::quant::rotation::WORD;

/// Deviations between estimates and bounds.
pub const E0: f32 = 3.5;

/// Queries from which a card is asked for bytes: its matrix units are idle below.
const DEVICE_BATCH: usize = 16;

/// Which codes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// One and four bits per element: a sixth of 32-bit rows.
    Bits,
    /// These and bytes, for the matrix units of a card.
    BitsAndBytes,
}

/// Rows, their codes, and what they are compared by.
pub struct ExactIndex {
    rows: Resident,
    codes: ResidentCodes,
    rabitq: Rabitq,
    bytes: Option<Bytes>,
    e0: f32,
}

/// Rows as bytes, for the matrix units of a card.
pub struct Bytes {
    /// Rows of bytes.
    pub rows: Resident,
    /// The scale that all rows share; `None` where each has its own.
    pub scale: Option<f32>,
    /// The worst rounding of any row.
    pub worst: Rounding,
}

/// How many rows were looked at, over all queries of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// By their codes.
    pub n_codes: u64,
    /// Left by the codes' bounds: survivors, or candidates of a scan of bytes.
    pub n_candidates: u64,
    /// Raw.
    pub n_raw: u64,
    /// Times that raw rows were asked for.
    pub n_rounds: u64,
}

/// The answer of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// For every query its nearest allowed rows, nearest first, ties by slot.
    pub neighbors: Vec<Vec<Neighbor>>,
    /// What it took.
    pub looked: Looked,
}

impl ExactIndex {
    /// Encodes rows, in `pool`, and places them and their codes on a backend. Cost: `dim log dim` per row.
    ///
    /// # Errors
    /// `metric` for L1; `no_rows`; those of [`Backend::upload`].
    pub fn build(
        backend: &dyn Backend,
        pool: &ThreadPool,
        rows: Arc<Rows>,
        metric: Metric,
        keep: Keep,
        seed: u64,
    ) -> Result<Self> {
        let rabitq = Rabitq::of_mean(metric, &rows, seed)?;
        let codes = backend.upload_codes(Arc::new(rabitq.encode(pool, &rows, &|_| 0)?))?;
        let bytes = match keep {
            Keep::Bits => None,
            Keep::BitsAndBytes => {
                let scale = (metric != Metric::Cosine).then(|| int8::shared_scale(&rows));
                let made = Int8Codes::encode(metric, &rows, scale)?;
                let worst = made.worst();
                Some(Bytes { rows: backend.upload(Arc::new(made.rows), metric)?, scale, worst })
            }
        };
        let rows = backend.upload(rows, metric)?;
        Ok(Self { rows, codes, rabitq, bytes, e0: E0 })
    }

    /// An index of parts that were made together, as [`Self::build`] does, and kept.
    ///
    /// # Errors
    /// `codes_shape` if rows, codes and bytes are not of the same number of rows, dimension and metric.
    pub fn from_parts(
        rows: Resident,
        codes: ResidentCodes,
        rabitq: Rabitq,
        bytes: Option<Bytes>,
    ) -> Result<Self> {
        let about = |rows: &Resident| (rows.metric(), rows.host().n_rows(), rows.host().dim());
        let of_codes = (codes.host().metric, codes.host().n_rows, rabitq.rotation().dim());
        let n_words = rabitq.rotation().padded() / WORD;
        let fits = of_codes == about(&rows)
            && rabitq.metric() == rows.metric()
            && (codes.host().n_words, rabitq.n_lists()) == (n_words, 1)
            && bytes.as_ref().is_none_or(|bytes| about(&bytes.rows) == about(&rows));
        if fits {
            return Ok(Self { rows, codes, rabitq, bytes, e0: E0 });
        }
        let message = format!(
            "codes (metric, rows, dim) {of_codes:?}, bytes {:?}, rows {:?}",
            bytes.as_ref().map(|bytes| about(&bytes.rows)),
            about(&rows)
        );
        Err(Error::new(ErrorKind::BadInput, "codes_shape", message))
    }

    /// The same with bounds of another width, for measuring.
    pub fn with_e0(mut self, e0: f32) -> Self {
        self.e0 = e0;
        self
    }

    /// The rows.
    pub fn rows(&self) -> &Resident {
        &self.rows
    }

    /// The codes.
    pub fn codes(&self) -> &ResidentCodes {
        &self.codes
    }

    /// What made the codes.
    pub fn rabitq(&self) -> &Rabitq {
        &self.rabitq
    }

    /// The rows as bytes, if they were kept.
    pub fn bytes(&self) -> Option<&Bytes> {
        self.bytes.as_ref()
    }

    /// The `k` nearest allowed rows of every query, by the way that is faster on this kind of backend: bytes on a card
    /// from a few queries on, where they were kept; bits otherwise (on a processor a byte shuffle looks at 32 rows).
    ///
    /// # Errors
    /// Those of [`Backend::flat_scan`].
    pub fn search(
        &self,
        (backend, stream): (&dyn Backend, Stream),
        queries: &Rows,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Found> {
        let is_card = backend.facts().kind != BackendKind::Cpu;
        match &self.bytes {
            Some(bytes) if is_card && queries.n_rows() >= DEVICE_BATCH => {
                self.by_bytes((backend, stream), bytes, queries, allow, k)
            }
            _ => self.by_bits((backend, stream), queries, allow, k),
        }
    }

    /// [`Self::search`] by bytes, whatever the backend; `None` if they were not kept.
    ///
    /// # Errors
    /// Those of [`Backend::flat_scan`].
    pub fn search_bytes(
        &self,
        on: (&dyn Backend, Stream),
        queries: &Rows,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Option<Found>> {
        self.bytes.as_ref().map(|bytes| self.by_bytes(on, bytes, queries, allow, k)).transpose()
    }

    fn by_bits(
        &self,
        (backend, stream): (&dyn Backend, Stream),
        queries: &Rows,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Found> {
        check::queries(queries, &self.rows)?;
        let rotated = self.rabitq.rotate(queries)?;
        let prepared: Vec<RabitqQuery> =
            rotated.iter().map(|query| self.rabitq.prepare(query, 0, self.e0)).collect();
        let n_rows = self.rows.host().n_rows() as u32;
        let lists: Vec<_> = prepared.iter().map(|query| [(0..n_rows, query)]).collect();
        let scan = |lists| RabitqScan { lists, bound: f32::INFINITY, k };
        let scans: Vec<RabitqScan<'_>> = lists.iter().map(|lists| scan(lists)).collect();
        let survivors = backend.rabitq_scan(stream, &scans, &self.codes, allow)?;
        let mut looked = Looked {
            n_codes: allow.count(n_rows) * queries.n_rows() as u64,
            n_candidates: survivors.iter().map(|list| list.len() as u64).sum(),
            ..Looked::default()
        };
        let mut verdicts: Vec<Verdict> = survivors
            .into_iter()
            .zip(&prepared)
            .map(|(survivors, query)| Verdict::new(survivors, k, query.add))
            .collect();
        loop {
            let slots: Vec<Vec<u32>> = verdicts.iter_mut().map(Verdict::next).collect();
            let n_raw = slots.iter().map(Vec::len).sum::<usize>();
            if n_raw == 0 {
                break;
            }
            (looked.n_raw, looked.n_rounds) = (looked.n_raw + n_raw as u64, looked.n_rounds + 1);
            let distances = backend.gather(stream, queries, &self.rows, &slots)?;
            for (verdict, (slots, distances)) in
                verdicts.iter_mut().zip(slots.iter().zip(&distances))
            {
                verdict.take(slots, distances);
            }
        }
        let neighbors = verdicts.into_iter().map(|verdict| verdict.nearest.into_sorted()).collect();
        Ok(Found { neighbors, looked })
    }

    fn by_bytes(
        &self,
        (backend, stream): (&dyn Backend, Stream),
        bytes: &Bytes,
        queries: &Rows,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Found> {
        check::queries(queries, &self.rows)?;
        let metric = self.rows.metric();
        let codes = Int8Codes::encode(metric, queries, bytes.scale)?;
        let mut found =
            Found { neighbors: vec![Vec::new(); queries.n_rows()], looked: Looked::default() };
        let n_allowed = allow.count(self.rows.host().n_rows() as u32);
        let mut open: Vec<usize> = (0..queries.n_rows()).collect();
        let mut wide = (2 * k + 16).min(K);
        while !open.is_empty() {
            let (few, raw) = (some(&codes.rows, &open)?, some(queries, &open)?);
            let candidates = backend.flat_scan(stream, &few, &bytes.rows, allow, wide)?;
            let slots: Vec<Vec<u32>> = candidates
                .iter()
                .map(|list| list.iter().map(|candidate| candidate.slot).collect())
                .collect();
            let distances = backend.gather(stream, &raw, &self.rows, &slots)?;
            found.looked.n_codes += n_allowed * open.len() as u64;
            found.looked.n_rounds += 1;
            let mut left = Vec::new();
            for (i, &q) in open.iter().enumerate() {
                found.looked.n_candidates += slots[i].len() as u64;
                found.looked.n_raw += slots[i].len() as u64;
                let mut nearest = TopK::new(k);
                for (&slot, &distance) in slots[i].iter().zip(&distances[i]) {
                    nearest.push(Neighbor { slot, distance });
                }
                let beyond = candidates[i].last().map(|last| {
                    let (row, query) = (bytes.worst, codes.rounding[q]);
                    int8::lower_bound(metric, last.distance, row, query, self.e0)
                });
                let is_all = slots[i].len() < wide || slots[i].len() as u64 == n_allowed;
                let is_sure = nearest.bound().zip(beyond).is_some_and(|(kth, b)| b > kth.distance);
                if is_all || is_sure {
                    found.neighbors[q] = nearest.into_sorted();
                } else {
                    left.push(q);
                }
            }
            open = left;
            if wide == K && !open.is_empty() {
                self.by_raw((backend, stream), queries, allow, k, &open, &mut found)?;
                break;
            }
            wide = (4 * wide).min(K);
        }
        Ok(found)
    }

    /// The last resort of queries around which too many rows are too close to tell apart by bytes.
    fn by_raw(
        &self,
        (backend, stream): (&dyn Backend, Stream),
        queries: &Rows,
        allow: Allow<'_>,
        k: usize,
        open: &[usize],
        found: &mut Found,
    ) -> Result<()> {
        let lists = backend.flat_scan(stream, &some(queries, open)?, &self.rows, allow, k)?;
        let n_allowed = allow.count(self.rows.host().n_rows() as u32);
        found.looked.n_raw += n_allowed * open.len() as u64;
        open.iter().zip(lists).for_each(|(&q, list)| found.neighbors[q] = list);
        Ok(())
    }
}

/// Some rows, in the order of their numbers in `which`.
fn some(rows: &Rows, which: &[usize]) -> Result<Rows> {
    let dim = rows.dim();
    let elements = || which.iter().flat_map(|&row| row * dim..(row + 1) * dim);
    let values = match rows.values() {
        Values::F32(values) => Values::F32(elements().map(|i| values[i]).collect()),
        Values::F16(values) => Values::F16(elements().map(|i| values[i]).collect()),
        Values::U8(values) => Values::U8(elements().map(|i| values[i]).collect()),
        Values::I8(values) => Values::I8(elements().map(|i| values[i]).collect()),
    };
    Rows::new(values, dim)
}

/// Rounding of estimates in 32-bit floats, relative to their terms: a dozen operations.
const ROUNDING: f32 = 1.0 / (1 << 20) as f32;

/// The raw comparison of one query's survivors.
struct Verdict {
    /// By estimate, the least last.
    left: Vec<Survivor>,
    nearest: TopK,
    /// Size of the estimates' terms.
    size: f32,
    n_next: usize,
}

impl Verdict {
    fn new(mut left: Vec<Survivor>, k: usize, add: f32) -> Self {
        left.sort_unstable_by(|a, b| b.estimate.total_cmp(&a.estimate).then(b.slot.cmp(&a.slot)));
        Self { left, nearest: TopK::new(k), size: add.abs(), n_next: k }
    }

    /// The rows to compare next: those of least estimate that may still be among the nearest.
    fn next(&mut self) -> Vec<u32> {
        if let Some(last) = self.nearest.bound() {
            let bound = last.distance + ROUNDING * (self.size + last.distance.abs());
            self.left.retain(|survivor| survivor.lower <= bound);
        }
        let at = self.left.len().saturating_sub(self.n_next);
        // Later rounds double: a doubt about many rows is not worth many calls.
        self.n_next *= 2;
        self.left.split_off(at).iter().rev().map(|survivor| survivor.slot).collect()
    }

    fn take(&mut self, slots: &[u32], distances: &[f32]) {
        for (&slot, &distance) in slots.iter().zip(distances) {
            self.nearest.push(Neighbor { slot, distance });
        }
    }
}
