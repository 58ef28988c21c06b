//! A file of vectors, whatever its format: told by its first bytes and its name, read one block after the other.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::core::rows::{Dtype, Rows};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::npy::NpyReader;
use crate::record::numbers::Numbers;
use crate::record::vecs::VecsReader;

/// What is known of a file of vectors before its rows are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Rows.
    pub n_rows: usize,
    /// Element type; `None` for 64-bit floats, which rows do not have.
    pub dtype: Option<Dtype>,
    /// The column, in a format of columns.
    pub field: Option<String>,
}

/// Rows of a file, one block after the other.
pub trait VectorSource: Send {
    /// What the file says of itself.
    fn source(&self) -> Source;

    /// The next `n_rows` rows, or as many as there are, with the elements per row, which no row differs in; `None` at the
    /// end.
    ///
    /// # Errors
    /// What reading gives, naming file and row.
    fn next(&mut self, n_rows: usize) -> Result<Option<(Numbers, usize)>>;
}

/// Formats of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorFormat {
    /// numpy's.
    Npy,
    /// A count and so many 32-bit floats per row.
    Fvecs,
    /// A count and so many bytes per row.
    Bvecs,
    /// A column of lists.
    Parquet,
}

/// First bytes, what they say, and what would make such a file readable.
const FOREIGN: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "gzip; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "zstd; decompress it first"),
    (b"PK\x03\x04", "a ZIP archive, as .npz is; unpack it first"),
    (b"ARROW1\0\0", "an Arrow file; write it as Parquet"),
    (b"\x89HDF\r\n\x1a\n", "HDF5; save its rows with numpy.save"),
];

impl VectorFormat {
    /// The format of the file at `path`: `.npy` and Parquet are known by their first bytes, the others by their names, and
    /// name and bytes have to agree.
    ///
    /// # Errors
    /// `not_found`, `input_empty`, `format_differs`, `format_unknown`; failures of the disk.
    pub fn of(path: &Path) -> Result<Self> {
        let head = head(path)?;
        let bad = |code, what: &str| {
            Err(Error::new(ErrorKind::BadInput, code, format!("{}: {what}", path.display())))
        };
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let found = match head.as_slice() {
            [] => return bad("input_empty", "0 bytes"),
            head if head.starts_with(b"\x93NUMPY") => Some(Self::Npy),
            head if head.starts_with(b"PAR1") => Some(Self::Parquet),
            _ => None,
        };
        if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
            return bad("format_unknown", what);
        }
        let named = match extension.as_str() {
            "npy" => Some(Self::Npy),
            "parquet" | "pq" => Some(Self::Parquet),
            "fvecs" => Some(Self::Fvecs),
            "bvecs" => Some(Self::Bvecs),
            "ivecs" => {
                let what =
                    "rows of 32-bit integers, which are no vectors here; expected .fvecs or .bvecs";
                return bad("format_unknown", what);
            }
            _ => None,
        };
        match (found, named) {
            (Some(found), Some(named)) if found != named => {
                let what =
                    format!("its bytes are of {}, its name of {}", found.name(), named.name());
                bad("format_differs", &what)
            }
            (None, Some(named @ (Self::Npy | Self::Parquet))) => bad(
                "format_differs",
                &format!("its name is of {}, its bytes are not", named.name()),
            ),
            (None, None) => bad("format_unknown", "expected .npy, .fvecs, .bvecs or .parquet"),
            (Some(format), _) | (None, Some(format)) => Ok(format),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Npy => ".npy",
            Self::Fvecs => ".fvecs",
            Self::Bvecs => ".bvecs",
            Self::Parquet => ".parquet",
        }
    }

    /// Opens the file at `path`, which is of this format. `field` is the column of the vectors in Parquet; without, `vector`
    /// or the only one.
    ///
    /// # Errors
    /// Those of the format; `vector_field` for a format that has no columns.
    pub fn open(self, path: &Path, field: Option<&str>) -> Result<Box<dyn VectorSource>> {
        if self == Self::Parquet {
            return open_parquet(path, field);
        }
        if let Some(field) = field {
            let message = format!("{field:?} of {}, which has no columns", path.display());
            return Err(Error::usage("vector_field", message));
        }
        Ok(match self {
            Self::Npy => Box::new(NpyReader::open(path)?),
            Self::Fvecs => Box::new(VecsReader::open(path, Dtype::F32)?),
            _ => Box::new(VecsReader::open(path, Dtype::U8)?),
        })
    }
}

/// The next row as one JSON object, or `None` at the end.
pub type JsonLines = Box<dyn FnMut() -> Result<Option<String>> + Send>;

/// Rows of the Parquet file at `path` as JSON: all of its columns but `left_out`, or `only` one. `None` if that is none.
///
/// # Errors
/// `field_missing` if there is no `only`; those of the file.
#[cfg(feature = "parquet")]
pub fn rows_beside(path: &Path, left_out: &str, only: Option<&str>) -> Result<Option<JsonLines>> {
    let rows = crate::record::parquet::JsonRows::open(path, left_out, only)?;
    Ok(rows.map(|mut rows| -> JsonLines { Box::new(move || rows.next_row()) }))
}

