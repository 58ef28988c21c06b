//! Kinds that compare a vector: the nearest by any way, and by scores of several examples all that pass.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::core::limits::{CANDIDATES, K};
use crate::core::neighbors::Neighbor;
use crate::core::rows::Rows;
use crate::engine::batch::Asked;
use crate::engine::passing::Passing;
use crate::engine::query::check::too_much;
use crate::engine::query::diverse::Choice;
use crate::engine::query::examples::{average, queries_of};
use crate::engine::query::request::{Kind, Prefetch, Strategy};
use crate::engine::query::score::{Ranked, is_as_good, shown, similarity};
use crate::engine::query::several;
use crate::engine::query::stage::{StageFound, Walk, Window};
use crate::engine::recall::Answered;
use crate::engine::search::{Ask, How, check, check_how};
use crate::engine::space::{Space, Wanted, Who};
use crate::engine::spaces::{Queries, VectorSpace};
use crate::error::Result;
use crate::plan::cost::Way;
use crate::plan::filter::Filter;

/// Rows that are compared with all examples at once: what is known of them stays in the nearest cache.
const BLOCK: usize = 1024;

/// One vector, and who may be found by it.
pub(super) struct Among<'a> {
    vector: usize,
    pub space: &'a VectorSpace,
    /// All points of the version without.
    set: Option<Arc<Passing>>,
    /// Points that are not found, though they pass.
    mentioned: RoaringBitmap,
}

