//! Operation `flat_scan`: the k nearest allowed rows of every query, fused.
//!
//! Three kernels: one query, up to eight, and int8 tensor cores for larger batches of integer rows. A batch is rounded up to a
//! bucket (1, 2, 4, ..., 1024) whose launches repeat exactly, so that a card can replay them as one graph; the number of
//! queries is read on the device. Large scans look at every 64th tile first: the k-th distance of that sample bounds the rest.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::launcher::{Buffer, DeviceFacts, Launch, Step, failed};
use super::rows::{Layout, PAD, SEGMENT};
use super::{Call, kernel, neighbor};
use crate::backend::resident::Resident;
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::error::Result;

/// `TILE` and stages of `flat_scan.cu`; its blocks have as many threads as a tile rows.
pub(super) const TILE: u32 = 128;
pub(super) const STAGES: u32 = 4;
pub(super) const TENSOR_STAGES: u32 = 3;

/// Queries of one batch.
const BATCH: usize = 1024;
/// Shared memory of one block: two of them fit a processor of an H100.
const SHARED_BYTES: u32 = 112 << 10;
/// What a kernel has beside its dynamic part, rounded up.
const STATIC_BYTES: u32 = 1 << 10;
/// Most rows of one chunk.
const CHUNK_ROWS: u32 = 8192;
/// Blocks of a processor.
const BLOCKS: u32 = 2;
/// Chunks of a worker, so that rows that filters leave out are shared evenly.
const CHUNKS: u32 = 4;
/// Rows from which a sample is worth its launch.
const SAMPLE_FROM: u64 = 1 << 16;
/// One tile of so many is in the sample.
const SAMPLE_SHARE: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Args {
    rows: u64,
    row_factors: u64,
    queries: u64,
    query_factors: u64,
    n_queries: u64,
    allow: u64,
    chunks: u64,
    bounds: u64,
    partial: u64,
    partial_counts: u64,
    done: u64,
    out: u64,
    out_counts: u64,
    stride: u32,
    query_stride: u32,
    n_rows: u32,
    n_chunks: u32,
    k: u32,
    capacity: u32,
    group: u32,
    unused: u32,
}

/// What a launch looks like, for a bucket of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    variant: &'static str,
    /// Queries of one block.
    group: u32,
    n_groups: u32,
    /// Keys of one ring: room for k and for a whole tile.
    capacity: u32,
    shared_bytes: u32,
    /// Blocks that share the rows of one group.
    n_workers: u32,
    chunk_rows: u32,
}

impl Plan {
    fn new(rows: &Resident, bucket: u32, k: u32, n_rows: u64, device: &DeviceFacts) -> Self {
        let dtype = rows.host().dtype();
        let layout = Layout::of_rows(rows.host(), rows.metric()).of_queries();
        let capacity = (k + TILE).next_power_of_two();
        let shared = SHARED_BYTES.min(device.shared_bytes);
        // Queries of one block, and its shared memory before the rings.
        let sized = |queries: u32, n_stages: u32| {
            let facing = layout.segment_bytes(dtype) + PAD;
            let stages = n_stages * (TILE * (SEGMENT + PAD) + queries * facing);
            let fixed = stages + queries * TILE * 4;
            let rings = (shared - STATIC_BYTES - fixed) / (capacity * 8);
            (queries.min(rings).min(bucket), fixed)
        };
        let is_tensor = dtype.is_integer() && rows.metric() != Metric::L1;
        let (tensor, narrow) = (sized(32, TENSOR_STAGES), sized(8, STAGES));
        let (variant, (most, fixed)) = match bucket {
            1 => ("q1", sized(1, STAGES)),
            _ if is_tensor && tensor.0 > 8 => ("mma", tensor),
            _ => ("q8", narrow),
        };
        let n_groups = bucket.div_ceil(most);
        let group = bucket.div_ceil(n_groups);
        let most_workers = (device.n_processors * BLOCKS).div_ceil(n_groups);
        let tiles = n_rows.div_ceil(u64::from(TILE));
        let per_chunk = tiles.div_ceil(u64::from(most_workers * CHUNKS));
        let chunk_rows = (per_chunk * u64::from(TILE)).clamp(TILE.into(), CHUNK_ROWS.into());
        let n_workers = n_rows.div_ceil(chunk_rows).clamp(1, most_workers.into());
        Self {
            variant,
            group,
            n_groups,
            capacity,
            shared_bytes: fixed + group * capacity * 8,
            n_workers: n_workers as u32,
            chunk_rows: chunk_rows as u32,
        }
    }
}

pub(super) fn run(
    call: Call<'_>,
    queries: &Rows,
    rows: &Resident,
    allow: Allow<'_>,
    k: usize,
) -> Result<Vec<Vec<Neighbor>>> {
    let n_rows = rows.host().n_rows() as u32;
    let whole = 0..n_rows;
    let ranges = match allow {
        Allow::Ranges(ranges) => ranges,
        _ => std::slice::from_ref(&whole),
    };
    let n_allowed = allow.count(n_rows);
    if n_allowed == 0 {
        return Ok(vec![Vec::new(); queries.n_rows()]);
    }
    let words = match allow {
        Allow::Bits(bits) => Some(call.memory.place(call.stream, bits.words())?),
        _ => None,
    };
    let mut out = Vec::with_capacity(queries.n_rows());
    for first in (0..queries.n_rows()).step_by(BATCH) {
        let part = queries.slice(first..queries.n_rows().min(first + BATCH));
        let scan = Scan { call, rows, words: words.as_ref(), ranges, k: k as u32 };
        out.extend(scan.batch(&part)?);
    }
    let is_wrong = |one: &&Neighbor| one.slot >= n_rows || !allow.contains(one.slot);
    match out.iter().flatten().find(is_wrong) {
        Some(one) => {
            Err(failed(format!("flat_scan: slot {} of {n_rows} is not allowed", one.slot)))
        }
        None => Ok(out),
    }
}

