//! One query against rows where they lie, one row after another: memory-bound, for small batches, lists of slots and small
//! blocks. Rows that follow one another are one stream, which the processor fetches ahead by itself, as it does with up to
//! [`STREAMS`] of them taken in turn; of other rows the first lines are asked for early. Four streams are read twice as fast as
//! one; several rows of one stream side by side half as fast, and so are streams that are asked for (AMD EPYC of family 25, 2026-11).

use std::marker::PhantomData;

use half::f16;

use super::lanes::Lanes;

/// One sum over the elements of a query and a row, a vector of them at a time.
///
/// # Safety
/// As [`Lanes`].
pub(super) unsafe trait RowStep {
    /// Element of a prepared query.
    type Q: Copy + Default;
    /// Element of a row.
    type R: Copy + Default;
    /// The sum.
    type Out: Copy;
    /// Vector of partial sums.
    type V: Copy;
    /// Elements taken at a time, at most [`MOST`].
    const TAKES: usize;

    unsafe fn zero() -> Self::V;
    unsafe fn step(sum: Self::V, query: *const Self::Q, row: *const Self::R) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn total(v: Self::V) -> Self::Out;
}

/// Most elements that a step takes.
const MOST: usize = 32;

/// Partial sums side by side: as many as hide the latency of a multiplication with addition.
const CHAINS: usize = 4;

/// Streams of rows that the processor fetches ahead by itself.
pub const STREAMS: usize = 4;

/// Rows between the one at work and the one that is asked for.
const AHEAD: usize = 2;

/// Cache lines of a row that are asked for; past these the processor fetches ahead by itself.
const LINES: usize = 16;

/// How a vector of elements is read from a row.
///
/// # Safety
/// As [`Lanes`].
pub(super) unsafe trait Read<L: Lanes, V> {
    /// Element of a row.
    type R: Copy + Default;
    unsafe fn read(at: *const Self::R) -> V;
}

/// Rows of 32-bit floats.
pub(super) struct F32;
/// Rows of 16-bit floats.
pub(super) struct F16;
/// Rows of bytes.
pub(super) struct U8;
/// Rows of signed bytes.
pub(super) struct I8;

macro_rules! read {
    ($name:ident, $element:ty, $vector:ident, $at:ident => $read:expr) => {
        // SAFETY: the promises are those of `Lanes`, handed on.
        unsafe impl<L: Lanes> Read<L, L::$vector> for $name {
            type R = $element;
            #[inline(always)]
            unsafe fn read($at: *const $element) -> L::$vector {
                $read
            }
        }
    };
}

read!(F32, f32, F, at => L::f_load(at));
read!(F16, f16, F, at => L::f_half(at.cast()));
read!(U8, u8, I, at => L::i_bytes_u8(at));
read!(I8, i8, I, at => L::i_bytes_i8(at));

/// `Σ a b`.
pub(super) struct Dot<L, T>(PhantomData<(L, T)>);
/// `Σ (a - b)²`.
pub(super) struct L2<L, T>(PhantomData<(L, T)>);
/// `Σ |a - b|`.
pub(super) struct L1<L, T>(PhantomData<(L, T)>);
/// `Σ a b` of bytes.
pub(super) struct DotBytes<L, T>(PhantomData<(L, T)>);
/// `Σ (a - b)²` of bytes.
pub(super) struct L2Bytes<L, T>(PhantomData<(L, T)>);
/// `Σ |a - b|` of bytes.
pub(super) struct L1Bytes<L, T>(PhantomData<(L, T)>);

macro_rules! floats {
    ($name:ident, $sum:ident, $query:ident, $row:ident => $step:expr) => {
        // SAFETY: the promises are those of `Lanes`, handed on.
        unsafe impl<L: Lanes, T: Read<L, L::F>> RowStep for $name<L, T> {
            type Q = f32;
            type R = T::R;
            type Out = f32;
            type V = L::F;
            const TAKES: usize = L::N;

            #[inline(always)]
            unsafe fn zero() -> L::F {
                L::f_zero()
            }
            #[inline(always)]
            unsafe fn step($sum: L::F, query: *const f32, row: *const T::R) -> L::F {
                let ($query, $row) = (L::f_load(query), T::read(row));
                $step
            }
            #[inline(always)]
            unsafe fn add(a: L::F, b: L::F) -> L::F {
                L::f_add(a, b)
            }
            #[inline(always)]
            unsafe fn total(v: L::F) -> f32 {
                L::f_sum(v)
            }
        }
    };
}

