//! Points are stored, changed, read and removed as clients of Qdrant's REST expect.

use nearkin::server::limits::Deadlines;
use serde_json::{Value, json};

use super::{Http, with_points};

fn ids(points: &Value) -> Vec<Value> {
    points.as_array().unwrap().iter().map(|point| point["id"].clone()).collect()
}

#[test]
fn points_come_back_as_they_were_stored_one_by_one_or_by_column() {
    let http = Http::new();
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    let vectors = json!({
        "a": {"size": 2, "distance": "Cosine"}, "b": {"size": 3, "distance": "Manhattan"},
    });
    http.ok("PUT", "/collections/c", json!({"vectors": vectors}));
    let stored = http.ok(
        "PUT",
        "/collections/c/points?wait=true",
        json!({"points": [
            {"id": 1, "vector": {"a": [3, 4], "b": [1, 2, 3]}, "payload": {"k": [1, {"x": null}]}},
            {"id": uuid, "vector": {"b": [0, 0, 0]}},
        ]}),
    );
    assert_eq!(stored["status"], "completed");
    assert!(stored["operation_id"].is_u64());
    let more = http.ok(
        "PUT",
        "/collections/c/points",
        json!({"batch": {
            "ids": [2, 3], "vectors": {"a": [[1, 0], [0, 1]], "b": [[1, 1, 1], [2, 2, 2]]},
            "payloads": [null, {"k": 3}],
        }}),
    );
    assert_eq!(more["status"], "acknowledged", "nobody said that they wait");
    let asked = json!({"ids": [uuid, 3, 1, 99], "with_vector": true});
    let records = http.ok("POST", "/collections/c/points", asked);
    let expected = json!([
        {"id": uuid, "payload": {}, "vector": {"b": [0.0, 0.0, 0.0]}},
        {"id": 3, "payload": {"k": 3}, "vector": {"a": [0.0, 1.0], "b": [2.0, 2.0, 2.0]}},
        {"id": 1, "payload": {"k": [1, {"x": null}]},
         "vector": {"a": [0.6, 0.8], "b": [1.0, 2.0, 3.0]}},
    ]);
    assert_eq!(records, expected, "rows of cosine come back with norm 1");
    let one = http.ok(
        "POST",
        "/collections/c/points",
        json!({
            "ids": [1], "with_payload": false, "with_vector": ["b"],
        }),
    );
    assert_eq!(one, json!([{"id": 1, "payload": null, "vector": {"b": [1.0, 2.0, 3.0]}}]));
    assert_eq!(http.get(&format!("/collections/c/points/{uuid}"))["id"], uuid);
    assert_eq!(http.refused("GET", "/collections/c/points/77", json!(null)).0, 404);
}

#[test]
fn of_two_points_of_one_id_in_a_request_the_last_is_stored() {
    let http = with_points(Deadlines::default());
    http.ok(
        "PUT",
        "/collections/things/points",
        json!({"points": [
            {"id": 50, "vector": [1, 0, 0, 0], "payload": {"n": 1}},
            {"id": 50, "vector": [2, 0, 0, 0], "payload": {"n": 2}},
        ]}),
    );
    let found = http.ok(
        "POST",
        "/collections/things/points",
        json!({
            "ids": [50], "with_vector": true,
        }),
    );
    assert_eq!(found[0]["payload"], json!({"n": 2}));
    assert_eq!(found[0]["vector"], json!([2.0, 0.0, 0.0, 0.0]));
}

#[test]
fn pages_lead_through_all_points_once() {
    let http = with_points(Deadlines::default());
    let odd = json!({"must": [{"key": "odd", "match": {"value": true}}]});
    let mut found = Vec::new();
    let mut offset = json!(null);
    loop {
        let page = http.ok(
            "POST",
            "/collections/things/points/scroll",
            json!({
                "limit": 3, "filter": odd, "offset": offset, "with_payload": ["n"],
            }),
        );
        let points = page["points"].as_array().unwrap();
        assert!(points.iter().all(|point| point["payload"] == json!({"n": point["id"]})));
        found.extend(ids(&page["points"]));
        offset = page["next_page_offset"].clone();
        if offset.is_null() {
            break;
        }
    }
    let expected: Vec<Value> = (0..20).filter(|i| i % 2 == 1).map(|i| json!(i)).collect();
    assert_eq!(found, expected);
    let count = json!({"filter": odd, "exact": false});
    assert_eq!(http.ok("POST", "/collections/things/points/count", count), json!({"count": 10}));

    let by_n = json!({"limit": 2, "order_by": {"key": "n", "direction": "desc", "start_from": 15}});
    let path = "/collections/things/points/scroll";
    let unindexed = http.ok("POST", path, by_n.clone());
    let index = json!({"field_name": "n", "field_schema": "integer"});
    http.ok("PUT", "/collections/things/index?wait=true", index);
    let page = http.ok("POST", "/collections/things/points/scroll", by_n);
    assert_eq!(page, unindexed, "an index changes how long it takes");
    assert_eq!(ids(&page["points"]), [json!(15), json!(14)]);
    assert_eq!(page["points"][0]["order_value"], 15);
    assert_eq!(page["next_page_offset"], json!(null));
    let both = json!({"order_by": "n", "offset": 3});
    let (status, error) = http.refused("POST", "/collections/things/points/scroll", both);
    assert_eq!((status, &error[..13]), (400, "offset_order:"));
}

