//! From a request to a verdict: partition, equal request, nearest entry, threshold, second look.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rayon::prelude::*;

use crate::cache::cells::Want;
use crate::cache::clock::ms;
use crate::cache::entry::{Hot, half};
use crate::cache::identity::PartitionKey;
use crate::cache::lookup::{Answer, Hit, Lookup, Miss, Reason, Tier, Verdict};
use crate::cache::open::SemanticCache;
use crate::cache::partition::Partition;
use crate::cache::policy::{Policies, Policy};
use crate::cache::record::Written;
use crate::cache::row::Query;
use crate::cache::second_look::difference;
use crate::cache::verified::{Decision, Estimate};
use crate::core::mix::stream;
use crate::error::{Error, ErrorKind, Result};

/// Requests of one partition that are compared at once, at most: codes are read once for them.
const TOGETHER: usize = 256;

/// Requests whose answers are read at once, by one thread.
const PER_TASK: usize = 16;

/// Observations from which an entry's estimate decides; before, the threshold does.
pub(super) const OBSERVED: usize = 4;

/// Whether a lookup counts: as one, and as a hit of its entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    Yes,
    No,
}

/// A request and what decides it.
pub(super) struct Asked<'a> {
    pub lookup: &'a Lookup<'a>,
    pub policy: &'a Policy,
    pub key: PartitionKey,
    query: Option<Query>,
    pub threshold: f32,
    pub load: f32,
    pub now_ms: u64,
    ticket: u64,
    /// The entry of an equal hash was looked at, and is of another request.
    not_equal: bool,
}

/// What the partition has.
enum Found {
    Equal(Arc<Hot>),
    Near(Arc<Hot>, f32),
    Nothing(Reason),
}

impl Asked<'_> {
    /// Whether an entry lives and is young enough.
    pub fn passes(&self, hot: &Hot) -> bool {
        self.why_not(hot).is_none()
    }

    fn why_not(&self, hot: &Hot) -> Option<Reason> {
        if hot.expires_ms(self.policy, self.load) <= self.now_ms {
            return Some(Reason::Expired);
        }
        let age = self.now_ms.saturating_sub(hot.created_ms);
        self.lookup.max_age.is_some_and(|most| age > ms(most)).then_some(Reason::TooOld)
    }

    /// The nearest entry, as far as a verdict depends on which it is.
    fn want(&self) -> Option<Want<'_>> {
        let need = self.least();
        self.query.as_ref().map(|query| Want::new(query, need))
    }

    /// The least cosine of an entry that is looked at twice.
    fn least(&self) -> f32 {
        self.threshold - self.policy.margin
    }

    /// Why no similar entry is looked for, if that is so.
    fn why_not_semantic(&self) -> Option<Reason> {
        if !self.policy.mode.is_semantic() {
            return Some(Reason::NotEqual);
        }
        if self.query.is_none() {
            return Some(Reason::NoVector);
        }
        let n_words = self.lookup.text.split_whitespace().take(self.policy.min_words).count();
        (n_words < self.policy.min_words).then_some(Reason::TooShort)
    }

    fn miss(&self, reason: Reason, near: Option<(&Hot, f32)>) -> Miss {
        let nearest = near.map(|(hot, similarity)| (hot.id(), similarity));
        let (threshold, ticket) = (self.threshold, self.ticket);
        Miss { reason, nearest, threshold, explore: None, grey: None, ticket }
    }
}

impl SemanticCache {
    /// The verdict on a request.
    ///
    /// # Errors
    /// `identity_name`, `vector_dim`, `vector_not_finite`, `vector_zero_norm`, `threshold_range`; those of reading the record.
    pub fn lookup(&self, lookup: &Lookup<'_>) -> Result<Verdict> {
        self.lookup_counted(lookup, Counts::Yes)
    }

    pub(super) fn lookup_counted(&self, lookup: &Lookup<'_>, counts: Counts) -> Result<Verdict> {
        let policies = self.policies();
        match self.asked(lookup, &policies)? {
            Ok(asked) => {
                let verdicts = self.settle(&[&[&asked]], counts)?;
                Ok(verdicts.into_iter().next().expect("one request has one verdict"))
            }
            Err(miss) => Ok(self.without_looking(lookup, miss, &policies, counts)),
        }
    }

