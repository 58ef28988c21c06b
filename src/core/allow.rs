//! Which rows a search may return.

use std::ops::Range;

use crate::core::bits::Bits;

/// A set of slots, exact.
#[derive(Clone, Copy, Debug)]
pub enum Allow<'a> {
    /// Every row.
    All,
    /// The rows whose bit is set.
    Bits(&'a Bits),
    /// The rows of these ranges, ascending and apart.
    Ranges(&'a [Range<u32>]),
}

impl Allow<'_> {
    /// Whether `slot` is in the set.
    pub fn contains(&self, slot: u32) -> bool {
        match self {
            Self::All => true,
            Self::Bits(bits) => bits.contains(slot),
            Self::Ranges(ranges) => {
                let after = ranges.partition_point(|range| range.start <= slot);
                after > 0 && ranges[after - 1].contains(&slot)
            }
        }
    }

    /// How many of the first `n_rows` slots are in the set.
    pub fn count(&self, n_rows: u32) -> u64 {
        match self {
            Self::All => u64::from(n_rows),
            Self::Bits(bits) => bits.count(),
            Self::Ranges(ranges) => {
                ranges.iter().map(|range| u64::from(range.end - range.start)).sum()
            }
        }
    }

    /// The slots of one range, counted from its start.
    pub fn part(&self, range: Range<u32>) -> Bits {
        let mut bits = Bits::new(range.end - range.start);
        for slot in range.clone().filter(|&slot| self.contains(slot)) {
            bits.insert(slot - range.start);
        }
        bits
    }

    /// The set as one bit per row, 64 to a word, for devices.
    pub fn words(&self, n_rows: u32) -> Vec<u64> {
        let n_words = (n_rows as usize).div_ceil(64);
        if let Self::Bits(bits) = self {
            return bits.words()[..n_words].to_vec();
        }
        let mut words = vec![0; n_words];
        for slot in (0..n_rows).filter(|&slot| self.contains(slot)) {
            words[slot as usize / 64] |= 1 << (slot % 64);
        }
        words
    }
}
