//! Points as they were stored: of ids, page by page, counted, and by their values.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::ids::PointId;
use crate::engine::{Direction, FacetValue, Offset, Order, Page, Scroll};
use crate::server::call::Call;
use crate::server::limits::IDS;
use crate::server::qdrant::id::{Id, of_segment, plain};
use crate::server::qdrant::json::{Form, NotOffered, Strict, body};
use crate::server::qdrant::select::{WithPayload, WithVector, ask, with};
use crate::server::qdrant::sent::{Record, record};
use crate::server::reply::{Answer, Refusal, Reply};
use crate::store::columns::datetime;
use crate::store::columns::number::Number;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retrieve {
    ids: Vec<Id>,
    with_payload: Option<WithPayload>,
    #[serde(default)]
    with_vector: WithVector,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
}

/// `POST /collections/{collection}/points`
pub fn retrieve(call: &Call<'_>) -> Answer {
    let given: Retrieve = body(call)?;
    if given.ids.len() > IDS {
        return Err(Refusal::bad(format!("ids_limit: {} ids, limit {IDS}", given.ids.len())));
    }
    let payload = given.with_payload.unwrap_or(WithPayload::All);
    let records = retrieved(call, &plain(&given.ids), &payload, &given.with_vector)?;
    Reply::result(&records, call.began)
}

/// `GET /collections/{collection}/points/{id}`
pub fn one(call: &Call<'_>) -> Answer {
    let id = of_segment(call.segment("id"))?;
    let records = retrieved(call, &[id], &WithPayload::All, &WithVector::All(true))?;
    match records.first() {
        Some(record) => Reply::result(record, call.began),
        None => {
            let message = format!("id_not_found: there is no point {id}");
            Err(Refusal::new(hyper::StatusCode::NOT_FOUND, message))
        }
    }
}

fn retrieved(
    call: &Call<'_>,
    ids: &[PointId],
    payload: &WithPayload,
    vector: &WithVector,
) -> Result<Vec<Record>, Refusal> {
    let collection = call.collection()?;
    let settings = collection.settings();
    let wanted = with(payload, vector, &settings);
    let points = collection.retrieve(call.caller.tenant(), ids, &wanted)?;
    let found = points.into_iter().flatten();
    Ok(found.map(|point| record(point, payload, vector, (&settings, None))).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScrollBody {
    offset: Option<Id>,
    limit: Option<usize>,
    filter: Option<Strict>,
    with_payload: Option<WithPayload>,
    #[serde(default)]
    with_vector: WithVector,
    order_by: Option<Form<String, OrderBy>>,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderBy {
    key: String,
    direction: Option<Way>,
    start_from: Option<Strict>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Asc,
    Desc,
}

/// `POST /collections/{collection}/points/scroll`
pub fn scroll(call: &Call<'_>) -> Answer {
    let given: ScrollBody = body(call)?;
    let collection = call.collection()?;
    let settings = collection.settings();
    let payload = given.with_payload.unwrap_or(WithPayload::All);
    let (order, from) = order(given.order_by, given.offset)?;
    let is_of_ids = order == Order::Id;
    let limit = given.limit.unwrap_or(10);
    let wanted = with(&payload, &given.with_vector, &settings);
    let scroll = Scroll { order, from, limit, with: wanted };
    let page = collection.scroll(&ask(call, given.filter.as_ref())?, &scroll)?;
    let Page { points, values, next } = page;
    let mut values = values.into_iter();
    let records: Vec<Record> = points
        .into_iter()
        .map(|point| {
            let value = values.next().map(order_value);
            record(point, &payload, &given.with_vector, (&settings, value))
        })
        .collect();
    let next = match next {
        Some(Offset::Id(id)) if is_of_ids => Some(Id(id)),
        _ => None,
    };
    #[derive(serde::Serialize)]
    struct Sent {
        points: Vec<Record>,
        next_page_offset: Option<Id>,
    }
    Reply::result(&Sent { points: records, next_page_offset: next }, call.began)
}

/// The order that is asked for, and where it begins.
fn order(
    by: Option<Form<String, OrderBy>>,
    offset: Option<Id>,
) -> Result<(Order, Option<Offset>), Refusal> {
    let (key, direction, start) = match by {
        None => return Ok((Order::Id, offset.map(|id| Offset::Id(id.0)))),
        Some(Form::Short(key)) => (key, None, None),
        Some(Form::Object(OrderBy { key, direction, start_from })) => (key, direction, start_from),
    };
    if offset.is_some() {
        return Err(Refusal::bad("offset_order: offset with order_by, expected start_from"));
    }
    let direction = match direction.unwrap_or(Way::Asc) {
        Way::Asc => Direction::Ascending,
        Way::Desc => Direction::Descending,
    };
    let from = start.map(|Strict(start)| start_value(&start).map(Offset::Value)).transpose()?;
    Ok((Order::Field(key.parse()?, direction), from))
}

fn start_value(start: &Value) -> Result<Number, Refusal> {
    let number = match start {
        Value::String(text) => datetime::parse(text).map(|moment| Number::Int(moment.into())),
        other => Number::of(other),
    };
    number.ok_or_else(|| {
        Refusal::bad(format!("order_by: start_from {start}, expected a number or a moment"))
    })
}

fn order_value(value: Number) -> Value {
    match value {
        Number::Int(whole) => json!(whole),
        Number::Float(float) => json!(float),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CountBody {
    filter: Option<Strict>,
    /// Counts are always exact.
    #[serde(default)]
    #[allow(dead_code)]
    exact: Option<bool>,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
}

/// `POST /collections/{collection}/points/count`
pub fn count(call: &Call<'_>) -> Answer {
    let given: CountBody = body(call)?;
    let count = call.collection()?.count(&ask(call, given.filter.as_ref())?)?;
    Reply::result(&json!({"count": count}), call.began)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FacetBody {
    key: String,
    limit: Option<usize>,
    filter: Option<Strict>,
    /// Counts are always exact.
    #[serde(default)]
    #[allow(dead_code)]
    exact: Option<bool>,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
}

/// `POST /collections/{collection}/facet`
pub fn facet(call: &Call<'_>) -> Answer {
    let given: FacetBody = body(call)?;
    let collection = call.collection()?;
    let ask = ask(call, given.filter.as_ref())?;
    let counts = collection.facet(&ask, &given.key.parse()?, given.limit.unwrap_or(10))?;
    let hits: Vec<Value> = counts
        .into_iter()
        .map(|(value, count)| match value {
            FacetValue::Bool(value) => json!({"value": value, "count": count}),
            FacetValue::Integer(value) => json!({"value": value, "count": count}),
            FacetValue::Keyword(value) => json!({"value": value, "count": count}),
        })
        .collect();
    Reply::result(&json!({"hits": hits}), call.began)
}