    /// The verdicts on requests, in their order: the same as one by one, but for which rows of a large partition are seen where two
    /// cells are equally near. Requests of one partition are compared together, several at once.
    ///
    /// # Errors
    /// Those of [`Self::lookup`], of any request: then none has a verdict.
    pub fn lookup_batch(&self, lookups: &[Lookup<'_>]) -> Result<Vec<Verdict>> {
        let policies = self.policies();
        let mut verdicts: Vec<Option<Verdict>> = vec![None; lookups.len()];
        let mut asked = Vec::with_capacity(lookups.len());
        for (at, lookup) in lookups.iter().enumerate() {
            match self.asked(lookup, &policies)? {
                Ok(one) => asked.push((at, one)),
                Err(miss) => {
                    let verdict = self.without_looking(lookup, miss, &policies, Counts::Yes);
                    verdicts[at] = Some(verdict);
                }
            }
        }
        let mut groups: HashMap<&PartitionKey, Vec<usize>> = HashMap::new();
        for (number, (_, asked)) in asked.iter().enumerate() {
            groups.entry(&asked.key).or_default().push(number);
        }
        let n_threads = self.pool.current_num_threads();
        let share = |group: &[usize]| group.len().div_ceil(n_threads).clamp(PER_TASK, TOGETHER);
        let parts: Vec<&[usize]> =
            groups.values().flat_map(|group| group.chunks(share(group))).collect();
        let task = |parts: &[&[usize]]| {
            let of = |part: &[usize]| part.iter().map(|&number| &asked[number].1).collect();
            let requests: Vec<Vec<&Asked<'_>>> = parts.iter().map(|part| of(part)).collect();
            let requests: Vec<&[&Asked<'_>]> = requests.iter().map(Vec::as_slice).collect();
            let settled = self.settle(&requests, Counts::Yes)?;
            let ats = parts.iter().flat_map(|part| part.iter()).map(|&number| asked[number].0);
            Ok(ats.zip(settled).collect::<Vec<_>>())
        };
        let tasks = tasks(&parts);
        let settled: Vec<Vec<(usize, Verdict)>> = match &tasks[..] {
            [one] => vec![task(one)?],
            many => self
                .pool
                .install(|| many.par_iter().map(|parts| task(parts)).collect::<Result<_>>())?,
        };
        settled.into_iter().flatten().for_each(|(at, verdict)| verdicts[at] = Some(verdict));
        Ok(verdicts.into_iter().map(|one| one.expect("each request has a verdict")).collect())
    }

    /// A request with what decides it, or the miss that it is without looking.
    pub(super) fn asked<'a>(
        &self,
        lookup: &'a Lookup<'a>,
        policies: &'a Policies,
    ) -> Result<Result<Asked<'a>, Miss>> {
        lookup.identity.check()?;
        let (policy, load) = (policies.of(&lookup.identity.category), self.load.now());
        let threshold = threshold(lookup, policy, load)?;
        let query =
            lookup.vector.map(|vector| Query::new(vector, self.settings.dim)).transpose()?;
        let ticket = self.n_invalidations.load(Ordering::Acquire);
        let key = PartitionKey::of(lookup.identity, policy.scope);
        let refused = if policy.mode.is_off() { Some(Reason::CategoryOff) } else { None };
        Ok(match (refused, key) {
            (Some(reason), _) => {
                Err(Miss { reason, nearest: None, threshold, explore: None, grey: None, ticket })
            }
            (None, None) => {
                let reason = Reason::NoUser;
                Err(Miss { reason, nearest: None, threshold, explore: None, grey: None, ticket })
            }
            (None, Some(key)) => {
                let now_ms = self.time.now_ms();
                Ok(Asked {
                    lookup,
                    policy,
                    key,
                    query,
                    threshold,
                    load,
                    now_ms,
                    ticket,
                    not_equal: false,
                })
            }
        })
    }

    fn without_looking(
        &self,
        lookup: &Lookup<'_>,
        miss: Miss,
        policies: &Policies,
        counts: Counts,
    ) -> Verdict {
        let verdict = Verdict::Miss(miss);
        if counts == Counts::Yes {
            let counters = self.counters.of(policies.counted_as(&lookup.identity.category));
            counters.verdict(&verdict, Duration::ZERO, Duration::ZERO);
            counters.embedded(lookup.embed_took);
        }
        verdict
    }

