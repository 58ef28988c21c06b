//! Operation `flat_scan`: queries, rows and a set to the k nearest allowed rows. Workgroups write what may be among the
//! nearest; the k least of it are taken here.

use std::sync::Arc;

use crate::backend::resident::Resident;
use crate::backend::wgpu::device::{Call, Gpu, Launch};
use crate::backend::wgpu::pipeline::Binding::{Params, Read, Write};
use crate::backend::wgpu::pipeline::{
    GROUP, K_OF_FOUR, MACS_PER_LAUNCH, Pipeline, Pools, Shader, Variant, distance_of, row_macs,
};
use crate::backend::wgpu::resident::{
    DeviceRows, Queries, Shard, device_rows, mask, place_queries, query_parts,
};
use crate::core::allow::Allow;
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::error::Result;

pub(super) const SHADER: Shader = Shader {
    entry: "flat_scan",
    text: include_str!("../../../shaders/flat_scan.wgsl"),
    bindings: &[Params, Read, Read, Read, Read, Read, Write, Write],
};

/// Rows that one workgroup looks at, a few at a time: enough for its bound to be of use.
const ROWS_PER_GROUP: u32 = 8 * GROUP;
/// Words that the workgroups of one launch may write: 4 MiB.
const WORDS_PER_LAUNCH: u64 = 1 << 20;

struct Scan<'a> {
    call: &'a Call<'a>,
    pipeline: Arc<Pipeline>,
    pools: Pools,
    held: &'a DeviceRows,
    rows: &'a Resident,
    k: usize,
}

/// The rows of a shard that may be returned.
struct Seen<'a> {
    shard: &'a Shard,
    mask: wgpu::Buffer,
    is_masked: bool,
}

/// `min(k, allowed)` neighbors per query, nearest first.
pub(super) fn flat_scan(
    gpu: &Arc<Gpu>,
    call: &Call<'_>,
    queries: &Rows,
    rows: &Resident,
    allow: Allow<'_>,
    k: usize,
) -> Result<Vec<Vec<Neighbor>>> {
    let held = device_rows(gpu, rows)?;
    let pools = if queries.n_rows() > 1 && k <= K_OF_FOUR { Pools::FOUR } else { Pools::ONE };
    let variant = Variant::of_rows(&SHADER, rows.host().dtype(), rows.metric())
        .with(&["lists", "selection"])
        .with_subgroups(call)
        .pools(pools);
    let pipeline = call.gpu.pipelines.get(call, variant)?;
    let scan = Scan { call, pipeline, pools, held, rows, k };
    let mut seen = Vec::new();
    for shard in &held.shards {
        let bits = mask(allow, shard.first..shard.first + shard.n_rows);
        if bits.as_ref().is_none_or(|words| words.iter().any(|&word| word != 0)) {
            let mask = call.upload("allowed rows", bits.as_deref().unwrap_or(&[]))?;
            seen.push(Seen { shard, mask, is_masked: bits.is_some() });
        }
    }
    let mut out = vec![Vec::new(); queries.n_rows()];
    for part in query_parts(call, queries, rows, held.chunks) {
        let queries = place_queries(call, queries, part, rows, held.chunks)?;
        // Handed on from shard to shard: what earlier shards gave leaves out rows of later ones.
        let bounds = call.upload("bounds", &vec![u32::MAX; queries.len() as usize])?;
        for seen in &seen {
            scan.one_shard(seen, &queries, &bounds, &mut out)?;
        }
    }
    let expected = k.min(allow.count(rows.host().n_rows() as u32) as usize);
    for nearest in &mut out {
        keep_least(nearest, k);
        scan.check(nearest, allow, expected)?;
    }
    Ok(out)
}

fn keep_least(nearest: &mut Vec<Neighbor>, k: usize) {
    nearest.sort_unstable();
    nearest.truncate(k);
}

