//! Queries of several sets before one vector: planned together, and answered so that what several of them need is done once.

use std::borrow::Cow;
use std::time::Instant;

use rayon::prelude::*;

use crate::backend::cpu::Cpu;
use crate::core::rows::Rows;
use crate::engine::near::{Near, NearFound};
use crate::engine::space::{Plan, Space, SpaceFound, Wanted, Who};
use crate::engine::together::One;
use crate::error::Result;
use crate::plan::cost::{Choice, Company, Way};

/// Queries of one set.
pub(super) struct Asked<'a> {
    pub queries: Cow<'a, Rows>,
    pub who: Who<'a>,
}

/// The answers to them.
pub(super) struct Answered {
    pub choice: Choice,
    pub found: Vec<SpaceFound>,
    /// Queries that were answered together, of this set and others.
    pub n_together: usize,
    /// Seconds that all of them took.
    pub seconds: f64,
}

impl Space {
    /// The nearest for every query of every set, nearest first, ties by place; and the plans for the base.
    ///
    /// # Errors
    /// Those of the ways.
    pub fn search(
        &self,
        backend: &Cpu,
        asked: &[Asked<'_>],
        wanted: Wanted,
    ) -> Result<Vec<Answered>> {
        let is_many = asked.len() > 1 || asked.iter().any(|one| one.queries.n_rows() > 1);
        let is_near =
            |one: &Asked<'_>| !self.planned(one.who, wanted, Company::NONE).choice.way.is_exact();
        if is_many && asked.iter().any(is_near) {
            self.measure_together()?;
        }
        if let [one] = asked {
            let plan = self.plan(backend, one, wanted, one.queries.n_rows());
            return Ok(vec![self.alone(backend, one, plan, wanted.k)?]);
        }
        let plans = self.plans(backend, asked, wanted);
        let (joint, alone): (Vec<usize>, Vec<usize>) =
            (0..asked.len()).partition(|&i| plans[i].choice.way == Way::CodedInBlocks);
        let all_joint = || self.joint(backend, asked, (&joint, &plans), wanted.k);
        let all_alone = || -> Result<Vec<Answered>> {
            let of = |&i: &usize| self.alone(backend, &asked[i], plans[i].clone(), wanted.k);
            alone.par_iter().map(of).collect()
        };
        let (of_joint, of_alone) = backend.pool().install(|| rayon::join(all_joint, all_alone));
        let numbered = joint.iter().chain(&alone).zip(of_joint?.into_iter().chain(of_alone?));
        let mut answered: Vec<Option<Answered>> = asked.iter().map(|_| None).collect();
        numbered.for_each(|(&i, own)| answered[i] = Some(own));
        Ok(answered.into_iter().map(|own| own.expect("a plan for each")).collect())
    }

    /// A plan for every set. What queries take together depends on how many there are, so that those whose plan it was are
    /// planned again without the others.
    fn plans(&self, backend: &Cpu, asked: &[Asked<'_>], wanted: Wanted) -> Vec<Plan> {
        let n_all = asked.iter().map(|one| one.queries.n_rows()).sum();
        let plan = |one, n| self.plan(backend, one, wanted, n);
        let mut plans: Vec<Plan> = asked.iter().map(|one| plan(one, n_all)).collect();
        let is_joint = |plan: &Plan| plan.choice.way == Way::CodedInBlocks;
        let sizes = asked.iter().zip(&plans).filter(|(_, plan)| is_joint(plan));
        let n_joint: usize = sizes.map(|(one, _)| one.queries.n_rows()).sum();
        if n_joint < n_all {
            let own = plans.iter_mut().zip(asked).filter(|(plan, _)| is_joint(plan));
            own.for_each(|(own, one)| *own = plan(one, n_joint));
        }
        plans
    }

    /// A plan for queries of a set among so many; each thread answers a share.
    fn plan(&self, backend: &Cpu, one: &Asked<'_>, wanted: Wanted, n_batch: usize) -> Plan {
        let share = |n_queries: usize| n_queries.div_ceil(n_threads(backend));
        let company = Company { n_same: share(one.queries.n_rows()), n_batch: share(n_batch) };
        self.planned(one.who, wanted, company)
    }

    /// Queries of one set, whichever way.
    fn alone(&self, backend: &Cpu, one: &Asked<'_>, plan: Plan, k: usize) -> Result<Answered> {
        let began = Instant::now();
        let found = match plan.choice.way {
            Way::CodedInBlocks => {
                let asked = std::slice::from_ref(one);
                let plans = std::slice::from_ref(&plan);
                let found = self.joint(backend, asked, (&[0], plans), k)?;
                return Ok(found.into_iter().next().expect("one set"));
            }
            _ => self.answered(backend, &one.queries, one.who, k, &plan)?,
        };
        let found = self.with_recent(backend, &one.queries, one.who, k, found)?;
        let (n_together, seconds) = (one.queries.n_rows(), began.elapsed().as_secs_f64());
        Ok(Answered { choice: plan.choice, found, n_together, seconds })
    }

    /// Queries of some sets, which go over the codes block by block, each thread with a share of them.
    fn joint(
        &self,
        backend: &Cpu,
        asked: &[Asked<'_>],
        (joint, plans): (&[usize], &[Plan]),
        k: usize,
    ) -> Result<Vec<Answered>> {
        if joint.is_empty() {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        let is_everyone = |&i: &usize| matches!(asked[i].who, Who::Everyone(_));
        let n_listed = if joint.iter().any(is_everyone) { self.n_base() } else { 0 };
        let every: Vec<u32> = (0..n_listed).collect();
        let of = |&i: &usize| self.ones(&asked[i], &every, k);
        let all: Vec<One<'_>> = joint.iter().flat_map(of).collect();
        let mut found = self.jointly(backend, &all)?.into_iter();
        let mut answered = Vec::with_capacity(joint.len());
        for &i in joint {
            let one = &asked[i];
            let of_base = found.by_ref().take(one.queries.n_rows());
            let of_base = of_base.map(|found| SpaceFound::of(Way::CodedInBlocks, found)).collect();
            let found = self.with_recent(backend, &one.queries, one.who, k, of_base)?;
            let (choice, n_together) = (plans[i].choice.clone(), all.len());
            answered.push(Answered { choice, found, n_together, seconds: 0.0 });
        }
        let seconds = began.elapsed().as_secs_f64();
        answered.iter_mut().for_each(|own| own.seconds = seconds);
        Ok(answered)
    }

    /// The queries of a set, as they are answered with others; `every` has all places.
    fn ones<'a>(&self, asked: &'a Asked<'_>, every: &'a [u32], k: usize) -> Vec<One<'a>> {
        let queries = &*asked.queries;
        let run = match asked.who {
            Who::Everyone(_) => every,
            Who::Some(set) => set.run(self.n_base()),
        };
        (0..queries.n_rows()).map(|q| One { query: (queries, q), run, k }).collect()
    }

    fn jointly(&self, backend: &Cpu, all: &[One<'_>]) -> Result<Vec<NearFound>> {
        let base = self.base.as_ref().expect("planned only where there is a base");
        let near = base.near.as_ref().expect("planned only where it was built");
        let codes = near.codes.as_ref().expect("planned only where there are codes");
        let some = |some: &[One<'_>]| {
            self.with_scratch(|scratch| Near::coded_in_blocks(codes, &base.raw, some, scratch))
        };
        let chunks = all.par_chunks(all.len().div_ceil(n_threads(backend)));
        let found: Result<Vec<Vec<NearFound>>> =
            backend.pool().install(|| chunks.map(some).collect());
        Ok(found?.into_iter().flatten().collect())
    }
}

/// Threads of a backend.
pub(super) fn n_threads(backend: &Cpu) -> usize {
    backend.pool().current_num_threads().max(1)
}
