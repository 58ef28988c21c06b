//! A tree and its tenants in sealed files.
//!
//! | section | elements | what |
//! |---|---|---|
//! | `tree.metric` | u8 `[n]` | the metric's name |
//! | `tree.children` | u32 `[n_nodes, 2]` | first child, children |
//! | `tree.spreads` | f32 `[n_nodes]` | |
//! | `tree.centroids` | f32 `[n_nodes, dim]` | |
//! | `tenants.ids` | u32 `[n_tenants]` | ascending |
//! | `tenants.ends` | u64 `[n_tenants]` | where each tenant's slots end |
//! | `tenants.slots` | u32 `[n]` | run after run |
//!
//! All of them lead a search to places in memory, so all are compared with their checksums when they are opened. Path
//! codes of nodes are not kept: their places give them.

use crate::core::limits::{TREE_FAN_OUT, TREE_LEVELS};
use crate::core::metric::Metric;
use crate::core::rows::{Rows, Values};
use crate::error::{Error, ErrorKind, Result};
use crate::index::tree::node::{Node, Tree};
use crate::index::tree::run::{Run, Tenants};
use crate::store::sealed::{Sealed, SealedWriter, Value};

/// The verified elements of a section and its shape.
fn verified<'s, T: Value>(sealed: &'s Sealed, name: &str) -> Result<(&'s [T], &'s [u64])> {
    sealed.verify_section(name)?;
    sealed.values(name)
}

fn corrupt(what: String) -> Error {
    Error::new(ErrorKind::Corrupt, "corrupt_file", what)
}

impl Tree {
    /// Sections that [`Self::seal`] writes.
    pub const N_SECTIONS: usize = 4;

    /// Writes the tree.
    ///
    /// # Errors
    /// Those of [`SealedWriter::section`] and [`SealedWriter::append`].
    pub fn seal(&self, writer: &mut SealedWriter<'_>) -> Result<()> {
        let (n_nodes, name) = (self.nodes().len() as u64, self.metric().name());
        writer.section::<u8>("tree.metric", &[name.len() as u64])?;
        writer.append(name.as_bytes())?;
        writer.section::<u32>("tree.children", &[n_nodes, 2])?;
        for node in self.nodes() {
            writer.append(&[node.first_child, u32::from(node.n_children)])?;
        }
        writer.section::<f32>("tree.spreads", &[n_nodes])?;
        let spreads: Vec<f32> = self.nodes().iter().map(|node| node.spread).collect();
        writer.append(&spreads)?;
        let Values::F32(centroids) = self.centroids().values() else {
            unreachable!("checked: centroids are f32")
        };
        writer.section::<f32>("tree.centroids", &[n_nodes, self.centroids().dim() as u64])?;
        writer.append(centroids)
    }

    /// The tree of a file. Cost: one pass over it, and a copy.
    ///
    /// # Errors
    /// `corrupt_file` if it is not what was written, or is no tree.
    pub fn open(sealed: &Sealed) -> Result<Self> {
        let (name, _) = verified::<u8>(sealed, "tree.metric")?;
        let metric = Metric::ALL.into_iter().find(|metric| metric.name().as_bytes() == name);
        let metric = metric.ok_or_else(|| {
            corrupt(format!("metric {:?} of a tree", String::from_utf8_lossy(name)))
        })?;
        let (children, _) = verified::<u32>(sealed, "tree.children")?;
        let (spreads, _) = verified::<f32>(sealed, "tree.spreads")?;
        let (centroids, shape) = verified::<f32>(sealed, "tree.centroids")?;
        let children = children.as_chunks::<2>().0;
        if children.len() != spreads.len() || shape.len() != 2 {
            let what = format!("{} nodes of a tree, {} spreads", children.len(), spreads.len());
            return Err(corrupt(what));
        }
        let as_corrupt = |error: Error| corrupt(format!("a tree: {error}"));
        let centroids = Rows::new(Values::F32(centroids.to_vec().into()), shape[1] as usize)
            .map_err(as_corrupt)?;
        Self::new(nodes(children, spreads)?, centroids, metric).map_err(as_corrupt)
    }
}

/// Nodes with the codes and levels that their places give them.
fn nodes(children: &[[u32; 2]], spreads: &[f32]) -> Result<Vec<Node>> {
    let mut nodes = vec![Node::default(); children.len()];
    for (i, (&[first_child, n_children], &spread)) in children.iter().zip(spreads).enumerate() {
        let wrong = || {
            corrupt(format!("node {i} of a tree has {n_children} children from {first_child} on"))
        };
        let n_children = u8::try_from(n_children).map_err(|_| wrong())?;
        nodes[i] = Node { first_child, n_children, spread, ..nodes[i] };
        let parent = nodes[i];
        if n_children == 0 {
            continue;
        }
        // What `Tree::new` looks at again, as far as codes can be computed at all.
        if usize::from(parent.level) >= TREE_LEVELS || usize::from(n_children) > TREE_FAN_OUT {
            return Err(wrong());
        }
        let below = first_child as usize..first_child as usize + usize::from(n_children);
        if below.start <= i {
            return Err(wrong());
        }
        for (digit, child) in nodes.get_mut(below).ok_or_else(wrong)?.iter_mut().enumerate() {
            (child.code, child.level) = (parent.child_code(digit), parent.level + 1);
        }
    }
    Ok(nodes)
}

impl Tenants {
    /// Sections that [`Self::seal`] writes.
    pub const N_SECTIONS: usize = 3;

