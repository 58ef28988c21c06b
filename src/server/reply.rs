//! What is answered: bodies in the form that Qdrant's clients read, and the status of every error.

use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::error::{Error, ErrorKind};
use crate::server::keys;

/// What a handler gives: an answer, or why there is none.
pub type Answer = Result<Reply, Refusal>;

/// A body with its type.
#[derive(Debug)]
pub struct Reply {
    content_type: &'static str,
    headers: &'static [(HeaderName, &'static str)],
    body: Bytes,
}

impl Reply {
    /// A result, as clients of Qdrant's REST expect it, with the seconds that it took.
    ///
    /// # Errors
    /// `json_unwritable` for what has no form in JSON.
    pub fn result(result: &impl Serialize, began: Instant) -> Answer {
        #[derive(Serialize)]
        struct Envelope<'r, T> {
            result: &'r T,
            status: &'static str,
            time: f64,
        }
        let envelope = Envelope { result, status: "ok", time: began.elapsed().as_secs_f64() };
        Self::json(&envelope)
    }

    /// Any JSON.
    ///
    /// # Errors
    /// `json_unwritable` for what has no form in JSON.
    pub fn json(value: &impl Serialize) -> Answer {
        let body = serde_json::to_vec(value).map_err(|error| {
            let message = format!("json_unwritable: {error}");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
        })?;
        Ok(Self { content_type: "application/json", headers: &[], body: body.into() })
    }

    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        let body = text.into().into();
        Self { content_type: "text/plain; charset=utf-8", headers: &[], body }
    }

    /// A file of ours for browsers, and what it may do there.
    pub fn file(
        content_type: &'static str,
        headers: &'static [(HeaderName, &'static str)],
        text: &'static str,
    ) -> Self {
        Self { content_type, headers, body: Bytes::from_static(text.as_bytes()) }
    }

    /// As it is sent.
    pub fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        let content_type = HeaderValue::from_static(self.content_type);
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        for (name, value) in self.headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// A request that is not answered, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    message: String,
    headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    /// A refusal; the message is `code: what was expected and received`.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), headers: Vec::new() }
    }

    /// A request that cannot be meant.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Something of that API that this server has not.
    pub fn not_offered(what: &str) -> Self {
        Self::bad(format!("not_offered: {what}"))
    }

    /// It took longer than its client wanted to wait.
    pub fn timeout(began: Instant, until: Instant) -> Self {
        let seconds = until.saturating_duration_since(began).as_secs();
        let message = format!("timeout: not answered within {seconds} s, as was asked");
        Self::new(StatusCode::REQUEST_TIMEOUT, message)
    }

    /// The same, with a header.
    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same, after which the connection is closed: the body was not read.
    pub fn closing(self) -> Self {
        self.with(CONNECTION, "close")
    }

    /// The same, with the place that it was found in before its message.
    pub fn within(self, place: &str) -> Self {
        let message = match self.message.split_once(": ") {
            Some((code, rest)) => format!("{code}: {place}: {rest}"),
            None => format!("{place}: {}", self.message),
        };
        Self { message, ..self }
    }

    /// The stable word that the message begins with.
    pub fn code(&self) -> &str {
        self.message.split(':').next().unwrap_or_default()
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// As it is sent.
    pub fn response(&self, began: Instant) -> Response<Full<Bytes>> {
        let time = began.elapsed().as_secs_f64();
        let body = json!({"status": {"error": self.message}, "time": time}).to_string();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::new(status(&error), error.to_string())
    }
}

impl From<keys::refusal::Refusal> for Refusal {
    /// What goes no further was not read.
    fn from(refused: keys::refusal::Refusal) -> Self {
        let status = StatusCode::from_u16(refused.status).expect("refusals have known statuses");
        let refusal = Self::new(status, format!("{}: {}", refused.code, refused.message));
        match refused.retry_after_s {
            Some(seconds) => refusal.with(RETRY_AFTER, seconds.to_string()),
            None => refusal,
        }
    }
}

/// The status of an error of the engine.
fn status(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::Usage if error.code() == "collection_exists" => StatusCode::CONFLICT,
        ErrorKind::Usage | ErrorKind::BadInput => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Limit if error.code() == "payload_size" => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Limit => StatusCode::BAD_REQUEST,
        ErrorKind::Io if error.code() == "disk_full" => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Locked | ErrorKind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::Device | ErrorKind::Accounting => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}
