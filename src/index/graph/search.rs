//! The walk: narrow beams over the upper levels, then a wide one on the base layer.

use crate::backend::check;
use crate::core::allow::Allow;
use crate::core::neighbors::Neighbor;
use crate::distance::simd::coded::prefetch;
use crate::error::Result;
use crate::index::graph::distances::Distances;
use crate::index::graph::layers::used;
use crate::index::graph::pool::Pool;
use crate::index::graph::remove::measured;
use crate::index::graph::visited::Visited;
use crate::index::graph::{Graph, SearchParams};

/// Width of the beams on upper levels of a search.
const DESCENT_EF: usize = 4;

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// No slot that was met is nearer than those found.
    Converged,
    /// Fewer than `k` slots were found, and none is left to go on from. Without a filter the graph holds no more; under
    /// one there may be more, which an exact way finds.
    Short,
    /// [`SearchParams::max_links`] was reached; what was found so far may not be the nearest.
    Budget,
}

/// The answer to a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// At most `k` allowed slots, nearest first, ties by slot.
    pub neighbors: Vec<Neighbor>,
    /// Why the walk ended.
    pub ended: Ended,
    /// Distances computed, those of raw rows among them.
    pub n_distances: u64,
    /// Slots whose links were followed on the base layer.
    pub n_hops: u64,
    /// Links looked at on the base layer.
    pub n_links: u64,
}

/// What a walk needs and the next one reuses; one per thread, for any graph.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    pub(super) pool: Pool,
    pub(super) visited: Visited,
    /// Slots met by one hop, and their distances.
    pub(super) fresh: Vec<u32>,
    pub(super) out: Vec<f32>,
    pub(super) n_distances: u64,
    pub(super) n_hops: u64,
    pub(super) n_links: u64,
}

impl Scratch {
    /// Measures the fresh slots and offers them to the pool.
    #[inline]
    pub(super) fn offer_fresh<D: Distances>(&mut self, distances: &D, query: &D::Query) {
        self.out.resize(self.fresh.len(), 0.0);
        distances.measure(query, &self.fresh, &mut self.out);
        for (&slot, &distance) in self.fresh.iter().zip(&self.out) {
            self.pool.offer(slot, distance);
        }
        self.n_distances += self.fresh.len() as u64;
    }
}

impl Graph {
    /// The `k` nearest allowed slots that the walk finds, at the distances that it walks by.
    ///
    /// # Errors
    /// Those of [`SearchParams::check`]; `slot_range` if the distances or the set do not cover the slots; `corrupt_file` if links
    /// of a file are damaged.
    pub fn search<D: Distances>(
        &self,
        distances: &D,
        query: &D::Query,
        allow: Allow<'_>,
        params: &SearchParams,
        scratch: &mut Scratch,
    ) -> Result<Found> {
        let ended = self.walk(distances, query, allow, params, scratch)?;
        let neighbors = scratch.pool.neighbors().take(params.k).collect();
        Ok(scratch.found(neighbors, ended, params.k))
    }

    /// The same by a walk on codes, whose [`SearchParams::n_rerank`] nearest are then compared raw: neighbors are ordered by,
    /// and carry, exact distances.
    ///
    /// # Errors
    /// Those of [`Self::search`].
    pub fn search_reranked<C: Distances, R: Distances>(
        &self,
        (codes, code_query): (&C, &C::Query),
        (raw, raw_query): (&R, &R::Query),
        allow: Allow<'_>,
        params: &SearchParams,
        scratch: &mut Scratch,
    ) -> Result<Found> {
        self.check_distances(raw)?;
        let ended = self.walk(codes, code_query, allow, params, scratch)?;
        let Scratch { pool, fresh, out, .. } = scratch;
        fresh.clear();
        fresh.extend(pool.neighbors().take(params.n_rerank).map(|neighbor| neighbor.slot));
        fresh.iter().for_each(|&slot| raw.prefetch(slot));
        out.resize(fresh.len(), 0.0);
        raw.measure(raw_query, fresh, out);
        let compared = fresh.iter().zip(&*out);
        let mut neighbors: Vec<Neighbor> =
            compared.map(|(&slot, &distance)| Neighbor { slot, distance }).collect();
        neighbors.sort_unstable();
        neighbors.truncate(params.k);
        scratch.n_distances += scratch.fresh.len() as u64;
        Ok(scratch.found(neighbors, ended, params.k))
    }

