//! Texts as lower-cased words, with the order in which they stand.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::store::columns::bytes::{Reader, put_lists};
use crate::store::columns::dictionary::{Dictionary, Slots, Words, n_bytes};

/// The words of a text: runs of letters and digits of any script, in lower case.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    let runs = text.split(|c: char| !c.is_alphanumeric());
    runs.filter(|run| !run.is_empty()).map(str::to_lowercase)
}

/// Texts of one field.
#[derive(Clone, Debug, Default)]
pub struct TextColumn {
    words: Dictionary,
    /// By slot: the words of its texts in order, each one more than its number, seven bits to a byte; 0 between texts.
    texts: BTreeMap<u32, Box<[u8]>>,
    /// Slots with more than one text.
    several: RoaringBitmap,
}

impl TextColumn {
    /// Gives a slot that has none its texts.
    pub fn insert(&mut self, slot: u32, texts: &[&str]) {
        if texts.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        for (n, text) in texts.iter().enumerate() {
            if n > 0 {
                bytes.push(0);
            }
            for word in words(text) {
                push(&mut bytes, self.words.insert(&word, slot) + 1);
            }
        }
        self.texts.insert(slot, bytes.into());
        if texts.len() > 1 {
            self.several.insert(slot);
        }
    }

    /// Takes the texts of a slot away.
    pub fn remove(&mut self, slot: u32) {
        let Some(bytes) = self.texts.remove(&slot) else { return };
        self.several.remove(slot);
        let mut ids: Vec<u32> = numbers(&bytes).filter(|&id| id > 0).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().for_each(|id| self.words.remove(id - 1, slot));
    }

    /// The numbers of the words of a query in order, or `None` where no slot has one.
    pub fn find(&self, query: &str) -> Vec<Option<u32>> {
        words(query).map(|word| self.words.find(&word)).collect()
    }

    /// The slots of `within` with a text that has all of these words, and how many texts were read to be sure.
    pub fn all(&self, ids: &[Option<u32>], within: &RoaringBitmap) -> (RoaringBitmap, u64) {
        let candidates = self.with_all(ids, within);
        let (sure, unsure) = (&candidates - &self.several, candidates & &self.several);
        let (checked, n_read) =
            self.check(&unsure, |text| ids.iter().flatten().all(|id| text.contains(&(id + 1))));
        (sure | checked, n_read)
    }

    /// The slots of `within` with a text that has these words one after the other, and how many texts were read.
    pub fn phrase(&self, ids: &[Option<u32>], within: &RoaringBitmap) -> (RoaringBitmap, u64) {
        let candidates = self.with_all(ids, within);
        let phrase: Vec<u32> = ids.iter().flatten().map(|id| id + 1).collect();
        self.check(&candidates, |text| text.windows(phrase.len()).any(|words| words == phrase))
    }

    /// The slots with a text that has any of these words.
    pub fn any(&self, ids: &[Option<u32>]) -> RoaringBitmap {
        self.words.union(&known(ids))
    }

    fn with_all(&self, ids: &[Option<u32>], within: &RoaringBitmap) -> RoaringBitmap {
        if ids.is_empty() || ids.contains(&None) {
            return RoaringBitmap::new();
        }
        let mut ids = known(ids);
        ids.sort_unstable_by_key(|&id| self.words.n_slots(id));
        let first = self.words.intersection(ids[0], within);
        ids[1..].iter().fold(first, |slots, &id| self.words.intersection(id, &slots))
    }

    fn check(
        &self,
        candidates: &RoaringBitmap,
        holds: impl Fn(&[u32]) -> bool,
    ) -> (RoaringBitmap, u64) {
        let mut found = RoaringBitmap::new();
        for slot in candidates {
            let ids: Vec<u32> = numbers(&self.texts[&slot]).collect();
            if ids.split(|&id| id == 0).any(&holds) {
                found.insert(slot);
            }
        }
        (found, candidates.len())
    }

    /// An upper bound on the slots with a text that has all of these words.
    pub fn at_most_all(&self, ids: &[Option<u32>]) -> u64 {
        ids.iter().map(|id| id.map_or(0, |id| self.words.n_slots(id))).min().unwrap_or(0)
    }

