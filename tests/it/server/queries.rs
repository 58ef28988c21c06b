//! Queries of every kind over HTTP, and what older clients send in their place.

use nearkin::server::limits::Deadlines;
use serde_json::{Value, json};

use super::{Http, with_points};

fn ids(points: &Value) -> Vec<u64> {
    points.as_array().unwrap().iter().map(|point| point["id"].as_u64().unwrap()).collect()
}

fn query(http: &Http, body: Value) -> Value {
    http.ok("POST", "/collections/things/points/query", body)["points"].clone()
}

#[test]
fn every_kind_of_query_is_answered_with_what_is_wanted_of_its_points() {
    let http = with_points(Deadlines::default());
    let near = query(
        &http,
        json!({
            "query": [1, 0, 0, 0], "limit": 2, "with_payload": ["n"], "with_vector": true,
        }),
    );
    assert_eq!(near[0]["id"], 19);
    assert_eq!(near[0]["score"], 19.0);
    assert!(near[0]["version"].is_u64());
    assert_eq!(near[0]["payload"], json!({"n": 19}));
    assert_eq!(near[0]["vector"], json!([19.0, 1.0, 0.0, 0.0]));
    let by_id = query(&http, json!({"query": 3, "limit": 2}));
    assert_eq!(ids(&by_id), [19, 18]);
    assert_eq!(by_id[0].get("vector"), None);
    assert!(by_id[0]["payload"].is_null());
    assert_eq!(ids(&query(&http, json!({"limit": 3}))), [0, 1, 2], "without a query: by id");
    let filter = json!({"must": [{"key": "odd", "match": {"value": true}}]});
    let odd = json!({"query": {"recommend": {"positive": [1], "negative": [[0, 1, 0, 0]]}},
                     "filter": filter, "limit": 2, "offset": 1});
    assert_eq!(ids(&query(&http, odd)), [17, 15]);
    let fused = query(
        &http,
        json!({
            "prefetch": [
                {"query": [1, 0, 0, 0], "limit": 3},
                {"query": {"nearest": [-1, 0, 0, 0]}, "limit": 2, "filter": filter},
            ],
            "query": {"fusion": "rrf"}, "limit": 10,
        }),
    );
    let mut found = ids(&fused);
    found.sort_unstable();
    assert_eq!(found, [1, 3, 17, 18, 19]);
    http.ok(
        "PUT",
        "/collections/things/index",
        json!({
            "field_name": "n", "field_schema": "integer",
        }),
    );
    let ordered = json!({"query": {"order_by": {"key": "n", "direction": "desc"}}, "limit": 2});
    let ordered = query(&http, ordered);
    assert_eq!((ids(&ordered), &ordered[0]["order_value"]), (vec![19, 18], &json!(19)));
    let sample = json!({"query": {"sample": "random"}, "limit": 20});
    let mut sampled = ids(&query(&http, sample));
    sampled.sort_unstable();
    assert_eq!(sampled, (0..20).collect::<Vec<_>>());
    let batch = http.ok(
        "POST",
        "/collections/things/points/query/batch",
        json!({"searches": [
            {"query": [1, 0, 0, 0], "limit": 1, "with_payload": true},
            {"query": [-1, 0, 0, 0], "limit": 1, "with_vector": [""]},
        ]}),
    );
    assert_eq!(batch[0]["points"][0]["payload"]["n"], 19);
    assert_eq!(batch[0]["points"][0].get("vector"), None, "that is the other's");
    assert_eq!(batch[1]["points"][0]["vector"], json!([0.0, 1.0, 0.0, 0.0]));
    assert!(batch[1]["points"][0]["payload"].is_null());
}

