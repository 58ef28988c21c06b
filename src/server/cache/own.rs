//! The API of our own: texts or vectors, one or many, as JSON or as JSON with its vectors in bytes behind it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::{
    CacheSettings, EntryId, Identity, Inserted, Invalidate, Lookup, NewEntry, Reach, SemanticCache,
    Tier, Verdict, Which,
};
use crate::server::cache::binary;
use crate::server::cache::canonical::{Hash, Hasher};
use crate::server::cache::entries::{cache, check_text, identity, vectors};
use crate::server::cache::question::is_trusted;
use crate::server::cache::shape;
use crate::server::call::Call;
use crate::server::limits::BATCH;
use crate::server::qdrant::json::{Strict, body};
use crate::server::reply::{Answer, Refusal, Reply};

/// What selects the answers that may be given: all of it must be equal.
#[derive(Clone, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LookedUp {
    text: Option<String>,
    vector: Option<Vec<f32>>,
    exact: Option<String>,
    model: Option<String>,
    category: Option<String>,
    user: Option<String>,
    partition: Option<String>,
    max_age_s: Option<f64>,
    threshold: Option<f32>,
    lookups: Option<Vec<LookedUp>>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Stored {
    text: Option<String>,
    vector: Option<Vec<f32>>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Removed {
    id: Option<u64>,
    tag: Option<String>,
    category: Option<String>,
    writer: Option<String>,
    attributes: Option<BTreeMap<String, String>>,
    user: Option<String>,
    model: Option<String>,
    all: Option<bool>,
    all_tenants: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    dim: Option<usize>,
    embedder: Option<String>,
}

/// A question of either kind, as far as it says whose answer may be its own.
struct Key {
    identity: Identity,
    exact: Hash,
    text: String,
    vector: Option<Vec<f32>>,
}

/// What of a body makes a key.
struct Said {
    text: Option<String>,
    vector: Option<Vec<f32>>,
    exact: Option<String>,
    model: Option<String>,
    category: Option<String>,
    user: Option<String>,
    partition: Option<String>,
}

/// Moves what makes a key out of a body.
fn said_of_lookup(own: &mut LookedUp) -> Said {
    Said {
        text: own.text.take(),
        vector: own.vector.take(),
        exact: own.exact.take(),
        model: own.model.take(),
        category: own.category.take(),
        user: own.user.take(),
        partition: own.partition.take(),
    }
}

/// As [`said_of_lookup`], of an entry.
fn said_of_entry(own: &mut Stored) -> Said {
    Said {
        text: own.text.take(),
        vector: own.vector.take(),
        exact: own.exact.take(),
        model: own.model.take(),
        category: own.category.take(),
        user: own.user.take(),
        partition: own.partition.take(),
    }
}

impl Said {
    fn key(self, call: &Call<'_>) -> Result<Key, Refusal> {
        let partition = self.partition.unwrap_or_default();
        let compat = Hasher::new("partition").text(&partition).hash();
        let mut identity = identity(call, compat);
        identity.user = self.user;
        identity.category = self.category.unwrap_or_default();
        identity.model = self.model.unwrap_or_default();
        if self.text.is_none() && self.vector.is_none() && self.exact.is_none() {
            return Err(Refusal::bad("question: none, expected text, vector or exact"));
        }
        let mut hasher = Hasher::new("own");
        hasher.bytes(&compat).text(&identity.model).text(&identity.category);
        match (&self.exact, &self.text, &self.vector) {
            (Some(exact), _, _) => hasher.text("exact").text(exact),
            (None, Some(text), _) => hasher.text("text").text(text),
            (None, None, vector) => {
                let bytes: Vec<u8> =
                    vector.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
                hasher.text("vector").bytes(&bytes)
            }
        };
        let text = self.text.unwrap_or_default();
        check_text("text", &text)?;
        Ok(Key { identity, exact: hasher.hash(), text, vector: self.vector })
    }
}

/// The cache, and a vector for every key whose text has one and which brings none.
fn prepared(call: &Call<'_>, keys: &mut [Key]) -> Result<std::sync::Arc<SemanticCache>, Refusal> {
    let given = keys.iter().find_map(|key| key.vector.as_ref().map(Vec::len));
    let cache = cache(call, given)?;
    let lacks = |key: &Key| key.vector.is_none() && !key.text.trim().is_empty();
    let is_text_cache = cache.settings().embedder == call.shared.front.vectors().identity();
    let texts: Vec<String> =
        keys.iter().filter(|key| lacks(key)).map(|key| key.text.clone()).collect();
    // Of a cache with vectors of others, a text without one is compared whole.
    if texts.is_empty() || !is_text_cache {
        return Ok(cache);
    }
    let mut made = vectors(call, &cache, texts)?.into_iter();
    for key in keys.iter_mut().filter(|key| lacks(key)) {
        key.vector = made.next().flatten();
    }
    Ok(cache)
}

fn check_batch(what: &str, n: usize) -> Result<(), Refusal> {
    match n {
        1..=BATCH => Ok(()),
        _ => Err(Refusal::bad(format!("batch_size: {n} {what}, expected 1 to {BATCH}"))),
    }
}

/// `POST /v1/cache/{cache}/lookup`
pub fn lookup(call: &Call<'_>) -> Answer {
    looked_up(call, body(call)?)
}

/// `POST /v1/cache/{cache}/lookup/binary`
pub fn lookup_binary(call: &Call<'_>) -> Answer {
    let (mut asked, rows): (LookedUp, _) = binary::read(call)?;
    let lookups = asked.lookups.get_or_insert_default();
    rows.fill(lookups.iter_mut().map(|own| &mut own.vector))?;
    looked_up(call, asked)
}

fn looked_up(call: &Call<'_>, mut asked: LookedUp) -> Answer {
    let Some(mut all) = asked.lookups.take() else {
        return Reply::result(&verdicts(call, vec![asked])?[0], call.began);
    };
    check_batch("lookups", all.len())?;
    let rest = said_of_lookup(&mut asked);
    if [&rest.text, &rest.exact].iter().any(|own| own.is_some()) || rest.vector.is_some() {
        return Err(Refusal::bad(
            "lookups: beside a question of its own, expected one or the other",
        ));
    }
    for own in &mut all {
        // What is said once is said of all.
        own.model = own.model.take().or_else(|| rest.model.clone());
        own.category = own.category.take().or_else(|| rest.category.clone());
        own.user = own.user.take().or_else(|| rest.user.clone());
        own.partition = own.partition.take().or_else(|| rest.partition.clone());
        own.threshold = own.threshold.or(asked.threshold);
        own.max_age_s = own.max_age_s.or(asked.max_age_s);
    }
    Reply::result(&json!({"verdicts": verdicts(call, all)?}), call.began)
}

fn verdicts(call: &Call<'_>, mut all: Vec<LookedUp>) -> Result<Vec<Value>, Refusal> {
    let keys: Result<Vec<Key>, Refusal> =
        all.iter_mut().map(|own| said_of_lookup(own).key(call)).collect();
    let mut keys = keys?;
    let began = Instant::now();
    let cache = prepared(call, &mut keys)?;
    let embed_took = began.elapsed() / u32::try_from(keys.len()).unwrap_or(u32::MAX).max(1);
    let mut lookups = Vec::with_capacity(keys.len());
    for (key, own) in keys.iter().zip(&all) {
        lookups.push(Lookup {
            identity: &key.identity,
            exact: key.exact,
            text: &key.text,
            vector: key.vector.as_deref(),
            max_age: own.max_age_s.map(|s| seconds("max_age_s", s)).transpose()?,
            threshold: own.threshold,
            trusted: is_trusted(call.caller),
            embed_took,
        });
    }
    let verdicts = match &*lookups {
        [one] => vec![cache.lookup(one)?],
        all => cache.lookup_batch(all)?,
    };
    let is_told = is_trusted(call.caller);
    verdicts.iter().map(|verdict| shown(verdict, is_told)).collect()
}

/// A verdict; how near anything is, only for whom it is no secret.
fn shown(verdict: &Verdict, is_told: bool) -> Result<Value, Refusal> {
    Ok(match verdict {
        Verdict::Hit(hit) => {
            let answer: Value = serde_json::from_slice(&hit.answer.bytes)
                .unwrap_or_else(|_| String::from_utf8_lossy(&hit.answer.bytes).into_owned().into());
            let mut shown = json!({
                "hit": true,
                "reason": hit.reason.word(),
                "tier": tier(hit.tier),
                "answer": answer,
                "age_s": hit.age.as_secs_f64(),
            });
            if is_told {
                shown["entry"] = hit.entry.0.into();
                shown["similarity"] = hit.similarity.into();
                shown["threshold"] = hit.threshold.into();
                shown["text"] = hit.answer.text.as_str().into();
            }
            shown
        }
        Verdict::Miss(miss) => {
            let mut shown = json!({"hit": false, "reason": miss.reason.word()});
            if is_told {
                shown["nearest"] = miss.nearest.map_or(
                    Value::Null,
                    |(entry, similarity)| json!({"entry": entry.0, "similarity": similarity}),
                );
                shown["threshold"] = miss.threshold.into();
            }
            shown
        }
    })
}

fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Exact => "exact",
        Tier::Semantic => "semantic",
        Tier::Verified => "verified",
    }
}

