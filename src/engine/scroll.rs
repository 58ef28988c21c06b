//! Page by page through all points of a tenant and filter.

use std::cmp::Ordering;

use roaring::RoaringBitmap;

use crate::core::ids::PointId;
use crate::core::limits::PAGE;
use crate::engine::collection::Collection;
use crate::engine::search::Ask;
use crate::engine::state::State;
use crate::engine::stored::{StoredPoint, With};
use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::number::Number;
use crate::store::columns::path::Path;
use crate::store::durable::Parts;

/// Ids that are read from memory and compared in the time of one step along the record.
const IDS_PER_STEP: u64 = 64;

/// What page is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Scroll {
    /// In which order points come.
    pub order: Order,
    /// Where the page begins; at the first point without.
    pub from: Option<Offset>,
    /// Most points of the page, 1 to [`PAGE`].
    pub limit: usize,
    /// What is wanted of them.
    pub with: With,
}

impl Default for Scroll {
    fn default() -> Self {
        Self { order: Order::Id, from: None, limit: 10, with: With::default() }
    }
}

/// In which order points come.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// By id.
    Id,
    /// By the numbers and moments of a field, best an indexed one; points of one value by id. A point with several values comes at
    /// each of them; one without any does not come.
    Field(Path, Direction),
}

/// Which values come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The least.
    Ascending,
    /// The greatest.
    Descending,
}

impl Direction {
    fn order(self, a: &(Number, PointId), b: &(Number, PointId)) -> Ordering {
        let by_value = match self {
            Self::Ascending => a.0.cmp(&b.0),
            Self::Descending => b.0.cmp(&a.0),
        };
        by_value.then(a.1.cmp(&b.1))
    }
}

/// Where a page begins. What it names need not exist: the next that does is the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Offset {
    /// In the order of ids, at this one.
    Id(PointId),
    /// In the order of a field, at this value; moments are in microseconds since 1970.
    Value(Number),
    /// In the order of a field, at this point among those of this value.
    Point(Number, PointId),
}

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its points in order.
    pub points: Vec<StoredPoint>,
    /// For each the value that it came at, in the order of a field; empty in that of ids.
    pub values: Vec<Number>,
    /// Where the next page begins; none after the last.
    pub next: Option<Offset>,
}

impl Collection {
    /// A page of the points that the tenant may read and that pass. While nothing changes every one of them comes exactly once
    /// over all pages, or once at each of its values. Cost beside that of the filter and of what is wanted: in the order of ids the ids of all that match, or
    /// if that is less the steps along the record until the page is full; in that of a field the values of all that
    /// match.
    ///
    /// # Errors
    /// `page_range`, `offset_order`, `vector_name`; those of reading.
    pub fn scroll(&self, ask: &Ask, scroll: &Scroll) -> Result<Page> {
        check_limit(scroll.limit)?;
        let (settings, n) = (self.settings(), scroll.limit + 1);
        self.read_whole(|state| {
            let (mut ids, mut values) = match &scroll.order {
                Order::Id => (state.first_ids(ask, id_offset(scroll.from)?, n)?, Vec::new()),
                Order::Field(path, direction) => {
                    let first = state.first_values(ask, (path, *direction), scroll.from, n)?;
                    first.into_iter().map(|(value, id)| (id, value)).unzip()
                }
            };
            let next = (ids.len() == n).then(|| match (ids.pop(), values.pop()) {
                (Some(id), None) => Some(Offset::Id(id)),
                (Some(id), Some(value)) => Some(Offset::Point(value, id)),
                (None, _) => None,
            });
            // Whose points these are was decided above.
            let points = state.retrieve(None, &ids, &scroll.with, &settings)?;
            let points = points.into_iter().flatten().collect();
            Ok(Page { points, values, next: next.flatten() })
        })
    }
}

/// Fails if no page has so many.
///
/// # Errors
/// `page_range`.
pub(super) fn check_limit(limit: usize) -> Result<()> {
    if (1..=PAGE).contains(&limit) {
        return Ok(());
    }
    let message = format!("{limit}, expected 1 to {PAGE}");
    Err(Error::new(ErrorKind::BadInput, "page_range", message))
}

fn id_offset(from: Option<Offset>) -> Result<Option<PointId>> {
    match from {
        None => Ok(None),
        Some(Offset::Id(id)) => Ok(Some(id)),
        Some(Offset::Value(_) | Offset::Point(..)) => {
            let message = "an offset of a field in the order of ids, expected an id";
            Err(Error::new(ErrorKind::BadInput, "offset_order", message))
        }
    }
}

impl State {
    /// The first `n` ids of the matching points, from one on.
    fn first_ids(&self, ask: &Ask, from: Option<PointId>, n: usize) -> Result<Vec<PointId>> {
        let matching = self.matching(ask)?;
        match self.walked(&matching, from, n)? {
            Some(ids) => Ok(ids),
            None => Ok(self.sorted(&matching, from, n)),
        }
    }

    /// The ids by steps along the record, `None` if those take longer than sorting all.
    fn walked(
        &self,
        matching: &RoaringBitmap,
        from: Option<PointId>,
        n: usize,
    ) -> Result<Option<Vec<PointId>>> {
        let n_steps = matching.len() / IDS_PER_STEP;
        let mut found = Vec::new();
        if n as u64 > n_steps {
            return Ok(None);
        }
        let mut points = self.view.points(from, Parts::None)?;
        for _ in 0..n_steps {
            let Some(point) = points.next().transpose()? else { return Ok(Some(found)) };
            if self.places.place(point.slot).is_some_and(|place| matching.contains(place)) {
                found.push(point.id);
            }
            if found.len() == n {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The ids by sorting those of all places.
    fn sorted(&self, matching: &RoaringBitmap, from: Option<PointId>, n: usize) -> Vec<PointId> {
        let ids = matching.iter().map(|place| self.places.id(place));
        let ids = ids.filter(|id| from.is_none_or(|from| *id >= from)).collect();
        first(ids, n, PointId::cmp)
    }

    /// The first `n` of the matching points with a value, and at which.
    fn first_values(
        &self,
        ask: &Ask,
        (path, direction): (&Path, Direction),
        from: Option<Offset>,
        n: usize,
    ) -> Result<Vec<(Number, PointId)>> {
        let start = match from {
            None => None,
            Some(Offset::Value(value)) => Some((value, PointId::Num(0))),
            Some(Offset::Point(value, id)) => Some((value, id)),
            Some(Offset::Id(_)) => {
                let message = format!("an id in the order of {path}, expected a value");
                return Err(Error::new(ErrorKind::BadInput, "offset_order", message));
            }
        };
        let mut all = Vec::new();
        self.each_value(&*self.matching(ask)?, path, &mut |place, value| {
            let at = (value, self.places.id(place));
            if start.is_none_or(|start| direction.order(&at, &start) != Ordering::Less) {
                all.push(at);
            }
        })?;
        Ok(first(all, n, |a, b| direction.order(a, b)))
    }
}

/// The first `n` in order.
pub(super) fn first<T>(mut all: Vec<T>, n: usize, order: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if all.len() > n {
        all.select_nth_unstable_by(n - 1, &order);
        all.truncate(n);
    }
    all.sort_unstable_by(order);
    all
}
