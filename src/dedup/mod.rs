//! Corpus files in, kept records out, and for each dropped record the kept one that it repeats.
//!
//! In: [`Options`]. Out: `kept/`, `dropped.jsonl`, `quarantine.jsonl`, `report.json`, `report.html`. Next: [`run`] is
//! the whole job on one screen; then, in the order of the stages: `sketch`, `exact`, `semantic`, `banding`, `verify`,
//! `clusters`, `keep`, `apply`, `lists`.

pub mod apply;
pub mod banding;
pub mod clusters;
pub mod corpus;
pub mod exact;
pub mod index;
pub mod job;
pub mod keep;
pub mod lists;
pub mod matching;
pub mod options;
mod page;
pub mod reference;
pub mod report;
pub mod samples;
pub mod semantic;
pub mod sketch;
pub mod spans;
pub mod spill;
pub mod verify;
pub mod walk;

use std::fs;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::core::limits::PARSER_STACK_BYTES;
use crate::dedup::banding::Plan;
use crate::dedup::corpus::Corpus;
use crate::dedup::job::{Job, write_whole};
use crate::dedup::lists::Lists;
use crate::dedup::matching::Findings;
use crate::dedup::reference::NgramSet;
use crate::dedup::report::{BandsReport, ClustersReport, PairsReport, StageReport};
use crate::dedup::semantic::earlier;
use crate::dedup::semantic::source::Source;
use crate::dedup::sketch::{Frame, SketchWriter, Sketcher};
use crate::dedup::walk::{Part, Sink, Work, walk};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::reader::{Item, PartRange, PartReader};
use crate::record::shingles::Shingler;

pub use crate::dedup::job::{Progress, Silent};
pub use crate::dedup::options::{
    Bands, Existing, Keep, Method, Options, OutputFormat, Policy, Scope,
};
pub use crate::dedup::report::{Counts, Report};

/// What a call of [`run`] came to.
#[derive(Debug)]
pub enum Outcome {
    /// The output is in place.
    Finished(Box<Report>),
    /// This shard's sketches are; `nearkin dedup merge` does the rest.
    Sketched {
        /// Parts that this shard had.
        n_parts: usize,
    },
    /// The output was in place before.
    AlreadyFinished,
}

