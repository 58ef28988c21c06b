//! Words and the slots that hold them: each distinct word once, with a number and an exact set of slots.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use crate::core::ids::PointId;

mod seal;

pub(super) use seal::Words;

/// Words by number, and numbers by word. UUIDs in their usual spelling are held as 16 bytes.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    texts: HashMap<Arc<str>, u32>,
    uuids: HashMap<[u8; 16], u32>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    n_text_bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    word: Word,
    slots: Slots,
}

#[derive(Clone, Debug)]
enum Word {
    Text(Arc<str>),
    Uuid([u8; 16]),
}

/// A set of slots; most words of most fields have one.
#[derive(Clone, Debug)]
pub(super) enum Slots {
    One(u32),
    Many(Box<RoaringBitmap>),
}

impl Dictionary {
    /// The number of a word that some slot holds.
    pub fn find(&self, text: &str) -> Option<u32> {
        match uuid(text) {
            Some(uuid) => self.uuids.get(&uuid).copied(),
            None => self.texts.get(text).copied(),
        }
    }

    /// Notes that `slot` holds the word; returns its number.
    pub fn insert(&mut self, text: &str, slot: u32) -> u32 {
        if let Some(id) = self.find(text) {
            self.entry_mut(id).slots.insert(slot);
            return id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("there are fewer words than memory holds")
        });
        let word = match uuid(text) {
            Some(uuid) => {
                self.uuids.insert(uuid, id);
                Word::Uuid(uuid)
            }
            None => {
                let text: Arc<str> = text.into();
                self.n_text_bytes += text.len();
                self.texts.insert(Arc::clone(&text), id);
                Word::Text(text)
            }
        };
        self.entries[id as usize] = Some(Entry { word, slots: Slots::One(slot) });
        id
    }

    /// Notes that `slot` no longer holds the word of this number; the last slot takes the word along.
    pub fn remove(&mut self, id: u32, slot: u32) {
        let entry = self.entry_mut(id);
        if !entry.slots.remove(slot) {
            return;
        }
        match self.entries[id as usize].take().expect("it was looked up").word {
            Word::Text(text) => {
                self.n_text_bytes -= text.len();
                self.texts.remove(&text);
            }
            Word::Uuid(uuid) => {
                self.uuids.remove(&uuid);
            }
        }
        self.free.push(id);
    }

    fn entry_mut(&mut self, id: u32) -> &mut Entry {
        self.entries[id as usize].as_mut().expect("a number stands for a word while a slot has it")
    }

    /// Calls `visit` with the number of every word and each of its slots, in order.
    pub fn visit(&self, mut visit: impl FnMut(u32, u32)) {
        for (entry, id) in self.entries.iter().zip(0..) {
            match entry.as_ref().map(|entry| &entry.slots) {
                None => {}
                Some(Slots::One(slot)) => visit(id, *slot),
                Some(Slots::Many(many)) => many.iter().for_each(|slot| visit(id, slot)),
            }
        }
    }

    fn slots(&self, id: u32) -> Option<&Slots> {
        Some(&self.entries.get(id as usize)?.as_ref()?.slots)
    }

    /// How many slots hold the word of this number.
    pub fn n_slots(&self, id: u32) -> u64 {
        self.slots(id).map_or(0, Slots::len)
    }

    /// The slots that hold any of these words.
    pub fn union(&self, ids: &[u32]) -> RoaringBitmap {
        let slots = || ids.iter().filter_map(|&id| self.slots(id));
        let many = slots().filter_map(|slots| match slots {
            Slots::Many(many) => Some(&**many),
            Slots::One(_) => None,
        });
        let mut all: RoaringBitmap = many.union();
        slots().for_each(|slots| {
            if let Slots::One(slot) = slots {
                all.insert(*slot);
            }
        });
        all
    }

    /// Calls `visit` with every slot of each of these words.
    pub fn each_slot(&self, ids: &[u32], mut visit: impl FnMut(u32)) {
        for slots in ids.iter().filter_map(|&id| self.slots(id)) {
            match slots {
                Slots::One(slot) => visit(*slot),
                Slots::Many(many) => many.iter().for_each(&mut visit),
            }
        }
    }

    /// The slots of `within` that hold the word of this number.
    pub fn intersection(&self, id: u32, within: &RoaringBitmap) -> RoaringBitmap {
        match self.slots(id) {
            None => RoaringBitmap::new(),
            Some(Slots::One(slot)) => within.contains(*slot).then_some(*slot).into_iter().collect(),
            Some(Slots::Many(many)) => &**many & within,
        }
    }

    /// The numbers of the words that `is_wanted` wants; every word is looked at.
    pub fn matching(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<u32> {
        let numbered = self.entries.iter().zip(0..);
        let wanted = numbered.filter(|(entry, _)| match entry.as_ref().map(|entry| &entry.word) {
            None => false,
            Some(Word::Text(text)) => is_wanted(text),
            Some(Word::Uuid(uuid)) => is_wanted(&spell(*uuid)),
        });
        wanted.map(|(_, id)| id).collect()
    }

    /// The words that slots of `within` hold, by number, with how many of them hold each.
    pub fn counts(&self, within: &RoaringBitmap) -> Vec<(u32, u64)> {
        let n_in = |slots: &Slots| match slots {
            Slots::One(slot) => u64::from(within.contains(*slot)),
            Slots::Many(many) => many.intersection_len(within),
        };
        let numbered = (0u32..).zip(&self.entries);
        let counts = numbered.filter_map(|(id, entry)| Some((id, n_in(&entry.as_ref()?.slots))));
        counts.filter(|(_, n)| *n > 0).collect()
    }

    /// The word of a number that stands for one.
    pub fn word(&self, id: u32) -> String {
        let entry = self.entries[id as usize].as_ref();
        match &entry.expect("a number stands for a word while a slot has it").word {
            Word::Text(text) => text.to_string(),
            Word::Uuid(uuid) => spell(*uuid),
        }
    }

    /// Distinct words.
    pub fn n_words(&self) -> u64 {
        (self.entries.len() - self.free.len()) as u64
    }

    /// One past the greatest number that ever stood for a word.
    pub fn n_ids(&self) -> usize {
        self.entries.len()
    }

    /// Bytes held, with what the allocator and the maps add estimated.
    pub fn n_bytes(&self) -> usize {
        let slots = self.entries.iter().flatten().map(|entry| entry.slots.n_bytes());
        // A shared string has two counters before it; a map keeps a byte of control per entry.
        let texts = self.n_text_bytes + self.texts.len() * 2 * size_of::<usize>();
        texts
            + self.texts.capacity() * (size_of::<(Arc<str>, u32)>() + 1)
            + self.uuids.capacity() * (size_of::<([u8; 16], u32)>() + 1)
            + self.entries.capacity() * size_of::<Option<Entry>>()
            + self.free.capacity() * size_of::<u32>()
            + slots.sum::<usize>()
    }
}

