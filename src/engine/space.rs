//! One vector of the points: its base and what came since, and how the nearest are found in both.

use std::borrow::Cow;
use std::sync::{Mutex, OnceLock};

use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::backend::cpu::Cpu;
use crate::backend::{Backend, Stream};
use crate::core::allow::Allow;
use crate::core::neighbors::{Neighbor, TopK, merge};
use crate::core::rows::Rows;
use crate::engine::base::{Base, Exact};
use crate::engine::batch::n_threads;
use crate::engine::measure::{measure, measure_together};
use crate::engine::near::{Near, NearFound, Placed, Scratches, raw};
use crate::engine::passing::Passing;
use crate::engine::recent::Recent;
use crate::engine::settings::VectorSettings;
use crate::engine::together::One;
use crate::error::{Error, Result};
use crate::index::graph::MAX_EF;
use crate::plan::cost::{Choice, Company, Costs, Question, TogetherCosts, Way};

/// Slots that are listed at once, over all queries of a batch: 4 MiB of them, and of distances.
const LISTED_SLOTS: usize = 1 << 20;

/// How much wider a walk under a filter is than one that found as much without: rows that pass may all lie elsewhere, and
/// the walk comes in at the edge of them (recall 0.86 where 0.9 was asked, in clusters far from the query).
const FILTERED_WIDTHS: usize = 2;

/// Who may be found.
#[derive(Clone, Copy)]
pub(super) enum Who<'a> {
    /// Every place of the base, and every recent one of these.
    Everyone(&'a RoaringBitmap),
    /// The places of a set.
    Some(&'a Passing),
}

/// How much is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub k: usize,
    /// Only exact ways.
    pub exact: bool,
    /// Width of the beam; by recall without.
    pub ef: Option<usize>,
    /// Recall by which the width is chosen.
    pub recall: f32,
}

/// What one query found.
#[derive(Clone, Debug)]
pub(super) struct SpaceFound {
    pub neighbors: Vec<Neighbor>,
    /// The way that was taken in the end.
    pub way: Way,
    /// Rows whose signs were compared first.
    pub n_signs: u64,
    /// Rows and codes compared one by one; unknown for passes.
    pub n_distances: Option<u64>,
}

/// How queries of a set are to be answered.
#[derive(Clone)]
pub(super) struct Plan {
    pub choice: Choice,
    pub question: Question,
}

/// One vector.
pub(super) struct Space {
    settings: VectorSettings,
    /// None if no point of the base has this vector.
    pub base: Option<Base>,
    recent: Recent,
    /// The places with this vector, if some have none; rows of the base at the others are made up, and never found.
    has: Option<RoaringBitmap>,
    costs: Costs,
    /// Measured when the first queries come together.
    together: OnceLock<Option<TogetherCosts>>,
    scratches: Mutex<Vec<Scratches>>,
}

impl Space {
    /// A vector, its base, and the places of the base that have it, if some have not.
    ///
    /// # Errors
    /// Those of measuring the base.
    pub fn new(
        backend: &Cpu,
        settings: VectorSettings,
        base: Option<Base>,
        has: Option<RoaringBitmap>,
    ) -> Result<Self> {
        let costs = match &base {
            Some(base) => measure(backend, base)?,
            None => Costs { n_rows: 0, row_s: 0.0, pass_s: 0.0, pass: Way::Scan, near: None },
        };
        let (recent, scratches) = (Recent::default(), Mutex::default());
        let together = OnceLock::new();
        Ok(Self { settings, base, recent, has, costs, together, scratches })
    }

    /// Builds what near answers come from, over the base.
    ///
    /// # Errors
    /// Those of [`Near::build`].
    pub fn build_near(&mut self, backend: &Cpu, placed: Placed) -> Result<()> {
        let Some(base) = &mut self.base else { return Ok(()) };
        let (pool, by) = (backend.pool(), (self.settings.metric, &base.raw));
        base.near = Some(Near::build(pool, base.rows(), self.has.as_ref(), by, placed)?);
        (self.costs, self.together) = (measure(backend, base)?, OnceLock::new());
        Ok(())
    }

    /// Its settings.
    pub fn settings(&self) -> &VectorSettings {
        &self.settings
    }

    /// What near answers come from, if it was built.
    pub fn near(&self) -> Option<&Near> {
        self.base.as_ref().and_then(|base| base.near.as_ref())
    }

