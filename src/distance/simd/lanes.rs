//! What the loops need of an instruction set: vectors of 32-bit lanes. `baseline.rs`, `avx2.rs` and `avx512.rs` supply
//! them; the loops themselves are written once.

/// Vectors of [`Self::N`] floats and of as many 32-bit integers, which also hold twice as many 16-bit ones.
///
/// # Safety
/// Every function may be called only where the processor has the instructions of the implementor, and every pointer
/// must be good for the vector that is read or written; no alignment is asked.
pub(super) unsafe trait Lanes: 'static {
    /// Vector of floats.
    type F: Copy;
    /// Vector of integers.
    type I: Copy;
    /// 32-bit lanes of a vector.
    const N: usize;

    unsafe fn f_zero() -> Self::F;
    unsafe fn f_load(at: *const f32) -> Self::F;
    unsafe fn f_splat(at: *const f32) -> Self::F;
    /// `N` 16-bit floats, widened.
    unsafe fn f_half(at: *const u16) -> Self::F;
    unsafe fn f_store(at: *mut f32, v: Self::F);
    unsafe fn f_add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn f_sub(a: Self::F, b: Self::F) -> Self::F;
    /// `sum + a b`.
    unsafe fn f_fma(sum: Self::F, a: Self::F, b: Self::F) -> Self::F;
    /// `sum + |a|`.
    unsafe fn f_add_abs(sum: Self::F, a: Self::F) -> Self::F;
    /// Sum of the lanes.
    unsafe fn f_sum(v: Self::F) -> f32;

    unsafe fn i_zero() -> Self::I;
    unsafe fn i_load(at: *const i32) -> Self::I;
    unsafe fn i_splat(at: *const i32) -> Self::I;
    unsafe fn i_store(at: *mut i32, v: Self::I);
    unsafe fn i_add(a: Self::I, b: Self::I) -> Self::I;
    /// Sum of the 32-bit lanes.
    unsafe fn i_sum(v: Self::I) -> i32;
    /// `2 N` bytes, widened to 16 bits.
    unsafe fn i_bytes_u8(at: *const u8) -> Self::I;
    /// `2 N` signed bytes, widened to 16 bits.
    unsafe fn i_bytes_i8(at: *const i8) -> Self::I;
    /// `a - b` in 16-bit lanes.
    unsafe fn i_sub16(a: Self::I, b: Self::I) -> Self::I;
    /// `|a|` in 16-bit lanes.
    unsafe fn i_abs16(a: Self::I) -> Self::I;
    /// One in every 16-bit lane.
    unsafe fn i_ones16() -> Self::I;
    /// `sum + a_0 b_0 + a_1 b_1` in 32-bit lanes of 16-bit pairs.
    unsafe fn i_madd16(sum: Self::I, a: Self::I, b: Self::I) -> Self::I;
}

/// Instruction sets that multiply four bytes at once.
///
/// # Safety
/// As [`Lanes`].
pub(super) unsafe trait Quads: Lanes {
    /// `sum + Σ a_i b_i` in 32-bit lanes of four bytes, `a` unsigned, `b` signed; nothing saturates.
    unsafe fn i_quads(sum: Self::I, a: Self::I, b: Self::I) -> Self::I;
}
