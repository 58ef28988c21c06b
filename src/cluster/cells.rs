//! Cells of points, and for each cell its halo: the points of other cells that may be near one of its own.
//!
//! A pair of different cells is within reach only if one of its points is within half the reach of the plane between
//! both centroids ([`bounds::halo_limit`]), so it is enough that every cell meets the points of other cells that are that
//! near to it. All distances here are sums of integers: membership is the same on every backend.
//!
//! Paper: Jacox, Samet, "Metric space similarity joins", TODS 2008, for windows at hyperplanes.

use std::ops::Range;
use std::sync::Arc;

use crate::backend::{Backend, Stream};
use crate::cluster::kmeans::{KMeans, assign, divided};
use crate::cluster::points::{Points, code_distance};
use crate::cluster::{bounds, gather};
use crate::core::metric::Metric;
use crate::core::neighbors::Neighbor;
use crate::core::rows::{Rows, Values};
use crate::error::Result;

/// Points whose distances to centroids are held at once.
const BLOCK_ROWS: usize = 1024;

/// Points by cell.
pub struct Cells {
    metric: Metric,
    centroids: Arc<Rows>,
    /// Cell and distance of every point.
    own: Vec<Neighbor>,
    /// Points, cell after cell, ascending in each.
    order: Vec<u32>,
    starts: Vec<usize>,
    /// `[n_cells, n_cells]`: how much farther than from its own centroid (row) a point of the halo of another cell
    /// (column) is from that cell's.
    limits: Vec<f32>,
}

impl Cells {
    /// Clusters the points into about `n_cells`, none of them empty.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn build(
        backend: &dyn Backend,
        points: &Points,
        n_cells: usize,
        seed: u64,
    ) -> Result<Self> {
        let (rows, metric) = (&points.codes, points.metric);
        let means = KMeans { n_cells, n_rounds: 6, sample_per_cell: 16, seed };
        let centroids = means.train(backend, rows, metric)?;
        let own = assign(backend, rows, metric, &centroids)?;
        let (centroids, own) = match divided(rows, metric, &centroids, &own, seed) {
            Some(more) => {
                let own = assign(backend, rows, metric, &more)?;
                (more, own)
            }
            None => (centroids, own),
        };
        let (centroids, own) = without_empty(&centroids, own);
        let n_cells = centroids.n_rows();
        let mut starts = vec![0usize; n_cells + 1];
        own.iter().for_each(|neighbor| starts[neighbor.slot as usize + 1] += 1);
        (0..n_cells).for_each(|cell| starts[cell + 1] += starts[cell]);
        let (mut order, mut next) = (vec![0u32; own.len()], starts.clone());
        for (point, neighbor) in own.iter().enumerate() {
            let place = &mut next[neighbor.slot as usize];
            order[*place] = point as u32;
            *place += 1;
        }
        let limits = limits(metric, points.reach, &centroids);
        Ok(Self { metric, centroids: Arc::new(centroids), own, order, starts, limits })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Points of a cell, ascending.
    pub fn members(&self, cell: usize) -> &[u32] {
        &self.order[self.starts[cell]..self.starts[cell + 1]]
    }

    /// The cell of a point.
    pub fn of(&self, point: u32) -> usize {
        self.own[point as usize].slot as usize
    }

    /// The halos of a range of cells, each ascending. At most `range.len() * n_points` numbers.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn halos(
        &self,
        backend: &dyn Backend,
        codes: &Rows,
        range: Range<usize>,
    ) -> Result<Vec<Vec<u32>>> {
        let n_cells = self.len();
        let centroids = backend.upload(Arc::clone(&self.centroids), self.metric)?;
        let mut halos: Vec<Vec<u32>> = vec![Vec::new(); range.len()];
        for start in (0..codes.n_rows()).step_by(BLOCK_ROWS) {
            let block = codes.slice(start..(start + BLOCK_ROWS).min(codes.n_rows()));
            let slots = range.start as u32..range.end as u32;
            let distances = backend.distances(Stream::default(), &block, &centroids, slots)?;
            for (i, row) in distances.chunks_exact(range.len()).enumerate() {
                let point = start + i;
                let own = self.own[point];
                let limits = &self.limits[own.slot as usize * n_cells..][range.clone()];
                for (cell, (&distance, &limit)) in row.iter().zip(limits).enumerate() {
                    if distance <= own.distance + limit {
                        halos[cell].push(point as u32);
                    }
                }
            }
        }
        for (cell, halo) in range.zip(&mut halos) {
            halo.retain(|&point| self.of(point) != cell);
        }
        Ok(halos)
    }

    /// Whether `point` is in the halo of `cell`, by the same numbers as [`Self::halos`].
    pub fn is_in_halo(&self, codes: &Rows, point: u32, cell: usize) -> bool {
        let own = self.own[point as usize];
        let distance =
            code_distance(self.metric, code(codes, point as usize), code(&self.centroids, cell))
                as f32;
        distance <= own.distance + self.limits[own.slot as usize * self.len() + cell]
    }
}

