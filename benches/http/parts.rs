//! What is measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nearkin::core::ids::PointId;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Rows, Values};
use nearkin::engine::{Ask, Collection, How, folder};
use rayon::ThreadPoolBuilder;
use serde_json::{Value, json};

use crate::load::{Connection, as_bytes, as_json, batch};
use crate::server::{Served, cpu_s, key};
use crate::{COPIES, K, NAME, row};

const QUERIES: usize = 1000;
/// Requests of one way before it is another's turn.
const BLOCK: usize = 50;
const ROUNDS: usize = 3;
const QUERY_SEED: u64 = 77;
/// How often two clients are alone and then beside the flood.
const FAIR_TURNS: usize = 5;
/// Clients of the flood, and of the one that must not notice it.
const CLIENTS: (usize, usize) = (32, 2);
/// Searches of a large request, and one in how many of the flood's requests is large.
const LARGE: (usize, u64) = (64, 10);

struct Library {
    collection: Collection,
    dim: usize,
}

impl Library {
    fn open(dir: &Path) -> Self {
        let pool = Arc::new(ThreadPoolBuilder::new().build().expect("threads"));
        let own = folder(&dir.join(COPIES[0]), NAME).expect("a name");
        let collection = Collection::open(&own, &pool, 16 << 30).expect("a collection");
        let dim = collection.settings().vectors[0].dim;
        Self { collection, dim }
    }

    fn queries(&self) -> Vec<Vec<f32>> {
        (0..QUERIES as u64).map(|n| row(QUERY_SEED, n, self.dim)).collect()
    }

    /// The ids of the nearest points, from numbers on.
    fn search(&self, query: &[f32]) -> Vec<PointId> {
        let rows = Rows::new(Values::F32(query.to_vec().into()), self.dim).expect("a row");
        let how = How { k: K, ..How::default() };
        let answers = self.collection.search(&rows, &[Ask::default()], &how).expect("an answer");
        answers[0].points.iter().map(|found| found.id).collect()
    }
}

/// Fails unless both ways find what the library finds.
fn check(library: &Library, connection: &mut Connection, query: &[f32]) {
    let expected: Vec<Value> = library
        .search(query)
        .into_iter()
        .map(|id| match id {
            PointId::Num(number) => json!(number),
            PointId::Uuid(_) => unreachable!("ids were made as numbers"),
        })
        .collect();
    for request in [as_json(query, None), as_bytes(query, None)] {
        let (status, body) = connection.ask(&request);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
        let answer: Value = serde_json::from_slice(body).expect("JSON");
        let points = answer["result"].as_array().expect("points");
        let ids: Vec<Value> = points.iter().map(|point| point["id"].clone()).collect();
        assert_eq!(ids, expected);
    }
}

