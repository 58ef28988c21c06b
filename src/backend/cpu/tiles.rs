//! Blocks of rows against all panels: what `flat_scan`, `assign` and `pairs` share. A block of rows stays in the second-level
//! cache while every panel passes; the part of a panel at work stays in the first; the sums of one panel are turned into
//! distances, compared with bounds, and forgotten.

use crate::backend::cpu::line::{Source, sum_of};
use crate::backend::cpu::panels::{Panel, Panels, ending};
use crate::core::rows::Values;
use crate::distance::simd::{Kernels, Pass, Side, Unit};

/// Bytes of a block of rows: half of a second-level cache of 512 KiB.
const BLOCK_BYTES: usize = 256 << 10;

/// Bytes of the part of a panel that is at work: most of a first-level cache of 32 KiB.
const PART_BYTES: usize = 24 << 10;

/// Who takes distances that may matter.
pub trait Sink {
    /// Per packed query, padding included: only distances below are told. Padding has minus infinity.
    fn query_bounds(&self) -> &[f32];
    /// Per row of the block: only distances below are told.
    fn row_bounds(&self) -> &[f32];
    /// A distance below both bounds as they were when its panel was finished. `row` counts from the block's first.
    fn take(&mut self, row: usize, query: usize, distance: f32);
}

/// Rows in a block for elements of `dim`.
pub fn rows_per_block(dim: usize) -> usize {
    // A multiple of 48 is one of every number of rows that is worked on at once.
    (BLOCK_BYTES / (4 * dim) / 48 * 48).clamp(48, 384)
}

/// Buffers of one thread.
#[derive(Default)]
pub struct Tiles {
    starts: Vec<usize>,
    floats: Vec<f32>,
    units: Vec<i32>,
    sums: Vec<u32>,
    any: Vec<bool>,
    inverse: Vec<f32>,
    square: Vec<i32>,
    mend: Vec<i32>,
}

impl Tiles {
    /// Shows `sink` what the rows `slots`, at most [`rows_per_block`], have below its bounds.
    pub fn run(
        &mut self,
        kernels: &Kernels,
        rows: &Source<'_>,
        slots: &[u32],
        queries: &Panels,
        sink: &mut impl Sink,
    ) {
        if slots.is_empty() {
            return;
        }
        self.load(kernels, rows, slots, queries.len);
        let (n, ending) = (slots.len(), ending(rows));
        for &panel in &queries.panels {
            self.sums.resize(n * panel.width, 0);
            self.any.resize(n, false);
            self.sum(kernels, rows, queries, panel);
            let side = Side {
                inverse: &self.inverse,
                square: &self.square,
                mend: &self.mend,
                bound: sink.row_bounds(),
            };
            let lanes = queries.side(panel, sink.query_bounds());
            kernels.finish(ending, panel.width, &mut self.sums, side, lanes, &mut self.any);
            for row in (0..n).filter(|&row| self.any[row]) {
                let line = &self.sums[row * panel.width..(row + 1) * panel.width];
                for (lane, &bits) in line.iter().enumerate() {
                    let (query, distance) = (panel.first + lane, f32::from_bits(bits));
                    if distance < sink.query_bounds()[query] && distance < sink.row_bounds()[row] {
                        sink.take(row, query, distance);
                    }
                }
            }
        }
    }

