//! Rows as points: 8-bit codes whose integer distances bound those of the rows from below.
//!
//! Rows are scaled (to norm 1 for cosine, by one factor for all otherwise), centred, projected on a few axes unless L1
//! is asked for, and rounded to steps. None of these makes a distance greater by more than what is added to the reach:
//! projection and clipping never do, rounding by at most the norms of what was rounded away. So a pair of rows within
//! `within` has codes within [`Points::within`], and nothing is missed by looking at codes first.

use std::sync::Arc;

use crate::backend::Backend;
use crate::cluster::{bounds, gather, project, sample};
use crate::core::metric::Metric;
use crate::core::rows::{Rows, Values};
use crate::error::Result;

/// Rows that axes and steps are chosen on.
const SAMPLE_ROWS: usize = 2048;

/// Rows whose codes are compared with each other to choose the number of axes.
const TRIAL_ROWS: usize = 512;

/// Rows projected at once.
const BLOCK_ROWS: usize = 2048;

/// Numbers of axes that are tried. The integer distance of 256 axes would pass 2²⁴.
const N_AXES: [usize; 3] = [32, 64, 128];

/// Largest code.
const LARGEST: f64 = 127.0;

/// What one exact verdict costs per element, with comparing one byte of a code as unit.
const VERDICT_COST: f64 = 50.0;

/// What the backend takes per byte of raw rows, in the same unit.
const RAW_COST: f64 = 1.5;

/// Share of code pairs that cells leave to compare, as a rule.
const CELLS_LEAVE: f64 = 0.25;

/// Codes of both sides of a join.
pub struct Points {
    /// `[n_rows_a + n_rows_b, n_codes]`, int8.
    pub codes: Rows,
    /// How codes are compared: L1 if rows are, L2 otherwise.
    pub metric: Metric,
    /// Greatest distance of the codes of a pair, not squared.
    pub reach: f64,
}

impl Points {
    /// `reach` as a threshold of the backend.
    pub fn within(&self) -> f32 {
        bounds::code_within(self.metric, self.reach)
    }
}

/// One side: its rows and their norms.
pub type Side<'j> = (&'j Rows, &'j [f64]);

