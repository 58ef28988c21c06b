//! Links of a graph in a file, compared with their checksums when a walk first comes to them: opening reads none.
//!
//! Slots that follow one another are a block, with a checksum of its own. What a walk follows was compared, and leads to
//! slots that there are; a block that is damaged has no links, and whoever walked there is told so.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::core::slab::Slab;
use crate::error::{Error, Result};
use crate::index::graph::Graph;

/// Slots of a block: 2 KiB of links at `m` 16, which are compared in less time than a walk takes to come from afar.
const BLOCK: usize = 16;

/// What is known of the links of a file.
#[derive(Debug)]
pub(super) struct Guard {
    /// Of every block.
    sums: Slab<u64>,
    /// A bit for every block that was compared, and is what was written.
    compared: Box<[AtomicU64]>,
    /// The file, and where its links begin.
    place: (PathBuf, u64),
    /// The first damage that was met.
    damage: OnceLock<Error>,
}

impl Guard {
    /// A guard that has compared nothing; `sums` were compared with their own checksum.
    pub fn new(sums: Slab<u64>, place: (PathBuf, u64)) -> Self {
        let n_words = sums.len().div_ceil(64);
        let compared = (0..n_words).map(|_| AtomicU64::new(0)).collect();
        Self { sums, compared, place, damage: OnceLock::new() }
    }

    /// Whether the links of a slot were compared.
    #[inline]
    pub fn has_compared(&self, slot: u32) -> bool {
        let block = slot as usize / BLOCK;
        self.compared[block / 64].load(Ordering::Relaxed) >> (block % 64) & 1 == 1
    }
}

/// Blocks of so many slots.
pub(super) fn n_blocks(n_slots: usize) -> usize {
    n_slots.div_ceil(BLOCK)
}

impl Graph {
    /// The checksums of all blocks. Seeded with their number: one that lies elsewhere does not match.
    pub(super) fn sums(&self) -> Vec<u64> {
        (0..n_blocks(self.n_slots())).map(|block| self.sum(block)).collect()
    }

    fn sum(&self, block: usize) -> u64 {
        let Range { start, end } = self.slots_of(block);
        let links = &self.links[start * self.width()..end * self.width()];
        xxh3_64_with_seed(bytemuck::cast_slice(links), block as u64)
    }

    fn slots_of(&self, block: usize) -> Range<usize> {
        block * BLOCK..((block + 1) * BLOCK).min(self.n_slots())
    }

    /// Compares the block of a slot with its checksum, and checks its links; says whether they may be followed.
    #[cold]
    pub(super) fn compare(&self, guard: &Guard, slot: u32) -> bool {
        let block = slot as usize / BLOCK;
        match self.compared(guard, block) {
            Ok(()) => true,
            Err(error) => {
                // Of several that were met at once, any will do.
                let _ = guard.damage.set(error);
                false
            }
        }
    }

    fn compared(&self, guard: &Guard, block: usize) -> Result<()> {
        let (slots, (path, offset)) = (self.slots_of(block), &guard.place);
        let refuse = |what: String| {
            let at = offset + (slots.start * self.width() * size_of::<u32>()) as u64;
            Error::corrupt(path, at, format!("section \"graph.links\", {what}"))
        };
        if self.sum(block) != guard.sums[block] {
            let what = format!("the links of slots {slots:?} do not match their checksum");
            return Err(refuse(what));
        }
        self.check_slots(slots.clone()).map_err(|error| refuse(error.to_string()))?;
        guard.compared[block / 64].fetch_or(1 << (block % 64), Ordering::Relaxed);
        Ok(())
    }

    /// The damage that walks have met.
    pub fn damage(&self) -> Option<&Error> {
        self.guard.as_ref()?.damage.get()
    }

    /// Fails if a walk has met damage.
    ///
    /// # Errors
    /// `corrupt_file`.
    #[inline]
    pub(super) fn check_met(&self) -> Result<()> {
        self.damage().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Compares all links that no walk came to with their checksums.
    ///
    /// # Errors
    /// `corrupt_file`, as walks are told from then on.
    pub fn verify(&self) -> Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let slots = (0..self.n_slots() as u32).step_by(BLOCK);
        for slot in slots.filter(|&slot| !guard.has_compared(slot)) {
            if !self.compare(guard, slot) {
                break;
            }
        }
        self.check_met()
    }

    /// Compares all links, before any is changed: what is changed has no checksum.
    ///
    /// # Errors
    /// As for [`Self::verify`].
    pub(super) fn unguard(&mut self) -> Result<()> {
        self.verify()?;
        self.guard = None;
        Ok(())
    }
}
