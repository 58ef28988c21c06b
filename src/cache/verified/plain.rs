//! The estimate in its plainest form: the likelihood looked up on a fine grid, the bound from the text of the paper.

use crate::cache::interval::normal_quantile;

/// Logarithm of the likelihood of `(similarity, was it right)` at a curve.
pub fn likelihood(all: &[(f64, bool)], t: f64, g: f64) -> f64 {
    let one = |&(x, right): &(f64, bool)| {
        let p = 1.0 / (1.0 + (-g * (x - t)).exp());
        if right { p.ln() } else { (1.0 - p).ln() }
    };
    all.iter().map(one).sum()
}

/// The greatest likelihood on a grid of thresholds and steepness.
pub fn most_likely(all: &[(f64, bool)]) -> f64 {
    let thresholds = || (0..=400).map(|i| f64::from(i) / 400.0);
    let curves =
        (0..=400).map(|i| 0.1 * 1.02f64.powi(i)).flat_map(|g| thresholds().map(move |t| (t, g)));
    curves.map(|(t, g)| likelihood(all, t, g)).fold(f64::NEG_INFINITY, f64::max)
}

/// Share of requests at `s` that explore, for a curve of threshold `t`, steepness `g` and a threshold's variance.
pub fn exploration(s: f64, t: f64, g: f64, variance: f64, delta: f64) -> f64 {
    let mut least = 1.0f64;
    for i in 0..50 {
        let epsilon = (f64::from(i) + 0.5) / 50.0;
        let upper = (t + normal_quantile(1.0 - epsilon) * variance.sqrt()).clamp(0.0, 1.0);
        let right = (1.0 - epsilon) / (1.0 + (-g * (s - upper)).exp());
        if right >= 0.5 {
            least = least.min(1.0 - delta / (1.0 - right));
        }
    }
    least.max(0.0)
}
