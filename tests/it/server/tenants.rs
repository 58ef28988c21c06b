//! Whose points are: the field of tenants over HTTP.

use serde_json::json;

use super::Http;

#[test]
fn a_field_that_names_tenants_may_be_said_before_and_after_points_came() {
    let http = Http::new();
    let index =
        json!({"field_name": "owner", "field_schema": {"type": "keyword", "is_tenant": true}});
    for (name, is_first) in [("first", true), ("last", false)] {
        let path = format!("/collections/{name}");
        http.ok("PUT", &path, json!({"vectors": {"size": 1, "distance": "Dot"}}));
        if is_first {
            http.ok("PUT", &format!("{path}/index"), index.clone());
        }
        http.ok(
            "PUT",
            &format!("{path}/points"),
            json!({"points": [
                {"id": 1, "vector": [1], "payload": {"owner": "ann"}},
                {"id": 2, "vector": [1], "payload": {"owner": ["ann", "ben"]}},
                {"id": 3, "vector": [1]},
            ]}),
        );
        if !is_first {
            http.ok("PUT", &format!("{path}/index"), index.clone());
        }
        let schema = http.get(&path)["payload_schema"]["owner"].clone();
        assert_eq!(schema["params"]["is_tenant"], true);
        assert_eq!(schema["points"], 2);
        let other =
            json!({"field_name": "x", "field_schema": {"type": "keyword", "is_tenant": true}});
        let (status, error) = http.refused("PUT", &format!("{path}/index"), other);
        assert_eq!((status, &error[..13]), (400, "tenant_field:"));
        let (status, error) = http.refused("DELETE", &format!("{path}/index/owner"), json!(null));
        assert_eq!((status, &error[..13]), (400, "tenant_field:"));
    }
    // Tenants come from keys: what a client says of itself is nothing.
    let (_, data) = http.stopped();
    let pool = std::sync::Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    for name in ["first", "last"] {
        let collection =
            nearkin::engine::Collection::open(&data.path().join(name), &pool, 1 << 30).unwrap();
        assert_eq!(collection.count_of_tenant("ann").unwrap(), 2);
        assert_eq!(collection.count_of_tenant("ben").unwrap(), 1);
    }
}
