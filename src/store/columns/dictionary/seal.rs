//! Words as bytes: by number, and the slots of each.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::store::columns::bytes::{Reader, put_count, put_set, put_slab};
use crate::store::columns::dictionary::{Dictionary, Entry, Held, Slots, Word};

/// What begins a word, or stands for a number that has none.
mod tag {
    pub const FREE: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const UUID: u8 = 2;
}

/// What begins the slots of a word.
mod set_tag {
    pub const ONE: u8 = 1;
    pub const MANY: u8 = 2;
    pub const RUN: u8 = 3;
}

/// Most slots of a word that are written as a run, which is lent: a set of so few takes longer to be read than to be made.
const RUN: u64 = 256;

/// Words by number, of which it is not known yet which slots have them.
pub struct Words(Vec<Option<Word>>);

impl Dictionary {
    /// Adds the words, which [`Words::decode`] reads.
    pub(in crate::store::columns) fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.entries.len());
        for entry in &self.entries {
            match entry.as_ref().map(|entry| &entry.word) {
                None => out.push(tag::FREE),
                Some(Word::Text(text)) => {
                    out.push(tag::TEXT);
                    put_count(out, text.len());
                    out.extend(text.as_bytes());
                }
                Some(Word::Uuid(uuid)) => {
                    out.push(tag::UUID);
                    out.extend(uuid);
                }
            }
        }
    }

    /// Adds the slots of every word, which [`Slots::decode`] reads one after the other, and then the runs of those with few.
    pub(in crate::store::columns) fn encode_slots(&self, out: &mut Vec<u8>) {
        let mut runs: Vec<u32> = Vec::new();
        for held in (0..self.entries.len() as u32).filter_map(|id| self.held(id)) {
            match held {
                Held::One(slot) => put_one(out, slot),
                Held::Many(many) if many.len() > RUN => put_many(out, many),
                _ => {
                    out.push(set_tag::RUN);
                    put_count(out, held.len() as usize);
                    match held {
                        Held::Many(many) => runs.extend(many),
                        Held::Run(run) => runs.extend_from_slice(run),
                        Held::One(_) => unreachable!("put above"),
                    }
                }
            }
        }
        put_count(out, runs.len());
        put_slab(out, &runs);
    }

    /// The same without runs, as builds before 2026-11-30 wrote it.
    #[cfg(test)]
    pub(in crate::store::columns) fn encode_sets(&self, out: &mut Vec<u8>) {
        for held in (0..self.entries.len() as u32).filter_map(|id| self.held(id)) {
            match held {
                Held::One(slot) => put_one(out, slot),
                Held::Many(many) => put_many(out, many),
                Held::Run(run) => put_many(out, &run.iter().copied().collect()),
            }
        }
    }

    /// Reads the runs behind the slots of all words.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub(in crate::store::columns) fn decode_runs(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let n_slots = reader.count(size_of::<u32>())?;
        self.runs = reader.slab(n_slots)?;
        let mut n_before = 0;
        for entry in self.entries.iter_mut().flatten() {
            if let Slots::Run(first, n) = &mut entry.slots {
                *first = n_before;
                let run =
                    self.runs.get(n_before as usize..).and_then(|rest| rest.get(..*n as usize));
                reader.check_run(run.ok_or_else(|| reader.corrupt("a run past the last slot"))?)?;
                n_before += *n;
            }
        }
        match n_before as usize == n_slots {
            true => Ok(()),
            false => Err(reader.corrupt(format!("{n_slots} slots in runs of {n_before}"))),
        }
    }
}

fn put_one(out: &mut Vec<u8>, slot: u32) {
    out.push(set_tag::ONE);
    out.extend(slot.to_le_bytes());
}

fn put_many(out: &mut Vec<u8>, many: &RoaringBitmap) {
    out.push(set_tag::MANY);
    put_set(out, many);
}

impl Slots {
    /// A set of slots, which are ascending, unless there are none.
    pub fn of(slots: &[u32]) -> Option<Self> {
        match *slots {
            [] => None,
            [slot] => Some(Self::One(slot)),
            _ => {
                let many = RoaringBitmap::from_sorted_iter(slots.iter().copied());
                Some(Self::Many(Box::new(many.expect("slots are ascending"))))
            }
        }
    }

    /// Reads the slots of one word; where its run begins is known when all are read.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn decode(reader: &mut Reader<'_>, may_be_run: bool) -> Result<Self> {
        match reader.u8()? {
            set_tag::ONE => reader.slot().map(Self::One),
            set_tag::MANY => {
                let many = reader.set()?;
                if many.is_empty() {
                    return Err(reader.corrupt("a word that no slot has"));
                }
                Ok(Self::Many(Box::new(many)))
            }
            set_tag::RUN if may_be_run => match reader.u32()? {
                0 => Err(reader.corrupt("a word that no slot has")),
                n => Ok(Self::Run(0, n)),
            },
            other => Err(reader.corrupt(format!("a set of type {other}"))),
        }
    }
}

impl Words {
    /// Reads words.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let n_words = reader.count(1)?;
        let mut words = Vec::with_capacity(n_words);
        for _ in 0..n_words {
            words.push(match reader.u8()? {
                tag::FREE => None,
                tag::TEXT => Some(Word::Text(reader.text()?.into())),
                tag::UUID => {
                    let uuid = reader.take(16)?;
                    Some(Word::Uuid(uuid.try_into().expect("as many bytes were taken")))
                }
                other => return Err(reader.corrupt(format!("a word of type {other}"))),
            });
        }
        Ok(Self(words))
    }

    /// Numbers, those that stand for no word included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a number stands for a word.
    pub fn has(&self, id: u32) -> bool {
        self.0.get(id as usize).is_some_and(Option::is_some)
    }

    /// The words with the slots that `slots` says of each number, in order.
    ///
    /// # Errors
    /// `corrupt_file` for a word that is there twice; those of `slots`.
    pub fn with_slots(
        self,
        reader: &mut Reader<'_>,
        mut slots: impl FnMut(&mut Reader<'_>, u32) -> Result<Slots>,
    ) -> Result<Dictionary> {
        let mut made = Dictionary::default();
        let n_uuids = self.0.iter().filter(|word| matches!(word, Some(Word::Uuid(_)))).count();
        let n_texts = self.0.iter().flatten().count() - n_uuids;
        made.entries.reserve_exact(self.0.len());
        made.uuids.reserve(n_uuids);
        made.texts.reserve(n_texts);
        for (word, id) in self.0.into_iter().zip(0..) {
            let Some(word) = word else {
                made.entries.push(None);
                made.free.push(id);
                continue;
            };
            let twin = match &word {
                Word::Text(text) => {
                    made.n_text_bytes += text.len();
                    made.texts.insert(Arc::clone(text), id)
                }
                Word::Uuid(uuid) => made.uuids.insert(*uuid, id),
            };
            if let Some(twin) = twin {
                return Err(reader.corrupt(format!("words {twin} and {id}, which are the same")));
            }
            made.entries.push(Some(Entry { word, slots: slots(reader, id)? }));
        }
        Ok(made)
    }
}
