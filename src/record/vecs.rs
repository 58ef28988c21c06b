//! Rows of numbers from `.fvecs` and `.bvecs` files, as the benchmarks of the field exchange them.
//!
//! Every row begins with its number of elements, 32 bits, little-endian; the elements follow, as 32-bit floats or as bytes.
//! There is no header: the first row says how long all are, and the length of the file has to be a multiple of it.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use crate::core::limits::DIM;
use crate::core::rows::{Dtype, Values};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::numbers::Numbers;
use crate::record::vector_file::{Source, VectorSource};

/// Bytes in front of every row.
const COUNT_BYTES: usize = 4;

/// A file whose rows are read one block after the other.
#[derive(Debug)]
pub struct VecsReader {
    path: PathBuf,
    file: BufReader<File>,
    dtype: Dtype,
    dim: usize,
    n_rows: usize,
    next_row: usize,
}

impl VecsReader {
    /// Opens a file of rows of 32-bit floats (`.fvecs`, [`Dtype::F32`]) or of bytes (`.bvecs`, [`Dtype::U8`]).
    ///
    /// # Errors
    /// `input_empty`; `vecs_header` if the first row has no number of elements from 1 to 16,384; `vecs_length` if the file
    /// does not end with a row; failures of the disk.
    pub fn open(path: &Path, dtype: Dtype) -> Result<Self> {
        let mut file = File::open(path).at("open", path)?;
        let n_bytes = file.metadata().at("look at", path)?.len();
        if n_bytes == 0 {
            return Err(bad(path, "input_empty", "0 bytes"));
        }
        let dim = match read_count(&mut file) {
            Ok(count) => usize::try_from(count).unwrap_or(0),
            Err(_) => return Err(bad(path, "vecs_length", &format!("{n_bytes} bytes, not a row"))),
        };
        if !(1..=DIM).contains(&dim) {
            let what = format!("its first row is of {dim} elements, expected 1 to {DIM}");
            return Err(bad(path, "vecs_header", &what));
        }
        let row_bytes = (COUNT_BYTES + dim * dtype.bytes()) as u64;
        if n_bytes % row_bytes != 0 {
            let kind = dtype.name();
            let what = format!("{n_bytes} bytes, no multiple of {row_bytes}: rows of {dim} {kind}");
            return Err(bad(path, "vecs_length", &what));
        }
        file.rewind().at("read", path)?;
        let file = BufReader::new(file);
        let n_rows = (n_bytes / row_bytes) as usize;
        Ok(Self { path: path.to_owned(), file, dtype, dim, n_rows, next_row: 0 })
    }

    /// Reads the elements of the next rows, `bytes` each, into `all`.
    fn fill(&mut self, all: &mut [u8], bytes: usize) -> Result<()> {
        for row in all.chunks_exact_mut(bytes) {
            let count = read_count(&mut self.file).at("read", &self.path)?;
            if usize::try_from(count) != Ok(self.dim) {
                let (row, dim) = (self.next_row, self.dim);
                let what = format!("row {row} is of {count} elements, the first of {dim}");
                return Err(bad(&self.path, "vector_dim", &what));
            }
            self.file.read_exact(row).at("read", &self.path)?;
            self.next_row += 1;
        }
        Ok(())
    }
}

impl VectorSource for VecsReader {
    fn source(&self) -> Source {
        Source { n_rows: self.n_rows, dtype: Some(self.dtype), field: None }
    }

    fn next(&mut self, n_rows: usize) -> Result<Option<(Numbers, usize)>> {
        let n_values = n_rows.min(self.n_rows - self.next_row) * self.dim;
        if n_values == 0 {
            return Ok(None);
        }
        const { assert!(cfg!(target_endian = "little"), "files are little-endian") };
        let values = if self.dtype == Dtype::F32 {
            let mut values = vec![0.0f32; n_values];
            self.fill(bytemuck::cast_slice_mut(&mut values), self.dim * size_of::<f32>())?;
            Values::F32(values.into())
        } else {
            let mut values = vec![0; n_values];
            self.fill(&mut values, self.dim)?;
            Values::U8(values.into())
        };
        Ok(Some((Numbers::Of(values), self.dim)))
    }
}

fn read_count(file: &mut impl Read) -> std::io::Result<i32> {
    let mut bytes = [0; COUNT_BYTES];
    file.read_exact(&mut bytes)?;
    Ok(i32::from_le_bytes(bytes))
}

fn bad(path: &Path, code: &'static str, what: &str) -> Error {
    Error::new(ErrorKind::BadInput, code, format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dtype: Dtype, bytes: &[u8]) -> Result<Vec<(Numbers, usize)>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.vecs");
        std::fs::write(&path, bytes).unwrap();
        let mut reader = VecsReader::open(&path, dtype)?;
        let mut blocks = Vec::new();
        while let Some(block) = reader.next(2)? {
            blocks.push(block);
        }
        Ok(blocks)
    }

    #[test]
    fn rows_come_in_blocks_and_their_counts_are_left_out() {
        let floats: Vec<u8> = [1.5f32, 2.5, 3.5]
            .iter()
            .flat_map(|x| [1i32.to_le_bytes(), x.to_le_bytes()].concat())
            .collect();
        let of = |values: &[f32]| (Numbers::Of(Values::F32(values.to_vec().into())), 1);
        assert_eq!(read(Dtype::F32, &floats).unwrap(), [of(&[1.5, 2.5]), of(&[3.5])]);
        let bytes = [2, 0, 0, 0, 7, 255];
        let expected = (Numbers::Of(Values::U8(vec![7, 255].into())), 2);
        assert_eq!(read(Dtype::U8, &bytes).unwrap(), [expected]);
    }

    #[test]
    fn what_is_no_file_of_rows_is_refused_by_name() {
        let code = |bytes: &[u8]| read(Dtype::U8, bytes).unwrap_err().code();
        assert_eq!(code(&[]), "input_empty");
        assert_eq!(code(&[1, 0, 0]), "vecs_length");
        assert_eq!(code(&[2, 0, 0, 0, 7]), "vecs_length");
        assert_eq!(code(&[0; 8]), "vecs_header");
        assert_eq!(code(&[255; 8]), "vecs_header");
        assert_eq!(code(&[1, 0, 1, 0, 7]), "vecs_header");
        assert_eq!(code(&[1, 0, 0, 0, 7, 2, 0, 0, 0, 7]), "vector_dim");
    }
}
