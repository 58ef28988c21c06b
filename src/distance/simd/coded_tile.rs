//! Many queries against some rows of codes of four bits: the rows are interleaved once, and every query that comes to them is
//! compared with sixteen in each instruction, four elements of each.
//!
//! Estimates have the bits of those of `coded.rs`, one query after another.

use super::coded::{Bits, CodedQuery, CodedRows, FACTOR_BYTES, RowFactors};
use crate::distance::Level;

/// Rows of a vector: one to each 32-bit lane.
pub const LANES: usize = 16;

/// Queries that are compared at once, at most.
pub const QUERIES: usize = 8;

/// Rows that are compared while a word of a query is at hand.
const ROWS: usize = 2 * LANES;

/// Words of 128 elements of a code.
const CHUNK_WORDS: usize = 16;

/// Rows side by side: word `w` of row `r` of each sixteen at `w * LANES + r`.
#[derive(Clone, Debug, Default)]
pub struct RowTile {
    words: Vec<u32>,
    adds: Vec<f32>,
    rescales: Vec<f32>,
    code_words: usize,
    n_rows: usize,
}

/// The estimates of some queries, and which of them are near.
#[derive(Clone, Debug, Default)]
pub struct TileEstimates {
    /// `[n_queries, stride]`.
    estimates: Vec<f32>,
    /// `[n_queries, stride / 32]`: the rows whose estimate is at most the query's bound.
    near: Vec<u32>,
    stride: usize,
}

impl RowTile {
    /// Takes the rows `slots` in place of those that were there.
    ///
    /// # Panics
    /// If a slot lies past the end, or if codes are not of four bits.
    pub fn load(&mut self, level: Level, rows: CodedRows<'_>, n_elements: usize, slots: &[u32]) {
        assert_eq!(rows.bits, Bits::Four, "only codes of four bits are interleaved");
        let code_bytes = rows.bits.code_bytes(n_elements);
        assert!(code_bytes + FACTOR_BYTES <= rows.stride, "a record holds code and factors");
        let last = slots.iter().fold(0, |last, &slot| last.max(slot)) as usize;
        assert!(
            (last + 1) * rows.stride <= rows.bytes.len() || slots.is_empty(),
            "slots are there"
        );
        let padded = slots.len().next_multiple_of(ROWS);
        (self.code_words, self.n_rows) = (code_bytes / 4, slots.len());
        self.words.resize(padded * self.code_words, 0);
        self.adds.resize(padded, 0.0);
        self.rescales.resize(padded, 0.0);
        for (row, &slot) in slots.iter().enumerate() {
            let factors = &rows.bytes[slot as usize * rows.stride + code_bytes..][..FACTOR_BYTES];
            let factors: RowFactors = bytemuck::pod_read_unaligned(factors);
            (self.adds[row], self.rescales[row]) = (factors.add, factors.rescale);
        }
        let group_words = LANES * self.code_words;
        let groups = slots.chunks(LANES).zip(self.words.chunks_exact_mut(group_words.max(1)));
        groups.for_each(|(slots, words)| interleave(level, rows, slots, words));
    }

    /// Rows that were loaded.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Rows and what fills the last vectors.
    fn padded(&self) -> usize {
        self.n_rows.next_multiple_of(ROWS)
    }

