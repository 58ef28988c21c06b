//! Queries of every kind find what a plain map finds, for every tenant, whatever was written before.

mod model;
mod shapes;
#[cfg(feature = "server")]
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use nearkin::core::ids::PointId;
use nearkin::core::metric::Metric;
use nearkin::core::rows::{Dtype, Rows, Values};
use nearkin::engine::query::{
    Example, Expression, Formula, Fusion, GroupKey, GroupQuery, Kind, Lookup, MatrixQuery, Pair,
    Prefetch, Query, Shape, Strategy, Variable,
};
use nearkin::engine::{
    Ask, Collection, Direction, Given, NewPoint, Settings, VectorSettings, Vectors, With, Writer,
};
use nearkin::plan::filter::{Condition, Filter};
use nearkin::store::columns::Kind as ColumnKind;
use nearkin::store::columns::number::Number;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::model::{Model, Own, Random, Scored, TENANTS, VECTORS, path};
use crate::collection::pool;

/// Scores of 32-bit sums of four products, squashed or divided.
const TOLERANCE: f64 = 2e-5;

struct Made {
    _folder: TempDir,
    own: Collection,
    model: Model,
    random: Random,
}

impl Made {
    /// A collection that was built, and written to afterwards.
    fn new(metric: Metric, seed: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let at = folder.path().join("c");
        let metrics = [("a", metric), ("b", Metric::L2)];
        let vector = |((name, dim), (_, metric)): ((&str, usize), (&str, Metric))| VectorSettings {
            name: name.to_owned(),
            ..Settings::of_vector(dim, metric, Dtype::F32).vectors.remove(0)
        };
        let settings = Settings {
            note: Value::Null,
            vectors: VECTORS.into_iter().zip(metrics).map(vector).collect(),
            tenant_field: Some(path("owner")),
            indexed: vec![(path("kind"), ColumnKind::Keyword), (path("size"), ColumnKind::Integer)],
        };
        drop(Writer::open(&at, &settings).unwrap());
        let model = Model { points: BTreeMap::new(), metrics: BTreeMap::from(metrics) };
        let own = Collection::open(&at, &pool(2), 1 << 30).unwrap();
        let mut made = Self { _folder: folder, own, model, random: Random { seed, n: 0 } };
        made.upsert(0..90);
        drop(std::mem::replace(&mut made.own, {
            let other = TempDir::new().unwrap();
            drop(Writer::open(&other.path().join("c"), &settings).unwrap());
            Collection::open(&other.path().join("c"), &pool(1), 1 << 30).unwrap()
        }));
        made.own = Collection::build(&at, &pool(2), 1 << 30).unwrap();
        made.upsert(70..120);
        let gone: Vec<PointId> = (0..120).step_by(13).map(PointId::Num).collect();
        made.own.remove(&gone).unwrap();
        gone.iter().for_each(|id| drop(made.model.points.remove(id)));
        made
    }

    fn upsert(&mut self, ids: std::ops::Range<u64>) {
        for id in ids {
            let payload = self.random.payload();
            let mut own = Own { payload: payload.clone(), vectors: BTreeMap::new() };
            for (name, dim) in VECTORS {
                if name == "a" || self.random.below(3) > 0 {
                    own.vectors.insert(name, self.random.vector(dim));
                }
            }
            let rows: Vec<(&str, Rows)> = VECTORS
                .into_iter()
                .filter_map(|(name, dim)| {
                    let values = Values::F32(own.vectors.get(name)?.clone().into());
                    Some((name, Rows::new(values, dim).unwrap()))
                })
                .collect();
            let vectors: Vec<Vectors<'_>> = rows
                .iter()
                .map(|(name, rows)| Vectors { name, points: None, rows: Given::Rows(rows) })
                .collect();
            let id = PointId::Num(id);
            self.own.upsert(&[NewPoint { id, payload }], &vectors).unwrap();
            self.model.points.insert(id, own);
        }
    }

