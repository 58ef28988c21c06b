//! Codes of rows: one bit for two of three elements, which say within bounds how near a row is, in a twentieth of its bytes.
//!
//! A row is turned at random and the signs of its first `m` elements are kept, as in `quant/rabitq.rs` without a centre. With `x̄` for the
//! signs as a unit vector, `x'` and `q'` for the first `m` elements of row and query, and `ρ` for the cosine between `x'` and `x̄`, the
//! cosine of `x'` and `q'` is estimated by `⟨x̄, q'⟩ / (ρ |q'|)`. Three things make it differ from the cosine `c` of the whole rows, each
//! nearly normal as the turning is random: what the signs lose, what the elements left out would have said, and the rounding of the query:
//!
//! ```text
//! (1/ρ² - 1)/(m - 1) · (1 - c²)      (1/m - 1/D) · (1 - c²)²      |δ|² / (|q'|² ρ² m)
//! ```
//!
//! Their sum is the square of a deviation. [`Asking::reach`] is [`WIDTH`] of them below a cosine: of all rows that are that near, one in
//! three millions has an estimate below it.
//!
//! Paper: Gao, Long, "RaBitQ", SIGMOD 2024, 3.2. Ours: fewer signs than elements, in exchange for a wider bound.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::cache::row::Query;
use crate::distance::Level;
use crate::distance::simd::popcount::BLOCK;
use crate::distance::simd::popcount::compact::{
    self, Asked, Compact, Marks, Tables, UNKNOWN, lane_of, lanes_of,
};
use crate::quant::rotation::{Rotation, WORD};

/// Deviations between an estimate and the bound.
const WIDTH: f64 = 5.0;

/// Decides how rows are turned. Codes are never kept on disk.
const SEED: u64 = 0x6365_6c6c;

/// Scales are whole numbers of this part.
const PART: f64 = 4096.0;

/// The farthest grid point of a query from 0, in steps.
const TOP: f32 = 7.5;

/// Makes codes of rows and of queries.
#[derive(Debug)]
pub(super) struct Coder {
    rotation: Rotation,
    /// Words of a code.
    n_words: usize,
    level: Level,
}

/// A query as codes are compared with it.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    tables: Tables,
    step: f32,
    base: f32,
    /// The parts of the variance of an estimate: of signs, of elements left out, of the query.
    variance: [f64; 3],
}

/// Codes of rows, in blocks of [`BLOCK`]: a byte of all rows of a block, then the next.
#[derive(Debug, Default)]
pub(super) struct Codes {
    bytes: Vec<u8>,
    blocks: Vec<Compact>,
    n: usize,
}

impl Coder {
    /// One for rows of `dim` elements.
    pub fn new(dim: usize, level: Level) -> Self {
        let rotation = Rotation::new(dim, SEED);
        let n_words = (rotation.padded() / WORD * 2).div_ceil(3);
        Self { rotation, n_words, level }
    }

    /// Elements of which a code has the sign.
    fn n_signs(&self) -> usize {
        self.n_words * WORD
    }

    /// Bytes of the codes of a block.
    fn stride(&self) -> usize {
        self.n_words * 8 * BLOCK
    }

    /// The first elements of a row that was turned; `row` has room for all.
    fn turn<'r>(&self, row: &'r mut [f32]) -> &'r [f32] {
        self.rotation.apply(row);
        &row[..self.n_signs()]
    }

    /// A query as codes are compared with it.
    pub fn asking(&self, query: &Query) -> Asking {
        let mut row = vec![0.0; self.rotation.padded()];
        row[..query.row().len()].copy_from_slice(query.row());
        let turned = self.turn(&mut row);
        let most = turned.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let (step, per_step) = if most > 0.0 { (most / TOP, TOP / most) } else { (1.0, 1.0) };
        let number = |x: &f32| (x * per_step + TOP + 0.5).min(2.0 * TOP) as u8;
        let numbers: Vec<u8> = turned.iter().map(number).collect();
        let sum: u32 = numbers.iter().map(|&n| u32::from(n)).sum();
        let lost = |(x, &n): (&f32, &u8)| f64::from(x - step * (f32::from(n) - TOP)).powi(2);
        let lost: f64 = turned.iter().zip(&numbers).map(lost).sum();
        // A query of which these elements are 0 has nothing to compare: every bound is then wide enough.
        let square = turned.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().max(1e-12);
        let (m, all) = (self.n_signs() as f64, self.rotation.padded() as f64);
        // Two deviations below the usual `√(2/π)`.
        let rho = (2.0 / std::f64::consts::PI).sqrt() - 2.0 * 0.6 / m.sqrt();
        let of_signs = (1.0 / (rho * rho) - 1.0) / (m - 1.0);
        Asking {
            tables: Tables::new(self.level, &numbers),
            step: (f64::from(step) / (m.sqrt() * square.sqrt() * PART)) as f32,
            base: sum as f32,
            variance: [of_signs, 1.0 / m - 1.0 / all, lost / (square * rho * rho * m)],
        }
    }
}

