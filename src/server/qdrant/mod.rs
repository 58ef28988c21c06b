//! Qdrant's REST, as its clients speak it: bodies in and out, and what the engine is asked for them.
//!
//! `collections`, `config`, `indexes` and `aliases` make and show collections; `upsert`, `points`, `payload` and `batch` change points, as far
//! as `rights` lets them; `read` and `search` read them, `queries` all that
//! `query` reads. What they share: `json` (what is not understood is refused), `numbers` (vectors as bytes), `id`, `vector`
//! (the one place where scores and unit rows of that API are made), `select` (which points, and what of them), `sent` (points in answers).
//! Two that are ours and not of that API: `explain`, how a search was answered; `stats`, what a collection takes.

pub mod aliases;
pub mod batch;
pub mod collections;
mod config;
pub mod explain;
mod id;
pub mod indexes;
pub mod json;
pub mod numbers;
pub mod payload;
pub mod points;
pub mod queries;
pub mod query;
pub mod read;
mod rights;
pub mod search;
mod select;
mod sent;
pub mod stats;
pub mod upsert;
pub mod vector;
