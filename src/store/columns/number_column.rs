//! Numbers or moments of one field: one key per slot in cells, and what does not fit there beside them.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::store::columns::bytes::{Reader, put_lists, put_set};
use crate::store::columns::cells::Cells;
use crate::store::columns::dictionary::n_bytes;
use crate::store::columns::marked::Marked;
use crate::store::columns::number::{Interval, Layout, Number, float_of};
use crate::store::columns::seal::Format;

/// Numbers of one field, exact whatever they are.
#[derive(Clone, Debug)]
pub struct NumberColumn {
    layout: Layout,
    cells: Cells,
    /// Of the slots in `cells`, those whose float was written as a whole number.
    whole: RoaringBitmap,
    /// Slots with several numbers, or one that has no key in this layout.
    beside: BTreeMap<u32, Box<[Number]>>,
}

impl NumberColumn {
    /// A column without numbers.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            cells: Cells::default(),
            whole: RoaringBitmap::new(),
            beside: BTreeMap::new(),
        }
    }

    /// Gives a slot that has none its numbers.
    pub fn insert(&mut self, slot: u32, numbers: &[Number]) {
        match numbers {
            [] => {}
            [number] if let Some(key) = self.layout.key(*number) => {
                self.cells.set(slot, key);
                if self.layout == Layout::Float && matches!(number, Number::Int(_)) {
                    self.whole.insert(slot);
                }
            }
            _ => {
                self.beside.insert(slot, numbers.into());
            }
        }
    }

    /// Takes the numbers of a slot away.
    pub fn remove(&mut self, slot: u32) {
        self.cells.clear(slot);
        self.whole.remove(slot);
        self.beside.remove(&slot);
    }

    /// Cuts the cells anew after many insertions.
    pub fn settle(&mut self) {
        self.cells.cut();
    }

    /// The slots of `within` with a number in the interval.
    pub fn range(&self, interval: &Interval<Number>, within: &RoaringBitmap) -> RoaringBitmap {
        let is_in = |number: &Number| interval.contains(number);
        let mut found = self.in_cells(interval, within);
        found |= self.beside_with(is_in, within);
        found
    }

    /// The slots of `within` with one of these numbers, which are ascending, written as a whole number.
    pub fn any(&self, wholes: &[i64], within: &RoaringBitmap) -> RoaringBitmap {
        let keys: Vec<i64> =
            wholes.iter().filter_map(|&whole| self.layout.key(Number::Int(whole.into()))).collect();
        let mut found = self.cells.any(&keys, within);
        if self.layout == Layout::Float {
            found &= &self.whole;
        }
        let is_one = |number: &Number| wholes.iter().any(|&whole| is_whole(number, whole));
        found |= self.beside_with(is_one, within);
        found
    }

    /// Marks the slots with a number in the interval.
    pub fn mark_range(&self, interval: &Interval<Number>) -> Marked<'_> {
        let keys = self.layout.keys(interval);
        let mut marked = keys.map_or_else(Marked::default, |keys| self.cells.mark_range(&keys));
        self.mark_beside(&mut marked, |number| interval.contains(number));
        marked
    }

    /// Marks the slots with one of these numbers, which are ascending, written as a whole number; none of floats, where that is
    /// not known without one more set.
    pub fn mark_any(&self, wholes: &[i64]) -> Option<Marked<'_>> {
        if self.layout == Layout::Float {
            return None;
        }
        let mut marked = self.cells.mark_any(wholes);
        self.mark_beside(&mut marked, |number| wholes.iter().any(|&whole| is_whole(number, whole)));
        Some(marked)
    }

    fn mark_beside(&self, marked: &mut Marked<'_>, is_wanted: impl Fn(&Number) -> bool) {
        let found = self.beside.iter().filter(|(_, numbers)| numbers.iter().any(&is_wanted));
        found.for_each(|(slot, _)| marked.mark(*slot));
    }

    /// The slots of `within` with a number that is none of these, which are ascending.
    pub fn except(&self, wholes: &[i64], within: &RoaringBitmap) -> RoaringBitmap {
        let mut found = self.in_cells(&(Bound::Unbounded, Bound::Unbounded), within);
        found -= self.any(wholes, within);
        let is_other = |number: &Number| match number {
            Number::Int(int) => {
                i64::try_from(*int).map_or(true, |int| wholes.binary_search(&int).is_err())
            }
            Number::Float(_) => true,
        };
        found |= self.beside_with(is_other, within);
        found
    }

    /// The least and the greatest number of a slot, if it has any.
    pub fn ends(&self, slot: u32) -> Option<(Number, Number)> {
        if let Some(key) = self.cells.key(slot) {
            let number = self.layout.number(key);
            return Some((number, number));
        }
        let numbers = self.beside.get(&slot)?;
        Some((*numbers.iter().min()?, *numbers.iter().max()?))
    }

    /// The numbers of a slot that are written as whole numbers of 64 bits, each once, ascending.
    pub fn wholes(&self, slot: u32) -> Vec<i64> {
        let whole = |number: &Number| match number {
            Number::Int(int) => i64::try_from(*int).ok(),
            Number::Float(_) => None,
        };
        if let Some(key) = self.cells.key(slot) {
            return match self.layout {
                Layout::Int => vec![key],
                // A whole number has a key among floats only if the float is it.
                Layout::Float if self.whole.contains(slot) => {
                    whole(&Number::Int(float_of(key) as i128)).into_iter().collect()
                }
                Layout::Float => Vec::new(),
            };
        }
        let numbers = self.beside.get(&slot).into_iter().flatten();
        let mut wholes: Vec<i64> = numbers.filter_map(whole).collect();
        wholes.sort_unstable();
        wholes.dedup();
        wholes
    }

    fn in_cells(&self, interval: &Interval<Number>, within: &RoaringBitmap) -> RoaringBitmap {
        let keys = self.layout.keys(interval);
        keys.map_or_else(RoaringBitmap::new, |keys| self.cells.range(&keys, within))
    }

    fn beside_with(
        &self,
        is_wanted: impl Fn(&Number) -> bool,
        within: &RoaringBitmap,
    ) -> RoaringBitmap {
        let has = |numbers: &[Number]| numbers.iter().any(&is_wanted);
        if within.len() < self.beside.len() as u64 {
            let is_in = |slot: &u32| self.beside.get(slot).is_some_and(|numbers| has(numbers));
            return within.iter().filter(is_in).collect();
        }
        let found = self.beside.iter().filter(|(_, numbers)| has(numbers)).map(|(slot, _)| *slot);
        found.filter(|slot| within.contains(*slot)).collect()
    }

    /// An upper bound on the slots with a number in the interval.
    pub fn at_most(&self, interval: &Interval<Number>) -> u64 {
        let in_cells = self.layout.keys(interval).map_or(0, |keys| self.cells.at_most(&keys));
        in_cells + self.beside.len() as u64
    }

    /// Slots with a number.
    pub fn n_slots(&self) -> u64 {
        self.cells.n_keys() + self.beside.len() as u64
    }

    /// Slots that a range within `n_within` slots looks at, at most: a narrow one lists what it finds.
    pub fn n_looked_at(&self, n_within: u64) -> u64 {
        let is_few = n_within < self.cells.n_one_by_one();
        let n_in_cells = if is_few { n_within } else { self.cells.n_codes() };
        n_in_cells + n_within.min(self.beside.len() as u64)
    }

    /// Adds what [`NumberColumn::decode`] reads.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.cells.encode(out);
        self.encode_others(out);
    }

    fn encode_others(&self, out: &mut Vec<u8>) {
        put_set(out, &self.whole);
        put_lists(out, &self.beside, |out, numbers| {
            numbers.iter().for_each(|number| number.encode(out));
        });
    }

    /// Reads what was encoded of a column of this layout.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub(super) fn decode(layout: Layout, format: Format, reader: &mut Reader<'_>) -> Result<Self> {
        let cells = match format {
            Format::Packed => Cells::decode_packed(reader)?,
            Format::Lent => Cells::decode(reader)?,
        };
        let whole = reader.set()?;
        let beside = reader
            .lists(Number::N_BYTES, |reader, n| (0..n).map(|_| Number::decode(reader)).collect())?;
        Ok(Self { layout, cells, whole, beside })
    }

    /// Adds what [`NumberColumn::decode`] reads of a packed one.
    #[cfg(test)]
    pub(super) fn encode_packed(&self, out: &mut Vec<u8>) {
        self.cells.encode_packed(out);
        self.encode_others(out);
    }

    /// Bytes held, about.
    pub fn n_bytes(&self) -> usize {
        // A node of the map is at least half full.
        let beside = self.beside.values().map(|numbers| size_of_val(&**numbers) + 48);
        self.cells.n_bytes() + n_bytes(&self.whole) + beside.sum::<usize>()
    }
}

