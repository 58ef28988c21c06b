//! All pairs of rows within a distance.
//!
//! Rows become codes (`points.rs`), codes fall into cells (`cells.rs`), every cell meets itself and its halo: the
//! backend compares codes there, and what is left is judged on the rows themselves (`verdict.rs`). Where that cannot pay
//! (few rows, a threshold that most pairs meet) and with [`JoinOptions::exact`] every row meets every row. Both ways give
//! the same pairs with the same distances, for any backend, number of threads, memory and seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;

use crate::backend::{Backend, Pair, Stream, Tile};
use crate::cluster::cells::Cells;
use crate::cluster::points::{self, Points, Side};
use crate::cluster::rectangles::{Limits, Rectangle};
use crate::cluster::verdict::Verdict;
use crate::cluster::{bounds, gather, joined};
use crate::core::bits::Bits;
use crate::core::metric::Metric;
use crate::core::rows::Rows;
use crate::error::{Error, ErrorKind, Result};

/// Rows below which codes and cells cost more than they save.
const FEW_ROWS: usize = 4096;

/// Rows copied for one call of the backend.
const BATCH_ROWS: usize = 64 << 10;

/// Pairs of one call, at most and at least.
const BATCH_PAIRS: [usize; 2] = [64 << 10, 32 << 20];

/// Bytes that one pair takes while it is found, mapped, judged and given out.
const PAIR_BYTES: u64 = 48;

/// Rows of a side of a tile: enough for a backend to reuse what it loads, few enough to share tiles among threads.
const TILE_ROWS: u32 = 1024;

/// Cells are never more: for each two of them a number is kept.
const MOST_CELLS: usize = 8192;

/// Least memory beside rows and codes.
const WORKING_BYTES: u64 = 8 << 20;

/// How a join is done; what it finds does not depend on any of these.
#[derive(Clone, Copy, Default)]
pub struct JoinOptions<'o> {
    /// Compare all rows with all rows, without codes and cells.
    pub exact: bool,
    /// Memory for the rows, their codes and everything else; 0 for 4 GiB.
    pub memory_bytes: u64,
    /// Seed of sample, axes and cells.
    pub seed: u64,
    /// Cells to make, at most 8,192 and one per row; chosen from the number of rows if `None`. Demands codes also where they are not expected to pay.
    pub n_cells: Option<usize>,
    /// Threads for what the backend does not do.
    pub pool: Option<&'o ThreadPool>,
    /// Ends the join with `interrupted` once set.
    pub stop: Option<&'o AtomicBool>,
    /// Called with the share done, from 0 to 1.
    pub watch: Option<&'o dyn Fn(f64)>,
}

/// What a join did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JoinReport {
    /// Rows of both sides.
    pub n_rows: u64,
    /// Cells; 0 if every row met every row.
    pub n_cells: u64,
    /// Numbers in a code; 0 if rows were compared as they are.
    pub n_codes: u64,
    /// Pairs of cells, each with itself included, that had pairs of rows to compare.
    pub n_tiles: u64,
    /// Pairs of cells that the bounds ruled out.
    pub n_tiles_skipped: u64,
    /// Pairs of rows.
    pub n_all: u64,
    /// Of these compared by the backend, as codes or as rows.
    pub n_compared: u64,
    /// Of these judged exactly.
    pub n_candidates: u64,
    /// Of these within the distance.
    pub n_pairs: u64,
}

/// Gives every pair of rows whose distance is at most `within` to `emit`, once: a row of `a` and a row of `b`, or two
/// rows of `a`, the lesser first, if there is no `b`. Distances are those of
/// [`plain::distance`](crate::backend::plain::distance), bit for bit, and so is the comparison with `within`. Pairs come in
/// batches, each sorted.
///
/// Memory: the rows, 1 byte per code (at most 128 codes per row, `dim` with L1), 16 bytes per row, and working space; a
/// batch is never more than a fixed share of what is left, even if all rows are equal.
///
/// # Errors
/// `threshold_range` for NaN, `vector_dim` and `vector_dtype` if both sides differ, what [`Rows::check`] says,
/// `memory` if rows and codes do not fit, `interrupted`; those of the backend and of `emit`.
pub fn near_pairs(
    backend: &dyn Backend,
    a: &Arc<Rows>,
    b: Option<&Arc<Rows>>,
    metric: Metric,
    within: f32,
    options: &JoinOptions<'_>,
    emit: &mut dyn FnMut(&[Pair]) -> Result<()>,
) -> Result<JoinReport> {
    check(a, b, metric, within)?;
    let (norms_a, norms_b) = (a.norms(), b.map(|b| b.norms()));
    let sides: Vec<Side<'_>> = match (b, &norms_b) {
        (Some(b), Some(norms)) => vec![(a, &norms_a), (b, norms)],
        _ => vec![(a, &norms_a)],
    };
    let mut join = Join::new(backend, &sides, metric, within, options, emit)?;
    let (left, right) = (join.greatest_norm(0), join.greatest_norm(sides.len() - 1));
    // A dot product of rows of norm 0 may still be within; the bound knows only norms.
    let Some(reach) = bounds::reach(metric, within, (left, right)) else {
        return Ok(join.report);
    };
    match join.points(reach)? {
        Some(points) => join.by_cells(&points)?,
        None => join.by_rows((left, right))?,
    }
    Ok(join.report)
}

