//! The body of a request: read in time and within limits, expanded, and nothing but what its headers say.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use hyper::{StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::server::limits::{
    BODY_BYTES, BODY_BYTES_PER_SECOND, BODY_GRACE, DRAINED_BYTES, DRAINED_FOR,
};
use crate::server::pace;
use crate::server::qdrant::numbers::{self, Lent};
use crate::server::reply::Refusal;

/// Memory for bodies is counted in pieces of so many bytes.
const PIECE: usize = 64 << 10;

/// Bytes that are expanded in one go: others may come first after each.
const EXPANDED_STEP: u64 = 256 << 10;

/// How a body is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    #[default]
    Plain,
    /// With gzip.
    Gzip,
}

/// What a body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// JSON, or nothing.
    #[default]
    Json,
    /// A head of JSON, and numbers behind it.
    Numbers,
}

impl Form {
    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Numbers => numbers::CONTENT_TYPE,
        }
    }

    /// The JSON of a body, and what it refers to.
    ///
    /// # Errors
    /// Those of [`numbers::lend`].
    pub fn read(self, body: &[u8]) -> Result<(&[u8], Option<Lent>), Error> {
        match self {
            Self::Json => Ok((body, None)),
            Self::Numbers => numbers::lend(body).map(|(head, lent)| (head, Some(lent))),
        }
    }
}

/// Memory for bodies.
pub struct Bodies {
    n_bytes: usize,
    free: Arc<Semaphore>,
}

/// A body as it was sent, with its part of the memory.
#[derive(Default)]
pub struct Received {
    bytes: Vec<u8>,
    packing: Packing,
    _held: Vec<OwnedSemaphorePermit>,
}

impl Bodies {
    /// So many bytes.
    pub fn new(n_bytes: usize) -> Self {
        Self { n_bytes, free: Arc::new(Semaphore::new(n_bytes / PIECE)) }
    }

    /// Reads a body.
    ///
    /// # Errors
    /// `body_size`, 413; `body_timeout`, 408; `body_truncated`, 400; `bodies_memory`, 429.
    pub async fn read(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        deadline: Duration,
    ) -> Result<Received, Refusal> {
        let packing = packing(headers)?;
        let announced = body.size_hint().lower();
        if announced > BODY_BYTES as u64 {
            return Err(too_large(announced));
        }
        let mut received = Received { bytes: Vec::new(), packing, _held: Vec::new() };
        let mut body = std::pin::pin!(body);
        let pace = Pace { began: Instant::now(), deadline };
        loop {
            let frame = timeout_at(pace.next(received.bytes.len()), body.frame()).await;
            match frame {
                Err(_) => return Err(pace.late(received.bytes.len())),
                Ok(None) => return Ok(received),
                Ok(Some(Err(error))) => {
                    let message = format!("body_truncated: {error}");
                    return Err(Refusal::bad(message).closing());
                }
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.take(&mut received, data)?;
                }
            }
        }
    }

    fn take(&self, received: &mut Received, mut data: Bytes) -> Result<(), Refusal> {
        let n_bytes = received.bytes.len() + data.len();
        if n_bytes > BODY_BYTES {
            return Err(too_large(n_bytes as u64));
        }
        while received._held.len() * PIECE < n_bytes {
            let piece = Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
                let message = format!("bodies_memory: {} bytes are held for others", self.n_bytes);
                let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, message);
                refusal.with(RETRY_AFTER, "1").closing()
            })?;
            received._held.push(piece);
        }
        while data.has_remaining() {
            let n = data.chunk().len();
            received.bytes.extend_from_slice(data.chunk());
            data.advance(n);
        }
        Ok(())
    }
}

