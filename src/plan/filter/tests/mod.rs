//! Columns against the specification, over random payloads and filters with every oddity.

mod choices;
mod sealed;
mod spelling;
mod world;

use std::fs;
use std::path::Path as FilePath;

use roaring::RoaringBitmap;
use serde_json::{Value, json};

use crate::plan::filter::tests::choices::Choices;
use crate::plan::filter::tests::world::{KINDS, World, world};
use crate::plan::filter::{Filter, estimate};
use crate::store::columns::Kind;

fn filter(json: &Value) -> Filter {
    Filter::from_json(json).unwrap_or_else(|error| panic!("{error} in {json}"))
}

#[test]
fn columns_answer_as_the_specification_does() {
    let (mut n_passing, mut n_answered, mut n_filters) = (0, 0, 0);
    for seed in 0..60 {
        let (world, mut choices) = (world(seed, true), Choices::new(1000 + seed));
        for _ in 0..250 {
            let json = choices.filter(2);
            let filter = filter(&json);
            let (passing, expected) = (world.passing(&filter), world.plainly(&filter));
            assert_eq!(passing.slots, expected, "seed {seed}: {json}");
            let estimate = estimate(&filter, &world.columns, world.live.len()).unwrap();
            assert!(estimate.at_most >= expected.len(), "seed {seed}: {json} {estimate:?}");
            assert!(
                estimate.payloads_read >= passing.payloads_read,
                "seed {seed}: {json} {estimate:?}"
            );
            assert_eq!(
                passing.payloads_read == 0,
                passing.read_for.is_empty(),
                "seed {seed}: {json}"
            );
            n_passing += expected.len();
            n_answered += u64::from(passing.payloads_read == 0);
            n_filters += 1;
        }
    }
    // The test is worth something only if filters pass some points and columns answer some of them.
    assert!(n_passing > 10 * n_filters, "{n_passing}");
    assert!((n_filters / 10..n_filters).contains(&n_answered), "{n_answered}");
}

#[test]
fn a_column_of_every_kind_answers_every_single_condition() {
    for seed in 0..40 {
        let (mut world, mut choices) = (world(seed, false), Choices::new(2000 + seed));
        for path in ["a", "b", "a[].b"] {
            (0..2).for_each(|_| world.index(path, choices.of(&KINDS)));
        }
        for path in ["a[].a", "b[].a", "b[].b"] {
            world.index(path, choices.of(&[Kind::Integer, Kind::Float]));
        }
        for _ in 0..200 {
            let json = json!({"must": choices.condition(1)});
            let filter = filter(&json);
            assert_eq!(world.passing(&filter).slots, world.plainly(&filter), "seed {seed}: {json}");
        }
    }
}

#[test]
fn equivalent_filters_pass_the_same_points() {
    for seed in 0..30 {
        let (world, mut choices) = (world(seed, true), Choices::new(3000 + seed));
        let passing = |json: &Value| world.passing(&filter(json)).slots;
        for _ in 0..60 {
            let (a, b, c) = (choices.condition(1), choices.condition(1), choices.condition(1));
            for (left, right) in [
                // De Morgan.
                (json!({"must_not": [a, b]}), json!({"must": [{"must_not": a}, {"must_not": b}]})),
                (
                    json!({"must_not": [{"must": [a, b]}]}),
                    json!({"should": [{"must_not": [a]}, {"must_not": [b]}]}),
                ),
                // Order, repetition, wrapping, double negation.
                (json!({"must": [a, b, c]}), json!({"must": [c, {"must": [b, a, b]}, a]})),
                (json!({"should": [a, b, c]}), json!({"should": [b, {"should": [c, a]}, b]})),
                (json!({"must": [a]}), json!({"must_not": [{"must_not": [a]}]})),
                // Counting.
                (
                    json!({"should": [a, b]}),
                    json!({"min_should": {"conditions": [a, b], "min_count": 1}}),
                ),
                (
                    json!({"must": [a, b]}),
                    json!({"min_should": {"conditions": [a, b], "min_count": 2}}),
                ),
                (
                    json!({"min_should": {"conditions": [a, b, c], "min_count": 2}}),
                    json!({"should": [{"must": [a, b]}, {"must": [b, c]}, {"must": [a, c]}]}),
                ),
                // Distribution.
                (
                    json!({"must": [a], "should": [b, c]}),
                    json!({"should": [{"must": [a, b]}, {"must": [a, c]}]}),
                ),
            ] {
                assert_eq!(passing(&left), passing(&right), "seed {seed}: {left} {right}");
            }
        }
    }
}

#[test]
fn a_stricter_filter_never_gains() {
    for seed in 0..30 {
        let (world, mut choices) = (world(seed, true), Choices::new(4000 + seed));
        for _ in 0..100 {
            let (wide, more) = (choices.filter(1), choices.condition(1));
            let key = choices.of(&["must", "must_not"]);
            let narrow = json!({"must": [wide], key: [wide, more]});
            let narrow = if key == "must" { narrow } else { json!({"must": [wide], key: [more]}) };
            let (wide_set, narrow_set) =
                (world.passing(&filter(&wide)).slots, world.passing(&filter(&narrow)).slots);
            assert!(narrow_set.is_subset(&wide_set), "seed {seed}: {wide} {narrow}");
        }
    }
}

