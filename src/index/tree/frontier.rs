//! The order in which a query comes to the lists of a skeleton: the nearest part first, by its centroid.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::core::metric::Metric;
use crate::core::neighbors::Neighbor;
use crate::error::Result;
use crate::index::tree::node::{Compared, Tree};
use crate::index::tree::skeleton::Part;

/// How much of its rows' mean distance to the centroid a list is brought nearer: rows of a wide part may lie on this side
/// of its centroid. Lists of one run differ little in width; half of a spread and more costs recall.
const LIST_SPREAD: f32 = 0.2;

/// The same for parts with children, so that they come before lists that are farther than some below them. With 0.2 a query
/// between two parts misses lists; with 1, nearly all centroids of a tree of two levels are compared, which takes longer
/// than the few lists found so are worth.
const PARENT_SPREAD: f32 = 0.5;

/// Where a query stands; kept from one to the next for its memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Frontier {
    /// As centroids are compared with it.
    query: Vec<f32>,
    compared: Compared,
    /// Parts to be looked at, as neighbors whose slot is the part's number and whose distance is its score.
    parts: BinaryHeap<Reverse<Neighbor>>,
    n_centroids: u64,
}

impl Frontier {
    /// Before the first list.
    ///
    /// # Errors
    /// Those of [`Tree::query`].
    pub fn start(&mut self, tree: &Tree, query: &[f32]) -> Result<()> {
        tree.query(query, &mut self.query)?;
        self.parts.clear();
        self.parts.push(Reverse(Neighbor { slot: 0, distance: 0.0 }));
        self.n_centroids = 0;
        Ok(())
    }

    /// The number of the next list; none after the last.
    pub fn next(&mut self, tree: &Tree, parts: &[Part]) -> Option<u32> {
        while let Some(Reverse(scored)) = self.parts.pop() {
            let part = parts[scored.slot as usize];
            if part.n_children == 0 {
                return Some(scored.slot);
            }
            self.meet_children(tree, parts, part);
        }
        None
    }

    /// The part that comes next, if that is a list.
    pub fn coming(&self, parts: &[Part]) -> Option<Part> {
        let Reverse(next) = self.parts.peek()?;
        Some(parts[next.slot as usize]).filter(|part| part.n_children == 0)
    }

    /// Centroids that were compared.
    pub fn n_centroids(&self) -> u64 {
        self.n_centroids
    }

    /// Puts the children of a part on the frontier.
    fn meet_children(&mut self, tree: &Tree, parts: &[Part], part: Part) {
        let first = part.first_child;
        let children = &parts[first as usize..(first + part.n_children) as usize];
        let nodes = children.iter().map(|child| child.node);
        let distances = tree.distances(&self.query, nodes, &mut self.compared);
        self.n_centroids += u64::from(part.n_children);
        for ((child, &distance), slot) in children.iter().zip(distances).zip(first..) {
            let spread = tree.nodes()[child.node as usize].spread;
            let share = if child.n_children > 0 { PARENT_SPREAD } else { LIST_SPREAD };
            let distance = score(tree.metric(), distance, (spread, share));
            self.parts.push(Reverse(Neighbor { slot, distance }));
        }
    }
}

/// How soon a part is looked at, the least first. Under dot, whose centroids have norm 1, its rows' mean product.
fn score(metric: Metric, distance: f32, (spread, share): (f32, f32)) -> f32 {
    match metric {
        Metric::Dot => distance * spread,
        Metric::Cosine | Metric::L2 | Metric::L1 => distance - share * spread,
    }
}
