//! Opening the record: to be written, or under a layer.

use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::{Builder, Database, ReadableDatabase};

use crate::core::limits;
use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{At, Disk, Mode, open_file};
use crate::store::durable::State;
use crate::store::durable::failure::{Fault, Stored, guarded};
use crate::store::durable::pages::{Health, Overlay, Pages};
use crate::store::durable::tables::{self, META, Meta};

/// The settings of every database.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(limits::RECORD_CACHE_BYTES);
    builder
}

/// Opens the record at `path`, and returns its owner too.
pub(super) fn open_record(disk: &dyn Disk, path: &Path) -> Result<(State, u64)> {
    refuse_newer(disk, path)?;
    let file = open_file(disk, path, Mode::Write)?;
    refuse_empty(file.n_bytes().at("look at", path)?, path)?;
    let health: Arc<Health> = Arc::default();
    let pages = Pages { file, health: Arc::clone(&health) };
    let opened = guarded(|| checked(builder().create_with_backend(pages)?));
    match opened {
        Ok((database, owner)) => Ok((State::Open { database, health }, owner)),
        Err(fault) => Err(match health.failure() {
            Some(failure) if failure.kind != io::ErrorKind::UnexpectedEof => failure.named(path),
            _ => fault.named(path),
        }),
    }
}

/// Opens the record under a layer that keeps writes in memory.
pub(super) fn open_layer(disk: &dyn Disk, path: &Path) -> Result<Database> {
    let file = open_file(disk, path, Mode::Read)?;
    refuse_empty(file.n_bytes().at("look at", path)?, path)?;
    let layer = Overlay::new(file).at("look at", path)?;
    let opened = guarded(|| checked(builder().create_with_backend(layer)?));
    opened.map(|(database, _)| database).map_err(|fault| fault.named(path))
}

/// Refuses what a later build has written before anything is written to it. What was not closed well is left to recovery.
fn refuse_newer(disk: &dyn Disk, path: &Path) -> Result<()> {
    let file = open_file(disk, path, Mode::Read)?;
    let layer = Overlay::new(file).at("look at", path)?;
    match guarded(|| checked(builder().open_read_only_with_backend(layer)?)) {
        Err(Fault::Refused(error)) => Err(error),
        _ => Ok(()),
    }
}

/// The embedded store would begin a new database in an empty file.
pub(super) fn refuse_empty(n_bytes: u64, path: &Path) -> Result<()> {
    if n_bytes > 0 {
        return Ok(());
    }
    Err(Fault::Damaged("the file is empty".to_owned()).named(path))
}

/// A database whose tables are of a version that this build reads, and its owner.
pub(super) fn checked<D: ReadableDatabase>(database: D) -> Stored<(D, u64)> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => {
            return Err(Fault::Damaged("there is no collection in this file".to_owned()));
        }
        table => table?,
    };
    let format = Meta::Format.number(&meta)?;
    if format > u64::from(tables::FORMAT) {
        let message =
            format!("the record has format {format}, this build reads up to {}", tables::FORMAT);
        return Err(Error::new(ErrorKind::Corrupt, "format_newer", message).into());
    }
    let owner = Meta::Owner.number(&meta)?;
    drop((meta, transaction));
    Ok((database, owner))
}