impl Scan<'_> {
    /// Words that a workgroup writes for one query.
    fn cell(&self) -> u64 {
        1 + 2 * self.k as u64
    }

    fn one_shard(
        &self,
        seen: &Seen<'_>,
        queries: &Queries,
        bounds: &wgpu::Buffer,
        out: &mut [Vec<Neighbor>],
    ) -> Result<()> {
        let n_groups = seen.shard.n_rows.div_ceil(ROWS_PER_GROUP);
        let n_fours = queries.len().div_ceil(self.pools.n_queries);
        let per_query = u64::from(self.pools.n_queries);
        let macs = row_macs(self.held.chunks, self.rows.host().dtype())
            * u64::from(ROWS_PER_GROUP)
            * per_query;
        let cells = (MACS_PER_LAUNCH / macs).min(WORDS_PER_LAUNCH / (self.cell() * per_query));
        let wide = (cells as u32).clamp(1, n_groups);
        let high = (cells as u32 / wide).clamp(1, n_fours);
        for four in (0..n_fours).step_by(high as usize) {
            for group in (0..n_groups).step_by(wide as usize) {
                let groups = [wide.min(n_groups - group), high.min(n_fours - four)];
                self.launch(seen, queries, bounds, [group, four], groups, out)?;
            }
        }
        Ok(())
    }

    fn launch(
        &self,
        seen: &Seen<'_>,
        queries: &Queries,
        bounds: &wgpu::Buffer,
        [group, four]: [u32; 2],
        groups: [u32; 2],
        out: &mut [Vec<Neighbor>],
    ) -> Result<()> {
        let n_cells = u64::from(groups[0] * groups[1] * self.pools.n_queries);
        let n_words = n_cells * self.cell();
        let result = self.call.buffer("candidates", n_words * 4)?;
        let shard = seen.shard;
        let first_query = four * self.pools.n_queries;
        self.call.run(&Launch {
            pipeline: &self.pipeline,
            params: &[
                shard.n_rows,
                ROWS_PER_GROUP,
                group,
                first_query,
                queries.len(),
                self.held.chunks,
                self.k as u32,
                u32::from(seen.is_masked),
            ],
            buffers: &[
                &shard.rows,
                &shard.extra,
                &queries.words,
                &queries.extra,
                &seen.mask,
                bounds,
                &result,
            ],
            groups,
        })?;
        let words = self.call.read(&result, n_words)?;
        let row_of_cells = groups[0] as usize * self.pools.n_queries as usize;
        for (i, cell) in words.chunks_exact(self.cell() as usize).enumerate() {
            let in_four = i % self.pools.n_queries as usize;
            let query =
                (first_query as usize) + i / row_of_cells * self.pools.n_queries as usize + in_four;
            if query < queries.len() as usize {
                let nearest = &mut out[queries.range.start as usize + query];
                self.take(cell, shard, nearest)?;
            }
        }
        Ok(())
    }

    fn take(&self, cell: &[u32], shard: &Shard, nearest: &mut Vec<Neighbor>) -> Result<()> {
        let n = cell[0] as usize;
        if n > self.k {
            let message = format!("{n} candidates of a workgroup, {} asked", self.k);
            return Err(self.call.error("gpu_result_invalid", message));
        }
        let (keys, rows) = (&cell[1..1 + n], &cell[1 + self.k..1 + self.k + n]);
        for (&key, &row) in keys.iter().zip(rows) {
            if row >= shard.n_rows {
                let message = format!("row {row} of {}", shard.n_rows);
                return Err(self.call.error("gpu_result_invalid", message));
            }
            nearest.push(Neighbor { slot: shard.first + row, distance: distance_of(key) });
        }
        if nearest.len() > 8 * self.k {
            keep_least(nearest, self.k);
        }
        Ok(())
    }

    /// What leaves this file is allowed, complete, and each row once.
    fn check(&self, nearest: &[Neighbor], allow: Allow<'_>, expected: usize) -> Result<()> {
        let mut slots: Vec<u32> = nearest.iter().map(|neighbor| neighbor.slot).collect();
        slots.sort_unstable();
        let wrong = nearest
            .iter()
            .find(|one| !one.distance.is_finite() || !allow.contains(one.slot))
            .map(|one| format!("{one:?} is no number or is not allowed"));
        let repeated = slots.windows(2).find(|two| two[0] == two[1]);
        let repeated = repeated.map(|two| format!("slot {} twice", two[0]));
        let short = (nearest.len() != expected)
            .then(|| format!("{} neighbors, {expected} expected", nearest.len()));
        match wrong.or(repeated).or(short) {
            None => Ok(()),
            Some(message) => Err(self.call.error("gpu_result_invalid", message)),
        }
    }
}
