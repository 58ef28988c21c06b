//! A collection with an index, and one that changes: what near answers promise, and what a change leaves of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nearkin::core::ids::PointId;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Dtype, Rows};
use nearkin::engine::{
    Answer, Ask, Collection, Given, How, NewPoint, RecallFacts, VectorShape, Vectors,
};
use nearkin::store::disk::FileDisk;
use nearkin::store::sealed::Sealed;
use serde_json::json;

use crate::collection::{Made, asks, filter, made, payload, pool, rows, truth};

fn how(k: usize, recall: f32) -> How {
    How { k, recall, ..How::default() }
}

/// How many of the `k` nearest an answer has, ties counted, and of how many.
fn found(
    made: &Made,
    queries: &Rows,
    asks: &[Ask],
    answers: &[Answer],
    metric: Metric,
) -> (usize, usize) {
    let (mut n_found, mut n_wanted) = (0, 0);
    for (q, (ask, answer)) in asks.iter().zip(answers).enumerate() {
        let truth = truth(made, &queries.slice(q..q + 1), ask, metric);
        let k = answer.points.len();
        assert_eq!(answer.n_matches, truth.len() as u64, "{ask:?}");
        let by_id: BTreeMap<PointId, f32> = truth.iter().map(|&(d, id)| (id, d)).collect();
        let ids: BTreeSet<PointId> = answer.points.iter().map(|point| point.id).collect();
        assert_eq!(ids.len(), k, "a point twice: {ask:?}");
        let last = truth[..k].last().map_or(0.0, |last| last.0);
        for point in &answer.points {
            let own = by_id
                .get(&point.id)
                .unwrap_or_else(|| panic!("{} does not pass {ask:?}", point.id));
            let score = metric.score(*own);
            assert!((point.score - score).abs() <= 1e-4 * (1.0 + score.abs()), "not its score");
            n_found += usize::from(*own <= last + 1e-5 * (1.0 + last.abs()));
        }
        assert!(answer.points.is_sorted_by(|a, b| match metric {
            Metric::Cosine | Metric::Dot => a.score >= b.score,
            Metric::L2 | Metric::L1 => a.score <= b.score,
        }));
        n_wanted += k;
    }
    (n_found, n_wanted)
}

#[test]
fn near_answers_are_whole_pass_and_are_mostly_the_nearest() {
    for (dtype, metric) in [
        (Dtype::F32, Metric::Cosine),
        (Dtype::F16, Metric::Dot),
        (Dtype::U8, Metric::L2),
        (Dtype::F32, Metric::L1),
    ] {
        let made = made(dtype, metric, 4000, 24);
        let collection = Collection::build(&made.path, &pool(2), 1 << 30).unwrap();
        let asks = asks();
        let queries = rows(dtype, asks.len(), 24, 5);
        let mut ways = BTreeSet::new();
        for k in [1, 10, 300] {
            let answers = collection.search(&queries, &asks, &how(k, 0.95)).unwrap();
            for answer in &answers {
                ways.insert(answer.way);
                assert_eq!(
                    answer.points.len() as u64,
                    answer.n_matches.min(k as u64),
                    "{:?}",
                    answer.way
                );
            }
            let (n_found, n_wanted) = found(&made, &queries, &asks, &answers, metric);
            assert!(n_found * 100 >= n_wanted * 93, "{metric} k {k}: {n_found} of {n_wanted}");
            let exact = How { exact: true, ..how(k, 0.0) };
            let answers = collection.search(&queries, &asks, &exact).unwrap();
            assert!(answers.iter().all(|answer| answer.way.is_exact()));
            assert_eq!(found(&made, &queries, &asks, &answers, metric), (n_wanted, n_wanted));
        }
        assert!(ways.iter().any(|way| !way.is_exact()), "{metric}: nothing was near: {ways:?}");
    }
}

