//! A card that fails at any call loses speed, not answers: the processor answers in the same call, and a note says so.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nearkin::backend::codes::{RabitqCodes, Survivor};
use nearkin::backend::cpu::Cpu;
use nearkin::backend::cpu::minhash::MinHasher;
use nearkin::backend::fallback::WithFallback;
use nearkin::backend::open::{Device, open};
use nearkin::backend::plain::Plain;
use nearkin::backend::resident::{Resident, ResidentCodes};
use nearkin::backend::{Backend, Facts, Pair, RabitqScan, Stream, Tile};
use nearkin::core::allow::Allow;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::neighbors::Neighbor;
use nearkin::core::rows::{Rows, Values};
use nearkin::{Error, ErrorKind};

/// How a faulty card misbehaves.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Lost,
    OutOfMemory,
    NotANumber,
    WrongSlot,
    TooFew,
    Repeats,
}

const FAULTS: [Fault; 6] = [
    Fault::Lost,
    Fault::OutOfMemory,
    Fault::NotANumber,
    Fault::WrongSlot,
    Fault::TooFew,
    Fault::Repeats,
];

/// The plain loops, but one call out of `period` goes wrong.
struct Faulty {
    plain: Plain,
    fault: Fault,
    period: u32,
    n_calls: AtomicU32,
}

impl Faulty {
    fn new(fault: Fault, period: u32, budget: u64) -> Self {
        Self { plain: Plain::new(budget), fault, period, n_calls: AtomicU32::new(0) }
    }

    fn is_due(&self) -> bool {
        self.n_calls.fetch_add(1, Ordering::Relaxed) % self.period == self.period - 1
    }

    fn error(&self) -> Option<Error> {
        let code = match self.fault {
            Fault::Lost => "device_lost",
            Fault::OutOfMemory => "device_oom",
            _ => return None,
        };
        Some(Error::new(ErrorKind::Device, code, "made to fail"))
    }

    /// Spoils an answer of neighbors or the like through `set`, which changes a number and a slot.
    fn spoil<T>(
        &self,
        answer: Result<Vec<T>, Error>,
        set: impl Fn(&mut T, Option<f32>, Option<u32>),
    ) -> Result<Vec<T>, Error>
    where
        T: Clone,
    {
        if !self.is_due() {
            return answer;
        }
        if let Some(error) = self.error() {
            return Err(error);
        }
        let mut all = answer?;
        match (self.fault, all.first_mut()) {
            (Fault::NotANumber, Some(first)) => set(first, Some(f32::NAN), None),
            (Fault::WrongSlot, Some(first)) => set(first, None, Some(u32::MAX)),
            (Fault::TooFew, Some(_)) => drop(all.pop()),
            (Fault::Repeats, Some(first)) => {
                let again = first.clone();
                all.push(again);
            }
            _ => {}
        }
        Ok(all)
    }
}

impl Backend for Faulty {
    fn facts(&self) -> &Facts {
        self.plain.facts()
    }

    fn upload(&self, rows: Arc<Rows>, metric: Metric) -> Result<Resident, Error> {
        self.plain.upload(rows, metric)
    }

    fn upload_codes(&self, codes: Arc<RabitqCodes>) -> Result<ResidentCodes, Error> {
        self.plain.upload_codes(codes)
    }

    fn distances(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        range: Range<u32>,
    ) -> Result<Vec<f32>, Error> {
        let answer = self.plain.distances(stream, queries, rows, range);
        self.spoil(answer, |x, number, _| *x = number.unwrap_or(f32::INFINITY))
    }

