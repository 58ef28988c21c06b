//! Rows of numbers from `.npy` files, as `numpy.save` writes them.
//!
//! Read are 32- and 16-bit floats, u8 and int8, little-endian, in C order, of one dimension (one row) or two. Everything
//! else is refused with the line of Python that makes it readable. The header is compared with the length of the file
//! before memory is asked for.
//!
//! Format: NEP 1, "A Simple File Format for NumPy Arrays"; versions 1 to 3 differ in the length of the header only.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use bytemuck::Pod;
use half::f16;

use crate::core::rows::{Dtype, Rows, Values};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::numbers::Numbers;
use crate::record::vector_file::{Source, VectorSource};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Longest header that is read; real ones take 128 bytes, and one of an array of structs is refused anyway.
const HEADER_BYTES: usize = 64 << 10;

/// The types of rows, as numpy spells them.
const ROW_TYPES: &str = "'<f4', '<f2', '|u1' or '|i1'";

/// Element type of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Little-endian 64-bit floats, which rows do not have.
    F64,
    /// One of the types of rows.
    Of(Dtype),
}

impl Element {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::Of(dtype) => dtype.bytes(),
        }
    }

    /// The name, as shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::Of(dtype) => dtype.name(),
        }
    }
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Element type.
    pub element: Element,
    /// Dimensions of the array: 1 (one row) or 2.
    pub n_dims: usize,
    /// Rows.
    pub n_rows: usize,
    /// Elements per row.
    pub dim: usize,
    /// Where the elements begin.
    pub start: u64,
}

/// A problem of a header: its code and what was expected and found. The caller names the file.
pub type HeaderProblem = (&'static str, String);

/// The rows of the file at `path`.
///
/// # Errors
/// Those of [`NpyReader::open`], `npy_dtype` for 64-bit floats, and those of [`Rows::new`], which name row and element. Each
/// names the file.
pub fn read(path: &Path) -> Result<Rows> {
    let mut reader = NpyReader::open(path)?;
    let Header { element, n_rows, dim, .. } = reader.header;
    if element == Element::F64 {
        let message = format!("\"<f8\", expected {ROW_TYPES}: rows.astype('<f4')");
        return Err(bad(path, "npy_dtype", &message));
    }
    let Numbers::Of(values) = reader.values(n_rows)? else { unreachable!("no 64-bit floats") };
    Rows::new(values, dim).map_err(|error| error.within(path.display()))
}

/// A file whose rows are read one block after the other.
#[derive(Debug)]
pub struct NpyReader {
    path: PathBuf,
    file: BufReader<File>,
    header: Header,
    rows_left: usize,
}

impl NpyReader {
    /// Opens a file and compares its header with its length.
    ///
    /// # Errors
    /// `not_found`, `npy_header` if it is no array or one that cannot be read, `npy_length` if its length is not what the
    /// header says, `npy_dtype`, `npy_order`, `npy_shape`. Each names the file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let n_bytes = file.metadata().at("look at", path)?.len();
        let mut file = BufReader::new(file);
        let header =
            Header::read(&mut file).map_err(|(code, message)| bad(path, code, &message))?;
        let Header { element, n_rows, dim, start, .. } = header;
        let expected = n_rows.checked_mul(dim).and_then(|n| n.checked_mul(element.bytes()));
        let found = n_bytes.saturating_sub(start);
        if expected.map(|n| n as u64) != Some(found) {
            let message = format!("{n_rows} x {dim} of {} in {found} bytes", element.name());
            return Err(bad(path, "npy_length", &message));
        }
        Ok(Self { path: path.to_owned(), file, header, rows_left: n_rows })
    }

    /// The next `n_rows` rows, which there are.
    fn values(&mut self, n_rows: usize) -> Result<Numbers> {
        let (n, path) = (n_rows * self.header.dim, &self.path);
        self.rows_left -= n_rows;
        let Element::Of(dtype) = self.header.element else {
            return Ok(Numbers::F64(numbers(&mut self.file, n, path)?));
        };
        Ok(Numbers::Of(match dtype {
            Dtype::F32 => Values::F32(numbers(&mut self.file, n, path)?.into()),
            Dtype::F16 => Values::F16(numbers::<f16>(&mut self.file, n, path)?.into()),
            Dtype::U8 => Values::U8(numbers(&mut self.file, n, path)?.into()),
            Dtype::I8 => Values::I8(numbers(&mut self.file, n, path)?.into()),
        }))
    }
}