impl Asking {
    /// What the estimates of rows with at least this cosine hardly fall below.
    pub fn reach(&self, cosine: f32) -> f32 {
        let cosine = f64::from(cosine.clamp(-1.0, 1.0));
        let (rest, [signs, left_out, query]) = (1.0 - cosine * cosine, self.variance);
        (cosine - WIDTH * (signs * rest + left_out * rest * rest + query).sqrt()) as f32
    }

    fn asked(&self) -> Asked<'_> {
        Asked { tables: &self.tables, step: self.step, base: self.base }
    }
}

impl Codes {
    pub fn n_bytes(&self) -> u64 {
        (self.bytes.capacity() + self.blocks.capacity() * size_of::<Compact>()) as u64
    }

    /// Rows that have a code.
    pub fn len(&self) -> usize {
        self.n
    }

    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Blocks of rows.
    pub fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Room for that many rows, and no more.
    pub fn reserve(&mut self, coder: &Coder, n: usize) {
        let n_blocks = n.div_ceil(BLOCK);
        self.bytes.reserve_exact((n_blocks * coder.stride()).saturating_sub(self.bytes.len()));
        self.blocks.reserve_exact(n_blocks.saturating_sub(self.blocks.len()));
    }

    /// Adds the code of a row.
    pub fn push(&mut self, coder: &Coder, row: &[f16]) {
        if self.n == self.blocks.len() * BLOCK {
            self.reserve(coder, self.n + 1);
            self.bytes.resize(self.bytes.len() + coder.stride(), 0);
            self.blocks.push(Compact::NONE);
        }
        self.n += 1;
        let mut turned = vec![0.0; coder.rotation.padded()];
        row.convert_to_f32_slice(&mut turned[..row.len()]);
        self.set(coder, self.n - 1, coder.turn(&mut turned));
    }

    fn set(&mut self, coder: &Coder, at: usize, turned: &[f32]) {
        let (block, row) = (at / BLOCK, at % BLOCK);
        let bytes = &mut self.bytes[block * coder.stride()..(block + 1) * coder.stride()];
        let mut ones = 0;
        for (eight, bytes) in turned.as_chunks::<8>().0.iter().zip(bytes.chunks_exact_mut(BLOCK)) {
            let bit = |(i, x): (usize, &f32)| u8::from(*x > 0.0) << i;
            bytes[row] = eight.iter().enumerate().map(bit).sum();
            ones += bytes[row].count_ones() as usize;
        }
        let square: f64 = turned.iter().map(|&x| f64::from(x).powi(2)).sum();
        let sum: f64 = turned.iter().map(|&x| f64::from(x.abs())).sum();
        // `1 / ρ`.
        let scale = (square * turned.len() as f64).sqrt() / sum * PART;
        let is_known = scale < 4.0 * PART;
        let block = &mut self.blocks[block];
        block.excess[lane_of(row)] = (2 * ones) as i16 - turned.len() as i16;
        block.scale[lane_of(row)] = if is_known { scale.round() as u16 } else { UNKNOWN };
    }

    /// Removes a code; the last takes its place.
    pub fn swap_remove(&mut self, coder: &Coder, at: usize) {
        self.n -= 1;
        let (from, to) = ((self.n / BLOCK, self.n % BLOCK), (at / BLOCK, at % BLOCK));
        let place =
            |(block, row): (usize, usize), byte: usize| block * coder.stride() + byte * BLOCK + row;
        for byte in 0..coder.n_words * 8 {
            self.bytes[place(to, byte)] = self.bytes[place(from, byte)];
        }
        let Compact { excess, scale } = self.blocks[from.0];
        let (from, lane) = (lane_of(from.1), lane_of(to.1));
        self.blocks[to.0].excess[lane] = excess[from];
        self.blocks[to.0].scale[lane] = scale[from];
        let n_blocks = self.n.div_ceil(BLOCK);
        self.blocks.truncate(n_blocks);
        self.bytes.truncate(n_blocks * coder.stride());
    }

