//! k-means on any backend.
//!
//! Centroids are trained on a sample, then all rows are assigned block by block, so rows need not be in memory
//! at once. Sums are taken in 64 bits in the order of the rows: the same seed gives the same centroids for any number
//! of threads, and on any backend where the rows are integers.
//!
//! Paper: Lloyd, "Least squares quantization in PCM", 1982; Dhillon, Modha, "Concept decompositions for large sparse
//! text data", 2001 (spherical: centroids have norm 1).

use std::sync::Arc;

use crate::backend::{Backend, Stream};
use crate::cluster::{gather, sample};
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::neighbors::Neighbor;
use crate::core::rows::{Dtype, Rows, Values};
use crate::error::{Error, Result};

/// Rows that a backend assigns in one call.
const BLOCK_ROWS: usize = 16 << 10;

/// Stream number that tells the start from the sample.
const START: u64 = 0x73_74_61_72_74;

/// How centroids are trained.
#[derive(Clone, Copy, Debug)]
pub struct KMeans {
    /// Centroids asked for; there are never more than rows.
    pub n_cells: usize,
    /// Rounds of Lloyd's algorithm; fewer if nothing moves any more.
    pub n_rounds: usize,
    /// Rows per centroid that are trained on.
    pub sample_per_cell: usize,
    /// Seed of sample and start.
    pub seed: u64,
}

impl Default for KMeans {
    fn default() -> Self {
        Self { n_cells: 256, n_rounds: 8, sample_per_cell: 32, seed: 0 }
    }
}

impl KMeans {
    /// Centroids `[min(n_cells, n_rows), dim]`, of the element type of integer rows and f32 for floats. With cosine
    /// and dot they point where their rows' mean does; with L2 and L1 they are the mean. A cell that loses all its
    /// rows starts again at the row that is farthest from its centroid; where fewer rows differ than cells are
    /// asked for, centroids repeat and the later ones stay empty.
    ///
    /// Cost: `n_rounds` passes of [`Backend::assign`] over the sample.
    ///
    /// # Errors
    /// `centroids` if there are no rows or no cells are asked for; those of the backend.
    pub fn train(&self, backend: &dyn Backend, rows: &Rows, metric: Metric) -> Result<Rows> {
        if self.n_cells == 0 || rows.n_rows() == 0 {
            let message = format!("{} cells of {} rows", self.n_cells, rows.n_rows());
            return Err(Error::usage("centroids", message));
        }
        let n_sampled = self.n_cells.saturating_mul(self.sample_per_cell.max(1));
        let slots = sample(rows.n_rows(), n_sampled, self.seed);
        let training = Arc::new(gather(rows, slots.into_iter()));
        let start = sample(training.n_rows(), self.n_cells, stream(self.seed, START));
        let mut means = Means::new(training.dtype(), training.dim(), metric);
        let mut centroids = means.of_rows(&training, &start);
        let resident = backend.upload(Arc::clone(&training), metric)?;
        let mut before: Vec<u32> = Vec::new();
        for _ in 0..self.n_rounds {
            let range = 0..training.n_rows() as u32;
            let nearest = backend.assign(Stream::default(), &resident, range, &centroids)?;
            let now: Vec<u32> = nearest.iter().map(|neighbor| neighbor.slot).collect();
            if now == before {
                break;
            }
            centroids = means.of_cells(&training, &nearest, &centroids);
            before = now;
        }
        Ok(centroids)
    }
}

/// The nearest centroid of every row, block by block.
///
/// # Errors
/// Those of [`Backend::assign`].
pub fn assign(
    backend: &dyn Backend,
    rows: &Rows,
    metric: Metric,
    centroids: &Rows,
) -> Result<Vec<Neighbor>> {
    let mut nearest = Vec::with_capacity(rows.n_rows());
    for start in (0..rows.n_rows()).step_by(BLOCK_ROWS) {
        let block = rows.slice(start..(start + BLOCK_ROWS).min(rows.n_rows()));
        let n_rows = block.n_rows() as u32;
        let resident = backend.upload(Arc::new(block), metric)?;
        nearest.extend(backend.assign(Stream::default(), &resident, 0..n_rows, centroids)?);
    }
    Ok(nearest)
}

/// Makes centroids out of sums.
struct Means {
    dtype: Dtype,
    dim: usize,
    metric: Metric,
    row: Vec<f32>,
}

impl Means {
    fn new(dtype: Dtype, dim: usize, metric: Metric) -> Self {
        Self { dtype, dim, metric, row: vec![0.0; dim] }
    }

    /// Each listed row as a centroid.
    fn of_rows(&mut self, rows: &Rows, slots: &[usize]) -> Rows {
        let mut sums = Vec::with_capacity(slots.len() * self.dim);
        for &slot in slots {
            rows.widen(slot, &mut self.row);
            sums.extend(self.row.iter().map(|&x| f64::from(x)));
        }
        self.finish(&sums)
    }

