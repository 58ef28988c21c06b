//! Sealed files: written once, under another name until they are whole; then mapped, and never changed.
//!
//! A sealed file is a cache of the record. One that is damaged, missing, of another collection or of a version that the
//! record has not reached is an error of kind `Corrupt` or `NotFound`, and its owner builds it again.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::Pod;

use crate::core::limits;
use crate::core::slab::{Memory, Slab};
use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{At, Disk, DiskFile, Mode, open_file};
use crate::store::format::{self, Header, Identity, PREAMBLE_BYTES};
use crate::store::mapped::Mapped;

pub use crate::store::format::{Element, Section, Value};

mod write;

pub use write::SealedWriter;

/// Bytes that are gathered before they are written, and that are read at once to be verified.
const BUFFER_BYTES: usize = 1 << 20;

/// An open sealed file. Nothing but its header has been read.
#[derive(Debug)]
pub struct Sealed {
    path: PathBuf,
    header: Header,
    memory: Arc<Mapped>,
    /// For verifying: a disk that cannot read says so here, and ends the process where memory is touched.
    file: Box<dyn DiskFile>,
}

/// A section that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedSection {
    /// Its name.
    pub name: String,
    /// Its bytes in the file.
    pub bytes: Range<u64>,
}

impl Sealed {
    /// Opens the file at `path` if its kind and owner are those expected and the record has reached its version.
    ///
    /// # Errors
    /// `not_found`; of kind `Corrupt`: `corrupt_file`, which names file, offset and what, `format_newer`,
    /// `file_type`, `owner_mismatch` for the file of another collection, `version_ahead` for one made from data that
    /// the record does not hold; those of the disk.
    pub fn open(disk: &dyn Disk, path: &Path, expected: Identity<'_>) -> Result<Self> {
        let sealed = Self::open_any(disk, path)?;
        let refuse = |code: &'static str, what: String| {
            let message = format!("{} {what}", path.display());
            Err(Error::new(ErrorKind::Corrupt, code, message))
        };
        let (kind, owner, version) = (sealed.kind(), sealed.owner(), sealed.version());
        if kind != expected.kind {
            return Err(Error::corrupt(
                path,
                16,
                format!("{kind:?}, expected {:?}", expected.kind),
            ));
        }
        if owner != expected.owner {
            let what = format!("belongs to {owner:#018x}, expected {:#018x}", expected.owner);
            return refuse("owner_mismatch", what);
        }
        if version > expected.version {
            let what = format!("is of version {version}, the record is at {}", expected.version);
            return refuse("version_ahead", what);
        }
        Ok(sealed)
    }

    /// Opens the file at `path`, of whatever kind, owner and version.
    ///
    /// # Errors
    /// As for [`Sealed::open`], without those of what was expected.
    pub fn open_any(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = open_file(disk, path, Mode::Read)?;
        let n_bytes = file.n_bytes().at("look at", path)?;
        let read = |n: usize| -> Result<Vec<u8>> {
            let mut bytes = vec![0; n];
            file.read_at(0, &mut bytes).at("read", path)?;
            Ok(bytes)
        };
        let preamble = read(n_bytes.min(PREAMBLE_BYTES as u64) as usize)?;
        let header_bytes = Header::measure(&preamble, n_bytes, path)?;
        let header = Header::decode(&read(header_bytes)?, n_bytes, path)?;
        let memory = disk.map(path).at("map", path)?;
        if memory.len() as u64 != n_bytes {
            let what = format!("{} bytes were mapped of {n_bytes}", memory.len());
            return Err(Error::corrupt(path, memory.len() as u64, what));
        }
        Ok(Self { path: path.to_owned(), header, memory: Arc::new(memory), file })
    }

    /// Has the system bring the file into memory, beside what is done meanwhile, unless it is larger than [`BROUGHT_BYTES`].
    /// Pages that are met one by one otherwise cost a query several times what it computes.
    ///
    /// [`BROUGHT_BYTES`]: limits::BROUGHT_BYTES
    pub fn bring(&self) {
        if self.n_bytes() <= limits::BROUGHT_BYTES {
            let memory = Arc::clone(&self.memory);
            std::thread::spawn(move || memory.bring());
        }
    }

    /// What the file holds.
    pub fn kind(&self) -> &str {
        &self.header.kind
    }

    /// The collection to which it belongs.
    pub fn owner(&self) -> u64 {
        self.header.owner
    }

    /// The data version from which it was made.
    pub fn version(&self) -> u64 {
        self.header.version
    }

    /// Bytes of the file.
    pub fn n_bytes(&self) -> u64 {
        self.header.file_bytes()
    }

    /// The sections, in the order of the file.
    pub fn sections(&self) -> &[Section] {
        &self.header.sections
    }

    /// Whether there is a section of this name: files of earlier builds lack some.
    pub fn has(&self, name: &str) -> bool {
        self.header.sections.iter().any(|section| section.name == name)
    }

    /// Where a section lies, for what is found out about it later.
    pub fn place(&self, name: &str) -> (PathBuf, u64) {
        let found = self.header.sections.iter().find(|section| section.name == name);
        (self.path.clone(), found.map_or(PREAMBLE_BYTES as u64, |section| section.offset))
    }

    /// The elements of a section and its shape, unverified.
    ///
    /// # Errors
    /// `corrupt_file` if the file has no such section of this type.
    pub fn values<T: Value>(&self, name: &str) -> Result<(&[T], &[u64])> {
        let section = self.find::<T>(name)?;
        let bytes = &self.memory[range(section)];
        Ok((bytemuck::cast_slice(bytes), &section.shape))
    }

    /// The same, lent: the elements stay when this is closed. Nothing is read until they are.
    ///
    /// # Errors
    /// As for [`Sealed::values`].
    pub fn slab<T: Value>(&self, name: &str) -> Result<(Slab<T>, &[u64])> {
        let section = self.find::<T>(name)?;
        Ok((self.lend(section)?, &section.shape))
    }

    /// A section of elements `E` and of this shape, lent as plain structs `T` made of such elements.
    ///
    /// # Errors
    /// `corrupt_file` if the file has no such section, or if its elements make no whole number of `T`.
    pub fn slab_as<E: Value, T: Pod>(&self, name: &str, shape: &[u64]) -> Result<Slab<T>> {
        let section = self.find::<E>(name)?;
        if section.shape != shape {
            let what = format!("section {name:?} of {:?}, expected {shape:?}", section.shape);
            return Err(Error::corrupt(&self.path, PREAMBLE_BYTES as u64, what));
        }
        self.lend(section)
    }

    /// Memory of the file, and where the bytes of a section lie in it, to be lent in parts.
    ///
    /// # Errors
    /// As for [`Sealed::values`].
    pub fn share(&self, name: &str) -> Result<(Memory, Range<usize>)> {
        let section = self.find::<u8>(name)?;
        let memory: Memory = Arc::<Mapped>::clone(&self.memory);
        Ok((memory, range(section)))
    }

    fn lend<T: Pod>(&self, section: &Section) -> Result<Slab<T>> {
        let memory: Memory = Arc::<Mapped>::clone(&self.memory);
        Slab::lent(&memory, range(section))
            .map_err(|error| Error::corrupt(&self.path, section.offset, error))
    }

    /// The numbers of a short section that says what the others are: exactly `N`, compared with their checksum.
    ///
    /// # Errors
    /// As for [`Sealed::slab_as`] and [`Sealed::verify_memory`].
    pub fn about<const N: usize>(&self, name: &str) -> Result<[u64; N]> {
        let numbers = self.slab_as::<u64, u64>(name, &[N as u64])?;
        self.verify_memory(name)?;
        Ok(std::array::from_fn(|i| numbers[i]))
    }

    /// An error about the contents of a section: the bytes are those that were written, and make no sense.
    pub fn refuse(&self, name: &str, what: impl std::fmt::Display) -> Error {
        let (path, offset) = self.place(name);
        Error::corrupt(&path, offset, format!("section {name:?}: {what}"))
    }

    fn find<T: Value>(&self, name: &str) -> Result<&Section> {
        let found = self.header.sections.iter().find(|section| section.name == name);
        found.filter(|section| section.element == T::ELEMENT).ok_or_else(|| {
            let element = found.map(|section| section.element);
            let what = format!("section {name:?} of {:?}, found {element:?}", T::ELEMENT);
            Error::corrupt(&self.path, PREAMBLE_BYTES as u64, format!("expected {what}"))
        })
    }

    /// Compares one section in the file with its checksum.
    ///
    /// # Errors
    /// `corrupt_file` if they differ, or if there is no such section; those of the disk.
    pub fn verify_section(&self, name: &str) -> Result<()> {
        let section = self.named(name)?;
        if self.is_intact(section)? { Ok(()) } else { Err(self.damaged(section)) }
    }

    /// Compares one section as it lies in memory with its checksum: what is used afterwards is what was compared. For sections
    /// that are read whole when they are opened; the others are compared in the file.
    ///
    /// # Errors
    /// `corrupt_file` if they differ, or if there is no such section.
    pub fn verify_memory(&self, name: &str) -> Result<()> {
        let section = self.named(name)?;
        let mut hash = format::section_hash(self.header.owner, self.header.version, section.offset);
        hash.update(&self.memory[section.offset as usize..section.end() as usize]);
        if hash.digest() == section.checksum { Ok(()) } else { Err(self.damaged(section)) }
    }

    fn named(&self, name: &str) -> Result<&Section> {
        let found = self.header.sections.iter().find(|section| section.name == name);
        found.ok_or_else(|| {
            let what = format!("no section {name:?}");
            Error::corrupt(&self.path, PREAMBLE_BYTES as u64, what)
        })
    }

    fn damaged(&self, section: &Section) -> Error {
        let Section { name, n_bytes, .. } = section;
        let what = format!("section {name:?} of {n_bytes} bytes does not match its checksum");
        Error::corrupt(&self.path, section.offset, what)
    }

    /// Every section that is not what was written. Reads the whole file.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn verify(&self) -> Result<Vec<DamagedSection>> {
        let mut damaged = Vec::new();
        for section in &self.header.sections {
            if !self.is_intact(section)? {
                let bytes = section.offset..section.end();
                damaged.push(DamagedSection { name: section.name.clone(), bytes });
            }
        }
        Ok(damaged)
    }

    fn is_intact(&self, section: &Section) -> Result<bool> {
        let mut hash = format::section_hash(self.header.owner, self.header.version, section.offset);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut at = section.offset;
        while at < section.end() {
            let n = (section.end() - at).min(BUFFER_BYTES as u64);
            let chunk = &mut buffer[..n as usize];
            self.file.read_at(at, chunk).at("read", &self.path)?;
            hash.update(chunk);
            at += n;
        }
        Ok(hash.digest() == section.checksum)
    }
}

