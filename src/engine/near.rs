//! What near answers come from: codes of four bits and their signs, the graph and the tree; and how wide a beam has to be.

use std::collections::BTreeSet;

use rayon::ThreadPool;
use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::neighbors::{Neighbor, TopK};
use crate::core::rows::Rows;
use crate::core::slab::Slab;
use crate::distance::simd::coded::Bits;
use crate::engine::base::{Base, SEED};
use crate::engine::passing::Passing;
use crate::error::Result;
use crate::index::graph::codes::Codes;
use crate::index::graph::codes::signs::Signs;
use crate::index::graph::distances::Distances;
use crate::index::graph::raw::RawRows;
use crate::index::graph::{BuildParams, Ended, Graph, MAX_EF, Scratch, SearchParams};
use crate::index::tree::together::Tiles;
use crate::index::tree::{self, Tree};

/// Rows that stand in for queries while widths are chosen: recall of 0.99 is then known to 0.002.
const N_SAMPLED: usize = 512;

/// Rows for each of those, at least.
const LEAST_PER_SAMPLED: usize = 32;

/// Neighbors that they look for.
const SAMPLED_K: usize = 10;

/// Widths that are tried.
const EFS: [usize; 14] = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 896];

/// Searches of the tree are tried in a run of one in so many rows: they are for sets that walks cannot cross.
const ONE_IN: u64 = 8;

/// Links that a walk under a filter looks at, per width, before an exact way takes over.
const LINKS_PER_EF: u64 = 4096;

/// Codes that are compared at once.
const BLOCK: usize = 512;

/// The clustering tree, and where each place lies in it.
#[derive(Clone)]
pub(super) struct Placed {
    pub tree: Tree,
    /// `[n_base]`: path codes.
    pub paths: Slab<u64>,
}

/// What walks and searches need, which the next ones reuse.
#[derive(Default)]
pub(super) struct Scratches {
    walk: Scratch,
    pub(super) tree: tree::Scratch,
    pub(super) tiles: Tiles,
    query: Vec<f32>,
}

/// Codes, graph, tree, and recall by width.
pub(super) struct Near {
    /// None for L1, which has none.
    pub codes: Option<Codes>,
    /// Those of the codes.
    pub signs: Option<Signs>,
    pub graph: Graph,
    pub placed: Placed,
    /// Recall of [`SAMPLED_K`] neighbors at each of [`EFS`], of rows that were not in the graph yet.
    pub recalls: Vec<f32>,
    /// The same of searches of the tree, in a run of one in so many rows as [`ONE_IN`] says. Empty without codes.
    pub tree_recalls: Vec<f32>,
}

/// What a near way found.
pub(super) struct NearFound {
    pub neighbors: Vec<Neighbor>,
    /// Rows whose signs were compared first.
    pub n_signs: u64,
    /// Distances computed, raw ones included.
    pub n_distances: u64,
    /// Whether the walk met all that it looked for.
    pub is_whole: bool,
}

