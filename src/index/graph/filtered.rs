//! The walk under a filter: only allowed slots enter the pool, and others are passed through.
//!
//! Paper: Patel et al., "ACORN: performant and predicate-agnostic search over vector embeddings and structured data",
//! SIGMOD 2024, section 5.2 (two hops at search time). Ours: the second hop is taken only where the first leads to few
//! allowed slots, and the walk begins at the nearest slots of any kind.

use crate::core::allow::Allow;
use crate::core::neighbors::Neighbor;
use crate::index::graph::distances::Distances;
use crate::index::graph::search::{Ended, Scratch};
use crate::index::graph::{Graph, SearchParams};

/// Width of the unfiltered beam whose slots the walk begins at.
const N_SEEDS: usize = 16;

/// A second hop is taken where fewer than one of so many places lead to an allowed slot.
const PLACES_PER_DIRECT: usize = 4;

impl Graph {
    /// Leaves in the pool the nearest allowed slots that are met.
    pub(super) fn beam_allowed<D: Distances>(
        &self,
        distances: &D,
        query: &D::Query,
        start: &[Neighbor],
        allow: Allow<'_>,
        params: &SearchParams,
        scratch: &mut Scratch,
    ) -> Ended {
        self.beam(distances, query, 0, start, (N_SEEDS, 0), scratch);
        let seeds: Vec<Neighbor> = scratch.pool.neighbors().collect();
        scratch.visited.reset(&self.dead, self.version);
        scratch.pool.reset(params.ef, 0);
        for seed in &seeds {
            if scratch.visited.insert(seed.slot) && allow.contains(seed.slot) {
                scratch.pool.offer(seed.slot, seed.distance);
            }
        }
        for seed in seeds {
            if !allow.contains(seed.slot) {
                self.hop(distances, query, seed.slot, allow, scratch);
            }
        }
        while let Some(slot) = scratch.pool.expand() {
            if scratch.n_links >= params.max_links {
                return Ended::Budget;
            }
            self.hop(distances, query, slot, allow, scratch);
        }
        Ended::Converged
    }

    /// Offers the allowed slots that the links of `slot` lead to and, where these are few, those that lie behind the
    /// others; as many as a slot has links.
    fn hop<D: Distances>(
        &self,
        distances: &D,
        query: &D::Query,
        slot: u32,
        allow: Allow<'_>,
        scratch: &mut Scratch,
    ) {
        let Scratch { visited, fresh, n_links, .. } = scratch;
        fresh.clear();
        let links = self.links(slot);
        let mut n_direct = 0;
        for &near in links {
            let is_allowed = allow.contains(near);
            n_direct += usize::from(is_allowed);
            if is_allowed && visited.insert(near) {
                distances.prefetch(near);
                fresh.push(near);
            }
        }
        *n_links += links.len() as u64;
        if n_direct * PLACES_PER_DIRECT < self.width() {
            for &through in links {
                if fresh.len() >= self.width() {
                    break;
                }
                // Marked, so that its links are looked at once.
                if allow.contains(through) || !visited.insert(through) {
                    continue;
                }
                let behind = self.links(through);
                *n_links += behind.len() as u64;
                for &far in behind {
                    if visited.is_new(far) && allow.contains(far) {
                        visited.insert(far);
                        distances.prefetch(far);
                        fresh.push(far);
                    }
                }
            }
        }
        scratch.n_hops += 1;
        scratch.offer_fresh(distances, query);
    }
}
