//! How near some points, taken by chance, are to each other.

use crate::core::ids::PointId;
use crate::core::limits::K;
use crate::engine::collection::Collection;
use crate::engine::query::check::bad;
use crate::engine::query::score::shown;
use crate::engine::query::stage::Walk;
use crate::engine::search::Ask;
use crate::engine::settings::DEFAULT_VECTOR;
use crate::engine::spaces::{Queries, VectorSpace};
use crate::error::Result;

/// Which points are taken, and how many neighbors of each.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixQuery {
    /// Points that are taken, of those that have the vector.
    pub sample: usize,
    /// Neighbors of each among the others.
    pub limit: usize,
    /// The vector that is compared.
    pub vector: String,
    /// Decides which points are taken.
    pub seed: u64,
}

impl Default for MatrixQuery {
    fn default() -> Self {
        Self { sample: 10, limit: 3, vector: DEFAULT_VECTOR.to_owned(), seed: 0 }
    }
}

/// Points and their nearest neighbors among each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    /// The points, ascending; none where there are fewer than two.
    pub ids: Vec<PointId>,
    /// For each its neighbors, as numbers into [`Self::ids`], nearest first, with their scores, see
    /// [`Kind::Nearest`](super::Kind::Nearest).
    pub neighbors: Vec<Vec<(usize, f32)>>,
}

impl Collection {
    /// The neighbors of points that are taken by chance from those that pass. Cost: distances between all that are taken.
    ///
    /// # Errors
    /// `query_range`, `vector_name`; those of reading.
    pub fn search_matrix(&self, ask: &Ask, matrix: &MatrixQuery) -> Result<Matrix> {
        for (name, n) in [("sample", matrix.sample), ("limit", matrix.limit)] {
            if !(1..=K).contains(&n) {
                return Err(bad("query_range", format!("{name}: {n}, expected 1 to {K}")));
            }
        }
        self.walk(ask.tenant(), |walk| walk.matrix(ask, matrix))
    }
}

impl Walk<'_> {
    fn matrix(&self, ask: &Ask, matrix: &MatrixQuery) -> Result<Matrix> {
        let (state, vector) = (self.state, self.settings.vector(&matrix.vector)?);
        let set = state.evaluated(vector, ask)?.set;
        let all = set.as_ref().map_or(state.places.live(), |set| set.places());
        let mut places = self.sampled(all, matrix.seed, matrix.sample);
        if places.len() < 2 {
            return Ok(Matrix::default());
        }
        places.sort_unstable();
        let space = &state.spaces[vector];
        let metric = space.shown_by();
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_unstable_by_key(|&i| state.places.id(places[i]));
        let mut found = Matrix::default();
        for &row in &order {
            let id = state.places.id(places[row]);
            let query = state.stored_vector(id, &matrix.vector, self.settings)?;
            let distances = self.distances(space, query, &places)?;
            let others = order.iter().enumerate().filter(|(_, other)| **other != row);
            let mut near: Vec<(usize, f32)> =
                others.filter_map(|(number, &other)| Some((number, distances[other]?))).collect();
            near.sort_by(|a, b| a.1.total_cmp(&b.1));
            near.truncate(matrix.limit);
            let shown = |(number, distance)| (number, shown(metric, distance));
            found.neighbors.push(near.into_iter().map(shown).collect());
            found.ids.push(id);
        }
        Ok(found)
    }

    /// Distances of one query to places, as a search for the nearest has them; `None` to those that it would not find.
    fn distances(
        &self,
        space: &VectorSpace,
        query: Queries,
        places: &[u32],
    ) -> Result<Vec<Option<f32>>> {
        let query = self.weighted(space, query)?;
        if let (VectorSpace::Sparse(space), Queries::Sparse(all)) = (space, &query) {
            let allowed = places.iter().copied().collect();
            let mut distances = vec![None; places.len()];
            for near in space.search(&all[0], &allowed, places.len()) {
                let at = places.binary_search(&near.slot).expect("it was allowed");
                distances[at] = Some(near.distance);
            }
            return Ok(distances);
        }
        let distances = space.distances(self.backend, &query, places)?.swap_remove(0);
        Ok(distances.into_iter().map(Some).collect())
    }
}
