//! The points of one version as filters see them, numbered by place.

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::core::ids::PointId;
use crate::engine::settings::DEFAULT_VECTOR;
use crate::engine::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::filter::Points;
use crate::store::durable::{Parts, View};

/// Payloads that are held at once while they are read.
const BLOCK: usize = 1024;

impl Points for State {
    fn live(&self) -> &RoaringBitmap {
        self.places.live()
    }

    fn slots(&self, ids: &[PointId]) -> Result<RoaringBitmap> {
        Ok(self.places.places(self.view.slots_of(ids)?.into_iter().flatten()))
    }

    fn id(&self, place: u32) -> PointId {
        self.places.id(place)
    }

    fn with_vector(&self, name: &str) -> RoaringBitmap {
        // Clients that give the only vector no name ask for it so; no vector is called nothing.
        let name = if name.is_empty() { DEFAULT_VECTOR } else { name };
        match self.spaces.iter().find(|space| space.settings().name == name) {
            Some(space) => space.has().unwrap_or(self.places.live()) & self.places.live(),
            None => RoaringBitmap::new(),
        }
    }

    fn read(&self, places: &RoaringBitmap, visit: &mut dyn FnMut(u32, &Value)) -> Result<()> {
        let mut slots: Vec<u32> = places.iter().map(|place| self.places.slot(place)).collect();
        slots.sort_unstable();
        for block in slots.chunks(BLOCK) {
            let points = self.view.get_slots(block, Parts::Payload)?;
            for point in points.into_iter().flatten() {
                let place = self.places.place(point.slot).expect("a live point has a place");
                visit(place, &payload(point.id, &point.payload)?);
            }
        }
        Ok(())
    }
}

/// All payloads of a record, with the place that `place` gives their slot.
///
/// # Errors
/// Those of reading.
pub(super) fn payloads<'v>(
    view: &'v View,
    place: impl Fn(u32) -> Option<u32> + 'v,
) -> Result<impl Iterator<Item = Result<(u32, Value)>> + 'v> {
    let points = view.points_by_slot(0, Parts::Payload)?;
    Ok(points.filter_map(move |point| match point {
        Err(error) => Some(Err(error)),
        Ok(point) => {
            let place = place(point.slot)?;
            Some(payload(point.id, &point.payload).map(|payload| (place, payload)))
        }
    }))
}

/// A payload of the record, which holds JSON objects only.
pub(super) fn payload(id: PointId, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "record_corrupt", format!("payload of point {id}: {error}"))
    })
}
