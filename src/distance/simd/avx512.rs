//! AVX-512 F, BW, DQ, VL, and VNNI where it is there: sixteen lanes.

use std::arch::x86_64::*;

use super::lanes::{Lanes, Quads};

/// Sixteen lanes in a `zmm` register.
pub(super) struct Avx512;

// SAFETY: the instructions are those of `Level::Avx512`; pointers are the caller's promise.
unsafe impl Lanes for Avx512 {
    type F = __m512;
    type I = __m512i;
    const N: usize = 16;

    #[inline(always)]
    unsafe fn f_zero() -> __m512 {
        _mm512_setzero_ps()
    }
    #[inline(always)]
    unsafe fn f_load(at: *const f32) -> __m512 {
        _mm512_loadu_ps(at)
    }
    #[inline(always)]
    unsafe fn f_splat(at: *const f32) -> __m512 {
        _mm512_set1_ps(*at)
    }
    #[inline(always)]
    unsafe fn f_half(at: *const u16) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()))
    }
    #[inline(always)]
    unsafe fn f_store(at: *mut f32, v: __m512) {
        _mm512_storeu_ps(at, v);
    }
    #[inline(always)]
    unsafe fn f_add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn f_sub(a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn f_fma(sum: __m512, a: __m512, b: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, sum)
    }
    #[inline(always)]
    unsafe fn f_add_abs(sum: __m512, a: __m512) -> __m512 {
        _mm512_add_ps(sum, _mm512_abs_ps(a))
    }
    #[inline(always)]
    unsafe fn f_sum(v: __m512) -> f32 {
        _mm512_reduce_add_ps(v)
    }

    #[inline(always)]
    unsafe fn i_zero() -> __m512i {
        _mm512_setzero_si512()
    }
    #[inline(always)]
    unsafe fn i_load(at: *const i32) -> __m512i {
        _mm512_loadu_si512(at.cast())
    }
    #[inline(always)]
    unsafe fn i_splat(at: *const i32) -> __m512i {
        _mm512_set1_epi32(*at)
    }
    #[inline(always)]
    unsafe fn i_store(at: *mut i32, v: __m512i) {
        _mm512_storeu_si512(at.cast(), v);
    }
    #[inline(always)]
    unsafe fn i_add(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn i_sum(v: __m512i) -> i32 {
        _mm512_reduce_add_epi32(v)
    }
    #[inline(always)]
    unsafe fn i_bytes_u8(at: *const u8) -> __m512i {
        _mm512_cvtepu8_epi16(_mm256_loadu_si256(at.cast()))
    }
    #[inline(always)]
    unsafe fn i_bytes_i8(at: *const i8) -> __m512i {
        _mm512_cvtepi8_epi16(_mm256_loadu_si256(at.cast()))
    }
    #[inline(always)]
    unsafe fn i_sub16(a: __m512i, b: __m512i) -> __m512i {
        _mm512_sub_epi16(a, b)
    }
    #[inline(always)]
    unsafe fn i_abs16(a: __m512i) -> __m512i {
        _mm512_abs_epi16(a)
    }
    #[inline(always)]
    unsafe fn i_ones16() -> __m512i {
        _mm512_set1_epi16(1)
    }
    #[inline(always)]
    unsafe fn i_madd16(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
    }
}

// SAFETY: the instruction is one of `Level::Avx512Vnni`.
unsafe impl Quads for Avx512 {
    #[inline(always)]
    unsafe fn i_quads(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sum, a, b)
    }
}

table!(avx512_table, Avx512, 8 x 1, 12 x 2, lacks, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,popcnt");
table!(
    vnni_table, Avx512, 8 x 1, 12 x 2, has,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,popcnt"
);
