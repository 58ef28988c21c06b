//! Random histories of a collection, and a map that is what the collection must be.

use std::collections::{BTreeMap, BTreeSet};

use nearkin::core::ids::{PointId, TenantId};
use nearkin::core::mix;
use nearkin::store::durable::{Applied, Durable, Op, Parts, Upsert, View};

/// A point as the model has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub payload: Vec<u8>,
    pub vectors: BTreeMap<String, Vec<u8>>,
    pub tenants: BTreeSet<TenantId>,
}

/// What a collection must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub points: BTreeMap<PointId, Held>,
    pub tenants: BTreeMap<TenantId, String>,
}

/// An operation that owns what it names.
#[derive(Clone, Debug)]
pub enum Step {
    Upsert(PointId, Held),
    SetPayload(PointId, Vec<u8>),
    SetVectors(PointId, Vec<(String, Option<Vec<u8>>)>),
    Remove(PointId),
    Grant(PointId, TenantId),
    Revoke(PointId, TenantId),
    DropTenant(TenantId),
}

/// Numbers of a seed.
pub struct Draw(u64, u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(mix::mix64(seed), 0)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.1 += 1;
        mix::stream(self.0, self.1) % n
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let n = self.below(most + 1);
        // Now and then so long that it takes pages of its own.
        let n = if self.below(40) == 0 { n * 50 } else { n };
        let seed = self.below(u64::MAX);
        (0..n).map(|at| mix::stream(seed, at) as u8).collect()
    }

    fn id(&mut self, n_ids: u64) -> PointId {
        let n = self.below(n_ids);
        if n.is_multiple_of(3) {
            PointId::Uuid(u128::from(mix::mix64(n)) << 40)
        } else {
            PointId::Num(n)
        }
    }

    fn held(&mut self, model: &Model) -> Held {
        let names = ["", "title", "image"];
        let mut held = Held { payload: self.bytes(900), ..Held::default() };
        for name in names {
            if self.below(2) == 0 {
                held.vectors.insert(name.to_owned(), self.bytes(1000));
            }
        }
        for &tenant in model.tenants.keys() {
            if self.below(3) == 0 {
                held.tenants.insert(tenant);
            }
        }
        held
    }

    fn some_id(&mut self, model: &Model) -> Option<PointId> {
        let n = model.points.len() as u64;
        (n > 0).then(|| *model.points.keys().nth(self.below(n) as usize).unwrap())
    }

    fn some_tenant(&mut self, model: &Model) -> Option<TenantId> {
        let n = model.tenants.len() as u64;
        (n > 0).then(|| *model.tenants.keys().nth(self.below(n) as usize).unwrap())
    }

    /// A batch that a collection in the state of the model takes, and the model with it.
    pub fn batch(&mut self, model: &mut Model, n_ids: u64) -> Vec<Step> {
        let most = if self.below(4) == 0 { 60 } else { 6 };
        let n_steps = 1 + self.below(most);
        let mut upserted = BTreeSet::new();
        let mut steps = Vec::new();
        for _ in 0..n_steps {
            let step = match self.below(20) {
                0..9 => {
                    let id = self.id(n_ids);
                    if !upserted.insert(id) {
                        continue;
                    }
                    Some(Step::Upsert(id, self.held(model)))
                }
                9 | 10 => self.some_id(model).map(|id| Step::SetPayload(id, self.bytes(900))),
                11 | 12 => self.some_id(model).map(|id| {
                    let other = (self.below(2) == 0).then(|| self.bytes(1000));
                    let vectors =
                        vec![("title".to_owned(), Some(self.bytes(1000))), (String::new(), other)];
                    Step::SetVectors(id, vectors)
                }),
                13..16 => {
                    let id = self.id(n_ids);
                    upserted.remove(&id);
                    Some(Step::Remove(id))
                }
                16 | 17 => self
                    .some_id(model)
                    .and_then(|id| Some(Step::Grant(id, self.some_tenant(model)?))),
                18 => self
                    .some_id(model)
                    .and_then(|id| Some(Step::Revoke(id, self.some_tenant(model)?))),
                _ if self.below(10) == 0 => self.some_tenant(model).map(Step::DropTenant),
                _ => None,
            };
            if let Some(step) = step {
                model.apply(&step);
                steps.push(step);
            }
        }
        steps
    }
}

impl Model {
    pub fn apply(&mut self, step: &Step) {
        match step.clone() {
            Step::Upsert(id, held) => {
                self.points.insert(id, held);
            }
            Step::SetPayload(id, payload) => self.points.get_mut(&id).unwrap().payload = payload,
            Step::SetVectors(id, vectors) => {
                let held = self.points.get_mut(&id).unwrap();
                for (name, vector) in vectors {
                    match vector {
                        Some(vector) => held.vectors.insert(name, vector),
                        None => held.vectors.remove(&name),
                    };
                }
            }
            Step::Remove(id) => {
                self.points.remove(&id);
            }
            Step::Grant(id, tenant) => {
                self.points.get_mut(&id).unwrap().tenants.insert(tenant);
            }
            Step::Revoke(id, tenant) => {
                self.points.get_mut(&id).unwrap().tenants.remove(&tenant);
            }
            Step::DropTenant(tenant) => {
                self.tenants.remove(&tenant);
                for held in self.points.values_mut() {
                    held.tenants.remove(&tenant);
                }
            }
        }
    }

