//! Which bytes of a list are in a set or in a range of bytes, one bit each: what a filter asks of the cells of a column.
//!
//! A range is one comparison of all 64 bytes of a word. A set is a table of 16 rows, one for each lower half of a byte, with a bit for each upper half: a shuffle takes the rows of
//! 64 bytes, another one their bits.

use std::ops::RangeInclusive;

use crate::distance::Level;

/// Bytes that make one word of bits.
const WORD: usize = 64;

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteSet {
    /// By the lower half of a byte: the upper halves below 8, and those from 8 on.
    rows: [[u8; 16]; 2],
}

impl ByteSet {
    /// Adds a byte.
    pub fn insert(&mut self, byte: u8) {
        self.rows[usize::from(byte >> 7)][usize::from(byte & 15)] |= 1 << (byte >> 4 & 7);
    }

    /// Whether a byte is in the set.
    pub fn contains(&self, byte: u8) -> bool {
        self.rows[usize::from(byte >> 7)][usize::from(byte & 15)] >> (byte >> 4 & 7) & 1 == 1
    }

    /// Whether no byte is.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The bytes of a list that are in the set, the first in the lowest bit of the first word: `[bytes.len() / 64]`, rounded up.
///
/// # Panics
/// If this processor lacks the level.
pub fn members(level: Level, bytes: &[u8], set: &ByteSet) -> Vec<u64> {
    let mut words = vec![0; bytes.len().div_ceil(WORD)];
    let (whole, rest) = bytes.as_chunks::<WORD>();
    members_level(level, whole, set, &mut words);
    if let (Some(last), false) = (words.last_mut(), rest.is_empty()) {
        *last = word(rest, set);
    }
    words
}

/// The bytes of a list from the first of a range to its last, that one included: as [`members`] of a set of them, in less time.
///
/// # Panics
/// If this processor lacks the level.
pub fn between(level: Level, bytes: &[u8], range: &RangeInclusive<u8>) -> Vec<u64> {
    let mut words = vec![0; bytes.len().div_ceil(WORD)];
    if range.is_empty() {
        return words;
    }
    let (whole, rest) = bytes.as_chunks::<WORD>();
    let (first, more) = (*range.start(), range.end() - range.start());
    between_level(level, whole, (first, more), &mut words);
    if let (Some(last), false) = (words.last_mut(), rest.is_empty()) {
        *last = word_between(rest, (first, more));
    }
    words
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn between_level(level: Level, bytes: &[[u8; WORD]], range: (u8, u8), words: &mut [u64]) {
    assert!(level <= Level::best(), "{level:?} is not available here");
    match level {
        Level::Baseline => between_plain(bytes, range, words),
        // SAFETY: this processor has the level, as was asked above.
        Level::Avx2 => unsafe { x86::between_avx2(bytes, range, words) },
        // SAFETY: as above.
        Level::Avx512 | Level::Avx512Vnni => unsafe { x86::between_avx512(bytes, range, words) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn between_level(_: Level, bytes: &[[u8; WORD]], range: (u8, u8), words: &mut [u64]) {
    between_plain(bytes, range, words);
}

fn between_plain(bytes: &[[u8; WORD]], range: (u8, u8), words: &mut [u64]) {
    words.iter_mut().zip(bytes).for_each(|(out, bytes)| *out = word_between(bytes, range));
}

fn word_between(bytes: &[u8], (first, more): (u8, u8)) -> u64 {
    let is_in = |byte: u8| byte.wrapping_sub(first) <= more;
    bytes.iter().rev().fold(0, |word, &byte| word << 1 | u64::from(is_in(byte)))
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn members_level(level: Level, bytes: &[[u8; WORD]], set: &ByteSet, words: &mut [u64]) {
    assert!(level <= Level::best(), "{level:?} is not available here");
    match level {
        Level::Baseline => members_plain(bytes, set, words),
        // SAFETY: this processor has the level, as was asked above.
        Level::Avx2 => unsafe { x86::members_avx2(bytes, set, words) },
        // SAFETY: as above.
        Level::Avx512 | Level::Avx512Vnni => unsafe { x86::members_avx512(bytes, set, words) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn members_level(_: Level, bytes: &[[u8; WORD]], set: &ByteSet, words: &mut [u64]) {
    members_plain(bytes, set, words);
}

fn members_plain(bytes: &[[u8; WORD]], set: &ByteSet, words: &mut [u64]) {
    words.iter_mut().zip(bytes).for_each(|(out, bytes)| *out = word(bytes, set));
}

fn word(bytes: &[u8], set: &ByteSet) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 1 | u64::from(set.contains(byte)))
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{ByteSet, WORD};

    /// The bit of each upper half, below 8 and from 8 on.
    const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

    /// # Safety
    /// The processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn members_avx2(bytes: &[[u8; WORD]], set: &ByteSet, words: &mut [u64]) {
        let table = |row: &[u8; 16]| {
            // SAFETY: the row has 16 bytes.
            _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(row.as_ptr().cast()) })
        };
        let (low, high, bits) = (table(&set.rows[0]), table(&set.rows[1]), table(&BITS));
        let (half, top) = (_mm256_set1_epi8(15), _mm256_set1_epi8(-128));
        for (out, bytes) in words.iter_mut().zip(bytes) {
            *out = 0;
            for (n, part) in bytes.as_chunks::<32>().0.iter().enumerate() {
                // SAFETY: the part has 32 bytes.
                let part = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
                // A byte from 128 on takes nothing from the first table, and one below nothing from the second.
                let row = _mm256_or_si256(
                    _mm256_shuffle_epi8(low, part),
                    _mm256_shuffle_epi8(high, _mm256_xor_si256(part, top)),
                );
                let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(part), half);
                let bit = _mm256_shuffle_epi8(bits, upper);
                let is_in = _mm256_cmpeq_epi8(_mm256_and_si256(row, bit), bit);
                *out |= u64::from(_mm256_movemask_epi8(is_in) as u32) << (32 * n);
            }
        }
    }

    /// # Safety
    /// The processor has AVX-512 F and BW.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn members_avx512(bytes: &[[u8; WORD]], set: &ByteSet, words: &mut [u64]) {
        let table = |row: &[u8; 16]| {
            // SAFETY: the row has 16 bytes.
            _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(row.as_ptr().cast()) })
        };
        let (low, high, bits) = (table(&set.rows[0]), table(&set.rows[1]), table(&BITS));
        let (half, top) = (_mm512_set1_epi8(15), _mm512_set1_epi8(-128));
        for (out, bytes) in words.iter_mut().zip(bytes) {
            // SAFETY: there are 64 bytes.
            let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            let row = _mm512_or_si512(
                _mm512_shuffle_epi8(low, bytes),
                _mm512_shuffle_epi8(high, _mm512_xor_si512(bytes, top)),
            );
            let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), half);
            *out = _mm512_test_epi8_mask(row, _mm512_shuffle_epi8(bits, upper));
        }
    }

    /// # Safety
    /// The processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn between_avx2(
        bytes: &[[u8; WORD]],
        (first, more): (u8, u8),
        words: &mut [u64],
    ) {
        let (first, more) = (_mm256_set1_epi8(first as i8), _mm256_set1_epi8(more as i8));
        for (out, bytes) in words.iter_mut().zip(bytes) {
            *out = 0;
            for (n, part) in bytes.as_chunks::<32>().0.iter().enumerate() {
                // SAFETY: the part has 32 bytes.
                let part = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
                let above = _mm256_sub_epi8(part, first);
                let is_in = _mm256_cmpeq_epi8(_mm256_min_epu8(above, more), above);
                *out |= u64::from(_mm256_movemask_epi8(is_in) as u32) << (32 * n);
            }
        }
    }

    /// # Safety
    /// The processor has AVX-512 F and BW.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn between_avx512(
        bytes: &[[u8; WORD]],
        (first, more): (u8, u8),
        words: &mut [u64],
    ) {
        let (first, more) = (_mm512_set1_epi8(first as i8), _mm512_set1_epi8(more as i8));
        for (out, bytes) in words.iter_mut().zip(bytes) {
            // SAFETY: there are 64 bytes.
            let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            *out = _mm512_cmple_epu8_mask(_mm512_sub_epi8(bytes, first), more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    #[test]
    fn every_level_finds_the_bytes_of_the_set() {
        for n in [0, 1, 63, 64, 65, 256, 1000] {
            let bytes: Vec<u8> = (0..n).map(|i| stream(1, i) as u8).collect();
            for seed in 0..20 {
                let mut set = ByteSet::default();
                let n_of = stream(seed, 0) % 200;
                (0..n_of).for_each(|i| set.insert(stream(seed, 1 + i) as u8));
                let plain = |word: usize| {
                    let bytes = bytes[64 * word..].iter().take(64).enumerate();
                    bytes.fold(0u64, |out, (i, &byte)| out | u64::from(set.contains(byte)) << i)
                };
                let expected: Vec<u64> = (0..bytes.len().div_ceil(64)).map(plain).collect();
                for level in Level::available() {
                    assert_eq!(members(level, &bytes, &set), expected, "{level:?}, {n} bytes");
                }
            }
        }
    }

    #[test]
    fn every_level_finds_the_bytes_of_a_range() {
        let bytes: Vec<u8> = (0..1000).map(|i| stream(1, i) as u8).collect();
        let ends = [(0, 0), (0, 255), (255, 255), (1, 127), (100, 200), (128, 129), (9, 3)];
        for (first, last) in ends {
            let range = first..=last;
            for n in [0, 1, 63, 64, 65, 256, 1000] {
                let mut set = ByteSet::default();
                range.clone().for_each(|byte| set.insert(byte));
                let expected = members(Level::Baseline, &bytes[..n], &set);
                for level in Level::available() {
                    let found = between(level, &bytes[..n], &range);
                    assert_eq!(found, expected, "{level:?}, {range:?} of {n} bytes");
                }
            }
        }
    }

    #[test]
    fn a_set_has_what_was_put_into_it() {
        for byte in 0..=u8::MAX {
            let mut set = ByteSet::default();
            assert!(set.is_empty());
            set.insert(byte);
            assert!(!set.is_empty());
            assert!((0..=u8::MAX).all(|other| set.contains(other) == (other == byte)));
        }
    }
}
