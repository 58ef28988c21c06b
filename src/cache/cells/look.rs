//! From codes to the nearest row: what cells hold is estimated, and rows of the greatest estimates are compared as they are kept.

use std::sync::Arc;

use crate::cache::cells::best::{Best, FEW, Near};
use crate::cache::cells::code::{Asking, Codes};
use crate::cache::cells::{Cell, Cells, Found, Loops, SEEN_ROWS};
use crate::cache::entry::Hot;
use crate::cache::row::Query;
use crate::distance::simd::Sum;
use crate::distance::simd::coded::prefetch;
use crate::distance::simd::popcount::BLOCK;
use crate::distance::simd::popcount::compact::{Marks, row_of};

/// Blocks of codes that are marked at once, under one bound.
const MARKED: usize = 8;

/// Rows that are compared where none is as near as it must be: the nearest of them is told.
const LOOKED: usize = FEW;

/// Rows that are asked of memory ahead.
const AHEAD: usize = 4;

/// What is asked of a partition.
#[derive(Clone, Debug)]
pub(in crate::cache) struct Want<'a> {
    query: &'a Query,
    /// Of entries that are less near than this it does not matter which is nearest.
    need: f32,
    /// None where a partition has no codes.
    asking: Option<Asking>,
}

/// A row that was compared by the loops.
struct Seen<'c> {
    product: f32,
    hot: &'c Arc<Hot>,
    cell: &'c Cell,
    at: usize,
}

/// Rows that pass and were compared.
struct Looked<'c> {
    all: Vec<Seen<'c>>,
    /// The greatest product.
    most: f32,
}

impl<'a> Want<'a> {
    /// The nearest entry to a query; where it is less near than `need`, one that is not much farther will do.
    pub fn new(query: &'a Query, need: f32) -> Self {
        Self { query, need, asking: None }
    }

    /// The same, ready for the cells of a partition.
    pub(super) fn of(&self, loops: &Loops, cells: &Cells) -> Self {
        let is_coded = cells.cells.iter().any(|cell| !cell.codes.is_empty());
        let asking = is_coded.then(|| loops.coder.asking(self.query));
        Self { asking, ..self.clone() }
    }

    pub(super) fn query(&self) -> &'a Query {
        self.query
    }

    pub(super) fn asking(&self) -> Option<&Asking> {
        self.asking.as_ref()
    }

    /// Below this estimate no row is as near as is needed.
    pub(super) fn floor(&self) -> f32 {
        self.asking.as_ref().map_or(f32::NEG_INFINITY, |asking| asking.reach(self.need))
    }

    /// What the estimates of all rows reach that may still be of use, when the nearest is that near.
    fn reach(&self, loops: &Loops, most: f32) -> f32 {
        // The loops may be off both at the nearest and at the other.
        let other = most - 2.0 * loops.slack();
        match &self.asking {
            Some(asking) => asking.reach(other.max(self.need)),
            None => other,
        }
    }
}

impl Cells {
    /// The nearest of the rows that are seen and whose entries pass, with its cosine: the least number of equally near ones. In a
    /// partition with codes, one that is less near than what is needed may be told in place of the nearest.
    pub fn nearest(
        &self,
        loops: &Loops,
        want: &Want<'_>,
        passes: &dyn Fn(&Hot) -> bool,
    ) -> Option<Found> {
        self.nearest_of_seen(loops, want, SEEN_ROWS, passes)
    }

    /// The same of a fourth of the rows: for whether a new row is there already. In a large partition one in some hundreds is not
    /// found, and is kept twice.
    pub fn nearest_to_new(
        &self,
        loops: &Loops,
        want: &Want<'_>,
        passes: &dyn Fn(&Hot) -> bool,
    ) -> Option<Found> {
        self.nearest_of_seen(loops, want, SEEN_ROWS / 4, passes)
    }

    fn nearest_of_seen(
        &self,
        loops: &Loops,
        want: &Want<'_>,
        n_seen: usize,
        passes: &dyn Fn(&Hot) -> bool,
    ) -> Option<Found> {
        let want = want.of(loops, self);
        let seen = self.seen_by(loops, want.query, n_seen);
        let mut best = [Best::new(want.floor())];
        for &cell in &seen {
            match want.asking() {
                Some(asking) if !self.cells[cell].codes.is_empty() => {
                    self.estimate(loops, cell, [(0, asking)], &mut best);
                }
                _ => self.compare(loops, cell, want.query, &mut best[0]),
            }
        }
        self.judge(loops, &want, &best[0], &seen, passes)
    }

    /// Takes the rows of a cell by their codes, for each of `Q` queries, which are numbers in `best`.
    pub(super) fn estimate<const Q: usize>(
        &self,
        loops: &Loops,
        cell: usize,
        queries: [(usize, &Asking); Q],
        best: &mut [Best],
    ) {
        let codes = &self.cells[cell].codes;
        let askings = queries.map(|(_, asking)| asking);
        let mut first = 0;
        while first < codes.n_blocks() {
            // The first blocks raise the bound, which is low before.
            let n = MARKED.min(first + 1).min(codes.n_blocks() - first);
            let mut marks = [[Marks::NONE; MARKED]; Q];
            let bounds = queries.map(|(q, _)| best[q].bound());
            let out = marks.each_mut().map(|marks| &mut marks[..n]);
            codes.marks(&loops.coder, first, askings, bounds, out);
            for ((q, _), marks) in queries.iter().zip(&marks) {
                for (block, marks) in marks[..n].iter().enumerate() {
                    each_marked(codes, first + block, marks, |at, estimate| {
                        best[*q].push(Near { estimate, cell, at });
                    });
                }
            }
            first += n;
        }
    }

