//! What all requests to caches share: the caches, the embedder, the model server behind, and what was decided.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rayon::ThreadPool;
use serde_json::Value;

use crate::cache::{CacheSettings, EntryId, Mode, SemanticCache};
use crate::embed::{self, Choice};
use crate::error::{Error, ErrorKind, Result};
use crate::server::cache::caches::Caches;
use crate::server::cache::control::Outcome;
use crate::server::cache::decisions::{Decision, Decisions, shown};
use crate::server::cache::flight::Flights;
use crate::server::cache::judge::Judges;
use crate::server::cache::meter::Meter;
use crate::server::cache::question::{PROXY, Question};
use crate::server::cache::replay::Fresh;
use crate::server::cache::secured::Trust;
use crate::server::cache::upstream::Upstream;
use crate::server::cache::vectors::Vectors;
use crate::server::call::Caller;
use crate::server::ledger::Ledger;
use crate::server::limits::Waits;
use crate::server::log::RequestIds;
use crate::server::metrics::CacheCounts;
use crate::server::moment::Moment;
use crate::server::reply::Refusal;

/// What the caches of a server are made of.
#[derive(Clone, Debug)]
pub struct FrontSettings {
    /// URL of the model server behind, if there is one.
    pub upstream: Option<String>,
    /// The key for it.
    pub upstream_key: Option<String>,
    /// The file of authorities that vouch for servers reached over TLS; those that browsers know, without.
    pub authorities: Option<PathBuf>,
    /// The file of policies.
    pub policy: Option<PathBuf>,
    /// What makes vectors of texts.
    pub embed: Choice,
    /// How long is waited for what.
    pub waits: Waits,
}

impl Default for FrontSettings {
    fn default() -> Self {
        let (upstream, upstream_key, authorities, policy, waits) = Default::default();
        // A build without the table that is shipped has hashed words.
        let embed = if cfg!(feature = "static-model") { Choice::Static } else { Choice::Hashed };
        Self { upstream, upstream_key, authorities, policy, embed, waits }
    }
}

/// What memory says of a question.
pub enum Looked {
    /// It was answered before.
    Found(Box<Found>),
    /// It was not, or not so that it could be given again.
    Missed(Missed),
}

/// An answer that was given before.
#[derive(Clone, Debug)]
pub struct Found {
    /// The answer.
    pub answer: Value,
    /// Whether the question was the same, not only near.
    pub is_exact: bool,
    /// Cosine of the two questions.
    pub similarity: f32,
    /// The least that was asked for.
    pub threshold: f32,
    /// How old it is.
    pub age: Duration,
    /// The entry.
    pub entry: EntryId,
    /// Why it is given, in a word.
    pub reason: &'static str,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Missed {
    /// A stable word.
    pub reason: &'static str,
    /// Cosine of the nearest question.
    pub similarity: Option<f32>,
    /// The least that was asked for.
    pub threshold: Option<f32>,
    /// Whether the policy wants nothing remembered.
    pub is_off: bool,
    /// The vector of the question, if one was made.
    pub vector: Option<Vec<f32>>,
    /// The entry whose answer would have been this one's if it is right: to be learnt from.
    pub explore: Option<EntryId>,
    /// The entry that is near enough to ask a judge about.
    pub grey: Option<EntryId>,
    /// What was invalidated before the model was asked.
    pub ticket: Option<u64>,
}

impl Missed {
    /// For this reason, and nothing is known of what is near.
    pub fn of(reason: &'static str) -> Self {
        let (similarity, threshold, is_off, vector) = Default::default();
        let (explore, grey, ticket) = Default::default();
        Self { reason, similarity, threshold, is_off, vector, explore, grey, ticket }
    }
}

/// What is told of a decision.
pub struct Told {
    /// Why.
    pub reason: &'static str,
    /// Cosine of the nearest question.
    pub similarity: Option<f32>,
    /// The least that was asked for.
    pub threshold: Option<f32>,
    /// What became of the answer.
    pub stored: Option<String>,
}

/// What all requests to caches share.
pub struct Front {
    caches: Caches,
    upstream: Option<Upstream>,
    trust: Trust,
    vectors: Vectors,
    embed: Choice,
    flights: Flights,
    decisions: Decisions,
    judges: Judges,
    meter: Meter,
    ids: RequestIds,
    waits: Waits,
}

impl Front {
    /// Opens the caches beside the collections of `data`, and the embedder.
    ///
    /// # Errors
    /// Those of the settings, the embedder, the policy file and the caches.
    pub fn open(data: &Path, settings: FrontSettings, pool: &Arc<ThreadPool>) -> Result<Self> {
        let FrontSettings { upstream, upstream_key, authorities, policy, embed, waits } = settings;
        let trust = Trust::new(authorities);
        let key = upstream_key.as_deref();
        let upstream = upstream.map(|url| Upstream::new(&url, key, waits, &trust)).transpose()?;
        let embedder = embed::open(&embed, pool.current_num_threads())?.ok_or_else(|| {
            let message = format!(
                "{embed}: texts come alone here, expected static, hashed, bert:DIR or http:URL"
            );
            Error::usage("embed", message)
        })?;
        let vectors = Vectors::new(embedder, waits.embed);
        let caches = Caches::open(data, policy.as_deref(), Arc::clone(pool))?;
        let (flights, decisions, judges, meter) = Default::default();
        let ids = RequestIds::new()?;
        let front = Self {
            caches,
            upstream,
            trust,
            vectors,
            embed,
            flights,
            decisions,
            judges,
            meter,
            ids,
            waits,
        };
        if front.upstream.is_some() {
            let cache = front.caches.made(PROXY, &front.settings())?;
            front.check_embedder(&cache)?;
        }
        Ok(front)
    }

