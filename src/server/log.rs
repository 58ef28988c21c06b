//! One line of JSON for every request, on the standard error: what an operator reads when something is slow or fails.
//!
//! It has the pattern of the route and not the path, the id of the key and not the key, and nothing of bodies.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::server::keys::text::KeyId;
use crate::server::moment::Moment;

/// Names of requests: different ones in every process, and a number.
#[derive(Debug)]
pub struct RequestIds {
    process: u32,
    n_given: AtomicU64,
}

impl RequestIds {
    /// Those of this process.
    ///
    /// # Errors
    /// `randomness` if the system has none.
    pub fn new() -> Result<Self> {
        let process = getrandom::u32().map_err(|error| {
            Error::new(ErrorKind::Io, "randomness", format!("the system gives none: {error}"))
        })?;
        Ok(Self { process, n_given: AtomicU64::new(0) })
    }

    /// The next.
    pub fn next(&self) -> String {
        let number = self.n_given.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}-{number:x}", self.process)
    }
}

/// What is written down of a request.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// When it was answered.
    pub now: Moment,
    /// The request.
    pub id: &'a str,
    /// The method.
    pub method: &'a str,
    /// The pattern of the route; `-` for what has none.
    pub route: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// From the end of the headers to the answer.
    pub seconds: f64,
    /// The key, where one was valid.
    pub key: Option<KeyId>,
    /// Why it was refused, in a word.
    pub code: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    id: &'a str,
    method: &'a str,
    route: &'a str,
    status: u16,
    ms: f64,
    key: Option<KeyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct Note<'a> {
    time: String,
    note: &'a str,
}

/// Where lines go.
pub struct Log {
    out: Mutex<Box<dyn Write + Send>>,
}

impl Log {
    /// One that writes to `out`, each line at once.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out: Mutex::new(out) }
    }

    /// A line for a request.
    pub fn request(&self, seen: &Seen<'_>) {
        self.write(&Line {
            time: seen.now.rfc3339(),
            id: seen.id,
            method: seen.method,
            route: seen.route,
            status: seen.status,
            ms: (seen.seconds * 1e6).round() / 1e3,
            key: seen.key,
            code: seen.code,
        });
    }

    /// A line for something else that whoever runs the server should know.
    pub fn note(&self, now: Moment, note: &str) {
        self.write(&Note { time: now.rfc3339(), note });
    }

    fn write(&self, line: &impl Serialize) {
        let mut bytes = serde_json::to_vec(line).expect("strings and numbers");
        bytes.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody may be reading any more: no reason to answer nobody.
        let _ = out.write_all(&bytes).and_then(|()| out.flush());
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_request_is_a_line_of_json() {
        let kept = Kept::default();
        let log = Log::new(Box::new(kept.clone()));
        let now = Moment { unix_ms: 1_795_945_020_123, ..Moment::default() };
        let (id, route) = ("0000abcd-1f", "/collections/{collection}/points/search");
        let mut seen = Seen {
            now,
            id,
            method: "POST",
            route,
            status: 200,
            seconds: 0.0012345,
            key: Some(KeyId(7)),
            code: None,
        };
        log.request(&seen);
        (seen.status, seen.key, seen.code) = (401, None, Some("key_missing"));
        log.request(&seen);
        log.note(now, "keys.json cannot be read\nat all");
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let time = "2026-11-29T09:37:00.123Z";
        let first = json!({"time": time, "id": id, "method": "POST", "route": route,
            "status": 200, "ms": 1.235, "key": "0000000000000007"});
        assert_eq!((lines.len(), &lines[0]), (3, &first));
        assert_eq!((&lines[1]["key"], &lines[1]["code"]), (&Value::Null, &json!("key_missing")));
        assert_eq!(lines[2], json!({"time": time, "note": "keys.json cannot be read\nat all"}));
    }

    #[test]
    fn requests_have_names_of_their_own() {
        let (one, other) = (RequestIds::new().unwrap(), RequestIds::new().unwrap());
        let mut names: Vec<String> = (0..100).flat_map(|_| [one.next(), other.next()]).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), if one.process == other.process { 100 } else { 200 });
    }
}
