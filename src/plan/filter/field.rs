//! What the columns of one field know of a condition on it.

use roaring::RoaringBitmap;

use crate::plan::filter::estimate::Estimate;
use crate::plan::filter::{Property, Test, plain};
use crate::store::columns::marked::Marked;
use crate::store::columns::number::{Interval, Number};
use crate::store::columns::presence::JsonType;
use crate::store::columns::{Column, Field};

/// Slots with a property are listed if they are fewer than all with a value by this factor, at most.
const MARKED: u64 = 256;

/// Slots that pass, and slots of which only their payloads can tell; no slot is both.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub sure: RoaringBitmap,
    pub unsure: RoaringBitmap,
}

impl Known {
    /// All that may pass.
    pub fn possible(self) -> RoaringBitmap {
        if self.unsure.is_empty() { self.sure } else { self.sure | self.unsure }
    }
}

impl From<RoaringBitmap> for Known {
    fn from(sure: RoaringBitmap) -> Self {
        Self { sure, unsure: RoaringBitmap::new() }
    }
}

/// What is known of the slots of `within`; `rows` counts the slots that are looked at.
pub(super) fn ask(field: &Field, test: &Test, within: &RoaringBitmap, rows: &mut u64) -> Known {
    let presence = field.presence();
    match test {
        Test::Any(property) => ask_property(field, property, within, rows),
        Test::Count(counts) => presence.counted(counts, within).into(),
        Test::Empty(true) => (within - presence.filled()).into(),
        Test::Empty(false) => (within & presence.filled()).into(),
        Test::Null(true) => (within & presence.null()).into(),
        Test::Null(false) => (within - presence.null()).into(),
    }
}

/// Marks the slots that pass, if marks say it exactly, and if they are not too few to be listed; `rows` counts the slots that
/// are looked at.
pub(super) fn mark<'a>(field: &'a Field, test: &Test, rows: &mut u64) -> Option<Marked<'a>> {
    let Test::Any(property) = test else { return None };
    let column = best(field, property)?;
    let n_slots = match column {
        Column::Number(column) | Column::Datetime(column) => column.n_slots(),
        Column::Keyword(column) => column.n_slots(),
        Column::Bool(_) | Column::Geo(_) | Column::Text(_) => return None,
    };
    if size(column, property, n_slots).0 < n_slots / MARKED {
        return None;
    }
    let marked = match (column, property) {
        (Column::Keyword(column), Property::Strings(list)) => {
            column.mark_any(&column.find(list.iter().map(String::as_str)))?
        }
        (Column::Number(column), Property::Range(interval)) => column.mark_range(interval),
        (Column::Number(column), Property::Integers(list)) => column.mark_any(list)?,
        (Column::Datetime(column), Property::Datetimes(interval)) => {
            column.mark_range(&as_numbers(interval))
        }
        _ => return None,
    };
    *rows += n_slots;
    Some(marked)
}

fn ask_property(
    field: &Field,
    property: &Property,
    within: &RoaringBitmap,
    rows: &mut u64,
) -> Known {
    let own_type = type_of(property);
    // A value of another type is none of the listed ones.
    let mut sure = RoaringBitmap::new();
    if is_negative(property) {
        let others = JsonType::ALL.into_iter().filter(|other| *other != own_type);
        others.for_each(|other| sure |= field.presence().of_type(other) & within);
    }
    match best(field, property) {
        Some(column) => (sure | answer(column, property, within, rows)).into(),
        None => Known { unsure: (field.presence().of_type(own_type) & within) - &sure, sure },
    }
}

/// An upper bound on what passes among `n_within` slots, and on what finding out takes.
pub(super) fn expect(field: &Field, test: &Test, n_within: u64) -> Estimate {
    let presence = field.presence();
    let sets = |at_most: u64| Estimate { at_most, rows_touched: at_most, payloads_read: 0 };
    let estimate = match test {
        Test::Any(property) => expect_property(field, property, n_within),
        Test::Count(_) | Test::Empty(true) | Test::Null(false) => sets(n_within),
        Test::Empty(false) => sets(presence.filled().len()),
        Test::Null(true) => sets(presence.null().len()),
    };
    estimate.within(n_within)
}

fn expect_property(field: &Field, property: &Property, n_within: u64) -> Estimate {
    let n_of = |kind| field.presence().of_type(kind).len();
    let own_type = type_of(property);
    let mut n_others = 0;
    if is_negative(property) {
        n_others = JsonType::ALL.into_iter().filter(|other| *other != own_type).map(n_of).sum();
    }
    let Some(column) = best(field, property) else {
        let n = n_of(own_type);
        return Estimate { at_most: n_others + n, rows_touched: n, payloads_read: n };
    };
    let (at_most, rows_touched) = size(column, property, n_within);
    Estimate { at_most: n_others + at_most, rows_touched, payloads_read: 0 }
}

fn is_negative(property: &Property) -> bool {
    matches!(property, Property::NotStrings(_) | Property::NotIntegers(_))
}

/// The type of the values that a property tells apart.
fn type_of(property: &Property) -> JsonType {
    match property {
        Property::Bool(_) => JsonType::Bool,
        Property::Integers(_) | Property::NotIntegers(_) | Property::Range(_) => JsonType::Number,
        Property::Geo(_) => JsonType::Object,
        Property::Strings(_)
        | Property::NotStrings(_)
        | Property::Text(_)
        | Property::TextAny(_)
        | Property::Phrase(_)
        | Property::Datetimes(_) => JsonType::String,
    }
}

