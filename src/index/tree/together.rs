//! Many queries at once: the codes of some rows are taken together, and compared with every query that comes to them, as in
//! a matrix product. Each query finds what it would find among any others.
//!
//! Where queries of different sets come to the same list, each takes only rows of its own set: a bit per row decides, after
//! the comparison.
//!
//! Paper: HQI, arXiv 2304.01926, section on batches. Where we differ: lists are those of a tree, a query ends when lists
//! were in vain, and codes are compared in place of rows.

use crate::core::allow::Allow;
use crate::distance::simd::coded_tile::{QUERIES, RowTile, TileEstimates};
use crate::error::{Error, Result};
use crate::index::graph::codes::{CodeQuery, Codes};
use crate::index::graph::distances::Distances;
use crate::index::graph::raw::{RawQuery, RawRows};
use crate::index::tree::best::Best;
use crate::index::tree::frontier::Frontier;
pub use crate::index::tree::lists::Lists;
use crate::index::tree::lists::{Slots, TILE, WORDS, rows_of};
use crate::index::tree::nearest::Nearest;
use crate::index::tree::node::Tree;
use crate::index::tree::scan::{DistanceScan, Scan};
use crate::index::tree::search::{Found, SearchParams, Touched};

/// Bytes of codes that all queries go over before the next: half of a second-level cache.
const BLOCK_BYTES: usize = 1 << 20;

/// Rows that a query takes at once of a block.
const STEP: usize = 64;

/// One of many queries.
pub struct Member<'a> {
    by_code: CodeQuery,
    by_row: RawQuery,
    allow: Allow<'a>,
    params: SearchParams,
    frontier: Frontier,
    /// What was found in all codes.
    nearest: Nearest,
    /// What was found in lists so far.
    best: Best,
    in_lists: bool,
    /// Rows that may be found in each list of the present round.
    drawn: Vec<usize>,
    /// The last of them that changed anything.
    changed: Option<usize>,
    /// Rows that were looked at in a row without any change.
    n_vain: usize,
    is_done: bool,
    touched: Touched,
}

impl<'a> Member<'a> {
    /// A query that may find the rows of `allow`.
    ///
    /// # Errors
    /// `search_params`.
    pub fn new(
        (by_code, by_row): (CodeQuery, RawQuery),
        allow: Allow<'a>,
        params: SearchParams,
    ) -> Result<Self> {
        params.check()?;
        Ok(Self {
            by_code,
            by_row,
            allow,
            params,
            frontier: Frontier::default(),
            nearest: Nearest::default(),
            best: Best::default(),
            in_lists: false,
            drawn: Vec::new(),
            changed: None,
            n_vain: 0,
            is_done: false,
            touched: Touched::default(),
        })
    }
}

/// What many queries need and the next ones reuse.
#[derive(Debug, Default)]
pub struct Tiles {
    tile: RowTile,
    estimates: TileEstimates,
    slots: Vec<u32>,
    distances: Vec<f32>,
    verdict: Nearest,
}

/// A list that a query comes to in a round.
#[derive(Clone, Copy, Debug, Default)]
struct Visit {
    member: u32,
    /// Which of its lists.
    nth: u32,
}