macro_rules! bytes {
    ($name:ident, $sum:ident, $query:ident, $row:ident => $step:expr) => {
        // SAFETY: the promises are those of `Lanes`, handed on.
        unsafe impl<L: Lanes, T: Read<L, L::I>> RowStep for $name<L, T> {
            type Q = i16;
            type R = T::R;
            type Out = i32;
            type V = L::I;
            const TAKES: usize = 2 * L::N;

            #[inline(always)]
            unsafe fn zero() -> L::I {
                L::i_zero()
            }
            #[inline(always)]
            unsafe fn step($sum: L::I, query: *const i16, row: *const T::R) -> L::I {
                let ($query, $row) = (L::i_load(query.cast()), T::read(row));
                $step
            }
            #[inline(always)]
            unsafe fn add(a: L::I, b: L::I) -> L::I {
                L::i_add(a, b)
            }
            #[inline(always)]
            unsafe fn total(v: L::I) -> i32 {
                L::i_sum(v)
            }
        }
    };
}

floats!(Dot, sum, query, row => L::f_fma(sum, row, query));
floats!(L2, sum, query, row => {
    let apart = L::f_sub(row, query);
    L::f_fma(sum, apart, apart)
});
floats!(L1, sum, query, row => L::f_add_abs(sum, L::f_sub(row, query)));
bytes!(DotBytes, sum, query, row => L::i_madd16(sum, row, query));
bytes!(L2Bytes, sum, query, row => {
    let apart = L::i_sub16(row, query);
    L::i_madd16(sum, apart, apart)
});
bytes!(L1Bytes, sum, query, row => {
    L::i_madd16(sum, L::i_abs16(L::i_sub16(row, query)), L::i_ones16())
});

/// The elements after the last whole vector, followed by zeros.
#[inline(always)]
unsafe fn tail<T: Copy + Default>(at: *const T, n: usize) -> [T; MOST] {
    let mut out = [T::default(); MOST];
    std::ptr::copy_nonoverlapping(at, out.as_mut_ptr(), n);
    out
}

/// Sets `out` to the sums of `query` with the rows of `base` that begin at `starts`.
///
/// # Safety
/// `query.len()` elements from every start lie within `base`, `out` is as long as `starts`, and the processor has the
/// instructions of `S`.
#[inline(always)]
pub(super) unsafe fn run<S: RowStep>(
    query: &[S::Q],
    base: &[S::R],
    starts: &[usize],
    out: &mut [S::Out],
) {
    let rest = query.len() % S::TAKES;
    let query_tail = tail(query.as_ptr().add(query.len() - rest), rest);
    let follows =
        |row: usize, back: usize| row >= back && starts[row] == starts[row - back] + query.len();
    for (at, &start) in starts.iter().enumerate() {
        let ahead = at + AHEAD;
        if ahead < starts.len() && !follows(ahead, 1) && !follows(ahead, STREAMS) {
            prefetch(base.as_ptr().add(starts[ahead]), query.len());
        }
        out[at] = S::total(one::<S>(query, &query_tail, base.as_ptr().add(start)));
    }
}

/// Partial sums of `query` with one row.
#[inline(always)]
unsafe fn one<S: RowStep>(query: &[S::Q], query_tail: &[S::Q; MOST], row: *const S::R) -> S::V {
    let mut sums = [S::zero(); CHAINS];
    let (q, len) = (query.as_ptr(), query.len());
    let mut k = 0;
    while k + CHAINS * S::TAKES <= len {
        for chain in 0..CHAINS {
            let k = k + chain * S::TAKES;
            sums[chain] = S::step(sums[chain], q.add(k), row.add(k));
        }
        k += CHAINS * S::TAKES;
    }
    for chain in 0..CHAINS - 1 {
        if k + S::TAKES <= len {
            sums[chain] = S::step(sums[chain], q.add(k), row.add(k));
            k += S::TAKES;
        }
    }
    if k < len {
        let row = tail(row.add(k), len - k);
        sums[CHAINS - 1] = S::step(sums[CHAINS - 1], query_tail.as_ptr(), row.as_ptr());
    }
    S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3]))
}

/// Asks memory for the first lines of the `len` elements at `row`; nothing is read, so any address is good.
#[inline(always)]
unsafe fn prefetch<T>(row: *const T, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..(len * size_of::<T>()).div_ceil(64).min(LINES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(row.cast::<i8>().wrapping_add(64 * line));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (row, len, LINES);
}
