//! A plain map that does what a collection should do, and what happens to both.

use std::collections::{BTreeMap, BTreeSet};

use nearkin::core::ids::PointId;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Rows, Values};
use nearkin::engine::{Ask, Which};
use nearkin::plan::filter::Filter;
use nearkin::plan::filter::plain::{Point, passes};
use nearkin::store::columns::Kind;
use nearkin::store::columns::path::{self, elements};
use serde_json::{Value, json};

use crate::collection::filter;

pub(super) const DIMS: [(&str, usize); 2] = [("a", 4), ("b", 3)];

pub(super) const TENANTS: [&str; 6] = ["t0", "t1", "t2", "t3", "t4", "nobody"];

pub(super) fn path(text: &str) -> path::Path {
    text.parse().unwrap()
}

/// A point of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Own {
    pub(super) payload: Value,
    pub(super) vectors: BTreeMap<String, Vec<f32>>,
    pub(super) grants: BTreeSet<String>,
}

/// What a collection holds, as a map.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) points: BTreeMap<PointId, Own>,
    pub(super) tenants: BTreeSet<String>,
    pub(super) indexed: BTreeSet<(String, Kind)>,
}

pub(super) fn names(payload: &Value) -> BTreeSet<String> {
    let owner = path("owner");
    let all = elements(&owner.values(payload)).into_iter().filter_map(|value| match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    all.collect()
}

impl Model {
    pub(super) fn matching(&self, ask: &Ask) -> Vec<PointId> {
        let is_in = |(id, own): &(&PointId, &Own)| {
            let has_vector = |name: &str| own.vectors.contains_key(name);
            let point = Point { payload: &own.payload, id: Some(**id), has_vector: &has_vector };
            ask.tenant().is_none_or(|tenant| own.grants.contains(tenant))
                && passes(ask.filter(), point)
        };
        self.points.iter().filter(is_in).map(|(id, _)| *id).collect()
    }

    /// The ids that a change is about, or none of them if one is missing.
    pub(super) fn chosen(&self, which: Which<'_>) -> Option<BTreeSet<PointId>> {
        match which {
            Which::Matching(ask) => Some(self.matching(ask).into_iter().collect()),
            Which::Ids { tenant, ids } => {
                let may = |id: &PointId| {
                    self.points
                        .get(id)
                        .is_some_and(|own| tenant.is_none_or(|name| own.grants.contains(name)))
                };
                ids.iter().all(may).then(|| ids.iter().copied().collect())
            }
        }
    }

    pub(super) fn edit(&mut self, ids: &BTreeSet<PointId>, edit: &dyn Fn(&mut Value)) {
        for id in ids {
            let own = self.points.get_mut(id).unwrap();
            let before = names(&own.payload);
            edit(&mut own.payload);
            let after = names(&own.payload);
            self.tenants.extend(after.difference(&before).cloned());
            own.grants = &(&own.grants - &(&before - &after)) | &(&after - &before);
        }
    }
}

/// Numbers of one step of one history.
pub(super) struct Random {
    pub(super) seed: u64,
    pub(super) n: u64,
}

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.n += 1;
        stream(self.seed, self.n) % n
    }

    pub(super) fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize].clone()
    }

    pub(super) fn id(&mut self) -> PointId {
        let n = self.below(260);
        if n.is_multiple_of(3) { PointId::Uuid(u128::from(n) << 90) } else { PointId::Num(n) }
    }

    pub(super) fn ids(&mut self, most: u64) -> Vec<PointId> {
        (0..self.below(most) + 1).map(|_| self.id()).collect()
    }

    pub(super) fn payload(&mut self) -> Value {
        let mut payload = json!({"meta": {"depth": self.below(4)}});
        let n_owners = self.below(3);
        payload["owner"] = match n_owners {
            0 => Value::Null,
            1 => json!(self.pick(&TENANTS[..5])),
            _ => json!([self.pick(&TENANTS[..5]), self.pick(&TENANTS[..5]), self.below(3)]),
        };
        payload["kind"] = match self.below(6) {
            0 => json!(["docs", "page", "docs"]),
            1 => json!(self.below(3)),
            2 => Value::Null,
            _ => json!(self.pick(&["docs", "page", "source"])),
        };
        payload["size"] = match self.below(8) {
            0 => json!([self.below(20), self.below(20)]),
            1 => json!(self.below(40) as f64 / 2.0),
            2 => json!(u64::MAX),
            3 => json!("many"),
            _ => json!(self.below(20)),
        };
        payload["at"] = json!(format!("2024-01-{:02}T00:00:00Z", self.below(28) + 1));
        payload["flag"] = json!(self.below(2) == 1);
        payload
    }

    pub(super) fn filter(&mut self) -> Filter {
        filter(self.pick(&[
            json!({}),
            json!({"must": [{"key": "kind", "match": {"value": "docs"}}]}),
            json!({"must": [{"key": "size", "range": {"lt": 9}}]}),
            json!({"must_not": [{"key": "meta.depth", "match": {"value": 2}}]}),
            json!({"must": [{"has_vector": "b"}]}),
            json!({"must": [{"is_empty": {"key": "kind"}}]}),
            json!({"must": [{"has_id": [1, 2, 4, 5, 7, 8, 10, 11]}]}),
        ]))
    }

    pub(super) fn tenant(&mut self) -> Option<&'static str> {
        if self.below(3) == 0 { None } else { Some(self.pick(&TENANTS)) }
    }

    pub(super) fn ask(&mut self) -> Ask {
        Ask::new(self.tenant(), self.filter())
    }
}

pub(super) fn rows(dim: usize, seed: u64, n_rows: usize) -> Rows {
    let element = |i| (stream(seed, i) % 2000) as f32 / 1000.0 - 1.0;
    Rows::new(Values::F32((0..(n_rows * dim) as u64).map(element).collect()), dim).unwrap()
}

pub(super) fn row(rows: &Rows, i: usize) -> Vec<f32> {
    let mut row = vec![0.0; rows.dim()];
    rows.widen(i, &mut row);
    row
}
