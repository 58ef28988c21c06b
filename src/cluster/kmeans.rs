//! k-means on any backend.
//!
//! Centroids are trained on a sample, then all rows are assigned block by block, so rows need not be in memory
//! at once. Sums are taken in 64 bits in the order of the rows: the same seed gives the same centroids for any number
//! of threads, and on any backend where the rows are integers.
//!
//! Paper: Lloyd, "Least squares quantization in PCM", 1982; Dhillon, Modha, "Concept decompositions for large sparse
//! text data", 2001 (spherical: centroids have norm 1).

use std::collections::HashSet;
use std::sync::Arc;

use crate::backend::resident::Resident;
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

/// A cell of this many times the mean size is divided.
const LARGE: usize = 4;

/// Centroids that a large cell is given at most.
const MORE: usize = 64;

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
    /// and dot they point where their rows' mean does and have one norm; with L2 and L1 they are the mean. A cell that
    /// loses all its rows starts again at the row that is farthest from its centroid; where fewer rows differ than
    /// cells are asked for, centroids repeat and the later ones stay empty.
    ///
    /// Cost: `n_rounds` passes of [`Backend::assign`] over the sample.
    ///
    /// # Errors
    /// `centroids` if there are no rows or no cells are asked for; those of the backend.
    pub fn train(&self, backend: &dyn Backend, rows: &Rows, metric: Metric) -> Result<Rows> {
        let slots = self.sample(rows.n_rows());
        Ok(self.lloyd(backend, gather(rows, slots.into_iter()), metric)?.centroids)
    }

    /// As [`Self::train`], on all of `sample`, whose rows a caller that keeps its rows elsewhere chose by
    /// [`Self::sample`]. Cells with far more rows than the others are then divided, so that there may be more than
    /// `n_cells`, and `n_rounds` more even them out.
    ///
    /// # Errors
    /// As [`Self::train`].
    pub fn train_even(&self, backend: &dyn Backend, sample: Rows, metric: Metric) -> Result<Rows> {
        let mut training = self.lloyd(backend, sample, metric)?;
        let (rows, nearest) = (training.resident.host(), &training.nearest);
        if let Some(more) = divided(rows, metric, &training.centroids, nearest, self.seed) {
            training.centroids = more;
            training.rounds(backend, self.n_rounds)?;
        }
        Ok(training.centroids)
    }

    /// The rows of `n_rows` that are trained on, ascending.
    pub fn sample(&self, n_rows: usize) -> Vec<usize> {
        sample(n_rows, self.n_cells.saturating_mul(self.sample_per_cell.max(1)), self.seed)
    }

    fn lloyd(&self, backend: &dyn Backend, rows: Rows, metric: Metric) -> Result<Training> {
        if self.n_cells == 0 || rows.n_rows() == 0 {
            let message = format!("{} cells of {} rows", self.n_cells, rows.n_rows());
            return Err(Error::usage("centroids", message));
        }
        let start = sample(rows.n_rows(), self.n_cells, stream(self.seed, START));
        let mut means = Means::new(rows.dtype(), rows.dim(), metric);
        let first = means.widened(&rows, &start);
        let centroids = means.finish(&first);
        let resident = backend.upload(Arc::new(rows), metric)?;
        let mut training = Training { resident, means, centroids, nearest: Vec::new() };
        training.rounds(backend, self.n_rounds)?;
        Ok(training)
    }
}

/// Centroids on their way.
struct Training {
    resident: Resident,
    means: Means,
    centroids: Rows,
    /// Of every row, as of the beginning of the last round.
    nearest: Vec<Neighbor>,
}

impl Training {
    fn rounds(&mut self, backend: &dyn Backend, n_rounds: usize) -> Result<()> {
        let range = 0..self.resident.host().n_rows() as u32;
        for _ in 0..n_rounds {
            let stream = Stream::default();
            let now = backend.assign(stream, &self.resident, range.clone(), &self.centroids)?;
            let slots = |nearest: &[Neighbor]| -> Vec<u32> {
                nearest.iter().map(|neighbor| neighbor.slot).collect()
            };
            let has_settled = slots(&now) == slots(&self.nearest);
            self.nearest = now;
            if has_settled {
                break;
            }
            let rows = self.resident.host();
            self.centroids = self.means.of_cells(rows, &self.nearest, &self.centroids);
        }
        Ok(())
    }
}

