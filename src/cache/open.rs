//! An open cache: made, opened, reloaded, closed.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::cache::clock::{Clock, MachineClock, Time};
use crate::cache::doorkeeper::Doorkeeper;
use crate::cache::entry::{Facts, Hot, Labels, Owner};
use crate::cache::head::broken;
use crate::cache::identity::EntryId;
use crate::cache::insert::Queued;
use crate::cache::invalidate::Invalidated;
use crate::cache::load::Load;
use crate::cache::partition::Shards;
use crate::cache::policy::Policies;
use crate::cache::quota::Rooms;
use crate::cache::record::{CacheSettings, Kept, Record};
use crate::cache::stats::{AllCounters, Counters, Stats};
use crate::cache::verified::Estimate;
use crate::core::limits::DIM;
use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{Disk, FileDisk};

/// What a cache touches outside of itself.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Where it is kept.
    pub disk: Arc<dyn Disk>,
    /// What tells the time.
    pub clock: Arc<dyn Clock>,
    /// Threads for batches of lookups.
    pub pool: Arc<ThreadPool>,
    /// Decides when the bound compares an answer with the model's.
    pub seed: u64,
}

impl Seams {
    /// Those of this machine, with that many threads.
    ///
    /// # Errors
    /// `threads` if they cannot be started.
    pub fn of_machine(n_threads: usize) -> Result<Self> {
        let pool = ThreadPoolBuilder::new().num_threads(n_threads).build();
        let pool = pool.map_err(|error| Error::new(ErrorKind::Io, "threads", error.to_string()))?;
        let (disk, clock) = (Arc::new(FileDisk), Arc::new(MachineClock::default()));
        Ok(Self { disk, clock, pool: Arc::new(pool), seed: std::process::id().into() })
    }
}

/// What is held by whoever changes entries.
#[derive(Debug)]
pub(super) struct Books {
    pub next_id: u64,
    pub rooms: Rooms,
    pub owners: HashSet<Arc<Owner>>,
    pub invalidated: Invalidated,
    pub doorkeeper: Doorkeeper,
    /// Entries that are gone, and not yet from the record.
    pub removed: Vec<EntryId>,
    /// When the time was noted in the record.
    pub noted_ms: u64,
}

/// A cache of answers. Lookups wait for nobody who writes to disk; see [`crate::cache`].
pub struct SemanticCache {
    pub(super) settings: CacheSettings,
    pub(super) record: Record,
    pub(super) policies: RwLock<Arc<Policies>>,
    pub(super) time: Time,
    pub(super) shards: Shards,
    pub(super) books: Mutex<Books>,
    /// Entries whose life ended, and that the books still count.
    pub(super) ended: Mutex<Vec<Arc<Hot>>>,
    pub(super) queue: Mutex<Vec<Arc<Queued>>>,
    pub(super) load: Load,
    pub(super) counters: AllCounters,
    /// Invalidations so far.
    pub(super) n_invalidations: AtomicU64,
    pub(super) n_draws: AtomicU64,
    pub(super) pool: Arc<ThreadPool>,
    pub(super) seed: u64,
}

impl SemanticCache {
    /// Makes a cache in a folder, in which nothing may be yet.
    ///
    /// # Errors
    /// `dim_range`; `output_exists`, `locked`; those of the disk.
    pub fn create(
        folder: &Path,
        settings: CacheSettings,
        policies: Policies,
        seams: Seams,
    ) -> Result<Self> {
        check_dim(settings.dim)?;
        let record = Record::create(Arc::clone(&seams.disk), folder, settings.clone())?;
        Ok(Self::of(record, settings, policies, seams, 0))
    }

    /// Opens the cache in a folder. Heads and rows of all entries are read, answers are not.
    ///
    /// # Errors
    /// `not_found`, `locked`; `embedder_differs` if its vectors are not of these settings; `not_a_cache`, `format_newer`,
    /// `record_corrupt`; those of the disk.
    pub fn open(
        folder: &Path,
        settings: CacheSettings,
        policies: Policies,
        seams: Seams,
    ) -> Result<Self> {
        check_dim(settings.dim)?;
        let (record, seen_ms) = Record::open(Arc::clone(&seams.disk), folder, settings.clone())?;
        let kept = record.all(&seams.pool)?;
        let latest_ms = kept.iter().fold(seen_ms, |latest, one| latest.max(one.head.created_ms));
        let cache = Self::of(record, settings, policies, seams, latest_ms);
        cache.take_back(kept)?;
        Ok(cache)
    }

    fn of(
        record: Record,
        settings: CacheSettings,
        policies: Policies,
        seams: Seams,
        seen_ms: u64,
    ) -> Self {
        let time = Time::new(seams.clock, seen_ms);
        let now_ms = time.now_ms();
        let books = Books {
            next_id: first_id(now_ms),
            rooms: Rooms::default(),
            owners: HashSet::new(),
            invalidated: Invalidated::default(),
            doorkeeper: Doorkeeper::default(),
            removed: Vec::new(),
            noted_ms: seen_ms,
        };
        Self {
            shards: Shards::new(settings.dim),
            settings,
            record,
            policies: RwLock::new(Arc::new(policies)),
            time,
            books: Mutex::new(books),
            ended: Mutex::default(),
            queue: Mutex::default(),
            load: Load::default(),
            counters: AllCounters::default(),
            n_invalidations: AtomicU64::new(0),
            n_draws: AtomicU64::new(0),
            pool: seams.pool,
            seed: seams.seed,
        }
    }

