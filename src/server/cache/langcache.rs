//! The API of LangCache, so that its clients work when they are given this server's URL. The server embeds.
//!
//! Similarities there are `(1 + cosine) / 2`, in [0, 1]; here, as everywhere, they are cosines. A prompt that is a dump of messages is
//! compared by its last question (`turn`), and attributes select: an entry is found by those that it was stored with.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::{
    self, Candidate, EntryId, Inserted, Invalidate, Lookup, NewEntry, Reach, SemanticCache, Tier,
    Verdict, Which,
};
use crate::server::cache::canonical::{Hash, Hasher};
use crate::server::cache::entries::{cache, check_text, identity, vectors};
use crate::server::cache::question::is_trusted;
use crate::server::cache::turn::{Prompt, unwrapped};
use crate::server::call::Call;
use crate::server::qdrant::json::body;
use crate::server::reply::{Answer, Refusal, Reply};

type Attributes = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Search {
    prompt: String,
    similarity_threshold: Option<f64>,
    search_strategies: Option<Vec<Strategy>>,
    attributes: Option<Attributes>,
    max_results: Option<u64>,
    /// Earlier questions, oldest first.
    context: Option<Vec<String>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Strategy {
    Exact,
    Semantic,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Store {
    prompt: String,
    response: String,
    attributes: Option<Attributes>,
    ttl_millis: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    attributes: Attributes,
}

/// A prompt with its attributes, as entries are found by.
struct Asked {
    prompt: Prompt,
    exact: Hash,
    compat: Hash,
}

impl Asked {
    fn new(prompt: &str, attributes: &Attributes) -> Result<Self, Refusal> {
        check_text("prompt", prompt)?;
        if prompt.trim().is_empty() {
            return Err(Refusal::bad("prompt: it is empty, expected a text"));
        }
        let prompt = unwrapped(prompt);
        let mut hasher = Hasher::new("langcache");
        hasher.bytes(&prompt.around);
        for (name, value) in attributes {
            hasher.text(name).text(value);
        }
        let compat = hasher.hash();
        Ok(Self { exact: hasher.text("prompt").text(&prompt.text).hash(), compat, prompt })
    }
}

/// `POST /v1/caches/{cache}/entries/search`
pub fn search(call: &Call<'_>) -> Answer {
    let search: Search = body(call)?;
    if search.context.is_some() {
        return Err(Refusal::bad("field_unknown: context is for conversations/search"));
    }
    let data = found(call, &search.prompt, &search)?;
    Reply::json(&json!({"data": data}))
}

/// `POST /v1/caches/{cache}/conversations/search`: what is asked for, and to be stored by, is the list of all questions.
pub fn search_conversation(call: &Call<'_>) -> Answer {
    let search: Search = body(call)?;
    let mut questions = search.context.clone().unwrap_or_default();
    let actual = if questions.is_empty() {
        search.prompt.clone()
    } else {
        questions.push(search.prompt.clone());
        json!(questions).to_string()
    };
    let data = found(call, &actual, &search)?;
    Reply::json(&json!({"actualPrompt": actual, "data": data}))
}

fn found(call: &Call<'_>, prompt: &str, search: &Search) -> Result<Vec<Value>, Refusal> {
    if search.max_results == Some(0) {
        return Err(Refusal::bad("maxResults: 0, expected at least 1"));
    }
    let attributes = search.attributes.clone().unwrap_or_default();
    let asked = Asked::new(prompt, &attributes)?;
    let cache = cache(call, None)?;
    let strategies = search.search_strategies.as_deref().unwrap_or(&[Strategy::Semantic]);
    if strategies.is_empty() {
        return Err(Refusal::bad("searchStrategies: [], expected exact, semantic or both"));
    }
    let is_semantic = strategies.contains(&Strategy::Semantic) && !asked.prompt.text.is_empty();
    let began = Instant::now();
    let vector = match is_semantic {
        true => vectors(call, &cache, vec![asked.prompt.text.clone()])?.pop().flatten(),
        false => None,
    };
    let identity = identity(call, asked.compat);
    let lookup = Lookup {
        identity: &identity,
        exact: asked.exact,
        text: &asked.prompt.text,
        vector: vector.as_deref(),
        max_age: None,
        threshold: search.similarity_threshold.map(cosine).transpose()?,
        trusted: is_trusted(call.caller),
        embed_took: began.elapsed(),
    };
    let Verdict::Hit(hit) = cache.lookup(&lookup)? else { return Ok(Vec::new()) };
    // An equal prompt is one at a similarity of 1, where only those are asked for.
    let is_equal = hit.tier == Tier::Exact;
    let is_exact = is_equal && strategies.contains(&Strategy::Exact);
    let of_first = if is_equal { prompt } else { &*hit.answer.text };
    let mut data =
        vec![shown(of_first, &attributes, (hit.entry, hit.similarity, &hit.answer), is_exact)?];
    if is_semantic && let Some(n @ 2..) = search.max_results {
        for (entry, similarity, answer) in others(&cache, &lookup, hit.entry, n - 1)? {
            data.push(shown(&answer.text, &attributes, (entry, similarity, &answer), false)?);
        }
    }
    Ok(data)
}

/// Entries that would do beside the one that does, the nearest first, as far as an explanation shows them.
fn others(
    cache: &SemanticCache,
    lookup: &Lookup<'_>,
    first: EntryId,
    n: u64,
) -> Result<Vec<(EntryId, f32, cache::Answer)>, Refusal> {
    let explained = cache.explain(lookup)?;
    let is_guarded = explained.policy.guard;
    let would_do = |near: &&Candidate| {
        near.entry != first
            && near.similarity >= explained.threshold
            && !near.left.is_zero()
            && !(is_guarded && near.differs.is_some())
    };
    let most = usize::try_from(n).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for near in explained.nearest.iter().filter(would_do).take(most) {
        // One that went meanwhile is no result.
        if let Some(answer) = cache.entry(near.entry, &lookup.identity.tenant)? {
            found.push((near.entry, near.similarity, answer));
        }
    }
    Ok(found)
}

/// An entry as that API shows it.
fn shown(
    prompt: &str,
    attributes: &Attributes,
    (entry, similarity, answer): (EntryId, f32, &cache::Answer),
    is_exact: bool,
) -> Result<Value, Refusal> {
    let answer = std::str::from_utf8(&answer.bytes);
    let response = answer.map_err(|_| {
        let message = "answer_form: this entry's answer is no text; it was stored by another API";
        Refusal::new(StatusCode::CONFLICT, message)
    })?;
    Ok(json!({
        "id": entry.to_string(),
        "prompt": prompt,
        "response": response,
        "attributes": attributes,
        "similarity": f64::midpoint(1.0, f64::from(similarity)),
        "searchStrategy": if is_exact { "exact" } else { "semantic" },
    }))
}

/// A similarity of that API as a cosine.
fn cosine(similarity: f64) -> Result<f32, Refusal> {
    if !(0.0..=1.0).contains(&similarity) {
        let message = format!("similarityThreshold: {similarity}, expected a number in [0, 1]");
        return Err(Refusal::bad(message));
    }
    Ok((2.0 * similarity - 1.0) as f32)
}

/// `POST /v1/caches/{cache}/entries`
pub fn store(call: &Call<'_>) -> Answer {
    let store: Store = body(call)?;
    let attributes = store.attributes.unwrap_or_default();
    let asked = Asked::new(&store.prompt, &attributes)?;
    check_text("response", &store.response)?;
    let cache = cache(call, None)?;
    let vector = match asked.prompt.text.is_empty() {
        true => None,
        false => vectors(call, &cache, vec![asked.prompt.text.clone()])?.pop().flatten(),
    };
    let inserted = cache.insert(NewEntry {
        identity: identity(call, asked.compat),
        exact: asked.exact,
        text: asked.prompt.text,
        vector,
        answer: store.response.into_bytes(),
        attributes,
        tags: Vec::new(),
        writer: call.caller.key().map(|key| key.to_string()),
        ttl: store.ttl_millis.map(Duration::from_millis),
        saved_ms: 0,
        saved_tokens: 0,
        ticket: None,
    })?;
    match inserted {
        Inserted::New(id) | Inserted::Joined(id) => {
            let reply = Reply::json(&json!({"entryId": id.to_string()}))?;
            Ok(reply.with_status(StatusCode::CREATED))
        }
        Inserted::Refused(why) => {
            Err(Refusal::bad(format!("not_stored: {}, see the policy of this cache", why.word())))
        }
    }
}

/// `DELETE /v1/caches/{cache}/entries/{entry}`
pub fn delete(call: &Call<'_>) -> Answer {
    let entry = call.segment("entry");
    let unknown = || {
        let message = format!("entry_not_found: there is no entry {entry:?}");
        Refusal::new(StatusCode::NOT_FOUND, message)
    };
    let id = entry.parse().map(EntryId).map_err(|_| unknown())?;
    match removed(call, Which::Id(id))? {
        0 => Err(unknown()),
        _ => Ok(Reply::nothing()),
    }
}

/// `DELETE /v1/caches/{cache}/entries`
pub fn delete_by_attributes(call: &Call<'_>) -> Answer {
    let remove: Remove = body(call)?;
    if remove.attributes.is_empty() {
        return Err(Refusal::bad("attributes: {}, expected at least one; flush removes all"));
    }
    let n_removed = removed(call, Which::Attributes(remove.attributes))?;
    Reply::json(&json!({"deletedEntriesCount": n_removed}))
}

/// `POST /v1/caches/{cache}/flush`
pub fn flush(call: &Call<'_>) -> Answer {
    removed(call, Which::All)?;
    Ok(Reply::nothing())
}

/// Removes entries of the caller's tenant.
fn removed(call: &Call<'_>, which: Which) -> Result<u64, Refusal> {
    let cache = cache(call, None)?;
    let reach = Reach::Tenant(call.caller.tenant().unwrap_or_default().to_owned());
    Ok(cache.invalidate(&Invalidate { reach, which })?)
}