/// The `k` nearest rows of a run for every query: all by their codes, the `n_rerank` nearest by these raw. As
/// [`flat_reranked`](super::flat_reranked) for each. The run is who may be found; `allow` is not asked.
///
/// # Errors
/// `slot_range` if codes or rows do not cover the run.
pub fn flat_together(
    run: &[u32],
    codes: &Codes,
    raw: &RawRows<'_>,
    members: &mut [Member<'_>],
    tiles: &mut Tiles,
) -> Result<Vec<Found>> {
    check_slots(codes, run)?;
    compare_all(run, codes, members, tiles);
    members.iter_mut().map(|member| member.verdict(run, raw, tiles)).collect()
}

/// As [`flat_together`], with a run for every query, ascending: all go over a block of codes before the next is touched, which
/// then comes from memory once.
///
/// # Errors
/// As there.
pub fn flat_in_blocks(
    runs: &[&[u32]],
    codes: &Codes,
    raw: &RawRows<'_>,
    members: &mut [Member<'_>],
    tiles: &mut Tiles,
) -> Result<Vec<Found>> {
    assert_eq!(runs.len(), members.len(), "a run for every query");
    members.iter_mut().for_each(Member::start_all);
    check_slots(codes, &runs.iter().filter_map(|run| run.last().copied()).collect::<Vec<u32>>())?;
    let block = (BLOCK_BYTES / codes.row_bytes()).max(1);
    let mut left: Vec<&[u32]> = runs.to_vec();
    for start in (0..codes.n_slots()).step_by(block) {
        for (member, left) in members.iter_mut().zip(&mut left) {
            // Some rows of the next block come early: to look for the border would take longer.
            while left.first().is_some_and(|&slot| (slot as usize) < start + block) {
                let (slots, later) = left.split_at(left.len().min(STEP));
                member.take_codes(slots, codes, tiles)?;
                *left = later;
            }
        }
    }
    let all = members.iter_mut().zip(runs);
    all.map(|(member, run)| member.verdict(run, raw, tiles)).collect()
}

/// Leaves in all members the nearest of a run by code.
///
/// # Panics
/// If codes do not cover the run.
pub fn compare_all(run: &[u32], codes: &Codes, members: &mut [Member<'_>], tiles: &mut Tiles) {
    members.iter_mut().for_each(Member::start_all);
    let all: Vec<Visit> =
        (0..members.len() as u32).map(|member| Visit { member, nth: 0 }).collect();
    let mut next = run.chunks(TILE).skip(1);
    for slots in run.chunks(TILE) {
        let everyone = [rows_of(slots.len()); QUERIES];
        codes.load(slots, &mut tiles.tile);
        next.next().unwrap_or_default().iter().for_each(|&slot| codes.prefetch(slot));
        for visits in all.chunks(QUERIES) {
            tiles.compare(slots, codes, members, (visits, &everyone[..visits.len()]));
        }
    }
    members.iter_mut().for_each(|member| member.touched.n_rows = run.len() as u64);
}

/// The `k` nearest rows that each query may find, in lists that have them all: as
/// [`search_reranked`](super::search_reranked) over a skeleton of its own rows, except that a query ends when as many of
/// its own rows were in vain as that many lists have.
///
/// Cost: as there, and for rows of the lists taken that a query may not find, their share of the products.
///
/// # Errors
/// `slot_range` if codes or rows do not cover the lists; those of [`Tree::query`].
pub fn search_together(
    (tree, lists): (&Tree, &Lists),
    queries: &[&[f32]],
    (codes, raw): (&Codes, &RawRows<'_>),
    members: &mut [Member<'_>],
    tiles: &mut Tiles,
) -> Result<Vec<Found>> {
    check_slots(codes, lists.run.slots())?;
    assert_eq!(queries.len(), members.len(), "a row for every query");
    for (member, query) in members.iter_mut().zip(queries) {
        member.frontier.start(tree, query)?;
        member.best.reset(member.params.ef);
        member.in_lists = true;
    }
    let mut rounds = Rounds::default();
    while rounds.draw(tree, lists, members) {
        for (list, visits) in rounds.by_list(lists.skeleton.parts().len()) {
            tiles.compare_list(lists.slots(list), codes, members, visits);
        }
        members.iter_mut().for_each(|member| member.settle(lists.list_rows));
    }
    members.iter_mut().map(|member| member.reranked(raw, tiles)).collect()
}

fn check_slots(codes: &Codes, run: &[u32]) -> Result<()> {
    let last = run.iter().fold(0, |last, &slot| last.max(slot)) as usize;
    if run.is_empty() || last < codes.n_slots() {
        return Ok(());
    }
    Err(Error::usage("slot_range", format!("{last} of {} rows", codes.n_slots())))
}

/// The visits of a round, list by list.
#[derive(Debug, Default)]
struct Rounds {
    drawn: Vec<(u32, Visit)>,
    /// Where the visits of each list end.
    ends: Vec<u32>,
    sorted: Vec<Visit>,
}

impl Rounds {
    /// Takes the next lists of all queries that are not done; whether there are any.
    fn draw(&mut self, tree: &Tree, lists: &Lists, members: &mut [Member<'_>]) -> bool {
        self.drawn.clear();
        for (i, member) in members.iter_mut().enumerate().filter(|(_, member)| !member.is_done) {
            member.draw(tree, lists, |list, nth| {
                self.drawn.push((list, Visit { member: i as u32, nth }));
            });
        }
        !self.drawn.is_empty()
    }

    /// The visits of every list that has any, in order of the queries.
    fn by_list(&mut self, n_parts: usize) -> impl Iterator<Item = (u32, &[Visit])> {
        self.ends.clear();
        self.ends.resize(n_parts + 1, 0);
        self.drawn.iter().for_each(|&(list, _)| self.ends[list as usize + 1] += 1);
        for part in 0..n_parts {
            self.ends[part + 1] += self.ends[part];
        }
        self.sorted.resize(self.drawn.len(), Visit::default());
        // Each start moves to its end, which is the next one's start.
        for &(list, visit) in &self.drawn {
            self.sorted[self.ends[list as usize] as usize] = visit;
            self.ends[list as usize] += 1;
        }
        let (ends, sorted) = (&self.ends, &self.sorted);
        (0..n_parts).filter_map(move |part| {
            let start = part.checked_sub(1).map_or(0, |before| ends[before]) as usize;
            let end = ends[part] as usize;
            (start < end).then(|| (part as u32, &sorted[start..end]))
        })
    }
}

impl Member<'_> {
    /// Takes as many lists as will be looked at in any case: until the best are full, or until enough were in vain.
    fn draw(&mut self, tree: &Tree, lists: &Lists, mut take: impl FnMut(u32, u32)) {
        let is_full = self.best.bound() < f32::INFINITY;
        let patience = self.patience(lists.list_rows);
        let wanted = if is_full { patience - self.n_vain } else { self.params.ef };
        let mut n_rows = 0;
        self.drawn.clear();
        self.changed = None;
        while n_rows < wanted {
            let Some(list) = self.frontier.next(tree, lists.skeleton.parts()) else {
                self.is_done = true;
                break;
            };
            let slots = lists.slots(list);
            let n = slots.count(self.allow);
            if n > 0 {
                take(list, self.drawn.len() as u32);
                self.drawn.push(n);
                self.touched.n_rows += slots.slots.len() as u64;
                n_rows += n;
            }
        }
    }

    /// Counts what was in vain at the end of a round.
    fn settle(&mut self, list_rows: usize) {
        let changed = self.changed.take();
        let since = match changed {
            Some(nth) => &self.drawn[nth + 1..],
            None => &self.drawn[..],
        };
        let before = if changed.is_some() { 0 } else { self.n_vain };
        self.n_vain = before + since.iter().sum::<usize>();
        self.touched.n_lists += self.drawn.len() as u64;
        self.drawn.clear();
        self.is_done |= self.n_vain >= self.patience(list_rows);
    }

    /// Rows in vain after which the search ends.
    fn patience(&self, list_rows: usize) -> usize {
        self.params.patience() * list_rows
    }

    /// Before all codes of a run.
    fn start_all(&mut self) {
        self.nearest.reset(self.params.n_rerank);
        self.touched = Touched { n_lists: 1, ..Touched::default() };
    }

    /// Takes the nearest of some slots by their codes, for this query alone.
    fn take_codes(&mut self, slots: &[u32], codes: &Codes, tiles: &mut Tiles) -> Result<()> {
        DistanceScan::new(codes, &self.by_code).distances(slots, &mut tiles.distances)?;
        self.nearest.take(slots, &tiles.distances);
        self.touched.n_rows += slots.len() as u64;
        Ok(())
    }

    /// The `k` nearest of a run whose codes were all compared. No more than `n_rerank` rows are compared raw alone.
    fn verdict(&mut self, run: &[u32], raw: &RawRows<'_>, tiles: &mut Tiles) -> Result<Found> {
        if run.len() > self.params.n_rerank {
            return self.reranked(raw, tiles);
        }
        self.touched = Touched { n_rows: run.len() as u64, n_lists: 1, ..Touched::default() };
        self.all_raw(run, raw, tiles)
    }

    /// The `k` nearest of the `n_rerank` best, by raw rows.
    fn reranked(&mut self, raw: &RawRows<'_>, tiles: &mut Tiles) -> Result<Found> {
        let n = self.params.n_rerank;
        let best = if self.in_lists { self.best.nearest(n) } else { self.nearest.nearest(n) };
        let slots: Vec<u32> = best.iter().map(|near| near.slot).collect();
        self.touched.n_centroids = self.frontier.n_centroids();
        self.touched.n_reranked = slots.len() as u64;
        self.all_raw(&slots, raw, tiles)
    }

    /// The `k` nearest of these rows, compared raw.
    fn all_raw(&mut self, slots: &[u32], raw: &RawRows<'_>, tiles: &mut Tiles) -> Result<Found> {
        DistanceScan::new(raw, &self.by_row).distances(slots, &mut tiles.distances)?;
        tiles.verdict.reset(self.params.k);
        tiles.verdict.take(slots, &tiles.distances);
        Ok(Found { neighbors: tiles.verdict.sorted(self.params.k), touched: self.touched })
    }

    fn bound(&self) -> f32 {
        if self.in_lists { self.best.bound() } else { self.nearest.bound() }
    }

    /// Takes near rows of one of the lists, or of the run.
    fn take(&mut self, slots: &[u32], distances: &[f32], nth: u32) {
        if !self.in_lists {
            self.nearest.take(slots, distances);
        } else if !slots.is_empty() && self.best.take(slots, distances) {
            self.changed = self.changed.max(Some(nth as usize));
        }
    }
}

impl Tiles {
    /// Compares a list with all queries that come to it.
    fn compare_list(
        &mut self,
        list: Slots<'_>,
        codes: &Codes,
        members: &mut [Member<'_>],
        visits: &[Visit],
    ) {
        for tile in list.tiles() {
            codes.load(tile.slots, &mut self.tile);
            for visits in visits.chunks(QUERIES) {
                let mut rows = [[0; WORDS]; QUERIES];
                for (rows, visit) in rows.iter_mut().zip(visits) {
                    *rows = tile.rows_in(members[visit.member as usize].allow);
                }
                self.compare(tile.slots, codes, members, (visits, &rows[..visits.len()]));
            }
        }
    }

    /// Compares the rows of the tile with some queries, of which each takes only some rows.
    fn compare(
        &mut self,
        slots: &[u32],
        codes: &Codes,
        members: &mut [Member<'_>],
        (visits, rows): (&[Visit], &[[u32; WORDS]]),
    ) {
        let of = |i: usize| &members[visits[i.min(visits.len() - 1)].member as usize];
        let queries: [_; QUERIES] = std::array::from_fn(|i| of(i).by_code.coded());
        let bounds: [f32; QUERIES] = std::array::from_fn(|i| of(i).bound());
        let n = visits.len();
        codes.estimate(&self.tile, &queries[..n], &bounds[..n], &mut self.estimates);
        for (i, (visit, rows)) in visits.iter().zip(rows).enumerate() {
            let (estimates, near) = self.estimates.of(i);
            self.slots.clear();
            self.distances.clear();
            for (word, (near, rows)) in near.iter().zip(rows).enumerate() {
                let mut left = near & rows;
                while left != 0 {
                    let row = 32 * word + left.trailing_zeros() as usize;
                    self.slots.push(slots[row]);
                    self.distances.push(estimates[row]);
                    left &= left - 1;
                }
            }
            members[visit.member as usize].take(&self.slots, &self.distances, visit.nth);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::bits::Bits as Set;
    use crate::core::metric::Metric;
    use crate::core::mix::stream;
    use crate::core::rows::Rows;
    use crate::distance::simd::coded::Bits;
    use crate::index::tree::skeleton::MAX_LIST;
    use crate::index::tree::tests::{built, clustered, pool, query};
    use crate::index::tree::{
        BuildParams, Built, Run, Scratch, Skeleton, flat_reranked, search_reranked,
    };

    const N: usize = 6000;
    const N_QUERIES: usize = 41;

    fn base(metric: Metric) -> (Rows, Built, Rows) {
        let rows = clustered(N, 24, 5);
        let built = built(&rows, metric, &BuildParams::default(), 2);
        (built.ordered(&rows), built, clustered(N_QUERIES, 24, 9))
    }

    /// One in `share` rows.
    fn set(share: u64) -> (Vec<u32>, Set) {
        let run: Vec<u32> = (0..N as u32)
            .filter(|&slot| stream(share, slot.into()).is_multiple_of(share))
            .collect();
        let mut set = Set::new(N as u32);
        run.iter().for_each(|&slot| set.insert(slot));
        (run, set)
    }

    fn lists(built: &Built) -> Lists {
        let run = Run::new((0..N as u32).collect(), &built.paths).unwrap();
        let skeleton = Skeleton::build(&built.tree, &built.paths, &run, MAX_LIST).unwrap();
        Lists::new(run, skeleton).unwrap()
    }

    #[test]
    fn together_and_in_blocks_each_query_finds_what_it_finds_alone() {
        for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
            let (rows, _, queries) = base(metric);
            let codes = Codes::of(&pool(2), metric, Bits::Four, &rows, 3).unwrap();
            let raw = RawRows::new(&rows, metric).unwrap();
            let params = SearchParams { k: 10, ef: 40, n_rerank: 40 };
            let ready =
                |q: usize| (codes.query(&queries, q).unwrap(), raw.query(&queries, q).unwrap());
            let member = |q| Member::new(ready(q), Allow::All, params).unwrap();
            let (mut tiles, mut scratch) = (Tiles::default(), Scratch::default());
            let mut alone = |run: &[u32], q: usize| {
                let (by_code, by_row) = ready(q);
                let (codes, raw) = ((&codes, &by_code), (&raw, &by_row));
                flat_reranked(run, codes, raw, (10, 40), &mut scratch).unwrap().neighbors
            };
            let runs = [1, 7, 200, 1000].map(|share| set(share).0);
            for run in &runs {
                let mut all: Vec<Member<'_>> = (0..N_QUERIES).map(member).collect();
                let found = flat_together(run, &codes, &raw, &mut all, &mut tiles).unwrap();
                for (q, found) in found.iter().enumerate() {
                    assert_eq!(found.neighbors, alone(run, q), "{metric}, {} rows", run.len());
                }
            }
            let own: Vec<&[u32]> = (0..N_QUERIES).map(|q| &runs[q % 4][..]).collect();
            let mut all: Vec<Member<'_>> = (0..N_QUERIES).map(member).collect();
            let found = flat_in_blocks(&own, &codes, &raw, &mut all, &mut tiles).unwrap();
            for (q, found) in found.iter().enumerate() {
                assert_eq!(found.neighbors, alone(own[q], q), "{metric}, {} rows", own[q].len());
            }
            let past = [N as u32];
            let error = flat_in_blocks(&[&past], &codes, &raw, &mut all[..1], &mut tiles);
            assert_eq!(error.unwrap_err().code(), "slot_range");
        }
    }

    #[test]
    fn over_lists_a_query_finds_rows_of_its_set_alone_and_as_many_near_ones_as_over_its_own_skeleton()
     {
        for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
            let (rows, built, queries) = base(metric);
            let codes = Codes::of(&pool(2), metric, Bits::Four, &rows, 3).unwrap();
            let raw = RawRows::new(&rows, metric).unwrap();
            let lists = lists(&built);
            let sets = [1, 2, 8, 500].map(set);
            let of = |q: usize| &sets[q % sets.len()];
            let wide: Vec<Vec<f32>> = (0..N_QUERIES).map(|q| query(&queries, q)).collect();
            let ready =
                |q: usize| (codes.query(&queries, q).unwrap(), raw.query(&queries, q).unwrap());
            let mut tiles = Tiles::default();
            let mut together = |range: std::ops::Range<usize>, ef: usize| {
                let params = SearchParams { k: 10, ef, n_rerank: 40 };
                let member = |q| Member::new(ready(q), Allow::Bits(&of(q).1), params).unwrap();
                let mut all: Vec<Member<'_>> = range.clone().map(member).collect();
                let wide: Vec<&[f32]> = range.map(|q| &wide[q][..]).collect();
                let on = (&built.tree, &lists);
                search_together(on, &wide, (&codes, &raw), &mut all, &mut tiles).unwrap()
            };
            let (mut n_own, mut n_lists) = (0, 0);
            for ef in [40, N] {
                let found = together(0..N_QUERIES, ef);
                for (q, found) in found.iter().enumerate() {
                    assert_eq!(found.neighbors, together(q..q + 1, ef)[0].neighbors, "alone");
                    let (run, set) = of(q);
                    assert_eq!(found.neighbors.len(), run.len().min(10));
                    assert!(found.neighbors.iter().all(|near| set.contains(near.slot)), "{metric}");
                    let own = Run::new(run.clone(), &built.paths).unwrap();
                    let skeleton =
                        Skeleton::build(&built.tree, &built.paths, &own, MAX_LIST).unwrap();
                    let (by_code, by_row) = ready(q);
                    let by = ((&codes, &by_code), (&raw, &by_row));
                    let params = SearchParams { k: 10, ef, n_rerank: 40 };
                    let on = (&built.tree, &skeleton);
                    let mut scratch = Scratch::default();
                    let alone =
                        search_reranked(on, run, &wide[q], by.0, by.1, &params, &mut scratch)
                            .unwrap();
                    if ef == N {
                        assert_eq!(found.neighbors, alone.neighbors, "{metric}: all are looked at");
                    }
                    let all = flat_reranked(run, by.0, by.1, (10, 40), &mut scratch).unwrap();
                    let last = all.neighbors.last().unwrap().distance;
                    let near =
                        |of: &Found| of.neighbors.iter().filter(|n| n.distance <= last).count();
                    (n_own, n_lists) = (n_own + near(&alone), n_lists + near(found));
                }
            }
            assert!(n_lists * 100 >= n_own * 99, "{metric}: {n_lists}, {n_own} over own skeletons");
        }
    }
}
