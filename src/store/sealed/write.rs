//! A sealed file while it is written.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::core::limits;
use crate::error::{Error, Result};
use crate::store::disk::{At, Disk, DiskFile, Mode, clear, part_of, sync_parent};
use crate::store::format::{self, ALIGN, Header, Identity, Section, Value, check_kind};
use crate::store::sealed::BUFFER_BYTES;

/// A sealed file in the making. Dropped before [`SealedWriter::finish`], it leaves a `.part` file that the next attempt
/// removes.
pub struct SealedWriter<'d> {
    disk: &'d dyn Disk,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    part: PathBuf,
    header: Header,
    n_sections: usize,
    /// Bytes of the last section that are still to come.
    missing: u64,
    hash: Xxh3,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    offset: u64,
}

impl<'d> SealedWriter<'d> {
    /// Starts the file that will be at `path` and hold so many sections.
    ///
    /// # Errors
    /// `sealed_shape` for a kind or a number of sections that no file can have; those of the disk.
    pub fn create(
        disk: &'d dyn Disk,
        path: &Path,
        identity: Identity<'_>,
        n_sections: usize,
    ) -> Result<Self> {
        check_kind(identity.kind).map_err(|what| wrong_shape(path, what))?;
        if n_sections > limits::SECTIONS {
            let what = format!("{n_sections} sections, at most {} fit", limits::SECTIONS);
            return Err(wrong_shape(path, what));
        }
        let part = part_of(path);
        clear(disk, &part)?;
        let header = Header {
            kind: identity.kind.to_owned(),
            owner: identity.owner,
            version: identity.version,
            sections: Vec::with_capacity(n_sections),
        };
        Ok(Self {
            file: disk.open(&part, Mode::New).at("create", &part)?,
            disk,
            path: path.to_owned(),
            part,
            header,
            n_sections,
            missing: 0,
            hash: Xxh3::new(),
            buffer: Vec::with_capacity(BUFFER_BYTES),
            offset: format::header_bytes(n_sections),
        })
    }

    /// Starts the next section; its elements follow by [`SealedWriter::append`].
    ///
    /// # Errors
    /// `sealed_shape`, if the section before is not complete, all sections were written, the name was used or the
    /// shape is none.
    pub fn section<T: Value>(&mut self, name: &str, shape: &[u64]) -> Result<()> {
        let wrong = |what: String| Err(wrong_shape(&self.path, what));
        if self.missing > 0 {
            return wrong(format!("{} bytes of the section before {name:?} lack", self.missing));
        }
        if self.header.sections.len() == self.n_sections {
            return wrong(format!("section {name:?}, after all {}", self.n_sections));
        }
        if self.header.sections.iter().any(|section| section.name == name) {
            return wrong(format!("a second section {name:?}"));
        }
        self.end_section()?;
        let start = self.offset + self.buffer.len() as u64;
        match Section::new(name, T::ELEMENT, shape, start) {
            Err(what) => Err(wrong_shape(&self.path, what)),
            Ok(section) => {
                self.missing = section.n_bytes;
                self.hash = format::section_hash(self.header.owner, self.header.version, start);
                self.header.sections.push(section);
                Ok(())
            }
        }
    }

    /// Adds elements to the section that was started last.
    ///
    /// # Errors
    /// `sealed_shape` if they are more than its shape says, or of another type; those of the disk.
    pub fn append<T: Value>(&mut self, values: &[T]) -> Result<()> {
        const { assert!(cfg!(target_endian = "little"), "files are little-endian") };
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let element = self.header.sections.last().map(|section| section.element);
        if element != Some(T::ELEMENT) || bytes.len() as u64 > self.missing {
            let what = format!(
                "{} bytes of {:?} where {} of {element:?} lack",
                bytes.len(),
                T::ELEMENT,
                self.missing
            );
            return Err(wrong_shape(&self.path, what));
        }
        self.missing -= bytes.len() as u64;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        for chunk in bytes.chunks(BUFFER_BYTES) {
            if self.buffer.len() + chunk.len() > BUFFER_BYTES {
                self.flush()?;
            }
            self.buffer.extend(chunk);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(self.offset, &self.buffer).at("write", &self.part)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Fills up to the next section with zeros, which are part of what is hashed.
    fn end_section(&mut self) -> Result<()> {
        let at = self.offset + self.buffer.len() as u64;
        let n_zeros = at.next_multiple_of(ALIGN) - at;
        self.put(&[0; ALIGN as usize][..n_zeros as usize])?;
        if let Some(section) = self.header.sections.last_mut() {
            section.checksum = self.hash.digest();
        }
        Ok(())
    }

    /// Writes the header, waits until all is on disk, and gives the file its name.
    ///
    /// # Errors
    /// `sealed_shape` if sections or elements lack; those of the disk. The file that was at the path before is then
    /// still there.
    pub fn finish(mut self) -> Result<()> {
        let n_sections = self.header.sections.len();
        if self.missing > 0 || n_sections < self.n_sections {
            let what = format!(
                "{n_sections} of {} sections, {} bytes of the last lack",
                self.n_sections, self.missing
            );
            return Err(wrong_shape(&self.path, what));
        }
        self.end_section()?;
        self.flush()?;
        self.file.write_at(0, &self.header.encode()).at("write", &self.part)?;
        self.file.sync().at("sync", &self.part)?;
        self.disk.rename(&self.part, &self.path).at("rename", &self.part)?;
        sync_parent(self.disk, &self.path)
    }
}

fn wrong_shape(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::usage("sealed_shape", format!("{}: {what}", path.display()))
}
