//! Reading a large body gives way between its elements, as a large request does between its parts. Readers of JSON have no way to be
//! told of the worker that they hold: the thread lends it to them.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::time::Instant;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::server::fair::Turn;
use crate::server::stages::{Stage, Stopwatch};

thread_local! {
    /// The worker that this thread holds while it reads.
    static LENT: RefCell<Option<Lent>> = const { RefCell::new(None) };
}

struct Lent {
    turn: Turn,
    waited_s: f64,
}

/// Takes the worker back, however reading ends.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        LENT.take();
    }
}

/// What `read` makes of a body, timed; others may come first while it reads what is large.
pub fn read<T>(turn: &mut Option<Turn>, watch: &Stopwatch, read: impl FnOnce() -> T) -> T {
    let Some(held) = turn.take() else { return watch.time(Stage::Parse, read) };
    let began = Instant::now();
    let (done, held, waited_s) = giving_way(held, read);
    *turn = Some(held);
    watch.add(Stage::Parse, (began.elapsed().as_secs_f64() - waited_s).max(0.0));
    watch.add(Stage::Queue, waited_s);
    done
}

/// What `read` returns; where it reads a [`List`], others may come first between its elements. With the worker, and for how many
/// seconds others came first.
fn giving_way<T>(turn: Turn, read: impl FnOnce() -> T) -> (T, Turn, f64) {
    let _end = End;
    LENT.set(Some(Lent { turn, waited_s: 0.0 }));
    let done = read();
    let Lent { turn, waited_s } = LENT.take().expect("nothing else takes it");
    (done, turn, waited_s)
}

/// Lets others come first, where this thread reads what is large and took its time.
pub fn give_way() {
    LENT.with_borrow_mut(|lent| {
        if let Some(Lent { turn, waited_s }) = lent {
            *waited_s += turn.give_way();
        }
    });
}

/// A list of what may be large.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AnyList(PhantomData))
    }
}

struct AnyList<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AnyList<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = seq.next_element()? {
            all.push(element);
            give_way();
        }
        Ok(List(all))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::server::fair::Fair;
    use crate::server::keys::rule::User;
    use crate::server::moment::{Clock, Moment};

    /// A clock on which a millisecond passes whenever it is looked at.
    #[derive(Debug, Default)]
    struct Hasty(AtomicU64);

    impl Clock for Hasty {
        fn now(&self) -> Moment {
            let ms = self.0.fetch_add(1, Ordering::Relaxed);
            Moment { unix_ms: 0, steady: Duration::from_millis(ms) }
        }
    }

    fn user(name: &str) -> User {
        User::Tenant(name.into())
    }

    #[test]
    fn whoever_waits_comes_between_the_elements_of_a_list_that_is_read() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fair = Fair::new(1, 4, Arc::new(Hasty::default()));
        let turn = |name: &str| {
            let (fair, user) = (fair.clone(), user(name));
            async move { fair.turn(&user, 1.0, 0.001, 0.001).await.unwrap() }
        };
        let (held, is_read) = (runtime.block_on(turn("ann")), Arc::new(AtomicBool::default()));
        let own = Arc::clone(&is_read);
        let text = serde_json::to_string(&vec![1; 1000]).unwrap();
        let mut waits = Box::pin(turn("ben"));
        runtime.block_on(async { assert!(is_pending(&mut waits), "ann has the only worker") });
        let reading = thread::spawn(move || {
            let read = || serde_json::from_str::<List<u32>>(&text);
            let (read, held, waited_s) = giving_way(held, read);
            own.store(true, Ordering::SeqCst);
            drop(held);
            (read.unwrap(), waited_s)
        });
        let turn = runtime.block_on(waits);
        assert!(!is_read.load(Ordering::SeqCst), "it came between");
        thread::sleep(Duration::from_millis(5));
        drop(turn);
        let (read, waited_s) = reading.join().unwrap();
        assert_eq!(read, List(vec![1; 1000]));
        assert!(waited_s >= 0.005, "{waited_s}");
        assert_eq!(fair.load().n_running, 0);
    }

    fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::Pin::new(future).poll(&mut context).is_pending()
    }

    #[test]
    fn a_worker_is_given_back_when_reading_panics_and_none_is_needed_to_read() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fair = Fair::new(1, 4, Arc::new(Hasty::default()));
        let turn = runtime.block_on(fair.turn(&user("ann"), 1.0, 0.001, 0.001)).unwrap();
        let panicking = thread::spawn(move || {
            let reading = || drop(giving_way::<()>(turn, || panic!("a bug")));
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(reading));
            (caught.is_err(), LENT.with_borrow(Option::is_none))
        });
        assert_eq!(panicking.join().unwrap(), (true, true));
        assert_eq!(fair.load().n_running, 0);
        let alone: List<u32> = serde_json::from_str("[1, 2]").unwrap();
        assert_eq!(alone.0, [1, 2]);
        let bad = serde_json::from_str::<List<u32>>("{}").unwrap_err().to_string();
        assert!(bad.starts_with("invalid type: map, expected a sequence"), "{bad}");
    }
}
