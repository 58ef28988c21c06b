//! Random payloads and filters, with every oddity.

use serde_json::{Value, json};

use crate::core::mix::stream;
use crate::plan::filter::tests::world::{id, id_json};

/// A stream of choices.
pub struct Choices {
    seed: u64,
    n: u64,
}

impl Choices {
    pub fn new(seed: u64) -> Self {
        Self { seed, n: 0 }
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.n += 1;
        (stream(self.seed, self.n) >> 20) as usize % n
    }

    pub fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    fn word(&mut self) -> &'static str {
        self.of(&[
            "red",
            "Red",
            "",
            "red blue",
            "blue, red!",
            "green-red blue",
            "straße ÄRGER",
            "数据 库",
            "İstanbul",
            "550e8400-e29b-41d4-a716-446655440000",
            "550E8400-E29B-41D4-A716-446655440000",
            "2000-05-31T12:00:00Z",
            "2000-05-31 14:00:00+02:00",
            "2001-01-01",
            "1999-12-31T23:59:59.999999999",
            "2000-13-01",
            "5",
            "null",
        ])
    }

    pub fn number(&mut self) -> Value {
        match self.below(4) {
            0 => self.of(&[
                json!(0),
                json!(-0.0),
                json!(0.5),
                json!(5.0),
                json!(9007199254740992.0),
                json!(9007199254740993_i64),
                json!(-9007199254740993_i64),
                json!(i64::MAX),
                json!(i64::MIN),
                json!(u64::MAX),
                json!(9223372036854775808_u64),
                json!(1e300),
                json!(-1e300),
                json!(5e-324),
            ]),
            1 => json!(self.below(80) as f64 / 8.0),
            _ => json!(self.below(10) as i64 - 3),
        }
    }

    fn degrees(&mut self, most: i64) -> Value {
        match self.below(6) {
            0 => json!(most),
            1 => json!(-most),
            2 => json!(most as f64 - 0.001),
            _ => json!((self.below(2000) as f64 / 1000.0 - 1.0) * most as f64),
        }
    }

    fn place(&mut self) -> Value {
        match self.below(12) {
            0 => json!({"lat": 95.0, "lon": 500}),
            1 => json!({"lat": "5", "lon": 5}),
            2 => json!({"lat": 5}),
            _ => json!({"lat": self.degrees(90), "lon": self.degrees(180), "more": null}),
        }
    }

    fn scalar(&mut self) -> Value {
        match self.below(9) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => self.place(),
            3..6 => self.number(),
            _ => json!(self.word()),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 11 }) {
            9 => Value::Array(
                (0..3).map(|_| json!({"a": self.below(3), "b": self.below(3)})).collect(),
            ),
            10 => json!([self.place(), self.place()]),
            6 | 7 => {
                let n = self.of(&[0, 1, 2, 3]);
                Value::Array((0..n).map(|_| self.value(depth - 1)).collect())
            }
            8 => self.object(depth - 1),
            _ => self.scalar(),
        }
    }

    pub fn object(&mut self, depth: usize) -> Value {
        let n = self.below(4);
        let entry = |choices: &mut Self| {
            let key = choices.of(&["a", "b", "x y", "höhe"]);
            (key.to_owned(), choices.value(depth))
        };
        Value::Object((0..n).map(|_| entry(self)).collect())
    }

    pub fn path(&mut self) -> &'static str {
        self.of(&[
            "a", "a", "b", "b", "a.b", "b.a", "a[]", "a[].b", "b[].a", "a[0]", "a[1].a", "\"x y\"",
            "höhe", "höhe[]", "c", "a[][]",
        ])
    }

    fn bounds(&mut self, mut bound: impl FnMut(&mut Self) -> Value) -> Value {
        let mut map = serde_json::Map::new();
        for _ in 0..self.below(3) + 1 {
            let key = self.of(&["gt", "gte", "lt", "lte"]);
            map.insert(key.into(), bound(self));
        }
        Value::Object(map)
    }

    pub fn matched(&mut self) -> Value {
        match self.below(11) {
            0 => json!({"value": self.word()}),
            1 => json!({"value": self.below(10) as i64 - 3}),
            2 => json!({"value": self.of(&[i64::MAX, i64::MIN, 9007199254740993, 0])}),
            3 => json!({"value": self.below(2) == 0}),
            4 | 5 => {
                let key = self.of(&["any", "except"]);
                let words: Vec<_> = (0..self.below(4)).map(|_| self.word()).collect();
                json!({key: words})
            }
            6 => {
                let key = self.of(&["any", "except"]);
                let n = self.of(&[1, 2, 12]);
                let numbers: Vec<_> = (0..n).map(|_| self.below(14) as i64 - 3).collect();
                json!({key: numbers})
            }
            7 | 8 => json!({"text": self.word()}),
            9 => json!({"text_any": self.word()}),
            _ => json!({"phrase": self.word()}),
        }
    }

    fn shape(&mut self) -> (&'static str, Value) {
        let point =
            |choices: &mut Self| json!({"lat": choices.degrees(90), "lon": choices.degrees(180)});
        match self.below(3) {
            0 => {
                ("geo_bounding_box", json!({"top_left": point(self), "bottom_right": point(self)}))
            }
            1 => {
                let radius = 10f64.powi(self.below(8) as i32) * 3.0;
                ("geo_radius", json!({"center": point(self), "radius": radius}))
            }
            _ => {
                let ring = |choices: &mut Self| {
                    let mut points: Vec<Value> = (0..4).map(|_| point(choices)).collect();
                    points.push(points[0].clone());
                    json!({"points": points})
                };
                let interiors: Vec<Value> = (0..self.below(2)).map(|_| ring(self)).collect();
                ("geo_polygon", json!({"exterior": ring(self), "interiors": interiors}))
            }
        }
    }

    pub fn condition(&mut self, depth: usize) -> Value {
        let key = self.path();
        match self.below(if depth == 0 { 15 } else { 20 }) {
            0..5 => json!({"key": key, "match": self.matched()}),
            5..7 => json!({"key": key, "range": self.bounds(Self::number)}),
            7 => {
                let moments = ["2000-05-31T12:00:00Z", "2000-01-01", "2001-01-01T00:00:00.000001Z"];
                json!({"key": key, "range": self.bounds(|choices| json!(choices.of(&moments)))})
            }
            8 => {
                json!({"key": key, "values_count": self.bounds(|choices| json!(choices.below(4)))})
            }
            9 => json!({"key": key, "is_empty": self.below(2) == 0}),
            10 => json!({"key": key, "is_null": self.below(2) == 0}),
            11 => {
                let (name, shape) = self.shape();
                json!({"key": key, name: shape})
            }
            12 => {
                let name = self.of(&["is_empty", "is_null"]);
                json!({name: {"key": key}})
            }
            13 => {
                let ids: Vec<Value> =
                    (0..self.below(30)).map(|_| id_json(id(self.below(150) as u32))).collect();
                json!({"has_id": ids})
            }
            14 => json!({"has_vector": self.of(&["v", "w"])}),
            15 => json!({"nested": {"key": key, "filter": self.filter(depth - 1)}}),
            16 => json!({"nested": {"key": key, "filter": {"must": [
                {"key": self.path(), "match": self.matched()},
            ]}}}),
            // Of one and the same element.
            17 => json!({"nested": {"key": self.of(&["a", "b"]), "filter": {"must": [
                {"key": "a", "match": {"value": self.below(3)}},
                {"key": "b", "match": {"any": [self.below(3), self.below(3)]}},
            ]}}}),
            _ => self.filter(depth - 1),
        }
    }

    pub fn filter(&mut self, depth: usize) -> Value {
        let mut map = serde_json::Map::new();
        for _ in 0..self.below(3) + 1 {
            let n = self.of(&[0, 1, 1, 2, 3]);
            let conditions: Vec<Value> = (0..n).map(|_| self.condition(depth)).collect();
            match self.below(7) {
                6 => {
                    let least = self.below(3) + 1;
                    let min_should = json!({"conditions": conditions, "min_count": least});
                    map.insert("min_should".into(), min_should);
                }
                kind => {
                    let key = ["must", "must", "should", "should", "must_not", "must_not"][kind];
                    map.insert(key.into(), Value::Array(conditions));
                }
            }
        }
        Value::Object(map)
    }
}
