//! One stage after another: each looks among what its prefetches found.

use std::borrow::Cow;

use roaring::RoaringBitmap;

use crate::backend::cpu::Cpu;
use crate::engine::query::StageFacts;
use crate::engine::query::request::{Kind, Prefetch};
use crate::engine::query::score::Ranked;
use crate::engine::recall::LiveRecall;
use crate::engine::search::Ask;
use crate::engine::settings::Settings;
use crate::engine::state::State;
use crate::error::Result;
use crate::plan::cost::Way;
use crate::plan::filter::{Condition, Filter};

/// One query at one version, and what it looked at so far.
pub(super) struct Walk<'a> {
    pub backend: &'a Cpu,
    pub settings: &'a Settings,
    pub state: &'a State,
    pub recall: &'a LiveRecall,
    pub tenant: Option<&'a str>,
    pub stages: Vec<StageFacts>,
}

/// Which part of a stage's list is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub offset: usize,
    pub limit: usize,
}

impl Window {
    /// From the first point on, so many.
    pub fn first(limit: usize) -> Self {
        Self { offset: 0, limit }
    }

    /// Where it ends.
    pub fn end(self) -> usize {
        self.offset.saturating_add(self.limit)
    }

    /// The part of a list that was cut at [`Self::end`].
    pub fn of<T>(self, mut all: Vec<T>) -> Vec<T> {
        all.truncate(self.end());
        all.drain(..self.offset.min(all.len()));
        all
    }
}

/// What a stage found, and how.
pub(super) struct StageFound {
    pub points: Vec<Ranked>,
    /// Points that it could find, where they were counted.
    pub n_matches: Option<u64>,
    pub way: Option<Way>,
}

impl Walk<'_> {
    /// The points of a stage in its order, those of its prefetches found before.
    ///
    /// # Errors
    /// Those of the kinds.
    pub fn stage(&mut self, stage: &Prefetch, at: &str, window: Window) -> Result<Vec<Ranked>> {
        let mut sources = Vec::with_capacity(stage.prefetch.len());
        for (i, inner) in stage.prefetch.iter().enumerate() {
            let at = format!("{at}prefetch[{i}].");
            // What a stage must pass its prefetches must pass too: they would find less than there is if it came after their limits.
            let inner = Prefetch { filter: both(&stage.filter, &inner.filter), ..inner.clone() };
            sources.push(self.stage(&inner, &at, Window::first(inner.limit))?);
        }
        let found = self.kind(stage, &sources, window)?;
        self.stages.push(StageFacts {
            at: at.trim_end_matches('.').to_owned(),
            kind: stage.kind.name(),
            n_found: found.points.len(),
            n_matches: found.n_matches,
            way: found.way,
        });
        Ok(found.points)
    }

    fn kind(
        &self,
        stage: &Prefetch,
        sources: &[Vec<Ranked>],
        window: Window,
    ) -> Result<StageFound> {
        match &stage.kind {
            Kind::Fusion(fusion) => self.fused(stage, fusion, sources, window),
            Kind::Formula(formula) => self.by_formula(stage, formula, sources, window),
            _ => {
                let from = (!stage.prefetch.is_empty()).then(|| places(sources));
                self.among(stage, from.as_ref(), window)
            }
        }
    }

    /// The points of a stage that looks among all points, or those of these places.
    fn among(
        &self,
        stage: &Prefetch,
        from: Option<&RoaringBitmap>,
        window: Window,
    ) -> Result<StageFound> {
        let unscored = |places: Vec<u32>| places.into_iter().map(Ranked::unscored).collect();
        let end = window.end();
        let points = match &stage.kind {
            Kind::Id => unscored(self.by_id(&*self.matching(stage, from)?, end)),
            Kind::Sample(seed) => unscored(self.sampled(&*self.matching(stage, from)?, *seed, end)),
            Kind::Order(path, direction, start) => {
                let matching = self.matching(stage, from)?;
                self.ordered(&matching, path, (*direction, *start), end)?
            }
            _ => return self.compared(stage, from, window),
        };
        Ok(StageFound { points: window.of(points), n_matches: None, way: None })
    }

    /// The places of a stage that compares no vector.
    fn matching(
        &self,
        stage: &Prefetch,
        from: Option<&RoaringBitmap>,
    ) -> Result<Cow<'_, RoaringBitmap>> {
        let matching = self.state.matching(&self.ask(stage))?;
        Ok(Cow::Owned(match from {
            Some(from) => &*matching & from,
            None => matching.clone(),
        }))
    }

    /// What is asked for by a stage.
    pub fn ask(&self, stage: &Prefetch) -> Ask {
        Ask::new(self.tenant, stage.filter.clone())
    }
}

/// What passes both filters.
fn both(above: &Filter, own: &Filter) -> Filter {
    let none = Filter::default();
    match (above, own) {
        (above, own) if *above == none || above == own => own.clone(),
        (above, own) if *own == none => above.clone(),
        _ => {
            let must = [above, own].map(|filter| Condition::Filter(filter.clone())).into();
            Filter { must, ..none }
        }
    }
}

/// The places of all points that were found.
fn places(sources: &[Vec<Ranked>]) -> RoaringBitmap {
    sources.iter().flatten().map(|point| point.place).collect()
}
