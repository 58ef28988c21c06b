//! Rows of one row group as [`Fields`].

use std::path::Path;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::SchemaDescriptor;

use super::column::{Column, verify};
use super::file::{Group, ParquetFile};
use super::guard::{Fault, guarded};
use super::kind::{Kind, find};
use super::vectors::{Vector, Vectors};
use crate::core::limits::{BLOCK_BYTES, EXPANSION_RATIO, RECORD_BYTES};
use crate::record::{FieldNames, Fields, Problem};

/// Most rows of a [`RowBatch`].
const BATCH_ROWS: usize = 1024;

/// Text of a row group that needs no bytes to be believed in: a dictionary may name one text often.
const FREE_TEXT_BYTES: u64 = 4 << 30;

/// Consecutive rows of one row group.
#[derive(Debug)]
pub struct RowBatch {
    /// Row of the first, from 0 in the file.
    pub first_row: u64,
    /// Each row's fields, or why it has none.
    pub rows: Vec<Result<Fields, Problem>>,
    /// Each row's vector, or why it has none; empty if none is asked for.
    pub vectors: Vec<Vector>,
    /// Bytes of text in the rows.
    pub bytes: u64,
}

/// Reads the fields of [`FieldNames`] from one row group, whose other columns have been checked
/// too.
pub struct RowGroupReader {
    names: FieldNames,
    next_row: u64,
    rows_left: u64,
    /// Why no row of the file can be a record.
    all_rows: Option<Problem>,
    text: Option<Field>,
    id: Option<Field>,
    rank: Option<Field>,
    group: Option<Field>,
    vectors: Option<Vectors>,
    file: ParquetFile,
    row_group: usize,
    /// The damage that ended the reading.
    damage: Option<Problem>,
}

impl RowGroupReader {
    /// Opens row group `row_group`, from 0, after decoding all of it once: rows that cannot be
    /// carried over to the output must not be read at all.
    ///
    /// # Errors
    /// `parquet_corrupt`, `parquet_unsupported`, `expansion` or `input_unreadable`; then no row of
    /// the row group can be read.
    pub fn open(path: &Path, row_group: usize, names: &FieldNames) -> Result<Self, Problem> {
        let file = ParquetFile::open(path)?;
        let group = file.group(row_group)?;
        let columns = guarded(|| {
            check_columns(&group, text_leaf(file.metadata(), &names.text))?;
            Columns::open(&group, file.schema(), names)
        });
        let columns = columns.map_err(|fault| group.problem(&fault))?;
        let (next_row, rows_left) = (file.first_row(row_group), group.n_rows());
        drop(group);
        Ok(Self {
            names: names.clone(),
            next_row,
            rows_left,
            all_rows: columns.all_rows,
            text: columns.text,
            id: columns.id,
            rank: columns.rank,
            group: columns.group,
            vectors: columns.vectors,
            file,
            row_group,
            damage: None,
        })
    }

    /// The next rows, at most 1,024 and about 1 MiB of text and vectors, or `None` at the end of the row group.
    ///
    /// # Errors
    /// As [`RowGroupReader::open`], if the file has changed since.
    pub fn next_batch(&mut self) -> Result<Option<RowBatch>, Problem> {
        if let Some(problem) = &self.damage {
            return Err(problem.clone());
        }
        if self.rows_left == 0 {
            return Ok(None);
        }
        match guarded(|| self.read_batch()) {
            Ok(batch) => Ok(Some(batch)),
            Err(fault) => {
                let problem = self.file.problem(self.row_group, &fault);
                self.damage = Some(problem.clone());
                Err(problem)
            }
        }
    }

    fn read_batch(&mut self) -> Result<RowBatch, Fault> {
        let (rows, vectors) = Default::default();
        let mut batch = RowBatch { first_row: self.next_row, rows, vectors, bytes: 0 };
        let mut in_memory = 0;
        while self.rows_left > 0 && batch.rows.len() < BATCH_ROWS && in_memory < BLOCK_BYTES {
            let row = self.read_row()?;
            if let Ok(fields) = &row {
                batch.bytes += fields.text.len() as u64;
                in_memory += fields.text.len();
                in_memory += [&fields.id, &fields.group]
                    .into_iter()
                    .flatten()
                    .map(String::len)
                    .sum::<usize>();
            }
            batch.rows.push(row);
            if let Some(vectors) = &mut self.vectors {
                let vector = vectors.next()?;
                in_memory += vector.as_ref().map_or(0, |vector| size_of_val(&vector[..]));
                batch.vectors.push(vector);
            }
            self.next_row += 1;
            self.rows_left -= 1;
        }
        Ok(batch)
    }

    fn read_row(&mut self) -> Result<Result<Fields, Problem>, Fault> {
        if let Some(problem) = &self.all_rows {
            return Ok(Err(problem.clone()));
        }
        // Every column steps, whatever comes of the row.
        let text = next(&mut self.text)?;
        let id = next(&mut self.id)?;
        let rank = next(&mut self.rank)?;
        let group = next(&mut self.group)?;
        Ok(self.fields(text, id, rank, group))
    }

