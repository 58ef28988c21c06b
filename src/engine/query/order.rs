//! Kinds without a score: by id, by a field, by chance.

use std::cmp::Ordering;

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::core::ids::PointId;
use crate::core::mix::stream;
use crate::engine::query::score::Ranked;
use crate::engine::query::stage::Walk;
use crate::engine::scroll::{Direction, first};
use crate::error::Result;
use crate::plan::filter::Points;
use crate::store::columns::number::Number;
use crate::store::columns::path::{Path, elements};
use crate::store::columns::presence::JsonType;
use crate::store::columns::{Column, Field, datetime};

/// A point, and where in the order it comes.
type Ordered = (Number, PointId, u32);

impl Walk<'_> {
    /// The first `n` places by id.
    pub fn by_id(&self, matching: &RoaringBitmap, n: usize) -> Vec<u32> {
        let all = matching.iter().map(|place| (self.state.places.id(place), place)).collect();
        first(all, n, |a: &(PointId, u32), b| a.0.cmp(&b.0)).into_iter().map(|at| at.1).collect()
    }

    /// `n` places by chance, each as likely as any other; one seed gives one answer.
    pub fn sampled(&self, matching: &RoaringBitmap, seed: u64, n: usize) -> Vec<u32> {
        let all = matching.iter().map(|place| (stream(seed, place.into()), place)).collect();
        first(all, n, Ord::cmp).into_iter().map(|at: (u64, u32)| at.1).collect()
    }

    /// The first `n` by the values of a field, from one on; those of one value by id. Cost: values of columns where those have all
    /// of them, otherwise the payloads of all that match.
    ///
    /// # Errors
    /// Those of reading payloads.
    pub fn ordered(
        &self,
        matching: &RoaringBitmap,
        path: &Path,
        (direction, start): (Direction, Option<Number>),
        n: usize,
    ) -> Result<Vec<Ranked>> {
        let by_value = |a: Number, b: Number| match direction {
            Direction::Ascending => a.cmp(&b),
            Direction::Descending => b.cmp(&a),
        };
        let mut all: Vec<Ordered> = Vec::new();
        let mut take = |place: u32, value: Number| {
            if start.is_none_or(|start| by_value(value, start) != Ordering::Less) {
                all.push((value, self.state.places.id(place), place));
            }
        };
        let mut unread = matching.clone();
        if let Some(field) = self.state.columns.field(path)? {
            unread = single_values(field, matching, &mut take);
        }
        self.state.read(&unread, &mut |place, payload| {
            values(&path.values(payload)).into_iter().for_each(|value| take(place, value));
        })?;
        let order = |a: &Ordered, b: &Ordered| by_value(a.0, b.0).then(a.1.cmp(&b.1));
        let ranked =
            |(value, _, place): Ordered| Ranked { order: Some(value), ..Ranked::unscored(place) };
        Ok(first(all, n, order).into_iter().map(ranked).collect())
    }
}

/// The distinct numbers and moments among values.
fn values(values: &[&Value]) -> Vec<Number> {
    let value = |value: &&Value| match value {
        Value::String(text) => datetime::parse(text).map(|us| Number::Int(us.into())),
        other => Number::of(other),
    };
    let mut found: Vec<Number> = elements(values).iter().filter_map(value).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Takes the values of places that have one each which a column knows; the other places that may have some.
fn single_values(
    field: &Field,
    matching: &RoaringBitmap,
    take: &mut impl FnMut(u32, Number),
) -> RoaringBitmap {
    let of_type = |json: JsonType| field.presence().of_type(json) & matching;
    let (numbers, strings) = (of_type(JsonType::Number), of_type(JsonType::String));
    let mut unread = &numbers | &strings;
    for column in field.columns() {
        let (own, others, column) = match column {
            Column::Number(column) => (&numbers, &strings, column),
            Column::Datetime(column) => (&strings, &numbers, column),
            _ => continue,
        };
        for place in (own - others) & &unread {
            match column.ends(place) {
                Some((least, greatest)) if least == greatest => {
                    take(place, least);
                    unread.remove(place);
                }
                Some(_) => {}
                // Strings that are no moments.
                None => {
                    unread.remove(place);
                }
            }
        }
    }
    unread
}
