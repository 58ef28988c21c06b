//! Bodies of queries: of one, of several, in groups, of a matrix, and as older clients ask for recommendations.
//!
//! In: JSON, whose keys the caller has found to be each there once. Out: what the engine is asked. Next: `kind`, what is looked
//! for; `formula`. Unknown keys, wrong types and numbers out of range are refused with their place; texts
//! to embed are refused by name.

mod formula;
mod kind;
mod node;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::engine::query::{GroupQuery, Kind, Lookup, MatrixQuery, Prefetch, Query};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::filter::Filter;
use crate::server::pace;
use crate::server::qdrant::query::kind::kind;
use crate::server::qdrant::query::node::Node;

/// Groups where no limit is given.
const GROUPS: usize = 10;

/// Points of a group where no size is given.
const GROUP_SIZE: usize = 3;

/// Keys of every stage.
const STAGE: [&str; 8] =
    ["prefetch", "query", "using", "filter", "params", "score_threshold", "limit", "lookup_from"];

/// Keys of the last stage beside those.
const WANTED: [&str; 3] = ["with_payload", "with_vector", "shard_key"];

/// A query, and what is wanted of the points that it finds.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryRequest {
    /// The query.
    pub query: Query,
    /// What is wanted.
    pub wanted: Wanted,
}

/// What is wanted of points, as it was sent: null where nothing was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// The value of `with_payload`.
    pub payload: Value,
    /// The value of `with_vector`, or `with_vectors`.
    pub vector: Value,
}

/// A query in groups.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupsRequest {
    /// The query.
    pub query: GroupQuery,
    /// What is wanted of its points.
    pub wanted: Wanted,
    /// Where each group is a point.
    pub lookup: Option<GroupLookup>,
}

/// The collection in which groups are points.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupLookup {
    /// Its name.
    pub collection: String,
    /// What is wanted of those points.
    pub wanted: Wanted,
}

/// A matrix, and of which points.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixRequest {
    /// What they pass.
    pub filter: Filter,
    /// The matrix.
    pub matrix: MatrixQuery,
}

/// Where a body comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The collection that is asked: looking up in it is no look-up.
    pub collection: &'a str,
    /// Decides what samples are taken.
    pub seed: u64,
}

impl Source<'_> {
    /// The body of `POST /collections/{collection}/points/query`.
    ///
    /// # Errors
    /// `query_key`, `query_type`, `query_value`, `query_range` and `vector_not_offered` name the place, what was expected and what
    /// was received; those of [`Query::check`] and of [`Filter::from_json`].
    pub fn query(&self, body: &Value) -> Result<QueryRequest> {
        self.one(Node::root(body))
    }

    /// The body of `POST /collections/{collection}/points/query/batch`, of at most `limit` queries.
    ///
    /// # Errors
    /// Those of [`Self::query`]; `batch_size`.
    pub fn batch(&self, body: &Value, limit: usize) -> Result<Vec<QueryRequest>> {
        let root = Node::root(body);
        let searches = root.need(root.object(&["searches"])?, "searches")?;
        if let Some(n) = searches.value.as_array().map(Vec::len).filter(|n| *n > limit) {
            let message = format!("searches: {n} queries, limit {limit}");
            return Err(Error::new(ErrorKind::Limit, "batch_size", message));
        }
        searches.each("queries", |node| {
            pace::give_way();
            self.one(node)
        })
    }

    /// The body of `POST /collections/{collection}/points/query/groups`.
    ///
    /// # Errors
    /// Those of [`Self::query`] and of [`GroupQuery::check`].
    pub fn groups(&self, body: &Value) -> Result<GroupsRequest> {
        let node = Node::root(body);
        let own = ["group_by", "group_size", "with_lookup"];
        let map = node.object(&[&STAGE[..], &WANTED, &own].concat())?;
        let stage = self.stage(node, map)?;
        let query = GroupQuery {
            query: Query { stage, offset: 0 },
            by: node.need(map, "group_by")?.path()?,
            n_groups: node.read(map, "limit", |node| node.count(1))?.unwrap_or(GROUPS),
            size: node.read(map, "group_size", |node| node.count(1))?.unwrap_or(GROUP_SIZE),
        };
        query.check()?;
        let lookup = node.read(map, "with_lookup", group_lookup)?;
        Ok(GroupsRequest { query, wanted: wanted(node, map)?, lookup })
    }

    /// The body of `POST /collections/{collection}/points/search/matrix/pairs`, and of `offsets`.
    ///
    /// # Errors
    /// Those of [`Self::query`].
    pub fn matrix(&self, body: &Value) -> Result<MatrixRequest> {
        let node = Node::root(body);
        let map = node.object(&["shard_key", "filter", "sample", "limit", "using"])?;
        no_shards(node, map)?;
        let default = MatrixQuery::default();
        let count = |key| node.read(map, key, |node| node.count(1));
        let matrix = MatrixQuery {
            sample: count("sample")?.unwrap_or(default.sample),
            limit: count("limit")?.unwrap_or(default.limit),
            vector: using(node, map)?.unwrap_or(default.vector),
            seed: self.seed,
        };
        Ok(MatrixRequest { filter: filter(node, map)?, matrix })
    }

    fn one(&self, node: Node<'_>) -> Result<QueryRequest> {
        let map = node.object(&[&STAGE[..], &WANTED, &["offset"]].concat())?;
        let offset = node.read(map, "offset", |node| node.count(0))?.unwrap_or(0);
        let query = Query { stage: self.stage(node, map)?, offset };
        query.check()?;
        Ok(QueryRequest { query, wanted: wanted(node, map)? })
    }

    fn prefetch(&self, node: Node<'_>) -> Result<Prefetch> {
        self.stage(node, node.object(&STAGE)?)
    }

    fn stage(&self, node: Node<'_>, map: &Map<String, Value>) -> Result<Prefetch> {
        let default = Prefetch::default();
        let prefetches =
            |node: Node<'_>| node.one_or_each("prefetches", |node| self.prefetch(node));
        let (exact, ef) = node.read(map, "params", params)?.unwrap_or_default();
        Ok(Prefetch {
            prefetch: node.read(map, "prefetch", prefetches)?.unwrap_or_default(),
            kind: node.read(map, "query", |node| kind(node, self.seed))?.unwrap_or(Kind::Id),
            vector: using(node, map)?.unwrap_or(default.vector),
            filter: filter(node, map)?,
            threshold: node.read(map, "score_threshold", |node| node.float())?,
            limit: node.read(map, "limit", |node| node.count(1))?.unwrap_or(default.limit),
            exact,
            ef: ef.filter(|_| !exact),
            recall: default.recall,
            lookup: node.read(map, "lookup_from", |node| self.lookup(node))?,
        })
    }

    fn lookup(&self, node: Node<'_>) -> Result<Lookup> {
        let map = node.object(&["collection", "vector", "shard_key"])?;
        no_shards(node, map)?;
        let collection = node.need(map, "collection")?.string()?;
        let collection = (collection != self.collection).then(|| collection.to_owned());
        let vector = node.read(map, "vector", |node| node.string().map(str::to_owned))?;
        Ok(Lookup { collection, vector: vector.filter(|name| !name.is_empty()) })
    }
}

