//! What no request may be: every case is refused by a code, and nothing changes.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use nearkin::server::limits::{BODY_BYTES, Deadlines};
use serde_json::{Value, json};

use super::{raw, with_points};

#[test]
fn bodies_that_cannot_be_meant_are_refused_by_a_code_and_change_nothing() {
    let http = with_points(Deadlines::default());
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let in_payload =
        format!("{{\"points\":[{{\"id\":1,\"vector\":[1,2,3,4],\"payload\":{{\"a\":{deep}}}}}]}}");
    let point = |vector: &str| format!("{{\"points\":[{{\"id\":900,\"vector\":{vector}}}]}}");
    let id = |id: &str| format!("{{\"points\":[{{\"id\":{id},\"vector\":[1,2,3,4]}}]}}");
    let cases = [
        (String::new(), "json_type: no body"),
        ("null".into(), "json_type"),
        ("[]".into(), "json_type"),
        ("\"x\"".into(), "json_type"),
        ("{\"points\": [".into(), "json_invalid"),
        ("{\"points\": [}".into(), "json_invalid"),
        ("{\"points\": []} {}".into(), "json_trailing"),
        ("{\"points\": [], \"points\": []}".into(), "json_duplicate_key"),
        ("{\"points\": [], \"limt\": 1}".into(), "field_unknown: unknown field `limt`"),
        ("{\"points\": [], \"batch\": {\"ids\": [], \"vectors\": []}}".into(), "points_missing"),
        ("{}".into(), "points_missing"),
        ("{\"points\": [], \"shard_key\": \"a\"}".into(), "json_type: not offered"),
        (in_payload, "json_depth"),
        (point("[1,2,3]"), "vector_dim: points[0].vector: 3 values"),
        (point("[]"), "vector_dim: points[0].vector: 0 values"),
        (point("[1,2,3,1e39]"), "json_invalid: number out of range"),
        (point("[1,2,3,1e400]"), "json_invalid"),
        (point("[1,2,3,NaN]"), "json_invalid"),
        (point("[1,2,3,null]"), "json_type"),
        (point("[1,2,3,\"1.0\"]"), "json_type"),
        (point("[1,2,3,1e30]"), "vector_magnitude"),
        (point("{\"titel\":[1,2,3,4]}"), "vector_name: points[0].vector: \"titel\""),
        (point("{\"s\":{\"indices\":[1],\"values\":[1]}}"), "vector_name: points[0].vector: \"s\""),
        (point("\"a text\""), "json_type"),
        (id("18446744073709551616"), "json_type"),
        (id("-1"), "json_type"),
        (id("1.0"), "json_type"),
        (id("\"x\""), "json_type: id_invalid"),
        (
            "{\"points\":[{\"id\":1,\"vector\":[1,2,3,4],\"payload\":{\"t\":1,\"t\":2}}]}".into(),
            "json_duplicate_key",
        ),
        ("{\"points\":[{\"id\":1,\"vector\":[1,2,3,4],\"payload\":[]}]}".into(), "json_type"),
        ("{\"batch\":{\"ids\":[1,2],\"vectors\":[[1,2,3,4]]}}".into(), "batch_rows: 1 vectors"),
    ];
    let before = http.ok("POST", "/collections/things/points/scroll", json!({"limit": 100}));
    for (body, expected) in cases {
        let (status, error) = http.text("PUT", "/collections/things/points", &body).refusal();
        let shown = &body[..body.len().min(90)];
        assert_eq!(status, 400, "{shown}: {error}");
        assert!(error.starts_with(expected), "{shown}: {error}, expected {expected}");
    }
    let large = json!({"points": [
        {"id": 1, "vector": [1, 2, 3, 4], "payload": {"a": "x".repeat(2 << 20)}},
    ]});
    let (status, error) = http.refused("PUT", "/collections/things/points", large);
    assert_eq!((status, &error[..13]), (413, "payload_size:"));
    let after = http.ok("POST", "/collections/things/points/scroll", json!({"limit": 100}));
    assert_eq!(before, after);
    assert_eq!(http.n_incidents(), 0);
}

