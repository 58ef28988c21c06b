//! A collection is the same whatever format its points came in, and of a bad input nothing is stored.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use half::f16;
use nearkin::core::mix::stream;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Run, wait, zstd};

/// A folder of input files and of a folder of collections.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn save(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.at(name), bytes).unwrap();
        self.at(name).to_str().unwrap().to_owned()
    }

    /// `nearkin ingest` into a collection, with files of this folder after `--NAME=`.
    fn ingest(&self, collection: &str, args: &str) -> Run {
        self.ingest_from(collection, args, &[])
    }

    fn ingest_from(&self, collection: &str, args: &str, stdin: &[u8]) -> Run {
        let mut all = vec!["ingest".to_owned(), self.path("data"), "--collection".to_owned()];
        all.push(collection.to_owned());
        self.run(all, args, stdin)
    }

    fn path(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    fn run(&self, mut all: Vec<String>, args: &str, stdin: &[u8]) -> Run {
        for arg in args.split_whitespace() {
            // A name with a dot is a file here.
            all.push(match arg.split_once('=') {
                Some((name, file)) if file.contains('.') => format!("{name}={}", self.path(file)),
                _ => arg.to_owned(),
            });
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_nearkin"))
            .args(all)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // A run that was refused has stopped reading.
        let _ = pipe.write_all(stdin);
        drop(pipe);
        wait(child)
    }

    /// Ids and scores of all answers, exact: near ones depend on the way, which is chosen by measured times.
    fn search(&self, collection: &str, args: &str) -> Vec<(Value, Value)> {
        let out = self.path("r.jsonl");
        let all = ["search", &self.path("data"), "--collection", collection, "--out", &out];
        let all = all.iter().map(|&arg| arg.to_owned()).collect();
        let run = self.run(all, &format!("{args} --exact --overwrite --k=50"), &[]);
        assert_eq!(run.code, 0, "{collection}: {}", run.stderr);
        let line = |line: &str| {
            let answer: Value = serde_json::from_str(line).unwrap();
            (answer["ids"].clone(), answer["scores"].clone())
        };
        fs::read_to_string(&out).unwrap().lines().map(line).collect()
    }
}

const DIM: usize = 4;

/// Whole numbers from 1 to 255, which every element type has.
fn numbers(n_rows: usize) -> Vec<u8> {
    (0..(n_rows * DIM) as u64).map(|i| (stream(1, i) % 255) as u8 + 1).collect()
}

fn npy(kind: &str, n_rows: usize, bytes: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({n_rows}, {DIM}), }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(bytes);
    file
}

fn bytes<const N: usize>(numbers: &[u8], one: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|&x| one(f32::from(x))).collect()
}

/// Rows with the number of their elements in front.
fn vecs<const N: usize>(numbers: &[u8], one: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    let rows = numbers.chunks(DIM);
    rows.flat_map(|row| [(DIM as u32).to_le_bytes().to_vec(), bytes(row, &one)].concat()).collect()
}

fn payload(row: usize) -> Value {
    let (owner, kind) = (format!("t{}", row % 3), ["x", "y"][row % 2]);
    json!({"owner": owner, "size": row % 100, "kind": kind, "text": "a \"b\"\n"})
}

fn lines(all: impl Iterator<Item = Value>) -> String {
    all.map(|value| format!("{value}\n")).collect()
}

fn payloads(n_rows: usize) -> String {
    lines((0..n_rows).map(payload))
}

fn points(numbers: &[u8], id: impl Fn(usize) -> Value) -> String {
    let point = |(row, vector): (usize, &[u8])| json!({"id": id(row), "vector": vector, "payload": payload(row)});
    lines(numbers.chunks(DIM).enumerate().map(point))
}

const TENANT: &str = "--tenant-field=owner --index-field=size:integer";

