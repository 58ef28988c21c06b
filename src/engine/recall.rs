//! Recall of live queries: some of those that near ways answered are asked again exactly, while nobody waits, and both answers are
//! compared.
//!
//! In: queries as they were answered. Out: how many of the nearest points they had found. A query of an earlier version is left out:
//! what it found may have been right then.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::core::mix::stream;
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::engine::batch::Asked;
use crate::engine::collection::Collection;
use crate::engine::passing::Passing;
use crate::engine::space::{SpaceFound, Wanted, Who};
use crate::engine::state::State;
use crate::error::{Error, ErrorKind, Result};

/// Queries that wait to be asked again, at most; more are left out.
const WAITING: usize = 64;

/// Which queries are taken.
const SEED: u64 = 0x6c69_7665;

/// What came of the queries that were asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecallFacts {
    /// Queries that were asked again.
    pub n_checked: u64,
    /// The nearest points of these, as exact ways find them.
    pub n_wanted: u64,
    /// Those that had been found, or others as near.
    pub n_found: u64,
    /// Queries that were to be asked again and were not: points had changed by then, too many waited, or asking them failed.
    pub n_left_out: u64,
}

impl RecallFacts {
    /// The share of the nearest points that were found; none where nothing was checked.
    pub fn recall(&self) -> Option<f64> {
        (self.n_wanted > 0).then(|| self.n_found as f64 / self.n_wanted as f64)
    }
}

impl AddAssign for RecallFacts {
    fn add_assign(&mut self, other: Self) {
        self.n_checked += other.n_checked;
        self.n_wanted += other.n_wanted;
        self.n_found += other.n_found;
        self.n_left_out += other.n_left_out;
    }
}

/// Queries that wait, and what came of others.
#[derive(Default)]
pub(super) struct LiveRecall {
    /// Bits of the share of queries that are taken.
    share: AtomicU64,
    n_offered: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    waiting: VecDeque<Answered>,
    facts: RecallFacts,
}

/// A query, and what it found.
pub(super) struct Answered {
    /// Of the points.
    pub version: u64,
    /// Number of the vector.
    pub vector: usize,
    /// One row.
    pub query: Rows,
    /// Who could be found; everyone without.
    pub set: Option<Arc<Passing>>,
    /// Neighbors that were asked for.
    pub k: usize,
    /// Nearest first.
    pub neighbors: Vec<Neighbor>,
}

impl LiveRecall {
    /// Takes the query of an answer that is not exact, if it is one of those that are taken.
    pub fn offer(&self, found: &SpaceFound, answered: impl FnOnce() -> Answered) {
        let share = f64::from_bits(self.share.load(Ordering::Relaxed));
        if share <= 0.0 || found.way.is_exact() {
            return;
        }
        let n = self.n_offered.fetch_add(1, Ordering::Relaxed);
        if stream(SEED, n) as f64 >= share * 2f64.powi(64) {
            return;
        }
        let mut held = self.held.lock().expect("no holder panics");
        if held.waiting.len() == WAITING {
            held.facts.n_left_out += 1;
        } else {
            held.waiting.push_back(answered());
        }
    }

    /// Leaves all out that wait. For whoever moves points to other places.
    pub fn forget(&self) {
        let mut held = self.held.lock().expect("no holder panics");
        held.facts.n_left_out += held.waiting.len() as u64;
        held.waiting.clear();
    }

    fn next(&self) -> Option<Answered> {
        self.held.lock().expect("no holder panics").waiting.pop_front()
    }

    fn is_waiting(&self) -> bool {
        !self.held.lock().expect("no holder panics").waiting.is_empty()
    }

    fn note(&self, exact: Option<&[Neighbor]>, found: &[Neighbor]) {
        let mut held = self.held.lock().expect("no holder panics");
        match exact {
            Some(exact) => held.facts.add(exact, found),
            None => held.facts.n_left_out += 1,
        }
    }
}

impl Collection {
    /// From now on, this share of the queries that near ways answer waits for [`Self::check_recall`]; 0, as it is at first, for
    /// none.
    ///
    /// # Errors
    /// `recall_share` outside of 0 to 1.
    pub fn sample_recall(&self, share: f64) -> Result<()> {
        if !(0.0..=1.0).contains(&share) {
            let message = format!("{share}, expected 0 to 1");
            return Err(Error::new(ErrorKind::BadInput, "recall_share", message));
        }
        self.recall.share.store(share.to_bits(), Ordering::Relaxed);
        Ok(())
    }

    /// Asks queries that wait again, exactly, until none is left or `most` is over; says whether some are left. Cost: that of an exact
    /// search for each.
    ///
    /// # Errors
    /// Those of searching.
    pub fn check_recall(&self, most: Duration) -> Result<bool> {
        let began = Instant::now();
        loop {
            // Taken from the queue while nobody changes what places mean.
            let is_one = self.read(|state| {
                let Some(answered) = self.recall.next() else { return Ok(false) };
                let exact = answered.exactly(state, self);
                let known = exact.as_ref().ok().and_then(Option::as_deref);
                self.recall.note(known, &answered.neighbors);
                exact.map(|_| true)
            })?;
            if !is_one || began.elapsed() >= most {
                return Ok(is_one && self.recall.is_waiting());
            }
        }
    }

    /// What came of the queries that were asked again since the collection was opened.
    pub fn recall_facts(&self) -> RecallFacts {
        self.recall.held.lock().expect("no holder panics").facts
    }
}

impl Answered {
    /// What exact ways find; none at another version.
    fn exactly(&self, state: &State, collection: &Collection) -> Result<Option<Vec<Neighbor>>> {
        if state.version != self.version {
            return Ok(None);
        }
        let who = match &self.set {
            None => Who::Everyone(state.places.live()),
            Some(set) => Who::Some(set),
        };
        let asked = [Asked { queries: Cow::Borrowed(&self.query), who }];
        let wanted = Wanted { k: self.k, exact: true, ef: None, recall: 1.0 };
        let space = state.spaces[self.vector].must_be_dense()?;
        let answered = space.search(&collection.backend, &asked, wanted)?;
        Ok(answered.into_iter().flat_map(|answered| answered.found).next().map(|one| one.neighbors))
    }
}

impl RecallFacts {
    /// Adds one query: what exact ways find, and what was found.
    fn add(&mut self, exact: &[Neighbor], found: &[Neighbor]) {
        let last = exact.last().map_or(f32::NEG_INFINITY, |last| last.distance);
        let is_near = |near: &&Neighbor| {
            near.distance <= last || exact.iter().any(|own| own.slot == near.slot)
        };
        self.n_checked += 1;
        self.n_wanted += exact.len() as u64;
        self.n_found += found.iter().filter(is_near).count().min(exact.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_are_as_near_count_and_no_more_than_there_are() {
        let near = |slot, distance| Neighbor { slot, distance };
        let exact = [near(1, 0.5), near(2, 1.0), near(3, 1.0)];
        let mut facts = RecallFacts::default();
        assert_eq!(facts.recall(), None);
        facts.add(&exact, &[near(1, 0.5), near(9, 1.0), near(8, 1.5)]);
        assert_eq!((facts.n_checked, facts.n_wanted, facts.n_found), (1, 3, 2));
        // The same point, a rounding farther.
        facts.add(&exact, &[near(3, 1.000_001), near(2, 1.0), near(1, 0.5), near(9, 1.0)]);
        assert_eq!((facts.n_checked, facts.n_wanted, facts.n_found), (2, 6, 5));
        assert_eq!(facts.recall(), Some(5.0 / 6.0));
    }
}
