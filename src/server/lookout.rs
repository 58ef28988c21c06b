//! Short requests are worked on by the threads that read sockets, so that none has to be woken for them. If one turns out not to be
//! short, somebody else has to read sockets meanwhile.
//!
//! Of the threads that read sockets one waits for them, and the others wait to be woken by it. When it works itself nobody waits for
//! sockets until it is back. So a thread of its own looks every millisecond, while there are such requests, whether they end; where
//! none does, it wakes another of the threads, which then waits for sockets.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

/// How often it is looked whether requests end.
const TICK: Duration = Duration::from_millis(1);

/// After so many looks at nothing the thread sleeps until a request comes.
const IDLE: u32 = 100;

/// Counts requests that are worked on where sockets are read.
#[derive(Debug)]
pub struct Lookout {
    n_most: usize,
    n_inside: AtomicUsize,
    n_left: AtomicU64,
    is_asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub struct Inside<'l>(&'l Lookout);

impl Lookout {
    /// One that lets in so many requests at once, and calls `wake` as long as none of them ends.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub fn start(n_most: usize, wake: impl Fn() + Send + 'static) -> std::io::Result<Arc<Self>> {
        let (n_inside, n_left, is_asleep) = Default::default();
        let thread = OnceLock::new();
        let lookout = Arc::new(Self { n_most, n_inside, n_left, is_asleep, thread });
        let own = Arc::downgrade(&lookout);
        let keeping = thread::Builder::new().name("nearkin-lookout".to_owned());
        let keeping = keeping.spawn(move || keep(&own, wake))?;
        lookout.thread.get_or_init(|| keeping.thread().clone());
        Ok(lookout)
    }

    /// Lets a request in, if fewer are in than may be.
    pub fn enter(&self) -> Option<Inside<'_>> {
        let more = |n: usize| (n < self.n_most).then_some(n + 1);
        self.n_inside.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            self.unpark();
        }
        Some(Inside(self))
    }

    /// Whether the thread may sleep: nothing came while it fell asleep.
    fn falls_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::SeqCst);
        self.n_inside.load(Ordering::SeqCst) == 0
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.n_left.fetch_add(1, Ordering::SeqCst);
        self.0.n_inside.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.unpark();
    }
}

/// Looks until there is no more to be looked after.
fn keep(lookout: &Weak<Lookout>, wake: impl Fn()) {
    let (mut before, mut n_idle) = (None, 0);
    loop {
        thread::sleep(TICK);
        let Some(own) = lookout.upgrade() else { return };
        let n_left = own.n_left.load(Ordering::SeqCst);
        if own.n_inside.load(Ordering::SeqCst) > 0 {
            if before == Some(n_left) {
                wake();
            }
            (before, n_idle) = (Some(n_left), 0);
            continue;
        }
        (before, n_idle) = (None, n_idle + 1);
        if n_idle > IDLE && own.falls_asleep() {
            drop(own);
            thread::park();
            n_idle = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn sockets_are_read_while_a_request_that_seemed_short_is_not() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let handle = runtime.handle().clone();
        let lookout = Lookout::start(1, move || drop(handle.spawn(async {}))).unwrap();
        let bound = || {
            let _entered = runtime.enter();
            let socket = runtime.block_on(tokio::net::UdpSocket::bind("127.0.0.1:0")).unwrap();
            (socket.local_addr().unwrap(), socket)
        };
        let ((long, long_socket), (short, short_socket)) = (bound(), bound());
        let ((began, has_begun), (answered, is_answered)) = (channel(), channel());
        let own = Arc::clone(&lookout);
        let working = runtime.spawn(async move {
            long_socket.recv(&mut [0]).await.unwrap();
            let _inside = own.enter().unwrap();
            assert!(own.enter().is_none(), "one thread is left to read sockets");
            began.send(()).unwrap();
            is_answered.recv_timeout(Duration::from_secs(20))
        });
        runtime.spawn(async move {
            short_socket.recv(&mut [0]).await.unwrap();
            answered.send(()).unwrap();
        });
        // By then one thread waits for sockets, and the other for it.
        thread::sleep(Duration::from_millis(300));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&[1], long).unwrap();
        has_begun.recv().unwrap();
        client.send_to(&[1], short).unwrap();
        runtime.block_on(working).unwrap().expect("the other socket was read meanwhile");
        assert!(lookout.enter().is_some(), "it is free again");
    }

    #[test]
    fn it_sleeps_while_there_is_nothing_wakes_for_the_next_and_ends_with_its_owner() {
        let (woken, wakes) = channel();
        // Nobody may be waiting any more.
        let wake = move || woken.send(()).unwrap_or_default();
        let lookout = Lookout::start(2, wake).unwrap();
        let is_asleep = || lookout.is_asleep.load(Ordering::SeqCst);
        while !is_asleep() {
            thread::yield_now();
        }
        let inside = lookout.enter().unwrap();
        assert!(!is_asleep());
        wakes.recv_timeout(Duration::from_secs(20)).expect("it looks again");
        drop(inside);
        drop(lookout);
        while wakes.recv().is_ok() {}
    }
}
