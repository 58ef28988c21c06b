//! Collections are made, shown, changed, named otherwise and deleted.

use serde_json::json;

use super::Http;

#[test]
fn a_collection_is_shown_as_it_was_made() {
    let http = Http::new();
    assert_eq!(http.get("/collections/a/exists"), json!({"exists": false}));
    let vectors = json!({
        "text": {"size": 3, "distance": "Cosine", "on_disk": true},
        "image": {"size": 2, "distance": "Euclid", "datatype": "float16"},
    });
    let made = json!({
        "vectors": vectors, "hnsw_config": {"m": 32}, "optimizers_config": {"indexing_threshold": 7},
        "quantization_config": {"scalar": {"type": "int8"}}, "on_disk_payload": false,
        "shard_number": 1, "metadata": {"owner": "me"},
    });
    assert_eq!(http.ok("PUT", "/collections/a?timeout=60", made), json!(true));
    assert_eq!(http.get("/collections/a/exists"), json!({"exists": true}));
    assert_eq!(http.get("/collections"), json!({"collections": [{"name": "a"}]}));
    let shown = http.get("/collections/a");
    assert_eq!(shown["status"], "green");
    assert_eq!(shown["optimizer_status"], "ok");
    assert_eq!(shown["points_count"], 0);
    assert_eq!(shown["indexed_vectors_count"], 0);
    let config = &shown["config"];
    assert_eq!(config["params"]["vectors"], vectors);
    assert_eq!(config["params"]["on_disk_payload"], false);
    assert_eq!(config["hnsw_config"]["m"], 32);
    assert_eq!(config["hnsw_config"]["ef_construct"], 100);
    assert_eq!(config["optimizer_config"]["indexing_threshold"], 7);
    assert_eq!(config["quantization_config"], json!({"scalar": {"type": "int8"}}));
    assert_eq!(config["metadata"], json!({"owner": "me"}));

    let (status, error) =
        http.refused("PUT", "/collections/a", json!({"vectors": {"size": 3, "distance": "Dot"}}));
    assert_eq!((status, &error[..18]), (409, "collection_exists:"));
    assert_eq!(http.ok("DELETE", "/collections/a", json!(null)), json!(true));
    assert_eq!(http.ok("DELETE", "/collections/a", json!(null)), json!(false));
    assert_eq!(http.get("/collections"), json!({"collections": []}));
    let (status, error) = http.refused("GET", "/collections/a", json!(null));
    assert_eq!((status, &error[..21]), (404, "collection_not_found:"));
}

#[test]
fn a_changed_collection_shows_the_change_and_answers_as_before() {
    let http = Http::new();
    http.ok("PUT", "/collections/a", json!({"vectors": {"size": 2, "distance": "Dot"}}));
    http.ok("PUT", "/collections/a/points", json!({"points": [{"id": 1, "vector": [1, 2]}]}));
    let change = json!({
        "vectors": {"": {"on_disk": true}}, "hnsw_config": {"m": 8},
        "params": {"replication_factor": 1, "on_disk_payload": false},
        "quantization_config": {"binary": {"always_ram": true}}, "metadata": {"a": 1},
    });
    assert_eq!(http.ok("PATCH", "/collections/a", change), json!(true));
    let config = http.get("/collections/a")["config"].clone();
    let vectors = json!({"size": 2, "distance": "Dot", "on_disk": true});
    assert_eq!(config["params"]["vectors"], vectors);
    assert_eq!(config["params"]["on_disk_payload"], false);
    assert_eq!(config["hnsw_config"]["m"], 8);
    assert_eq!(config["quantization_config"], json!({"binary": {"always_ram": true}}));
    http.ok("PATCH", "/collections/a", json!({"quantization_config": "Disabled"}));
    assert_eq!(http.get("/collections/a")["config"]["quantization_config"], json!(null));
    assert_eq!(http.get("/collections/a")["points_count"], 1);
}

