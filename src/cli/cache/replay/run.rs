//! The replay itself, in the time of the trace: an answer is stored when the model would have given it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_128;

use crate::cache::{
    CacheSettings, Clock, EntryId, Identity, Lookup, NewEntry, Policies, Seams, SemanticCache,
    Tier, Verdict,
};
use crate::cli::cache::labelled::Request;
use crate::cli::cache::rows::UnitRows;
use crate::error::{IoContext, Result};

/// A request of the replay.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The prompt.
    pub row: usize,
    /// When it comes, since the first.
    pub at_ms: f64,
    /// Of prompt and answer.
    pub tokens: [u32; 2],
    /// What the model takes for it.
    pub took_ms: f64,
}

/// What was seen of some requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub n: u64,
    /// Answered by an equal request, a similar one, by the bound.
    pub hits: [u64; 3],
    pub errors: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub all: Tally,
    pub categories: BTreeMap<String, Tally>,
    /// Misses, by their reason.
    pub misses: BTreeMap<&'static str, u64>,
    /// What each lookup took, sorted.
    pub lookups: Vec<Duration>,
    /// Tokens and milliseconds of all requests, and of those that were answered.
    pub tokens: [u64; 2],
    pub model_ms: [f64; 2],
    /// Misses while the model was already answering the same text.
    pub together: u64,
    /// Entries at the end.
    pub n_entries: u64,
}

/// Prompts and their vectors.
pub struct Run<'a> {
    pub requests: &'a [Request],
    pub categories: &'a [String],
    pub rows: &'a UnitRows,
}

/// A time that is set.
#[derive(Debug, Default)]
struct TraceClock(AtomicU64);

impl TraceClock {
    fn set(&self, at_ms: f64) {
        self.0.store((at_ms * 1e6) as u64, Ordering::Relaxed);
    }
}

impl Clock for TraceClock {
    fn wall(&self) -> Duration {
        // Some day after 1970: what the cache keeps of times is not 0.
        Duration::from_secs(1_000_000_000) + self.steady()
    }

