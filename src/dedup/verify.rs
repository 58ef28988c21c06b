//! Stage 4: the exact similarity of each candidate pair.
//!
//! In: candidate pairs, and the input files once more, of which only candidates are read. Out: pairs at or
//! above the threshold with the sizes of intersection and union. The similarity is Jaccard's over sets of
//! 64-bit shingle hashes: two sets of 10^5 shingles agree in one wrong hash with a chance of 10^-9.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::core::bits::Bits;
use crate::dedup::banding::Pair;
use crate::dedup::semantic::ONE;
use crate::dedup::spill::{Merge, RowReader, RowWriter};
use crate::dedup::walk::Sink;
use crate::error::{IoContext, Result};

/// A pair of ranks and what their shingle sets share, or their cosine. Sorts by the worse.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Edge {
    /// The rank that comes later in the keep order.
    pub worse: u32,
    /// The other.
    pub better: u32,
    /// Shingles that both have.
    pub shared: u32,
    /// Shingles that either has; [`ONE`] makes it a pair of vectors, and `shared` their cosine.
    pub union: u32,
}

impl Edge {
    /// Whether this is a pair of vectors.
    pub fn is_semantic(&self) -> bool {
        self.union == ONE
    }

    /// Whether this pair is more similar than `other`, or as similar with a better rank. Shared words are the better
    /// reason: a lexical pair comes before any semantic one.
    pub fn is_nearer(&self, other: &Self) -> bool {
        if self.is_semantic() != other.is_semantic() {
            return other.is_semantic();
        }
        let (a, b) = (
            u64::from(self.shared) * u64::from(other.union),
            u64::from(other.shared) * u64::from(self.union),
        );
        a > b || (a == b && self.better < other.better)
    }

    /// Jaccard similarity, or the cosine.
    pub fn similarity(&self) -> f64 {
        f64::from(self.shared) / f64::from(self.union)
    }
}

/// Sizes of intersection and union of two sorted sets.
pub fn overlap(a: &[u64], b: &[u64]) -> (u32, u32) {
    let (mut i, mut j, mut shared) = (0, 0, 0usize);
    // No branch depends on the data: hashes are random, so one would be mispredicted half the time.
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        shared += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    (shared as u32, (a.len() + b.len() - shared) as u32)
}

/// Where the shingle set of a record lies in the file of sets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct SetEntry {
    /// Rank of the record.
    pub rank: u32,
    /// Shingles.
    pub len: u32,
    /// Index of the first in the file.
    pub at: u64,
}

/// Shingle sets of candidates on disk.
pub struct Sets {
    path: PathBuf,
    file: File,
    /// By rank.
    entries: HashMap<u32, (u64, u32)>,
}

/// The file being written, shared by the sinks of all lanes.
pub struct SetsWriter {
    inner: Mutex<(RowWriter<u64>, Vec<SetEntry>, u64)>,
    path: PathBuf,
}

/// Name of the index beside a file of sets.
fn index_path(path: &Path) -> PathBuf {
    path.with_extension("index")
}

impl SetsWriter {
    /// Starts the file that will be `path`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            inner: Mutex::new((RowWriter::create(path)?, Vec::new(), 0)),
            path: path.to_owned(),
        })
    }

    /// Ends the file.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn finish(self) -> Result<()> {
        let (writer, mut entries, _) =
            self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        entries.sort_unstable();
        let mut index = RowWriter::create(&index_path(&self.path))?;
        index.write(&entries)?;
        index.finish()?;
        writer.finish().map(drop)
    }
}

/// Sets of one block, by rank.
pub type BlockSets = Vec<(u32, Vec<u64>)>;

