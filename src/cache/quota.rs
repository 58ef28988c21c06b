//! Who keeps how much, and what goes when room is needed.
//!
//! Each tenant has its own room in each category, and what it leaves may be borrowed. Room is made where most was borrowed: in the
//! category that is over its cap, else in the tenant's category that is most over its floor, else in the tenant that has most. So a
//! flood of one tenant moves nothing of a smaller one.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use crate::cache::entry::{Hot, Refusal};
use crate::cache::policy::{Policies, Quota};

/// An entry and its value when that was last looked at: the true one is no less, as hits only add to it.
#[derive(Debug)]
struct Ranked {
    value: f64,
    hot: Arc<Hot>,
}

impl Ranked {
    fn new(hot: Arc<Hot>) -> Self {
        Self { value: hot.value(), hot }
    }

    fn order(&self, other: &Self) -> Ordering {
        let end = |hot: &Hot| hot.created_ms.saturating_add(hot.ttl_ms);
        let by_end = end(&self.hot).cmp(&end(&other.hot));
        self.value.total_cmp(&other.value).then(by_end).then(self.hot.id().cmp(&other.hot.id()))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.order(other).is_eq()
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    /// The greatest is what goes first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.order(self)
    }
}

/// Entries and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub n_entries: u64,
    pub n_bytes: u64,
}

impl Amount {
    fn with(self, n_bytes: u64) -> Self {
        Self { n_entries: self.n_entries + 1, n_bytes: self.n_bytes + n_bytes }
    }

    fn less(&mut self, hot: &Hot) {
        self.n_entries -= 1;
        self.n_bytes -= u64::from(hot.n_bytes);
    }
}

/// What of a category a tenant has.
#[derive(Debug, Default)]
struct Group {
    amount: Amount,
    ranked: BinaryHeap<Ranked>,
}

impl Group {
    fn add(&mut self, hot: Arc<Hot>) {
        self.amount = self.amount.with(hot.n_bytes.into());
        self.ranked.push(Ranked::new(hot));
    }

    fn less(&mut self, hot: &Hot) {
        self.amount.less(hot);
        // What is gone is dropped when it comes up, or before it fills the heap.
        if self.ranked.len() as u64 > 2 * self.amount.n_entries + 64 {
            self.ranked.retain(|ranked| !ranked.hot.is_gone());
        }
    }

    /// The entry that goes first, taken out.
    fn pop(&mut self) -> Option<Arc<Hot>> {
        while let Some(ranked) = self.ranked.pop() {
            if ranked.hot.is_gone() {
                continue;
            }
            if ranked.hot.value() > ranked.value {
                self.ranked.push(Ranked::new(ranked.hot));
                continue;
            }
            return Some(ranked.hot);
        }
        None
    }
}

/// Which of the two runs out.
#[derive(Clone, Copy)]
enum Scarce {
    Entries,
    Bytes,
}

impl Scarce {
    fn of(self, amount: Amount) -> u64 {
        match self {
            Self::Entries => amount.n_entries,
            Self::Bytes => amount.n_bytes,
        }
    }

    fn floor(self, quota: &Quota) -> u64 {
        match self {
            Self::Entries => quota.floor_entries,
            Self::Bytes => quota.floor_bytes,
        }
    }
}

fn scarce(amount: Amount, entries: u64, bytes: u64) -> Option<Scarce> {
    if amount.n_entries > entries {
        return Some(Scarce::Entries);
    }
    (amount.n_bytes > bytes).then_some(Scarce::Bytes)
}

/// What of all a tenant has.
#[derive(Debug, Default)]
struct Tenant {
    amount: Amount,
    groups: BTreeMap<String, Group>,
}

/// Who has how much.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    amount: Amount,
    tenants: BTreeMap<String, Tenant>,
}

impl Rooms {
    /// Counts an entry.
    pub fn add(&mut self, hot: Arc<Hot>, policies: &Policies) {
        let n_bytes = hot.n_bytes.into();
        self.amount = self.amount.with(n_bytes);
        let tenant = self.tenants.entry(hot.owner.tenant.clone()).or_default();
        tenant.amount = tenant.amount.with(n_bytes);
        let group = policies.counted_as(hot.key.category());
        tenant.groups.entry(group.to_owned()).or_default().add(hot);
    }

