//! Eight bits per element: bytes that backends compare exactly, and what the rounding may have cost.
//!
//! A row is `x = x̂ + e` with `x̂ = scale · c` and bytes `c` from -127 to 127. Distances between the bytes are exact
//! integers on every backend (rows of [`Values::I8`]); what separates them from the distances of `x` is `e`, whose norm is
//! kept per row. Under cosine every row has a scale of its own, for angles do not depend on it. Under dot and L2 all rows
//! share one, so that the order of the bytes' distances is the order of the estimates.
//!
//! **Bounds.** For certain, by Cauchy-Schwarz:
//!
//! ```text
//! |⟨x, y⟩ - ⟨x̂, ŷ⟩| = |⟨e_x, ŷ⟩ + ⟨x̂, e_y⟩ + ⟨e_x, e_y⟩| ≤ |e_x| |ŷ| + |x̂| |e_y| + |e_x| |e_y|
//! ```
//!
//! Likely: what rounding takes from an element is as good as uniform over a step and independent of the other row, so
//! `⟨e_x, ŷ⟩` has a deviation of at most `scale_x / √12 · |ŷ|`, and `⟨x̂, e_y⟩` of `scale_y / √12 · |x̂|`; squares add. The
//! last product is not random where rows are alike, and stays as it is. Elements that were cut off at 127 steps were not
//! rounded: such a row has no likely bound, only the certain one.

use crate::core::metric::Metric;
use crate::core::rows::{Rows, Values};
use crate::error::{Error, Result};
use crate::quant::rabitq::{dot, unit_row};

const TOP: f32 = 127.0;

/// Variance of a number that is uniform over a step of 1.
const STEP_VARIANCE: f64 = 1.0 / 12.0;

/// What is known of a row's rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rounding {
    /// What one step of a byte is worth.
    pub scale: f32,
    /// Norm of what was rounded away.
    pub residual: f32,
    /// Norm of the rounded row.
    pub norm: f32,
    /// Whether elements were cut off.
    pub is_cut: bool,
}

/// Rows of bytes, and what was rounded away.
#[derive(Clone, Debug, PartialEq)]
pub struct Int8Codes {
    /// `[n_rows, dim]` of [`Values::I8`].
    pub rows: Rows,
    /// `[n_rows]`.
    pub rounding: Vec<Rounding>,
}

/// How far an estimate may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slack {
    /// Never further.
    pub certain: f64,
    /// Further with the chance that a normal variable lies beyond `e0` deviations; at most `certain`.
    pub likely: f64,
}

/// The scale at which the largest element of all rows is a whole byte; 0 for rows of zeros.
pub fn shared_scale(rows: &Rows) -> f32 {
    (0..rows.values().len()).fold(0.0f32, |most, i| most.max(rows.values().get(i).abs())) / TOP
}

impl Int8Codes {
    /// Bytes of rows: with a scale per row, of rows of norm 1 under cosine; with one scale for all if it is given, where
    /// elements beyond 127 steps are cut off, and what is cut counts as rounded away.
    ///
    /// # Errors
    /// `metric` for L1; those of [`Rows::check`].
    pub fn encode(metric: Metric, rows: &Rows, scale: Option<f32>) -> Result<Self> {
        if metric == Metric::L1 {
            return Err(Error::usage("metric", "codes estimate cosine, dot and l2, not l1"));
        }
        rows.check(metric)?;
        let mut values = Vec::with_capacity(rows.values().len());
        let mut row = vec![0.0; rows.dim()];
        let rounding = (0..rows.n_rows())
            .map(|i| {
                unit_row(metric, rows, i, &mut row);
                let largest = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                encode_row(&mut row, scale.unwrap_or(largest / TOP), &mut values)
            })
            .collect();
        Ok(Self { rows: Rows::new(Values::I8(values.into()), rows.dim())?, rounding })
    }

    /// The worst rounding of any row: the largest of every part.
    pub fn worst(&self) -> Rounding {
        self.rounding.iter().fold(Rounding::default(), |worst, one| Rounding {
            scale: worst.scale.max(one.scale),
            residual: worst.residual.max(one.residual),
            norm: worst.norm.max(one.norm),
            is_cut: worst.is_cut | one.is_cut,
        })
    }
}

/// Appends the bytes of a row, which becomes what was rounded away.
fn encode_row(row: &mut [f32], scale: f32, values: &mut Vec<i8>) -> Rounding {
    let per_step = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let (mut square, mut is_cut) = (0.0, false);
    for x in row.iter_mut() {
        // A scale below the least normal number has no reciprocal: NaN becomes 0.
        let steps = (*x * per_step).round();
        let code = steps.clamp(-TOP, TOP) as i8;
        is_cut |= steps.abs() > TOP;
        values.push(code);
        let point = f32::from(code) * scale;
        square += f64::from(point) * f64::from(point);
        *x -= point;
    }
    let residual = dot(row, row).sqrt() as f32;
    Rounding { scale, residual, norm: square.sqrt() as f32, is_cut }
}

/// How far `⟨x̂, ŷ⟩` may be from `⟨x, y⟩`.
pub fn product_slack(x: Rounding, y: Rounding, e0: f32) -> Slack {
    let wide = |x: f32| f64::from(x);
    let both = wide(x.residual) * wide(y.residual);
    let certain = wide(x.residual) * wide(y.norm) + wide(x.norm) * wide(y.residual) + both;
    if x.is_cut || y.is_cut {
        return Slack { certain, likely: certain };
    }
    let square = (wide(x.scale) * wide(y.norm)).powi(2) + (wide(y.scale) * wide(x.norm)).powi(2);
    let likely = wide(e0) * (square * STEP_VARIANCE).sqrt() + both;
    Slack { certain, likely: likely.min(certain) }
}

/// A likely lower bound of the distance of a row from a query, from the distance `estimate` of their bytes. Rises with the
/// estimate. `row` is the row's rounding, or the worst of all rows.
pub fn lower_bound(metric: Metric, estimate: f32, row: Rounding, query: Rounding, e0: f32) -> f32 {
    let slack = product_slack(row, query, e0).likely;
    let lower = match metric {
        Metric::Cosine => {
            // The bytes' cosine is ⟨x̂, ŷ⟩ / (|x̂| |ŷ|), and norms are not quite 1: |x̂|² = 1 - 2 ⟨x, e⟩ + |e|².
            let norm = |one: Rounding| {
                let deviation = f64::from(one.scale) * STEP_VARIANCE.sqrt();
                f64::from(one.residual).powi(2) + f64::from(e0) * deviation
            };
            f64::from(estimate) - slack - norm(row) - norm(query)
        }
        Metric::L2 => {
            // With d = x̂ - ŷ and e = e_x - e_y: |x - y|² = |d|² + 2 ⟨d, e⟩ + |e|². As d is x - y - e, the middle
            // term is -2 |e|² on average, so the estimate is too high by |e|².
            let steps = f64::from(query.scale).powi(2);
            let apart = (f64::from(estimate) * steps).sqrt();
            let (a, b) = (f64::from(row.residual), f64::from(query.residual));
            let certain = (apart - a - b).max(0.0).powi(2);
            let deviation = (2.0 * steps * STEP_VARIANCE).sqrt();
            let likely = apart * (apart - 2.0 * f64::from(e0) * deviation) - a * a - b * b;
            if row.is_cut || query.is_cut { certain } else { likely.max(certain) }
        }
        _ => f64::from(estimate) * f64::from(query.scale) * f64::from(row.scale) - slack,
    };
    lower as f32
}