    fn steady(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// An answer that the model still gives.
struct Pending {
    at_ms: f64,
    step: Step,
    /// What is learnt of an entry with it: its similarity, and whether its answer would have been right.
    explore: Option<(EntryId, f32)>,
    ticket: u64,
}

/// A folder that goes when this does, if it was not asked for.
struct Folder {
    path: PathBuf,
    is_ours: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_ours {
            // What was measured is told all the same.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

impl Folder {
    fn of(asked: Option<&Path>) -> Self {
        let own = || std::env::temp_dir().join(format!("nearkin-replay-{}", std::process::id()));
        Self { path: asked.map_or_else(own, Path::to_owned), is_ours: asked.is_none() }
    }
}

impl Run<'_> {
    /// Sends the steps, which come in the order of their times, through a new cache.
    pub fn through(
        &self,
        steps: &[Step],
        policies: Policies,
        data: Option<&Path>,
        seed: u64,
        threads: usize,
    ) -> Result<Seen> {
        let folder = Folder::of(data);
        let clock = Arc::new(TraceClock::default());
        let seams = Seams { clock: clock.clone(), seed, ..Seams::of_machine(threads)? };
        let settings = CacheSettings { dim: self.rows.dim, embedder: self.rows.identity.clone() };
        if folder.is_ours {
            std::fs::create_dir_all(&folder.path).at("create", &folder.path)?;
        }
        let cache = SemanticCache::create(&folder.path.join("cache"), settings, policies, seams)?;
        let mut seen = Seen::default();
        let mut pending: Vec<Pending> = Vec::new();
        for step in steps {
            self.settle(&cache, &mut pending, step.at_ms)?;
            clock.set(step.at_ms);
            self.ask(&cache, *step, &mut pending, &mut seen)?;
        }
        self.settle(&cache, &mut pending, f64::INFINITY)?;
        seen.n_entries = cache.stats().n_entries;
        seen.lookups.sort_unstable();
        cache.close()?;
        Ok(seen)
    }

    fn ask(
        &self,
        cache: &SemanticCache,
        step: Step,
        pending: &mut Vec<Pending>,
        seen: &mut Seen,
    ) -> Result<()> {
        let request = &self.requests[step.row];
        let identity = self.identity(step.row);
        let vector = self.vector(step.row);
        let lookup = Lookup::new(&identity, hash(&request.text), &request.text, vector);
        let began = Instant::now();
        let verdict = cache.lookup(&lookup)?;
        seen.lookups.push(began.elapsed());
        let tokens = u64::from(step.tokens[0]) + u64::from(step.tokens[1]);
        let category = self.categories[request.category as usize].clone();
        for tally in [&mut seen.all, seen.categories.entry(category).or_default()] {
            tally.n += 1;
            if let Verdict::Hit(hit) = &verdict {
                tally.hits[tier(hit.tier)] += 1;
                tally.errors += u64::from(!self.is_right(&hit.answer.bytes, step.row));
            }
        }
        (seen.tokens[0], seen.model_ms[0]) =
            (seen.tokens[0] + tokens, seen.model_ms[0] + step.took_ms);
        match verdict {
            Verdict::Hit(_) => {
                seen.tokens[1] += tokens;
                seen.model_ms[1] += step.took_ms;
            }
            Verdict::Miss(miss) => {
                *seen.misses.entry(miss.reason.word()).or_default() += 1;
                let is_same = |other: &Pending| self.requests[other.step.row].text == request.text;
                seen.together += u64::from(pending.iter().any(is_same));
                let similarity = miss.nearest.map_or(0.0, |(_, similarity)| similarity);
                pending.push(Pending {
                    at_ms: step.at_ms + step.took_ms,
                    step,
                    explore: miss.explore.map(|entry| (entry, similarity)),
                    ticket: miss.ticket,
                });
            }
        }
        Ok(())
    }

    /// Stores the answers that the model has given by now, in the order in which it gave them.
    fn settle(&self, cache: &SemanticCache, pending: &mut Vec<Pending>, now_ms: f64) -> Result<()> {
        let mut given: Vec<Pending> = pending.extract_if(.., |one| one.at_ms <= now_ms).collect();
        given.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
        let mut entries = Vec::new();
        for Pending { step, explore, ticket, .. } in given {
            if let Some((entry, similarity)) = explore {
                let answer = cache.entry(entry, TENANT)?;
                let was_right = answer.map(|answer| self.is_right(&answer.bytes, step.row));
                if let Some(was_right) = was_right {
                    cache.observe(entry, similarity.clamp(-1.0, 1.0), was_right)?;
                }
            }
            let text = &self.requests[step.row].text;
            let answer = (step.row as u64).to_le_bytes();
            entries.push(NewEntry {
                vector: self.vector(step.row).map(<[f32]>::to_vec),
                saved_ms: step.took_ms as u32,
                saved_tokens: step.tokens[0].saturating_add(step.tokens[1]),
                ticket: Some(ticket),
                ..NewEntry::new(self.identity(step.row), hash(text), text, &answer)
            });
        }
        if !entries.is_empty() {
            cache.insert_batch(entries)?;
        }
        Ok(())
    }

    fn identity(&self, row: usize) -> Identity {
        Identity {
            tenant: TENANT.into(),
            user: None,
            category: self.categories[self.requests[row].category as usize].clone(),
            model: "replay".into(),
            compat: [0; 32],
        }
    }

    /// The vector of a prompt; a text without one is only looked up whole.
    fn vector(&self, row: usize) -> Option<&[f32]> {
        Some(self.rows.row(row)).filter(|row| row.iter().any(|&x| x != 0.0))
    }

    /// Whether an answer, which is the row that it was given for, is right for another.
    fn is_right(&self, answer: &[u8], asked: usize) -> bool {
        let given =
            answer.try_into().map_or(usize::MAX, |bytes| u64::from_le_bytes(bytes) as usize);
        let Some(stored) = self.requests.get(given) else { return false };
        let request = &self.requests[asked];
        stored.text == request.text
            || stored.intent.is_some()
                && (stored.intent, stored.category) == (request.intent, request.category)
    }
}

const TENANT: &str = "replay";

fn tier(tier: Tier) -> usize {
    match tier {
        Tier::Exact => 0,
        Tier::Semantic => 1,
        Tier::Verified => 2,
    }
}

/// The hash of a request, of which the text is all.
fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(&xxh3_128(text.as_bytes()).to_le_bytes());
    hash
}
