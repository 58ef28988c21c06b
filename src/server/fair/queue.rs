//! Whose turn it is. Nothing here knows of time or threads: what is predicted and what it took are told.
//!
//! Two levels, as in user weighted fair queueing: users share what there is by weight, whatever number of requests each has
//! waiting; and the requests of one user share what it gets, so that small ones are not held up by its own large ones. Each
//! level goes by virtual times: those at which work would begin and end if all were served side by side.

use std::collections::BTreeMap;

/// Requests that wait, by user.
#[derive(Debug)]
pub struct Queue<U, J> {
    lines: BTreeMap<U, Line<J>>,
    /// Requests that may wait, of one user.
    limit: usize,
    /// The virtual time: that of whoever has been served least, of those that want something.
    now: f64,
    n_pushed: u64,
}

/// What one user wants.
#[derive(Debug)]
struct Line<J> {
    weight: f64,
    /// The virtual time up to which this user has been served.
    served: f64,
    /// The virtual time among its own requests.
    inner: f64,
    waiting: BTreeMap<(Place, u64), Waiting<J>>,
    n_running: usize,
    waiting_s: f64,
}

#[derive(Debug)]
struct Waiting<J> {
    cost_s: f64,
    job: J,
}

/// A request, or a part of one, that is to be run now.
#[derive(Debug)]
pub struct Turn<U, J> {
    /// Whose it is.
    pub user: U,
    /// What it is predicted to take.
    pub cost_s: f64,
    /// Its place among the requests of the user, which its further parts keep.
    pub place: Place,
    /// The request.
    pub job: J,
}

/// The place of a request among those of its user: when it would end if they were served side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(Virtual);

/// Why a request does not wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Full {
    /// Requests of the user that wait.
    pub n_waiting: usize,
    /// Seconds that these are predicted to take, if only this user is served.
    pub waiting_s: f64,
}

/// A virtual time, in the order of its value: at least 0, for which the order of bits is that of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Virtual(u64);

impl Virtual {
    fn new(value: f64) -> Self {
        Self(value.max(0.0).to_bits())
    }
}

/// What a user is owed at most of what it left to others when it wanted nothing, in seconds: somebody who asks for less than a
/// fair share then hardly waits, and nobody can save up for a flood.
const CREDIT_S: f64 = 0.005;

/// What a request takes at least, for the reckoning: what were free could be asked for without end.
const LEAST_S: f64 = 1e-6;

/// What a request takes at most, for the reckoning: a prediction that is no number must not stop the clock.
const MOST_S: f64 = 3600.0;

impl<U: Ord + Clone, J> Queue<U, J> {
    /// An empty one, in which so many requests of each user may wait.
    pub fn new(limit: usize) -> Self {
        Self { lines: BTreeMap::new(), limit, now: 0.0, n_pushed: 0 }
    }

    /// Lets a request of a user of this weight wait whose first part is predicted to take `cost_s`, and all of it `all_s`. Returns
    /// the number by which it can be removed.
    ///
    /// # Errors
    /// [`Full`] if as many of the user wait as may.
    pub fn push(
        &mut self,
        user: &U,
        (weight, cost_s, all_s): (f64, f64, f64),
        job: J,
    ) -> Result<u64, Full> {
        if let Some(line) = self.lines.get(user).filter(|line| line.waiting.len() >= self.limit) {
            return Err(Full { n_waiting: line.waiting.len(), waiting_s: line.waiting_s });
        }
        let inner = self.lines.get(user).map_or(0.0, |line| line.inner);
        let place = Place(Virtual::new(inner + bounded(all_s)));
        let number = self.push_on(user, cost_s, place, job);
        self.lines.get_mut(user).expect("one of its requests waits").weight = weight;
        Ok(number)
    }

    /// Lets the next part of a request wait that was begun already: it is never too much.
    pub fn push_on(&mut self, user: &U, cost_s: f64, place: Place, job: J) -> u64 {
        self.advance();
        let cost_s = bounded(cost_s);
        let now = self.now;
        let line = self.lines.entry(user.clone()).or_insert_with(Line::new);
        if !line.is_active() {
            line.served = line.served.max(now - CREDIT_S / line.weight);
        }
        line.waiting_s += cost_s;
        let number = self.n_pushed;
        line.waiting.insert((place, number), Waiting { cost_s, job });
        self.n_pushed += 1;
        number
    }

