//! A streamed answer that passes through and is remembered at its end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::server::cache::stream::Recorder;
use crate::server::cache::upstream::Arriving;

/// What is done with an answer that came whole, or with the word for why it did not.
pub type AtEnd = Box<dyn FnOnce(Result<Value, &'static str>) -> Keeping + Send>;

/// The doing of it.
pub type Keeping = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream that passes. Whoever reads it to its end finds it remembered; a client that goes away before its last event drops it, and
/// then there is nothing to remember.
pub struct Recorded {
    arriving: Option<Arriving>,
    recorder: Option<(Recorder, AtEnd)>,
    keeping: Option<JoinHandle<()>>,
}

impl Recorded {
    /// What arrives, and what is done with it at its end.
    pub fn new(arriving: Arriving, recorder: Recorder, at_end: AtEnd) -> Self {
        Self { arriving: Some(arriving), recorder: Some((recorder, at_end)), keeping: None }
    }

    fn read(&mut self, bytes: &[u8]) {
        let Some((recorder, _)) = &mut self.recorder else { return };
        recorder.read(bytes);
        if recorder.is_ended() {
            self.end();
        }
    }

    /// Remembers what was put together, whether or not the client waits for the end of the connection.
    fn end(&mut self) {
        if let Some((recorder, at_end)) = self.recorder.take() {
            self.keeping = Some(tokio::spawn(at_end(recorder.answer())));
        }
    }

    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(keeping) = &mut self.keeping else { return Poll::Ready(()) };
        // What goes wrong there is said there.
        let _ = std::task::ready!(Pin::new(keeping).poll(cx));
        self.keeping = None;
        Poll::Ready(())
    }
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let Some(arriving) = &mut self.arriving else {
                return self.poll_kept(cx).map(|()| None);
            };
            match std::task::ready!(Pin::new(arriving).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.read(bytes);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => {
                    self.recorder = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.arriving = None;
                    self.end();
                }
            }
        }
    }
}
