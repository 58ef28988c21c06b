//! Words shared by everything above; imports nothing of ours.

pub mod allow;
pub mod authorities;
pub mod bits;
pub mod ids;
pub mod limits;
pub mod metric;
pub mod mix;
pub mod neighbors;
pub mod rows;
pub mod slab;
pub mod sparse;
