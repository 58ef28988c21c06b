//! Where requests are worked on: engine calls block, so that there are so many at once as there are workers, which users share.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

use crate::server::fair::predict::Predictor;
use crate::server::fair::{Fair, Load, PART_S, Place, Shares, Turn};
use crate::server::keys::rule::{Caller, User};
use crate::server::lanes::{Failed, Lanes, Outlook};
use crate::server::limits::{Order, QUEUE};
use crate::server::lookout::Lookout;
use crate::server::moment::Clock;
use crate::server::reply::Refusal;

/// After how many seconds of work a request lets others come first, at the next place where it can.
const GIVE_WAY_S: f64 = PART_S / 4.0;

/// Workers, and who waits for them.
pub struct Work {
    fair: Fair,
    predictor: Predictor,
    order: Order,
    incidents: AtomicU64,
    lanes: Lanes,
}

/// What is to be done, as far as it says how long that takes.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Pattern of the route.
    pub route: &'static str,
    /// The collection.
    pub collection: &'a str,
    /// How much was sent: the more, the longer.
    pub n_bytes: usize,
    /// Whether it waits for nothing, and is answered when it is done and not before.
    pub is_plain: bool,
}

impl Task<'_> {
    /// What a prediction is for one of.
    fn n_units(&self) -> usize {
        1 + self.n_bytes / 1024
    }
}

impl Work {
    /// So many workers for so many cores. If there are more than cores one user never has all of them: the last is of no use to it, and
    /// whoever comes next need not wait.
    pub fn new((n_workers, n_cores): (usize, usize), order: Order, clock: Arc<dyn Clock>) -> Self {
        let shares = match order {
            Order::Fair => {
                Shares { n_reserved: usize::from(n_workers > n_cores), part_s: GIVE_WAY_S }
            }
            Order::FirstCome => Shares { part_s: f64::INFINITY, n_reserved: 0 },
        };
        let fair = Fair::with_shares(n_workers, QUEUE, clock, shares);
        let (predictor, incidents, lanes) =
            (Predictor::default(), AtomicU64::new(0), Lanes::new(None));
        Self { fair, predictor, order, incidents, lanes }
    }

    /// The same, whose short tasks are worked on where sockets are read.
    pub fn with_lookout(self, lookout: Arc<Lookout>) -> Self {
        Self { lanes: Lanes::new(Some(lookout)), ..self }
    }

    /// A turn for this task, once it is that.
    async fn turn(&self, caller: &Caller, all_s: f64) -> Result<Turn, Refusal> {
        let turn = match self.order {
            Order::Fair => {
                self.fair.turn(&caller.user(), caller.weight(), all_s.min(PART_S), all_s).await
            }
            // Of one user whose requests all take nothing, the first is first.
            Order::FirstCome => self.fair.turn(&User::Local, 1.0, 0.0, 0.0).await,
        };
        Ok(turn?)
    }

    /// A place among the requests of the caller, whatever it waits for, until it is dropped.
    ///
    /// # Errors
    /// `overloaded`, 429, if there is none.
    pub fn place(&self, caller: &Caller) -> Result<Place, Refusal> {
        Ok(self.fair.place(&caller.user())?)
    }

    /// What `job` returns, once it is the caller's turn. Whoever stops waiting before that has asked for nothing; a job that has
    /// begun is done to its end, whoever waits for it.
    ///
    /// # Errors
    /// `overloaded`, 429; `incident`, 500, if the job panics: that is a bug of ours, of which the log of the server says more.
    pub async fn run<T: Send + 'static>(
        &self,
        caller: &Caller,
        task: Task<'_>,
        job: impl FnOnce(Turn) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let all_s = self.predictor.predict(task.route, task.collection, task.n_units());
        let turn = self.turn(caller, all_s).await?;
        let outlook = Outlook { all_s, is_plain: task.is_plain };
        let done = self.lanes.run(outlook, move || job(turn)).await;
        done.map_err(|failed| match failed {
            Failed::Panic(panic) => self.incident(&*panic),
            Failed::Stopping => unavailable("shutting_down: the server stops"),
            Failed::NoThread(error) => unavailable(&format!("no_thread: {error}")),
        })
    }

    /// Waits until nothing large is being worked on.
    pub async fn ended(&self) {
        self.lanes.ended().await;
    }

    /// Takes in what a task took.
    pub fn learn(&self, task: Task<'_>, worked_s: f64) {
        self.predictor.learn(task.route, task.collection, task.n_units(), worked_s);
    }

    /// How much there is to do.
    pub fn load(&self) -> Load {
        self.fair.load()
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

fn unavailable(message: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::moment::SystemClock;

    const TASK: Task<'static> = Task { route: "/x", collection: "", n_bytes: 0, is_plain: true };

    fn with_work(test: impl AsyncFnOnce(Work)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let work = Work::new((2, 2), Order::Fair, Arc::new(SystemClock::default()));
        runtime.unwrap().block_on(test(work));
    }

    #[test]
    fn a_panic_is_an_answer_with_a_number_and_the_next_job_is_done() {
        with_work(async |work| {
            let local = Caller::local();
            for number in 1..4 {
                let panics = work.run(&local, TASK, |_| panic!("a bug")).await;
                let refusal = Result::<(), _>::unwrap_err(panics);
                assert_eq!(refusal.status(), StatusCode::INTERNAL_SERVER_ERROR);
                assert_eq!(work.n_incidents(), number);
                assert_eq!(work.run(&local, TASK, |_| 7).await, Ok(7));
            }
            assert_eq!(work.load().n_running, 0);
        });
    }

    #[test]
    fn past_the_queue_requests_are_refused_until_there_is_a_place() {
        with_work(async |work| {
            let local = Caller::local();
            let mut places: Vec<Place> =
                (0..QUEUE + 2).map(|_| work.place(&local).unwrap()).collect();
            let refusal = work.place(&local).err().unwrap();
            assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
            let response = refusal.response(Default::default(), std::time::Instant::now());
            assert_eq!(response.headers()["retry-after"], "1");
            assert!(work.place(&Caller::nobody()).is_err(), "the same user");
            places.pop();
            assert!(work.place(&local).is_ok());
        });
    }

    #[test]
    fn predictions_follow_what_was_learnt() {
        with_work(async |work| {
            let large = Task { n_bytes: 9 * 1024, ..TASK };
            work.learn(large, 1.0);
            let predicted = work.predictor.predict(TASK.route, "", TASK.n_units());
            assert!((predicted - 0.1).abs() < 1e-9, "{predicted}");
        });
    }
}