fn code(codes: &Rows, row: usize) -> &[i8] {
    match codes.values() {
        Values::I8(values) => &values[row * codes.dim()..(row + 1) * codes.dim()],
        _ => unreachable!("codes and their centroids are int8"),
    }
}

fn without_empty(centroids: &Rows, mut own: Vec<Neighbor>) -> (Rows, Vec<Neighbor>) {
    let mut is_used = vec![false; centroids.n_rows()];
    own.iter().for_each(|neighbor| is_used[neighbor.slot as usize] = true);
    let used: Vec<usize> = (0..is_used.len()).filter(|&cell| is_used[cell]).collect();
    let mut names = vec![0u32; is_used.len()];
    used.iter().enumerate().for_each(|(name, &cell)| names[cell] = name as u32);
    own.iter_mut().for_each(|neighbor| neighbor.slot = names[neighbor.slot as usize]);
    (gather(centroids, used.into_iter()), own)
}

fn limits(metric: Metric, reach: f64, centroids: &Rows) -> Vec<f32> {
    let n_cells = centroids.n_rows();
    let one = |i: usize| {
        let (own, other) = (code(centroids, i / n_cells), code(centroids, i % n_cells));
        bounds::halo_limit(metric, reach, code_distance(metric, own, other) as f32)
    };
    (0..n_cells * n_cells).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::plain::Plain;
    use crate::core::mix::stream;

    /// Codes around a few heaps, one of them much larger than the others.
    fn points(seed: u64, metric: Metric, n_rows: usize, dim: usize, reach: f64) -> Points {
        let element = |i: usize| {
            let heap = [0, 0, 0, 0, 1, 2, 3][i / dim % 7];
            let centre = stream(seed, heap * 100 + (i % dim) as u64) % 160;
            (centre + stream(seed ^ 1, i as u64) % 40) as i64 - 100
        };
        let values = (0..n_rows * dim).map(|i| element(i) as i8).collect();
        Points { codes: Rows::new(Values::I8(values), dim).unwrap(), metric, reach }
    }

    #[test]
    fn every_pair_within_reach_meets_in_a_cell_or_a_halo() {
        let backend = Plain::new(1 << 30);
        for seed in 0..12 {
            for (metric, dim) in
                [(Metric::L2, 3), (Metric::L2, 9), (Metric::L1, 3), (Metric::L1, 9)]
            {
                let reach = [3.0, 12.0, 60.0][seed as usize % 3];
                let points = points(seed, metric, 300, dim, reach);
                let cells = Cells::build(&backend, &points, 12, seed).unwrap();
                let halos = cells.halos(&backend, &points.codes, 0..cells.len()).unwrap();
                for x in 0..300u32 {
                    for y in 0..x {
                        let (a, b) = (cells.of(x), cells.of(y));
                        let distance = code_distance(
                            metric,
                            code(&points.codes, x as usize),
                            code(&points.codes, y as usize),
                        );
                        let is_near = distance as f32 <= points.within();
                        let meets = a == b || halos[b].contains(&x) || halos[a].contains(&y);
                        assert!(meets || !is_near, "seed {seed} {metric} {dim}: {x} {y}");
                    }
                    for (cell, halo) in halos.iter().enumerate().filter(|h| h.0 != cells.of(x)) {
                        let is_in = cells.is_in_halo(&points.codes, x, cell);
                        assert_eq!(halo.contains(&x), is_in);
                    }
                }
                let parts: usize = (0..cells.len()).map(|cell| cells.members(cell).len()).sum();
                assert_eq!(parts, 300);
            }
        }
    }

    #[test]
    fn a_large_cell_is_divided_unless_its_points_are_equal() {
        let backend = Plain::new(1 << 30);
        let mut one = points(1, Metric::L2, 2000, 4, 1.0);
        let Values::I8(mut values) = one.codes.values().clone() else { panic!("int8") };
        // All but one in a hundred lie in one small heap: the sample sees too little of it to share it out.
        let shrink =
            |(i, x): (usize, &mut i8)| *x = if i / 4 % 100 == 0 { *x } else { (i % 13) as i8 };
        values.to_mut().iter_mut().enumerate().for_each(shrink);
        one.codes = Rows::new(Values::I8(values), 4).unwrap();
        let cells = Cells::build(&backend, &one, 10, 1).unwrap();
        let largest = (0..cells.len()).map(|cell| cells.members(cell).len()).max();
        assert!(largest < Some(1980), "{largest:?} of 2000 in {} cells", cells.len());
        one.codes = Rows::new(Values::I8(vec![5; 8000].into()), 4).unwrap();
        assert_eq!(Cells::build(&backend, &one, 10, 1).unwrap().len(), 1);
    }
}
