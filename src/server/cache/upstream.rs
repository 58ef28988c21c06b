//! The model server behind: one connection for each request, so that whoever goes away ends it there as well.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Uri;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::error::{Error, Result};
use crate::server::cache::secured::{self, Secured, Trust, is_refused};
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
    /// What makes a connection to it safe; nothing for `http`.
    secured: Option<Secured>,
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
    /// `upstream` for what is no such URL; `upstream_key`; those of whom to trust.
    pub fn new(url: &str, key: Option<&str>, waits: Waits, trust: &Trust) -> Result<Self> {
        let mut upstream = Self::at(url, waits, trust)?;
        if let Some(base) = upstream.base.strip_suffix("/v1") {
            upstream.base = base.to_owned();
        }
        upstream.key = key.map(bearer).transpose()?;
        Ok(upstream)
    }

    /// Fails for what is no URL of a server that can be asked.
    ///
    /// # Errors
    /// `upstream`, and `feature_missing` in a build without TLS.
    pub fn check(url: &str) -> Result<()> {
        let (_, is_secured) = parsed(url)?;
        if is_secured { secured::known() } else { Ok(()) }
    }

    /// What is at exactly this URL.
    ///
    /// # Errors
    /// `upstream`; those of whom to trust.
    pub fn at(url: &str, waits: Waits, trust: &Trust) -> Result<Self> {
        let (uri, is_secured) = parsed(url)?;
        let authority = uri.authority().expect("a URL of a server has one");
        let secured = is_secured.then(|| trust.secured(authority.host())).transpose()?;
        let port = authority.port_u16().unwrap_or(if is_secured { 443 } else { 80 });
        let address = format!("{}:{port}", authority.host());
        let host = HeaderValue::from_str(authority.as_str()).expect("it was read from text");
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { address, host, base, key: None, waits, secured })
    }

    /// Where it is, without its key.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its answer, of which the body is still to come. Dropping that ends the request there.
    ///
    /// # Errors
    /// `upstream_unreachable` and `upstream_certificate`, 502; `upstream_timeout`, 504.
    pub async fn send(&self, forwarded: &Forwarded<'_>) -> Result<Response<Arriving>, Refusal> {
        let connecting = timeout(self.waits.connect, self.connected()).await;
        let (mut sender, connection) = connecting.map_err(|_| self.late("connect"))??;
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

    async fn connected(&self) -> Result<(SendRequest<Full<Bytes>>, Connection), Refusal> {
        let connecting = TcpStream::connect(&self.address).await;
        let stream = connecting.map_err(|error| self.gone(&error))?;
        // Small requests must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let shaken = match &self.secured {
            None => shaken(stream).await,
            Some(secured) => {
                let stream = secured.over(stream).await.map_err(|error| self.unproven(&error))?;
                shaken(stream).await
            }
        };
        shaken.map_err(|error| self.gone(&error))
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

    /// It does not say who it is, or not so that it is believed.
    fn unproven(&self, error: &io::Error) -> Refusal {
        let message = match is_refused(error) {
            true => format!(
                "upstream_certificate: {}: {error}; expected a certificate that a known authority vouches for, or one of the file that SSL_CERT_FILE names",
                self.address
            ),
            false => format!("upstream_unreachable: {}: expected TLS: {error}", self.address),
        };
        Refusal::new(StatusCode::BAD_GATEWAY, message)
    }

    fn late(&self, doing: &str) -> Refusal {
        let message = format!("upstream_timeout: {}: it took too long to {doing}", self.address);
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, message)
    }
}

/// The URL of a server, and whether it is reached over TLS.
fn parsed(url: &str) -> Result<(Uri, bool)> {
    let wrong = |why: &str| {
        let message = format!("{url:?}{why}, expected a URL such as http://localhost:8000");
        Error::usage("upstream", message)
    };
    let uri: Uri = url.parse().map_err(|_| wrong(""))?;
    let is_secured = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong("")),
    };
    if uri.authority().is_none_or(|own| own.as_str().contains('@')) || uri.query().is_some() {
        return Err(wrong(": it has a password or a query"));
    }
    Ok((uri, is_secured))
}

/// A connection on which requests can be sent.
async fn shaken<S>(stream: S) -> hyper::Result<(SendRequest<Full<Bytes>>, Connection)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let running = tokio::spawn(async move {
        // What goes wrong is said by the request that is on it.
        let _ = connection.await;
    });
    Ok((sender, Connection(running)))
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
        Upstream::new(url, None, Waits::default(), &Trust::new(None))
    }

    fn keyed(key: &str) -> Result<Upstream> {
        Upstream::new("http://a", Some(key), Waits::default(), &Trust::new(None))
    }

    #[test]
    fn a_url_is_read_with_or_without_v1() {
        for (url, address, base) in [
            ("http://localhost:8000", "localhost:8000", ""),
            ("http://localhost:8000/v1/", "localhost:8000", ""),
            ("http://[::1]:8000/models/a/v1", "[::1]:8000", "/models/a"),
            ("http://models.test", "models.test:80", ""),
            #[cfg(feature = "https")]
            ("https://models.test/v1", "models.test:443", ""),
            #[cfg(feature = "https")]
            ("https://[::1]:8443", "[::1]:8443", ""),
        ] {
            let upstream = new(url).unwrap();
            assert_eq!((upstream.address(), upstream.base.as_str()), (address, base), "{url}");
        }
        for url in ["", "localhost:8000", "ftp://a", "http://a:b@c", "https://a:b@c", "http://a/?b"]
        {
            assert_eq!(new(url).unwrap_err().code(), "upstream", "{url}");
            assert_eq!(Upstream::check(url).unwrap_err().code(), "upstream", "{url}");
        }
        if !cfg!(feature = "https") {
            assert_eq!(new("https://a").unwrap_err().code(), "feature_missing");
            assert_eq!(Upstream::check("https://a").unwrap_err().code(), "feature_missing");
        }
        assert_eq!(keyed("a\nb").unwrap_err().code(), "upstream_key");
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
        let keyed = keyed("own").unwrap();
        assert_eq!(of(&keyed, true), ["authorization=Bearer own", "host=a", "x-own=1"]);
    }
}
