//! An entry: as it comes in, and what a verdict needs of it, which is in memory.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cache::identity::{EntryId, Identity, PartitionKey};
use crate::cache::policy::Policy;
use crate::cache::record::Written;
use crate::cache::verified::Estimate;

/// An answer to be kept.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Who asked what of which model.
    pub identity: Identity,
    /// A hash of the whole request: equal requests are answered without looking at vectors.
    pub exact: [u8; 32],
    /// The text that was asked; what the vector is of.
    pub text: String,
    /// Its vector, of any norm but 0; without one only equal requests are answered.
    pub vector: Option<Vec<f32>>,
    /// The answer, which is kept byte for byte.
    pub answer: Vec<u8>,
    /// For [`crate::cache::Which::Attributes`].
    pub attributes: BTreeMap<String, String>,
    /// For [`crate::cache::Which::Tag`].
    pub tags: Vec<String>,
    /// Who wrote it, for [`crate::cache::Which::Writer`].
    pub writer: Option<String>,
    /// Its life, at most that of the policy, which it has otherwise.
    pub ttl: Option<Duration>,
    /// Milliseconds that a hit saves.
    pub saved_ms: u32,
    /// Tokens that a hit saves.
    pub saved_tokens: u32,
    /// What the lookup that missed said ([`crate::cache::Miss::ticket`]): an answer that was asked for before an invalidation which
    /// would have removed it is refused. Without one that is not seen.
    pub ticket: Option<u64>,
}

impl NewEntry {
    /// An answer without a vector, and with nothing said of it.
    pub fn new(identity: Identity, exact: [u8; 32], text: &str, answer: &[u8]) -> Self {
        Self {
            identity,
            exact,
            text: text.to_owned(),
            vector: None,
            answer: answer.to_vec(),
            attributes: BTreeMap::new(),
            tags: Vec::new(),
            writer: None,
            ttl: None,
            saved_ms: 0,
            saved_tokens: 0,
            ticket: None,
        }
    }
}

/// What became of a new entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is kept, in place of one of an equal request.
    New(EntryId),
    /// One that is there says the same.
    Joined(EntryId),
    /// It is not kept.
    Refused(Refusal),
}

/// Why an entry is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The category is off, or says that nothing is stored.
    NotStored,
    /// It was not seen before, and the doorkeeper lets in what comes twice.
    FirstSighting,
    /// It is larger than the quota or the whole room.
    NoRoom,
    /// Text, answer, or what stands beside them is too long.
    TooLarge,
    /// Its life is longer than that of the policy.
    TtlAbovePolicy,
    /// The category is of users, and none is named.
    NoUser,
    /// The category answers only similar requests, and there is no vector.
    NoVector,
    /// It was asked for before it was invalidated.
    Invalidated,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NotStored,
        Self::FirstSighting,
        Self::NoRoom,
        Self::TooLarge,
        Self::TtlAbovePolicy,
        Self::NoUser,
        Self::NoVector,
        Self::Invalidated,
    ];

    /// The word, for headers and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotStored => "not_stored",
            Self::FirstSighting => "first_sighting",
            Self::NoRoom => "no_room",
            Self::TooLarge => "too_large",
            Self::TtlAbovePolicy => "ttl_above_policy",
            Self::NoUser => "no_user",
            Self::NoVector => "no_vector",
            Self::Invalidated => "invalidated",
        }
    }
}

/// Who an entry came from; entries share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub tenant: String,
    pub user: Option<String>,
    pub writer: Option<String>,
}

/// What an entry can be invalidated by, beside its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels {
    pub tags: Vec<String>,
    pub attributes: BTreeMap<String, String>,
}

/// What few entries have.
#[derive(Debug, Default)]
struct Rare {
    waiting: Option<Arc<Written>>,
    estimate: Option<Estimate>,
}

/// Half of a hit's weight is gone after this time.
const HALF_LIFE_MS: f64 = 3_600_000.0;

