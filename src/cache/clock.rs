//! The time of a cache: it never goes back, whatever is done to the clock on the wall.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Since 1970, UTC. It may be set back.
    fn wall(&self) -> Duration;

    /// Since some moment of this process. It only goes on.
    fn steady(&self) -> Duration;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct MachineClock {
    began: Instant,
}

impl Default for MachineClock {
    fn default() -> Self {
        Self { began: Instant::now() }
    }
}

impl Clock for MachineClock {
    fn wall(&self) -> Duration {
        // A clock before 1970 is believed no further back than that; what was seen before counts anyway.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn steady(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Milliseconds since 1970 that never become fewer. A wall clock that is set forward is believed, so that nothing outlives its time
/// while a machine sleeps; one that is set back is not, so that nothing comes back.
#[derive(Debug)]
pub(super) struct Time {
    clock: Arc<dyn Clock>,
    /// What is added to the steady clock; it only grows.
    offset_ms: AtomicU64,
}

impl Time {
    /// The time from `seen_ms` on, the latest that was ever told.
    pub fn new(clock: Arc<dyn Clock>, seen_ms: u64) -> Self {
        let offset_ms = seen_ms.saturating_sub(ms(clock.steady()));
        Self { clock, offset_ms: offset_ms.into() }
    }

    /// The time that it is.
    pub fn now_ms(&self) -> u64 {
        let (wall, steady) = (ms(self.clock.wall()), ms(self.clock.steady()));
        let ahead = wall.saturating_sub(steady);
        let offset = self.offset_ms.fetch_max(ahead, Ordering::Relaxed).max(ahead);
        steady + offset
    }

    /// For measuring: only differences mean something.
    pub fn steady(&self) -> Duration {
        self.clock.steady()
    }
}

/// Whole milliseconds.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Told(Mutex<(u64, u64)>);

    impl Clock for Told {
        fn wall(&self) -> Duration {
            Duration::from_millis(self.0.lock().unwrap().0)
        }

        fn steady(&self) -> Duration {
            Duration::from_millis(self.0.lock().unwrap().1)
        }
    }

    #[test]
    fn a_clock_that_is_set_back_is_not_believed_and_one_set_forward_is() {
        let clock = Arc::new(Told::default());
        let set = |wall, steady| *clock.0.lock().unwrap() = (wall, steady);
        set(1_000_000, 5);
        let time = Time::new(clock.clone(), 0);
        assert_eq!(time.now_ms(), 1_000_000);
        set(400_000, 15);
        assert_eq!(time.now_ms(), 1_000_010);
        set(1_500_000, 25);
        assert_eq!(time.now_ms(), 1_500_000);
        set(1_000_030, 30);
        assert_eq!(time.now_ms(), 1_500_005);
        // What an earlier process saw counts too.
        assert_eq!(Time::new(clock.clone(), 9_000_000).now_ms(), 9_000_000);
    }
}
