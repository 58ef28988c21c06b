//! Sparse vectors and vectors of several rows over HTTP, from the point to the answer.

use serde_json::{Value, json};

use super::Http;
use super::numbers::sent;

/// A collection with a vector of each shape.
fn hybrid() -> Http {
    let http = Http::new();
    let config = json!({
        "vectors": {
            "body": {"size": 2, "distance": "Cosine"},
            "words": {"size": 2, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}},
        },
        "sparse_vectors": {"terms": {}, "rare": {"modifier": "idf", "index": {"on_disk": true}}},
    });
    http.ok("PUT", "/collections/c", config);
    let index =
        json!({"field_name": "owner", "field_schema": {"type": "keyword", "is_tenant": true}});
    http.ok("PUT", "/collections/c/index", index);
    let points: Vec<Value> = (1..=6)
        .map(|i| {
            let terms = json!({"indices": [7, i, 100 + i], "values": [0.5, 1.0, i]});
            let owner = ["ann", "ben"][i % 2];
            json!({
                "id": i,
                "vector": {
                    "body": [i, 1], "words": [[i, 0], [0, i]], "terms": terms, "rare": terms,
                },
                "payload": {"owner": owner, "even": i % 2 == 0},
            })
        })
        .collect();
    http.ok("PUT", "/collections/c/points?wait=true", json!({"points": points}));
    http
}

fn query(http: &Http, body: Value) -> Vec<(u64, f64)> {
    let found = http.ok("POST", "/collections/c/points/query", body);
    let of = |point: &Value| (point["id"].as_u64().unwrap(), point["score"].as_f64().unwrap());
    found["points"].as_array().unwrap().iter().map(of).collect()
}

fn ids(found: &[(u64, f64)]) -> Vec<u64> {
    found.iter().map(|point| point.0).collect()
}

fn sorted(found: &[(u64, f64)]) -> Vec<u64> {
    let mut ids = ids(found);
    ids.sort_unstable();
    ids
}

#[test]
fn vectors_of_every_shape_come_back_as_they_are_and_are_found() {
    let http = hybrid();
    let sparse = |indices: Value, values: Value| json!({"indices": indices, "values": values});
    let by_terms = |indices, values| json!({"query": {"nearest": sparse(indices, values)}, "using": "terms", "limit": 9});
    let check = |http: &Http| {
        let one = http.get("/collections/c/points/3");
        let expected = json!({"indices": [3, 7, 103], "values": [1.0, 0.5, 3.0]});
        assert_eq!(one["vector"]["terms"], expected, "indices are ascending");
        assert_eq!(one["vector"]["words"], json!([[3.0, 0.0], [0.0, 3.0]]));
        // Only what shares an index is found; a product that is negative is found too.
        let found = query(http, by_terms(json!([3, 105, 1]), json!([2.0, -1.0, 1.0])));
        assert_eq!(found, [(3, 2.0), (1, 1.0), (5, -5.0)]);
        assert_eq!(query(http, by_terms(json!([555]), json!([1.0]))), []);
        let by_id = json!({"query": 2, "using": "terms", "limit": 9});
        assert_eq!(sorted(&query(http, by_id)), [1, 3, 4, 5, 6], "all share index 7");
        let words = json!({"query": [[1, 0], [0, 2], [-1, 0]], "using": "words", "limit": 2});
        assert_eq!(query(http, words), [(6, 18.0), (5, 15.0)]);
        let filtered = json!({
            "query": sparse(json!([7]), json!([1.0])), "using": "rare", "limit": 9,
            "filter": {"must": {"key": "even", "match": {"value": true}}},
        });
        assert_eq!(sorted(&query(http, filtered)), [2, 4, 6]);
    };
    check(&http);
    check(&http.reopened());
}

#[test]
fn dense_and_sparse_prefetches_are_fused() {
    let http = hybrid();
    let body = |fusion: &str| {
        json!({
            "prefetch": [
                {"query": [1, 0], "using": "body", "limit": 3},
                {"query": {"indices": [2, 104], "values": [1.0, 1.0]}, "using": "terms", "limit": 3},
                {"query": [[0, 1]], "using": "words", "limit": 2},
            ],
            "query": {"fusion": fusion}, "limit": 10,
        })
    };
    // By body 6, 5, 4; by terms 4, 2; by words 6, 5.
    let found = query(&http, body("rrf"));
    assert_eq!(ids(&found), [6, 4, 5, 2]);
    assert!((found[1].1 - (0.25 + 0.5)).abs() < 1e-6, "{found:?}");
    assert_eq!(ids(&query(&http, body("dbsf"))).len(), 4);
}

