//! Points that are removed, and vectors of points that are there.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::core::ids::PointId;
use crate::engine::{Collection, Which, With, WithVectors};
use crate::error::Error;
use crate::server::call::Call;
use crate::server::pace::List;
use crate::server::qdrant::id::{Id, plain};
use crate::server::qdrant::json::{NotOffered, Strict, body};
use crate::server::qdrant::select::Points;
use crate::server::qdrant::upsert::{lent, passing};
use crate::server::qdrant::vector::{Vector, gather, name};
use crate::server::reply::{Answer, Refusal, Reply};

/// What a change is answered with: which version of the collection has it.
///
/// # Errors
/// Those of reading.
pub fn completed(call: &Call<'_>, collection: &Collection) -> Answer {
    Reply::result(&state(call, collection)?, call.began)
}

/// The same, for one change of several.
///
/// # Errors
/// Those of reading.
pub fn state(call: &Call<'_>, collection: &Collection) -> Result<Value, Refusal> {
    let status = if call.waits()? { "completed" } else { "acknowledged" };
    Ok(json!({"operation_id": call.version(collection)?, "status": status}))
}

/// Points by ids or filter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selected {
    points: Option<Vec<Id>>,
    filter: Option<Strict>,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
}

impl Selected {
    /// The points.
    ///
    /// # Errors
    /// Those of `Points::of`.
    pub fn points(self, call: &Call<'_>) -> Result<Points, Refusal> {
        Points::of(call, self.points, self.filter.as_ref())
    }
}

/// Removes points; those of ids that are not there, or not for whoever asks, are passed over.
///
/// # Errors
/// Those of filters and of the engine.
pub fn delete(call: &Call<'_>, collection: &Collection, given: Selected) -> Result<(), Refusal> {
    match given.points(call)? {
        Points::Matching(ask) => drop(collection.remove_where(&ask)?),
        Points::Ids(ids) => {
            let ids = readable(call, collection, &plain(&ids))?;
            collection.remove(&ids)?;
        }
    }
    Ok(())
}

/// Those of these ids whose points are there for whoever asks.
fn readable(
    call: &Call<'_>,
    collection: &Collection,
    ids: &[PointId],
) -> Result<Vec<PointId>, Error> {
    let Some(tenant) = call.caller.tenant() else { return Ok(ids.to_vec()) };
    let nothing = With { payload: false, vectors: WithVectors::Nothing };
    let found = collection.retrieve(Some(tenant), ids, &nothing)?;
    Ok(found.into_iter().flatten().map(|point| point.id).collect())
}

/// Vectors of points that are there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVectors {
    points: List<PointVectors>,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
    update_filter: Option<Strict>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PointVectors {
    id: Id,
    vector: Vector,
}

/// Gives points vectors, beside those that they have.
///
/// # Errors
/// Those of vectors, filters and of the engine.
pub fn update_vectors(
    call: &Call<'_>,
    collection: &Collection,
    given: NewVectors,
) -> Result<(), Refusal> {
    let (mut ids, mut vectors) = (Vec::new(), Vec::new());
    for point in given.points.0 {
        ids.push(point.id.0);
        vectors.push(point.vector);
    }
    if given.update_filter.is_some() {
        let passing = passing(call, collection, &ids, given.update_filter.as_ref())?;
        let mut all = ids.iter();
        vectors.retain(|_| all.next().is_some_and(|id| passing.contains(id)));
        ids.retain(|id| passing.contains(id));
    }
    let gathered = gather(&collection.settings(), vectors, "points")?;
    collection.update_vectors(call.caller.tenant(), &ids, &lent(&gathered))?;
    Ok(())
}

/// Vectors that points are to lose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldVectors {
    points: Option<Vec<Id>>,
    filter: Option<Strict>,
    vector: Vec<String>,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
}

/// Takes vectors away.
///
/// # Errors
/// Those of filters and of the engine.
pub fn delete_vectors(
    call: &Call<'_>,
    collection: &Collection,
    given: OldVectors,
) -> Result<(), Refusal> {
    let own = |given: &String| name(given).to_owned();
    let names: Vec<String> = given.vector.iter().map(own).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let points = Points::of(call, given.points, given.filter.as_ref())?;
    with_which(call, &points, |which| collection.delete_vectors(which, &names))
}

/// Does `change` to points.
///
/// # Errors
/// Those of `change`.
pub fn with_which(
    call: &Call<'_>,
    points: &Points,
    change: impl FnOnce(Which<'_>) -> Result<u64, Error>,
) -> Result<(), Refusal> {
    match points {
        Points::Matching(ask) => change(Which::Matching(ask))?,
        Points::Ids(ids) => change(Which::Ids { tenant: call.caller.tenant(), ids: &plain(ids) })?,
    };
    Ok(())
}

/// `POST /collections/{collection}/points/delete`
pub fn post_delete(call: &Call<'_>) -> Answer {
    changed(call, delete)
}

/// `PUT /collections/{collection}/points/vectors`
pub fn put_vectors(call: &Call<'_>) -> Answer {
    changed(call, update_vectors)
}

/// `POST /collections/{collection}/points/vectors/delete`
pub fn post_delete_vectors(call: &Call<'_>) -> Answer {
    changed(call, delete_vectors)
}

/// Reads the body of a change, does it, and says which version has it.
pub fn changed<T: DeserializeOwned>(
    call: &Call<'_>,
    change: impl FnOnce(&Call<'_>, &Collection, T) -> Result<(), Refusal>,
) -> Answer {
    let given = body(call)?;
    call.waits()?;
    let collection = call.collection()?;
    change(call, &collection, given)?;
    completed(call, &collection)
}
