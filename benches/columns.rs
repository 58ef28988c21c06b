//! Milliseconds to build, seal, open and first ask for payload columns of a million slots.
//!
//! `cargo bench --bench columns -- [N_SLOTS]`
#![allow(missing_docs)]

use std::fs;
use std::hint::black_box;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Instant;

use nearkin::core::mix::stream;
use nearkin::store::Identity;
use nearkin::store::columns::path::Path;
use nearkin::store::columns::{Columns, Kind};
use nearkin::store::disk::FileDisk;
use nearkin::store::sealed::{Sealed, SealedWriter};
use serde_json::{Value, json};

const OWN: Identity<'_> = Identity { kind: "columns", owner: 1, version: 1 };

/// Openings of which the fastest and the median are printed.
const ROUNDS: usize = 9;

/// With these, the file has twenty fields.
const MORE_FIELDS: usize = 11;

const FIELDS: [(&str, Kind); 9] = [
    ("keyword", Kind::Keyword),
    ("integer", Kind::Integer),
    ("float", Kind::Float),
    ("bool", Kind::Bool),
    ("datetime", Kind::Datetime),
    ("geo", Kind::Geo),
    ("uuid", Kind::Uuid),
    ("tags", Kind::Keyword),
    ("text", Kind::Text),
];

fn payload(n: u64) -> Value {
    let x = stream(1, n);
    let tag = |at: u64| format!("tag {}", stream(x, at) % 1000);
    let words: Vec<String> = (0..8).map(|at| format!("w{}", stream(x, at) % 10_000)).collect();
    let mut payload = json!({
        "keyword": format!("value {}", x % 1000),
        "integer": (x >> 10) % 1_000_000,
        "float": (x >> 11) as f64 / 1e6,
        "bool": x & 1 == 0,
        "datetime": format!("{:04}-05-{:02}T12:00:00Z", 1990 + x % 30, 1 + (x >> 8) % 28),
        "geo": {"lat": (x >> 12) as f64 % 90.0, "lon": (x >> 13) as f64 % 180.0},
        "uuid": format!("{:08x}-0000-4000-8000-{:012x}", x >> 32, n),
        "tags": [tag(1), tag(2), tag(3)],
        "text": words.join(" "),
    });
    (0..MORE_FIELDS)
        .for_each(|at| payload[format!("more{at}")] = json!(stream(x, at as u64) % 100));
    payload
}

fn open(at: &FilePath) -> Columns {
    let file = Sealed::open(&FileDisk, at, OWN).expect("it was sealed");
    Columns::open(Arc::new(file)).expect("it was sealed")
}

/// The fastest and the median.
fn milliseconds(mut once: impl FnMut() -> f64) -> (f64, f64) {
    let mut all: Vec<f64> = (0..ROUNDS).map(|_| once() * 1e3).collect();
    all.sort_by(f64::total_cmp);
    (all[0], all[ROUNDS / 2])
}

fn main() {
    let n_slots = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path().join("columns.sealed");
    let more = (0..MORE_FIELDS).map(|at| (format!("more{at}"), Kind::Integer));
    let named = FIELDS.into_iter().map(|(name, kind)| (name.to_owned(), kind)).chain(more);
    let fields: Vec<(Path, Kind)> =
        named.map(|(name, kind)| (name.parse().expect("a path"), kind)).collect();

    let (mut columns, start) = (Columns::default(), Instant::now());
    let payloads = (0..n_slots).map(|n| Ok((n as u32, payload(n))));
    columns.index(&fields, payloads).expect("payloads are made");
    println!("{n_slots} slots, {} fields", fields.len());
    println!("make payloads and columns {:.0} ms", start.elapsed().as_secs_f64() * 1e3);

    let start = Instant::now();
    let mut writer = SealedWriter::create(&FileDisk, &at, OWN, columns.n_sections()).expect("new");
    columns.seal(&mut writer).and_then(|()| writer.finish()).expect("it is written");
    let n_bytes = fs::metadata(&at).expect("it is there").len();
    println!("seal {:.0} ms, {n_bytes} bytes", start.elapsed().as_secs_f64() * 1e3);

    let (least, median) = milliseconds(|| {
        let start = Instant::now();
        black_box(open(&at));
        start.elapsed().as_secs_f64()
    });
    println!("open {least:.3} ms, median {median:.3}");
    for (path, kind) in &fields[..=FIELDS.len()] {
        let (least, median) = milliseconds(|| {
            let columns = open(&at);
            let start = Instant::now();
            black_box(columns.field(path).expect("it is whole"));
            start.elapsed().as_secs_f64()
        });
        let in_file = open(&at);
        let n_bytes = in_file.list().find(|(own, ..)| *own == path).map_or(0, |found| found.2);
        println!("first use of {path} ({kind}, {n_bytes} bytes) {least:.1} ms, median {median:.1}");
    }
}
