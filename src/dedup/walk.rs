//! All records of a job, block by block, on all threads: the loop under every stage that reads input.
//!
//! Files are cut into lanes; blocks of a lane are read in order under its lock, worked on in parallel, and
//! handed to its sink in order. What a sink sees does not depend on the number of threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::core::limits::PARSER_STACK_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::record::input::InputFile;
use crate::record::reader::{Block, PartRange, PartReader};
use crate::record::{FieldNames, Problem};

/// One part of one file.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// Its number in the job.
    pub number: usize,
    /// The file.
    pub file: &'a InputFile,
    /// Its number in the job.
    pub file_number: usize,
    /// The range of it.
    pub range: PartRange,
}

/// What a worker gets.
pub enum Work {
    /// A block of a part.
    Block(Block),
    /// Damage that ends the part.
    Damage(Problem),
}

/// Takes the results of one lane, in order.
pub trait Sink<Out>: Send {
    /// The next result, of the part with this index in the lane.
    ///
    /// # Errors
    /// A failure of the disk; the walk ends.
    fn take(&mut self, part: usize, out: Out) -> Result<()>;

    /// All parts were taken.
    ///
    /// # Errors
    /// A failure of the disk; the walk ends.
    fn finish(&mut self) -> Result<()>;
}

/// Blocks of a lane that may wait for their turn, for each thread.
const AHEAD_PER_THREAD: usize = 4;

struct Lane<'a, Out> {
    parts: &'a [Part<'a>],
    input: Mutex<LaneInput>,
    output: Mutex<LaneOutput<'a, Out>>,
    n_taken: AtomicUsize,
}

#[derive(Default)]
struct LaneInput {
    part: usize,
    reader: Option<PartReader>,
    n_read: usize,
    done: bool,
}

struct LaneOutput<'a, Out> {
    sink: Box<dyn Sink<Out> + 'a>,
    waiting: BTreeMap<usize, (usize, Out)>,
    /// Number of blocks in the lane, once known.
    n_blocks: Option<usize>,
}

/// Runs `work` over all lanes on `threads` threads. `open` makes the sink of a lane when its turn comes;
/// `state` makes what a thread keeps between blocks.
///
/// # Errors
/// The first error of a sink or of `work`; `interrupted` once `stop` is set.
pub fn walk<'a, State, Out: Send>(
    lanes: &'a [Vec<Part<'a>>],
    names: &FieldNames,
    threads: usize,
    stop: &AtomicBool,
    open: &(dyn Fn(usize) -> Result<Box<dyn Sink<Out> + 'a>> + Sync),
    state: &(dyn Fn() -> State + Sync),
    work: &(dyn Fn(&mut State, &Part<'a>, usize, Work) -> Result<Out> + Sync),
) -> Result<()> {
    let walk = Walk {
        lanes,
        names,
        stop,
        open,
        limit: AHEAD_PER_THREAD * threads,
        active: Mutex::new((0, Vec::new())),
        changed: Condvar::new(),
        failure: Mutex::new(None),
        failed: AtomicBool::new(false),
    };
    if threads == 1 {
        walk.run(&mut state(), work);
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let worker = std::thread::Builder::new().stack_size(PARSER_STACK_BYTES);
                let spawned = worker.spawn_scoped(scope, || walk.run(&mut state(), work));
                if let Err(error) = spawned {
                    let message = format!("a thread of {threads} could not be started: {error}");
                    walk.fail(Error::new(ErrorKind::Limit, "threads", message));
                }
            }
        });
    }
    lock(&walk.failure).take().map_or(Ok(()), Err)
}

struct Walk<'w, 'a, Out> {
    lanes: &'a [Vec<Part<'a>>],
    names: &'w FieldNames,
    stop: &'w AtomicBool,
    open: &'w (dyn Fn(usize) -> Result<Box<dyn Sink<Out> + 'a>> + Sync),
    limit: usize,
    /// The next lane to open, and the open ones.
    active: Mutex<(usize, Vec<std::sync::Arc<Lane<'a, Out>>>)>,
    changed: Condvar,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
}

/// A panic elsewhere does not make our data wrong: every update under these locks is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Taken<'a, Out> = (std::sync::Arc<Lane<'a, Out>>, usize, usize, Work);

