//! From a question to an answer: who may read what, which points pass, how they are found, and the nearest of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::core::ids::PointId;
use crate::core::limits::K;
use crate::core::metric::Metric;
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::engine::batch::{Answered, Asked};
use crate::engine::collection::Collection;
use crate::engine::passing::Passing;
use crate::engine::recall;
use crate::engine::settings::{DEFAULT_VECTOR, VectorSettings};
use crate::engine::space::{SpaceFound, Wanted, Who};
use crate::engine::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::index::graph::MAX_EF;
use crate::plan::cost::{Choice, Way};
use crate::plan::filter::{Filter, evaluate};

/// Who asks, and for what.
#[derive(Clone, Debug)]
pub struct Ask {
    tenant: Option<Arc<str>>,
    filter: Filter,
    /// Of the filter, made once: it takes as long as some searches.
    key: Arc<str>,
}

impl Ask {
    /// Of the points that pass, those that this tenant may read; every point without a tenant.
    pub fn new(tenant: Option<&str>, filter: Filter) -> Self {
        let key = filter.key().into();
        Self { tenant: tenant.map(Arc::from), filter, key }
    }

    /// Who asks.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// What two asks for the same have in common.
    pub(super) fn key(&self) -> Arc<str> {
        Arc::clone(&self.key)
    }

    /// What is asked for.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }
}

impl Default for Ask {
    fn default() -> Self {
        Self::new(None, Filter::default())
    }
}

/// How much is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct How {
    /// Points per query, 1 to 1,024.
    pub k: usize,
    /// The vector that queries are compared with.
    pub vector: String,
    /// Only exact ways.
    pub exact: bool,
    /// The share of the `k` nearest points that near ways are to find, 0 to 1. The narrowest beam is used with which sampled rows
    /// found that share of their neighbors before they were part of the index; queries that are unlike the rows find less.
    pub recall: f32,
    /// Width of the beam, in place of a recall.
    pub ef: Option<usize>,
}

impl Default for How {
    fn default() -> Self {
        Self { k: 10, vector: DEFAULT_VECTOR.to_owned(), exact: false, recall: 0.98, ef: None }
    }
}

/// A point that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Its id.
    pub id: PointId,
    /// See [`crate::core::metric::Metric::score`].
    pub score: f32,
}

/// The answer to one query, and how it was found.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Nearest first; as many as were asked for, or as there are.
    pub points: Vec<Found>,
    /// The way that answered. Not the planned one where a walk could not find enough.
    pub way: Way,
    /// The plan, with all predictions.
    pub choice: Choice,
    /// Points that the tenant may read and that pass.
    pub n_matches: u64,
    /// Rows whose signs were compared first, beside those below; none where the way has no such look.
    pub n_signs: u64,
    /// Rows and codes compared one by one; `None` where all were passed over.
    pub n_distances: Option<u64>,
    /// Slots that columns looked at for the filter; none if its slots were known from an earlier query.
    pub rows_touched: u64,
    /// Payloads that were read because no column could tell, and for which fields; none in that case either.
    pub payloads_read: (u64, Vec<String>),
    /// Queries that were answered together.
    pub n_together: usize,
    /// Seconds that they took, filter included.
    pub seconds: f64,
    /// Seconds of these that evaluating the filter took, of one query.
    pub planning_s: f64,
}

/// A set, and what it took to know it.
#[derive(Default)]
pub(super) struct Evaluated {
    /// None where every point may be found.
    pub(super) set: Option<Arc<Passing>>,
    rows_touched: u64,
    payloads_read: (u64, Vec<String>),
}

impl Collection {
    /// The `k` nearest points for every query, of those its tenant may read and that pass its filter. Queries of the same
    /// tenant and filter are answered together: their filter is evaluated once.
    ///
    /// # Errors
    /// `k_range`, `recall_range`, `ef_range`, `vector_name`, `vector_dim`, `vector_dtype`, what [`Rows::check`] says; those
    /// of reading payloads.
    pub fn search(&self, queries: &Rows, asks: &[Ask], how: &How) -> Result<Vec<Answer>> {
        assert_eq!(asks.len(), queries.n_rows(), "one ask for every query");
        let vector = self.settings().vector(&how.vector)?;
        let settings = self.settings();
        if !settings.vectors[vector].is_dense() {
            return Err(settings.vectors[vector].shape_error("a dense one, others are queried"));
        }
        check(&settings.vectors[vector], queries, how)?;
        self.read_whole(|state| self.answers(state, vector, queries, asks, how))
    }

