//! Which values points have in a field, and how many points each.

use std::collections::HashMap;

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::engine::collection::Collection;
use crate::engine::scroll::check_limit;
use crate::engine::search::Ask;
use crate::engine::state::State;
use crate::error::Result;
use crate::plan::filter::Points;
use crate::store::columns::path::{Path, elements};
use crate::store::columns::presence::JsonType;
use crate::store::columns::{Column, Field};

/// A value that points are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FacetValue {
    /// True or false.
    Bool(bool),
    /// A whole number of 64 bits, written as one.
    Integer(i64),
    /// A string.
    Keyword(String),
}

impl FacetValue {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(own) => Some(Self::Bool(*own)),
            Value::Number(number) => number.as_i64().map(Self::Integer),
            Value::String(text) => Some(Self::Keyword(text.clone())),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn json_type(&self) -> JsonType {
        match self {
            Self::Bool(_) => JsonType::Bool,
            Self::Integer(_) => JsonType::Number,
            Self::Keyword(_) => JsonType::String,
        }
    }
}

/// Types of values that points are counted by.
const TYPES: [JsonType; 3] = [JsonType::Bool, JsonType::Number, JsonType::String];

impl Collection {
    /// The strings, whole numbers and truth values at a path, or in an array there, of the points that the tenant may read and
    /// that pass, each with the number of those points that have it: exact, most frequent first, then by value; at
    /// most `limit`. Cost beside that of the filter: a look at a column per matching point; payloads are read of those
    /// with a value of a type that the field is not indexed as, or of all if it is not indexed.
    ///
    /// # Errors
    /// `page_range`; those of reading payloads.
    pub fn facet(&self, ask: &Ask, path: &Path, limit: usize) -> Result<Vec<(FacetValue, u64)>> {
        check_limit(limit)?;
        let counts = self.read_whole(|state| state.facet(ask, path))?;
        let mut counts: Vec<(FacetValue, u64)> = counts.into_iter().collect();
        counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(limit);
        Ok(counts)
    }
}

impl State {
    fn facet(&self, ask: &Ask, path: &Path) -> Result<HashMap<FacetValue, u64>> {
        let matching = self.matching(ask)?;
        let mut counts = HashMap::new();
        let Some(field) = self.columns.field(path)? else {
            self.facet_of_payloads(&matching, path, &TYPES, &mut counts)?;
            return Ok(counts);
        };
        let mut unknown = Vec::new();
        for kind in TYPES {
            if !facet_of_columns(field, kind, &matching, &mut counts) {
                unknown.push(kind);
            }
        }
        let mut unread = RoaringBitmap::new();
        for &kind in &unknown {
            unread |= field.presence().of_type(kind) & &*matching;
        }
        self.facet_of_payloads(&unread, path, &unknown, &mut counts)?;
        Ok(counts)
    }

    /// Counts values of these types.
    fn facet_of_payloads(
        &self,
        places: &RoaringBitmap,
        path: &Path,
        types: &[JsonType],
        counts: &mut HashMap<FacetValue, u64>,
    ) -> Result<()> {
        self.read(places, &mut |_, payload| {
            let values = elements(&path.values(payload)).into_iter().filter_map(FacetValue::of);
            let mut values: Vec<FacetValue> =
                values.filter(|value| types.contains(&value.json_type())).collect();
            values.sort_unstable();
            values.dedup();
            for value in values {
                *counts.entry(value).or_default() += 1;
            }
        })
    }
}

/// Counts values of one type; says whether a column has them.
fn facet_of_columns(
    field: &Field,
    kind: JsonType,
    matching: &RoaringBitmap,
    counts: &mut HashMap<FacetValue, u64>,
) -> bool {
    for column in field.columns() {
        match (kind, column) {
            (JsonType::String, Column::Keyword(words)) => {
                let words = words.counts(matching).into_iter();
                counts.extend(words.map(|(word, n)| (FacetValue::Keyword(word), n)));
                return true;
            }
            (JsonType::Number, Column::Number(numbers)) => {
                for whole in matching.iter().flat_map(|place| numbers.wholes(place)) {
                    *counts.entry(FacetValue::Integer(whole)).or_default() += 1;
                }
                return true;
            }
            (JsonType::Bool, Column::Bool(places)) => {
                for (value, places) in [false, true].into_iter().zip(places) {
                    let n = places.intersection_len(matching);
                    counts.extend((n > 0).then_some((FacetValue::Bool(value), n)));
                }
                return true;
            }
            _ => {}
        }
    }
    false
}
