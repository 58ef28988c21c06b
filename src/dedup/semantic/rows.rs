//! The embedded rows of all parts as one matrix, in memory if it fits, on disk if not.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::dedup::semantic::{Scope, embed};
use crate::dedup::spill::RowReader;
use crate::error::{Error, IoContext, Result};

/// Rows `[n_rows, dim]` in the order of the records' ordinals.
pub struct StoredRows {
    dim: usize,
    /// First row and file of each part that has rows.
    parts: Vec<(u32, PathBuf)>,
    /// Rank by row.
    ranks: Vec<u32>,
    memory: Option<Vec<f32>>,
}

impl StoredRows {
    /// Opens the rows of all parts; reads them if they take at most half of the budget.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn open(scope: &Scope<'_>, dim: usize) -> Result<Self> {
        let (mut parts, mut ranks): (Vec<(u32, PathBuf)>, Vec<u32>) = Default::default();
        for frames in scope.corpus.frames().chunk_by(|a, b| a.part == b.part) {
            let first = ranks.len();
            let all = frames.iter().flat_map(|frame| frame.ordinals());
            ranks.extend(
                all.map(|ordinal| scope.ranks.of(ordinal)).filter(|&rank| (scope.takes_part)(rank)),
            );
            if ranks.len() > first {
                let path = embed::path(scope.job, frames[0].part as usize);
                let found = RowReader::<u32>::open(&path)?.n_rows();
                let expected = ((ranks.len() - first) * dim) as u64;
                if found != expected {
                    let what = format!("{found} numbers, expected {expected}");
                    return Err(Error::corrupt(&path, 0, what));
                }
                parts.push((first as u32, path));
            }
        }
        let mut rows = Self { dim, parts, ranks, memory: None };
        let fits = rows.n_rows() as u64 * dim as u64 * 4 <= scope.budget / 2;
        if fits || scope.job.resumed {
            rows.load(fits)?;
        }
        Ok(rows)
    }

    /// Reads everything, which compares the checksums; keeps it if asked.
    fn load(&mut self, keep: bool) -> Result<()> {
        let mut memory = Vec::new();
        for (_, path) in &self.parts {
            let mut reader: RowReader<u32> = RowReader::open(path)?;
            while let Some(bits) = reader.next_row()? {
                if keep {
                    memory.push(f32::from_bits(bits));
                }
            }
        }
        self.memory = keep.then_some(memory);
        Ok(())
    }

    /// Number of rows.
    pub fn n_rows(&self) -> u32 {
        self.ranks.len() as u32
    }

    /// Elements of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Rank of the record of a row.
    pub fn rank(&self, row: u32) -> u32 {
        self.ranks[row as usize]
    }

    /// By row, whose rank is listed (sorted): `(rank, row)`, sorted by rank.
    pub fn rows_of(&self, ranks: &[u32]) -> Vec<(u32, u32)> {
        let with_rows = self.ranks.iter().zip(0..).map(|(&rank, row)| (rank, row));
        let mut found: Vec<(u32, u32)> =
            with_rows.filter(|(rank, _)| ranks.binary_search(rank).is_ok()).collect();
        found.sort_unstable();
        found
    }

    /// Copies of some rows, in the order of the list: `[rows.len(), dim]`. Neighbours on disk are read at once.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn gather(&self, rows: &[u32]) -> Result<Vec<f32>> {
        let dim = self.dim;
        let mut out = vec![0.0; rows.len() * dim];
        if let Some(memory) = &self.memory {
            for (to, &row) in out.chunks_exact_mut(dim).zip(rows) {
                to.copy_from_slice(&memory[row as usize * dim..(row as usize + 1) * dim]);
            }
            return Ok(out);
        }
        let mut order: Vec<(u32, usize)> = rows.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let mut buffer = Vec::new();
        let mut open: Option<(usize, File)> = None;
        let part_of = |row: u32| self.parts.partition_point(|part| part.0 <= row) - 1;
        let is_next = |a: &(u32, usize), b: &(u32, usize)| {
            (b.0 == a.0 || b.0 == a.0 + 1) && part_of(a.0) == part_of(b.0)
        };
        for run in order.chunk_by(is_next) {
            let (first, last) = (run[0].0, run[run.len() - 1].0);
            let part = part_of(first);
            let (start, path) = &self.parts[part];
            if open.as_ref().is_none_or(|(number, _)| *number != part) {
                open = Some((part, File::open(path).at("open", path)?));
            }
            let (_, file) = open.as_ref().expect("opened above");
            buffer.resize((last - first + 1) as usize * dim, 0.0f32);
            let at = u64::from(first - start) * dim as u64 * 4;
            file.read_exact_at(bytemuck::cast_slice_mut(&mut buffer), at).at("read", path)?;
            for &(row, place) in run {
                let from = (row - first) as usize * dim;
                out[place * dim..(place + 1) * dim].copy_from_slice(&buffer[from..from + dim]);
            }
        }
        Ok(out)
    }
}
