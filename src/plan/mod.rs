//! From a request to how it is answered.

pub mod filter;
