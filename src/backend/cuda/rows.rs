//! Rows as they lie on the device: padded by zeros to whole segments, a factor beside each (see `kernels/common.cuh`).

use std::sync::Arc;

use crate::backend::Stream;
use crate::backend::cuda::launcher::{Buffer, Memory};
use crate::core::metric::Metric;
use crate::core::rows::{Dtype, Rows};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a row that a kernel stages at once: `SEGMENT` of `common.cuh`.
pub(super) const SEGMENT: u32 = 64;
/// Bytes between staged segments: `PAD` of `common.cuh`.
pub(super) const PAD: u32 = 16;

/// Host bytes that are packed at once.
const PACK_BYTES: usize = 16 << 20;
/// Slots that kernels may compute past the last row without wrapping.
const MARGIN: usize = 4096;

/// Rows, or queries, in device memory.
pub(super) struct DeviceRows {
    rows: Buffer,
    factors: Buffer,
    stride: u32,
}

/// How rows are stored.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    metric: Metric,
    dtype: Dtype,
    /// Elements of a padded row.
    n_elements: usize,
}

impl Layout {
    /// Of resident rows: as they are.
    pub(super) fn of_rows(rows: &Rows, metric: Metric) -> Self {
        let dtype = rows.dtype();
        let per_segment = SEGMENT as usize / dtype.bytes();
        Self { metric, dtype, n_elements: rows.dim().next_multiple_of(per_segment) }
    }

    /// Of what meets such rows: f32 for floats, the same type for integers, as many elements.
    pub(super) fn of_queries(self) -> Self {
        let dtype = if self.dtype.is_integer() { self.dtype } else { Dtype::F32 };
        Self { dtype, ..self }
    }

    /// Bytes from row to row.
    pub(super) fn stride(self) -> u32 {
        (self.n_elements * self.dtype.bytes()) as u32
    }

    /// Bytes that face one segment of the rows in a stage.
    pub(super) fn segment_bytes(self, rows: Dtype) -> u32 {
        SEGMENT / rows.bytes() as u32 * self.dtype.bytes() as u32
    }

    fn has_factors(self) -> bool {
        self.metric == Metric::Cosine || (self.metric == Metric::L2 && self.dtype.is_integer())
    }

    /// Bytes of `n_rows` rows with their factors.
    pub(super) fn n_bytes(self, n_rows: usize) -> u64 {
        let factor = if self.has_factors() { 4 } else { 0 };
        n_rows as u64 * (u64::from(self.stride()) + factor)
    }

    /// Row `row`, padded, appended to `bytes`; its factor.
    fn pack(self, rows: &Rows, row: usize, bytes: &mut Vec<u8>) -> u32 {
        let (dim, end) = (rows.dim(), bytes.len() + self.stride() as usize);
        let range = row * dim..(row + 1) * dim;
        let wide = || range.clone().map(|i| f64::from(rows.values().get(i)));
        let mut scale = 1.0;
        match (self.dtype, rows.values()) {
            (Dtype::F32, _) => {
                if self.metric == Metric::Cosine {
                    scale = exact_scale(wide().fold(0.0, |most, x| most.max(x.abs())));
                }
                let scaled = wide().map(|x| (x * scale) as f32);
                bytes.extend(scaled.flat_map(f32::to_le_bytes));
            }
            (_, values) => {
                let size = self.dtype.bytes();
                bytes.extend_from_slice(&values.bytes()[range.start * size..range.end * size]);
            }
        }
        bytes.resize(end, 0);
        let square = || wide().map(|x| (x * scale) * (x * scale)).sum::<f64>();
        match self.metric {
            Metric::Cosine => ((1.0 / square().sqrt()) as f32).to_bits(),
            Metric::L2 if self.dtype.is_integer() => square() as u32,
            _ => 0,
        }
    }
}

