//! Operation `pairs`: tiles of one side or two to all pairs within a distance. A launch whose pairs do not fit their
//! buffer is cut in halves and run again.

use std::ops::Range;
use std::sync::Arc;

use crate::backend::resident::Resident;
use crate::backend::wgpu::device::{Call, Gpu, Launch};
use crate::backend::wgpu::pipeline::Binding::{Params, Read, Write};
use crate::backend::wgpu::pipeline::{
    MACS_PER_LAUNCH, Pipeline, STRIPE, Shader, Variant, groups_of, key_of, row_macs,
};
use crate::backend::wgpu::resident::{Shard, device_rows};
use crate::backend::{Pair, Tile};
use crate::error::Result;

pub(super) const SHADER: Shader = Shader {
    entry: "pairs",
    text: include_str!("../../../shaders/pairs.wgsl"),
    bindings: &[Params, Read, Read, Read, Read, Write],
};

/// Most rows of a launch on either side: 65,535 stripes and more.
const ROWS_PER_LAUNCH: u32 = 1 << 19;

struct Join<'a> {
    call: &'a Call<'a>,
    pipeline: Arc<Pipeline>,
    is_one_side: bool,
    chunks: u32,
    /// Pairs of rows that one launch may compare.
    n_compared: u64,
    within: f32,
}

/// Sorted by `a`, then `b`, each once.
pub(super) fn pairs(
    gpu: &Arc<Gpu>,
    call: &Call<'_>,
    a: &Resident,
    b: Option<&Resident>,
    tiles: &[Tile],
    within: f32,
) -> Result<Vec<Pair>> {
    let (left, right) = (device_rows(gpu, a)?, device_rows(gpu, b.unwrap_or(a))?);
    let variant = Variant::of_rows(&SHADER, a.host().dtype(), a.metric())
        .with(&["lists"])
        .with_subgroups(call);
    let join = Join {
        call,
        pipeline: call.gpu.pipelines.get(call, variant)?,
        is_one_side: b.is_none(),
        chunks: left.chunks,
        n_compared: MACS_PER_LAUNCH / row_macs(left.chunks, a.host().dtype()),
        within,
    };
    let mut out = Vec::new();
    for tile in tiles {
        for first in &left.shards {
            for second in &right.shards {
                join.tile(tile, first, second, &mut out)?;
            }
        }
    }
    out.sort_unstable_by_key(|pair| (pair.a, pair.b));
    out.dedup_by_key(|pair| (pair.a, pair.b));
    Ok(out)
}

fn halves(range: &Range<u32>) -> [Range<u32>; 2] {
    let middle = range.start + (range.end - range.start) / 2;
    [range.start..middle, middle..range.end]
}

/// The tile in halves, cut across its longer side.
fn cut(part: &Tile) -> [Tile; 2] {
    if part.a.len() >= part.b.len() {
        halves(&part.a).map(|a| Tile { a, b: part.b.clone() })
    } else {
        halves(&part.b).map(|b| Tile { a: part.a.clone(), b })
    }
}

impl Join<'_> {
    fn tile(&self, tile: &Tile, a: &Shard, b: &Shard, out: &mut Vec<Pair>) -> Result<()> {
        let mut open = vec![Tile { a: a.part(&tile.a), b: b.part(&tile.b) }];
        while let Some(part) = open.pop() {
            if part.a.is_empty() || part.b.is_empty() || self.is_mirrored(tile, &part, a, b) {
                continue;
            }
            let is_large = part.a.len() as u64 * part.b.len() as u64 > self.n_compared
                || part.a.len().max(part.b.len()) > ROWS_PER_LAUNCH as usize;
            if is_large && part.a.len() * part.b.len() > 1 {
                open.extend(cut(&part));
                continue;
            }
            let places = self.call.gpu.n_places.max(1);
            let words = self.launch(tile, &part, a, b, places)?;
            if words[0] <= places {
                self.take(&words[1..], tile, out)?;
            } else if part.a.len() * part.b.len() > 1 {
                open.extend(cut(&part));
            } else {
                let message = format!("{} pairs of 2 rows", words[0]);
                return Err(self.call.error("gpu_result_invalid", message));
            }
        }
        Ok(())
    }

    /// Whether all pairs of a part are found in the mirrored part of the same tile.
    fn is_mirrored(&self, tile: &Tile, part: &Tile, a: &Shard, b: &Shard) -> bool {
        let slots = |range: &Range<u32>, first: u32| range.start + first..range.end + first;
        let (i, j) = (slots(&part.a, a.first), slots(&part.b, b.first));
        let within = |inner: &Range<u32>, outer: &Range<u32>| {
            inner.start >= outer.start && inner.end <= outer.end
        };
        self.is_one_side && i.start >= j.end && within(&j, &tile.a) && within(&i, &tile.b)
    }

    /// How many pairs there are, and those that fit.
    fn launch(
        &self,
        tile: &Tile,
        part: &Tile,
        a: &Shard,
        b: &Shard,
        places: u32,
    ) -> Result<Vec<u32>> {
        let result = self.call.buffer("pairs", 4 + 12 * u64::from(places))?;
        self.call.run(&Launch {
            pipeline: &self.pipeline,
            params: &[
                part.a.start,
                part.a.end,
                part.b.start,
                part.b.end,
                self.chunks,
                key_of(self.within),
                places,
                a.first,
                b.first,
                u32::from(self.is_one_side),
                tile.a.start,
                tile.a.end,
                tile.b.start,
                tile.b.end,
            ],
            buffers: &[&a.rows, &a.extra, &b.rows, &b.extra, &result],
            groups: [groups_of(part.a.len()), part.b.len().div_ceil(STRIPE as usize) as u32],
        })?;
        let n = self.call.read(&result, 1)?[0];
        if n == 0 || n > places {
            Ok(vec![n])
        } else {
            self.call.read(&result, 1 + 3 * u64::from(n))
        }
    }

    fn take(&self, words: &[u32], tile: &Tile, out: &mut Vec<Pair>) -> Result<()> {
        for found in words.chunks_exact(3) {
            let (a, b, distance) = (found[0], found[1], f32::from_bits(found[2]));
            let is_wanted = tile.a.contains(&a)
                && tile.b.contains(&b)
                && distance <= self.within
                && !(self.is_one_side && a == b);
            if !is_wanted {
                let message =
                    format!("({a}, {b}) at {distance} of {tile:?} within {}", self.within);
                return Err(self.call.error("gpu_result_invalid", message));
            }
            let (a, b) = if self.is_one_side { (a.min(b), a.max(b)) } else { (a, b) };
            out.push(Pair { a, b, distance });
        }
        Ok(())
    }
}
