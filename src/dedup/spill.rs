//! Rows of fixed size in files, and sorting more of them than fit in memory.
//!
//! A stage file is written aside, ends in a count and a checksum, and gets its name only when whole; so a
//! file that has its name is either right or damaged by something else, which reading it tells.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use bytemuck::{AnyBitPattern, NoUninit};
use rayon::slice::ParallelSliceMut;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, IoContext, Result};

/// A row that can be written to and read from a file as it lies in memory.
pub trait Row: AnyBitPattern + NoUninit + Ord + Send + Sync {}
impl<T: AnyBitPattern + NoUninit + Ord + Send + Sync> Row for T {}

const MAGIC: u64 = u64::from_le_bytes(*b"nkrows01");
const FOOTER_BYTES: usize = 24;
const BUFFER_BYTES: usize = 256 << 10;

/// Writes rows to `<name>.part`, then gives the file its name.
pub struct RowWriter<T> {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Xxh3,
    n_rows: u64,
    row: PhantomData<T>,
}

impl<T: Row> RowWriter<T> {
    /// Starts the file that will be `path`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let part = part_path(path);
        let file = File::create(&part).at("create", &part)?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            hash: Xxh3::new(),
            n_rows: 0,
            row: PhantomData,
        })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// `disk_full` or another failure of the disk.
    pub fn write(&mut self, rows: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(rows);
        self.hash.update(bytes);
        self.n_rows += rows.len() as u64;
        self.file.write_all(bytes).at("write", &self.path)
    }

    /// Ends the file and gives it its name; returns the number of rows.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn finish(mut self) -> Result<u64> {
        let footer = [MAGIC, self.n_rows, self.hash.digest()];
        self.file.write_all(bytemuck::cast_slice(&footer)).at("write", &self.path)?;
        self.file.flush().at("write", &self.path)?;
        drop(self.file);
        fs::rename(part_path(&self.path), &self.path).at("rename to", &self.path)?;
        Ok(self.n_rows)
    }
}

/// Where a file is written before it gets its name.
pub fn part_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Reads the rows of a file in order; the checksum is compared at the end.
pub struct RowReader<T> {
    path: PathBuf,
    file: File,
    buffer: Vec<T>,
    next: usize,
    left: u64,
    n_rows: u64,
    hash: Xxh3,
    expected: u64,
}

impl<T: Row> RowReader<T> {
    /// Opens a file made by [`RowWriter`].
    ///
    /// # Errors
    /// `corrupt_file` if its length and footer do not agree.
    pub fn open(path: &Path) -> Result<Self> {
        use std::os::unix::fs::FileExt;
        let file = File::open(path).at("open", path)?;
        let len = file.metadata().at("look at", path)?.len();
        let body = len.checked_sub(FOOTER_BYTES as u64);
        let body = body.ok_or_else(|| Error::corrupt(path, len, "shorter than its footer"))?;
        let mut footer = [0u64; 3];
        file.read_exact_at(bytemuck::cast_slice_mut(&mut footer), body).at("read", path)?;
        let [magic, n_rows, expected] = footer;
        if magic != MAGIC || n_rows.checked_mul(size_of::<T>() as u64) != Some(body) {
            return Err(Error::corrupt(path, body, "footer does not fit the length"));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            buffer: Vec::new(),
            next: 0,
            left: n_rows,
            n_rows,
            hash: Xxh3::new(),
            expected,
        })
    }

    /// Rows in the file.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// The next row, or `None` at the end.
    ///
    /// # Errors
    /// `corrupt_file` at the end if the checksum differs.
    pub fn next_row(&mut self) -> Result<Option<T>> {
        if self.next == self.buffer.len() && !self.refill()? {
            return Ok(None);
        }
        self.next += 1;
        Ok(Some(self.buffer[self.next - 1]))
    }

    /// All rows that are left.
    ///
    /// # Errors
    /// As [`Self::next_row`].
    pub fn read_all(mut self) -> Result<Vec<T>> {
        let mut rows = Vec::with_capacity(self.left as usize);
        while self.refill()? {
            rows.extend_from_slice(&self.buffer);
        }
        Ok(rows)
    }

    fn refill(&mut self) -> Result<bool> {
        if self.left == 0 {
            if self.hash.digest() != self.expected {
                let message = "checksum differs from what was written";
                return Err(Error::corrupt(&self.path, self.n_rows, message));
            }
            return Ok(false);
        }
        let n = (BUFFER_BYTES / size_of::<T>()).min(self.left as usize);
        self.buffer.resize(n, T::zeroed());
        let bytes = bytemuck::cast_slice_mut(&mut self.buffer);
        self.file.read_exact(bytes).at("read", &self.path)?;
        self.hash.update(bytes);
        self.left -= n as u64;
        self.next = 0;
        Ok(true)
    }
}

