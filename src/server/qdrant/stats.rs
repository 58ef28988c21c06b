//! What a collection takes, part by part, and the tenants that have most of it. This form is ours.

use serde_json::{Map, Value, json};

use crate::engine::{Collection, Facts, RecallFacts, Settings, VectorFacts};
use crate::server::call::Call;
use crate::server::qdrant::vector::shown_name;
use crate::server::reply::{Answer, Refusal, Reply};

/// Tenants that are told.
const LARGEST_TENANTS: usize = 10;

/// Tenants that are read at once, after which others come first.
const PAGE_TENANTS: usize = 10_000;

/// `GET /collections/{collection}/stats`. It is of all tenants: no key of one has the scope for it.
pub fn stats(call: &Call<'_>) -> Answer {
    let collection = call.collection()?;
    let facts = collection.facts()?;
    let largest = largest_tenants(call, &collection)?;
    let mut all = shown(&collection.settings(), &facts, &largest);
    all["recall"] = recall(collection.recall_facts());
    Reply::result(&all, call.began)
}

fn shown(settings: &Settings, facts: &Facts, largest: &[(String, u64)]) -> Value {
    let vectors: Vec<Value> = facts.vectors.iter().map(|own| vector(settings, own)).collect();
    let tenants: Vec<Value> =
        largest.iter().map(|(name, n)| json!({"tenant": name, "points": n})).collect();
    json!({
        "points": facts.n_points,
        "version": facts.version,
        "vectors": vectors,
        "bytes": facts.n_bytes(),
        "bytes_by_part": by_part(facts.parts()),
        "bytes_on_disk": facts.file_bytes(),
        "tenants": facts.n_tenants,
        "largest_tenants": tenants,
    })
}

/// What came of searches that were asked again.
fn recall(facts: RecallFacts) -> Value {
    json!({
        "checked": facts.n_checked,
        "left_out": facts.n_left_out,
        "share": facts.recall(),
    })
}

fn vector(settings: &Settings, vector: &VectorFacts) -> Value {
    json!({
        "name": shown_name(settings, &vector.name),
        "dim": vector.dim,
        "metric": vector.metric.name(),
        "dtype": vector.dtype.name(),
        "shape": vector.shape.name(),
        "rows": vector.n_base,
        "rows_since": vector.n_recent,
        "bytes_by_part": by_part(vector.parts()),
    })
}

fn by_part(parts: impl IntoIterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    parts.into_iter().map(|(part, n_bytes)| (part.to_owned(), json!(n_bytes))).collect()
}

/// The tenants with the most points, those first; of as many, by name.
fn largest_tenants(
    call: &Call<'_>,
    collection: &Collection,
) -> Result<Vec<(String, u64)>, Refusal> {
    let (mut largest, mut from) = (Vec::new(), None);
    loop {
        let page = collection.tenants(from.as_deref(), PAGE_TENANTS)?;
        largest.extend(page.tenants.into_iter().filter(|(_, n_points)| *n_points > 0));
        largest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        largest.truncate(LARGEST_TENANTS);
        from = page.next;
        if from.is_none() {
            return Ok(largest);
        }
        call.give_way()?;
    }
}
