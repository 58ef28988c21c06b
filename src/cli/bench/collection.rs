//! `nearkin bench DIR --collection NAME`: how many queries a second, at which recall, against exact answers made here.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use serde_json::{Value, json};

use crate::cli::args::parse_bytes;
use crate::cli::search::{asks_from, quantile_us};
use crate::cli::vectors::storage;
use crate::cli::{complain, pool, say};
use crate::core::ids::PointId;
use crate::core::rows::{Dtype, Rows};
use crate::engine::{Answer, Ask, Collection, DEFAULT_VECTOR, Found, How, folder};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::filter::Filter;
use crate::record::vector_file::read_all;

/// Seed that picks the rows that are asked for, where no queries are brought.
const SEED: u64 = 1;

/// Queries of one call while exact answers are made, untimed.
const EXACT_BATCH: usize = 64;

/// By how much, relative to a score plus one, two computations of it may differ: scores within it are taken for ties.
const TIE: f32 = 1e-5;

#[derive(Debug, clap::Args)]
pub struct CollectionBenchArgs {
    /// Folder of collections; measures answers of a collection instead of operations of this machine
    #[arg(value_name = "DIR", requires = "collection", conflicts_with_all = ["device", "rows", "dim", "json"])]
    pub data: Option<PathBuf>,

    /// Collection
    #[arg(long, value_name = "NAME", requires = "data", help_heading = "Collection")]
    pub collection: Option<String>,

    /// Queries: a .npy, .fvecs or .bvecs file; without, rows of the collection, each asked for one point more and left out of
    /// its own answer. Recall of rows is higher than that of queries from elsewhere: a walk that meets the row is there
    #[arg(long, value_name = "FILE", requires = "data", help_heading = "Collection")]
    pub vectors: Option<PathBuf>,

    /// Element type that the queries become, where the collection keeps another than they have: f32, f16 or u8
    #[arg(long, value_name = "TYPE", value_parser = storage, requires = "vectors", help_heading = "Collection")]
    pub storage: Option<Dtype>,

    /// How many rows are asked for, without --vectors
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "data", conflicts_with = "vectors", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Collection")]
    pub queries: u32,

    /// One filter per line, one line per query; {} for none
    #[arg(long, value_name = "FILE", requires = "data", help_heading = "Collection")]
    pub filters_from: Option<PathBuf>,

    /// One tenant per line, one line per query
    #[arg(long, value_name = "FILE", requires = "data", help_heading = "Collection")]
    pub tenants_from: Option<PathBuf>,

    /// Points per query
    #[arg(
        long,
        default_value_t = 10,
        value_name = "K",
        requires = "data",
        help_heading = "Collection"
    )]
    pub k: usize,

    /// How often all queries are asked; the fastest pass counts
    #[arg(long, default_value_t = 5, value_name = "N", requires = "data", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Collection")]
    pub passes: u32,

    /// Points of the curve by the recall that is asked for; exact for exact answers only
    #[arg(
        long,
        value_name = "R,R,..",
        value_delimiter = ',',
        default_value = "0.9,0.95,0.98,0.99,exact",
        requires = "data",
        help_heading = "Collection"
    )]
    pub recalls: Vec<Asked>,

    /// Points of the curve by the width of the beam, in place of recalls
    #[arg(
        long,
        value_name = "EF,EF,..",
        value_delimiter = ',',
        requires = "data",
        conflicts_with = "recalls",
        help_heading = "Collection"
    )]
    pub efs: Vec<usize>,

    /// Memory for vectors and their codes
    #[arg(long, default_value = "16GiB", value_name = "BYTES", value_parser = parse_bytes, requires = "data", help_heading = "Collection")]
    pub memory: u64,
}

/// What one point of the curve asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    /// A recall.
    Recall(f32),
    /// The width of a beam.
    Ef(usize),
    /// Exact answers only.
    Exact,
}

impl FromStr for Asked {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::usage("recalls", format!("{text:?}, expected 0 to 1, or exact"));
        match text {
            "exact" => Ok(Self::Exact),
            _ => match text.parse() {
                Ok(recall) if (0.0..=1.0).contains(&recall) => Ok(Self::Recall(recall)),
                _ => Err(wrong()),
            },
        }
    }
}

