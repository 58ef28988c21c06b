//! One query against the signs of rows where they lie: a bit per element, and beside the bits what turns their sum into a bound.
//!
//! A sign stands for -1 or 1, a number of the query for `n - 7.5` with `n` below 16, given as four planes of bits. Where the bit of a row
//! and that of a plane agree, their product is positive: the bits that differ are counted, `Σ 2^j |row ^ plane_j|`, and the sum of products
//! is `7.5 d` less that count.
//!
//! Paper: Gao, Long, "RaBitQ", SIGMOD 2024, 3.3.2. Ours: differing bits are counted where theirs are common ones, so that nothing has to
//! be known of a row but its bits.

use crate::distance::Level;
use crate::distance::simd::coded::{RowFactors, prefetch};
use crate::distance::simd::few::largest;

/// Bits per number of a query.
pub const PLANES: usize = 4;

/// Rows that are asked of memory ahead: by the time that they are met, the third-level cache has answered.
const AHEAD: usize = 48;

/// Words whose sums fit 16 bits: `64 · 64 · 15 < 2^16`.
#[cfg(target_arch = "x86_64")]
const WORDS_PER_SUM: usize = 64;

/// Two words of each plane, one plane after another; in the last of an odd number of words the second is 0.
pub type Pair = [u64; 2 * PLANES];

/// Records `[n_slots, n_words + 1]`: the signs of a row, then its [`RowFactors`] (`add` in the lower half).
#[derive(Clone, Copy, Debug)]
pub struct SignRows<'a> {
    /// All records.
    pub words: &'a [u64],
    /// Words of signs.
    pub n_words: usize,
}

/// A query: `estimate = row.add + add + row.rescale · (step · count + offset)`, in this order.
#[derive(Clone, Copy, Debug)]
pub struct SignQuery<'a> {
    /// The planes, two words at a time.
    pub pairs: &'a [Pair],
    /// Multiplies the count.
    pub step: f32,
    /// Added to it.
    pub offset: f32,
    /// Added to every estimate.
    pub add: f32,
}

impl RowFactors {
    /// As a record holds them.
    pub fn to_word(self) -> u64 {
        u64::from(self.add.to_bits()) | u64::from(self.rescale.to_bits()) << 32
    }

    fn of_word(word: u64) -> Self {
        Self { add: f32::from_bits(word as u32), rescale: f32::from_bits((word >> 32) as u32) }
    }
}

