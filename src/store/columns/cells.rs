//! One sortable key per slot, cut into at most 255 cells of about equal depth. A wide range is a look at one byte per slot, less what
//! the one or two cells have beyond it that a bound cuts ([`Beyond`]); of these, and of all cells of a narrow range, the slots are
//! listed by key: in a file they lie so, in memory they are sorted when they are first asked for. What lies in a file stays there
//! until it is changed (`seal.rs`).
//!
//! Paper: SQUASH (arXiv 2502.01528), the quantised attribute index; here each cell knows its least and greatest key, and
//! a value that fills a cell has it alone.

use std::iter;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

use roaring::RoaringBitmap;

use crate::core::slab::Slab;
use crate::distance::simd::members::ByteSet;
use crate::store::columns::group::{ByCode, Group, Order};
use crate::store::columns::marked::{Marked, has_all, sorted};

mod beyond;
mod seal;

pub use beyond::Beyond;

/// Cells that a cut aims at; heavy values can double their number, and a code is one byte.
const CELLS: usize = 120;

/// Keys below which nothing is cut again.
const LEAST_CUT: u32 = 128;

/// The part of all slots, as a divisor, up to which those inside of a range are taken from lists, one by one.
const NARROW: u64 = 64;

/// Candidates that are fewer than all slots by this factor are looked at one by one.
const FEW: u64 = 128;

/// A set of slots that is smaller than all by this factor is sorted; others are made of one bit per slot.
const SORTED: usize = 256;

/// Keys that may come in before lists are made anew: all of them are looked at by every range.
const MOST_SINCE: usize = 1024;

/// Keys by slot.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    /// By slot: 0 for no key, else one more than the place of its cell.
    codes: Slab<u8>,
    /// By slot.
    keys: Slab<i64>,
    cells: Vec<Cell>,
    n_keys: u32,
    n_at_cut: u32,
    lists: Lists,
}

/// The slots of cells: as they lie in a file, or listed when they are first asked for.
#[derive(Clone, Debug, Default)]
struct Lists {
    /// In place of all others.
    in_file: Option<Order>,
    by_code: OnceLock<ByCode>,
    /// By key, one for each cell.
    groups: Vec<OnceLock<Group>>,
    /// Slots that got a key since lists could be made; some may have another by now.
    since: Vec<u32>,
    /// Whether a slot may have another key than its list says.
    is_changed: bool,
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
    /// 0 for none.
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

    fn is_in(&self, slot: u32, keys: &RangeInclusive<i64>) -> bool {
        self.key(slot).is_some_and(|key| keys.contains(&key))
    }

    /// The same of some keys, which are ascending.
    fn is_one(&self, slot: u32, keys: &[i64]) -> bool {
        self.key(slot).is_some_and(|key| keys.binary_search(&key).is_ok())
    }

    /// Gives a slot its key, in the place of any other.
    pub fn set(&mut self, slot: u32, key: i64) {
        self.clear(slot);
        let at = slot as usize;
        if self.codes.len() <= at {
            self.codes.to_mut().resize(at + 1, 0);
            self.keys.to_mut().resize(at + 1, 0);
        }
        if self.cells.is_empty() {
            self.cells.push(Cell::new(i64::MIN));
            self.forget_lists();
        }
        let code = self.take_in(key);
        self.keys.to_mut()[at] = key;
        self.codes.to_mut()[at] = code;
        self.n_keys += 1;
        if self.n_keys >= LEAST_CUT && self.n_keys >= 2 * self.n_at_cut {
            self.cut();
        } else if self.lists.since.len() == MOST_SINCE {
            self.forget_lists();
        } else {
            self.lists.since.push(slot);
            self.lists.is_changed = true;
        }
    }

    /// Takes the key of a slot away.
    pub fn clear(&mut self, slot: u32) {
        if let Some(&code) = self.codes.get(slot as usize).filter(|code| **code > 0) {
            self.cells[usize::from(code) - 1].n -= 1;
            self.codes.to_mut()[slot as usize] = 0;
            self.n_keys -= 1;
            self.lists.is_changed = true;
        }
    }

