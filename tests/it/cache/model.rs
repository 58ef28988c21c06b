//! The plainest cache there is: a list, all of which is looked at.

use half::f16;

use nearkin::cache::{
    EntryId, Identity, Invalidate, NewEntry, Policies, Policy, Reach, Scope, Tier, Which,
};
use nearkin::distance::scalar;

use super::TestClock;

pub struct Kept {
    pub id: EntryId,
    pub entry: NewEntry,
    scope: Scope,
    row: Option<Vec<f32>>,
    created_ms: u64,
    ttl_ms: u64,
}

pub struct Model {
    pub all: Vec<Kept>,
    pub policies: Policies,
    now_ms: u64,
    wall_ms: u64,
}

/// What is said of a request.
#[derive(Debug, PartialEq)]
pub enum Said {
    Hit { entry: EntryId, tier: Tier, similarity: f32, age_ms: u64, answer: Vec<u8> },
    Miss { nearest: Option<(EntryId, f32)> },
}

/// What is to become of a new entry.
#[derive(Debug, PartialEq)]
pub enum Becomes {
    New,
    Joins(EntryId),
    Refused,
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = scalar::dot(vector, vector).sqrt();
    vector.iter().map(|&x| (f64::from(x) / norm) as f32).collect()
}

/// As it is kept: 16 bits an element.
fn kept(vector: &[f32]) -> Vec<f32> {
    unit(vector).into_iter().map(|x| f16::from_f32(x).to_f32()).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let cosine = scalar::dot(a, b) / (scalar::dot(a, a) * scalar::dot(b, b)).sqrt();
    cosine.clamp(-1.0, 1.0) as f32
}

/// Whether two identities share answers under a scope.
pub fn shares(a: &Identity, b: &Identity, scope: Scope) -> bool {
    let whose = match scope {
        Scope::User => a.tenant == b.tenant && a.user.is_some() && a.user == b.user,
        Scope::Tenant => a.tenant == b.tenant,
        Scope::Shared => true,
    };
    whose && (&a.category, &a.model, a.compat) == (&b.category, &b.model, b.compat)
}

impl Model {
    pub fn new(policies: Policies, clock: &TestClock) -> Self {
        let now_ms = clock.wall_ms();
        Self { all: Vec::new(), policies, now_ms, wall_ms: now_ms }
    }

