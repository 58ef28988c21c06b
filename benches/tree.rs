//! The clustering tree on one thread: recall against queries per second over the rows that a tenant or a filter passes,
//! beside a scan of all of them, by codes and raw.
//!
//! ```text
//! cargo bench --bench tree -- SET [RUNS.jsonl ...]   all rows, and for each file the rows that it names
//! cargo bench --bench tree -- SET --lengths          runs of 16 to 12,800 rows: from which length a skeleton pays
//! ```
//!
//! SET holds base.npy, queries.npy and set.json, whose `metric` counts. Line `q` of a RUNS file is `{"rows": [...]}`, the
//! numbers of the base rows that query `q` may find. Skeletons are built once for each run, as a cache would have them; their
//! building is printed beside. Times are processor time, the least of several passes, with all that a query costs in them.
//! A neighbor counts if it is no farther than the tenth of the exact answer. Prints one JSON object per line.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use nearkin::backend::cpu::Cpu;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::Rows;
use nearkin::distance::simd::coded::Bits;
use nearkin::index::graph::codes::Codes;
use nearkin::index::graph::raw::RawRows;
use nearkin::index::tree::{
    BuildParams, Built, DistanceScan, Found, Run, Scratch, SearchParams, Skeleton, Tenants, build,
    flat, flat_reranked, search_reranked,
};
use nearkin::record::npy;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Value, json};

const K: usize = 10;

/// Passes over the queries, of which the fastest counts: other work on the machine only slows.
const N_PASSES: usize = 5;

/// Rows of a list of a skeleton.
const MAX_LISTS: [usize; 2] = [32, 128];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [set, more @ ..] = &args[..] else {
        println!("give a set");
        return;
    };
    let bench = Bench::load(Path::new(set));
    if more.iter().any(|arg| arg == "--lengths") {
        return bench.lengths();
    }
    for file in more {
        let name = Path::new(file).file_stem().expect("a file").to_string_lossy();
        bench.measure(&name, &bench.runs(file));
    }
    let whole = Run::new((0..bench.rows.n_rows() as u32).collect(), &bench.built.paths);
    bench.measure(
        "all",
        &std::iter::repeat_n(Arc::new(whole.expect("all rows")), bench.queries.n_rows())
            .collect::<Vec<_>>(),
    );
}

/// Seconds that all threads of this process have computed.
fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

struct Bench {
    built: Built,
    rows: Rows,
    queries: Rows,
    wide: Vec<Vec<f32>>,
    metric: Metric,
    codes: Codes,
}

impl Bench {
    fn load(set: &Path) -> Self {
        let base = npy::read(&set.join("base.npy")).expect("rows");
        let queries = npy::read(&set.join("queries.npy")).expect("queries");
        let about = fs::read_to_string(set.join("set.json")).expect("set.json");
        let about: Value = serde_json::from_str(&about).expect("JSON");
        let metric: Metric = about["metric"].as_str().expect("a metric").parse().expect("a metric");
        let pool: Arc<ThreadPool> =
            Arc::new(ThreadPoolBuilder::new().num_threads(1).build().expect("a thread"));
        let backend = Cpu::new(Arc::clone(&pool), 8 << 30);
        let began = cpu_seconds();
        let params = BuildParams::default();
        let built = build((&backend, &pool), &base, metric, &params).expect("a tree");
        let build_s = cpu_seconds() - began;
        let began = cpu_seconds();
        let placed = built.tree.place(&pool, &base).expect("rows of the tree");
        let place_us = (cpu_seconds() - began) * 1e6 / placed.len() as f64;
        let rows = built.ordered(&base);
        let codes = Codes::of(&pool, metric, Bits::Four, &rows, 1).expect("codes");
        let wide = |q: usize| {
            let mut values = vec![0.0; queries.dim()];
            queries.widen(q, &mut values);
            values
        };
        let wide = (0..queries.n_rows()).map(wide).collect();
        println!(
            "{}",
            json!({
                "n_rows": rows.n_rows(), "dim": rows.dim(), "build_s": build_s, "place_us": place_us,
                "n_nodes": built.tree.nodes().len(),
                "tree_bytes_per_row": built.tree.n_bytes() as f64 / rows.n_rows() as f64,
            })
        );
        Self { built, rows, queries, wide, metric, codes }
    }

