//! What can go wrong inside the embedded store, said as the rest of the crate says it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::io_error;

/// Why an operation ended.
#[derive(Debug)]
pub(super) enum Fault {
    /// It was refused, or what it found is damaged; the store goes on.
    Refused(Error),
    /// Something that was written is not what is read: the file is not named yet.
    Damaged(String),
    /// The embedded store could not do it.
    Store(redb::Error),
    /// The embedded store met what it holds to be impossible.
    Panic(String),
}

pub(super) type Stored<T> = std::result::Result<T, Fault>;

impl Fault {
    /// Damage of `what`, a thing with a checksum.
    pub(super) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::Damaged(format!("{what} does not match its checksum or is lost"))
    }

    /// Whether the store itself can go on.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Damaged(_))
    }

    /// The same, naming the file.
    pub(super) fn named(self, path: &Path) -> Error {
        let corrupt = |what: String| {
            let message = format!("{}: {what}", path.display());
            Error::new(ErrorKind::Corrupt, "record_corrupt", message)
        };
        match self {
            Self::Refused(error) => error,
            Self::Damaged(what) => corrupt(what),
            Self::Panic(what) => corrupt(format!("pages that cannot be: {what}")),
            Self::Store(redb::Error::Io(error)) => match error.kind() {
                std::io::ErrorKind::InvalidData => corrupt(error.to_string()),
                std::io::ErrorKind::UnexpectedEof => {
                    corrupt(format!("it is shorter than it was: {error}"))
                }
                _ => io_error("use", path, &error),
            },
            Self::Store(redb::Error::UpgradeRequired(version)) => {
                let message = format!("{} has page format {version}, expected 3", path.display());
                Error::new(ErrorKind::Corrupt, "format_newer", message)
            }
            Self::Store(error @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed)) => {
                let message = format!("{}: {error}; take a new view", path.display());
                Error::new(ErrorKind::Io, "store_closed", message)
            }
            Self::Store(error) => corrupt(error.to_string()),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<redb::StorageError> for Fault {
    fn from(error: redb::StorageError) -> Self {
        Self::Store(error.into())
    }
}

impl From<redb::TableError> for Fault {
    fn from(error: redb::TableError) -> Self {
        Self::Store(error.into())
    }
}

impl From<redb::TransactionError> for Fault {
    fn from(error: redb::TransactionError) -> Self {
        Self::Store(error.into())
    }
}

impl From<redb::CommitError> for Fault {
    fn from(error: redb::CommitError) -> Self {
        Self::Store(error.into())
    }
}

impl From<redb::DatabaseError> for Fault {
    fn from(error: redb::DatabaseError) -> Self {
        Self::Store(error.into())
    }
}

/// Does `work` with the embedded store, which panics on pages that it did not write.
pub(super) fn guarded<T>(work: impl FnOnce() -> Stored<T>) -> Stored<T> {
    // What `work` touches is thrown away after a panic, or is the embedded store's, which sees for itself whether it was
    // left half done.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Fault::Panic(said(&*panic))))
}

/// The same, naming the file.
pub(super) fn reading<T>(path: &Path, work: impl FnOnce() -> Stored<T>) -> Result<T> {
    guarded(work).map_err(|fault| fault.named(path))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|&text| text.to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no reason given".to_owned())
}
