//! Filters as Qdrant's clients write them in JSON.
//!
//! Unknown keys, wrong types and numbers that cannot be meant are refused. As in that API: a clause may be one condition
//! or a list, null stands for absent, an empty `should` asks for nothing, an empty `any` holds of nothing, bounds that
//! exclude each other hold of nothing.

use std::fmt;
use std::ops::Bound;

use serde_json::{Map, Value};

use crate::core::ids::PointId;
use crate::core::limits::{FILTER_CONDITIONS, FILTER_DEPTH, FILTER_VALUES};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::filter::{Condition, Filter, Property, Shape, Test};
use crate::store::columns::datetime;
use crate::store::columns::geo::GeoPoint;
use crate::store::columns::number::{Interval, Number};
use crate::store::columns::path::Path;

impl Filter {
    /// The filter that a JSON value is; `{}` passes every point.
    ///
    /// # Errors
    /// `filter_key`, `filter_type` and `filter_value` name the place, what was expected and what was received;
    /// `filter_size` and `filter_values` the limit; `path_invalid` as in [`Path`].
    pub fn from_json(value: &Value) -> Result<Self> {
        Self::as_written(value).map(Self::simplified)
    }

    /// The same with every condition as it stands there.
    pub(super) fn as_written(value: &Value) -> Result<Self> {
        Reader { n_conditions: 0, depth: 0 }.filter(Node { value, parent: None, step: Step::Root })
    }
}

/// A value and where it stands.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    parent: Option<&'a Node<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    At(usize),
}

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => f.write_str("filter"),
            Step::Key(key) => write!(f, ".{key}"),
            Step::At(at) => write!(f, "[{at}]"),
        }
    }
}

/// Longest piece of a refused value that a message shows.
const SHOWN: usize = 60;

impl<'a> Node<'a> {
    fn child<'b>(&'b self, value: &'b Value, step: Step<'b>) -> Node<'b> {
        Node { value, parent: Some(self), step }
    }

    fn refuse(&self, code: &'static str, expected: &str) -> Error {
        let mut received = self.value.to_string();
        if let Some((end, _)) = received.char_indices().nth(SHOWN) {
            received.truncate(end);
            received.push_str("...");
        }
        let message = format!("{self}: expected {expected}, received {received}");
        Error::new(ErrorKind::BadInput, code, message)
    }

    fn wrong_type(&self, expected: &str) -> Error {
        self.refuse("filter_type", expected)
    }

    /// The object that the value is, all of whose keys are among `known`.
    fn object(&self, known: &[&str]) -> Result<&'a Map<String, Value>> {
        let Value::Object(map) = self.value else {
            return Err(self.wrong_type(&format!("an object with {}", known.join(", "))));
        };
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(map),
            Some(key) => {
                let message = format!("{self}: unknown key {key:?}, expected {}", known.join(", "));
                Err(Error::new(ErrorKind::BadInput, "filter_key", message))
            }
        }
    }

    /// The value at a key; null is as good as none.
    fn get<'b>(&'b self, map: &'b Map<String, Value>, key: &'b str) -> Option<Node<'b>> {
        map.get(key).filter(|value| !value.is_null()).map(|value| self.child(value, Step::Key(key)))
    }

    fn need<'b>(&'b self, map: &'b Map<String, Value>, key: &'b str) -> Result<Node<'b>> {
        self.get(map, key).ok_or_else(|| {
            let message = format!("{self}: no key {key:?}");
            Error::new(ErrorKind::BadInput, "filter_key", message)
        })
    }

    fn string(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong_type("a string"))
    }

    fn bool(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    fn number(&self) -> Result<Number> {
        Number::of(self.value).ok_or_else(|| self.wrong_type("a number"))
    }

    fn count(&self) -> Result<u64> {
        self.value.as_u64().ok_or_else(|| self.wrong_type("a whole number from 0 on"))
    }

    fn path(&self) -> Result<Path> {
        self.string()?.parse()
    }

    fn list(&self, of: &str) -> Result<&'a [Value]> {
        let list =
            self.value.as_array().ok_or_else(|| self.wrong_type(&format!("a list of {of}")))?;
        if list.len() > FILTER_VALUES {
            let message = format!("{self}: {} values, limit {FILTER_VALUES}", list.len());
            return Err(Error::new(ErrorKind::Limit, "filter_values", message));
        }
        Ok(list)
    }

    fn each<T>(&self, of: &str, read: impl Fn(Node<'_>) -> Result<T>) -> Result<Vec<T>> {
        let nodes = self.list(of)?.iter().enumerate();
        nodes.map(|(at, value)| read(self.child(value, Step::At(at)))).collect()
    }
}