/// Makes the codes of `sides` for pairs within `reach` (see [`bounds::reach`]), or `None` if comparing the rows
/// themselves is expected to be faster and `must` does not forbid it.
///
/// # Errors
/// Those of the backend.
pub fn encode(
    backend: &dyn Backend,
    sides: &[Side<'_>],
    metric: Metric,
    reach: f64,
    seed: u64,
    must: bool,
) -> Result<Option<Points>> {
    let Some(frame) = Frame::fit(backend, sides, metric, reach, seed, must)? else {
        return Ok(None);
    };
    let mut codes = Vec::new();
    let mut error = Error::default();
    for &side in sides {
        for start in (0..side.0.n_rows()).step_by(BLOCK_ROWS) {
            let slots: Vec<usize> = (start..(start + BLOCK_ROWS).min(side.0.n_rows())).collect();
            let numbers = frame.numbers(backend, side, &slots)?;
            frame.round(&numbers, &mut codes, &mut error);
        }
    }
    let reach = frame.code_reach(reach, &error);
    let codes = Rows::new(Values::I8(codes.into()), frame.n_codes())?;
    Ok(Some(Points { codes, metric: frame.metric, reach }))
}

/// Greatest errors of the codes so far.
#[derive(Clone, Copy, Default)]
struct Error {
    /// What rounding to steps took away from one row.
    rounding: f64,
    /// Norm of one centred row (sum of absolute values for L1).
    norm: f64,
}

/// How a row becomes numbers, and numbers codes.
struct Frame {
    metric: Metric,
    is_cosine: bool,
    /// Factor of all rows; one over the greatest norm. With cosine each row has its own.
    scale: f64,
    mean: Vec<f32>,
    axes: Option<Rows>,
    step: f64,
}

/// Numbers `[n_rows, n_codes]` of some rows, and the greatest norm of those rows after centring.
struct Numbers {
    values: Vec<f32>,
    norm: f64,
}

impl Frame {
    fn fit(
        backend: &dyn Backend,
        sides: &[Side<'_>],
        metric: Metric,
        reach: f64,
        seed: u64,
        must: bool,
    ) -> Result<Option<Self>> {
        let dim = sides[0].0.dim();
        let norm = sides.iter().flat_map(|side| side.1).fold(0.0f64, |most, &norm| most.max(norm));
        let mut frame = Self {
            metric: if metric == Metric::L1 { Metric::L1 } else { Metric::L2 },
            is_cosine: metric == Metric::Cosine,
            scale: if norm > 0.0 { 1.0 / norm } else { 1.0 },
            mean: vec![0.0; dim],
            axes: None,
            step: 1.0,
        };
        let training = frame.training(sides, seed);
        let projects = metric != Metric::L1 && dim > N_AXES[1];
        if projects {
            let n_axes = N_AXES.into_iter().filter(|&n| n < dim).max().unwrap_or(dim);
            frame.axes = Some(project::axes(backend, &training, n_axes, seed)?);
        }
        let numbers = frame.projected(backend, &training)?;
        frame.step = step(&numbers, frame.n_codes());
        let trial = sample(training.n_rows(), TRIAL_ROWS, seed);
        let n = frame.n_codes();
        let trial: Vec<f32> =
            trial.iter().flat_map(|&row| numbers[row * n..(row + 1) * n].to_vec()).collect();
        let (n_codes, cost) = frame.cheapest(&trial, reach);
        let raw_cost = RAW_COST * (dim * sides[0].0.dtype().bytes()) as f64;
        if !must && cost > raw_cost {
            return Ok(None);
        }
        frame.axes = frame.axes.map(|axes| axes.slice(0..n_codes));
        Ok(Some(frame))
    }

    fn n_codes(&self) -> usize {
        self.axes.as_ref().map_or(self.mean.len(), Rows::n_rows)
    }

    /// Sets the mean, and returns the sample that it was taken of, centred.
    fn training(&mut self, sides: &[Side<'_>], seed: u64) -> Rows {
        let dim = self.mean.len();
        let n_all: usize = sides.iter().map(|side| side.0.n_rows()).sum();
        let mut sums = vec![0.0f64; dim];
        let mut values = Vec::new();
        for (i, &side) in sides.iter().enumerate() {
            let share = (SAMPLE_ROWS * side.0.n_rows()).div_ceil(n_all.max(1));
            let slots = sample(side.0.n_rows(), share, seed ^ i as u64);
            values.extend(self.centred(side, &slots).0);
        }
        for row in values.chunks_exact(dim) {
            sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let n_rows = (values.len() / dim).max(1) as f64;
        self.mean = sums.iter().map(|sum| (sum / n_rows) as f32).collect();
        for row in values.chunks_exact_mut(dim) {
            row.iter_mut().zip(&self.mean).for_each(|(x, mean)| *x -= mean);
        }
        Rows::new(Values::F32(values.into()), dim).expect("rows scaled to norm 1, less their mean")
    }

    /// Rows scaled and centred `[n, dim]`, and the greatest norm of what results.
    fn centred(&self, (rows, norms): Side<'_>, slots: &[usize]) -> (Vec<f32>, f64) {
        let dim = self.mean.len();
        let mut values = vec![0.0f32; slots.len() * dim];
        let mut greatest = 0.0f64;
        for (&slot, out) in slots.iter().zip(values.chunks_exact_mut(dim)) {
            let scale = if self.is_cosine { 1.0 / norms[slot] } else { self.scale };
            rows.widen(slot, out);
            for (x, &mean) in out.iter_mut().zip(&self.mean) {
                *x = (f64::from(*x) * scale - f64::from(mean)) as f32;
            }
            greatest = greatest.max(self.norm(out.iter().map(|&x| f64::from(x))));
        }
        (values, greatest)
    }

    fn norm(&self, values: impl Iterator<Item = f64>) -> f64 {
        match self.metric {
            Metric::L1 => values.map(f64::abs).sum(),
            _ => values.map(|x| x * x).sum::<f64>().sqrt(),
        }
    }

    fn numbers(&self, backend: &dyn Backend, side: Side<'_>, slots: &[usize]) -> Result<Numbers> {
        let (values, norm) = self.centred(side, slots);
        let rows = Rows::new(Values::F32(values.into()), self.mean.len())?;
        Ok(Numbers { values: self.projected(backend, &rows)?, norm })
    }

    /// Centred rows on the axes, `[n_rows, n_codes]`.
    fn projected(&self, backend: &dyn Backend, rows: &Rows) -> Result<Vec<f32>> {
        let Some(axes) = &self.axes else {
            let all = gather(rows, 0..rows.n_rows());
            return Ok(match all.values() {
                Values::F32(values) => values.to_vec(),
                _ => unreachable!("centred rows are f32"),
            });
        };
        let (n_rows, n_axes) = (rows.n_rows(), axes.n_rows());
        let products = project::products(backend, axes, &Arc::new(rows.clone()))?;
        let mut turned = vec![0.0f32; products.len()];
        for (axis, along) in products.chunks_exact(n_rows.max(1)).enumerate() {
            for (row, &x) in along.iter().enumerate() {
                turned[row * n_axes + axis] = x;
            }
        }
        Ok(turned)
    }

    /// Appends codes and remembers the greatest errors.
    fn round(&self, numbers: &Numbers, codes: &mut Vec<i8>, error: &mut Error) {
        error.norm = error.norm.max(numbers.norm);
        let largest = LARGEST * self.step;
        for row in numbers.values.chunks_exact(self.n_codes()) {
            let clipped = || row.iter().map(|&x| f64::from(x).clamp(-largest, largest));
            let start = codes.len();
            codes.extend(clipped().map(|x| (x / self.step).round() as i8));
            let lost = clipped().zip(&codes[start..]).map(|(x, &q)| x - f64::from(q) * self.step);
            error.rounding = error.rounding.max(self.norm(lost));
        }
    }

    /// The reach of codes, in steps: the pair's own in the scale of the frame, and all errors.
    fn code_reach(&self, reach: f64, error: &Error) -> f64 {
        let scale = if self.is_cosine { 1.0 } else { self.scale };
        let exactness = match self.axes {
            Some(_) => bounds::projection_error(self.mean.len(), self.n_codes()),
            None => 4.0 * bounds::U,
        };
        // Before centring a row of norm 1 at most was rounded to 32 bits as well.
        let inexact = exactness * (error.norm + 1.0);
        bounds::code_reach(reach * scale, error.rounding + inexact, self.step)
    }

    /// The number of codes for which a pair is expected to cost least, and that cost.
    fn cheapest(&self, trial: &[f32], reach: f64) -> (usize, f64) {
        let all = self.n_codes();
        let sizes: Vec<usize> = match self.axes {
            Some(_) => N_AXES.into_iter().filter(|&n| n <= all).collect(),
            None => vec![all],
        };
        let dim = self.mean.len() as f64;
        let costs = sizes.into_iter().map(|n| {
            let share = self.share_left(trial, n, reach);
            (n, CELLS_LEAVE * n as f64 + share * VERDICT_COST * dim)
        });
        costs.min_by(|x, y| x.1.total_cmp(&y.1)).expect("at least one size")
    }

    /// The share of pairs of the trial whose first `n` codes are within reach.
    fn share_left(&self, trial: &[f32], n: usize, reach: f64) -> f64 {
        let cut: Vec<f32> =
            trial.chunks_exact(self.n_codes()).flat_map(|row| row[..n].to_vec()).collect();
        let small = Self { axes: self.axes.as_ref().map(|axes| axes.slice(0..n)), ..self.copied() };
        let (mut codes, mut error) = (Vec::new(), Error { norm: 1.0, rounding: 0.0 });
        small.round(&Numbers { values: cut, norm: 1.0 }, &mut codes, &mut error);
        error.norm = 1.0;
        let within = bounds::code_within(self.metric, small.code_reach(reach, &error));
        let rows: Vec<&[i8]> = codes.chunks_exact(n).collect();
        let (mut n_pairs, mut n_left) = (0u64, 0u64);
        for (i, x) in rows.iter().enumerate() {
            n_pairs += i as u64;
            let near = |y: &&&[i8]| code_distance(self.metric, x, y) as f32 <= within;
            n_left += rows[..i].iter().filter(near).count() as u64;
        }
        n_left as f64 / n_pairs.max(1) as f64
    }

    fn copied(&self) -> Self {
        let mean = self.mean.clone();
        Self { mean, axes: None, ..*self }
    }
}

/// The distance of two codes, as every backend computes it.
pub fn code_distance(metric: Metric, x: &[i8], y: &[i8]) -> i32 {
    let differences = x.iter().zip(y).map(|(&x, &y)| i32::from(x) - i32::from(y));
    match metric {
        Metric::L1 => differences.map(i32::abs).sum(),
        _ => differences.map(|x| x * x).sum(),
    }
}

/// The step for which the widest column is clipped at three deviations.
fn step(numbers: &[f32], n_codes: usize) -> f64 {
    let mut squares = vec![0.0f64; n_codes];
    for row in numbers.chunks_exact(n_codes) {
        squares.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x).powi(2));
    }
    let n_rows = (numbers.len() / n_codes).max(1) as f64;
    let widest = squares.iter().fold(0.0f64, |most, &sum| most.max(sum / n_rows)).sqrt();
    if widest > 0.0 { 3.0 * widest / LARGEST } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::plain::{self, Plain};
    use crate::core::mix::stream;

    /// Clustered rows of many scales, some nearly equal.
    fn rows(seed: u64, n_rows: usize, dim: usize) -> Rows {
        let unit = |salt: u64, i: usize| (stream(seed ^ salt, i as u64) >> 40) as f32 / 1e7 - 0.8;
        let element = |i: usize| {
            let (row, column) = (i / dim, i % dim);
            let noise = [0.0, 0.001, 0.05, 0.5][row % 4];
            2.0 + unit(1, (row % 5) * dim + column) + noise * unit(2, i)
        };
        Rows::new(Values::F32((0..n_rows * dim).map(element).collect()), dim).unwrap()
    }

    #[test]
    fn no_pair_has_codes_out_of_reach() {
        let backend = Plain::new(1 << 30);
        for seed in 0..3 {
            for dim in [1, 3, 64, 70, 200] {
                let rows = rows(seed, 60, dim);
                let norms = rows.norms();
                let greatest = norms.iter().copied().fold(0.0, f64::max);
                for metric in Metric::ALL {
                    let mut all: Vec<f32> = (0..60)
                        .flat_map(|i| (0..i).map(move |j| (i, j)))
                        .map(|(i, j)| plain::distance(metric, (&rows, i), (&rows, j)))
                        .collect();
                    all.sort_by(f32::total_cmp);
                    // The threshold is the distance of a pair: nothing to spare.
                    for share in [0, 1, 10, 50] {
                        let within = all[(all.len() - 1) * share / 100];
                        let reach = bounds::reach(metric, within, (greatest, greatest)).unwrap();
                        let side = (&rows, norms.as_slice());
                        let points = encode(&backend, &[side], metric, reach, seed, true).unwrap();
                        let points = points.expect("demanded");
                        let Values::I8(codes) = points.codes.values() else { panic!("int8") };
                        let codes: Vec<&[i8]> = codes.chunks_exact(points.codes.dim()).collect();
                        for i in 0..60 {
                            for j in 0..i {
                                let distance = plain::distance(metric, (&rows, i), (&rows, j));
                                let code = code_distance(points.metric, codes[i], codes[j]) as f32;
                                assert!(
                                    distance > within || code <= points.within(),
                                    "{metric} {dim} {i} {j}: {distance} within {within}, codes \
                                     {code} within {}",
                                    points.within()
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}
