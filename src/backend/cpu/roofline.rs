//! What this processor can do at most, measured: the yardstick of every other figure.

use std::time::Instant;

use rayon::ThreadPool;
use rayon::prelude::*;

/// Words of the buffer that is read: 256 MiB, more than any cache.
const WORDS: usize = 32 << 20;

/// Passes; the fastest counts, since others may use the machine.
const PASSES: usize = 5;

/// Bytes per second at which the threads of `pool` together read memory. Costs half a second.
pub fn read_bandwidth(pool: &ThreadPool) -> f64 {
    let n_threads = pool.current_num_threads();
    pool.install(|| {
        let words: Vec<u64> = (0..WORDS as u64).into_par_iter().collect();
        let mut best = f64::MAX;
        for _ in 0..PASSES {
            let began = Instant::now();
            let sum = words
                .par_chunks(WORDS.div_ceil(n_threads))
                .map(|chunk| chunk.iter().fold(0u64, |sum, &word| sum.wrapping_add(word)))
                .reduce(|| 0, u64::wrapping_add);
            std::hint::black_box(sum);
            best = best.min(began.elapsed().as_secs_f64());
        }
        (WORDS * 8) as f64 / best
    })
}
