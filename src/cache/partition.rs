//! The entries of one partition, and the shards that hold all partitions.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use half::f16;
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::cache::cells::{Cells, Loops};
use crate::cache::entry::{ByExact, ById, Hot};
use crate::cache::identity::{EntryId, PartitionKey};

/// Parts of the cache that are locked each for itself.
const N_SHARDS: usize = 64;

/// Entries that may answer one another's requests.
#[derive(Debug)]
pub(super) struct Partition {
    key: Arc<PartitionKey>,
    exact: HashSet<ByExact>,
    pub cells: Cells,
    n_entries: usize,
}

impl Partition {
    fn new(key: Arc<PartitionKey>, dim: usize) -> Self {
        Self { key, exact: HashSet::new(), cells: Cells::new(dim), n_entries: 0 }
    }

    /// The entry of a request of that half of a hash.
    pub fn equal(&self, exact: u128) -> Option<&Arc<Hot>> {
        self.exact.get(&exact).map(|found| &found.0)
    }

    /// Entries with and without a row.
    pub fn n_entries(&self) -> usize {
        self.n_entries
    }

    fn n_bytes(&self) -> u64 {
        // A place of the set is a pointer and a byte, of which at most 7 in 8 are used.
        self.cells.n_bytes() + self.exact.capacity() as u64 * 8 * 9 / 7
    }
}

/// Partitions under one lock.
#[derive(Debug, Default)]
pub(super) struct Shard {
    partitions: HashMap<Arc<PartitionKey>, Partition>,
    /// Numbers of entries by the second in which they end; some may be gone.
    ends: BTreeMap<u64, Vec<EntryId>>,
}

impl Shard {
    /// A partition, if anything is in it.
    pub fn partition(&self, key: &PartitionKey) -> Option<&Partition> {
        self.partitions.get(key)
    }

    /// Whether a second is over in which entries end. Until then each lookup sees for itself.
    fn is_due(&self, now_ms: u64) -> bool {
        self.ends.keys().next().is_some_and(|&second| second < now_ms / 1000)
    }

    fn remove(&mut self, loops: &Loops, hot: &Hot) {
        let Some(partition) = self.partitions.get_mut(&hot.key) else { return };
        if partition.exact.get(&hot.exact).is_some_and(|found| found.0.id() == hot.id()) {
            partition.exact.remove(&hot.exact);
        }
        if hot.has_row {
            partition.cells.remove(loops, hot);
        }
        partition.n_entries -= 1;
        if partition.n_entries == 0 {
            self.partitions.remove(&hot.key);
        }
    }
}

/// Entries by their numbers.
type Ids = RwLock<HashSet<ById>>;

/// All partitions.
#[derive(Debug)]
pub(super) struct Shards {
    loops: Loops,
    dim: usize,
    hasher: RandomState,
    shards: Vec<RwLock<Shard>>,
    by_id: Vec<Ids>,
}

impl Shards {
    /// No partitions of rows of `dim` elements.
    pub fn new(dim: usize) -> Self {
        Self {
            loops: Loops::new(dim),
            dim,
            hasher: RandomState::new(),
            shards: (0..N_SHARDS).map(|_| RwLock::default()).collect(),
            by_id: (0..N_SHARDS).map(|_| RwLock::default()).collect(),
        }
    }

    /// What rows are compared with.
    pub fn loops(&self) -> &Loops {
        &self.loops
    }

    fn lock_of(&self, key: &PartitionKey) -> &RwLock<Shard> {
        &self.shards[self.hasher.hash_one(key) as usize % N_SHARDS]
    }

