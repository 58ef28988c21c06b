//! A plain map that answers queries in the simplest way: every point is scored, sorted and cut, in 64-bit floats.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use nearkin::core::ids::PointId;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::engine::Direction;
use nearkin::engine::query::{
    Example, Expression, Formula, Fusion, GroupQuery, Kind, Pair, Prefetch, Query, Strategy,
    Variable,
};
use nearkin::plan::filter::plain::{Point, passes};
use nearkin::plan::filter::{Condition, Filter, Property, Test};
use nearkin::store::columns::path::Path;
use serde_json::{Value, json};

pub const TENANTS: [&str; 3] = ["t0", "t1", "t2"];

/// Names and dimensions of vectors; the metric of the first differs from test to test.
pub const VECTORS: [(&str, usize); 2] = [("a", 4), ("b", 3)];

pub fn path(text: &str) -> Path {
    text.parse().unwrap()
}

#[derive(Clone, Debug)]
pub struct Own {
    pub payload: Value,
    pub vectors: BTreeMap<&'static str, Vec<f32>>,
}

pub struct Model {
    pub points: BTreeMap<PointId, Own>,
    pub metrics: BTreeMap<&'static str, Metric>,
}

/// A point, its score, and the value at which it came.
pub type Scored = (PointId, f64, Option<f64>);

impl Model {
    fn may_read(&self, tenant: Option<&str>, id: PointId) -> bool {
        let owners = self.points[&id].payload["owner"].as_array().unwrap();
        tenant.is_none_or(|tenant| owners.iter().any(|owner| owner == tenant))
    }

    fn passes(&self, filter: &Filter, id: PointId) -> bool {
        let own = &self.points[&id];
        let has_vector = |name: &str| own.vectors.contains_key(name);
        passes(filter, Point { payload: &own.payload, id: Some(id), has_vector: &has_vector })
    }

    fn matching(&self, tenant: Option<&str>, filter: &Filter) -> Vec<PointId> {
        let all = self.points.keys().copied();
        all.filter(|id| self.may_read(tenant, *id) && self.passes(filter, *id)).collect()
    }

