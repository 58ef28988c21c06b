//! Lines of JSON into one Parquet file: a pass for the schema, and a pass for the rows.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow_json::ReaderBuilder;
use arrow_json::reader::Decoder;
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::guard::guarded;
use super::output::Output;
use super::shape::{Shape, Shaping};
use crate::error::{Error, ErrorKind, Result};

/// Lines that are turned into columns at once.
const BATCH_ROWS: usize = 1024;

/// Bytes of lines that are turned into columns at once.
const BATCH_BYTES: usize = 16 << 20;

/// Bytes of a row group, encoded.
const ROW_GROUP_BYTES: usize = 128 << 20;

/// Finds the schema of JSON lines.
///
/// Integers are Int64, or UInt64 if they need it, or Float64 if there are fractions in the same
/// field and no integer would lose digits. A field that is missing or null on some lines is null
/// there. A field that is null on all lines is of type Null.
#[derive(Default)]
pub struct SchemaBuilder {
    root: Shape,
    n_lines: u64,
}

impl SchemaBuilder {
    /// No lines yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next line, a JSON object, into account.
    ///
    /// # Errors
    /// `schema_conflict` if a field has a type that does not go with that of an earlier line;
    /// `json_invalid` if the line is no JSON object.
    pub fn observe(&mut self, line: &[u8]) -> Result<()> {
        self.n_lines += 1;
        Shaping::run(line, self.n_lines, &mut self.root)
    }

    /// The schema of all lines.
    ///
    /// # Errors
    /// `schema_conflict` if a field is `{}` wherever it occurs, which Parquet has no type for.
    pub fn finish(self) -> Result<SchemaRef> {
        Ok(Arc::new(Schema::new(self.root.fields("")?)))
    }
}

/// Writes JSON lines to a Parquet file of a given schema.
pub struct JsonSink {
    output: Output,
    writer: ArrowWriter<Output>,
    decoder: Decoder,
    n_rows: u64,
    /// Of the lines that are not columns yet.
    buffered_rows: usize,
    buffered_bytes: usize,
}

impl JsonSink {
    /// Creates or empties the file at `path`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path, schema: SchemaRef) -> Result<Self> {
        let output = Output::create(path)?;
        let zstd = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(zstd).build();
        let opened = guarded(|| {
            let target = output.clone();
            let writer = ArrowWriter::try_new(target, Arc::clone(&schema), Some(properties))?;
            let decoder = ReaderBuilder::new(schema)
                .with_batch_size(BATCH_ROWS)
                .with_strict_mode(true)
                .build_decoder()?;
            Ok((writer, decoder))
        });
        let (writer, decoder) = opened.map_err(|fault| output.error(&fault))?;
        Ok(Self { output, writer, decoder, n_rows: 0, buffered_rows: 0, buffered_bytes: 0 })
    }

    /// Appends one line, a JSON object.
    ///
    /// # Errors
    /// If it does not have the schema, or cannot be written.
    pub fn write(&mut self, line: &[u8]) -> Result<()> {
        let decoder = &mut self.decoder;
        // The batch is flushed before it is full, so that all bytes are taken.
        guarded(|| Ok(decoder.decode(line).and_then(|_| decoder.decode(b"\n"))?))
            .map_err(|fault| unfit(self.n_rows + 1, &fault))?;
        self.n_rows += 1;
        self.buffered_rows += 1;
        self.buffered_bytes += line.len();
        if self.decoder.len() != self.buffered_rows || self.decoder.has_partial_record() {
            return Err(unfit(self.n_rows, &"expected one JSON object"));
        }
        if self.buffered_rows + 1 >= BATCH_ROWS || self.buffered_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let (decoder, writer) = (&mut self.decoder, &mut self.writer);
        let batch = guarded(|| Ok(decoder.flush()?)).map_err(|fault| unfit(self.n_rows, &fault))?;
        guarded(|| {
            if let Some(batch) = batch {
                writer.write(&batch)?;
            }
            if writer.in_progress_size() >= ROW_GROUP_BYTES {
                writer.flush()?;
            }
            Ok(())
        })
        .map_err(|fault| self.output.error(&fault))?;
        (self.buffered_rows, self.buffered_bytes) = (0, 0);
        Ok(())
    }

    /// Writes what is left. Returns the number of rows in the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> Result<u64> {
        self.flush()?;
        let writer = &mut self.writer;
        guarded(|| Ok(writer.finish()?)).map_err(|fault| self.output.error(&fault))?;
        self.output.finish()?;
        Ok(self.n_rows)
    }
}

/// A line that does not have the schema of the pass before.
fn unfit(line: u64, what: &dyn fmt::Display) -> Error {
    let message = format!("at or before line {line} of the second pass: {what}");
    Error::new(ErrorKind::BadInput, "schema_conflict", message)
}
