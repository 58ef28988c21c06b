//! What is looked for: the value at `query`.

use serde_json::Value;

use crate::core::ids::PointId;
use crate::core::sparse::SparseVector;
use crate::engine::Direction;
use crate::engine::query::{Example, Fusion, Kind, Pair, RANK_K, Strategy};
use crate::error::{Error, ErrorKind, Result};
use crate::server::qdrant::numbers;
use crate::server::qdrant::query::formula::formula;
use crate::server::qdrant::query::node::Node;
use crate::store::columns::datetime;
use crate::store::columns::number::Number;

/// `diversity` where none is given.
const DIVERSITY: f32 = 0.5;

const KINDS: [&str; 10] = [
    "nearest",
    "recommend",
    "discover",
    "context",
    "order_by",
    "fusion",
    "rrf",
    "formula",
    "sample",
    "relevance_feedback",
];

/// Keys of what would have to be embedded, and what it is.
const TO_EMBED: [(&str, &str); 3] =
    [("text", "a text to embed"), ("image", "an image to embed"), ("object", "an object to embed")];

/// The kind that a query is; `seed` decides samples.
pub(super) fn kind(node: Node<'_>, seed: u64) -> Result<Kind> {
    let Value::Object(map) = node.value else { return Ok(Kind::Nearest(example(node)?)) };
    let Some(name) = KINDS.into_iter().find(|kind| map.contains_key(*kind)) else {
        return Ok(Kind::Nearest(example(node)?));
    };
    let beside: &[&str] = match name {
        "nearest" => &["nearest", "mmr"],
        "formula" => &["formula", "defaults"],
        _ => &[name],
    };
    let map = node.object(beside)?;
    let inner = node.need(map, name)?;
    match name {
        "nearest" => match node.get(map, "mmr") {
            Some(mmr) => diverse(example(inner)?, mmr),
            None => Ok(Kind::Nearest(example(inner)?)),
        },
        "recommend" => recommend(inner),
        "discover" => {
            let map = inner.object(&["target", "context"])?;
            let target = example(inner.need(map, "target")?)?;
            let context = inner.read(map, "context", pairs)?.unwrap_or_default();
            Ok(Kind::Discover { target, context })
        }
        "context" => Ok(Kind::Context(pairs(inner)?)),
        "order_by" => order(inner),
        "fusion" => match inner.string()? {
            "rrf" => Ok(Kind::Fusion(Fusion::ReciprocalRank { k: RANK_K, weights: None })),
            "dbsf" => Ok(Kind::Fusion(Fusion::DistributionBased)),
            _ => Err(inner.refuse("query_value", "\"rrf\" or \"dbsf\"")),
        },
        "rrf" => ranks(inner),
        "formula" => Ok(Kind::Formula(formula(inner, node.get(map, "defaults"))?)),
        "sample" => match inner.string()? {
            "random" => Ok(Kind::Sample(seed)),
            _ => Err(inner.refuse("query_value", "\"random\"")),
        },
        _ => feedback(inner),
    }
}

/// A vector, or the id of a point that has one.
pub(super) fn example(node: Node<'_>) -> Result<Example> {
    if let Some(numbers) = node.value.as_str().and_then(numbers::referred) {
        return Ok(Example::Vector(numbers.map_err(|error| error.within(node))?));
    }
    match node.value {
        Value::Array(list) if list.first().is_some_and(|one| one.is_array() || one.is_string()) => {
            Ok(Example::Rows(node.each("lists of numbers", floats)?))
        }
        Value::Array(_) => Ok(Example::Vector(node.each("numbers", |node| node.float())?)),
        Value::Object(map) if map.contains_key("indices") || map.contains_key("values") => {
            Ok(Example::Sparse(sparse(node)?))
        }
        Value::Object(map) => match TO_EMBED.iter().find(|(key, _)| map.contains_key(*key)) {
            Some((_, what)) => Err(not_offered(node, what)),
            None => Err(node.wrong_type(&format!("a vector, an id, or {}", KINDS.join(", ")))),
        },
        _ => Ok(Example::Id(id(node)?)),
    }
}

/// A list of numbers, or what refers to some behind the head.
fn floats(node: Node<'_>) -> Result<Vec<f32>> {
    match node.value.as_str().and_then(numbers::referred) {
        Some(numbers) => numbers.map_err(|error| error.within(node)),
        None => node.each("numbers", |node| node.float()),
    }
}

fn sparse(node: Node<'_>) -> Result<SparseVector> {
    let map = node.object(&["indices", "values"])?;
    let index = |node: Node<'_>| {
        let index = node.value.as_u64().and_then(|index| u32::try_from(index).ok());
        index.ok_or_else(|| node.wrong_type("an unsigned 32-bit integer"))
    };
    let indices = node.need(map, "indices")?.each("indices", index)?;
    let values = floats(node.need(map, "values")?)?;
    SparseVector::new(indices, values).map_err(|error| error.within(node))
}

