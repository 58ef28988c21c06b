//! Best-first search over a skeleton.
//!
//! A beam goes down to the first lists, so that the search starts where the query is. Then parts are taken in order of
//! their score, the nearest first: a list is compared with the query, any other part gives its children. It ends when
//! some lists in a row changed nothing among the best.
//!
//! Paper: Curator's second, arXiv 2601.01291. Where we differ: it ends at the first list in vain.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::core::metric::Metric;
use crate::core::neighbors::{Neighbor, TopK};
use crate::error::{Error, Result};
use crate::index::tree::node::Tree;
use crate::index::tree::scan::Scan;
use crate::index::tree::skeleton::Skeleton;

/// How much of its rows' mean distance to the centroid a part is brought nearer: rows of a wide part may lie on this side
/// of its centroid.
const SPREAD_WEIGHT: f32 = 0.4;

/// Slots that are compared at once where all of a run are.
const BLOCK: usize = 1024;

/// How a skeleton is searched.
#[derive(Clone, Copy, Debug)]
pub struct SearchParams {
    /// Neighbors asked for.
    pub k: usize,
    /// Best rows that are held while searching, at least `k`: more find more, and as many as the run has find all.
    pub ef: usize,
    /// Parts that are followed down to the first lists.
    pub beam: usize,
    /// Lists in a row that change nothing before the search ends.
    pub patience: usize,
}

impl Default for SearchParams {
    fn default() -> Self {
        Self { k: 10, ef: 64, beam: 4, patience: 2 }
    }
}

impl SearchParams {
    /// Fails if nothing could be found so.
    ///
    /// # Errors
    /// `search_params`.
    pub fn check(&self) -> Result<()> {
        let Self { k, ef, beam, patience } = *self;
        if k >= 1 && ef >= k && beam >= 1 && patience >= 1 {
            return Ok(());
        }
        let message = format!(
            "k {k}, ef {ef}, beam {beam}, patience {patience}; expected at least 1, and ef at least k"
        );
        Err(Error::usage("search_params", message))
    }
}

/// What a search looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Centroids compared.
    pub n_centroids: u64,
    /// Rows compared.
    pub n_rows: u64,
    /// Lists compared.
    pub n_lists: u64,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The nearest first, ties by slot; `k`, or the whole run if it has fewer.
    pub neighbors: Vec<Neighbor>,
    /// What it took.
    pub touched: Touched,
}

/// The `k` nearest rows of a run, all of which are compared: exact.
///
/// # Errors
/// Those of the scan.
pub fn flat(run: &[u32], scan: &mut dyn Scan, k: usize) -> Result<Found> {
    let mut best = Best::new(k.min(run.len()));
    run.chunks(BLOCK).try_for_each(|slots| best.take(slots, scan).map(|_| ()))?;
    best.touched.n_lists = u64::from(!run.is_empty());
    Ok(best.into_found(k))
}

/// The `k` nearest rows of a run to `query` `[dim]`, found over its skeleton; `scan` compares the same query with rows.
/// Exact if `ef` is no less than the run is long.
///
/// Cost: the centroids of the parts passed and the rows of the lists taken, all of which [`Found`] counts.
///
/// # Errors
/// `search_params`; `skeleton_run` if the skeleton is another run's; those of [`Tree::query`] and of the scan.
pub fn search(
    (tree, skeleton): (&Tree, &Skeleton),
    run: &[u32],
    query: &[f32],
    scan: &mut dyn Scan,
    params: &SearchParams,
) -> Result<Found> {
    params.check()?;
    if skeleton.n_rows() != run.len() {
        let message = format!("of {} slots, the run has {}", skeleton.n_rows(), run.len());
        return Err(Error::usage("skeleton_run", message));
    }
    let query = tree.query(query)?;
    if params.ef >= run.len() {
        return flat(run, scan, params.k);
    }
    let parts = skeleton.parts();
    let mut walk = Walk { tree, skeleton, query, n_centroids: 0, distances: Vec::new() };
    let mut frontier = walk.descend(params.beam);
    let (mut best, mut n_vain) = (Best::new(params.ef), 0);
    while let Some(Reverse(scored)) = frontier.pop() {
        let part = parts[scored.slot as usize];
        if part.n_children > 0 {
            frontier.extend(walk.children(scored.slot).map(Reverse));
            continue;
        }
        n_vain = if best.take(&run[part.range()], scan)? { 0 } else { n_vain + 1 };
        if n_vain == params.patience {
            break;
        }
    }
    best.touched.n_centroids = walk.n_centroids;
    Ok(best.into_found(params.k))
}

