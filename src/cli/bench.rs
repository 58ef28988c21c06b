//! `nearkin bench`: every operation on this machine, beside what the machine can do at most.
//!
//! On the processor each case stands beside two measured roofs: reading as many bytes with the same threads, from memory or
//! from the caches that hold them, and arithmetic in registers alone. A card's roofs are not measured; what its
//! launches wait for is.

mod collection;

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::backend::codes::{EXTRA_PLANES, Factors, Planes, RabitqCodes, RabitqQuery};
use crate::backend::cpu::minhash::MinHasher;
use crate::backend::cpu::roofline::{MEMORY_BYTES, Roofline};
use crate::backend::open::{Device, Opened, open};
use crate::backend::{Backend, BackendKind, Queueing, RabitqScan, Stream, Tile};
use crate::cli::bench::collection::CollectionBenchArgs;
use crate::cli::{pool, say};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::rows::{Dtype, Rows, Values};
use crate::distance::Level;
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// auto, cpu, cuda or wgpu
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: Device,

    /// Rows that are scanned
    #[arg(long, default_value_t = 65_536, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: u32,

    /// Elements per row
    #[arg(long, default_value_t = 384, value_name = "N")]
    pub dim: usize,

    /// Threads
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub of: CollectionBenchArgs,
}

/// Seconds that one case may take, repetitions included.
const SECONDS: f64 = 1.0;

/// Calls of a case whose launches are watched, after those that are timed.
const WATCHED: usize = 8;

/// What a case's arithmetic is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arithmetic {
    /// Multiplications with addition of floats.
    Floats,
    /// The same of bytes.
    Bytes,
    /// Table look-ups or hashes: no roof is measured.
    Other,
}

/// One measured case.
struct Case {
    operation: &'static str,
    what: String,
    /// Seconds of the fastest call.
    seconds: f64,
    /// Bytes that the call must read at least.
    bytes: f64,
    /// Multiplications that it must make.
    products: f64,
    arithmetic: Arithmetic,
    queueing: Option<Queueing>,
}

/// Arithmetic roofs, and a case's shares of both; `None` where there is no roof.
struct Roofs {
    floats: f64,
    bytes: f64,
    memory: f64,
    line: Roofline,
}

pub fn run(args: &BenchArgs) -> Result<u8> {
    if let Some(data) = &args.of.data {
        return collection::run(data, &args.of, args.threads);
    }
    let pool = pool(Some(args.threads))?;
    let opened = open(args.device, &pool, 16 << 30, None)?;
    let mut roofs = match opened.backend.facts().kind {
        BackendKind::Cpu => Some(Roofs::measure(Roofline::new(pool, Level::best()))),
        BackendKind::Cuda | BackendKind::Wgpu => None,
    };
    let cases = measure(opened.backend.as_ref(), args)?;
    let rows: Vec<Value> = cases.iter().map(|case| case.json(roofs.as_mut())).collect();
    let found = json!({
        "device": opened.why,
        "threads": args.threads,
        "roofs": roofs.as_ref().map(Roofs::json),
        "card": card(&opened, args.dim, &cases),
        "cases": rows,
    });
    if args.json {
        say(format_args!("{}", serde_json::to_string_pretty(&found).expect("strings and numbers")));
    } else {
        print(&found);
    }
    Ok(0)
}

/// From which batch on the card is faster and what its launches wait, or that there is none.
fn card(opened: &Opened, dim: usize, cases: &[Case]) -> Value {
    if opened.backend.facts().kind == BackendKind::Cpu {
        return json!("no card");
    }
    let batch = |n_rows| opened.crossover.map(|measured| measured.batch(n_rows, dim as u64));
    let is_timed = cases.iter().any(|case| case.queueing.is_some());
    json!({
        "call_seconds": opened.crossover.map(|measured| measured.card.call),
        "least_batch_over_1000_rows": batch(1000),
        "least_batch_over_1000000_rows": batch(1_000_000),
        "tklqt": if is_timed { "by case" } else { "not told by this device" },
    })
}

impl Roofs {
    fn measure(mut line: Roofline) -> Self {
        let (floats, bytes) = (line.peak_floats(), line.peak_bytes());
        Self { floats, bytes, memory: line.read(MEMORY_BYTES), line }
    }

    fn json(&self) -> Value {
        json!({
            "memory_bytes_per_second": self.memory.round(),
            "float_operations_per_second": self.floats.round(),
            "byte_operations_per_second": self.bytes.round(),
        })
    }

