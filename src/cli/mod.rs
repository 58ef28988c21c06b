//! The command line. One subcommand per file.

mod args;
mod bench;
mod cache;
mod dedup;
mod doctor;
mod index;
mod ingest;
#[cfg(feature = "server")]
mod key;
mod lines;
mod pair_file;
mod pairs;
mod progress;
mod search;
#[cfg(feature = "server")]
mod serve;
mod snapshot;
mod stats;
mod vectors;
mod verify;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::cli::args::{Args, Command};
use crate::error::{Error, ErrorKind, Result};

/// Parses the command line, runs it, and says how it went. Exit codes: 0 done, 1 bug, 2 usage, 3 bad input, 4 not
/// found, 5 corrupt file, 6 disk, 7 locked, 8 limit, 9 device, 10 done with quarantined records, 11 sums differ or input
/// changed, 130 interrupted.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Dedup(args) => dedup::run(*args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Ingest(args) => ingest::run(&args),
        Command::Pairs(args) => pairs::run(*args),
        Command::Cache(command) => cache::run(&command),
        Command::Search(args) => search::run(&args),
        #[cfg(feature = "server")]
        Command::Serve(args) => serve::run(&args),
        Command::Index(args) => index::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Snapshot(args) => snapshot::snapshot(&args),
        Command::Restore(args) => snapshot::restored(&args),
        #[cfg(feature = "server")]
        Command::Key(args) => key::run(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(format_args!("error: {error}"));
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Prints a line. Nobody may be reading any more (`nearkin ... | head -1`): no reason to fail, as `println!` would.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// As [`say`], on the standard error.
fn complain(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A pool of so many threads, or of one for every core.
fn pool(n_threads: Option<usize>) -> Result<Arc<ThreadPool>> {
    if n_threads == Some(0) {
        return Err(Error::usage("threads", "0, expected at least 1"));
    }
    let built = ThreadPoolBuilder::new().num_threads(n_threads.unwrap_or(0)).build();
    let failed = |error: rayon::ThreadPoolBuildError| {
        Error::new(ErrorKind::Io, "threads", error.to_string())
    };
    built.map(Arc::new).map_err(failed)
}