/// `centroids` with those of cells that have over four times the mean number of `rows` replaced by rows of the cell that
/// differ: as many as it has that mean, at most 64, placed last. `None` if no cell is so large, or its rows are equal.
pub fn divided(
    rows: &Rows,
    metric: Metric,
    centroids: &Rows,
    nearest: &[Neighbor],
    seed: u64,
) -> Option<Rows> {
    let n_cells = centroids.n_rows();
    let mean = nearest.len().div_ceil(n_cells.max(1)).max(1);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); n_cells];
    nearest.iter().enumerate().for_each(|(row, near)| members[near.slot as usize].push(row));
    let is_large = |cell: &usize| n_cells > 1 && members[*cell].len() > LARGE * mean;
    let mut means = Means::new(rows.dtype(), rows.dim(), metric);
    let old: Vec<usize> = (0..n_cells).collect();
    let mut sums = means.widened(centroids, &old);
    let mut kept: Vec<usize> = old.iter().copied().filter(|cell| !is_large(cell)).collect();
    let mut added = Vec::new();
    for cell in old.into_iter().filter(is_large) {
        let members = &members[cell];
        let some = sample(members.len(), (members.len() / mean).min(MORE), seed ^ cell as u64);
        let mut seen = HashSet::new();
        let mut chosen: Vec<usize> = some.into_iter().map(|i| members[i]).collect();
        chosen.retain(|&row| seen.insert(bits(rows, row)));
        if chosen.len() < 2 {
            kept.push(cell);
            continue;
        }
        let first = sums.len() / rows.dim();
        sums.extend(means.widened(rows, &chosen));
        added.extend(first..first + chosen.len());
    }
    if added.is_empty() {
        return None;
    }
    // Finished together, so that old and new have one norm where that matters.
    Some(gather(&means.finish(&sums), kept.into_iter().chain(added)))
}

