//! Taking answers back, and knowing which new ones were asked for before.

use std::collections::{BTreeMap, VecDeque};

use crate::cache::entry::{Hot, Labels, half};
use crate::cache::identity::EntryId;

/// In which tenants entries are invalidated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// In one.
    Tenant(String),
    /// In all: for whoever runs the cache.
    AllTenants,
}

/// Which entries are invalidated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one of a number.
    Id(EntryId),
    /// Those of an equal request.
    Exact([u8; 32]),
    /// Those with a tag.
    Tag(String),
    /// Those of a category.
    Category(String),
    /// Those of a writer.
    Writer(String),
    /// Those of a user.
    User(String),
    /// Those with all of these attributes.
    Attributes(BTreeMap<String, String>),
    /// Those of a model, or of what else must be equal, or of both: after a change of either.
    Epoch {
        /// The model, or any.
        model: Option<String>,
        /// The hash of all else that must be equal, or any.
        compat: Option<[u8; 32]>,
    },
    /// All.
    All,
}

/// An invalidation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidate {
    /// In which tenants.
    pub reach: Reach,
    /// Which entries.
    pub which: Which,
}

impl Invalidate {
    /// Whether an entry is among those that it is about.
    pub(super) fn is_about(&self, hot: &Hot) -> bool {
        let is_reached = match &self.reach {
            Reach::Tenant(tenant) => *tenant == hot.owner.tenant,
            Reach::AllTenants => true,
        };
        let none = Labels::default();
        let labels = hot.labels.as_deref().unwrap_or(&none);
        is_reached
            && match &self.which {
                Which::Id(id) => *id == hot.id(),
                Which::Exact(exact) => half(exact) == hot.exact,
                Which::Tag(tag) => labels.tags.contains(tag),
                Which::Category(category) => category == hot.key.category(),
                Which::Writer(writer) => hot.owner.writer.as_ref() == Some(writer),
                Which::User(user) => hot.owner.user.as_ref() == Some(user),
                Which::Attributes(asked) => {
                    asked.iter().all(|(key, value)| labels.attributes.get(key) == Some(value))
                }
                Which::Epoch { model, compat } => {
                    model.as_ref().is_none_or(|model| model == hot.key.model())
                        && compat.as_ref().is_none_or(|compat| compat == hot.key.compat())
                }
                Which::All => true,
            }
    }
}

/// Invalidations that are remembered. Who asks a model meanwhile brings an answer that one of them was about.
const REMEMBERED: usize = 1000;

/// The last invalidations.
#[derive(Debug, Default)]
pub(super) struct Invalidated {
    n: u64,
    last: VecDeque<Invalidate>,
}

impl Invalidated {
    /// Remembers one, and returns how many there were.
    pub fn push(&mut self, invalidate: Invalidate) -> u64 {
        self.n += 1;
        self.last.push_back(invalidate);
        if self.last.len() > REMEMBERED {
            self.last.pop_front();
        }
        self.n
    }

    /// Whether one that came after `ticket` was about an entry, or may have been as it is no longer remembered.
    pub fn covers(&self, ticket: u64, hot: &Hot) -> bool {
        let since = usize::try_from(self.n.saturating_sub(ticket)).unwrap_or(usize::MAX);
        since > self.last.len() || self.last.iter().rev().take(since).any(|one| one.is_about(hot))
    }
}
