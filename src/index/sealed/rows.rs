//! Rows in a sealed file with what the processor keeps beside them. Names of sections begin with a name that is given.
//!
//! | section | elements | holds |
//! |---|---|---|
//! | `NAME.about` | u64 `[5]` | element type (1 f32, 2 f16, 3 u8, 4 i8), metric, `n_rows`, `dim`, 1 if a scaled copy follows |
//! | `NAME.values` | of that type `[n_rows, dim]` | the rows |
//! | `NAME.inverse` | f32 `[n_rows]` for cosine, otherwise `[0]` | one over the norm of every row, scaled if there is a copy |
//! | `NAME.square` | u32 `[n_rows]` for L2 of bytes, otherwise `[0]` | the square of the norm of every row |
//! | `NAME.scaled` | f32 `[n_rows, dim]` or `[0]` | rows whose norms 32-bit floats can square |

use std::sync::Arc;

use half::f16;

use crate::backend::Backend;
use crate::backend::cpu::placed::Placed;
use crate::backend::resident::Resident;
use crate::core::metric::Metric;
use crate::core::rows::{Dtype, Rows, Values};
use crate::error::Result;
use crate::index::graph::raw::RawRows;
use crate::index::sealed::{metric_of, metric_tag};
use crate::store::sealed::{Sealed, SealedWriter};

/// The element types by their numbers in files.
const DTYPES: [(u64, Dtype); 4] =
    [(1, Dtype::F32), (2, Dtype::F16), (3, Dtype::U8), (4, Dtype::I8)];

/// Rows that a metric compares, with what is derived from each. Clones share them.
#[derive(Clone, Debug)]
pub struct PlacedRows {
    rows: Arc<Rows>,
    metric: Metric,
    placed: Arc<Placed>,
}

impl PlacedRows {
    /// Sections that [`Self::seal`] writes.
    pub const N_SECTIONS: usize = 5;

    /// Rows and what is derived from them. Cost: two passes over the rows.
    ///
    /// # Errors
    /// Those of [`Rows::check`].
    pub fn new(rows: Arc<Rows>, metric: Metric) -> Result<Self> {
        rows.check(metric)?;
        let placed = Arc::new(Placed::new(&rows, metric));
        Ok(Self { rows, metric, placed })
    }

    /// The rows.
    pub fn rows(&self) -> &Arc<Rows> {
        &self.rows
    }

    /// What they are compared by.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The rows as a graph compares them. What was opened from a file is shared with it, what was not is copied, except the
    /// rows.
    ///
    /// # Errors
    /// Those of [`RawRows::placed`].
    pub fn raw(&self) -> Result<RawRows<'static>> {
        RawRows::placed(Arc::clone(&self.rows), self.metric, Placed::clone(&self.placed))
    }

    /// The rows held by a backend.
    ///
    /// # Errors
    /// Those of [`Backend::upload_placed`].
    pub fn upload(&self, backend: &dyn Backend) -> Result<Resident> {
        let placed = Placed::clone(&self.placed);
        backend.upload_placed(Arc::clone(&self.rows), self.metric, placed)
    }

    /// Writes the rows, in sections that begin with `name`.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn seal(&self, writer: &mut SealedWriter<'_>, name: &str) -> Result<()> {
        let (n_rows, dim) = (self.rows.n_rows() as u64, self.rows.dim() as u64);
        let Placed { inverse, square, scaled } = &*self.placed;
        let dtype = DTYPES.iter().find(|one| one.1 == self.rows.dtype());
        let dtype = dtype.expect("all element types are listed").0;
        let is_scaled = u64::from(scaled.is_some());
        writer.section::<u64>(&format!("{name}.about"), &[5])?;
        writer.append(&[dtype, metric_tag(self.metric), n_rows, dim, is_scaled])?;
        let (values, shape) = (format!("{name}.values"), [n_rows, dim]);
        match self.rows.values() {
            Values::F32(elements) => {
                writer.section::<f32>(&values, &shape)?;
                writer.append::<f32>(elements)?;
            }
            Values::F16(elements) => {
                writer.section::<f16>(&values, &shape)?;
                writer.append::<f16>(elements)?;
            }
            Values::U8(elements) => {
                writer.section::<u8>(&values, &shape)?;
                writer.append::<u8>(elements)?;
            }
            Values::I8(elements) => {
                writer.section::<i8>(&values, &shape)?;
                writer.append::<i8>(elements)?;
            }
        }
        writer.section::<f32>(&format!("{name}.inverse"), &[inverse.len() as u64])?;
        writer.append::<f32>(inverse)?;
        writer.section::<u32>(&format!("{name}.square"), &[square.len() as u64])?;
        writer.append::<u32>(bytemuck::cast_slice(square))?;
        let scaled: &[f32] = scaled.as_deref().unwrap_or_default();
        writer.section::<f32>(&format!("{name}.scaled"), &[scaled.len() as u64])?;
        writer.append(scaled)
    }

    /// The rows of a file; none of them is looked at, nor anything that was derived from one.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn open(sealed: &Sealed, name: &str) -> Result<Self> {
        let section = |part: &str| format!("{name}.{part}");
        let about = section("about");
        let [dtype, metric, n_rows, dim, is_scaled] = sealed.about(&about)?;
        let dtype = DTYPES.iter().find(|one| one.0 == dtype);
        let (Some(&(_, dtype)), Some(metric)) = (dtype, metric_of(metric)) else {
            return Err(sealed.refuse(&about, "no such element type or metric"));
        };
        let (values, shape) = (section("values"), [n_rows, dim]);
        let values = match dtype {
            Dtype::F32 => Values::F32(sealed.slab_as::<f32, _>(&values, &shape)?),
            Dtype::F16 => Values::F16(sealed.slab_as::<f16, _>(&values, &shape)?),
            Dtype::U8 => Values::U8(sealed.slab_as::<u8, _>(&values, &shape)?),
            Dtype::I8 => Values::I8(sealed.slab_as::<i8, _>(&values, &shape)?),
        };
        let dim = usize::try_from(dim).map_err(|error| sealed.refuse(&about, error))?;
        let rows = Rows::trusted(values, dim).map_err(|error| sealed.refuse(&about, error))?;
        let has_squares = metric == Metric::L2 && dtype.is_integer();
        let n_squares = if has_squares { n_rows } else { 0 };
        let placed = Placed {
            inverse: sealed.slab(&section("inverse"))?.0,
            square: sealed.slab_as::<u32, i32>(&section("square"), &[n_squares])?,
            scaled: match is_scaled {
                0 => None,
                _ => Some(sealed.slab(&section("scaled"))?.0),
            },
        };
        placed.check(&rows, metric).map_err(|error| sealed.refuse(&about, error))?;
        Ok(Self { rows: Arc::new(rows), metric, placed: Arc::new(placed) })
    }
}
