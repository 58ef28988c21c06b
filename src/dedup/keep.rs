//! Stage 6: who is kept.
//!
//! In: verified pairs and equal texts, by rank in the keep order. Out: for every record, kept or dropped, and
//! for which kept record. Greedy cover: records are taken in keep order, and one is dropped only if a kept
//! one is near enough; so every dropped record has a kept twin, and no two kept ones are known twins.

use std::path::Path;

use bytemuck::{Pod, Zeroable};

use crate::core::bits::Bits;
use crate::dedup::clusters::{Clusters, UnionFind};
use crate::dedup::corpus::Corpus;
use crate::dedup::options::{Keep, Policy};
use crate::dedup::semantic;
use crate::dedup::spill::{RowReader, Sorter};
use crate::dedup::verify::Edge;
use crate::error::Result;

/// No record.
pub const NONE: u32 = u32::MAX;

/// The keep order: rank 0 is kept first. References come before everything.
#[derive(Debug)]
pub struct Ranks {
    /// Rank by ordinal, and ordinal by rank; absent while both are the same.
    order: Option<(Vec<u32>, Vec<u32>)>,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
struct KeepRow {
    key: u64,
    is_input: u32,
    ordinal: u32,
}

impl Ranks {
    /// Ranks of all records under the policy.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn new(
        corpus: &Corpus,
        keep: &Keep,
        n_references: u32,
        folder: &Path,
        budget_bytes: u64,
    ) -> Result<Self> {
        if matches!(keep, Keep::First | Keep::None) {
            return Ok(Self { order: None });
        }
        let mut rows: Sorter<KeepRow> = Sorter::new(folder, "ranks", budget_bytes, false);
        for frame in corpus.frames() {
            for (ordinal, meta) in frame.ordinals().zip(corpus.metas(frame)?) {
                if ordinal >= n_references {
                    rows.push(KeepRow { key: meta.keep_key, is_input: 1, ordinal })?;
                }
            }
        }
        let mut rank_of: Vec<u32> = (0..corpus.n_records()).collect();
        let mut ordinal_of: Vec<u32> = (0..n_references).collect();
        let mut sorted = rows.finish()?;
        while let Some(row) = sorted.next_row()? {
            rank_of[row.ordinal as usize] = ordinal_of.len() as u32;
            ordinal_of.push(row.ordinal);
        }
        Ok(Self { order: Some((rank_of, ordinal_of)) })
    }

    /// Rank of a record.
    pub fn of(&self, ordinal: u32) -> u32 {
        self.order.as_ref().map_or(ordinal, |(rank_of, _)| rank_of[ordinal as usize])
    }

    /// The record of a rank.
    pub fn ordinal(&self, rank: u32) -> u32 {
        self.order.as_ref().map_or(rank, |(_, ordinal_of)| ordinal_of[rank as usize])
    }
}

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Because {
    /// It was not.
    Kept = 0,
    /// Its normalised text equals its twin's.
    Exact = 1,
    /// Its shingle set is near its twin's.
    MinHash = 2,
    /// It shares words in a row with a reference.
    Contains = 3,
    /// Its vector is near its twin's.
    Semantic = 4,
}

/// The fate of one record: of all that are in a cluster or dropped, by ordinal.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Verdict {
    /// The record.
    pub ordinal: u32,
    /// Ordinal of the kept record that it repeats, or [`NONE`].
    pub twin: u32,
    /// Shingles that both have; with `union`, their exact similarity.
    pub shared: u32,
    /// Shingles that either has.
    pub union: u32,
    /// Number of its cluster.
    pub cluster: u32,
    /// A [`Because`].
    pub because: u32,
}

impl Verdict {
    /// Whether the record is kept.
    pub fn is_kept(&self) -> bool {
        self.because == Because::Kept as u32
    }

    /// Exact similarity with the twin: Jaccard's, or the cosine.
    pub fn similarity(&self) -> f64 {
        f64::from(self.shared) / f64::from(self.union)
    }
}

