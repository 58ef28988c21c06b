//! Points in memory, with columns and with the specification.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde_json::{Value, json};

use crate::core::ids::PointId;
use crate::error::Result;
use crate::plan::filter::plain::{self, Point};
use crate::plan::filter::tests::choices::Choices;
use crate::plan::filter::{Filter, Passing, Points, evaluate};
use crate::store::columns::path::Path;
use crate::store::columns::{Columns, Kind};

pub fn id(slot: u32) -> PointId {
    match slot % 2 {
        0 => PointId::Num(u64::from(slot) * 7),
        _ => PointId::Uuid(u128::from(slot) << 90 | 5),
    }
}

pub fn id_json(id: PointId) -> Value {
    match id {
        PointId::Num(number) => json!(number),
        PointId::Uuid(_) => json!(id.to_string()),
    }
}

/// Payloads by slot; every third point has the vector `v`.
#[derive(Default)]
pub struct World {
    pub payloads: BTreeMap<u32, Value>,
    pub live: RoaringBitmap,
    pub columns: Columns,
}

impl Points for World {
    fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    fn slots(&self, wanted: &[PointId]) -> Result<RoaringBitmap> {
        Ok(self.live.iter().filter(|slot| wanted.contains(&id(*slot))).collect())
    }

    fn id(&self, slot: u32) -> PointId {
        id(slot)
    }

    fn with_vector(&self, name: &str) -> RoaringBitmap {
        (0..1000).filter(|slot| slot % 3 == 0 && name == "v").collect()
    }

    fn read(&self, slots: &RoaringBitmap, visit: &mut dyn FnMut(u32, &Value)) -> Result<()> {
        slots.iter().for_each(|slot| visit(slot, &self.payloads[&slot]));
        Ok(())
    }
}

impl World {
    pub fn index(&mut self, path: &str, kind: Kind) {
        let payloads = self.payloads.iter().map(|(slot, payload)| Ok((*slot, payload)));
        self.columns.index(&[(path.parse::<Path>().unwrap(), kind)], payloads).unwrap();
    }

    pub fn set(&mut self, slot: u32, payload: Value) {
        self.columns.set(slot, &payload);
        self.payloads.insert(slot, payload);
        self.live.insert(slot);
    }

    pub fn remove(&mut self, slot: u32) {
        self.columns.remove(slot);
        self.payloads.remove(&slot);
        self.live.remove(slot);
    }

    pub fn passing(&self, filter: &Filter) -> Passing {
        evaluate(filter, &self.columns, self).unwrap()
    }

    /// The specification.
    pub fn plainly(&self, filter: &Filter) -> RoaringBitmap {
        let passes = |(slot, payload): (&u32, &Value)| {
            let has_vector = |name: &str| slot % 3 == 0 && name == "v";
            let point = Point { payload, id: Some(id(*slot)), has_vector: &has_vector };
            plain::passes(filter, point).then_some(*slot)
        };
        self.payloads.iter().filter_map(passes).collect()
    }
}

pub const KINDS: [Kind; 8] = [
    Kind::Keyword,
    Kind::Integer,
    Kind::Float,
    Kind::Bool,
    Kind::Datetime,
    Kind::Geo,
    Kind::Text,
    Kind::Uuid,
];

/// A world after a history of insertions, updates and removals; some fields are indexed before, some after, some never.
pub fn world(seed: u64, index: bool) -> World {
    let (mut world, mut choices) = (World::default(), Choices::new(seed));
    for round in 0..3 {
        for _ in 0..choices.below(12) * usize::from(index) {
            let (path, kind) = (choices.path(), choices.of(&KINDS));
            world.index(path, kind);
        }
        for _ in 0..120 {
            let slot = choices.below(150) as u32;
            match choices.below(4) {
                0 if round > 0 => world.remove(slot),
                _ => world.set(slot, choices.object(3)),
            }
        }
    }
    world
}
