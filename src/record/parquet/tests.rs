//! Files written by arrow-rs, read, copied, turned into JSON and damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder, MapBuilder};
use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float64Array,
    Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray, StructArray,
    TimestampMillisecondArray, UInt8Array, UInt64Array,
};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::TempDir;

use super::file::ParquetFile;
use super::*;
use crate::error::Error;
use crate::record::{Annotation, FieldNames, Fields};

/// What the tests read of every file.
fn names() -> FieldNames {
    FieldNames {
        text: "text".to_owned(),
        id: "id".to_owned(),
        rank: Some("score".to_owned()),
        group: Some("lang".to_owned()),
        vector: None,
        reserved: Vec::new(),
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap()
}

/// Six rows of every kind of column, the fifth without text.
fn mixed() -> RecordBatch {
    let mut lists = ListBuilder::new(Int32Builder::new());
    for row in [Some(vec![1, 2, 3]), None, Some(vec![]), Some(vec![4]), None, Some(vec![5, 6])] {
        lists.append_option(row.map(|row| row.into_iter().map(Some)));
    }
    let lang: DictionaryArray<Int8Type> =
        vec![Some("en"), Some("de"), None, Some("en"), Some("en"), Some("de")]
            .into_iter()
            .collect();
    let names: ArrayRef =
        Arc::new(StringArray::from(vec![Some("a"), None, Some("c"), Some("d"), None, Some("f")]));
    let sizes: ArrayRef = Arc::new(UInt8Array::from(vec![1, 2, 3, 4, 5, 255]));
    let meta = StructArray::from(vec![
        (Arc::new(Field::new("name", DataType::Utf8, true)), names),
        (Arc::new(Field::new("size", DataType::UInt8, false)), sizes),
    ]);
    let price = Decimal128Array::from(vec![150, -250, 0, 1, 2, 3]).with_precision_and_scale(20, 2);
    batch(vec![
        ("id", Arc::new(Int64Array::from(vec![10, 11, 12, 13, 14, 15])) as ArrayRef),
        (
            "text",
            Arc::new(StringArray::from(vec![
                Some("one"),
                Some("two \"quoted\"\nlines"),
                Some("three é 語"),
                Some(""),
                None,
                Some("six"),
            ])),
        ),
        ("score", Arc::new(Float64Array::from(vec![0.5, f64::NAN, 2.0, -1.0, 0.0, 7.25]))),
        ("lang", Arc::new(lang)),
        ("numbers", Arc::new(lists.finish())),
        ("meta", Arc::new(meta)),
        ("price", Arc::new(price.unwrap())),
        ("raw", Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b"", b"a", b"b", b"c", b"d"]))),
        ("ok", Arc::new(BooleanArray::from(vec![true, false, true, true, false, false]))),
        (
            "at",
            Arc::new(
                TimestampMillisecondArray::from(vec![
                    Some(0),
                    None,
                    Some(1),
                    Some(2),
                    None,
                    Some(3),
                ])
                .with_timezone("UTC"),
            ),
        ),
    ])
}

fn write(path: &Path, batch: &RecordBatch, properties: WriterPropertiesBuilder) {
    let file = fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// A file of the rows of [`mixed`] in row groups of 4 and 2.
fn mixed_file(folder: &TempDir, compression: Compression) -> PathBuf {
    let path = folder.path().join("mixed.parquet");
    let pair = KeyValue::new("origin".to_owned(), "a test".to_owned());
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(4))
        .set_key_value_metadata(Some(vec![pair]));
    write(&path, &mixed(), properties);
    path
}

fn read_group(path: &Path, index: usize, names: &FieldNames) -> Result<Vec<Row>, Problem> {
    let mut reader = RowGroupReader::open(path, index, names)?;
    let mut rows = Vec::new();
    while let Some(batch) = reader.next_batch()? {
        assert!(!batch.rows.is_empty());
        let texts = batch.rows.iter().flatten().map(|fields| fields.text.len() as u64);
        assert_eq!(batch.bytes, texts.sum::<u64>());
        rows.extend(batch.rows);
    }
    Ok(rows)
}

type Row = Result<Fields, Problem>;

fn read_all(path: &Path, names: &FieldNames) -> Vec<Row> {
    let n_groups = row_groups(path).unwrap().len();
    (0..n_groups).flat_map(|index| read_group(path, index, names).unwrap()).collect()
}

