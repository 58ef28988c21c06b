//! The system of record: every point of a collection, in one file of an embedded store.
//!
//! A batch is applied whole or not at all, and is on disk when [`Durable::apply`] returns. Readers see one version, and
//! wait for nobody. One process at a time has the folder open.
//!
//! A call of the disk that fails ends all writing, since nothing is known of what was written since the last sync;
//! reading goes on, from the last version that is whole. After a full disk the next write opens the file anew; after
//! anything else the collection must be opened again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

use crate::core::ids::TenantId;
use crate::core::limits;
use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{
    At, Disk, Lock, Mode, check_folder, clear, new_folder, open_file, part_of, refuse_existing,
    sync_parent,
};

mod batch;
mod check;
mod copy;
mod failure;
mod load;
mod op;
mod open;
mod pages;
mod points;
mod tables;
mod view;

use batch::{Batch, Pending};
use failure::{Fault, Stored, guarded};
use open::{builder, open_layer, open_record};
use pages::{Failure, Health, Pages};
use tables::{META, Meta};

pub(super) use check::record as check_record;
pub use load::Loader;
pub use op::{Applied, Op, Upsert};
pub use points::{Parts, Point, Points, PointsBySlot};
pub use view::{Change, View};

/// The record's file in the folder of a collection.
pub const RECORD: &str = "record.redb";

/// The file whose lock is that of the folder.
pub const LOCK: &str = "lock";

/// An open collection.
pub struct Durable {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    path: PathBuf,
    owner: u64,
    state: RwLock<State>,
    recovery: Recovery,
    /// Held by whoever writes.
    writing: Mutex<()>,
    _lock: Lock,
}

/// What opening costs after a crash, and what that costs before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// All of the record is read, 2 to 3 seconds for a gigabyte, and every page compared with its checksum. A batch waits for the
    /// disk once.
    #[default]
    Read,
    /// Nothing is read: each batch notes which pages are free, and waits for the disk twice, so that about half as many fit a
    /// second. For records of gigabytes.
    Noted,
}

enum State {
    Open {
        database: Database,
        health: Arc<Health>,
    },
    /// Writing has ended; the database, if there is one, lies under a layer that keeps writes in memory.
    Failed {
        error: Error,
        is_full: bool,
        readable: Option<Database>,
    },
}

impl Durable {
    /// Makes a collection in a folder, which may exist if no collection is in it, and opens it. `owner` marks its sealed
    /// files.
    ///
    /// # Errors
    /// `output_exists` if there is one, `locked`, those of the disk. What is left of an attempt that did not end is
    /// no hindrance.
    pub fn create(disk: Arc<dyn Disk>, folder: &Path, owner: u64, config: &[u8]) -> Result<Self> {
        if disk.entry(folder).at("look at", folder)?.is_none() {
            new_folder(&*disk, folder)?;
        }
        check_folder(&*disk, folder)?;
        let lock = lock_folder(&*disk, folder)?;
        let path = folder.join(RECORD);
        refuse_existing(&*disk, &path)?;
        let part = part_of(&path);
        clear(&*disk, &part)?;
        let file = disk.open(&part, Mode::New).at("create", &part)?;
        let pages = Pages { file, health: Arc::default() };
        let begun = guarded(|| {
            let database = builder().create_with_backend(pages)?;
            let transaction = database.begin_write()?;
            tables::create_all(&transaction)?;
            let mut meta = transaction.open_table(META)?;
            Meta::Format.set_number(&mut meta, u64::from(tables::FORMAT))?;
            Meta::Owner.set_number(&mut meta, owner)?;
            Meta::Config.set(&mut meta, config)?;
            for zero in [Meta::Version, Meta::LogStart, Meta::NextSlot, Meta::NextTenant] {
                Meta::set_number(zero, &mut meta, 0)?;
            }
            drop(meta);
            Ok(transaction.commit()?)
        });
        begun.map_err(|fault| fault.named(&part))?;
        disk.rename(&part, &path).at("rename", &part)?;
        sync_parent(&*disk, &path)?;
        Self::open_locked(disk, folder, lock)
    }