/// The power of two that brings `largest` into [1, 2): multiplying by it rounds nothing, and no product of rows so scaled
/// leaves the range of 32-bit floats.
fn exact_scale(largest: f64) -> f64 {
    let exponent = (largest.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    2.0f64.powi(-exponent)
}

impl DeviceRows {
    /// Places rows that stay.
    pub(super) fn keep(memory: &Arc<Memory>, rows: &Rows, layout: Layout) -> Result<Self> {
        if rows.n_rows() > u32::MAX as usize - MARGIN {
            let message =
                format!("{} rows, a card holds {}", rows.n_rows(), u32::MAX as usize - MARGIN);
            return Err(Error::new(ErrorKind::Limit, "too_many_rows", message));
        }
        let n_factors = if layout.has_factors() { rows.n_rows() as u64 } else { 0 };
        let placed = Self {
            rows: memory.keep(rows.n_rows() as u64 * u64::from(layout.stride()))?,
            factors: memory.keep(n_factors * 4)?,
            stride: layout.stride(),
        };
        placed.write(Stream(0), rows, layout)?;
        memory.launcher().synchronise(Stream(0))?;
        Ok(placed)
    }

    /// Places rows for one call.
    pub(super) fn place(
        memory: &Arc<Memory>,
        stream: Stream,
        rows: &Rows,
        layout: Layout,
    ) -> Result<Self> {
        let n_factors = if layout.has_factors() { rows.n_rows() as u64 } else { 0 };
        let placed = Self {
            rows: memory.take(stream, rows.n_rows() as u64 * u64::from(layout.stride()))?,
            factors: memory.take(stream, n_factors * 4)?,
            stride: layout.stride(),
        };
        placed.write(stream, rows, layout)?;
        Ok(placed)
    }

    fn write(&self, stream: Stream, rows: &Rows, layout: Layout) -> Result<()> {
        let per_pack = (PACK_BYTES / self.stride as usize).max(1);
        let mut bytes = Vec::new();
        for first in (0..rows.n_rows()).step_by(per_pack) {
            let past = rows.n_rows().min(first + per_pack);
            bytes.clear();
            let factors: Vec<u32> =
                (first..past).map(|row| layout.pack(rows, row, &mut bytes)).collect();
            self.rows.write(stream, first as u64 * u64::from(self.stride), &bytes)?;
            if layout.has_factors() {
                self.factors.write(stream, first as u64 * 4, bytemuck::cast_slice(&factors))?;
            }
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows.address()
    }

    pub(super) fn factors(&self) -> u64 {
        self.factors.address()
    }

    pub(super) fn stride(&self) -> u32 {
        self.stride
    }

    /// Whether this lies in that memory.
    pub(super) fn is_of(&self, memory: &Arc<Memory>) -> bool {
        self.rows.is_of(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rows::Values;

    #[test]
    fn rows_are_padded_to_segments_and_carry_their_factor() {
        let rows = Rows::new(Values::I8(vec![3, -4, 0, 5].into()), 2).unwrap();
        let layout = Layout::of_rows(&rows, Metric::L2);
        let mut bytes = Vec::new();
        assert_eq!(
            (layout.pack(&rows, 0, &mut bytes), layout.pack(&rows, 1, &mut bytes)),
            (25, 25)
        );
        assert_eq!((layout.stride(), bytes.len(), layout.n_bytes(2)), (64, 128, 136));
        assert_eq!((bytes[..3].to_vec(), bytes[64..67].to_vec()), (vec![3, 252, 0], vec![0, 5, 0]));
    }

    #[test]
    fn scaling_for_cosine_rounds_nothing_at_any_size() {
        for largest in [1.0f32, 1.9, 3e38, 1e-30, f32::MIN_POSITIVE, 1e-45] {
            let rows = Rows::new(Values::F32(vec![largest, -largest / 2.0].into()), 2).unwrap();
            let layout = Layout::of_rows(&rows, Metric::Cosine);
            let mut bytes = Vec::new();
            let inverse = f32::from_bits(layout.pack(&rows, 0, &mut bytes));
            let stored: Vec<f32> =
                bytes.chunks(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect();
            assert!((1.0..2.0).contains(&stored[0]), "{largest:e} became {}", stored[0]);
            assert_eq!(f64::from(stored[0]) / f64::from(largest), exact_scale(f64::from(largest)));
            let norm = f64::from(stored[0]).hypot(f64::from(stored[1]));
            assert!((norm * f64::from(inverse) - 1.0).abs() < 1e-7);
        }
    }

    #[test]
    fn queries_of_narrow_floats_are_wide_and_as_long() {
        let layout = Layout::of_rows(
            &Rows::new(Values::F16(vec![half::f16::ONE; 33].into()), 33).unwrap(),
            Metric::Dot,
        );
        assert_eq!((layout.stride(), layout.of_queries().stride()), (128, 256));
        assert_eq!(layout.of_queries().segment_bytes(Dtype::F16), 128);
    }
}
