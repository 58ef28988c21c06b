//! Queries of every kind: nearest, recommended, discovered, ordered, fused, computed, grouped.
//!
//! In: a [`Query`], a tree of stages, and the tenant that asks. Out: points with scores, as they were stored. Next: `request`, what
//! can be asked; `stage`, one stage after another; `nearest`, the kinds that compare a vector; `several`, scores by several
//! examples; `fusion` and `formula`, what becomes of prefetches.
//!
//! All of a query is answered at one version, from the exact set of points that the tenant may read and that pass: no stage, example
//! or group shows another tenant's point. An example that the tenant may not read is not there for it.
//!
//! ```
//! # use std::sync::Arc;
//! # use nearkin::core::{ids::PointId, metric::Metric, rows::{Dtype, Rows, Values}};
//! # use nearkin::engine::{Collection, NewPoint, Settings, Vectors, With, Writer};
//! use nearkin::engine::query::{Example, Kind, Prefetch, Query};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("notes");
//! # drop(Writer::open(&path, &Settings::of_vector(2, Metric::Dot, Dtype::F32))?);
//! # let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build()?);
//! # let notes = Collection::open(&path, &pool, 1 << 30)?;
//! # let points: Vec<NewPoint> = (1..=3)
//! #     .map(|id| NewPoint { id: PointId::Num(id), payload: serde_json::json!({}) })
//! #     .collect();
//! # let rows = Rows::new(Values::F32(vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0].into()), 2)?;
//! # notes.upsert(&points, &Vectors::only(&rows))?;
//! let near = Kind::Nearest(Example::Id(PointId::Num(1)));
//! let query = Query { stage: Prefetch { kind: near, ..Prefetch::default() }, offset: 0 };
//! let found = notes.query(None, &query, &With::default())?;
//! assert_eq!(found.points[0].point.id, PointId::Num(2));
//! # Ok(())
//! # }
//! ```

mod check;
mod diverse;
mod examples;
mod formula;
mod fusion;
mod groups;
mod matrix;
mod nearest;
mod order;
mod request;
mod rescore;
mod score;
mod several;
mod stage;
#[cfg(test)]
mod tests;

pub use formula::{Expression, Formula, Shape, Variable};
pub use groups::{Group, GroupKey, GroupQuery, Grouped};
pub use matrix::{Matrix, MatrixQuery};
pub use request::{Example, Fusion, Kind, Lookup, Pair, Prefetch, Query, RANK_K, Strategy};

use crate::core::ids::PointId;
use crate::engine::collection::Collection;
use crate::engine::query::score::Ranked;
use crate::engine::query::stage::{Walk, Window};
use crate::engine::stored::{StoredPoint, With};
use crate::error::Result;
use crate::plan::cost::Way;
use crate::store::columns::number::Number;

/// A point that a query found.
#[derive(Clone, Debug)]
pub struct QueriedPoint {
    /// The point, with what was wanted of it.
    pub point: StoredPoint,
    /// See [`Kind`]; 1 for kinds without a score.
    pub score: f32,
    /// The value at which it came, in the order of a field; moments are in microseconds since 1970.
    pub order: Option<Number>,
}

/// What a query found.
#[derive(Clone, Debug)]
pub struct Queried {
    /// The points in their order.
    pub points: Vec<QueriedPoint>,
    /// What every stage found, each after its prefetches.
    pub stages: Vec<StageFacts>,
}

/// What one stage of a query found, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct StageFacts {
    /// Which: `prefetch[0].prefetch[1]`; empty for the last.
    pub at: String,
    /// See [`Kind::name`].
    pub kind: &'static str,
    /// Points that it found.
    pub n_found: usize,
    /// Points that it could have found, where that was counted.
    pub n_matches: Option<u64>,
    /// How a vector was compared.
    pub way: Option<Way>,
}

impl Collection {
    /// The points that a query finds among those that the tenant may read, all points without a tenant. Cost: that of
    /// [`Self::search`] for the nearest; kinds that score by several examples compare all points that pass with each.
    ///
    /// # Errors
    /// Those of [`Query::check`]; `vector_name`, `vector_dim`, `vector_dtype`, `vector_zero_norm`, `vector_magnitude`,
    /// `recall_range`, `ef_range`; `id_not_found` and `vector_not_found` for examples, `lookup` if
    /// [`Query::looked_up`] is still to be done; `formula` names the point for which one has no value; those of reading.
    pub fn query(&self, tenant: Option<&str>, query: &Query, with: &With) -> Result<Queried> {
        let mut found = self.query_batch(tenant, &[(query, with)])?;
        Ok(found.swap_remove(0))
    }

    /// The points of several queries, each with what is wanted of them, at one version.
    ///
    /// # Errors
    /// Those of [`Self::query`], of the first query that has some.
    pub fn query_batch(
        &self,
        tenant: Option<&str>,
        queries: &[(&Query, &With)],
    ) -> Result<Vec<Queried>> {
        queries.iter().try_for_each(|(query, _)| query.check())?;
        self.walk(tenant, |walk| {
            let one = |(query, with): &(&Query, &With)| {
                let window = Window { offset: query.offset, limit: query.stage.limit };
                let points = walk.stage(&query.stage, "", window)?;
                let points = walk.shown(&points, with)?;
                Ok(Queried { points, stages: std::mem::take(&mut walk.stages) })
            };
            queries.iter().map(one).collect()
        })
    }

    /// Does `work` at one version, once more if columns that it needed were damaged and have been mended.
    fn walk<T>(
        &self,
        tenant: Option<&str>,
        work: impl Fn(&mut Walk<'_>) -> Result<T>,
    ) -> Result<T> {
        let settings = self.settings();
        self.read_whole(|state| {
            work(&mut Walk {
                backend: &self.backend,
                settings: &settings,
                state,
                recall: &self.recall,
                tenant,
                stages: Vec::new(),
            })
        })
    }
}

impl Walk<'_> {
    /// Points as they were stored. Whose they are was decided when they were found.
    fn shown(&self, points: &[Ranked], with: &With) -> Result<Vec<QueriedPoint>> {
        with.check(self.settings)?;
        let ids: Vec<PointId> =
            points.iter().map(|point| self.state.places.id(point.place)).collect();
        let stored = self.state.retrieve(None, &ids, with, self.settings)?;
        let shown = points.iter().zip(stored).filter_map(|(ranked, point)| {
            Some(QueriedPoint { point: point?, score: ranked.score, order: ranked.order })
        });
        Ok(shown.collect())
    }
}
