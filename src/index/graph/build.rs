//! Insertion in batches: every slot of a batch looks for links in the graph as it was before, and links are then written in
//! a fixed order. One seed gives one graph, whatever the number of threads.
//!
//! Paper: Manohar et al., "ParlayANN: scalable and deterministic parallel graph-based approximate nearest neighbor search
//! algorithms", PPoPP 2024, section 3.

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::core::mix::stream;
use crate::core::neighbors::Neighbor;
use crate::error::{Error, ErrorKind, Result};
use crate::index::graph::distances::Distances;
use crate::index::graph::layers::level_of;
use crate::index::graph::remove::measured;
use crate::index::graph::search::Scratch;
use crate::index::graph::select::select;
use crate::index::graph::{BuildParams, Graph, MAX_SLOTS, next_version};

/// A batch is at most this share of the slots before it: its slots do not see one another.
const BATCH_SHARE: usize = 64;

/// Slots of a batch at most: enough for all threads.
const BATCH: usize = 1024;

/// Width of the beams above the levels of a new slot: one that is linked in the wrong region stays there.
pub(super) const DESCENT_EF: usize = 8;

/// Slots that a thread takes at once.
const PER_TASK: usize = 16;

/// Streams of the seed that are not levels.
const ORDER: u64 = 0x6f72_6465_7200_0000;
const TIES: u64 = 0x7469_6573_0000_0000;

/// A slot that found `Neighbor` under its own number: (whose link, to whom).
pub(super) type Edge = (u32, Neighbor);

impl Graph {
    /// A graph over `slots`, every one of which can be reached.
    ///
    /// # Errors
    /// Those of [`BuildParams::check`] and [`Self::insert`].
    pub fn build<D: Distances>(
        params: BuildParams,
        pool: &ThreadPool,
        distances: &D,
        slots: &[u32],
    ) -> Result<Self> {
        let mut graph = Self::new(params)?;
        graph.insert(pool, distances, slots)?;
        graph.repair(distances)?;
        Ok(graph)
    }

    /// Inserts slots; room is made for them. If one was removed and links may still lead to it, all such links are dropped
    /// first ([`Self::sweep`], one pass over all links): callers that reuse slots late and together pay it seldom.
    ///
    /// # Errors
    /// `slot_range` if a slot is past the end of `distances`, `slot_live` if it has a row, `slot_twice` if it is listed more
    /// than once, `too_many_slots`: nothing is then inserted.
    pub fn insert<D: Distances>(
        &mut self,
        pool: &ThreadPool,
        distances: &D,
        slots: &[u32],
    ) -> Result<()> {
        let mut order = slots.to_vec();
        self.check_new(distances, &mut order)?;
        let Some(&last) = order.last() else { return Ok(()) };
        self.unguard()?;
        self.grow(last as usize + 1);
        if order.iter().any(|&slot| self.stale[slot as usize / 64] >> (slot % 64) & 1 == 1) {
            self.sweep(pool)?;
        }
        // Neighbors often have like numbers; in a batch they would not see one another.
        let seed = self.params.seed ^ ORDER;
        order.sort_unstable_by_key(|&slot| (stream(seed, slot.into()), slot));
        let mut rest = &order[..];
        while !rest.is_empty() {
            let n = (self.n_live / BATCH_SHARE).clamp(1, BATCH).min(rest.len());
            let (batch, later) = rest.split_at(n);
            self.insert_batch(pool, distances, batch);
            rest = later;
        }
        Ok(())
    }

