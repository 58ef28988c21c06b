//! AVX2 with FMA and F16C: eight lanes.

use std::arch::x86_64::*;

use super::lanes::Lanes;

/// Eight lanes in a `ymm` register.
pub(super) struct Avx2;

// SAFETY: the instructions are those of `Level::Avx2`; pointers are the caller's promise.
unsafe impl Lanes for Avx2 {
    type F = __m256;
    type I = __m256i;
    const N: usize = 8;

    #[inline(always)]
    unsafe fn f_zero() -> __m256 {
        _mm256_setzero_ps()
    }
    #[inline(always)]
    unsafe fn f_load(at: *const f32) -> __m256 {
        _mm256_loadu_ps(at)
    }
    #[inline(always)]
    unsafe fn f_splat(at: *const f32) -> __m256 {
        _mm256_set1_ps(*at)
    }
    #[inline(always)]
    unsafe fn f_half(at: *const u16) -> __m256 {
        _mm256_cvtph_ps(_mm_loadu_si128(at.cast()))
    }
    #[inline(always)]
    unsafe fn f_store(at: *mut f32, v: __m256) {
        _mm256_storeu_ps(at, v);
    }
    #[inline(always)]
    unsafe fn f_add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn f_sub(a: __m256, b: __m256) -> __m256 {
        _mm256_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn f_fma(sum: __m256, a: __m256, b: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, sum)
    }
    #[inline(always)]
    unsafe fn f_add_abs(sum: __m256, a: __m256) -> __m256 {
        _mm256_add_ps(sum, _mm256_andnot_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    unsafe fn f_sum(v: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }

    #[inline(always)]
    unsafe fn i_zero() -> __m256i {
        _mm256_setzero_si256()
    }
    #[inline(always)]
    unsafe fn i_load(at: *const i32) -> __m256i {
        _mm256_loadu_si256(at.cast())
    }
    #[inline(always)]
    unsafe fn i_splat(at: *const i32) -> __m256i {
        _mm256_set1_epi32(*at)
    }
    #[inline(always)]
    unsafe fn i_store(at: *mut i32, v: __m256i) {
        _mm256_storeu_si256(at.cast(), v);
    }
    #[inline(always)]
    unsafe fn i_add(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn i_sum(v: __m256i) -> i32 {
        let four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two)))
    }
    #[inline(always)]
    unsafe fn i_bytes_u8(at: *const u8) -> __m256i {
        _mm256_cvtepu8_epi16(_mm_loadu_si128(at.cast()))
    }
    #[inline(always)]
    unsafe fn i_bytes_i8(at: *const i8) -> __m256i {
        _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast()))
    }
    #[inline(always)]
    unsafe fn i_sub16(a: __m256i, b: __m256i) -> __m256i {
        _mm256_sub_epi16(a, b)
    }
    #[inline(always)]
    unsafe fn i_abs16(a: __m256i) -> __m256i {
        _mm256_abs_epi16(a)
    }
    #[inline(always)]
    unsafe fn i_ones16() -> __m256i {
        _mm256_set1_epi16(1)
    }
    #[inline(always)]
    unsafe fn i_madd16(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
    }
}

table!(avx2_table, Avx2, 8 x 1, 6 x 2, lacks, "avx2,fma,f16c,popcnt");
