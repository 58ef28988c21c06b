//! A second opinion on near misses, asked for while nobody waits: would the answer of the near question have been right?
//!
//! The judge is a URL of the category's policy. It is sent texts as values of JSON and answers `{"same": true}` or `{"same": false}`;
//! anything else says nothing. What it says teaches the bound of the entry; and where the model's own answer could not be remembered,
//! an approved one stands in for it, no longer than it lives itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::cache::EntryId;
use crate::server::cache::arrived::{Arrived, arrived};
use crate::server::cache::front::Front;
use crate::server::cache::kept::text;
use crate::server::cache::question::Question;
use crate::server::cache::upstream::{Forwarded, Upstream};
use crate::server::limits::Waits;

/// Opinions that are asked for at once; no more wait.
const AT_ONCE: usize = 4;

/// How long an opinion is waited for.
const LONGEST: Duration = Duration::from_secs(60);

/// Longest answer of a judge.
const OPINION_BYTES: usize = 4 << 10;

/// Judges at work.
pub struct Judges(Arc<Semaphore>);

impl Default for Judges {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// A near miss.
pub struct Near {
    /// What was asked.
    pub question: Arc<Question>,
    /// The entry that was near.
    pub entry: EntryId,
    /// How near.
    pub similarity: f32,
    /// The vector of the question.
    pub vector: Option<Vec<f32>>,
    /// What was invalidated before.
    pub ticket: Option<u64>,
    /// Whether the model's own answer is remembered.
    pub has_own: bool,
}

impl Judges {
    /// Asks for an opinion and does what follows from it, unless enough are asked for already.
    pub fn ask(&self, front: &Arc<Front>, url: String, near: Near) {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else {
            return front.decisions().judged("busy");
        };
        let front = Arc::clone(front);
        tokio::spawn(async move {
            let word = judged(&front, &url, near).await;
            front.decisions().judged(word);
            drop(permit);
        });
    }
}

/// What came of it, in a word.
async fn judged(front: &Arc<Front>, url: &str, near: Near) -> &'static str {
    let (own, near) = (Arc::clone(front), Arc::new(near));
    let asked = Arc::clone(&near);
    let known = spawn_blocking(move || own.known(&asked.question, asked.entry)).await;
    let Ok(Ok(Some((known, answer)))) = known else { return "gone" };
    let endpoint = near.question.asked.endpoint;
    let case = json!({
        "question": near.question.asked.text,
        "known": known,
        "answer": text(endpoint, &answer),
    });
    let Some(is_same) = opinion(front, url, &case).await else { return "failed" };
    let own = Arc::clone(front);
    let learnt = spawn_blocking(move || own.judged(&near, is_same)).await;
    match (learnt, is_same) {
        (Ok(Ok(())), true) => "same",
        (Ok(Ok(())), false) => "different",
        _ => "failed",
    }
}

async fn opinion(front: &Front, url: &str, case: &Value) -> Option<bool> {
    let waits = Waits { head: LONGEST, idle: LONGEST, ..Waits::default() };
    let judge = Upstream::at(url, waits, front.trust()).ok()?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (method, body) = (&Method::POST, Bytes::from(case.to_string()));
    let forwarded = Forwarded { method, path: "", headers: &headers, with_key: false, body };
    let (head, arriving) = judge.send(&forwarded).await.ok()?.into_parts();
    if head.status != StatusCode::OK {
        return None;
    }
    let Arrived::Whole(bytes) = arrived(arriving, OPINION_BYTES).await.ok()? else { return None };
    serde_json::from_slice::<Value>(&bytes).ok()?.get("same")?.as_bool()
}
