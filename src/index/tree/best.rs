//! The best rows of a search so far.

use std::collections::BinaryHeap;

use crate::core::neighbors::{Neighbor, keep_nearest, sorted};

/// The nearest of the rows that were offered, at most so many; kept from one search to the next for its memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Best {
    most: usize,
    /// The farthest on top.
    heap: BinaryHeap<Neighbor>,
    /// What was asked for last, in the memory of the heap.
    found: Vec<Neighbor>,
}

impl Best {
    /// Empties it; at most `most` rows, at least 1, will be held.
    pub fn reset(&mut self, most: usize) {
        self.most = most;
        let mut memory = std::mem::take(&mut self.heap).into_vec();
        if memory.capacity() == 0 {
            memory = std::mem::take(&mut self.found);
        }
        memory.clear();
        self.heap = BinaryHeap::from(memory);
    }

    /// Takes those of a list that are among the nearest; whether there are any.
    pub fn take(&mut self, slots: &[u32], distances: &[f32]) -> bool {
        let mut has_changed = false;
        let mut offered =
            slots.iter().zip(distances).map(|(&slot, &distance)| Neighbor { slot, distance });
        let n_missing = self.most - self.heap.len();
        for neighbor in offered.by_ref().take(n_missing) {
            self.heap.push(neighbor);
            has_changed = true;
        }
        let Some(mut bound) = self.heap.peek().copied() else { return has_changed };
        for neighbor in offered {
            // Most are farther, which one comparison of floats tells.
            if neighbor.distance <= bound.distance && neighbor < bound {
                if let Some(mut top) = self.heap.peek_mut() {
                    *top = neighbor;
                }
                bound = *self.heap.peek().expect("as many as before");
                has_changed = true;
            }
        }
        has_changed
    }

    /// The `n` nearest, in any order; none are held any more.
    pub fn nearest(&mut self, n: usize) -> &[Neighbor] {
        self.found = std::mem::take(&mut self.heap).into_vec();
        keep_nearest(&mut self.found, n);
        &self.found
    }

    /// The `k` nearest in order; none are held any more.
    pub fn sorted(&mut self, k: usize) -> Vec<Neighbor> {
        sorted(self.nearest(k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    #[test]
    fn the_nearest_are_held_whatever_lists_they_come_in() {
        let mut best = Best::default();
        for (most, k) in [(1, 1), (7, 3), (40, 40), (100, 7), (400, 300)] {
            let all: Vec<Neighbor> = (0..300)
                .map(|slot| Neighbor {
                    slot,
                    distance: (stream(most, slot.into()) % 50) as f32 - 9.0,
                })
                .collect();
            best.reset(most as usize);
            let mut so_far = Vec::new();
            for list in all.chunks(23) {
                let slots: Vec<u32> = list.iter().map(|near| near.slot).collect();
                let distances: Vec<f32> = list.iter().map(|near| near.distance).collect();
                let before: Vec<Neighbor> = so_far.clone();
                so_far.extend(list);
                so_far.sort_unstable();
                so_far.truncate(most as usize);
                assert_eq!(best.take(&slots, &distances), before != so_far, "{most}");
            }
            assert_eq!(best.sorted(k), so_far[..k.min(so_far.len())]);
        }
    }
}
