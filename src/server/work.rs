//! Where requests are worked on: engine calls block, so that they have threads of their own, with a bounded queue before them.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use hyper::header::RETRY_AFTER;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::server::limits::QUEUE;
use crate::server::reply::Refusal;

/// Workers, and the queue before them.
pub struct Work {
    places: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    incidents: AtomicU64,
}

/// A place in the queue, until it is dropped.
pub struct Place(OwnedSemaphorePermit);

impl Work {
    /// So many workers.
    pub fn new(n_workers: usize) -> Self {
        let places = Arc::new(Semaphore::new(QUEUE + n_workers));
        let workers = Arc::new(Semaphore::new(n_workers));
        Self { places, workers, incidents: AtomicU64::new(0) }
    }

    /// A place in the queue.
    ///
    /// # Errors
    /// `overloaded`, 429, if there is none.
    pub fn place(&self) -> Result<Place, Refusal> {
        Arc::clone(&self.places).try_acquire_owned().map(Place).map_err(|_| {
            let message = format!("overloaded: {QUEUE} requests are waiting");
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, message).with(RETRY_AFTER, "1")
        })
    }

    /// What `job` returns, once a worker is free. Whoever stops waiting before that has asked for nothing; a job that has begun
    /// is done to its end, whoever waits for it.
    ///
    /// # Errors
    /// `incident`, 500, if the job panics: that is a bug of ours, of which the log of the server says more.
    pub async fn run<T: Send + 'static>(
        &self,
        place: Place,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let worker = Arc::clone(&self.workers).acquire_owned().await;
        let working = spawn_blocking(move || {
            let _held = (place.0, worker);
            job()
        });
        working.await.map_err(|error| match error.try_into_panic() {
            Ok(panic) => self.incident(&*panic),
            Err(_) => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "shutting_down: the server stops".to_owned(),
            ),
        })
    }

    /// Says on the standard error what happened, and to the client under which number.
    fn incident(&self, panic: &(dyn Any + Send)) -> Refusal {
        let number = self.incidents.fetch_add(1, Ordering::Relaxed) + 1;
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        eprintln!("incident {number}: {}", text.unwrap_or("a panic without a text"));
        let message = format!("incident: number {number}, a fault of the server, is in its log");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Panics that were contained.
    pub fn n_incidents(&self) -> u64 {
        self.incidents.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_work(test: impl AsyncFnOnce(Work)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        runtime.unwrap().block_on(test(Work::new(2)));
    }

    #[test]
    fn a_panic_is_an_answer_with_a_number_and_the_next_job_is_done() {
        with_work(async |work| {
            for number in 1..4 {
                let panics = work.run(work.place().unwrap(), || panic!("a bug")).await;
                let refusal = Result::<(), _>::unwrap_err(panics);
                assert_eq!(refusal.status(), StatusCode::INTERNAL_SERVER_ERROR);
                assert_eq!(work.n_incidents(), number);
                assert_eq!(work.run(work.place().unwrap(), || 7).await, Ok(7));
            }
        });
    }

    #[test]
    fn past_the_queue_requests_are_refused_until_there_is_a_place() {
        with_work(async |work| {
            let mut places: Vec<Place> = (0..QUEUE + 2).map(|_| work.place().unwrap()).collect();
            let refusal = work.place().err().unwrap();
            assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
            let response = refusal.response(std::time::Instant::now());
            assert_eq!(response.headers()[RETRY_AFTER], "1");
            assert_eq!(work.run(places.pop().unwrap(), || 7).await, Ok(7));
            assert!(work.place().is_ok());
        });
    }

    #[test]
    fn who_stops_waiting_before_a_worker_is_free_has_asked_for_nothing() {
        with_work(async |work| {
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let wait = Arc::new(std::sync::Mutex::new(wait));
            let busy = |work: &Work| {
                let (place, wait) = (work.place().unwrap(), Arc::clone(&wait));
                let worker = Arc::clone(&work.workers).try_acquire_owned().unwrap();
                spawn_blocking(move || {
                    let _held = (place, worker);
                    wait.lock().unwrap().recv().unwrap();
                })
            };
            let both = (busy(&work), busy(&work));
            let done = Arc::new(AtomicU64::new(0));
            let own = Arc::clone(&done);
            let mut dropped = Box::pin(work.run(work.place().unwrap(), move || {
                own.fetch_add(1, Ordering::Relaxed);
            }));
            let waker = std::task::Waker::noop();
            let mut context = std::task::Context::from_waker(waker);
            assert!(dropped.as_mut().poll(&mut context).is_pending());
            drop(dropped);
            go.send(()).unwrap();
            go.send(()).unwrap();
            both.0.await.unwrap();
            both.1.await.unwrap();
            assert_eq!(work.run(work.place().unwrap(), || 7).await, Ok(7));
            assert_eq!(done.load(Ordering::Relaxed), 0);
        });
    }
}