impl Sink<BlockSets> for &SetsWriter {
    fn take(&mut self, _: usize, sets: BlockSets) -> Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (writer, entries, at) = &mut *inner;
        for (rank, set) in sets {
            writer.write(&set)?;
            entries.push(SetEntry { rank, len: set.len() as u32, at: *at });
            *at += set.len() as u64;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Sets {
    /// Opens a finished file.
    ///
    /// # Errors
    /// If it or its index cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let entries = RowReader::<SetEntry>::open(&index_path(path))?.read_all()?;
        let entries = entries.into_iter().map(|e| (e.rank, (e.at, e.len))).collect();
        let file = File::open(path).at("open", path)?;
        Ok(Self { path: path.to_owned(), file, entries })
    }

    /// Bytes of the set of a rank.
    fn n_bytes(&self, rank: u32) -> u64 {
        self.entries.get(&rank).map_or(0, |&(_, len)| u64::from(len) * 8)
    }

    fn read(&self, rank: u32) -> Result<Vec<u64>> {
        let (at, len) = self.entries.get(&rank).copied().unwrap_or_default();
        let mut set = vec![0u64; len as usize];
        let bytes = bytemuck::cast_slice_mut(&mut set);
        self.file.read_exact_at(bytes, at * 8).at("read", &self.path)?;
        Ok(set)
    }

    /// Sets of some ranks, in one buffer: neighbours in the file are read at once.
    fn load(&self, ranks: &[u32]) -> Result<Loaded> {
        let entry = |&rank: &u32| self.entries.get(&rank).map(|&(at, len)| (at, len, rank));
        let mut wanted: Vec<(u64, u32, u32)> = ranks.iter().filter_map(entry).collect();
        wanted.sort_unstable();
        let mut places = HashMap::with_capacity(wanted.len());
        let mut end = 0;
        for &(_, len, rank) in &wanted {
            places.insert(rank, end..end + len as usize);
            end += len as usize;
        }
        let mut hashes = vec![0u64; end];
        let mut rest = hashes.as_mut_slice();
        let mut reads = Vec::new();
        let is_next = |a: &(u64, u32, u32), b: &(u64, u32, u32)| a.0 + u64::from(a.1) == b.0;
        for run in wanted.chunk_by(is_next).flat_map(|run| run.chunks(READ_AT_ONCE)) {
            let len: usize = run.iter().map(|&(_, len, _)| len as usize).sum();
            let (buffer, after) = rest.split_at_mut(len);
            reads.push((run[0].0, buffer));
            rest = after;
        }
        reads.into_par_iter().try_for_each(|(at, buffer)| {
            let bytes = bytemuck::cast_slice_mut(buffer);
            self.file.read_exact_at(bytes, at * 8).at("read", &self.path)
        })?;
        Ok(Loaded { places, hashes })
    }
}

/// Shingle sets in memory.
struct Loaded {
    /// Where the set of a rank is in `hashes`.
    places: HashMap<u32, Range<usize>>,
    hashes: Vec<u64>,
}

/// Sets that one read fetches, where they stand together.
const READ_AT_ONCE: usize = 64;

/// Counts of verified pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Candidate pairs.
    pub candidates: u64,
    /// Those at or above the threshold.
    pub verified: u64,
    /// Candidate pairs by similarity: 50 bins over [0, 1].
    pub histogram: Vec<u64>,
}

/// Bins of [`Tally::histogram`].
pub const BINS: usize = 50;

impl Tally {
    /// Counts one pair.
    pub fn add(&mut self, similarity: f64, is_edge: bool) {
        self.histogram.resize(BINS, 0);
        self.candidates += 1;
        self.verified += u64::from(is_edge);
        // The bound of a bin belongs to it; the small term undoes the error of the division.
        let bin = (similarity * BINS as f64 + 1e-9) as usize;
        self.histogram[bin.min(BINS - 1)] += 1;
    }

    /// Adds the counts of another stage.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.resize(BINS, 0);
        self.candidates += other.candidates;
        self.verified += other.verified;
        self.histogram.iter_mut().zip(&other.histogram).for_each(|(a, b)| *a += b);
    }
}

/// Pairs compared at once.
const CHUNK: usize = 16 << 10;

/// Compares all pairs of the file `pairs` (sorted by the worse) and writes those of at least `threshold` to
/// `edges`, in the same order. Sets of better ranks are held in blocks of at most `budget_bytes`.
///
/// # Errors
/// A failure of the disk.
pub fn verify(
    pairs: &Path,
    sets: &Sets,
    threshold: f64,
    budget_bytes: u64,
    edges: &Path,
) -> Result<Tally> {
    let blocks = blocks(pairs, sets, budget_bytes)?;
    let mut tally = Tally::default();
    let mut runs = Vec::new();
    for (number, (ranks, whole)) in blocks.iter().enumerate() {
        let loaded = sets.load(ranks)?;
        let run = edges.with_extension(format!("block-{number}"));
        let mut writer = RowWriter::create(&run)?;
        let mut reader: RowReader<Pair> = RowReader::open(pairs)?;
        let range = ranks.first().copied()..=ranks.last().copied();
        let mut chunk: Vec<Pair> = Vec::with_capacity(CHUNK);
        loop {
            let next = reader.next_row()?;
            if let Some(pair) = next.filter(|pair| *whole || range.contains(&Some(pair[1]))) {
                chunk.push(pair);
            }
            if chunk.len() == CHUNK || (next.is_none() && !chunk.is_empty()) {
                compare(&chunk, sets, &loaded, threshold, &mut tally, &mut writer)?;
                chunk.clear();
            }
            if next.is_none() {
                break;
            }
        }
        writer.finish()?;
        runs.push(run);
    }
    merge_runs(runs, edges)?;
    Ok(tally)
}

