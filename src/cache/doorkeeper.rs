//! Who was seen before: requests that come once are not kept, so that a flood of them pushes nothing out.
//!
//! Paper: Einziger, Friedman, Manes, "TinyLFU: a highly efficient cache admission policy", 2017, section 3. Ours: counts to 255 in
//! four rows, all halved after some time.

use crate::core::mix::mix64;

/// Counters in a row.
const WIDTH: usize = 1 << 18;

/// Rows; a request counts in one place of each.
const ROWS: usize = 4;

/// Sightings after which all counts are halved: until then at most one in four hundred new requests is taken for an old one.
const HALVED_AFTER: u32 = WIDTH as u32 / 4;

/// A count of sightings of requests: never too low since the last halving, seldom too high.
#[derive(Debug)]
pub(super) struct Doorkeeper {
    counts: Vec<u8>,
    n: u32,
}

impl Default for Doorkeeper {
    fn default() -> Self {
        Self { counts: vec![0; ROWS * WIDTH], n: 0 }
    }
}

impl Doorkeeper {
    /// Counts a sighting; says whether there was one before.
    pub fn sees_again(&mut self, exact: &[u8; 32]) -> bool {
        let (words, _) = exact.as_chunks::<8>();
        let places = words.iter().enumerate().map(|(row, word)| {
            row * WIDTH + mix64(u64::from_le_bytes(*word) ^ row as u64) as usize % WIDTH
        });
        let mut least = u8::MAX;
        for place in places {
            least = least.min(self.counts[place]);
            self.counts[place] = self.counts[place].saturating_add(1);
        }
        self.n += 1;
        if self.n == HALVED_AFTER {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.n = 0;
        }
        least > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    fn exact(n: u64) -> [u8; 32] {
        let mut exact = [0; 32];
        for (at, word) in exact.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&stream(n, at as u64).to_le_bytes());
        }
        exact
    }

    #[test]
    fn the_second_sighting_is_one_and_a_flood_of_new_requests_is_not() {
        let mut door = Doorkeeper::default();
        // Twice as many sightings are fewer than those after which counts are halved.
        let n_taken = (0..30_000).filter(|&n| door.sees_again(&exact(n))).count();
        assert!(n_taken < 60, "{n_taken} of 30,000 new requests were taken for old ones");
        assert!((0..30_000).all(|n| door.sees_again(&exact(n))));
    }
}
