//! How loaded the models are, read from the metrics that vLLM tells: policies with `adapt` follow it.
//!
//! In: the text of a `/metrics`. Out: a load of 0 to 1, which every cache is told. What cannot be read tells nothing: the load stays
//! what it was, and that is said.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cache::LoadSource;
use crate::server::cache::arrived::{Arrived, arrived};
use crate::server::cache::front::Front;
use crate::server::cache::upstream::{Forwarded, Upstream};
use crate::server::ledger::Ledger;
use crate::server::limits::Waits;

/// Requests that a model works on, and those that wait for it: added up over all models and engines.
const REQUESTS: [&str; 2] = ["vllm:num_requests_running", "vllm:num_requests_waiting"];

/// The share of a model's memory for requests that is taken, under its two names: the largest counts.
const USED: [&str; 2] = ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"];

/// Longest text of metrics.
const TEXT_BYTES: usize = 4 << 20;

/// How long metrics are waited for.
const LONGEST: Duration = Duration::from_secs(5);

/// What came of reading the load.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    n_read: u64,
    n_failed: u64,
    /// The load that was read last.
    load: Option<f32>,
    /// Why it was not read the last time, if it was not.
    failure: Option<String>,
}

impl Meter {
    /// Reads the load and tells it to every cache.
    pub async fn read(&self, front: &Front, ledger: &Ledger, source: &LoadSource) {
        let read = timeout(LONGEST, read(front, source)).await;
        match read.unwrap_or_else(|_| Err("it took too long".to_owned())) {
            Ok(load) => {
                if self.held().took(load) {
                    ledger.note(&format!("the load of the models is read from {}", source.url));
                }
                front.caches().load(load);
            }
            Err(why) => {
                if self.held().failed(&why) {
                    let url = &source.url;
                    ledger.note(&format!(
                        "the load of the models stays what it was: {url} could not be read: {why}"
                    ));
                }
            }
        }
    }

    /// What was read last, and what went wrong since.
    pub fn shown(&self) -> Value {
        let held = self.held();
        json!({"load": held.load, "failure": held.failure})
    }

    /// How often the load was read, and how often it could not be.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let held = self.held();
        vec![("read", held.n_read), ("failed", held.n_failed)]
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Takes down a load. Says whether that is news.
    fn took(&mut self, load: f32) -> bool {
        let is_new = self.load.replace(load).is_none();
        self.n_read += 1;
        self.failure.take().is_some() || is_new
    }

    /// Takes down a failure. Says whether that is news.
    fn failed(&mut self, why: &str) -> bool {
        self.n_failed += 1;
        let was_well = self.failure.is_none();
        self.failure = Some(why.to_owned());
        was_well
    }
}

async fn read(front: &Front, source: &LoadSource) -> Result<f32, String> {
    let waits = Waits { connect: LONGEST, head: LONGEST, idle: LONGEST, ..Waits::default() };
    let server = Upstream::at(&source.url, waits, front.trust());
    let server = server.map_err(|error| error.to_string())?;
    let headers = HeaderMap::new();
    let (method, body) = (&Method::GET, Bytes::new());
    let forwarded = Forwarded { method, path: "", headers: &headers, with_key: false, body };
    let sent = server.send(&forwarded).await.map_err(|refusal| refusal.to_string())?;
    let (head, arriving) = sent.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("expected status 200, received {}", head.status.as_u16()));
    }
    match arrived(arriving, TEXT_BYTES).await {
        Ok(Arrived::Whole(bytes)) => load(&String::from_utf8_lossy(&bytes), source.requests),
        Ok(Arrived::Long(_)) => Err(format!("expected at most {TEXT_BYTES} bytes")),
        Err(error) => Err(error.to_string()),
    }
}

