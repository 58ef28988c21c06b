//! What a replay has seen, for a person or as JSON.

use serde_json::{Map, Value, json};

use crate::cache::interval::interval;
use crate::cli::cache::calibrate::{percent, ranged};
use crate::cli::cache::replay::ReplayArgs;
use crate::cli::cache::replay::run::{Seen, Tally};
use crate::cli::say;

/// Prints it.
pub fn print(args: &ReplayArgs, seen: &Seen) {
    if args.json {
        let text = serde_json::to_string_pretty(&object(args, seen));
        return say(format_args!("{}", text.expect("strings and numbers")));
    }
    let width = seen.categories.keys().map(|name| name.chars().count()).max().unwrap_or(0).max(8);
    say(format_args!(
        "{:width$}  {:>8}  {:>8}  {:>8}  {:>8}  {:24}  wrong of answered",
        "category", "requests", "equal", "similar", "verified", "wrong of all"
    ));
    let all = "all".to_owned();
    for (name, tally) in seen.categories.iter().chain([(&all, &seen.all)]) {
        let share = |n: u64| percent(n as f64 / tally.n.max(1) as f64);
        say(format_args!(
            "{name:width$}  {:>8}  {:>8}  {:>8}  {:>8}  {:24}  {}",
            tally.n,
            share(tally.hits[0]),
            share(tally.hits[1]),
            share(tally.hits[2]),
            ranged(tally.errors, tally.n, args.confidence),
            ranged(tally.errors, tally.hits.iter().sum(), args.confidence)
        ));
    }
    for (reason, n) in &seen.misses {
        say(format_args!("missed, {reason}: {n}"));
    }
    say(format_args!("missed while the model answered the same text: {}", seen.together));
    say(format_args!(
        "lookup: p50 {:.0} us, p99 {:.0} us; {} entries at the end",
        at(seen, 0.5),
        at(seen, 0.99),
        seen.n_entries
    ));
    say(format_args!(
        "saved: {} of {} tokens, {:.0} of {:.0} s of the model",
        seen.tokens[1],
        seen.tokens[0],
        seen.model_ms[1] / 1000.0,
        seen.model_ms[0] / 1000.0
    ));
}

/// Microseconds that a share of the lookups did not exceed.
fn at(seen: &Seen, share: f64) -> f64 {
    let last = seen.lookups.len().saturating_sub(1);
    let took = seen.lookups.get((last as f64 * share).round() as usize);
    took.map_or(0.0, |took| took.as_secs_f64() * 1e6)
}

fn object(args: &ReplayArgs, seen: &Seen) -> Value {
    let tally = |tally: &Tally| {
        let hits: u64 = tally.hits.iter().sum();
        json!({
            "requests": tally.n,
            "hits": {"exact": tally.hits[0], "semantic": tally.hits[1], "verified": tally.hits[2]},
            "hit_rate": hits as f64 / tally.n.max(1) as f64,
            "errors": tally.errors,
            "error_per_request": tally.errors as f64 / tally.n.max(1) as f64,
            "error_per_request_interval": pair(tally.errors, tally.n, args.confidence),
            "error_per_hit": tally.errors as f64 / hits.max(1) as f64,
            "error_per_hit_interval": pair(tally.errors, hits, args.confidence),
        })
    };
    let categories: Map<String, Value> =
        seen.categories.iter().map(|(name, of)| (name.clone(), tally(of))).collect();
    json!({
        "all": tally(&seen.all),
        "categories": categories,
        "misses": seen.misses,
        "misses_together": seen.together,
        "lookup_us": {"p50": at(seen, 0.5), "p99": at(seen, 0.99)},
        "entries": seen.n_entries,
        "tokens": {"all": seen.tokens[0], "saved": seen.tokens[1]},
        "model_seconds": {"all": seen.model_ms[0] / 1000.0, "saved": seen.model_ms[1] / 1000.0},
    })
}

/// An interval; null where nothing was seen.
fn pair(k: u64, n: u64, confidence: f64) -> Value {
    match n {
        0 => Value::Null,
        _ => json!(interval(k, n, confidence)),
    }
}
