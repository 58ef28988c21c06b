//! Collections: made, changed, shown and deleted.

use serde_json::{Value, json};

use crate::engine::Ask;
use crate::plan::filter::Filter;
use crate::server::call::Call;
use crate::server::qdrant::config::{self, Note};
use crate::server::qdrant::indexes::schema;
use crate::server::qdrant::json::{StrictMap, body};
use crate::server::reply::{Answer, Reply};

/// `GET /collections`
pub fn list(call: &Call<'_>) -> Answer {
    let entries = call.catalog.entries();
    let seen = entries.iter().filter(|entry| call.caller.may_see(entry.name()));
    let names: Vec<Value> = seen.map(|entry| json!({"name": entry.name()})).collect();
    Reply::result(&json!({"collections": names}), call.began)
}

/// `PUT /collections/{collection}`
pub fn create(call: &Call<'_>) -> Answer {
    let StrictMap(given) = body(call)?;
    call.catalog.create(call.segment("collection"), &config::new(given)?)?;
    Reply::result(&true, call.began)
}

/// `PATCH /collections/{collection}`
pub fn update(call: &Call<'_>) -> Answer {
    let StrictMap(given) = body(call)?;
    let collection = call.collection()?;
    let settings = collection.settings();
    let Note { config, schema } = Note::of(&settings);
    let config = config::changed(&settings, config, given)?;
    collection.set_note(Note { config, schema }.value())?;
    Reply::result(&true, call.began)
}

/// `DELETE /collections/{collection}`
pub fn delete(call: &Call<'_>) -> Answer {
    Reply::result(&call.catalog.delete(call.segment("collection"))?, call.began)
}

/// `GET /collections/{collection}/exists`
pub fn exists(call: &Call<'_>) -> Answer {
    let entry = call.catalog.entry(call.segment("collection"));
    let exists = entry.is_ok_and(|entry| call.caller.may_see(entry.name()));
    Reply::result(&json!({"exists": exists}), call.began)
}

/// `GET /collections/{collection}`
pub fn show(call: &Call<'_>) -> Answer {
    let collection = call.collection()?;
    let settings = collection.settings();
    let everyone = Ask::new(call.caller.tenant(), Filter::default());
    let info = json!({
        "status": "green",
        "optimizer_status": "ok",
        "indexed_vectors_count": match call.caller.tenant() {
            None => collection.n_indexed()?,
            // How much there is of others is not for a tenant to know.
            Some(_) => 0,
        },
        "points_count": collection.count(&everyone)?,
        "segments_count": 1,
        "config": config::shown(&settings),
        "payload_schema": schema(call, &collection)?,
    });
    Reply::result(&info, call.began)
}
