//! A column of lists of numbers, all of one length, as blocks of rows in the type that they have.

use std::path::Path;

use half::f16;
use parquet::basic::Repetition;
use parquet::column::reader::ColumnReader;
use parquet::data_type::{DataType, FixedLenByteArray};
use parquet::schema::types::Type;

use super::column::Column;
use super::file::{ParquetFile, as_error};
use super::guard::{Fault, guarded};
use super::kind::{Kind, find};
use super::vectors::element;
use crate::core::limits::DIM;
use crate::core::rows::{Dtype, Values};
use crate::core::slab::Slab;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Problem;
use crate::record::numbers::Numbers;
use crate::record::vector_file::{Source, VectorSource};

/// The column of vectors that is read if none is named and there are several.
const USUAL_FIELD: &str = "vector";

/// Types of elements that are read, as they are shown.
const TYPES: &str = "a list of Float16, Float32, Float64, UInt8 or Int8";

/// A file whose vectors are read one block after the other.
pub struct ListReader {
    /// The path, as shown.
    name: String,
    file: ParquetFile,
    field: String,
    dtype: Option<Dtype>,
    n_rows: usize,
    /// The row group that comes next.
    group: usize,
    lists: Option<Box<dyn Lists>>,
    /// Rows that were read.
    next_row: usize,
    /// Elements of every row; 0 before the first.
    dim: usize,
    /// Numbers that were read and not given out.
    waiting: Numbers,
}

impl ListReader {
    /// Opens the file at `path` for the vectors in the column `field`; without, in `vector` or in the only column that can
    /// have them.
    ///
    /// # Errors
    /// `vector_field`, which names the columns that there are; those of the file.
    pub fn open(path: &Path, field: Option<&str>) -> Result<Self> {
        let file = ParquetFile::open(path).map_err(|problem| as_error(&problem))?;
        let (field, dtype) = choose(&file, field)
            .map_err(|what| Error::usage("vector_field", format!("{}: {what}", path.display())))?;
        let n_rows = file.rows().sum::<u64>() as usize;
        let (name, waiting) = (path.display().to_string(), none_of(dtype));
        let (group, lists, next_row, dim) = (0, None, 0, 0);
        Ok(Self { name, file, field, dtype, n_rows, group, lists, next_row, dim, waiting })
    }

    /// Reads on; false at the end of the file.
    fn read_more(&mut self) -> Result<bool> {
        if self.lists.is_none() {
            if self.group == self.file.metadata().num_row_groups() {
                return Ok(false);
            }
            self.lists = Some(self.open_group().map_err(|problem| as_error(&problem))?);
            self.group += 1;
        }
        let lists = self.lists.as_mut().expect("opened above");
        let read = guarded(|| lists.read(&mut self.waiting));
        let lengths = read.map_err(|fault| as_error(&self.file.problem(self.group - 1, &fault)))?;
        if lengths.is_empty() {
            self.lists = None;
        }
        for length in lengths {
            self.take(length)?;
            self.next_row += 1;
        }
        Ok(true)
    }

    fn open_group(&self) -> Result<Box<dyn Lists>, Problem> {
        let group = self.file.group(self.group)?;
        let opened = guarded(|| {
            let schema = self.file.schema();
            let (leaf, _) = find(schema, &self.field).expect("chosen among its columns");
            let field = schema.root_schema().get_fields().iter().find(|f| f.name() == self.field);
            let element = field.and_then(|field| element(field)).expect("chosen among lists");
            let descriptor = group.metadata.column(leaf).column_descr();
            let is_optional = element.get_basic_info().repetition() == Repetition::OPTIONAL;
            let element_level = descriptor.max_def_level() - i16::from(is_optional);
            Ok(match (group.column(leaf)?, self.dtype) {
                (ColumnReader::FloatColumnReader(reader), _) => {
                    typed(Column::new(&group, leaf, reader), element_level, singles)
                }
                (ColumnReader::DoubleColumnReader(reader), _) => {
                    typed(Column::new(&group, leaf, reader), element_level, doubles)
                }
                (ColumnReader::FixedLenByteArrayColumnReader(reader), _) => {
                    typed(Column::new(&group, leaf, reader), element_level, halves)
                }
                (ColumnReader::Int32ColumnReader(reader), _) => {
                    typed(Column::new(&group, leaf, reader), element_level, bytes)
                }
                _ => return Err(Fault::corrupt("a list of numbers that are none")),
            })
        });
        opened.map_err(|fault| group.problem(&fault))
    }

