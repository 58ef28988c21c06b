//! Every limit of the server, with its reason. `docs/server.md` lists them.

use std::time::Duration;

/// Bytes of a body, as it was sent and expanded: a thousand points of 1,536 numbers as JSON take 31 MB.
pub const BODY_BYTES: usize = 32 << 20;

/// Bytes of all bodies that are held at once.
pub const BODIES_BYTES: usize = 512 << 20;

/// Slowest body, in bytes a second: slower is nobody who waits for an answer.
pub const BODY_BYTES_PER_SECOND: u64 = 1 << 10;

/// Seconds before the rate of a body is looked at.
pub const BODY_GRACE: Duration = Duration::from_secs(5);

/// Bytes of a body that are read though nobody wants them, so that a connection can be kept after a refusal.
pub const DRAINED_BYTES: u64 = 64 << 10;

/// How long is waited for them.
pub const DRAINED_FOR: Duration = Duration::from_secs(1);

/// Bytes of a request line and its headers.
pub const HEAD_BYTES: usize = 96 << 10;

/// Bytes of all header names and values.
pub const HEADER_BYTES: usize = 16 << 10;

/// Headers of a request.
pub const HEADERS: usize = 100;

/// Bytes of a path with its query.
pub const URI_BYTES: usize = 8 << 10;

/// Connections at once; more wait until one of these ends, or makes room.
pub const CONNECTIONS: usize = 1024;

/// Requests that wait for a worker; one more is answered 429.
pub const QUEUE: usize = 256;

/// Operations of one batch, and searches of one batch: each is as large as a request of its own may be.
pub const BATCH: usize = 1024;

/// Ids of one request.
pub const IDS: usize = 100_000;

/// How much the server does at once, as far as whoever runs it decides that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all bodies that are held at once.
    pub bodies_bytes: usize,
    /// Requests that are worked on at once; without, half as many again as threads.
    pub workers: Option<usize>,
    /// Connections at once; more wait until one of these ends.
    pub connections: usize,
    /// Which of the requests that wait is next.
    pub order: Order,
}

/// Which of the requests that wait is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Users share the workers by predicted cost, and large requests give way.
    #[default]
    Fair,
    /// The first that came, whose ever it is, and it is done in one go: what fairness is measured against.
    FirstCome,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bodies_bytes: BODIES_BYTES,
            workers: None,
            connections: CONNECTIONS,
            order: Order::default(),
        }
    }
}

/// How long the server waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// A request line with its headers, from its first byte on; and the first byte of a connection.
    pub head: Duration,
    /// A body, from the end of its headers on.
    pub body: Duration,
    /// The next request of a connection.
    pub idle: Duration,
    /// A client that reads nothing of its answer.
    pub write: Duration,
    /// Requests in flight, when the server stops.
    pub stop: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let [head, body, idle, write, stop] = [10, 30, 60, 30, 10].map(Duration::from_secs);
        Self { head, body, idle, write, stop }
    }
}

/// Bytes of a model's answer that are read at once, to be remembered; a longer one passes through and is not.
pub const ANSWER_BYTES: usize = 8 << 20;

/// How long a model server is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// A connection to it.
    pub connect: Duration,
    /// The head of its answer: a model that is not streamed thinks first.
    pub head: Duration,
    /// The next piece of its answer.
    pub idle: Duration,
    /// Another request that asks the same, before this one asks for itself.
    pub equal: Duration,
    /// The vector of a text, before the request goes on without.
    pub embed: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        let [connect, head, idle, equal, embed] = [5, 600, 300, 60, 2].map(Duration::from_secs);
        Self { connect, head, idle, equal, embed }
    }
}