/// Answers to all that a collection can be asked.
fn answers(place: &Place, collection: &str) -> Vec<Vec<(Value, Value)>> {
    let filter = r#"{"must":[{"key":"size","range":{"lt":50}}]}"#;
    let kind = r#"{"must":[{"key":"kind","match":{"value":"x"}}]}"#;
    [
        "".to_owned(),
        "--tenant=t1".to_owned(),
        format!("--filter={filter}"),
        format!("--filter={kind}"),
    ]
    .iter()
    .map(|args| place.search(collection, &format!("--vectors=q.npy {args}")))
    .collect()
}

fn ok(run: &Run, words: &str) {
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains(words), "{words}: {}", run.stdout);
}

fn save_queries(place: &Place, numbers: &[u8]) {
    place.save("q.npy", npy("<f4", 3, &bytes(&numbers[..3 * DIM], f32::to_le_bytes)));
}

#[test]
fn points_of_every_format_make_the_same_collection() {
    let (place, n) = (Place::new(), 90);
    let all = numbers(n);
    save_queries(&place, &all);
    place.save("p.jsonl", payloads(n));
    place.save("p.jsonl.zst", zstd(payloads(n).as_bytes(), true));
    place.save("f4.npy", npy("<f4", n, &bytes(&all, f32::to_le_bytes)));
    place.save("f8.npy", npy("<f8", n, &bytes(&all, |x| f64::from(x).to_le_bytes())));
    place.save("f2.npy", npy("<f2", n, &bytes(&all, |x| f16::from_f32(x).to_le_bytes())));
    place.save("u1.npy", npy("|u1", n, &all));
    place.save("x.fvecs", vecs(&all, f32::to_le_bytes));
    place.save("x.bvecs", vecs(&all, |x| [x as u8]));
    place.save("points.jsonl", points(&all, |row| json!(row)));
    place.save("none.jsonl.zst", zstd(points(&all, |_| Value::Null).as_bytes(), true));
    ok(
        &place.ingest("c", &format!("--vectors=f4.npy --payload=p.jsonl {TENANT}")),
        "90 points of 4 f32",
    );
    let expected = answers(&place, "c");
    assert!(expected.iter().all(|answers| answers.iter().all(|(ids, _)| ids[0].is_u64())));
    for (i, args) in [
        "--vectors=f8.npy --payload=p.jsonl --storage=f32",
        "--vectors=f2.npy --payload=p.jsonl.zst --storage=f32",
        "--vectors=u1.npy --payload=p.jsonl --storage=f32",
        "--vectors=x.fvecs --payload=p.jsonl",
        "--vectors=x.bvecs --payload=p.jsonl --storage=f32",
        "--jsonl=points.jsonl",
        "--jsonl=none.jsonl.zst --storage=f32",
    ]
    .iter()
    .enumerate()
    {
        let collection = format!("c{i}");
        ok(&place.ingest(&collection, &format!("{args} {TENANT}")), "90 points of 4 f32 values");
        assert_eq!(answers(&place, &collection), expected, "{args}");
    }
    for (stdin, name) in [(false, "plain"), (true, "zstd")] {
        let text = points(&all, |row| json!(row));
        let text = if stdin { zstd(text.as_bytes(), true) } else { text.into_bytes() };
        ok(&place.ingest_from(name, &format!("--jsonl - {TENANT}"), &text), "90 points");
        assert_eq!(answers(&place, name), expected, "{name}");
    }
}

