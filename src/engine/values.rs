//! The numbers and moments of points at a path: what they are ordered by.

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::engine::state::State;
use crate::error::Result;
use crate::plan::filter::Points;
use crate::store::columns::number::Number;
use crate::store::columns::path::{Path, elements};
use crate::store::columns::presence::JsonType;
use crate::store::columns::{Column, Field, datetime};

impl State {
    /// Takes each distinct number and moment of these places at a path; moments are in microseconds since 1970. Cost: values of
    /// columns where those have all of them, otherwise the payloads of all places.
    ///
    /// # Errors
    /// Those of reading payloads.
    pub(super) fn each_value(
        &self,
        matching: &RoaringBitmap,
        path: &Path,
        take: &mut impl FnMut(u32, Number),
    ) -> Result<()> {
        let unread = match self.columns.field(path)? {
            Some(field) => single_values(field, matching, take),
            None => matching.clone(),
        };
        self.read(&unread, &mut |place, payload| {
            values(&path.values(payload)).into_iter().for_each(|value| take(place, value));
        })
    }
}

/// The distinct numbers and moments among values.
fn values(values: &[&Value]) -> Vec<Number> {
    let value = |value: &&Value| match value {
        Value::String(text) => datetime::parse(text).map(|us| Number::Int(us.into())),
        other => Number::of(other),
    };
    let mut found: Vec<Number> = elements(values).iter().filter_map(value).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Takes the values of places that have one each which a column knows; the other places that may have some.
fn single_values(
    field: &Field,
    matching: &RoaringBitmap,
    take: &mut impl FnMut(u32, Number),
) -> RoaringBitmap {
    let of_type = |json: JsonType| field.presence().of_type(json) & matching;
    let (numbers, strings) = (of_type(JsonType::Number), of_type(JsonType::String));
    let mut unread = &numbers | &strings;
    for column in field.columns() {
        let (own, others, column) = match column {
            Column::Number(column) => (&numbers, &strings, column),
            Column::Datetime(column) => (&strings, &numbers, column),
            _ => continue,
        };
        for place in (own - others) & &unread {
            match column.ends(place) {
                Some((least, greatest)) if least == greatest => {
                    take(place, least);
                    unread.remove(place);
                }
                Some(_) => {}
                // Strings that are no moments.
                None => {
                    unread.remove(place);
                }
            }
        }
    }
    unread
}
