//! Rows of a column of lists of numbers, as vectors.

use half::f16;
use parquet::basic::{ConvertedType, LogicalType, Repetition};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{DataType, FixedLenByteArray};
use parquet::schema::types::{SchemaDescriptor, Type};

use super::column::Column;
use super::file::Group;
use super::guard::Fault;
use super::kind::{Kind, find};
use crate::record::Problem;
use crate::record::json::missing;
use crate::record::vector::{finite, no_vector};

/// A vector, or why the row has none.
pub(super) type Vector = Result<Vec<f32>, Problem>;

/// The vectors of a row group, one row after the other.
pub(super) enum Vectors {
    /// Why no row of the file has one.
    None(Problem),
    Column(Box<dyn Lists>),
}

impl Vectors {
    /// Opens the column called `name`: a list (of any length or of a fixed one, in the three levels of today or the two
    /// of old writers) of floats of 16, 32 or 64 bits or of integers.
    pub fn open(group: &Group<'_>, schema: &SchemaDescriptor, name: &str) -> Result<Self, Fault> {
        let Some((leaf, kind)) = find(schema, name) else { return Ok(Self::None(missing(name))) };
        let fields = schema.root_schema().get_fields();
        let field = fields.iter().find(|field| field.name() == name);
        let Some(element) = field.and_then(|field| element(field)) else {
            return Ok(Self::None(no_vector(name, &kind.name())));
        };
        let Some(number) = Number::of(element) else {
            let what = format!("a list of {}", Kind::of_values(element).name());
            return Ok(Self::None(no_vector(name, &what)));
        };
        let is_optional = element.get_basic_info().repetition() == Repetition::OPTIONAL;
        let open = Open { group, leaf, name, is_optional };
        Ok(Self::Column(match (group.column(leaf)?, number) {
            (ColumnReader::FloatColumnReader(reader), _) => open.typed(reader, |&x| x.into()),
            (ColumnReader::DoubleColumnReader(reader), _) => open.typed(reader, |&x| x),
            (ColumnReader::Int32ColumnReader(reader), Number::Unsigned) => {
                open.typed(reader, |&x| (x as u32).into())
            }
            (ColumnReader::Int32ColumnReader(reader), _) => open.typed(reader, |&x| x.into()),
            (ColumnReader::Int64ColumnReader(reader), Number::Unsigned) => {
                open.typed(reader, |&x| x as u64 as f64)
            }
            (ColumnReader::Int64ColumnReader(reader), _) => open.typed(reader, |&x| x as f64),
            (ColumnReader::FixedLenByteArrayColumnReader(reader), _) => open.typed(reader, half),
            _ => return Err(Fault::corrupt("a list of numbers that are none")),
        }))
    }

    /// The vector of the next row.
    pub fn next(&mut self) -> Result<Vector, Fault> {
        match self {
            Self::None(problem) => Ok(Err(problem.clone())),
            Self::Column(lists) => lists.next(),
        }
    }
}

fn half(bytes: &FixedLenByteArray) -> f64 {
    match *bytes.data() {
        [low, high] => f16::from_le_bytes([low, high]).to_f64(),
        // The reader gives values of the length that the schema has.
        _ => f64::NAN,
    }
}

/// What the elements of a list are, as far as their physical type does not say it.
enum Number {
    Signed,
    Unsigned,
    Float,
}

impl Number {
    fn of(element: &Type) -> Option<Self> {
        let is_half = element.get_basic_info().logical_type_ref() == Some(&LogicalType::Float16);
        match Kind::of_values(element) {
            Kind::Int { signed: true, .. } => Some(Self::Signed),
            Kind::Int { signed: false, .. } => Some(Self::Unsigned),
            Kind::Float { .. } => Some(Self::Float),
            _ => is_half.then_some(Self::Float),
        }
    }
}

/// The element of a list of values that are not lists or groups themselves.
pub(super) fn element(field: &Type) -> Option<&Type> {
    let is_repeated = |field: &Type| {
        let info = field.get_basic_info();
        info.has_repetition() && info.repetition() == Repetition::REPEATED
    };
    if field.is_primitive() {
        return is_repeated(field).then_some(field);
    }
    let info = field.get_basic_info();
    let is_list = info.logical_type_ref() == Some(&LogicalType::List)
        || info.converted_type() == ConvertedType::LIST;
    let [slot] = field.get_fields() else { return None };
    if !is_list || is_repeated(field) || !is_repeated(slot) {
        return None;
    }
    if slot.is_primitive() {
        return Some(slot);
    }
    let [element] = slot.get_fields() else { return None };
    (element.is_primitive() && !is_repeated(element)).then_some(element)
}

