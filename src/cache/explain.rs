//! Why a request gets the verdict that it gets.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::cells::{Found, Want};
use crate::cache::decide::{Counts, OBSERVED};
use crate::cache::entry::Hot;
use crate::cache::identity::EntryId;
use crate::cache::lookup::{Lookup, Verdict};
use crate::cache::open::SemanticCache;
use crate::cache::policy::Policy;
use crate::cache::record::Written;
use crate::cache::row::Query;
use crate::cache::second_look::difference;
use crate::cache::verified::Estimate;
use crate::error::Result;

/// Near entries that are shown.
const SHOWN: usize = 5;

/// Why a request gets the verdict that it gets.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The verdict, which was not counted.
    pub verdict: Verdict,
    /// What selects the partition, in words; `None` if there is none, as the user is not known.
    pub partition: Option<String>,
    /// Entries in it.
    pub n_entries: u64,
    /// The policy of the category.
    pub policy: Policy,
    /// The load, smoothed.
    pub load: f32,
    /// The least cosine that would do.
    pub threshold: f32,
    /// The nearest entries, nearest first, those that do not pass included.
    pub nearest: Vec<Candidate>,
}

/// An entry near a request.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The entry.
    pub entry: EntryId,
    /// Cosine of the two vectors.
    pub similarity: f32,
    /// The text that was asked then.
    pub text: String,
    /// Who wrote it.
    pub writer: Option<String>,
    /// How old it is.
    pub age: Duration,
    /// What is left of its life; nothing once it ended.
    pub left: Duration,
    /// Hits.
    pub n_hits: u32,
    /// How often its answer was compared with the model's.
    pub n_observed: usize,
    /// The share of such requests for which the model is asked to learn more, where the category has a bound and enough was observed.
    pub explored: Option<f64>,
    /// What the guard finds that differs between the two texts, in words.
    pub differs: Option<String>,
}

impl SemanticCache {
    /// Why a request gets the verdict that it gets. Nothing is counted.
    ///
    /// # Errors
    /// Those of [`Self::lookup`].
    pub fn explain(&self, lookup: &Lookup<'_>) -> Result<Explanation> {
        let verdict = self.lookup_counted(lookup, Counts::No)?;
        let policies = self.policies();
        let policy = policies.of(&lookup.identity.category).clone();
        let asked = match self.asked(lookup, &policies)? {
            Ok(asked) => asked,
            Err(miss) => {
                return Ok(Explanation {
                    verdict,
                    partition: None,
                    n_entries: 0,
                    policy,
                    load: self.load.now(),
                    threshold: miss.threshold,
                    nearest: Vec::new(),
                });
            }
        };
        let (n_entries, near) = self.near(lookup, &asked.key)?;
        let hots: Vec<Option<&Arc<Hot>>> = near.iter().map(|(hot, _)| Some(hot)).collect();
        let wholes = self.wholes(&hots)?;
        let candidate = |((hot, similarity), whole): (&Found, Option<Arc<Written>>)| {
            let whole = whole?;
            let ms = |ms: u64| Duration::from_millis(ms);
            Some(Candidate {
                entry: hot.id(),
                similarity: *similarity,
                differs: difference(&whole.text, lookup.text),
                text: whole.text.clone(),
                writer: whole.head.writer.clone(),
                age: ms(asked.now_ms.saturating_sub(hot.created_ms)),
                left: ms(hot.expires_ms(asked.policy, asked.load).saturating_sub(asked.now_ms)),
                n_hits: hot.n_hits(),
                n_observed: hot.estimate(Estimate::len).unwrap_or(0),
                explored: asked.policy.verified.and_then(|delta| {
                    let share = |estimate: &Estimate| {
                        let is_hot = estimate.len() >= OBSERVED;
                        is_hot.then(|| estimate.exploration(*similarity, delta))
                    };
                    hot.estimate(share).flatten()
                }),
            })
        };
        let nearest = near.iter().zip(wholes).filter_map(candidate).collect();
        let (load, threshold) = (asked.load, asked.threshold);
        let partition = Some(asked.key.to_string());
        Ok(Explanation { verdict, partition, n_entries, policy, load, threshold, nearest })
    }

    /// Entries of a partition, and those nearest to a request.
    fn near(
        &self,
        lookup: &Lookup<'_>,
        key: &crate::cache::PartitionKey,
    ) -> Result<(u64, Vec<Found>)> {
        let query =
            lookup.vector.map(|vector| Query::new(vector, self.settings.dim)).transpose()?;
        let shard = self.shards.read(key);
        let Some(partition) = shard.partition(key) else { return Ok((0, Vec::new())) };
        let mut near: Vec<Found> = Vec::new();
        if let Some(query) = query {
            // Each of them, however far.
            let want = Want::new(&query, -1.0);
            while near.len() < SHOWN {
                let is_new = |hot: &Hot| near.iter().all(|(other, _)| other.id() != hot.id());
                let next = partition.cells.nearest(self.shards.loops(), &want, &is_new);
                let Some(next) = next else { break };
                near.push(next);
            }
        }
        Ok((partition.n_entries() as u64, near))
    }

    /// An entry as it is kept, for who may see entries of its tenant; `None` if it is not there or of another tenant.
    ///
    /// # Errors
    /// Those of reading the record.
    pub fn entry(&self, id: EntryId, tenant: &str) -> Result<Option<crate::cache::Answer>> {
        let Some(hot) = self.shards.get(id).filter(|hot| hot.owner.tenant == tenant) else {
            return Ok(None);
        };
        let whole = self.wholes(&[Some(&hot)])?.into_iter().next().flatten();
        Ok(whole.filter(|_| !hot.is_gone()).map(|whole| crate::cache::decide::answer(&whole)))
    }
}
