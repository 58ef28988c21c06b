//! The beam of a walk: the nearest slots met so far, in one sorted array.

use crate::core::neighbors::Neighbor;
use crate::index::graph::MAX_SLOTS;

/// Distance in the upper half, so that keys sort by it; then the slot, mixed with the pool's salt; then whether the slot was
/// expanded.
type Key = u64;

/// Floats as integers that sort alike; zero has no sign.
fn ordered(distance: f32) -> u32 {
    let bits = (distance + 0.0).to_bits();
    bits ^ (((bits as i32) >> 31) as u32 | 0x8000_0000)
}

fn distance_of(key: Key) -> f32 {
    let bits = (key >> 32) as u32;
    f32::from_bits(if bits >> 31 == 1 { bits ^ 0x8000_0000 } else { !bits })
}

/// The `capacity` nearest of the slots that were offered, each offered once.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    keys: Vec<Key>,
    capacity: usize,
    /// All before it are expanded.
    cursor: usize,
    salt: u32,
}

impl Pool {
    /// Empties the pool. Of equal distances the lesser `slot ^ salt` is nearer: 0 keeps the order of results, others spread
    /// the links of equal rows.
    pub fn reset(&mut self, capacity: usize, salt: u32) {
        self.keys.clear();
        self.keys.reserve(capacity);
        (self.capacity, self.cursor, self.salt) = (capacity, 0, salt & (MAX_SLOTS - 1) as u32);
    }

    fn slot_of(&self, key: Key) -> u32 {
        (key as u32 >> 1) ^ self.salt
    }

    /// Takes a slot if it is among the nearest; says whether it is.
    #[inline]
    pub fn offer(&mut self, slot: u32, distance: f32) -> bool {
        let key = u64::from(ordered(distance)) << 32 | u64::from((slot ^ self.salt) << 1);
        if self.keys.len() == self.capacity {
            if self.keys.last().is_none_or(|&last| key >= last) {
                return false;
            }
            self.keys.pop();
        }
        let at = self.keys.partition_point(|&other| other < key);
        self.keys.insert(at, key);
        self.cursor = self.cursor.min(at);
        true
    }

    /// The nearest slot that was not expanded, which it now is.
    #[inline]
    pub fn expand(&mut self) -> Option<u32> {
        let at = self.unexpanded()?;
        self.keys[at] |= 1;
        self.cursor = at + 1;
        Some(self.slot_of(self.keys[at]))
    }

    /// The slot that [`Self::expand`] would give.
    #[inline]
    pub fn peek(&self) -> Option<u32> {
        self.unexpanded().map(|at| self.slot_of(self.keys[at]))
    }

    #[inline]
    fn unexpanded(&self) -> Option<usize> {
        let ahead = self.keys[self.cursor..].iter().position(|key| key & 1 == 0);
        ahead.map(|ahead| self.cursor + ahead)
    }

    /// How many slots are held.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Lets go of the slots that are not wanted.
    pub fn retain(&mut self, is_wanted: impl Fn(u32) -> bool) {
        let salt = self.salt;
        self.keys.retain(|&key| is_wanted((key as u32 >> 1) ^ salt));
        self.cursor = 0;
    }

    /// The slots held, nearest first.
    pub fn neighbors(&self) -> impl Iterator<Item = Neighbor> {
        self.keys
            .iter()
            .map(|&key| Neighbor { slot: self.slot_of(key), distance: distance_of(key) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    #[test]
    fn the_nearest_are_held_in_order_and_expanded_once() {
        for salt in [0, 12_345] {
            let mut pool = Pool::default();
            pool.reset(8, salt);
            let mut all: Vec<Neighbor> = (0..60)
                .map(|i| Neighbor { slot: i, distance: (stream(9, i.into()) % 9) as f32 - 4.0 })
                .collect();
            let mut expanded = Vec::new();
            for &Neighbor { slot, distance } in &all {
                pool.offer(slot, distance);
                assert!(pool.keys.len() <= 8);
                if slot % 3 == 0 {
                    let next = pool.peek();
                    assert_eq!(pool.expand(), next);
                    expanded.extend(next);
                }
            }
            while let Some(slot) = pool.expand() {
                expanded.push(slot);
            }
            all.sort_by(|a, b| {
                let ties = (a.slot ^ salt).cmp(&(b.slot ^ salt));
                a.distance.total_cmp(&b.distance).then(ties)
            });
            assert!(pool.neighbors().eq(all[..8].iter().copied()), "salt {salt}");
            let n = expanded.len();
            expanded.sort_unstable();
            expanded.dedup();
            assert_eq!(expanded.len(), n, "no slot twice");
            assert!(all[..8].iter().all(|held| expanded.binary_search(&held.slot).is_ok()));
        }
    }

    #[test]
    fn keys_sort_as_distances_do() {
        let distances = [f32::MIN, -1.0, -1e-30, 0.0, 1e-30, 1.0, f32::MAX, f32::INFINITY];
        assert!(distances.map(ordered).is_sorted_by(|a, b| a < b));
        assert_eq!(ordered(-0.0), ordered(0.0));
        for distance in distances {
            assert_eq!(distance_of(u64::from(ordered(distance)) << 32), distance);
        }
    }
}
