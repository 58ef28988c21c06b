//! The curve of one entry: one-dimensional logistic regression by Newton's method, and how sure its threshold is.

use crate::cache::verified::separated::separated;

/// Least steepness of a curve: one that falls says nothing about similarity.
const LEAST_STEEPNESS: f64 = 1e-6;

/// Steps of Newton's method; ten are usual.
const STEPS: usize = 50;

/// Halvings of a step that overshoots.
const HALVINGS: usize = 30;

/// Similarities are measured from here, so that threshold and steepness are told apart well.
const CENTRE: f64 = 0.5;

/// `P(right | similarity) = 1 / (1 + exp(-steepness (similarity - threshold)))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// In [0, 1].
    pub threshold: f32,
    /// Above 0.
    pub steepness: f32,
    /// Of the threshold; at most 1.
    pub variance: f32,
}

impl Fit {
    /// The most likely curve of `(similarity, was it right)`.
    pub fn of(all: &[(f64, bool)]) -> Self {
        separated(all).unwrap_or_else(|| newton(all))
    }

    /// The chance of being right if the threshold lies `quantile` standard deviations higher.
    pub fn right(&self, similarity: f64, quantile: f64) -> f64 {
        let deviation = f64::from(self.variance).sqrt();
        let threshold = (f64::from(self.threshold) + quantile * deviation).clamp(0.0, 1.0);
        sigmoid(f64::from(self.steepness) * (similarity - threshold))
    }
}

/// Sums over all observations at a curve `b0 + b1 x`: the gradient of the likelihood, and its information.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    gradient: [f64; 2],
    /// Weights, and their first and second moments.
    information: [f64; 3],
}

/// Maximises the likelihood from a gentle curve on. Steps that lower it are halved: the likelihood is concave, so that one of
/// them raises it until the top is reached.
fn newton(all: &[(f64, bool)]) -> Fit {
    let mut curve = [0.0, 4.0];
    let mut best = likelihood(all, curve);
    for _ in 0..STEPS {
        let Some(step) = step(&sums(all, curve)) else { break };
        let mut factor = 1.0;
        let next = (0..HALVINGS).find_map(|_| {
            let tried = [curve[0] + factor * step[0], curve[1] + factor * step[1]];
            let value = likelihood(all, tried);
            factor /= 2.0;
            (value > best).then_some((tried, value))
        });
        let Some((tried, value)) = next else { break };
        let gained = value - best;
        (curve, best) = (tried, value);
        if gained < 1e-12 {
            break;
        }
    }
    fit(curve, &sums(all, curve))
}

fn likelihood(all: &[(f64, bool)], [b0, b1]: [f64; 2]) -> f64 {
    let one = |&(x, right): &(f64, bool)| {
        let height = b0 + b1 * (x - CENTRE);
        let loss = if right { -height } else { height };
        // ln(1 + e^loss), which does not overflow.
        -(loss.max(0.0) + (-loss.abs()).exp().ln_1p())
    };
    all.iter().map(one).sum()
}

fn sums(all: &[(f64, bool)], [b0, b1]: [f64; 2]) -> Sums {
    let mut sums = Sums::default();
    for &(x, right) in all {
        let x = x - CENTRE;
        let p = sigmoid(b0 + b1 * x);
        let (miss, weight) = (f64::from(u8::from(right)) - p, p * (1.0 - p));
        sums.gradient = [sums.gradient[0] + miss, sums.gradient[1] + miss * x];
        let [w, wx, wxx] = sums.information;
        sums.information = [w + weight, wx + weight * x, wxx + weight * x * x];
    }
    sums
}

/// The inverse of the information times the gradient; `None` where all similarities are one.
fn step(Sums { gradient: [g0, g1], information }: &Sums) -> Option<[f64; 2]> {
    let [w, wx, wxx] = *information;
    let determinant = determinant(information);
    (determinant > 1e-18)
        .then(|| [(wxx * g0 - wx * g1) / determinant, (w * g1 - wx * g0) / determinant])
}

fn determinant([w, wx, wxx]: &[f64; 3]) -> f64 {
    w * wxx - wx * wx
}

/// Threshold and steepness of a curve, and by the delta method the variance of the threshold.
fn fit([b0, b1]: [f64; 2], sums: &Sums) -> Fit {
    if b1 < LEAST_STEEPNESS {
        return Fit { threshold: 1.0, steepness: LEAST_STEEPNESS as f32, variance: 1.0 };
    }
    let threshold = -b0 / b1;
    let [w, wx, wxx] = sums.information;
    let spread = wxx - 2.0 * threshold * wx + threshold * threshold * w;
    let variance = spread / determinant(&sums.information) / (b1 * b1);
    Fit {
        threshold: (threshold + CENTRE).clamp(0.0, 1.0) as f32,
        steepness: b1 as f32,
        // Not a number where the curve is so steep that nothing weighs.
        variance: if variance < 1.0 { variance as f32 } else { 1.0 },
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
