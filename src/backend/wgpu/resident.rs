//! Rows and queries as shaders read them.
//!
//! Rows are padded to chunks of 16 bytes and lie in blocks of [`BLOCK`] rows, chunk by chunk: neighbouring invocations
//! work on neighbouring rows and so read neighbouring bytes. A store is cut into shards that fit a binding.
//!
//! Under cosine every row of f32 is multiplied by the power of two that brings its greatest element to [1, 2): exact,
//! and products of rows of any norm neither overflow nor vanish. The other element types cannot leave the range of f32.
//! Beside each row stands its inverse norm, of the row as stored, summed in 64 bits.

use std::ops::Range;
use std::sync::Arc;

use crate::backend::resident::Resident;
use crate::backend::wgpu::device::{Call, Gpu};
use crate::backend::wgpu::pipeline::BLOCK;
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::rows::{Dtype, Rows, Values};
use crate::error::{Error, Result};

/// Bytes of a chunk.
const CHUNK_BYTES: usize = 16;
/// 32-bit words of a chunk.
const CHUNK_WORDS: usize = CHUNK_BYTES / 4;
/// Shards begin at multiples of this: a word of the host's sets.
const SHARD_ROWS: u64 = 64;
/// Bytes of rows that are laid out at once.
const PIECE_BYTES: u64 = 16 << 20;
/// Bytes of queries that are placed at once.
const QUERY_BYTES: u64 = 64 << 20;

/// Some rows on the device.
pub(super) struct Shard {
    /// Slot of the first row.
    pub first: u32,
    /// Rows.
    pub n_rows: u32,
    /// Chunks in blocks.
    pub rows: wgpu::Buffer,
    /// One number per row: see `common.wgsl`.
    pub extra: wgpu::Buffer,
}

impl Shard {
    /// The rows of this shard that lie in a range of slots, counted from its first.
    pub fn part(&self, range: &Range<u32>) -> Range<u32> {
        let local = |slot: u32| slot.saturating_sub(self.first).min(self.n_rows);
        local(range.start)..local(range.end)
    }
}

/// All rows of a store on the device.
pub(super) struct DeviceRows {
    gpu: Arc<Gpu>,
    /// Chunks of a row.
    pub chunks: u32,
    /// In the order of slots.
    pub shards: Vec<Shard>,
}

/// Rows of `n_bytes` each, cut so that a shard of `n_bytes` per row fits a binding of the device.
pub(super) fn shard_ranges(
    call: &Call<'_>,
    n_rows: usize,
    n_bytes: u64,
) -> Result<Vec<Range<u32>>> {
    let limit = call.gpu.shard_bytes;
    let per_shard = limit / n_bytes / SHARD_ROWS * SHARD_ROWS;
    if per_shard == 0 {
        let message = format!("{SHARD_ROWS} rows of {n_bytes} bytes, a binding takes {limit}");
        return Err(call.error("unsupported", message));
    }
    let n_rows = n_rows as u64;
    let starts = (0..n_rows).step_by(usize::try_from(per_shard).unwrap_or(usize::MAX));
    Ok(starts.map(|first| first as u32..(first + per_shard).min(n_rows) as u32).collect())
}

/// Chunks of a row of so many bytes.
pub(super) fn chunks_of(n_bytes: usize) -> u32 {
    n_bytes.div_ceil(CHUNK_BYTES) as u32
}

/// Bytes that rows of so many chunks take when they lie in blocks.
pub(super) fn block_bytes(n_rows: usize, chunks: u32) -> u64 {
    n_rows.next_multiple_of(BLOCK as usize) as u64 * u64::from(chunks) * CHUNK_BYTES as u64
}

/// Places rows in blocks; `fill` writes the words of one row.
pub(super) fn place_blocks(
    call: &Call<'_>,
    what: &'static str,
    rows: Range<u32>,
    chunks: u32,
    mut fill: impl FnMut(usize, &mut [u32]),
) -> Result<wgpu::Buffer> {
    let buffer = call.buffer(what, block_bytes(rows.len(), chunks))?;
    let row_words = chunks as usize * CHUNK_WORDS;
    let blocks = (PIECE_BYTES / block_bytes(BLOCK as usize, chunks)).max(1);
    let step = blocks as usize * BLOCK as usize;
    let mut row = vec![0; row_words];
    for first in (0..rows.len()).step_by(step) {
        let n_rows = step.min(rows.len() - first);
        let mut words = vec![0; n_rows.next_multiple_of(BLOCK as usize) * row_words];
        for i in 0..n_rows {
            row.fill(0);
            fill(rows.start as usize + first + i, &mut row);
            let (block, lane) = (i / BLOCK as usize, i % BLOCK as usize);
            let start = block * BLOCK as usize * row_words + lane * CHUNK_WORDS;
            for (c, chunk) in row.chunks_exact(CHUNK_WORDS).enumerate() {
                let at = start + c * BLOCK as usize * CHUNK_WORDS;
                words[at..at + CHUNK_WORDS].copy_from_slice(chunk);
            }
        }
        call.write(&buffer, (first * row_words * 4) as u64, &words)?;
    }
    Ok(buffer)
}

