//! Vectors as bytes behind a head of JSON, and requests whose client does not wait for ever.

use nearkin::server::limits::Deadlines;
use nearkin::server::qdrant::numbers::CONTENT_TYPE;
use serde_json::{Value, json};

use super::{Answered, Http, with_points};

/// A head and numbers behind it.
pub fn sent(http: &Http, (method, path): (&str, &str), head: &Value, numbers: &[f32]) -> Answered {
    let head = head.to_string();
    let mut body = (head.len() as u32).to_le_bytes().to_vec();
    body.extend_from_slice(head.as_bytes());
    numbers.iter().for_each(|number| body.extend_from_slice(&number.to_le_bytes()));
    http.bytes(method, path, (CONTENT_TYPE, &body))
}

const PUT: (&str, &str) = ("PUT", "/collections/things/points");

fn post(path: &str) -> String {
    format!("/collections/things/points/{path}")
}

#[test]
fn vectors_as_bytes_are_the_same_as_vectors_as_json() {
    let http = with_points(Deadlines::default());
    let rows = [0.25_f32, -1.5, 3.0, 0.125, 9.0, 8.0, 7.0, 6.5];
    let head = json!({"points": [
        {"id": 100, "vector": "f32:4:4", "payload": {"t": "f32:0:4"}},
        {"id": 101, "vector": {"": "f32:0:4"}},
    ]});
    let answered = sent(&http, PUT, &head, &rows);
    assert_eq!(answered.status, 200, "{}", answered.body);
    let columns = json!({"batch": {"ids": [102, 103], "vectors": ["f32:0:4", "f32:4:4"]}});
    assert_eq!(sent(&http, PUT, &columns, &rows).status, 200);
    let ids = json!({"ids": [100, 101, 102, 103], "with_vector": true, "with_payload": true});
    let points = http.ok("POST", "/collections/things/points", ids);
    let vectors: Vec<&Value> = points.as_array().unwrap().iter().map(|p| &p["vector"]).collect();
    let [first, second] = [json!([0.25, -1.5, 3.0, 0.125]), json!([9.0, 8.0, 7.0, 6.5])];
    assert_eq!(vectors, [&second, &first, &first, &second]);
    assert_eq!(points[0]["payload"], json!({"t": "f32:0:4"}), "a payload is nobody's reference");
    let query = [3.0_f32, 1.0, 0.5, 0.25];
    let cases = [
        ("search", json!({"vector": "V", "limit": 5})),
        ("search", json!({"vector": {"name": "", "vector": "V"}, "limit": 5})),
        ("search/batch", json!({"searches": [{"vector": "V", "limit": 3}]})),
        ("search/groups", json!({"vector": "V", "group_by": "n", "limit": 3})),
        ("query", json!({"query": "V", "limit": 5})),
        ("query", json!({"query": {"nearest": "V", "mmr": {"diversity": 0.3}}, "limit": 5})),
        ("query", json!({"prefetch": {"query": "V", "limit": 9}, "query": {"fusion": "rrf"}})),
        ("query/batch", json!({"searches": [{"query": "V"}, {"query": 3}]})),
        ("query/groups", json!({"query": "V", "group_by": "n"})),
        ("recommend", json!({"positive": ["V", 4], "limit": 5})),
        ("recommend/batch", json!({"searches": [{"positive": ["V"], "limit": 5}]})),
        ("recommend/groups", json!({"positive": ["V"], "group_by": "n", "limit": 5})),
        ("discover", json!({"target": "V", "context": [], "limit": 5})),
        ("discover/batch", json!({"searches": [{"target": "V", "limit": 5}]})),
    ];
    for (path, body) in cases {
        let text = body.to_string();
        let plain = text.replace("\"V\"", &json!(query).to_string());
        let plain = http.text("POST", &post(path), &plain);
        assert_eq!(plain.status, 200, "{path}: {}", plain.body);
        let head = serde_json::from_str(&text.replace("\"V\"", "\"f32:0:4\"")).unwrap();
        let bytes = sent(&http, ("POST", &post(path)), &head, &query);
        assert_eq!(bytes.body["result"], plain.body["result"], "{path} {body}");
    }
}