    /// More is nearer.
    fn similarity(&self, vector: &str, a: &[f32], b: &[f32]) -> f64 {
        let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
            a.iter().zip(b).map(|(a, b)| of(f64::from(*a), f64::from(*b))).sum()
        };
        let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        match self.metrics[vector] {
            Metric::Cosine => sum(&|a, b| a * b) / norm(a) / norm(b),
            Metric::Dot => sum(&|a, b| a * b),
            Metric::L2 => -sum(&|a, b| (a - b).powi(2)),
            Metric::L1 => -sum(&|a, b| (a - b).abs()),
        }
    }

    fn shown(&self, vector: &str, similarity: f64) -> f64 {
        match self.metrics[vector] {
            Metric::Cosine | Metric::Dot => similarity,
            Metric::L2 => (-similarity).sqrt(),
            Metric::L1 => -similarity,
        }
    }

    fn vector_of(&self, stage: &Prefetch, example: &Example) -> Vec<f32> {
        match example {
            Example::Vector(values) => values.clone(),
            Example::Id(id) => self.points[id].vectors[&*stage.vector].clone(),
            Example::Rows(_) | Example::Sparse(_) => unreachable!("all are dense"),
        }
    }

    pub fn query(&self, tenant: Option<&str>, query: &Query) -> Vec<Scored> {
        self.stage(tenant, &query.stage, query.offset, query.stage.limit)
    }

    fn stage(
        &self,
        tenant: Option<&str>,
        stage: &Prefetch,
        offset: usize,
        limit: usize,
    ) -> Vec<Scored> {
        let source = |inner: &Prefetch| {
            let must = vec![
                Condition::Filter(stage.filter.clone()),
                Condition::Filter(inner.filter.clone()),
            ];
            let inner = Prefetch { filter: Filter { must, ..Filter::default() }, ..inner.clone() };
            self.stage(tenant, &inner, 0, inner.limit)
        };
        let sources: Vec<Vec<Scored>> = stage.prefetch.iter().map(source).collect();
        let cut = |all: Vec<Scored>, limit: usize| -> Vec<Scored> {
            all.into_iter().skip(offset).take(limit).collect()
        };
        match &stage.kind {
            Kind::Fusion(_) | Kind::Formula(_) => {
                let all = self.merged(stage, sources);
                let as_good =
                    |score: f64| stage.threshold.is_none_or(|least| score >= f64::from(least));
                return cut(all.into_iter().filter(|point| as_good(point.1)).collect(), limit);
            }
            _ => {}
        }
        let mut ids = self.matching(tenant, &stage.filter);
        if !sources.is_empty() {
            ids.retain(|id| sources.iter().flatten().any(|point| point.0 == *id));
        }
        match &stage.kind {
            Kind::Id => cut(ids.into_iter().map(|id| (id, 1.0, None)).collect(), limit),
            Kind::Order(path, direction, start) => {
                cut(self.ordered(ids, path, *direction, start.map(float)), limit)
            }
            Kind::Diverse { near, diversity, candidates } => {
                let near = self.vector_of(stage, near);
                let all = self.compared(stage, ids);
                let candidates = cut(all, candidates.unwrap_or(limit));
                self.diverse(&stage.vector, candidates, &near, f64::from(*diversity), limit)
            }
            _ => cut(self.compared(stage, ids), limit),
        }
    }

    /// All that are as good as the threshold, best first.
    fn compared(&self, stage: &Prefetch, mut ids: Vec<PointId>) -> Vec<Scored> {
        let mut mentioned = Vec::new();
        let mut example = |example: &Example| {
            if let Example::Id(id) = example {
                mentioned.push(*id);
            }
            self.vector_of(stage, example)
        };
        let by: Box<dyn Fn(&[f32]) -> f64> = self.score(stage, &mut example);
        ids.retain(|id| {
            !mentioned.contains(id) && self.points[id].vectors.contains_key(&*stage.vector)
        });
        let score = |id: PointId| by(&self.points[&id].vectors[&*stage.vector]);
        let mut all: Vec<(f64, PointId)> = ids.into_iter().map(|id| (score(id), id)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let is_nearest = matches!(
            stage.kind,
            Kind::Nearest(_)
                | Kind::Diverse { .. }
                | Kind::Recommend { strategy: Strategy::AverageVector, .. }
        );
        let is_distance = matches!(self.metrics[&*stage.vector], Metric::L2 | Metric::L1);
        let as_good = |score: f64| match stage.threshold.map(f64::from) {
            None => true,
            Some(threshold) if is_nearest && is_distance => score <= threshold,
            Some(threshold) => score >= threshold,
        };
        let shown = |score| if is_nearest { self.shown(&stage.vector, score) } else { score };
        let all = all.into_iter().map(|(score, id)| (id, shown(score), None));
        all.filter(|point: &Scored| as_good(point.1)).collect()
    }

    fn score<'a>(
        &'a self,
        stage: &'a Prefetch,
        example: &mut dyn FnMut(&Example) -> Vec<f32>,
    ) -> Box<dyn Fn(&[f32]) -> f64 + 'a> {
        let alike = |a: &[f32], b: &[f32]| self.similarity(&stage.vector, a, b);
        let squash = |x: f64| x / (1.0 + x.abs());
        let squash_up = move |x: f64| 0.5 * (squash(x) + 1.0);
        let mut pairs = |pairs: &[Pair]| -> Vec<(Vec<f32>, Vec<f32>)> {
            pairs.iter().map(|pair| (example(&pair.positive), example(&pair.negative))).collect()
        };
        match &stage.kind {
            Kind::Discover { target, context } => {
                let pairs = pairs(context);
                let target = example(target);
                Box::new(move |own| {
                    let side = |(a, b): &(Vec<f32>, Vec<f32>)| match alike(own, a)
                        .total_cmp(&alike(own, b))
                    {
                        Ordering::Greater => 1.0,
                        Ordering::Equal => 0.0,
                        Ordering::Less => -1.0,
                    };
                    pairs.iter().map(side).sum::<f64>() + squash_up(alike(own, &target))
                })
            }
            Kind::Context(context) => {
                let pairs = pairs(context);
                Box::new(move |own| {
                    let lost = |(a, b): &(Vec<f32>, Vec<f32>)| {
                        let gain = alike(own, a) - alike(own, b) - f64::from(f32::EPSILON);
                        squash(gain.min(0.0))
                    };
                    pairs.iter().map(lost).sum()
                })
            }
            Kind::Nearest(near) | Kind::Diverse { near, .. } => {
                let near = example(near);
                Box::new(move |own| alike(own, &near))
            }
            Kind::Recommend { positive, negative, strategy } => {
                let positive: Vec<_> = positive.iter().map(&mut *example).collect();
                let negative: Vec<_> = negative.iter().map(&mut *example).collect();
                match strategy {
                    Strategy::AverageVector => {
                        let mean = |all: &[Vec<f32>], i: usize| {
                            all.iter().map(|v| f64::from(v[i])).sum::<f64>() / all.len() as f64
                        };
                        let dim = positive[0].len();
                        let query: Vec<f32> = (0..dim)
                            .map(|i| match negative.is_empty() {
                                true => mean(&positive, i) as f32,
                                false => (2.0 * mean(&positive, i) - mean(&negative, i)) as f32,
                            })
                            .collect();
                        Box::new(move |own| alike(own, &query))
                    }
                    Strategy::BestScore => Box::new(move |own| {
                        let best = |all: &[Vec<f32>]| {
                            let all = all.iter().map(|one| alike(own, one));
                            all.fold(f64::NEG_INFINITY, f64::max)
                        };
                        let (good, bad) = (best(&positive), best(&negative));
                        if good > bad { squash_up(good) } else { -squash_up(bad) }
                    }),
                    Strategy::SumScores => Box::new(move |own| {
                        let sum = |all: &[Vec<f32>]| all.iter().map(|one| alike(own, one)).sum();
                        let (good, bad): (f64, f64) = (sum(&positive), sum(&negative));
                        good - bad
                    }),
                }
            }
            Kind::Feedback { target, rated, weights } => {
                let target = example(target);
                let rated: Vec<(Vec<f32>, f64)> =
                    rated.iter().map(|(one, r)| (example(one), f64::from(*r))).collect();
                let [a, b, c] = weights.map(f64::from);
                Box::new(move |own| {
                    let mut score = a * alike(own, &target);
                    for (high, more) in &rated {
                        for (low, less) in rated.iter().filter(|(_, less)| more > less) {
                            let difference = alike(own, high) - alike(own, low);
                            score += (more - less).powf(b) * c * difference;
                        }
                    }
                    score
                })
            }
            other => panic!("{other:?} compares nothing"),
        }
    }

    fn diverse(
        &self,
        vector: &str,
        mut pending: Vec<Scored>,
        near: &[f32],
        diversity: f64,
        limit: usize,
    ) -> Vec<Scored> {
        let own = |point: &Scored| &self.points[&point.0].vectors[vector];
        let mut chosen: Vec<Scored> = Vec::new();
        while chosen.len() < limit && !pending.is_empty() {
            let worth = |point: &Scored| {
                let to_chosen = chosen.iter().map(|c| self.similarity(vector, own(point), own(c)));
                let most = to_chosen.fold(f64::NEG_INFINITY, f64::max);
                (1.0 - diversity) * self.similarity(vector, own(point), near) - diversity * most
            };
            let mut best = 0;
            for i in 1..pending.len() {
                if !chosen.is_empty() && worth(&pending[i]) > worth(&pending[best]) {
                    best = i;
                }
            }
            chosen.push(pending.remove(best));
        }
        chosen
    }

    fn ordered(
        &self,
        ids: Vec<PointId>,
        path: &Path,
        direction: Direction,
        start: Option<f64>,
    ) -> Vec<Scored> {
        let mut all: Vec<Scored> = Vec::new();
        for id in ids {
            let mut own: Vec<f64> = Vec::new();
            for value in path.values(&self.points[&id].payload) {
                let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
                own.extend(list.iter().filter_map(Value::as_f64));
            }
            own.sort_by(f64::total_cmp);
            own.dedup();
            all.extend(own.into_iter().map(|value| (id, 1.0, Some(value))));
        }
        let sign = if direction == Direction::Ascending { 1.0 } else { -1.0 };
        all.retain(|point| start.is_none_or(|start| sign * point.2.unwrap() >= sign * start));
        all.sort_by(|a, b| {
            let by_value = (sign * a.2.unwrap()).total_cmp(&(sign * b.2.unwrap()));
            by_value.then(a.0.cmp(&b.0))
        });
        all
    }

    fn merged(&self, stage: &Prefetch, sources: Vec<Vec<Scored>>) -> Vec<Scored> {
        if let Kind::Formula(formula) = &stage.kind {
            return self.computed(formula, &sources);
        }
        let mut all: Vec<Scored> = Vec::new();
        for (i, source) in sources.iter().enumerate() {
            for (rank, point) in source.iter().enumerate() {
                let score = match &stage.kind {
                    Kind::Fusion(Fusion::ReciprocalRank { k, weights }) => {
                        let weight = weights.as_ref().map_or(1.0, |weights| weights[i]);
                        let weight = f64::from(weight);
                        let denominator = (rank as f64 + 1.0) / weight + f64::from(*k) - 1.0;
                        if weight > 0.0 { 1.0 / denominator } else { 0.0 }
                    }
                    _ => normal(source, point.1),
                };
                match all.iter_mut().find(|other| other.0 == point.0) {
                    Some(other) => other.1 += score,
                    None => all.push((point.0, score, point.2)),
                }
            }
        }
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all
    }

    fn computed(&self, formula: &Formula, sources: &[Vec<Scored>]) -> Vec<Scored> {
        let mut ids: Vec<PointId> = sources.iter().flatten().map(|point| point.0).collect();
        ids.sort_unstable();
        ids.dedup();
        let value = |id| self.value(&formula.expression, formula, id, sources);
        let mut all: Vec<Scored> = ids.into_iter().map(|id| (id, value(id), None)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all
    }

    /// Only what the random formulas have.
    fn value(
        &self,
        expression: &Expression,
        formula: &Formula,
        id: PointId,
        sources: &[Vec<Scored>],
    ) -> f64 {
        let value = |part: &Expression| self.value(part, formula, id, sources);
        let payload = &self.points[&id].payload;
        match expression {
            Expression::Constant(number) => *number,
            Expression::Variable(variable) => {
                let own = match variable {
                    Variable::Score(i) => sources.get(*i).and_then(|source| {
                        source.iter().find(|point| point.0 == id).map(|point| point.1)
                    }),
                    Variable::Payload(path) => {
                        path.values(payload).first().and_then(|v| v.as_f64())
                    }
                };
                let default = formula.defaults.get(variable);
                let default = default.map(|value| value.get(0).unwrap_or(value));
                own.or_else(|| default?.as_f64()).unwrap_or(0.0)
            }
            Expression::Condition(filter) => f64::from(u8::from(self.passes(filter, id))),
            Expression::Sum(parts) => parts.iter().map(value).sum(),
            Expression::Product(parts) => parts.iter().map(value).product(),
            Expression::Abs(part) => value(part).abs(),
            Expression::Div { left, right, by_zero } => match (value(right), by_zero) {
                (0.0, Some(by_zero)) if value(left) != 0.0 => *by_zero,
                (0.0, _) => 0.0,
                (right, _) => value(left) / right,
            },
            Expression::Decay { x, scale, midpoint, .. } => {
                (midpoint.ln() / scale * value(x).abs()).exp()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Groups, each with its points.
    pub fn groups(&self, tenant: Option<&str>, ask: &GroupQuery) -> Vec<(Value, Vec<PointId>)> {
        fn unlimited(stage: &mut Prefetch) {
            stage.limit = usize::MAX;
            stage.prefetch.iter_mut().for_each(unlimited);
        }
        let mut stage = ask.query.stage.clone();
        unlimited(&mut stage);
        let mut groups: Vec<(Value, Vec<PointId>)> = Vec::new();
        for (id, _, _) in self.stage(tenant, &stage, 0, usize::MAX) {
            let mut seen: Vec<Value> = Vec::new();
            for value in ask.by.values(&self.points[&id].payload) {
                let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
                for key in list {
                    if seen.contains(&key) || !(key.is_string() || key.is_i64()) {
                        continue;
                    }
                    seen.push(key.clone());
                    match groups.iter_mut().find(|group| group.0 == key) {
                        Some(group) if group.1.len() < ask.size => group.1.push(id),
                        Some(_) => {}
                        None => groups.push((key, vec![id])),
                    }
                }
            }
        }
        groups.truncate(ask.n_groups);
        groups
    }
}

fn float(number: nearkin::store::columns::number::Number) -> f64 {
    match number {
        nearkin::store::columns::number::Number::Int(int) => int as f64,
        nearkin::store::columns::number::Number::Float(float) => float,
    }
}

/// A score on the scale of its list.
fn normal(list: &[Scored], score: f64) -> f64 {
    let n = list.len() as f64;
    let mean = list.iter().map(|point| point.1).sum::<f64>() / n;
    let variance = list.iter().map(|point| (point.1 - mean).powi(2)).sum::<f64>() / (n - 1.0);
    if list.len() == 1 || variance < 1e-12 {
        return 0.5;
    }
    0.5 + (score - mean) / (6.0 * variance.sqrt())
}

/// Numbers of one test.
pub struct Random {
    pub seed: u64,
    pub n: u64,
}

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.n += 1;
        stream(self.seed, self.n) % bound
    }

    pub fn vector(&mut self, dim: usize) -> Vec<f32> {
        (0..dim).map(|_| self.below(2001) as f32 / 1000.0 - 1.0 + 1e-4).collect()
    }

    pub fn payload(&mut self) -> Value {
        let owners: Vec<&str> = TENANTS.into_iter().filter(|_| self.below(2) == 0).collect();
        let sizes: Vec<u64> = (0..self.below(3)).map(|_| self.below(20)).collect();
        let kind = ["x", "y", "z"][self.below(3) as usize];
        let mut payload = json!({
            "owner": owners,
            "kind": kind,
            "size": self.below(1000),
            "sizes": sizes,
            "tags": ["red", self.below(4), "red", true],
        });
        if self.below(5) == 0 {
            payload.as_object_mut().unwrap().remove("size");
        }
        payload
    }

    pub fn filter(&mut self) -> Filter {
        let kind = ["x", "y", "z"][self.below(3) as usize].to_owned();
        let is_kind = Condition::Field(path("kind"), Test::Any(Property::Strings(vec![kind])));
        match self.below(4) {
            0 => Filter { must: vec![is_kind], ..Filter::default() },
            1 => Filter { must_not: vec![is_kind], ..Filter::default() },
            _ => Filter::default(),
        }
    }
}
