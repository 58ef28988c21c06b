//! The one error type of the crate: a kind that decides the exit code, a stable code that scripts can
//! match, and a message that names what, where, expected and received.

use std::fmt;
use std::io;
use std::path::Path;

/// What went wrong, by who can mend it; each kind is one exit code of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller asked for something that cannot be asked for (exit 2).
    Usage,
    /// The input as a whole cannot be used (exit 3).
    BadInput,
    /// A named thing does not exist (exit 4).
    NotFound,
    /// A file that we wrote is damaged (exit 5).
    Corrupt,
    /// The disk or the operating system refused (exit 6).
    Io,
    /// Another process holds the folder (exit 7).
    Locked,
    /// A stated limit was reached (exit 8).
    Limit,
    /// A device was demanded that is not there, or failed (exit 9).
    Device,
    /// The sums of read, kept, dropped and quarantined records differ, or an input changed (exit 11).
    Accounting,
    /// Ctrl-C (exit 130).
    Interrupted,
}

impl ErrorKind {
    /// Exit code of the command line for this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::BadInput => 3,
            Self::NotFound => 4,
            Self::Corrupt => 5,
            Self::Io => 6,
            Self::Locked => 7,
            Self::Limit => 8,
            Self::Device => 9,
            Self::Accounting => 11,
            Self::Interrupted => 130,
        }
    }
}

/// An error of any operation of this crate. Displays as `code: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    code: &'static str,
    message: Box<str>,
}

/// Result of any operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A new error; `code` is a stable snake_case word, `message` names expected and received.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into().into_boxed_str() }
    }

    /// Shorthand for [`ErrorKind::Usage`].
    pub fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, code, message)
    }

    /// A failed system call on `path`; a full disk is named `disk_full`.
    pub fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::StorageFull => "disk_full",
            io::ErrorKind::NotFound => "not_found",
            io::ErrorKind::PermissionDenied => "permission_denied",
            _ => "io",
        };
        Self::new(ErrorKind::Io, code, format!("{doing} {}: {error}", path.display()))
    }

    /// A file of ours whose bytes are not what was written.
    pub fn corrupt(path: &Path, offset: u64, what: impl fmt::Display) -> Self {
        let message = format!("{} at byte {offset}: {what}", path.display());
        Self::new(ErrorKind::Corrupt, "corrupt_file", message)
    }

    /// The same error, with the place that it was found in before its message.
    pub fn within(self, place: impl fmt::Display) -> Self {
        let message = format!("{place}: {}", self.message).into_boxed_str();
        Self { message, ..self }
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The stable word that scripts can match.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

/// Attaches what was being done, and to which file, to an I/O error.
pub trait IoContext<T> {
    /// Turns an [`io::Error`] into an [`Error`] that names `doing` and `path`.
    ///
    /// # Errors
    /// The same failure, named.
    fn at(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|error| Error::io(doing, path, &error))
    }
}
