//! A filter becomes the exact set of slots that pass it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::core::ids::PointId;
use crate::error::Result;
use crate::plan::filter::estimate::{as_property, estimate_condition, is_one_property};
use crate::plan::filter::field::{Known, ask, mark};
use crate::plan::filter::plain::{self, Point};
use crate::plan::filter::{Condition, Filter, Test};
use crate::store::columns::Columns;
use crate::store::columns::marked::Marked;
use crate::store::columns::path::Path;

/// What is left of the points is looked at for each condition if it is fewer than all by this factor.
const FEW: u64 = 128;

/// What an evaluation needs to know of the points besides their columns.
pub trait Points {
    /// The slots that hold a point.
    fn live(&self) -> &RoaringBitmap;
    /// The slots of those of these points that there are.
    ///
    /// # Errors
    /// Those of reading.
    fn slots(&self, ids: &[PointId]) -> Result<RoaringBitmap>;
    /// The id of the point in a live slot.
    fn id(&self, slot: u32) -> PointId;
    /// The slots with a vector of this name.
    fn with_vector(&self, name: &str) -> RoaringBitmap;
    /// Calls `visit` with the payload of each of these slots, which are live, in any order.
    ///
    /// # Errors
    /// Those of reading.
    fn read(&self, slots: &RoaringBitmap, visit: &mut dyn FnMut(u32, &Value)) -> Result<()>;
}

/// The points that pass, and what it took to know.
#[derive(Clone, Debug, Default)]
pub struct Passing {
    /// Slots of the points that pass.
    pub slots: RoaringBitmap,
    /// Slots that columns looked at, at most, the same one once per condition.
    pub rows_touched: u64,
    /// Payloads that were read, because no column could tell.
    pub payloads_read: u64,
    /// The fields whose conditions made it read payloads: indexed, they would not.
    pub read_for: Vec<String>,
}

/// The points that pass the filter.
///
/// # Errors
/// Those of [`Points::read`] and of [`Columns::field`].
pub fn evaluate(filter: &Filter, columns: &Columns, points: &dyn Points) -> Result<Passing> {
    let mut evaluation = Evaluation { columns, points, rows: 0, read_for: BTreeSet::new() };
    let Known { sure, unsure } = evaluation.filter(filter, points.live())?;
    let mut passing = Passing {
        slots: sure,
        rows_touched: evaluation.rows,
        payloads_read: unsure.len(),
        read_for: Vec::new(),
    };
    if unsure.is_empty() {
        return Ok(passing);
    }
    passing.read_for = evaluation.read_for.into_iter().collect();
    let mut names = BTreeSet::new();
    vector_names(filter, &mut names);
    let vectors: Vec<_> = names.iter().map(|name| (*name, points.with_vector(name))).collect();
    points.read(&unsure, &mut |slot, payload| {
        let has_vector =
            |name: &str| vectors.iter().any(|(own, slots)| *own == name && slots.contains(slot));
        let point = Point { payload, id: Some(points.id(slot)), has_vector: &has_vector };
        if plain::passes(filter, point) {
            passing.slots.insert(slot);
        }
    })?;
    Ok(passing)
}

fn vector_names<'a>(filter: &'a Filter, names: &mut BTreeSet<&'a str>) {
    let counted = filter.min_should.iter().flat_map(|(_, conditions)| conditions);
    let all = filter.must.iter().chain(&filter.should).chain(&filter.must_not).chain(counted);
    for condition in all {
        match condition {
            Condition::HasVector(name) => {
                names.insert(name);
            }
            Condition::Filter(filter) => vector_names(filter, names),
            // An object within a payload has no vectors.
            Condition::Nested(..) | Condition::Field(..) | Condition::HasId(_) => {}
        }
    }
}

struct Evaluation<'a> {
    columns: &'a Columns,
    points: &'a dyn Points,
    rows: u64,
    read_for: BTreeSet<String>,
}

