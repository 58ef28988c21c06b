//! The loops that compare many rows, compiled for each instruction set and chosen once.
//!
//! In: rows, queries, sums. Out: sums and distances. The functions of [`Kernels`] are safe: they check what the loops
//! rely on, once per block. Next: `tile.rs` (batches), `rows.rs` (single queries), then `lanes.rs`.
//!
//! Every `unsafe fn` below has one contract, `lanes::Lanes`'s: the processor has the instructions, which
//! [`Kernels::at`] asks before it hands out a table, and pointers are in bounds, which the functions of
//! [`Kernels`] check.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::needless_range_loop)]

/// A table of all loops for one instruction set.
macro_rules! table {
    ($table:ident, $lanes:ty, $mr:literal x 1, $mr2:literal x 2, $quads:ident $(, $features:literal)?) => {
        pub(super) mod $table {
            use half::f16;

            use super::*;
            use crate::distance::simd::finish::{self, Ending, Side};
            use crate::distance::simd::rows::{self, F16, F32, I8, RowStep, U8};
            use crate::distance::simd::tile::{self, Step};
            use crate::distance::simd::widen::{self, Bytes};
            use crate::distance::simd::{Kernels, Pass, peak};

            $(#[target_feature(enable = $features)])?
            unsafe fn tile<S: Step, const MR: usize, const NV: usize>(
                base: &[S::E],
                starts: &[usize],
                panel: &[S::E],
                sums: &mut [S::E],
                pass: Pass,
            ) {
                tile::run::<S, MR, NV>(base, starts, panel, sums, pass);
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn rows<S: RowStep>(
                query: &[S::Q],
                base: &[S::R],
                starts: &[usize],
                out: &mut [S::Out],
            ) {
                rows::run::<S>(query, base, starts, out);
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn finish<const W: usize>(
                ending: Ending,
                sums: &mut [u32],
                rows: Side<'_>,
                queries: Side<'_>,
                any: &mut [bool],
            ) {
                finish::run::<W>(ending, sums, rows, queries, any);
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn widen_f16(from: &[f16], to: &mut [f32]) {
                widen::floats::<$lanes>(from, to);
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn widen_bytes<T: Bytes>(from: &[T], to: &mut [i16]) {
                widen::bytes(from, to);
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn burn(rounds: u64, factor: f32) -> f32 {
                peak::run::<$lanes>(rounds, factor)
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn burn_bytes<M: peak::Multiply>(rounds: u64, factor: i32) -> i32 {
                peak::run_bytes::<M>(rounds, factor)
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn read<const P: usize>(words: &[i32]) -> i32 {
                peak::read::<$lanes, P>(words)
            }

            const N: usize = <$lanes as Lanes>::N;

            pub(in crate::distance::simd) static KERNELS: Kernels = Kernels {
                lanes: N,
                rows_per_block: [$mr, $mr2],
                tile_dot: [tile::<tile::Dot<$lanes>, $mr, 1>, tile::<tile::Dot<$lanes>, $mr2, 2>],
                tile_l2: [tile::<tile::L2<$lanes>, $mr, 1>, tile::<tile::L2<$lanes>, $mr2, 2>],
                tile_l1: [tile::<tile::L1<$lanes>, $mr, 1>, tile::<tile::L1<$lanes>, $mr2, 2>],
                tile_dot16: [
                    tile::<tile::Dot16<$lanes>, $mr, 1>,
                    tile::<tile::Dot16<$lanes>, $mr2, 2>,
                ],
                tile_l1_16: [
                    tile::<tile::L116<$lanes>, $mr, 1>,
                    tile::<tile::L116<$lanes>, $mr2, 2>,
                ],
                tile_dot8: quads!($quads, tile, $lanes, $mr, $mr2),
                rows_f32: [
                    rows::<rows::Dot<$lanes, F32>>,
                    rows::<rows::L2<$lanes, F32>>,
                    rows::<rows::L1<$lanes, F32>>,
                ],
                rows_f16: [
                    rows::<rows::Dot<$lanes, F16>>,
                    rows::<rows::L2<$lanes, F16>>,
                    rows::<rows::L1<$lanes, F16>>,
                ],
                rows_u8: [
                    rows::<rows::DotBytes<$lanes, U8>>,
                    rows::<rows::L2Bytes<$lanes, U8>>,
                    rows::<rows::L1Bytes<$lanes, U8>>,
                ],
                rows_i8: [
                    rows::<rows::DotBytes<$lanes, I8>>,
                    rows::<rows::L2Bytes<$lanes, I8>>,
                    rows::<rows::L1Bytes<$lanes, I8>>,
                ],
                finish: [finish::<N>, finish::<{ 2 * N }>],
                burn,
                burn_bytes: factors!($quads, burn_bytes, $lanes),
                read: [
                    read::<{ peak::PLACES[0] }>,
                    read::<{ peak::PLACES[1] }>,
                    read::<{ peak::PLACES[2] }>,
                ],
                widen_f16,
                widen_u8: widen_bytes::<u8>,
                widen_i8: widen_bytes::<i8>,
            };
        }
    };
}

/// The loops over four bytes at a time, where the instruction set has them.
macro_rules! quads {
    (has, $tile:ident, $lanes:ty, $mr:literal, $mr2:literal) => {
        Some([$tile::<tile::Dot8<$lanes>, $mr, 1>, $tile::<tile::Dot8<$lanes>, $mr2, 2>])
    };
    (lacks, $tile:ident, $lanes:ty, $mr:literal, $mr2:literal) => {
        None
    };
}

/// The multiplication of those loops, or of the loops over two bytes at a time.
macro_rules! factors {
    (has, $burn:ident, $lanes:ty) => {
        $burn::<peak::Four<$lanes>>
    };
    (lacks, $burn:ident, $lanes:ty) => {
        $burn::<peak::Two<$lanes>>
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod baseline;
pub mod coded;
pub mod coded_tile;
pub mod few;
mod finish;
mod lanes;
pub mod members;
mod peak;
pub mod popcount;
mod rows;
pub mod signs;
mod tile;
mod widen;

use half::f16;

pub use finish::{Ending, Side};
pub use rows::STREAMS;

use crate::distance::Level;

type TileFn<E> = unsafe fn(&[E], &[usize], &[E], &mut [E], Pass);
type RowsFn<Q, R, Out> = unsafe fn(&[Q], &[R], &[usize], &mut [Out]);
type FinishFn = unsafe fn(Ending, &mut [u32], Side<'_>, Side<'_>, &mut [bool]);

/// What is summed over the elements of two rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Products.
    Dot,
    /// Squared differences.
    L2,
    /// Absolute differences.
    L1,
}

impl Sum {
    /// All sums.
    pub const ALL: [Self; 3] = [Self::Dot, Self::L2, Self::L1];
}

/// One pass of [`Kernels::tile`] over some elements of the rows.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Sums are set; otherwise they are added to.
    pub first: bool,
    /// The rows were not read lately: the next are asked of memory while the present ones are at work.
    pub fetch: bool,
}

/// How bytes are packed into 32-bit units for [`Kernels::tile_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Two 16-bit integers, for rows and queries.
    Pair,
    /// Four bytes: unsigned in rows, signed in queries.
    Quad,
}

/// The loops of one instruction set.
pub struct Kernels {
    lanes: usize,
    rows_per_block: [usize; 2],
    tile_dot: [TileFn<f32>; 2],
    tile_l2: [TileFn<f32>; 2],
    tile_l1: [TileFn<f32>; 2],
    tile_dot16: [TileFn<i32>; 2],
    tile_l1_16: [TileFn<i32>; 2],
    tile_dot8: Option<[TileFn<i32>; 2]>,
    rows_f32: [RowsFn<f32, f32, f32>; 3],
    rows_f16: [RowsFn<f32, f16, f32>; 3],
    rows_u8: [RowsFn<i16, u8, i32>; 3],
    rows_i8: [RowsFn<i16, i8, i32>; 3],
    finish: [FinishFn; 2],
    burn: unsafe fn(u64, f32) -> f32,
    burn_bytes: unsafe fn(u64, i32) -> i32,
    read: [unsafe fn(&[i32]) -> i32; peak::PLACES.len()],
    widen_f16: unsafe fn(&[f16], &mut [f32]),
    widen_u8: unsafe fn(&[u8], &mut [i16]),
    widen_i8: unsafe fn(&[i8], &mut [i16]),
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels of {} lanes", self.lanes)
    }
}

/// Every row lies within its base: what the loops rely on.
fn check_starts(base: usize, starts: &[usize], len: usize) {
    let last = base.checked_sub(len).expect("a row is no longer than all rows");
    assert!(starts.iter().all(|&start| start <= last), "a row ends past the last");
}

impl Kernels {
    /// The loops of `level`.
    ///
    /// # Panics
    /// If this processor lacks the level.
    pub fn at(level: Level) -> &'static Self {
        assert!(Level::available().contains(&level), "{level:?} is not available here");
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &avx2::avx2_table::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &avx512::avx512_table::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => &avx512::vnni_table::KERNELS,
            _ => &baseline::baseline_table::KERNELS,
        }
    }

    /// The two widths of a panel, in queries: one vector and two.
    pub fn widths(&self) -> [usize; 2] {
        [self.lanes, 2 * self.lanes]
    }

    /// Rows that are worked on at once with a panel of `width`: blocks of a multiple waste nothing.
    pub fn rows_per_block(&self, width: usize) -> usize {
        self.rows_per_block[self.vectors(width) - 1]
    }

    /// How bytes must be packed for `sum`.
    pub fn unit(&self, sum: Sum) -> Unit {
        if sum != Sum::L1 && self.tile_dot8.is_some() { Unit::Quad } else { Unit::Pair }
    }

    fn vectors(&self, width: usize) -> usize {
        let vectors = width / self.lanes;
        assert!(
            width.is_multiple_of(self.lanes) && (1..=2).contains(&vectors),
            "a width of a panel"
        );
        vectors
    }

    fn check_tile(&self, base: usize, starts: &[usize], panel: usize, width: usize, sums: usize) {
        assert!(panel.is_multiple_of(width), "a panel has whole lines");
        assert_eq!(sums, starts.len() * width, "a sum for every row and query");
        check_starts(base, starts, panel / width);
    }

    /// Adds to `sums` `[starts.len(), width]`, or in a first pass sets them to, the sums between the queries of `panel`
    /// `[len, width]` and the `len` elements of `base` from each start on. Summed in 32-bit floats, element by element.
    ///
    /// # Panics
    /// If a row would leave `base`, or if shapes do not fit.
    #[allow(clippy::too_many_arguments)]
    pub fn tile(
        &self,
        sum: Sum,
        width: usize,
        base: &[f32],
        starts: &[usize],
        panel: &[f32],
        sums: &mut [f32],
        pass: Pass,
    ) {
        self.check_tile(base.len(), starts, panel.len(), width, sums.len());
        let table = match sum {
            Sum::Dot => &self.tile_dot,
            Sum::L2 => &self.tile_l2,
            Sum::L1 => &self.tile_l1,
        };
        let run = table[self.vectors(width) - 1];
        // SAFETY: `at` asked the processor; `check_tile` has seen that rows, panel and sums fit one another.
        unsafe { run(base, starts, panel, sums, pass) }
    }

    /// As [`Self::tile`] for bytes packed in [`Self::unit`]s; exact. `Sum::L2` gives the sums of `Sum::Dot`, from which
    /// [`Ending::IntL2`] makes distances.
    ///
    /// # Panics
    /// As [`Self::tile`].
    #[allow(clippy::too_many_arguments)]
    pub fn tile_bytes(
        &self,
        sum: Sum,
        width: usize,
        base: &[i32],
        starts: &[usize],
        panel: &[i32],
        sums: &mut [i32],
        pass: Pass,
    ) {
        self.check_tile(base.len(), starts, panel.len(), width, sums.len());
        let table = match (sum, &self.tile_dot8) {
            (Sum::L1, _) => &self.tile_l1_16,
            (_, Some(quads)) => quads,
            (_, None) => &self.tile_dot16,
        };
        let run = table[self.vectors(width) - 1];
        // SAFETY: as in `tile`.
        unsafe { run(base, starts, panel, sums, pass) }
    }

    /// Sets `out` to the sums of `query` with the rows of `base` that begin at `starts`, in 32-bit floats.
    ///
    /// # Panics
    /// If a row would leave `base`, or if `out` and `starts` differ in length.
    pub fn rows_f32(
        &self,
        sum: Sum,
        query: &[f32],
        base: &[f32],
        starts: &[usize],
        out: &mut [f32],
    ) {
        self.rows(self.rows_f32[sum as usize], query, base, starts, out);
    }

    /// As [`Self::rows_f32`], of 16-bit floats.
    ///
    /// # Panics
    /// As [`Self::rows_f32`].
    pub fn rows_f16(
        &self,
        sum: Sum,
        query: &[f32],
        base: &[f16],
        starts: &[usize],
        out: &mut [f32],
    ) {
        self.rows(self.rows_f16[sum as usize], query, base, starts, out);
    }

    /// As [`Self::rows_f32`], of bytes; the query is widened; exact.
    ///
    /// # Panics
    /// As [`Self::rows_f32`].
    pub fn rows_u8(&self, sum: Sum, query: &[i16], base: &[u8], starts: &[usize], out: &mut [i32]) {
        self.rows(self.rows_u8[sum as usize], query, base, starts, out);
    }

    /// As [`Self::rows_u8`], of signed bytes.
    ///
    /// # Panics
    /// As [`Self::rows_f32`].
    pub fn rows_i8(&self, sum: Sum, query: &[i16], base: &[i8], starts: &[usize], out: &mut [i32]) {
        self.rows(self.rows_i8[sum as usize], query, base, starts, out);
    }

    fn rows<Q, R, Out>(
        &self,
        run: RowsFn<Q, R, Out>,
        query: &[Q],
        base: &[R],
        starts: &[usize],
        out: &mut [Out],
    ) {
        assert_eq!(out.len(), starts.len(), "a sum for every row");
        if starts.is_empty() {
            return;
        }
        check_starts(base.len(), starts, query.len());
        // SAFETY: `at` asked the processor; every row lies within `base`, and `out` has a place for every sum.
        unsafe { run(query, base, starts, out) }
    }

    /// Turns `sums` `[any.len(), width]` of a tile, as bits, into distances, as bits; `any[row]` says whether one of a
    /// row is below the bound of its row and that of its query.
    ///
    /// # Panics
    /// If shapes do not fit.
    pub fn finish(
        &self,
        ending: Ending,
        width: usize,
        sums: &mut [u32],
        rows: Side<'_>,
        queries: Side<'_>,
        any: &mut [bool],
    ) {
        assert_eq!(sums.len(), any.len() * width, "a sum for every row and query");
        let run = self.finish[self.vectors(width) - 1];
        // SAFETY: `at` asked the processor; the loop itself is safe code.
        unsafe { run(ending, sums, rows, queries, any) }
    }

    /// Runs `rounds` of multiplications and additions in registers alone, and returns how many floating-point operations
    /// that were: with the time it took, the roof over every other loop.
    pub fn burn(&self, rounds: u64) -> u64 {
        // SAFETY: `at` asked the processor; no memory is touched.
        let sum = unsafe { (self.burn)(rounds, std::hint::black_box(1.0e-3)) };
        std::hint::black_box(sum);
        rounds * peak::n_operations(self.lanes, 1)
    }

    /// As [`Self::burn`], with the instruction by which [`Self::tile_bytes`] multiplies bytes.
    pub fn burn_bytes(&self, rounds: u64) -> u64 {
        // SAFETY: `at` asked the processor; no memory is touched.
        let sum = unsafe { (self.burn_bytes)(rounds, std::hint::black_box(0x0301_0201)) };
        std::hint::black_box(sum);
        rounds * peak::n_operations(self.lanes, if self.tile_dot8.is_some() { 4 } else { 2 })
    }

    /// Ways to read, of which any may be the fastest; the first is a plain scan.
    pub const N_READS: usize = peak::PLACES.len();

    /// Reads `words` in the way of that number, below [`Self::N_READS`]; their sum, which wraps.
    pub fn read(&self, way: usize, words: &[i32]) -> i32 {
        // SAFETY: `at` asked the processor; the loop keeps to the slice.
        unsafe { (self.read[way])(std::hint::black_box(words)) }
    }

    /// Widens 16-bit floats, which must be finite.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn widen_f16(&self, from: &[f16], to: &mut [f32]) {
        assert_eq!(from.len(), to.len(), "as many places as values");
        // SAFETY: `at` asked the processor; the lengths are equal.
        unsafe { (self.widen_f16)(from, to) }
    }

    /// Widens bytes.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn widen_u8(&self, from: &[u8], to: &mut [i16]) {
        assert_eq!(from.len(), to.len(), "as many places as values");
        // SAFETY: `at` asked the processor; the lengths are equal.
        unsafe { (self.widen_u8)(from, to) }
    }

    /// Widens signed bytes.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn widen_i8(&self, from: &[i8], to: &mut [i16]) {
        assert_eq!(from.len(), to.len(), "as many places as values");
        // SAFETY: `at` asked the processor; the lengths are equal.
        unsafe { (self.widen_i8)(from, to) }
    }
}

#[cfg(test)]
mod tests;
