//! A vector for each token, made once from a sentence model, and their mean for each text: meaning for a few
//! microseconds, without a download. `datasets/distill_static.py` makes the table; `assets/README.md` says from what.

use xxhash_rust::xxh3::xxh3_64;

use crate::core::rows::{Rows, Values};
use crate::embed::wordpiece::WordPiece;
use crate::embed::{Embedder, normalise};
use crate::error::{Error, ErrorKind, Result};

const MAGIC: &[u8] = b"nkstatic";
const HEAD_BYTES: usize = 24;

/// Token vectors, 8 bits an element and one factor a token, weighted for the mean.
pub struct StaticTable {
    tokens: WordPiece,
    dim: usize,
    factors: Vec<f32>,
    codes: &'static [i8],
    hash: u64,
}

impl StaticTable {
    /// The table that is part of the program.
    ///
    /// # Errors
    /// `corrupt_file` if it was built with a damaged one.
    #[cfg(feature = "static-model")]
    pub fn shipped() -> Result<Self> {
        Self::read(include_bytes!("../../assets/static-256.bin"))
    }

    /// Reads a table: magic, version, tokens, dim, bytes of the vocabulary (u32 each, little-endian); f32 factors; 8-bit
    /// codes `[n_tokens, dim]`; the vocabulary, a token a line; CRC-32 of all before.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn read(bytes: &'static [u8]) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::Corrupt, "corrupt_file", format!("token table: {what}"))
        };
        let body = bytes.len().checked_sub(4).filter(|&n| n >= HEAD_BYTES);
        let (body, checksum) = bytes.split_at(body.ok_or_else(|| wrong("shorter than its head"))?);
        let mut crc = flate2::Crc::new();
        crc.update(body);
        if checksum != crc.sum().to_le_bytes() {
            return Err(wrong("checksum differs from what was written"));
        }
        let word =
            |at: usize| u32::from_le_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        let [version, n_tokens, dim, n_words] = [8, 12, 16, 20].map(|at| word(at) as usize);
        let (factors_end, codes_end) =
            (HEAD_BYTES + n_tokens * 4, HEAD_BYTES + n_tokens * (4 + dim));
        if &body[..8] != MAGIC || version != 1 || body.len() != codes_end + n_words {
            return Err(wrong("not of version 1"));
        }
        let words = std::str::from_utf8(&body[codes_end..]).map_err(|_| wrong("not UTF-8"))?;
        let tokens = WordPiece::new(words.split('\n'));
        if words.split('\n').count() != n_tokens {
            return Err(wrong("tokens and vectors differ in number"));
        }
        Ok(Self {
            tokens,
            dim,
            factors: (HEAD_BYTES..factors_end)
                .step_by(4)
                .map(|at| f32::from_bits(word(at)))
                .collect(),
            codes: bytemuck::cast_slice(&body[factors_end..codes_end]),
            hash: xxh3_64(body),
        })
    }

    /// Ids of the tokens of a text.
    pub fn token_ids(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.tokens.encode(text, &mut |id| ids.push(id));
        ids
    }

    fn row(&self, text: &str, row: &mut [f32]) {
        self.tokens.encode(text, &mut |id| {
            let at = id as usize;
            // Unknown tokens, of which nothing is known, have factor 0.
            let Some(&factor) = self.factors.get(at).filter(|&&factor| factor != 0.0) else {
                return;
            };
            let codes = &self.codes[at * self.dim..(at + 1) * self.dim];
            row.iter_mut().zip(codes).for_each(|(x, &code)| *x += factor * f32::from(code));
        });
        normalise(row);
    }
}

impl Embedder for StaticTable {
    fn dim(&self) -> usize {
        self.dim
    }

    fn identity(&self) -> String {
        format!("static/all-MiniLM-L6-v2/{} {:016x}", self.dim, self.hash)
    }

    fn embed(&self, texts: &[&str]) -> Result<Rows> {
        let mut values = vec![0.0; texts.len() * self.dim];
        values.chunks_exact_mut(self.dim).zip(texts).for_each(|(row, text)| self.row(text, row));
        Rows::new(Values::F32(values), self.dim)
    }
}
