//! Operation `minhash`: signatures `[n_records, n_perm]`.

use bytemuck::{Pod, Zeroable};

use super::Call;
use super::launcher::Launch;
use crate::backend::cpu::minhash::MinHasher;
use crate::error::Result;

const THREADS: u32 = 128;
/// Records of one launch: with 4,096 slots a signature takes 16 KiB, so this is 1 GiB at most.
const RECORDS_PER_LAUNCH: usize = 1 << 16;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Args {
    shingles: u64,
    ends: u64,
    multipliers: u64,
    masks: u64,
    out: u64,
    n_perm: u32,
    blocks_per_record: u32,
}

pub(super) fn run(
    call: Call<'_>,
    hasher: &MinHasher,
    shingles: &[u32],
    ends: &[u32],
) -> Result<Vec<u32>> {
    let (multipliers, masks): (Vec<u32>, Vec<u32>) =
        (0..hasher.n_perm()).map(|slot| hasher.constants(slot)).unzip();
    let multipliers = call.memory.place(call.stream, &multipliers)?;
    let masks = call.memory.place(call.stream, &masks)?;
    let n_perm = hasher.n_perm() as u32;
    let mut signatures = Vec::with_capacity(ends.len() * hasher.n_perm());
    let mut begin = 0u32;
    for part in ends.chunks(RECORDS_PER_LAUNCH) {
        let end = part.last().copied().unwrap_or(begin);
        let own: Vec<u32> = part.iter().map(|end| end - begin).collect();
        let on_ends = call.memory.place(call.stream, &own)?;
        let on_shingles =
            call.memory.place(call.stream, &shingles[begin as usize..end as usize])?;
        let n = part.len() * hasher.n_perm();
        let out = call.memory.take(call.stream, n as u64 * 4)?;
        let args = Args {
            shingles: on_shingles.address(),
            ends: on_ends.address(),
            multipliers: multipliers.address(),
            masks: masks.address(),
            out: out.address(),
            n_perm,
            blocks_per_record: n_perm.div_ceil(THREADS),
        };
        let grid = [part.len() as u32 * args.blocks_per_record, 1, 1];
        let launch = Launch::new("minhash_u32".to_owned(), grid, THREADS, 0, &args);
        call.launcher().launch(call.stream, &launch)?;
        signatures.extend(out.read::<u32>(call.stream, n)?);
        begin = end;
    }
    Ok(signatures)
}