/// What a verdict is made from.
pub struct Evidence<'a> {
    /// By rank, the best rank of equal text (a record alone is its own).
    pub representatives: &'a [u32],
    /// Verified pairs of representatives, sorted by the worse.
    pub edges: &'a Path,
    /// Ranks below this are references.
    pub n_references: u32,
    /// Records that take no part since they are dropped for another reason, by rank.
    pub excluded: &'a Bits,
}

/// Fate by rank.
pub struct Fates {
    /// Rank of the kept twin of a dropped record; its own rank if kept; [`NONE`] if dropped for no
    /// single one.
    pub twin: Vec<u32>,
    /// Shared and united shingles with the twin, of dropped representatives; absent where the pair was
    /// not compared.
    pub similarity: std::collections::HashMap<u32, (u32, u32)>,
    /// Clusters.
    pub clusters: UnionFind,
}

impl Fates {
    /// Whether the record of a rank is kept.
    pub fn is_kept(&self, rank: u32) -> bool {
        self.twin[rank as usize] == rank
    }
}

/// Decides for every record.
///
/// # Errors
/// If the pairs cannot be read.
pub fn decide(evidence: &Evidence<'_>, keep: &Keep, policy: Policy, copies: u32) -> Result<Fates> {
    let n = evidence.representatives.len() as u32;
    let mut clusters = UnionFind::new(n);
    for (rank, &representative) in evidence.representatives.iter().enumerate() {
        clusters.union(rank as u32, representative);
    }
    let mut edges: RowReader<Edge> = RowReader::open(evidence.edges)?;
    while let Some(edge) = edges.next_row()? {
        clusters.union(edge.worse, edge.better);
    }
    match (keep, policy) {
        (Keep::None, _) => keep_none(evidence, clusters),
        (_, Policy::Cover) => cover(evidence, clusters, copies),
        (_, Policy::Components) => components(evidence, clusters),
    }
}

fn cover(evidence: &Evidence<'_>, clusters: UnionFind, copies: u32) -> Result<Fates> {
    let representatives = evidence.representatives;
    let n = representatives.len() as u32;
    let mut fates = Fates { twin: (0..n).collect(), similarity: Default::default(), clusters };
    // Members of each group of equal texts; later, how many of them may still be kept.
    let mut places = vec![0u32; n as usize];
    for rank in (0..n).filter(|&rank| !evidence.excluded.contains(rank)) {
        places[representatives[rank as usize] as usize] += 1;
    }
    // How many of each group are kept, once its representative was decided.
    let mut n_kept = vec![0u32; n as usize];
    let mut edges: RowReader<Edge> = RowReader::open(evidence.edges)?;
    let mut next = edges.next_row()?;
    for rank in 0..n {
        let group = representatives[rank as usize];
        if rank == group {
            let mut near = 0u32;
            let mut best: Option<Edge> = None;
            let mut last = NONE;
            while let Some(edge) = next.filter(|edge| edge.worse == rank) {
                // A pair that is near by words and by meaning stands here twice, and counts once.
                if edge.better != last {
                    near = near.saturating_add(n_kept[edge.better as usize]);
                    last = edge.better;
                }
                if n_kept[edge.better as usize] > 0 && best.is_none_or(|b| edge.is_nearer(&b)) {
                    best = Some(edge);
                }
                next = edges.next_row()?;
            }
            let may_keep = copies.saturating_sub(near).min(places[rank as usize]);
            n_kept[rank as usize] = may_keep;
            places[rank as usize] = may_keep;
            if may_keep == 0
                && let Some(edge) = best
            {
                fates.twin[rank as usize] = edge.better;
                fates.similarity.insert(rank, (edge.shared, edge.union));
            }
        }
        if rank < evidence.n_references || evidence.excluded.contains(rank) {
            // References stay whatever they repeat, and count as one kept copy at least.
            n_kept[group as usize] = n_kept[group as usize].max(1);
            places[group as usize] = places[group as usize].saturating_sub(1);
            fates.twin[rank as usize] = rank;
        } else if places[group as usize] > 0 {
            places[group as usize] -= 1;
        } else if rank != group {
            // The group's first member is kept, or dropped for a twin of the whole group.
            fates.twin[rank as usize] = fates.twin[group as usize];
        }
    }
    Ok(fates)
}

