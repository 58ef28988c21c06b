//! One sortable key per slot, cut into at most 255 cells of about equal depth: a range is a look at one byte per slot,
//! and only keys of the one or two cells that a bound cuts are compared.
//!
//! Paper: SQUASH (arXiv 2502.01528), the quantised attribute index; here each cell knows its least and greatest key, and
//! a value that fills a cell has it alone.

use std::ops::RangeInclusive;

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::store::columns::bytes::{Reader, put_count, set_of};

/// Cells that a cut aims at; heavy values can double their number, and a code is one byte.
const CELLS: usize = 120;

/// Keys below which nothing is cut again.
const LEAST_CUT: u32 = 128;

/// Keys by slot.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    /// By slot: 0 for no key, else one more than the place of its cell.
    codes: Vec<u8>,
    /// By slot.
    keys: Vec<i64>,
    cells: Vec<Cell>,
    n_keys: u32,
    n_at_cut: u32,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    /// Keys from here to the next cell belong here.
    from: i64,
    /// Bounds of the keys that came in since the cut; removals leave them as they are.
    least: i64,
    greatest: i64,
    n: u32,
}

/// Cells inside a range, and those that it may cut, by code.
struct Cut {
    /// The first and the last cell that is inside.
    inside: Option<(u8, u8)>,
    check: [u8; 2],
    n_inside: u64,
    n_check: u64,
}

impl Cells {
    /// The key of a slot.
    pub fn key(&self, slot: u32) -> Option<i64> {
        let slot = slot as usize;
        (*self.codes.get(slot)? > 0).then(|| self.keys[slot])
    }

    /// Gives a slot its key, in the place of any other.
    pub fn set(&mut self, slot: u32, key: i64) {
        self.clear(slot);
        let at = slot as usize;
        if self.codes.len() <= at {
            self.codes.resize(at + 1, 0);
            self.keys.resize(at + 1, 0);
        }
        if self.cells.is_empty() {
            self.cells.push(Cell::new(i64::MIN));
        }
        self.keys[at] = key;
        self.codes[at] = self.take_in(key);
        self.n_keys += 1;
        if self.n_keys >= LEAST_CUT && self.n_keys >= 2 * self.n_at_cut {
            self.cut();
        }
    }

    /// Takes the key of a slot away.
    pub fn clear(&mut self, slot: u32) {
        if let Some(code) = self.codes.get_mut(slot as usize).filter(|code| **code > 0) {
            self.cells[usize::from(*code) - 1].n -= 1;
            *code = 0;
            self.n_keys -= 1;
        }
    }

    fn take_in(&mut self, key: i64) -> u8 {
        let code = self.cells.partition_point(|cell| cell.from <= key);
        self.cells[code - 1].take_in(key);
        u8::try_from(code).expect("a cut makes at most 255 cells")
    }

    /// Cuts the cells anew, by the keys that are there.
    pub fn cut(&mut self) {
        let with_key = |at: &usize| self.codes[*at] > 0;
        let mut sorted: Vec<i64> =
            (0..self.codes.len()).filter(with_key).map(|at| self.keys[at]).collect();
        sorted.sort_unstable();
        let depth = sorted.len().div_ceil(CELLS).max(1);
        self.cells.clear();
        self.cells.push(Cell::new(i64::MIN));
        let mut n_in_cell = 0;
        for same in sorted.chunk_by(|a, b| a == b) {
            let is_full = n_in_cell >= depth || n_in_cell > 0 && same.len() >= depth;
            if is_full {
                self.cells.push(Cell::new(same[0]));
                n_in_cell = 0;
            }
            n_in_cell += same.len();
        }
        for at in 0..self.codes.len() {
            if self.codes[at] > 0 {
                self.codes[at] = self.take_in(self.keys[at]);
            }
        }
        self.n_at_cut = self.n_keys;
    }

    fn place(&self, keys: &RangeInclusive<i64>) -> Cut {
        let mut cut = Cut { inside: None, check: [0; 2], n_inside: 0, n_check: 0 };
        let mut n_cut = 0;
        for (cell, code) in self.cells.iter().zip(1..=u8::MAX) {
            let is_apart = cell.n == 0 || cell.greatest < *keys.start() || cell.least > *keys.end();
            if is_apart {
                continue;
            }
            if keys.contains(&cell.least) && keys.contains(&cell.greatest) {
                cut.inside = Some((cut.inside.map_or(code, |(first, _)| first), code));
                cut.n_inside += u64::from(cell.n);
            } else {
                // Cells are in order and apart, so that only those at the two ends are cut.
                cut.check[n_cut] = code;
                cut.n_check += u64::from(cell.n);
                n_cut += 1;
            }
        }
        cut
    }

