//! Dividing rows into cells: two means, again and again, and the middle where these would leave a side almost empty.

use half::f16;
use rayon::prelude::*;

use crate::cache::cells::{CELL_ROWS, Cell, Cells, Loops};
use crate::distance::scalar;
use crate::distance::simd::Sum;

mod gather;

/// Rounds of two means: rows that lie apart are apart after the first few.
const ROUNDS: usize = 4;

/// The smaller side has at least this part of the rows.
const LEAST_SHARE: usize = 8;

/// Rows of which means are taken.
const SAMPLED: usize = 2048;

/// Rows from which sides are divided side by side: only when a partition is opened.
const PARALLEL: usize = 16_384;

impl Cells {
    /// Divides a cell until no part is too large.
    pub(super) fn divide(&mut self, loops: &Loops, cell: usize) {
        self.centres.resize(self.cells.len() * self.dim, f16::ZERO);
        let whole = std::mem::take(&mut self.cells[cell]);
        let mut groups = divided(loops, &whole, (0..whole.hots.len() as u32).collect());
        if whole.hots.len() >= PARALLEL {
            groups = gather::gathered(loops, &whole, &groups);
        }
        let part = |rows: &Vec<u32>| part(loops, &whole, rows);
        let parts: Vec<(Cell, Vec<f16>)> = match whole.hots.len() {
            n if n < PARALLEL => groups.iter().map(part).collect(),
            _ => groups.par_iter().map(part).collect(),
        };
        let mut at = Some(cell);
        for (part, centre) in parts {
            let number = match at.take() {
                Some(cell) => {
                    self.centres[cell * self.dim..(cell + 1) * self.dim].copy_from_slice(&centre);
                    self.cells[cell] = part;
                    cell
                }
                None => {
                    self.centres.reserve_exact(self.dim);
                    self.centres.extend(centre);
                    self.cells.push(part);
                    self.cells.len() - 1
                }
            };
            self.number(number);
        }
    }
}

/// The direction of the mean of some rows, as it is kept.
fn centre(loops: &Loops, whole: &Cell, rows: &[u32]) -> Vec<f16> {
    let mut wide = vec![0.0; rows.len() * loops.dim];
    for (&at, wide) in rows.iter().zip(wide.chunks_exact_mut(loops.dim)) {
        loops.kernels.widen_f16(whole.row(at as usize, loops.dim), wide);
    }
    mean(loops.dim, wide.chunks_exact(loops.dim)).into_iter().map(f16::from_f32).collect()
}

/// Some rows of a cell as one, and its centre.
fn part(loops: &Loops, whole: &Cell, rows: &[u32]) -> (Cell, Vec<f16>) {
    let mut part = Cell::default();
    part.rows.reserve_exact(rows.len() * loops.dim);
    part.hots.reserve_exact(rows.len());
    for &at in rows {
        part.append(whole.hots[at as usize].clone(), whole.row(at as usize, loops.dim));
    }
    part.encode(&loops.coder, loops.dim);
    (part, centre(loops, whole, rows))
}

/// Rows in groups of at most [`CELL_ROWS`].
fn divided(loops: &Loops, whole: &Cell, rows: Vec<u32>) -> Vec<Vec<u32>> {
    if rows.len() <= CELL_ROWS {
        return vec![rows];
    }
    let n = rows.len();
    let (a, b) = halves(loops, whole, rows);
    let (mut a, b) = match n {
        n if n < PARALLEL => (divided(loops, whole, a), divided(loops, whole, b)),
        _ => rayon::join(|| divided(loops, whole, a), || divided(loops, whole, b)),
    };
    a.extend(b);
    a
}

/// Two groups of one.
fn halves(loops: &Loops, whole: &Cell, rows: Vec<u32>) -> (Vec<u32>, Vec<u32>) {
    let n = rows.len();
    let direction = direction(loops, &sample(loops, whole, &rows));
    let starts: Vec<usize> = rows.iter().map(|&at| at as usize * loops.dim).collect();
    let mut leans = vec![0.0; n];
    loops.kernels.rows_f16(Sum::Dot, &direction, &whole.rows, &starts, &mut leans);
    let n_a = leans.iter().filter(|&&lean| lean > 0.0).count();
    let mut is_a: Vec<bool> = leans.iter().map(|&lean| lean > 0.0).collect();
    if n_a.min(n - n_a) < n / LEAST_SHARE {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_unstable_by(|&a, &b| leans[b].total_cmp(&leans[a]).then(a.cmp(&b)));
        order.iter().enumerate().for_each(|(rank, &at)| is_a[at] = rank < n / 2);
    }
    let sides = rows.into_iter().zip(is_a);
    let (a, b): (Vec<_>, Vec<_>) = sides.partition(|&(_, is_a)| is_a);
    let row = |(row, _)| row;
    (a.into_iter().map(row).collect(), b.into_iter().map(row).collect())
}

/// Some of the rows, evenly taken, with 32 bits an element.
fn sample(loops: &Loops, whole: &Cell, rows: &[u32]) -> Vec<f32> {
    let n = rows.len().min(SAMPLED);
    let mut wide = vec![0.0; n * loops.dim];
    for (i, wide) in wide.chunks_exact_mut(loops.dim).enumerate() {
        let at = rows[i * rows.len() / n] as usize;
        loops.kernels.widen_f16(whole.row(at, loops.dim), wide);
    }
    wide
}

/// From one of the two means of rows to the other.
fn direction(loops: &Loops, rows: &[f32]) -> Vec<f32> {
    let (dim, n) = (loops.dim, rows.len() / loops.dim);
    let starts: Vec<usize> = (0..n).map(|row| row * dim).collect();
    let dots = |with: &[f32]| {
        let mut dots = vec![0.0; n];
        loops.kernels.rows_f32(Sum::Dot, with, rows, &starts, &mut dots);
        dots
    };
    let row = |at: usize| &rows[at * dim..(at + 1) * dim];
    let farthest = |dots: &[f32]| (0..n).min_by(|&a, &b| dots[a].total_cmp(&dots[b])).unwrap_or(0);
    let a = farthest(&dots(row(0)));
    let b = farthest(&dots(row(a)));
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f32>>();
    let mut direction = apart(row(a), row(b));
    for _ in 0..ROUNDS {
        let leans = dots(&direction);
        let of = |is_a: bool| mean(dim, (0..n).filter(|&at| (leans[at] > 0.0) == is_a).map(row));
        direction = apart(&of(true), &of(false));
    }
    direction
}

/// The direction of the mean of rows; zeros for none.
fn mean<'r>(dim: usize, rows: impl Iterator<Item = &'r [f32]>) -> Vec<f32> {
    let mut sum = vec![0.0f32; dim];
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    let norm = scalar::dot(&sum, &sum).sqrt() as f32;
    if norm > 0.0 {
        sum.iter_mut().for_each(|x| *x /= norm);
    }
    sum
}