/// Sets `out` to the estimates of the rows `slots`; the same bits at every level.
///
/// # Panics
/// If a slot lies past the end, or if lengths do not fit one another.
pub fn estimates(
    level: Level,
    rows: SignRows<'_>,
    query: SignQuery<'_>,
    slots: &[u32],
    out: &mut [f32],
) {
    assert!(rows.n_words > 0 && query.pairs.len() == rows.n_words.div_ceil(2), "a query's words");
    assert_eq!(slots.len(), out.len(), "an estimate for every slot");
    let n_words = (largest(level, slots) as usize + 1) * (rows.n_words + 1);
    assert!(slots.is_empty() || n_words <= rows.words.len(), "slots are there");
    estimates_level(level, rows, query, slots, out);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn estimates_level(
    level: Level,
    rows: SignRows<'_>,
    query: SignQuery<'_>,
    slots: &[u32],
    out: &mut [f32],
) {
    match level {
        Level::Baseline => estimates_with(rows, query, slots, out),
        Level::Avx512Vnni if rows.n_words <= WORDS_PER_SUM => {
            // SAFETY: levels come from `Level::available`, which asked this processor; `estimates` has seen that every record
            // lies within the words and that there are planes for all of a row.
            unsafe {
                match rows.n_words {
                    2 => x86::estimates_avx512::<true>(rows, query, slots, out),
                    _ => x86::estimates_avx512::<false>(rows, query, slots, out),
                }
            }
        }
        // SAFETY: as above.
        _ => unsafe { x86::estimates_popcnt(rows, query, slots, out) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn estimates_level(
    _: Level,
    rows: SignRows<'_>,
    query: SignQuery<'_>,
    slots: &[u32],
    out: &mut [f32],
) {
    estimates_with(rows, query, slots, out);
}

#[inline(always)]
fn estimates_with(rows: SignRows<'_>, query: SignQuery<'_>, slots: &[u32], out: &mut [f32]) {
    let stride = rows.n_words + 1;
    for (i, (&slot, out)) in slots.iter().zip(out).enumerate() {
        if let Some(&coming) = slots.get(i + AHEAD) {
            prefetch(rows.words, coming as usize * stride, stride);
        }
        let record = &rows.words[slot as usize * stride..][..stride];
        let (signs, factors) = record.split_at(rows.n_words);
        let factors = RowFactors::of_word(factors[0]);
        let sum = query.step * count(signs, query.pairs) as f32 + query.offset;
        *out = factors.add + query.add + factors.rescale * sum;
    }
}

/// `Σ 2^j |row ^ plane_j|`.
#[inline(always)]
fn count(signs: &[u64], pairs: &[Pair]) -> u32 {
    let mut sum = 0;
    for (two, pair) in signs.chunks(2).zip(pairs) {
        for (i, word) in two.iter().enumerate() {
            for plane in 0..PLANES {
                sum += (word ^ pair[2 * plane + i]).count_ones() << plane;
            }
        }
    }
    sum
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{AHEAD, Pair, SignQuery, SignRows, estimates_with, prefetch};

    #[target_feature(enable = "avx2,fma,popcnt")]
    pub(super) fn estimates_popcnt(
        rows: SignRows<'_>,
        query: SignQuery<'_>,
        slots: &[u32],
        out: &mut [f32],
    ) {
        estimates_with(rows, query, slots, out);
    }

    /// Rows in flight.
    const R: usize = 8;

    /// # Safety
    /// Every slot's record of `n_words + 1` words lies within the words, and there is a pair of planes for
    /// every two words of signs; `out` is as long as `slots`; no code has more than 64 words.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx2,popcnt,fma")]
    pub(super) unsafe fn estimates_avx512<const ONE: bool>(
        rows: SignRows<'_>,
        query: SignQuery<'_>,
        slots: &[u32],
        out: &mut [f32],
    ) {
        let (eights, rest) = slots.as_chunks::<R>();
        let (out, out_rest) = out.split_at_mut(eights.len() * R);
        // SAFETY: the caller's promise, handed on here and below.
        let one = |eight: &[u32; R]| unsafe { eight_rows::<ONE>(rows, query, eight) };
        eights.iter().take(AHEAD / R).for_each(|eight| ask::<ONE>(rows, eight));
        for (i, (eight, out)) in eights.iter().zip(out.as_chunks_mut::<R>().0).enumerate() {
            if let Some(coming) = eights.get(i + AHEAD / R) {
                ask::<ONE>(rows, coming);
            }
            *out = one(eight);
        }
        if let Some(&last) = rest.last() {
            let eight = std::array::from_fn(|i| rest.get(i).copied().unwrap_or(last));
            out_rest.copy_from_slice(&one(&eight)[..rest.len()]);
        }
    }

    /// Words of a record, known where the code is `ONE` pair.
    #[inline]
    fn stride<const ONE: bool>(rows: SignRows<'_>) -> usize {
        if ONE { 3 } else { rows.n_words + 1 }
    }

    /// Asks memory for eight rows.
    #[inline]
    fn ask<const ONE: bool>(rows: SignRows<'_>, slots: &[u32; R]) {
        let stride = stride::<ONE>(rows);
        slots.iter().for_each(|&slot| prefetch(rows.words, slot as usize * stride, stride));
    }

    /// The estimates of eight rows, whose code is a pair of words if it is `ONE`.
    ///
    /// # Safety
    /// As for [`estimates_avx512`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx2,popcnt,fma")]
    unsafe fn eight_rows<const ONE: bool>(
        rows: SignRows<'_>,
        query: SignQuery<'_>,
        slots: &[u32; R],
    ) -> [f32; R] {
        let (base, stride) = (rows.words.as_ptr(), stride::<ONE>(rows));
        let at: [*const u64; R] =
            std::array::from_fn(|i| base.wrapping_add(slots[i] as usize * stride));
        // SAFETY: the caller's promise, handed on.
        let (counts, factors) = unsafe {
            let sums =
                if ONE { one_pair(at, query.pairs) } else { pairs(at, rows.n_words, query.pairs) };
            (weighted(sums), factors(at, if ONE { 2 } else { rows.n_words }))
        };
        let counts = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(counts));
        let (step, offset, add) =
            (_mm256_set1_ps(query.step), _mm256_set1_ps(query.offset), _mm256_set1_ps(query.add));
        let sum = _mm256_add_ps(_mm256_mul_ps(step, counts), offset);
        let (row_add, rescale) = factors;
        let estimates = _mm256_add_ps(_mm256_add_ps(row_add, add), _mm256_mul_ps(rescale, sum));
        let mut out = [0.0f32; R];
        // SAFETY: 32 bytes are written to eight numbers of four bytes.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), estimates) };
        out
    }

    /// The factors of eight rows, by kind.
    ///
    /// # Safety
    /// There are `n_words + 1` words at each place.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
    unsafe fn factors(at: [*const u64; R], n_words: usize) -> (__m256, __m256) {
        let two = |i: usize| {
            // SAFETY: eight bytes follow the signs of both rows.
            unsafe {
                let first = _mm_loadl_epi64(at[i].add(n_words).cast());
                let second = at[i + 1].add(n_words).cast::<f64>();
                _mm_castpd_ps(_mm_loadh_pd(_mm_castsi128_pd(first), second))
            }
        };
        let (a, b, c, d) = (two(0), two(2), two(4), two(6));
        let adds = |a, b| _mm_shuffle_ps::<0b10_00_10_00>(a, b);
        let rescales = |a, b| _mm_shuffle_ps::<0b11_01_11_01>(a, b);
        (_mm256_set_m128(adds(c, d), adds(a, b)), _mm256_set_m128(rescales(c, d), rescales(a, b)))
    }

    /// Bits of two words of signs from `at` on that differ from each plane's.
    ///
    /// # Safety
    /// There are two words at `at`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx2")]
    unsafe fn differing(at: *const u64, planes: __m512i) -> __m512i {
        // SAFETY: the caller's promise.
        let two = unsafe { _mm_loadu_si128(at.cast()) };
        _mm512_popcnt_epi64(_mm512_xor_si512(_mm512_broadcast_i64x2(two), planes))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(pair: &Pair) -> __m512i {
        // SAFETY: 64 bytes are read from a reference to eight words; the load asks for no alignment.
        unsafe { _mm512_loadu_si512(pair.as_ptr().cast()) }
    }

    /// Differing bits of eight rows of two words.
    ///
    /// # Safety
    /// There are two words at each place, and a pair of planes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx2")]
    unsafe fn one_pair(at: [*const u64; R], pairs: &[Pair]) -> [__m512i; R] {
        let planes = load(&pairs[0]);
        // SAFETY: the caller's promise.
        at.map(|at| unsafe { differing(at, planes) })
    }

    /// Differing bits of eight rows.
    ///
    /// # Safety
    /// There are `n_words + 1` words at each place, and a pair of planes for every two of signs.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx2")]
    unsafe fn pairs(at: [*const u64; R], n_words: usize, pairs: &[Pair]) -> [__m512i; R] {
        let mut sums = [_mm512_setzero_si512(); R];
        let (whole, rest) = pairs.split_at(n_words / 2);
        for (i, pair) in whole.iter().enumerate() {
            let planes = load(pair);
            for r in 0..R {
                // SAFETY: the caller's promise.
                let counts = unsafe { differing(at[r].add(2 * i), planes) };
                sums[r] = _mm512_add_epi64(sums[r], counts);
            }
        }
        if let Some(pair) = rest.first() {
            let planes = load(pair);
            for r in 0..R {
                // SAFETY: the word behind the last is that of the factors, of which nothing is counted.
                let counts = unsafe { differing(at[r].add(n_words - 1), planes) };
                sums[r] = _mm512_mask_add_epi64(sums[r], 0b0101_0101, sums[r], counts);
            }
        }
        sums
    }

    /// `Σ 2^j |row ^ plane_j|` of eight rows, from the sums of their planes, two of each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
    fn weighted(sums: [__m512i; R]) -> __m128i {
        // A sum of a plane is below 2^12, four of them fit a word.
        let four = |i: usize| {
            let low = _mm512_or_si512(sums[i], _mm512_slli_epi64::<16>(sums[i + 1]));
            let high = _mm512_or_si512(sums[i + 2], _mm512_slli_epi64::<16>(sums[i + 3]));
            _mm512_or_si512(low, _mm512_slli_epi64::<32>(high))
        };
        let (low, high) = (four(0), four(4));
        let both =
            _mm512_add_epi16(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
        let weighted = _mm512_sllv_epi64(both, _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0));
        let half = _mm256_add_epi16(
            _mm512_castsi512_si256(weighted),
            _mm512_extracti64x4_epi64::<1>(weighted),
        );
        _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    /// Words of all bits, and random ones.
    fn words(n: usize, is_full: bool, seed: u64) -> Vec<u64> {
        (0..n as u64).map(|i| if is_full { u64::MAX } else { stream(seed, i) }).collect()
    }

    /// The sum of products of -1 or 1 and of `n - 7.5`, element by element.
    fn by_definition(signs: &[u64], pairs: &[Pair]) -> f64 {
        let product = |i: usize| {
            let (word, bit) = (i / 64, i % 64);
            let sign = f64::from(2 * (signs[word] >> bit & 1) as i32 - 1);
            let of = |plane: usize| (pairs[word / 2][2 * plane + word % 2] >> bit & 1) << plane;
            sign * ((0..PLANES).map(of).sum::<u64>() as f64 - 7.5)
        };
        (0..signs.len() * 64).map(product).sum()
    }

    #[test]
    fn estimates_equal_the_definition_at_every_level() {
        for n_words in [1, 2, 3, 6, 13, 63, 64, 65, 256] {
            for is_full in [false, true] {
                let mut records = words(11 * (n_words + 1), is_full, 1);
                for (i, record) in records.chunks_mut(n_words + 1).enumerate() {
                    let factors = RowFactors { add: i as f32 * 0.7, rescale: 0.3 - i as f32 };
                    record[n_words] = factors.to_word();
                }
                // The farthest: no bit of a plane is as those of a full row.
                let mut planes =
                    if is_full { vec![0; 4 * n_words] } else { words(4 * n_words, false, 2) };
                planes.resize(4 * n_words.next_multiple_of(2), 0);
                let mut pairs: Vec<Pair> = planes.as_chunks::<8>().0.to_vec();
                if !n_words.is_multiple_of(2) {
                    (0..PLANES).for_each(|plane| pairs[n_words / 2][2 * plane + 1] = 0);
                }
                let query = SignQuery { pairs: &pairs, step: 0.013, offset: -0.5, add: 2.25 };
                let rows = SignRows { words: &records, n_words };
                let slots: Vec<u32> = (0..200).map(|i| (stream(3, i) % 11) as u32).collect();
                for n in [0, 1, 7, 8, 9, 200] {
                    let want: Vec<f32> = slots[..n]
                        .iter()
                        .map(|&slot| {
                            let record = &records[slot as usize * (n_words + 1)..][..n_words + 1];
                            let factors = RowFactors::of_word(record[n_words]);
                            let sum = by_definition(&record[..n_words], &pairs);
                            let count = (7.5 * 64.0 * n_words as f64 - sum) as f32;
                            factors.add
                                + query.add
                                + factors.rescale * (query.step * count + query.offset)
                        })
                        .collect();
                    for level in Level::available() {
                        let mut got = vec![0.0; n];
                        estimates(level, rows, query, &slots[..n], &mut got);
                        assert_eq!(got, want, "{level:?} {n_words} words, full: {is_full}");
                    }
                }
            }
        }
    }
}
