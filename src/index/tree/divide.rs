//! Leaves that have grown get leaves of their own; all other rows stay where they are.

use rayon::ThreadPool;

use crate::backend::Backend;
use crate::core::limits::TREE_LEVELS;
use crate::core::rows::{Rows, Values};
use crate::error::{Error, ErrorKind, Result};
use crate::index::tree::build::{BuildParams, centre, trained};
use crate::index::tree::node::{BITS, Node, Tree};

impl Tree {
    /// The leaf of a path code.
    ///
    /// # Errors
    /// `path_code` if it leads to none.
    pub fn leaf_of(&self, code: u64) -> Result<u32> {
        let mut leaf = 0;
        loop {
            let node = self.nodes()[leaf as usize];
            if node.n_children == 0 {
                return Ok(leaf);
            }
            let digit = node.child_of(code);
            if digit >= usize::from(node.n_children) {
                let message = format!("{code:016x} leads to no leaf of the tree");
                return Err(Error::new(ErrorKind::BadInput, "path_code", message));
            }
            leaf = node.first_child + digit as u32;
        }
    }

    /// Leaves with more than `most` of the rows whose path codes these are, with how many they have, in tree order.
    /// Cost: one pass, and a sort if the codes are in no order.
    ///
    /// # Errors
    /// `path_code`.
    pub fn crowded(
        &self,
        paths: impl IntoIterator<Item = u64>,
        most: usize,
    ) -> Result<Vec<(u32, usize)>> {
        let mut paths: Vec<u64> = paths.into_iter().collect();
        if !paths.is_sorted() {
            paths.sort_unstable();
        }
        let mut found = Vec::new();
        let mut rest = &paths[..];
        while let Some(&code) = rest.first() {
            let leaf = self.leaf_of(code)?;
            let last = self.nodes()[leaf as usize].last_code();
            let n = rest.partition_point(|&path| path <= last);
            if n > most {
                found.push((leaf, n));
            }
            rest = &rest[n..];
        }
        Ok(found)
    }

