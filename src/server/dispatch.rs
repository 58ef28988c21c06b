//! From the headers of a request to its answer: route, key, body, collection, worker, in this order.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout_at;

use crate::engine::RecallFacts;
use crate::error::Error;
use crate::plan::cost::Way;
use crate::server::body::{self, Bodies, Form, Received};
use crate::server::cache::front::Front;
use crate::server::cache::proxy::{self, Asking};
use crate::server::call::{Call, Caller, parameter};
use crate::server::catalog::{Catalog, Entry};
use crate::server::fair::Turn;
use crate::server::keys;
use crate::server::keys::gate::{Gate, Head};
use crate::server::ledger::{Ledger, Page};
use crate::server::limits::{Deadlines, HEADER_BYTES, Limits, URI_BYTES};
use crate::server::metrics::{Gauges, TenantClass};
use crate::server::pace;
use crate::server::qdrant::numbers;
use crate::server::reply::{Answer, Refusal, Reply};
use crate::server::router::{self, Found, Handler, On, Route, Scope};
use crate::server::routes::ROUTES;
use crate::server::sent::Sent;
use crate::server::stages::{Stage, Stopwatch, Taken};
use crate::server::work::{Task, Work};

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
    /// How much is done at once.
    pub limits: Limits,
    /// Whether all collections were opened.
    pub is_ready: AtomicBool,
    /// Keys.
    pub gate: Gate,
    /// What is written down.
    pub ledger: Ledger,
    /// Caches, and the model server behind.
    pub front: Arc<Front>,
}

impl Shared {
    /// What is measured, as text.
    ///
    /// # Errors
    /// Those of reading collections.
    pub fn metrics_text(&self) -> Result<String, Error> {
        let entries = self.catalog.entries();
        let mut memory = BTreeMap::<&'static str, u64>::new();
        let mut recall = RecallFacts::default();
        for entry in &entries {
            let collection = entry.collection()?;
            for (part, n_bytes) in collection.facts()?.parts() {
                *memory.entry(part).or_default() += n_bytes;
            }
            recall += collection.recall_facts();
        }
        Ok(self.ledger.metrics().text(&Gauges {
            load: Some(self.work.load()),
            n_collections: entries.len() as u64,
            memory: memory.into_iter().collect(),
            is_degraded: self.gate.ring().trouble().is_some(),
            n_panics: self.work.n_incidents(),
            recall,
            cache: self.front.counts(),
        }))
    }
}