impl<'a> Evaluation<'a> {
    /// What is known of the slots of `within`, without payloads.
    fn filter(&mut self, filter: &Filter, within: &RoaringBitmap) -> Result<Known> {
        let mut left = Left { sure: Cow::Borrowed(within), unsure: RoaringBitmap::new() };
        // Of several wide conditions, marks are combined before a set is made of what is left.
        let mut marks: Option<Marked<'a>> = None;
        let is_one = filter.must.len() + filter.must_not.len() == 1;
        for must in self.in_order(&filter.must, within.len())? {
            if !is_one && let Some(marked) = self.mark(must, &left)? {
                match &mut marks {
                    None => marks = Some(marked),
                    Some(marks) => marks.and(marked),
                }
                continue;
            }
            left = left.and_marked(marks.take());
            let possible = left.possible();
            if possible.is_empty() {
                return Ok(Known::default());
            }
            let known = self.condition(must, &possible)?;
            left = left.and(known);
        }
        for must_not in &filter.must_not {
            if let Some(marks) = &mut marks
                && let Some(marked) = self.mark(must_not, &left)?
            {
                marks.and_not(marked);
                continue;
            }
            left = left.and_marked(marks.take());
            let known = self.condition(must_not, &left.possible())?;
            left = left.and_not(known);
        }
        left = left.and_marked(marks);
        if !filter.should.is_empty() {
            let known = self.at_least(1, &filter.should, &left.possible())?;
            left = left.and(known);
        }
        if let Some((least, conditions)) = &filter.min_should {
            let known = self.at_least(*least, conditions, &left.possible())?;
            left = left.and(known);
        }
        Ok(Known { sure: left.sure.into_owned(), unsure: left.unsure })
    }

    /// Conditions that all hold, the one that is asked first before the others.
    fn in_order<'f>(
        &self,
        conditions: &'f [Condition],
        n_within: u64,
    ) -> Result<Vec<&'f Condition>> {
        if let [_] | [] = conditions {
            return Ok(conditions.iter().collect());
        }
        let estimated = |one| Ok((estimate_condition(one, self.columns, n_within)?, one));
        let mut all = conditions.iter().map(estimated).collect::<Result<Vec<_>>>()?;
        all.sort_by(|(a, _), (b, _)| a.order(b));
        Ok(all.into_iter().map(|(_, one)| one).collect())
    }

    /// What is known of at least so many of the conditions.
    fn at_least(
        &mut self,
        least: u64,
        conditions: &[Condition],
        within: &RoaringBitmap,
    ) -> Result<Known> {
        if least > conditions.len() as u64 {
            return Ok(Known::default());
        }
        if least <= 1 {
            let mut any = Known::default();
            for condition in conditions {
                let known = self.condition(condition, within)?;
                any.sure |= known.sure;
                any.unsure |= known.unsure;
            }
            any.unsure -= &any.sure;
            return Ok(any);
        }
        let least = least as usize;
        // By n: the slots of which n conditions hold, for sure and possibly.
        let (mut sure, mut possible) = (Tally::new(least), Tally::new(least));
        for condition in conditions {
            let known = self.condition(condition, within)?;
            sure.add(&known.sure);
            possible.add(&known.possible());
        }
        let (sure, possible) = (sure.last(), possible.last());
        Ok(Known { unsure: possible - &sure, sure })
    }

    fn condition(&mut self, condition: &Condition, within: &RoaringBitmap) -> Result<Known> {
        Ok(match condition {
            Condition::Field(path, test) => self.field(path, test, within)?,
            Condition::HasId(ids) => {
                self.rows += ids.len() as u64;
                (self.points.slots(ids)? & within).into()
            }
            Condition::HasVector(name) => {
                self.rows += within.len();
                (self.points.with_vector(name) & within).into()
            }
            Condition::Filter(filter) => self.filter(filter, within)?,
            Condition::Nested(path, filter) => self.nested(path, filter, within)?,
        })
    }

    fn field(&mut self, path: &Path, test: &Test, within: &RoaringBitmap) -> Result<Known> {
        let known = match self.columns.field(path)? {
            Some(field) => ask(field, test, within, &mut self.rows),
            None => Known { sure: RoaringBitmap::new(), unsure: within.clone() },
        };
        if !known.unsure.is_empty() {
            self.read_for.insert(path.to_string());
        }
        Ok(known)
    }

    /// Marks the slots that pass a condition on a field, where that is worth while for what is left.
    fn mark(&mut self, condition: &Condition, left: &Left<'_>) -> Result<Option<Marked<'a>>> {
        let Condition::Field(path, test) = condition else { return Ok(None) };
        let n_left = left.sure.len() + left.unsure.len();
        if n_left < self.points.live().len() / FEW {
            return Ok(None);
        }
        let field = self.columns.field(path)?;
        Ok(field.and_then(|field| mark(field, test, &mut self.rows)))
    }

    /// Which element of an array has a property is not known to columns: they tell which slots have one that has it.
    fn nested(&mut self, path: &Path, filter: &Filter, within: &RoaringBitmap) -> Result<Known> {
        let is_exact = is_one_property(filter);
        let mut possible = Cow::Borrowed(within);
        for (sub, test) in filter.must.iter().filter_map(as_property) {
            let Some(field) = self.columns.field(&path.each(sub))? else { continue };
            let known = ask(field, test, &possible, &mut self.rows);
            if is_exact && known.unsure.is_empty() {
                return Ok(known);
            }
            possible = Cow::Owned(known.possible());
        }
        if !possible.is_empty() {
            self.read_for.insert(path.to_string());
        }
        Ok(Known { sure: RoaringBitmap::new(), unsure: possible.into_owned() })
    }
}

