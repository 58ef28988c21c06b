//! Operation `distances`: all distances between queries and a range of rows `[n_queries, range.len()]`.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::launcher::Launch;
use super::rows::Layout;
use super::{Call, TILE_SIDE, TILE_THREADS, kernel, tile_bytes};
use crate::backend::resident::Resident;
use crate::core::rows::Rows;
use crate::error::Result;

/// Bytes of the result that are computed at once.
const OUT_BYTES: usize = 256 << 20;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Args {
    rows: u64,
    row_factors: u64,
    queries: u64,
    query_factors: u64,
    out: u64,
    first: u32,
    n_rows: u32,
    n_queries: u32,
    stride: u32,
    query_stride: u32,
    unused: u32,
}

pub(super) fn run(
    call: Call<'_>,
    queries: &Rows,
    rows: &Resident,
    range: Range<u32>,
) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    if range.is_empty() {
        return Ok(out);
    }
    let per_launch = (OUT_BYTES / 4 / range.len()).clamp(1, 65_535 * TILE_SIDE as usize);
    for first in (0..queries.n_rows()).step_by(per_launch) {
        let part = queries.slice(first..queries.n_rows().min(first + per_launch));
        out.extend(some(call, &part, rows, range.clone())?);
    }
    Ok(out)
}

fn some(call: Call<'_>, queries: &Rows, rows: &Resident, range: Range<u32>) -> Result<Vec<f32>> {
    let (device, layout) = (call.rows(rows)?, Layout::of_rows(rows.host(), rows.metric()));
    let placed = call.place_queries(queries, layout.of_queries())?;
    let n = queries.n_rows() * range.len();
    let out = call.memory.take(call.stream, n as u64 * 4)?;
    let (n_rows, n_queries) = (range.len() as u32, queries.n_rows() as u32);
    let args = Args {
        rows: device.rows(),
        row_factors: device.factors(),
        queries: placed.rows(),
        query_factors: placed.factors(),
        out: out.address(),
        first: range.start,
        n_rows,
        n_queries,
        stride: device.stride(),
        query_stride: placed.stride(),
        unused: 0,
    };
    let grid = [n_rows.div_ceil(TILE_SIDE), n_queries.div_ceil(TILE_SIDE), 1];
    let shared = tile_bytes(layout.of_queries().segment_bytes(rows.host().dtype()));
    let launch = Launch::new(kernel("distances", rows), grid, TILE_THREADS, shared, &args);
    call.launcher().launch(call.stream, &launch)?;
    out.read(call.stream, n)
}