    /// Writes all runs.
    ///
    /// # Errors
    /// Those of [`SealedWriter::section`] and [`SealedWriter::append`].
    pub fn seal(&self, writer: &mut SealedWriter<'_>) -> Result<()> {
        let ids: Vec<u32> = self.iter().map(|(tenant, _)| tenant).collect();
        let mut n_slots = 0;
        let end = |(_, run): (u32, &Run)| {
            n_slots += run.len() as u64;
            n_slots
        };
        let ends: Vec<u64> = self.iter().map(end).collect();
        writer.section::<u32>("tenants.ids", &[ids.len() as u64])?;
        writer.append(&ids)?;
        writer.section::<u64>("tenants.ends", &[ids.len() as u64])?;
        writer.append(&ends)?;
        writer.section::<u32>("tenants.slots", &[n_slots])?;
        self.iter().try_for_each(|(_, run)| writer.append(run.slots()))
    }

    /// The tenants of a file; `paths` has the path code of every slot. Cost: one pass over it, and a copy.
    ///
    /// # Errors
    /// `corrupt_file` if it is not what was written, or if a run is not in the order of these paths.
    pub fn open(sealed: &Sealed, paths: &[u64]) -> Result<Self> {
        let (ids, _) = verified::<u32>(sealed, "tenants.ids")?;
        let (ends, _) = verified::<u64>(sealed, "tenants.ends")?;
        let (slots, _) = verified::<u32>(sealed, "tenants.slots")?;
        let is_whole = ids.len() == ends.len()
            && ids.is_sorted_by(|a, b| a < b)
            && ends.is_sorted()
            && ends.last().copied().unwrap_or(0) == slots.len() as u64;
        if !is_whole {
            let what =
                format!("{} tenants with {} slots, {} ends", ids.len(), slots.len(), ends.len());
            return Err(corrupt(what));
        }
        let mut tenants = Self::default();
        let mut start = 0;
        for (&tenant, &end) in ids.iter().zip(ends) {
            let own = &slots[start..end as usize];
            let run = Run::new(own.to_vec(), paths)
                .map_err(|error| corrupt(format!("tenant {tenant}: {error}")))?;
            if run.slots() != own {
                return Err(corrupt(format!("tenant {tenant}: slots are not in tree order")));
            }
            tenants.replace(tenant, run);
            start = end as usize;
        }
        Ok(tenants)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::core::mix::stream;
    use crate::index::tree::build::BuildParams;
    use crate::index::tree::tests::{built, clustered};
    use crate::store::Identity;
    use crate::store::disk::FileDisk;

    const IDENTITY: Identity<'_> = Identity { kind: "tree", owner: 7, version: 3 };

    fn tenants(paths: &[u64]) -> Tenants {
        let mut tenants = Tenants::default();
        for tenant in [0, 5, 70_000, u32::MAX] {
            let own = |slot: &u32| stream(u64::from(tenant), u64::from(*slot)).is_multiple_of(3);
            let slots = (0..paths.len() as u32).filter(own).collect();
            tenants.replace(tenant, Run::new(slots, paths).unwrap());
        }
        tenants.create(6);
        tenants
    }

    #[test]
    fn what_was_sealed_is_opened_and_no_flip_of_a_byte_goes_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tree.sealed");
        for metric in Metric::ALL {
            let rows = clustered(700, 3, 1);
            let built = built(&rows, metric, &BuildParams::default(), 1);
            let tenants = tenants(&built.paths);
            let n_sections = Tree::N_SECTIONS + Tenants::N_SECTIONS;
            let mut writer = SealedWriter::create(&FileDisk, &path, IDENTITY, n_sections).unwrap();
            built.tree.seal(&mut writer).unwrap();
            tenants.seal(&mut writer).unwrap();
            writer.finish().unwrap();
            let open = || -> Result<(Tree, Tenants)> {
                let sealed = Sealed::open(&FileDisk, &path, IDENTITY)?;
                Ok((Tree::open(&sealed)?, Tenants::open(&sealed, &built.paths)?))
            };
            assert_eq!(open().unwrap(), (built.tree.clone(), tenants));
            let sealed = Sealed::open(&FileDisk, &path, IDENTITY).unwrap();
            let other: Vec<u64> = built.paths.iter().rev().copied().collect();
            assert_eq!(Tenants::open(&sealed, &other).unwrap_err().code(), "corrupt_file");
            assert_eq!(Tenants::open(&sealed, &other[..9]).unwrap_err().code(), "corrupt_file");
            let bytes = fs::read(&path).unwrap();
            for at in (0..bytes.len()).step_by(13) {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << (at % 8);
                fs::write(&path, damaged).unwrap();
                let error = open().expect_err("a flip");
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
            }
        }
    }

    #[test]
    fn numbers_that_make_no_tree_are_refused_before_they_lead_anywhere() {
        let refused = |children: &[[u32; 2]]| {
            let spreads = vec![0.0; children.len()];
            nodes(children, &spreads).expect_err("refused").code()
        };
        for damaged in [[0, 2], [9, 1], [1, 65], [1, 300], [u32::MAX, 64], [2, 2]] {
            assert_eq!(refused(&[damaged, [0, 0], [0, 0]]), "corrupt_file", "{damaged:?}");
        }
        let chain: Vec<[u32; 2]> = (1..12).map(|next| [next, 1]).chain([[0, 0]]).collect();
        assert_eq!(refused(&chain), "corrupt_file", "deeper than path codes");
    }
}
