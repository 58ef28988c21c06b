//! Many rows at once: the operations that devices run, by operation.
//!
//! In: blocks of rows. Out: the same on every instruction set, bit for bit where sums are integers.
//! Next: `cpu/minhash.rs`.

pub mod cpu;