/// Sorts rows within a budget: what does not fit is sorted in runs on disk, which are merged. Equal rows
/// count once if asked. The order does not depend on the budget.
pub struct Sorter<T> {
    folder: PathBuf,
    name: &'static str,
    capacity: usize,
    unique: bool,
    rows: Vec<T>,
    runs: Vec<PathBuf>,
}

/// Runs merged at once: their buffers take 16 MiB, and no system limits open files that low.
const FAN_IN: usize = 64;

impl<T: Row> Sorter<T> {
    /// A sorter that holds at most `budget_bytes` of rows and spills to `folder` as `name`.
    pub fn new(folder: &Path, name: &'static str, budget_bytes: u64, unique: bool) -> Self {
        let capacity = (budget_bytes as usize / size_of::<T>()).max(1024);
        Self {
            folder: folder.to_owned(),
            name,
            capacity,
            unique,
            rows: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Adds one row.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn push(&mut self, row: T) -> Result<()> {
        if self.rows.len() == self.capacity {
            self.spill()?;
        }
        // Doubling would pass the budget: grow to the capacity at once when half of it is in use.
        if self.rows.len() == self.rows.capacity() && self.rows.len() >= self.capacity / 2 {
            self.rows.reserve_exact(self.capacity - self.rows.len());
        }
        self.rows.push(row);
        Ok(())
    }

    fn sort(&mut self) {
        self.rows.par_sort_unstable();
        if self.unique {
            self.rows.dedup();
        }
    }

    fn spill(&mut self) -> Result<()> {
        self.sort();
        // Many repeats: there is room again without a run.
        if self.unique && self.rows.len() < self.capacity / 2 {
            return Ok(());
        }
        self.write_run()
    }

    fn write_run(&mut self) -> Result<()> {
        let run = self.folder.join(format!("{}-{}.run", self.name, self.runs.len()));
        let mut writer = RowWriter::create(&run)?;
        writer.write(&self.rows)?;
        writer.finish()?;
        self.runs.push(run);
        self.rows.clear();
        Ok(())
    }

    /// The rows in order.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn finish(mut self) -> Result<Sorted<T>> {
        self.sort();
        if self.runs.is_empty() {
            return Ok(Sorted::Memory(self.rows.into_iter()));
        }
        self.write_run()?;
        self.rows = Vec::new();
        let mut n_merged = 0;
        while self.runs.len() > FAN_IN {
            let first: Vec<PathBuf> = self.runs.drain(..FAN_IN).collect();
            let merged = self.folder.join(format!("{}-merged-{n_merged}.run", self.name));
            n_merged += 1;
            let mut writer = RowWriter::<T>::create(&merged)?;
            let mut rows = Merge::open(first, self.unique)?;
            while let Some(row) = rows.next_row()? {
                writer.write(&[row])?;
            }
            writer.finish()?;
            self.runs.push(merged);
        }
        Ok(Sorted::Merge(Merge::open(self.runs, self.unique)?))
    }
}

/// Rows in order, from memory or from runs.
pub enum Sorted<T> {
    /// All fitted.
    Memory(std::vec::IntoIter<T>),
    /// Merged from runs.
    Merge(Merge<T>),
}

impl<T: Row> Sorted<T> {
    /// The next row.
    ///
    /// # Errors
    /// A failure of the disk, or `corrupt_file`.
    pub fn next_row(&mut self) -> Result<Option<T>> {
        match self {
            Self::Memory(rows) => Ok(rows.next()),
            Self::Merge(merge) => merge.next_row(),
        }
    }
}

/// Merges sorted files; removes them when dropped.
pub struct Merge<T> {
    readers: Vec<RowReader<T>>,
    heap: BinaryHeap<Reverse<(T, usize)>>,
    unique: bool,
    last: Option<T>,
    paths: Vec<PathBuf>,
}

impl<T: Row> Merge<T> {
    /// Opens sorted files.
    ///
    /// # Errors
    /// As [`RowReader::open`].
    pub fn open(paths: Vec<PathBuf>, unique: bool) -> Result<Self> {
        let mut readers = Vec::with_capacity(paths.len());
        let mut heap = BinaryHeap::with_capacity(paths.len());
        for (index, path) in paths.iter().enumerate() {
            let mut reader = RowReader::open(path)?;
            if let Some(row) = reader.next_row()? {
                heap.push(Reverse((row, index)));
            }
            readers.push(reader);
        }
        Ok(Self { readers, heap, unique, last: None, paths })
    }

