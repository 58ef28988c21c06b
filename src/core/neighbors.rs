//! Rows that were found near a query, and the k nearest of a stream of them.

use std::cmp::Ordering;

/// A row and its distance. Ordered by distance, then by slot, so that every list has one right order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Neighbor {
    /// Row number.
    pub slot: u32,
    /// Distance under the metric of the search; never NaN.
    pub distance: f32,
}

impl Eq for Neighbor {}

impl PartialOrd for Neighbor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Neighbor {
    fn cmp(&self, other: &Self) -> Ordering {
        // -0.0 equals 0.0: adding zero makes one of the other.
        (self.distance + 0.0).total_cmp(&(other.distance + 0.0)).then(self.slot.cmp(&other.slot))
    }
}

/// Leaves the `n` nearest, in any order.
pub fn keep_nearest(neighbors: &mut Vec<Neighbor>, n: usize) {
    if n < neighbors.len() {
        neighbors.select_nth_unstable(n);
        neighbors.truncate(n);
    }
}

/// The same neighbors in order.
pub fn sorted(neighbors: &[Neighbor]) -> Vec<Neighbor> {
    let mut found = neighbors.to_vec();
    found.sort_unstable();
    found
}

/// The `k` least of the neighbors that were pushed.
#[derive(Clone, Debug)]
pub struct TopK {
    k: usize,
    /// A heap with the farthest on top, once `k` are there.
    heap: std::collections::BinaryHeap<Neighbor>,
}

impl TopK {
    /// Room for `k` neighbors.
    pub fn new(k: usize) -> Self {
        Self { k, heap: std::collections::BinaryHeap::with_capacity(k + 1) }
    }

    /// Neighbors that are farther than this, or as far with a higher slot, change nothing; `None` while fewer
    /// than `k` are held.
    pub fn bound(&self) -> Option<Neighbor> {
        if self.heap.len() < self.k { None } else { self.heap.peek().copied() }
    }

    /// Takes a neighbor if it is among the `k` least.
    pub fn push(&mut self, neighbor: Neighbor) {
        if self.heap.len() < self.k {
            self.heap.push(neighbor);
        } else if let Some(mut top) = self.heap.peek_mut()
            && neighbor < *top
        {
            *top = neighbor;
        }
    }

    /// The neighbors, nearest first.
    pub fn into_sorted(self) -> Vec<Neighbor> {
        self.heap.into_sorted_vec()
    }
}

/// The `k` least of several lists, each sorted.
pub fn merge(lists: &[Vec<Neighbor>], k: usize) -> Vec<Neighbor> {
    let mut all: Vec<Neighbor> = lists.iter().flatten().copied().collect();
    all.sort_unstable();
    all.truncate(k);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    #[test]
    fn the_k_least_are_kept_with_ties_by_slot() {
        for k in [0, 1, 3, 10, 50] {
            let all: Vec<Neighbor> = (0..40)
                .map(|i| Neighbor { slot: i, distance: (stream(3, u64::from(i)) % 7) as f32 - 3.0 })
                .collect();
            let mut top = TopK::new(k);
            all.iter().rev().for_each(|&neighbor| top.push(neighbor));
            let mut sorted = all;
            sorted.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.slot.cmp(&b.slot)));
            sorted.truncate(k);
            assert_eq!(top.into_sorted(), sorted);
        }
    }

    #[test]
    fn zero_has_no_sign() {
        let (minus, plus) =
            (Neighbor { slot: 2, distance: -0.0 }, Neighbor { slot: 1, distance: 0.0 });
        assert!(plus < minus);
    }
}