/// The load that a text of metrics tells: the share of `full` requests, or of memory if more of that is taken.
fn load(text: &str, full: u32) -> Result<f32, String> {
    let (mut n_requests, mut used) = (None, None);
    for line in text.lines() {
        let Some((name, value)) = sample(line) else { continue };
        if REQUESTS.contains(&name) {
            let n = number(name, value, 0.0..=f64::from(u32::MAX))?;
            n_requests = Some(n_requests.unwrap_or(0.0) + n);
        } else if USED.contains(&name) {
            used = Some(number(name, value, 0.0..=1.0)?.max(used.unwrap_or(0.0)));
        }
    }
    let share = n_requests.map(|n| (n / f64::from(full)).min(1.0));
    let load = share.into_iter().chain(used).reduce(f64::max);
    load.map(|load| load as f32).ok_or_else(|| {
        let [running, _] = REQUESTS;
        format!("expected metrics of vLLM ({running} and others), received none of them")
    })
}

/// Name and value of a sample; nothing for another line.
fn sample(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    // What labels say may have any character; the value has no brace.
    let rest = rest.rsplit_once('}').map_or(rest, |(_, rest)| rest);
    Some((name, rest.split_whitespace().next().unwrap_or_default()))
}

fn number(name: &str, value: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let shown: String = value.chars().take(20).collect();
        format!("{name}: expected {} to {}, received {shown:?}", range.start(), range.end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "# HELP vllm:num_requests_running Number of requests.\n\
        # TYPE vllm:num_requests_running gauge\n\
        vllm:num_requests_running{engine=\"0\",model_name=\"a {b} c\"} 30.0\n\
        vllm:num_requests_running{engine=\"1\",model_name=\"a\"} 20.0 1795971981000\n\
        vllm:num_requests_waiting{engine=\"0\"} 14\n\
        vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 5000\n\
        other_total 1e30\n";

    #[test]
    fn the_load_is_the_share_of_requests_or_of_memory() {
        assert_eq!(load(TOLD, 256), Ok(0.25));
        assert_eq!(load(TOLD, 64), Ok(1.0));
        assert_eq!(load(TOLD, 8), Ok(1.0));
        let with = |line: &str| load(&format!("{TOLD}{line}\n"), 256);
        assert_eq!(with("vllm:gpu_cache_usage_perc{engine=\"0\"} 0.1"), Ok(0.25));
        assert_eq!(with("vllm:kv_cache_usage_perc 0.75\nvllm:kv_cache_usage_perc 0.5"), Ok(0.75));
        assert_eq!(load("vllm:gpu_cache_usage_perc 0", 1), Ok(0.0));
        assert_eq!(load("vllm:num_requests_waiting 1", 2), Ok(0.5));
    }

    #[test]
    fn what_is_no_load_is_none_and_says_why() {
        for (text, said) in [
            ("", "received none of them"),
            ("{\"object\": \"list\"}", "received none of them"),
            ("<html>\n# vllm:num_requests_running 3", "received none of them"),
            ("vllm:num_requests_running{a=\"b\"} NaN", "received \"NaN\""),
            ("vllm:num_requests_running -1", "expected 0 to 4294967295, received \"-1\""),
            ("vllm:num_requests_running +Inf", "received \"+Inf\""),
            ("vllm:num_requests_running{a=\"b\"}", "received \"\""),
            ("vllm:kv_cache_usage_perc 87", "vllm:kv_cache_usage_perc: expected 0 to 1"),
            ("vllm:num_requests_running 1\nvllm:kv_cache_usage_perc x", "received \"x\""),
        ] {
            let error = load(text, 256).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_news_is_said_once() {
        let mut held = Held::default();
        let news = [held.failed("a"), held.failed("b"), held.took(0.5), held.took(0.25)];
        assert_eq!(news, [true, false, true, false]);
        assert_eq!([held.failed("c"), held.failed("c")], [true, false]);
        assert_eq!((held.load, held.failure.as_deref()), (Some(0.25), Some("c")));
        assert_eq!((held.n_read, held.n_failed), (2, 4));
        assert!(Held::default().took(0.0));
    }
}