    /// Time passes on a clock that goes right.
    pub fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.set_wall(self.wall_ms + ms);
    }

    /// A wall clock set forward is believed, one set back is not.
    pub fn set_wall(&mut self, ms: u64) {
        self.wall_ms = ms;
        self.now_ms = self.now_ms.max(ms);
    }

    fn lives(&self, kept: &Kept) -> bool {
        let policy = self.policies.of(&kept.entry.identity.category);
        kept.created_ms + kept.ttl_ms.min(policy.ttl.as_millis() as u64) > self.now_ms
    }

    fn nearest<'m>(
        &'m self,
        identity: &'m Identity,
        policy: &Policy,
        query: &[f32],
        max_age_ms: u64,
    ) -> Option<(&'m Kept, f32)> {
        let young = |kept: &&Kept| self.now_ms - kept.created_ms <= max_age_ms;
        let own = self.own(identity, policy).filter(|kept| self.lives(kept)).filter(young);
        let rows = own.filter_map(|kept| Some((kept, cosine(query, kept.row.as_ref()?))));
        rows.min_by(|a, b| b.1.total_cmp(&a.1).then(a.0.id.cmp(&b.0.id)))
    }

    fn own<'m>(
        &'m self,
        identity: &'m Identity,
        policy: &Policy,
    ) -> impl Iterator<Item = &'m Kept> {
        let scope = policy.scope;
        let own = move |kept: &&Kept| {
            kept.scope == scope && shares(&kept.entry.identity, identity, scope)
        };
        self.all.iter().filter(own)
    }

    pub fn lookup(
        &self,
        identity: &Identity,
        exact: [u8; 32],
        vector: Option<&[f32]>,
        max_age_ms: u64,
    ) -> Said {
        let policy = self.policies.of(&identity.category);
        let hit = |kept: &Kept, tier, similarity| Said::Hit {
            entry: kept.id,
            tier,
            similarity,
            age_ms: self.now_ms - kept.created_ms,
            answer: kept.entry.answer.clone(),
        };
        let young = |kept: &&Kept| self.now_ms - kept.created_ms <= max_age_ms;
        if policy.mode.is_exact()
            && let Some(equal) = self
                .own(identity, policy)
                .filter(|kept| self.lives(kept))
                .filter(young)
                .find(|kept| kept.entry.exact == exact)
        {
            return hit(equal, Tier::Exact, 1.0);
        }
        let vector = vector.filter(|_| policy.mode.is_semantic());
        let nearest =
            vector.and_then(|vector| self.nearest(identity, policy, &unit(vector), max_age_ms));
        match nearest {
            Some((kept, cosine)) if cosine >= policy.threshold => hit(kept, Tier::Semantic, cosine),
            nearest => Said::Miss { nearest: nearest.map(|(kept, cosine)| (kept.id, cosine)) },
        }
    }

    /// What a new entry becomes; [`Self::insert`] then does it.
    pub fn becomes(&mut self, entry: &NewEntry) -> Becomes {
        let policy = self.policies.of(&entry.identity.category).clone();
        let ttl_ms = entry.ttl.unwrap_or(policy.ttl).as_millis() as u64;
        let no_user = policy.scope == Scope::User && entry.identity.user.is_none();
        if policy.mode.is_off()
            || !policy.store
            || no_user
            || ttl_ms > policy.ttl.as_millis() as u64
        {
            return Becomes::Refused;
        }
        let equal = self
            .own(&entry.identity, &policy)
            .filter(|kept| self.lives(kept))
            .find(|kept| kept.entry.exact == entry.exact)
            .map(|kept| kept.id);
        if let Some(id) = equal {
            self.all.retain(|kept| kept.id != id);
            return Becomes::New;
        }
        let row = entry.vector.as_deref().filter(|_| policy.mode.is_semantic()).map(kept);
        let near = row.and_then(|row| self.nearest(&entry.identity, &policy, &row, u64::MAX)).map(
            |(kept, cosine)| {
                let same = kept.entry.answer == entry.answer && cosine >= policy.threshold;
                let end = kept.created_ms + kept.ttl_ms.min(policy.ttl.as_millis() as u64);
                (kept.id, same || cosine >= 0.98, end - self.now_ms)
            },
        );
        match near {
            Some((id, true, left_ms)) if left_ms >= ttl_ms / 2 => Becomes::Joins(id),
            Some((id, true, _)) => {
                self.all.retain(|kept| kept.id != id);
                Becomes::New
            }
            _ => Becomes::New,
        }
    }

    pub fn insert(&mut self, id: EntryId, entry: NewEntry) {
        let policy = self.policies.of(&entry.identity.category);
        let row = entry.vector.as_deref().filter(|_| policy.mode.is_semantic()).map(kept);
        let ttl_ms = entry.ttl.unwrap_or(policy.ttl).as_millis() as u64;
        let (scope, created_ms) = (policy.scope, self.now_ms);
        self.all.push(Kept { id, entry, scope, row, created_ms, ttl_ms });
    }

    /// Entries that live and that an invalidation is about; they are gone then.
    pub fn invalidate(&mut self, invalidate: &Invalidate) -> u64 {
        let about = |kept: &Kept| {
            let identity = &kept.entry.identity;
            let reached = match &invalidate.reach {
                Reach::Tenant(tenant) => *tenant == identity.tenant,
                Reach::AllTenants => true,
            };
            reached
                && match &invalidate.which {
                    Which::Id(id) => kept.id == *id,
                    Which::Exact(exact) => kept.entry.exact == *exact,
                    Which::Tag(tag) => kept.entry.tags.contains(tag),
                    Which::Category(category) => identity.category == *category,
                    Which::Writer(writer) => kept.entry.writer.as_ref() == Some(writer),
                    Which::User(user) => identity.user.as_ref() == Some(user),
                    Which::Attributes(asked) => {
                        asked.iter().all(|(k, v)| kept.entry.attributes.get(k) == Some(v))
                    }
                    Which::Epoch { model, compat } => {
                        model.as_ref().is_none_or(|model| *model == identity.model)
                            && compat.is_none_or(|compat| compat == identity.compat)
                    }
                    Which::All => true,
                }
        };
        let n = self.all.iter().filter(|kept| about(kept) && self.lives(kept)).count();
        self.all.retain(|kept| !about(kept));
        n as u64
    }

    /// Other policies; entries that were kept for others are gone.
    pub fn reload(&mut self, policies: Policies) {
        // What ended under the old policy does not come back under the new one.
        self.bury();
        self.policies = policies;
        let policies = &self.policies;
        self.all.retain(|kept| policies.of(&kept.entry.identity.category).scope == kept.scope);
        self.bury();
    }

    pub fn bury(&mut self) {
        let all = std::mem::take(&mut self.all);
        self.all = all.into_iter().filter(|kept| self.lives(kept)).collect();
    }
}
