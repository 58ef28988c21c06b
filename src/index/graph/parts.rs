//! A graph as flat arrays, for files and memory maps, and back, with everything checked on the way.

use std::ops::Range;

use crate::core::bits::Bits;
use crate::core::slab::Slab;
use crate::error::{Error, ErrorKind, Result};
use crate::index::graph::layers::{Layer, NONE, used};
use crate::index::graph::{BuildParams, Graph, MAX_SLOTS, next_version};

/// All that a graph holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// How it was built.
    pub params: BuildParams,
    /// `[n_slots, 2 m]`: links of the base layer; unused places hold [`u32::MAX`] and come last.
    pub links: Slab<u32>,
    /// `[n_slots / 64]`, rounded up: a bit for every slot with a row, the first in the lowest.
    pub live: Vec<u64>,
    /// A slot of the highest level; none if no slot has a row.
    pub entry: Option<u32>,
    /// Levels 1 and up: slots `[n]` and their links `[n, m]`.
    pub upper: Vec<(Vec<u32>, Vec<u32>)>,
}

impl Graph {
    /// What the graph holds, copied.
    pub fn parts(&self) -> Parts {
        let layer = |layer: &Layer| (layer.slots.clone(), layer.links.clone());
        Parts {
            params: self.params.clone(),
            links: self.links.clone(),
            live: self.dead.iter().map(|word| !word).collect(),
            entry: self.entry,
            upper: self.upper.iter().map(layer).collect(),
        }
    }

    /// The graph of these parts. Cost: one pass over all links.
    ///
    /// # Errors
    /// `graph_parts`, with what is wrong and where, if no graph has such parts; those of [`BuildParams::check`].
    pub fn from_parts(parts: Parts) -> Result<Self> {
        Self::checked(parts, None, |graph| graph.check_slots(0..graph.n_slots()))
    }