#[test]
fn elements_are_kept_as_they_are_or_as_is_asked() {
    let (place, n) = (Place::new(), 20);
    let all = numbers(n);
    place.save("f4.npy", npy("<f4", n, &bytes(&all, f32::to_le_bytes)));
    place.save("f8.npy", npy("<f8", n, &bytes(&all, |x| f64::from(x).to_le_bytes())));
    place.save("i1.npy", npy("|i1", n, &bytes(&all, |x| [x as u8 / 2])));
    place.save("x.bvecs", vecs(&all, |x| [x as u8]));
    place.save("p.jsonl", points(&all, |row| json!(row)));
    for (i, (args, words)) in [
        ("--vectors=f4.npy", "of 4 f32 values in"),
        ("--vectors=f4.npy --storage=f16", "of 4 f16 values, made of f32, in"),
        ("--vectors=f4.npy --storage=u8", "of 4 u8 values, made of f32, in"),
        ("--vectors=f8.npy --storage=f16", "of 4 f16 values, made of f64, in"),
        ("--vectors=i1.npy", "of 4 int8 values in"),
        ("--vectors=i1.npy --storage=f16", "of 4 f16 values, made of int8, in"),
        ("--vectors=x.bvecs", "of 4 u8 values in"),
        ("--jsonl=p.jsonl", "of 4 f32 values in"),
        ("--jsonl=p.jsonl --storage=u8", "of 4 u8 values in"),
    ]
    .iter()
    .enumerate()
    {
        ok(&place.ingest(&format!("c{i}"), args), words);
    }
    save_queries(&place, &all);
    place.save("q.fvecs", vecs(&all[..3 * DIM], f32::to_le_bytes));
    let expected = place.search("c0", "--vectors=q.npy");
    assert_eq!(place.search("c0", "--vectors=q.fvecs"), expected);
    let bytes = place.search("c6", "--vectors=q.fvecs --storage=u8");
    assert_eq!(bytes[0].0[0], expected[0].0[0]);
}

#[test]
fn blocks_are_joined_without_a_seam() {
    let (place, n) = (Place::new(), 10_037);
    let all = numbers(n);
    save_queries(&place, &all);
    place.save("p.jsonl", payloads(n));
    place.save("f4.npy", npy("<f4", n, &bytes(&all, f32::to_le_bytes)));
    place.save("x.fvecs", vecs(&all, f32::to_le_bytes));
    let uuid = |row: usize| format!("00000000-0000-0000-0000-{row:012}");
    place.save("ids.txt", (0..n).map(|row| uuid(row) + "\n").collect::<String>());
    place.save("points.jsonl", points(&all, |row| json!(uuid(row))));
    let beside = format!("--payload=p.jsonl --ids=ids.txt {TENANT}");
    ok(&place.ingest("npy", &format!("--vectors=f4.npy {beside}")), "10037 points");
    ok(&place.ingest("fvecs", &format!("--vectors=x.fvecs {beside}")), "10037 points");
    ok(&place.ingest("jsonl", &format!("--jsonl=points.jsonl {TENANT}")), "10037 points");
    let expected = answers(&place, "npy");
    assert_eq!(answers(&place, "fvecs"), expected);
    assert_eq!(answers(&place, "jsonl"), expected);
}

/// Each is refused with this code and these words, and leaves no collection.
fn refused(place: &Place, cases: &[(&str, i32, &str, &str)]) {
    for (args, exit, code, words) in cases {
        let run = place.ingest("none", args);
        assert_eq!(run.code, *exit, "{args}: {}", run.stderr);
        assert!(run.stderr.starts_with(&format!("error: {code}: ")), "{args}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{args}: {words}: {}", run.stderr);
        assert!(!place.at("data").join("none").exists(), "{args}");
    }
}