    /// An upper bound on the slots with a text that has any of these words.
    pub fn at_most_any(&self, ids: &[Option<u32>]) -> u64 {
        known(ids).into_iter().map(|id| self.words.n_slots(id)).sum()
    }

    /// Slots with a text.
    pub fn n_slots(&self) -> u64 {
        self.texts.len() as u64
    }

    /// Adds what [`TextColumn::decode`] reads: the words, then the texts in their numbers.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.words.encode(out);
        put_lists(out, &self.texts, |out, bytes| out.extend(bytes));
    }

    /// Reads what was encoded. Which slots have a word follows from the texts.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let words = Words::decode(reader)?;
        let texts = reader.lists(1, |reader, n| Ok(reader.take(n)?.into()))?;
        let (mut slots, mut several) = (vec![Vec::new(); words.len()], RoaringBitmap::new());
        for (&slot, bytes) in &texts {
            for id in numbers(bytes) {
                let Some(id) = id.checked_sub(1) else {
                    several.insert(slot);
                    continue;
                };
                if !words.has(id) {
                    return Err(reader.corrupt(format!("a text with word {id}, which is none")));
                }
                let slots: &mut Vec<u32> = &mut slots[id as usize];
                if slots.last() != Some(&slot) {
                    slots.push(slot);
                }
            }
        }
        let words = words.with_slots(reader, |reader, id| {
            Slots::of(&slots[id as usize])
                .ok_or_else(|| reader.corrupt(format!("word {id}, which no text has")))
        })?;
        Ok(Self { words, texts, several })
    }

    /// Bytes held, about.
    pub fn n_bytes(&self) -> usize {
        // A node of the map is at least half full.
        let texts = self.texts.values().map(|bytes| bytes.len() + 48);
        self.words.n_bytes() + texts.sum::<usize>() + n_bytes(&self.several)
    }
}

fn known(ids: &[Option<u32>]) -> Vec<u32> {
    let mut ids: Vec<u32> = ids.iter().flatten().copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn push(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let ends = bytes.split_inclusive(|&byte| byte < 0x80);
    ends.map(|bytes| bytes.iter().rev().fold(0, |n, &byte| n << 7 | u32::from(byte & 0x7f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(slots: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        slots.into_iter().collect()
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        let found: Vec<String> = words("Den-Haag_2 ÄRGER, 数据!  x86").collect();
        assert_eq!(found, ["den", "haag", "2", "ärger", "数据", "x86"]);
        assert_eq!(words(" -- ").count(), 0);
    }

    #[test]
    fn numbers_are_read_as_they_were_pushed() {
        let all = [0, 1, 127, 128, 300, 1 << 20, u32::MAX, 0];
        let mut bytes = Vec::new();
        all.iter().for_each(|&number| push(&mut bytes, number));
        assert_eq!(numbers(&bytes).collect::<Vec<u32>>(), all);
    }

    #[test]
    fn all_words_must_stand_in_one_text_and_a_phrase_in_order() {
        let mut column = TextColumn::default();
        let rows: [&[&str]; 6] = [
            &["The quick fox"],
            &["quick", "the fox"],
            &["fox the quick"],
            &["!"],
            &[],
            &["", "the quick"],
        ];
        (0..).zip(rows).for_each(|(slot, texts)| column.insert(slot, texts));
        let all = set(0..9);
        let find = |query: &str| column.find(query);
        assert_eq!(column.all(&find("QUICK the"), &all).0, set([0, 2, 5]));
        assert_eq!(column.phrase(&find("the quick"), &all).0, set([0, 2, 5]));
        assert_eq!(column.phrase(&find("quick the"), &all).0, set([]), "not across texts");
        assert_eq!(column.any(&find("fox zebra")), set([0, 1, 2]));
        assert_eq!(column.all(&find("fox zebra"), &all).0, set([]));
        assert_eq!(column.all(&find(" "), &all).0, set([]));
        (0..9).for_each(|slot| column.remove(slot));
        assert_eq!((column.n_slots(), column.words.n_words()), (0, 0));
    }
}
