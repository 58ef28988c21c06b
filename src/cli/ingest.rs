//! `nearkin ingest`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::cli::{lines, progress, say};
use crate::core::ids::PointId;
use crate::core::metric::Metric;
use crate::core::rows::Rows;
use crate::engine::{NewPoint, Settings, Writer, folder};
use crate::error::{Error, ErrorKind, Result};
use crate::record::npy;
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

    /// Vectors: a .npy file of f32, f16, u8 or int8, one row per point
    #[arg(long, value_name = "X.npy")]
    pub vectors: PathBuf,

    /// Payloads: JSON Lines, one object per row in the same order; also gzip or zstd
    #[arg(long, value_name = "P.jsonl")]
    pub payload: Option<PathBuf>,

    /// Ids: one number or UUID per line; without, row numbers. A point of the same id is replaced
    #[arg(long, value_name = "IDS.txt")]
    pub ids: Option<PathBuf>,

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
}

/// Points stored at once.
const BLOCK: usize = 10_000;

fn indexed(text: &str) -> Result<(Field, Kind)> {
    let Some((field, kind)) = text.rsplit_once(':') else {
        return Err(Error::usage("index_field", format!("{text:?}, expected FIELD:KIND")));
    };
    Ok((field.parse()?, kind.parse()?))
}

pub fn run(args: &IngestArgs) -> Result<u8> {
    let began = Instant::now();
    let folder = folder(&args.data, &args.collection)?;
    let rows = npy::read(&args.vectors)?;
    let settings = Settings {
        dim: rows.dim(),
        metric: args.metric,
        dtype: rows.dtype(),
        tenant_field: args.tenant_field.clone(),
        indexed: args.index_fields.clone(),
    };
    let ids = ids(args, rows.n_rows())?;
    // Everything that can be refused is, before anything is written.
    let payloads = match &args.payload {
        Some(path) => payloads(path, rows.n_rows())?,
        None => vec![Value::Object(serde_json::Map::new()); rows.n_rows()],
    };
    rows.check(args.metric).map_err(|error| error.within(args.vectors.display()))?;
    std::fs::create_dir_all(&args.data)
        .map_err(|error| Error::io("create folder", &args.data, &error))?;
    let mut writer = Writer::open(&folder, &settings)?;
    store(&mut writer, &rows, ids, payloads)?;
    say(format_args!(
        "{} points of {} {} values in {} ({:.1} s)",
        rows.n_rows(),
        rows.dim(),
        rows.dtype().name(),
        folder.display(),
        began.elapsed().as_secs_f64()
    ));
    Ok(0)
}

fn store(writer: &mut Writer, rows: &Rows, ids: Vec<PointId>, payloads: Vec<Value>) -> Result<()> {
    let progress = progress::for_stderr();
    progress.stage("store", rows.n_bytes());
    let mut points = ids.into_iter().zip(payloads).map(|(id, payload)| NewPoint { id, payload });
    for start in (0..rows.n_rows()).step_by(BLOCK) {
        let block = rows.slice(start..(start + BLOCK).min(rows.n_rows()));
        let some: Vec<NewPoint> = points.by_ref().take(block.n_rows()).collect();
        writer.upsert(&some, &block)?;
        progress.advance(block.n_bytes());
    }
    Ok(())
}

/// An id for every row, each once.
fn ids(args: &IngestArgs, n_rows: usize) -> Result<Vec<PointId>> {
    let Some(path) = &args.ids else {
        return Ok((0..n_rows as u64).map(PointId::Num).collect());
    };
    let mut ids = Vec::with_capacity(n_rows);
    lines::each(path, &mut |n, line| {
        let place = format_args!("{}, line {n}", path.display());
        ids.push(line.parse().map_err(|error: Error| error.within(place))?);
        Ok(())
    })?;
    as_many("ids", path, ids.len(), n_rows)?;
    let mut sorted: Vec<(PointId, usize)> = ids.iter().copied().zip(1..).collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            let what = format!("id {} stands in line {} too", pair[1].0, pair[0].1);
            Err(at(path, pair[1].1, "id_duplicate", &what))
        }
        None => Ok(ids),
    }
}

/// A payload for every row.
fn payloads(path: &Path, n_rows: usize) -> Result<Vec<Value>> {
    let mut payloads = Vec::with_capacity(n_rows);
    lines::each(path, &mut |n, line| {
        let payload: Value =
            serde_json::from_str(line).map_err(|error| at(path, n, "payload_json", &error))?;
        if !payload.is_object() {
            return Err(at(path, n, "payload_type", &"no JSON object"));
        }
        payloads.push(payload);
        Ok(())
    })?;
    as_many("payloads", path, payloads.len(), n_rows)?;
    Ok(payloads)
}

fn at(path: &Path, line: usize, code: &'static str, what: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::BadInput, code, format!("{}, line {line}: {what}", path.display()))
}

fn as_many(what: &str, path: &Path, found: usize, n_rows: usize) -> Result<()> {
    if found == n_rows {
        return Ok(());
    }
    let message = format!("{}: {found} {what} for {n_rows} vectors", path.display());
    Err(Error::new(ErrorKind::BadInput, "rows_differ", message))
}