    fn answers(
        &self,
        state: &State,
        vector: usize,
        queries: &Rows,
        asks: &[Ask],
        how: &How,
    ) -> Result<Vec<Answer>> {
        let began = Instant::now();
        let groups = grouped(asks);
        let evaluate = |members: &Vec<usize>| state.evaluated(vector, &asks[members[0]]);
        let sets: Vec<Evaluated> = match &groups[..] {
            [one] => vec![evaluate(one)?],
            _ => {
                let all = || groups.par_iter().map(evaluate).collect::<Result<_>>();
                self.backend.pool().install(all)?
            }
        };
        let asked: Vec<Asked<'_>> = groups
            .iter()
            .zip(&sets)
            .map(|(members, set)| {
                let queries = match groups.len() {
                    1 => Cow::Borrowed(queries),
                    _ => Cow::Owned(queries.picked(members)),
                };
                Asked { queries, who: set.who(state) }
            })
            .collect();
        let evaluating_s = began.elapsed().as_secs_f64() / asks.len() as f64;
        let wanted = Wanted { k: how.k, exact: how.exact, ef: how.ef, recall: how.recall };
        let space = state.spaces[vector].must_be_dense()?;
        let answered = space.search(&self.backend, &asked, wanted)?;
        for ((asked, set), answered) in asked.iter().zip(&sets).zip(&answered) {
            for (q, found) in answered.found.iter().enumerate() {
                self.recall.offer(found, || recall::Answered {
                    version: state.version,
                    vector,
                    query: asked.queries.slice(q..q + 1),
                    set: set.set.clone(),
                    k: how.k,
                    neighbors: found.neighbors.clone(),
                });
            }
        }
        let mut answers: Vec<Option<Answer>> = vec![None; asks.len()];
        for ((members, set), answered) in groups.iter().zip(&sets).zip(answered) {
            let own = answers_of(state, space.settings().metric, set, answered, evaluating_s);
            members.iter().zip(own).for_each(|(&query, answer)| answers[query] = Some(answer));
        }
        Ok(answers.into_iter().map(|answer| answer.expect("every query is in a group")).collect())
    }
}

/// The queries of every tenant and filter.
fn grouped(asks: &[Ask]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<(Option<&str>, &str), Vec<usize>> = BTreeMap::new();
    for (query, ask) in asks.iter().enumerate() {
        groups.entry((ask.tenant(), &*ask.key)).or_default().push(query);
    }
    groups.into_values().collect()
}

/// What is said to the queries of a set; each took its share of evaluating all filters.
fn answers_of(
    state: &State,
    metric: Metric,
    set: &Evaluated,
    answered: Answered,
    evaluating_s: f64,
) -> Vec<Answer> {
    let Answered { choice, found, n_together, seconds } = answered;
    let n_matches = set.set.as_ref().map_or(state.n_points(), |set| set.n_matches());
    let point = |near: &Neighbor| Found {
        id: state.places.id(near.slot),
        score: metric.score(near.distance),
    };
    let answer = |found: SpaceFound| Answer {
        points: found.neighbors.iter().map(point).collect(),
        way: found.way,
        choice: choice.clone(),
        n_matches,
        n_signs: found.n_signs,
        n_distances: found.n_distances,
        rows_touched: set.rows_touched,
        payloads_read: set.payloads_read.clone(),
        n_together,
        seconds: seconds + evaluating_s * n_together as f64,
        planning_s: evaluating_s,
    };
    found.into_iter().map(answer).collect()
}

impl Evaluated {
    fn who<'a>(&'a self, state: &'a State) -> Who<'a> {
        match &self.set {
            None => Who::Everyone(state.places.live()),
            Some(set) => Who::Some(set),
        }
    }
}

