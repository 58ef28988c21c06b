//! From a request to how it is answered.

pub mod cost;
pub mod filter;
