//! The points of one version: which row, slot and id belong together, who may read them, and their payloads.

use std::sync::OnceLock;

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::core::ids::PointId;
use crate::engine::VECTOR;
use crate::engine::read::payload;
use crate::error::Result;
use crate::plan::filter::Points;
use crate::store::durable::{Durable, Parts, View};

/// Payloads that are held at once while they are read.
const BLOCK: usize = 1024;

/// The points of a view. Rows are numbered in the order of slots; where no slot is free both are the same.
pub struct Stored {
    view: View,
    live: RoaringBitmap,
    /// By row.
    slots: Vec<u32>,
    ids: Vec<PointId>,
    /// Rows in the order of their ids, once they are asked for.
    by_id: OnceLock<Vec<u32>>,
    /// Held open: its lock keeps other writers out while this version is read.
    _record: Durable,
}

impl Stored {
    /// Points whose slots, ascending, and ids these are.
    pub fn new(record: Durable, view: View, slots: Vec<u32>, ids: Vec<PointId>) -> Self {
        let live = slots.iter().copied().collect();
        Self { view, live, slots, ids, by_id: OnceLock::new(), _record: record }
    }

    /// The rows of live slots, ascending.
    pub fn rows<'s>(&'s self, slots: &'s RoaringBitmap) -> impl Iterator<Item = u32> + 's {
        let is_whole = self.slots.last().is_none_or(|&last| last as usize + 1 == self.slots.len());
        let mut row = 0;
        slots.iter().map(move |slot| {
            if is_whole {
                return slot;
            }
            row += self.slots[row..].partition_point(|&one| one < slot);
            row as u32
        })
    }

    /// The id of the point in a row.
    pub fn id_of_row(&self, row: u32) -> PointId {
        self.ids[row as usize]
    }

    /// The slots that the tenant of this name may read; none if there is no such tenant.
    ///
    /// # Errors
    /// Those of reading.
    pub fn readable(&self, tenant: &str) -> Result<RoaringBitmap> {
        match self.view.tenant(tenant)? {
            Some(tenant) => Ok(self.view.slots_of_tenant(tenant)?.into_iter().collect()),
            None => Ok(RoaringBitmap::new()),
        }
    }

    /// All payloads, with their slots.
    ///
    /// # Errors
    /// Those of reading.
    pub fn payloads(&self) -> Result<impl Iterator<Item = Result<(u32, Value)>>> {
        let points = self.view.points_by_slot(0, Parts::Payload)?;
        Ok(points.map(|point| {
            let point = point?;
            Ok((point.slot, payload(point.id, &point.payload)?))
        }))
    }

    fn row_of_slot(&self, slot: u32) -> usize {
        self.slots.binary_search(&slot).expect("a live slot has a row")
    }
}

impl Points for Stored {
    fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    fn slot(&self, id: PointId) -> Option<u32> {
        let by_id = self.by_id.get_or_init(|| {
            let mut rows: Vec<u32> = (0..self.ids.len() as u32).collect();
            rows.sort_unstable_by_key(|&row| self.ids[row as usize]);
            rows
        });
        let at = by_id.binary_search_by_key(&id, |&row| self.ids[row as usize]).ok()?;
        Some(self.slots[by_id[at] as usize])
    }

    fn id(&self, slot: u32) -> PointId {
        self.ids[self.row_of_slot(slot)]
    }

    fn with_vector(&self, name: &str) -> RoaringBitmap {
        if name == VECTOR { self.live.clone() } else { RoaringBitmap::new() }
    }

    fn read(&self, slots: &RoaringBitmap, visit: &mut dyn FnMut(u32, &Value)) -> Result<()> {
        let slots: Vec<u32> = slots.iter().collect();
        for block in slots.chunks(BLOCK) {
            let points = self.view.get_slots(block, Parts::Payload)?;
            for point in points.into_iter().flatten() {
                visit(point.slot, &payload(point.id, &point.payload)?);
            }
        }
        Ok(())
    }
}
