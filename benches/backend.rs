//! The processor's operations, each beside the least time that this machine's roofs allow it.
//!
//! ```sh
//! cargo bench --no-default-features --bench backend -- [FILTER]              # criterion
//! cargo bench --no-default-features --bench backend -- --json FILE [FILTER]  # seconds of every repetition
//! ```
//!
//! Names are `operation/metric/dim/backend`, then element type and batch. Small by default, `BENCH_FULL=1` for real sizes.
//! `NEARKIN_BENCH_ROWS` and `NEARKIN_BENCH_QUERIES` name `.npy` files of floats to use instead of rows made by seed,
//! `NEARKIN_BENCH_LEVEL` an instruction set below the best (`avx2`), `NEARKIN_BENCH_THREADS` a number of threads (1).
//!
//! `--json` is for scripts that compare with peers in turns: criterion says nothing of single repetitions. Its times are
//! processor seconds of the calling thread with one thread, so that other work on the machine counts less, and wall
//! seconds with more.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use nearkin::backend::codes::RabitqQuery;
use nearkin::backend::cpu::Cpu;
use nearkin::backend::cpu::roofline::Roofline;
use nearkin::backend::{Backend, RabitqScan, Stream, Tile};
use nearkin::core::allow::Allow;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Rows, Values};
use nearkin::distance::Level;
use nearkin::quant::rabitq::Rabitq;
use nearkin::quant::search::E0;
use nearkin::record::npy;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Neighbors asked for.
const K: usize = 10;

const SEED: u64 = 1;

/// Repetitions of a case in a file of seconds.
const REPETITIONS: usize = 7;

/// Cosine distance up to which `pairs` reports.
const WITHIN: f32 = 0.1;

/// What bounds the arithmetic of a case.
#[derive(Clone, Copy)]
enum Unit {
    Floats,
    Bytes,
    /// No roof is measured for it.
    LookUps,
}

/// One operation on given inputs.
struct Case<'c> {
    /// `operation/metric/dim/backend`.
    group: String,
    /// Element type and batch.
    inputs: String,
    throughput: Throughput,
    /// Bytes that must be read at least, and multiplications that must be made.
    n_bytes: usize,
    n_products: usize,
    unit: Unit,
    run: Box<dyn FnMut() + 'c>,
}

/// Where cases run.
struct Machine {
    cpu: Cpu,
    is_full: bool,
}

/// What is measured of them, and where it goes.
struct Sink {
    roofs: Roofline,
    peak_floats: f64,
    peak_bytes: f64,
    n_threads: usize,
    filter: String,
    output: Output,
}

enum Output {
    Report(Box<Criterion>),
    Seconds { path: String, results: Vec<Value> },
}

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let json = args.iter().position(|arg| arg == "--json").map(|at| {
        args.remove(at);
        assert!(at < args.len(), "--json wants a file");
        args.remove(at)
    });
    let filter = args.iter().find(|arg| !arg.starts_with('-')).cloned().unwrap_or_default();
    let output = match json {
        Some(path) => Output::Seconds { path, results: Vec::new() },
        None => Output::Report(Box::new(Criterion::default().configure_from_args())),
    };
    let (machine, mut sink) = open(filter, output);
    for (rows, queries) in machine.inputs() {
        machine.scans(&rows, &queries, &mut sink);
        machine.small(&rows, &queries, &mut sink);
        machine.codes(&rows, &queries, &mut sink);
    }
    sink.close();
}

/// A variable of the environment.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn open(filter: String, output: Output) -> (Machine, Sink) {
    let level = variable("NEARKIN_BENCH_LEVEL").map_or_else(Level::best, |name| {
        let level = Level::available().into_iter().find(|level| level.name() == name);
        level.unwrap_or_else(|| panic!("{name} is no level of this processor"))
    });
    let n_threads = variable("NEARKIN_BENCH_THREADS").map_or(1, |n| n.parse().expect("threads"));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build();
    let pool = Arc::new(pool.expect("threads"));
    let roofs = Roofline::new(Arc::clone(&pool), level);
    let (peak_floats, peak_bytes) = (roofs.peak_floats(), roofs.peak_bytes());
    println!(
        "roofs of {}, {n_threads} threads: {:.0} Gop/s of f32, {:.0} of int8",
        level.name(),
        peak_floats / 1e9,
        peak_bytes / 1e9
    );
    let is_full = variable("BENCH_FULL").is_some_and(|value| value == "1");
    let machine = Machine { cpu: Cpu::at_level(pool, 1 << 34, level), is_full };
    (machine, Sink { roofs, peak_floats, peak_bytes, n_threads, filter, output })
}