    /// What is said of the blocks from `first` on, for each of `Q` queries with its bound.
    pub fn marks<const Q: usize>(
        &self,
        coder: &Coder,
        first: usize,
        asking: [&Asking; Q],
        bounds: [f32; Q],
        out: [&mut [Marks]; Q],
    ) {
        let n = out.first().map_or(0, |out| out.len());
        let codes = &self.bytes[first * coder.stride()..(first + n) * coder.stride()];
        let blocks = &self.blocks[first..first + n];
        compact::marks(coder.level, codes, blocks, asking.map(Asking::asked), bounds, out);
    }

    /// Which lanes of a block are rows, one bit each.
    pub fn lanes(&self, block: usize) -> u32 {
        match self.n - block * BLOCK {
            n if n < BLOCK => lanes_of(n),
            _ => u32::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    fn row(seed: u64, dim: usize) -> Vec<f32> {
        let uniform = |n: u64| (stream(seed, n) >> 40) as f32 / (1 << 24) as f32;
        (0..dim as u64).map(|i| (0..4).map(|j| uniform(4 * i + j)).sum::<f32>() - 2.0).collect()
    }

    fn estimates(coder: &Coder, codes: &Codes, asking: &Asking) -> Vec<f32> {
        let mut marks = vec![Marks::NONE; codes.n_blocks()];
        codes.marks(coder, 0, [asking], [0.0], [&mut marks]);
        (0..codes.len()).map(|at| marks[at / BLOCK].similarities[lane_of(at % BLOCK)]).collect()
    }

    fn unit(row: &[f32]) -> Query {
        Query::new(row, row.len()).unwrap()
    }

    /// Rows at every cosine: none of 20,000 estimates lies below the bound, and most lie within a third of it.
    #[test]
    fn estimates_reach_what_their_cosines_are_said_to_reach() {
        for dim in [48, 384, 1000] {
            let coder = Coder::new(dim, Level::best());
            let (mut n, mut n_near) = (0, 0);
            for q in 0..20 {
                let raw = row(q, dim);
                let (query, mut codes, mut cosines) = (unit(&raw), Codes::default(), Vec::new());
                for i in 0..1000 {
                    let part = i as f32 / 500.0;
                    let noise = row(1000 * (q + 1) + i, dim);
                    let mixed: Vec<f32> =
                        raw.iter().zip(&noise).map(|(x, noise)| x + part * noise).collect();
                    let kept = unit(&mixed).kept();
                    codes.push(&coder, &kept);
                    cosines.push(query.cosine(&kept));
                }
                let asking = coder.asking(&query);
                let estimates = estimates(&coder, &codes, &asking);
                for (&cosine, estimate) in cosines.iter().zip(estimates) {
                    let reach = asking.reach(cosine);
                    assert!(estimate >= reach, "dim {dim}: {estimate} below {reach} of {cosine}");
                    n += 1;
                    n_near += usize::from((estimate - cosine).abs() <= (cosine - reach) / 3.0);
                }
            }
            assert!(n_near * 100 >= 80 * n, "dim {dim}: {n_near} of {n} near their estimates");
        }
    }

    #[test]
    fn a_code_that_is_removed_leaves_its_place_to_the_last() {
        let (dim, n) = (100, 75);
        let coder = Coder::new(dim, Level::best());
        let kept: Vec<Vec<f16>> = (0..n).map(|i| unit(&row(i, dim)).kept()).collect();
        let mut codes = Codes::default();
        kept.iter().for_each(|row| codes.push(&coder, row));
        let mut left: Vec<usize> = (0..kept.len()).collect();
        let asking = coder.asking(&unit(&row(99, dim)));
        for at in [3, 74 - 1, 40, 0, 64] {
            codes.swap_remove(&coder, at);
            left.swap_remove(at);
            let mut same = Codes::default();
            left.iter().for_each(|&i| same.push(&coder, &kept[i]));
            assert_eq!((codes.len(), codes.n_blocks()), (same.len(), same.n_blocks()));
            let of = |codes: &Codes| estimates(&coder, codes, &asking);
            assert_eq!(of(&codes), of(&same), "after {at} was removed");
        }
    }

    #[test]
    fn a_row_of_which_the_signs_say_nothing_reaches_every_bound() {
        let coder = Coder::new(64, Level::best());
        let mut codes = Codes::default();
        codes.push(&coder, &[f16::ZERO; 64]);
        let mut marks = [Marks::NONE];
        let asking = coder.asking(&unit(&row(1, 64)));
        codes.marks(&coder, 0, [&asking], [2.0], [&mut marks]);
        assert_eq!((marks[0].reach & codes.lanes(0), codes.lanes(0)), (1, 1));
    }
}
