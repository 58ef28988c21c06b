//! A Parquet file whose footer has been read, and what is checked of its sizes before any row is.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, Type};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::schema::types::SchemaDescriptor;

use super::guard::{Fault, guarded};
use super::pages::{ChunkPages, GuardedPages};
use super::thrift;
use crate::core::limits::{EXPANSION_RATIO, RECORD_BYTES, RECORDS};
use crate::error::{Error, ErrorKind};
use crate::record::Problem;
use crate::record::codec::unreadable;

const MAGIC: &[u8; 4] = b"PAR1";

/// Magic of a file whose footer is encrypted.
const ENCRYPTED: &[u8; 4] = b"PARE";

/// Largest footer: 10,000 columns in 30 row groups take about 45 MB.
const FOOTER_BYTES: u64 = 64 << 20;

/// Rows that need no bytes to be believed in: columns of one value or of none compress to nothing.
const FREE_ROWS: u64 = 1 << 24;

/// Values in lists that need no bytes to be believed in.
const FREE_VALUES: u64 = 1 << 24;

/// Rows that are decoded at once.
const BATCH_ROWS: u64 = 1024;

/// Bytes that are decoded at once, if rows are smaller than this.
const BATCH_BYTES: u64 = 64 << 20;

/// Memory of one value of a list while it is decoded: the value itself and two levels.
const NESTED_VALUE_BYTES: u64 = 40;

/// An open file and its footer.
pub(super) struct ParquetFile {
    name: String,
    file: Arc<File>,
    metadata: Arc<ParquetMetaData>,
    /// Where the footer starts; no column reaches beyond it.
    data_end: u64,
}

/// A row group whose declared sizes have been checked.
pub(super) struct Group<'a> {
    file: &'a ParquetFile,
    /// Position in the file, from 0.
    pub index: usize,
    pub metadata: &'a RowGroupMetaData,
    /// What the page headers of each column say.
    pages: Vec<ChunkPages>,
}

impl ParquetFile {
    /// Opens `path` and reads its footer.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        guarded(|| read_footer(&file))
            .map(|(metadata, data_end)| Self {
                name: name.clone(),
                file: Arc::new(file),
                metadata: Arc::new(metadata),
                data_end,
            })
            .map_err(|fault| Problem::new(fault.code(), format!("{name}: {fault}")))
    }

    /// What the footer says.
    pub fn metadata(&self) -> &Arc<ParquetMetaData> {
        &self.metadata
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaDescriptor {
        self.metadata.file_metadata().schema_descr()
    }

    /// Rows of each row group; the footer's are checked not to be negative.
    pub fn rows(&self) -> impl Iterator<Item = u64> {
        self.metadata.row_groups().iter().map(|group| group.num_rows().unsigned_abs())
    }

    /// Row of the file, from 0, at which row group `index` starts.
    pub fn first_row(&self, index: usize) -> u64 {
        self.rows().take(index).sum()
    }

    /// A fault in row group `index`, named.
    pub fn problem(&self, index: usize, fault: &Fault) -> Problem {
        Problem::new(fault.code(), format!("{} row group {index}: {fault}", self.name))
    }

    /// Row group `index`, its sizes and page headers checked.
    pub fn group(&self, index: usize) -> Result<Group<'_>, Problem> {
        guarded(|| self.checked_group(index)).map_err(|fault| self.problem(index, &fault))
    }

    fn checked_group(&self, index: usize) -> Result<Group<'_>, Fault> {
        let n_groups = self.metadata.num_row_groups();
        let metadata =
            self.metadata.row_groups().get(index).ok_or_else(|| {
                Fault::Corrupt(format!("the file has only {n_groups} row groups"))
            })?;
        for chunk in metadata.columns() {
            let named = |fault: Fault| in_column(chunk, &fault);
            self.check_chunk(metadata, chunk).map_err(named)?;
        }
        check_n_rows(metadata)?;
        let mut pages = Vec::new();
        for chunk in metadata.columns() {
            let scanned = ChunkPages::scan(&self.file, chunk);
            pages.push(scanned.map_err(|fault| in_column(chunk, &fault))?);
        }
        Ok(Group { file: self, index, metadata, pages })
    }

    fn check_chunk(
        &self,
        group: &RowGroupMetaData,
        chunk: &ColumnChunkMetaData,
    ) -> Result<(), Fault> {
        if chunk.file_path().is_some() {
            return Err(Fault::Unsupported("columns in another file".to_owned()));
        }
        if chunk.compression() == Compression::LZO {
            return Err(Fault::Unsupported("compressed with LZO".to_owned()));
        }
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let end = start.checked_add(chunk.compressed_size());
        let fits = start >= MAGIC.len() as i64
            && chunk.compressed_size() >= 0
            && end.is_some_and(|end| end as u64 <= self.data_end);
        if !fits {
            return Err(Fault::corrupt("the column lies outside the file"));
        }
        check_n_values(group.num_rows(), chunk)
    }
}