    /// Gives a leaf a sub-tree that is built from `rows`, the rows that lie in it now; returns their new path codes, with
    /// which their runs are put in order again by [`super::Run::resort`] on the leaf. The leaf's own centroid moves to
    /// their mean. Codes of rows outside the leaf stay, and codes of rows in it that are not given stay valid. Skeletons
    /// over runs with rows of the leaf are to be built again.
    ///
    /// `None`, and nothing has changed, if the leaf cannot be divided: it has no more than `max_leaf` rows, all are
    /// equal, or it is at the last level.
    ///
    /// Cost: as [`super::build()`] for those rows, and a copy of nodes and centroids.
    ///
    /// # Errors
    /// `tree_leaf` for what is no leaf, `vector_dim`; those of [`super::build()`]. Then nothing has changed.
    pub fn divide(
        &mut self,
        (backend, pool): (&dyn Backend, &ThreadPool),
        leaf: u32,
        rows: &Rows,
        params: &BuildParams,
    ) -> Result<Option<Vec<u64>>> {
        let own = self.nodes().get(leaf as usize).filter(|node| node.n_children == 0).copied();
        let Some(own) = own else {
            let message = format!("node {leaf} of {} is no leaf", self.nodes().len());
            return Err(Error::usage("tree_leaf", message));
        };
        let (metric, dim) = (self.metric(), self.centroids().dim());
        if rows.dim() != dim {
            let message = format!("rows of {} values, the tree's have {dim}", rows.dim());
            return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
        }
        let n_levels = TREE_LEVELS - usize::from(own.level);
        let below = trained((backend, pool), rows, metric, params, n_levels)?;
        if below.nodes().len() == 1 {
            return Ok(None);
        }
        let (centroid, spread) = centre(backend, rows, metric)?;
        let (mut nodes, mut centroids) = self.clone().into_parts();
        let (more, more_centroids) = below.into_parts();
        centroids[leaf as usize * dim..][..dim].copy_from_slice(&centroid);
        centroids.extend_from_slice(&more_centroids[dim..]);
        // The sub-tree's root is the leaf; its other nodes follow all that are there.
        let moved = nodes.len() as u32 - 1;
        let grafted = |node: &Node| Node {
            code: own.code | node.code >> (BITS * u32::from(own.level)),
            first_child: if node.n_children > 0 { node.first_child + moved } else { 0 },
            level: node.level + own.level,
            ..*node
        };
        nodes[leaf as usize] = Node { spread, ..grafted(&more[0]) };
        nodes.extend(more[1..].iter().map(grafted));
        let divided = Self::new(nodes, Rows::new(Values::F32(centroids.into()), dim)?, metric)?;
        let paths = divided.place_below(pool, leaf, rows)?;
        *self = divided;
        Ok(Some(paths))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::core::metric::Metric;
    use crate::index::tree::run::{Run, Tenants};
    use crate::index::tree::tests::{around, built, clustered, joined, pool, recall};

    /// A tree of 4,000 rows that has grown by 12,000 rows around other centres, and is divided until no leaf is crowded.
    #[test]
    fn a_tree_that_has_grown_four_times_answers_as_well_as_a_new_one() {
        for (seed, metric) in (0..).zip(Metric::ALL) {
            let params = BuildParams { seed, ..BuildParams::default() };
            let base = clustered(4000, 24, 10 * seed + 1);
            let first = built(&base, metric, &params, 2);
            let later = around(5, 12_000, 24, 10 * seed + 2);
            let rows = joined(&first.ordered(&base), &later);
            let (mut tree, mut paths, pool) = (first.tree, first.paths, pool(2));
            let backend = Cpu::new(pool.clone(), 1 << 32);
            paths.extend(tree.place(&pool, &later).unwrap());
            let mut tenants = Tenants::default();
            for tenant in 0..3u32 {
                let own = (0..16_000).filter(|slot| slot % 3 == tenant || slot % 5 == 0);
                tenants.replace(tenant, Run::new(own.collect(), &paths).unwrap());
            }
            let most = 2 * params.max_leaf;
            let crowded = tree.crowded(paths.iter().copied(), most).unwrap();
            assert!(!crowded.is_empty(), "{metric}");
            for (leaf, n) in crowded {
                let node = tree.nodes()[leaf as usize];
                let before = paths.clone();
                let own = |slot: &usize| before[*slot] == node.code;
                let slots: Vec<usize> = (0..16_000).filter(own).collect();
                assert_eq!(slots.len(), n);
                let codes =
                    tree.divide((&backend, &pool), leaf, &rows.picked(&slots), &params).unwrap();
                for (&slot, code) in slots.iter().zip(codes.expect("rows that differ")) {
                    assert!((node.code..=node.last_code()).contains(&code));
                    assert_eq!(tree.nodes()[tree.leaf_of(code).unwrap() as usize].code, code);
                    paths[slot] = code;
                }
                tenants.resort(&node, &paths).unwrap();
            }
            assert!(tree.crowded(paths.iter().copied(), most).unwrap().is_empty(), "{metric}");
            for (tenant, run) in tenants.iter() {
                let again = Run::new(run.slots().to_vec(), &paths).unwrap();
                assert_eq!(*run, again, "{metric}: run {tenant} is in order");
            }
            let all = Run::new((0..16_000).collect(), &paths).unwrap();
            let fresh = built(&rows, metric, &params, 2);
            let fresh_rows = fresh.ordered(&rows);
            let whole = Run::new((0..16_000).collect(), &fresh.paths).unwrap();
            let queries =
                joined(&clustered(50, 24, 10 * seed + 3), &around(5, 50, 24, 10 * seed + 4));
            let (grown, share) = recall((&tree, &paths), &rows, (&all, &queries), 64);
            let on = (&fresh.tree, &fresh.paths[..]);
            let (new, new_share) = recall(on, &fresh_rows, (&whole, &queries), 64);
            assert!(grown >= new - 0.02, "{metric}: {grown}, a new one {new}");
            // Leaves that are not crowded yet have up to four times as many rows as new ones.
            assert!(share <= 3.0 * new_share, "{metric}: {share}, a new one {new_share}");
        }
    }

    #[test]
    fn what_cannot_be_divided_stays() {
        let rows = Rows::new(Values::F32(vec![0.5; 2000].into()), 2).unwrap();
        let params = BuildParams::default();
        let mut tree = built(&rows, Metric::L2, &params, 1).tree;
        let (before, pool) = (tree.clone(), pool(1));
        let backend = Cpu::new(pool.clone(), 1 << 32);
        let mut divide = |leaf, rows: &Rows| tree.divide((&backend, &pool), leaf, rows, &params);
        assert_eq!(divide(0, &rows).unwrap(), None, "equal rows");
        assert_eq!(divide(0, &clustered(100, 2, 1)).unwrap(), None, "few rows");
        assert_eq!(divide(1, &rows).unwrap_err().code(), "tree_leaf");
        assert_eq!(divide(0, &clustered(500, 3, 1)).unwrap_err().code(), "vector_dim");
        assert_eq!(divide(0, &clustered(500, 2, 1)).unwrap().map(|codes| codes.len()), Some(500));
        assert_eq!(divide(0, &rows).unwrap_err().code(), "tree_leaf", "no leaf any more");
        assert_ne!(tree, before);
        assert_eq!(tree.crowded([u64::MAX], 0).unwrap_err().code(), "path_code");
    }
}