impl<'a, Out: Send> Walk<'_, 'a, Out> {
    fn run<State>(
        &self,
        state: &mut State,
        work: &(dyn Fn(&mut State, &Part<'a>, usize, Work) -> Result<Out> + Sync),
    ) {
        let step = |state: &mut State| -> Result<bool> {
            let Some((lane, part, number, input)) = self.next()? else { return Ok(false) };
            let out = work(state, &lane.parts[part], number, input)?;
            self.give(&lane, part, number, out)?;
            Ok(true)
        };
        loop {
            if self.failed.load(Ordering::Relaxed) {
                return;
            }
            match step(state) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Ends the walk; the first failure is the one that is told.
    fn fail(&self, error: Error) {
        self.failed.store(true, Ordering::Relaxed);
        lock(&self.failure).get_or_insert(error);
        self.changed.notify_all();
    }

    /// The next block of any lane that is free; waits if all are busy; `None` when nothing is left.
    fn next(&self) -> Result<Option<Taken<'a, Out>>> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                let message = "stopped before the end; go on with --resume";
                return Err(Error::new(ErrorKind::Interrupted, "interrupted", message));
            }
            if self.failed.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let open = lock(&self.active).1.clone();
            for lane in &open {
                if let Ok(input) = lane.input.try_lock()
                    && let Some(taken) = self.take(lane, input)?
                {
                    return Ok(Some(taken));
                }
            }
            if self.open_next()? {
                continue;
            }
            // Reading is short beside the work on a block: waiting for it beats waiting for a result.
            for lane in &open {
                if let Some(taken) = self.take(lane, lock(&lane.input))? {
                    return Ok(Some(taken));
                }
            }
            let active = lock(&self.active);
            if active.1.is_empty() && active.0 == self.lanes.len() {
                return Ok(None);
            }
            // Woken when a block was given; the time-out only guards against a missed wake-up.
            let pause = std::time::Duration::from_millis(1);
            drop(self.changed.wait_timeout(active, pause));
        }
    }

    fn open_next(&self) -> Result<bool> {
        let mut active = lock(&self.active);
        let number = active.0;
        if number == self.lanes.len() || active.1.len() * AHEAD_PER_THREAD > self.limit {
            return Ok(false);
        }
        active.0 += 1;
        let sink = (self.open)(number)?;
        let output = LaneOutput { sink, waiting: BTreeMap::new(), n_blocks: None };
        active.1.push(std::sync::Arc::new(Lane {
            parts: &self.lanes[number],
            input: Mutex::default(),
            output: Mutex::new(output),
            n_taken: AtomicUsize::new(0),
        }));
        Ok(true)
    }

    /// The next block of a lane; `None` if it has none now.
    fn take(
        &self,
        lane: &std::sync::Arc<Lane<'a, Out>>,
        mut input: MutexGuard<'_, LaneInput>,
    ) -> Result<Option<Taken<'a, Out>>> {
        if input.done || input.n_read >= lane.n_taken.load(Ordering::Acquire) + self.limit {
            return Ok(None);
        }
        while let Some(part) = lane.parts.get(input.part) {
            let block = match &mut input.reader {
                Some(reader) => reader.next_block(),
                None => match PartReader::open(part.file, &part.range, self.names) {
                    Ok(reader) => {
                        input.reader = Some(reader);
                        continue;
                    }
                    Err(problem) => Err(problem),
                },
            };
            let index = input.part;
            let work = match block {
                Ok(Some(block)) => Work::Block(block),
                Ok(None) => {
                    input.part += 1;
                    input.reader = None;
                    continue;
                }
                Err(problem) => {
                    input.part += 1;
                    input.reader = None;
                    Work::Damage(problem)
                }
            };
            let number = input.n_read;
            input.n_read += 1;
            return Ok(Some((std::sync::Arc::clone(lane), index, number, work)));
        }
        input.done = true;
        let n_blocks = input.n_read;
        drop(input);
        let mut output = lock(&lane.output);
        output.n_blocks = Some(n_blocks);
        self.flush(lane, &mut output)?;
        Ok(None)
    }

    fn give(
        &self,
        lane: &std::sync::Arc<Lane<'a, Out>>,
        part: usize,
        number: usize,
        out: Out,
    ) -> Result<()> {
        let mut output = lock(&lane.output);
        output.waiting.insert(number, (part, out));
        self.flush(lane, &mut output)?;
        drop(output);
        self.changed.notify_all();
        Ok(())
    }

    fn flush(
        &self,
        lane: &std::sync::Arc<Lane<'a, Out>>,
        output: &mut LaneOutput<'a, Out>,
    ) -> Result<()> {
        let mut next = lane.n_taken.load(Ordering::Acquire);
        while let Some((part, out)) = output.waiting.remove(&next) {
            output.sink.take(part, out)?;
            next += 1;
            lane.n_taken.store(next, Ordering::Release);
        }
        if output.n_blocks == Some(next) {
            output.n_blocks = None;
            output.sink.finish()?;
            lock(&self.active).1.retain(|open| !std::sync::Arc::ptr_eq(open, lane));
            self.changed.notify_all();
        }
        Ok(())
    }
}