    /// Fails if the questions that were answered before were compared by another embedder.
    fn check_embedder(&self, cache: &SemanticCache) -> Result<()> {
        let (own, theirs) = (self.settings(), cache.settings());
        if own.embedder == theirs.embedder && own.dim == theirs.dim {
            return Ok(());
        }
        let message = format!(
            "answers are remembered with vectors of {}, and {} was chosen: choose the former with --embed, or remove .caches/{PROXY} of the data folder",
            theirs.embedder, own.embedder
        );
        Err(Error::usage("cache_embedder", message))
    }

    /// The model server behind.
    ///
    /// # Errors
    /// `no_upstream`, 404.
    pub fn upstream(&self) -> Result<&Upstream, Refusal> {
        self.upstream.as_ref().ok_or_else(|| {
            let message = "no_upstream: this server has no model server behind it; start it with --upstream URL";
            Refusal::new(hyper::StatusCode::NOT_FOUND, message)
        })
    }

    /// Who vouches for servers.
    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The caches.
    pub fn caches(&self) -> &Caches {
        &self.caches
    }

    /// What makes vectors.
    pub fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    /// Equal requests that are on their way.
    pub fn flights(&self) -> &Flights {
        &self.flights
    }

    /// How long is waited for what.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Judges of near misses.
    pub fn judges(&self) -> &Judges {
        &self.judges
    }

    /// How loaded the models are, as far as it was read.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// What was decided.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// What whoever starts the server should know of its embedder; nothing for one that was chosen.
    pub fn note(&self) -> Option<String> {
        let upstream = self.upstream.as_ref()?;
        let embed = &self.embed;
        let quality = match embed {
            Choice::Static | Choice::Hashed => {
                ": fast, and good for near wordings only; keep thresholds strict, or choose bert:DIR or http:URL"
            }
            _ => "",
        };
        Some(format!(
            "answers of {} are remembered; questions are compared by {embed}{quality}",
            upstream.address()
        ))
    }

    /// Settings of a new cache for texts.
    pub fn settings(&self) -> CacheSettings {
        CacheSettings { dim: self.vectors.dim(), embedder: self.vectors.identity() }
    }

    /// The cache of this name, made if there is none and whoever asks reaches a server that asks for no key.
    ///
    /// # Errors
    /// `cache_not_found`, also of one that is there and not for the caller; those of making it.
    pub fn cache(
        &self,
        caller: &Caller,
        name: &str,
        settings: impl FnOnce() -> CacheSettings,
    ) -> Result<Arc<SemanticCache>, Refusal> {
        let found = self.caches.get(name).filter(|_| caller.may_see(name));
        match found {
            Some(cache) => Ok(cache),
            None if caller.key().is_none() => Ok(self.caches.made(name, &settings())?),
            None => {
                let message = format!("there is no cache {name:?}");
                Err(Error::new(ErrorKind::NotFound, "cache_not_found", message).into())
            }
        }
    }

    /// A name and a time for an answer that is given again.
    pub fn fresh(&self, now: Moment) -> Fresh {
        Fresh { id: self.ids.next(), created: now.unix_s() }
    }

    /// Takes down what was decided of a question.
    pub fn decided(&self, question: &Question, outcome: Outcome, told: Told, now: Moment) {
        let Told { reason, similarity, threshold, stored } = told;
        // What must not be stored is not to be read here either.
        let policies = self.caches.policies();
        let policy = policies.of(question.category());
        let is_shown = policy.store && policy.mode != Mode::Off;
        let text = if is_shown { shown(&question.asked.text) } else { String::new() };
        let decision = Decision {
            time: now.rfc3339(),
            cache: PROXY.into(),
            tenant: question.caller.tenant().map(str::to_owned),
            category: question.category().to_owned(),
            model: question.asked.model.clone(),
            question: text,
            outcome: outcome.word(),
            reason: reason.into(),
            similarity,
            threshold,
            stored,
        };
        self.decisions.add(outcome, decision);
    }

    /// Counts a request that memory has nothing to do with.
    pub fn count(&self, outcome: Outcome) {
        self.decisions.count(outcome);
    }

    /// Takes down that memory could not be asked.
    pub fn failed_open(&self, ledger: &Ledger, why: &'static str) {
        self.decisions.fail_open(why);
        if why == "embedder_down" {
            ledger.note(&format!("the embedder failed: {}", self.vectors.said()));
        }
    }

    /// What is counted.
    pub fn counts(&self) -> CacheCounts {
        CacheCounts {
            outcomes: self.decisions.outcomes(),
            failures: self.decisions.failures(),
            judged: self.decisions.judgements(),
            n_on_their_way: self.flights.n_flights() as u64,
            load_reads: self.meter.counts(),
        }
    }
}
