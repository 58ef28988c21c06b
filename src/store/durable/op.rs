//! What can be asked of the record.

use crate::core::ids::{PointId, TenantId};

/// A point to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Upsert<'b> {
    /// The caller's id.
    pub id: PointId,
    /// The payload.
    pub payload: &'b [u8],
    /// Vectors by name.
    pub vectors: &'b [(&'b str, &'b [u8])],
    /// Tenants that may read it.
    pub tenants: &'b [TenantId],
}

/// One operation of a batch. Those on a point that does not exist are refused with `id_not_found`, but for `Remove`.
#[derive(Clone, Copy, Debug)]
pub enum Op<'b> {
    /// Stores a point, in place of all that one of the same id had.
    Upsert(Upsert<'b>),
    /// Gives a point another payload.
    SetPayload {
        /// The point.
        id: PointId,
        /// The whole payload.
        payload: &'b [u8],
    },
    /// Gives a point other vectors, or takes some away; those not named stay.
    SetVectors {
        /// The point.
        id: PointId,
        /// Vectors by name; `None` takes one away.
        vectors: &'b [(&'b str, Option<&'b [u8]>)],
    },
    /// Removes a point, if it exists.
    Remove {
        /// The point.
        id: PointId,
    },
    /// Lets a tenant read a point.
    Grant {
        /// The point.
        id: PointId,
        /// The tenant, which must exist.
        tenant: TenantId,
    },
    /// Ends that; nothing happens if it was not so.
    Revoke {
        /// The point.
        id: PointId,
        /// The tenant, which must exist.
        tenant: TenantId,
    },
    /// Removes a tenant, its name and its grants. Points stay.
    DropTenant {
        /// The tenant, which must exist.
        tenant: TenantId,
    },
}

/// What a batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The version with it: the one before, if nothing was to be done.
    pub version: u64,
    /// Points that were removed.
    pub n_removed: usize,
}