/// Runs a job to its end, or to where its shard ends. `stop` may be set from anywhere; the job then leaves
/// what it has for [`Existing::Resume`].
///
/// # Errors
/// Anything that ends the job. What cannot be read of the input does not: it is quarantined and counted.
pub fn run(options: &Options, stop: &AtomicBool, progress: &dyn Progress) -> Result<Outcome> {
    if options.existing == Existing::Resume && job::is_finished(&options.out) {
        job::clear_done(&options.out)?;
        return Ok(Outcome::AlreadyFinished);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .stack_size(PARSER_STACK_BYTES)
        .build();
    let pool = pool.map_err(|error| Error::new(ErrorKind::Io, "threads", error.to_string()))?;
    pool.install(|| {
        let job = Job::open(options, stop, progress)?;
        run_stages(job)
    })
}

fn run_stages(mut job: Job<'_>) -> Result<Outcome> {
    let began = Instant::now();
    let parts = job.parts();
    let mut stages = Stages::new(&job);
    let mine = stages.time("sketch", || sketch_parts(&job, &parts))?;
    job.check_unchanged()?;
    if let Some((_, n)) = job.options.shard
        && !is_merge(&job)
    {
        job.progress
            .warn(&format!("sketched {mine} of {} parts as one of {n} shards", parts.len()));
        return Ok(Outcome::Sketched { n_parts: mine });
    }
    let corpus = job.corpus(&parts)?;
    let n_references = references(&job, &corpus);
    let (findings, edits) = if job.options.scope == Scope::Records {
        let findings = matching::run(&job, &parts, &corpus, n_references, &mut stages)?;
        (findings, spans::Edits::default())
    } else {
        let sizes = stages.time("spans", || spans::run(&job, &parts, &corpus, n_references))?;
        let edits = spans::edits(&job, corpus.n_records())?;
        (Findings { cluster_sizes: sizes, ..Findings::default() }, edits)
    };
    if job.source.is_some() {
        stages.time("pairs", || earlier::keep(&job, &corpus, n_references))?;
    }
    // One copies most of the time, the other looks things up: side by side they fill two threads.
    let apply = || {
        let sizes = &findings.cluster_sizes;
        let fate = apply::Fate::read(&job, corpus.n_records(), sizes, edits)?;
        apply::run(&job, &parts, &corpus, &fate)
    };
    let list = || {
        let lists = lists::write(&job, &corpus, job.options.shingle.n)?;
        if job.options.scope != Scope::Records {
            spans::write_list(&job, &corpus)?;
        }
        Ok(lists)
    };
    let ((), lists) = stages.time_both(("apply", apply), ("lists", list))?;
    if let Some(index) = &job.options.index {
        stages.time("index", || index::add(&job, &parts, &corpus, index))?;
    }
    let samples = stages.time("samples", || samples(&job, &corpus, &findings))?;
    job.check_unchanged()?;
    let report = report(&job, findings, lists, stages.done, began)?;
    let json = serde_json::to_vec_pretty(&report).expect("strings and numbers");
    write_whole(&job.work("report.html"), page::render(&report, &samples).as_bytes())?;
    write_whole(&job.work("report.json"), &json)?;
    job.publish()?;
    Ok(Outcome::Finished(Box::new(report)))
}

/// `merge` names all shards at once: its own number is past the last.
fn is_merge(job: &Job<'_>) -> bool {
    job.options.shard.is_some_and(|(i, _)| i == MERGE)
}

/// Shard number that stands for the merge of all shards.
pub const MERGE: usize = usize::MAX;

/// Times stages and tells who listens.
pub struct Stages<'s> {
    progress: &'s dyn Progress,
    bytes: u64,
    done: Vec<StageReport>,
}

impl<'s> Stages<'s> {
    fn new(job: &Job<'s>) -> Self {
        let bytes = job.files.iter().map(|file| file.size).sum();
        Self { progress: job.progress, bytes, done: Vec::new() }
    }

    /// Runs one stage.
    ///
    /// # Errors
    /// Those of the stage.
    pub fn time<T>(&mut self, name: &str, stage: impl FnOnce() -> Result<T>) -> Result<T> {
        let bytes = self.begin(name);
        let (result, seconds) = timed(stage);
        self.end(name, bytes, seconds);
        result
    }

    /// Runs two stages side by side; people hear of the first.
    ///
    /// # Errors
    /// Those of the first, or those of the second.
    pub fn time_both<A: Send, B: Send>(
        &mut self,
        first: (&str, impl FnOnce() -> Result<A> + Send),
        second: (&str, impl FnOnce() -> Result<B> + Send),
    ) -> Result<(A, B)> {
        let bytes = self.begin(first.0);
        let (a, b) = rayon::join(|| timed(first.1), || timed(second.1));
        self.end(first.0, bytes, a.1);
        self.end(second.0, 0, b.1);
        Ok((a.0?, b.0?))
    }

    fn begin(&self, name: &str) -> u64 {
        let reads_input = matches!(name, "sketch" | "sets" | "apply" | "spans" | "embed");
        let bytes = if reads_input { self.bytes } else { 0 };
        self.progress.stage(name, bytes);
        bytes
    }

    fn end(&mut self, name: &str, bytes: u64, seconds: f64) {
        match self.done.last_mut().filter(|last| last.name == name) {
            // A further round of the same stage.
            Some(last) => last.seconds += seconds,
            None => self.done.push(StageReport { name: name.to_owned(), seconds, bytes }),
        }
    }
}

/// A result and the seconds that it took.
fn timed<T>(stage: impl FnOnce() -> Result<T>) -> (Result<T>, f64) {
    let began = Instant::now();
    (stage(), began.elapsed().as_secs_f64())
}

