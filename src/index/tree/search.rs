//! Best-first search over a skeleton.
//!
//! Parts are taken in order of their score, the nearest first: a list is compared with the query, any other part gives
//! its children. It ends when some lists in a row changed nothing among the best.
//!
//! Paper: Curator's second, arXiv 2601.01291. Where we differ: it ends at the first list in vain, descends with a beam
//! first, and brings all parts nearer by the same share of their spread.

use crate::core::neighbors::Neighbor;
use crate::error::{Error, Result};
use crate::index::graph::distances::Distances;
use crate::index::tree::best::Best;
use crate::index::tree::frontier::Frontier;
use crate::index::tree::nearest::Nearest;
use crate::index::tree::node::Tree;
use crate::index::tree::scan::{DistanceScan, Scan};
use crate::index::tree::signs::Look;
use crate::index::tree::skeleton::Skeleton;

/// Best rows held per list in vain before a search ends: of the mixtures that look at as many rows, many lists and few best
/// rows find most, and one number is easier to choose than two.
const EF_PER_VAIN_LIST: usize = 5;

/// Slots that are compared at once where all of a run are.
const BLOCK: usize = 1024;

/// How a skeleton is searched.
#[derive(Clone, Copy, Debug)]
pub struct SearchParams {
    /// Neighbors asked for.
    pub k: usize,
    /// Best rows that are held while searching, at least `k`, and five times the lists in a row that change nothing among
    /// them before the search ends: more finds more, up to all, and as many as the run has look at every row.
    pub ef: usize,
    /// The nearest by codes that are compared raw, at least `k`; only for searches on codes.
    pub n_rerank: usize,
}

impl Default for SearchParams {
    fn default() -> Self {
        Self { k: 10, ef: 64, n_rerank: 40 }
    }
}

impl SearchParams {
    /// Fails if nothing could be found so.
    ///
    /// # Errors
    /// `search_params`.
    pub fn check(&self) -> Result<()> {
        let Self { k, ef, n_rerank } = *self;
        if k >= 1 && ef >= k && n_rerank >= k {
            return Ok(());
        }
        let message = format!(
            "k {k}, ef {ef}, n_rerank {n_rerank}; expected at least 1, and the others at least k"
        );
        Err(Error::usage("search_params", message))
    }

    /// Lists in a row that change nothing before the search ends.
    pub fn patience(&self) -> usize {
        self.ef.div_ceil(EF_PER_VAIN_LIST)
    }
}

/// What a search looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Centroids compared.
    pub n_centroids: u64,
    /// Rows whose signs were compared first.
    pub n_signs: u64,
    /// Rows compared as lists have them.
    pub n_rows: u64,
    /// Lists compared.
    pub n_lists: u64,
    /// Rows compared raw after their codes were.
    pub n_reranked: u64,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The nearest first, ties by slot; `k`, or the whole run if it has fewer.
    pub neighbors: Vec<Neighbor>,
    /// What it took.
    pub touched: Touched,
}

/// What a search needs and the next one reuses; one per thread, for any tree.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    frontier: Frontier,
    best: Best,
    nearest: Nearest,
    slots: Vec<u32>,
    pub(super) distances: Vec<f32>,
    pub(super) look: Look,
}

/// The `k` nearest rows of a run, all of which are compared: exact.
///
/// # Errors
/// Those of the scan.
pub fn flat(run: &[u32], scan: &mut dyn Scan, k: usize, scratch: &mut Scratch) -> Result<Found> {
    let touched = scratch.take_all(run, scan, k)?;
    Ok(Found { neighbors: scratch.nearest.sorted(k), touched })
}

/// The `k` nearest rows of a run, all of which are compared by their codes, and the `n_rerank` nearest by these raw:
/// neighbors are ordered by, and carry, exact distances. A run of no more than `n_rerank` rows is compared raw alone:
/// exact.
///
/// # Errors
/// `slot_range` if codes or rows do not cover the run.
pub fn flat_reranked<C: Distances, R: Distances>(
    run: &[u32],
    (codes, code_query): (&C, &C::Query),
    (raw, raw_query): (&R, &R::Query),
    (k, n_rerank): (usize, usize),
    scratch: &mut Scratch,
) -> Result<Found> {
    let mut raw = DistanceScan::new(raw, raw_query);
    if run.len() <= n_rerank {
        return flat(run, &mut raw, k, scratch);
    }
    let touched = scratch.take_all(run, &mut DistanceScan::new(codes, code_query), n_rerank)?;
    scratch.slots.clear();
    scratch.slots.extend(scratch.nearest.nearest(n_rerank).iter().map(|near| near.slot));
    scratch.reranked(&mut raw, k, touched)
}

