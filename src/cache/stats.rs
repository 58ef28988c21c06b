//! What was asked, answered, kept and saved, by category, and from which share of hits on that pays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::cache::entry::Refusal;
use crate::cache::lookup::{Reason, Tier, Verdict};

/// What was counted of a category since the cache was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CategoryStats {
    /// Lookups.
    pub n_lookups: u64,
    /// Hits of equal requests.
    pub n_exact: u64,
    /// Hits of similar requests by the threshold.
    pub n_semantic: u64,
    /// Hits of similar requests by the bound.
    pub n_verified: u64,
    /// Lookups by the reason of their verdict.
    pub by_reason: BTreeMap<&'static str, u64>,
    /// Entries that were written.
    pub n_inserted: u64,
    /// Answers that joined an entry which says the same.
    pub n_joined: u64,
    /// Answers that were not kept, by the reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Entries that gave way to others.
    pub n_evicted: u64,
    /// Entries whose life ended.
    pub n_expired: u64,
    /// Entries that were invalidated.
    pub n_invalidated: u64,
    /// Answers of hits that were compared with the model's.
    pub n_observed: u64,
    /// Of those, the wrong ones.
    pub n_observed_wrong: u64,
    /// Milliseconds that hits saved, as their entries say.
    pub saved_ms: u64,
    /// Tokens that hits saved, as their entries say.
    pub saved_tokens: u64,
    /// From which share of hits on looking up takes less time than it saves; `None` before anything was measured. With `c` the time of
    /// a lookup and its embedding, `f` that of reading an answer and `t` what a hit saves: `c / (t - f)`.
    pub break_even: Option<f64>,
}

impl CategoryStats {
    /// All hits.
    pub fn n_hits(&self) -> u64 {
        self.n_exact + self.n_semantic + self.n_verified
    }

    /// Share of lookups that hit; 0 before the first.
    pub fn hit_rate(&self) -> f64 {
        self.n_hits() as f64 / self.n_lookups.max(1) as f64
    }
}

/// What a cache holds and did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Entries.
    pub n_entries: u64,
    /// Partitions with an entry.
    pub n_partitions: u64,
    /// Bytes in memory that find entries: rows and what a verdict needs.
    pub index_bytes: u64,
    /// The load that was reported, smoothed.
    pub load: f32,
    /// Of all categories.
    pub all: CategoryStats,
    /// By category; those without a policy of their own are counted as `default`.
    pub categories: BTreeMap<String, CategoryStats>,
}

/// Sums that threads add to.
#[derive(Debug, Default)]
pub(super) struct Counters {
    reasons: [AtomicU64; Reason::ALL.len()],
    refusals: [AtomicU64; Refusal::ALL.len()],
    n_inserted: AtomicU64,
    n_joined: AtomicU64,
    n_evicted: AtomicU64,
    n_expired: AtomicU64,
    n_invalidated: AtomicU64,
    n_observed: AtomicU64,
    n_observed_wrong: AtomicU64,
    saved_ms: AtomicU64,
    saved_tokens: AtomicU64,
    tiers: [AtomicU64; 3],
    /// Nanoseconds of lookups, of embedding before them, and of reading answers.
    lookup_ns: AtomicU64,
    embed_ns: AtomicU64,
    fetch_ns: AtomicU64,
    /// What entries that were written would save.
    worth_ms: AtomicU64,
}

