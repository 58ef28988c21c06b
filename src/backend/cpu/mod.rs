//! Operations on the CPU. The instruction set is asked for once per process.

pub mod minhash;
