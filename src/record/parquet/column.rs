//! Values and levels of one column, some rows at a time.

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{AsBytes, DataType};

use super::file::Group;
use super::guard::Fault;

/// A column of any depth and the rows of it that were decoded last.
pub(super) struct Column<T: DataType> {
    reader: ColumnReaderImpl<T>,
    max_def_level: i16,
    max_rep_level: i16,
    rows_left: u64,
    batch_rows: usize,
    /// Values that are not null.
    pub values: Vec<T::T>,
    /// Empty if nothing of the column can be null.
    pub def_levels: Vec<i16>,
    /// Empty if the column is not in a list.
    pub rep_levels: Vec<i16>,
}

impl<T: DataType> Column<T> {
    /// Column `leaf` of `group`, read by `reader`.
    pub fn new(group: &Group<'_>, leaf: usize, reader: ColumnReaderImpl<T>) -> Self {
        let descriptor = group.metadata.column(leaf).column_descr();
        Self {
            reader,
            max_def_level: descriptor.max_def_level(),
            max_rep_level: descriptor.max_rep_level(),
            rows_left: group.n_rows(),
            batch_rows: group.batch_rows(leaf),
            values: Vec::new(),
            def_levels: Vec::new(),
            rep_levels: Vec::new(),
        }
    }

    /// Decodes the next rows in place of the last ones. Returns their number, 0 at the end of the
    /// row group.
    ///
    /// # Errors
    /// Damage, or a number of rows that is not the row group's.
    pub fn read(&mut self) -> Result<usize, Fault> {
        self.values.clear();
        self.def_levels.clear();
        self.rep_levels.clear();
        let want = self.rows_left.min(self.batch_rows as u64) as usize;
        // One more than there are, at the end: the pages must end there too.
        let (def_levels, rep_levels) = (Some(&mut self.def_levels), Some(&mut self.rep_levels));
        let (n_rows, ..) =
            self.reader.read_records(want.max(1), def_levels, rep_levels, &mut self.values)?;
        if n_rows != want {
            let message = format!("the column holds {n_rows} rows where {want} were expected");
            return Err(Fault::Corrupt(message));
        }
        self.rows_left -= n_rows as u64;
        self.check_levels(n_rows)?;
        Ok(n_rows)
    }

    /// The decoder takes levels as they come; the encoder does not.
    fn check_levels(&self, n_rows: usize) -> Result<(), Fault> {
        let within = |levels: &[i16], max| levels.iter().all(|level| (0..=max).contains(level));
        let starts = self.rep_levels.iter().filter(|&&level| level == 0).count();
        let is_nested = self.max_rep_level > 0;
        if !within(&self.def_levels, self.max_def_level)
            || !within(&self.rep_levels, self.max_rep_level)
            || is_nested && (starts != n_rows || self.rep_levels.first().is_some_and(|&l| l > 0))
        {
            return Err(Fault::corrupt("levels that the schema does not have"));
        }
        Ok(())
    }

    /// The rows that were read, of a column that is in no list; they are moved out.
    pub fn rows(&mut self) -> Vec<Option<T::T>> {
        let n_rows = self.n_levels();
        let mut values = std::mem::take(&mut self.values).into_iter();
        (0..n_rows).map(|at| if self.has_value(at) { values.next() } else { None }).collect()
    }

    /// Levels that were read: one for each row, and one more for each further element of a list.
    pub fn n_levels(&self) -> usize {
        if self.max_def_level > 0 { self.def_levels.len() } else { self.values.len() }
    }

    /// Whether level `at` has a value.
    pub fn has_value(&self, at: usize) -> bool {
        self.def_levels.get(at).is_none_or(|&level| level == self.max_def_level)
    }

    /// Whether level `at` is the first of a row.
    pub fn starts_row(&self, at: usize) -> bool {
        self.rep_levels.get(at).is_none_or(|&level| level == 0)
    }
}

/// Decodes the whole of column `leaf`. Returns the bytes of its values.
///
/// # Errors
/// Damage anywhere in the column.
pub(super) fn verify(group: &Group<'_>, leaf: usize) -> Result<u64, Fault> {
    match group.column(leaf)? {
        ColumnReader::BoolColumnReader(reader) => drain(reader, group, leaf),
        ColumnReader::Int32ColumnReader(reader) => drain(reader, group, leaf),
        ColumnReader::Int64ColumnReader(reader) => drain(reader, group, leaf),
        ColumnReader::Int96ColumnReader(reader) => drain(reader, group, leaf),
        ColumnReader::FloatColumnReader(reader) => drain(reader, group, leaf),
        ColumnReader::DoubleColumnReader(reader) => drain(reader, group, leaf),
        ColumnReader::ByteArrayColumnReader(reader) => drain(reader, group, leaf),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => drain(reader, group, leaf),
    }
}

fn drain<T: DataType>(
    reader: ColumnReaderImpl<T>,
    group: &Group<'_>,
    leaf: usize,
) -> Result<u64, Fault> {
    let mut column = Column::new(group, leaf, reader);
    let mut n_bytes = 0_u64;
    while column.read()? > 0 {
        let bytes = column.values.iter().map(|value| value.as_bytes().len() as u64);
        n_bytes = bytes.fold(n_bytes, u64::saturating_add);
    }
    Ok(n_bytes)
}
