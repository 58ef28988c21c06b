//! Who works when: users share the workers by predicted cost, large requests give way between their parts.
//!
//! In: a user, what its request is predicted to take, and the request in parts. Out: a [`Turn`] for each part, while which one
//! worker is held; or a refusal, when as many requests of the user wait as may. Next: `queue`, whose turn it is; `predict`, what
//! requests take; `simulation`, what comes of it, on a clock that is made up.
//!
//! A turn that is dropped, however that comes about, is given back; so is the place of a request that is not waited for
//! any longer.

pub mod predict;
pub mod queue;
#[cfg(test)]
mod simulation;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot::{Receiver, Sender, channel};
use tokio::task::{block_in_place, spawn_blocking};

use crate::server::fair::queue::Queue;
use crate::server::keys::refusal::Refusal;
use crate::server::keys::rule::User;
use crate::server::moment::Clock;

/// What a part of a request should take: so long others wait for a worker that is just taken.
pub const PART_S: f64 = 0.002;

/// Workers, and who waits for them.
#[derive(Clone, Debug)]
pub struct Fair {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    n_workers: usize,
    limit: usize,
    shares: Shares,
}

/// How workers are shared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// After how many seconds a request gives way.
    pub part_s: f64,
    /// Workers that one user never has: whoever comes next finds one free.
    pub n_reserved: usize,
}

impl Default for Shares {
    fn default() -> Self {
        Self { part_s: PART_S, n_reserved: 0 }
    }
}

#[derive(Debug)]
struct State {
    queue: Queue<User, Sender<Turn>>,
    n_free: usize,
    /// Requests of each user, whatever they wait for.
    places: BTreeMap<User, usize>,
}

/// A place among the requests of a user, until it is dropped.
#[derive(Debug)]
pub struct Place {
    inner: Arc<Inner>,
    user: User,
}

/// A worker, held for one part of a request until this is dropped.
#[derive(Debug)]
pub struct Turn {
    inner: Arc<Inner>,
    user: User,
    cost_s: f64,
    place: queue::Place,
    began: Duration,
    /// Seconds of earlier parts.
    earlier_s: f64,
    is_given_back: bool,
}

/// A part of a request.
pub struct Part<T> {
    /// What it is predicted to take.
    pub cost_s: f64,
    /// The work, which blocks.
    pub work: Box<dyn FnOnce() -> T + Send>,
}

/// How much there is to do, as shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests that wait, or parts of them.
    pub n_waiting: usize,
    /// Turns that were given.
    pub n_running: usize,
    /// Users of whom either is.
    pub n_users: usize,
}

impl Fair {
    /// So many workers, for each of whom so many requests of one user may wait.
    pub fn new(n_workers: usize, limit: usize, clock: Arc<dyn Clock>) -> Self {
        Self::with_shares(n_workers, limit, clock, Shares::default())
    }

    /// The same with workers that are shared so.
    pub fn with_shares(
        n_workers: usize,
        limit: usize,
        clock: Arc<dyn Clock>,
        shares: Shares,
    ) -> Self {
        let state = State { queue: Queue::new(limit), n_free: n_workers, places: BTreeMap::new() };
        let inner = Inner { state: Mutex::new(state), clock, n_workers, limit, shares };
        Self { inner: Arc::new(inner) }
    }

