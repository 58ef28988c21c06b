//! Texts as sets: cut into units (words, characters or code tokens), hashed, and combined into shingles.
//!
//! In: a decoded text. Out: unit hashes, 64-bit shingle hashes, and a 128-bit hash of the whole text.
//! No string is built on the way. Cost: one pass over the text, one multiplication per eight bytes of a
//! word, three per shingle.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::core::mix::{fold_mul, mix64};
use crate::error::Error;
use crate::record::normalize::{Normalizer, push_lower};

const WORD_SEED: u64 = 0x6e65_6172_6b69_6e31;
const WORD_KEY: u64 = 0x9fb2_1c65_1e98_df25;
const WORD_END: u64 = 0xe703_7ed1_a0b4_28db;
/// Multiplier of the rolling polynomial over unit hashes; odd, so that every power is invertible.
const ROLL: u64 = 0xd6e8_feb8_6659_fd93;
/// Separates the hash of a whole text from hashes of its parts.
const TEXT_SEED: u64 = 0x7465_7874;

/// What a shingle is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Words: runs without Unicode white space; in scripts written without spaces, characters.
    Word,
    /// Characters of the normalised text.
    Char,
    /// Identifiers, numbers and single punctuation characters.
    Code,
}

/// `n` neighbouring units make a shingle. Parsed from and shown as `word:5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShingleKind {
    /// What is counted.
    pub unit: Unit,
    /// How many of them; at least 1.
    pub n: usize,
}

impl FromStr for ShingleKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let message =
                format!("{text:?}, expected word:N, char:N or code:N with N from 1 to 1000");
            Error::usage("shingle", message)
        };
        let (unit, n) = text.split_once(':').ok_or_else(wrong)?;
        let unit = match unit {
            "word" => Unit::Word,
            "char" => Unit::Char,
            "code" => Unit::Code,
            _ => return Err(wrong()),
        };
        let n = n.parse().map_err(|_| wrong())?;
        if !(1..=1000).contains(&n) {
            return Err(wrong());
        }
        Ok(Self { unit, n })
    }
}

impl fmt::Display for ShingleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Word => "word",
            Unit::Char => "char",
            Unit::Code => "code",
        };
        write!(f, "{unit}:{}", self.n)
    }
}

/// Cuts texts into shingles; keeps its buffers between texts. One per thread.
#[derive(Debug)]
pub struct Shingler {
    kind: ShingleKind,
    normalizer: Normalizer,
    words: Words,
    units: Vec<u64>,
}

impl Shingler {
    /// A shingler for one kind of shingle and one set of normalisation steps.
    pub fn new(kind: ShingleKind, normalizer: Normalizer) -> Self {
        Self { kind, normalizer, words: Words::default(), units: Vec::new() }
    }

    /// Reads `text`; returns the 128-bit hash of its normalised form. Equal hashes are taken as equal
    /// texts: with 10^12 texts, two different ones agree with a chance of 10^-14.
    pub fn read(&mut self, text: &str) -> u128 {
        let rewritten;
        let text = if self.normalizer.rewrites() {
            rewritten = self.normalizer.rewrite(text);
            &rewritten
        } else {
            text
        };
        self.words.cut(text, self.normalizer.case);
        match self.kind.unit {
            Unit::Word => {}
            Unit::Char => cut_chars(text, self.normalizer, &mut self.units),
            Unit::Code => cut_code(text, self.normalizer.case, &mut self.units),
        }
        if self.normalizer.space {
            self.words.hash()
        } else {
            hash_with_spaces(text, self.normalizer.case)
        }
    }

    /// Unit hashes of the text read last.
    pub fn units(&self) -> &[u64] {
        match self.kind.unit {
            Unit::Word => &self.words.hashes,
            Unit::Char | Unit::Code => &self.units,
        }
    }

    /// Number of words of the text read last, whatever the unit.
    pub fn n_words(&self) -> usize {
        self.words.hashes.len()
    }

    /// Calls `visit` with the hash of every shingle of the text read last, in text order, repeats
    /// included. A text of fewer than `n` units has one shingle, of all of them; an empty one has none.
    pub fn shingles(&self, visit: impl FnMut(u64)) {
        roll(self.units(), self.kind.n, visit);
    }

