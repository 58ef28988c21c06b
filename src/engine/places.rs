//! Which point lies where.
//!
//! The record numbers points by slot, in the order in which they came. Indexes number them by *place*: places of the base
//! follow the clustering tree, so that what is near lies near; points that came or changed since have the places after
//! it. A place is used once: a point that gets another vector gets another place.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use crate::core::ids::{POINT_KEY_BYTES, PointId};
use crate::core::slab::Slab;
use crate::error::{Error, ErrorKind, Result};

/// In the place of a place: no point.
pub(super) const NONE: u32 = u32::MAX;

/// The places of a base, as they are sealed.
#[derive(Clone, Debug, Default)]
pub(super) struct BasePlaces {
    /// `[n_base]`: slots of the record, or [`NONE`].
    pub slots: Slab<u32>,
    /// `[n_base, 17]`: ids, see [`PointId::to_key`].
    pub keys: Slab<u8>,
    /// By slot of the record: the place, or [`NONE`].
    pub places: Slab<u32>,
}

impl BasePlaces {
    /// Places of points in their order.
    pub fn new(points: &[(u32, PointId)]) -> Self {
        let keys: Vec<u8> = points.iter().flat_map(|(_, id)| id.to_key()).collect();
        let slots: Vec<u32> = points.iter().map(|&(slot, _)| slot).collect();
        Self::of_slots(slots.into(), keys.into())
    }

    /// Places with these slots, [`NONE`] where there is no point, and keys.
    pub fn of_slots(slots: Slab<u32>, keys: Slab<u8>) -> Self {
        let used = || slots.iter().enumerate().filter(|(_, slot)| **slot != NONE);
        let n_slots = used().map(|(_, &slot)| slot as usize + 1).max().unwrap_or(0);
        let mut places = vec![NONE; n_slots];
        for (place, &slot) in used() {
            places[slot as usize] = place as u32;
        }
        Self { slots, keys, places: places.into() }
    }

    /// Points.
    pub fn n_points(&self) -> u64 {
        self.slots.iter().filter(|slot| **slot != NONE).count() as u64
    }

    /// Fails if no base has such places; a place or slot that is out of range would be looked up later.
    ///
    /// # Errors
    /// `places`, of kind `Corrupt`.
    pub fn check(&self) -> Result<()> {
        let n_base = self.slots.len();
        let is_back = |(place, &slot): (usize, &u32)| {
            slot == NONE
                || self.places.get(slot as usize).is_some_and(|&back| back as usize == place)
        };
        let is_id =
            |(&slot, key): (&u32, &[u8; POINT_KEY_BYTES])| slot == NONE || PointId::is_key(key);
        let n_used = self.places.iter().filter(|&&place| place != NONE).count() as u64;
        if self.keys.len() == n_base * POINT_KEY_BYTES
            && n_used == self.n_points()
            && self.slots.iter().enumerate().all(is_back)
            && self.slots.iter().zip(self.keys.as_chunks().0).all(is_id)
        {
            return Ok(());
        }
        let message = format!(
            "{n_base} places, {} bytes of ids, {n_used} slots in use: they do not belong together",
            self.keys.len()
        );
        Err(Error::new(ErrorKind::Corrupt, "places", message))
    }
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    base: BasePlaces,
    /// Of places after the base.
    later: Vec<(u32, PointId)>,
    /// Places of slots whose point lies elsewhere than in the base by now, or [`NONE`].
    moved: HashMap<u32, u32>,
    live: RoaringBitmap,
}

impl Places {
    /// The places of a base.
    pub fn of(base: BasePlaces) -> Self {
        let mut live = RoaringBitmap::new();
        live.insert_range(0..base.slots.len() as u32);
        let holes = base.slots.iter().enumerate().filter(|(_, slot)| **slot == NONE);
        holes.for_each(|(place, _)| {
            live.remove(place as u32);
        });
        Self { base, later: Vec::new(), moved: HashMap::new(), live }
    }

    /// The places of the base, as they are sealed.
    pub fn base(&self) -> &BasePlaces {
        &self.base
    }

    /// Places of the base.
    pub fn n_base(&self) -> u32 {
        self.base.slots.len() as u32
    }

