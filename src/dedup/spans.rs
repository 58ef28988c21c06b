//! Repeated lines and paragraphs inside and across records.
//!
//! In: all texts once more, and the keep order. Out: which spans of which texts are cut, a list of them with the
//! place of the copy that stays, and verdicts for records of which nothing is left. A span is compared by
//! its normalised text; one shorter than a shingle is never cut, since a brace or a heading repeats everywhere.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytemuck::{Pod, Zeroable};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::core::limits::BLOCK_BYTES;
use crate::dedup::corpus::Corpus;
use crate::dedup::job::{Job, lanes_by_file};
use crate::dedup::keep::{Because, Ranks, Verdict};
use crate::dedup::lists::place;
use crate::dedup::matching::{frames_by_file, input_changed};
use crate::dedup::options::{Options, Scope};
use crate::dedup::spill::{RowReader, RowWriter, Sorter};
use crate::dedup::walk::{Sink, Work, walk};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::reader::{PartRange, Position};
use crate::record::shingles::{Shingler, Unit};

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
struct SpanRow {
    hash: [u64; 2],
    rank: u32,
    start: u32,
    end: u32,
    unused: u32,
}

/// A span that is cut, and the place of the copy that stays.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Cut {
    ordinal: u32,
    start: u32,
    end: u32,
    kept: u32,
    kept_start: u32,
    cluster: u32,
}

/// Spans to cut, by record.
#[derive(Debug, Default)]
pub struct Edits {
    cuts: HashMap<u32, Vec<Range<usize>>>,
}

impl Edits {
    /// Whether something is cut from a record.
    pub fn touches(&self, ordinal: u32) -> bool {
        self.cuts.contains_key(&ordinal)
    }

    /// What is left of the text of a record.
    pub fn apply(&self, ordinal: u32, text: &str) -> String {
        let mut left = String::with_capacity(text.len());
        let mut at = 0;
        for cut in self.cuts.get(&ordinal).into_iter().flatten() {
            left.push_str(&text[at..cut.start]);
            at = cut.end;
        }
        left.push_str(&text[at..]);
        left
    }
}

/// The lines, or paragraphs, of a text. Each holds the line ends after it, so that all of them together are
/// the text.
pub fn spans(text: &str, scope: Scope) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    let mut after_blank = true;
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        let blank = line.trim().is_empty();
        let joins = match scope {
            Scope::Paragraphs => blank || !after_blank,
            Scope::Lines | Scope::Records => false,
        };
        match spans.last_mut() {
            Some(last) if joins => last.end = end,
            _ => spans.push(at..end),
        }
        after_blank = blank;
        at = end;
    }
    spans
}

/// Spans with at least this many words are compared.
fn least_words(options: &Options) -> usize {
    if options.shingle.unit == Unit::Word { options.shingle.n } else { 5 }
}

type Found = (Vec<SpanRow>, Vec<(u32, u32)>);

struct Collector<'c> {
    rows: &'c Mutex<(Sorter<SpanRow>, Vec<u32>)>,
}

