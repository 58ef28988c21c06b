//! `nearkin dedup`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use serde::{Deserialize, Serialize};

use crate::backend::open::Device;
use crate::cli::args::{
    Args, Command, DedupArgs, DedupStep, MergeArgs, PolicyArg, RethresholdArgs, RunArgs, Utf8Arg,
    WhatArgs,
};
use crate::cli::{complain, progress, say};
use crate::dedup::job::write_whole;
use crate::dedup::semantic::earlier;
use crate::dedup::{self, Existing, MERGE, Method, Options, Outcome, Policy, Report, Scope};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::normalize::Normalizer;
use crate::record::reader::Utf8;
use crate::record::shingles::Unit;

/// Exit code of a job that finished with quarantined records or damaged files.
const QUARANTINED: u8 = 10;

/// The command line of a shard, for the merge.
#[derive(Debug, Serialize, Deserialize)]
struct ShardCommand {
    folder: PathBuf,
    args: Vec<String>,
}

pub fn run(args: DedupArgs) -> Result<u8> {
    let options = match args.step {
        Some(DedupStep::Merge(merge)) => merge_options(&merge)?,
        Some(DedupStep::Rethreshold(again)) => rethreshold_options(*again)?,
        None => options(args)?,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let handler = ctrlc::set_handler(move || {
        // A second time means at once: what is on disk can be resumed anyway.
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    handler.map_err(|error| Error::new(ErrorKind::Io, "signals", error.to_string()))?;
    let progress = progress::for_stderr();
    let outcome = dedup::run(&options, &stop, progress.as_ref());
    drop(progress);
    match outcome? {
        Outcome::AlreadyFinished => {
            complain(format_args!("{} is finished already", options.out.display()));
            Ok(0)
        }
        Outcome::Sketched { n_parts } => {
            remember_command(&options.out)?;
            let out = options.out.display();
            complain(format_args!(
                "{n_parts} parts sketched; when all shards are: nearkin dedup merge --out {out}"
            ));
            Ok(0)
        }
        Outcome::Finished(report) => {
            summarize(&report, &options.out);
            let damaged = report.files.iter().any(|file| file.damage.is_some());
            let quarantined = report.totals.quarantined > 0 || damaged;
            Ok(if quarantined { QUARANTINED } else { 0 })
        }
    }
}

fn options(args: DedupArgs) -> Result<Options> {
    let DedupArgs { inputs, out, what, run, .. } = args;
    let out = out.ok_or_else(|| Error::usage("out", "--out DIR is needed"))?;
    let scope = match (what.lines, what.paragraphs) {
        (true, _) => Scope::Lines,
        (_, true) => Scope::Paragraphs,
        _ => Scope::Records,
    };
    let method = match what.method {
        Some(method) => method,
        None if scope == Scope::Records => Method::MinHash,
        None => Method::Exact,
    };
    check_method(method, &what)?;
    let prose = what.shingle.unit != Unit::Code;
    let normal = if prose { Normalizer::PROSE } else { Normalizer::CODE };
    let existing = existing(&run);
    Ok(Options {
        inputs,
        out,
        text_field: what.text_field,
        id_field: what.id_field,
        method,
        threshold: what.threshold.unwrap_or(Options::default().threshold),
        embed: what.embed.unwrap_or(Options::default().embed),
        similarity: what.similarity.unwrap_or(Options::default().similarity),
        n_cells: what.cells,
        device: what.device.unwrap_or(Device::Auto),
        from: None,
        shingle: what.shingle,
        normalizer: what.normalize.unwrap_or(normal),
        n_perm: what.n_perm,
        bands: what.bands,
        verify: !what.no_verify,
        keep: what.keep,
        copies: what.copies,
        policy: match what.policy {
            PolicyArg::Cover => Policy::Cover,
            PolicyArg::Components => Policy::Components,
        },
        group_by: what.group_by,
        scope,
        against: what.against,
        contains: what.contains,
        index: what.index,
        memory_bytes: run.memory,
        threads: run.threads.unwrap_or(Options::default().threads),
        seed: what.seed,
        existing,
        annotate: what.annotate,
        output_format: what.output_format,
        shard: run.shard,
        utf8: match what.utf8 {
            Utf8Arg::Strict => Utf8::Strict,
            Utf8Arg::Lossy => Utf8::Lossy,
        },
        dedup_empty: what.dedup_empty,
        yes_everything: what.yes_everything,
    })
}

/// Thresholds of one method mean nothing to the other: nobody should think that they did.
fn check_method(method: Method, what: &WhatArgs) -> Result<()> {
    let refuse = |message: String| Err(Error::usage("options", message));
    if what.threshold.is_some() && method == Method::Semantic {
        return refuse("--threshold is for words; --method semantic goes by --similarity".into());
    }
    let given = [
        ("--embed", what.embed.is_some()),
        ("--similarity", what.similarity.is_some()),
        ("--cells", what.cells.is_some()),
        ("--device", what.device.is_some()),
    ];
    if !method.is_semantic()
        && let Some((name, _)) = given.iter().find(|(_, is_given)| *is_given)
    {
        return refuse(format!("{name} goes with --method semantic or minhash,semantic"));
    }
    Ok(())
}

/// The options of a finished job, with another similarity.
fn rethreshold_options(again: RethresholdArgs) -> Result<Options> {
    let from = std::path::absolute(&again.from).at("resolve", &again.from)?;
    let about = earlier::about(&from)?;
    let program = ["nearkin", "dedup"].map(String::from);
    let words = program.into_iter().chain(earlier::arguments(&about));
    let out = ["--out".to_owned(), again.out.to_string_lossy().into_owned()];
    let args = Args::try_parse_from(words.chain(out))
        .map_err(|error| Error::corrupt(&from.join("edges.json"), 0, error.to_string()))?;
    let Command::Dedup(args) = args.command else {
        let what = "expected the command line of nearkin dedup";
        return Err(Error::corrupt(&from.join("edges.json"), 0, what));
    };
    let existing = existing(&again.run);
    Ok(Options {
        out: again.out,
        similarity: again.similarity,
        from: Some(from),
        existing,
        memory_bytes: again.run.memory,
        threads: again.run.threads.unwrap_or(Options::default().threads),
        shard: again.run.shard,
        ..options(*args)?
    })
}

fn existing(run: &RunArgs) -> Existing {
    match (run.resume, run.overwrite) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Overwrite,
        _ => Existing::Refuse,
    }
}

fn command_path(out: &Path) -> PathBuf {
    out.join(".work").join("command.json")
}

/// Leaves the command line where the merge finds it.
fn remember_command(out: &Path) -> Result<()> {
    let path = command_path(out);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).at("create", folder)?;
    }
    let folder = std::env::current_dir().at("look at", Path::new("."))?;
    let command = ShardCommand { folder, args: std::env::args().collect() };
    write_whole(&path, &serde_json::to_vec(&command).expect("strings"))
}

