//! What was acknowledged is on disk.

mod faults;
mod history;
mod kill;
mod model;
mod power;
mod snapshot;
