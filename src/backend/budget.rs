//! How much a backend may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// A number of bytes that reservations are taken from. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: u64,
    used: Arc<AtomicU64>,
}

/// Bytes taken from a [`Budget`], given back on drop.
#[derive(Debug)]
pub struct Reservation {
    n_bytes: u64,
    used: Arc<AtomicU64>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit, used: Arc::default() }
    }

    /// All bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes reserved now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `n_bytes`.
    ///
    /// # Errors
    /// `device_oom` if less is left.
    pub fn reserve(&self, n_bytes: u64) -> Result<Reservation> {
        let add = |used: u64| used.checked_add(n_bytes).filter(|&sum| sum <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(Reservation { n_bytes, used: Arc::clone(&self.used) }),
            Err(used) => {
                let message =
                    format!("{n_bytes} bytes asked, {} of {} left", self.limit - used, self.limit);
                Err(Error::new(ErrorKind::Device, "device_oom", message))
            }
        }
    }
}

impl Reservation {
    /// How many bytes are held.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used.fetch_sub(self.n_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_reserved_again() {
        let budget = Budget::new(100);
        let held = budget.reserve(70).unwrap();
        let error = budget.reserve(31).unwrap_err();
        assert_eq!(error.to_string(), "device_oom: 31 bytes asked, 30 of 100 left");
        drop(held);
        assert_eq!(budget.reserve(100).unwrap().n_bytes(), 100);
        assert_eq!(budget.used(), 0);
        assert!(budget.reserve(u64::MAX).is_err());
    }
}