    /// Compares the next row with the first.
    fn take(&mut self, length: Length) -> Result<()> {
        let (code, what) = match length {
            Length::Of(n) if !(1..=DIM).contains(&n) => {
                ("dim_range", format!("{n} numbers, expected 1 to {DIM}"))
            }
            Length::Of(n) if self.dim == 0 || n == self.dim => {
                self.dim = n;
                return Ok(());
            }
            Length::Of(n) => ("vector_dim", format!("{n} numbers, the first row has {}", self.dim)),
            Length::Null => ("field_type", "null, expected a list of numbers".to_owned()),
            Length::WithNull => ("field_type", "null among its numbers".to_owned()),
        };
        let (name, row, field) = (&self.name, self.next_row, &self.field);
        let message = format!("{name}, row {row}: {field:?} has {what}");
        Err(Error::new(ErrorKind::BadInput, code, message))
    }
}

impl VectorSource for ListReader {
    fn source(&self) -> Source {
        Source { n_rows: self.n_rows, dtype: self.dtype, field: Some(self.field.clone()) }
    }

    fn next(&mut self, n_rows: usize) -> Result<Option<(Numbers, usize)>> {
        while self.dim == 0 || self.waiting.len() / self.dim < n_rows {
            if !self.read_more()? {
                break;
            }
        }
        if self.waiting.is_empty() {
            return Ok(None);
        }
        let n_values = n_rows.saturating_mul(self.dim).min(self.waiting.len());
        Ok(Some((split_front(&mut self.waiting, n_values), self.dim)))
    }
}

/// The column of vectors, and the type of their elements.
fn choose(file: &ParquetFile, asked: Option<&str>) -> Result<(String, Option<Dtype>), String> {
    let fields = file.schema().root_schema().get_fields();
    let of = |name: &str| fields.iter().find(|field| field.name() == name);
    let shown = |field: &Type| match element(field) {
        Some(element) => format!("{:?} is a list of {}", field.name(), type_name(element)),
        None => format!("{:?} is none", field.name()),
    };
    if let Some(name) = asked {
        let Some(field) = of(name) else {
            let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
            return Err(format!("no column {name:?}; there are {}", names.join(", ")));
        };
        let dtype = element(field).and_then(dtype_of);
        return match dtype {
            Some(dtype) => Ok((name.to_owned(), dtype)),
            None => Err(format!("expected {TYPES}, {}", shown(field))),
        };
    }
    let usable = |field: &Type| element(field).and_then(dtype_of);
    let usual = of(USUAL_FIELD).and_then(|field| usable(field));
    let all: Vec<_> =
        fields.iter().filter_map(|field| Some((field.name().to_owned(), usable(field)?))).collect();
    match (usual, all.as_slice()) {
        (Some(dtype), _) => Ok((USUAL_FIELD.to_owned(), dtype)),
        (None, [one]) => Ok(one.clone()),
        (None, []) => {
            let lists = fields.iter().filter(|field| element(field).is_some());
            let lists: Vec<String> = lists.map(|field| shown(field)).collect();
            let lists =
                if lists.is_empty() { "there is no list".to_owned() } else { lists.join(", ") };
            Err(format!("no column is {TYPES}; {lists}"))
        }
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            Err(format!("vectors in {}; choose one with --vector-field", names.join(", ")))
        }
    }
}

/// The type of the elements of a list, if it is one that is read: `Some(None)` for 64-bit floats.
fn dtype_of(element: &Type) -> Option<Option<Dtype>> {
    match type_name(element).as_str() {
        "Float16" => Some(Some(Dtype::F16)),
        "Float32" => Some(Some(Dtype::F32)),
        "Float64" => Some(None),
        "UInt8" => Some(Some(Dtype::U8)),
        "Int8" => Some(Some(Dtype::I8)),
        _ => None,
    }
}

fn type_name(element: &Type) -> String {
    let is_half =
        element.get_basic_info().logical_type_ref() == Some(&parquet::basic::LogicalType::Float16);
    if is_half { "Float16".to_owned() } else { Kind::of_values(element).name() }
}

/// What a row holds.
enum Length {
    /// So many numbers.
    Of(usize),
    Null,
    WithNull,
}

