//! One file of kept records, written aside, compressed block by block and renamed when it is whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::dedup::apply::{Form, Output, Piece, lines_to_parquet};
use crate::dedup::spill::part_path;
use crate::dedup::walk::Sink;
use crate::error::{IoContext, Result};
use crate::record::codec::Compression;

/// One member or frame of its own, so that blocks can be compressed in parallel and joined.
pub(super) fn compress(bytes: Vec<u8>, compression: Compression, path: &Path) -> Result<Vec<u8>> {
    if bytes.is_empty() { Ok(bytes) } else { frame(bytes, compression, path) }
}

/// [`compress`], also of nothing: a file of no bytes would be a damaged one.
pub(super) fn frame(bytes: Vec<u8>, compression: Compression, path: &Path) -> Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(bytes),
        Compression::Gzip => {
            let mut writer =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            writer.write_all(&bytes).and_then(|()| writer.finish()).at("compress", path)
        }
        Compression::Zstd => {
            let mut writer = zstd::Encoder::new(Vec::new(), 3).at("compress", path)?;
            // zstd's own default carries no checksum: damage would decode to wrong bytes.
            writer.include_checksum(true).at("compress", path)?;
            writer.write_all(&bytes).at("compress", path)?;
            writer.finish().at("compress", path)
        }
    }
}

/// One file of kept records, written aside.
pub(super) struct KeptFile<'o> {
    output: &'o Output,
    file: Option<File>,
    n_records: u64,
    held: Vec<u8>,
}

impl<'o> KeptFile<'o> {
    pub(super) fn new(output: &'o Output) -> Self {
        Self { output, file: None, n_records: 0, held: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let part = part_path(&self.output.path);
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::create(&part).at("create", &part)?),
        };
        file.write_all(bytes).at("write", &part)
    }
}

impl Sink<Piece> for KeptFile<'_> {
    fn take(&mut self, _: usize, piece: Piece) -> Result<()> {
        if piece.n_records == 0 {
            return Ok(());
        }
        let Form::Array(compression) = self.output.form else {
            self.n_records += piece.n_records;
            return self.write(&piece.bytes);
        };
        // An array is closed at its end: the comma of its last element waits.
        let mut bytes = if self.n_records == 0 { b"[\n".to_vec() } else { self.held.split_off(0) };
        self.n_records += piece.n_records;
        bytes.extend_from_slice(&piece.bytes);
        self.held = bytes.split_off(bytes.len() - 2);
        self.write(&compress(bytes, compression, &self.output.path)?)
    }

    fn finish(&mut self) -> Result<()> {
        match self.output.form {
            Form::Array(compression) => {
                let end: &[u8] = if self.n_records == 0 { b"[]\n" } else { b"\n]\n" };
                self.write(&compress(end.to_vec(), compression, &self.output.path)?)?;
            }
            _ if self.output.is_document && self.n_records == 0 => return Ok(()),
            // Other files are written even when nothing is kept: every input has its mirror.
            Form::Raw(compression) | Form::Lines(compression) if self.n_records == 0 => {
                self.write(&frame(Vec::new(), compression, &self.output.path)?)?;
            }
            _ => self.write(b"")?,
        }
        self.file = None;
        let part = part_path(&self.output.path);
        if self.output.form == Form::Parquet {
            return lines_to_parquet(&part, &self.output.path);
        }
        fs::rename(&part, &self.output.path).at("rename to", &self.output.path)
    }
}
