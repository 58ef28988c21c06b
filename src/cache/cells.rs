//! The rows of a partition, and which of them is nearest.
//!
//! A small partition is one block, all of which is compared. A large one lies in cells of at most [`CELL_ROWS`] rows; a query looks at
//! the cells whose centres are nearest, until it has seen [`SEEN_ROWS`] rows. A cell that is full is divided in two. So a row is added
//! in the time of comparing all centres, and removed in no time. Which rows are seen is approximate in a large partition; how near
//! they are is computed from the rows as they are kept.

use std::sync::Arc;

use half::f16;

use crate::cache::entry::Hot;
use crate::cache::row::{Query, inverse_norm};
use crate::distance::Level;
use crate::distance::simd::{Kernels, Sum};

mod best;
mod divide;
mod several;

use best::{Best, Near};

/// Rows of which a cell is divided.
pub(super) const CELL_ROWS: usize = 512;

/// Rows of a partition that is not divided: comparing all takes a tenth of a millisecond.
pub(super) const FLAT_ROWS: usize = 4096;

/// Rows that a query compares in a divided partition.
pub(super) const SEEN_ROWS: usize = FLAT_ROWS;

/// Rows that are compared in one call of the loops.
const BLOCK_ROWS: usize = 512;

/// The loops, and where rows of a block begin.
#[derive(Debug)]
pub(super) struct Loops {
    kernels: &'static Kernels,
    dim: usize,
    starts: Vec<usize>,
}

impl Loops {
    /// Those for rows of `dim` elements.
    pub fn new(dim: usize) -> Self {
        let starts = (0..BLOCK_ROWS).map(|row| row * dim).collect();
        Self { kernels: Kernels::at(Level::best()), dim, starts }
    }

    /// Dot products of a query with rows, handed out block by block with the number of the first row.
    fn each_block(&self, query: &[f32], rows: &[f16], mut take: impl FnMut(usize, &[f32])) {
        let mut sums = [0.0; BLOCK_ROWS];
        for (block, rows) in rows.chunks(BLOCK_ROWS * self.dim).enumerate() {
            let n = rows.len() / self.dim;
            self.kernels.rows_f16(Sum::Dot, query, rows, &self.starts[..n], &mut sums[..n]);
            take(block * BLOCK_ROWS, &sums[..n]);
        }
    }

    /// How far the loops' sums of unit vectors may be off: elements are added one after another in 32 bits.
    fn slack(&self) -> f32 {
        self.dim as f32 * f32::EPSILON
    }
}

/// An entry and the cosine of its row with what was asked.
pub(super) type Found = (Arc<Hot>, f32);

/// Rows of one cell, and what each belongs to.
#[derive(Debug, Default)]
struct Cell {
    rows: Vec<f16>,
    inverse: Vec<f32>,
    hots: Vec<Arc<Hot>>,
}

impl Cell {
    fn push(&mut self, hot: Arc<Hot>, row: &[f16]) {
        // Room for a sixteenth more at a time: doubling would take twice the memory.
        if self.rows.len() + row.len() > self.rows.capacity() {
            let more = self.hots.len() / 16 + 4;
            self.rows.reserve_exact(more * row.len());
            self.inverse.reserve_exact(more);
            self.hots.reserve_exact(more);
        }
        self.rows.extend_from_slice(row);
        self.inverse.push(inverse_norm(row));
        self.hots.push(hot);
    }

    fn swap_remove(&mut self, at: usize, dim: usize) {
        let last = self.hots.len() - 1;
        self.rows.copy_within(last * dim.., at * dim);
        self.rows.truncate(last * dim);
        self.inverse.swap_remove(at);
        self.hots.swap_remove(at);
    }

    fn row(&self, at: usize, dim: usize) -> &[f16] {
        &self.rows[at * dim..(at + 1) * dim]
    }

    fn n_bytes(&self) -> u64 {
        let (rows, inverse, hots) =
            (self.rows.capacity() * 2, self.inverse.capacity() * 4, self.hots.capacity() * 8);
        (rows + inverse + hots) as u64
    }
}

