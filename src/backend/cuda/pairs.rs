//! Operation `pairs`: all pairs of the tiles within a distance.
//!
//! Tiles are cut on one grid of whole blocks, so that the mirror of a block of a self-join is seen and left out. A launch
//! that finds more pairs than there is room for is done again in halves: nothing is lost, and one block always fits.

use std::collections::HashSet;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::launcher::{Launch, failed};
use super::{Call, TILE_SIDE, TILE_THREADS, kernel, tile_bytes};
use crate::backend::resident::Resident;
use crate::backend::{Pair, Tile};
use crate::core::metric::Metric;
use crate::error::Result;

/// `TENSOR_SIDE` and `TENSOR_STAGES` of `pairs.cu`.
pub(super) const TENSOR_SIDE: u32 = 128;
pub(super) const TENSOR_STAGES: u32 = 2;

/// Blocks of one launch: 65,536 blocks of 128 x 128 rows of 768 bytes take a card some milliseconds.
const BLOCKS_PER_LAUNCH: usize = 1 << 16;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Args {
    a: u64,
    a_factors: u64,
    b: u64,
    b_factors: u64,
    tiles: u64,
    out: u64,
    found: u64,
    stride: u32,
    capacity: u32,
    is_self: u32,
    within: f32,
}

/// First and last row of both sides, inclusive.
type Block = [u32; 4];

struct Join<'a> {
    call: Call<'a>,
    a: &'a Resident,
    b: &'a Resident,
    is_self: bool,
    within: f32,
    side: u32,
    shared_bytes: u32,
}

pub(super) fn run(
    call: Call<'_>,
    a: &Resident,
    b: Option<&Resident>,
    tiles: &[Tile],
    within: f32,
) -> Result<Vec<Pair>> {
    let is_tensor = a.host().dtype().is_integer() && a.metric() != Metric::L1;
    let (side, shared_bytes) = if is_tensor {
        (TENSOR_SIDE, TENSOR_STAGES * 2 * TENSOR_SIDE * (super::rows::SEGMENT + super::rows::PAD))
    } else {
        (TILE_SIDE, tile_bytes(super::rows::SEGMENT))
    };
    let is_self = b.is_none();
    let join = Join { call, a, b: b.unwrap_or(a), is_self, within, side, shared_bytes };
    let blocks = blocks(tiles, side, is_self);
    let mut pairs = Vec::new();
    for part in blocks.chunks(BLOCKS_PER_LAUNCH) {
        join.some(part, &mut pairs)?;
    }
    pairs.sort_unstable_by_key(|pair| (pair.a, pair.b));
    pairs.dedup_by_key(|pair| (pair.a, pair.b));
    Ok(pairs)
}

/// The parts of a range on a grid of `side`.
fn cuts(range: &Range<u32>, side: u32) -> impl Iterator<Item = (u32, u32)> + Clone + use<> {
    let (start, end) = (range.start, range.end);
    let cells = if start < end { start / side..(end - 1) / side + 1 } else { 0..0 };
    cells.map(move |cell| {
        let past = (u64::from(cell) + 1) * u64::from(side);
        (start.max(cell * side), (u64::from(end).min(past) - 1) as u32)
    })
}

fn blocks(tiles: &[Tile], side: u32, is_self: bool) -> Vec<Block> {
    let (mut blocks, mut seen) = (Vec::new(), HashSet::new());
    for tile in tiles {
        for (a, a_last) in cuts(&tile.a, side) {
            for (b, b_last) in cuts(&tile.b, side) {
                let block = [a, a_last, b, b_last];
                let is_new = !is_self || !seen.contains(&[b, b_last, a, a_last]);
                if is_new && (!is_self || seen.insert(block)) {
                    blocks.push(block);
                }
            }
        }
    }
    blocks
}

impl Join<'_> {
    /// Appends the pairs of some blocks; in halves when they are too many.
    fn some(&self, blocks: &[Block], pairs: &mut Vec<Pair>) -> Result<()> {
        let capacity = self.call.options.pair_capacity.max(TENSOR_SIDE * TENSOR_SIDE);
        let (stream, memory) = (self.call.stream, self.call.memory);
        let (a, b) = (self.call.rows(self.a)?, self.call.rows(self.b)?);
        let tiles = memory.place(stream, blocks)?;
        // No more can be found than the blocks hold.
        let most = blocks.len() as u64 * u64::from(self.side) * u64::from(self.side);
        let capacity = most.min(u64::from(capacity)) as u32;
        let out = memory.take(stream, u64::from(capacity) * 12)?;
        let found = memory.take(stream, 4)?;
        let args = Args {
            a: a.rows(),
            a_factors: a.factors(),
            b: b.rows(),
            b_factors: b.factors(),
            tiles: tiles.address(),
            out: out.address(),
            found: found.address(),
            stride: a.stride(),
            capacity,
            is_self: u32::from(self.is_self),
            within: self.within,
        };
        let grid = [blocks.len() as u32, 1, 1];
        let launch =
            Launch::new(kernel("pairs", self.a), grid, TILE_THREADS, self.shared_bytes, &args);
        self.call.launcher().launch(stream, &launch)?;
        let n = found.read::<u32>(stream, 1)?[0];
        if n > capacity {
            drop((tiles, out, found));
            if blocks.len() < 2 {
                return Err(failed(format!("pairs: {n} of one block of {}", self.side)));
            }
            let (left, right) = blocks.split_at(blocks.len() / 2);
            self.some(left, pairs)?;
            return self.some(right, pairs);
        }
        let raw = out.read::<[u32; 3]>(stream, n as usize)?;
        raw.into_iter().try_for_each(|[a, b, bits]| self.take(a, b, f32::from_bits(bits), pairs))
    }

    fn take(&self, a: u32, b: u32, distance: f32, pairs: &mut Vec<Pair>) -> Result<()> {
        let (n_a, n_b) = (self.a.host().n_rows(), self.b.host().n_rows());
        let is_right = (a as usize) < n_a && (b as usize) < n_b && distance <= self.within;
        if !is_right || (self.is_self && a == b) {
            let message = format!("pairs: ({a}, {b}) at {distance} of {n_a} by {n_b} rows");
            return Err(failed(message));
        }
        let (a, b) = if self.is_self { (a.min(b), a.max(b)) } else { (a, b) };
        pairs.push(Pair { a, b, distance });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_join_meets_every_pair_of_blocks_once() {
        let all = [Tile { a: 0..300, b: 0..300 }];
        assert_eq!(blocks(&all, 128, true).len(), 6);
        assert_eq!(blocks(&all, 128, false).len(), 9);
        let parts = [Tile { a: 100..130, b: 0..128 }, Tile { a: 0..128, b: 100..130 }];
        let expected = [[100, 127, 0, 127], [128, 129, 0, 127]];
        assert_eq!(blocks(&parts, 128, true), expected, "the second tile mirrors the first");
        assert!(blocks(&[Tile { a: 5..5, b: 0..9 }], 64, false).is_empty());
        let last = cuts(&(u32::MAX - 1..u32::MAX), 128).collect::<Vec<_>>();
        assert_eq!(last, [(u32::MAX - 1, u32::MAX - 1)]);
    }
}