    fn example(&mut self, tenant: Option<&str>, vector: &str) -> Example {
        let dim = VECTORS.iter().find(|(name, _)| *name == vector).unwrap().1;
        let readable: Vec<PointId> = self
            .model
            .points
            .iter()
            .filter(|(_, own)| own.vectors.contains_key(vector))
            .filter(|(_, own)| {
                let owners = own.payload["owner"].as_array().unwrap();
                tenant.is_none_or(|tenant| owners.iter().any(|owner| owner == tenant))
            })
            .map(|(id, _)| *id)
            .collect();
        if self.random.below(2) == 0 {
            return Example::Id(readable[self.random.below(readable.len() as u64) as usize]);
        }
        Example::Vector(self.random.vector(dim))
    }

    fn examples(&mut self, tenant: Option<&str>, vector: &str, n: u64) -> Vec<Example> {
        (0..n).map(|_| self.example(tenant, vector)).collect()
    }

    fn pairs(&mut self, tenant: Option<&str>, vector: &str, n: u64) -> Vec<Pair> {
        let pair = |made: &mut Self| Pair {
            positive: made.example(tenant, vector),
            negative: made.example(tenant, vector),
        };
        (0..n).map(|_| pair(self)).collect()
    }

    /// A kind that needs no prefetch.
    fn kind(&mut self, tenant: Option<&str>, vector: &str) -> Kind {
        match self.random.below(8) {
            0 | 1 => Kind::Nearest(self.example(tenant, vector)),
            2 => Kind::Diverse {
                near: self.example(tenant, vector),
                diversity: self.random.below(11) as f32 / 10.0,
                candidates: [None, Some(15)][self.random.below(2) as usize],
            },
            3 => {
                let n = self.random.below(3) + 1;
                Kind::Recommend {
                    positive: self.examples(tenant, vector, n),
                    negative: self.examples(tenant, vector, n / 2),
                    strategy: [Strategy::AverageVector, Strategy::BestScore, Strategy::SumScores]
                        [self.random.below(3) as usize],
                }
            }
            4 => Kind::Discover {
                target: self.example(tenant, vector),
                context: self.pairs(tenant, vector, 3),
            },
            // Beyond both examples of a pair all points are as far on its negative side: rounding would order them.
            5 if self.model.metrics[vector] != Metric::L1 => {
                Kind::Context(self.pairs(tenant, vector, 2))
            }
            6 => {
                let rated = self.examples(tenant, vector, 3).into_iter();
                Kind::Feedback {
                    target: self.example(tenant, vector),
                    rated: rated.zip([0.9, 0.4, 0.4]).collect(),
                    weights: [1.0, 0.5, 0.3],
                }
            }
            _ => {
                let field = ["size", "sizes"][self.random.below(2) as usize];
                let direction = [Direction::Ascending, Direction::Descending];
                let start = [None, Some(Number::Int(10)), Some(Number::Float(300.5))];
                Kind::Order(
                    path(field),
                    direction[self.random.below(2) as usize],
                    start[self.random.below(3) as usize],
                )
            }
        }
    }

    fn formula(&mut self) -> Formula {
        let score = |i| Expression::Variable(Variable::Score(i));
        let size = || Expression::Variable(Variable::Payload(path("size")));
        let parts = vec![
            Expression::Product(vec![score(0), Expression::Constant(2.0)]),
            Expression::Abs(Box::new(score(1))),
            Expression::Condition(Box::new(self.random.filter())),
            Expression::Decay {
                shape: Shape::Exponential,
                x: Box::new(size()),
                target: None,
                scale: 300.0,
                midpoint: 0.5,
            },
            Expression::Div {
                left: Box::new(size()),
                right: Box::new(score(0)),
                by_zero: Some(9.0),
            },
        ];
        let size = Variable::Payload(path("size"));
        Formula {
            expression: Expression::Sum(parts),
            defaults: BTreeMap::from([(size, json!([50])), (Variable::Score(1), json!(0.25))]),
        }
    }

