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
    /// How often all was counted anew: entries know in which count they are.
    count: u32,
    amount: Amount,
    tenants: BTreeMap<String, Tenant>,
}

impl Rooms {
    /// Counts nothing of what was counted.
    pub fn begin_anew(&mut self) {
        *self = Self { count: self.count + 1, ..Self::default() };
    }

    /// Counts an entry.
    pub fn add(&mut self, hot: Arc<Hot>, policies: &Policies) {
        hot.count_in(self.count);
        let n_bytes = hot.n_bytes.into();
        self.amount = self.amount.with(n_bytes);
        let tenant = self.tenants.entry(hot.owner.tenant.clone()).or_default();
        tenant.amount = tenant.amount.with(n_bytes);
        let group = policies.counted_as(hot.key.category());
        tenant.groups.entry(group.to_owned()).or_default().add(hot);
    }

    /// Counts an entry no longer, which is gone. One that went while all was counted anew may not be counted.
    pub fn less(&mut self, hot: &Hot, policies: &Policies) {
        if !hot.is_counted_in(self.count) {
            return;
        }
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
        if n_bytes > policies.largest(policies.of(category)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::{Facts, Labels, Owner};
    use crate::cache::identity::{EntryId, Identity, PartitionKey, Scope};
    use crate::cache::policy::{Policy, Room};

    fn hot(id: u64, tenant: &str, category: &str, saved_ms: u32, n_bytes: u32) -> Arc<Hot> {
        let identity = Identity {
            tenant: tenant.into(),
            user: None,
            category: category.into(),
            model: String::new(),
            compat: [0; 32],
        };
        Arc::new(Hot::new(Facts {
            id: EntryId(id),
            key: Arc::new(PartitionKey::of(&identity, Scope::Tenant).unwrap()),
            owner: Arc::new(Owner { tenant: tenant.into(), user: None, writer: None }),
            labels: Labels::default(),
            exact: id.into(),
            answer_hash: 0,
            created_ms: id,
            ttl_ms: 1000,
            n_bytes,
            saved_ms,
            has_row: false,
        }))
    }

    /// What goes, in its order, when one more comes.
    fn gone(rooms: &mut Rooms, policies: &Policies, tenant: &str, category: &str) -> Vec<u64> {
        let mut gone = Vec::new();
        while let Some(hot) = rooms.next_to_go(tenant, category, 10, policies).unwrap() {
            hot.remove();
            rooms.less(&hot, policies);
            gone.push(hot.id().0);
        }
        gone
    }

    fn policies(entries: u64, floor_a: u64) -> Policies {
        let quota = Quota { floor_entries: floor_a, ..Quota::default() };
        Policies {
            room: Room { entries, ..Room::default() },
            categories: [
                ("a".to_owned(), Policy { quota, ..Policy::default() }),
                ("b".to_owned(), Policy::default()),
            ]
            .into(),
            ..Policies::default()
        }
    }

    #[test]
    fn what_saves_least_for_its_bytes_goes_first_then_what_ends_first() {
        let policies = policies(4, 0);
        let mut rooms = Rooms::default();
        let hots = [
            hot(1, "t", "a", 100, 10),
            hot(2, "t", "a", 100, 20),
            hot(3, "t", "a", 400, 10),
            hot(4, "t", "a", 100, 10),
        ];
        hots.iter().for_each(|hot| rooms.add(Arc::clone(hot), &policies));
        hots.iter().for_each(|hot| hot.hit(1_000_000));
        hots[0].hit(1_000_000);
        let mut order = Vec::new();
        for more in 0..4 {
            order.extend(gone(&mut rooms, &policies, "t", "a"));
            let more = hot(10 + more, "t", "a", 9000, 10);
            more.hit(9_000_000_000);
            rooms.add(more, &policies);
        }
        assert_eq!(order, [2, 4, 1, 3]);
    }

    #[test]
    fn a_flood_takes_what_it_borrowed_and_what_is_its_own() {
        let policies = policies(10, 3);
        let mut rooms = Rooms::default();
        // ann has 4 of a (floor 3) and 2 of b, ben has 4.
        for id in 0..4 {
            rooms.add(hot(id, "ann", "a", 1, 10), &policies);
            rooms.add(hot(id + 30, "ben", "b", 1, 10), &policies);
        }
        (20..22).for_each(|id| rooms.add(hot(id, "ann", "b", 1, 10), &policies));
        for id in 100..200 {
            let went = gone(&mut rooms, &policies, "ann", "b");
            assert_eq!(went.len(), 1);
            assert!((20..22).contains(&went[0]) || went[0] >= 100, "{went:?}");
            rooms.add(hot(id, "ann", "b", 1, 10), &policies);
        }
        assert_eq!(rooms.amount("ben", "b").n_entries, 4);
        assert_eq!(rooms.amount("ann", "a").n_entries, 4);
        // Ben may have half, and ann gives what she borrowed.
        let went: Vec<u64> = (300..306)
            .flat_map(|id| {
                let went = gone(&mut rooms, &policies, "ben", "b");
                rooms.add(hot(id, "ben", "b", 1, 10), &policies);
                went
            })
            .collect();
        assert_eq!(rooms.amount("ann", "a").n_entries, 4, "{went:?}");
        assert_eq!(rooms.amount("ben", "b").n_entries, 5);
    }

    #[test]
    fn what_is_larger_than_all_room_is_refused_and_moves_nothing() {
        let mut rooms = Rooms::default();
        let policies =
            Policies { room: Room { bytes: 50, ..Room::default() }, ..Policies::default() };
        rooms.add(hot(1, "t", "c", 1, 40), &policies);
        assert_eq!(rooms.next_to_go("t", "c", 51, &policies).unwrap_err(), Refusal::NoRoom);
        assert_eq!(rooms.amount("t", "default").n_entries, 1);
        assert!(rooms.next_to_go("t", "c", 10, &policies).unwrap().is_none());
    }
}