/// What a filter has used up of its limits.
struct Reader {
    n_conditions: usize,
    depth: usize,
}

const CONDITIONS: [&str; 7] =
    ["key", "is_empty", "is_null", "has_id", "has_vector", "nested", "must"];
const CLAUSES: [&str; 4] = ["must", "should", "must_not", "min_should"];
const TESTS: [&str; 8] = [
    "match",
    "range",
    "geo_bounding_box",
    "geo_radius",
    "geo_polygon",
    "values_count",
    "is_empty",
    "is_null",
];

impl Reader {
    fn filter(&mut self, node: Node<'_>) -> Result<Filter> {
        let map = node.object(&CLAUSES)?;
        self.depth += 1;
        if self.depth > FILTER_DEPTH {
            let message = format!("{node}: nested deeper than the limit of {FILTER_DEPTH}");
            return Err(Error::new(ErrorKind::Limit, "filter_size", message));
        }
        let mut filter = Filter::default();
        for (key, clause) in [
            ("must", &mut filter.must),
            ("should", &mut filter.should),
            ("must_not", &mut filter.must_not),
        ] {
            if let Some(node) = node.get(map, key) {
                *clause = self.clause(node)?;
            }
        }
        if let Some(node) = node.get(map, "min_should") {
            let map = node.object(&["conditions", "min_count"])?;
            let least = node.need(map, "min_count")?;
            let n = least.count()?;
            if n == 0 {
                return Err(least.refuse("filter_value", "a whole number from 1 on"));
            }
            filter.min_should = Some((n, self.clause(node.need(map, "conditions")?)?));
        }
        self.depth -= 1;
        Ok(filter)
    }

    fn clause(&mut self, node: Node<'_>) -> Result<Vec<Condition>> {
        match node.value {
            Value::Array(list) => list
                .iter()
                .enumerate()
                .map(|(at, value)| self.condition(node.child(value, Step::At(at))))
                .collect(),
            Value::Object(_) => Ok(vec![self.condition(node)?]),
            _ => Err(node.wrong_type("a condition or a list of conditions")),
        }
    }

    fn condition(&mut self, node: Node<'_>) -> Result<Condition> {
        self.n_conditions += 1;
        if self.n_conditions > FILTER_CONDITIONS {
            let message = format!("{node}: more conditions than the limit of {FILTER_CONDITIONS}");
            return Err(Error::new(ErrorKind::Limit, "filter_size", message));
        }
        let Value::Object(map) = node.value else { return Err(node.wrong_type("a condition")) };
        if map.contains_key("key") {
            return field(node);
        }
        let of_path = |node: Node<'_>| {
            let map = node.object(&["key"])?;
            node.need(map, "key")?.path()
        };
        let [_, kinds @ .., _] = CONDITIONS;
        let Some(kind) = kinds.into_iter().find(|kind| map.contains_key(*kind)) else {
            if map.keys().any(|key| !CLAUSES.contains(&key.as_str())) {
                let known = [&CONDITIONS[..], &CLAUSES[1..]].concat();
                node.object(&known)?;
            }
            return Ok(Condition::Filter(self.filter(node)?));
        };
        node.object(&[kind])?;
        let node = node.need(map, kind)?;
        match kind {
            "is_empty" => Ok(Condition::Field(of_path(node)?, Test::Empty(true))),
            "is_null" => Ok(Condition::Field(of_path(node)?, Test::Null(true))),
            "has_vector" => Ok(Condition::HasVector(node.string()?.to_owned())),
            "has_id" => {
                let mut ids = node.each("ids", |node| {
                    match node.value {
                        Value::Number(number) => number.as_u64().map(PointId::Num),
                        Value::String(text) => text.parse().ok(),
                        _ => None,
                    }
                    .ok_or_else(|| node.wrong_type("an unsigned 64-bit integer or a UUID"))
                })?;
                ids.sort_unstable();
                ids.dedup();
                Ok(Condition::HasId(ids))
            }
            _ => {
                let map = node.object(&["key", "filter"])?;
                let path = node.need(map, "key")?.path()?;
                Ok(Condition::Nested(path, self.filter(node.need(map, "filter")?)?))
            }
        }
    }
}

