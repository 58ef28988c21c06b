//! What is done while nobody waits: points that came become part of the index, so that searches stay fast.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::cache::CollectionPolicy;
use crate::error::Result;
use crate::server::cache::litellm::{self, Swept};
use crate::server::catalog::{Catalog, Entry};
use crate::server::dispatch::Shared;

/// How often changed collections are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Looks at changed collections, one after the other, for ever.
pub async fn keep(catalog: Arc<Catalog>) {
    loop {
        sleep(EVERY).await;
        for entry in catalog.entries() {
            if entry.take_changed() {
                look(entry).await;
            }
        }
    }
}

/// How long a second queries are asked again, of all collections.
const RECHECKING: Duration = Duration::from_millis(50);

/// Asks queries that wait for it again, exactly, for ever, if any do: a twentieth of the time of one thread, from another collection on
/// each time.
pub async fn check_recall(catalog: Arc<Catalog>) {
    if !catalog.checks_recall() {
        return;
    }
    for first in 0usize.. {
        sleep(EVERY).await;
        let mut entries = catalog.entries();
        if entries.is_empty() {
            continue;
        }
        let n_entries = entries.len();
        entries.rotate_left(first % n_entries);
        // A panic there was said where it happened.
        let _ = spawn_blocking(move || recheck(&entries)).await;
    }
}

fn recheck(entries: &[Arc<Entry>]) {
    let began = Instant::now();
    for entry in entries {
        let left = RECHECKING.saturating_sub(began.elapsed());
        if left.is_zero() {
            return;
        }
        let Some(collection) = entry.opened() else { continue };
        if let Err(error) = collection.check_recall(left) {
            eprintln!("recall of collection {:?} is not known: {error}", entry.name());
        }
    }
}

/// How often collections that another program uses as its cache are swept.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Follows the file of cache policies and lets go of answers that have had their time, for ever.
pub async fn keep_caches(shared: Arc<Shared>) {
    let mut next_sweep = Instant::now();
    loop {
        sleep(EVERY).await;
        let own = Arc::clone(&shared);
        // A panic there was said where it happened.
        let _ = spawn_blocking(move || look_at_caches(&own)).await;
        if Instant::now() >= next_sweep {
            next_sweep = Instant::now() + SWEEP_EVERY;
            for (name, policy) in &shared.front.caches().policies().collections {
                if let Some(entry) = shared.catalog.of_name(name) {
                    sweep(&shared, entry, policy.clone()).await;
                }
            }
        }
    }
}

/// Reads how loaded the models are as often as the policies say, if they do, for ever.
pub async fn keep_load(shared: Arc<Shared>) {
    loop {
        let Some(source) = shared.front.caches().policies().load.clone() else {
            sleep(EVERY).await;
            continue;
        };
        shared.front.meter().read(&shared.front, &shared.ledger, &source).await;
        sleep(source.period).await;
    }
}

fn look_at_caches(shared: &Shared) {
    let (caches, ledger) = (shared.front.caches(), &shared.ledger);
    match caches.follow() {
        Ok(true) => ledger.note("the cache policies were read again"),
        Ok(false) => {}
        Err(error) => ledger.note(&format!("the cache policies stay what they were: {error}")),
    }
    if let Err(error) = caches.upkeep() {
        ledger.note(&format!("caches could not be swept: {error}"));
    }
}

/// Removes of a collection what its policy says; writes wait.
async fn sweep(shared: &Arc<Shared>, entry: Arc<Entry>, policy: CollectionPolicy) {
    let writing = Arc::clone(&entry.writing).lock_owned().await;
    let now_s = shared.ledger.now().unix_s();
    let asked = Arc::clone(&entry);
    let swept = spawn_blocking(move || {
        let _writing = writing;
        litellm::sweep(&*asked.collection()?, &policy, now_s)
    });
    match swept.await {
        Ok(Ok(swept)) if swept != Swept::default() => entry.mark_changed(),
        Ok(Err(error)) => {
            shared
                .ledger
                .note(&format!("collection {:?} could not be swept: {error}", entry.name()));
        }
        // Nothing was to go; or a panic, which was said where it happened.
        _ => {}
    }
}

/// Seals a collection if that pays. Searches go on meanwhile; writes wait, without taking a worker from anybody.
async fn look(entry: Arc<Entry>) {
    let name = entry.name().to_owned();
    let asked = Arc::clone(&entry);
    let is_due = spawn_blocking(move || asked.collection()?.is_seal_due()).await;
    if !matches!(is_due, Ok(Ok(true))) {
        return;
    }
    let writing = Arc::clone(&entry.writing).lock_owned().await;
    let sealed = spawn_blocking(move || -> Result<bool> {
        let _writing = writing;
        entry.collection()?.seal()
    });
    match sealed.await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => eprintln!("collection {name:?} is not sealed: {error}"),
        Err(_) => eprintln!("collection {name:?} is not sealed: a fault of the server"),
    }
}
