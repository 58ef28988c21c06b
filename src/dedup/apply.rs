//! Stage 7: kept records to files.
//!
//! In: the input files once more, and the verdicts. Out: `kept/`, one file for each input file, records byte for
//! byte as read. Each block is cut, and compressed, by whoever works on it; blocks are written in order.

mod kept_file;
#[cfg(feature = "parquet")]
mod parquet;

use std::collections::HashMap;
use std::fs;
#[cfg(not(feature = "parquet"))]
use std::path::Path;
use std::path::PathBuf;

use crate::core::bits::Bits;
use crate::dedup::apply::kept_file::{KeptFile, compress};
#[cfg(feature = "parquet")]
use crate::dedup::apply::parquet::{copy_parquet, lines_to_parquet};
use crate::dedup::corpus::{Corpus, FrameRef};
use crate::dedup::job::{Job, lanes_by_file};
use crate::dedup::keep::{Because, Verdict};
use crate::dedup::matching::{frames_by_file, input_changed, verdicts};
use crate::dedup::options::{OutputFormat, Scope};
use crate::dedup::spans::Edits;
use crate::dedup::walk::{Part, Sink, Work, walk};
use crate::error::{Error, IoContext, Result};
use crate::record::Annotation;
use crate::record::codec::Compression;
use crate::record::input::Format;
use crate::record::reader::{Block, PartRange, Position};

/// How kept records of one input file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Bytes as they are, one record after another.
    Raw(Compression),
    /// A JSON array.
    Array(Compression),
    /// JSON Lines from something else.
    Lines(Compression),
    /// Parquet, from JSON lines that are written first.
    Parquet,
    /// Parquet to Parquet.
    ParquetCopy,
}

struct Output {
    form: Form,
    path: PathBuf,
    /// One record that is the whole file: no file is written if it was dropped.
    is_document: bool,
}

/// Verdicts by record, as far as applying needs them.
pub struct Fate<'f> {
    dropped: Bits,
    /// With `--annotate`: verdicts of all cluster members, and cluster sizes.
    annotations: Option<(HashMap<u32, Verdict>, &'f [u32])>,
    edits: Edits,
}

impl<'f> Fate<'f> {
    /// Reads the verdicts of a job.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(
        job: &Job<'_>,
        n_records: u32,
        cluster_sizes: &'f [u32],
        edits: Edits,
    ) -> Result<Self> {
        let mut dropped = Bits::new(n_records);
        let mut members = HashMap::new();
        let mut rows = verdicts(job)?;
        while let Some(verdict) = rows.next_row()? {
            if !verdict.is_kept() {
                dropped.insert(verdict.ordinal);
            }
            if job.options.annotate {
                members.insert(verdict.ordinal, verdict);
            }
        }
        let annotations = job.options.annotate.then_some((members, cluster_sizes));
        Ok(Self { dropped, annotations, edits })
    }

    /// Whether the record is written.
    fn is_written(&self, ordinal: u32) -> bool {
        self.annotations.is_some() || !self.dropped.contains(ordinal)
    }

    fn annotation(&self, ordinal: u32) -> Option<Annotation> {
        let (members, sizes) = self.annotations.as_ref()?;
        let Some(verdict) = members.get(&ordinal) else {
            let (kept, weight) = (true, 1.0);
            return Some(Annotation {
                cluster: None,
                cluster_size: 1,
                kept,
                similarity: None,
                weight,
            });
        };
        let size = u64::from(sizes[verdict.cluster as usize]);
        Some(Annotation {
            cluster: Some(u64::from(verdict.cluster)),
            cluster_size: size,
            kept: verdict.is_kept(),
            similarity: (verdict.because != Because::Kept as u32).then(|| verdict.similarity()),
            weight: 1.0 / size as f64,
        })
    }
}

/// Writes the kept records of all input files.
///
/// # Errors
/// A failure of the disk, `input_changed`, or `output_collision`.
pub fn run(
    job: &Job<'_>,
    parts: &[(usize, PartRange)],
    corpus: &Corpus,
    fate: &Fate<'_>,
) -> Result<()> {
    let outputs = outputs(job)?;
    let frames = frames_by_file(corpus, job.files.len());
    let todo = |file: usize| outputs.get(&file).is_some_and(|output| !output.path.exists());
    copy_parquet(job, &outputs, &frames, parts, corpus, fate, &todo)?;
    let by_block =
        |file: usize| todo(file) && !matches!(job.files[file].kind, Ok((Format::Parquet, _)));
    let lanes = lanes_by_file(&job.files, parts, &by_block);
    let open = |lane: usize| -> Result<Box<dyn Sink<Piece> + '_>> {
        let output = &outputs[&lanes[lane][0].file_number];
        Ok(Box::new(KeptFile::new(output)))
    };
    let names = job.options.field_names();
    walk(&lanes, &names, job.options.threads, job.stop, &open, &|| (), &|(), part, number, work| {
        let frame = frames[part.file_number].get(number);
        let output = &outputs[&part.file_number];
        match work {
            Work::Block(block) => {
                job.progress.advance(block.n_bytes());
                let frame = frame.ok_or_else(|| input_changed(&part.file.source))?;
                let cutter = Cutter { job, corpus, fate, part, output };
                cutter.cut(&block, frame)
            }
            Work::Damage(_) => Ok(Piece::default()),
        }
    })
}

