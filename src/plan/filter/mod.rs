//! Which points pass: a filter becomes one exact, counted set of slots before anything is searched.
//!
//! In: a filter in Qdrant's JSON form ([`Filter::from_json`]), columns, payloads. Out: [`Passing`], or what that would
//! cost ([`estimate()`]). Next: `plain`, the specification, one payload at a time.
//!
//! A filter says of each point yes or no. [`evaluate()`] asks the columns first and knows then of each point yes, no or
//! unsure; it reads the payloads of the unsure ones only, and tells how many those were. Equal filters have an equal
//! [`Filter::key`].

mod canonical;
mod estimate;
mod evaluate;
mod field;
mod parse;
pub mod plain;
mod shape;
mod simple;
#[cfg(test)]
mod tests;

pub use estimate::{Estimate, estimate};
pub use evaluate::{Passing, Points, evaluate};
pub use shape::{Shape, distance_m};

use crate::core::ids::PointId;
use crate::store::columns::number::{Interval, Number};
use crate::store::columns::path::Path;

/// Conditions on a point. All of `must` hold, none of `must_not`, at least one of `should` unless there are none, and
/// enough of `min_should`. The default passes every point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// All of these hold.
    pub must: Vec<Condition>,
    /// At least one of these holds, if there are any.
    pub should: Vec<Condition>,
    /// None of these holds.
    pub must_not: Vec<Condition>,
    /// At least so many of these hold.
    pub min_should: Option<(u64, Vec<Condition>)>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// On the values at a path.
    Field(Path, Test),
    /// The point has one of these ids, which are ascending.
    HasId(Vec<PointId>),
    /// The point has a vector of this name.
    HasVector(String),
    /// An object of the array at the path passes the filter, as if it were the payload.
    Nested(Path, Filter),
    /// A filter within the filter.
    Filter(Filter),
}

/// What the values at a path are asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// One of the values, or of the elements of those that are arrays, has this property.
    Any(Property),
    /// One of the values counts as so many: null as none, an array as its length, others as one. No value counts as none.
    Count(Interval<u64>),
    /// Whether there is no value but null and empty arrays.
    Empty(bool),
    /// Whether one of the values is null, or an array with a null in it.
    Null(bool),
}

/// A property of one value.
#[derive(Clone, Debug, PartialEq)]
pub enum Property {
    /// This truth value.
    Bool(bool),
    /// One of these strings, which are ascending.
    Strings(Vec<String>),
    /// One of these whole numbers, which are ascending.
    Integers(Vec<i64>),
    /// Neither null nor one of these strings, which are ascending.
    NotStrings(Vec<String>),
    /// Neither null nor one of these whole numbers, which are ascending.
    NotIntegers(Vec<i64>),
    /// A text with all words of this one.
    Text(String),
    /// A text with any word of this one.
    TextAny(String),
    /// A text with the words of this one, one after the other.
    Phrase(String),
    /// A number in the interval.
    Range(Interval<Number>),
    /// A moment in the interval, in microseconds.
    Datetimes(Interval<i64>),
    /// A place in the shape.
    Geo(Shape),
}
