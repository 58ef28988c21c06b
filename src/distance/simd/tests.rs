//! Every loop of every level against `scalar.rs`.

use half::f16;

use super::*;
use crate::core::mix::stream;
use crate::distance::scalar;

/// Unit roundoff of a 32-bit float: a sum of `n` terms in any order is off by at most `n U` times the sum of their sizes
/// (Higham 2002, 3.1), to first order.
const U: f64 = 1.0 / (1 << 24) as f64;

const FIRST: Pass = Pass { first: true, fetch: true };
const NEXT: Pass = Pass { first: false, fetch: false };

fn levels() -> Vec<&'static Kernels> {
    Level::available().into_iter().map(Kernels::at).collect()
}

/// Zero, huge, tiny and ordinary numbers.
fn float(seed: u64, i: usize, scale: f32) -> f32 {
    let bits = stream(seed, i as u64);
    match bits % 11 {
        0 => 0.0,
        1 => -0.0,
        _ => ((bits >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale,
    }
}

fn floats(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    (0..n).map(|i| float(seed, i, scale)).collect()
}

/// The exact sum, and how far one in 32 bits may be from it.
fn exact(sum: Sum, a: &[f32], b: &[f32]) -> (f64, f64) {
    let n = a.len() as f64 + 4.0;
    let value = match sum {
        Sum::Dot => scalar::dot(a, b),
        Sum::L2 => scalar::l2(a, b),
        Sum::L1 => scalar::l1(a, b),
    };
    let size = match sum {
        Sum::Dot => a.iter().zip(b).map(|(x, y)| (f64::from(*x) * f64::from(*y)).abs()).sum(),
        _ => value,
    };
    (value, n * (U * size + f64::from(f32::MIN_POSITIVE)))
}

fn check(sum: Sum, a: &[f32], b: &[f32], got: f32, context: &str) {
    let (want, slack) = exact(sum, a, b);
    let off = (f64::from(got) - want).abs();
    assert!(off <= slack, "{context}, {sum:?} of {}: {got} for {want}", a.len());
}

fn exact_bytes<T: Copy + Into<i32>>(sum: Sum, a: &[T], b: &[T]) -> i32 {
    match sum {
        Sum::Dot => scalar::dot_bytes(a, b),
        Sum::L2 => scalar::l2_bytes(a, b),
        Sum::L1 => scalar::l1_bytes(a, b),
    }
}

#[test]
fn sums_of_floats_with_rows_equal_those_of_pairs_at_any_length_and_alignment() {
    for kernels in levels() {
        for len in 0..=257 {
            for scale in [1.0, 1e18, 1e-18] {
                // Seven rows, each at an odd place.
                let starts: Vec<usize> = (0..7).map(|row| 1 + row * (len + 3)).collect();
                let (query, base) = (floats(1, len, scale), floats(2, 7 * (len + 3) + 1, scale));
                let halves: Vec<f16> = base.iter().map(|x| f16::from_f32(x / scale)).collect();
                let mut out = [0.0; 7];
                for sum in Sum::ALL {
                    kernels.rows_f32(sum, &query, &base, &starts, &mut out);
                    for (&start, &got) in starts.iter().zip(&out) {
                        check(sum, &query, &base[start..start + len], got, "f32");
                    }
                    kernels.rows_f16(sum, &query, &halves, &starts, &mut out);
                    for (&start, &got) in starts.iter().zip(&out) {
                        let row: Vec<f32> =
                            halves[start..start + len].iter().map(|x| x.to_f32()).collect();
                        check(sum, &query, &row, got, "f16");
                    }
                }
            }
        }
    }
}

#[test]
fn sums_of_bytes_with_rows_are_exact_at_any_length() {
    for kernels in levels() {
        for len in (0..=257).chain([16_384]) {
            let starts: Vec<usize> = (0..5).map(|row| 1 + row * len).collect();
            let bytes: Vec<u8> = (0..6 * len + 1).map(|i| stream(3, i as u64) as u8).collect();
            let extreme: Vec<u8> = bytes.iter().map(|x| if x % 2 == 0 { 255 } else { 0 }).collect();
            for bytes in [&bytes, &extreme] {
                let signed: Vec<i8> = bytes.iter().map(|&x| (x as i8).max(-127)).collect();
                let wide: Vec<i16> = bytes[..len].iter().map(|&x| i16::from(x)).collect();
                let wide_signed: Vec<i16> = signed[..len].iter().map(|&x| i16::from(x)).collect();
                for sum in Sum::ALL {
                    let mut out = [0; 5];
                    kernels.rows_u8(sum, &wide, bytes, &starts, &mut out);
                    for (&start, &got) in starts.iter().zip(&out) {
                        let row = &bytes[start..start + len];
                        assert_eq!(got, exact_bytes(sum, &bytes[..len], row), "u8 {sum:?} {len}");
                    }
                    kernels.rows_i8(sum, &wide_signed, &signed, &starts, &mut out);
                    for (&start, &got) in starts.iter().zip(&out) {
                        let row = &signed[start..start + len];
                        assert_eq!(got, exact_bytes(sum, &signed[..len], row), "i8 {sum:?} {len}");
                    }
                }
            }
        }
    }
}

#[test]
fn tiles_of_floats_equal_pairs_in_one_part_or_two() {
    for kernels in levels() {
        for width in kernels.widths() {
            for (len, n_rows) in [(1, 1), (2, 5), (17, 7), (64, 12), (100, 13), (257, 25)] {
                let (panel, base) = (floats(4, len * width, 2.0), floats(5, n_rows * len + 3, 2.0));
                let starts: Vec<usize> = (0..n_rows).map(|row| 3 + row * len).collect();
                for sum in Sum::ALL {
                    let mut sums = vec![7.0; n_rows * width];
                    let half = len / 2;
                    let (first, second) = panel.split_at(half * width);
                    kernels.tile(sum, width, &base, &starts, first, &mut sums, FIRST);
                    let later: Vec<usize> = starts.iter().map(|start| start + half).collect();
                    kernels.tile(sum, width, &base, &later, second, &mut sums, NEXT);
                    for (i, &got) in sums.iter().enumerate() {
                        let query: Vec<f32> =
                            panel.iter().skip(i % width).step_by(width).copied().collect();
                        let start = starts[i / width];
                        check(sum, &query, &base[start..start + len], got, "tile");
                    }
                    // A row's sum does not depend on its place in a block.
                    let mut alone = vec![0.0; width];
                    let last = &starts[n_rows - 1..];
                    kernels.tile(sum, width, &base, last, first, &mut alone, FIRST);
                    kernels.tile(sum, width, &base, &[last[0] + half], second, &mut alone, NEXT);
                    assert_eq!(alone, sums[(n_rows - 1) * width..]);
                }
            }
        }
    }
}

#[test]
fn tiles_of_bytes_are_exact() {
    for kernels in levels() {
        for width in kernels.widths() {
            for sum in [Sum::Dot, Sum::L1] {
                for (len, n_rows) in [(1, 1), (3, 7), (40, 13), (4096, 2)] {
                    tile_of_bytes(kernels, width, sum, len, n_rows);
                }
            }
        }
    }
}

/// `len` units, of whatever the level packs.
fn tile_of_bytes(kernels: &Kernels, width: usize, sum: Sum, len: usize, n_rows: usize) {
    let units = |seed: u64, n: usize| -> Vec<i32> {
        let pair = |bits: u64| (bits as u8 as i32) | ((bits >> 8) as u8 as i32) << 16;
        let quads = kernels.unit(sum) == Unit::Quad;
        let unit = |bits: u64| if quads { bits as i32 } else { pair(bits) };
        (0..n as u64).map(|i| unit(stream(seed, i))).collect()
    };
    let (panel, base) = (units(6, len * width), units(7, len * n_rows));
    let starts: Vec<usize> = (0..n_rows).map(|row| row * len).collect();
    let mut sums = vec![7; n_rows * width];
    kernels.tile_bytes(sum, width, &base, &starts, &panel, &mut sums, FIRST);
    for (i, &got) in sums.iter().enumerate() {
        let row = &base[starts[i / width]..][..len];
        let query = panel.iter().skip(i % width).step_by(width);
        let want: i32 = row.iter().zip(query).map(|(&a, &b)| one_unit(kernels, sum, a, b)).sum();
        assert_eq!(got, want, "{sum:?} width {width} len {len}");
    }
}

fn one_unit(kernels: &Kernels, sum: Sum, row: i32, query: i32) -> i32 {
    if kernels.unit(sum) == Unit::Quad {
        let pairs = row.to_le_bytes().into_iter().zip(query.to_le_bytes());
        return pairs.map(|(a, b)| i32::from(a) * i32::from(b as i8)).sum();
    }
    let halves = |x: i32| [i32::from(x as i16), x >> 16];
    let pairs = halves(row).into_iter().zip(halves(query));
    match sum {
        Sum::L1 => pairs.map(|(a, b)| (a - b).abs()).sum(),
        _ => pairs.map(|(a, b)| a * b).sum(),
    }
}

#[test]
fn endings_make_distances_and_tell_which_rows_are_near() {
    for kernels in levels() {
        for width in kernels.widths() {
            let (inverse, square, mend) = (vec![0.5; width], vec![10; width], vec![1; width]);
            let mut bound = vec![f32::INFINITY; width];
            bound[1..].fill(f32::NEG_INFINITY);
            let queries = Side { inverse: &inverse, square: &square, mend: &mend, bound: &bound };
            let rows =
                Side { inverse: &[2.0; 2], square: &[20; 2], mend: &[3; 2], bound: &[-4.0; 2] };
            for (ending, distances, near) in [
                (Ending::Sum, [5.0, -6.0], [false, true]),
                (Ending::Dot, [-5.0, 6.0], [true, false]),
                (Ending::Cosine, [-4.0, 7.0], [false, false]),
            ] {
                let sum = |i: usize| if i < width { 5.0f32 } else { -6.0 };
                let mut sums: Vec<u32> = (0..2 * width).map(|i| sum(i).to_bits()).collect();
                let mut any = [true; 2];
                kernels.finish(ending, width, &mut sums, rows, queries, &mut any);
                let got = [sums[0], sums[width]].map(f32::from_bits);
                assert_eq!((got, any), (distances, near), "{ending:?}");
            }
            for (ending, distances) in [
                (Ending::IntSum, [9.0, -2.0]),
                (Ending::IntDot, [-9.0, 2.0]),
                (Ending::IntCosine, [-8.0, 3.0]),
                (Ending::IntL2, [12.0, 34.0]),
            ] {
                let sum = |i: usize| if i < width { 5i32 } else { -6 };
                let mut sums: Vec<u32> = (0..2 * width).map(|i| sum(i) as u32).collect();
                let mut any = [true; 2];
                kernels.finish(ending, width, &mut sums, rows, queries, &mut any);
                let got = [sums[0], sums[width]].map(f32::from_bits);
                assert_eq!(got, distances, "{ending:?}");
                assert_eq!(any, distances.map(|distance| distance < -4.0), "{ending:?}");
            }
        }
    }
}

#[test]
fn every_finite_half_is_widened_exactly() {
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|x| x.is_finite()).collect();
    for kernels in levels() {
        let mut wide = vec![0.0; all.len()];
        kernels.widen_f16(&all, &mut wide);
        for (half, wide) in all.iter().zip(&wide) {
            assert_eq!(half.to_f32().to_bits(), wide.to_bits());
        }
        let mut halves = [0; 3];
        kernels.widen_u8(&[0, 7, 255], &mut halves);
        assert_eq!(halves, [0, 7, 255]);
        kernels.widen_i8(&[0, -7, 127], &mut halves);
        assert_eq!(halves, [0, -7, 127]);
    }
}

#[test]
#[should_panic(expected = "a row ends past the last")]
fn a_row_past_the_end_is_not_read() {
    Kernels::at(Level::best()).rows_f32(Sum::Dot, &[0.0; 4], &[0.0; 9], &[5, 6], &mut [0.0; 2]);
}

#[test]
fn every_way_to_read_reads_every_word() {
    let words: Vec<i32> = (0..9000).map(|i| stream(1, i) as i32).collect();
    for kernels in levels() {
        for n in (0..300).chain([1023, 1024, 1025, 8999, 9000]) {
            let want = words[..n].iter().fold(0i32, |sum, &word| sum.wrapping_add(word));
            for way in 0..Kernels::N_READS {
                assert_eq!(
                    kernels.read(way, &words[..n]),
                    want,
                    "{kernels:?}, way {way}, {n} words"
                );
            }
        }
    }
}
