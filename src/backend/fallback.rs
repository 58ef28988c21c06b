//! A card with the processor behind it: what the card cannot do, or gets wrong, the processor does in the same call,
//! and a note says so.
//!
//! Rows that do not fit the card are cut into parts that pass through it one after another. A card that fails is left
//! alone for a while, then tried again.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::backend::codes::{RabitqCodes, Survivor};
use crate::backend::cpu::Cpu;
use crate::backend::cpu::layout::Layout;
use crate::backend::cpu::minhash::MinHasher;
use crate::backend::cpu::placed::Placed;
use crate::backend::crossover::Crossover;
use crate::backend::resident::{Resident, ResidentCodes};
use crate::backend::{Backend, Facts, Note, Pair, Queueing, RabitqScan, Stream, Tile, check};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::neighbors::{Neighbor, merge};
use crate::core::rows::Rows;
use crate::error::{Error, ErrorKind, Result};

/// A card and the processor.
pub struct WithFallback {
    card: Box<dyn Backend>,
    cpu: Cpu,
    /// Calls for which the processor is faster go to it; `None` sends all to the card.
    crossover: Option<Crossover>,
    /// Notes, and how many more there were.
    notes: Mutex<(Vec<Note>, u64)>,
    /// Failures in a row.
    failures: AtomicU32,
    /// Calls that still go to the processor.
    resting: AtomicU32,
}

/// Notes kept until they are asked for; what comes after is counted.
const NOTES: usize = 1000;

/// After `n` failures in a row, so many calls (a power of two) are not sent to the card.
const LONGEST_REST: u32 = 10;

/// What is resident: on the card, on the processor once that was needed, or neither when it passes in parts.
struct Both {
    card: Option<Resident>,
    cpu: OnceLock<Resident>,
}

struct BothCodes {
    card: Option<ResidentCodes>,
    cpu: OnceLock<ResidentCodes>,
}

impl WithFallback {
    /// Puts the processor behind a card, for failures and, given a crossover, for small calls.
    pub fn new(card: Box<dyn Backend>, cpu: Cpu, crossover: Option<Crossover>) -> Self {
        Self {
            card,
            cpu,
            crossover,
            notes: Mutex::default(),
            failures: AtomicU32::new(0),
            resting: AtomicU32::new(0),
        }
    }

    /// Whether calls go to the card now.
    pub fn is_healthy(&self) -> bool {
        self.resting.load(Ordering::Relaxed) == 0
    }

