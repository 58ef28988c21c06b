//! Lookups of the semantic cache: one by one and in batches, in one large partition and in many small ones.
//!
//! ```text
//! cargo bench --bench cache -- [FOLDER] [N_ENTRIES] [one|many|undivided]
//! ```
//!
//! Makes caches of N_ENTRIES entries (1,000,000) of 384 elements in FOLDER, or opens those that an earlier run left and fills them up:
//! one with one partition, one with partitions of 100, and one of 4,000 entries in a partition that is not divided; or only one of
//! these. Rows are made: each lies around one of 20,000 subjects as texts do around theirs, and every
//! second lookup asks what an entry was asked, in other words (cosine about 0.95); the others ask for nothing that is there. Prints
//! milliseconds of lookups on one thread, the share of asked entries that were found, and memory.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nearkin::cache::{
    CacheSettings, Identity, Inserted, Lookup, NewEntry, Policies, Seams, SemanticCache, Verdict,
};
use nearkin::core::mix::stream;
use serde_json::json;

const DIM: usize = 384;
const N_SUBJECTS: u64 = 20_000;
const SMALL: u64 = 100;
const FLAT: u64 = 4000;
const BATCH: usize = 256;
const N_ASKED: u64 = 4096;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let folder =
        args.first().map_or_else(|| std::env::temp_dir().join("nearkin-cache"), PathBuf::from);
    let n_entries: u64 = args.get(1).map_or(1_000_000, |n| n.parse().expect("a number"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    for (name, n, n_partitions) in [
        ("one", n_entries, 1),
        ("many", n_entries, (n_entries / SMALL).max(1)),
        ("undivided", FLAT.min(n_entries), 1),
    ] {
        if args.get(2).is_some_and(|only| only != name) {
            continue;
        }
        let cache = filled(&folder.join(name), n, n_partitions, n_threads);
        measure(&cache, name, n, n_partitions);
    }
}

/// A number in `[-1, 1)`.
fn value(seed: u64, n: u64) -> f32 {
    (stream(seed, n) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// The vector of an entry: its subject, and its own.
fn row(entry: u64) -> Vec<f32> {
    let subject = stream(7, entry) % N_SUBJECTS;
    (0..DIM as u64).map(|at| value(subject, at) + 0.75 * value(N_SUBJECTS + entry, at)).collect()
}

/// The same in other words: the cosine of the two is about 0.95.
fn reworded(entry: u64) -> Vec<f32> {
    let norm = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    let mut row = row(entry);
    let noise: Vec<f32> = (0..DIM as u64).map(|at| value(u64::MAX - entry, at)).collect();
    let part = 0.33 * norm(&row) / norm(&noise);
    row.iter_mut().zip(noise).for_each(|(x, noise)| *x += part * noise);
    row
}

fn identity(partition: u64) -> Identity {
    Identity {
        tenant: format!("tenant {partition}"),
        user: None,
        category: "chat".into(),
        model: "model".into(),
        compat: [0; 32],
    }
}

fn hash(n: u64) -> [u8; 32] {
    let words = std::array::from_fn::<u64, 4, _>(|at| stream(n, at as u64));
    let mut hash = [0; 32];
    hash.chunks_exact_mut(8)
        .zip(words)
        .for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
    hash
}

fn filled(path: &Path, n_entries: u64, n_partitions: u64, n_threads: usize) -> SemanticCache {
    let settings = CacheSettings { dim: DIM, embedder: "made".into() };
    let policies = "[cache]\nentries = 100000000\nbytes = 1000000000000\n[default]\nguard = false\nttl_s = 31536000";
    let policies = Policies::from_toml(policies, "the benchmark's").expect("policies");
    let seams = Seams::of_machine(n_threads).expect("threads");
    let began = Instant::now();
    let cache = match path.exists() {
        true => SemanticCache::open(path, settings, policies, seams).expect("a cache"),
        false => SemanticCache::create(path, settings, policies, seams).expect("a new cache"),
    };
    let there = cache.stats().n_entries;
    println!("{}", json!({"opened": path, "entries": there, "s": began.elapsed().as_secs_f64()}));
    let (began, answer) = (Instant::now(), vec![b'a'; 400]);
    for first in (there..n_entries).step_by(10_000) {
        let entries = (first..(first + 10_000).min(n_entries)).map(|n| {
            let text = format!("what was asked as number {n}");
            let vector = Some(row(n));
            let new = NewEntry::new(identity(n % n_partitions), hash(n), &text, &answer);
            NewEntry { vector, saved_ms: 1500, ..new }
        });
        let inserted = cache.insert_batch(entries.collect()).expect("entries are kept");
        assert!(inserted.iter().all(|one| matches!(one, Inserted::New(_))), "all are new");
    }
    println!(
        "{}",
        json!({"filled": path, "entries": n_entries, "s": began.elapsed().as_secs_f64()})
    );
    cache
}

struct Asked {
    identity: Identity,
    vector: Vec<f32>,
    exact: [u8; 32],
}

/// Lookups: the odd ones ask what an entry was asked, the even ones nothing that is there.
fn asked(n_entries: u64, n_partitions: u64) -> Vec<Asked> {
    (0..N_ASKED)
        .map(|n| {
            let entry = stream(11, n) % n_entries;
            let identity = identity(entry % n_partitions);
            let vector = if n % 2 == 1 { reworded(entry) } else { row(n_entries + entry) };
            Asked { identity, vector, exact: hash(u64::MAX - n) }
        })
        .collect()
}

fn measure(cache: &SemanticCache, name: &str, n_entries: u64, n_partitions: u64) {
    let all = asked(n_entries, n_partitions);
    let lookups: Vec<Lookup<'_>> = all
        .iter()
        .map(|one| Lookup::new(&one.identity, one.exact, "asked in other words", Some(&one.vector)))
        .collect();
    // Once, so that pages and entries are in memory.
    lookups.iter().for_each(|lookup| drop(cache.lookup(lookup)));
    let (mut hits, mut misses, mut n_found) = (Vec::new(), Vec::new(), 0);
    let began = Instant::now();
    for (n, lookup) in lookups.iter().enumerate() {
        let before = Instant::now();
        let verdict = cache.lookup(lookup).expect("a verdict");
        let took = before.elapsed();
        match verdict {
            Verdict::Hit(_) => {
                n_found += n % 2;
                hits.push(took);
            }
            Verdict::Miss(_) => misses.push(took),
        }
    }
    let one_by_one = began.elapsed();
    let mut batches = Vec::new();
    let began = Instant::now();
    for batch in lookups.chunks(BATCH) {
        let before = Instant::now();
        cache.lookup_batch(batch).expect("verdicts");
        batches.push(before.elapsed());
    }
    let in_batches = began.elapsed();
    let together: Vec<Duration> = hits.iter().chain(&misses).copied().collect();
    let stats = cache.stats();
    let line = json!({
        "cache": name, "entries": stats.n_entries, "partitions": stats.n_partitions, "dim": DIM,
        "bytes_per_entry": stats.index_bytes as f64 / stats.n_entries as f64,
        "all_ms": quantiles(&together), "hit_ms": quantiles(&hits), "miss_ms": quantiles(&misses),
        "batch_of_256_ms": quantiles(&batches),
        "batch_times_faster": one_by_one.as_secs_f64() / in_batches.as_secs_f64(),
        "found": n_found as f64 / (N_ASKED / 2) as f64,
        "break_even": stats.all.break_even,
    });
    println!("{line}");
}

fn quantiles(times: &[Duration]) -> serde_json::Value {
    let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| ms.get((share * (ms.len() as f64 - 1.0)) as usize).copied();
    json!({"n": ms.len(), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999)})
}