fn outputs(job: &Job<'_>) -> Result<HashMap<usize, Output>> {
    let mut outputs = HashMap::new();
    let mut taken: HashMap<PathBuf, &str> = HashMap::new();
    for (number, file) in job.files.iter().enumerate().skip(job.n_reference_files) {
        let Ok((format, compression)) = file.kind else { continue };
        let (form, suffix) = form(job.options.output_format, format, compression);
        let name = match suffix {
            None => file.source.clone(),
            Some(suffix) => format!("{}{suffix}", stem(&file.source)),
        };
        let path = job.work("kept").join(&name);
        if let Some(other) = taken.insert(path.clone(), &file.source) {
            let message =
                format!("{other} and {} would both be written to kept/{name}", file.source);
            return Err(Error::usage("output_collision", message));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).at("create", folder)?;
        }
        let is_document = format == Format::Text;
        outputs.insert(number, Output { form, path, is_document });
    }
    Ok(outputs)
}

/// The form of the output and, where the name changes, its new extension.
fn form(
    asked: OutputFormat,
    format: Format,
    compression: Compression,
) -> (Form, Option<&'static str>) {
    match (asked, format) {
        (OutputFormat::Same, Format::Parquet) => (Form::ParquetCopy, None),
        (OutputFormat::Parquet, Format::Parquet) => (Form::ParquetCopy, None),
        (OutputFormat::Same, Format::Json) => (Form::Array(compression), None),
        (OutputFormat::Same, _) => (Form::Raw(compression), None),
        (OutputFormat::Jsonl, Format::Jsonl) => (Form::Raw(Compression::None), Some(".jsonl")),
        (OutputFormat::Jsonl, _) => (Form::Lines(Compression::None), Some(".jsonl")),
        (OutputFormat::JsonlZst, Format::Jsonl) => {
            (Form::Raw(Compression::Zstd), Some(".jsonl.zst"))
        }
        (OutputFormat::JsonlZst, _) => (Form::Lines(Compression::Zstd), Some(".jsonl.zst")),
        (OutputFormat::Parquet, _) => (Form::Parquet, Some(".parquet")),
    }
}

/// A path without `.gz` or `.zst` and the extension before it.
fn stem(source: &str) -> &str {
    let name =
        [".gz", ".zst"].iter().find_map(|suffix| source.strip_suffix(suffix)).unwrap_or(source);
    let known = [".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".txt", ".text"];
    known.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// What is written for one block.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    n_records: u64,
}

struct Cutter<'c> {
    job: &'c Job<'c>,
    corpus: &'c Corpus,
    fate: &'c Fate<'c>,
    part: &'c Part<'c>,
    output: &'c Output,
}