    fn shares(&mut self, case: &Case) -> (f64, Option<f64>) {
        let peak = match case.arithmetic {
            Arithmetic::Floats => Some(self.floats),
            Arithmetic::Bytes => Some(self.bytes),
            Arithmetic::Other => None,
        };
        let share = |peak| case.operations() / case.seconds / peak;
        let read = self.line.read(case.bytes as u64);
        (case.bytes / case.seconds / read, peak.map(share))
    }
}

impl Case {
    /// A multiplication and an addition for each product.
    fn operations(&self) -> f64 {
        2.0 * self.products
    }

    fn json(&self, roofs: Option<&mut Roofs>) -> Value {
        let shares = roofs.map(|roofs| roofs.shares(self));
        // A case that the crossover sends to the processor launches nothing.
        let launched = self.queueing.filter(|queueing| queueing.n_launches > 0);
        json!({
            "operation": self.operation,
            "case": self.what,
            "seconds": self.seconds,
            "bytes_per_second": self.bytes / self.seconds,
            "operations_per_second": self.operations() / self.seconds,
            "share_of_reading": shares.map(|(read, _)| read),
            "share_of_peak": shares.and_then(|(_, peak)| peak),
            "tklqt_us": launched.map(|queueing| queueing.total_us / WATCHED as f64),
        })
    }
}

fn print(found: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let threads = &found["threads"];
    let s = if threads == 1 { "" } else { "s" };
    say(format_args!("{}, {threads} thread{s}", text(&found["device"])));
    let roofs = &found["roofs"];
    if !roofs.is_null() {
        let giga = |name: &str| roofs[name].as_f64().unwrap_or_default() / 1e9;
        say(format_args!(
            "roofs: memory {:.1} GB/s, f32 {:.0} Gop/s, int8 {:.0} Gop/s (a product is two)",
            giga("memory_bytes_per_second"),
            giga("float_operations_per_second"),
            giga("byte_operations_per_second")
        ));
    }
    let is_timed = found["card"]["tklqt"] == "by case";
    let waits = if is_timed { "  TKLQT us" } else { "" };
    say(format_args!(
        "{:11} {:33} {:>9} {:>7} {:>8} {:>8} {:>7}{waits}",
        "operation", "case", "ms", "GB/s", "of reads", "Gop/s", "of peak"
    ));
    for case in found["cases"].as_array().into_iter().flatten() {
        let number = |name: &str| case[name].as_f64().unwrap_or_default();
        let share =
            |name: &str| case[name].as_f64().map_or("-".into(), |x| format!("{:.0} %", 100.0 * x));
        let waits = match is_timed {
            true => case["tklqt_us"].as_f64().map_or("-".into(), |us| format!("{us:.1}")),
            false => String::new(),
        };
        let line = format!(
            "{:11} {:33} {:9.3} {:7.1} {:>8} {:8.1} {:>7} {waits:>10}",
            text(&case["operation"]),
            text(&case["case"]),
            number("seconds") * 1e3,
            number("bytes_per_second") / 1e9,
            share("share_of_reading"),
            number("operations_per_second") / 1e9,
            share("share_of_peak")
        );
        say(format_args!("{}", line.trim_end()));
    }
    if roofs.is_null() {
        say(format_args!("shares: the roofs of a card are not measured"));
    } else {
        say(format_args!(
            "of reads: of reading as many bytes again and again, from cache where it holds them"
        ));
    }
    match &found["card"] {
        Value::String(none) => say(format_args!("TKLQT, crossover: {none}")),
        card => {
            if !is_timed {
                say(format_args!("TKLQT: {}", text(&card["tklqt"])));
            }
            let batch = |name: &str| card[name].as_u64().map_or("none".into(), |n| n.to_string());
            let (small, large) = ("least_batch_over_1000_rows", "least_batch_over_1000000_rows");
            say(format_args!(
                "the card is faster from a batch over 1,000 rows of: {}; over 1,000,000: {}",
                batch(small),
                batch(large)
            ));
        }
    }
}

