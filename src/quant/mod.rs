//! Small codes of rows, and exact search that reads rows only where their codes leave a doubt.
//!
//! In: rows of floats or bytes. Out: codes with bounds on the error of every distance, and the same neighbors as a scan
//! of all rows, from a fraction of the bytes.
//! Next: `search.rs` (the flow), `rabitq.rs` (one and four bits per element), `int8.rs` (eight), `rotation.rs`.

pub mod int8;
pub mod rabitq;
pub mod rotation;
pub mod search;