    /// The slots whose key is in `keys`. One byte per slot is read, and the keys of at most two cells.
    pub fn range(&self, keys: &RangeInclusive<i64>) -> RoaringBitmap {
        let cut = self.place(keys);
        let mut words = vec![0u64; self.codes.len().div_ceil(64)];
        let (chunks, rest) = self.codes.as_chunks::<64>();
        let mut tail = [0; 64];
        tail[..rest.len()].copy_from_slice(rest);
        for (at, (codes, word)) in chunks.iter().chain([&tail]).zip(&mut words).enumerate() {
            *word = cut.inside.map_or(0, |(first, last)| inside(codes, first, last));
            if cut.n_check == 0 {
                continue;
            }
            let mut unsure = equal(codes, cut.check);
            while unsure != 0 {
                let bit = unsure.trailing_zeros();
                unsure &= unsure - 1;
                let is_in = keys.contains(&self.keys[at * 64 + bit as usize]);
                *word |= u64::from(is_in) << bit;
            }
        }
        words.iter_mut().for_each(|word| *word = word.to_le());
        RoaringBitmap::from_lsb0_bytes(0, bytemuck::cast_slice(&words))
    }

    /// The slots of `within` whose key is in `keys`: as [`Cells::range`], one slot at a time.
    pub fn range_within(
        &self,
        keys: &RangeInclusive<i64>,
        within: &RoaringBitmap,
    ) -> RoaringBitmap {
        let is_in = |slot: &u32| self.key(*slot).is_some_and(|key| keys.contains(&key));
        within.iter().filter(is_in).collect()
    }

    /// An upper bound on the slots in a range: those of all cells that it touches.
    pub fn at_most(&self, keys: &RangeInclusive<i64>) -> u64 {
        let cut = self.place(keys);
        cut.n_inside + cut.n_check
    }

    /// One past the greatest slot that ever had a key: the bytes that a range reads.
    pub fn n_codes(&self) -> u64 {
        self.codes.len() as u64
    }

    /// Slots with a key.
    pub fn n_keys(&self) -> u64 {
        self.n_keys.into()
    }

    /// Adds what [`Cells::decode`] reads: where cells begin, the codes, and the keys of slots that have one.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.cells.len()).expect("a cut makes at most 255 cells"));
        out.extend(self.n_at_cut.to_le_bytes());
        self.cells.iter().for_each(|cell| out.extend(cell.from.to_le_bytes()));
        put_count(out, self.codes.len());
        out.extend(&self.codes);
        out.reserve(self.n_keys as usize * size_of::<i64>());
        let with_key = self.codes.iter().zip(&self.keys).filter(|(code, _)| **code > 0);
        with_key.for_each(|(_, key)| out.extend(key.to_le_bytes()));
    }

    /// Reads what was encoded. Counts and bounds of cells are those of the keys that are there.
    ///
    /// # Errors
    /// `corrupt_file`, among others for a key outside of its cell.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let n_cells = reader.u8()?;
        let n_at_cut = reader.u32()?;
        let mut cells: Vec<Cell> = reader.i64s(n_cells.into())?.map(Cell::new).collect();
        let begins_least = cells.first().is_none_or(|cell| cell.from == i64::MIN);
        if !begins_least || !cells.is_sorted_by(|a, b| a.from < b.from) {
            return Err(reader.corrupt("cells that are not in order"));
        }
        let n_codes = reader.count(1)?;
        let codes = reader.take(n_codes)?.to_vec();
        if codes.iter().any(|&code| code > n_cells) || n_at_cut as usize > n_codes {
            let what =
                format!("codes or a cut of {n_at_cut} keys that {n_cells} cells do not have");
            return Err(reader.corrupt(what));
        }
        reader.check(&set_of(&codes, |&code| code > 0))?;
        let n_keys = codes.iter().filter(|&&code| code > 0).count();
        let packed = reader.i64s(n_keys)?;
        let mut keys = vec![0; n_codes];
        let with_key = codes.iter().zip(&mut keys).filter(|(code, _)| **code > 0);
        for ((&code, own), key) in with_key.zip(packed) {
            *own = key;
            cells[usize::from(code) - 1].take_in(key);
        }
        let ends = cells.iter().skip(1).map(|cell| cell.from - 1).chain([i64::MAX]);
        let has_others = |(cell, end): (&Cell, i64)| {
            cell.n > 0 && (cell.least < cell.from || cell.greatest > end)
        };
        if cells.iter().zip(ends).any(has_others) {
            return Err(reader.corrupt("a key outside of its cell"));
        }
        Ok(Self { codes, keys, cells, n_keys: n_keys as u32, n_at_cut })
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
        self.codes.capacity()
            + self.keys.capacity() * size_of::<i64>()
            + self.cells.capacity() * size_of::<Cell>()
    }
}

