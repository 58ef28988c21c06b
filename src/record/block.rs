//! A run of records of one part of a file, small enough to be worked on at once.
//!
//! In: bytes that a reader cut at record ends. Out: records with their positions in the decompressed file, and what is
//! none. [`Block::visit`] does the parsing and can run on any thread.

use crate::core::limits::{OVERSIZE_HEAD_BYTES, RECORD_BYTES};
use crate::record::json::read_fields;
use crate::record::vector::{of_dim, of_json};
use crate::record::{FieldNames, Fields, Problem};

/// Where a record is in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// First byte in the decompressed file, or row from 0.
    pub offset: u64,
    /// Bytes, line end included; 0 for Parquet rows.
    pub len: u32,
    /// Line, element or row, from 0 at the start of the block.
    pub line: u32,
}

/// What could not be read as a record.
#[derive(Clone, Debug)]
pub struct Bad {
    /// Where it starts.
    pub offset: u64,
    /// Its bytes in the file.
    pub len: u64,
    /// Line from 0 at the start of the block.
    pub line: u32,
    /// Its bytes, or the head of them if there are too many.
    pub raw: Vec<u8>,
    /// Why.
    pub problem: Problem,
    /// Whether it counts as a record; damage to a file as a whole does not.
    pub is_record: bool,
}

/// A run of records of one part.
#[derive(Debug, Default)]
pub struct Block {
    pub(super) content: Content,
    /// Offset in the decompressed file of the first byte of `content`.
    pub(super) offset: u64,
    /// What the reader itself found unreadable, after the records of `content`.
    pub(super) tail: Vec<Bad>,
}

#[derive(Debug)]
pub(super) enum Content {
    Lines(Vec<u8>),
    /// Bytes and the ranges of the values in them.
    Values(Vec<u8>, Vec<(usize, usize)>),
    Document(Vec<u8>),
    #[cfg(feature = "parquet")]
    Rows(crate::record::parquet::RowBatch),
}

impl Default for Content {
    fn default() -> Self {
        Self::Lines(Vec::new())
    }
}

/// A record or what is left of one, as [`Block::visit`] shows it.
#[derive(Debug)]
pub enum Item<'a> {
    /// A record: where it is, its bytes as read (empty for Parquet rows) and its fields.
    Record(Position, &'a [u8], Fields),
    /// Something that is not.
    Bad(Bad),
}

/// How text that is not UTF-8 is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Utf8 {
    /// The record is quarantined.
    Strict,
    /// Invalid sequences are read as U+FFFD; the record's bytes stay as they are.
    Lossy,
}

