//! Rows as lines of JSON.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels, parquet_to_arrow_schema};
use parquet::basic::LogicalType;
use parquet::column::page::{PageIterator, PageReader};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::file::{Group, ParquetFile, as_error};
use super::guard::{Fault, guarded, unguarded};
use super::text::{as_text, with_text};
use crate::error::{Error, Result};
use crate::record::Problem;

/// Shows `visit` each row of row group `row_group`, from 0, as one JSON object without line end:
/// all columns in their order, null where there is no value. Rows are numbered from 0 in the file.
///
/// Bytes become hexadecimal strings, times ISO 8601 strings in UTC, decimals numbers, maps objects;
/// what is not UTF-8 in a string becomes U+FFFD; NaN and the infinities, which JSON has not, become
/// null.
///
/// # Errors
/// `visit`'s own, or what [`check_json`] finds.
pub fn rows_as_json(
    path: &Path,
    row_group: usize,
    visit: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let file = ParquetFile::open(path).map_err(|problem| as_error(&problem))?;
    let group = file.group(row_group).map_err(|problem| as_error(&problem))?;
    let first_row = file.first_row(row_group);
    let lines = Lines { visit, next_row: first_row, line: Vec::new(), error: None };
    let mut writer =
        WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(lines);
    let written = guarded(|| {
        let mut batches = Batches::open(&group, &file, &|_| true)?;
        while let Some(batch) = batches.next()? {
            writer.write(&batch)?;
        }
        Ok(())
    });
    let lines = writer.into_inner();
    if let Some(error) = lines.error {
        return Err(error);
    }
    let n_rows = lines.next_row - first_row;
    let written = written.and_then(|()| match n_rows == group.n_rows() {
        true => Ok(()),
        false => Err(Fault::Corrupt(format!("{n_rows} rows of {}", group.n_rows()))),
    });
    written.map_err(|fault| as_error(&group.problem(&fault)))
}

/// Whether [`rows_as_json`] can show all rows of row group `row_group`. [`super::RowGroupReader`]
/// does not ask: a copy as Parquet needs less.
///
/// # Errors
/// Damage, or a column of a type that JSON has no form for, such as a map whose keys are numbers.
pub fn check_json(path: &Path, row_group: usize) -> Result<(), Problem> {
    rows_as_json(path, row_group, &mut |_, _| Ok(())).map_err(|error| {
        let message = error.to_string();
        let message = message.strip_prefix(error.code()).map_or(&*message, |rest| &rest[2..]);
        Problem::new(error.code(), message)
    })
}

/// Cuts what the writer of JSON writes into lines; no line end occurs inside one.
struct Lines<'a> {
    visit: &'a mut dyn FnMut(u64, &[u8]) -> Result<()>,
    next_row: u64,
    line: Vec<u8>,
    /// What `visit` returned.
    error: Option<Error>,
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.pop_if(|&mut byte| byte == b'\n').is_some() {
                let outcome = unguarded(|| (self.visit)(self.next_row, &self.line));
                outcome.map_err(|error| {
                    self.error = Some(error);
                    io::Error::other("the caller stopped")
                })?;
                self.line.clear();
                self.next_row += 1;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Rows of a row group, some at a time.
pub(super) struct Batches {
    reader: ParquetRecordBatchReader,
    /// As the rows are shown; as they are read, strings are bytes.
    schema: SchemaRef,
}

impl Batches {
    /// Opens a row group for those of its columns, by number, that `wants` says; there has to be one.
    pub fn open(
        group: &Group<'_>,
        file: &ParquetFile,
        wants: &dyn Fn(usize) -> bool,
    ) -> Result<Self, Fault> {
        let shown = with_text(file.schema(), Some(&LogicalType::String))?;
        let shown = parquet_to_arrow_schema(&shown, None)?;
        let shown = shown.fields().iter().enumerate().filter(|(root, _)| wants(*root));
        let shown = Schema::new(shown.map(|(_, field)| view(field)).collect::<Fields>());
        let stored = with_text(file.schema(), None)?;
        let read = parquet_to_arrow_schema(&stored, None)?;
        let read: Fields = read.fields().iter().map(view).collect();
        let roots = (0..read.len()).filter(|&root| wants(root));
        let mask = ProjectionMask::roots(&stored, roots);
        let levels = parquet_to_arrow_field_levels(&stored, mask, Some(&read))?;
        let rows = (0..group.metadata.num_columns()).map(|leaf| group.batch_rows(leaf)).min();
        let source = OneGroup { group, metadata: file.metadata() };
        let reader = ParquetRecordBatchReader::try_new_with_row_groups(
            &levels,
            &source,
            rows.unwrap_or(1),
            None,
        )?;
        Ok(Self { reader, schema: Arc::new(shown) })
    }

    /// The next rows, or `None` at the end.
    pub fn next(&mut self) -> Result<Option<RecordBatch>, Fault> {
        let Some(batch) = self.reader.next().transpose()? else { return Ok(None) };
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| as_text(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }
}

/// Strings and bytes are views of the pages: a dictionary that names a large value a thousand times
/// is still that one value in memory. Arrow's own copy of the schema is not heeded, since JSON
/// would show nothing of it but the names of time zones.
fn view(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        DataType::List(element) => DataType::List(view(element)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(view).collect()),
        // An offset: names of time zones would need a table of them.
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("+00:00".into())),
        other => other.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

/// One row group as the reader of batches wants it.
struct OneGroup<'a> {
    group: &'a Group<'a>,
    metadata: &'a ParquetMetaData,
}

impl RowGroups for OneGroup<'_> {
    fn num_rows(&self) -> usize {
        self.group.n_rows() as usize
    }

    fn column_chunks(&self, leaf: usize) -> ParquetResult<Box<dyn PageIterator>> {
        let pages: Box<dyn PageReader> = Box::new(self.group.pages(leaf)?);
        Ok(Box::new(OneColumn(Some(pages))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.group.metadata))
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.metadata
    }
}

struct OneColumn(Option<Box<dyn PageReader>>);

impl Iterator for OneColumn {
    type Item = ParquetResult<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl PageIterator for OneColumn {}