#[test]
fn empty_lists_and_bounds_that_exclude_each_other_are_taken_at_their_word() {
    let (world, mut choices) = (world(1, true), Choices::new(1));
    let n = |json: Value| world.passing(&filter(&json)).slots.len();
    let all = world.live.len();
    let any = choices.condition(0);
    assert_eq!(n(json!({})), all);
    assert_eq!(n(json!({"must": [], "should": [], "must_not": null})), all);
    assert_eq!(n(json!({"must": any, "should": []})), n(json!({"must": any})));
    assert_eq!(n(json!({"must": {"key": "a", "match": {"any": []}}})), 0);
    assert_eq!(n(json!({"must": {"has_id": []}})), 0);
    assert_eq!(n(json!({"must": {"key": "a", "range": {"gt": 5, "lt": 1}}})), 0);
    assert_eq!(n(json!({"must": {"key": "a", "match": {"text": "-"}}})), 0);
    assert_eq!(n(json!({"min_should": {"conditions": [], "min_count": 1}})), 0);
    let numbers = n(json!({"must": {"key": "a", "range": {}}}));
    assert!(0 < numbers && numbers < all, "{numbers}");
    let valued = n(json!({"must": {"key": "a", "match": {"except": []}}}));
    assert!(numbers < valued && valued < all, "{valued}");
}

#[test]
fn conditions_without_an_index_read_only_what_others_leave() {
    let mut world = World::default();
    (0..100).for_each(|slot| {
        world.set(slot, json!({"a": if slot < 20 { "red" } else { "blue" }, "b": slot}))
    });
    world.index("a", Kind::Keyword);
    let (red, unindexed) =
        (json!({"key": "a", "match": {"value": "red"}}), json!({"key": "b", "range": {"lt": 30}}));
    for (json, n_passing, n_read) in [
        (json!({"must": unindexed}), 30, 100),
        (json!({"must": [unindexed, red]}), 20, 20),
        (json!({"should": [unindexed, red]}), 30, 80),
        (json!({"must": unindexed, "must_not": red}), 10, 80),
        (json!({"must": [red, {"should": [unindexed, red]}]}), 20, 0),
        (json!({"must": [{"has_id": [0]}], "must_not": [unindexed]}), 0, 1),
        // A number is no string: the type alone tells.
        (json!({"must": {"key": "a", "range": {"lt": 30}}}), 0, 0),
    ] {
        let passing = world.passing(&filter(&json));
        assert_eq!((passing.slots.len(), passing.payloads_read), (n_passing, n_read), "{json}");
        let fields: &[&str] = if n_read > 0 { &["b"] } else { &[] };
        assert_eq!(passing.read_for, fields, "{json}");
    }
}

/// Payloads, filters and who passes, as another implementation says: lines of `{"payloads": [...]}`, then of
/// `{"filter": ..., "passing": [...]}`. `tests/peers/filter_oracle.py` writes them.
#[test]
fn another_implementation_lets_the_same_points_pass() {
    let own = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/filters.jsonl");
    let file = std::env::var_os("NEARKIN_FILTER_CASES").map_or(own, Into::into);
    let text =
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (mut world, mut n_filters, mut differences) = (World::default(), 0, Vec::new());
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(payloads) = line.get("payloads").and_then(Value::as_array) {
            world = World::default();
            (0..).zip(payloads).for_each(|(slot, payload)| world.set(slot, payload.clone()));
            for path in ["a", "b", "a[].b", "b[].a", "a.b"] {
                KINDS
                    .into_iter()
                    .skip(n_filters % 2)
                    .step_by(2)
                    .for_each(|kind| world.index(path, kind));
            }
            continue;
        }
        let passing =
            line["passing"].as_array().unwrap().iter().map(|slot| slot.as_u64().unwrap() as u32);
        let (expected, filter) = (passing.collect::<RoaringBitmap>(), filter(&line["filter"]));
        assert_eq!(world.passing(&filter).slots, world.plainly(&filter), "{}", line["filter"]);
        let (ours, theirs) =
            (world.plainly(&filter) - &expected, &expected - world.plainly(&filter));
        if let Some(slot) = ours.iter().chain(&theirs).next() {
            let (json, payload) = (&line["filter"], &world.payloads[&slot]);
            differences.push(format!("{json}: ours {ours:?}, theirs {theirs:?}, as {payload}"));
        }
        n_filters += 1;
    }
    assert!(
        differences.is_empty(),
        "{}: {}",
        differences.len(),
        differences[..differences.len().min(20)].join("\n")
    );
    assert!(n_filters >= 300, "{n_filters} filters in {}", file.display());
}
