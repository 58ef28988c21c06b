//! What is answered: bodies in the form that Qdrant's clients read, and the status of every error.

use std::time::Instant;

use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::error::{Error, ErrorKind};
use crate::server::keys;
use crate::server::sent::Sent;

/// What a handler gives: an answer, or why there is none.
pub type Answer = Result<Reply, Refusal>;

/// Whose form a refusal has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speech {
    /// Qdrant's, and ours.
    #[default]
    Qdrant,
    /// OpenAI's, with that of all others beside it.
    OpenAi,
    /// LangCache's.
    LangCache,
}

/// A body with its type.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
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
        let (status, content_type) = (StatusCode::OK, "application/json");
        Ok(Self { status, content_type, headers: &[], body: body.into() })
    }

    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        let (status, body) = (StatusCode::OK, text.into().into());
        Self { status, content_type: "text/plain; charset=utf-8", headers: &[], body }
    }

    /// It is done, and there is nothing to say of it.
    pub fn nothing() -> Self {
        Self { body: Bytes::new(), ..Self::text("") }.with_status(StatusCode::NO_CONTENT)
    }

    /// The same with another status than 200.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// A file of ours for browsers, and what it may do there.
    pub fn file(
        content_type: &'static str,
        headers: &'static [(HeaderName, &'static str)],
        text: &'static str,
    ) -> Self {
        let body = Bytes::from_static(text.as_bytes());
        Self { status: StatusCode::OK, content_type, headers, body }
    }

    /// As it is sent.
    pub fn response(self) -> Response<Sent> {
        let mut response = Response::new(Sent::whole(self.body));
        *response.status_mut() = self.status;
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

    /// As it is sent to clients of that API.
    pub fn response(&self, speech: Speech, began: Instant) -> Response<Sent> {
        let time = began.elapsed().as_secs_f64();
        let body = match speech {
            Speech::Qdrant => json!({"status": {"error": self.message}, "time": time}),
            Speech::OpenAi => json!({
                "error": {"message": self.message, "type": "nearkin", "param": null, "code": self.code()},
                "status": {"error": self.message},
                "time": time,
            }),
            Speech::LangCache => json!({
                "title": self.code(),
                "type": format!("/errors/{}", problem(self.status)),
                "status": self.status.as_u16(),
                "detail": self.message,
            }),
        };
        let mut response = Response::new(Sent::whole(Bytes::from(body.to_string())));
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

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
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

/// The word of LangCache's API for what a status means.
fn problem(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "invalid-data",
        StatusCode::UNAUTHORIZED => "authentication-failed",
        StatusCode::FORBIDDEN => "insufficient-permissions",
        StatusCode::NOT_FOUND => "resource-not-found",
        StatusCode::PAYLOAD_TOO_LARGE => "payload-too-large",
        StatusCode::FAILED_DEPENDENCY => "resource-unavailable",
        StatusCode::TOO_MANY_REQUESTS => "too-many-requests",
        _ => "unexpected-error",
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
