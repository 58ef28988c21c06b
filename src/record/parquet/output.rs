//! The file that is written, and how its own failures are told from those of the input.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::guard::Fault;
use crate::error::{Error, ErrorKind, IoContext, Result};

/// A file under construction; clones write to the same file.
#[derive(Clone)]
pub(super) struct Output {
    path: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    file: BufWriter<File>,
    /// The first refusal of the operating system.
    error: Option<io::Error>,
}

impl Output {
    /// Creates or empties the file at `path`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, File::create(path).at("create", path)?);
        let shared = Arc::new(Mutex::new(Shared { file, error: None }));
        Ok(Self { path: path.to_owned(), shared })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `fault`, met while writing: the system's refusal, if there was one.
    pub fn error(&self, fault: &Fault) -> Error {
        self.error_or(|| {
            let message = format!("write {}: {fault}", self.path.display());
            Error::new(ErrorKind::BadInput, "parquet_write", message)
        })
    }

    /// The system's refusal to write, or else `other`.
    pub fn error_or(&self, other: impl FnOnce() -> Error) -> Error {
        let refusal =
            self.shared().error.as_ref().map(|error| Error::io("write", &self.path, error));
        refusal.unwrap_or_else(other)
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// If it refuses.
    pub fn finish(&self) -> Result<()> {
        self.shared().file.flush().at("write", &self.path)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shared = self.shared();
        let outcome = shared.file.write(bytes);
        remember(&mut shared, outcome)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut shared = self.shared();
        let outcome = shared.file.flush();
        remember(&mut shared, outcome)
    }
}

fn remember<T>(shared: &mut Shared, outcome: io::Result<T>) -> io::Result<T> {
    if let Err(error) = &outcome
        && shared.error.is_none()
        && error.kind() != io::ErrorKind::Interrupted
    {
        shared.error = Some(match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(error.kind(), error.to_string()),
        });
    }
    outcome
}
