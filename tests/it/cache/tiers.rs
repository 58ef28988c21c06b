//! What is answered by which tier, and what is not.

use std::time::Duration;

use nearkin::cache::{Identity, Inserted, Lookup, NewEntry, Reason, Refusal, Tier, Verdict};

use super::{Test, entry, hash, identity, near, vector};

fn id(inserted: Inserted) -> nearkin::cache::EntryId {
    match inserted {
        Inserted::New(id) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_equal_request_comes_before_a_nearer_one_and_brings_all_that_was_kept() {
    let test = Test::new("");
    let ann = identity("ann");
    let kept = NewEntry {
        writer: Some("proxy".into()),
        tags: vec!["v1".into()],
        saved_tokens: 7,
        ..entry(&ann, 1)
    };
    let equal = id(test.insert(kept));
    let other = id(test.insert(entry(&ann, 2)));
    test.clock.pass(2500);
    // The hash of one, the vector of the other.
    let Verdict::Hit(hit) = test.ask(&ann, 1, "question 1", &vector(2)) else { panic!() };
    assert_eq!(
        (hit.entry, hit.tier, hit.reason, hit.similarity),
        (equal, Tier::Exact, Reason::Exact, 1.0)
    );
    assert_eq!((hit.age, hit.answer.bytes), (Duration::from_millis(2500), b"answer 1".to_vec()));
    assert_eq!(hit.answer.text, "question 1");
    assert_eq!((hit.answer.writer.as_deref(), hit.answer.saved_tokens), (Some("proxy"), 7));
    let Verdict::Hit(hit) = test.ask(&ann, 9, "question 2", &near(2, 0.95)) else { panic!() };
    assert_eq!((hit.entry, hit.tier), (other, Tier::Semantic));
    assert!((hit.similarity - 0.95).abs() < 1e-3 && hit.threshold == 0.93);
}

#[test]
fn below_the_threshold_a_miss_says_how_near_it_was_and_whether_a_verifier_may_be_asked() {
    let test = Test::new("");
    let ann = identity("ann");
    let kept = id(test.insert(entry(&ann, 1)));
    let miss = |cosine| match test.ask(&ann, 9, "question 1", &near(1, cosine)) {
        Verdict::Miss(miss) => miss,
        hit => panic!("{hit:?}"),
    };
    let (grey, far) = (miss(0.91), miss(0.85));
    assert_eq!((grey.reason, grey.grey, grey.explore), (Reason::BelowThreshold, Some(kept), None));
    assert_eq!((far.reason, far.grey), (Reason::BelowThreshold, None));
    let (nearest, similarity) = far.nearest.unwrap();
    assert!(nearest == kept && (similarity - 0.85).abs() < 1e-3, "{similarity}");
}

#[test]
fn a_request_whose_hash_begins_alike_is_another_request() {
    let test = Test::new("");
    let ann = identity("ann");
    let kept = id(test.insert(entry(&ann, 1)));
    let mut alike = hash(1);
    alike[31] ^= 1;
    let ask = |vector: &[f32]| {
        let lookup = Lookup::new(&ann, alike, "question 1", Some(vector));
        test.cache.lookup(&lookup).unwrap()
    };
    assert_eq!(ask(&vector(2)).reason(), Reason::BelowThreshold);
    let similar = ask(&vector(1));
    assert_eq!((similar.reason(), similar.hit().unwrap().entry), (Reason::Semantic, kept));
}

#[test]
fn equal_vectors_in_two_partitions_are_misses() {
    let test = Test::new("[category.own]\nscope = \"user\"");
    let ann = Identity { user: Some("u".into()), ..identity("ann") };
    test.insert(entry(&ann, 1));
    let own = Identity { category: "own".into(), ..ann.clone() };
    test.insert(entry(&own, 1));
    let others = [
        identity("ben"),
        Identity { category: "code".into(), ..ann.clone() },
        Identity { model: "n".into(), ..ann.clone() },
        Identity { compat: [1; 32], ..ann.clone() },
        Identity { user: Some("v".into()), ..own.clone() },
        Identity { tenant: "ben".into(), ..own.clone() },
    ];
    for other in &others {
        let verdict = test.ask(other, 1, "question 1", &vector(1));
        assert_eq!(verdict.reason(), Reason::EmptyPartition, "{other:?}");
    }
    // Another user of the tenant, where the tenant shares.
    let other = Identity { user: Some("v".into()), ..ann };
    assert_eq!(test.ask(&other, 1, "question 1", &vector(1)).reason(), Reason::Exact);
    let nobody = Identity { user: None, ..own };
    assert_eq!(test.ask(&nobody, 1, "question 1", &vector(1)).reason(), Reason::NoUser);
    assert_eq!(test.insert(entry(&nobody, 1)), Inserted::Refused(Refusal::NoUser));
}

#[test]
fn a_request_may_ask_for_more_than_the_policy_and_only_a_trusted_one_for_less() {
    let test = Test::new("");
    let ann = identity("ann");
    test.insert(entry(&ann, 1));
    let vector = near(1, 0.94);
    let ask = |threshold, trusted| {
        let lookup = Lookup::new(&ann, hash(9), "question 1", Some(&vector));
        let lookup = Lookup { threshold: Some(threshold), trusted, ..lookup };
        test.cache.lookup(&lookup).unwrap()
    };
    assert_eq!(ask(0.96, false).reason(), Reason::BelowThreshold);
    assert_eq!(ask(0.5, false).hit().unwrap().threshold, 0.93);
    assert_eq!(ask(0.5, true).hit().unwrap().threshold, 0.5);
    let lookup = Lookup::new(&ann, hash(9), "question 1", Some(&vector));
    let wrong = Lookup { threshold: Some(1.5), ..lookup };
    let error = test.cache.lookup(&wrong).unwrap_err();
    assert_eq!(
        error.to_string(),
        "threshold_range: a threshold of 1.5, expected a cosine of -1 to 1"
    );
    let short = Lookup { vector: Some(&[1.0]), ..lookup };
    assert_eq!(test.cache.lookup(&short).unwrap_err().code(), "vector_dim");
}

#[test]
fn every_miss_has_its_reason() {
    let policies = r#"
        [category.off]
        mode = "off"
        [category.equal]
        mode = "exact"
        [category.long]
        min_words = 3
        [category.quick]
        ttl_s = 10
    "#;
    let test = Test::new(policies);
    let of = |category: &str| Identity { category: category.into(), ..identity("ann") };
    for category in ["equal", "long", "quick", "faq"] {
        test.insert(entry(&of(category), 1));
    }
    let reason = |category: &str, text: &str, vector: Option<&[f32]>, max_age: Option<u64>| {
        let identity = of(category);
        let lookup = Lookup::new(&identity, hash(9), text, vector);
        let lookup = Lookup { max_age: max_age.map(Duration::from_secs), ..lookup };
        test.cache.lookup(&lookup).unwrap().reason().word()
    };
    let same = vector(1);
    assert_eq!(reason("off", "a b c", Some(&same), None), "category_off");
    assert_eq!(reason("equal", "a b c", Some(&same), None), "not_equal");
    assert_eq!(reason("long", "a b", Some(&same), None), "too_short");
    assert_eq!(reason("long", "a b c", Some(&same), None), "semantic");
    assert_eq!(reason("faq", "a b c", None, None), "no_vector");
    assert_eq!(reason("none", "a b c", Some(&same), None), "empty_partition");
    test.clock.pass(5000);
    assert_eq!(reason("faq", "a b c", Some(&same), Some(4)), "too_old");
    assert_eq!(reason("faq", "a b c", Some(&same), Some(5)), "semantic");
    // Within the second in which it ends it is there, and not answered.
    test.clock.pass(5001);
    assert_eq!(reason("quick", "a b c", Some(&same), None), "expired");
    test.clock.pass(2000);
    assert_eq!(reason("quick", "a b c", Some(&same), None), "empty_partition");
    let stats = test.cache.stats();
    assert_eq!((stats.all.n_lookups, stats.all.n_hits(), stats.all.n_expired), (10, 2, 0));
    test.cache.upkeep().unwrap();
    let stats = test.cache.stats();
    assert_eq!((stats.n_entries, stats.categories["quick"].n_expired), (3, 1));
    assert_eq!(stats.categories["quick"].by_reason["expired"], 1);
}

#[test]
fn an_answer_that_is_there_already_joins_and_an_equal_request_is_replaced() {
    let test = Test::new("[default]\nguard = false");
    let ann = identity("ann");
    let first = id(test.insert(entry(&ann, 1)));
    let new = |n: u64, cosine, answer: &str| NewEntry {
        vector: Some(near(1, cosine)),
        answer: answer.into(),
        ..entry(&ann, n)
    };
    assert_eq!(test.insert(new(2, 0.95, "answer 1")), Inserted::Joined(first), "says the same");
    assert_eq!(test.insert(new(3, 0.99, "other")), Inserted::Joined(first), "is one question");
    let apart = id(test.insert(new(4, 0.95, "another answer")));
    let far = id(test.insert(new(5, 0.80, "answer 1")));
    assert_ne!(apart, far);
    let replaced = id(test.insert(new(1, 1.0, "newer")));
    assert_ne!(replaced, first);
    let hit = test.ask(&ann, 1, "question 1", &vector(1));
    assert_eq!(hit.hit().unwrap().answer.bytes, b"newer");
    assert_eq!(test.cache.stats().n_entries, 3);
    // Less than half of its life is left: the new one takes its place.
    test.clock.pass(1_801_000);
    let fresh = id(test.insert(new(6, 1.0, "newest")));
    assert_eq!(test.ask(&ann, 9, "question 1", &vector(1)).hit().unwrap().entry, fresh);
    assert_eq!(test.cache.stats().n_entries, 3);
}

#[test]
fn what_cannot_be_kept_is_refused_with_its_reason() {
    let policies = "[category.off]\nmode = \"off\"\n[category.not]\nstore = false\n[category.like]\nmode = \"semantic\"";
    let test = Test::new(policies);
    let ann = identity("ann");
    let of = |category: &str| entry(&Identity { category: category.into(), ..ann.clone() }, 1);
    let refused = |entry| match test.insert(entry) {
        Inserted::Refused(refusal) => refusal.word(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(of("off")), "not_stored");
    assert_eq!(refused(of("not")), "not_stored");
    assert_eq!(refused(NewEntry { vector: None, ..of("like") }), "no_vector");
    let large = |text: usize, answer: usize| NewEntry {
        text: "x".repeat(text),
        answer: vec![b'x'; answer],
        ..of("faq")
    };
    assert_eq!(refused(large(65_537, 1)), "too_large");
    assert_eq!(refused(large(1, 1 << 20)), "too_large");
    assert_eq!(refused(NewEntry { tags: vec!["t".repeat(256)], ..of("faq") }), "too_large");
    let ttl = |s| NewEntry { ttl: Some(Duration::from_secs(s)), ..of("faq") };
    assert_eq!(refused(ttl(3601)), "ttl_above_policy");
    assert_eq!(test.cache.insert(ttl(0)).unwrap_err().code(), "ttl_range");
    assert_eq!(test.cache.stats().n_entries, 0);
    // The largest there may be is kept and comes back.
    let largest = nearkin::core::limits::CACHE_ANSWER_BYTES;
    test.insert(large(65_536, largest));
    let text = "x".repeat(65_536);
    let hit = test.ask(&ann, 1, &text, &vector(1));
    assert_eq!(hit.hit().unwrap().answer.bytes.len(), largest);
    assert_eq!(test.cache.stats().categories["default"].refused["too_large"], 3);
}

#[test]
fn an_explanation_shows_what_is_near_and_counts_nothing() {
    let test = Test::new("");
    let ann = identity("ann");
    for n in 1..9 {
        test.insert(NewEntry { vector: Some(near(1, 1.0 - n as f32 / 30.0)), ..entry(&ann, n) });
    }
    test.clock.pass(1000);
    let asked = vector(1);
    let explained =
        test.cache.explain(&Lookup::new(&ann, hash(99), "question 1", Some(&asked))).unwrap();
    assert_eq!(explained.verdict.reason(), Reason::Semantic);
    assert_eq!((explained.n_entries, explained.nearest.len(), explained.threshold), (8, 5, 0.93));
    assert!(explained.nearest.windows(2).all(|two| two[0].similarity >= two[1].similarity));
    let first = &explained.nearest[0];
    assert_eq!(
        (first.text.as_str(), first.age, first.n_hits),
        ("question 1", Duration::from_secs(1), 0)
    );
    assert_eq!(first.left, Duration::from_secs(3599));
    assert!(
        explained.partition.unwrap().starts_with("tenant \"ann\", category \"faq\", model \"m\"")
    );
    assert_eq!(test.cache.stats().all.n_lookups, 0);
    let other = Identity { category: "faq".into(), ..identity("ben") };
    assert_eq!(test.cache.entry(explained.nearest[0].entry, &other.tenant).unwrap(), None);
    assert!(test.cache.entry(explained.nearest[0].entry, "ann").unwrap().is_some());
}