fn check(a: &Rows, b: Option<&Arc<Rows>>, metric: Metric, within: f32) -> Result<()> {
    if within.is_nan() {
        return Err(Error::new(ErrorKind::BadInput, "threshold_range", "NaN"));
    }
    a.check(metric)?;
    let Some(b) = b else { return Ok(()) };
    if a.dim() != b.dim() {
        let message = format!("rows of {} and of {} values", a.dim(), b.dim());
        return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
    }
    if a.dtype() != b.dtype() {
        let message = format!("{} and {}", a.dtype().name(), b.dtype().name());
        return Err(Error::usage("vector_dtype", message));
    }
    b.check(metric)
}

/// One join under way. Rows of both sides are numbered through, those of the second after those of the first.
struct Join<'j> {
    backend: &'j dyn Backend,
    sides: &'j [Side<'j>],
    metric: Metric,
    within: f32,
    options: &'j JoinOptions<'j>,
    limits: Limits,
    working_bytes: u64,
    emit: &'j mut dyn FnMut(&[Pair]) -> Result<()>,
    report: JoinReport,
}

/// Rectangles that the backend compares in one call.
#[derive(Default)]
struct Batch {
    rows: Vec<u32>,
    tiles: Vec<Tile>,
    n_pairs: usize,
}

impl Batch {
    fn add(&mut self, piece: Rectangle<'_>) {
        let start = self.rows.len() as u32;
        self.rows.extend_from_slice(piece.left);
        let middle = self.rows.len() as u32;
        self.rows.extend_from_slice(piece.right.unwrap_or(&[]));
        let end = self.rows.len() as u32;
        let cut = |from: u32, to: u32| {
            let step = TILE_ROWS as usize;
            (from..to).step_by(step).map(move |i| i..(i + TILE_ROWS).min(to))
        };
        for a in cut(start, middle) {
            match piece.right {
                Some(_) => {
                    self.tiles.extend(cut(middle, end).map(|b| Tile { a: a.clone(), b }));
                }
                None => {
                    let on_or_above = cut(start, middle).filter(|b| b.start >= a.start);
                    self.tiles.extend(on_or_above.map(|b| Tile { a: a.clone(), b }));
                }
            }
        }
        self.n_pairs += piece.n_pairs();
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.tiles.clear();
        self.n_pairs = 0;
    }
}

