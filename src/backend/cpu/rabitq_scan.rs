//! Operation `rabitq_scan`: survivors of lists of codes, from one pass over one bit per element.
//!
//! Codes are laid out for it when they are uploaded: the sign planes of 32 rows byte by byte, the four-bit codes two
//! elements to a byte. First a chunk of rows that fits the second-level cache is passed over by all queries of the batch,
//! four at a time, and the least one-bit lower bound of every block of 32 rows is kept. Then every query looks at the blocks
//! of least bounds, and at the rows in them with all four bits; what it learns is a bound that few other blocks are below, and
//! only these are looked at again. The answer does not depend on the order: a row that is skipped lies, by its one-bit bound,
//! above the running bound, which never falls below the final one.
//!
//! Bound by: byte shuffles in batches, memory for one query (`8 n_words + 16` bytes per row).

use std::ops::Range;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::backend::RabitqScan;
use crate::backend::codes::{Factors, Planes, RabitqQuery, Survivor, centre, estimate};
use crate::backend::cpu::layout::{FineFactors, Layout};
use crate::backend::resident::ResidentCodes;
use crate::core::allow::Allow;
use crate::core::neighbors::{Neighbor, TopK};
use crate::distance::Level;
use crate::distance::simd::popcount::{
    BLOCK, Blocks, Line, Lookup, Table, block_sums, minima, near, nibble_dot, tables,
};

/// Rows passed over by all queries of a batch before the next: 128 KiB of codes of 384 elements.
const CHUNK: u32 = 2048;

/// Blocks that are looked at first, best first: enough to know nearly the final bound.
const WARM_BLOCKS: usize = 32;

/// Queries that share the look-up of a block.
const GROUP: usize = 4;

/// A query as the loops read it.
struct Prepared<'a> {
    query: &'a RabitqQuery,
    tables: Vec<Table>,
    line: Line,
    /// The eight-plane numbers less 128, so that they are signed bytes.
    fine: Vec<i8>,
}

impl<'a> Prepared<'a> {
    fn new(query: &'a RabitqQuery) -> Self {
        let fine = numbers(&query.fine).iter().map(|n| (n ^ 128) as i8).collect();
        let coarse = &query.coarse;
        let line = Line {
            lo: coarse.lo,
            step: coarse.step,
            offset: centre(1) * coarse.sum,
            add: query.add,
            err: query.coarse_err,
        };
        Self { query, tables: tables(&numbers(coarse)), line, fine }
    }
}

/// The numbers whose planes these are.
fn numbers(planes: &Planes) -> Vec<u8> {
    let n_words = planes.words.len() / planes.n_planes;
    let mut out = vec![0u8; n_words * 64];
    for (weight, plane) in planes.words.chunks_exact(n_words).enumerate() {
        for (word, out) in plane.iter().zip(out.as_chunks_mut::<64>().0) {
            out.iter_mut().enumerate().for_each(|(i, n)| *n |= ((word >> i & 1) as u8) << weight);
        }
    }
    out
}

/// A stretch of rows that one scan looks at.
#[derive(Clone)]
struct Piece {
    rows: Range<u32>,
    scan: u32,
    query: u32,
}

impl Piece {
    fn blocks(&self) -> Range<usize> {
        self.rows.start as usize / BLOCK..(self.rows.end as usize).div_ceil(BLOCK)
    }
}

/// The stretches of one chunk of rows.
#[derive(Clone, Default)]
struct Chunk {
    pieces: Vec<Piece>,
    /// The least lower bound of every block of the first piece, then of the second, ...
    least: Vec<f32>,
}