    /// Gives up what near answers come from where a walk has met damage, which is returned: answers are exact from then on.
    pub fn give_up_damaged(&mut self) -> Option<Error> {
        let base = self.base.as_mut()?;
        let damage = base.near.as_ref()?.graph.damage()?.clone();
        base.near = None;
        self.costs.near = None;
        self.together = OnceLock::new();
        Some(damage)
    }

    /// What came since the base was built.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Adds rows at places after all others.
    ///
    /// # Errors
    /// Those of [`Recent::push`].
    pub fn push(&mut self, backend: &Cpu, places: Vec<u32>, rows: Rows) -> Result<()> {
        if let Some(has) = &mut self.has {
            has.extend(places.iter().copied());
        }
        self.recent.push(backend, self.settings.metric, places, rows)
    }

    /// The places with this vector, if some have none.
    pub fn has(&self) -> Option<&RoaringBitmap> {
        self.has.as_ref()
    }

    /// Places of the base.
    pub fn n_base(&self) -> u32 {
        self.base.as_ref().map_or(0, |base| base.rows().n_rows() as u32)
    }

    /// The plan for queries of a set, before any of it was tried.
    pub fn planned(&self, who: Who<'_>, wanted: Wanted, company: Company) -> Plan {
        let n_matches = match who {
            Who::Everyone(_) => u64::from(self.n_base()),
            Who::Some(passing) => passing.places().range_cardinality(0..self.n_base()),
        };
        let (ef, tree_ef) = self.efs(wanted);
        // A recall that no width was seen to reach is only certain with all.
        let exact = wanted.exact || ef.is_none();
        let ef = match (ef.unwrap_or(wanted.k), who, wanted.ef) {
            (ef, Who::Some(_), None) => (FILTERED_WIDTHS * ef).min(MAX_EF),
            (ef, ..) => ef,
        };
        let question = Question {
            n_matches,
            exact,
            ef,
            tree_ef: tree_ef.unwrap_or(MAX_EF),
            has_skeleton: matches!(who, Who::Some(passing) if passing.has_skeleton()),
            company,
        };
        let mut costs = self.costs;
        if let Some(near) = &mut costs.near {
            near.together = self.together.get().copied().flatten();
        }
        Plan { choice: costs.choose(question), question }
    }

    /// The nearest of the base for queries of a set, on a plan that is theirs alone.
    ///
    /// # Errors
    /// Those of the ways.
    pub fn answered(
        &self,
        backend: &Cpu,
        queries: &Rows,
        who: Who<'_>,
        k: usize,
        plan: &Plan,
    ) -> Result<Vec<SpaceFound>> {
        match &self.base {
            Some(base) if plan.question.n_matches > 0 => {
                let at = At { space: self, base, backend, queries, who, k };
                at.answer(plan.choice.way, plan.question)
            }
            _ => Ok(vec![NOTHING; queries.n_rows()]),
        }
    }

    /// The same with what came since the base was built.
    ///
    /// # Errors
    /// Those of [`Recent::search`].
    pub fn with_recent(
        &self,
        backend: &Cpu,
        queries: &Rows,
        who: Who<'_>,
        k: usize,
        mut found: Vec<SpaceFound>,
    ) -> Result<Vec<SpaceFound>> {
        if self.recent.n_rows() == 0 {
            return Ok(found);
        }
        let allowed = match who {
            Who::Everyone(places) => places,
            Who::Some(passing) => passing.places(),
        };
        let recent = self.recent.search(backend, queries, allowed, k)?;
        for (found, recent) in found.iter_mut().zip(recent) {
            if recent.is_empty() {
                continue;
            }
            if found.way == Way::Nothing {
                found.way = Way::Listed;
            }
            found.neighbors = merge(&[std::mem::take(&mut found.neighbors), recent], k);
        }
        Ok(found)
    }

    /// Distances of every query to the rows at these places, which are ascending and have this vector, in their order.
    ///
    /// # Errors
    /// Those of [`Backend::gather`].
    pub fn distances(
        &self,
        backend: &Cpu,
        queries: &Rows,
        places: &[u32],
    ) -> Result<Vec<Vec<f32>>> {
        let (old, new) = places.split_at(places.partition_point(|&place| place < self.n_base()));
        let mut found = vec![Vec::new(); queries.n_rows()];
        if let Some(base) = self.base.as_ref().filter(|_| !old.is_empty()) {
            let lists = vec![old.to_vec(); queries.n_rows()];
            found = backend.gather(Stream::default(), queries, base.exact.rows(), &lists)?;
        }
        if !new.is_empty() {
            let recent = self.recent.distances(backend, queries, new)?;
            found.iter_mut().zip(recent).for_each(|(found, recent)| found.extend(recent));
        }
        Ok(found)
    }

