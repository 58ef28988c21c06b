//! The body of an answer: all at once, or as it comes.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use crate::server::watched::Phase;

/// A body.
pub struct Sent {
    from: From,
    /// The connection that it is sent on waits for nothing else until it is sent.
    phase: Option<Arc<Phase>>,
}

enum From {
    Whole(Full<Bytes>),
    Pieces(Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>),
}

impl Sent {
    /// A body that is there.
    pub fn whole(bytes: Bytes) -> Self {
        Self { from: From::Whole(Full::new(bytes)), phase: None }
    }

    /// A body that is still to come. If it fails, the connection is closed before its end, so that it is not taken for all.
    pub fn pieces(body: impl Body<Data = Bytes, Error = io::Error> + Send + 'static) -> Self {
        Self { from: From::Pieces(Box::pin(body)), phase: None }
    }

    /// The same, whose connection is told when there is no more of it to be waited for.
    pub fn told_to(mut self, phase: &Arc<Phase>) -> Self {
        match self.from {
            From::Whole(_) => phase.answered(),
            From::Pieces(_) => self.phase = Some(Arc::clone(phase)),
        }
        self
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(phase) = &self.phase {
            phase.answered();
        }
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sent")
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.from {
            From::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            From::Pieces(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Whole(body) => body.is_end_stream(),
            From::Pieces(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Whole(body) => body.size_hint(),
            From::Pieces(body) => body.size_hint(),
        }
    }
}
