//! LiteLLM keeps its answers as points of a collection, each under a new id, and lets none go. What its collection's policy says is done
//! here: what has had its time is removed, and of points of one partition that are near enough all but the newest.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cache::CollectionPolicy;
use crate::core::ids::PointId;
use crate::engine::{Ask, Collection, Order, Scroll, With, WithVectors};
use crate::error::Result;
use crate::plan::filter::Filter;

/// Points that are read at once.
const PAGE: usize = 256;

/// Points of a partition that are compared, the newest: of more than these no two are looked at that are further apart.
const COMPARED: usize = 256;

/// The field whose value a partition has in common, if the policy names none.
const PARTITION: &str = "litellm_cache_key";

/// The field that says when an answer was given.
const RESPONSE: &str = "response";

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Points that have had their time.
    pub n_expired: u64,
    /// Points that a newer one stands for.
    pub n_joined: u64,
}

/// Points by partition, each with its time.
type Partitions = BTreeMap<String, Vec<(f64, PointId)>>;

/// Removes what the policy says is to go, at this time. A point whose time cannot be read does not end.
///
/// # Errors
/// Those of the collection.
pub fn sweep(collection: &Collection, policy: &CollectionPolicy, now_s: u64) -> Result<Swept> {
    let (partitions, expired) = read(collection, policy, now_s)?;
    let mut swept = Swept { n_expired: expired.len() as u64, n_joined: 0 };
    let mut gone = expired;
    if let Some(threshold) = policy.dedup {
        for points in partitions.into_values().filter(|points| points.len() > 1) {
            let joined = repeated(collection, points, threshold)?;
            swept.n_joined += joined.len() as u64;
            gone.extend(joined);
        }
    }
    if !gone.is_empty() {
        collection.remove(&gone)?;
    }
    Ok(swept)
}

/// All points that live, and those that do not.
fn read(
    collection: &Collection,
    policy: &CollectionPolicy,
    now_s: u64,
) -> Result<(Partitions, Vec<PointId>)> {
    let field = policy.partition.as_deref().unwrap_or(PARTITION);
    let ask = Ask::new(None, Filter::default());
    let with = With { payload: true, vectors: WithVectors::Nothing };
    let mut scroll = Scroll { order: Order::Id, from: None, limit: PAGE, with };
    let (mut partitions, mut expired) = (Partitions::new(), Vec::new());
    loop {
        let page = collection.scroll(&ask, &scroll)?;
        for point in page.points {
            let payload = point.payload.unwrap_or_default();
            let time_s = payload.get(RESPONSE).and_then(time);
            let ends_s = policy.ttl.and_then(|ttl| Some(time_s? + ttl.as_secs_f64()));
            if ends_s.is_some_and(|ends_s| ends_s <= now_s as f64) {
                expired.push(point.id);
            } else if let Some(key) = payload.get(field).and_then(Value::as_str) {
                let points = partitions.entry(key.to_owned()).or_default();
                points.push((time_s.unwrap_or(0.0), point.id));
            }
        }
        scroll.from = page.next;
        if scroll.from.is_none() {
            return Ok((partitions, expired));
        }
    }
}

/// The points of a partition that a newer one stands for.
fn repeated(
    collection: &Collection,
    mut points: Vec<(f64, PointId)>,
    threshold: f32,
) -> Result<Vec<PointId>> {
    points.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    points.truncate(COMPARED);
    let ids: Vec<PointId> = points.into_iter().map(|(_, id)| id).collect();
    let with = With { payload: false, vectors: WithVectors::All };
    let mut kept: Vec<Vec<f32>> = Vec::new();
    let mut gone = Vec::new();
    for point in collection.retrieve(None, &ids, &with)?.into_iter().flatten() {
        let Some((_, rows)) = point.vectors.first() else { continue };
        let mut row = vec![0.0; rows.dim()];
        rows.widen(0, &mut row);
        if kept.iter().any(|other| cosine(other, &row) >= f64::from(threshold)) {
            gone.push(point.id);
        } else {
            kept.push(row);
        }
    }
    Ok(gone)
}

/// When an answer was given, in seconds since 1970: `response` is what Python shows of a dictionary with a `timestamp`. Nothing more of
/// it is read.
fn time(response: &Value) -> Option<f64> {
    let (_, rest) = response.as_str()?.split_once("'timestamp': ")?;
    let end = rest.find(|c: char| !matches!(c, '0'..='9' | '.' | 'e' | '+' | '-'))?;
    rest[..end].parse().ok().filter(|time: &f64| time.is_finite())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_time_is_read_out_of_what_that_client_writes_and_out_of_nothing_else() {
        let of = |text: &str| time(&json!(text));
        let written = "{'timestamp': 1790000000.25, 'response': '{\"id\": \"x\"}'}";
        assert_eq!(of(written), Some(1_790_000_000.25));
        for text in
            ["", "{'timestamp': }", "{'timestamp': soon}", "{'response': 1}", "'timestamp': 7"]
        {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(time(&json!(7)), None);
    }
}
