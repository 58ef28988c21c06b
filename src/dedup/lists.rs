//! Stage 8: the lists of dropped and quarantined records, and the sums.
//!
//! In: sketches and verdicts; no input file is read. Out: `dropped.jsonl`, `quarantine.jsonl`, and the counts of
//! every file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::dedup::corpus::{Corpus, FrameRef, Origin};
use crate::dedup::job::Job;
use crate::dedup::keep::{Because, NONE, Verdict};
use crate::dedup::matching;
use crate::dedup::options::Scope;
use crate::dedup::report::{Counts, FileReport, ReferenceReport};
use crate::error::{Error, ErrorKind, IoContext, Result};

/// One line of `dropped.jsonl`.
#[derive(Serialize)]
struct Dropped<'a> {
    id: Box<RawValue>,
    source: &'a str,
    line: u64,
    kept_id: Option<Box<RawValue>>,
    kept_source: Option<&'a str>,
    kept_line: Option<u64>,
    similarity: f64,
    method: &'static str,
    cluster: u32,
}

/// One line of `quarantine.jsonl`.
#[derive(Serialize)]
struct Quarantined<'a> {
    source: &'a str,
    line: Option<u64>,
    offset: u64,
    len: u64,
    reason: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    raw_is_cut: bool,
}

/// Where a record comes from, as it is shown: the original place of a record from the index.
#[derive(Clone, Debug)]
pub struct Place {
    /// Id as a JSON token.
    pub id: String,
    /// File.
    pub source: String,
    /// Line, element or row, from 1.
    pub line: u64,
}

/// How a record is shown.
///
/// # Errors
/// If the sketch cannot be read.
pub fn place(job: &Job<'_>, origin: &Origin) -> Result<Place> {
    let source = job.files[origin.file].source.clone();
    if origin.file < job.n_index_files {
        return crate::dedup::index::original_place(origin, &source);
    }
    let name = || serde_json::to_string(&format!("{source}:{}", origin.line)).expect("a string");
    Ok(Place { id: origin.id.clone().unwrap_or_else(name), line: origin.line, source })
}

/// An id as it stands in JSON.
///
/// # Errors
/// `corrupt_file` if it is no JSON.
pub fn token(id: String) -> Result<Box<RawValue>> {
    RawValue::from_string(id.clone()).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "corrupt_file", format!("id {id}: {error}"))
    })
}

/// Output of this stage.
#[derive(Debug, Default)]
pub struct Lists {
    /// Counts of input files, in order.
    pub files: Vec<FileReport>,
    /// References.
    pub references: Vec<ReferenceReport>,
    /// Damage and bad records of references.
    pub warnings: Vec<String>,
}

/// Writes both lists and sums up (line and paragraph jobs have a list of cuts instead of dropped records).
/// Records of fewer than `short_below` units count as short.
///
/// # Errors
/// A failure of the disk.
pub fn write(job: &Job<'_>, corpus: &Corpus, short_below: usize) -> Result<Lists> {
    let mut lists = Lists::default();
    for (number, file) in job.files.iter().enumerate() {
        let source = file.source.clone();
        if number < job.n_reference_files {
            lists.references.push(ReferenceReport { source, ..Default::default() });
        } else {
            let format = file.format_name();
            lists.files.push(FileReport { source, format, ..Default::default() });
        }
    }
    let dropped_path = job.work("dropped.jsonl");
    let mut dropped = create(&dropped_path)?;
    let quarantine_path = job.work("quarantine.jsonl");
    let mut quarantine = create(&quarantine_path)?;
    let mut verdicts = matching::verdicts(job)?;
    let mut next = verdicts.next_row()?;
    for frame in corpus.frames() {
        let number = corpus.file_of(frame);
        quarantine_frame(job, corpus, frame, &mut lists, &mut quarantine, &quarantine_path)?;
        let ids = corpus.ids(frame)?;
        let mut start = 0;
        for (ordinal, meta) in frame.ordinals().zip(corpus.metas(frame)?) {
            let id = &ids[start as usize..meta.id_end as usize];
            start = meta.id_end;
            let verdict = next.filter(|verdict| verdict.ordinal == ordinal);
            if verdict.is_some() {
                next = verdicts.next_row()?;
            }
            let Some(at) = number.checked_sub(job.n_reference_files) else {
                lists.references[number].read += 1;
                continue;
            };
            let counts = &mut lists.files[at].counts;
            counts.read += 1;
            counts.bytes += u64::from(meta.len.max(meta.text_len));
            counts.empty += u64::from(meta.n_words == 0);
            counts.short += u64::from(meta.n_units > 0 && (meta.n_units as usize) < short_below);
            let Some(verdict) = verdict.filter(|verdict| !verdict.is_kept()) else {
                counts.kept += 1;
                continue;
            };
            counts.dropped += 1;
            counts.dropped_bytes += u64::from(meta.len.max(meta.text_len));
            let id = Some(String::from_utf8_lossy(id).into_owned()).filter(|id| !id.is_empty());
            let origin = corpus.origin_from(frame, &meta, id);
            if job.options.scope != Scope::Records {
                continue;
            }
            let twin_file =
                write_dropped(job, corpus, &origin, &verdict, &mut dropped, &dropped_path)?;
            if let Some(file) = twin_file.filter(|&file| file < job.n_reference_files) {
                lists.references[file].matched += 1;
            }
        }
    }
    dropped.flush().at("write", &dropped_path)?;
    quarantine.flush().at("write", &quarantine_path)?;
    Ok(lists)
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(256 << 10, File::create(path).at("create", path)?))
}

