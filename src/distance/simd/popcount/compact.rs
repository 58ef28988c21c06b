//! Rows of one-bit codes whose similarity reaches a bound, where a row has four bytes beside its code.
//!
//! A code stands for the unit vector of elements `±1/√m`. A query is on a grid through the middle between two of 16 points, so that the
//! product of the two is a multiple of `2 Σ u n - 7.5 d - base`: what is said of a row alone is `d`, by how much more often its code says 1
//! than 0, and by what the product is multiplied.
//!
//! Sums come by even and by odd rows of a block, and so does everything here: lane `l` is row [`row_of`]`(l)`.

use super::{BLOCK, Table, part_sums_plain, sums_loop};
use crate::distance::Level;

/// What turns the sums of a block into similarities: `[BLOCK]` of each, by lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact {
    /// Ones of the code less its zeros.
    pub excess: [i16; BLOCK],
    /// Multiplies the product; [`UNKNOWN`] for a row of which its code says nothing.
    pub scale: [u16; BLOCK],
}

impl Compact {
    /// Of a block without rows.
    pub const NONE: Self = Self { excess: [0; BLOCK], scale: [0; BLOCK] };
}

/// The scale of a row that reaches every bound.
pub const UNKNOWN: u16 = u16::MAX;

/// The row of a lane.
pub const fn row_of(lane: usize) -> usize {
    lane % (BLOCK / 2) * 2 + lane / (BLOCK / 2)
}

/// The lane of a row.
pub const fn lane_of(row: usize) -> usize {
    row / 2 + row % 2 * (BLOCK / 2)
}

/// The lanes of the first `n` rows, one bit each.
pub const fn lanes_of(n: usize) -> u32 {
    first_bits(n.div_ceil(2)) | first_bits(n / 2) << (BLOCK / 2)
}

const fn first_bits(n: usize) -> u32 {
    (1 << n) - 1
}

/// The tables of a query, as the loops of the level read them.
#[derive(Clone, Debug)]
pub struct Tables {
    plain: Vec<Table>,
    /// For every 64 bytes of codes, those of the lower and of the upper halves of bytes; none where they are not read.
    wide: Vec<[[u8; 64]; 2]>,
}

impl Tables {
    /// Those of a query of numbers below 16.
    pub fn new(level: Level, numbers: &[u8]) -> Self {
        let plain = super::tables(numbers);
        let is_wide = matches!(level, Level::Avx512 | Level::Avx512Vnni);
        let fours = plain.as_chunks::<4>().0.iter().filter(|_| is_wide);
        let widen = |[a, b]: [&Table; 2]| -> [u8; 64] {
            std::array::from_fn(|i| if i < 32 { a[i % 16] } else { b[i % 16] })
        };
        let wide = fours.map(|four| [[&four[0], &four[2]], [&four[1], &four[3]]].map(widen));
        Self { wide: wide.collect(), plain }
    }
}

/// A query.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its tables.
    pub tables: &'a Tables,
    /// Multiplies the product.
    pub step: f32,
    /// Subtracted from it.
    pub base: f32,
}

/// What is said of a block.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// The lanes whose similarity is at least the bound, one bit each.
    pub reach: u32,
    /// The similarity of each lane.
    pub similarities: [f32; BLOCK],
}

impl Marks {
    /// Of a block that was not looked at.
    pub const NONE: Self = Self { reach: 0, similarities: [0.0; BLOCK] };
}