    /// The next row.
    ///
    /// # Errors
    /// As [`RowReader::next_row`].
    pub fn next_row(&mut self) -> Result<Option<T>> {
        while let Some(mut top) = self.heap.peek_mut() {
            let Reverse((row, index)) = *top;
            match self.readers[index].next_row()? {
                Some(next) => *top = Reverse((next, index)),
                None => drop(std::collections::binary_heap::PeekMut::pop(top)),
            }
            if !(self.unique && self.last == Some(row)) {
                self.last = Some(row);
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

impl<T> Drop for Merge<T> {
    fn drop(&mut self) {
        for path in &self.paths {
            // A run left behind is scratch: the next run writes over it.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    fn sorted(budget: u64, unique: bool, n: u64) -> Vec<u64> {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(dir.path(), "test", budget, unique);
        for i in 0..n {
            sorter.push(stream(1, i) % 5000).unwrap();
        }
        let mut rows = sorter.finish().unwrap();
        let mut out = Vec::new();
        while let Some(row) = rows.next_row().unwrap() {
            out.push(row);
        }
        drop(rows);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "runs are removed");
        out
    }

    #[test]
    fn the_order_does_not_depend_on_the_budget() {
        for unique in [false, true] {
            let mut expected: Vec<u64> = (0..200_000).map(|i| stream(1, i) % 5000).collect();
            expected.sort_unstable();
            if unique {
                expected.dedup();
            }
            // 8 kB makes 196 runs, past the fan-in.
            for budget in [1 << 30, 1 << 20, 8 << 10] {
                assert_eq!(sorted(budget, unique, 200_000), expected, "{budget} {unique}");
            }
        }
    }

    #[test]
    fn a_damaged_file_is_told_and_a_cut_one_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let mut writer = RowWriter::create(&path).unwrap();
        writer.write(&(0..1000u64).collect::<Vec<_>>()).unwrap();
        assert!(!path.exists(), "no name before it is whole");
        assert_eq!(writer.finish().unwrap(), 1000);
        assert_eq!(RowReader::<u64>::open(&path).unwrap().read_all().unwrap().len(), 1000);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[4321] ^= 1;
        fs::write(&path, bad).unwrap();
        let error = RowReader::<u64>::open(&path).unwrap().read_all().unwrap_err();
        assert_eq!(error.code(), "corrupt_file");
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert_eq!(RowReader::<u64>::open(&path).err().unwrap().code(), "corrupt_file");
    }
}
