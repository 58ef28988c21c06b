//! Removal in place: the slots that linked to the removed one get new links, and no walk meets it again.
//!
//! Paper: Xu et al., "In-place updates of a graph index for streaming approximate nearest neighbor search", 2025
//! (IP-DiskANN), algorithm 5 and section 4. Ours: dead slots count as visited, so that links which were not found lead
//! nowhere; they are dropped before their slot is used again.

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::core::neighbors::Neighbor;
use crate::error::{Error, Result};
use crate::index::graph::distances::Distances;
use crate::index::graph::layers::{Layer, drop_links};
use crate::index::graph::search::Scratch;
use crate::index::graph::select::select;
use crate::index::graph::{Graph, next_version};

/// Width of the beam that looks for what linked to a slot.
const EF: usize = 64;

/// How many times as many slots as the share of `1 / m` an upper level may have before removals make it smaller.
const CROWD: f64 = 2.0;

/// Slots near the removed one that may stand in for it.
const N_CANDIDATES: usize = 32;

impl Graph {
    /// Removes slots, whose rows `distances` must still hold. Cost: about that of a search and an insertion each.
    ///
    /// # Errors
    /// `slot_absent` if a slot has no row or is listed twice, `slot_range` if the distances do not cover the slots: nothing
    /// is then removed.
    pub fn remove<D: Distances>(
        &mut self,
        distances: &D,
        slots: &[u32],
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.check_distances(distances)?;
        let mut sorted = slots.to_vec();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        if let Some(slot) = twice.or(slots.iter().copied().find(|&slot| !self.contains(slot))) {
            return Err(Error::usage("slot_absent", format!("slot {slot} has no row to remove")));
        }
        self.unguard()?;
        slots.iter().for_each(|&slot| self.remove_one(distances, slot, scratch));
        Ok(())
    }

    fn remove_one<D: Distances>(&mut self, distances: &D, slot: u32, scratch: &mut Scratch) {
        self.dead[slot as usize / 64] |= 1 << (slot % 64);
        self.stale[slot as usize / 64] |= 1 << (slot % 64);
        self.version = next_version();
        self.n_live -= 1;
        let query = distances.query_of(slot);
        let is_on = |layer: &&Layer| layer.places.contains_key(&slot);
        let top = self.upper.iter().take_while(is_on).count();
        let mut heirs = Vec::new();
        for level in 0..=top {
            let near = self.around(distances, &query, level, slot, scratch);
            self.mend(distances, level, slot, &near);
            if level == 0 {
                heirs = near;
            }
        }
        for level in 1..=top {
            self.hand_over(distances, level, &heirs, scratch);
        }
        while self.upper.last().is_some_and(|layer| layer.slots.is_empty()) {
            self.upper.pop();
        }
        self.replace_entry(slot);
    }

    /// The slots of a level around a removed one, nearest first: those that a walk from its links meets.
    fn around<D: Distances>(
        &self,
        distances: &D,
        query: &D::Query,
        level: usize,
        slot: u32,
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        let links = self.links_at(level, slot).iter().copied();
        let links: Vec<u32> = links.chain(self.entry).filter(|&to| !self.is_dead(to)).collect();
        let mut start = measured(distances, query, &links);
        start.sort_unstable();
        start.dedup();
        self.beam(distances, query, level, &start, (EF.max(self.width()), 0), scratch);
        scratch.pool.neighbors().collect()
    }

    /// Takes a slot from a level: what linked to it chooses its links anew, and what it linked to gets another link.
    fn mend<D: Distances>(&mut self, distances: &D, level: usize, slot: u32, near: &[Neighbor]) {
        let links = self.links_at(level, slot).iter().copied();
        let lost: Vec<u32> = links.filter(|&to| !self.is_dead(to)).collect();
        let candidates: Vec<u32> = near.iter().take(N_CANDIDATES).map(|near| near.slot).collect();
        let linked: Vec<u32> = if level == 0 {
            self.set_links(slot, &[]);
            let is_linked = |from: &&Neighbor| self.links(from.slot).contains(&slot);
            near.iter().filter(is_linked).map(|from| from.slot).collect()
        } else {
            self.upper[level - 1].remove(slot, self.params.m)
        };
        for from in linked {
            self.stand_in(distances, level, from, &candidates);
        }
        for to in lost {
            self.keep_reachable(distances, level, to, &candidates);
        }
    }

