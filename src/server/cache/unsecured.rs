//! What stands for TLS in a build without the cargo feature `https`: a refusal.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;

use tokio::net::TcpStream;

use crate::error::{Error, Result};

/// Nobody vouches for anybody.
#[derive(Debug)]
pub struct Trust;

/// There are no such connections.
#[derive(Debug)]
pub struct Secured(Infallible);

impl Trust {
    /// Needs no authorities, since it trusts nobody.
    pub fn new(_authorities: Option<PathBuf>) -> Self {
        Self
    }

    /// Fails.
    ///
    /// # Errors
    /// `feature_missing`.
    pub fn secured(&self, _host: &str) -> Result<Secured> {
        Err(missing())
    }
}

impl Secured {
    /// Never called.
    pub async fn over(&self, _stream: TcpStream) -> io::Result<TcpStream> {
        match self.0 {}
    }
}

/// Fails.
///
/// # Errors
/// `feature_missing`.
pub fn known() -> Result<()> {
    Err(missing())
}

fn missing() -> Error {
    let message = "https:// needs the cargo feature `https`, which this build lacks; http:// to a server or proxy of your own needs none";
    Error::usage("feature_missing", message)
}

/// Never so.
pub fn is_refused(_error: &io::Error) -> bool {
    false
}