/// Where a section lies; the header was checked against the length of the file.
fn range(section: &Section) -> Range<usize> {
    section.offset as usize..(section.offset + section.n_bytes) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{limits, mix};
    use crate::store::disk::FileDisk;
    use crate::store::format::ALIGN;
    use std::fs;

    const GRAPH: Identity<'_> = Identity { kind: "graph", owner: 7, version: 3 };

    fn seal(path: &Path, identity: Identity<'_>) -> Result<()> {
        let mut writer = SealedWriter::create(&FileDisk, path, identity, 3)?;
        writer.section::<u32>("links", &[5, 3])?;
        let links: Vec<u32> = (0..15).collect();
        writer.append(&links[..4])?;
        writer.append(&links[4..])?;
        writer.section::<f32>("norms", &[0])?;
        writer.section::<u8>("codes", &[200])?;
        writer.append(&[9u8; 200])?;
        writer.finish()
    }

    fn sealed() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("graph.sealed");
        seal(&path, GRAPH).unwrap();
        (dir, path)
    }

    #[test]
    fn what_was_sealed_is_read_back_aligned_and_under_no_other_name() {
        let (dir, path) = sealed();
        let file = Sealed::open(&FileDisk, &path, GRAPH).unwrap();
        let (links, shape) = file.values::<u32>("links").unwrap();
        assert_eq!((links.to_vec(), shape), ((0..15).collect(), &[5, 3][..]));
        assert_eq!(file.values::<u8>("codes").unwrap().0, [9; 200]);
        assert!(file.values::<f32>("norms").unwrap().0.is_empty());
        for section in file.sections() {
            assert_eq!(section.offset % ALIGN, 0, "{section:?}");
        }
        assert!(file.verify().unwrap().is_empty());
        assert_eq!(FileDisk.list(dir.path()).unwrap(), ["graph.sealed"]);
        assert_eq!(file.values::<f32>("links").unwrap_err().code(), "corrupt_file");
        assert_eq!(file.values::<f32>("absent").unwrap_err().code(), "corrupt_file");
    }

    #[test]
    fn what_is_lent_outlives_the_file_and_what_is_changed_is_a_copy() {
        let (_dir, path) = sealed();
        let file = Sealed::open(&FileDisk, &path, GRAPH).unwrap();
        let (mut links, shape) = file.slab::<u32>("links").unwrap();
        assert_eq!((links.is_lent(), shape), (true, &[5, 3][..]));
        let triples: Slab<[u32; 3]> = file.slab_as::<u32, _>("links", &[5, 3]).unwrap();
        drop(file);
        fs::remove_file(&path).unwrap();
        assert_eq!(links[..], (0..15).collect::<Vec<u32>>());
        links.to_mut()[3] = 99;
        assert_eq!((links[3], triples[1]), (99, [3, 4, 5]));
    }

    #[test]
    fn what_is_lent_as_something_else_is_refused() {
        let (_dir, path) = sealed();
        let file = Sealed::open(&FileDisk, &path, GRAPH).unwrap();
        let code = |result: Result<Slab<[u32; 4]>>| result.unwrap_err().code();
        assert_eq!(code(file.slab_as::<u32, _>("links", &[5, 3])), "corrupt_file");
        assert_eq!(code(file.slab_as::<u32, _>("links", &[15])), "corrupt_file");
        assert_eq!(code(file.slab_as::<f32, _>("links", &[5, 3])), "corrupt_file");
        assert!(file.slab::<u8>("absent").is_err() && file.verify_memory("absent").is_err());
    }

    #[test]
    fn a_flip_of_any_byte_of_the_header_is_seen_when_the_file_is_opened() {
        let (_dir, path) = sealed();
        let bytes = fs::read(&path).unwrap();
        for at in 0..format::header_bytes(3) as usize {
            for bit in [1, 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] ^= bit;
                fs::write(&path, damaged).unwrap();
                let error = Sealed::open(&FileDisk, &path, GRAPH).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
            }
        }
    }

    #[test]
    fn a_flip_of_any_byte_of_a_section_is_found_and_placed() {
        let (_dir, path) = sealed();
        let bytes = fs::read(&path).unwrap();
        for at in format::header_bytes(3) as usize..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (mix::stream(5, at as u64) % 8);
            fs::write(&path, damaged).unwrap();
            let file = Sealed::open(&FileDisk, &path, GRAPH).unwrap();
            let found = file.verify().unwrap();
            assert!(found.len() == 1 && found[0].bytes.contains(&(at as u64)), "{at}: {found:?}");
            let name = &found[0].name;
            assert_eq!(file.verify_section(name), file.verify_memory(name));
            let error = file.verify_section(name).unwrap_err().to_string();
            assert!(error.contains("graph.sealed at byte"), "{error}");
        }
    }

    #[test]
    fn a_file_of_another_length_is_never_mapped() {
        let (_dir, path) = sealed();
        let bytes = fs::read(&path).unwrap();
        let longer = [bytes.as_slice(), &[0; 64]].concat();
        for n in (0..bytes.len()).chain([bytes.len() + 1, longer.len()]) {
            fs::write(&path, &longer[..n]).unwrap();
            let error = Sealed::open(&FileDisk, &path, GRAPH).unwrap_err();
            assert_eq!(error.code(), "corrupt_file", "{n}: {error}");
        }
    }

    #[test]
    fn files_of_others_and_of_later_builds_are_refused_by_name() {
        let (dir, path) = sealed();
        let code = |expected| Sealed::open(&FileDisk, &path, expected).unwrap_err().code();
        assert_eq!(code(Identity { owner: 8, ..GRAPH }), "owner_mismatch");
        assert_eq!(code(Identity { version: 2, ..GRAPH }), "version_ahead");
        assert_eq!(code(Identity { kind: "rows", ..GRAPH }), "corrupt_file");
        assert!(Sealed::open(&FileDisk, &path, Identity { version: 4, ..GRAPH }).is_ok());
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 9;
        fs::write(&path, bytes).unwrap();
        let error = Sealed::open(&FileDisk, &path, GRAPH).unwrap_err().to_string();
        assert!(error.contains("has format 9, this build reads up to 1"), "{error}");
        fs::write(&path, b"\x89PNG\r\n\x1a\n".repeat(40)).unwrap();
        assert_eq!(code(GRAPH), "corrupt_file");
        assert_eq!(Sealed::open(&FileDisk, dir.path(), GRAPH).unwrap_err().code(), "file_type");
    }

    #[test]
    fn sizes_that_no_file_can_have_are_refused_before_anything_is_allocated() {
        let header = Header {
            kind: "graph".to_owned(),
            owner: 7,
            version: 3,
            sections: vec![Section {
                name: "links".to_owned(),
                element: Element::U64,
                shape: vec![u64::MAX, u64::MAX],
                offset: format::header_bytes(1),
                n_bytes: 8,
                checksum: 0,
            }],
        };
        let mut bytes = header.encode();
        bytes.resize(header.file_bytes() as usize, 0);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("graph.sealed");
        fs::write(&path, bytes).unwrap();
        let error = Sealed::open(&FileDisk, &path, GRAPH).unwrap_err().to_string();
        assert!(error.contains("larger than any file"), "{error}");
    }

    #[test]
    fn a_writer_that_was_told_something_else_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("graph.sealed");
        let new = || SealedWriter::create(&FileDisk, &path, GRAPH, 1).unwrap();
        let long = Identity { kind: "seventeen letters", ..GRAPH };
        assert!(SealedWriter::create(&FileDisk, &path, long, 1).is_err());
        assert!(SealedWriter::create(&FileDisk, &path, GRAPH, limits::SECTIONS + 1).is_err());
        assert!(new().finish().is_err(), "a section lacks");
        assert!(new().append(&[1u8]).is_err(), "no section was started");
        let mut writer = new();
        writer.section::<u32>("links", &[2]).unwrap();
        assert!(writer.append(&[1u8]).is_err(), "another type");
        assert!(writer.append(&[1u32; 3]).is_err(), "too many");
        writer.append(&[1u32]).unwrap();
        assert!(writer.finish().is_err(), "too few");
        assert!(!path.exists());
        seal(&path, GRAPH).unwrap();
        let _ = new();
        assert!(Sealed::open(&FileDisk, &path, GRAPH).is_ok(), "an attempt replaces nothing");
    }
}
