//! Operation `rabitq_scan`: rows of lists of codes that may be among the nearest.
//!
//! The device returns candidates: rows whose lower bound was within the bound at the time. The bound of a scan only falls, and the
//! k least upper bounds are always among the candidates (an upper bound is never below its lower bound), so the last bound
//! and the survivors follow from them.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::launcher::{Buffer, Launch, Memory, failed};
use super::{Call, ordered};
use crate::backend::codes::{Factors, RabitqCodes, RabitqQuery, Survivor};
use crate::backend::resident::ResidentCodes;
use crate::backend::{RabitqScan, Stream};
use crate::core::allow::Allow;
use crate::error::{Error, Result};

const THREADS: u32 = 128;
/// Planes of a query: four for the signs, eight for all bits.
const PLANES: usize = 12;
/// Rows of one block: enough for its planes to be worth their loading, few enough to fill a card with one list.
const ROWS_PER_ITEM: u32 = 2048;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Args {
    signs: u64,
    extra: u64,
    coarse: u64,
    fine: u64,
    planes: u64,
    queries: u64,
    items: u64,
    ks: u64,
    bounds: u64,
    allow: u64,
    out: u64,
    found: u64,
    n_words: u32,
    capacity: u32,
    ring_capacity: u32,
    unused: u32,
}

/// `QueryScalars` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Scalars {
    coarse: [f32; 4],
    fine: [f32; 4],
    add: f32,
    unused: [f32; 3],
}

/// `Candidate` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Candidate {
    scan: u32,
    slot: u32,
    estimate: f32,
    lower: f32,
    upper: f32,
}

/// Codes in device memory, sign planes by blocks of 32 rows.
pub(super) struct DeviceCodes {
    signs: Buffer,
    extra: Buffer,
    coarse: Buffer,
    fine: Buffer,
}

/// Device bytes of codes.
pub(super) fn n_bytes(codes: &RabitqCodes) -> u64 {
    let padding = codes.n_rows.next_multiple_of(32) - codes.n_rows;
    codes.n_bytes() + (padding * codes.n_words * 8) as u64
}

/// Places codes.
pub(super) fn keep(memory: &Arc<Memory>, codes: &RabitqCodes) -> Result<DeviceCodes> {
    let signs = interleaved(codes);
    let place = |bytes: &[u8]| {
        let buffer = memory.keep(bytes.len() as u64)?;
        buffer.write(Stream(0), 0, bytes)?;
        Ok::<_, Error>(buffer)
    };
    let placed = DeviceCodes {
        signs: place(bytemuck::cast_slice(&signs))?,
        extra: place(bytemuck::cast_slice(&codes.extra))?,
        coarse: place(bytemuck::cast_slice::<Factors, u8>(&codes.coarse))?,
        fine: place(bytemuck::cast_slice::<Factors, u8>(&codes.fine))?,
    };
    memory.launcher().synchronise(Stream(0))?;
    Ok(placed)
}

/// `[n_rows / 32, n_words, 32]`: neighboring threads read neighboring words.
fn interleaved(codes: &RabitqCodes) -> Vec<u64> {
    let n_words = codes.n_words;
    let mut out = vec![0; codes.n_rows.next_multiple_of(32) * n_words];
    for (row, words) in codes.signs.chunks_exact(n_words).enumerate() {
        for (word, &bits) in words.iter().enumerate() {
            out[(row / 32 * n_words + word) * 32 + row % 32] = bits;
        }
    }
    out
}

fn scalars(query: &RabitqQuery) -> Scalars {
    let (coarse, fine) = (&query.coarse, &query.fine);
    Scalars {
        coarse: [coarse.lo, coarse.step, coarse.sum, query.coarse_err],
        fine: [fine.lo, fine.step, fine.sum, query.fine_err],
        add: query.add,
        unused: [0.0; 3],
    }
}

/// What the device needs of all scans.
#[derive(Default)]
struct Work {
    planes: Vec<u64>,
    queries: Vec<Scalars>,
    items: Vec<[u32; 4]>,
    ks: Vec<u32>,
    bounds: Vec<u64>,
}