#[test]
fn weights_are_by_how_few_points_have_an_index() {
    let http = hybrid();
    let by = |using: &str| {
        let given = json!({"indices": [7, 5], "values": [1.0, 0.1]});
        let found = query(&http, json!({"query": given, "using": using, "limit": 9}));
        found.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max)
    };
    let idf = |d: f64| ((6.0 - d + 0.5) / (d + 0.5) + 1.0).ln();
    assert!((by("terms") - 0.6).abs() < 1e-6);
    assert!((by("rare") - (0.5 * idf(6.0) + 0.1 * idf(1.0))).abs() < 1e-6, "{}", by("rare"));
}

#[test]
fn vectors_of_every_shape_are_changed_and_taken_away() {
    let http = hybrid();
    let path = |rest: &str| format!("/collections/c/points/{rest}?wait=true");
    let new = json!({"points": [
        {"id": 1, "vector": {"terms": {"indices": [900, 8], "values": [2.0, 1.0]}}},
        {"id": 2, "vector": {"words": [[0, 50]]}},
    ]});
    http.ok("PUT", &path("vectors"), new);
    let by_terms = json!({"query": {"indices": [900], "values": [1.0]}, "using": "terms"});
    assert_eq!(query(&http, by_terms.clone()), [(1, 2.0)]);
    let by_words = json!({"query": [[0, 1]], "using": "words", "limit": 1});
    assert_eq!(query(&http, by_words.clone()), [(2, 50.0)]);
    http.ok("POST", &path("vectors/delete"), json!({"points": [1, 2], "vector": ["terms"]}));
    assert_eq!(query(&http, by_terms), []);
    let operations = json!({"operations": [
        {"update_vectors": {"points": [{"id": 3, "vector": {"words": [[0, 99], [1, 1]]}}]}},
        {"delete_vectors": {"points": [2], "vector": ["words"]}},
        {"upsert": {"batch": {"ids": [9], "vectors": {
            "terms": [{"indices": [], "values": []}], "words": [[[0, 1], [1, 0]]],
        }}}},
    ]});
    http.ok("POST", &path("batch"), operations);
    assert_eq!(query(&http, by_words), [(3, 99.0)]);
    let has = |name: &str| {
        let filter = json!({"filter": {"must": {"has_vector": name}}});
        http.ok("POST", "/collections/c/points/count", filter)["count"].clone()
    };
    assert_eq!((has("terms"), has("words"), has("body")), (json!(5), json!(6), json!(6)));
    let body = json!({"filter": {"must_not": {"has_vector": "terms"}}, "with_vector": ["terms"]});
    let page = http.ok("POST", "/collections/c/points/scroll", body);
    assert_eq!(page["points"][0]["vector"], json!({}));
    assert_eq!(http.get("/collections/c/points/9")["vector"]["terms"]["indices"], json!([]));
}

#[test]
fn every_kind_of_query_compares_every_shape() {
    let http = hybrid();
    let terms = json!({"indices": [2], "values": [1.0]});
    let words = json!([[1, 0]]);
    for (using, example, expected) in [("terms", terms, 2), ("words", words, 6)] {
        let pair = json!([{"positive": example, "negative": 1}]);
        for strategy in ["average_vector", "best_score", "sum_scores"] {
            let recommend =
                json!({"positive": [example, 3], "negative": [1], "strategy": strategy});
            let body = json!({"query": {"recommend": recommend}, "using": using, "limit": 9});
            let found = ids(&query(&http, body));
            assert!(!found.contains(&1) && !found.contains(&3), "{using} {strategy} {found:?}");
            assert!(found.len() == 4, "{using} {strategy} {found:?}");
        }
        let discover = json!({"discover": {"target": example, "context": pair}});
        let found = query(&http, json!({"query": discover, "using": using, "limit": 9}));
        assert_eq!((found[0].0, found.len()), (expected, 5), "{using}");
        let context = json!({"query": {"context": pair}, "using": using, "limit": 9});
        assert_eq!(query(&http, context).len(), 5, "{using}");
        let mmr = json!({"nearest": example, "mmr": {"diversity": 0.5, "candidates_limit": 9}});
        let found = query(&http, json!({"query": mmr, "using": using, "limit": 9}));
        assert_eq!(found[0].0, expected, "{using}");
        let matrix = json!({"sample": 9, "limit": 2, "using": using});
        let matrix = http.ok("POST", "/collections/c/points/search/matrix/pairs", matrix);
        assert_eq!(matrix["pairs"].as_array().unwrap().len(), 12, "{using}");
        let body = json!({"query": example, "using": using, "group_by": "owner", "limit": 9});
        let groups = http.ok("POST", "/collections/c/points/query/groups", body);
        assert_eq!(groups["groups"][0]["hits"][0]["id"], expected, "{using}");
        let body = json!({"vector": {"name": using, "vector": example}, "limit": 1});
        let found = http.ok("POST", "/collections/c/points/search", body.clone());
        assert_eq!(found[0]["id"], expected, "{using}");
        let both =
            json!({"searches": [body, {"vector": {"name": "body", "vector": [1, 0]}, "limit": 1}]});
        let found = http.ok("POST", "/collections/c/points/search/batch", both);
        assert_eq!((&found[0][0]["id"], &found[1][0]["id"]), (&json!(expected), &json!(6)));
        let target = json!({"target": example, "feedback": [{"example": 1, "score": 0.5}],
            "strategy": {"naive": {"a": 1, "b": 1, "c": 1}}});
        let body = json!({"query": {"relevance_feedback": target}, "using": using});
        let (status, error) = http.refused("POST", "/collections/c/points/query", body);
        assert_eq!((status, &error[..13]), (400, "vector_shape:"), "{error}");
    }
}

