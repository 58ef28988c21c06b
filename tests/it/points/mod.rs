//! What a collection does with points beside searching them: every history leaves what a plain map would hold.

mod compare;
mod history;
mod model;

use std::sync::atomic::{AtomicBool, Ordering};

use nearkin::core::ids::PointId;
use nearkin::core::limits::BATCH_POINTS;
use nearkin::core::metric::Metric;
use nearkin::core::rows::Dtype;
use nearkin::engine::{
    Ask, Collection, Direction, NewPoint, Offset, Order, Scroll, Settings, Vectors, Which, With,
    WithVectors, Writer,
};
use nearkin::plan::filter::Filter;
use nearkin::store::columns::Kind;
use nearkin::store::columns::number::Number;
use serde_json::json;
use tempfile::TempDir;

use self::history::Pair;
use self::model::{Random, path, rows};
use crate::collection::{filter, pool};

#[test]
fn every_history_leaves_what_a_map_would_hold_for_every_tenant() {
    for seed in [4, 5, 6] {
        let (mut pair, mut random) = (Pair::new(), Random { seed, n: 0 });
        for step in 0..700 {
            pair.step(&mut random);
            if step % 4 == 0 {
                println!("seed {seed}, step {step}");
                pair.compare(&mut random);
            }
        }
        pair.reopen(false);
        pair.compare(&mut random);
        assert!(pair.model.points.len() > 20, "seed {seed}: too few points were left to compare");
    }
}

/// Ids 0 to `n`, all in one group.
fn grouped(n: usize, folder: &TempDir) -> Collection {
    let settings = Settings {
        indexed: vec![(path("group"), Kind::Keyword)],
        tenant_field: Some(path("owner")),
        ..Settings::of_vector(2, Metric::L2, Dtype::F32)
    };
    let path = folder.path().join("c");
    let points: Vec<NewPoint> = (0..n as u64)
        .map(|i| NewPoint {
            id: PointId::Num(i * 11 % n as u64),
            payload: json!({"group": "left", "owner": "left"}),
        })
        .collect();
    let rows = rows(2, 1, n);
    Writer::open(&path, &settings).unwrap().upsert(&points, &Vectors::only(&rows)).unwrap();
    Collection::open(&path, &pool(1), 1 << 30).unwrap()
}