impl Slots {
    fn insert(&mut self, slot: u32) {
        match self {
            Self::One(one) if *one == slot => {}
            Self::One(one) => *self = Self::Many(Box::new([*one, slot].into_iter().collect())),
            Self::Many(many) => {
                many.insert(slot);
            }
        }
    }

    /// Whether nothing is left.
    fn remove(&mut self, slot: u32) -> bool {
        match self {
            Self::One(one) => *one == slot,
            Self::Many(many) => {
                many.remove(slot);
                many.is_empty()
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(many) => n_bytes(many),
        }
    }
}

/// Bytes that a set takes, about.
pub fn n_bytes(set: &RoaringBitmap) -> usize {
    size_of::<RoaringBitmap>() + set.serialized_size() + set.statistics().n_containers as usize * 32
}

/// The value of a UUID that is spelled as [`spell`] does.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let is_spelled = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    let value = is_spelled.then(|| u128::from_str_radix(&text.replace('-', ""), 16).ok());
    value.flatten().map(u128::to_be_bytes)
}

fn spell(uuid: [u8; 16]) -> String {
    PointId::Uuid(u128::from_be_bytes(uuid)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn words_have_the_slots_that_any_history_left_them() {
        let (mut dictionary, mut model) = (Dictionary::default(), BTreeMap::new());
        for n in 0..5000 {
            let x = stream(3, n);
            let word = match x % 40 {
                0..3 => spell(u128::from(x).to_be_bytes()),
                word => format!("w{word}"),
            };
            let slot = (x >> 32) as u32 % 50;
            let slots: &mut BTreeSet<u32> = model.entry(word.clone()).or_default();
            if x >> 63 == 0 || dictionary.find(&word).is_none() || !slots.contains(&slot) {
                dictionary.insert(&word, slot);
                slots.insert(slot);
            } else {
                dictionary.remove(dictionary.find(&word).unwrap(), slot);
                slots.remove(&slot);
            }
        }
        model.retain(|_, slots| !slots.is_empty());
        assert_eq!(dictionary.n_words(), model.len() as u64);
        for (word, slots) in &model {
            let id = dictionary.find(word).unwrap();
            let expected: RoaringBitmap = slots.iter().copied().collect();
            assert_eq!(dictionary.union(&[id]), expected);
            assert_eq!(dictionary.n_slots(id), expected.len());
            assert_eq!(
                dictionary.intersection(id, &(0..10).collect()),
                expected & (0..10).collect::<RoaringBitmap>()
            );
        }
        let found = dictionary.matching(|word| word.contains('-'));
        let n_uuids = model.keys().filter(|word| word.contains('-')).count();
        assert_eq!(found.len(), n_uuids);
    }

    #[test]
    fn spellings_of_a_uuid_are_different_words() {
        let mut dictionary = Dictionary::default();
        let lower = "550e8400-e29b-41d4-a716-446655440000";
        dictionary.insert(lower, 1);
        dictionary.insert(&lower.to_uppercase(), 2);
        assert_ne!(dictionary.find(lower), dictionary.find(&lower.to_uppercase()));
        assert_eq!(dictionary.find(&lower.replace('-', "")), None);
        assert_eq!(dictionary.matching(|word| word == lower).len(), 1);
    }
}
