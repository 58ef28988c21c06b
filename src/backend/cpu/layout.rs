//! Codes as the loops of `rabitq_scan` read them: the sign planes of 32 rows byte by byte, the four-bit codes two elements
//! to a byte. Made once from codes as all backends see them.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::backend::codes::{EXTRA_PLANES, Factors, RabitqCodes};
use crate::core::slab::Slab;
use crate::distance::simd::popcount::{BLOCK, BlockFactors};
use crate::error::{Error, ErrorKind, Result};

/// Codes as the loops read them, for `n_blocks` blocks of [`BLOCK`] rows, the last of which may be filled up with zeros.
#[derive(Clone)]
pub struct Layout {
    /// 64-bit words of a plane of a row.
    pub n_words: usize,
    /// `[n_blocks, 8 · n_words, BLOCK]`: byte `b` of the sign planes of all rows of a block, then byte `b + 1`.
    pub signs: Slab<u8>,
    /// `[n_blocks]`.
    pub blocks: Slab<BlockFactors>,
    /// `[n_rows, 32 · n_words]`: in every 32 bytes, elements 0 to 31 below, 32 to 63 above.
    pub nibbles: Slab<u8>,
    /// `[n_rows]`.
    pub fine: Slab<FineFactors>,
}

/// What turns the sum of a four-bit code into an estimate.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct FineFactors {
    /// Those of the code.
    pub factors: Factors,
    /// Sum of its numbers.
    pub ones: u32,
}

impl Layout {
    /// Codes laid out anew. Cost: one pass.
    pub fn new(pool: &ThreadPool, codes: &RabitqCodes) -> Self {
        let (n_rows, n_words) = (codes.n_rows, codes.n_words);
        let n_blocks = n_rows.div_ceil(BLOCK);
        let none = [0.0; BLOCK];
        let empty = BlockFactors { add: none, rescale: none, err: none, ones: none };
        let mut signs = vec![0; n_blocks * n_words * 8 * BLOCK];
        let mut blocks = vec![empty; n_blocks];
        let mut nibbles = vec![0; n_rows * n_words * 32];
        let mut fine = vec![FineFactors::default(); n_rows];
        pool.install(|| {
            let signs = signs.par_chunks_exact_mut(n_words * 8 * BLOCK);
            signs.zip(&mut blocks).enumerate().for_each(|(block, (signs, factors))| {
                let rows = block * BLOCK..n_rows.min((block + 1) * BLOCK);
                fill_block(codes, rows, signs, factors);
            });
            let nibbles = nibbles.par_chunks_exact_mut(n_words * 32);
            nibbles.zip(&mut fine).enumerate().for_each(|(row, (nibbles, fine))| {
                *fine =
                    FineFactors { factors: codes.fine[row], ones: fill_row(codes, row, nibbles) };
            });
        });
        Self {
            n_words,
            signs: signs.into(),
            blocks: blocks.into(),
            nibbles: nibbles.into(),
            fine: fine.into(),
        }
    }

    /// Fails if this cannot be the layout of such codes. Cost: none of them is looked at.
    ///
    /// # Errors
    /// `codes_shape`.
    pub fn check(&self, codes: &RabitqCodes) -> Result<()> {
        let (n_rows, n_words) = (codes.n_rows, codes.n_words);
        let n_blocks = n_rows.div_ceil(BLOCK);
        let fits = self.n_words == n_words
            && self.signs.len() == n_blocks * n_words * 8 * BLOCK
            && self.blocks.len() == n_blocks
            && self.nibbles.len() == n_rows * n_words * 32
            && self.fine.len() == n_rows;
        if fits {
            return Ok(());
        }
        let message = format!(
            "a layout of {} words with {} sign bytes, {} blocks, {} nibble bytes and {} factors for {n_rows} rows of \
             {n_words} words",
            self.n_words,
            self.signs.len(),
            self.blocks.len(),
            self.nibbles.len(),
            self.fine.len()
        );
        Err(Error::new(ErrorKind::BadInput, "codes_shape", message))
    }

    /// The sign planes of a block.
    pub(super) fn block(&self, block: usize) -> &[u8] {
        let stride = self.n_words * 8 * BLOCK;
        &self.signs[block * stride..(block + 1) * stride]
    }
}

fn fill_block(codes: &RabitqCodes, rows: Range<usize>, signs: &mut [u8], out: &mut BlockFactors) {
    let n = codes.n_words;
    for (i, row) in rows.enumerate() {
        let words = &codes.signs[row * n..(row + 1) * n];
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        bytes.enumerate().for_each(|(b, byte)| signs[b * BLOCK + i] = byte);
        let Factors { add, rescale, err } = codes.coarse[row];
        (out.add[i], out.rescale[i], out.err[i]) = (add, rescale, err);
        out.ones[i] = words.iter().map(|word| word.count_ones()).sum::<u32>() as f32;
    }
}

/// Writes the four-bit codes of a row; returns their sum.
fn fill_row(codes: &RabitqCodes, row: usize, out: &mut [u8]) -> u32 {
    let n = codes.n_words;
    let extra = &codes.extra[row * n * EXTRA_PLANES..(row + 1) * n * EXTRA_PLANES];
    let mut ones = 0;
    for (word, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let planes =
            [extra[word], extra[n + word], extra[2 * n + word], codes.signs[row * n + word]];
        let code = |i: usize| (0..4).map(|bit| (planes[bit] >> i & 1) << bit).sum::<u64>() as u8;
        out.iter_mut().enumerate().for_each(|(i, byte)| *byte = code(i) | code(32 + i) << 4);
        ones += (0..4).map(|bit| planes[bit].count_ones() << bit).sum::<u32>();
    }
    ones
}

/// Bytes of codes and their layout.
pub(super) fn n_bytes(codes: &RabitqCodes) -> u64 {
    let n_blocks = codes.n_rows.div_ceil(BLOCK);
    let block = codes.n_words * 8 * BLOCK + size_of::<BlockFactors>();
    let row = codes.n_words * 32 + size_of::<FineFactors>();
    (n_blocks * block + codes.n_rows * row) as u64 + codes.n_bytes()
}
