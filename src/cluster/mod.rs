//! Rows that lie together: k-means, and the join that finds every near pair.
//!
//! In: rows. Out: centroids and who is nearest to which; pairs of rows within a distance. The backend computes all
//! distances; what is decided here is which of them are needed. Next: `join.rs` (the walk), `points.rs` (small codes
//! whose distances bound those of the rows), `cells.rs` (who can be near whom), `bounds.rs` (rounding), `verdict.rs`.

pub mod bounds;
mod cells;
pub mod join;
pub mod kmeans;
mod points;
mod project;
mod rectangles;
mod verdict;

pub use join::{JoinOptions, JoinReport, near_pairs};
pub use kmeans::KMeans;

use std::ops::Range;

use half::f16;

use crate::core::mix::stream;
use crate::core::rows::{Rows, Values};
use crate::core::slab::Slab;
use crate::error::{Error, Result};

/// Values of the same type by their places.
fn picked<T: Copy>(values: &[T], rows: impl Iterator<Item = usize>, dim: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(rows.size_hint().0 * dim);
    rows.for_each(|row| out.extend_from_slice(&values[row * dim..(row + 1) * dim]));
    out
}

/// A copy of the listed rows, in the order of the list.
pub(crate) fn gather(rows: &Rows, slots: impl Iterator<Item = usize>) -> Rows {
    let dim = rows.dim();
    let values = match rows.values() {
        Values::F32(values) => Values::F32(picked(values, slots, dim).into()),
        Values::F16(values) => Values::F16(picked::<f16>(values, slots, dim).into()),
        Values::U8(values) => Values::U8(picked(values, slots, dim).into()),
        Values::I8(values) => Values::I8(picked(values, slots, dim).into()),
    };
    Rows::new(values, dim).expect("rows that were checked once")
}

fn joint<T: Copy>(left: &[T], right: &[T]) -> Slab<T> {
    [left, right].concat().into()
}

/// The rows of both, those of `right` after those of `left`.
///
/// # Errors
/// `vector_dtype` if their types differ; `too_many_rows`.
fn joined(left: Rows, right: Rows) -> Result<Rows> {
    let dim = left.dim();
    let values = match (left.values(), right.values()) {
        (Values::F32(left), Values::F32(right)) => Values::F32(joint(left, right)),
        (Values::F16(left), Values::F16(right)) => Values::F16(joint(left, right)),
        (Values::U8(left), Values::U8(right)) => Values::U8(joint(left, right)),
        (Values::I8(left), Values::I8(right)) => Values::I8(joint(left, right)),
        (left, right) => {
            let message = format!("{} and {}", left.dtype().name(), right.dtype().name());
            return Err(Error::usage("vector_dtype", message));
        }
    };
    Rows::new(values, dim)
}

/// `n` of `n_rows` rows in ascending order, one from each of `n` equal stretches; all of them if there are fewer.
fn sample(n_rows: usize, n: usize, seed: u64) -> Vec<usize> {
    let n = n.min(n_rows);
    let one = |i: usize| {
        let stretch: Range<usize> = i * n_rows / n..(i + 1) * n_rows / n;
        stretch.start + (stream(seed, i as u64) % stretch.len() as u64) as usize
    };
    (0..n).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_distinct_rows_in_order_and_at_most_all() {
        for (n_rows, n) in [(0, 4), (3, 4), (4, 4), (1000, 7), (1000, 999)] {
            let rows = sample(n_rows, n, 5);
            assert_eq!(rows.len(), n.min(n_rows));
            assert!(rows.is_sorted_by(|a, b| a < b) && rows.iter().all(|&row| row < n_rows));
        }
    }
}