impl Machine {
    /// Rows and queries of every dim, or those of the files.
    fn inputs(&self) -> Box<dyn Iterator<Item = (Rows, Rows)>> {
        let files = (variable("NEARKIN_BENCH_ROWS"), variable("NEARKIN_BENCH_QUERIES"));
        let (n_rows, dims) = match self.is_full {
            true => (62_436, vec![96, 384, 768, 1536]),
            false => (8192, vec![96, 384]),
        };
        match files {
            (Some(rows), Some(queries)) => {
                Box::new(std::iter::once((floats(&rows), floats(&queries))))
            }
            (None, None) => {
                let made = move |dim| (made(n_rows, dim, 1), made(1000, dim, 2));
                Box::new(dims.into_iter().map(made))
            }
            _ => panic!("NEARKIN_BENCH_ROWS and NEARKIN_BENCH_QUERIES go together"),
        }
    }

    fn group(&self, operation: &str, metric: Metric, dim: usize) -> String {
        format!("{operation}/{metric}/{dim}/cpu-{}", self.cpu.level().name())
    }

    /// `flat_scan` and `pairs`: whole blocks of rows.
    fn scans(&self, rows: &Rows, queries: &Rows, sink: &mut Sink) {
        let (cpu, dim) = (&self.cpu, rows.dim());
        for (dtype, unit) in [("f32", Unit::Floats), ("int8", Unit::Bytes)] {
            let typed = Arc::new(converted(rows, dtype));
            let (n_rows, n_bytes) = (typed.n_rows(), typed.n_bytes() as usize);
            let some = typed.slice(0..n_rows.min(if self.is_full { 20_000 } else { 4096 }));
            let resident = cpu.upload(typed, Metric::Dot).expect("the budget holds the rows");
            let queries = converted(queries, dtype);
            let batches = if self.is_full { &[1, 16, 256, 1000][..] } else { &[1, 16, 256] };
            for &batch in batches {
                let batched = queries.slice(0..batch.min(queries.n_rows()));
                sink.measure(Case {
                    group: self.group("flat_scan", Metric::Dot, dim),
                    inputs: format!("{dtype}/{batch}"),
                    throughput: Throughput::Bytes(n_bytes as u64),
                    n_bytes,
                    n_products: n_rows * dim * batched.n_rows(),
                    unit,
                    run: Box::new(|| {
                        let found = cpu.flat_scan(Stream(0), &batched, &resident, Allow::All, K);
                        black_box(found.expect("a scan"));
                    }),
                });
            }
            let (n_rows, n_bytes) = (some.n_rows(), some.n_bytes() as usize);
            let resident = cpu.upload(Arc::new(some), Metric::Cosine).expect("room for rows");
            let tile = [Tile { a: 0..n_rows as u32, b: 0..n_rows as u32 }];
            sink.measure(Case {
                group: self.group("pairs", Metric::Cosine, dim),
                inputs: format!("{dtype}/{n_rows}"),
                throughput: Throughput::Elements(n_rows as u64),
                n_bytes,
                n_products: n_rows * (n_rows - 1) / 2 * dim,
                unit,
                run: Box::new(|| {
                    let found = cpu.pairs(Stream(0), &resident, None, &tile, WITHIN);
                    black_box(found.expect("a join"));
                }),
            });
        }
    }

    /// `assign` and `gather`, of floats.
    fn small(&self, rows: &Rows, queries: &Rows, sink: &mut Sink) {
        let (cpu, dim, n_rows) = (&self.cpu, rows.dim(), rows.n_rows());
        let resident = cpu.upload(Arc::new(rows.clone()), Metric::L2).expect("room for rows");
        let centroids = queries.slice(0..256.min(queries.n_rows()));
        sink.measure(Case {
            group: self.group("assign", Metric::L2, dim),
            inputs: format!("f32/{}", centroids.n_rows()),
            throughput: Throughput::Elements(n_rows as u64),
            n_bytes: n_rows * dim * 4,
            n_products: n_rows * dim * centroids.n_rows(),
            unit: Unit::Floats,
            run: Box::new(|| {
                let range = 0..n_rows as u32;
                let nearest = cpu.assign(Stream(0), &resident, range, &centroids);
                black_box(nearest.expect("centroids"));
            }),
        });
        let few = queries.slice(0..16.min(queries.n_rows()));
        let slot = |q: usize, i: u64| (stream(q as u64, i) % n_rows as u64) as u32;
        let slots: Vec<Vec<u32>> =
            (0..few.n_rows()).map(|q| (0..256).map(|i| slot(q, i)).collect()).collect();
        let n_gathered = 256 * few.n_rows();
        sink.measure(Case {
            group: self.group("gather", Metric::L2, dim),
            inputs: format!("f32/{}", few.n_rows()),
            throughput: Throughput::Bytes((n_gathered * dim * 4) as u64),
            n_bytes: n_gathered * dim * 4,
            n_products: n_gathered * dim,
            unit: Unit::Floats,
            run: Box::new(|| {
                let distances = cpu.gather(Stream(0), &few, &resident, &slots);
                black_box(distances.expect("slots"));
            }),
        });
    }