    fn stage(&mut self, tenant: Option<&str>, depth: u64) -> Prefetch {
        let vector = ["a", "a", "b"][self.random.below(3) as usize];
        let n = if depth == 0 { 0 } else { self.random.below(3) };
        let prefetch: Vec<Prefetch> = (0..n).map(|_| self.stage(tenant, depth - 1)).collect();
        let weights = (0..n).map(|i| [1.0, 0.5, 0.0][i as usize]).collect();
        let kind = match self.random.below(6) {
            0 if n > 0 => Kind::Fusion(Fusion::ReciprocalRank { k: 2, weights: None }),
            1 if n > 0 => Kind::Fusion(Fusion::ReciprocalRank { k: 7, weights: Some(weights) }),
            2 if n > 0 => Kind::Fusion(Fusion::DistributionBased),
            3 if n > 0 => Kind::Formula(self.formula()),
            0 => Kind::Id,
            _ => self.kind(tenant, vector),
        };
        let kind = if n > 0 && kind == Kind::Id { self.kind(tenant, vector) } else { kind };
        let threshold = [None, None, Some(0.3)][self.random.below(3) as usize];
        Prefetch {
            prefetch,
            kind,
            vector: vector.to_owned(),
            filter: self.random.filter(),
            threshold,
            limit: self.random.below(12) as usize + 1,
            exact: self.random.below(2) == 0,
            ..Prefetch::default()
        }
    }
}

fn compare(found: &[Scored], expected: &[Scored], what: &dyn std::fmt::Debug) {
    let ids = |points: &[Scored]| points.iter().map(|point| point.0).collect::<Vec<_>>();
    assert_eq!(ids(found), ids(expected), "{what:?}\n{found:?}\n{expected:?}");
    compare_scores(found, expected, what);
}

fn compare_scores(found: &[Scored], expected: &[Scored], what: &dyn std::fmt::Debug) {
    assert_eq!(found.len(), expected.len(), "{what:?}\n{found:?}\n{expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        let error = (found.1 - expected.1).abs();
        assert!(error <= TOLERANCE * (1.0 + expected.1.abs()), "{what:?}: {found:?} {expected:?}");
        assert_eq!(found.2, expected.2, "{what:?}");
    }
}

fn float(number: Number) -> f64 {
    match number {
        Number::Int(int) => int as f64,
        Number::Float(float) => float,
    }
}

fn scored(points: &[nearkin::engine::query::QueriedPoint]) -> Vec<Scored> {
    points
        .iter()
        .map(|found| (found.point.id, f64::from(found.score), found.order.map(float)))
        .collect()
}

fn tenant(random: &mut Random) -> Option<&'static str> {
    [None, Some(TENANTS[0]), Some(TENANTS[1]), Some(TENANTS[2])][random.below(4) as usize]
}

#[test]
fn trees_of_stages_find_what_a_plain_map_finds_under_every_metric() {
    for (seed, metric) in (1..).zip(Metric::ALL) {
        let mut made = Made::new(metric, seed);
        let (mut n_found, mut kinds) = (0, BTreeMap::<&str, usize>::new());
        for step in 0..400 {
            let tenant = tenant(&mut made.random);
            let (depth, offset) = (made.random.below(3), made.random.below(3) as usize);
            let query = Query { stage: made.stage(tenant, depth), offset };
            let found = made.own.query(tenant, &query, &With::default()).unwrap();
            let what = (seed, step, tenant, &query);
            let (shown, expected) = (scored(&found.points), made.model.query(tenant, &query));
            // Two lists of two points each give four scores of which two and two are equal but for rounding.
            match query.stage.kind {
                Kind::Fusion(Fusion::DistributionBased) => compare_scores(&shown, &expected, &what),
                _ => compare(&shown, &expected, &what),
            }
            for found in &found.points {
                let own = &made.model.points[&found.point.id];
                assert_eq!(found.point.payload.as_ref(), Some(&own.payload), "{what:?}");
            }
            n_found += found.points.len();
            found.stages.iter().for_each(|stage| *kinds.entry(stage.kind).or_default() += 1);
        }
        assert!(n_found > 800, "seed {seed}: {n_found} points are too few to compare");
        assert!(kinds.len() == 10 && kinds.values().all(|n| *n > 5), "seed {seed}: {kinds:?}");
    }
}

