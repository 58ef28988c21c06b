//! The nearest of all rows of a run, when only the end counts.

use crate::core::neighbors::{Neighbor, keep_nearest, sorted};

/// The nearest of the rows that were offered, at most so many; kept from one search to the next for its memory. Rows are
/// gathered, and cut down to the nearest now and then, which takes a fraction of what a heap takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Nearest {
    most: usize,
    gathered: Vec<Neighbor>,
    bound: f32,
}

/// Rows that are gathered beside several times as many as are wanted.
const SPARE: usize = 64;

impl Nearest {
    /// Empties it; at most `most` rows, at least 1, will be held.
    pub fn reset(&mut self, most: usize) {
        self.most = most.max(1);
        self.gathered.clear();
        self.bound = f32::INFINITY;
    }

    /// Rows that are farther change nothing.
    pub fn bound(&self) -> f32 {
        self.bound
    }

    /// Takes those of a list that may be among the nearest.
    pub fn take(&mut self, slots: &[u32], distances: &[f32]) {
        let room = 3 * self.most + SPARE;
        for (&slot, &distance) in slots.iter().zip(distances) {
            if distance <= self.bound {
                self.gathered.push(Neighbor { slot, distance });
                if self.gathered.len() == room {
                    self.gathered.select_nth_unstable(self.most - 1);
                    self.gathered.truncate(self.most);
                    self.bound = self.gathered[self.most - 1].distance;
                }
            }
        }
    }

    /// The `n` nearest, in any order; none of the others are held any more.
    pub fn nearest(&mut self, n: usize) -> &[Neighbor] {
        keep_nearest(&mut self.gathered, n.min(self.most));
        &self.gathered
    }

    /// The `k` nearest in order; none of the others are held any more.
    pub fn sorted(&mut self, k: usize) -> Vec<Neighbor> {
        sorted(self.nearest(k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    #[test]
    fn the_nearest_of_all_are_held_with_ties_by_slot() {
        let mut nearest = Nearest::default();
        for (most, k, n) in [(1, 1, 500), (7, 3, 500), (40, 40, 900), (100, 7, 60), (400, 900, 800)]
        {
            let all: Vec<Neighbor> = (0..n)
                .map(|slot| Neighbor {
                    slot,
                    distance: (stream(most, slot.into()) % 50) as f32 - 9.0,
                })
                .collect();
            nearest.reset(most as usize);
            for list in all.chunks(23) {
                let slots: Vec<u32> = list.iter().map(|near| near.slot).collect();
                let distances: Vec<f32> = list.iter().map(|near| near.distance).collect();
                nearest.take(&slots, &distances);
            }
            let mut sorted = all;
            sorted.sort_unstable();
            sorted.truncate(k.min(most as usize));
            assert_eq!(nearest.sorted(k), sorted, "{k} of {most} of {n}");
        }
    }
}