fn json_group(path: &Path, index: usize) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    rows_as_json(path, index, &mut |_, line| {
        lines.push(String::from_utf8(line.to_vec()).unwrap());
        Ok(())
    })?;
    Ok(lines)
}

fn json_all(path: &Path) -> Vec<String> {
    let n_groups = row_groups(path).unwrap().len();
    (0..n_groups).flat_map(|index| json_group(path, index).unwrap()).collect()
}

fn code(row: &Row) -> &'static str {
    row.as_ref().map_or_else(|problem| problem.code, |_| "ok")
}

#[test]
fn reads_text_id_rank_and_group_of_every_row() {
    let folder = TempDir::new().unwrap();
    let path = mixed_file(&folder, Compression::SNAPPY);
    assert_eq!(row_groups(&path).unwrap(), [4, 2]);
    let rows = read_all(&path, &names());
    let one = Fields {
        id: Some("10".to_owned()),
        text: "one".to_owned(),
        rank: Some(0.5),
        group: Some("\"en\"".to_owned()),
    };
    assert_eq!(rows[0], Ok(one));
    let two = rows[1].as_ref().unwrap();
    assert_eq!((two.text.as_str(), two.rank), ("two \"quoted\"\nlines", None));
    assert_eq!(rows[2].as_ref().unwrap().group, None);
    let message = "\"text\" is null, expected a string";
    assert_eq!(rows[4], Err(Problem::new("field_type", message)));
    assert_eq!(rows[5].as_ref().unwrap().id.as_deref(), Some("15"));
    let mut second = RowGroupReader::open(&path, 1, &names()).unwrap();
    assert_eq!(second.next_batch().unwrap().unwrap().first_row, 4);
}

#[test]
fn text_may_be_any_of_arrows_strings_in_any_compression() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("strings.parquet");
    let texts: Vec<String> = (0..3000).map(|n| format!("text {}", n % 700)).collect();
    let arrays: [ArrayRef; 4] = [
        Arc::new(StringArray::from(texts.clone())),
        Arc::new(LargeStringArray::from(texts.clone())),
        Arc::new(StringViewArray::from(texts.clone())),
        Arc::new(
            texts
                .iter()
                .map(|text| Some(text.as_str()))
                .collect::<DictionaryArray<arrow_array::types::Int32Type>>(),
        ),
    ];
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let gzip = Compression::GZIP(GzipLevel::default());
    let brotli = Compression::BROTLI(Default::default());
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        zstd,
        gzip,
        brotli,
        Compression::LZ4,
        Compression::LZ4_RAW,
    ] {
        for array in &arrays {
            let properties = WriterProperties::builder().set_compression(compression);
            write(&path, &batch(vec![("text", Arc::clone(array))]), properties);
            let rows = read_all(&path, &names());
            assert_eq!(rows.len(), texts.len());
            for (row, text) in rows.iter().zip(&texts) {
                assert_eq!(row.as_ref().unwrap().text, *text);
            }
        }
    }
}

#[test]
fn every_encoding_of_text_is_read_and_copied() {
    let folder = TempDir::new().unwrap();
    let (path, copied) = (folder.path().join("in.parquet"), folder.path().join("out.parquet"));
    let texts: Vec<Option<String>> =
        (0..3000).map(|n| (n % 7 != 3).then(|| format!("prefix {:05} suffix", n * 7))).collect();
    let column: ArrayRef = Arc::new(StringArray::from(texts));
    for encoding in [Encoding::PLAIN, Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY]
    {
        for version in [1, 2] {
            let version =
                if version == 1 { WriterVersion::PARQUET_1_0 } else { WriterVersion::PARQUET_2_0 };
            let properties = WriterProperties::builder()
                .set_dictionary_enabled(false)
                .set_writer_version(version)
                .set_data_page_row_count_limit(500)
                .set_compression(Compression::GZIP(GzipLevel::default()))
                .set_encoding(encoding);
            write(&path, &batch(vec![("text", Arc::clone(&column))]), properties);
            copy_rows(&path, &copied, "text", &[], false, &mut |_| RowFate::Keep).unwrap();
            assert_eq!(read_all(&path, &names()), read_all(&copied, &names()), "{encoding}");
            let copied = ParquetFile::open(&copied).unwrap();
            let mut encodings = copied.metadata().row_group(0).column(0).encodings();
            assert!(encodings.any(|used| used == encoding), "{encoding} is kept");
        }
    }
}

