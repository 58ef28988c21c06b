//! `nearkin pairs`.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;

use crate::backend::open::open;
use crate::backend::{Backend, Pair};
use crate::cli::args::PairsArgs;
use crate::cli::pair_file::{Form, Line, Scratch, write};
use crate::cli::{complain, pool, progress, say};
use crate::cluster::{JoinOptions, JoinReport, near_pairs};
use crate::core::metric::Metric;
use crate::core::rows::Rows;
use crate::dedup::spill::Sorter;
use crate::error::{Error, ErrorKind, Result};
use crate::record::npy;

/// What is asked for, in the words of the library.
struct Question {
    metric: Metric,
    within: f32,
    /// Field of the third number.
    key: &'static str,
}

/// Rows of a file, and where they stand in it if some were left out.
struct Side {
    rows: Arc<Rows>,
    places: Option<Vec<u32>>,
    n_zero: usize,
}

impl Side {
    fn place(&self, row: u32) -> u32 {
        self.places.as_ref().map_or(row, |places| places[row as usize])
    }
}

pub fn run(args: PairsArgs) -> Result<u8> {
    let question = question(&args)?;
    let form = Form::of(&args.out)?;
    if args.out.exists() && !args.overwrite {
        let message = format!("{} exists; --overwrite replaces it", args.out.display());
        return Err(Error::usage("output_exists", message));
    }
    let pool = pool(args.threads)?;
    let opened = open(args.device, &pool, args.memory, None)?;
    complain(format_args!("{}", opened.why));
    let backend = opened.backend;
    let a = side(&args.a, &args, question.metric)?;
    let b = args.b.as_ref().map(|path| side(path, &args, question.metric)).transpose()?;
    let scratch = Scratch::create(&args.out)?;
    let mut sorter = Sorter::new(scratch.folder(), "pairs", args.memory / 4, false);
    let sides = (&a, b.as_ref());
    let report = join(&args, &question, backend.as_ref(), &pool, sides, &mut sorter)?;
    write(&args.out, form, pool.install(|| sorter.finish())?, question.key)?;
    summarize(&report, [Some(&a), b.as_ref()], &args.out);
    Ok(0)
}

fn question(args: &PairsArgs) -> Result<Question> {
    let metric = args.metric;
    let wants_distance = matches!(metric, Metric::L2 | Metric::L1);
    let number = match (args.similarity, args.distance, wants_distance) {
        (Some(similarity), None, false) => similarity,
        (None, Some(distance), true) => distance,
        (Some(_), _, true) => {
            let message = format!("{metric} has no similarity; ask with --distance D");
            return Err(Error::usage("threshold", message));
        }
        (_, Some(_), false) => {
            let message = format!("{metric} is asked with --similarity S");
            return Err(Error::usage("threshold", message));
        }
        (None, None, _) => {
            let asked = if wants_distance { "--distance D" } else { "--similarity S" };
            return Err(Error::usage("threshold", format!("{asked} is needed with {metric}")));
        }
    };
    let (range, within) = match metric {
        Metric::Cosine => (-1.0..=1.0, 1.0 - number),
        Metric::Dot => (f64::MIN..=f64::MAX, -number),
        Metric::L2 | Metric::L1 => (0.0..=f64::MAX, number),
    };
    if !range.contains(&number) {
        let expected = match metric {
            Metric::Cosine => "-1 to 1",
            Metric::Dot => "a number",
            Metric::L2 | Metric::L1 => "0 or more",
        };
        let message = format!("{number} with {metric}, expected {expected}");
        return Err(Error::usage("threshold_range", message));
    }
    let key = if wants_distance { "distance" } else { "similarity" };
    Ok(Question { metric, within: within as f32, key })
}

