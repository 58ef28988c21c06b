//! Points that are stored: all of a request, or those that are there, or that are not.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::core::ids::PointId;
use crate::core::limits::PAGE;
use crate::engine::{Ask, Collection, NewPoint, Order, Scroll, Vectors, With, WithVectors};
use crate::plan::filter::{Condition, Filter};
use crate::server::call::Call;
use crate::server::pace::List;
use crate::server::qdrant::id::Id;
use crate::server::qdrant::json::{Entries, Form, NotOffered, Strict, StrictMap};
use crate::server::qdrant::points::changed;
use crate::server::qdrant::rights;
use crate::server::qdrant::select::ask;
use crate::server::qdrant::vector::{Gathered, Numbers, Vector, gather};
use crate::server::reply::{Answer, Refusal};

/// Points to be stored, one by one or column by column.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upsert {
    points: Option<List<OnePoint>>,
    batch: Option<Columns>,
    #[serde(default)]
    #[allow(dead_code)]
    shard_key: NotOffered,
    update_filter: Option<Strict>,
    #[serde(default)]
    update_mode: Option<UpdateMode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnePoint {
    id: Id,
    vector: Vector,
    payload: Option<StrictMap>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Columns {
    ids: Vec<Id>,
    vectors: Form<List<Numbers>, Entries<List<Numbers>>>,
    payloads: Option<List<Option<StrictMap>>>,
}

/// Which points are stored: all, those that are not there, or those that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UpdateMode {
    Upsert,
    InsertOnly,
    UpdateOnly,
}

impl Columns {
    fn points(self) -> Result<Vec<OnePoint>, Refusal> {
        let n = self.ids.len();
        let check = |what: &str, found: usize| match found == n {
            true => Ok(()),
            false => Err(Refusal::bad(format!("batch_rows: {found} {what} for {n} ids"))),
        };
        let mut vectors: Vec<Vector> = match self.vectors {
            Form::Short(List(rows)) => {
                check("vectors", rows.len())?;
                rows.into_iter().map(Form::Short).collect()
            }
            Form::Object(Entries(columns)) => {
                let mut named = vec![Vec::new(); n];
                for (name, List(rows)) in columns {
                    check(&format!("vectors {name:?}"), rows.len())?;
                    named.iter_mut().zip(rows).for_each(|(own, row)| own.push((name.clone(), row)));
                }
                named.into_iter().map(|own| Form::Object(Entries(own))).collect()
            }
        };
        let mut payloads = self.payloads.map_or_else(|| vec![None; n], |List(payloads)| payloads);
        check("payloads", payloads.len())?;
        let of_each = self.ids.into_iter().zip(vectors.drain(..)).zip(payloads.drain(..));
        Ok(of_each.map(|((id, vector), payload)| OnePoint { id, vector, payload }).collect())
    }
}

/// Stores points.
///
/// # Errors
/// `points_missing`, `batch_rows`; those of `rights`, of vectors and of the engine.
pub fn upsert(call: &Call<'_>, collection: &Collection, given: Upsert) -> Result<(), Refusal> {
    let points = match (given.points, given.batch) {
        (Some(List(points)), None) => points,
        (None, Some(batch)) => batch.points()?,
        _ => return Err(Refusal::bad("points_missing: expected either points or batch")),
    };
    let settings = collection.settings();
    let (mut new, mut vectors) = (Vec::new(), Vec::new());
    for point in points {
        let payload = point.payload.unwrap_or_default().value();
        new.push(NewPoint { id: point.id.0, payload });
        vectors.push(point.vector);
    }
    keep_last(&mut new, &mut vectors);
    rights::check_stored(call.caller, collection, &mut new)?;
    let mode = given.update_mode.unwrap_or(UpdateMode::Upsert);
    if mode != UpdateMode::Upsert || given.update_filter.is_some() {
        let ids: Vec<PointId> = new.iter().map(|point| point.id).collect();
        let wanted = wanted(call, collection, &ids, (mode, given.update_filter.as_ref()))?;
        retain(&mut new, &wanted);
        retain(&mut vectors, &wanted);
    }
    if new.is_empty() {
        return Ok(());
    }
    rights::check_quota(call.caller, collection, &new)?;
    let gathered = gather(&settings, vectors, "points")?;
    Ok(collection.upsert(&new, &lent(&gathered))?)
}

/// Leaves of several points of one id the last, as if they had been stored one after the other.
fn keep_last(new: &mut Vec<NewPoint>, vectors: &mut Vec<Vector>) {
    let last: HashMap<PointId, usize> =
        new.iter().enumerate().map(|(i, point)| (point.id, i)).collect();
    if last.len() == new.len() {
        return;
    }
    let is_last: Vec<bool> =
        new.iter().enumerate().map(|(i, point)| last[&point.id] == i).collect();
    retain(new, &is_last);
    retain(vectors, &is_last);
}

/// Leaves those that are wanted, by their numbers.
fn retain<T>(all: &mut Vec<T>, is_wanted: &[bool]) {
    let mut is_wanted = is_wanted.iter();
    all.retain(|_| is_wanted.next().is_some_and(|wanted| *wanted));
}

/// As the engine takes them.
pub fn lent(gathered: &[Gathered]) -> Vec<Vectors<'_>> {
    gathered.iter().map(Gathered::lent).collect()
}

/// Which of these points are to be stored: by whether they are there, and if so pass the filter.
fn wanted(
    call: &Call<'_>,
    collection: &Collection,
    ids: &[PointId],
    (mode, filter): (UpdateMode, Option<&Strict>),
) -> Result<Vec<bool>, Refusal> {
    let nothing = With { payload: false, vectors: WithVectors::Nothing };
    let there = collection.retrieve(call.caller.tenant(), ids, &nothing)?;
    let passing = match filter {
        None => None,
        Some(_) => Some(passing(call, collection, ids, filter)?),
    };
    let is_wanted = |(id, there): (&PointId, bool)| match mode {
        UpdateMode::InsertOnly if there => false,
        UpdateMode::UpdateOnly if !there => false,
        _ => !there || passing.as_ref().is_none_or(|passing| passing.contains(id)),
    };
    Ok(ids.iter().zip(there.iter().map(Option::is_some)).map(is_wanted).collect())
}

/// Those of these points that pass a filter.
///
/// # Errors
/// Those of filters and of reading.
pub fn passing(
    call: &Call<'_>,
    collection: &Collection,
    ids: &[PointId],
    filter: Option<&Strict>,
) -> Result<HashSet<PointId>, Refusal> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let given = ask(call, filter)?.filter().clone();
    let must = vec![Condition::HasId(ids), Condition::Filter(given)];
    let ask = Ask::new(call.caller.tenant(), Filter { must, ..Filter::default() });
    let with = With { payload: false, vectors: WithVectors::Nothing };
    let mut scroll = Scroll { order: Order::Id, from: None, limit: PAGE, with };
    let mut passing = HashSet::new();
    loop {
        let page = collection.scroll(&ask, &scroll)?;
        passing.extend(page.points.iter().map(|point| point.id));
        match page.next {
            None => return Ok(passing),
            next => scroll.from = next,
        }
    }
}

/// `PUT /collections/{collection}/points`
pub fn put(call: &Call<'_>) -> Answer {
    changed(call, upsert)
}
