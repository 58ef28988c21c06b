//! NVIDIA cards, through their driver alone: kernels from `kernels/`, embedded as PTX, compiled by the driver.
//!
//! In: whole batches, as every backend. Out: the answers of `plain.rs`. One file per operation checks shapes, picks the
//! launch and checks what comes back; none of them knows whether a card or the emulator of the tests runs it.
//! Next: `launcher.rs` (the seam), `rows.rs` (how rows lie on the device), then `flat_scan.rs`.

mod assign;
mod device;
mod distances;
mod flat_scan;
mod gather;
pub mod launcher;
mod minhash;
mod module;
mod pairs;
mod rabitq_scan;
mod rows;

use std::ops::Range;
use std::sync::Arc;

pub use self::device::Card;
use self::launcher::{Launcher, Memory};
use self::rows::{DeviceRows, Layout};
use crate::backend::budget::Budget;
use crate::backend::codes::{RabitqCodes, Survivor};
use crate::backend::cpu::minhash::MinHasher;
use crate::backend::resident::{Resident, ResidentCodes};
use crate::backend::{
    Backend, BackendKind, Facts, Pair, Queueing, RabitqScan, Stream, Tile, check,
};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::error::{Error, Result};

/// Sizes that an owner sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes that resident rows and codes may take; the memory of calls comes on top.
    pub budget_bytes: u64,
    /// Pairs that one launch of `pairs` may return; more are asked for in parts. At least 16,384, a whole tile.
    pub pair_capacity: u32,
    /// Candidates that a launch of `rabitq_scan` is given room for at first.
    pub candidate_capacity: u32,
}

impl Options {
    /// The sizes for a budget.
    pub fn new(budget_bytes: u64) -> Self {
        Self { budget_bytes, pair_capacity: 1 << 20, candidate_capacity: 1 << 16 }
    }
}

/// A device as a backend.
pub struct Cuda {
    memory: Arc<Memory>,
    facts: Facts,
    budget: Budget,
    options: Options,
}

impl Cuda {
    /// The card of that number, with `budget_bytes` for rows, or four fifths of what is free.
    ///
    /// # Errors
    /// `device_unavailable` without a driver or without such a card; `device_failed` when it cannot be opened.
    pub fn open(ordinal: u32, budget_bytes: Option<u64>) -> Result<Self> {
        let card = Card::open(ordinal)?;
        let budget_bytes = match budget_bytes {
            Some(bytes) => bytes,
            None => card.memory()?.0 / 5 * 4,
        };
        Ok(Self::over(Arc::new(card), Options::new(budget_bytes)))
    }

    /// A backend over any launcher.
    pub fn over(launcher: Arc<dyn Launcher>, options: Options) -> Self {
        let device = launcher.facts();
        let (major, minor) = device.capability;
        let facts = Facts {
            kind: BackendKind::Cuda,
            name: format!("{}, compute {major}.{minor}, driver {}", device.name, device.driver),
            n_streams: device.n_streams,
            budget_bytes: options.budget_bytes,
        };
        let budget = Budget::new(options.budget_bytes);
        Self { memory: Arc::new(Memory::new(launcher)), facts, budget, options }
    }

    fn call(&self, stream: Stream) -> Result<Call<'_>> {
        if stream.0 < self.facts.n_streams {
            return Ok(Call { memory: &self.memory, stream, options: self.options });
        }
        let message = format!("{}, the device has {}", stream.0, self.facts.n_streams);
        Err(Error::usage("stream_range", message))
    }
}

/// One call of an operation: where it runs.
#[derive(Clone, Copy)]
struct Call<'a> {
    memory: &'a Arc<Memory>,
    stream: Stream,
    options: Options,
}

impl Call<'_> {
    fn rows<'r>(&self, rows: &'r Resident) -> Result<&'r DeviceRows> {
        match rows.device::<DeviceRows>() {
            Some(device) if device.is_of(self.memory) => Ok(device),
            _ => Err(Error::usage("resident", "rows that another backend or device holds")),
        }
    }

    fn launcher(&self) -> &dyn Launcher {
        self.memory.launcher()
    }

    fn place_queries(&self, queries: &Rows, layout: Layout) -> Result<DeviceRows> {
        DeviceRows::place(self.memory, self.stream, queries, layout)
    }
}

impl Backend for Cuda {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn queueing(&self, calls: &mut dyn FnMut() -> Result<()>) -> Result<Option<Queueing>> {
        self.memory.launcher().queueing(calls)
    }

    fn upload(&self, rows: Arc<Rows>, metric: Metric) -> Result<Resident> {
        rows.check(metric)?;
        let layout = Layout::of_rows(&rows, metric);
        let reserved = self.budget.reserve(layout.n_bytes(rows.n_rows()))?;
        let device = DeviceRows::keep(&self.memory, &rows, layout)?;
        Ok(Resident::new(rows, metric, Box::new(device), reserved))
    }

