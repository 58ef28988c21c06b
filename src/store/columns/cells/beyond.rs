//! What the cells of a range have beyond it: of a cell that an end of the range cuts, the slots whose key is outside.

use std::ops::RangeInclusive;

use super::{Cells, Lists};

/// Slots of the cells of a range that are not in it.
#[derive(Clone, Debug)]
pub struct Beyond<'a> {
    pub(super) cells: &'a Cells,
    pub(super) keys: RangeInclusive<i64>,
    /// Codes of the cells that are cut; 0 for none.
    pub(super) cut: [u8; 2],
}

impl Beyond<'_> {
    /// Whether a slot is one of them.
    pub fn has(&self, slot: u32) -> bool {
        let code = self.cells.codes.get(slot as usize).copied().unwrap_or(0);
        code > 0 && self.cut.contains(&code) && !self.keys.contains(&self.cells.keys[slot as usize])
    }

    /// Calls `visit` with each of them, some maybe twice.
    pub fn each(&self, mut visit: impl FnMut(u32)) {
        let Lists { since, is_changed, in_file, .. } = &self.cells.lists;
        let mut visit_listed = |slot| {
            if !is_changed || self.has(slot) {
                visit(slot);
            }
        };
        for code in self.codes() {
            match in_file {
                Some(order) => order.outside(code, &self.keys).for_each(&mut visit_listed),
                None => self.cells.group(code).outside(&self.keys).for_each(&mut visit_listed),
            }
        }
        since.iter().copied().filter(|&slot| self.has(slot)).for_each(visit);
    }

    /// The slots of the cells that are cut: about what [`Beyond::each`] looks at.
    pub fn n_in_cut(&self) -> u64 {
        self.codes().map(|code| u64::from(self.cells.cells[usize::from(code) - 1].n)).sum()
    }

    fn codes(&self) -> impl Iterator<Item = u8> {
        self.cut.into_iter().filter(|&code| code > 0)
    }
}