#[test]
fn who_reads_sees_a_change_of_many_points_whole() {
    let folder = TempDir::new().unwrap();
    let (n, collection) = (300, grouped(300, &folder));
    let is_done = AtomicBool::new(false);
    let is_whole = |count: u64| count == 0 || count == n;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    for name in ["left", "right"] {
                        let key = json!({"must": [{"key": "group", "match": {"value": name}}]});
                        let in_group = collection.count(&Ask::new(None, filter(key.clone())));
                        assert!(is_whole(in_group.unwrap()), "a part of group {name}");
                        let ask = Ask::new(Some(name), filter(key));
                        assert!(is_whole(collection.count(&ask).unwrap()), "a part of {name}");
                        assert!(is_whole(collection.count_of_tenant(name).unwrap()));
                        let scroll = Scroll { limit: 1000, ..Scroll::default() };
                        let page = collection.scroll(&ask, &scroll).unwrap();
                        assert!(is_whole(page.points.len() as u64), "a part of a page of {name}");
                        for point in page.points {
                            let payload = point.payload.unwrap();
                            assert_eq!(payload, json!({"group": name, "owner": name}));
                        }
                    }
                    let all = collection.facet(&Ask::default(), &path("group"), 10).unwrap();
                    assert_eq!(all.iter().map(|(_, n)| n).collect::<Vec<_>>(), [&n]);
                }
            });
        }
        let everyone = Ask::default();
        for round in 0..40 {
            let name = ["right", "left"][round % 2];
            let keys = json!({"group": name, "owner": name});
            let done = collection.set_payload(Which::Matching(&everyone), &keys, None);
            assert_eq!(done.unwrap(), n);
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn more_points_than_a_batch_are_all_changed_and_paged() {
    let folder = TempDir::new().unwrap();
    let n = BATCH_POINTS + 500;
    let collection = grouped(n, &folder);
    let left = Ask::new(Some("left"), Filter::default());
    let keys = json!({"owner": ["left", "right"]});
    assert_eq!(collection.set_payload(Which::Matching(&left), &keys, None).unwrap(), n as u64);
    assert_eq!(collection.count_of_tenant("right").unwrap(), n as u64);
    // A page of few ids is found along the record, one of many by sorting all.
    for limit in [100, 4000] {
        let with = With { payload: false, vectors: WithVectors::Nothing };
        let mut scroll = Scroll { limit, with, ..Scroll::default() };
        let mut ids = Vec::new();
        while ids.is_empty() || scroll.from.is_some() {
            let page = collection.scroll(&left, &scroll).unwrap();
            ids.extend(page.points.iter().map(|point| point.id));
            scroll.from = page.next;
        }
        assert_eq!(ids, (0..n as u64).map(PointId::Num).collect::<Vec<_>>());
    }
    let ids: Vec<PointId> = (0..n as u64).map(PointId::Num).collect();
    assert_eq!(collection.revoke(&ids, "left").unwrap(), n as u64);
    assert_eq!(collection.count(&left).unwrap(), 0);
    let right = Ask::new(Some("right"), Filter::default());
    assert_eq!(collection.remove_where(&right).unwrap(), n as u64);
    assert_eq!(collection.n_points().unwrap(), 0);
}

#[test]
fn what_is_refused_changes_nothing_and_says_why() {
    let folder = TempDir::new().unwrap();
    let collection = grouped(20, &folder);
    let everyone = Ask::default();
    let all = Which::Matching(&everyone);
    let deep = |n: usize| (0..n).fold(json!(1), |value, _| json!([value]));
    let ids = [PointId::Num(3), PointId::Num(77)];
    let missing = Which::Ids { tenant: None, ids: &ids };
    let foreign = Which::Ids { tenant: Some("right"), ids: &ids[..1] };
    let rows = rows(2, 5, 2);
    let row = rows.slice(0..1);
    let twice = [Vectors::only(&row), Vectors::only(&row)].concat();
    let out_of_range = [Vectors { points: Some(&[1]), ..Vectors::only(&row)[0].clone() }];
    let keys = json!({"owner": "right"});
    let refused = [
        (collection.set_payload(all, &json!([1]), None), "payload_type"),
        (collection.overwrite_payload(all, &json!(null)), "payload_type"),
        (collection.set_payload(all, &json!({"owner": 1.5}), None), "tenant_value"),
        (collection.set_payload(all, &json!({"x": deep(127)}), None), "payload_depth"),
        (collection.set_payload(missing, &keys, None), "id_not_found"),
        (collection.set_payload(foreign, &keys, None), "id_not_found"),
        (collection.clear_payload(foreign), "id_not_found"),
        (collection.grant(&ids, "right"), "id_not_found"),
        (collection.revoke(&ids, "left"), "id_not_found"),
        (collection.grant(&ids[..1], ""), "tenant_name"),
        (collection.delete_vectors(all, &["default"]), "vector_missing"),
        (collection.delete_vectors(all, &["other"]), "vector_name"),
        (collection.update_vectors(None, &ids, &Vectors::only(&rows)), "id_not_found"),
        (collection.update_vectors(Some("right"), &ids[..1], &Vectors::only(&row)), "id_not_found"),
        (collection.update_vectors(None, &ids[..1], &twice), "vector_name_duplicate"),
        (collection.update_vectors(None, &ids[..1], &out_of_range), "vector_rows"),
        (collection.update_vectors(None, &[ids[0]; 2], &Vectors::only(&rows)), "id_duplicate"),
    ];
    for (i, (done, code)) in refused.into_iter().enumerate() {
        assert_eq!(done.unwrap_err().code(), code, "refusal {i}");
    }
    let scroll = |scroll: Scroll| collection.scroll(&everyone, &scroll).unwrap_err();
    let field = Order::Field(path("group"), Direction::Ascending);
    let from = Some(Offset::Value(Number::Int(1)));
    let limit = Scroll { limit: 0, ..Scroll::default() };
    assert_eq!(scroll(limit).code(), "page_range");
    assert_eq!(scroll(Scroll { from, ..Scroll::default() }).code(), "offset_order");
    let of_ids = Some(Offset::Id(PointId::Num(1)));
    let by_field = Scroll { order: field, from: of_ids, ..Scroll::default() };
    assert_eq!(scroll(by_field).code(), "offset_order");
    let tenants = collection.tenants(None, 10).unwrap().tenants;
    assert_eq!(tenants, [("left".to_owned(), 20)], "no tenant was made on the way");
    let page = collection.scroll(&everyone, &Scroll { limit: 100, ..Scroll::default() }).unwrap();
    for point in &page.points {
        assert_eq!(point.payload, Some(json!({"group": "left", "owner": "left"})));
    }
    // The deepest payload that is taken can be read again, by who opens the collection, too.
    assert_eq!(collection.set_payload(all, &json!({"x": deep(126)}), None).unwrap(), 20);
    drop(collection);
    let collection = Collection::open(&folder.path().join("c"), &pool(1), 1 << 30).unwrap();
    assert_eq!(collection.facet(&everyone, &path("x"), 10).unwrap(), []);
    assert_eq!(collection.n_points().unwrap(), 20);
}

#[test]
fn grants_given_directly_stay_until_a_point_is_stored_anew() {
    let folder = TempDir::new().unwrap();
    let collection = grouped(3, &folder);
    let ids = [PointId::Num(1)];
    let of = |tenant| collection.count_of_tenant(tenant).unwrap();
    assert_eq!(collection.grant(&ids, "guest").unwrap(), 1);
    assert_eq!(collection.grant(&ids, "guest").unwrap(), 0, "it may read it already");
    let which = Which::Ids { tenant: Some("guest"), ids: &ids };
    collection.set_payload(which, &json!({"owner": "right"}), None).unwrap();
    assert_eq!([of("left"), of("right"), of("guest")], [2, 1, 1]);
    let point = NewPoint { id: ids[0], payload: json!({"owner": "left"}) };
    collection.upsert(&[point], &Vectors::only(&rows(2, 3, 1))).unwrap();
    assert_eq!([of("left"), of("right"), of("guest")], [3, 0, 0]);
    assert_eq!(collection.drop_tenant("left").unwrap(), Some(3));
    assert_eq!(collection.drop_tenant("left").unwrap(), None);
    // Who is dropped is named by payloads still; a change of other keys does not bring it back.
    let all = Which::Matching(&Ask::default());
    assert_eq!(collection.set_payload(all, &json!({"x": 1}), None).unwrap(), 3);
    assert_eq!(of("left"), 0);
    assert_eq!(collection.tenants(Some("h"), 5).unwrap().tenants, [("right".to_owned(), 0)]);
}
