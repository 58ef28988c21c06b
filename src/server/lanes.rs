//! Which thread works on a request.
//!
//! A request that is predicted to be short is worked on by the thread that read it: waking another one, and being woken by it in turn,
//! takes about as long as a small search. One that is not as short stays in its thread too, which first hands its sockets to another.
//! One that is predicted to be large has a thread of its own, which the system puts behind the others. What waits for others, or has
//! a deadline at which it is answered whatever it does, has a thread beside.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::{block_in_place, spawn_blocking};

use crate::server::fair::PART_S;
use crate::server::lookout::{Inside, Lookout};

/// Up to what prediction a request is worked on where sockets are read: longer ones of other connections would notice.
const SHORT_S: f64 = 0.0002;

/// How far behind others the system puts large requests, in its own measure: from 0, as others, to 19.
const NICE: i32 = 10;

/// Threads for requests.
#[derive(Debug)]
pub struct Lanes {
    lookout: Option<Arc<Lookout>>,
    n_slow: Arc<watch::Sender<usize>>,
}

/// Where a request is worked on.
#[derive(Debug)]
enum Lane<'l> {
    /// In the thread that drives its connection.
    Here(Inside<'l>),
    /// In that thread, which hands other connections over.
    Instead,
    /// In a thread beside.
    Beside,
    /// In a thread of its own.
    Slow,
}

/// What is known of a request before it is begun.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// What it is predicted to take, in seconds.
    pub all_s: f64,
    /// Whether it waits for nothing, and is answered when it is done and not before.
    pub is_plain: bool,
}

/// Why there is nothing that a request came to.
#[derive(Debug)]
pub enum Failed {
    /// It panicked.
    Panic(Box<dyn Any + Send>),
    /// The server stops.
    Stopping,
    /// The system has no thread for it.
    NoThread(io::Error),
}

/// A large request that is being worked on, until this is dropped.
struct Slow(Arc<watch::Sender<usize>>);

impl Lanes {
    /// Threads for requests; short ones are worked on where sockets are read if somebody looks after those.
    pub fn new(lookout: Option<Arc<Lookout>>) -> Self {
        Self { lookout, n_slow: Arc::new(watch::Sender::new(0)) }
    }

