//! Equal requests that are on their way at once: one asks the model, the others wait for its answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Where an answer will be, once there is one.
type Landing<T> = watch::Receiver<Option<Arc<T>>>;

/// What is on its way.
#[derive(Debug)]
pub struct Flights<K, T>(Arc<Mutex<HashMap<K, Landing<T>>>>);

/// Whether a request asks for itself.
pub enum Entered<K: Eq + Hash, T> {
    /// It does, and others may wait for it.
    Leads(Lead<K, T>),
    /// It waits for another.
    Follows(Follow<T>),
}

/// A request that others may wait for, until it has its answer or is dropped.
#[derive(Debug)]
pub struct Lead<K: Eq + Hash, T> {
    flights: Flights<K, T>,
    key: Option<K>,
    sender: watch::Sender<Option<Arc<T>>>,
}

/// A request that waits.
#[derive(Debug)]
pub struct Follow<T>(Landing<T>);

/// What came of waiting.
#[derive(Debug)]
pub enum Waited<T> {
    /// The answer.
    Answer(Arc<T>),
    /// Whoever led has none that could be given to others.
    Nothing,
    /// It takes too long.
    Late,
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash + Clone, T> Flights<K, T> {
    /// Leads if no equal request is on its way.
    pub fn enter(&self, key: &K) -> Entered<K, T> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = held.get(key) {
            return Entered::Follows(Follow(receiver.clone()));
        }
        let (sender, receiver) = watch::channel(None);
        held.insert(key.clone(), receiver);
        Entered::Leads(Lead { flights: self.clone(), key: Some(key.clone()), sender })
    }

    /// How many are on their way.
    pub fn n(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<K: Eq + Hash, T> Lead<K, T> {
    /// Gives the answer to whoever waits.
    pub fn lands(mut self, answer: T) {
        self.leave();
        self.sender.send_replace(Some(Arc::new(answer)));
    }

    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            let mut held = self.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.remove(&key);
        }
    }
}

impl<K: Eq + Hash, T> Drop for Lead<K, T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T> Follow<T> {
    /// Waits for the answer, so long at most.
    pub async fn wait(mut self, longest: Duration) -> Waited<T> {
        match timeout(longest, self.0.wait_for(Option::is_some)).await {
            Err(_) => Waited::Late,
            Ok(Err(_)) => Waited::Nothing,
            Ok(Ok(answer)) => answer.clone().map_or(Waited::Nothing, Waited::Answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(test: impl AsyncFnOnce(Flights<u32, &'static str>)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(test(Flights::default()));
    }

    fn lead(flights: &Flights<u32, &'static str>, key: u32) -> Lead<u32, &'static str> {
        let Entered::Leads(lead) = flights.enter(&key) else { panic!("another leads") };
        lead
    }

    fn follow(flights: &Flights<u32, &'static str>, key: u32) -> Follow<&'static str> {
        let Entered::Follows(follow) = flights.enter(&key) else { panic!("nobody leads") };
        follow
    }

    #[test]
    fn all_who_wait_get_the_one_answer_and_the_next_asks_anew() {
        run(async |flights| {
            let first = lead(&flights, 1);
            let others = [follow(&flights, 1), follow(&flights, 1)];
            drop(lead(&flights, 2));
            first.lands("yes");
            for other in others {
                let waited = other.wait(Duration::from_secs(60)).await;
                assert!(matches!(waited, Waited::Answer(answer) if *answer == "yes"));
            }
            assert_eq!(flights.n(), 0);
            drop(lead(&flights, 1));
        });
    }

    #[test]
    fn whoever_leaves_without_an_answer_keeps_nobody_waiting() {
        run(async |flights| {
            let first = lead(&flights, 1);
            let other = follow(&flights, 1);
            let late = follow(&flights, 1).wait(Duration::ZERO).await;
            assert!(matches!(late, Waited::Late));
            drop(first);
            let next = lead(&flights, 1);
            assert!(matches!(other.wait(Duration::from_secs(60)).await, Waited::Nothing));
            drop(next);
            assert_eq!(flights.n(), 0);
        });
    }
}