#[test]
fn groups_are_those_of_the_whole_list() {
    let mut made = Made::new(Metric::Cosine, 11);
    let mut n_points = 0;
    for step in 0..150 {
        let tenant = tenant(&mut made.random);
        let depth = made.random.below(2);
        let by = path(["kind", "tags", "sizes[]"][made.random.below(3) as usize]);
        let (n_groups, size) =
            (made.random.below(4) as usize + 1, made.random.below(5) as usize + 1);
        let query = Query { stage: made.stage(tenant, depth), offset: 0 };
        let ask = GroupQuery { query, by, n_groups, size };
        let found = made.own.query_groups(tenant, &ask, &With::default()).unwrap();
        let found: Vec<(Value, Vec<PointId>)> = found
            .groups
            .iter()
            .map(|group| {
                let key = match &group.key {
                    GroupKey::Integer(number) => json!(i64::try_from(*number).unwrap()),
                    GroupKey::Keyword(text) => json!(text),
                };
                (key, group.points.iter().map(|found| found.point.id).collect())
            })
            .collect();
        assert_eq!(found, made.model.groups(tenant, &ask), "step {step}: {tenant:?} {ask:?}");
        n_points += found.iter().map(|group| group.1.len()).sum::<usize>();
    }
    assert!(n_points > 300, "{n_points} points are too few to compare");
}

#[test]
fn samples_are_of_what_passes_and_a_seed_gives_one() {
    let mut made = Made::new(Metric::Dot, 12);
    let filter = made.random.filter();
    let query = |seed, limit| {
        let stage = Prefetch {
            kind: Kind::Sample(seed),
            filter: filter.clone(),
            limit,
            ..Prefetch::default()
        };
        Query { stage, offset: 0 }
    };
    let ids = |seed, limit| -> Vec<PointId> {
        let found = made.own.query(Some("t1"), &query(seed, limit), &With::default()).unwrap();
        found.points.iter().map(|found| found.point.id).collect()
    };
    let all = Query {
        stage: Prefetch { filter: filter.clone(), limit: 1000, ..Prefetch::default() },
        offset: 0,
    };
    let mut all: Vec<PointId> =
        made.model.query(Some("t1"), &all).into_iter().map(|point| point.0).collect();
    let mut whole = ids(1, 1000);
    assert_eq!(ids(1, 5), whole[..5]);
    assert_ne!(ids(1, 20), ids(2, 20));
    whole.sort_unstable();
    all.sort_unstable();
    assert_eq!(whole, all);
}

#[test]
fn a_matrix_holds_the_nearest_among_all_that_were_taken() {
    let made = Made::new(Metric::L2, 13);
    let matrix = MatrixQuery { sample: 1000, limit: 4, vector: "b".to_owned(), seed: 5 };
    let ask = Ask::new(Some("t2"), Filter::default());
    let found = made.own.search_matrix(&ask, &matrix).unwrap();
    assert!(found.ids.len() > 10 && found.ids.is_sorted());
    for (id, near) in found.ids.iter().zip(&found.neighbors) {
        let stage = Prefetch {
            kind: Kind::Nearest(Example::Id(*id)),
            vector: "b".to_owned(),
            limit: 4,
            ..Prefetch::default()
        };
        let expected = made.model.query(Some("t2"), &Query { stage, offset: 0 });
        let near: Vec<Scored> =
            near.iter().map(|&(at, score)| (found.ids[at], f64::from(score), None)).collect();
        compare(&near, &expected, id);
    }
    let few = made.own.search_matrix(&Ask::new(Some("nobody"), Filter::default()), &matrix);
    assert!(few.unwrap().ids.is_empty());
}