    fn upload_codes(&self, codes: Arc<RabitqCodes>) -> Result<ResidentCodes> {
        codes.check()?;
        let reserved = self.budget.reserve(rabitq_scan::n_bytes(&codes))?;
        let device = rabitq_scan::keep(&self.memory, &codes)?;
        Ok(ResidentCodes::new(codes, Box::new(device), reserved))
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
        distances::run(self.call(stream)?, queries, rows, range)
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
        flat_scan::run(self.call(stream)?, queries, rows, allow, k)
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
        gather::run(self.call(stream)?, queries, rows, slots)
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
        assign::run(self.call(stream)?, rows, range, centroids)
    }

    fn rabitq_scan(
        &self,
        stream: Stream,
        scans: &[RabitqScan<'_>],
        codes: &ResidentCodes,
        allow: Allow<'_>,
    ) -> Result<Vec<Vec<Survivor>>> {
        check::scans(scans, codes, allow)?;
        rabitq_scan::run(self.call(stream)?, scans, codes, allow)
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
        pairs::run(self.call(stream)?, a, b, tiles, within)
    }

    fn minhash(
        &self,
        stream: Stream,
        hasher: &MinHasher,
        shingles: &[u32],
        ends: &[u32],
    ) -> Result<Vec<u32>> {
        check::ends(shingles, ends)?;
        minhash::run(self.call(stream)?, hasher, shingles, ends)
    }
}

/// The entry point of an operation for rows.
fn kernel(operation: &str, rows: &Resident) -> String {
    format!("{operation}_{}_{}", rows.metric().name(), rows.host().dtype().name())
}

/// Dynamic shared memory of a kernel over `tile.cuh`.
fn tile_bytes(other_segment_bytes: u32) -> u32 {
    TILE_STAGES * TILE_SIDE * (rows::SEGMENT + other_segment_bytes + 2 * rows::PAD)
}

/// `TILE_SIDE`, `TILE_THREADS`, `TILE_STAGES` of `tile.cuh`.
const TILE_SIDE: u32 = 64;
const TILE_THREADS: u32 = 256;
const TILE_STAGES: u32 = 3;

/// The distance and the slot of a key: see `key_of` in `common.cuh`.
fn neighbor(key: u64) -> Neighbor {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 { ordered ^ 0x8000_0000 } else { !ordered };
    Neighbor { slot: key as u32, distance: f32::from_bits(bits) }
}

/// Bits of a distance that order as it does.
fn ordered(distance: f32) -> u32 {
    let bits = (distance + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_neighbors_do_and_come_back() {
        let distances = [f32::NEG_INFINITY, -3.5, -1e-40, -0.0, 0.0, 1e-40, 2.0, f32::INFINITY];
        for pair in distances.windows(2) {
            assert!(ordered(pair[0]) <= ordered(pair[1]), "{pair:?}");
        }
        for distance in distances {
            let key = u64::from(ordered(distance)) << 32 | 77;
            assert_eq!(neighbor(key), Neighbor { slot: 77, distance: distance + 0.0 });
        }
    }

    /// The host computes launches from these; the kernels are compiled with theirs.
    #[test]
    fn sizes_are_those_of_the_kernels() {
        let common = include_str!("../../../kernels/common.cuh");
        assert!(common.contains(&format!("const int SEGMENT = {};", rows::SEGMENT)));
        assert!(common.contains(&format!("const int PAD = {};", rows::PAD)));
        let tile = include_str!("../../../kernels/tile.cuh");
        assert!(tile.contains(&format!("const int TILE_SIDE = {TILE_SIDE};")));
        assert!(tile.contains(&format!("const int TILE_THREADS = {TILE_THREADS};")));
        assert!(tile.contains(&format!("const int TILE_STAGES = {TILE_STAGES};")));
        let scan = include_str!("../../../kernels/flat_scan.cu");
        assert!(scan.contains(&format!("const int TILE = {};", flat_scan::TILE)));
        assert!(scan.contains(&format!("const int STAGES = {};", flat_scan::STAGES)));
        let stages = format!("const int TENSOR_STAGES = {};", flat_scan::TENSOR_STAGES);
        assert!(scan.contains(&stages));
        let pairs = include_str!("../../../kernels/pairs.cu");
        assert!(pairs.contains(&format!("const int TENSOR_SIDE = {};", pairs::TENSOR_SIDE)));
        assert!(pairs.contains(&format!("const int TENSOR_STAGES = {};", pairs::TENSOR_STAGES)));
    }
}
