//! What is served, for how long, to whom, and how much is kept: one policy for each category, read from a file.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cache::identity::Scope;
use crate::error::Result;

mod read;

/// Which tiers of a category answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// None: nothing is looked up and nothing is kept.
    Off,
    /// Equal requests.
    Exact,
    /// Similar requests.
    Semantic,
    /// Equal requests first, then similar ones.
    ExactThenSemantic,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::Off, Self::Exact, Self::Semantic, Self::ExactThenSemantic];

    /// The word, as written in a policy.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Exact => "exact",
            Self::Semantic => "semantic",
            Self::ExactThenSemantic => "exact+semantic",
        }
    }

    /// Whether nothing is answered.
    pub fn is_off(self) -> bool {
        self == Self::Off
    }

    /// Whether equal requests are answered.
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Exact | Self::ExactThenSemantic)
    }

    /// Whether similar requests are answered.
    pub fn is_semantic(self) -> bool {
        matches!(self, Self::Semantic | Self::ExactThenSemantic)
    }
}

/// How much of a category each tenant may keep. What others leave may be borrowed up to the cap; who has more than the floor gives
/// first when room is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Entries that are not taken for another category of the tenant.
    pub floor_entries: u64,
    /// Entries that are never exceeded.
    pub cap_entries: u64,
    /// Bytes that are not taken for another category of the tenant.
    pub floor_bytes: u64,
    /// Bytes that are never exceeded.
    pub cap_bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { floor_entries: 0, cap_entries: u64::MAX, floor_bytes: 0, cap_bytes: u64::MAX }
    }
}

/// How far load may move threshold and life. See [`crate::cache::SemanticCache::load`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapt {
    /// Taken from the threshold at full load.
    pub delta_max: f32,
    /// Times the life at full load.
    pub ttl_max: f32,
    /// The threshold never goes below; that of the calibration.
    pub floor: f32,
}

/// The policy of a category.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Which tiers answer.
    pub mode: Mode,
    /// Least cosine of a hit, in `[-1, 1]`.
    pub threshold: f32,
    /// Below the threshold by up to this much a verifier may be asked.
    pub margin: f32,
    /// Whether texts are compared, aligned, before a similar one is answered.
    pub guard: bool,
    /// Life of an entry from when it was written; a hit does not prolong it.
    pub ttl: Duration,
    /// How much is kept for each tenant.
    pub quota: Quota,
    /// How far answers go.
    pub scope: Scope,
    /// Whether anything is written.
    pub store: bool,
    /// The share of wrong answers that the bound of hot entries keeps to, if it is on.
    pub verified: Option<f64>,
    /// Whether only what is seen a second time is written.
    pub doorkeeper: bool,
    /// How far load may move the policy, if it may.
    pub adapt: Option<Adapt>,
    /// Where the server asks about near misses.
    pub judge: Option<String>,
    /// Words of a text below which only an equal request is answered.
    pub min_words: usize,
}

impl Default for Policy {
    /// Strict: what no calibration has loosened. With the guard and the embedder that is shipped, 0.5 % of all requests were answered
    /// wrong, and 1.1 % in the worst of eleven domains (`docs/calibration.md`).
    fn default() -> Self {
        Self {
            mode: Mode::ExactThenSemantic,
            threshold: 0.93,
            margin: 0.03,
            guard: true,
            ttl: Duration::from_secs(3600),
            quota: Quota::default(),
            scope: Scope::Tenant,
            store: true,
            verified: None,
            doorkeeper: false,
            adapt: None,
            judge: None,
            min_words: 0,
        }
    }
}

impl Policy {
    /// The threshold under a load of 0 to 1.
    pub fn threshold_at(&self, load: f32) -> f32 {
        match self.adapt {
            Some(adapt) => (self.threshold - adapt.delta_max * load).max(adapt.floor),
            None => self.threshold,
        }
    }

    /// What a life is multiplied by under a load of 0 to 1.
    pub fn life_at(&self, load: f32) -> f64 {
        match self.adapt {
            Some(adapt) => 1.0 + f64::from(adapt.ttl_max - 1.0) * f64::from(load),
            None => 1.0,
        }
    }
}

/// Room of the whole cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Entries in all.
    pub entries: u64,
    /// Bytes in all: texts, answers and rows.
    pub bytes: u64,
    /// Entries of a tenant.
    pub tenant_entries: u64,
    /// Bytes of a tenant.
    pub tenant_bytes: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            bytes: 16 << 30,
            tenant_entries: u64::MAX,
            tenant_bytes: u64::MAX,
        }
    }
}

/// How a collection of vectors that another program uses as its cache is kept; kept here for the server.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectionPolicy {
    /// Life of a point.
    pub ttl: Option<Duration>,
    /// Cosine from which two points of a partition are one.
    pub dedup: Option<f32>,
    /// The payload's field that names the partition.
    pub partition: Option<String>,
}

/// Where it is told how loaded the models are; kept here for the server.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSource {
    /// Metrics of vLLM.
    pub url: String,
    /// How often they are read.
    pub period: Duration,
    /// Requests at once, running and waiting, that are a load of 1.
    pub requests: u32,
}

/// All policies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// Room of the whole cache.
    pub room: Room,
    /// That of categories without one.
    pub default: Policy,
    /// By category.
    pub categories: BTreeMap<String, Policy>,
    /// By collection.
    pub collections: BTreeMap<String, CollectionPolicy>,
    /// Where the load of the models is read, if it is.
    pub load: Option<LoadSource>,
}

impl Policies {
    /// Policies as written in TOML; `file` is named in errors. `docs/cache.md` lists the keys.
    ///
    /// # Errors
    /// `policy`, of kind `BadInput`, names file, key, what was expected and what was received.
    pub fn from_toml(text: &str, file: &str) -> Result<Self> {
        read::policies(text, file)
    }

    /// The policy of a category.
    pub fn of(&self, category: &str) -> &Policy {
        self.categories.get(category).unwrap_or(&self.default)
    }

    /// Bytes of the largest entry for which room could be made.
    pub(super) fn largest(&self, policy: &Policy) -> u64 {
        policy.quota.cap_bytes.min(self.room.tenant_bytes).min(self.room.bytes)
    }

    /// The name under which a category is counted: its own if it has a policy, `default` otherwise.
    pub fn counted_as<'a>(&self, category: &'a str) -> &'a str {
        if self.categories.contains_key(category) { category } else { "default" }
    }
}