    /// Opens the collection in a folder. After a crash this reads the whole record.
    ///
    /// # Errors
    /// `not_found`; `locked`, of kind `Locked`, which names the folder and who has it open; of kind `Corrupt`:
    /// `record_corrupt`, `format_newer`, `file_type`; those of the disk.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path) -> Result<Self> {
        check_folder(&*disk, folder)?;
        // Nothing is written, not even a lock, to a folder that holds something else.
        open_file(&*disk, &folder.join(RECORD), Mode::Read)?;
        let lock = lock_folder(&*disk, folder)?;
        Self::open_locked(disk, folder, lock)
    }

    fn open_locked(disk: Arc<dyn Disk>, folder: &Path, lock: Lock) -> Result<Self> {
        let path = folder.join(RECORD);
        let (state, owner) = open_record(&*disk, &path)?;
        Ok(Self {
            disk,
            folder: folder.to_owned(),
            path,
            owner,
            state: RwLock::new(state),
            recovery: Recovery::default(),
            writing: Mutex::new(()),
            _lock: lock,
        })
    }

    /// The same, for batches from now on that are to be recovered so.
    pub fn with_recovery(self, recovery: Recovery) -> Self {
        Self { recovery, ..self }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The disk it lies on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The number that sealed files of this collection carry.
    pub fn owner(&self) -> u64 {
        self.owner
    }

    /// Why nothing can be written, if that is so.
    pub fn failure(&self) -> Option<Error> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open { .. } => None,
            State::Failed { error, .. } => Some(error.clone()),
        }
    }

    /// The version that is the newest now.
    ///
    /// # Errors
    /// `record_corrupt`; that for which writing ended, if nothing can be read either.
    pub fn view(&self) -> Result<View> {
        self.leave_failed_read();
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let database = match &*state {
            State::Open { database, .. } | State::Failed { readable: Some(database), .. } => {
                database
            }
            State::Failed { error, .. } => return Err(error.clone()),
        };
        let transaction = failure::reading(&self.path, || Ok(database.begin_read()?))?;
        View::new(transaction, self.path.clone())
    }

    /// Applies operations in their order, whole or not at all; what is returned is on disk.
    ///
    /// # Errors
    /// What an operation is refused for: `id_duplicate`, `id_not_found`, `tenant_not_found`, `payload_size`, `vector_size`,
    /// `vector_name`, `vector_name_duplicate`, `tenants_per_point`, `store_full`. Then those of the disk, after which the
    /// batch may have been applied, but not in part: `disk_full`, `store_failed` once writing has ended.
    pub fn apply(&self, ops: &[Op<'_>]) -> Result<Applied> {
        let _writing = self.begin();
        self.write(|database| {
            let transaction = self.transaction(database)?;
            let mut pending = Pending::new(&transaction, None)?;
            let mut batch = Batch::new(&transaction, &mut pending)?;
            ops.iter().try_for_each(|op| batch.apply(op))?;
            let is_empty = batch.is_empty();
            if is_empty {
                drop(batch);
                transaction.abort()?;
            } else {
                batch.finish()?;
                transaction.commit()?;
            }
            Ok(pending.applied())
        })
    }

    /// Begins to load many points: faster than batches, which each wait for the disk.
    pub fn load(&self) -> Loader<'_> {
        Loader::new(self, self.begin())
    }

    /// Tenants by name, made where there was none.
    ///
    /// # Errors
    /// `tenant_name` for an empty name or one over 255 bytes, `tenants_full`; those of [`Durable::apply`].
    pub fn tenants(&self, names: &[&str]) -> Result<Vec<TenantId>> {
        if let Some(name) = names.iter().find(|n| n.is_empty() || n.len() > limits::NAME_BYTES) {
            let message = format!(
                "a tenant's name of {} bytes, expected 1 to {}",
                name.len(),
                limits::NAME_BYTES
            );
            return Err(Error::new(ErrorKind::BadInput, "tenant_name", message));
        }
        let _writing = self.begin();
        self.write(|database| {
            let transaction = self.transaction(database)?;
            let mut meta = transaction.open_table(META)?;
            let mut by_name = transaction.open_table(tables::TENANT_NAMES)?;
            let mut by_id = transaction.open_table(tables::TENANTS)?;
            let first = Meta::NextTenant.number(&meta)?;
            let mut next = first;
            let mut found = Vec::with_capacity(names.len());
            for &name in names {
                let known = by_name.get(name)?.map(|tenant| tenant.value());
                let tenant = match known {
                    Some(tenant) => tenant,
                    None => {
                        let tenant = u32::try_from(next).map_err(|_| {
                            let message = format!("{next} tenants were made, which is the most");
                            Error::new(ErrorKind::Limit, "tenants_full", message)
                        })?;
                        next += 1;
                        by_name.insert(name, tenant)?;
                        by_id.insert(tenant, tables::encode_tenant(tenant, 0, name).as_slice())?;
                        tenant
                    }
                };
                found.push(TenantId(tenant));
            }
            Meta::NextTenant.set_number(&mut meta, next)?;
            drop((meta, by_name, by_id));
            if next == first {
                transaction.abort()?;
            } else {
                transaction.commit()?;
            }
            Ok(found)
        })
    }

    /// Replaces the collection's configuration.
    ///
    /// # Errors
    /// Those of the disk, as for [`Durable::apply`].
    pub fn set_config(&self, config: &[u8]) -> Result<()> {
        let _writing = self.begin();
        self.write(|database| {
            let transaction = self.transaction(database)?;
            let mut meta = transaction.open_table(META)?;
            Meta::Config.set(&mut meta, config)?;
            drop(meta);
            Ok(transaction.commit()?)
        })
    }

    /// Forgets the changes up to a version, of which all sealed files are by now.
    ///
    /// # Errors
    /// `version_ahead` for one that the record has not reached; those of the disk, as for [`Durable::apply`].
    pub fn sealed_at(&self, version: u64) -> Result<()> {
        let _writing = self.begin();
        self.write(|database| {
            let transaction = self.transaction(database)?;
            let mut meta = transaction.open_table(META)?;
            let (now, start) = (Meta::Version.number(&meta)?, Meta::LogStart.number(&meta)?);
            if version > now {
                let message = format!("sealed at version {version}, the record is at {now}");
                return Err(Error::usage("version_ahead", message).into());
            }
            if version > start {
                Meta::LogStart.set_number(&mut meta, version)?;
                transaction.open_table(tables::CHANGES)?.retain_in(..=version, |_, _| false)?;
            }
            drop(meta);
            Ok(transaction.commit()?)
        })
    }

    fn begin(&self) -> std::sync::MutexGuard<'_, ()> {
        // Whoever panicked while writing left a transaction that was not committed, which is none.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transaction(&self, database: &Database) -> Stored<WriteTransaction> {
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(self.recovery == Recovery::Noted);
        Ok(transaction)
    }

    /// Does `work` with the database, and ends writing if that fails for more than a refusal.
    fn write<T>(&self, work: impl FnOnce(&Database) -> Stored<T>) -> Result<T> {
        self.reopen_if_full()?;
        let (fault, failure) = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            match &*state {
                State::Failed { error, .. } => return Err(error.clone()),
                State::Open { database, health } => match guarded(|| work(database)) {
                    Ok(done) => return Ok(done),
                    Err(fault) if fault.is_refusal() => {
                        return Err(fault.named(&self.path));
                    }
                    Err(fault) => (fault, health.failure()),
                },
            }
        };
        Err(self.fail(fault, failure))
    }

    /// After a read that failed the embedded store reads nothing more: what can be read is read under a layer.
    fn leave_failed_read(&self) {
        let failure = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open { health, .. } => health.failure().filter(Failure::is_read),
            State::Failed { .. } => None,
        };
        if failure.is_some() {
            self.fail(Fault::Damaged("it could not be read".to_owned()), failure);
        }
    }

    /// Puts the file under a layer, so that reading goes on and nothing more is written.
    fn fail(&self, fault: Fault, failure: Option<Failure>) -> Error {
        let is_full = failure.as_ref().is_some_and(Failure::is_full);
        let error = match failure {
            Some(failure) if is_full => failure.named(&self.path),
            Some(Failure { doing, message, .. }) => {
                let message = format!(
                    "{}: {doing} failed ({message}); nothing more is written until the collection is opened again",
                    self.path.display()
                );
                Error::new(ErrorKind::Io, "store_failed", message)
            }
            None => fault.named(&self.path),
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = State::Failed { error: error.clone(), is_full, readable: None };
        let below = open_layer(&*self.disk, &self.path);
        *state = State::Failed { error: error.clone(), is_full, readable: below.ok() };
        error
    }

    /// After a full disk: opens the file anew.
    fn reopen_if_full(&self) -> Result<()> {
        let is_full = matches!(
            &*self.state.read().unwrap_or_else(PoisonError::into_inner),
            State::Failed { is_full: true, .. }
        );
        if is_full {
            let (open, _) = open_record(&*self.disk, &self.path)?;
            *self.state.write().unwrap_or_else(PoisonError::into_inner) = open;
        }
        Ok(())
    }
}