    /// The runs of a file, one per query; equal ones are one.
    fn runs(&self, file: &str) -> Vec<Arc<Run>> {
        let mut slot_of = vec![0; self.rows.n_rows()];
        for (slot, &row) in self.built.order.iter().enumerate() {
            slot_of[row as usize] = slot as u32;
        }
        let mut known: HashMap<Vec<u32>, Arc<Run>> = HashMap::new();
        let text = fs::read_to_string(file).expect("runs");
        let run = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let rows = line["rows"].as_array().expect("rows").iter();
            let slots: Vec<u32> =
                rows.map(|row| slot_of[row.as_u64().expect("a row") as usize]).collect();
            let new = || Run::new(slots.clone(), &self.built.paths).expect("slots of the tree");
            Arc::clone(known.entry(slots.clone()).or_insert_with(|| Arc::new(new())))
        };
        let runs: Vec<Arc<Run>> = text.lines().map(run).collect();
        let mut tenants = Tenants::default();
        known.into_values().zip(0..).for_each(|(run, tenant)| {
            tenants.replace(tenant, Run::clone(&run));
        });
        println!("{}", json!({"runs": tenants.len(), "bytes": tenants.n_bytes()}));
        runs
    }

    fn skeletons(&self, runs: &[Arc<Run>], max_list: usize) -> Vec<Arc<Skeleton>> {
        let mut built: HashMap<*const Run, Arc<Skeleton>> = HashMap::new();
        let began = cpu_seconds();
        for run in runs {
            built.entry(Arc::as_ptr(run)).or_insert_with(|| {
                let (tree, paths) = (&self.built.tree, &self.built.paths);
                Arc::new(Skeleton::build(tree, paths, run, max_list).expect("a run of this tree"))
            });
        }
        let seconds = cpu_seconds() - began;
        let n_rows: usize = built.values().map(|skeleton| skeleton.n_rows()).sum();
        let n_bytes: u64 = built.values().map(|skeleton| skeleton.n_bytes()).sum();
        println!(
            "{}",
            json!({
                "max_list": max_list, "n_skeletons": built.len(), "rows": n_rows,
                "us_each": seconds * 1e6 / built.len() as f64, "ns_per_row": seconds * 1e9 / n_rows as f64,
                "bytes_per_row": n_bytes as f64 / n_rows as f64,
            })
        );
        runs.iter().map(|run| Arc::clone(&built[&Arc::as_ptr(run)])).collect()
    }

    /// All ways of answering; what is printed is the mean of all queries.
    fn measure(&self, what: &str, runs: &[Arc<Run>]) {
        let raw = RawRows::new(&self.rows, self.metric).expect("rows");
        let n_rows = runs.iter().map(|run| run.len()).sum::<usize>() as f64 / runs.len() as f64;
        println!("{}", json!({"what": what, "n_queries": runs.len(), "rows": n_rows}));
        let mut scratch = Scratch::default();
        let mut exact = |q: usize| {
            let query = raw.query(&self.queries, q).expect("a query");
            let mut scan = DistanceScan::new(&raw, &query);
            flat(runs[q].slots(), &mut scan, K, &mut scratch).expect("a run")
        };
        let truth: Vec<Found> = (0..runs.len()).map(&mut exact).collect();
        let report = |by: Value, one: &mut dyn FnMut(usize) -> Found| {
            let (qps, recall, touched) = judged(&truth, one);
            println!(
                "{}",
                json!({"what": what, "by": by, "recall": recall, "qps": qps, "touched": touched})
            );
        };
        report(json!("flat raw"), &mut exact);
        let prepare = &mut |q: usize| {
            std::hint::black_box(self.codes.query(&self.queries, q).expect("a query"));
            Found::default()
        };
        report(json!("code query alone"), prepare);
        let mut scratch = Scratch::default();
        for n_rerank in [20, 40, 80] {
            report(json!({"flat codes": n_rerank}), &mut |q| {
                self.flat_codes(&raw, q, &runs[q], n_rerank, &mut scratch)
            });
        }
        for max_list in MAX_LISTS {
            let skeletons = self.skeletons(runs, max_list);
            for (ef, n_rerank) in [10, 20, 30, 40, 60, 80, 120, 160, 240, 400]
                .into_iter()
                .flat_map(|ef| [(ef, 20), (ef, 40)])
            {
                let params = SearchParams { k: K, ef, n_rerank };
                report(json!({"tree codes": max_list, "ef": ef, "n_rerank": n_rerank}), &mut |q| {
                    self.tree_codes(&raw, q, (&runs[q], &skeletons[q]), &params, &mut scratch)
                });
            }
        }
    }

    fn flat_codes(
        &self,
        raw: &RawRows<'_>,
        q: usize,
        run: &Run,
        n_rerank: usize,
        scratch: &mut Scratch,
    ) -> Found {
        let codes = (&self.codes, &self.codes.query(&self.queries, q).expect("a query"));
        let raw = (raw, &raw.query(&self.queries, q).expect("a query"));
        flat_reranked(run.slots(), codes, raw, (K, n_rerank), scratch).expect("a run")
    }

    fn tree_codes(
        &self,
        raw: &RawRows<'_>,
        q: usize,
        (run, skeleton): (&Run, &Skeleton),
        params: &SearchParams,
        scratch: &mut Scratch,
    ) -> Found {
        let codes = (&self.codes, &self.codes.query(&self.queries, q).expect("a query"));
        let raw = (raw, &raw.query(&self.queries, q).expect("a query"));
        let (on, query) = ((&self.built.tree, skeleton), &self.wide[q]);
        search_reranked(on, run.slots(), query, codes, raw, params, scratch).expect("a run")
    }

    /// One random run of each length, asked by all queries.
    fn lengths(&self) {
        for n in (0..).map(|i| 16 << i).take_while(|&n| n <= 12_800.min(self.rows.n_rows())) {
            let mut slots: Vec<u32> = (0..self.rows.n_rows() as u32).collect();
            slots.sort_by_key(|&slot| stream(n as u64, slot.into()));
            slots.truncate(n);
            let run = Arc::new(Run::new(slots, &self.built.paths).expect("slots"));
            self.measure(&n.to_string(), &vec![run; self.queries.n_rows()]);
        }
    }
}