    /// Places that have or had a point.
    pub fn n_places(&self) -> u32 {
        self.n_base() + self.later.len() as u32
    }

    /// Places with a point.
    pub fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    /// The slot of the record of the point that was put in a place.
    pub fn slot(&self, place: u32) -> u32 {
        match place.checked_sub(self.n_base()) {
            Some(later) => self.later[later as usize].0,
            None => self.base.slots[place as usize],
        }
    }

    /// The id of the point that was put in a place.
    pub fn id(&self, place: u32) -> PointId {
        if let Some(later) = place.checked_sub(self.n_base()) {
            return self.later[later as usize].1;
        }
        let start = place as usize * POINT_KEY_BYTES;
        let key = self.base.keys[start..start + POINT_KEY_BYTES].try_into().expect("17 bytes");
        PointId::from_key(&key).expect("checked when it was opened, or made of an id")
    }

    /// Where the point of a slot of the record lies.
    pub fn place(&self, slot: u32) -> Option<u32> {
        let base = || self.base.places.get(slot as usize).copied().unwrap_or(NONE);
        let place = self.moved.get(&slot).copied().unwrap_or_else(base);
        (place != NONE).then_some(place)
    }

    /// The places of slots of the record that have one.
    pub fn places(&self, slots: impl Iterator<Item = u32>) -> RoaringBitmap {
        let mut places: Vec<u32> = slots.filter_map(|slot| self.place(slot)).collect();
        places.sort_unstable();
        RoaringBitmap::from_sorted_iter(places).expect("sorted, and no two points share a place")
    }

    /// A new place for the point of a slot, whose earlier place, if it had one, is given up.
    pub fn put(&mut self, slot: u32, id: PointId) -> u32 {
        self.give_up(slot);
        let place = self.n_places();
        self.later.push((slot, id));
        self.moved.insert(slot, place);
        self.live.insert(place);
        place
    }

    /// Gives up the place of a slot whose point is gone; says which it was.
    pub fn give_up(&mut self, slot: u32) -> Option<u32> {
        let place = self.place(slot)?;
        self.live.remove(place);
        self.moved.insert(slot, NONE);
        Some(place)
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> u64 {
        let base = self.base.slots.len() * 4 + self.base.keys.len() + self.base.places.len() * 4;
        (base + self.later.len() * 32 + self.moved.len() * 16) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_move_and_go_and_are_found_where_they_are() {
        let points: Vec<(u32, PointId)> =
            [(4, PointId::Num(40)), (0, PointId::Uuid(7)), (2, PointId::Num(20))].into();
        let base = BasePlaces::new(&points);
        base.check().unwrap();
        let mut places = Places::of(base);
        let of = |places: &Places| (0..6).map(|slot| places.place(slot)).collect::<Vec<_>>();
        assert_eq!(of(&places), [Some(1), None, Some(2), None, Some(0), None]);
        assert_eq!((places.id(1), places.slot(0)), (PointId::Uuid(7), 4));
        assert_eq!(places.put(2, PointId::Num(20)), 3);
        assert_eq!(places.put(5, PointId::Num(50)), 4);
        assert_eq!(places.give_up(4), Some(0));
        assert_eq!(places.give_up(4), None);
        assert_eq!(of(&places), [Some(1), None, Some(3), None, None, Some(4)]);
        assert_eq!(places.live().iter().collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!((places.id(4), places.slot(3)), (PointId::Num(50), 2));
        assert_eq!(places.places([5, 0, 4].into_iter()).iter().collect::<Vec<_>>(), [1, 4]);
    }

    #[test]
    fn places_that_do_not_belong_together_are_refused() {
        let points = [(1, PointId::Num(1)), (0, PointId::Num(2))];
        let damage: [fn(&mut BasePlaces); 5] = [
            |base| base.keys.to_mut()[POINT_KEY_BYTES] = 2,
            |base| base.slots = vec![1, 1].into(),
            |base| base.slots = vec![1, 7].into(),
            |base| base.keys = vec![0; 33].into(),
            |base| base.places = vec![1, 0, 0].into(),
        ];
        for damage in damage {
            let mut base = BasePlaces::new(&points);
            damage(&mut base);
            assert_eq!(base.check().unwrap_err().code(), "places");
        }
    }
}
