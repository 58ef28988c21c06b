//! `nearkin ingest`: everything is checked, then everything is stored. What does not fit in memory is read twice.

mod check;
mod files;
mod json;
mod source;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cli::args::parse_bytes;
use crate::cli::ingest::check::Checker;
use crate::cli::ingest::files::FilePoints;
use crate::cli::ingest::json::JsonPoints;
use crate::cli::ingest::source::{Block, Held, Points, each_block};
use crate::cli::vectors::VectorArgs;
use crate::cli::{complain, pool, progress, say};
use crate::core::limits::INGEST_HELD_BYTES;
use crate::core::metric::Metric;
use crate::dedup::Progress;
use crate::engine::{Collection, Settings, Vectors, Writer, folder};
use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::Kind;
use crate::store::columns::path::Path as Field;

#[derive(Debug, clap::Args)]
pub struct IngestArgs {
    /// Folder of collections; made if there is none
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// Collection; made if there is none
    #[arg(long, value_name = "NAME")]
    pub collection: String,

    /// Vectors, one row per point: .npy (f32, f16, f64, u8, int8), .fvecs, .bvecs, or .parquet, whose other columns are the
    /// payload unless --payload is given
    #[arg(long, value_name = "FILE", required_unless_present = "jsonl")]
    pub vectors: Option<PathBuf>,

    /// Points, one per line: {"id": 1, "vector": [0.5, 1], "payload": {"a": "b"}}; also gzip or zstd; - is the standard
    /// input. Ids are row numbers if no line has one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vectors", "payload", "ids", "id_field", "vector_field"])]
    pub jsonl: Option<PathBuf>,

    #[command(flatten)]
    pub read: VectorArgs,

    /// Payloads: JSON Lines, one object per row in the same order; also gzip or zstd
    #[arg(long, value_name = "P.jsonl")]
    pub payload: Option<PathBuf>,

    /// Ids: one number or UUID per line; without, row numbers. A point of the same id is replaced
    #[arg(long, value_name = "IDS.txt", conflicts_with = "id_field")]
    pub ids: Option<PathBuf>,

    /// Column of the ids in Parquet; it is not in the payload
    #[arg(long, value_name = "F")]
    pub id_field: Option<String>,

    /// cosine, dot, l2 or l1
    #[arg(long, default_value = "cosine", value_name = "METRIC")]
    pub metric: Metric,

    /// Payload field whose strings or whole numbers name the tenants that may read a point
    #[arg(long, value_name = "FIELD")]
    pub tenant_field: Option<Field>,

    /// Payload field to index, as keyword, integer, float, bool, datetime, geo, text or uuid; may be repeated. Other fields
    /// can be filtered too, by reading payloads
    #[arg(long = "index-field", value_name = "FIELD:KIND", value_parser = indexed)]
    pub index_fields: Vec<(Field, Kind)>,

    /// Threads; all cores without
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Memory for vectors and their codes while the index is built
    #[arg(long, default_value = "16GiB", value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: u64,
}

fn indexed(text: &str) -> Result<(Field, Kind)> {
    let Some((field, kind)) = text.rsplit_once(':') else {
        return Err(Error::usage("index_field", format!("{text:?}, expected FIELD:KIND")));
    };
    Ok((field.parse()?, kind.parse()?))
}

pub fn run(args: &IngestArgs) -> Result<u8> {
    ingest(args, INGEST_HELD_BYTES)?;
    Ok(0)
}

/// Checks and stores what is asked for; at most about `held_bytes` of it stay in memory in between.
fn ingest(args: &IngestArgs, held_bytes: u64) -> Result<()> {
    let began = Instant::now();
    let mut job = Job::new(args)?;
    let (points, input) = open(args)?;
    let n_bytes = std::fs::metadata(input).map_or(0, |meta| meta.len());
    let progress = progress::for_stderr();
    if is_stdin(input) {
        // It cannot be read twice: each block is checked before it is stored.
        progress.stage("store", 0);
        let read = each_block(points, &mut |block| {
            job.check(&block)?;
            job.store(block, progress.as_ref())
        });
        read.map_err(|error| job.after_what_is_stored(error))?;
    } else {
        // Everything that can be refused is, before anything is written.
        progress.stage("check", n_bytes);
        let mut held = Held::new(held_bytes);
        each_block(points, &mut |block| {
            progress.advance(block.n_bytes);
            job.check(&block)?;
            held.keep(block);
            Ok(())
        })?;
        progress.stage("store", n_bytes);
        let store = &mut |block| job.store(block, progress.as_ref());
        let read = match held.into_blocks() {
            Some(blocks) => blocks.into_iter().try_for_each(store),
            None => each_block(open(args)?.0, store),
        };
        read.map_err(|error| job.after_what_is_stored(error))?;
    }
    let stored_s = began.elapsed().as_secs_f64();
    let (folder, said) = job.finish(input)?;
    progress.stage("index", 0);
    let pool = pool(args.threads)?;
    let indexed = Collection::index(&folder, &pool, args.memory);
    drop(progress);
    let indexed =
        indexed.map_err(|error| error.within(format_args!("{said}; its index was not built")))?;
    indexed.notes.iter().for_each(|note| complain(format_args!("{note}")));
    let index_s = began.elapsed().as_secs_f64() - stored_s;
    say(format_args!("{said} ({stored_s:.1} s, index {index_s:.1} s)"));
    Ok(())
}