fn is_whole(number: &Number, whole: i64) -> bool {
    matches!(number, Number::Int(int) if *int == i128::from(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(slots: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        slots.into_iter().collect()
    }

    #[test]
    fn what_does_not_fit_the_layout_is_found_as_well() {
        let (int, float) = (Number::Int, Number::Float);
        let rows: [&[Number]; 7] = [
            &[int(5)],
            &[float(5.0)],
            &[float(5.5)],
            &[int((1 << 53) + 1)],
            &[int(1 << 63)],
            &[int(5), float(9.5)],
            &[],
        ];
        let all = set(0..7);
        for layout in [Layout::Int, Layout::Float] {
            let mut column = NumberColumn::new(layout);
            (0..).zip(rows).for_each(|(slot, numbers)| column.insert(slot, numbers));
            let from = |number| (Bound::Excluded(number), Bound::Unbounded);
            let many: Vec<i64> = (0..20).collect();
            assert_eq!(column.any(&[5], &all), set([0, 5]), "{layout:?}");
            assert_eq!(column.any(&many, &all), set([0, 5]), "{layout:?}");
            assert_eq!(column.except(&many, &all), set([1, 2, 3, 4, 5]), "{layout:?}");
            assert_eq!(column.range(&from(int(5)), &all), set([2, 3, 4, 5]), "{layout:?}");
            assert_eq!(
                column.range(&from(float(9007199254740992.0)), &all),
                set([3, 4]),
                "{layout:?}"
            );
            assert_eq!(column.range(&from(int(5)), &set([0, 2])), set([2]), "{layout:?}");
            assert_eq!(column.except(&[5], &all), set([1, 2, 3, 4, 5]), "{layout:?}");
            let ends: Vec<_> = (0..7).map(|slot| column.ends(slot)).collect();
            let own = |numbers: &[Number]| Some((*numbers.iter().min()?, *numbers.iter().max()?));
            assert_eq!(ends, rows.map(own), "{layout:?}");
            let wholes: Vec<_> = (0..7).map(|slot| column.wholes(slot)).collect();
            let expected = [vec![5], vec![], vec![], vec![(1 << 53) + 1], vec![], vec![5], vec![]];
            assert_eq!(wholes, expected, "{layout:?}");
            assert_eq!(column.n_slots(), 6);
            (0..7).for_each(|slot| column.remove(slot));
            assert_eq!(column.n_slots(), 0);
            assert!(column.range(&(Bound::Unbounded, Bound::Unbounded), &all).is_empty());
        }
    }
}
