//! Operation `rabitq_scan`: lists of codes to the rows that may be among the k nearest, with their bounds.
//!
//! A first launch finds the k-th least upper bound, a second one the rows whose lower bound does not exceed it. Both look
//! at all four bits only of rows that the one-bit code does not rule out. The last word is spoken here, as the
//! specification says it.

use std::sync::Arc;

use crate::backend::RabitqScan;
use crate::backend::codes::{EXTRA_PLANES, Planes, RabitqCodes, RabitqQuery, Survivor};
use crate::backend::resident::ResidentCodes;
use crate::backend::wgpu::device::{Call, Gpu, Launch};
use crate::backend::wgpu::pipeline::Binding::{Params, Read, Write};
use crate::backend::wgpu::pipeline::{
    MACS_PER_LAUNCH, Pipeline, ROWS_PER_ITEM, Shader, Variant, key_of,
};
use crate::backend::wgpu::resident::{
    block_bytes, chunks_of, elsewhere, mask, place_blocks, shard_ranges,
};
use crate::core::allow::Allow;
use crate::error::Result;

const TEXT: &str = include_str!("../../../shaders/rabitq_scan.wgsl");
pub(super) const BOUND: Shader = Shader {
    entry: "bound",
    text: TEXT,
    bindings: &[Params, Read, Read, Read, Read, Read, Write, Write, Read],
};
pub(super) const SURVIVORS: Shader = Shader {
    entry: "survivors",
    text: TEXT,
    bindings: &[Params, Read, Read, Read, Read, Read, Write, Write, Read],
};

/// Words of factors per row.
const FACTORS: usize = 6;
/// Planes of a query: four for the sign plane, eight for all.
const QUERY_PLANES: usize = 12;
/// Chunks of numbers after the planes of a query.
const QUERY_NUMBERS: usize = 3;
/// Words that the workgroups of one launch may write: 4 MiB.
const WORDS_PER_LAUNCH: usize = 1 << 20;
/// Bytes of queries that are placed at once.
const QUERY_BYTES: u64 = 64 << 20;

struct Shard {
    first: u32,
    n_rows: u32,
    signs: wgpu::Buffer,
    extra: wgpu::Buffer,
    factors: wgpu::Buffer,
}

/// Codes on the device.
pub(super) struct DeviceCodes {
    gpu: Arc<Gpu>,
    /// Chunks of one plane of a row.
    chunks: u32,
    shards: Vec<Shard>,
}

fn put(out: &mut [u32], words: &[u64]) {
    for (out, word) in out.chunks_exact_mut(2).zip(words) {
        (out[0], out[1]) = (*word as u32, (*word >> 32) as u32);
    }
}

/// Bytes that codes take on the device.
pub(super) fn device_bytes(codes: &RabitqCodes) -> u64 {
    let chunks = chunks_of(codes.n_words * 8);
    let planes = block_bytes(codes.n_rows, chunks * (1 + EXTRA_PLANES as u32));
    planes + (codes.n_rows * FACTORS * 4) as u64
}

