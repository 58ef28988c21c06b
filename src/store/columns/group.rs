//! The slots of cells: what a narrow range looks at, instead of every slot.

use std::ops::{Range, RangeInclusive};

use crate::core::slab::Slab;

/// Codes of cells, and 0.
const N_CODES: usize = 256;

/// The slots of every cell, ascending.
#[derive(Clone, Debug, Default)]
pub struct ByCode {
    /// By code: where its slots end, and those of the next begin. Slots with the code 0 have no key, and stand nowhere.
    ends: Vec<u32>,
    slots: Vec<u32>,
}

impl ByCode {
    /// The slots with each of these codes.
    pub fn of(codes: &[u8]) -> Self {
        let mut next = vec![0u32; N_CODES];
        codes.iter().for_each(|&code| next[usize::from(code)] += 1);
        let mut n_before = 0;
        next[0] = 0;
        for next in &mut next {
            (*next, n_before) = (n_before, n_before + *next);
        }
        let mut slots = vec![0; n_before as usize];
        for (slot, &code) in (0..).zip(codes).filter(|(_, code)| **code > 0) {
            let next = &mut next[usize::from(code)];
            slots[*next as usize] = slot;
            *next += 1;
        }
        Self { ends: next, slots }
    }

    /// The slots that had a code, which is not 0.
    pub fn slots(&self, code: u8) -> &[u32] {
        let code = usize::from(code);
        &self.slots[self.ends[code - 1] as usize..self.ends[code] as usize]
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
        (self.ends.len() + self.slots.len()) * size_of::<u32>()
    }
}

/// The slots of a cell, by key and then by slot.
#[derive(Clone, Debug, Default)]
pub struct Group {
    keys: Box<[i64]>,
    slots: Box<[u32]>,
}

impl Group {
    /// These slots, of all slots' keys.
    pub fn of(slots: &[u32], keys: &[i64]) -> Self {
        let mut pairs: Vec<(i64, u32)> =
            slots.iter().map(|&slot| (keys[slot as usize], slot)).collect();
        pairs.sort_unstable();
        let (keys, slots): (Vec<i64>, Vec<u32>) = pairs.into_iter().unzip();
        Self { keys: keys.into(), slots: slots.into() }
    }

    /// The slots whose key is in a range, with their keys.
    pub fn range(&self, range: &RangeInclusive<i64>) -> impl Iterator<Item = (u32, i64)> {
        let start = self.keys.partition_point(|key| key < range.start());
        let end = start + self.keys[start..].partition_point(|key| key <= range.end());
        self.slots[start..end].iter().copied().zip(self.keys[start..end].iter().copied())
    }

    /// The slots whose key is not in a range.
    pub fn outside(&self, range: &RangeInclusive<i64>) -> impl Iterator<Item = u32> {
        let start = self.keys.partition_point(|key| key < range.start());
        let end = start + self.keys[start..].partition_point(|key| key <= range.end());
        self.slots[..start].iter().chain(&self.slots[end..]).copied()
    }

    /// The slots.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
        size_of_val(&*self.keys) + size_of_val(&*self.slots)
    }
}

/// The slots of all cells, each by key and then by slot, as they lie in a file: nothing is sorted when they are asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// By code: where its slots end, and those of the next begin.
    ends: Vec<u32>,
    slots: Slab<u32>,
    /// By slot: what it was ordered by, whatever its key is by now.
    keys: Slab<i64>,
}

impl Order {
    /// These slots, as many of each code as `counts` says; all have a key.
    pub fn new(counts: &[u32], slots: Slab<u32>, keys: Slab<i64>) -> Self {
        let mut n_before = 0;
        let end = |n: &u32| {
            n_before += n;
            n_before
        };
        Self { ends: counts.iter().map(end).collect(), slots, keys }
    }

    fn places(&self, code: u8) -> Range<usize> {
        let code = usize::from(code);
        self.ends[code - 1] as usize..self.ends[code] as usize
    }

    /// The slots that had a code, which is not 0.
    pub fn slots(&self, code: u8) -> &[u32] {
        &self.slots[self.places(code)]
    }

    /// All slots.
    pub fn all(&self) -> &[u32] {
        &self.slots
    }

    /// The least and the greatest key of a code, if it has any slot.
    pub fn ends(&self, code: u8) -> Option<(i64, i64)> {
        let slots = self.slots(code);
        Some((self.key(slots.first()?), self.key(slots.last()?)))
    }

    /// The slots of a code whose key was in a range, with their keys.
    pub fn range(&self, code: u8, range: &RangeInclusive<i64>) -> impl Iterator<Item = (u32, i64)> {
        let slots = self.slots(code);
        let start = slots.partition_point(|slot| self.key(slot) < *range.start());
        let n = slots[start..].partition_point(|slot| self.key(slot) <= *range.end());
        slots[start..start + n].iter().map(|slot| (*slot, self.key(slot)))
    }

    /// The slots of a code whose key was not in a range.
    pub fn outside(&self, code: u8, range: &RangeInclusive<i64>) -> impl Iterator<Item = u32> {
        let slots = self.slots(code);
        let start = slots.partition_point(|slot| self.key(slot) < *range.start());
        let end = start + slots[start..].partition_point(|slot| self.key(slot) <= *range.end());
        slots[..start].iter().chain(&slots[end..]).copied()
    }

    fn key(&self, slot: &u32) -> i64 {
        self.keys[*slot as usize]
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }
}
