//! nearkin finds what is near: repeats in training corpora, points of many tenants under any filter, and answers that were
//! given already.
//!
//! Chapters in reading order: [`record`] (text in), [`backend`] (operations on many rows), then the three jobs: [`dedup`] (corpus
//! files in, kept records out), [`engine`] (collections that are searched), [`cache`] (answers from memory). `server` puts the last
//! two behind HTTP.
//!
//! ```no_run
//! use nearkin::dedup::{self, Options, Outcome, Silent};
//! use std::sync::atomic::AtomicBool;
//!
//! let options = Options {
//!     inputs: vec!["corpus".into()],
//!     out: "clean".into(),
//!     threshold: 0.85,
//!     ..Options::default()
//! };
//! let stop = AtomicBool::new(false);
//! if let Outcome::Finished(report) = dedup::run(&options, &stop, &Silent)? {
//!     println!("{} of {} kept", report.totals.kept, report.totals.read);
//! }
//! # Ok::<(), nearkin::Error>(())
//! ```

pub mod backend;
pub mod cache;
#[doc(hidden)]
pub mod cli;
pub mod cluster;
pub mod core;
pub mod dedup;
pub mod distance;
pub mod embed;
pub mod engine;
mod error;
pub mod index;
pub mod plan;
pub mod quant;
pub mod record;
#[cfg(feature = "server")]
pub mod server;
pub mod store;

pub use error::{Error, ErrorKind, IoContext, Result};
