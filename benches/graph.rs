//! Recall against speed of the graph, on one thread, in processor time, so that other work on the machine weighs little.
//!
//! ```text
//! cargo bench --bench graph -- VECTORS ANSWERS           the curve over ef, build seconds, bytes per row
//! cargo bench --bench graph -- VECTORS ANSWERS --filters  the same under filters that pass 50, 10 and 1 %
//! cargo bench --bench graph -- VECTORS ANSWERS --churn    the whole set replaced four times, beside a fresh build
//! cargo bench --bench graph -- VECTORS ANSWERS --serve    a line of JSON for each line `ef N` (benches/peers/graph.py)
//! ```
//!
//! VECTORS holds base.npy and queries.npy; ANSWERS holds set.json and gt/, and may be the same folder. Without them rows are
//! made up. A neighbor counts if it is no farther than the tenth of the exact answer.

use std::io::BufRead;
use std::path::Path;

use nearkin::core::allow::Allow;
use nearkin::core::bits::Bits as Set;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Rows, Values};
use nearkin::distance::simd::coded::Bits;
use nearkin::index::graph::codes::Codes;
use nearkin::index::graph::distances::Distances;
use nearkin::index::graph::raw::RawRows;
use nearkin::index::graph::{BuildParams, Found, Graph, Scratch, SearchParams};
use nearkin::record::npy;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Value, json};

const K: usize = 10;
const SEED: u64 = 1;
const EFS: [usize; 11] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384];
const REPETITIONS: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [] => Bench::made_up().curve(),
        [vectors, answers] => Bench::load(vectors, answers).curve(),
        [vectors, answers, "--filters"] => Bench::load(vectors, answers).filters(),
        [vectors, answers, "--churn"] => Bench::load(vectors, answers).churn(),
        [vectors, answers, "--serve"] => Bench::load(vectors, answers).serve(),
        _ => panic!("VECTORS ANSWERS [--filters | --churn | --serve]"),
    }
}

/// Seconds that all threads of this process have computed.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let nanoseconds = |task: std::io::Result<std::fs::DirEntry>| -> Option<f64> {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(nanoseconds).sum::<f64>() / 1e9
}

struct Bench {
    pool: ThreadPool,
    metric: Metric,
    rows: Rows,
    queries: Rows,
    /// Exact distance at rank 10 of every query.
    tenths: Vec<f32>,
}

/// What a search needs beside the rows.
struct Ready<'a> {
    graph: Graph,
    codes: Codes,
    raw: RawRows<'a>,
    build_s: f64,
}

impl Bench {
    fn load(vectors: &str, answers: &str) -> Self {
        let (vectors, answers) = (Path::new(vectors), Path::new(answers));
        let text = std::fs::read_to_string(answers.join("set.json")).expect("set.json");
        let about: Value = serde_json::from_str(&text).expect("JSON");
        let metric = about["metric"].as_str().expect("a metric").parse().expect("a metric");
        Self {
            pool: ThreadPoolBuilder::new().num_threads(1).build().expect("a thread"),
            metric,
            rows: npy::read(&vectors.join("base.npy")).expect("rows"),
            queries: npy::read(&vectors.join("queries.npy")).expect("rows"),
            tenths: tenths(&answers.join("gt/all.dist.npy")),
        }
    }

    /// 20,000 rows of 64 elements around 100 centres.
    fn made_up() -> Self {
        let uniform = |seed, i| (stream(seed, i) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        let row = |seed: u64, i: u64| {
            let centre = stream(seed, i) % 100;
            (0..64).map(move |j| uniform(2, centre * 64 + j) + uniform(seed, i * 64 + j))
        };
        let rows = |seed: u64, n: u64| {
            let values = (0..n).flat_map(|i| row(seed, i)).collect();
            Rows::new(Values::F32(values), 64).expect("rows")
        };
        let mut bench = Self {
            pool: ThreadPoolBuilder::new().num_threads(1).build().expect("a thread"),
            metric: Metric::L2,
            rows: rows(3, 20_000),
            queries: rows(4, 1000),
            tenths: Vec::new(),
        };
        let slots: Vec<u32> = (0..20_000).collect();
        bench.tenths = bench.tenths_among(&bench.raw(), &slots);
        bench
    }

    /// Exact distances at rank 10 among some rows.
    fn tenths_among(&self, raw: &RawRows<'_>, slots: &[u32]) -> Vec<f32> {
        let mut out = vec![0.0; slots.len()];
        let tenth = |i| {
            raw.measure(&raw.query(&self.queries, i).expect("a query"), slots, &mut out);
            *out.select_nth_unstable_by(K - 1, f32::total_cmp).1
        };
        (0..self.queries.n_rows()).map(tenth).collect()
    }

    fn raw(&self) -> RawRows<'_> {
        RawRows::new(&self.rows, self.metric).expect("rows that the metric compares")
    }

