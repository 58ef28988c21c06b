//! What the processor keeps of rows beside the rows: norms, and a copy where norms would leave 32-bit floats.

use std::ops::RangeInclusive;

use crate::core::metric::Metric;
use crate::core::rows::{Dtype, Rows, Values};
use crate::core::slab::Slab;
use crate::error::{Error, ErrorKind, Result};

/// Norms that need no scaling: products of two inverse norms and of two elements stay far from the ends of 32-bit floats.
const COMFORTABLE: RangeInclusive<f64> = 1.0 / (1u64 << 30) as f64..=(1u64 << 30) as f64;

/// Per-row numbers of one block of rows under one metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placed {
    /// For cosine `1 / |row|`, computed in 64 bits and rounded; otherwise empty.
    pub inverse: Slab<f32>,
    /// For L2 of bytes `|row|²`, exact; otherwise empty.
    pub square: Slab<i32>,
    /// For cosine, if some row has an uncomfortable norm: all rows, such ones times a power of two that brings the norm
    /// to `[1, 2)`. The inverse norms are of these.
    pub scaled: Option<Slab<f32>>,
}

impl Placed {
    /// The numbers of `rows`, which [`Rows::check`] has accepted.
    pub fn new(rows: &Rows, metric: Metric) -> Self {
        Plan::new(rows, metric).place(rows, metric)
    }

    /// Fails if these cannot be the numbers of such rows. Cost: none of them is looked at.
    ///
    /// # Errors
    /// `placed_shape`.
    pub fn check(&self, rows: &Rows, metric: Metric) -> Result<()> {
        let (inverse, square) = needs(rows, metric);
        let n = |is_needed: bool| if is_needed { rows.n_rows() } else { 0 };
        let may_scale = inverse && rows.dtype() == Dtype::F32;
        let is_scaled = |scaled: &Slab<f32>| may_scale && scaled.len() == rows.values().len();
        let fits = self.inverse.len() == n(inverse)
            && self.square.len() == n(square)
            && self.scaled.as_ref().is_none_or(is_scaled);
        if fits {
            return Ok(());
        }
        let message = format!(
            "{} inverse norms, {} squares and {} scaled elements for {} rows of {} {} under {metric}",
            self.inverse.len(),
            self.square.len(),
            self.scaled.as_ref().map_or(0, |scaled| scaled.len()),
            rows.n_rows(),
            rows.dim(),
            rows.dtype().name()
        );
        Err(Error::new(ErrorKind::BadInput, "placed_shape", message))
    }

    /// Bytes beside the rows.
    pub fn n_bytes(&self) -> u64 {
        let scaled = self.scaled.as_ref().map_or(0, |scaled| scaled.len());
        4 * (self.inverse.len() + self.square.len() + scaled) as u64
    }
}

/// Whether rows have inverse norms, and squares of norms.
fn needs(rows: &Rows, metric: Metric) -> (bool, bool) {
    (metric == Metric::Cosine, metric == Metric::L2 && rows.dtype().is_integer())
}

/// What is to be placed, before it is made, so that its bytes can be reserved.
pub struct Plan {
    /// Of every row, if the metric needs them.
    norms: Vec<f64>,
    n_bytes: u64,
}

impl Plan {
    /// What `rows` need under `metric`. Cost: one pass over the rows, if norms are needed.
    pub fn new(rows: &Rows, metric: Metric) -> Self {
        let (inverse, square) = needs(rows, metric);
        let norms = if inverse || square { rows.rough_norms() } else { Vec::new() };
        let copy = if needs_scaling(rows, metric, &norms) { rows.n_bytes() } else { 0 };
        let n_bytes = 4 * norms.len() as u64 + copy;
        Self { norms, n_bytes }
    }

    /// Bytes beside the rows.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Makes it.
    pub fn place(self, rows: &Rows, metric: Metric) -> Placed {
        let mut norms = self.norms;
        if metric != Metric::Cosine {
            // At most 16,384 times 255²: below 2³¹.
            let square = norms.iter().map(|norm| (norm * norm).round() as i32).collect();
            return Placed { square, ..Placed::default() };
        }
        let scaled = needs_scaling(rows, metric, &norms).then(|| scale(rows, &mut norms));
        let inverse = norms.iter().map(|norm| (1.0 / norm) as f32).collect();
        Placed { inverse, square: Slab::default(), scaled }
    }
}

fn needs_scaling(rows: &Rows, metric: Metric, norms: &[f64]) -> bool {
    // Norms of the other element types lie between 2⁻²⁴ and 2²³.
    metric == Metric::Cosine
        && rows.dtype() == Dtype::F32
        && norms.iter().any(|norm| !COMFORTABLE.contains(norm))
}

/// The rows, those with uncomfortable norms scaled, and `norms` with them.
fn scale(rows: &Rows, norms: &mut [f64]) -> Slab<f32> {
    let Values::F32(values) = rows.values() else { unreachable!("only 32-bit floats are scaled") };
    let mut copy = values.to_vec();
    for (row, norm) in copy.chunks_exact_mut(rows.dim()).zip(norms) {
        if !COMFORTABLE.contains(norm) {
            // In 64 bits, as the factor itself may not fit 32.
            let factor = (-norm.log2().floor()).exp2();
            row.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
            *norm *= factor;
        }
    }
    copy.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_at_the_ends_of_floats_are_scaled_and_counted() {
        let rows =
            Rows::new(Values::F32(vec![3e38, 3e38, 1.0, 0.0, 1e-45, 0.0].into()), 2).unwrap();
        let placed = Placed::new(&rows, Metric::Cosine);
        let copy = placed.scaled.as_ref().unwrap();
        assert_eq!(copy[2..4], [1.0, 0.0]);
        for (row, inverse) in copy.chunks(2).zip(placed.inverse.iter()) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((norm * inverse - 1.0).abs() < 1e-6, "{row:?} {inverse}");
        }
        assert_eq!(Plan::new(&rows, Metric::Cosine).n_bytes(), 24 + 12);
        assert_eq!(Plan::new(&rows, Metric::Dot).n_bytes(), 0);
    }

    #[test]
    fn squares_of_bytes_are_exact() {
        let rows = Rows::new(Values::U8(vec![255; 16_384].into()), 16_384).unwrap();
        assert_eq!(Placed::new(&rows, Metric::L2).square[..], [16_384 * 255 * 255]);
        assert_eq!(Plan::new(&rows, Metric::L2).n_bytes(), 4);
    }
}