    fn note(&self, operation: &'static str, what: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.0.len() < NOTES {
            notes.0.push(Note { operation, what });
        } else {
            notes.1 += 1;
        }
    }

    /// Asks the card, and the processor if it is faster for so many multiplications, or if the card is at rest, fails,
    /// or answers what cannot be.
    fn ask<T>(
        &self,
        operation: &'static str,
        n_products: u64,
        card: impl FnOnce() -> Result<T>,
        is_possible: impl FnOnce(&T) -> bool,
        cpu: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if self.crossover.is_some_and(|crossover| !crossover.card_pays(n_products)) {
            return cpu();
        }
        let rest = |left: u32| left.checked_sub(1);
        if self.resting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok() {
            self.note(operation, "the card rests after failures; answered by the processor".into());
            return cpu();
        }
        let error = match card() {
            Ok(answer) if is_possible(&answer) => {
                self.failures.store(0, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(_) => {
                let name = &self.card.facts().name;
                let message = format!("{name}: {operation} returned what cannot be");
                Error::new(ErrorKind::Device, "gpu_result_invalid", message)
            }
            // Bad input is bad on the processor too.
            Err(error) if error.kind() != ErrorKind::Device => return Err(error),
            Err(error) => error,
        };
        if !matches!(error.code(), "device_oom" | "unsupported") {
            let n = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
            self.resting.store(1 << n.min(LONGEST_REST), Ordering::Relaxed);
        }
        self.note(operation, format!("{error}; answered by the processor"));
        cpu()
    }

    fn both<'r>(&self, rows: &'r Resident) -> &'r Both {
        rows.device().expect("rows are used with the backend that placed them")
    }

    fn on_cpu<'r>(&self, rows: &'r Resident) -> Result<&'r Resident> {
        let both = self.both(rows);
        if let Some(placed) = both.cpu.get() {
            return Ok(placed);
        }
        let placed = self.cpu.upload(Arc::clone(rows.host()), rows.metric())?;
        Ok(both.cpu.get_or_init(|| placed))
    }

    fn both_codes<'r>(&self, codes: &'r ResidentCodes) -> &'r BothCodes {
        codes.device().expect("codes are used with the backend that placed them")
    }

    fn codes_on_cpu<'r>(&self, codes: &'r ResidentCodes) -> Result<&'r ResidentCodes> {
        let both = self.both_codes(codes);
        if let Some(placed) = both.cpu.get() {
            return Ok(placed);
        }
        let placed = self.cpu.upload_codes(Arc::clone(codes.host()))?;
        Ok(both.cpu.get_or_init(|| placed))
    }

    /// Rows per part so that two parts fit the card.
    fn part_rows(&self, rows: &Rows) -> u32 {
        let row_bytes = (rows.dim() * rows.dtype().bytes()) as u64 + 8;
        (self.card.facts().budget_bytes / 2 / row_bytes).clamp(1, u64::from(u32::MAX)) as u32
    }

    fn parts(&self, operation: &'static str, rows: &Resident) -> Vec<Range<u32>> {
        let (n, step) = (rows.host().n_rows() as u32, self.part_rows(rows.host()));
        let parts: Vec<Range<u32>> =
            (0..n).step_by(step as usize).map(|at| at..at.saturating_add(step).min(n)).collect();
        let what = format!("{} bytes in {} parts", rows.host().n_bytes(), parts.len());
        self.note(operation, what);
        parts
    }

    fn place_part(&self, rows: &Resident, part: &Range<u32>) -> Result<Resident> {
        let part = rows.host().slice(part.start as usize..part.end as usize);
        self.card.upload(Arc::new(part), rows.metric())
    }

    fn scan_in_parts(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Vec<Vec<Neighbor>>> {
        let mut best: Vec<Vec<Neighbor>> = vec![Vec::new(); queries.n_rows()];
        for part in self.parts("flat_scan", rows) {
            let placed = self.place_part(rows, &part)?;
            let bits = allow.part(part.clone());
            let found = self.card.flat_scan(stream, queries, &placed, Allow::Bits(&bits), k)?;
            for (best, mut found) in best.iter_mut().zip(found) {
                found.iter_mut().for_each(|neighbor| neighbor.slot += part.start);
                *best = merge(&[std::mem::take(best), found], k);
            }
        }
        Ok(best)
    }

    fn assign_in_parts(
        &self,
        stream: Stream,
        rows: &Resident,
        range: Range<u32>,
        centroids: &Rows,
    ) -> Result<Vec<Neighbor>> {
        let mut out = Vec::with_capacity(range.len());
        for part in self.parts("assign", rows) {
            let (from, to) = (part.start.max(range.start), part.end.min(range.end));
            if from < to {
                let placed = self.place_part(rows, &(from..to))?;
                out.extend(self.card.assign(stream, &placed, 0..to - from, centroids)?);
            }
        }
        Ok(out)
    }

    /// Tiles are cut so that both their sides fit.
    fn pairs_in_parts(
        &self,
        stream: Stream,
        a: &Resident,
        b: Option<&Resident>,
        tiles: &[Tile],
        within: f32,
    ) -> Result<Vec<Pair>> {
        let other = b.unwrap_or(a);
        let step = (self.part_rows(a.host()) / 2).max(1) as usize;
        let cut = |range: &Range<u32>| -> Vec<Range<u32>> {
            let end = range.end;
            range
                .clone()
                .step_by(step)
                .map(|at| at..at.saturating_add(step as u32).min(end))
                .collect()
        };
        self.note("pairs", format!("tiles of at most {step} rows, one after another"));
        let mut out = Vec::new();
        for tile in tiles {
            for left in cut(&tile.a) {
                let placed = self.place_part(a, &left)?;
                for right in cut(&tile.b) {
                    let other = self.place_part(other, &right)?;
                    let all = [Tile { a: 0..left.end - left.start, b: 0..right.end - right.start }];
                    let found = self.card.pairs(stream, &placed, Some(&other), &all, within)?;
                    out.extend(found.into_iter().filter_map(|pair| {
                        let (i, j) = (pair.a + left.start, pair.b + right.start);
                        let key = if b.is_none() { (i.min(j), i.max(j)) } else { (i, j) };
                        (b.is_some() || i != j).then_some(Pair {
                            a: key.0,
                            b: key.1,
                            distance: pair.distance,
                        })
                    }));
                }
            }
        }
        out.sort_unstable_by_key(|pair| (pair.a, pair.b));
        out.dedup_by_key(|pair| (pair.a, pair.b));
        Ok(out)
    }
}