/// The survivors of every scan, by slot. Codes that another backend placed are laid out for this call.
pub(super) fn run(
    (pool, level): (&ThreadPool, Level),
    scans: &[RabitqScan<'_>],
    codes: &ResidentCodes,
    allow: Allow<'_>,
) -> Vec<Vec<Survivor>> {
    let made;
    let layout = match codes.device::<Layout>() {
        Some(layout) => layout,
        None => {
            made = Layout::new(pool, codes.host());
            &made
        }
    };
    let (queries, mut chunks) = pieces(scans, layout.fine.len() as u32, allow);
    let bits = if let Allow::Bits(bits) = allow { Some(bits.words()) } else { None };
    let job = Job { level, layout, queries: &queries, bits };
    // Handing one thread's work to a pool costs more than a small scan.
    if pool.current_num_threads() == 1 {
        chunks.iter_mut().for_each(|chunk| job.pass(chunk));
        let spans = spans(scans.len(), &chunks);
        return scans.iter().zip(&spans).map(|(scan, spans)| job.survivors(scan, spans)).collect();
    }
    pool.install(|| {
        chunks.par_iter_mut().for_each(|chunk| job.pass(chunk));
        let spans = spans(scans.len(), &chunks);
        scans.par_iter().zip(&spans).map(|(scan, spans)| job.survivors(scan, spans)).collect()
    })
}

/// What every scan looks at, with the least bounds of the blocks.
fn spans(n_scans: usize, chunks: &[Chunk]) -> Vec<Vec<(&Piece, &[f32])>> {
    let mut spans = vec![Vec::new(); n_scans];
    for chunk in chunks {
        let mut start = 0;
        for piece in &chunk.pieces {
            let n_blocks = piece.blocks().len();
            let least = &chunk.least[start..start + n_blocks];
            spans[piece.scan as usize].push((piece, least));
            start += n_blocks;
        }
    }
    spans
}

/// All queries, and what is to be looked at in every chunk of rows that has something.
fn pieces<'a>(
    scans: &[RabitqScan<'a>],
    n_rows: u32,
    allow: Allow<'_>,
) -> (Vec<Prepared<'a>>, Vec<Chunk>) {
    let all = 0..n_rows;
    let ranges =
        if let Allow::Ranges(ranges) = allow { ranges } else { std::slice::from_ref(&all) };
    let mut queries = Vec::new();
    let mut chunks = vec![Chunk::default(); n_rows.div_ceil(CHUNK) as usize];
    for (scan, lists) in scans.iter().map(|scan| scan.lists).enumerate() {
        for (list, query) in lists {
            let before = ranges.partition_point(|range| range.end <= list.start);
            for range in ranges[before..].iter().take_while(|range| range.start < list.end) {
                let (mut start, end) = (range.start.max(list.start), range.end.min(list.end));
                while start < end {
                    let stop = end.min((start / CHUNK + 1) * CHUNK);
                    let (scan, query) = (scan as u32, queries.len() as u32);
                    let piece = Piece { rows: start..stop, scan, query };
                    chunks[(start / CHUNK) as usize].pieces.push(piece);
                    start = stop;
                }
            }
            queries.push(Prepared::new(query));
        }
    }
    chunks.retain(|chunk| !chunk.pieces.is_empty());
    (queries, chunks)
}

/// What one scan has found.
struct Near {
    /// The rows of least upper bounds.
    least: TopK,
    /// The `k`-th of these, or the bound that was given.
    bound: f32,
    found: Vec<Survivor>,
}

impl Near {
    fn push(&mut self, survivor: Survivor) {
        if survivor.lower > self.bound {
            return;
        }
        let distance = survivor.upper.max(survivor.lower);
        self.least.push(Neighbor { slot: survivor.slot, distance });
        self.bound = self.least.bound().map_or(self.bound, |last| last.distance.min(self.bound));
        self.found.push(survivor);
    }
}

struct Job<'a> {
    level: Level,
    layout: &'a Layout,
    queries: &'a [Prepared<'a>],
    bits: Option<&'a [u64]>,
}

/// A block that a query may look at.
#[derive(Clone, Copy)]
struct Open {
    /// Its least lower bound.
    least: f32,
    block: u32,
    span: u32,
}