#[test]
fn groups_and_matrices_are_answered() {
    let http = with_points(Deadlines::default());
    http.ok("PUT", "/collections/groups", json!({"vectors": {"size": 1, "distance": "Dot"}}));
    http.ok(
        "PUT",
        "/collections/groups/points",
        json!({"points": [
            {"id": 19, "vector": [7], "payload": {"name": "last"}},
        ]}),
    );
    let body = json!({"query": [1, 0, 0, 0], "group_by": "n", "limit": 2, "group_size": 3,
                      "with_lookup": {"collection": "groups", "with_vectors": true}});
    let groups = http.ok("POST", "/collections/things/points/query/groups", body);
    assert_eq!(groups["groups"][0]["id"], 19);
    assert_eq!(ids(&groups["groups"][0]["hits"]), [19]);
    let lookup = json!({"id": 19, "payload": {"name": "last"}, "vector": [7.0]});
    assert_eq!(groups["groups"][0]["lookup"], lookup);
    assert_eq!(groups["groups"][1]["id"], 18);
    assert_eq!(groups["groups"][1].get("lookup"), None);
    let absent = json!({"query": 1, "group_by": "n", "with_lookup": "nothing"});
    let (status, error) = http.refused("POST", "/collections/things/points/query/groups", absent);
    assert_eq!((status, &error[..21]), (404, "collection_not_found:"));

    let matrix = |form: &str| {
        let path = format!("/collections/things/points/search/matrix/{form}");
        http.ok("POST", &path, json!({"sample": 20, "limit": 2}))
    };
    let pairs = matrix("pairs")["pairs"].clone();
    assert_eq!(pairs.as_array().unwrap().len(), 40);
    let first = pairs.as_array().unwrap().iter().find(|pair| pair["a"] == 18).unwrap();
    assert_eq!((&first["b"], &first["score"]), (&json!(19), &json!(18.0 * 19.0 + 1.0)));
    let offsets = matrix("offsets");
    assert_eq!(offsets["ids"].as_array().unwrap().len(), 20);
    for name in ["offsets_row", "offsets_col", "scores"] {
        assert_eq!(offsets[name].as_array().unwrap().len(), 40, "{name}");
    }
}

#[test]
fn what_older_clients_ask_is_answered_as_the_query_that_it_is() {
    let http = with_points(Deadlines::default());
    let path = |rest: &str| format!("/collections/things/points/{rest}");
    let few = json!({"must": [{"key": "n", "range": {"lt": 10}}]});
    let same = |older: (&str, Value), newer: Value| {
        let found = http.ok("POST", &path(older.0), older.1.clone());
        assert_eq!(found, query(&http, newer), "{older:?}");
        assert!(!found.as_array().unwrap().is_empty(), "{older:?}");
        let batch = http.ok(
            "POST",
            &path(&format!("{}/batch", older.0)),
            json!({
                "searches": [older.1],
            }),
        );
        assert_eq!(batch, json!([found]));
    };
    same(
        (
            "recommend",
            json!({"positive": [1, 2], "negative": [3], "limit": 3, "filter": few,
                             "strategy": "best_score", "with_payload": true}),
        ),
        json!({"query": {"recommend": {"positive": [1, 2], "negative": [3],
                                       "strategy": "best_score"}},
               "limit": 3, "filter": few, "with_payload": true}),
    );
    let context = json!([{"positive": 1, "negative": 2}]);
    same(
        ("discover", json!({"target": [1, 0, 0, 0], "context": context, "limit": 3})),
        json!({"query": {"discover": {"target": [1, 0, 0, 0], "context": context}}, "limit": 3}),
    );
    same(
        ("discover", json!({"context": context, "limit": 3})),
        json!({"query": {"context": context}, "limit": 3}),
    );
    let groups = json!({"vector": [1, 0, 0, 0], "group_by": "tags", "limit": 2, "group_size": 1});
    let groups = http.ok("POST", &path("search/groups"), groups);
    assert_eq!(ids(&groups["groups"][0]["hits"]), [19]);
    let groups = json!({"positive": [1], "group_by": "tags", "limit": 2, "group_size": 1});
    let groups = http.ok("POST", &path("recommend/groups"), groups);
    assert_eq!(ids(&groups["groups"][0]["hits"]), [19]);
    let other = json!({"positive": [1], "query": [1, 0, 0, 0], "limit": 1});
    let (status, error) = http.refused("POST", &path("recommend"), other);
    assert_eq!((status, &error[..14]), (400, "field_unknown:"));
}

#[test]
fn queries_that_are_none_are_refused_with_their_place() {
    let http = with_points(Deadlines::default());
    for (body, status, code) in [
        (json!({"query": [1, 0]}), 400, "vector_dim:"),
        (json!({"query": 999}), 404, "id_not_found:"),
        (json!({"query": {"nearest": {"indices": [1], "values": [1]}}}), 400, "vector_shape:"),
        (json!({"query": {"text": "a", "model": "b"}}), 400, "vector_not_offered:"),
        (json!({"query": {"nearer": 1}}), 400, "query_type:"),
        (json!({"limt": 1}), 400, "query_key:"),
        (json!({"limit": 0}), 400, "query_"),
        (json!({"query": 1, "using": "x"}), 400, "vector_name:"),
        (json!({"query": 1, "with_payload": 5}), 400, "json_type: with_payload"),
        (
            json!({"query": 1, "lookup_from": {"collection": "absent"}}),
            404,
            "collection_not_found:",
        ),
    ] {
        let (found, error) = http.refused("POST", "/collections/things/points/query", body.clone());
        assert_eq!(found, status, "{body}: {error}");
        assert!(error.starts_with(code), "{body}: {error}");
    }
}