impl Asked {
    fn how(self, k: usize) -> How {
        match self {
            Self::Recall(recall) => How { k, recall, ..How::default() },
            Self::Ef(ef) => How { k, ef: Some(ef), ..How::default() },
            Self::Exact => How { k, exact: true, ..How::default() },
        }
    }

    fn name(self) -> String {
        match self {
            Self::Recall(recall) => format!("recall {recall}"),
            Self::Ef(ef) => format!("ef {ef}"),
            Self::Exact => "exact".to_owned(),
        }
    }
}

/// What is asked, over and over.
struct Questions {
    rows: Rows,
    asks: Vec<Ask>,
    /// The points whose rows these are, if they are rows of the collection: none is part of its own answer.
    own: Option<Vec<PointId>>,
    /// Points that are wanted of each answer.
    k: usize,
}

/// One pass over all questions.
struct Pass {
    /// Seconds from the first question to the last answer.
    seconds: f64,
    /// Seconds of each question, in their order.
    latencies: Vec<f64>,
    answers: Vec<Answer>,
}

pub fn run(data: &Path, args: &CollectionBenchArgs, n_threads: usize) -> Result<u8> {
    let name = args.collection.as_deref().expect("required with the folder");
    let pool = pool(Some(n_threads))?;
    let collection = Collection::open(&folder(data, name)?, &pool, args.memory)?;
    collection.notes().iter().for_each(|note| complain(format_args!("{note}")));
    let questions = Questions::of(args, &collection)?;
    let exact = questions.exact(&collection)?;
    let curve: Vec<Asked> = match args.efs.as_slice() {
        [] => args.recalls.clone(),
        efs => efs.iter().map(|&ef| Asked::Ef(ef)).collect(),
    };
    let is_watched = std::io::stderr().is_terminal();
    if is_watched {
        let [asked, recall, rate] = ["asked", "recall", "queries/s"];
        complain(format_args!(
            "{asked:12} {recall:>8} {rate:>10} {:>9} {:>9} {:>9}  ways",
            "p50 us", "p95 us", "p99 us"
        ));
    }
    for asked in curve {
        let how = asked.how(questions.asked_k());
        let passes: Vec<Pass> = (0..args.passes)
            .map(|_| questions.pass(&collection, &how, n_threads))
            .collect::<Result<_>>()?;
        let recall = questions.recall(&exact, &passes[0].answers);
        let line = line((name, asked), &questions, n_threads, recall, &passes);
        say(format_args!("{line}"));
        if is_watched {
            print(&line);
        }
    }
    Ok(0)
}

impl Questions {
    fn of(args: &CollectionBenchArgs, collection: &Collection) -> Result<Self> {
        let (rows, own) = match &args.vectors {
            Some(path) => (read_all(path, None, args.storage)?, None),
            None => {
                let (ids, rows) = collection.sample(DEFAULT_VECTOR, args.queries as usize, SEED)?;
                (rows, Some(ids))
            }
        };
        if rows.n_rows() == 0 {
            let message = "the collection has no points, and no --vectors are given";
            return Err(Error::new(ErrorKind::BadInput, "no_queries", message));
        }
        let (tenants, filters) = (args.tenants_from.as_deref(), args.filters_from.as_deref());
        let asks = asks_from(tenants, filters, &(None, Filter::default()), rows.n_rows())?;
        Ok(Self { rows, asks, own, k: args.k })
    }

    /// Points that each question is for: one more where the first is likely the row itself.
    fn asked_k(&self) -> usize {
        self.k + usize::from(self.own.is_some())
    }

    /// Exact answers.
    fn exact(&self, collection: &Collection) -> Result<Vec<Answer>> {
        let how = Asked::Exact.how(self.asked_k());
        let mut all = Vec::with_capacity(self.asks.len());
        for start in (0..self.asks.len()).step_by(EXACT_BATCH) {
            let range = start..(start + EXACT_BATCH).min(self.asks.len());
            all.extend(collection.search(
                &self.rows.slice(range.clone()),
                &self.asks[range],
                &how,
            )?);
        }
        Ok(all)
    }

