//! Columns as bytes, and back: little-endian numbers, sets in Roaring's portable form, counts before what they count.
//!
//! Bytes that are read have passed their checksum, and are not believed all the same where a lie would end the process: a
//! count is compared with the bytes that are left before anything is allocated for it, and a column has only slots in
//! which its field has a value.

use std::collections::BTreeMap;

use bytemuck::Pod;
use roaring::RoaringBitmap;

use crate::core::slab::{Memory, Slab};
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

/// What elements that are lent from a section lie at a multiple of.
const ALIGN: usize = 64;

/// Adds elements, for [`Reader::slab`] to lend; `out` has all of the section up to here.
pub fn put_slab<T: Pod>(out: &mut Vec<u8>, elements: &[T]) {
    const { assert!(cfg!(target_endian = "little"), "files are little-endian") };
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    out.extend_from_slice(bytemuck::cast_slice(elements));
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

/// The slots whose byte is not 0: as [`set_of`], eight at once.
pub fn set_of_bytes(bytes: &[u8]) -> RoaringBitmap {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let eight = |bytes: [u8; 8]| {
        let bytes = u64::from_le_bytes(bytes);
        let marks = ((((bytes & LOW) + LOW) | bytes) >> 7) & 0x0101_0101_0101_0101;
        (marks.wrapping_mul(GATHER) >> 56) as u8
    };
    let (whole, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let bits: Vec<u8> = whole.iter().copied().chain([last]).map(eight).collect();
    RoaringBitmap::from_lsb0_bytes(0, &bits)
}

/// Takes what was put off the front of bytes.
pub struct Reader<'b> {
    bytes: &'b [u8],
    rest: &'b [u8],
    slots: Option<&'b RoaringBitmap>,
    /// Whether these are all slots up to the last.
    is_all: bool,
    /// What the bytes lie in, and where they begin.
    memory: Option<(&'b Memory, usize)>,
}

impl<'b> Reader<'b> {
    /// Reads bytes with any slots.
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, rest: bytes, slots: None, is_all: false, memory: None }
    }

    /// Reads bytes with no other slots than these.
    pub fn within(bytes: &'b [u8], slots: &'b RoaringBitmap) -> Self {
        let is_all = slots.max().is_some_and(|last| slots.len() == u64::from(last) + 1);
        Self { slots: Some(slots), is_all, ..Self::new(bytes) }
    }

    /// Reads bytes that lie in `memory` from `start` on, which lends what is asked for as a slab.
    pub fn lending(self, memory: &'b Memory, start: usize) -> Self {
        Self { memory: Some((memory, start)), ..self }
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

    /// The next `n` elements, which stay where they lie: at a multiple of 64 bytes.
    ///
    /// # Errors
    /// `corrupt_file` if fewer bytes are left.
    pub fn slab<T: Pod>(&mut self, n: usize) -> Result<Slab<T>> {
        let (memory, start) = self.memory.expect("columns are read from memory that lends");
        let at = |reader: &Self| start + reader.bytes.len() - reader.rest.len();
        let first = at(self).next_multiple_of(ALIGN);
        self.take(first - at(self))?;
        let n_bytes = n.checked_mul(size_of::<T>());
        self.take(n_bytes.ok_or_else(|| self.corrupt(format!("{n} elements")))?)?;
        Slab::lent(memory, first..at(self)).map_err(|error| self.corrupt(error))
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

    /// Fails unless these slots ascend, and are the reader's.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn check_run(&self, run: &[u32]) -> Result<()> {
        let has_all = match self.slots {
            None => true,
            // Runs ascend: where all slots up to one have a value, those before it need no look.
            Some(slots) if self.is_all => run.last().is_none_or(|&last| slots.contains(last)),
            Some(slots) => run.iter().all(|&slot| slots.contains(slot)),
        };
        if has_all && run.is_sorted_by(|a, b| a < b) {
            return Ok(());
        }
        Err(self.corrupt("slots that are not in order, or have no value"))
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
    use crate::store::mapped::Mapped;
    use std::sync::Arc;

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
    fn slabs_are_lent_from_where_they_were_put() {
        let mut out = vec![1, 2, 3];
        put_slab(&mut out, &[7u32, 8, 9]);
        put_slab(&mut out, &[-1i64, i64::MIN]);
        out.push(5);
        // Behind what another part of the section has.
        let before = [0u8; 128];
        let memory: Memory = Arc::new(Mapped::of_bytes(&[&before, &out[..]].concat()));
        let slots = RoaringBitmap::new();
        let mut reader = Reader::within(&memory[128..], &slots).lending(&memory, 128);
        reader.take(3).unwrap();
        let (words, longs) = (reader.slab::<u32>(3).unwrap(), reader.slab::<i64>(2).unwrap());
        assert_eq!((&words[..], &longs[..]), (&[7, 8, 9][..], &[-1, i64::MIN][..]));
        assert!(words.is_lent() && longs.is_lent());
        assert_eq!(reader.u8().unwrap(), 5);
        assert_eq!(reader.slab::<u8>(1).unwrap_err().code(), "corrupt_file");
        assert_eq!(reader.slab::<u64>(usize::MAX).unwrap_err().code(), "corrupt_file");
    }

    #[test]
    fn runs_ascend_and_have_values() {
        let slots: RoaringBitmap = (0..100).chain([200, 300]).collect();
        let reader = Reader::within(&[], &slots);
        for good in [&[][..], &[0], &[5, 9, 99], &[5, 200, 300]] {
            reader.check_run(good).unwrap();
        }
        let all = (0..100).collect();
        Reader::within(&[], &all).check_run(&[5, 99]).unwrap();
        assert!(Reader::within(&[], &all).check_run(&[5, 100]).is_err());
        for bad in [&[9, 5][..], &[5, 5], &[5, 100], &[5, 250, 300], &[300, 200]] {
            assert_eq!(reader.check_run(bad).unwrap_err().code(), "corrupt_file", "{bad:?}");
        }
    }

    #[test]
    fn a_set_of_flags_has_their_places() {
        for n in 0..100 {
            let bytes: Vec<u8> = (0..n).map(|at| [0, 1, 0x80, 0xff, 0][at % 5]).collect();
            assert_eq!(set_of_bytes(&bytes), set_of(&bytes, |&byte| byte > 0), "{n}");
        }
        for n in [0, 1, 8, 9, 100] {
            let flags: Vec<u32> = (0..n).map(|at| at % 3).collect();
            let expected: RoaringBitmap = (0..n).filter(|at| at % 3 == 2).collect();
            assert_eq!(set_of(&flags, |&flag| flag == 2), expected);
        }
    }
}
