//! What ways take on this machine, timed when a collection is opened: a few milliseconds, on a sample of its rows.

use std::time::Instant;

use crate::backend::cpu::Cpu;
use crate::backend::{Backend, Stream};
use crate::core::allow::Allow;
use crate::core::bits::Bits;
use crate::core::mix::stream;
use crate::core::rows::Rows;
use crate::engine::base::{Base, Exact, SEED};
use crate::engine::near::{Near, Placed, Scratches};
use crate::engine::passing::Passing;
use crate::engine::space::listed;
use crate::engine::together::{One, members};
use crate::error::Result;
use crate::index::graph::codes::Codes;
use crate::index::graph::codes::signs::Signs;
use crate::index::tree::together::{Member, compare_all};
use crate::plan::cost::{Costs, NearCosts, SHARES, SignCosts, TIMED_EF, TogetherCosts, TreeCosts};

/// Listed rows that are timed.
const TIMED_ROWS: usize = 512;

/// Rows of a pass that are timed, the first of the base.
const TIMED_PASS: u32 = 1 << 14;

/// Rows that stand in for queries.
const TIMED_QUERIES: usize = 4;

/// Rows of runs whose codes are timed as they come from afar: all runs take more than a second-level cache.
const TIMED_FAR: usize = 4096;

/// Rows of runs whose signs are timed as they come from afar, the fewer first.
const TIMED_SIGNS: [usize; 2] = [1024, 16_384];

/// Rows that stand in for queries that come together.
const TIMED_TOGETHER: usize = 16;

/// Rows of runs in which the tree is searched.
const TIMED_RUNS: [usize; 2] = [1024, 8192];

/// Times that each is timed; the least counts.
const TIMINGS: usize = 3;

/// Neighbors that are looked for.
const K: usize = 10;

/// The times of a base, without those of queries that come together.
///
/// # Errors
/// Those of the ways.
pub(super) fn measure(backend: &Cpu, base: &Base) -> Result<Costs> {
    let n_rows = base.rows().n_rows();
    let query = base.rows().slice(0..1);
    let run: Vec<u32> = spread(n_rows, TIMED_ROWS).collect();
    let mut scratch = Scratches::default();
    let row_s = least_seconds(|| listed(backend, base, &query, &run, K, &mut scratch).map(drop))?;
    let n_passed = TIMED_PASS.min(n_rows as u32);
    let pass_s = least_seconds(|| {
        let (range, on) = (0..n_passed, Stream::default());
        let allow = Allow::Ranges(std::slice::from_ref(&range));
        match &base.exact {
            Exact::Raw(rows) => backend.flat_scan(on, &query, rows, allow, K).map(drop),
            Exact::Codes(index) => index.search((backend, on), &query, allow, K).map(drop),
        }
    })?;
    let near = base.near.as_ref().map(|near| near_costs(base, near, &run)).transpose()?;
    Ok(Costs {
        n_rows: n_rows as u64,
        row_s: row_s / run.len() as f64,
        pass_s: pass_s * n_rows as f64 / f64::from(n_passed),
        pass: base.exact.way(),
        near,
    })
}

fn near_costs(base: &Base, near: &Near, run: &[u32]) -> Result<NearCosts> {
    let (rows, raw) = (base.rows(), &base.raw);
    let mut scratch = Scratches::default();
    let mut walks_s = [0.0; SHARES.len()];
    for (walk_s, share) in walks_s.iter_mut().zip(SHARES) {
        let bits = share_of(rows.n_rows(), share);
        let allow = if share < 1.0 { Allow::Bits(&bits) } else { Allow::All };
        *walk_s = per_query(rows, |row| {
            near.walk(raw, (rows, row), (allow, share as f32), (K, TIMED_EF), &mut scratch)
                .map(drop)
        })?;
    }
    let Some(codes) = &near.codes else {
        let (tree, together) = (None, None);
        return Ok(NearCosts { query_s: 0.0, code_s: None, signs: None, walks_s, tree, together });
    };
    let (query_s, warm_s) = warm_costs((base, codes), run, &mut scratch)?;
    let far = far_runs(rows.n_rows(), TIMED_FAR);
    let mut runs = far.iter().cycle();
    let far_s = per_query(rows, |row| {
        let run = runs.next().expect("a cycle of runs");
        Near::coded(codes, raw, (rows, row), run, K, &mut scratch).map(drop)
    })?;
    let code_s = ((far_s - query_s) / far[0].len() as f64).max(warm_s);
    let of_signs = near.signs.as_ref().map(|signs| sign_costs(base, (codes, signs), &mut scratch));
    let (signs, tree) = (of_signs.transpose()?, tree_costs((base, near, codes), &mut scratch)?);
    Ok(NearCosts {
        query_s,
        code_s: Some(code_s),
        signs: signs.flatten(),
        walks_s,
        tree,
        together: None,
    })
}