/// All rows of a partition.
#[derive(Debug)]
pub(super) struct Cells {
    dim: usize,
    cells: Vec<Cell>,
    /// `[n_cells, dim]`, unit; none before the first cell is divided.
    centres: Vec<f16>,
    n_rows: usize,
}

impl Cells {
    /// No rows.
    pub fn new(dim: usize) -> Self {
        Self { dim, cells: vec![Cell::default()], centres: Vec::new(), n_rows: 0 }
    }

    /// Bytes of rows, centres, and what says to which entry a row belongs.
    pub fn n_bytes(&self) -> u64 {
        self.cells.iter().map(Cell::n_bytes).sum::<u64>() + self.centres.capacity() as u64 * 2
    }

    /// Adds a row.
    pub fn insert(&mut self, loops: &Loops, hot: Arc<Hot>, row: &[f16]) {
        let is_flat = self.cells.len() == 1;
        let cell = if is_flat { 0 } else { self.nearest_cell(loops, row) };
        hot.set_place(cell, self.cells[cell].hots.len());
        self.cells[cell].push(hot, row);
        self.n_rows += 1;
        if self.cells[cell].hots.len() > if is_flat { FLAT_ROWS } else { CELL_ROWS } {
            self.divide(loops, cell);
        }
    }

    /// Adds a row without looking where; [`Self::divide_all`] must follow. For many at once, which are then divided in a fraction of the
    /// time.
    pub fn append(&mut self, hot: Arc<Hot>, row: &[f16]) {
        hot.set_place(0, self.cells[0].hots.len());
        self.cells[0].push(hot, row);
        self.n_rows += 1;
    }

    /// Divides what was appended.
    pub fn divide_all(&mut self, loops: &Loops) {
        if self.cells[0].hots.len() > if self.cells.len() == 1 { FLAT_ROWS } else { CELL_ROWS } {
            self.divide(loops, 0);
        }
    }

    fn nearest_cell(&self, loops: &Loops, row: &[f16]) -> usize {
        let (query, mut nearest) = (Query::of_kept(row), (f32::NEG_INFINITY, 0));
        loops.each_block(query.row(), &self.centres, |first, sums| {
            for (at, &sum) in sums.iter().enumerate() {
                if sum > nearest.0 {
                    nearest = (sum, first + at);
                }
            }
        });
        nearest.1
    }

    /// Removes the row of an entry, which has one.
    pub fn remove(&mut self, hot: &Hot) {
        let (cell, at) = hot.place();
        self.cells[cell].swap_remove(at, self.dim);
        self.n_rows -= 1;
        if let Some(moved) = self.cells[cell].hots.get(at) {
            moved.set_place(cell, at);
        }
        if self.cells[cell].hots.is_empty() && self.cells.len() > 1 {
            self.drop_cell(cell);
        }
    }

    fn drop_cell(&mut self, cell: usize) {
        let last = self.cells.len() - 1;
        self.centres.copy_within(last * self.dim.., cell * self.dim);
        self.centres.truncate(last * self.dim);
        self.cells.swap_remove(cell);
        self.number(cell);
    }

    /// Tells the entries of a cell where they are.
    fn number(&self, cell: usize) {
        let hots = self.cells.get(cell).map_or(&[][..], |cell| &cell.hots);
        hots.iter().enumerate().for_each(|(at, hot)| hot.set_place(cell, at));
    }

    /// The nearest of the rows that are looked at and whose entries pass, with its cosine: the least number of equally near ones.
    pub fn nearest(
        &self,
        loops: &Loops,
        query: &Query,
        passes: &dyn Fn(&Hot) -> bool,
    ) -> Option<Found> {
        self.nearest_of_seen(loops, query, SEEN_ROWS, passes)
    }

    /// The same of a fourth of the rows: for whether a new row is there already. In a large partition one in some hundreds is not
    /// found, and is kept twice.
    pub fn nearest_to_new(
        &self,
        loops: &Loops,
        query: &Query,
        passes: &dyn Fn(&Hot) -> bool,
    ) -> Option<Found> {
        self.nearest_of_seen(loops, query, SEEN_ROWS / 4, passes)
    }

