//! Several queries of one partition at once: a row is read once for all that compare it.

use half::f16;

use crate::cache::cells::best::Best;
use crate::cache::cells::{Cells, Found, Loops, SEEN_ROWS};
use crate::cache::entry::Hot;
use crate::cache::row::Query;
use crate::distance::simd::{Pass, Sum};

/// Queries of a cell from which a tile is faster than one after another.
const TILE_QUERIES: usize = 4;

/// Rows that are widened at once: they fit the second-level cache beside the queries.
const TILE_ROWS: usize = 64;

impl Cells {
    /// As [`Cells::nearest`], for each of several queries and what passes for it.
    pub fn nearest_of(
        &self,
        loops: &Loops,
        queries: &[&Query],
        passes: &dyn Fn(usize, &Hot) -> bool,
    ) -> Vec<Option<Found>> {
        let seen = self.seen_by_each(loops, queries);
        let mut askers: Vec<Vec<usize>> = vec![Vec::new(); self.cells.len()];
        for (q, cells) in seen.iter().enumerate() {
            cells.iter().for_each(|&cell| askers[cell].push(q));
        }
        let mut best = vec![Best::default(); queries.len()];
        for (cell, askers) in askers.iter().enumerate() {
            let (rows, inverse) = (&self.cells[cell].rows, &self.cells[cell].inverse);
            if askers.len() < TILE_QUERIES {
                for &q in askers {
                    loops.each_block(queries[q].row(), rows, |first, sums| {
                        best[q].take(cell, first, sums, &inverse[first..]);
                    });
                }
                continue;
            }
            let asked: Vec<&Query> = askers.iter().map(|&q| queries[q]).collect();
            loops.each_tile(&asked, rows, |row, first, sums| {
                for (&q, sum) in askers[first..].iter().zip(sums) {
                    best[q].push(sum * inverse[row], cell, row);
                }
            });
        }
        let judged = queries.iter().zip(&best).zip(&seen).enumerate();
        judged
            .map(|(q, ((query, best), seen))| {
                self.judge(loops, query, best, seen, &|hot| passes(q, hot))
            })
            .collect()
    }

    /// The cells that each query looks at.
    fn seen_by_each(&self, loops: &Loops, queries: &[&Query]) -> Vec<Vec<usize>> {
        if self.n_rows <= SEEN_ROWS {
            return vec![(0..self.cells.len()).collect(); queries.len()];
        }
        let mut centres = vec![Vec::with_capacity(self.cells.len()); queries.len()];
        loops.each_tile(queries, &self.centres, |cell, first, sums| {
            for (centres, &sum) in centres[first..].iter_mut().zip(sums) {
                centres.push((sum, cell));
            }
        });
        centres.into_iter().map(|centres| self.nearest_cells(centres, SEEN_ROWS)).collect()
    }
}

impl Loops {
    /// Dot products of queries with rows: `take` is told a row, the first of some queries, and their sums.
    fn each_tile(
        &self,
        queries: &[&Query],
        rows: &[f16],
        mut take: impl FnMut(usize, usize, &[f32]),
    ) {
        let width = self.kernels.widths()[1];
        let panels: Vec<Vec<f32>> =
            queries.chunks(width).map(|queries| panel(queries, width, self.dim)).collect();
        let mut wide = vec![0.0; TILE_ROWS * self.dim];
        let mut sums = vec![0.0; TILE_ROWS * width];
        for (tile, rows) in rows.chunks(TILE_ROWS * self.dim).enumerate() {
            let n = rows.len() / self.dim;
            let wide = &mut wide[..rows.len()];
            self.kernels.widen_f16(rows, wide);
            for (number, panel) in panels.iter().enumerate() {
                let sums = &mut sums[..n * width];
                let pass = Pass { first: true, fetch: false };
                self.kernels.tile(Sum::Dot, width, wide, &self.starts[..n], panel, sums, pass);
                let n_queries = width.min(queries.len() - number * width);
                for (row, sums) in sums.chunks_exact(width).enumerate() {
                    take(tile * TILE_ROWS + row, number * width, &sums[..n_queries]);
                }
            }
        }
    }
}

/// Queries as the tile reads them, `[dim, width]`; zeros where there is none.
fn panel(queries: &[&Query], width: usize, dim: usize) -> Vec<f32> {
    let mut panel = vec![0.0; dim * width];
    for (q, query) in queries.iter().enumerate() {
        for (line, &x) in panel.chunks_exact_mut(width).zip(query.row()) {
            line[q] = x;
        }
    }
    panel
}