#[test]
fn numbers_that_are_not_there_or_that_nobody_asked_for_are_refused_and_nothing_changes() {
    let http = with_points(Deadlines::default());
    let search = post("search");
    let point = |vector: &str| json!({"points": [{"id": 900, "vector": vector}]});
    let four = [1.0_f32, 2.0, 3.0, 4.0];
    let five = [1.0_f32, 2.0, 3.0, 4.0, 5.0];
    let cases: [(&str, &str, Value, &[f32], &str); 10] = [
        (PUT.0, PUT.1, point("f32:0:4"), &five, "numbers_unused: numbers 4 to 4"),
        (PUT.0, PUT.1, point("f32:1:4"), &five, "numbers_unused: numbers 0 to 0"),
        (PUT.0, PUT.1, point("f32:0:4"), &four[..3], "numbers_reference: \"f32:0:4\" of 3 numbers"),
        (PUT.0, PUT.1, point("f32:0:3"), &four[..3], "vector_dim: points[0].vector: 3 values"),
        (PUT.0, PUT.1, point("f32:0:4"), &[1.0, f32::NAN, 0.0, 0.0], "vector_not_finite: number 1"),
        (PUT.0, PUT.1, point("f32:x:4"), &four, "numbers_reference"),
        (PUT.0, PUT.1, json!({"points": []}), &four, "numbers_unused: numbers 0 to 3"),
        ("POST", &search, json!({"vector": "f32:0:4", "limit": 1}), &five, "numbers_unused"),
        ("POST", &post("query"), json!({"query": "f32:0:4"}), &five, "numbers_unused"),
        ("POST", &post("query"), json!({"query": 3}), &four, "numbers_unused: numbers 0 to 3"),
    ];
    for (method, path, head, numbers, expected) in cases {
        let (status, error) = sent(&http, (method, path), &head, numbers).refusal();
        assert!(status == 400 && error.starts_with(expected), "{head}: {status} {error}");
    }
    let twice = json!({"points": [{"id": 1, "vector": "f32:0:4"}, {"id": 2, "vector": "f32:2:4"}]});
    let (_, error) = sent(&http, PUT, &twice, &[1.0; 6]).refusal();
    assert!(error.starts_with("numbers_reference: number 2 has two"), "{error}");
    for (body, expected) in [(&b"ab"[..], "numbers_head"), (b"\xff\0\0\0{}", "numbers_head")] {
        let (status, error) = http.bytes("PUT", PUT.1, (CONTENT_TYPE, body)).refusal();
        assert!(status == 400 && error.starts_with(expected), "{status} {error}");
    }
    let (_, error) = http.refused("PUT", PUT.1, point("f32:0:4"));
    assert!(error.starts_with("numbers_reference") && error.contains(CONTENT_TYPE), "{error}");
    let (status, error) =
        sent(&http, ("POST", &post("count")), &json!({"exact": true}), &[]).refusal();
    assert!(status == 415 && error.starts_with("content_type"), "{status} {error}");
    assert_eq!(http.ok("POST", &post("count"), json!({}))["count"], 20);
}

#[test]
fn a_request_whose_time_is_over_is_answered_so_and_the_next_as_ever() {
    let http = with_points(Deadlines::default());
    for bad in ["0", "-1", "1.5", "soon", ""] {
        let path = post(&format!("count?timeout={bad}"));
        let (status, error) = http.refused("POST", &path, json!({}));
        assert!(status == 400 && error.starts_with("query_invalid: timeout="), "{status} {error}");
    }
    for good in ["1", "60", "18446744073709551615"] {
        let path = post(&format!("count?timeout={good}"));
        assert_eq!(http.ok("POST", &path, json!({}))["count"], 20);
    }
    // A thousand times a million comparisons: far more than a second's work anywhere.
    let mmr = json!({"diversity": 0.5, "candidates_limit": 1000});
    let heavy = json!({"query": {"nearest": [1, 2, 3, 4], "mmr": mmr}, "limit": 1000});
    let searches = vec![heavy; 1024];
    let points: Vec<Value> = (0..10_000)
        .map(|i| json!({"id": i, "vector": [i % 97, i % 89, i % 83, 1], "payload": {"n": i}}))
        .collect();
    http.ok("PUT", "/collections/things/points", json!({"points": points}));
    let (status, error) =
        http.refused("POST", &post("query/batch?timeout=1"), json!({"searches": searches}));
    assert!(status == 408 && error.starts_with("timeout: "), "{status} {error}");
    assert_eq!(http.ok("POST", &post("count"), json!({}))["count"], 10_000);
}