#[test]
fn of_bad_vectors_nothing_is_stored() {
    let (place, n) = (Place::new(), 10_010);
    let all = numbers(n);
    let floats = bytes(&all, f32::to_le_bytes);
    let with = |row: usize, x: f32| {
        let mut floats = floats.clone();
        let at = (row * DIM + 2) * 4;
        floats[at..at + 4].copy_from_slice(&x.to_le_bytes());
        npy("<f4", n, &floats)
    };
    place.save("x.npy", npy("<f4", n, &floats));
    place.save("nan.npy", with(10_004, f32::NAN));
    place.save("big.npy", with(10_004, 70_000.0));
    place.save("half.npy", with(10_004, 0.5));
    let mut zero = floats.clone();
    zero[10_004 * 16..10_005 * 16].fill(0);
    place.save("zero.npy", npy("<f4", n, &zero));
    place.save("f8.npy", npy("<f8", n, &bytes(&all, |x| f64::from(x).to_le_bytes())));
    place.save("i8.npy", npy("<i8", 1, &[0; 32]));
    place.save("short.npy", npy("<f4", n + 1, &floats));
    place.save("empty.npy", npy("<f4", 0, &[]));
    let rows = vecs(&all, f32::to_le_bytes);
    place.save("cut.fvecs", &rows[..rows.len() - 1]);
    let mut uneven = rows.clone();
    uneven[10_004 * 20] = 5;
    place.save("uneven.fvecs", uneven);
    place.save("x.ivecs", &rows);
    place.save("npy.fvecs", npy("<f4", n, &floats));
    place.save("x.npz", b"PK\x03\x04");
    place.save("x.csv", "1,2\n");
    place.save("nothing.npy", "");
    refused(
        &place,
        &[
            ("--vectors=nan.npy", 3, "vector_not_finite", "nan.npy, row 10004, element 2 is NaN"),
            (
                "--vectors=big.npy --storage=f16",
                3,
                "vector_range_f16",
                "row 10004, element 2 is 70000, expected at most 65504",
            ),
            (
                "--vectors=half.npy --storage=u8",
                3,
                "vector_range_u8",
                "row 10004, element 2 is 0.5, expected a whole number",
            ),
            (
                "--vectors=zero.npy",
                3,
                "vector_zero_norm",
                "zero.npy, row 10004 cannot be used with cosine",
            ),
            ("--vectors=f8.npy", 2, "storage", "64-bit floats, which are not kept; --storage f32"),
            ("--vectors=i8.npy", 3, "npy_dtype", "<i8"),
            ("--vectors=short.npy", 3, "npy_length", "10011 x 4 of f32"),
            ("--vectors=empty.npy", 3, "input_empty", "no rows"),
            ("--vectors=cut.fvecs", 3, "vecs_length", "no multiple of 20"),
            (
                "--vectors=uneven.fvecs",
                3,
                "vector_dim",
                "row 10004 is of 5 elements, the first of 4",
            ),
            ("--vectors=x.ivecs", 3, "format_unknown", "32-bit integers"),
            (
                "--vectors=npy.fvecs",
                3,
                "format_differs",
                "its bytes are of .npy, its name of .fvecs",
            ),
            ("--vectors=x.npz", 3, "format_unknown", "unpack"),
            ("--vectors=x.csv", 3, "format_unknown", "expected .npy, .fvecs, .bvecs or .parquet"),
            ("--vectors=nothing.npy", 3, "input_empty", "0 bytes"),
            ("--vectors=absent.npy", 4, "not_found", "absent.npy"),
            ("--vectors=x.npy --vector-field=v", 2, "vector_field", "has no columns"),
            ("--vectors=x.npy --id-field=v", 2, "id_field", "has no columns"),
        ][..],
    );
    for args in ["", "--vectors=x.npy --jsonl=x.npy", "--jsonl=x.npy --ids=x.npy"] {
        assert_eq!(place.ingest("none", args).code, 2, "{args}");
    }
}