#[test]
fn live_recall_is_that_of_the_answers_that_were_given() {
    let made = made(Dtype::F32, Metric::L2, 6000, 32);
    let collection = Collection::build(&made.path, &pool(2), 1 << 30).unwrap();
    let queries = rows(Dtype::F32, 150, 32, 77);
    let asks = vec![Ask::default(); 150];
    let narrow = How { k: 10, ef: Some(10), ..How::default() };
    let search = |range: std::ops::Range<usize>| {
        let some = queries.slice(range.clone());
        collection.search(&some, &asks[range], &narrow).unwrap()
    };
    search(0..10);
    assert!(!collection.check_recall(Duration::MAX).unwrap());
    assert_eq!(collection.recall_facts(), RecallFacts::default(), "nobody asked for it");
    assert_eq!(collection.sample_recall(1.5).unwrap_err().code(), "recall_share");
    collection.sample_recall(1.0).unwrap();
    let (mut n_found, mut n_wanted) = (0, 0);
    for start in [0, 50, 100] {
        let answers = search(start..start + 50);
        assert!(answers.iter().all(|answer| !answer.way.is_exact()));
        let some = queries.slice(start..start + 50);
        let (own, all) = found(&made, &some, &asks[..50], &answers, Metric::L2);
        (n_found, n_wanted) = (n_found + own as u64, n_wanted + all as u64);
        while collection.check_recall(Duration::ZERO).unwrap() {}
    }
    assert!(n_found < n_wanted, "a beam of ten finds all: the test says nothing");
    let facts = RecallFacts { n_checked: 150, n_wanted, n_found, n_left_out: 0 };
    assert_eq!(collection.recall_facts(), facts);
    // Exact answers are not asked again; of what came before a write nothing is known any more; more than wait are left out.
    let exact = How { exact: true, ..narrow.clone() };
    collection.search(&queries, &asks, &exact).unwrap();
    search(0..5);
    collection.remove(&[PointId::Num(3)]).unwrap();
    collection.check_recall(Duration::MAX).unwrap();
    assert_eq!(collection.recall_facts(), RecallFacts { n_left_out: 5, ..facts });
    search(0..150);
    collection.check_recall(Duration::MAX).unwrap();
    let after = collection.recall_facts();
    assert_eq!((after.n_checked, after.n_left_out), (150 + 64, 5 + 86));
    // Places mean other points after a new index.
    search(0..5);
    collection.rebuild().unwrap();
    collection.check_recall(Duration::MAX).unwrap();
    assert_eq!(collection.recall_facts().n_left_out, 5 + 86 + 5);
}

#[test]
fn a_batch_that_shares_sets_finds_as_much_as_the_same_queries_one_by_one() {
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let made = made(Dtype::F32, metric, 4000, 24);
        let few = asks();
        let n = 20 * few.len();
        let queries = rows(Dtype::F32, n, 24, 31);
        let asks: Vec<Ask> = (0..n).map(|q| few[q % few.len()].clone()).collect();
        let how = how(10, 0.95);
        let mut batches: Vec<Vec<Answer>> = Vec::new();
        for n_threads in [1, 3] {
            let pool = pool(n_threads);
            let collection = Collection::build(&made.path, &pool, 1 << 30).unwrap();
            batches.push(collection.search(&queries, &asks, &how).unwrap());
            if n_threads == 1 {
                let one = |q: usize| {
                    let query = queries.slice(q..q + 1);
                    collection.search(&query, &asks[q..q + 1], &how).unwrap().swap_remove(0)
                };
                batches.push((0..n).map(one).collect());
            }
        }
        let found: Vec<(usize, usize)> =
            batches.iter().map(|answers| found(&made, &queries, &asks, answers, metric)).collect();
        let (one_by_one, n_wanted) = found[1];
        for &(n_found, _) in &found {
            assert!(n_found * 100 >= one_by_one * 99, "{metric}: {found:?}");
            assert!(n_found * 100 >= n_wanted * 93, "{metric}: {found:?}");
        }
        for (a, b) in batches[0].iter().zip(&batches[1]) {
            assert_eq!((a.points.len(), a.n_matches), (b.points.len(), b.n_matches));
        }
    }
}

