//! Words and the slots that hold them: each distinct word once, with a number and an exact set of slots.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use crate::core::ids::PointId;
use crate::core::slab::Slab;
use crate::store::columns::marked::{has_all, sorted};

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
    /// Slots of words that lie in a file, a run for each.
    runs: Slab<u32>,
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
    /// So many of the dictionary's runs, from the first on.
    Run(u32, u32),
    Many(Box<RoaringBitmap>),
}

/// The same, to be read.
#[derive(Clone, Copy)]
enum Held<'a> {
    One(u32),
    Run(&'a [u32]),
    Many(&'a RoaringBitmap),
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
            self.change(id, |slots| slots.insert(slot));
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
        if self.change(id, |slots| slots.remove(slot)) != Some(true) {
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

    /// Changes the slots of a number, if it stands for a word. That it does while a slot has it is not checked of what a file
    /// says of both.
    fn change<T>(&mut self, id: u32, change: impl FnOnce(&mut Slots) -> T) -> Option<T> {
        let slots = &mut self.entries.get_mut(id as usize)?.as_mut()?.slots;
        if let Slots::Run(first, n) = *slots {
            let run = self.runs[first as usize..][..n as usize].iter().copied();
            let many = RoaringBitmap::from_sorted_iter(run).expect("checked: runs ascend");
            *slots = Slots::Many(Box::new(many));
        }
        Some(change(slots))
    }

    /// Calls `visit` with the number of every word and each of its slots, in order.
    pub fn visit(&self, mut visit: impl FnMut(u32, u32)) {
        for id in 0..self.entries.len() as u32 {
            match self.held(id) {
                None => {}
                Some(Held::One(slot)) => visit(id, slot),
                Some(Held::Run(run)) => run.iter().for_each(|&slot| visit(id, slot)),
                Some(Held::Many(many)) => many.iter().for_each(|slot| visit(id, slot)),
            }
        }
    }

    fn held(&self, id: u32) -> Option<Held<'_>> {
        Some(match &self.entries.get(id as usize)?.as_ref()?.slots {
            Slots::One(slot) => Held::One(*slot),
            Slots::Run(first, n) => Held::Run(&self.runs[*first as usize..][..*n as usize]),
            Slots::Many(many) => Held::Many(many),
        })
    }

    /// How many slots hold the word of this number.
    pub fn n_slots(&self, id: u32) -> u64 {
        self.held(id).map_or(0, |held| held.len())
    }

    /// The slots that hold any of these words.
    pub fn union(&self, ids: &[u32]) -> RoaringBitmap {
        let (mut many, mut others) = (Vec::new(), Vec::new());
        for held in ids.iter().filter_map(|&id| self.held(id)) {
            match held {
                Held::One(slot) => others.push(slot),
                Held::Run(run) => others.extend_from_slice(run),
                Held::Many(set) => many.push(set),
            }
        }
        let mut all: RoaringBitmap = many.union();
        // In order, they are put behind one another.
        others.sort_unstable();
        others.dedup();
        match all.is_empty() {
            true => sorted(others.into_iter()),
            false => {
                all.extend(others);
                all
            }
        }
    }

    /// Calls `visit` with every slot of each of these words.
    pub fn each_slot(&self, ids: &[u32], mut visit: impl FnMut(u32)) {
        for held in ids.iter().filter_map(|&id| self.held(id)) {
            match held {
                Held::One(slot) => visit(slot),
                Held::Run(run) => run.iter().copied().for_each(&mut visit),
                Held::Many(set) => set.iter().for_each(&mut visit),
            }
        }
    }

    /// The slots of `within` that hold the word of this number.
    pub fn intersection(&self, id: u32, within: &RoaringBitmap) -> RoaringBitmap {
        match self.held(id) {
            None => RoaringBitmap::new(),
            Some(Held::One(slot)) => within.contains(slot).then_some(slot).into_iter().collect(),
            Some(Held::Run(run)) => {
                // Most often all slots are candidates.
                let is_in = |&last: &u32| within.contains(last) && has_all(within, last);
                let slots = run.iter().copied();
                match run.last().is_some_and(is_in) {
                    true => sorted(slots),
                    false => sorted(slots.filter(|&slot| within.contains(slot))),
                }
            }
            Some(Held::Many(many)) => many & within,
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
        let n_in = |held: Held<'_>| match held {
            Held::One(slot) => u64::from(within.contains(slot)),
            Held::Run(run) => run.iter().filter(|&&slot| within.contains(slot)).count() as u64,
            Held::Many(many) => many.intersection_len(within),
        };
        let ids = 0..self.entries.len() as u32;
        let counts = ids.filter_map(|id| Some((id, n_in(self.held(id)?))));
        counts.filter(|(_, n)| *n > 0).collect()
    }

    /// The word of a number, if it stands for one.
    pub fn word(&self, id: u32) -> Option<String> {
        Some(match &self.entries.get(id as usize)?.as_ref()?.word {
            Word::Text(text) => text.to_string(),
            Word::Uuid(uuid) => spell(*uuid),
        })
    }

    /// Distinct words.
    pub fn n_words(&self) -> u64 {
        (self.entries.len() - self.free.len()) as u64
    }

    /// One past the greatest number that ever stood for a word.
    pub fn n_ids(&self) -> usize {
        self.entries.len()
    }

    /// Bytes held, with what the allocator and the maps add estimated, and what stays in a file.
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
            + self.runs.len() * size_of::<u32>()
    }
}

impl Slots {
    /// Only of slots that are their own.
    fn insert(&mut self, slot: u32) {
        match self {
            Self::One(one) if *one == slot => {}
            Self::One(one) => *self = Self::Many(Box::new([*one, slot].into_iter().collect())),
            Self::Run(..) => unreachable!("a run is copied before it is changed"),
            Self::Many(many) => {
                many.insert(slot);
            }
        }
    }

    /// Whether nothing is left.
    fn remove(&mut self, slot: u32) -> bool {
        match self {
            Self::One(one) => *one == slot,
            Self::Run(..) => unreachable!("a run is copied before it is changed"),
            Self::Many(many) => {
                many.remove(slot);
                many.is_empty()
            }
        }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::One(_) | Self::Run(..) => 0,
            Self::Many(many) => n_bytes(many),
        }
    }
}

impl Held<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Run(run) => run.len() as u64,
            Self::Many(many) => many.len(),
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
