//! One clustering tree that all tenants and filters share.
//!
//! In: rows. Out: an order of the rows in which every sub-tree is an interval of path codes; and, for any set of rows in
//! that order, its nearest rows to a query. A tenant's or a filter's rows are a *run*: their slots in tree order. The part
//! of the tree that a run fills is its *skeleton*, found by binary search, without a look at any vector.
//! Next: `node.rs` (path codes), `build.rs` (recursive k-means), `place.rs` (which leaf a row belongs to), `run.rs`,
//! `skeleton.rs`, `search.rs` (best first, in the order of `frontier.rs`), `together.rs` (many queries at once), `scan.rs` (how listed rows are compared), `signs.rs` (which of them are), then `divide.rs` (leaves that have
//! grown) and `seal.rs`.
//!
//! Paper: Jin et al., "Curator", arXiv 2401.07119, and its successor, arXiv 2601.01291: temporary indexes. Where we
//! differ: every tenant has what they build for a predicate, so that exact sets stand where they keep Bloom filters; a
//! path code names a leaf and not a place in it, so that leaves have no capacity; rows lie in the nearest leaf and not in
//! the one that greedy steps find; and a search survives some lists in vain.

mod best;
pub mod build;
mod divide;
mod frontier;
mod nearest;
pub mod node;
mod place;
pub mod run;
pub mod scan;
mod seal;
pub mod search;
pub mod signs;
pub mod skeleton;
#[cfg(test)]
mod tests;
pub mod together;

pub use build::{BuildParams, Built, build};
pub use node::{Node, Tree};
pub use run::{Run, Tenants};
pub use scan::{BackendScan, DistanceScan, Scan};
pub use search::{
    Found, Scratch, SearchParams, Touched, flat, flat_reranked, search, search_reranked,
};
pub use signs::flat_by_signs;
pub use skeleton::{Part, Skeleton};