#[test]
fn a_wider_beam_finds_more_and_the_widest_all() {
    let made = made(Dtype::F32, Metric::L2, 5000, 32);
    let collection = Collection::build(&made.path, &pool(2), 1 << 30).unwrap();
    let queries = rows(Dtype::F32, 100, 32, 77);
    let asks = vec![Ask::default(); 100];
    let recall = |ef| {
        let how = How { ef: Some(ef), ..how(10, 0.0) };
        let answers = collection.search(&queries, &asks, &how).unwrap();
        found(&made, &queries, &asks, &answers, Metric::L2).0
    };
    let recalls = [10, 40, 160, 2000].map(recall);
    assert!(recalls[0] < recalls[2] && recalls[3] >= 999, "{recalls:?}");
}

#[test]
fn a_change_is_seen_by_the_next_question_and_nothing_else_changes() {
    let mut made = made(Dtype::F32, Metric::Cosine, 1200, 16);
    let mut collection = Collection::build(&made.path, &pool(2), 1 << 30).unwrap();
    let asks = asks();
    let queries = rows(Dtype::F32, asks.len(), 16, 5);
    for step in 0..30u64 {
        let random = |i: u64| stream(step, i);
        if step % 3 == 2 {
            let all: Vec<PointId> = made.model.keys().copied().collect();
            let gone: Vec<PointId> = (0..40)
                .map(|i| all[random(i) as usize % all.len()])
                .chain([PointId::Num(1)])
                .collect();
            let known = gone.iter().filter(|id| made.model.remove(id).is_some()).count();
            assert_eq!(collection.remove(&gone).unwrap(), known);
        } else {
            let ids: BTreeSet<u64> = (0..60).map(|i| random(i) % 5000).collect();
            let rows = rows(Dtype::F32, ids.len(), 16, 100 + step);
            let points: Vec<NewPoint> = ids
                .iter()
                .map(|&i| NewPoint { id: PointId::Num(i), payload: payload(step, i) })
                .collect();
            collection.upsert(&points, &Vectors::only(&rows)).unwrap();
            for (i, point) in points.into_iter().enumerate() {
                let mut row = vec![0.0; 16];
                rows.widen(i, &mut row);
                made.model.insert(point.id, (row, point.payload));
            }
        }
        if step % 10 == 4 {
            drop(collection);
            collection = Collection::open(&made.path, &pool(2), 1 << 30).unwrap();
        }
        if step % 7 == 3 {
            assert!(collection.seal().unwrap(), "something changed");
            assert!(!collection.seal().unwrap(), "nothing has changed");
        }
        if step == 20 {
            collection.rebuild().unwrap();
        }
        assert_eq!(collection.n_points().unwrap(), made.model.len() as u64);
        let exact = How { exact: true, ..how(10, 0.0) };
        let answers = collection.search(&queries, &asks, &exact).unwrap();
        for answer in &answers {
            assert_eq!(answer.points.len() as u64, answer.n_matches.min(10));
        }
        let (n_found, n_wanted) = found(&made, &queries, &asks, &answers, Metric::Cosine);
        assert_eq!(n_found, n_wanted, "step {step}");
        let answers = collection.search(&queries, &asks, &how(10, 0.95)).unwrap();
        let (n_found, n_wanted) = found(&made, &queries, &asks, &answers, Metric::Cosine);
        assert!(n_found * 100 >= n_wanted * 93, "step {step}: {n_found} of {n_wanted}");
    }
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    let made = made(Dtype::F32, Metric::L2, 300, 8);
    let collection = Arc::new(Collection::build(&made.path, &pool(1), 1 << 30).unwrap());
    let is_done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (collection, is_done) = (Arc::clone(&collection), Arc::clone(&is_done));
            std::thread::spawn(move || {
                let query = rows(Dtype::F32, 1, 8, 3);
                let ask = [Ask::new(
                    None,
                    filter(json!({"must": [{"key": "batch", "range": {"gte": 0}}]})),
                )];
                let mut n_seen = BTreeSet::new();
                while !is_done.load(Ordering::Relaxed) {
                    let answer = &collection.search(&query, &ask, &how(1000, 0.9)).unwrap()[0];
                    assert!(
                        answer.points.len().is_multiple_of(10),
                        "{} of a batch",
                        answer.points.len()
                    );
                    assert_eq!(answer.points.len() as u64, answer.n_matches);
                    n_seen.insert(answer.points.len());
                }
                n_seen.len()
            })
        })
        .collect();
    for batch in 0..30u64 {
        let rows = rows(Dtype::F32, 10, 8, batch);
        let points: Vec<NewPoint> = (0..10)
            .map(|i| NewPoint {
                id: PointId::Num(100_000 + batch * 10 + i),
                payload: json!({"batch": batch}),
            })
            .collect();
        collection.upsert(&points, &Vectors::only(&rows)).unwrap();
    }
    is_done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 1, "one version was seen");
    }
}

