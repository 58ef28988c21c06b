//! How often: keys that are none from an address, and requests with a key.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::core::limits;
use crate::server::keys::refusal::Refusal;
use crate::server::keys::text::KeyId;

const SECOND: Duration = Duration::from_secs(1);

/// Keys that were none, by the address that they came from, within a second.
#[derive(Debug, Default)]
pub struct Failures {
    counts: HashMap<IpAddr, (Duration, u32)>,
}

impl Failures {
    /// Refuses an address from which too many came: it is told nothing about any further key, not even a right one.
    ///
    /// # Errors
    /// `key_failures`.
    pub fn check(&self, address: IpAddr, now: Duration) -> Result<(), Refusal> {
        match self.counts.get(&self.counted_as(address)) {
            Some(&(since, n))
                if now.saturating_sub(since) < SECOND && n >= limits::KEY_FAILURES_PER_SECOND =>
            {
                Err(Refusal::too_many_failures())
            }
            _ => Ok(()),
        }
    }

    /// Counts one.
    pub fn add(&mut self, address: IpAddr, now: Duration) {
        if self.counts.len() >= limits::FAILING_ADDRESSES {
            self.counts.retain(|_, (since, _)| now.saturating_sub(*since) < SECOND);
        }
        let (since, n) = self.counts.entry(self.counted_as(address)).or_insert((now, 0));
        if now.saturating_sub(*since) >= SECOND {
            (*since, *n) = (now, 0);
        }
        *n += 1;
    }

    /// What an address is counted as: whoever has one of IPv6 has 2^64 of them.
    fn counted_as(&self, address: IpAddr) -> IpAddr {
        let address = match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            address => address,
        };
        let is_full = self.counts.len() >= limits::FAILING_ADDRESSES;
        if is_full && !self.counts.contains_key(&address) {
            // Nobody has this address: it stands for all that do not fit.
            return IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));
        }
        address
    }
}

/// Requests that each key has left: no more entries than there are keys.
#[derive(Debug, Default)]
pub struct Rates {
    left: HashMap<KeyId, Left>,
}

#[derive(Debug)]
struct Left {
    n: f64,
    at: Duration,
}

impl Rates {
    /// Takes one of the requests that a key has left. They come back evenly, up to those of a second.
    ///
    /// # Errors
    /// `quota_rate`, with the time until there is one again.
    pub fn take(&mut self, key: KeyId, limit: u32, now: Duration) -> Result<(), Refusal> {
        let per_second = f64::from(limit);
        let left = self.left.entry(key).or_insert(Left { n: per_second, at: now });
        let came = now.saturating_sub(left.at).as_secs_f64() * per_second;
        (left.n, left.at) = ((left.n + came).min(per_second), now);
        if left.n < 1.0 {
            let wait_s = (1.0 - left.n) / per_second;
            return Err(Refusal::rate(limit, wait_s.ceil().max(1.0) as u64));
        }
        left.n -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn four(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn ten_failures_in_a_second_stop_one_address_for_the_rest_of_it() {
        let mut failures = Failures::default();
        for n in 0..10 {
            assert!(failures.check(four(1), ms(n)).is_ok());
            failures.add(four(1), ms(n));
        }
        assert_eq!(failures.check(four(1), ms(999)).unwrap_err().status, 429);
        assert!(failures.check(four(2), ms(999)).is_ok(), "another address");
        assert!(failures.check(four(1), ms(1000)).is_ok(), "the next second");
        failures.add(four(1), ms(1000));
        assert!(failures.check(four(1), ms(1000)).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_ipv4_within_it_is_itself() {
        let mut failures = Failures::default();
        let six = |low: u128| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | low));
        (0..10).for_each(|low| failures.add(six(low), ms(0)));
        assert!(failures.check(six(77), ms(1)).is_err());
        assert!(failures.check(six(1 << 64), ms(1)).is_ok());
        (0..10).for_each(|_| failures.add(four(9), ms(0)));
        let mapped = IpAddr::V6(std::net::Ipv4Addr::from_bits(9).to_ipv6_mapped());
        assert!(failures.check(mapped, ms(1)).is_err());
    }

    #[test]
    fn any_number_of_addresses_takes_no_more_than_the_limit() {
        let mut failures = Failures::default();
        let n_all = limits::FAILING_ADDRESSES as u32;
        (0..2 * n_all).for_each(|n| failures.add(four(n), ms(0)));
        assert!(failures.counts.len() <= limits::FAILING_ADDRESSES + 1);
        assert!(failures.check(four(n_all - 1), ms(1)).is_ok(), "one failure, counted by itself");
        assert!(
            failures.check(four(5 * n_all), ms(1)).is_err(),
            "beyond the limit, counted together"
        );
        failures.add(four(5 * n_all), ms(2000));
        assert_eq!(failures.counts.len(), 1, "those of earlier seconds are forgotten");
    }

    #[test]
    fn a_key_has_the_requests_of_a_second_at_once_and_then_as_they_come_back() {
        let (mut rates, key) = (Rates::default(), KeyId(1));
        let mut n_taken =
            |now| (0..1000).take_while(|_| rates.take(key, 50, ms(now)).is_ok()).count();
        assert_eq!(n_taken(0), 50);
        assert_eq!(n_taken(0), 0);
        assert_eq!(n_taken(100), 5);
        assert_eq!(n_taken(10_000), 50, "none are saved beyond a second's");
        let refused = rates.take(key, 50, ms(10_000)).unwrap_err();
        assert_eq!((refused.status, refused.retry_after_s), (429, Some(1)));
        assert!(rates.take(KeyId(2), 50, ms(10_000)).is_ok(), "another key");
    }
}