impl Job<'_> {
    /// Fills in the least bounds of a chunk; stretches of the same rows share the look-ups.
    fn pass(&self, chunk: &mut Chunk) {
        chunk.pieces.sort_by_key(|piece| (piece.rows.start, piece.rows.end));
        let n_blocks = chunk.pieces.iter().map(|piece| piece.blocks().len()).sum();
        chunk.least = vec![0.0; n_blocks];
        let mut out = chunk.least.as_mut_slice();
        for same in chunk.pieces.chunk_by(|a, b| a.rows == b.rows) {
            let (blocks, n_words) = (same[0].blocks(), self.layout.n_words);
            let allowed: Vec<u32> =
                blocks.clone().map(|block| self.allowed(block, &same[0].rows)).collect();
            let stride = n_words * 8 * BLOCK;
            let blocks = Blocks {
                codes: &self.layout.signs[blocks.start * stride..blocks.end * stride],
                factors: &self.layout.blocks[blocks],
                rows: &allowed,
            };
            let (groups, rest) = same.as_chunks::<GROUP>();
            groups.iter().for_each(|group| self.group(group, blocks, &mut out));
            let (pairs, rest) = rest.as_chunks::<2>();
            pairs.iter().for_each(|pair| self.group(pair, blocks, &mut out));
            rest.iter().for_each(|one| self.group(std::array::from_ref(one), blocks, &mut out));
        }
    }

    /// One pass of a few queries; their least bounds are taken off the front of `out`.
    fn group<const Q: usize>(&self, pieces: &[Piece; Q], blocks: Blocks<'_>, out: &mut &mut [f32]) {
        let least = std::array::from_fn(|_| {
            out.split_off_mut(..blocks.rows.len()).expect("a place for every block")
        });
        let queries: [Lookup<'_>; Q] = std::array::from_fn(|q| {
            let Prepared { tables, line, .. } = &self.queries[pieces[q].query as usize];
            Lookup { tables, line: *line }
        });
        minima(self.level, blocks, queries, least);
    }

    /// The survivors of one scan, by slot.
    fn survivors(&self, scan: &RabitqScan<'_>, spans: &[(&Piece, &[f32])]) -> Vec<Survivor> {
        let mut open = Vec::new();
        for (span, (piece, least)) in spans.iter().enumerate() {
            let entry = |(block, &least): (usize, &f32)| Open {
                least,
                block: block as u32,
                span: span as u32,
            };
            let first = piece.blocks().start;
            let blocks = least.iter().enumerate().map(|(i, least)| entry((first + i, least)));
            open.extend(
                blocks.filter(|open| open.least <= scan.bound && open.least < f32::INFINITY),
            );
        }
        let n_warm = WARM_BLOCKS.max(2 * scan.k).min(open.len());
        if n_warm < open.len() {
            open.select_nth_unstable_by(n_warm, |a, b| a.least.total_cmp(&b.least));
        }
        open[..n_warm].sort_unstable_by(|a, b| a.least.total_cmp(&b.least));
        let mut near = Near { least: TopK::new(scan.k), bound: scan.bound, found: Vec::new() };
        for open in &open {
            if open.least <= near.bound {
                self.look_at_block(open.block as usize, spans[open.span as usize].0, &mut near);
            }
        }
        let Near { bound, mut found, .. } = near;
        found.retain(|survivor| survivor.lower <= bound);
        found.sort_by_key(|survivor| survivor.slot);
        found
    }

    fn look_at_block(&self, block: usize, piece: &Piece, found: &mut Near) {
        let query = &self.queries[piece.query as usize];
        let sums = block_sums(self.level, self.layout.block(block), &query.tables);
        let factors = &self.layout.blocks[block];
        let mut left = near(self.level, factors, &sums, query.line, found.bound)
            & self.allowed(block, &piece.rows);
        while left != 0 {
            let i = left.trailing_zeros() as usize;
            left &= left - 1;
            found.push(self.look(block, i, sums[i], query));
        }
    }

    /// Which rows of a block may be looked at, one bit each.
    fn allowed(&self, block: usize, rows: &Range<u32>) -> u32 {
        let first = (block * BLOCK) as u32;
        let from = u32::MAX << rows.start.saturating_sub(first);
        let past = (first + BLOCK as u32).saturating_sub(rows.end);
        let within = from & u32::MAX >> past;
        match self.bits {
            Some(words) => within & (words[block / 2] >> (block % 2 * 32)) as u32,
            None => within,
        }
    }

    /// What the whole code of row `i` of a block says, given the sum over its sign plane.
    fn look(&self, block: usize, i: usize, sum: u32, prepared: &Prepared<'_>) -> Survivor {
        let (row, query) = (block * BLOCK + i, prepared.query);
        let factors = &self.layout.blocks[block];
        let (add, rescale, err) = (factors.add[i], factors.rescale[i], factors.err[i]);
        let ones = factors.ones[i] as u32;
        let coarse = Factors { add, rescale, err };
        let coarse = estimate(coarse, query.add, &query.coarse, sum, ones, centre(1));
        let coarse_err = err * query.coarse_err;
        let stride = self.layout.n_words * 32;
        let codes = &self.layout.nibbles[row * stride..(row + 1) * stride];
        let FineFactors { factors, ones } = self.layout.fine[row];
        // Σ u n = Σ u (n - 128) + 128 Σ u, and fits 32 bits: 15 · 255 · 16,384.
        let sum = (nibble_dot(self.level, codes, &prepared.fine) + 128 * ones as i32) as u32;
        let fine = estimate(factors, query.add, &query.fine, sum, ones, centre(4));
        let fine_err = factors.err * query.fine_err;
        let lower = (coarse - coarse_err).max(fine - fine_err);
        let upper = (coarse + coarse_err).min(fine + fine_err).max(lower);
        Survivor { slot: row as u32, estimate: fine, lower, upper }
    }
}
