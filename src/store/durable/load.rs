//! Many points at once: commits of at least ten thousand.

use std::sync::MutexGuard;

use redb::WriteTransaction;

use crate::core::limits;
use crate::error::Result;
use crate::store::durable::Durable;
use crate::store::durable::batch::{Batch, Pending};
use crate::store::durable::failure::Stored;
use crate::store::durable::op::{Applied, Op, Upsert};

/// A load in progress; other writers wait until it ends. What was not committed when it is dropped is not stored.
pub struct Loader<'s> {
    store: &'s Durable,
    _writing: MutexGuard<'s, ()>,
    open: Option<(WriteTransaction, Pending)>,
    n_waiting: usize,
    n_committed: u64,
    start: Option<u64>,
}

impl<'s> Loader<'s> {
    pub(super) fn new(store: &'s Durable, writing: MutexGuard<'s, ()>) -> Self {
        Self { store, _writing: writing, open: None, n_waiting: 0, n_committed: 0, start: None }
    }

    /// Adds points; a few hundred at a time is fastest.
    ///
    /// # Errors
    /// Those of [`Durable::apply`], after which only what [`Loader::n_committed`] counts is stored, and
    /// `id_duplicate` for an id that was in this load before.
    pub fn push(&mut self, points: &[Upsert<'_>]) -> Result<()> {
        let (transaction, mut pending) = match self.open.take() {
            Some(open) => open,
            None => {
                let start = self.start;
                let open = self.store.write(|database| {
                    let transaction = self.store.transaction(database)?;
                    let pending = Pending::new(&transaction, start)?;
                    Ok((transaction, pending))
                })?;
                let first = open.1.version;
                self.start.get_or_insert(first);
                open
            }
        };
        let transaction = self.store.write(|_| {
            let mut batch = Batch::new(&transaction, &mut pending)?;
            points.iter().try_for_each(|point| batch.apply(&Op::Upsert(*point)))?;
            drop(batch);
            Ok(transaction)
        })?;
        self.open = Some((transaction, pending));
        self.n_waiting += points.len();
        if self.n_waiting >= limits::LOAD_COMMIT_POINTS {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        let Some((transaction, mut pending)) = self.open.take() else { return Ok(()) };
        if pending.is_empty() {
            return Ok(());
        }
        self.store.write(|_| -> Stored<()> {
            Batch::new(&transaction, &mut pending)?.finish()?;
            Ok(transaction.commit()?)
        })?;
        self.n_committed += self.n_waiting as u64;
        self.n_waiting = 0;
        Ok(())
    }

    /// Points that are on disk.
    pub fn n_committed(&self) -> u64 {
        self.n_committed
    }

    /// Commits what is left, and returns the version with it.
    ///
    /// # Errors
    /// As for [`Loader::push`].
    pub fn finish(mut self) -> Result<Applied> {
        self.commit()?;
        Ok(Applied { version: self.store.view()?.version(), n_removed: 0 })
    }
}
