//! Places on Earth: latitude and longitude in degrees, each in cells.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::error::Result;
use crate::store::columns::bytes::{Reader, put_lists};
use crate::store::columns::cells::Cells;
use crate::store::columns::number::{float_of, key_of};
use crate::store::columns::seal::Format;

/// A place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeoPoint {
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
}

impl GeoPoint {
    /// The place that `value` is: an object with numbers `lat` and `lon`.
    pub fn of(value: &Value) -> Option<Self> {
        let degrees = |name: &str| value.get(name).filter(|v| v.is_number())?.as_f64();
        Some(Self { lat: degrees("lat")?, lon: degrees("lon")? })
    }

    /// Whether it lies on the globe: latitude in [-90, 90], longitude in [-180, 180].
    pub fn is_on_globe(self) -> bool {
        self.lat.abs() <= 90.0 && self.lon.abs() <= 180.0
    }
}

/// A rectangle of degrees, bounds included.
#[derive(Clone, Debug, PartialEq)]
pub struct Rectangle {
    /// Latitudes.
    pub lat: RangeInclusive<f64>,
    /// Longitudes.
    pub lon: RangeInclusive<f64>,
}

/// Places of one field.
#[derive(Clone, Debug, Default)]
pub struct GeoColumn {
    lat: Cells,
    lon: Cells,
    /// Slots with several places, or one that is not on the globe.
    beside: BTreeMap<u32, Box<[GeoPoint]>>,
}

impl GeoColumn {
    /// Gives a slot that has none its places.
    pub fn insert(&mut self, slot: u32, points: &[GeoPoint]) {
        match points {
            [] => {}
            [point] if point.is_on_globe() => {
                self.lat.set(slot, key_of(point.lat));
                self.lon.set(slot, key_of(point.lon));
            }
            _ => {
                self.beside.insert(slot, points.into());
            }
        }
    }

    /// Takes the places of a slot away.
    pub fn remove(&mut self, slot: u32) {
        self.lat.clear(slot);
        self.lon.clear(slot);
        self.beside.remove(&slot);
    }

    /// Cuts the cells anew after many insertions.
    pub fn settle(&mut self) {
        self.lat.cut();
        self.lon.cut();
    }

    /// The slots of `within` with a place that `holds` holds, and how many slots it was asked about: those with a place
    /// in one of the rectangles, outside of which it holds no place on the globe.
    pub fn inside(
        &self,
        rectangles: &[Rectangle],
        within: &RoaringBitmap,
        holds: impl Fn(GeoPoint) -> bool,
    ) -> (RoaringBitmap, u64) {
        let mut candidates = RoaringBitmap::new();
        for rectangle in rectangles {
            let lat = self.lat.range(&keys(&rectangle.lat), within);
            candidates |= self.lon.range(&keys(&rectangle.lon), &lat);
        }
        let point = |slot: u32| {
            let (lat, lon) = (self.lat.key(slot)?, self.lon.key(slot)?);
            Some(GeoPoint { lat: float_of(lat), lon: float_of(lon) })
        };
        let mut found: RoaringBitmap =
            candidates.iter().filter(|&slot| point(slot).is_some_and(&holds)).collect();
        let is_beside = |points: &[GeoPoint]| points.iter().any(|&point| holds(point));
        let n_beside = within.len().min(self.beside.len() as u64);
        if within.len() < self.beside.len() as u64 {
            let is_in = |slot: &u32| self.beside.get(slot).is_some_and(|points| is_beside(points));
            found.extend(within.iter().filter(is_in));
        } else {
            let beside = self.beside.iter().filter(|(slot, _)| within.contains(**slot));
            found.extend(beside.filter(|(_, points)| is_beside(points)).map(|(slot, _)| slot));
        }
        (found, candidates.len() + n_beside)
    }