/// What is said of every block, for each of `Q` queries with its bound; the same bits at every level.
///
/// # Panics
/// If lengths do not fit one another.
pub fn marks<const Q: usize>(
    level: Level,
    codes: &[u8],
    rows: &[Compact],
    queries: [Asked<'_>; Q],
    bounds: [f32; Q],
    out: [&mut [Marks]; Q],
) {
    assert!(out.iter().all(|out| out.len() == rows.len()), "one of each a block");
    for Asked { tables, .. } in &queries {
        assert_eq!(tables.plain.len() * BLOCK * rows.len(), codes.len() * 2, "two tables a byte");
    }
    marks_level(level, codes, rows, queries, bounds, out);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn marks_level<const Q: usize>(
    level: Level,
    codes: &[u8],
    rows: &[Compact],
    queries: [Asked<'_>; Q],
    bounds: [f32; Q],
    out: [&mut [Marks]; Q],
) {
    match level {
        Level::Baseline => marks_loop(codes, rows, queries, bounds, out, part_sums_plain),
        // SAFETY: levels come from `Level::available`, which asked this processor.
        Level::Avx2 => unsafe { x86::marks_avx2(codes, rows, queries, bounds, out) },
        // SAFETY: as above.
        Level::Avx512 | Level::Avx512Vnni => unsafe {
            let is_wide =
                queries.iter().all(|query| query.tables.wide.len() * 4 == query.tables.plain.len());
            // Sums of codes of more words leave 16 bits.
            if is_wide && codes.len() <= rows.len() * BLOCK * 8 * super::WORDS_PER_SUM {
                x86::marks_avx512(codes, rows, queries, bounds, out);
            } else {
                x86::marks_avx2(codes, rows, queries, bounds, out);
            }
        },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn marks_level<const Q: usize>(
    _: Level,
    codes: &[u8],
    rows: &[Compact],
    queries: [Asked<'_>; Q],
    bounds: [f32; Q],
    out: [&mut [Marks]; Q],
) {
    marks_loop(codes, rows, queries, bounds, out, part_sums_plain);
}

#[inline(always)]
fn marks_loop<const Q: usize>(
    codes: &[u8],
    rows: &[Compact],
    queries: [Asked<'_>; Q],
    bounds: [f32; Q],
    out: [&mut [Marks]; Q],
    part_sums: impl Fn(&[u8], [&[Table]; Q]) -> [[u16; BLOCK]; Q],
) {
    let tables = queries.map(|query| query.tables.plain.as_slice());
    let stride = codes.len().checked_div(rows.len()).unwrap_or(0);
    for (i, rows) in rows.iter().enumerate() {
        let sums = sums_loop(&codes[i * stride..(i + 1) * stride], tables, &part_sums);
        for q in 0..Q {
            let similarities = of_sums(rows, &sums[q], queries[q]);
            let reach = |bits: u32, &one: &f32| bits << 1 | u32::from(one >= bounds[q]);
            out[q][i] = Marks { reach: similarities.iter().rev().fold(0, reach), similarities };
        }
    }
}

#[inline(always)]
fn of_sums(rows: &Compact, sums: &[u32; BLOCK], query: Asked<'_>) -> [f32; BLOCK] {
    let mut out = [0.0; BLOCK];
    for (lane, out) in out.iter_mut().enumerate() {
        // Multiples of a half below 2^20: exact, in whatever order.
        let product =
            2.0 * sums[row_of(lane)] as f32 - 7.5 * f32::from(rows.excess[lane]) - query.base;
        let similarity = f32::from(rows.scale[lane]) * (query.step * product);
        *out = if rows.scale[lane] == UNKNOWN { f32::INFINITY } else { similarity };
    }
    out
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::x86::part_sums_avx2;
    use super::{Asked, BLOCK, Compact, Marks, UNKNOWN, marks_loop};

    #[target_feature(enable = "avx2")]
    pub(super) fn marks_avx2<const Q: usize>(
        codes: &[u8],
        rows: &[Compact],
        queries: [Asked<'_>; Q],
        bounds: [f32; Q],
        out: [&mut [Marks]; Q],
    ) {
        let part_sums = |part: &[u8], tables: [&[_]; Q]| part_sums_avx2(part, tables);
        marks_loop(codes, rows, queries, bounds, out, part_sums);
    }

    /// What a block says beside its codes, half of the lanes in each vector.
    struct Wide {
        excess: [__m512; 2],
        scale: [__m512; 2],
        unknown: [u16; 2],
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn wide(rows: &Compact) -> Wide {
        // SAFETY: 64 bytes are read from a reference to 32 numbers of two bytes, here and below; the loads ask for no alignment.
        let excess = unsafe { _mm512_loadu_si512(rows.excess.as_ptr().cast()) };
        // SAFETY: as above.
        let scale = unsafe { _mm512_loadu_si512(rows.scale.as_ptr().cast()) };
        let unknown = _mm512_cmpeq_epi16_mask(scale, _mm512_set1_epi16(UNKNOWN as i16));
        let halves = |v: __m512i| [_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v)];
        Wide {
            excess: halves(excess).map(|half| _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(half))),
            scale: halves(scale).map(|half| _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(half))),
            unknown: [unknown as u16, (unknown >> 16) as u16],
        }
    }

    /// The similarities of half of the lanes, and which of them reach the bound.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn half(
        sums: __m256i,
        rows: &Wide,
        half: usize,
        query: &Asked<'_>,
        bound: f32,
    ) -> (__m512, u16) {
        let sums = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums));
        let twice = _mm512_fmsub_ps(sums, _mm512_set1_ps(2.0), _mm512_set1_ps(query.base));
        let product = _mm512_fnmadd_ps(rows.excess[half], _mm512_set1_ps(7.5), twice);
        let similarity =
            _mm512_mul_ps(rows.scale[half], _mm512_mul_ps(_mm512_set1_ps(query.step), product));
        let all = _mm512_set1_ps(f32::INFINITY);
        let similarity = _mm512_mask_mov_ps(similarity, rows.unknown[half], all);
        (similarity, _mm512_cmp_ps_mask::<_CMP_GE_OQ>(similarity, _mm512_set1_ps(bound)))
    }

    /// Two bytes of all rows at a time: the lower half of a vector is of the first, the upper half of the second.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn marks_avx512<const Q: usize>(
        codes: &[u8],
        rows: &[Compact],
        queries: [Asked<'_>; Q],
        bounds: [f32; Q],
        out: [&mut [Marks]; Q],
    ) {
        let low_bits = _mm512_set1_epi8(15);
        let stride = codes.len().checked_div(rows.len()).unwrap_or(0);
        for (i, rows) in rows.iter().enumerate() {
            let (mut both, mut odd) = ([_mm512_setzero_si512(); Q], [_mm512_setzero_si512(); Q]);
            let block = codes[i * stride..(i + 1) * stride].as_chunks::<{ 4 * BLOCK }>().0;
            for (two, codes) in block.iter().enumerate() {
                let mut sums = [_mm512_setzero_si512(); Q];
                for (at, codes) in codes.as_chunks::<{ 2 * BLOCK }>().0.iter().enumerate() {
                    // SAFETY: 64 bytes are read from a reference to 64 bytes, here and below; the loads ask for no alignment.
                    let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
                    let low = _mm512_and_si512(codes, low_bits);
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low_bits);
                    for q in 0..Q {
                        let [of_low, of_high] = &queries[q].tables.wide[2 * two + at];
                        // SAFETY: as above.
                        let of_low = unsafe { _mm512_loadu_si512(of_low.as_ptr().cast()) };
                        // SAFETY: as above.
                        let of_high = unsafe { _mm512_loadu_si512(of_high.as_ptr().cast()) };
                        // Four entries of at most 60 fit a byte.
                        let sum = _mm512_add_epi8(
                            _mm512_shuffle_epi8(of_low, low),
                            _mm512_shuffle_epi8(of_high, high),
                        );
                        sums[q] = _mm512_add_epi8(sums[q], sum);
                    }
                }
                for q in 0..Q {
                    both[q] = _mm512_add_epi16(both[q], sums[q]);
                    odd[q] = _mm512_add_epi16(odd[q], _mm512_srli_epi16::<8>(sums[q]));
                }
            }
            let rows = wide(rows);
            for q in 0..Q {
                let fold = |v: __m512i| {
                    let high = _mm512_extracti64x4_epi64::<1>(v);
                    _mm256_add_epi16(_mm512_castsi512_si256(v), high)
                };
                let (both, odd) = (fold(both[q]), fold(odd[q]));
                let even = _mm256_sub_epi16(both, _mm256_slli_epi16::<8>(odd));
                let (first, reach) = half(even, &rows, 0, &queries[q], bounds[q]);
                let (second, reach_too) = half(odd, &rows, 1, &queries[q], bounds[q]);
                let out = &mut out[q][i];
                out.reach = u32::from(reach) | u32::from(reach_too) << 16;
                let (low, high) = out.similarities.split_at_mut(BLOCK / 2);
                // SAFETY: 64 bytes are written to half of a reference to 32 numbers of four bytes.
                unsafe { _mm512_storeu_ps(low.as_mut_ptr(), first) };
                // SAFETY: as above.
                unsafe { _mm512_storeu_ps(high.as_mut_ptr(), second) };
            }
        }
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
    fn lanes_are_of_rows() {
        assert!((0..BLOCK).all(|row| row_of(lane_of(row)) == row));
        for n in 0..=BLOCK {
            let mut lanes = 0u32;
            (0..n).for_each(|row| lanes |= 1 << lane_of(row));
            assert_eq!(lanes_of(n), lanes, "{n} rows");
        }
    }

    #[test]
    fn marks_are_by_definition_at_every_level() {
        for n_words in [1, 4, 64, 65] {
            let codes = bytes(3 * n_words * 8 * BLOCK, 1);
            let bit = |block: usize, row: usize, i: usize| {
                let start = block * n_words * 8 * BLOCK;
                i32::from(codes[start + i / 8 * BLOCK + row] >> (i % 8) & 1)
            };
            let excess =
                |block, row| (0..n_words * 64).map(|i| 2 * bit(block, row, i) - 1).sum::<i32>();
            let rows: Vec<Compact> = (0..3)
                .map(|block| Compact {
                    excess: std::array::from_fn(|lane| excess(block, row_of(lane)) as i16),
                    scale: std::array::from_fn(|lane| match (block, lane) {
                        (1, 7) => UNKNOWN,
                        _ => 4000 + (stream(5, lane as u64) % 2000) as u16,
                    }),
                })
                .collect();
            let full = vec![15; n_words * 64];
            let some: Vec<u8> = bytes(n_words * 64, 2).iter().map(|n| n & 15).collect();
            let queries = [some, full];
            // Products of numbers less 7.5 with elements of -1 and 1.
            let by_definition = |numbers: &[u8], block: usize, lane: usize| -> f32 {
                let product = |i: usize| {
                    f64::from(2 * bit(block, row_of(lane), i) - 1) * (f64::from(numbers[i]) - 7.5)
                };
                let product: f64 = (0..numbers.len()).map(product).sum();
                match rows[block].scale[lane] {
                    UNKNOWN => f32::INFINITY,
                    scale => f32::from(scale) * (1e-6 * product as f32),
                }
            };
            for level in Level::available() {
                let tables = [0, 1].map(|q: usize| Tables::new(level, &queries[q]));
                let asked: [Asked<'_>; 2] = std::array::from_fn(|q| {
                    let sum: u32 = queries[q].iter().map(|&n| u32::from(n)).sum();
                    Asked { tables: &tables[q], step: 1e-6, base: sum as f32 }
                });
                // `base` is of numbers as they are: `2 Σ u n - 7.5 d - Σ n` is the sum of products with elements of -1 and 1.
                let mut marked = [[Marks::NONE; 3]; 2];
                let bounds = [0.02, -0.01];
                let [first, second] = marked.each_mut().map(|marked| &mut marked[..]);
                marks(level, &codes, &rows, asked, bounds, [first, second]);
                for (q, block) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
                    let Marks { reach, similarities } = marked[q][block];
                    for (lane, &similarity) in similarities.iter().enumerate() {
                        let want = by_definition(&queries[q], block, lane);
                        assert_eq!(similarity, want, "{level:?} {n_words} words, lane {lane}");
                        assert_eq!(reach >> lane & 1 == 1, similarity >= bounds[q], "{level:?}");
                    }
                }
            }
        }
    }
}
