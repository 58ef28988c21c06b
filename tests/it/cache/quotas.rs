//! Nobody is pushed out by a flood.

use nearkin::cache::{Identity, Inserted, NewEntry, Refusal};
use nearkin::core::mix::stream;

use super::{Test, entry, identity, vector};

const ROOM: &str = r#"
    [cache]
    entries = 200
    [default]
    guard = false
    [category.code]
    quota = { floor_entries = 20, cap_entries = 50 }
"#;

fn n_of(test: &Test, identity: &Identity, numbers: std::ops::Range<u64>) -> usize {
    numbers.filter(|&n| test.ask(identity, n, "x", &vector(n)).hit().is_some()).count()
}

#[test]
fn a_flood_of_one_tenant_moves_nothing_of_another_and_keeps_to_the_room() {
    let test = Test::new(ROOM);
    let (ann, ben) = (identity("ann"), identity("ben"));
    (0..60).for_each(|n| {
        test.insert(entry(&ann, n));
    });
    for n in 1000..3000 {
        test.insert(entry(&ben, n));
        assert!(test.cache.stats().n_entries <= 200);
    }
    assert_eq!(n_of(&test, &ann, 0..60), 60);
    assert_eq!(n_of(&test, &ben, 1000..3000), 140);
    assert_eq!(test.cache.stats().all.n_evicted, 1860);
}

#[test]
fn a_category_keeps_to_its_cap_and_has_its_floor() {
    let test = Test::new(ROOM);
    let ann = identity("ann");
    let code = Identity { category: "code".into(), ..ann.clone() };
    (0..80).for_each(|n| {
        test.insert(entry(&code, n));
    });
    assert_eq!(n_of(&test, &code, 0..80), 50);
    (1000..1500).for_each(|n| {
        test.insert(entry(&ann, n));
    });
    // The floor is its own; what is beyond goes when others want room.
    let left = n_of(&test, &code, 0..80);
    assert!((20..=50).contains(&left), "{left}");
    assert_eq!(test.cache.stats().n_entries, 200);
    // A restart knows who has what.
    let test = test.reopened();
    (2000..2500).for_each(|n| {
        test.insert(entry(&ann, n));
    });
    assert!(n_of(&test, &code, 0..80) >= 20);
    assert_eq!(test.cache.stats().n_entries, 200);
}

#[test]
fn what_is_asked_for_outlives_what_is_not_and_a_restart_remembers_it() {
    let mut test = Test::new("[cache]\nentries = 50\n[default]\nguard = false");
    let ann = identity("ann");
    (0..50).for_each(|n| {
        test.insert(entry(&ann, n));
    });
    for n in (0..50).step_by(5) {
        assert!(test.ask(&ann, n, "x", &vector(n)).hit().is_some());
    }
    for round in 0..3 {
        for n in 0..100 {
            test.insert(entry(&ann, 1000 * (round + 1) + n));
        }
        test.cache.flush().unwrap();
        test = test.reopened();
    }
    let kept = (0..50).step_by(5).filter(|&n| {
        // Asked by a hash that is not kept, so that it is not the equal request that finds it.
        test.ask(&ann, 900_000 + n, "x", &vector(n)).hit().is_some()
    });
    assert_eq!(kept.count(), 10);
}

#[test]
fn what_saves_more_for_its_bytes_is_kept_longer() {
    let test = Test::new("[cache]\nentries = 40\n[default]\nguard = false");
    let ann = identity("ann");
    for n in 0..40 {
        test.insert(NewEntry { saved_ms: if n % 2 == 0 { 2000 } else { 100 }, ..entry(&ann, n) });
        assert!(test.ask(&ann, n, "x", &vector(n)).hit().is_some());
    }
    for n in 100..120 {
        test.insert(NewEntry { saved_ms: 5000, ..entry(&ann, n) });
        assert!(test.ask(&ann, n, "x", &vector(n)).hit().is_some());
    }
    let kept: Vec<u64> = (0..40).filter(|&n| n_of(&test, &ann, n..n + 1) == 1).collect();
    assert_eq!(kept, (0..40).step_by(2).collect::<Vec<u64>>());
}

#[test]
fn the_doorkeeper_lets_in_what_comes_twice() {
    let test = Test::new("[default]\ndoorkeeper = true");
    let ann = identity("ann");
    for n in 0..500 {
        assert_eq!(test.insert(entry(&ann, n)), Inserted::Refused(Refusal::FirstSighting));
    }
    assert!(matches!(test.insert(entry(&ann, 7)), Inserted::New(_)));
    assert_eq!(test.cache.stats().n_entries, 1);
}

#[test]
fn bytes_are_counted_as_entries_are() {
    let test = Test::new("[cache]\nbytes = 10000\n[default]\nguard = false");
    let ann = identity("ann");
    for n in 0..300 {
        let n_bytes = 100 + stream(3, n) as usize % 900;
        let large = NewEntry { answer: vec![b'x'; n_bytes], ..entry(&ann, n) };
        assert!(matches!(test.insert(large), Inserted::New(_)));
    }
    let left = n_of(&test, &ann, 0..300);
    assert!((9..80).contains(&left), "{left} of about 600 bytes each");
    let larger = NewEntry { answer: vec![b'x'; 10_001], ..entry(&ann, 999) };
    assert_eq!(test.insert(larger), Inserted::Refused(Refusal::NoRoom));
    assert_eq!(n_of(&test, &ann, 0..300), left);
}
