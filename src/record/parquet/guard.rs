//! What decoding can come to, and the fence around it: a panic inside a decoder is damage to one
//! row group, not the end of the job.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

/// Why some bytes could not be decoded, before file and row group are known.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes contradict the format or themselves.
    Corrupt(String),
    /// Decoding would take more bytes than the input can account for.
    Expansion(String),
    /// A part of the format that is not decoded here.
    Unsupported(String),
    /// The operating system refused.
    Io(io::Error),
}

impl Fault {
    /// Shorthand for [`Fault::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::Corrupt(message.into())
    }

    /// Stable word of a [`crate::record::Problem`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::Corrupt(_) => "parquet_corrupt",
            Self::Expansion(_) => "expansion",
            Self::Unsupported(_) => "parquet_unsupported",
            Self::Io(_) => "input_unreadable",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(message) | Self::Expansion(message) | Self::Unsupported(message) => {
                f.write_str(message)
            }
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

impl From<io::Error> for Fault {
    /// Decompressors report damage as I/O errors too; only the system's own carry a number.
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(_) => Self::Io(error),
            None => Self::Corrupt(error.to_string()),
        }
    }
}

impl From<ParquetError> for Fault {
    fn from(error: ParquetError) -> Self {
        let inner = match error {
            ParquetError::External(inner) => inner,
            other => return Self::Corrupt(other.to_string().replacen("Parquet error: ", "", 1)),
        };
        match inner.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(inner) => match inner.downcast::<io::Error>() {
                Ok(error) => Self::from(*error),
                Err(inner) => Self::Corrupt(inner.to_string()),
            },
        }
    }
}

impl From<ArrowError> for Fault {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(inner) => Self::from(ParquetError::External(inner)),
            ArrowError::ParquetError(message) => {
                Self::Corrupt(message.replacen("Parquet error: ", "", 1))
            }
            other => Self::Corrupt(other.to_string()),
        }
    }
}

impl From<Fault> for ParquetError {
    fn from(fault: Fault) -> Self {
        ParquetError::External(Box::new(fault))
    }
}

thread_local! {
    /// Whether a panic of this thread is expected, and so not printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `decode` returns, a panic inside it being [`Fault::Corrupt`]. Nothing is printed.
pub(super) fn guarded<T>(decode: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    static HOOK: Once = Once::new();
    HOOK.call_once(silence_expected_panics);
    let before = QUIET.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(decode));
    let expected = QUIET.replace(before);
    match outcome {
        Ok(result) => result,
        Err(payload) if expected => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Err(Fault::Corrupt(text.unwrap_or_else(|| "the decoder panicked".to_owned())))
        }
        Err(payload) => resume_unwind(payload),
    }
}

/// Runs code of the caller from inside [`guarded`]: its panics are printed and passed on.
pub(super) fn unguarded<T>(run: impl FnOnce() -> T) -> T {
    let before = QUIET.replace(false);
    let value = run();
    QUIET.set(before);
    value
}

/// The flag is of the thread, so that panics of other threads are printed as ever.
fn silence_expected_panics() {
    let print = take_hook();
    set_hook(Box::new(move |info| {
        if !QUIET.try_with(Cell::get).unwrap_or(false) {
            print(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_damage_and_its_text_is_kept() {
        let fault = guarded(|| -> Result<(), Fault> { panic!("index {} out of range", 7) });
        assert_eq!(fault.unwrap_err().to_string(), "index 7 out of range");
        assert_eq!(guarded(|| Ok(3)).unwrap(), 3);
    }

    #[test]
    fn a_panic_of_the_callers_code_is_passed_on() {
        let outcome = catch_unwind(|| {
            let _ = guarded(|| -> Result<(), Fault> { unguarded(|| panic!("ours")) });
        });
        assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"ours"));
    }

    #[test]
    fn faults_survive_the_way_through_the_decoder() {
        let fault = Fault::from(ParquetError::from(Fault::Expansion("too much".to_owned())));
        assert_eq!((fault.code(), fault.to_string().as_str()), ("expansion", "too much"));
    }
}
