//! One request in flight for many equal ones: the first asks, the others wait for what it gets.
//!
//! A waiter blocks ([`Waiter::wait`]), or is called back ([`Waiter::then`]) by the thread that lands, so that an asynchronous
//! server need not hold one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Callback<T> = Box<dyn FnOnce(Option<T>) + Send>;

/// Requests in flight, by what makes them equal.
#[derive(Debug)]
pub struct Flights<K, T>(Arc<Mutex<HashMap<K, Arc<Flight<T>>>>>);

/// What a request is told on joining.
#[derive(Debug)]
pub enum Seat<K: Eq + Hash, T: Clone> {
    /// It is the first, and asks.
    Leader(Leader<K, T>),
    /// Another asks; this one waits.
    Waiter(Waiter<T>),
}

/// The one that asks. Dropped without landing, it sends the waiters to ask for themselves.
#[derive(Debug)]
pub struct Leader<K: Eq + Hash, T: Clone> {
    key: K,
    flight: Arc<Flight<T>>,
    flights: Arc<Mutex<HashMap<K, Arc<Flight<T>>>>>,
}

/// One that waits.
#[derive(Debug)]
pub struct Waiter<T>(Arc<Flight<T>>);

struct Flight<T> {
    state: Mutex<State<T>>,
    landed: Condvar,
}

impl<T> std::fmt::Debug for Flight<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flight")
    }
}

enum State<T> {
    Up(Vec<Callback<T>>),
    Down(Option<T>),
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is half done while one of these locks is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Flights<K, T> {
    /// A seat among requests equal to this one.
    pub fn join(&self, key: K) -> Seat<K, T> {
        let mut flights = held(&self.0);
        if let Some(flight) = flights.get(&key) {
            return Seat::Waiter(Waiter(Arc::clone(flight)));
        }
        let state = Mutex::new(State::Up(Vec::new()));
        let flight = Arc::new(Flight { state, landed: Condvar::new() });
        flights.insert(key.clone(), Arc::clone(&flight));
        Seat::Leader(Leader { key, flight, flights: Arc::clone(&self.0) })
    }

    /// Requests in flight.
    pub fn n_flights(&self) -> usize {
        held(&self.0).len()
    }
}

impl<K: Eq + Hash, T: Clone> Leader<K, T> {
    /// Gives all that wait what was got. Who joins from now on asks anew.
    pub fn land(self, got: T) {
        self.end(Some(got));
    }

    fn end(&self, got: Option<T>) {
        held(&self.flights).remove(&self.key);
        let state = std::mem::replace(&mut *held(&self.flight.state), State::Down(got.clone()));
        match state {
            State::Up(callbacks) => {
                self.flight.landed.notify_all();
                callbacks.into_iter().for_each(|callback| callback(got.clone()));
            }
            // It landed before it is dropped.
            landed @ State::Down(_) => *held(&self.flight.state) = landed,
        }
    }
}

impl<K: Eq + Hash, T: Clone> Drop for Leader<K, T> {
    fn drop(&mut self) {
        if matches!(*held(&self.flight.state), State::Up(_)) {
            self.end(None);
        }
    }
}

impl<T: Clone> Waiter<T> {
    /// What the leader got; `None` if it got nothing or not in time: then this one asks for itself.
    pub fn wait(&self, at_most: Duration) -> Option<T> {
        let up = |state: &mut State<T>| matches!(state, State::Up(_));
        let waited = self.0.landed.wait_timeout_while(held(&self.0.state), at_most, up);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Up(_) => None,
            State::Down(got) => got.clone(),
        }
    }

    /// Calls back with what the leader got, from its thread, or at once if it has landed; `None` if it got nothing.
    pub fn then(self, call: impl FnOnce(Option<T>) + Send + 'static) {
        let mut state = held(&self.0.state);
        match &mut *state {
            State::Up(callbacks) => callbacks.push(Box::new(call)),
            State::Down(got) => {
                let got = got.clone();
                drop(state);
                call(got);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn seat<T>(seat: Seat<u32, T>) -> Result<Leader<u32, T>, Waiter<T>>
    where
        T: Clone,
    {
        match seat {
            Seat::Leader(leader) => Ok(leader),
            Seat::Waiter(waiter) => Err(waiter),
        }
    }

    #[test]
    fn the_first_asks_and_all_get_what_it_got() {
        let flights = Flights::<u32, String>::default();
        let leader = seat(flights.join(1)).unwrap();
        let other = seat(flights.join(2)).unwrap();
        let (waits, calls) =
            (seat(flights.join(1)).unwrap_err(), seat(flights.join(1)).unwrap_err());
        let (tell, told) = mpsc::channel();
        calls.then(move |got| tell.send(got).unwrap());
        let waiting = std::thread::spawn(move || waits.wait(Duration::from_secs(60)));
        leader.land("answer".to_owned());
        assert_eq!(waiting.join().unwrap().as_deref(), Some("answer"));
        assert_eq!(told.recv().unwrap().as_deref(), Some("answer"));
        assert_eq!(flights.n_flights(), 1);
        assert!(seat(flights.join(1)).is_ok(), "the next asks anew");
        drop(other);
    }

    #[test]
    fn a_leader_that_fails_sends_the_waiters_to_ask_for_themselves() {
        let flights = Flights::<u32, u8>::default();
        let leader = seat(flights.join(1)).unwrap();
        let waiter = seat(flights.join(1)).unwrap_err();
        assert_eq!(waiter.wait(Duration::ZERO), None);
        let (tell, told) = mpsc::channel();
        seat(flights.join(1)).unwrap_err().then(move |got| tell.send(got).unwrap());
        drop(leader);
        assert_eq!((waiter.wait(Duration::ZERO), told.recv().unwrap()), (None, None));
        assert_eq!(flights.n_flights(), 0);
    }
}
