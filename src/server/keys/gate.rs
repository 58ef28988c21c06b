//! The one way in: from the head of a request to its caller, before a byte of its body is read.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::HeaderMap;
use hyper::http::uri::Uri;

use crate::server::keys::counts::{Failures, Rates};
use crate::server::keys::credentials::{key_text, tenant_text};
use crate::server::keys::file::KeyRecord;
use crate::server::keys::refusal::Refusal;
use crate::server::keys::ring::{Holder, Ring};
use crate::server::keys::rule::{Caller, Need, allow};
use crate::server::keys::sites::Sites;
use crate::server::moment::Moment;

/// The head of a request, and what its route says.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Headers.
    pub headers: &'a HeaderMap,
    /// What is asked for, as it came.
    pub uri: &'a Uri,
    /// Who is at the other end of the socket.
    pub address: IpAddr,
    /// What the route needs.
    pub need: Need,
    /// The collection that the route was matched with.
    pub collection: Option<&'a str>,
}

/// A request that goes no further.
#[derive(Clone, Debug)]
pub struct Denied {
    /// Why.
    pub refusal: Refusal,
    /// The key that came, if it is a live one.
    pub key: Option<Arc<KeyRecord>>,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, key: None }
    }
}

/// Who is let in.
#[derive(Debug)]
pub struct Gate {
    ring: Ring,
    sites: Sites,
    failures: Mutex<Failures>,
    rates: Mutex<Rates>,
}

impl Gate {
    /// A gate with these keys.
    pub fn new(ring: Ring, sites: Sites) -> Self {
        Self { ring, sites, failures: Mutex::default(), rates: Mutex::default() }
    }

    /// The keys.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The caller of a request, or why it goes no further.
    ///
    /// # Errors
    /// Those of [`Sites::check`], [`key_text`], [`Failures::check`], [`Ring::holder`], [`Rates::take`] and [`allow`];
    /// `tenant_conflict`.
    pub fn admit(&self, head: &Head<'_>, now: Moment) -> Result<Caller, Denied> {
        self.sites.check(head.headers, head.uri)?;
        let text = key_text(head.headers, head.uri)?;
        if head.need == Need::Nothing {
            return Ok(Caller::nobody());
        }
        match self.holder(text, head.address, now)? {
            Holder::NoKeys => Ok(check_tenant(Caller::local(), head)?),
            Holder::Known(key) => self
                .admit_key(&key, head, now)
                .map_err(|refusal| Denied { refusal, key: Some(key) }),
        }
    }

    fn admit_key(&self, key: &KeyRecord, head: &Head<'_>, now: Moment) -> Result<Caller, Refusal> {
        self.count(key, now)?;
        check_tenant(allow(head.need, key, head.collection)?, head)
    }

    fn holder(&self, text: Option<&str>, from: IpAddr, now: Moment) -> Result<Holder, Refusal> {
        let failures = || self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures().check(from, now.steady)?;
        let holder = self.ring.holder(text, now);
        // Coming without a key is not an attempt to guess one.
        if holder.as_ref().is_err_and(|refusal| *refusal == Refusal::key_invalid()) {
            failures().add(from, now.steady);
        }
        holder
    }

    fn count(&self, key: &KeyRecord, now: Moment) -> Result<(), Refusal> {
        let Some(limit) = key.quotas.requests_per_second else { return Ok(()) };
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.take(key.id, limit, now.steady)
    }
}

