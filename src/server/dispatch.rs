//! From the headers of a request to its answer: route, key, body, collection, worker, in this order.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use tokio::sync::OwnedMutexGuard;

use crate::server::body::{self, Bodies, Received};
use crate::server::call::{Call, Caller};
use crate::server::catalog::{Catalog, Entry};
use crate::server::limits::{Deadlines, HEADER_BYTES, URI_BYTES};
use crate::server::reply::{Answer, Refusal};
use crate::server::router::{self, Found, On, Route, Scope};
use crate::server::routes::ROUTES;
use crate::server::work::Work;

/// What all requests share.
pub struct Shared {
    /// Collections.
    pub catalog: Arc<Catalog>,
    /// Workers.
    pub work: Work,
    /// Memory for bodies.
    pub bodies: Bodies,
    /// How long is waited for what.
    pub deadlines: Deadlines,
    /// Whether all collections were opened.
    pub is_ready: AtomicBool,
}

/// The answer to a request.
pub async fn answer(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    began: Instant,
) -> Response<Full<Bytes>> {
    match answered(shared, request, began).await {
        Ok(reply) => reply.response(),
        Err(refusal) => refusal.response(began),
    }
}

async fn answered(shared: &Arc<Shared>, request: Request<Incoming>, began: Instant) -> Answer {
    let (parts, body) = request.into_parts();
    check_head(&parts)?;
    let (route, segments) = router::find(ROUTES, &parts.method, parts.uri.path())?;
    let is_ready = shared.is_ready.load(Ordering::Relaxed);
    let query = parts.uri.query().unwrap_or_default().to_owned();
    if route.scope == Scope::Open {
        // What says whether the server lives must not wait for a worker, and asks nothing of anybody.
        let job = Job::new((route, segments), query, began);
        return job.run(&shared.catalog, is_ready);
    }
    // Keys come here: before the body.
    let caller = Caller::default();
    body::check(&parts.headers)?;
    let body = shared.bodies.read(&parts.headers, body, shared.deadlines.body).await?;
    let place = shared.work.place()?;
    let entry = entry(shared, route, &segments)?;
    let writing = match (&entry, route.on) {
        (Some(entry), On::Change) => Some(Arc::clone(&entry.writing).lock_owned().await),
        _ => None,
    };
    let job = Job::new((route, segments), query, began);
    let job = Job { caller, body, entry, writing, ..job };
    let (own, suspect) = (Arc::clone(shared), job.entry.clone());
    let done = shared.work.run(place, move || job.run(&own.catalog, is_ready)).await;
    done.unwrap_or_else(|incident| {
        // What panicked may have left it half-way: opening it anew checks it.
        suspect.iter().for_each(|entry| entry.close());
        Err(incident)
    })
}

/// The collection that a route is of.
fn entry(
    shared: &Shared,
    route: &Route,
    segments: &[(&str, String)],
) -> Result<Option<Arc<Entry>>, Refusal> {
    let name = segments.iter().find(|(name, _)| *name == "collection");
    match (route.on, name) {
        (On::Collection | On::Change, Some((_, name))) => Ok(Some(shared.catalog.entry(name)?)),
        _ => Ok(None),
    }
}

/// All that a worker needs.
struct Job {
    found: Found,
    caller: Caller,
    query: String,
    body: Received,
    entry: Option<Arc<Entry>>,
    writing: Option<OwnedMutexGuard<()>>,
    began: Instant,
}

impl Job {
    /// Of a request without a body, by anyone, for no collection.
    fn new(found: Found, query: String, began: Instant) -> Self {
        let (caller, body) = (Caller::default(), Received::default());
        Self { found, caller, query, body, entry: None, writing: None, began }
    }

    fn run(self, catalog: &Catalog, is_ready: bool) -> Answer {
        let (route, segments) = self.found;
        let body = self.body.expanded()?;
        let call = Call {
            catalog,
            entry: self.entry.as_deref(),
            caller: &self.caller,
            segments: &segments,
            query: &self.query,
            body: &body,
            is_ready,
            began: self.began,
        };
        let answer = (route.handler)(&call);
        if self.writing.is_some() {
            call.entry().mark_changed();
        }
        answer
    }
}

/// Fails for a head that no client of ours sends.
fn check_head(parts: &Parts) -> Result<(), Refusal> {
    let n_bytes = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    if n_bytes > URI_BYTES {
        let message = format!("uri_length: {n_bytes} bytes, limit {URI_BYTES}");
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, message).closing());
    }
    let bytes_of = |headers: &HeaderMap| -> usize {
        headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
    };
    let n_bytes = bytes_of(&parts.headers);
    if n_bytes > HEADER_BYTES {
        let message = format!("header_size: {n_bytes} bytes, limit {HEADER_BYTES}");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Refusal::new(status, message).closing());
    }
    check_origin(&parts.headers)
}

/// Fails for a request that a page of another site lets its reader's browser send; also if that site's name leads here, which
/// is why names other than that of this machine are not taken from pages.
fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let origin =
        text(origin).and_then(|origin| origin.split_once("://").map(|(_, at)| at.to_owned()));
    let host = headers.get(HOST).and_then(text);
    let is_here = |host: &String| {
        let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || address.parse::<IpAddr>().is_ok()
    };
    if host.is_some() && host == origin && host.as_ref().is_some_and(is_here) {
        return Ok(());
    }
    let message = "origin_foreign: pages of other sites may not ask";
    Err(Refusal::new(StatusCode::FORBIDDEN, message).closing())
}
