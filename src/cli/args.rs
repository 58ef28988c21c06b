//! What can be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::backend::open::Device;
use crate::cli::bench::BenchArgs;
use crate::cli::cache::CacheCommand;
use crate::cli::doctor::DoctorArgs;
use crate::cli::index::IndexArgs;
use crate::cli::ingest::IngestArgs;
#[cfg(feature = "server")]
use crate::cli::key::KeyArgs;
use crate::cli::search::SearchArgs;
#[cfg(feature = "server")]
use crate::cli::serve::ServeArgs;
use crate::cli::snapshot::{RestoreArgs, SnapshotArgs};
use crate::cli::stats::StatsArgs;
use crate::cli::verify::VerifyArgs;
use crate::core::metric::Metric;
use crate::dedup::{Bands, Keep, Method, OutputFormat};
use crate::embed::Choice;
use crate::error::Error;
use crate::record::normalize::Normalizer;
use crate::record::shingles::ShingleKind;

/// Finds what is near.
#[derive(Debug, Parser)]
#[command(name = "nearkin", version, about)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Clean a corpus: keep one of each set of duplicates, and say for each dropped record which kept one it repeats.
    Dedup(Box<DedupArgs>),
    /// Show what this machine has, what would be used, and why
    Doctor(DoctorArgs),
    /// Time every operation beside what the machine can do at most; or, of a collection, answers and their recall
    Bench(Box<BenchArgs>),
    /// Put vectors with payloads into a collection, where search finds them.
    Ingest(Box<IngestArgs>),
    /// Find the points of a collection that are nearest to each query, of those a tenant may read and that pass a filter.
    Search(Box<SearchArgs>),
    /// Answer Qdrant's REST for the collections of a folder, until SIGTERM or Ctrl-C
    #[cfg(feature = "server")]
    Serve(ServeArgs),
    /// Bring the index of a collection to all its points, or build it anew
    Index(IndexArgs),
    /// Show what collections hold, and what that takes of memory and disk, as JSON
    Stats(StatsArgs),
    /// Read every byte of collections or of a snapshot, and say what is damaged, where, and what that loses: exit code 0 if
    /// all is whole, 5 if not
    Verify(VerifyArgs),
    /// Copy a collection, at one version, into a new folder
    Snapshot(SnapshotArgs),
    /// Make a new collection of a snapshot
    Restore(RestoreArgs),
    /// Make, end and list the keys of `nearkin serve`
    #[cfg(feature = "server")]
    Key(KeyArgs),
    /// Find every pair of rows that are near each other, in one .npy file or between two; none is missed.
    Pairs(Box<PairsArgs>),
    /// Calibrate a semantic cache, and replay traces against it
    #[command(subcommand)]
    Cache(Box<CacheCommand>),
}

#[derive(Debug, clap::Args)]
pub struct PairsArgs {
    /// Rows: a .npy file of f32, f16, u8 or int8 in C order
    #[arg(value_name = "A.npy")]
    pub a: PathBuf,

    /// Rows to find near those of A; without it, pairs within A
    #[arg(value_name = "B.npy")]
    pub b: Option<PathBuf>,

    /// Pairs at or above it: cosine in [-1, 1], or the inner product with --metric dot
    #[arg(long, value_name = "S", allow_negative_numbers = true, help_heading = "What")]
    pub similarity: Option<f64>,

    /// Pairs at or below it: --metric l2 (squared, as everywhere here) or l1
    #[arg(long, value_name = "D", allow_negative_numbers = true, help_heading = "What")]
    pub distance: Option<f64>,

    /// cosine, dot, l2 or l1
    #[arg(long, default_value = "cosine", value_name = "METRIC", help_heading = "What")]
    pub metric: Metric,

    /// Leave out rows of zeros, which cosine cannot compare, and say how many
    #[arg(long, help_heading = "What")]
    pub skip_zero: bool,

    /// Compare all rows with all rows; finds the same, slower
    #[arg(long, help_heading = "Run")]
    pub exact: bool,

    /// File for the pairs, sorted: .jsonl or .parquet
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: PathBuf,

    /// Replace FILE if it exists
    #[arg(long, help_heading = "Output")]
    pub overwrite: bool,

