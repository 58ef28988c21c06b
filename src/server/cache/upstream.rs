//! The model server behind: one connection for each request, so that whoever goes away ends it there as well.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Uri;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::error::{Error, Result};
use crate::server::limits::Waits;
use crate::server::reply::Refusal;

/// What is between two machines only.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What a request has for this server and not for the one behind; answers are to come unpacked.
const OURS: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::ACCEPT_ENCODING,
    header::EXPECT,
    header::CACHE_CONTROL,
    header::COOKIE,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-tenant-id"),
];

/// A server that answers OpenAI's API.
#[derive(Debug)]
pub struct Upstream {
    /// Host and port.
    address: String,
    host: HeaderValue,
    /// What stands before `/v1`.
    base: String,
    key: Option<HeaderValue>,
    waits: Waits,
}

/// A request for it.
#[derive(Debug)]
pub struct Forwarded<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query.
    pub path: &'a str,
    /// Headers, as the client sent them.
    pub headers: &'a HeaderMap,
    /// Whether the client's key is for that server, since this one asks for none.
    pub with_key: bool,
    /// The body, unpacked.
    pub body: Bytes,
}

impl Upstream {
    /// The server at a URL such as `http://localhost:8000`, with or without `/v1`. `key` is sent to it instead of any that
    /// clients have.
    ///
    /// # Errors
    /// `upstream` for what is no such URL; `upstream_key`.
    pub fn new(url: &str, key: Option<&str>, waits: Waits) -> Result<Self> {
        let mut upstream = Self::at(url, waits)?;
        if let Some(base) = upstream.base.strip_suffix("/v1") {
            upstream.base = base.to_owned();
        }
        upstream.key = key.map(bearer).transpose()?;
        Ok(upstream)
    }

    /// What is at exactly this URL.
    ///
    /// # Errors
    /// `upstream`.
    pub fn at(url: &str, waits: Waits) -> Result<Self> {
        let wrong = |why: &str| {
            let message = format!("{url:?}{why}, expected a URL such as http://localhost:8000");
            Error::usage("upstream", message)
        };
        if url.starts_with("https://") {
            return Err(wrong(": TLS is not spoken here; put a proxy of your own in between"));
        }
        let uri: Uri = url.parse().map_err(|_| wrong(""))?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
        let authority = authority.ok_or_else(|| wrong(""))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong(": it has a password or a query"));
        }
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong(""))?;
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { address, host, base, key: None, waits })
    }

    /// Where it is, without its key.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its answer, of which the body is still to come. Dropping that ends the request there.
    ///
    /// # Errors
    /// `upstream_unreachable`, 502; `upstream_timeout`, 504.
    pub async fn send(&self, forwarded: &Forwarded<'_>) -> Result<Response<Arriving>, Refusal> {
        let connecting = timeout(self.waits.connect, TcpStream::connect(&self.address)).await;
        let stream =
            connecting.map_err(|_| self.late("connect"))?.map_err(|error| self.gone(&error))?;
        // Small requests must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| self.gone(&error))?;
        let connection = Connection(tokio::spawn(async move {
            // What goes wrong is said by the request that is on it.
            let _ = connection.await;
        }));
        let request = self.request(forwarded)?;
        let asked = timeout(self.waits.head, sender.send_request(request)).await;
        let response =
            asked.map_err(|_| self.late("answer"))?.map_err(|error| self.gone(&error))?;
        let idle = self.waits.idle;
        Ok(response.map(|incoming| Arriving {
            incoming,
            idle,
            timer: Box::pin(sleep_until(Instant::now() + idle)),
            _connection: connection,
        }))
    }

    fn request(&self, forwarded: &Forwarded<'_>) -> Result<Request<Full<Bytes>>, Refusal> {
        let mut request = Request::new(Full::new(forwarded.body.clone()));
        *request.method_mut() = forwarded.method.clone();
        let path = format!("{}{}", self.base, forwarded.path);
        let uri = path.parse().map_err(|_| Refusal::bad("uri: it cannot be passed on"))?;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        for (name, value) in forwarded.headers {
            let is_ours = OURS.contains(name) || name.as_str().starts_with("x-cache-");
            let is_key =
                name == header::AUTHORIZATION && (!forwarded.with_key || self.key.is_some());
            if !is_ours && !is_key && !HOP_BY_HOP.contains(name) {
                headers.append(name, value.clone());
            }
        }
        headers.insert(header::HOST, self.host.clone());
        if let Some(key) = &self.key {
            headers.insert(header::AUTHORIZATION, key.clone());
        }
        Ok(request)
    }

    fn gone(&self, error: &dyn std::error::Error) -> Refusal {
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        let message = format!("upstream_unreachable: {}: {error}{cause}", self.address);
        Refusal::new(StatusCode::BAD_GATEWAY, message)
    }

    fn late(&self, doing: &str) -> Refusal {
        let message = format!("upstream_timeout: {}: it took too long to {doing}", self.address);
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, message)
    }
}

