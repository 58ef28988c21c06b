//! Operation `flat_scan`: the `k` nearest allowed rows of every query, in one pass over the rows.
//!
//! Few queries: each row is read once and meets every query by `simd/rows.rs`; memory-bound. More: blocks of rows meet panels of
//! queries in `tiles.rs`; arithmetic-bound. Threads take chunks of rows in ascending order, each with lists of its own,
//! merged at the end, so that the answer does not depend on their number.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::backend::cpu::line::{Line, Source};
use crate::backend::cpu::panels::Panels;
use crate::backend::cpu::tiles::{Sink, Tiles, rows_per_block};
use crate::core::allow::Allow;
use crate::core::neighbors::{Neighbor, merge};
use crate::distance::simd::{Kernels, STREAMS};

/// Batches up to this are bound by memory with one query at a time: of floats, and of bytes, which a tile must widen first (AMD
/// EPYC of family 25, AVX-512, 384 elements, 2026-11).
const FEW_QUERIES: [usize; 2] = [2, 4];

/// Rows that one query meets at a time: they stay in the first caches for the next query.
const RUN: usize = 64;

/// Rows that are taken in [`STREAMS`] streams: a quarter of it is long enough for the processor to learn.
const BLOCK: usize = 1024;

/// Most slots of a chunk: small enough to share out, large enough to fill blocks under a narrow filter.
const CHUNK: u32 = 1 << 16;

/// The `k` nearest of what was pushed in ascending order of slots: a buffer that is cut to `k` when it is full. Cheaper
/// than a heap, as most of what is pushed is never sorted.
struct Best {
    k: usize,
    buffer: Vec<Neighbor>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { k, buffer: Vec::with_capacity(Self::room(k)) }
    }

    fn room(k: usize) -> usize {
        2 * k + 14
    }

    /// Takes a neighbor; returns the new bound if there is one. Whatever is as far as the bound has a higher slot than
    /// the `k` that are held, so only what is nearer need be pushed.
    fn push(&mut self, neighbor: Neighbor) -> Option<f32> {
        self.buffer.push(neighbor);
        let is_full = self.buffer.len() == Self::room(self.k) || self.buffer.len() == self.k;
        is_full.then(|| {
            self.buffer.select_nth_unstable(self.k - 1);
            self.buffer.truncate(self.k);
            self.buffer[self.k - 1].distance
        })
    }

    fn into_sorted(mut self) -> Vec<Neighbor> {
        self.buffer.sort_unstable();
        self.buffer.truncate(self.k);
        self.buffer
    }
}

/// Lists of one thread, and their bounds.
struct Lists<'a> {
    slots: &'a [u32],
    bounds: &'a mut [f32],
    best: &'a mut [Best],
    row_bounds: &'a [f32],
}

impl Sink for Lists<'_> {
    fn query_bounds(&self) -> &[f32] {
        self.bounds
    }

    fn row_bounds(&self) -> &[f32] {
        self.row_bounds
    }

    fn take(&mut self, row: usize, query: usize, distance: f32) {
        let neighbor = Neighbor { slot: self.slots[row], distance };
        if let Some(bound) = self.best[query].push(neighbor) {
            self.bounds[query] = bound;
        }
    }
}

/// Calls `f` with the numbers below `n`, ascending, and the place of each where as many streams of equal length as there may be
/// are taken in turn.
fn in_streams(n: usize, mut f: impl FnMut(usize, usize)) {
    let len = n / STREAMS;
    for stream in 0..STREAMS {
        (0..len).for_each(|i| f(stream * len + i, i * STREAMS + stream));
    }
    (STREAMS * len..n).for_each(|i| f(i, i));
}

/// Slots of a chunk.
fn chunk(n_rows: u32, n_threads: usize) -> u32 {
    (n_rows / (8 * n_threads as u32)).next_multiple_of(384).clamp(384, CHUNK)
}

/// Calls `f` with the allowed slots of `range`, ascending.
fn each_allowed(allow: Allow<'_>, range: Range<u32>, mut f: impl FnMut(u32)) {
    match allow {
        Allow::All => range.for_each(f),
        Allow::Ranges(ranges) => {
            let first = ranges.partition_point(|one| one.end <= range.start);
            for one in ranges[first..].iter().take_while(|one| one.start < range.end) {
                (one.start.max(range.start)..one.end.min(range.end)).for_each(&mut f);
            }
        }
        Allow::Bits(bits) => {
            let mut at = range.start;
            while at < range.end {
                // The bits of this word from `at` on.
                let mut word = bits.words()[at as usize / 64] >> (at % 64) << (at % 64);
                let base = at / 64 * 64;
                while word != 0 {
                    let slot = base + word.trailing_zeros();
                    if slot >= range.end {
                        return;
                    }
                    f(slot);
                    word &= word - 1;
                }
                at = base.saturating_add(64);
            }
        }
    }
}

/// One scan, as every thread sees it.
struct Scan<'a> {
    kernels: &'a Kernels,
    queries: Source<'a>,
    rows: Source<'a>,
    allow: Allow<'a>,
    k: usize,
    panels: Option<Panels>,
    next: AtomicU32,
    chunk: u32,
}

