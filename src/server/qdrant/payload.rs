//! Payloads of points that are there.

use serde::Deserialize;

use crate::engine::Collection;
use crate::server::call::Call;
use crate::server::qdrant::id::Id;
use crate::server::qdrant::json::{NotOffered, Strict, StrictMap};
use crate::server::qdrant::points::{Selected, changed, with_which};
use crate::server::qdrant::rights;
use crate::server::qdrant::select::Points;
use crate::server::reply::{Answer, Refusal};
use crate::store::columns::path::Path;

/// Keys that payloads get.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPayload {
    payload: StrictMap,
    points: Option<Vec<Id>>,
    filter: Option<Strict>,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
    key: Option<String>,
}

/// Keys that payloads lose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldKeys {
    keys: Vec<String>,
    points: Option<Vec<Id>>,
    filter: Option<Strict>,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
}

/// Gives payloads keys, at a path if there is one.
///
/// # Errors
/// Those of `rights`, of paths, filters and of the engine.
pub fn set(call: &Call<'_>, collection: &Collection, given: NewPayload) -> Result<(), Refusal> {
    let at: Option<Path> = given.key.as_deref().map(str::parse).transpose()?;
    rights::check_set(call.caller, collection, &given.payload.0, at.as_ref())?;
    let points = Points::of(call, given.points, given.filter.as_ref())?;
    let payload = given.payload.value();
    with_which(call, &points, |which| collection.set_payload(which, &payload, at.as_ref()))
}

/// Gives points another payload.
///
/// # Errors
/// Those of `rights`, of filters and of the engine.
pub fn overwrite(
    call: &Call<'_>,
    collection: &Collection,
    given: NewPayload,
) -> Result<(), Refusal> {
    if given.key.is_some() {
        return set(call, collection, given);
    }
    let points = Points::of(call, given.points, given.filter.as_ref())?;
    let mut payload = given.payload.value();
    rights::name_tenant(call.caller, collection, &mut payload)?;
    with_which(call, &points, |which| collection.overwrite_payload(which, &payload))
}

/// Takes keys away.
///
/// # Errors
/// Those of `rights`, of paths, filters and of the engine.
pub fn delete_keys(
    call: &Call<'_>,
    collection: &Collection,
    given: OldKeys,
) -> Result<(), Refusal> {
    let paths: Vec<Path> =
        given.keys.iter().map(|key| key.parse()).collect::<crate::error::Result<_>>()?;
    rights::check_deleted(call.caller, collection, &paths)?;
    let points = Points::of(call, given.points, given.filter.as_ref())?;
    with_which(call, &points, |which| collection.delete_payload_keys(which, &paths))
}

/// Leaves points an empty payload; for a tenant one that names it.
///
/// # Errors
/// Those of `rights`, of filters and of the engine.
pub fn clear(call: &Call<'_>, collection: &Collection, given: Selected) -> Result<(), Refusal> {
    let points = given.points(call)?;
    let mut payload = StrictMap::default().value();
    rights::name_tenant(call.caller, collection, &mut payload)?;
    with_which(call, &points, |which| collection.overwrite_payload(which, &payload))
}

/// `POST /collections/{collection}/points/payload`
pub fn post(call: &Call<'_>) -> Answer {
    changed(call, set)
}

/// `PUT /collections/{collection}/points/payload`
pub fn put(call: &Call<'_>) -> Answer {
    changed(call, overwrite)
}

/// `POST /collections/{collection}/points/payload/delete`
pub fn post_delete(call: &Call<'_>) -> Answer {
    changed(call, delete_keys)
}

/// `POST /collections/{collection}/points/payload/clear`
pub fn post_clear(call: &Call<'_>) -> Answer {
    changed(call, clear)
}
