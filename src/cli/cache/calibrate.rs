//! `nearkin cache calibrate`.

use std::path::PathBuf;

use crate::cache::calibrate::{Choice, Curve, Outcome, of_stream, threshold};
use crate::cache::guard::{Guarded, agrees};
use crate::cache::interval::interval;
use crate::cli::cache::labelled::{Labelled, Labels, Pair, Request, read};
use crate::cli::cache::rows::UnitRows;
use crate::cli::cache::{fragment, plot};
use crate::cli::{pool, say};
use crate::core::limits::STREAM_REQUESTS;
use crate::core::mix::stream;
use crate::embed;
use crate::error::{Error, ErrorKind, Result};

#[derive(Debug, clap::Args)]
pub struct CalibrateArgs {
    /// Labelled requests, lines of JSON: pairs {"a", "b", "same"} or a stream {"text", "intent"}; intent null: nothing else
    /// has its answer
    #[arg(long, value_name = "FILE.jsonl")]
    pub pairs: PathBuf,

    /// Field with the category; lines without are of the category `default`
    #[arg(long, default_value = "category", value_name = "FIELD")]
    pub category: String,

    /// Vectors: static, hashed, http:URL#MODEL, bert:DIR, or given:FILE.npy with a row for each text, a and b in turn
    #[arg(long, default_value = "static", value_name = "EMBEDDER")]
    pub embed: embed::Choice,

    /// Share of all requests that may be answered wrongly
    #[arg(long, default_value_t = 0.01, value_name = "SHARE")]
    pub target_error: f64,

    /// Confidence that a threshold keeps to it
    #[arg(long, default_value_t = 0.95, value_name = "SHARE")]
    pub confidence: f64,

    /// Answer near prompts without the guard, which looks at what differs between them
    #[arg(long)]
    pub no_guard: bool,

    /// Shuffle a stream; without, it comes in the order of the file
    #[arg(long, value_name = "SEED")]
    pub shuffle: Option<u64>,

    /// File for the thresholds, as a part of a policy
    #[arg(long, value_name = "FILE.toml")]
    pub out: Option<PathBuf>,

    /// Replace the files if they exist
    #[arg(long)]
    pub overwrite: bool,