/// The fastest of several calls, and what launches wait in [`WATCHED`] more.
fn timed(
    backend: &dyn Backend,
    mut call: impl FnMut() -> Result<()>,
) -> Result<(f64, Option<Queueing>)> {
    let (began, mut best) = (Instant::now(), f64::MAX);
    let mut n_calls = 0;
    while n_calls < 3 || (began.elapsed().as_secs_f64() < SECONDS && n_calls < 1000) {
        let at = Instant::now();
        call()?;
        best = best.min(at.elapsed().as_secs_f64());
        n_calls += 1;
    }
    if backend.facts().kind == BackendKind::Cpu {
        return Ok((best, None));
    }
    let queueing = backend.queueing(&mut || (0..WATCHED).try_for_each(|_| call()))?;
    Ok((best, queueing))
}

fn made_up(dtype: Dtype, n_rows: usize, dim: usize, seed: u64) -> Result<Rows> {
    let bits = (0..(n_rows * dim) as u64).map(|i| stream(seed, i) >> 40);
    let values = match dtype {
        Dtype::F32 => Values::F32(bits.map(|x| x as f32 / (1 << 23) as f32 - 1.0).collect()),
        Dtype::F16 => {
            let wide = bits.map(|x| half::f16::from_f32(x as f32 / (1 << 23) as f32 - 1.0));
            Values::F16(wide.collect())
        }
        Dtype::U8 => Values::U8(bits.map(|x| x as u8).collect()),
        Dtype::I8 => Values::I8(bits.map(|x| (x % 255) as i8).map(|x| x.max(-127)).collect()),
    };
    Rows::new(values, dim)
}

fn measure(backend: &dyn Backend, args: &BenchArgs) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::I8] {
        scans(backend, args, dtype, &mut cases)?;
    }
    small(backend, args, &mut cases)?;
    codes(backend, args, &mut cases)?;
    signatures(backend, &mut cases)?;
    Ok(cases)
}

fn arithmetic_of(dtype: Dtype) -> Arithmetic {
    if dtype.is_integer() { Arithmetic::Bytes } else { Arithmetic::Floats }
}

fn scans(
    backend: &dyn Backend,
    args: &BenchArgs,
    dtype: Dtype,
    cases: &mut Vec<Case>,
) -> Result<()> {
    let rows = Arc::new(made_up(dtype, args.rows as usize, args.dim, 1)?);
    let resident = backend.upload(Arc::clone(&rows), Metric::Dot)?;
    for batch in [1, 16, 256] {
        let queries = made_up(dtype, batch, args.dim, 2)?;
        let (seconds, queueing) = timed(backend, || {
            backend.flat_scan(Stream(0), &queries, &resident, Allow::All, 10).map(drop)
        })?;
        cases.push(Case {
            operation: "flat_scan",
            what: format!("{} {} x {}, batch {batch}", dtype.name(), args.rows, args.dim),
            seconds,
            bytes: rows.n_bytes() as f64,
            products: batch as f64 * f64::from(args.rows) * args.dim as f64,
            arithmetic: arithmetic_of(dtype),
            queueing,
        });
    }
    let n = args.rows.min(8192);
    let tile = [Tile { a: 0..n, b: 0..n }];
    // No made-up pair is that near.
    let within = f32::MIN / 2.0;
    let (seconds, queueing) =
        timed(backend, || backend.pairs(Stream(0), &resident, None, &tile, within).map(drop))?;
    cases.push(Case {
        operation: "pairs",
        what: format!("{} {n} x {}, all with all", dtype.name(), args.dim),
        seconds,
        bytes: (n as usize * args.dim * dtype.bytes()) as f64,
        products: f64::from(n) * f64::from(n) / 2.0 * args.dim as f64,
        arithmetic: arithmetic_of(dtype),
        queueing,
    });
    Ok(())
}

