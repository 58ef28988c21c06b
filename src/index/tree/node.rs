//! The nodes of the tree, and path codes.
//!
//! A path code holds six bits per level, the root's choice on top: the number of the child taken. Lower bits are zero. The
//! rows below a node are then those whose codes lie in an interval, and sorting codes sorts rows by the tree.

use crate::core::limits::{TREE_FAN_OUT, TREE_LEVELS};
use crate::core::metric::Metric;
use crate::core::rows::{Rows, Values};
use crate::distance::Level;
use crate::distance::simd::{Kernels, Sum};
use crate::error::{Error, ErrorKind, Result};
use crate::quant::rabitq::dot;

/// Bits of a path code per level.
pub(super) const BITS: u32 = 6;

/// A cluster of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Node {
    /// Path code of the first row that may lie below.
    pub code: u64,
    /// Mean distance to the centroid of the rows that it was trained for; for dot the mean of their products with it,
    /// which is how long they are.
    pub spread: f32,
    /// Index of the first child; children follow one another.
    pub first_child: u32,
    /// Children; 0 for a leaf.
    pub n_children: u8,
    /// Steps from the root.
    pub level: u8,
}

impl Node {
    /// The last path code that may lie below.
    pub fn last_code(&self) -> u64 {
        self.code | (u64::MAX >> (BITS * u32::from(self.level)))
    }

    /// Which child a path code takes, if it lies below this node.
    pub fn child_of(&self, code: u64) -> usize {
        (code >> (64 - BITS * (u32::from(self.level) + 1))) as usize & (TREE_FAN_OUT - 1)
    }

    /// Path code of child `i`.
    pub fn child_code(&self, i: usize) -> u64 {
        self.code | (i as u64) << (64 - BITS * (u32::from(self.level) + 1))
    }
}

/// What comparing with centroids needs and the next comparison reuses.
#[derive(Clone, Debug, Default)]
pub(super) struct Compared {
    starts: Vec<usize>,
    out: Vec<f32>,
}

/// Nodes and centroids, the root first, parents before their children.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    nodes: Vec<Node>,
    /// `[n_nodes, dim]`, f32; of norm 1 under cosine and dot. That of the root is never compared with.
    centroids: Rows,
    metric: Metric,
}

