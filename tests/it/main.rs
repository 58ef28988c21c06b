//! Promises to users, kept by the program as it is installed.

// Helpers here are test code too, though clippy only knows the functions marked as tests.
#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cmp_owned)]

mod bad_input;
mod cache;
mod cache_commands;
mod collection;
mod collection_commands;
mod conformance;
mod corpus;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod doctor;
mod embed;
mod fallback;
mod ingest;
mod invariants;
#[cfg(feature = "server")]
mod key;
mod near;
mod options;
mod page;
mod pairs;
mod points;
mod promises;
mod quant;
mod query;
mod semantic;
#[cfg(feature = "server")]
mod server;
mod store;
mod support;
mod texts;
mod tidy;
#[cfg(feature = "wgpu")]
mod wgpu;
