//! Many queries at once: the codes of some rows are taken together, and compared with every query that comes to them, as in
//! a matrix product. Each query finds what it would find among any others.
//!
//! Paper: HQI, arXiv 2304.01926, section on batches. Where we differ: codes are compared in place of rows.

use crate::distance::simd::coded_tile::{QUERIES, RowTile, TileEstimates};
use crate::error::{Error, Result};
use crate::index::graph::codes::{CodeQuery, Codes};
use crate::index::graph::distances::Distances;
use crate::index::graph::raw::{RawQuery, RawRows};
use crate::index::tree::nearest::Nearest;
use crate::index::tree::scan::{DistanceScan, Scan};
use crate::index::tree::search::{Found, Touched};

/// Rows of a tile: with 384 elements it fills half of a first-level cache, and a block of queries fits beside it.
const TILE: usize = 128;

/// Bytes of codes that all queries go over before the next: half of a second-level cache.
const BLOCK_BYTES: usize = 1 << 20;

/// Rows that a query takes at once of a block.
const STEP: usize = 64;

/// One of many queries.
pub struct Member {
    by_code: CodeQuery,
    by_row: RawQuery,
    k: usize,
    n_rerank: usize,
    nearest: Nearest,
    touched: Touched,
}

impl Member {
    /// A query for the `k` nearest, of which the `n_rerank` nearest by codes, no fewer than `k`, are compared raw.
    pub fn new((by_code, by_row): (CodeQuery, RawQuery), k: usize, n_rerank: usize) -> Self {
        let (nearest, touched) = (Nearest::default(), Touched::default());
        Self { by_code, by_row, k, n_rerank, nearest, touched }
    }
}

/// What many queries need and the next ones reuse.
#[derive(Debug, Default)]
pub struct Tiles {
    tile: RowTile,
    estimates: TileEstimates,
    slots: Vec<u32>,
    distances: Vec<f32>,
    verdict: Nearest,
}

/// The `k` nearest rows of a run for every query: all by their codes, the `n_rerank` nearest by these raw. As
/// [`flat_reranked`](super::flat_reranked) for each.
///
/// # Errors
/// `slot_range` if codes or rows do not cover the run.
pub fn flat_together(
    run: &[u32],
    codes: &Codes,
    raw: &RawRows<'_>,
    members: &mut [Member],
    tiles: &mut Tiles,
) -> Result<Vec<Found>> {
    check_slots(codes, run)?;
    compare_all(run, codes, members, tiles);
    members.iter_mut().map(|member| member.verdict(run, raw, tiles)).collect()
}

/// As [`flat_together`], with a run for every query, ascending: all go over a block of codes before the next is touched, which
/// then comes from memory once.
///
/// # Errors
/// As there.
pub fn flat_in_blocks(
    runs: &[&[u32]],
    codes: &Codes,
    raw: &RawRows<'_>,
    members: &mut [Member],
    tiles: &mut Tiles,
) -> Result<Vec<Found>> {
    assert_eq!(runs.len(), members.len(), "a run for every query");
    members.iter_mut().for_each(Member::start_all);
    check_slots(codes, &runs.iter().filter_map(|run| run.last().copied()).collect::<Vec<u32>>())?;
    let block = (BLOCK_BYTES / codes.row_bytes()).max(1);
    let mut left: Vec<&[u32]> = runs.to_vec();
    for start in (0..codes.n_slots()).step_by(block) {
        for (member, left) in members.iter_mut().zip(&mut left) {
            // Some rows of the next block come early: to look for the border would take longer.
            while left.first().is_some_and(|&slot| (slot as usize) < start + block) {
                let (slots, later) = left.split_at(left.len().min(STEP));
                member.take_codes(slots, codes, tiles)?;
                *left = later;
            }
        }
    }
    let all = members.iter_mut().zip(runs);
    all.map(|(member, run)| member.verdict(run, raw, tiles)).collect()
}

/// Leaves in all members the nearest of a run by code.
///
/// # Panics
/// If codes do not cover the run.
pub fn compare_all(run: &[u32], codes: &Codes, members: &mut [Member], tiles: &mut Tiles) {
    members.iter_mut().for_each(Member::start_all);
    let mut next = run.chunks(TILE).skip(1);
    for slots in run.chunks(TILE) {
        codes.load(slots, &mut tiles.tile);
        next.next().unwrap_or_default().iter().for_each(|&slot| codes.prefetch(slot));
        members.chunks_mut(QUERIES).for_each(|members| tiles.compare(slots, codes, members));
    }
    members.iter_mut().for_each(|member| member.touched.n_rows = run.len() as u64);
}

fn check_slots(codes: &Codes, run: &[u32]) -> Result<()> {
    let last = run.iter().fold(0, |last, &slot| last.max(slot)) as usize;
    if run.is_empty() || last < codes.n_slots() {
        return Ok(());
    }
    Err(Error::usage("slot_range", format!("{last} of {} rows", codes.n_slots())))
}

impl Member {
    /// Before all codes of a run.
    fn start_all(&mut self) {
        self.nearest.reset(self.n_rerank);
        self.touched = Touched { n_lists: 1, ..Touched::default() };
    }