/// What a query takes before the first code, and each code that is near.
fn warm_costs(
    (base, codes): (&Base, &Codes),
    run: &[u32],
    scratch: &mut Scratches,
) -> Result<(f64, f64)> {
    let (rows, raw) = (base.rows(), &base.raw);
    let mut coded = |run: &[u32]| {
        per_query(rows, |row| Near::coded(codes, raw, (rows, row), run, K, scratch).map(drop))
    };
    // Both compare the same best rows raw: what one takes more is that of the codes.
    let (few, all) = (&run[..run.len() / 4], run);
    let (few_s, all_s) = (coded(few)?, coded(all)?);
    let warm_s = ((all_s - few_s) / (all.len() - few.len()).max(1) as f64).max(1e-10);
    Ok(((few_s - warm_s * few.len() as f64).max(0.0), warm_s))
}

/// What a first look by signs takes, if there are rows enough to tell.
fn sign_costs(
    base: &Base,
    of: (&Codes, &Signs),
    scratch: &mut Scratches,
) -> Result<Option<SignCosts>> {
    let (rows, [few, many]) = (base.rows(), TIMED_SIGNS);
    if rows.n_rows() < 2 * few {
        return Ok(None);
    }
    let far = far_runs(rows.n_rows(), many);
    let some =
        |run: &Vec<u32>| -> Vec<u32> { run.iter().copied().step_by(run.len() / few).collect() };
    let near: Vec<Vec<u32>> = far.iter().map(some).collect();
    let mut timed = |runs: &[Vec<u32>]| -> Result<(f64, f64)> {
        let mut next = runs.iter().cycle();
        let seconds = per_query(rows, |row| {
            let run = next.next().expect("a cycle of runs");
            Near::signed(of, &base.raw, (rows, row), run, K, scratch).map(drop)
        })?;
        Ok((runs[0].len() as f64, seconds))
    };
    let ((n_few, few_s), (n_all, all_s)) = (timed(&near)?, timed(&far)?);
    let row_s = ((all_s - few_s) / (n_all - n_few).max(1.0)).max(1e-10);
    Ok(Some(SignCosts { query_s: (few_s - row_s * n_few).max(0.0), row_s }))
}

/// The times of queries that come together, where there are codes.
///
/// # Errors
/// Those of the ways.
pub(super) fn measure_together(base: &Base) -> Result<Option<TogetherCosts>> {
    let Some(near) = &base.near else { return Ok(None) };
    let Some(codes) = &near.codes else { return Ok(None) };
    let (n_rows, mut scratch) = (base.rows().n_rows(), Scratches::default());
    let run: Vec<u32> = spread(n_rows, TIMED_ROWS).collect();
    let (_, warm_s) = warm_costs((base, codes), &run, &mut scratch)?;
    let queries: Vec<usize> = spread(n_rows, TIMED_TOGETHER).map(|row| row as usize).collect();
    let of = |&row: &usize| One { query: (base.rows(), row), run: &[], k: K };
    let all: Vec<One<'_>> = queries.iter().map(of).collect();
    let ready = members(codes, &base.raw, &all)?;
    let (load_s, pair_s) = tile_costs(&far_runs(n_rows, TIMED_FAR), codes, ready, &mut scratch)?;
    Ok(Some(TogetherCosts { warm_s, load_s, pair_s }))
}

