//! `nearkin index`.

use std::path::PathBuf;
use std::time::Instant;

use crate::cli::args::parse_bytes;
use crate::cli::{complain, pool, progress, say};
use crate::engine::{Collection, Indexed, folder};
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub struct IndexArgs {
    /// Folder of collections
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// Collection
    #[arg(long, value_name = "NAME")]
    pub collection: String,

    /// Build the index anew, from all points, whatever there is of it
    #[arg(long)]
    pub rebuild: bool,

    /// Threads; all cores without
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Memory for vectors and their codes
    #[arg(long, default_value = "16GiB", value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: u64,
}

pub fn run(args: &IndexArgs) -> Result<u8> {
    let path = folder(&args.data, &args.collection)?;
    let pool = pool(args.threads)?;
    let began = Instant::now();
    let progress = progress::for_stderr();
    progress.stage("index", 0);
    let indexed = if args.rebuild {
        Collection::build(&path, &pool, args.memory).and_then(|collection| {
            let (n_points, notes) = (collection.n_points()?, collection.notes());
            Ok(Indexed { n_points, changed: true, notes })
        })
    } else {
        Collection::index(&path, &pool, args.memory)
    };
    drop(progress);
    let Indexed { n_points, changed, notes } = indexed?;
    notes.iter().for_each(|note| complain(format_args!("{note}")));
    let (path, seconds) = (path.display(), began.elapsed().as_secs_f64());
    match changed {
        true => say(format_args!("{n_points} points of {path} are in its index ({seconds:.1} s)")),
        false => say(format_args!("{n_points} points of {path} were in its index already")),
    }
    Ok(0)
}
