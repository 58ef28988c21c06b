//! One spelling for all filters that are equal but for order, repetition and empty wrappings.

use std::ops::Bound;

use serde_json::{Map, Value, json};

use crate::core::ids::PointId;
use crate::plan::filter::{Condition, Filter, Property, Shape, Test};
use crate::store::columns::datetime;
use crate::store::columns::geo::GeoPoint;
use crate::store::columns::number::{Interval, Number};

impl Filter {
    /// The filter in Qdrant's JSON form, in its one spelling: conditions and values sorted, repetitions left out, filters
    /// of one `must` replaced by what is in them. [`Filter::from_json`] reads an equal filter back.
    pub fn to_json(&self) -> Value {
        Clauses::of(self).into_json()
    }

    /// The text of [`Filter::to_json`], for caches. Equal keys are equal filters.
    pub fn key(&self) -> String {
        self.to_json().to_string()
    }
}

#[derive(Default)]
struct Clauses {
    must: Vec<Value>,
    should: Vec<Value>,
    must_not: Vec<Value>,
    min_should: Option<(u64, Vec<Value>)>,
}

impl Clauses {
    fn of(filter: &Filter) -> Self {
        let mut clauses = Self::default();
        filter.must.iter().for_each(|condition| clauses.must(condition));
        clauses.must_not.extend(filter.must_not.iter().map(condition_json));
        let mut should: Vec<(String, &Condition)> = filter
            .should
            .iter()
            .map(|condition| (condition_json(condition).to_string(), condition))
            .collect();
        should.sort_by(|(a, _), (b, _)| a.cmp(b));
        should.dedup_by(|(a, _), (b, _)| a == b);
        match should[..] {
            [(_, only)] => clauses.must(only),
            _ => clauses.should = should.into_iter().map(|(_, one)| condition_json(one)).collect(),
        }
        if let Some((least, conditions)) = &filter.min_should {
            // A repeated condition counts as often as it stands there.
            let mut conditions: Vec<Value> = conditions.iter().map(condition_json).collect();
            sort(&mut conditions);
            clauses.min_should = Some((*least, conditions));
        }
        clauses
    }

    /// What must hold of a filter that must hold must hold.
    fn must(&mut self, condition: &Condition) {
        let Condition::Filter(filter) = condition else {
            return self.must.push(condition_json(condition));
        };
        let mut inner = Self::of(filter);
        if inner.should.is_empty() && inner.min_should.is_none() {
            self.must.append(&mut inner.must);
            self.must_not.append(&mut inner.must_not);
        } else {
            self.must.push(inner.into_json());
        }
    }

    fn into_json(mut self) -> Value {
        let mut map = Map::new();
        if let Some((least, conditions)) = self.min_should {
            map.insert("min_should".into(), json!({"conditions": conditions, "min_count": least}));
        }
        for (key, clause) in [
            ("must", &mut self.must),
            ("must_not", &mut self.must_not),
            ("should", &mut self.should),
        ] {
            if !clause.is_empty() {
                sort(clause);
                clause.dedup();
                map.insert(key.into(), Value::Array(std::mem::take(clause)));
            }
        }
        Value::Object(map)
    }
}

fn sort(values: &mut [Value]) {
    values.sort_by_cached_key(Value::to_string);
}

fn condition_json(condition: &Condition) -> Value {
    match condition {
        Condition::Field(path, Test::Empty(true)) => json!({"is_empty": {"key": path.to_string()}}),
        Condition::Field(path, Test::Null(true)) => json!({"is_null": {"key": path.to_string()}}),
        Condition::Field(path, test) => {
            let (name, value) = test_json(test);
            json!({"key": path.to_string(), name: value})
        }
        Condition::HasId(ids) => {
            let id = |id: &PointId| match id {
                PointId::Num(number) => json!(number),
                PointId::Uuid(_) => json!(id.to_string()),
            };
            json!({"has_id": ids.iter().map(id).collect::<Vec<Value>>()})
        }
        Condition::HasVector(name) => json!({"has_vector": name}),
        Condition::Nested(path, filter) => {
            json!({"nested": {"key": path.of_elements().to_string(), "filter": filter.to_json()}})
        }
        Condition::Filter(filter) => {
            let json = filter.to_json();
            let only =
                json.as_object().filter(|map| map.len() == 1).and_then(|map| map.get("must"));
            match only.and_then(Value::as_array).map(Vec::as_slice) {
                Some([condition]) => condition.clone(),
                _ => json,
            }
        }
    }
}

