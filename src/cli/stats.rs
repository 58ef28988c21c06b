//! `nearkin stats`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::cli::args::parse_bytes;
use crate::cli::{complain, pool, say};
use crate::engine::{Collection, Facts, VectorFacts, collections, folder};
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    /// Folder of collections
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// Collection; without, all of them, in a list
    #[arg(long, value_name = "NAME")]
    pub collection: Option<String>,

    /// Threads; all cores without
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Memory for vectors and their codes, of a collection whose index is not sealed
    #[arg(long, default_value = "16GiB", value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: u64,
}

pub fn run(args: &StatsArgs) -> Result<u8> {
    let all = match &args.collection {
        Some(name) => stats(args, name)?,
        None => {
            let names = collections(&args.data)?;
            let all = names.iter().map(|name| stats(args, name)).collect::<Result<Vec<_>>>()?;
            json!({ "collections": all })
        }
    };
    say(format_args!("{}", serde_json::to_string_pretty(&all).expect("strings and numbers")));
    Ok(0)
}

fn stats(args: &StatsArgs, name: &str) -> Result<Value> {
    let path: &Path = &folder(&args.data, name)?;
    let collection = Collection::open(path, &pool(args.threads)?, args.memory)
        .map_err(|error| error.within(format_args!("collection {name}")))?;
    let notes = collection.notes();
    notes.iter().for_each(|note| complain(format_args!("{name}: {note}")));
    Ok(object(name, &collection.facts()?, &notes))
}

fn object(name: &str, facts: &Facts, notes: &[String]) -> Value {
    let per_row = |n_bytes: u64| match facts.n_points {
        0 => Value::Null,
        n_points => json!((n_bytes as f64 / n_points as f64 * 100.0).round() / 100.0),
    };
    let size = |n_bytes: u64| json!({"bytes": n_bytes, "bytes_per_row": per_row(n_bytes)});
    let named = |parts: &[(&str, u64)]| -> Map<String, Value> {
        parts.iter().map(|&(name, n_bytes)| (name.to_owned(), size(n_bytes))).collect()
    };
    let vector = |vector: &VectorFacts| {
        json!({
            "name": vector.name, "dim": vector.dim, "metric": vector.metric.name(),
            "dtype": vector.dtype.name(), "shape": vector.shape.name(), "rows": vector.n_base,
            "rows_since": vector.n_recent, "parts": named(&vector.parts()),
        })
    };
    let columns = facts.columns.iter().map(|(path, kind, n_bytes)| {
        json!({"field": path.to_string(), "kind": kind.to_string(), "bytes": n_bytes,
            "bytes_per_row": per_row(*n_bytes)})
    });
    let index = match &facts.index {
        None => json!({"sealed": false}),
        Some(index) => json!({
            "sealed": true, "version": index.version, "points_since": index.n_points_since,
            "gone_since": index.n_gone_since,
        }),
    };
    let mut parts = named(&facts.parts());
    parts.insert("total".to_owned(), size(facts.n_bytes()));
    let files: Map<String, Value> =
        facts.files.iter().map(|(name, n_bytes)| (name.clone(), json!(n_bytes))).collect();
    json!({
        "collection": name,
        "points": facts.n_points,
        "tenants": facts.n_tenants,
        "version": facts.version,
        "index": index,
        "vectors": facts.vectors.iter().map(vector).collect::<Vec<_>>(),
        "parts": parts,
        "columns": columns.collect::<Vec<_>>(),
        "store": {
            "record": size(facts.record_bytes()),
            "index_files": size(facts.index_file_bytes()),
            "total": size(facts.file_bytes()),
            "files": files,
        },
        "notes": notes,
    })
}
