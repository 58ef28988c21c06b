//! HTTP: collections behind the API that vector clients already speak.
//!
//! In: requests of Qdrant's REST. Out: its answers, from [`engine`](crate::engine). Only the modules here know of sockets, keys and
//! JSON bodies; the library below blocks and knows none of them.

pub mod qdrant;