    fn sum(&mut self, kernels: &Kernels, rows: &Source<'_>, queries: &Panels, panel: Panel) {
        let (sum, width, len) = (sum_of(rows.metric), panel.width, queries.len);
        let n_parts = (len * width * 4).div_ceil(PART_BYTES);
        for part in 0..n_parts {
            let (from, to) = (part * len / n_parts, (part + 1) * len / n_parts);
            // The first panel brings the rows into the second-level cache; widened ones are there.
            let fetch = panel.first == 0 && rows.floats().is_some();
            let pass = Pass { first: part == 0, fetch };
            let starts: &mut [usize] = &mut self.starts;
            if let Some(elements) = queries.floats(panel, from, to) {
                let base = match rows.floats() {
                    Some(values) => values,
                    None => &self.floats,
                };
                let sums = bytemuck::cast_slice_mut(&mut self.sums);
                kernels.tile(sum, width, base, starts, elements, sums, pass);
            } else if let Some(units) = queries.units(panel, from, to) {
                let sums = bytemuck::cast_slice_mut(&mut self.sums);
                kernels.tile_bytes(sum, width, &self.units, starts, units, sums, pass);
            }
            starts.iter_mut().for_each(|start| *start += to - from);
        }
        // The next panel begins at the rows' first elements again.
        self.starts.iter_mut().for_each(|start| *start -= len);
    }

    /// Finds the rows, widened where they are narrower than what is multiplied, and their numbers.
    fn load(&mut self, kernels: &Kernels, rows: &Source<'_>, slots: &[u32], len: usize) {
        let (dim, n) = (rows.host.dim(), slots.len());
        self.starts.clear();
        self.mend.clear();
        self.mend.resize(n, 0);
        if rows.floats().is_some() {
            self.starts.extend(slots.iter().map(|&slot| slot as usize * dim));
        } else {
            self.starts.extend((0..n).map(|row| row * len));
            self.widen(kernels, rows, slots, len);
        }
        pick(&mut self.inverse, &rows.placed.inverse, slots);
        pick(&mut self.square, &rows.placed.square, slots);
    }

    fn widen(&mut self, kernels: &Kernels, rows: &Source<'_>, slots: &[u32], len: usize) {
        let (dim, n) = (rows.host.dim(), slots.len());
        let elements = |slot: u32| slot as usize * dim..(slot as usize + 1) * dim;
        if let Values::F16(values) = rows.host.values() {
            self.floats.resize(n * dim, 0.0);
            for (out, &slot) in self.floats.chunks_exact_mut(dim).zip(slots) {
                kernels.widen_f16(&values[elements(slot)], out);
            }
            return;
        }
        self.units.clear();
        self.units.resize(n * len, 0);
        let quads = kernels.unit(sum_of(rows.metric)) == Unit::Quad;
        let places = self.units.chunks_exact_mut(len).zip(slots).zip(&mut self.mend);
        for ((out, &slot), mend) in places {
            match rows.host.values() {
                Values::U8(values) if quads => {
                    let row = &values[elements(slot)];
                    bytemuck::cast_slice_mut::<i32, u8>(out)[..dim].copy_from_slice(row);
                    // Queries had 128 taken off.
                    *mend = 128 * row.iter().map(|&x| i32::from(x)).sum::<i32>();
                }
                Values::I8(values) if quads => {
                    let bytes = bytemuck::cast_slice_mut::<i32, u8>(out);
                    for (out, &x) in bytes.iter_mut().zip(&values[elements(slot)]) {
                        *out = x as u8 ^ 0x80;
                    }
                }
                Values::U8(values) => {
                    let halves = &mut bytemuck::cast_slice_mut::<i32, i16>(out)[..dim];
                    kernels.widen_u8(&values[elements(slot)], halves);
                }
                Values::I8(values) => {
                    let halves = &mut bytemuck::cast_slice_mut::<i32, i16>(out)[..dim];
                    kernels.widen_i8(&values[elements(slot)], halves);
                }
                Values::F32(_) | Values::F16(_) => unreachable!("floats are no bytes"),
            }
        }
    }
}

/// The numbers of `slots`, or zeros where the metric has none.
fn pick<T: Copy + Default>(out: &mut Vec<T>, of: &[T], slots: &[u32]) {
    out.clear();
    if of.is_empty() {
        out.resize(slots.len(), T::default());
    } else {
        out.extend(slots.iter().map(|&slot| of[slot as usize]));
    }
}