/// What a row is multiplied by before it is stored.
fn scale(rows: &Rows, row: usize, metric: Metric) -> f64 {
    if metric != Metric::Cosine || rows.dtype() != Dtype::F32 {
        return 1.0;
    }
    let all = (row * rows.dim()..(row + 1) * rows.dim()).map(|i| rows.values().get(i).abs());
    let largest = f64::from(all.fold(0.0, f32::max));
    // A 32-bit number is normal in 64 bits: its exponent stands in its bits.
    let exponent = (largest.to_bits() >> 52) as i32 - 1023;
    if largest == 0.0 { 1.0 } else { 2f64.powi(-exponent) }
}

/// The number beside a row.
fn extra(rows: &Rows, row: usize, metric: Metric) -> u32 {
    let scale = scale(rows, row, metric);
    let element = |i| f64::from(rows.values().get(i)) * scale;
    let squares = || (row * rows.dim()..(row + 1) * rows.dim()).map(element).map(|x| x * x).sum();
    match metric {
        Metric::Cosine => ((1.0 / f64::sqrt(squares())) as f32).to_bits(),
        // 255² · 16,384 is below 2^31: exact.
        Metric::L2 if rows.dtype().is_integer() => squares() as u32,
        _ => 0,
    }
}

fn fill_f32(rows: &Rows, row: usize, metric: Metric, out: &mut [u32]) {
    let scale = scale(rows, row, metric);
    for (word, i) in out.iter_mut().zip(row * rows.dim()..(row + 1) * rows.dim()) {
        *word = ((f64::from(rows.values().get(i)) * scale) as f32).to_bits();
    }
}

