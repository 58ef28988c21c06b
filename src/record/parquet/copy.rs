//! Kept rows, column by column, into a file of the same schema.
//!
//! Values and levels are copied as Parquet has them, not by way of Arrow, so that types that Arrow
//! has no match for come out as they went in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::Schema;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema, parquet_to_arrow_schema};
use parquet::basic::{Encoding, LogicalType, Repetition, Type as PhysicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{BoolType, ByteArray, DataType, DoubleType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::{
    SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter,
};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

use super::column::Column;
use super::file::{Group, ParquetFile, as_error};
use super::guard::{Fault, guarded};
use super::kind::find;
use super::output::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Annotation;

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowFate {
    /// It is left out.
    Drop,
    /// It is copied as it is.
    Keep,
    /// It is copied and annotated.
    Annotated(Annotation),
    /// It is copied with this text in place of its own.
    Edited(String),
}

/// Columns that `annotate` adds.
const ANNOTATIONS: [(&str, PhysicalType, Repetition); 5] = [
    ("nearkin_cluster", PhysicalType::INT64, Repetition::OPTIONAL),
    ("nearkin_cluster_size", PhysicalType::INT64, Repetition::REQUIRED),
    ("nearkin_kept", PhysicalType::BOOLEAN, Repetition::REQUIRED),
    ("nearkin_similarity", PhysicalType::DOUBLE, Repetition::OPTIONAL),
    ("nearkin_weight", PhysicalType::DOUBLE, Repetition::REQUIRED),
];

/// Copies the rows of `input` that `fate` keeps to `output`, every column untouched: same schema,
/// same compression, same metadata, same row groups less those that lose all rows. With `annotate`,
/// the `nearkin_` columns are added. `fate` is asked once for every row, by its number in the file
/// from 0, in order; the row groups in `skip`, from 0, are left out unasked. Returns the number of
/// rows written.
///
/// Memory: one page of one column, and the edited texts and annotations of one row group.
///
/// # Errors
/// If the output cannot be written, or a row group cannot be read that is not in `skip`.
pub fn copy_rows(
    input: &Path,
    output: &Path,
    text_field: &str,
    skip: &[usize],
    annotate: bool,
    fate: &mut dyn FnMut(u64) -> RowFate,
) -> Result<u64> {
    let input = ParquetFile::open(input).map_err(|problem| as_error(&problem))?;
    let target = Output::create(output)?;
    let groups = (0..input.metadata().num_row_groups()).filter(|index| !skip.contains(index));
    let annotate = annotate && !ANNOTATIONS.iter().any(|a| find(input.schema(), a.0).is_some());
    let writer = guarded(|| open_writer(&input, target.clone(), groups.clone().next(), annotate));
    let mut writer = writer.map_err(|fault| target.error(&fault))?;
    let mut n_rows = 0;
    for index in groups {
        let group = input.group(index).map_err(|problem| as_error(&problem))?;
        let plan = Plan::ask(&group, input.first_row(index), text_leaf(&input, text_field), fate)?;
        if plan.n_kept > 0 {
            let copied = guarded(|| copy_group(&group, &plan, &mut writer, annotate));
            copied.map_err(|fault| target.error_or(|| as_error(&group.problem(&fault))))?;
            n_rows += plan.n_kept;
        }
    }
    guarded(|| Ok(writer.finish()?)).map_err(|fault| target.error(&fault))?;
    target.finish()?;
    Ok(n_rows)
}

fn text_leaf(input: &ParquetFile, name: &str) -> Option<usize> {
    find(input.schema(), name).and_then(|(leaf, kind)| kind.is_text().then_some(leaf))
}

fn open_writer(
    input: &ParquetFile,
    output: Output,
    first_group: Option<usize>,
    annotate: bool,
) -> Result<SerializedFileWriter<Output>, Fault> {
    let schema = if annotate {
        annotated_schema(input.schema().root_schema())?
    } else {
        input.schema().root_schema_ptr()
    };
    let mut properties = WriterProperties::builder();
    if let Some(index) = first_group {
        properties = same_encodings(input, index, properties);
    }
    let properties = properties.set_key_value_metadata(key_values(input, annotate)).build();
    Ok(SerializedFileWriter::new(output, schema, Arc::new(properties))?)
}

/// Compression and encoding of each column as in row group `index`; levels of compression are not
/// written in files, and are the codecs' defaults.
fn same_encodings(
    input: &ParquetFile,
    index: usize,
    mut properties: WriterPropertiesBuilder,
) -> WriterPropertiesBuilder {
    let group = input.metadata().row_group(index);
    for chunk in group.columns() {
        let path = chunk.column_path().clone();
        let has_dictionary = chunk.dictionary_page_offset().is_some();
        properties = properties
            .set_column_compression(path.clone(), chunk.compression())
            .set_column_dictionary_enabled(path.clone(), has_dictionary);
        let plain = chunk.encodings().find(|&encoding| is_kept(encoding, chunk.column_type()));
        if let Some(encoding) = plain {
            properties = properties.set_column_encoding(path, encoding);
        }
    }
    // The added columns get what most of the file has, as far as one column can tell.
    if let Some(chunk) = group.columns().first() {
        properties = properties.set_compression(chunk.compression());
    }
    properties
}

/// Whether values that are in no dictionary are encoded as in the input; the default is PLAIN.
fn is_kept(encoding: Encoding, physical: PhysicalType) -> bool {
    match encoding {
        Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_BYTE_ARRAY => true,
        Encoding::BYTE_STREAM_SPLIT => true,
        Encoding::DELTA_LENGTH_BYTE_ARRAY => physical == PhysicalType::BYTE_ARRAY,
        _ => false,
    }
}

fn annotated_schema(root: &Type) -> Result<TypePtr, Fault> {
    let mut fields = root.get_fields().to_vec();
    for (name, physical, repetition) in ANNOTATIONS {
        let is_count = physical == PhysicalType::INT64;
        let logical = is_count.then(|| LogicalType::integer(64, false));
        let field = Type::primitive_type_builder(name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()?;
        fields.push(Arc::new(field));
    }
    Ok(Arc::new(Type::group_type_builder(root.name()).with_fields(fields).build()?))
}

/// The file's own metadata; Arrow's copy of the schema is made anew if columns are added, since
/// readers would find it to be that of another file.
fn key_values(input: &ParquetFile, annotate: bool) -> Option<Vec<KeyValue>> {
    let mut pairs = input.metadata().file_metadata().key_value_metadata().cloned()?;
    if annotate {
        // A copy of the schema that cannot be read is of no use to other readers either.
        let schema = guarded(|| annotated_arrow_schema(input)).ok();
        pairs.retain(|pair| pair.key != ARROW_SCHEMA_META_KEY || schema.is_some());
        for pair in pairs.iter_mut().filter(|pair| pair.key == ARROW_SCHEMA_META_KEY) {
            pair.value.clone_from(&schema);
        }
    }
    Some(pairs)
}

fn annotated_arrow_schema(input: &ParquetFile) -> Result<String, Fault> {
    let pairs = input.metadata().file_metadata().key_value_metadata();
    let old = parquet_to_arrow_schema(input.schema(), pairs)?;
    let added = annotated_schema(&Type::group_type_builder("added").build()?)?;
    let added = parquet_to_arrow_schema(&SchemaDescriptor::new(added), None)?;
    let fields: Vec<_> = old.fields().iter().chain(added.fields()).cloned().collect();
    Ok(encode_arrow_schema(&Schema::new_with_metadata(fields, old.metadata().clone())))
}

/// What becomes of the rows of one row group.
struct Plan {
    keep: Vec<bool>,
    n_kept: u64,
    /// Column and rows whose text is replaced.
    text: Option<usize>,
    edits: HashMap<usize, ByteArray>,
    /// Of the kept rows, if any is annotated.
    annotations: Vec<Annotation>,
}

impl Plan {
    fn ask(
        group: &Group<'_>,
        first_row: u64,
        text: Option<usize>,
        fate: &mut dyn FnMut(u64) -> RowFate,
    ) -> Result<Self> {
        let mut plan = Self {
            keep: Vec::new(),
            n_kept: 0,
            text,
            edits: HashMap::new(),
            annotations: Vec::new(),
        };
        for row in 0..group.n_rows() {
            let fate = fate(first_row + row);
            plan.keep.push(fate != RowFate::Drop);
            plan.n_kept += u64::from(fate != RowFate::Drop);
            match fate {
                RowFate::Drop | RowFate::Keep => {}
                RowFate::Annotated(annotation) => plan.annotate(annotation),
                RowFate::Edited(_) if text.is_none() => {
                    let message = format!("row {} has no text to edit", first_row + row + 1);
                    return Err(Error::new(ErrorKind::BadInput, "field_type", message));
                }
                RowFate::Edited(text) => {
                    plan.edits.insert(row as usize, text.into_bytes().into());
                }
            }
        }
        plan.pad(plan.n_kept);
        Ok(plan)
    }

    /// Annotates the row that was kept last.
    fn annotate(&mut self, annotation: Annotation) {
        self.pad(self.n_kept - 1);
        self.annotations.push(annotation);
    }

    /// Rows without an annotation are alone in no cluster.
    fn pad(&mut self, n: u64) {
        let alone = Annotation {
            cluster: None,
            cluster_size: 1,
            kept: true,
            similarity: None,
            weight: 1.0,
        };
        self.annotations.resize(n as usize, alone);
    }
}

fn copy_group(
    group: &Group<'_>,
    plan: &Plan,
    writer: &mut SerializedFileWriter<Output>,
    annotate: bool,
) -> Result<(), Fault> {
    let mut target = writer.next_row_group()?;
    for leaf in 0..group.metadata.num_columns() {
        let mut column = next_column(&mut target)?;
        copy_column(group, leaf, plan, &mut column)
            .map_err(|fault| group.in_column(leaf, &fault))?;
        column.close()?;
    }
    if annotate {
        write_annotations(&plan.annotations, &mut target)?;
    }
    target.close()?;
    Ok(())
}

fn next_column<'a>(
    target: &'a mut SerializedRowGroupWriter<'_, Output>,
) -> Result<SerializedColumnWriter<'a>, Fault> {
    target.next_column()?.ok_or_else(|| Fault::corrupt("the schema has fewer columns than rows"))
}

fn copy_column(
    group: &Group<'_>,
    leaf: usize,
    plan: &Plan,
    out: &mut SerializedColumnWriter<'_>,
) -> Result<(), Fault> {
    match group.column(leaf)? {
        ColumnReader::BoolColumnReader(reader) => copy(group, leaf, plan, reader, out.typed()),
        ColumnReader::Int32ColumnReader(reader) => copy(group, leaf, plan, reader, out.typed()),
        ColumnReader::Int64ColumnReader(reader) => copy(group, leaf, plan, reader, out.typed()),
        ColumnReader::Int96ColumnReader(reader) => copy(group, leaf, plan, reader, out.typed()),
        ColumnReader::FloatColumnReader(reader) => copy(group, leaf, plan, reader, out.typed()),
        ColumnReader::DoubleColumnReader(reader) => copy(group, leaf, plan, reader, out.typed()),
        ColumnReader::ByteArrayColumnReader(reader) if plan.text == Some(leaf) => {
            let edit = |row: usize, text| plan.edits.get(&row).cloned().unwrap_or(text);
            copy_with(group, leaf, plan, reader, out.typed(), &edit)
        }
        ColumnReader::ByteArrayColumnReader(reader) => copy(group, leaf, plan, reader, out.typed()),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            copy(group, leaf, plan, reader, out.typed())
        }
    }
}