impl Near {
    /// Builds all from the rows of a base. Cost: dominated by the graph, about `ef_construction` times 40 distances per
    /// row.
    ///
    /// # Errors
    /// Those of the parts.
    pub fn build(
        pool: &ThreadPool,
        rows: &Rows,
        has: Option<&RoaringBitmap>,
        (metric, raw): (Metric, &RawRows<'_>),
        placed: Placed,
    ) -> Result<Self> {
        let params = BuildParams { seed: SEED, ..BuildParams::default() };
        let slots: Vec<u32> = match has {
            None => (0..rows.n_rows() as u32).collect(),
            Some(has) => has.iter().collect(),
        };
        let (sample, rest) = split(&slots);
        let codes = match metric {
            Metric::L1 => None,
            _ => Some(Codes::of(pool, metric, Bits::Four, rows, SEED)?),
        };
        let signs = codes.as_ref().map(|codes| Signs::of(pool, codes));
        let (recalls, tree_recalls) = (Vec::new(), Vec::new());
        let of = |graph| Self { codes, signs, graph, placed, recalls, tree_recalls };
        if metric == Metric::L1 {
            let near = of(Graph::build(params, pool, raw, &rest)?);
            return near.measured(pool, (rows, raw), raw, (&sample, &rest));
        }
        // Building by distances between codes needs eight bits; searching is re-ranked, and four are enough.
        let eight = Codes::of(pool, metric, Bits::Eight, rows, SEED)?;
        let near = of(Graph::build(params, pool, &eight, &rest)?);
        near.measured(pool, (rows, raw), &eight, (&sample, &rest))
    }

    /// The same with recall by width, of rows that were left out as if they were queries, and are inserted now.
    fn measured<D: Distances>(
        mut self,
        pool: &ThreadPool,
        (rows, raw): (&Rows, &RawRows<'_>),
        distances: &D,
        (sample, rest): (&[u32], &[u32]),
    ) -> Result<Self> {
        self.recalls = self.measure(pool, raw, (sample, rest), |slot, ef, scratch| {
            self.walk(raw, (rows, slot), (Allow::All, 1.0), (SAMPLED_K, ef), scratch)
        })?;
        if let Some(codes) = &self.codes {
            let run: Vec<u32> = rest
                .iter()
                .copied()
                .filter(|&slot| stream(SEED, slot.into()).is_multiple_of(ONE_IN))
                .collect();
            let set = Passing::new(run.iter().copied().collect());
            let n_base = rows.n_rows() as u32;
            self.tree_recalls = self.measure(pool, raw, (sample, &run), |slot, ef, scratch| {
                self.listed(codes, raw, (rows, slot), (&set, n_base), (SAMPLED_K, ef), scratch)
            })?;
        }
        self.graph.insert(pool, distances, sample)?;
        self.graph.repair(distances)?;
        Ok(self)
    }

    /// The same with other codes, another graph and other paths, of mostly the same rows: recall is taken to be what it was.
    /// Cost: the signs of all codes anew.
    pub fn with(
        &self,
        pool: &ThreadPool,
        codes: Option<Codes>,
        graph: Graph,
        placed: Placed,
    ) -> Self {
        let signs = codes.as_ref().map(|codes| Signs::of(pool, codes));
        let (recalls, tree_recalls) = (self.recalls.clone(), self.tree_recalls.clone());
        Self { codes, signs, graph, placed, recalls, tree_recalls }
    }

    /// Fails if the parts, which were built before, are not of so many rows.
    ///
    /// # Errors
    /// What does not fit, as text.
    pub fn check(&self, n_base: u32) -> std::result::Result<(), String> {
        let n_base = n_base as usize;
        let n_codes = self.codes.as_ref().map_or(n_base, Distances::n_slots);
        let n_tree = if self.codes.is_some() { EFS.len() } else { 0 };
        let fits = self.recalls.len() == EFS.len()
            && self.tree_recalls.len() == n_tree
            && n_codes == n_base
            && self.graph.n_slots() <= n_base
            && self.placed.paths.len() == n_base;
        if fits {
            return Ok(());
        }
        Err(format!(
            "{} and {} widths, {n_codes} codes, {} paths and a graph of {} slots for {n_base} rows",
            self.recalls.len(),
            self.tree_recalls.len(),
            self.placed.paths.len(),
            self.graph.n_slots()
        ))
    }

    /// Bytes of the tree and of its path codes.
    pub fn tree_bytes(&self) -> u64 {
        let Placed { tree, paths } = &self.placed;
        tree.n_bytes() + (paths.len() * size_of::<u64>()) as u64
    }

    /// The widths at which sampled rows found their neighbors with this recall, for `k` neighbors: of walks and of searches of
    /// the tree; none if no width was enough.
    pub fn efs_for(&self, recall: f32, k: usize) -> (Option<usize>, Option<usize>) {
        let of = |recalls: &[f32]| {
            let found = recalls.iter().position(|&own| own >= recall)?;
            // More neighbors than were sampled need as much more room behind the last.
            Some((EFS[found] + k.saturating_sub(SAMPLED_K)).clamp(k, MAX_EF))
        };
        (of(&self.recalls), of(&self.tree_recalls))
    }

    /// Recall at each width, of sampled rows among the rest, which is what `search` searches.
    fn measure(
        &self,
        pool: &ThreadPool,
        raw: &RawRows<'_>,
        (sample, rest): (&[u32], &[u32]),
        search: impl Fn(usize, usize, &mut Scratches) -> Result<NearFound> + Sync,
    ) -> Result<Vec<f32>> {
        let exact: Vec<Vec<Neighbor>> = pool.install(|| {
            sample.par_iter().map(|&slot| nearest(raw, slot, rest, SAMPLED_K)).collect()
        });
        let n_wanted: usize = exact.iter().map(Vec::len).sum();
        let recall = |&ef: &usize| {
            let found: Result<Vec<usize>> = pool.install(|| {
                let all = sample.par_iter().zip(&exact);
                all.map_init(Scratches::default, |scratch, (&slot, exact)| {
                    let found = search(slot as usize, ef, scratch)?;
                    let last = exact.last().map_or(0.0, |last| last.distance);
                    Ok(found.neighbors.iter().filter(|near| near.distance <= last).count())
                })
                .collect()
            });
            let n_found: usize = found?.iter().sum();
            // Without a sample there are so few rows that any walk meets all.
            Ok(if n_wanted == 0 { 1.0 } else { n_found as f32 / n_wanted as f32 })
        };
        EFS.iter().map(recall).collect()
    }

    /// The `k` nearest allowed rows that a walk of width `ef` over the graph finds; `share` of all are allowed.
    ///
    /// # Errors
    /// Those of [`Graph::search`].
    pub fn walk(
        &self,
        raw: &RawRows<'_>,
        (queries, q): (&Rows, usize),
        (allow, share): (Allow<'_>, f32),
        (k, ef): (usize, usize),
        scratch: &mut Scratches,
    ) -> Result<NearFound> {
        let scratch = &mut scratch.walk;
        let raw_query = raw.query(queries, q)?;
        let params = SearchParams {
            k,
            ef,
            n_rerank: n_reranked(k).min(ef),
            max_links: LINKS_PER_EF * ef as u64,
            share,
        };
        let found = match &self.codes {
            None => self.graph.search(raw, &raw_query, allow, &params, scratch)?,
            Some(codes) => {
                let code_query = codes.query(queries, q)?;
                let (by_codes, by_rows) = ((codes, &code_query), (raw, &raw_query));
                self.graph.search_reranked(by_codes, by_rows, allow, &params, scratch)?
            }
        };
        Ok(NearFound {
            is_whole: found.ended == Ended::Converged,
            neighbors: found.neighbors,
            n_signs: 0,
            n_distances: found.n_distances,
        })
    }

    /// The `k` nearest of listed rows: all by their codes, the best raw.
    ///
    /// # Errors
    /// Those of the queries' preparation.
    pub fn coded(
        codes: &Codes,
        raw: &RawRows<'_>,
        (queries, q): (&Rows, usize),
        run: &[u32],
        k: usize,
        scratch: &mut Scratches,
    ) -> Result<NearFound> {
        let (by_code, by_row) = (codes.query(queries, q)?, raw.query(queries, q)?);
        let (codes, rows) = ((codes, &by_code), (raw, &by_row));
        let sizes = (k, n_reranked(k));
        tree::flat_reranked(run, codes, rows, sizes, &mut scratch.tree).map(NearFound::of_tree)
    }

    /// The `k` nearest of listed rows: all by their signs, those that may be near by their codes, the best raw.
    ///
    /// # Errors
    /// Those of the queries' preparation.
    pub fn signed(
        (codes, signs): (&Codes, &Signs),
        raw: &RawRows<'_>,
        (queries, q): (&Rows, usize),
        run: &[u32],
        k: usize,
        scratch: &mut Scratches,
    ) -> Result<NearFound> {
        let (by_code, by_row) = (codes.query(queries, q)?, raw.query(queries, q)?);
        let (codes, rows) = ((signs, codes, &by_code), (raw, &by_row));
        let sizes = (k, n_reranked(k));
        tree::flat_by_signs(run, codes, rows, sizes, &mut scratch.tree).map(NearFound::of_tree)
    }

    /// The `k` nearest places of a set, found over its skeleton by codes, the best compared raw.
    ///
    /// # Errors
    /// Those of [`Passing::skeleton`] and of the queries' preparation.
    pub fn listed(
        &self,
        codes: &Codes,
        raw: &RawRows<'_>,
        (queries, q): (&Rows, usize),
        (set, n_base): (&Passing, u32),
        (k, ef): (usize, usize),
        scratch: &mut Scratches,
    ) -> Result<NearFound> {
        let Placed { tree, paths } = &self.placed;
        let (run, skeleton) = set.skeleton(tree, paths, n_base)?;
        let (by_code, by_row) = (codes.query(queries, q)?, raw.query(queries, q)?);
        scratch.query.resize(queries.dim(), 0.0);
        queries.widen(q, &mut scratch.query);
        let params = tree::SearchParams { k, ef, n_rerank: n_reranked(k).min(ef) };
        let (codes, rows) = ((codes, &by_code), (raw, &by_row));
        let (on, run) = ((tree, skeleton), run.slots());
        let (query, scratch) = (&scratch.query, &mut scratch.tree);
        tree::search_reranked(on, run, query, codes, rows, &params, scratch).map(NearFound::of_tree)
    }
}

impl NearFound {
    pub(super) fn of_tree(found: tree::Found) -> Self {
        let n_distances = found.touched.n_rows + found.touched.n_reranked;
        let n_signs = found.touched.n_signs;
        Self { neighbors: found.neighbors, n_signs, n_distances, is_whole: true }
    }
}

/// The `k` nearest of listed rows, all compared raw: exact.
///
/// # Errors
/// Those of the query's preparation.
pub(super) fn raw(
    base: &Base,
    (queries, q): (&Rows, usize),
    run: &[u32],
    k: usize,
    scratch: &mut Scratches,
) -> Result<Vec<Neighbor>> {
    let query = base.raw.query(queries, q)?;
    let mut scan = tree::DistanceScan::new(&base.raw, &query);
    Ok(tree::flat(run, &mut scan, k, &mut scratch.tree)?.neighbors)
}

/// Rows whose codes are nearest that are compared raw: codes of four bits put nearly all of the `k` nearest among so many.
pub(super) fn n_reranked(k: usize) -> usize {
    (2 * k + 20).min(MAX_EF)
}

/// Slots that stand in for queries, and the others; both ascending.
fn split(slots: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let n_sampled = N_SAMPLED.min(slots.len() / LEAST_PER_SAMPLED);
    let mut places: BTreeSet<usize> = BTreeSet::new();
    for i in 0.. {
        if places.len() == n_sampled {
            break;
        }
        places.insert((stream(SEED ^ 0x7361_6d70_6c65, i) % slots.len() as u64) as usize);
    }
    let (sample, rest): (Vec<_>, Vec<_>) =
        slots.iter().enumerate().partition(|(place, _)| places.contains(place));
    let only = |pairs: Vec<(usize, &u32)>| pairs.into_iter().map(|(_, &slot)| slot).collect();
    (only(sample), only(rest))
}

/// The nearest rows to one of them, itself left out: exact.
fn nearest(raw: &RawRows<'_>, slot: u32, slots: &[u32], k: usize) -> Vec<Neighbor> {
    let (query, mut top) = (raw.query_of(slot), TopK::new(k));
    let mut out = vec![0.0; BLOCK];
    for block in slots.chunks(BLOCK) {
        let out = &mut out[..block.len()];
        raw.measure(&query, block, out);
        for (&other, &distance) in block.iter().zip(&*out) {
            if other != slot {
                top.push(Neighbor { slot: other, distance });
            }
        }
    }
    top.into_sorted()
}