fn field(node: Node<'_>) -> Result<Condition> {
    let known = [&["key"], &TESTS[..]].concat();
    let map = node.object(&known)?;
    let path = node.need(map, "key")?.path()?;
    let mut tests = TESTS.iter().filter_map(|test| Some((*test, node.get(map, test)?)));
    let (Some((name, test)), None) = (tests.next(), tests.next()) else {
        return Err(node.refuse("filter_key", &format!("exactly one of {}", TESTS.join(", "))));
    };
    let test = match name {
        "match" => Test::Any(matched(test)?),
        "range" => Test::Any(range(test)?),
        "values_count" => Test::Count(interval(test, |node| node.count())?),
        "is_empty" => Test::Empty(test.bool()?),
        "is_null" => Test::Null(test.bool()?),
        _ => Test::Any(Property::Geo(shape(name, test)?)),
    };
    Ok(Condition::Field(path, test))
}

fn matched(node: Node<'_>) -> Result<Property> {
    const KINDS: [&str; 6] = ["value", "any", "except", "text", "text_any", "phrase"];
    let map = node.object(&KINDS)?;
    let mut kinds = KINDS.iter().filter_map(|kind| Some((*kind, node.get(map, kind)?)));
    let (Some((kind, node)), None) = (kinds.next(), kinds.next()) else {
        return Err(node.refuse("filter_key", &format!("exactly one of {}", KINDS.join(", "))));
    };
    match kind {
        "value" => match node.value {
            Value::Bool(value) => Ok(Property::Bool(*value)),
            Value::String(text) => Ok(Property::Strings(vec![text.clone()])),
            _ => {
                let expected = "a string, a whole number of 64 bits, true or false";
                let int = node.value.as_i64().ok_or_else(|| node.wrong_type(expected))?;
                Ok(Property::Integers(vec![int]))
            }
        },
        "any" => values(node, Property::Strings, Property::Integers),
        "except" => values(node, Property::NotStrings, Property::NotIntegers),
        "text" => Ok(Property::Text(node.string()?.to_owned())),
        "text_any" => Ok(Property::TextAny(node.string()?.to_owned())),
        _ => Ok(Property::Phrase(node.string()?.to_owned())),
    }
}

/// A list of strings or one of whole numbers, as its first value says; an empty one is of strings.
fn values(
    node: Node<'_>,
    of_strings: fn(Vec<String>) -> Property,
    of_integers: fn(Vec<i64>) -> Property,
) -> Result<Property> {
    let list = node.list("strings or whole numbers")?;
    if list.first().is_some_and(Value::is_number) {
        let mut integers = node.each("whole numbers", |node| {
            node.value.as_i64().ok_or_else(|| node.wrong_type("a whole number of 64 bits"))
        })?;
        integers.sort_unstable();
        integers.dedup();
        return Ok(of_integers(integers));
    }
    let mut strings = node.each("strings", |node| node.string().map(str::to_owned))?;
    strings.sort_unstable();
    strings.dedup();
    Ok(of_strings(strings))
}

