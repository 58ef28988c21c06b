//! Skeletons: the part of the tree that a run fills.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::index::tree::node::Tree;
use crate::index::tree::run::{Run, path_of};

/// Rows of a part that is not divided further.
pub const MAX_LIST: usize = 128;

/// A stretch of a run, and the deepest node of the tree that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where the stretch begins in the run.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// Index of the first child; children follow one another.
    pub first_child: u32,
    /// Children; 0 for a list, whose rows are compared with a query.
    pub n_children: u32,
    /// The node of the tree.
    pub node: u32,
}

impl Part {
    /// The stretch.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The parts of a run, the whole run first, parents before their children. Lists tile the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    parts: Vec<Part>,
}

impl Skeleton {
    /// The skeleton over a run, with the path code of every slot: those that the run was sorted by. Parts of more than
    /// `max_list` rows are divided while the tree is; a node with a single child in use is passed over.
    ///
    /// Cost: a binary search per part, in path codes alone: no vector is read, and few of the codes.
    ///
    /// # Errors
    /// `max_list` if it is 0; `slot_range`; `path_code` for a code that is not of this tree.
    pub fn build(tree: &Tree, paths: &[u64], run: &Run, max_list: usize) -> Result<Self> {
        if max_list == 0 {
            return Err(Error::usage("max_list", "0, expected at least 1"));
        }
        let path = |place: usize| path_of(paths, run.slots()[place]);
        let whole =
            Part { start: 0, end: run.len() as u32, first_child: 0, n_children: 0, node: 0 };
        let mut skeleton = Self { parts: vec![whole] };
        let mut at = 0;
        while at < skeleton.parts.len() {
            skeleton.divide(at, tree, path, max_list)?;
            at += 1;
        }
        skeleton.parts.shrink_to_fit();
        Ok(skeleton)
    }

    /// Gives part `at` its children, if it is to have any.
    fn divide(
        &mut self,
        at: usize,
        tree: &Tree,
        path: impl Fn(usize) -> Result<u64>,
        max_list: usize,
    ) -> Result<()> {
        let Part { start, end, mut node, .. } = self.parts[at];
        if (end - start) as usize <= max_list {
            return Ok(());
        }
        loop {
            let own = tree.nodes()[node as usize];
            if own.n_children == 0 {
                break;
            }
            let first = self.parts.len();
            let mut place = start as usize;
            while place < end as usize {
                let code = path(place)?;
                let digit = own.child_of(code);
                if digit >= usize::from(own.n_children) {
                    let message = format!("{code:016x} leads to no leaf of the tree");
                    return Err(Error::new(ErrorKind::BadInput, "path_code", message));
                }
                let child = own.first_child + digit as u32;
                let last = tree.nodes()[child as usize].last_code();
                let stop = after(place, end as usize, |i| Ok(path(i)? <= last))?;
                self.parts.push(Part {
                    start: place as u32,
                    end: stop as u32,
                    first_child: 0,
                    n_children: 0,
                    node: child,
                });
                place = stop;
            }
            if self.parts.len() > first + 1 {
                self.parts[at].first_child = first as u32;
                self.parts[at].n_children = (self.parts.len() - first) as u32;
                break;
            }
            node = self.parts.pop().expect("a part that is not empty").node;
        }
        self.parts[at].node = node;
        Ok(())
    }

    /// The parts.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Slots of the run that this was built over.
    pub fn n_rows(&self) -> usize {
        self.parts[0].end as usize
    }

    /// Bytes of the parts.
    pub fn n_bytes(&self) -> u64 {
        (self.parts.capacity() * size_of::<Part>()) as u64
    }
}

/// The first place of `start..end` at which `holds`, which is true of a prefix of them and of `start`, is false. In steps
/// that double, so that short stretches cost little.
fn after(start: usize, end: usize, holds: impl Fn(usize) -> Result<bool>) -> Result<usize> {
    let (mut low, mut step) = (start, 1);
    while low + step < end && holds(low + step)? {
        low += step;
        step *= 2;
    }
    let (mut low, mut high) = (low + 1, (low + step).min(end));
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_steps_find_where_a_prefix_ends() {
        for end in 1..40 {
            for n in 1..=end {
                assert_eq!(after(0, end, |i| Ok(i < n)).unwrap(), n, "{n} of {end}");
                assert_eq!(after(5, end + 5, |i| Ok(i < n + 5)).unwrap(), n + 5);
            }
        }
    }
}