/// What is left of the slots that a filter began with.
struct Left<'a> {
    sure: Cow<'a, RoaringBitmap>,
    unsure: RoaringBitmap,
}

impl<'a> Left<'a> {
    fn possible(&self) -> Cow<'_, RoaringBitmap> {
        if self.unsure.is_empty() {
            return Cow::Borrowed(&self.sure);
        }
        Cow::Owned(&*self.sure | &self.unsure)
    }

    fn and_marked(self, marked: Option<Marked<'_>>) -> Left<'a> {
        let Some(marked) = marked else { return self };
        let known = Known::from(marked.within(&self.possible()));
        self.and(known)
    }

    /// `known` is of the possible slots.
    fn and(self, known: Known) -> Left<'a> {
        if self.unsure.is_empty() {
            return Left { sure: Cow::Owned(known.sure), unsure: known.unsure };
        }
        let sure = &*self.sure & &known.sure;
        let unsure = known.possible() - &sure;
        Left { sure: Cow::Owned(sure), unsure }
    }

    /// `known` is of the possible slots.
    fn and_not(self, known: Known) -> Left<'a> {
        if self.unsure.is_empty() && known.unsure.is_empty() {
            return Left { sure: Cow::Owned(&*self.sure - known.sure), unsure: known.unsure };
        }
        let possible = self.possible().into_owned() - &known.sure;
        let sure = self.sure.into_owned() - known.possible();
        Left { unsure: possible - &sure, sure: Cow::Owned(sure) }
    }
}

/// Slots by how many of the sets seen so far they were in: `with[n]` of at least n + 1.
struct Tally {
    with: Vec<RoaringBitmap>,
}

impl Tally {
    fn new(n: usize) -> Self {
        Self { with: vec![RoaringBitmap::new(); n] }
    }

    fn add(&mut self, slots: &RoaringBitmap) {
        for n in (0..self.with.len()).rev() {
            let (fewer, rest) = self.with.split_at_mut(n);
            match fewer.last() {
                Some(fewer) => rest[0] |= fewer & slots,
                None => rest[0] |= slots,
            }
        }
    }

    fn last(mut self) -> RoaringBitmap {
        self.with.pop().expect("a tally counts to two or more")
    }
}
