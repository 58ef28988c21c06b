//! One pair of rows to one number; no threads, no allocation.
//!
//! In: two rows. Out: their distance. Next: `level.rs`.

mod level;
pub mod simd;

pub use level::Level;
