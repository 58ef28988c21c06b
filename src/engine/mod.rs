//! The collection: points in a folder, found by vector, tenant and filter. Read this first.
//!
//! In: points (an id, a vector, a JSON payload). Out: for a query, a tenant and a filter the nearest points that the tenant may
//! read and that pass, never fewer than there are. Next: `write`, from a point to the record; `read`, from a question to
//! an answer.
//!
//! Writing: payload -> tenants -> record, synced. Reading: filter and tenant -> one exact, counted set -> the way that is
//! predicted to be faster -> neighbors. Every way there is today is exact.

mod read;
mod settings;
mod stored;
mod write;

pub use read::{Answer, Ask, Collection, Found};
pub use settings::Settings;
pub use write::{NewPoint, Writer};

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The folder of a collection within the folder of all.
///
/// # Errors
/// `collection_name`: names are 1 to 255 letters, digits, `_`, `-` and `.`, the first no `.`.
pub fn folder(data: &Path, name: &str) -> Result<PathBuf> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if (1..=255).contains(&name.len()) && name.chars().all(is_plain) && !name.starts_with('.') {
        return Ok(data.join(name));
    }
    let message = format!(
        "{name:?}, expected 1 to 255 letters, digits, '_', '-' and '.', the first of them no '.'"
    );
    Err(Error::usage("collection_name", message))
}

/// The name under which the record keeps the one vector of a point.
const VECTOR: &str = "default";
