//! Ids as clients write them: a number or a UUID.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::ids::PointId;

/// The id of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub PointId);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            PointId::Num(number) => serializer.serialize_u64(number),
            uuid @ PointId::Uuid(_) => serializer.collect_str(&uuid),
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyId)
    }
}

struct AnyId;

impl Visitor<'_> for AnyId {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id: an unsigned 64-bit integer or a UUID")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Id, E> {
        Ok(Id(PointId::Num(value)))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Id, E> {
        value.parse().map(Id).map_err(E::custom)
    }
}

/// Ids without their clothes.
pub fn plain(ids: &[Id]) -> Vec<PointId> {
    ids.iter().map(|id| id.0).collect()
}

/// The id that a segment of a path is.
///
/// # Errors
/// `id_invalid`.
pub fn of_segment(segment: &str) -> Result<PointId, crate::error::Error> {
    segment.parse()
}