    fn nearest_of_seen(
        &self,
        loops: &Loops,
        query: &Query,
        n_seen: usize,
        passes: &dyn Fn(&Hot) -> bool,
    ) -> Option<Found> {
        let seen = self.seen_by(loops, query, n_seen);
        let mut best = Best::default();
        for &cell in &seen {
            let Cell { rows, inverse, .. } = &self.cells[cell];
            loops.each_block(query.row(), rows, |first, sums| {
                best.take(cell, first, sums, &inverse[first..]);
            });
        }
        self.judge(loops, query, &best, &seen, passes)
    }

    /// The verdict on what the loops found.
    fn judge(
        &self,
        loops: &Loops,
        query: &Query,
        best: &Best,
        seen: &[usize],
        passes: &dyn Fn(&Hot) -> bool,
    ) -> Option<Found> {
        let hot = |near: &Near| &self.cells[near.cell].hots[near.at];
        let passing: Vec<&Near> = best.all().iter().filter(|near| passes(hot(near))).collect();
        // What the loops place this close may be in another order.
        let bound =
            passing.first().map_or(f32::NEG_INFINITY, |near| near.cosine - 2.0 * loops.slack());
        if best.may_have_lost(bound) {
            return self.plain(query, seen, passes);
        }
        let close = passing.into_iter().filter(|near| near.cosine >= bound);
        nearer(close.map(|near| {
            let row = self.cells[near.cell].row(near.at, self.dim);
            (hot(near), query.cosine(row))
        }))
    }

    /// The same in its plainest form: every row of the cells that are looked at.
    fn plain(&self, query: &Query, seen: &[usize], passes: &dyn Fn(&Hot) -> bool) -> Option<Found> {
        let rows = seen.iter().flat_map(|&cell| {
            let cell = &self.cells[cell];
            cell.hots.iter().enumerate().map(|(at, hot)| (hot, cell.row(at, self.dim)))
        });
        let passing = rows.filter(|(hot, _)| passes(hot));
        nearer(passing.map(|(hot, row)| (hot, query.cosine(row))))
    }

    /// The cells that a query looks at: all of a partition that is not divided.
    fn seen_by(&self, loops: &Loops, query: &Query, n_seen: usize) -> Vec<usize> {
        if self.n_rows <= SEEN_ROWS {
            return (0..self.cells.len()).collect();
        }
        let mut centres = Vec::with_capacity(self.cells.len());
        loops.each_block(query.row(), &self.centres, |first, sums| {
            centres.extend(sums.iter().enumerate().map(|(at, &sum)| (sum, first + at)));
        });
        self.nearest_cells(centres, n_seen)
    }

    /// The cells of the nearest centres, until they hold that many rows.
    fn nearest_cells(&self, mut centres: Vec<(f32, usize)>, n_seen: usize) -> Vec<usize> {
        let order = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let (mut seen, mut n_rows, mut sorted) = (Vec::new(), 0, 0);
        while n_rows < n_seen && sorted < centres.len() {
            // Most queries need no more of the order than this.
            let rest = &mut centres[sorted..];
            let n = rest.len().min(4 * SEEN_ROWS / CELL_ROWS);
            if n < rest.len() {
                rest.select_nth_unstable_by(n, order);
            }
            rest[..n].sort_unstable_by(order);
            for &(_, cell) in &rest[..n] {
                if n_rows >= n_seen {
                    break;
                }
                n_rows += self.cells[cell].hots.len();
                seen.push(cell);
            }
            sorted += n;
        }
        seen
    }
}

/// The nearest, and of equally near ones that with the least number.
fn nearer<'a>(all: impl Iterator<Item = (&'a Arc<Hot>, f32)>) -> Option<Found> {
    let nearest = all.min_by(|a, b| b.1.total_cmp(&a.1).then(a.0.id().cmp(&b.0.id())));
    nearest.map(|(hot, cosine)| (Arc::clone(hot), cosine))
}

#[cfg(test)]
mod tests;