/// The column that tells a property exactly, the one that is made for it first.
fn best<'a>(field: &'a Field, property: &Property) -> Option<&'a Column> {
    let rank = |column: &&Column| match (column, property) {
        (Column::Bool(_), Property::Bool(_))
        | (Column::Geo(_), Property::Geo(_))
        | (Column::Datetime(_), Property::Datetimes(_))
        | (Column::Text(_), Property::Text(_) | Property::TextAny(_) | Property::Phrase(_))
        | (Column::Keyword(_), Property::Strings(_) | Property::NotStrings(_)) => Some(0),
        (Column::Number(_), _) if type_of(property) == JsonType::Number => Some(0),
        // It has every string: each distinct one is looked at once.
        (Column::Keyword(_), _) if type_of(property) == JsonType::String => Some(1),
        _ => None,
    };
    let ranked = field.columns().filter_map(|column| Some((rank(&column)?, column)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, column)| column)
}

/// The interval of moments as numbers, which is how a column keeps them.
fn as_numbers(interval: &Interval<i64>) -> Interval<Number> {
    let number = |us: &i64| Number::Int((*us).into());
    (interval.0.as_ref().map(number), interval.1.as_ref().map(number))
}

/// The slots of `within` with a value of the column that has the property.
fn answer(
    column: &Column,
    property: &Property,
    within: &RoaringBitmap,
    rows: &mut u64,
) -> RoaringBitmap {
    let (found, n_read) = match (column, property) {
        (Column::Keyword(column), Property::NotStrings(list)) => (
            column.except(&column.find(list.iter().map(String::as_str))) & within,
            column.n_slots(),
        ),
        (Column::Keyword(column), Property::Strings(list)) => {
            let ids = column.find(list.iter().map(String::as_str));
            (column.any(&ids, within), column.at_most(&ids).min(within.len()))
        }
        (Column::Keyword(column), _) => {
            let ids = column.matching(|text| plain::string_has(property, text));
            (column.any(&ids, within), column.n_words() + column.at_most(&ids).min(within.len()))
        }
        (Column::Number(column), Property::Range(interval)) => {
            (column.range(interval, within), column.n_looked_at(within.len()))
        }
        (Column::Number(column), Property::Integers(list)) => {
            (column.any(list, within), column.n_looked_at(within.len()))
        }
        (Column::Number(column), Property::NotIntegers(list)) => {
            (column.except(list, within), column.n_looked_at(within.len()))
        }
        (Column::Datetime(column), Property::Datetimes(interval)) => {
            (column.range(&as_numbers(interval), within), column.n_looked_at(within.len()))
        }
        (Column::Bool(slots), Property::Bool(value)) => {
            (&slots[usize::from(*value)] & within, within.len())
        }
        (Column::Geo(column), Property::Geo(shape)) => {
            let (found, n_asked) =
                column.inside(&shape.rectangles(), within, |point| shape.contains(point));
            (found, column.n_looked_at() + n_asked)
        }
        (Column::Text(column), Property::Text(query)) => {
            let ids = column.find(query);
            let (found, n_read) = column.all(&ids, within);
            (found, column.at_most_all(&ids) + n_read)
        }
        (Column::Text(column), Property::Phrase(query)) => {
            let ids = column.find(query);
            let (found, n_read) = column.phrase(&ids, within);
            (found, column.at_most_all(&ids) + n_read)
        }
        (Column::Text(column), Property::TextAny(query)) => {
            let ids = column.find(query);
            (column.any(&ids) & within, column.at_most_any(&ids))
        }
        _ => unreachable!("the best column is asked what it can tell"),
    };
    *rows += n_read;
    found
}

/// Upper bounds on the slots with the property, and on the slots looked at to find them.
fn size(column: &Column, property: &Property, n_within: u64) -> (u64, u64) {
    match (column, property) {
        (Column::Keyword(column), Property::NotStrings(_)) => (column.n_slots(), column.n_slots()),
        (Column::Keyword(column), Property::Strings(list)) => {
            let n = column.at_most(&column.find(list.iter().map(String::as_str)));
            (n, n.min(n_within))
        }
        (Column::Keyword(column), _) => (column.n_slots(), column.n_words() + column.n_slots()),
        (Column::Number(column), Property::Range(interval)) => {
            (column.at_most(interval), column.n_looked_at(n_within))
        }
        (Column::Datetime(column), Property::Datetimes(interval)) => {
            (column.at_most(&as_numbers(interval)), column.n_looked_at(n_within))
        }
        (Column::Number(column), Property::Integers(list)) => {
            let one = |int: &i64| {
                let number = std::ops::Bound::Included(Number::Int((*int).into()));
                column.at_most(&(number, number))
            };
            let n = list.iter().map(one).fold(0, u64::saturating_add);
            (n.min(column.n_slots()), column.n_looked_at(n_within))
        }
        (Column::Number(column) | Column::Datetime(column), _) => {
            (column.n_slots(), column.n_looked_at(n_within))
        }
        (Column::Bool(slots), Property::Bool(value)) => {
            (slots[usize::from(*value)].len(), n_within)
        }
        (Column::Geo(column), Property::Geo(shape)) => {
            let n = column.at_most(&shape.rectangles());
            (n, column.n_looked_at() + n)
        }
        (Column::Text(column), Property::Text(query) | Property::Phrase(query)) => {
            let n = column.at_most_all(&column.find(query));
            (n, 2 * n)
        }
        (Column::Text(column), Property::TextAny(query)) => {
            let n = column.at_most_any(&column.find(query));
            (n, n)
        }
        _ => unreachable!("the best column is asked what it can tell"),
    }
}
