//! Operation `minhash`: shingle hashes of one record to its signature `[n_perm]` of u32.
//!
//! The family: slot `i` keeps the least `permute(x, a_i, b_i)` over all 32-bit shingle hashes `x`, where
//! `permute` is a bijection of u32 made of two rounds of xor, odd multiplication and shift. Integers only,
//! so every backend gives the same bits. Cost: 8 integer operations per shingle and slot.
//!
//! Paper: Broder 1997, "On the resemblance and containment of documents"; we replace random permutations
//! by this family, whose error on real pairs is that of theory (see `docs/decisions/`).

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::core::limits::N_PERM;
use crate::core::mix::stream;
use crate::distance::Level;

/// Name of the family; part of every index header.
pub const FAMILY: &str = "minhash32x2-1";

/// Slots worked on at once: their minima and constants stay in registers.
const LANES: usize = 32;

/// Records that a thread signs before it looks for more work.
const RECORDS_AT_ONCE: usize = 16;

/// The constants of a signature of `n_perm` slots.
#[derive(Clone, Debug)]
pub struct MinHasher {
    n_perm: usize,
    /// Odd multipliers, padded to whole blocks of `LANES`.
    multipliers: Vec<[u32; LANES]>,
    masks: Vec<[u32; LANES]>,
    level: Level,
}

impl MinHasher {
    /// The family's member with `n_perm` slots for `seed`. Slot `i` does not depend on `n_perm`.
    ///
    /// # Panics
    /// If `n_perm` is 0 or over the limit.
    pub fn new(n_perm: usize, seed: u64) -> Self {
        assert!((1..=N_PERM).contains(&n_perm), "n_perm {n_perm}, expected 1 to {N_PERM}");
        let n_blocks = n_perm.div_ceil(LANES);
        let mut multipliers = vec![[0; LANES]; n_blocks];
        let mut masks = vec![[0; LANES]; n_blocks];
        for slot in 0..n_blocks * LANES {
            let (block, lane) = (slot / LANES, slot % LANES);
            multipliers[block][lane] = (stream(seed, 2 * slot as u64) >> 32) as u32 | 1;
            masks[block][lane] = (stream(seed, 2 * slot as u64 + 1) >> 32) as u32;
        }
        Self { n_perm, multipliers, masks, level: Level::best() }
    }

    /// The same hasher held to one level, for tests and benches.
    pub fn at_level(mut self, level: Level) -> Self {
        assert!(Level::available().contains(&level), "{level:?} is not available here");
        self.level = level;
        self
    }

    /// Slots of a signature.
    pub fn n_perm(&self) -> usize {
        self.n_perm
    }

    /// Multiplier and mask of a slot.
    pub fn constants(&self, slot: usize) -> (u32, u32) {
        let (block, lane) = (slot / LANES, slot % LANES);
        (self.multipliers[block][lane], self.masks[block][lane])
    }

    /// Appends the signature `[n_perm]` of a set of 32-bit shingle hashes to `out`; repeats do not matter.
    /// The signature of no shingles is all `u32::MAX`.
    pub fn sign(&self, shingles: &[u32], out: &mut Vec<u32>) {
        let end = out.len() + self.n_perm;
        for (multipliers, masks) in self.multipliers.iter().zip(&self.masks) {
            out.extend_from_slice(&minima(self.level, shingles, multipliers, masks));
        }
        out.truncate(end);
    }
}

/// Signatures `[n_records, n_perm]`, records in parallel; see [`crate::backend::Backend::minhash`]; shapes are checked.
pub fn run(pool: &ThreadPool, hasher: &MinHasher, shingles: &[u32], ends: &[u32]) -> Vec<u32> {
    let start = |record: usize| if record == 0 { 0 } else { ends[record - 1] as usize };
    let sign = |records: &[usize]| {
        let mut out = Vec::with_capacity(records.len() * hasher.n_perm());
        for &record in records {
            hasher.sign(&shingles[start(record)..ends[record] as usize], &mut out);
        }
        out
    };
    let records: Vec<usize> = (0..ends.len()).collect();
    pool.install(|| records.par_chunks(RECORDS_AT_ONCE).map(sign).collect::<Vec<_>>()).concat()
}

