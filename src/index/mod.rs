//! How neighbors are found without looking at every row.
//!
//! In: rows, or codes of them, by slot, and sets of slots. Out: the nearest slots of a query, with what it took to find them.
//! Next: `graph/` (a navigable graph over all rows: many pass), then `tree/` (a clustering tree and the runs of those that
//! pass: few do).

pub mod graph;
pub mod sealed;
pub mod tree;