/// Refuses a header that names a tenant other than the caller's: whoever names one expects to see no more than its points.
fn check_tenant(caller: Caller, head: &Head<'_>) -> Result<Caller, Refusal> {
    match tenant_text(head.headers)? {
        Some(name) if caller.tenant() != Some(name) => Err(Refusal::tenant_conflict()),
        _ => Ok(caller),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::server::keys::file::{self, Quotas, tests::reader};
    use crate::server::keys::rule::Scope;
    use crate::server::keys::text::Key;

    struct Server {
        gate: Gate,
        _dir: tempfile::TempDir,
    }

    impl Server {
        fn new(keys: &[&KeyRecord]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let all: Vec<KeyRecord> = keys.iter().map(|&key| key.clone()).collect();
            if !all.is_empty() {
                let extended = |keys: &mut Vec<_>| {
                    keys.extend(all);
                    Ok(())
                };
                file::change(dir.path(), extended).unwrap();
            }
            let sites = Sites::new("127.0.0.1".parse().unwrap(), vec![]);
            Self { gate: Gate::new(Ring::open(dir.path()).unwrap(), sites), _dir: dir }
        }

        fn ask(&self, need: Need, headers: &[(&str, &str)], ms: u64) -> Result<Caller, Refusal> {
            let mut map = HeaderMap::new();
            for (name, value) in [("host", "localhost")].iter().chain(headers) {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let (headers, uri) = (&map, &"/collections/notes/points".parse().unwrap());
            let address = "127.0.0.1".parse().unwrap();
            let head = Head { headers, uri, address, need, collection: Some("notes") };
            let steady = Duration::from_millis(ms);
            let now = Moment { unix_ms: 1_750_000_000_000 + ms, steady };
            self.gate.admit(&head, now).map_err(|denied| denied.refusal)
        }
    }

    const READ: Need = Need::Scope(Scope::Read);

    fn code(result: Result<Caller, Refusal>) -> &'static str {
        result.map_or_else(|refusal| refusal.code, |_| "fine")
    }

    #[test]
    fn without_keys_this_machine_may_do_everything_and_pages_nothing() {
        let server = Server::new(&[]);
        let caller = server.ask(Need::Scope(Scope::Admin), &[("api-key", "any")], 0).unwrap();
        assert!(caller.tenant().is_none() && caller.key().is_none() && caller.may_see("any"));
        assert_eq!(code(server.ask(READ, &[("origin", "http://evil.test")], 0)), "foreign_origin");
        assert_eq!(code(server.ask(READ, &[("x-tenant-id", "ann")], 0)), "tenant_conflict");
    }

    #[test]
    fn the_tenant_comes_from_the_key_and_a_header_decides_nothing() {
        let (key, mut record) = reader("of ann");
        record.tenant = Some("änn".into());
        let (all_key, all) = reader("of all");
        let server = Server::new(&[&record, &all]);
        let with = |key: &Key, tenant: &str| {
            server.ask(READ, &[("api-key", &key.text()), ("x-tenant-id", tenant)], 0)
        };
        let caller = server.ask(READ, &[("api-key", &key.text())], 0).unwrap();
        assert_eq!(caller.tenant(), Some("änn"));
        assert_eq!(with(&key, "änn").unwrap().tenant(), Some("änn"));
        assert_eq!(code(with(&key, "ben")), "tenant_conflict");
        assert_eq!(
            code(with(&all_key, "änn")),
            "tenant_conflict",
            "it would see more than it asked"
        );
    }

    #[test]
    fn who_guesses_is_stopped_even_when_right_and_who_has_no_key_is_not() {
        let (key, record) = reader("one");
        let server = Server::new(&[&record]);
        let right = key.text();
        (0..20).for_each(|n| assert_eq!(code(server.ask(READ, &[], n)), "key_missing"));
        for n in 0..10 {
            assert_eq!(code(server.ask(READ, &[("api-key", "guess")], n)), "key_invalid");
        }
        let stopped = server.ask(READ, &[("api-key", &right)], 500).unwrap_err();
        assert_eq!((stopped.status, stopped.retry_after_s), (429, Some(1)));
        assert_eq!(code(server.ask(Need::Nothing, &[], 500)), "fine", "one word is for everybody");
        assert_eq!(code(server.ask(READ, &[("api-key", &right)], 1500)), "fine");
    }

    #[test]
    fn a_key_is_used_as_often_as_its_quota_says_refused_requests_included() {
        let (key, mut record) = reader("slow");
        record.quotas = Quotas { requests_per_second: Some(3), ..Quotas::default() };
        let server = Server::new(&[&record]);
        let header = format!("Bearer {}", key.text());
        let ask = |need, ms| code(server.ask(need, &[("authorization", &header)], ms));
        assert_eq!(ask(Need::Scope(Scope::Write), 0), "scope");
        assert_eq!([0, 0, 0].map(|ms| ask(READ, ms)), ["fine", "fine", "quota_rate"]);
        assert_eq!(
            [1000, 1000, 1000, 1000].map(|ms| ask(READ, ms)),
            ["fine", "fine", "fine", "quota_rate"]
        );
    }
}
