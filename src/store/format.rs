//! Layout of sealed files, as drawn in docs/file-format.md: numbers are little-endian, sections start at multiples of 64
//! bytes.

use std::path::Path;

use bytemuck::Pod;
use half::f16;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::core::limits;
use crate::core::mix;
use crate::error::{Error, ErrorKind, Result};

/// The version that is written; older ones are read as long as there are any.
pub(super) const FORMAT: u32 = 1;

pub(super) const MAGIC: [u8; 8] = *b"nearkin\x8b";

/// What sections start at a multiple of: a cache line, and the widest register.
pub(super) const ALIGN: u64 = 64;

/// Bytes before the table of sections.
pub(super) const PREAMBLE_BYTES: usize = 64;

const KIND_BYTES: usize = 16;
const NAME_BYTES: usize = 32;
const SECTION_BYTES: usize = 128;
const CHECKSUM_BYTES: usize = 8;
const DIMS: usize = 4;

/// What a sealed file is, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'k> {
    /// What the file holds, at most 16 bytes: `graph`, `rows`.
    pub kind: &'k str,
    /// The collection it belongs to.
    pub owner: u64,
    /// The data version of the record from which it was made.
    pub version: u64,
}

/// Type of the elements of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Bytes.
    U8 = 1,
    /// Signed bytes.
    I8 = 2,
    /// 32-bit numbers.
    U32 = 3,
    /// 64-bit numbers.
    U64 = 4,
    /// 16-bit floats.
    F16 = 5,
    /// 32-bit floats.
    F32 = 6,
}

impl Element {
    fn from_tag(tag: u32) -> Option<Self> {
        [Self::U8, Self::I8, Self::U32, Self::U64, Self::F16, Self::F32]
            .into_iter()
            .find(|element| *element as u32 == tag)
    }

    fn bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::F16 => 2,
            Self::U32 | Self::F32 => 4,
            Self::U64 => 8,
        }
    }
}

/// A type that sections are made of.
pub trait Value: Pod {
    /// Its name in the file.
    const ELEMENT: Element;
}

impl Value for u8 {
    const ELEMENT: Element = Element::U8;
}

impl Value for i8 {
    const ELEMENT: Element = Element::I8;
}

impl Value for u32 {
    const ELEMENT: Element = Element::U32;
}

impl Value for u64 {
    const ELEMENT: Element = Element::U64;
}

impl Value for f16 {
    const ELEMENT: Element = Element::F16;
}

impl Value for f32 {
    const ELEMENT: Element = Element::F32;
}

/// One run of equal elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, at most 32 bytes.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// One to four sizes; their product is the number of elements.
    pub shape: Vec<u64>,
    /// Where it starts.
    pub offset: u64,
    /// Its bytes, without the zeros up to the next section.
    pub n_bytes: u64,
    pub(super) checksum: u64,
}

impl Section {
    /// A section that starts at `offset`, or what is wrong with it.
    pub(super) fn new(
        name: &str,
        element: Element,
        shape: &[u64],
        offset: u64,
    ) -> Result<Self, String> {
        if name.is_empty() || name.len() > NAME_BYTES || name.contains('\0') {
            return Err(format!("section name {name:?}, expected 1 to {NAME_BYTES} bytes, none 0"));
        }
        if shape.is_empty() || shape.len() > DIMS {
            return Err(format!("{} sizes of section {name:?}, expected 1 to {DIMS}", shape.len()));
        }
        let n_bytes = shape.iter().try_fold(element.bytes(), |all, &size| all.checked_mul(size));
        let n_bytes = n_bytes.filter(|&n| offset.checked_add(n).is_some_and(|end| end < 1 << 62));
        let Some(n_bytes) = n_bytes else {
            return Err(format!("section {name:?} of shape {shape:?} is larger than any file"));
        };
        let shape = shape.to_vec();
        Ok(Self { name: name.to_owned(), element, shape, offset, n_bytes, checksum: 0 })
    }

