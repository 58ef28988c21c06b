//! Columns in a sealed file: a section of bytes for each field, then one that says which field is where.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::Columns;
use crate::store::columns::bytes::{Reader, put_count};
use crate::store::columns::indexed::{Indexed, Parts};
use crate::store::columns::kind::Kind;
use crate::store::columns::path::Path;
use crate::store::sealed::{Sealed, SealedWriter};

#[cfg(test)]
mod tests;

/// How the columns of a file lie in it; its number stands for it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Keys of slots that have one, sets of slots for each string. Of builds before 2026-11-30; read as long as there are any.
    Packed = 1,
    /// As they are used, so that they stay in the file.
    Lent = 2,
}

impl Format {
    /// The one that is written.
    pub const WRITTEN: Self = Self::Lent;
}

/// The section that says which field is where.
const DIRECTORY: &str = "fields";

fn section_name(n: usize) -> String {
    format!("field {n}")
}

impl Columns {
    /// Sections that [`Columns::seal`] writes.
    pub fn n_sections(&self) -> usize {
        self.fields.len() + 1
    }

    /// Writes every field and where it is, as the next sections of a file.
    ///
    /// # Errors
    /// Those of the writer; those of reading fields that nobody has asked for.
    pub fn seal(&self, writer: &mut SealedWriter<'_>) -> Result<()> {
        let mut directory = vec![Format::WRITTEN as u8];
        put_count(&mut directory, self.fields.len());
        for (n, (path, field)) in self.fields.iter().enumerate() {
            let (bytes, parts) = field.encode(section_name(n)).map_err(|error| of(path, error))?;
            writer.section::<u8>(&parts.section, &[bytes.len() as u64])?;
            writer.append(&bytes[..])?;
            put_entry(&mut directory, path, &parts);
        }
        writer.section::<u8>(DIRECTORY, &[directory.len() as u64])?;
        writer.append(&directory)
    }

    /// The columns in a file. Which fields there are is read now, each of them when it is asked for.
    ///
    /// # Errors
    /// Of kind `Corrupt`: `corrupt_file`, `format_newer` for what a later build has written; those of the disk.
    pub fn open(file: Arc<Sealed>) -> Result<Self> {
        file.verify_memory(DIRECTORY)?;
        let (bytes, _) = file.values::<u8>(DIRECTORY)?;
        let mut reader = Reader::new(bytes);
        let fields = read_entries(&file, &mut reader).and_then(|fields| {
            reader.end()?;
            Ok(fields)
        });
        let fields = fields.map_err(|error| error.within(format_args!("section {DIRECTORY:?}")))?;
        Ok(Self { fields })
    }
}

/// The error within the name of the field.
pub fn of(path: &Path, error: Error) -> Error {
    error.within(format_args!("field {path}"))
}

fn put_entry(out: &mut Vec<u8>, path: &Path, parts: &Parts) {
    let path = path.to_string();
    put_count(out, path.len());
    out.extend(path.as_bytes());
    out.extend((parts.presence.len() as u64).to_le_bytes());
    out.push(parts.columns.len() as u8);
    for (kind, part) in &parts.columns {
        out.push(*kind as u8);
        out.extend((part.len() as u64).to_le_bytes());
    }
}

fn read_entries(file: &Arc<Sealed>, reader: &mut Reader<'_>) -> Result<BTreeMap<Path, Indexed>> {
    let format = match reader.u8()? {
        1 => Format::Packed,
        2 => Format::Lent,
        0 => return Err(reader.corrupt("columns of format 0")),
        format => {
            let newest = Format::WRITTEN as u8;
            let message = format!("columns of format {format}, this build reads up to {newest}");
            return Err(Error::new(ErrorKind::Corrupt, "format_newer", message));
        }
    };
    let mut fields = BTreeMap::new();
    for n in 0..reader.count(1)? {
        let text = reader.text()?;
        let path: Path = text.parse().map_err(|error| reader.corrupt(error))?;
        let parts = read_parts(section_name(n), reader)?;
        let n_bytes = file.values::<u8>(&parts.section)?.0.len();
        let end = parts.columns.values().map(|part| part.end).max().unwrap_or(parts.presence.end);
        if end != n_bytes {
            let what = format!("field {path} of {end} bytes, its section has {n_bytes}");
            return Err(reader.corrupt(what));
        }
        if fields.insert(path, Indexed::in_file(Arc::clone(file), format, parts)).is_some() {
            return Err(reader.corrupt(format!("a second field {text}")));
        }
    }
    Ok(fields)
}

fn read_parts(section: String, reader: &mut Reader<'_>) -> Result<Parts> {
    let mut end = 0_usize;
    let mut part = |reader: &mut Reader<'_>| {
        let start = end;
        let n_bytes = usize::try_from(reader.u64()?).ok();
        end = n_bytes
            .and_then(|n| start.checked_add(n))
            .ok_or_else(|| reader.corrupt(format!("a part of {n_bytes:?} bytes")))?;
        Ok(start..end)
    };
    let presence = part(reader)?;
    let mut columns = BTreeMap::new();
    for _ in 0..reader.u8()? {
        let number = reader.u8()?;
        let kind = Kind::of_number(number)
            .ok_or_else(|| reader.corrupt(format!("a column of kind {number}")))?;
        if columns.insert(kind, part(reader)?).is_some() {
            return Err(reader.corrupt(format!("a second {kind} column")));
        }
    }
    Ok(Parts { section, presence, columns })
}