#[test]
fn rows_are_problems_if_the_text_column_is_missing_or_of_another_type() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("wrong.parquet");
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"a"[..], b"b"]));
    for (name, column, message) in [
        ("body", &numbers, "no field \"text\""),
        ("text", &numbers, "\"text\" is Int64, expected a string"),
        ("text", &bytes, "\"text\" is Binary, expected a string"),
    ] {
        write(&path, &batch(vec![(name, Arc::clone(column))]), WriterProperties::builder());
        let rows = read_all(&path, &names());
        assert_eq!(rows.len(), 2, "nothing is lost");
        assert!(rows.iter().all(|row| row.as_ref().unwrap_err().message == message));
    }
    let path = mixed_file(&folder, Compression::UNCOMPRESSED);
    let other = FieldNames { text: "meta".to_owned(), ..names() };
    assert_eq!(code(&read_all(&path, &other)[0]), "field_type");
    let nested = FieldNames { text: "meta.name".to_owned(), ..names() };
    assert_eq!(code(&read_all(&path, &nested)[0]), "field_missing");
    let listed = FieldNames { id: "numbers".to_owned(), ..names() };
    let message = "\"numbers\" is List, expected a string, number or boolean";
    assert_eq!(read_all(&path, &listed)[0], Err(Problem::new("field_type", message)));
    let taken =
        FieldNames { reserved: vec!["nearkin_kept".to_owned(), "ok".to_owned()], ..names() };
    assert_eq!(code(&read_all(&path, &taken)[5]), "annotate_key_taken");
}

#[test]
fn ids_ranks_and_groups_may_be_numbers_booleans_and_decimals() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("typed.parquet");
    let price = Decimal128Array::from(vec![Some(-150), None]).with_precision_and_scale(30, 2);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("text", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("id", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("score", Arc::new(price.unwrap())),
        ("lang", Arc::new(BooleanArray::from(vec![Some(true), None]))),
    ];
    write(&path, &batch(columns), WriterProperties::builder());
    let rows = read_all(&path, &names());
    let first = rows[0].as_ref().unwrap();
    assert_eq!(first.id.as_deref(), Some("18446744073709551615"));
    assert_eq!((first.rank, first.group.as_deref()), (Some(-1.5), Some("true")));
    let second = Fields { text: "b".to_owned(), ..Fields::default() };
    assert_eq!(rows[1], Ok(second));
}

#[test]
fn copies_kept_rows_with_every_column_and_all_metadata() {
    let folder = TempDir::new().unwrap();
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let path = mixed_file(&folder, zstd);
    let copied = folder.path().join("copied.parquet");
    let keep = [true, false, true, true, true, true];
    let mut asked = Vec::new();
    let n = copy_rows(&path, &copied, "text", &[], false, &mut |row| {
        asked.push(row);
        if keep[row as usize] { RowFate::Keep } else { RowFate::Drop }
    });
    assert_eq!((n.unwrap(), asked), (5, vec![0, 1, 2, 3, 4, 5]));
    assert_eq!(row_groups(&copied).unwrap(), [3, 2]);
    let expected: Vec<_> =
        json_all(&path).into_iter().zip(keep).filter(|row| row.1).map(|row| row.0).collect();
    assert_eq!(json_all(&copied), expected);

    let (before, after) = (ParquetFile::open(&path).unwrap(), ParquetFile::open(&copied).unwrap());
    assert_eq!(before.schema(), after.schema());
    let key_values =
        |file: &ParquetFile| file.metadata().file_metadata().key_value_metadata().cloned();
    assert_eq!(key_values(&before), key_values(&after));
    let chunks = after.metadata().row_groups().iter().flat_map(|group| group.columns());
    assert!(chunks.clone().count() > 0);
    chunks.for_each(|chunk| assert_eq!(chunk.compression(), zstd));
}

