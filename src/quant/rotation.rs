//! A random rotation that costs `dim log dim`: it spreads every vector evenly over all elements, whatever the data,
//! which is what the error bounds of codes rest on.
//!
//! Four rounds: signs are flipped at random, then a Hadamard transform mixes the first (even rounds) or last (odd rounds)
//! `2^j` elements, the largest power of two that fits; where that is not all of them, the two halves are turned against each
//! other by 45 degrees. Every step is orthogonal. No multiplication is fused with an addition, so that all processors
//! give the same bits.
//!
//! Papers: Ailon, Chazelle, "The fast Johnson-Lindenstrauss transform", 2009; Gao et al., "Practical and asymptotically
//! optimal quantization", 2024 (the fast rotation of its library).

use crate::core::mix::stream;

/// Elements per word of a bit plane; rotated rows fill whole words.
pub const WORD: usize = 64;

const ROUNDS: usize = 4;

/// Elements whose first butterflies are done together, in registers.
const LANES: usize = 8;

/// A rotation of vectors of `dim` elements, padded with zeros to a multiple of [`WORD`].
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    dim: usize,
    padded: usize,
    seed: u64,
    /// `[ROUNDS, padded]`: the sign bit where an element is negated.
    flips: Vec<u32>,
}

impl Rotation {
    /// The rotation of `seed`.
    ///
    /// # Panics
    /// If `dim` is 0.
    pub fn new(dim: usize, seed: u64) -> Self {
        assert!(dim > 0, "no elements to rotate");
        let padded = dim.next_multiple_of(WORD);
        let flip = |i: usize| {
            let bits = stream(seed, (i / WORD) as u64);
            ((bits >> (i % WORD)) as u32 & 1) << 31
        };
        Self { dim, padded, seed, flips: (0..ROUNDS * padded).map(flip).collect() }
    }

    /// What it was drawn from: the same dimension and seed give the same rotation.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Elements that go in.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Elements that come out: `dim` rounded up to a multiple of [`WORD`].
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// Rotates the first `dim` elements of `row` `[padded]` in place; the others are overwritten.
    ///
    /// # Panics
    /// If `row` does not hold `padded` elements.
    pub fn apply(&self, row: &mut [f32]) {
        assert_eq!(row.len(), self.padded, "a row of padded length");
        row[self.dim..].fill(0.0);
        let (width, half) = (1 << self.padded.ilog2(), self.padded / 2);
        let scale = 1.0 / (width as f32).sqrt();
        for (round, flips) in self.flips.chunks_exact(self.padded).enumerate() {
            for (x, flip) in row.iter_mut().zip(flips) {
                *x = f32::from_bits(x.to_bits() ^ flip);
            }
            let start = if round % 2 == 0 { 0 } else { self.padded - width };
            hadamard(&mut row[start..start + width], scale);
            if width < self.padded {
                let (low, high) = row.split_at_mut(half);
                turn(low, high);
            }
        }
    }
}

/// Hadamard transform of a power of two of elements, at least [`LANES`], times `scale`.
fn hadamard(row: &mut [f32], scale: f32) {
    for eight in row.as_chunks_mut::<LANES>().0 {
        *eight = butterflies(*eight, scale);
    }
    let mut half = LANES;
    while half < row.len() {
        for block in row.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// The first three stages, on eight neighbors, scaled.
fn butterflies(x: [f32; LANES], scale: f32) -> [f32; LANES] {
    let stage = |x: [f32; LANES], bit: usize| -> [f32; LANES] {
        std::array::from_fn(|i| if i & bit == 0 { x[i] + x[i | bit] } else { x[i ^ bit] - x[i] })
    };
    stage(stage(stage(x, 1), 2), 4).map(|x| x * scale)
}

/// Turns pairs of one element of each half by 45 degrees.
fn turn(low: &mut [f32], high: &mut [f32]) {
    for (a, b) in low.iter_mut().zip(high) {
        let (sum, difference) = (*a + *b, *a - *b);
        *a = sum * std::f32::consts::FRAC_1_SQRT_2;
        *b = difference * std::f32::consts::FRAC_1_SQRT_2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(n: usize, seed: u64) -> Vec<f32> {
        (0..n as u64).map(|i| (stream(seed, i) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn rotated(rotation: &Rotation, row: &[f32]) -> Vec<f32> {
        let mut out = row.to_vec();
        out.resize(rotation.padded(), 7.0);
        rotation.apply(&mut out);
        out
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    }

    #[test]
    fn norms_and_inner_products_are_kept() {
        for dim in [1, 2, 3, 63, 64, 65, 100, 127, 128, 191, 192, 320, 384, 768, 1000, 1536, 16_384]
        {
            let rotation = Rotation::new(dim, 5);
            assert_eq!(rotation.padded() % WORD, 0);
            let (a, b) = (random(dim, 1), random(dim, 2));
            let (ra, rb) = (rotated(&rotation, &a), rotated(&rotation, &b));
            let size = (dot(&a, &a) * dot(&b, &b)).sqrt();
            assert!((dot(&ra, &ra) / dot(&a, &a) - 1.0).abs() < 1e-5, "norm, dim {dim}");
            assert!((dot(&ra, &rb) - dot(&a, &b)).abs() < 1e-5 * size, "product, dim {dim}");
        }
    }

    #[test]
    fn one_element_is_spread_over_all() {
        for dim in [64, 100, 384, 1000] {
            let rotation = Rotation::new(dim, 3);
            for at in [0, dim / 2, dim - 1] {
                let mut one = vec![0.0; dim];
                one[at] = 1.0;
                let out = rotated(&rotation, &one);
                // A Gaussian of this variance is beyond six deviations once in 500 million.
                let largest = out.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                assert!(
                    largest < 6.0 / (rotation.padded() as f32).sqrt(),
                    "{dim}, {at}: {largest}"
                );
            }
        }
    }

    /// Recorded bits: a change here breaks every stored code.
    #[test]
    fn the_bits_are_the_same_everywhere() {
        let rotation = Rotation::new(100, 42);
        let out = rotated(&rotation, &random(100, 9));
        let digest = out.iter().fold(0, |sum: u64, x| {
            crate::core::mix::mix64(sum.wrapping_add(u64::from(x.to_bits())))
        });
        assert_eq!(digest, 14_900_586_297_750_973_303);
    }
}