/// Stage 1: sketches of all parts of this shard that have none yet; returns how many parts the shard has.
fn sketch_parts(job: &Job<'_>, parts: &[(usize, PartRange)]) -> Result<usize> {
    let (shard, n_shards) = job.options.shard.unwrap_or((0, 1));
    if shard == MERGE {
        return Ok(parts.len());
    }
    let mut mine = 0;
    let mut lanes: Vec<Vec<Part<'_>>> = Vec::new();
    for (number, (file, range)) in parts.iter().enumerate() {
        if number % n_shards != shard {
            continue;
        }
        mine += 1;
        if job.sketch_path(number).exists() {
            continue;
        }
        if *file < job.n_index_files {
            index::link_sketch(&job.files[*file], &job.sketch_path(number))?;
            continue;
        }
        let part =
            Part { number, file: &job.files[*file], file_number: *file, range: range.clone() };
        lanes.push(vec![part]);
    }
    if job.resumed {
        let sketched = mine - lanes.len();
        job.progress.warn(&format!("resumed: {sketched} of {mine} parts were sketched before"));
    }
    let ngrams = job.options.contains.map(|n| reference_ngrams(job, parts, n)).transpose()?;
    let open = |lane: usize| -> Result<Box<dyn Sink<Frame> + '_>> {
        let path = job.sketch_path(lanes[lane][0].number);
        Ok(Box::new(SketchWriter::create(&path, job.options)?))
    };
    let names = job.options.field_names();
    let vector = job.source.as_ref().and_then(Source::field);
    let state = || Sketcher::new(job.options, names.clone(), ngrams.as_ref(), vector);
    walk(&lanes, &names, job.options.threads, job.stop, &open, &state, &|state, part, _, work| {
        if let Work::Block(block) = &work {
            job.progress.advance(block.n_bytes());
        }
        Ok(state.sketch(part, work))
    })?;
    Ok(mine)
}

/// The n-grams of all reference texts, by the ordinal that their records will have.
fn reference_ngrams(job: &Job<'_>, parts: &[(usize, PartRange)], n: usize) -> Result<NgramSet> {
    let mut set = NgramSet::new(n);
    let mut shingler = Shingler::new(job.options.shingle, job.options.normalizer);
    let mut ordinal = 0;
    for (file, range) in parts.iter().filter(|(file, _)| *file < job.n_reference_files) {
        let names = job.names_of(*file);
        // Damage is reported when the reference is sketched.
        let Ok(mut reader) = PartReader::open(&job.files[*file], range, &names) else { continue };
        while let Ok(Some(block)) = reader.next_block() {
            block.visit(&names, job.options.utf8, &mut |item| {
                if let Item::Record(_, _, fields) = item {
                    shingler.read(&fields.text);
                    set.add(shingler.units(), ordinal);
                    ordinal += 1;
                }
            });
            if set.n_bytes() > job.options.memory_bytes / 2 {
                let message = format!(
                    "the {n}-grams of the references take over half of --memory; they are held in memory"
                );
                return Err(Error::new(ErrorKind::Limit, "memory", message));
            }
        }
    }
    Ok(set)
}

/// Records of reference files: they come first.
fn references(job: &Job<'_>, corpus: &Corpus) -> u32 {
    let frames = corpus.frames().iter();
    let of_references = frames.filter(|frame| corpus.file_of(frame) < job.n_reference_files);
    of_references.map(|frame| frame.head().n_records).sum()
}

fn samples(
    job: &Job<'_>,
    corpus: &Corpus,
    findings: &Findings,
) -> Result<Vec<report::ClusterSample>> {
    if job.options.scope != Scope::Records {
        return Ok(Vec::new());
    }
    samples::largest(job, corpus, &findings.cluster_sizes)
}