    /// Adds what [`GeoColumn::decode`] reads.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.lat.encode(out);
        self.lon.encode(out);
        self.encode_beside(out);
    }

    fn encode_beside(&self, out: &mut Vec<u8>) {
        put_lists(out, &self.beside, |out, points| {
            let degrees = points.iter().flat_map(|point| [point.lat, point.lon]);
            out.extend(degrees.flat_map(f64::to_le_bytes));
        });
    }

    /// Reads what was encoded.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub(super) fn decode(format: Format, reader: &mut Reader<'_>) -> Result<Self> {
        let (lat, lon) = match format {
            Format::Packed => (Cells::decode_packed(reader)?, Cells::decode_packed(reader)?),
            Format::Lent => (Cells::decode(reader)?, Cells::decode(reader)?),
        };
        let beside = reader.lists(size_of::<GeoPoint>(), |reader, n| {
            (0..n).map(|_| Ok(GeoPoint { lat: reader.f64()?, lon: reader.f64()? })).collect()
        })?;
        Ok(Self { lat, lon, beside })
    }

    /// Adds what [`GeoColumn::decode`] reads of a packed one.
    #[cfg(test)]
    pub(super) fn encode_packed(&self, out: &mut Vec<u8>) {
        self.lat.encode_packed(out);
        self.lon.encode_packed(out);
        self.encode_beside(out);
    }

    /// An upper bound on the slots with a place in one of the rectangles, or not on the globe.
    pub fn at_most(&self, rectangles: &[Rectangle]) -> u64 {
        let of =
            |r: &Rectangle| self.lat.at_most(&keys(&r.lat)).min(self.lon.at_most(&keys(&r.lon)));
        let sum: u64 = rectangles.iter().map(of).sum();
        sum.min(self.lat.n_keys()) + self.beside.len() as u64
    }

    /// Slots that a question looks at, before those in the rectangles.
    pub fn n_looked_at(&self) -> u64 {
        2 * self.lat.n_codes() + self.beside.len() as u64
    }

    /// Slots with a place.
    pub fn n_slots(&self) -> u64 {
        self.lat.n_keys() + self.beside.len() as u64
    }

    /// Bytes held, about.
    pub fn n_bytes(&self) -> usize {
        // A node of the map is at least half full.
        let beside = self.beside.values().map(|points| size_of_val(&**points) + 48);
        self.lat.n_bytes() + self.lon.n_bytes() + beside.sum::<usize>()
    }
}

fn keys(degrees: &RangeInclusive<f64>) -> RangeInclusive<i64> {
    key_of(*degrees.start())..=key_of(*degrees.end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(slots: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        slots.into_iter().collect()
    }

    #[test]
    fn several_places_and_places_off_the_globe_are_asked_about_as_well() {
        let rows = [
            json!([{"lat": 1, "lon": 1}]),
            json!([{"lat": 50.5, "lon": 1}, {"lat": 1.5, "lon": 1.5}]),
            json!([{"lat": 1, "lon": 361}]),
            json!([{"lat": 1}, {"lat": "1", "lon": 1}, 1]),
            json!([{"lat": 60, "lon": 60}]),
        ];
        let mut column = GeoColumn::default();
        for (slot, row) in (0..).zip(&rows) {
            let points: Vec<GeoPoint> =
                row.as_array().unwrap().iter().filter_map(GeoPoint::of).collect();
            column.insert(slot, &points);
        }
        let rectangles = [Rectangle { lat: 0.0..=2.0, lon: 0.0..=2.0 }];
        let near = |point: GeoPoint| point.lat < 2.0;
        assert_eq!(column.n_slots(), 4);
        assert_eq!(column.inside(&rectangles, &set(0..9), near), (set([0, 1, 2]), 3));
        assert_eq!(column.inside(&rectangles, &set([1]), near), (set([1]), 1));
        assert!(column.at_most(&rectangles) >= 3);
        (0..5).for_each(|slot| column.remove(slot));
        assert_eq!(column.inside(&rectangles, &set(0..9), near), (set([]), 0));
    }
}