    /// Takes the rows of a cell without codes.
    pub(super) fn compare(&self, loops: &Loops, cell: usize, query: &Query, best: &mut Best) {
        loops.each_block(query.row(), &self.cells[cell].rows, |first, products| {
            for (at, &estimate) in products.iter().enumerate() {
                best.push(Near { estimate, cell, at: first + at });
            }
        });
    }

    /// The verdict on what was estimated.
    pub(super) fn judge(
        &self,
        loops: &Loops,
        want: &Want<'_>,
        best: &Best,
        seen: &[usize],
        passes: &dyn Fn(&Hot) -> bool,
    ) -> Option<Found> {
        let mut looked = Looked { all: Vec::new(), most: f32::NEG_INFINITY };
        let all = best.all();
        all.iter().take(AHEAD).for_each(|near| self.ask_ahead(near));
        for (number, near) in all.iter().enumerate() {
            let is_near = looked.most >= want.need || want.asking.is_none();
            let is_enough = !looked.all.is_empty() && is_near || looked.all.len() >= LOOKED;
            if is_enough && near.estimate < want.reach(loops, looked.most) {
                break;
            }
            if let Some(near) = all.get(number + AHEAD) {
                self.ask_ahead(near);
            }
            self.look(loops, want.query, near, passes, &mut looked);
        }
        // Codes of a large partition are many: that all the greatest estimates are of others is left to chance.
        let is_whole = self.cells.len() == 1 || want.asking.is_none();
        let reach = want.reach(loops, looked.most);
        if is_whole && best.may_have_lost(reach) {
            self.look_at_all(loops, want, seen, passes, &mut looked);
        }
        looked.nearest(loops, want.query, self.dim)
    }

    fn ask_ahead(&self, near: &Near) {
        prefetch(&self.cells[near.cell].rows, near.at * self.dim, self.dim);
    }

    /// Compares one row, if its entry passes.
    fn look<'c>(
        &'c self,
        loops: &Loops,
        query: &Query,
        near: &Near,
        passes: &dyn Fn(&Hot) -> bool,
        looked: &mut Looked<'c>,
    ) {
        let (cell, at) = (&self.cells[near.cell], near.at);
        let hot = &cell.hots[at];
        if passes(hot) {
            let mut product = [0.0];
            let start = [at * self.dim];
            loops.kernels.rows_f16(Sum::Dot, query.row(), &cell.rows, &start, &mut product);
            looked.most = looked.most.max(product[0]);
            looked.all.push(Seen { product: product[0], hot, cell, at });
        }
    }

    /// Compares every row whose estimate reaches what may be of use: where more of them are than are kept.
    fn look_at_all<'c>(
        &'c self,
        loops: &Loops,
        want: &Want<'_>,
        seen: &[usize],
        passes: &dyn Fn(&Hot) -> bool,
        looked: &mut Looked<'c>,
    ) {
        looked.all.clear();
        for &cell in seen {
            let codes = &self.cells[cell].codes;
            let Some(asking) = want.asking().filter(|_| !codes.is_empty()) else {
                for at in 0..self.cells[cell].hots.len() {
                    let near = Near { estimate: 0.0, cell, at };
                    self.look(loops, want.query, &near, passes, looked);
                }
                continue;
            };
            for block in 0..codes.n_blocks() {
                let reach = want.reach(loops, looked.most);
                let mut marks = [Marks::NONE];
                codes.marks(&loops.coder, block, [asking], [reach], [&mut marks]);
                each_marked(codes, block, &marks[0], |at, estimate| {
                    let near = Near { estimate, cell, at };
                    self.look(loops, want.query, &near, passes, looked);
                });
            }
        }
    }
}

/// Hands out the rows of a block that are marked, with their estimates.
fn each_marked(codes: &Codes, block: usize, marks: &Marks, mut take: impl FnMut(usize, f32)) {
    let mut left = marks.reach & codes.lanes(block);
    while left != 0 {
        let lane = left.trailing_zeros() as usize;
        left &= left - 1;
        take(block * BLOCK + row_of(lane), marks.similarities[lane]);
    }
}

impl Looked<'_> {
    /// The nearest, and of equally near ones that with the least number. What the loops place close may be in another order.
    fn nearest(self, loops: &Loops, query: &Query, dim: usize) -> Option<Found> {
        let bound = self.most - 2.0 * loops.slack();
        let close = self.all.iter().filter(|seen| seen.product >= bound);
        let cosines = close.map(|seen| (seen.hot, query.cosine(seen.cell.row(seen.at, dim))));
        nearer(cosines)
    }
}

/// The nearest, and of equally near ones that with the least number.
pub(super) fn nearer<'a>(all: impl Iterator<Item = (&'a Arc<Hot>, f32)>) -> Option<Found> {
    let nearest = all.min_by(|a, b| b.1.total_cmp(&a.1).then(a.0.id().cmp(&b.0.id())));
    nearest.map(|(hot, cosine)| (Arc::clone(hot), cosine))
}
