//! The walk under a filter: only allowed slots enter the pool, and others are passed through.
//!
//! Paper: Patel et al., "ACORN: performant and predicate-agnostic search over vector embeddings and structured data",
//! SIGMOD 2024, section 5.2 (two hops at search time). Ours: the second hop is taken only where the first leads to few
//! allowed slots, the walk begins at the nearest slots of any kind, and where most slots are allowed it goes through all.

use crate::core::allow::Allow;
use crate::core::neighbors::Neighbor;
use crate::distance::simd::coded::prefetch;
use crate::index::graph::distances::Distances;
use crate::index::graph::search::{Ended, Scratch};
use crate::index::graph::{Graph, MAX_EF, SearchParams};

/// Width of the unfiltered beam whose slots the walk begins at.
const N_SEEDS: usize = 16;

/// A second hop is taken where fewer than one of so many places lead to an allowed slot.
const PLACES_PER_DIRECT: usize = 4;

/// From this share of allowed slots on, a walk goes through all slots and keeps the allowed of them: it comes near the query in
/// fewer steps than one from allowed slot to allowed slot.
const LEAST_SHARE: f32 = 0.3;

/// How many more slots such a walk holds than would hold `k` allowed ones.
const ROOM: f32 = 1.5;

/// One of so many slots that it held at the end must be allowed. Where fewer are, the allowed ones lie elsewhere.
const HELD_PER_ALLOWED: usize = 4;

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
        let ef = through_all(params);
        self.beam(distances, query, 0, start, (ef.unwrap_or(N_SEEDS), 0), scratch);
        let mut seeds: Vec<Neighbor> = scratch.pool.neighbors().take(N_SEEDS).collect();
        if ef.is_some() {
            let n_held = scratch.pool.len();
            scratch.pool.retain(|slot| allow.contains(slot));
            let n_allowed = scratch.pool.len();
            if n_allowed >= params.k.max(n_held / HELD_PER_ALLOWED) {
                return Ended::Converged;
            }
            seeds.extend(scratch.pool.neighbors());
        }
        scratch.visited.reset(&self.dead, self.version);
        scratch.pool.reset(params.ef, 0);
        for seed in &seeds {
            if allow.contains(seed.slot) && scratch.visited.insert(seed.slot) {
                scratch.pool.offer(seed.slot, seed.distance);
            }
        }
        for seed in seeds {
            if !allow.contains(seed.slot) && scratch.visited.insert(seed.slot) {
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
            for &through in links.iter().filter(|&&through| visited.is_new(through)) {
                prefetch(&self.links, through as usize * self.width(), self.width());
            }
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
        if let Some(next) = scratch.pool.peek() {
            prefetch(&self.links, next as usize * self.width(), self.width());
        }
        scratch.n_hops += 1;
        scratch.offer_fresh(distances, query);
    }
}

/// The width of a walk through all slots; none if there should not be one.
fn through_all(params: &SearchParams) -> Option<usize> {
    if params.share < LEAST_SHARE {
        return None;
    }
    // Of as many more slots as there are fewer allowed than half, as many are allowed.
    let wide = params.ef as f32 * (0.5 / params.share).max(1.0);
    let enough = ROOM * params.k as f32 / params.share;
    Some((wide.max(enough).ceil() as usize).min(MAX_EF))
}