    fn lane(&self, outlook: Outlook) -> Lane<'_> {
        if outlook.all_s > PART_S {
            return Lane::Slow;
        }
        if !outlook.is_plain {
            return Lane::Beside;
        }
        let lookout = self.lookout.as_ref().filter(|_| outlook.all_s <= SHORT_S);
        lookout.and_then(|lookout| lookout.enter()).map_or(Lane::Instead, Lane::Here)
    }

    /// What `job` returns. Once begun it is done to its end, whoever waits for it.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn run<T: Send + 'static>(
        &self,
        outlook: Outlook,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failed> {
        match self.lane(outlook) {
            Lane::Here(_inside) => caught(job),
            Lane::Instead => caught(|| block_in_place(job)),
            Lane::Beside => match spawn_blocking(|| caught(job)).await {
                Ok(done) => done,
                Err(_) => Err(Failed::Stopping),
            },
            Lane::Slow => self.slowly(job).await,
        }
    }

    async fn slowly<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failed> {
        self.n_slow.send_modify(|n| *n += 1);
        let slow = Slow(Arc::clone(&self.n_slow));
        let (sender, done) = oneshot::channel();
        let runtime = Handle::current();
        let work = move || {
            let _entered = runtime.enter();
            step_back();
            // Whoever asked may not wait any longer.
            drop(sender.send(caught(job)));
            drop(slow);
        };
        thread::Builder::new()
            .name("nearkin-slow".to_owned())
            .spawn(work)
            .map_err(Failed::NoThread)?;
        done.await.unwrap_or(Err(Failed::Stopping))
    }

    /// Waits until no large request is being worked on.
    pub async fn ended(&self) {
        let mut n_slow = self.n_slow.subscribe();
        // It ends with this, which is borrowed.
        drop(n_slow.wait_for(|n| *n == 0).await);
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

fn caught<T>(job: impl FnOnce() -> T) -> Result<T, Failed> {
    catch_unwind(AssertUnwindSafe(job)).map_err(Failed::Panic)
}

/// Puts this thread behind others that want the processor.
#[cfg(target_os = "linux")]
fn step_back() {
    let own = Some(rustix::thread::gettid());
    // Where that is refused it works as others do.
    let _ = rustix::process::setpriority_process(own, NICE);
}

/// Elsewhere a thread works as others do: what other systems take for a thread is the whole process.
#[cfg(not(target_os = "linux"))]
fn step_back() {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SHORT: Outlook = Outlook { all_s: 0.0, is_plain: true };
    const MIDDLE: Outlook = Outlook { all_s: PART_S, is_plain: true };
    const BESIDE: Outlook = Outlook { all_s: PART_S, is_plain: false };
    const LARGE: Outlook = Outlook { all_s: 1.0, is_plain: true };
    const EVERY: [Outlook; 4] = [SHORT, MIDDLE, BESIDE, LARGE];

    /// Runs a test where connections would be driven, by two threads.
    fn driven<T: Send + 'static>(test: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
        let runtime = runtime.unwrap();
        runtime.block_on(runtime.spawn(test)).unwrap()
    }

    fn lanes() -> Lanes {
        Lanes::new(Some(Lookout::start(1, || ()).unwrap()))
    }

    #[test]
    fn only_what_is_short_or_can_wait_is_done_by_the_thread_that_drives_connections() {
        let stayed = driven(async {
            let (lanes, mut stayed) = (lanes(), Vec::new());
            for outlook in EVERY {
                let own = thread::current().id();
                let worked = lanes.run(outlook, || {
                    Handle::try_current().expect("some requests ask others from where they are");
                    thread::current().id()
                });
                stayed.push(worked.await.unwrap() == own);
            }
            stayed
        });
        assert_eq!(stayed, [true, true, false, false]);
    }

    #[test]
    fn others_are_driven_while_a_request_that_is_not_short_is_worked_on() {
        for outlook in [MIDDLE, BESIDE, LARGE] {
            driven(async move {
                let (sender, receiver) = std::sync::mpsc::channel();
                let waking = tokio::spawn(async move {
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                    sender.send(()).unwrap();
                });
                let waits = move || receiver.recv_timeout(Duration::from_secs(20));
                lanes().run(outlook, waits).await.unwrap().unwrap();
                waking.await.unwrap();
            });
        }
    }

    #[test]
    fn a_panic_is_caught_in_every_thread_and_the_next_request_is_done() {
        driven(async {
            let lanes = lanes();
            for outlook in EVERY {
                let failed: Result<(), Failed> = lanes.run(outlook, || panic!("a bug")).await;
                let Err(Failed::Panic(panic)) = failed else { panic!("{outlook:?}") };
                assert_eq!(panic.downcast_ref::<&str>(), Some(&"a bug"));
                assert_eq!(lanes.run(outlook, || 7).await.unwrap(), 7);
            }
        });
    }

    #[test]
    fn a_large_request_is_waited_for_though_nobody_wants_it_any_more() {
        driven(async {
            let lanes = Arc::new(lanes());
            let (go, goes) = std::sync::mpsc::channel();
            let (own, (ends, ended)) = (Arc::clone(&lanes), std::sync::mpsc::channel());
            let (begins, begun) = oneshot::channel();
            let asked = tokio::spawn(async move {
                own.run(LARGE, move || {
                    begins.send(()).unwrap();
                    goes.recv().unwrap();
                    ends.send(()).unwrap();
                })
                .await
            });
            begun.await.unwrap();
            asked.abort();
            assert!(asked.await.unwrap_err().is_cancelled());
            assert_eq!(*lanes.n_slow.borrow(), 1, "it goes on");
            go.send(()).unwrap();
            lanes.ended().await;
            ended.try_recv().expect("it was done whole");
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_large_request_is_behind_others_and_no_other_is() {
        let nice = || {
            let own = Some(rustix::thread::gettid());
            rustix::process::getpriority_process(own).unwrap()
        };
        let before = nice();
        let nices = driven(async move {
            let (lanes, mut nices) = (lanes(), Vec::new());
            for outlook in [LARGE, SHORT, MIDDLE, BESIDE] {
                nices.push(lanes.run(outlook, nice).await.unwrap());
            }
            nices
        });
        assert_eq!(nices, [before.max(NICE), before, before, before]);
    }
}