/// `POST /v1/cache/{cache}/insert`
pub fn insert(call: &Call<'_>) -> Answer {
    inserted(call, body(call)?)
}

/// `POST /v1/cache/{cache}/insert/binary`
pub fn insert_binary(call: &Call<'_>) -> Answer {
    let (mut asked, rows): (Stored, _) = binary::read(call)?;
    let entries = asked.entries.get_or_insert_default();
    rows.fill(entries.iter_mut().map(|own| &mut own.vector))?;
    inserted(call, asked)
}

fn inserted(call: &Call<'_>, mut asked: Stored) -> Answer {
    let Some(mut all) = asked.entries.take() else {
        return Reply::result(&results(call, vec![asked])?[0], call.began);
    };
    check_batch("entries", all.len())?;
    let rest = said_of_entry(&mut asked);
    if [&rest.text, &rest.exact].iter().any(|own| own.is_some())
        || rest.vector.is_some()
        || asked.answer.is_some()
    {
        return Err(Refusal::bad("entries: beside an entry of its own, expected one or the other"));
    }
    for own in &mut all {
        own.model = own.model.take().or_else(|| rest.model.clone());
        own.category = own.category.take().or_else(|| rest.category.clone());
        own.user = own.user.take().or_else(|| rest.user.clone());
        own.partition = own.partition.take().or_else(|| rest.partition.clone());
        own.ttl_s = own.ttl_s.or(asked.ttl_s);
        own.tags = own.tags.take().or_else(|| asked.tags.clone());
        own.attributes = own.attributes.take().or_else(|| asked.attributes.clone());
    }
    Reply::result(&json!({"entries": results(call, all)?}), call.began)
}

