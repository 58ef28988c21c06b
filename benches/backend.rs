//! What the processor's scans do beside what the machine could do.
//!
//! ```sh
//! cargo bench --no-default-features --bench backend -- flat_scan ROWS.npy QUERIES.npy [--batches 1,16] [--dtypes f32,int8]
//! cargo bench --no-default-features --bench backend -- pairs ROWS.npy --within 0.1
//! cargo bench --no-default-features --bench backend -- roof
//! ```
//!
//! Common: `--repetitions N`, `--threads N` (1), `--level avx2`, `--json FILE`. Without files, rows are made by seed: 62,436 of
//! `--dim` (384). Times are CPU seconds of the calling thread with one thread, so that other work on the machine counts
//! less, and wall seconds with more; the best of all repetitions is shown, the file has every one.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use half::f16;
use nearkin::backend::cpu::Cpu;
use nearkin::backend::{Backend, Stream, Tile};
use nearkin::core::allow::Allow;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Rows, Values};
use nearkin::distance::Level;
use nearkin::distance::simd::Kernels;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Neighbors asked for.
const K: usize = 10;

struct Options {
    what: String,
    files: Vec<String>,
    batches: Vec<usize>,
    dtypes: Vec<String>,
    repetitions: usize,
    n_threads: usize,
    level: Level,
    dim: usize,
    within: f32,
    json: Option<String>,
}

fn options() -> Options {
    let mut options = Options {
        what: "flat_scan".to_owned(),
        files: Vec::new(),
        batches: vec![1, 16, 256, 1000],
        dtypes: vec!["f32".to_owned()],
        repetitions: 5,
        n_threads: 1,
        level: Level::best(),
        dim: 384,
        within: 0.1,
        json: None,
    };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let mut is_first = true;
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} wants a value"));
        match arg.as_str() {
            "--batches" => options.batches = value().split(',').map(number).collect(),
            "--dtypes" => options.dtypes = value().split(',').map(str::to_owned).collect(),
            "--repetitions" => options.repetitions = number(&value()),
            "--threads" => options.n_threads = number(&value()),
            "--dim" => options.dim = number(&value()),
            "--within" => options.within = value().parse().expect("a distance"),
            "--json" => options.json = Some(value()),
            "--level" => {
                let name = value();
                let level = Level::available().into_iter().find(|level| level.name() == name);
                options.level = level.expect("a level of this processor");
            }
            _ if is_first => options.what = arg,
            _ => options.files.push(arg),
        }
        is_first = false;
    }
    options
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

/// Seconds of every repetition.
fn times(options: &Options, mut run: impl FnMut()) -> Vec<f64> {
    let cpu = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    run();
    let one = |_| {
        let (wall, began) = (Instant::now(), cpu());
        run();
        let used = if options.n_threads == 1 { cpu() - began } else { wall.elapsed() };
        used.as_secs_f64()
    };
    (0..options.repetitions).map(one).collect()
}

fn best(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

/// A two-dimensional `.npy` of little-endian f32 or f16 in row-major order, as f32.
fn read_npy(path: &str) -> Rows {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "{path} is no npy of version 1");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..start]).expect("a header of text");
    assert!(header.contains("'fortran_order': False"), "{path} is column-major");
    let shape = header.split('(').nth(1).and_then(|rest| rest.split(')').next());
    let shape: Vec<usize> = shape.expect("a shape").split(',').map(|n| number(n.trim())).collect();
    let body = &bytes[start..];
    let values = if header.contains("'<f2'") {
        body.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
    } else {
        assert!(header.contains("'<f4'"), "{path} is neither f4 nor f2");
        body.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    Rows::new(Values::F32(values), shape[1]).expect("rows")
}

