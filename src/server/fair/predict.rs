//! What a request takes: what the last ones of its kind took, for each unit of what they asked.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::server::fair::PART_S;

/// What a unit is predicted to take before any was seen.
const FIRST_S: f64 = 0.001;

/// The share of the newest in what is predicted.
const NEWEST: f64 = 0.125;

/// Kinds that are told apart; beyond, those of one route are one.
const KINDS: usize = 4096;

/// Parts of one request: handing over takes some microseconds, and a thousand of them are as good as any number.
const PARTS: usize = 1000;

/// A kind of request: its route, and the collection, in which a search may take a thousand times what it takes in another.
type Kind = (&'static str, String);

/// What requests took.
#[derive(Debug, Default)]
pub struct Predictor {
    /// Seconds per unit.
    seen: Mutex<HashMap<Kind, f64>>,
}

impl Predictor {
    /// Seconds that so many units are predicted to take: queries, points, ids, whatever a request of this route has many of.
    pub fn predict(&self, route: &'static str, collection: &str, n_units: usize) -> f64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.get(&(route, collection.to_owned()));
        let unit_s = known.or_else(|| seen.get(&(route, String::new()))).copied();
        unit_s.unwrap_or(FIRST_S) * n_units.max(1) as f64
    }

    /// Takes in what so many units took.
    pub fn learn(&self, route: &'static str, collection: &str, n_units: usize, took_s: f64) {
        if !took_s.is_finite() || took_s < 0.0 {
            return;
        }
        let unit_s = took_s / n_units.max(1) as f64;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kind = (route, collection.to_owned());
        if seen.len() >= KINDS && !seen.contains_key(&kind) {
            kind.1.clear();
        }
        let known = seen.entry(kind).or_insert(unit_s);
        *known += NEWEST * (unit_s - *known);
    }
}

/// So many units in parts that are predicted to take [`PART_S`] or little more each; a unit is never divided.
pub fn parts(n_units: usize, all_s: f64) -> Vec<Range<usize>> {
    let n_parts = (all_s / PART_S).ceil().clamp(1.0, PARTS as f64) as usize;
    let length = n_units.div_ceil(n_parts).max(1);
    let starts = (0..n_units).step_by(length);
    starts.map(|start| start..(start + length).min(n_units)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_follow_what_was_seen_of_the_same_kind() {
        let predictor = Predictor::default();
        assert_eq!(predictor.predict("search", "notes", 3), 3.0 * FIRST_S);
        predictor.learn("search", "notes", 10, 0.2);
        assert!((predictor.predict("search", "notes", 1) - 0.02).abs() < 1e-12);
        assert_eq!(predictor.predict("search", "other", 1), FIRST_S);
        (0..200).for_each(|_| predictor.learn("search", "notes", 1, 0.005));
        assert!((predictor.predict("search", "notes", 2) - 0.01).abs() < 1e-9);
        predictor.learn("search", "notes", 1, f64::NAN);
        assert!((predictor.predict("search", "notes", 2) - 0.01).abs() < 1e-9);
    }

    #[test]
    fn any_number_of_collections_takes_no_more_than_the_limit() {
        let predictor = Predictor::default();
        (0..2 * KINDS).for_each(|n| predictor.learn("search", &n.to_string(), 1, 0.5));
        assert!(predictor.seen.lock().unwrap().len() <= KINDS + 1);
        assert_eq!(predictor.predict("search", "never seen", 1), 0.5);
    }

    #[test]
    fn parts_are_all_units_once_and_short() {
        for (n_units, all_s) in
            [(0, 0.0), (1, 5.0), (7, 0.001), (100, 0.05), (10_000, 100.0), (3, 0.004)]
        {
            let parts = parts(n_units, all_s);
            let units: Vec<usize> = parts.iter().cloned().flatten().collect();
            assert_eq!(units, (0..n_units).collect::<Vec<_>>());
            assert!(parts.len() <= PARTS);
            let unit_s = all_s / n_units.max(1) as f64;
            for part in parts {
                let is_short = part.len() as f64 * unit_s <= PART_S + unit_s + 1e-9;
                assert!(is_short || n_units / PARTS > 0, "{part:?} of {n_units}, {all_s} s");
            }
        }
    }
}
