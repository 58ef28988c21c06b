//! Recursive k-means: rows to a tree, and to their order in it.

use std::ops::Range;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::backend::Backend;
use crate::cluster::gather;
use crate::cluster::kmeans::{self, KMeans};
use crate::core::limits::{TREE_FAN_OUT, TREE_LEVELS};
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::rows::{Rows, Values};
use crate::error::{Error, Result};
use crate::index::tree::node::{Node, Tree};

/// How a tree is built.
#[derive(Clone, Copy, Debug)]
pub struct BuildParams {
    /// Children of a node at most; nodes that need fewer to come down to leaves evenly have fewer.
    pub fan_out: usize,
    /// A node of so many rows is not divided.
    pub max_leaf: usize,
    /// Rounds of k-means at each node.
    pub n_rounds: usize,
    /// Rows per child that k-means is trained on.
    pub sample_per_cell: usize,
    /// Seed of all samples.
    pub seed: u64,
}

impl Default for BuildParams {
    fn default() -> Self {
        Self { fan_out: 64, max_leaf: 128, n_rounds: 10, sample_per_cell: 64, seed: 0 }
    }
}

impl BuildParams {
    /// Fails if no tree could be built so.
    ///
    /// # Errors
    /// `tree_params`.
    pub fn check(&self) -> Result<()> {
        let Self { fan_out, max_leaf, n_rounds, sample_per_cell, .. } = *self;
        if (2..=TREE_FAN_OUT).contains(&fan_out)
            && max_leaf >= 1
            && n_rounds >= 1
            && sample_per_cell >= 1
        {
            return Ok(());
        }
        let message = format!(
            "fan_out {fan_out}, max_leaf {max_leaf}, n_rounds {n_rounds}, sample_per_cell {sample_per_cell}; expected \
             2 to {TREE_FAN_OUT}, and at least 1"
        );
        Err(Error::usage("tree_params", message))
    }

    /// Children for `n_rows` rows, such that all levels below have about as many.
    fn n_cells(&self, n_rows: usize) -> usize {
        let n_leaves = (2 * n_rows).div_ceil(self.max_leaf) as f64;
        let n_levels = (n_leaves.ln() / (self.fan_out as f64).ln() - 1e-9).ceil().max(1.0);
        (n_leaves.powf(1.0 / n_levels).ceil() as usize).clamp(2, self.fan_out)
    }
}

/// A tree and where its rows are.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// The tree.
    pub tree: Tree,
    /// Rows as they were given, in tree order; those of one leaf in the order of their numbers.
    pub order: Vec<u32>,
    /// Path code of each row in tree order: ascending.
    pub paths: Vec<u64>,
}

impl Built {
    /// A copy of `rows`, the ones that were built from, in tree order.
    pub fn ordered(&self, rows: &Rows) -> Rows {
        gather(rows, self.order.iter().map(|&row| row as usize))
    }
}

/// A node whose rows, a range of the order, are still to be divided.
struct Open {
    node: usize,
    range: Range<usize>,
}

/// The cells of a node: its rows, cell after cell, and each cell's size, centroid (f32) and spread.
struct Cells {
    order: Vec<u32>,
    sizes: Vec<usize>,
    centroids: Vec<f32>,
    spreads: Vec<f32>,
}

/// The tree of `rows`. One seed gives one tree, for any number of threads of `pool` and of the backend. A node is not
/// divided if it has at most `max_leaf` rows, if it is at the last level, or if its rows are all equal. When all nodes
/// are there, each row goes where [`Tree::place`] puts it, so that a leaf may have some more rows, or none.
///
/// Cost: each row is copied once per level, and compared with at most `fan_out` centroids there, and when it is placed
/// with four times as many; k-means compares `n_rounds · sample_per_cell · fan_out` rows more per node. Memory: the rows
/// of one level twice.
///
/// # Errors
/// `tree_params`; those of [`Rows::check`] and of the backend.
pub fn build(
    (backend, pool): (&dyn Backend, &ThreadPool),
    rows: &Rows,
    metric: Metric,
    params: &BuildParams,
) -> Result<Built> {
    let tree = trained((backend, pool), rows, metric, params, TREE_LEVELS)?;
    let placed = tree.place(pool, rows)?;
    let mut order: Vec<u32> = (0..rows.n_rows() as u32).collect();
    pool.install(|| order.par_sort_unstable_by_key(|&row| (placed[row as usize], row)));
    let paths = order.iter().map(|&row| placed[row as usize]).collect();
    Ok(Built { tree, order, paths })
}