    /// File for a drawing of the curves
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// Threads of the embedder [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// A category, its curve, and what that allows.
pub struct Category {
    pub name: String,
    pub curve: Curve,
    pub choice: Choice,
}

pub fn run(args: &CalibrateArgs) -> Result<u8> {
    share("target_error", args.target_error)?;
    share("confidence", args.confidence)?;
    let labelled = read(&args.pairs, &args.category)?;
    let threads = pool(args.threads)?.current_num_threads();
    let rows = UnitRows::of(&args.embed, &texts(&labelled.labels), threads)?;
    let curves = curves(args, &labelled, &rows)?;
    let categories: Vec<Category> = labelled
        .categories
        .into_iter()
        .zip(curves)
        .map(|(name, curve)| {
            let choice = curve.choose(args.target_error, args.confidence);
            Category { name, curve, choice }
        })
        .collect();
    let head = head(args, &rows.identity);
    table(args, &head, &categories);
    if let Some(path) = &args.out {
        fragment::write(path, &head, &categories, args.overwrite)?;
    }
    if let Some(path) = &args.plot {
        plot::write(path, &head, &categories, args)?;
    }
    Ok(0)
}

fn share(name: &'static str, value: f64) -> Result<()> {
    match value > 0.0 && value < 1.0 {
        true => Ok(()),
        false => Err(Error::usage(name, format!("{value}, expected a share between 0 and 1"))),
    }
}

fn texts(labels: &Labels) -> Vec<&str> {
    match labels {
        Labels::Pairs(pairs) => {
            pairs.iter().flat_map(|pair| &pair.texts).map(String::as_str).collect()
        }
        Labels::Stream(requests) => requests.iter().map(|request| &*request.text).collect(),
    }
}

fn curves(args: &CalibrateArgs, labelled: &Labelled, rows: &UnitRows) -> Result<Vec<Curve>> {
    let categories = 0..labelled.categories.len() as u32;
    match &labelled.labels {
        Labels::Pairs(pairs) => {
            Ok(categories.map(|category| of_pairs(pairs, category, rows, args)).collect())
        }
        Labels::Stream(requests) => {
            categories.map(|category| of_requests(requests, category, rows, args)).collect()
        }
    }
}

fn may_answer(stored: &str, asked: &str, args: &CalibrateArgs) -> bool {
    args.no_guard || agrees(stored, asked) == Guarded::Same
}

fn of_pairs(pairs: &[Pair], category: u32, rows: &UnitRows, args: &CalibrateArgs) -> Curve {
    let own = pairs.iter().enumerate().filter(|(_, pair)| pair.category == category);
    let outcomes: Vec<Outcome> = own
        .map(|(i, Pair { texts: [stored, asked], is_same, .. })| Outcome {
            similarity: may_answer(stored, asked, args).then(|| rows.similarity(2 * i, 2 * i + 1)),
            is_right: *is_same,
        })
        .collect();
    Curve::of_pairs(&outcomes)
}

fn of_requests(
    requests: &[Request],
    category: u32,
    rows: &UnitRows,
    args: &CalibrateArgs,
) -> Result<Curve> {
    let mut own: Vec<usize> =
        (0..requests.len()).filter(|&i| requests[i].category == category).collect();
    if own.len() > STREAM_REQUESTS {
        let message = format!(
            "{} of one category, expected at most {STREAM_REQUESTS}: each is compared with all before it",
            own.len()
        );
        return Err(Error::new(ErrorKind::Limit, "stream_requests", message));
    }
    if let Some(seed) = args.shuffle {
        shuffle(&mut own, seed);
    }
    let values: Vec<f32> = own.iter().flat_map(|&i| rows.row(i).iter().copied()).collect();
    let intents: Vec<Option<u32>> = own.iter().map(|&i| requests[i].intent).collect();
    let text = |i: usize| &*requests[own[i]].text;
    let may = |stored, asked| may_answer(text(stored), text(asked), args);
    Ok(of_stream(&values, rows.dim, &intents, &may))
}

/// Puts numbers into an order drawn by a seed.
pub fn shuffle(numbers: &mut [usize], seed: u64) {
    for i in (1..numbers.len()).rev() {
        numbers.swap(i, (stream(seed, i as u64) % (i as u64 + 1)) as usize);
    }
}

/// What the figures are of.
fn head(args: &CalibrateArgs, identity: &str) -> Vec<String> {
    let guard = if args.no_guard { "without guard" } else { "with guard" };
    vec![
        format!("{}, {identity}, {guard}", args.pairs.display()),
        format!(
            "error per request below {} with confidence {}",
            percent(args.target_error),
            args.confidence
        ),
    ]
}

/// Prints the choice for each category, with intervals of the confidence asked for.
fn table(args: &CalibrateArgs, head: &[String], categories: &[Category]) {
    head.iter().for_each(|line| say(format_args!("{line}")));
    let longest = categories.iter().map(|category| category.name.chars().count()).max();
    let width = longest.unwrap_or(0).max("category".len());
    say(format_args!(
        "\n{:width$}  {:>8}  {:>9}  {:>7}  {:24}  wrong of answered",
        "category", "requests", "threshold", "hits", "wrong of all"
    ));
    for Category { name, curve, choice } in categories {
        let what = match choice {
            Choice::Threshold(i) => {
                let (count, n) = (curve.counts[*i], curve.n);
                format!(
                    "{:>9.3}  {:>7}  {:24}  {}",
                    threshold(*i),
                    percent(count.hits as f64 / n as f64),
                    ranged(count.errors, n, args.confidence),
                    ranged(count.errors, count.hits, args.confidence)
                )
            }
            Choice::TooFew { least } => format!("   strict  at least {least} requests are needed"),
            Choice::TooWrong => {
                "   strict  no threshold keeps the error below the target".to_owned()
            }
        };
        say(format_args!("{name:width$}  {:>8}  {what}", curve.n));
    }
}

/// A share with the interval in which the truth lies.
pub fn ranged(k: u64, n: u64, confidence: f64) -> String {
    if n == 0 {
        return "none".into();
    }
    let (low, high) = interval(k, n, confidence);
    let number = |share: f64| format!("{:.2}", share * 100.0);
    format!("{} ({} to {})", percent(k as f64 / n as f64), number(low), number(high))
}

/// A share in percent.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