    /// Brings back what was kept and lives; the rest goes from the record with the next commit.
    fn take_back(&self, kept: Vec<Kept>) -> Result<()> {
        let (mut books, policies, now_ms) = (self.books(), self.policies(), self.time.now_ms());
        for entry in kept {
            let Kept { id, head, key, exact, row, counters } = entry;
            let key = self.shards.shared(key);
            let policy = policies.of(key.category());
            let owner = books.owner(Owner {
                tenant: head.tenant.clone(),
                user: head.user.clone(),
                writer: head.writer.clone(),
            });
            let hot = Arc::new(Hot::new(Facts {
                id,
                key,
                owner,
                exact,
                labels: Labels { tags: head.tags, attributes: head.attributes },
                answer_hash: head.answer_hash,
                created_ms: head.created_ms,
                ttl_ms: head.ttl_ms,
                n_bytes: head.n_bytes,
                saved_ms: head.saved_ms,
                has_row: row.is_some(),
            }));
            let estimate = match &counters.observed[..] {
                [] => None,
                bytes => {
                    Some(Estimate::from_bytes(bytes).ok_or_else(|| broken("observations".into()))?)
                }
            };
            hot.restore(counters.n_hits, counters.heat, estimate);
            books.next_id = books.next_id.max(id.0 + 1);
            let end_ms = hot.expires_ms(policy, 1.0);
            if end_ms <= now_ms || policy.scope != hot.key.scope() {
                books.removed.push(id);
                continue;
            }
            self.shards.append(&hot, row.as_deref(), end_ms);
            books.rooms.add(hot, &policies);
        }
        self.shards.settle(&self.pool);
        Ok(())
    }

    /// Puts other policies in force, whole. Entries of a category whose scope changed are removed, as they were kept for others, and
    /// those whose life is over under the shorter of both policies.
    ///
    /// # Errors
    /// Those of the disk; the policies are in force, and what was to be removed is no longer answered.
    pub fn reload(&self, policies: Policies) -> Result<()> {
        let mut books = self.books();
        self.count_ended(&mut books);
        let (policies, before) = (Arc::new(policies), self.policies());
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&policies);
        let now_ms = self.time.now_ms();
        books.rooms.begin_anew();
        for hot in self.shards.all() {
            let policy = policies.of(hot.key.category());
            // What ended under either must not come back under another.
            let before = before.of(hot.key.category());
            let ends_ms = hot.expires_ms(policy, 1.0).min(hot.expires_ms(before, 1.0));
            if policy.scope == hot.key.scope() && ends_ms > now_ms {
                books.rooms.add(hot, &policies);
            } else if self.shards.remove(&hot) {
                books.removed.push(hot.id());
                self.counted(&hot).invalidated();
            }
        }
        self.shards.end_anew(&|hot| hot.expires_ms(policies.of(hot.key.category()), 1.0));
        self.commit_removed(&mut books)
    }

    /// What the cache is made for.
    pub fn settings(&self) -> &CacheSettings {
        &self.settings
    }

    /// The policies in force.
    pub fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a report of how loaded the models are, 0 to 1. It moves thresholds and lives of categories whose policy allows that: half
    /// of the way up, a twentieth of the way down.
    ///
    /// # Errors
    /// `load_range`.
    pub fn load(&self, load: f32) -> Result<()> {
        if !(0.0..=1.0).contains(&load) {
            return Err(Error::usage("load_range", format!("{load}, expected 0 to 1")));
        }
        self.load.report(load);
        Ok(())
    }

    /// What it holds and did since it was opened.
    pub fn stats(&self) -> Stats {
        let (n_partitions, n_entries, index_bytes) = self.shards.size();
        let (all, categories) = self.counters.read();
        Stats { n_entries, n_partitions, index_bytes, load: self.load.now(), all, categories }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        // Whoever panicked left an entry counted twice or not at all at worst: room is a little more or less.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of the category of an entry.
    pub(super) fn counted(&self, hot: &Hot) -> Arc<Counters> {
        self.counters.of(self.policies().counted_as(hot.key.category()))
    }
}

impl Books {
    /// An owner as entries share it.
    pub fn owner(&mut self, owner: Owner) -> Arc<Owner> {
        if let Some(found) = self.owners.get(&owner) {
            return Arc::clone(found);
        }
        let owner = Arc::new(owner);
        self.owners.insert(Arc::clone(&owner));
        owner
    }

    /// A number that no entry had.
    pub fn new_id(&mut self) -> EntryId {
        self.next_id += 1;
        EntryId(self.next_id - 1)
    }
}

/// The first number of a process: above all that an earlier one gave, as a millisecond has room for a thousand.
fn first_id(now_ms: u64) -> u64 {
    now_ms << 10
}

fn check_dim(dim: usize) -> Result<()> {
    if (1..=DIM).contains(&dim) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::BadInput, "dim_range", format!("{dim}, expected 1 to {DIM}")))
}
