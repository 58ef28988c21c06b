//! What every search keeps, whatever the way: one collection large enough that all ways are taken. `docs/invariants.md` says what was
//! broken to see each of these fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use nearkin::core::ids::PointId;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Dtype, Rows, Values};
use nearkin::engine::{Answer, Ask, Collection, How, NewPoint, Settings, Vectors, Writer};
use nearkin::plan::cost::Way;
use nearkin::store::columns::Kind;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::collection::{filter, pool};

const N: usize = 20_000;
const DIM: usize = 24;
const K: usize = 10;
const SEED: u64 = 4;

/// Rows of a mixture: 60 centres of unequal weight, each a flat cloud. Queries come from the same.
fn mixture(n: usize, seed: u64) -> Rows {
    let uniform = |seed, i| (stream(seed, i) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    let mut all = Vec::with_capacity(n * DIM);
    for row in 0..n as u64 {
        let centre = centre_of(seed, row);
        for i in 0..DIM as u64 {
            let wide = if i % 3 == 0 { 0.5 } else { 0.12 };
            let own = uniform(seed ^ 3, row * DIM as u64 + i);
            all.push((uniform(77, centre << 20 | i) + wide * own) as f32);
        }
    }
    Rows::new(Values::F32(all.into()), DIM).unwrap()
}

fn centre_of(seed: u64, row: u64) -> u64 {
    stream(seed ^ 1, row) % 60 * (stream(seed ^ 2, row) % 60) / 60
}

struct Made {
    _folder: TempDir,
    rows: Rows,
    queries: Rows,
    collections: [Collection; 2],
}

/// Sets by name: which points are in it. Each is a filter on a field, a list of ids and a tenant at once.
fn sets() -> Vec<(String, Box<dyn Fn(usize) -> bool + Sync + Send>)> {
    let mut sets: Vec<(String, Box<dyn Fn(usize) -> bool + Sync + Send>)> = Vec::new();
    for (name, n) in [("1", 1), ("k-1", K - 1), ("k", K), ("k+1", K + 1), ("60", 60), ("300", 300)]
    {
        sets.push((name.into(), Box::new(move |i| i < n)));
    }
    for share in [100, 30, 10, 2] {
        let chance = move |i: usize| stream(9, i as u64).is_multiple_of(share);
        sets.push((format!("one in {share}"), Box::new(chance)));
    }
    sets.push(("all but one".into(), Box::new(|i| i != 5)));
    // Whole clusters: from elsewhere no link leads into them, so that walks end before they found enough.
    sets.push(("clusters".into(), Box::new(|i| centre_of(SEED, i as u64) < 6)));
    sets
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let folder = TempDir::new().unwrap();
    let settings = Settings {
        tenant_field: Some("in".parse().unwrap()),
        indexed: vec![("in".parse().unwrap(), Kind::Keyword)],
        ..Settings::of_vector(DIM, Metric::L2, Dtype::F32)
    };
    let (rows, sets) = (mixture(N, SEED), sets());
    let collections = [1, 3].map(|n_threads| {
        let path = folder.path().join(format!("c{n_threads}"));
        let mut writer = Writer::open(&path, &settings).unwrap();
        for start in (0..N).step_by(5000) {
            let member = |i: usize| {
                let names: Vec<&str> =
                    sets.iter().filter(|set| set.1(i)).map(|set| set.0.as_str()).collect();
                NewPoint { id: PointId::Num(i as u64), payload: json!({"in": names}) }
            };
            let points: Vec<NewPoint> = (start..start + 5000).map(member).collect();
            let rows = rows.slice(start..start + 5000);
            writer.upsert(&points, &Vectors::only(&rows)).unwrap();
        }
        drop(writer);
        Collection::build(&path, &pool(n_threads), 1 << 30).unwrap()
    });
    Made { _folder: folder, rows, queries: mixture(200, 5), collections }
});

fn how(recall: f32) -> How {
    How { k: K, recall, ..How::default() }
}

fn exact() -> How {
    How { exact: true, ..how(0.0) }
}