    /// The sorted set of shingle hashes of the text read last.
    pub fn sorted_set(&self) -> Vec<u64> {
        let mut set = Vec::with_capacity(self.units().len());
        self.shingles(|hash| set.push(hash));
        set.sort_unstable();
        set.dedup();
        set
    }
}

/// Hashes of all windows of `n` units, or of one window with all of them if there are fewer.
#[inline]
pub fn roll(units: &[u64], n: usize, mut visit: impl FnMut(u64)) {
    if units.is_empty() {
        return;
    }
    let n = n.min(units.len());
    let oldest = (1..n).fold(1u64, |power, _| power.wrapping_mul(ROLL));
    let mut sum =
        units[..n].iter().fold(0u64, |sum, &unit| sum.wrapping_mul(ROLL).wrapping_add(unit));
    visit(mix64(sum));
    for (&old, &new) in units.iter().zip(&units[n..]) {
        sum = sum.wrapping_sub(old.wrapping_mul(oldest)).wrapping_mul(ROLL).wrapping_add(new);
        visit(mix64(sum));
    }
}

/// Words of one text by hash, and where they touch without white space between them.
#[derive(Debug, Default)]
struct Words {
    hashes: Vec<u64>,
    /// Indices of words glued to the one before (scripts without spaces).
    glued: Vec<u32>,
    /// Byte positions where ASCII white space ends or begins, in turn.
    edges: Vec<u32>,
    lower: String,
}

impl Words {
    fn cut(&mut self, text: &str, lower: bool) {
        self.hashes.clear();
        self.glued.clear();
        find_edges(text.as_bytes(), &mut self.edges);
        let edges = std::mem::take(&mut self.edges);
        if text.is_ascii() {
            // Every run is one word: the loop that most texts take has no branch for anything else.
            let words = edges.chunks_exact(2).map(|edge| (edge[0] as usize, edge[1] as usize));
            self.hashes.extend(words.map(|(start, end)| {
                short_ascii_word(text.as_bytes(), start, end, lower)
                    .unwrap_or_else(|| ascii_word(&text.as_bytes()[start..end], lower))
            }));
            self.edges = edges;
            return;
        }
        for edge in edges.chunks_exact(2) {
            let (start, end) = (edge[0] as usize, edge[1] as usize);
            let run = &text.as_bytes()[start..end];
            match short_ascii_word(text.as_bytes(), start, end, lower) {
                Some(hash) => self.hashes.push(hash),
                None if run.is_ascii() => self.hashes.push(ascii_word(run, lower)),
                None => self.unicode_words(&text[start..end], lower),
            }
        }
        self.edges = edges;
    }

    /// Hashes the words of a text without ASCII white space, character by character.
    fn unicode_words(&mut self, text: &str, lower: bool) {
        self.lower.clear();
        let mut first = self.hashes.len();
        for c in text.chars() {
            if c.is_whitespace() {
                self.flush(first);
                first = self.hashes.len();
            } else if is_unspaced(c) {
                self.flush(first);
                self.lower.push(c);
                self.flush(first);
            } else if lower {
                push_lower(c, &mut self.lower);
            } else {
                self.lower.push(c);
            }
        }
        self.flush(first);
    }

    fn flush(&mut self, first: usize) {
        if self.lower.is_empty() {
            return;
        }
        if self.hashes.len() > first {
            self.glued.push(self.hashes.len() as u32);
        }
        self.hashes.push(hash_word(self.lower.as_bytes()));
        self.lower.clear();
    }

    fn hash(&self) -> u128 {
        let mut seed = TEXT_SEED;
        for &index in &self.glued {
            seed = fold_mul(seed ^ u64::from(index), WORD_KEY) ^ TEXT_SEED;
        }
        xxh3_128_with_seed(bytemuck::cast_slice(&self.hashes), seed)
    }
}

