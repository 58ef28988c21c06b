//! Operation `distances`: all distances between queries and a range of rows, one query at a time.

use std::ops::Range;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::backend::cpu::line::{Line, Source};
use crate::distance::simd::Kernels;

/// Elements below which a call is not worth waking other threads for: some ten microseconds of work.
pub const ALONE: usize = 1 << 17;

/// All distances between queries and rows of `range`; shapes are checked.
pub fn run(
    kernels: &Kernels,
    pool: &ThreadPool,
    queries: Source<'_>,
    rows: Source<'_>,
    range: Range<u32>,
) -> Vec<f32> {
    let mut out = vec![0.0; queries.host.n_rows() * range.len()];
    if out.is_empty() {
        return out;
    }
    let one = |(q, out): (usize, &mut [f32])| {
        Line::new(&queries, q).distances(kernels, &rows, range.clone(), out);
    };
    if out.len() * rows.host.dim() < ALONE || pool.current_num_threads() == 1 {
        out.chunks_exact_mut(range.len()).enumerate().for_each(one);
    } else {
        pool.install(|| out.par_chunks_exact_mut(range.len()).enumerate().for_each(one));
    }
    out
}