impl Scan<'_> {
    /// Gives `run` full blocks of at most `most` allowed slots until no chunk is left.
    fn blocks(&self, most: usize, mut run: impl FnMut(&[u32])) {
        let n_rows = self.rows.host.n_rows() as u32;
        let mut block = Vec::with_capacity(most);
        loop {
            let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| {
                (at < n_rows).then(|| at.saturating_add(self.chunk))
            });
            let Ok(start) = taken else { break };
            let end = start.saturating_add(self.chunk).min(n_rows);
            each_allowed(self.allow, start..end, |slot| {
                block.push(slot);
                if block.len() == most {
                    run(&block);
                    block.clear();
                }
            });
        }
        run(&block);
    }

    fn tiled(&self, panels: &Panels) -> Vec<Vec<Neighbor>> {
        let most = rows_per_block(self.rows.host.dim());
        let mut best: Vec<Best> = (0..panels.n_queries).map(|_| Best::new(self.k)).collect();
        let mut bounds = vec![f32::INFINITY; panels.n_padded()];
        bounds[panels.n_queries..].fill(f32::NEG_INFINITY);
        let (mut tiles, row_bounds) = (Tiles::default(), vec![f32::INFINITY; most]);
        self.blocks(most, |slots| {
            let (bounds, best) = (&mut bounds[..], &mut best[..]);
            let mut lists = Lists { slots, bounds, best, row_bounds: &row_bounds };
            tiles.run(self.kernels, &self.rows, slots, panels, &mut lists);
        });
        best.into_iter().map(Best::into_sorted).collect()
    }

    fn one_by_one(&self) -> Vec<Vec<Neighbor>> {
        let n_queries = self.queries.host.n_rows();
        let mut lines: Vec<Line> = (0..n_queries).map(|q| Line::new(&self.queries, q)).collect();
        let mut best: Vec<(Best, f32)> =
            (0..n_queries).map(|_| (Best::new(self.k), f32::INFINITY)).collect();
        let (mut order, mut distances) = (vec![0; BLOCK], vec![[0.0; BLOCK]; n_queries]);
        self.blocks(BLOCK, |slots| {
            let order = &mut order[..slots.len()];
            in_streams(slots.len(), |i, place| order[place] = slots[i]);
            for (run, some) in order.chunks(RUN).enumerate() {
                for (line, distances) in lines.iter_mut().zip(&mut distances) {
                    let out = &mut distances[run * RUN..][..some.len()];
                    line.distances(self.kernels, &self.rows, some.iter().copied(), out);
                }
            }
            for (distances, (best, bound)) in distances.iter().zip(&mut best) {
                in_streams(slots.len(), |i, place| {
                    let (slot, distance) = (slots[i], distances[place]);
                    if distance < *bound {
                        *bound = best.push(Neighbor { slot, distance }).unwrap_or(*bound);
                    }
                });
            }
        });
        best.into_iter().map(|(best, _)| best.into_sorted()).collect()
    }
}

/// See [`crate::backend::Backend::flat_scan`]; shapes are checked.
pub fn run(
    kernels: &Kernels,
    pool: &ThreadPool,
    queries: Source<'_>,
    rows: Source<'_>,
    allow: Allow<'_>,
    k: usize,
) -> Vec<Vec<Neighbor>> {
    let n_queries = queries.host.n_rows();
    let many = n_queries > FEW_QUERIES[usize::from(rows.host.dtype().is_integer())];
    let panels = many.then(|| Panels::new(kernels, &queries, 0..n_queries));
    let n_threads = pool.current_num_threads();
    let chunk = chunk(rows.host.n_rows() as u32, n_threads);
    let next = AtomicU32::new(0);
    let scan = Scan { kernels, queries, rows, allow, k, panels, next, chunk };
    let one = || match &scan.panels {
        Some(panels) => scan.tiled(panels),
        None => scan.one_by_one(),
    };
    if n_threads == 1 {
        return one();
    }
    let lists: Vec<Vec<Vec<Neighbor>>> =
        pool.install(|| (0..n_threads).into_par_iter().map(|_| one()).collect());
    let of_query = |q: usize| lists.iter().map(|list| list[q].clone()).collect::<Vec<_>>();
    (0..n_queries).map(|q| merge(&of_query(q), k)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::bits::Bits;
    use crate::core::mix::stream;

    #[test]
    fn the_nearest_are_kept_with_ties_to_the_lesser_slot() {
        for k in [1, 2, 3, 10, 50, 200] {
            let mut best = Best::new(k);
            let mut bound = f32::INFINITY;
            let all: Vec<Neighbor> = (0..150)
                .map(|i| Neighbor { slot: i, distance: (stream(3, u64::from(i)) % 7) as f32 })
                .collect();
            for &neighbor in all.iter().filter(|_| true) {
                if neighbor.distance < bound {
                    bound = best.push(neighbor).unwrap_or(bound);
                }
            }
            let mut sorted = all;
            sorted.sort();
            sorted.truncate(k);
            assert_eq!(best.into_sorted(), sorted, "k {k}");
        }
    }

    #[test]
    fn streams_hold_every_number_once_in_order() {
        for n in [0, 1, 3, 4, 5, 63, 1024] {
            let mut places = vec![0; n];
            let mut next = 0;
            in_streams(n, |i, place| {
                assert_eq!(i, next);
                next += 1;
                places[place] += 1;
            });
            assert!(next == n && places.iter().all(|&times| times == 1), "{n}");
        }
    }

    #[test]
    fn allowed_slots_of_any_piece_are_those_of_the_set() {
        let mut bits = Bits::new(300);
        (0..300)
            .filter(|&i| stream(5, u64::from(i)).is_multiple_of(3))
            .for_each(|i| bits.insert(i));
        let ranges = [2..5, 5..5, 64..130, 200..300];
        for allow in [Allow::All, Allow::Bits(&bits), Allow::Ranges(&ranges)] {
            for (start, end) in
                [(0, 300), (0, 0), (1, 64), (63, 129), (64, 128), (70, 71), (250, 300)]
            {
                let mut found = Vec::new();
                each_allowed(allow, start..end, |slot| found.push(slot));
                let wanted: Vec<u32> = (start..end).filter(|&slot| allow.contains(slot)).collect();
                assert_eq!(found, wanted, "{start}..{end}");
            }
        }
    }
}