/// Queries per second of the fastest pass, recall, and what a query touched.
fn judged(truth: &[Found], one: &mut dyn FnMut(usize) -> Found) -> (f64, f64, Value) {
    let n = truth.len() as f64;
    let (mut n_right, mut n_all) = (0, 0);
    let mut sums = [0; 4];
    for (q, truth) in truth.iter().enumerate() {
        let Found { neighbors, touched } = one(q);
        // Ties of the last one count; raw distances of one row differ by rounding.
        let last = truth.neighbors.last().map_or(0.0, |last| last.distance) + 1e-6;
        n_right += neighbors.iter().filter(|near| near.distance <= last).count();
        n_all += truth.neighbors.len();
        let touched = [touched.n_rows, touched.n_lists, touched.n_centroids, touched.n_reranked];
        sums.iter_mut().zip(touched).for_each(|(sum, x)| *sum += x);
    }
    let pass = |_| {
        let began = cpu_seconds();
        (0..truth.len()).for_each(|q| drop(one(q)));
        cpu_seconds() - began
    };
    let seconds = (0..N_PASSES).map(pass).fold(f64::INFINITY, f64::min);
    let [rows, lists, centroids, reranked] = sums.map(|sum| sum as f64 / n);
    let touched =
        json!({"rows": rows, "lists": lists, "centroids": centroids, "reranked": reranked});
    (n / seconds, n_right as f64 / n_all as f64, touched)
}
