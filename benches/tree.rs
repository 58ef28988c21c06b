//! The clustering tree on a real set of tenants: recall against queries per second on one thread, beside a plain scan of
//! the tenant's rows and a search of the whole set.
//!
//! `cargo bench --no-default-features --bench tree -- SET ROWS.jsonl`, where `SET` holds `base.npy`, `queries.npy` and
//! `gt/`, and `ROWS.jsonl` the rows' fields, unpacked; the tenant is the field `maintainer`. `SET/gt/tenant.filters.jsonl`
//! may be given as a third argument, unpacked: the tenant of each query. Prints one JSON object per line.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use nearkin::backend::cpu::Cpu;
use nearkin::core::metric::Metric;
use nearkin::core::rows::Rows;
use nearkin::index::tree::{
    BuildParams, Built, FloatRows, Run, SearchParams, Skeleton, Tenants, build, flat, search,
};
use nearkin::record::npy;
use rayon::ThreadPoolBuilder;
use serde_json::{Value, json};

const K: usize = 10;

/// Rows beyond which a tenant is called large.
const LARGE: usize = 500;

/// Passes over the queries, of which the fastest counts: other work on the machine only slows.
const N_PASSES: usize = 7;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [set, fields, filters] = &args[..] else {
        println!("give a set, its rows' fields and the queries' filters");
        return;
    };
    let set = Path::new(set);
    let base = npy::read(&set.join("base.npy")).expect("rows");
    let queries = npy::read(&set.join("queries.npy")).expect("queries");
    let metric = Metric::Cosine;
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(1).build().expect("a thread"));
    let backend = Cpu::new(Arc::clone(&pool), 8 << 30);
    let started = Instant::now();
    let params = BuildParams::default();
    let built = build((&backend, &pool), &base, metric, &params).expect("a tree");
    let build_s = started.elapsed().as_secs_f64();
    let rows = built.ordered(&base);
    let (tenants, names) = tenants(&built, fields);
    let n_rows = rows.n_rows() as f64;
    println!(
        "{}",
        json!({
            "n_rows": rows.n_rows(), "dim": rows.dim(), "build_s": build_s, "n_nodes": built.tree.nodes().len(),
            "tree_bytes_per_row": built.tree.n_bytes() as f64 / n_rows,
            "path_bytes_per_row": 8.0, "n_tenants": tenants.len(),
            "run_bytes_per_row": tenants.n_bytes() as f64 / n_rows,
        })
    );
    grants(&built, &tenants);
    // A tenant without rows has an empty run.
    let none = Run::default();
    let asked: Vec<&Run> = lines(filters)
        .map(|line| line["filter"]["eq"][1].as_str().expect("a tenant").to_owned())
        .map(|name| names.get(&name).and_then(|&tenant| tenants.run(tenant)).unwrap_or(&none))
        .collect();
    let bench = Bench { built: &built, rows: &rows, queries: &queries, metric };
    let own: Vec<Asked<'_>> = asked.into_iter().enumerate().collect();
    let large: Vec<Asked<'_>> = own.iter().copied().filter(|(_, run)| run.len() > LARGE).collect();
    let whole = Run::new((0..rows.n_rows() as u32).collect(), &built.paths).expect("all rows");
    let all: Vec<Asked<'_>> = (0..queries.n_rows()).map(|q| (q, &whole)).collect();
    for max_list in [32, 128] {
        bench.measure("tenant", &own, max_list);
        bench.measure("large tenant", &large, max_list);
    }
    bench.measure("all", &all, 128);
}

fn lines(path: &str) -> impl Iterator<Item = Value> {
    let text = fs::read_to_string(path).expect("an unpacked file");
    let values: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    values.into_iter()
}

/// The tenants' runs, and their numbers by name.
fn tenants(built: &Built, fields: &str) -> (Tenants, BTreeMap<String, u32>) {
    let mut names = BTreeMap::new();
    let mut of_row = Vec::new();
    for line in lines(fields) {
        let n = names.len() as u32;
        let name = line["maintainer"].as_str().expect("a maintainer").to_owned();
        of_row.push(*names.entry(name).or_insert(n));
    }
    let mut slots = vec![Vec::new(); names.len()];
    for (slot, &row) in built.order.iter().enumerate() {
        slots[of_row[row as usize] as usize].push(slot as u32);
    }
    let mut tenants = Tenants::default();
    for (tenant, slots) in slots.into_iter().enumerate() {
        tenants.replace(tenant as u32, Run::new(slots, &built.paths).expect("slots of the tree"));
    }
    (tenants, names)
}