    /// `rabitq_scan` with a bound below all rows: the pass over one bit per element alone.
    fn codes(&self, rows: &Rows, queries: &Rows, sink: &mut Sink) {
        let (cpu, dim, n_rows) = (&self.cpu, rows.dim(), rows.n_rows());
        let rabitq = Rabitq::of_mean(Metric::L2, rows, SEED).expect("rows");
        let codes = Arc::new(rabitq.encode(cpu.pool(), rows, &|_| 0).expect("rows"));
        let n_bytes = codes.signs.len() * 8;
        let codes = cpu.upload_codes(codes).expect("room for codes");
        let rotated = rabitq.rotate(&queries.slice(0..16.min(queries.n_rows()))).expect("rows");
        let prepared: Vec<RabitqQuery> =
            rotated.iter().map(|query| rabitq.prepare(query, 0, E0)).collect();
        let lists: Vec<_> = prepared.iter().map(|query| [(0..n_rows as u32, query)]).collect();
        let scan = |lists| RabitqScan { lists, bound: f32::NEG_INFINITY, k: K };
        let scans: Vec<_> = lists.iter().map(|lists| scan(lists)).collect();
        for batch in [1, scans.len()] {
            let scans = &scans[..batch];
            sink.measure(Case {
                group: self.group("rabitq_scan", Metric::L2, dim),
                inputs: format!("1 bit/{batch}"),
                throughput: Throughput::Elements((n_rows * batch) as u64),
                n_bytes,
                n_products: n_rows * dim * batch,
                unit: Unit::LookUps,
                run: Box::new(|| {
                    let survivors = cpu.rabitq_scan(Stream(0), scans, &codes, Allow::All);
                    black_box(survivors.expect("codes"));
                }),
            });
        }
    }
}

impl Sink {
    fn measure(&mut self, mut case: Case<'_>) {
        let name = format!("{}/{}", case.group, case.inputs);
        if !name.contains(&self.filter) {
            return;
        }
        let reads = self.roofs.read(case.n_bytes as u64);
        let peak = match case.unit {
            Unit::Floats => Some(self.peak_floats),
            Unit::Bytes => Some(self.peak_bytes),
            Unit::LookUps => None,
        };
        let (read_s, compute_s) =
            (case.n_bytes as f64 / reads, peak.map(|peak| 2.0 * case.n_products as f64 / peak));
        let least = read_s.max(compute_s.unwrap_or_default());
        match &mut self.output {
            Output::Report(criterion) => {
                let compute =
                    compute_s.map_or("not known".into(), |s| format!("{:.3} ms", s * 1e3));
                println!(
                    "{name}: roof {:.3} ms (reading {:.3} ms, arithmetic {compute})",
                    least * 1e3,
                    read_s * 1e3
                );
                let mut group = criterion.benchmark_group(&case.group);
                group.sample_size(10).throughput(case.throughput);
                group.warm_up_time(Duration::from_millis(300));
                group.measurement_time(Duration::from_secs(1));
                group.bench_function(&case.inputs, |b| b.iter(&mut case.run));
                group.finish();
            }
            Output::Seconds { results, .. } => {
                let times = times(self.n_threads, &mut case.run);
                let best = times.iter().copied().fold(f64::INFINITY, f64::min);
                println!("{name}: {:.3} ms, {:.0} % of its roof", best * 1e3, 100.0 * least / best);
                results.push(json!({
                    "case": name, "seconds": times, "bytes": case.n_bytes, "products": case.n_products,
                    "roof_bytes_per_s": reads, "roof_operations_per_s": peak, "threads": self.n_threads,
                }));
            }
        }
    }

    fn close(self) {
        match self.output {
            Output::Report(criterion) => criterion.final_summary(),
            Output::Seconds { path, results } => {
                let text = serde_json::to_string_pretty(&results).expect("plain values");
                std::fs::write(&path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
            }
        }
    }
}

/// Seconds of every repetition, after one that is not counted.
fn times(n_threads: usize, run: &mut dyn FnMut()) -> Vec<f64> {
    let cpu = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    run();
    let one = |_| {
        let (wall, began) = (Instant::now(), cpu());
        run();
        let used = if n_threads == 1 { cpu() - began } else { wall.elapsed() };
        used.as_secs_f64()
    };
    (0..REPETITIONS).map(one).collect()
}

/// Rows of a file, as f32.
fn floats(path: &str) -> Rows {
    let rows = npy::read(Path::new(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut values = vec![0.0; rows.n_rows() * rows.dim()];
    values.chunks_exact_mut(rows.dim()).enumerate().for_each(|(i, row)| rows.widen(i, row));
    Rows::new(Values::F32(values.into()), rows.dim()).expect("rows that were read")
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
    if dtype == "f32" {
        return rows.clone();
    }
    let scale = 127.0 / values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let values = values.iter().map(|x| (x * scale).round() as i8).collect();
    Rows::new(Values::I8(values), rows.dim()).expect("rows")
}