    /// The results of all parts of a request, each done in a turn of its own.
    ///
    /// # Errors
    /// `overloaded`, before anything was begun.
    ///
    /// # Panics
    /// As a part does.
    pub async fn run<T: Send + 'static>(
        &self,
        user: &User,
        weight: f64,
        parts: Vec<Part<T>>,
    ) -> Result<Vec<T>, Refusal> {
        let mut left_s: f64 = parts.iter().map(|part| part.cost_s).sum();
        let mut results = Vec::with_capacity(parts.len());
        let mut turn: Option<Turn> = None;
        for Part { cost_s, work } in parts {
            let held = match turn.take() {
                Some(turn) => turn.next(cost_s).await,
                None => self.turn(user, weight, cost_s, left_s).await?,
            };
            left_s -= cost_s;
            let done = spawn_blocking(move || {
                let result = work();
                (held, result)
            });
            let (held, result) = match done.await {
                Ok(done) => done,
                Err(error) => resume_unwind(error.into_panic()),
            };
            results.push(result);
            turn = Some(held);
        }
        Ok(results)
    }

    /// A place for a request, before it waits for anything: for a lock, say, or for its turn.
    ///
    /// # Errors
    /// `overloaded` if as many of the user have one as may wait and work.
    pub fn place(&self, user: &User) -> Result<Place, Refusal> {
        let limit = self.inner.limit + self.inner.n_workers;
        let mut state = self.inner.state();
        let n_places = state.places.entry(user.clone()).or_default();
        if *n_places >= limit {
            return Err(Refusal::overloaded(*n_places, limit, 1));
        }
        *n_places += 1;
        Ok(Place { inner: Arc::clone(&self.inner), user: user.clone() })
    }

    /// A turn, once it is this user's, for a request whose first part is predicted to take `cost_s` and all of it `all_s`.
    ///
    /// # Errors
    /// `overloaded`.
    pub async fn turn(
        &self,
        user: &User,
        weight: f64,
        cost_s: f64,
        all_s: f64,
    ) -> Result<Turn, Refusal> {
        let (sender, turn) = channel();
        let number = {
            let mut state = self.inner.state();
            let pushed = state.queue.push(user, (weight, cost_s, all_s), sender);
            let number = pushed.map_err(|full| {
                let seconds = (full.waiting_s / self.inner.n_workers as f64).ceil().max(1.0);
                Refusal::overloaded(full.n_waiting, self.inner.limit, seconds as u64)
            })?;
            self.inner.give(&mut state);
            number
        };
        Ok(Waiting { inner: Arc::clone(&self.inner), user, number, turn }.turn().await)
    }

    /// How much there is to do.
    pub fn load(&self) -> Load {
        let state = self.inner.state();
        Load {
            n_waiting: state.queue.n_waiting(),
            n_running: self.inner.n_workers - state.n_free,
            n_users: state.queue.n_users(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        if let Some(n_places) = state.places.get_mut(&self.user) {
            *n_places -= 1;
            if *n_places == 0 {
                state.places.remove(&self.user);
            }
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives turns to those whose they are, as long as workers are free.
    fn give(self: &Arc<Self>, state: &mut State) {
        let most = self.n_workers.saturating_sub(self.shares.n_reserved).max(1);
        while state.n_free > 0 {
            let Some(next) = state.queue.pop_below(most) else { return };
            let turn = Turn {
                inner: Arc::clone(self),
                user: next.user,
                cost_s: next.cost_s,
                place: next.place,
                began: self.clock.now().steady,
                earlier_s: 0.0,
                is_given_back: false,
            };
            state.n_free -= 1;
            if let Err(mut turn) = next.job.send(turn) {
                turn.give_back(state);
            }
        }
    }
}

impl Turn {
    /// The turn for the next part, once it is that: others may come first.
    pub async fn next(mut self, cost_s: f64) -> Self {
        let user = self.user.clone();
        let (earlier_s, waiting) = self.end_part(&user, cost_s);
        let mut turn = waiting.turn().await;
        turn.earlier_s = earlier_s;
        turn
    }

    /// Lets others come first, if this part took its time. Blocks until it is the user's turn again, and says for how many
    /// seconds. A thread that drives futures leaves them to another meanwhile.
    pub fn give_way(&mut self) -> f64 {
        let part_s = self.inner.shares.part_s;
        if self.part_s() < part_s {
            return 0.0;
        }
        let (user, began) = (self.user.clone(), Instant::now());
        let (earlier_s, waiting) = self.end_part(&user, part_s.min(PART_S));
        *self = waiting.blocking_turn();
        self.earlier_s = earlier_s;
        began.elapsed().as_secs_f64()
    }

    /// Seconds that were worked in this turn and those before it.
    pub fn worked_s(&self) -> f64 {
        self.earlier_s + self.part_s()
    }

    fn part_s(&self) -> f64 {
        self.inner.clock.now().steady.saturating_sub(self.began).as_secs_f64()
    }

    /// Gives the worker back and waits for the next.
    fn end_part<'u>(&mut self, user: &'u User, cost_s: f64) -> (f64, Waiting<'u>) {
        let (sender, turn) = channel();
        let (inner, worked_s) = (Arc::clone(&self.inner), self.worked_s());
        let number = {
            let mut state = inner.state();
            // Before the worker is given back: whoever wants something is not forgotten.
            let number = state.queue.push_on(user, cost_s, self.place, sender);
            self.give_back(&mut state);
            inner.give(&mut state);
            number
        };
        (worked_s, Waiting { inner, user, number, turn })
    }

    fn give_back(&mut self, state: &mut State) {
        state.queue.end(&self.user, self.cost_s, self.part_s());
        state.n_free += 1;
        self.is_given_back = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_given_back {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let mut state = inner.state();
        self.give_back(&mut state);
        inner.give(&mut state);
    }
}

/// A request that waits for its turn, and gives up its place when it is dropped.
struct Waiting<'a> {
    inner: Arc<Inner>,
    user: &'a User,
    number: u64,
    turn: Receiver<Turn>,
}

const WAITS: &str = "who waits is in the queue until it is given a turn";

impl Waiting<'_> {
    async fn turn(mut self) -> Turn {
        (&mut self.turn).await.expect(WAITS)
    }

    fn blocking_turn(mut self) -> Turn {
        // The receiver is taken out, as this cannot be: it gives its place up when dropped.
        let (_, nobody) = channel();
        let mut given = std::mem::replace(&mut self.turn, nobody);
        match given.try_recv() {
            Ok(turn) => turn,
            // Who drives futures may not block, and hands them over first.
            Err(_) => block_in_place(|| given.blocking_recv()).expect(WAITS),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A turn that came and was not taken is dropped with the receiver, after this.
        self.inner.state().queue.remove(self.user, self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::server::moment::Moment;

    #[derive(Debug, Default)]
    struct Told(AtomicU64);

    impl Clock for Told {
        fn now(&self) -> Moment {
            let steady = Duration::from_millis(self.0.load(Ordering::Relaxed));
            Moment { unix_ms: 0, steady }
        }
    }

    fn user(name: &str) -> User {
        User::Tenant(name.into())
    }

    fn fair(n_workers: usize, limit: usize) -> Fair {
        Fair::new(n_workers, limit, Arc::new(Told::default()))
    }

    fn poll<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn loaded(n_waiting: usize, n_running: usize, n_users: usize) -> Load {
        Load { n_waiting, n_running, n_users }
    }

    #[test]
    fn a_turn_is_given_when_a_worker_is_free_and_given_back_when_dropped() {
        let (fair, ann, ben) = (fair(1, 4), user("ann"), user("ben"));
        let mut first = pin!(fair.turn(&ann, 1.0, 0.001, 0.001));
        let Poll::Ready(Ok(turn)) = poll(&mut first) else { panic!("a worker is free") };
        let mut second = pin!(fair.turn(&ben, 1.0, 0.001, 0.001));
        assert!(poll(&mut second).is_pending());
        assert_eq!(fair.load(), loaded(1, 1, 2));
        drop(turn);
        assert!(poll(&mut second).is_ready());
        assert_eq!(fair.load(), loaded(0, 0, 0));
    }

    #[test]
    fn the_last_worker_is_kept_for_another_user() {
        let shares = Shares { n_reserved: 1, ..Shares::default() };
        let fair = Fair::with_shares(3, 8, Arc::new(Told::default()), shares);
        let ask = |name: &str| {
            let (fair, user) = (fair.clone(), user(name));
            Box::pin(async move { fair.turn(&user, 1.0, 0.001, 0.001).await })
        };
        let mut held = [ask("ann"), ask("ann")].map(|mut asked| poll(&mut asked.as_mut()));
        assert!(held.iter().all(Poll::is_ready));
        let mut third = ask("ann");
        assert!(poll(&mut third.as_mut()).is_pending(), "one is free, and not for ann");
        let other = poll(&mut ask("ben").as_mut());
        assert!(other.is_ready(), "it is for ben");
        drop(other);
        assert!(poll(&mut third.as_mut()).is_pending());
        held[0] = Poll::Pending;
        assert!(poll(&mut third.as_mut()).is_ready());
    }

    #[test]
    fn past_the_limit_a_user_is_refused_and_another_is_not() {
        let (fair, ann, ben) = (fair(1, 2), user("ann"), user("ben"));
        let ask = |user: &User| {
            let (fair, user) = (fair.clone(), user.clone());
            Box::pin(async move { fair.turn(&user, 1.0, 3.0, 3.0).await })
        };
        let Poll::Ready(Ok(held)) = poll(&mut ask(&ann).as_mut()) else { panic!("one is free") };
        let mut waiting = [ask(&ann), ask(&ann)];
        assert!(waiting.iter_mut().all(|waiting| poll(&mut waiting.as_mut()).is_pending()));
        let Poll::Ready(Err(refused)) = poll(&mut ask(&ann).as_mut()) else { panic!("2 wait") };
        assert_eq!((refused.status, refused.retry_after_s), (429, Some(6)));
        assert_eq!(refused.message, "2 of 2 requests wait already");
        assert!(poll(&mut ask(&ben).as_mut()).is_pending(), "ben's own queue");
        drop((held, waiting));
        assert_eq!(fair.load(), loaded(0, 0, 0));
    }

    #[test]
    fn places_are_counted_for_each_user_and_given_back() {
        let (fair, ann, ben) = (fair(2, 3), user("ann"), user("ben"));
        let places: Vec<Place> = (0..5).map(|_| fair.place(&ann).unwrap()).collect();
        let refused = fair.place(&ann).unwrap_err();
        assert_eq!((refused.status, refused.retry_after_s), (429, Some(1)));
        assert!(fair.place(&ben).is_ok());
        drop(places);
        assert!(fair.place(&ann).is_ok());
        assert!(fair.inner.state().places.is_empty());
    }

    #[test]
    fn a_request_that_is_given_up_leaves_no_place_and_no_turn_taken() {
        let (fair, ann) = (fair(1, 8), user("ann"));
        let ask = || {
            let (fair, ann) = (fair.clone(), ann.clone());
            Box::pin(async move { fair.turn(&ann, 1.0, 0.001, 0.001).await })
        };
        let mut held = ask();
        let Poll::Ready(Ok(turn)) = poll(&mut held.as_mut()) else { panic!("a worker is free") };
        let (mut given_up, mut unread, mut last) = (ask(), ask(), ask());
        for waiting in [&mut given_up, &mut unread, &mut last] {
            assert!(poll(&mut waiting.as_mut()).is_pending());
        }
        drop(given_up);
        assert_eq!(fair.load().n_waiting, 2);
        drop(turn);
        // The turn lies in the channel of a request that is dropped before it looks.
        drop(unread);
        assert!(poll(&mut last.as_mut()).is_ready(), "it came to the next");
        assert_eq!(fair.load(), loaded(0, 0, 0));
    }

    #[test]
    fn between_its_parts_a_large_request_gives_way() {
        let (fair, ann, ben) = (fair(1, 8), user("ann"), user("ben"));
        let mut large = pin!(fair.turn(&ann, 1.0, 0.002, 1.0));
        let Poll::Ready(Ok(part)) = poll(&mut large) else { panic!("a worker is free") };
        let mut small = pin!(fair.turn(&ben, 1.0, 0.001, 0.001));
        assert!(poll(&mut small).is_pending());
        let mut next = pin!(part.next(0.002));
        assert!(poll(&mut next).is_pending(), "ben is first");
        let Poll::Ready(Ok(turn)) = poll(&mut small) else { panic!("it is ben's turn") };
        drop(turn);
        assert!(poll(&mut next).is_ready());
    }

    #[test]
    fn work_that_blocks_gives_way_once_it_took_its_time() {
        let clock = Arc::new(Told::default());
        let fair = Fair::new(1, 8, Arc::clone(&clock) as Arc<dyn Clock>);
        let (ann, ben) = (user("ann"), user("ben"));
        let Poll::Ready(Ok(mut held)) = poll(&mut pin!(fair.turn(&ann, 1.0, 0.002, 1.0))) else {
            panic!("a worker is free")
        };
        let mut small = pin!(fair.turn(&ben, 1.0, 0.001, 0.001));
        assert!(poll(&mut small).is_pending());
        clock.0.store(1, Ordering::Relaxed);
        held.give_way();
        assert!(poll(&mut small).is_pending(), "it took no time yet");
        clock.0.store(5, Ordering::Relaxed);
        let large = std::thread::spawn(move || {
            held.give_way();
            held
        });
        let turn = loop {
            if let Poll::Ready(turn) = poll(&mut small) {
                break turn.unwrap();
            }
            std::thread::yield_now();
        };
        assert!(!large.is_finished(), "ben works now");
        clock.0.store(7, Ordering::Relaxed);
        drop(turn);
        let held = large.join().unwrap();
        clock.0.store(8, Ordering::Relaxed);
        assert!((held.worked_s() - 0.006).abs() < 1e-9, "5 ms before and 1 ms after");
        drop(held);
        assert_eq!(fair.load(), loaded(0, 0, 0));
    }

    #[test]
    fn parts_are_run_in_order_on_no_more_workers_than_there_are() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let clock = Arc::new(crate::server::moment::SystemClock::default());
        let fair = Fair::new(3, 64, clock);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let asked: Vec<_> = (0..32usize)
            .map(|n| {
                let (fair, running, most) = (fair.clone(), running.clone(), most.clone());
                let part = move |i: usize| {
                    let (running, most) = (running.clone(), most.clone());
                    let work = Box::new(move || {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        n * 10 + i
                    });
                    Part { cost_s: 0.001, work: work as Box<dyn FnOnce() -> usize + Send> }
                };
                let user = user(["ann", "ben"][n % 2]);
                runtime.spawn(async move { fair.run(&user, 1.0, (0..5).map(part).collect()).await })
            })
            .collect();
        for (n, asked) in asked.into_iter().enumerate() {
            let results = runtime.block_on(asked).unwrap().unwrap();
            assert_eq!(results, (0..5).map(|i| n * 10 + i).collect::<Vec<_>>());
        }
        let most = most.load(Ordering::SeqCst);
        assert!((1..=3).contains(&most), "{most} at once");
        assert_eq!(fair.load(), loaded(0, 0, 0));
    }

    #[test]
    fn a_part_that_panics_gives_its_worker_back() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let fair = fair(1, 4);
        let asked = fair.clone();
        let failed = runtime.block_on(runtime.spawn(async move {
            let work: Box<dyn FnOnce() + Send> = Box::new(|| panic!("a bug"));
            asked.run(&user("ann"), 1.0, vec![Part { cost_s: 0.001, work }]).await
        }));
        assert!(failed.unwrap_err().is_panic());
        assert_eq!(fair.load(), loaded(0, 0, 0));
    }
}
