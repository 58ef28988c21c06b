//! Who may do what. One function decides, from what a route needs, the key that came and the collection that is named.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::server::keys::file::{KeyRecord, Quotas};
use crate::server::keys::refusal::Refusal;
use crate::server::keys::text::KeyId;

/// What a key may be used for. None includes another: a key that makes collections need not read what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Searching, reading and counting points.
    Read,
    /// Storing, changing and removing points.
    Write,
    /// Making, changing and removing collections and indexes, for all tenants.
    Admin,
    /// Reading what is measured.
    Metrics,
}

impl Scope {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Admin, Self::Metrics];

    /// The name, as typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = Error;

    /// # Errors
    /// `key_scopes`.
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == text).ok_or_else(|| {
            Error::usage("key_scopes", format!("{text:?}, expected read, write, admin or metrics"))
        })
    }
}

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing, and no key: it says one word.
    Nothing,
    /// Any key that is live.
    Key,
    /// A key for this.
    Scope(Scope),
    /// A key for the one or the other: for what says nothing about points.
    Either(Scope, Scope),
}

/// Who asks, as decided by the key and by nothing else. A handler passes it on to whatever it asks of the engine.
#[derive(Clone, Debug)]
pub struct Caller {
    key: Option<KeyId>,
    tenant: Option<Arc<str>>,
    collections: Option<Arc<[String]>>,
    quotas: Quotas,
}

impl Caller {
    /// Whoever reaches the port of a server without keys, which only this machine does.
    pub fn local() -> Self {
        Self { key: None, tenant: None, collections: None, quotas: Quotas::default() }
    }

    /// Whoever asks for what needs no key: there is nothing for it.
    pub fn nobody() -> Self {
        Self { collections: Some(Arc::new([])), ..Self::local() }
    }

    /// The id of the key.
    pub fn key(&self) -> Option<KeyId> {
        self.key
    }

    /// Whose points there are for it; all without.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Whether there is a collection of this name for it, if there is one at all.
    pub fn may_see(&self, collection: &str) -> bool {
        self.collections.as_ref().is_none_or(|names| names.iter().any(|name| name == collection))
    }

    /// How much the key may be used.
    pub fn quotas(&self) -> Quotas {
        self.quotas
    }

    /// Its share of the workers.
    pub fn weight(&self) -> f64 {
        f64::from(self.quotas.weight.unwrap_or(1))
    }

    /// Who waits in one queue: the tenant, or the key without one.
    pub fn user(&self) -> User {
        match (&self.tenant, self.key) {
            (Some(tenant), _) => User::Tenant(Arc::clone(tenant)),
            (None, Some(key)) => User::Key(key),
            (None, None) => User::Local,
        }
    }
}

/// Who is served fairly: not requests, nor connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum User {
    /// All keys of a tenant together.
    Tenant(Arc<str>),
    /// A key of no tenant.
    Key(KeyId),
    /// Whoever asks a server without keys.
    Local,
}

/// The caller, or why there is none. The order is part of the answer: who lacks a scope learns so for any collection, and
/// who has it is told the same of another's collection as of one that does not exist.
///
/// # Errors
/// `scope` (403), `collection_not_found` (404).
pub fn allow(need: Need, key: &KeyRecord, collection: Option<&str>) -> Result<Caller, Refusal> {
    let has = |scope| key.scopes.contains(&scope);
    match need {
        Need::Scope(scope) if !has(scope) => return Err(Refusal::scope(scope)),
        Need::Either(one, other) if !has(one) && !has(other) => return Err(Refusal::scope(one)),
        _ => (),
    }
    let caller = Caller {
        key: Some(key.id),
        tenant: key.tenant.as_deref().map(Arc::from),
        collections: key.collections.as_deref().map(Arc::from),
        quotas: key.quotas,
    };
    match collection.filter(|name| !caller.may_see(name)) {
        Some(name) => Err(Refusal::collection_not_found(name)),
        None => Ok(caller),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::keys::file::tests::reader;

    #[test]
    fn every_need_and_set_of_scopes_is_decided_as_written_here() {
        for set in 0..16u32 {
            let scopes: Vec<Scope> =
                Scope::ALL.into_iter().filter(|&scope| set >> scope as u32 & 1 == 1).collect();
            let key = KeyRecord { scopes: scopes.clone(), ..reader("one").1 };
            let status = |need| allow(need, &key, Some("any")).map_or_else(|no| no.status, |_| 200);
            for scope in Scope::ALL {
                let expected = if scopes.contains(&scope) { 200 } else { 403 };
                assert_eq!(status(Need::Scope(scope)), expected, "{scopes:?} {scope}");
                let either = scopes.contains(&scope) || scopes.contains(&Scope::Admin);
                let expected = if either { 200 } else { 403 };
                assert_eq!(status(Need::Either(scope, Scope::Admin)), expected);
            }
            assert_eq!((status(Need::Key), status(Need::Nothing)), (200, 200));
        }
    }

    #[test]
    fn a_collection_of_others_is_as_absent_and_a_missing_scope_comes_first() {
        let mut key = reader("one").1;
        key.collections = Some(vec!["mine".into(), "ours".into()]);
        key.tenant = Some("ann".into());
        let read = Need::Scope(Scope::Read);
        let caller = allow(read, &key, Some("ours")).unwrap();
        assert_eq!((caller.tenant(), caller.key()), (Some("ann"), Some(key.id)));
        assert!(caller.may_see("mine") && !caller.may_see("theirs") && !caller.may_see("min"));
        let foreign = allow(read, &key, Some("theirs")).unwrap_err();
        assert_eq!(foreign, Refusal::collection_not_found("theirs"));
        let writes = allow(Need::Scope(Scope::Write), &key, Some("theirs")).unwrap_err();
        assert_eq!((writes.status, writes.code), (403, "scope"));
        assert!(allow(read, &key, None).is_ok());
        key.collections = Some(vec![]);
        assert_eq!(allow(read, &key, Some("mine")).unwrap_err().status, 404, "none is not all");
    }
}