fn components(evidence: &Evidence<'_>, mut clusters: UnionFind) -> Result<Fates> {
    let n = evidence.representatives.len() as u32;
    let mut twin: Vec<u32> = (0..n).collect();
    for rank in evidence.n_references..n {
        if !evidence.excluded.contains(rank) {
            twin[rank as usize] = clusters.find(rank);
        }
    }
    let mut similarity = std::collections::HashMap::new();
    let mut edges: RowReader<Edge> = RowReader::open(evidence.edges)?;
    while let Some(edge) = edges.next_row()? {
        if twin[edge.worse as usize] == edge.better {
            similarity.insert(edge.worse, (edge.shared, edge.union));
        }
    }
    Ok(Fates { twin, similarity, clusters })
}

/// Nobody who has a duplicate stays; only a reference can be a kept twin.
fn keep_none(evidence: &Evidence<'_>, clusters: UnionFind) -> Result<Fates> {
    let representatives = evidence.representatives;
    let n = representatives.len() as u32;
    let mut repeated = Bits::new(n);
    for rank in 0..n {
        let group = representatives[rank as usize];
        if rank != group {
            repeated.insert(rank);
            repeated.insert(group);
        }
    }
    let mut best: std::collections::HashMap<u32, Edge> = Default::default();
    let mut edges: RowReader<Edge> = RowReader::open(evidence.edges)?;
    while let Some(edge) = edges.next_row()? {
        for rank in [edge.worse, edge.better] {
            repeated.insert(rank);
            let nearest = best.entry(rank).or_insert(edge);
            let better = nearest.better >= evidence.n_references;
            if edge.is_nearer(nearest) || (better && edge.better < evidence.n_references) {
                *nearest = edge;
            }
        }
    }
    let mut twin: Vec<u32> = (0..n).collect();
    for rank in evidence.n_references..n {
        let group = representatives[rank as usize];
        if !repeated.contains(group) || evidence.excluded.contains(rank) {
            continue;
        }
        let near = best.get(&group).map(|edge| edge.better);
        let reference =
            [Some(group), near].into_iter().flatten().find(|&r| r < evidence.n_references);
        twin[rank as usize] = reference.unwrap_or(NONE);
    }
    let similarity =
        best.into_iter().map(|(rank, edge)| (rank, (edge.shared, edge.union))).collect();
    Ok(Fates { twin, similarity, clusters })
}

