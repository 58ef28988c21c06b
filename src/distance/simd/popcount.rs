//! Exact integer sums over codes of one and of four bits per element.
//!
//! One bit: `Σ u_i n_i` of 32 rows at once. Four elements of a row are a number below 16, and a table of 16 sums per four
//! elements of the query answers for all of them: one byte shuffle looks up 32 rows, where counting the ones of four
//! planes takes eight times as many instructions (the plain way, in `backend/plain.rs`, gives the same integers).
//!
//! Paper: André, Kermarrec, Le Scouarnec, "Cache locality is not enough", VLDB 2015 (tables in registers); the tables of
//! bits are those of Gao, Long, "RaBitQ", SIGMOD 2024, 3.3.2.

use crate::distance::Level;

pub mod compact;

/// Rows that are looked up together.
pub const BLOCK: usize = 32;

/// Bytes of 64 one-bit codes.
const WORD_BYTES: usize = 8;

/// Words whose sums of products with 4-bit numbers fit 16 bits: `64 · 64 · 15 < 2^16`.
const WORDS_PER_SUM: usize = 64;

/// Sums over four elements of a query, by which of the four count.
pub type Table = [u8; 16];

/// The tables `[n_words · 16]` of a query of numbers below 16, given as `[n_words · 64]`.
pub fn tables(numbers: &[u8]) -> Vec<Table> {
    let table = |four: &[u8; 4]| {
        let mut table = [0; 16];
        for (i, &n) in four.iter().enumerate() {
            for entry in 0..1 << i {
                table[entry | 1 << i] = table[entry] + n;
            }
        }
        table
    };
    numbers.as_chunks::<4>().0.iter().map(table).collect()
}

/// Blocks of one-bit codes.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    /// `[n_blocks, n_words · 8, BLOCK]`: byte `b` of all rows of a block, then byte `b + 1`.
    pub codes: &'a [u8],
    /// `[n_blocks]`.
    pub factors: &'a [BlockFactors],
    /// `[n_blocks]`: the rows that count, one bit each.
    pub rows: &'a [u32],
}

/// A query of one-bit codes.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// Its [`tables`].
    pub tables: &'a [Table],
    /// Its part of the bounds.
    pub line: Line,
}

