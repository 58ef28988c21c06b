//! A request for the model: answered from memory, or by the model server behind and then remembered.
//!
//! Memory is asked by a worker; while the model thinks, none is held. Whatever goes wrong with memory, the request goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use crate::cache::flight::Seat;
use crate::server::body::{self, Form, Held};
use crate::server::cache::arrived::{Arrived, arrived};
use crate::server::cache::control::{Control, Outcome, X_CACHE};
use crate::server::cache::flight::{Lead, Waited, waited};
use crate::server::cache::front::{Found, Looked, Missed, Told};
use crate::server::cache::identity::{self, Endpoint, Reach};
use crate::server::cache::question::Question;
use crate::server::cache::recorded::{Keeping, Recorded};
use crate::server::cache::remember::Remembering;
use crate::server::cache::stream::Recorder;
use crate::server::cache::told;
use crate::server::cache::upstream::{Arriving, Forwarded, Upstream};
use crate::server::call::Caller;
use crate::server::dispatch::Shared;
use crate::server::limits::ANSWER_BYTES;
use crate::server::qdrant::json::StrictMap;
use crate::server::reply::Refusal;
use crate::server::sent::Sent;
use crate::server::work::Task;

/// Leaders of equal requests that are waited for, one after the other, before a request asks for itself.
const LEADERS: usize = 2;

/// A request whose key was checked.
pub struct Asking {
    /// Its head.
    pub parts: Parts,
    /// Who asks.
    pub caller: Caller,
    /// Where answers are remembered; nothing where they only pass through.
    pub endpoint: Option<Endpoint>,
    /// When it came.
    pub began: Instant,
}

/// A request whose body was read.
struct Read<'a> {
    shared: &'a Arc<Shared>,
    upstream: &'a Upstream,
    asking: Asking,
    body: Bytes,
    _held: Held,
}

/// The answer to a request for the model.
///
/// # Errors
/// `no_upstream`; those of the body, of headers, and of the model server.
pub async fn answered(
    shared: &Arc<Shared>,
    asking: Asking,
    unread: &mut Option<Incoming>,
) -> Result<Response<Sent>, Refusal> {
    let path = asking.parts.uri.path();
    if path.starts_with("/v1/cache/") || path.starts_with("/v1/caches/") {
        let message = "route_unknown: there is nothing at this path";
        return Err(Refusal::new(StatusCode::NOT_FOUND, message));
    }
    let upstream = shared.front.upstream()?;
    let (headers, endpoint) = (&asking.parts.headers, asking.endpoint);
    if endpoint.is_some() {
        body::check(headers, &[Form::Json])?;
    }
    let unread = unread.take().expect("nothing else takes it");
    let received = shared.bodies.read(headers, unread, shared.deadlines.body).await?;
    let (body, held) = received.held()?;
    let read = Read { shared, upstream, asking, body: body.into(), _held: held };
    match endpoint {
        Some(endpoint) => read.cached(endpoint).await,
        None => {
            let (head, arriving) = read.sent().await?.into_parts();
            Ok(told::passed(head.status, &head.headers, Sent::pieces(arriving)))
        }
    }
}