impl Walk<'_> {
    /// The points of a stage that compares a vector.
    pub fn compared(
        &self,
        stage: &Prefetch,
        from: Option<&RoaringBitmap>,
        window: Window,
    ) -> Result<StageFound> {
        let vector = self.settings.vector(&stage.vector)?;
        let examples = self.state.examples(self.tenant, stage, self.settings)?;
        let (given, settings) = (&examples.vectors, &self.settings.vectors[vector]);
        if matches!(stage.kind, Kind::Feedback { .. }) && !settings.is_dense() {
            return Err(settings.shape_error("a dense one for relevance feedback"));
        }
        let query = match &stage.kind {
            Kind::Recommend { positive, strategy: Strategy::AverageVector, .. } => {
                let (positive, negative) = given.split_at(positive.len());
                queries_of(&[average(positive, negative, settings)?], settings)?
            }
            _ => queries_of(given, settings)?,
        };
        let among = self.among_points(stage, vector, from, examples.mentioned)?;
        let weighted = self.weighted(among.space, query.clone())?;
        match &stage.kind {
            Kind::Diverse { diversity, candidates, .. } => {
                let n = (*diversity, candidates.unwrap_or(window.limit));
                self.diverse(stage, &among, (&query, &weighted), n, window)
            }
            Kind::Nearest(_) | Kind::Recommend { strategy: Strategy::AverageVector, .. } => {
                self.nearest(stage, &among, &weighted, window)
            }
            kind => {
                self.check(stage, &among, &weighted, 1)?;
                self.by_score(stage, &among, &weighted, &*several::score(kind), window)
            }
        }
    }

    /// Queries as they are compared: with weights that depend on nothing but what the tenant may read.
    pub fn weighted(&self, space: &VectorSpace, queries: Queries) -> Result<Queries> {
        space.weighted(queries, || {
            let everything = Ask::new(self.tenant, Filter::default());
            Ok(self.state.matching(&everything)?.clone())
        })
    }

    fn check(&self, stage: &Prefetch, among: &Among<'_>, query: &Queries, k: usize) -> Result<()> {
        match query {
            Queries::Rows(rows) => check(among.space.settings(), rows, &how(stage, k)),
            Queries::Multi(_) | Queries::Sparse(_) => check_how(&how(stage, k)),
        }
    }

    /// The points that a stage may find, which have its vector.
    fn among_points(
        &self,
        stage: &Prefetch,
        vector: usize,
        from: Option<&RoaringBitmap>,
        mentioned: RoaringBitmap,
    ) -> Result<Among<'_>> {
        let space = &self.state.spaces[vector];
        let mut set = self.state.evaluated(vector, &self.ask(stage))?.set;
        if let Some(from) = from {
            let places = match &set {
                Some(set) => set.places() & from,
                None => self.state.places.live() & from,
            };
            set = Some(Arc::new(Passing::new(places)));
        }
        Ok(Among { vector, space, set, mentioned })
    }

    /// The nearest points of one query, as good as the threshold.
    fn nearest(
        &self,
        stage: &Prefetch,
        among: &Among<'_>,
        query: &Queries,
        window: Window,
    ) -> Result<StageFound> {
        let metric = among.space.shown_by();
        // Those that are mentioned may be among the nearest, and are not wanted.
        let n = window.end() + among.mentioned.len() as usize;
        let (neighbors, way) = match (among.space, query) {
            (VectorSpace::Dense(space), Queries::Rows(rows)) if n <= K => {
                check(space.settings(), rows, &how(stage, n))?;
                self.searched(stage, (space, among), rows, n)?
            }
            (VectorSpace::Sparse(space), Queries::Sparse(all)) => {
                self.check(stage, among, query, 1)?;
                (space.search(&all[0], self.allowed(among), n), Way::Listed)
            }
            _ => {
                self.check(stage, among, query, 1)?;
                (self.nearest_of_all(among, query, n)?, Way::Listed)
            }
        };
        let threshold = stage.threshold;
        let points = neighbors
            .into_iter()
            .filter(|near| !among.mentioned.contains(near.slot))
            .map(|near| Ranked::new(near.slot, shown(metric, near.distance)))
            .take_while(|near| threshold.is_none_or(|t| is_as_good(metric, near.score, t)));
        let n_matches = Some(self.n_matches(among));
        Ok(StageFound { points: window.of(points.collect()), n_matches, way: Some(way) })
    }

    /// The nearest by the way that is predicted to be fastest.
    fn searched(
        &self,
        stage: &Prefetch,
        (space, among): (&Space, &Among<'_>),
        query: &Rows,
        k: usize,
    ) -> Result<(Vec<Neighbor>, Way)> {
        let who = match &among.set {
            None => Who::Everyone(self.state.places.live()),
            Some(set) => Who::Some(set),
        };
        let wanted = Wanted { k, exact: stage.exact, ef: stage.ef, recall: stage.recall };
        let asked = [Asked { queries: Cow::Borrowed(query), who }];
        let answered = space.search(self.backend, &asked, wanted)?;
        let found = answered.into_iter().flat_map(|answered| answered.found).next();
        let found = found.expect("an answer for the query");
        self.recall.offer(&found, || Answered {
            version: self.state.version,
            vector: among.vector,
            query: query.clone(),
            set: among.set.clone(),
            k,
            neighbors: found.neighbors.clone(),
        });
        Ok((found.neighbors, found.way))
    }

    /// More than a search selects at once: all are compared.
    fn nearest_of_all(
        &self,
        among: &Among<'_>,
        query: &Queries,
        k: usize,
    ) -> Result<Vec<Neighbor>> {
        let all = self.each(among, query, &|distances| distances[0])?;
        let mut all: Vec<Neighbor> =
            all.into_iter().map(|(slot, distance)| Neighbor { slot, distance }).collect();
        if all.len() > k {
            all.select_nth_unstable(k - 1);
            all.truncate(k);
        }
        all.sort_unstable();
        Ok(all)
    }

    /// The points of the greatest scores that similarities to all examples make.
    fn by_score(
        &self,
        stage: &Prefetch,
        among: &Among<'_>,
        queries: &Queries,
        score: &(dyn Fn(&[f32]) -> f32 + Sync),
        window: Window,
    ) -> Result<StageFound> {
        let metric = among.space.shown_by();
        let of_distances = |distances: &[f32]| {
            let alike: Vec<f32> = distances.iter().map(|&d| similarity(metric, d)).collect();
            score(&alike)
        };
        let all = self.each(among, queries, &of_distances)?;
        let n_matches = Some(all.len() as u64);
        let is_wanted = |score: f32| stage.threshold.is_none_or(|threshold| score >= threshold);
        let all = all.into_iter().map(|(place, score)| Ranked::new(place, score));
        let all = all.filter(|point| is_wanted(point.score)).collect();
        let points = window.of(self.state.greatest(all, window.end()));
        Ok(StageFound { points, n_matches, way: Some(Way::Listed) })
    }

    /// What `make` makes of the distances of each point to all examples, but of those that are mentioned.
    fn each(
        &self,
        among: &Among<'_>,
        queries: &Queries,
        make: &(dyn Fn(&[f32]) -> f32 + Sync),
    ) -> Result<Vec<(u32, f32)>> {
        let places: Vec<u32> = (self.allowed(among) - &among.mentioned).iter().collect();
        let of_block = |block: &[u32]| -> Result<Vec<(u32, f32)>> {
            let distances = among.space.distances(self.backend, queries, block)?;
            let mut own = vec![0.0; queries.len()];
            let made = block.iter().enumerate().map(|(i, &place)| {
                own.iter_mut().zip(&distances).for_each(|(own, of_query)| *own = of_query[i]);
                (place, make(&own))
            });
            Ok(made.collect())
        };
        let all = || places.par_chunks(BLOCK).map(of_block).collect::<Result<Vec<_>>>();
        Ok(self.backend.pool().install(all)?.into_iter().flatten().collect())
    }

    /// The places that may be found, and those that are mentioned.
    fn allowed<'a>(&'a self, among: &'a Among<'_>) -> &'a RoaringBitmap {
        among.set.as_ref().map_or(self.state.places.live(), |set| set.places())
    }

    fn n_matches(&self, among: &Among<'_>) -> u64 {
        among.set.as_ref().map_or(self.state.n_points(), |set| set.n_matches())
    }

    /// Candidates that are near a query, of which some are chosen that are unlike each other.
    fn diverse(
        &self,
        stage: &Prefetch,
        among: &Among<'_>,
        (query, weighted): (&Queries, &Queries),
        (diversity, n_candidates): (f32, usize),
        window: Window,
    ) -> Result<StageFound> {
        let near = Window { offset: window.offset, limit: n_candidates };
        let mut found = self.nearest(stage, among, weighted, near)?;
        if found.points.len() > CANDIDATES {
            let n = found.points.len();
            return Err(too_much("query.mmr.candidates_limit", n, "candidates", CANDIDATES));
        }
        let similar = self.similar(among, query, &found.points)?;
        let rows = self.several_rows(among.space, &found.points)?;
        let mut order = Vec::new();
        let mut choice = Choice::new(&similar, diversity);
        while order.len() < window.limit
            && let Some(best) = choice.best()
        {
            order.push(found.points[best]);
            choice.choose(best, &self.alike(among, &found.points, &rows, best)?);
        }
        found.points = order;
        Ok(found)
    }

    /// How alike points are to one of them. Of several rows it is those of the others, `rows`, that are asked for: each of theirs may
    /// be like one of that point's, and not the other way round.
    fn alike(
        &self,
        among: &Among<'_>,
        points: &[Ranked],
        rows: &Queries,
        chosen: usize,
    ) -> Result<Vec<f32>> {
        let place = points[chosen].place;
        if !matches!(among.space, VectorSpace::Multi(_)) {
            return self.similar(among, &self.stored_vector(place, among.space)?, points);
        }
        let (metric, space) = (among.space.shown_by(), among.space);
        let distances = space.distances(self.backend, rows, &[place])?;
        Ok(distances.iter().map(|of_point| similarity(metric, of_point[0])).collect())
    }

    /// The rows of points of a vector of several, none of another.
    fn several_rows(&self, space: &VectorSpace, points: &[Ranked]) -> Result<Queries> {
        let mut all = Vec::new();
        if let VectorSpace::Multi(_) = space {
            for point in points {
                match self.stored_vector(point.place, space)? {
                    Queries::Multi(rows) => all.extend(rows),
                    _ => unreachable!("it is of several rows"),
                }
            }
        }
        Ok(Queries::Multi(all))
    }

    /// Similarities of points to a query.
    fn similar(&self, among: &Among<'_>, query: &Queries, points: &[Ranked]) -> Result<Vec<f32>> {
        let metric = among.space.shown_by();
        let mut places: Vec<u32> = points.iter().map(|point| point.place).collect();
        places.sort_unstable();
        let distances = among.space.distances(self.backend, query, &places)?.swap_remove(0);
        let of_point = |point: &Ranked| {
            let at = places.binary_search(&point.place).expect("it is one of the points");
            similarity(metric, distances[at])
        };
        Ok(points.iter().map(of_point).collect())
    }

    /// The vector of a point that has it.
    fn stored_vector(&self, place: u32, space: &VectorSpace) -> Result<Queries> {
        let id = self.state.places.id(place);
        self.state.stored_vector(id, &space.settings().name, self.settings)
    }
}

/// How a stage searches.
fn how(stage: &Prefetch, k: usize) -> How {
    let Prefetch { vector, exact, recall, ef, .. } = stage;
    How { k, vector: vector.clone(), exact: *exact, recall: *recall, ef: *ef }
}