/// Positions where runs without ASCII white space start and end, in turn.
fn find_edges(bytes: &[u8], edges: &mut Vec<u32>) {
    edges.clear();
    let mut after_space = 1u64;
    for (block, chunk) in bytes.chunks(64).enumerate() {
        let space = match chunk.try_into() {
            Ok(whole) => space_mask(whole),
            Err(_) => {
                let mut padded = [b' '; 64];
                padded[..chunk.len()].copy_from_slice(chunk);
                space_mask(&padded)
            }
        };
        let mut changes = space ^ (space << 1 | after_space);
        after_space = space >> 63;
        let mut found = [0; 64];
        let n = changes.count_ones() as usize;
        for edge in &mut found[..n] {
            *edge = block as u32 * 64 + changes.trailing_zeros();
            changes &= changes - 1;
        }
        edges.extend_from_slice(&found[..n]);
    }
    if edges.len() % 2 == 1 {
        edges.push(bytes.len() as u32);
    }
}

/// Bit `i` says whether byte `i` is ASCII white space. Eight bytes at a time, in ordinary registers.
#[inline(always)]
fn space_mask(bytes: &[u8; 64]) -> u64 {
    let mut mask = 0;
    for (i, chunk) in bytes.chunks_exact(8).enumerate() {
        let x = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        let low = x & !HIGHS;
        let not_space = (low ^ (ONES * 0x20)) + ONES * 0x7f;
        let from_tab = low + ONES * (0x80 - 0x09);
        let past_return = low + ONES * (0x7f - 0x0d);
        let space = ((from_tab & !past_return) | !not_space) & !x & HIGHS;
        // Gathers the high bits of all bytes in the top byte.
        mask |= ((space >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    mask
}

/// The plain version of [`space_mask`].
#[cfg(test)]
fn plain_space_mask(bytes: &[u8; 64]) -> u64 {
    bytes.iter().rev().fold(0, |mask, &byte| mask << 1 | u64::from(is_ascii_space(byte)))
}

#[cfg(test)]
fn is_ascii_space(byte: u8) -> bool {
    byte == b' ' || (0x09..=0x0d).contains(&byte)
}

/// Characters of scripts that are written without spaces: Han, Hiragana, Katakana, Thai, Lao, Khmer.
pub fn is_unspaced(c: char) -> bool {
    // Most characters of most texts end here.
    c >= '\u{e00}' && in_unspaced_blocks(u32::from(c))
}

fn in_unspaced_blocks(c: u32) -> bool {
    matches!(c,
        0x0e00..=0x0eff               // Thai, Lao
        | 0x1780..=0x17ff | 0x19e0..=0x19ff // Khmer and its symbols
        | 0x3005..=0x3007 | 0x3021..=0x3029 | 0x3038..=0x303b // Han marks and numerals
        | 0x3041..=0x30ff | 0x31f0..=0x31ff // Hiragana, Katakana
        | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff // Han
        | 0xff66..=0xff9f             // half-width Katakana
        | 0x1b000..=0x1b16f           // Kana supplements
        | 0x20000..=0x323af) // Han, supplementary planes
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Lower case of the eight ASCII bytes of `x`.
#[inline(always)]
fn lower_ascii(x: u64) -> u64 {
    let from_a = x + ONES * (0x80 - b'A' as u64);
    let past_z = x + ONES * (0x7f - b'Z' as u64);
    x | (((from_a & !past_z) & HIGHS) >> 2)
}

/// Masks that keep the first `n` bytes of a little-endian word.
const FIRST_BYTES: [u64; 9] = {
    let mut masks = [u64::MAX; 9];
    let mut n = 0;
    while n < 8 {
        masks[n] = (1 << (8 * n)) - 1;
        n += 1;
    }
    masks
};

/// [`hash_word`] of `bytes[start..end]`, without a branch on its length; `None` if it is longer than sixteen
/// bytes, not ASCII, or too near the end of the text to load sixteen bytes.
#[inline(always)]
fn short_ascii_word(bytes: &[u8], start: usize, end: usize, lower: bool) -> Option<u64> {
    let len = end - start;
    let window: &[u8; 16] = bytes.get(start..start + 16)?.try_into().ok()?;
    if len > 16 {
        return None;
    }
    let word = u128::from_le_bytes(*window);
    let first = word as u64 & FIRST_BYTES[len.min(8)];
    let second = (word >> 64) as u64 & FIRST_BYTES[len.saturating_sub(8)];
    if (first | second) & HIGHS != 0 {
        return None;
    }
    let (first, second) =
        if lower { (lower_ascii(first), lower_ascii(second)) } else { (first, second) };
    let one = step_word(WORD_SEED, first);
    let two = step_word(one, second);
    Some(finish_word(if len > 8 { two } else { one }, len))
}

/// [`hash_word`] of an ASCII word of any length.
fn ascii_word(word: &[u8], lower: bool) -> u64 {
    let mut hash = WORD_SEED;
    for chunk in word.chunks(8) {
        let x = match chunk.try_into() {
            Ok(whole) => u64::from_le_bytes(whole),
            Err(_) => chunk.iter().rev().fold(0, |x, &byte| x << 8 | u64::from(byte)),
        };
        hash = step_word(hash, if lower { lower_ascii(x) } else { x });
    }
    finish_word(hash, word.len())
}

#[inline(always)]
fn step_word(hash: u64, chunk: u64) -> u64 {
    fold_mul(hash ^ chunk, WORD_KEY)
}

#[inline(always)]
fn finish_word(hash: u64, len: usize) -> u64 {
    fold_mul(hash ^ len as u64, WORD_END)
}

/// Hash of one normalised word: eight bytes at a time, little-endian, the last chunk padded with zeros.
/// The plain version of the loop that short ASCII words take.
pub fn hash_word(word: &[u8]) -> u64 {
    let mut hash = WORD_SEED;
    for chunk in word.chunks(8) {
        let mut padded = [0u8; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        hash = step_word(hash, u64::from_le_bytes(padded));
    }
    finish_word(hash, word.len())
}

/// Characters of the text as its normaliser sees it, one hash each.
fn cut_chars(text: &str, normalizer: Normalizer, units: &mut Vec<u64>) {
    units.clear();
    let mut lower = String::new();
    let mut pending_space = false;
    for c in text.chars() {
        if normalizer.space && c.is_whitespace() {
            pending_space = !units.is_empty();
            continue;
        }
        if std::mem::take(&mut pending_space) {
            units.push(mix64(u64::from(' ')));
        }
        if normalizer.case {
            lower.clear();
            push_lower(c, &mut lower);
            units.extend(lower.chars().map(|c| mix64(u64::from(c))));
        } else {
            units.push(mix64(u64::from(c)));
        }
    }
}

/// Code tokens: identifiers and numbers as wholes, every other character but white space by itself.
fn cut_code(text: &str, lower: bool, units: &mut Vec<u64>) {
    units.clear();
    let mut token = String::new();
    let mut flush = |token: &mut String| {
        if !token.is_empty() {
            units.push(hash_word(token.as_bytes()));
            token.clear();
        }
    };
    for c in text.chars() {
        let in_name = c == '_' || c.is_alphanumeric();
        if !in_name {
            flush(&mut token);
        }
        if c.is_whitespace() {
            continue;
        }
        if lower {
            push_lower(c, &mut token)
        } else {
            token.push(c)
        }
        if !in_name {
            flush(&mut token);
        }
    }
    flush(&mut token);
}

/// Hash of a text whose white space counts.
fn hash_with_spaces(text: &str, lower: bool) -> u128 {
    if !lower {
        return xxh3_128_with_seed(text.as_bytes(), TEXT_SEED);
    }
    let mut lowered = String::with_capacity(text.len());
    text.chars().for_each(|c| push_lower(c, &mut lowered));
    xxh3_128_with_seed(lowered.as_bytes(), TEXT_SEED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification of word units, as plainly as it can be said.
    fn plain_words(text: &str) -> Vec<u64> {
        let mut words = Vec::new();
        for run in text.split(char::is_whitespace).filter(|run| !run.is_empty()) {
            let mut word = String::new();
            for c in run.chars() {
                if is_unspaced(c) {
                    words.push(std::mem::take(&mut word));
                    words.push(c.to_string());
                } else {
                    push_lower(c, &mut word);
                }
            }
            words.push(word);
        }
        words.iter().filter(|w| !w.is_empty()).map(|w| hash_word(w.as_bytes())).collect()
    }

    fn words(text: &str) -> Vec<u64> {
        let mut shingler = Shingler::new("word:5".parse().unwrap(), Normalizer::PROSE);
        shingler.read(text);
        shingler.units().to_vec()
    }

    #[test]
    fn the_fast_word_cutter_agrees_with_the_plain_one() {
        let pieces = [
            "a",
            "Zebra",
            "straße",
            " ",
            "\t",
            "\r\n",
            "\u{3000}",
            "日本語",
            "ΣΊΣΥΦΟΣ",
            "x1",
            "\u{1}",
            "é",
            "ภาษาไทย",
            "exactly8",
            "exactly-sixteen!",
            "\u{1c}",
            "\u{85}",
            "[@Z{",
            "0123456789abcdefXYZ",
        ];
        let mut state = 7;
        for round in 0..20_000u64 {
            let mut text = String::new();
            for _ in 0..round % 9 {
                state = mix64(state + 1);
                text.push_str(pieces[state as usize % pieces.len()]);
            }
            assert_eq!(words(&text), plain_words(&text), "{text:?}");
        }
    }

    #[test]
    fn the_space_mask_agrees_with_the_plain_one() {
        for start in 0..=255u8 {
            let bytes: [u8; 64] =
                std::array::from_fn(|i| start.wrapping_add((i as u8).wrapping_mul(5)));
            assert_eq!(space_mask(&bytes), plain_space_mask(&bytes));
        }
    }

    #[test]
    fn every_ascii_byte_is_lowered_like_char() {
        for byte in 0..128u8 {
            let x = u64::from(byte) * ONES;
            assert_eq!(lower_ascii(x), u64::from(byte.to_ascii_lowercase()) * ONES, "{byte}");
        }
    }

    fn set(kind: &str, text: &str) -> Vec<u64> {
        let kind: ShingleKind = kind.parse().unwrap();
        let steps = if kind.unit == Unit::Code { Normalizer::CODE } else { Normalizer::PROSE };
        let mut shingler = Shingler::new(kind, steps);
        shingler.read(text);
        shingler.sorted_set()
    }

    #[test]
    fn short_texts_have_one_shingle_and_empty_texts_none() {
        assert_eq!(set("word:5", "").len(), 0);
        assert_eq!(set("word:5", " \n\t").len(), 0);
        assert_eq!(set("word:5", "one two").len(), 1);
        assert_eq!(set("word:5", "a b c d e").len(), 1);
        assert_eq!(set("word:5", "a b c d e f").len(), 2);
        assert_ne!(set("word:5", "one two"), set("word:5", "two one"));
    }

    #[test]
    fn scripts_without_spaces_are_cut_by_character() {
        assert_eq!(set("word:5", "日本語の文章です").len(), 4);
        assert_eq!(set("word:5", "ภาษา").len(), 1);
    }

    #[test]
    fn rolling_equals_hashing_each_window_alone() {
        let units: Vec<u64> = (0..50).map(mix64).collect();
        for n in [1, 2, 5, 49, 50, 60] {
            let mut rolled = Vec::new();
            roll(&units, n, |hash| rolled.push(hash));
            let mut alone = Vec::new();
            units.windows(n.min(50)).for_each(|window| roll(window, n, |hash| alone.push(hash)));
            assert_eq!(rolled, alone, "n = {n}");
        }
    }

    #[test]
    fn the_text_hash_sees_what_the_normaliser_leaves() {
        let hash = |steps: &str, text: &str| {
            Shingler::new("word:5".parse().unwrap(), steps.parse().unwrap()).read(text)
        };
        assert_eq!(hash("case,space", "A b\r\nc"), hash("case,space", " a B c "));
        assert_ne!(hash("space", "A b"), hash("space", "a b"));
        assert_ne!(hash("case", "a  b"), hash("case", "a b"));
        assert_eq!(hash("none", "a b"), hash("none", "a b"));
        assert_ne!(hash("case,space", "日本 語"), hash("case,space", "日本語"));
        assert_ne!(hash("case,space", "ab"), hash("case,space", "a b"));
    }

    #[test]
    fn code_tokens_ignore_layout_and_keep_case() {
        assert_eq!(set("code:3", "if(x){y=1;}"), set("code:3", "if (x) {\n  y = 1;\n}"));
        assert_ne!(set("code:3", "Foo(bar)"), set("code:3", "foo(bar)"));
    }

    /// Recorded values: a change here breaks every stored index and needs a new family id.
    #[test]
    fn test_vectors_of_the_shingle_hash() {
        assert_eq!(hash_word(b"near"), 16_511_377_654_784_921_195);
        assert_eq!(set("word:5", "Finds what is near you."), [11_498_832_240_947_471_093u64]);
    }
}
