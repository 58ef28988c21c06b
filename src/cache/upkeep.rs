//! What is done beside lookups: ends of lives, counters and the time to the record, closing.

use std::sync::{Arc, PoisonError};

use crate::cache::entry::Hot;
use crate::cache::head::Counters;
use crate::cache::open::SemanticCache;
use crate::cache::record::Changes;
use crate::cache::verified::Estimate;
use crate::core::limits::BATCH_POINTS;
use crate::error::Result;

/// How often the time is noted in the record.
const NOTED_EVERY_MS: u64 = 10_000;

impl SemanticCache {
    /// Removes what reached the end of its life, from memory and from the record; returns how many that were. To be called about every
    /// second. What ended between two calls could come back only if the process were killed and the clock then set back.
    ///
    /// # Errors
    /// Those of the disk; what ended is not answered, and goes from the record the next time.
    pub fn upkeep(&self) -> Result<u64> {
        let (policies, now_ms) = (self.policies(), self.time.now_ms());
        let end = |hot: &Hot| hot.expires_ms(policies.of(hot.key.category()), 1.0);
        let ended = self.shards.sweep_all(now_ms, &end);
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).extend(ended);
        let mut books = self.books();
        let before = books.removed.len();
        self.count_ended(&mut books);
        let n_ended = books.removed.len() - before;
        self.commit_removed(&mut books)?;
        books.owners.retain(|owner| Arc::strong_count(owner) > 1);
        if now_ms - books.noted_ms.min(now_ms) >= NOTED_EVERY_MS {
            self.record.note(now_ms)?;
            books.noted_ms = now_ms;
        }
        Ok(n_ended as u64)
    }

    /// Writes counters of hits and what was observed of entries to the record, and the time: a restart then knows which entries are
    /// worth most. Without it these are lost, and nothing else.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn flush(&self) -> Result<()> {
        self.upkeep()?;
        let mut books = self.books();
        // What ends meanwhile is still in the record: it goes from there under this lock.
        let changed: Vec<Arc<Hot>> =
            self.shards.all().into_iter().filter(|hot| hot.take_changed()).collect();
        for some in changed.chunks(BATCH_POINTS) {
            let counted = some.iter().map(|hot| (hot.id(), counters(hot))).collect();
            let changes = Changes { counted, ..Changes::default() };
            if let Err(error) = self.record.commit(&changes) {
                some.iter().for_each(|hot| hot.set_changed());
                return Err(error);
            }
        }
        let now_ms = self.time.now_ms();
        self.record.note(now_ms)?;
        books.noted_ms = now_ms;
        Ok(())
    }

    /// Writes what [`Self::flush`] does, and closes.
    ///
    /// # Errors
    /// Those of the disk; it is closed all the same.
    pub fn close(self) -> Result<()> {
        self.flush()
    }
}

fn counters(hot: &Hot) -> Counters {
    let heat = Some(hot.heat()).filter(|heat| heat.is_finite());
    let observed = hot.estimate(Estimate::to_bytes).unwrap_or_default();
    Counters { n_hits: hot.n_hits(), heat, observed }
}
