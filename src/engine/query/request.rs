//! What is asked: a tree of stages, each of which looks among what its prefetches found.

use std::sync::Arc;

use crate::core::ids::PointId;
use crate::core::sparse::SparseVector;
use crate::engine::collection::Collection;
use crate::engine::query::formula::Formula;
use crate::engine::scroll::Direction;
use crate::engine::settings::DEFAULT_VECTOR;
use crate::error::Result;
use crate::plan::filter::Filter;
use crate::store::columns::number::Number;
use crate::store::columns::path::Path;

/// A query: the last stage, and how many of its points are passed over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The last stage.
    pub stage: Prefetch,
    /// Points that are left out, from the first on.
    pub offset: usize,
}

/// One stage of a query: what is looked for, among all points or those that other stages found.
#[derive(Clone, Debug, PartialEq)]
pub struct Prefetch {
    /// Stages whose points alone may be found; all points may without.
    pub prefetch: Vec<Prefetch>,
    /// What is looked for.
    pub kind: Kind,
    /// The vector that is compared, for kinds that compare any.
    pub vector: String,
    /// What points have to pass.
    pub filter: Filter,
    /// Points of a worse score are left out: of a lesser one, or a greater one where a distance is the score. Kinds without a
    /// score ([`Kind::Id`], [`Kind::Order`], [`Kind::Sample`]) have no worse ones.
    pub threshold: Option<f32>,
    /// Most points.
    pub limit: usize,
    /// Only exact ways.
    pub exact: bool,
    /// See [`How::recall`](crate::engine::How::recall).
    pub recall: f32,
    /// See [`How::ef`](crate::engine::How::ef).
    pub ef: Option<usize>,
    /// Where examples are points of another place than the vector that is compared.
    pub lookup: Option<Lookup>,
}

impl Default for Prefetch {
    fn default() -> Self {
        Self {
            prefetch: Vec::new(),
            kind: Kind::Id,
            vector: DEFAULT_VECTOR.to_owned(),
            filter: Filter::default(),
            threshold: None,
            limit: 10,
            exact: false,
            recall: 0.98,
            ef: None,
            lookup: None,
        }
    }
}

/// Where points that are examples have their vectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lookup {
    /// The collection, if it is another one.
    pub collection: Option<String>,
    /// The vector, if it is another one than is compared.
    pub vector: Option<String>,
}

/// Something that points are compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Example {
    /// A row.
    Vector(Vec<f32>),
    /// Rows, where points have several.
    Rows(Vec<Vec<f32>>),
    /// A sparse vector.
    Sparse(SparseVector),
    /// That of a point. If it is one of the collection, it is not found itself.
    Id(PointId),
}

/// What should be near, and what should be less near.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Near.
    pub positive: Example,
    /// Less near.
    pub negative: Example,
}

impl Pair {
    fn sides(&self) -> [&Example; 2] {
        [&self.positive, &self.negative]
    }

    fn sides_mut(&mut self) -> [&mut Example; 2] {
        [&mut self.positive, &mut self.negative]
    }
}

/// What is looked for. Similarities are the cosine, the inner product, and the distance (for L2 squared) with a minus; of vectors
/// of several rows sums of them, see [`VectorShape::Multi`](crate::engine::VectorShape::Multi).
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Any points, in the order of their ids.
    Id,
    /// The nearest; of sparse vectors those that share an index. The score is the cosine, the inner product, or the distance, for
    /// L2 its root.
    Nearest(Example),
    /// Of the nearest those that are unlike each other: one after another the point with the greatest
    /// `(1 - diversity) * similarity to the query - diversity * greatest similarity to those before`.
    Diverse {
        /// What they are near.
        near: Example,
        /// 0 for the nearest, 1 for the most unlike.
        diversity: f32,
        /// How many of the nearest they are chosen from; as many as are asked for without. An offset counts among these.
        candidates: Option<usize>,
    },
    /// Near some examples and far from others.
    Recommend {
        /// Near these.
        positive: Vec<Example>,
        /// Far from these.
        negative: Vec<Example>,
        /// How both become a score.
        strategy: Strategy,
    },
    /// Near a target, on the positive side of as many pairs as there are: the score is the number of pairs on whose positive side
    /// a point is, less that of the others, plus a squashed similarity to the target in (0, 1).
    Discover {
        /// What is near.
        target: Example,
        /// Where it is looked for.
        context: Vec<Pair>,
    },
    /// On the positive side of pairs: the score is 0 for points that are on that of all, and less the farther on the other.
    Context(Vec<Pair>),
    /// Near a target, and more like examples that were rated high than like those that were rated low: the score is
    /// `a * similarity to the target`, and for each two examples the difference `d` of whose ratings is positive
    /// `c * d^b * (similarity to the one - similarity to the other)`.
    Feedback {
        /// What is near.
        target: Example,
        /// Examples and ratings.
        rated: Vec<(Example, f32)>,
        /// The weights `a`, `b`, `c`.
        weights: [f32; 3],
    },
    /// By the numbers or moments at a path, from one on. A point comes at each of its values.
    Order(Path, Direction, Option<Number>),
    /// Some points, by chance: this seed decides.
    Sample(u64),
    /// Prefetches made into one list.
    Fusion(Fusion),
    /// Points of all prefetches, by what a formula makes of them.
    Formula(Formula),
}