/// Three ways to ask for a set.
fn asks(name: &str, is_in: &dyn Fn(usize) -> bool) -> [Ask; 3] {
    let ids: Vec<usize> = (0..N).filter(|&i| is_in(i)).collect();
    let by_ids = match ids.len() {
        // As many as a filter may list.
        ..=10_000 => json!({"must": [{"has_id": ids}]}),
        _ => json!({"must_not": [{"has_id": (0..N).filter(|&i| !is_in(i)).collect::<Vec<_>>()}]}),
    };
    let by_field = json!({"must": [{"key": "in", "match": {"value": name}}]});
    [
        Ask::new(None, filter(by_field)),
        Ask::new(None, filter(by_ids)),
        Ask::new(Some(name), filter(json!({}))),
    ]
}

fn distance(a: &Rows, i: usize, b: &Rows, j: usize) -> f64 {
    let (mut x, mut y) = (vec![0.0; DIM], vec![0.0; DIM]);
    a.widen(i, &mut x);
    b.widen(j, &mut y);
    x.iter().zip(&y).map(|(x, y)| f64::from(x - y).powi(2)).sum()
}

/// The distance of the `k`-th nearest in a set, by the definition.
fn kth(made: &Made, q: usize, is_in: &dyn Fn(usize) -> bool) -> Vec<f64> {
    let mut all: Vec<f64> =
        (0..N).filter(|&i| is_in(i)).map(|i| distance(&made.queries, q, &made.rows, i)).collect();
    all.sort_unstable_by(f64::total_cmp);
    all.truncate(K);
    all
}

fn ids(answer: &Answer) -> Vec<PointId> {
    answer.points.iter().map(|point| point.id).collect()
}

/// The answers to queries that all ask for the same, so many at once.
fn answers(queries: &Rows, ask: &Ask, how: &How, batch: usize) -> Vec<Answer> {
    let asks = vec![ask.clone(); batch];
    let starts = (0..queries.n_rows()).step_by(batch);
    let some = |start| queries.slice(start..start + batch);
    starts.flat_map(|start| MADE.collections[1].search(&some(start), &asks, how).unwrap()).collect()
}

#[test]
fn recall_is_what_was_asked_for_and_depends_on_the_set_alone() {
    let made = &*MADE;
    let n_queries = 100;
    let queries = made.queries.slice(0..n_queries);
    let everyone: (String, Box<dyn Fn(usize) -> bool + Sync + Send>) =
        ("".into(), Box::new(|_| true));
    let mut ways: BTreeMap<Way, usize> = BTreeMap::new();
    for (name, is_in) in [everyone].into_iter().chain(sets()) {
        let asks: Vec<Ask> = match name.is_empty() {
            true => vec![Ask::default()],
            false => asks(&name, &is_in).into(),
        };
        let truth: Vec<Vec<f64>> = (0..n_queries).map(|q| kth(made, q, &is_in)).collect();
        let n_matches = (0..N).filter(|&i| is_in(i)).count();
        for (asked, how) in [(0.9, how(0.9)), (0.99, how(0.99)), (1.0, exact())] {
            for (ask, batch) in asks.iter().flat_map(|ask| [(ask, n_queries), (ask, 1)]) {
                let answers = answers(&queries, ask, &how, batch);
                let (mut n_found, mut n_wanted) = (0, 0);
                for ((q, answer), truth) in answers.iter().enumerate().zip(&truth) {
                    let place =
                        format!("set {name:?}, recall {asked}, query {q}, {:?}", answer.way);
                    *ways.entry(answer.way).or_default() += 1;
                    assert_eq!(answer.n_matches as usize, n_matches, "{place}");
                    assert_eq!(answer.points.len(), n_matches.min(K), "{place}");
                    let distinct: BTreeSet<PointId> = ids(answer).into_iter().collect();
                    assert_eq!(distinct.len(), answer.points.len(), "{place}: a point twice");
                    for (point, least) in answer.points.iter().zip(truth) {
                        let PointId::Num(id) = point.id else { panic!("{place}") };
                        assert!(is_in(id as usize), "{place}: {id} is not in the set");
                        let own = distance(&made.queries, q, &made.rows, id as usize);
                        assert!(
                            (f64::from(point.score) - own).abs() < 1e-4,
                            "{place}: not its score"
                        );
                        assert!(own >= least - 1e-4, "{place}: nearer than the nearest");
                        n_found += usize::from(own <= truth.last().unwrap() + 1e-5);
                    }
                    n_wanted += truth.len();
                    let is_planned =
                        answer.choice.predicted.iter().any(|(way, _)| *way == answer.choice.way);
                    assert!(
                        is_planned && (answer.way == answer.choice.way || answer.way.is_exact()),
                        "{place}"
                    );
                }
                let found = n_found as f64 / n_wanted as f64;
                // 1,000 neighbors tell a recall of 0.9 to about 0.03.
                assert!(
                    found >= asked - 0.03 * f64::from(u8::from(asked < 1.0)),
                    "set {name:?}: {found} for {asked}, {ask:?}"
                );
            }
        }
    }
    for way in [Way::Graph, Way::Bounds, Way::Listed] {
        assert!(ways.contains_key(&way), "{way:?} was never taken: {ways:?}");
    }
    assert!(
        [Way::Coded, Way::Signs, Way::Tree].iter().any(|way| ways.contains_key(way)),
        "{ways:?}"
    );
}