/// What of an entry is in memory.
#[derive(Debug)]
pub(super) struct Hot {
    id: EntryId,
    pub key: Arc<PartitionKey>,
    pub owner: Arc<Owner>,
    pub labels: Option<Box<Labels>>,
    /// The first half of the hash of the request; the whole is with the answer.
    pub exact: u128,
    pub answer_hash: u64,
    pub created_ms: u64,
    pub ttl_ms: u64,
    pub n_bytes: u32,
    pub saved_ms: u32,
    n_hits: AtomicU32,
    /// Logarithm of the sum of `2^(when / half-life)` over hits: the same order at any time, and no hit lowers it.
    heat: AtomicU64,
    place: AtomicU64,
    counted_in: AtomicU32,
    gone: AtomicBool,
    changed: AtomicBool,
    pub has_row: bool,
    rare: Mutex<Option<Box<Rare>>>,
}

/// What [`Hot`] is made of.
pub(super) struct Facts {
    pub id: EntryId,
    pub key: Arc<PartitionKey>,
    pub owner: Arc<Owner>,
    pub labels: Labels,
    pub exact: u128,
    pub answer_hash: u64,
    pub created_ms: u64,
    pub ttl_ms: u64,
    pub n_bytes: u32,
    pub saved_ms: u32,
    pub has_row: bool,
}

/// The first half of a hash of a request.
pub(super) fn half(exact: &[u8; 32]) -> u128 {
    let (half, _) = exact.split_at(16);
    u128::from_le_bytes(half.try_into().expect("16 bytes are half of 32"))
}

impl Hot {
    pub fn new(facts: Facts) -> Self {
        let Facts { id, key, owner, labels, exact, answer_hash, created_ms, ttl_ms, .. } = facts;
        let Facts { n_bytes, saved_ms, has_row, .. } = facts;
        Self {
            id,
            key,
            owner,
            labels: (labels != Labels::default()).then(|| Box::new(labels)),
            exact,
            answer_hash,
            created_ms,
            ttl_ms,
            n_bytes,
            saved_ms,
            n_hits: AtomicU32::new(0),
            heat: AtomicU64::new(f64::NEG_INFINITY.to_bits()),
            place: AtomicU64::new(0),
            counted_in: AtomicU32::new(u32::MAX),
            gone: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            has_row,
            rare: Mutex::default(),
        }
    }

    pub fn id(&self) -> EntryId {
        self.id
    }

    /// The cell of its row and the place in it; they change only while its shard is held for writing.
    pub fn place(&self) -> (usize, usize) {
        let place = self.place.load(Ordering::Relaxed);
        ((place >> 32) as usize, place as u32 as usize)
    }

    pub fn set_place(&self, cell: usize, at: usize) {
        self.place.store((cell as u64) << 32 | at as u64, Ordering::Relaxed);
    }

