//! An index for exact search in a sealed file, and back: codes and their layout stay in the file. Its rows are sealed by
//! [`PlacedRows`], once for all indexes over them.
//!
//! | section | elements | holds |
//! |---|---|---|
//! | `exact.about` | u64 `[6]` | metric, seed of the rotation, `n_rows`, `dim`, words of a plane, 1 if bytes follow |
//! | `exact.centroid` | f32 `[dim]` | the mean of the rows |
//! | `exact.signs`, `exact.extra` | u64 `[n_rows, n_words]`, `[n_rows, 3, n_words]` | bit planes |
//! | `exact.coarse`, `exact.fine` | f32 `[n_rows, 3]` | factors of one bit and of four |
//! | `exact.scan.signs` | u8 `[n_blocks, 8 n_words, 32]` | the processor's layout: sign planes of 32 rows |
//! | `exact.scan.blocks` | f32 `[n_blocks, 4, 32]` | their factors |
//! | `exact.scan.nibbles` | u8 `[n_rows, 32 n_words]` | codes of four bits |
//! | `exact.scan.fine` | u32 `[n_rows, 4]` | bits of three factors, and the sum of the code |
//! | `exact.bytes.*` | see `rows.rs` | rows as bytes, if they are kept |
//! | `exact.rounding` | f32 `[5]` | with bytes: 1 if all rows share a scale, the scale; worst residual, norm, 1 if cut off |

use std::sync::Arc;

use bytemuck::cast_slice;
use rayon::ThreadPool;

use crate::backend::Backend;
use crate::backend::codes::{EXTRA_PLANES, Factors, RabitqCodes};
use crate::backend::cpu::layout::{FineFactors, Layout};
use crate::core::rows::{Rows, Values};
use crate::distance::simd::popcount::{BLOCK, BlockFactors};
use crate::error::Result;
use crate::index::sealed::{PlacedRows, metric_of, metric_tag};
use crate::quant::int8::Rounding;
use crate::quant::rabitq::Rabitq;
use crate::quant::search::{Bytes, ExactIndex};
use crate::store::sealed::{Sealed, SealedWriter};

impl ExactIndex {
    /// Sections that [`Self::seal`] writes.
    pub fn n_sections(&self) -> usize {
        let of_bytes = if self.bytes().is_some() { PlacedRows::N_SECTIONS + 1 } else { 0 };
        10 + of_bytes
    }