#[test]
fn what_no_collection_can_be_is_refused_by_name() {
    let http = Http::new();
    let of = |vectors| json!({"vectors": vectors});
    let dense = json!({"size": 2, "distance": "Dot"});
    let cases = [
        (json!({}), "config_invalid: vectors: nothing"),
        (of(json!({})), "vector_names: 0 vectors"),
        (of(json!([1])), "config_invalid: vectors: [1]"),
        (of(json!({"size": 0, "distance": "Dot"})), "vector_dim"),
        (of(json!({"size": 65_537, "distance": "Dot"})), "vector_dim"),
        (of(json!({"size": -1, "distance": "Dot"})), "config_invalid: vectors.size: -1"),
        (of(json!({"size": 2})), "config_invalid: vectors.distance: nothing"),
        (of(json!({"size": 2, "distance": "Far"})), "config_invalid: vectors.distance: \"Far\""),
        (
            of(json!({"size": 2, "distance": "Dot", "datatype": "f8"})),
            "config_invalid: vectors.datatype",
        ),
        (of(json!({"size": 2, "distance": "Dot", "dim": 3})), "field_unknown: vectors.dim"),
        (
            of(json!({"a": {"size": 2, "distance": "Dot", "multivector_config": {}}})),
            "config_invalid: vectors.a.multivector_config.comparator: nothing, expected one of max_sim",
        ),
        (json!({"vectors": dense, "shard_number": 2}), "not_offered: shard_number"),
        (json!({"vectors": dense, "replication_factor": 2}), "not_offered: replication_factor"),
        (json!({"vectors": dense, "sparse_vectors": ["s"]}), "config_invalid: sparse_vectors"),
        (json!({"vectors": dense, "sparse_vectors": {"": {}}}), "vector_names"),
        (
            json!({"vectors": dense, "sparse_vectors": {"s": {"modifier": "bm25"}}}),
            "config_invalid: sparse_vectors.s.modifier: \"bm25\", expected one of none, idf",
        ),
        (
            json!({"vectors": dense, "sparse_vectors": {"s": {"index": {"m": 1}}}}),
            "field_unknown: sparse_vectors.s.index.m",
        ),
        (
            json!({"vectors": {"s": dense}, "sparse_vectors": {"s": {}}}),
            "vector_names: vector \"s\"",
        ),
        (
            json!({"vectors": dense, "strict_mode_config": {"enabled": true}}),
            "not_offered: strict_mode_config.enabled",
        ),
        (json!({"vectors": dense, "vektors": 1}), "field_unknown: body.vektors"),
        (json!({"vectors": dense, "hnsw_config": 1}), "config_invalid: hnsw_config: 1"),
    ];
    for (body, expected) in cases {
        let (status, error) = http.refused("PUT", "/collections/a", body.clone());
        assert_eq!(status, 400, "{body}: {error}");
        assert!(error.starts_with(expected), "{body}: {error}");
    }
    for name in ["a:b", "a*", "a%3Fb", "%7C"] {
        let path = format!("/collections/{name}");
        let (status, error) = http.refused("PUT", &path, of(dense.clone()));
        assert_eq!(status, 400, "{name}");
        assert!(error.starts_with("collection_name:"), "{name}: {error}");
    }
    assert_eq!(http.get("/collections"), json!({"collections": []}), "nothing was made");
}

#[test]
fn aliases_are_changed_together_and_go_with_their_collection() {
    let http = Http::new();
    for name in ["a", "b"] {
        let path = format!("/collections/{name}");
        http.ok("PUT", &path, json!({"vectors": {"size": 1, "distance": "Dot"}}));
    }
    let change = |actions| json!({"actions": actions});
    let create = |collection: &str, alias: &str| json!({"create_alias": {"collection_name": collection, "alias_name": alias}});
    let path = "/collections/aliases";
    http.ok("POST", path, change(json!([create("a", "now"), create("a", "old")])));
    http.ok("PUT", "/collections/now/points", json!({"points": [{"id": 1, "vector": [1]}]}));
    assert_eq!(http.get("/collections/a")["points_count"], 1, "written by its alias");
    // One of these fails: none is done.
    let (status, error) =
        http.refused("POST", path, change(json!([create("b", "now"), create("c", "x")])));
    assert_eq!((status, &error[..21]), (404, "collection_not_found:"));
    assert_eq!(http.get("/collections/now")["points_count"], 1);
    http.ok(
        "POST",
        path,
        change(json!([
            create("b", "now"),
            {"rename_alias": {"old_alias_name": "old", "new_alias_name": "older"}},
        ])),
    );
    assert_eq!(http.get("/collections/now")["points_count"], 0, "it is of b now");
    let of_a = json!({"aliases": [{"alias_name": "older", "collection_name": "a"}]});
    assert_eq!(http.get("/collections/a/aliases"), of_a);
    let (status, error) = http.refused("POST", path, change(json!([create("a", "b")])));
    assert_eq!((status, &error[..18]), (409, "collection_exists:"));
    let gone = json!([{"delete_alias": {"alias_name": "none"}}]);
    let (status, error) = http.refused("POST", path, change(gone));
    assert_eq!((status, &error[..16]), (404, "alias_not_found:"));
    http.ok("DELETE", "/collections/b", json!(null));
    assert_eq!(http.get("/aliases"), of_a);
    assert_eq!(http.refused("GET", "/collections/now", json!(null)).0, 404);
}

#[test]
fn the_root_says_what_clients_look_for_and_who_answers() {
    let http = Http::new();
    let root = http.text("GET", "/", "").body;
    assert_eq!(root["title"], "qdrant - vector search engine");
    assert!(root["version"].as_str().unwrap().starts_with("1.18."));
    assert_eq!(root["server"]["name"], "nearkin");
    for path in ["/healthz", "/livez"] {
        assert_eq!(http.text("GET", path, "").status, 200);
    }
    // Nothing is to be opened, so that this cannot take long.
    while http.text("GET", "/readyz", "").status != 200 {
        std::thread::yield_now();
    }
}

#[test]
fn names_with_spaces_and_letters_of_any_language_are_names() {
    let http = Http::new();
    let names = [("sync%20notes", "sync notes"), ("h%C3%B6he", "höhe"), (".a.part", ".a.part")];
    for (sent, _) in names {
        let path = format!("/collections/{sent}");
        http.ok("PUT", &path, json!({"vectors": {"size": 1, "distance": "Dot"}}));
        http.ok("PUT", &format!("{path}/points"), json!({"points": [{"id": 1, "vector": [1]}]}));
        assert_eq!(http.get(&path)["points_count"], 1);
    }
    let listed = json!({"collections": [
        {"name": ".a.part"}, {"name": "höhe"}, {"name": "sync notes"},
    ]});
    assert_eq!(http.get("/collections"), listed);
    let (_, data) = http.stopped();
    let found = nearkin::engine::collections(data.path()).unwrap();
    assert_eq!(found, [".a.part", "höhe", "sync notes"]);
}