fn fill_row(rows: &Rows, row: usize, metric: Metric, out: &mut [u32]) {
    if let Values::F32(_) = rows.values() {
        return fill_f32(rows, row, metric, out);
    }
    let n_bytes = rows.dim() * rows.dtype().bytes();
    let bytes = &rows.values().bytes()[row * n_bytes..(row + 1) * n_bytes];
    for (word, bytes) in out.iter_mut().zip(bytes.chunks(4)) {
        let mut whole = [0; 4];
        whole[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_le_bytes(whole);
    }
}

/// Bytes that rows take on the device.
pub(super) fn device_bytes(rows: &Rows) -> u64 {
    let chunks = chunks_of(rows.dim() * rows.dtype().bytes());
    block_bytes(rows.n_rows(), chunks) + rows.n_rows() as u64 * 4
}

/// Places rows for use under a metric.
pub(super) fn place(
    gpu: &Arc<Gpu>,
    call: &Call<'_>,
    rows: &Rows,
    metric: Metric,
) -> Result<DeviceRows> {
    let chunks = chunks_of(rows.dim() * rows.dtype().bytes());
    let row_bytes = u64::from(chunks) * CHUNK_BYTES as u64;
    let shards = shard_ranges(call, rows.n_rows(), row_bytes)?
        .into_iter()
        .map(|range| {
            let fill = |row: usize, out: &mut [u32]| fill_row(rows, row, metric, out);
            let extras: Vec<u32> =
                range.clone().map(|row| extra(rows, row as usize, metric)).collect();
            Ok(Shard {
                first: range.start,
                n_rows: range.end - range.start,
                rows: place_blocks(call, "rows", range, chunks, fill)?,
                extra: call.upload("row extras", &extras)?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(DeviceRows { gpu: Arc::clone(gpu), chunks, shards })
}

/// What this device keeps of `rows`.
///
/// # Errors
/// `resident_elsewhere`: another backend or another device holds them.
pub(super) fn device_rows<'a>(gpu: &Arc<Gpu>, rows: &'a Resident) -> Result<&'a DeviceRows> {
    rows.device::<DeviceRows>()
        .filter(|held| Arc::ptr_eq(&held.gpu, gpu))
        .ok_or_else(|| elsewhere(gpu))
}

/// The refusal of a handle that another device gave.
pub(super) fn elsewhere(gpu: &Gpu) -> Error {
    let message = format!("rows are not held by {}; upload them there", gpu.facts.name);
    Error::usage("resident_elsewhere", message)
}

/// Queries, or what stands in their place, on the device for one call.
pub(super) struct Queries {
    /// Which of them.
    pub range: Range<u32>,
    /// One after another; of f32 for rows of floats. Zeros fill the last four.
    pub words: wgpu::Buffer,
    /// One number per query, as beside rows.
    pub extra: wgpu::Buffer,
}

impl Queries {
    /// How many.
    pub fn len(&self) -> u32 {
        self.range.end - self.range.start
    }
}

/// Words of one query against rows of so many chunks.
fn query_words(row_dtype: Dtype, chunks: u32) -> usize {
    let per_chunk = if row_dtype == Dtype::F16 { 2 } else { 1 };
    chunks as usize * per_chunk * CHUNK_WORDS
}

/// The queries in parts that can be placed at once.
pub(super) fn query_parts(
    call: &Call<'_>,
    queries: &Rows,
    rows: &Resident,
    chunks: u32,
) -> Vec<Range<u32>> {
    let n_bytes = query_words(rows.host().dtype(), chunks) as u64 * 4;
    let limit = call.gpu.shard_bytes.min(QUERY_BYTES);
    let step = (limit / n_bytes / 4 * 4).clamp(4, u64::from(u32::MAX)) as usize;
    let n = queries.n_rows() as u32;
    (0..n).step_by(step).map(|first| first..n.min(first.saturating_add(step as u32))).collect()
}

/// Places a part of the queries.
pub(super) fn place_queries(
    call: &Call<'_>,
    queries: &Rows,
    range: Range<u32>,
    rows: &Resident,
    chunks: u32,
) -> Result<Queries> {
    let (dtype, metric) = (rows.host().dtype(), rows.metric());
    let n_words = query_words(dtype, chunks);
    let n_padded = range.len().next_multiple_of(4);
    let mut words = vec![0; n_padded * n_words];
    let mut extras = vec![0; n_padded];
    for ((row, out), beside) in range.clone().zip(words.chunks_exact_mut(n_words)).zip(&mut extras)
    {
        if dtype.is_integer() {
            fill_row(queries, row as usize, metric, out);
        } else {
            fill_f32(queries, row as usize, metric, out);
        }
        *beside = extra(queries, row as usize, metric);
    }
    let (words, extra) = (call.upload("queries", &words)?, call.upload("query extras", &extras)?);
    Ok(Queries { range, words, extra })
}

/// The set as one bit per row of a shard: `None` for all rows.
pub(super) fn mask(allow: Allow<'_>, rows: Range<u32>) -> Option<Vec<u32>> {
    let mut words = vec![0; rows.len().div_ceil(32)];
    match allow {
        Allow::All => return None,
        Allow::Bits(bits) => {
            let first = rows.start as usize / 64;
            for (i, word) in words.iter_mut().enumerate() {
                *word = (bits.words()[first + i / 2] >> (32 * (i % 2))) as u32;
            }
        }
        Allow::Ranges(ranges) => {
            let inside = |range: &Range<u32>| {
                range.start.max(rows.start)..range.end.min(rows.end).max(rows.start)
            };
            for slot in ranges.iter().flat_map(inside) {
                let at = slot - rows.start;
                words[at as usize / 32] |= 1 << (at % 32);
            }
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::bits::Bits;

    #[test]
    fn a_mask_is_the_set_cut_at_the_shard() {
        let mut bits = Bits::new(200);
        let ranges = [3..5, 64..66, 127..130, 190..200];
        ranges.iter().cloned().flatten().for_each(|slot| bits.insert(slot));
        for allow in [Allow::Bits(&bits), Allow::Ranges(&ranges)] {
            for shard in [0..64, 64..128, 128..200, 64..200, 0..200, 192..192] {
                let words = mask(allow, shard.clone()).unwrap();
                for slot in shard.clone() {
                    let at = slot - shard.start;
                    let bit = words[at as usize / 32] >> (at % 32) & 1 == 1;
                    assert_eq!(bit, allow.contains(slot), "{slot} of {shard:?}");
                }
            }
        }
        assert!(mask(Allow::All, 0..64).is_none());
    }

    #[test]
    fn rows_of_any_norm_are_brought_to_one_size_exactly() {
        let values = vec![3e38, 1e-45, 1e-45, 0.0, -5e-20, 1.0];
        let rows = Rows::new(Values::F32(values.clone().into()), 2).unwrap();
        for row in 0..3 {
            let scale = scale(&rows, row, Metric::Cosine);
            let mut words = [0; 2];
            fill_f32(&rows, row, Metric::Cosine, &mut words);
            let stored = words.map(f32::from_bits);
            let largest = stored[0].abs().max(stored[1].abs());
            assert!((1.0..2.0).contains(&largest), "{stored:?}");
            for (stored, value) in stored.iter().zip(&values[2 * row..]) {
                let exact = f64::from(*value) * scale;
                // What is 2^-126 of the greatest may vanish: it cannot be seen in any distance.
                assert!(f64::from(*stored) == exact || exact.abs() < 1.2e-38);
            }
        }
    }
}