    fn flat_scan(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Vec<Vec<Neighbor>>, Error> {
        let answer = self.plain.flat_scan(stream, queries, rows, allow, k);
        self.spoil(answer, |list, number, slot| {
            list[0].distance = number.unwrap_or(list[0].distance);
            list[0].slot = slot.unwrap_or(list[0].slot);
        })
    }

    fn gather(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        slots: &[Vec<u32>],
    ) -> Result<Vec<Vec<f32>>, Error> {
        let answer = self.plain.gather(stream, queries, rows, slots);
        self.spoil(answer, |list, number, _| list[0] = number.unwrap_or(f32::INFINITY))
    }

    fn assign(
        &self,
        stream: Stream,
        rows: &Resident,
        range: Range<u32>,
        centroids: &Rows,
    ) -> Result<Vec<Neighbor>, Error> {
        let answer = self.plain.assign(stream, rows, range, centroids);
        self.spoil(answer, |one, number, slot| {
            one.distance = number.unwrap_or(one.distance);
            one.slot = slot.unwrap_or(one.slot);
        })
    }

    fn rabitq_scan(
        &self,
        stream: Stream,
        scans: &[RabitqScan<'_>],
        codes: &ResidentCodes,
        allow: Allow<'_>,
    ) -> Result<Vec<Vec<Survivor>>, Error> {
        self.plain.rabitq_scan(stream, scans, codes, allow)
    }

    fn pairs(
        &self,
        stream: Stream,
        a: &Resident,
        b: Option<&Resident>,
        tiles: &[Tile],
        within: f32,
    ) -> Result<Vec<Pair>, Error> {
        // A pair too few cannot be seen from outside: such a card would have to be caught by a sample.
        if matches!(self.fault, Fault::TooFew) {
            return self.plain.pairs(stream, a, b, tiles, within);
        }
        let answer = self.plain.pairs(stream, a, b, tiles, within);
        self.spoil(answer, |pair, number, slot| {
            pair.distance = number.unwrap_or(pair.distance);
            pair.b = slot.unwrap_or(pair.b);
        })
    }

    fn minhash(
        &self,
        stream: Stream,
        hasher: &MinHasher,
        shingles: &[u32],
        ends: &[u32],
    ) -> Result<Vec<u32>, Error> {
        // Any u32 may be a minimum.
        if matches!(self.fault, Fault::NotANumber | Fault::WrongSlot) {
            return self.plain.minhash(stream, hasher, shingles, ends);
        }
        self.spoil(self.plain.minhash(stream, hasher, shingles, ends), |_, _, _| {})
    }
}

fn cpu() -> Cpu {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    Cpu::new(Arc::new(pool), 1 << 30)
}

/// Whole numbers, so that every backend gives the same bits.
fn rows(n_rows: usize, seed: u64) -> Rows {
    let values = (0..n_rows as u64 * 6).map(|i| (stream(seed, i) % 19) as i8 - 9).collect();
    Rows::new(Values::I8(values), 6).unwrap()
}

/// Everything that a backend answers about the same rows.
#[derive(Debug, PartialEq)]
struct Answers {
    distances: Vec<f32>,
    scans: Vec<Vec<Neighbor>>,
    some: Vec<Vec<Neighbor>>,
    gathered: Vec<Vec<f32>>,
    nearest: Vec<Neighbor>,
    pairs: Vec<Pair>,
    across: Vec<Pair>,
    signatures: Vec<u32>,
}

fn ask(backend: &dyn Backend) -> Answers {
    let s = Stream(0);
    let (base, other) = (Arc::new(rows(90, 1)), Arc::new(rows(40, 2)));
    let queries = rows(3, 3);
    let a = backend.upload(base, Metric::L2).unwrap();
    let b = backend.upload(other, Metric::L2).unwrap();
    let tile = [Tile { a: 0..60, b: 30..90 }, Tile { a: 10..20, b: 0..90 }];
    let across = [Tile { a: 0..90, b: 0..40 }];
    let slots = [vec![3, 89], vec![5], vec![0, 1, 2]];
    Answers {
        distances: backend.distances(s, &queries, &a, 7..55).unwrap(),
        scans: backend.flat_scan(s, &queries, &a, Allow::All, 7).unwrap(),
        some: backend.flat_scan(s, &queries, &a, Allow::Ranges(&[2..9, 50..77]), 9).unwrap(),
        gathered: backend.gather(s, &queries, &a, &slots).unwrap(),
        nearest: backend.assign(s, &a, 4..80, &rows(5, 4)).unwrap(),
        pairs: backend.pairs(s, &a, None, &tile, 90.0).unwrap(),
        across: backend.pairs(s, &a, Some(&b), &across, 60.0).unwrap(),
        signatures: backend.minhash(s, &MinHasher::new(8, 1), &[1, 2, 3], &[2, 3]).unwrap(),
    }
}

#[test]
fn a_card_that_fails_at_any_call_costs_no_answer() {
    let right = ask(&Plain::new(1 << 30));
    assert!(!right.pairs.is_empty() && !right.across.is_empty());
    for fault in FAULTS {
        for period in 1..=8 {
            let backend =
                WithFallback::new(Box::new(Faulty::new(fault, period, 1 << 30)), cpu(), None);
            for _ in 0..3 {
                assert_eq!(ask(&backend), right, "{fault:?}, one call of {period}");
            }
            let notes = backend.take_notes();
            assert!(!notes.is_empty(), "{fault:?}, one call of {period}: nothing was said");
            assert!(notes.iter().all(|note| note.what.contains("processor")), "{notes:?}");
            assert!(backend.take_notes().is_empty());
        }
    }
}

#[test]
fn a_card_that_failed_rests_and_is_tried_again() {
    let backend = WithFallback::new(Box::new(Faulty::new(Fault::Lost, 5, 1 << 30)), cpu(), None);
    let placed = backend.upload(Arc::new(rows(20, 1)), Metric::Dot).unwrap();
    let mut sent_again = false;
    for call in 0..40 {
        backend.flat_scan(Stream(0), &rows(1, 2), &placed, Allow::All, 3).unwrap();
        sent_again |= call > 5 && backend.is_healthy();
    }
    assert!(sent_again);
    let notes = backend.take_notes();
    let failures = notes.iter().filter(|note| note.what.contains("device_lost")).count();
    assert!(failures >= 2 && failures < notes.len(), "{notes:?}");
}

#[test]
fn rows_that_do_not_fit_the_card_pass_in_parts() {
    let right = ask(&Plain::new(1 << 30));
    // 90 rows of 6 bytes: the card holds fewer than all.
    for budget in [60, 200, 400] {
        let backend = WithFallback::new(Box::new(Plain::new(budget)), cpu(), None);
        assert_eq!(ask(&backend), right, "card of {budget} bytes");
        let notes = backend.take_notes();
        assert!(notes.iter().any(|note| note.what.contains("parts")), "{notes:?}");
    }
}

#[test]
fn bad_input_is_the_callers_not_the_cards() {
    let backend = WithFallback::new(Box::new(Faulty::new(Fault::Lost, 1, 1 << 30)), cpu(), None);
    let placed = backend.upload(Arc::new(rows(20, 1)), Metric::Dot).unwrap();
    let error = backend.flat_scan(Stream(0), &rows(1, 2), &placed, Allow::All, 0).unwrap_err();
    assert_eq!(error.code(), "k_range");
    assert!(backend.take_notes().is_empty());
}

#[test]
fn auto_always_opens_and_says_why() {
    let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    let opened = open(Device::Auto, &pool, 1 << 30, None).unwrap();
    assert!(!opened.why.is_empty());
    assert!(opened.tried.len() <= 2);
    let opened = open(Device::Cpu, &pool, 1 << 30, None).unwrap();
    assert!(opened.tried.is_empty() && opened.why.starts_with("cpu: "));
}
