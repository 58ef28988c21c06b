//! An answer that comes in one piece: read whole if it is not too long, passed on if it is.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};

use crate::server::cache::upstream::Arriving;

/// What came.
pub enum Arrived {
    /// All of it.
    Whole(Bytes),
    /// More than is read at once: what came, and what comes.
    Long(Rest),
}

/// A body of which some was read already.
pub struct Rest {
    read: VecDeque<Bytes>,
    arriving: Arriving,
}

/// Reads a body, up to so many bytes.
///
/// # Errors
/// Those of the connection.
pub async fn arrived(mut arriving: Arriving, limit: usize) -> io::Result<Arrived> {
    let (mut read, mut n_bytes) = (VecDeque::new(), 0);
    while let Some(frame) = arriving.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        n_bytes += data.len();
        read.push_back(data);
        if n_bytes > limit {
            return Ok(Arrived::Long(Rest { read, arriving }));
        }
    }
    let mut whole = BytesMut::with_capacity(n_bytes);
    read.iter().for_each(|piece| whole.extend_from_slice(piece));
    Ok(Arrived::Whole(whole.freeze()))
}

impl Body for Rest {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.read.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => Pin::new(&mut self.arriving).poll_frame(cx),
        }
    }
}