/// One slot's value for one shingle.
#[inline(always)]
pub fn permute(x: u32, multiplier: u32, mask: u32) -> u32 {
    let mut t = (x ^ mask).wrapping_mul(multiplier);
    t ^= t >> 15;
    t = t.wrapping_mul(0x846c_a68b);
    t ^ (t >> 13)
}

/// Equal slots of two signatures; over `n_perm`, the estimate of their Jaccard similarity.
#[inline]
pub fn n_equal(a: &[u32], b: &[u32]) -> u32 {
    a.iter().zip(b).map(|(x, y)| u32::from(x == y)).sum()
}

#[inline(always)]
fn minima_loop(shingles: &[u32], multipliers: &[u32; LANES], masks: &[u32; LANES]) -> [u32; LANES] {
    let mut least = [u32::MAX; LANES];
    for &x in shingles {
        for lane in 0..LANES {
            least[lane] = least[lane].min(permute(x, multipliers[lane], masks[lane]));
        }
    }
    least
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn minima_avx2(shingles: &[u32], a: &[u32; LANES], b: &[u32; LANES]) -> [u32; LANES] {
    minima_loop(shingles, a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn minima_avx512(shingles: &[u32], a: &[u32; LANES], b: &[u32; LANES]) -> [u32; LANES] {
    minima_loop(shingles, a, b)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn minima(level: Level, shingles: &[u32], a: &[u32; LANES], b: &[u32; LANES]) -> [u32; LANES] {
    match level {
        Level::Baseline => minima_loop(shingles, a, b),
        // SAFETY: a `MinHasher` only holds levels from `Level::available`, which asked this processor.
        Level::Avx2 => unsafe { minima_avx2(shingles, a, b) },
        // SAFETY: as above.
        Level::Avx512 | Level::Avx512Vnni => unsafe { minima_avx512(shingles, a, b) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn minima(_: Level, shingles: &[u32], a: &[u32; LANES], b: &[u32; LANES]) -> [u32; LANES] {
    minima_loop(shingles, a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, slot by slot.
    fn plain(n_perm: usize, seed: u64, shingles: &[u32]) -> Vec<u32> {
        let slot = |i: u64| {
            let multiplier = (stream(seed, 2 * i) >> 32) as u32 | 1;
            let mask = (stream(seed, 2 * i + 1) >> 32) as u32;
            shingles.iter().map(|&x| permute(x, multiplier, mask)).min().unwrap_or(u32::MAX)
        };
        (0..n_perm as u64).map(slot).collect()
    }

    #[test]
    fn every_level_equals_the_definition() {
        for level in Level::available() {
            for n_perm in [1, 31, 32, 33, 128, 200] {
                let hasher = MinHasher::new(n_perm, 42).at_level(level);
                for n in [0, 1, 2, 100, 257] {
                    let shingles: Vec<u32> = (0..n).map(|i| stream(9, i) as u32).collect();
                    let mut out = vec![7];
                    hasher.sign(&shingles, &mut out);
                    assert_eq!(out[1..], plain(n_perm, 42, &shingles), "{level:?} {n_perm} {n}");
                }
            }
        }
    }

    #[test]
    fn the_estimate_is_unbiased_on_sets_of_known_overlap() {
        let hasher = MinHasher::new(1024, 1);
        for (shared, own) in [(500, 500), (800, 100), (50, 450)] {
            let set = |which: u64| -> Vec<u32> {
                let common = (0..shared).map(|i| stream(3, i) as u32);
                common.chain((0..own).map(|i| stream(4 + which, i) as u32)).collect()
            };
            let (mut a, mut b) = (Vec::new(), Vec::new());
            hasher.sign(&set(0), &mut a);
            hasher.sign(&set(1), &mut b);
            let exact = shared as f64 / (shared + 2 * own) as f64;
            let estimate = f64::from(n_equal(&a, &b)) / 1024.0;
            // Five standard deviations of the estimator with 1,024 slots.
            let bound = 5.0 * (exact * (1.0 - exact) / 1024.0).sqrt();
            assert!((estimate - exact).abs() < bound, "{estimate} for {exact}");
        }
    }

    /// Recorded values: a change here breaks every stored index and needs a new family name.
    #[test]
    fn test_vectors_of_the_family() {
        let mut out = Vec::new();
        MinHasher::new(4, 0).sign(&[1, 2, 3], &mut out);
        assert_eq!(out, [593_800_304, 1_791_415_219, 724_785_138, 1_885_620_554]);
    }
}
