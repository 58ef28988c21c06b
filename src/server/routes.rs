//! Every route of the server.

use hyper::StatusCode;
use serde_json::json;

use crate::server::cache::identity::Endpoint;
use crate::server::cache::{inserts, langcache, lookups, manage};
use crate::server::call::Call;
use crate::server::qdrant::{
    aliases, batch, collections, explain, indexes, payload, points, queries, read, search, stats,
    upsert,
};
use crate::server::reply::{Answer, Refusal, Reply};
use crate::server::router::{Handler, On, Route, Scope};
use crate::server::{openapi, ui};

/// The version of that API's servers that clients compare with their own.
const SPOKEN_VERSION: &str = "1.18.0";

const fn route(
    method: &'static str,
    path: &'static str,
    (scope, on): (Scope, On),
    handler: fn(&Call<'_>) -> Answer,
) -> Route {
    Route { method, path, scope, on, handler: Handler::Worker(handler) }
}

/// A route that is answered from memory, or by the model server behind.
const fn proxied(
    method: &'static str,
    path: &'static str,
    scope: Scope,
    endpoint: Option<Endpoint>,
) -> Route {
    Route { method, path, scope, on: On::Server, handler: Handler::Upstream(endpoint) }
}

const OPEN: (Scope, On) = (Scope::Open, On::Server);
const LIST: (Scope, On) = (Scope::Read, On::Server);
const NAME: (Scope, On) = (Scope::Read, On::Name);
const READ: (Scope, On) = (Scope::Read, On::Collection);
const WRITE: (Scope, On) = (Scope::Write, On::Change);
const ADMIN: (Scope, On) = (Scope::Admin, On::Change);
const STATS: (Scope, On) = (Scope::Admin, On::Collection);
const MAKE: (Scope, On) = (Scope::Admin, On::Name);
const ADMIN_ALL: (Scope, On) = (Scope::Admin, On::Server);
const WRITE_ALL: (Scope, On) = (Scope::Write, On::Server);

/// All routes; of two that fit a path the first is taken.
pub const ROUTES: &[Route] = &[
    route("GET", "/", (Scope::Any, On::Server), root),
    route("GET", "/healthz", OPEN, healthz),
    route("GET", "/livez", OPEN, healthz),
    route("GET", "/readyz", OPEN, readyz),
    route("GET", "/metrics", (Scope::Metrics, On::Server), metrics),
    route("GET", "/openapi.json", OPEN, openapi::document),
    route("GET", "/ui", OPEN, ui::page),
    route("GET", "/ui/page.css", OPEN, ui::style),
    route("GET", "/ui/page.js", OPEN, ui::script),
    route("GET", "/ui/draw.js", OPEN, ui::drawing),
    route("GET", "/ui/cache.js", OPEN, ui::caches),
    route("GET", "/collections", LIST, collections::list),
    route("GET", "/aliases", LIST, aliases::list),
    route("POST", "/collections/aliases", ADMIN_ALL, aliases::change),
    route("PUT", "/collections/{collection}", MAKE, collections::create),
    route("PATCH", "/collections/{collection}", ADMIN, collections::update),
    route("GET", "/collections/{collection}", READ, collections::show),
    route("DELETE", "/collections/{collection}", MAKE, collections::delete),
    route("GET", "/collections/{collection}/exists", NAME, collections::exists),
    route("GET", "/collections/{collection}/aliases", READ, aliases::of_collection),
    route("GET", "/collections/{collection}/stats", STATS, stats::stats),
    route("PUT", "/collections/{collection}/index", ADMIN, indexes::create),
    route("DELETE", "/collections/{collection}/index/{field}", ADMIN, indexes::delete),
    route("PUT", "/collections/{collection}/vectors/{vector}", ADMIN, no_vector_names),
    route("DELETE", "/collections/{collection}/vectors/{vector}", ADMIN, no_vector_names),
    route("PUT", "/collections/{collection}/points", WRITE, upsert::put),
    route("POST", "/collections/{collection}/points", READ, read::retrieve),
    route("POST", "/collections/{collection}/points/batch", WRITE, batch::batch),
    route("POST", "/collections/{collection}/points/delete", WRITE, points::post_delete),
    route("POST", "/collections/{collection}/points/scroll", READ, read::scroll),
    route("POST", "/collections/{collection}/points/count", READ, read::count),
    route("POST", "/collections/{collection}/points/payload", WRITE, payload::post),
    route("PUT", "/collections/{collection}/points/payload", WRITE, payload::put),
    route("POST", "/collections/{collection}/points/payload/delete", WRITE, payload::post_delete),
    route("POST", "/collections/{collection}/points/payload/clear", WRITE, payload::post_clear),
    route("PUT", "/collections/{collection}/points/vectors", WRITE, points::put_vectors),
    route(
        "POST",
        "/collections/{collection}/points/vectors/delete",
        WRITE,
        points::post_delete_vectors,
    ),
    route("POST", "/collections/{collection}/points/search", READ, search::search),
    route("POST", "/collections/{collection}/points/search/batch", READ, search::batch),
    route("POST", "/collections/{collection}/points/search/groups", READ, queries::search_groups),
    route(
        "POST",
        "/collections/{collection}/points/search/matrix/pairs",
        READ,
        queries::matrix_pairs,
    ),
    route(
        "POST",
        "/collections/{collection}/points/search/matrix/offsets",
        READ,
        queries::matrix_offsets,
    ),
    route("POST", "/collections/{collection}/points/explain", READ, explain::explain),
    route("POST", "/collections/{collection}/points/query", READ, queries::query),
    route("POST", "/collections/{collection}/points/query/batch", READ, queries::batch),
    route("POST", "/collections/{collection}/points/query/groups", READ, queries::groups),
    route("POST", "/collections/{collection}/points/recommend", READ, queries::recommend),
    route(
        "POST",
        "/collections/{collection}/points/recommend/batch",
        READ,
        queries::recommend_batch,
    ),
    route(
        "POST",
        "/collections/{collection}/points/recommend/groups",
        READ,
        queries::recommend_groups,
    ),
    route("POST", "/collections/{collection}/points/discover", READ, queries::discover),
    route("POST", "/collections/{collection}/points/discover/batch", READ, queries::discover_batch),
    route("GET", "/collections/{collection}/points/{id}", READ, read::one),
    route("POST", "/collections/{collection}/facet", READ, read::facet),
    route("PUT", "/collections/{collection}/shards", ADMIN, no_shards),
    route("POST", "/collections/{collection}/shards/delete", ADMIN, no_shards),
    route("GET", "/collections/{collection}/cluster", READ, no_cluster),
    route("POST", "/collections/{collection}/cluster", ADMIN, no_cluster),
    route("GET", "/cluster", LIST, no_cluster),
    route("GET", "/snapshots", LIST, no_snapshots),
    route("POST", "/snapshots", ADMIN_ALL, no_snapshots),
    route("GET", "/collections/{collection}/snapshots", READ, no_snapshots),
    route("POST", "/collections/{collection}/snapshots", ADMIN, no_snapshots),
    route("PUT", "/collections/{collection}/snapshots/recover", ADMIN, no_snapshots),
    route("GET", "/v1/cache", ADMIN_ALL, manage::list),
    route("PUT", "/v1/cache/{cache}", ADMIN_ALL, manage::create),
    route("POST", "/v1/cache/{cache}/lookup", LIST, lookups::lookup),
    route("POST", "/v1/cache/{cache}/insert", WRITE_ALL, inserts::insert),
    route("POST", "/v1/cache/{cache}/invalidate", WRITE_ALL, manage::invalidate),
    route("POST", "/v1/cache/{cache}/explain", ADMIN_ALL, lookups::explain),
    route("POST", "/v1/cache/{cache}/load", ADMIN_ALL, manage::load),
    route("GET", "/v1/cache/{cache}/stats", ADMIN_ALL, manage::stats),
    route("GET", "/v1/cache/{cache}/policy", ADMIN_ALL, manage::policy),
    route("GET", "/v1/cache/{cache}/decisions", ADMIN_ALL, manage::decisions),
    route("POST", "/v1/caches/{cache}/entries/search", LIST, langcache::search),
    route("POST", "/v1/caches/{cache}/conversations/search", LIST, langcache::search_conversation),
    route("POST", "/v1/caches/{cache}/entries", WRITE_ALL, langcache::store),
    route("DELETE", "/v1/caches/{cache}/entries", WRITE_ALL, langcache::delete_by_attributes),
    route("DELETE", "/v1/caches/{cache}/entries/{entry}", WRITE_ALL, langcache::delete),
    route("POST", "/v1/caches/{cache}/flush", WRITE_ALL, langcache::flush),
    proxied("POST", "/v1/chat/completions", Scope::Read, Some(Endpoint::Chat)),
    proxied("POST", "/v1/completions", Scope::Read, Some(Endpoint::Completions)),
    proxied("POST", "/v1/responses", Scope::Read, Some(Endpoint::Responses)),
    proxied("POST", "/v1/embeddings", Scope::Read, Some(Endpoint::Embeddings)),
    proxied("GET", "/v1/{+path}", Scope::Read, None),
    proxied("POST", "/v1/{+path}", Scope::Write, None),
    proxied("DELETE", "/v1/{+path}", Scope::Write, None),
];

/// Method, path and scope of every route: what tests of keys go through.
pub fn listed() -> impl Iterator<Item = (&'static str, &'static str, Scope)> {
    ROUTES.iter().map(|route| (route.method, route.path, route.scope))
}

fn root(_: &Call<'_>) -> Answer {
    let version = env!("CARGO_PKG_VERSION");
    Reply::json(&json!({
        "title": "qdrant - vector search engine",
        "version": SPOKEN_VERSION,
        "server": {"name": "nearkin", "version": version},
    }))
}

fn healthz(_: &Call<'_>) -> Answer {
    Ok(Reply::text("healthz check passed"))
}

fn readyz(call: &Call<'_>) -> Answer {
    if call.is_ready {
        return Ok(Reply::text("all collections are ready"));
    }
    let message = "opening: collections are being opened";
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message))
}

fn metrics(call: &Call<'_>) -> Answer {
    Ok(Reply::text(call.shared.metrics_text()?))
}

fn no_shards(_: &Call<'_>) -> Answer {
    Err(Refusal::not_offered("shards: a collection lies on one machine"))
}

fn no_cluster(_: &Call<'_>) -> Answer {
    Err(Refusal::not_offered("clusters: this server is one machine"))
}

fn no_snapshots(_: &Call<'_>) -> Answer {
    Err(Refusal::not_offered(
        "snapshots over HTTP: `nearkin snapshot` and `nearkin restore` make them",
    ))
}

fn no_vector_names(_: &Call<'_>) -> Answer {
    Err(Refusal::not_offered("vectors of a collection are named when it is made"))
}