/// The `k` nearest rows of a run to `query` `[dim]`, found over its skeleton; `scan` compares the same query with rows.
/// Exact if `ef` is no less than the run is long.
///
/// Cost: the centroids of the parts passed and the rows of the lists taken, all of which [`Found`] counts.
///
/// # Errors
/// `search_params`; `skeleton_run` if the skeleton is another run's; those of [`Tree::query`] and of the scan.
pub fn search(
    on: (&Tree, &Skeleton),
    run: &[u32],
    query: &[f32],
    scan: &mut dyn Scan,
    params: &SearchParams,
    scratch: &mut Scratch,
) -> Result<Found> {
    scratch.start(on, run, query, params)?;
    if params.ef >= run.len() {
        return flat(run, scan, params.k, scratch);
    }
    let touched = scratch.walk(on, run, scan, params)?;
    Ok(Found { neighbors: scratch.best.sorted(params.k), touched })
}

/// As [`search`] on codes, whose `n_rerank` nearest are then compared raw: neighbors are ordered by, and carry, exact
/// distances. As [`flat_reranked`] if `ef` is no less than the run is long.
///
/// # Errors
/// As [`search`].
pub fn search_reranked<C: Distances, R: Distances>(
    on: (&Tree, &Skeleton),
    run: &[u32],
    query: &[f32],
    (codes, code_query): (&C, &C::Query),
    (raw, raw_query): (&R, &R::Query),
    params: &SearchParams,
    scratch: &mut Scratch,
) -> Result<Found> {
    scratch.start(on, run, query, params)?;
    let SearchParams { k, ef, n_rerank } = *params;
    if ef >= run.len() {
        let raw = (raw, raw_query);
        return flat_reranked(run, (codes, code_query), raw, (k, n_rerank), scratch);
    }
    let touched = scratch.walk(on, run, &mut DistanceScan::new(codes, code_query), params)?;
    scratch.slots.clear();
    scratch.slots.extend(scratch.best.nearest(n_rerank).iter().map(|near| near.slot));
    scratch.reranked(&mut DistanceScan::new(raw, raw_query), k, touched)
}

impl Scratch {
    /// Checks what was asked, and keeps the query as centroids are compared with it.
    fn start(
        &mut self,
        (tree, skeleton): (&Tree, &Skeleton),
        run: &[u32],
        query: &[f32],
        params: &SearchParams,
    ) -> Result<()> {
        params.check()?;
        check_run(skeleton, run)?;
        self.frontier.start(tree, query)
    }

    /// Leaves in `nearest` the nearest of all rows of a run.
    fn take_all(&mut self, run: &[u32], scan: &mut dyn Scan, most: usize) -> Result<Touched> {
        self.nearest.reset(most);
        for slots in run.chunks(BLOCK) {
            scan.distances(slots, &mut self.distances)?;
            self.nearest.take(slots, &self.distances);
        }
        let n_lists = u64::from(!run.is_empty());
        Ok(Touched { n_rows: run.len() as u64, n_lists, ..Touched::default() })
    }

    /// Leaves in `best` the nearest rows of the lists taken.
    fn walk(
        &mut self,
        (tree, skeleton): (&Tree, &Skeleton),
        run: &[u32],
        scan: &mut dyn Scan,
        params: &SearchParams,
    ) -> Result<Touched> {
        let parts = skeleton.parts();
        let mut touched = Touched::default();
        self.best.reset(params.ef);
        let mut n_vain = 0;
        while let Some(list) = self.frontier.next(tree, parts) {
            scan.prefetch(self.frontier.coming(parts).map_or(&[], |next| &run[next.range()]));
            let slots = &run[parts[list as usize].range()];
            scan.distances(slots, &mut self.distances)?;
            touched.n_lists += 1;
            touched.n_rows += slots.len() as u64;
            n_vain = if self.best.take(slots, &self.distances) { 0 } else { n_vain + 1 };
            if n_vain == params.patience() {
                break;
            }
        }
        touched.n_centroids = self.frontier.n_centroids();
        Ok(touched)
    }

    /// The `k` nearest of `slots`, by their distances as `raw` has them.
    fn reranked(&mut self, raw: &mut dyn Scan, k: usize, mut touched: Touched) -> Result<Found> {
        raw.distances(&self.slots, &mut self.distances)?;
        self.nearest.reset(k);
        self.nearest.take(&self.slots, &self.distances);
        touched.n_reranked = self.slots.len() as u64;
        Ok(Found { neighbors: self.nearest.sorted(k), touched })
    }
}

/// Fails if a skeleton is not of so many rows.
fn check_run(skeleton: &Skeleton, run: &[u32]) -> Result<()> {
    if skeleton.n_rows() == run.len() {
        return Ok(());
    }
    let message = format!("of {} slots, the run has {}", skeleton.n_rows(), run.len());
    Err(Error::usage("skeleton_run", message))
}
