//! How far apart two rows can be if they are a pair, and how far computed numbers may be from true ones.
//!
//! A bound that skips a pair must hold for numbers as they are computed, so every function here errs to the side of
//! looking: what it returns is never below the true value.

use crate::core::metric::Metric;

/// Unit roundoff of a 32-bit float.
pub const U: f64 = 1.0 / (1 << 24) as f64;

/// Greatest distance of a pair in the geometry in which bounds hold: between rows scaled to norm 1 for cosine, between
/// the rows themselves otherwise; Euclidean, not squared, but for L1. `None` if no two rows can be a pair.
///
/// Cosine: `|x - y|² = 2 (1 - x·y)` on the sphere. Dot: `|x - y|² = |x|² + |y|² - 2 x·y`, with the greatest norms of
/// both sides for `|x|` and `|y|`.
pub fn reach(metric: Metric, within: f32, greatest_norms: (f64, f64)) -> Option<f64> {
    let within = f64::from(within);
    // The verdict is rounded to 32 bits before it is compared, and taken from sums in 64 bits.
    let rounded = within + within.abs() * 4.0 * U;
    let squared = match metric {
        Metric::Cosine => 2.0 * (rounded + 1e-10),
        Metric::Dot => {
            let squares = greatest_norms.0.powi(2) + greatest_norms.1.powi(2);
            (squares + 2.0 * rounded) + (squares + 2.0 * within.abs()) * 1e-9
        }
        Metric::L2 => rounded + f64::from(f32::MIN_POSITIVE),
        Metric::L1 if within < 0.0 => return None,
        Metric::L1 => return Some(rounded + f64::from(f32::MIN_POSITIVE)),
    };
    let is_possible = squared >= 0.0 && !(metric == Metric::L2 && within < 0.0);
    is_possible.then(|| squared.sqrt() * (1.0 + 1e-12))
}

/// A threshold for a backend's 32-bit distances under which every pair falls whose exact distance is at most
/// `within`. A sum of `dim` products in 32 bits is off by at most `dim · U · Σ|a_i b_i|` to first order, in any order.
///
/// Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2002, 3.1.
pub fn widened(metric: Metric, within: f32, dim: usize, greatest_norms: (f64, f64)) -> f32 {
    let exact = f64::from(within);
    let relative = 2.0 * (dim as f64 + 16.0) * U;
    let slack = match metric {
        Metric::Cosine => relative,
        Metric::Dot => relative * greatest_norms.0 * greatest_norms.1,
        Metric::L2 | Metric::L1 => relative * exact.abs(),
    };
    // Sums below the smallest normal number may be flushed to zero: never above the true value, so no harm here.
    above(exact + slack + dim as f64 * f64::from(f32::MIN_POSITIVE))
}

/// What the projection of a row of norm at most 1 on `n_axes` orthonormal axes may be off, all axes together.
pub fn projection_error(dim: usize, n_axes: usize) -> f64 {
    (n_axes as f64).sqrt() * 4.0 * (dim as f64 + 16.0) * U
}

/// Distance of two codes of a pair, in steps of the code: `reach`, and for each row what its code may be off.
pub fn code_reach(reach: f64, error: f64, step: f64) -> f64 {
    (reach + 2.0 * error) / step * (1.0 + 1e-6)
}

/// `code_reach` as the threshold of a backend's integer distance.
pub fn code_within(metric: Metric, code_reach: f64) -> f32 {
    match metric {
        Metric::L1 => above(code_reach),
        _ => above(code_reach * code_reach),
    }
}

/// How much farther from the centroid of another cell than from its own a row may be and still be one half of a pair
/// with a row of that cell that is not found from the other half.
///
/// Let `x` be of cell `A`, `y` of cell `B`, `h_x = (|x - B|² - |x - A|²) / (2 |A - B|)` the signed distance of `x` from
/// the plane between both centroids, and `h_y` that of `y` on its side: then `h_x + h_y <= |x - y|`, so one of them is at
/// most half of it. In any metric `h_x = (d(x, B) - d(x, A)) / 2` does the same by the triangle inequality.
/// Returned is twice `h`'s limit times the divisor, so that distances can be compared as they are.
pub fn halo_limit(metric: Metric, code_reach: f64, between_centroids: f32) -> f32 {
    let limit = match metric {
        Metric::L1 => code_reach,
        _ => code_reach * f64::from(between_centroids).sqrt(),
    };
    // Distances are integers below 2²⁴; their sum with the limit is rounded by at most one.
    above(limit * (1.0 + 1e-6) + 4.0)
}

/// The least 32-bit float that is not below `x`.
pub fn above(x: f64) -> f32 {
    let rounded = x as f32;
    if f64::from(rounded) < x { rounded.next_up() } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_goes_up() {
        for x in [0.0, 0.1, -0.1, 1.0 + 1e-12, 16_777_217.0, -16_777_217.0] {
            assert!(f64::from(above(x)) >= x);
        }
        assert_eq!(above(0.5), 0.5);
    }

    #[test]
    fn reach_is_the_chord_and_impossible_thresholds_have_none() {
        let near = |x: Option<f64>, y: f64| assert!((x.unwrap() - y).abs() < 1e-2 && x >= Some(y));
        near(reach(Metric::Cosine, 0.5, (1.0, 1.0)), 1.0);
        near(reach(Metric::Cosine, 0.0, (1.0, 1.0)), 0.0);
        near(reach(Metric::L2, 4.0, (9.0, 9.0)), 2.0);
        near(reach(Metric::L1, 4.0, (9.0, 9.0)), 4.0);
        near(reach(Metric::Dot, -12.5, (3.0, 4.0)), 0.0);
        for (metric, within) in
            [(Metric::Cosine, -0.1), (Metric::L2, -0.1), (Metric::L1, -0.1), (Metric::Dot, -12.6)]
        {
            assert_eq!(reach(metric, within, (3.0, 4.0)), None, "{metric}");
        }
    }
}
