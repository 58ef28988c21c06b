//! `nearkin search`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::args::{parse_bytes, parse_share};
use crate::cli::vectors::VectorArgs;
use crate::cli::{complain, lines, pool};
use crate::core::ids::PointId;
use crate::core::rows::Rows;
use crate::engine::{Answer, Ask, Collection, How, RecallFacts, folder, micros};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::plan::filter::Filter;
use crate::record::vector_file::read_all;

#[derive(Debug, clap::Args)]
pub struct SearchArgs {
    /// Folder of collections
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// Collection
    #[arg(long, value_name = "NAME")]
    pub collection: String,

    /// Queries: a .npy, .fvecs, .bvecs or .parquet file, one row per query
    #[arg(long, value_name = "FILE")]
    pub vectors: PathBuf,

    #[command(flatten)]
    pub read: VectorArgs,

    /// Points per query, at most 1,024; fewer only where fewer pass
    #[arg(long, default_value_t = 10, value_name = "K")]
    pub k: usize,

    /// Only points that this tenant may read
    #[arg(long, value_name = "T", conflicts_with = "tenants_from")]
    pub tenant: Option<String>,

    /// One tenant per line, one line per query
    #[arg(long, value_name = "FILE")]
    pub tenants_from: Option<PathBuf>,

    /// Only points that pass, in Qdrant's JSON form
    #[arg(long, value_name = "JSON", conflicts_with = "filters_from")]
    pub filter: Option<String>,

    /// One filter per line, one line per query; {} for none
    #[arg(long, value_name = "FILE")]
    pub filters_from: Option<PathBuf>,

    /// Only exact answers
    #[arg(long, conflicts_with_all = ["recall", "ef"])]
    pub exact: bool,

    /// Share of the nearest points that answers are to find, measured on rows of the collection
    #[arg(long, value_name = "SHARE", default_value_t = How::default().recall, conflicts_with = "ef")]
    pub recall: f32,

    /// Width of the beam, in place of a recall
    #[arg(long, value_name = "EF")]
    pub ef: Option<usize>,

    /// Ask this share of the queries again, exactly, and say which share of the nearest points had been found; other queries and
    /// their times stay what they are
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_share, conflicts_with = "exact")]
    pub check_recall: f64,

    /// Say with each answer how it was found, what was predicted and what it took
    #[arg(long)]
    pub explain: bool,

    /// Queries answered together
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,

    /// Threads; all cores without
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Memory for vectors and their codes
    #[arg(long, default_value = "16GiB", value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: u64,

    /// One JSON object per query
    #[arg(long, value_name = "R.jsonl")]
    pub out: PathBuf,

    /// Replace the file
    #[arg(long)]
    pub overwrite: bool,
}

pub fn run(args: &SearchArgs) -> Result<u8> {
    if args.out.exists() && !args.overwrite {
        let message = format!("{} exists; --overwrite replaces it", args.out.display());
        return Err(Error::usage("output_exists", message));
    }
    let queries = read_all(&args.vectors, args.read.vector_field.as_deref(), args.read.storage)?;
    let asks = asks(args, queries.n_rows())?;
    let pool = pool(args.threads)?;
    let began = Instant::now();
    let collection = Collection::open(&folder(&args.data, &args.collection)?, &pool, args.memory)?;
    let opening_s = began.elapsed().as_secs_f64();
    collection.sample_recall(args.check_recall)?;
    collection.notes().iter().for_each(|note| complain(format_args!("{note}")));
    // Written aside: a run that fails leaves an earlier answer as it was.
    let mut part = args.out.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = answer_all(args, &collection, &queries, &asks, (&part, opening_s));
    if written.is_err() {
        // What went wrong is said; the half file is of no use, and may not be there.
        let _ = std::fs::remove_file(&part);
    }
    written?;
    std::fs::rename(&part, &args.out).at("rename", &part)?;
    Ok(0)
}

/// Writes a line for every query, and says on the standard error how it went.
fn answer_all(
    args: &SearchArgs,
    collection: &Collection,
    queries: &Rows,
    asks: &[Ask],
    (path, opening_s): (&Path, f64),
) -> Result<()> {
    let mut out = BufWriter::new(File::create(path).at("create", path)?);
    let how =
        How { k: args.k, exact: args.exact, recall: args.recall, ef: args.ef, ..How::default() };
    let (mut latencies, mut ways) = (Vec::with_capacity(asks.len()), BTreeMap::new());
    let mut searching_s = 0.0;
    for start in (0..queries.n_rows()).step_by(args.batch as usize) {
        let range = start..(start + args.batch as usize).min(queries.n_rows());
        let at = Instant::now();
        let answers = collection.search(&queries.slice(range.clone()), &asks[range], &how)?;
        let taken = at.elapsed().as_secs_f64();
        searching_s += taken;
        for answer in &answers {
            latencies.push(taken);
            *ways.entry(answer.way.name()).or_insert(0u64) += 1;
            writeln!(out, "{}", line(answer, args.explain)).at("write", path)?;
        }
        collection.check_recall(Duration::MAX)?;
    }
    out.flush().at("write", path)?;
    let checked = (args.check_recall > 0.0).then(|| collection.recall_facts());
    summarize(opening_s, searching_s, latencies, &ways, checked);
    Ok(())
}