    /// What a version of a collection holds; whatever can be read in two ways is read in both.
    pub fn of(view: &View) -> Self {
        let mut model = Self::default();
        let mut counts: BTreeMap<TenantId, BTreeSet<u32>> = BTreeMap::new();
        let points: Vec<_> = view.points(None, Parts::All).unwrap().map(Result::unwrap).collect();
        assert!(points.windows(2).all(|two| two[0].id < two[1].id), "ids are in order");
        let slots: BTreeSet<u32> = points.iter().map(|point| point.slot).collect();
        assert_eq!(slots.len(), points.len(), "no two points have one slot");
        assert_eq!(view.n_points().unwrap(), points.len() as u64);
        let ids: Vec<PointId> = points.iter().map(|point| point.id).collect();
        let by_id = view.get(&ids, Parts::All).unwrap();
        for (point, other) in points.iter().zip(by_id) {
            assert_eq!(Some(point), other.as_ref());
            assert!(point.slot < view.n_slots().unwrap() && point.version <= view.version());
        }
        let mut by_slot: Vec<_> =
            view.points_by_slot(0, Parts::All).unwrap().map(Result::unwrap).collect();
        by_slot.sort_unstable_by_key(|point| point.id);
        assert_eq!(by_slot, points);
        for point in points {
            for &tenant in &point.tenants {
                counts.entry(tenant).or_default().insert(point.slot);
            }
            let (vectors, tenants) = (point.vectors.into_iter(), point.tenants.into_iter());
            let held = Held {
                payload: point.payload,
                vectors: vectors.collect(),
                tenants: tenants.collect(),
            };
            model.points.insert(point.id, held);
        }
        for (tenant, name, n_points) in view.tenants().unwrap() {
            let granted = counts.remove(&tenant).unwrap_or_default();
            assert_eq!(n_points, granted.len() as u64, "points of tenant {name}");
            let slots: BTreeSet<u32> = view.slots_of_tenant(tenant).unwrap().into_iter().collect();
            assert_eq!(slots, granted, "slots of tenant {name}");
            assert_eq!(view.tenant(&name).unwrap(), Some(tenant));
            model.tenants.insert(tenant, name);
        }
        assert!(counts.is_empty(), "grants of no tenant: {counts:?}");
        model
    }

    /// Makes so many tenants in a collection and in the model.
    pub fn with_tenants(store: &Durable, n: usize) -> Self {
        let names: Vec<String> = (0..n).map(|n| format!("tenant {n}")).collect();
        let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
        let ids = store.tenants(&borrowed).unwrap();
        Self { points: BTreeMap::new(), tenants: ids.into_iter().zip(names).collect() }
    }
}

/// Applies steps as one batch.
pub fn apply(store: &Durable, steps: &[Step]) -> nearkin::Result<Applied> {
    let mut vectors: Vec<Vec<(&str, &[u8])>> = Vec::new();
    let mut changes: Vec<Vec<(&str, Option<&[u8]>)>> = Vec::new();
    let mut tenants: Vec<Vec<TenantId>> = Vec::new();
    for step in steps {
        if let Step::Upsert(_, held) = step {
            vectors.push(held.vectors.iter().map(|(name, v)| (&**name, &**v)).collect());
            tenants.push(held.tenants.iter().copied().collect());
        }
        if let Step::SetVectors(_, set) = step {
            changes.push(set.iter().map(|(name, v)| (&**name, v.as_deref())).collect());
        }
    }
    let (mut vectors, mut changes) = (vectors.iter(), changes.iter());
    let mut tenants = tenants.iter();
    let ops: Vec<Op<'_>> = steps
        .iter()
        .map(|step| match step {
            Step::Upsert(id, held) => Op::Upsert(Upsert {
                id: *id,
                payload: &held.payload,
                vectors: vectors.next().unwrap(),
                tenants: tenants.next().unwrap(),
            }),
            Step::SetPayload(id, payload) => Op::SetPayload { id: *id, payload },
            Step::SetVectors(id, _) => Op::SetVectors { id: *id, vectors: changes.next().unwrap() },
            Step::Remove(id) => Op::Remove { id: *id },
            Step::Grant(id, tenant) => Op::Grant { id: *id, tenant: *tenant },
            Step::Revoke(id, tenant) => Op::Revoke { id: *id, tenant: *tenant },
            Step::DropTenant(tenant) => Op::DropTenant { tenant: *tenant },
        })
        .collect();
    store.apply(&ops)
}
