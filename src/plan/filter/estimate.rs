//! What a filter would cost, from counts alone.

use std::cmp::Ordering;

use crate::error::Result;
use crate::plan::filter::field::expect;
use crate::plan::filter::{Condition, Filter, Test};
use crate::store::columns::Columns;
use crate::store::columns::path::Path;

/// Upper bounds, known before the filter is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Points that pass.
    pub at_most: u64,
    /// Slots that columns look at, the same one once per condition.
    pub rows_touched: u64,
    /// Payloads that are read.
    pub payloads_read: u64,
}

impl Estimate {
    /// The same among `n` slots only.
    pub(super) fn within(self, n: u64) -> Self {
        let (at_most, payloads_read) = (self.at_most.min(n), self.payloads_read.min(n));
        Self { at_most, payloads_read, ..self }
    }

    /// Which of two conditions is asked first: without payloads before with, the narrow before the wide.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let key = |e: &Self| (e.payloads_read > 0, e.at_most, e.rows_touched);
        key(self).cmp(&key(other))
    }
}

/// What evaluating the filter over `n_points` points would cost.
///
/// # Errors
/// Those of [`Columns::field`].
pub fn estimate(filter: &Filter, columns: &Columns, n_points: u64) -> Result<Estimate> {
    let mut total = Estimate { at_most: n_points, rows_touched: 0, payloads_read: 0 };
    let one = |condition: &Condition| estimate_condition(condition, columns, n_points);
    let mut musts = filter.must.iter().map(one).collect::<Result<Vec<Estimate>>>()?;
    musts.sort_by(Estimate::order);
    for must in musts {
        total.and(must.within(total.at_most));
    }
    let sum = |conditions: &[Condition]| {
        conditions.iter().map(one).try_fold(
            Estimate { at_most: 0, rows_touched: 0, payloads_read: 0 },
            |sum, one| {
                let one = one?;
                Ok(Estimate {
                    at_most: sum.at_most.saturating_add(one.at_most),
                    rows_touched: sum.rows_touched.saturating_add(one.rows_touched),
                    payloads_read: sum.payloads_read.saturating_add(one.payloads_read),
                })
            },
        )
    };
    if !filter.must_not.is_empty() {
        total.and(Estimate { at_most: n_points, ..sum(&filter.must_not)? });
    }
    if !filter.should.is_empty() {
        total.and(sum(&filter.should)?);
    }
    if let Some((least, conditions)) = &filter.min_should {
        let all = sum(conditions)?;
        total.and(Estimate { at_most: all.at_most / (*least).max(1), ..all });
    }
    Ok(total.within(total.at_most))
}

impl Estimate {
    fn and(&mut self, other: Self) {
        self.at_most = self.at_most.min(other.at_most);
        self.rows_touched = self.rows_touched.saturating_add(other.rows_touched);
        self.payloads_read = self.payloads_read.saturating_add(other.payloads_read);
    }
}

pub(super) fn estimate_condition(
    condition: &Condition,
    columns: &Columns,
    n_within: u64,
) -> Result<Estimate> {
    let unknown = Estimate { at_most: n_within, rows_touched: 0, payloads_read: n_within };
    Ok(match condition {
        Condition::Field(path, test) => {
            columns.field(path)?.map_or(unknown, |field| expect(field, test, n_within))
        }
        Condition::HasId(ids) => {
            let n = ids.len() as u64;
            Estimate { at_most: n, rows_touched: n, payloads_read: 0 }.within(n_within)
        }
        Condition::HasVector(_) => {
            Estimate { at_most: n_within, rows_touched: n_within, payloads_read: 0 }
        }
        Condition::Filter(filter) => estimate(filter, columns, n_within)?,
        Condition::Nested(path, filter) => {
            let mut total = Estimate { at_most: n_within, rows_touched: 0, payloads_read: 0 };
            let (mut n_indexed, mut n_read) = (0, 0);
            for (sub, test) in filter.must.iter().filter_map(as_property) {
                let Some(field) = columns.field(&path.each(sub))? else { continue };
                let one = expect(field, test, n_within);
                total.and(one);
                n_indexed += 1;
                n_read += one.payloads_read;
            }
            let is_exact = n_indexed == 1 && n_read == 0 && is_one_property(filter);
            let payloads_read = if is_exact { 0 } else { total.at_most };
            Estimate { payloads_read, ..total }
        }
    })
}

/// The path and the test of a condition on a field that asks for a property.
pub(super) fn as_property(condition: &Condition) -> Option<(&Path, &Test)> {
    match condition {
        Condition::Field(path, test @ Test::Any(_)) => Some((path, test)),
        _ => None,
    }
}

/// Whether a filter on the elements of an array asks for one property of one field: then it does not matter which
/// element has it.
pub(super) fn is_one_property(filter: &Filter) -> bool {
    matches!(filter.must[..], [Condition::Field(_, Test::Any(_))])
        && filter.should.is_empty()
        && filter.must_not.is_empty()
        && filter.min_should.is_none()
}