    /// Asks all, one by one, from so many threads at once.
    fn pass(&self, collection: &Collection, how: &How, n_threads: usize) -> Result<Pass> {
        let queries: Vec<Rows> = (0..self.asks.len()).map(|q| self.rows.slice(q..q + 1)).collect();
        let ask = |first: usize| -> Result<Vec<(usize, f64, Answer)>> {
            let mut some = Vec::with_capacity(queries.len() / n_threads + 1);
            for q in (first..queries.len()).step_by(n_threads) {
                let at = Instant::now();
                let answer = collection.search(&queries[q], &self.asks[q..=q], how)?.swap_remove(0);
                some.push((q, at.elapsed().as_secs_f64(), answer));
            }
            Ok(some)
        };
        let began = Instant::now();
        let found: Result<Vec<_>> = if n_threads == 1 {
            ask(0).map(|some| vec![some])
        } else {
            std::thread::scope(|scope| {
                let ask = &ask;
                let started: Vec<_> =
                    (0..n_threads).map(|first| scope.spawn(move || ask(first))).collect();
                started.into_iter().map(|one| one.join().expect("no question panics")).collect()
            })
        };
        let seconds = began.elapsed().as_secs_f64();
        let mut found = found?.concat();
        found.sort_unstable_by_key(|one| one.0);
        let (latencies, answers) = found.into_iter().map(|(_, took, one)| (took, one)).unzip();
        Ok(Pass { seconds, latencies, answers })
    }

    /// The points of an answer that count.
    fn counted<'a>(&self, q: usize, answer: &'a Answer) -> Vec<&'a Found> {
        let own = self.own.as_ref().map(|ids| ids[q]);
        answer.points.iter().filter(|point| Some(point.id) != own).take(self.k).collect()
    }

    /// The share of the nearest points that answers have, ties counted; `None` if nothing was to be found.
    fn recall(&self, exact: &[Answer], answers: &[Answer]) -> Option<f64> {
        let (mut n_found, mut n_wanted) = (0usize, 0usize);
        for (q, (exact, answer)) in exact.iter().zip(answers).enumerate() {
            let wanted = self.counted(q, exact);
            let Some(last) = wanted.last() else { continue };
            let near = |point: &&Found| {
                let is_tie = (point.score - last.score).abs() <= TIE * (1.0 + last.score.abs());
                is_tie || wanted.iter().any(|other| other.id == point.id)
            };
            n_found += self.counted(q, answer).into_iter().filter(near).count();
            n_wanted += wanted.len();
        }
        (n_wanted > 0).then(|| n_found as f64 / n_wanted as f64)
    }
}

/// One point of the curve; latencies are those of the fastest pass.
fn line(
    (name, asked): (&str, Asked),
    questions: &Questions,
    n_threads: usize,
    recall: Option<f64>,
    passes: &[Pass],
) -> Value {
    let n_queries = questions.asks.len();
    let best = passes
        .iter()
        .min_by(|a, b| a.seconds.total_cmp(&b.seconds))
        .expect("there is at least one pass");
    let mut latencies = best.latencies.clone();
    latencies.sort_unstable_by(f64::total_cmp);
    let mut ways: BTreeMap<&str, u64> = BTreeMap::new();
    best.answers.iter().for_each(|answer| *ways.entry(answer.way.name()).or_default() += 1);
    let rate = |pass: &Pass| (n_queries as f64 / pass.seconds * 10.0).round() / 10.0;
    json!({
        "collection": name,
        "asked": asked.name(),
        "k": questions.k,
        "queries": n_queries,
        "queries_are": if questions.own.is_some() { "rows, each left out" } else { "given" },
        "threads": n_threads,
        "recall": recall.map(|recall| (recall * 1e5).round() / 1e5),
        "queries_per_second": rate(best),
        "passes": passes.iter().map(rate).collect::<Vec<_>>(),
        "p50_us": quantile_us(&latencies, 0.5),
        "p95_us": quantile_us(&latencies, 0.95),
        "p99_us": quantile_us(&latencies, 0.99),
        "ways": ways,
    })
}

fn print(line: &Value) {
    let number = |name: &str| line[name].as_f64().unwrap_or_default();
    let recall = line["recall"].as_f64().map_or("-".to_owned(), |recall| format!("{recall:.4}"));
    complain(format_args!(
        "{:12} {recall:>8} {:>10.0} {:>9.1} {:>9.1} {:>9.1}  {}",
        line["asked"].as_str().unwrap_or_default(),
        number("queries_per_second"),
        number("p50_us"),
        number("p95_us"),
        number("p99_us"),
        line["ways"]
    ));
}
