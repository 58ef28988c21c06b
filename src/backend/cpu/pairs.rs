//! Operation `pairs`: all pairs within a distance. Rows of the first side are packed in panels, rows of the second pass by.
//!
//! With one side, a tile is cut into rectangles that meet no pair twice and a triangle, of which only the upper half is
//! computed, but for blocks on the diagonal.

use std::ops::Range;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::backend::cpu::line::Source;
use crate::backend::cpu::panels::Panels;
use crate::backend::cpu::tiles::{Sink, Tiles, rows_per_block};
use crate::backend::{Pair, Tile};
use crate::distance::simd::Kernels;

/// Rows of the first side that are packed at once: their panels fill a part of the last cache.
const PACKED: u32 = 768;

/// Rows of the second side that pass by in one task.
const PASSING: u32 = 1 << 14;

/// What is left of a tile: rows `a` with rows `b`.
#[derive(Clone, Debug, PartialEq)]
struct Task {
    a: Range<u32>,
    b: Range<u32>,
    /// Only pairs with `a` below `b`.
    upper: bool,
}

/// Pairs of one task.
struct Within<'a> {
    bounds: &'a [f32],
    row_bounds: &'a [f32],
    slots: &'a [u32],
    task: &'a Task,
    one_side: bool,
    out: &'a mut Vec<Pair>,
}

impl Sink for Within<'_> {
    fn query_bounds(&self) -> &[f32] {
        self.bounds
    }

    fn row_bounds(&self) -> &[f32] {
        self.row_bounds
    }

    fn take(&mut self, row: usize, query: usize, distance: f32) {
        let (a, b) = (self.task.a.start + query as u32, self.slots[row]);
        if self.task.upper && a >= b {
            return;
        }
        let (a, b) = if self.one_side { (a.min(b), a.max(b)) } else { (a, b) };
        self.out.push(Pair { a, b, distance });
    }
}

/// Cuts a tile of one side: with `i` what both ranges share, the rest of `a` with `b`, `i` with the rest of `b`, and the
/// triangle of `i`.
fn parts(tile: &Tile) -> Vec<Task> {
    let (a, b) = (&tile.a, &tile.b);
    let shared = a.start.max(b.start)..a.end.min(b.end);
    let flat = |a: Range<u32>, b: Range<u32>| Task { a, b, upper: false };
    if shared.is_empty() {
        return vec![flat(a.clone(), b.clone())];
    }
    vec![
        flat(a.start..shared.start, b.clone()),
        flat(shared.end..a.end, b.clone()),
        flat(shared.clone(), b.start..shared.start),
        flat(shared.clone(), shared.end..b.end),
        Task { a: shared.clone(), b: shared, upper: true },
    ]
}

/// Cuts parts into tasks of bounded size; what lies below the diagonal is left out.
fn tasks(parts: Vec<Task>) -> Vec<Task> {
    let mut out = Vec::new();
    for part in parts {
        let mut a = part.a.start;
        while a < part.a.end {
            let a_end = a.saturating_add(PACKED).min(part.a.end);
            let mut b = if part.upper { a.max(part.b.start) } else { part.b.start };
            while b < part.b.end {
                let b_end = b.saturating_add(PASSING).min(part.b.end);
                out.push(Task { a: a..a_end, b: b..b_end, upper: part.upper });
                b = b_end;
            }
            a = a_end;
        }
    }
    out
}

/// See [`crate::backend::Backend::pairs`]; shapes are checked.
pub fn run(
    kernels: &Kernels,
    pool: &ThreadPool,
    a: Source<'_>,
    b: Option<Source<'_>>,
    tiles: &[Tile],
    within: f32,
) -> Vec<Pair> {
    let whole = |tile: &Tile| Task { a: tile.a.clone(), b: tile.b.clone(), upper: false };
    let parts = match b {
        None => tiles.iter().flat_map(parts).collect(),
        Some(_) => tiles.iter().map(whole).collect(),
    };
    let (all, other) = (tasks(parts), b.unwrap_or(a));
    let one = |task: &Task| join(kernels, (a, other), b.is_none(), task, within);
    let mut out: Vec<Pair> = if pool.current_num_threads() == 1 {
        all.iter().flat_map(one).collect()
    } else {
        pool.install(|| all.par_iter().flat_map_iter(one).collect())
    };
    out.sort_unstable_by_key(|pair| (pair.a, pair.b));
    out.dedup_by_key(|pair| (pair.a, pair.b));
    out
}

fn join(
    kernels: &Kernels,
    (a, b): (Source<'_>, Source<'_>),
    one_side: bool,
    task: &Task,
    within: f32,
) -> Vec<Pair> {
    let panels = Panels::new(kernels, &a, task.a.start as usize..task.a.end as usize);
    // Distances below the next number are those at most `within`.
    let mut bounds = vec![within.next_up(); panels.n_padded()];
    bounds[panels.n_queries..].fill(f32::NEG_INFINITY);
    let most = rows_per_block(b.host.dim()) as u32;
    let row_bounds = vec![f32::INFINITY; most as usize];
    let (mut tiles, mut out) = (Tiles::default(), Vec::new());
    let mut start = task.b.start;
    while start < task.b.end {
        let end = start.saturating_add(most).min(task.b.end);
        let slots: Vec<u32> = (start..end).collect();
        let mut sink = Within {
            bounds: &bounds,
            row_bounds: &row_bounds,
            slots: &slots,
            task,
            one_side,
            out: &mut out,
        };
        tiles.run(kernels, &b, &slots, &panels, &mut sink);
        start = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn parts_and_tasks_meet_every_pair_of_a_tile_once() {
        for (a, b) in [
            (0..30, 0..30),
            (3..9, 5..20),
            (5..20, 3..9),
            (0..5, 5..9),
            (4..8, 2..20),
            (2..2, 0..9),
        ] {
            let mut met: BTreeMap<(u32, u32), u32> = BTreeMap::new();
            for task in tasks(parts(&Tile { a: a.clone(), b: b.clone() })) {
                for i in task.a.clone() {
                    for j in task.b.clone().filter(|&j| i != j && (!task.upper || i < j)) {
                        *met.entry((i.min(j), i.max(j))).or_default() += 1;
                    }
                }
            }
            let mut wanted = BTreeMap::new();
            for i in a.clone() {
                for j in b.clone().filter(|&j| i != j) {
                    wanted.insert((i.min(j), i.max(j)), 1);
                }
            }
            assert_eq!(met, wanted, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_long_triangle_is_cut_along_the_diagonal() {
        let all = tasks(parts(&Tile { a: 0..100_000, b: 0..100_000 }));
        let looked_at: u64 = all.iter().map(|t| t.a.len() as u64 * t.b.len() as u64).sum();
        assert!(looked_at < 51 * 100_000 * 1000, "{looked_at} pairs");
    }
}