/// The footer, and where it starts.
fn read_footer(file: &File) -> Result<(ParquetMetaData, u64), Fault> {
    let len = file.metadata()?.len();
    if len < 12 {
        let message = format!("{len} bytes, the smallest Parquet file has 12");
        return Err(Fault::Corrupt(message));
    }
    let tail = read_at(file, len - 8, 8)?;
    check_magic(&read_at(file, 0, 4)?, &tail[4..])?;
    let mut size = [0; 4];
    size.copy_from_slice(&tail[..4]);
    let size = u64::from(u32::from_le_bytes(size));
    if size > len - 12 || size > FOOTER_BYTES {
        let limit = FOOTER_BYTES.min(len - 12);
        return Err(Fault::Corrupt(format!("a footer of {size} bytes, expected up to {limit}")));
    }
    let data_end = len - 8 - size;
    let footer = read_at(file, data_end, size)?;
    thrift::check_footer(&footer)?;
    let metadata = ParquetMetaDataReader::decode_metadata(&footer)?;
    check_row_counts(&metadata)?;
    Ok((metadata, data_end))
}

/// `len` bytes from `offset`.
pub(super) fn read_at(mut file: &File, offset: u64, len: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != len {
        return Err(Fault::Corrupt(format!("the file ends before byte {}", offset + len)));
    }
    Ok(bytes)
}

fn check_magic(head: &[u8], tail: &[u8]) -> Result<(), Fault> {
    if head == ENCRYPTED || tail == ENCRYPTED {
        return Err(Fault::Unsupported("the file is encrypted".to_owned()));
    }
    for (bytes, place) in [(head, "start"), (tail, "end")] {
        if bytes != MAGIC {
            let found = bytes.escape_ascii();
            return Err(Fault::Corrupt(format!("expected PAR1 at the {place}, found {found}")));
        }
    }
    Ok(())
}

/// Rows are numbered across row groups, so that wrong counts spoil the file.
fn check_row_counts(metadata: &ParquetMetaData) -> Result<(), Fault> {
    let mut sum = 0;
    for group in metadata.row_groups() {
        let rows = u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
        if rows > RECORDS {
            let message = format!("a row group of {} rows, limit {RECORDS}", group.num_rows());
            return Err(Fault::Corrupt(message));
        }
        sum += rows;
    }
    let declared = metadata.file_metadata().num_rows();
    if u64::try_from(declared) != Ok(sum) {
        let message = format!("{declared} rows in the footer, {sum} in its row groups");
        return Err(Fault::Corrupt(message));
    }
    Ok(())
}