fn is_stdin(input: &Path) -> bool {
    input == Path::new("-")
}

/// The points that are asked for, from their beginning, and the file that has their vectors.
fn open(args: &IngestArgs) -> Result<(Box<dyn Points>, &Path)> {
    if let Some(path) = &args.jsonl {
        return Ok((Box::new(JsonPoints::open(path, args.read.storage)?), path));
    }
    let path = args.vectors.as_deref().expect("required unless --jsonl is given");
    Ok((Box::new(FilePoints::open(path, args)?), path))
}

/// What has been checked and stored so far.
struct Job<'a> {
    args: &'a IngestArgs,
    folder: PathBuf,
    checker: Checker,
    /// Known from the first block on.
    settings: Option<Settings>,
    writer: Option<Writer>,
    n_checked: usize,
    n_stored: usize,
    /// What the vectors were before they became what is kept, if that is another type.
    made_of: Option<&'static str>,
}

impl<'a> Job<'a> {
    fn new(args: &'a IngestArgs) -> Result<Self> {
        let folder = folder(&args.data, &args.collection)?;
        let checker = Checker::new(args.metric, args.tenant_field.clone());
        let (settings, writer, made_of) = (None, None, None);
        Ok(Self { args, folder, checker, settings, writer, n_checked: 0, n_stored: 0, made_of })
    }

    fn check(&mut self, block: &Block) -> Result<()> {
        if self.settings.is_none() {
            let (dim, dtype) = (block.rows.dim(), block.rows.dtype());
            let settings = Settings {
                tenant_field: self.args.tenant_field.clone(),
                indexed: self.args.index_fields.clone(),
                ..Settings::of_vector(dim, self.args.metric, dtype)
            };
            settings.check()?;
            // A collection of other settings is better found now than after the last row.
            let is_there =
                std::fs::read_dir(&self.folder).is_ok_and(|mut files| files.next().is_some());
            if is_there {
                self.writer = Some(Writer::open(&self.folder, &settings)?);
            }
            self.settings = Some(settings);
            self.made_of = block.made_of;
        }
        self.checker.check(block)?;
        self.n_checked += block.points.len();
        Ok(())
    }

    fn store(&mut self, block: Block, progress: &dyn Progress) -> Result<()> {
        if self.writer.is_none() {
            let settings = self.settings.as_ref().expect("a block was checked");
            std::fs::create_dir_all(&self.args.data)
                .map_err(|error| Error::io("create folder", &self.args.data, &error))?;
            self.writer = Some(Writer::open(&self.folder, settings)?);
        }
        let writer = self.writer.as_mut().expect("opened above");
        writer.upsert(&block.points, &Vectors::only(&block.rows))?;
        self.n_stored += block.points.len();
        progress.advance(block.n_bytes);
        Ok(())
    }

    fn after_what_is_stored(&self, error: Error) -> Error {
        match self.n_stored {
            0 => error,
            n => error.within(format_args!("after {n} points that are stored")),
        }
    }

    /// The folder, in which nothing is open any more, and what was stored there, as text.
    fn finish(self, input: &Path) -> Result<(PathBuf, String)> {
        let Some(settings) = self.settings else {
            let message = format!("{}: no rows", input.display());
            return Err(Error::new(ErrorKind::BadInput, "input_empty", message));
        };
        let (n_checked, n_stored) = (self.n_checked, self.n_stored);
        if n_checked != n_stored {
            let message = format!(
                "{}: {n_checked} rows when it was checked, {n_stored} when it was stored",
                input.display()
            );
            return Err(Error::new(ErrorKind::Accounting, "input_changed", message));
        }
        let made_of = self.made_of.map_or(String::new(), |from| format!(", made of {from},"));
        let vector = &settings.vectors[0];
        let said = format!(
            "{n_stored} points of {} {} values{made_of} in {}",
            vector.dim,
            vector.dtype.name(),
            self.folder.display()
        );
        Ok((self.folder, said))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::Parser;

    use super::*;
    use crate::engine::Collection;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: IngestArgs,
    }

    #[test]
    fn what_does_not_fit_in_memory_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let line = |i| format!("{{\"id\": {}, \"vector\": [{i}, 1]}}\n", i * 7);
        let lines: String = (0..15_000).map(line).collect();
        std::fs::write(at("p.jsonl"), &lines).unwrap();
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        // All of it, the first block of it, nothing.
        for (name, held_bytes) in [("all", 64 << 20), ("some", 1_800_000), ("none", 0)] {
            let (data, path) = (at("data"), at("p.jsonl"));
            let args = ["ingest", &data, "--collection", name, "--jsonl", &path];
            ingest(&Typed::parse_from(args).args, held_bytes).unwrap();
            let collection =
                Collection::open(Path::new(&data).join(name).as_path(), &pool, 1 << 30);
            assert_eq!(collection.unwrap().n_points().unwrap(), 15_000, "{name}");
        }
    }
}
