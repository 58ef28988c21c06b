//! What is written down of every request: a line in the log, counts, and for refusals and changes a line in the audit file.

use std::sync::Arc;

use crate::error::Result;
use crate::plan::cost::Way;
use crate::server::audit::{Act, Audit};
use crate::server::keys::gate::Denied;
use crate::server::keys::rule::Caller;
use crate::server::keys::text::KeyId;
use crate::server::log::{Log, RequestIds, Seen};
use crate::server::metrics::{Metrics, Observed, TenantClass};
use crate::server::moment::{Clock, Moment};
use crate::server::router::{Route, Scope};
use crate::server::stages::Taken;

/// Status of a request whose client went away before it was answered. It is sent to nobody.
const CLIENT_GONE: u16 = 499;

/// Where requests are written down.
#[derive(Debug)]
pub struct Ledger {
    clock: Arc<dyn Clock>,
    ids: RequestIds,
    log: Log,
    audit: Audit,
    metrics: Metrics,
}

/// A request, as far as it is known; written down when it is dropped.
#[derive(Debug)]
pub struct Page<'l> {
    ledger: &'l Ledger,
    began: Moment,
    id: String,
    method: String,
    /// Its route.
    pub route: Option<&'static Route>,
    /// The collection that it names.
    pub collection: Option<String>,
    key: Option<KeyId>,
    tenant: Option<String>,
    is_denied: bool,
    /// How large its tenant is.
    pub class: Option<TenantClass>,
    /// The way that was taken to search.
    pub plan: Option<Way>,
    /// Where its time went, if a worker worked on it.
    pub taken: Option<Taken>,
    status: u16,
    code: Option<String>,
}

impl Ledger {
    /// An empty one.
    ///
    /// # Errors
    /// `randomness`.
    pub fn new(clock: Arc<dyn Clock>, log: Log, audit: Audit) -> Result<Self> {
        let (ids, metrics) = (RequestIds::new()?, Metrics::default());
        Ok(Self { clock, ids, log, audit, metrics })
    }

    /// A new page.
    pub fn page(&self, method: &str) -> Page<'_> {
        Page {
            ledger: self,
            began: self.clock.now(),
            id: self.ids.next(),
            method: method.to_owned(),
            route: None,
            collection: None,
            key: None,
            tenant: None,
            is_denied: false,
            class: None,
            plan: None,
            taken: None,
            status: CLIENT_GONE,
            code: None,
        }
    }

    /// The time.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Says something that whoever runs the server should know.
    pub fn note(&self, note: &str) {
        self.log.note(self.clock.now(), note);
    }
}

impl Page<'_> {
    /// The name of the request.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Who asks.
    pub fn admitted(&mut self, caller: &Caller) {
        self.key = caller.key();
        self.tenant = caller.tenant().map(str::to_owned);
    }

    /// Who asks in vain.
    pub fn denied(&mut self, denied: &Denied) {
        self.is_denied = true;
        let key = denied.key.as_deref();
        self.key = key.map(|key| key.id);
        self.tenant = key.and_then(|key| key.tenant.clone());
    }

    /// How it is answered.
    pub fn answered(&mut self, status: u16, code: Option<&str>) {
        self.status = status;
        self.code = code.map(str::to_owned);
    }

    fn path(&self) -> &'static str {
        self.route.map_or("-", |route| route.path)
    }

    fn audit(&self, now: Moment) {
        let is_change = self.route.is_some_and(|route| {
            matches!(route.scope, Scope::Write | Scope::Admin) && route.method != "GET"
        });
        if !is_change && !self.is_denied {
            return;
        }
        let method = self.route.map_or("-", |route| route.method);
        let recorded = self.ledger.audit.record(&Act {
            now,
            request: &self.id,
            key: self.key,
            tenant: self.tenant.as_deref(),
            action: &format!("{method} {}", self.path()),
            collection: self.collection.as_deref(),
            status: self.status,
            code: self.code.as_deref(),
        });
        if let Err(error) = recorded {
            self.ledger.metrics.count_audit_failure();
            self.ledger.note(&format!("request {} is not in the audit file: {error}", self.id));
        }
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        let now = self.ledger.clock.now();
        let seconds = now.steady.saturating_sub(self.began.steady).as_secs_f64();
        self.audit(now);
        self.ledger.log.request(&Seen {
            now,
            id: &self.id,
            method: &self.method,
            route: self.path(),
            status: self.status,
            seconds,
            key: self.key,
            code: self.code.as_deref(),
        });
        self.ledger.metrics.observe(&Observed {
            method: self.route.map_or("-", |route| route.method),
            route: self.path(),
            status: self.status,
            seconds,
            class: self.class.unwrap_or(TenantClass::All),
            plan: self.plan,
            taken: self.taken,
        });
    }
}