#[test]
fn a_point_has_several_vectors_or_lacks_some() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("c");
    let mut settings = nearkin::engine::Settings::of_vector(6, Metric::L2, Dtype::F32);
    settings.vectors.push(nearkin::engine::VectorSettings {
        name: "title".into(),
        dim: 9,
        metric: Metric::Cosine,
        dtype: Dtype::F16,
        shape: VectorShape::Dense,
    });
    let mut writer = nearkin::engine::Writer::open(&path, &settings).unwrap();
    let (bodies, titles) = (rows(Dtype::F32, 400, 6, 1), rows(Dtype::F16, 200, 9, 2));
    let points: Vec<NewPoint> = (0..400)
        .map(|i| NewPoint { id: PointId::Num(i), payload: json!({"even": i % 2 == 0}) })
        .collect();
    let even: Vec<usize> = (0..400).step_by(2).collect();
    let vectors = [
        Vectors { name: "default", points: None, rows: Given::Rows(&bodies) },
        Vectors { name: "title", points: Some(&even), rows: Given::Rows(&titles) },
    ];
    writer.upsert(&points, &vectors).unwrap();
    drop(writer);
    let title = |k: usize, exact| How { k, exact, vector: "title".into(), ..How::default() };
    for is_built in [false, true] {
        let collection = match is_built {
            true => Collection::build(&path, &pool(2), 1 << 30).unwrap(),
            false => Collection::open(&path, &pool(2), 1 << 30).unwrap(),
        };
        let more: Vec<NewPoint> = (400..402)
            .map(|i| NewPoint { id: PointId::Num(i), payload: json!({"even": i % 2 == 0}) })
            .collect();
        let both = [
            Vectors { name: "default", points: Some(&[1]), rows: Given::Rows(&bodies.slice(0..1)) },
            Vectors { name: "title", points: Some(&[0]), rows: Given::Rows(&titles.slice(7..8)) },
        ];
        collection.upsert(&more, &both).unwrap();
        for exact in [false, true] {
            let query = titles.slice(7..8);
            let ask = [Ask::default()];
            let answer = &collection.search(&query, &ask, &title(1000, exact)).unwrap()[0];
            let ids: Vec<PointId> = answer.points.iter().map(|point| point.id).collect();
            assert_eq!(ids.len(), 201, "only points that have the vector");
            assert!(ids[..2].contains(&PointId::Num(14)) && ids[..2].contains(&PointId::Num(400)));
            let is_even = |id: &PointId| matches!(id, PointId::Num(n) if n % 2 == 0);
            assert!(ids.iter().all(is_even));
            let answer = &collection.search(&bodies.slice(0..1), &ask, &how(1000, 0.9)).unwrap()[0];
            assert_eq!(answer.points.len(), 401);
            assert!(!answer.points.iter().any(|point| point.id == PointId::Num(400)));
        }
        let other = How { vector: "other".into(), ..How::default() };
        let error = collection.search(&bodies.slice(0..1), &[Ask::default()], &other).unwrap_err();
        assert_eq!(error.code(), "vector_name");
        let both =
            [Vectors { name: "title", points: None, rows: Given::Rows(&titles.slice(0..1)) }];
        assert_eq!(collection.upsert(&more, &both).unwrap_err().code(), "vector_rows");
    }
}