fn copy<T: DataType>(
    group: &Group<'_>,
    leaf: usize,
    plan: &Plan,
    reader: ColumnReaderImpl<T>,
    out: &mut ColumnWriterImpl<'_, T>,
) -> Result<(), Fault> {
    copy_with(group, leaf, plan, reader, out, &|_, value| value)
}

/// Copies the levels and values of kept rows, each value as `edit` gives it back.
fn copy_with<T: DataType>(
    group: &Group<'_>,
    leaf: usize,
    plan: &Plan,
    reader: ColumnReaderImpl<T>,
    out: &mut ColumnWriterImpl<'_, T>,
    edit: &dyn Fn(usize, T::T) -> T::T,
) -> Result<(), Fault> {
    let mut column = Column::new(group, leaf, reader);
    let mut next_row = 0;
    loop {
        let n_rows = column.read()?;
        if n_rows == 0 {
            return Ok(());
        }
        let kept = column.keep(next_row, &plan.keep, edit)?;
        out.write_batch(&kept.values, some(&kept.def_levels), some(&kept.rep_levels))?;
        next_row += n_rows;
    }
}

/// Levels, if the column has any.
fn some(levels: &[i16]) -> Option<&[i16]> {
    (!levels.is_empty()).then_some(levels)
}

/// Levels and values of some rows.
struct Kept<T: DataType> {
    values: Vec<T::T>,
    def_levels: Vec<i16>,
    rep_levels: Vec<i16>,
}

