//! How neighbors are found without looking at every row.
//!
//! In: rows, or codes of them, by slot. Out: the nearest slots of a query, with what it took to find them.
//! Next: `graph/` (a navigable graph over all rows).

pub mod graph;
