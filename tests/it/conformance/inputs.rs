//! Made-up rows, codes and shingles, by seed.

use half::f16;
use nearkin::backend::codes::{EXTRA_PLANES, Factors, Planes, RabitqCodes, RabitqQuery};
use nearkin::core::bits::Bits;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Dtype, Rows, Values};

/// A number in [-1, 1).
pub fn uniform(seed: u64, i: u64) -> f64 {
    (stream(seed, i) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Rows with some structure: each is one of eight centres and noise, so that distances differ and some are small.
pub fn rows(dtype: Dtype, n_rows: usize, dim: usize, seed: u64) -> Rows {
    let element = |row: usize, i: usize| {
        let centre = uniform(99, (row as u64 % 8) << 20 | i as u64);
        let noise = uniform(seed, (row * dim + i) as u64);
        0.7 * centre + 0.3 * noise
    };
    let all = (0..n_rows).flat_map(|row| (0..dim).map(move |i| element(row, i)));
    let values = match dtype {
        Dtype::F32 => Values::F32(all.map(|x| x as f32).collect()),
        Dtype::F16 => Values::F16(all.map(f16::from_f64).collect()),
        Dtype::U8 => Values::U8(all.map(|x| (x * 127.0 + 128.0) as u8).collect()),
        Dtype::I8 => Values::I8(all.map(|x| (x * 127.0) as i8).collect()),
    };
    let mut rows = Rows::new(values, dim).unwrap();
    // A row of zeros cannot be compared by cosine; made-up bytes of one element may all be zero.
    if dim < 8 {
        rows = without_zero_rows(rows);
    }
    rows
}

fn without_zero_rows(rows: Rows) -> Rows {
    let dim = rows.dim();
    let values = match rows.values().clone() {
        Values::U8(mut values) => {
            values.to_mut().iter_mut().step_by(dim).for_each(|x| *x = (*x).max(1));
            Values::U8(values)
        }
        Values::I8(mut values) => {
            values.to_mut().iter_mut().step_by(dim).filter(|x| **x == 0).for_each(|x| *x = 1);
            Values::I8(values)
        }
        values => values,
    };
    Rows::new(values, dim).unwrap()
}

/// About `share` of `n_rows` slots.
pub fn some_bits(n_rows: u32, share: f64, seed: u64) -> Bits {
    let mut bits = Bits::new(n_rows);
    for slot in 0..n_rows {
        if uniform(seed, u64::from(slot)) < 2.0 * share - 1.0 {
            bits.insert(slot);
        }
    }
    bits
}

/// Codes with random planes and factors of the size that real ones have.
pub fn codes(n_rows: usize, n_words: usize, seed: u64) -> RabitqCodes {
    let words = |n: usize, salt: u64| (0..n as u64).map(|i| stream(seed ^ salt, i)).collect();
    let factors = |salt: u64, scale: f64, err: f64| {
        let one = |row: u64| Factors {
            add: uniform(seed ^ salt, 3 * row) as f32,
            rescale: ((uniform(seed ^ salt, 3 * row + 1) - 2.0) * scale) as f32,
            err: ((uniform(seed ^ salt, 3 * row + 2) + 2.0) * err) as f32,
        };
        (0..n_rows as u64).map(one).collect()
    };
    RabitqCodes {
        metric: Metric::L2,
        n_rows,
        n_words,
        signs: words(n_rows * n_words, 1),
        extra: words(n_rows * n_words * EXTRA_PLANES, 2),
        coarse: factors(3, 0.02, 0.05),
        fine: factors(4, 0.002, 0.005),
    }
}

fn planes(n_planes: usize, n_words: usize, seed: u64) -> Planes {
    let words: Vec<u64> = (0..(n_planes * n_words) as u64).map(|i| stream(seed, i)).collect();
    let (lo, step) = (-1.0f32, 2.0 / ((1 << n_planes) - 1) as f32);
    let total: u64 = words
        .chunks_exact(n_words)
        .enumerate()
        .map(|(weight, plane)| {
            plane.iter().map(|w| u64::from(w.count_ones())).sum::<u64>() << weight
        })
        .sum();
    let sum = lo * (n_words * 64) as f32 + step * total as f32;
    Planes { words, n_planes, lo, step, sum }
}

/// A prepared query for [`codes`].
pub fn rabitq_query(n_words: usize, seed: u64) -> RabitqQuery {
    RabitqQuery {
        coarse: planes(4, n_words, seed ^ 5),
        fine: planes(8, n_words, seed ^ 6),
        add: uniform(seed, 7) as f32,
        coarse_err: 1.25,
        fine_err: 1.5,
    }
}