    /// Measures what queries take that come together, the first time.
    ///
    /// # Errors
    /// Those of the ways.
    pub fn measure_together(&self) -> Result<()> {
        if let (Some(base), None) = (&self.base, self.together.get()) {
            let costs = measure_together(base)?;
            self.together.get_or_init(|| costs);
        }
        Ok(())
    }

    /// Widths of walks and of searches of the tree.
    fn efs(&self, wanted: Wanted) -> (Option<usize>, Option<usize>) {
        match (wanted.ef, self.near()) {
            (Some(ef), _) => (Some(ef.max(wanted.k)), Some(ef.max(wanted.k))),
            (None, Some(near)) => near.efs_for(wanted.recall, wanted.k),
            (None, None) => (None, None),
        }
    }

    /// Does `work` with what a walk needs, which the next one reuses.
    pub fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratches) -> T) -> T {
        let held = self.scratches.lock().expect("no holder panics").pop();
        let mut scratch = held.unwrap_or_default();
        let done = work(&mut scratch);
        self.scratches.lock().expect("no holder panics").push(scratch);
        done
    }
}

impl SpaceFound {
    /// What a near way found.
    pub fn of(way: Way, found: NearFound) -> Self {
        let NearFound { neighbors, n_signs, n_distances, .. } = found;
        Self { neighbors, way, n_signs, n_distances: Some(n_distances) }
    }
}

const NOTHING: SpaceFound =
    SpaceFound { neighbors: Vec::new(), way: Way::Nothing, n_signs: 0, n_distances: Some(0) };

/// Queries of one set before the base.
struct At<'a> {
    space: &'a Space,
    base: &'a Base,
    backend: &'a Cpu,
    queries: &'a Rows,
    who: Who<'a>,
    k: usize,
}