    /// The mean of each cell; empty cells take the farthest rows, and repeat their old centroid when none is far.
    fn of_cells(&mut self, rows: &Rows, nearest: &[Neighbor], old: &Rows) -> Rows {
        let mut sums = vec![0.0f64; old.n_rows() * self.dim];
        let mut counts = vec![0u32; old.n_rows()];
        for (slot, neighbor) in nearest.iter().enumerate() {
            let cell = neighbor.slot as usize;
            counts[cell] += 1;
            rows.widen(slot, &mut self.row);
            let sum = &mut sums[cell * self.dim..(cell + 1) * self.dim];
            sum.iter_mut().zip(&self.row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let mut far = farthest(nearest, &counts).into_iter();
        for (cell, &count) in counts.iter().enumerate() {
            let sum = &mut sums[cell * self.dim..(cell + 1) * self.dim];
            let is_lost = count > 0 && self.is_spherical() && sum.iter().all(|&x| x == 0.0);
            if count > 0 && !is_lost {
                sum.iter_mut().for_each(|x| *x /= f64::from(count));
                continue;
            }
            match far.next() {
                Some(slot) => rows.widen(slot, &mut self.row),
                None => old.widen(cell, &mut self.row),
            }
            sum.iter_mut().zip(&self.row).for_each(|(sum, &x)| *sum = f64::from(x));
        }
        self.finish(&sums)
    }

    fn is_spherical(&self) -> bool {
        matches!(self.metric, Metric::Cosine | Metric::Dot)
    }

    /// Rows of the right type; directions are scaled to norm 1, or to the largest element that an integer may have.
    fn finish(&self, sums: &[f64]) -> Rows {
        let mut sums = sums.to_vec();
        if self.is_spherical() {
            for sum in sums.chunks_exact_mut(self.dim) {
                let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
                let largest = sum.iter().fold(0.0f64, |most, x| most.max(x.abs()));
                let size = if self.dtype.is_integer() { largest / 127.0 } else { norm };
                if size > 0.0 {
                    sum.iter_mut().for_each(|x| *x /= size);
                }
            }
        }
        let sums = sums.iter();
        let values = match self.dtype {
            Dtype::F32 | Dtype::F16 => Values::F32(sums.map(|&x| x as f32).collect()),
            Dtype::U8 => Values::U8(sums.map(|x| x.round() as u8).collect()),
            Dtype::I8 => Values::I8(sums.map(|x| x.round() as i8).collect()),
        };
        Rows::new(values, self.dim).expect("means of finite rows")
    }
}

/// Rows that lie off their centroid, the farthest first, as many as cells are empty.
fn farthest(nearest: &[Neighbor], counts: &[u32]) -> Vec<usize> {
    let n_empty = counts.iter().filter(|&&count| count == 0).count();
    if n_empty == 0 {
        return Vec::new();
    }
    let mut rows: Vec<usize> = (0..nearest.len()).collect();
    rows.retain(|&row| counts[nearest[row].slot as usize] > 1);
    rows.sort_unstable_by(|&a, &b| {
        nearest[b].distance.total_cmp(&nearest[a].distance).then(a.cmp(&b))
    });
    rows.truncate(n_empty);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::plain::Plain;

    fn blobs(n_rows: usize) -> Rows {
        let element = |i: usize| {
            let centre = [0.0f32, 10.0, 20.0][i / 2 % 3];
            centre + 1.0 + (stream(9, i as u64) % 100) as f32 / 100.0
        };
        Rows::new(Values::F32((0..n_rows * 2).map(element).collect()), 2).unwrap()
    }

    #[test]
    fn three_heaps_are_three_cells_under_every_metric_of_lengths() {
        let backend = Plain::new(1 << 30);
        let rows = blobs(600);
        for metric in [Metric::L2, Metric::L1] {
            let means = KMeans { n_cells: 3, n_rounds: 20, seed: 4, ..KMeans::default() };
            let centroids = means.train(&backend, &rows, metric).unwrap();
            let nearest = assign(&backend, &rows, metric, &centroids).unwrap();
            assert!(nearest.iter().all(|neighbor| neighbor.distance < 4.0), "{metric}");
            assert!((0..600).all(|row| nearest[row].slot == nearest[row % 3].slot));
        }
    }

    #[test]
    fn spherical_centroids_have_norm_one() {
        let backend = Plain::new(1 << 30);
        let means = KMeans { n_cells: 5, ..KMeans::default() };
        let centroids = means.train(&backend, &blobs(300), Metric::Cosine).unwrap();
        assert!(centroids.norms().iter().all(|norm| (norm - 1.0).abs() < 1e-6));
    }

    #[test]
    fn equal_rows_and_more_cells_than_rows_break_nothing() {
        let backend = Plain::new(1 << 30);
        for values in [Values::F32(vec![1.5; 100_000]), Values::I8(vec![3; 100_000])] {
            let rows = Rows::new(values, 1).unwrap();
            for metric in Metric::ALL {
                let means = KMeans { n_cells: 8, ..KMeans::default() };
                let centroids = means.train(&backend, &rows, metric).unwrap();
                assert_eq!(centroids.n_rows(), 8);
                let nearest = assign(&backend, &rows, metric, &centroids).unwrap();
                assert!(nearest.iter().all(|neighbor| neighbor.slot == 0));
            }
        }
        let few = blobs(3);
        let centroids = KMeans::default().train(&backend, &few, Metric::L2).unwrap();
        assert_eq!(centroids.n_rows(), 3);
        let none = few.slice(0..0);
        let error = KMeans::default().train(&backend, &none, Metric::L2).unwrap_err();
        assert_eq!(error.code(), "centroids");
    }

    #[test]
    fn an_empty_cell_takes_the_farthest_row() {
        // Eleven equal rows and one far away: both starts are equal, the second cell is empty at first.
        let mut values = vec![1.0f32; 11];
        values.push(50.0);
        let rows = Rows::new(Values::F32(values), 1).unwrap();
        let nearest: Vec<Neighbor> = (0..12)
            .map(|row| Neighbor { slot: 0, distance: if row == 11 { 2401.0 } else { 0.0 } })
            .collect();
        let old = Rows::new(Values::F32(vec![1.0, 1.0]), 1).unwrap();
        let centroids = Means::new(Dtype::F32, 1, Metric::L2).of_cells(&rows, &nearest, &old);
        assert_eq!(centroids.values().get(1), 50.0);
    }
}
