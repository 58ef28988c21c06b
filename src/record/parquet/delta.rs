//! Counts inside a decoded page, checked before the decoder reserves memory for them.

use parquet::basic::{Encoding, Type};
use parquet::column::page::Page;
use parquet::schema::types::ColumnDescriptor;

use super::guard::Fault;
use crate::core::limits::{EXPANSION_FLOOR_BYTES, EXPANSION_RATIO};

/// Largest dictionary: the decoder keeps an object for every entry.
const DICTIONARY_VALUES: u32 = 1 << 24;

/// Checks one page of `column`.
pub(super) fn check_page(page: &Page, column: &ColumnDescriptor) -> Result<(), Fault> {
    let n_values = page.num_values();
    let (buf, start) = match page {
        Page::DictionaryPage { buf, .. } => return check_dictionary(buf, n_values, column),
        Page::DataPage { buf, def_level_encoding, rep_level_encoding, .. } => {
            let levels = [
                (column.max_rep_level(), *rep_level_encoding),
                (column.max_def_level(), *def_level_encoding),
            ];
            (buf, values_start(buf, n_values, levels)?)
        }
        Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
            (buf, (def_levels_byte_len + rep_levels_byte_len) as usize)
        }
    };
    let values = buf.get(start..).ok_or_else(short)?;
    match page.encoding() {
        Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY => {
            Block::open(values, n_values).map(|_| ())
        }
        Encoding::DELTA_BYTE_ARRAY => check_prefixes(values, n_values),
        _ => Ok(()),
    }
}

fn short() -> Fault {
    Fault::corrupt("a page ends inside its values")
}

fn check_dictionary(buf: &[u8], n_values: u32, column: &ColumnDescriptor) -> Result<(), Fault> {
    let value_bytes = match column.physical_type() {
        Type::BOOLEAN => return Err(Fault::corrupt("a dictionary of booleans")),
        Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 => 12,
        Type::FIXED_LEN_BYTE_ARRAY => column.type_length().max(0) as u64,
    };
    if n_values > DICTIONARY_VALUES || u64::from(n_values) * value_bytes > buf.len() as u64 {
        let message = format!("a dictionary of {n_values} values in {} bytes", buf.len());
        return Err(Fault::Corrupt(message));
    }
    Ok(())
}

/// Where the values of a page of version 1 start: after repetition and definition levels.
fn values_start(buf: &[u8], n_values: u32, levels: [(i16, Encoding); 2]) -> Result<usize, Fault> {
    let mut at = 0_usize;
    for (max_level, encoding) in levels.into_iter().filter(|&(max_level, _)| max_level > 0) {
        let bytes = if encoding == Encoding::RLE {
            let len = buf.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or_else(short)?;
            4 + u64::from(u32::from_le_bytes(*len))
        } else {
            // Bit-packed, the only other one; the decoder refuses what it does not know.
            let bits = u64::from(16 - (max_level as u16).leading_zeros());
            (u64::from(n_values) * bits).div_ceil(8)
        };
        at = at.checked_add(bytes as usize).ok_or_else(short)?;
    }
    Ok(at)
}

/// Prefix lengths, then suffix lengths. Every value may repeat the one before it, so that a page
/// can stand for the square of its bytes.
fn check_prefixes(values: &[u8], n_values: u32) -> Result<(), Fault> {
    let (prefix_bytes, end) = Block::open(values, n_values)?.sum()?;
    let suffixes = values.get(end..).ok_or_else(short)?;
    let (suffix_bytes, _) = Block::open(suffixes, n_values)?.sum()?;
    let limit = EXPANSION_FLOOR_BYTES.max(values.len() as u64 * EXPANSION_RATIO);
    if prefix_bytes.saturating_add(suffix_bytes) > limit {
        let message = format!(
            "a page of {} bytes with shared prefixes stands for {} bytes, limit x{EXPANSION_RATIO}",
            values.len(),
            prefix_bytes.saturating_add(suffix_bytes)
        );
        return Err(Fault::Expansion(message));
    }
    Ok(())
}

/// A run of integers in the encoding DELTA_BINARY_PACKED.
struct Block<'a> {
    bytes: &'a [u8],
    at: usize,
    n_mini_blocks: usize,
    mini_block_values: usize,
    n_values: usize,
    first: i64,
}

impl<'a> Block<'a> {
    fn open(bytes: &'a [u8], max_values: u32) -> Result<Self, Fault> {
        let mut block =
            Self { bytes, at: 0, n_mini_blocks: 0, mini_block_values: 0, n_values: 0, first: 0 };
        let block_values = block.varint()?;
        let n_mini_blocks = block.varint()?;
        let n_values = block.varint()?;
        block.first = block.zigzag()?;
        if n_values > u64::from(max_values) {
            let message = format!("{n_values} values in a page of {max_values}");
            return Err(Fault::Corrupt(message));
        }
        if n_mini_blocks == 0
            || block_values > u64::from(u32::MAX)
            || !block_values.is_multiple_of(n_mini_blocks)
        {
            return Err(Fault::corrupt("blocks of a page do not divide into their parts"));
        }
        block.n_mini_blocks = n_mini_blocks as usize;
        block.mini_block_values = (block_values / n_mini_blocks) as usize;
        block.n_values = n_values as usize;
        Ok(block)
    }

