//! What a cache says of itself, as JSON.

use serde_json::{Map, Value, json};

use crate::cache::{CategoryStats, Explanation, Policies, Policy, Stats};

/// What a cache holds and did.
pub fn stats(stats: &Stats) -> Value {
    let categories: Map<String, Value> =
        stats.categories.iter().map(|(name, own)| (name.clone(), category(own))).collect();
    let mut shown = category(&stats.all);
    shown["entries"] = stats.n_entries.into();
    shown["partitions"] = stats.n_partitions.into();
    shown["index_bytes"] = stats.index_bytes.into();
    shown["load"] = stats.load.into();
    shown["categories"] = categories.into();
    shown
}

fn category(own: &CategoryStats) -> Value {
    json!({
        "lookups": own.n_lookups,
        "hits": own.n_hits(),
        "hit_rate": own.hit_rate(),
        "hits_by_tier": {"exact": own.n_exact, "semantic": own.n_semantic, "verified": own.n_verified},
        "reasons": own.by_reason,
        "inserted": own.n_inserted,
        "joined": own.n_joined,
        "refused": own.refused,
        "evicted": own.n_evicted,
        "expired": own.n_expired,
        "invalidated": own.n_invalidated,
        "observed": own.n_observed,
        "observed_wrong": own.n_observed_wrong,
        "saved_ms": own.saved_ms,
        "saved_tokens": own.saved_tokens,
        "break_even_hit_rate": own.break_even,
    })
}

/// All policies.
pub fn policies(policies: &Policies) -> Value {
    let categories: Map<String, Value> =
        policies.categories.iter().map(|(name, own)| (name.clone(), policy(own))).collect();
    let collections: Map<String, Value> = policies
        .collections
        .iter()
        .map(|(name, own)| {
            let ttl_s = own.ttl.map(|ttl| ttl.as_secs_f64());
            let own = json!({"ttl_s": ttl_s, "dedup": own.dedup, "partition": own.partition});
            (name.clone(), own)
        })
        .collect();
    let load = policies.load.as_ref().map(|own| {
        json!({"metrics": own.url, "period_s": own.period.as_secs_f64(), "requests": own.requests})
    });
    json!({
        "default": policy(&policies.default), "category": categories, "collection": collections, "load": load,
    })
}

fn policy(own: &Policy) -> Value {
    json!({
        "mode": own.mode.word(),
        "threshold": own.threshold,
        "margin": own.margin,
        "guard": own.guard,
        "ttl_s": own.ttl.as_secs_f64(),
        "scope": own.scope.word(),
        "store": own.store,
        "verified": own.verified,
        "doorkeeper": own.doorkeeper,
        "adapt": own.adapt.map(|adapt| json!({
            "delta_max": adapt.delta_max, "ttl_max": adapt.ttl_max, "floor": adapt.floor,
        })),
        "judge": own.judge,
        "min_words": own.min_words,
    })
}

/// How a question would be decided, and by what.
pub fn explanation(own: &Explanation) -> Value {
    let near: Vec<Value> = own
        .nearest
        .iter()
        .map(|near| {
            json!({
                "entry": near.entry.0,
                "similarity": near.similarity,
                "text": near.text,
                "writer": near.writer,
                "age_s": near.age.as_secs_f64(),
                "left_s": near.left.as_secs_f64(),
                "hits": near.n_hits,
                "observed": near.n_observed,
                "explored": near.explored,
                "differs": near.differs,
            })
        })
        .collect();
    json!({
        "hit": own.verdict.hit().is_some(),
        "reason": own.verdict.reason().word(),
        "threshold": own.threshold,
        "load": own.load,
        "partition": own.partition,
        "entries": own.n_entries,
        "nearest": near,
        "policy": policy(&own.policy),
    })
}
