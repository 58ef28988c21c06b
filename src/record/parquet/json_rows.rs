//! The rows of a file as lines of JSON, without its vectors, one after the other.

use std::collections::VecDeque;
use std::path::Path;

use arrow_json::LineDelimitedWriter;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;

use super::file::{ParquetFile, as_error};
use super::guard::{Fault, guarded};
use super::json_out::Batches;
use super::kind::find;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Problem;

/// Reads the columns of a file that are wanted, as [`super::rows_as_json`] shows them.
pub struct JsonRows {
    file: ParquetFile,
    /// Whether each column is wanted.
    wanted: Vec<bool>,
    /// The row group that comes next.
    group: usize,
    batches: Option<Batches>,
    lines: VecDeque<String>,
}

impl JsonRows {
    /// Opens the file at `path` for all columns but `left_out`, or for `only` one. `None` if that is none.
    ///
    /// # Errors
    /// `field_missing` if there is no `only`; those of the file.
    pub fn open(path: &Path, left_out: &str, only: Option<&str>) -> Result<Option<Self>> {
        let file = ParquetFile::open(path).map_err(|problem| as_error(&problem))?;
        if let Some(only) = only.filter(|only| find(file.schema(), only).is_none()) {
            let message = format!("{}: no column {only:?}", path.display());
            return Err(Error::new(ErrorKind::BadInput, "field_missing", message));
        }
        let fields = file.schema().root_schema().get_fields();
        let is_wanted = |name: &str| only.map_or(name != left_out, |only| name == only);
        let wanted: Vec<bool> = fields.iter().map(|field| is_wanted(field.name())).collect();
        let this = Self { file, wanted, group: 0, batches: None, lines: VecDeque::new() };
        Ok(this.wanted.contains(&true).then_some(this))
    }

    /// The next row, or `None` at the end.
    ///
    /// # Errors
    /// Damage, or a column of a type that JSON has no form for.
    pub fn next_row(&mut self) -> Result<Option<String>> {
        while self.lines.is_empty() {
            if self.batches.is_none() {
                if self.group == self.file.metadata().num_row_groups() {
                    return Ok(None);
                }
                self.batches = Some(self.open_group().map_err(|problem| as_error(&problem))?);
                self.group += 1;
            }
            let batch = guarded(|| self.read_batch());
            batch.map_err(|fault| as_error(&self.file.problem(self.group - 1, &fault)))?;
        }
        Ok(self.lines.pop_front())
    }

    fn open_group(&self) -> Result<Batches, Problem> {
        let group = self.file.group(self.group)?;
        let opened = guarded(|| Batches::open(&group, &self.file, &|root| self.wanted[root]));
        opened.map_err(|fault| group.problem(&fault))
    }

    /// Makes lines of some rows, or ends the row group.
    fn read_batch(&mut self) -> Result<(), Fault> {
        let batch = self.batches.as_mut().map_or(Ok(None), Batches::next)?;
        let Some(batch) = batch else {
            self.batches = None;
            return Ok(());
        };
        let mut bytes = Vec::new();
        let mut writer: LineDelimitedWriter<_> =
            WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
        writer.write(&batch)?;
        writer.finish()?;
        drop(writer);
        let text = String::from_utf8(bytes).map_err(|_| Fault::corrupt("JSON that is no UTF-8"))?;
        // No line end occurs inside a line.
        self.lines.extend(text.lines().map(str::to_owned));
        Ok(())
    }
}