#[test]
fn copies_leave_out_skipped_and_empty_row_groups() {
    let folder = TempDir::new().unwrap();
    let path = mixed_file(&folder, Compression::SNAPPY);
    let copied = folder.path().join("copied.parquet");
    let mut asked = Vec::new();
    let n = copy_rows(&path, &copied, "text", &[0], false, &mut |row| {
        asked.push(row);
        RowFate::Keep
    });
    assert_eq!((n.unwrap(), asked), (2, vec![4, 5]));
    assert_eq!(json_all(&copied), json_group(&path, 1).unwrap());
    let n = copy_rows(&path, &copied, "text", &[], false, &mut |row| {
        if row < 4 { RowFate::Drop } else { RowFate::Keep }
    });
    assert_eq!((n.unwrap(), row_groups(&copied).unwrap()), (2, vec![2]));
    assert_eq!(copy_rows(&path, &copied, "text", &[], false, &mut |_| RowFate::Drop), Ok(0));
    assert_eq!(row_groups(&copied).unwrap(), Vec::<u64>::new());
}

#[test]
fn edited_texts_replace_the_old_ones_and_annotations_are_columns() {
    let folder = TempDir::new().unwrap();
    let path = mixed_file(&folder, Compression::SNAPPY);
    let copied = folder.path().join("copied.parquet");
    let annotation = Annotation {
        cluster: Some(7),
        cluster_size: 3,
        kept: false,
        similarity: Some(0.875),
        weight: 0.25,
    };
    let n = copy_rows(&path, &copied, "text", &[], true, &mut |row| match row {
        0 => RowFate::Edited("new".to_owned()),
        1 => RowFate::Drop,
        2 => RowFate::Annotated(annotation.clone()),
        _ => RowFate::Keep,
    });
    assert_eq!(n.unwrap(), 5);
    let lines: Vec<serde_json::Value> =
        json_all(&copied).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["text"], "new");
    assert_eq!(lines[0]["id"], 10);
    assert!(lines[0]["nearkin_cluster"].is_null());
    let added = ["cluster", "cluster_size", "kept", "similarity", "weight"];
    let added = added.map(|name| lines[1][format!("nearkin_{name}")].to_string());
    assert_eq!(added, ["7", "3", "false", "0.875", "0.25"]);
    assert_eq!(lines[4]["nearkin_weight"], 1.0);
    // Arrow's own schema knows the new columns: the dictionary is still one, and the file opens.
    let file = fs::File::open(&copied).unwrap();
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert!(matches!(reader.schema().field(3).data_type(), DataType::Dictionary(..)));
    assert_eq!(reader.schema().field(10).data_type(), &DataType::UInt64);
    assert_eq!(reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 5);
}

#[test]
fn rows_become_json_with_every_column_in_order() {
    let folder = TempDir::new().unwrap();
    let path = mixed_file(&folder, Compression::SNAPPY);
    let lines = json_all(&path);
    let first = r#"{"id":10,"text":"one","score":0.5,"lang":"en","numbers":[1,2,3],"#.to_owned()
        + r#""meta":{"name":"a","size":1},"price":1.50,"raw":"00ff","ok":true,"#
        + r#""at":"1970-01-01T00:00:00Z"}"#;
    assert_eq!(lines[0], first);
    let second = r#"{"id":11,"text":"two \"quoted\"\nlines","score":null,"lang":"de","#.to_owned()
        + r#""numbers":null,"meta":{"name":null,"size":2},"price":-2.50,"raw":"","#
        + r#""ok":false,"at":null}"#;
    assert_eq!(lines[1], second);
    let mut rows = Vec::new();
    let stopped = rows_as_json(&path, 1, &mut |row, _| {
        rows.push(row);
        Err(Error::usage("stop", "enough"))
    });
    assert_eq!((stopped.unwrap_err().code(), rows), ("stop", vec![4]));
}

fn to_parquet(path: &Path, lines: &[&str]) -> Result<u64, Error> {
    let mut schema = SchemaBuilder::new();
    lines.iter().try_for_each(|line| schema.observe(line.as_bytes()))?;
    let mut sink = JsonSink::create(path, schema.finish()?)?;
    lines.iter().try_for_each(|line| sink.write(line.as_bytes()))?;
    sink.finish()
}