/// Places codes.
pub(super) fn place(gpu: &Arc<Gpu>, call: &Call<'_>, codes: &RabitqCodes) -> Result<DeviceCodes> {
    let (n, chunks) = (codes.n_words, chunks_of(codes.n_words * 8));
    let extra_chunks = chunks * EXTRA_PLANES as u32;
    let signs = |row: usize, out: &mut [u32]| put(out, &codes.signs[row * n..(row + 1) * n]);
    let extra = |row: usize, out: &mut [u32]| {
        let planes = codes.extra[row * n * EXTRA_PLANES..].chunks_exact(n);
        out.chunks_exact_mut(chunks as usize * 4).zip(planes).for_each(|(out, p)| put(out, p));
    };
    let shards = shard_ranges(call, codes.n_rows, u64::from(extra_chunks) * 16)?
        .into_iter()
        .map(|range| {
            let factors: Vec<u32> = range
                .clone()
                .flat_map(|row| [codes.coarse[row as usize], codes.fine[row as usize]])
                .flat_map(|f| [f.add, f.rescale, f.err].map(f32::to_bits))
                .collect();
            Ok(Shard {
                first: range.start,
                n_rows: range.end - range.start,
                signs: place_blocks(call, "sign planes", range.clone(), chunks, signs)?,
                extra: place_blocks(call, "extra planes", range, extra_chunks, extra)?,
                factors: call.upload("factors", &factors)?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(DeviceCodes { gpu: Arc::clone(gpu), chunks, shards })
}

/// Rows of one list in one shard; what a workgroup looks at once it is cut.
#[derive(Clone, Copy)]
struct Item {
    scan: u32,
    /// Number among the placed queries.
    query: u32,
    first: u32,
    end: u32,
}

fn words_of(items: &[Item]) -> Vec<u32> {
    items.iter().flat_map(|item| [item.scan, item.query, item.first, item.end]).collect()
}

struct Pass<'a> {
    call: &'a Call<'a>,
    codes: &'a DeviceCodes,
    scans: &'a [RabitqScan<'a>],
    allow: Allow<'a>,
    /// One key per scan.
    bounds: wgpu::Buffer,
}

/// Survivors of every scan, by slot.
pub(super) fn rabitq_scan(
    gpu: &Arc<Gpu>,
    call: &Call<'_>,
    scans: &[RabitqScan<'_>],
    codes: &ResidentCodes,
    allow: Allow<'_>,
) -> Result<Vec<Vec<Survivor>>> {
    let held = codes
        .device::<DeviceCodes>()
        .filter(|held| Arc::ptr_eq(&held.gpu, gpu))
        .ok_or_else(|| elsewhere(gpu))?;
    let mut limits: Vec<u32> = scans.iter().map(|scan| key_of(scan.bound)).collect();
    let bounds = call.upload("bounds", &limits)?;
    let mut pass = Pass { call, codes: held, scans, allow, bounds };
    let mut uppers = vec![Vec::new(); scans.len()];
    pass.each_shard(|pass, placed| pass.find_bounds(placed, &mut uppers))?;
    for ((limit, uppers), scan) in limits.iter_mut().zip(&mut uppers).zip(scans) {
        uppers.sort_unstable();
        *limit = uppers.get(scan.k - 1).map_or(*limit, |&key| key.min(*limit));
    }
    pass.bounds = call.upload("bounds", &limits)?;
    let mut out = vec![Vec::new(); scans.len()];
    pass.each_shard(|pass, placed| pass.find_survivors(placed, &mut out))?;
    for (survivors, scan) in out.iter_mut().zip(scans) {
        keep(survivors, scan);
    }
    Ok(out)
}

/// What `plain.rs` says of the bound.
fn keep(survivors: &mut Vec<Survivor>, scan: &RabitqScan<'_>) {
    let mut uppers: Vec<f32> = survivors.iter().map(|one| one.upper).collect();
    uppers.sort_unstable_by(f32::total_cmp);
    let bound = uppers.get(scan.k - 1).map_or(scan.bound, |&upper| upper.min(scan.bound));
    survivors.retain(|one| one.lower <= bound);
    survivors.sort_unstable_by_key(|one| one.slot);
}

/// What the launches on one shard share.
struct Placed<'a> {
    shard: &'a Shard,
    queries: &'a wgpu::Buffer,
    mask: wgpu::Buffer,
    is_masked: bool,
    items: Vec<Item>,
}

impl Pass<'_> {
    fn query_words(&self) -> usize {
        (QUERY_PLANES * self.codes.chunks as usize + QUERY_NUMBERS) * 4
    }

    fn write_query(&self, query: &RabitqQuery, out: &mut [u32]) {
        let plane = self.codes.chunks as usize * 4;
        let (planes, numbers) = out.split_at_mut(QUERY_PLANES * plane);
        let n_words = query.coarse.words.len() / query.coarse.n_planes;
        let words = query.coarse.words.chunks_exact(n_words);
        let words = words.chain(query.fine.words.chunks_exact(n_words));
        planes.chunks_exact_mut(plane).zip(words).for_each(|(out, words)| put(out, words));
        let grid = |planes: &Planes| [planes.lo, planes.step, planes.sum];
        let (coarse, fine) = (grid(&query.coarse), grid(&query.fine));
        numbers[..3].copy_from_slice(&coarse.map(f32::to_bits));
        numbers[3] = query.add.to_bits();
        numbers[4..7].copy_from_slice(&fine.map(f32::to_bits));
        numbers[7] = query.coarse_err.to_bits();
        numbers[8] = query.fine_err.to_bits();
    }

    /// Places some queries at a time, and calls `work` for each shard that their lists touch.
    fn each_shard(&self, mut work: impl FnMut(&Self, &Placed<'_>) -> Result<()>) -> Result<()> {
        let lists: Vec<_> = (0..)
            .zip(self.scans)
            .flat_map(|(scan, one)| one.lists.iter().map(move |list| (scan, list)))
            .filter(|(_, (range, _))| !range.is_empty())
            .collect();
        let n_words = self.query_words();
        let limit = self.call.gpu.shard_bytes.min(QUERY_BYTES);
        for part in lists.chunks((limit / (n_words as u64 * 4)).max(1) as usize) {
            let mut words = vec![0; part.len() * n_words];
            for (out, (_, (_, query))) in words.chunks_exact_mut(n_words).zip(part) {
                self.write_query(query, out);
            }
            let queries = &self.call.upload("queries", &words)?;
            for shard in &self.codes.shards {
                let mut items = Vec::new();
                for (query, (scan, (range, _))) in (0..).zip(part) {
                    let local = |slot: u32| slot.saturating_sub(shard.first).min(shard.n_rows);
                    let (start, end) = (local(range.start), local(range.end));
                    for first in (start..end).step_by(ROWS_PER_ITEM as usize) {
                        let end = end.min(first.saturating_add(ROWS_PER_ITEM));
                        items.push(Item { scan: *scan, query, first, end });
                    }
                }
                let bits = mask(self.allow, shard.first..shard.first + shard.n_rows);
                let is_masked = bits.is_some();
                if items.is_empty() || bits.as_ref().is_some_and(|w| w.iter().all(|&w| w == 0)) {
                    continue;
                }
                let mask = self.call.upload("allowed rows", bits.as_deref().unwrap_or(&[]))?;
                work(self, &Placed { shard, queries, mask, is_masked, items })?;
            }
        }
        Ok(())
    }

    /// Items of one launch: an item is 1,024 rows of up to 48 popcounts per chunk.
    fn per_launch(&self) -> usize {
        let per_item = u64::from(ROWS_PER_ITEM) * u64::from(self.codes.chunks) * 48;
        (MACS_PER_LAUNCH / per_item).clamp(1, 65_535) as usize
    }

    fn launch(
        &self,
        placed: &Placed<'_>,
        pipeline: &Pipeline,
        items: &[Item],
        (k, places): (usize, u32),
        result: &wgpu::Buffer,
    ) -> Result<()> {
        let listed = self.call.upload("items", &words_of(items))?;
        let shard = placed.shard;
        self.call.run(&Launch {
            pipeline,
            params: &[self.codes.chunks, k as u32, u32::from(placed.is_masked), places],
            buffers: &[
                &shard.signs,
                &shard.factors,
                placed.queries,
                &listed,
                &placed.mask,
                &self.bounds,
                result,
                &shard.extra,
            ],
            groups: [items.len() as u32, 1],
        })
    }

    /// Adds the keys of upper bounds that may be among the k least of their scan.
    fn find_bounds(&self, placed: &Placed<'_>, uppers: &mut [Vec<u32>]) -> Result<()> {
        let variant =
            Variant::new(&BOUND, &["lists", "selection", "bound"]).with_subgroups(self.call);
        let pipeline = self.call.gpu.pipelines.get(self.call, variant)?;
        // All scans of a launch keep as many as the one that asks for most.
        let k = self.scans.iter().map(|scan| scan.k).max().unwrap_or(1);
        let cell = 1 + k;
        let step = self.per_launch().min(WORDS_PER_LAUNCH / cell).max(1);
        for items in placed.items.chunks(step) {
            let n_words = (items.len() * cell) as u64;
            let result = self.call.buffer("upper bounds", n_words * 4)?;
            self.launch(placed, &pipeline, items, (k, 0), &result)?;
            let words = self.call.read(&result, n_words)?;
            for (item, cell) in items.iter().zip(words.chunks_exact(cell)) {
                if cell[0] as usize > k {
                    let message = format!("{} bounds of a workgroup, {k} asked", cell[0]);
                    return Err(self.call.error("gpu_result_invalid", message));
                }
                uppers[item.scan as usize].extend(&cell[1..=cell[0] as usize]);
            }
        }
        Ok(())
    }

    fn find_survivors(&self, placed: &Placed<'_>, out: &mut [Vec<Survivor>]) -> Result<()> {
        let variant = Variant::new(&SURVIVORS, &["lists", "survivors"]).with_subgroups(self.call);
        let pipeline = self.call.gpu.pipelines.get(self.call, variant)?;
        let places = self.call.gpu.n_places.max(1);
        let mut open: Vec<Vec<Item>> =
            placed.items.chunks(self.per_launch()).map(<[Item]>::to_vec).collect();
        while let Some(items) = open.pop() {
            let result = self.call.buffer("survivors", 4 + 20 * u64::from(places))?;
            self.launch(placed, &pipeline, &items, (0, places), &result)?;
            let n = self.call.read(&result, 1)?[0];
            if n > places {
                open.extend(halves(&items).ok_or_else(|| {
                    let message = format!("{n} survivors of one row");
                    self.call.error("gpu_result_invalid", message)
                })?);
            } else if n > 0 {
                let words = self.call.read(&result, 1 + 5 * u64::from(n))?;
                self.take(&words[1..], placed.shard, &items, out)?;
            }
        }
        Ok(())
    }

    fn take(
        &self,
        words: &[u32],
        shard: &Shard,
        items: &[Item],
        out: &mut [Vec<Survivor>],
    ) -> Result<()> {
        for found in words.chunks_exact(5) {
            let [estimate, lower, upper] = [found[2], found[3], found[4]].map(f32::from_bits);
            let slot = shard.first + found[1].min(shard.n_rows);
            let survivor = Survivor { slot, estimate, lower, upper };
            let item = items
                .get(found[0] as usize)
                .filter(|item| (item.first..item.end).contains(&found[1]))
                .filter(|_| self.allow.contains(slot))
                .filter(|_| !(estimate.is_nan() || lower.is_nan() || upper.is_nan()));
            match item {
                Some(item) => out[item.scan as usize].push(survivor),
                None => {
                    let message = format!("{survivor:?} of item {}", found[0]);
                    return Err(self.call.error("gpu_result_invalid", message));
                }
            }
        }
        Ok(())
    }
}

/// The items in halves; a single one is cut across its rows, and `None` is left of a single row.
fn halves(items: &[Item]) -> Option<[Vec<Item>; 2]> {
    if let [item] = items {
        let middle = item.first + (item.end - item.first) / 2;
        let halves = [Item { end: middle, ..*item }, Item { first: middle, ..*item }];
        return (middle > item.first).then(|| halves.map(|half| vec![half]));
    }
    let (left, right) = items.split_at(items.len() / 2);
    Some([left.to_vec(), right.to_vec()])
}