    /// Lists say what is so now.
    fn forget_lists(&mut self) {
        let groups = iter::repeat_with(OnceLock::new).take(self.cells.len()).collect();
        self.lists = Lists { groups, ..Lists::default() };
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
                let code = self.take_in(self.keys[at]);
                self.codes.to_mut()[at] = code;
            }
        }
        self.n_at_cut = self.n_keys;
        self.forget_lists();
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

    /// The slots of `within` whose key is in `keys`. Cost: about the number of those that have such a key, or of candidates, if
    /// either are few; otherwise one byte per slot is read.
    pub fn range(&self, keys: &RangeInclusive<i64>, within: &RoaringBitmap) -> RoaringBitmap {
        if within.len() < self.n_one_by_one() {
            return sorted(within.iter().filter(|&slot| self.is_in(slot, keys)));
        }
        let cut = self.place(keys);
        if cut.n_inside > self.n_codes() / NARROW {
            return self.mark_range(keys).within(within);
        }
        self.slots_of(&ByteSet::default(), self.in_narrow(keys, &cut), within)
    }

    /// The slots of `within` whose key is one of `keys`, which are ascending: as [`Cells::range`] for each, in one go.
    pub fn any(&self, keys: &[i64], within: &RoaringBitmap) -> RoaringBitmap {
        if within.len() < self.n_one_by_one() {
            return sorted(within.iter().filter(|&slot| self.is_one(slot, keys)));
        }
        let (whole, listed) = self.of_any(keys);
        self.slots_of(&whole, listed, within)
    }

    /// Marks what [`Cells::range`] finds among all slots: of a wide range its cells, less what they have beyond it.
    pub fn mark_range(&self, keys: &RangeInclusive<i64>) -> Marked<'_> {
        let cut = self.place(keys);
        if cut.n_inside <= self.n_codes() / NARROW {
            let listed = self.in_narrow(keys, &cut);
            return self.marked(&ByteSet::default(), listed);
        }
        // Cells that lie between are inside or empty.
        let (first, last) = cut.inside.expect("cells with slots");
        let checked = || cut.check.into_iter().filter(|&code| code > 0);
        let (first, last) =
            checked().fold((first, last), |(a, b), code| (a.min(code), b.max(code)));
        let beyond = Beyond { cells: self, keys: keys.clone(), cut: cut.check };
        Marked::between(&self.codes, &(first..=last), beyond)
    }

    /// Marks what [`Cells::any`] finds among all slots.
    pub fn mark_any(&self, keys: &[i64]) -> Marked<'_> {
        let (whole, listed) = self.of_any(keys);
        self.marked(&whole, listed)
    }

    /// The slots with a key in a range that few have.
    fn in_narrow(&self, keys: &RangeInclusive<i64>, cut: &Cut) -> Vec<u32> {
        let mut listed = Vec::new();
        if let Some((first, last)) = cut.inside {
            (first..=last).for_each(|code| self.list_all(code, keys, &mut listed));
        }
        let checked = cut.check.into_iter().filter(|&code| code > 0);
        checked.for_each(|code| self.list(code, keys, &mut listed));
        let since = self.lists.since.iter().copied();
        listed.extend(since.filter(|&slot| self.is_in(slot, keys)));
        listed
    }

    /// Cells of which all slots have one of some keys, which are ascending, and slots of the others that have one.
    fn of_any(&self, keys: &[i64]) -> (ByteSet, Vec<u32>) {
        let (mut whole, mut listed) = (ByteSet::default(), Vec::new());
        for &key in keys {
            let code = self.cells.partition_point(|cell| cell.from <= key);
            let Some(cell) = self.cells.get(code.wrapping_sub(1)) else { continue };
            // A value of many slots has its cell alone, unless they came since the cut.
            let is_alone = cell.least == key && cell.greatest == key;
            if is_alone && u64::from(cell.n) > self.n_codes() / NARROW {
                whole.insert(code as u8);
            } else {
                self.list(code as u8, &(key..=key), &mut listed);
            }
        }
        let since = self.lists.since.iter().copied();
        listed.extend(since.filter(|&slot| self.is_one(slot, keys)));
        (whole, listed)
    }

    /// Candidates are looked at one by one if they are fewer.
    pub fn n_one_by_one(&self) -> u64 {
        self.n_codes() / FEW
    }

    /// The slots of a cell, as they were in the file, or when they were first asked for.
    fn listed(&self, code: u8) -> &[u32] {
        match &self.lists.in_file {
            Some(order) => order.slots(code),
            None => self.lists.by_code.get_or_init(|| ByCode::of(&self.codes)).slots(code),
        }
    }

    /// The same by key.
    fn group(&self, code: u8) -> &Group {
        let group = &self.lists.groups[usize::from(code) - 1];
        group.get_or_init(|| Group::of(self.listed(code), &self.keys))
    }

    /// Adds the slots of a cell whose keys are all in `keys`, of those that its list says.
    fn list_all(&self, code: u8, keys: &RangeInclusive<i64>, out: &mut Vec<u32>) {
        let listed = self.listed(code).iter().copied();
        match self.lists.is_changed {
            true => out.extend(listed.filter(|&slot| self.is_in(slot, keys))),
            false => out.extend_from_slice(self.listed(code)),
        }
    }

    /// Adds the slots of a cell whose key is in `keys`, of those that its list says.
    fn list(&self, code: u8, keys: &RangeInclusive<i64>, out: &mut Vec<u32>) {
        match &self.lists.in_file {
            Some(order) => self.add(order.range(code, keys), out),
            None => self.add(self.group(code).range(keys), out),
        }
    }

    /// Adds slots that were listed with a key and have it.
    fn add(&self, found: impl Iterator<Item = (u32, i64)>, out: &mut Vec<u32>) {
        if self.lists.is_changed {
            let is_so = |&(slot, key): &(u32, i64)| self.key(slot) == Some(key);
            out.extend(found.filter(is_so).map(|(slot, _)| slot));
        } else {
            out.extend(found.map(|(slot, _)| slot));
        }
    }

    /// The slots of whole cells and those listed, of which one may be there twice, as far as they are in `within`.
    fn slots_of(
        &self,
        whole: &ByteSet,
        mut listed: Vec<u32>,
        within: &RoaringBitmap,
    ) -> RoaringBitmap {
        if whole.is_empty() && listed.len() < self.codes.len() / SORTED {
            listed.sort_unstable();
            listed.dedup();
            let all = sorted(listed.into_iter());
            return if has_all(within, self.codes.len() as u32) { all } else { all & within };
        }
        self.marked(whole, listed).within(within)
    }

    fn marked(&self, whole: &ByteSet, listed: Vec<u32>) -> Marked<'static> {
        let mut marked = Marked::of(&self.codes, whole);
        listed.into_iter().for_each(|slot| marked.mark(slot));
        marked
    }

    /// An upper bound on the slots in a range: those of all cells that it touches.
    pub fn at_most(&self, keys: &RangeInclusive<i64>) -> u64 {
        let cut = self.place(keys);
        cut.n_inside + cut.n_check
    }

    /// One past the greatest slot that ever had a key: the bytes that a range reads at most.
    pub fn n_codes(&self) -> u64 {
        self.codes.len() as u64
    }

    /// Slots with a key.
    pub fn n_keys(&self) -> u64 {
        self.n_keys.into()
    }

    /// Bytes held, those that stay in a file included.
    pub fn n_bytes(&self) -> usize {
        self.codes.len()
            + self.keys.len() * size_of::<i64>()
            + self.cells.capacity() * size_of::<Cell>()
            + self.lists.n_bytes()
    }
}

impl Lists {
    fn n_bytes(&self) -> usize {
        let groups = self.groups.iter().filter_map(OnceLock::get).map(Group::n_bytes);
        groups.sum::<usize>()
            + self.by_code.get().map_or(0, ByCode::n_bytes)
            + self.in_file.as_ref().map_or(0, Order::n_bytes)
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

#[cfg(test)]
mod tests;