/// Takes the lock of a folder.
pub(super) fn lock_folder(disk: &dyn Disk, folder: &Path) -> Result<Lock> {
    let path = folder.join(LOCK);
    let note = format!("process {}", std::process::id());
    disk.lock(&path, &note).at("lock", &path)?.map_err(|holder| {
        let message = format!("{} is open in {}", folder.display(), holder.trim());
        Error::new(ErrorKind::Locked, "locked", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::PointId;
    use crate::store::disk::FileDisk;

    #[test]
    fn a_record_of_a_later_build_is_refused_by_name_and_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("c");
        let store = Durable::create(Arc::new(FileDisk), &folder, 7, b"{}").unwrap();
        let later = store.write(|database| {
            let transaction = database.begin_write()?;
            let mut meta = transaction.open_table(META)?;
            Meta::Format.set_number(&mut meta, u64::from(tables::FORMAT) + 1)?;
            drop(meta);
            Ok(transaction.commit()?)
        });
        later.unwrap();
        drop(store);
        let bytes = std::fs::read(folder.join(RECORD)).unwrap();
        let error = Durable::open(Arc::new(FileDisk), &folder).err().unwrap();
        assert_eq!((error.code(), error.kind()), ("format_newer", ErrorKind::Corrupt));
        assert!(error.to_string().contains("format 2, this build reads up to 1"), "{error}");
        assert_eq!(std::fs::read(folder.join(RECORD)).unwrap(), bytes);
    }

    #[test]
    fn after_a_read_that_failed_reading_is_tried_again_and_writing_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("c");
        let store = Durable::create(Arc::new(FileDisk), &folder, 7, b"{}").unwrap();
        let id = PointId::Num(1);
        let upsert = Op::Upsert(Upsert { id, payload: b"p", vectors: &[], tenants: &[] });
        store.apply(&[upsert]).unwrap();
        if let State::Open { health, .. } = &*store.state.read().unwrap() {
            let error = Err::<(), _>(std::io::ErrorKind::Other.into());
            health.note(pages::READ, error).unwrap_err();
        }
        let point = store.view().unwrap().get(&[id], Parts::All).unwrap().remove(0).unwrap();
        assert_eq!(point.payload, b"p");
        assert_eq!(store.apply(&[upsert]).unwrap_err().code(), "store_failed");
        drop(store);
        let store = Durable::open(Arc::new(FileDisk), &folder).unwrap();
        assert_eq!(store.apply(&[upsert]).unwrap().version, 2);
    }
}