/// Every row is granted to the tenant after its own, and that is revoked.
fn grants(built: &Built, tenants: &Tenants) {
    let mut changed = tenants.clone();
    let n = tenants.len() as u32;
    let all: Vec<(u32, u32)> = tenants
        .iter()
        .flat_map(|(tenant, run)| run.slots().iter().map(move |&slot| ((tenant + 1) % n, slot)))
        .collect();
    let us = |started: Instant| started.elapsed().as_secs_f64() * 1e6 / all.len() as f64;
    let started = Instant::now();
    for &(tenant, slot) in &all {
        assert!(changed.grant(tenant, slot, &built.paths).expect("a slot"));
    }
    let grant_us = us(started);
    let started = Instant::now();
    for &(tenant, slot) in &all {
        assert!(changed.revoke(tenant, slot, &built.paths).expect("a slot"));
    }
    println!("{}", json!({"grant_us": grant_us, "revoke_us": us(started)}));
    assert!(changed == *tenants);
}

/// A query's number and the run that it is asked of.
type Asked<'a> = (usize, &'a Run);

struct Bench<'a> {
    built: &'a Built,
    rows: &'a Rows,
    queries: &'a Rows,
    metric: Metric,
}

impl Bench<'_> {
    fn measure(&self, what: &str, asked: &[Asked<'_>], max_list: usize) {
        let n = asked.len() as f64;
        let held = FloatRows::new(self.rows, self.metric).expect("float rows");
        let wide = |q: usize| {
            let mut values = vec![0.0; self.queries.dim()];
            self.queries.widen(q, &mut values);
            values
        };
        // Queries of one run share its skeleton, as a cache would have it.
        let started = Instant::now();
        let mut skeletons: BTreeMap<*const Run, Skeleton> = BTreeMap::new();
        for &(_, run) in asked {
            skeletons.entry(run).or_insert_with(|| {
                Skeleton::build(&self.built.tree, &self.built.paths, run.slots(), max_list)
                    .expect("a run of this tree")
            });
        }
        let skeleton_us = started.elapsed().as_secs_f64() * 1e6 / skeletons.len() as f64;
        let n_bytes: u64 = skeletons.values().map(Skeleton::n_bytes).sum();
        let mean_rows = asked.iter().map(|(_, run)| run.len()).sum::<usize>() as f64 / n;
        println!(
            "{}",
            json!({
                "what": what, "max_list": max_list, "n_queries": asked.len(), "rows": mean_rows,
                "n_skeletons": skeletons.len(), "skeleton_us": skeleton_us, "skeleton_bytes": n_bytes,
            })
        );
        let scan_one = |&(q, run): &Asked<'_>| {
            let mut scan = held.scan(self.queries, q).expect("a query");
            flat(run.slots(), &mut scan, K).expect("a run")
        };
        let truth: Vec<_> = asked.iter().map(scan_one).collect();
        let qps = fastest(asked, &mut |ask| drop(scan_one(ask)));
        println!("{}", json!({"what": what, "by": "flat", "qps": qps}));
        for (ef, patience) in
            [(10, 1), (10, 2), (16, 2), (32, 2), (32, 4), (64, 2), (128, 2), (256, 2)]
        {
            let params = SearchParams { k: K, ef, patience, ..SearchParams::default() };
            let one = |&(q, run): &Asked<'_>| {
                let mut scan = held.scan(self.queries, q).expect("a query");
                let on = (&self.built.tree, &skeletons[&std::ptr::from_ref(run)]);
                search(on, run.slots(), &wide(q), &mut scan, &params).expect("a run")
            };
            let (mut n_right, mut n_all, mut n_rows, mut n_centroids) = (0, 0, 0, 0);
            for (ask, truth) in asked.iter().zip(&truth) {
                let found = one(ask);
                // Ties of the last one count.
                let last = truth.neighbors.last().map_or(0.0, |last| last.distance);
                n_right += found.neighbors.iter().filter(|near| near.distance <= last).count();
                n_all += truth.neighbors.len();
                n_rows += found.touched.n_rows;
                n_centroids += found.touched.n_centroids;
            }
            let qps = fastest(asked, &mut |ask| drop(one(ask)));
            println!(
                "{}",
                json!({
                    "what": what, "by": "tree", "max_list": max_list, "ef": ef, "patience": patience,
                    "recall": n_right as f64 / n_all as f64, "qps": qps, "rows": n_rows as f64 / n,
                    "centroids": n_centroids as f64 / n,
                })
            );
        }
    }
}

/// Queries per second of the fastest pass.
fn fastest(asked: &[Asked<'_>], one: &mut dyn FnMut(&Asked<'_>)) -> f64 {
    let pass = |_| {
        let started = Instant::now();
        asked.iter().for_each(&mut *one);
        started.elapsed().as_secs_f64()
    };
    let seconds = (0..N_PASSES).map(pass).fold(f64::INFINITY, f64::min);
    asked.len() as f64 / seconds
}