fn results(call: &Call<'_>, mut all: Vec<Stored>) -> Result<Vec<Value>, Refusal> {
    let keys: Result<Vec<Key>, Refusal> =
        all.iter_mut().map(|own| said_of_entry(own).key(call)).collect();
    let mut keys = keys?;
    if all.iter().any(|own| own.answer.is_none()) {
        return Err(Refusal::bad("answer: none, expected any JSON"));
    }
    let cache = prepared(call, &mut keys)?;
    let writer = call.caller.key().map(|key| key.to_string());
    let mut results = Vec::with_capacity(keys.len());
    for (key, own) in keys.into_iter().zip(all) {
        call.give_way()?;
        let answer = own.answer.map(|answer| answer.0).unwrap_or_default().to_string();
        check_text("answer", &answer)?;
        let inserted = cache.insert(NewEntry {
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
        })?;
        results.push(match inserted {
            Inserted::New(id) => json!({"stored": "new", "entry": id.0}),
            Inserted::Joined(id) => json!({"stored": "joined", "entry": id.0}),
            Inserted::Refused(why) => json!({"stored": "refused", "reason": why.word()}),
        });
    }
    Ok(results)
}

/// `POST /v1/cache/{cache}/invalidate`
pub fn invalidate(call: &Call<'_>) -> Answer {
    let removed: Removed = body(call)?;
    let ways = [
        removed.id.map(|id| Which::Id(EntryId(id))),
        removed.tag.map(Which::Tag),
        removed.category.map(Which::Category),
        removed.writer.map(Which::Writer),
        removed.attributes.map(Which::Attributes),
        removed.user.map(Which::User),
        removed.model.map(|model| Which::Epoch { model: Some(model), compat: None }),
        (removed.all == Some(true)).then_some(Which::All),
    ];
    let mut ways = ways.into_iter().flatten();
    let (Some(which), None) = (ways.next(), ways.next()) else {
        let expected = "id, tag, category, writer, attributes, user, model or all";
        return Err(Refusal::bad(format!("invalidate: expected exactly one of {expected}")));
    };
    let of_all = removed.all_tenants == Some(true);
    if of_all && !is_trusted(call.caller) {
        let message = "all_tenants: this key is of a tenant, whose entries it may remove";
        return Err(Refusal::new(StatusCode::FORBIDDEN, message));
    }
    let reach = match of_all {
        true => Reach::AllTenants,
        false => Reach::Tenant(call.caller.tenant().unwrap_or_default().to_owned()),
    };
    let n_removed = cache(call, None)?.invalidate(&Invalidate { reach, which })?;
    Reply::result(&json!({"removed": n_removed}), call.began)
}