/// The name of a vector; an empty one is that of the only vector.
fn using(node: Node<'_>, map: &Map<String, Value>) -> Result<Option<String>> {
    let name = node.read(map, "using", |node| node.string().map(str::to_owned))?;
    Ok(name.filter(|name| !name.is_empty()))
}

fn filter(node: Node<'_>, map: &Map<String, Value>) -> Result<Filter> {
    let read = |node: Node<'_>| Filter::from_json(node.value).map_err(|error| error.within(node));
    Ok(node.read(map, "filter", read)?.unwrap_or_default())
}

/// Whether only exact ways are taken, and the width of the beam. What only that API's engine can use changes no answer here.
fn params(node: Node<'_>) -> Result<(bool, Option<usize>)> {
    let known = ["hnsw_ef", "exact", "quantization", "indexed_only", "acorn"];
    let map = node.object(&known)?;
    let bool = |node: Node<'_>| node.bool();
    node.read(map, "indexed_only", bool)?;
    node.read(map, "quantization", |node| {
        let map = node.object(&["ignore", "rescore", "oversampling"])?;
        node.read(map, "ignore", bool)?;
        node.read(map, "rescore", bool)?;
        node.read(map, "oversampling", |node| node.number())
    })?;
    node.read(map, "acorn", |node| {
        let map = node.object(&["enable", "max_selectivity"])?;
        node.read(map, "enable", bool)?;
        node.read(map, "max_selectivity", |node| node.number())
    })?;
    let exact = node.read(map, "exact", bool)?.unwrap_or(false);
    Ok((exact, node.read(map, "hnsw_ef", |node| node.count(1))?))
}

fn wanted(node: Node<'_>, map: &Map<String, Value>) -> Result<Wanted> {
    no_shards(node, map)?;
    let sent = |key: &str| map.get(key).cloned().unwrap_or_default();
    Ok(Wanted { payload: sent("with_payload"), vector: sent("with_vector") })
}

fn group_lookup(node: Node<'_>) -> Result<GroupLookup> {
    if let Value::String(name) = node.value {
        return Ok(GroupLookup { collection: name.clone(), wanted: Wanted::default() });
    }
    let map = node.object(&["collection", "with_payload", "with_vectors"])?;
    let collection = node.need(map, "collection")?.string()?.to_owned();
    let sent = |key: &str| map.get(key).cloned().unwrap_or_default();
    let wanted = Wanted { payload: sent("with_payload"), vector: sent("with_vectors") };
    Ok(GroupLookup { collection, wanted })
}

fn no_shards(node: Node<'_>, map: &Map<String, Value>) -> Result<()> {
    match node.get(map, "shard_key") {
        None => Ok(()),
        Some(node) => Err(node.refuse("query_key", "none: there are no shards")),
    }
}