    /// The shard of a partition, to be read.
    pub fn read(&self, key: &PartitionKey) -> RwLockReadGuard<'_, Shard> {
        self.lock_of(key).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &PartitionKey) -> RwLockWriteGuard<'_, Shard> {
        self.lock_of(key).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn ids(&self, id: EntryId) -> &Ids {
        &self.by_id[id.0 as usize % N_SHARDS]
    }

    /// The entry of a number.
    pub fn get(&self, id: EntryId) -> Option<Arc<Hot>> {
        let ids = self.ids(id).read().unwrap_or_else(PoisonError::into_inner);
        ids.get(&id).map(|found| Arc::clone(&found.0))
    }

    /// The key of a partition as its entries share it.
    pub fn shared(&self, key: PartitionKey) -> Arc<PartitionKey> {
        let found = self.read(&key).partition(&key).map(|partition| Arc::clone(&partition.key));
        found.unwrap_or_else(|| Arc::new(key))
    }

    /// Adds an entry that ends at `end_ms` at the latest.
    pub fn insert(&self, hot: &Arc<Hot>, row: Option<&[f16]>, end_ms: u64) {
        self.insert_by(hot, end_ms, |cells| {
            if let Some(row) = row {
                cells.insert(&self.loops, Arc::clone(hot), row);
            }
        });
    }

    /// The same of one of many, after which [`Self::settle`] must follow.
    pub fn append(&self, hot: &Arc<Hot>, row: Option<&[f16]>, end_ms: u64) {
        self.insert_by(hot, end_ms, |cells| {
            if let Some(row) = row {
                cells.append(Arc::clone(hot), row);
            }
        });
    }

    /// Divides and encodes what was appended.
    pub fn settle(&self, pool: &ThreadPool) {
        let settle = |shard: &RwLock<Shard>| {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.partitions.values_mut().for_each(|one| one.cells.settle(&self.loops));
        };
        pool.install(|| self.shards.par_iter().for_each(settle));
    }

    fn insert_by(&self, hot: &Arc<Hot>, end_ms: u64, add: impl FnOnce(&mut Cells)) {
        let mut by_id = self.ids(hot.id()).write().unwrap_or_else(PoisonError::into_inner);
        by_id.insert(ById(Arc::clone(hot)));
        drop(by_id);
        let mut shard = self.write(&hot.key);
        shard.ends.entry(end_ms / 1000).or_default().push(hot.id());
        let new = || Partition::new(Arc::clone(&hot.key), self.dim);
        let partition = shard.partitions.entry(Arc::clone(&hot.key)).or_insert_with(new);
        partition.exact.replace(ByExact(Arc::clone(hot)));
        add(&mut partition.cells);
        partition.n_entries += 1;
    }

    /// Removes an entry; says whether it was there.
    pub fn remove(&self, hot: &Hot) -> bool {
        let mut shard = self.write(&hot.key);
        let was_there = hot.remove();
        if was_there {
            shard.remove(&self.loops, hot);
            self.forget(hot.id());
        }
        was_there
    }

    fn forget(&self, id: EntryId) {
        self.ids(id).write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Removes what has ended from the shard of a partition, and returns it.
    pub fn sweep(
        &self,
        key: &PartitionKey,
        now_ms: u64,
        end: &dyn Fn(&Hot) -> u64,
    ) -> Vec<Arc<Hot>> {
        if !self.read(key).is_due(now_ms) {
            return Vec::new();
        }
        self.sweep_shard(&mut self.write(key), now_ms, end)
    }

    /// Removes what has ended from all shards, and returns it.
    pub fn sweep_all(&self, now_ms: u64, end: &dyn Fn(&Hot) -> u64) -> Vec<Arc<Hot>> {
        let mut ended = Vec::new();
        for shard in &self.shards {
            if shard.read().unwrap_or_else(PoisonError::into_inner).is_due(now_ms) {
                let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
                ended.extend(self.sweep_shard(&mut shard, now_ms, end));
            }
        }
        ended
    }

    fn sweep_shard(
        &self,
        shard: &mut Shard,
        now_ms: u64,
        end: &dyn Fn(&Hot) -> u64,
    ) -> Vec<Arc<Hot>> {
        let mut ended = Vec::new();
        let later = shard.ends.split_off(&(now_ms / 1000));
        for (_, ids) in std::mem::replace(&mut shard.ends, later) {
            for hot in ids.into_iter().filter_map(|id| self.get(id)) {
                let end_ms = end(&hot);
                if end_ms > now_ms {
                    shard.ends.entry(end_ms / 1000).or_default().push(hot.id());
                } else if hot.remove() {
                    shard.remove(&self.loops, &hot);
                    self.forget(hot.id());
                    ended.push(hot);
                }
            }
        }
        ended
    }

    /// Tells when entries end, after what decides it changed.
    pub fn end_anew(&self, end: &dyn Fn(&Hot) -> u64) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let ids: Vec<EntryId> =
                std::mem::take(&mut shard.ends).into_values().flatten().collect();
            for hot in ids.into_iter().filter_map(|id| self.get(id)) {
                shard.ends.entry(end(&hot) / 1000).or_default().push(hot.id());
            }
        }
    }

    /// Every entry, in no order.
    pub fn all(&self) -> Vec<Arc<Hot>> {
        let all = self.by_id.iter().map(|ids| ids.read().unwrap_or_else(PoisonError::into_inner));
        all.flat_map(|ids| ids.iter().map(|found| Arc::clone(&found.0)).collect::<Vec<_>>())
            .collect()
    }

    /// Partitions, entries, and bytes in memory: rows, entries, and what finds them.
    pub fn size(&self) -> (u64, u64, u64) {
        let (mut n_partitions, mut n_bytes) = (0, 0);
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            n_partitions += shard.partitions.len() as u64;
            n_bytes += shard.partitions.values().map(Partition::n_bytes).sum::<u64>();
            n_bytes += shard.ends.values().map(|ids| ids.capacity() as u64 * 8).sum::<u64>();
        }
        let mut n_entries = 0;
        for ids in &self.by_id {
            let ids = ids.read().unwrap_or_else(PoisonError::into_inner);
            n_entries += ids.len() as u64;
            // As those of the sets of partitions.
            n_bytes += ids.capacity() as u64 * 8 * 9 / 7;
            n_bytes += ids.iter().map(|found| found.0.n_own_bytes()).sum::<u64>();
        }
        (n_partitions, n_entries, n_bytes)
    }
}
