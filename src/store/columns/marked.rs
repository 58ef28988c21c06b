//! A bit for each slot, on the way to a set: what is found in one look at all slots is seldom worth a set of its own.

use std::ops::RangeInclusive;

use roaring::RoaringBitmap;

use crate::distance::Level;
use crate::distance::simd::members::{ByteSet, between, members};
use crate::store::columns::cells::Beyond;

/// Candidates that are fewer than the slots by this factor are looked up one by one.
const FEW: u64 = 16;

/// What listing a mark takes, in looks at a word or at a slot beyond a range.
const LISTING: u64 = 6;

/// Slots with a mark, less those that are beyond a range.
///
/// Whoever combines several of these is seldom left with many slots: these are looked at then, in place of all that are beyond.
#[derive(Clone, Debug, Default)]
pub struct Marked<'a> {
    words: Vec<u64>,
    n_slots: u32,
    beyond: Vec<Beyond<'a>>,
}

impl<'a> Marked<'a> {
    /// No mark, of so many slots.
    pub fn none(n_slots: usize) -> Self {
        let words = vec![0; n_slots.div_ceil(64)];
        Self { words, n_slots: n_slots as u32, beyond: Vec::new() }
    }

    /// Marks the slots whose byte is in the set.
    pub fn of(bytes: &[u8], set: &ByteSet) -> Self {
        if set.is_empty() {
            return Self::none(bytes.len());
        }
        let words = members(Level::best(), bytes, set);
        Self { words, n_slots: bytes.len() as u32, beyond: Vec::new() }
    }

    /// Marks the slots whose byte is in the range, less those beyond.
    pub fn between(bytes: &[u8], range: &RangeInclusive<u8>, beyond: Beyond<'a>) -> Self {
        let words = between(Level::best(), bytes, range);
        Self { words, n_slots: bytes.len() as u32, beyond: vec![beyond] }
    }

    /// Marks a slot, which is not among those beyond.
    pub fn mark(&mut self, slot: u32) {
        if slot >= self.n_slots {
            self.n_slots = slot + 1;
            self.words.resize(self.words.len().max(slot as usize / 64 + 1), 0);
        }
        self.words[slot as usize / 64] |= 1 << (slot % 64);
    }

    /// Keeps the marks of slots that another has marked as well.
    pub fn and(&mut self, other: Self) {
        self.words.truncate(other.words.len());
        self.n_slots = self.n_slots.min(other.n_slots);
        self.words.iter_mut().zip(&other.words).for_each(|(own, other)| *own &= other);
        self.beyond.extend(other.beyond);
    }

    /// Takes the marks of slots away that another has marked.
    pub fn and_not(&mut self, mut other: Self) {
        other.unmark_beyond();
        self.words.iter_mut().zip(&other.words).for_each(|(own, other)| *own &= !other);
    }

    fn unmark_beyond(&mut self) {
        for beyond in std::mem::take(&mut self.beyond) {
            beyond.each(|slot| {
                if let Some(word) = self.words.get_mut(slot as usize / 64) {
                    *word &= !(1 << (slot % 64));
                }
            });
        }
    }

    fn is_marked(&self, slot: u32) -> bool {
        self.words.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
            && !self.beyond.iter().any(|beyond| beyond.has(slot))
    }

    /// The marked slots of `within`.
    pub fn within(mut self, within: &RoaringBitmap) -> RoaringBitmap {
        if within.len() < u64::from(self.n_slots) / FEW {
            return sorted(within.iter().filter(|&slot| self.is_marked(slot)));
        }
        let n_marked: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        let n_beyond: u64 = self.beyond.iter().map(Beyond::n_in_cut).sum();
        let has_all = has_all(within, self.n_slots);
        if LISTING * n_marked < n_beyond + self.words.len() as u64 {
            let is_beyond = |slot| self.beyond.iter().any(|beyond| beyond.has(slot));
            let mut list = self.listed(n_marked as usize);
            list.retain(|&slot| (has_all || within.contains(slot)) && !is_beyond(slot));
            return sorted(list.into_iter());
        }
        self.unmark_beyond();
        self.words.iter_mut().for_each(|word| *word = word.to_le());
        let all = RoaringBitmap::from_lsb0_bytes(0, bytemuck::cast_slice(&self.words));
        if has_all { all } else { all & within }
    }

    /// The slots with a mark, those beyond included.
    fn listed(&self, n_marked: usize) -> Vec<u32> {
        let mut list = Vec::with_capacity(n_marked);
        for (n, &word) in (0..).zip(&self.words).filter(|(_, word)| **word != 0) {
            let mut left = word;
            while left != 0 {
                list.push(64 * n + left.trailing_zeros());
                left &= left - 1;
            }
        }
        list
    }
}

/// Whether a set has all slots below `n_slots`. Cost: a look at each 65,536 of them.
pub fn has_all(set: &RoaringBitmap, n_slots: u32) -> bool {
    set.range_cardinality(0..n_slots) == u64::from(n_slots)
}

/// The set of numbers that come in ascending order, each once.
pub fn sorted(numbers: impl Iterator<Item = u32>) -> RoaringBitmap {
    RoaringBitmap::from_sorted_iter(numbers).expect("part of a set, in its order")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    #[test]
    fn marked_slots_are_found_within_few_most_and_all() {
        let bytes: Vec<u8> = (0..70_000).map(|i| stream(1, i) as u8).collect();
        let mut set = ByteSet::default();
        (0..30).for_each(|byte| set.insert(byte));
        let mut marked = Marked::of(&bytes, &set);
        marked.mark(69_999);
        let is_marked = |slot: u32| slot == 69_999 || bytes[slot as usize] < 30;
        let few: RoaringBitmap = (0..90_000).step_by(37).collect();
        let most: RoaringBitmap = (0..90_000).filter(|slot| slot % 9 > 0).collect();
        let all: RoaringBitmap = (0..90_000).collect();
        assert!(has_all(&all, 70_000) && !has_all(&most, 70_000) && !has_all(&few, 70_000));
        for within in [few, most, all] {
            let own = |slot: &u32| *slot < 70_000 && is_marked(*slot);
            let expected: RoaringBitmap = within.iter().filter(own).collect();
            assert_eq!(marked.clone().within(&within), expected, "{} candidates", within.len());
        }
        let none = Marked::of(&bytes, &ByteSet::default());
        assert!(none.within(&(0..90_000).collect()).is_empty());
    }

    #[test]
    fn marks_of_lists_of_any_length_are_combined() {
        let all: RoaringBitmap = (0..500).collect();
        let marked = |n_bytes: usize, slots: &[u32]| {
            let mut marked = Marked::of(&vec![1; n_bytes], &ByteSet::default());
            slots.iter().for_each(|&slot| marked.mark(slot));
            marked
        };
        let (left, right) = ([3, 63, 64, 200, 300, 450], [2, 63, 64, 65, 300, 401]);
        for (n_left, n_right) in [(0, 0), (70, 500), (500, 70), (301, 402)] {
            let other = marked(n_right, &right);
            let mut both = marked(n_left, &left);
            both.and(other.clone());
            assert_eq!(both.within(&all), [63, 64, 300].into_iter().collect());
            let mut without = marked(n_left, &left);
            without.and_not(other);
            assert_eq!(without.within(&all), [3, 200, 450].into_iter().collect());
        }
    }
}
