//! Stage 3: signatures to candidate pairs.
//!
//! In: signatures. Out: pairs of ranks that share a band, each once. The bands are planned for recall at the
//! threshold, since verification makes false candidates cheap and nothing brings a missed pair back.
//!
//! Paper: Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", 3.4; the plan is ours.

use std::cmp::Ordering;
use std::path::Path;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::backend::cpu::minhash::n_equal;
use crate::core::mix::{mix64, stream};
use crate::dedup::corpus::Corpus;
use crate::dedup::keep::Ranks;
use crate::dedup::spill::Sorter;
use crate::error::Result;

/// Chance that a pair exactly at the threshold must have to become a candidate. Above the promised 0.99,
/// so that a corpus whose pairs all lie at the threshold keeps the promise in a sample too.
pub const RECALL_AT_THRESHOLD: f64 = 0.995;

/// Bins of the sampled similarity histogram.
const BINS: usize = 32;

/// Records sampled for the plan: half a million pairs, 5 ms.
const SAMPLE: usize = 1024;

/// A bucket up to this size gives all its pairs; a larger one is compared with leaders.
pub const BUCKET_ALL_PAIRS: usize = 64;

/// Leaders that a member of a giant bucket is compared with, by signature. A bucket of a million
/// unrelated records that share a band would otherwise cost 10^12 comparisons.
const LEADERS: usize = 4096;

/// Candidates that a member of a giant bucket gets in the first round: its most similar leaders. Each round of
/// [`lead`] takes four times as many, so that few rounds find all.
const CANDIDATES_PER_MEMBER: usize = 8;

/// Bands of a signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Bands.
    pub n_bands: usize,
    /// Signature slots per band.
    pub rows_per_band: usize,
    /// Histogram of sampled pairs over [0, 1].
    pub histogram: Vec<u64>,
}

impl Plan {
    /// Chance that a pair of similarity `s` shares a band.
    pub fn recall(&self, s: f64) -> f64 {
        recall(self.n_bands, self.rows_per_band, s)
    }
}

fn recall(n_bands: usize, rows: usize, s: f64) -> f64 {
    1.0 - (1.0 - s.powi(rows as i32)).powi(n_bands as i32)
}

/// The plan for `threshold`: among all bands that reach the wanted recall, the one with the fewest expected
/// candidates; if none reaches it, the one with the highest recall.
pub fn plan(n_perm: usize, threshold: f64, histogram: Vec<u64>) -> Plan {
    let mut best: Option<(f64, usize, usize)> = None;
    let mut widest = (0.0, n_perm, 1);
    for rows in 1..=n_perm {
        let most = n_perm / rows;
        let at_threshold = recall(most, rows, threshold);
        if at_threshold > widest.0 {
            widest = (at_threshold, most, rows);
        }
        let fewest = (1..=most).find(|&n| recall(n, rows, threshold) >= RECALL_AT_THRESHOLD);
        let Some(n_bands) = fewest else { continue };
        let cost = expected_candidates(n_bands, rows, threshold, &histogram);
        if best.is_none_or(|(least, ..)| cost < least) {
            best = Some((cost, n_bands, rows));
        }
    }
    let (_, n_bands, rows_per_band) = best.unwrap_or(widest);
    Plan { n_bands, rows_per_band, histogram }
}

/// Sampled pairs below the threshold that would become candidates; one made-up pair per bin decides where
/// the sample says nothing.
fn expected_candidates(n_bands: usize, rows: usize, threshold: f64, histogram: &[u64]) -> f64 {
    let n_bins = BINS as f64;
    let below =
        histogram.iter().enumerate().filter(|(bin, _)| (*bin as f64 + 0.5) / n_bins < threshold);
    let found: f64 = below
        .map(|(bin, &count)| {
            (count as f64 + 1.0) * recall(n_bands, rows, (bin as f64 + 0.5) / n_bins)
        })
        .sum();
    // A band costs a sort of every record, about as much as verifying one pair in ten records.
    found + 0.05 * n_bands as f64
}

