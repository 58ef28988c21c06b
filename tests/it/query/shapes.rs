//! Vectors of every shape, for every tenant: whatever was written before, a tenant finds what it would find in a collection that
//! holds nothing but its own points, and what comparing those one by one finds.

use std::collections::BTreeMap;

use nearkin::core::ids::PointId;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Dtype, Rows, Values};
use nearkin::core::sparse::SparseVector;
use nearkin::engine::query::{Example, Fusion, Kind, Pair, Prefetch, Query, Strategy};
use nearkin::engine::{
    Collection, Given, NewPoint, Settings, VectorSettings, VectorShape, Vectors, Which, With,
    WithVectors, Writer,
};
use nearkin::plan::filter::Filter;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::collection::pool;

const TENANTS: [&str; 3] = ["ann", "ben", "cem"];
const DIM: usize = 3;

/// What one point has.
#[derive(Clone, Default)]
struct Own {
    owners: Vec<&'static str>,
    kind: u64,
    row: Vec<f32>,
    rows: Option<Vec<Vec<f32>>>,
    sparse: Option<SparseVector>,
}

struct Place {
    folder: TempDir,
    collection: Option<Collection>,
}

struct World {
    metric: Metric,
    shared: Place,
    /// For each tenant a collection of its points alone.
    alone: Vec<Place>,
    model: BTreeMap<u64, Own>,
    seed: u64,
    n: u64,
}

fn settings(metric: Metric) -> Settings {
    let dense = Settings::of_vector(DIM, metric, Dtype::F32).vectors.remove(0);
    let named = |name: &str, shape| VectorSettings { name: name.into(), shape, ..dense.clone() };
    Settings {
        vectors: vec![
            named("rows", VectorShape::Multi),
            named("row", VectorShape::Dense),
            VectorSettings::sparse("terms", false),
            VectorSettings::sparse("rare", true),
        ],
        tenant_field: Some("owner".parse().unwrap()),
        indexed: Vec::new(),
        note: Value::Null,
    }
}

impl Place {
    fn new(metric: Metric) -> Self {
        let folder = TempDir::new().unwrap();
        drop(Writer::open(&folder.path().join("c"), &settings(metric)).unwrap());
        let mut place = Self { folder, collection: None };
        place.reopen();
        place
    }

    fn reopen(&mut self) {
        self.collection = None;
        let path = self.folder.path().join("c");
        let collection = Collection::open(&path, &pool(2), 1 << 30).unwrap();
        assert!(collection.notes().is_empty(), "{:?}", collection.notes());
        self.collection = Some(collection);
    }

    fn own(&self) -> &Collection {
        self.collection.as_ref().unwrap()
    }

    fn store(&self, id: u64, own: &Own) {
        let point = NewPoint {
            id: PointId::Num(id),
            payload: json!({"owner": own.owners, "kind": own.kind}),
        };
        self.with_vectors(own, |vectors| self.own().upsert(&[point], vectors).unwrap());
    }

