//! A request whose headers were read, whose key was checked and whose collection was found.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use crate::engine::Collection;
use crate::plan::cost::Way;
use crate::server::catalog::{Catalog, Entry};
use crate::server::dispatch::Shared;
use crate::server::fair::Turn;
pub use crate::server::keys::rule::Caller;
use crate::server::pace;
use crate::server::reply::Refusal;
use crate::server::router::unescaped;
use crate::server::stages::{Stage, Stopwatch};

/// A request.
pub struct Call<'a> {
    /// What all requests share.
    pub shared: &'a Shared,
    /// Collections and aliases.
    pub catalog: &'a Catalog,
    /// The collection, where the route is of one that is there.
    pub entry: Option<&'a Entry>,
    /// Who asks.
    pub caller: &'a Caller,
    /// What stands in the braces of the route.
    pub segments: &'a [(&'static str, String)],
    /// What stands after the `?`.
    pub query: &'a str,
    /// The body, expanded.
    pub body: &'a [u8],
    /// Whether all collections were opened.
    pub is_ready: bool,
    /// When the request came.
    pub began: Instant,
    /// The worker that this request has, if it needs one.
    pub turn: RefCell<Option<Turn>>,
    /// The way that was taken to search, the last of several.
    pub plan: Cell<Option<Way>>,
    /// Where its time goes.
    pub watch: Stopwatch,
    /// When its client does not wait any longer.
    pub until: Option<Instant>,
}

impl Call<'_> {
    /// Lets others come first, if this request took its time. Between any two parts of a large one.
    ///
    /// # Errors
    /// `timeout`, 408, if nobody waits for the rest.
    pub fn give_way(&self) -> Result<(), Refusal> {
        if let Some(turn) = &mut *self.turn.borrow_mut() {
            self.watch.add(Stage::Queue, turn.give_way());
        }
        match self.until {
            Some(until) if Instant::now() >= until => Err(Refusal::timeout(self.began, until)),
            _ => Ok(()),
        }
    }

    /// What `read` makes of the body; between the elements of large lists others may come first.
    pub fn reads<T>(&self, read: impl FnOnce() -> T) -> T {
        pace::read(&mut self.turn.borrow_mut(), &self.watch, read)
    }

    /// What stands in these braces of the route.
    pub fn segment(&self, name: &str) -> &str {
        let found = self.segments.iter().find(|(own, _)| *own == name);
        found.map_or("", |(_, segment)| segment)
    }

    /// The entry of the collection.
    pub fn entry(&self) -> &Entry {
        self.entry.expect("the route is of a collection")
    }

    /// The collection.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn collection(&self) -> Result<Arc<Collection>, Refusal> {
        Ok(self.entry().collection()?)
    }

    /// The version of a collection, as it is told: nothing to a tenant, since it says how much others write.
    ///
    /// # Errors
    /// Those of the record.
    pub fn version(&self, collection: &Collection) -> Result<u64, Refusal> {
        match self.caller.tenant() {
            Some(_) => Ok(0),
            None => Ok(collection.version()?),
        }
    }

    /// Whether the client waits until what it writes can be found; otherwise it is told that it was received, though by then
    /// it can be found as well.
    ///
    /// # Errors
    /// `query_invalid`.
    pub fn waits(&self) -> Result<bool, Refusal> {
        match self.parameter("wait")?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                Err(Refusal::bad(format!("query_invalid: wait={other}, expected true or false")))
            }
        }
    }

    /// The value of a parameter after the `?`.
    ///
    /// # Errors
    /// `query_invalid` for what cannot be decoded.
    pub fn parameter(&self, name: &str) -> Result<Option<String>, Refusal> {
        parameter(self.query, name)
    }
}

/// The value of a parameter of what stands after the `?`.
///
/// # Errors
/// `query_invalid` for what cannot be decoded.
pub fn parameter(query: &str, name: &str) -> Result<Option<String>, Refusal> {
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key == name {
            let value = unescaped(&value.replace('+', " "));
            let bad = || Refusal::bad(format!("query_invalid: {name} is not UTF-8"));
            return value.map(Some).ok_or_else(bad);
        }
    }
    Ok(None)
}
