//! Kinds without a score: by id, by a field, by chance.

use std::cmp::Ordering;

use roaring::RoaringBitmap;

use crate::core::ids::PointId;
use crate::core::mix::stream;
use crate::engine::query::score::Ranked;
use crate::engine::query::stage::Walk;
use crate::engine::scroll::{Direction, first};
use crate::error::Result;
use crate::store::columns::number::Number;
use crate::store::columns::path::Path;

/// A point, and where in the order it comes.
type Ordered = (Number, PointId, u32);

impl Walk<'_> {
    /// The first `n` places by id.
    pub fn by_id(&self, matching: &RoaringBitmap, n: usize) -> Vec<u32> {
        let all = matching.iter().map(|place| (self.state.places.id(place), place)).collect();
        first(all, n, |a: &(PointId, u32), b| a.0.cmp(&b.0)).into_iter().map(|at| at.1).collect()
    }

    /// `n` places by chance, each as likely as any other; one seed gives one answer.
    pub fn sampled(&self, matching: &RoaringBitmap, seed: u64, n: usize) -> Vec<u32> {
        let all = matching.iter().map(|place| (stream(seed, place.into()), place)).collect();
        first(all, n, Ord::cmp).into_iter().map(|at: (u64, u32)| at.1).collect()
    }

    /// The first `n` by the values of a field, from one on; those of one value by id. Cost: values of columns where those have all
    /// of them, otherwise the payloads of all that match.
    ///
    /// # Errors
    /// Those of reading payloads.
    pub fn ordered(
        &self,
        matching: &RoaringBitmap,
        path: &Path,
        (direction, start): (Direction, Option<Number>),
        n: usize,
    ) -> Result<Vec<Ranked>> {
        let by_value = |a: Number, b: Number| match direction {
            Direction::Ascending => a.cmp(&b),
            Direction::Descending => b.cmp(&a),
        };
        let mut all: Vec<Ordered> = Vec::new();
        let mut take = |place: u32, value: Number| {
            if start.is_none_or(|start| by_value(value, start) != Ordering::Less) {
                all.push((value, self.state.places.id(place), place));
            }
        };
        self.state.each_value(matching, path, &mut take)?;
        let order = |a: &Ordered, b: &Ordered| by_value(a.0, b.0).then(a.1.cmp(&b.1));
        let ranked =
            |(value, _, place): Ordered| Ranked { order: Some(value), ..Ranked::unscored(place) };
        Ok(first(all, n, order).into_iter().map(ranked).collect())
    }
}