fn not_offered(node: Node<'_>, what: &str) -> Error {
    let message = format!("{node}: {what}, expected a vector or the id of a point");
    Error::new(ErrorKind::BadInput, "vector_not_offered", message)
}

fn id(node: Node<'_>) -> Result<PointId> {
    let id = match node.value {
        Value::Number(number) => number.as_u64().map(PointId::Num),
        // Digits are no id here: numbers are written as such.
        Value::String(text) => text.parse().ok().filter(|id| matches!(id, PointId::Uuid(_))),
        _ => None,
    };
    id.ok_or_else(|| node.wrong_type("an unsigned 64-bit integer or a UUID"))
}

fn pairs(node: Node<'_>) -> Result<Vec<Pair>> {
    node.one_or_each("pairs", |node| {
        let map = node.object(&["positive", "negative"])?;
        let positive = example(node.need(map, "positive")?)?;
        Ok(Pair { positive, negative: example(node.need(map, "negative")?)? })
    })
}

fn diverse(near: Example, node: Node<'_>) -> Result<Kind> {
    let map = node.object(&["diversity", "candidates_limit"])?;
    let diversity = node.read(map, "diversity", |node| node.float())?.unwrap_or(DIVERSITY);
    let candidates = node.read(map, "candidates_limit", |node| node.count(1))?;
    Ok(Kind::Diverse { near, diversity, candidates })
}

fn recommend(node: Node<'_>) -> Result<Kind> {
    let map = node.object(&["positive", "negative", "strategy"])?;
    let examples = |key| Ok(node.read(map, key, examples)?.unwrap_or_default());
    let strategy = node.read(map, "strategy", strategy)?.unwrap_or(Strategy::AverageVector);
    Ok(Kind::Recommend {
        positive: examples("positive")?,
        negative: examples("negative")?,
        strategy,
    })
}

fn examples(node: Node<'_>) -> Result<Vec<Example>> {
    node.each("vectors and ids", example)
}

fn strategy(node: Node<'_>) -> Result<Strategy> {
    match node.string()? {
        "average_vector" => Ok(Strategy::AverageVector),
        "best_score" => Ok(Strategy::BestScore),
        "sum_scores" => Ok(Strategy::SumScores),
        _ => {
            Err(node.refuse("query_value", "\"average_vector\", \"best_score\" or \"sum_scores\""))
        }
    }
}

fn order(node: Node<'_>) -> Result<Kind> {
    if node.value.is_string() {
        return Ok(Kind::Order(node.path()?, Direction::Ascending, None));
    }
    let map = node.object(&["key", "direction", "start_from"])?;
    let direction = node.read(map, "direction", |node| match node.string()? {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        _ => Err(node.refuse("query_value", "\"asc\" or \"desc\"")),
    })?;
    let start = node.read(map, "start_from", |node| {
        let moment = node.value.as_str().and_then(datetime::parse);
        let moment = moment.map(|us| Number::Int(us.into()));
        let expected = "a number, or a date and time as 2024-05-31T12:00:00Z";
        moment.or_else(|| Number::of(node.value)).ok_or_else(|| node.wrong_type(expected))
    })?;
    let direction = direction.unwrap_or(Direction::Ascending);
    Ok(Kind::Order(node.need(map, "key")?.path()?, direction, start))
}

fn ranks(node: Node<'_>) -> Result<Kind> {
    let map = node.object(&["k", "weights"])?;
    let k = node.read(map, "k", |node| {
        let k = node.value.as_u64().and_then(|k| u32::try_from(k).ok()).filter(|k| *k > 0);
        k.ok_or_else(|| node.wrong_type("a whole number from 1 on"))
    })?;
    let weights = node.read(map, "weights", |node| node.each("numbers", |node| node.float()))?;
    Ok(Kind::Fusion(Fusion::ReciprocalRank { k: k.unwrap_or(RANK_K), weights }))
}

fn feedback(node: Node<'_>) -> Result<Kind> {
    let map = node.object(&["target", "feedback", "strategy"])?;
    let target = example(node.need(map, "target")?)?;
    let rated = node.need(map, "feedback")?.each("examples with scores", |node| {
        let map = node.object(&["example", "score"])?;
        Ok((example(node.need(map, "example")?)?, node.need(map, "score")?.float()?))
    })?;
    let strategy = node.need(map, "strategy")?;
    let map = strategy.object(&["naive"])?;
    let naive = strategy.need(map, "naive")?;
    let map = naive.object(&["a", "b", "c"])?;
    let weight = |key| naive.need(map, key)?.float();
    Ok(Kind::Feedback { target, rated, weights: [weight("a")?, weight("b")?, weight("c")?] })
}
