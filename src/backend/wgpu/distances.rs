//! Operation `distances`: blocks of queries and rows to all distances between them.

use std::ops::Range;
use std::sync::Arc;

use crate::backend::resident::Resident;
use crate::backend::wgpu::device::{Call, Gpu, Launch};
use crate::backend::wgpu::pipeline::Binding::{Params, Read, Write};
use crate::backend::wgpu::pipeline::{MACS_PER_LAUNCH, Shader, Variant, groups_of, row_macs};
use crate::backend::wgpu::resident::{
    DeviceRows, Queries, Shard, device_rows, place_queries, query_parts,
};
use crate::core::rows::Rows;
use crate::error::Result;

pub(super) const SHADER: Shader = Shader {
    entry: "distances",
    text: include_str!("../../../shaders/distances.wgsl"),
    bindings: &[Params, Read, Read, Read, Read, Write],
};

/// Distances of one launch: 16 MiB.
const PER_LAUNCH: u64 = 4 << 20;

/// `[n_queries, range.len()]`.
pub(super) fn distances(
    gpu: &Arc<Gpu>,
    call: &Call<'_>,
    queries: &Rows,
    rows: &Resident,
    range: Range<u32>,
) -> Result<Vec<f32>> {
    let held = device_rows(gpu, rows)?;
    let mut out = vec![f32::NAN; queries.n_rows() * range.len()];
    for part in query_parts(call, queries, rows, held.chunks) {
        let queries = place_queries(call, queries, part, rows, held.chunks)?;
        for shard in &held.shards {
            for piece in pieces(held, rows, shard.part(&range)) {
                one_piece(call, &queries, rows, (held, shard), piece, &range, &mut out)?;
            }
        }
    }
    check_finite(call, &out)?;
    Ok(out)
}

/// Rows that four queries can be compared with in one launch.
pub(super) fn pieces(held: &DeviceRows, rows: &Resident, part: Range<u32>) -> Vec<Range<u32>> {
    let macs = row_macs(held.chunks, rows.host().dtype()) * 4;
    let step = (MACS_PER_LAUNCH / macs).clamp(1, PER_LAUNCH / 4) as u32;
    part.clone()
        .step_by(step as usize)
        .map(|first| first..part.end.min(first.saturating_add(step)))
        .collect()
}

fn one_piece(
    call: &Call<'_>,
    queries: &Queries,
    rows: &Resident,
    (held, shard): (&DeviceRows, &Shard),
    piece: Range<u32>,
    range: &Range<u32>,
    out: &mut [f32],
) -> Result<()> {
    let variant = Variant::of_rows(&SHADER, rows.host().dtype(), rows.metric());
    let pipeline = call.gpu.pipelines.get(call, variant)?;
    let (width, n_rows) = (range.len(), piece.len() as u64);
    let macs = row_macs(held.chunks, rows.host().dtype()) * n_rows;
    let step = (MACS_PER_LAUNCH / macs).min(PER_LAUNCH / n_rows).clamp(4, 4096) as u32 / 4 * 4;
    for first in (0..queries.len()).step_by(step as usize) {
        let end = queries.len().min(first + step);
        let n_words = u64::from(end - first) * n_rows;
        let result = call.buffer("distances", n_words * 4)?;
        call.run(&Launch {
            pipeline: &pipeline,
            params: &[piece.start, piece.end, first, end, held.chunks],
            buffers: &[&shard.rows, &shard.extra, &queries.words, &queries.extra, &result],
            groups: [groups_of(piece.len()), (end - first).div_ceil(4)],
        })?;
        let words = call.read(&result, n_words)?;
        for (q, line) in (queries.range.start + first..).zip(words.chunks(piece.len())) {
            let at = q as usize * width + (shard.first + piece.start - range.start) as usize;
            let line = line.iter().map(|&word| f32::from_bits(word));
            out[at..at + piece.len()].iter_mut().zip(line).for_each(|(out, x)| *out = x);
        }
    }
    Ok(())
}

/// Fails if some distance is not a number: rows were checked, so the device did not compute it.
pub(super) fn check_finite(call: &Call<'_>, distances: &[f32]) -> Result<()> {
    match distances.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let message = format!("distance {at} of {} is {}", distances.len(), distances[at]);
            Err(call.error("gpu_result_invalid", message))
        }
    }
}
