//! One query against rows of codes where they lie: integers are summed exactly, and each row's factors, which stand
//! behind its code, turn the sum into an estimate of its distance.
//!
//! A code has 4 or 8 bits per element. With 8, byte `i` is element `i`. With 4, byte `j` of every 64 holds element `j` of
//! the 128 they code for in its lower half and element `64 + j` in its upper half; if 64 elements are left at the end, byte
//! `j` of the last 32 holds elements `j` and `32 + j`.

use crate::distance::Level;

/// Bytes of a code that one step takes.
const CHUNK: usize = 64;

/// Bits of a code for one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bits {
    /// Two elements to a byte.
    Four,
    /// One element to a byte.
    Eight,
}

impl Bits {
    /// Bytes of the code of `n` elements, a multiple of 64.
    pub fn code_bytes(self, n: usize) -> usize {
        match self {
            Self::Four => n / 2,
            Self::Eight => n,
        }
    }
}

/// Where element `i` of `n` stands in a code of four bits: its byte, and whether in the upper half.
pub fn nibble_place(i: usize, n: usize) -> (usize, bool) {
    let (chunk, within) = (i / (2 * CHUNK), i % (2 * CHUNK));
    let half = if (chunk + 1) * 2 * CHUNK <= n { CHUNK } else { CHUNK / 2 };
    (chunk * CHUNK + within % half, within >= half)
}

/// What turns the sum of a row into an estimate.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RowFactors {
    /// Added.
    pub add: f32,
    /// Multiplies.
    pub rescale: f32,
}

/// Bytes of the factors.
pub const FACTOR_BYTES: usize = size_of::<RowFactors>();

/// Records `[n_slots, stride]`: a code, its [`RowFactors`], and what fills the stride.
#[derive(Clone, Copy, Debug)]
pub struct CodedRows<'a> {
    /// All records.
    pub bytes: &'a [u8],
    /// Bytes from one to the next.
    pub stride: usize,
    /// Bits per element.
    pub bits: Bits,
}

/// A query: `estimate = row.add + add + row.rescale · (step · Σ u_i n_i + offset)`, in this order.
#[derive(Clone, Copy, Debug)]
pub struct CodedQuery<'a> {
    /// `n_i`, as many as the code has elements.
    pub numbers: &'a [i8],
    /// Multiplies the sum.
    pub step: f32,
    /// Added to it.
    pub offset: f32,
    /// Added to every estimate.
    pub add: f32,
}

