//! The most that a core can multiply and add: the roof over arithmetic-bound loops, for benches.

use super::lanes::Lanes;

/// Chains that run side by side: enough to hide the latency of a multiplication on every processor so far.
const CHAINS: usize = 12;

/// `rounds` multiplications with addition in each of [`CHAINS`] chains of vectors, in registers alone.
///
/// # Safety
/// The processor has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn run<L: Lanes>(rounds: u64, factor: f32) -> f32 {
    let mut sums = [L::f_splat(&factor); CHAINS];
    let factor = L::f_splat(&factor);
    for _ in 0..rounds {
        for chain in 0..CHAINS {
            sums[chain] = L::f_fma(factor, sums[chain], factor);
        }
    }
    let mut sum = L::f_zero();
    for chain in 0..CHAINS {
        sum = L::f_add(sum, sums[chain]);
    }
    L::f_sum(sum)
}

/// Floating-point operations of one round of vectors of `lanes`.
pub(super) const fn n_operations(lanes: usize) -> u64 {
    (2 * CHAINS * lanes) as u64
}
