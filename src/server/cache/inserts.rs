//! `/v1/cache/{cache}/insert`: answers to be remembered, one or many.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::{Inserted, NewEntry};
use crate::server::cache::entries::check_text;
use crate::server::cache::said::{Key, Said, check_batch, prepared, seconds};
use crate::server::call::Call;
use crate::server::qdrant::json::{Strict, body};
use crate::server::qdrant::vector::Numbers;
use crate::server::reply::{Answer, Refusal, Reply};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    text: Option<String>,
    vector: Option<Numbers>,
    exact: Option<String>,
    model: Option<String>,
    category: Option<String>,
    user: Option<String>,
    partition: Option<String>,
    answer: Option<Strict>,
    attributes: Option<BTreeMap<String, String>>,
    tags: Option<Vec<String>>,
    ttl_s: Option<f64>,
    saved_ms: Option<u32>,
    saved_tokens: Option<u32>,
    entries: Option<Vec<Stored>>,
}

/// Moves what makes a key out of a body.
///
/// # Errors
/// `vector_shape`.
fn said(own: &mut Stored) -> Result<Said, Refusal> {
    Ok(Said {
        text: own.text.take(),
        vector: own.vector.take().map(Numbers::row).transpose()?,
        exact: own.exact.take(),
        model: own.model.take(),
        category: own.category.take(),
        user: own.user.take(),
        partition: own.partition.take(),
    })
}

/// `POST /v1/cache/{cache}/insert`
pub fn insert(call: &Call<'_>) -> Answer {
    inserted(call, body(call)?)
}

fn inserted(call: &Call<'_>, mut asked: Stored) -> Answer {
    let Some(mut all) = asked.entries.take() else {
        return Reply::result(&results(call, vec![asked], &Said::default())?[0], call.began);
    };
    check_batch("entries", all.len())?;
    let rest = said(&mut asked)?;
    if rest.is_question() || asked.answer.is_some() {
        return Err(Refusal::bad("entries: beside an entry of its own, expected one or the other"));
    }
    for own in &mut all {
        own.ttl_s = own.ttl_s.or(asked.ttl_s);
        own.tags = own.tags.take().or_else(|| asked.tags.clone());
        own.attributes = own.attributes.take().or_else(|| asked.attributes.clone());
        own.saved_ms = own.saved_ms.or(asked.saved_ms);
        own.saved_tokens = own.saved_tokens.or(asked.saved_tokens);
    }
    let entries = results(call, all, &rest)?;
    Reply::result(&json!({"entries": entries}), call.began)
}

fn results(call: &Call<'_>, mut all: Vec<Stored>, rest: &Said) -> Result<Vec<Value>, Refusal> {
    let keys: Result<Vec<Key>, Refusal> =
        all.iter_mut().map(|own| said(own)?.or(rest).key(call)).collect();
    let mut keys = keys?;
    if all.iter().any(|own| own.answer.is_none()) {
        return Err(Refusal::bad("answer: none, expected any JSON"));
    }
    let cache = prepared(call, &mut keys)?;
    let writer = call.caller.key().map(|key| key.to_string());
    let mut entries = Vec::with_capacity(keys.len());
    for (key, own) in keys.into_iter().zip(all) {
        let answer = own.answer.map(|answer| answer.0).unwrap_or_default().to_string();
        check_text("answer", &answer)?;
        entries.push(NewEntry {
            identity: key.identity,
            exact: key.exact,
            text: key.text,
            vector: key.vector,
            answer: answer.into_bytes(),
            attributes: own.attributes.unwrap_or_default(),
            tags: own.tags.unwrap_or_default(),
            writer: writer.clone(),
            ttl: own.ttl_s.map(|s| seconds("ttl_s", s)).transpose()?,
            saved_ms: own.saved_ms.unwrap_or(0),
            saved_tokens: own.saved_tokens.unwrap_or(0),
            ticket: None,
        });
    }
    let inserted = cache.insert_batch(entries)?;
    Ok(inserted.into_iter().map(stored).collect())
}

fn stored(inserted: Inserted) -> Value {
    match inserted {
        Inserted::New(id) => json!({"stored": "new", "entry": id.0}),
        Inserted::Joined(id) => json!({"stored": "joined", "entry": id.0}),
        Inserted::Refused(why) => json!({"stored": "refused", "reason": why.word()}),
    }
}