    /// Chooses the links of `from` anew, among those to slots with a row and the candidates.
    fn stand_in<D: Distances>(
        &mut self,
        distances: &D,
        level: usize,
        from: u32,
        candidates: &[u32],
    ) {
        let links = self.links_at(level, from).iter().copied().filter(|&to| !self.is_dead(to));
        let mut all: Vec<u32> = links.chain(candidates.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all.retain(|&to| to != from);
        let mut all = measured(distances, &distances.query_of(from), &all);
        all.sort_unstable();
        let kept = select(distances, all, self.width_at(level));
        let links: Vec<u32> = kept.iter().map(|neighbor| neighbor.slot).collect();
        self.write_links(level, from, &links);
    }

    /// Links the candidate that is nearest to `to`, which has lost a link to it, with it.
    fn keep_reachable<D: Distances>(
        &mut self,
        distances: &D,
        level: usize,
        to: u32,
        candidates: &[u32],
    ) {
        let others: Vec<u32> = candidates.iter().copied().filter(|&from| from != to).collect();
        let nearest = measured(distances, &distances.query_of(to), &others).into_iter().min();
        let Some(Neighbor { slot: from, distance }) = nearest else { return };
        if !self.links_at(level, from).contains(&to) {
            let links = self.joined(distances, level, &[(from, Neighbor { slot: to, distance })]);
            self.write_links(level, from, &links);
        }
    }

    /// Raises the nearest slot that is on the level below and not on this one, unless the level is crowded: a region that
    /// lost its only slot could no longer be found from above.
    fn hand_over<D: Distances>(
        &mut self,
        distances: &D,
        level: usize,
        heirs: &[Neighbor],
        scratch: &mut Scratch,
    ) {
        let expected = self.n_live as f64 / (self.params.m as f64).powi(level as i32);
        let is_on = |level: usize, slot: u32| {
            level == 0 || self.upper[level - 1].places.contains_key(&slot)
        };
        let is_heir = |slot: &u32| is_on(level - 1, *slot) && !is_on(level, *slot);
        let heir = heirs.iter().map(|near| near.slot).find(is_heir);
        let Some(heir) = heir else { return };
        if self.upper[level - 1].slots.len() as f64 >= CROWD * expected {
            return;
        }
        let query = distances.query_of(heir);
        let start: Vec<u32> = heirs.iter().map(|near| near.slot).chain(self.entry).collect();
        let start: Vec<u32> =
            start.into_iter().filter(|&slot| is_on(level, slot) && !self.is_dead(slot)).collect();
        let mut start = measured(distances, &query, &start);
        start.sort_unstable();
        start.dedup();
        let ef = self.params.ef_construction;
        self.beam(distances, &query, level, &start, (ef, 0), scratch);
        let found = select(distances, scratch.pool.neighbors().collect(), self.params.m);
        let links: Vec<u32> = found.iter().map(|neighbor| neighbor.slot).collect();
        self.write_links(level, heir, &links);
        for near in found {
            let back = (near.slot, Neighbor { slot: heir, distance: near.distance });
            let links = self.joined(distances, level, &[back]);
            self.write_links(level, near.slot, &links);
        }
    }

    /// Another slot of the highest level, if `gone` was the entry point.
    fn replace_entry(&mut self, gone: u32) {
        if self.entry == Some(gone) {
            let first_live = || {
                let word = self.dead.iter().position(|&word| word != u64::MAX)?;
                Some(word as u32 * 64 + self.dead[word].trailing_ones())
            };
            self.entry = match self.upper.last() {
                Some(layer) => layer.slots.iter().copied().min(),
                None => first_live(),
            };
        }
    }

    /// Drops all links to slots without a row, so that these can be used again. Cost: one pass over all links.
    ///
    /// # Errors
    /// `corrupt_file` if links of a file are damaged.
    pub fn sweep(&mut self, pool: &ThreadPool) -> Result<()> {
        self.unguard()?;
        let (width, dead) = (self.width(), &self.dead);
        let is_dead = |slot: u32| dead[slot as usize / 64] >> (slot % 64) & 1 == 1;
        pool.install(|| {
            let lists = self.links.to_mut().par_chunks_exact_mut(width).with_min_len(1024);
            lists.for_each(|list| {
                drop_links(list, is_dead);
            });
        });
        self.stale.fill(0);
        Ok(())
    }
}

/// The distances of `slots`, in their order.
pub(super) fn measured<D: Distances>(
    distances: &D,
    query: &D::Query,
    slots: &[u32],
) -> Vec<Neighbor> {
    let mut out = vec![0.0; slots.len()];
    distances.measure(query, slots, &mut out);
    slots.iter().zip(out).map(|(&slot, distance)| Neighbor { slot, distance }).collect()
}