/// A column about to be read.
struct Open<'a> {
    group: &'a Group<'a>,
    leaf: usize,
    name: &'a str,
    /// Whether elements can be null.
    is_optional: bool,
}

impl Open<'_> {
    fn typed<T: DataType, F: Fn(&T::T) -> f64 + Send + 'static>(
        self,
        reader: ColumnReaderImpl<T>,
        number: F,
    ) -> Box<dyn Lists> {
        let descriptor = self.group.metadata.column(self.leaf).column_descr();
        Box::new(Typed {
            name: self.name.to_owned(),
            column: Column::new(self.group, self.leaf, reader),
            element_level: descriptor.max_def_level() - i16::from(self.is_optional),
            rows: Vec::new(),
            number,
        })
    }
}

/// Lists of a column, one row after the other.
pub(super) trait Lists: Send {
    fn next(&mut self) -> Result<Vector, Fault>;
}

struct Typed<T: DataType, F> {
    name: String,
    column: Column<T>,
    /// Definition level from which on there is an element.
    element_level: i16,
    /// Rows that are still to be taken, the next one last.
    rows: Vec<Vector>,
    number: F,
}

impl<T: DataType, F: Fn(&T::T) -> f64 + Send> Lists for Typed<T, F> {
    fn next(&mut self) -> Result<Vector, Fault> {
        if self.rows.is_empty() {
            self.column.read()?;
            self.rows = self.vectors();
            self.rows.reverse();
        }
        self.rows.pop().ok_or_else(|| Fault::corrupt("a column ends early"))
    }
}

impl<T: DataType, F: Fn(&T::T) -> f64 + Send> Typed<T, F> {
    fn vectors(&self) -> Vec<Vector> {
        let column = &self.column;
        let mut values = column.values.as_slice();
        let mut vectors = Vec::new();
        let mut start = 0;
        while start < column.n_levels() {
            let after = (start + 1..column.n_levels()).find(|&at| column.starts_row(at));
            let end = after.unwrap_or(column.n_levels());
            let n_values = (start..end).filter(|&at| column.has_value(at)).count();
            let (of_row, rest) = values.split_at(n_values);
            vectors.push(self.vector(&column.def_levels[start..end], of_row));
            values = rest;
            start = end;
        }
        vectors
    }

    /// The vector of a row with these definition levels and values that are not null.
    fn vector(&self, levels: &[i16], values: &[T::T]) -> Vector {
        let has_elements = levels[0] >= self.element_level;
        // Below an empty list is only one that is null.
        if levels[0] < self.element_level - 1 {
            return Err(no_vector(&self.name, "null"));
        }
        if has_elements && values.len() < levels.len() {
            return Err(no_vector(&self.name, "a list with null in it"));
        }
        finite(&self.name, values.iter().map(&self.number))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{
        ArrayBuilder, FixedSizeListBuilder, Float16Builder, Float32Builder, Float64Builder,
        Int8Builder, LargeListBuilder, ListBuilder, StringBuilder, UInt32Builder, UInt64Builder,
    };
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use crate::record::FieldNames;
    use crate::record::parquet::RowGroupReader;

    /// Vectors in `v` of the file's first row group, or the codes of their problems.
    fn read(bytes: &[u8]) -> Vec<Result<Vec<f32>, &'static str>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        std::fs::write(&path, bytes).unwrap();
        let names = FieldNames {
            text: "text".into(),
            id: "id".into(),
            rank: None,
            group: None,
            vector: Some("v".into()),
            reserved: Vec::new(),
        };
        let mut reader = RowGroupReader::open(&path, 0, &names).unwrap();
        let mut vectors = Vec::new();
        while let Some(batch) = reader.next_batch().unwrap() {
            assert_eq!(batch.vectors.len(), batch.rows.len());
            vectors.extend(batch.vectors);
        }
        vectors.into_iter().map(|vector| vector.map_err(|problem| problem.code)).collect()
    }