impl Tree {
    /// A tree of checked parts; `centroids` `[nodes.len(), dim]` of f32.
    ///
    /// # Errors
    /// `tree_shape` if nodes and centroids differ in number, if a node other than the root is not the child of exactly
    /// one node before it, or has another code than its place gives it.
    pub fn new(nodes: Vec<Node>, centroids: Rows, metric: Metric) -> Result<Self> {
        let wrong = |what: String| Err(Error::new(ErrorKind::BadInput, "tree_shape", what));
        if nodes.is_empty() || nodes.len() != centroids.n_rows() {
            return wrong(format!("{} nodes, {} centroids", nodes.len(), centroids.n_rows()));
        }
        if !matches!(centroids.values(), Values::F32(_)) {
            return wrong(format!("centroids of {}, expected f32", centroids.dtype().name()));
        }
        if (nodes[0].code, nodes[0].level) != (0, 0) {
            return wrong(format!("the root has code {:x}", nodes[0].code));
        }
        let mut has_parent = vec![false; nodes.len()];
        has_parent[0] = true;
        for (i, node) in nodes.iter().enumerate() {
            if !node.spread.is_finite() {
                return wrong(format!("node {i} has spread {}", node.spread));
            }
            let n_children = usize::from(node.n_children);
            if n_children == 0 {
                continue;
            }
            let first = node.first_child as usize;
            let fits = first > i
                && n_children <= TREE_FAN_OUT
                && usize::from(node.level) < TREE_LEVELS
                && first + n_children <= nodes.len()
                && !has_parent[first..first + n_children].contains(&true);
            if !fits {
                return wrong(format!(
                    "node {i} of level {} of {} has children {first} to {}, expected later ones without another parent",
                    node.level,
                    nodes.len(),
                    first + n_children,
                ));
            }
            has_parent[first..first + n_children].fill(true);
            for (digit, child) in nodes[first..first + n_children].iter().enumerate() {
                if (child.level, child.code) != (node.level + 1, node.child_code(digit)) {
                    return wrong(format!("child {digit} of node {i} has code {:x}", child.code));
                }
            }
        }
        if let Some(lost) = has_parent.iter().position(|&has| !has) {
            return wrong(format!("node {lost} of {} has no parent", nodes.len()));
        }
        Ok(Self { nodes, centroids, metric })
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Centroids `[n_nodes, dim]`.
    pub fn centroids(&self) -> &Rows {
        &self.centroids
    }

    /// What rows are compared by.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Bytes of nodes and centroids.
    pub fn n_bytes(&self) -> u64 {
        (self.nodes.len() * size_of::<Node>()) as u64 + self.centroids.n_bytes()
    }

    /// The nodes and centroids `[n_nodes, dim]`, to be changed; [`Self::new`] checks them again.
    pub(super) fn into_parts(self) -> (Vec<Node>, Vec<f32>) {
        let Values::F32(centroids) = self.centroids.values().clone() else {
            unreachable!("checked: centroids are f32")
        };
        (self.nodes, centroids.into_vec())
    }

    /// Sets `out` to a query `[dim]` as centroids are compared with it: of norm 1 under cosine.
    ///
    /// # Errors
    /// `vector_dim`; those of [`Rows::new`] and [`Rows::check`].
    pub fn query(&self, query: &[f32], out: &mut Vec<f32>) -> Result<()> {
        if query.len() != self.centroids.dim() {
            let message =
                format!("a query of {} values, rows have {}", query.len(), self.centroids.dim());
            return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
        }
        let is_cosine = self.metric == Metric::Cosine;
        let norm = if is_cosine { dot(query, query).sqrt() } else { f64::NAN };
        if !norm.is_normal() {
            Rows::new(Values::F32(query.to_vec().into()), query.len())?.check(self.metric)?;
        }
        out.clear();
        out.extend_from_slice(query);
        if is_cosine {
            out.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
        Ok(())
    }

    /// The distances between a [`Self::query`] and the centroids of `nodes`.
    pub(super) fn distances<'s>(
        &self,
        query: &[f32],
        nodes: impl Iterator<Item = u32>,
        scratch: &'s mut Compared,
    ) -> &'s [f32] {
        let Values::F32(centroids) = self.centroids.values() else {
            unreachable!("checked: centroids are f32")
        };
        let Compared { starts, out } = scratch;
        starts.clear();
        starts.extend(nodes.map(|node| node as usize * query.len()));
        out.clear();
        out.resize(starts.len(), 0.0);
        let sum = match self.metric {
            Metric::Cosine | Metric::Dot => Sum::Dot,
            Metric::L2 => Sum::L2,
            Metric::L1 => Sum::L1,
        };
        Kernels::at(Level::best()).rows_f32(sum, query, centroids, starts, out);
        match self.metric {
            Metric::Cosine => out.iter_mut().for_each(|x| *x = 1.0 - *x),
            Metric::Dot => out.iter_mut().for_each(|x| *x = -*x),
            Metric::L2 | Metric::L1 => {}
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(code: u64, first_child: u32, n_children: u8, level: u8) -> Node {
        Node { code, spread: 0.0, first_child, n_children, level }
    }

    fn two_levels() -> Vec<Node> {
        let second = 1u64 << 58;
        vec![
            node(0, 1, 2, 0),
            node(0, 0, 0, 1),
            node(second, 3, 2, 1),
            node(second, 0, 0, 2),
            node(second | 1 << 52, 0, 0, 2),
        ]
    }

    fn centroids(n: usize) -> Rows {
        Rows::new(Values::F32((0..n).map(|i| i as f32).collect()), 1).unwrap()
    }

    #[test]
    fn intervals_of_children_tile_that_of_their_parent_down_to_the_last_level() {
        let mut parent = Node::default();
        for level in 0..TREE_LEVELS {
            let child = |i| node(parent.child_code(i), 0, 0, level as u8 + 1);
            assert_eq!((child(0).code, child(63).last_code()), (parent.code, parent.last_code()));
            for i in 0..63 {
                assert_eq!(child(i).last_code() + 1, child(i + 1).code);
                assert_eq!(parent.child_of(child(i).last_code()), i);
            }
            parent = child(41);
        }
    }

    #[test]
    fn a_damaged_tree_is_refused() {
        type Damage = fn(&mut Vec<Node>);
        let damages: [Damage; 7] = [
            |nodes| nodes[0].n_children = 1,
            |nodes| nodes[2].first_child = 2,
            |nodes| nodes[2].n_children = 3,
            |nodes| nodes[4].code += 1,
            |nodes| nodes[3].level = 1,
            |nodes| nodes[1].spread = f32::NAN,
            |nodes| nodes.truncate(0),
        ];
        for (i, damage) in damages.iter().enumerate() {
            let mut nodes = two_levels();
            damage(&mut nodes);
            let n = nodes.len();
            let error = Tree::new(nodes, centroids(n), Metric::L2).expect_err("refused");
            assert_eq!(error.code(), "tree_shape", "damage {i}");
        }
        assert!(Tree::new(two_levels(), centroids(4), Metric::L2).is_err());
    }
}
