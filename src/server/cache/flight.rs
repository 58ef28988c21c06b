//! Waiting, without a thread, for an equal request that is on its way.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::cache::flight;
use crate::server::cache::canonical::Hash;

/// Requests that are on their way.
pub type Flights = flight::Flights<Hash, Arc<Value>>;

/// Whoever leads equal requests.
pub type Lead = flight::Leader<Hash, Arc<Value>>;

/// What came of waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited {
    /// The answer.
    Answer(Arc<Value>),
    /// Whoever led has none that could be given to others.
    Nothing,
    /// It takes too long.
    Late,
}

/// Waits for the answer of whoever leads, so long at most.
pub async fn waited(waiter: flight::Waiter<Arc<Value>>, longest: Duration) -> Waited {
    let (tell, told) = oneshot::channel();
    waiter.then(move |answer| {
        // Whoever has stopped waiting needs none.
        let _ = tell.send(answer);
    });
    match timeout(longest, told).await {
        Err(_) => Waited::Late,
        Ok(answer) => answer.ok().flatten().map_or(Waited::Nothing, Waited::Answer),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cache::flight::Seat;

    const KEY: Hash = [1; 32];
    const LONG: Duration = Duration::from_secs(60);

    fn run(test: impl AsyncFnOnce(Flights)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(test(Flights::default()));
    }

    fn lead(flights: &Flights) -> Lead {
        let Seat::Leader(lead) = flights.join(KEY) else { panic!("another leads") };
        lead
    }

    fn follow(flights: &Flights) -> flight::Waiter<Arc<Value>> {
        let Seat::Waiter(waiter) = flights.join(KEY) else { panic!("nobody leads") };
        waiter
    }

    #[test]
    fn all_who_wait_get_the_one_answer_and_the_next_asks_anew() {
        run(async |flights| {
            let first = lead(&flights);
            let answer = Arc::new(json!("yes"));
            let others = [follow(&flights), follow(&flights)].map(|own| waited(own, LONG));
            let own = Arc::clone(&answer);
            // They wait already when it lands.
            tokio::spawn(async move { first.land(own) });
            for other in others {
                assert_eq!(other.await, Waited::Answer(Arc::clone(&answer)));
            }
            drop(lead(&flights));
        });
    }

    #[test]
    fn whoever_leaves_without_an_answer_keeps_nobody_waiting() {
        run(async |flights| {
            let first = lead(&flights);
            let other = follow(&flights);
            assert_eq!(waited(follow(&flights), Duration::ZERO).await, Waited::Late);
            drop(first);
            let next = lead(&flights);
            assert_eq!(waited(other, LONG).await, Waited::Nothing);
            drop(next);
            assert_eq!(flights.n_flights(), 0);
        });
    }
}