    fn codes(&self, bits: Bits) -> Codes {
        Codes::of(&self.pool, self.metric, bits, &self.rows, SEED).expect("rows")
    }

    fn build(&self) -> Ready<'_> {
        let began = cpu_seconds();
        let codes = self.codes(Bits::Eight);
        let slots: Vec<u32> = (0..self.rows.n_rows() as u32).collect();
        let graph = Graph::build(BuildParams::default(), &self.pool, &codes, &slots);
        let (graph, codes) = (graph.expect("rows"), self.codes(Bits::Four));
        Ready { graph, codes, build_s: cpu_seconds() - began, raw: self.raw() }
    }

    /// The answer to query `i`, and what it took.
    fn search(
        &self,
        ready: &Ready<'_>,
        i: usize,
        allow: Allow<'_>,
        ef: usize,
        scratch: &mut Scratch,
    ) -> Found {
        let params = SearchParams { k: K, ef, ..SearchParams::default() };
        let query = ready.codes.query(&self.queries, i).expect("a query");
        let raw_query = ready.raw.query(&self.queries, i).expect("a query");
        let (on, by) = ((&ready.codes, &query), (&ready.raw, &raw_query));
        ready.graph.search_reranked(on, by, allow, &params, scratch).expect("an answer")
    }

    /// Recall, queries per second, and what a query touched, for one ef.
    fn measure(&self, ready: &Ready<'_>, ef: usize) -> Value {
        let (mut scratch, n) = (Scratch::default(), self.queries.n_rows());
        let (mut n_hits, mut n_distances, mut n_hops) = (0, 0, 0);
        let began = cpu_seconds();
        for i in 0..n {
            let found = self.search(ready, i, Allow::All, ef, &mut scratch);
            let tenth = self.tenths[i] + self.slack();
            n_hits += found.neighbors.iter().filter(|near| near.distance <= tenth).count();
            (n_distances, n_hops) = (n_distances + found.n_distances, n_hops + found.n_hops);
        }
        let n = n as f64;
        json!({"ef": ef, "recall": n_hits as f64 / (n * K as f64),
            "qps": n / (cpu_seconds() - began), "distances": n_distances as f64 / n,
            "hops": n_hops as f64 / n})
    }

    fn slack(&self) -> f32 {
        if self.metric == Metric::L2 { 0.5 } else { 1e-6 }
    }

    fn about(&self, ready: &Ready<'_>) -> Value {
        let links = ready.graph.n_bytes() as f64 / self.rows.n_rows() as f64;
        let rows = self.rows.n_bytes() as f64 / self.rows.n_rows() as f64;
        json!({"side": "nearkin", "n_rows": self.rows.n_rows(), "build_s": ready.build_s,
            "row_bytes": rows, "code_bytes": ready.codes.row_bytes(), "link_bytes": links,
            "unreachable": ready.graph.check().n_unreachable})
    }

    fn curve(&self) {
        let ready = self.build();
        println!("{}", self.about(&ready));
        for ef in EFS {
            println!("{}", best(|| self.measure(&ready, ef)));
        }
    }

    fn serve(&self) {
        let ready = self.build();
        println!("{}", self.about(&ready));
        for line in std::io::stdin().lock().lines() {
            let line = line.expect("a line");
            let ef = line.strip_prefix("ef ").and_then(|ef| ef.parse().ok());
            println!("{}", self.measure(&ready, ef.expect("ef N")));
        }
    }

    /// Filters that pass every second, tenth and hundredth row, drawn by number.
    fn filters(&self) {
        let ready = self.build();
        for one_in in [2u64, 10, 100] {
            let n_rows = self.rows.n_rows() as u32;
            let slots: Vec<u32> =
                (0..n_rows).filter(|&slot| stream(9, slot.into()).is_multiple_of(one_in)).collect();
            let mut set = Set::new(n_rows);
            slots.iter().for_each(|&slot| set.insert(slot));
            let tenths = self.tenths_among(&ready.raw, &slots);
            for ef in EFS {
                println!("{}", best(|| self.filtered(&ready, (&set, one_in), &tenths, ef)));
            }
        }
    }

    fn filtered(
        &self,
        ready: &Ready<'_>,
        (set, one_in): (&Set, u64),
        tenths: &[f32],
        ef: usize,
    ) -> Value {
        let mut scratch = Scratch::default();
        let (mut n_hits, mut n_links) = (0, 0);
        let began = cpu_seconds();
        for (i, tenth) in tenths.iter().enumerate() {
            let found = self.search(ready, i, Allow::Bits(set), ef, &mut scratch);
            let tenth = tenth + self.slack();
            n_hits += found.neighbors.iter().filter(|near| near.distance <= tenth).count();
            n_links += found.n_links;
        }
        let n = tenths.len() as f64;
        json!({"one_in": one_in, "ef": ef, "recall": n_hits as f64 / (n * K as f64),
            "qps": n / (cpu_seconds() - began), "links": n_links as f64 / n})
    }

    /// Replaces all rows four times, a twentieth at a time, by the same rows in other slots.
    fn churn(&self) {
        let n = self.rows.n_rows();
        let mut ready = self.build();
        let fresh = self.measure(&ready, 64);
        println!("{fresh}");
        let codes = self.codes(Bits::Eight);
        let mut scratch = Scratch::default();
        for round in 0..4 {
            let (mut remove_s, mut insert_s) = (0.0, 0.0);
            for part in 0..20 {
                let is_part = |&slot: &u32| stream(round, slot.into()) % 20 == part;
                let slots: Vec<u32> = (0..n as u32).filter(is_part).collect();
                let began = cpu_seconds();
                ready.graph.remove(&codes, &slots, &mut scratch).expect("live slots");
                let removed = cpu_seconds();
                ready.graph.insert(&self.pool, &codes, &slots).expect("free slots");
                (remove_s, insert_s) =
                    (remove_s + removed - began, insert_s + cpu_seconds() - removed);
            }
            let health = ready.graph.check();
            let n_linked = ready.graph.repair(&codes).expect("rows");
            let mut answer = self.measure(&ready, 64);
            answer["remove_us"] = json!(remove_s / n as f64 * 1e6);
            answer["insert_us"] = json!(insert_s / n as f64 * 1e6);
            answer["unreachable"] = json!(health.n_unreachable);
            answer["linked"] = json!(n_linked);
            answer["lost"] = json!(self.n_lost(&ready, &codes));
            println!("{answer}");
        }
    }

    /// Rows that a search for themselves does not find.
    fn n_lost(&self, ready: &Ready<'_>, codes: &Codes) -> usize {
        let mut scratch = Scratch::default();
        let params = SearchParams { k: K, ef: 64, ..SearchParams::default() };
        let is_lost = |slot: &u32| {
            let (query, raw_query) = (codes.query_of(*slot), ready.raw.query_of(*slot));
            let (on, by) = ((codes, &query), (&ready.raw, &raw_query));
            let found = ready.graph.search_reranked(on, by, Allow::All, &params, &mut scratch);
            let mut own = [0.0];
            ready.raw.measure(&raw_query, &[*slot], &mut own);
            // Equal rows stand for one another.
            found.expect("an answer").neighbors[0].distance > own[0]
        };
        (0..self.rows.n_rows() as u32).filter(is_lost).count()
    }
}

/// The fastest of some repetitions.
fn best(mut measure: impl FnMut() -> Value) -> Value {
    let qps = |answer: &Value| answer["qps"].as_f64().unwrap_or(0.0);
    let runs = (0..REPETITIONS).map(|_| measure());
    runs.max_by(|a, b| qps(a).total_cmp(&qps(b))).expect("a repetition")
}

/// Exact distances at rank 10, the second of four columns.
fn tenths(path: &Path) -> Vec<f32> {
    let rows = npy::read(path).expect("answers");
    let Values::F32(values) = rows.values() else { panic!("{}: not f32", path.display()) };
    values.chunks(4).map(|ranks| ranks[1]).collect()
}
