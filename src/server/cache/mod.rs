//! Answers from memory, over HTTP: before a model server, behind LangCache's API, and by an API of its own.
//!
//! In: requests of OpenAI's API and of two others. Out: an answer that was given before, or the model's, which is remembered. A request
//! for the model goes through `proxy`: `control` reads what its headers say, `identity` (with `canonical` and `turn`) which
//! question it is, `vectors` where its text lies; `front` asks the cache of `caches`. What is not known goes `upstream` (over TLS by `secured`), once for
//! all that ask the same (`flight`), and passes through `recorded`, which puts a `stream` of `events` together; `kept` says whether it may be
//! given again, `replay` how. `langcache` is another door; `lookups`, `inserts` and `manage` are our own; `judge` gives a second opinion on near misses; `litellm` keeps
//! a collection that LiteLLM has for a cache; `meter` reads how loaded the models are; `decisions` is what was decided and why.

mod arrived;
mod ask;
pub mod caches;
pub mod canonical;
pub mod control;
pub mod decisions;
mod entries;
mod events;
pub mod flight;
pub mod front;
pub mod identity;
pub mod inserts;
pub mod judge;
pub mod kept;
pub mod langcache;
pub mod litellm;
pub mod lookups;
pub mod manage;
pub mod meter;
pub mod proxy;
mod question;
mod recorded;
mod remember;
pub mod replay;
mod said;
#[cfg(feature = "https")]
mod secured;
mod shape;
pub mod stream;
mod told;
mod turn;
#[cfg(not(feature = "https"))]
mod unsecured;
pub mod upstream;
pub mod vectors;

#[cfg(not(feature = "https"))]
use unsecured as secured;