    /// Memory that the job may use, rows included, such as 4GiB
    #[arg(long, value_parser = parse_bytes, default_value = "4GiB", value_name = "BYTES", help_heading = "Run")]
    pub memory: u64,

    /// Threads [default: all]
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub threads: Option<usize>,

    /// What computes: auto, cpu, cuda or wgpu
    #[arg(long, default_value = "auto", value_name = "DEVICE", help_heading = "Run")]
    pub device: Device,

    /// Seed of samples; the pairs do not depend on it
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Run")]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PolicyArg {
    Cover,
    Components,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Utf8Arg {
    Strict,
    Lossy,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct DedupArgs {
    #[command(subcommand)]
    pub step: Option<DedupStep>,

    /// Files, folders (read recursively) or globs: .jsonl .json .parquet .txt, plain or in gzip or zstd
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// Folder for kept/, dropped.jsonl, quarantine.jsonl, report.json and report.html
    #[arg(long, value_name = "DIR", required = true)]
    pub out: Option<PathBuf>,

    #[command(flatten)]
    pub what: WhatArgs,

    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub enum DedupStep {
    /// Finish a job whose --shard runs have all ended; it remembers their options
    Merge(Box<MergeArgs>),
    /// Apply a higher --similarity to a finished semantic job, without making vectors or comparing them again
    Rethreshold(Box<RethresholdArgs>),
}

#[derive(Debug, clap::Args)]
pub struct MergeArgs {
    /// The folder that the shards wrote to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Memory that the job may use, such as 4GiB
    #[arg(long, value_parser = parse_bytes, default_value = "4GiB", value_name = "BYTES")]
    pub memory: u64,

    /// Threads [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

#[derive(Debug, clap::Args)]
pub struct RethresholdArgs {
    /// Output folder of the finished job; inputs and all other options are what they were for it
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,

    /// Folder for the new output
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Cosine similarity, at least that of the finished job
    #[arg(long, value_name = "SIMILARITY")]
    pub similarity: f64,

    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, clap::Args)]
pub struct WhatArgs {
    /// Field with the text
    #[arg(long, default_value = "text", value_name = "FIELD", help_heading = "Fields")]
    pub text_field: String,

    /// Field with the id; records without it are named SOURCE:LINE
    #[arg(long, default_value = "id", value_name = "FIELD", help_heading = "Fields")]
    pub id_field: String,

    /// Text that is not UTF-8: quarantine the record, or read it with replacement characters
    #[arg(long, value_enum, default_value = "strict", help_heading = "Fields")]
    pub utf8: Utf8Arg,

    /// exact: equal normalised texts; minhash: those, and texts with similar shingle sets; semantic: equal texts, and
    /// texts with near vectors; minhash,semantic: all of these [default: minhash; exact with --lines or --paragraphs]
    #[arg(long, value_name = "METHOD", help_heading = "Method")]
    pub method: Option<Method>,

    /// Jaccard similarity of shingle sets from which two records are duplicates [default: 0.8]
    #[arg(long, value_name = "SIMILARITY", help_heading = "Method")]
    pub threshold: Option<f64>,

    /// Vectors: static (shipped), hashed, http:URL#MODEL, given:FIELD, given:FILE.npy, bert:DIR [default: static]
    #[arg(long, value_name = "EMBEDDER", help_heading = "Semantic")]
    pub embed: Option<Choice>,

    /// Cosine similarity of vectors from which two records are duplicates [default: 0.95]
    #[arg(long, value_name = "SIMILARITY", help_heading = "Semantic")]
    pub similarity: Option<f64>,

    /// Cells that vectors are sorted into; records that share none of their two are not compared [default: by number]
    #[arg(long, value_name = "N", help_heading = "Semantic")]
    pub cells: Option<u32>,

    /// What compares vectors: auto, cpu, cuda, wgpu [default: auto]
    #[arg(long, value_name = "DEVICE", help_heading = "Semantic")]
    pub device: Option<Device>,

    /// word:N, char:N or code:N neighbouring units make a shingle
    #[arg(long, default_value = "word:5", value_name = "KIND", help_heading = "Method")]
    pub shingle: ShingleKind,

    /// Differences that do not count: nfc, nfkc, case, space, punct, digits, marks, or none
    /// [default: case,space; space for code]
    #[arg(long, value_name = "STEPS", help_heading = "Method")]
    pub normalize: Option<Normalizer>,

    /// Slots of a MinHash signature
    #[arg(long, default_value_t = 128, value_name = "N", help_heading = "Method")]
    pub n_perm: usize,

    /// Bands by rows per band, such as 18x6; auto plans them for recall at the threshold
    #[arg(long, default_value = "auto", value_name = "BxR", help_heading = "Method")]
    pub bands: Bands,

    /// Take candidates for duplicates without comparing them
    #[arg(long, help_heading = "Method")]
    pub no_verify: bool,

    /// Treat records without any word as duplicates of one another
    #[arg(long, help_heading = "Method")]
    pub dedup_empty: bool,

    /// Mean --threshold 0
    #[arg(long, help_heading = "Method")]
    pub yes_everything: bool,

    /// Who is kept: first, longest, shortest, max:FIELD, min:FIELD, source:A,B,C, random, none
    #[arg(long, default_value = "first", value_name = "POLICY", help_heading = "Keep")]
    pub keep: Keep,

    /// Copies of a record that may stay
    #[arg(long, default_value_t = 1, value_name = "C", help_heading = "Keep")]
    pub copies: u32,

    /// cover: drop a record only if a kept one is near; components: keep one of each connected set
    #[arg(long, value_enum, default_value = "cover", help_heading = "Keep")]
    pub policy: PolicyArg,

    /// Look for duplicates only among records with the same value of this field
    #[arg(long, value_name = "FIELD", help_heading = "Scope")]
    pub group_by: Option<String>,

    /// Cut repeated lines out of the texts
    #[arg(long, conflicts_with = "paragraphs", help_heading = "Scope")]
    pub lines: bool,

    /// Cut repeated paragraphs out of the texts
    #[arg(long, help_heading = "Scope")]
    pub paragraphs: bool,

    /// Reference corpora: read, never written; what repeats them is dropped
    #[arg(long, value_name = "REF", num_args = 1.., help_heading = "Against")]
    pub against: Vec<PathBuf>,

    /// Drop records that share N words in a row with a reference
    #[arg(long, value_name = "N", help_heading = "Against")]
    pub contains: Option<usize>,

    /// Index that this run is matched against and adds to
    #[arg(long, value_name = "DIR", help_heading = "Against")]
    pub index: Option<PathBuf>,

    /// Write all records, with cluster, cluster size, kept, similarity and weight in added fields
    #[arg(long, help_heading = "Output")]
    pub annotate: bool,

    /// same, jsonl, jsonl.zst or parquet
    #[arg(long, default_value = "same", value_name = "FORMAT", help_heading = "Output")]
    pub output_format: OutputFormat,

    /// Seed of the hash family and of --keep random
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Run")]
    pub seed: u64,
}

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Memory that the job may use, such as 4GiB
    #[arg(long, value_parser = parse_bytes, default_value = "4GiB", value_name = "BYTES", help_heading = "Run")]
    pub memory: u64,

    /// Threads [default: all]
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub threads: Option<usize>,

    /// Go on with an interrupted job
    #[arg(long, conflicts_with = "overwrite", help_heading = "Run")]
    pub resume: bool,

    /// Replace an earlier job's output
    #[arg(long, help_heading = "Run")]
    pub overwrite: bool,

    /// Sketch only share i of n (i from 0); `nearkin dedup merge` finishes
    #[arg(long, value_name = "i/n", value_parser = parse_shard, help_heading = "Run")]
    pub shard: Option<(usize, usize)>,
}

/// Bytes with an optional unit: `4GiB`, `512MiB`, `1000000`.
pub fn parse_bytes(text: &str) -> Result<u64, Error> {
    let wrong =
        || Error::usage("memory", format!("{text:?}, expected bytes such as 4GiB or 512MiB"));
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// A share, from 0 to 1.
pub fn parse_share(text: &str) -> Result<f64, Error> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| Error::usage("share", format!("{text:?}, expected a number from 0 to 1")))
}

fn parse_shard(text: &str) -> Result<(usize, usize), Error> {
    let wrong = || Error::usage("shard", format!("{text:?}, expected i/n such as 0/4"));
    let (i, n) = text.split_once('/').ok_or_else(wrong)?;
    Ok((i.parse().map_err(|_| wrong())?, n.parse().map_err(|_| wrong())?))
}
