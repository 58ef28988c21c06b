//! What is done while nobody waits: points that came become part of the index, so that searches stay fast.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::error::Result;
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

/// Follows the file of cache policies and lets go of answers that have had their time, for ever.
pub async fn keep_caches(shared: Arc<Shared>) {
    loop {
        sleep(EVERY).await;
        let own = Arc::clone(&shared);
        let kept = spawn_blocking(move || {
            match own.front.caches().follow() {
                Ok(true) => own.ledger.note("the cache policies were read again"),
                Ok(false) => {}
                Err(error) => {
                    own.ledger.note(&format!("the cache policies stay what they were: {error}"))
                }
            }
            if let Err(error) = own.front.caches().upkeep() {
                own.ledger.note(&format!("caches could not be swept: {error}"));
            }
        });
        // A panic there was said where it happened.
        let _ = kept.await;
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
