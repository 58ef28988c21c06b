//! Operations on any card with a Vulkan driver, through WGSL: right everywhere, fast where the card is.
//!
//! In: the same batches as every backend. Out: the same answers; integers bit for bit.
//! Next: `device.rs` (how a driver is talked to), `resident.rs` (how rows lie there), `pipeline.rs` (how shaders are
//! specialised), then one file per operation beside its shader under `shaders/`.

mod assign;
mod device;
mod distances;
mod flat_scan;
mod gather;
mod minhash;
mod pairs;
mod pipeline;
mod rabitq_scan;
mod resident;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::backend::budget::{Budget, Reservation};
use crate::backend::codes::{RabitqCodes, Survivor};
use crate::backend::cpu::minhash::MinHasher;
use crate::backend::resident::{Resident, ResidentCodes};
use crate::backend::wgpu::device::{Call, Gpu};
use crate::backend::{Backend, BackendKind, Facts, Pair, RabitqScan, Stream, Tile, check};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::error::Result;

pub use device::{AdapterFacts, Options, Subgroups};

/// A card behind Vulkan.
pub struct Wgpu {
    gpu: Arc<Gpu>,
    facts: Facts,
    budget: Budget,
}

impl fmt::Debug for Wgpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wgpu").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Wgpu {
    /// What could be opened here, programs that play a card included; empty without a driver.
    pub fn adapters() -> Vec<AdapterFacts> {
        device::all_facts()
    }

    /// Opens the adapter of this index, or the first that is hardware, or else the first.
    ///
    /// # Errors
    /// `device_unavailable` without an adapter, or if its driver refuses; `device_index`; `unsupported` if it offers
    /// less than shaders need.
    pub fn open(index: Option<usize>, budget_bytes: u64) -> Result<Self> {
        Self::open_with(&Options { adapter: index, budget_bytes, ..Options::default() })
    }

    /// Opens an adapter with every choice made by the caller.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(options: &Options) -> Result<Self> {
        let gpu = Arc::new(Gpu::open(options)?);
        let facts = Facts {
            kind: BackendKind::Wgpu,
            name: format!("{}, {}", gpu.facts.name, gpu.facts.backend),
            n_streams: 1,
            budget_bytes: options.budget_bytes,
        };
        Ok(Self { gpu, facts, budget: Budget::new(options.budget_bytes) })
    }

    /// The adapter that was opened.
    pub fn adapter(&self) -> &AdapterFacts {
        &self.gpu.facts
    }

    /// Whether shaders use subgroup operations.
    pub fn has_subgroups(&self) -> bool {
        self.gpu.has_subgroups
    }

    /// Destroys the device after `n_steps` more steps (buffers made, bytes copied, launches, results mapped), as a
    /// driver may at any time.
    #[doc(hidden)]
    pub fn destroy_for_tests(&self, n_steps: u64) {
        self.gpu.destroy_after(n_steps);
    }

    fn call(
        &self,
        stream: Stream,
        operation: &'static str,
        shape: &dyn fmt::Display,
    ) -> Result<Call<'_>> {
        self.gpu.call(stream, operation, shape)
    }

    fn reserve(&self, call: &Call<'_>, n_bytes: u64) -> Result<Reservation> {
        // The same code, with the device and the shape in the message.
        self.budget.reserve(n_bytes).map_err(|error| call.error(error.code(), error))
    }
}

/// How large rows are, for messages.
fn shape(rows: &Rows) -> String {
    format!("[{}, {}] {}", rows.n_rows(), rows.dim(), rows.dtype().name())
}

impl Backend for Wgpu {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn upload(&self, rows: Arc<Rows>, metric: Metric) -> Result<Resident> {
        rows.check(metric)?;
        let call = self.call(Stream(0), "upload", &shape(&rows))?;
        let reserved = self.reserve(&call, resident::device_bytes(&rows))?;
        let placed = resident::place(&self.gpu, &call, &rows, metric)?;
        Ok(Resident::new(rows, metric, Box::new(placed), reserved))
    }

