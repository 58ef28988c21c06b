//! Stage 2: records with equal normalised text.
//!
//! In: exact hashes. Out: for every record the best-ranked record of equal text. Cost: one sort of 24 bytes a
//! record.

use std::path::Path;

use bytemuck::{Pod, Zeroable};

use crate::dedup::corpus::Corpus;
use crate::dedup::keep::Ranks;
use crate::dedup::spill::Sorter;
use crate::error::Result;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
struct ExactRow {
    hash: [u64; 2],
    rank: u32,
    unused: u32,
}

/// By rank, the best rank with the same text; a record is its own if it is the first, if `takes_part` (by
/// rank) says no, or if it has no words, unless `dedup_empty`.
///
/// # Errors
/// A failure of the disk.
pub fn representatives(
    corpus: &Corpus,
    ranks: &Ranks,
    takes_part: &dyn Fn(u32) -> bool,
    dedup_empty: bool,
    folder: &Path,
    budget_bytes: u64,
) -> Result<Vec<u32>> {
    let mut rows: Sorter<ExactRow> = Sorter::new(folder, "exact", budget_bytes, false);
    for frame in corpus.frames() {
        for (ordinal, meta) in frame.ordinals().zip(corpus.metas(frame)?) {
            let rank = ranks.of(ordinal);
            if (meta.n_words > 0 || dedup_empty) && takes_part(rank) {
                rows.push(ExactRow { hash: meta.exact, rank, unused: 0 })?;
            }
        }
    }
    let mut representatives: Vec<u32> = (0..corpus.n_records()).collect();
    let mut sorted = rows.finish()?;
    let mut best: Option<ExactRow> = None;
    while let Some(row) = sorted.next_row()? {
        match best {
            Some(first) if first.hash == row.hash => {
                representatives[row.rank as usize] = first.rank;
            }
            _ => best = Some(row),
        }
    }
    Ok(representatives)
}