/// The answer to a request from this address.
pub async fn answer(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    address: IpAddr,
    began: Instant,
) -> Response<Sent> {
    let mut page = shared.ledger.page(request.method().as_str());
    let speech = router::speech(request.uri().path());
    let (parts, body) = request.into_parts();
    let mut body = Some(body);
    let mut response = match answered(shared, parts, &mut body, (address, began), &mut page).await {
        Ok(response) => {
            page.answered(response.status().as_u16(), None);
            response
        }
        Err(refusal) => {
            page.answered(refusal.status().as_u16(), Some(refusal.code()));
            refusal.response(speech, began)
        }
    };
    if let Some(unread) = body
        && !body::drained(unread).await
    {
        // What of it still comes must not be taken for the next request, and its sender must know that none is taken.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Ok(id) = HeaderValue::from_str(page.id()) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

async fn answered(
    shared: &Arc<Shared>,
    parts: Parts,
    body: &mut Option<Incoming>,
    (address, began): (IpAddr, Instant),
    page: &mut Page<'_>,
) -> Result<Response<Sent>, Refusal> {
    check_head(&parts)?;
    let (route, segments) = router::find(ROUTES, &parts.method, parts.uri.path())?;
    page.route = Some(route);
    let caller = admitted(shared, &parts, address, (route, &segments), page)?;
    let query = parts.uri.query().unwrap_or_default().to_owned();
    if route.scope == Scope::Open {
        // What says whether the server lives must not wait for a worker, and asks nothing of anybody.
        let job = Job::new((route, segments), query, caller, began);
        return job.run(shared, None).answer.map(Reply::response);
    }
    if let Handler::Upstream(endpoint) = route.handler {
        return proxy::answered(shared, Asking { parts, caller, endpoint, began }, body).await;
    }
    let form = body::check(&parts.headers, forms(route))?;
    let until = until(&query, began)?;
    let unread = body.take().expect("nothing else takes it");
    let body = shared.bodies.read(&parts.headers, unread, shared.deadlines.body).await?;
    let job = Job::new((route, segments), query, caller, began);
    let working = worked(shared, Job { body, form, until, ..job }, page);
    let Some(until) = until else { return working.await.map(Reply::response) };
    // What waits is forgotten; a worker that has begun ends its part, of which nobody is told.
    let answer = timeout_at(tokio::time::Instant::from_std(until), working).await;
    answer.unwrap_or_else(|_| Err(Refusal::timeout(began, until))).map(Reply::response)
}

/// What the body of a route may be; the first if nothing is said.
fn forms(route: &Route) -> &'static [Form] {
    match numbers::are_taken_by(route.method, route.path) {
        true => &[Form::Json, Form::Numbers],
        false => &[Form::Json],
    }
}

/// When the client does not wait any longer, if it says so.
fn until(query: &str, began: Instant) -> Result<Option<Instant>, Refusal> {
    let Some(text) = parameter(query, "timeout")? else { return Ok(None) };
    let seconds: Option<u64> = text.parse().ok().filter(|seconds| *seconds > 0);
    let seconds = seconds.ok_or_else(|| {
        let message = format!("query_invalid: timeout={text}, expected whole seconds from 1 on");
        Refusal::bad(message)
    })?;
    // What no clock can say is never.
    Ok(began.checked_add(Duration::from_secs(seconds)))
}

/// The answer of a worker, once there is one for it.
async fn worked(shared: &Arc<Shared>, mut job: Job, page: &mut Page<'_>) -> Answer {
    let (route, asks, own) = (job.found.0, job.caller.clone(), Arc::clone(shared));
    job.before.add(Stage::Body, job.began.elapsed().as_secs_f64());
    job.waits = Instant::now();
    let _place = shared.work.place(&asks)?;
    job.entry = entry(shared, route, &job.found.1)?;
    job.writing = match (&job.entry, route.on) {
        (Some(entry), On::Change) => Some(Arc::clone(&entry.writing).lock_owned().await),
        _ => None,
    };
    let name = page.collection.clone().unwrap_or_default();
    let is_plain = (route.on, route.scope) == (On::Collection, Scope::Read) && job.until.is_none();
    let task = Task { route: route.path, collection: &name, n_bytes: job.body.n_bytes(), is_plain };
    let suspect = job.entry.clone();
    let done = shared.work.run(&asks, task, move |turn| job.run(&own, Some(turn))).await;
    let done = done.inspect_err(|_| {
        // What panicked may have left it half-way: opening it anew checks it.
        suspect.iter().for_each(|entry| entry.close());
    })?;
    shared.work.learn(task, done.worked_s);
    (page.plan, page.class, page.taken) = (done.plan, done.class, Some(done.taken));
    done.answer
}

/// Who asks, before a byte of the body is read.
fn admitted(
    shared: &Shared,
    parts: &Parts,
    address: IpAddr,
    (route, segments): (&Route, &[(&'static str, String)]),
    page: &mut Page<'_>,
) -> Result<Caller, Refusal> {
    let named = segments.iter().find(|(name, _)| *name == "collection").map(|(_, name)| name);
    page.collection = named.map(|name| shared.catalog.meant(name));
    // Whether there is one is for the handler to say, as of one that is there for nobody.
    let is_asked = (route.on, route.scope) == (On::Name, Scope::Read);
    let head = Head {
        headers: &parts.headers,
        uri: &parts.uri,
        address,
        need: route.scope.need(),
        collection: page.collection.as_deref().filter(|_| !is_asked),
    };
    match shared.gate.admit(&head, shared.ledger.now()) {
        Ok(caller) => {
            page.admitted(&caller);
            Ok(caller)
        }
        Err(mut denied) => {
            page.denied(&denied);
            if let Some(trouble) = shared.gate.ring().trouble() {
                shared.ledger.note(&format!("keys cannot be read: {trouble}"));
            }
            if let (404, Some(name)) = (denied.refusal.status, named) {
                // By the name that it was asked for.
                denied.refusal = keys::refusal::Refusal::collection_not_found(name);
            }
            Err(Refusal::from(denied.refusal).closing())
        }
    }
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
    form: Form,
    entry: Option<Arc<Entry>>,
    writing: Option<OwnedMutexGuard<()>>,
    /// When it came.
    began: Instant,
    /// When it began to wait for a worker.
    waits: Instant,
    /// When its client does not wait any longer.
    until: Option<Instant>,
    /// What it took until it began to wait.
    before: Taken,
}

/// What a worker did.
struct Done {
    answer: Answer,
    plan: Option<Way>,
    class: Option<TenantClass>,
    worked_s: f64,
    taken: Taken,
}

impl Done {
    /// Of a body that cannot be read.
    fn refused(refusal: Refusal, turn: Option<&Turn>, watch: &Stopwatch) -> Self {
        let worked_s = turn.map_or(0.0, Turn::worked_s);
        let (answer, taken) = (Err(refusal), watch.taken());
        Self { answer, plan: None, class: None, worked_s, taken }
    }
}

impl Job {
    /// Of a request without a body, for no collection.
    fn new(found: Found, query: String, caller: Caller, began: Instant) -> Self {
        let (body, form, entry, writing, until, before) = Default::default();
        Self {
            found,
            caller,
            query,
            body,
            form,
            entry,
            writing,
            began,
            waits: began,
            until,
            before,
        }
    }

    fn run(self, shared: &Shared, mut turn: Option<Turn>) -> Done {
        let (route, segments) = self.found;
        let mut before = self.before;
        before.add(Stage::Queue, self.waits.elapsed().as_secs_f64());
        let watch = Stopwatch::new(self.began, before);
        let body = match pace::read(&mut turn, &watch, || self.body.expanded()) {
            Ok(body) => body,
            Err(refusal) => return Done::refused(refusal, turn.as_ref(), &watch),
        };
        let (body, _lent) = match watch.time(Stage::Parse, || self.form.read(&body)) {
            Ok((head, lent)) => (head, lent),
            Err(error) => return Done::refused(error.into(), turn.as_ref(), &watch),
        };
        let call = Call {
            shared,
            catalog: &shared.catalog,
            entry: self.entry.as_deref(),
            caller: &self.caller,
            segments: &segments,
            query: &self.query,
            body,
            is_ready: shared.is_ready.load(Ordering::Relaxed),
            began: self.began,
            turn: RefCell::new(turn),
            plan: Cell::new(None),
            watch,
            until: self.until,
        };
        let answer = match route.handler {
            Handler::Worker(handler) => handler(&call),
            Handler::Upstream(_) => unreachable!("no worker is taken for it"),
        };
        if self.writing.is_some() {
            call.entry().mark_changed();
        }
        let worked_s = call.turn.borrow().as_ref().map_or(0.0, Turn::worked_s);
        let taken = call.watch.taken();
        Done { answer, plan: call.plan.get(), class: class(&call), worked_s, taken }
    }
}

/// How large the tenant of a request is, where it asks a collection.
fn class(call: &Call<'_>) -> Option<TenantClass> {
    let tenant = call.caller.tenant()?;
    let n_points = call.entry?.collection().and_then(|own| own.count_of_tenant(tenant));
    // What cannot be counted is not there any more.
    Some(TenantClass::new(Some(n_points.unwrap_or(0))))
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
    Ok(())
}
