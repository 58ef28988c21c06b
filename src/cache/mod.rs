//! The semantic cache: has a question like this been answered?
//!
//! In: requests (who asks what of which model, a hash, a text, a vector), and answers to be kept. Out: a verdict: an answer with its
//! reason, or a miss with its reason. Next: `decide`, from a request to a verdict; `insert`, from an answer to the record; `policy`,
//! what is served to whom for how long; then `cells`, which entry is nearest; `quota`, which goes.
//!
//! Identity first: tenant, category, model and a hash of all else that must be equal select a partition, and similarity counts only
//! inside it. All that a verdict needs is in memory; text and answer are in the record, and are read for what may be a hit. What is
//! read is compared with the request's identity once more.
//!
//! Similarity is the cosine in `[-1, 1]`, everywhere. Vectors are brought: nothing is embedded here.
//!
//! ```
//! use nearkin::cache::{CacheSettings, Identity, Lookup, NewEntry, Policies, Seams, SemanticCache};
//! # fn main() -> nearkin::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! let settings = CacheSettings { dim: 2, embedder: "mine v1".into() };
//! let path = folder.path().join("answers");
//! let cache = SemanticCache::create(&path, settings, Policies::default(), Seams::of_machine(1)?)?;
//! let identity = Identity {
//!     tenant: "ann".into(),
//!     user: None,
//!     category: "faq".into(),
//!     model: "small".into(),
//!     compat: [0; 32],
//! };
//! cache.insert(NewEntry {
//!     vector: Some(vec![1.0, 0.0]),
//!     ..NewEntry::new(identity.clone(), [1; 32], "How do I reset it?", b"Hold the button.")
//! })?;
//! let vector = [0.98, 0.05];
//! let asked = Lookup::new(&identity, [2; 32], "How can I reset it?", Some(&vector));
//! let verdict = cache.lookup(&asked)?;
//! let hit = verdict.hit().expect("the cosine is 0.998");
//! assert_eq!((hit.answer.bytes.as_slice(), hit.reason.word()), (&b"Hold the button."[..], "semantic"));
//! // Another model is another partition.
//! let other = Identity { model: "large".into(), ..identity.clone() };
//! let verdict = cache.lookup(&Lookup { identity: &other, ..asked })?;
//! assert_eq!(verdict.reason().word(), "empty_partition");
//! # Ok(())
//! # }
//! ```

pub mod calibrate;
mod cells;
mod clock;
mod decide;
mod doorkeeper;
mod entry;
mod explain;
pub mod flight;
pub mod guard;
mod head;
mod identity;
mod insert;
pub mod interval;
mod invalidate;
mod load;
mod lookup;
mod open;
mod partition;
mod policy;
mod quota;
mod record;
mod row;
mod second_look;
mod stats;
mod upkeep;
pub mod verified;

pub use clock::{Clock, MachineClock};
pub use entry::{Inserted, NewEntry, Refusal};
pub use explain::{Candidate, Explanation};
pub use identity::{EntryId, Identity, PartitionKey, Scope};
pub use invalidate::{Invalidate, Reach, Which};
pub use lookup::{Answer, Hit, Lookup, Miss, Reason, Tier, Verdict};
pub use open::{Seams, SemanticCache};
pub use policy::{Adapt, CollectionPolicy, LoadSource, Mode, Policies, Policy, Quota, Room};
pub use record::CacheSettings;
pub use stats::{CategoryStats, Stats};