/// Sets `out` to the estimates of the rows `slots`; the same bits at every level.
///
/// # Panics
/// If a slot lies past the end, or if lengths do not fit one another.
pub fn estimates(
    level: Level,
    rows: CodedRows<'_>,
    query: CodedQuery<'_>,
    slots: &[u32],
    out: &mut [f32],
) {
    let code_bytes = rows.bits.code_bytes(query.numbers.len());
    assert!(query.numbers.len().is_multiple_of(CHUNK), "whole words of elements");
    assert!(code_bytes + FACTOR_BYTES <= rows.stride, "a record holds code and factors");
    assert_eq!(slots.len(), out.len(), "an estimate for every slot");
    let last = slots.iter().fold(0, |last, &slot| last.max(slot)) as usize;
    assert!(slots.is_empty() || (last + 1) * rows.stride <= rows.bytes.len(), "slots are there");
    estimates_level(level, rows, query, slots, out);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn estimates_level(
    level: Level,
    rows: CodedRows<'_>,
    query: CodedQuery<'_>,
    slots: &[u32],
    out: &mut [f32],
) {
    match level {
        Level::Baseline => estimates_with(rows, query, slots, out, dot_plain),
        // SAFETY: levels come from `Level::available`, which asked this processor.
        Level::Avx2 | Level::Avx512 => unsafe { x86::estimates_avx2(rows, query, slots, out) },
        // SAFETY: as above; `estimates` has seen that every record lies within the bytes and holds a code of the query's
        // length and factors.
        Level::Avx512Vnni => unsafe {
            match rows.bits {
                Bits::Four => x86::estimates_vnni::<true>(rows, query, slots, out),
                Bits::Eight => x86::estimates_vnni::<false>(rows, query, slots, out),
            }
        },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn estimates_level(
    _: Level,
    rows: CodedRows<'_>,
    query: CodedQuery<'_>,
    slots: &[u32],
    out: &mut [f32],
) {
    estimates_with(rows, query, slots, out, dot_plain);
}

#[inline(always)]
fn estimates_with(
    rows: CodedRows<'_>,
    query: CodedQuery<'_>,
    slots: &[u32],
    out: &mut [f32],
    dot: impl Fn(Bits, &[u8], &[i8]) -> i32,
) {
    let code_bytes = rows.bits.code_bytes(query.numbers.len());
    for (&slot, out) in slots.iter().zip(out) {
        let record = &rows.bytes[slot as usize * rows.stride..][..rows.stride];
        let (code, rest) = record.split_at(code_bytes);
        let factors: RowFactors = bytemuck::pod_read_unaligned(&rest[..FACTOR_BYTES]);
        let sum = query.step * dot(rows.bits, code, query.numbers) as f32 + query.offset;
        *out = factors.add + query.add + factors.rescale * sum;
    }
}

fn dot_plain(bits: Bits, code: &[u8], numbers: &[i8]) -> i32 {
    match bits {
        Bits::Eight => code.iter().zip(numbers).map(|(&u, &n)| i32::from(u) * i32::from(n)).sum(),
        Bits::Four => {
            let element = |(i, &n): (usize, &i8)| {
                let (byte, is_upper) = nibble_place(i, numbers.len());
                let u = if is_upper { code[byte] >> 4 } else { code[byte] & 15 };
                i32::from(u) * i32::from(n)
            };
            numbers.iter().enumerate().map(element).sum()
        }
    }
}

/// Asks memory for `len` bytes of `bytes` from `start` on; nothing is read, so any place is good.
#[inline(always)]
#[allow(unsafe_code)]
pub fn prefetch<T>(values: &[T], start: usize, len: usize) {
    let at = values.as_ptr().wrapping_add(start).cast::<u8>();
    let n_bytes = len * size_of::<T>();
    let mut line = 0;
    while line < n_bytes {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing and never faults, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(line).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
        line += 64;
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Bits, CHUNK, CodedQuery, CodedRows, estimates_with};

    #[target_feature(enable = "avx2,fma,f16c,popcnt")]
    pub(super) fn estimates_avx2(
        rows: CodedRows<'_>,
        query: CodedQuery<'_>,
        slots: &[u32],
        out: &mut [f32],
    ) {
        estimates_with(rows, query, slots, out, |bits, code, numbers| match bits {
            Bits::Four => nibble_dot(code, numbers),
            Bits::Eight => byte_dot(code, numbers),
        });
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(bytes: &[u8; 32]) -> __m256i {
        // SAFETY: 32 bytes are read from a reference to 32 bytes; the load asks for no alignment.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn total(sums: __m256i) -> i32 {
        let half = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let quarter = _mm_add_epi32(half, _mm_shuffle_epi32::<0b00_00_11_10>(half));
        _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32::<0b00_00_00_01>(quarter)))
    }

    /// Products of a number below 16 and a byte, in pairs, fit 16 bits: `2 · 15 · 128 < 2^15`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn nibble_dot(code: &[u8], numbers: &[i8]) -> i32 {
        let (low_bits, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let numbers: &[u8] = bytemuck::cast_slice(numbers);
        let mut sums = _mm256_setzero_si256();
        for (code, numbers) in code.chunks(CHUNK).zip(numbers.chunks(2 * CHUNK)) {
            let (low, high) = numbers.split_at(numbers.len() / 2);
            let (code, low, high) =
                (code.as_chunks::<32>().0, low.as_chunks::<32>().0, high.as_chunks::<32>().0);
            for ((code, low), high) in code.iter().zip(low).zip(high) {
                let code = load(code);
                let above = _mm256_and_si256(_mm256_srli_epi16::<4>(code), low_bits);
                let below = _mm256_and_si256(code, low_bits);
                let pairs = _mm256_add_epi16(
                    _mm256_maddubs_epi16(below, load(low)),
                    _mm256_maddubs_epi16(above, load(high)),
                );
                sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
            }
        }
        total(sums)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn byte_dot(code: &[u8], numbers: &[i8]) -> i32 {
        let mut sums = _mm256_setzero_si256();
        for (code, numbers) in code.as_chunks::<16>().0.iter().zip(numbers.as_chunks::<16>().0) {
            // SAFETY: 16 bytes are read from references to 16 bytes; the loads ask for no alignment.
            let (code, numbers) = unsafe {
                (_mm_loadu_si128(code.as_ptr().cast()), _mm_loadu_si128(numbers.as_ptr().cast()))
            };
            let products =
                _mm256_madd_epi16(_mm256_cvtepu8_epi16(code), _mm256_cvtepi8_epi16(numbers));
            sums = _mm256_add_epi32(sums, products);
        }
        total(sums)
    }

    /// Rows in flight.
    const R: usize = 4;

    /// # Safety
    /// Every slot's record lies within the bytes and holds a code of as many elements as the query and eight bytes of
    /// factors behind it; `out` is as long as `slots`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
    pub(super) unsafe fn estimates_vnni<const NIBBLES: bool>(
        rows: CodedRows<'_>,
        query: CodedQuery<'_>,
        slots: &[u32],
        out: &mut [f32],
    ) {
        let code_bytes = rows.bits.code_bytes(query.numbers.len());
        let base = rows.bytes.as_ptr();
        let (step, offset, add) =
            (_mm_set1_ps(query.step), _mm_set1_ps(query.offset), _mm_set1_ps(query.add));
        for (four, out) in slots.chunks(R).zip(out.chunks_mut(R)) {
            let last = four.len() - 1;
            // A short last block repeats its last row.
            let at: [*const u8; R] = std::array::from_fn(|i| {
                base.wrapping_add(four[i.min(last)] as usize * rows.stride)
            });
            // SAFETY: the caller's promise, handed on.
            let sums = unsafe {
                if NIBBLES {
                    nibbles_vnni(at, query.numbers)
                } else {
                    bytes_vnni(at, query.numbers)
                }
            };
            let sum = _mm_add_ps(_mm_mul_ps(step, _mm_cvtepi32_ps(sums)), offset);
            // SAFETY: eight bytes of factors follow the code.
            let factors: [__m128; R] = std::array::from_fn(|i| unsafe {
                _mm_castsi128_ps(_mm_loadl_epi64(at[i].add(code_bytes).cast()))
            });
            let (a, b) =
                (_mm_unpacklo_ps(factors[0], factors[1]), _mm_unpacklo_ps(factors[2], factors[3]));
            let (row_add, rescale) = (_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
            let estimate = _mm_add_ps(_mm_add_ps(row_add, add), _mm_mul_ps(rescale, sum));
            let mut four = [0.0f32; R];
            // SAFETY: 16 bytes are written to four numbers of four bytes.
            unsafe { _mm_storeu_ps(four.as_mut_ptr(), estimate) };
            out.copy_from_slice(&four[..out.len()]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
    unsafe fn nibbles_vnni(at: [*const u8; R], numbers: &[i8]) -> __m128i {
        let low_bits = _mm512_set1_epi8(15);
        let mut sums = [_mm512_setzero_si512(); R];
        let n_chunks = numbers.len() / (2 * CHUNK);
        let query = numbers.as_ptr();
        for chunk in 0..n_chunks {
            // SAFETY: `128 · n_chunks` numbers and half as many bytes of every code are there.
            unsafe {
                let low = _mm512_loadu_si512(query.add(2 * chunk * CHUNK).cast());
                let high = _mm512_loadu_si512(query.add((2 * chunk + 1) * CHUNK).cast());
                for i in 0..R {
                    let code = _mm512_loadu_si512(at[i].add(chunk * CHUNK).cast());
                    let above = _mm512_and_si512(_mm512_srli_epi16::<4>(code), low_bits);
                    sums[i] = _mm512_dpbusd_epi32(sums[i], _mm512_and_si512(code, low_bits), low);
                    sums[i] = _mm512_dpbusd_epi32(sums[i], above, high);
                }
            }
        }
        let mut halves: [__m256i; R] = std::array::from_fn(|i| {
            _mm256_add_epi32(
                _mm512_castsi512_si256(sums[i]),
                _mm512_extracti64x4_epi64::<1>(sums[i]),
            )
        });
        if !numbers.len().is_multiple_of(2 * CHUNK) {
            let low_bits = _mm256_set1_epi8(15);
            // SAFETY: 64 numbers and 32 bytes of every code are left.
            unsafe {
                let low = _mm256_loadu_si256(query.add(2 * n_chunks * CHUNK).cast());
                let high = _mm256_loadu_si256(query.add(2 * n_chunks * CHUNK + 32).cast());
                for i in 0..R {
                    let code = _mm256_loadu_si256(at[i].add(n_chunks * CHUNK).cast());
                    let above = _mm256_and_si256(_mm256_srli_epi16::<4>(code), low_bits);
                    let below = _mm256_and_si256(code, low_bits);
                    halves[i] = _mm256_dpbusd_epi32(halves[i], below, low);
                    halves[i] = _mm256_dpbusd_epi32(halves[i], above, high);
                }
            }
        }
        totals(halves)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
    unsafe fn bytes_vnni(at: [*const u8; R], numbers: &[i8]) -> __m128i {
        let mut sums = [_mm512_setzero_si512(); R];
        for chunk in 0..numbers.len() / CHUNK {
            // SAFETY: as many numbers, and bytes of every code, are there.
            unsafe {
                let number = _mm512_loadu_si512(numbers.as_ptr().add(chunk * CHUNK).cast());
                for i in 0..R {
                    let code = _mm512_loadu_si512(at[i].add(chunk * CHUNK).cast());
                    sums[i] = _mm512_dpbusd_epi32(sums[i], code, number);
                }
            }
        }
        totals(std::array::from_fn(|i| {
            _mm256_add_epi32(
                _mm512_castsi512_si256(sums[i]),
                _mm512_extracti64x4_epi64::<1>(sums[i]),
            )
        }))
    }

    /// The sums of four vectors, one after another.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn totals(v: [__m256i; R]) -> __m128i {
        let sums = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
        _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    #[test]
    fn estimates_equal_the_definition_at_every_level() {
        for n in [64, 128, 192, 384, 448, 16_384] {
            for (bits, fill) in [(Bits::Four, None), (Bits::Eight, None), (Bits::Eight, Some(255))]
            {
                let code_bytes = bits.code_bytes(n);
                let stride = (code_bytes + FACTOR_BYTES).next_multiple_of(16);
                let mut bytes: Vec<u8> =
                    (0..7 * stride as u64).map(|i| fill.unwrap_or(stream(1, i) as u8)).collect();
                for (i, record) in bytes.chunks_mut(stride).enumerate() {
                    let factors = RowFactors { add: i as f32 * 0.7, rescale: 0.3 - i as f32 };
                    record[code_bytes..][..FACTOR_BYTES]
                        .copy_from_slice(bytemuck::bytes_of(&factors));
                }
                let number = |i| if fill.is_some() { -128 } else { stream(2, i) as i8 };
                let numbers: Vec<i8> = (0..n as u64).map(number).collect();
                let query = CodedQuery { numbers: &numbers, step: 0.013, offset: -0.5, add: 2.25 };
                let rows = CodedRows { bytes: &bytes, stride, bits };
                for slots in [&[][..], &[3], &[6, 0, 1], &[0, 1, 2, 3], &[5, 5, 4, 3, 2, 1, 0, 6]] {
                    let mut want = vec![0.0; slots.len()];
                    estimates_with(rows, query, slots, &mut want, dot_plain);
                    for level in Level::available() {
                        let mut got = vec![0.0; slots.len()];
                        estimates(level, rows, query, slots, &mut got);
                        assert_eq!(got, want, "{level:?} {n} {bits:?} {slots:?}");
                    }
                }
            }
        }
    }
}
