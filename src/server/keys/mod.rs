//! Who asks, and what they may: decided from the head of a request, before its body is read.
//!
//! In: headers, the address of the other end, what the route needs, the collection that it names. Out: a
//! [`Caller`](rule::Caller), whose tenant every handler passes on, or a [`Refusal`](refusal::Refusal). Read `gate` first, which is
//! the way through the others: `sites` (is it for us?), `credentials` (which key came?), `ring` (whose is it?), `counts`
//! (how often?), `rule` (may it?). `file` is what is at rest, `text` is what a holder has.

pub mod counts;
pub mod credentials;
pub mod file;
pub mod gate;
pub mod refusal;
pub mod ring;
pub mod rule;
pub mod sites;
pub mod text;