/// Similarity histogram, by signature, of all pairs of a sample of the records. The sample depends on the
/// corpus alone.
///
/// # Errors
/// If a sketch cannot be read.
pub fn sample_histogram(corpus: &Corpus, seed: u64) -> Result<Vec<u64>> {
    let n = u64::from(corpus.n_records());
    let mut ordinals: Vec<u32> = if n <= SAMPLE as u64 {
        (0..n as u32).collect()
    } else {
        (0..SAMPLE as u64).map(|i| (stream(seed, i) % n) as u32).collect()
    };
    ordinals.sort_unstable();
    ordinals.dedup();
    let n_perm = corpus.n_perm();
    let read = |&ordinal: &u32| -> Result<Option<Vec<u32>>> {
        if corpus.meta(ordinal)?.n_units == 0 {
            return Ok(None);
        }
        let mut row = vec![0; n_perm];
        corpus.signature(ordinal, &mut row)?;
        Ok(Some(row))
    };
    let rows: Result<Vec<Option<Vec<u32>>>> = ordinals.par_iter().map(read).collect();
    let rows: Vec<Vec<u32>> = rows?.into_iter().flatten().collect();
    let add = |mut histogram: [u64; BINS], (i, a): (usize, &Vec<u32>)| {
        for b in &rows[i + 1..] {
            let bin = n_equal(a, b) as usize * BINS / n_perm;
            histogram[bin.min(BINS - 1)] += 1;
        }
        histogram
    };
    let sum = |a: [u64; BINS], b: [u64; BINS]| std::array::from_fn(|bin| a[bin] + b[bin]);
    let counted = rows.par_iter().enumerate().fold(|| [0; BINS], add).reduce(|| [0; BINS], sum);
    Ok(counted.to_vec())
}

/// Equal slots that a pair needs to be worth an exact comparison: four standard deviations of the estimate
/// below the threshold. One pair at the threshold in 30,000 has fewer.
pub fn near_slots(n_perm: usize, threshold: f64) -> u32 {
    let deviation = (threshold * (1.0 - threshold) / n_perm as f64).sqrt();
    ((threshold - 4.0 * deviation).max(0.0) * n_perm as f64) as u32
}

/// Two ranks: the worse, then the better. Sorts by the worse.
pub type Pair = [u32; 2];

/// One band of one signature. Sorts by key, then by rank.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
struct BandRow {
    /// High and low half of the key: equal keys mean equal slots of one band.
    key: [u32; 2],
    /// Rank of the record.
    rank: u32,
}

impl BandRow {
    fn order(&self) -> u128 {
        u128::from(self.key[0]) << 64 | u128::from(self.key[1]) << 32 | u128::from(self.rank)
    }
}

