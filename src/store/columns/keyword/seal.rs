//! Strings in a file: what each slot has, and the slots of strings that few have, lie as they are used, and are lent.
//!
//! The bytes were compared with their checksum. Beside that is checked what would end the process if it were otherwise; that
//! the strings of slots are those by which strings have slots is not.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::error::Result;
use crate::store::columns::bytes::{Reader, put_count, put_lists, put_set, put_slab, set_of};
use crate::store::columns::dictionary::{Slots, Words};
use crate::store::columns::keyword::KeywordColumn;
use crate::store::columns::short::Short;

impl KeywordColumn {
    /// Adds what [`KeywordColumn::decode`] reads: the strings, the slots of each, then the strings of each slot.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.words.encode(out);
        self.words.encode_slots(out);
        put_lists(out, &self.several, |out, ids| {
            ids.iter().for_each(|id| out.extend(id.to_le_bytes()));
        });
        put_set(out, &self.single);
        put_count(out, self.only.len());
        out.push(u8::from(self.has_short()));
        put_slab(out, &self.only);
        if self.has_short() {
            // Made anew: strings that came later have no byte of their own.
            self.to_short().encode(out);
        }
    }

    /// Reads what was encoded; most of it is lent. Cost: that of the distinct strings, of those that many slots have, and a look
    /// at the string of each slot.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let words = Words::decode(reader)?;
        let mut words = words.with_slots(reader, |reader, _| Slots::decode(reader, true))?;
        words.decode_runs(reader)?;
        let n_ids = words.n_ids() as u32;
        let several = reader.lists(size_of::<u32>(), |reader, n| {
            let ids: Box<[u32]> = (0..n).map(|_| reader.u32()).collect::<Result<_>>()?;
            let is_sound =
                ids.is_sorted_by(|a, b| a < b) && ids.last().is_none_or(|&id| id < n_ids);
            if is_sound { Ok(ids) } else { Err(reader.corrupt("strings that there are not")) }
        })?;
        let single = reader.set()?;
        let (n_slots, has_short) = (reader.count(size_of::<u32>())?, reader.u8()?);
        let only = reader.slab::<u32>(n_slots)?;
        let greatest = only.iter().fold(0, |greatest, &id| id.max(greatest));
        let n_single = single.max().map_or(0, |slot| slot as usize + 1);
        if greatest > n_ids || n_single > n_slots || has_short > 1 {
            let what = format!("string {greatest} of {n_ids}, slot {n_single} of {n_slots}");
            return Err(reader.corrupt(what));
        }
        let short = OnceLock::new();
        if has_short == 1 {
            let read = Short::decode(reader, n_ids as usize, n_slots)?;
            short.set(read).expect("it was made above");
        }
        Ok(Self { words, only, several, single, short })
    }

    /// Reads strings as builds before 2026-11-30 wrote them. What each slot has follows from who has each string.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn decode_sets(reader: &mut Reader<'_>) -> Result<Self> {
        const SEVERAL: u32 = u32::MAX;
        let words = Words::decode(reader)?;
        let words = words.with_slots(reader, |reader, _| Slots::decode(reader, false))?;
        let mut only = vec![0; reader.n_slots()];
        let mut n_several = 0;
        words.visit(|id, slot| {
            let only = &mut only[slot as usize];
            n_several += usize::from(*only > 0);
            *only = if *only > 0 { SEVERAL } else { id + 1 };
        });
        let mut pairs: Vec<u64> = Vec::with_capacity(2 * n_several);
        if n_several > 0 {
            words.visit(|id, slot| {
                if only[slot as usize] == SEVERAL {
                    pairs.push(u64::from(slot) << 32 | u64::from(id));
                }
            });
            pairs.sort_unstable();
        }
        let ids = |pairs: &[u64]| pairs.iter().map(|&pair| pair as u32).collect();
        let by_slot = pairs.chunk_by(|a, b| a >> 32 == b >> 32);
        let several: BTreeMap<u32, Box<[u32]>> =
            by_slot.map(|pairs| ((pairs[0] >> 32) as u32, ids(pairs))).collect();
        several.keys().for_each(|&slot| only[slot as usize] = 0);
        let single = set_of(&only, |&id| id > 0);
        Ok(Self { words, only: only.into(), several, single, short: OnceLock::new() })
    }

    /// Adds what [`KeywordColumn::decode_sets`] reads.
    #[cfg(test)]
    pub fn encode_sets(&self, out: &mut Vec<u8>) {
        self.words.encode(out);
        self.words.encode_sets(out);
    }
}
