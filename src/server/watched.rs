//! A connection that is closed when its client keeps it waiting.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::server::limits::Deadlines;

/// What is said to a client whose headers do not come to an end.
const HEADER_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 80\r\n\r\n\
    {\"status\":{\"error\":\"header_timeout: the headers took too long\"},\"time\":0.000000}";

/// What a connection waits for, and since when; shared by whoever reads it and whoever answers.
pub struct Phase {
    held: Mutex<(Waits, Instant)>,
    is_asked: AtomicBool,
    leaves: Notify,
}

/// How long a connection has kept the server waiting; those that sent no whole request are more than those that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Idle {
    is_without_request: bool,
    /// For so long.
    pub waited: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The first byte of the connection.
    First,
    /// The first byte of another request.
    Next,
    /// The rest of the headers.
    Head,
    /// The server, or a body whose reader has deadlines of its own.
    Nothing,
    /// Nothing more is wanted.
    Stopped,
}

impl Phase {
    /// Of a new connection.
    pub fn new() -> Arc<Self> {
        let held = Mutex::new((Waits::First, Instant::now()));
        Arc::new(Self { held, is_asked: AtomicBool::new(false), leaves: Notify::new() })
    }

    /// How long its client has kept it waiting; none while it is answered, or asked to leave.
    pub fn idle(&self) -> Option<Idle> {
        let (waits, since) = self.get();
        let is_without_request = matches!(waits, Waits::First | Waits::Head);
        let is_idle = is_without_request || waits == Waits::Next;
        let waited = Instant::now().duration_since(since);
        (is_idle && !self.is_asked_to_leave()).then_some(Idle { is_without_request, waited })
    }

    /// Asks the connection to end, to make room for others.
    pub fn ask_to_leave(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
        self.leaves.notify_one();
    }

    /// Whether it was asked to.
    pub fn is_asked_to_leave(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }

    /// Waits until it is asked to.
    pub async fn left(&self) {
        self.leaves.notified().await;
    }

    /// A request is being answered.
    pub fn answering(&self) {
        self.set(Waits::Nothing);
    }

    /// It is answered, but for what is still to be written.
    pub fn answered(&self) {
        self.set(Waits::Next);
    }

    /// No request is wanted any more.
    pub fn stop(&self) {
        let mut held = self.held.lock().expect("no holder panics");
        if held.0 != Waits::Nothing {
            held.0 = Waits::Stopped;
        }
    }

    fn set(&self, waits: Waits) {
        *self.held.lock().expect("no holder panics") = (waits, Instant::now());
    }

    fn get(&self) -> (Waits, Instant) {
        *self.held.lock().expect("no holder panics")
    }

    /// Bytes came: of a head, if none was begun.
    fn read(&self) {
        if matches!(self.get().0, Waits::First | Waits::Next) {
            self.set(Waits::Head);
        }
    }

    /// Bytes went: whoever takes an answer is not idle.
    fn written(&self) {
        if self.get().0 == Waits::Next {
            self.set(Waits::Next);
        }
    }
}

/// A connection and its deadlines.
pub struct Watched {
    stream: TcpStream,
    phase: Arc<Phase>,
    deadlines: Deadlines,
    reading: Pin<Box<Sleep>>,
    writing: Pin<Box<Sleep>>,
    is_stalled: bool,
}

impl Watched {
    /// A connection.
    pub fn new(stream: TcpStream, phase: Arc<Phase>, deadlines: Deadlines) -> Self {
        let timer = || Box::pin(sleep_until(Instant::now()));
        let (reading, writing) = (timer(), timer());
        Self { stream, phase, deadlines, reading, writing, is_stalled: false }
    }

    /// Ends the connection if the client has kept it waiting for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (waits, since) = self.phase.get();
        let deadline = match waits {
            Waits::First | Waits::Head => since + self.deadlines.head,
            Waits::Next => since + self.deadlines.idle,
            Waits::Nothing => return Poll::Pending,
            Waits::Stopped => return Poll::Ready(Ok(())),
        };
        self.reading.as_mut().reset(deadline);
        if self.reading.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if waits == Waits::Head {
            // The connection is closed whether or not the client takes this.
            let _ = self.stream.try_write(HEADER_TIMEOUT);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Ready(Ok(()))
    }

    /// Fails if nothing was written for too long.
    fn poll_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.is_stalled = false;
            self.phase.written();
            return written;
        }
        if !self.is_stalled {
            self.is_stalled = true;
            self.writing.as_mut().reset(Instant::now() + self.deadlines.write);
        }
        match self.writing.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(read) => {
                self.phase.read();
                Poll::Ready(read)
            }
            Poll::Pending => self.poll_late(cx),
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_stalled(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
