//! Whether an entry that is asked often may answer, so that wrong answers stay below a share of requests that was chosen.
//!
//! In: for one entry, how similar each prompt was for which the model was asked anyway, and whether the entry's answer would
//! have been right. Out: serve, or explore (ask the model, and say afterwards how it was). Each entry learns its own
//! curve from similarity to the chance of being right; what is not known of the curve yet makes it explore more. Next:
//! `verified/fit.rs`.
//!
//! Paper: Schroeder et al., "vCache: Verified Semantic Prompt Caching", 2025, algorithm 1 and its appendix. We differ where
//! right and wrong are told apart by one similarity (there is no best steepness then): threshold, steepness and variance come
//! from `verified/separated.rs`. An entry that is more likely wrong than right never serves, and only the last
//! [`OBSERVATIONS`] observations count.

mod fit;
#[cfg(test)]
mod plain;
mod separated;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use crate::cache::interval::normal_quantile;
use crate::cache::verified::fit::Fit;
use crate::core::limits::OBSERVATIONS;

/// Observations before an entry may serve, the two with which each begins included: similarity 0 is wrong, 1 is right.
const LEAST: usize = 6;

/// Levels of confidence that are tried.
const LEVELS: usize = 50;

/// Below it an entry is more likely wrong than right, and what little it may serve is not worth it.
const LEAST_RIGHT: f64 = 0.5;

/// What to do with a request whose nearest entry this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Answer from memory.
    Serve,
    /// Ask the model, and then [`Estimate::observe`] whether the entry would have been right.
    Explore,
}

/// What is known of one entry: 2 bytes an observation, and the curve fitted to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Thousandths of similarity, doubled, and 1 more if it was right; oldest first.
    observed: Vec<i16>,
    fit: Option<Fit>,
}

impl Estimate {
    /// An entry of which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// The estimate that these bytes of [`Estimate::to_bytes`] are of; `None` if they are of none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let observed: Vec<i16> =
            bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        let is_valid = bytes.len() == 2 * observed.len()
            && observed.len() <= OBSERVATIONS
            && observed.iter().all(|code| (-2000..=2001).contains(code));
        is_valid.then(|| Self { fit: fitted(&observed), observed })
    }

    /// What is to be kept of it on disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.observed.iter().flat_map(|code| code.to_le_bytes()).collect()
    }

    /// Observations that are kept.
    pub fn len(&self) -> usize {
        self.observed.len()
    }

    /// Whether nothing was observed yet.
    pub fn is_empty(&self) -> bool {
        self.observed.is_empty()
    }

    /// Adds that at this cosine similarity the entry's answer would have been right, or wrong. Similarities are rounded to
    /// thousandths; of more than [`OBSERVATIONS`] the oldest is forgotten. Costs one fit, below a tenth of a
    /// millisecond; a decision takes below a microsecond.
    pub fn observe(&mut self, similarity: f32, was_right: bool) {
        if !similarity.is_finite() {
            // Vectors of norm 1 have none, and nothing can be learnt from it.
            return;
        }
        if self.observed.len() == OBSERVATIONS {
            self.observed.remove(0);
        }
        // Rounding puts the similarity of equal rows a little over 1.
        let thousandths = (similarity.clamp(-1.0, 1.0) * 1000.0).round() as i16;
        self.observed.push(2 * thousandths + i16::from(was_right));
        self.fit = fitted(&self.observed);
    }

    /// A lower bound of the chance that the entry is right at this similarity, the best of 50 confidence levels: at
    /// level `1 - e` the threshold is at most its upper estimate, so that `1 - e` times the curve there is a bound. 0 while
    /// too little was observed.
    pub fn least_right(&self, similarity: f32) -> f64 {
        let Some(fit) = &self.fit else { return 0.0 };
        let levels = QUANTILES
            .iter()
            .map(|&(confidence, quantile)| confidence * fit.right(f64::from(similarity), quantile));
        levels.fold(0.0, f64::max)
    }

    /// The share of requests at this similarity that must go to the model, so that of all of them no more than `delta` are
    /// answered wrongly: in [0, 1].
    ///
    /// # Panics
    /// If `delta` is not in (0, 1), which a policy checks.
    pub fn exploration(&self, similarity: f32, delta: f64) -> f64 {
        assert!(delta > 0.0 && delta < 1.0, "a policy's share of errors lies in (0, 1)");
        let right = self.least_right(similarity);
        match right >= LEAST_RIGHT {
            true => (1.0 - delta / (1.0 - right)).max(0.0),
            false => 1.0,
        }
    }

    /// What to do with a request at this similarity; `u` is drawn evenly from [0, 1) for it.
    ///
    /// # Panics
    /// As [`Estimate::exploration`].
    pub fn decide(&self, similarity: f32, delta: f64, u: f64) -> Decision {
        if u < self.exploration(similarity, delta) { Decision::Explore } else { Decision::Serve }
    }
}

/// Confidence levels, each with the quantile of the normal distribution that belongs to it.
static QUANTILES: LazyLock<[(f64, f64); LEVELS]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        let confidence = (i as f64 + 0.5) / LEVELS as f64;
        (confidence, normal_quantile(confidence))
    })
});

/// The curve of these observations and the two that each entry begins with; `None` if they are too few.
fn fitted(observed: &[i16]) -> Option<Fit> {
    let seeds = [(0.0, false), (1.0, true)];
    let seen = observed.iter().map(|&code| {
        let was_right = code.rem_euclid(2) == 1;
        (f64::from(code - i16::from(was_right)) / 2000.0, was_right)
    });
    let all: Vec<(f64, bool)> = seeds.into_iter().chain(seen).collect();
    (all.len() >= LEAST).then(|| Fit::of(&all))
}
