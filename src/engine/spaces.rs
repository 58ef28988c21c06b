//! The vectors of the points, each of its shape, and what is asked of all of them.

use roaring::RoaringBitmap;

use crate::backend::cpu::Cpu;
use crate::core::metric::Metric;
use crate::core::rows::Rows;
use crate::core::sparse::SparseVector;
use crate::engine::kept::{Kept, rows_of, sparse_of};
use crate::engine::multi::MultiSpace;
use crate::engine::settings::{VectorSettings, VectorShape};
use crate::engine::space::Space;
use crate::engine::sparse::SparseSpace;
use crate::error::{Error, Result};

/// One vector of the points.
pub(super) enum VectorSpace {
    /// Of one row.
    Dense(Box<Space>),
    /// Of several rows.
    Multi(Box<MultiSpace>),
    /// Of values at some indices.
    Sparse(Box<SparseSpace>),
}

/// What the points are compared with, of the shape of their vector.
#[derive(Clone, Debug)]
pub(super) enum Queries {
    /// A row each.
    Rows(Rows),
    /// Rows each.
    Multi(Vec<Rows>),
    /// A sparse vector each.
    Sparse(Vec<SparseVector>),
}

impl Queries {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.n_rows(),
            Self::Multi(all) => all.len(),
            Self::Sparse(all) => all.len(),
        }
    }

    /// What a point has of a vector, as the record keeps it.
    ///
    /// # Errors
    /// `record_corrupt`.
    pub fn of_bytes(settings: &VectorSettings, bytes: &[u8]) -> Result<Self> {
        Ok(match settings.shape {
            VectorShape::Dense => Self::Rows(rows_of(settings, bytes)?),
            VectorShape::Multi => Self::Multi(vec![rows_of(settings, bytes)?]),
            VectorShape::Sparse { .. } => Self::Sparse(vec![sparse_of(bytes)?]),
        })
    }
}

impl VectorSpace {
    /// A vector of points of a base that has no index of rows.
    ///
    /// # Errors
    /// Those of the spaces.
    pub fn of(backend: &Cpu, settings: &VectorSettings, kept: &Kept) -> Result<Self> {
        let settings = settings.clone();
        Ok(match settings.shape {
            VectorShape::Dense => unreachable!("it has rows"),
            VectorShape::Multi => Self::Multi(Box::new(MultiSpace::of(backend, settings, kept)?)),
            VectorShape::Sparse { .. } => {
                Self::Sparse(Box::new(SparseSpace::of(backend, settings, kept)?))
            }
        })
    }

    /// Its settings.
    pub fn settings(&self) -> &VectorSettings {
        match self {
            Self::Dense(space) => space.settings(),
            Self::Multi(space) => space.settings(),
            Self::Sparse(space) => space.settings(),
        }
    }

    /// The places with this vector, if some have none.
    pub fn has(&self) -> Option<&RoaringBitmap> {
        match self {
            Self::Dense(space) => space.has(),
            Self::Multi(space) => Some(space.has()),
            Self::Sparse(space) => Some(space.has()),
        }
    }

    /// The rows of one that is dense.
    pub fn dense(&self) -> Option<&Space> {
        match self {
            Self::Dense(space) => Some(space),
            Self::Multi(_) | Self::Sparse(_) => None,
        }
    }

    /// See [`Space::give_up_damaged`]; other shapes have no graph.
    pub fn give_up_damaged(&mut self) -> Option<Error> {
        match self {
            Self::Dense(space) => space.give_up_damaged(),
            Self::Multi(_) | Self::Sparse(_) => None,
        }
    }

    /// The rows of one that must be dense.
    ///
    /// # Errors
    /// `vector_shape`.
    pub fn must_be_dense(&self) -> Result<&Space> {
        self.dense().ok_or_else(|| self.settings().shape_error("a dense one"))
    }

    /// Whether what came since can be made part of the base: there is something to put it in.
    pub fn can_grow(&self) -> bool {
        self.dense().is_none_or(|space| space.near().is_some())
    }

    /// The metric by which a distance becomes a score: sums of similarities are such themselves.
    pub fn shown_by(&self) -> Metric {
        match (self, self.settings().metric) {
            (Self::Multi(_), Metric::Cosine) => Metric::Dot,
            (_, metric) => metric,
        }
    }

    /// Points of the base that have or had the vector, and points that came since.
    pub fn n_points(&self) -> (u64, u64) {
        match self {
            Self::Dense(space) => (u64::from(space.n_base()), space.recent().n_rows() as u64),
            Self::Multi(space) => space.n_points(),
            Self::Sparse(space) => space.n_points(),
        }
    }

    /// Adds what points have at places after all others.
    ///
    /// # Errors
    /// Those of the spaces.
    pub fn push(&mut self, backend: &Cpu, kept: Kept) -> Result<()> {
        match self {
            _ if kept.places.is_empty() => Ok(()),
            Self::Dense(space) => {
                let rows = kept.rows(space.settings())?;
                space.push(backend, kept.places, rows)
            }
            Self::Multi(space) => space.push(backend, &kept),
            Self::Sparse(space) => space.push(backend, &kept),
        }
    }

    /// Queries as they are compared, of whoever may read these places.
    ///
    /// # Errors
    /// Those of `readable`, which is asked where it matters.
    pub fn weighted(
        &self,
        queries: Queries,
        readable: impl FnOnce() -> Result<RoaringBitmap>,
    ) -> Result<Queries> {
        match (self, queries) {
            (Self::Sparse(space), Queries::Sparse(all))
                if space.settings().shape == (VectorShape::Sparse { idf: true }) =>
            {
                let readable = readable()?;
                let weighted = all.iter().map(|query| space.weighted(query, &readable));
                Ok(Queries::Sparse(weighted.collect()))
            }
            (_, queries) => Ok(queries),
        }
    }

    /// Distances of every query to the points at these places, which are ascending and have this vector, in their order.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn distances(
        &self,
        backend: &Cpu,
        queries: &Queries,
        places: &[u32],
    ) -> Result<Vec<Vec<f32>>> {
        match (self, queries) {
            (Self::Dense(space), Queries::Rows(rows)) => space.distances(backend, rows, places),
            (Self::Multi(space), Queries::Multi(all)) => space.distances(backend, all, places),
            (Self::Sparse(space), Queries::Sparse(all)) => Ok(space.distances(all, places)),
            _ => unreachable!("queries are made of the shape of their vector"),
        }
    }
}
