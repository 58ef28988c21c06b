//! Columns as bytes, and back: little-endian numbers, sets in Roaring's portable form, counts before what they count.
//!
//! Bytes that are read have passed their checksum, and are not believed all the same where a lie would end the process: a
//! count is compared with the bytes that are left before anything is allocated for it, and a column has only slots in
//! which its field has a value.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use crate::error::{Error, ErrorKind, Result};

/// Adds a count of things that are numbered by 32 bits, as slots and words are.
pub fn put_count(out: &mut Vec<u8>, n: usize) {
    let n = u32::try_from(n).expect("slots and words are numbered by 32 bits");
    out.extend(n.to_le_bytes());
}

/// Adds a set of slots.
pub fn put_set(out: &mut Vec<u8>, set: &RoaringBitmap) {
    out.reserve(set.serialized_size());
    set.serialize_into(out).expect("memory takes what is written to it");
}

/// Adds lists by slot, each with its count before what `put` makes of it.
pub fn put_lists<T>(
    out: &mut Vec<u8>,
    lists: &BTreeMap<u32, Box<[T]>>,
    put: impl Fn(&mut Vec<u8>, &[T]),
) {
    put_count(out, lists.len());
    for (slot, list) in lists {
        out.extend(slot.to_le_bytes());
        put_count(out, list.len());
        put(out, list);
    }
}

/// The slots whose values, one for each, are as `is_in` says.
pub fn set_of<T>(values: &[T], is_in: impl Fn(&T) -> bool) -> RoaringBitmap {
    let byte = |values: &[T]| {
        values.iter().rev().fold(0, |byte, value| byte << 1 | u8::from(is_in(value)))
    };
    let bits: Vec<u8> = values.chunks(8).map(byte).collect();
    RoaringBitmap::from_lsb0_bytes(0, &bits)
}

/// Takes what was put off the front of bytes.
#[derive(Debug)]
pub struct Reader<'b> {
    bytes: &'b [u8],
    rest: &'b [u8],
    slots: Option<&'b RoaringBitmap>,
}

