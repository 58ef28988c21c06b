//! Runs: the rows of a tenant or of a filter, in tree order.
//!
//! A run is an array of slots, sorted by path code and, among equal codes, by slot. Where rows lie in tree order, as in a
//! sealed base, that is the order of the slots; slots that were added later stand where their paths put them. Path codes
//! of all slots are kept once and shared by all runs.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::index::tree::node::Node;

/// Bytes that a map takes per tenant beside the slots: key and value of [`Tenants`] at the least fill of a B-tree, which
/// is five of eleven, and a share of the node's own fields.
const ENTRY_BYTES: u64 = 80;

/// Slots in tree order, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    slots: Vec<u32>,
}

pub(super) fn path_of(paths: &[u64], slot: u32) -> Result<u64> {
    paths.get(slot as usize).copied().ok_or_else(|| {
        let message = format!("slot {slot} of {} path codes", paths.len());
        Error::new(ErrorKind::BadInput, "slot_range", message)
    })
}

impl Run {
    /// The run of `slots`, in any order; `paths` has the path code of every slot. Cost: one pass where they are in tree
    /// order already, otherwise a sort.
    ///
    /// # Errors
    /// `slot_range` for a slot without a path code, `slot_twice`.
    pub fn new(mut slots: Vec<u32>, paths: &[u64]) -> Result<Self> {
        slots.iter().try_for_each(|&slot| path_of(paths, slot).map(|_| ()))?;
        let key = |slot: u32| (paths[slot as usize], slot);
        if !slots.is_sorted_by_key(|&slot| key(slot)) {
            slots.sort_unstable_by_key(|&slot| key(slot));
        }
        if let Some(pair) = slots.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::usage("slot_twice", format!("slot {} stands twice", pair[0])));
        }
        slots.shrink_to_fit();
        Ok(Self { slots })
    }

    /// The slots.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// How many rows there are: exact.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of the slots, those that are reserved included.
    pub fn n_bytes(&self) -> u64 {
        (self.slots.capacity() * size_of::<u32>()) as u64
    }

    /// Puts the slots below a node, whose path codes have changed and still lie below it, in order again. Cost: one pass,
    /// and a sort of those slots.
    ///
    /// # Errors
    /// `slot_range`; then nothing has changed.
    pub fn resort(&mut self, node: &Node, paths: &[u64]) -> Result<()> {
        if let Some(last) = self.slots.iter().max() {
            path_of(paths, *last)?;
        }
        let start = self.slots.partition_point(|&slot| paths[slot as usize] < node.code);
        let n =
            self.slots[start..].partition_point(|&slot| paths[slot as usize] <= node.last_code());
        self.slots[start..start + n].sort_unstable_by_key(|&slot| (paths[slot as usize], slot));
        Ok(())
    }

    /// Where `slot` stands, or where it would.
    fn find(&self, slot: u32, paths: &[u64]) -> Result<Result<usize, usize>> {
        let key = (path_of(paths, slot)?, slot);
        if let Some(&last) = self.slots.last() {
            path_of(paths, last)?;
        }
        Ok(self.slots.binary_search_by_key(&key, |&other| (paths[other as usize], other)))
    }

    /// Whether `slot` is in the run.
    ///
    /// # Errors
    /// `slot_range`.
    pub fn contains(&self, slot: u32, paths: &[u64]) -> Result<bool> {
        Ok(self.find(slot, paths)?.is_ok())
    }

    /// Adds a slot; whether it was not there. Cost: a binary search, and the slots behind it move.
    ///
    /// # Errors
    /// `slot_range`.
    pub fn insert(&mut self, slot: u32, paths: &[u64]) -> Result<bool> {
        let Err(place) = self.find(slot, paths)? else { return Ok(false) };
        if self.slots.len() == self.slots.capacity() {
            // A quarter more, where a vector would double: most runs grow rarely.
            self.slots.reserve_exact(self.slots.len() / 4 + 1);
        }
        self.slots.insert(place, slot);
        Ok(true)
    }

    /// Removes a slot, whose path code must be the one it was added with; whether it was there. Cost: as
    /// [`Self::insert`].
    ///
    /// # Errors
    /// `slot_range`.
    pub fn remove(&mut self, slot: u32, paths: &[u64]) -> Result<bool> {
        let Ok(place) = self.find(slot, paths)? else { return Ok(false) };
        self.slots.remove(place);
        if self.slots.is_empty() || self.slots.len() < self.slots.capacity() / 2 {
            self.slots.shrink_to_fit();
        }
        Ok(true)
    }
}

/// Which rows each tenant may read: one run for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants {
    runs: BTreeMap<u32, Run>,
}

impl Tenants {
    /// Makes a tenant without rows; whether it was not there.
    pub fn create(&mut self, tenant: u32) -> bool {
        let is_new = !self.runs.contains_key(&tenant);
        self.runs.entry(tenant).or_default();
        is_new
    }

    /// Lets a tenant, which is made if it is not there, read `slot`; whether it could not before.
    ///
    /// # Errors
    /// `slot_range`; then nothing has changed.
    pub fn grant(&mut self, tenant: u32, slot: u32, paths: &[u64]) -> Result<bool> {
        path_of(paths, slot)?;
        self.runs.entry(tenant).or_default().insert(slot, paths)
    }