    /// Where the next section starts.
    pub(super) fn end(&self) -> u64 {
        (self.offset + self.n_bytes).next_multiple_of(ALIGN)
    }
}

/// The head of a sealed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: String,
    pub(super) owner: u64,
    pub(super) version: u64,
    pub(super) sections: Vec<Section>,
}

/// Bytes of the head of a file of so many sections.
pub(super) fn header_bytes(n_sections: usize) -> u64 {
    let n_bytes = PREAMBLE_BYTES + n_sections * SECTION_BYTES + CHECKSUM_BYTES;
    (n_bytes as u64).next_multiple_of(ALIGN)
}

/// A hash of a section's bytes, which is another one for the same bytes elsewhere.
pub(super) fn section_hash(owner: u64, version: u64, offset: u64) -> Xxh3 {
    Xxh3::with_seed(mix::mix64(mix::mix64(owner ^ mix::mix64(version)) ^ offset))
}

/// Checks the kind of a file to be written.
pub(super) fn check_kind(kind: &str) -> Result<(), String> {
    if kind.is_empty() || kind.len() > KIND_BYTES || kind.contains('\0') {
        return Err(format!("kind {kind:?}, expected 1 to {KIND_BYTES} bytes, none 0"));
    }
    Ok(())
}

impl Header {
    /// Length of the file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.sections.last().map_or(header_bytes(0), Section::end)
    }

    /// The head as it lies in the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let n_bytes = header_bytes(self.sections.len());
        let mut out = Vec::with_capacity(n_bytes as usize);
        out.extend(MAGIC);
        out.extend(FORMAT.to_le_bytes());
        out.extend((self.sections.len() as u32).to_le_bytes());
        put_text(&mut out, &self.kind, KIND_BYTES);
        for number in [self.owner, self.version, n_bytes, self.file_bytes()] {
            out.extend(number.to_le_bytes());
        }
        for section in &self.sections {
            put_text(&mut out, &section.name, NAME_BYTES);
            out.extend((section.element as u32).to_le_bytes());
            out.extend((section.shape.len() as u32).to_le_bytes());
            for dim in 0..DIMS {
                out.extend(section.shape.get(dim).copied().unwrap_or(0).to_le_bytes());
            }
            for number in [section.offset, section.n_bytes, section.checksum, 0, 0, 0, 0] {
                out.extend(number.to_le_bytes());
            }
        }
        out.resize(n_bytes as usize - CHECKSUM_BYTES, 0);
        let checksum = xxh3_64(&out);
        out.extend(checksum.to_le_bytes());
        out
    }

    /// Bytes of the head whose first [`PREAMBLE_BYTES`] are given, of a file of `file_bytes`.
    ///
    /// # Errors
    /// `corrupt_file`; `format_newer` for what a later build has written.
    pub(super) fn measure(preamble: &[u8], file_bytes: u64, path: &Path) -> Result<usize> {
        let broken = |offset, what: String| Err(Error::corrupt(path, offset, what));
        if preamble.len() < PREAMBLE_BYTES {
            let what = format!("{} bytes, expected at least {PREAMBLE_BYTES}", preamble.len());
            return broken(preamble.len() as u64, what);
        }
        let mut at = Reader(preamble);
        if at.take(8) != MAGIC {
            return broken(0, "this is no sealed file of nearkin".to_owned());
        }
        match at.u32() {
            FORMAT => {}
            found if found > FORMAT => {
                let message = format!(
                    "{} has format {found}, this build reads up to {FORMAT}",
                    path.display()
                );
                return Err(Error::new(ErrorKind::Corrupt, "format_newer", message));
            }
            found => return broken(8, format!("format {found}, expected 1 to {FORMAT}")),
        }
        let n_sections = at.u32() as usize;
        if n_sections > limits::SECTIONS {
            let what = format!("{n_sections} sections, expected at most {}", limits::SECTIONS);
            return broken(12, what);
        }
        at.take(KIND_BYTES + 16);
        let (head, file) = (at.u64(), at.u64());
        if head != header_bytes(n_sections) {
            let what = format!("a header of {head} bytes for {n_sections} sections");
            return broken(48, what);
        }
        if file != file_bytes {
            let what = format!("{file} bytes were written, {file_bytes} are there");
            return broken(file.min(file_bytes), what);
        }
        if head > file_bytes {
            return broken(file_bytes, format!("the file ends in its header of {head} bytes"));
        }
        Ok(head as usize)
    }

    /// The head of a file of `file_bytes`, from all its bytes.
    ///
    /// # Errors
    /// As for [`Header::measure`].
    pub(super) fn decode(bytes: &[u8], file_bytes: u64, path: &Path) -> Result<Self> {
        let n_bytes = Self::measure(bytes, file_bytes, path)?;
        let broken = |offset: usize, what: String| Error::corrupt(path, offset as u64, what);
        let Some(bytes) = bytes.get(..n_bytes) else {
            return Err(broken(bytes.len(), format!("expected a header of {n_bytes} bytes")));
        };
        let (body, checksum) = bytes.split_at(n_bytes - CHECKSUM_BYTES);
        if Reader(checksum).u64() != xxh3_64(body) {
            return Err(broken(body.len(), "the header does not match its checksum".to_owned()));
        }
        let mut at = Reader(body);
        at.take(12);
        let n_sections = at.u32();
        let kind = at.text(KIND_BYTES).map_err(|what| broken(16, what))?;
        let (owner, version) = (at.u64(), at.u64());
        at.take(16);
        let mut sections = Vec::with_capacity(n_sections as usize);
        let mut end = n_bytes as u64;
        for index in 0..n_sections as usize {
            let start = PREAMBLE_BYTES + index * SECTION_BYTES;
            let section = Self::section(&mut at, end).map_err(|what| broken(start, what))?;
            end = section.end();
            sections.push(section);
        }
        if end != file_bytes {
            let what = format!("the sections end at byte {end}, the file at {file_bytes}");
            return Err(broken(n_bytes, what));
        }
        Ok(Self { kind, owner, version, sections })
    }

    fn section(at: &mut Reader<'_>, expected_offset: u64) -> Result<Section, String> {
        let name = at.text(NAME_BYTES)?;
        let tag = at.u32();
        let element = Element::from_tag(tag)
            .ok_or_else(|| format!("element type {tag} of section {name:?}, expected 1 to 6"))?;
        let n_dims = at.u32() as usize;
        let shape: Vec<u64> = (0..DIMS).map(|_| at.u64()).collect();
        let shape = shape.get(..n_dims).ok_or_else(|| format!("{n_dims} sizes of {name:?}"))?;
        let (offset, n_bytes, checksum) = (at.u64(), at.u64(), at.u64());
        at.take(32);
        let section = Section::new(&name, element, shape, expected_offset)?;
        if (offset, n_bytes) != (section.offset, section.n_bytes) {
            return Err(format!(
                "section {name:?} at {offset} of {n_bytes} bytes, expected {} of {}",
                section.offset, section.n_bytes
            ));
        }
        Ok(Section { checksum, ..section })
    }
}

fn put_text(out: &mut Vec<u8>, text: &str, n_bytes: usize) {
    let end = out.len() + n_bytes;
    out.extend(text.as_bytes());
    out.resize(end, 0);
}

/// Takes numbers off the front of bytes that are known to suffice.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, n: usize) -> &'b [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes were taken"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("eight bytes were taken"))
    }

    fn text(&mut self, n: usize) -> Result<String, String> {
        let bytes = self.take(n);
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        if bytes[text.len()..].iter().any(|&byte| byte != 0) {
            return Err("a name goes on after its end".to_owned());
        }
        String::from_utf8(text.to_vec()).map_err(|_| "a name that is not text".to_owned())
    }
}