impl<'b> Reader<'b> {
    /// Reads bytes with any slots.
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, rest: bytes, slots: None }
    }

    /// Reads bytes with no other slots than these.
    pub fn within(bytes: &'b [u8], slots: &'b RoaringBitmap) -> Self {
        Self { bytes, rest: bytes, slots: Some(slots) }
    }

    /// One past the greatest slot that there can be.
    pub fn n_slots(&self) -> usize {
        let greatest = self.slots.map_or(Some(u32::MAX), RoaringBitmap::max);
        greatest.map_or(0, |slot| slot as usize + 1)
    }

    /// An error of kind `Corrupt` that names the place.
    pub fn corrupt(&self, what: impl std::fmt::Display) -> Error {
        let at = self.bytes.len() - self.rest.len();
        let message = format!("at byte {at} of {}: {what}", self.bytes.len());
        Error::new(ErrorKind::Corrupt, "corrupt_file", message)
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// `corrupt_file` if fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'b [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(n) else {
            return Err(
                self.corrupt(format!("expected {n} more bytes, {} are left", self.rest.len()))
            );
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many bytes were taken"))
    }

    /// The next byte.
    ///
    /// # Errors
    /// As for [`Reader::take`].
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// The next 32-bit number.
    ///
    /// # Errors
    /// As for [`Reader::take`].
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next 64-bit number.
    ///
    /// # Errors
    /// As for [`Reader::take`].
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next float.
    ///
    /// # Errors
    /// As for [`Reader::take`]; `corrupt_file` if it is none of JSON's.
    pub fn f64(&mut self) -> Result<f64> {
        let float = f64::from_bits(self.u64()?);
        if !float.is_finite() {
            return Err(self.corrupt(format!("{float}, expected a finite float")));
        }
        Ok(float)
    }

    /// The next `n` 64-bit numbers with a sign.
    ///
    /// # Errors
    /// As for [`Reader::take`].
    pub fn i64s(&mut self, n: usize) -> Result<impl ExactSizeIterator<Item = i64> + use<'b>> {
        let n_bytes = n.checked_mul(8).ok_or_else(|| self.corrupt(format!("{n} numbers")))?;
        let (numbers, _) = self.take(n_bytes)?.as_chunks::<8>();
        Ok(numbers.iter().map(|&bytes| i64::from_le_bytes(bytes)))
    }

    /// A count of things of at least `least_bytes` each.
    ///
    /// # Errors
    /// `corrupt_file` if fewer bytes are left than so many take.
    pub fn count(&mut self, least_bytes: usize) -> Result<usize> {
        let n = self.u32()? as usize;
        if n > self.rest.len() / least_bytes {
            let what = format!("{n} of at least {least_bytes} bytes, {} are left", self.rest.len());
            return Err(self.corrupt(what));
        }
        Ok(n)
    }

    /// A text, behind its length.
    ///
    /// # Errors
    /// `corrupt_file` if it ends early or is no UTF-8.
    pub fn text(&mut self) -> Result<&'b str> {
        let n_bytes = self.count(1)?;
        let bytes = self.take(n_bytes)?;
        std::str::from_utf8(bytes).map_err(|error| self.corrupt(format!("a text, but {error}")))
    }

    /// The next slot.
    ///
    /// # Errors
    /// `corrupt_file` if it is another than the reader's.
    pub fn slot(&mut self) -> Result<u32> {
        let slot = self.u32()?;
        if self.slots.is_some_and(|slots| !slots.contains(slot)) {
            return Err(self.corrupt(format!("slot {slot}, which has no value")));
        }
        Ok(slot)
    }

    /// Lists by slot, of elements of at least `least_bytes` each, so many of which `take` takes.
    ///
    /// # Errors
    /// `corrupt_file` if slots do not ascend or are others than the reader's, or counts are not of what is there; those of `take`.
    pub fn lists<T>(
        &mut self,
        least_bytes: usize,
        take: impl Fn(&mut Self, usize) -> Result<Box<[T]>>,
    ) -> Result<BTreeMap<u32, Box<[T]>>> {
        let n_lists = self.count(2 * size_of::<u32>())?;
        let mut lists: Vec<(u32, Box<[T]>)> = Vec::with_capacity(n_lists);
        for _ in 0..n_lists {
            let slot = self.slot()?;
            if let Some((before, _)) = lists.last().filter(|(before, _)| slot <= *before) {
                return Err(self.corrupt(format!("slot {slot} behind {before}")));
            }
            let n = self.count(least_bytes)?;
            lists.push((slot, take(self, n)?));
        }
        Ok(lists.into_iter().collect())
    }

    /// A set of slots.
    ///
    /// # Errors
    /// `corrupt_file` if it is none, or has another slot than the reader's.
    pub fn set(&mut self) -> Result<RoaringBitmap> {
        let mut rest = self.rest;
        let set = RoaringBitmap::deserialize_from(&mut rest)
            .map_err(|error| self.corrupt(format!("expected a set of slots: {error}")))?;
        self.check(&set)?;
        self.rest = rest;
        Ok(set)
    }

    /// # Errors
    /// `corrupt_file` if a slot of the set is another than the reader's.
    pub fn check(&self, set: &RoaringBitmap) -> Result<()> {
        let Some(slots) = self.slots.filter(|slots| !set.is_subset(slots)) else { return Ok(()) };
        let others = set - slots;
        let what =
            format!("{} slots from {:?} on, which have no value", others.len(), others.min());
        Err(self.corrupt(what))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// `corrupt_file` if bytes are left.
    pub fn end(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.corrupt(format!("{} more bytes than expected", self.rest.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_taken_in_order_and_nothing_more() {
        let set: RoaringBitmap = [1, 5, 70_000].into_iter().collect();
        let mut out = Vec::new();
        put_set(&mut out, &set);
        put_count(&mut out, 3);
        out.extend("abc".as_bytes());
        out.extend([1_i64, -2].into_iter().flat_map(i64::to_le_bytes));
        out.extend(0.5_f64.to_le_bytes());
        let mut reader = Reader::within(&out, &set);
        assert_eq!(reader.set().unwrap(), set);
        assert_eq!(reader.text().unwrap(), "abc");
        assert_eq!(reader.i64s(2).unwrap().collect::<Vec<_>>(), [1, -2]);
        assert_eq!(reader.f64().unwrap(), 0.5);
        assert_eq!(reader.n_slots(), 70_001);
        reader.end().unwrap();
        assert_eq!(Reader::new(&out).end().unwrap_err().kind(), ErrorKind::Corrupt);
        let fewer: RoaringBitmap = [1, 70_000].into_iter().collect();
        let error = Reader::within(&out, &fewer).set().unwrap_err().to_string();
        assert!(error.ends_with("1 slots from Some(5) on, which have no value"), "{error}");
    }

    #[test]
    fn counts_past_the_bytes_that_are_there_are_refused() {
        let mut out = u32::MAX.to_le_bytes().to_vec();
        out.extend([7; 40]);
        let none = RoaringBitmap::new();
        let reader = || Reader::within(&out, &none);
        assert_eq!(reader().count(1).unwrap_err().code(), "corrupt_file");
        assert_eq!(reader().text().unwrap_err().code(), "corrupt_file");
        assert_eq!(reader().slot().unwrap_err().code(), "corrupt_file");
        assert!(reader().i64s(usize::MAX).is_err());
        assert!(reader().take(45).is_err());
        let error = Reader::new(&[2, 0, 0, 0, 0xc3, 0x28]).text().unwrap_err().to_string();
        assert!(error.starts_with("corrupt_file: at byte 6 of 6"), "{error}");
        assert!(Reader::new(&f64::NAN.to_le_bytes()).f64().is_err());
    }

    #[test]
    fn lists_are_read_back_and_their_slots_ascend() {
        let lists: BTreeMap<u32, Box<[u8]>> =
            [(3, [1, 2].into()), (7, [].into()), (8, [9].into())].into_iter().collect();
        let mut out = Vec::new();
        put_lists(&mut out, &lists, |out, list| out.extend(list));
        let read = |bytes: &[u8], slots: &[u32]| {
            let slots = slots.iter().copied().collect();
            Reader::within(bytes, &slots).lists(1, |reader, n| Ok(reader.take(n)?.into()))
        };
        assert_eq!(read(&out, &[3, 7, 8]).unwrap(), lists);
        assert!(read(&out, &[3, 7]).unwrap_err().to_string().contains("slot 8, which has no"));
        let at = out.len() - 9;
        assert_eq!(out[at], 8);
        out[at] = 7;
        assert!(read(&out, &[3, 7, 8]).unwrap_err().to_string().contains("slot 7 behind 7"));
    }

    #[test]
    fn a_set_of_flags_has_their_places() {
        for n in [0, 1, 8, 9, 100] {
            let flags: Vec<u32> = (0..n).map(|at| at % 3).collect();
            let expected: RoaringBitmap = (0..n).filter(|at| at % 3 == 2).collect();
            assert_eq!(set_of(&flags, |&flag| flag == 2), expected);
        }
    }
}