    /// The request whose turn it is: of the user that was served least the one that would end first.
    pub fn pop(&mut self) -> Option<Turn<U, J>> {
        self.pop_below(usize::MAX)
    }

    /// The same among users of whom fewer than so many requests run.
    pub fn pop_below(&mut self, most: usize) -> Option<Turn<U, J>> {
        let wants = |line: &Line<J>| !line.waiting.is_empty() && line.n_running < most;
        let wanting = self.lines.iter_mut().filter(|(_, line)| wants(line));
        let (user, line) = wanting.min_by_key(|(_, line)| line.order())?;
        let n_sharing = (line.waiting.len() + line.n_running) as f64;
        let ((place, _), Waiting { cost_s, job }) = line.waiting.pop_first()?;
        line.inner += cost_s / n_sharing;
        line.served += cost_s / line.weight;
        line.n_running += 1;
        line.waiting_s = if line.waiting.is_empty() { 0.0 } else { line.waiting_s - cost_s };
        Some(Turn { user: user.clone(), cost_s, place, job })
    }

    /// What was popped has ended: the difference to what was predicted is put right.
    pub fn end(&mut self, user: &U, cost_s: f64, took_s: f64) {
        let Some(line) = self.lines.get_mut(user) else { return };
        line.n_running = line.n_running.saturating_sub(1);
        line.served = (line.served + (bounded(took_s) - cost_s) / line.weight).max(0.0);
        self.advance();
        self.forget();
    }

    /// Removes a request that does not wait any longer; `None` if its turn came already.
    pub fn remove(&mut self, user: &U, number: u64) -> Option<J> {
        let line = self.lines.get_mut(user)?;
        let key = *line.waiting.keys().find(|(_, other)| *other == number)?;
        let removed = line.waiting.remove(&key)?;
        line.waiting_s -= removed.cost_s;
        self.forget();
        Some(removed.job)
    }

    /// Requests that wait, of all users.
    pub fn n_waiting(&self) -> usize {
        self.lines.values().map(|line| line.waiting.len()).sum()
    }

    /// Users of whom requests wait or run.
    pub fn n_users(&self) -> usize {
        self.lines.values().filter(|line| line.is_active()).count()
    }

    /// Moves the virtual time on to that of the user that was served least, of those that want something.
    fn advance(&mut self) {
        let active = self.lines.values().filter(|line| line.is_active());
        if let Some(least) = active.map(|line| line.served).min_by(f64::total_cmp) {
            self.now = self.now.max(least);
        }
    }

    /// Forgets users that want nothing and owe nothing, all of them if nobody wants anything.
    fn forget(&mut self) {
        if self.lines.values().all(|line| !line.is_active()) {
            self.lines.clear();
            self.now = 0.0;
        }
        let now = self.now;
        self.lines.retain(|_, line| line.is_active() || line.served > now - CREDIT_S / line.weight);
    }
}

impl<J> Line<J> {
    fn new() -> Self {
        let waiting = BTreeMap::new();
        Self { weight: 1.0, served: 0.0, inner: 0.0, waiting, n_running: 0, waiting_s: 0.0 }
    }

    fn is_active(&self) -> bool {
        !self.waiting.is_empty() || self.n_running > 0
    }

    /// Who is served first: least served, then the smaller request, then the earlier.
    fn order(&self) -> (Virtual, Virtual, u64) {
        let first = self.waiting.first_key_value();
        let (cost_s, number) = first.map_or((0.0, 0), |((_, n), first)| (first.cost_s, *n));
        (Virtual::new(self.served), Virtual::new(cost_s), number)
    }
}