    /// Sorts `slots` and fails if they cannot all be inserted.
    fn check_new<D: Distances>(&self, distances: &D, slots: &mut [u32]) -> Result<()> {
        self.check_distances(distances)?;
        slots.sort_unstable();
        let Some(&last) = slots.last() else { return Ok(()) };
        if last as usize >= MAX_SLOTS {
            let message = format!("slot {last}, expected less than {MAX_SLOTS}");
            return Err(Error::new(ErrorKind::Limit, "too_many_slots", message));
        }
        if last as usize >= distances.n_slots() {
            let message = format!("slot {last}, distances of {}", distances.n_slots());
            return Err(Error::usage("slot_range", message));
        }
        if let Some(pair) = slots.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::usage("slot_twice", format!("slot {}", pair[0])));
        }
        match slots.iter().find(|&&slot| self.contains(slot)) {
            Some(slot) => Err(Error::usage("slot_live", format!("slot {slot} has a row already"))),
            None => Ok(()),
        }
    }

    fn insert_batch<D: Distances>(&mut self, pool: &ThreadPool, distances: &D, batch: &[u32]) {
        let found: Vec<Vec<Vec<Neighbor>>> = pool.install(|| {
            let slots = batch.par_iter().with_min_len(PER_TASK);
            slots
                .map_init(Scratch::default, |s, &slot| self.links_for(distances, slot, s))
                .collect()
        });
        let n_levels = found.iter().map(Vec::len).max().unwrap_or(0);
        for level in 0..n_levels {
            let mut edges: Vec<Edge> = Vec::new();
            for (&slot, levels) in batch.iter().zip(&found) {
                let Some(neighbors) = levels.get(level) else { continue };
                if self.upper.len() < level {
                    self.upper.push(Default::default());
                    self.entry = Some(slot);
                }
                let links: Vec<u32> = neighbors.iter().map(|neighbor| neighbor.slot).collect();
                self.write_links(level, slot, &links);
                let back = |n: &Neighbor| (n.slot, Neighbor { slot, distance: n.distance });
                edges.extend(neighbors.iter().map(back));
            }
            edges.sort_unstable();
            let targets: Vec<&[Edge]> = edges.chunk_by(|a, b| a.0 == b.0).collect();
            let joined: Vec<Vec<u32>> = pool.install(|| {
                let targets = targets.par_iter().with_min_len(PER_TASK);
                targets.map(|edges| self.joined(distances, level, edges)).collect()
            });
            for (edges, links) in targets.iter().zip(&joined) {
                self.write_links(level, edges[0].0, links);
            }
        }
        for &slot in batch {
            self.dead[slot as usize / 64] &= !(1 << (slot % 64));
        }
        self.entry = self.entry.or(batch.first().copied());
        self.n_live += batch.len();
        self.version = next_version();
    }

    /// Links per slot of a level.
    pub(super) fn width_at(&self, level: usize) -> usize {
        if level == 0 { self.width() } else { self.params.m }
    }

    pub(super) fn links_at(&self, level: usize, slot: u32) -> &[u32] {
        match level {
            0 => self.links(slot),
            _ => self.upper[level - 1].links(slot, self.params.m),
        }
    }

    pub(super) fn write_links(&mut self, level: usize, slot: u32, links: &[u32]) {
        match level {
            0 => self.set_links(slot, links),
            _ => self.upper[level - 1].set_links(slot, self.params.m, links),
        }
    }

    /// The links that a new slot gets on each of its levels, lowest first.
    fn links_for<D: Distances>(
        &self,
        distances: &D,
        slot: u32,
        scratch: &mut Scratch,
    ) -> Vec<Vec<Neighbor>> {
        let BuildParams { m, ef_construction, seed } = self.params;
        let top = level_of(seed, slot, m);
        let mut found = vec![Vec::new(); top + 1];
        let query = distances.query_of(slot);
        // Equal rows are preferred in another order by every slot, or all would link to the same few.
        let salt = stream(seed ^ TIES, slot.into()) as u32;
        let first = top.min(self.upper.len());
        let mut start = self.descend(distances, &query, (first, DESCENT_EF), scratch);
        for level in (0..=first).rev() {
            self.beam(distances, &query, level, &start, (ef_construction, salt), scratch);
            start = scratch.pool.neighbors().collect();
            found[level] = select(distances, start.clone(), m);
        }
        // One of equal rows is enough on upper levels, where a walk could not leave a crowd of them.
        let own = measured(distances, &query, &[slot])[0].distance;
        if start.iter().any(|near| near.distance == own) {
            found.truncate(1);
        }
        found
    }

    /// The links of a target after others linked to it.
    pub(super) fn joined<D: Distances>(
        &self,
        distances: &D,
        level: usize,
        edges: &[Edge],
    ) -> Vec<u32> {
        let (target, most) = (edges[0].0, self.width_at(level));
        let old = self.links_at(level, target).iter().copied().filter(|&slot| !self.is_dead(slot));
        let mut links: Vec<u32> = old.collect();
        if links.len() + edges.len() <= most {
            links.extend(edges.iter().map(|(_, neighbor)| neighbor.slot));
            return links;
        }
        let mut out = vec![0.0; links.len()];
        distances.measure(&distances.query_of(target), &links, &mut out);
        let old = links.iter().zip(out).map(|(&slot, distance)| Neighbor { slot, distance });
        let mut all: Vec<Neighbor> = old.chain(edges.iter().map(|edge| edge.1)).collect();
        let salt = stream(self.params.seed ^ TIES, target.into()) as u32;
        all.sort_unstable_by(|a, b| {
            a.distance.total_cmp(&b.distance).then((a.slot ^ salt).cmp(&(b.slot ^ salt)))
        });
        select(distances, all, most).iter().map(|neighbor| neighbor.slot).collect()
    }
}
