//! A byte for each slot with one string: the frequent strings have one of their own, so that the slots of any of them are found in
//! one look at all bytes.
//!
//! Paper: SQUASH (arXiv 2502.01528), the quantised attribute index.

use crate::core::slab::Slab;
use crate::distance::simd::members::ByteSet;
use crate::error::Result;
use crate::store::columns::bytes::{Reader, put_slab};
use crate::store::columns::marked::Marked;

/// The byte of slots without a string, or with several.
const NONE: u8 = 0;

/// The byte of strings that have none of their own.
const LONG: u8 = u8::MAX;

/// Bytes of slots, and of the numbers of strings.
#[derive(Clone, Debug)]
pub struct Short {
    by_id: Slab<u8>,
    by_slot: Slab<u8>,
}

impl Short {
    /// Bytes for the slots with one string, given as one more than its number, of `n_ids` numbers; `n_slots` tells how frequent
    /// each is.
    pub fn of(only: &[u32], n_ids: usize, n_slots: impl Fn(u32) -> u64) -> Self {
        let mut ids: Vec<u32> = (0..n_ids as u32).collect();
        let n_own = usize::from(LONG - NONE - 1);
        if n_ids > n_own {
            ids.select_nth_unstable_by_key(n_own, |&id| std::cmp::Reverse(n_slots(id)));
        }
        let mut by_id = vec![LONG; n_ids];
        ids.iter().zip(NONE + 1..LONG).for_each(|(&id, byte)| by_id[id as usize] = byte);
        let byte = |only: &u32| only.checked_sub(1).map_or(NONE, |id| by_id[id as usize]);
        let by_slot = only.iter().map(byte).collect();
        Self { by_id: by_id.into(), by_slot }
    }

    /// Notes the only string of a slot.
    pub fn set(&mut self, slot: u32, id: u32) {
        let at = slot as usize;
        let byte = self.byte(id);
        let by_slot = self.by_slot.to_mut();
        if by_slot.len() <= at {
            by_slot.resize(at + 1, NONE);
        }
        by_slot[at] = byte;
    }

    /// Notes that a slot has no string, or several.
    pub fn clear(&mut self, slot: u32) {
        if self.by_slot.get(slot as usize).is_some_and(|&byte| byte != NONE) {
            self.by_slot.to_mut()[slot as usize] = NONE;
        }
    }

    /// A string that came later has no byte of its own; one that has the number of another that went has the byte of that one.
    fn byte(&self, id: u32) -> u8 {
        self.by_id.get(id as usize).copied().unwrap_or(LONG)
    }

    /// Marks the slots whose only string is one of those that have a byte; with the numbers that have none.
    pub fn mark(&self, ids: &[u32]) -> (Marked<'static>, Vec<u32>) {
        let (mut set, mut long) = (ByteSet::default(), Vec::new());
        for &id in ids {
            match self.byte(id) {
                LONG => long.push(id),
                byte => set.insert(byte),
            }
        }
        (Marked::of(&self.by_slot, &set), long)
    }

    /// Adds what [`Short::decode`] reads.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_slab(out, &self.by_id);
        put_slab(out, &self.by_slot);
    }

    /// Reads what was encoded, of so many numbers and slots; it is lent, and any bytes are some.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn decode(reader: &mut Reader<'_>, n_ids: usize, n_slots: usize) -> Result<Self> {
        Ok(Self { by_id: reader.slab(n_ids)?, by_slot: reader.slab(n_slots)? })
    }

    /// Bytes held, those that stay in a file included.
    pub fn n_bytes(&self) -> usize {
        self.by_id.len() + self.by_slot.len()
    }
}

#[cfg(test)]
mod tests {
    use roaring::RoaringBitmap;

    use super::*;
    use crate::core::mix::stream;
    use crate::store::columns::keyword::KeywordColumn;
    use std::collections::BTreeMap;

    /// Few strings that many slots have, and many that few have.
    fn string(seed: u64, n: u64) -> String {
        let x = stream(seed, n);
        format!("{}", if x.is_multiple_of(4) { 100 + (x >> 8) % 900 } else { (x >> 8) % 12 })
    }

    #[test]
    fn unions_after_any_history_are_those_of_the_strings() {
        let mut n_marked = 0;
        for (seed, n_slots, one_in) in [(1, 50, 200), (2, 3000, 200), (3, 5000, 200), (4, 3000, 3)]
        {
            let (mut column, mut model) = (KeywordColumn::default(), BTreeMap::new());
            for n in 0..4 * n_slots {
                let slot = (stream(seed, 3 * n) % n_slots) as u32;
                column.remove(slot);
                model.remove(&slot);
                if !stream(seed, 3 * n + 1).is_multiple_of(3) {
                    // Where more than a few slots have two, bytes are of no use.
                    let n_own = if stream(seed, 3 * n + 2).is_multiple_of(one_in) { 2 } else { 1 };
                    let own: Vec<String> = (0..n_own).map(|i| string(seed, 7 * n + i)).collect();
                    column.insert(slot, &own.iter().map(String::as_str).collect::<Vec<_>>());
                    model.insert(slot, own);
                }
                if n < n_slots || !n.is_multiple_of(n_slots / 20) {
                    continue;
                }
                let asked: Vec<String> = (0..n % 9).map(|i| string(seed + 9, n + i)).collect();
                let is_one = |own: &&Vec<String>| own.iter().any(|own| asked.contains(own));
                let expected: RoaringBitmap =
                    model.iter().filter(|(_, own)| is_one(own)).map(|(slot, _)| *slot).collect();
                let ids = column.find(asked.iter().map(String::as_str));
                let all: RoaringBitmap = (0..n_slots as u32).collect();
                assert_eq!(column.any(&ids, &all), expected, "{seed}: {asked:?}");
                if let Some(marked) = column.mark_any(&ids) {
                    n_marked += 1;
                    assert_eq!(marked.within(&all), expected, "{seed}: {asked:?}");
                }
                let is_other = |own: &&Vec<String>| own.iter().any(|own| !asked.contains(own));
                let others: RoaringBitmap =
                    model.iter().filter(|(_, own)| is_other(own)).map(|(slot, _)| *slot).collect();
                assert_eq!(column.except(&ids), others, "{seed}: {asked:?}");
            }
        }
        assert!(n_marked > 60, "{n_marked}");
    }

    #[test]
    fn the_most_frequent_strings_have_a_byte() {
        let only: Vec<u32> = (0..10_000).map(|n| 1 + (n % 1000) * u32::from(n % 2 == 0)).collect();
        let n_slots = |id: u32| only.iter().filter(|&&only| only == id + 1).count() as u64;
        let short = Short::of(&only, 1000, n_slots);
        let (found, long) = short.mark(&[0]);
        let found = found.within(&(0..10_000).collect());
        assert_eq!((found.len(), long), (5000 + 10, vec![]));
        let n_long = (0..1000).filter(|&id| short.byte(id) == LONG).count();
        assert_eq!(n_long, 1000 - 254);
    }
}