/// Better ranks in blocks whose sets fit the budget; one block of all ranks that occur if everything fits.
fn blocks(pairs: &Path, sets: &Sets, budget_bytes: u64) -> Result<Vec<(Vec<u32>, bool)>> {
    let total: u64 = sets.entries.values().map(|&(_, len)| u64::from(len) * 8 + 64).sum();
    if total <= budget_bytes {
        let mut all: Vec<u32> = sets.entries.keys().copied().collect();
        all.sort_unstable();
        return Ok(vec![(all, true)]);
    }
    let mut reader: RowReader<Pair> = RowReader::open(pairs)?;
    let bound = sets.entries.keys().max().map_or(0, |&rank| rank + 1);
    let mut better = Bits::new(bound);
    while let Some([_, rank]) = reader.next_row()? {
        better.insert(rank);
    }
    let (mut out, mut block, mut held) = (Vec::new(), Vec::new(), 0);
    for rank in (0..bound).filter(|&rank| better.contains(rank)) {
        let bytes = sets.n_bytes(rank) + 64;
        if held + bytes > budget_bytes && !block.is_empty() {
            out.push((std::mem::take(&mut block), false));
            held = 0;
        }
        held += bytes;
        block.push(rank);
    }
    out.push((block, false));
    Ok(out)
}

fn compare(
    chunk: &[Pair],
    sets: &Sets,
    loaded: &Loaded,
    threshold: f64,
    tally: &mut Tally,
    writer: &mut RowWriter<Edge>,
) -> Result<()> {
    // Pairs of one worse rank stand together: its set is read once.
    let runs: Vec<&[Pair]> = chunk.chunk_by(|a, b| a[0] == b[0]).collect();
    let compared: Vec<Result<Vec<Edge>>> = runs
        .par_iter()
        .map(|run| {
            let worse_rank = run[0][0];
            let worse = fetch(sets, loaded, worse_rank)?;
            let edge = |&[worse_rank, better_rank]: &Pair| {
                let better = fetch(sets, loaded, better_rank)?;
                let (shared, union) = overlap(&worse, &better);
                Ok(Edge { worse: worse_rank, better: better_rank, shared, union })
            };
            run.iter().map(edge).collect()
        })
        .collect();
    for edges in compared {
        for edge in edges? {
            let is_edge = edge.similarity() >= threshold;
            tally.add(edge.similarity(), is_edge);
            if is_edge {
                writer.write(&[edge])?;
            }
        }
    }
    Ok(())
}

fn fetch<'s>(sets: &Sets, loaded: &'s Loaded, rank: u32) -> Result<Cow<'s, [u64]>> {
    match loaded.places.get(&rank) {
        Some(place) => Ok(Cow::Borrowed(&loaded.hashes[place.clone()])),
        None => sets.read(rank).map(Cow::Owned),
    }
}

/// Merges sorted files of edges into one; the inputs go.
///
/// # Errors
/// A failure of the disk.
pub fn merge_runs(mut runs: Vec<PathBuf>, out: &Path) -> Result<()> {
    if runs.len() == 1
        && let Some(run) = runs.pop()
    {
        return std::fs::rename(&run, out).at("rename to", out);
    }
    let mut writer = RowWriter::<Edge>::create(out)?;
    let mut rows = Merge::open(runs, true)?;
    while let Some(edge) = rows.next_row()? {
        writer.write(&[edge])?;
    }
    writer.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;
    use std::collections::BTreeSet;

    #[test]
    fn overlap_equals_set_algebra() {
        for round in 0..200 {
            let set = |salt: u64| -> BTreeSet<u64> {
                (0..stream(round, salt) % 50).map(|i| stream(salt, i) % 40).collect()
            };
            let (a, b) = (set(1), set(2));
            let sorted = |s: &BTreeSet<u64>| s.iter().copied().collect::<Vec<_>>();
            let expected = (a.intersection(&b).count() as u32, a.union(&b).count() as u32);
            assert_eq!(overlap(&sorted(&a), &sorted(&b)), expected);
        }
    }

    #[test]
    fn edges_do_not_depend_on_the_budget() {
        let dir = tempfile::tempdir().unwrap();
        let sets_path = dir.path().join("sets");
        let writer = SetsWriter::create(&sets_path).unwrap();
        let sets: BlockSets = (0..60u32)
            .map(|rank| {
                let family = u64::from(rank % 6);
                let mut set: Vec<u64> = (0..100).map(|i| stream(family, i)).collect();
                set.truncate(60 + rank as usize % 40);
                set.sort_unstable();
                (rank, set)
            })
            .collect();
        (&writer).take(0, sets).unwrap();
        writer.finish().unwrap();
        let sets = Sets::open(&sets_path).unwrap();
        let pairs = dir.path().join("pairs");
        let mut writer = RowWriter::<Pair>::create(&pairs).unwrap();
        for worse in 0..60 {
            for better in 0..worse {
                writer.write(&[[worse, better]]).unwrap();
            }
        }
        writer.finish().unwrap();
        let run = |budget| {
            let edges = dir.path().join("edges");
            let tally = verify(&pairs, &sets, 0.7, budget, &edges).unwrap();
            (tally, RowReader::<Edge>::open(&edges).unwrap().read_all().unwrap())
        };
        let (tally, edges) = run(1 << 30);
        assert_eq!(tally.candidates, 60 * 59 / 2);
        assert!(edges.len() > 100 && edges.is_sorted() && edges.len() as u64 == tally.verified);
        for budget in [0, 2000, 20_000] {
            assert_eq!(run(budget), (tally.clone(), edges.clone()), "budget {budget}");
        }
    }
}
