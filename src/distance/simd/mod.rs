//! Loops over raw vector instructions.
//!
//! In: byte and bit codes. Out: exact integer sums. Next: `popcount.rs`.

pub mod popcount;
