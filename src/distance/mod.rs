//! One pair of rows to one number, and the inner loops that compare many; no threads, no allocation.
//!
//! In: rows. Out: their distances. Next: `scalar.rs` (what is computed), then `simd/` (how it is computed fast).

mod level;
pub mod scalar;
pub mod simd;

pub use level::{Level, features};
