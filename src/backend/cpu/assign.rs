//! Operation `assign`: the nearest centroid of every row. Centroids are packed in panels; each row keeps the least
//! distance so far and where it was.

use std::ops::Range;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::backend::cpu::line::Source;
use crate::backend::cpu::panels::Panels;
use crate::backend::cpu::tiles::{Sink, Tiles, rows_per_block};
use crate::core::neighbors::Neighbor;
use crate::distance::simd::Kernels;

/// The nearest so far of a block of rows. Centroids come in ascending order, so only what is nearer replaces.
struct Nearest<'a> {
    bounds: &'a [f32],
    least: Vec<f32>,
    out: &'a mut [Neighbor],
}

impl Sink for Nearest<'_> {
    fn query_bounds(&self) -> &[f32] {
        self.bounds
    }

    fn row_bounds(&self) -> &[f32] {
        &self.least
    }

    fn take(&mut self, row: usize, query: usize, distance: f32) {
        self.least[row] = distance;
        self.out[row] = Neighbor { slot: query as u32, distance };
    }
}

/// See [`crate::backend::Backend::assign`]; shapes are checked.
pub fn run(
    kernels: &Kernels,
    pool: &ThreadPool,
    rows: Source<'_>,
    range: Range<u32>,
    centroids: Source<'_>,
) -> Vec<Neighbor> {
    let panels = Panels::new(kernels, &centroids, 0..centroids.host.n_rows());
    let mut bounds = vec![f32::INFINITY; panels.n_padded()];
    bounds[panels.n_queries..].fill(f32::NEG_INFINITY);
    let most = rows_per_block(rows.host.dim());
    let mut out = vec![Neighbor::default(); range.len()];
    let one = |tiles: &mut Tiles, (block, out): (usize, &mut [Neighbor])| {
        let start = range.start + (block * most) as u32;
        let slots: Vec<u32> = (start..start + out.len() as u32).collect();
        let least = vec![f32::INFINITY; out.len()];
        let mut nearest = Nearest { bounds: &bounds, least, out };
        tiles.run(kernels, &rows, &slots, &panels, &mut nearest);
    };
    if pool.current_num_threads() == 1 {
        let mut tiles = Tiles::default();
        out.chunks_mut(most).enumerate().for_each(|block| one(&mut tiles, block));
    } else {
        let blocks = out.par_chunks_mut(most).enumerate();
        pool.install(|| blocks.for_each_init(Tiles::default, one));
    }
    out
}
