//! Queries of every kind over HTTP, and the older requests that are queries by another name.

use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::engine::query::{GroupKey, Matrix, QueriedPoint, Query};
use crate::engine::{Collection, Settings, With};
use crate::error::{Error, Result};
use crate::server::call::Call;
use crate::server::catalog::not_found;
use crate::server::limits::BATCH;
use crate::server::pace::List;
use crate::server::qdrant::id::Id;
use crate::server::qdrant::json::{Strict, StrictMap, unread};
use crate::server::qdrant::numbers;
use crate::server::qdrant::query::{GroupLookup, GroupsRequest, QueryRequest, Source, Wanted};
use crate::server::qdrant::select::{WithPayload, WithVector, with};
use crate::server::qdrant::sent::{Record, Scored, record, whole_number};
use crate::server::reply::{Answer, Refusal, Reply};
use crate::server::stages::Stage;

/// Queries of a batch that are answered in one go: few enough that nobody waits long for their end.
const TOGETHER: usize = 8;

/// `POST /collections/{collection}/points/query`
pub fn query(call: &Call<'_>) -> Answer {
    let Strict(given) = unread(call)?;
    let source = source(call)?;
    let request = call.watch.time(Stage::Parse, || source.query(&given))?;
    let points = answered(call, vec![request])?.pop().unwrap_or_default();
    Reply::result(&Points { points }, call.began)
}

/// `POST /collections/{collection}/points/query/batch`
pub fn batch(call: &Call<'_>) -> Answer {
    let Searches { searches: List(searches) } = unread(call)?;
    let searches = searches.into_iter().map(|Strict(given)| given).collect();
    let all = in_batch(call, searches)?;
    let all: Vec<Points> = all.into_iter().map(|points| Points { points }).collect();
    Reply::result(&all, call.began)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound = "T: Deserialize<'de>")]
struct Searches<T> {
    searches: List<T>,
}

/// The points of each query of a batch.
fn in_batch(call: &Call<'_>, searches: Vec<Value>) -> Result<Vec<Vec<Scored>>, Refusal> {
    let source = source(call)?;
    let given = Map::from_iter([("searches".to_owned(), Value::Array(searches))]).into();
    let requests = call.reads(|| source.batch(&given, BATCH))?;
    answered(call, requests)
}

#[derive(Serialize)]
struct Points {
    points: Vec<Scored>,
}

