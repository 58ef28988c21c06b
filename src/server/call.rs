//! A request whose headers were read, whose key was checked and whose collection was found.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::Collection;
use crate::server::catalog::{Catalog, Entry};
use crate::server::reply::Refusal;
use crate::server::router::unescaped;

/// Who asks. Nothing but a key says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The tenant that the key is of; every point is there for a key without.
    pub tenant: Option<Arc<str>>,
}

impl Caller {
    /// The tenant.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }
}

/// A request.
pub struct Call<'a> {
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
}

impl Call<'_> {
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
        for pair in self.query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key == name {
                let value = unescaped(&value.replace('+', " "));
                let bad = || Refusal::bad(format!("query_invalid: {name} is not UTF-8"));
                return value.map(Some).ok_or_else(bad);
            }
        }
        Ok(None)
    }
}