impl Sink<Found> for Collector<'_> {
    fn take(&mut self, _: usize, (rows, counts): Found) -> Result<()> {
        let mut shared = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let (sorter, n_spans) = &mut *shared;
        for (ordinal, n) in counts {
            n_spans[ordinal as usize] = n;
        }
        rows.into_iter().try_for_each(|row| sorter.push(row))
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Finds repeated spans; writes the verdicts of emptied records, leaves `cuts.rows`, and returns the number of
/// copies of every repeated span.
///
/// # Errors
/// Any failure of a stage.
pub fn run(
    job: &Job<'_>,
    parts: &[(usize, PartRange)],
    corpus: &Corpus,
    n_references: u32,
) -> Result<Vec<u32>> {
    let scratch = job.work("scratch");
    let budget = job.budget(corpus.n_records())?;
    let ranks = Ranks::new(corpus, &job.options.keep, n_references, &scratch, budget)?;
    let sorter = Sorter::new(&scratch, "spans", budget / 2, false);
    let shared = Mutex::new((sorter, vec![0; corpus.n_records() as usize]));
    collect(job, parts, corpus, &ranks, &shared)?;
    let (sorter, n_spans) = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut cuts: Sorter<Cut> = Sorter::new(&scratch, "cuts", budget / 4, false);
    let mut sizes = Vec::new();
    let mut sorted = sorter.finish()?;
    let mut run: Vec<SpanRow> = Vec::new();
    loop {
        let next = sorted.next_row()?;
        if let Some(row) = next.filter(|row| run.first().is_none_or(|f| f.hash == row.hash)) {
            run.push(row);
            continue;
        }
        if run.len() > 1 {
            let cluster = sizes.len() as u32;
            sizes.push(run.len() as u32);
            for (at, row) in run.iter().enumerate() {
                if at >= job.options.copies as usize && row.rank >= n_references {
                    cuts.push(Cut {
                        ordinal: ranks.ordinal(row.rank),
                        start: row.start,
                        end: row.end,
                        kept: ranks.ordinal(run[0].rank),
                        kept_start: run[0].start,
                        cluster,
                    })?;
                }
            }
        }
        run.clear();
        match next {
            Some(row) => run.push(row),
            None => break,
        }
    }
    write_cuts(job, cuts, &n_spans)?;
    Ok(sizes)
}

fn collect(
    job: &Job<'_>,
    parts: &[(usize, PartRange)],
    corpus: &Corpus,
    ranks: &Ranks,
    shared: &Mutex<(Sorter<SpanRow>, Vec<u32>)>,
) -> Result<()> {
    let frames = frames_by_file(corpus, job.files.len());
    let lanes = lanes_by_file(&job.files, parts, &|file| job.files[file].kind.is_ok());
    let open = |_: usize| -> Result<Box<dyn Sink<Found> + '_>> {
        Ok(Box::new(Collector { rows: shared }))
    };
    let options = job.options;
    let state = || Shingler::new(options.shingle, options.normalizer);
    let names = options.field_names();
    walk(
        &lanes,
        &names,
        options.threads,
        job.stop,
        &open,
        &state,
        &|shingler, part, number, work| {
            let (mut rows, mut counts) = (Vec::new(), Vec::new());
            let Work::Block(block) = work else { return Ok((rows, counts)) };
            job.progress.advance(block.n_bytes());
            let changed = || input_changed(&part.file.source);
            let frame = frames[part.file_number].get(number).ok_or_else(changed)?;
            for (ordinal, meta) in frame.ordinals().zip(corpus.metas(frame)?) {
                let position = Position { offset: meta.offset, len: meta.len, line: meta.line };
                let fields = block.fields(position, &names, options.utf8).map_err(|_| changed())?;
                let mut n = 0;
                for span in spans(&fields.text, options.scope) {
                    let hash = shingler.read(&fields.text[span.clone()]);
                    n += u32::from(shingler.n_words() > 0);
                    if shingler.n_words() >= least_words(options) {
                        rows.push(SpanRow {
                            hash: [hash as u64 ^ meta.group, (hash >> 64) as u64],
                            rank: ranks.of(ordinal),
                            start: span.start as u32,
                            end: span.end as u32,
                            unused: 0,
                        });
                    }
                }
                counts.push((ordinal, n));
            }
            Ok((rows, counts))
        },
    )
}

/// Writes the cuts by record, and a verdict for every record of which they leave nothing.
fn write_cuts(job: &Job<'_>, cuts: Sorter<Cut>, n_spans: &[u32]) -> Result<()> {
    let mut writer = RowWriter::create(&job.work("cuts.rows"))?;
    let mut verdicts = RowWriter::create(&job.work("verdicts.rows"))?;
    let mut sorted = cuts.finish()?;
    let mut run: Vec<Cut> = Vec::new();
    loop {
        let next = sorted.next_row()?;
        if let Some(cut) = next {
            writer.write(&[cut])?;
        }
        if let Some(cut) = next.filter(|cut| run.first().is_none_or(|f| f.ordinal == cut.ordinal)) {
            run.push(cut);
            continue;
        }
        if let Some(first) = run.first()
            && n_spans[first.ordinal as usize] as usize == run.len()
        {
            verdicts.write(&[Verdict {
                ordinal: first.ordinal,
                twin: first.kept,
                shared: 1,
                union: 1,
                cluster: first.cluster,
                because: Because::Exact as u32,
            }])?;
        }
        run.clear();
        match next {
            Some(cut) => run.push(cut),
            None => break,
        }
    }
    writer.finish()?;
    verdicts.finish().map(drop)
}