/// What each query asks for.
fn asks(args: &SearchArgs, n_queries: usize) -> Result<Vec<Ask>> {
    let one = args.filter.as_deref().map(|text| filter(text, "--filter")).transpose()?;
    let all = (args.tenant.clone(), one.unwrap_or_default());
    asks_from(args.tenants_from.as_deref(), args.filters_from.as_deref(), &all, n_queries)
}

/// What each query asks for: tenants and filters by the line, or the same for all where there is no file.
///
/// # Errors
/// `rows_differ` if a file has not a line for each query; `filter_json`; those of filters and of reading.
pub fn asks_from(
    tenants_from: Option<&Path>,
    filters_from: Option<&Path>,
    all: &(Option<String>, Filter),
    n_queries: usize,
) -> Result<Vec<Ask>> {
    let tenants = match tenants_from {
        Some(path) => per_query(path, n_queries, |_, line| Ok(Some(line.to_owned())))?,
        None => vec![all.0.clone(); n_queries],
    };
    let filters = match filters_from {
        Some(path) => {
            let read = |n, line: &str| filter(line, &format!("{}, line {n}", path.display()));
            per_query(path, n_queries, read)?
        }
        None => vec![all.1.clone(); n_queries],
    };
    let asks = tenants.into_iter().zip(filters);
    Ok(asks.map(|(tenant, filter)| Ask::new(tenant.as_deref(), filter)).collect())
}

fn per_query<T>(
    path: &Path,
    n_queries: usize,
    read: impl Fn(usize, &str) -> Result<T>,
) -> Result<Vec<T>> {
    let mut all = Vec::with_capacity(n_queries);
    lines::each(path, &mut |n, line| {
        all.push(read(n, line)?);
        Ok(())
    })?;
    if all.len() == n_queries {
        return Ok(all);
    }
    let message = format!("{}: {} lines for {n_queries} queries", path.display(), all.len());
    Err(Error::new(ErrorKind::BadInput, "rows_differ", message))
}

fn filter(text: &str, place: &str) -> Result<Filter> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::BadInput, "filter_json", format!("{place}: {error}"))
    })?;
    Filter::from_json(&value).map_err(|error| error.within(place))
}

fn line(answer: &Answer, explain: bool) -> Value {
    let id = |id: PointId| match id {
        PointId::Num(number) => json!(number),
        PointId::Uuid(_) => json!(id.to_string()),
    };
    let ids: Vec<Value> = answer.points.iter().map(|point| id(point.id)).collect();
    let scores: Vec<f32> = answer.points.iter().map(|point| point.score).collect();
    let way = answer.way.name();
    if !explain {
        return json!({"ids": ids, "scores": scores, "plan": way});
    }
    json!({"ids": ids, "scores": scores, "plan": {
        "way": way,
        "matches": answer.n_matches,
        "planned": answer.choice.way.name(),
        "predicted_us": answer.predicted_us(),
        "signs": answer.n_signs,
        "distances": answer.n_distances,
        "took_us": micros(answer.seconds / answer.n_together as f64),
        "queries_together": answer.n_together,
        "filter": answer.filter_read(),
    }})
}

/// One line of JSON on the standard error; seconds are those of opening, and of searching without reading and writing files.
fn summarize(
    opening_s: f64,
    seconds: f64,
    mut latencies: Vec<f64>,
    ways: &BTreeMap<&str, u64>,
    checked: Option<RecallFacts>,
) {
    latencies.sort_unstable_by(f64::total_cmp);
    let quantile = |share| quantile_us(&latencies, share);
    let mut all = json!({
        "queries": latencies.len(),
        "open_ms": (opening_s * 1e5).round() / 100.0,
        "seconds": seconds,
        "queries_per_second": (latencies.len() as f64 / seconds.max(f64::MIN_POSITIVE)).round(),
        "p50_us": quantile(0.5), "p95_us": quantile(0.95), "p99_us": quantile(0.99),
        "plans": ways,
    });
    if let Some(facts) = checked {
        let recall = facts.recall().map(|share| (share * 1e5).round() / 1e5);
        let left_out = facts.n_left_out;
        all["recall"] = json!({"checked": facts.n_checked, "left_out": left_out, "share": recall});
    }
    complain(format_args!("{all}"));
}

/// The microseconds that this share of latencies in seconds, sorted, does not exceed.
pub fn quantile_us(latencies: &[f64], share: f64) -> f64 {
    let at = (share * latencies.len() as f64).ceil() as usize;
    micros(latencies.get(at.saturating_sub(1)).copied().unwrap_or_default())
}