#[test]
fn more_than_a_search_selects_at_once_are_found_in_order() {
    let made = Made::new(Metric::L1, 14);
    let near = Kind::Nearest(Example::Vector(vec![0.1, 0.2, 0.3, 0.4]));
    let stage = Prefetch { kind: near, vector: "a".into(), limit: 5000, ..Prefetch::default() };
    let query = Query { stage, offset: 3 };
    let found = made.own.query(None, &query, &With::default()).unwrap();
    compare(&scored(&found.points), &made.model.query(None, &query), &"all");
    assert!(found.points.len() > 100);
}

fn near(example: Example) -> Query {
    let kind = Kind::Nearest(example);
    Query { stage: Prefetch { kind, vector: "a".into(), ..Prefetch::default() }, offset: 0 }
}

#[test]
fn an_example_of_another_tenant_is_not_there() {
    let made = Made::new(Metric::Cosine, 15);
    let foreign = made
        .model
        .points
        .iter()
        .find(|(_, own)| !own.payload["owner"].as_array().unwrap().contains(&json!("t0")));
    let foreign = *foreign.unwrap().0;
    let message = |id: PointId| {
        let error =
            made.own.query(Some("t0"), &near(Example::Id(id)), &With::default()).unwrap_err();
        assert_eq!(error.code(), "id_not_found");
        error.to_string().replace(&id.to_string(), "ID")
    };
    assert_eq!(message(foreign), message(PointId::Num(999_999)));
    assert!(made.own.query(None, &near(Example::Id(foreign)), &With::default()).is_ok());
}

#[test]
fn examples_are_looked_up_in_other_vectors_and_collections_under_the_same_tenant() {
    let (made, other) = (Made::new(Metric::Cosine, 16), Made::new(Metric::Dot, 17));
    let (own, other) = (made.own, Arc::new(other.own));
    let id = made.model.points.iter().find(|(_, own)| own.payload["owner"] == json!(["t0"]));
    let id = *id.unwrap().0;
    let mut query = near(Example::Id(id));
    query.stage.lookup = Some(Lookup { collection: Some("other".into()), vector: None });
    let error = own.query(None, &query, &With::default()).unwrap_err();
    assert_eq!(error.code(), "lookup");
    let mut find = |name: &str| {
        assert_eq!(name, "other");
        Ok(Arc::clone(&other))
    };
    let found = query.clone().looked_up(None, &mut find).unwrap();
    let found = own.query(None, &found, &With::default()).unwrap();
    assert_eq!(found.points.len(), 10);
    // A point of another collection is no point of this one: nothing is left out.
    let all = Prefetch { limit: 1000, ..query.stage.clone() };
    let all = Query { stage: all, offset: 0 }.looked_up(None, &mut find).unwrap();
    let n_all = own.query(None, &all, &With::default()).unwrap().points.len();
    assert_eq!(n_all as u64, own.n_points().unwrap());
    let error = query.looked_up(Some("nobody"), &mut find).unwrap_err();
    assert_eq!(error.code(), "id_not_found");
    let mut query = near(Example::Id(id));
    query.stage.lookup = Some(Lookup { collection: None, vector: Some("b".into()) });
    let error = own.query(None, &query, &With::default()).unwrap_err();
    assert!(["vector_dim", "vector_not_found"].contains(&error.code()), "{error}");
}

