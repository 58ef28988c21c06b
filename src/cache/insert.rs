//! From an answer to the record: checked, compared with what is there, given room, committed with others that wait.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use crate::cache::cells::Want;
use crate::cache::clock::ms;
use crate::cache::entry::{Facts, Hot, Inserted, Labels, NewEntry, Owner, Refusal, half};
use crate::cache::head::{Head, hex};
use crate::cache::identity::{EntryId, PartitionKey};
use crate::cache::invalidate::{Invalidate, Which};
use crate::cache::open::{Books, SemanticCache};
use crate::cache::policy::{Policies, Policy};
use crate::cache::record::{Changes, Written};
use crate::cache::row::Query;
use crate::cache::second_look::difference;
use crate::core::limits::{
    BATCH_POINTS, CACHE_ANSWER_BYTES, CACHE_LABEL_BYTES, CACHE_TEXT_BYTES, NAME_BYTES,
};
use crate::error::{Error, ErrorKind, Result};

/// Cosine from which two questions are one, if the guard finds no difference.
const ONE: f32 = 0.98;

/// An entry that passed the checks for which nothing else is looked at.
pub(super) struct Prepared {
    entry: NewEntry,
    key: PartitionKey,
    query: Option<Query>,
    answer_hash: u64,
    ttl_ms: u64,
    n_bytes: u32,
}

/// An entry that waits for a commit, and what became of it.
pub(super) struct Queued {
    entry: Mutex<Option<Prepared>>,
    outcome: Mutex<Option<Result<Inserted>>>,
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queued")
    }
}