/// What tells whether two rows are equal.
fn bits(rows: &Rows, row: usize) -> Vec<u32> {
    let mut values = vec![0.0; rows.dim()];
    rows.widen(row, &mut values);
    values.iter().map(|x| x.to_bits()).collect()
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

    /// Each listed row.
    fn widened(&mut self, rows: &Rows, slots: &[usize]) -> Vec<f64> {
        let mut values = Vec::with_capacity(slots.len() * self.dim);
        for &slot in slots {
            rows.widen(slot, &mut self.row);
            values.extend(self.row.iter().map(|&x| f64::from(x)));
        }
        values
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

    /// Rows of the right type; directions are scaled to norm 1, or, of integers, all to the largest norm at which no
    /// element passes 127: so that the greatest product is the nearest.
    fn finish(&self, sums: &[f64]) -> Rows {
        let mut sums = sums.to_vec();
        if self.is_spherical() {
            for sum in sums.chunks_exact_mut(self.dim) {
                let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
                if norm > 0.0 {
                    sum.iter_mut().for_each(|x| *x /= norm);
                }
            }
            let largest = sums.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            if self.dtype.is_integer() && largest > 0.0 {
                sums.iter_mut().for_each(|x| *x *= 127.0 / largest);
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
    fn spherical_centroids_of_integers_have_one_norm_so_that_products_find_the_nearest() {
        // Rows along one axis and rows along all of them: each scaled to its own largest element, the latter would win
        // every product.
        let dim = 64;
        let element = |i: usize| match (i / dim % 2, i % dim) {
            (0, 0) | (1, _) => 100 + (stream(3, i as u64) % 20) as i8,
            _ => (stream(3, i as u64) % 3) as i8,
        };
        let rows = Rows::new(Values::I8((0..200 * dim).map(element).collect()), dim).unwrap();
        let backend = Plain::new(1 << 30);
        let means = KMeans { n_cells: 2, ..KMeans::default() };
        for metric in [Metric::Dot, Metric::Cosine] {
            let centroids = means.train(&backend, &rows, metric).unwrap();
            let norms = centroids.norms();
            assert!((norms[0] - norms[1]).abs() < 5.0, "{norms:?}");
            let nearest = assign(&backend, &rows, metric, &centroids).unwrap();
            assert!((0..200).all(|row| nearest[row].slot == nearest[row % 2].slot));
            assert_ne!(nearest[0].slot, nearest[1].slot);
        }
    }

    /// Nine of ten rows in one heap, the others in ten places far off; a centroid in each.
    fn one_heap(dtype: Dtype) -> (Rows, Rows) {
        let place = |row: usize, j: usize| match row % 10 {
            0 if j == row / 10 % 10 => 110,
            0 => 0,
            _ => 60,
        };
        let element = |i: usize| place(i / 16, i % 16) as i64 + (stream(8, i as u64) % 17) as i64;
        let rows: Vec<i64> = (0..16 * 2000).map(element).collect();
        let centres: Vec<i64> =
            (0..16 * 11).map(|i| place([i / 16 * 10, 1][i / 160], i % 16) as i64).collect();
        let rows_of = |values: Vec<i64>| match dtype {
            Dtype::I8 => Values::I8(values.into_iter().map(|x| x as i8).collect()),
            _ => Values::F32(values.into_iter().map(|x| x as f32).collect()),
        };
        (Rows::new(rows_of(rows), 16).unwrap(), Rows::new(rows_of(centres), 16).unwrap())
    }

    #[test]
    fn a_cell_with_nearly_all_rows_is_divided() {
        let backend = Plain::new(1 << 30);
        for (dtype, metric) in [(Dtype::F32, Metric::L2), (Dtype::I8, Metric::Cosine)] {
            let (rows, centroids) = one_heap(dtype);
            let largest = |centroids: &Rows| {
                let nearest = assign(&backend, &rows, metric, centroids).unwrap();
                let mut counts = vec![0; centroids.n_rows()];
                nearest.iter().for_each(|neighbor| counts[neighbor.slot as usize] += 1);
                counts.into_iter().max().unwrap()
            };
            let nearest = assign(&backend, &rows, metric, &centroids).unwrap();
            let more = divided(&rows, metric, &centroids, &nearest, 1).unwrap();
            assert!(largest(&centroids) >= 1800 && largest(&more) < 900, "{metric}");
            let equal = rows.slice(1..2);
            let equal = gather(&equal, std::iter::repeat_n(0, 2000));
            let (settled, nearest) = (gather(&equal, 0..11), vec![Neighbor::default(); 2000]);
            assert!(divided(&equal, metric, &settled, &nearest, 1).is_none(), "{metric}");
        }
    }

    #[test]
    fn training_evenly_differs_only_where_a_cell_is_large() {
        let backend = Plain::new(1 << 30);
        let means = KMeans { n_cells: 3, sample_per_cell: 200, seed: 4, ..KMeans::default() };
        let (rows, slots) = (blobs(600), means.sample(600));
        assert_eq!(slots.len(), 600);
        let even = means.train_even(&backend, rows.clone(), Metric::L2).unwrap();
        let plain = means.train(&backend, &rows, Metric::L2).unwrap();
        assert_eq!(even.values(), plain.values());
        // Most rows are equal: starts among them that are equal too are moved to the rows far away.
        let element = |i: usize| match i {
            0..590 if i % 10 < 7 => 0.0,
            0..590 => i as f32 / 1000.0,
            _ => 1000.0 * (i - 588) as f32,
        };
        let rows = Rows::new(Values::F32((0..600).map(element).collect()), 1).unwrap();
        let is_divided = |seed: u64| {
            let means = KMeans { n_cells: 8, n_rounds: 8, sample_per_cell: 200, seed };
            assert_eq!(means.train(&backend, &rows, Metric::L2).unwrap().n_rows(), 8);
            means.train_even(&backend, rows.clone(), Metric::L2).unwrap().n_rows() > 8
        };
        assert!((0..20).any(is_divided));
    }

    #[test]
    fn equal_rows_and_more_cells_than_rows_break_nothing() {
        let backend = Plain::new(1 << 30);
        for values in [Values::F32(vec![1.5; 100_000].into()), Values::I8(vec![3; 100_000].into())]
        {
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
        let rows = Rows::new(Values::F32(values.into()), 1).unwrap();
        let nearest: Vec<Neighbor> = (0..12)
            .map(|row| Neighbor { slot: 0, distance: if row == 11 { 2401.0 } else { 0.0 } })
            .collect();
        let old = Rows::new(Values::F32(vec![1.0, 1.0].into()), 1).unwrap();
        let centroids = Means::new(Dtype::F32, 1, Metric::L2).of_cells(&rows, &nearest, &old);
        assert_eq!(centroids.values().get(1), 50.0);
    }
}