/// Reads the cuts for applying.
///
/// # Errors
/// `memory` if there are too many to hold.
pub fn edits(job: &Job<'_>, n_records: u32) -> Result<Edits> {
    let mut reader: RowReader<Cut> = RowReader::open(&job.work("cuts.rows"))?;
    let needed = reader.n_rows() * 48;
    let budget = job.budget(n_records)?;
    if needed > budget {
        let message = format!("{} cuts need {} MiB more", reader.n_rows(), (needed - budget) >> 20);
        return Err(Error::new(ErrorKind::Limit, "memory", message));
    }
    let mut edits = Edits::default();
    while let Some(cut) = reader.next_row()? {
        let span = cut.start as usize..cut.end as usize;
        edits.cuts.entry(cut.ordinal).or_default().push(span);
    }
    Ok(edits)
}

/// One line of `dropped.jsonl` of a line or paragraph job.
#[derive(Serialize)]
struct Dropped<'a> {
    id: Box<RawValue>,
    source: &'a str,
    line: u64,
    kept_id: Box<RawValue>,
    kept_source: &'a str,
    kept_line: u64,
    similarity: f64,
    method: &'static str,
    cluster: u32,
    /// Bytes of the text that were cut.
    span: [u32; 2],
    /// First byte of the copy that stays, in its record's text.
    kept_start: u32,
}

/// Writes `dropped.jsonl`: a line for every cut.
///
/// # Errors
/// A failure of the disk.
pub fn write_list(job: &Job<'_>, corpus: &Corpus) -> Result<()> {
    let path = job.work("dropped.jsonl");
    let file = File::create(&path).at("create", &path)?;
    let mut out = BufWriter::with_capacity(BLOCK_BYTES, file);
    let method = if job.options.scope == Scope::Lines { "line" } else { "paragraph" };
    let mut reader: RowReader<Cut> = RowReader::open(&job.work("cuts.rows"))?;
    while let Some(cut) = reader.next_row()? {
        let here = place(job, &corpus.origin(cut.ordinal)?)?;
        let kept = place(job, &corpus.origin(cut.kept)?)?;
        let token = |id: String| RawValue::from_string(id).expect("checked when it was read");
        let row = Dropped {
            id: token(here.id),
            source: &here.source,
            line: here.line,
            kept_id: token(kept.id),
            kept_source: &kept.source,
            kept_line: kept.line,
            similarity: 1.0,
            method,
            cluster: cut.cluster,
            span: [cut.start, cut.end],
            kept_start: cut.kept_start,
        };
        serde_json::to_writer(&mut out, &row).expect("strings and numbers");
        out.write_all(b"\n").at("write", &path)?;
    }
    out.flush().at("write", &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_make_up_the_text() {
        let texts = ["", "a", "a\n", "\n\na\nb\n\n\nc\r\n\r\nd", "one\n two\n\n", "a\n\n"];
        for text in texts {
            for scope in [Scope::Lines, Scope::Paragraphs] {
                let joined: String =
                    spans(text, scope).into_iter().map(|span| &text[span]).collect();
                assert_eq!(joined, text);
            }
        }
        let cut = |text| -> Vec<&str> {
            spans(text, Scope::Paragraphs).into_iter().map(|span| &text[span]).collect()
        };
        assert_eq!(cut("a\nb\n\nc\n"), ["a\nb\n\n", "c\n"]);
        assert_eq!(cut("\na\n\n\nb"), ["\n", "a\n\n\n", "b"]);
    }
}