/// Verdicts of all records that are in a cluster or dropped, sorted by ordinal, and the clusters.
///
/// # Errors
/// A failure of the disk.
pub fn verdicts(
    mut fates: Fates,
    evidence: &Evidence<'_>,
    ranks: &Ranks,
    contains: &[(u32, u32, f32)],
    folder: &Path,
    budget_bytes: u64,
) -> Result<(Sorter<Verdict>, Clusters)> {
    for &(rank, reference, _) in contains {
        fates.clusters.union(rank, reference);
    }
    let clusters = Clusters::number(fates.clusters);
    let mut rows = Sorter::new(folder, "verdicts", budget_bytes, false);
    let mut contained = contains.iter().peekable();
    for (rank, (&twin, &group)) in fates.twin.iter().zip(evidence.representatives).enumerate() {
        let rank = rank as u32;
        let Some(cluster) = clusters.of(rank) else { continue };
        let ordinal = ranks.ordinal(rank);
        if let Some(&&(_, reference, share)) = contained.peek().filter(|c| c.0 == rank) {
            contained.next();
            // The share is kept as a fraction of a million.
            let shared = (f64::from(share) * 1e6).round() as u32;
            let (twin, because) = (ranks.ordinal(reference), Because::Contains as u32);
            rows.push(Verdict { ordinal, twin, shared, union: 1_000_000, cluster, because })?;
            continue;
        }
        let equal = twin != NONE && evidence.representatives[twin as usize] == group;
        let near = fates.similarity.get(&group);
        let (because, (shared, union)) = match (twin == rank, equal || near.is_none(), near) {
            (true, ..) => (Because::Kept, (1, 1)),
            (_, false, Some(&near)) if near.1 == semantic::ONE => (Because::Semantic, near),
            (_, false, Some(&near)) => (Because::MinHash, near),
            _ => (Because::Exact, (1, 1)),
        };
        let twin = match twin {
            NONE => NONE,
            twin if twin == rank => NONE,
            twin => ranks.ordinal(twin),
        };
        rows.push(Verdict { ordinal, twin, shared, union, cluster, because: because as u32 })?;
    }
    Ok((rows, clusters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::spill::RowWriter;

    fn fates(
        representatives: &[u32],
        pairs: &[(u32, u32, u32)],
        n_references: u32,
        keep: &Keep,
        policy: Policy,
        copies: u32,
    ) -> Vec<u32> {
        let dir = tempfile::tempdir().unwrap();
        let edges = dir.path().join("edges");
        let mut writer = RowWriter::create(&edges).unwrap();
        for &(worse, better, shared) in pairs {
            writer.write(&[Edge { worse, better, shared, union: 100 }]).unwrap();
        }
        writer.finish().unwrap();
        let excluded = Bits::new(representatives.len() as u32);
        let evidence =
            Evidence { representatives, edges: &edges, n_references, excluded: &excluded };
        decide(&evidence, keep, policy, copies).unwrap().twin
    }

    // A chain 0 - 1 - 2 - 3: components keep one, the cover keeps 0 and 2.
    const CHAIN: [(u32, u32, u32); 3] = [(1, 0, 90), (2, 1, 90), (3, 2, 90)];

    #[test]
    fn the_cover_does_not_chain_and_components_do() {
        let alone = [0, 1, 2, 3];
        assert_eq!(fates(&alone, &CHAIN, 0, &Keep::First, Policy::Cover, 1), [0, 0, 2, 2]);
        assert_eq!(fates(&alone, &CHAIN, 0, &Keep::First, Policy::Components, 1), [0, 0, 0, 0]);
    }

    #[test]
    fn the_nearest_kept_record_is_the_twin() {
        let pairs = [(3, 0, 85), (3, 1, 95), (3, 2, 95)];
        assert_eq!(fates(&[0, 1, 2, 3], &pairs, 0, &Keep::First, Policy::Cover, 1), [0, 1, 2, 1]);
    }

    #[test]
    fn copies_are_counted_over_equal_and_near_texts() {
        // 0, 1, 2 are equal; 3 is near them, and 4 equals 3.
        let equal = [0, 0, 0, 3, 3];
        let near = [(3, 0, 90)];
        let kept = |copies| {
            let twins = fates(&equal, &near, 0, &Keep::First, Policy::Cover, copies);
            (0..5).filter(|&rank| twins[rank as usize] == rank).collect::<Vec<u32>>()
        };
        assert_eq!(kept(1), [0]);
        assert_eq!(kept(2), [0, 1]);
        assert_eq!(kept(4), [0, 1, 2, 3]);
        assert_eq!(kept(9), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn references_stay_and_everything_like_them_goes() {
        // 0 and 1 are references that repeat one another; 2 equals 0; 3 is near 1.
        let twins = fates(&[0, 0, 0, 3], &[(3, 0, 90)], 2, &Keep::First, Policy::Cover, 1);
        assert_eq!(twins, [0, 1, 0, 0]);
    }

    #[test]
    fn keep_none_drops_all_that_have_a_duplicate() {
        let twins = fates(&[0, 1, 1, 3, 4], &[(3, 0, 90)], 0, &Keep::None, Policy::Cover, 1);
        assert_eq!(twins, [NONE, NONE, NONE, NONE, 4]);
    }
}
