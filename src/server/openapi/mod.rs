//! The description of the API that programs read: OpenAPI 3.1, made from the table of routes.
//!
//! What a route needs and works on comes from the table itself; `told` says what it is for, takes and gives; `kinds` what
//! values look like. A route that is told nowhere is in the document all the same, without words; a test finds it.

mod kinds;
mod told;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::server::call::Call;
use crate::server::openapi::kinds::{components, of_keys, of_kind};
use crate::server::openapi::told::{Gives, TOLD, Told};
use crate::server::qdrant::numbers;
use crate::server::reply::{Answer, Reply, Speech};
use crate::server::router::{On, Route, Scope, speech};
use crate::server::routes::ROUTES;

/// It is asked for without a key: it is made once.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| made().to_string());

/// `GET /openapi.json`
pub fn document(_: &Call<'_>) -> Answer {
    Ok(Reply::file("application/json", &[], &DOCUMENT))
}

fn made() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let own = paths.entry(route.path).or_insert_with(|| json!({}));
        own[route.method.to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "nearkin",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Collections of points with vectors and payloads, searched with filters; behind the API of Qdrant's clients.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"api-key": []}, {"bearer": []}, {}],
        "paths": paths,
        "components": components(),
    })
}

fn operation(route: &Route) -> Value {
    let told = TOLD.iter().find(|told| (told.method, told.path) == (route.method, route.path));
    let mut operation = json!({
        "operationId": operation_id(route),
        "parameters": parameters(route),
        "responses": responses(route, told),
    });
    let scope = match route.scope {
        Scope::Open => {
            operation["security"] = json!([]);
            "No key is needed."
        }
        Scope::Any => "Any key will do.",
        Scope::Read => "Needs a key with the scope read, if the server has keys.",
        Scope::Write => "Needs a key with the scope write, if the server has keys.",
        Scope::Admin => "Needs a key with the scope admin, if the server has keys.",
        Scope::Metrics => "Needs a key with the scope metrics, if the server has keys.",
    };
    operation["description"] = json!(scope);
    if let Some(told) = told {
        operation["summary"] = json!(told.about);
        if !told.body.is_empty() {
            let schema = of_keys(told.body);
            let mut content = json!({"application/json": {"schema": schema}});
            if numbers::are_taken_by(route.method, route.path) {
                content[numbers::CONTENT_TYPE] = json!({"schema": {"type": "string", "format": "binary",
                    "description": "The length of the head in four bytes, the lowest first; the head, which is the JSON with \"f32:FROM:N\" in the place of lists of numbers; the numbers, of four bytes each."}});
            }
            operation["requestBody"] = json!({"required": true, "content": content});
        }
    }
    operation
}

/// The method and the path, as one name.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    let method = route.method.to_lowercase();
    [&*method].into_iter().chain(words).collect::<Vec<_>>().join("_")
}

fn parameters(route: &Route) -> Vec<Value> {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}});
    let mut all: Vec<Value> = names.map(in_path).collect();
    if route.scope != Scope::Open {
        all.push(json!({
            "name": "timeout", "in": "query", "schema": {"type": "integer", "minimum": 1},
            "description": "Seconds that the client waits: past them the answer is 408.",
        }));
    }
    if (route.scope, route.on) == (Scope::Write, On::Change) {
        all.push(json!({
            "name": "wait", "in": "query", "schema": {"type": "boolean"},
            "description": "Whether the answer says completed or acknowledged: it is on disk and found in both cases.",
        }));
    }
    all
}

fn responses(route: &Route, told: Option<&Told>) -> Value {
    let refused = match speech(route.path) {
        Speech::LangCache => json!({"$ref": "#/components/responses/Problem"}),
        Speech::Qdrant | Speech::OpenAi => json!({"$ref": "#/components/responses/Refused"}),
    };
    let (content_type, schema) = match told.map(|told| told.gives) {
        Some(Gives::Refusal) => return json!({"400": refused.clone(), "default": refused}),
        Some(Gives::Result(spec)) => ("application/json", enveloped(spec)),
        Some(Gives::Own(spec) | Gives::Made(spec)) => ("application/json", of_answer(spec)),
        Some(Gives::Nothing) => {
            return json!({"204": {"description": "It is done."}, "default": refused});
        }
        Some(Gives::Text(content_type)) => (content_type, json!({"type": "string"})),
        None => ("application/json", json!({})),
    };
    let mut content = Map::new();
    content.insert(content_type.to_owned(), json!({"schema": schema}));
    let is_made = matches!(told.map(|told| told.gives), Some(Gives::Made(_)));
    let status = if is_made { "201" } else { "200" };
    let mut responses = json!({status: {"description": "It is done.", "content": content}});
    if route.on != On::Server || route.scope != Scope::Open {
        responses["default"] = refused;
    }
    responses
}

/// Keys or a kind of an answer: what is to come later may be there as well.
fn of_answer(spec: &str) -> Value {
    if !spec.contains(':') {
        return of_kind(spec);
    }
    let mut schema = of_keys(spec);
    schema["additionalProperties"] = json!(true);
    schema
}

fn enveloped(spec: &str) -> Value {
    json!({
        "type": "object",
        "required": ["result", "status", "time"],
        "properties": {
            "result": of_answer(spec),
            "status": {"const": "ok"},
            "time": {"type": "number", "description": "Seconds."},
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_told_and_nothing_else_is() {
        let routes: Vec<_> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
        let told: Vec<_> = TOLD.iter().map(|told| (told.method, told.path)).collect();
        assert_eq!(told, routes, "in the order of the table of routes");
        let paths = made()["paths"].clone();
        for (method, path) in routes {
            let operation = &paths[path][method.to_lowercase()];
            assert!(operation["summary"].is_string(), "{method} {path}: {operation}");
        }
    }

    #[test]
    fn names_of_operations_are_there_once_and_all_references_lead_somewhere() {
        let document = made();
        let mut names = BTreeSet::new();
        for operation in document["paths"].as_object().unwrap().values() {
            for (method, operation) in operation.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{method} {name}");
            }
        }
        assert_eq!(names.len(), ROUTES.len());
        let text = document.to_string();
        let references: BTreeSet<&str> = text
            .split("\"$ref\":\"#")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(references.len() > 8, "{references:?}");
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }
}