    /// Writes the codes, and the bytes if they were kept. The layout is made again, in `pool`.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn seal(&self, pool: &ThreadPool, writer: &mut SealedWriter<'_>) -> Result<()> {
        let (codes, rabitq) = (self.codes().host(), self.rabitq());
        let (n_rows, n_words) = (codes.n_rows as u64, codes.n_words as u64);
        let (seed, dim) = (rabitq.rotation().seed(), rabitq.rotation().dim() as u64);
        let metric = metric_tag(codes.metric);
        let has_bytes = u64::from(self.bytes().is_some());
        writer.section::<u64>("exact.about", &[6])?;
        writer.append(&[metric, seed, n_rows, dim, n_words, has_bytes])?;
        writer.section::<f32>("exact.centroid", &[dim])?;
        writer.append(rabitq.centroid(0))?;
        writer.section::<u64>("exact.signs", &[n_rows, n_words])?;
        writer.append::<u64>(&codes.signs)?;
        writer.section::<u64>("exact.extra", &[n_rows, EXTRA_PLANES as u64, n_words])?;
        writer.append::<u64>(&codes.extra)?;
        writer.section::<f32>("exact.coarse", &[n_rows, 3])?;
        writer.append::<f32>(cast_slice(&codes.coarse))?;
        writer.section::<f32>("exact.fine", &[n_rows, 3])?;
        writer.append::<f32>(cast_slice(&codes.fine))?;
        let layout = Layout::new(pool, codes);
        let [signs, blocks, nibbles, fine] = layout_shapes(codes.n_rows, codes.n_words);
        writer.section::<u8>("exact.scan.signs", &signs)?;
        writer.append::<u8>(&layout.signs)?;
        writer.section::<f32>("exact.scan.blocks", &blocks)?;
        writer.append::<f32>(cast_slice(&layout.blocks))?;
        writer.section::<u8>("exact.scan.nibbles", &nibbles)?;
        writer.append::<u8>(&layout.nibbles)?;
        writer.section::<u32>("exact.scan.fine", &fine)?;
        writer.append::<u32>(cast_slice(&layout.fine))?;
        let Some(bytes) = self.bytes() else { return Ok(()) };
        PlacedRows::new(Arc::clone(bytes.rows.host()), codes.metric)?
            .seal(writer, "exact.bytes")?;
        let Rounding { scale, residual, norm, is_cut } = bytes.worst;
        let (is_shared, is_cut) = (f32::from(bytes.scale.is_some()), f32::from(is_cut));
        writer.section::<f32>("exact.rounding", &[5])?;
        writer.append(&[is_shared, bytes.scale.unwrap_or(scale), residual, norm, is_cut])
    }

    /// The index of a file over `rows`, which are those that it was built of; none of its codes is looked at by a processor.
    ///
    /// # Errors
    /// `corrupt_file`; `codes_shape` if it is of other rows; those of [`Backend::upload_placed`].
    pub fn open(sealed: &Sealed, backend: &dyn Backend, rows: &PlacedRows) -> Result<Self> {
        let [metric, seed, n_rows, dim, n_words, has_bytes] = sealed.about("exact.about")?;
        let refuse = |what: String| sealed.refuse("exact.about", what);
        let metric = metric_of(metric).ok_or_else(|| refuse(format!("metric {metric}")))?;
        if n_rows > u64::from(u32::MAX) || n_words > u64::from(u32::MAX) {
            return Err(refuse(format!("{n_rows} rows of {n_words} words")));
        }
        let centroid = sealed.slab_as::<f32, f32>("exact.centroid", &[dim])?;
        sealed.verify_memory("exact.centroid")?;
        let centroid = Rows::new(Values::F32(centroid), dim as usize)
            .and_then(|centroid| Rabitq::new(metric, &centroid, seed));
        let rabitq = centroid.map_err(|error| sealed.refuse("exact.centroid", error))?;
        let extra = [n_rows, EXTRA_PLANES as u64, n_words];
        let codes = RabitqCodes {
            metric,
            n_rows: n_rows as usize,
            n_words: n_words as usize,
            signs: sealed.slab_as::<u64, u64>("exact.signs", &[n_rows, n_words])?,
            extra: sealed.slab_as::<u64, u64>("exact.extra", &extra)?,
            coarse: sealed.slab_as::<f32, Factors>("exact.coarse", &[n_rows, 3])?,
            fine: sealed.slab_as::<f32, Factors>("exact.fine", &[n_rows, 3])?,
        };
        let [signs, blocks, nibbles, fine] = layout_shapes(codes.n_rows, codes.n_words);
        let layout = Layout {
            n_words: codes.n_words,
            signs: sealed.slab_as::<u8, u8>("exact.scan.signs", &signs)?,
            blocks: sealed.slab_as::<f32, BlockFactors>("exact.scan.blocks", &blocks)?,
            nibbles: sealed.slab_as::<u8, u8>("exact.scan.nibbles", &nibbles)?,
            fine: sealed.slab_as::<u32, FineFactors>("exact.scan.fine", &fine)?,
        };
        let codes = backend.upload_laid_out(Arc::new(codes), layout)?;
        let bytes = match has_bytes {
            0 => None,
            _ => Some(open_bytes(sealed, backend)?),
        };
        Self::from_parts(rows.upload(backend)?, codes, rabitq, bytes)
    }
}

fn open_bytes(sealed: &Sealed, backend: &dyn Backend) -> Result<Bytes> {
    let rounding = sealed.slab_as::<f32, [f32; 5]>("exact.rounding", &[5])?;
    sealed.verify_memory("exact.rounding")?;
    let [is_shared, scale, residual, norm, is_cut] = rounding[0];
    Ok(Bytes {
        rows: PlacedRows::open(sealed, "exact.bytes")?.upload(backend)?,
        scale: (is_shared != 0.0).then_some(scale),
        worst: Rounding { scale, residual, norm, is_cut: is_cut != 0.0 },
    })
}

/// Shapes of sign bytes, their factors, codes of four bits and their factors.
fn layout_shapes(n_rows: usize, n_words: usize) -> [Vec<u64>; 4] {
    let (block, n_blocks) = (BLOCK as u64, n_rows.div_ceil(BLOCK) as u64);
    let (n_rows, n_words) = (n_rows as u64, n_words as u64);
    [
        vec![n_blocks, 8 * n_words, block],
        vec![n_blocks, 4, block],
        vec![n_rows, 32 * n_words],
        vec![n_rows, 4],
    ]
}
