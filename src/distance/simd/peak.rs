//! The most that a core can do: the roofs over all other loops. Arithmetic in registers alone, and reading alone.

use std::marker::PhantomData;

use super::lanes::{Lanes, Quads};

/// Chains that run side by side: enough to hide the latency of a multiplication on every processor so far.
const CHAINS: usize = 12;

/// Places of a block of memory that are read in turn: one is what a plain sum does, more keep more reads under way where
/// the processor looks ahead along each of them.
pub(super) const PLACES: [usize; 3] = [1, 4, 16];

/// Vectors that are read before the place changes.
const RUN: usize = 4;

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

/// What the loops over bytes multiply with.
///
/// # Safety
/// As [`Lanes`].
pub(super) unsafe trait Multiply {
    type L: Lanes;
    unsafe fn multiply(sum: I<Self>, a: I<Self>, b: I<Self>) -> I<Self>;
}

type I<M> = <<M as Multiply>::L as Lanes>::I;

/// Two products of 16 bits a lane.
pub(super) struct Two<L>(PhantomData<L>);

/// Four products of 8 bits a lane.
pub(super) struct Four<L>(PhantomData<L>);

// SAFETY: the instructions are those of `L`.
unsafe impl<L: Lanes> Multiply for Two<L> {
    type L = L;
    #[inline(always)]
    unsafe fn multiply(sum: L::I, a: L::I, b: L::I) -> L::I {
        L::i_madd16(sum, a, b)
    }
}

// SAFETY: the instructions are those of `L`.
unsafe impl<L: Quads> Multiply for Four<L> {
    type L = L;
    #[inline(always)]
    unsafe fn multiply(sum: L::I, a: L::I, b: L::I) -> L::I {
        L::i_quads(sum, a, b)
    }
}

/// As [`run`], of the integers that bytes are multiplied as. Factors change from round to round, or the compiler would
/// multiply but once.
///
/// # Safety
/// The processor has the instructions of `M::L`.
#[inline(always)]
pub(super) unsafe fn run_bytes<M: Multiply>(rounds: u64, factor: i32) -> i32 {
    let mut sums = [<M::L as Lanes>::i_splat(&factor); CHAINS];
    let factor = <M::L as Lanes>::i_splat(&factor);
    for _ in 0..rounds {
        for chain in 0..CHAINS {
            sums[chain] = M::multiply(sums[chain], sums[chain], factor);
        }
    }
    let mut sum = <M::L as Lanes>::i_zero();
    for chain in 0..CHAINS {
        sum = <M::L as Lanes>::i_add(sum, sums[chain]);
    }
    <M::L as Lanes>::i_sum(sum)
}

/// Operations of one round of vectors of `lanes`, each of so many products with addition.
pub(super) const fn n_operations(lanes: usize, products: usize) -> u64 {
    (2 * CHAINS * lanes * products) as u64
}

/// Reads `words` in `P` places in turn, and the rest that does not fill a run in each of them; their sum.
///
/// # Safety
/// The processor has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn read<L: Lanes, const P: usize>(words: &[i32]) -> i32 {
    let run = RUN * L::N;
    let part = words.len() / P / run * run;
    let mut sums = [L::i_zero(); RUN];
    for at in (0..part).step_by(run) {
        for place in 0..P {
            let from = words.as_ptr().add(place * part + at);
            for i in 0..RUN {
                sums[i] = L::i_add(sums[i], L::i_load(from.add(i * L::N)));
            }
        }
    }
    let mut sum = L::i_zero();
    for i in 0..RUN {
        sum = L::i_add(sum, sums[i]);
    }
    words[P * part..].iter().fold(L::i_sum(sum), |sum, &word| sum.wrapping_add(word))
}
