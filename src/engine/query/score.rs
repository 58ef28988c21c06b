//! Scores, and points in their order.

use std::cmp::Ordering;

use crate::core::metric::Metric;
use crate::engine::state::State;
use crate::store::columns::number::Number;

/// A point that a stage found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ranked {
    pub place: u32,
    pub score: f32,
    /// In the order of a field, where it came.
    pub order: Option<Number>,
}

impl Ranked {
    /// A point with this score.
    pub fn new(place: u32, score: f32) -> Self {
        Self { place, score, order: None }
    }

    /// A point of a kind without scores.
    pub fn unscored(place: u32) -> Self {
        Self::new(place, 1.0)
    }
}

/// The score of a nearest point, see [`Kind::Nearest`](super::Kind::Nearest).
pub(super) fn shown(metric: Metric, distance: f32) -> f32 {
    match metric {
        Metric::L2 => distance.max(0.0).sqrt(),
        _ => metric.score(distance),
    }
}

/// How alike two vectors are: more is nearer, whatever the metric.
pub(super) fn similarity(metric: Metric, distance: f32) -> f32 {
    match metric {
        Metric::Cosine => metric.score(distance),
        Metric::Dot | Metric::L2 | Metric::L1 => 0.0 - distance,
    }
}

/// Whether a score of a nearest point is as good as the threshold.
pub(super) fn is_as_good(metric: Metric, score: f32, threshold: f32) -> bool {
    match metric {
        Metric::Cosine | Metric::Dot => score >= threshold,
        Metric::L2 | Metric::L1 => score <= threshold,
    }
}

/// `x` squashed into (-1, 1).
pub(super) fn squashed(x: f32) -> f32 {
    x / (1.0 + x.abs())
}

/// `x` squashed into (0, 1).
pub(super) fn squashed_up(x: f32) -> f32 {
    0.5 * (squashed(x) + 1.0)
}

impl State {
    /// The `n` points of the greatest scores in order, those of one score by id.
    pub(super) fn greatest(&self, mut all: Vec<Ranked>, n: usize) -> Vec<Ranked> {
        let order = |a: &Ranked, b: &Ranked| -> Ordering {
            let by_score = b.score.total_cmp(&a.score);
            by_score.then_with(|| self.places.id(a.place).cmp(&self.places.id(b.place)))
        };
        if n == 0 {
            return Vec::new();
        }
        if all.len() > n {
            all.select_nth_unstable_by(n - 1, order);
            all.truncate(n);
        }
        all.sort_unstable_by(order);
        all
    }
}
