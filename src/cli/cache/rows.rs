//! Vectors of many texts, in memory.

use std::path::Path;

use crate::cli::complain;
use crate::embed::given::NpyFile;
use crate::embed::{self, Choice, Embedder, normalise};
use crate::error::{Error, ErrorKind, Result};

/// Texts that are embedded at once.
const BATCH: usize = 256;

/// Rows of norm 1, and who made them.
pub struct UnitRows {
    /// `[n_texts, dim]`.
    pub values: Vec<f32>,
    pub dim: usize,
    pub identity: String,
}

impl UnitRows {
    /// The vector of each text: what the embedder makes of it, or the row of that number of a `.npy` file.
    ///
    /// # Errors
    /// What embedding gives; `embed` for vectors in fields; `vectors_differ` if the file has other than a row for each text.
    pub fn of(choice: &Choice, texts: &[&str], threads: usize) -> Result<Self> {
        let rows = match (choice, embed::open(choice, threads)?) {
            (Choice::File(path), _) => Self::read(path, texts.len()),
            (_, Some(embedder)) => Self::embedded(&*embedder, texts),
            (choice, None) => {
                let message = format!("{choice}, expected an embedder or given:FILE.npy");
                Err(Error::usage("embed", message))
            }
        }?;
        let empty =
            rows.values.chunks(rows.dim).filter(|row| row.iter().all(|&x| x == 0.0)).count();
        if empty > 0 {
            complain(format_args!("{empty} of {} texts have no vector: similarity 0", texts.len()));
        }
        Ok(rows)
    }

    /// The row of that number.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    /// Cosine of two rows.
    pub fn similarity(&self, a: usize, b: usize) -> f32 {
        let products = self.row(a).iter().zip(self.row(b));
        products.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() as f32
    }

    fn embedded(embedder: &dyn Embedder, texts: &[&str]) -> Result<Self> {
        let dim = embedder.dim();
        let mut values = vec![0.0; texts.len() * dim];
        for (batch, out) in texts.chunks(BATCH).zip(values.chunks_mut(BATCH * dim)) {
            let rows = embedder.embed(batch)?;
            (0..).zip(out.chunks_mut(dim)).for_each(|(i, row)| rows.widen(i, row));
        }
        match embedder.n_cut(texts) {
            0 => {}
            n => complain(format_args!("{n} texts are longer than the model reads: cut")),
        }
        Ok(Self { values, dim, identity: embedder.identity() })
    }

    fn read(path: &Path, n: usize) -> Result<Self> {
        let file = NpyFile::open(path)?;
        if file.n_rows() != n {
            let message = format!(
                "{}: {} rows, expected {n}, one for each text",
                path.display(),
                file.n_rows()
            );
            return Err(Error::new(ErrorKind::BadInput, "vectors_differ", message));
        }
        let dim = file.dim();
        let mut values = vec![0.0; n * dim];
        for (i, row) in values.chunks_mut(dim).enumerate() {
            file.row(i, row)?;
            normalise(row);
        }
        Ok(Self { values, dim, identity: file.identity() })
    }
}
