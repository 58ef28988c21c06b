//! The time. What depends on it is told it, so that tests decide what it is.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970, UTC: for people, and for when a key ends. It may be set back.
    pub unix_ms: u64,
    /// Since the clock was made: for everything else. It only goes on.
    pub steady: Duration,
}

/// What tells the time.
pub trait Clock: Debug + Send + Sync {
    /// The moment that it is.
    fn now(&self) -> Moment;
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct SystemClock {
    began: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { began: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        // Before 1970 no key would end: the epoch is as far back as a clock is believed.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { unix_ms: since.as_millis() as u64, steady: self.began.elapsed() }
    }
}

impl Moment {
    /// Seconds since 1970.
    pub fn unix_s(self) -> u64 {
        self.unix_ms / 1000
    }

    /// Date and time as `2026-11-29T09:37:00.123Z`.
    pub fn rfc3339(self) -> String {
        let (year, month, day) = date(self.unix_s() / 86_400);
        let second = self.unix_s() % 86_400;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let ms = self.unix_ms % 1000;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

/// Year, month and day of a day since 1970-01-01.
fn date(day: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Whole cycles of 400 years first, so that no more than 400 years are counted one by one.
    let (mut year, mut left) = (1970 + day / 146_097 * 400, day % 146_097);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let text = |unix_ms| Moment { unix_ms, ..Moment::default() }.rfc3339();
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(951_868_800_000), "2000-03-01T00:00:00.000Z");
        assert_eq!(text(1_795_945_020_123), "2026-11-29T09:37:00.123Z");
        assert_eq!(text(4_107_542_399_000), "2100-02-28T23:59:59.000Z");
        assert_eq!(text(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(text(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
    }
}