const BOUNDS: [&str; 4] = ["gt", "gte", "lt", "lte"];

/// Moments if a bound is a string, else numbers.
fn range(node: Node<'_>) -> Result<Property> {
    let map = node.object(&BOUNDS)?;
    if !map.values().any(Value::is_string) {
        return Ok(Property::Range(interval(node, |node| node.number())?));
    }
    let moment = |node: &Node<'_>| {
        let expected = "a date and time as 2024-05-31T12:00:00Z";
        datetime::parse(node.string()?).ok_or_else(|| node.refuse("filter_value", expected))
    };
    Ok(Property::Datetimes(interval(node, moment)?))
}

/// The tightest interval that four bounds leave.
fn interval<T: Ord + Copy>(
    node: Node<'_>,
    read: impl Fn(&Node<'_>) -> Result<T>,
) -> Result<Interval<T>> {
    let map = node.object(&BOUNDS)?;
    let bound = |key| node.get(map, key).map(|node| read(&node)).transpose();
    let (gt, gte, lt, lte) = (bound("gt")?, bound("gte")?, bound("lt")?, bound("lte")?);
    let lower = match (gt, gte) {
        (Some(gt), gte) if gte.is_none_or(|gte| gt >= gte) => Bound::Excluded(gt),
        (_, Some(gte)) => Bound::Included(gte),
        _ => Bound::Unbounded,
    };
    let upper = match (lt, lte) {
        (Some(lt), lte) if lte.is_none_or(|lte| lt <= lte) => Bound::Excluded(lt),
        (_, Some(lte)) => Bound::Included(lte),
        _ => Bound::Unbounded,
    };
    Ok((lower, upper))
}

fn shape(kind: &str, node: Node<'_>) -> Result<Shape> {
    match kind {
        "geo_bounding_box" => {
            let map = node.object(&["top_left", "bottom_right"])?;
            let top_left = point(node.need(map, "top_left")?)?;
            Ok(Shape::Box { top_left, bottom_right: point(node.need(map, "bottom_right")?)? })
        }
        "geo_radius" => {
            let map = node.object(&["center", "radius"])?;
            let center = point(node.need(map, "center")?)?;
            let radius = node.need(map, "radius")?;
            let metres = radius.value.as_f64().ok_or_else(|| radius.wrong_type("metres"))?;
            if metres < 0.0 {
                return Err(radius.refuse("filter_value", "metres from 0 on"));
            }
            Ok(Shape::Circle { center, radius: metres })
        }
        _ => {
            let map = node.object(&["exterior", "interiors"])?;
            let exterior = ring(node.need(map, "exterior")?)?;
            let interiors = node.get(map, "interiors").map(|node| node.each("rings", ring));
            Ok(Shape::Polygon { exterior, interiors: interiors.transpose()?.unwrap_or_default() })
        }
    }
}

fn ring(node: Node<'_>) -> Result<Vec<GeoPoint>> {
    let map = node.object(&["points"])?;
    let points = node.need(map, "points")?;
    let corners = points.each("corners", point)?;
    if corners.len() < 4 || corners.first() != corners.last() {
        return Err(points.refuse("filter_value", "at least four corners, the last as the first"));
    }
    Ok(corners)
}

fn point(node: Node<'_>) -> Result<GeoPoint> {
    let map = node.object(&["lat", "lon"])?;
    let degrees = |key| {
        let node = node.need(map, key)?;
        node.value.as_f64().ok_or_else(|| node.wrong_type("degrees"))
    };
    let point = GeoPoint { lat: degrees("lat")?, lon: degrees("lon")? };
    if !point.is_on_globe() {
        return Err(node.refuse("filter_value", "lat in [-90, 90] and lon in [-180, 180]"));
    }
    Ok(point)
}
