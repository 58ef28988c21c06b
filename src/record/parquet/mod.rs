//! Parquet in and out: rows as records, kept rows as a file of the same schema, rows as JSON and
//! back.
//!
//! In: a path and a row group. Out: [`RowBatch`]es, files and lines. A row group is read whole or
//! not at all: its sizes are checked first, then every column is decoded once, and only then are
//! its rows given out. The decoders are not trusted with what they read (arrow-rs treats panics as
//! bugs, and a few bytes can ask for gigabytes): they run inside `guard.rs`, on pages whose sizes
//! and counts `file.rs`, `pages.rs` and `delta.rs` have compared with the bytes that are there.
//!
//! Next: `read.rs` (rows to fields), `copy.rs`, `json_out.rs`, `json_in.rs` with `shape.rs`.

mod column;
mod copy;
mod delta;
mod file;
mod guard;
mod json_in;
mod json_out;
mod json_rows;
mod kind;
mod lists;
mod output;
mod pages;
mod read;
mod shape;
mod text;
mod thrift;
mod vectors;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use copy::{RowFate, copy_rows};
pub use json_in::{JsonSink, SchemaBuilder};
pub use json_out::{check_json, rows_as_json};
pub use json_rows::JsonRows;
pub use lists::ListReader;
pub use read::{RowBatch, RowGroupReader};

use crate::record::Problem;

/// Rows of each row group of the file at `path`, from its footer.
///
/// # Errors
/// `parquet_corrupt`, `parquet_unsupported` or `input_unreadable`; then nothing of the file can be
/// read.
pub fn row_groups(path: &Path) -> Result<Vec<u64>, Problem> {
    Ok(file::ParquetFile::open(path)?.rows().collect())
}