#[test]
fn of_bad_ids_and_payloads_nothing_is_stored() {
    let (place, n) = (Place::new(), 10_010);
    let all = numbers(n);
    place.save("x.npy", npy("<f4", n, &bytes(&all, f32::to_le_bytes)));
    let with = |line: usize, text: &str| -> String {
        (1..=n)
            .map(|i| if i == line { format!("{text}\n") } else { format!("{}\n", payload(i)) })
            .collect()
    };
    place.save("short.jsonl", payloads(n - 1));
    place.save("long.jsonl", payloads(n + 2));
    place.save("list.jsonl", with(10_005, "[1]"));
    place.save("broken.jsonl", with(10_005, "{\"a\": }"));
    place.save("twice.jsonl", with(10_005, "{\"a\": {\"b\": 1, \"b\": 2}}"));
    place.save("huge.jsonl", with(10_005, &format!("{{\"a\": \"{}\"}}", "x".repeat(1 << 20))));
    place.save("tenant.jsonl", with(10_005, "{\"owner\": 1.5}"));
    place.save("unnamed.jsonl", with(10_005, "{\"owner\": \"\"}"));
    let ids = |line: usize, text: &str| -> String {
        (1..=n).map(|i| if i == line { format!("{text}\n") } else { format!("{i}\n") }).collect()
    };
    place.save("short.txt", "1\n2\n");
    place.save("long.txt", ids(1, "0") + "20000\n");
    place.save("wrong.txt", ids(10_005, "1.5"));
    place.save("twice.txt", ids(10_005, "7"));
    refused(
        &place,
        &[
            (
                "--vectors=x.npy --payload=short.jsonl",
                3,
                "rows_differ",
                "10009 payloads for 10010 vectors",
            ),
            (
                "--vectors=x.npy --payload=long.jsonl",
                3,
                "rows_differ",
                "10012 payloads for 10010 vectors",
            ),
            ("--vectors=x.npy --payload=list.jsonl", 3, "payload_type", "list.jsonl, line 10005"),
            (
                "--vectors=x.npy --payload=broken.jsonl",
                3,
                "payload_json",
                "broken.jsonl, line 10005: expected value at column 7",
            ),
            (
                "--vectors=x.npy --payload=twice.jsonl",
                3,
                "json_duplicate_key",
                "line 10005: duplicate key \"b\"",
            ),
            ("--vectors=x.npy --payload=huge.jsonl", 8, "payload_size", "line 10005"),
            (
                "--vectors=x.npy --payload=tenant.jsonl --tenant-field=owner",
                3,
                "tenant_value",
                "line 10005: 1.5 at owner",
            ),
            (
                "--vectors=x.npy --payload=unnamed.jsonl --tenant-field=owner",
                3,
                "tenant_name",
                "line 10005",
            ),
            ("--vectors=x.npy --ids=short.txt", 3, "rows_differ", "2 ids for 10010 vectors"),
            ("--vectors=x.npy --ids=long.txt", 3, "rows_differ", "10011 ids for 10010 vectors"),
            ("--vectors=x.npy --ids=wrong.txt", 2, "id_invalid", "wrong.txt, line 10005"),
            (
                "--vectors=x.npy --ids=twice.txt",
                3,
                "id_duplicate",
                "twice.txt, line 10005: id 7 stands in",
            ),
        ][..],
    );
    let run = place.ingest("none", "--vectors=x.npy --ids=twice.txt");
    assert!(run.stderr.contains("twice.txt, line 7 too"), "{}", run.stderr);
}

#[test]
fn of_a_bad_line_nothing_is_stored() {
    let place = Place::new();
    let good = "{\"id\": 1, \"vector\": [1, 2]}\n";
    for (i, (line, code, words)) in [
        ("{\"id\": 1, \"vector\": [1, 3]}", "id_duplicate", "line 2: id 1 stands in"),
        ("{\"vector\": [1, 3]}", "id_missing", "line 2: no id, line 1 has one"),
        ("{\"id\": 2, \"vector\": [1, 3, 4]}", "vector_dim", "line 2: 3 numbers, line 1 has 2"),
        ("{\"id\": 2, \"vector\": {\"a\": [1, 3]}}", "vector_named", "line 2: an object"),
        (
            "{\"id\": 2, \"vectors\": [1, 3]}",
            "field_unknown",
            "line 2: \"vectors\", expected \"id\"",
        ),
        ("{\"id\": 2, \"vector\": [1, \"3\"]}", "field_type", "line 2: \"vector\" is a list of"),
        ("{\"id\": 2, \"vector\": [1, 1e39]}", "vector_not_finite", "line 2, element 1 is 1e39"),
        ("{\"id\": 2, \"vector\": [0, -0.0]}", "vector_zero_norm", "line 2 cannot be used"),
        ("{\"id\": -2, \"vector\": [1, 3]}", "id_invalid", "line 2: -2"),
        (
            "{\"id\": 2, \"vector\": [1, 3], \"payload\": 7}",
            "payload_type",
            "line 2: no JSON object",
        ),
        ("", "json_invalid", "line 2: EOF"),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("{i}.jsonl");
        place.save(&name, format!("{good}{line}\n"));
        refused(&place, &[(&format!("--jsonl={name}"), 3, code, words)]);
    }
    place.save("a.jsonl", "{\"vector\": [1, 2]}\n{\"id\": 2, \"vector\": [1, 3]}\n");
    place.save("none.jsonl", "");
    refused(
        &place,
        &[
            ("--jsonl=a.jsonl", 3, "id_missing", "line 2: an id, line 1 has none"),
            ("--jsonl=none.jsonl", 3, "input_empty", "no rows"),
        ],
    );
}