/// The nodes for `rows`, at most so many levels below the root.
pub(super) fn trained(
    (backend, pool): (&dyn Backend, &ThreadPool),
    rows: &Rows,
    metric: Metric,
    params: &BuildParams,
    n_levels: usize,
) -> Result<Tree> {
    params.check()?;
    rows.check(metric)?;
    let mut order: Vec<u32> = (0..rows.n_rows() as u32).collect();
    let mut nodes = vec![Node::default()];
    let mut centroids = vec![0.0; rows.dim()];
    let mut level = vec![Open { node: 0, range: 0..order.len() }];
    for depth in 0..n_levels {
        level.retain(|open| open.range.len() > params.max_leaf);
        let divide = |open: &Open| {
            let seed = stream(params.seed, nodes[open.node].code ^ depth as u64);
            divide(backend, rows, metric, &order[open.range.clone()], params, seed)
        };
        let divided: Vec<Result<Option<Cells>>> =
            pool.install(|| level.par_iter().map(divide).collect());
        let mut below = Vec::new();
        for (open, cells) in level.iter().zip(divided) {
            let Some(cells) = cells? else { continue };
            order[open.range.clone()].copy_from_slice(&cells.order);
            nodes[open.node].first_child = nodes.len() as u32;
            nodes[open.node].n_children = cells.sizes.len() as u8;
            centroids.extend(cells.centroids);
            let (parent, mut start) = (nodes[open.node], open.range.start);
            for (i, (size, spread)) in cells.sizes.iter().zip(cells.spreads).enumerate() {
                let range = start..start + size;
                start = range.end;
                below.push(Open { node: nodes.len(), range });
                let (code, level) = (parent.child_code(i), parent.level + 1);
                nodes.push(Node { code, spread, level, ..Node::default() });
            }
        }
        level = below;
    }
    Tree::new(nodes, Rows::new(Values::F32(centroids.into()), rows.dim())?, metric)
}

/// The centroid `[dim]` of all of `rows`, f32, and their spread around it.
pub(super) fn centre(
    backend: &dyn Backend,
    rows: &Rows,
    metric: Metric,
) -> Result<(Vec<f32>, f32)> {
    let one = KMeans { n_cells: 1, n_rounds: 1, sample_per_cell: rows.n_rows(), seed: 0 };
    let centroids = one.train(backend, rows, metric)?;
    let nearest = kmeans::assign(backend, rows, metric, &centroids)?;
    let sum: f64 = nearest.iter().map(|near| f64::from(near.distance)).sum();
    let mut centroid = vec![0.0; rows.dim()];
    centroids.widen(0, &mut centroid);
    let spread = finish(metric, &mut centroid, centroids.norms()[0], sum / nearest.len() as f64);
    Ok((centroid, spread))
}

/// Scales a centroid of that norm as trees keep it; its spread, from the mean distance of its rows.
fn finish(metric: Metric, centroid: &mut [f32], norm: f64, mean_distance: f64) -> f32 {
    let is_unit = matches!(metric, Metric::Cosine | Metric::Dot) && norm > 0.0;
    if is_unit {
        centroid.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
    let spread = match metric {
        Metric::Dot if is_unit => -mean_distance / norm,
        Metric::Dot => 0.0,
        Metric::Cosine | Metric::L2 | Metric::L1 => mean_distance,
    };
    spread as f32
}

/// The cells of the rows `members`; `None` if they cannot be told apart.
fn divide(
    backend: &dyn Backend,
    rows: &Rows,
    metric: Metric,
    members: &[u32],
    params: &BuildParams,
    seed: u64,
) -> Result<Option<Cells>> {
    let own = gather(rows, members.iter().map(|&row| row as usize));
    let means = KMeans {
        n_cells: params.n_cells(members.len()),
        n_rounds: params.n_rounds,
        sample_per_cell: params.sample_per_cell,
        seed,
    };
    let trained = means.train(backend, &own, metric)?;
    if let Some(cells) = cells(backend, &own, metric, &trained, members)? {
        return Ok(Some(cells));
    }
    // All lie in one cell: the sample may have had equal rows only. The row farthest from the first tells.
    let first = own.slice(0..1);
    let distances = kmeans::assign(backend, &own, metric, &first)?;
    let is_farther = |a: &usize, b: &usize| {
        distances[*a].distance.total_cmp(&distances[*b].distance).then(b.cmp(a))
    };
    let far = (0..members.len()).max_by(is_farther).expect("more rows than a leaf has");
    let pair = gather(&own, [0, far].into_iter());
    cells(backend, &own, metric, &pair, members)
}

/// Rows by their nearest of `centroids`, empty cells left out; `None` if only one is not empty.
fn cells(
    backend: &dyn Backend,
    own: &Rows,
    metric: Metric,
    centroids: &Rows,
    members: &[u32],
) -> Result<Option<Cells>> {
    let nearest = kmeans::assign(backend, own, metric, centroids)?;
    let mut lists: Vec<Vec<u32>> = vec![Vec::new(); centroids.n_rows()];
    let mut sums = vec![0.0f64; centroids.n_rows()];
    for (&row, near) in members.iter().zip(&nearest) {
        lists[near.slot as usize].push(row);
        sums[near.slot as usize] += f64::from(near.distance);
    }
    let filled: Vec<usize> = (0..lists.len()).filter(|&cell| !lists[cell].is_empty()).collect();
    if filled.len() < 2 {
        return Ok(None);
    }
    let norms = centroids.norms();
    let mut found = Cells {
        order: Vec::with_capacity(members.len()),
        sizes: Vec::new(),
        centroids: vec![0.0; filled.len() * centroids.dim()],
        spreads: Vec::new(),
    };
    for (&cell, out) in filled.iter().zip(found.centroids.chunks_exact_mut(centroids.dim())) {
        centroids.widen(cell, out);
        let spread = finish(metric, out, norms[cell], sums[cell] / lists[cell].len() as f64);
        found.order.extend(&lists[cell]);
        found.sizes.push(lists[cell].len());
        found.spreads.push(spread);
    }
    Ok(Some(found))
}