fn add(sum: &AtomicU64, n: u64) {
    sum.fetch_add(n, Ordering::Relaxed);
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Counters {
    /// Counts a verdict, and what reaching it took.
    pub fn verdict(&self, verdict: &Verdict, took: Duration, fetch: Duration) {
        let reason = verdict.reason();
        add(&self.reasons[reason as usize], 1);
        add(&self.lookup_ns, ns(took.saturating_sub(fetch)));
        if let Verdict::Hit(hit) = verdict {
            add(&self.tiers[hit.tier as usize], 1);
            add(&self.fetch_ns, ns(fetch));
            add(&self.saved_ms, hit.answer.saved_ms.into());
            add(&self.saved_tokens, hit.answer.saved_tokens.into());
        }
    }

    pub fn embedded(&self, took: Duration) {
        add(&self.embed_ns, ns(took));
    }

    pub fn inserted(&self, saved_ms: u32) {
        add(&self.n_inserted, 1);
        add(&self.worth_ms, saved_ms.into());
    }

    pub fn evicted(&self) {
        add(&self.n_evicted, 1);
    }

    pub fn expired(&self) {
        add(&self.n_expired, 1);
    }

    pub fn invalidated(&self) {
        add(&self.n_invalidated, 1);
    }

    pub fn joined(&self) {
        add(&self.n_joined, 1);
    }

    pub fn refused(&self, refusal: Refusal) {
        add(&self.refusals[refusal as usize], 1);
    }

    pub fn observed(&self, was_right: bool) {
        add(&self.n_observed, 1);
        add(&self.n_observed_wrong, u64::from(!was_right));
    }

    fn read(&self) -> Sums {
        let get = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        Sums {
            reasons: self.reasons.each_ref().map(get),
            refusals: self.refusals.each_ref().map(get),
            tiers: self.tiers.each_ref().map(get),
            others: [
                &self.n_inserted,
                &self.n_joined,
                &self.n_evicted,
                &self.n_expired,
                &self.n_invalidated,
                &self.n_observed,
                &self.n_observed_wrong,
                &self.saved_ms,
                &self.saved_tokens,
                &self.lookup_ns,
                &self.embed_ns,
                &self.fetch_ns,
                &self.worth_ms,
            ]
            .map(get),
        }
    }
}

/// Sums as they were at a moment.
#[derive(Clone, Default)]
struct Sums {
    reasons: [u64; Reason::ALL.len()],
    refusals: [u64; Refusal::ALL.len()],
    tiers: [u64; 3],
    others: [u64; 13],
}

impl Sums {
    fn plus(&mut self, other: &Self) {
        fn plus(to: &mut [u64], from: &[u64]) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        plus(&mut self.reasons, &other.reasons);
        plus(&mut self.refusals, &other.refusals);
        plus(&mut self.tiers, &other.tiers);
        plus(&mut self.others, &other.others);
    }

    fn stats(&self) -> CategoryStats {
        let [n_inserted, n_joined, n_evicted, n_expired, n_invalidated, rest @ ..] = self.others;
        let [n_observed, n_observed_wrong, saved_ms, saved_tokens, times @ ..] = rest;
        let [n_exact, n_semantic, n_verified] = self.tiers;
        let words = Reason::ALL.iter().map(|reason| reason.word()).zip(self.reasons);
        let refused = Refusal::ALL.iter().map(|refusal| refusal.word()).zip(self.refusals);
        let n_lookups = self.reasons.iter().sum();
        CategoryStats {
            n_lookups,
            n_exact,
            n_semantic,
            n_verified,
            by_reason: words.filter(|&(_, n)| n > 0).collect(),
            n_inserted,
            n_joined,
            refused: refused.filter(|&(_, n)| n > 0).collect(),
            n_evicted,
            n_expired,
            n_invalidated,
            n_observed,
            n_observed_wrong,
            saved_ms,
            saved_tokens,
            break_even: break_even(n_lookups, self.tiers.iter().sum(), n_inserted, times),
        }
    }
}

/// See [`CategoryStats::break_even`]; `times` are nanoseconds of lookups, embedding and reading, and milliseconds of worth.
fn break_even(n_lookups: u64, n_hits: u64, n_inserted: u64, times: [u64; 4]) -> Option<f64> {
    let [lookup_ns, embed_ns, fetch_ns, worth_ms] = times.map(|time| time as f64);
    if n_lookups == 0 || n_inserted == 0 {
        return None;
    }
    let each = (lookup_ns + embed_ns) / n_lookups as f64 / 1e6;
    let saved = worth_ms / n_inserted as f64 - fetch_ns / n_hits.max(1) as f64 / 1e6;
    (saved > 0.0).then_some(each / saved)
}

/// The counters of all categories.
#[derive(Debug, Default)]
pub(super) struct AllCounters(RwLock<BTreeMap<String, Arc<Counters>>>);

impl AllCounters {
    /// Those of a category.
    pub fn of(&self, category: &str) -> Arc<Counters> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = all.get(category) {
            return Arc::clone(counters);
        }
        drop(all);
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(category.to_owned()).or_default())
    }

    /// Those of every category and their sum.
    pub fn read(&self) -> (CategoryStats, BTreeMap<String, CategoryStats>) {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Sums::default();
        let mut categories = BTreeMap::new();
        for (category, counters) in all.iter() {
            let own = counters.read();
            sum.plus(&own);
            categories.insert(category.clone(), own.stats());
        }
        (sum.stats(), categories)
    }
}

/// Tiers are counted by their place.
const _: () = assert!(Tier::Exact as usize == 0 && Tier::Verified as usize == 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_up_pays_from_the_share_at_which_it_costs_what_it_saves() {
        // 7 ms a lookup with its embedding, 5 ms to read an answer, 180 ms saved: 7 / (180 - 5).
        let times = [200_000_000, 500_000_000, 50_000_000, 1_800];
        assert_eq!(break_even(100, 10, 10, times), Some(0.04));
        assert_eq!(break_even(100, 10, 10, [0, 0, 50_000_000, 0]), None);
        assert_eq!(break_even(0, 0, 0, [0; 4]), None);
    }
}
