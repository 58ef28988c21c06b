//! Operation `gather`: queries and lists of slots to distances.

use std::sync::Arc;

use crate::backend::resident::Resident;
use crate::backend::wgpu::device::{Call, Gpu, Launch};
use crate::backend::wgpu::distances::check_finite;
use crate::backend::wgpu::pipeline::Binding::{Params, Read, Write};
use crate::backend::wgpu::pipeline::{MACS_PER_LAUNCH, Shader, Variant, groups_of, row_macs};
use crate::backend::wgpu::resident::{Queries, Shard, device_rows, place_queries, query_parts};
use crate::core::rows::Rows;
use crate::error::Result;

pub(super) const SHADER: Shader = Shader {
    entry: "gather",
    text: include_str!("../../../shaders/gather.wgsl"),
    bindings: &[Params, Read, Read, Read, Read, Read, Write],
};

/// Items of one launch: 32 MiB of pairs.
const PER_LAUNCH: u64 = 4 << 20;

/// One list of distances per list of slots.
pub(super) fn gather(
    gpu: &Arc<Gpu>,
    call: &Call<'_>,
    queries: &Rows,
    rows: &Resident,
    slots: &[Vec<u32>],
) -> Result<Vec<Vec<f32>>> {
    let held = device_rows(gpu, rows)?;
    let mut out: Vec<Vec<f32>> = slots.iter().map(|list| vec![f32::NAN; list.len()]).collect();
    let macs = row_macs(held.chunks, rows.host().dtype());
    let step = (MACS_PER_LAUNCH / macs).clamp(1, PER_LAUNCH) as usize;
    for part in query_parts(call, queries, rows, held.chunks) {
        let queries = place_queries(call, queries, part, rows, held.chunks)?;
        for shard in &held.shards {
            for items in of_shard(shard, &queries, slots).chunks(step) {
                let found = one_launch(call, rows, held.chunks, (shard, &queries), items)?;
                for (item, distance) in items.iter().zip(found) {
                    out[item.query as usize][item.place] = distance;
                }
            }
        }
    }
    out.iter().try_for_each(|list| check_finite(call, list))?;
    Ok(out)
}

struct Item {
    query: u32,
    place: usize,
    /// Row of the shard.
    row: u32,
}

fn of_shard(shard: &Shard, queries: &Queries, slots: &[Vec<u32>]) -> Vec<Item> {
    let mut items = Vec::new();
    for query in queries.range.clone() {
        for (place, &slot) in slots[query as usize].iter().enumerate() {
            if (shard.first..shard.first + shard.n_rows).contains(&slot) {
                items.push(Item { query, place, row: slot - shard.first });
            }
        }
    }
    items
}

fn one_launch(
    call: &Call<'_>,
    rows: &Resident,
    chunks: u32,
    (shard, queries): (&Shard, &Queries),
    items: &[Item],
) -> Result<Vec<f32>> {
    let variant = Variant::of_rows(&SHADER, rows.host().dtype(), rows.metric());
    let pipeline = call.gpu.pipelines.get(call, variant)?;
    let words: Vec<u32> =
        items.iter().flat_map(|item| [item.query - queries.range.start, item.row]).collect();
    let listed = call.upload("items", &words)?;
    let result = call.buffer("distances", items.len() as u64 * 4)?;
    call.run(&Launch {
        pipeline: &pipeline,
        params: &[items.len() as u32, chunks],
        buffers: &[&shard.rows, &shard.extra, &queries.words, &queries.extra, &listed, &result],
        groups: [groups_of(items.len()), 1],
    })?;
    let words = call.read(&result, items.len() as u64)?;
    Ok(words.into_iter().map(f32::from_bits).collect())
}