    /// Counts an entry no longer, which is gone.
    pub fn less(&mut self, hot: &Hot, policies: &Policies) {
        self.amount.less(hot);
        let name = &hot.owner.tenant;
        let tenant = self.tenants.get_mut(name).expect("the tenant of an entry is counted");
        tenant.amount.less(hot);
        let category = policies.counted_as(hot.key.category());
        let group = tenant.groups.get_mut(category).expect("the group of an entry is counted");
        group.less(hot);
        if tenant.amount.n_entries == 0 {
            self.tenants.remove(name);
        }
    }

    /// What a tenant has of a category.
    #[cfg(test)]
    pub fn amount(&self, tenant: &str, category: &str) -> Amount {
        let group = self.tenants.get(tenant).and_then(|tenant| tenant.groups.get(category));
        group.map(|group| group.amount).unwrap_or_default()
    }

    /// The entry that must go next so that one more of that size has room, or `None` if it has.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`] if nothing that goes would make it.
    pub fn next_to_go(
        &mut self,
        tenant: &str,
        category: &str,
        n_bytes: u64,
        policies: &Policies,
    ) -> Result<Option<Arc<Hot>>, Refusal> {
        let group = policies.counted_as(category);
        let (quota, room) = (policies.of(category).quota, policies.room);
        if n_bytes > quota.cap_bytes.min(room.tenant_bytes).min(room.bytes) {
            return Err(Refusal::NoRoom);
        }
        let own = self.tenants.get(tenant);
        let of_group = own.and_then(|own| own.groups.get(group)).map(|group| group.amount);
        let of_group = of_group.unwrap_or_default().with(n_bytes);
        let of_tenant = own.map(|own| own.amount).unwrap_or_default().with(n_bytes);
        let from = if scarce(of_group, quota.cap_entries, quota.cap_bytes).is_some() {
            Some((tenant.to_owned(), group.to_owned()))
        } else if let Some(what) = scarce(of_tenant, room.tenant_entries, room.tenant_bytes) {
            self.most_borrowed(tenant, Some((group, n_bytes)), what, policies)
        } else if let Some(what) = scarce(self.amount.with(n_bytes), room.entries, room.bytes) {
            let has = |(name, own): (&String, &Tenant)| match name == tenant {
                true => what.of(of_tenant),
                false => what.of(own.amount),
            };
            // Of tenants that have as much, the one that wants more.
            let key = |entry: &(&String, &Tenant)| (has(*entry), entry.0 == tenant);
            let most = self.tenants.iter().max_by_key(key).map(|(name, _)| name.clone());
            let new = |most: &str| (most == tenant).then_some((group, n_bytes));
            most.and_then(|most| self.most_borrowed(&most, new(&most), what, policies))
        } else {
            return Ok(None);
        };
        let gone = from.and_then(|(tenant, group)| {
            self.tenants.get_mut(&tenant)?.groups.get_mut(&group)?.pop()
        });
        gone.map(Some).ok_or(Refusal::NoRoom)
    }

    /// The category of a tenant that is most over its floor, with one more of that size in it; the one that wants more, if none is.
    fn most_borrowed(
        &self,
        tenant: &str,
        new: Option<(&str, u64)>,
        what: Scarce,
        policies: &Policies,
    ) -> Option<(String, String)> {
        let groups = &self.tenants.get(tenant)?.groups;
        let over = |name: &str, group: &Group| {
            let amount = match new {
                Some((wants, n_bytes)) if wants == name => group.amount.with(n_bytes),
                _ => group.amount,
            };
            what.of(amount).saturating_sub(what.floor(&policies.of(name).quota))
        };
        let full = groups.iter().filter(|(_, group)| group.amount.n_entries > 0);
        let most = full.max_by_key(|(name, group)| {
            let wants = new.is_some_and(|(wants, _)| wants == name.as_str());
            (over(name, group), wants, what.of(group.amount))
        });
        most.map(|(name, _)| (tenant.to_owned(), name.clone()))
    }
}
