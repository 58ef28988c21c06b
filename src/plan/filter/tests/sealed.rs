//! Columns that were sealed and opened, against those that they were made from.

use std::path::Path as FilePath;
use std::sync::Arc;

use serde_json::json;

use crate::plan::filter::tests::choices::Choices;
use crate::plan::filter::tests::filter;
use crate::plan::filter::tests::world::{World, world};
use crate::plan::filter::{estimate, evaluate};
use crate::store::Identity;
use crate::store::columns::Columns;
use crate::store::disk::FileDisk;
use crate::store::sealed::{Sealed, SealedWriter};

const OWN: Identity<'_> = Identity { kind: "columns", owner: 1, version: 1 };

fn sealed_and_opened(columns: &Columns, at: &FilePath) -> Columns {
    let mut writer = SealedWriter::create(&FileDisk, at, OWN, columns.n_sections()).unwrap();
    columns.seal(&mut writer).unwrap();
    writer.finish().unwrap();
    Columns::open(Arc::new(Sealed::open(&FileDisk, at, OWN).unwrap())).unwrap()
}

fn assert_answers_are_the_same(made: &World, opened: &World, choices: &mut Choices) -> usize {
    let mut n_passing = 0;
    for _ in 0..60 {
        let json = choices.filter(2);
        let filter = filter(&json);
        let (expected, passing) = (made.passing(&filter), opened.passing(&filter));
        assert_eq!(passing.slots, expected.slots, "{json}");
        assert_eq!(passing.read_for, expected.read_for, "{json}");
        assert_eq!(passing.payloads_read, expected.payloads_read, "{json}");
        let estimate = estimate(&filter, &opened.columns, opened.live.len()).unwrap();
        assert!(estimate.at_most >= expected.slots.len(), "{json} {estimate:?}");
        n_passing += expected.slots.len() as usize;
    }
    n_passing
}

#[test]
fn sealed_columns_answer_as_those_that_they_were_made_from_through_any_history() {
    let dir = tempfile::tempdir().unwrap();
    let mut n_passing = 0;
    for seed in 0..60 {
        let (mut made, mut opened) = (world(seed, true), world(seed, true));
        let mut choices = Choices::new(5000 + seed);
        opened.columns = sealed_and_opened(&opened.columns, &dir.path().join("first.sealed"));
        if seed % 2 == 0 {
            n_passing += assert_answers_are_the_same(&made, &opened, &mut choices);
        }
        for _ in 0..60 {
            let (slot, payload) = (choices.below(200) as u32, choices.object(3));
            let keep = choices.below(4) > 0;
            for world in [&mut made, &mut opened] {
                if keep { world.set(slot, payload.clone()) } else { world.remove(slot) }
            }
        }
        n_passing += assert_answers_are_the_same(&made, &opened, &mut choices);
        opened.columns = sealed_and_opened(&opened.columns, &dir.path().join("second.sealed"));
        n_passing += assert_answers_are_the_same(&made, &opened, &mut choices);
    }
    // Of 9,000 filters.
    assert!(n_passing > 90_000, "{n_passing}");
}

#[test]
fn a_filter_on_a_damaged_field_is_an_error_and_others_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("columns.sealed");
    let mut world = World::default();
    (0..100).for_each(|slot| world.set(slot, json!({"a": slot % 3, "b": slot % 5})));
    world.index("a", crate::store::columns::Kind::Integer);
    world.index("b", crate::store::columns::Kind::Integer);
    drop(sealed_and_opened(&world.columns, &at));
    let file = Sealed::open(&FileDisk, &at, OWN).unwrap();
    let mut bytes = std::fs::read(&at).unwrap();
    bytes[file.sections()[0].offset as usize] ^= 1;
    std::fs::write(&at, bytes).unwrap();
    world.columns = Columns::open(Arc::new(Sealed::open(&FileDisk, &at, OWN).unwrap())).unwrap();
    let on = |key: &str| filter(&json!({"must": {"key": key, "match": {"value": 1}}}));
    let error = evaluate(&on("a"), &world.columns, &world).unwrap_err();
    assert!(error.to_string().starts_with("corrupt_file: field a: "), "{error}");
    assert_eq!(estimate(&on("a"), &world.columns, 100).unwrap_err(), error);
    assert_eq!(world.passing(&on("b")).slots.len(), 20);
    let payloads = world.payloads.iter().map(|(slot, payload)| Ok((*slot, payload)));
    world.columns.rebuild(payloads).unwrap();
    assert_eq!(world.passing(&on("a")).slots.len(), 33);
}
