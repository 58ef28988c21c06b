//! Points at rest: what was acknowledged is on disk.
//!
//! In: points as bytes: an id, a payload, vectors by name, tenants. Out: the same, of one version, whatever happened in
//! between; and sealed files that indexes are opened from. Next: `durable`, the system of record; then `sealed`; then
//! `columns`, which payload has what.
//!
//! The record is the truth. Sealed files are caches of it: checksummed, and built again when damaged or missing. Each
//! outside thing of this module is behind [`disk::Disk`], so that a test can cut the power at any write.

pub mod columns;
pub mod disk;
pub mod durable;
mod format;
mod mapped;
pub mod sealed;
pub mod snapshot;
pub mod verify;

pub use format::Identity;
pub use mapped::Mapped;
