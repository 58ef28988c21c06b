//! How a search was answered, and what a collection takes.

use nearkin::server::limits::Deadlines;
use serde_json::{Value, json};

use super::{Http, with_points};

const EXPLAIN: &str = "/collections/things/points/explain";

fn plan(http: &Http, body: Value) -> Value {
    http.ok("POST", EXPLAIN, body)["plan"].clone()
}

#[test]
fn an_explained_search_finds_what_the_search_finds_and_tells_what_was_weighed() {
    let http = with_points(Deadlines::default()).reopened();
    let body = json!({"vector": [1, 2, 3, 4], "limit": 7, "with_payload": true});
    let searched = http.ok("POST", "/collections/things/points/search", body.clone());
    let explained = http.ok("POST", EXPLAIN, body);
    assert_eq!(explained["points"], searched);
    let plan = &explained["plan"];
    assert_eq!((&plan["matches"], &plan["returned"]), (&json!(20), &json!(7)));
    let way = plan["way"].as_str().unwrap();
    let predicted = plan["predicted_us"].as_object().unwrap();
    assert!(predicted.len() > 1 && predicted.contains_key(way), "{plan}");
    let least = predicted.values().map(|us| us.as_f64().unwrap()).fold(f64::MAX, f64::min);
    assert_eq!(plan["planned"], way);
    assert_eq!(predicted[way].as_f64(), Some(least), "the fastest was taken");
    assert!(plan["took_us"].as_f64().unwrap() > 0.0);
    assert_eq!(plan["exact"], true, "{plan}");
}

#[test]
fn what_a_filter_touched_is_told_with_the_reason() {
    let http = with_points(Deadlines::default());
    let filter = json!({"must": [{"key": "odd", "match": {"value": true}}]});
    let body = json!({"vector": [1, 2, 3, 4], "limit": 100, "filter": filter});
    let read = plan(&http, body.clone());
    assert_eq!((&read["matches"], &read["returned"]), (&json!(10), &json!(10)));
    let expected = json!({"rows_touched": 0, "payloads_read": 20, "read_for": ["odd"]});
    assert_eq!(read["filter"], expected);
    let index = json!({"field_name": "odd", "field_schema": "bool"});
    http.ok("PUT", "/collections/things/index?wait=true", index);
    let indexed = plan(&http, body);
    assert_eq!(indexed["matches"], 10);
    assert_eq!(indexed["filter"]["payloads_read"], 0);
    assert_eq!(indexed["filter"]["read_for"], json!([]));
    let nothing = json!({"must": [{"key": "odd", "match": {"value": "no"}}]});
    let plan = plan(&http, json!({"vector": [1, 2, 3, 4], "limit": 3, "filter": nothing}));
    assert_eq!((&plan["way"], &plan["matches"]), (&json!("nothing"), &json!(0)));
    assert_eq!(plan["predicted_us"], json!({}));
}

#[test]
fn a_search_that_cannot_be_meant_is_refused_as_a_search_is() {
    let http = with_points(Deadlines::default());
    let cases = [
        (json!({"vector": [1, 2, 3, 4]}), "json_type: missing field `limit`"),
        (json!({"vector": [1, 2, 3], "limit": 1}), "vector_dim: 3 values"),
        (json!({"vector": [1, 2, 3, 4], "limit": 1, "using": "none"}), "vector_name: "),
        (json!({"vector": [1, 2, 3, 4], "limit": 0}), "k_range: "),
        (json!({"vector": [1, 2, 3, 4], "limit": 1, "offset": 2}), "field_unknown: "),
        (json!({"vector": [1, 2, 3, 4], "limit": 1, "filter": {"musst": []}}), "filter_key: "),
        (
            json!({"vector": {"name": "a", "vector": [1, 2, 3, 4]}, "using": "b", "limit": 1}),
            "vector_name: using \"b\" and vector.name \"a\"",
        ),
    ];
    for (body, expected) in cases {
        let (status, error) = http.refused("POST", EXPLAIN, body.clone());
        assert_eq!(status, 400, "{body}: {error}");
        assert!(error.starts_with(expected), "{body}: {error}");
    }
}

#[test]
fn a_named_vector_is_explained_by_either_form_and_measured_by_its_name() {
    let http = Http::new();
    let vectors = json!({"vectors": {
        "title": {"size": 2, "distance": "Euclid"}, "body": {"size": 3, "distance": "Cosine"},
    }});
    http.ok("PUT", "/collections/things", vectors);
    let points = json!({"points": [
        {"id": 1, "vector": {"title": [3, 4], "body": [1, 0, 0]}},
        {"id": 2, "vector": {"title": [0, 1], "body": [0, 1, 0]}},
    ]});
    http.ok("PUT", "/collections/things/points", points);
    for body in [
        json!({"vector": [0, 0], "using": "title", "limit": 2}),
        json!({"vector": {"name": "title", "vector": [0, 0]}, "limit": 2}),
    ] {
        let found = http.ok("POST", EXPLAIN, body)["points"].clone();
        let found: Vec<_> = found.as_array().unwrap().iter().collect();
        assert_eq!(found.iter().map(|one| &one["id"]).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((&found[0]["score"], &found[1]["score"]), (&json!(1.0), &json!(5.0)));
    }
    let stats = http.get("/collections/things/stats");
    let names: Vec<_> =
        stats["vectors"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["title", "body"]);
    let parts = stats["bytes_by_part"].as_object().unwrap();
    let sum: u64 = parts.values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(stats["bytes"], sum);
    assert!(sum > 0 && stats["bytes_on_disk"].as_u64().unwrap() > 0, "{stats}");
    assert_eq!((&stats["points"], &stats["tenants"]), (&json!(2), &json!(0)));
}