/// Fails if nothing can be searched so.
pub(super) fn check_how(how: &How) -> Result<()> {
    let bad = |code, message| Err(Error::new(ErrorKind::BadInput, code, message));
    if !(0.0..=1.0).contains(&how.recall) {
        return bad("recall_range", format!("{}, expected 0 to 1", how.recall));
    }
    if let Some(ef) = how.ef.filter(|ef| !(1..=MAX_EF).contains(ef)) {
        return bad("ef_range", format!("{ef}, expected 1 to {MAX_EF}"));
    }
    Ok(())
}

/// Fails if the rows cannot be compared with these queries, or not so.
pub(super) fn check(vector: &VectorSettings, queries: &Rows, how: &How) -> Result<()> {
    let bad = |code, message| Err(Error::new(ErrorKind::BadInput, code, message));
    if !(1..=K).contains(&how.k) {
        return bad("k_range", format!("{}, expected 1 to {K}", how.k));
    }
    check_how(how)?;
    if queries.dim() != vector.dim {
        let message = format!("queries have {} values, points have {}", queries.dim(), vector.dim);
        return bad("vector_dim", message);
    }
    let (own, theirs) = (vector.dtype, queries.dtype());
    if own != theirs && (own.is_integer() || theirs.is_integer()) {
        let message = format!("{} queries, {} points", theirs.name(), own.name());
        return bad("vector_dtype", message);
    }
    queries.check(vector.metric)
}

impl State {
    /// The places that the tenant may read, that pass and have the vector.
    pub(super) fn evaluated(&self, vector: usize, ask: &Ask) -> Result<Evaluated> {
        let has = self.spaces[vector].has();
        let has_filter = ask.filter != Filter::default();
        if ask.tenant.is_none() && !has_filter && has.is_none() && self.is_packed() {
            return Ok(Evaluated::default());
        }
        let mut evaluated = Evaluated::default();
        if ask.tenant.is_none() && has.is_none() {
            evaluated.set = Some(self.passing(ask, &mut evaluated)?);
            return Ok(evaluated);
        }
        let key = (vector, ask.tenant.clone(), Arc::clone(&ask.key));
        if let Some(set) = self.known.get(&key) {
            return Ok(Evaluated { set: Some(set), ..evaluated });
        }
        let readable = ask.tenant.as_deref().map(|name| self.readable(name)).transpose()?;
        let mut places = match readable {
            Some(readable) if !has_filter || readable.is_empty() => readable,
            Some(readable) => readable & self.passing(ask, &mut evaluated)?.places(),
            None => self.passing(ask, &mut evaluated)?.places().clone(),
        };
        if let Some(has) = has {
            places &= has;
        }
        let set = Arc::new(Passing::new(places));
        // Names that nobody has would fill the memory of whoever is asked for them.
        if ask.tenant.is_none() || set.n_matches() > 0 {
            self.known.put(key, &set);
        }
        evaluated.set = Some(set);
        Ok(evaluated)
    }

    /// Whether all places of the base have a point.
    fn is_packed(&self) -> bool {
        let n_base = self.places.n_base();
        self.places.live().range_cardinality(0..n_base) == u64::from(n_base)
    }

    /// The places that pass a filter, evaluated or known.
    pub(super) fn passing(&self, ask: &Ask, evaluated: &mut Evaluated) -> Result<Arc<Passing>> {
        let key = (ANY_VECTOR, None, Arc::clone(&ask.key));
        if let Some(known) = self.known.get(&key) {
            return Ok(known);
        }
        let found = evaluate(&ask.filter, &self.columns, self)?;
        evaluated.rows_touched = found.rows_touched;
        evaluated.payloads_read = (found.payloads_read, found.read_for);
        let set = Arc::new(Passing::new(found.slots));
        self.known.put(key, &set);
        Ok(set)
    }

    /// The places that a tenant may read; none for a tenant that does not exist.
    pub(super) fn readable(&self, name: &str) -> Result<RoaringBitmap> {
        match self.view.tenant(name)? {
            Some(tenant) => Ok(self.places.places(self.view.slots_of_tenant(tenant)?.into_iter())),
            None => Ok(RoaringBitmap::new()),
        }
    }
}

/// In the place of a vector: whichever.
pub(super) const ANY_VECTOR: usize = usize::MAX;
