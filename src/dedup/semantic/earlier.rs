//! Pairs of a finished job, kept in its folder, so that a higher threshold needs no vectors and no join.
//!
//! `edges.rows` has every pair at or above the job's similarity: `worse`, `better` (ranks in the keep order), `shared`
//! (the cosine in steps of 2^-30) and 2^30, u32 little-endian each, sorted; then the footer of `spill.rs`.
//! `edges.json` says what ranks and vectors are: options, input files and embedder. `similarity.jsonl` has the nearest
//! better-ranked record of each record that has one.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::dedup::corpus::Corpus;
use crate::dedup::job::{Job, Manifest, read_json, write_whole};
use crate::dedup::keep::Ranks;
use crate::dedup::lists::place;
use crate::dedup::spill::{RowReader, RowWriter, Sorter, part_path};
use crate::dedup::verify::{BINS, Edge, Tally};
use crate::error::{Error, IoContext, Result};

/// What `edges.json` holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct About {
    /// The job that made the pairs.
    pub manifest: Manifest,
    /// Inputs as typed, made absolute.
    pub inputs: Vec<PathBuf>,
    /// References, likewise.
    pub against: Vec<PathBuf>,
    /// Name of what made the vectors.
    pub embedder: String,
    /// Elements of a vector.
    pub dim: usize,
}

/// Reads what a finished job's pairs are.
///
/// # Errors
/// `no_edges` if the folder has none.
pub fn about(folder: &Path) -> Result<About> {
    let path = folder.join("edges.json");
    if !path.exists() {
        let message = format!(
            "{} holds no pairs: expected a finished job of --method semantic or minhash,semantic",
            folder.display()
        );
        return Err(Error::new(crate::error::ErrorKind::NotFound, "no_edges", message));
    }
    read_json(&path)
}

/// The arguments that ask for the job again: inputs, references and all options but the similarity.
pub fn arguments(about: &About) -> Vec<String> {
    let show = |path: &PathBuf| path.to_string_lossy().into_owned();
    let mut words: Vec<String> = about.inputs.iter().map(show).collect();
    for (key, value) in about.manifest.options.as_object().into_iter().flatten() {
        let name = format!("--{}", key.replace('_', "-"));
        match (key.as_str(), value) {
            ("embedder" | "similarity" | "scope", _) | ("verify", Value::Bool(true)) => {}
            ("verify", _) => words.push("--no-verify".into()),
            (_, Value::Null | Value::Bool(false)) => {}
            (_, Value::Bool(true)) => words.push(name),
            (_, Value::String(text)) => words.extend([name, text.clone()]),
            (_, other) => words.extend([name, other.to_string()]),
        }
    }
    if !about.against.is_empty() {
        words.push("--against".into());
        words.extend(about.against.iter().map(show));
    }
    words
}

/// Name and length of the vectors of a finished job.
///
/// # Errors
/// As [`about`].
pub fn embedder(folder: &Path) -> Result<(String, usize)> {
    let about = about(folder)?;
    Ok((about.embedder, about.dim))
}

/// Fails unless pairs of the job in `folder` are pairs of this one: equal options but for a threshold that may be higher,
/// and equal files.
///
/// # Errors
/// `rethreshold_mismatch`, which names what differs.
pub fn check(job: &Job<'_>, folder: &Path) -> Result<()> {
    let earlier = about(folder)?.manifest;
    let now = job.manifest();
    let refuse = |what: String| Err(Error::usage("rethreshold_mismatch", what));
    for (name, value) in now.options.as_object().into_iter().flatten() {
        let before = earlier.options.get(name).unwrap_or(&Value::Null);
        let fits = match (name.as_str(), before.as_f64(), value.as_f64()) {
            ("similarity", Some(before), Some(now)) => now >= before,
            _ => before == value,
        };
        if !fits {
            return refuse(format!("{name} {before} in {}, {value} asked", folder.display()));
        }
    }
    if earlier.files != now.files || earlier.n_reference_files != now.n_reference_files {
        return refuse(format!("input files are not what they were for {}", folder.display()));
    }
    Ok(())
}

