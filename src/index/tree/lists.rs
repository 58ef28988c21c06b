//! Lists that queries of any sets come to: all rows, in tree order, and which of a list's a set has.

use crate::core::allow::Allow;
use crate::error::Result;
use crate::index::tree::run::Run;
use crate::index::tree::search::check_run;
use crate::index::tree::skeleton::{Part, Skeleton};

/// Rows of a tile: with 384 elements it fills half of a first-level cache, and a block of queries fits beside it.
pub(super) const TILE: usize = 128;

/// Words of a bit per row of a tile.
pub(super) const WORDS: usize = TILE / 32;

/// All rows that any query may find, in lists.
#[derive(Debug)]
pub struct Lists {
    pub(super) run: Run,
    pub(super) skeleton: Skeleton,
    /// Of every part: whether its slots are one after another.
    is_straight: Vec<bool>,
    /// Rows of a list, in the mean.
    pub(super) list_rows: usize,
}

impl Lists {
    /// Those of a run and its skeleton.
    ///
    /// # Errors
    /// `skeleton_run` if the skeleton is another run's.
    pub fn new(run: Run, skeleton: Skeleton) -> Result<Self> {
        check_run(&skeleton, run.slots())?;
        let is_straight = |part: &Part| {
            part.n_children == 0
                && run.slots()[part.range()]
                    .windows(2)
                    .all(|two| two[0].checked_add(1) == Some(two[1]))
        };
        let is_straight = skeleton.parts().iter().map(is_straight).collect();
        let n_lists = skeleton.parts().iter().filter(|part| part.n_children == 0).count();
        let list_rows = skeleton.n_rows().div_ceil(n_lists.max(1)).max(1);
        Ok(Self { run, skeleton, is_straight, list_rows })
    }

    /// Bytes of the slots and parts.
    pub fn n_bytes(&self) -> u64 {
        self.run.n_bytes() + self.skeleton.n_bytes() + self.is_straight.capacity() as u64
    }

    /// The slots of a list.
    pub(super) fn slots(&self, list: u32) -> Slots<'_> {
        let range = self.skeleton.parts()[list as usize].range();
        Slots { slots: &self.run.slots()[range], is_straight: self.is_straight[list as usize] }
    }
}

/// Some slots, and whether they are one after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots<'a> {
    pub slots: &'a [u32],
    is_straight: bool,
}

impl<'a> Slots<'a> {
    /// As many as a tile has at once.
    pub fn tiles(self) -> impl Iterator<Item = Self> {
        self.slots.chunks(TILE).map(move |slots| Self { slots, ..self })
    }

    /// A bit for each of at most [`TILE`] slots that may be found.
    pub fn rows_in(self, allow: Allow<'_>) -> [u32; WORDS] {
        let every = rows_of(self.slots.len());
        match allow {
            Allow::All => every,
            Allow::Bits(bits) if self.is_straight => {
                let words = bits.words();
                let word = |at: usize| words.get(at).copied().unwrap_or(0);
                std::array::from_fn(|i| {
                    let at = self.slots[0] as usize + 32 * i;
                    let two = u128::from(word(at / 64)) | u128::from(word(at / 64 + 1)) << 64;
                    (two >> (at % 64)) as u32 & every[i]
                })
            }
            _ => {
                let mut rows = [0; WORDS];
                for (row, &slot) in self.slots.iter().enumerate() {
                    rows[row / 32] |= u32::from(allow.contains(slot)) << (row % 32);
                }
                rows
            }
        }
    }

    /// How many may be found.
    pub fn count(self, allow: Allow<'_>) -> usize {
        match allow {
            Allow::All => self.slots.len(),
            _ => self
                .tiles()
                .flat_map(|tile| tile.rows_in(allow))
                .map(|word| word.count_ones() as usize)
                .sum(),
        }
    }
}

/// A bit for each of the first `n` rows.
pub(super) fn rows_of(n: usize) -> [u32; WORDS] {
    std::array::from_fn(|word| match n.saturating_sub(32 * word) {
        32.. => u32::MAX,
        left => (1 << left) - 1,
    })
}
