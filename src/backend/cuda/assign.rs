//! Operation `assign`: the nearest centroid of every row of a range.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::launcher::{Launch, failed};
use super::rows::{DeviceRows, Layout};
use super::{Call, TILE_SIDE, TILE_THREADS, kernel, neighbor, tile_bytes};
use crate::backend::resident::Resident;
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::error::Result;

/// Rows of one launch: 128 MiB of keys.
const ROWS_PER_LAUNCH: usize = 1 << 24;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Args {
    rows: u64,
    row_factors: u64,
    centroids: u64,
    centroid_factors: u64,
    out: u64,
    first: u32,
    n_rows: u32,
    n_centroids: u32,
    stride: u32,
    centroid_stride: u32,
    unused: u32,
}

pub(super) fn run(
    call: Call<'_>,
    rows: &Resident,
    range: Range<u32>,
    centroids: &Rows,
) -> Result<Vec<Neighbor>> {
    let layout = Layout::of_rows(rows.host(), rows.metric()).of_queries();
    let placed = call.place_queries(centroids, layout)?;
    let mut out = Vec::with_capacity(range.len());
    for first in range.clone().step_by(ROWS_PER_LAUNCH) {
        let n_rows = (range.end - first).min(ROWS_PER_LAUNCH as u32);
        out.extend(some(call, rows, first, n_rows, (&placed, centroids.n_rows()))?);
    }
    Ok(out)
}

fn some(
    call: Call<'_>,
    rows: &Resident,
    first: u32,
    n_rows: u32,
    (centroids, n_centroids): (&DeviceRows, usize),
) -> Result<Vec<Neighbor>> {
    let (device, layout) = (call.rows(rows)?, Layout::of_rows(rows.host(), rows.metric()));
    let out = call.memory.take(call.stream, u64::from(n_rows) * 8)?;
    let args = Args {
        rows: device.rows(),
        row_factors: device.factors(),
        centroids: centroids.rows(),
        centroid_factors: centroids.factors(),
        out: out.address(),
        first,
        n_rows,
        n_centroids: n_centroids as u32,
        stride: device.stride(),
        centroid_stride: centroids.stride(),
        unused: 0,
    };
    let grid = [n_rows.div_ceil(TILE_SIDE), 1, 1];
    let shared = tile_bytes(layout.of_queries().segment_bytes(rows.host().dtype()));
    let launch = Launch::new(kernel("assign", rows), grid, TILE_THREADS, shared, &args);
    call.launcher().launch(call.stream, &launch)?;
    let nearest: Vec<Neighbor> =
        out.read::<u64>(call.stream, n_rows as usize)?.into_iter().map(neighbor).collect();
    match nearest.iter().find(|one| one.slot as usize >= n_centroids) {
        Some(one) => Err(failed(format!("assign: centroid {} of {n_centroids}", one.slot))),
        None => Ok(nearest),
    }
}
