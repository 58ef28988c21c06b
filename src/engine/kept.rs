//! Vectors as the record keeps them, of several points.

use crate::core::ids::PointId;
use crate::core::rows::{Dtype, Rows, Values};
use crate::core::sparse::SparseVector;
use crate::engine::settings::{Settings, VectorSettings, VectorShape};
use crate::error::{Error, ErrorKind, Result};
use crate::store::durable::Point;

/// What points have of one vector: bytes, one after another.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// Where the points lie.
    pub places: Vec<u32>,
    bytes: Vec<u8>,
    /// Where the bytes of each end.
    ends: Vec<usize>,
}

impl Kept {
    /// Adds those of the point at a place.
    pub fn push(&mut self, place: u32, bytes: &[u8]) {
        self.places.push(place);
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    /// Places with their bytes.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end]);
        self.places.iter().copied().zip(ranges)
    }

    /// The same points, where they lie by now, in the order of those places.
    pub fn moved(&self, to: impl Fn(u32) -> Option<u32>) -> Self {
        let mut entries: Vec<(u32, &[u8])> =
            self.iter().filter_map(|(place, bytes)| Some((to(place)?, bytes))).collect();
        entries.sort_unstable_by_key(|&(place, _)| place);
        let mut moved = Self::default();
        entries.into_iter().for_each(|(place, bytes)| moved.push(place, bytes));
        moved
    }

    /// All rows, those of each point after those of the one before.
    ///
    /// # Errors
    /// Those of [`Rows::new`].
    pub fn rows(&self, settings: &VectorSettings) -> Result<Rows> {
        rows_of(settings, &self.bytes)
    }

    /// Where the rows of each point begin, and where those of the last end.
    pub fn starts(&self, settings: &VectorSettings) -> Vec<u64> {
        let row_bytes = settings.row_bytes();
        let ends = self.ends.iter().map(|end| (end / row_bytes) as u64);
        std::iter::once(0).chain(ends).collect()
    }

    /// The sparse vector of each point.
    ///
    /// # Errors
    /// `record_corrupt`.
    pub fn sparse(&self) -> Result<Vec<SparseVector>> {
        self.iter().map(|(_, bytes)| sparse_of(bytes)).collect()
    }
}

/// The bytes of a vector of a point; a point of a collection with one vector has it.
///
/// # Errors
/// `record_corrupt` names the point.
pub(super) fn vector<'p>(
    point: &'p Point,
    settings: &Settings,
    i: usize,
) -> Result<Option<&'p [u8]>> {
    let own = &settings.vectors[i];
    let broken = |what: String| {
        let message = format!("point {}, vector {:?}: {what}", point.id, own.name);
        Err(Error::new(ErrorKind::Corrupt, "record_corrupt", message))
    };
    let Some((_, bytes)) = point.vectors.iter().find(|(name, _)| *name == own.name) else {
        return if settings.is_only() { broken("it lacks".to_owned()) } else { Ok(None) };
    };
    let (n_bytes, row_bytes) = (bytes.len(), own.row_bytes());
    let is_whole = match own.shape {
        VectorShape::Dense => n_bytes == row_bytes,
        VectorShape::Multi => n_bytes > 0 && n_bytes.is_multiple_of(row_bytes),
        VectorShape::Sparse { .. } => n_bytes.is_multiple_of(8),
    };
    match (is_whole, own.shape) {
        (true, _) => Ok(Some(bytes)),
        (false, VectorShape::Dense) => broken(format!("{n_bytes} bytes, expected {row_bytes}")),
        (false, shape) => broken(format!("{n_bytes} bytes of a {} vector", shape.name())),
    }
}

/// Rows of the bytes that the record holds.
///
/// # Errors
/// Those of [`Rows::new`].
pub(super) fn rows_of(settings: &VectorSettings, bytes: &[u8]) -> Result<Rows> {
    let values = match settings.dtype {
        Dtype::F32 => Values::F32(bytemuck::pod_collect_to_vec::<_, f32>(bytes).into()),
        Dtype::F16 => Values::F16(bytemuck::pod_collect_to_vec::<_, half::f16>(bytes).into()),
        Dtype::U8 => Values::U8(bytes.to_vec().into()),
        Dtype::I8 => Values::I8(bytemuck::pod_collect_to_vec::<_, i8>(bytes).into()),
    };
    Rows::new(values, settings.dim)
}

/// The sparse vector of the bytes that the record holds.
///
/// # Errors
/// `record_corrupt`.
pub(super) fn sparse_of(bytes: &[u8]) -> Result<SparseVector> {
    SparseVector::from_bytes(bytes).ok_or_else(|| {
        let message = format!("{} bytes that are no sparse vector", bytes.len());
        Error::new(ErrorKind::Corrupt, "record_corrupt", message)
    })
}

/// The error for a point that has in the index what it has not in the record.
pub(super) fn only_in_index(id: PointId, name: &str) -> Error {
    let message = format!("point {id} has a row of {name:?} in the index only");
    Error::new(ErrorKind::Corrupt, "record_corrupt", message)
}
