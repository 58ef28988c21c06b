//! Operation `gather`: distances between each query and its own list of slots.

use bytemuck::{Pod, Zeroable};

use super::launcher::Launch;
use super::rows::Layout;
use super::{Call, kernel};
use crate::backend::resident::Resident;
use crate::core::rows::Rows;
use crate::error::Result;

/// Pairs of one launch.
const PAIRS_PER_LAUNCH: usize = 1 << 24;
const THREADS: u32 = 128;
/// Blocks of a processor: random reads want many in flight.
const BLOCKS: u32 = 16;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Args {
    rows: u64,
    row_factors: u64,
    queries: u64,
    query_factors: u64,
    slots: u64,
    query_of: u64,
    out: u64,
    n: u32,
    stride: u32,
    query_stride: u32,
    unused: u32,
}

pub(super) fn run(
    call: Call<'_>,
    queries: &Rows,
    rows: &Resident,
    slots: &[Vec<u32>],
) -> Result<Vec<Vec<f32>>> {
    let (device, layout) = (call.rows(rows)?, Layout::of_rows(rows.host(), rows.metric()));
    let placed = call.place_queries(queries, layout.of_queries())?;
    let flat: Vec<u32> = slots.iter().flatten().copied().collect();
    let owner = |(q, list): (usize, &Vec<u32>)| std::iter::repeat_n(q as u32, list.len());
    let query_of: Vec<u32> = slots.iter().enumerate().flat_map(owner).collect();
    let mut distances = Vec::with_capacity(flat.len());
    for (slots, query_of) in flat.chunks(PAIRS_PER_LAUNCH).zip(query_of.chunks(PAIRS_PER_LAUNCH)) {
        let (on_slots, on_queries) =
            (call.memory.place(call.stream, slots)?, call.memory.place(call.stream, query_of)?);
        let out = call.memory.take(call.stream, slots.len() as u64 * 4)?;
        let args = Args {
            rows: device.rows(),
            row_factors: device.factors(),
            queries: placed.rows(),
            query_factors: placed.factors(),
            slots: on_slots.address(),
            query_of: on_queries.address(),
            out: out.address(),
            n: slots.len() as u32,
            stride: device.stride(),
            query_stride: placed.stride(),
            unused: 0,
        };
        let most = call.launcher().facts().n_processors * BLOCKS;
        let blocks = args.n.div_ceil(THREADS / 32).min(most);
        let launch = Launch::new(kernel("gather", rows), [blocks, 1, 1], THREADS, 0, &args);
        call.launcher().launch(call.stream, &launch)?;
        distances.extend(out.read::<f32>(call.stream, slots.len())?);
    }
    let mut rest = distances.as_slice();
    let mut one = |list: &Vec<u32>| {
        let (own, others) = rest.split_at(list.len());
        rest = others;
        own.to_vec()
    };
    Ok(slots.iter().map(&mut one).collect())
}
