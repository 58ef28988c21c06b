//! What a key of a tenant may write: points that name the tenant and nobody else, and nothing in their place of others.
//!
//! What it may read and change is decided by the engine, for which a point of others is not there. Only storing must look here:
//! a point that is stored takes the place of one of the same id, and a payload says whose it is.

use hyper::StatusCode;
use serde_json::{Map, Value};

use crate::core::ids::PointId;
use crate::engine::{Collection, NewPoint, With, WithVectors};
use crate::server::call::Caller;
use crate::server::keys::refusal;
use crate::server::reply::Refusal;
use crate::store::columns::path::{Path, Step, elements};

/// Lets payloads of points to be stored name the tenant, and fails for those that name another or take the place of a point of
/// others: that an id is taken cannot be hidden from whoever wants to use it.
///
/// # Errors
/// `tenant_field`, `tenant_conflict`, `id_taken`.
pub fn check_stored(
    caller: &Caller,
    collection: &Collection,
    points: &mut [NewPoint],
) -> Result<(), Refusal> {
    let Some(tenant) = caller.tenant() else { return Ok(()) };
    for point in points.iter_mut() {
        name_tenant(caller, collection, &mut point.payload)?;
    }
    let ids: Vec<PointId> = points.iter().map(|point| point.id).collect();
    let nothing = With { payload: false, vectors: WithVectors::Nothing };
    let there = collection.retrieve(None, &ids, &nothing)?;
    let own = collection.retrieve(Some(tenant), &ids, &nothing)?;
    match there.iter().zip(&own).position(|(there, own)| there.is_some() && own.is_none()) {
        None => Ok(()),
        Some(i) => {
            let message = format!("id_taken: {} cannot be used, choose another", ids[i]);
            Err(Refusal::new(StatusCode::CONFLICT, message))
        }
    }
}

/// Fails for points that would bring a collection, or a tenant's part of it, to more than the key's quota.
///
/// # Errors
/// `quota_points`, 507.
pub fn check_quota(
    caller: &Caller,
    collection: &Collection,
    points: &[NewPoint],
) -> Result<(), Refusal> {
    let Some(limit) = caller.quotas().points else { return Ok(()) };
    let mut ids: Vec<PointId> = points.iter().map(|point| point.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let nothing = With { payload: false, vectors: WithVectors::Nothing };
    let there = collection.retrieve(caller.tenant(), &ids, &nothing)?;
    let n_new = there.iter().filter(|there| there.is_none()).count() as u64;
    let n_points = match caller.tenant() {
        Some(tenant) => collection.count_of_tenant(tenant)?,
        None => collection.n_points()?,
    };
    // Whoever is at the limit already may still replace what is there.
    if n_new == 0 || n_points + n_new <= limit {
        return Ok(());
    }
    Err(refusal::Refusal::points(n_points + n_new, limit).into())
}

/// Lets a whole payload name the tenant that the key is of.
///
/// # Errors
/// `tenant_field` if the collection has none, or none that can be filled in; `tenant_conflict` if the payload names others.
pub fn name_tenant(
    caller: &Caller,
    collection: &Collection,
    payload: &mut Value,
) -> Result<(), Refusal> {
    let Some(tenant) = caller.tenant() else { return Ok(()) };
    let settings = collection.settings();
    let Some(field) = &settings.tenant_field else {
        let message = "tenant_field: the collection has none, so a key of a tenant stores nothing";
        return Err(Refusal::new(StatusCode::FORBIDDEN, message));
    };
    let is_own = |value: &&Value| match value {
        Value::String(name) => name == tenant,
        Value::Number(number) => number.to_string() == tenant,
        _ => false,
    };
    let values = field.values(payload);
    let named: Vec<&Value> =
        elements(&values).into_iter().filter(|value| !value.is_null()).collect();
    match named.is_empty() {
        true => fill_in(payload, field, tenant),
        false if named.iter().all(is_own) => Ok(()),
        false => {
            let message = format!("tenant_conflict: {field} names another than the key's tenant");
            Err(Refusal::bad(message))
        }
    }
}

fn fill_in(payload: &mut Value, field: &Path, tenant: &str) -> Result<(), Refusal> {
    let mut at = payload;
    for step in field.steps() {
        let Step::Key(key) = step else {
            return Err(Refusal::bad(format!("tenant_field: the payload names nobody at {field}")));
        };
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else {
            return Err(Refusal::bad(format!("tenant_field: no place for a name at {field}")));
        };
        at = map.entry(key).or_insert(Value::Null);
    }
    *at = Value::String(tenant.to_owned());
    Ok(())
}

/// Fails for keys that would change whose points are.
///
/// # Errors
/// `tenant_conflict`.
pub fn check_set(
    caller: &Caller,
    collection: &Collection,
    keys: &Map<String, Value>,
    at: Option<&Path>,
) -> Result<(), Refusal> {
    let before = at.map_or(&[][..], Path::steps);
    let paths = keys.keys().map(|key| {
        let mut steps = before.to_vec();
        steps.push(Step::Key(key.clone()));
        steps
    });
    let all: Vec<Vec<Step>> = paths.collect();
    check_paths(caller, collection, all.iter().map(Vec::as_slice))
}

/// Fails for paths whose values say whose points are.
///
/// # Errors
/// `tenant_conflict`.
pub fn check_deleted(
    caller: &Caller,
    collection: &Collection,
    paths: &[Path],
) -> Result<(), Refusal> {
    check_paths(caller, collection, paths.iter().map(Path::steps))
}

fn check_paths<'p>(
    caller: &Caller,
    collection: &Collection,
    paths: impl Iterator<Item = &'p [Step]>,
) -> Result<(), Refusal> {
    let settings = collection.settings();
    let (Some(_), Some(field)) = (caller.tenant(), &settings.tenant_field) else { return Ok(()) };
    let field = field.steps();
    for path in paths {
        // Of two positions in an array one may be the other.
        let is_same = |(a, b): (&Step, &Step)| match (a, b) {
            (Step::Key(a), Step::Key(b)) => a == b,
            _ => true,
        };
        if path.iter().zip(field).all(is_same) {
            let message = "tenant_conflict: whose points are cannot be changed by a tenant's key";
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        }
    }
    Ok(())
}