impl VectorSource for NpyReader {
    fn source(&self) -> Source {
        let dtype = match self.header.element {
            Element::F64 => None,
            Element::Of(dtype) => Some(dtype),
        };
        Source { n_rows: self.header.n_rows, dtype, field: None }
    }

    fn next(&mut self, n_rows: usize) -> Result<Option<(Numbers, usize)>> {
        let n_rows = n_rows.min(self.rows_left);
        if n_rows == 0 {
            return Ok(None);
        }
        Ok(Some((self.values(n_rows)?, self.header.dim)))
    }
}

fn bad(path: &Path, code: &'static str, what: &str) -> Error {
    Error::new(ErrorKind::BadInput, code, format!("{}: {what}", path.display()))
}

fn open(path: &Path) -> Result<File> {
    if path.is_dir() {
        let message = format!("{} is a folder, expected a .npy file", path.display());
        return Err(Error::new(ErrorKind::BadInput, "npy_header", message));
    }
    match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("{} does not exist", path.display());
            Err(Error::new(ErrorKind::NotFound, "not_found", message))
        }
        file => file.at("open", path),
    }
}

impl Header {
    /// Reads the header at the start of a file.
    ///
    /// # Errors
    /// `npy_header`, `npy_dtype`, `npy_order`, `npy_shape`.
    pub fn read(reader: &mut impl Read) -> Result<Self, HeaderProblem> {
        let broken = |message: String| ("npy_header", message);
        let mut start = 0;
        let mut take = |n: usize| {
            let mut bytes = vec![0; n];
            let ends = |_| broken("the file ends in its header".to_owned());
            reader.read_exact(&mut bytes).map_err(ends)?;
            start += n as u64;
            Ok::<Vec<u8>, HeaderProblem>(bytes)
        };
        if take(6)? != MAGIC {
            let message = "expected a .npy file, and this one does not begin as one";
            return Err(broken(message.to_owned()));
        }
        let version = take(2)?;
        let length = match version[0] {
            1 => take(2)?,
            2 | 3 => take(4)?,
            major => {
                return Err(broken(format!("version {major} of the format, expected 1 to 3")));
            }
        };
        let length = length.iter().rev().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
        if length > HEADER_BYTES {
            let message = format!("a header of {length} bytes, expected at most {HEADER_BYTES}");
            return Err(broken(message));
        }
        let text = String::from_utf8(take(length)?);
        let text = text.map_err(|_| broken("its header is not text".to_owned()))?;
        Ok(Self { start, ..Self::parse(&text)? })
    }

    fn parse(text: &str) -> Result<Self, HeaderProblem> {
        let broken = |what: &str| ("npy_header", format!("{what} in header {:?}", text.trim_end()));
        let descr = value_of(text, "descr").ok_or_else(|| broken("no descr"))?;
        let descr = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
        let (descr, _) = descr.ok_or_else(|| broken("no plain type"))?;
        let element = element(descr)?;
        let order = value_of(text, "fortran_order").ok_or_else(|| broken("no fortran_order"))?;
        let shape = value_of(text, "shape").ok_or_else(|| broken("no shape"))?;
        let shape = shape.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (shape, _) = shape.ok_or_else(|| broken("no shape"))?;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        let sizes: Vec<usize> = sizes
            .map(|size| size.parse().map_err(|_| broken("no sizes")))
            .collect::<Result<_, _>>()?;
        let (n_rows, dim) = match sizes[..] {
            [dim] => (1, dim),
            [n_rows, dim] => (n_rows, dim),
            _ => {
                let message = format!("({shape}), expected rows: (n_rows, dim), or one: (dim,)");
                return Err(("npy_shape", message));
            }
        };
        // With one row or one column both orders are the same.
        if order.starts_with("True") && n_rows > 1 && dim > 1 {
            let message = "Fortran order, expected C order: numpy.ascontiguousarray(rows)";
            return Err(("npy_order", message.to_owned()));
        }
        Ok(Self { element, n_dims: sizes.len(), n_rows, dim, start: 0 })
    }
}