impl Read<'_> {
    /// Sends it to the model server.
    async fn sent(&self) -> Result<Response<Arriving>, Refusal> {
        let Parts { method, uri, headers, .. } = &self.asking.parts;
        let path = uri.path_and_query().map_or(uri.path(), |path| path.as_str());
        let with_key = self.asking.caller.key().is_none() && headers.contains_key(AUTHORIZATION);
        let body = self.body.clone();
        self.upstream.send(&Forwarded { method, path, headers, with_key, body }).await
    }

    async fn cached(&self, endpoint: Endpoint) -> Result<Response<Sent>, Refusal> {
        let control = Control::read(&self.asking.parts.headers)?;
        let body = serde_json::from_slice::<StrictMap>(&self.body).ok();
        let asked = body.and_then(|body| identity::asked(endpoint, &control.namespace, &body.0));
        let Some(asked) = asked else {
            // What is wrong with it is for the model server to say.
            if control.only_if_cached {
                return Err(not_cached("unreadable"));
            }
            self.shared.front.count(Outcome::Bypass);
            return self.passed("unreadable").await;
        };
        let question = Arc::new(Question { asked, control, caller: self.asking.caller.clone() });
        match question.asked.reach {
            Reach::Nothing(why) => self.bypassed(why, &question).await,
            Reach::Meaning | Reach::Exact(_) => self.asked(question).await,
        }
    }

    async fn asked(&self, question: Arc<Question>) -> Result<Response<Sent>, Refusal> {
        let control = &question.control;
        for _ in 0..LEADERS {
            let missed = match self.looked(&question).await {
                Looked::Found(found) => return Ok(self.found(&question, *found)),
                Looked::Missed(missed) => missed,
            };
            if missed.is_off {
                return self.bypassed(missed.reason, &question).await;
            }
            if control.only_if_cached {
                return Err(not_cached(missed.reason));
            }
            if control.no_cache || control.no_store {
                return self.led(question, missed, None).await;
            }
            match self.shared.front.flights().join(question.flight()) {
                Seat::Leader(lead) => return self.led(question, missed, Some(lead)).await,
                Seat::Waiter(waiter) => {
                    match waited(waiter, self.shared.front.waits().equal).await {
                        Waited::Answer(answer) => return Ok(self.coalesced(&question, &answer)),
                        Waited::Nothing => {}
                        Waited::Late => return self.led(question, missed, None).await,
                    }
                }
            }
        }
        // Whoever led had no answer for others: this request's own may be none either, and is not waited for.
        self.led(question, Missed::of("equal_failed"), None).await
    }

    /// Asks memory.
    async fn looked(&self, question: &Arc<Question>) -> Looked {
        let front = &self.shared.front;
        let mut why_no_vector = None;
        let mut vector = None;
        let began = Instant::now();
        if question.is_by_meaning() {
            match front.vectors().of(vec![question.asked.text.clone()]).await {
                Ok(mut made) => vector = made.pop().flatten(),
                Err(why) => {
                    front.failed_open(&self.shared.ledger, why);
                    why_no_vector = Some(why);
                }
            }
        }
        if question.control.no_cache {
            return Looked::Missed(Missed { vector, ..Missed::of("no_cache") });
        }
        let asked = self.ask(question, vector.clone(), began.elapsed()).await;
        let looked = asked.unwrap_or_else(|why| {
            front.failed_open(&self.shared.ledger, why);
            Looked::Missed(Missed::of(why))
        });
        match looked {
            Looked::Missed(missed) => {
                let reason = why_no_vector.unwrap_or(missed.reason);
                Looked::Missed(Missed { vector, reason, ..missed })
            }
            found => found,
        }
    }

    /// Asks memory, on a worker.
    async fn ask(
        &self,
        question: &Arc<Question>,
        vector: Option<Vec<f32>>,
        embed_took: Duration,
    ) -> Result<Looked, &'static str> {
        let work = &self.shared.work;
        let caller = &question.caller;
        let _place = work.place(caller).map_err(|_| "overloaded")?;
        let path = question.asked.endpoint.path();
        let task = Task { route: path, collection: "", n_bytes: self.body.len(), is_plain: false };
        let (front, own) = (Arc::clone(&self.shared.front), Arc::clone(question));
        let asked = work.run(caller, task, move |turn| {
            let looked = front.look(&own, vector.as_deref(), embed_took);
            (looked, turn.worked_s())
        });
        let (looked, worked_s) = asked.await.map_err(|_| "overloaded")?;
        work.learn(task, worked_s);
        looked.map_err(|error| {
            self.shared.ledger.note(&format!("a cache could not be asked: {error}"));
            "cache_down"
        })
    }

    /// The answer to a question that was answered before.
    fn found(&self, question: &Question, found: Found) -> Response<Sent> {
        let front = &self.shared.front;
        let fresh = front.fresh(self.shared.ledger.now());
        let mut response = told::again(&question.asked, &found.answer, &fresh);
        let outcome = if found.is_exact { Outcome::Hit } else { Outcome::HitSemantic };
        told::tell(response.headers_mut(), outcome, found.reason, Some(found.age));
        if question.is_trusted() {
            told::tell_entry(response.headers_mut(), &found);
        }
        let (similarity, threshold) = (Some(found.similarity), Some(found.threshold));
        let told = Told { reason: found.reason, similarity, threshold, stored: None };
        front.decided(question, outcome, told, self.shared.ledger.now());
        response
    }

    /// The answer to an equal question that was on its way.
    fn coalesced(&self, question: &Question, answer: &serde_json::Value) -> Response<Sent> {
        let front = &self.shared.front;
        let fresh = front.fresh(self.shared.ledger.now());
        let mut response = told::again(&question.asked, answer, &fresh);
        let (outcome, reason) = (Outcome::HitCoalesced, "exact");
        told::tell(response.headers_mut(), outcome, reason, Some(Duration::ZERO));
        let told = Told { reason, similarity: None, threshold: None, stored: None };
        front.decided(question, outcome, told, self.shared.ledger.now());
        response
    }

    /// The model's answer to a question that memory has nothing to do with.
    async fn bypassed(
        &self,
        reason: &'static str,
        question: &Question,
    ) -> Result<Response<Sent>, Refusal> {
        if question.control.only_if_cached {
            return Err(not_cached(reason));
        }
        let told = Told { reason, similarity: None, threshold: None, stored: None };
        self.shared.front.decided(question, Outcome::Bypass, told, self.shared.ledger.now());
        self.passed(reason).await
    }

    /// The model's answer as it comes.
    async fn passed(&self, reason: &str) -> Result<Response<Sent>, Refusal> {
        let (head, arriving) = self.sent().await?.into_parts();
        let mut response = told::passed(head.status, &head.headers, Sent::pieces(arriving));
        told::tell(response.headers_mut(), Outcome::Bypass, reason, None);
        Ok(response)
    }

    /// The model's answer, remembered if it may be.
    async fn led(
        &self,
        question: Arc<Question>,
        missed: Missed,
        lead: Option<Lead>,
    ) -> Result<Response<Sent>, Refusal> {
        let outcome = if question.control.no_cache { Outcome::Refresh } else { Outcome::Miss };
        let (endpoint, is_stream) = (question.asked.endpoint, question.asked.is_stream);
        let reason = missed.reason;
        let shared = Arc::clone(self.shared);
        let remembering = Remembering::new(shared, question, missed, lead, outcome);
        let (head, arriving) = match self.sent().await {
            Ok(response) => response.into_parts(),
            Err(refusal) => {
                remembering.nothing("upstream_failed");
                return Err(refusal.with(X_CACHE, outcome.word()));
            }
        };
        let body = if head.status != StatusCode::OK {
            remembering.nothing("upstream_status");
            Sent::pieces(arriving)
        } else if forbids(&head.headers) {
            remembering.nothing("upstream_no_store");
            Sent::pieces(arriving)
        } else if is_events(&head.headers) != is_stream {
            remembering.nothing("answer_form");
            Sent::pieces(arriving)
        } else if is_stream {
            let at_end = |answer| -> Keeping { Box::pin(remembering.keep(answer)) };
            Sent::pieces(Recorded::new(arriving, Recorder::new(endpoint), Box::new(at_end)))
        } else {
            let whole = whole(arriving, remembering).await;
            whole.map_err(|refusal| refusal.with(X_CACHE, outcome.word()))?
        };
        let mut response = told::passed(head.status, &head.headers, body);
        told::tell(response.headers_mut(), outcome, reason, None);
        Ok(response)
    }
}

