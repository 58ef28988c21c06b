//! Links: a flat array for the base layer, and one small array per upper level.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::core::mix::{mix64, stream};

/// Marks an unused place among links; places after it are unused as well.
pub const NONE: u32 = u32::MAX;

/// Hashes slots, which callers choose: the mixer spreads any of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = mix64(self.0 << 8 | u64::from(byte)));
    }

    fn write_u32(&mut self, slot: u32) {
        self.0 = mix64(u64::from(slot));
    }
}

/// One upper level.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// `[n]`.
    pub slots: Vec<u32>,
    /// `[n, m]`.
    pub links: Vec<u32>,
    /// Where a slot stands in `slots`.
    pub places: HashMap<u32, u32, BuildHasherDefault<SlotHasher>>,
}

impl Layer {
    /// The links of a slot; none if it is not on this level.
    #[inline]
    pub fn links(&self, slot: u32, m: usize) -> &[u32] {
        match self.places.get(&slot) {
            Some(&place) => used(&self.links[place as usize * m..][..m]),
            None => &[],
        }
    }

    /// Replaces the links of a slot, which is added if it is new.
    pub fn set_links(&mut self, slot: u32, m: usize, links: &[u32]) {
        let next = self.slots.len() as u32;
        let place = *self.places.entry(slot).or_insert(next) as usize;
        if place == next as usize {
            self.slots.push(slot);
            self.links.resize(self.links.len() + m, NONE);
        }
        write(&mut self.links[place * m..][..m], links);
    }

    /// Takes a slot and all links to it away; says which slots linked to it. Cost: one pass over the level.
    pub fn remove(&mut self, slot: u32, m: usize) -> Vec<u32> {
        let Some(place) = self.places.remove(&slot) else { return Vec::new() };
        let (place, last) = (place as usize, self.slots.len() - 1);
        if place < last {
            self.links.copy_within(last * m..(last + 1) * m, place * m);
            self.places.insert(self.slots[last], place as u32);
        }
        self.slots.swap_remove(place);
        self.links.truncate(last * m);
        let mut linked = Vec::new();
        for (&from, list) in self.slots.iter().zip(self.links.chunks_exact_mut(m)) {
            if drop_links(list, |to| to == slot) > 0 {
                linked.push(from);
            }
        }
        linked
    }

    /// Bytes of slots, links and places.
    pub fn n_bytes(&self) -> usize {
        (self.slots.len() + self.links.len()) * size_of::<u32>() + self.places.capacity() * 9
    }
}

/// Takes away the links that `is_gone` names, keeps the order of the others, and says how many went.
pub fn drop_links(list: &mut [u32], is_gone: impl Fn(u32) -> bool) -> usize {
    let mut kept = 0;
    let n = used(list).len();
    for i in 0..n {
        if !is_gone(list[i]) {
            list[kept] = list[i];
            kept += 1;
        }
    }
    list[kept..n].fill(NONE);
    n - kept
}

/// The places of a list before the first unused one.
#[inline]
pub fn used(list: &[u32]) -> &[u32] {
    let n = list.iter().position(|&slot| slot == NONE).unwrap_or(list.len());
    &list[..n]
}

/// Writes links and marks the rest of the places unused.
pub fn write(list: &mut [u32], links: &[u32]) {
    list[..links.len()].copy_from_slice(links);
    list[links.len()..].fill(NONE);
}

/// The highest level of a slot: a share of `1 / m` of those of each level is on the next.
pub fn level_of(seed: u64, slot: u32, m: usize) -> usize {
    let drawn = stream(seed, u64::from(slot));
    let mut share = u64::MAX / m as u64;
    let mut level = 0;
    while drawn < share {
        level += 1;
        share /= m as u64;
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_one_in_m_is_on_the_next_level() {
        for m in [4, 16] {
            let levels: Vec<usize> = (0..100_000).map(|slot| level_of(7, slot, m)).collect();
            let mut expected = 100_000.0;
            for level in 1..4 {
                expected /= m as f64;
                let n = levels.iter().filter(|&&one| one >= level).count() as f64;
                // Six deviations of a count.
                assert!((n - expected).abs() < 6.0 * expected.sqrt(), "{m} {level}: {n}");
            }
        }
    }

    #[test]
    fn a_removed_slot_leaves_no_link_on_its_level() {
        let mut layer = Layer::default();
        for slot in [5, 9, 2, 7] {
            layer.set_links(slot, 3, &[]);
        }
        layer.set_links(5, 3, &[9, 2, 7]);
        layer.set_links(7, 3, &[9]);
        assert_eq!(layer.remove(9, 3), [5, 7]);
        assert_eq!((layer.links(5, 3), layer.links(7, 3)), (&[2, 7][..], &[][..]));
        assert_eq!((layer.links(9, 3), layer.slots.len()), (&[][..], 3));
        assert!(layer.remove(9, 3).is_empty());
    }
}
