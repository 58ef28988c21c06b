//! What was prefetched, in the order that a formula gives it.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::engine::query::formula::{Formula, Terms};
use crate::engine::query::request::Prefetch;
use crate::engine::query::score::Ranked;
use crate::engine::query::stage::{StageFound, Walk, Window};
use crate::error::Result;
use crate::plan::filter::Points;

impl Walk<'_> {
    /// The points of all prefetches that pass the filter of the stage, by what the formula makes of them.
    pub fn by_formula(
        &self,
        stage: &Prefetch,
        formula: &Formula,
        sources: &[Vec<Ranked>],
        window: Window,
    ) -> Result<StageFound> {
        let mut scores: BTreeMap<u32, Vec<Option<f32>>> = BTreeMap::new();
        for (i, source) in sources.iter().enumerate() {
            for point in source {
                let own = scores.entry(point.place).or_insert_with(|| vec![None; sources.len()]);
                own[i] = Some(point.score);
            }
        }
        let n_matches = Some(scores.len() as u64);
        let all = self.computed(formula, &scores)?;
        let mut points = self.state.greatest(all, window.end());
        points.retain(|point| stage.threshold.is_none_or(|threshold| point.score >= threshold));
        Ok(StageFound { points: window.of(points), n_matches, way: None })
    }

    fn computed(
        &self,
        formula: &Formula,
        scores: &BTreeMap<u32, Vec<Option<f32>>>,
    ) -> Result<Vec<Ranked>> {
        let names: BTreeSet<&str> =
            self.settings.vectors.iter().map(|vector| vector.name.as_str()).collect();
        let vectors: Vec<(&str, RoaringBitmap)> =
            names.into_iter().map(|name| (name, self.state.with_vector(name))).collect();
        let places: RoaringBitmap = scores.keys().copied().collect();
        let mut all = Vec::with_capacity(scores.len());
        self.state.read(&places, &mut |place, payload: &Value| {
            let has_vector = |name: &str| {
                vectors.iter().any(|(own, places)| *own == name && places.contains(place))
            };
            let terms = Terms {
                id: self.state.places.id(place),
                scores: &scores[&place],
                payload,
                has_vector: &has_vector,
                defaults: &formula.defaults,
            };
            all.push(formula.score(&terms).map(|score| Ranked::new(place, score)));
        })?;
        all.into_iter().collect()
    }
}