fn report(
    job: &Job<'_>,
    findings: Findings,
    lists: Lists,
    stages: Vec<StageReport>,
    began: Instant,
) -> Result<Report> {
    let mut options = job.manifest().options;
    let paths = |paths: &[std::path::PathBuf]| -> Vec<String> {
        paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    };
    options["inputs"] = paths(&job.options.inputs).into();
    options["out"] = job.options.out.to_string_lossy().into();
    options["against"] = paths(&job.options.against).into();
    options["memory_bytes"] = job.options.memory_bytes.into();
    options["threads"] = job.options.threads.into();
    if job.options.method.is_semantic() {
        options["device"] = job.options.device.to_string().into();
    }
    let totals = lists::totals(&lists.files);
    let mut warnings = job.warnings.clone();
    warnings.extend(lists.warnings);
    if !job.options.against.is_empty() && lists.references.iter().all(|r| r.matched == 0) {
        warnings.push("reference_unmatched: no record repeats a reference".to_owned());
    }
    for warning in findings.semantic.iter().flat_map(report::SemanticReport::warnings) {
        job.progress.warn(&warning);
        warnings.push(warning);
    }
    let bands = findings.plan.map(|(n_bands, rows_per_band, histogram)| {
        let plan = Plan { n_bands, rows_per_band, histogram };
        BandsReport {
            n_bands,
            rows_per_band,
            recall_at_threshold: plan.recall(job.options.threshold),
            s_curve: (0..=100)
                .map(|s| [f64::from(s) / 100.0, plan.recall(f64::from(s) / 100.0)])
                .collect(),
            sampled_histogram: plan.histogram,
        }
    });
    let report = Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        options,
        hash_family: job.options.hash_family(),
        totals,
        files: lists.files,
        references: lists.references,
        ignored: job.ignored.clone(),
        warnings,
        bands,
        pairs: PairsReport {
            candidates: findings.tally.candidates,
            verified: findings.tally.verified,
            similarity_histogram: findings.tally.histogram,
            exact_drops: findings.exact_drops,
            giant_buckets: findings.giant_buckets,
            capped_members: findings.capped_members,
        },
        semantic: findings
            .semantic
            .map(|semantic| report::SemanticReport { drops: findings.semantic_drops, ..semantic }),
        clusters: clusters_report(&findings.cluster_sizes),
        stages,
        peak_memory_bytes: peak_memory_bytes(),
        seconds: began.elapsed().as_secs_f64(),
    };
    check_sums(job, &report)?;
    Ok(report)
}

fn clusters_report(sizes: &[u32]) -> ClustersReport {
    let mut by_size = std::collections::BTreeMap::new();
    sizes.iter().for_each(|&size| *by_size.entry(u64::from(size)).or_insert(0) += 1);
    ClustersReport {
        n_clusters: sizes.len() as u64,
        n_records: sizes.iter().map(|&size| u64::from(size)).sum(),
        largest: u64::from(sizes.iter().copied().max().unwrap_or(0)),
        sizes: by_size.into_iter().map(|(size, n)| [size, n]).collect(),
    }
}

/// Fails unless every record that was read is kept, dropped or quarantined, in every file, as counted from
/// what was written.
fn check_sums(job: &Job<'_>, report: &Report) -> Result<()> {
    for file in &report.files {
        let Counts { read, kept, dropped, quarantined, .. } = file.counts;
        if read != kept + dropped + quarantined {
            let message = format!(
                "{}: {read} read, {kept} kept, {dropped} dropped, {quarantined} quarantined",
                file.source
            );
            return Err(Error::new(ErrorKind::Accounting, "accounting_mismatch", message));
        }
    }
    let lines = |name: &str| -> Result<u64> {
        let path = job.work(name);
        let file = fs::File::open(&path).at("open", &path)?;
        count_lines(file).at("read", &path)
    };
    let dropped = lines("dropped.jsonl")?;
    if job.options.scope == Scope::Records && dropped != report.totals.dropped {
        let message = format!("{} dropped, {dropped} lines in the list", report.totals.dropped);
        return Err(Error::new(ErrorKind::Accounting, "accounting_mismatch", message));
    }
    Ok(())
}

fn count_lines(mut file: fs::File) -> std::io::Result<u64> {
    use std::io::Read;
    let mut buffer = vec![0; 1 << 20];
    let mut n_lines = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(n_lines),
            n => n_lines += memchr::memchr_iter(b'\n', &buffer[..n]).count() as u64,
        }
    }
}

/// Largest resident set of this process, where the system tells.
fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