#[test]
fn what_cannot_be_asked_is_refused_with_its_place() {
    let made = Made::new(Metric::Cosine, 18);
    let fused = |prefetch| Prefetch {
        prefetch,
        kind: Kind::Fusion(Fusion::ReciprocalRank { k: 2, weights: None }),
        ..Prefetch::default()
    };
    let deep = |n: usize| {
        (0..n).fold(near(Example::Vector(vec![1.0; 4])).stage, |stage, _| fused(vec![stage]))
    };
    let of_kind = |kind| Prefetch { kind, vector: "a".into(), ..Prefetch::default() };
    let average = |positive| Kind::Recommend {
        positive,
        negative: Vec::new(),
        strategy: Strategy::AverageVector,
    };
    let near = |values: Vec<f32>| of_kind(Kind::Nearest(Example::Vector(values)));
    let cases = [
        (fused(Vec::new()), "query_prefetch: query: fusion of no prefetch"),
        (
            Prefetch { prefetch: vec![near(vec![1.0; 4])], ..Prefetch::default() },
            "query_prefetch: query: none, expected one for what was prefetched",
        ),
        (
            fused(vec![fused(vec![Prefetch { limit: 0, ..Prefetch::default() }])]),
            "query_range: prefetch[0].prefetch[0].limit: 0, expected 1 to 100000",
        ),
        (deep(17), "query_size: "),
        (fused(vec![near(vec![1.0; 4]); 65]), "query_size: prefetch: 65 prefetches, limit 64"),
        (of_kind(average(Vec::new())), "query_examples: query.recommend.positive: no example"),
        (near(vec![1.0; 5]), "vector_dim: queries have 5 values, points have 4"),
        (
            near(vec![1.0, f32::NAN, 0.0, 0.0]),
            "vector_not_finite: query: element 1 of a vector is NaN",
        ),
        (near(vec![0.0; 4]), "vector_zero_norm: "),
        (Prefetch { ef: Some(0), ..near(vec![1.0; 4]) }, "ef_range: "),
        (Prefetch { vector: "c".into(), ..near(vec![1.0; 4]) }, "vector_name: \"c\""),
        (
            Prefetch { threshold: Some(f32::NAN), ..near(vec![1.0; 4]) },
            "query_value: score_threshold: NaN",
        ),
    ];
    for (stage, expected) in cases {
        let query = Query { stage, offset: 0 };
        let error = made.own.query(None, &query, &With::default()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}, expected {expected}");
    }
    assert!(made.own.query(None, &Query { stage: deep(16), offset: 0 }, &With::default()).is_ok());
}

#[test]
fn an_example_that_is_named_twice_is_left_out_once() {
    // It made two equal places of one point, which no set can be made of.
    let made = Made::new(Metric::Dot, 20);
    let id = *made.model.points.keys().nth(7).unwrap();
    let positive = vec![Example::Id(id); 3];
    for strategy in [Strategy::AverageVector, Strategy::BestScore] {
        let (positive, negative) = (positive.clone(), positive[..1].to_vec());
        let stage = Prefetch {
            kind: Kind::Recommend { positive, negative, strategy },
            vector: "a".into(),
            limit: 1000,
            ..Prefetch::default()
        };
        let query = Query { stage, offset: 0 };
        let found = made.own.query(None, &query, &With::default()).unwrap();
        compare(&scored(&found.points), &made.model.query(None, &query), &strategy);
    }
}

#[test]
fn a_condition_of_a_formula_may_ask_for_ids_and_vectors() {
    let made = Made::new(Metric::Cosine, 19);
    let id = *made.model.points.keys().nth(5).unwrap();
    let of = |condition| {
        let filter = Filter { must: vec![condition], ..Filter::default() };
        Expression::Condition(Box::new(filter))
    };
    let two = Expression::Product(vec![Expression::Constant(2.0), of(Condition::HasId(vec![id]))]);
    let expression = Expression::Sum(vec![two, of(Condition::HasVector("b".into()))]);
    let formula = Formula { expression, defaults: BTreeMap::new() };
    let stage = Prefetch {
        prefetch: vec![Prefetch { limit: 1000, ..Prefetch::default() }],
        kind: Kind::Formula(formula),
        limit: 1000,
        ..Prefetch::default()
    };
    let found = made.own.query(None, &Query { stage, offset: 0 }, &With::default()).unwrap();
    assert_eq!(found.points[0].point.id, id);
    for found in &found.points {
        let own = &made.model.points[&found.point.id];
        let expected = u8::from(own.vectors.contains_key("b")) + 2 * u8::from(found.point.id == id);
        assert_eq!(found.score, f32::from(expected));
    }
}
