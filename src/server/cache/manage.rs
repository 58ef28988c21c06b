//! `/v1/cache` and what is done with a cache as a whole: made, emptied, shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::cache::{CacheSettings, EntryId, Invalidate, Reach, SemanticCache, Which};
use crate::server::cache::entries::cache;
use crate::server::cache::question::is_trusted;
use crate::server::cache::shape;
use crate::server::call::Call;
use crate::server::qdrant::json::body;
use crate::server::reply::{Answer, Refusal, Reply};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Removed {
    id: Option<u64>,
    tag: Option<String>,
    category: Option<String>,
    writer: Option<String>,
    attributes: Option<BTreeMap<String, String>>,
    user: Option<String>,
    model: Option<String>,
    all: Option<bool>,
    all_tenants: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reported {
    load: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    dim: Option<usize>,
    embedder: Option<String>,
}

/// `POST /v1/cache/{cache}/invalidate`
pub fn invalidate(call: &Call<'_>) -> Answer {
    let removed: Removed = body(call)?;
    let ways = [
        removed.id.map(|id| Which::Id(EntryId(id))),
        removed.tag.map(Which::Tag),
        removed.category.map(Which::Category),
        removed.writer.map(Which::Writer),
        removed.attributes.map(Which::Attributes),
        removed.user.map(Which::User),
        removed.model.map(|model| Which::Epoch { model: Some(model), compat: None }),
        (removed.all == Some(true)).then_some(Which::All),
    ];
    let mut ways = ways.into_iter().flatten();
    let (Some(which), None) = (ways.next(), ways.next()) else {
        let expected = "id, tag, category, writer, attributes, user, model or all";
        return Err(Refusal::bad(format!("invalidate: expected exactly one of {expected}")));
    };
    let of_all = removed.all_tenants == Some(true);
    if of_all && !is_trusted(call.caller) {
        let message = "all_tenants: this key is of a tenant, whose entries it may remove";
        return Err(Refusal::new(StatusCode::FORBIDDEN, message));
    }
    let reach = match of_all {
        true => Reach::AllTenants,
        false => Reach::Tenant(call.caller.tenant().unwrap_or_default().to_owned()),
    };
    let n_removed = cache(call, None)?.invalidate(&Invalidate { reach, which })?;
    Reply::result(&json!({"removed": n_removed}), call.began)
}

/// `PUT /v1/cache/{cache}`
pub fn create(call: &Call<'_>) -> Answer {
    let made: Made = body(call)?;
    let front = &call.shared.front;
    let settings = match (made.dim, made.embedder) {
        (None, None) => front.settings(),
        (Some(dim), embedder) => {
            CacheSettings { dim, embedder: embedder.unwrap_or_else(|| "given".into()) }
        }
        (None, Some(_)) => {
            return Err(Refusal::bad("dim: none, expected that of the embedder's vectors"));
        }
    };
    let name = call.segment("cache");
    if !call.caller.may_see(name) || front.caches().get(name).is_some() {
        let message = format!(
            "cache_exists: there is a cache {name:?} already, or its name is not for this key"
        );
        return Err(Refusal::new(StatusCode::CONFLICT, message));
    }
    front.caches().made(name, &settings)?;
    Reply::result(&true, call.began)
}

/// `GET /v1/cache`
pub fn list(call: &Call<'_>) -> Answer {
    let front = &call.shared.front;
    let names: Vec<String> =
        front.caches().names().into_iter().filter(|name| call.caller.may_see(name)).collect();
    Reply::result(&json!({"caches": names}), call.began)
}

/// `GET /v1/cache/{cache}/decisions`
pub fn decisions(call: &Call<'_>) -> Answer {
    existing(call)?;
    let latest = call.shared.front.decisions().latest(call.segment("cache"));
    Reply::result(&json!({"decisions": latest}), call.began)
}

/// `GET /v1/cache/{cache}/stats`
pub fn stats(call: &Call<'_>) -> Answer {
    let mut shown = shape::stats(&existing(call)?.stats());
    let front = &call.shared.front;
    if front.caches().policies().load.is_some() {
        shown["load_read"] = front.meter().shown();
    }
    Reply::result(&shown, call.began)
}

/// `POST /v1/cache/{cache}/load`: how loaded the models are, 0 to 1, for policies that follow it.
pub fn load(call: &Call<'_>) -> Answer {
    let reported: Reported = body(call)?;
    existing(call)?.load(reported.load)?;
    Reply::result(&true, call.began)
}

/// `GET /v1/cache/{cache}/policy`
pub fn policy(call: &Call<'_>) -> Answer {
    existing(call)?;
    Reply::result(&shape::policies(&call.shared.front.caches().policies()), call.began)
}

/// The cache that a route names, if there is one.
fn existing(call: &Call<'_>) -> Result<Arc<SemanticCache>, Refusal> {
    let name = call.segment("cache");
    let found = call.shared.front.caches().get(name).filter(|_| call.caller.may_see(name));
    found.ok_or_else(|| {
        let message = format!("cache_not_found: there is no cache {name:?}");
        Refusal::new(StatusCode::NOT_FOUND, message)
    })
}
