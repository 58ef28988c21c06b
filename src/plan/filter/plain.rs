//! The specification: one point at a time, from its payload, without an index.

use std::ops::RangeBounds;

use serde_json::Value;

use crate::core::ids::PointId;
use crate::plan::filter::{Condition, Filter, Property, Test};
use crate::store::columns::datetime;
use crate::store::columns::geo::GeoPoint;
use crate::store::columns::number::Number;
use crate::store::columns::path::{Path, elements};
use crate::store::columns::presence::{count, is_null};
use crate::store::columns::text::words;

/// What a filter may ask of a point. An object within a payload has neither an id nor vectors.
#[derive(Clone, Copy)]
pub struct Point<'a> {
    /// The payload.
    pub payload: &'a Value,
    /// The id.
    pub id: Option<PointId>,
    /// Whether there is a vector of this name.
    pub has_vector: &'a dyn Fn(&str) -> bool,
}

/// Whether the point passes.
pub fn passes(filter: &Filter, point: Point<'_>) -> bool {
    let holds = |condition: &Condition| holds(condition, point);
    filter.must.iter().all(holds)
        && !filter.must_not.iter().any(holds)
        && (filter.should.is_empty() || filter.should.iter().any(holds))
        && filter.min_should.as_ref().is_none_or(|(least, conditions)| {
            conditions.iter().filter(|condition| holds(condition)).count() as u64 >= *least
        })
}

fn holds(condition: &Condition, point: Point<'_>) -> bool {
    match condition {
        Condition::Field(path, test) => field_passes(test, &path.values(point.payload)),
        Condition::HasId(ids) => point.id.is_some_and(|id| ids.contains(&id)),
        Condition::HasVector(name) => (point.has_vector)(name),
        Condition::Nested(path, filter) => objects(path, point.payload).into_iter().any(|object| {
            passes(filter, Point { payload: object, id: None, has_vector: &|_| false })
        }),
        Condition::Filter(filter) => passes(filter, point),
    }
}

/// The objects in the arrays at a path; `a` and `a[]` are the same here.
fn objects<'a>(path: &Path, payload: &'a Value) -> Vec<&'a Value> {
    let arrays = path.of_array().values(payload).into_iter().filter_map(Value::as_array);
    arrays.flatten().filter(|element| element.is_object()).collect()
}

fn field_passes(test: &Test, values: &[&Value]) -> bool {
    match test {
        Test::Any(property) => elements(values).into_iter().any(|value| has(property, value)),
        Test::Count(counts) if values.is_empty() => counts.contains(&0),
        Test::Count(counts) => values.iter().any(|value| counts.contains(&count(value))),
        Test::Empty(expected) => values.iter().all(|value| count(value) == 0) == *expected,
        Test::Null(expected) => values.iter().any(|value| is_null(value)) == *expected,
    }
}

/// Whether one value has the property; values of another type than it asks for do not, except for the negative ones.
fn has(property: &Property, value: &Value) -> bool {
    match property {
        Property::Bool(expected) => value.as_bool() == Some(*expected),
        Property::Strings(list) => {
            value.as_str().is_some_and(|text| list.iter().any(|s| s == text))
        }
        Property::Integers(list) => value.as_i64().is_some_and(|int| list.contains(&int)),
        Property::NotStrings(list) => {
            !value.is_null() && value.as_str().is_none_or(|text| list.iter().all(|s| s != text))
        }
        Property::NotIntegers(list) => {
            !value.is_null() && value.as_i64().is_none_or(|int| !list.contains(&int))
        }
        Property::Range(interval) => Number::of(value).is_some_and(|n| interval.contains(&n)),
        Property::Geo(shape) => GeoPoint::of(value).is_some_and(|point| shape.contains(point)),
        Property::Text(_) | Property::TextAny(_) | Property::Phrase(_) | Property::Datetimes(_) => {
            value.as_str().is_some_and(|text| string_has(property, text))
        }
    }
}

/// Whether a string has a property that is one of strings.
pub(super) fn string_has(property: &Property, text: &str) -> bool {
    let own = || words(text).collect::<Vec<_>>();
    match property {
        Property::Text(query) => {
            let (own, mut query) = (own(), words(query).peekable());
            query.peek().is_some() && query.all(|word| own.contains(&word))
        }
        Property::TextAny(query) => {
            let own = own();
            words(query).any(|word| own.contains(&word))
        }
        Property::Phrase(query) => {
            let (own, query): (_, Vec<_>) = (own(), words(query).collect());
            !query.is_empty() && own.windows(query.len()).any(|words| words == query)
        }
        Property::Datetimes(interval) => {
            datetime::parse(text).is_some_and(|us| interval.contains(&us))
        }
        Property::Strings(list) => list.iter().any(|s| s == text),
        Property::NotStrings(list) => list.iter().all(|s| s != text),
        Property::NotIntegers(_) => true,
        Property::Bool(_) | Property::Integers(_) | Property::Range(_) | Property::Geo(_) => false,
    }
}
