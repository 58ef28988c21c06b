//! Vectors that the caller brings in a `.npy` file. Those in a field of each record are read with it:
//! `record/vector.rs`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use half::f16;
use xxhash_rust::xxh3::Xxh3;

use crate::core::limits::DIM;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::npy::{Element, Header};

/// A matrix in a `.npy` file of format 1 to 3: little-endian f2, f4 or f8, C order, two dimensions.
#[derive(Debug)]
pub struct NpyFile {
    path: PathBuf,
    file: File,
    start: u64,
    n_rows: usize,
    dim: usize,
    element: usize,
    hash: u64,
}

impl NpyFile {
    /// Opens a file, checks its shape against its length and hashes its bytes.
    ///
    /// # Errors
    /// `npy_invalid`, which says what was expected; `dim_range`; or a failure of the disk.
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |what: String| {
            let message = format!("{}: {what}", path.display());
            Error::new(ErrorKind::BadInput, "npy_invalid", message)
        };
        let file = File::open(path).at("open", path)?;
        let len = file.metadata().at("look at", path)?.len();
        let header = Header::read(&mut &file).map_err(|(_, message)| wrong(message))?;
        let Header { n_rows, dim, start, .. } = header;
        let is_float = !matches!(header.element, Element::Of(dtype) if dtype.is_integer());
        if !is_float || header.n_dims != 2 {
            let found = format!("{header:?}, expected <f2, <f4 or <f8 in two dimensions");
            return Err(wrong(found));
        }
        let element = header.element.bytes();
        let body = (n_rows as u64).checked_mul((dim * element) as u64);
        if body != len.checked_sub(start) {
            return Err(wrong(format!(
                "shape {n_rows} x {dim} of {element}-byte floats, {} bytes",
                len - start
            )));
        }
        if !(1..=DIM).contains(&dim) {
            let message = format!("{}: {dim}, expected 1 to {DIM}", path.display());
            return Err(Error::new(ErrorKind::BadInput, "dim_range", message));
        }
        let hash = hash_file(&file, path, len)?;
        Ok(Self { path: path.to_owned(), file, start, n_rows, dim, element, hash })
    }

    /// Rows in the file.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Elements of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Name of the content.
    pub fn identity(&self) -> String {
        format!("given/{} {:016x}", self.dim, self.hash)
    }

    /// Reads one row into `out` `[dim]`.
    ///
    /// # Errors
    /// `vector_not_finite`, which names the row, or a failure of the disk.
    pub fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let mut bytes = vec![0; self.dim * self.element];
        let at = self.start + (row * bytes.len()) as u64;
        self.file.read_exact_at(&mut bytes, at).at("read", &self.path)?;
        for (i, (x, raw)) in out.iter_mut().zip(bytes.chunks_exact(self.element)).enumerate() {
            *x = match *raw {
                [a, b] => f16::from_le_bytes([a, b]).to_f32(),
                [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
                _ => unreachable!("elements of 2, 4 or 8 bytes"),
            };
            if !x.is_finite() {
                let message = format!("{}: row {row}, element {i} is {x}", self.path.display());
                return Err(Error::new(ErrorKind::BadInput, "vector_not_finite", message));
            }
        }
        Ok(())
    }
}

fn hash_file(file: &File, path: &Path, len: u64) -> Result<u64> {
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let n = (buffer.len() as u64).min(len - at) as usize;
        file.read_exact_at(&mut buffer[..n], at).at("read", path)?;
        hash.update(&buffer[..n]);
        at += n as u64;
    }
    Ok(hash.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_other_matrices_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.npy");
        let open = |descr: &str, order: &str, shape: &str, n_bytes: usize| {
            let head =
                format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((head.len() as u16).to_le_bytes());
            bytes.extend(head.as_bytes());
            bytes.resize(bytes.len() + n_bytes, 0);
            std::fs::write(&path, bytes).unwrap();
            let file = NpyFile::open(&path);
            file.map(|file| (file.element, file.n_rows, file.dim)).map_err(|error| error.code())
        };
        assert_eq!(open("<f4", "False", "(3, 2)", 24), Ok((4, 3, 2)));
        assert_eq!(open("<f8", "False", "(0, 7)", 0), Ok((8, 0, 7)));
        for (descr, order, shape) in [
            (">f4", "False", "(3, 2)"),
            ("<i4", "False", "(3, 2)"),
            ("|i1", "False", "(3, 2)"),
            ("<f4", "True", "(3, 2)"),
            ("<f4", "False", "(3,)"),
            ("<f4", "False", "(3, 2, 1)"),
            ("<f4", "False", "(3, 3)"),
        ] {
            assert_eq!(open(descr, order, shape, 24), Err("npy_invalid"), "{descr} {shape}");
        }
    }
}
