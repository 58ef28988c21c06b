//! The persisted index: what earlier runs kept, so that tomorrow's run sees it.
//!
//! A folder of segments, one for each run that added to it: the kept texts in zstd, each with the place it came
//! from, and their sketches. A segment is a reference file whose sketch is already there.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dedup::corpus::{Corpus, Origin};
use crate::dedup::job::{Job, lanes_by_file, write_whole};
use crate::dedup::lists::{Place, place};
use crate::dedup::matching::{frames_by_file, input_changed, verdicts};
use crate::dedup::options::Options;
use crate::dedup::sketch::{Frame, SketchWriter, Sketcher};
use crate::dedup::walk::{Part, Sink, Work, walk};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::FieldNames;
use crate::record::codec::Compression;
use crate::record::input::{Format, InputFile};
use crate::record::reader::{PartRange, Position};

/// What signatures and texts of an index depend on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    hash_family: String,
    method: String,
    grouped_by: Option<String>,
}

/// What a segment says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Segment {
    job: u64,
    n_records: u64,
}

/// A record as it is stored. The id holds the record's own id, source and line as JSON.
#[derive(Serialize)]
struct Stored<'a> {
    id: String,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a serde_json::value::RawValue>,
}

/// Fields of stored records.
pub fn names(options: &Options) -> FieldNames {
    FieldNames {
        text: "text".into(),
        id: "id".into(),
        rank: None,
        group: options.group_by.as_ref().map(|_| "group".into()),
        vector: None,
        reserved: Vec::new(),
    }
}

fn header(options: &Options) -> Header {
    // Vectors are made anew of the stored texts in each run, so any embedder will do.
    let method = if options.method.is_lexical() { "minhash" } else { "exact" };
    Header {
        hash_family: options.hash_family(),
        method: method.into(),
        grouped_by: options.group_by.clone(),
    }
}

/// The segments of an index, oldest first, but for the one that the job `job` added before it was
/// interrupted. A new folder becomes an empty index.
///
/// # Errors
/// `index_mismatch` if the index was made with other shingles, signatures or groups.
pub fn segments(index: &Path, options: &Options, job: u64) -> Result<Vec<InputFile>> {
    let path = index.join("index.json");
    if !path.exists() {
        write_whole(&path, &serde_json::to_vec_pretty(&header(options)).expect("strings"))?;
    }
    let bytes = fs::read(&path).at("read", &path)?;
    let found: Header =
        serde_json::from_slice(&bytes).map_err(|error| Error::corrupt(&path, 0, error))?;
    if found != header(options) {
        let message =
            format!("{} holds {found:?}, this job has {:?}", path.display(), header(options));
        return Err(Error::usage("index_mismatch", message));
    }
    let mut files = Vec::new();
    for folder in folders(index)? {
        let about = read_segment(&folder)?;
        if about.job == job {
            continue;
        }
        let path = folder.join("records.jsonl.zst");
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let mut file = InputFile {
            source: format!("index/{name}"),
            size: 0,
            modified: 0,
            kind: Ok((Format::Jsonl, Compression::Zstd)),
            path,
        };
        (file.size, file.modified) = file.stat()?;
        files.push(file);
    }
    Ok(files)
}

fn folders(index: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(index).at("list", index)? {
        let path = entry.at("list", index)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("segment-") && !name.ends_with(".part") {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

fn read_segment(folder: &Path) -> Result<Segment> {
    let path = folder.join("segment.json");
    let bytes = fs::read(&path).at("read", &path)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::corrupt(&path, 0, error))
}

/// Puts the sketch of a segment where the job looks for it.
///
/// # Errors
/// A failure of the disk.
pub fn link_sketch(segment: &InputFile, sketch: &Path) -> Result<()> {
    let stored = segment.path.with_file_name("records.sk");
    let part = crate::dedup::spill::part_path(sketch);
    fs::copy(&stored, &part).at("copy", &stored)?;
    fs::rename(&part, sketch).at("rename to", sketch)
}

/// The place that a stored record came from.
///
/// # Errors
/// `corrupt_file` if the stored id is not what was written.
pub fn original_place(origin: &Origin, segment: &str) -> Result<Place> {
    let wrong = || {
        let message = format!("{segment} line {}: unknown form of id", origin.line);
        Error::new(ErrorKind::Corrupt, "corrupt_file", message)
    };
    let token = origin.id.as_deref().ok_or_else(wrong)?;
    let inner: String = serde_json::from_str(token).map_err(|_| wrong())?;
    let (id, source, line): (serde_json::Value, String, u64) =
        serde_json::from_str(&inner).map_err(|_| wrong())?;
    Ok(Place { id: id.to_string(), source, line })
}

/// Adds what this job kept as a new segment. Done once, however often the job is resumed.
///
/// # Errors
/// A failure of the disk.
pub fn add(
    job: &Job<'_>,
    parts: &[(usize, PartRange)],
    corpus: &Corpus,
    index: &Path,
) -> Result<()> {
    let existing = folders(index)?;
    for folder in &existing {
        if read_segment(folder)?.job == job.id {
            return Ok(());
        }
    }
    let last = existing
        .last()
        .and_then(|path| path.file_name()?.to_str()?.strip_prefix("segment-")?.parse::<u64>().ok());
    let folder = index.join(format!("segment-{:06}", last.map_or(0, |n| n + 1)));
    let part = crate::dedup::spill::part_path(&folder);
    if part.exists() {
        fs::remove_dir_all(&part).at("remove", &part)?;
    }
    fs::create_dir_all(&part).at("create", &part)?;
    let path = part.join("records.jsonl.zst");
    let n_records = write_records(job, parts, corpus, &path)?;
    sketch_records(job, &path, &part.join("records.sk"))?;
    let about = Segment { job: job.id, n_records };
    let about = serde_json::to_vec(&about).expect("numbers");
    write_whole(&part.join("segment.json"), &about)?;
    fs::rename(&part, &folder).at("rename to", &folder)
}

struct Records<'n> {
    out: zstd::Encoder<'static, BufWriter<File>>,
    path: PathBuf,
    n_records: &'n std::sync::atomic::AtomicU64,
}

impl Sink<(u64, Vec<u8>)> for Records<'_> {
    fn take(&mut self, _: usize, (n, bytes): (u64, Vec<u8>)) -> Result<()> {
        self.n_records.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
        self.out.write_all(&bytes).at("write", &self.path)
    }

    fn finish(&mut self) -> Result<()> {
        self.out.do_finish().at("write", &self.path)?;
        self.out.get_mut().flush().at("write", &self.path)
    }
}

