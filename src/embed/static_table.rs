//! A vector for each token, made once from a sentence model, and their mean for each text: meaning for a few
//! microseconds, without a download. `datasets/distill_static.py` makes the table; `assets/README.md` says from what.

use xxhash_rust::xxh3::xxh3_64;

use crate::core::rows::{Rows, Values};
use crate::embed::identifiers::words_apart;
use crate::embed::wordpiece::WordPiece;
use crate::embed::{Embedder, normalise};
use crate::error::{Error, ErrorKind, Result};

const MAGIC: &[u8] = b"nkstatic";
const HEAD_BYTES: usize = 24;

/// Share of a text's letters that must stand in words which the vocabulary holds whole. It is English: of what it cuts
/// into pieces, the mean says how the pieces look, not what they mean. Names of code are cut into words first. On the real
/// sample, it is reached by 0.998 of English descriptions, 0.98 of manuals, 0.94 of code, and 0.10 of texts in other
/// languages (of the French ones, the nearest, 0.19).
const LEAST_WHOLE: f32 = 0.45;

/// Token vectors, 8 bits an element and one factor a token, weighted for the mean.
pub struct StaticTable {
    tokens: WordPiece,
    dim: usize,
    factors: Vec<f32>,
    codes: &'static [i8],
    /// Letters of each token, and whether it goes on with a word.
    spelling: Vec<(u8, bool)>,
    hash: u64,
}

/// Letters of a text by whether their words are whole.
#[derive(Default)]
struct Letters {
    all: u32,
    whole: u32,
    /// Those of the last token, if it begins a word that may yet go on.
    open: u32,
}

impl Letters {
    fn add(&mut self, (n, goes_on): (u8, bool)) {
        let n = u32::from(n);
        self.whole += if goes_on { 0 } else { self.open };
        // A single letter is what a word falls into that the vocabulary lacks.
        self.open = if goes_on || n < 2 { 0 } else { n };
        self.all += n;
    }

    fn are_known(&self) -> bool {
        (self.whole + self.open) as f32 >= LEAST_WHOLE * self.all as f32
    }
}

fn spelling(token: &str) -> (u8, bool) {
    let (piece, goes_on) = match token.strip_prefix("##") {
        Some(piece) if !piece.is_empty() => (piece, true),
        _ => (token, false),
    };
    // Marks such as [UNK] stand for a word of unknown length.
    let is_mark = token.len() > 2 && token.starts_with('[');
    let n_letters = piece.chars().filter(|c| c.is_alphabetic()).count().min(255) as u8;
    // `x` alone is a name in any language.
    let n_letters = if !goes_on && piece.is_ascii() && n_letters == 1 { 0 } else { n_letters };
    (n_letters, goes_on || is_mark)
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
            spelling: words.split('\n').map(spelling).collect(),
            codes: bytemuck::cast_slice(&body[factors_end..codes_end]),
            hash: xxh3_64(body),
        })
    }

    /// The tokens that it has vectors of.
    pub fn tokens(&self) -> &WordPiece {
        &self.tokens
    }

    /// The row of a text; zeros if too little of it is known to say what it means.
    fn row(&self, text: &str, row: &mut [f32]) {
        let mut letters = Letters::default();
        let text = words_apart(text, &|word| self.tokens.holds(word));
        self.tokens.encode(&text, &mut |id| {
            let at = id as usize;
            letters.add(self.spelling.get(at).copied().unwrap_or((0, true)));
            // Unknown tokens, of which nothing is known, have factor 0.
            let Some(&factor) = self.factors.get(at).filter(|&&factor| factor != 0.0) else {
                return;
            };
            let codes = &self.codes[at * self.dim..(at + 1) * self.dim];
            row.iter_mut().zip(codes).for_each(|(x, &code)| *x += factor * f32::from(code));
        });
        if letters.are_known() {
            normalise(row);
        } else {
            row.fill(0.0);
        }
    }
}

impl Embedder for StaticTable {
    fn dim(&self) -> usize {
        self.dim
    }

    fn identity(&self) -> String {
        format!(
            "static/all-MiniLM-L6-v2/{} {:016x}, names cut, known words {LEAST_WHOLE}",
            self.dim, self.hash
        )
    }

    fn embed(&self, texts: &[&str]) -> Result<Rows> {
        let mut values = vec![0.0; texts.len() * self.dim];
        values.chunks_exact_mut(self.dim).zip(texts).for_each(|(row, text)| self.row(text, row));
        Rows::new(Values::F32(values.into()), self.dim)
    }
}

#[cfg(all(test, feature = "static-model"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_code_is_near_the_words_that_it_is_made_of() {
        let table = StaticTable::shipped().unwrap();
        let rows = table.embed(&["getObjectName", "get object name", "getobjectname"]).unwrap();
        let (dim, values) = (rows.dim(), rows.values());
        let dot = |a: usize, b: usize| -> f64 {
            (0..dim).map(|i| f64::from(values.get(a * dim + i) * values.get(b * dim + i))).sum()
        };
        assert!(dot(0, 1) > 0.999_999 && dot(0, 2) < 0.9, "{} {}", dot(0, 1), dot(0, 2));
    }

    #[test]
    fn a_text_in_a_language_that_the_table_does_not_know_has_no_vector() {
        let table = StaticTable::shipped().unwrap();
        let texts = [
            "the development files of a library that draws charts",
            "fn main() { let total = items.iter().map(|item| item.price).sum(); }",
            "GLErrorDomain getLocalizedErrorMessage(StatusCode)",
            "12345 67.8",
            "dieses Paket enthält die Entwicklungsdateien der Bibliothek",
            "этот пакет содержит файлы для разработки",
            "このパッケージには開発用のファイルが含まれています",
        ];
        let rows = table.embed(&texts).unwrap();
        let norms: Vec<f64> = rows.norms().iter().map(|norm| norm.round()).collect();
        assert_eq!(norms, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    }
}