#[test]
fn json_lines_become_rows_and_come_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("lines.parquet");
    let lines = [
        concat!(
            r#"{"text":"a \"b\"\n","n":1,"big":9007199254740993,"#,
            r#""deep":{"x":[1,2.5],"y":null},"tags":[]}"#
        ),
        concat!(
            r#"{"n":2.5,"text":"é","deep":{"x":[],"z":[{"k":true}]},"#,
            r#""tags":[],"huge":18446744073709551615}"#
        ),
        r#"{"text":null,"id":"7"}"#,
    ];
    assert_eq!(to_parquet(&path, &lines).unwrap(), 3);
    let back = json_all(&path);
    let first = r#"{"text":"a \"b\"\n","n":1.0,"big":9007199254740993,"#.to_owned()
        + r#""deep":{"x":[1.0,2.5],"y":null,"z":null},"tags":[],"huge":null,"id":null}"#;
    assert_eq!(back[0], first);
    let second = r#"{"text":"é","n":2.5,"big":null,"deep":{"x":[],"y":null,"z":[{"k":true}]},"#
        .to_owned()
        + r#""tags":[],"huge":18446744073709551615,"id":null}"#;
    assert_eq!(back[1], second);
    let file = ParquetFile::open(&path).unwrap();
    assert!(matches!(file.metadata().row_group(0).column(0).compression(), Compression::ZSTD(_)));
}

