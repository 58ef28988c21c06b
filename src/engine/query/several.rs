//! Scores by similarities to several examples.

use crate::engine::query::request::{Kind, Strategy};
use crate::engine::query::score::{squashed, squashed_up};

/// What makes a score of the similarities of a point to all examples of a kind.
pub(super) type Score<'a> = Box<dyn Fn(&[f32]) -> f32 + Sync + 'a>;

/// The score of a kind; see [`Kind`].
pub(super) fn score(kind: &Kind) -> Score<'_> {
    match kind {
        Kind::Recommend { positive, strategy: Strategy::SumScores, .. } => {
            let n = positive.len();
            Box::new(move |alike| alike[..n].iter().sum::<f32>() - alike[n..].iter().sum::<f32>())
        }
        Kind::Recommend { positive, .. } => {
            let n = positive.len();
            Box::new(move |alike| best(&alike[..n], &alike[n..]))
        }
        Kind::Discover { .. } => Box::new(|alike| sides(&alike[1..]) + squashed_up(alike[0])),
        Kind::Context(_) => Box::new(beyond),
        Kind::Feedback { rated, weights, .. } => {
            let ratings: Vec<f32> = rated.iter().map(|(_, rating)| *rating).collect();
            let pairs = rated_pairs(&ratings, weights[1], weights[2]);
            let a = weights[0];
            Box::new(move |alike| a * alike[0] + preferred(&pairs, &alike[1..]))
        }
        _ => unreachable!("a kind that is answered by other means"),
    }
}

/// See [`Strategy::BestScore`].
fn best(positive: &[f32], negative: &[f32]) -> f32 {
    let most = |alike: &[f32]| alike.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (positive, negative) = (most(positive), most(negative));
    if positive > negative { squashed_up(positive) } else { -squashed_up(negative) }
}

/// On the positive side of how many pairs, less those on whose negative side.
fn sides(pairs: &[f32]) -> f32 {
    let side = |pair: &[f32; 2]| match pair[0].partial_cmp(&pair[1]) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Less) => -1.0,
        _ => 0.0,
    };
    pairs.as_chunks().0.iter().map(side).sum()
}

/// How far on the negative side of all pairs: 0 or less.
fn beyond(pairs: &[f32]) -> f32 {
    let one = |pair: &[f32; 2]| squashed((pair[0] - pair[1] - f32::EPSILON).min(0.0));
    pairs.as_chunks().0.iter().map(one).sum()
}

/// Examples that were rated higher than others, those, and what the difference weighs.
fn rated_pairs(ratings: &[f32], b: f32, c: f32) -> Vec<(usize, usize, f32)> {
    let mut pairs = Vec::new();
    for (high, rating) in ratings.iter().enumerate() {
        for (low, other) in ratings.iter().enumerate() {
            let difference = rating - other;
            if difference > 0.0 {
                pairs.push((high, low, difference.powf(b) * c));
            }
        }
    }
    pairs
}

fn preferred(pairs: &[(usize, usize, f32)], alike: &[f32]) -> f32 {
    pairs.iter().map(|&(high, low, weight)| weight * (alike[high] - alike[low])).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::query::request::{Example, Pair};

    fn example() -> Example {
        Example::Vector(vec![1.0])
    }

    fn pairs(n: usize) -> Vec<Pair> {
        vec![Pair { positive: example(), negative: example() }; n]
    }

    fn recommend(n: usize, strategy: Strategy) -> Kind {
        Kind::Recommend { positive: vec![example(); n], negative: vec![example()], strategy }
    }

    #[test]
    fn the_best_example_decides_and_negative_ones_make_negative_scores() {
        let kind = recommend(2, Strategy::BestScore);
        let score = score(&kind);
        assert_eq!(score(&[0.5, 1.0, 0.0]), 0.75);
        assert_eq!(score(&[0.5, -1.0, 1.0]), -0.75);
        // As alike to both sides is no reason to be recommended.
        assert_eq!(score(&[1.0, 1.0, 1.0]), -0.75);
        let none = recommend(0, Strategy::BestScore);
        assert_eq!(super::score(&none)(&[1.0]), -0.75);
    }

    #[test]
    fn similarities_are_summed() {
        let kind = recommend(2, Strategy::SumScores);
        assert_eq!(score(&kind)(&[0.5, 0.25, 1.0]), -0.25);
    }

    #[test]
    fn the_number_of_pairs_weighs_more_than_the_target() {
        let kind = Kind::Discover { target: example(), context: pairs(3) };
        let score = score(&kind);
        assert_eq!(score(&[1.0, 0.5, 0.1, 0.5, 0.1, 0.1, 0.5]), 1.75);
        assert_eq!(score(&[-1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]), 0.25);
        let none = Kind::Discover { target: example(), context: Vec::new() };
        assert_eq!(super::score(&none)(&[1.0]), 0.75);
    }

    #[test]
    fn points_on_the_positive_side_of_all_pairs_are_equal() {
        let kind = Kind::Context(pairs(2));
        let score = score(&kind);
        assert_eq!(score(&[0.9, 0.1, 0.3, 0.2]), 0.0);
        assert!((score(&[0.0, 1.0, 0.3, 0.2]) + 0.5).abs() < 1e-6);
        assert!((score(&[0.0, 1.0, 0.0, 3.0]) + 1.25).abs() < 1e-6);
    }

    #[test]
    fn high_ratings_attract_and_low_ones_repel() {
        let rated = [2.0, 1.0, 1.0].map(|rating| (example(), rating)).to_vec();
        let kind = Kind::Feedback { target: example(), rated, weights: [2.0, 1.0, 0.5] };
        // Two pairs: the first with the second and with the third.
        assert_eq!(score(&kind)(&[0.5, 1.0, 0.25, 0.5]), 1.0 + 0.5 * 0.75 + 0.5 * 0.5);
    }
}
