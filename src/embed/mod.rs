//! Texts to vectors, and vectors that come with the records.
//!
//! In: texts. Out: unit rows, one for each text, and the identity of what made them: rows of two identities are never
//! compared. Next: `static_table.rs` (the default: real meaning, nothing to fetch), then `wordpiece.rs`, `given.rs`,
//! `http.rs`, `bert/`, `hashed.rs`.

#[cfg(feature = "bert")]
pub mod bert;
pub mod given;
pub mod hashed;
pub mod http;
mod identifiers;
pub mod static_table;
pub mod wordpiece;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::core::rows::Rows;
#[cfg(feature = "bert")]
use crate::error::ErrorKind;
use crate::error::{Error, Result};

/// Makes a vector of each text. The same text gives the same vector, whatever stands beside it.
pub trait Embedder: Send + Sync {
    /// Elements of a row.
    fn dim(&self) -> usize;

    /// Model and content hash: rows may be compared if these are equal.
    fn identity(&self) -> String;

    /// f32 rows `[n_texts, dim]` of norm 1; a row of zeros for a text in which the model sees no token. Never NaN.
    ///
    /// # Errors
    /// What the model's maker fails with; the rows of a failed call are lost.
    fn embed(&self, texts: &[&str]) -> Result<Rows>;

    /// Of these texts, how many are longer than the model reads: their rows are those of their beginnings.
    fn n_cut(&self, _texts: &[&str]) -> usize {
        0
    }
}

/// Where vectors come from, as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The table that is shipped.
    Static,
    /// Hashed words and trigrams.
    Hashed,
    /// A model's folder.
    Bert(PathBuf),
    /// An OpenAI-compatible endpoint.
    Http(String),
    /// A field of each record.
    Field(String),
    /// A `.npy` file; row `i` belongs to record `i` of the input.
    File(PathBuf),
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let expected = "static, hashed, bert:DIR, http:URL, given:FIELD or given:FILE.npy";
            Error::usage("embed", format!("{text:?}, expected {expected}"))
        };
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Http(text.into()));
        }
        match text.split_once(':') {
            None if text == "static" => Ok(Self::Static),
            None if text == "hashed" => Ok(Self::Hashed),
            None | Some((_, "")) => Err(wrong()),
            Some(("bert", folder)) => Ok(Self::Bert(folder.into())),
            Some(("http", url)) => Ok(Self::Http(url.into())),
            Some(("given", file)) if file.ends_with(".npy") => Ok(Self::File(file.into())),
            Some(("given", field)) => Ok(Self::Field(field.into())),
            Some(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static => f.write_str("static"),
            Self::Hashed => f.write_str("hashed"),
            Self::Bert(folder) => write!(f, "bert:{}", folder.display()),
            Self::Http(url) => write!(f, "http:{url}"),
            Self::Field(field) => write!(f, "given:{field}"),
            Self::File(path) => write!(f, "given:{}", path.display()),
        }
    }
}

/// The embedder of texts that was chosen, which computes on up to `threads` threads of its own if it has much to do;
/// `None` for vectors that come with the records.
///
/// # Errors
/// `feature_missing` names the cargo feature that this build lacks; otherwise what opening the model says.
pub fn open(choice: &Choice, threads: usize) -> Result<Option<Arc<dyn Embedder>>> {
    Ok(match choice {
        Choice::Static => Some(shipped()?),
        Choice::Hashed => Some(Arc::new(hashed::Hashed)),
        Choice::Http(url) => Some(Arc::new(http::Http::open(url)?)),
        Choice::Bert(folder) => Some(model(folder, threads)?),
        Choice::Field(_) | Choice::File(_) => None,
    })
}

#[cfg(feature = "static-model")]
fn shipped() -> Result<Arc<dyn Embedder>> {
    Ok(Arc::new(static_table::StaticTable::shipped()?))
}

#[cfg(not(feature = "static-model"))]
fn shipped() -> Result<Arc<dyn Embedder>> {
    let message = "static: this build lacks the cargo feature `static-model`";
    Err(Error::usage("feature_missing", message))
}

#[cfg(feature = "bert")]
fn model(folder: &Path, threads: usize) -> Result<Arc<dyn Embedder>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::new(ErrorKind::Io, "threads", error.to_string()))?;
    Ok(Arc::new(bert::Bert::open(folder, Arc::new(pool))?))
}

#[cfg(not(feature = "bert"))]
fn model(folder: &Path, _threads: usize) -> Result<Arc<dyn Embedder>> {
    let message = format!(
        "bert:{} needs the cargo feature `bert`, which this build lacks; serve the model and use http:URL, or bring \
         its vectors with given:FIELD",
        folder.display()
    );
    Err(Error::usage("feature_missing", message))
}

/// Scales a row to norm 1, summed in 64 bits; a row too short for that becomes zeros. Returns whether it has a norm.
pub fn normalise(row: &mut [f32]) -> bool {
    let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    // Below this an element of the unit row could be a subnormal quotient.
    if norm < 1e-30 {
        row.fill(0.0);
        return false;
    }
    row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_as_it_is_written() {
        for text in ["static", "hashed", "bert:a/b", "http:http://h:1/v1/embeddings#m", "given:v"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        assert_eq!("given:a.npy".parse::<Choice>().unwrap(), Choice::File("a.npy".into()));
        assert_eq!("http://h/e".parse::<Choice>().unwrap(), Choice::Http("http://h/e".into()));
        for text in ["", "minilm", "given:", "bert", "cohere:x"] {
            assert_eq!(text.parse::<Choice>().unwrap_err().code(), "embed");
        }
    }

    #[test]
    fn a_row_without_norm_becomes_zeros_and_no_nan() {
        let mut row = [3.0, 4.0];
        assert!(normalise(&mut row));
        assert_eq!(row, [0.6, 0.8]);
        for mut row in [[0.0, -0.0], [1e-40, 0.0]] {
            assert!(!normalise(&mut row));
            assert_eq!(row, [0.0, 0.0]);
        }
        let mut row = [f32::MAX, f32::MAX];
        assert!(normalise(&mut row) && row.iter().all(|x| (x - 0.707).abs() < 1e-3));
    }
}