#[test]
fn exact_answers_are_the_same_however_a_set_is_asked_for_and_for_any_threads_and_batch() {
    let made = &*MADE;
    let queries = made.queries.slice(100..120);
    for (name, is_in) in sets() {
        let mut all: Vec<Vec<Vec<PointId>>> = Vec::new();
        for ask in asks(&name, &is_in) {
            for collection in &made.collections {
                let together =
                    collection.search(&queries, &vec![ask.clone(); 20], &exact()).unwrap();
                all.push(together.iter().map(ids).collect());
                let alone = (0..20).map(|q| {
                    let some = queries.slice(q..q + 1);
                    ids(&collection.search(&some, std::slice::from_ref(&ask), &exact()).unwrap()[0])
                });
                all.push(alone.collect());
            }
        }
        assert!(all.iter().all(|answers| *answers == all[0]), "{name}");
    }
}

#[test]
fn a_stricter_filter_never_gains_and_a_stranger_finds_nothing() {
    let made = &*MADE;
    let queries = made.queries.slice(120..140);
    let field = |name: &str| json!({"key": "in", "match": {"value": name}});
    for how in [how(0.95), exact()] {
        let ask = |conditions: Vec<Value>, tenant: Option<&str>| {
            let one = Ask::new(tenant, filter(json!({"must": conditions})));
            made.collections[0].search(&queries, &vec![one; 20], &how).unwrap()
        };
        for (loose, strict) in
            [("all but one", "one in 2"), ("one in 2", "one in 100"), ("300", "k")]
        {
            let wide = ask(vec![field(loose)], None);
            let narrow = ask(vec![field(loose), field(strict)], None);
            for (wide, narrow) in wide.iter().zip(&narrow) {
                assert!(narrow.n_matches <= wide.n_matches);
                assert!(narrow.points.len() <= wide.points.len());
                if how.exact {
                    let pairs = wide.points.iter().zip(&narrow.points);
                    pairs.for_each(|(wide, narrow)| assert!(wide.score <= narrow.score + 1e-5));
                }
            }
        }
        for tenant in ["nobody", "", "300 ", "one in"] {
            let answers = ask(vec![], Some(tenant));
            assert!(answers.iter().all(|answer| answer.points.is_empty() && answer.n_matches == 0));
        }
        // The tenant of few sees no point beyond its own, whatever the filter lets through.
        for answer in ask(vec![field("all but one")], Some("k")) {
            assert!(answer.points.iter().all(|point| matches!(point.id, PointId::Num(0..10))));
            assert_eq!(answer.points.len(), 9);
        }
    }
}