fn work(scans: &[RabitqScan<'_>], n_words: usize) -> Work {
    let mut work = Work::default();
    for (at, scan) in scans.iter().enumerate() {
        work.ks.push(scan.k as u32);
        work.bounds.push(u64::from(ordered(scan.bound)) << 32 | u64::from(u32::MAX));
        for (range, query) in scan.lists.iter().filter(|(range, _)| !range.is_empty()) {
            for first in range.clone().step_by(ROWS_PER_ITEM as usize) {
                let past = first + ROWS_PER_ITEM.min(range.end - first);
                work.items.push([at as u32, work.queries.len() as u32, first, past]);
            }
            work.queries.push(scalars(query));
            work.planes.extend(query.coarse.words.iter().chain(&query.fine.words));
            debug_assert_eq!(work.planes.len(), work.queries.len() * PLANES * n_words);
        }
    }
    work
}

pub(super) fn run(
    call: Call<'_>,
    scans: &[RabitqScan<'_>],
    codes: &ResidentCodes,
    allow: Allow<'_>,
) -> Result<Vec<Vec<Survivor>>> {
    let device = match codes.device::<DeviceCodes>() {
        Some(device) if device.signs.is_of(call.memory) => device,
        _ => return Err(Error::usage("resident", "codes that another backend or device holds")),
    };
    let mut found = vec![Vec::new(); scans.len()];
    let work = work(scans, codes.host().n_words);
    if !work.items.is_empty() {
        for one in candidates(call, device, codes.host(), &work, allow)? {
            let list = scans.get(one.scan as usize).filter(|scan| {
                let is_there = scan.lists.iter().any(|(range, _)| range.contains(&one.slot));
                is_there && allow.contains(one.slot)
            });
            if list.is_none() {
                return Err(failed(format!("rabitq_scan: slot {} is in no list", one.slot)));
            }
            let Candidate { scan, slot, estimate, lower, upper } = one;
            found[scan as usize].push(Survivor { slot, estimate, lower, upper });
        }
    }
    Ok(scans.iter().zip(found).map(|(scan, found)| survivors(scan, found)).collect())
}

/// Launches; once more with exact room if the first was not enough, under the bounds that it found.
fn candidates(
    call: Call<'_>,
    device: &DeviceCodes,
    codes: &RabitqCodes,
    work: &Work,
    allow: Allow<'_>,
) -> Result<Vec<Candidate>> {
    let (memory, stream) = (call.memory, call.stream);
    let words = match allow {
        Allow::All => None,
        _ => Some(memory.place(stream, &allow.words(codes.n_rows as u32))?),
    };
    let (planes, queries) =
        (memory.place(stream, &work.planes)?, memory.place(stream, &work.queries)?);
    let (items, ks) = (memory.place(stream, &work.items)?, memory.place(stream, &work.ks)?);
    let bounds = memory.place(stream, &work.bounds)?;
    let k = work.ks.iter().copied().max().unwrap_or(1);
    let ring_capacity = (k + THREADS).next_power_of_two();
    let shared = (PLANES * codes.n_words * 8) as u32 + ring_capacity * 8;
    let rows: u64 = work.items.iter().map(|item| u64::from(item[3] - item[2])).sum();
    let mut capacity = rows.min(u64::from(call.options.candidate_capacity)) as u32;
    for _ in 0..2 {
        let out = memory.take(stream, u64::from(capacity) * size_of::<Candidate>() as u64)?;
        let found = memory.take(stream, 4)?;
        let args = Args {
            signs: device.signs.address(),
            extra: device.extra.address(),
            coarse: device.coarse.address(),
            fine: device.fine.address(),
            planes: planes.address(),
            queries: queries.address(),
            items: items.address(),
            ks: ks.address(),
            bounds: bounds.address(),
            allow: words.as_ref().map_or(0, Buffer::address),
            out: out.address(),
            found: found.address(),
            n_words: codes.n_words as u32,
            capacity,
            ring_capacity,
            unused: 0,
        };
        let grid = [work.items.len() as u32, 1, 1];
        let launch = Launch::new("rabitq_scan_u64".to_owned(), grid, THREADS, shared, &args);
        call.launcher().launch(stream, &launch)?;
        let n = found.read::<u32>(stream, 1)?[0];
        if n <= capacity {
            return out.read(stream, n as usize);
        }
        capacity = n;
    }
    Err(failed(format!("rabitq_scan: over {capacity} candidates under a bound that gave fewer")))
}

/// The rows whose lower bound is within the k-th least upper bound, by slot.
fn survivors(scan: &RabitqScan<'_>, mut found: Vec<Survivor>) -> Vec<Survivor> {
    let mut uppers: Vec<f32> = found.iter().map(|survivor| survivor.upper).collect();
    uppers.sort_unstable_by(f32::total_cmp);
    let bound = uppers.get(scan.k - 1).map_or(scan.bound, |&upper| upper.min(scan.bound));
    found.retain(|survivor| survivor.lower <= bound);
    found.sort_unstable_by_key(|survivor| survivor.slot);
    found
}