    fn upload_codes(&self, codes: Arc<RabitqCodes>) -> Result<ResidentCodes> {
        codes.check()?;
        let shape = format!("{} codes of {} words", codes.n_rows, codes.n_words);
        let call = self.call(Stream(0), "upload_codes", &shape)?;
        let reserved = self.reserve(&call, rabitq_scan::device_bytes(&codes))?;
        let placed = rabitq_scan::place(&self.gpu, &call, &codes)?;
        Ok(ResidentCodes::new(codes, Box::new(placed), reserved))
    }

    fn distances(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        range: Range<u32>,
    ) -> Result<Vec<f32>> {
        check::queries(queries, rows)?;
        check::range(&range, rows.host().n_rows())?;
        let shape =
            format!("{} queries, slots {range:?} of {}", queries.n_rows(), shape(rows.host()));
        let call = self.call(stream, "distances", &shape)?;
        distances::distances(&self.gpu, &call, queries, rows, range)
    }

    fn flat_scan(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Vec<Vec<Neighbor>>> {
        check::queries(queries, rows)?;
        check::allow(allow, rows.host().n_rows())?;
        check::k(k)?;
        let shape = format!("{} queries, k {k}, {}", queries.n_rows(), shape(rows.host()));
        let call = self.call(stream, "flat_scan", &shape)?;
        flat_scan::flat_scan(&self.gpu, &call, queries, rows, allow, k)
    }

    fn gather(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        slots: &[Vec<u32>],
    ) -> Result<Vec<Vec<f32>>> {
        check::queries(queries, rows)?;
        check::slots(queries, rows, slots)?;
        let shape = format!("{} lists, {}", slots.len(), shape(rows.host()));
        let call = self.call(stream, "gather", &shape)?;
        gather::gather(&self.gpu, &call, queries, rows, slots)
    }

    fn assign(
        &self,
        stream: Stream,
        rows: &Resident,
        range: Range<u32>,
        centroids: &Rows,
    ) -> Result<Vec<Neighbor>> {
        check::centroids(rows, centroids)?;
        check::range(&range, rows.host().n_rows())?;
        let shape =
            format!("{} centroids, slots {range:?} of {}", centroids.n_rows(), shape(rows.host()));
        let call = self.call(stream, "assign", &shape)?;
        assign::assign(&self.gpu, &call, rows, range, centroids)
    }

    fn rabitq_scan(
        &self,
        stream: Stream,
        scans: &[RabitqScan<'_>],
        codes: &ResidentCodes,
        allow: Allow<'_>,
    ) -> Result<Vec<Vec<Survivor>>> {
        check::scans(scans, codes, allow)?;
        let host = codes.host();
        let shape =
            format!("{} scans, {} codes of {} words", scans.len(), host.n_rows, host.n_words);
        let call = self.call(stream, "rabitq_scan", &shape)?;
        rabitq_scan::rabitq_scan(&self.gpu, &call, scans, codes, allow)
    }

    fn pairs(
        &self,
        stream: Stream,
        a: &Resident,
        b: Option<&Resident>,
        tiles: &[Tile],
        within: f32,
    ) -> Result<Vec<Pair>> {
        check::pairs(a, b, tiles, within)?;
        let other = shape(b.unwrap_or(a).host());
        let shape = format!("{} tiles, {} with {other}", tiles.len(), shape(a.host()));
        let call = self.call(stream, "pairs", &shape)?;
        pairs::pairs(&self.gpu, &call, a, b, tiles, within)
    }

    fn minhash(
        &self,
        stream: Stream,
        hasher: &MinHasher,
        shingles: &[u32],
        ends: &[u32],
    ) -> Result<Vec<u32>> {
        check::ends(shingles, ends)?;
        let shape = format!(
            "{} records, {} shingles, {} slots",
            ends.len(),
            shingles.len(),
            hasher.n_perm()
        );
        let call = self.call(stream, "minhash", &shape)?;
        minhash::minhash(&call, hasher, shingles, ends)
    }
}
