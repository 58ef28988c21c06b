//! Where the time of a request goes, stage by stage.

use std::cell::Cell;
use std::time::Instant;

/// A stage of a request that a worker works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From its headers to the end of its body.
    Body,
    /// Waiting for a lock, for a worker, and for others that came first between its parts.
    Queue,
    /// From bytes to what is asked.
    Parse,
    /// Evaluating filters.
    Plan,
    /// Everything else that finds points; of trees of queries their filters as well.
    Search,
    /// Reading the points that were found, and making the answer.
    Write,
    /// All but reading the body, for what searches nothing.
    Work,
}

impl Stage {
    /// All of them.
    pub const EVERY: [Self; 7] =
        [Self::Body, Self::Queue, Self::Parse, Self::Plan, Self::Search, Self::Write, Self::Work];

    /// The name, as shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Queue => "queue",
            Self::Parse => "parse",
            Self::Plan => "plan",
            Self::Search => "search",
            Self::Write => "write",
            Self::Work => "work",
        }
    }
}

/// What a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taken {
    seconds: [f64; Stage::EVERY.len()],
    /// From its headers to the start of its first search, filter included.
    pub first_search_s: Option<f64>,
}

impl Taken {
    /// Adds to a stage.
    pub fn add(&mut self, stage: Stage, seconds: f64) {
        self.seconds[stage as usize] += seconds;
    }

    /// Stages that there were, with their seconds.
    pub fn stages(&self) -> impl Iterator<Item = (Stage, f64)> {
        let all = Stage::EVERY.into_iter().zip(self.seconds);
        all.filter(|(_, seconds)| *seconds > 0.0)
    }
}

/// Times a request in the worker that works on it.
#[derive(Debug)]
pub struct Stopwatch {
    /// When the request came.
    came: Instant,
    /// When the worker began.
    began: Instant,
    /// What it took until then.
    before: Taken,
    taken: Cell<Taken>,
}

impl Stopwatch {
    /// Of a request that came then and begins now, after what it took until now.
    pub fn new(came: Instant, before: Taken) -> Self {
        Self { came, began: Instant::now(), before, taken: Cell::default() }
    }

    /// What `work` returns; its time belongs to this stage.
    pub fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.add(stage, began.elapsed().as_secs_f64());
        done
    }

    /// Notes a search that began then and has ended, of which evaluating its filter took so many seconds.
    pub fn searched(&self, began: Instant, planning_s: f64) {
        self.add(Stage::Plan, planning_s);
        self.add(Stage::Search, (began.elapsed().as_secs_f64() - planning_s).max(0.0));
        let mut taken = self.taken.get();
        let until_s = began.duration_since(self.came).as_secs_f64() + planning_s;
        taken.first_search_s = taken.first_search_s.or(Some(until_s));
        self.taken.set(taken);
    }

    /// What the request took, now that its answer is made.
    pub fn taken(&self) -> Taken {
        let mut taken = self.taken.get();
        let rest_s = self.began.elapsed().as_secs_f64() - taken.seconds.iter().sum::<f64>();
        let stage = if taken.first_search_s.is_some() { Stage::Write } else { Stage::Work };
        taken.add(stage, rest_s.max(0.0));
        self.before.stages().for_each(|(stage, seconds)| taken.add(stage, seconds));
        taken
    }

    /// Adds to a stage what was timed elsewhere.
    pub fn add(&self, stage: Stage, seconds: f64) {
        let mut taken = self.taken.get();
        taken.add(stage, seconds);
        self.taken.set(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_to_the_whole_and_none_is_counted_twice() {
        let came = Instant::now();
        let mut before = Taken::default();
        before.add(Stage::Queue, 5.0);
        let watch = Stopwatch::new(came, before);
        watch.time(Stage::Parse, || std::hint::black_box((0..10_000).sum::<u64>()));
        let began = Instant::now();
        std::hint::black_box((0..100_000).map(|x| x ^ 5).sum::<u64>());
        watch.searched(began, 1e-9);
        let taken = watch.taken();
        let whole_s = watch.began.elapsed().as_secs_f64();
        let of = |stage| taken.stages().find(|(own, _)| *own == stage).map(|(_, seconds)| seconds);
        assert_eq!(of(Stage::Queue), Some(5.0));
        assert_eq!((of(Stage::Plan), of(Stage::Work), of(Stage::Body)), (Some(1e-9), None, None));
        let inside: f64 =
            taken.stages().map(|(_, seconds)| seconds).sum::<f64>() - of(Stage::Queue).unwrap();
        assert!(inside <= whole_s, "{inside} of {whole_s}");
        assert!(taken.first_search_s.is_some_and(|s| s <= came.elapsed().as_secs_f64()));
        let nothing = Stopwatch::new(came, Taken::default()).taken();
        assert!(nothing.stages().all(|(stage, _)| stage == Stage::Work));
        assert_eq!(nothing.first_search_s, None);
    }
}