#[test]
fn of_several_rows_it_is_the_rows_of_others_that_must_be_unlike_what_was_chosen() {
    let http = Http::new();
    let multi = json!({"comparator": "max_sim"});
    let vectors = json!({"size": 2, "distance": "Dot", "multivector_config": multi});
    http.ok("PUT", "/collections/c", json!({"vectors": vectors}));
    // The rows of 3 are alike to those of 1 by 70, those of 1 to those of 3 by 60; of 2 both are 65.
    let rows = json!([[[10, 0], [0, 10]], [[6.5, 0]], [[5, 0], [0, 1], [0, 1]]]);
    let points = json!({"batch": {"ids": [1, 2, 3], "vectors": rows}});
    http.ok("PUT", "/collections/c/points", points);
    let mmr = json!({"nearest": [[1, 0]], "mmr": {"diversity": 1.0, "candidates_limit": 3}});
    assert_eq!(ids(&query(&http, json!({"query": mmr, "limit": 3}))), [1, 2, 3]);
}

#[test]
fn rows_and_sparse_values_may_be_sent_as_bytes() {
    let http = hybrid();
    let put = ("PUT", "/collections/c/points");
    let sparse = json!({"indices": [31, 30], "values": "f32:4:2"});
    let vector = json!({"words": ["f32:2:2", "f32:0:2"], "terms": sparse});
    let head = json!({"points": [{"id": 9, "vector": vector}]});
    let answered = sent(&http, put, &head, &[0.5, 90.0, 80.0, 0.25, 7.0, 8.0]);
    assert_eq!(answered.status, 200, "{}", answered.body);
    let stored = http.get("/collections/c/points/9")["vector"].clone();
    assert_eq!(stored["words"], json!([[80.0, 0.25], [0.5, 90.0]]));
    assert_eq!(stored["terms"], json!({"indices": [30, 31], "values": [8.0, 7.0]}));
    let post = ("POST", "/collections/c/points/query");
    for (query, numbers, score) in [
        (json!({"query": ["f32:0:2"], "using": "words"}), [0.0, 1.0], 90.0),
        (
            json!({"query": {"indices": [30, 5], "values": "f32:0:2"}, "using": "terms"}),
            [2.0, 0.5],
            16.0,
        ),
    ] {
        let found = sent(&http, post, &query, &numbers).body["result"]["points"][0].clone();
        assert_eq!((&found["id"], &found["score"]), (&json!(9), &json!(score)), "{query}");
    }
    let unused = sent(&http, post, &json!({"query": ["f32:0:2"], "using": "words"}), &[1.0; 3]);
    assert!(unused.refusal().1.starts_with("numbers_unused"), "{}", unused.body);
}

