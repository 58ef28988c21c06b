//! Several queries of one partition at once: codes are read once for all that look at a cell, and so are centres.

use half::f16;

use crate::cache::cells::best::Best;
use crate::cache::cells::code::Asking;
use crate::cache::cells::look::Want;
use crate::cache::cells::{Cells, Found, Loops, SEEN_ROWS};
use crate::cache::entry::Hot;
use crate::cache::row::Query;
use crate::distance::simd::{Pass, Sum};

/// Queries that share the reading of a block.
const GROUP: usize = 4;

/// Rows that are widened at once: they fit the second-level cache beside the queries.
const TILE_ROWS: usize = 64;

impl Cells {
    /// As [`Cells::nearest`], for each of several queries and what passes for it.
    pub fn nearest_of(
        &self,
        loops: &Loops,
        wants: &[Want<'_>],
        passes: &dyn Fn(usize, &Hot) -> bool,
    ) -> Vec<Option<Found>> {
        let wants: Vec<Want<'_>> = wants.iter().map(|want| want.of(loops, self)).collect();
        let queries: Vec<&Query> = wants.iter().map(Want::query).collect();
        let seen = self.seen_by_each(loops, &queries);
        let mut askers: Vec<Vec<usize>> = vec![Vec::new(); self.cells.len()];
        for (q, cells) in seen.iter().enumerate() {
            cells.iter().for_each(|&cell| askers[cell].push(q));
        }
        let mut best: Vec<Best> = wants.iter().map(|want| Best::new(want.floor())).collect();
        for (cell, askers) in askers.iter().enumerate() {
            if self.cells[cell].codes.is_empty() {
                for &q in askers {
                    self.compare(loops, cell, queries[q], &mut best[q]);
                }
                continue;
            }
            let asking: Vec<(usize, &Asking)> =
                askers.iter().filter_map(|&q| Some((q, wants[q].asking()?))).collect();
            let (groups, rest) = asking.as_chunks::<GROUP>();
            groups.iter().for_each(|group| self.estimate(loops, cell, *group, &mut best));
            let (pairs, rest) = rest.as_chunks::<2>();
            pairs.iter().for_each(|pair| self.estimate(loops, cell, *pair, &mut best));
            rest.iter().for_each(|&one| self.estimate(loops, cell, [one], &mut best));
        }
        let judged = wants.iter().zip(&best).zip(&seen).enumerate();
        judged
            .map(|(q, ((want, best), seen))| {
                self.judge(loops, want, best, seen, &|hot| passes(q, hot))
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