#[test]
fn zero_rows_of_cosine_and_numbers_that_a_type_has_not_are_refused() {
    let http = with_points(Deadlines::default());
    let vectors = json!({
        "c": {"size": 2, "distance": "Cosine"},
        "h": {"size": 2, "distance": "Dot", "datatype": "float16"},
        "b": {"size": 2, "distance": "Euclid", "datatype": "uint8"},
    });
    http.ok("PUT", "/collections/typed", json!({"vectors": vectors}));
    let put = |vector: Value| json!({"points": [{"id": 1, "vector": vector}]});
    for (vector, code) in [
        (json!({"c": [0, 0]}), "vector_zero_norm:"),
        (json!({"h": [1, 70_000]}), "vector_range:"),
        (json!({"b": [1, 256]}), "vector_range:"),
        (json!({"b": [1, 0.5]}), "vector_range:"),
        (json!({"b": [-1, 0]}), "vector_range:"),
    ] {
        let (status, error) = http.refused("PUT", "/collections/typed/points", put(vector.clone()));
        assert_eq!(status, 400, "{vector}");
        assert!(error.starts_with(code), "{vector}: {error}");
    }
    // Squares that vanish or overflow in 32 bits are no reason.
    for (tiny, id) in [(1e-30, 1), (1e30, 2)] {
        let point = json!({"points": [{"id": id, "vector": {"c": [tiny, tiny]}}]});
        http.ok("PUT", "/collections/typed/points", point);
        let search = json!({"vector": {"name": "c", "vector": [tiny, tiny]}, "limit": 1});
        let found = http.ok("POST", "/collections/typed/points/search", search);
        assert!((found[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{found}");
    }
    let zero = json!({"vector": {"name": "c", "vector": [0, 0]}, "limit": 1});
    let (status, error) = http.refused("POST", "/collections/typed/points/search", zero);
    assert_eq!(status, 400);
    assert!(error.starts_with("vector_zero_norm: the query"), "{error}");
}

#[test]
fn numbers_past_their_limits_and_filters_that_are_none_are_refused() {
    let http = with_points(Deadlines::default());
    let search = |more: Value| {
        let mut body = json!({"vector": [1, 0, 0, 0], "limit": 1});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        http.refused("POST", "/collections/things/points/search", body)
    };
    let deep = (0..20).fold(json!({"has_id": [1]}), |inner, _| json!({"must": [inner]}));
    let many: Vec<Value> = (0..2000).map(|i| json!({"has_id": [i]})).collect();
    for (more, code) in [
        (json!({"limit": 0}), "k_range:"),
        (json!({"limit": 2_147_483_648_u64}), "k_range:"),
        (json!({"limit": u64::MAX, "offset": 5}), "k_range:"),
        (json!({"limit": -1}), "json_type:"),
        (json!({"limit": 1.5}), "json_type:"),
        (json!({"params": {"hnsw_ef": 1_000_000_000}}), "ef_range:"),
        (json!({"params": {"nprobe": 1}}), "field_unknown:"),
        (json!({"filter": {"must": [{"key": "n", "range": {"gte": "x"}}]}}), "filter_"),
        (json!({"filter": {"must": [{"key": "n", "regex": "x"}]}}), "filter_"),
        (json!({"filter": {"must": many}}), "filter_size:"),
        (json!({"filter": deep}), "filter_size:"),
        (
            json!({"filter": {"must": [{"has_id": (0..20_000).collect::<Vec<_>>()}]}}),
            "filter_values:",
        ),
        (json!({"filter": []}), "filter_type:"),
        (json!({"with_payload": 1}), "json_type:"),
        (json!({"with_vector": ["x"]}), "vector_name:"),
    ] {
        let (status, error) = search(more.clone());
        assert_eq!(status, 400, "{error}");
        assert!(error.starts_with(code), "{}: {error}", &more.to_string()[..20]);
    }
    let scroll = |body: Value| http.refused("POST", "/collections/things/points/scroll", body).1;
    assert!(scroll(json!({"limit": 0})).starts_with("page_range:"));
    assert!(scroll(json!({"limit": 1_000_000})).starts_with("page_range:"));
    let both = json!({"points": [1], "filter": {}});
    let error = http.refused("POST", "/collections/things/points/delete", both).1;
    assert!(error.starts_with("points_selector:"), "{error}");
    let error =
        http.refused("PUT", "/collections/things/points?wait=maybe", json!({"points": []})).1;
    assert!(error.starts_with("query_invalid:"), "{error}");
    // A value that looks like an escape is a value.
    let filter =
        json!({"filter": {"must": [{"key": "tags", "match": {"value": "x' or tenant != '"}}]}});
    assert_eq!(http.ok("POST", "/collections/things/points/count", filter), json!({"count": 0}));
    assert_eq!(http.n_incidents(), 0);
}

#[test]
fn paths_and_methods_that_are_none_are_refused() {
    let http = with_points(Deadlines::default());
    for path in [
        "/nothing",
        "/collections/",
        "//collections",
        "/collections/things/points/1/2",
        "/collections/..%2f..%2fetc",
        "/collections/%2e%2e",
        "/collections/a%00",
        "/collections/%c0%ae",
        "/collections/things/../things",
    ] {
        let (status, error) = http.text("GET", path, "").refusal();
        assert_eq!(status, 404, "{path}");
        assert!(error.starts_with("route_unknown:"), "{path}: {error}");
    }
    let answered = http.text("POST", "/collections/things", "");
    assert_eq!(answered.refusal().0, 405);
    assert_eq!(answered.header("allow"), Some("PUT, PATCH, GET, DELETE"));
    for (method, path) in [
        ("PUT", "/collections/things/shards"),
        ("GET", "/cluster"),
        ("GET", "/collections/things/snapshots"),
        ("PUT", "/collections/things/vectors/v"),
    ] {
        let (status, error) = http.refused(method, path, json!({}));
        assert_eq!(status, 400, "{path}");
        assert!(error.starts_with("not_offered:"), "{path}: {error}");
    }
}

/// A request line, headers and a body.
fn request(head: &str, body: &str) -> Vec<u8> {
    format!("{head}\r\n\r\n{body}").replace('\n', "\r\n").replace("\r\r", "\r").into_bytes()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[test]
fn heads_that_cannot_be_meant_end_the_connection() {
    let http = with_points(Deadlines::default());
    let post = "POST /collections/things/points/count HTTP/1.1\nhost: x\nconnection: close";
    let long = "a".repeat(100_000);
    let middle = "a".repeat(20_000);
    let many: String = (0..200).map(|i| format!("\nx-{i}: 1")).collect();
    let cases = [
        (
            format!("{post}\ncontent-type: text/plain\ncontent-length: 2"),
            "{}",
            "415",
            "content_type",
        ),
        (
            format!("{post}\ncontent-encoding: zstd\ncontent-length: 2"),
            "{}",
            "415",
            "content_encoding",
        ),
        (format!("{post}\nexpect: a miracle\ncontent-length: 2"), "{}", "417", "expect"),
        (format!("{post}\norigin: http://evil.example\ncontent-length: 2"), "{}", "403", "origin"),
        (format!("{post}\ncontent-length: {}", BODY_BYTES + 1), "", "413", "body_size"),
        (format!("{post}\ncontent-length: 2\ncontent-length: 3"), "{}", "400", ""),
        (format!("{post}\nx: {middle}\ncontent-length: 2"), "{}", "431", "header_size"),
        (format!("{post}\nx: {long}\ncontent-length: 2"), "{}", "431", ""),
        (format!("{post}{many}\ncontent-length: 2"), "{}", "431", ""),
        (format!("GET /{middle} HTTP/1.1\nhost: x"), "", "414", "uri_length"),
        (format!("GET /{} HTTP/1.1\nhost: x", &long[..80_000]), "", "414", ""),
    ];
    for (head, body, expected, code) in cases {
        let answer = raw(http.address(), &request(&head, body));
        let shown = &head[head.len().saturating_sub(60)..];
        assert_eq!(status(&answer), expected, "{shown}: {answer}");
        assert!(answer.contains(code), "{shown}: {answer}");
        let n_answers = answer.matches("HTTP/1.1 ").count();
        assert_eq!(n_answers, 1, "what follows is no request: {answer}");
    }
    // What is no HTTP/1 at all is closed, with an answer or without.
    let tls = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, b'\r', b'\n'];
    for other in [&tls[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = raw(http.address(), other);
        assert!(answer.is_empty() || status(&answer) == "400", "{answer}");
    }
    assert_eq!(http.ok("POST", "/collections/things/points/count", json!({}))["count"], 20);
}

#[test]
fn of_two_ways_to_end_a_body_one_is_believed_whatever_their_order() {
    let http = with_points(Deadlines::default());
    let lines = ["content-length: 4", "transfer-encoding: chunked"];
    for [first, second] in [lines, [lines[1], lines[0]]] {
        let head = format!(
            "POST /collections/things/points/count HTTP/1.1\nhost: x\nconnection: close\n{first}\n{second}"
        );
        let answer = raw(http.address(), &request(&head, "2\n{}\n0\n\n"));
        assert_eq!(status(&answer), "200", "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

#[test]
fn packed_bodies_are_expanded_within_the_limit() {
    let http = with_points(Deadlines::default());
    let send = |packed: &[u8]| {
        let head = format!(
            "POST /collections/things/points/count HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            packed.len()
        );
        raw(http.address(), &[head.as_bytes(), packed].concat())
    };
    let gzip = |bytes: &[u8]| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let answer = send(&gzip(b"{\"filter\":{\"must\":[{\"has_id\":[1,2]}]}}"));
    assert!(answer.contains("{\"count\":2}"), "{answer}");
    let bomb = gzip(&vec![b' '; BODY_BYTES + 1]);
    let answer = send(&bomb);
    assert_eq!(status(&answer), "413");
    assert!(answer.contains("body_expanded"), "{answer}");
    let answer = send(b"no gzip");
    assert_eq!(status(&answer), "400");
    assert!(answer.contains("body_gzip"), "{answer}");
}

#[test]
fn a_chunked_body_is_read_up_to_the_limit() {
    let http = with_points(Deadlines::default());
    let head = "POST /collections/things/points/count HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let answer = raw(http.address(), format!("{head}2\r\n{{}}\r\n0\r\n\r\n").as_bytes());
    assert!(answer.contains("{\"count\":20}"), "{answer}");
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend(format!("{:x}\r\n", BODY_BYTES + 1).bytes());
    bytes.extend(vec![b' '; BODY_BYTES + 1]);
    let answer = raw(http.address(), &bytes);
    assert_eq!(status(&answer), "413", "{answer}");
}