#[test]
fn what_is_no_vector_of_its_shape_is_refused_with_its_place() {
    let http = hybrid();
    for (vector, expected) in [
        (json!({"terms": [1, 2]}), "vector_shape: points[0].vector: vector \"terms\" is sparse"),
        (json!({"body": [[1, 2]]}), "vector_shape: points[0].vector: vector \"body\" is dense"),
        (json!({"words": [1, 2]}), "vector_shape: points[0].vector: vector \"words\" is multi"),
        (json!({"words": []}), "vector_shape: points[0].vector: vector \"words\" is multi"),
        (json!({"words": [[1, 2], [1]]}), "vector_dim: points[0].vector: 1 values"),
        (json!({"words": [[1, 2], 3]}), "json_type:"),
        (
            json!({"terms": {"indices": [1, 1], "values": [1, 2]}}),
            "sparse_duplicate: points[0].vector: vector \"terms\": index 1 is there twice",
        ),
        (
            json!({"terms": {"indices": [1], "values": [1, 2]}}),
            "sparse_lengths: points[0].vector: vector \"terms\": 1 indices and 2 values",
        ),
        (json!({"terms": {"indices": [1], "values": [1e39]}}), "json_invalid: number out of range"),
        (json!({"terms": {"indices": [-1], "values": [1]}}), "json_type:"),
        (json!({"terms": {"indices": [4_294_967_296u64], "values": [1]}}), "json_type:"),
        (json!({"terms": {"indices": [1]}}), "json_type:"),
        (json!({"terms": {"text": "a"}}), "field_unknown:"),
    ] {
        let body = json!({"points": [{"id": 1, "vector": vector}]});
        let (status, error) = http.refused("PUT", "/collections/c/points", body.clone());
        assert_eq!(status, 400, "{body}: {error}");
        assert!(error.starts_with(expected), "{body}: {error}");
    }
    for (body, expected) in [
        (json!({"query": [1, 2], "using": "terms"}), "vector_shape: vector \"terms\" is sparse"),
        (json!({"query": [1, 2], "using": "words"}), "vector_shape: vector \"words\" is multi"),
        (json!({"query": [[1, 2]], "using": "body"}), "vector_shape: vector \"body\" is dense"),
        (json!({"query": [[1, 2], [3]], "using": "words"}), "vector_dim:"),
        (json!({"query": [[]], "using": "words"}), "vector_dim:"),
    ] {
        let (status, error) = http.refused("POST", "/collections/c/points/query", body.clone());
        assert!(status == 400 && error.starts_with(expected), "{body}: {error}");
    }
}

#[test]
fn a_collection_tells_its_shapes_and_what_they_take() {
    let http = hybrid();
    let params = http.get("/collections/c")["config"]["params"].clone();
    let rare = json!({"modifier": "idf", "index": {"on_disk": true}});
    assert_eq!(params["sparse_vectors"], json!({"terms": {}, "rare": rare}));
    assert_eq!(params["vectors"]["words"]["multivector_config"], json!({"comparator": "max_sim"}));
    let change = json!({"sparse_vectors": {"terms": {"index": {"on_disk": false}}}});
    http.ok("PATCH", "/collections/c", change);
    let shown = http.get("/collections/c")["config"]["params"]["sparse_vectors"].clone();
    assert_eq!(shown["terms"], json!({"index": {"on_disk": false}}));
    let change = json!({"sparse_vectors": {"terms": {"modifier": "idf"}}});
    let (status, error) = http.refused("PATCH", "/collections/c", change);
    assert_eq!((status, &error[..12]), (400, "not_offered:"));
    let stats = http.reopened().get("/collections/c/stats");
    let of = |name: &str| {
        let vectors = stats["vectors"].as_array().unwrap();
        vectors.iter().find(|own| own["name"] == name).unwrap().clone()
    };
    assert_eq!((&of("terms")["shape"], &of("words")["shape"]), (&json!("sparse"), &json!("multi")));
    let bytes = |name: &str| of(name)["bytes_by_part"].clone();
    assert!(bytes("terms")["postings"].as_u64().unwrap() >= 6 * 3 * 8, "{stats}");
    assert!(bytes("words")["rows"].as_u64().unwrap() >= 6 * 2 * 8, "{stats}");
}

#[test]
fn the_only_vector_may_be_of_several_rows_and_there_may_be_sparse_ones_alone() {
    let http = Http::new();
    let multi = json!({"comparator": "max_sim"});
    let vectors = json!({"size": 2, "distance": "Euclid", "multivector_config": multi});
    http.ok("PUT", "/collections/only", json!({"vectors": vectors}));
    let points = json!({"batch": {"ids": [1, 2], "vectors": [[[0, 0], [3, 4]], [[0, 1]]]}});
    http.ok("PUT", "/collections/only/points", points);
    let body = json!({"query": [[3, 4], [0, 0]], "with_vector": true});
    let found = http.ok("POST", "/collections/only/points/query", body);
    assert_eq!(found["points"][0]["score"], 0.0);
    assert_eq!(found["points"][0]["vector"], json!([[0.0, 0.0], [3.0, 4.0]]));
    let score = found["points"][1]["score"].as_f64().unwrap();
    assert!((score - (18.0f64 + 1.0).sqrt()).abs() < 1e-6, "{score}");
    http.ok("PUT", "/collections/alone", json!({"sparse_vectors": {"s": {}}}));
    let vector = json!({"s": {"indices": [5], "values": [2]}});
    let points = json!({"points": [{"id": 1, "vector": vector}, {"id": 2, "vector": {}}]});
    http.ok("PUT", "/collections/alone/points", points);
    let body = json!({"query": {"indices": [5], "values": [2]}, "using": "s"});
    let found = http.ok("POST", "/collections/alone/points/query", body);
    assert_eq!(found["points"].as_array().unwrap().len(), 1);
    assert_eq!(found["points"][0]["score"], 4.0);
}
