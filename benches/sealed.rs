//! How long an index takes to open, and its first answers: rows, codes, graph and exact index in one sealed file.
//!
//! ```text
//! cargo bench --bench sealed -- make FILE [N_ROWS]   rows of 128 f32 (a million), and a graph of random links
//! cargo bench --bench sealed -- open FILE            a line of JSON: milliseconds of each step, and memory in use
//! ```
//!
//! A process opens once, so that nothing was touched before. Without arguments a file of 20,000 rows is made and opened.
#![allow(missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use nearkin::backend::Stream;
use nearkin::backend::cpu::Cpu;
use nearkin::core::allow::Allow;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Rows, Values};
use nearkin::distance::simd::coded::Bits;
use nearkin::index::graph::codes::Codes;
use nearkin::index::graph::{BuildParams, Graph, Parts, Scratch, SearchParams};
use nearkin::index::sealed::PlacedRows;
use nearkin::quant::search::{ExactIndex, Keep};
use nearkin::store::Identity;
use nearkin::store::disk::FileDisk;
use nearkin::store::sealed::{Sealed, SealedWriter};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::json;

const DIM: usize = 128;
const M: usize = 16;
const IDENTITY: Identity<'_> = Identity { kind: "bench", owner: 1, version: 1 };

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [] => {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("index.sealed");
            make(&path, 20_000);
            open(&path);
        }
        ["make", path] => make(Path::new(path), 1_000_000),
        ["make", path, n_rows] => make(Path::new(path), n_rows.parse().expect("a number")),
        ["open", path] => open(Path::new(path)),
        _ => panic!("make FILE [N_ROWS] | open FILE"),
    }
}

fn pool() -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(2).build().expect("threads"))
}

fn cpu() -> Cpu {
    Cpu::new(pool(), 8 << 30)
}

fn rows(n_rows: usize, seed: u64) -> Rows {
    let element = |i| (stream(seed, i) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let values = (0..(n_rows * DIM) as u64).map(element).collect();
    Rows::new(Values::F32(values), DIM).expect("finite rows")
}

/// A graph whose links were drawn: what it finds is nothing, what it takes is that of any.
fn drawn(n_rows: usize) -> Graph {
    let width = 2 * M;
    let other = |slot: u64, i: u64, n: u64| (slot + 1 + stream(slot, i) % (n - 1)) % n;
    let link = |at: u64| other(at / width as u64, at % width as u64, n_rows as u64) as u32;
    let mut upper = Vec::new();
    let mut step = M;
    while n_rows / step > 1 {
        let n = (n_rows / step) as u64;
        let slots = (0..n as u32).map(|i| i * step as u32).collect();
        let to = |at: u64| other(at / M as u64, at % M as u64, n) as u32 * step as u32;
        upper.push((slots, (0..n * M as u64).map(to).collect()));
        step *= M;
    }
    let mut live = vec![u64::MAX; n_rows.div_ceil(64)];
    if !n_rows.is_multiple_of(64) {
        live[n_rows / 64] = (1 << (n_rows % 64)) - 1;
    }
    Graph::from_parts(Parts {
        params: BuildParams { m: M, ..BuildParams::default() },
        links: (0..(n_rows * width) as u64).map(link).collect(),
        live,
        entry: Some(0),
        upper,
    })
    .expect("parts of a graph")
}

fn make(path: &Path, n_rows: usize) {
    let (cpu, pool, rows) = (cpu(), pool(), Arc::new(rows(n_rows, 1)));
    let codes = Codes::of(&pool, Metric::Cosine, Bits::Four, &rows, 1).expect("rows");
    let placed = PlacedRows::new(Arc::clone(&rows), Metric::Cosine).expect("rows");
    let exact = ExactIndex::build(&cpu, &pool, rows, Metric::Cosine, Keep::Bits, 1).expect("rows");
    let n_sections = PlacedRows::N_SECTIONS + Codes::N_SECTIONS + Graph::N_SECTIONS;
    let n_sections = n_sections + exact.n_sections();
    let mut writer =
        SealedWriter::create(&FileDisk, path, IDENTITY, n_sections).expect("a new file");
    placed.seal(&mut writer, "rows").expect("rows");
    codes.seal(&mut writer, "codes").expect("codes");
    drawn(n_rows).seal(&mut writer).expect("a graph");
    exact.seal(&pool, &mut writer).expect("an index");
    writer.finish().expect("a file");
}

/// Bytes of this process in memory: its own, and of files.
fn in_memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("KiB");
        kib << 10
    };
    (of("RssAnon"), of("RssFile"))
}

fn open(path: &Path) {
    let cpu = cpu();
    let mut steps = serde_json::Map::new();
    let mut last = Instant::now();
    let began = last;
    let mut step = |name: &str| {
        steps.insert(name.to_owned(), json!(last.elapsed().as_secs_f64() * 1e3));
        last = Instant::now();
    };
    let sealed = Sealed::open(&FileDisk, path, IDENTITY).expect("a file");
    step("file_ms");
    let rows = PlacedRows::open(&sealed, "rows").expect("rows");
    step("rows_ms");
    let codes = Codes::open(&sealed, "codes").expect("codes");
    step("codes_ms");
    let graph = Graph::open(&pool(), &sealed).expect("a graph");
    step("graph_ms");
    let exact = ExactIndex::open(&sealed, &cpu, &rows).expect("an index");
    step("exact_ms");
    let (open_ms, after_open) = (began.elapsed().as_secs_f64() * 1e3, in_memory());
    let queries = self::rows(1, 2);
    let raw = rows.raw().expect("rows");
    let (query, raw_query) = (codes.query(&queries, 0), raw.query(&queries, 0));
    let (query, raw_query) = (query.expect("a query"), raw_query.expect("a query"));
    let (on, by, params) = ((&codes, &query), (&raw, &raw_query), SearchParams::default());
    let found = graph.search_reranked(on, by, Allow::All, &params, &mut Scratch::default());
    assert_eq!(found.expect("an answer").neighbors.len(), 10);
    step("first_graph_query_ms");
    let found = exact.search((&cpu, Stream(0)), &queries, Allow::All, 10).expect("an answer");
    assert_eq!(found.neighbors[0].len(), 10);
    step("first_exact_query_ms");
    let answer = json!({"n_rows": rows.rows().n_rows(), "file_bytes": sealed.n_bytes(),
        "open_ms": open_ms, "steps": steps, "anon_bytes_after_open": after_open.0,
        "file_bytes_in_memory_after_open": after_open.1});
    println!("{answer}");
}
