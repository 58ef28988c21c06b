//! The semantic cache keeps its promises: the same verdicts as the plainest cache there is, no answer of somebody else's, nothing that
//! comes back, nobody pushed out by a flood.

mod bound;
mod history;
mod invalidation;
mod kill;
mod model;
mod policies;
mod quotas;
mod threads;
mod tiers;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nearkin::cache::{
    CacheSettings, Clock, Identity, Inserted, Lookup, NewEntry, Policies, Seams, SemanticCache,
    Verdict,
};
use nearkin::core::mix::stream;
use nearkin::store::disk::{Disk, FileDisk};

/// Clocks that do what a test says; milliseconds.
#[derive(Debug)]
pub struct TestClock(Mutex<(u64, u64)>);

impl Default for TestClock {
    fn default() -> Self {
        Self(Mutex::new((1_700_000_000_000, 0)))
    }
}

impl TestClock {
    /// Time passes on both clocks.
    pub fn pass(&self, ms: u64) {
        let mut now = self.0.lock().unwrap();
        *now = (now.0 + ms, now.1 + ms);
    }

    /// Somebody sets the wall clock.
    pub fn set_wall(&self, by_ms: i64) {
        let mut now = self.0.lock().unwrap();
        now.0 = now.0.saturating_add_signed(by_ms);
    }

    /// What the wall clock shows.
    pub fn wall_ms(&self) -> u64 {
        self.0.lock().unwrap().0
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Duration {
        Duration::from_millis(self.0.lock().unwrap().0)
    }

    fn steady(&self) -> Duration {
        Duration::from_millis(self.0.lock().unwrap().1)
    }
}

pub const DIM: usize = 16;

pub fn settings() -> CacheSettings {
    CacheSettings { dim: DIM, embedder: "test".into() }
}

pub fn seams(disk: Arc<dyn Disk>, clock: &Arc<TestClock>) -> Seams {
    let clock: Arc<dyn Clock> = clock.clone();
    Seams { disk, clock, seed: 5, ..Seams::of_machine(2).unwrap() }
}

/// A cache in a new folder, with a clock in the test's hands.
pub struct Test {
    pub cache: SemanticCache,
    pub clock: Arc<TestClock>,
    pub folder: tempfile::TempDir,
}

impl Test {
    pub fn new(policies: &str) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(TestClock::default()));
        let policies = Policies::from_toml(policies, "test.toml").unwrap();
        let path = folder.path().join("c");
        let seams = seams(Arc::new(FileDisk), &clock);
        let cache = SemanticCache::create(&path, settings(), policies, seams).unwrap();
        Self { cache, clock, folder }
    }

    /// The same cache, opened again; not closed before.
    pub fn reopened(self) -> Self {
        let Self { cache, clock, folder } = self;
        let policies = Policies::clone(&cache.policies());
        drop(cache);
        let cache = open(&folder.path().join("c"), policies, &clock);
        Self { cache, clock, folder }
    }

    pub fn insert(&self, entry: NewEntry) -> Inserted {
        self.cache.insert(entry).unwrap()
    }

    pub fn ask(&self, identity: &Identity, exact: u64, text: &str, vector: &[f32]) -> Verdict {
        let lookup = Lookup::new(identity, hash(exact), text, Some(vector));
        self.cache.lookup(&lookup).unwrap()
    }
}

pub fn open(path: &Path, policies: Policies, clock: &Arc<TestClock>) -> SemanticCache {
    let seams = seams(Arc::new(FileDisk), clock);
    SemanticCache::open(path, settings(), policies, seams).unwrap()
}

pub fn identity(tenant: &str) -> Identity {
    Identity {
        tenant: tenant.into(),
        user: None,
        category: "faq".into(),
        model: "m".into(),
        compat: [0; 32],
    }
}

/// A hash of a request.
pub fn hash(n: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    for (at, word) in hash.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&stream(n, at as u64).to_le_bytes());
    }
    hash
}

/// A vector; those of different numbers are unlike each other.
pub fn vector(n: u64) -> Vec<f32> {
    let value = |at: u64| (stream(n, at) >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
    (0..DIM as u64).map(|at| value(100 + at)).collect()
}

/// A vector whose cosine with that of a number is about the given one.
pub fn near(n: u64, cosine: f32) -> Vec<f32> {
    let (a, b) = (unit(&vector(n)), unit(&vector(n + 1_000_000)));
    let dot: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    let across: Vec<f32> = a.iter().zip(&b).map(|(a, b)| b - dot * a).collect();
    let sine = (1.0 - cosine * cosine).max(0.0).sqrt();
    a.iter().zip(unit(&across)).map(|(a, across)| cosine * a + sine * across).collect()
}

pub fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / norm).collect()
}

/// An entry with the vector and hash of a number.
pub fn entry(identity: &Identity, n: u64) -> NewEntry {
    let (text, answer) = (format!("question {n}"), format!("answer {n}"));
    NewEntry {
        vector: Some(vector(n)),
        saved_ms: 100,
        ..NewEntry::new(identity.clone(), hash(n), &text, answer.as_bytes())
    }
}