    fn file(name: &str, column: ArrayRef) -> Vec<u8> {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"; column.len()]));
        let columns = [("text", texts, false), (name, column, true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let mut bytes = Vec::new();
        let properties = WriterProperties::builder().build();
        let mut writer =
            ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    }

    /// Two rows of two elements that `push` puts into the builder of elements, by element.
    fn lists<B: ArrayBuilder>(elements: fn() -> B, push: impl Fn(&mut B, usize)) -> [ArrayRef; 3] {
        let mut list = ListBuilder::new(elements());
        let mut large = LargeListBuilder::new(elements());
        let mut fixed = FixedSizeListBuilder::new(elements(), 2);
        for row in 0..2 {
            for at in 0..2 {
                push(list.values(), row * 2 + at);
                push(large.values(), row * 2 + at);
                push(fixed.values(), row * 2 + at);
            }
            list.append(true);
            large.append(true);
            fixed.append(true);
        }
        [Arc::new(list.finish()), Arc::new(large.finish()), Arc::new(fixed.finish())]
    }

    #[test]
    fn lists_of_every_kind_and_every_number_are_read() {
        let floats = [1.5, -2.0, 0.0, 65504.0];
        let all = [
            lists(Float16Builder::new, |b, i| b.append_value(half::f16::from_f64(floats[i]))),
            lists(Float32Builder::new, |b, i| b.append_value(floats[i] as f32)),
            lists(Float64Builder::new, |b, i| b.append_value(floats[i])),
        ];
        for column in all.into_iter().flatten() {
            let kind = column.data_type().clone();
            let expected = [Ok(vec![1.5, -2.0]), Ok(vec![0.0, 65504.0])];
            assert_eq!(read(&file("v", column)), expected, "{kind}");
        }
        let signed = lists(Int8Builder::new, |b, i| b.append_value([-128, 127, 0, 1][i]));
        for column in signed {
            assert_eq!(read(&file("v", column)), [Ok(vec![-128.0, 127.0]), Ok(vec![0.0, 1.0])]);
        }
        let large = [u32::MAX, 0, 1, 2];
        let expected = [Ok(vec![4294967296.0, 0.0]), Ok(vec![1.0, 2.0])];
        for column in lists(UInt32Builder::new, |b, i| b.append_value(large[i])) {
            assert_eq!(read(&file("v", column)), expected);
        }
        let larger = [u64::MAX, 0, 1, 2];
        for column in lists(UInt64Builder::new, |b, i| b.append_value(larger[i])) {
            assert_eq!(read(&file("v", column))[0], Ok(vec![18446744073709551616.0, 0.0]));
        }
    }

    #[test]
    fn a_row_without_a_vector_says_why_and_the_next_is_read() {
        let mut list = ListBuilder::new(Float64Builder::new());
        for row in [
            Some(vec![Some(1.0), Some(2.0)]),
            None,
            Some(vec![]),
            Some(vec![Some(1.0), None, Some(3.0)]),
            Some(vec![Some(f64::NAN)]),
            Some(vec![None]),
            Some(vec![Some(1e39)]),
            Some(vec![Some(4.0)]),
        ] {
            list.append_option(row);
        }
        let column: ArrayRef = Arc::new(list.finish());
        let expected = [
            Ok(vec![1.0, 2.0]),
            Err("field_type"),
            Err("dim_range"),
            Err("field_type"),
            Err("vector_not_finite"),
            Err("field_type"),
            Err("vector_not_finite"),
            Ok(vec![4.0]),
        ];
        assert_eq!(read(&file("v", Arc::clone(&column))), expected);
        assert_eq!(read(&file("w", column)), vec![Err("field_missing"); 8]);
    }

    #[test]
    fn other_columns_are_no_vectors() {
        let texts = lists(StringBuilder::new, |b, i| b.append_value(["1", "2", "3", "4"][i]));
        for column in texts {
            assert_eq!(read(&file("v", column)), [Err("field_type"), Err("field_type")]);
        }
        let flat: ArrayRef = Arc::new(StringArray::from(vec!["[1, 2]"]));
        assert_eq!(read(&file("v", flat)), [Err("field_type")]);
        let mut nested = ListBuilder::new(ListBuilder::new(Float32Builder::new()));
        nested.values().values().append_value(1.0);
        nested.values().append(true);
        nested.append(true);
        assert_eq!(read(&file("v", Arc::new(nested.finish()))), [Err("field_type")]);
    }

    #[test]
    fn lists_of_two_levels_are_read_as_old_writers_have_them() {
        for column in ["repeated float v;", "optional group v (LIST) { repeated float array; }"] {
            let schema = format!("message m {{ required binary text (UTF8); {column} }}");
            let schema = Arc::new(parse_message_type(&schema).unwrap());
            let optional = i16::from(column.starts_with("optional"));
            let mut bytes = Vec::new();
            let mut writer =
                SerializedFileWriter::new(&mut bytes, schema, Default::default()).unwrap();
            let mut group = writer.next_row_group().unwrap();
            let texts = [ByteArray::from("a"), ByteArray::from("b"), ByteArray::from("c")];
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let levels = [1, 1, 0, 1].map(|level| level + optional);
            let written = column.typed::<FloatType>().write_batch(
                &[1.0, 2.0, 3.0],
                Some(&levels),
                Some(&[0, 1, 0, 0]),
            );
            written.unwrap();
            column.close().unwrap();
            group.close().unwrap();
            writer.close().unwrap();
            assert_eq!(read(&bytes), [Ok(vec![1.0, 2.0]), Err("dim_range"), Ok(vec![3.0])]);
        }
    }
}