/// Writes those of the earlier job's pairs that reach this job's similarity; returns how many by similarity.
///
/// # Errors
/// `corrupt_file`, or a failure of the disk.
pub fn filter(job: &Job<'_>, folder: &Path, path: &Path) -> Result<Vec<u64>> {
    check(job, folder)?;
    let mut reader: RowReader<Edge> = RowReader::open(&folder.join("edges.rows"))?;
    let mut writer = RowWriter::create(path)?;
    let mut tally = Tally::default();
    while let Some(edge) = reader.next_row()? {
        if edge.similarity() >= job.options.similarity {
            tally.add(edge.similarity(), true);
            writer.write(&[edge])?;
        }
    }
    writer.finish()?;
    tally.histogram.resize(BINS, 0);
    Ok(tally.histogram)
}

/// One line of `similarity.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    id: Box<RawValue>,
    source: &'a str,
    line: u64,
    nearest_id: Box<RawValue>,
    nearest_source: &'a str,
    nearest_line: u64,
    similarity: f64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
struct Nearest {
    ordinal: u32,
    other: u32,
    shared: u32,
    union: u32,
}

/// Leaves the pairs of this job, and what they are, for a later one.
///
/// # Errors
/// A failure of the disk.
pub fn keep(job: &Job<'_>, corpus: &Corpus, n_references: u32) -> Result<()> {
    let source = job.source.as_ref().expect("a semantic job");
    let (edges, to) = (job.work("semantic-edges.rows"), job.work("edges.rows"));
    fs::copy(&edges, part_path(&to)).at("copy", &edges)?;
    fs::rename(part_path(&to), &to).at("rename to", &to)?;
    let absolute = |paths: &[PathBuf]| -> Result<Vec<PathBuf>> {
        paths.iter().map(|path| std::path::absolute(path).at("resolve", path)).collect()
    };
    let about = About {
        manifest: job.manifest(),
        inputs: absolute(&job.options.inputs)?,
        against: absolute(&job.options.against)?,
        embedder: source.identity(),
        dim: source.dim(),
    };
    let text = serde_json::to_vec_pretty(&about).expect("strings and numbers");
    write_whole(&job.work("edges.json"), &text)?;
    let budget = job.budget(corpus.n_records())?;
    let scratch = job.work("scratch");
    let ranks = Ranks::new(corpus, &job.options.keep, n_references, &scratch, budget)?;
    write_nearest(job, corpus, &ranks, &edges, budget)
}

fn write_nearest(
    job: &Job<'_>,
    corpus: &Corpus,
    ranks: &Ranks,
    edges: &Path,
    budget: u64,
) -> Result<()> {
    let mut rows = Sorter::new(&job.work("scratch"), "nearest", budget / 4, false);
    let mut reader: RowReader<Edge> = RowReader::open(edges)?;
    let mut best: Option<Edge> = None;
    loop {
        let next = reader.next_row()?;
        if let Some(done) = best.filter(|best| next.is_none_or(|next| next.worse != best.worse)) {
            let Edge { worse, better, shared, union } = done;
            rows.push(Nearest {
                ordinal: ranks.ordinal(worse),
                other: ranks.ordinal(better),
                shared,
                union,
            })?;
            best = None;
        }
        let Some(edge) = next else { break };
        if best.is_none_or(|best| edge.is_nearer(&best)) {
            best = Some(edge);
        }
    }
    let path = job.work("similarity.jsonl");
    let part = part_path(&path);
    let mut out = BufWriter::new(fs::File::create(&part).at("create", &part)?);
    let mut sorted = rows.finish()?;
    while let Some(row) = sorted.next_row()? {
        let here = place(job, &corpus.origin(row.ordinal)?)?;
        let other = place(job, &corpus.origin(row.other)?)?;
        let line = Line {
            id: crate::dedup::lists::token(here.id)?,
            source: &here.source,
            line: here.line,
            nearest_id: crate::dedup::lists::token(other.id)?,
            nearest_source: &other.source,
            nearest_line: other.line,
            similarity: f64::from(row.shared) / f64::from(row.union),
        };
        let mut text = serde_json::to_vec(&line).expect("strings and numbers");
        text.push(b'\n');
        out.write_all(&text).at("write", &path)?;
    }
    out.flush().at("write", &path)?;
    fs::rename(&part, &path).at("rename to", &path)
}
