//! Which leaf a row belongs to: the same way for rows that the tree was built from and for later ones.

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::error::Result;
use crate::index::tree::node::{Compared, Tree};

/// Nodes of a level whose children are looked at. The nearest leaf often lies below another node than the nearest one: with
/// one, a search must look at half as many rows again for the same recall (Debian's descriptions, 2026-11-25); beyond four
/// little changes.
const BEAM: usize = 4;

/// What placing a row needs and the next one reuses.
#[derive(Default)]
struct Scratch {
    row: Vec<f32>,
    query: Vec<f32>,
    compared: Compared,
    beam: Vec<Neighbor>,
    below: Vec<Neighbor>,
}

impl Tree {
    /// Path code of each of `rows`, the same for any number of threads of `pool`: that of the nearest leaf that a beam of
    /// four nodes per level finds. Rows that a tree was built from lie where this puts them, until a leaf is divided.
    ///
    /// Cost: the centroids below the root and below four nodes of each level, per row.
    ///
    /// # Errors
    /// Those of [`Self::query`].
    pub fn place(&self, pool: &ThreadPool, rows: &Rows) -> Result<Vec<u64>> {
        self.place_below(pool, 0, rows)
    }

    /// As [`Self::place`], among the leaves below `node`.
    pub(super) fn place_below(
        &self,
        pool: &ThreadPool,
        node: u32,
        rows: &Rows,
    ) -> Result<Vec<u64>> {
        let path = |scratch: &mut Scratch, row: usize| {
            scratch.row.resize(rows.dim(), 0.0);
            rows.widen(row, &mut scratch.row);
            self.query(&scratch.row, &mut scratch.query)?;
            let leaf = self.nearest_leaf(node, scratch);
            Ok(self.nodes()[leaf as usize].code)
        };
        pool.install(|| {
            (0..rows.n_rows()).into_par_iter().map_init(Scratch::default, path).collect()
        })
    }

    /// The nearest leaf that the beam finds; `scratch.query` is what is placed.
    fn nearest_leaf(&self, node: u32, scratch: &mut Scratch) -> u32 {
        let Scratch { query, compared, beam, below, .. } = scratch;
        beam.clear();
        beam.push(Neighbor { slot: node, distance: 0.0 });
        let mut nearest: Option<Neighbor> = None;
        while !beam.is_empty() {
            below.clear();
            for above in beam.drain(..) {
                let own = self.nodes()[above.slot as usize];
                if own.n_children == 0 {
                    nearest = Some(nearest.map_or(above, |leaf| leaf.min(above)));
                    continue;
                }
                let children = own.first_child..own.first_child + u32::from(own.n_children);
                let distances = self.distances(query, children.clone(), compared);
                let met = children.zip(distances);
                below.extend(met.map(|(slot, &distance)| Neighbor { slot, distance }));
            }
            // Leaves need no second look, and take no place of nodes that do.
            let is_leaf = |child: &Neighbor| self.nodes()[child.slot as usize].n_children == 0;
            nearest = below.iter().copied().filter(is_leaf).chain(nearest).min();
            below.retain(|child| !is_leaf(child));
            below.sort_unstable();
            beam.extend(below.iter().take(BEAM));
        }
        nearest.expect("every node has a leaf below it").slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::metric::Metric;
    use crate::core::rows::Values;
    use crate::index::tree::node::Node;

    /// Leaves at 1, 9.4 and 30; two nodes at 5 and 20 above the last two and their neighbors at 4 and 10.
    fn tree() -> Tree {
        let node = |code: u64, first_child, n_children, level| Node {
            code,
            spread: 0.0,
            first_child,
            n_children,
            level,
        };
        let (second, third) = (1u64 << 58, 2u64 << 58);
        let nodes = vec![
            node(0, 1, 3, 0),
            node(0, 0, 0, 1),
            node(second, 4, 2, 1),
            node(third, 6, 2, 1),
            node(second, 0, 0, 2),
            node(second | 1 << 52, 0, 0, 2),
            node(third, 0, 0, 2),
            node(third | 1 << 52, 0, 0, 2),
        ];
        let centroids = vec![0.0, 1.0, 5.0, 20.0, 4.0, 9.4, 10.0, 30.0];
        Tree::new(nodes, Rows::new(Values::F32(centroids.into()), 1).unwrap(), Metric::L2).unwrap()
    }

    #[test]
    fn a_row_lies_in_the_nearest_leaf_even_below_a_farther_node() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let rows = |values: &[f32]| Rows::new(Values::F32(values.to_vec().into()), 1).unwrap();
        let (tree, third) = (tree(), 2u64 << 58);
        let placed = tree.place(&pool, &rows(&[0.9, 3.9, 11.0, 99.0])).unwrap();
        assert_eq!(placed, [0, 1 << 58, third, third | 1 << 52]);
        let below = tree.place_below(&pool, 2, &rows(&[0.9, 11.0])).unwrap();
        assert_eq!(below, [1 << 58, 1 << 58 | 1 << 52], "asked for one node's leaves alone");
        let wide = Rows::new(Values::F32(vec![9.0, 1.0].into()), 2).unwrap();
        assert_eq!(tree.place(&pool, &wide).unwrap_err().code(), "vector_dim");
    }
}
