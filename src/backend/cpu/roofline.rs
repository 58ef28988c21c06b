//! What this processor can do at most, measured: the yardstick of every other figure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::ThreadPool;

use crate::distance::Level;
use crate::distance::simd::Kernels;

/// Bytes that no cache holds: 256 MiB.
pub const MEMORY_BYTES: u64 = 256 << 20;

/// What a pass should take at least, so that starting it does not count; short, so that others who use the machine let some
/// pass alone. The fastest counts.
const PASS: Duration = Duration::from_millis(1);

/// For how long passes are made.
const PASSES: Duration = Duration::from_millis(250);

/// Passes at least.
const LEAST_PASSES: usize = 5;

/// Roofs of so many threads at one level.
pub struct Roofline {
    pool: Arc<ThreadPool>,
    kernels: &'static Kernels,
    /// Bytes per second, by bytes that are read.
    reads: BTreeMap<u64, f64>,
}

impl Roofline {
    /// Roofs for the threads of `pool`; nothing is measured yet.
    ///
    /// # Panics
    /// If this processor lacks the level.
    pub fn new(pool: Arc<ThreadPool>, level: Level) -> Self {
        Self { pool, kernels: Kernels::at(level), reads: BTreeMap::new() }
    }

    /// Bytes per second at which the threads together read `n_bytes` again and again, from memory or from the caches that
    /// hold them (from memory, if there are more than [`MEMORY_BYTES`]): by the fastest of a few ways, of which one is a plain scan. Costs a quarter of a second for each
    /// size that was not asked before.
    pub fn read(&mut self, n_bytes: u64) -> f64 {
        let n_bytes = n_bytes.min(MEMORY_BYTES);
        if let Some(&known) = self.reads.get(&n_bytes) {
            return known;
        }
        let rate = self.measure_read(n_bytes);
        self.reads.insert(n_bytes, rate);
        rate
    }

    fn measure_read(&self, n_bytes: u64) -> f64 {
        let n_threads = self.pool.current_num_threads();
        let words: Vec<i32> = (0..n_bytes.div_ceil(4)).map(|i| i as i32).collect();
        let part = words.len().div_ceil(n_threads).max(1);
        let ways = (0..Kernels::N_READS).cycle();
        let pass = |way| {
            let rates = self.pool.broadcast(|context| {
                let from = (context.index() * part).min(words.len());
                let words = &words[from..(from + part).min(words.len())];
                let (began, mut n_reads) = (Instant::now(), 0);
                while n_reads == 0 || began.elapsed() < PASS {
                    std::hint::black_box(self.kernels.read(way, words));
                    n_reads += 1;
                }
                (n_reads * words.len() * 4) as f64 / began.elapsed().as_secs_f64()
            });
            rates.iter().sum()
        };
        fastest(ways.map(pass), LEAST_PASSES * Kernels::N_READS)
    }

    /// Floating-point operations per second in registers: a multiplication and an addition are two.
    pub fn peak_floats(&self) -> f64 {
        let kernels = self.kernels;
        self.burn(|rounds| kernels.burn(rounds))
    }

    /// Operations per second on bytes, with the instruction that the loops use: two for each product.
    pub fn peak_bytes(&self) -> f64 {
        let kernels = self.kernels;
        self.burn(|rounds| kernels.burn_bytes(rounds))
    }

    fn burn(&self, run: impl Fn(u64) -> u64 + Sync) -> f64 {
        let mut rounds = 1 << 10;
        while run_for(&run, rounds).1 < PASS {
            rounds *= 2;
        }
        let pass = || {
            let rates = self.pool.broadcast(|_| {
                let (n_operations, took) = run_for(&run, rounds);
                n_operations as f64 / took.as_secs_f64()
            });
            rates.iter().sum()
        };
        fastest(std::iter::repeat_with(pass), LEAST_PASSES)
    }
}

/// Operations, and the time that they took.
fn run_for(run: impl Fn(u64) -> u64, rounds: u64) -> (u64, Duration) {
    let began = Instant::now();
    let n_operations = run(rounds);
    (n_operations, began.elapsed())
}

/// The largest rate of passes made for [`PASSES`], and of `n_least` at least.
fn fastest(rates: impl Iterator<Item = f64>, n_least: usize) -> f64 {
    let began = Instant::now();
    let goes_on = |i: &usize| *i < n_least || began.elapsed() < PASSES;
    (0..).take_while(goes_on).zip(rates).fold(0.0, |best, (_, rate)| best.max(rate))
}
