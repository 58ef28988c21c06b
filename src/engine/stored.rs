//! Points as they were stored: those of given ids, and how many there are.

use std::ops::Deref;
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::core::ids::PointId;
use crate::core::rows::Rows;
use crate::core::sparse::SparseVector;
use crate::engine::collection::Collection;
use crate::engine::kept::{rows_of, sparse_of};
use crate::engine::passing::Passing;
use crate::engine::points::payload;
use crate::engine::search::{ANY_VECTOR, Ask, Evaluated};
use crate::engine::settings::{Settings, VectorShape};
use crate::engine::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::filter::Filter;
use crate::store::durable::{Parts, Point};

/// A point as it was stored.
#[derive(Clone, Debug)]
pub struct StoredPoint {
    /// Its id.
    pub id: PointId,
    /// Its payload, a JSON object, if it was asked for.
    pub payload: Option<Value>,
    /// Of the vectors that were asked for those that it has, sorted by name: rows `[n, dim]` of the collection's type each, one of
    /// a dense vector.
    pub vectors: Vec<(String, Rows)>,
    /// The sparse ones of them, sorted by name.
    pub sparse: Vec<(String, SparseVector)>,
}

/// What is wanted of points.
#[derive(Clone, Debug, PartialEq)]
pub struct With {
    /// Their payloads.
    pub payload: bool,
    /// Their vectors.
    pub vectors: WithVectors,
}

/// Which vectors are wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum WithVectors {
    /// None.
    Nothing,
    /// All that a point has.
    All,
    /// Those of these names that it has.
    Named(Vec<String>),
}

impl Default for With {
    fn default() -> Self {
        Self { payload: true, vectors: WithVectors::Nothing }
    }
}

impl With {
    pub(super) fn check(&self, settings: &Settings) -> Result<()> {
        match &self.vectors {
            WithVectors::Nothing | WithVectors::All => Ok(()),
            WithVectors::Named(names) => {
                names.iter().try_for_each(|name| settings.vector(name).map(drop))
            }
        }
    }

    fn parts(&self) -> Parts {
        match (self.payload, &self.vectors) {
            (false, WithVectors::Nothing) => Parts::None,
            (true, WithVectors::Nothing) => Parts::Payload,
            (false, _) => Parts::Vectors,
            (true, _) => Parts::All,
        }
    }

    fn wants(&self, name: &str) -> bool {
        match &self.vectors {
            WithVectors::Nothing => false,
            WithVectors::All => true,
            WithVectors::Named(names) => names.iter().any(|own| own == name),
        }
    }
}

impl Collection {
    /// For every id its point, `None` where there is no such point or the tenant may not read it: nothing tells which. Every
    /// point without a tenant. Cost: a few look-ups in the record and the bytes asked for, per point.
    ///
    /// # Errors
    /// `vector_name` for a wanted vector that the collection has not; those of reading.
    pub fn retrieve(
        &self,
        tenant: Option<&str>,
        ids: &[PointId],
        with: &With,
    ) -> Result<Vec<Option<StoredPoint>>> {
        let settings = self.settings();
        with.check(&settings)?;
        self.read(|state| state.retrieve(tenant, ids, with, &settings))
    }

    /// Points that the tenant may read and that pass, counted exactly. Cost: that of the filter, none for one that was asked
    /// for since the last write.
    ///
    /// # Errors
    /// Those of reading payloads.
    pub fn count(&self, ask: &Ask) -> Result<u64> {
        self.read_whole(|state| Ok(state.matching(ask)?.len()))
    }
}

impl State {
    /// See [`Collection::retrieve`].
    pub(super) fn retrieve(
        &self,
        tenant: Option<&str>,
        ids: &[PointId],
        with: &With,
        settings: &Settings,
    ) -> Result<Vec<Option<StoredPoint>>> {
        // Nothing more is read of what the tenant may not read, so that neither its damage nor its size shows.
        let readable = self.which_readable(tenant, ids)?;
        let wanted: Vec<PointId> =
            ids.iter().zip(&readable).filter(|(_, may)| **may).map(|(id, _)| *id).collect();
        let mut points = self.view.get(&wanted, with.parts())?.into_iter();
        let stored = readable.into_iter().map(|may| {
            let point = if may { points.next().flatten() } else { None };
            point.map(|point| stored(point, with, settings)).transpose()
        });
        stored.collect()
    }

    /// Which of these there are, and the tenant may read; any tenant without one.
    pub(super) fn which_readable(
        &self,
        tenant: Option<&str>,
        ids: &[PointId],
    ) -> Result<Vec<bool>> {
        let Some(name) = tenant else {
            return Ok(self.view.slots_of(ids)?.into_iter().map(|slot| slot.is_some()).collect());
        };
        let Some(tenant) = self.view.tenant(name)? else { return Ok(vec![false; ids.len()]) };
        let points = self.view.get(ids, Parts::None)?.into_iter();
        Ok(points
            .map(|point| point.is_some_and(|point| point.tenants.binary_search(&tenant).is_ok()))
            .collect())
    }

    /// The places of the points that the tenant may read and that pass, remembered until something changes.
    pub(super) fn matching(&self, ask: &Ask) -> Result<Matching<'_>> {
        let has_filter = *ask.filter() != Filter::default();
        let Some(name) = ask.tenant() else {
            return Ok(if has_filter {
                Matching::Some(self.passing(ask, &mut Evaluated::default())?)
            } else {
                Matching::All(self.places.live())
            });
        };
        let key = (ANY_VECTOR, Some(name.into()), ask.key());
        if let Some(known) = self.known.get(&key) {
            return Ok(Matching::Some(known));
        }
        let mut places = self.readable(name)?;
        if has_filter && !places.is_empty() {
            places &= self.passing(ask, &mut Evaluated::default())?.places();
        }
        let set = Arc::new(Passing::new(places));
        // Names that nobody has would fill the memory of whoever is asked for them.
        if set.n_matches() > 0 {
            self.known.put(key, &set);
        }
        Ok(Matching::Some(set))
    }
}

/// Places of points that match.
pub(super) enum Matching<'s> {
    /// All there are.
    All(&'s RoaringBitmap),
    /// Some.
    Some(Arc<Passing>),
}

impl Deref for Matching<'_> {
    type Target = RoaringBitmap;

    fn deref(&self) -> &RoaringBitmap {
        match self {
            Self::All(places) => places,
            Self::Some(passing) => passing.places(),
        }
    }
}

fn stored(point: Point, with: &With, settings: &Settings) -> Result<StoredPoint> {
    let (mut vectors, mut sparse) = (Vec::new(), Vec::new());
    for (name, bytes) in point.vectors.iter().filter(|(name, _)| with.wants(name)) {
        let own = settings.vectors.iter().find(|vector| vector.name == *name).ok_or_else(|| {
            let message = format!("point {}: a vector {name:?} of no such settings", point.id);
            Error::new(ErrorKind::Corrupt, "record_corrupt", message)
        })?;
        match own.shape {
            VectorShape::Dense | VectorShape::Multi => {
                vectors.push((name.clone(), rows_of(own, bytes)?));
            }
            VectorShape::Sparse { .. } => sparse.push((name.clone(), sparse_of(bytes)?)),
        }
    }
    let payload = with.payload.then(|| payload(point.id, &point.payload)).transpose()?;
    Ok(StoredPoint { id: point.id, payload, vectors, sparse })
}