#[test]
fn an_index_whose_points_were_all_replaced_four_times_finds_as_much_as_a_new_one() {
    let made = made(Dtype::F32, Metric::L2, 2000, 16);
    let collection = Collection::build(&made.path, &pool(2), 1 << 30).unwrap();
    let mut last = Vec::new();
    for round in 0..4u64 {
        for part in 0..4u64 {
            let rows = rows(Dtype::F32, 500, 16, 50 + round * 4 + part);
            let points: Vec<NewPoint> = (part * 500..(part + 1) * 500)
                .map(|i| NewPoint { id: PointId::Num(i * 3), payload: payload(round, i) })
                .collect();
            collection.upsert(&points, &Vectors::only(&rows)).unwrap();
            collection.seal().unwrap();
            if round == 3 {
                last.push((points, rows));
            }
        }
    }
    let recall = |collection: &Collection| {
        let how = How { ef: Some(24), ..how(10, 0.0) };
        let (mut n_found, mut n_self) = (0, 0);
        for (points, rows) in &last {
            let asks = vec![Ask::default(); 500];
            let near = collection.search(rows, &asks, &how).unwrap();
            let exact = collection.search(rows, &asks, &How { exact: true, ..self::how(10, 0.0) });
            for ((near, exact), point) in near.iter().zip(&exact.unwrap()).zip(points) {
                assert!(!near.way.is_exact() && exact.way.is_exact());
                let last = exact.points[9].score;
                n_found += near.points.iter().filter(|point| point.score <= last).count();
                let is_self =
                    |found: &nearkin::engine::Found| found.id == point.id || found.score == 0.0;
                n_self += usize::from(is_self(&near.points[0]));
            }
        }
        (n_found as f64 / 20_000.0, n_self)
    };
    let (changed, n_self) = recall(&collection);
    collection.rebuild().unwrap();
    let (fresh, _) = recall(&collection);
    assert!(changed >= fresh - 0.01, "{changed} after changes, {fresh} built anew");
    assert!(n_self >= 1998, "{n_self} of 2000 find themselves");
}

#[test]
fn a_damaged_or_missing_index_costs_no_point_and_is_said_and_built_again() {
    let made = made(Dtype::F32, Metric::Cosine, 600, 12);
    drop(Collection::build(&made.path, &pool(1), 1 << 30).unwrap());
    let asks = asks();
    let queries = rows(Dtype::F32, asks.len(), 12, 5);
    let sealed = || -> Vec<std::path::PathBuf> {
        let all = std::fs::read_dir(&made.path).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.extension().is_some_and(|e| e == "sealed")).collect()
    };
    let whole = |collection: &Collection| {
        let answers = collection.search(&queries, &asks, &how(10, 0.95)).unwrap();
        let (n_found, n_wanted) = found(&made, &queries, &asks, &answers, Metric::Cosine);
        assert!(n_found * 100 >= n_wanted * 95);
        answers.iter().any(|answer| !answer.way.is_exact())
    };
    assert!(whole(&Collection::open(&made.path, &pool(1), 1 << 30).unwrap()), "the index is used");
    for file in 0..sealed().len() {
        for damage in ["flip", "cut", "remove"] {
            let path = &sealed()[file];
            let mut bytes = std::fs::read(path).unwrap();
            match damage {
                // Every file begins with its header; the links and places that follow are found out too.
                "flip" => bytes[20] ^= 4,
                _ => bytes.truncate(bytes.len() - 1),
            }
            match damage {
                "remove" => std::fs::remove_file(path).unwrap(),
                _ => std::fs::write(path, bytes).unwrap(),
            }
            let collection = Collection::open(&made.path, &pool(1), 1 << 30).unwrap();
            assert!(!whole(&collection), "a damaged index answers");
            let notes = collection.notes().join("; ");
            let is_said = notes.contains("cannot be used") || damage == "remove";
            assert!(is_said, "{damage} of {}: {notes}", path.display());
            assert!(collection.seal().unwrap());
            drop(collection);
            let again = Collection::open(&made.path, &pool(1), 1 << 30).unwrap();
            assert!(again.notes().is_empty() && whole(&again));
        }
    }
}

