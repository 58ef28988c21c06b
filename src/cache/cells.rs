//! The rows of a partition, and which of them is nearest.
//!
//! A small partition is one block, all of which is compared. A large one lies in cells of at most [`CELL_ROWS`] rows; a query looks at
//! the cells whose centres are nearest, until it has seen [`SEEN_ROWS`] rows. A cell that is full is divided in two. So a row is added
//! in the time of comparing all centres, and removed in no time.
//!
//! Seen are codes (`code`), where a cell has more than a few rows; `look` compares the rows of the greatest estimates. Which rows are seen
//! is approximate in a large partition; how near they are is computed from the rows as they are kept.

use std::sync::Arc;

use half::f16;

use crate::cache::entry::Hot;
use crate::cache::row::Query;
use crate::distance::Level;
use crate::distance::simd::{Kernels, Sum};

mod best;
mod code;
mod divide;
mod look;
mod several;

use code::{Coder, Codes};
pub(super) use look::Want;

/// Rows of which a cell is divided.
pub(super) const CELL_ROWS: usize = 1024;

/// Rows of a partition that is not divided.
pub(super) const FLAT_ROWS: usize = 4096;

/// Rows that a query sees in a divided partition.
pub(super) const SEEN_ROWS: usize = 32_768;

/// Rows from which a cell has codes; fewer are compared as they are.
pub(super) const CODED_ROWS: usize = 64;

/// Rows that are compared in one call of the loops.
const BLOCK_ROWS: usize = 512;

/// The loops, and where rows of a block begin.
#[derive(Debug)]
pub(super) struct Loops {
    kernels: &'static Kernels,
    coder: Coder,
    dim: usize,
    starts: Vec<usize>,
}

impl Loops {
    /// Those for rows of `dim` elements.
    pub fn new(dim: usize) -> Self {
        let starts = (0..BLOCK_ROWS).map(|row| row * dim).collect();
        let level = Level::best();
        Self { kernels: Kernels::at(level), coder: Coder::new(dim, level), dim, starts }
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

    /// How far the loops' product of a query and a kept row may be from their cosine: elements are added one after another in 32 bits,
    /// and the row's elements are rounded to 11 bits, so that its norm is not quite 1.
    fn slack(&self) -> f32 {
        self.dim as f32 * f32::EPSILON + 1.0 / 2048.0
    }
}

/// An entry and the cosine of its row with what was asked.
pub(super) type Found = (Arc<Hot>, f32);

/// Rows of one cell, and what each belongs to.
#[derive(Debug, Default)]
struct Cell {
    rows: Vec<f16>,
    /// Of all rows, or of none where these are few.
    codes: Codes,
    hots: Vec<Arc<Hot>>,
}

impl Cell {
    /// Adds a row without a code; [`Self::encode`] must follow.
    fn append(&mut self, hot: Arc<Hot>, row: &[f16]) {
        // Room for a little more at a time: doubling would take twice the memory.
        if self.rows.len() + row.len() > self.rows.capacity() {
            let more = self.hots.len() / 64 + 2;
            self.rows.reserve_exact(more * row.len());
            self.hots.reserve_exact(more);
        }
        self.rows.extend_from_slice(row);
        self.hots.push(hot);
    }

    /// Makes the codes that are missing, if the cell is to have some.
    fn encode(&mut self, coder: &Coder, dim: usize) {
        if self.hots.len() < CODED_ROWS {
            return;
        }
        if self.codes.is_empty() {
            self.codes.reserve(coder, self.hots.len());
        }
        for row in self.rows[self.codes.len() * dim..].chunks_exact(dim) {
            self.codes.push(coder, row);
        }
    }

    fn swap_remove(&mut self, coder: &Coder, at: usize, dim: usize) {
        let last = self.hots.len() - 1;
        self.rows.copy_within(last * dim.., at * dim);
        self.rows.truncate(last * dim);
        self.hots.swap_remove(at);
        // Half of what codes are made of: a cell that loses and gains a row is not encoded each time.
        if last < CODED_ROWS / 2 {
            self.codes = Codes::default();
        } else if !self.codes.is_empty() {
            self.codes.swap_remove(coder, at);
        }
    }

    fn row(&self, at: usize, dim: usize) -> &[f16] {
        &self.rows[at * dim..(at + 1) * dim]
    }

    fn n_bytes(&self) -> u64 {
        (self.rows.capacity() * 2 + self.hots.capacity() * 8) as u64 + self.codes.n_bytes()
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
        self.cells[cell].append(hot, row);
        self.n_rows += 1;
        if self.cells[cell].hots.len() > if is_flat { FLAT_ROWS } else { CELL_ROWS } {
            self.divide(loops, cell);
        } else {
            self.cells[cell].encode(&loops.coder, self.dim);
        }
    }

    /// Adds a row without looking where; [`Self::settle`] must follow. For many at once, which are then divided and encoded in a
    /// fraction of the time.
    pub fn append(&mut self, hot: Arc<Hot>, row: &[f16]) {
        hot.set_place(0, self.cells[0].hots.len());
        self.cells[0].append(hot, row);
        self.n_rows += 1;
    }

    /// Divides and encodes what was appended; in the pool that it is called in, if there is much.
    pub fn settle(&mut self, loops: &Loops) {
        if self.cells[0].hots.len() > if self.cells.len() == 1 { FLAT_ROWS } else { CELL_ROWS } {
            self.divide(loops, 0);
        } else {
            self.cells[0].encode(&loops.coder, self.dim);
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
    pub fn remove(&mut self, loops: &Loops, hot: &Hot) {
        let (cell, at) = hot.place();
        self.cells[cell].swap_remove(&loops.coder, at, self.dim);
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

    /// The cells that a query sees: all of a partition that is not large.
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
            let n = rest.len().min(4 * n_seen / CELL_ROWS);
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

#[cfg(test)]
mod tests;