impl Cell {
    fn new(from: i64) -> Self {
        Self { from, least: i64::MAX, greatest: i64::MIN, n: 0 }
    }

    fn take_in(&mut self, key: i64) {
        self.least = self.least.min(key);
        self.greatest = self.greatest.max(key);
        self.n += 1;
    }
}

/// One bit per code from the first to the last.
fn inside(codes: &[u8; 64], first: u8, last: u8) -> u64 {
    pack(codes.map(|code| u8::from(code.wrapping_sub(first) <= last - first)))
}

/// One bit per code that is one of two, of which 0 stands for none.
fn equal(codes: &[u8; 64], [a, b]: [u8; 2]) -> u64 {
    pack(codes.map(|code| u8::from(code != 0) & (u8::from(code == a) | u8::from(code == b))))
}

/// 64 bytes that are 0 or 1 as bits, by a multiplication that moves eight of them side by side.
fn pack(bytes: [u8; 64]) -> u64 {
    let (groups, _) = bytes.as_chunks::<8>();
    groups.iter().enumerate().fold(0, |word, (n, &group)| {
        let bits = u64::from_le_bytes(group).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word | bits << (8 * n)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;
    use std::collections::BTreeMap;

    /// Keys with heavy values, long tails and the ends of what there is.
    fn key(seed: u64, n: u64) -> i64 {
        let x = stream(seed, n);
        match x % 8 {
            0 | 1 => (x >> 8) as i64 % 3,
            2 => i64::MIN + (x >> 60) as i64,
            3 => i64::MAX - (x >> 60) as i64,
            _ => x as i64 >> (x % 50),
        }
    }

    #[test]
    fn ranges_after_any_history_are_those_of_the_keys() {
        for seed in 0..12 {
            let (mut cells, mut model) = (Cells::default(), BTreeMap::new());
            let n_slots = [1, 63, 64, 65, 300, 2000][seed as usize % 6];
            for n in 0..3 * n_slots {
                let slot = (stream(seed, 2 * n) % n_slots) as u32;
                if stream(seed, 2 * n + 1).is_multiple_of(4) {
                    cells.clear(slot);
                    model.remove(&slot);
                } else {
                    cells.set(slot, key(seed, n));
                    model.insert(slot, key(seed, n));
                }
            }
            assert_eq!(cells.n_keys(), model.len() as u64);
            assert!(cells.cells.len() <= 255);
            let all: RoaringBitmap = (0..n_slots as u32).collect();
            for n in 0..200 {
                let keys = key(seed + 100, n)..=key(seed, n % (2 * n_slots));
                let expected: RoaringBitmap = model
                    .iter()
                    .filter(|(_, key)| keys.contains(key))
                    .map(|(slot, _)| *slot)
                    .collect();
                assert_eq!(cells.range(&keys), expected, "seed {seed}: {keys:?}");
                assert_eq!(cells.range_within(&keys, &all), expected, "seed {seed}: {keys:?}");
                assert!(cells.at_most(&keys) >= expected.len(), "seed {seed}: {keys:?}");
            }
        }
    }

    #[test]
    fn a_heavy_value_is_found_without_a_look_at_keys() {
        let mut cells = Cells::default();
        (0..10_000)
            .for_each(|slot| cells.set(slot, i64::from(if slot % 3 == 0 { 7 } else { slot })));
        cells.cut();
        let cut = cells.place(&(7..=7));
        assert_eq!((cut.n_inside, cut.n_check), (3335, 0));
    }

    #[test]
    fn light_values_between_heavy_ones_do_not_need_more_cells_than_a_byte_counts() {
        let (mut cells, mut slot) = (Cells::default(), 0);
        for value in 0..236 {
            for _ in 0..if value % 2 == 0 { 60 } else { 1 } {
                cells.set(slot, value);
                slot += 1;
            }
        }
        cells.cut();
        assert!((200..=255).contains(&cells.cells.len()), "{}", cells.cells.len());
        assert_eq!(cells.range(&(3..=4)).len(), 61);
    }
}
