//! Operation `gather`: distances between each query and its own list of slots.

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::backend::cpu::distances::ALONE;
use crate::backend::cpu::line::{Line, Source};
use crate::distance::simd::Kernels;

/// Distances between each query and its own slots; shapes are checked. The rows after those at work are asked of memory
/// ahead, so that random access costs bandwidth and not latency.
pub fn run(
    kernels: &Kernels,
    pool: &ThreadPool,
    queries: Source<'_>,
    rows: Source<'_>,
    slots: &[Vec<u32>],
) -> Vec<Vec<f32>> {
    let one = |(q, slots): (usize, &Vec<u32>)| {
        let mut out = vec![0.0; slots.len()];
        Line::new(&queries, q).distances(kernels, &rows, slots.iter().copied(), &mut out);
        out
    };
    let n: usize = slots.iter().map(Vec::len).sum();
    if n * rows.host.dim() < ALONE || pool.current_num_threads() == 1 {
        slots.iter().enumerate().map(one).collect()
    } else {
        pool.install(|| slots.par_iter().enumerate().map(one).collect())
    }
}
