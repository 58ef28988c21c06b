//! Who may read what: grants beside those that payloads name.
//!
//! A grant is a grant, wherever it came from. A point that is stored gets exactly the grants that its payload names; a payload
//! that is changed gives and ends those of the names that come and go; [`Collection::grant`] and [`Collection::revoke`]
//! change single ones, and leave the payload as it is. A tenant that is named for the first time is made before the batch that
//! names it: if that fails, it stays, and may read nothing.

use crate::core::ids::PointId;
use crate::engine::change::Which;
use crate::engine::collection::Collection;
use crate::engine::points::payload;
use crate::engine::scroll::check_limit;
use crate::engine::search::Ask;
use crate::engine::settings::Settings;
use crate::engine::write::tenants;
use crate::error::Result;
use crate::store::durable::{Op, Parts};

/// A page of tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantsPage {
    /// Names in their order, each with the number of points that it may read.
    pub tenants: Vec<(String, u64)>,
    /// The name at which the next page begins; none after the last.
    pub next: Option<String>,
}

impl Collection {
    /// Lets a tenant, which is made where there is none, read points. Returns how many it could not read before. Whole up to
    /// [`crate::core::limits::BATCH_POINTS`] points; more are done in batches.
    ///
    /// # Errors
    /// `id_not_found`, after which nothing is changed; `tenant_name`; `tenants_per_point`; those of the record.
    pub fn grant(&self, ids: &[PointId], tenant: &str) -> Result<u64> {
        self.change(Which::Ids { tenant: None, ids }, |view, ids| {
            let known = match view.tenant(tenant)? {
                Some(known) => known,
                None => self.record.tenants(&[tenant])?[0],
            };
            let points = view.get(ids, Parts::None)?.into_iter().flatten();
            let ops: Vec<Op<'_>> = points
                .filter(|point| point.tenants.binary_search(&known).is_err())
                .map(|point| Op::Grant { id: point.id, tenant: known })
                .collect();
            self.record.apply(&ops)?;
            Ok(ops.len() as u64)
        })
    }

    /// Ends that a tenant may read points. Returns how many it could read before. Whole or in batches, as [`Self::grant`] is.
    ///
    /// # Errors
    /// `id_not_found`, after which nothing is changed; those of the record.
    pub fn revoke(&self, ids: &[PointId], tenant: &str) -> Result<u64> {
        self.change(Which::Ids { tenant: None, ids }, |view, ids| {
            let Some(known) = view.tenant(tenant)? else { return Ok(0) };
            let points = view.get(ids, Parts::None)?.into_iter().flatten();
            let ops: Vec<Op<'_>> = points
                .filter(|point| point.tenants.binary_search(&known).is_ok())
                .map(|point| Op::Revoke { id: point.id, tenant: known })
                .collect();
            self.record.apply(&ops)?;
            Ok(ops.len() as u64)
        })
    }

    /// Lets every tenant that payloads name by these settings read their points.
    pub(super) fn grant_named(&self, settings: &Settings) -> Result<()> {
        self.change(Which::Matching(&Ask::default()), |view, ids| {
            let points = view.get(ids, Parts::Payload)?;
            let mut named = Vec::new();
            for point in points.into_iter().flatten() {
                let payload = payload(point.id, &point.payload)?;
                for name in tenants(settings, point.id, &payload)? {
                    named.push((point.id, name));
                }
            }
            let mut names: Vec<&str> = named.iter().map(|(_, name)| &**name).collect();
            names.sort_unstable();
            names.dedup();
            let known = self.record.tenants(&names)?;
            let of = |name: &String| known[names.binary_search(&&**name).expect("listed")];
            let ops: Vec<Op<'_>> =
                named.iter().map(|(id, name)| Op::Grant { id: *id, tenant: of(name) }).collect();
            self.record.apply(&ops)?;
            Ok(ops.len() as u64)
        })?;
        Ok(())
    }

    /// Removes a tenant with all its grants, whole. Points and payloads stay: one that names it names nobody until it is written
    /// again. Returns how many points it could read, `None` if there is no such tenant.
    ///
    /// # Errors
    /// Those of the record.
    pub fn drop_tenant(&self, tenant: &str) -> Result<Option<u64>> {
        self.write(|record| {
            let view = record.view()?;
            let Some(known) = view.tenant(tenant)? else { return Ok(None) };
            let n_points = view.tenant_facts(known)?.map_or(0, |(_, n_points)| n_points);
            record.apply(&[Op::DropTenant { tenant: known }])?;
            Ok(Some(n_points))
        })
    }

    /// A page of the tenants there are, from a name on (which need not exist) or from the first.
    ///
    /// # Errors
    /// `page_range`; those of reading.
    pub fn tenants(&self, from: Option<&str>, limit: usize) -> Result<TenantsPage> {
        check_limit(limit)?;
        self.read(|state| {
            let mut tenants = state.view.tenants_by_name(from.unwrap_or(""), limit + 1)?;
            let next = (tenants.len() > limit).then(|| tenants.pop()).flatten();
            Ok(TenantsPage { tenants, next: next.map(|(name, _)| name) })
        })
    }

    /// Points that a tenant may read; none for one that does not exist.
    ///
    /// # Errors
    /// Those of reading.
    pub fn count_of_tenant(&self, tenant: &str) -> Result<u64> {
        self.read(|state| {
            let Some(known) = state.view.tenant(tenant)? else { return Ok(0) };
            Ok(state.view.tenant_facts(known)?.map_or(0, |(_, n_points)| n_points))
        })
    }
}