/// `PUT /v1/cache/{cache}`
pub fn create(call: &Call<'_>) -> Answer {
    let made: Made = body(call)?;
    let front = &call.shared.front;
    let settings = match (made.dim, made.embedder) {
        (None, None) => front.settings(),
        (Some(dim), embedder) => {
            CacheSettings { dim, embedder: embedder.unwrap_or_else(|| "given".into()) }
        }
        (None, Some(_)) => {
            return Err(Refusal::bad("dim: none, expected that of the embedder's vectors"));
        }
    };
    let name = call.segment("cache");
    if !call.caller.may_see(name) || front.caches().get(name).is_some() {
        let message = format!(
            "cache_exists: there is a cache {name:?} already, or its name is not for this key"
        );
        return Err(Refusal::new(StatusCode::CONFLICT, message));
    }
    front.caches().made(name, &settings)?;
    Reply::result(&true, call.began)
}

/// `GET /v1/cache`
pub fn list(call: &Call<'_>) -> Answer {
    let front = &call.shared.front;
    let names: Vec<String> =
        front.caches().names().into_iter().filter(|name| call.caller.may_see(name)).collect();
    Reply::result(&json!({"caches": names}), call.began)
}

/// `GET /v1/cache/{cache}/decisions`
pub fn decisions(call: &Call<'_>) -> Answer {
    existing(call)?;
    let latest = call.shared.front.decisions().latest(call.segment("cache"));
    Reply::result(&json!({"decisions": latest}), call.began)
}

/// `GET /v1/cache/{cache}/stats`
pub fn stats(call: &Call<'_>) -> Answer {
    Reply::result(&shape::stats(&existing(call)?.stats()), call.began)
}

/// `GET /v1/cache/{cache}/policy`
pub fn policy(call: &Call<'_>) -> Answer {
    existing(call)?;
    Reply::result(&shape::policies(&call.shared.front.caches().policies()), call.began)
}

/// `POST /v1/cache/{cache}/explain`
pub fn explain(call: &Call<'_>) -> Answer {
    let mut asked: LookedUp = body(call)?;
    if asked.lookups.is_some() {
        return Err(Refusal::bad("lookups: one question is explained at a time"));
    }
    let mut keys = [said_of_lookup(&mut asked).key(call)?];
    let cache = prepared(call, &mut keys)?;
    let [key] = &keys;
    let explanation = cache.explain(&Lookup {
        identity: &key.identity,
        exact: key.exact,
        text: &key.text,
        vector: key.vector.as_deref(),
        max_age: asked.max_age_s.map(|s| seconds("max_age_s", s)).transpose()?,
        threshold: asked.threshold,
        trusted: is_trusted(call.caller),
        embed_took: Duration::ZERO,
    })?;
    Reply::result(&shape::explanation(&explanation), call.began)
}

/// The cache that a route names, if there is one.
fn existing(call: &Call<'_>) -> Result<std::sync::Arc<SemanticCache>, Refusal> {
    let name = call.segment("cache");
    let found = call.shared.front.caches().get(name).filter(|_| call.caller.may_see(name));
    found.ok_or_else(|| {
        let message = format!("cache_not_found: there is no cache {name:?}");
        Refusal::new(StatusCode::NOT_FOUND, message)
    })
}

fn seconds(name: &str, seconds: f64) -> Result<Duration, Refusal> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| Refusal::bad(format!("{name}: {seconds}, expected seconds, at least 0")))
}