/// An answer in one piece, remembered before it is passed on.
async fn whole(arriving: Arriving, remembering: Remembering) -> Result<Sent, Refusal> {
    match arrived(arriving, ANSWER_BYTES).await {
        Ok(Arrived::Whole(bytes)) => {
            let answer = serde_json::from_slice(&bytes).map_err(|_| "answer_unreadable");
            remembering.keep(answer).await;
            Ok(Sent::whole(bytes))
        }
        Ok(Arrived::Long(rest)) => {
            remembering.nothing("answer_size");
            Ok(Sent::pieces(rest))
        }
        Err(error) => {
            remembering.nothing("upstream_failed");
            let message = format!("upstream_unreachable: its answer was cut short: {error}");
            Err(Refusal::new(StatusCode::BAD_GATEWAY, message))
        }
    }
}

/// What is not known and may not be asked.
fn not_cached(reason: &str) -> Refusal {
    let message =
        format!("not_cached: no answer is known ({reason}), and only-if-cached forbids to ask");
    Refusal::new(StatusCode::GATEWAY_TIMEOUT, message).with(X_CACHE, Outcome::Miss.word())
}

fn is_events(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream")
}

/// Whether the model server says that its answer is not to be remembered.
fn forbids(headers: &HeaderMap) -> bool {
    let values = headers.get_all(hyper::header::CACHE_CONTROL);
    values.iter().any(|value| {
        value.to_str().is_ok_and(|text| {
            text.split(',').any(|own| own.trim().eq_ignore_ascii_case("no-store"))
        })
    })
}
