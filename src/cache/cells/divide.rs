//! Dividing a cell that is full: two means, and the middle where these would leave a side almost empty.

use half::f16;

use crate::cache::cells::{CELL_ROWS, Cell, Cells, Loops};
use crate::distance::scalar;

/// Rounds of two means: rows that lie apart are apart after the first few.
const ROUNDS: usize = 4;

/// The smaller side has at least this part of the rows.
const LEAST_SHARE: usize = 8;

impl Cells {
    /// Divides a cell until no part is too large.
    pub(super) fn divide(&mut self, loops: &Loops, cell: usize) {
        self.centres.resize(self.cells.len() * self.dim, f16::ZERO);
        let mut waiting = vec![std::mem::take(&mut self.cells[cell])];
        let mut at = Some(cell);
        while let Some(whole) = waiting.pop() {
            if whole.hots.len() > CELL_ROWS {
                let (a, b) = halves(loops, whole);
                waiting.extend([b, a]);
                continue;
            }
            let centre = mean(loops.dim, (0..whole.hots.len()).map(|at| whole.row(at, loops.dim)));
            let centre: Vec<f16> = centre.into_iter().map(f16::from_f32).collect();
            let number = match at.take() {
                Some(cell) => {
                    self.centres[cell * self.dim..(cell + 1) * self.dim].copy_from_slice(&centre);
                    self.cells[cell] = whole;
                    cell
                }
                None => {
                    self.centres.extend(centre);
                    self.cells.push(whole);
                    self.cells.len() - 1
                }
            };
            self.number(number);
        }
    }
}

/// Two cells of one.
fn halves(loops: &Loops, whole: Cell) -> (Cell, Cell) {
    let sides = sides(loops, &whole);
    let mut halves = (Cell::default(), Cell::default());
    let n_a = sides.iter().filter(|&&is_a| is_a).count();
    for (half, n) in [(&mut halves.0, n_a), (&mut halves.1, sides.len() - n_a)] {
        half.rows.reserve_exact(n * loops.dim);
        half.inverse.reserve_exact(n);
        half.hots.reserve_exact(n);
    }
    for (at, is_a) in sides.into_iter().enumerate() {
        let half = if is_a { &mut halves.0 } else { &mut halves.1 };
        half.rows.extend_from_slice(whole.row(at, loops.dim));
        half.inverse.push(whole.inverse[at]);
        half.hots.push(whole.hots[at].clone());
    }
    halves
}

/// For each row of a cell, whether it goes to the first side.
fn sides(loops: &Loops, whole: &Cell) -> Vec<bool> {
    let n = whole.hots.len();
    let dots = |centre: &[f32]| {
        let mut dots = Vec::with_capacity(n);
        loops.each_block(centre, &whole.rows, |_, sums| dots.extend_from_slice(sums));
        dots
    };
    let farthest = |dots: &[f32]| (0..n).min_by(|&a, &b| dots[a].total_cmp(&dots[b])).unwrap_or(0);
    let wide =
        |at: usize| whole.row(at, loops.dim).iter().map(|x| x.to_f32()).collect::<Vec<f32>>();
    let a = farthest(&dots(&wide(0)));
    let b = farthest(&dots(&wide(a)));
    let (mut centres, mut leans) = ((wide(a), wide(b)), Vec::new());
    for _ in 0..ROUNDS {
        let (to_a, to_b) = (dots(&centres.0), dots(&centres.1));
        leans = to_a.iter().zip(&to_b).map(|(a, b)| a - b).collect::<Vec<f32>>();
        let of = |is_a: bool| {
            let own = (0..n).filter(|&at| (leans[at] > 0.0) == is_a);
            mean(loops.dim, own.map(|at| whole.row(at, loops.dim)))
        };
        centres = (of(true), of(false));
    }
    let n_a = leans.iter().filter(|&&lean| lean > 0.0).count();
    if n_a.min(n - n_a) >= n / LEAST_SHARE {
        return leans.iter().map(|&lean| lean > 0.0).collect();
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_unstable_by(|&a, &b| leans[b].total_cmp(&leans[a]).then(a.cmp(&b)));
    let mut sides = vec![false; n];
    order[..n / 2].iter().for_each(|&at| sides[at] = true);
    sides
}

/// The direction of the mean of rows; zeros for none.
fn mean<'r>(dim: usize, rows: impl Iterator<Item = &'r [f16]>) -> Vec<f32> {
    let mut sum = vec![0.0f32; dim];
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x.to_f32());
    }
    let norm = scalar::dot(&sum, &sum).sqrt() as f32;
    if norm > 0.0 {
        sum.iter_mut().for_each(|x| *x /= norm);
    }
    sum
}