/// Reads a file, and leaves out rows of zeros if that is asked for and the metric wants it.
fn side(path: &Path, args: &PairsArgs, metric: Metric) -> Result<Side> {
    let rows = npy::read(path)?;
    if metric != Metric::Cosine {
        return Ok(Side { rows: Arc::new(rows), places: None, n_zero: 0 });
    }
    let norms = rows.norms();
    let places: Vec<u32> =
        (0..rows.n_rows() as u32).filter(|&row| norms[row as usize] > 0.0).collect();
    let n_zero = rows.n_rows() - places.len();
    if n_zero == 0 {
        return Ok(Side { rows: Arc::new(rows), places: None, n_zero });
    }
    if !args.skip_zero {
        let first = norms.iter().position(|&norm| norm == 0.0).unwrap_or(0);
        let message = format!(
            "{}: row {first} has norm 0, which cosine cannot compare; --skip-zero leaves out all \
             {n_zero} such rows",
            path.display()
        );
        return Err(Error::new(ErrorKind::BadInput, "vector_zero_norm", message));
    }
    let kept: Vec<usize> = places.iter().map(|&place| place as usize).collect();
    Ok(Side { rows: Arc::new(rows.picked(&kept)), places: Some(places), n_zero })
}

/// The join, with its pairs in `sorter` under their places in the files.
fn join(
    args: &PairsArgs,
    question: &Question,
    backend: &dyn Backend,
    pool: &ThreadPool,
    (a, b): (&Side, Option<&Side>),
    sorter: &mut Sorter<Line>,
) -> Result<JoinReport> {
    let stop = stopped_by_ctrl_c()?;
    let n_bytes = a.rows.n_bytes() + b.map_or(0, |b| b.rows.n_bytes());
    let progress = progress::for_stderr();
    progress.stage("compare", n_bytes);
    let shown = Cell::new(0);
    let watch = |share: f64| {
        let now = (share * n_bytes as f64) as u64;
        progress.advance(now.saturating_sub(shown.replace(now)));
    };
    let options = JoinOptions {
        exact: args.exact,
        // The rest is for sorting.
        memory_bytes: args.memory - args.memory / 4,
        seed: args.seed,
        n_cells: None,
        pool: Some(pool),
        stop: Some(&stop),
        watch: Some(&watch),
    };
    let other = b.unwrap_or(a);
    let mut push = |pair: &Pair| {
        let value = question.metric.score(pair.distance).to_bits();
        sorter.push(Line { a: a.place(pair.a), b: other.place(pair.b), value })
    };
    // What spills is sorted on the threads that were asked for.
    let mut emit = |pairs: &[Pair]| pool.install(|| pairs.iter().try_for_each(&mut push));
    let (within, b) = (question.within, b.map(|side| &side.rows));
    near_pairs(backend, &a.rows, b, question.metric, within, &options, &mut emit)
}

fn stopped_by_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let handler = ctrlc::set_handler(move || {
        // A second time means at once.
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    handler.map_err(|error| Error::new(ErrorKind::Io, "signals", error.to_string()))?;
    Ok(stop)
}

/// What a person wants to know when the job is done.
fn summarize(report: &JoinReport, sides: [Option<&Side>; 2], out: &Path) {
    let n_zero: usize = sides.into_iter().flatten().map(|side| side.n_zero).sum();
    if n_zero > 0 {
        complain(format_args!("warning: {n_zero} rows of zeros left out"));
    }
    let percent = |n: u64, of: u64| 100.0 * n as f64 / of.max(1) as f64;
    say(format_args!("{} rows, {} pairs within", report.n_rows, report.n_pairs));
    say(format_args!(
        "{} of {} pairs compared ({:.1} %), {} judged exactly",
        report.n_compared,
        report.n_all,
        percent(report.n_compared, report.n_all),
        report.n_candidates
    ));
    if report.n_cells > 0 {
        say(format_args!(
            "{} cells, codes of {} bytes; {} of {} pairs of cells ruled out",
            report.n_cells,
            report.n_codes,
            report.n_tiles_skipped,
            report.n_tiles + report.n_tiles_skipped
        ));
    }
    say(format_args!("look at {}", out.display()));
}
