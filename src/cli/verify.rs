//! `nearkin verify`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::say;
use crate::engine::{collections, folder};
use crate::error::{ErrorKind, Result};
use crate::store::disk::FileDisk;
use crate::store::snapshot::MANIFEST;
use crate::store::verify::{Verified, verify};

#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Folder of collections, or a snapshot
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// Collection; without, all of them
    #[arg(long, value_name = "NAME")]
    pub collection: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &VerifyArgs) -> Result<u8> {
    let mut all = Vec::new();
    for path in folders(args)? {
        let verified = verify(&FileDisk, &path)?;
        if !args.json {
            print(&path, &verified);
        }
        all.push((path, verified));
    }
    let is_whole = all.iter().all(|(_, verified)| verified.damages.is_empty());
    if args.json {
        let folders: Vec<Value> =
            all.iter().map(|(path, verified)| object(path, verified)).collect();
        let found = json!({"whole": is_whole, "folders": folders});
        say(format_args!("{}", serde_json::to_string_pretty(&found).expect("strings and numbers")));
    } else if all.is_empty() {
        say(format_args!("{}: no collections", args.data.display()));
    }
    Ok(if is_whole { 0 } else { ErrorKind::Corrupt.exit_code() })
}

/// What is to be read.
fn folders(args: &VerifyArgs) -> Result<Vec<PathBuf>> {
    if let Some(name) = &args.collection {
        return Ok(vec![folder(&args.data, name)?]);
    }
    if args.data.join(MANIFEST).exists() {
        return Ok(vec![args.data.clone()]);
    }
    collections(&args.data)?.iter().map(|name| folder(&args.data, name)).collect()
}

fn print(path: &Path, verified: &Verified) {
    let (path, n_files) = (path.display(), verified.files.len());
    for damage in &verified.damages {
        say(format_args!(
            "{path}/{} at byte {}: {}; lost: {}",
            damage.file, damage.offset, damage.what, damage.lost
        ));
    }
    for name in &verified.others {
        say(format_args!("{path}/{name}: not looked at, it belongs to no collection"));
    }
    match verified.damages.len() {
        0 => say(format_args!("{path}: whole, {n_files} files read")),
        n => say(format_args!("{path}: {n} damages, {n_files} files read")),
    }
}

fn object(path: &Path, verified: &Verified) -> Value {
    let damages = verified.damages.iter().map(|damage| {
        json!({"file": damage.file, "offset": damage.offset, "what": damage.what,
            "lost": damage.lost})
    });
    json!({
        "folder": path.display().to_string(),
        "files": verified.files,
        "others": verified.others,
        "damages": damages.collect::<Vec<_>>(),
    })
}
