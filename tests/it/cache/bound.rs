//! Entries that were compared with the model: served where that is safe, and asked about again where it is not.

use nearkin::cache::{EntryId, Inserted, Miss, Reason, Tier, Verdict};

use super::{Test, entry, identity, near, vector};

const BOUND: &str = "[default]\nguard = false\nmargin = 0.1\nverified = { delta = 0.05 }";

fn kept(test: &Test) -> EntryId {
    match test.insert(entry(&identity("ann"), 1)) {
        Inserted::New(id) => id,
        other => panic!("{other:?}"),
    }
}

fn miss(verdict: Verdict) -> Miss {
    match verdict {
        Verdict::Miss(miss) => miss,
        Verdict::Hit(hit) => panic!("{hit:?}"),
    }
}

#[test]
fn what_was_right_often_enough_is_served_below_the_threshold_too_and_after_a_restart() {
    let mut test = Test::new(BOUND);
    let (ann, entry) = (identity("ann"), kept(&test));
    let ask = |test: &Test| test.ask(&ann, 9, "question 1", &near(1, 0.88));
    // A near miss goes to the model anyway, and says that its answer may be compared.
    assert_eq!((miss(ask(&test)).explore, miss(ask(&test)).grey), (Some(entry), Some(entry)));
    for n in 0..60 {
        let similarity = 0.5 + (n % 50) as f32 / 100.0;
        assert!(test.cache.observe(entry, similarity, similarity > 0.7).unwrap());
    }
    let n_served = (0..200).filter(|_| ask(&test).hit().is_some()).count();
    assert!(n_served > 150, "{n_served} of 200");
    let hits: Vec<Verdict> =
        (0..20).map(|_| ask(&test)).filter(|one| one.hit().is_some()).collect();
    assert!(hits.iter().all(|one| one.hit().unwrap().tier == Tier::Verified));
    // Nearer than the request allows is not near enough for it.
    let asked = near(1, 0.88);
    let lookup = nearkin::cache::Lookup::new(&ann, [9; 32], "question 1", Some(&asked));
    let strict = nearkin::cache::Lookup { threshold: Some(0.9), ..lookup };
    assert!((0..50).all(|_| test.cache.lookup(&strict).unwrap().hit().is_none()));
    test.cache.flush().unwrap();
    test = test.reopened();
    let n_served = (0..200).filter(|_| ask(&test).hit().is_some()).count();
    assert!(n_served > 150, "{n_served} of 200 after a restart");
    let stats = test.cache.stats();
    assert_eq!(stats.all.n_verified, n_served as u64);
}

#[test]
fn what_was_wrong_is_asked_about_again_above_the_threshold_too() {
    let test = Test::new(BOUND);
    let (ann, entry) = (identity("ann"), kept(&test));
    let ask = || test.ask(&ann, 9, "question 1", &near(1, 0.95));
    assert_eq!(ask().reason(), Reason::Semantic, "the threshold decides while nothing is known");
    for n in 0..20 {
        test.cache.observe(entry, 0.90 + (n % 8) as f32 / 100.0, false).unwrap();
    }
    for _ in 0..50 {
        let miss = miss(ask());
        assert_eq!((miss.reason, miss.explore), (Reason::Exploring, Some(entry)));
    }
    // An equal request is one, whatever is similar.
    assert_eq!(test.ask(&ann, 1, "question 1", &vector(1)).reason(), Reason::Exact);
    let stats = test.cache.stats();
    assert_eq!((stats.all.n_observed, stats.all.n_observed_wrong), (20, 20));
    assert!(!test.cache.observe(EntryId(1), 0.9, true).unwrap(), "there is no such entry");
    assert_eq!(test.cache.observe(entry, 1.5, true).unwrap_err().code(), "threshold_range");
}

#[test]
fn the_guard_refuses_what_only_looks_alike() {
    let test = Test::new("");
    let ann = identity("ann");
    let kept = |n, text: &str| {
        let new = nearkin::cache::NewEntry { text: text.into(), ..entry(&ann, n) };
        assert!(matches!(test.insert(new), Inserted::New(_)), "{text}");
    };
    kept(1, "How do I enable dark mode?");
    kept(2, "What is 15 percent of 80?");
    for (n, text, expected) in [
        (1, "How do I enable dark mode?", Reason::Semantic),
        (1, "How do I disable dark mode?", Reason::GuardRefused),
        (2, "What is 25 percent of 80?", Reason::GuardRefused),
    ] {
        for cosine in [0.99, 0.91] {
            let verdict = test.ask(&ann, 100, text, &near(n, cosine));
            let expected = match expected {
                Reason::Semantic if cosine < 0.93 => Reason::BelowThreshold,
                other => other,
            };
            assert_eq!(verdict.reason(), expected, "{text} at {cosine}");
            if expected == Reason::GuardRefused {
                let miss = miss(verdict);
                assert_eq!((miss.grey, miss.explore), (None, None));
            }
        }
    }
    // The opposite question does not join, near as it is, and is kept beside it.
    let vector = Some(near(1, 0.99));
    let opposite = nearkin::cache::NewEntry {
        text: "How do I disable dark mode?".into(),
        vector,
        ..entry(&ann, 5)
    };
    assert!(matches!(test.insert(opposite), Inserted::New(_)));
    let explained = {
        let asked = near(1, 0.995);
        let lookup =
            nearkin::cache::Lookup::new(&ann, [9; 32], "How do I disable dark mode?", Some(&asked));
        test.cache.explain(&lookup).unwrap()
    };
    let differs: Vec<bool> =
        explained.nearest[..2].iter().map(|near| near.differs.is_some()).collect();
    assert_eq!(differs.iter().filter(|&&differs| differs).count(), 1);
}