#[test]
fn a_stream_that_goes_bad_says_what_is_stored() {
    let (place, n) = (Place::new(), 10_003);
    let all = numbers(n);
    save_queries(&place, &all);
    let text = points(&all, |row| json!(if row == 10_001 { 5 } else { row }));
    let run = place.ingest_from("c", "--jsonl -", text.as_bytes());
    assert_eq!(run.code, 3, "{}", run.stderr);
    for words in [
        "error: id_duplicate: after 10000 points that are stored: standard input, line 10002",
        "id 5 stands in standard input, line 6 too",
    ] {
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
    let found = place.search("c", "--vectors=q.npy");
    assert_eq!(found[0].0[0], 0);
}

#[test]
fn a_collection_of_other_settings_is_found_before_the_last_row() {
    let (place, n) = (Place::new(), 30);
    let all = numbers(n);
    place.save("x.npy", npy("<f4", n, &bytes(&all, f32::to_le_bytes)));
    place.save("short.jsonl", payloads(n - 1));
    ok(&place.ingest("c", "--vectors=x.npy"), "30 points");
    // Also a second time: every point is replaced by itself.
    ok(&place.ingest("c", "--vectors=x.npy"), "30 points");
    let run = place.ingest("c", "--vectors=x.npy --storage=f16");
    assert!(run.code == 2 && run.stderr.contains("settings_differ"), "{}", run.stderr);
    let run = place.ingest("c", "--vectors=x.npy --payload=short.jsonl");
    assert!(run.code == 3 && run.stderr.contains("29 payloads for 30"), "{}", run.stderr);
    assert!(!Path::new(&place.path("data/d")).exists());
}

#[cfg(feature = "parquet")]
mod parquet {
    use std::sync::Arc;

    use arrow_array::builder::{
        ArrayBuilder, FixedSizeListBuilder, Float16Builder, Float32Builder, Float64Builder,
        Int64Builder, ListBuilder, UInt8Builder,
    };
    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;
    use crate::support::parquet::write;

    fn lists<B: ArrayBuilder>(all: &[u8], builder: B, push: fn(&mut B, u8)) -> ArrayRef {
        let mut lists = ListBuilder::new(builder);
        for row in all.chunks(DIM) {
            row.iter().for_each(|&x| push(lists.values(), x));
            lists.append(true);
        }
        Arc::new(lists.finish())
    }

    fn singles(all: &[u8]) -> ArrayRef {
        lists(all, Float32Builder::new(), |b, x| b.append_value(x.into()))
    }

    /// The columns of [`payload`].
    fn columns(n: usize) -> Vec<(&'static str, ArrayRef)> {
        let owners = StringArray::from_iter_values((0..n).map(|row| format!("t{}", row % 3)));
        let sizes: Int64Array = (0..n as i64).map(|row| row % 100).collect();
        let kinds = StringArray::from_iter_values((0..n).map(|row| ["x", "y"][row % 2]));
        let texts = StringArray::from(vec!["a \"b\"\n"; n]);
        vec![
            ("owner", Arc::new(owners)),
            ("size", Arc::new(sizes)),
            ("kind", Arc::new(kinds)),
            ("text", Arc::new(texts)),
        ]
    }

    fn with(n: usize, more: Vec<(&'static str, ArrayRef)>, rows: usize) -> Vec<u8> {
        let mut all = columns(n);
        all.splice(1..1, more);
        write(all, rows)
    }

    #[test]
    fn columns_are_vectors_ids_and_payload() {
        let (place, n) = (Place::new(), 10_037);
        let all = numbers(n);
        save_queries(&place, &all);
        place.save("x.npy", npy("<f4", n, &bytes(&all, f32::to_le_bytes)));
        place.save("p.jsonl", payloads(n));
        let ids = |row: usize| row as i64 * 3 + 1;
        place.save("ids.txt", (0..n).map(|row| format!("{}\n", ids(row))).collect::<String>());
        let numbers: Int64Array = (0..n).map(ids).collect();
        let numbers: ArrayRef = Arc::new(numbers);
        let more = vec![("key", numbers), ("vector", singles(&all))];
        place.save("x.parquet", with(n, more, 4_000));
        let tenant = TENANT;
        ok(
            &place.ingest(
                "npy",
                &format!("--vectors=x.npy --payload=p.jsonl --ids=ids.txt {tenant}"),
            ),
            "10037",
        );
        let expected = answers(&place, "npy");
        for (name, args) in [
            ("columns", "--id-field=key"),
            ("beside", "--id-field=key --payload=p.jsonl"),
            ("ids", "--ids=ids.txt"),
        ] {
            ok(
                &place.ingest(name, &format!("--vectors=x.parquet {args} {tenant}")),
                "10037 points of 4 f32",
            );
            assert_eq!(answers(&place, name), expected, "{args}");
        }
        // The column of ids is no field, unless it is none of ids.
        let key = "--vectors=q.npy --filter={\"must\":[{\"key\":\"key\",\"match\":{\"value\":1}}]}";
        assert_eq!(place.search("columns", key)[0].0, json!([]));
        assert_eq!(place.search("ids", key)[0].0, json!([1]));
        let queries = singles(&all[..3 * DIM]);
        place.save("q.parquet", write(vec![("q", queries)], 2));
        let found = place.search("npy", "--vectors=q.parquet");
        assert_eq!(found, place.search("npy", "--vectors=q.npy"));
    }

    #[test]
    fn lists_of_every_type_are_vectors() {
        let (place, n) = (Place::new(), 90);
        let all = numbers(n);
        save_queries(&place, &all);
        let mut fixed = FixedSizeListBuilder::new(Float32Builder::new(), DIM as i32);
        for row in all.chunks(DIM) {
            row.iter().for_each(|&x| fixed.values().append_value(x.into()));
            fixed.append(true);
        }
        place.save("x.npy", npy("<f4", n, &bytes(&all, f32::to_le_bytes)));
        place.save("p.jsonl", payloads(n));
        ok(&place.ingest("npy", &format!("--vectors=x.npy --payload=p.jsonl {TENANT}")), "90");
        let expected = answers(&place, "npy");
        for (name, own, column) in [
            ("f4", "f32", singles(&all)),
            ("fixed", "f32", Arc::new(fixed.finish())),
            ("f8", "f64", lists(&all, Float64Builder::new(), |b, x| b.append_value(x.into()))),
            ("f2", "f16", lists(&all, Float16Builder::new(), |b, x| b.append_value(f16::from(x)))),
            ("u1", "u8", lists(&all, UInt8Builder::new(), UInt8Builder::append_value)),
        ] {
            let file = format!("{name}.parquet");
            place.save(&file, with(n, vec![("v", column)], 40));
            let run = place.ingest(name, &format!("--vectors={file} --storage=f32 {TENANT}"));
            let made_of = if own == "f32" { String::new() } else { format!(", made of {own},") };
            ok(&run, &format!("90 points of 4 f32 values{made_of} in"));
            assert_eq!(answers(&place, name), expected, "{name}");
        }
        ok(&place.ingest("own", "--vectors=u1.parquet"), "90 points of 4 u8 values in");
    }

    #[test]
    fn of_bad_columns_nothing_is_stored() {
        let (place, n) = (Place::new(), 30);
        let all = numbers(n);
        let integers = || lists(&all, Int64Builder::new(), |b, x| b.append_value(x.into()));
        let rows = |change: fn(usize, Vec<Option<f32>>) -> Option<Vec<Option<f32>>>| -> ArrayRef {
            let mut lists = ListBuilder::new(Float32Builder::new());
            for (i, row) in all.chunks(DIM).enumerate() {
                lists.append_option(change(i, row.iter().map(|&x| Some(x.into())).collect()));
            }
            Arc::new(lists.finish())
        };
        place.save("two.parquet", write(vec![("a", singles(&all)), ("b", singles(&all))], 30));
        place.save("no.parquet", with(n, vec![], 30));
        place.save("ints.parquet", with(n, vec![("v", integers())], 30));
        let null = rows(|i, row| (i != 21).then_some(row));
        place.save("null.parquet", with(n, vec![("v", null)], 8));
        let within = rows(|i, mut row| {
            row[1] = row[1].filter(|_| i != 21);
            Some(row)
        });
        place.save("within.parquet", with(n, vec![("v", within)], 8));
        let short = rows(|i, row| Some(row[usize::from(i == 21)..].to_vec()));
        place.save("short.parquet", with(n, vec![("v", short)], 8));
        let nan = rows(|i, row| Some(if i == 21 { vec![Some(f32::NAN); DIM] } else { row }));
        place.save("nan.parquet", with(n, vec![("v", nan)], 8));
        let twice: ArrayRef = Arc::new((0..n as i64).map(|i| i.min(28)).collect::<Int64Array>());
        let minus: ArrayRef = Arc::new((0..n as i64).map(|i| 5 - i).collect::<Int64Array>());
        place.save(
            "ids.parquet",
            with(n, vec![("v", singles(&all)), ("twice", twice), ("minus", minus)], 8),
        );
        let good = with(n, vec![("v", singles(&all))], 8);
        place.save("cut.parquet", &good[..good.len() - 9]);
        let f8 = lists(&all, Float64Builder::new(), |b, x| b.append_value(x.into()));
        place.save("f8.parquet", with(n, vec![("v", f8)], 8));
        refused(
            &place,
            &[
                (
                    "--vectors=two.parquet",
                    2,
                    "vector_field",
                    "vectors in a, b; choose one with --vector-field",
                ),
                (
                    "--vectors=two.parquet --vector-field=c",
                    2,
                    "vector_field",
                    "no column \"c\"; there are a, b",
                ),
                ("--vectors=no.parquet", 2, "vector_field", "there is no list"),
                ("--vectors=ints.parquet", 2, "vector_field", "\"v\" is a list of Int64"),
                ("--vectors=no.parquet --vector-field=size", 2, "vector_field", "\"size\" is none"),
                (
                    "--vectors=null.parquet",
                    3,
                    "field_type",
                    "null.parquet, row 21: \"v\" has null, expected",
                ),
                ("--vectors=within.parquet", 3, "field_type", "row 21: \"v\" has null among"),
                (
                    "--vectors=short.parquet",
                    3,
                    "vector_dim",
                    "row 21: \"v\" has 3 numbers, the first row has 4",
                ),
                (
                    "--vectors=nan.parquet",
                    3,
                    "vector_not_finite",
                    "nan.parquet, row 21, element 0 is NaN",
                ),
                (
                    "--vectors=ids.parquet --id-field=twice",
                    3,
                    "id_duplicate",
                    "row 29: id 28 stands in",
                ),
                ("--vectors=ids.parquet --id-field=minus", 3, "id_invalid", "row 6: -1"),
                ("--vectors=ids.parquet --id-field=absent", 3, "field_missing", "\"absent\""),
                ("--vectors=cut.parquet", 3, "parquet_corrupt", "cut.parquet"),
                ("--vectors=f8.parquet", 2, "storage", "--storage f32"),
            ],
        );
        ok(&place.ingest("b", "--vectors=two.parquet --vector-field=b"), "30 points");
    }
}