    fn fields(
        &self,
        text: Option<Cell>,
        id: Option<Cell>,
        rank: Option<Cell>,
        group: Option<Cell>,
    ) -> Result<Fields, Problem> {
        let names = &self.names;
        let group_name = names.group.as_deref().unwrap_or_default();
        Ok(Fields {
            text: read_text(&names.text, text)?,
            id: id.map(|cell| token(&names.id, &cell)).transpose()?,
            rank: rank.as_ref().and_then(number),
            group: group.map(|cell| token(group_name, &cell)).transpose()?,
        })
    }
}

/// Column of the text, if it is one of strings.
fn text_leaf(metadata: &ParquetMetaData, name: &str) -> Option<usize> {
    let schema = metadata.file_metadata().schema_descr();
    find(schema, name).and_then(|(leaf, kind)| (kind == Kind::Text).then_some(leaf))
}

/// Decodes every column once; text must not be more than its bytes in the file can account for.
fn check_columns(group: &Group<'_>, text: Option<usize>) -> Result<(), Fault> {
    for leaf in 0..group.metadata.num_columns() {
        let n_bytes = verify(group, leaf).map_err(|fault| group.in_column(leaf, &fault))?;
        let in_file = group.metadata.column(leaf).compressed_size().unsigned_abs();
        let limit = FREE_TEXT_BYTES.max(in_file.saturating_mul(EXPANSION_RATIO));
        if Some(leaf) == text && n_bytes > limit {
            let message =
                format!("{n_bytes} bytes of text from {in_file}, limit x{EXPANSION_RATIO}");
            return Err(group.in_column(leaf, &Fault::Expansion(message)));
        }
    }
    Ok(())
}

/// The columns that are read.
#[derive(Default)]
struct Columns {
    all_rows: Option<Problem>,
    text: Option<Field>,
    id: Option<Field>,
    rank: Option<Field>,
    group: Option<Field>,
    vectors: Option<Vectors>,
}

impl Columns {
    fn open(
        group: &Group<'_>,
        schema: &SchemaDescriptor,
        names: &FieldNames,
    ) -> Result<Self, Fault> {
        if let Some(problem) = row_problem(schema, names) {
            return Ok(Self { all_rows: Some(problem), ..Self::default() });
        }
        let open = |name: Option<&str>, accepts: fn(&Kind) -> bool| {
            let found = name.and_then(|name| find(schema, name));
            let found = found.filter(|(_, kind)| accepts(kind));
            found.map(|(leaf, kind)| Field::open(group, leaf, kind)).transpose()
        };
        let vectors = names.vector.as_ref().map(|name| Vectors::open(group, schema, name));
        Ok(Self {
            all_rows: None,
            text: open(Some(&names.text), Kind::is_text)?,
            id: open(Some(&names.id), Kind::is_token)?,
            rank: open(names.rank.as_deref(), Kind::is_number)?,
            group: open(names.group.as_deref(), Kind::is_token)?,
            vectors: vectors.transpose()?,
        })
    }
}

/// What makes every row of the file unreadable as a record.
fn row_problem(schema: &SchemaDescriptor, names: &FieldNames) -> Option<Problem> {
    if let Some(taken) = names.reserved.iter().find(|name| find(schema, name).is_some()) {
        let message = format!("{taken:?} is a field that --annotate adds");
        return Some(Problem::new("annotate_key_taken", message));
    }
    let Some((_, kind)) = find(schema, &names.text) else {
        return Some(Problem::new("field_missing", format!("no field {:?}", names.text)));
    };
    let wrong = |name: &str, kind: &Kind, expected: &str| {
        Problem::new("field_type", format!("{name:?} is {}, expected {expected}", kind.name()))
    };
    if !kind.is_text() {
        return Some(wrong(&names.text, &kind, "a string"));
    }
    [Some(&names.id), names.group.as_ref()].into_iter().flatten().find_map(|name| {
        let (_, kind) = find(schema, name).filter(|(_, kind)| !kind.is_token())?;
        Some(wrong(name, &kind, "a string, number or boolean"))
    })
}

/// One value that is not null.
enum Cell {
    Bytes(ByteArray),
    Bool(bool),
    Int(i64),
    UInt(u64),
    Single(f32),
    Double(f64),
}

/// A column of which one row after the other is taken.
struct Field {
    cells: Box<dyn Cells>,
}

trait Cells: Send {
    fn next(&mut self) -> Result<Option<Cell>, Fault>;
}

/// The next row of `field`: `None` if there is no such column, or if it is null.
fn next(field: &mut Option<Field>) -> Result<Option<Cell>, Fault> {
    field.as_mut().map_or(Ok(None), |field| field.cells.next())
}

