//! Many rows at once: the seven operations that devices run, and the only door to devices.
//!
//! In: blocks of rows. Out: distances, neighbors, pairs or signatures; equal bit for bit on every backend where sums are
//! integers, and within a bound that follows from the accumulator's width where they are floats.
//! Next: `plain.rs` (every operation in its plainest form: the specification), then `cpu/`.

pub mod budget;
pub mod codes;
pub mod cpu;
pub mod crossover;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod fallback;
pub mod open;
pub mod plain;
pub mod resident;
#[cfg(feature = "wgpu")]
pub mod wgpu;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::backend::codes::{RabitqCodes, RabitqQuery, Survivor};
use crate::backend::cpu::layout::Layout;
use crate::backend::cpu::minhash::MinHasher;
use crate::backend::cpu::placed::Placed;
use crate::backend::resident::{Resident, ResidentCodes};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::error::{Error, ErrorKind, Result};

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// Threads and vector instructions.
    Cpu,
    /// An NVIDIA card, through its driver.
    Cuda,
    /// Any other card, through WGSL.
    Wgpu,
}

impl BackendKind {
    /// The name, as typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a backend is and what it may hold.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What computes.
    pub kind: BackendKind,
    /// Device name and, for a processor, the instruction set in use: `AMD EPYC, avx2`.
    pub name: String,
    /// Streams that run side by side; at least 1.
    pub n_streams: u32,
    /// Bytes that resident rows may take.
    pub budget_bytes: u64,
}

/// A queue of a device, below [`Facts::n_streams`]. Calls on one stream run in order; calls from several threads on
/// several streams run side by side. The CPU has one and runs calls where they are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream(pub u32);

/// A rectangle of pairs to look at: rows `a` of the first side with rows `b` of the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Slots of the first side.
    pub a: Range<u32>,
    /// Slots of the second side.
    pub b: Range<u32>,
}

/// Two rows within the asked distance. Ordered by `a`, then `b`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Slot on the first side.
    pub a: u32,
    /// Slot on the second side; above `a` when both sides are one.
    pub b: u32,
    /// Their distance.
    pub distance: f32,
}

/// One query of a [`Backend::rabitq_scan`] and where it looks.
#[derive(Clone, Copy, Debug)]
pub struct RabitqScan<'a> {
    /// The prepared query of each list: lists with different centroids see different residuals.
    pub lists: &'a [(Range<u32>, &'a RabitqQuery)],
    /// Rows that are known to lie within this distance number at least `k`: nothing above it is returned.
    pub bound: f32,
    /// How many nearest rows the survivors must hold.
    pub k: usize,
}

/// Something that the processor did for the card, or that was done in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The operation.
    pub operation: &'static str,
    /// What happened, with the card's own error.
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.what)
    }
}

/// Time between the call that launches a kernel and the kernel's start, summed over launches (SKIP, arXiv 2504.11750:
/// "TKLQT"). Flat over batch sizes while the host is the bottleneck; rises once the card is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Queueing {
    /// Launches that were measured.
    pub n_launches: u64,
    /// Sum, in microseconds; each launch is off by the time that a finished event takes to be seen, some microseconds.
    pub total_us: f64,
    /// Largest, in microseconds.
    pub most_us: f64,
}

/// The operations. All are whole batches: shapes are checked first, and a call answers everything or fails.
///
/// # Errors
/// Kinds of every method: `BadInput` for rows that the metric cannot compare, `Usage` for shapes that do not fit one another
/// (dim, dtype, `k` outside `1..=K`, slots past the end), `Device` when the device lacks the operation (`unsupported`),
/// is out of memory (`device_oom`), or failed (`device_lost`, `device_failed`): the caller then asks another backend,
/// see [`budget`].
pub trait Backend: Send + Sync {
    /// What this backend is.
    fn facts(&self) -> &Facts;

    /// What was not done by the device itself since this was last asked, or was done in parts.
    fn take_notes(&self) -> Vec<Note> {
        Vec::new()
    }

    /// Makes the calls, and says how long the launches among them waited for the device; `None` where nothing is
    /// launched, or where the device does not tell.
    fn queueing(&self, calls: &mut dyn FnMut() -> Result<()>) -> Result<Option<Queueing>> {
        calls().map(|()| None)
    }

    /// Places rows for use under `metric`; the bytes count against the budget until the handle is dropped.
    fn upload(&self, rows: Arc<Rows>, metric: Metric) -> Result<Resident>;

    /// Places codes, as [`Self::upload`].
    fn upload_codes(&self, codes: Arc<RabitqCodes>) -> Result<ResidentCodes>;