impl At<'_> {
    fn answer(&self, way: Way, question: Question) -> Result<Vec<SpaceFound>> {
        match way {
            Way::Nothing => Ok(vec![NOTHING; self.queries.n_rows()]),
            Way::Listed | Way::Bounds | Way::Scan => self.exact(way),
            Way::Coded | Way::Signs | Way::Graph | Way::Tree => self.near(way, question),
            Way::CodedTogether => self.coded_together(),
            Way::CodedInBlocks => unreachable!("answered with the queries of other sets"),
        }
    }

    fn exact(&self, way: Way) -> Result<Vec<SpaceFound>> {
        let (n_base, n_queries) = (self.space.n_base(), self.queries.n_rows() as u64);
        let (neighbors, n_distances) = match way {
            Way::Listed => {
                let run = self.run();
                let found = self.space.with_scratch(|scratch| {
                    listed(self.backend, self.base, self.queries, &run, self.k, scratch)
                })?;
                (found, Some(run.len() as u64))
            }
            _ => {
                let allow = match self.who {
                    Who::Everyone(_) => Allow::All,
                    Who::Some(passing) => Allow::Bits(passing.bits(n_base)),
                };
                let (backend, stream) = (self.backend, Stream::default());
                match &self.base.exact {
                    Exact::Raw(rows) => {
                        let found = backend.flat_scan(stream, self.queries, rows, allow, self.k)?;
                        (found, Some(allow.count(n_base)))
                    }
                    Exact::Codes(index) => {
                        let found = index.search((backend, stream), self.queries, allow, self.k)?;
                        (found.neighbors, Some(found.looked.n_raw / n_queries.max(1)))
                    }
                }
            }
        };
        let found = |neighbors| SpaceFound { neighbors, way, n_signs: 0, n_distances };
        Ok(neighbors.into_iter().map(found).collect())
    }

    /// Places of the base that may be found, listed.
    fn run(&self) -> Cow<'_, [u32]> {
        match self.who {
            Who::Everyone(_) => (0..self.space.n_base()).collect::<Vec<u32>>().into(),
            Who::Some(passing) => passing.run(self.space.n_base()).into(),
        }
    }

    /// A near way for every query; where a walk did not meet all that it looked for, the fastest exact way instead.
    fn near(&self, way: Way, question: Question) -> Result<Vec<SpaceFound>> {
        let is_listed = matches!(way, Way::Coded | Way::Signs);
        let run = if is_listed { self.run() } else { Cow::default() };
        let one = |q: usize| -> Result<SpaceFound> {
            let found = self.space.with_scratch(|scratch| {
                self.near_one(way, question, &run, (self.queries, q), scratch)
            })?;
            if found.is_whole {
                return Ok(SpaceFound::of(way, found));
            }
            let exact = self.space.costs.choose(Question { exact: true, ..question }).way;
            let alone = At { queries: &self.queries.slice(q..q + 1), ..*self };
            Ok(alone.exact(exact)?.swap_remove(0))
        };
        match self.queries.n_rows() {
            // A thread of the pool would have to be woken first.
            1 => Ok(vec![one(0)?]),
            n => self.backend.pool().install(|| (0..n).into_par_iter().map(one).collect()),
        }
    }

    /// All codes of the set, compared with a share of the queries by each thread.
    fn coded_together(&self) -> Result<Vec<SpaceFound>> {
        let near = self.base.near.as_ref().expect("planned only where it was built");
        let codes = near.codes.as_ref().expect("planned only where there are codes");
        let (run, n_queries) = (self.run(), self.queries.n_rows());
        let n_each = n_queries.div_ceil(n_threads(self.backend));
        let some = |start: usize| -> Result<Vec<NearFound>> {
            let end = (start + n_each).min(n_queries);
            let one = |q| One { query: (self.queries, q), run: &[], k: self.k };
            let all: Vec<One<'_>> = (start..end).map(one).collect();
            self.space.with_scratch(|scratch| {
                Near::coded_together(codes, &self.base.raw, &run, &all, scratch)
            })
        };
        let starts: Vec<usize> = (0..n_queries).step_by(n_each).collect();
        let found: Result<Vec<Vec<NearFound>>> =
            self.backend.pool().install(|| starts.into_par_iter().map(some).collect());
        let of = |found| SpaceFound::of(Way::CodedTogether, found);
        Ok(found?.into_iter().flatten().map(of).collect())
    }

    fn near_one(
        &self,
        way: Way,
        question: Question,
        run: &[u32],
        query: (&Rows, usize),
        scratch: &mut Scratches,
    ) -> Result<NearFound> {
        let near = self.base.near.as_ref().expect("planned only where it was built");
        let (raw, n_base) = (&self.base.raw, self.space.n_base());
        match (way, &near.codes, self.who) {
            (Way::Coded, Some(codes), _) => Near::coded(codes, raw, query, run, self.k, scratch),
            (Way::Signs, Some(codes), _) => {
                let signs = near.signs.as_ref().expect("planned only where there are signs");
                Near::signed((codes, signs), raw, query, run, self.k, scratch)
            }
            (Way::Tree, Some(codes), Who::Some(set)) => {
                let sizes = (self.k, question.tree_ef);
                near.listed(codes, raw, query, (set, n_base), sizes, scratch)
            }
            _ => {
                // As many as the graph has are all that it has: places in between were given up.
                let is_all = question.n_matches == near.graph.n_live() as u64;
                let allow = match self.who {
                    Who::Some(set) if !is_all => Allow::Bits(set.bits(n_base)),
                    _ => Allow::All,
                };
                let share = question.n_matches as f32 / near.graph.n_live().max(1) as f32;
                near.walk(raw, query, (allow, share), (self.k, question.ef), scratch)
            }
        }
    }
}

/// The nearest of listed rows, each compared where it lies: exact. A single query does without the backend, which takes longer
/// to be asked than a hundred rows to be compared.
pub(super) fn listed(
    backend: &Cpu,
    base: &Base,
    queries: &Rows,
    run: &[u32],
    k: usize,
    scratch: &mut Scratches,
) -> Result<Vec<Vec<Neighbor>>> {
    if queries.n_rows() == 1 {
        return Ok(vec![raw(base, (queries, 0), run, k, scratch)?]);
    }
    let nearest = |distances: Vec<f32>| {
        let mut top = TopK::new(k);
        let all = run.iter().zip(distances);
        all.for_each(|(&slot, distance)| top.push(Neighbor { slot, distance }));
        top.into_sorted()
    };
    let n_together = (LISTED_SLOTS / run.len().max(1)).max(1);
    let mut found = Vec::with_capacity(queries.n_rows());
    for start in (0..queries.n_rows()).step_by(n_together) {
        let some = queries.slice(start..(start + n_together).min(queries.n_rows()));
        let lists = vec![run.to_vec(); some.n_rows()];
        let rows = base.exact.rows();
        let distances = backend.gather(Stream::default(), &some, rows, &lists)?;
        found.extend(distances.into_iter().map(nearest));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