fn write_records(
    job: &Job<'_>,
    parts: &[(usize, PartRange)],
    corpus: &Corpus,
    path: &Path,
) -> Result<u64> {
    let mut dropped = crate::core::bits::Bits::new(corpus.n_records());
    let mut rows = verdicts(job)?;
    while let Some(verdict) = rows.next_row()? {
        if !verdict.is_kept() {
            dropped.insert(verdict.ordinal);
        }
    }
    let frames = frames_by_file(corpus, job.files.len());
    let inputs = |file: usize| file >= job.n_reference_files && job.files[file].kind.is_ok();
    // One lane, so that the segment does not depend on the number of threads.
    let lanes = vec![lanes_by_file(&job.files, parts, &inputs).concat()];
    let starts = file_starts(&lanes[0], &frames);
    let n_records = std::sync::atomic::AtomicU64::new(0);
    let open = |_: usize| -> Result<Box<dyn Sink<(u64, Vec<u8>)> + '_>> {
        let file = BufWriter::new(File::create(path).at("create", path)?);
        let mut out = zstd::Encoder::new(file, 3).at("create", path)?;
        out.include_checksum(true).at("create", path)?;
        Ok(Box::new(Records { out, path: path.to_owned(), n_records: &n_records }))
    };
    let names = job.options.field_names();
    walk(
        &lanes,
        &names,
        job.options.threads,
        job.stop,
        &open,
        &|| (),
        &|(), part, number, work| {
            let (mut n, mut out) = (0, Vec::new());
            let Work::Block(block) = work else { return Ok((n, out)) };
            let changed = || input_changed(&part.file.source);
            let frame = number.checked_sub(starts[&part.file_number]);
            let frame =
                frame.and_then(|at| frames[part.file_number].get(at)).ok_or_else(changed)?;
            for (ordinal, meta) in frame.ordinals().zip(corpus.metas(frame)?) {
                if dropped.contains(ordinal) {
                    continue;
                }
                let position = Position { offset: meta.offset, len: meta.len, line: meta.line };
                let fields =
                    block.fields(position, &names, job.options.utf8).map_err(|_| changed())?;
                let place = place(job, &corpus.origin_from(frame, &meta, fields.id))?;
                let id: serde_json::Value =
                    serde_json::from_str(&place.id).map_err(|_| changed())?;
                let group = fields.group.map(serde_json::value::RawValue::from_string).transpose();
                let group = group.map_err(|_| changed())?;
                let stored = Stored {
                    id: serde_json::to_string(&(id, place.source, place.line)).expect("strings"),
                    text: &fields.text,
                    group: group.as_deref(),
                };
                serde_json::to_writer(&mut out, &stored).expect("writing to memory");
                out.push(b'\n');
                n += 1;
            }
            Ok((n, out))
        },
    )?;
    Ok(n_records.into_inner())
}

/// Number of the first block of each file in a lane of several files.
fn file_starts(
    lane: &[Part<'_>],
    frames: &[Vec<crate::dedup::corpus::FrameRef>],
) -> std::collections::HashMap<usize, usize> {
    let mut starts = std::collections::HashMap::new();
    let mut at = 0;
    for part in lane {
        if let std::collections::hash_map::Entry::Vacant(entry) = starts.entry(part.file_number) {
            entry.insert(at);
            at += frames[part.file_number].len();
        }
    }
    starts
}

fn sketch_records(job: &Job<'_>, path: &Path, sketch: &Path) -> Result<()> {
    let file = InputFile {
        path: path.to_owned(),
        source: "index".into(),
        size: 0,
        modified: 0,
        kind: Ok((Format::Jsonl, Compression::Zstd)),
    };
    let part = Part { number: 0, file: &file, file_number: 0, range: PartRange::Whole };
    let lanes = vec![vec![part]];
    let names = names(job.options);
    let open = |_: usize| -> Result<Box<dyn Sink<Frame> + '_>> {
        Ok(Box::new(SketchWriter::create(sketch, job.options)?))
    };
    let state = || Sketcher::new(job.options, names.clone(), None, None);
    walk(&lanes, &names, job.options.threads, job.stop, &open, &state, &|state, part, _, work| {
        Ok(state.sketch(part, work))
    })
}