fn check_n_values(n_rows: i64, chunk: &ColumnChunkMetaData) -> Result<(), Fault> {
    let column = chunk.column_descr();
    let n_values = chunk.num_values();
    let is_flat = column.max_rep_level() == 0;
    if n_values < n_rows || (is_flat && n_values > n_rows) {
        return Err(Fault::Corrupt(format!("{n_values} values in {n_rows} rows")));
    }
    let excess = (n_values - n_rows) as u64;
    let bytes = u64::try_from(chunk.uncompressed_size()).unwrap_or(0);
    if excess > FREE_VALUES.max(bytes.saturating_mul(EXPANSION_RATIO)) {
        let message = format!("{n_values} values in lists from {bytes} bytes");
        return Err(Fault::Expansion(message));
    }
    let is_fixed = column.physical_type() == Type::FIXED_LEN_BYTE_ARRAY;
    if is_fixed && !(0..=RECORD_BYTES as i64).contains(&i64::from(column.type_length())) {
        return Err(Fault::Corrupt(format!("values of {} bytes", column.type_length())));
    }
    Ok(())
}

/// At the limit of expansion, a row takes at least a bit.
fn check_n_rows(group: &RowGroupMetaData) -> Result<(), Fault> {
    let bytes = group.columns().iter().map(|chunk| chunk.compressed_size().unsigned_abs());
    let bytes = bytes.fold(0_u64, u64::saturating_add);
    let limit = FREE_ROWS.max(bytes.saturating_mul(8 * EXPANSION_RATIO));
    if group.num_rows().unsigned_abs() > limit {
        let message = format!("{} rows from {bytes} bytes", group.num_rows());
        return Err(Fault::Expansion(message));
    }
    Ok(())
}

fn in_column(chunk: &ColumnChunkMetaData, fault: &Fault) -> Fault {
    let message = format!("column {:?}: {fault}", chunk.column_path().string());
    match fault {
        Fault::Corrupt(_) | Fault::Io(_) => Fault::Corrupt(message),
        Fault::Expansion(_) => Fault::Expansion(message),
        Fault::Unsupported(_) => Fault::Unsupported(message),
    }
}

impl Group<'_> {
    /// Rows in the row group.
    pub fn n_rows(&self) -> u64 {
        self.metadata.num_rows().unsigned_abs()
    }

    /// Pages of column `leaf`, each checked before it is decoded.
    pub fn pages(&self, leaf: usize) -> Result<GuardedPages, Fault> {
        GuardedPages::open(&self.file.file, self.metadata, leaf, &self.pages[leaf])
    }

    /// Values of column `leaf`.
    pub fn column(&self, leaf: usize) -> Result<ColumnReader, Fault> {
        let descriptor = self.metadata.column(leaf).column_descr_ptr();
        Ok(get_column_reader(descriptor, Box::new(self.pages(leaf)?)))
    }

    /// Rows of column `leaf` that may be decoded at once.
    pub fn batch_rows(&self, leaf: usize) -> usize {
        let chunk = self.metadata.column(leaf);
        let column = chunk.column_descr();
        let n_rows = self.n_rows().max(1);
        let mut row_bytes = self.pages[leaf].widest_row_bytes;
        if column.max_rep_level() > 0 {
            let n_values = chunk.num_values().unsigned_abs();
            row_bytes = chunk.uncompressed_size().unsigned_abs().div_ceil(n_rows)
                + n_values.div_ceil(n_rows).saturating_mul(NESTED_VALUE_BYTES);
        }
        let row_bytes = row_bytes.max(column.type_length().max(1) as u64);
        (BATCH_BYTES / row_bytes).clamp(1, BATCH_ROWS) as usize
    }

    /// A fault in column `leaf`, with its name.
    pub fn in_column(&self, leaf: usize, fault: &Fault) -> Fault {
        in_column(self.metadata.column(leaf), fault)
    }

    /// A fault in the row group, as what is written to the quarantine.
    pub fn problem(&self, fault: &Fault) -> Problem {
        self.file.problem(self.index, fault)
    }
}

/// A problem met after the row group was found readable: the file is not what it was.
pub(super) fn as_error(problem: &Problem) -> Error {
    Error::new(ErrorKind::BadInput, problem.code, problem.message.clone())
}