    /// Sum of the values, those below 0 counting 0, and the byte after the last.
    fn sum(mut self) -> Result<(u64, usize), Fault> {
        let mut left = self.n_values;
        let mut value = self.first as i32;
        let mut sum = 0;
        if left > 0 {
            sum = u64::from(value.max(0).unsigned_abs());
            left -= 1;
        }
        while left > 0 {
            if self.mini_block_values == 0 {
                return Err(Fault::corrupt("blocks of no values"));
            }
            let min_delta = self.zigzag()? as i32;
            let end = self.at + self.n_mini_blocks;
            let widths = self.bytes.get(self.at..end).ok_or_else(short)?;
            self.at = end;
            for &width in widths {
                let n = left.min(self.mini_block_values);
                if n == 0 {
                    break;
                }
                sum += self.mini_block(usize::from(width), n, min_delta, &mut value)?;
                left -= n;
            }
        }
        Ok((sum, self.at))
    }

    fn mini_block(
        &mut self,
        width: usize,
        n: usize,
        min_delta: i32,
        value: &mut i32,
    ) -> Result<u64, Fault> {
        if width > 32 {
            return Err(Fault::corrupt("lengths of more than 32 bits"));
        }
        let packed = self.bytes.get(self.at..).ok_or_else(short)?;
        if packed.len() < (n * width).div_ceil(8) {
            return Err(short());
        }
        let mut sum = 0;
        for at in 0..n {
            let delta = bits(packed, at * width, width) as i32;
            *value = value.wrapping_add(min_delta).wrapping_add(delta);
            sum += u64::from((*value).max(0).unsigned_abs());
        }
        self.at += self.mini_block_values * width / 8;
        Ok(sum)
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(short)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault::corrupt("an integer of more than 64 bits"))
    }

    fn zigzag(&mut self) -> Result<i64, Fault> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

/// `width` bits from bit `at`, lowest first; up to 32.
fn bits(bytes: &[u8], at: usize, width: usize) -> u64 {
    let mut word = [0; 8];
    let rest = &bytes[(at / 8).min(bytes.len())..];
    let n = rest.len().min(8);
    word[..n].copy_from_slice(&rest[..n]);
    (u64::from_le_bytes(word) >> (at % 8)) & ((1 << width) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One block of 128 values in 4 parts, of which `n` count, every delta being `delta` in `width`
    /// bits.
    fn packed(n: u8, first: u8, width: u8) -> Vec<u8> {
        let mut bytes = vec![0x80, 0x01, 4, n, first * 2, 0, width, width, width, width];
        bytes.resize(bytes.len() + 128 * usize::from(width) / 8, 0xff);
        bytes
    }

    #[test]
    fn sums_what_is_packed() {
        let bytes = packed(5, 3, 2);
        let (sum, end) = Block::open(&bytes, 5).unwrap().sum().unwrap();
        assert_eq!(sum, 3 + 6 + 9 + 12 + 15);
        assert_eq!(end, 10 + 32 * 2 / 8, "only the first part of the block holds values");
    }

    #[test]
    fn refuses_counts_that_the_page_does_not_have() {
        let mut bytes = packed(5, 3, 2);
        assert!(Block::open(&bytes, 4).is_err());
        bytes.splice(3..4, [0xff, 0xff, 0xff, 0xff, 0xff, 0x3f]);
        assert_eq!(Block::open(&bytes, 5).err().map(|fault| fault.code()), Some("parquet_corrupt"));
    }

    #[test]
    fn refuses_prefixes_that_stand_for_too_much() {
        let mut page = packed(100, 0, 32);
        // Deltas of 0x1000000 each: the hundredth prefix alone is over the limit.
        let end = page.len();
        for delta in page[10..end].chunks_exact_mut(4) {
            delta.copy_from_slice(&(1_u32 << 24).to_le_bytes());
        }
        page.extend(packed(100, 0, 0));
        assert_eq!(check_prefixes(&page, 100).unwrap_err().code(), "expansion");
    }

    #[test]
    fn damaged_blocks_end_in_a_fault_or_a_sum() {
        let good = packed(100, 1, 7);
        for at in 0..good.len().min(40) {
            for byte in 0..=255 {
                let mut bytes = good.clone();
                bytes[at] = byte;
                let _ = Block::open(&bytes, 128).and_then(Block::sum);
                let _ = Block::open(&bytes[..at], 128).and_then(Block::sum);
            }
        }
    }
}
