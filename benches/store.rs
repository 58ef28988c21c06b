//! Seconds to load, bytes on disk per point, single upserts per second, seconds to open.
//!
//! `cargo bench --bench store -- ROWS.npy PAYLOADS.jsonl.zst` takes rows and payloads of files; without arguments, 62,436 made
//! rows of 384 f16 with payloads of 200 to 400 bytes. `NEARKIN_BENCH_FOLDER` is where the collections are made.
#![allow(missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nearkin::core::ids::{PointId, TenantId};
use nearkin::core::mix;
use nearkin::store::disk::FileDisk;
use nearkin::store::durable::{Durable, Op, Parts, RECORD, Recovery, Upsert};

/// Rows as bytes, and a payload for each.
struct Input {
    rows: Vec<u8>,
    row_bytes: usize,
    payloads: Vec<Vec<u8>>,
}

fn read(rows: &Path, payloads: &Path) -> Input {
    let payloads = zstd::Decoder::new(fs::File::open(payloads).expect("payloads open"));
    let payloads = BufReader::new(payloads.expect("payloads are zstd"));
    let payloads: Vec<Vec<u8>> =
        payloads.split(b'\n').map(|line| line.expect("payloads read")).collect();
    let mut bytes = Vec::new();
    fs::File::open(rows).and_then(|mut file| file.read_to_end(&mut bytes)).expect("rows read");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let rows = bytes.split_off(header);
    let row_bytes = rows.len() / payloads.len();
    Input { rows, row_bytes, payloads }
}

fn made() -> Input {
    let (n, row_bytes) = (62_436, 768);
    let rows = (0..n * row_bytes).map(|at| mix::stream(1, at as u64) as u8).collect();
    let payloads = (0..n as u64).map(|n| vec![b'x'; 200 + (mix::stream(2, n) % 200) as usize]);
    Input { rows, row_bytes, payloads: payloads.collect() }
}

impl Input {
    fn row(&self, n: usize) -> &[u8] {
        &self.rows[n * self.row_bytes..(n + 1) * self.row_bytes]
    }
}

/// Loads everything and returns the folder.
fn load(input: &Input, folder: &Path, n_tenants: u32) -> f64 {
    let start = Instant::now();
    let store = Durable::create(Arc::new(FileDisk), folder, 1, b"{}").expect("a new folder");
    let names: Vec<String> = (0..n_tenants).map(|n| format!("tenant {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tenants = store.tenants(&names).expect("tenants are made");
    let n = input.payloads.len();
    let mut loader = store.load();
    for first in (0..n).step_by(500) {
        let numbers = first..(first + 500).min(n);
        let vectors: Vec<[(&str, &[u8]); 1]> =
            numbers.clone().map(|n| [("", input.row(n))]).collect();
        let granted: Vec<Vec<TenantId>> = numbers
            .clone()
            .map(|n| tenants.get(n % tenants.len().max(1)).copied().into_iter().collect())
            .collect();
        let points: Vec<Upsert<'_>> = numbers
            .zip(vectors.iter().zip(&granted))
            .map(|(n, (vectors, tenants))| Upsert {
                id: PointId::Num(n as u64),
                payload: &input.payloads[n],
                vectors,
                tenants,
            })
            .collect();
        loader.push(&points).expect("points are stored");
    }
    loader.finish().expect("the rest is stored");
    drop(store);
    start.elapsed().as_secs_f64()
}

fn main() {
    let files: Vec<PathBuf> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .map(PathBuf::from)
        .collect();
    let input = match &files[..] {
        [rows, payloads] => read(rows, payloads),
        _ => made(),
    };
    let n = input.payloads.len();
    let n_raw = input.rows.len() + input.payloads.iter().map(Vec::len).sum::<usize>();
    println!("{n} points, {} raw bytes each", n_raw / n);
    let dir = match std::env::var_os("NEARKIN_BENCH_FOLDER") {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let dir = dir.expect("a temporary folder");
    for n_tenants in [0, 1000] {
        let folder = dir.path().join(format!("{n_tenants}"));
        let seconds = load(&input, &folder, n_tenants);
        let record = fs::metadata(folder.join(RECORD)).expect("it is there");
        // The file is longer than what is written of it.
        let n_bytes = record.blocks() * 512;
        let (each, ratio) = (n_bytes / n as u64, n_bytes as f64 / n_raw as f64);
        println!(
            "load, {n_tenants} tenants: {seconds:.2} s, {each} bytes per point, {ratio:.2} of raw"
        );
    }
    let folder = dir.path().join("0");
    let start = Instant::now();
    let store = Durable::open(Arc::new(FileDisk), &folder).expect("it opens");
    let opened = start.elapsed();
    let view = store.view().expect("it reads");
    let first = view.get(&[PointId::Num(n as u64 / 2)], Parts::All).expect("it reads");
    println!("open: {opened:.1?}, with a first point {:.1?}", start.elapsed());
    assert!(first[0].is_some());
    let start = Instant::now();
    let all = view.points_by_slot(0, Parts::Vectors).expect("it reads");
    let n_read: usize = all.map(|point| point.expect("it reads").vectors[0].1.len()).sum();
    println!("all vectors by slot: {:.2} s, {n_read} bytes", start.elapsed().as_secs_f64());
    drop((view, store));
    for recovery in [Recovery::Read, Recovery::Noted] {
        upserts(&input, &folder, recovery);
    }
}

/// Single upserts for five seconds, and how long the record then takes to open if the process is killed.
fn upserts(input: &Input, folder: &Path, recovery: Recovery) {
    let n = input.payloads.len();
    let store = Durable::open(Arc::new(FileDisk), folder).expect("it opens");
    let store = store.with_recovery(recovery);
    let start = Instant::now();
    let mut n_upserts = 0u64;
    while start.elapsed().as_secs() < 5 {
        let id = PointId::Num(mix::stream(3, n_upserts) % n as u64);
        let vectors = [("", input.row(n_upserts as usize % n))];
        let payload = &input.payloads[n_upserts as usize % n];
        let upsert = Upsert { id, payload, vectors: &vectors, tenants: &[] };
        store.apply(&[Op::Upsert(upsert)]).expect("it is stored");
        n_upserts += 1;
    }
    let each_second = n_upserts as f64 / start.elapsed().as_secs_f64();
    // As a process that is killed leaves it.
    let crashed = folder.with_extension("crashed");
    fs::create_dir_all(&crashed).expect("a folder");
    fs::copy(folder.join(RECORD), crashed.join(RECORD)).expect("it is copied");
    // Opening syncs, and is not to wait for the copy.
    let copy = fs::File::options().write(true).open(crashed.join(RECORD));
    copy.and_then(|copy| copy.sync_all()).expect("it is on disk");
    let start = Instant::now();
    drop(Durable::open(Arc::new(FileDisk), &crashed).expect("it recovers"));
    println!(
        "{recovery:?}: {each_second:.0} upserts a second, open after a crash {:.1?}",
        start.elapsed()
    );
}
