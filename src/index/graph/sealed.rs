//! A graph in a sealed file, and back: links of the base layer stay in the file, and are compared with their checksums when a walk
//! comes to them (`guard.rs`).
//!
//! | section | elements | holds |
//! |---|---|---|
//! | `graph.about` | u64 `[4]` | `m`, `ef_construction`, seed, entry point (2⁶⁴ - 1 for none) |
//! | `graph.links` | u32 `[n_slots, 2 m]` | links of the base layer |
//! | `graph.sums` | u64 `[n_slots / 16]`, rounded up | a checksum of the links of each 16 slots; not in files before 2026-11-30 |
//! | `graph.live` | u64 `[n_slots / 64]`, rounded up | a bit for every slot with a row |
//! | `graph.stale` | u64, as many | a bit for every slot without one to which links may lead |
//! | `graph.levels` | u32 `[n_levels]` | slots of each level above the base layer |
//! | `graph.upper_slots` | u32 `[sum of the levels]` | these slots, level after level |
//! | `graph.upper_links` | u32 `[sum of the levels, m]` | their links |

use std::sync::Arc;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::core::slab::Slab;
use crate::error::Result;
use crate::index::graph::guard::{Guard, n_blocks};
use crate::index::graph::{BuildParams, Graph, Parts};
use crate::store::sealed::{Sealed, SealedWriter};

/// Checksums of blocks of links.
const SUMS: &str = "graph.sums";

/// Slots whose links are checked at once, of a file without checksums of blocks: 2 MiB of links at `m` 16.
const BLOCK: usize = 1 << 14;

/// Says that no slot has a row.
const NO_ENTRY: u64 = u64::MAX;

impl Graph {
    /// Sections that [`Self::seal`] writes.
    pub const N_SECTIONS: usize = 8;

    /// Writes the graph.
    ///
    /// # Errors
    /// Those of the writer; `corrupt_file` if links of the file that it came from are damaged.
    pub fn seal(&self, writer: &mut SealedWriter<'_>) -> Result<()> {
        self.verify()?;
        let BuildParams { m, ef_construction, seed } = self.params;
        let entry = self.entry.map_or(NO_ENTRY, u64::from);
        writer.section::<u64>("graph.about", &[4])?;
        writer.append(&[m as u64, ef_construction as u64, seed, entry])?;
        writer.section::<u32>("graph.links", &[self.n_slots() as u64, self.width() as u64])?;
        writer.append(&self.links)?;
        let sums = self.sums();
        writer.section::<u64>(SUMS, &[sums.len() as u64])?;
        writer.append(&sums)?;
        let n_words = self.dead.len() as u64;
        writer.section::<u64>("graph.live", &[n_words])?;
        writer.append(&self.dead.iter().map(|word| !word).collect::<Vec<u64>>())?;
        writer.section::<u64>("graph.stale", &[n_words])?;
        writer.append(&self.stale)?;
        let sizes: Vec<u32> = self.upper.iter().map(|layer| layer.slots.len() as u32).collect();
        let n_upper = sizes.iter().map(|&n| u64::from(n)).sum();
        writer.section::<u32>("graph.levels", &[sizes.len() as u64])?;
        writer.append(&sizes)?;
        writer.section::<u32>("graph.upper_slots", &[n_upper])?;
        self.upper.iter().try_for_each(|layer| writer.append(&layer.slots))?;
        writer.section::<u32>("graph.upper_links", &[n_upper, m as u64])?;
        self.upper.iter().try_for_each(|layer| writer.append(&layer.links))
    }

    /// The graph of a file. All of it is compared with its checksums and checked, since a wrong link leads nowhere: the links of
    /// the base layer when a walk comes to them, where they lie; those of a file without checksums of blocks now, by two passes
    /// side by side in `pool`.
    ///
    /// # Errors
    /// `corrupt_file`; those of [`Graph::from_parts`].
    pub fn open(pool: &ThreadPool, sealed: &Sealed) -> Result<Self> {
        let [m, ef_construction, seed, entry] = sealed.about("graph.about")?;
        let params = BuildParams { m: m as usize, ef_construction: ef_construction as usize, seed };
        params.check().map_err(|error| sealed.refuse("graph.about", error))?;
        let (links, shape) = sealed.slab::<u32>("graph.links")?;
        if shape.len() != 2 || shape[1] != 2 * m {
            return Err(sealed.refuse("graph.links", format!("shape {shape:?} with m {m}")));
        }
        let entry = match entry {
            NO_ENTRY => None,
            slot => Some(u32::try_from(slot).map_err(|error| sealed.refuse("graph.about", error))?),
        };
        let upper = upper(sealed, params.m)?;
        let live = verified(sealed, "graph.live")?.0.into_vec();
        let stale = verified(sealed, "graph.stale")?.0.into_vec();
        let sums = sealed.has(SUMS).then(|| verified::<u64>(sealed, SUMS)).transpose()?;
        let check_base = |graph: &Self| match &sums {
            Some((sums, _)) if sums.len() == n_blocks(graph.n_slots()) => Ok(()),
            Some((sums, _)) => Err(sealed.refuse(SUMS, format!("{} of them", sums.len()))),
            None => {
                let (is_written, is_sound) =
                    pool.join(|| sealed.verify_memory("graph.links"), || graph.check_blocks());
                is_written.and(is_sound)
            }
        };
        let parts = Parts { params, links, live, entry, upper };
        let mut graph = Self::checked(parts, Some(stale), check_base)?;
        let guard = |(sums, _)| Arc::new(Guard::new(sums, sealed.place("graph.links")));
        graph.guard = sums.map(guard);
        Ok(graph)
    }

    /// Fails if a link of the base layer leads nowhere; for a thread of a pool.
    fn check_blocks(&self) -> Result<()> {
        let block = |i: usize| i * BLOCK..((i + 1) * BLOCK).min(self.n_slots());
        let blocks = (0..self.n_slots().div_ceil(BLOCK)).into_par_iter();
        let first = blocks.find_map_first(|i| self.check_slots(block(i)).err());
        first.map_or(Ok(()), Err)
    }
}

/// Slots and links of the levels above the base layer.
fn upper(sealed: &Sealed, m: usize) -> Result<Vec<(Vec<u32>, Vec<u32>)>> {
    let (sizes, slots, links) = (
        verified::<u32>(sealed, "graph.levels")?.0,
        verified::<u32>(sealed, "graph.upper_slots")?.0,
        verified::<u32>(sealed, "graph.upper_links")?.0,
    );
    let n_upper: usize = sizes.iter().map(|&n| n as usize).sum();
    if (slots.len(), links.len()) != (n_upper, n_upper * m) {
        let what = format!("{n_upper} slots, found {} with {} links", slots.len(), links.len());
        return Err(sealed.refuse("graph.levels", what));
    }
    let mut start = 0;
    let level = |&n: &u32| {
        let from = start..start + n as usize;
        start = from.end;
        (slots[from.clone()].to_vec(), links[from.start * m..from.end * m].to_vec())
    };
    Ok(sizes.iter().map(level).collect())
}

fn verified<'s, T: crate::store::sealed::Value>(
    sealed: &'s Sealed,
    name: &str,
) -> Result<(Slab<T>, &'s [u64])> {
    sealed.verify_memory(name)?;
    sealed.slab(name)
}
