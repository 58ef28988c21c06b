//! Filters as they are read and written.

use serde_json::{Value, json};

use crate::plan::filter::Filter;
use crate::plan::filter::tests::choices::Choices;
use crate::plan::filter::tests::filter;
use crate::plan::filter::tests::world::world;

#[test]
fn the_one_spelling_is_read_back_and_passes_the_same_points() {
    for seed in 0..30 {
        let (world, mut choices) = (world(seed, true), Choices::new(5000 + seed));
        for _ in 0..100 {
            let json = choices.filter(2);
            let filter_ = filter(&json);
            let again = filter(&filter_.to_json());
            assert_eq!(again.key(), filter_.key(), "seed {seed}: {json}");
            assert_eq!(world.plainly(&again), world.plainly(&filter_), "seed {seed}: {json}");
        }
    }
}

#[test]
fn fewer_conditions_pass_the_same_points() {
    let mut n_fewer = 0;
    for seed in 0..30 {
        let (world, mut choices) = (world(seed, true), Choices::new(7000 + seed));
        for _ in 0..200 {
            // Several at one path are what may become one.
            let some: Vec<Value> = (0..4).map(|_| choices.condition(0)).collect();
            let json = match choices.below(3) {
                0 => choices.filter(3),
                1 => json!({"should": some}),
                _ => json!({"must": [choices.condition(1), {"should": some}]}),
            };
            let written = Filter::as_written(&json).unwrap();
            let fewer = filter(&json);
            assert_eq!(world.plainly(&fewer), world.plainly(&written), "seed {seed}: {json}");
            assert_eq!(fewer.clone().simplified(), fewer, "seed {seed}: {json}");
            n_fewer += u32::from(fewer != written);
        }
    }
    assert!(n_fewer > 500, "{n_fewer}");
}

#[test]
fn one_of_some_values_is_one_condition() {
    let is = |key: &str, value: Value| json!({"key": key, "match": {"value": value}});
    let (a, b) = (is("a", json!("x")), is("a", json!("y")));
    let any = json!({"must": {"key": "a", "match": {"any": ["x", "y"]}}});
    for same in [json!({"should": [a, b]}), json!({"must": {"should": [b, a, b]}})] {
        assert_eq!(filter(&same), filter(&any), "{same}");
    }
    let apart = json!({"should": [a, is("a", json!(1)), is("b", json!("x")), b]});
    assert_eq!(filter(&apart).should.len(), 3);
    let many: Vec<Value> = (0..1000)
        .map(|n| {
            let values: Vec<String> = (0..20).map(|i| format!("{n} {i}")).collect();
            json!({"key": "a", "match": {"any": values}})
        })
        .collect();
    let many = filter(&json!({"should": many}));
    assert!(many.should.len() > 1, "a list that is too long could not be read back");
    assert_eq!(Filter::from_json(&many.to_json()).unwrap().key(), many.key());
}