/// The options of the shards, to be run to the end.
fn merge_options(merge: &MergeArgs) -> Result<Options> {
    let path = command_path(&merge.out);
    if !path.exists() {
        let message = format!("{} holds no shards", merge.out.display());
        return Err(Error::new(ErrorKind::NotFound, "no_shards", message));
    }
    let bytes = fs::read(&path).at("read", &path)?;
    let command: ShardCommand =
        serde_json::from_slice(&bytes).map_err(|error| Error::corrupt(&path, 0, error))?;
    let out = std::path::absolute(&merge.out).at("resolve", &merge.out)?;
    std::env::set_current_dir(&command.folder).at("enter", &command.folder)?;
    let args = Args::try_parse_from(&command.args)
        .map_err(|error| Error::corrupt(&path, 0, error.to_string()))?;
    let Command::Dedup(args) = args.command else {
        return Err(Error::corrupt(&path, 0, "expected the command line of nearkin dedup"));
    };
    let mut options = options(*args)?;
    options.out = out;
    options.existing = Existing::Resume;
    options.memory_bytes = merge.memory;
    options.threads = merge.threads.unwrap_or(Options::default().threads);
    options.shard = options.shard.map(|(_, n)| (MERGE, n));
    Ok(options)
}

/// What a person wants to know when the job is done.
fn summarize(report: &Report, out: &Path) {
    let totals = report.totals;
    let share = 100.0 * totals.dropped as f64 / totals.read.max(1) as f64;
    say(format_args!(
        "{} records read: {} kept, {} dropped ({share:.1} %), {} quarantined",
        totals.read, totals.kept, totals.dropped, totals.quarantined
    ));
    for file in report.files.iter().filter_map(|f| Some((&f.source, f.damage.as_ref()?))) {
        say(format_args!("damaged: {}: {}", file.0, file.1));
    }
    let memory = report
        .peak_memory_bytes
        .map_or(String::new(), |bytes| format!(", at most {} MB of memory", bytes / 1_000_000));
    say(format_args!("{:.1} MB in {:.2} s{memory}", totals.bytes as f64 / 1e6, report.seconds));
    say(format_args!("look at {}", out.join("report.html").display()));
}
