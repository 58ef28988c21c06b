//! Many at once: readers, writers, whoever takes back.

use std::sync::atomic::{AtomicU64, Ordering};

use nearkin::cache::{Inserted, Invalidate, Lookup, Reach, Which};

use super::{Test, entry, hash, identity, vector};

#[test]
fn threads_see_only_whole_entries_of_their_own_and_nothing_after_it_was_taken_back() {
    let test = Test::new("[default]\nguard = false");
    let (n_hits, n_new) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (test, n_hits, n_new) = (&test, &n_hits, &n_new);
            scope.spawn(move || {
                let tenant = identity(&format!("tenant {thread}"));
                for n in 0..60 {
                    let new = matches!(test.insert(entry(&tenant, n)), Inserted::New(_));
                    n_new.fetch_add(u64::from(new), Ordering::Relaxed);
                    let asked: Vec<Vec<f32>> = (0..=n).map(vector).collect();
                    let lookups: Vec<Lookup<'_>> = (0..=n)
                        .map(|n| Lookup::new(&tenant, hash(n), "x", Some(&asked[n as usize])))
                        .collect();
                    for (n, verdict) in
                        test.cache.lookup_batch(&lookups).unwrap().iter().enumerate()
                    {
                        if let Some(hit) = verdict.hit() {
                            assert_eq!(hit.answer.bytes, format!("answer {n}").into_bytes());
                            n_hits.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    if n % 10 == 9 {
                        let which = Which::Exact(hash(n / 2));
                        let reach = Reach::Tenant(tenant.tenant.clone());
                        test.cache.invalidate(&Invalidate { reach, which }).unwrap();
                        let gone = test.ask(&tenant, n / 2, "x", &vector(n / 2));
                        assert!(gone.hit().is_none(), "{gone:?}");
                    }
                }
            });
        }
    });
    assert_eq!(n_new.into_inner(), 240);
    assert_eq!(test.cache.stats().n_entries, 240 - 4 * 6);
    assert!(n_hits.into_inner() > 4 * 1500);
    let test = test.reopened();
    assert_eq!(test.cache.stats().n_entries, 240 - 4 * 6);
}