impl<T: DataType> Column<T> {
    /// What is kept of the rows that were read, the first of which is `first_row`.
    fn keep(
        &mut self,
        first_row: usize,
        keep: &[bool],
        edit: &dyn Fn(usize, T::T) -> T::T,
    ) -> Result<Kept<T>, Fault> {
        let mut kept = Kept { values: Vec::new(), def_levels: Vec::new(), rep_levels: Vec::new() };
        let mut row = first_row.wrapping_sub(1);
        let n_levels = self.n_levels();
        let mut values = std::mem::take(&mut self.values).into_iter();
        for at in 0..n_levels {
            row = row.wrapping_add(usize::from(self.starts_row(at)));
            let is_kept = keep.get(row).copied().ok_or_else(|| Fault::corrupt("too many rows"))?;
            let value = if self.has_value(at) { values.next() } else { None };
            if is_kept {
                kept.values.extend(value.map(|value| edit(row, value)));
                kept.def_levels.extend(self.def_levels.get(at));
                kept.rep_levels.extend(self.rep_levels.get(at));
            }
        }
        Ok(kept)
    }
}

fn write_annotations(
    rows: &[Annotation],
    target: &mut SerializedRowGroupWriter<'_, Output>,
) -> Result<(), Fault> {
    let is_some = |some: bool| i16::from(some);
    let clusters: Vec<i64> = rows.iter().filter_map(|row| row.cluster).map(|n| n as i64).collect();
    let levels: Vec<i16> = rows.iter().map(|row| is_some(row.cluster.is_some())).collect();
    write::<Int64Type>(target, &clusters, Some(&levels))?;
    let sizes: Vec<i64> = rows.iter().map(|row| row.cluster_size as i64).collect();
    write::<Int64Type>(target, &sizes, None)?;
    let kept: Vec<bool> = rows.iter().map(|row| row.kept).collect();
    write::<BoolType>(target, &kept, None)?;
    let similarities: Vec<f64> = rows.iter().filter_map(|row| row.similarity).collect();
    let levels: Vec<i16> = rows.iter().map(|row| is_some(row.similarity.is_some())).collect();
    write::<DoubleType>(target, &similarities, Some(&levels))?;
    let weights: Vec<f64> = rows.iter().map(|row| row.weight).collect();
    write::<DoubleType>(target, &weights, None)
}

fn write<T: DataType>(
    target: &mut SerializedRowGroupWriter<'_, Output>,
    values: &[T::T],
    def_levels: Option<&[i16]>,
) -> Result<(), Fault> {
    let mut column = next_column(target)?;
    column.typed::<T>().write_batch(values, def_levels, None)?;
    Ok(column.close()?)
}