fn bearer(key: &str) -> Result<HeaderValue> {
    let value = HeaderValue::from_str(&format!("Bearer {key}"));
    let mut value =
        value.map_err(|_| Error::usage("upstream_key", "it cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Headers of an answer, as far as they are for the client.
pub fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for (name, value) in headers {
        // How long the body is, it says itself.
        if !HOP_BY_HOP.contains(name) && name != header::CONTENT_LENGTH {
            passed.append(name, value.clone());
        }
    }
    passed
}

/// A connection, ended when nobody waits for it any more.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A body that comes from upstream.
#[derive(Debug)]
pub struct Arriving {
    incoming: Incoming,
    idle: std::time::Duration,
    timer: Pin<Box<Sleep>>,
    _connection: Connection,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            let next = Instant::now() + self.idle;
            self.timer.as_mut().reset(next);
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        match self.timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(url: &str) -> Result<Upstream> {
        Upstream::new(url, None, Waits::default())
    }

    #[test]
    fn a_url_is_read_with_or_without_v1() {
        for (url, address, base) in [
            ("http://localhost:8000", "localhost:8000", ""),
            ("http://localhost:8000/v1/", "localhost:8000", ""),
            ("http://[::1]:8000/models/a/v1", "[::1]:8000", "/models/a"),
            ("http://models.test", "models.test:80", ""),
        ] {
            let upstream = new(url).unwrap();
            assert_eq!((upstream.address(), upstream.base.as_str()), (address, base), "{url}");
        }
        for url in
            ["", "localhost:8000", "https://a.test", "ftp://a", "http://a:b@c", "http://a/?b"]
        {
            assert_eq!(new(url).unwrap_err().code(), "upstream", "{url}");
        }
        let key = Upstream::new("http://a", Some("a\nb"), Waits::default());
        assert_eq!(key.unwrap_err().code(), "upstream_key");
    }

    #[test]
    fn a_key_of_this_server_does_not_leave_it() {
        let mut headers = HeaderMap::new();
        for name in ["api-key", "authorization", "x-cache-ttl", "connection", "x-own"] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        let of = |upstream: &Upstream, with_key| {
            let (method, path, body) = (&Method::POST, "/v1/models", Bytes::new());
            let forwarded = Forwarded { method, path, headers: &headers, with_key, body };
            let mut sent: Vec<String> = upstream
                .request(&forwarded)
                .unwrap()
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
                .collect();
            sent.sort();
            sent
        };
        let plain = new("http://a").unwrap();
        assert_eq!(of(&plain, false), ["host=a", "x-own=1"]);
        assert_eq!(of(&plain, true), ["authorization=1", "host=a", "x-own=1"]);
        let keyed = Upstream::new("http://a", Some("own"), Waits::default()).unwrap();
        assert_eq!(of(&keyed, true), ["authorization=Bearer own", "host=a", "x-own=1"]);
    }
}