/// Where a body comes from; samples are other ones each time.
fn source<'c>(call: &'c Call<'_>) -> Result<Source<'c>, Refusal> {
    let seed = getrandom::u64().map_err(|error| {
        let message = format!("chance: the system gives none: {error}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })?;
    Ok(Source { collection: call.entry().name(), seed })
}

/// The collection of this name or alias, if it is there for whoever asks.
fn other(call: &Call<'_>, name: &str) -> Result<Arc<Collection>> {
    let entry = call.catalog.entry(name)?;
    match call.caller.may_see(entry.name()) {
        true => entry.collection(),
        false => Err(not_found(name)),
    }
}

/// What is wanted of points, understood.
struct Understood {
    payload: WithPayload,
    vector: WithVector,
}

impl Understood {
    fn of(wanted: &Wanted) -> Result<Self, Refusal> {
        Ok(Self {
            payload: part("with_payload", &wanted.payload)?,
            vector: part("with_vector", &wanted.vector)?,
        })
    }

    /// A point as it is sent.
    fn scored(&self, found: QueriedPoint, version: u64, settings: &Settings) -> Scored {
        let QueriedPoint { point, score, order } = found;
        let record = record(point, &self.payload, &self.vector, (settings, order));
        Scored::of(record, score, version)
    }
}

fn part<T: DeserializeOwned + Default>(name: &str, value: &Value) -> Result<T, Refusal> {
    if value.is_null() {
        return Ok(T::default());
    }
    let read = serde_json::from_value(value.clone());
    read.map_err(|error| Refusal::bad(format!("json_type: {name}: {error}")))
}

/// The points of each query. Some are answered at one version; then others may come first.
fn answered(call: &Call<'_>, requests: Vec<QueryRequest>) -> Result<Vec<Vec<Scored>>, Refusal> {
    numbers::check_all_taken()?;
    let (collection, tenant) = (call.collection()?, call.caller.tenant());
    let settings = collection.settings();
    let (mut queries, mut understood) = (Vec::new(), Vec::new());
    for QueryRequest { query, wanted } in requests {
        queries.push(query.looked_up(tenant, &mut |name| other(call, name))?);
        understood.push(Understood::of(&wanted)?);
    }
    let withs = understood.iter().map(|own| with(&own.payload, &own.vector));
    let withs: Vec<With> = withs.collect();
    let asked: Vec<(&Query, &With)> = queries.iter().zip(&withs).collect();
    let mut all = Vec::with_capacity(queries.len());
    for (asked, understood) in asked.chunks(TOGETHER).zip(understood.chunks(TOGETHER)) {
        call.give_way()?;
        let version = call.version(&collection)?;
        let began = Instant::now();
        let found = collection.query_batch(tenant, asked)?;
        call.watch.searched(began, 0.0);
        for (found, wanted) in found.into_iter().zip(understood) {
            call.plan.set(found.stages.iter().find_map(|stage| stage.way));
            let points = found.points.into_iter();
            all.push(points.map(|point| wanted.scored(point, version, &settings)).collect());
        }
    }
    Ok(all)
}

#[derive(Serialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    id: Value,
    hits: Vec<Scored>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lookup: Option<Record>,
}

/// `POST /collections/{collection}/points/query/groups`
pub fn groups(call: &Call<'_>) -> Answer {
    let Strict(given) = unread(call)?;
    in_groups(call, &given)
}

fn in_groups(call: &Call<'_>, given: &Value) -> Answer {
    let GroupsRequest { mut query, wanted, lookup } = source(call)?.groups(given)?;
    numbers::check_all_taken()?;
    let (collection, tenant) = (call.collection()?, call.caller.tenant());
    let (settings, wanted) = (collection.settings(), Understood::of(&wanted)?);
    query.query = query.query.looked_up(tenant, &mut |name| other(call, name))?;
    let version = call.version(&collection)?;
    let all = with(&wanted.payload, &wanted.vector);
    let began = Instant::now();
    let found = collection.query_groups(tenant, &query, &all)?.groups;
    call.watch.searched(began, 0.0);
    let keys: Vec<GroupKey> = found.iter().map(|group| group.key.clone()).collect();
    let mut records = looked_up(call, lookup, &keys)?.into_iter();
    let groups = found.into_iter().map(|group| Group {
        id: match group.key {
            GroupKey::Keyword(text) => Value::String(text),
            GroupKey::Integer(number) => whole_number(number),
        },
        hits: group
            .points
            .into_iter()
            .map(|point| wanted.scored(point, version, &settings))
            .collect(),
        lookup: records.next().flatten(),
    });
    Reply::result(&Groups { groups: groups.collect() }, call.began)
}

/// The points that groups are in another collection: none for those that are none there, or not for whoever asks.
fn looked_up(
    call: &Call<'_>,
    lookup: Option<GroupLookup>,
    keys: &[GroupKey],
) -> Result<Vec<Option<Record>>, Refusal> {
    let Some(GroupLookup { collection, wanted }) = lookup else { return Ok(Vec::new()) };
    let collection = other(call, &collection)?;
    let settings = collection.settings();
    let mut wanted = wanted;
    if wanted.payload.is_null() {
        wanted.payload = Value::Bool(true);
    }
    let Understood { payload, vector } = Understood::of(&wanted)?;
    let all = with(&payload, &vector);
    let ids: Vec<_> = keys.iter().filter_map(GroupKey::point).collect();
    let mut points = collection.retrieve(call.caller.tenant(), &ids, &all)?.into_iter();
    let of_key = |key: &GroupKey| {
        let point = key.point().and_then(|_| points.next().flatten())?;
        Some(record(point, &payload, &vector, (&settings, None)))
    };
    Ok(keys.iter().map(of_key).collect())
}

/// `POST /collections/{collection}/points/search/matrix/pairs`
pub fn matrix_pairs(call: &Call<'_>) -> Answer {
    let Matrix { ids, neighbors } = matrix(call)?;
    let mut pairs = Vec::new();
    for (a, own) in ids.iter().zip(&neighbors) {
        for &(b, score) in own {
            pairs.push(Pair { a: Id(*a), b: Id(ids[b]), score });
        }
    }
    #[derive(Serialize)]
    struct Pair {
        a: Id,
        b: Id,
        score: f32,
    }
    #[derive(Serialize)]
    struct Pairs {
        pairs: Vec<Pair>,
    }
    Reply::result(&Pairs { pairs }, call.began)
}

/// `POST /collections/{collection}/points/search/matrix/offsets`
pub fn matrix_offsets(call: &Call<'_>) -> Answer {
    #[derive(Serialize)]
    struct Offsets {
        offsets_row: Vec<usize>,
        offsets_col: Vec<usize>,
        scores: Vec<f32>,
        ids: Vec<Id>,
    }
    let Matrix { ids, neighbors } = matrix(call)?;
    let (offsets_row, offsets_col, scores) = <(Vec<_>, Vec<_>, Vec<_>)>::default();
    let ids = ids.into_iter().map(Id).collect();
    let mut offsets = Offsets { offsets_row, offsets_col, scores, ids };
    for (row, own) in neighbors.iter().enumerate() {
        for &(column, score) in own {
            offsets.offsets_row.push(row);
            offsets.offsets_col.push(column);
            offsets.scores.push(score);
        }
    }
    Reply::result(&offsets, call.began)
}

fn matrix(call: &Call<'_>) -> Result<Matrix, Refusal> {
    let Strict(given) = unread(call)?;
    let request = source(call)?.matrix(&given)?;
    let ask = crate::engine::Ask::new(call.caller.tenant(), request.filter);
    let (collection, began) = (call.collection()?, Instant::now());
    let matrix = collection.search_matrix(&ask, &request.matrix)?;
    call.watch.searched(began, 0.0);
    Ok(matrix)
}

/// A body of an older request as that of a query: what it looks for stands in `query`.
type Rewrite = fn(&mut Map<String, Value>) -> Result<Value, Error>;

/// `POST /collections/{collection}/points/recommend`
pub fn recommend(call: &Call<'_>) -> Answer {
    older(call, recommended)
}

/// `POST /collections/{collection}/points/recommend/batch`
pub fn recommend_batch(call: &Call<'_>) -> Answer {
    older_batch(call, recommended)
}

/// `POST /collections/{collection}/points/recommend/groups`
pub fn recommend_groups(call: &Call<'_>) -> Answer {
    older_groups(call, recommended)
}

/// `POST /collections/{collection}/points/discover`
pub fn discover(call: &Call<'_>) -> Answer {
    older(call, discovered)
}

/// `POST /collections/{collection}/points/discover/batch`
pub fn discover_batch(call: &Call<'_>) -> Answer {
    older_batch(call, discovered)
}

/// `POST /collections/{collection}/points/search/groups`
pub fn search_groups(call: &Call<'_>) -> Answer {
    older_groups(call, searched)
}

fn recommended(given: &mut Map<String, Value>) -> Result<Value, Error> {
    Ok(json!({"recommend": taken(given, &["positive", "negative", "strategy"])}))
}

fn discovered(given: &mut Map<String, Value>) -> Result<Value, Error> {
    let mut query = taken(given, &["target", "context"]);
    if query.contains_key("target") {
        query.entry("context").or_insert_with(|| json!([]));
        return Ok(json!({"discover": query}));
    }
    Ok(json!({"context": query.remove("context")}))
}

fn searched(given: &mut Map<String, Value>) -> Result<Value, Error> {
    match given.shift_remove("vector") {
        Some(Value::Object(mut named)) => {
            let name = named.shift_remove("name").unwrap_or_default();
            given.insert("using".to_owned(), name);
            Ok(json!({"nearest": named.shift_remove("vector")}))
        }
        vector => Ok(json!({"nearest": vector})),
    }
}

/// What stands at these keys, taken out.
fn taken(given: &mut Map<String, Value>, keys: &[&str]) -> Map<String, Value> {
    let entry = |key: &&str| Some(((*key).to_owned(), given.shift_remove(*key)?));
    keys.iter().filter_map(entry).filter(|(_, value)| !value.is_null()).collect()
}

fn rewritten(mut given: Map<String, Value>, rewrite: Rewrite) -> Result<Value, Error> {
    if given.contains_key("query") || given.contains_key("prefetch") {
        let message = "query and prefetch are of another request, expected none";
        return Err(Error::usage("field_unknown", message));
    }
    let query = rewrite(&mut given)?;
    given.insert("query".to_owned(), query);
    Ok(Value::Object(given))
}

fn older(call: &Call<'_>, rewrite: Rewrite) -> Answer {
    let StrictMap(given) = unread(call)?;
    let request = source(call)?.query(&rewritten(given, rewrite)?)?;
    let points = answered(call, vec![request])?.pop().unwrap_or_default();
    Reply::result(&points, call.began)
}

fn older_batch(call: &Call<'_>, rewrite: Rewrite) -> Answer {
    let Searches { searches: List(searches) } = unread(call)?;
    let all = searches.into_iter().map(|StrictMap(given)| rewritten(given, rewrite));
    Reply::result(&in_batch(call, all.collect::<Result<_>>()?)?, call.began)
}

fn older_groups(call: &Call<'_>, rewrite: Rewrite) -> Answer {
    let StrictMap(given) = unread(call)?;
    in_groups(call, &rewritten(given, rewrite)?)
}