/// Parts of ranges: every `skip`-th piece of `piece` rows.
fn chunks(ranges: &[Range<u32>], piece: u32, skip: u32) -> Vec<[u32; 2]> {
    let step = piece as usize * skip as usize;
    let cut = |range: &Range<u32>| {
        let end = range.end;
        range.clone().step_by(step).map(move |first| [first, first + piece.min(end - first)])
    };
    ranges.iter().flat_map(cut).collect()
}

struct Scan<'a> {
    call: Call<'a>,
    rows: &'a Resident,
    words: Option<&'a Buffer>,
    ranges: &'a [Range<u32>],
    k: u32,
}

impl Scan<'_> {
    fn batch(&self, queries: &Rows) -> Result<Vec<Vec<Neighbor>>> {
        let (memory, stream, k) = (self.call.memory, self.call.stream, self.k as usize);
        let device = self.call.rows(self.rows)?;
        let layout = Layout::of_rows(self.rows.host(), self.rows.metric()).of_queries();
        let placed = self.call.place_queries(queries, layout)?;
        let n_rows: u64 = self.ranges.iter().map(|range| range.len() as u64).sum();
        let bucket = queries.n_rows().next_power_of_two();
        let facts = self.call.launcher().facts();
        let plan = Plan::new(self.rows, bucket as u32, self.k, n_rows, facts);
        let pieces = memory.place(stream, &chunks(self.ranges, plan.chunk_rows, 1))?;
        let take = |n: usize, bytes: usize| memory.take(stream, (n * bytes) as u64);
        let lists = bucket * plan.n_workers as usize;
        let (partial, partial_counts) = (take(lists * k, 8)?, take(lists, 4)?);
        let (bounds, done) = (take(bucket, 8)?, take(plan.n_groups as usize, 4)?);
        let (out, out_counts) = (take(bucket * k, 8)?, take(bucket, 4)?);
        let n_queries = memory.place(stream, &[queries.n_rows() as u32])?;
        let args = Args {
            rows: device.rows(),
            row_factors: device.factors(),
            queries: placed.rows(),
            query_factors: placed.factors(),
            n_queries: n_queries.address(),
            allow: self.words.map_or(0, Buffer::address),
            chunks: pieces.address(),
            bounds: bounds.address(),
            partial: partial.address(),
            partial_counts: partial_counts.address(),
            done: done.address(),
            out: out.address(),
            out_counts: out_counts.address(),
            stride: device.stride(),
            query_stride: placed.stride(),
            n_rows: self.rows.host().n_rows() as u32,
            n_chunks: (pieces.n_bytes() / 8) as u32,
            k: self.k,
            capacity: plan.capacity,
            group: plan.group,
            unused: 0,
        };
        let mut steps =
            vec![Step::Fill { address: bounds.address(), byte: 0xff, n_bytes: bounds.n_bytes() }];
        let sample = self.sample(n_rows)?;
        if let Some(sample) = &sample {
            let n_chunks = (sample.n_bytes() / 8) as u32;
            let args = Args { chunks: sample.address(), n_chunks, ..args };
            steps.push(self.launch(plan, &args));
        }
        steps.push(self.launch(plan, &args));
        self.call.launcher().run(stream, &steps)?;
        let counts = out_counts.read::<u32>(stream, queries.n_rows())?;
        let keys = out.read::<u64>(stream, queries.n_rows() * k)?;
        let list = |(keys, &n): (&[u64], &u32)| {
            let held = keys.get(..n as usize);
            let list = held.map(|keys| keys.iter().map(|&key| neighbor(key)).collect());
            list.ok_or_else(|| failed(format!("flat_scan: {n} neighbors of {k}")))
        };
        keys.chunks(k).zip(&counts).map(list).collect()
    }

    /// Tiles whose k-th distance bounds the scan. With a filter they may hold fewer than k rows: then nothing is bounded.
    fn sample(&self, n_rows: u64) -> Result<Option<Buffer>> {
        let is_worth = n_rows >= SAMPLE_FROM.max(u64::from(self.k * SAMPLE_SHARE * 2));
        let sample = || {
            let tiles = chunks(self.ranges, TILE, SAMPLE_SHARE);
            self.call.memory.place(self.call.stream, &tiles)
        };
        is_worth.then(sample).transpose()
    }

    fn launch(&self, plan: Plan, args: &Args) -> Step {
        let name = format!("{}_{}", kernel("flat_scan", self.rows), plan.variant);
        let grid = [plan.n_groups, plan.n_workers, 1];
        Step::Launch(Launch::new(name, grid, TILE, plan.shared_bytes, args))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_ranges_and_samples_take_some() {
        assert_eq!(
            chunks(&[3..300, 400..401], 128, 1),
            [[3, 131], [131, 259], [259, 300], [400, 401]]
        );
        assert_eq!(chunks(&[0..1000, 2000..2100], 128, 4), [[0, 128], [512, 640], [2000, 2100]]);
        assert!(chunks(&[5..5, 6..6], 128, 1).is_empty());
    }
}