fn test_json(test: &Test) -> (&'static str, Value) {
    match test {
        Test::Count(counts) => ("values_count", interval_json(counts, |count| json!(count))),
        Test::Empty(expected) => ("is_empty", json!(expected)),
        Test::Null(expected) => ("is_null", json!(expected)),
        Test::Any(property) => match property {
            Property::Bool(value) => ("match", json!({"value": value})),
            Property::Strings(list) => ("match", any_json(list)),
            Property::Integers(list) => ("match", any_json(list)),
            Property::NotStrings(list) => ("match", json!({"except": list})),
            Property::NotIntegers(list) => ("match", json!({"except": list})),
            Property::Text(text) => ("match", json!({"text": text})),
            Property::TextAny(text) => ("match", json!({"text_any": text})),
            Property::Phrase(text) => ("match", json!({"phrase": text})),
            Property::Range(interval) => ("range", interval_json(interval, number_json)),
            Property::Datetimes(interval) => {
                ("range", interval_json(interval, |us| json!(datetime::print(*us))))
            }
            Property::Geo(shape) => shape_json(shape),
        },
    }
}

fn any_json<T: serde::Serialize>(list: &[T]) -> Value {
    match list {
        [one] => json!({"value": one}),
        _ => json!({"any": list}),
    }
}

/// 2^64.
const PAST_64_BITS: f64 = 18_446_744_073_709_551_616.0;

/// Numbers that are equal are written alike: whole ones without a fraction where they are exact.
fn number_json(number: &Number) -> Value {
    match *number {
        Number::Float(float) if float.fract() != 0.0 || float.abs() >= PAST_64_BITS => json!(float),
        Number::Float(float) => number_json(&Number::Int(float as i128)),
        Number::Int(int) => match (i64::try_from(int), u64::try_from(int)) {
            (Ok(int), _) => json!(int),
            (_, Ok(int)) => json!(int),
            _ => json!(int as f64),
        },
    }
}

fn interval_json<T>(interval: &Interval<T>, print: impl Fn(&T) -> Value) -> Value {
    let mut map = Map::new();
    for (bound, included, excluded) in [(&interval.0, "gte", "gt"), (&interval.1, "lte", "lt")] {
        match bound {
            Bound::Included(value) => map.insert(included.into(), print(value)),
            Bound::Excluded(value) => map.insert(excluded.into(), print(value)),
            Bound::Unbounded => None,
        };
    }
    Value::Object(map)
}

fn shape_json(shape: &Shape) -> (&'static str, Value) {
    let point = |point: &GeoPoint| json!({"lat": point.lat + 0.0, "lon": point.lon + 0.0});
    let ring =
        |ring: &Vec<GeoPoint>| json!({"points": ring.iter().map(point).collect::<Vec<Value>>()});
    match shape {
        Shape::Box { top_left, bottom_right } => (
            "geo_bounding_box",
            json!({"bottom_right": point(bottom_right), "top_left": point(top_left)}),
        ),
        Shape::Circle { center, radius } => {
            ("geo_radius", json!({"center": point(center), "radius": radius}))
        }
        Shape::Polygon { exterior, interiors } => (
            "geo_polygon",
            json!({
                "exterior": ring(exterior),
                "interiors": interiors.iter().map(ring).collect::<Vec<Value>>(),
            }),
        ),
    }
}