fn small(backend: &dyn Backend, args: &BenchArgs, cases: &mut Vec<Case>) -> Result<()> {
    let rows = Arc::new(made_up(Dtype::F32, args.rows as usize, args.dim, 1)?);
    let resident = backend.upload(Arc::clone(&rows), Metric::L2)?;
    let queries = made_up(Dtype::F32, 16, args.dim, 2)?;
    let row_bytes = args.dim as f64 * 4.0;
    let slots: Vec<Vec<u32>> = (0..16)
        .map(|q| (0..256).map(|i| (stream(q, i) % u64::from(args.rows)) as u32).collect())
        .collect();
    let (seconds, queueing) =
        timed(backend, || backend.gather(Stream(0), &queries, &resident, &slots).map(drop))?;
    let n = 16.0 * 256.0;
    cases.push(Case {
        operation: "gather",
        what: "f32, 16 queries, 256 slots each".to_owned(),
        seconds,
        bytes: n * row_bytes,
        products: n * args.dim as f64,
        arithmetic: Arithmetic::Floats,
        queueing,
    });
    let end = args.rows.min(1024);
    let (seconds, queueing) =
        timed(backend, || backend.distances(Stream(0), &queries, &resident, 0..end).map(drop))?;
    cases.push(Case {
        operation: "distances",
        what: format!("f32 l2, 16 queries, {end} rows"),
        seconds,
        bytes: f64::from(end) * row_bytes,
        products: 16.0 * f64::from(end) * args.dim as f64,
        arithmetic: Arithmetic::Floats,
        queueing,
    });
    let centroids = made_up(Dtype::F32, 256, args.dim, 3)?;
    let end = args.rows.min(16_384);
    let (seconds, queueing) =
        timed(backend, || backend.assign(Stream(0), &resident, 0..end, &centroids).map(drop))?;
    cases.push(Case {
        operation: "assign",
        what: format!("f32 l2, {end} rows, 256 centroids"),
        seconds,
        bytes: f64::from(end) * row_bytes,
        products: 256.0 * f64::from(end) * args.dim as f64,
        arithmetic: Arithmetic::Floats,
        queueing,
    });
    Ok(())
}

fn codes(backend: &dyn Backend, args: &BenchArgs, cases: &mut Vec<Case>) -> Result<()> {
    let (n_rows, n_words) = (args.rows as usize, args.dim.div_ceil(64));
    let words = |n: usize, seed| -> Vec<u64> { (0..n as u64).map(|i| stream(seed, i)).collect() };
    // Estimates far apart beside their bounds: few rows survive, as with real codes.
    let factors = |scale: f32| {
        let one =
            |i| Factors { add: (stream(5, i) >> 40) as f32 * scale, rescale: -0.01, err: 0.1 };
        (0..n_rows as u64).map(one).collect::<Vec<_>>()
    };
    let codes = RabitqCodes {
        metric: Metric::L2,
        n_rows,
        n_words,
        signs: words(n_rows * n_words, 1).into(),
        extra: words(n_rows * n_words * EXTRA_PLANES, 2).into(),
        coarse: factors(1e-3).into(),
        fine: factors(1e-3).into(),
    };
    let planes = |n: usize, seed| Planes {
        words: words(n * n_words, seed),
        n_planes: n,
        lo: -1.0,
        step: 2.0 / ((1 << n) - 1) as f32,
        sum: 0.0,
    };
    let query = RabitqQuery {
        coarse: planes(4, 3),
        fine: planes(8, 4),
        add: 0.0,
        coarse_err: 1.0,
        fine_err: 1.0,
    };
    let sign_bytes = (codes.signs.len() * 8 + n_rows * size_of::<Factors>()) as f64;
    let resident = backend.upload_codes(Arc::new(codes))?;
    let lists = [(0..args.rows, &query)];
    for batch in [1, 16] {
        let scans = vec![RabitqScan { lists: &lists, bound: f32::INFINITY, k: 10 }; batch];
        let (seconds, queueing) = timed(backend, || {
            backend.rabitq_scan(Stream(0), &scans, &resident, Allow::All).map(drop)
        })?;
        cases.push(Case {
            operation: "rabitq_scan",
            what: format!("1 + 3 bits, {n_rows} x {}, batch {batch}", args.dim),
            seconds,
            bytes: sign_bytes,
            products: (batch * n_rows * args.dim) as f64,
            arithmetic: Arithmetic::Other,
            queueing,
        });
    }
    Ok(())
}

fn signatures(backend: &dyn Backend, cases: &mut Vec<Case>) -> Result<()> {
    let hasher = MinHasher::new(128, 0);
    let shingles: Vec<u32> = (0..100_000).map(|i| stream(7, i) as u32).collect();
    let ends: Vec<u32> = (1..=200).map(|record| record * 500).collect();
    let (seconds, queueing) =
        timed(backend, || backend.minhash(Stream(0), &hasher, &shingles, &ends).map(drop))?;
    cases.push(Case {
        operation: "minhash",
        what: "200 x 500 shingles, 128 slots".to_owned(),
        seconds,
        bytes: shingles.len() as f64 * 4.0,
        products: shingles.len() as f64 * 128.0,
        arithmetic: Arithmetic::Other,
        queueing,
    });
    Ok(())
}
