//! A navigable small world over rows: flat links of fixed degree, walked on small codes, judged on raw rows.
//!
//! In: distances by slot ([`Distances`]): raw rows, or codes of them. Out: the nearest slots of a query, and what it took.
//! Slots may have holes: a removed slot's links are mended at once, no walk enters it, and it can be used again.
//! Next: `search.rs` (the walk), `build.rs` (insertion), `select.rs` (which links are kept), then `remove.rs`,
//! `repair.rs`.
//!
//! Paper: Malkov, Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable small
//! world graphs", 2018. Ours: insertion in batches, so that a seed gives one graph whatever the number of threads; a
//! linear pool; codes; removal in place.

mod build;
pub mod codes;
pub mod distances;
mod filtered;
mod guard;
mod layers;
mod parts;
mod pool;
pub mod raw;
mod remove;
mod repair;
mod sealed;
mod search;
mod select;
#[cfg(test)]
mod tests;
mod visited;

pub use parts::Parts;
pub use repair::Health;
pub use search::{Ended, Found, Scratch};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::limits::K;
use crate::core::slab::Slab;
use crate::error::{Error, ErrorKind, Result};
use crate::index::graph::distances::Distances;
use crate::index::graph::guard::Guard;
use crate::index::graph::layers::{Layer, NONE, used};

/// Most slots of a graph: the pool of a walk keeps 31 bits of slot beside a mark.
pub const MAX_SLOTS: usize = 1 << 31;

/// Widest beam: beyond this a scan of all rows is as fast.
pub const MAX_EF: usize = 1 << 14;

/// How a graph is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildParams {
    /// Links per slot on upper levels, 2 to 128; twice as many on the base layer.
    pub m: usize,
    /// Width of the beam that looks for links, at least `m`.
    pub ef_construction: usize,
    /// Decides levels, the order of insertion, and which of equal rows become links.
    pub seed: u64,
}

impl Default for BuildParams {
    /// The narrowest beam that finds what one of 200 finds: recall at ef 16, 64 and 256 is the same to 0.001 on debian and
    /// sift-small (2026-11-29), for an eighth less time; with 112 it is lower by 0.004.
    fn default() -> Self {
        Self { m: 16, ef_construction: 144, seed: 0 }
    }
}

impl BuildParams {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// `m_range`, `ef_range`.
    pub fn check(&self) -> Result<()> {
        in_range("m_range", self.m, 2, 128)?;
        in_range("ef_range", self.ef_construction, self.m, MAX_EF)
    }
}

/// How a graph is searched.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchParams {
    /// Neighbors asked for.
    pub k: usize,
    /// Width of the beam, at least `k`: more finds more and takes longer.
    pub ef: usize,
    /// Rows at the head of the beam that are compared raw, at least `k`; only for searches on codes.
    pub n_rerank: usize,
    /// Links that a walk under a filter looks at before it gives up.
    pub max_links: u64,
    /// The part of all slots that is allowed, about; 0 if it is not known. It decides how a walk under a filter goes, not what it
    /// may find.
    pub share: f32,
}

impl Default for SearchParams {
    fn default() -> Self {
        Self { k: 10, ef: 64, n_rerank: 40, max_links: 1 << 18, share: 0.0 }
    }
}

impl SearchParams {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// `k_range`, `ef_range`, `rerank_range`.
    pub fn check(&self) -> Result<()> {
        in_range("k_range", self.k, 1, K)?;
        in_range("ef_range", self.ef, self.k, MAX_EF)?;
        in_range("rerank_range", self.n_rerank, self.k, MAX_EF)
    }
}

fn in_range(code: &'static str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::BadInput, code, format!("{value}, expected {least} to {most}")))
}

/// A graph over the slots that were inserted and not removed.
#[derive(Clone, Debug)]
pub struct Graph {
    params: BuildParams,
    /// `[n_slots, 2 m]`: the base layer.
    links: Slab<u32>,
    /// Levels 1 and up.
    upper: Vec<Layer>,
    /// One bit per slot without a row, to the end of the last word.
    dead: Vec<u64>,
    /// Slots without a row to which links may still lead, one bit each.
    stale: Vec<u64>,
    /// Changes with `dead`: in a process, equal versions mean equal marks.
    version: u64,
    n_live: usize,
    /// A slot of the highest level.
    entry: Option<u32>,
    /// Where links lie in a file: what is known of them.
    guard: Option<Arc<Guard>>,
}

impl Graph {
    /// A graph of no slots.
    ///
    /// # Errors
    /// Those of [`BuildParams::check`].
    pub fn new(params: BuildParams) -> Result<Self> {
        params.check()?;
        Ok(Self {
            params,
            links: Slab::default(),
            upper: Vec::new(),
            dead: Vec::new(),
            stale: Vec::new(),
            version: next_version(),
            n_live: 0,
            entry: None,
            guard: None,
        })
    }

    /// How it is built.
    pub fn params(&self) -> &BuildParams {
        &self.params
    }

    /// Slots there is room for, with and without rows.
    pub fn n_slots(&self) -> usize {
        self.links.len() / self.width()
    }

    /// Slots with a row.
    pub fn n_live(&self) -> usize {
        self.n_live
    }

    /// Whether a slot has a row.
    pub fn contains(&self, slot: u32) -> bool {
        (slot as usize) < self.n_slots() && !self.is_dead(slot)
    }

    /// Bytes of links and marks.
    pub fn n_bytes(&self) -> u64 {
        let upper: usize = self.upper.iter().map(Layer::n_bytes).sum();
        (self.links.len() * size_of::<u32>() + 16 * self.dead.len() + upper) as u64
    }

    /// The links of a slot on the base layer, to slots with and without rows; none where they are damaged, see [`Self::damage`].
    pub fn links(&self, slot: u32) -> &[u32] {
        used(self.places(slot))
    }

    /// Links per slot of the base layer.
    fn width(&self) -> usize {
        2 * self.params.m
    }

    #[inline]
    fn places(&self, slot: u32) -> &[u32] {
        match &self.guard {
            Some(guard) if !guard.has_compared(slot) && !self.compare(guard, slot) => return &[],
            _ => {}
        }
        &self.links[slot as usize * self.width()..][..self.width()]
    }

    fn set_links(&mut self, slot: u32, links: &[u32]) {
        let width = self.width();
        layers::write(&mut self.links.to_mut()[slot as usize * width..][..width], links);
    }

    fn is_dead(&self, slot: u32) -> bool {
        self.dead[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    /// Makes room for slots below `n_slots`.
    fn grow(&mut self, n_slots: usize) {
        if n_slots > self.n_slots() {
            let n_links = n_slots * self.width();
            self.links.to_mut().resize(n_links, NONE);
            self.dead.resize(n_slots.div_ceil(64), u64::MAX);
            self.stale.resize(n_slots.div_ceil(64), 0);
            self.version = next_version();
        }
    }

    /// Distances cover all slots.
    fn check_distances<D: Distances>(&self, distances: &D) -> Result<()> {
        if distances.n_slots() >= self.n_slots() {
            return Ok(());
        }
        let message = format!("distances of {} of {} slots", distances.n_slots(), self.n_slots());
        Err(Error::usage("slot_range", message))
    }
}

fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