#[test]
fn many_json_lines_keep_their_order_and_number() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("lines.parquet");
    let lines: Vec<String> =
        (0..5000).map(|n| format!(r#"{{"text":"row {n}","n":{n}}}"#)).collect();
    let refs: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(to_parquet(&path, &refs).unwrap(), 5000);
    assert_eq!(json_all(&path), lines);
}

#[test]
fn types_that_do_not_go_together_are_named_with_their_lines() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("lines.parquet");
    let conflict = |lines: &[&str]| to_parquet(&path, lines).unwrap_err().to_string();
    assert_eq!(
        conflict(&[r#"{"id":null}"#, r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":"x"}"#]),
        "schema_conflict: field \"id\" is a string on line 4 but an integer on line 2"
    );
    assert_eq!(
        conflict(&[r#"{"m":{"a":[{"b":1}]}}"#, r#"{"m":{"a":[{"b":{}}]}}"#]),
        "schema_conflict: field \"m.a[].b\" is an object on line 2 but an integer on line 1"
    );
    assert_eq!(
        conflict(&[r#"{"n":1}"#, r#"{"n":9007199254740993}"#, r#"{"n":0.5}"#]),
        "schema_conflict: field \"n\" is a fraction on line 3 but an integer beyond 2^53 on line 2"
    );
    assert!(conflict(&[r#"{"n":18446744073709551615}"#, r#"{"n":-1}"#]).contains("a negative"));
    assert!(conflict(&[r#"{"a":{}}"#]).contains("empty object (line 1)"));
    assert!(conflict(&["[1]"]).starts_with("json_invalid: line 1"));
    assert!(conflict(&["{\"a\":1} x"]).starts_with("json_invalid: line 1"));
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(60), "]".repeat(60));
    assert!(conflict(&[&deep]).starts_with("schema_size: line 1"));
    let mut schema = SchemaBuilder::new();
    schema.observe(br#"{"a":1}"#).unwrap();
    let mut sink = JsonSink::create(&path, schema.finish().unwrap()).unwrap();
    assert!(sink.write(br#"{"b":1}"#).is_err() || sink.finish().is_err(), "no field is lost");
}

#[test]
fn files_of_no_rows_and_no_columns_are_read_and_copied() {
    let folder = TempDir::new().unwrap();
    let (path, copied) = (folder.path().join("empty.parquet"), folder.path().join("out.parquet"));
    write(&path, &mixed().slice(0, 0), WriterProperties::builder());
    assert_eq!(read_all(&path, &names()), []);
    assert_eq!(copy_rows(&path, &copied, "text", &[], true, &mut |_| RowFate::Keep), Ok(0));
    assert_eq!(row_groups(&copied).unwrap().iter().sum::<u64>(), 0);
    assert_eq!(to_parquet(&path, &[]).unwrap(), 0);
    assert_eq!(row_groups(&path).unwrap().iter().sum::<u64>(), 0);
}

#[test]
fn batches_stay_small_when_a_dictionary_names_one_long_text_often() {
    let folder = TempDir::new().unwrap();
    let (path, copied) = (folder.path().join("long.parquet"), folder.path().join("out.parquet"));
    let long = "long ".repeat(20_000);
    let texts: DictionaryArray<Int8Type> = (0..1000).map(|_| Some(long.as_str())).collect();
    write(&path, &batch(vec![("text", Arc::new(texts))]), WriterProperties::builder());
    let mut reader = RowGroupReader::open(&path, 0, &names()).unwrap();
    let (mut n_rows, mut largest) = (0, 0);
    while let Some(batch) = reader.next_batch().unwrap() {
        n_rows += batch.rows.len();
        largest = largest.max(batch.bytes);
    }
    assert_eq!(n_rows, 1000);
    assert!(largest <= 1_200_000, "{largest} bytes in one batch");
    let mut keep = |row| if row % 10 == 0 { RowFate::Keep } else { RowFate::Drop };
    assert_eq!(copy_rows(&path, &copied, "text", &[], false, &mut keep), Ok(100));
    let mut bytes = 0;
    rows_as_json(&copied, 0, &mut |_, line| {
        bytes += line.len();
        Ok(())
    })
    .unwrap();
    assert!(bytes > 100 * long.len());
}

#[test]
fn a_text_over_the_limit_is_one_problem_between_good_rows() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("long.parquet");
    let long = "x".repeat(crate::core::limits::RECORD_BYTES + 1);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["before", &long, "after"]));
    write(&path, &batch(vec![("text", texts)]), WriterProperties::builder());
    let rows = read_all(&path, &names());
    assert_eq!(rows.iter().map(code).collect::<Vec<_>>(), ["ok", "record_size", "ok"]);
}

/// Everything that can be done with a file; it must end, in whatever way, without a panic.
fn exercise(path: &Path, out: &Path) {
    let Ok(groups) = row_groups(path) else { return };
    let mut unreadable = Vec::new();
    for (index, &n_rows) in groups.iter().enumerate() {
        match read_group(path, index, &names()) {
            Ok(rows) => assert_eq!(rows.len() as u64, n_rows),
            Err(problem) => {
                assert!(problem.message.contains(&format!("row group {index}")), "{problem:?}");
                unreadable.push(index);
            }
        }
        let _ = json_group(path, index);
    }
    let copied = copy_rows(path, out, "text", &unreadable, true, &mut |row| match row % 3 {
        0 => RowFate::Keep,
        _ => RowFate::Drop,
    });
    if let Ok(n) = copied {
        assert_eq!(row_groups(out).unwrap().iter().sum::<u64>(), n);
    }
}

#[test]
fn damage_anywhere_ends_in_problems_and_never_in_a_panic() {
    let folder = TempDir::new().unwrap();
    let (damaged, out) = (folder.path().join("d.parquet"), folder.path().join("out.parquet"));
    let path = mixed_file(&folder, Compression::SNAPPY);
    let good = fs::read(&path).unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..400 {
        let mut bytes = good.clone();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = (random >> 16) as usize % bytes.len();
        bytes[at] ^= [0xff, 0x01, 0x80, 0x10][random as usize % 4];
        fs::write(&damaged, bytes).unwrap();
        exercise(&damaged, &out);
    }
}

#[test]
fn a_cut_footer_and_a_wrong_magic_are_named() {
    let folder = TempDir::new().unwrap();
    let path = mixed_file(&folder, Compression::SNAPPY);
    let good = fs::read(&path).unwrap();
    let problem = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        row_groups(&path).unwrap_err()
    };
    let cut = problem(&good[..good.len() - 100]);
    assert_eq!(cut.code, "parquet_corrupt");
    assert!(cut.message.starts_with("mixed.parquet: expected PAR1 at the end"), "{}", cut.message);
    let mut other = good.clone();
    other[..4].copy_from_slice(b"PK\x03\x04");
    assert!(problem(&other).message.contains("expected PAR1 at the start, found PK\\x03\\x04"));
    let mut long = good.clone();
    let at = good.len() - 8;
    long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(problem(&long).message.contains("a footer of 4294967295 bytes"));
    let mut secret = good.clone();
    secret[at + 4..].copy_from_slice(b"PARE");
    assert_eq!(problem(&secret).code, "parquet_unsupported");
    assert_eq!(problem(b"PAR1").code, "parquet_corrupt");
    fs::remove_file(&path).unwrap();
    assert_eq!(row_groups(&path).unwrap_err().code, "input_unreadable");
}

#[test]
fn one_damaged_row_group_leaves_the_others_readable() {
    let folder = TempDir::new().unwrap();
    let path = mixed_file(&folder, Compression::SNAPPY);
    let file = ParquetFile::open(&path).unwrap();
    // A column that no record is made of: its rows could not be carried over.
    let (start, len) = file.metadata().row_group(0).column(7).byte_range();
    let mut bytes = fs::read(&path).unwrap();
    bytes[start as usize..(start + len) as usize].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let problem = read_group(&path, 0, &names()).unwrap_err();
    assert_eq!(problem.code, "parquet_corrupt");
    let expected = "mixed.parquet row group 0: column \"price\": ";
    assert!(problem.message.starts_with(expected), "{}", problem.message);
    assert_eq!(read_group(&path, 1, &names()).unwrap().len(), 2);
    let copied = folder.path().join("copied.parquet");
    assert_eq!(copy_rows(&path, &copied, "text", &[0], false, &mut |_| RowFate::Keep), Ok(2));
    let failed = copy_rows(&path, &copied, "text", &[], false, &mut |_| RowFate::Keep);
    assert_eq!(failed.unwrap_err().code(), "parquet_corrupt");
}

/// A file of one row group with columns as `schema` has them, each of the given bytes.
fn write_bytes(path: &Path, schema: &str, columns: &[&[&[u8]]]) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for values in columns {
        let values: Vec<ByteArray> = values.iter().map(|value| value.to_vec().into()).collect();
        let levels = vec![1; values.len()];
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn text_that_is_not_utf8_is_one_problem_between_good_rows() {
    let folder = TempDir::new().unwrap();
    let (path, copied) = (folder.path().join("bad.parquet"), folder.path().join("out.parquet"));
    let schema = "message m { optional binary text (UTF8); optional binary lang (ENUM); \
                  required group deep { optional binary name (UTF8); } }";
    let names_: &[&[u8]] = &[b"x", b"y", b"\x80z"];
    write_bytes(&path, schema, &[&[b"one", b"tw\xff", b"three"], &[b"A", b"B", b"A"], names_]);
    let rows = read_all(&path, &names());
    assert_eq!(rows[1], Err(Problem::new("utf8_invalid", "byte 2 of \"text\"")));
    assert_eq!(rows[2].as_ref().unwrap().group.as_deref(), Some("\"A\""));
    check_json(&path, 0).unwrap();
    assert_eq!(
        json_all(&path)[1],
        "{\"text\":\"tw\u{fffd}\",\"lang\":\"B\",\"deep\":{\"name\":\"y\"}}"
    );
    assert_eq!(copy_rows(&path, &copied, "text", &[], false, &mut |_| RowFate::Keep), Ok(3));
    assert_eq!(read_all(&copied, &names()), rows);
}

#[test]
fn maps_with_keys_that_json_has_not_are_found_beforehand() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("map.parquet");
    let mut map = MapBuilder::new(None, Int32Builder::new(), Int32Builder::new());
    map.keys().append_value(1);
    map.values().append_value(2);
    map.append(true).unwrap();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let columns = vec![("text", text), ("map", Arc::new(map.finish()) as ArrayRef)];
    write(&path, &batch(columns), WriterProperties::builder());
    assert_eq!(code(&read_all(&path, &names())[0]), "ok");
    let problem = check_json(&path, 0).unwrap_err();
    assert!(problem.message.starts_with("map.parquet row group 0: "), "{problem:?}");
}

#[test]
fn counts_that_ask_for_more_memory_than_the_page_has_values_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("count.parquet");
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a"; 3000]));
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_LENGTH_BYTE_ARRAY);
    write(&path, &batch(vec![("text", text)]), properties);
    let mut bytes = fs::read(&path).unwrap();
    // Blocks of 128 in 4 parts, and 3,000 values as a variable-length integer.
    let header = [0x80, 0x01, 0x04, 0xb8, 0x17];
    let at = bytes.windows(header.len()).position(|window| window == header).unwrap();
    bytes[at + 3..at + 5].copy_from_slice(&[0xff, 0x7f]);
    fs::write(&path, bytes).unwrap();
    let problem = read_group(&path, 0, &names()).unwrap_err();
    assert_eq!(problem.code, "parquet_corrupt");
    assert!(problem.message.ends_with("16383 values in a page of 3000"), "{problem:?}");
}