    /// Takes the nearest of some slots by their codes, for this query alone.
    fn take_codes(&mut self, slots: &[u32], codes: &Codes, tiles: &mut Tiles) -> Result<()> {
        DistanceScan::new(codes, &self.by_code).distances(slots, &mut tiles.distances)?;
        self.nearest.take(slots, &tiles.distances);
        self.touched.n_rows += slots.len() as u64;
        Ok(())
    }

    /// The `k` nearest of a run whose codes were all compared. No more than `n_rerank` rows are compared raw alone.
    fn verdict(&mut self, run: &[u32], raw: &RawRows<'_>, tiles: &mut Tiles) -> Result<Found> {
        if run.len() <= self.n_rerank {
            self.touched = Touched { n_rows: run.len() as u64, n_lists: 1, ..Touched::default() };
            return self.all_raw(run, raw, tiles);
        }
        let best = self.nearest.nearest(self.n_rerank);
        let slots: Vec<u32> = best.iter().map(|near| near.slot).collect();
        self.touched.n_reranked = slots.len() as u64;
        self.all_raw(&slots, raw, tiles)
    }

    /// The `k` nearest of these rows, compared raw.
    fn all_raw(&mut self, slots: &[u32], raw: &RawRows<'_>, tiles: &mut Tiles) -> Result<Found> {
        DistanceScan::new(raw, &self.by_row).distances(slots, &mut tiles.distances)?;
        tiles.verdict.reset(self.k);
        tiles.verdict.take(slots, &tiles.distances);
        Ok(Found { neighbors: tiles.verdict.sorted(self.k), touched: self.touched })
    }
}

impl Tiles {
    /// Compares the rows of the tile with a few queries, which take those that are near.
    fn compare(&mut self, slots: &[u32], codes: &Codes, members: &mut [Member]) {
        let of = |i: usize| &members[i.min(members.len() - 1)];
        let queries: [_; QUERIES] = std::array::from_fn(|i| of(i).by_code.coded());
        let bounds: [f32; QUERIES] = std::array::from_fn(|i| of(i).nearest.bound());
        let n = members.len();
        codes.estimate(&self.tile, &queries[..n], &bounds[..n], &mut self.estimates);
        for (i, member) in members.iter_mut().enumerate() {
            let (estimates, near) = self.estimates.of(i);
            self.slots.clear();
            self.distances.clear();
            for (word, near) in near.iter().enumerate() {
                let mut left = near & rows_below(slots.len().saturating_sub(32 * word));
                while left != 0 {
                    let row = 32 * word + left.trailing_zeros() as usize;
                    self.slots.push(slots[row]);
                    self.distances.push(estimates[row]);
                    left &= left - 1;
                }
            }
            member.nearest.take(&self.slots, &self.distances);
        }
    }
}

/// A bit for each of the first `n` of 32 rows.
fn rows_below(n: usize) -> u32 {
    if n < 32 { (1 << n) - 1 } else { u32::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::metric::Metric;
    use crate::core::mix::stream;
    use crate::distance::simd::coded::Bits;
    use crate::index::tree::tests::{clustered, pool};
    use crate::index::tree::{Scratch, flat_reranked};

    const N: usize = 6000;
    const N_QUERIES: usize = 41;

    /// One in `share` rows.
    fn set(share: u64) -> Vec<u32> {
        (0..N as u32).filter(|&slot| stream(share, slot.into()).is_multiple_of(share)).collect()
    }

    #[test]
    fn together_and_in_blocks_each_query_finds_what_it_finds_alone() {
        for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
            let (rows, queries) = (clustered(N, 24, 5), clustered(N_QUERIES, 24, 9));
            let codes = Codes::of(&pool(2), metric, Bits::Four, &rows, 3).unwrap();
            let raw = RawRows::new(&rows, metric).unwrap();
            let ready =
                |q: usize| (codes.query(&queries, q).unwrap(), raw.query(&queries, q).unwrap());
            let member = |q| Member::new(ready(q), 10, 40);
            let (mut tiles, mut scratch) = (Tiles::default(), Scratch::default());
            let mut alone = |run: &[u32], q: usize| {
                let (by_code, by_row) = ready(q);
                let (codes, raw) = ((&codes, &by_code), (&raw, &by_row));
                flat_reranked(run, codes, raw, (10, 40), &mut scratch).unwrap().neighbors
            };
            let runs = [1, 7, 200, 1000].map(set);
            for run in &runs {
                let mut all: Vec<Member> = (0..N_QUERIES).map(member).collect();
                let found = flat_together(run, &codes, &raw, &mut all, &mut tiles).unwrap();
                for (q, found) in found.iter().enumerate() {
                    assert_eq!(found.neighbors, alone(run, q), "{metric}, {} rows", run.len());
                }
            }
            let own: Vec<&[u32]> = (0..N_QUERIES).map(|q| &runs[q % 4][..]).collect();
            let mut all: Vec<Member> = (0..N_QUERIES).map(member).collect();
            let found = flat_in_blocks(&own, &codes, &raw, &mut all, &mut tiles).unwrap();
            for (q, found) in found.iter().enumerate() {
                assert_eq!(found.neighbors, alone(own[q], q), "{metric}, {} rows", own[q].len());
            }
            let past = [N as u32];
            let error = flat_in_blocks(&[&past], &codes, &raw, &mut all[..1], &mut tiles);
            assert_eq!(error.unwrap_err().code(), "slot_range");
        }
    }
}
