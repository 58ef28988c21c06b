//! Points as they are sent to clients.

use serde::Serialize;
use serde_json::Value;

use crate::core::metric::Metric;
use crate::engine::{Collection, Found, Settings, StoredPoint, WithVectors};
use crate::server::call::Call;
use crate::server::qdrant::id::Id;
use crate::server::qdrant::select::{WithPayload, WithVector, with};
use crate::server::qdrant::vector::{Sent, score};
use crate::server::reply::Refusal;
use crate::store::columns::number::Number;

/// A point as it was stored.
#[derive(Serialize)]
pub struct Record {
    id: Id,
    payload: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Sent>,
    /// Where it stands in the order of a field.
    #[serde(skip_serializing_if = "Option::is_none")]
    order_value: Option<Value>,
}

/// A point that was found. All have the version of the collection: none is kept for each.
#[derive(Serialize)]
pub struct Scored {
    id: Id,
    version: u64,
    score: f32,
    payload: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Sent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_value: Option<Value>,
}

impl Scored {
    /// A point with its score.
    pub fn of(record: Record, score: f32, version: u64) -> Self {
        let Record { id, payload, vector, order_value } = record;
        Self { id, version, score, payload, vector, order_value }
    }
}

/// A point with what is wanted of it, at a place in the order of a field if there is one.
pub fn record(
    mut point: StoredPoint,
    payload: &WithPayload,
    vector: &WithVector,
    (settings, order): (&Settings, Option<Number>),
) -> Record {
    let is_wanted = !matches!(vector, WithVector::Nothing | WithVector::All(false));
    let (id, stored) = (Id(point.id), point.payload.take());
    Record {
        id,
        payload: payload.part(stored),
        vector: is_wanted.then(|| Sent::of(settings, point)),
        order_value: order.map(order_value),
    }
}

/// Points that were found, with what is wanted of them. Whose points these are was decided when they were found, and is asked
/// again here: what became another's meanwhile is not sent.
///
/// # Errors
/// Those of reading.
pub fn scored(
    call: &Call<'_>,
    collection: &Collection,
    found: &[Found],
    (payload, vector): (&WithPayload, &WithVector),
    metric: Metric,
) -> Result<Vec<Scored>, Refusal> {
    let settings = collection.settings();
    let (tenant, version) = (call.caller.tenant(), call.version(collection)?);
    let wanted = with(payload, vector);
    let points = match tenant {
        // Whoever may read all points and wants nothing of them has all there is to say.
        None if !wanted.payload && wanted.vectors == WithVectors::Nothing => {
            let bare = |found: &Found| {
                let (vectors, sparse) = (Vec::new(), Vec::new());
                Some(StoredPoint { id: found.id, payload: None, vectors, sparse })
            };
            found.iter().map(bare).collect()
        }
        _ => {
            let ids: Vec<_> = found.iter().map(|found| found.id).collect();
            collection.retrieve(tenant, &ids, &wanted)?
        }
    };
    let with_points = found.iter().zip(points).filter_map(|(found, point)| Some((found, point?)));
    Ok(with_points
        .map(|(found, point)| {
            let record = record(point, payload, vector, (&settings, None));
            Scored::of(record, score(metric, found.score), version)
        })
        .collect())
}

/// A value of an order, which came from JSON: a whole number of 64 bits, or a float.
fn order_value(value: Number) -> Value {
    match value {
        Number::Int(whole) => whole_number(whole),
        Number::Float(float) => float.into(),
    }
}

/// A whole number that came from JSON, where it has 64 bits.
pub fn whole_number(number: i128) -> Value {
    let small = i64::try_from(number).map(Value::from);
    small.or_else(|_| u64::try_from(number).map(Value::from)).unwrap_or(Value::Null)
}
