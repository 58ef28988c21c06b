//! Stage 7: kept records to files.
//!
//! In: the input files once more, and the verdicts. Out: `kept/`, one file for each input file, records byte for
//! byte as read. Each block is cut, and compressed, by whoever works on it; blocks are written in order.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::core::bits::Bits;
use crate::dedup::corpus::{Corpus, FrameRef};
use crate::dedup::job::{Job, lanes_by_file};
use crate::dedup::keep::{Because, Verdict};
use crate::dedup::matching::{frames_by_file, input_changed, verdicts};
use crate::dedup::options::{OutputFormat, Scope};
use crate::dedup::spans::Edits;
use crate::dedup::spill::part_path;
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

/// One member or frame of its own, so that blocks can be compressed in parallel and joined.
fn compress(bytes: Vec<u8>, compression: Compression, path: &Path) -> Result<Vec<u8>> {
    if bytes.is_empty() { Ok(bytes) } else { frame(bytes, compression, path) }
}

/// [`compress`], also of nothing: a file of no bytes would be a damaged one.
fn frame(bytes: Vec<u8>, compression: Compression, path: &Path) -> Result<Vec<u8>> {
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
struct KeptFile<'o> {
    output: &'o Output,
    file: Option<File>,
    n_records: u64,
    held: Vec<u8>,
}

impl<'o> KeptFile<'o> {
    fn new(output: &'o Output) -> Self {
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

#[cfg(feature = "parquet")]
use with_parquet::{copy_parquet, lines_to_parquet};

#[cfg(feature = "parquet")]
mod with_parquet {
    use std::io::{BufRead, BufReader};

    use rayon::prelude::*;

    use super::*;
    use crate::record::input::InputFile;
    use crate::record::parquet::{JsonSink, RowFate, SchemaBuilder, copy_rows, rows_as_json};

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
                    copy_rows(&file.path, &part, text, &damaged, annotate, &mut |row| {
                        rows.fate(row)
                    })?;
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
}
