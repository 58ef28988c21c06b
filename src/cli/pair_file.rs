//! The file of pairs: sorted lines, written aside and renamed.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use bytemuck::{Pod, Zeroable};

use crate::dedup::spill::{Sorted, part_path};
use crate::error::{Error, IoContext, Result};

/// A pair as it is sorted: rows of the files, and the bits of what is written beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Line {
    /// Row of the first file.
    pub a: u32,
    /// Row of the second file, or of the first if there is one only.
    pub b: u32,
    /// Similarity or distance, as the bits of an f32.
    pub value: u32,
}

/// What the file is.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    Jsonl,
    Parquet,
}

impl Form {
    /// What the name of the file asks for.
    ///
    /// # Errors
    /// `output_format` for other names, and for Parquet in a build without it.
    pub fn of(out: &Path) -> Result<Self> {
        match out.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl") => Ok(Self::Jsonl),
            Some("parquet") if cfg!(feature = "parquet") => Ok(Self::Parquet),
            Some("parquet") => {
                let message = "parquet: this build lacks the feature `parquet`";
                Err(Error::usage("output_format", message))
            }
            _ => {
                let message = format!("{}, expected a name in .jsonl or .parquet", out.display());
                Err(Error::usage("output_format", message))
            }
        }
    }
}

/// A folder beside the output for what does not fit in memory; removed when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates it.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(out: &Path) -> Result<Self> {
        let mut name = out.as_os_str().to_owned();
        name.push(format!(".{}.sort", std::process::id()));
        let folder = PathBuf::from(name);
        fs::create_dir(&folder).at("create", &folder)?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind at worst: it is named after the output and this process, and nothing reads it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes the pairs to `out`, by way of a file beside it.
///
/// # Errors
/// A failure of the disk; then there is no file.
pub fn write(out: &Path, form: Form, lines: Sorted<Line>, key: &str) -> Result<()> {
    let part = part_path(out);
    let written = match form {
        Form::Jsonl => write_jsonl(&part, lines, key),
        Form::Parquet => write_parquet(&part, lines, key),
    };
    let named = written.and_then(|()| fs::rename(&part, out).at("rename to", out));
    if named.is_err() {
        // The error that is returned says more than a failure to clean up after it.
        let _ = fs::remove_file(&part);
    }
    named
}

fn line(line: &Line, key: &str) -> String {
    format!("{{\"a\": {}, \"b\": {}, \"{key}\": {:?}}}", line.a, line.b, f32::from_bits(line.value))
}

fn write_jsonl(part: &Path, mut lines: Sorted<Line>, key: &str) -> Result<()> {
    let file = File::create(part).at("create", part)?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    while let Some(next) = lines.next_row()? {
        writeln!(file, "{}", line(&next, key)).at("write", part)?;
    }
    file.flush().at("write", part)
}

#[cfg(feature = "parquet")]
fn write_parquet(part: &Path, mut lines: Sorted<Line>, key: &str) -> Result<()> {
    use crate::record::parquet::{JsonSink, SchemaBuilder};
    let mut schema = SchemaBuilder::new();
    schema.observe(line(&Line { a: 0, b: 1, value: 0.5f32.to_bits() }, key).as_bytes())?;
    let mut sink = JsonSink::create(part, schema.finish()?)?;
    while let Some(next) = lines.next_row()? {
        sink.write(line(&next, key).as_bytes())?;
    }
    sink.finish().map(|_| ())
}

#[cfg(not(feature = "parquet"))]
fn write_parquet(_: &Path, _: Sorted<Line>, _: &str) -> Result<()> {
    Err(Error::usage("output_format", "parquet: this build lacks the feature `parquet`"))
}