#[test]
fn scores_are_those_of_that_api_for_every_distance() {
    let http = Http::new();
    let cases = [
        ("Cosine", [(2, 1.0), (1, 0.8), (3, -0.6)]),
        ("Dot", [(2, 10.0), (1, 4.0), (3, -3.0)]),
        ("Euclid", [(1, 2.0_f64.sqrt()), (2, 5.0_f64.sqrt()), (3, 4.0)]),
        ("Manhattan", [(1, 2.0), (2, 3.0), (3, 4.0)]),
    ];
    for (distance, expected) in cases {
        let path = format!("/collections/{distance}");
        http.ok("PUT", &path, json!({"vectors": {"size": 2, "distance": distance}}));
        http.ok(
            "PUT",
            &format!("{path}/points"),
            json!({"batch": {
                "ids": [1, 2, 3], "vectors": [[2, 1], [2, 4], [1, -2]],
            }}),
        );
        let search = |more: Value| {
            let mut body = json!({"vector": [1, 2], "limit": 10});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            http.ok("POST", &format!("{path}/points/search"), body)
        };
        let found = search(json!({}));
        let scores: Vec<(i64, f64)> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|point| (point["id"].as_i64().unwrap(), point["score"].as_f64().unwrap()))
            .collect();
        let is_near = |(a, b): (&(i64, f64), &(i64, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-5;
        assert_eq!(scores.len(), 3);
        assert!(scores.iter().zip(&expected).all(is_near), "{distance}: {scores:?}");
        assert!(found[0]["version"].is_u64() && found[0]["payload"].is_null());
        assert_eq!(found[0].get("vector"), None);
        // As good as the second, to the last bit that is shown.
        let threshold = search(json!({"score_threshold": expected[1].1 + nudge(distance)}));
        assert_eq!(ids(&threshold), [json!(expected[0].0), json!(expected[1].0)], "{distance}");
        assert_eq!(ids(&search(json!({"limit": 1, "offset": 1}))), [json!(expected[1].0)]);
        assert_eq!(search(json!({"offset": 3})), json!([]));
    }
}

/// To the worse side of a score.
fn nudge(distance: &str) -> f64 {
    if matches!(distance, "Cosine" | "Dot") { -1e-4 } else { 1e-4 }
}

#[test]
fn searches_follow_filters_names_and_batches() {
    let http = Http::new();
    let vectors = json!({"a": {"size": 2, "distance": "Dot"}, "b": {"size": 1, "distance": "Dot"}});
    http.ok("PUT", "/collections/c", json!({"vectors": vectors}));
    http.ok(
        "PUT",
        "/collections/c/points",
        json!({"points": [
            {"id": 1, "vector": {"a": [1, 0], "b": [9]}, "payload": {"k": "x"}},
            {"id": 2, "vector": {"a": [2, 0]}, "payload": {"k": "y"}},
            {"id": 3, "vector": {}, "payload": {"k": "x"}},
        ]}),
    );
    let search = |name: &str, vector: Value, filter: Value| {
        json!({"vector": {"name": name, "vector": vector}, "limit": 5, "filter": filter,
               "params": {"exact": true, "quantization": {"rescore": true}}})
    };
    let all = json!({"searches": [
        search("a", json!([1, 0]), json!(null)),
        search("b", json!([1]), json!(null)),
        search("a", json!([1, 0]), json!({"must": {"key": "k", "match": {"value": "x"}}})),
        search("a", json!([1, 0]), json!({"must": [{"has_id": [3]}]})),
    ]});
    let found = http.ok("POST", "/collections/c/points/search/batch", all);
    let found: Vec<Vec<Value>> = found.as_array().unwrap().iter().map(ids).collect();
    assert_eq!(found, [vec![json!(2), json!(1)], vec![json!(1)], vec![json!(1)], vec![]]);
    let unnamed = json!({"vector": [1, 0], "limit": 1});
    let (status, error) = http.refused("POST", "/collections/c/points/search", unnamed);
    assert_eq!((status, &error[..12]), (400, "vector_name:"));
}

#[test]
fn payloads_and_vectors_change_where_they_are_asked_to() {
    let http = with_points(Deadlines::default());
    let path = |rest: &str| format!("/collections/things/points{rest}");
    let payload = |id: u64| http.get(&path(&format!("/{id}")))["payload"].clone();
    http.ok("POST", &path("/payload"), json!({"payload": {"x": 1, "odd": null}, "points": [1, 2]}));
    assert_eq!(payload(1), json!({"n": 1, "tags": ["all", "t1"], "x": 1}));
    http.ok(
        "POST",
        &path("/payload"),
        json!({
            "payload": {"in": 1}, "key": "deep.er", "filter": {"must": [{"has_id": [2]}]},
        }),
    );
    assert_eq!(payload(2)["deep"], json!({"er": {"in": 1}}));
    http.ok(
        "POST",
        &path("/payload/delete"),
        json!({"keys": ["deep.er.in", "tags"], "points": [2]}),
    );
    assert_eq!(payload(2), json!({"n": 2, "x": 1, "deep": {"er": {}}}));
    http.ok("PUT", &path("/payload"), json!({"payload": {"new": true}, "points": [3]}));
    assert_eq!(payload(3), json!({"new": true}));
    http.ok("POST", &path("/payload/clear"), json!({"points": [3]}));
    assert_eq!(payload(3), json!({}));
    let (status, error) =
        http.refused("POST", &path("/payload"), json!({"payload": {"x": 2}, "points": [1, 999]}));
    assert_eq!((status, &error[..13]), (404, "id_not_found:"));
    assert_eq!(payload(1)["x"], 1, "nothing is changed if one is not there");
    let changed = json!({"points": [{"id": 4, "vector": [0, 0, 0, 7]}]});
    http.ok("PUT", &path("/vectors"), changed);
    assert_eq!(http.get(&path("/4"))["vector"], json!([0.0, 0.0, 0.0, 7.0]));
    let (status, error) =
        http.refused("POST", &path("/vectors/delete"), json!({"points": [4], "vector": [""]}));
    assert_eq!((status, &error[..15]), (400, "vector_missing:"));
}

#[test]
fn points_of_one_named_vector_may_lack_it_and_lose_it() {
    let http = Http::new();
    http.ok("PUT", "/collections/c", json!({"vectors": {"v": {"size": 1, "distance": "Dot"}}}));
    http.ok("PUT", "/collections/c/points", json!({"points": [
        {"id": 1, "vector": {"v": [1]}}, {"id": 2, "vector": {}}, {"id": 3, "vector": {"v": [3]}},
    ]}));
    http.ok(
        "POST",
        "/collections/c/points/vectors/delete",
        json!({"points": [3], "vector": ["v"]}),
    );
    let search = json!({"vector": {"name": "v", "vector": [1]}, "limit": 9});
    let found = http.ok("POST", "/collections/c/points/search", search);
    assert_eq!(ids(&found), [json!(1)]);
    let has = json!({"filter": {"must": [{"has_vector": "v"}]}});
    assert_eq!(http.ok("POST", "/collections/c/points/count", has), json!({"count": 1}));
}

#[test]
fn points_are_stored_only_where_mode_and_filter_say() {
    let http = with_points(Deadlines::default());
    let n_of =
        |id: u64| http.get(&format!("/collections/things/points/{id}"))["payload"]["n"].clone();
    let put = |mode: Value, filter: Value| {
        let point = |id: u64| json!({"id": id, "vector": [0, 0, 0, 1], "payload": {"n": "new"}});
        http.ok(
            "PUT",
            "/collections/things/points",
            json!({
                "points": [point(1), point(2), point(101)],
                "update_mode": mode, "update_filter": filter,
            }),
        );
    };
    let is_there = |id: u64| {
        let ids = json!({"ids": [id]});
        http.ok("POST", "/collections/things/points", ids) != json!([])
    };
    put(json!("update_only"), json!({"must": {"key": "odd", "match": {"value": true}}}));
    assert_eq!((n_of(1), n_of(2), is_there(101)), (json!("new"), json!(2), false));
    put(json!("insert_only"), json!(null));
    assert_eq!((n_of(2), is_there(101)), (json!(2), true));
    put(json!(null), json!({"must": {"key": "n", "match": {"value": 2}}}));
    assert_eq!(n_of(2), json!("new"));
}

#[test]
fn operations_of_a_batch_are_done_one_after_the_other() {
    let http = with_points(Deadlines::default());
    let path = "/collections/things/points/batch";
    let done = http.ok(
        "POST",
        path,
        json!({"operations": [
            {"upsert": {"points": [{"id": 100, "vector": [1, 1, 1, 1], "payload": {"a": 1}}]}},
            {"upsert": {"batch": {"ids": [101], "vectors": [[2, 2, 2, 2]]}}},
            {"set_payload": {"payload": {"b": 2}, "points": [100, 101]}},
            {"overwrite_payload": {"payload": {"c": 3}, "points": [101]}},
            {"delete_payload": {"keys": ["a"], "points": [100]}},
            {"clear_payload": {"points": [0]}},
            {"update_vectors": {"points": [{"id": 0, "vector": [5, 5, 5, 5]}]}},
            {"delete": {"filter": {"must": [{"key": "n", "range": {"gte": 5}}]}}},
            {"delete": {"points": [4, 999]}},
        ]}),
    );
    assert_eq!(done.as_array().unwrap().len(), 9);
    let all = json!({"limit": 100, "with_vector": true});
    let page = http.ok("POST", "/collections/things/points/scroll", all);
    assert_eq!(ids(&page["points"]), [0, 1, 2, 3, 100, 101].map(|id| json!(id)));
    assert_eq!(page["points"][0]["payload"], json!({}));
    assert_eq!(page["points"][0]["vector"], json!([5.0, 5.0, 5.0, 5.0]));
    assert_eq!(page["points"][4]["payload"], json!({"b": 2}));
    assert_eq!(page["points"][5]["payload"], json!({"c": 3}));
    let (status, error) = http.refused(
        "POST",
        path,
        json!({"operations": [
            {"delete": {"points": [0]}}, {"set_payload": {"payload": {}, "points": [0]}},
        ]}),
    );
    assert_eq!(status, 404);
    assert!(error.contains("operations[1]"), "{error}");
    let (status, error) = http.refused("POST", path, json!({"operations": [{"explode": {}}]}));
    assert_eq!(status, 400);
    assert!(error.contains("unknown variant"), "{error}");
}

#[test]
fn values_are_counted_and_indexes_shown() {
    let http = with_points(Deadlines::default());
    let facet = |body: Value| http.ok("POST", "/collections/things/facet", body)["hits"].clone();
    let tags = json!([
        {"value": "all", "count": 20}, {"value": "t0", "count": 7}, {"value": "t1", "count": 7},
    ]);
    assert_eq!(facet(json!({"key": "tags", "limit": 3})), tags);
    let index = |field: &str, schema: Value| {
        let body = json!({"field_name": field, "field_schema": schema});
        http.ok("PUT", "/collections/things/index?wait=true", body);
    };
    index("tags", json!("keyword"));
    index("n", json!({"type": "integer", "lookup": true, "range": false, "on_disk": true}));
    index("odd", json!({"type": "bool"}));
    assert_eq!(facet(json!({"key": "tags", "limit": 3})), tags);
    let few = json!({"must": [{"key": "n", "range": {"lt": 3}}]});
    let odd = json!([{"value": false, "count": 2}, {"value": true, "count": 1}]);
    assert_eq!(facet(json!({"key": "odd", "filter": few, "exact": true})), odd);
    let schema = http.get("/collections/things")["payload_schema"].clone();
    assert_eq!(schema["tags"], json!({"data_type": "keyword", "points": 20}));
    assert_eq!(schema["n"]["params"]["range"], false);
    index("n", json!("float"));
    let schema = http.get("/collections/things")["payload_schema"].clone();
    assert_eq!(schema["n"], json!({"data_type": "float", "points": 20}));
    http.ok("DELETE", "/collections/things/index/n", json!(null));
    let schema = http.get("/collections/things")["payload_schema"].clone();
    assert_eq!(schema.as_object().unwrap().keys().collect::<Vec<_>>(), ["tags", "odd"]);
    for (schema, expected) in [
        (json!("words"), "field_kind:"),
        (json!({"type": "text", "tokenizer": "prefix"}), "not_offered: field_schema.tokenizer"),
        (json!(null), "field_kind:"),
    ] {
        let body = json!({"field_name": "x", "field_schema": schema});
        let (status, error) = http.refused("PUT", "/collections/things/index", body);
        assert_eq!(status, 400);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn points_that_came_become_part_of_the_index_while_searches_go_on() {
    let http = Http::new();
    http.ok("PUT", "/collections/c", json!({"vectors": {"size": 2, "distance": "Euclid"}}));
    let put = |from: u64, n: u64| {
        let ids: Vec<u64> = (from..from + n).collect();
        let vectors: Vec<[u64; 2]> = ids.iter().map(|i| [i % 71, i / 71]).collect();
        http.ok("PUT", "/collections/c/points", json!({"batch": {"ids": ids, "vectors": vectors}}));
    };
    let is_found = |id: u64| {
        let search = json!({"vector": [id % 71, id / 71], "limit": 1});
        let found = http.ok("POST", "/collections/c/points/search", search);
        assert_eq!(found[0]["id"], id);
    };
    let n_indexed = || http.get("/collections/c")["indexed_vectors_count"].as_u64().unwrap();
    put(0, 5000);
    while n_indexed() < 5000 {
        is_found(4999);
    }
    // What came after is found before it is part of it, and after.
    put(5000, 5000);
    is_found(9999);
    while n_indexed() < 10_000 {
        is_found(9999);
    }
    assert_eq!(http.get("/collections/c")["points_count"], 10_000);
    assert_eq!(http.n_incidents(), 0);
}

#[test]
fn a_vector_of_an_empty_name_is_the_one_without() {
    let http = Http::new();
    let vectors = json!({"": {"size": 2, "distance": "Dot"}});
    http.ok("PUT", "/collections/c", json!({"vectors": vectors}));
    assert_eq!(http.get("/collections/c")["config"]["params"]["vectors"], vectors);
    http.ok(
        "PUT",
        "/collections/c/points",
        json!({"points": [
            {"id": 1, "vector": {"": [1, 2]}}, {"id": 2, "vector": [3, 4]},
        ]}),
    );
    http.ok(
        "PUT",
        "/collections/c/points",
        json!({"batch": {
            "ids": [3], "vectors": {"": [[5, 6]]},
        }}),
    );
    http.ok(
        "PUT",
        "/collections/c/points/vectors",
        json!({"points": [
            {"id": 2, "vector": {"": [30, 40]}},
        ]}),
    );
    let found = http.ok(
        "POST",
        "/collections/c/points/query",
        json!({
            "query": [1, 0], "using": "", "limit": 2, "with_vector": [""],
        }),
    );
    assert_eq!(ids(&found["points"]), [json!(2), json!(3)]);
    assert_eq!(found["points"][0]["vector"], json!([30.0, 40.0]));
    let older = json!({"vector": {"name": "", "vector": [1, 0]}, "limit": 1, "with_vector": true});
    let found = http.ok("POST", "/collections/c/points/search", older);
    assert_eq!(found[0]["vector"], json!([30.0, 40.0]));
    let has = json!({"filter": {"must": [{"has_vector": ""}]}});
    assert_eq!(http.ok("POST", "/collections/c/points/count", has), json!({"count": 3}));
    http.ok("PATCH", "/collections/c", json!({"vectors": {"": {"on_disk": true}}}));
    let shown = http.get("/collections/c")["config"]["params"]["vectors"].clone();
    assert_eq!(shown, json!({"": {"size": 2, "distance": "Dot", "on_disk": true}}));

    // Beside others it is one of them; and a name that happens to be ours is a name.
    let vectors = json!({"": {"size": 1, "distance": "Dot"}, "x": {"size": 1, "distance": "Dot"}});
    http.ok("PUT", "/collections/two", json!({"vectors": vectors}));
    http.ok(
        "PUT",
        "/collections/named",
        json!({
            "vectors": {"default": {"size": 1, "distance": "Dot"}},
        }),
    );
    let all = json!({"ids": [1], "with_vector": true});
    for (name, vector) in
        [("two", json!({"": [1.0], "x": [2.0]})), ("named", json!({"default": [1.0]}))]
    {
        let path = format!("/collections/{name}/points");
        http.ok("PUT", &path, json!({"points": [{"id": 1, "vector": vector}]}));
        assert_eq!(http.ok("POST", &path, all.clone())[0]["vector"], vector);
    }
}
