//! Answers with the headers that say where they are from.

use std::time::Duration;

use hyper::header::{AGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::server::cache::control::{
    Outcome, X_CACHE, X_CACHE_ENTRY, X_CACHE_REASON, X_CACHE_SIMILARITY, X_CACHE_TOKENS,
};
use crate::server::cache::front::Found;
use crate::server::cache::identity::Asked;
use crate::server::cache::kept::n_tokens;
use crate::server::cache::replay::{self, Fresh};
use crate::server::cache::upstream::passed_on;
use crate::server::sent::Sent;

/// An answer given again.
pub fn again(asked: &Asked, answer: &Value, fresh: &Fresh) -> Response<Sent> {
    let (kind, bytes) = if asked.is_stream {
        let bytes = replay::streamed(asked.endpoint, answer, fresh, asked.with_usage);
        ("text/event-stream; charset=utf-8", bytes)
    } else {
        ("application/json", replay::whole(asked.endpoint, answer, fresh))
    };
    let mut response = Response::new(Sent::whole(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    put(headers, X_CACHE_TOKENS, &n_tokens(answer).to_string());
    response
}

/// Says how near the entry was: for whom it is no secret.
pub fn tell_entry(headers: &mut HeaderMap, found: &Found) {
    put(headers, X_CACHE_SIMILARITY, &format!("{:.4}", found.similarity));
    put(headers, X_CACHE_ENTRY, &found.entry.to_string());
}

/// Says where an answer is from, and how old it is.
pub fn tell(headers: &mut HeaderMap, outcome: Outcome, reason: &str, age: Option<Duration>) {
    put(headers, X_CACHE, outcome.word());
    put(headers, X_CACHE_REASON, reason);
    if let Some(age) = age {
        put(headers, AGE, &age.as_secs().to_string());
    }
}

/// An answer of the model server, as it is passed on.
pub fn passed(status: StatusCode, headers: &HeaderMap, body: Sent) -> Response<Sent> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = passed_on(headers);
    response
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
