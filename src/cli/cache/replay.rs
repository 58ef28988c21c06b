//! `nearkin cache replay`: a trace of arrivals, with labelled prompts, through a cache.

mod draw;
mod run;
mod told;
mod trace;

use std::fs;
use std::path::PathBuf;

use crate::cache::Policies;
use crate::cli::cache::labelled::{Labels, Request, read};
use crate::cli::cache::replay::draw::{Drawer, Recipe};
use crate::cli::cache::replay::run::{Run, Step};
use crate::cli::cache::replay::trace::Arrival;
use crate::cli::cache::rows::UnitRows;
use crate::cli::pool;
use crate::embed;
use crate::error::{Error, ErrorKind, IoContext, Result};

#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// Arrivals: CSV of BurstGPT or of Azure's traces, or Mooncake's lines of JSON
    #[arg(value_name = "TRACE")]
    pub trace: PathBuf,

    /// Prompts, lines of JSON {"text", "intent"}: those of one intent have one answer; intent null: none has its answer
    #[arg(long, value_name = "FILE.jsonl")]
    pub prompts: PathBuf,

    /// Prompts that come close to each other and differ, lines of JSON {"a", "b", "same": false}
    #[arg(long, value_name = "FILE.jsonl")]
    pub traps: Option<PathBuf>,

    /// Field with the category; lines without are of the category `default`
    #[arg(long, default_value = "category", value_name = "FIELD")]
    pub category: String,

    /// Policies; without, the default one, which is strict
    #[arg(long, value_name = "FILE.toml")]
    pub policy: Option<PathBuf>,

    /// Vectors: static, hashed, http:URL#MODEL, bert:DIR, or given:FILE.npy with a row for each prompt, then for each trap's a
    /// and b in turn
    #[arg(long, default_value = "static", value_name = "EMBEDDER")]
    pub embed: embed::Choice,

    /// Times between arrivals are divided by it
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub speed: f64,

    /// Only so many arrivals, from the first one on
    #[arg(long, value_name = "N")]
    pub requests: Option<usize>,

    /// Prompts come in the order of their file, which then holds one for each arrival, instead of being drawn
    #[arg(long)]
    pub in_order: bool,

    /// Exponent of Zipf's law, by which intents of a category are drawn
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    pub zipf: f64,

    /// Share of requests that repeat an earlier one word for word
    #[arg(long, default_value_t = 0.08, value_name = "SHARE")]
    pub repeats: f64,

    /// Share of requests that are of a trap
    #[arg(long, default_value_t = 0.03, value_name = "SHARE")]
    pub trap_share: f64,

    /// Milliseconds of a token of an answer, where the trace does not say how long answers took
    #[arg(long, default_value_t = 25.0, value_name = "MS")]
    pub token_ms: f64,

    /// Seed of the draws
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,

    /// Confidence of the intervals
    #[arg(long, default_value_t = 0.95, value_name = "SHARE")]
    pub confidence: f64,

    /// Folder for the cache, which must not be there; without, one that is removed at the end
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Threads of embedder and cache [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

pub fn run(args: &ReplayArgs) -> Result<u8> {
    check(args)?;
    let mut arrivals = trace::read(&args.trace)?;
    arrivals.truncate(args.requests.unwrap_or(usize::MAX));
    let Prompts { requests, traps, categories } = prompts(args)?;
    let policies = match &args.policy {
        None => Policies::default(),
        Some(path) => {
            let text = fs::read_to_string(path).at("read", path)?;
            Policies::from_toml(&text, &path.display().to_string())?
        }
    };
    let threads = pool(args.threads)?.current_num_threads();
    let texts: Vec<&str> = requests.iter().map(|request| &*request.text).collect();
    let rows = UnitRows::of(&args.embed, &texts, threads)?;
    let steps = steps(args, &arrivals, &requests, traps)?;
    let run = Run { requests: &requests, categories: &categories, rows: &rows };
    let seen = run.through(&steps, policies, args.data.as_deref(), args.seed, threads)?;
    told::print(args, &seen);
    Ok(0)
}

fn check(args: &ReplayArgs) -> Result<()> {
    let share = |name, value: f64| match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => Err(Error::usage(name, format!("{value}, expected a share from 0 to below 1"))),
    };
    share("repeats", args.repeats)?;
    share("trap_share", args.trap_share)?;
    share("repeats", args.repeats + args.trap_share)?;
    share("confidence", args.confidence)?;
    for (name, value, may_be_zero) in
        [("speed", args.speed, false), ("token_ms", args.token_ms, true), ("zipf", args.zipf, true)]
    {
        if !value.is_finite() || value < 0.0 || value == 0.0 && !may_be_zero {
            return Err(Error::usage(name, format!("{value}, expected a number above 0")));
        }
    }
    Ok(())
}

/// What can be asked.
struct Prompts {
    /// Those of traps last.
    requests: Vec<Request>,
    /// The two prompts of each trap, by number.
    traps: Vec<[usize; 2]>,
    /// Names, by number.
    categories: Vec<String>,
}

fn prompts(args: &ReplayArgs) -> Result<Prompts> {
    let wrong = |path: &PathBuf, expected: &str| {
        let message = format!("{}: expected {expected}", path.display());
        Error::new(ErrorKind::BadInput, "labelled_row", message)
    };
    let labelled = read(&args.prompts, &args.category)?;
    let Labels::Stream(mut requests) = labelled.labels else {
        return Err(wrong(&args.prompts, "requests {\"text\", \"intent\"}"));
    };
    let mut traps = Vec::new();
    if let Some(path) = &args.traps {
        let Labels::Pairs(pairs) = read(path, &args.category)?.labels else {
            return Err(wrong(path, "pairs {\"a\", \"b\", \"same\"}"));
        };
        if pairs.iter().any(|pair| pair.is_same) {
            return Err(wrong(path, "pairs whose answers differ: \"same\": false"));
        }
        for (i, pair) in pairs.into_iter().enumerate() {
            traps.push([requests.len(), requests.len() + 1]);
            // Where prompts of any category come they do most harm.
            let category = (i % labelled.categories.len()) as u32;
            let texts = pair.texts.into_iter();
            requests.extend(texts.map(|text| Request { text, intent: None, category }));
        }
    }
    Ok(Prompts { requests, traps, categories: labelled.categories })
}

/// What is asked when.
fn steps(
    args: &ReplayArgs,
    arrivals: &[Arrival],
    requests: &[Request],
    traps: Vec<[usize; 2]>,
) -> Result<Vec<Step>> {
    let n_drawn_from = requests.len() - 2 * traps.len();
    if args.in_order && n_drawn_from < arrivals.len() {
        let message = format!(
            "{}: {n_drawn_from} prompts, expected one for each of {} arrivals",
            args.prompts.display(),
            arrivals.len()
        );
        return Err(Error::new(ErrorKind::BadInput, "prompts_few", message));
    }
    let recipe =
        Recipe { seed: args.seed, zipf: args.zipf, repeats: args.repeats, traps: args.trap_share };
    let mut drawer = Drawer::new(recipe, &requests[..n_drawn_from], traps);
    let step = |(i, arrival): (usize, &Arrival)| Step {
        row: if args.in_order { i } else { drawer.next() },
        at_ms: arrival.at_ms / args.speed,
        tokens: arrival.tokens,
        took_ms: arrival.took_ms.unwrap_or(args.token_ms * f64::from(arrival.tokens[1])),
    };
    Ok(arrivals.iter().enumerate().map(step).collect())
}
