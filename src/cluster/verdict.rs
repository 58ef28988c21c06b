//! The exact distance of candidate pairs: the number that [`plain::distance`](crate::backend::plain::distance) gives,
//! bit for bit, some candidates at a time.
//!
//! Sums are taken in 64 bits in the order of the elements, so one pair alone waits for each addition; four pairs side
//! by side keep the processor busy.

use half::f16;
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::backend::Pair;
use crate::core::metric::Metric;
use crate::core::rows::{Rows, Values};

/// Pairs that one thread takes at once.
const PAIRS_AT_ONCE: usize = 4096;

/// Pairs side by side.
const LANES: usize = 4;

/// Both sides of a join and what their rows are compared by.
pub struct Verdict<'j> {
    metric: Metric,
    a: &'j Rows,
    b: &'j Rows,
    norms_a: &'j [f64],
    norms_b: &'j [f64],
}

impl<'j> Verdict<'j> {
    /// Rows of both sides, each with its norms in 64 bits.
    pub fn new(metric: Metric, a: (&'j Rows, &'j [f64]), b: (&'j Rows, &'j [f64])) -> Self {
        Self { metric, a: a.0, b: b.0, norms_a: a.1, norms_b: b.1 }
    }

    /// Those of the candidates that are within the distance, with it, in the order of the candidates. Candidates
    /// sorted by their first row cost least.
    pub fn pairs(
        &self,
        candidates: &[(u32, u32)],
        within: f32,
        pool: Option<&ThreadPool>,
    ) -> Vec<Pair> {
        let judge = |chunk: &[(u32, u32)]| self.judge(chunk, within);
        match pool {
            None => judge(candidates),
            Some(pool) => {
                pool.install(|| candidates.par_chunks(PAIRS_AT_ONCE).flat_map_iter(judge).collect())
            }
        }
    }

    fn judge(&self, candidates: &[(u32, u32)], within: f32) -> Vec<Pair> {
        match self.b.values() {
            Values::F32(values) => self.judge_typed(candidates, within, values),
            Values::F16(values) => self.judge_typed(candidates, within, values),
            Values::U8(values) => self.judge_typed(candidates, within, values),
            Values::I8(values) => self.judge_typed(candidates, within, values),
        }
    }

    fn judge_typed<T: Element>(
        &self,
        candidates: &[(u32, u32)],
        within: f32,
        values: &[T],
    ) -> Vec<Pair> {
        let dim = self.a.dim();
        let (mut narrow, mut row) = (vec![0.0f32; dim], vec![0.0f64; dim]);
        let mut pairs = Vec::new();
        for run in candidates.chunk_by(|x, y| x.0 == y.0) {
            let a = run[0].0;
            self.a.widen(a as usize, &mut narrow);
            row.iter_mut().zip(&narrow).for_each(|(wide, &x)| *wide = f64::from(x));
            for group in run.chunks(LANES) {
                // Lanes without a pair repeat the first.
                let slot = |lane: usize| group.get(lane).unwrap_or(&group[0]).1 as usize;
                let lanes: [&[T]; LANES] =
                    std::array::from_fn(|i| &values[slot(i) * dim..(slot(i) + 1) * dim]);
                let sums = self.sums(&row, lanes);
                for (&(_, b), sum) in group.iter().zip(sums) {
                    let distance = self.distance(sum, a, b);
                    if distance <= within {
                        pairs.push(Pair { a, b, distance });
                    }
                }
            }
        }
        pairs
    }

    fn sums<T: Element>(&self, row: &[f64], lanes: [&[T]; LANES]) -> [f64; LANES] {
        match self.metric {
            Metric::Cosine | Metric::Dot => sums(row, lanes, |x, y| x * y),
            Metric::L2 => sums(row, lanes, |x, y| (x - y) * (x - y)),
            Metric::L1 => sums(row, lanes, |x, y| (x - y).abs()),
        }
    }

    fn distance(&self, sum: f64, a: u32, b: u32) -> f32 {
        let exact = match self.metric {
            Metric::Cosine => 1.0 - sum / (self.norms_a[a as usize] * self.norms_b[b as usize]),
            Metric::Dot => -sum,
            Metric::L2 | Metric::L1 => sum,
        };
        exact as f32
    }
}

#[inline]
fn sums<T: Element>(
    row: &[f64],
    lanes: [&[T]; LANES],
    term: impl Fn(f64, f64) -> f64,
) -> [f64; LANES] {
    let lanes = lanes.map(|lane| &lane[..row.len()]);
    let mut sums = [0.0; LANES];
    for (i, &x) in row.iter().enumerate() {
        for (sum, lane) in sums.iter_mut().zip(&lanes) {
            *sum += term(x, lane[i].wide());
        }
    }
    sums
}

/// What rows are made of.
trait Element: Copy + Sync {
    /// The same number in 64 bits.
    fn wide(self) -> f64;
}

impl Element for f32 {
    #[inline]
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f16 {
    #[inline]
    fn wide(self) -> f64 {
        f64::from(self.to_f32())
    }
}

impl Element for u8 {
    #[inline]
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Element for i8 {
    #[inline]
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::plain;
    use crate::core::mix::stream;

    #[test]
    fn verdicts_are_those_of_the_plain_loops_bit_for_bit() {
        for seed in 0..20 {
            for dim in [1, 2, 7, 100] {
                let element = |i: usize| {
                    let shift = (stream(seed, i as u64 + 7) % 20) as i32 - 10;
                    (stream(seed, i as u64) as i64 as f32 / 2f32.powi(63)) * 2f32.powi(shift)
                };
                let made = |salt| (0..9 * dim).map(move |i| element(i + salt));
                let rows = |salt| Rows::new(Values::F32(made(salt).collect()), dim).unwrap();
                let (a, b) = (rows(0), rows(1 << 20));
                let (norms_a, norms_b) = (a.norms(), b.norms());
                for metric in Metric::ALL {
                    let verdict = Verdict::new(metric, (&a, &norms_a), (&b, &norms_b));
                    let all: Vec<(u32, u32)> =
                        (0..9).flat_map(|i| (0..9).map(move |j| (i, j))).collect();
                    for pair in verdict.pairs(&all, f32::MAX, None) {
                        let (i, j) = (pair.a as usize, pair.b as usize);
                        let expected = plain::distance(metric, (&a, i), (&b, j));
                        let message = format!("{metric} {seed} {dim}");
                        assert_eq!(pair.distance + 0.0, expected + 0.0, "{message}");
                    }
                }
            }
        }
    }
}