    /// Takes back a grant; whether there was one. The tenant stays, with no rows if it was the last.
    ///
    /// # Errors
    /// `slot_range`.
    pub fn revoke(&mut self, tenant: u32, slot: u32, paths: &[u64]) -> Result<bool> {
        match self.runs.get_mut(&tenant) {
            Some(run) => run.remove(slot, paths),
            None => path_of(paths, slot).map(|_| false),
        }
    }

    /// Sets all rows of a tenant at once; gives back those that it had.
    pub fn replace(&mut self, tenant: u32, run: Run) -> Option<Run> {
        self.runs.insert(tenant, run)
    }

    /// Forgets a tenant; gives back its rows. Cost: no look at them.
    pub fn remove(&mut self, tenant: u32) -> Option<Run> {
        self.runs.remove(&tenant)
    }

    /// [`Run::resort`] for every tenant.
    ///
    /// # Errors
    /// `slot_range`.
    pub fn resort(&mut self, node: &Node, paths: &[u64]) -> Result<()> {
        self.runs.values_mut().try_for_each(|run| run.resort(node, paths))
    }

    /// The rows of a tenant; `None` for one that is not there.
    pub fn run(&self, tenant: u32) -> Option<&Run> {
        self.runs.get(&tenant)
    }

    /// All tenants and their rows, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Run)> {
        self.runs.iter().map(|(&tenant, run)| (tenant, run))
    }

    /// How many tenants there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes of all runs and of the map; of the map no more is in use.
    pub fn n_bytes(&self) -> u64 {
        self.runs.values().map(|run| ENTRY_BYTES + run.n_bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::core::mix::stream;

    /// 400 slots in tree order, and 100 that were added later, anywhere.
    fn paths() -> Vec<u64> {
        let base = (0..400).map(|slot| (slot / 7) << 52);
        base.chain((0..100).map(|slot| (stream(1, slot) % 57) << 52)).collect()
    }

    #[test]
    fn a_storm_of_grants_and_revokes_ends_where_a_map_of_sets_does() {
        let (paths, mut tenants) = (paths(), Tenants::default());
        let mut model: BTreeMap<u32, BTreeSet<(u64, u32)>> = BTreeMap::new();
        for step in 0..60_000u64 {
            let random = |i| stream(2, step * 4 + i);
            // Half of the tenants lie beyond 16 bits.
            let tenant = (random(0) % 40) as u32 * 4_000_000;
            let slot = (random(1) % 500) as u32;
            let key = (paths[slot as usize], slot);
            match random(2) % 1000 {
                0 => assert_eq!(
                    tenants.remove(tenant).map(|run| run.len()),
                    model.remove(&tenant).map(|set| set.len())
                ),
                1 => assert_eq!(tenants.create(tenant), {
                    let is_new = !model.contains_key(&tenant);
                    model.entry(tenant).or_default();
                    is_new
                }),
                2..600 => assert_eq!(
                    tenants.grant(tenant, slot, &paths).unwrap(),
                    model.entry(tenant).or_default().insert(key)
                ),
                _ => assert_eq!(
                    tenants.revoke(tenant, slot, &paths).unwrap(),
                    model.get_mut(&tenant).is_some_and(|set| set.remove(&key))
                ),
            }
        }
        assert_eq!(tenants.len(), model.len());
        for ((tenant, run), (expected, set)) in tenants.iter().zip(&model) {
            let slots: Vec<u32> = set.iter().map(|&(_, slot)| slot).collect();
            assert_eq!((tenant, run.slots(), run.len()), (*expected, &slots[..], set.len()));
            assert_eq!(
                *run,
                Run::new(set.iter().rev().map(|key| key.1).collect(), &paths).unwrap()
            );
            for slot in 0..500 {
                let key = (paths[slot as usize], slot);
                assert_eq!(run.contains(slot, &paths).unwrap(), set.contains(&key));
            }
        }
    }

    #[test]
    fn small_tenants_take_few_bytes() {
        let (paths, mut tenants) = (paths(), Tenants::default());
        tenants.create(1 << 31);
        assert!(tenants.n_bytes() < 100);
        for slot in [3, 499, 200] {
            tenants.grant(1 << 31, slot, &paths).unwrap();
        }
        assert!(tenants.n_bytes() < 100, "{}", tenants.n_bytes());
        for slot in 0..400 {
            tenants.grant(7, slot, &paths).unwrap();
        }
        assert!(tenants.run(7).unwrap().n_bytes() <= 400 * 5);
        for slot in 0..400 {
            tenants.revoke(7, slot, &paths).unwrap();
        }
        assert_eq!(tenants.run(7).unwrap().n_bytes(), 0);
    }

    #[test]
    fn slots_that_are_not_there_and_slots_that_stand_twice_are_refused() {
        let (paths, mut tenants) = (paths(), Tenants::default());
        assert_eq!(tenants.grant(5, 500, &paths).unwrap_err().code(), "slot_range");
        assert_eq!(tenants.revoke(5, 500, &paths).unwrap_err().code(), "slot_range");
        assert!(tenants.is_empty());
        assert_eq!(Run::new(vec![1, 500], &paths).unwrap_err().code(), "slot_range");
        assert_eq!(Run::new(vec![450, 1, 450], &paths).unwrap_err().code(), "slot_twice");
    }
}