fn bounded(cost_s: f64) -> f64 {
    if cost_s.is_nan() { MOST_S } else { cost_s.clamp(LEAST_S, MOST_S) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    fn push(queue: &mut Queue<char, u64>, user: char, cost_s: f64, job: u64) -> u64 {
        queue.push(&user, (1.0, cost_s, cost_s), job).unwrap()
    }

    fn pops(queue: &mut Queue<char, u64>) -> Vec<u64> {
        let pop = || {
            let turn = queue.pop()?;
            queue.end(&turn.user, turn.cost_s, turn.cost_s);
            Some(turn.job)
        };
        std::iter::from_fn(pop).collect()
    }

    #[test]
    fn users_take_turns_and_the_smaller_of_one_users_requests_is_first() {
        let mut queue = Queue::new(10);
        let costs = [('a', 3.0), ('a', 1.0), ('a', 2.0), ('b', 2.0), ('b', 2.0)];
        for (job, (user, cost_s)) in (0..).zip(costs) {
            push(&mut queue, user, cost_s, job);
        }
        assert_eq!((queue.n_waiting(), queue.n_users()), (5, 2));
        assert_eq!(pops(&mut queue), [1, 3, 2, 4, 0]);
        assert_eq!((queue.n_waiting(), queue.n_users(), queue.lines.len()), (0, 0, 0));
    }

    #[test]
    fn who_comes_late_is_owed_no_more_than_the_credit() {
        let mut queue = Queue::new(1000);
        for job in 0..500 {
            push(&mut queue, 'a', 0.001, job);
        }
        for _ in 0..200 {
            let turn = queue.pop().unwrap();
            queue.end(&'a', turn.cost_s, turn.cost_s);
        }
        for job in 500..600 {
            push(&mut queue, 'b', 0.001, job);
        }
        let first = pops(&mut queue).iter().take(25).filter(|&&job| job >= 500).count();
        assert!((13..=16).contains(&first), "{first} of 25: 5 of credit, and half of the others");
    }

    #[test]
    fn what_took_longer_than_predicted_is_made_up_for() {
        let mut queue = Queue::new(100);
        for job in 0..40 {
            push(&mut queue, if job < 20 { 'a' } else { 'b' }, 0.001, job);
        }
        let mut took = [0.0, 0.0];
        for _ in 0..20 {
            let turn = queue.pop().unwrap();
            let took_s = if turn.user == 'a' { 0.003 } else { 0.001 };
            took[usize::from(turn.user == 'b')] += took_s;
            queue.end(&turn.user, turn.cost_s, took_s);
        }
        assert!((took[0] / took[1] - 1.0).abs() < 0.25, "{took:?}");
    }

    #[test]
    fn a_full_queue_refuses_and_what_is_removed_makes_room() {
        let mut queue = Queue::new(2);
        let first = push(&mut queue, 'a', 1.0, 0);
        push(&mut queue, 'a', 2.0, 1);
        let full = queue.push(&'a', (1.0, 1.0, 1.0), 2).unwrap_err();
        assert_eq!(full, Full { n_waiting: 2, waiting_s: 3.0 });
        push(&mut queue, 'b', 1.0, 3);
        assert_eq!(queue.remove(&'a', first), Some(0));
        assert_eq!(queue.remove(&'a', first), None);
        push(&mut queue, 'a', 1.0, 4);
        assert_eq!(pops(&mut queue), [3, 4, 1]);
    }

    #[test]
    fn numbers_that_are_none_stop_nothing() {
        let mut queue = Queue::new(10);
        for (job, cost_s) in (0..).zip([f64::NAN, f64::INFINITY, -1.0, 0.0]) {
            push(&mut queue, 'a', cost_s, job);
        }
        push(&mut queue, 'b', 1.0, 9);
        let turn = queue.pop().unwrap();
        queue.end(&turn.user, turn.cost_s, f64::NAN);
        let mut rest = pops(&mut queue);
        rest.push(turn.job);
        rest.sort_unstable();
        assert_eq!(rest, [0, 1, 2, 3, 9]);
    }

    #[test]
    fn users_that_come_and_go_are_forgotten() {
        let mut queue = Queue::new(10);
        for n in 0..2000u32 {
            // Somebody always wants something, so that the time goes on and never begins anew.
            push(&mut queue, ' ', 0.001, 0);
            let user = char::from_u32(0x4e00 + n).unwrap();
            push(&mut queue, user, 0.001 * (stream(1, u64::from(n)) % 5) as f64, 1);
            while queue.n_waiting() > 1 {
                let turn = queue.pop().unwrap();
                queue.end(&turn.user, turn.cost_s, turn.cost_s);
            }
        }
        assert!(queue.lines.len() < 50, "{}", queue.lines.len());
    }
}
