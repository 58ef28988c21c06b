//! How loaded the models are, smoothed: quick to rise, slow to fall.

use std::sync::atomic::{AtomicU32, Ordering};

/// Part of the difference that one report of a higher load moves.
const UP: f32 = 0.5;

/// The same of a lower one.
const DOWN: f32 = 0.05;

/// The load, 0 to 1.
#[derive(Debug, Default)]
pub(super) struct Load(AtomicU32);

impl Load {
    /// The load now.
    pub fn now(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Takes a report of 0 to 1.
    pub fn report(&self, load: f32) {
        let moved = |bits: u32| {
            let now = f32::from_bits(bits);
            let part = if load > now { UP } else { DOWN };
            Some((now + part * (load - now)).clamp(0.0, 1.0).to_bits())
        };
        // It never fails: `moved` always says something.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_rises_at_once_and_falls_slowly() {
        let load = Load::default();
        load.report(1.0);
        assert_eq!(load.now(), 0.5);
        load.report(1.0);
        assert_eq!(load.now(), 0.75);
        load.report(0.0);
        assert!((load.now() - 0.7125).abs() < 1e-6);
    }
}