impl<'j> Join<'j> {
    fn new(
        backend: &'j dyn Backend,
        sides: &'j [Side<'j>],
        metric: Metric,
        within: f32,
        options: &'j JoinOptions<'j>,
        emit: &'j mut dyn FnMut(&[Pair]) -> Result<()>,
    ) -> Result<Self> {
        let memory = if options.memory_bytes == 0 { 4 << 30 } else { options.memory_bytes };
        let n_rows: u64 = sides.iter().map(|side| side.0.n_rows() as u64).sum();
        let n_bytes: u64 = sides.iter().map(|side| side.0.n_bytes()).sum();
        let dim = sides[0].0.dim() as u64;
        let n_codes = if metric == Metric::L1 { dim } else { dim.min(128) };
        let n_codes = if options.exact { 0 } else { n_codes };
        let n_limits = (9 * n_rows).min((MOST_CELLS * MOST_CELLS) as u64);
        let needed = n_bytes + n_rows * (n_codes + 32) + 4 * n_limits + WORKING_BYTES;
        if needed > memory {
            let message =
                format!("{needed} bytes are needed for {n_rows} rows, {memory} are allowed");
            return Err(Error::new(ErrorKind::Limit, "memory", message));
        }
        let working_bytes = memory - needed + WORKING_BYTES;
        let row_bytes = dim * sides[0].0.dtype().bytes() as u64;
        let fits = |share: u64, each: u64| (working_bytes / share / each.max(1)) as usize;
        let limits = Limits {
            n_pairs: fits(2, PAIR_BYTES).clamp(BATCH_PAIRS[0], BATCH_PAIRS[1]),
            n_rows: fits(8, row_bytes).clamp(2, BATCH_ROWS),
        };
        let n_all = match sides {
            [(a, _), (b, _)] => a.n_rows() as u64 * b.n_rows() as u64,
            _ => n_rows * n_rows.saturating_sub(1) / 2,
        };
        let report = JoinReport { n_rows, n_all, ..JoinReport::default() };
        Ok(Self { backend, sides, metric, within, options, limits, working_bytes, emit, report })
    }

    fn greatest_norm(&self, side: usize) -> f64 {
        self.sides[side].1.iter().fold(0.0, |most: f64, &norm| most.max(norm))
    }

    /// Codes, if they are wanted and expected to pay.
    fn points(&self, reach: f64) -> Result<Option<Points>> {
        let must = self.options.n_cells.is_some();
        let n_rows = self.report.n_rows as usize;
        if self.options.exact || n_rows == 0 || (n_rows < FEW_ROWS && !must) {
            return Ok(None);
        }
        let seed = self.options.seed;
        points::encode(self.backend, self.sides, self.metric, reach, seed, must)
    }

    /// Every row meets every row.
    fn by_rows(&mut self, greatest_norms: (f64, f64)) -> Result<()> {
        let n_first = self.sides[0].0.n_rows() as u32;
        let all: Vec<u32> = (0..self.report.n_rows as u32).collect();
        let (first, second) = all.split_at(n_first as usize);
        let right = (self.sides.len() == 2).then_some(second);
        let widened =
            bounds::widened(self.metric, self.within, self.sides[0].0.dim(), greatest_norms);
        let mut batch = Batch::default();
        Rectangle { left: first, right }.cut(self.limits, &mut |piece| {
            batch.add(piece);
            let found = self.compare(&batch, None, widened)?;
            batch.clear();
            self.judge(found)?;
            self.tell(self.report.n_compared as f64 / self.report.n_all.max(1) as f64);
            Ok(())
        })
    }

    /// Every cell meets itself and its halo.
    fn by_cells(&mut self, points: &Points) -> Result<()> {
        let n_rows = self.report.n_rows as usize;
        let n_cells = self.options.n_cells.unwrap_or(3 * n_rows.isqrt());
        let n_cells = n_cells.clamp(1, n_rows.min(MOST_CELLS));
        let cells = Cells::build(self.backend, points, n_cells, self.options.seed)?;
        self.report.n_cells = cells.len() as u64;
        self.report.n_codes = points.codes.dim() as u64;
        let mut met = Bits::new((cells.len() * cells.len()) as u32);
        // At worst every row is in every halo.
        let at_once = (self.working_bytes / 4 / (4 * n_rows as u64)).max(1) as usize;
        let mut batch = Batch::default();
        for start in (0..cells.len()).step_by(at_once) {
            let range = start..(start + at_once).min(cells.len());
            let halos = cells.halos(self.backend, &points.codes, range.clone())?;
            for (cell, halo) in range.zip(&halos) {
                for &point in halo {
                    let other = cells.of(point);
                    met.insert((cell.min(other) * cells.len() + cell.max(other)) as u32);
                }
                for piece in self.rectangles(cells.members(cell), halo) {
                    let limits = self.limits;
                    piece.cut(limits, &mut |piece| {
                        let n_rows = batch.rows.len() + piece.n_rows();
                        let n_pairs = batch.n_pairs + piece.n_pairs();
                        if n_rows > limits.n_rows || n_pairs > limits.n_pairs {
                            self.flush(&mut batch, points, &cells)?;
                        }
                        batch.add(piece);
                        Ok(())
                    })?;
                }
                self.tell((cell + 1) as f64 / cells.len() as f64);
            }
        }
        self.flush(&mut batch, points, &cells)?;
        let n_cells = cells.len() as u64;
        self.report.n_tiles = n_cells + met.count();
        self.report.n_tiles_skipped = n_cells * (n_cells + 1) / 2 - self.report.n_tiles;
        Ok(())
    }

    /// What a cell has to compare. Members and halo are ascending, so both sides of a join are parts of them.
    fn rectangles<'r>(&self, members: &'r [u32], halo: &'r [u32]) -> Vec<Rectangle<'r>> {
        if self.sides.len() == 1 {
            let inside = Rectangle { left: members, right: None };
            return vec![inside, Rectangle { left: members, right: Some(halo) }];
        }
        let n_first = self.sides[0].0.n_rows() as u32;
        let parts = |side: &'r [u32]| side.split_at(side.partition_point(|&point| point < n_first));
        let ((a, b), (halo_a, halo_b)) = (parts(members), parts(halo));
        [(a, b), (a, halo_b), (b, halo_a)]
            .map(|(left, right)| Rectangle { left, right: Some(right) })
            .to_vec()
    }

    /// Compares and judges what has been collected. A pair that two cells see is taken from the first of them.
    fn flush(&mut self, batch: &mut Batch, points: &Points, cells: &Cells) -> Result<()> {
        if batch.tiles.is_empty() {
            return Ok(());
        }
        let mut found = self.compare(batch, Some(&points.codes), points.within())?;
        batch.clear();
        found.retain(|found| {
            // The halo's row is the second one; its own cell may see the pair as well.
            let (home, other) = (cells.of(found.member), cells.of(found.met));
            home <= other || !cells.is_in_halo(&points.codes, found.member, other)
        });
        self.judge(found)
    }

    /// Candidates among the batch, by codes or, without any, by the rows themselves.
    fn compare(&mut self, batch: &Batch, codes: Option<&Rows>, within: f32) -> Result<Vec<Found>> {
        self.check_stop()?;
        let n_first = self.sides[0].0.n_rows();
        let slots = batch.rows.iter().map(|&row| row as usize);
        let (rows, metric) = match codes {
            Some(codes) => {
                let metric = if self.metric == Metric::L1 { Metric::L1 } else { Metric::L2 };
                (gather(codes, slots), metric)
            }
            None => (self.gather_sides(slots, n_first)?, self.metric),
        };
        let resident = self.backend.upload(Arc::new(rows), metric)?;
        let pairs = self.backend.pairs(Stream::default(), &resident, None, &batch.tiles, within)?;
        self.report.n_compared += batch.n_pairs as u64;
        let row = |slot: u32| batch.rows[slot as usize];
        Ok(pairs.iter().map(|pair| Found { member: row(pair.a), met: row(pair.b) }).collect())
    }

    /// Rows of both sides, one after another; all of a side's before the other's within one piece.
    fn gather_sides(&self, slots: impl Iterator<Item = usize>, n_first: usize) -> Result<Rows> {
        let slots: Vec<usize> = slots.collect();
        let n_left = slots.iter().take_while(|&&slot| slot < n_first).count();
        let left = gather(self.sides[0].0, slots[..n_left].iter().copied());
        match self.sides {
            [_, (second, _)] => {
                let rest = slots[n_left..].iter().map(|&slot| slot - n_first);
                joined(left, gather(second, rest))
            }
            _ => Ok(left),
        }
    }

    /// Judges candidates on the rows and gives out the pairs.
    fn judge(&mut self, found: Vec<Found>) -> Result<()> {
        let n_first = self.sides[0].0.n_rows() as u32;
        let has_two_sides = self.sides.len() == 2;
        let oriented = |found: &Found| {
            let (a, b) = (found.member.min(found.met), found.member.max(found.met));
            (a, if has_two_sides { b - n_first } else { b })
        };
        let mut candidates: Vec<(u32, u32)> = found.iter().map(oriented).collect();
        drop(found);
        candidates.sort_unstable();
        self.report.n_candidates += candidates.len() as u64;
        let second = self.sides[self.sides.len() - 1];
        let verdict = Verdict::new(self.metric, self.sides[0], second);
        let pairs = verdict.pairs(&candidates, self.within, self.options.pool);
        self.report.n_pairs += pairs.len() as u64;
        if pairs.is_empty() { Ok(()) } else { (self.emit)(&pairs) }
    }

    fn check_stop(&self) -> Result<()> {
        let stop = self.options.stop;
        if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted", "nothing was written"));
        }
        Ok(())
    }

    fn tell(&self, share: f64) {
        if let Some(watch) = self.options.watch {
            watch(share);
        }
    }
}

/// Two rows that may be a pair, numbered through both sides: one of a cell, and the one that it met.
#[derive(Clone, Copy)]
struct Found {
    member: u32,
    met: u32,
}