impl Block {
    /// Calls `visit` for everything in the block, in order. Returns the number of lines (elements, rows)
    /// in it.
    pub fn visit(&self, names: &FieldNames, utf8: Utf8, visit: &mut dyn FnMut(Item<'_>)) -> u32 {
        let n_lines = match &self.content {
            Content::Lines(bytes) => self.visit_lines(bytes, names, utf8, visit),
            Content::Values(bytes, ranges) => {
                for (line, &(start, end)) in ranges.iter().enumerate() {
                    self.visit_json(&bytes[start..end], start, line as u32, names, utf8, visit);
                }
                ranges.len() as u32
            }
            Content::Document(bytes) => {
                self.visit_document(bytes, utf8, visit);
                1
            }
            #[cfg(feature = "parquet")]
            Content::Rows(batch) => visit_rows(batch, visit),
        };
        for bad in &self.tail {
            visit(Item::Bad(Bad { line: n_lines + bad.line, ..bad.clone() }));
        }
        n_lines + self.tail.iter().filter(|bad| bad.is_record).count() as u32
    }

    /// The bytes of a record of this block; `None` for Parquet rows.
    pub fn slice(&self, position: Position) -> Option<&[u8]> {
        let start = position.offset.checked_sub(self.offset)? as usize;
        match &self.content {
            Content::Lines(bytes) | Content::Values(bytes, _) | Content::Document(bytes) => {
                bytes.get(start..start + position.len as usize)
            }
            #[cfg(feature = "parquet")]
            Content::Rows(_) => None,
        }
    }

    /// Reads one record of this block again.
    ///
    /// # Errors
    /// If it is not what it was.
    pub fn fields(
        &self,
        position: Position,
        names: &FieldNames,
        utf8: Utf8,
    ) -> Result<Fields, Problem> {
        match &self.content {
            Content::Document(bytes) => {
                let mut fields = Err(too_large());
                self.visit_document(bytes, utf8, &mut |item| match item {
                    Item::Record(_, _, found) => fields = Ok(found),
                    Item::Bad(bad) => fields = Err(bad.problem),
                });
                fields
            }
            #[cfg(feature = "parquet")]
            Content::Rows(batch) => match batch.rows.get(position.line as usize) {
                Some(row) => row.clone(),
                None => Err(Problem::new("parquet_corrupt", "a row is gone")),
            },
            _ => {
                let gone = || Problem::new("input_changed", "a record is gone");
                read_json(self.slice(position).ok_or_else(gone)?, names, utf8)
            }
        }
    }

    /// The vector in `field` of a record of this block; Parquet rows must have been read with it. `dim`, if known, is
    /// what it must have.
    ///
    /// # Errors
    /// `field_missing`, `field_type`, `vector_not_finite`, `vector_dim` or `dim_range`; `input_changed` if the record is
    /// not there.
    pub fn vector(
        &self,
        position: Position,
        field: &str,
        dim: Option<usize>,
    ) -> Result<Vec<f32>, Problem> {
        let gone = || Problem::new("input_changed", "a record is gone");
        let vector = match &self.content {
            #[cfg(feature = "parquet")]
            Content::Rows(batch) => {
                batch.vectors.get(position.line as usize).cloned().ok_or_else(gone)??
            }
            _ => of_json(self.slice(position).ok_or_else(gone)?, field)?,
        };
        match dim {
            Some(dim) => of_dim(field, vector, dim),
            None => Ok(vector),
        }
    }

    /// Bytes of records in memory, roughly.
    pub fn n_bytes(&self) -> u64 {
        match &self.content {
            Content::Lines(bytes) | Content::Values(bytes, _) | Content::Document(bytes) => {
                bytes.len() as u64
            }
            #[cfg(feature = "parquet")]
            Content::Rows(batch) => batch.bytes,
        }
    }

    fn visit_lines(
        &self,
        bytes: &[u8],
        names: &FieldNames,
        utf8: Utf8,
        visit: &mut dyn FnMut(Item<'_>),
    ) -> u32 {
        let (mut start, mut line) = (0, 0);
        while start < bytes.len() {
            let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |n| start + n + 1);
            self.visit_json(&bytes[start..end], start, line, names, utf8, visit);
            start = end;
            line += 1;
        }
        line
    }

    fn visit_json(
        &self,
        raw: &[u8],
        start: usize,
        line: u32,
        names: &FieldNames,
        utf8: Utf8,
        visit: &mut dyn FnMut(Item<'_>),
    ) {
        let offset = self.offset + start as u64;
        if raw.trim_ascii().is_empty() {
            return;
        }
        let bad = |problem| Bad {
            offset,
            len: raw.len() as u64,
            line,
            raw: raw.to_vec(),
            problem,
            is_record: true,
        };
        if raw.len() > RECORD_BYTES {
            return visit(Item::Bad(Bad {
                raw: raw[..OVERSIZE_HEAD_BYTES].to_vec(),
                ..bad(too_large())
            }));
        }
        match read_json(raw, names, utf8) {
            Ok(fields) => {
                visit(Item::Record(Position { offset, len: raw.len() as u32, line }, raw, fields));
            }
            Err(problem) => visit(Item::Bad(bad(problem))),
        }
    }

    fn visit_document(&self, bytes: &[u8], utf8: Utf8, visit: &mut dyn FnMut(Item<'_>)) {
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = match (std::str::from_utf8(text), utf8) {
            (Ok(text), _) => text.to_owned(),
            (Err(_), Utf8::Lossy) => String::from_utf8_lossy(text).into_owned(),
            (Err(error), Utf8::Strict) => {
                let message = format!("byte {} of the file", error.valid_up_to());
                return visit(Item::Bad(Bad {
                    offset: 0,
                    len: bytes.len() as u64,
                    line: 0,
                    raw: bytes.to_vec(),
                    problem: Problem::new("utf8_invalid", message),
                    is_record: true,
                }));
            }
        };
        let position = Position { offset: 0, len: bytes.len() as u32, line: 0 };
        visit(Item::Record(position, bytes, Fields { text, ..Fields::default() }));
    }
}

#[cfg(feature = "parquet")]
fn visit_rows(batch: &crate::record::parquet::RowBatch, visit: &mut dyn FnMut(Item<'_>)) -> u32 {
    for (line, row) in batch.rows.iter().enumerate() {
        let (offset, line) = (batch.first_row + line as u64, line as u32);
        match row {
            Ok(fields) => {
                visit(Item::Record(Position { offset, len: 0, line }, &[], fields.clone()));
            }
            Err(problem) => visit(Item::Bad(Bad {
                offset,
                len: 0,
                line,
                raw: Vec::new(),
                problem: problem.clone(),
                is_record: true,
            })),
        }
    }
    batch.rows.len() as u32
}

/// Reads one JSON record, with replacement characters for what is not UTF-8 if asked.
///
/// # Errors
/// As [`read_fields`].
pub fn read_json(raw: &[u8], names: &FieldNames, utf8: Utf8) -> Result<Fields, Problem> {
    match read_fields(raw, names) {
        Err(problem) if problem.code == "utf8_invalid" && utf8 == Utf8::Lossy => {
            read_fields(String::from_utf8_lossy(raw).as_bytes(), names)
        }
        fields => fields,
    }
}

pub(super) fn too_large() -> Problem {
    Problem::new("record_size", format!("limit {} MiB", RECORD_BYTES >> 20))
}

/// Damage to a file as a whole, as an entry of the quarantine.
pub fn file_damage(offset: u64, problem: Problem) -> Bad {
    Bad { offset, len: 0, line: 0, raw: Vec::new(), problem, is_record: false }
}