    /// It is in this count of entries.
    pub fn count_in(&self, count: u32) {
        self.counted_in.store(count, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn is_counted_in(&self, count: u32) -> bool {
        self.counted_in.load(Ordering::Relaxed) == count
    }

    /// Whether it was removed.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Marks it as removed; says whether it was not before.
    pub fn remove(&self) -> bool {
        !self.gone.swap(true, Ordering::AcqRel)
    }

    /// When its life ends under a policy and a load.
    pub fn expires_ms(&self, policy: &Policy, load: f32) -> u64 {
        let ttl_ms = self.ttl_ms.min(super::clock::ms(policy.ttl));
        let life = (ttl_ms as f64 * policy.life_at(load)) as u64;
        self.created_ms.saturating_add(life)
    }

    /// Counts a hit.
    pub fn hit(&self, now_ms: u64) {
        self.n_hits.fetch_add(1, Ordering::Relaxed);
        let when = now_ms as f64 / HALF_LIFE_MS;
        let add = |heat: u64| Some(log2_sum(f64::from_bits(heat), when).to_bits());
        // It never fails: `add` always says something.
        let _ = self.heat.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        self.changed.store(true, Ordering::Relaxed);
    }

    pub fn n_hits(&self) -> u32 {
        self.n_hits.load(Ordering::Relaxed)
    }

    pub fn heat(&self) -> f64 {
        f64::from_bits(self.heat.load(Ordering::Relaxed))
    }

    /// What it was counted before the process began.
    pub fn restore(&self, n_hits: u32, heat: Option<f64>, estimate: Option<Estimate>) {
        self.n_hits.store(n_hits, Ordering::Relaxed);
        let heat = heat.unwrap_or(f64::NEG_INFINITY);
        self.heat.store(heat.to_bits(), Ordering::Relaxed);
        if estimate.is_some() {
            self.rare().get_or_insert_default().estimate = estimate;
        }
    }

    /// The logarithm of what it saves by recent hits for each byte, in a unit that is the same for all: what has least goes first.
    pub fn value(&self) -> f64 {
        let log2 = |n: u32| f64::from(n.max(1)).log2();
        log2(self.saved_ms) + self.heat() - log2(self.n_bytes)
    }

    /// Whether counters changed since they were last asked for this.
    pub fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    /// Counters are to be written again.
    pub fn set_changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    fn rare(&self) -> MutexGuard<'_, Option<Box<Rare>>> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it, until it is in the record.
    pub fn waiting(&self) -> Option<Arc<Written>> {
        self.rare().as_ref()?.waiting.clone()
    }

    pub fn set_waiting(&self, waiting: Option<Arc<Written>>) {
        let mut rare = self.rare();
        match waiting {
            Some(_) => rare.get_or_insert_default().waiting = waiting,
            None => match &mut *rare {
                Some(some) if some.estimate.is_some() => some.waiting = None,
                _ => *rare = None,
            },
        }
    }

    /// What is asked of the estimate, if anything was observed.
    pub fn estimate<T>(&self, ask: impl FnOnce(&Estimate) -> T) -> Option<T> {
        self.rare().as_ref()?.estimate.as_ref().map(ask)
    }

    /// Notes whether the answer would have been right at a similarity.
    pub fn observe(&self, similarity: f32, was_right: bool) {
        let mut rare = self.rare();
        let estimate = &mut rare.get_or_insert_default().estimate;
        estimate.get_or_insert_default().observe(similarity, was_right);
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Bytes in memory beside the row, about.
    pub fn n_own_bytes(&self) -> u64 {
        let labels = self.labels.as_ref().map_or(0, |labels| {
            let tags: usize = labels.tags.iter().map(|tag| tag.len() + size_of::<String>()).sum();
            let pairs = labels.attributes.iter();
            size_of::<Labels>()
                + tags
                + pairs.map(|(key, value)| key.len() + value.len() + 64).sum::<usize>()
        });
        // The two counts of the `Arc`.
        (size_of::<Self>() + 16 + labels) as u64
    }
}

/// `log2(2^a + 2^b)`.
fn log2_sum(a: f64, b: f64) -> f64 {
    let (most, least) = if a > b { (a, b) } else { (b, a) };
    if least == f64::NEG_INFINITY {
        most
    } else {
        most + (least - most).exp2().ln_1p() / std::f64::consts::LN_2
    }
}

/// An entry in a set of its partition, by the hash of its request.
#[derive(Clone, Debug)]
pub(super) struct ByExact(pub Arc<Hot>);

impl std::borrow::Borrow<u128> for ByExact {
    fn borrow(&self) -> &u128 {
        &self.0.exact
    }
}

impl Hash for ByExact {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.exact.hash(state);
    }
}

impl PartialEq for ByExact {
    fn eq(&self, other: &Self) -> bool {
        self.0.exact == other.0.exact
    }
}

impl Eq for ByExact {}

/// An entry in a set of all, by its number.
#[derive(Clone, Debug)]
pub(super) struct ById(pub Arc<Hot>);

impl std::borrow::Borrow<EntryId> for ById {
    fn borrow(&self) -> &EntryId {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_weighs_half_after_an_hour_and_order_does_not_change_with_time() {
        let hour = HALF_LIFE_MS;
        let two_old = log2_sum(0.0, 0.0);
        assert!((two_old - 1.0).abs() < 1e-12);
        // Two hits an hour ago weigh what one does now.
        assert!((two_old - hour / hour).abs() < 1e-12);
        assert_eq!(log2_sum(f64::NEG_INFINITY, 3.0), 3.0);
    }

    #[test]
    fn an_entry_in_memory_is_small() {
        assert!(size_of::<Hot>() <= 152, "{}", size_of::<Hot>());
    }
}
