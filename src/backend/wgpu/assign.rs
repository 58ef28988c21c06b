//! Operation `assign`: rows to their nearest centroids.

use std::ops::Range;
use std::sync::Arc;

use crate::backend::resident::Resident;
use crate::backend::wgpu::device::{Call, Gpu, Launch};
use crate::backend::wgpu::distances::pieces;
use crate::backend::wgpu::pipeline::Binding::{Params, Read, Write};
use crate::backend::wgpu::pipeline::{
    MACS_PER_LAUNCH, Shader, Variant, distance_of, groups_of, row_macs,
};
use crate::backend::wgpu::resident::{Queries, Shard, device_rows, place_queries, query_parts};
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::error::Result;

pub(super) const SHADER: Shader = Shader {
    entry: "assign",
    text: include_str!("../../../shaders/assign.wgsl"),
    bindings: &[Params, Read, Read, Read, Read, Write],
};

/// Rows of one launch and the nearest centroids that they have seen so far.
struct Piece<'a> {
    shard: &'a Shard,
    rows: Range<u32>,
    best: wgpu::Buffer,
}

/// One centroid per row of `range`.
pub(super) fn assign(
    gpu: &Arc<Gpu>,
    call: &Call<'_>,
    rows: &Resident,
    range: Range<u32>,
    centroids: &Rows,
) -> Result<Vec<Neighbor>> {
    let held = device_rows(gpu, rows)?;
    let mut work = Vec::new();
    for shard in &held.shards {
        for part in pieces(held, rows, shard.part(&range)) {
            let best = call.upload("nearest", &vec![u32::MAX; 2 * part.len()])?;
            work.push(Piece { shard, rows: part, best });
        }
    }
    for part in query_parts(call, centroids, rows, held.chunks) {
        let centroids = place_queries(call, centroids, part, rows, held.chunks)?;
        for piece in &work {
            look(call, rows, held.chunks, piece, &centroids)?;
        }
    }
    let mut out = Vec::with_capacity(range.len());
    for piece in &work {
        for best in call.read(&piece.best, 2 * piece.rows.len() as u64)?.chunks_exact(2) {
            let nearest = Neighbor { slot: best[1], distance: distance_of(best[0]) };
            if nearest.slot as usize >= centroids.n_rows() || !nearest.distance.is_finite() {
                let message = format!("{nearest:?} of {} centroids", centroids.n_rows());
                return Err(call.error("gpu_result_invalid", message));
            }
            out.push(nearest);
        }
    }
    Ok(out)
}

fn look(
    call: &Call<'_>,
    rows: &Resident,
    chunks: u32,
    piece: &Piece<'_>,
    centroids: &Queries,
) -> Result<()> {
    let variant = Variant::of_rows(&SHADER, rows.host().dtype(), rows.metric());
    let pipeline = call.gpu.pipelines.get(call, variant)?;
    let macs = row_macs(chunks, rows.host().dtype()) * piece.rows.len() as u64;
    let step = (MACS_PER_LAUNCH / macs).clamp(4, 1 << 20) as u32 / 4 * 4;
    for first in (0..centroids.len()).step_by(step as usize) {
        let end = centroids.len().min(first + step);
        let shard = piece.shard;
        call.run(&Launch {
            pipeline: &pipeline,
            params: &[piece.rows.start, piece.rows.end, first, end, centroids.range.start, chunks],
            buffers: &[&shard.rows, &shard.extra, &centroids.words, &centroids.extra, &piece.best],
            groups: [groups_of(piece.rows.len()), 1],
        })?;
    }
    Ok(())
}