#[test]
fn a_damaged_link_is_met_by_the_search_that_comes_there_which_is_answered_all_the_same() {
    // So many that a walk is faster than a pass over all.
    let made = made(Dtype::F32, Metric::Cosine, 20_000, 24);
    drop(Collection::build(&made.path, &pool(2), 1 << 30).unwrap());
    let names = std::fs::read_dir(&made.path).unwrap().map(|entry| entry.unwrap().path());
    let mut vector = names.filter(|path| path.to_string_lossy().ends_with("vector-0.sealed"));
    let path = vector.next().unwrap();
    let (first, section) = {
        let sealed = Sealed::open_any(&FileDisk, &path).unwrap();
        let links = sealed.sections().iter().find(|one| one.name == "graph.links").unwrap();
        (links.offset as usize, links.n_bytes as usize)
    };
    let intact = std::fs::read(&path).unwrap();
    let asks = vec![Ask::default(); 40];
    let queries = rows(Dtype::F32, asks.len(), 24, 5);
    let open = || Collection::open(&made.path, &pool(1), 1 << 30).unwrap();
    let answers = |collection: &Collection| {
        let one =
            |q| collection.search(&queries.slice(q..q + 1), &asks[..1], &how(10, 0.9)).unwrap();
        (0..40).flat_map(one).collect::<Vec<_>>()
    };
    let near = answers(&open());
    assert!(near.iter().all(|answer| !answer.way.is_exact()));
    let ids = |answer: &Answer| answer.points.iter().map(|point| point.id).collect::<Vec<_>>();
    let (mut n_met, mut n_unmet) = (0, 0);
    for n in 0..16 {
        let mut bytes = intact.clone();
        bytes[first + stream(3, n) as usize % section] ^= 1 << (n % 8);
        // Under another name first: what is mapped stays as it is.
        let part = path.with_extension("part");
        std::fs::write(&part, bytes).unwrap();
        std::fs::rename(part, &path).unwrap();
        let collection = open();
        let is_at_once = !collection.notes().is_empty();
        let found = answers(&collection);
        let notes = collection.notes();
        if is_at_once || notes.is_empty() {
            n_unmet += usize::from(notes.is_empty());
        } else {
            n_met += 1;
            assert_eq!(notes.len(), 1, "{notes:?}");
            assert!(notes[0].contains("the index cannot be used"), "{notes:?}");
            assert!(notes[0].contains("graph.links") && notes[0].contains("vector-0"), "{notes:?}");
            assert!(answers(&collection).iter().all(|answer| answer.way.is_exact()));
            let is_same = |(a, b): (&Answer, &Answer)| a.way.is_exact() || ids(a) == ids(b);
            assert!(found.iter().zip(&near).all(is_same), "no answer by damaged links");
        }
        drop(collection);
        if n == 15 {
            let indexed = Collection::index(&made.path, &pool(1), 1 << 30).unwrap();
            assert!(indexed.changed && indexed.notes.len() == 1, "{indexed:?}");
            let again = open();
            assert!(again.notes().is_empty());
            assert!(answers(&again).iter().all(|answer| !answer.way.is_exact()));
        }
    }
    assert!(n_met > 0 && n_unmet > 0, "{n_met} met by a search, {n_unmet} by none");
}
