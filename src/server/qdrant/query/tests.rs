//! Bodies as clients send them, and bodies that nobody can mean.

use serde_json::{Value, json};

use crate::core::ids::PointId;
use crate::core::sparse::SparseVector;
use crate::engine::query::{Example, Kind, Strategy};
use crate::error::Result;
use crate::server::qdrant::query::{QueryRequest, Source};

const SOURCE: Source<'_> = Source { collection: "own", seed: 7 };

fn query(body: Value) -> Result<QueryRequest> {
    SOURCE.query(&body)
}

#[test]
fn a_query_may_be_a_vector_an_id_or_an_object() {
    let kind = |query: Value| self::query(json!({ "query": query })).unwrap().query.stage.kind;
    assert_eq!(kind(json!([1, 0.5])), Kind::Nearest(Example::Vector(vec![1.0, 0.5])));
    assert_eq!(kind(json!(7)), Kind::Nearest(Example::Id(PointId::Num(7))));
    let rows = vec![vec![1.0, 2.0], vec![0.5, 0.0]];
    assert_eq!(kind(json!([[1, 2], [0.5, 0]])), Kind::Nearest(Example::Rows(rows)));
    let sparse = SparseVector::new(vec![2, 7], vec![1.0, 0.5]).unwrap();
    let given = json!({"nearest": {"indices": [7, 2], "values": [0.5, 1]}});
    assert_eq!(kind(given["nearest"].clone()), Kind::Nearest(Example::Sparse(sparse.clone())));
    assert_eq!(kind(given), Kind::Nearest(Example::Sparse(sparse)));
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    assert_eq!(kind(json!({ "nearest": uuid })), Kind::Nearest(Example::Id(uuid.parse().unwrap())));
    assert_eq!(kind(json!({"sample": "random"})), Kind::Sample(7));
    let recommend = kind(json!({"recommend": {"positive": [1], "strategy": "best_score"}}));
    assert!(matches!(recommend, Kind::Recommend { strategy: Strategy::BestScore, .. }));
    assert_eq!(query(json!({})).unwrap().query.stage.kind, Kind::Id);
}

