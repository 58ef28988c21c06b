//! `/v1/cache/{cache}/lookup` and `explain`: whether questions like these were answered, one or many, and why.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::{Lookup, Tier, Verdict};
use crate::server::cache::question::is_trusted;
use crate::server::cache::said::{Key, Said, check_batch, prepared, seconds};
use crate::server::cache::shape;
use crate::server::call::Call;
use crate::server::qdrant::json::body;
use crate::server::qdrant::vector::Numbers;
use crate::server::reply::{Answer, Refusal, Reply};

/// What selects the answers that may be given: all of it must be equal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookedUp {
    text: Option<String>,
    vector: Option<Numbers>,
    exact: Option<String>,
    model: Option<String>,
    category: Option<String>,
    user: Option<String>,
    partition: Option<String>,
    max_age_s: Option<f64>,
    threshold: Option<f32>,
    lookups: Option<Vec<LookedUp>>,
}

/// Moves what makes a key out of a body.
///
/// # Errors
/// `vector_shape`.
fn said(own: &mut LookedUp) -> Result<Said, Refusal> {
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

/// `POST /v1/cache/{cache}/lookup`
pub fn lookup(call: &Call<'_>) -> Answer {
    looked_up(call, body(call)?)
}

fn looked_up(call: &Call<'_>, mut asked: LookedUp) -> Answer {
    let Some(mut all) = asked.lookups.take() else {
        return Reply::result(&verdicts(call, vec![asked], &Said::default())?[0], call.began);
    };
    check_batch("lookups", all.len())?;
    let rest = said(&mut asked)?;
    if rest.is_question() {
        return Err(Refusal::bad(
            "lookups: beside a question of its own, expected one or the other",
        ));
    }
    for own in &mut all {
        // What is said once is said of all.
        own.threshold = own.threshold.or(asked.threshold);
        own.max_age_s = own.max_age_s.or(asked.max_age_s);
    }
    let verdicts = verdicts(call, all, &rest)?;
    Reply::result(&json!({"verdicts": verdicts}), call.began)
}

fn verdicts(call: &Call<'_>, mut all: Vec<LookedUp>, rest: &Said) -> Result<Vec<Value>, Refusal> {
    let keys: Result<Vec<Key>, Refusal> =
        all.iter_mut().map(|own| said(own)?.or(rest).key(call)).collect();
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

/// `POST /v1/cache/{cache}/explain`
pub fn explain(call: &Call<'_>) -> Answer {
    let mut asked: LookedUp = body(call)?;
    if asked.lookups.is_some() {
        return Err(Refusal::bad("lookups: one question is explained at a time"));
    }
    let mut keys = [said(&mut asked)?.key(call)?];
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