impl SemanticCache {
    /// Keeps an answer; one that is new is on disk when this returns. Threads that insert at once share the wait for the disk.
    ///
    /// # Errors
    /// `identity_name`, `vector_dim`, `vector_not_finite`, `vector_zero_norm`, `ttl_range`; those of the disk.
    pub fn insert(&self, entry: NewEntry) -> Result<Inserted> {
        let prepared = match self.prepare(entry)? {
            Ok(prepared) => prepared,
            Err(refusal) => return Ok(Inserted::Refused(refusal)),
        };
        let queued =
            Arc::new(Queued { entry: Mutex::new(Some(prepared)), outcome: Mutex::default() });
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&queued));
        let mut books = self.books();
        loop {
            let outcome = queued.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(outcome) = outcome {
                return outcome;
            }
            if !self.admit_queue(&mut books) {
                // Whoever took it from the queue ended before it was committed.
                let message = "the commit that this entry was in was not finished";
                return Err(Error::new(ErrorKind::Io, "insert_failed", message));
            }
        }
    }

    /// Keeps answers, in commits of up to ten thousand: for many at once.
    ///
    /// # Errors
    /// Those of [`Self::insert`]; what was committed before stays.
    pub fn insert_batch(&self, entries: Vec<NewEntry>) -> Result<Vec<Inserted>> {
        let prepared: Vec<Result<Prepared, Refusal>> =
            entries.into_iter().map(|entry| self.prepare(entry)).collect::<Result<_>>()?;
        let mut books = self.books();
        let mut all = Vec::with_capacity(prepared.len());
        let mut waiting = prepared.into_iter().peekable();
        while waiting.peek().is_some() {
            let some: Vec<_> = waiting.by_ref().take(BATCH_POINTS).collect();
            for outcome in self.admit_all(&mut books, some) {
                all.push(outcome?);
            }
        }
        Ok(all)
    }

    /// Admits what is queued, with one commit; says whether there was anything.
    fn admit_queue(&self, books: &mut Books) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let n = queue.len().min(BATCH_POINTS);
        let some: Vec<Arc<Queued>> = queue.drain(..n).collect();
        drop(queue);
        let take = |queued: &Arc<Queued>| {
            let entry = queued.entry.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(entry.expect("an entry leaves the queue once"))
        };
        let entries = some.iter().map(take).collect();
        for (queued, outcome) in some.iter().zip(self.admit_all(books, entries)) {
            *queued.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        }
        !some.is_empty()
    }

    /// The checks of an entry by itself.
    fn prepare(&self, entry: NewEntry) -> Result<Result<Prepared, Refusal>> {
        let policies = self.policies();
        let counters = self.counters.of(policies.counted_as(&entry.identity.category));
        let prepared = self.prepared(entry, &policies)?;
        if let Err(refusal) = prepared {
            counters.refused(refusal);
        }
        Ok(prepared)
    }

    fn prepared(&self, entry: NewEntry, policies: &Policies) -> Result<Result<Prepared, Refusal>> {
        entry.identity.check()?;
        let policy = policies.of(&entry.identity.category);
        let vector = entry.vector.as_deref();
        let query = vector.map(|vector| Query::new(vector, self.settings.dim)).transpose()?;
        if entry.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Error::usage("ttl_range", "a life of 0 seconds, expected more"));
        }
        if let Some(refusal) = refusal(&entry, policy, query.is_some()) {
            return Ok(Err(refusal));
        }
        let Some(key) = PartitionKey::of(&entry.identity, policy.scope) else {
            return Ok(Err(Refusal::NoUser));
        };
        // Where only equal requests are answered, a row would be read by nobody.
        let query = query.filter(|_| policy.mode.is_semantic());
        let row_bytes = query.as_ref().map_or(0, |query| 2 * query.row().len());
        let n_bytes = entry.text.len() + entry.answer.len() + row_bytes + label_bytes(&entry);
        if n_bytes as u64 > policies.largest(policy) {
            return Ok(Err(Refusal::NoRoom));
        }
        Ok(Ok(Prepared {
            answer_hash: xxh3_64(&entry.answer),
            ttl_ms: ms(entry.ttl.unwrap_or(policy.ttl)).max(1),
            n_bytes: u32::try_from(n_bytes).expect("text, answer and labels are limited"),
            entry,
            key,
            query,
        }))
    }

    /// Admits entries and commits what is new, with all that is gone since the last commit.
    fn admit_all(
        &self,
        books: &mut Books,
        entries: Vec<Result<Prepared, Refusal>>,
    ) -> Vec<Result<Inserted>> {
        let policies = self.policies();
        self.count_ended(books);
        let mut changes = Changes::default();
        let mut new = Vec::new();
        let mut outcomes: Vec<Result<Inserted>> = entries
            .into_iter()
            .map(|entry| match entry {
                Ok(prepared) => self.admit(books, prepared, &policies, &mut changes, &mut new),
                Err(refusal) => Ok(Inserted::Refused(refusal)),
            })
            .collect();
        changes.removed.clone_from(&books.removed);
        let committed = if changes.is_empty() { Ok(()) } else { self.record.commit(&changes) };
        match committed {
            Ok(()) => {
                books.removed.clear();
                new.iter().for_each(|hot| hot.set_waiting(None));
            }
            Err(error) => {
                // What is not on disk is not answered either.
                for hot in new.iter().filter(|hot| self.shards.remove(hot)) {
                    books.rooms.less(hot, &policies);
                }
                let kept =
                    outcomes.iter_mut().filter(|one| !matches!(one, Ok(Inserted::Refused(_))));
                kept.for_each(|outcome| *outcome = Err(error.clone()));
            }
        }
        outcomes
    }

    /// Admits one entry: it is answered from now on, and is to be committed.
    fn admit(
        &self,
        books: &mut Books,
        prepared: Prepared,
        policies: &Policies,
        changes: &mut Changes,
        new: &mut Vec<Arc<Hot>>,
    ) -> Result<Inserted> {
        let policy = policies.of(prepared.key.category());
        let counters = self.counters.of(policies.counted_as(prepared.key.category()));
        let refuse = |refusal| {
            counters.refused(refusal);
            Ok(Inserted::Refused(refusal))
        };
        if policy.scope != prepared.key.scope() {
            // The policies changed while it waited.
            return refuse(Refusal::NotStored);
        }
        if policy.doorkeeper && !books.doorkeeper.sees_again(&prepared.entry.exact) {
            return refuse(Refusal::FirstSighting);
        }
        let now_ms = self.time.now_ms();
        let ticket = prepared.entry.ticket;
        let (hot, written) = self.made(books, prepared, now_ms);
        if ticket.is_some_and(|ticket| books.invalidated.covers(ticket, &hot)) {
            return refuse(Refusal::Invalidated);
        }
        let replaced = match self.standing(&hot, &written, policy, now_ms)? {
            Standing::Joins(id) => {
                counters.joined();
                return Ok(Inserted::Joined(id));
            }
            Standing::Replaces(old) => Some(old),
            Standing::New => None,
        };
        if let Some(old) = replaced.filter(|old| self.shards.remove(old)) {
            books.rooms.less(&old, policies);
            books.removed.push(old.id());
        }
        if let Err(refusal) = self.make_room(books, &hot, policies) {
            return refuse(refusal);
        }
        hot.set_waiting(Some(Arc::clone(&written)));
        self.shards.insert(&hot, written.row.as_deref(), hot.expires_ms(policy, 1.0));
        books.rooms.add(Arc::clone(&hot), policies);
        counters.inserted(hot.saved_ms);
        let id = hot.id();
        changes.written.push(written);
        new.push(hot);
        Ok(Inserted::New(id))
    }

    /// The entry in memory, and on its way to the record.
    fn made(&self, books: &mut Books, prepared: Prepared, now_ms: u64) -> (Arc<Hot>, Arc<Written>) {
        let Prepared { entry, key, query, answer_hash, ttl_ms, n_bytes } = prepared;
        let row = query.map(|query| query.kept());
        let scope = key.scope();
        let (tenant, user) = (entry.identity.tenant.clone(), entry.identity.user.clone());
        let hot = Hot::new(Facts {
            id: books.new_id(),
            key: self.shards.shared(key),
            owner: books.owner(Owner { tenant, user, writer: entry.writer.clone() }),
            labels: Labels { tags: entry.tags.clone(), attributes: entry.attributes.clone() },
            exact: half(&entry.exact),
            answer_hash,
            created_ms: now_ms,
            ttl_ms,
            n_bytes,
            saved_ms: entry.saved_ms,
            has_row: row.is_some(),
        });
        let head = Head {
            tenant: entry.identity.tenant,
            user: entry.identity.user,
            category: entry.identity.category,
            model: entry.identity.model,
            compat: hex(&entry.identity.compat),
            exact: hex(&entry.exact),
            scope: scope.word().to_owned(),
            created_ms: now_ms,
            ttl_ms,
            answer_hash,
            n_bytes,
            saved_ms: entry.saved_ms,
            saved_tokens: entry.saved_tokens,
            writer: entry.writer,
            tags: entry.tags,
            attributes: entry.attributes,
        };
        let (id, text, answer) = (hot.id(), entry.text, entry.answer);
        (Arc::new(hot), Arc::new(Written { id, head, row, text, answer }))
    }

    /// What an entry is to those that are there. One of an equal request is replaced. The nearest is joined if the guard finds no
    /// difference, and it is near enough to have been answered with and says the same, or is so near that it is one question; but it is
    /// replaced if less than half of the life of the new one is left to it.
    fn standing(
        &self,
        hot: &Hot,
        written: &Written,
        policy: &Policy,
        now_ms: u64,
    ) -> Result<Standing> {
        let load = self.load.now();
        let lives = |other: &Hot| other.expires_ms(policy, load) > now_ms;
        let near = {
            let shard = self.shards.read(&hot.key);
            let Some(partition) = shard.partition(&hot.key) else { return Ok(Standing::New) };
            if let Some(equal) = partition.equal(hot.exact).filter(|equal| lives(equal)) {
                return Ok(Standing::Replaces(Arc::clone(equal)));
            }
            let nearest = |row| {
                let query = Query::of_kept(row);
                let want = Want::new(&query, policy.threshold.min(ONE));
                partition.cells.nearest_to_new(self.shards.loops(), &want, &lives)
            };
            written.row.as_deref().and_then(nearest)
        };
        let Some((other, cosine)) = near else { return Ok(Standing::New) };
        let says_the_same = other.answer_hash == hot.answer_hash && cosine >= policy.threshold;
        if !says_the_same && cosine < ONE {
            return Ok(Standing::New);
        }
        if policy.guard {
            let whole = self.wholes(&[Some(&other)])?.into_iter().next().flatten();
            let agrees = |whole: Arc<Written>| difference(&whole.text, &written.text).is_none();
            if !whole.is_some_and(agrees) {
                return Ok(Standing::New);
            }
        }
        let left_ms = other.expires_ms(policy, load).saturating_sub(now_ms);
        Ok(match left_ms >= hot.ttl_ms / 2 {
            true => Standing::Joins(other.id()),
            false => Standing::Replaces(other),
        })
    }

    /// Lets entries go until there is room for one more.
    fn make_room(&self, books: &mut Books, hot: &Hot, policies: &Policies) -> Result<(), Refusal> {
        let (tenant, category) = (&hot.owner.tenant, hot.key.category());
        loop {
            let next = books.rooms.next_to_go(tenant, category, hot.n_bytes.into(), policies)?;
            let Some(victim) = next else { return Ok(()) };
            if self.shards.remove(&victim) {
                books.rooms.less(&victim, policies);
                books.removed.push(victim.id());
                self.counters.of(policies.counted_as(victim.key.category())).evicted();
            }
        }
    }

    /// Counts entries whose life ended no longer; they go from the record with the next commit.
    pub(super) fn count_ended(&self, books: &mut Books) {
        let policies = self.policies();
        let ended = std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        for hot in ended {
            books.rooms.less(&hot, &policies);
            books.removed.push(hot.id());
            self.counters.of(policies.counted_as(hot.key.category())).expired();
        }
    }

    /// Removes from the record what is gone.
    pub(super) fn commit_removed(&self, books: &mut Books) -> Result<()> {
        while !books.removed.is_empty() {
            let n = books.removed.len().min(BATCH_POINTS);
            let removed = books.removed[..n].to_vec();
            self.record.commit(&Changes { removed, ..Changes::default() })?;
            books.removed.drain(..n);
        }
        Ok(())
    }

    /// Takes answers back: they are no longer answered, and not on disk, when this returns. Returns how many there were. Answers that
    /// come later, and were asked for before, are refused ([`NewEntry::ticket`]).
    ///
    /// # Errors
    /// Those of the disk: what was to be removed is not answered until the cache is opened again, and must then be taken back again.
    pub fn invalidate(&self, invalidate: &Invalidate) -> Result<u64> {
        let mut books = self.books();
        let policies = self.policies();
        let n = books.invalidated.push(invalidate.clone());
        self.n_invalidations.store(n, Ordering::Release);
        self.count_ended(&mut books);
        let candidates = match &invalidate.which {
            Which::Id(id) => self.shards.get(*id).into_iter().collect(),
            _ => self.shards.all(),
        };
        let mut n_removed = 0;
        for hot in candidates.iter().filter(|hot| invalidate.is_about(hot)) {
            if self.shards.remove(hot) {
                books.rooms.less(hot, &policies);
                books.removed.push(hot.id());
                self.counted(hot).invalidated();
                n_removed += 1;
            }
        }
        self.commit_removed(&mut books)?;
        Ok(n_removed)
    }
}

/// What an entry is to those that are there.
enum Standing {
    New,
    Joins(EntryId),
    Replaces(Arc<Hot>),
}

/// Why an entry cannot be kept, by itself.
fn refusal(entry: &NewEntry, policy: &Policy, has_vector: bool) -> Option<Refusal> {
    if policy.mode.is_off() || !policy.store {
        return Some(Refusal::NotStored);
    }
    let name = |name: &String| name.len() > NAME_BYTES;
    let is_large = entry.text.len() > CACHE_TEXT_BYTES
        || entry.answer.len() > CACHE_ANSWER_BYTES
        || label_bytes(entry) > CACHE_LABEL_BYTES
        || entry.tags.iter().any(name)
        || entry.writer.as_ref().is_some_and(name);
    if is_large {
        return Some(Refusal::TooLarge);
    }
    if entry.ttl.is_some_and(|ttl| ttl > policy.ttl) {
        return Some(Refusal::TtlAbovePolicy);
    }
    (!policy.mode.is_exact() && !has_vector).then_some(Refusal::NoVector)
}

/// Bytes of tags and attributes.
fn label_bytes(entry: &NewEntry) -> usize {
    let tags: usize = entry.tags.iter().map(String::len).sum();
    tags + entry.attributes.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
}
