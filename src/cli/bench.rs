//! `nearkin bench`: every operation on this machine, beside what the machine can do at most.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::backend::codes::{EXTRA_PLANES, Factors, Planes, RabitqCodes, RabitqQuery};
use crate::backend::cpu::minhash::MinHasher;
use crate::backend::cpu::roofline::read_bandwidth;
use crate::backend::open::{Device, open};
use crate::backend::{Backend, RabitqScan, Stream, Tile};
use crate::cli::{pool, say};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::rows::{Dtype, Rows, Values};
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
}

/// Seconds that one case may take, repetitions included.
const SECONDS: f64 = 1.0;

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
}

pub fn run(args: &BenchArgs) -> Result<u8> {
    let pool = pool(Some(args.threads))?;
    let opened = open(args.device, &pool, 16 << 30, None)?;
    let bandwidth = read_bandwidth(&pool);
    let cases = measure(opened.backend.as_ref(), args)?;
    let rows: Vec<Value> = cases.iter().map(|case| case.json(bandwidth)).collect();
    let crossover = opened.crossover.map(|measured| {
        let batch = |n_rows| measured.batch(n_rows, args.dim as u64);
        json!({
            "card_call_seconds": measured.card.call,
            "least_batch_over_1000_rows": batch(1000),
            "least_batch_over_1000000_rows": batch(1_000_000),
        })
    });
    let all = json!({
        "device": opened.why,
        "threads": args.threads,
        "read_bytes_per_second": bandwidth.round(),
        "crossover": crossover,
        "cases": rows,
    });
    if args.json {
        say(format_args!("{}", serde_json::to_string_pretty(&all).expect("strings and numbers")));
        return Ok(0);
    }
    say(format_args!("{}; memory is read at {:.1} GB/s", opened.why, bandwidth / 1e9));
    say(format_args!(
        "{:12} {:34} {:>10} {:>8} {:>9} {:>10}",
        "operation", "case", "ms", "GB/s", "Gmul/s", "bandwidth"
    ));
    for case in &cases {
        say(format_args!(
            "{:12} {:34} {:10.3} {:8.1} {:9.1} {:9.0} %",
            case.operation,
            case.what,
            case.seconds * 1e3,
            case.bytes / case.seconds / 1e9,
            case.products / case.seconds / 1e9,
            100.0 * case.bytes / case.seconds / bandwidth
        ));
    }
    if let Some(crossover) = crossover {
        say(format_args!("the card is faster from: {crossover}"));
    }
    Ok(0)
}

impl Case {
    fn json(&self, bandwidth: f64) -> Value {
        json!({
            "operation": self.operation,
            "case": self.what,
            "seconds": self.seconds,
            "bytes_per_second": self.bytes / self.seconds,
            "products_per_second": self.products / self.seconds,
            "share_of_bandwidth": self.bytes / self.seconds / bandwidth,
        })
    }
}

/// The fastest of several calls.
fn fastest(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let (began, mut best) = (Instant::now(), f64::MAX);
    let mut n_calls = 0;
    while n_calls < 3 || (began.elapsed().as_secs_f64() < SECONDS && n_calls < 1000) {
        let at = Instant::now();
        call()?;
        best = best.min(at.elapsed().as_secs_f64());
        n_calls += 1;
    }
    Ok(best)
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
        let seconds = fastest(|| {
            backend.flat_scan(Stream(0), &queries, &resident, Allow::All, 10).map(drop)
        })?;
        cases.push(Case {
            operation: "flat_scan",
            what: format!("{} {} x {}, batch {batch}", dtype.name(), args.rows, args.dim),
            seconds,
            bytes: rows.n_bytes() as f64,
            products: batch as f64 * f64::from(args.rows) * args.dim as f64,
        });
    }
    let n = args.rows.min(8192);
    let tile = [Tile { a: 0..n, b: 0..n }];
    // No made-up pair is that near.
    let within = f32::MIN / 2.0;
    let seconds = fastest(|| backend.pairs(Stream(0), &resident, None, &tile, within).map(drop))?;
    cases.push(Case {
        operation: "pairs",
        what: format!("{} {n} x {}, all with all", dtype.name(), args.dim),
        seconds,
        bytes: (n as usize * args.dim * dtype.bytes()) as f64,
        products: f64::from(n) * f64::from(n) / 2.0 * args.dim as f64,
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
    let seconds = fastest(|| backend.gather(Stream(0), &queries, &resident, &slots).map(drop))?;
    let n = 16.0 * 256.0;
    cases.push(Case {
        operation: "gather",
        what: "f32, 16 queries, 256 slots each".to_owned(),
        seconds,
        bytes: n * row_bytes,
        products: n * args.dim as f64,
    });
    let end = args.rows.min(1024);
    let seconds = fastest(|| backend.distances(Stream(0), &queries, &resident, 0..end).map(drop))?;
    cases.push(Case {
        operation: "distances",
        what: format!("f32 l2, 16 queries, {end} rows"),
        seconds,
        bytes: f64::from(end) * row_bytes,
        products: 16.0 * f64::from(end) * args.dim as f64,
    });
    let centroids = made_up(Dtype::F32, 256, args.dim, 3)?;
    let end = args.rows.min(16_384);
    let seconds = fastest(|| backend.assign(Stream(0), &resident, 0..end, &centroids).map(drop))?;
    cases.push(Case {
        operation: "assign",
        what: format!("f32 l2, {end} rows, 256 centroids"),
        seconds,
        bytes: f64::from(end) * row_bytes,
        products: 256.0 * f64::from(end) * args.dim as f64,
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
        signs: words(n_rows * n_words, 1),
        extra: words(n_rows * n_words * EXTRA_PLANES, 2),
        coarse: factors(1e-3),
        fine: factors(1e-3),
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
        let seconds =
            fastest(|| backend.rabitq_scan(Stream(0), &scans, &resident, Allow::All).map(drop))?;
        cases.push(Case {
            operation: "rabitq_scan",
            what: format!("1 + 3 bits, {n_rows} x {}, batch {batch}", args.dim),
            seconds,
            bytes: sign_bytes,
            products: (batch * n_rows * args.dim) as f64,
        });
    }
    Ok(())
}

fn signatures(backend: &dyn Backend, cases: &mut Vec<Case>) -> Result<()> {
    let hasher = MinHasher::new(128, 0);
    let shingles: Vec<u32> = (0..100_000).map(|i| stream(7, i) as u32).collect();
    let ends: Vec<u32> = (1..=200).map(|record| record * 500).collect();
    let seconds = fastest(|| backend.minhash(Stream(0), &hasher, &shingles, &ends).map(drop))?;
    cases.push(Case {
        operation: "minhash",
        what: "200 records of 500 shingles, 128 slots".to_owned(),
        seconds,
        bytes: shingles.len() as f64 * 4.0,
        products: shingles.len() as f64 * 128.0,
    });
    Ok(())
}
