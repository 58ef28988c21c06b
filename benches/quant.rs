//! Codes: rotation and encoding; and, on a real set, exact search by bounds.
//!
//! `cargo bench --no-default-features --bench quant` measures on made-up rows. `... --bench quant -- --serve SET` loads
//! `SET/base.npy` and `queries.npy`, answers commands on standard input, one JSON object per line, and is what
//! `benches/peers/exact_by_bounds.py` talks to:
//!
//! ```text
//! bits N | bytes N | flat N | scan N    queries per second in batches of N, one pass over all queries
//! recall bits | recall bytes            neighbors missed of the exact ten in SET/gt/all.dist.npy
//! width E0                              another width of bounds
//! ```

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use half::f16;
use nearkin::backend::codes::RabitqQuery;
use nearkin::backend::cpu::Cpu;
use nearkin::backend::{Backend, RabitqScan, Stream};
use nearkin::core::allow::Allow;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::neighbors::Neighbor;
use nearkin::core::rows::{Rows, Values};
use nearkin::quant::rabitq::Rabitq;
use nearkin::quant::rotation::Rotation;
use nearkin::quant::search::{E0, ExactIndex, Found, Keep};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Value, json};

const K: usize = 10;
const SEED: u64 = 1;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [flag, set] = &args[..]
        && flag == "--serve"
    {
        return serve(Path::new(set));
    }
    let mut criterion = Criterion::default().configure_from_args();
    made_up(&mut criterion);
    criterion.final_summary();
}

fn pool() -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(1).build().expect("a thread"))
}

fn random_rows(n_rows: usize, dim: usize, seed: u64) -> Rows {
    let element = |i| (stream(seed, i) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    Rows::new(Values::F32((0..(n_rows * dim) as u64).map(element).collect()), dim).expect("rows")
}

fn made_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quant");
    for dim in [128, 384, 768] {
        let rotation = Rotation::new(dim, SEED);
        let mut row = vec![0.5; rotation.padded()];
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("rotation/{dim}"), |b| b.iter(|| rotation.apply(&mut row)));
        let (n_rows, pool) = (20_000, pool());
        let rows = random_rows(n_rows, dim, 1);
        let rabitq = Rabitq::of_mean(Metric::L2, &rows, SEED).expect("rows");
        group.throughput(Throughput::Elements(n_rows as u64)).sample_size(10);
        group.bench_function(format!("encode/l2/{dim}"), |b| {
            b.iter(|| rabitq.encode(&pool, &rows, &|_| 0).expect("rows"))
        });
    }
    group.finish();
}

/// Seconds that all threads of this process have computed: other work on the machine does not count.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let nanoseconds = |task: std::io::Result<std::fs::DirEntry>| -> Option<f64> {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(nanoseconds).sum::<f64>() / 1e9
}

/// A matrix in NumPy's format, widened: elements and columns.
fn npy(path: &Path) -> (Vec<f32>, usize) {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..header_end]).into_owned();
    let body = &bytes[header_end..];
    let values = if header.contains("<f2") {
        body.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
    } else if header.contains("<f4") {
        body.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    } else {
        assert!(header.contains("|u1"), "{}: {header}", path.display());
        body.iter().map(|&b| f32::from(b)).collect()
    };
    let columns = header.split("'shape': (").nth(1).and_then(|rest| rest.split(',').nth(1));
    let columns = columns.and_then(|text| text.trim().trim_end_matches(')').parse().ok());
    (values, columns.expect("two dimensions"))
}

fn load(path: &Path, metric: Metric) -> Rows {
    let (mut values, dim) = npy(path);
    if metric == Metric::Cosine {
        for row in values.chunks_exact_mut(dim) {
            let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
    }
    Rows::new(Values::F32(values.into()), dim).expect("finite rows")
}

struct Set {
    cpu: Cpu,
    index: ExactIndex,
    queries: Rows,
    metric: Metric,
    rabitq: Rabitq,
    e0: f32,
    /// Exact distances at ranks 1, 10, 50 and 100, row after row.
    truth: Vec<f32>,
}

fn serve(folder: &Path) {
    let text = std::fs::read_to_string(folder.join("set.json")).expect("set.json");
    let about: Value = serde_json::from_str(&text).expect("JSON");
    let metric: Metric = about["metric"].as_str().expect("a metric").parse().expect("a metric");
    let rows = Arc::new(load(&folder.join("base.npy"), metric));
    let (pool, cpu) = (pool(), Cpu::new(pool(), 1 << 34));
    let began = Instant::now();
    let build = |rows| ExactIndex::build(&cpu, &pool, rows, metric, Keep::BitsAndBytes, SEED);
    let index = build(Arc::clone(&rows)).expect("built");
    let seconds = began.elapsed().as_secs_f64();
    let mut set = Set {
        index,
        queries: load(&folder.join("queries.npy"), metric),
        metric,
        rabitq: Rabitq::of_mean(metric, &rows, SEED).expect("rows"),
        e0: E0,
        truth: npy(&folder.join("gt/all.dist.npy")).0,
        cpu,
    };
    let (n_rows, dim) = (rows.n_rows(), rows.dim());
    let name = set.cpu.facts().name.clone();
    println!("{}", json!({"n_rows": n_rows, "dim": dim, "build_s": seconds, "backend": name}));
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["recall", way] => set.recall(way),
            ["width", e0] => {
                set.e0 = e0.parse().expect("a number");
                set.index = set.index.with_e0(set.e0);
                json!({"e0": set.e0})
            }
            [way, batch] => set.measure(way, batch.parse().expect("a number")),
            _ => break,
        };
        println!("{answer}");
    }
}

