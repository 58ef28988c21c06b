//! What is asked, and what is said: types of lookups and verdicts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cache::identity::{EntryId, Identity};

/// A request that may have been answered.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// Who asks what of which model.
    pub identity: &'a Identity,
    /// A hash of the whole request.
    pub exact: [u8; 32],
    /// The text that is asked, of which the vector is.
    pub text: &'a str,
    /// Its vector, of any norm but 0; without one only an equal request is found.
    pub vector: Option<&'a [f32]>,
    /// Answers older than this are not wanted.
    pub max_age: Option<Duration>,
    /// Another least cosine. It makes the policy's stricter; laxer only if `trusted`.
    pub threshold: Option<f32>,
    /// Whether the caller may go below the policy's threshold.
    pub trusted: bool,
    /// What making the vector took, for [`crate::cache::CategoryStats::break_even`].
    pub embed_took: Duration,
}

impl<'a> Lookup<'a> {
    /// A request with nothing said of age and threshold.
    pub fn new(
        identity: &'a Identity,
        exact: [u8; 32],
        text: &'a str,
        vector: Option<&'a [f32]>,
    ) -> Self {
        Self {
            identity,
            exact,
            text,
            vector,
            max_age: None,
            threshold: None,
            trusted: false,
            embed_took: Duration::ZERO,
        }
    }
}

/// What is said of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It was answered.
    Hit(Hit),
    /// Ask the model.
    Miss(Miss),
}

impl Verdict {
    /// Why.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Hit(hit) => hit.reason,
            Self::Miss(miss) => miss.reason,
        }
    }

    /// The hit, if it is one.
    pub fn hit(&self) -> Option<&Hit> {
        match self {
            Self::Hit(hit) => Some(hit),
            Self::Miss(_) => None,
        }
    }
}

/// By what a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// It equals one that was answered.
    Exact,
    /// It is similar enough by the threshold.
    Semantic,
    /// It is similar enough by what was observed of this entry.
    Verified,
}

/// An answer from the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The entry.
    pub entry: EntryId,
    /// By what it was found.
    pub tier: Tier,
    /// Cosine of the two vectors in `[-1, 1]`; 1 for an equal request.
    pub similarity: f32,
    /// The least that would have done.
    pub threshold: f32,
    /// How old the answer is.
    pub age: Duration,
    /// The answer.
    pub answer: Answer,
    /// Why it is a hit.
    pub reason: Reason,
}

/// What was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The text that was asked then.
    pub text: String,
    /// The answer, as it came in.
    pub bytes: Vec<u8>,
    /// Who wrote it.
    pub writer: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Milliseconds that the hit saves.
    pub saved_ms: u32,
    /// Tokens that the hit saves.
    pub saved_tokens: u32,
}

/// Nothing that may be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Miss {
    /// Why.
    pub reason: Reason,
    /// The nearest entry that was young enough, with its cosine; in a partition of more than a few entries, where it is farther than
    /// threshold and margin, perhaps one of the next, and none if the first few of these were too old.
    pub nearest: Option<(EntryId, f32)>,
    /// The least cosine that would have done.
    pub threshold: f32,
    /// Ask the model, and then tell [`crate::cache::SemanticCache::observe`] whether this entry's answer would have been right: the
    /// bound of its category learns from that.
    pub explore: Option<EntryId>,
    /// This entry is near: a verifier may be asked whether its answer will do.
    pub grey: Option<EntryId>,
    /// For [`crate::cache::NewEntry::ticket`].
    pub ticket: u64,
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A hit: the request equals one that was answered.
    Exact,
    /// A hit: the cosine reaches the threshold.
    Semantic,
    /// A hit: what was observed of the entry bounds its error.
    Verified,
    /// The nearest is not near enough.
    BelowThreshold,
    /// What would have done has reached the end of its life.
    Expired,
    /// What would have done is older than was asked for.
    TooOld,
    /// Nothing was answered for this identity.
    EmptyPartition,
    /// The category is off.
    CategoryOff,
    /// Near enough, but the texts differ in something that matters.
    GuardRefused,
    /// Near enough, but what was observed of the entry asks for another comparison with the model.
    Exploring,
    /// No equal request, and there is no vector to compare.
    NoVector,
    /// No equal request, and the category answers no others.
    NotEqual,
    /// No equal request, and the text has too few words to compare.
    TooShort,
    /// The category is of users, and none is named.
    NoUser,
    /// What was found belongs to another identity; it should not have been found.
    IdentityMismatch,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Exact,
        Self::Semantic,
        Self::Verified,
        Self::BelowThreshold,
        Self::Expired,
        Self::TooOld,
        Self::EmptyPartition,
        Self::CategoryOff,
        Self::GuardRefused,
        Self::Exploring,
        Self::NoVector,
        Self::NotEqual,
        Self::TooShort,
        Self::NoUser,
        Self::IdentityMismatch,
    ];

    /// The word, for headers and metrics; it does not change.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Semantic => "semantic",
            Self::Verified => "verified",
            Self::BelowThreshold => "below_threshold",
            Self::Expired => "expired",
            Self::TooOld => "too_old",
            Self::EmptyPartition => "empty_partition",
            Self::CategoryOff => "category_off",
            Self::GuardRefused => "grey_guard_refused",
            Self::Exploring => "exploring",
            Self::NoVector => "no_vector",
            Self::NotEqual => "not_equal",
            Self::TooShort => "too_short",
            Self::NoUser => "no_user",
            Self::IdentityMismatch => "identity_mismatch",
        }
    }
}