impl Cutter<'_> {
    fn cut(&self, block: &Block, frame: &FrameRef) -> Result<Piece> {
        let mut piece = Piece::default();
        let copies = matches!(self.output.form, Form::Raw(_))
            && !self.job.options.annotate
            && self.job.options.scope == Scope::Records;
        // Neighbouring kept records are copied at once.
        let mut run: Option<Position> = None;
        for (ordinal, meta) in frame.ordinals().zip(self.corpus.metas(frame)?) {
            let position = Position { offset: meta.offset, len: meta.len, line: meta.line };
            if !self.fate.is_written(ordinal) {
                continue;
            }
            piece.n_records += 1;
            if !copies {
                self.write(block, ordinal, position, &mut piece.bytes)?;
                continue;
            }
            run = match run {
                Some(run) if run.offset + u64::from(run.len) == position.offset => {
                    Some(Position { len: run.len + position.len, ..run })
                }
                Some(run) => {
                    piece.bytes.extend_from_slice(self.slice(block, run)?);
                    Some(position)
                }
                None => Some(position),
            };
        }
        if let Some(run) = run {
            piece.bytes.extend_from_slice(self.slice(block, run)?);
        }
        let compression = match self.output.form {
            Form::Raw(compression) | Form::Lines(compression) => compression,
            Form::Array(_) | Form::Parquet | Form::ParquetCopy => Compression::None,
        };
        piece.bytes = compress(piece.bytes, compression, &self.output.path)?;
        Ok(piece)
    }

    fn slice<'b>(&self, block: &'b Block, position: Position) -> Result<&'b [u8]> {
        block.slice(position).ok_or_else(|| input_changed(&self.part.file.source))
    }

    /// Writes one record with what was added or cut.
    fn write(
        &self,
        block: &Block,
        ordinal: u32,
        position: Position,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let raw = self.slice(block, position)?;
        let is_text = matches!(self.part.file.kind, Ok((Format::Text, _)));
        let new_text = if self.fate.edits.touches(ordinal) {
            let names = self.job.options.field_names();
            let fields = block.fields(position, &names, self.job.options.utf8);
            let fields = fields.map_err(|_| input_changed(&self.part.file.source))?;
            Some(self.fate.edits.apply(ordinal, &fields.text))
        } else {
            None
        };
        if is_text && matches!(self.output.form, Form::Raw(_)) {
            match new_text {
                Some(text) => out.extend_from_slice(text.as_bytes()),
                None => out.extend_from_slice(raw),
            }
            return Ok(());
        }
        let mut line = if is_text {
            let text = new_text.unwrap_or_else(|| String::from_utf8_lossy(raw).into_owned());
            json_document(&self.job.options.text_field, &self.part.file.source, &text)
        } else {
            let body = raw.trim_ascii();
            match new_text {
                Some(text) => replace_text(body, &self.job.options.text_field, &text),
                None => body.to_vec(),
            }
        };
        if let Some(annotation) = self.fate.annotation(ordinal) {
            annotate(&mut line, &annotation);
        }
        if matches!(self.output.form, Form::Lines(_) | Form::Parquet) {
            // White space outside of strings is all that a line end can be in JSON.
            line.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        }
        out.extend_from_slice(&line);
        match self.output.form {
            Form::Array(_) => out.extend_from_slice(b",\n"),
            _ if raw.ends_with(b"\r\n") => out.extend_from_slice(b"\r\n"),
            _ => out.push(b'\n'),
        }
        Ok(())
    }
}

/// A document as a JSON object.
fn json_document(text_field: &str, source: &str, text: &str) -> Vec<u8> {
    let mut object = serde_json::Map::new();
    object.insert("id".into(), source.into());
    object.insert(text_field.into(), text.into());
    serde_json::to_vec(&object).expect("strings")
}

/// `body`, a checked JSON object, with another value of its text field.
fn replace_text(body: &[u8], text_field: &str, text: &str) -> Vec<u8> {
    let body_text = String::from_utf8_lossy(body);
    let value = sonic_rs::get(body_text.as_ref(), [text_field]).expect("the field was read before");
    let raw = value.as_raw_str();
    let start = raw.as_ptr() as usize - body_text.as_ptr() as usize;
    let mut out = body_text.as_bytes()[..start].to_vec();
    out.extend_from_slice(&serde_json::to_vec(text).expect("a string"));
    out.extend_from_slice(&body_text.as_bytes()[start + raw.len()..]);
    out
}

/// Adds the annotation before the closing brace of a JSON object that has fields.
fn annotate(line: &mut Vec<u8>, a: &Annotation) {
    line.truncate(line.trim_ascii_end().len() - 1);
    let number = |n: Option<u64>| n.map_or("null".to_owned(), |n| n.to_string());
    let similarity = serde_json::to_string(&a.similarity).expect("a number");
    let added = format!(
        ", \"nearkin_cluster\": {}, \"nearkin_cluster_size\": {}, \"nearkin_kept\": {}, \
         \"nearkin_similarity\": {similarity}, \"nearkin_weight\": {}}}",
        number(a.cluster),
        a.cluster_size,
        a.kept,
        serde_json::to_string(&a.weight).expect("a number")
    );
    line.extend_from_slice(added.as_bytes());
}

#[cfg(not(feature = "parquet"))]
fn lines_to_parquet(_: &Path, _: &Path) -> Result<()> {
    Err(Error::usage("output_format", "parquet: this build lacks the feature `parquet`"))
}

#[cfg(not(feature = "parquet"))]
fn copy_parquet(
    _: &Job<'_>,
    _: &HashMap<usize, Output>,
    _: &[Vec<FrameRef>],
    _: &[(usize, PartRange)],
    _: &Corpus,
    _: &Fate<'_>,
    _: &dyn Fn(usize) -> bool,
) -> Result<()> {
    Ok(())
}
