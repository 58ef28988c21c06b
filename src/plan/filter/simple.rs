//! Fewer conditions that say the same: each is a look at a column.

use std::mem;

use crate::core::limits::FILTER_VALUES;
use crate::plan::filter::{Condition, Filter, Property, Test};
use crate::store::columns::path::Path;

impl Filter {
    /// A filter that the same points pass: of several conditions of `should` that want one of some values at one path, one that
    /// wants any of them; in the place of a filter that must hold, what must hold for it.
    pub fn simplified(mut self) -> Self {
        self.should = any_of(simplified(self.should));
        if self.should.len() == 1 {
            self.must.append(&mut self.should);
        }
        self.must_not = simplified(self.must_not);
        for condition in mem::take(&mut self.must) {
            match simple(condition) {
                Condition::Filter(mut inner)
                    if inner.should.is_empty() && inner.min_should.is_none() =>
                {
                    self.must.append(&mut inner.must);
                    self.must_not.append(&mut inner.must_not);
                }
                other => self.must.push(other),
            }
        }
        if let Some((_, conditions)) = &mut self.min_should {
            *conditions = simplified(mem::take(conditions));
        }
        self
    }
}

fn simplified(conditions: Vec<Condition>) -> Vec<Condition> {
    conditions.into_iter().map(simple).collect()
}

fn simple(condition: Condition) -> Condition {
    match condition {
        Condition::Nested(path, filter) => Condition::Nested(path, filter.simplified()),
        Condition::Filter(filter) => only_must(filter.simplified()),
        other => other,
    }
}

/// The condition that a filter is which has no other.
fn only_must(mut filter: Filter) -> Condition {
    let is_bare =
        filter.should.is_empty() && filter.must_not.is_empty() && filter.min_should.is_none();
    match filter.must.pop() {
        Some(only) if is_bare && filter.must.is_empty() => only,
        last => {
            filter.must.extend(last);
            Condition::Filter(filter)
        }
    }
}

/// The same conditions, of which one has to hold, with the values at each path together.
fn any_of(conditions: Vec<Condition>) -> Vec<Condition> {
    let mut out: Vec<Condition> = Vec::with_capacity(conditions.len());
    for condition in conditions {
        let known = values_of(&condition).and_then(|more| {
            let goes_with = |own: &Values<'_>| own.is_alike(&more);
            out.iter_mut().find(|own| values_of(own).as_ref().is_some_and(goes_with))
        });
        match (known, condition) {
            (Some(own), condition) => join(own, condition),
            (None, condition) => out.push(condition),
        }
    }
    out
}

/// What a condition wants one of.
struct Values<'a> {
    path: &'a Path,
    are_strings: bool,
    n: usize,
}

impl Values<'_> {
    /// Whether one condition can want both: a list that is too long could not be read.
    fn is_alike(&self, other: &Self) -> bool {
        let is_same = self.path == other.path && self.are_strings == other.are_strings;
        is_same && self.n + other.n <= FILTER_VALUES
    }
}

fn values_of(condition: &Condition) -> Option<Values<'_>> {
    let Condition::Field(path, Test::Any(property)) = condition else { return None };
    let (are_strings, n) = match property {
        Property::Strings(list) => (true, list.len()),
        Property::Integers(list) => (false, list.len()),
        _ => return None,
    };
    Some(Values { path, are_strings, n })
}

/// Adds the values that another condition wants.
fn join(own: &mut Condition, other: Condition) {
    let (Condition::Field(_, Test::Any(own)), Condition::Field(_, Test::Any(other))) = (own, other)
    else {
        unreachable!("both want some values");
    };
    match (own, other) {
        (Property::Strings(own), Property::Strings(other)) => add(own, other),
        (Property::Integers(own), Property::Integers(other)) => add(own, other),
        _ => unreachable!("of one kind"),
    }
}

/// Lists are ascending: a sort that sees that two runs are in order merges them, and a thousand conditions stay cheap.
fn add<T: Ord>(list: &mut Vec<T>, other: Vec<T>) {
    list.extend(other);
    list.sort();
    list.dedup();
}