impl Set {
    fn search(&self, way: &str, queries: &Rows) -> Found {
        let on = (&self.cpu as &dyn Backend, Stream(0));
        match way {
            "bits" => self.index.search(on, queries, Allow::All, K).expect("an answer"),
            "bytes" => {
                let found = self.index.search_bytes(on, queries, Allow::All, K);
                found.expect("an answer").expect("bytes were kept")
            }
            _ => {
                let neighbors = self.cpu.flat_scan(on.1, queries, self.index.rows(), Allow::All, K);
                Found { neighbors: neighbors.expect("an answer"), looked: Default::default() }
            }
        }
    }

    fn batches(&self, batch: usize) -> Vec<Rows> {
        let n = self.queries.n_rows();
        (0..n).step_by(batch).map(|i| self.queries.slice(i..n.min(i + batch))).collect()
    }

    fn measure(&self, way: &str, batch: usize) -> Value {
        let mut batches = self.batches(batch);
        if way == "flat" {
            batches.truncate(256usize.div_ceil(batch));
        }
        let n_queries: usize = batches.iter().map(Rows::n_rows).sum();
        let (began, cpu_began) = (Instant::now(), cpu_seconds());
        let mut totals = [0; 4];
        for queries in &batches {
            if way == "scan" {
                self.one_bit_pass(queries);
                continue;
            }
            let looked = self.search(way, queries).looked;
            let of = [looked.n_codes, looked.n_candidates, looked.n_raw, looked.n_rounds];
            totals.iter_mut().zip(of).for_each(|(total, n)| *total += n);
        }
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu_began);
        let per_query = totals.map(|total| total as f64 / n_queries as f64);
        json!({"way": way, "batch": batch, "n_queries": n_queries,
            "qps": n_queries as f64 / seconds, "cpu_qps": n_queries as f64 / cpu, "codes": per_query[0], "candidates": per_query[1], "raw": per_query[2],
            "rounds": per_query[3]})
    }

    /// Preparation and the pass over one bit per element, with a bound that no row meets.
    fn one_bit_pass(&self, queries: &Rows) {
        let rotated = self.rabitq.rotate(queries).expect("rows");
        let prepared: Vec<RabitqQuery> =
            rotated.iter().map(|query| self.rabitq.prepare(query, 0, self.e0)).collect();
        let n_rows = self.index.rows().host().n_rows() as u32;
        let lists: Vec<_> = prepared.iter().map(|query| [(0..n_rows, query)]).collect();
        let scan = |lists| RabitqScan { lists, bound: f32::NEG_INFINITY, k: K };
        let scans: Vec<_> = lists.iter().map(|lists| scan(lists)).collect();
        self.cpu.rabitq_scan(Stream(0), &scans, self.index.codes(), Allow::All).expect("room");
    }

    /// Of the exact ten of every query, those that are not there; ties count as found.
    fn recall(&self, way: &str) -> Value {
        let slack = if self.metric == Metric::L2 { 0.5 } else { 1e-6 };
        let (mut missed, mut of_queries) = (0, Vec::new());
        for (i, queries) in self.batches(256).iter().enumerate() {
            for (j, list) in self.search(way, queries).neighbors.iter().enumerate() {
                let q = i * 256 + j;
                let tenth = self.truth[4 * q + 1] + slack;
                let found = |neighbor: &&Neighbor| neighbor.distance <= tenth;
                let n = K - list.iter().filter(found).count();
                missed += n;
                if n > 0 {
                    of_queries.push(json!([q, n]));
                }
            }
        }
        let n = self.queries.n_rows() * K;
        json!({"way": way, "e0": self.e0, "neighbors": n, "missed": missed,
            "recall": 1.0 - missed as f64 / n as f64, "queries": of_queries})
    }
}
