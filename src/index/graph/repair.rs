//! Whether every slot can be reached, and links for those that cannot.

use std::collections::VecDeque;

use crate::error::Result;
use crate::index::graph::Graph;
use crate::index::graph::build::DESCENT_EF;
use crate::index::graph::distances::Distances;
use crate::index::graph::layers::NONE;
use crate::index::graph::remove::measured;
use crate::index::graph::search::Scratch;

/// Width of the beam that looks for a slot to be linked from.
const EF: usize = 64;

/// What [`Graph::check`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Slots with a row.
    pub n_live: usize,
    /// Those that no chain of links leads to from the entry point.
    pub n_unreachable: usize,
    /// Links to slots without a row: walks pass them over, [`Graph::sweep`] drops them.
    pub n_stale_links: usize,
}

/// Through which slot of a level each was reached first; the entry point through itself.
struct Reached {
    level: usize,
    parents: Vec<u32>,
    queue: VecDeque<u32>,
}

impl Reached {
    /// All that can be reached on a level from the entry point.
    fn from_entry(graph: &Graph, level: usize) -> Self {
        let parents = vec![NONE; graph.n_slots()];
        let mut reached = Self { level, parents, queue: VecDeque::new() };
        if let Some(entry) = graph.entry {
            reached.reach(entry, entry);
            reached.spread(graph);
        }
        reached
    }

    fn has(&self, slot: u32) -> bool {
        self.parents[slot as usize] != NONE
    }

    fn reach(&mut self, slot: u32, from: u32) {
        if !self.has(slot) {
            self.parents[slot as usize] = from;
            self.queue.push_back(slot);
        }
    }

    /// Follows all links of what was reached last.
    fn spread(&mut self, graph: &Graph) {
        while let Some(slot) = self.queue.pop_front() {
            let links = graph.links_at(self.level, slot);
            links.iter().filter(|&&to| !graph.is_dead(to)).for_each(|&to| self.reach(to, slot));
        }
    }
}

impl Graph {
    /// Counts what is wrong. Cost: one pass over all links.
    pub fn check(&self) -> Health {
        let reached = Reached::from_entry(self, 0);
        let live = || self.slots_at(0);
        let n_stale = |slot| self.links(slot).iter().filter(|&&to| self.is_dead(to)).count();
        Health {
            n_live: live().count(),
            n_unreachable: live().filter(|&slot| !reached.has(slot)).count(),
            n_stale_links: live().map(n_stale).sum(),
        }
    }

    /// Links every slot that cannot be reached, on any of its levels, from a slot near it that can, which gives up a link that
    /// nothing depends on; returns how many were linked so. Cost: one pass over all links, and a search for each.
    ///
    /// # Errors
    /// `slot_range` if the distances do not cover the slots; `corrupt_file` if links of a file are damaged.
    pub fn repair<D: Distances>(&mut self, distances: &D) -> Result<usize> {
        self.check_distances(distances)?;
        self.unguard()?;
        Ok((0..=self.upper.len()).map(|level| self.repair_level(distances, level)).sum())
    }

    fn repair_level<D: Distances>(&mut self, distances: &D, level: usize) -> usize {
        let mut reached = Reached::from_entry(self, level);
        let lost: Vec<u32> = self.slots_at(level).filter(|&slot| !reached.has(slot)).collect();
        let (mut n_linked, mut scratch) = (0, Scratch::default());
        for slot in lost {
            // Reached by now, through one that was linked before.
            if reached.has(slot) {
                continue;
            }
            let (from, links) = self.host(distances, slot, &reached, &mut scratch);
            self.write_links(level, from, &links);
            reached.reach(slot, from);
            reached.spread(self);
            n_linked += 1;
        }
        n_linked
    }

    /// The slots of a level that have a row.
    fn slots_at(&self, level: usize) -> Box<dyn Iterator<Item = u32> + '_> {
        match level {
            0 => Box::new((0..self.n_slots() as u32).filter(|&slot| !self.is_dead(slot))),
            _ => Box::new(self.upper[level - 1].slots.iter().copied()),
        }
    }

    /// A reachable slot, as near to `slot` as one is found, and its links with one to `slot` among them.
    fn host<D: Distances>(
        &self,
        distances: &D,
        slot: u32,
        reached: &Reached,
        scratch: &mut Scratch,
    ) -> (u32, Vec<u32>) {
        let query = distances.query_of(slot);
        let start: Vec<u32> = self.entry.into_iter().collect();
        let mut start = measured(distances, &query, &start);
        start.extend(self.descend(distances, &query, (reached.level, DESCENT_EF), scratch));
        self.beam(distances, &query, reached.level, &start, (EF, slot), scratch);
        let near = scratch.pool.neighbors().map(|near| near.slot);
        // All slots near it may have given all their links to others; then any slot will do, and there is one: of `n`
        // reached slots only `n - 1` links are needed.
        let mut hosts = near.chain(self.slots_at(reached.level)).filter(|&host| reached.has(host));
        let found = hosts.find_map(|host| Some((host, self.with_link(host, slot, reached)?)));
        found.expect("a slot has two places or more, and fewer links than slots are needed")
    }

    /// The links of `host` and one to `slot`: in a free place, or in the last that nothing depends on.
    fn with_link(&self, host: u32, slot: u32, reached: &Reached) -> Option<Vec<u32>> {
        let links = self.links_at(reached.level, host).iter().copied();
        let mut links: Vec<u32> = links.filter(|&to| !self.is_dead(to)).collect();
        if links.len() == self.width_at(reached.level) {
            let is_spare = |&to: &u32| reached.parents[to as usize] != host;
            links.remove(links.iter().rposition(is_spare)?);
        }
        links.push(slot);
        Some(links)
    }
}
