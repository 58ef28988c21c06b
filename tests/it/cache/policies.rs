//! Policies in force: reloaded, adapted to load, of an embedder.

use std::sync::Arc;

use nearkin::cache::{CacheSettings, Identity, Policies, Reason, SemanticCache};
use nearkin::store::disk::FileDisk;

use super::{Test, entry, identity, near, seams, vector};

fn policies(text: &str) -> Policies {
    Policies::from_toml(text, "test.toml").unwrap()
}

#[test]
fn reloaded_policies_are_in_force_at_once() {
    let test = Test::new("");
    let ann = identity("ann");
    test.insert(entry(&ann, 1));
    let reason = || test.ask(&ann, 9, "question 1", &near(1, 0.94)).reason();
    assert_eq!(reason(), Reason::Semantic);
    for (text, expected) in [
        ("[category.faq]\nthreshold = 0.95", Reason::BelowThreshold),
        ("[category.faq]\nmode = \"exact\"", Reason::NotEqual),
        ("[category.faq]\nmode = \"off\"", Reason::CategoryOff),
        ("", Reason::Semantic),
        ("[category.faq]\nttl_s = 60", Reason::Semantic),
    ] {
        test.cache.reload(policies(text)).unwrap();
        assert_eq!(reason(), expected, "{text}");
    }
    // A shorter life holds for what is there, and a longer one later does not bring it back.
    test.clock.pass(61_000);
    test.cache.reload(policies("")).unwrap();
    assert_eq!(reason(), Reason::EmptyPartition);
}

#[test]
fn what_was_kept_for_others_goes_when_the_scope_changes_and_stays_gone() {
    let test = Test::new("[category.faq]\nscope = \"shared\"");
    let ann = identity("ann");
    test.insert(entry(&ann, 1));
    assert!(test.ask(&identity("ben"), 1, "x", &vector(1)).hit().is_some());
    test.cache.reload(policies("")).unwrap();
    assert_eq!(test.cache.stats().n_entries, 0);
    test.cache.reload(policies("[category.faq]\nscope = \"shared\"")).unwrap();
    let test = test.reopened();
    assert!(test.ask(&ann, 1, "x", &vector(1)).hit().is_none());
    // The same where the file changed while the cache was closed.
    test.insert(entry(&ann, 2));
    let Test { cache, clock, folder } = test;
    drop(cache);
    let cache = super::open(&folder.path().join("c"), Policies::default(), &clock);
    assert_eq!(cache.stats().n_entries, 0);
}

#[test]
fn load_moves_threshold_and_life_as_far_as_the_policy_says_and_no_further() {
    let text = "[default]\nthreshold = 0.92\n[category.easy]\nttl_s = 100\nadapt = { delta_max = 0.05, ttl_max = 2, floor = 0.88 }\n[category.faq]\nttl_s = 100";
    let test = Test::new(text);
    let easy = Identity { category: "easy".into(), ..identity("ann") };
    let strict = identity("ann");
    test.insert(entry(&easy, 1));
    test.insert(entry(&strict, 1));
    let threshold = |identity| {
        let explained =
            test.cache.explain(&nearkin::cache::Lookup::new(identity, [0; 32], "", None));
        explained.unwrap().threshold
    };
    assert_eq!((threshold(&easy), threshold(&strict)), (0.92, 0.92));
    test.cache.load(1.0).unwrap();
    assert!((threshold(&easy) - 0.895).abs() < 1e-6);
    (0..100).for_each(|_| test.cache.load(1.0).unwrap());
    assert_eq!((threshold(&easy), threshold(&strict)), (0.88, 0.92), "the floor holds");
    assert_eq!(test.ask(&easy, 9, "question 1", &near(1, 0.89)).reason(), Reason::Semantic);
    assert_eq!(test.ask(&strict, 9, "question 1", &near(1, 0.89)).reason(), Reason::BelowThreshold);
    test.clock.pass(150_000);
    assert_eq!(test.ask(&easy, 1, "question 1", &vector(1)).reason(), Reason::Exact);
    assert_eq!(test.ask(&strict, 1, "question 1", &vector(1)).reason(), Reason::EmptyPartition);
    // One report of no load hardly moves it back.
    test.cache.load(0.0).unwrap();
    assert!(test.cache.stats().load > 0.9);
    test.clock.pass(50_001);
    assert!(test.ask(&easy, 1, "question 1", &vector(1)).hit().is_none(), "twice its life");
    for load in [-0.1, 1.1, f32::NAN] {
        assert_eq!(test.cache.load(load).unwrap_err().code(), "load_range");
    }
}

#[test]
fn vectors_of_two_embedders_are_never_mixed() {
    let test = Test::new("");
    let Test { cache, clock, folder } = test;
    drop(cache);
    let path = folder.path().join("c");
    let open = |dim, embedder: &str| {
        let settings = CacheSettings { dim, embedder: embedder.into() };
        let seams = seams(Arc::new(FileDisk), &clock);
        SemanticCache::open(&path, settings, Policies::default(), seams).map(|_| ())
    };
    let error = open(super::DIM, "another").unwrap_err();
    assert_eq!(error.code(), "embedder_differs");
    assert!(error.to_string().contains("by \"test\", expected 16 by \"another\""), "{error}");
    assert_eq!(open(8, "test").unwrap_err().code(), "embedder_differs");
    open(super::DIM, "test").unwrap();
}

#[test]
fn a_collection_is_no_cache() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("points");
    let store = nearkin::store::durable::Durable::create(Arc::new(FileDisk), &path, 1, b"{}");
    drop(store.unwrap());
    let seams = seams(Arc::new(FileDisk), &Arc::default());
    let opened = SemanticCache::open(&path, super::settings(), Policies::default(), seams);
    assert_eq!(opened.err().unwrap().code(), "not_a_cache");
}
