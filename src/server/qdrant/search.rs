//! The searches that older clients send: the points that are nearest to a vector.

use std::time::Instant;

use serde::Deserialize;

use crate::core::metric::Metric;
use crate::core::rows::Rows;
use crate::engine::query::{Example, Kind, Prefetch, QueriedPoint, Query};
use crate::engine::{self, Ask, Collection, Found, How, Settings};
use crate::error::{Error, ErrorKind};
use crate::server::call::Call;
use crate::server::limits::BATCH;
use crate::server::pace::List;
use crate::server::qdrant::json::{Form, NotOffered, Strict, body};
use crate::server::qdrant::select::{WithPayload, WithVector, ask, with};
use crate::server::qdrant::sent::{Scored, record, scored};
use crate::server::qdrant::vector::{self, Numbers, rows, score};
use crate::server::reply::{Answer, Refusal, Reply};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    vector: Form<Numbers, NamedVector>,
    filter: Option<Strict>,
    params: Option<Params>,
    limit: usize,
    offset: Option<usize>,
    #[serde(default)]
    with_payload: WithPayload,
    #[serde(default)]
    with_vector: WithVector,
    score_threshold: Option<f64>,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
}

/// A query, and the vector that it is compared with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedVector {
    /// The name.
    pub name: String,
    /// The query.
    pub vector: Numbers,
}

/// How a search is done. What only that API's engine can use is accepted and changes nothing.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Width of the beam.
    pub hnsw_ef: Option<usize>,
    /// Only exact ways.
    pub exact: Option<bool>,
    /// Whether codes are used is the planner's affair.
    #[allow(dead_code)]
    quantization: Option<Strict>,
    /// All points are searched, in the index or not.
    #[allow(dead_code)]
    indexed_only: Option<bool>,
    /// How filters are followed is the planner's affair.
    #[allow(dead_code)]
    acorn: Option<Strict>,
}

impl Params {
    /// How the engine is asked.
    pub fn how(&self, k: usize, vector: &str) -> How {
        let exact = self.exact.unwrap_or(false);
        let ef = self.hnsw_ef.filter(|_| !exact);
        How { k, vector: vector.to_owned(), exact, ef, ..How::default() }
    }
}

/// `POST /collections/{collection}/points/search`
pub fn search(call: &Call<'_>) -> Answer {
    let given: Search = body(call)?;
    let found = found(call, &*call.collection()?, given)?;
    Reply::result(&found, call.began)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Searches {
    searches: List<Search>,
}

/// `POST /collections/{collection}/points/search/batch`
pub fn batch(call: &Call<'_>) -> Answer {
    let Searches { searches: List(searches) } = body(call)?;
    if searches.len() > BATCH {
        let message = format!("{} searches, limit {BATCH}", searches.len());
        return Err(Error::new(ErrorKind::Limit, "batch_size", message).into());
    }
    let collection = call.collection()?;
    let all = searches.into_iter().map(|given| {
        call.give_way()?;
        found(call, &collection, given)
    });
    Reply::result(&all.collect::<Result<Vec<_>, _>>()?, call.began)
}

fn found(
    call: &Call<'_>,
    collection: &Collection,
    mut given: Search,
) -> Result<Vec<Scored>, Refusal> {
    let settings = collection.settings();
    let vector = std::mem::replace(&mut given.vector, Form::Short(Numbers::Row(Vec::new())));
    let (name, query) = match vector {
        Form::Short(query) => (String::new(), query),
        Form::Object(NamedVector { name, vector: query }) => (name, query),
    };
    let own = vector::name(&name);
    if !settings.vectors[settings.vector(own)?].is_dense() {
        return queried(call, collection, (own, query.example()?), given);
    }
    let query = query.row()?;
    let (offset, metric) = (given.offset.unwrap_or(0), metric(&settings, own)?);
    let queries = query_rows(&settings, own, query)?;
    let ask = ask(call, given.filter.as_ref())?;
    let k = given.limit.saturating_add(offset);
    let how = given.params.unwrap_or_default().how(k, own);
    let answers = searched(call, collection, (&queries, &ask), &how)?;
    call.plan.set(answers.first().map(|answer| answer.way));
    let points = answers.into_iter().flat_map(|answer| answer.points).skip(offset);
    let points: Vec<Found> = points
        .filter(|found| passes(metric, score(metric, found.score), given.score_threshold))
        .collect();
    let wanted = (&given.with_payload, &given.with_vector);
    scored(call, collection, &points, wanted, metric)
}

/// The answer to one query, timed.
///
/// # Errors
/// Those of searching.
pub fn searched(
    call: &Call<'_>,
    collection: &Collection,
    (queries, ask): (&Rows, &Ask),
    how: &How,
) -> Result<Vec<engine::Answer>, Error> {
    let began = Instant::now();
    let answers = collection.search(queries, std::slice::from_ref(ask), how)?;
    call.watch.searched(began, answers.iter().map(|answer| answer.planning_s).sum());
    Ok(answers)
}

/// A search by a vector of another shape than a row, which the engine takes as a query.
fn queried(
    call: &Call<'_>,
    collection: &Collection,
    (name, example): (&str, Example),
    given: Search,
) -> Result<Vec<Scored>, Refusal> {
    let (settings, version) = (collection.settings(), call.version(collection)?);
    let (payload, vector) = (given.with_payload, given.with_vector);
    let ask = ask(call, given.filter.as_ref())?;
    let How { exact, ef, recall, .. } = given.params.unwrap_or_default().how(given.limit, name);
    let stage = Prefetch {
        kind: Kind::Nearest(example),
        vector: name.to_owned(),
        filter: ask.filter().clone(),
        threshold: given.score_threshold.map(|threshold| threshold as f32),
        limit: given.limit,
        exact,
        recall,
        ef,
        ..Prefetch::default()
    };
    let query = Query { stage, offset: given.offset.unwrap_or(0) };
    let found = collection.query(ask.tenant(), &query, &with(&payload, &vector))?;
    call.plan.set(found.stages.iter().find_map(|stage| stage.way));
    let scored = |found: QueriedPoint| {
        let record = record(found.point, &payload, &vector, (&settings, None));
        Scored::of(record, found.score, version)
    };
    Ok(found.points.into_iter().map(scored).collect())
}

/// How a vector is compared.
///
/// # Errors
/// `vector_name`.
pub fn metric(settings: &Settings, name: &str) -> Result<Metric, Error> {
    Ok(settings.vectors[settings.vector(name)?].metric)
}

/// A query as a row of the vector's type.
///
/// # Errors
/// `vector_name`, `vector_dim`; those of `rows`.
pub fn query_rows(settings: &Settings, name: &str, query: Vec<f32>) -> Result<Rows, Error> {
    let own = &settings.vectors[settings.vector(name)?];
    if query.len() != own.dim {
        let message = format!("{} values, vector {name:?} has {}", query.len(), own.dim);
        return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
    }
    rows(own, query).map_err(|error| error.within("the query"))
}

/// Whether a score is as good as the threshold.
pub fn passes(metric: Metric, score: f32, threshold: Option<f64>) -> bool {
    threshold.is_none_or(|threshold| match metric {
        Metric::Cosine | Metric::Dot => f64::from(score) >= threshold,
        Metric::L2 | Metric::L1 => f64::from(score) <= threshold,
    })
}