    /// The same. `stale` are the slots without a row to which links lead, if they are known;
    /// `check_base` checks the links of the base layer.
    pub(super) fn checked(
        parts: Parts,
        stale: Option<Vec<u64>>,
        check_base: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<Self> {
        parts.params.check()?;
        let (m, width) = (parts.params.m, 2 * parts.params.m);
        let n_slots = parts.links.len() / width;
        if !parts.links.len().is_multiple_of(width) || n_slots > MAX_SLOTS {
            return Err(damaged(format!("{} links of slots of {width}", parts.links.len())));
        }
        let n_words = n_slots.div_ceil(64);
        if parts.live.len() != n_words {
            return Err(damaged(format!(
                "{} words of marks, expected {n_words}",
                parts.live.len()
            )));
        }
        let mut graph = Self {
            params: parts.params,
            links: parts.links,
            upper: Vec::new(),
            dead: parts.live.iter().map(|word| !word).collect(),
            stale: stale.unwrap_or_default(),
            version: next_version(),
            n_live: parts.live.iter().map(|word| word.count_ones() as usize).sum(),
            entry: parts.entry,
            guard: None,
        };
        if let Some(slot) = (n_slots..64 * n_words).find(|&slot| !graph.is_dead(slot as u32)) {
            return Err(damaged(format!("slot {slot} of {n_slots} has a row")));
        }
        check_base(&graph)?;
        if graph.stale.is_empty() {
            graph.stale = graph.linked_dead();
        }
        if graph.stale.len() != n_words {
            return Err(damaged(format!("{} words of marks of links", graph.stale.len())));
        }
        for (level, (slots, links)) in parts.upper.into_iter().enumerate() {
            let layer = graph.layer(level + 1, slots, links, m)?;
            graph.upper.push(layer);
        }
        let is_entry = match (graph.entry, graph.upper.last()) {
            (None, last) => graph.n_live == 0 && last.is_none(),
            (Some(entry), None) => graph.contains(entry),
            (Some(entry), Some(last)) => last.places.contains_key(&entry),
        };
        if is_entry { Ok(graph) } else { Err(damaged(format!("entry point {:?}", graph.entry))) }
    }

    /// Fails if a link of these slots leads nowhere.
    ///
    /// # Errors
    /// `graph_parts`.
    pub(super) fn check_slots(&self, slots: Range<usize>) -> Result<()> {
        let width = self.width();
        let links = &self.links[slots.start * width..slots.end * width];
        for (slot, places) in (slots.start as u32..).zip(links.chunks_exact(width)) {
            if !is_sound(slot, places, self.n_slots()) {
                self.check_links("slot", slot, places)?;
            }
            if places[0] != NONE && self.is_dead(slot) {
                return Err(damaged(format!("slot {slot} has links and no row")));
            }
        }
        Ok(())
    }

    /// The slots without a row to which links lead, one bit each.
    fn linked_dead(&self) -> Vec<u64> {
        let mut linked = vec![0; self.dead.len()];
        if self.n_live < self.n_slots() {
            for &to in self.links.iter().filter(|&&to| to != NONE && self.is_dead(to)) {
                linked[to as usize / 64] |= 1 << (to % 64);
            }
        }
        linked
    }

    /// A level above those that are there.
    fn layer(&self, level: usize, slots: Vec<u32>, links: Vec<u32>, m: usize) -> Result<Layer> {
        if slots.is_empty() || slots.len().checked_mul(m) != Some(links.len()) {
            let message =
                format!("{} slots and {} links on level {level}", slots.len(), links.len());
            return Err(damaged(message));
        }
        let is_below = |slot: u32| match self.upper.last() {
            Some(below) => below.places.contains_key(&slot),
            None => self.contains(slot),
        };
        let mut layer = Layer { slots, links, ..Layer::default() };
        layer.places.reserve(layer.slots.len());
        let mut on_level = Bits::new(self.n_slots() as u32);
        for (place, &slot) in layer.slots.iter().enumerate() {
            if !is_below(slot) || layer.places.insert(slot, place as u32).is_some() {
                return Err(damaged(format!("slot {slot} on level {level}")));
            }
            on_level.insert(slot);
        }
        for (&slot, list) in layer.slots.iter().zip(layer.links.chunks_exact(m)) {
            if !is_sound(slot, list, self.n_slots()) {
                self.check_links("upper slot", slot, list)?;
            }
            if !used(list).iter().all(|&to| on_level.contains(to)) {
                return Err(damaged(format!("slot {slot} links out of level {level}")));
            }
        }
        Ok(layer)
    }

    fn check_links(&self, what: &str, slot: u32, places: &[u32]) -> Result<()> {
        let links = used(places);
        let bad = links.iter().find(|&&to| to as usize >= self.n_slots() || to == slot);
        if let Some(to) = bad {
            return Err(damaged(format!("{what} {slot} links to {to} of {}", self.n_slots())));
        }
        if places[links.len()..].iter().any(|&place| place != NONE) {
            return Err(damaged(format!("{what} {slot} has a link behind an unused place")));
        }
        Ok(())
    }
}

/// Whether all links are to other slots below `n_slots`, and unused places come last. No place ends the look at the others,
/// so that many are looked at at once.
fn is_sound(slot: u32, places: &[u32], n_slots: usize) -> bool {
    // Signed, as the oldest vector instructions compare: places end below 2^31, and the mark of an unused one is -1.
    let (last, own) = ((n_slots - 1) as i32, slot as i32);
    let is_wrong = |to: u32| {
        let to = to as i32;
        u32::from(to < -1) | u32::from(to > last) | u32::from(to == own)
    };
    let wrong = places.iter().fold(0, |found, &to| found | is_wrong(to));
    let n_unused: u32 = places.iter().map(|&to| u32::from(to == NONE)).sum();
    let last = &places[places.len() - n_unused as usize..];
    wrong == 0 && last.iter().all(|&to| to == NONE)
}

pub(super) fn damaged(message: String) -> Error {
    Error::new(ErrorKind::Corrupt, "graph_parts", message)
}
