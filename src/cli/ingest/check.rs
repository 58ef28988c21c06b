//! What the collection would refuse, found before anything is written.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use crate::cli::ingest::source::Block;
use crate::core::ids::PointId;
use crate::core::metric::Metric;
use crate::engine::tenants_at;
use crate::error::{Error, Result};
use crate::store::columns::path::Path;

/// Checks blocks in order. Keeps the ids of all: 24 or 40 bytes each.
pub struct Checker {
    metric: Metric,
    tenant_field: Option<Path>,
    numbers: HashMap<u64, usize>,
    uuids: HashMap<u128, usize>,
}

impl Checker {
    /// Nothing is checked yet.
    pub fn new(metric: Metric, tenant_field: Option<Path>) -> Self {
        Self { metric, tenant_field, numbers: HashMap::new(), uuids: HashMap::new() }
    }

    /// Checks a block.
    ///
    /// # Errors
    /// `id_duplicate` names both places; what `Rows::check` says, `tenant_value`, `tenant_name`, `tenants_limit`, naming the
    /// row.
    pub fn check(&mut self, block: &Block) -> Result<()> {
        if let Some(place) = &block.ids_in {
            for (row, point) in (block.first_row..).zip(&block.points) {
                let earlier = match point.id {
                    PointId::Num(number) => earlier(&mut self.numbers, number, row),
                    PointId::Uuid(uuid) => earlier(&mut self.uuids, uuid, row),
                };
                if let Some(earlier) = earlier {
                    let what = format!("id {} stands in {} too", point.id, place.of(earlier));
                    return Err(place.bad(row, "id_duplicate", what));
                }
            }
        }
        self.check_rows(block)?;
        let (Some(field), Some(place)) = (&self.tenant_field, &block.payloads_in) else {
            return Ok(());
        };
        for (row, point) in (block.first_row..).zip(&block.points) {
            tenants_at(field, &point.payload).map_err(|error| error.within(place.of(row)))?;
        }
        Ok(())
    }

    /// Rows are numbered in their block; here they are named by where they stand.
    fn check_rows(&self, block: &Block) -> Result<()> {
        let Err(error) = block.rows.check(self.metric) else { return Ok(()) };
        let one = |i: usize| Some((i, block.rows.slice(i..i + 1).check(self.metric).err()?));
        let Some((i, own)) = (0..block.rows.n_rows()).find_map(one) else { return Err(error) };
        let message = own.to_string();
        let what = message.split_once("row 0").map_or(message.as_str(), |(_, what)| what);
        let place = block.vectors_in.of(block.first_row + i);
        Err(Error::new(own.kind(), own.code(), format!("{place}{what}")))
    }
}

/// The row that had `id` before.
fn earlier<T: Eq + Hash>(seen: &mut HashMap<T, usize>, id: T, row: usize) -> Option<usize> {
    match seen.entry(id) {
        Entry::Occupied(entry) => Some(*entry.get()),
        Entry::Vacant(entry) => {
            entry.insert(row);
            None
        }
    }
}