impl Field {
    fn open(group: &Group<'_>, leaf: usize, kind: Kind) -> Result<Self, Fault> {
        let is_signed = !matches!(kind, Kind::Int { signed: false, .. });
        let scale = if let Kind::Decimal { scale } = kind { Some(scale) } else { None };
        let int = move |value: i64, unsigned: u64| match scale {
            Some(scale) => Cell::Double(value as f64 / 10_f64.powi(scale)),
            None if is_signed => Cell::Int(value),
            None => Cell::UInt(unsigned),
        };
        let cells: Box<dyn Cells> = match group.column(leaf)? {
            ColumnReader::BoolColumnReader(reader) => typed(group, leaf, reader, Cell::Bool),
            ColumnReader::Int32ColumnReader(reader) => {
                typed(group, leaf, reader, move |value| int(value.into(), (value as u32).into()))
            }
            ColumnReader::Int64ColumnReader(reader) => {
                typed(group, leaf, reader, move |value| int(value, value as u64))
            }
            ColumnReader::FloatColumnReader(reader) => typed(group, leaf, reader, Cell::Single),
            ColumnReader::DoubleColumnReader(reader) => typed(group, leaf, reader, Cell::Double),
            ColumnReader::ByteArrayColumnReader(reader) => {
                typed(group, leaf, reader, move |value| bytes_cell(value, scale))
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                typed(group, leaf, reader, move |value| bytes_cell(value.into(), scale))
            }
            ColumnReader::Int96ColumnReader(_) => {
                return Err(Fault::corrupt("a column of 96-bit integers"));
            }
        };
        Ok(Self { cells })
    }
}

/// Bytes as they are, or the big-endian number that a decimal is.
fn bytes_cell(value: ByteArray, scale: Option<i32>) -> Cell {
    let Some(scale) = scale else { return Cell::Bytes(value) };
    let is_negative = value.data().first().is_some_and(|&byte| byte >= 0x80);
    let zero = if is_negative { -1_i128 } else { 0 };
    let number = value.data().iter().fold(zero, |number, &byte| number << 8 | i128::from(byte));
    Cell::Double(number as f64 / 10_f64.powi(scale))
}

/// Rows of a flat column that are still to be taken, the next one last.
struct Typed<T: DataType, F> {
    column: Column<T>,
    rows: Vec<Option<T::T>>,
    cell: F,
}

fn typed<T: DataType, F: Fn(T::T) -> Cell + Send + 'static>(
    group: &Group<'_>,
    leaf: usize,
    reader: ColumnReaderImpl<T>,
    cell: F,
) -> Box<dyn Cells> {
    Box::new(Typed { column: Column::new(group, leaf, reader), rows: Vec::new(), cell })
}

impl<T: DataType, F: Fn(T::T) -> Cell + Send> Cells for Typed<T, F> {
    fn next(&mut self) -> Result<Option<Cell>, Fault> {
        if self.rows.is_empty() {
            self.column.read()?;
            self.rows = self.column.rows();
            self.rows.reverse();
        }
        let value = self.rows.pop().ok_or_else(|| Fault::corrupt("a column ends early"))?;
        Ok(value.map(&self.cell))
    }
}

fn read_text(name: &str, cell: Option<Cell>) -> Result<String, Problem> {
    match cell {
        Some(Cell::Bytes(bytes)) => utf8(name, bytes.data()).map(str::to_owned),
        _ => Err(Problem::new("field_type", format!("{name:?} is null, expected a string"))),
    }
}

/// The characters of a string, if they are not more than a record may have.
fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Problem> {
    if bytes.len() > RECORD_BYTES {
        let message =
            format!("{name:?} of {} bytes, limit {} MiB", bytes.len(), RECORD_BYTES >> 20);
        return Err(Problem::new("record_size", message));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        Problem::new("utf8_invalid", format!("byte {} of {name:?}", error.valid_up_to()))
    })
}

/// A value as its JSON token.
fn token(name: &str, cell: &Cell) -> Result<String, Problem> {
    let token = match cell {
        Cell::Bytes(bytes) => serde_json::to_string(utf8(name, bytes.data())?),
        Cell::Bool(value) => serde_json::to_string(value),
        Cell::Int(value) => serde_json::to_string(value),
        Cell::UInt(value) => serde_json::to_string(value),
        Cell::Single(value) if value.is_finite() => serde_json::to_string(value),
        Cell::Double(value) if value.is_finite() => serde_json::to_string(value),
        Cell::Single(_) | Cell::Double(_) => {
            let message = format!("{name:?} is not a finite number");
            return Err(Problem::new("field_type", message));
        }
    };
    token.map_err(|error| Problem::new("field_type", format!("{name:?}: {error}")))
}

/// A number to rank by; what is not finite ranks nowhere.
fn number(cell: &Cell) -> Option<f64> {
    let number = match *cell {
        Cell::Int(value) => value as f64,
        Cell::UInt(value) => value as f64,
        Cell::Single(value) => value.into(),
        Cell::Double(value) => value,
        Cell::Bytes(_) | Cell::Bool(_) => return None,
    };
    number.is_finite().then_some(number)
}
