//! Axes along which rows differ most, so that few numbers per row bound most distances well.
//!
//! Any orthonormal axes give a true bound (`|Px - Py| <= |x - y|`); these give a tight one. They come from simultaneous
//! iteration on a sample, both of whose products are [`Backend::distances`] under dot.
//!
//! Paper: Rutishauser, "Computational aspects of F. L. Bauer's simultaneous iteration method", 1969.

use std::sync::Arc;

use crate::backend::{Backend, Stream};
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::rows::{Rows, Values};
use crate::error::Result;

/// Rounds of the iteration: later ones move the axes by less than the bound gains.
const N_ROUNDS: usize = 4;

/// Number of the stream that the axes start from.
const START: u64 = 0x61_78_65_73;

/// `n_axes` orthonormal axes `[n_axes, dim]`, those of greatest spread first. `rows` are centred f32.
///
/// # Errors
/// Those of [`Backend::distances`].
pub fn axes(backend: &dyn Backend, rows: &Rows, n_axes: usize, seed: u64) -> Result<Rows> {
    let (n_rows, dim) = (rows.n_rows(), rows.dim());
    let turned = Arc::new(transposed(rows));
    let start = |i: usize| if stream(seed ^ START, i as u64) & 1 == 0 { 1.0 } else { -1.0 };
    let mut axes: Vec<f64> = (0..n_axes * dim).map(start).collect();
    orthonormalize(&mut axes, dim, seed);
    let rows = Arc::new(rows.clone());
    for _ in 0..N_ROUNDS {
        // [n_axes, n_rows], then [n_axes, dim].
        let along = products(backend, &as_rows(&axes, dim), &rows)?;
        let along: Vec<f64> = along.iter().map(|&x| f64::from(x)).collect();
        let next = products(backend, &as_rows(&along, n_rows), &turned)?;
        axes = next.iter().map(|&x| f64::from(x)).collect();
        orthonormalize(&mut axes, dim, seed);
    }
    Ok(as_rows(&axes, dim))
}

/// All dot products `[n_queries, n_rows]`.
pub fn products(backend: &dyn Backend, queries: &Rows, rows: &Arc<Rows>) -> Result<Vec<f32>> {
    let resident = backend.upload(Arc::clone(rows), Metric::Dot)?;
    let all = 0..rows.n_rows() as u32;
    let mut products = backend.distances(Stream::default(), queries, &resident, all)?;
    products.iter_mut().for_each(|x| *x = -*x);
    Ok(products)
}

fn as_rows(values: &[f64], dim: usize) -> Rows {
    let values = values.iter().map(|&x| x as f32).collect();
    Rows::new(Values::F32(values), dim).expect("sums of finite numbers of moderate size")
}

fn transposed(rows: &Rows) -> Rows {
    let (n_rows, dim) = (rows.n_rows(), rows.dim());
    let one = |i: usize| rows.values().get(i % n_rows * dim + i / n_rows);
    let values = Values::F32((0..n_rows * dim).map(one).collect());
    Rows::new(values, n_rows).expect("finite rows, and a sample within the limit of elements")
}

/// Makes the rows of `axes` orthonormal, in order (Gram and Schmidt, twice over for accuracy). An axis that the earlier
/// ones span is replaced by a made-up one.
fn orthonormalize(axes: &mut [f64], dim: usize, seed: u64) {
    for i in 0..axes.len() / dim {
        let (earlier, rest) = axes.split_at_mut(i * dim);
        let axis = &mut rest[..dim];
        let mut n_tries = 0;
        while !reduce(earlier, axis, dim) {
            n_tries += 1;
            let salt = stream(seed, (i as u64) << 32 | n_tries);
            let made_up = |j: usize| (stream(salt, j as u64) >> 11) as f64 / (1u64 << 52) as f64;
            axis.iter_mut().enumerate().for_each(|(j, x)| *x = made_up(j) - 1.0);
        }
    }
}

/// Takes out of `axis` what lies along `earlier` and scales it to norm 1; false if nothing is left.
fn reduce(earlier: &[f64], axis: &mut [f64], dim: usize) -> bool {
    let norm = |axis: &[f64]| axis.iter().map(|x| x * x).sum::<f64>().sqrt();
    for _ in 0..2 {
        let before = norm(axis);
        if before == 0.0 {
            return false;
        }
        axis.iter_mut().for_each(|x| *x /= before);
        for other in earlier.chunks_exact(dim) {
            let along: f64 = other.iter().zip(axis.iter()).map(|(x, y)| x * y).sum();
            axis.iter_mut().zip(other).for_each(|(x, y)| *x -= along * y);
        }
        let after = norm(axis);
        if after < 1e-7 {
            return false;
        }
        axis.iter_mut().for_each(|x| *x /= after);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::plain::Plain;

    fn check(rows: &Rows, n_axes: usize) -> Vec<Vec<f64>> {
        let axes = axes(&Plain::new(1 << 30), rows, n_axes, 3).unwrap();
        let dim = rows.dim();
        let axis = |i: usize| (0..dim).map(|j| f64::from(axes.values().get(i * dim + j))).collect();
        let axes: Vec<Vec<f64>> = (0..n_axes).map(axis).collect();
        for (i, x) in axes.iter().enumerate() {
            for (j, y) in axes.iter().enumerate() {
                let dot: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-5, "{i} {j} {dot}");
            }
        }
        axes
    }

    #[test]
    fn the_first_axis_is_that_of_greatest_spread() {
        let spread = [0.1, 5.0, 0.2, 1.0];
        let value = |i: usize| (stream(1, i as u64) % 2001) as f64 / 1000.0 - 1.0;
        let values = (0..400 * 4).map(|i| (spread[i % 4] * value(i)) as f32).collect();
        let axes = check(&Rows::new(Values::F32(values), 4).unwrap(), 2);
        assert!(axes[0][1].abs() > 0.99 && axes[1][3].abs() > 0.99, "{axes:?}");
    }

    #[test]
    fn rows_that_span_nothing_still_give_axes() {
        check(&Rows::new(Values::F32(vec![0.0; 40].into()), 8).unwrap(), 8);
        check(&Rows::new(Values::F32(vec![1.0; 40].into()), 8).unwrap(), 5);
    }
}