/// How examples become a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The nearest to the mean of the positive ones; with negative ones, to twice that less the mean of those. Of vectors of several
    /// rows it is all positive rows and the negative ones with a minus.
    AverageVector,
    /// The squashed similarity to the most similar example, negative if it is a negative one.
    BestScore,
    /// Similarities to the positive ones less those to the negative ones.
    SumScores,
}

/// How lists become one.
#[derive(Clone, Debug, PartialEq)]
pub enum Fusion {
    /// The sum of `1 / ((rank + 1) / weight + k - 1)`, ranks from 0 on; nothing for a weight of 0 or less.
    ReciprocalRank {
        /// How little first ranks count more than others.
        k: u32,
        /// One for each list; 1 without.
        weights: Option<Vec<f32>>,
    },
    /// The sum of scores, those of each list on a scale on which their mean is 0.5 and three standard deviations are 0.5.
    DistributionBased,
}

/// `k` of [`Fusion::ReciprocalRank`] where none is given.
pub const RANK_K: u32 = 2;

impl Kind {
    /// Its name, as in [`StageFacts`](super::StageFacts).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Nearest(_) => "nearest",
            Self::Diverse { .. } => "mmr",
            Self::Recommend { .. } => "recommend",
            Self::Discover { .. } => "discover",
            Self::Context(_) => "context",
            Self::Feedback { .. } => "relevance_feedback",
            Self::Order(..) => "order_by",
            Self::Sample(_) => "sample",
            Self::Fusion(_) => "fusion",
            Self::Formula(_) => "formula",
        }
    }

    /// All examples: the target first, positive before negative ones, pair after pair.
    pub(super) fn examples(&self) -> Vec<&Example> {
        match self {
            Self::Nearest(example) | Self::Diverse { near: example, .. } => vec![example],
            Self::Recommend { positive, negative, .. } => positive.iter().chain(negative).collect(),
            Self::Discover { target, context } => {
                [target].into_iter().chain(context.iter().flat_map(Pair::sides)).collect()
            }
            Self::Context(pairs) => pairs.iter().flat_map(Pair::sides).collect(),
            Self::Feedback { target, rated, .. } => {
                [target].into_iter().chain(rated.iter().map(|(example, _)| example)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The same, in the same order.
    fn examples_mut(&mut self) -> Vec<&mut Example> {
        match self {
            Self::Nearest(example) | Self::Diverse { near: example, .. } => vec![example],
            Self::Recommend { positive, negative, .. } => {
                positive.iter_mut().chain(negative).collect()
            }
            Self::Discover { target, context } => {
                [target].into_iter().chain(context.iter_mut().flat_map(Pair::sides_mut)).collect()
            }
            Self::Context(pairs) => pairs.iter_mut().flat_map(Pair::sides_mut).collect(),
            Self::Feedback { target, rated, .. } => {
                [target].into_iter().chain(rated.iter_mut().map(|(example, _)| example)).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Query {
    /// The query with the vectors of those examples that are points of other collections, which `find` opens. To be done before
    /// it is answered: an answer is of one version of one collection.
    ///
    /// # Errors
    /// Those of `find`; `id_not_found` for a point that is not there or that the tenant may not read, `vector_not_found`,
    /// `vector_name`; those of reading.
    pub fn looked_up(
        mut self,
        tenant: Option<&str>,
        find: &mut dyn FnMut(&str) -> Result<Arc<Collection>>,
    ) -> Result<Self> {
        self.stage.look_up(tenant, find)?;
        Ok(self)
    }
}

impl Prefetch {
    fn look_up(
        &mut self,
        tenant: Option<&str>,
        find: &mut dyn FnMut(&str) -> Result<Arc<Collection>>,
    ) -> Result<()> {
        self.prefetch.iter_mut().try_for_each(|inner| inner.look_up(tenant, find))?;
        let vector = self.looked_up_vector().to_owned();
        let Some(name) = self.lookup.as_ref().and_then(|lookup| lookup.collection.as_deref())
        else {
            return Ok(());
        };
        let other = find(name)?;
        let mut examples = self.kind.examples_mut();
        examples.retain(|example| matches!(example, Example::Id(_)));
        for example in examples {
            let Example::Id(id) = *example else { continue };
            *example = other.vector_of(tenant, id, &vector).map_err(|error| error.within(name))?;
        }
        Ok(())
    }

    /// The name of the vector that points have as examples.
    pub(super) fn looked_up_vector(&self) -> &str {
        let other = self.lookup.as_ref().and_then(|lookup| lookup.vector.as_deref());
        other.unwrap_or(&self.vector)
    }
}
