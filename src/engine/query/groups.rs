//! The points of a query by the values of a payload field, some of each.

use std::collections::HashMap;

use crate::core::ids::PointId;
use crate::core::limits::PAGE;
use crate::engine::collection::Collection;
use crate::engine::query::check::bad;
use crate::engine::query::request::{Kind, Prefetch, Query};
use crate::engine::query::score::Ranked;
use crate::engine::query::stage::{Walk, Window};
use crate::engine::query::{QueriedPoint, StageFacts};
use crate::engine::stored::With;
use crate::error::Result;
use crate::plan::filter::Points;
use crate::store::columns::path::{Path, elements};

/// Payloads that are looked at before it is asked whether more are needed.
const BLOCK: usize = 1024;

/// How many more points are looked for where those that were found do not fill the groups.
const WIDER: usize = 8;

/// What is asked for, in groups.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupQuery {
    /// The points, all of which are looked at: its limit, its offset and those of its prefetches mean nothing here.
    pub query: Query,
    /// The field by whose strings and whole numbers points are grouped; a point is in the group of each.
    pub by: Path,
    /// Most groups.
    pub n_groups: usize,
    /// Most points of each.
    pub size: usize,
}

/// What the points of a group share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupKey {
    /// A whole number.
    Integer(i128),
    /// A string.
    Keyword(String),
}

impl GroupKey {
    fn of(value: &serde_json::Value) -> Option<Self> {
        let whole = || value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
        match value {
            serde_json::Value::String(text) => Some(Self::Keyword(text.clone())),
            _ => whole().map(Self::Integer),
        }
    }

    /// The point that has this name, in collections where groups are points.
    pub fn point(&self) -> Option<PointId> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok().map(PointId::Num),
            // A string of digits names no point: numbers are written as such.
            Self::Keyword(text) => text.parse().ok().filter(|id| matches!(id, PointId::Uuid(_))),
        }
    }
}

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    /// What its points share.
    pub key: GroupKey,
    /// Its best points in their order.
    pub points: Vec<QueriedPoint>,
}

/// Groups in the order of their first points.
#[derive(Clone, Debug)]
pub struct Grouped {
    /// The groups.
    pub groups: Vec<Group>,
    /// What every stage found, each after its prefetches.
    pub stages: Vec<StageFacts>,
}

impl GroupQuery {
    /// Fails if nobody can be asked so.
    ///
    /// # Errors
    /// Those of [`Query::check`]; `query_range`.
    pub fn check(&self) -> Result<()> {
        self.query.check()?;
        for (name, n) in [("limit", self.n_groups), ("group_size", self.size)] {
            if !(1..=PAGE).contains(&n) {
                return Err(bad("query_range", format!("{name}: {n}, expected 1 to {PAGE}")));
            }
        }
        if self.n_groups.saturating_mul(self.size) > PAGE {
            let message = format!(
                "limit: {} groups of {} points, expected at most {PAGE} together",
                self.n_groups, self.size
            );
            return Err(bad("query_range", message));
        }
        Ok(())
    }
}

impl Collection {
    /// The first groups of the points of a query, as [`Self::query`] would list them all.
    ///
    /// # Errors
    /// Those of [`GroupQuery::check`] and of [`Self::query`].
    pub fn query_groups(
        &self,
        tenant: Option<&str>,
        ask: &GroupQuery,
        with: &With,
    ) -> Result<Grouped> {
        ask.check()?;
        self.walk(tenant, |walk| {
            let groups = walk.groups(ask)?;
            let all: Vec<Ranked> = groups.iter().flat_map(|(_, points)| points).copied().collect();
            let mut points = walk.shown(&all, with)?.into_iter();
            let group = |(key, own): (GroupKey, Vec<Ranked>)| Group {
                key,
                points: points.by_ref().take(own.len()).collect(),
            };
            let groups = groups.into_iter().map(group).collect();
            Ok(Grouped { groups, stages: std::mem::take(&mut walk.stages) })
        })
    }
}

/// Groups that were begun, in order, and where each is.
#[derive(Default)]
struct Begun {
    groups: Vec<(GroupKey, Vec<Ranked>)>,
    by_key: HashMap<GroupKey, usize>,
}

impl Begun {
    fn add(&mut self, ask: &GroupQuery, point: Ranked, keys: Vec<GroupKey>) {
        for key in keys {
            let at = match self.by_key.get(&key) {
                Some(at) => *at,
                None if self.groups.len() == ask.n_groups => continue,
                None => {
                    self.by_key.insert(key.clone(), self.groups.len());
                    self.groups.push((key, Vec::new()));
                    self.groups.len() - 1
                }
            };
            let points = &mut self.groups[at].1;
            if points.len() < ask.size {
                points.push(point);
            }
        }
    }

    fn is_full(&self, ask: &GroupQuery) -> bool {
        self.groups.len() == ask.n_groups
            && self.groups.iter().all(|(_, points)| points.len() == ask.size)
    }
}

impl Walk<'_> {
    /// The groups. Of the nearest as many are looked for as fill them; of other kinds all are scored anyway.
    fn groups(&mut self, ask: &GroupQuery) -> Result<Vec<(GroupKey, Vec<Ranked>)>> {
        let n_all = self.state.n_points().max(1) as usize;
        let is_growing = matches!(ask.query.stage.kind, Kind::Nearest(_));
        let stage = unlimited(&ask.query.stage, n_all);
        let least = ask.n_groups.saturating_mul(ask.size).saturating_mul(2);
        let mut n = if is_growing { least.clamp(1, n_all) } else { n_all };
        loop {
            self.stages.clear();
            let points = self.stage(&stage, "", Window::first(n))?;
            let (begun, is_all) = (self.begun(ask, &points)?, n == n_all || points.len() < n);
            if is_all || begun.is_full(ask) {
                return Ok(begun.groups);
            }
            n = n.saturating_mul(WIDER).min(n_all);
        }
    }

    fn begun(&self, ask: &GroupQuery, points: &[Ranked]) -> Result<Begun> {
        let mut begun = Begun::default();
        for block in points.chunks(BLOCK) {
            let mut keys: HashMap<u32, Vec<GroupKey>> = HashMap::new();
            let places = block.iter().map(|point| point.place).collect();
            self.state.read(&places, &mut |place, payload| {
                let mut own: Vec<GroupKey> = Vec::new();
                for value in elements(&ask.by.values(payload)) {
                    own.extend(GroupKey::of(value).filter(|key| !own.contains(key)));
                }
                keys.insert(place, own);
            })?;
            for point in block {
                begun.add(ask, *point, keys.get(&point.place).cloned().unwrap_or_default());
            }
            if begun.is_full(ask) {
                break;
            }
        }
        Ok(begun)
    }
}

/// A stage whose prefetches find all that they can.
fn unlimited(stage: &Prefetch, n_all: usize) -> Prefetch {
    let prefetch = stage.prefetch.iter().map(|inner| unlimited(inner, n_all)).collect();
    Prefetch { prefetch, limit: n_all, ..stage.clone() }
}