/// Multiplications of `n` distances.
fn products(n: usize, rows: &Resident) -> u64 {
    n as u64 * rows.host().dim() as u64
}

impl Backend for WithFallback {
    fn facts(&self) -> &Facts {
        self.card.facts()
    }

    fn queueing(&self, calls: &mut dyn FnMut() -> Result<()>) -> Result<Option<Queueing>> {
        self.card.queueing(calls)
    }

    fn take_notes(&self) -> Vec<Note> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut out, n_more) = std::mem::take(&mut *notes);
        if n_more > 0 {
            out.push(Note { operation: "all", what: format!("{n_more} more notes were not kept") });
        }
        out
    }

    fn upload(&self, rows: Arc<Rows>, metric: Metric) -> Result<Resident> {
        rows.check(metric)?;
        let card = match self.card.upload(Arc::clone(&rows), metric) {
            Ok(placed) => Some(placed),
            Err(error) if error.kind() != ErrorKind::Device => return Err(error),
            Err(error) => {
                self.note("upload", format!("{error}; the rows stay with the processor"));
                None
            }
        };
        let n_bytes = card.as_ref().map_or(rows.n_bytes(), Resident::n_bytes);
        let reserved = crate::backend::budget::Budget::new(n_bytes).reserve(n_bytes)?;
        let both = Both { card, cpu: OnceLock::new() };
        Ok(Resident::new(rows, metric, Box::new(both), reserved))
    }

    fn upload_codes(&self, codes: Arc<RabitqCodes>) -> Result<ResidentCodes> {
        codes.check()?;
        let card = match self.card.upload_codes(Arc::clone(&codes)) {
            Ok(placed) => Some(placed),
            Err(error) if error.kind() != ErrorKind::Device => return Err(error),
            Err(error) => {
                self.note("upload_codes", format!("{error}; the codes stay with the processor"));
                None
            }
        };
        let n_bytes = card.as_ref().map_or(codes.n_bytes(), ResidentCodes::n_bytes);
        let reserved = crate::backend::budget::Budget::new(n_bytes).reserve(n_bytes)?;
        let both = BothCodes { card, cpu: OnceLock::new() };
        Ok(ResidentCodes::new(codes, Box::new(both), reserved))
    }

    fn upload_placed(&self, rows: Arc<Rows>, metric: Metric, placed: Placed) -> Result<Resident> {
        let kept = self.cpu.upload_placed(Arc::clone(&rows), metric, placed)?;
        let resident = self.upload(rows, metric)?;
        self.both(&resident).cpu.get_or_init(|| kept);
        Ok(resident)
    }

    fn upload_laid_out(&self, codes: Arc<RabitqCodes>, layout: Layout) -> Result<ResidentCodes> {
        let kept = self.cpu.upload_laid_out(Arc::clone(&codes), layout)?;
        let resident = self.upload_codes(codes)?;
        self.both_codes(&resident).cpu.get_or_init(|| kept);
        Ok(resident)
    }

    fn distances(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        range: Range<u32>,
    ) -> Result<Vec<f32>> {
        check::queries(queries, rows)?;
        check::range(&range, rows.host().n_rows())?;
        let card = || match &self.both(rows).card {
            Some(placed) => self.card.distances(stream, queries, placed, range.clone()),
            None => {
                let part = self.place_part(rows, &range)?;
                self.card.distances(stream, queries, &part, 0..range.end - range.start)
            }
        };
        let n = queries.n_rows() * range.len();
        let possible = |all: &Vec<f32>| all.len() == n && all.iter().all(|x| x.is_finite());
        let cpu = || self.cpu.distances(stream, queries, self.on_cpu(rows)?, range.clone());
        self.ask("distances", products(n, rows), card, possible, cpu)
    }

    fn flat_scan(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Vec<Vec<Neighbor>>> {
        check::queries(queries, rows)?;
        check::allow(allow, rows.host().n_rows())?;
        check::k(k)?;
        let n_rows = rows.host().n_rows() as u32;
        let expected = allow.count(n_rows).min(k as u64) as usize;
        let possible = |all: &Vec<Vec<Neighbor>>| {
            let is_possible = |list: &Vec<Neighbor>| {
                let apart = list.windows(2).all(|two| two[0] < two[1]);
                let right = |n: &Neighbor| {
                    n.slot < n_rows && allow.contains(n.slot) && n.distance.is_finite()
                };
                list.len() == expected && apart && list.iter().all(right)
            };
            all.len() == queries.n_rows() && all.iter().all(is_possible)
        };
        let card = || match &self.both(rows).card {
            Some(placed) => self.card.flat_scan(stream, queries, placed, allow, k),
            None => self.scan_in_parts(stream, queries, rows, allow, k),
        };
        let cpu = || self.cpu.flat_scan(stream, queries, self.on_cpu(rows)?, allow, k);
        let n = queries.n_rows() * allow.count(n_rows) as usize;
        self.ask("flat_scan", products(n, rows), card, possible, cpu)
    }

    fn gather(
        &self,
        stream: Stream,
        queries: &Rows,
        rows: &Resident,
        slots: &[Vec<u32>],
    ) -> Result<Vec<Vec<f32>>> {
        check::queries(queries, rows)?;
        check::slots(queries, rows, slots)?;
        let cpu = || self.cpu.gather(stream, queries, self.on_cpu(rows)?, slots);
        let Some(placed) = &self.both(rows).card else {
            // A few rows of many: sending them to the card costs more than the processor needs.
            return cpu();
        };
        let possible = |all: &Vec<Vec<f32>>| {
            let fits = |(list, slots): (&Vec<f32>, &Vec<u32>)| {
                list.len() == slots.len() && list.iter().all(|x| x.is_finite())
            };
            all.len() == slots.len() && all.iter().zip(slots).all(fits)
        };
        let n = slots.iter().map(Vec::len).sum();
        let card = || self.card.gather(stream, queries, placed, slots);
        self.ask("gather", products(n, rows), card, possible, cpu)
    }

    fn assign(
        &self,
        stream: Stream,
        rows: &Resident,
        range: Range<u32>,
        centroids: &Rows,
    ) -> Result<Vec<Neighbor>> {
        check::centroids(rows, centroids)?;
        check::range(&range, rows.host().n_rows())?;
        let possible = |all: &Vec<Neighbor>| {
            let right =
                |n: &Neighbor| (n.slot as usize) < centroids.n_rows() && n.distance.is_finite();
            all.len() == range.len() && all.iter().all(right)
        };
        let card = || match &self.both(rows).card {
            Some(placed) => self.card.assign(stream, placed, range.clone(), centroids),
            None => self.assign_in_parts(stream, rows, range.clone(), centroids),
        };
        let cpu = || self.cpu.assign(stream, self.on_cpu(rows)?, range.clone(), centroids);
        let n = range.len() * centroids.n_rows();
        self.ask("assign", products(n, rows), card, possible, cpu)
    }

    fn rabitq_scan(
        &self,
        stream: Stream,
        scans: &[RabitqScan<'_>],
        codes: &ResidentCodes,
        allow: Allow<'_>,
    ) -> Result<Vec<Vec<Survivor>>> {
        check::scans(scans, codes, allow)?;
        let cpu = || self.cpu.rabitq_scan(stream, scans, self.codes_on_cpu(codes)?, allow);
        let both: &BothCodes =
            codes.device().expect("codes are used with the backend that placed them");
        let Some(placed) = &both.card else { return cpu() };
        let n_rows = codes.host().n_rows as u32;
        let possible = |all: &Vec<Vec<Survivor>>| {
            let right =
                |s: &Survivor| s.slot < n_rows && allow.contains(s.slot) && s.estimate.is_finite();
            all.len() == scans.len() && all.iter().flatten().all(right)
        };
        let lists = scans.iter().flat_map(|scan| scan.lists);
        let n: usize = lists.map(|(list, _)| list.len()).sum();
        // Sixty-four elements of four planes are as much as one word of each.
        let n_products = (n * codes.host().n_words * 4) as u64;
        let card = || self.card.rabitq_scan(stream, scans, placed, allow);
        self.ask("rabitq_scan", n_products, card, possible, cpu)
    }

    fn pairs(
        &self,
        stream: Stream,
        a: &Resident,
        b: Option<&Resident>,
        tiles: &[Tile],
        within: f32,
    ) -> Result<Vec<Pair>> {
        check::pairs(a, b, tiles, within)?;
        let (n_a, n_b) = (a.host().n_rows() as u32, b.unwrap_or(a).host().n_rows() as u32);
        let possible = |all: &Vec<Pair>| {
            let right = |p: &Pair| p.a < n_a && p.b < n_b && p.distance <= within;
            let apart = |two: &[Pair]| (two[0].a, two[0].b) < (two[1].a, two[1].b);
            all.iter().all(right) && all.windows(2).all(apart)
        };
        let card = || {
            let placed = (&self.both(a).card, b.map(|b| &self.both(b).card));
            match placed {
                (Some(a), None) => self.card.pairs(stream, a, None, tiles, within),
                (Some(a), Some(Some(b))) => self.card.pairs(stream, a, Some(b), tiles, within),
                _ => self.pairs_in_parts(stream, a, b, tiles, within),
            }
        };
        let cpu = || {
            let other = b.map(|b| self.on_cpu(b)).transpose()?;
            self.cpu.pairs(stream, self.on_cpu(a)?, other, tiles, within)
        };
        let n = tiles.iter().map(|tile| tile.a.len() * tile.b.len()).sum();
        self.ask("pairs", products(n, a), card, possible, cpu)
    }

    fn minhash(
        &self,
        stream: Stream,
        hasher: &MinHasher,
        shingles: &[u32],
        ends: &[u32],
    ) -> Result<Vec<u32>> {
        check::ends(shingles, ends)?;
        let n = ends.len() * hasher.n_perm();
        let card = || self.card.minhash(stream, hasher, shingles, ends);
        let cpu = || self.cpu.minhash(stream, hasher, shingles, ends);
        let n_products = (shingles.len() * hasher.n_perm()) as u64;
        self.ask("minhash", n_products, card, |all: &Vec<u32>| all.len() == n, cpu)
    }
}