    /// As [`Self::upload`], for rows that were placed under this metric before, with what the processor then kept beside them:
    /// it reads no row. A device copies the rows, which reads them all anyway, and derives its own.
    fn upload_placed(&self, rows: Arc<Rows>, metric: Metric, placed: Placed) -> Result<Resident> {
        placed.check(&rows, metric)?;
        self.upload(rows, metric)
    }

    /// As [`Self::upload_codes`], with the layout in which the processor reads them: it reads no code. As above, devices do.
    fn upload_laid_out(&self, codes: Arc<RabitqCodes>, layout: Layout) -> Result<ResidentCodes> {
        codes.check()?;
        layout.check(&codes)?;
        self.upload_codes(codes)
    }

    /// All distances between queries and the rows of `range`: `[n_queries, range.len()]`. For small blocks.
    fn distances(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        range: Range<u32>,
    ) -> Result<Vec<f32>>;

    /// The `k` nearest allowed rows of every query, nearest first, ties by slot; fewer if fewer are allowed.
    /// Cost: one pass over the allowed rows for the whole batch; distances are never written to memory.
    fn flat_scan(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Vec<Vec<Neighbor>>>;

    /// Distances between each query and its own list of slots, in the order of the list.
    fn gather(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        slots: &[Vec<u32>],
    ) -> Result<Vec<Vec<f32>>>;

    /// The nearest centroid (`slot`) of every row of `range`, ties by slot.
    fn assign(
        &self,
        stream: Stream,
        rows: &Resident,
        range: Range<u32>,
        centroids: &Rows,
    ) -> Result<Vec<Neighbor>>;

    /// For every query the allowed rows of its lists whose lower bound does not exceed the `k`-th least upper bound
    /// (or the given bound), by slot. The one-bit code decides first; only its survivors are looked at with all four bits.
    ///
    /// Paper: Gao, Long, "RaBitQ", SIGMOD 2024, section 3; Gao et al. 2024 (extended), section 4.
    fn rabitq_scan(
        &self,
        stream: Stream,
        scans: &[RabitqScan<'_>],
        codes: &ResidentCodes,
        allow: Allow<'_>,
    ) -> Result<Vec<Vec<Survivor>>>;

    /// All pairs of the tiles whose distance is at most `within`, sorted. Without `b`, pairs of rows of `a`, each
    /// once, the lesser slot first, no row with itself.
    fn pairs(
        &self,
        stream: Stream,
        a: &Resident,
        b: Option<&Resident>,
        tiles: &[Tile],
        within: f32,
    ) -> Result<Vec<Pair>>;

    /// Signatures `[n_records, n_perm]` of records whose shingle hashes stand one after another; `ends` holds the end
    /// of each record's.
    fn minhash(
        &self,
        stream: Stream,
        hasher: &MinHasher,
        shingles: &[u32],
        ends: &[u32],
    ) -> Result<Vec<u32>>;
}

/// The checks that every backend makes before an operation; one place, so that all refuse the same.
pub mod check {
    use super::*;
    use crate::core::limits::K;

    /// Queries fit rows: dim and element type (f32 queries also fit f16 rows).
    ///
    /// # Errors
    /// `vector_dim`, `vector_dtype`, or what [`Rows::check`] says.
    pub fn queries(queries: &Rows, rows: &Resident) -> Result<()> {
        let (host, metric) = (rows.host(), rows.metric());
        if queries.dim() != host.dim() {
            let message =
                format!("queries have {} values, rows have {}", queries.dim(), host.dim());
            return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
        }
        let both_float = !queries.dtype().is_integer() && !host.dtype().is_integer();
        if queries.dtype() != host.dtype() && !both_float {
            let message =
                format!("{} queries, {} rows", queries.dtype().name(), host.dtype().name());
            return Err(Error::usage("vector_dtype", message));
        }
        queries.check(metric)
    }

    /// `k` is in range.
    ///
    /// # Errors
    /// `k_range`.
    pub fn k(k: usize) -> Result<()> {
        if (1..=K).contains(&k) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::BadInput, "k_range", format!("{k}, expected 1 to {K}")))
    }

    /// Slots end where the rows end.
    ///
    /// # Errors
    /// `slot_range`.
    pub fn range(range: &Range<u32>, n_rows: usize) -> Result<()> {
        if range.start <= range.end && range.end as usize <= n_rows {
            return Ok(());
        }
        Err(Error::usage("slot_range", format!("{range:?} of {n_rows} rows")))
    }