impl PartialOrd for BandRow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BandRow {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

/// What banding found.
pub struct Candidates {
    /// Pairs, each pushed at least once; sorting makes them unique.
    pub pairs: Sorter<Pair>,
    /// Members (by rank, best first) of buckets over [`BUCKET_ALL_PAIRS`], without repeats.
    pub giants: Vec<Vec<u32>>,
}

/// Candidate pairs of all records for which `takes_part` holds, by rank.
///
/// # Errors
/// A failure of the disk.
pub fn candidates(
    corpus: &Corpus,
    ranks: &Ranks,
    plan: &Plan,
    takes_part: &(dyn Fn(u32) -> bool + Sync),
    n_references: u32,
    folder: &Path,
    budget_bytes: u64,
) -> Result<Candidates> {
    let mut bands: Sorter<BandRow> = Sorter::new(folder, "bands", budget_bytes / 2, false);
    for frames in corpus.frames().chunks(16 * rayon::current_num_threads()) {
        let keyed: Vec<Result<Vec<BandRow>>> = frames
            .par_iter()
            .map(|frame| {
                let (metas, rows) = (corpus.metas(frame)?, corpus.signatures(frame)?);
                let mut out = Vec::new();
                for ((ordinal, meta), row) in
                    frame.ordinals().zip(&metas).zip(rows.chunks_exact(corpus.n_perm()))
                {
                    let rank = ranks.of(ordinal);
                    if meta.n_units > 0 && takes_part(rank) {
                        out.extend(
                            band_keys(row, plan, meta.group)
                                .map(|key| BandRow { key: [(key >> 32) as u32, key as u32], rank }),
                        );
                    }
                }
                Ok(out)
            })
            .collect();
        for rows in keyed {
            rows?.into_iter().try_for_each(|row| bands.push(row))?;
        }
    }
    let mut out = Candidates {
        pairs: Sorter::new(folder, "pairs", budget_bytes / 2, true),
        giants: Vec::new(),
    };
    let mut sorted = bands.finish()?;
    let mut bucket: Vec<u32> = Vec::new();
    let mut key = None;
    while let Some(row) = sorted.next_row()? {
        if key != Some(row.key) {
            out.add_bucket(&mut bucket, n_references)?;
            key = Some(row.key);
        }
        bucket.push(row.rank);
    }
    out.add_bucket(&mut bucket, n_references)?;
    out.giants.sort();
    out.giants.dedup();
    Ok(out)
}

/// Keys of the bands of one signature; equal keys of one band mean equal slots.
fn band_keys(row: &[u32], plan: &Plan, group: u64) -> impl Iterator<Item = u64> {
    let bands = row.chunks_exact(plan.rows_per_band).take(plan.n_bands);
    bands.enumerate().map(move |(band, slots)| {
        xxh3_64_with_seed(bytemuck::cast_slice(slots), mix64(band as u64) ^ group)
    })
}

impl Candidates {
    fn add_bucket(&mut self, bucket: &mut Vec<u32>, n_references: u32) -> Result<()> {
        let members = std::mem::take(bucket);
        if members.len() > BUCKET_ALL_PAIRS {
            self.giants.push(members);
            return Ok(());
        }
        for (i, &better) in members.iter().enumerate() {
            for &worse in &members[i + 1..] {
                // Two references have nothing to tell one another.
                if worse >= n_references {
                    self.pairs.push([worse, better])?;
                }
            }
        }
        *bucket = members;
        bucket.clear();
        Ok(())
    }
}

/// What comparing a giant bucket with its leaders gave.
#[derive(Debug, Default)]
pub struct Leading {
    /// Candidate pairs.
    pub pairs: Vec<Pair>,
    /// Members that were not compared with all leaders, since there were too many.
    pub n_capped: u64,
}

/// Compares the members of a giant bucket (ranks, best first) with leaders, by signature: a member whose
/// estimate with some leader comes near the threshold is a candidate of its nearest leaders; one with no
/// such leader leads. `known` tells pairs that were compared before: such a leader does not count, so that a
/// second call, of the next `round`, finds what the first one's leaders hid.
///
/// # Errors
/// If a sketch cannot be read.
pub fn lead(
    corpus: &Corpus,
    ranks: &Ranks,
    members: &[u32],
    threshold: f64,
    n_references: u32,
    round: u32,
    known: &(dyn Fn(Pair) -> bool + Sync),
) -> Result<Leading> {
    let n_perm = corpus.n_perm();
    let near = near_slots(n_perm, threshold);
    let mut leaders: Vec<u32> = Vec::new();
    let mut rows: Vec<u32> = Vec::new();
    let mut row = vec![0; n_perm];
    let mut out = Leading::default();
    for &rank in members {
        corpus.signature(ranks.ordinal(rank), &mut row)?;
        let mut found: Vec<(u32, u32)> = Vec::new();
        if rank >= n_references {
            let compared = leaders.iter().zip(rows.chunks_exact(n_perm));
            found.extend(compared.filter_map(|(&leader, leader_row)| {
                let equal = n_equal(&row, leader_row);
                (equal >= near && !known([rank, leader])).then_some((u32::MAX - equal, leader))
            }));
        }
        out.n_capped += u64::from(leaders.len() == LEADERS && found.is_empty());
        found.sort_unstable();
        found.truncate(CANDIDATES_PER_MEMBER << (2 * round).min(24));
        out.pairs.extend(found.iter().map(|&(_, leader)| [rank, leader]));
        if found.is_empty() && leaders.len() < LEADERS {
            leaders.push(rank);
            rows.extend_from_slice(&row);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_keeps_its_recall_at_every_threshold() {
        for n_perm in [64, 128, 256] {
            for percent in [50, 60, 70, 80, 90, 95, 100] {
                let threshold = f64::from(percent) / 100.0;
                let plan = plan(n_perm, threshold, vec![0; BINS]);
                assert!(plan.n_bands * plan.rows_per_band <= n_perm);
                assert!(plan.recall(threshold) >= RECALL_AT_THRESHOLD, "{threshold}: {plan:?}");
            }
        }
    }

    #[test]
    fn a_corpus_full_of_middling_pairs_gets_a_steeper_plan() {
        let flat = plan(256, 0.8, vec![0; BINS]);
        let mut histogram = vec![0; BINS];
        histogram[12..20].fill(100_000);
        let steep = plan(256, 0.8, histogram);
        assert!(steep.recall(0.5) <= flat.recall(0.5), "{steep:?} {flat:?}");
        assert!(steep.recall(0.8) >= RECALL_AT_THRESHOLD);
    }

    #[test]
    fn a_threshold_out_of_reach_gets_the_widest_net() {
        let plan = plan(4, 0.3, vec![0; BINS]);
        assert_eq!((plan.n_bands, plan.rows_per_band), (4, 1));
    }
}
