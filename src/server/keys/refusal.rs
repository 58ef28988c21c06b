//! What is answered to a request that goes no further.

use crate::server::keys::rule::Scope;

/// Why a request goes no further. Its text has no secret, no path, and nothing of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of HTTP.
    pub status: u16,
    /// A stable word that programs can match.
    pub code: &'static str,
    /// What is wrong and what is expected.
    pub message: String,
    /// Seconds after which to try again.
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_s: None }
    }

    /// No key came with a request that needs one.
    pub fn key_missing() -> Self {
        Self::new(401, "key_missing", "send the header api-key, or Authorization: Bearer")
    }

    /// A key came that is malformed, unknown, ended or revoked: which of them is not said.
    pub fn key_invalid() -> Self {
        Self::new(401, "key_invalid", "this key is not valid")
    }

    /// A key came where proxies and browsers write it down.
    pub fn key_in_url() -> Self {
        let message = "a key in a URL is no secret any more: revoke it, and send the header api-key, or Authorization: Bearer";
        Self::new(401, "key_in_url", message)
    }

    /// Two keys came.
    pub fn key_twice() -> Self {
        Self::new(401, "key_twice", "two different keys, expected one")
    }

    /// The file of keys cannot be read: nobody is known.
    pub fn keys_unreadable() -> Self {
        let message = "keys cannot be read; whoever runs this server sees why in its log";
        Self { retry_after_s: Some(1), ..Self::new(503, "keys_unreadable", message) }
    }

    /// The key is not for this.
    pub fn scope(needed: Scope) -> Self {
        Self::new(403, "scope", format!("needs a key with the scope {needed}"))
    }

    /// There is no such collection, at least for whoever asks. The one text for both.
    pub fn collection_not_found(name: &str) -> Self {
        Self::new(404, "collection_not_found", format!("there is no collection {name:?}"))
    }

    /// The header names a tenant that is not the key's.
    pub fn tenant_conflict() -> Self {
        let message = "x-tenant-id names a tenant that is not the key's; the tenant comes from the key, leave the header out";
        Self::new(400, "tenant_conflict", message)
    }

    /// A page of another site asks, in somebody's browser.
    pub fn foreign_origin() -> Self {
        Self::new(403, "foreign_origin", "requests of pages of other sites are not answered")
    }

    /// The request is for another machine by its Host.
    pub fn foreign_host() -> Self {
        let message =
            "the Host of the request is none of this server's; see allowed hosts in the settings";
        Self::new(403, "foreign_host", message)
    }

    /// Too many keys that are none came from one address.
    pub fn too_many_failures() -> Self {
        let message = "too many keys from this address were not valid";
        Self { retry_after_s: Some(1), ..Self::new(429, "key_failures", message) }
    }

    /// The key was used more often than it may be.
    pub fn rate(limit: u32, retry_after_s: u64) -> Self {
        let message = format!("quota: {limit} requests per second");
        Self { retry_after_s: Some(retry_after_s), ..Self::new(429, "quota_rate", message) }
    }

    /// The tenant has as many points as it may.
    pub fn points(n_points: u64, limit: u64) -> Self {
        Self::new(507, "quota_points", format!("quota: points {n_points}/{limit}"))
    }

    /// The user's queue is full.
    pub fn overloaded(n_waiting: usize, limit: usize, retry_after_s: u64) -> Self {
        let message = format!("{n_waiting} of {limit} requests wait already");
        Self { retry_after_s: Some(retry_after_s), ..Self::new(429, "overloaded", message) }
    }
}