    /// An allow set fits `n_rows` rows.
    ///
    /// # Errors
    /// `slot_range`.
    pub fn allow(allow: Allow<'_>, n_rows: usize) -> Result<()> {
        match allow {
            Allow::All => Ok(()),
            Allow::Bits(bits) if bits.words().len() == n_rows.div_ceil(64) => Ok(()),
            Allow::Bits(bits) => {
                let message = format!("{} words of bits for {n_rows} rows", bits.words().len());
                Err(Error::usage("slot_range", message))
            }
            Allow::Ranges(ranges) => {
                if ranges.windows(2).any(|pair| pair[0].end > pair[1].start) {
                    return Err(Error::usage("slot_range", "ranges overlap or are out of order"));
                }
                ranges.iter().try_for_each(|r| range(r, n_rows))
            }
        }
    }

    /// Both sides of a join fit one another and the tiles fit both.
    ///
    /// # Errors
    /// `vector_dim`, `vector_dtype`, `slot_range`, `threshold_range`.
    pub fn pairs(a: &Resident, b: Option<&Resident>, tiles: &[Tile], within: f32) -> Result<()> {
        let other = b.unwrap_or(a);
        if a.host().dim() != other.host().dim() || a.metric() != other.metric() {
            let message = format!(
                "{} values under {}, and {} under {}",
                a.host().dim(),
                a.metric(),
                other.host().dim(),
                other.metric()
            );
            return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
        }
        if a.host().dtype() != other.host().dtype() {
            let message =
                format!("{} and {}", a.host().dtype().name(), other.host().dtype().name());
            return Err(Error::usage("vector_dtype", message));
        }
        if within.is_nan() {
            return Err(Error::new(ErrorKind::BadInput, "threshold_range", "NaN"));
        }
        tiles.iter().try_for_each(|tile| {
            range(&tile.a, a.host().n_rows())?;
            range(&tile.b, other.host().n_rows())
        })
    }

    /// One list of slots per query, all within the rows.
    ///
    /// # Errors
    /// `slot_lists`, `slot_range`.
    pub fn slots(queries: &Rows, rows: &Resident, slots: &[Vec<u32>]) -> Result<()> {
        let n_rows = rows.host().n_rows();
        if slots.len() != queries.n_rows() {
            let message = format!("{} lists for {} queries", slots.len(), queries.n_rows());
            return Err(Error::usage("slot_lists", message));
        }
        match slots.iter().flatten().find(|&&slot| slot as usize >= n_rows) {
            Some(slot) => Err(Error::usage("slot_range", format!("{slot} of {n_rows} rows"))),
            None => Ok(()),
        }
    }

    /// Centroids fit rows, and there is one at least.
    ///
    /// # Errors
    /// `centroids`, or those of [`queries`].
    pub fn centroids(rows: &Resident, centroids: &Rows) -> Result<()> {
        if centroids.n_rows() == 0 {
            return Err(Error::usage("centroids", "0, expected at least 1"));
        }
        queries(centroids, rows)
    }

    /// Lists lie within the codes, queries fit them, and survivors are asked for.
    ///
    /// # Errors
    /// `slot_range`, `codes_shape`, `k_range`, `threshold_range`.
    pub fn scans(scans: &[RabitqScan<'_>], codes: &ResidentCodes, set: Allow<'_>) -> Result<()> {
        let (n_rows, n_words) = (codes.host().n_rows, codes.host().n_words);
        allow(set, n_rows)?;
        for scan in scans {
            k(scan.k)?;
            if scan.bound.is_nan() {
                return Err(Error::new(ErrorKind::BadInput, "threshold_range", "NaN"));
            }
            for (list, query) in scan.lists {
                range(list, n_rows)?;
                let fits = [(&query.coarse, 4), (&query.fine, 8)]
                    .iter()
                    .all(|(planes, n)| planes.n_planes == *n && planes.words.len() == n * n_words);
                if !fits {
                    let message = format!(
                        "a query of {} and {} words for planes of {n_words}",
                        query.coarse.words.len(),
                        query.fine.words.len()
                    );
                    return Err(Error::usage("codes_shape", message));
                }
            }
        }
        Ok(())
    }

    /// Ends ascend to the last shingle.
    ///
    /// # Errors
    /// `shingle_ends`.
    pub fn ends(shingles: &[u32], ends: &[u32]) -> Result<()> {
        if ends.is_sorted() && ends.last().copied().unwrap_or(0) as usize == shingles.len() {
            return Ok(());
        }
        let message = format!("{} ends for {} shingles", ends.len(), shingles.len());
        Err(Error::usage("shingle_ends", message))
    }
}