/// What follows `'key':` in the dictionary.
fn value_of<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("'{key}'"))?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

fn element(descr: &str) -> Result<Element, HeaderProblem> {
    match descr {
        "<f8" => Ok(Element::F64),
        "<f4" => Ok(Element::Of(Dtype::F32)),
        "<f2" => Ok(Element::Of(Dtype::F16)),
        "|u1" | "<u1" => Ok(Element::Of(Dtype::U8)),
        "|i1" | "<i1" => Ok(Element::Of(Dtype::I8)),
        _ => {
            let hint = if descr.starts_with(">f") { ": rows.astype('<f4')" } else { "" };
            Err(("npy_dtype", format!("{descr:?}, expected {ROW_TYPES}{hint}")))
        }
    }
}

/// `n` numbers as they lie in the file.
fn numbers<T: Pod>(reader: &mut impl Read, n: usize, path: &Path) -> Result<Vec<T>> {
    const { assert!(cfg!(target_endian = "little"), "files are little-endian") };
    let mut values = vec![T::zeroed(); n];
    reader.read_exact(bytemuck::cast_slice_mut(&mut values)).at("read", path)?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, body: &[u8]) -> Result<Rows> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.npy");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(body);
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    fn header(descr: &str, order: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}  \n")
    }

    #[test]
    fn arrays_of_every_type_are_read() {
        let halves: Vec<u8> =
            [1.5f32, -2.0].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let floats: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        for (descr, body, expected) in [
            ("<f4", floats.as_slice(), [1.5, -2.0]),
            ("<f2", halves.as_slice(), [1.5, -2.0]),
            ("|u1", &[3, 255], [3.0, 255.0]),
            ("|i1", &[3, 255], [3.0, -1.0]),
        ] {
            for (shape, n_rows) in [("(2, 1)", 2), ("(1, 2)", 1), ("(2,)", 1)] {
                let rows = file(&header(descr, "False", shape), body).unwrap();
                let values = [rows.values().get(0), rows.values().get(1)];
                assert_eq!((rows.n_rows(), values), (n_rows, expected), "{descr} {shape}");
            }
        }
        let empty = file(&header("<f4", "False", "(0, 384)"), &[]).unwrap();
        assert_eq!((empty.n_rows(), empty.dim()), (0, 384));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let code = |header: String, n: usize| file(&header, &vec![0; n]).unwrap_err().code();
        assert_eq!(code(header("<f4", "False", "(2, 2)"), 15), "npy_length");
        assert_eq!(code(header("<f4", "False", "(2, 2)"), 17), "npy_length");
        let huge = "(9223372036854775807, 9223372036854775807)";
        assert_eq!(code(header("<f4", "False", huge), 16), "npy_length");
        assert_eq!(code(header("<f4", "True", "(2, 2)"), 16), "npy_order");
        assert_eq!(code(header("<f8", "False", "(2, 1)"), 16), "npy_dtype");
        assert_eq!(code(header(">f4", "False", "(2, 2)"), 16), "npy_dtype");
        assert_eq!(code(header("<f4", "False", "(2, 2, 1)"), 16), "npy_shape");
        assert_eq!(code(header("<f4", "False", "()"), 4), "npy_shape");
        assert_eq!(code(header("<f4", "False", "(-2, 2)"), 16), "npy_header");
        assert_eq!(code("{'descr': [('a', '<f4')], }".to_owned(), 16), "npy_header");
        assert_eq!(code(String::new(), 0), "npy_header");
        assert_eq!(code(header("<f4", "False", "(4, 0)"), 0), "dim_range");
        let error = file(&header("|i1", "False", "(1, 1)"), &[128]).unwrap_err().to_string();
        assert!(error.starts_with("vector_int8: /") && error.contains("row 0"), "{error}");
    }
}
