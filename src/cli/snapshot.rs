//! `nearkin snapshot` and `nearkin restore`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::{complain, say};
use crate::engine::folder;
use crate::error::{Error, Result};
use crate::store::disk::FileDisk;
use crate::store::durable::Durable;
use crate::store::snapshot::{Manifest, Method, restore, take};

#[derive(Debug, clap::Args)]
pub struct SnapshotArgs {
    /// Folder of collections
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// Collection
    #[arg(long, value_name = "NAME")]
    pub collection: String,

    /// Folder for the snapshot, which must not exist
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,

    /// Link index files instead of copying them: no room is taken, and damage is shared. The record is always copied
    #[arg(long)]
    pub link: bool,
}

#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// Folder of collections; made if there is none
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// Collection to make, which must not exist
    #[arg(long, value_name = "NAME")]
    pub collection: String,

    /// Snapshot; every byte of it is verified before the collection gets its name
    #[arg(long, value_name = "FOLDER")]
    pub from: PathBuf,
}

pub fn snapshot(args: &SnapshotArgs) -> Result<u8> {
    let record = Durable::open(Arc::new(FileDisk), &folder(&args.data, &args.collection)?)?;
    let method = if args.link { Method::Link } else { Method::Copy };
    let taken = take(&record, &args.out, method)?;
    for name in &taken.copied {
        complain(format_args!("{name} was copied: it cannot be linked from there"));
    }
    for name in &taken.left_out {
        complain(format_args!("{name} was replaced meanwhile, and is left out"));
    }
    said(&taken.manifest, &args.out);
    Ok(0)
}

pub fn restored(args: &RestoreArgs) -> Result<u8> {
    let target = folder(&args.data, &args.collection)?;
    // Nothing is made for a snapshot that is none.
    Manifest::read(&FileDisk, &args.from)?;
    std::fs::create_dir_all(&args.data)
        .map_err(|error| Error::io("create folder", &args.data, &error))?;
    said(&restore(&FileDisk, &args.from, &target)?, &target);
    Ok(0)
}

fn said(manifest: &Manifest, folder: &Path) {
    let n_bytes: u64 = manifest.files.iter().map(|file| file.n_bytes).sum();
    say(format_args!(
        "version {} in {} files, {n_bytes} bytes, in {}",
        manifest.version,
        manifest.files.len(),
        folder.display()
    ));
}
