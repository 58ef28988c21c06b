//! Payload indexes, and the field that names tenants.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engine::{Ask, Collection};
use crate::error::Result;
use crate::plan::filter::{Condition, Filter, Test};
use crate::server::call::Call;
use crate::server::qdrant::config::Note;
use crate::server::qdrant::json::{Form, StrictMap, body};
use crate::server::qdrant::points::completed;
use crate::server::reply::{Answer, Refusal};
use crate::store::columns::Kind;
use crate::store::columns::path::Path;

/// The fields that are indexed, each with its kind, the parameters it was given, and the number of points with a value.
///
/// # Errors
/// Those of reading.
pub fn schema(call: &Call<'_>, collection: &Collection) -> Result<Value> {
    let settings = collection.settings();
    let Note { schema, .. } = Note::of(&settings);
    let mut shown = Map::new();
    for (path, kind) in &settings.indexed {
        let is_there = Condition::Field(path.clone(), Test::Empty(false));
        let ask =
            Ask::new(call.caller.tenant(), Filter { must: vec![is_there], ..Filter::default() });
        let mut own = json!({"data_type": kind.to_string(), "points": collection.count(&ask)?});
        if let Some(params @ Value::Object(_)) = schema.get(&path.to_string()) {
            own["params"] = params.clone();
        }
        shown.insert(path.to_string(), own);
    }
    Ok(Value::Object(shown))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewIndex {
    field_name: String,
    field_schema: Option<Form<String, StrictMap>>,
}

/// Parameters of an index that only say how that API's engine keeps it.
const KEPT: [&str; 7] =
    ["on_disk", "enable_hnsw", "is_tenant", "is_principal", "lookup", "range", "phrase_matching"];

/// Parameters of an index over texts that would change which texts match, and the value at which they do not.
fn is_plain(key: &str, value: &Value) -> bool {
    match key {
        "tokenizer" => value.as_str() == Some("word"),
        "lowercase" => value.as_bool() == Some(true),
        "ascii_folding" => value.as_bool() == Some(false),
        _ => false,
    }
}

/// `PUT /collections/{collection}/index`
pub fn create(call: &Call<'_>) -> Answer {
    let NewIndex { field_name, field_schema } = body(call)?;
    let (kind, params) = match field_schema {
        Some(Form::Short(name)) => (name, Value::Null),
        Some(Form::Object(map)) => {
            let kind = map.0.get("type").and_then(Value::as_str).map(str::to_owned);
            (kind.unwrap_or_default(), map.value())
        }
        None => (String::new(), Value::Null),
    };
    let (kind, path) = (kind.parse::<Kind>()?, field_name.parse()?);
    check_params(&params)?;
    let collection = call.collection()?;
    if params["is_tenant"].as_bool() == Some(true) {
        set_tenant_field(&collection, &path)?;
    }
    collection.index_field(&path, kind)?;
    let settings = collection.settings();
    for (own, other) in
        settings.indexed.iter().filter(|(own, other)| *own == path && *other != kind)
    {
        collection.drop_index(own, *other)?;
    }
    let Note { config, mut schema } = Note::of(&settings);
    schema.insert(path.to_string(), params);
    collection.set_note(Note { config, schema }.value())?;
    completed(call, &collection)
}

fn check_params(params: &Value) -> Result<(), Refusal> {
    let Value::Object(params) = params else { return Ok(()) };
    for (key, value) in params.iter().filter(|(key, value)| *key != "type" && !value.is_null()) {
        let is_flag = KEPT.contains(&key.as_str()) && value.is_boolean();
        if !is_flag && !is_plain(key, value) {
            return Err(Refusal::not_offered(&format!("field_schema.{key}: {value}")));
        }
    }
    Ok(())
}

fn set_tenant_field(collection: &Collection, path: &Path) -> Result<(), Refusal> {
    match &collection.settings().tenant_field {
        Some(own) if own != path => {
            let message = format!("tenant_field: {own} names the tenants already, not {path}");
            Err(Refusal::bad(message))
        }
        _ => Ok(collection.set_tenant_field(path).map(drop)?),
    }
}

/// `DELETE /collections/{collection}/index/{field}`
pub fn delete(call: &Call<'_>) -> Answer {
    let collection = call.collection()?;
    let settings = collection.settings();
    let path = call.segment("field").parse()?;
    if settings.tenant_field.as_ref() == Some(&path) {
        let message =
            format!("tenant_field: {path} names the tenants, who would be nobody without");
        return Err(Refusal::bad(message));
    }
    for (own, kind) in settings.indexed.iter().filter(|(own, _)| *own == path) {
        collection.drop_index(own, *kind)?;
    }
    let Note { config, mut schema } = Note::of(&collection.settings());
    schema.remove(&path.to_string());
    collection.set_note(Note { config, schema }.value())?;
    completed(call, &collection)
}
