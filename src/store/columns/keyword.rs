//! Strings as whole words: each distinct string with its slots, and the strings of each slot.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use roaring::RoaringBitmap;

use crate::core::slab::Slab;
use crate::store::columns::dictionary::{Dictionary, n_bytes};
use crate::store::columns::marked::{Marked, sorted};
use crate::store::columns::short::Short;

mod seal;

/// Candidates that are fewer than the slots of the wanted strings by this factor are looked at one by one.
const FEW: u64 = 16;

/// And by this factor than all slots.
const FEW_OF_ALL: u64 = 128;

/// The part of all slots, as a divisor, from which on those of several strings are marked.
const MARKED: u64 = 256;

/// The part from which on they are found by a byte per slot; their sets are read to mark fewer.
const WIDE: u64 = 64;

/// The part up to which they are read where many slots have several strings, which no byte tells: larger sets are joined as they
/// are.
const READ: u64 = 8;

/// From so many slots per string on, sets are intersected to count; the strings of fewer are looked up.
const SLOTS_PER_WORD: u64 = 256;

/// Strings of one field.
#[derive(Clone, Debug, Default)]
pub struct KeywordColumn {
    words: Dictionary,
    /// By slot: one more than the number of its only string; 0 for none or several.
    only: Slab<u32>,
    /// The numbers of slots with several strings, ascending.
    several: BTreeMap<u32, Box<[u32]>>,
    /// Slots with exactly one string.
    single: RoaringBitmap,
    /// A byte for each of those, from a file or made when many of them are first asked for.
    short: OnceLock<Short>,
}

impl KeywordColumn {
    /// Gives a slot that has none its strings.
    pub fn insert(&mut self, slot: u32, strings: &[&str]) {
        let mut ids: Vec<u32> = strings.iter().map(|text| self.words.insert(text, slot)).collect();
        ids.sort_unstable();
        ids.dedup();
        match ids[..] {
            [] => {}
            [id] => {
                let at = slot as usize;
                let only = self.only.to_mut();
                if only.len() <= at {
                    only.resize(at + 1, 0);
                }
                only[at] = id + 1;
                self.single.insert(slot);
                if let Some(short) = self.short.get_mut() {
                    short.set(slot, id);
                }
            }
            _ => {
                self.several.insert(slot, ids.into());
            }
        }
    }

    /// Takes the strings of a slot away.
    pub fn remove(&mut self, slot: u32) {
        let ids: Vec<u32> = self.ids(slot).collect();
        ids.into_iter().for_each(|id| self.words.remove(id, slot));
        if self.single.remove(slot) {
            self.only.to_mut()[slot as usize] = 0;
            if let Some(short) = self.short.get_mut() {
                short.clear(slot);
            }
        }
        self.several.remove(&slot);
    }

    fn ids(&self, slot: u32) -> impl Iterator<Item = u32> {
        let only = self.only.get(slot as usize).and_then(|only| only.checked_sub(1));
        only.into_iter().chain(self.several.get(&slot).into_iter().flatten().copied())
    }

