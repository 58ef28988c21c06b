//! Points picked by a seed, with their vectors: rows that can stand in for queries.

use std::collections::BTreeSet;

use crate::core::ids::PointId;
use crate::core::mix::stream;
use crate::core::rows::Rows;
use crate::engine::collection::Collection;
use crate::engine::kept::rows_of;
use crate::error::{Error, ErrorKind, Result};
use crate::store::durable::Parts;

impl Collection {
    /// Ids and vectors `[n, dim]` of `n_points` points that have this vector, or of all if there are no more. Which ones depends
    /// only on the seed and on where the points lie.
    ///
    /// # Errors
    /// `vector_name`, `vector_shape`; those of reading; as for [`Self::search`], if an earlier write could not be followed.
    pub fn sample(&self, vector: &str, n_points: usize, seed: u64) -> Result<(Vec<PointId>, Rows)> {
        let number = self.settings().vector(vector)?;
        self.read(|state| {
            let live = state.places.live();
            let space = state.spaces[number].must_be_dense()?;
            let places = space.has().map_or(live.clone(), |has| has & live);
            let n_picked = (n_points as u64).min(places.len());
            let mut picked: BTreeSet<u32> = BTreeSet::new();
            for i in 0.. {
                if picked.len() as u64 == n_picked {
                    break;
                }
                picked.insert((stream(seed, i) % places.len()) as u32);
            }
            let slots: Vec<u32> = picked
                .iter()
                .map(|&n| state.places.slot(places.select(n).expect("fewer than there are")))
                .collect();
            let (mut ids, mut bytes) = (Vec::new(), Vec::new());
            for point in state.view.get_slots(&slots, Parts::Vectors)?.into_iter().flatten() {
                let own = point.vectors.iter().find(|(name, _)| name == vector);
                let (_, row) = own.ok_or_else(|| {
                    let message = format!("point {} lacks vector {vector:?}", point.id);
                    Error::new(ErrorKind::Corrupt, "record_corrupt", message)
                })?;
                bytes.extend_from_slice(row);
                ids.push(point.id);
            }
            Ok((ids, rows_of(&self.settings().vectors[number], &bytes)?))
        })
    }
}