    fn with_vectors(&self, own: &Own, work: impl FnOnce(&[Vectors<'_>])) {
        let rows = |values: &[f32]| Rows::new(Values::F32(values.to_vec().into()), DIM).unwrap();
        let row = rows(&own.row);
        let multi: Vec<Rows> = own.rows.iter().map(|all| rows(&all.concat())).collect();
        let sparse: Vec<SparseVector> = own.sparse.iter().cloned().collect();
        let mut vectors = vec![Vectors { name: "row", points: None, rows: Given::Rows(&row) }];
        if !multi.is_empty() {
            vectors.push(Vectors { name: "rows", points: None, rows: Given::Multi(&multi) });
        }
        if !sparse.is_empty() {
            for name in ["terms", "rare"] {
                vectors.push(Vectors { name, points: None, rows: Given::Sparse(&sparse) });
            }
        }
        work(&vectors);
    }
}

impl World {
    fn new(metric: Metric, seed: u64) -> Self {
        let alone = TENANTS.map(|_| Place::new(metric)).into();
        let (shared, model) = (Place::new(metric), BTreeMap::new());
        Self { metric, shared, alone, model, seed, n: 0 }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.n += 1;
        stream(self.seed, self.n) % n
    }

    fn number(&mut self) -> f32 {
        self.below(200_001) as f32 / 1e5 - 1.0
    }

    fn row(&mut self) -> Vec<f32> {
        (0..DIM).map(|_| self.number()).collect()
    }

    fn rows(&mut self) -> Vec<Vec<f32>> {
        (0..=self.below(4)).map(|_| self.row()).collect()
    }

    fn sparse(&mut self) -> SparseVector {
        let mut pairs = BTreeMap::new();
        for _ in 0..self.below(6) {
            pairs.insert(self.below(15) as u32, self.number());
        }
        SparseVector::new(pairs.keys().copied().collect(), pairs.into_values().collect()).unwrap()
    }

    fn point(&mut self) -> Own {
        let owners = TENANTS.into_iter().filter(|_| self.below(2) == 0).collect();
        Own {
            owners,
            kind: self.below(3),
            row: self.row(),
            rows: (self.below(4) > 0).then(|| self.rows()),
            sparse: (self.below(4) > 0).then(|| self.sparse()),
        }
    }

    /// The collections that hold a point, or held it.
    fn each(&self, work: impl Fn(&Place, bool, Option<&str>), own: &Own) {
        work(&self.shared, true, None);
        for (place, tenant) in self.alone.iter().zip(TENANTS) {
            work(place, own.owners.contains(&tenant), Some(tenant));
        }
    }

    fn change(&mut self) {
        let id = self.below(50);
        match (self.below(12), self.model.get(&id).cloned()) {
            (0..7, _) | (_, None) => {
                let own = self.point();
                let store = |place: &Place, is_own: bool, _: Option<&str>| match is_own {
                    true => place.store(id, &own),
                    false => _ = place.own().remove(&[PointId::Num(id)]).unwrap(),
                };
                self.each(store, &own);
                self.model.insert(id, own);
            }
            (7, Some(own)) => {
                self.each(|place, _, _| _ = place.own().remove(&[PointId::Num(id)]).unwrap(), &own);
                self.model.remove(&id);
            }
            (8..10, Some(before)) => {
                let own = Own { owners: before.owners, kind: before.kind, ..self.point() };
                let ids = [PointId::Num(id)];
                let update = |place: &Place, is_own: bool, _: Option<&str>| {
                    if is_own {
                        place.with_vectors(&own, |vectors| {
                            place.own().update_vectors(None, &ids, vectors).unwrap();
                        });
                    }
                };
                self.each(update, &own);
                let rows = own.rows.clone().or(before.rows);
                let sparse = own.sparse.clone().or(before.sparse);
                self.model.insert(id, Own { rows, sparse, ..own });
            }
            (_, Some(mut own)) => {
                let ids = [PointId::Num(id)];
                let which = Which::Ids { tenant: None, ids: &ids };
                let names = ["rows", "terms", "rare"];
                let take = |place: &Place, is_own: bool, _: Option<&str>| {
                    if is_own {
                        place.own().delete_vectors(which, &names).unwrap();
                    }
                };
                self.each(take, &own);
                (own.rows, own.sparse) = (None, None);
                self.model.insert(id, own);
            }
        }
    }

    fn example(&mut self, vector: &str) -> Example {
        match vector {
            "row" => Example::Vector(self.row()),
            "rows" => Example::Rows(self.rows()),
            _ => Example::Sparse(self.sparse()),
        }
    }

    /// An example, by id now and then if the tenant has a point with the vector.
    fn example_of(&mut self, vector: &str, tenant: &str) -> Example {
        let has = |own: &Own| match vector {
            "row" => true,
            "rows" => own.rows.is_some(),
            _ => own.sparse.is_some(),
        };
        let own = |(_, own): &(&u64, &Own)| own.owners.contains(&tenant) && has(own);
        let ids: Vec<u64> = self.model.iter().filter(own).map(|(id, _)| *id).collect();
        match ids.is_empty() || self.below(2) == 0 {
            true => self.example(vector),
            false => Example::Id(PointId::Num(ids[self.below(ids.len() as u64) as usize])),
        }
    }

    fn kind(&mut self, vector: &str, tenant: &str) -> Kind {
        let mut example = || self.example_of(vector, tenant);
        let (a, b, c) = (example(), example(), example());
        let pair = Pair { positive: a.clone(), negative: b.clone() };
        match self.below(7) {
            0 | 1 => Kind::Nearest(a),
            2 => Kind::Discover { target: c, context: vec![pair] },
            3 => Kind::Context(vec![pair]),
            4 => Kind::Diverse { near: a, diversity: 0.3, candidates: Some(1000) },
            _ => {
                let all = [Strategy::AverageVector, Strategy::BestScore, Strategy::SumScores];
                let strategy = all[self.below(3) as usize];
                Kind::Recommend { positive: vec![a, b], negative: vec![c], strategy }
            }
        }
    }

    fn stage(&mut self, vector: &str, tenant: &str) -> Prefetch {
        let kind = self.kind(vector, tenant);
        let filter = match self.below(2) {
            0 => Filter::default(),
            _ => {
                let kind = self.below(3);
                let field = json!({"must": {"key": "kind", "match": {"value": kind}}});
                Filter::from_json(&field).unwrap()
            }
        };
        Prefetch { kind, vector: vector.into(), filter, limit: 1000, ..Prefetch::default() }
    }

    /// Asks, and demands no more than that it is answered.
    fn ask_without_comparing(&mut self) {
        for vector in ["rows", "terms", "rare"] {
            let stage = self.stage(vector, TENANTS[0]);
            let query = Query { stage, offset: 0 };
            found(self.shared.own(), Some(TENANTS[0]), &query, &With::default());
        }
    }

    fn ask(&mut self) {
        let number = self.below(3) as usize;
        let tenant = TENANTS[number];
        let vector = ["row", "rows", "terms", "rare"][self.below(4) as usize];
        let mut stage = self.stage(vector, tenant);
        if self.below(5) == 0 {
            let nearest = |world: &mut Self, vector: &str| Prefetch {
                kind: Kind::Nearest(world.example(vector)),
                ..world.stage(vector, tenant)
            };
            let prefetch = ["row", "rare", "rows"].map(|vector| nearest(self, vector)).into();
            let kind = Kind::Fusion(Fusion::DistributionBased);
            stage = Prefetch { prefetch, kind, limit: 1000, ..Prefetch::default() };
        }
        let query = Query { stage, offset: 0 };
        let with = With { payload: false, vectors: WithVectors::All };
        let ours = found(self.shared.own(), Some(tenant), &query, &with);
        let alone = found(self.alone[number].own(), None, &query, &with);
        let what = format!("seed {}, {}, {tenant}, {query:?}", self.seed, self.metric);
        same(&ours, &alone, &what);
        if let (Kind::Nearest(Example::Sparse(given)), true) =
            (&query.stage.kind, query.stage.filter == Filter::default())
        {
            self.nearest_is_plain(&ours, given, (vector == "rare", tenant), &what);
        }
    }

    fn nearest_is_plain(
        &self,
        ours: &BTreeMap<PointId, f32>,
        query: &SparseVector,
        (is_weighted, tenant): (bool, &str),
        what: &str,
    ) {
        let own = || self.model.iter().filter(|(_, own)| own.owners.contains(&tenant));
        let n = own().count() as f64;
        let weighted = query.weighted(|index| {
            let has =
                |own: &Own| own.sparse.as_ref().is_some_and(|own| own.indices().contains(&index));
            let d = own().filter(|(_, own)| has(own)).count() as f64;
            if is_weighted { ((n - d + 0.5) / (d + 0.5) + 1.0).ln() } else { 1.0 }
        });
        let score = |own: &Own| own.sparse.as_ref().and_then(|own| weighted.dot(own));
        let expected = own().filter_map(|(&id, own)| Some((PointId::Num(id), score(own)?)));
        same(ours, &expected.collect(), what);
    }

    fn settle(&mut self) {
        for place in std::iter::once(&mut self.shared).chain(&mut self.alone) {
            stream(self.seed, self.n).is_multiple_of(2).then(|| place.own().rebuild().unwrap());
            place.own().seal().unwrap();
            if !stream(self.seed, self.n).is_multiple_of(3) {
                place.reopen();
            }
        }
    }
}

fn found(
    collection: &Collection,
    tenant: Option<&str>,
    query: &Query,
    with: &With,
) -> BTreeMap<PointId, f32> {
    let found = collection.query(tenant, query, with).unwrap_or_else(|e| panic!("{e}: {query:?}"));
    found.points.iter().map(|found| (found.point.id, found.score)).collect()
}

fn same(ours: &BTreeMap<PointId, f32>, theirs: &BTreeMap<PointId, f32>, what: &str) {
    assert!(ours.keys().eq(theirs.keys()), "{ours:?}\n{theirs:?}\n{what}");
    for (id, score) in ours {
        let other = theirs[id];
        let is_same = (score - other).abs() <= 1e-4 * score.abs().max(1.0);
        assert!(is_same, "{id}: {score}, {other}\n{what}");
    }
}

#[test]
fn damaged_lists_and_rows_are_found_when_they_are_opened_and_read_again() {
    let mut world = World::new(Metric::Dot, 9);
    (0..150).for_each(|_| world.change());
    world.shared.own().rebuild().unwrap();
    let folder = world.shared.folder.path().join("c");
    let mut n_found = 0;
    for (number, n_flips) in [(0, 40), (2, 60), (3, 60)] {
        for flip in 0..n_flips {
            world.shared.collection = None;
            let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            let of_vector = format!(".vector-{number}.sealed");
            let is_own = |path: &std::path::PathBuf| path.to_str().unwrap().ends_with(&of_vector);
            let path = files.into_iter().find(is_own).unwrap();
            let whole = std::fs::read(&path).unwrap();
            let mut bytes = whole.clone();
            let at = stream(flip, number) as usize % bytes.len();
            bytes[at] ^= 1 << (flip % 8);
            std::fs::write(&path, bytes).unwrap();
            let opened = Collection::open(&folder, &pool(2), 1 << 30).unwrap();
            n_found += opened.notes().len();
            let is_found = !opened.notes().is_empty();
            world.shared.collection = Some(opened);
            // A value that flipped makes another score until `verify` finds it; all else is found, and answers are right.
            for _ in 0..3 {
                match is_found {
                    true => world.ask(),
                    false => world.ask_without_comparing(),
                }
            }
            std::fs::write(&path, whole).unwrap();
        }
    }
    assert!(n_found > 30, "{n_found}");
}

#[test]
fn a_tenant_finds_by_every_shape_what_it_would_find_alone() {
    for (seed, metric) in (0..).zip([Metric::Dot, Metric::L2, Metric::L1, Metric::Cosine]) {
        let mut world = World::new(metric, seed);
        for round in 0..12 {
            (0..12).for_each(|_| world.change());
            (0..30).for_each(|_| world.ask());
            if round % 3 == 2 {
                world.settle();
                (0..30).for_each(|_| world.ask());
            }
        }
    }
}
