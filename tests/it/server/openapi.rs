//! The description of the API against the API.

use std::collections::BTreeSet;

use nearkin::server::limits::Deadlines;
use nearkin::server::{Scope, listed};
use serde_json::{Map, Value, json};

use super::{Http, with_points};

fn document(http: &Http) -> Value {
    let answered = http.text("GET", "/openapi.json", "");
    assert_eq!(answered.status, 200);
    assert_eq!(answered.header("content-type"), Some("application/json"));
    answered.body
}

/// Method, path and operation of all that is described.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            all.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    all
}

#[test]
fn every_route_is_described_with_its_path_its_method_and_what_it_needs() {
    let http = Http::new();
    let document = document(&http);
    assert_eq!(document["openapi"], "3.1.0");
    let described: BTreeSet<_> =
        operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    let routes: BTreeSet<_> =
        listed().map(|(method, path, _)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(described, routes);
    for (method, path, scope) in listed() {
        let operation = &document["paths"][path][method.to_lowercase()];
        let text = operation["description"].as_str().unwrap();
        let (needed, is_open) = match scope {
            Scope::Open => ("No key", true),
            Scope::Any => ("Any key", false),
            Scope::Read => ("scope read", false),
            Scope::Write => ("scope write", false),
            Scope::Admin => ("scope admin", false),
            Scope::Metrics => ("scope metrics", false),
        };
        assert!(text.contains(needed), "{method} {path}: {text}");
        assert_eq!(operation["security"] == json!([]), is_open, "{method} {path}");
        let in_path = operation["parameters"].as_array().unwrap();
        let named: BTreeSet<String> = in_path
            .iter()
            .filter(|one| one["in"] == "path")
            .map(|one| format!("{{{}}}", one["name"].as_str().unwrap()))
            .collect();
        let braces: BTreeSet<String> =
            path.split('/').filter(|part| part.starts_with('{')).map(str::to_owned).collect();
        assert_eq!(named, braces, "{method} {path}");
    }
}

#[test]
fn bodies_have_the_keys_that_are_described_and_no_others() {
    let http = with_points(Deadlines::default());
    let mut n_keys = 0;
    for (method, path, operation) in operations(&document(&http)) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let Some(properties) = schema["properties"].as_object() else { continue };
        let path = path.replace("{collection}", "things");
        let said = |key: &str| {
            let body = Value::Object(Map::from_iter([(key.to_owned(), Value::Null)]));
            let answered = http.send(&method, &path, body);
            let own = &answered.body;
            let error = own["status"]["error"].as_str().or_else(|| own["detail"].as_str());
            (answered.status, error.unwrap_or_default().to_owned())
        };
        for key in properties.keys() {
            let (status, error) = said(key);
            let is_unknown = error.starts_with("field_unknown") || error.contains("unknown key");
            assert!(!is_unknown, "{method} {path} {key}: {status} {error}");
            n_keys += 1;
        }
        let (status, error) = said("no_such_key");
        let is_unknown = error.starts_with("field_unknown") || error.contains("unknown key");
        assert!(status == 400 && is_unknown, "{method} {path}: {status} {error}");
        assert!(error.contains("no_such_key"), "{method} {path}: {error}");
    }
    assert!(n_keys > 150, "{n_keys} keys");
}

#[test]
fn answers_have_the_keys_that_are_described() {
    let http = with_points(Deadlines::default());
    let document = document(&http);
    let vector = json!([1, 2, 3, 4]);
    let points = "/collections/{collection}/points";
    let asked = [
        ("GET", "/collections/{collection}".to_owned(), json!(null)),
        ("GET", "/collections/{collection}/exists".into(), json!(null)),
        ("GET", "/collections/{collection}/stats".into(), json!(null)),
        ("GET", "/collections".into(), json!(null)),
        ("GET", "/aliases".into(), json!(null)),
        ("POST", format!("{points}/scroll"), json!({})),
        ("POST", format!("{points}/count"), json!({})),
        ("POST", format!("{points}/explain"), json!({"vector": vector, "limit": 2})),
        ("POST", format!("{points}/query"), json!({"query": vector})),
        ("POST", format!("{points}/query/groups"), json!({"query": vector, "group_by": "n"})),
        ("POST", format!("{points}/search/matrix/pairs"), json!({})),
        ("POST", format!("{points}/search/matrix/offsets"), json!({})),
        ("POST", format!("{points}/delete"), json!({"points": [1]})),
        ("POST", "/collections/{collection}/facet".into(), json!({"key": "n"})),
        (
            "PUT",
            "/collections/{collection}/index".into(),
            json!({"field_name": "n", "field_schema": "integer"}),
        ),
    ];
    for (method, path, body) in asked {
        let schema = &document["paths"][&path][method.to_lowercase()]["responses"]["200"];
        let schema = &schema["content"]["application/json"]["schema"]["properties"]["result"];
        let told: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        let result = http.ok(method, &path.replace("{collection}", "things"), body);
        let got: BTreeSet<_> = result.as_object().unwrap().keys().cloned().collect();
        assert_eq!(got, told, "{method} {path}");
    }
}
