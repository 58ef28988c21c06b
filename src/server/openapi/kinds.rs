//! What the values of bodies look like.

use serde_json::{Map, Value, json};

/// The schema of an object from its keys, as `told` writes them.
pub fn of_keys(spec: &str) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for key in spec.split_whitespace() {
        let (name, kind) = key.split_once(':').expect("a key is written with its kind");
        if let Some(name) = name.strip_suffix('!') {
            required.push(name);
        }
        properties.insert(name.trim_end_matches('!').to_owned(), of_kind(kind));
    }
    let mut schema = json!({
        "type": "object", "properties": properties, "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// The schema of one value.
pub fn of_kind(kind: &str) -> Value {
    if let Some(kind) = kind.strip_suffix("[]") {
        return json!({"type": "array", "items": of_kind(kind)});
    }
    match kind {
        "Text" => json!({"type": "string"}),
        "Whole" => json!({"type": "integer", "minimum": 0}),
        "Number" => json!({"type": "number"}),
        "Boolean" => json!({"type": "boolean"}),
        "Object" => json!({"type": "object"}),
        "List" => json!({"type": "array", "items": {}}),
        "Nothing" => json!({"type": "null", "description": "There are no shards."}),
        "Any" => json!({}),
        _ => json!({"$ref": format!("#/components/schemas/{kind}")}),
    }
}

/// Kinds with a name, the refusal, and how keys are sent.
pub fn components() -> Value {
    let bearer = json!({"type": "http", "scheme": "bearer"});
    json!({
        "schemas": schemas(),
        "responses": {"Refused": refused("Refusal"), "Problem": refused("Problem")},
        "securitySchemes": {
            "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
            "bearer": bearer,
        },
    })
}

fn refused(kind: &str) -> Value {
    let schema = json!({"$ref": format!("#/components/schemas/{kind}")});
    json!({
        "description": "It is not done: the message says what was expected and what was received.",
        "content": {"application/json": {"schema": schema}},
    })
}

fn schemas() -> Value {
    let numbers = json!({"type": "array", "items": {"type": "number"}, "minItems": 1});
    let conditions = json!({"type": ["object", "array", "null"]});
    json!({
        "Id": {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "format": "uuid"}]},
        "Filter": {
            "type": ["object", "null"],
            "properties": {
                "must": conditions, "should": conditions, "must_not": conditions, "min_should": {"type": ["object", "null"]},
            },
        },
        "Rows": {"type": "array", "items": numbers, "minItems": 1},
        "Sparse": of_keys("indices!:Whole[] values!:Number[]"),
        "Vector": {"anyOf": [numbers, of_kind("Rows"), of_kind("Sparse")]},
        "QueryVector": {"anyOf": [numbers, of_kind("Rows"), of_keys("name!:Text vector!:Vector")]},
        "PointVectors": {"anyOf": [
            numbers, of_kind("Rows"), {"type": "object", "additionalProperties": of_kind("Vector")},
        ]},
        "Point": of_keys("id!:Id vector!:PointVectors payload:Payload"),
        "Payload": {"type": ["object", "null"]},
        "Record": open("id!:Id payload:Payload vector:PointVectors"),
        "Scored": open("id!:Id version!:Whole score!:Number payload:Payload vector:PointVectors"),
        "Group": open("id!:Any hits!:Scored[] lookup:Any"),
        "Params": of_keys("hnsw_ef:Any exact:Any quantization:Any indexed_only:Any acorn:Any"),
        "WithPayload": {"type": ["boolean", "array", "object", "null"]},
        "WithVector": {"type": ["boolean", "array", "null"]},
        "Plan": open("way!:Text exact!:Boolean planned:Text predicted_us:Object took_us!:Number \
            matches!:Whole signs:Whole compared:Any returned!:Whole filter:Object"),
        "Problem": of_keys("title!:Text type!:Text status!:Whole detail!:Text"),
        "Refusal": {
            "type": "object",
            "required": ["status", "time"],
            "properties": {"status": open("error!:Text"), "time": {"type": "number"}},
        },
    })
}

/// Keys of what is answered: others may come.
fn open(spec: &str) -> Value {
    let mut schema = of_keys(spec);
    schema["additionalProperties"] = json!(true);
    schema
}