/// The way down; a scored part is a [`Neighbor`] whose slot is the part's number.
struct Walk<'a> {
    tree: &'a Tree,
    skeleton: &'a Skeleton,
    query: Vec<f32>,
    n_centroids: u64,
    distances: Vec<f32>,
}

impl Walk<'_> {
    /// All parts met on the way of a beam of `width` down to lists that are not above others on it.
    fn descend(&mut self, width: usize) -> BinaryHeap<Reverse<Neighbor>> {
        let mut frontier = BinaryHeap::new();
        let mut beam = vec![Neighbor { slot: 0, distance: 0.0 }];
        let is_list = |part: &Neighbor, walk: &Self| {
            walk.skeleton.parts()[part.slot as usize].n_children == 0
        };
        while !beam.iter().all(|part| is_list(part, self)) {
            let mut next = Vec::new();
            for part in beam {
                if is_list(&part, self) {
                    next.push(part);
                } else {
                    next.extend(self.children(part.slot));
                }
            }
            next.sort_unstable();
            frontier.extend(next.drain(width.min(next.len())..).map(Reverse));
            beam = next;
        }
        frontier.extend(beam.into_iter().map(Reverse));
        frontier
    }

    /// The children of a part, with their scores.
    fn children(&mut self, part: u32) -> impl Iterator<Item = Neighbor> {
        let part = self.skeleton.parts()[part as usize];
        let (first, n) = (part.first_child, part.n_children);
        let children = &self.skeleton.parts()[first as usize..(first + n) as usize];
        let nodes = children.iter().map(|child| child.node);
        self.tree.distances(&self.query, nodes, &mut self.distances);
        self.n_centroids += u64::from(n);
        let (tree, distances) = (self.tree, &self.distances);
        children.iter().zip(distances).zip(first..).map(move |((child, &distance), slot)| {
            let spread = tree.nodes()[child.node as usize].spread;
            Neighbor { slot, distance: score(tree.metric(), distance, spread) }
        })
    }
}

/// How soon a part is looked at, the least first. Under dot, whose centroids have norm 1, its rows' mean product.
fn score(metric: Metric, distance: f32, spread: f32) -> f32 {
    match metric {
        Metric::Dot => distance * spread,
        Metric::Cosine | Metric::L2 | Metric::L1 => distance - SPREAD_WEIGHT * spread,
    }
}

/// The best rows so far.
struct Best {
    nearest: TopK,
    distances: Vec<f32>,
    touched: Touched,
}

impl Best {
    fn new(ef: usize) -> Self {
        Self { nearest: TopK::new(ef), distances: Vec::new(), touched: Touched::default() }
    }

    /// Compares a list; whether a row of it is among the best now.
    fn take(&mut self, slots: &[u32], scan: &mut dyn Scan) -> Result<bool> {
        scan.distances(slots, &mut self.distances)?;
        self.touched.n_lists += 1;
        self.touched.n_rows += slots.len() as u64;
        let mut has_changed = false;
        for (&slot, &distance) in slots.iter().zip(&self.distances) {
            let neighbor = Neighbor { slot, distance };
            if self.nearest.bound().is_none_or(|bound| neighbor < bound) {
                self.nearest.push(neighbor);
                has_changed = true;
            }
        }
        Ok(has_changed)
    }

    fn into_found(self, k: usize) -> Found {
        let mut neighbors = self.nearest.into_sorted();
        neighbors.truncate(k);
        Found { neighbors, touched: self.touched }
    }
}

#[cfg(test)]
mod tests;