/// Fails, since this build reads no Parquet.
///
/// # Errors
/// `feature_missing`.
#[cfg(not(feature = "parquet"))]
pub fn rows_beside(path: &Path, _: &str, _: Option<&str>) -> Result<Option<JsonLines>> {
    Err(feature_missing(path))
}

#[cfg(feature = "parquet")]
fn open_parquet(path: &Path, field: Option<&str>) -> Result<Box<dyn VectorSource>> {
    Ok(Box::new(crate::record::parquet::ListReader::open(path, field)?))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(path: &Path, _: Option<&str>) -> Result<Box<dyn VectorSource>> {
    Err(feature_missing(path))
}

#[cfg(not(feature = "parquet"))]
fn feature_missing(path: &Path) -> Error {
    let message = format!("{}: this build lacks the feature `parquet`", path.display());
    Error::usage("feature_missing", message)
}

/// The element type in which rows of `source` are kept if `asked` is asked for: without, their own.
///
/// # Errors
/// `storage` for 64-bit floats of which nothing is asked.
pub fn kept_as(source: &Source, asked: Option<Dtype>, path: &Path) -> Result<Dtype> {
    asked.or(source.dtype).ok_or_else(|| {
        let message = format!(
            "{} has 64-bit floats, which are not kept; --storage f32 (or f16) rounds them",
            path.display()
        );
        Error::usage("storage", message)
    })
}

/// Where row `row` of the file at `path` stands.
pub fn row_of(path: &Path, row: usize) -> String {
    format!("{}, row {row}", path.display())
}

/// All rows of the file at `path`, kept as `asked`, or as they are.
///
/// # Errors
/// Those of [`VectorFormat::of`], [`VectorFormat::open`], [`kept_as`], [`Numbers::into_rows`]; `input_empty`.
pub fn read_all(path: &Path, field: Option<&str>, asked: Option<Dtype>) -> Result<Rows> {
    let mut file = VectorFormat::of(path)?.open(path, field)?;
    let dtype = kept_as(&file.source(), asked, path)?;
    match file.next(usize::MAX)? {
        Some((numbers, dim)) => numbers.into_rows(dim, dtype, &|row| row_of(path, row)),
        None => {
            let message = format!("{}: no rows", path.display());
            Err(Error::new(ErrorKind::BadInput, "input_empty", message))
        }
    }
}

/// The first bytes of a regular file.
fn head(path: &Path) -> Result<Vec<u8>> {
    let not_found = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let meta = match std::fs::metadata(path) {
        Err(error) if not_found(&error) => {
            let message = format!("{} does not exist", path.display());
            return Err(Error::new(ErrorKind::NotFound, "not_found", message));
        }
        meta => meta.at("look at", path)?,
    };
    if !meta.is_file() {
        let message = format!("{}: expected a regular file", path.display());
        return Err(Error::new(ErrorKind::BadInput, "input_unreadable", message));
    }
    let mut bytes = Vec::new();
    File::open(path).at("open", path)?.take(8).read_to_end(&mut bytes).at("read", path)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_name_have_to_agree() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            VectorFormat::of(&path).map_err(|error| error.code())
        };
        let npy = b"\x93NUMPY\x01\0";
        assert_eq!(of("a.npy", npy), Ok(VectorFormat::Npy));
        assert_eq!(of("a", npy), Ok(VectorFormat::Npy));
        assert_eq!(of("a.PQ", b"PAR1...."), Ok(VectorFormat::Parquet));
        assert_eq!(of("a.fvecs", &[1, 0, 0, 0, 0, 0, 0, 0]), Ok(VectorFormat::Fvecs));
        assert_eq!(of("a.bvecs", &[1, 0, 0, 0, 7]), Ok(VectorFormat::Bvecs));
        assert_eq!(of("a.fvecs", npy), Err("format_differs"));
        assert_eq!(of("a.npy", b"PAR1...."), Err("format_differs"));
        assert_eq!(of("a.npy", b"1 2 3"), Err("format_differs"));
        assert_eq!(of("a.parquet", b"PA"), Err("format_differs"));
        assert_eq!(of("a.ivecs", &[1, 0, 0, 0, 0, 0, 0, 0]), Err("format_unknown"));
        assert_eq!(of("a.npz", b"PK\x03\x04"), Err("format_unknown"));
        assert_eq!(of("a.npy", b"\x1f\x8b\x08\0"), Err("format_unknown"));
        assert_eq!(of("a.csv", b"1,2\n"), Err("format_unknown"));
        assert_eq!(of("a.npy", b""), Err("input_empty"));
        assert_eq!(VectorFormat::of(dir.path()).unwrap_err().code(), "input_unreadable");
        let absent = VectorFormat::of(&dir.path().join("b")).unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
    }
}
