//! Points as they were stored: of ids, page by page, counted, and by their values.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::ids::PointId;
use crate::engine::query::{Kind, Prefetch, Query};
use crate::engine::{Direction, FacetValue, Offset, Order, Scroll};
use crate::server::call::Call;
use crate::server::limits::IDS;
use crate::server::qdrant::id::{Id, of_segment, plain};
use crate::server::qdrant::json::{Form, NotOffered, Strict, body};
use crate::server::qdrant::select::{WithPayload, WithVector, ask, with};
use crate::server::qdrant::sent::{Record, record};
use crate::server::reply::{Answer, Refusal, Reply};
use crate::store::columns::datetime;
use crate::store::columns::number::Number;

/// Points of a page where no limit is given.
const PAGE_POINTS: usize = 10;

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
    let wanted = with(payload, vector);
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

#[derive(Serialize)]
struct Scrolled {
    points: Vec<Record>,
    next_page_offset: Option<Id>,
}

/// `POST /collections/{collection}/points/scroll`: by id page after page, or the first in the order of a field.
pub fn scroll(call: &Call<'_>) -> Answer {
    let given: ScrollBody = body(call)?;
    let scrolled = match &given.order_by {
        None => by_id(call, given)?,
        Some(_) if given.offset.is_some() => {
            return Err(Refusal::bad("offset_order: offset with order_by, expected start_from"));
        }
        Some(_) => by_field(call, given)?,
    };
    Reply::result(&scrolled, call.began)
}

fn by_id(call: &Call<'_>, given: ScrollBody) -> Result<Scrolled, Refusal> {
    let collection = call.collection()?;
    let settings = collection.settings();
    let (payload, vector) = (given.with_payload.unwrap_or(WithPayload::All), given.with_vector);
    let from = given.offset.map(|id| Offset::Id(id.0));
    let with = with(&payload, &vector);
    let limit = given.limit.unwrap_or(PAGE_POINTS);
    let scroll = Scroll { order: Order::Id, from, limit, with };
    let page = collection.scroll(&ask(call, given.filter.as_ref())?, &scroll)?;
    let points = page.points.into_iter();
    Ok(Scrolled {
        points: points.map(|point| record(point, &payload, &vector, (&settings, None))).collect(),
        next_page_offset: match page.next {
            Some(Offset::Id(id)) => Some(Id(id)),
            _ => None,
        },
    })
}

/// A point comes at each of its values; where the next page begins, the last value and what of it was seen say.
fn by_field(call: &Call<'_>, given: ScrollBody) -> Result<Scrolled, Refusal> {
    let collection = call.collection()?;
    let settings = collection.settings();
    let (payload, vector) = (given.with_payload.unwrap_or(WithPayload::All), given.with_vector);
    let ask = ask(call, given.filter.as_ref())?;
    let stage = Prefetch {
        kind: given.order_by.map_or(Ok(Kind::Id), order)?,
        filter: ask.filter().clone(),
        limit: given.limit.unwrap_or(PAGE_POINTS),
        ..Prefetch::default()
    };
    let query = Query { stage, offset: 0 };
    let found = collection.query(ask.tenant(), &query, &with(&payload, &vector))?;
    let points = found.points.into_iter();
    let records = points.map(|own| record(own.point, &payload, &vector, (&settings, own.order)));
    Ok(Scrolled { points: records.collect(), next_page_offset: None })
}

/// The order that is asked for, and where it begins.
fn order(by: Form<String, OrderBy>) -> Result<Kind, Refusal> {
    let (key, direction, start) = match by {
        Form::Short(key) => (key, None, None),
        Form::Object(OrderBy { key, direction, start_from }) => (key, direction, start_from),
    };
    let direction = match direction.unwrap_or(Way::Asc) {
        Way::Asc => Direction::Ascending,
        Way::Desc => Direction::Descending,
    };
    let from = start.map(|Strict(start)| start_value(&start)).transpose()?;
    Ok(Kind::Order(key.parse()?, direction, from))
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