#[test]
fn order_and_repetition_do_not_change_the_key() {
    for seed in 0..300 {
        let mut choices = Choices::new(6000 + seed);
        let (a, b) = (choices.condition(1), choices.condition(1));
        let key = |json: Value| filter(&json).key();
        assert_eq!(key(json!({"must": [a, b]})), key(json!({"must": [b, a, {"must": [b]}]})));
        assert_eq!(key(json!({"should": [a, b]})), key(json!({"should": [b, a, b]})));
        assert_eq!(
            key(json!({"must": a})),
            key(json!({"should": a, "must": null, "must_not": []}))
        );
    }
    let range = |bounds: &str| {
        let json = format!(r#"{{"must": {{"key": "a", "range": {bounds}}}}}"#);
        filter(&serde_json::from_str(&json).unwrap()).key()
    };
    assert_eq!(range(r#"{"gt": 5, "gte": 5.0}"#), range(r#"{"gt": 5.0, "lt": null}"#));
    assert_eq!(range(r#"{"gte": 1e18}"#), range(r#"{"gte": 1000000000000000000}"#));
    assert_eq!(range(r#"{"gte": "2000-01-01"}"#), range(r#"{"gte": "2000-01-01T01:00:00+01:00"}"#));
    assert_ne!(range(r#"{"gt": 5}"#), range(r#"{"gte": 5}"#));
    let twice =
        json!({"min_should": {"conditions": [{"has_id": [1]}, {"has_id": [1]}], "min_count": 2}});
    let once = json!({"min_should": {"conditions": [{"has_id": [1]}], "min_count": 2}});
    assert_ne!(filter(&twice).key(), filter(&once).key(), "a repeated condition counts twice");
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    let deep = (0..40).fold(json!({}), |inner, _| json!({"must": [inner]}));
    let wide = json!({"must": vec![json!({"has_id": []}); 1025]});
    let field = |test: Value| {
        let mut condition = json!({"key": "a"});
        condition.as_object_mut().unwrap().extend(test.as_object().unwrap().clone());
        json!({"must": [condition]})
    };
    let open_ring = json!({"points": [{"lat": 0, "lon": 0}, {"lat": 1, "lon": 0}, {"lat": 1, "lon": 1}, {"lat": 0, "lon": 1}]});
    for (json, code, place) in [
        (json!([]), "filter_type", "filter: expected an object"),
        (json!({"musst": []}), "filter_key", "filter: unknown key \"musst\", expected must,"),
        (json!({"must": 1}), "filter_type", "filter.must: expected a condition"),
        (json!({"must": [1]}), "filter_type", "filter.must[0]: expected a condition"),
        (json!({"must": {"key": "a"}}), "filter_key", "filter.must: expected exactly one of match"),
        (field(json!({"match": {}})), "filter_key", "filter.must[0].match: expected exactly one"),
        (field(json!({"match": {"value": 1}, "range": {}})), "filter_key", "exactly one of match"),
        (field(json!({"match": {"regex": "x"}})), "filter_key", "unknown key \"regex\""),
        (
            field(json!({"match": {"value": 1.5}})),
            "filter_type",
            "match.value: expected a string, a whole",
        ),
        (
            field(json!({"match": {"value": u64::MAX}})),
            "filter_type",
            "received 18446744073709551615",
        ),
        (
            field(json!({"match": {"any": ["a", 1]}})),
            "filter_type",
            "match.any[1]: expected a string, received 1",
        ),
        (
            field(json!({"match": {"any": [1, "a"]}})),
            "filter_type",
            "match.any[1]: expected a whole number",
        ),
        (
            field(json!({"match": {"except": [true]}})),
            "filter_type",
            "match.except[0]: expected a string",
        ),
        (field(json!({"match": {"text": 1}})), "filter_type", "match.text: expected a string"),
        (
            field(json!({"match": {"any": vec![1; 10_001]}})),
            "filter_values",
            "10001 values, limit 10000",
        ),
        (field(json!({"range": {"gt": true}})), "filter_type", "range.gt: expected a number"),
        (
            field(json!({"range": {"gt": "x"}})),
            "filter_value",
            "range.gt: expected a date and time",
        ),
        (
            field(json!({"range": {"gt": 1, "lt": "2000-01-01"}})),
            "filter_type",
            "range.gt: expected a string",
        ),
        (
            field(json!({"range": {"above": 1}})),
            "filter_key",
            "unknown key \"above\", expected gt, gte, lt, lte",
        ),
        (
            field(json!({"values_count": {"gt": -1}})),
            "filter_type",
            "values_count.gt: expected a whole number",
        ),
        (field(json!({"is_null": 1})), "filter_type", "is_null: expected true or false"),
        (
            field(json!({"geo_radius": {"center": {"lat": 91, "lon": 0}, "radius": 1}})),
            "filter_value",
            "lat in [-90",
        ),
        (
            field(json!({"geo_radius": {"center": {"lat": 1, "lon": 0}, "radius": -1}})),
            "filter_value",
            "metres from 0",
        ),
        (
            field(json!({"geo_radius": {"center": {"lat": 1}, "radius": 1}})),
            "filter_key",
            "center: no key \"lon\"",
        ),
        (
            field(json!({"geo_polygon": {"exterior": open_ring}})),
            "filter_value",
            "the last as the first",
        ),
        (json!({"must": {"key": "a..b", "is_null": true}}), "path_invalid", "at byte 1"),
        (json!({"must": {"has_id": [-1]}}), "filter_type", "has_id[0]: expected an unsigned"),
        (json!({"must": {"has_id": [1.0]}}), "filter_type", "has_id[0]: expected an unsigned"),
        (json!({"must": {"has_id": ["x"]}}), "filter_type", "has_id[0]: expected an unsigned"),
        (
            json!({"must": {"is_empty": "a"}}),
            "filter_type",
            "is_empty: expected an object with key",
        ),
        (json!({"must": {"has_id": [], "must": []}}), "filter_key", "unknown key \"must\""),
        (json!({"must": {"nested": {"key": "a"}}}), "filter_key", "nested: no key \"filter\""),
        (json!({"should": {"slice": {"total": 2}}}), "filter_key", "unknown key \"slice\""),
        (
            json!({"min_should": {"conditions": [], "min_count": 0}}),
            "filter_value",
            "from 1 on, received 0",
        ),
        (
            json!({"min_should": {"conditions": []}}),
            "filter_key",
            "min_should: no key \"min_count\"",
        ),
        (deep, "filter_size", "deeper than the limit of 16"),
        (wide, "filter_size", "filter.must[1024]: more conditions than the limit of 1024"),
    ] {
        let error = Filter::from_json(&json).expect_err(&json.to_string());
        assert_eq!(error.code(), code, "{json}");
        assert!(error.to_string().contains(place), "{error}");
    }
    let long = field(json!({"match": {"value": {"é": "é".repeat(500)}}}));
    assert!(Filter::from_json(&long).unwrap_err().to_string().len() < 300);
}
