//! What indexes hold, in sealed files, and back without a look at any row.
//!
//! In: rows, codes and what is derived from them. Out: the same, lent from the file. Values are not compared with their
//! checksums when a file is opened: a flipped one makes a wrong distance, which a verification of the file finds. What else
//! a section says (sizes, links) is compared and checked, for it decides what is read.
//! Next: `rows.rs`, `exact.rs`; a graph and its codes are sealed beside themselves, in `index/graph`.

mod exact;
mod rows;

pub use rows::PlacedRows;

use crate::core::metric::Metric;

/// The metrics by their numbers in files.
const METRICS: [(u64, Metric); 4] =
    [(1, Metric::Cosine), (2, Metric::Dot), (3, Metric::L2), (4, Metric::L1)];

/// The number of a metric.
pub(super) fn metric_tag(metric: Metric) -> u64 {
    METRICS.iter().find(|one| one.1 == metric).expect("all metrics are listed").0
}

/// The metric of a number.
pub(super) fn metric_of(tag: u64) -> Option<Metric> {
    METRICS.iter().find(|one| one.0 == tag).map(|one| one.1)
}

#[cfg(test)]
mod tests;
