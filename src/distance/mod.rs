//! One pair of rows to one number; no threads, no allocation.
//!
//! In: two rows. Out: their distance. Next: `level.rs`.

mod level;

pub use level::Level;
