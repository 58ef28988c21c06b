//! Operation `minhash`: shingle hashes of many records to signatures. Long records are cut into segments, whose minima
//! are merged by the device, and here where a record spans two launches.

use crate::backend::cpu::minhash::MinHasher;
use crate::backend::wgpu::device::{Call, Launch};
use crate::backend::wgpu::pipeline::Binding::{Params, Read, Write};
use crate::backend::wgpu::pipeline::{MACS_PER_LAUNCH, Shader, Variant, groups_of};
use crate::error::Result;

pub(super) const SHADER: Shader = Shader {
    entry: "minhash",
    text: include_str!("../../../shaders/minhash.wgsl"),
    bindings: &[Params, Read, Read, Read, Write],
};

/// Shingles that one workgroup walks through.
const PER_SEGMENT: u32 = 1024;
/// Segments of a launch: what every adapter takes in one direction.
const SEGMENTS: usize = 65_535;
/// Words of signatures of a launch: 16 MiB.
const WORDS_PER_LAUNCH: usize = 4 << 20;

/// The records of one launch.
#[derive(Default)]
struct Batch {
    first_record: usize,
    n_records: usize,
    first_shingle: u32,
    end_shingle: u32,
    /// (record, start, end, 0), both counted from the first of the batch.
    segments: Vec<u32>,
}

impl Batch {
    fn n_segments(&self) -> usize {
        self.segments.len() / 4
    }

    fn n_shingles(&self) -> u32 {
        self.end_shingle - self.first_shingle
    }
}

/// Cuts records into batches of at most `n_records` and `n_shingles`. Records without shingles need no launch.
fn batches(ends: &[u32], n_records: usize, n_shingles: u32) -> Vec<Batch> {
    let mut all = Vec::new();
    let mut open = Batch::default();
    let mut start = 0;
    for (record, &end) in ends.iter().enumerate() {
        while start < end {
            let is_full = open.n_segments() == SEGMENTS
                || open.n_shingles() == n_shingles
                || record - open.first_record >= n_records;
            if is_full || open.segments.is_empty() {
                let next = Batch {
                    first_record: record,
                    first_shingle: start,
                    end_shingle: start,
                    ..Batch::default()
                };
                all.push(std::mem::replace(&mut open, next));
            }
            let n = (end - start).min(PER_SEGMENT).min(n_shingles - open.n_shingles());
            let from = start - open.first_shingle;
            open.segments.extend([(record - open.first_record) as u32, from, from + n, 0]);
            open.n_records = record - open.first_record + 1;
            start += n;
            open.end_shingle = start;
        }
    }
    all.push(open);
    all.retain(|batch| !batch.segments.is_empty());
    all
}

/// `[n_records, n_perm]`.
pub(super) fn minhash(
    call: &Call<'_>,
    hasher: &MinHasher,
    shingles: &[u32],
    ends: &[u32],
) -> Result<Vec<u32>> {
    let n_perm = hasher.n_perm();
    let mut out = vec![u32::MAX; ends.len() * n_perm];
    let constants: Vec<u32> =
        (0..n_perm).flat_map(|slot| <[u32; 2]>::from(hasher.constants(slot))).collect();
    let pipeline = call.gpu.pipelines.get(call, Variant::new(&SHADER, &[]))?;
    let constants = call.upload("constants", &constants)?;
    let words = (call.gpu.shard_bytes / 4).clamp(1, WORDS_PER_LAUNCH as u64);
    let n_shingles = (MACS_PER_LAUNCH / n_perm as u64).min(words) as u32;
    for batch in batches(ends, (words as usize / n_perm).max(1), n_shingles) {
        let range = batch.first_shingle as usize..batch.end_shingle as usize;
        let input = call.upload("shingles", &shingles[range])?;
        let segments = call.upload("segments", &batch.segments)?;
        let result = call.upload("signatures", &vec![u32::MAX; batch.n_records * n_perm])?;
        call.run(&Launch {
            pipeline: &pipeline,
            params: &[n_perm as u32],
            buffers: &[&input, &segments, &constants, &result],
            groups: [batch.n_segments() as u32, groups_of(n_perm)],
        })?;
        let words = call.read(&result, (batch.n_records * n_perm) as u64)?;
        let target = &mut out[batch.first_record * n_perm..][..words.len()];
        target.iter_mut().zip(words).for_each(|(out, word)| *out = (*out).min(word));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_every_shingle_once_and_hold_their_limits() {
        for (n_records, n_shingles) in [(1, 1), (2, 5), (100, 3000), (100, 100_000)] {
            let ends = [0, 3, 3, 3, 10, 2500, 2501, 9000, 9000];
            let mut seen = Vec::new();
            for batch in batches(&ends, n_records, n_shingles) {
                assert!(batch.n_shingles() <= n_shingles && batch.n_records <= n_records);
                for segment in batch.segments.chunks_exact(4) {
                    let record = batch.first_record + segment[0] as usize;
                    let start = if record == 0 { 0 } else { ends[record - 1] };
                    let slots = (segment[1]..segment[2]).map(|i| i + batch.first_shingle);
                    for i in slots {
                        assert!((start..ends[record]).contains(&i));
                        seen.push(i);
                    }
                    assert!(segment[2] - segment[1] <= PER_SEGMENT);
                }
            }
            assert!(seen.iter().copied().eq(0..9000), "{n_records} {n_shingles}");
        }
    }
}