/// Seconds per row of making codes ready, and per row and query of comparing them: with a quarter of the queries, and with all, each
/// over half of the runs, whose codes come from afar then.
fn tile_costs(
    far: &[Vec<u32>],
    codes: &Codes,
    mut ready: Vec<Member>,
    scratch: &mut Scratches,
) -> Result<(f64, f64)> {
    let (n_few, n_all) = (ready.len().div_ceil(4), ready.len());
    let mut row_s = |runs: &[Vec<u32>], n: usize| {
        let of = |run: &Vec<u32>| {
            let began = Instant::now();
            compare_all(run, codes, &mut ready[..n], &mut scratch.tiles);
            began.elapsed().as_secs_f64() / run.len() as f64
        };
        runs.iter().map(of).fold(f64::INFINITY, f64::min)
    };
    let (for_few, for_all) = far.split_at(far.len() / 2);
    let (few_s, all_s) = (row_s(for_few, n_few), row_s(for_all, n_all));
    let pair_s = ((all_s - few_s) / (n_all - n_few).max(1) as f64).max(1e-11);
    Ok(((few_s - pair_s * n_few as f64).max(1e-11), pair_s))
}

/// What searches of the tree take, if there are rows enough to tell.
fn tree_costs(
    (base, near, codes): (&Base, &Near, &Codes),
    scratch: &mut Scratches,
) -> Result<Option<TreeCosts>> {
    let (rows, n_base) = (base.rows(), base.rows().n_rows() as u32);
    if TIMED_RUNS.iter().any(|&n| n > n_base as usize) {
        return Ok(None);
    }
    let mut searches = [(0.0, 0.0); TIMED_RUNS.len()];
    let mut make_s = f64::INFINITY;
    for (search, n) in searches.iter_mut().zip(TIMED_RUNS) {
        let set = Passing::new(spread(n_base as usize, n).collect());
        let Placed { tree, paths } = &near.placed;
        let began = Instant::now();
        set.skeleton(tree, paths, n_base)?;
        make_s = f64::min(make_s, began.elapsed().as_secs_f64() / set.n_matches() as f64);
        let seconds = per_query(rows, |row| {
            let (query, sizes) = ((rows, row), (K, TIMED_EF));
            near.listed(codes, &base.raw, query, (&set, n_base), sizes, scratch).map(drop)
        })?;
        *search = (set.n_matches() as f64, seconds);
    }
    Ok(Some(TreeCosts { searches, make_s }))
}

/// The least seconds, of several times, that some rows took as queries, each.
fn per_query(rows: &Rows, mut search: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let n_queries = spread(rows.n_rows(), TIMED_QUERIES).count();
    let all = || spread(rows.n_rows(), TIMED_QUERIES).try_for_each(|row| search(row as usize));
    Ok(least_seconds(all)? / n_queries as f64)
}

/// A run for each of the rows that stand in for queries, none of which has a row of another's: codes come from as far as those
/// of sets do that were not asked for lately.
fn far_runs(n_rows: usize, n: usize) -> Vec<Vec<u32>> {
    let step = n_rows.div_ceil(n).max(1);
    let from = |i: usize| (i * step / TIMED_QUERIES).min(n_rows - 1);
    let run = |i| (from(i)..n_rows).step_by(step).map(|row| row as u32).collect();
    (0..TIMED_QUERIES).map(run).collect()
}

/// About `n` of the first `n_rows` numbers, evenly.
fn spread(n_rows: usize, n: usize) -> impl Iterator<Item = u32> {
    (0..n_rows).step_by(n_rows.div_ceil(n).max(1)).map(|row| row as u32)
}

/// A share of the first `n_rows` numbers, by chance: of the powers of one half.
fn share_of(n_rows: usize, share: f64) -> Bits {
    let n_coins = -share.log2().round() as u64;
    let word = |i: u64| (0..n_coins).fold(u64::MAX, |word, coin| word & stream(SEED + coin, i));
    Bits::of_words((0..n_rows.div_ceil(64) as u64).map(word).collect(), n_rows as u32)
}

/// The least seconds of several calls.
fn least_seconds(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..TIMINGS {
        let began = Instant::now();
        call()?;
        least = least.min(began.elapsed().as_secs_f64());
    }
    Ok(least)
}
