//! What is taken back does not come again.

use std::collections::BTreeMap;
use std::time::Duration;

use nearkin::cache::{
    Identity, Inserted, Invalidate, Lookup, NewEntry, Reach, Reason, Refusal, Verdict, Which,
};

use super::{Test, entry, hash, identity, vector};

fn of_ann(which: Which) -> Invalidate {
    Invalidate { reach: Reach::Tenant("ann".into()), which }
}

#[test]
fn each_kind_takes_back_what_it_names_in_its_tenant_only() {
    let test = Test::new("");
    let tenants = ["ann", "ben"].map(identity);
    let fill = || {
        for tenant in &tenants {
            let user = |user: &str| Identity { user: Some(user.into()), ..tenant.clone() };
            let base = |n: u64| entry(tenant, n);
            test.insert(NewEntry { tags: vec!["t".into()], ..base(1) });
            test.insert(NewEntry { writer: Some("w".into()), ..base(2) });
            test.insert(entry(&user("u"), 3));
            let pairs = [("a", "1"), ("b", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
            test.insert(NewEntry { attributes: pairs.into(), ..base(4) });
            test.insert(entry(&Identity { model: "n".into(), ..tenant.clone() }, 5));
            test.insert(entry(&Identity { category: "code".into(), ..tenant.clone() }, 6));
            test.insert(entry(&Identity { compat: [9; 32], ..tenant.clone() }, 7));
        }
    };
    let pair = |k: &str, v: &str| BTreeMap::from([(k.to_owned(), v.to_owned())]);
    let epoch =
        |model: Option<&str>, compat| Which::Epoch { model: model.map(str::to_owned), compat };
    for (which, n) in [
        (Which::Tag("t".into()), 1),
        (Which::Tag("u".into()), 0),
        (Which::Writer("w".into()), 1),
        (Which::User("u".into()), 1),
        (Which::Attributes(pair("a", "1")), 1),
        (Which::Attributes(pair("a", "2")), 0),
        (Which::Category("code".into()), 1),
        (Which::Exact(hash(3)), 1),
        (epoch(Some("n"), None), 1),
        (epoch(None, Some([9; 32])), 1),
        (epoch(Some("n"), Some([9; 32])), 0),
        (Which::All, 7),
    ] {
        fill();
        assert_eq!(test.cache.stats().n_entries, 14);
        assert_eq!(test.cache.invalidate(&of_ann(which.clone())).unwrap(), n, "{which:?}");
        assert_eq!(test.cache.stats().n_entries, 14 - n, "{which:?}");
        let all = Invalidate { reach: Reach::AllTenants, which: Which::All };
        assert_eq!(test.cache.invalidate(&all).unwrap(), 14 - n);
    }
    fill();
    let Verdict::Hit(hit) = test.ask(&tenants[1], 1, "question 1", &vector(1)) else { panic!() };
    assert_eq!(test.cache.invalidate(&of_ann(Which::Id(hit.entry))).unwrap(), 0, "it is ben's");
}

#[test]
fn an_answer_that_was_asked_for_before_it_was_taken_back_is_refused() {
    let test = Test::new("");
    let ann = identity("ann");
    let asked = vector(1);
    let lookup = Lookup::new(&ann, hash(1), "question 1", Some(&asked));
    let Verdict::Miss(miss) = test.cache.lookup(&lookup).unwrap() else { panic!() };
    test.cache.invalidate(&of_ann(Which::Epoch { model: Some("m".into()), compat: None })).unwrap();
    let late = NewEntry { ticket: Some(miss.ticket), ..entry(&ann, 1) };
    assert_eq!(test.insert(late.clone()), Inserted::Refused(Refusal::Invalidated));
    let other = NewEntry { identity: identity("ben"), ..late.clone() };
    assert!(matches!(test.insert(other), Inserted::New(_)), "it was not about ben");
    let Verdict::Miss(miss) = test.cache.lookup(&lookup).unwrap() else { panic!() };
    let again = NewEntry { ticket: Some(miss.ticket), ..late.clone() };
    assert!(matches!(test.insert(again), Inserted::New(_)));
    // So many later that the first is forgotten: what may have been meant is refused.
    for n in 0..1001 {
        test.cache.invalidate(&of_ann(Which::Tag(n.to_string()))).unwrap();
    }
    let older = NewEntry { ticket: Some(miss.ticket), ..entry(&ann, 2) };
    assert_eq!(test.insert(older), Inserted::Refused(Refusal::Invalidated));
}

#[test]
fn what_ended_or_was_taken_back_does_not_come_with_a_clock_that_is_set_back_or_a_restart() {
    let mut test = Test::new("[category.quick]\nttl_s = 60");
    let (ann, quick) = (identity("ann"), Identity { category: "quick".into(), ..identity("ann") });
    test.insert(entry(&ann, 1));
    test.insert(entry(&ann, 2));
    test.insert(entry(&quick, 3));
    test.cache.invalidate(&of_ann(Which::Exact(hash(1)))).unwrap();
    test.clock.pass(70_000);
    for by in [-3_600_000, -10 * 365 * 24 * 3_600_000i64, 0] {
        test.clock.set_wall(by);
        for (identity, n, there) in [(&ann, 1, false), (&ann, 2, true), (&quick, 3, false)] {
            let verdict = test.ask(identity, n, "x", &vector(n));
            assert_eq!(verdict.hit().is_some(), there, "{n} after {by} ms: {verdict:?}");
        }
        test.cache.upkeep().unwrap();
        test = test.reopened();
    }
    // Set forward by an hour and back: nothing ends earlier than by that hour.
    let test = Test::new("[default]\nttl_s = 7200");
    test.insert(entry(&ann, 1));
    test.clock.set_wall(3_600_000);
    assert!(test.ask(&ann, 1, "x", &vector(1)).hit().is_some());
    test.clock.set_wall(-3_600_000);
    test.clock.pass(3_599_000);
    assert!(test.ask(&ann, 1, "x", &vector(1)).hit().is_some());
}

#[test]
fn a_life_ends_when_it_was_to_end_whatever_is_answered_meanwhile() {
    let test = Test::new("[default]\nttl_s = 100");
    let ann = identity("ann");
    let short = NewEntry { ttl: Some(Duration::from_secs(10)), ..entry(&ann, 1) };
    test.insert(short);
    test.insert(entry(&ann, 2));
    for n in 0..99 {
        let reason = test.ask(&ann, 2, "x", &vector(2)).reason();
        assert_eq!(reason, Reason::Exact, "after {n} s");
        assert_eq!(test.ask(&ann, 1, "x", &vector(1)).hit().is_some(), n < 10, "after {n} s");
        test.clock.pass(1000);
    }
    test.clock.pass(1000);
    assert!(test.ask(&ann, 2, "x", &vector(2)).hit().is_none());
}