/// The least lower bound of every block `[n_blocks]`, for each of `Q` queries; infinite where no row counts.
///
/// # Panics
/// If lengths do not fit one another.
pub fn minima<const Q: usize>(
    level: Level,
    blocks: Blocks<'_>,
    queries: [Lookup<'_>; Q],
    out: [&mut [f32]; Q],
) {
    let n = blocks.factors.len();
    assert!(out.iter().all(|out| out.len() == n) && blocks.rows.len() == n, "one of each a block");
    for query in &queries {
        assert_eq!(query.tables.len() * BLOCK * n, blocks.codes.len() * 2, "two tables a byte");
    }
    minima_level(level, blocks, queries, out);
}

/// `Σ u_i n_i` of every row of one block, `[n_words · 8, BLOCK]`.
///
/// # Panics
/// If lengths do not fit one another.
pub fn block_sums(level: Level, block: &[u8], tables: &[Table]) -> [u32; BLOCK] {
    assert_eq!(tables.len() * BLOCK, block.len() * 2, "two tables a byte");
    let [sums] = block_sums_level(level, block, [tables]);
    sums
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn minima_level<const Q: usize>(
    level: Level,
    blocks: Blocks<'_>,
    queries: [Lookup<'_>; Q],
    out: [&mut [f32]; Q],
) {
    match level {
        Level::Baseline => minima_loop(blocks, queries, out, part_sums_plain),
        // SAFETY: a backend only holds levels from `Level::available`, which asked this processor.
        Level::Avx2 => unsafe { x86::minima_avx2(blocks, queries, out) },
        // SAFETY: as above.
        Level::Avx512 | Level::Avx512Vnni => unsafe { x86::minima_avx512(blocks, queries, out) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn minima_level<const Q: usize>(
    _: Level,
    blocks: Blocks<'_>,
    queries: [Lookup<'_>; Q],
    out: [&mut [f32]; Q],
) {
    minima_loop(blocks, queries, out, part_sums_plain);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn block_sums_level(level: Level, block: &[u8], tables: [&[Table]; 1]) -> [[u32; BLOCK]; 1] {
    match level {
        Level::Baseline => sums_loop(block, tables, part_sums_plain),
        // SAFETY: a backend only holds levels from `Level::available`, which asked this processor.
        Level::Avx2 => unsafe { x86::block_sums_avx2(block, tables) },
        // SAFETY: as above.
        Level::Avx512 | Level::Avx512Vnni => unsafe { x86::block_sums_avx512(block, tables) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn block_sums_level(_: Level, block: &[u8], tables: [&[Table]; 1]) -> [[u32; BLOCK]; 1] {
    sums_loop(block, tables, part_sums_plain)
}

/// Whole sums from those of parts that fit 16 bits.
#[inline(always)]
fn sums_loop<const Q: usize>(
    block: &[u8],
    tables: [&[Table]; Q],
    part_sums: impl Fn(&[u8], [&[Table]; Q]) -> [[u16; BLOCK]; Q],
) -> [[u32; BLOCK]; Q] {
    const PART: usize = WORDS_PER_SUM * WORD_BYTES;
    if block.len() <= PART * BLOCK {
        return part_sums(block, tables).map(|sums| sums.map(u32::from));
    }
    let mut out = [[0; BLOCK]; Q];
    for (i, part) in block.chunks(PART * BLOCK).enumerate() {
        let start = i * PART * 2;
        let tables = tables.map(|tables| &tables[start..start + part.len() / BLOCK * 2]);
        for (out, sums) in out.iter_mut().zip(part_sums(part, tables)) {
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += u32::from(sum));
        }
    }
    out
}

#[inline(always)]
fn minima_loop<const Q: usize>(
    blocks: Blocks<'_>,
    queries: [Lookup<'_>; Q],
    out: [&mut [f32]; Q],
    part_sums: impl Fn(&[u8], [&[Table]; Q]) -> [[u16; BLOCK]; Q],
) {
    let tables = queries.map(|query| query.tables);
    let stride = blocks.codes.len().checked_div(blocks.factors.len()).unwrap_or(0);
    for (i, (factors, &rows)) in blocks.factors.iter().zip(blocks.rows).enumerate() {
        if rows == 0 {
            (0..Q).for_each(|q| out[q][i] = f32::INFINITY);
            continue;
        }
        let block = &blocks.codes[i * stride..(i + 1) * stride];
        let sums = sums_loop(block, tables, &part_sums);
        for q in 0..Q {
            let mut lower = lower_bounds(factors, &sums[q], queries[q].line);
            if rows != u32::MAX {
                (0..BLOCK).filter(|i| rows >> i & 1 == 0).for_each(|i| lower[i] = f32::INFINITY);
            }
            out[q][i] = least(&lower);
        }
    }
}

#[inline(always)]
fn least(values: &[f32; BLOCK]) -> f32 {
    let mut lanes = [f32::INFINITY; 8];
    for eight in values.as_chunks::<8>().0 {
        for i in 0..8 {
            lanes[i] = if eight[i] < lanes[i] { eight[i] } else { lanes[i] };
        }
    }
    lanes.iter().fold(f32::INFINITY, |least, &x| if x < least { x } else { least })
}

fn part_sums_plain<const Q: usize>(part: &[u8], queries: [&[Table]; Q]) -> [[u16; BLOCK]; Q] {
    let mut out = [[0; BLOCK]; Q];
    for (sums, tables) in out.iter_mut().zip(queries) {
        let pairs = tables.as_chunks::<2>().0;
        for (codes, [low, high]) in part.as_chunks::<BLOCK>().0.iter().zip(pairs) {
            for (sum, code) in sums.iter_mut().zip(codes) {
                *sum += u16::from(low[usize::from(code & 15)]);
                *sum += u16::from(high[usize::from(code >> 4)]);
            }
        }
    }
    out
}

/// What turns the sums of a block into bounds: `[BLOCK]` of each, see `backend/codes.rs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct BlockFactors {
    /// Added.
    pub add: [f32; BLOCK],
    /// Multiplies the inner product.
    pub rescale: [f32; BLOCK],
    /// Half width of the bounds, for a query residual of norm 1.
    pub err: [f32; BLOCK],
    /// Ones of the code.
    pub ones: [f32; BLOCK],
}

/// The query's part of the bounds.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Least grid point.
    pub lo: f32,
    /// Distance of grid points.
    pub step: f32,
    /// Centre of the code times the sum of all grid points.
    pub offset: f32,
    /// Added.
    pub add: f32,
    /// Multiplies the half width.
    pub err: f32,
}

/// The rows of a block whose lower bound does not exceed `bound`, one bit each.
pub fn near(
    level: Level,
    rows: &BlockFactors,
    sums: &[u32; BLOCK],
    query: Line,
    bound: f32,
) -> u32 {
    near_level(level, rows, sums, query, bound)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn near_level(level: Level, f: &BlockFactors, sums: &[u32; BLOCK], q: Line, bound: f32) -> u32 {
    match level {
        Level::Baseline => near_plain(f, sums, q, bound),
        // SAFETY: a backend only holds levels from `Level::available`, which asked this processor; all but the
        // lowest have AVX2.
        _ => unsafe { x86::near_avx2(f, sums, q, bound) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn near_level(_: Level, f: &BlockFactors, sums: &[u32; BLOCK], q: Line, bound: f32) -> u32 {
    near_plain(f, sums, q, bound)
}

fn near_plain(f: &BlockFactors, sums: &[u32; BLOCK], query: Line, bound: f32) -> u32 {
    let lower = lower_bounds(f, sums, query);
    lower.iter().rev().fold(0, |bits, &lower| bits << 1 | u32::from(lower <= bound))
}

/// The operations of `backend::codes::estimate` in its order, so that every bit is the same.
#[inline(always)]
fn lower_bounds(f: &BlockFactors, sums: &[u32; BLOCK], query: Line) -> [f32; BLOCK] {
    let mut lower = [0.0; BLOCK];
    for i in 0..BLOCK {
        // Below 2^24: exact.
        let product = query.lo * f.ones[i] + query.step * (sums[i] as i32 as f32);
        let estimate = f.add[i] + query.add + f.rescale[i] * (product + query.offset);
        lower[i] = estimate - f.err[i] * query.err;
    }
    lower
}

/// `Σ u_i q_i` of one row: `codes` `[n_words · 32]` hold in byte `j` of every 32 the element `j` below and the element
/// `32 + j` above; `query` is `[n_words · 64]`.
///
/// # Panics
/// If lengths do not fit one another.
pub fn nibble_dot(level: Level, codes: &[u8], query: &[i8]) -> i32 {
    assert_eq!(codes.len() * 2, query.len(), "two elements per byte");
    assert!(codes.len().is_multiple_of(32), "whole words");
    nibble_dot_level(level, codes, query)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn nibble_dot_level(level: Level, codes: &[u8], query: &[i8]) -> i32 {
    match level {
        Level::Baseline => nibble_dot_plain(codes, query),
        // SAFETY: a backend only holds levels from `Level::available`, which asked this processor; all but the
        // lowest have AVX2.
        _ => unsafe { x86::nibble_dot_avx2(codes, query) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn nibble_dot_level(_: Level, codes: &[u8], query: &[i8]) -> i32 {
    nibble_dot_plain(codes, query)
}

fn nibble_dot_plain(codes: &[u8], query: &[i8]) -> i32 {
    let words = codes.as_chunks::<32>().0.iter().zip(query.as_chunks::<64>().0);
    words
        .map(|(codes, query)| {
            let (low, high) = query.split_at(32);
            let product = |(i, code): (usize, &u8)| {
                i32::from(code & 15) * i32::from(low[i]) + i32::from(code >> 4) * i32::from(high[i])
            };
            codes.iter().enumerate().map(product).sum::<i32>()
        })
        .sum()
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{
        BLOCK, BlockFactors, Blocks, Line, Lookup, Table, lower_bounds, minima_loop, sums_loop,
    };

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(bytes: &[u8; 32]) -> __m256i {
        // SAFETY: 32 bytes are read from a reference to 32 bytes; the load asks for no alignment.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load_twice(table: &Table) -> __m256i {
        // SAFETY: 16 bytes are read from a reference to 16 bytes; the load asks for no alignment.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
    }

    /// Sums of 16 bits from the sums of `byte + 256 · next byte` (modulo 2^16) and of the odd bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn in_order(both: __m256i, odd: __m256i) -> [u16; BLOCK] {
        let even = _mm256_sub_epi16(both, _mm256_slli_epi16::<8>(odd));
        let (low, high) = (_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd));
        let mut out = [0u16; BLOCK];
        let ordered = [
            _mm256_permute2x128_si256::<0x20>(low, high),
            _mm256_permute2x128_si256::<0x31>(low, high),
        ];
        for (out, sums) in out.as_chunks_mut::<16>().0.iter_mut().zip(ordered) {
            // SAFETY: 32 bytes are written to a reference to 16 numbers of two bytes.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) };
        }
        out
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn minima_avx2<const Q: usize>(
        blocks: Blocks<'_>,
        queries: [Lookup<'_>; Q],
        out: [&mut [f32]; Q],
    ) {
        minima_loop(blocks, queries, out, |part, tables| part_sums_avx2(part, tables));
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn minima_avx512<const Q: usize>(
        blocks: Blocks<'_>,
        queries: [Lookup<'_>; Q],
        out: [&mut [f32]; Q],
    ) {
        minima_loop(blocks, queries, out, |part, tables| part_sums_avx512(part, tables));
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn block_sums_avx2(block: &[u8], tables: [&[Table]; 1]) -> [[u32; BLOCK]; 1] {
        sums_loop(block, tables, |part, tables| part_sums_avx2(part, tables))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn block_sums_avx512(block: &[u8], tables: [&[Table]; 1]) -> [[u32; BLOCK]; 1] {
        sums_loop(block, tables, |part, tables| part_sums_avx512(part, tables))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn part_sums_avx2<const Q: usize>(
        part: &[u8],
        tables: [&[Table]; Q],
    ) -> [[u16; BLOCK]; Q] {
        let low_bits = _mm256_set1_epi8(15);
        let (mut both, mut odd) = ([_mm256_setzero_si256(); Q], [_mm256_setzero_si256(); Q]);
        let tables = tables.map(|tables| tables.as_chunks::<4>().0);
        let n = part.len() / (2 * BLOCK);
        let tables = tables.map(|tables| &tables[..n]);
        for (i, codes) in part.as_chunks::<{ 2 * BLOCK }>().0.iter().enumerate() {
            let (first, second) =
                (load(codes.first_chunk().expect("64")), load(codes.last_chunk().expect("64")));
            let nibbles = [
                _mm256_and_si256(first, low_bits),
                _mm256_and_si256(_mm256_srli_epi16::<4>(first), low_bits),
                _mm256_and_si256(second, low_bits),
                _mm256_and_si256(_mm256_srli_epi16::<4>(second), low_bits),
            ];
            for q in 0..Q {
                let four = &tables[q][i];
                let look = |j: usize| _mm256_shuffle_epi8(load_twice(&four[j]), nibbles[j]);
                // Four entries of at most 60 fit a byte.
                let sum = _mm256_add_epi8(
                    _mm256_add_epi8(look(0), look(1)),
                    _mm256_add_epi8(look(2), look(3)),
                );
                both[q] = _mm256_add_epi16(both[q], sum);
                odd[q] = _mm256_add_epi16(odd[q], _mm256_srli_epi16::<8>(sum));
            }
        }
        std::array::from_fn(|q| in_order(both[q], odd[q]))
    }

    /// As with 256 bits, two bytes of all rows at a time: the lower half sums the first, the upper half the second.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn part_sums_avx512<const Q: usize>(part: &[u8], tables: [&[Table]; Q]) -> [[u16; BLOCK]; Q] {
        let low_bits = _mm512_set1_epi8(15);
        let (mut both, mut odd) = ([_mm512_setzero_si512(); Q], [_mm512_setzero_si512(); Q]);
        let tables = tables.map(|tables| tables.as_chunks::<4>().0);
        for (i, codes) in part.as_chunks::<{ 2 * BLOCK }>().0.iter().enumerate() {
            // SAFETY: 64 bytes are read from a reference to 64 bytes; the load asks for no alignment.
            let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
            let low = _mm512_and_si512(codes, low_bits);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low_bits);
            for q in 0..Q {
                // SAFETY: 64 bytes are read from a reference to four tables of 16 bytes.
                let four = unsafe { _mm512_loadu_si512(tables[q][i].as_ptr().cast()) };
                let sum = _mm512_add_epi8(
                    _mm512_shuffle_epi8(_mm512_shuffle_i32x4::<0xa0>(four, four), low),
                    _mm512_shuffle_epi8(_mm512_shuffle_i32x4::<0xf5>(four, four), high),
                );
                both[q] = _mm512_add_epi16(both[q], sum);
                odd[q] = _mm512_add_epi16(odd[q], _mm512_srli_epi16::<8>(sum));
            }
        }
        let fold = |sums: __m512i| {
            let (first, second) =
                (_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums));
            _mm256_add_epi16(first, second)
        };
        std::array::from_fn(|q| in_order(fold(both[q]), fold(odd[q])))
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn near_avx2(f: &BlockFactors, sums: &[u32; BLOCK], q: Line, bound: f32) -> u32 {
        let lower = lower_bounds(f, sums, q);
        let bound = _mm256_set1_ps(bound);
        lower.as_chunks::<8>().0.iter().rev().fold(0, |bits, eight| {
            // SAFETY: 32 bytes are read from a reference to eight numbers of four bytes.
            let lower = unsafe { _mm256_loadu_ps(eight.as_ptr()) };
            let near = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(lower, bound));
            bits << 8 | near as u32
        })
    }

    /// Words whose products fit 16 bits: `4 · 2 · 2 · 15 · 128 < 2^15`.
    const WORDS: usize = 4;

    #[target_feature(enable = "avx2")]
    pub(super) fn nibble_dot_avx2(codes: &[u8], query: &[i8]) -> i32 {
        let (low_bits, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let query: &[u8] = bytemuck::cast_slice(query);
        let mut total = _mm256_setzero_si256();
        for (codes, query) in codes.chunks(32 * WORDS).zip(query.chunks(64 * WORDS)) {
            let mut sum = _mm256_setzero_si256();
            let words = codes.as_chunks::<32>().0.iter().zip(query.as_chunks::<64>().0);
            for (codes, query) in words {
                let codes = load(codes);
                let (low, high) =
                    (query.first_chunk().expect("64"), query.last_chunk().expect("64"));
                let above = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_bits);
                let below = _mm256_and_si256(codes, low_bits);
                sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(below, load(low)));
                sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(above, load(high)));
            }
            total = _mm256_add_epi32(total, _mm256_madd_epi16(sum, ones));
        }
        let half =
            _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256::<1>(total));
        let quarter = _mm_add_epi32(half, _mm_shuffle_epi32::<0b00_00_11_10>(half));
        _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32::<0b00_00_00_01>(quarter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    fn bytes(n: usize, seed: u64) -> Vec<u8> {
        (0..n as u64).map(|i| stream(seed, i) as u8).collect()
    }

    #[test]
    fn blocks_equal_the_definition_at_every_level() {
        for n_words in [1, 2, 3, 6, 25, 63, 64, 65, 200] {
            // The largest sums there are, and random ones.
            let full = (vec![255; n_words * 8 * BLOCK], vec![15; n_words * 64]);
            let numbers: Vec<u8> = bytes(n_words * 64, 2).iter().map(|n| n & 15).collect();
            for (block, numbers) in [(bytes(n_words * 8 * BLOCK, 1), numbers), full] {
                let bit = |row: usize, i: usize| block[i / 8 * BLOCK + row] >> (i % 8) & 1;
                let sum = |row: usize| -> u32 {
                    let product = |i: usize| u32::from(bit(row, i)) * u32::from(numbers[i]);
                    (0..numbers.len()).map(product).sum()
                };
                let want: Vec<u32> = (0..BLOCK).map(sum).collect();
                let tables = tables(&numbers);
                for level in Level::available() {
                    let got = block_sums(level, &block, &tables);
                    assert!(got[..] == want, "{level:?} {n_words} words");
                }
            }
        }
    }

    #[test]
    fn four_bits_equal_the_definition_at_every_level() {
        for n_words in [1, 2, 3, 4, 5, 6, 25, 256] {
            let query: Vec<i8> = bytes(n_words * 64, 4).iter().map(|&b| b as i8).collect();
            let cases = [
                (bytes(n_words * 32, 3), query),
                (vec![255; n_words * 32], vec![-128; n_words * 64]),
                (vec![255; n_words * 32], vec![127; n_words * 64]),
            ];
            for (codes, query) in cases {
                let mut want = 0;
                for (i, &q) in query.iter().enumerate() {
                    let (word, at) = (i / 64, i % 64);
                    let code = codes[word * 32 + at % 32] >> (4 * (at / 32)) & 15;
                    want += i32::from(code) * i32::from(q);
                }
                for level in Level::available() {
                    assert_eq!(nibble_dot(level, &codes, &query), want, "{level:?} {n_words}");
                }
            }
        }
    }

    fn factors(seed: u64) -> BlockFactors {
        let number =
            |salt, i: usize| (stream(seed ^ salt, i as u64) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        BlockFactors {
            add: std::array::from_fn(|i| number(1 << 20, i)),
            rescale: std::array::from_fn(|i| number(2 << 20, i)),
            err: std::array::from_fn(|i| number(3 << 20, i).abs()),
            ones: std::array::from_fn(|i| (stream(4, i as u64) % 384) as f32),
        }
    }

    const LINE: Line = Line { lo: -0.1, step: 0.013, offset: -3.0, add: 0.5, err: 1.5 };

    #[test]
    fn bounds_are_compared_alike_at_every_level() {
        let (rows, sums) =
            (factors(7), std::array::from_fn(|i| (stream(5, i as u64) % 5760) as u32));
        let lower = lower_bounds(&rows, &sums, LINE);
        for bound in lower.into_iter().chain([f32::INFINITY, f32::NEG_INFINITY]) {
            let mut want = 0;
            (0..BLOCK).for_each(|i| want |= u32::from(lower[i] <= bound) << i);
            for level in Level::available() {
                assert_eq!(near(level, &rows, &sums, LINE, bound), want, "{level:?} {bound}");
            }
        }
    }

    #[test]
    fn minima_are_those_of_the_rows_that_count() {
        for n_words in [1, 6, 65] {
            let codes = bytes(5 * n_words * 8 * BLOCK, 1);
            let factors: Vec<BlockFactors> = (0..5).map(factors).collect();
            let rows = [u32::MAX, 0, 1, 0x8000_0000, 0x00ff_ff00];
            let numbers: Vec<u8> = bytes(n_words * 64, 2).iter().map(|n| n & 15).collect();
            let tables = tables(&numbers);
            let want: Vec<f32> = codes
                .chunks(n_words * 8 * BLOCK)
                .enumerate()
                .map(|(i, block)| {
                    let sums = block_sums(Level::Baseline, block, &tables);
                    let lower = lower_bounds(&factors[i], &sums, LINE);
                    let counted = (0..BLOCK).filter(|j| rows[i] >> j & 1 == 1);
                    counted.map(|j| lower[j]).fold(f32::INFINITY, f32::min)
                })
                .collect();
            let blocks = Blocks { codes: &codes, factors: &factors, rows: &rows };
            let query = Lookup { tables: &tables, line: LINE };
            for level in Level::available() {
                let (mut one, mut two) = (vec![0.0; 5], vec![0.0; 5]);
                minima(level, blocks, [query, query], [&mut one, &mut two]);
                assert!(one == want && two == want, "{level:?}: {one:?} for {want:?}");
            }
        }
    }
}