fn write_dropped(
    job: &Job<'_>,
    corpus: &Corpus,
    origin: &Origin,
    verdict: &Verdict,
    out: &mut impl Write,
    path: &Path,
) -> Result<Option<usize>> {
    let here = place(job, origin)?;
    let twin = match verdict.twin {
        NONE => None,
        twin => Some(corpus.origin(twin)?),
    };
    let kept = twin.as_ref().map(|twin| place(job, twin)).transpose()?;
    let method = if verdict.because == Because::Exact as u32 {
        "exact"
    } else if verdict.because == Because::Contains as u32 {
        "contains"
    } else if verdict.because == Because::Semantic as u32 {
        "semantic"
    } else if job.options.verify {
        "minhash"
    } else {
        "minhash-unverified"
    };
    let row = Dropped {
        id: token(here.id)?,
        source: &here.source,
        line: here.line,
        kept_id: kept.as_ref().map(|kept| token(kept.id.clone())).transpose()?,
        kept_source: kept.as_ref().map(|kept| kept.source.as_str()),
        kept_line: kept.as_ref().map(|kept| kept.line),
        similarity: verdict.similarity(),
        method,
        cluster: verdict.cluster,
    };
    write_line(out, &row, path)?;
    Ok(twin.map(|twin| twin.file))
}

/// One JSON line.
fn write_line(out: &mut impl Write, row: &impl Serialize, path: &Path) -> Result<()> {
    let mut line = serde_json::to_vec(row).expect("strings and numbers");
    line.push(b'\n');
    out.write_all(&line).at("write", path)
}

fn quarantine_frame(
    job: &Job<'_>,
    corpus: &Corpus,
    frame: &FrameRef,
    lists: &mut Lists,
    out: &mut impl Write,
    path: &Path,
) -> Result<()> {
    let number = corpus.file_of(frame);
    let source = &job.files[number].source;
    for entry in corpus.bad_entries(frame)? {
        let n_raw = entry.raw.as_ref().map_or(0, String::len);
        let row = Quarantined {
            source,
            line: entry.is_record.then_some(entry.line),
            offset: entry.offset,
            len: entry.len,
            reason: &entry.reason,
            message: &entry.message,
            raw: entry.raw.as_deref(),
            raw_base64: entry.raw_base64.as_deref(),
            raw_is_cut: entry.raw.is_some() && (n_raw as u64) < entry.len,
        };
        write_line(out, &row, path)?;
        let damage = (!entry.is_record).then(|| format!("{}: {}", entry.reason, entry.message));
        if let Some(at) = number.checked_sub(job.n_reference_files) {
            let file = &mut lists.files[at];
            if entry.is_record {
                file.counts.read += 1;
                file.counts.quarantined += 1;
                file.counts.bytes += entry.len;
            }
            file.damage = damage.or(file.damage.take());
        } else {
            lists.references[number].quarantined += u64::from(entry.is_record);
            lists.warnings.extend(damage.map(|damage| format!("reference {source}: {damage}")));
        }
    }
    Ok(())
}

/// Sums over files.
pub fn totals(files: &[FileReport]) -> Counts {
    let mut sum = Counts::default();
    for Counts { read, kept, dropped, quarantined, empty, short, bytes, dropped_bytes } in
        files.iter().map(|file| file.counts)
    {
        sum.read += read;
        sum.kept += kept;
        sum.dropped += dropped;
        sum.quarantined += quarantined;
        sum.empty += empty;
        sum.short += short;
        sum.bytes += bytes;
        sum.dropped_bytes += dropped_bytes;
    }
    sum
}