    /// Sets `out` to the estimates of `queries`; near are those at most the query's bound.
    ///
    /// # Panics
    /// If there are more than [`QUERIES`], bounds are not as many, or a query has not as many numbers as the codes
    /// elements.
    pub fn estimate(
        &self,
        level: Level,
        queries: &[CodedQuery<'_>],
        bounds: &[f32],
        out: &mut TileEstimates,
    ) {
        assert!(queries.len() <= QUERIES && queries.len() == bounds.len(), "a bound for each");
        let fits = |query: &CodedQuery<'_>| query.numbers.len() == 8 * self.code_words;
        assert!(queries.iter().all(fits), "a number for every element");
        out.stride = self.padded();
        out.estimates.resize(QUERIES * out.stride, 0.0);
        out.near.resize(QUERIES * out.stride / 32, 0);
        estimate_level(self, level, queries, bounds, out);
    }
}

impl TileEstimates {
    /// Of one query: by row, and a bit per row that is near, past the last row too.
    pub fn of(&self, query: usize) -> (&[f32], &[u32]) {
        let words = self.stride / 32;
        let near = &self.near[query * words..(query + 1) * words];
        (&self.estimates[query * self.stride..(query + 1) * self.stride], near)
    }
}

/// The number of words of a query before those that a word of a chunk's upper halves is multiplied with.
fn half(chunk_words: usize) -> usize {
    chunk_words.min(CHUNK_WORDS)
}

fn interleave(level: Level, rows: CodedRows<'_>, slots: &[u32], words: &mut [u32]) {
    #[cfg(target_arch = "x86_64")]
    if level == Level::Avx512Vnni {
        // SAFETY: levels come from `Level::available`; `load` has seen that all records lie within the bytes, and that there
        // are `LANES` words for every word of a code.
        #[allow(unsafe_code)]
        unsafe {
            x86::interleave(rows, slots, words);
        }
        return;
    }
    let _ = level;
    for (lane, &slot) in slots.iter().enumerate() {
        let code = &rows.bytes[slot as usize * rows.stride..][..words.len() / LANES * 4];
        for (word, bytes) in code.as_chunks::<4>().0.iter().enumerate() {
            words[word * LANES + lane] = u32::from_le_bytes(*bytes);
        }
    }
}

fn estimate_level(
    tile: &RowTile,
    level: Level,
    queries: &[CodedQuery<'_>],
    bounds: &[f32],
    out: &mut TileEstimates,
) {
    #[cfg(target_arch = "x86_64")]
    if level == Level::Avx512Vnni {
        // SAFETY: levels come from `Level::available`; `estimate` has seen the numbers of all queries and made room.
        #[allow(unsafe_code)]
        unsafe {
            x86::estimate(tile, queries, bounds, out);
        }
        return;
    }
    let _ = level;
    let stride = out.stride;
    for (q, (query, &bound)) in queries.iter().zip(bounds).enumerate() {
        let near = &mut out.near[q * stride / 32..(q + 1) * stride / 32];
        near.fill(0);
        for row in 0..stride {
            let sum = query.step * dot_plain(tile, row, query.numbers) as f32 + query.offset;
            let estimate = tile.adds[row] + query.add + tile.rescales[row] * sum;
            out.estimates[q * stride + row] = estimate;
            near[row / 32] |= u32::from(estimate <= bound) << (row % 32);
        }
    }
}

fn dot_plain(tile: &RowTile, row: usize, numbers: &[i8]) -> i32 {
    let group = &tile.words[row / LANES * LANES * tile.code_words..][..LANES * tile.code_words];
    let (mut sum, mut at) = (0, 0);
    for chunk in group.chunks(CHUNK_WORDS * LANES) {
        let n = half(chunk.len() / LANES);
        for (word, lanes) in chunk.chunks_exact(LANES).enumerate() {
            for (byte, code) in lanes[row % LANES].to_le_bytes().into_iter().enumerate() {
                let element = at + 4 * word + byte;
                sum += i32::from(code & 15) * i32::from(numbers[element]);
                sum += i32::from(code >> 4) * i32::from(numbers[element + 4 * n]);
            }
        }
        at += 8 * n;
    }
    sum
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{CHUNK_WORDS, LANES, ROWS, RowTile, TileEstimates, half};
    use crate::distance::simd::coded::{CodedQuery, CodedRows};

    /// # Safety
    /// There are at most [`LANES`] slots, whose records lie within the bytes and are no shorter than `words.len() / LANES`
    /// words.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn interleave(rows: CodedRows<'_>, slots: &[u32], words: &mut [u32]) {
        for (chunk, out) in words.chunks_mut(CHUNK_WORDS * LANES).enumerate() {
            let n = out.len() / LANES;
            let mask = ((1u32 << n) - 1) as u16;
            let mut block = [_mm512_setzero_si512(); LANES];
            for (row, &slot) in block.iter_mut().zip(slots) {
                let start = slot as usize * rows.stride + chunk * CHUNK_WORDS * 4;
                // SAFETY: the caller's promise; lanes that are masked are not read.
                *row = unsafe {
                    _mm512_maskz_loadu_epi32(mask, rows.bytes.as_ptr().add(start).cast())
                };
            }
            let block = transposed(block);
            for (word, lanes) in block.iter().zip(out.as_chunks_mut::<LANES>().0) {
                // SAFETY: 64 bytes are written to sixteen words.
                unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), *word) };
            }
        }
    }

    /// Word `i` of row `j` as word `j` of row `i`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
        let zero = _mm512_setzero_si512();
        let (mut pairs, mut fours, mut out) = ([zero; LANES], [zero; LANES], [zero; LANES]);
        for i in 0..LANES / 2 {
            pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        for i in (0..LANES).step_by(4) {
            fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
            fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
            fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
            fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
        }
        for i in 0..4 {
            let (a, b, c, d) = (fours[i], fours[4 + i], fours[8 + i], fours[12 + i]);
            let (even, odd) =
                (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
            let (even_2, odd_2) =
                (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
            out[i] = _mm512_shuffle_i32x4::<0x88>(even, even_2);
            out[8 + i] = _mm512_shuffle_i32x4::<0xdd>(even, even_2);
            out[4 + i] = _mm512_shuffle_i32x4::<0x88>(odd, odd_2);
            out[12 + i] = _mm512_shuffle_i32x4::<0xdd>(odd, odd_2);
        }
        out
    }

    /// # Safety
    /// Queries have eight numbers for every word of a code, and `out` has room for `tile.padded()` estimates of each.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn estimate(
        tile: &RowTile,
        queries: &[CodedQuery<'_>],
        bounds: &[f32],
        out: &mut TileEstimates,
    ) {
        let mut at = 0;
        while at < queries.len() {
            // SAFETY: the caller's promise, handed on for some of the queries.
            unsafe {
                at += match queries.len() - at {
                    8.. => some::<8>(tile, queries, bounds, at, out),
                    4.. => some::<4>(tile, queries, bounds, at, out),
                    2.. => some::<2>(tile, queries, bounds, at, out),
                    _ => some::<1>(tile, queries, bounds, at, out),
                };
            }
        }
    }

    /// # Safety
    /// As [`estimate`], and there are `Q` queries from `at` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn some<const Q: usize>(
        tile: &RowTile,
        queries: &[CodedQuery<'_>],
        bounds: &[f32],
        at: usize,
        out: &mut TileEstimates,
    ) -> usize {
        let numbers: [*const i32; Q] =
            std::array::from_fn(|q| queries[at + q].numbers.as_ptr().cast());
        let stride = out.stride;
        for row in (0..stride).step_by(ROWS) {
            // SAFETY: `ROWS` rows of words and factors are there, for `stride` is a multiple of it, and as many places.
            unsafe {
                let words = tile.words.as_ptr().add(row * tile.code_words);
                let sums = sums::<Q>(words, tile.code_words, numbers);
                for (q, sums) in sums.into_iter().enumerate() {
                    let (query, bound) = (&queries[at + q], _mm512_set1_ps(bounds[at + q]));
                    let mut near = 0;
                    for (v, sum) in sums.into_iter().enumerate() {
                        let place = row + v * LANES;
                        let estimate = finished(tile, place, query, sum);
                        let to = out.estimates.as_mut_ptr().add((at + q) * stride + place);
                        _mm512_storeu_ps(to, estimate);
                        let mask = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(estimate, bound);
                        near |= u32::from(mask) << (v * LANES);
                    }
                    out.near[((at + q) * stride + row) / 32] = near;
                }
            }
        }
        Q
    }

    /// # Safety
    /// There are factors of sixteen rows from `place` on.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn finished(
        tile: &RowTile,
        place: usize,
        query: &CodedQuery<'_>,
        sums: __m512i,
    ) -> __m512 {
        // SAFETY: the caller's promise.
        let (row_add, rescale) = unsafe {
            (
                _mm512_loadu_ps(tile.adds.as_ptr().add(place)),
                _mm512_loadu_ps(tile.rescales.as_ptr().add(place)),
            )
        };
        let (step, offset) = (_mm512_set1_ps(query.step), _mm512_set1_ps(query.offset));
        let sum = _mm512_add_ps(_mm512_mul_ps(step, _mm512_cvtepi32_ps(sums)), offset);
        let add = _mm512_add_ps(row_add, _mm512_set1_ps(query.add));
        _mm512_add_ps(add, _mm512_mul_ps(rescale, sum))
    }

    /// Sums of `Q` queries with two vectors of rows.
    ///
    /// # Safety
    /// `words` has `2 · LANES · code_words` words, every query twice `code_words` words of numbers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn sums<const Q: usize>(
        words: *const u32,
        code_words: usize,
        numbers: [*const i32; Q],
    ) -> [[__m512i; 2]; Q] {
        let low_bits = _mm512_set1_epi8(15);
        let mut sums = [[_mm512_setzero_si512(); 2]; Q];
        let mut first = 0;
        while first < code_words {
            let n = half(code_words - first);
            for word in first..first + n {
                // SAFETY: the caller's promise; the upper halves of a chunk of `n` words are multiplied with the `n` words
                // of numbers after those of the lower.
                unsafe {
                    let a = _mm512_loadu_si512(words.add(word * LANES).cast());
                    let b = _mm512_loadu_si512(words.add((code_words + word) * LANES).cast());
                    let low = [_mm512_and_si512(a, low_bits), _mm512_and_si512(b, low_bits)];
                    let high = [
                        _mm512_and_si512(_mm512_srli_epi16::<4>(a), low_bits),
                        _mm512_and_si512(_mm512_srli_epi16::<4>(b), low_bits),
                    ];
                    for q in 0..Q {
                        let at = numbers[q].add(first + word);
                        let (of_low, of_high) = (
                            _mm512_set1_epi32(at.read_unaligned()),
                            _mm512_set1_epi32(at.add(n).read_unaligned()),
                        );
                        for v in 0..2 {
                            let sum = _mm512_dpbusd_epi32(sums[q][v], low[v], of_low);
                            sums[q][v] = _mm512_dpbusd_epi32(sum, high[v], of_high);
                        }
                    }
                }
            }
            first += n;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;
    use crate::distance::simd::coded::estimates;

    #[test]
    fn a_tile_gives_the_estimates_of_single_queries_at_every_level() {
        for n in [64, 128, 192, 384, 448] {
            let code_bytes = n / 2;
            let stride = (code_bytes + FACTOR_BYTES).next_multiple_of(16);
            let mut bytes: Vec<u8> = (0..77 * stride as u64).map(|i| stream(1, i) as u8).collect();
            for (i, record) in bytes.chunks_mut(stride).enumerate() {
                let factors = RowFactors { add: i as f32 * 0.7, rescale: 0.3 - i as f32 };
                record[code_bytes..][..FACTOR_BYTES].copy_from_slice(bytemuck::bytes_of(&factors));
            }
            let rows = CodedRows { bytes: &bytes, stride, bits: Bits::Four };
            let numbers: Vec<Vec<i8>> = (0..QUERIES as u64)
                .map(|q| (0..n as u64).map(|i| stream(2 + q, i) as i8).collect())
                .collect();
            let query = |q: usize| CodedQuery {
                numbers: &numbers[q],
                step: 0.013 + q as f32,
                offset: -0.5,
                add: 2.25,
            };
            for (n_queries, n_slots) in [(1, 1), (3, 16), (7, 33), (8, 77), (8, 0)] {
                let slots: Vec<u32> = (0..n_slots).map(|i| i * 5 % 77).collect();
                let queries: Vec<CodedQuery<'_>> = (0..n_queries).map(query).collect();
                let mut want = vec![vec![0.0; slots.len()]; n_queries];
                for (query, want) in queries.iter().zip(&mut want) {
                    estimates(Level::Baseline, rows, *query, &slots, want);
                }
                let bounds: Vec<f32> =
                    want.iter().map(|of| of.get(of.len() / 2).copied().unwrap_or(0.0)).collect();
                for level in Level::available() {
                    let (mut tile, mut out) = (RowTile::default(), TileEstimates::default());
                    tile.load(level, rows, n, &slots);
                    tile.estimate(level, &queries, &bounds, &mut out);
                    for (q, want) in want.iter().enumerate() {
                        let (got, near) = out.of(q);
                        assert_eq!(&got[..slots.len()], want, "{level:?} {n} {n_queries}");
                        for (row, estimate) in want.iter().enumerate() {
                            let is_near = near[row / 32] >> (row % 32) & 1 == 1;
                            assert_eq!(is_near, *estimate <= bounds[q], "{level:?} {n} row {row}");
                        }
                    }
                }
            }
        }
    }
}
