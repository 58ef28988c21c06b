//! What was decided lately, and why: for whoever runs the server.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::server::cache::control::Outcome;

/// Decisions that are remembered, of all caches together.
const N: usize = 200;

/// Characters of a question that are shown.
const SHOWN: usize = 160;

/// A request, and what was decided of it.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// When.
    pub time: String,
    /// The cache.
    pub cache: String,
    /// Whose request it was; nobody's without tenants.
    pub tenant: Option<String>,
    /// The category.
    pub category: String,
    /// The model.
    pub model: String,
    /// The beginning of the question.
    pub question: String,
    /// `HIT`, `MISS` and so on.
    pub outcome: &'static str,
    /// Why: a stable word.
    pub reason: String,
    /// Cosine of the nearest question that was answered before.
    pub similarity: Option<f32>,
    /// The least that was asked for.
    pub threshold: Option<f32>,
    /// What became of the answer: a stable word, or nothing where it was not new.
    pub stored: Option<String>,
}

/// The latest of them, and how many there were of each.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    latest: VecDeque<Decision>,
    outcomes: BTreeMap<Outcome, u64>,
    fail_open: BTreeMap<&'static str, u64>,
    judged: BTreeMap<&'static str, u64>,
}

impl Decisions {
    /// Takes in a decision.
    pub fn add(&self, outcome: Outcome, decision: Decision) {
        self.count(outcome);
        let mut held = self.held();
        if held.latest.len() == N {
            held.latest.pop_front();
        }
        held.latest.push_back(decision);
    }

    /// Counts an outcome of which nothing more is to be said.
    pub fn count(&self, outcome: Outcome) {
        *self.held().outcomes.entry(outcome).or_default() += 1;
    }

    /// Counts a request that went to the model because memory could not be asked.
    pub fn fail_open(&self, why: &'static str) {
        *self.held().fail_open.entry(why).or_default() += 1;
    }

    /// Counts what came of asking a judge.
    pub fn judged(&self, word: &'static str) {
        *self.held().judged.entry(word).or_default() += 1;
    }

    /// How often judges were asked, by what came of it.
    pub fn judgements(&self) -> Vec<(&'static str, u64)> {
        self.held().judged.iter().map(|(&word, &n)| (word, n)).collect()
    }

    /// The latest of a cache, the last first.
    pub fn latest(&self, cache: &str) -> Vec<Decision> {
        let held = self.held();
        held.latest.iter().rev().filter(|own| own.cache == cache).cloned().collect()
    }

    /// How often each outcome was; all of them.
    pub fn outcomes(&self) -> Vec<(&'static str, u64)> {
        let held = self.held();
        let n = |outcome: &Outcome| held.outcomes.get(outcome).copied().unwrap_or(0);
        Outcome::ALL.iter().map(|outcome| (outcome.word(), n(outcome))).collect()
    }

    /// How often memory could not be asked, by why.
    pub fn failures(&self) -> Vec<(&'static str, u64)> {
        self.held().fail_open.iter().map(|(&why, &n)| (why, n)).collect()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning of a question, and a mark if there is more of it.
pub fn shown(question: &str) -> String {
    match question.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &question[..end]),
        None => question.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(cache: &str, question: &str) -> Decision {
        Decision {
            time: String::new(),
            cache: cache.into(),
            tenant: None,
            category: String::new(),
            model: String::new(),
            question: shown(question),
            outcome: "HIT",
            reason: "exact".into(),
            similarity: None,
            threshold: None,
            stored: None,
        }
    }

    #[test]
    fn the_latest_are_shown_and_all_are_counted() {
        let decisions = Decisions::default();
        for i in 0..N + 5 {
            let outcome = if i % 2 == 0 { Outcome::Hit } else { Outcome::Miss };
            decisions.add(outcome, decision("a", &i.to_string()));
        }
        decisions.add(Outcome::Refresh, decision("b", &"é".repeat(SHOWN + 1)));
        let latest = decisions.latest("a");
        assert_eq!((latest.len(), latest[0].question.as_str()), (N - 1, "204"));
        assert_eq!(decisions.latest("b")[0].question.chars().count(), SHOWN + 1);
        let outcomes = decisions.outcomes();
        assert_eq!(outcomes.len(), 6);
        assert_eq!(outcomes[0], ("HIT", 103));
        assert_eq!(outcomes[5], ("REFRESH", 1));
        decisions.fail_open("embedder_down");
        assert_eq!(decisions.failures(), [("embedder_down", 1)]);
    }
}