#[test]
fn looking_up_in_the_own_collection_is_no_look_up() {
    let lookup = |collection: &str| {
        let body = json!({"query": 1, "lookup_from": {"collection": collection, "vector": "v"}});
        query(body).unwrap().query.stage.lookup.unwrap()
    };
    assert_eq!(lookup("own").collection, None);
    assert_eq!(lookup("other").collection.as_deref(), Some("other"));
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let deep = (0..17).fold(
        json!({"query": [1.0]}),
        |inner, _| json!({"prefetch": inner, "query": {"fusion": "rrf"}}),
    );
    let term = |term: Value| json!({"prefetch": [{}], "query": {"formula": {"sum": [1, term]}}});
    let cases = [
        (json!([]), "query_type: body: expected an object with prefetch"),
        (json!({"queri": 1}), "query_key: body: unknown key \"queri\", expected prefetch"),
        (json!({"limit": 0}), "query_range: limit: expected a whole number from 1 to 100000"),
        (json!({"limit": "1"}), "query_type: limit: expected a whole number"),
        (json!({"limit": -1}), "query_type: limit: "),
        (json!({"limit": 99_999, "offset": 2}), "query_range: offset: 2 and a limit of 99999"),
        (json!({"shard_key": "a"}), "query_key: shard_key: expected none"),
        (json!({"params": {"exact": 1}}), "query_type: params.exact: expected true or false"),
        (json!({"params": {"hnsw": 1}}), "query_key: params: unknown key \"hnsw\""),
        (json!({"filter": {"musst": []}}), "filter_key: filter: filter: unknown key"),
        (json!({"query": {"nearest": "x"}}), "query_type: query.nearest: expected an unsigned"),
        (json!({"query": "12"}), "query_type: query: expected an unsigned 64-bit integer"),
        (json!({"query": [[1.0], 2]}), "query_type: query[1]: expected a list of numbers"),
        (json!({"query": [[1.0], ["x"]]}), "query_type: query[1][0]: expected a number"),
        (json!({"query": {"indices": [1]}}), "query_key: query: no key \"values\""),
        (
            json!({"query": {"nearest": {"indices": [-1], "values": [1.0]}}}),
            "query_type: query.nearest.indices[0]: expected an unsigned 32-bit integer",
        ),
        (
            json!({"query": {"indices": [4, 4], "values": [1.0, 2.0]}}),
            "sparse_duplicate: query: index 4 is there twice",
        ),
        (
            json!({"query": {"indices": [1], "values": [1.0, 2.0]}}),
            "sparse_lengths: query: 1 indices and 2 values",
        ),
        (
            json!({"query": {"text": "a", "model": "b"}}),
            "vector_not_offered: query: a text to embed",
        ),
        (json!({"query": {"near": 1}}), "query_type: query: expected a vector, an id, or nearest"),
        (json!({"query": {"nearest": 1, "mrr": {}}}), "query_key: query: unknown key \"mrr\""),
        (
            json!({"prefetch": [{}, {"query": {"recommend": {"negative": [1]}}}], "query": 1}),
            "query_examples: prefetch[1].query.recommend.positive: no example",
        ),
        (
            json!({"prefetch": {"offset": 1}, "query": 1}),
            "query_key: prefetch: unknown key \"offset\"",
        ),
        (
            json!({"prefetch": [{"query": [1, "x"]}], "query": 1}),
            "query_type: prefetch[0].query[1]: expected a number, received \"x\"",
        ),
        (json!({"query": {"fusion": "rrf"}}), "query_prefetch: query: fusion of no prefetch"),
        (
            json!({"prefetch": [{}], "query": {"rrf": {"weights": [1.0, 2.0]}}}),
            "query_value: query.rrf.weights: [1.0, 2.0], expected a finite one for each of 1",
        ),
        (json!({"prefetch": [{}], "query": {"rrf": {"k": 0}}}), "query_type: query.rrf.k: "),
        (deep, "query_size: prefetch.prefetch"),
        (
            json!({"query": {"nearest": 1, "mmr": {"diversity": 2}}}),
            "query_range: query.mmr.diversity: 2, expected 0 to 1",
        ),
        (term(json!([1])), "query_type: query.formula.sum[1]: expected a number, a variable"),
        (term(json!("$score[x]")), "query_value: query.formula.sum[1]: expected $score or"),
        (
            term(json!({"div": {"left": 1}})),
            "query_key: query.formula.sum[1].div: no key \"right\"",
        ),
        (term(json!({"exp": 1, "ln": 2})), "query_key: query.formula.sum[1]: unknown key"),
        (
            term(json!({"key": "a", "match": {"value": 1.5}})),
            "filter_type: query.formula.sum[1]: filter.must[0].match.value: ",
        ),
        (
            term(json!({"exp_decay": {"x": 1, "scale": 0}})),
            "query_range: query.formula: a scale of 0",
        ),
        (
            term(json!({"geo_distance": {"origin": {"lat": 91, "lon": 0}, "to": "a"}})),
            "query_value: query.formula.sum[1].geo_distance.origin: expected lat in",
        ),
        (json!({"query": {"order_by": {"key": "a", "direction": "up"}}}), "query_value: query"),
    ];
    for (body, expected) in cases {
        let error = query(body.clone()).unwrap_err().to_string();
        let is_expected = match expected.strip_prefix("query_size: ") {
            Some(_) => error.starts_with("query_size: "),
            None => error.starts_with(expected),
        };
        assert!(is_expected, "{body}\n{error}\n{expected}");
    }
}

#[test]
fn groups_and_matrices_have_their_own_keys() {
    let body = json!({
        "query": [1.0], "group_by": "a.b", "limit": 4, "with_payload": ["x"],
        "with_lookup": {"collection": "docs", "with_payload": true},
    });
    let groups = SOURCE.groups(&body).unwrap();
    assert_eq!((groups.query.n_groups, groups.query.size), (4, 3));
    assert_eq!(groups.wanted.payload, json!(["x"]));
    assert_eq!(groups.lookup.unwrap().collection, "docs");
    for (body, expected) in [
        (json!({"query": [1.0]}), "query_key: body: no key \"group_by\""),
        (json!({"group_by": "a", "offset": 1}), "query_key: body: unknown key \"offset\""),
        (json!({"group_by": "a", "limit": 400, "group_size": 400}), "query_range: limit: 400"),
    ] {
        let error = SOURCE.groups(&body).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let matrix = SOURCE.matrix(&json!({"sample": 5, "using": "v"})).unwrap().matrix;
    assert_eq!((matrix.sample, matrix.limit, &*matrix.vector, matrix.seed), (5, 3, "v", 7));
    let batch = SOURCE.batch(&json!({"searches": [{}, {"limit": 0}]}), 2).unwrap_err();
    assert!(batch.to_string().starts_with("query_range: searches[1].limit: "), "{batch}");
    let batch = SOURCE.batch(&json!({"searches": [{}, {}]}), 1).unwrap_err();
    assert_eq!(batch.to_string(), "batch_size: searches: 2 queries, limit 1");
}
