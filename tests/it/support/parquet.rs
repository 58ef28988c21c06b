//! Small Parquet files, and the texts in them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::WriterProperties;

/// A file with this text in a column of this name, and an `n` beside it, in row groups of `rows` rows.
pub fn with_texts(column: &str, texts: &[String], rows: usize) -> Vec<u8> {
    let numbers: Int64Array = (0..texts.len() as i64).collect();
    let strings: StringArray = texts.iter().map(Some).collect();
    write(vec![(column, Arc::new(strings)), ("n", Arc::new(numbers))], rows)
}

/// A file whose column `text` holds numbers.
pub fn with_numbers() -> Vec<u8> {
    write(vec![("text", Arc::new((0..9).collect::<Int64Array>()))], 9)
}

/// A file of texts and of vectors in lists of a column `v`, which has nulls for `None`.
pub fn with_vectors(texts: &[String], vectors: &[Option<Vec<f32>>], rows: usize) -> Vec<u8> {
    let strings: StringArray = texts.iter().map(Some).collect();
    let mut lists = ListBuilder::new(Float32Builder::new());
    for vector in vectors {
        lists.append_option(vector.as_ref().map(|vector| vector.iter().copied().map(Some)));
    }
    write(vec![("text", Arc::new(strings)), ("v", Arc::new(lists.finish()))], rows)
}

/// A file of texts and of vectors in lists of one fixed length.
pub fn with_fixed_vectors(texts: &[String], vectors: &[Vec<f32>], rows: usize) -> Vec<u8> {
    let strings: StringArray = texts.iter().map(Some).collect();
    let mut lists = FixedSizeListBuilder::new(Float32Builder::new(), vectors[0].len() as i32);
    for vector in vectors {
        lists.values().append_slice(vector);
        lists.append(true);
    }
    write(vec![("text", Arc::new(strings)), ("v", Arc::new(lists.finish()))], rows)
}

/// A file of these columns, in row groups of `rows` rows.
pub fn write(columns: Vec<(&str, ArrayRef)>, rows: usize) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows))
        .set_dictionary_enabled(false)
        .build();
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).expect("a plain schema");
    writer.write(&batch).expect("memory");
    writer.close().expect("memory");
    bytes
}

/// Texts of a file, in order.
pub fn texts(path: &Path) -> Vec<String> {
    let file = File::open(path).expect("our own output");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build();
    let mut texts = Vec::new();
    for batch in reader.expect("Parquet") {
        let batch = batch.expect("Parquet");
        let column = batch.column_by_name("text").expect("a column `text`");
        let column = column.as_string::<i32>();
        texts.extend(column.iter().map(|text| text.expect("no nulls").to_owned()));
    }
    texts
}

/// First byte of the data pages of column `text` in each row group.
pub fn page_starts(path: &Path) -> Vec<usize> {
    let file = File::open(path).expect("our own file");
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).expect("Parquet");
    let starts = metadata.row_groups().iter().map(|group| group.column(0).data_page_offset());
    starts.map(|start| start as usize).collect()
}
