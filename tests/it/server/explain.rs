//! How a search was answered, and what a collection takes.

use std::time::{Duration, Instant};

use nearkin::core::metric::Metric;
use nearkin::core::rows::Dtype;
use nearkin::engine::Collection;
use nearkin::server::limits::{Deadlines, Limits};
use nearkin::server::{ServeSettings, Server};
use serde_json::{Value, json};

use super::{Http, settings, with_points};
use crate::collection::{made, pool, rows};

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

#[test]
fn searches_are_asked_again_while_nobody_waits_and_what_they_had_found_is_told() {
    let made = made(Dtype::F32, Metric::L2, 6000, 32);
    drop(Collection::build(&made.path, &pool(1), 1 << 30).unwrap());
    let data = made.path.parent().unwrap();
    let settings = settings(data, Deadlines::default(), Limits::default());
    let server = Server::start(ServeSettings { check_recall: 1.0, ..settings }).unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
    let url = |path: &str| format!("http://{}{path}", server.address());
    let text = |path: &str| {
        let mut response = agent.get(url(path)).call().ok()?;
        response.body_mut().read_to_string().ok()
    };
    while text("/readyz").is_none() {
        std::thread::yield_now();
    }
    let queries = rows(Dtype::F32, 30, 32, 78);
    for q in 0..30 {
        let mut row = vec![0.0; 32];
        queries.widen(q, &mut row);
        let body = json!({"vector": row, "limit": 10, "params": {"hnsw_ef": 10}});
        let request = agent.post(url("/collections/c/points/search"));
        let request = request.header("content-type", "application/json");
        let response = request.send(body.to_string().as_bytes()).unwrap();
        assert_eq!(response.status(), 200);
    }
    let stats = || -> Value {
        let text = text("/collections/c/stats").unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["result"]["recall"].clone()
    };
    let began = Instant::now();
    while stats()["checked"] != 30 {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", stats());
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = stats();
    let share = told["share"].as_f64().unwrap();
    assert!((0.3..1.0).contains(&share) && told["left_out"] == 0, "{told}");
    let metrics = text("/metrics").unwrap();
    let missed = (300.0 * (1.0 - share)).round() as u64;
    for sample in [
        "nearkin_recall_searches_total{outcome=\"checked\"} 30".to_owned(),
        format!("nearkin_recall_points_total{{outcome=\"missed\"}} {missed}"),
    ] {
        assert!(metrics.contains(&sample), "{sample}\n{metrics}");
    }
}
