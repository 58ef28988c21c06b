//! Kept rows of Parquet inputs, and records of other inputs as Parquet.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use rayon::prelude::*;

use crate::dedup::apply::kept_file::{compress, frame};
use crate::dedup::apply::{Fate, Form, Output, annotate, replace_text};
use crate::dedup::corpus::{Corpus, FrameRef};
use crate::dedup::job::Job;
use crate::dedup::spill::part_path;
use crate::error::{Error, IoContext, Result};
use crate::record::codec::Compression;
use crate::record::input::{Format, InputFile};
use crate::record::parquet::{JsonSink, RowFate, SchemaBuilder, copy_rows, rows_as_json};
use crate::record::reader::PartRange;

/// Turns a file of JSON lines into Parquet and removes it.
pub fn lines_to_parquet(lines: &Path, path: &Path) -> Result<()> {
    let mut schema = SchemaBuilder::new();
    each_line(lines, &mut |line| schema.observe(line))?;
    let whole = path.with_extension("parquet.part2");
    let mut sink = JsonSink::create(&whole, schema.finish()?)?;
    each_line(lines, &mut |line| sink.write(line))?;
    sink.finish()?;
    fs::rename(&whole, path).at("rename to", path)?;
    fs::remove_file(lines).at("remove", lines)
}

fn each_line(path: &Path, visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).at("open", path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).at("read", path)? == 0 {
            return Ok(());
        }
        visit(line.trim_ascii())?;
    }
}

/// Writes the kept rows of all Parquet inputs.
pub fn copy_parquet(
    job: &Job<'_>,
    outputs: &HashMap<usize, Output>,
    frames: &[Vec<FrameRef>],
    parts: &[(usize, PartRange)],
    corpus: &Corpus,
    fate: &Fate<'_>,
    todo: &dyn Fn(usize) -> bool,
) -> Result<()> {
    let is_parquet = |file: usize| matches!(job.files[file].kind, Ok((Format::Parquet, _)));
    let files: Vec<usize> =
        (0..job.files.len()).filter(|&file| todo(file) && is_parquet(file)).collect();
    files.par_iter().try_for_each(|&number| {
        job.check_stop()?;
        let file = &job.files[number];
        let mut rows = Rows::new(job, corpus, fate, &frames[number])?;
        let damaged = damaged_groups(corpus, &frames[number], parts, number)?;
        let output = &outputs[&number];
        let part = part_path(&output.path);
        match output.form {
            Form::ParquetCopy => {
                let annotate = job.options.annotate;
                let text = &job.options.text_field;
                copy_rows(&file.path, &part, text, &damaged, annotate, &mut |row| rows.fate(row))?;
            }
            _ => write_lines(job, file, parts, number, &damaged, output, &part, &mut rows)?,
        }
        rows.failure.map_or(Ok(()), Err)?;
        job.progress.advance(file.size);
        fs::rename(&part, &output.path).at("rename to", &output.path)
    })
}

#[allow(clippy::too_many_arguments)]
fn write_lines(
    job: &Job<'_>,
    file: &InputFile,
    parts: &[(usize, PartRange)],
    number: usize,
    damaged: &[usize],
    output: &Output,
    part: &Path,
    rows: &mut Rows<'_>,
) -> Result<()> {
    let compression = match output.form {
        Form::Lines(compression) => compression,
        _ => Compression::None,
    };
    let mut out = File::create(part).at("create", part)?;
    let (mut bytes, mut is_empty) = (Vec::new(), true);
    for (_, range) in parts.iter().filter(|(file, _)| *file == number) {
        let &PartRange::RowGroup(group) = range else { continue };
        if damaged.contains(&group) {
            continue;
        }
        rows_as_json(&file.path, group, &mut |row, line| {
            match rows.fate(row) {
                RowFate::Drop => return Ok(()),
                RowFate::Keep => bytes.extend_from_slice(line),
                RowFate::Edited(text) => {
                    bytes.extend(replace_text(line, &job.options.text_field, &text));
                }
                RowFate::Annotated(annotation) => {
                    let mut line = line.to_vec();
                    annotate(&mut line, &annotation);
                    bytes.extend(line);
                }
            }
            bytes.push(b'\n');
            if bytes.len() >= crate::core::limits::BLOCK_BYTES {
                let piece = compress(std::mem::take(&mut bytes), compression, part)?;
                out.write_all(&piece).at("write", part)?;
                is_empty = false;
            }
            Ok(())
        })?;
    }
    let last = if is_empty { frame } else { compress };
    out.write_all(&last(bytes, compression, part)?).at("write", part)
}

/// Row groups that ended in damage.
fn damaged_groups(
    corpus: &Corpus,
    frames: &[FrameRef],
    parts: &[(usize, PartRange)],
    number: usize,
) -> Result<Vec<usize>> {
    let mut damaged = Vec::new();
    let first = parts.iter().position(|(file, _)| *file == number).unwrap_or(0);
    for frame in frames {
        if corpus.bad_entries(frame)?.iter().any(|entry| !entry.is_record) {
            damaged.push(frame.part as usize - first);
        }
    }
    Ok(damaged)
}

/// Fates of the rows of one file, asked for in row order.
struct Rows<'r> {
    job: &'r Job<'r>,
    fate: &'r Fate<'r>,
    /// Row and ordinal of every record.
    records: Vec<(u64, u32)>,
    next: usize,
    failure: Option<Error>,
    texts: HashMap<u32, String>,
}

impl<'r> Rows<'r> {
    fn new(
        job: &'r Job<'r>,
        corpus: &'r Corpus,
        fate: &'r Fate<'r>,
        frames: &[FrameRef],
    ) -> Result<Self> {
        let mut records = Vec::new();
        let mut texts = HashMap::new();
        for frame in frames {
            for (ordinal, meta) in frame.ordinals().zip(corpus.metas(frame)?) {
                records.push((meta.offset, ordinal));
                if fate.edits.touches(ordinal) {
                    let text = crate::dedup::samples::text(job, corpus, ordinal)?;
                    texts.insert(ordinal, fate.edits.apply(ordinal, &text));
                }
            }
        }
        Ok(Self { job, fate, records, next: 0, failure: None, texts })
    }

    fn fate(&mut self, row: u64) -> RowFate {
        while self.records.get(self.next).is_some_and(|record| record.0 < row) {
            self.next += 1;
        }
        let Some(&(_, ordinal)) = self.records.get(self.next).filter(|record| record.0 == row)
        else {
            // A quarantined row.
            return RowFate::Drop;
        };
        if !self.fate.is_written(ordinal) {
            return RowFate::Drop;
        }
        if let Some(text) = self.texts.remove(&ordinal) {
            return RowFate::Edited(text);
        }
        match self.fate.annotation(ordinal) {
            Some(annotation) if self.job.options.annotate => RowFate::Annotated(annotation),
            _ => RowFate::Keep,
        }
    }
}