/// Rows in all directions, by seed.
fn made(n_rows: usize, dim: usize, seed: u64) -> Rows {
    let one = |i: u64| (stream(seed, i) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let values = (0..(n_rows * dim) as u64).map(one).collect();
    Rows::new(Values::F32(values), dim).expect("rows")
}

/// The same rows in another element type; bytes are scaled so that the largest element is 127.
fn converted(rows: &Rows, dtype: &str) -> Rows {
    let Values::F32(values) = rows.values() else { unreachable!("all are read as f32") };
    let most = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let scale = 127.0 / most;
    let values = match dtype {
        "f32" => Values::F32(values.clone()),
        "f16" => Values::F16(values.iter().map(|&x| f16::from_f32(x)).collect()),
        "int8" => Values::I8(values.iter().map(|x| (x * scale).round() as i8).collect()),
        "u8" => Values::U8(values.iter().map(|x| (x * scale + 128.0).round() as u8).collect()),
        _ => panic!("{dtype}, expected f32, f16, int8 or u8"),
    };
    Rows::new(values, rows.dim()).expect("rows")
}

/// What the machine could do: bytes read per second, and floating-point operations per second.
struct Roof {
    bandwidth: f64,
    peak: f64,
}

fn roof(options: &Options, rows: &Rows) -> Roof {
    let Values::F32(values) = rows.values() else { unreachable!("all are read as f32") };
    let sum = || {
        let mut sums = [0.0f32; 64];
        for chunk in values.chunks_exact(64) {
            for lane in 0..64 {
                sums[lane] += chunk[lane];
            }
        }
        black_box(sums);
    };
    let bandwidth = 4.0 * values.len() as f64 / best(&times(options, sum));
    let (kernels, rounds) = (Kernels::at(options.level), 20_000_000);
    let mut n_operations = 0;
    let burn = times(options, || n_operations = kernels.burn(rounds));
    let peak = n_operations as f64 / best(&burn);
    println!("roof: {:.1} GB/s, {:.1} GFLOP/s", bandwidth / 1e9, peak / 1e9);
    Roof { bandwidth, peak }
}

fn flat_scan(options: &Options, cpu: &Cpu, results: &mut Vec<Value>) {
    let (rows, queries) = match &options.files[..] {
        [rows, queries] => (read_npy(rows), read_npy(queries)),
        _ => (made(62_436, options.dim, 1), made(1000, options.dim, 2)),
    };
    let roof = roof(options, &rows);
    for dtype in &options.dtypes {
        let typed = Arc::new(converted(&rows, dtype));
        let (n_rows, dim) = (typed.n_rows(), typed.dim());
        let n_bytes = typed.n_bytes() as f64;
        let resident = cpu.upload(typed, Metric::Dot).expect("the budget holds the rows");
        let queries = converted(&queries, dtype);
        for &batch in &options.batches {
            let batched = queries.slice(0..batch.min(queries.n_rows()));
            let scan = || {
                let found = cpu.flat_scan(Stream(0), &batched, &resident, Allow::All, K);
                black_box(found.expect("a scan"));
            };
            let times = times(options, scan);
            let seconds = best(&times);
            let n_operations = 2.0 * (n_rows * dim * batch) as f64;
            let (bandwidth, rate) = (n_bytes / seconds, n_operations / seconds);
            println!(
                "flat_scan/dot/{dim}/{dtype}/batch {batch}: {:.3} ms, {:.0} queries/s, {:.2e} rows/s, {:.1} GB/s ({:.0} % of \
                 the roof), {:.1} GFLOP/s ({:.0} %)",
                seconds * 1e3,
                batch as f64 / seconds,
                (n_rows * batch) as f64 / seconds,
                bandwidth / 1e9,
                100.0 * bandwidth / roof.bandwidth,
                rate / 1e9,
                100.0 * rate / roof.peak
            );
            results.push(json!({
                "case": "flat_scan", "dim": dim, "n_rows": n_rows, "dtype": dtype, "batch": batch, "k": K,
                "seconds": times, "roof_bytes_per_s": roof.bandwidth, "roof_flop_per_s": roof.peak,
            }));
        }
    }
}

fn pairs(options: &Options, cpu: &Cpu, results: &mut Vec<Value>) {
    let rows = match &options.files[..] {
        [rows] => read_npy(rows),
        _ => made(20_000, options.dim, 1),
    };
    let roof = roof(options, &rows);
    let (n_rows, dim) = (rows.n_rows(), rows.dim());
    let resident = cpu.upload(Arc::new(rows), Metric::Cosine).expect("the budget holds the rows");
    let tile = [Tile { a: 0..n_rows as u32, b: 0..n_rows as u32 }];
    let mut n_pairs = 0;
    let times = times(options, || {
        let found = cpu.pairs(Stream(0), &resident, None, &tile, options.within);
        n_pairs = found.expect("a join").len();
    });
    let rate = (n_rows * n_rows * dim) as f64 / best(&times);
    println!(
        "pairs/cosine/{dim}/f32/{n_rows} rows: {:.3} s, {n_pairs} pairs, {:.1} GFLOP/s of the upper half ({:.0} %)",
        best(&times),
        rate / 1e9,
        100.0 * rate / roof.peak
    );
    results.push(json!({
        "case": "pairs", "dim": dim, "n_rows": n_rows, "within": options.within, "n_pairs": n_pairs,
        "seconds": times, "roof_flop_per_s": roof.peak,
    }));
}

fn main() {
    let options = options();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.n_threads).build();
    let cpu = Cpu::at_level(Arc::new(pool.expect("threads")), 1 << 34, options.level);
    println!("{}, {} threads", cpu.facts().name, options.n_threads);
    let mut results = Vec::new();
    match options.what.as_str() {
        "flat_scan" => flat_scan(&options, &cpu, &mut results),
        "pairs" => pairs(&options, &cpu, &mut results),
        "roof" => drop(roof(&options, &made(62_436, options.dim, 1))),
        what => println!("{what}, expected flat_scan, pairs or roof"),
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&results).expect("plain values");
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}