/// The part of the memory that a body has, until this is dropped.
pub struct Held(#[allow(dead_code)] Vec<OwnedSemaphorePermit>);

/// How fast a body must come.
struct Pace {
    began: Instant,
    deadline: Duration,
}

impl Pace {
    /// When the next bytes must have come, after so many.
    fn next(&self, n_bytes: usize) -> Instant {
        let earned = Duration::from_millis(n_bytes as u64 * 1000 / BODY_BYTES_PER_SECOND);
        self.began + (BODY_GRACE + earned).min(self.deadline)
    }

    fn late(&self, n_bytes: usize) -> Refusal {
        let message = format!(
            "body_timeout: {n_bytes} bytes in {:.1} s, expected all within {} s and {} bytes a second",
            self.began.elapsed().as_secs_f64(),
            self.deadline.as_secs_f64(),
            BODY_BYTES_PER_SECOND,
        );
        Refusal::new(StatusCode::REQUEST_TIMEOUT, message).closing()
    }
}

impl Received {
    /// Bytes as they were sent.
    pub fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The same as [`Self::expanded`], with its part of the memory: for whoever keeps it for long.
    ///
    /// # Errors
    /// As [`Self::expanded`].
    pub fn held(mut self) -> Result<(Vec<u8>, Held), Refusal> {
        let held = Held(std::mem::take(&mut self._held));
        Ok((self.expanded()?, held))
    }

    /// The bytes, expanded if they were packed.
    ///
    /// # Errors
    /// `body_expanded`, 413; `body_gzip`.
    pub fn expanded(self) -> Result<Vec<u8>, Refusal> {
        if self.packing == Packing::Plain {
            return Ok(self.bytes);
        }
        let mut bytes = Vec::new();
        let mut unpacked = flate2::read::MultiGzDecoder::new(&*self.bytes);
        loop {
            let read = unpacked.by_ref().take(EXPANDED_STEP).read_to_end(&mut bytes);
            let n = read.map_err(|error| Refusal::bad(format!("body_gzip: {error}")))?;
            if bytes.len() > BODY_BYTES {
                let message = format!("body_expanded: more than {BODY_BYTES} bytes");
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            if n == 0 {
                return Ok(bytes);
            }
            pace::give_way();
        }
    }
}

/// Reads what nobody wants, if it is little and comes at once; says whether the next request can follow.
pub async fn drained(body: Incoming) -> bool {
    if body.is_end_stream() {
        return true;
    }
    if body.size_hint().upper().is_none_or(|n_bytes| n_bytes > DRAINED_BYTES) {
        return false;
    }
    let (deadline, mut body) = (Instant::now() + DRAINED_FOR, std::pin::pin!(body));
    loop {
        match timeout_at(deadline, body.frame()).await {
            Ok(None) => return true,
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
}

/// What a body is, one of `taken`, from what headers say of it; the first if they say nothing. Before any of it is read.
///
/// # Errors
/// `content_type` and `content_encoding`, 415; `expect`, 417.
pub fn check(headers: &HeaderMap, taken: &[Form]) -> Result<Form, Refusal> {
    let expects = headers.get(header::EXPECT).map(|value| value.as_bytes());
    if expects.is_some_and(|value| !value.eq_ignore_ascii_case(b"100-continue")) {
        let message = "expect: expected 100-continue";
        return Err(Refusal::new(StatusCode::EXPECTATION_FAILED, message).closing());
    }
    packing(headers)?;
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(taken[0]) };
    let kind = value.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
    let kind = kind.trim_ascii();
    let is_kind = |form: &&Form| kind.eq_ignore_ascii_case(form.content_type().as_bytes());
    taken.iter().find(is_kind).copied().ok_or_else(|| {
        let expected: Vec<&str> = taken.iter().map(|form| form.content_type()).collect();
        let message = format!("content_type: {value:?}, expected {}", expected.join(" or "));
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).closing()
    })
}

fn packing(headers: &HeaderMap) -> Result<Packing, Refusal> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Packing::Plain) };
    match value.as_bytes().to_ascii_lowercase().as_slice() {
        b"identity" => Ok(Packing::Plain),
        b"gzip" => Ok(Packing::Gzip),
        _ => {
            let message = format!("content_encoding: {value:?}, expected identity or gzip");
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).closing())
        }
    }
}

fn too_large(n_bytes: u64) -> Refusal {
    let message = format!("body_size: {n_bytes} bytes, limit {BODY_BYTES}");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message).closing()
}
