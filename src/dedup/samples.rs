//! Texts for the report: a few records of the largest clusters, read where they lie.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::dedup::corpus::Corpus;
use crate::dedup::job::Job;
use crate::dedup::keep::{Because, NONE};
use crate::dedup::lists::place;
use crate::dedup::matching::{frames_by_file, input_changed, verdicts};
use crate::dedup::report::{ClusterSample, Member};
use crate::error::{IoContext, Result};
use crate::record::codec::Compression;
use crate::record::input::Format;
use crate::record::reader::{PartRange, PartReader, Position, read_json};

/// Clusters shown.
const CLUSTERS: usize = 10;
/// Dropped records shown of each.
const MEMBERS: usize = 3;
/// Bytes shown of each text.
const TEXT_BYTES: usize = 4000;

/// The largest clusters with a kept record, and some of what was dropped for it. Near duplicates are shown
/// before equal ones: they have differences to see.
///
/// # Errors
/// If a record cannot be read again.
pub fn largest(job: &Job<'_>, corpus: &Corpus, sizes: &[u32]) -> Result<Vec<ClusterSample>> {
    let mut numbers: Vec<u32> = (0..sizes.len() as u32).collect();
    numbers.sort_by_key(|&number| (std::cmp::Reverse(sizes[number as usize]), number));
    numbers.truncate(CLUSTERS);
    // By cluster and kept record: dropped ones, nearest the threshold first.
    let mut dropped: HashMap<u32, HashMap<u32, Vec<(u32, f64)>>> = HashMap::new();
    let mut rows = verdicts(job)?;
    while let Some(verdict) = rows.next_row()? {
        let shown = verdict.because != Because::Kept as u32 && verdict.twin != NONE;
        if shown && numbers.contains(&verdict.cluster) {
            let of_twin =
                dropped.entry(verdict.cluster).or_default().entry(verdict.twin).or_default();
            of_twin.push((verdict.ordinal, verdict.similarity()));
        }
    }
    let mut samples = Vec::new();
    for number in numbers {
        let Some(twins) = dropped.remove(&number) else { continue };
        let most = twins.into_iter().max_by_key(|(twin, of)| (of.len(), std::cmp::Reverse(*twin)));
        let Some((kept, mut members)) = most else { continue };
        members.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        members.truncate(MEMBERS);
        let dropped = members
            .into_iter()
            .map(|(ordinal, similarity)| Ok((member(job, corpus, ordinal)?, similarity)))
            .collect::<Result<_>>()?;
        samples.push(ClusterSample {
            cluster: u64::from(number),
            size: u64::from(sizes[number as usize]),
            kept: member(job, corpus, kept)?,
            dropped,
        });
    }
    Ok(samples)
}

fn member(job: &Job<'_>, corpus: &Corpus, ordinal: u32) -> Result<Member> {
    let place = place(job, &corpus.origin(ordinal)?)?;
    let mut text = text(job, corpus, ordinal)?;
    let truncated = text.len() > TEXT_BYTES;
    text.truncate(text.floor_char_boundary(TEXT_BYTES));
    Ok(Member { id: place.id, source: place.source, line: place.line, text, truncated })
}

/// The text of one record. Costs one read in an uncompressed file, and reading up to it in others.
///
/// # Errors
/// `input_changed` if it is not where it was.
pub fn text(job: &Job<'_>, corpus: &Corpus, ordinal: u32) -> Result<String> {
    let frame = corpus.frame_of(ordinal);
    let number = corpus.file_of(frame);
    let file = &job.files[number];
    let meta = corpus.meta(ordinal)?;
    let names = job.names_of(number);
    let changed = || input_changed(&file.source);
    if matches!(file.kind, Ok((Format::Jsonl | Format::Json, Compression::None))) {
        let mut raw = vec![0; meta.len as usize];
        let open = File::open(&file.path).at("open", &file.path)?;
        open.read_exact_at(&mut raw, meta.offset).map_err(|_| changed())?;
        let fields = read_json(&raw, &names, job.options.utf8).map_err(|_| changed())?;
        return Ok(fields.text);
    }
    let frames = frames_by_file(corpus, job.files.len()).swap_remove(number);
    let first_part = frames.first().map_or(0, |frame| frame.part);
    let mut of_part = frames.iter().filter(|f| f.part == frame.part);
    let mut skip = of_part.position(|f| f.ordinals().contains(&ordinal)).ok_or_else(changed)?;
    let range = match file.kind {
        Ok((Format::Parquet, _)) => PartRange::RowGroup((frame.part - first_part) as usize),
        _ => PartRange::Whole,
    };
    let mut reader = PartReader::open(file, &range, &names).map_err(|_| changed())?;
    while let Some(block) = reader.next_block().map_err(|_| changed())? {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let position = Position { offset: meta.offset, len: meta.len, line: meta.line };
        let fields = block.fields(position, &names, job.options.utf8).map_err(|_| changed())?;
        return Ok(fields.text);
    }
    Err(changed())
}
