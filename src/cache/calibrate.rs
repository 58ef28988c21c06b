//! Which threshold keeps the error of a category below a target, and how sure that is.
//!
//! In: labelled requests of one category, as pairs of prompts or as a stream. Out: hits and errors at each threshold, and the
//! loosest threshold at which the error per request is below the target with the confidence asked for. Next:
//! `calibrate/stream.rs`, `interval.rs`.
//!
//! Thresholds are tried from the strictest one on, and the first whose bound is not below the target ends the walk. In this
//! order no correction for trying many is needed: a threshold that is too loose is chosen only if its own test fails, which
//! happens with probability `1 - confidence` at most.
//!
//! Paper: Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test", 2021, section on fixed sequences.

mod stream;

use crate::cache::interval;

pub use stream::of_stream;

/// Thresholds that are tried: from 0.5 to 0.995 in steps of 0.005.
pub const THRESHOLDS: usize = 100;

/// The `i`-th threshold, strictest last.
pub fn threshold(i: usize) -> f32 {
    (THRESHOLDS + i) as f32 / (2 * THRESHOLDS) as f32
}

/// A labelled request: the nearest stored prompt, and whether its answer would have been right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Cosine of the two; `None` where the guard refuses whatever it is.
    pub similarity: Option<f32>,
    /// Whether the stored answer is right.
    pub is_right: bool,
}

/// What a threshold does to the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests that were answered.
    pub hits: u64,
    /// Of these, answered wrongly.
    pub errors: u64,
}

/// Hits and errors of one category at every threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curve {
    /// Requests.
    pub n: u64,
    /// By threshold, see [`threshold`].
    pub counts: Vec<Count>,
}

/// What a curve allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// The number of the loosest threshold whose error is below the target with the confidence asked for.
    Threshold(usize),
    /// Even without any error so few requests prove nothing: the category stays strict.
    TooFew {
        /// Requests that would do, if none is answered wrongly.
        least: u64,
    },
    /// Even the strictest threshold may answer too many wrongly: the category stays strict.
    TooWrong,
}

impl Curve {
    /// The curve of pairs, each a request of its own.
    pub fn of_pairs(outcomes: &[Outcome]) -> Self {
        let mut counts = vec![Count::default(); THRESHOLDS];
        for Outcome { similarity, is_right } in outcomes {
            let Some(similarity) = similarity else { continue };
            let reached = (0..THRESHOLDS).take_while(|&i| *similarity >= threshold(i));
            for i in reached {
                counts[i].hits += 1;
                counts[i].errors += u64::from(!is_right);
            }
        }
        Self { n: outcomes.len() as u64, counts }
    }

    /// The threshold whose error per request is below `target` with this confidence.
    ///
    /// # Panics
    /// If `target` or `confidence` is not in (0, 1).
    pub fn choose(&self, target: f64, confidence: f64) -> Choice {
        let least = interval::least_seen(target, confidence);
        if self.n < least {
            return Choice::TooFew { least };
        }
        let is_below =
            |i: &usize| interval::upper(self.counts[*i].errors, self.n, confidence) < target;
        match (0..THRESHOLDS).rev().take_while(is_below).last() {
            Some(loosest) => Choice::Threshold(loosest),
            None => Choice::TooWrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    fn even(seed: u64, n: u64) -> f64 {
        (stream(seed, n) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Requests whose chance of being right is their similarity.
    fn drawn(seed: u64, n: u64) -> Vec<Outcome> {
        let one = |i: u64| {
            let similarity = 0.4 + 0.6 * even(seed, 2 * i);
            let is_right = even(seed, 2 * i + 1) < 1.0 - (1.0 - similarity) / 2.0;
            Outcome { similarity: Some(similarity as f32), is_right }
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn counts_are_those_of_a_plain_look_at_every_pair() {
        let mut outcomes = drawn(1, 500);
        outcomes[3].similarity = None;
        let curve = Curve::of_pairs(&outcomes);
        for i in 0..THRESHOLDS {
            let is_hit = |o: &&Outcome| o.similarity.is_some_and(|s| s >= threshold(i));
            let hits = outcomes.iter().filter(is_hit);
            assert_eq!(curve.counts[i].hits, hits.clone().count() as u64);
            assert_eq!(curve.counts[i].errors, hits.filter(|o| !o.is_right).count() as u64);
        }
        assert_eq!((threshold(0), threshold(THRESHOLDS - 1)), (0.5, 0.995));
    }

    #[test]
    fn a_threshold_that_is_too_loose_is_chosen_as_seldom_as_the_confidence_says() {
        // Of all requests, wrong hits from similarity t on are (1 - t)^2 / 4 / 0.6.
        let error = |t: f64| (1.0 - t).powi(2) / 4.0 / 0.6;
        let (target, confidence) = (0.02, 0.9);
        let chosen: Vec<f64> = (0..200)
            .map(|seed| match Curve::of_pairs(&drawn(seed, 800)).choose(target, confidence) {
                Choice::Threshold(i) => error(f64::from(threshold(i))),
                other => panic!("seed {seed}: {other:?}"),
            })
            .collect();
        let too_loose = chosen.iter().filter(|error| **error > target).count();
        assert!(too_loose <= 30, "{too_loose} of 200");
        assert!(too_loose >= 2, "nearly as much error as may be is allowed: {too_loose}");
    }

    #[test]
    fn too_few_or_too_wrong_requests_set_no_threshold() {
        let right = vec![Outcome { similarity: Some(0.9), is_right: true }; 298];
        let curve = Curve::of_pairs(&right);
        assert_eq!(curve.choose(0.01, 0.95), Choice::TooFew { least: 299 });
        let wrong = vec![Outcome { similarity: Some(1.0), is_right: false }; 400];
        assert_eq!(Curve::of_pairs(&wrong).choose(0.01, 0.95), Choice::TooWrong);
        let right = vec![Outcome { similarity: Some(0.9), is_right: true }; 299];
        assert_eq!(Curve::of_pairs(&right).choose(0.01, 0.95), Choice::Threshold(0));
    }
}
