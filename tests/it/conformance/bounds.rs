//! How far a 32-bit result may be from the exact one.
//!
//! A sum of `n` products in 32-bit floats, in any order, is off by at most `n u Σ|a_i b_i|` to first order, with `u = 2⁻²⁴`
//! (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, 3.1). A few operations before and after are added.

use nearkin::core::metric::Metric;
use nearkin::core::rows::Rows;

/// Unit roundoff of a 32-bit float.
const U: f64 = 1.0 / (1 << 24) as f64;

/// Products below the smallest normal number may be flushed to zero by a device.
const UNDERFLOW: f64 = 1.2e-38;

/// The exact distance and how far a backend may be from it. Zero for sums of integers.
pub fn exact(metric: Metric, a: (&Rows, usize), b: (&Rows, usize)) -> (f64, f64) {
    let dim = a.0.dim();
    let element = |of: (&Rows, usize), i: usize| f64::from(of.0.values().get(of.1 * dim + i));
    let pairs = || (0..dim).map(|i| (element(a, i), element(b, i)));
    let n = dim as f64 + 8.0;
    let is_integer = a.0.dtype().is_integer();
    let dot: f64 = pairs().map(|(x, y)| x * y).sum();
    let size: f64 = pairs().map(|(x, y)| (x * y).abs()).sum();
    let (value, slack) = match metric {
        Metric::Cosine => {
            let norm = |of| (0..dim).map(|i| element(of, i).powi(2)).sum::<f64>().sqrt();
            let scale = norm(a) * norm(b);
            let slack = if is_integer { 8.0 * U } else { n * U * size / scale + 8.0 * U };
            return (1.0 - dot / scale, slack + UNDERFLOW);
        }
        Metric::Dot => (-dot, size),
        Metric::L2 => {
            let sum = pairs().map(|(x, y)| (x - y).powi(2)).sum();
            (sum, sum)
        }
        Metric::L1 => {
            let sum = pairs().map(|(x, y)| (x - y).abs()).sum();
            (sum, sum)
        }
    };
    if is_integer { (f64::from(value as f32), 0.0) } else { (value, n * (U * slack + UNDERFLOW)) }
}
