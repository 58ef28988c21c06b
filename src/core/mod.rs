//! Words shared by everything above; imports nothing of ours.

pub mod bits;
pub mod limits;
pub mod mix;