    /// The verdicts on requests, those of each slice of one partition; answers are read together.
    fn settle(&self, parts: &[&[&Asked<'_>]], counts: Counts) -> Result<Vec<Verdict>> {
        let began = self.time.steady();
        let found: Vec<Found> = parts.iter().flat_map(|part| self.find(part)).collect();
        let asked: Vec<&Asked<'_>> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let wanted: Vec<Option<&Arc<Hot>>> =
            asked.iter().zip(&found).map(|(asked, found)| wanted(asked, found)).collect();
        let before = self.time.steady();
        let wholes = self.wholes(&wanted)?;
        let fetch = self.time.steady() - before;
        let mut verdicts = Vec::with_capacity(asked.len());
        for ((asked, found), whole) in asked.iter().zip(&found).zip(wholes) {
            verdicts.push(self.decide(asked, found, whole)?);
        }
        if counts == Counts::Yes {
            let n = u32::try_from(asked.len()).unwrap_or(u32::MAX);
            let n_read = wanted.iter().flatten().count().max(1) as u32;
            let took = (self.time.steady() - began) / n;
            let policies = self.policies();
            for ((asked, found), verdict) in asked.iter().zip(&found).zip(&verdicts) {
                let category = policies.counted_as(&asked.lookup.identity.category);
                self.count(category, asked, found, verdict, (took, fetch / n_read));
            }
        }
        Ok(verdicts)
    }

    fn count(
        &self,
        category: &str,
        asked: &Asked<'_>,
        found: &Found,
        verdict: &Verdict,
        (took, fetch): (Duration, Duration),
    ) {
        let counters = self.counters.of(category);
        counters.verdict(verdict, took, fetch);
        counters.embedded(asked.lookup.embed_took);
        if let (Verdict::Hit(hit), Found::Equal(hot) | Found::Near(hot, _)) = (verdict, found)
            && hot.id() == hit.entry
        {
            hot.hit(asked.now_ms);
        }
    }

    /// What the partition of requests has for each of them.
    fn find(&self, part: &[&Asked<'_>]) -> Vec<Found> {
        let Some(first) = part.first() else { return Vec::new() };
        self.sweep(&first.key, first.now_ms);
        let shard = self.shards.read(&first.key);
        let Some(partition) = shard.partition(&first.key) else {
            return part.iter().map(|_| Found::Nothing(Reason::EmptyPartition)).collect();
        };
        let mut found: Vec<Option<Found>> =
            part.iter().map(|asked| without_rows(asked, partition)).collect();
        let open: Vec<usize> = (0..part.len()).filter(|&at| found[at].is_none()).collect();
        let wants: Vec<Want<'_>> = open.iter().filter_map(|&at| part[at].want()).collect();
        let loops = self.shards.loops();
        let nearest = match &wants[..] {
            [] => Vec::new(),
            [want] => {
                let passes = |hot: &Hot| part[open[0]].passes(hot);
                vec![partition.cells.nearest(loops, want, &passes)]
            }
            wants => {
                let passes = |q: usize, hot: &Hot| part[open[q]].passes(hot);
                partition.cells.nearest_of(loops, wants, &passes)
            }
        };
        for (&at, near) in open.iter().zip(nearest) {
            found[at] = Some(self.found_near(part[at], partition, near));
        }
        found.into_iter().map(|one| one.expect("each request has a query or needs none")).collect()
    }

    /// What to make of the nearest entry that passes; if there is none near enough, whether one was that does not.
    fn found_near(
        &self,
        asked: &Asked<'_>,
        partition: &Partition,
        near: Option<(Arc<Hot>, f32)>,
    ) -> Found {
        let is_near = near.as_ref().is_some_and(|near| near.1 >= asked.threshold);
        if !is_near
            && (near.is_none() || asked.lookup.max_age.is_some())
            && let Some(want) = asked.want()
            && let Some((hot, cosine)) =
                partition.cells.nearest(self.shards.loops(), &want, &|_| true)
            && cosine >= asked.threshold
            && let Some(why) = asked.why_not(&hot)
        {
            return Found::Nothing(why);
        }
        match near {
            Some((hot, cosine)) => Found::Near(hot, cosine),
            None if partition.n_entries() == 0 => Found::Nothing(Reason::EmptyPartition),
            None => Found::Nothing(Reason::BelowThreshold),
        }
    }

    /// Removes what ended where a request looks.
    fn sweep(&self, key: &PartitionKey, now_ms: u64) {
        let policies = self.policies();
        let end = |hot: &Hot| hot.expires_ms(policies.of(hot.key.category()), 1.0);
        let ended = self.shards.sweep(key, now_ms, &end);
        if !ended.is_empty() {
            self.ended.lock().unwrap_or_else(PoisonError::into_inner).extend(ended);
        }
    }

    /// Entries, whole; `None` where none is wanted, or where one went meanwhile.
    pub(super) fn wholes(&self, wanted: &[Option<&Arc<Hot>>]) -> Result<Vec<Option<Arc<Written>>>> {
        let mut wholes: Vec<Option<Arc<Written>>> =
            wanted.iter().map(|hot| hot.and_then(|hot| hot.waiting())).collect();
        let at_rest: Vec<usize> =
            (0..wanted.len()).filter(|&at| wholes[at].is_none() && wanted[at].is_some()).collect();
        if at_rest.is_empty() {
            return Ok(wholes);
        }
        let ids: Vec<_> = at_rest.iter().filter_map(|&at| wanted[at]).map(|hot| hot.id()).collect();
        for (at, whole) in at_rest.into_iter().zip(self.record.read(&ids)?) {
            wholes[at] = whole.map(Arc::new);
        }
        Ok(wholes)
    }

    fn decide(
        &self,
        asked: &Asked<'_>,
        found: &Found,
        whole: Option<Arc<Written>>,
    ) -> Result<Verdict> {
        let (hot, cosine) = match found {
            Found::Nothing(reason) => return Ok(Verdict::Miss(asked.miss(*reason, None))),
            Found::Near(hot, cosine) if *cosine < asked.least() => {
                let miss = asked.miss(Reason::BelowThreshold, Some((hot, *cosine)));
                return Ok(Verdict::Miss(miss));
            }
            Found::Near(hot, cosine) => (hot, *cosine),
            Found::Equal(hot) => (hot, 1.0),
        };
        let Some(whole) = whole.filter(|_| !hot.is_gone()) else {
            return self.decide_anew(asked, hot, asked.not_equal);
        };
        let own = PartitionKey::of(&whole.head.identity()?, asked.policy.scope);
        if own.as_ref() != Some(&asked.key) {
            return Ok(Verdict::Miss(asked.miss(Reason::IdentityMismatch, None)));
        }
        if matches!(found, Found::Equal(_)) {
            if whole.head.exact()? != asked.lookup.exact {
                return self.decide_anew(asked, hot, true);
            }
            return Ok(hit(asked, hot, cosine, Tier::Exact, &whole));
        }
        Ok(self.judge(asked, hot, cosine, &whole))
    }

    /// Looks again, after an entry went or turned out to be of another request.
    fn decide_anew(&self, asked: &Asked<'_>, hot: &Hot, not_equal: bool) -> Result<Verdict> {
        if !not_equal && !hot.is_gone() {
            let message = format!("entry {} is in memory and not in the record", hot.id());
            return Err(Error::new(ErrorKind::Corrupt, "record_corrupt", message));
        }
        let (query, key) = (asked.query.clone(), asked.key.clone());
        let again = Asked { not_equal, query, key, ..*asked };
        let mut verdicts = self.settle(&[&[&again]], Counts::No)?;
        Ok(verdicts.remove(0))
    }

    /// The verdict on a similar entry that is near enough to be looked at twice.
    fn judge(&self, asked: &Asked<'_>, hot: &Hot, cosine: f32, whole: &Written) -> Verdict {
        let mut miss = asked.miss(Reason::BelowThreshold, Some((hot, cosine)));
        if asked.policy.guard && difference(&whole.text, asked.lookup.text).is_some() {
            miss.reason = Reason::GuardRefused;
            return Verdict::Miss(miss);
        }
        let decision = asked.policy.verified.and_then(|delta| {
            let decide = |estimate: &Estimate| {
                let is_hot = estimate.len() >= OBSERVED;
                is_hot.then(|| estimate.decide(cosine, delta, self.draw()))
            };
            hot.estimate(decide).flatten()
        });
        let explore = asked.policy.verified.map(|_| hot.id());
        let may_go_below = asked.lookup.threshold.is_none_or(|least| cosine >= least);
        match decision {
            Some(Decision::Serve) if cosine >= asked.threshold || may_go_below => {
                hit(asked, hot, cosine, Tier::Verified, whole)
            }
            Some(Decision::Explore) if cosine >= asked.threshold => {
                Verdict::Miss(Miss { reason: Reason::Exploring, explore, ..miss })
            }
            None if cosine >= asked.threshold => hit(asked, hot, cosine, Tier::Semantic, whole),
            _ => Verdict::Miss(Miss { explore, grey: Some(hot.id()), ..miss }),
        }
    }

    /// The next number in `[0, 1)` that decides whether to explore.
    fn draw(&self) -> f64 {
        let n = self.n_draws.fetch_add(1, Ordering::Relaxed);
        (stream(self.seed, n) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Tells whether the answer of an entry would have been right for a request of that similarity: what the bound of a category learns
    /// from. Says whether the entry is still there.
    ///
    /// # Errors
    /// `threshold_range` for a similarity outside of `[-1, 1]`.
    pub fn observe(
        &self,
        entry: crate::cache::EntryId,
        similarity: f32,
        was_right: bool,
    ) -> Result<bool> {
        check_cosine("similarity", similarity)?;
        let Some(hot) = self.shards.get(entry) else { return Ok(false) };
        hot.observe(similarity, was_right);
        self.counted(&hot).observed(was_right);
        Ok(true)
    }
}

/// Tasks of about as many requests each.
fn tasks<'p>(parts: &'p [&'p [usize]]) -> Vec<&'p [&'p [usize]]> {
    let (mut tasks, mut first, mut n) = (Vec::new(), 0, 0);
    for (at, part) in parts.iter().enumerate() {
        n += part.len();
        if n >= PER_TASK {
            tasks.push(&parts[first..=at]);
            (first, n) = (at + 1, 0);
        }
    }
    if first < parts.len() {
        tasks.push(&parts[first..]);
    }
    tasks
}

/// The least cosine that will do.
fn threshold(lookup: &Lookup<'_>, policy: &Policy, load: f32) -> Result<f32> {
    let of_policy = policy.threshold_at(load);
    let Some(asked) = lookup.threshold else { return Ok(of_policy) };
    check_cosine("threshold", asked)?;
    Ok(if lookup.trusted { asked } else { asked.max(of_policy) })
}

fn check_cosine(what: &str, cosine: f32) -> Result<()> {
    if (-1.0..=1.0).contains(&cosine) {
        return Ok(());
    }
    let message = format!("a {what} of {cosine}, expected a cosine of -1 to 1");
    Err(Error::new(ErrorKind::BadInput, "threshold_range", message))
}

/// What can be said of a request without comparing rows.
fn without_rows(asked: &Asked<'_>, partition: &Partition) -> Option<Found> {
    let may_equal = asked.policy.mode.is_exact() && !asked.not_equal;
    let equal = may_equal.then(|| partition.equal(half(&asked.lookup.exact))).flatten();
    match equal.map(|hot| (hot, asked.why_not(hot))) {
        Some((hot, None)) => Some(Found::Equal(Arc::clone(hot))),
        Some((_, Some(why))) => asked.why_not_semantic().map(|_| Found::Nothing(why)),
        None => asked.why_not_semantic().map(Found::Nothing),
    }
}

/// The entry that must be read for a verdict.
fn wanted<'f>(asked: &Asked<'_>, found: &'f Found) -> Option<&'f Arc<Hot>> {
    match found {
        Found::Equal(hot) => Some(hot),
        Found::Near(hot, cosine) => (*cosine >= asked.least()).then_some(hot),
        Found::Nothing(_) => None,
    }
}

fn hit(asked: &Asked<'_>, hot: &Hot, similarity: f32, tier: Tier, whole: &Written) -> Verdict {
    let reason = match tier {
        Tier::Exact => Reason::Exact,
        Tier::Semantic => Reason::Semantic,
        Tier::Verified => Reason::Verified,
    };
    Verdict::Hit(Hit {
        entry: hot.id(),
        tier,
        similarity,
        threshold: asked.threshold,
        age: Duration::from_millis(asked.now_ms.saturating_sub(hot.created_ms)),
        answer: answer(whole),
        reason,
    })
}

/// What was kept of an entry.
pub(super) fn answer(whole: &Written) -> Answer {
    Answer {
        text: whole.text.clone(),
        bytes: whole.answer.clone(),
        writer: whole.head.writer.clone(),
        tags: whole.head.tags.clone(),
        attributes: whole.head.attributes.clone(),
        saved_ms: whole.head.saved_ms,
        saved_tokens: whole.head.saved_tokens,
    }
}