/// The lists of a row group, some rows at a time.
trait Lists: Send {
    /// Adds the numbers of the next rows to `into`, and returns what each row has; none at the end.
    fn read(&mut self, into: &mut Numbers) -> Result<Vec<Length>, Fault>;
}

/// Adds decoded values to numbers of the column's type.
type Add<T> = fn(&[T], &mut Numbers) -> Result<(), Fault>;

struct Typed<T: DataType> {
    column: Column<T>,
    /// Definition level from which on there is an element.
    element_level: i16,
    add: Add<T::T>,
}

fn typed<T: DataType>(column: Column<T>, element_level: i16, add: Add<T::T>) -> Box<dyn Lists> {
    Box::new(Typed { column, element_level, add })
}

impl<T: DataType> Lists for Typed<T> {
    fn read(&mut self, into: &mut Numbers) -> Result<Vec<Length>, Fault> {
        if self.column.read()? == 0 {
            return Ok(Vec::new());
        }
        (self.add)(&self.column.values, into)?;
        let (column, mut lengths, mut start) = (&self.column, Vec::new(), 0);
        while start < column.n_levels() {
            let after = (start + 1..column.n_levels()).find(|&at| column.starts_row(at));
            let end = after.unwrap_or(column.n_levels());
            let n_values = (start..end).filter(|&at| column.has_value(at)).count();
            let level = column.def_levels[start];
            lengths.push(if level < self.element_level - 1 {
                Length::Null
            } else if level >= self.element_level && n_values < end - start {
                Length::WithNull
            } else {
                Length::Of(n_values)
            });
            start = end;
        }
        Ok(lengths)
    }
}

fn singles(values: &[f32], into: &mut Numbers) -> Result<(), Fault> {
    let Numbers::Of(Values::F32(all)) = into else { return Err(other_type()) };
    all.to_mut().extend_from_slice(values);
    Ok(())
}

fn doubles(values: &[f64], into: &mut Numbers) -> Result<(), Fault> {
    let Numbers::F64(all) = into else { return Err(other_type()) };
    all.extend_from_slice(values);
    Ok(())
}

fn halves(values: &[FixedLenByteArray], into: &mut Numbers) -> Result<(), Fault> {
    let Numbers::Of(Values::F16(all)) = into else { return Err(other_type()) };
    for value in values {
        let bytes = value.data().try_into().map_err(|_| other_type())?;
        all.to_mut().push(f16::from_le_bytes(bytes));
    }
    Ok(())
}

fn bytes(values: &[i32], into: &mut Numbers) -> Result<(), Fault> {
    let too_big = |value| Fault::Corrupt(format!("{value} in a column of 8-bit integers"));
    match into {
        Numbers::Of(Values::U8(all)) => {
            for &value in values {
                all.to_mut().push(u8::try_from(value).map_err(|_| too_big(value))?);
            }
        }
        Numbers::Of(Values::I8(all)) => {
            for &value in values {
                all.to_mut().push(i8::try_from(value).map_err(|_| too_big(value))?);
            }
        }
        _ => return Err(other_type()),
    }
    Ok(())
}

fn other_type() -> Fault {
    Fault::corrupt("values of another type than the schema says")
}

fn none_of(dtype: Option<Dtype>) -> Numbers {
    Numbers::Of(match dtype {
        None => return Numbers::F64(Vec::new()),
        Some(Dtype::F32) => Values::F32(Slab::default()),
        Some(Dtype::F16) => Values::F16(Slab::default()),
        Some(Dtype::U8) => Values::U8(Slab::default()),
        Some(Dtype::I8) => Values::I8(Slab::default()),
    })
}

/// Takes the first `n` numbers away, and returns them.
fn split_front(numbers: &mut Numbers, n: usize) -> Numbers {
    fn split<T>(values: &mut Vec<T>, n: usize) -> Vec<T> {
        let rest = values.split_off(n);
        std::mem::replace(values, rest)
    }
    match numbers {
        Numbers::F64(values) => Numbers::F64(split(values, n)),
        Numbers::Of(values) => Numbers::Of(match values {
            Values::F32(values) => Values::F32(split(values.to_mut(), n).into()),
            Values::F16(values) => Values::F16(split(values.to_mut(), n).into()),
            Values::U8(values) => Values::U8(split(values.to_mut(), n).into()),
            Values::I8(values) => Values::I8(split(values.to_mut(), n).into()),
        }),
    }
}
