//! From which size on a card is faster than the processor, measured once when the card is opened.
//!
//! Both sides are timed on a small scan at two batch sizes; a line through both times gives what a call costs at all
//! and what a multiplication costs. Transfers and launches are in the times, since a call is timed from end to end.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::{Backend, Stream};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::rows::{Rows, Values};
use crate::error::Result;

/// Seconds that a call takes: `call + product · n` for `n` multiplications.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Seconds of a call without work.
    pub call: f64,
    /// Seconds per multiplication.
    pub product: f64,
}

impl Cost {
    /// Seconds of a call of `n_products` multiplications.
    pub fn seconds(&self, n_products: u64) -> f64 {
        self.call + self.product * n_products as f64
    }

    /// The line through two measured points, `(multiplications, seconds)`, the smaller first.
    fn through(small: (f64, f64), large: (f64, f64)) -> Self {
        let product = ((large.1 - small.1) / (large.0 - small.0)).max(1e-15);
        Self { call: (small.1 - product * small.0).max(0.0), product }
    }
}

/// Costs of a card and of the processor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crossover {
    /// The card's.
    pub card: Cost,
    /// The processor's.
    pub cpu: Cost,
}

/// Rows of the probe: 1 MiB of f32, little beside any cache of a card.
const ROWS: usize = 2048;
const DIM: usize = 128;
const BATCHES: [usize; 2] = [1, 64];
const REPETITIONS: usize = 3;

impl Crossover {
    /// Times both sides, some ten milliseconds each.
    ///
    /// # Errors
    /// Those of the card.
    pub fn measure(card: &dyn Backend, cpu: &dyn Backend) -> Result<Self> {
        Ok(Self { card: cost(card)?, cpu: cost(cpu)? })
    }

    /// Whether the card is the faster one for so many multiplications.
    pub fn card_pays(&self, n_products: u64) -> bool {
        self.card.seconds(n_products) < self.cpu.seconds(n_products)
    }

    /// The least batch of queries over `n_rows` rows of `dim` for which the card is faster; `None` if it never is.
    pub fn batch(&self, n_rows: u64, dim: u64) -> Option<u64> {
        let per_query = (n_rows * dim) as f64;
        let gain = (self.cpu.product - self.card.product) * per_query;
        let behind = self.card.call - self.cpu.call;
        if gain <= 0.0 {
            return None;
        }
        Some(((behind / gain).floor().max(0.0) as u64) + 1)
    }
}

fn cost(backend: &dyn Backend) -> Result<Cost> {
    let numbers = |n: usize, seed| {
        let value = |i| (stream(seed, i) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        Rows::new(Values::F32((0..(n * DIM) as u64).map(value).collect()), DIM)
    };
    let rows = backend.upload(Arc::new(numbers(ROWS, 1)?), Metric::Dot)?;
    let mut points = [(0.0, f64::MAX); 2];
    for (point, batch) in points.iter_mut().zip(BATCHES) {
        let queries = numbers(batch, 2)?;
        point.0 = (batch * ROWS * DIM) as f64;
        // The first call compiles and allocates; the least of the others is what a call costs.
        for repetition in 0..=REPETITIONS {
            let began = Instant::now();
            backend.flat_scan(Stream::default(), &queries, &rows, Allow::All, 10)?;
            if repetition > 0 {
                point.1 = point.1.min(began.elapsed().as_secs_f64());
            }
        }
    }
    Ok(Cost::through(points[0], points[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crossover_lies_where_the_lines_meet() {
        let card = Cost { call: 30e-6, product: 1e-13 };
        let cpu = Cost { call: 1e-6, product: 1e-11 };
        let crossover = Crossover { card, cpu };
        for (n_rows, dim) in [(1000, 96), (100, 16), (1_000_000, 768)] {
            let batch = crossover.batch(n_rows, dim).unwrap();
            assert!(crossover.card_pays(batch * n_rows * dim));
            assert!(batch == 1 || !crossover.card_pays((batch - 1) * n_rows * dim));
        }
        let slow = Crossover { card: Cost { call: 30e-6, product: 1e-11 }, cpu };
        assert_eq!(slow.batch(1000, 96), None);
    }

    #[test]
    fn a_line_goes_through_its_points() {
        let cost = Cost::through((100.0, 2.0), (300.0, 3.0));
        assert_eq!((cost.call, cost.product), (1.5, 0.005));
        assert_eq!(cost.seconds(300), 3.0);
    }
}
