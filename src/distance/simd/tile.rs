//! Many rows against a panel of queries: a block of sums stays in registers while the elements pass by.
//!
//! A panel holds `width` queries, element after element: `[len, width]`. An element of a row is read once per panel and
//! used for every query of it; an element of the panel is read once per `MR` rows. Arithmetic-bound.
//!
//! Paper: Goto, van de Geijn 2008, "Anatomy of high-performance matrix multiplication"; rows are read where they lie.

use std::marker::PhantomData;

use super::Pass;
use super::lanes::{Lanes, Quads};

/// One sum of products or differences over 32-bit units: a float, a pair of 16-bit integers or four bytes.
///
/// # Safety
/// As [`Lanes`].
pub(super) unsafe trait Step {
    /// The unit and the sum.
    type E: Copy;
    /// Vector of units and of sums.
    type V: Copy;
    /// Lanes of a vector.
    const N: usize;

    unsafe fn zero() -> Self::V;
    unsafe fn load(at: *const Self::E) -> Self::V;
    unsafe fn splat(at: *const Self::E) -> Self::V;
    unsafe fn store(at: *mut Self::E, v: Self::V);
    unsafe fn step(sum: Self::V, row: Self::V, query: Self::V) -> Self::V;
}

/// `Σ a b` of floats, in 32 bits.
pub(super) struct Dot<L>(PhantomData<L>);
/// `Σ (a - b)²` of floats, in 32 bits.
pub(super) struct L2<L>(PhantomData<L>);
/// `Σ |a - b|` of floats, in 32 bits.
pub(super) struct L1<L>(PhantomData<L>);
/// `Σ a b` of 16-bit integers, exact in 32 bits.
pub(super) struct Dot16<L>(PhantomData<L>);
/// `Σ |a - b|` of 16-bit integers, exact in 32 bits.
pub(super) struct L116<L>(PhantomData<L>);
/// `Σ a b` of bytes, the row's unsigned, the query's signed; exact in 32 bits.
pub(super) struct Dot8<L>(PhantomData<L>);

macro_rules! floats {
    ($name:ident, $sum:ident, $row:ident, $query:ident => $step:expr) => {
        // SAFETY: the promises are those of `Lanes`, handed on.
        unsafe impl<L: Lanes> Step for $name<L> {
            type E = f32;
            type V = L::F;
            const N: usize = L::N;

            #[inline(always)]
            unsafe fn zero() -> L::F {
                L::f_zero()
            }
            #[inline(always)]
            unsafe fn load(at: *const f32) -> L::F {
                L::f_load(at)
            }
            #[inline(always)]
            unsafe fn splat(at: *const f32) -> L::F {
                L::f_splat(at)
            }
            #[inline(always)]
            unsafe fn store(at: *mut f32, v: L::F) {
                L::f_store(at, v);
            }
            #[inline(always)]
            unsafe fn step($sum: L::F, $row: L::F, $query: L::F) -> L::F {
                $step
            }
        }
    };
}

macro_rules! integers {
    ($name:ident, $lanes:ident, $sum:ident, $row:ident, $query:ident => $step:expr) => {
        // SAFETY: the promises are those of `Lanes`, handed on.
        unsafe impl<L: $lanes> Step for $name<L> {
            type E = i32;
            type V = L::I;
            const N: usize = L::N;

            #[inline(always)]
            unsafe fn zero() -> L::I {
                L::i_zero()
            }
            #[inline(always)]
            unsafe fn load(at: *const i32) -> L::I {
                L::i_load(at)
            }
            #[inline(always)]
            unsafe fn splat(at: *const i32) -> L::I {
                L::i_splat(at)
            }
            #[inline(always)]
            unsafe fn store(at: *mut i32, v: L::I) {
                L::i_store(at, v);
            }
            #[inline(always)]
            unsafe fn step($sum: L::I, $row: L::I, $query: L::I) -> L::I {
                $step
            }
        }
    };
}

floats!(Dot, sum, row, query => L::f_fma(sum, row, query));
floats!(L2, sum, row, query => {
    let apart = L::f_sub(row, query);
    L::f_fma(sum, apart, apart)
});
floats!(L1, sum, row, query => L::f_add_abs(sum, L::f_sub(row, query)));
integers!(Dot16, Lanes, sum, row, query => L::i_madd16(sum, row, query));
integers!(L116, Lanes, sum, row, query => {
    L::i_madd16(sum, L::i_abs16(L::i_sub16(row, query)), L::i_ones16())
});
integers!(Dot8, Quads, sum, row, query => L::i_quads(sum, row, query));

/// 32-bit units of a cache line.
const LINE: usize = 16;

/// Adds to `sums` `[starts.len(), width]`, or in a first pass sets them to, what the units of `panel` `[len, width]` give
/// with the `len` units of `base` from each of `starts` on, where `width` is `NV` vectors. Sums are taken unit by unit in
/// order, whatever the place of a row in its block.
///
/// # Safety
/// `len` units from every start lie within `base`, `sums` has `starts.len() * width` elements, and the processor has
/// the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn run<S: Step, const MR: usize, const NV: usize>(
    base: &[S::E],
    starts: &[usize],
    panel: &[S::E],
    sums: &mut [S::E],
    pass: Pass,
) {
    let width = NV * S::N;
    let len = panel.len() / width;
    let mut sums = sums.as_mut_ptr();
    let last = starts.len().saturating_sub(1);
    for (block, own) in starts.chunks(MR).enumerate() {
        // A short last block repeats its last row, and keeps the sums of the rows that are there.
        let mut rows = [base.as_ptr(); MR];
        let mut next = [base.as_ptr(); MR];
        for m in 0..MR {
            rows[m] = base.as_ptr().add(own[m.min(own.len() - 1)]);
            next[m] = base.as_ptr().add(starts[((block + 1) * MR + m).min(last)]);
        }
        one_block::<S, MR, NV>([rows, next], panel.as_ptr(), len, sums, own.len(), pass);
        sums = sums.add(own.len() * width);
    }
}

#[inline(always)]
unsafe fn one_block<S: Step, const MR: usize, const NV: usize>(
    [rows, next]: [[*const S::E; MR]; 2],
    panel: *const S::E,
    len: usize,
    sums: *mut S::E,
    n_rows: usize,
    pass: Pass,
) {
    let width = NV * S::N;
    let mut acc = [[S::zero(); NV]; MR];
    if !pass.first {
        for m in 0..MR {
            for v in 0..NV {
                acc[m][v] = S::load(sums.add(m.min(n_rows - 1) * width + v * S::N));
            }
        }
    }
    let mut at = panel;
    let mut k = 0;
    while k < len {
        if pass.fetch {
            for m in 0..MR {
                prefetch(next[m].add(k));
            }
        }
        let end = len.min(k + LINE);
        while k < end {
            let mut queries = [S::zero(); NV];
            for v in 0..NV {
                queries[v] = S::load(at.add(v * S::N));
            }
            for m in 0..MR {
                let row = S::splat(rows[m].add(k));
                for v in 0..NV {
                    acc[m][v] = S::step(acc[m][v], row, queries[v]);
                }
            }
            at = at.add(width);
            k += 1;
        }
    }
    for m in 0..MR {
        if m < n_rows {
            for v in 0..NV {
                S::store(sums.add(m * width + v * S::N), acc[m][v]);
            }
        }
    }
}

/// Asks for the line at `at` of a row of the next block, into the second-level cache, for a panel fills most of the first.
/// Nothing is read, so any address is good.
#[inline(always)]
unsafe fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