    /// The numbers of those strings that some slot has, ascending.
    pub fn find<'a>(&self, strings: impl IntoIterator<Item = &'a str>) -> Vec<u32> {
        let mut ids: Vec<u32> =
            strings.into_iter().filter_map(|text| self.words.find(text)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The numbers of the strings that `is_wanted` wants, ascending; every distinct string is looked at.
    pub fn matching(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<u32> {
        self.words.matching(is_wanted)
    }

    /// The slots of `within` that have a string of one of these numbers, which are ascending.
    pub fn any(&self, ids: &[u32], within: &RoaringBitmap) -> RoaringBitmap {
        if let [id] = *ids {
            return self.words.intersection(id, within);
        }
        let n_few = (self.at_most(ids) / FEW).min(self.only.len() as u64 / FEW_OF_ALL);
        if within.len() < n_few {
            let is_one = |id: u32| ids.binary_search(&id).is_ok();
            return sorted(within.iter().filter(|&slot| self.ids(slot).any(is_one)));
        }
        self.union(ids, within)
    }

    /// The same of candidates that are many.
    fn union(&self, ids: &[u32], within: &RoaringBitmap) -> RoaringBitmap {
        match self.mark_any(ids) {
            Some(marked) => marked.within(within),
            None => self.words.union(ids) & within,
        }
    }

    /// Marks the slots that have a string of one of these numbers, which are ascending; none where the sets of these strings
    /// say it as well: of few slots, or of many that have several strings.
    pub fn mark_any(&self, ids: &[u32]) -> Option<Marked<'static>> {
        let last_several = self.several.last_key_value().map_or(0, |(slot, _)| *slot as usize + 1);
        let n_room = self.only.len().max(last_several);
        let (n_slots, n_found) = (n_room as u64, self.at_most(ids));
        let has_short = self.has_short();
        if n_found <= n_slots / MARKED || !has_short && n_found > n_slots / READ {
            return None;
        }
        if !has_short || n_found <= n_slots / WIDE {
            let mut marked = Marked::none(n_room);
            self.words.each_slot(ids, |slot| marked.mark(slot));
            return Some(marked);
        }
        let short = self.short.get_or_init(|| self.to_short());
        let (mut marked, long) = short.mark(ids);
        self.words.each_slot(&long, |slot| marked.mark(slot));
        let is_one = |id: &u32| ids.binary_search(id).is_ok();
        let several = self.several.iter().filter(|(_, own)| own.iter().any(is_one));
        several.for_each(|(slot, _)| marked.mark(*slot));
        Some(marked)
    }

    /// Whether so few slots have several strings that a byte per slot is of use.
    fn has_short(&self) -> bool {
        self.several.len() as u64 <= self.only.len() as u64 / WIDE
    }

    fn to_short(&self) -> Short {
        Short::of(&self.only, self.words.n_ids(), |id| self.words.n_slots(id))
    }

    /// The slots that have a string of another number than these, which are ascending.
    pub fn except(&self, ids: &[u32]) -> RoaringBitmap {
        let mut others = &self.single - self.union(ids, &self.single);
        let is_other = |id: &u32| ids.binary_search(id).is_err();
        others.extend(
            self.several.iter().filter(|(_, own)| own.iter().any(is_other)).map(|(slot, _)| slot),
        );
        others
    }

    /// Every string that slots of `within` have, with how many of them have it, in no order.
    pub fn counts(&self, within: &RoaringBitmap) -> Vec<(String, u64)> {
        let counts = if self.n_words() < within.len() / SLOTS_PER_WORD {
            self.words.counts(within)
        } else {
            self.tally(within)
        };
        counts.into_iter().filter_map(|(id, n)| Some((self.words.word(id)?, n))).collect()
    }

    /// The same, slot by slot, and by number of the string.
    fn tally(&self, within: &RoaringBitmap) -> Vec<(u32, u64)> {
        let mut counts: HashMap<u32, u64> = HashMap::new();
        for id in within.iter().flat_map(|slot| self.ids(slot)) {
            *counts.entry(id).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    /// An upper bound on the slots that have a string of one of these numbers.
    pub fn at_most(&self, ids: &[u32]) -> u64 {
        ids.iter().map(|&id| self.words.n_slots(id)).sum()
    }

    /// Distinct strings.
    pub fn n_words(&self) -> u64 {
        self.words.n_words()
    }

    /// Slots with a string.
    pub fn n_slots(&self) -> u64 {
        self.single.len() + self.several.len() as u64
    }

    /// Bytes held, about, those that stay in a file included.
    pub fn n_bytes(&self) -> usize {
        // A node of the map is at least half full.
        let several = self.several.values().map(|ids| size_of_val(&**ids) + 48);
        self.words.n_bytes()
            + self.only.len() * size_of::<u32>()
            + several.sum::<usize>()
            + n_bytes(&self.single)
            + self.short.get().map_or(0, Short::n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column() -> KeywordColumn {
        let mut column = KeywordColumn::default();
        let rows: [&[&str]; 6] = [&["a"], &["b"], &["a", "b", "a"], &[], &["c", "c"], &["a", "d"]];
        (0..).zip(rows).for_each(|(slot, strings)| column.insert(slot, strings));
        column
    }

    fn set(slots: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        slots.into_iter().collect()
    }

    #[test]
    fn any_finds_slots_with_one_of_several_strings() {
        let column = column();
        let all = set(0..10);
        assert_eq!(column.any(&column.find(["a"]), &all), set([0, 2, 5]));
        assert_eq!(column.any(&column.find(["b", "c", "x"]), &all), set([1, 2, 4]));
        assert_eq!(column.any(&column.find(["x"]), &all), set([]));
    }

    #[test]
    fn few_candidates_are_looked_at_one_by_one_and_answer_the_same() {
        let mut column = KeywordColumn::default();
        (0..1000).for_each(|slot| column.insert(slot, &[["a", "b", "c"][slot as usize % 3], "d"]));
        (1000..1100).for_each(|slot| column.insert(slot, &["b"]));
        let few = set([0, 1, 2, 900, 1050, 2000]);
        let ids = column.find(["b", "c"]);
        assert!(few.len() < column.at_most(&ids) / FEW);
        assert_eq!(column.any(&ids, &few), set([1, 2, 1050]));
        assert_eq!(column.any(&ids, &set(0..2000)) & &few, set([1, 2, 1050]));
    }

    #[test]
    fn except_finds_slots_with_a_string_outside_of_the_list() {
        let column = column();
        assert_eq!(column.except(&column.find(["a"])), set([1, 2, 4, 5]));
        assert_eq!(column.except(&column.find(["a", "b"])), set([4, 5]));
        assert_eq!(column.except(&[]), set([0, 1, 2, 4, 5]));
    }

    #[test]
    fn strings_are_counted_alike_by_sets_and_by_slots() {
        let mut column = KeywordColumn::default();
        (0..5000).for_each(|slot| {
            let words = [["a", "b", "c"][slot as usize % 3], ["d", "a"][slot as usize % 2]];
            column.insert(slot, &words[..slot as usize % 3]);
        });
        for (within, by_sets) in [(set(0..6000), true), (set((0..6000).step_by(13)), false)] {
            assert_eq!(column.n_words() < within.len() / SLOTS_PER_WORD, by_sets);
            let mut counted = column.counts(&within);
            counted.sort();
            let plain = ["a", "b", "c", "d"].map(|word| {
                let n = column.any(&column.find([word]), &set(0..6000)) & &within;
                (word.to_owned(), n.len())
            });
            assert_eq!(counted, plain.into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>());
            let (mut sets, mut slots) = (column.words.counts(&within), column.tally(&within));
            sets.sort_unstable();
            slots.sort_unstable();
            assert_eq!(sets, slots);
        }
    }

    #[test]
    fn a_removed_slot_is_found_no_more() {
        let mut column = column();
        (0..6).for_each(|slot| column.remove(slot));
        assert_eq!((column.n_words(), column.n_slots()), (0, 0));
        column.insert(2, &["z"]);
        assert_eq!(column.any(&column.find(["z"]), &set(0..9)), set([2]));
        assert!(column.find(["a"]).is_empty());
    }
}