fn quantiles(mut us: Vec<f64>) -> Value {
    us.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| round(us[((us.len() - 1) as f64 * share) as usize]);
    let mean = us.iter().sum::<f64>() / us.len() as f64;
    json!({"n": us.len(), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "mean": round(mean)})
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn timed(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64() * 1e6
}

/// The library, JSON and bytes in turns, one request at a time.
pub fn latency(dir: &Path) -> Value {
    let library = Library::open(dir);
    let served = Served::start(&dir.join(COPIES[1]), "");
    let mut connection = Connection::open(served.address);
    let queries = library.queries();
    queries.iter().take(100).for_each(|query| check(&library, &mut connection, query));
    let texts: Vec<Vec<u8>> = queries.iter().map(|query| as_json(query, None)).collect();
    let bytes: Vec<Vec<u8>> = queries.iter().map(|query| as_bytes(query, None)).collect();
    let live = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let root = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut us: [Vec<f64>; 5] = Default::default();
    for round in 0..=ROUNDS {
        for start in (0..QUERIES).step_by(BLOCK) {
            let block = start..start + BLOCK;
            let mut own: [Vec<f64>; 5] = Default::default();
            own[0].extend(queries[block.clone()].iter().map(|q| timed(|| drop(library.search(q)))));
            let mut ask = |request: &[u8]| timed(|| assert_eq!(connection.ask(request).0, 200));
            own[1].extend(texts[block.clone()].iter().map(|request| ask(request)));
            own[2].extend(bytes[block.clone()].iter().map(|request| ask(request)));
            own[3].extend((0..BLOCK).map(|_| ask(&live[..])));
            own[4].extend((0..BLOCK).map(|_| ask(&root[..])));
            // The first round finds nothing in the caches.
            if round > 0 {
                us.iter_mut().zip(own).for_each(|(all, own)| all.extend(own));
            }
        }
    }
    let [library_us, json_us, bytes_us, live_us, root_us] = us.map(quantiles);
    let over = |one: &Value, q: &str| {
        round(one[q].as_f64().expect("a number") - library_us[q].as_f64().expect("a number"))
    };
    let overhead = |one: &Value| json!({"p50": over(one, "p50"), "p95": over(one, "p95"), "p99": over(one, "p99")});
    let stages =
        |requests: &[Vec<u8>]| shares(&served, &mut Connection::open(served.address), requests);
    json!({
        "dim": library.dim,
        "us": {"library": library_us, "json": json_us, "bytes": bytes_us, "healthz": live_us, "root": root_us},
        "overhead_us": {"json": overhead(&json_us), "bytes": overhead(&bytes_us)},
        "request_bytes": {"json": texts[0].len(), "bytes": bytes[0].len()},
        "stages_us": {"json": stages(&texts), "bytes": stages(&bytes)},
    })
}

/// Mean microseconds of every stage of these requests, as the server tells them, and of what a client waits beside them.
fn shares(served: &Served, connection: &mut Connection, requests: &[Vec<u8>]) -> Value {
    let before = served.stages();
    let all_us =
        timed(|| requests.iter().for_each(|request| assert_eq!(connection.ask(request).0, 200)));
    let after = served.stages();
    let n = requests.len() as f64;
    let mean = |name: &String| {
        round((after[name] - before.get(name).copied().unwrap_or_default()) / n * 1e6)
    };
    let mut means: BTreeMap<String, f64> = after
        .keys()
        .filter(|name| *name != "work")
        .map(|name| (name.clone(), mean(name)))
        .collect();
    let told: f64 = means.values().sum();
    means.insert("sockets, threads and the client".to_owned(), round(all_us / n - told));
    means.insert("all".to_owned(), round(all_us / n));
    json!(means)
}

/// How many answers a second, and what each takes of the processors.
pub fn throughput(dir: &Path) -> Value {
    let library = Library::open(dir);
    let queries = library.queries();
    let mut sides = Vec::new();
    {
        let n_threads = std::thread::available_parallelism().map_or(2, usize::from);
        let before = cpu_s("self");
        let rate = closed(n_threads, |thread, n| {
            drop(library.search(&queries[(thread * 499 + n) % QUERIES]));
        });
        let cpu_us = (cpu_s("self") - before) / (rate * RUN.as_secs_f64()) * 1e6;
        sides.push(json!({"side": "library", "threads": n_threads, "per_second": rate.round(), "cpu_us": round(cpu_us)}));
    }
    let served = Served::start(&dir.join(COPIES[1]), "");
    type Body = fn(&[f32], Option<&str>) -> Vec<u8>;
    let kinds: [(&str, Body); 2] = [("json", as_json), ("bytes", as_bytes)];
    for (kind, made) in kinds {
        let requests: Vec<Vec<u8>> = queries.iter().map(|query| made(query, None)).collect();
        for n_connections in [2, 8] {
            let connections: Vec<Mutex<Connection>> =
                (0..n_connections).map(|_| Mutex::new(Connection::open(served.address))).collect();
            let before = (served.cpu_s(), cpu_s("self"));
            let rate = closed(n_connections, |thread, n| {
                let mut connection = connections[thread].lock().expect("one thread has it");
                let (status, _) = connection.ask(&requests[(thread * 499 + n) % QUERIES]);
                assert_eq!(status, 200);
            });
            let n_requests = rate * RUN.as_secs_f64();
            let (server, client) = (served.cpu_s() - before.0, cpu_s("self") - before.1);
            sides.push(json!({
                "side": kind, "connections": n_connections, "per_second": rate.round(),
                "cpu_us": round(server / n_requests * 1e6),
                "client_cpu_us": round(client / n_requests * 1e6),
            }));
        }
    }
    json!({"dim": library.dim, "throughput": sides})
}

/// How long each side of a throughput runs.
const RUN: Duration = Duration::from_secs(5);

/// Calls a second, of so many threads that each call again as soon as they may.
fn closed(n_threads: usize, call: impl Fn(usize, usize) + Sync) -> f64 {
    let n_done = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..n_threads {
            let (call, n_done) = (&call, &n_done);
            scope.spawn(move || {
                for n in 0.. {
                    if began.elapsed() >= RUN {
                        return;
                    }
                    call(thread, n);
                    n_done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    n_done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

/// Two clients of one tenant alone and beside a flood of another's, each order of the queue.
pub fn fair(dir: &Path, limits: &str) -> Value {
    let data = dir.join(COPIES[2]);
    let keys = ["a", "b"].map(|tenant| key(&data, tenant));
    let library = Library::open(dir);
    let queries = library.queries();
    let requests = |key: &str| Requests {
        small: queries.iter().map(|query| as_json(query, Some(key))).collect(),
        large: queries.chunks(LARGE.0).map(|some| batch(some, Some(key))).collect(),
    };
    let [flood, few] = [requests(&keys[0]), requests(&keys[1])];
    let mut orders = serde_json::Map::new();
    for order in ["fair", "first_come"] {
        let served = Served::start(&data, &format!("[limits]\norder = \"{order}\"\n{limits}\n"));
        let warm = run(&served, &[(&flood, 4, LARGE.1)], Duration::from_secs(2));
        drop(warm);
        let turns = if order == "fair" { FAIR_TURNS } else { 1 };
        let (mut ratios, mut alone, mut flooded, mut own) =
            <(Vec<f64>, Answered, Answered, Answered)>::default();
        for _ in 0..turns {
            let few_alone =
                run(&served, &[(&few, CLIENTS.1, 0)], Duration::from_secs(2)).swap_remove(0);
            let sides = [(&flood, CLIENTS.0, LARGE.1), (&few, CLIENTS.1, 0)];
            let mut beside = run(&served, &sides, Duration::from_secs(5));
            let few_beside = beside.swap_remove(1);
            ratios.push(p99(&few_beside.small) / p99(&few_alone.small));
            alone.add(few_alone);
            own.add(few_beside);
            flooded.add(beside.swap_remove(0));
        }
        ratios.sort_unstable_by(f64::total_cmp);
        let ratios: Vec<f64> = ratios.into_iter().map(|ratio| round(ratio * 10.0) / 10.0).collect();
        let small = [flooded.small.clone(), own.small.clone()].concat();
        orders.insert(
            order.to_owned(),
            json!({
                "b_alone_us": quantiles(alone.small), "b_beside_us": quantiles(own.small),
                "b_p99_ratios": ratios, "b_p99_ratio": ratios[ratios.len() / 2],
                "a_small_us": quantiles(flooded.small), "a_large_us": quantiles(flooded.large),
                "small_us": quantiles(small),
            }),
        );
    }
    let mean = |order: &str| orders[order]["small_us"]["mean"].as_f64().expect("a number");
    let sooner = (mean("first_come") / mean("fair") * 100.0).round() / 100.0;
    json!({"clients": [CLIENTS.0, CLIENTS.1], "limits": limits, "orders": orders, "small_sooner": sooner})
}

fn p99(us: &[f64]) -> f64 {
    quantiles(us.to_vec())["p99"].as_f64().expect("a number")
}

/// What a user asks.
struct Requests {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

/// Microseconds of what was answered.
#[derive(Default)]
struct Answered {
    small: Vec<f64>,
    large: Vec<f64>,
}

impl Answered {
    fn add(&mut self, other: Self) {
        self.small.extend(other.small);
        self.large.extend(other.large);
    }
}

/// Users at once, each with so many clients, one in so many of whose requests is large.
fn run(served: &Served, users: &[(&Requests, usize, u64)], time: Duration) -> Vec<Answered> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<Vec<_>> = users
            .iter()
            .map(|&(requests, n, one_in)| {
                let is_over = &is_over;
                let client = move |c: usize| client(served, requests, (c as u64, one_in), is_over);
                (0..n).map(|c| scope.spawn(move || client(c))).collect()
            })
            .collect();
        std::thread::sleep(time);
        is_over.store(true, Ordering::Relaxed);
        let of_user = |clients: Vec<std::thread::ScopedJoinHandle<'_, Answered>>| {
            clients.into_iter().fold(Answered::default(), |mut all, client| {
                all.add(client.join().expect("no client fails"));
                all
            })
        };
        clients.into_iter().map(of_user).collect()
    })
}

fn client(
    served: &Served,
    requests: &Requests,
    (number, one_in): (u64, u64),
    is_over: &AtomicBool,
) -> Answered {
    let (mut connection, mut answered) = (Connection::open(served.address), Answered::default());
    for n in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let chance = stream(number, n);
        let is_large = one_in > 0 && chance.is_multiple_of(one_in);
        let all = if is_large { &requests.large } else { &requests.small };
        let request = &all[(chance >> 20) as usize % all.len()];
        let us = timed(|| assert_eq!(connection.ask(request).0, 200));
        if is_large { answered.large.push(us) } else { answered.small.push(us) }
    }
    answered
}