    /// Leaves in the pool the nearest allowed slots; says whether it stopped at the budget.
    fn walk<D: Distances>(
        &self,
        distances: &D,
        query: &D::Query,
        allow: Allow<'_>,
        params: &SearchParams,
        scratch: &mut Scratch,
    ) -> Result<Ended> {
        params.check()?;
        check::allow(allow, self.n_slots())?;
        self.check_distances(distances)?;
        scratch.n_distances = 0;
        let start = self.descend(distances, query, (0, DESCENT_EF), scratch);
        (scratch.n_hops, scratch.n_links) = (0, 0);
        let ended = match allow {
            Allow::All => {
                self.beam(distances, query, 0, &start, (params.ef, 0), scratch);
                Ended::Converged
            }
            _ => self.beam_allowed(distances, query, &start, allow, params, scratch),
        };
        self.check_met()?;
        Ok(ended)
    }

    /// Where a walk on `level` begins: the nearest slots that beams of width `ef` find on the levels above it, from the entry point
    /// down. A greedy step instead would stop in the wrong region now and then, and ever more often in a graph whose slots
    /// are replaced. Empty if the graph is.
    pub(super) fn descend<D: Distances>(
        &self,
        distances: &D,
        query: &D::Query,
        (level, ef): (usize, usize),
        scratch: &mut Scratch,
    ) -> Vec<Neighbor> {
        let entry: Vec<u32> = self.entry.into_iter().collect();
        let mut start = measured(distances, query, &entry);
        scratch.n_distances += start.len() as u64;
        for above in (level + 1..=self.upper.len()).rev() {
            self.beam(distances, query, above, &start, (ef, 0), scratch);
            start.clear();
            start.extend(scratch.pool.neighbors());
        }
        start
    }

    /// Leaves in the pool the `ef` nearest slots of `level` that a walk from `start` meets.
    pub(super) fn beam<D: Distances>(
        &self,
        distances: &D,
        query: &D::Query,
        level: usize,
        start: &[Neighbor],
        (ef, salt): (usize, u32),
        scratch: &mut Scratch,
    ) {
        scratch.visited.reset(&self.dead, self.version);
        scratch.pool.reset(ef, salt);
        for neighbor in start {
            if scratch.visited.insert(neighbor.slot) {
                scratch.pool.offer(neighbor.slot, neighbor.distance);
            }
        }
        while let Some(slot) = scratch.pool.expand() {
            let links = match level {
                0 => self.places(slot),
                _ => self.upper[level - 1].links(slot, self.params.m),
            };
            scratch.fresh.clear();
            for &slot in used(links) {
                if scratch.visited.insert(slot) {
                    distances.prefetch(slot);
                    scratch.fresh.push(slot);
                }
            }
            // Most often the next to be expanded; its links arrive while distances are computed.
            if let Some(next) = scratch.pool.peek() {
                prefetch(&self.links, next as usize * self.width(), self.width());
            }
            scratch.n_links += links.len() as u64;
            scratch.n_hops += 1;
            scratch.offer_fresh(distances, query);
        }
    }
}

impl Scratch {
    fn found(&self, neighbors: Vec<Neighbor>, ended: Ended, k: usize) -> Found {
        let is_short = ended == Ended::Converged && neighbors.len() < k;
        Found {
            ended: if is_short { Ended::Short } else { ended },
            neighbors,
            n_distances: self.n_distances,
            n_hops: self.n_hops,
            n_links: self.n_links,
        }
    }
}
