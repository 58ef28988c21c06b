//! One step after another, done to a collection and to its model.

use std::collections::{BTreeMap, BTreeSet};

use nearkin::core::ids::PointId;
use nearkin::core::metric::Metric;
use nearkin::core::rows::Dtype;
use nearkin::engine::{
    Collection, Given, NewPoint, Settings, VectorSettings, Vectors, Which, Writer,
};
use nearkin::store::columns::Kind;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::model::{DIMS, Model, Own, Random, TENANTS, names, path, row, rows};
use crate::collection::pool;

fn settings() -> Settings {
    let vector = |(name, dim): (&str, usize)| VectorSettings {
        name: name.to_owned(),
        ..Settings::of_vector(dim, Metric::L2, Dtype::F32).vectors.remove(0)
    };
    Settings {
        vectors: DIMS.map(vector).to_vec(),
        tenant_field: Some(path("owner")),
        indexed: vec![(path("kind"), Kind::Keyword), (path("size"), Kind::Integer)],
        note: Value::Null,
    }
}
/// A collection, and what it should hold.
pub(super) struct Pair {
    pub(super) folder: TempDir,
    pub(super) collection: Option<Collection>,
    pub(super) model: Model,
}

impl Pair {
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        drop(Writer::open(&folder.path().join("c"), &settings()).unwrap());
        let indexed = [("kind", Kind::Keyword), ("size", Kind::Integer)];
        let indexed = indexed.map(|(path, kind)| (path.to_owned(), kind)).into();
        let mut pair =
            Self { folder, collection: None, model: Model { indexed, ..Model::default() } };
        pair.reopen(false);
        pair
    }

    pub(super) fn reopen(&mut self, is_built: bool) {
        self.collection = None;
        let open = if is_built { Collection::build } else { Collection::open };
        self.collection = Some(open(&self.folder.path().join("c"), &pool(1), 1 << 30).unwrap());
    }

    pub(super) fn own(&self) -> &Collection {
        self.collection.as_ref().unwrap()
    }

    fn upsert(&mut self, random: &mut Random) {
        let ids: BTreeSet<PointId> = random.ids(12).into_iter().collect();
        let points: Vec<NewPoint> =
            ids.iter().map(|&id| NewPoint { id, payload: random.payload() }).collect();
        let mut with = BTreeMap::new();
        for (name, _) in DIMS {
            let some: Vec<usize> = (0..points.len()).filter(|_| random.below(4) > 0).collect();
            with.insert(name, some);
        }
        let given = DIMS.map(|(name, dim)| rows(dim, random.n, with[name].len().max(1)));
        let given = DIMS.iter().zip(&given).filter(|((name, _), _)| !with[name].is_empty());
        let vectors: Vec<Vectors<'_>> = given
            .map(|((name, _), rows)| Vectors {
                name,
                points: Some(&with[name]),
                rows: Given::Rows(rows),
            })
            .collect();
        self.own().upsert(&points, &vectors).unwrap();
        for (i, NewPoint { id, payload }) in points.into_iter().enumerate() {
            let grants = names(&payload);
            self.model.tenants.extend(grants.iter().cloned());
            let mut own = Own { payload, grants, ..Own::default() };
            for Vectors { name, points, rows } in &vectors {
                let Given::Rows(rows) = rows else { unreachable!("all are dense") };
                if let Some(at) = points.unwrap().iter().position(|point| *point == i) {
                    own.vectors.insert((*name).to_owned(), row(rows, at));
                }
            }
            self.model.points.insert(id, own);
        }
    }

    /// Compares a change of the collection with that of the model.
    fn changed(
        &mut self,
        which: Which<'_>,
        change: &dyn Fn(&Collection) -> nearkin::Result<u64>,
        edit: &dyn Fn(&mut Model, &BTreeSet<PointId>) -> u64,
    ) {
        let done = change(self.own());
        match self.model.chosen(which) {
            Some(ids) => {
                let n = edit(&mut self.model, &ids);
                assert_eq!(done.unwrap(), n, "{which:?}");
            }
            None => assert_eq!(done.unwrap_err().code(), "id_not_found", "{which:?}"),
        }
    }

    fn edit(
        &mut self,
        which: Which<'_>,
        change: &dyn Fn(&Collection) -> nearkin::Result<u64>,
        edit: &dyn Fn(&mut Value),
    ) {
        self.changed(which, change, &|model, ids| {
            model.edit(ids, edit);
            ids.len() as u64
        });
    }

    fn payloads(&mut self, random: &mut Random, which: Which<'_>) {
        let keys = random.payload();
        let some = json!({"kind": keys["kind"], "owner": keys["owner"]});
        let set = |payload: &mut Value, keys: &Value| {
            for (key, value) in keys.as_object().unwrap() {
                match value {
                    Value::Null => drop(payload.as_object_mut().unwrap().remove(key)),
                    _ => payload[key] = value.clone(),
                }
            }
        };
        match random.below(5) {
            0 => self.edit(which, &|own| own.set_payload(which, &some, None), &|payload| {
                set(payload, &some);
            }),
            1 => {
                let (deep, at) = (json!({"deep": {"n": random.below(5)}}), path("meta.more"));
                self.edit(which, &|own| own.set_payload(which, &deep, Some(&at)), &|payload| {
                    payload["meta"]["more"]["deep"] = deep["deep"].clone();
                });
            }
            2 => self.edit(which, &|own| own.overwrite_payload(which, &keys), &|payload| {
                *payload = keys.clone();
            }),
            3 => {
                let paths = [path("meta.depth"), path("owner[]"), path("flag")];
                self.edit(which, &|own| own.delete_payload_keys(which, &paths), &|payload| {
                    if let Some(meta) = payload.get_mut("meta") {
                        meta.as_object_mut().unwrap().remove("depth");
                    }
                    if let Some(Value::Array(owners)) = payload.get_mut("owner") {
                        owners.clear();
                    }
                    payload.as_object_mut().unwrap().remove("flag");
                });
            }
            _ => self.edit(which, &|own| own.clear_payload(which), &|payload| {
                *payload = json!({});
            }),
        }
    }

    fn vectors(&mut self, random: &mut Random, which: Which<'_>) {
        let (name, dim) = random.pick(&DIMS);
        if let Which::Ids { tenant, ids } = which {
            let ids: Vec<PointId> =
                ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
            let which = Which::Ids { tenant, ids: &ids };
            let rows = rows(dim, random.n, ids.len());
            let vectors = [Vectors { name, points: None, rows: Given::Rows(&rows) }];
            self.changed(which, &|own| own.update_vectors(tenant, &ids, &vectors), &|model, _| {
                for (i, id) in ids.iter().enumerate() {
                    let own = model.points.get_mut(id).unwrap();
                    own.vectors.insert(name.to_owned(), row(&rows, i));
                }
                ids.len() as u64
            });
        } else {
            self.changed(which, &|own| own.delete_vectors(which, &[name]), &|model, ids| {
                for id in ids {
                    model.points.get_mut(id).unwrap().vectors.remove(name);
                }
                ids.len() as u64
            });
        }
    }

    fn grants(&mut self, random: &mut Random) {
        let (ids, tenant) = (random.ids(10), random.pick(&TENANTS[..5]));
        let which = Which::Ids { tenant: None, ids: &ids };
        match random.below(5) {
            0 | 1 => self.changed(which, &|own| own.grant(&ids, tenant), &|model, ids| {
                model.tenants.insert(tenant.to_owned());
                let all = model.points.iter_mut().filter(|(id, _)| ids.contains(id));
                let n = all.filter(|(_, own)| !own.grants.contains(tenant));
                n.map(|(_, own)| own.grants.insert(tenant.to_owned())).count() as u64
            }),
            2 | 3 => self.changed(which, &|own| own.revoke(&ids, tenant), &|model, ids| {
                let all = model.points.iter_mut().filter(|(id, _)| ids.contains(id));
                all.filter_map(|(_, own)| own.grants.take(tenant)).count() as u64
            }),
            _ => {
                let dropped = self.own().drop_tenant(tenant).unwrap();
                let points = self.model.points.values_mut();
                let n = points.filter_map(|own| own.grants.take(tenant)).count() as u64;
                assert_eq!(dropped, self.model.tenants.take(tenant).map(|_| n), "{tenant}");
            }
        }
    }

    fn fields(&mut self, random: &mut Random) {
        let (text, kind) = random.pick(&[
            ("kind", Kind::Keyword),
            ("kind", Kind::Integer),
            ("size", Kind::Integer),
            ("size", Kind::Float),
            ("at", Kind::Datetime),
            ("flag", Kind::Bool),
            ("owner", Kind::Keyword),
        ]);
        let key = (text.to_owned(), kind);
        if random.below(3) > 0 {
            let is_new = self.own().index_field(&path(text), kind).unwrap();
            assert_eq!(is_new, self.model.indexed.insert(key));
        } else {
            let was_there = self.own().drop_index(&path(text), kind).unwrap();
            assert_eq!(was_there, self.model.indexed.remove(&key));
        }
        let settings = self.own().settings();
        let indexed = settings.indexed.iter().map(|(path, kind)| (path.to_string(), *kind));
        assert_eq!(indexed.collect::<BTreeSet<_>>(), self.model.indexed);
    }

    pub(super) fn step(&mut self, random: &mut Random) {
        let (ids, tenant, ask) = (random.ids(3), random.tenant(), random.ask());
        let which = match random.below(3) {
            0 => Which::Matching(&ask),
            _ => Which::Ids { tenant, ids: &ids },
        };
        match random.below(20) {
            0..6 => self.upsert(random),
            6..10 => self.payloads(random, which),
            10..13 => self.vectors(random, which),
            13..16 => self.grants(random),
            16 => {
                let n = self.own().remove_where(&ask).unwrap();
                let gone = self.model.matching(&ask);
                gone.iter().for_each(|id| drop(self.model.points.remove(id)));
                assert_eq!(n, gone.len() as u64);
            }
            17 => {
                let n = self.own().remove(&ids).unwrap();
                let gone = ids.iter().filter(|id| self.model.points.remove(id).is_some());
                assert_eq!(n, gone.count());
            }
            18 => self.fields(random),
            _ if random.below(3) == 0 => self.reopen(random.below(3) == 0),
            _ => {}
        }
    }
}
