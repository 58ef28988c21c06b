//! The collection: points in a folder, found by vector, tenant and filter. Read this first.
//!
//! In: points (an id, vectors, a JSON payload). Out: for a query, a tenant and a filter the nearest points that the tenant may
//! read and that pass, never fewer than there are. Next: `write`, from a point to the record; `search`, from a question
//! to an answer; `state`, what is known in between and how it follows the record; `spaces`, the vectors of each shape:
//! `sparse`, `multi`, and `space`, a dense one's base and what came since; `base` and `near`, what that base is made of.
//!
//! Writing: payload -> tenants -> record, synced -> the state follows. Reading: filter and tenant -> one exact, counted set ->
//! the way that is predicted to be fastest -> neighbors, compared raw.
//!
//! Beside searching: `stored`, `scroll` and `facet` read and count points; `change`, `tenants` and `fields` change what is
//! stored, who may read it, and what is indexed.
//!
//! ```
//! use std::sync::Arc;
//!
//! use nearkin::core::{ids::PointId, metric::Metric, rows::{Dtype, Rows, Values}};
//! use nearkin::engine::{
//!     Ask, Collection, FacetValue, NewPoint, Scroll, Settings, Vectors, Which, With, Writer,
//! };
//! use nearkin::plan::filter::Filter;
//! use serde_json::json;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("notes");
//! let settings = Settings {
//!     tenant_field: Some("owner".parse()?),
//!     ..Settings::of_vector(2, Metric::Cosine, Dtype::F32)
//! };
//! drop(Writer::open(&path, &settings)?);
//! let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build()?);
//! let notes = Collection::open(&path, &pool, 1 << 30)?;
//!
//! let payloads = ["ann", "ann", "ben"].map(|owner| json!({"owner": owner, "kind": "draft"}));
//! let points: Vec<NewPoint> = (1..)
//!     .zip(payloads)
//!     .map(|(id, payload)| NewPoint { id: PointId::Num(id), payload })
//!     .collect();
//! let rows = Rows::new(Values::F32(vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0].into()), 2)?;
//! notes.upsert(&points, &Vectors::only(&rows))?;
//!
//! // What a tenant may not read is not there for it.
//! let found = notes.retrieve(Some("ann"), &[PointId::Num(2), PointId::Num(3)], &With::default())?;
//! assert!(found[0].is_some() && found[1].is_none());
//!
//! let drafts = Filter::from_json(&json!({"must": [{"key": "kind", "match": {"value": "draft"}}]}))?;
//! let drafts = Ask::new(Some("ann"), drafts);
//! assert_eq!(notes.count(&drafts)?, 2);
//! let page = notes.scroll(&drafts, &Scroll { limit: 1, ..Scroll::default() })?;
//! assert!(page.points[0].id == PointId::Num(1) && page.next.is_some());
//!
//! let final_notes = json!({"kind": "final"});
//! assert_eq!(notes.set_payload(Which::Matching(&drafts), &final_notes, None)?, 2);
//! let kinds = notes.facet(&Ask::default(), &"kind".parse()?, 10)?;
//! assert_eq!(kinds[0], (FacetValue::Keyword("final".to_owned()), 2));
//!
//! // A grant beside those that payloads name.
//! assert_eq!(notes.grant(&[PointId::Num(1)], "ben")?, 1);
//! assert_eq!(notes.count_of_tenant("ben")?, 2);
//! assert_eq!(notes.remove_where(&Ask::new(Some("ben"), Filter::default()))?, 2);
//! assert_eq!(notes.n_points()?, 1);
//! # Ok(())
//! # }
//! ```

mod base;
mod batch;
mod change;
mod collection;
mod edit;
mod facet;
mod facts;
mod fields;
mod kept;
mod measure;
mod merge;
mod multi;
mod near;
mod passing;
mod places;
mod points;
mod postings;
pub mod query;
mod recall;
mod recent;
mod sample;
mod scroll;
mod seal;
mod search;
mod settings;
mod space;
mod spaces;
mod sparse;
mod state;
mod stored;
mod tenants;
mod together;
mod told;
mod unpacked;
mod values;
mod write;

pub use change::Which;
pub use collection::{Collection, Indexed};
pub use facet::FacetValue;
pub use facts::{Facts, IndexFacts, VectorFacts};
pub use recall::RecallFacts;
pub use scroll::{Direction, Offset, Order, Page, Scroll};
pub use search::{Answer, Ask, Found, How};
pub use settings::{DEFAULT_VECTOR, Settings, VectorSettings, VectorShape};
pub use stored::{StoredPoint, With, WithVectors};
pub use tenants::TenantsPage;
pub use told::micros;
pub use write::{Given, NewPoint, Vectors, Writer, tenants_at};

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::store::disk::{At, Disk, Entry, FileDisk, check_folder};

/// Bytes of the name of a folder: what file systems take.
const FOLDER_BYTES: usize = 255;

/// The end of the name of what is being restored, which the next attempt clears away.
const PART: &str = ".part";

/// The folder of a collection within the folder of all. Letters, digits, `_`, `-` and `.` of its name stand for themselves, but for
/// a first `.` and the last of an end `.part`; every other byte is a `%` with two digits.
///
/// # Errors
/// `collection_name`: names are 1 to 255 bytes without control characters and `< > : " / \ | ? *`; written as that of a folder
/// they have no more.
pub fn folder(data: &Path, name: &str) -> Result<PathBuf> {
    let is_refused = |c: char| c.is_control() || "<>:\"/\\|?*".contains(c);
    let written = folder_name(name);
    let is_there = (1..=FOLDER_BYTES).contains(&name.len()) && written.len() <= FOLDER_BYTES;
    if is_there && !name.chars().any(is_refused) && !matches!(name, "." | "..") {
        return Ok(data.join(written));
    }
    let message = format!(
        "{name:?}, expected 1 to {FOLDER_BYTES} bytes (three for each that is no letter of ASCII, digit, '_', '-' or '.') \
         without control characters and < > : \" / \\ | ? *"
    );
    Err(Error::usage("collection_name", message))
}

fn folder_name(name: &str) -> String {
    let last = name.len().wrapping_sub(PART.len());
    let mut written = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let is_special = byte == b'.' && (at == 0 || (at == last && name.ends_with(PART)));
        match is_plain && !is_special {
            true => written.push(char::from(byte)),
            false => written.push_str(&format!("%{byte:02X}")),
        }
    }
    written
}

/// The name of the collection whose folder is so called, if one can be.
fn name_of_folder(folder: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(folder.len());
    let mut rest = folder.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(match byte {
            b'%' => (digit(rest.next())? * 16 + digit(rest.next())?) as u8,
            plain => plain,
        });
    }
    let name = String::from_utf8(bytes).ok()?;
    (folder_name(&name) == folder).then_some(name)
}

/// What the folder of a collection is called while it is removed, before its name.
const GONE: &str = ".gone-";

/// Removes a collection: first its name, at once, then its files. Whoever has it open may read on, and must not write.
///
/// # Errors
/// Those of [`folder`] and of the disk.
pub fn remove(data: &Path, name: &str) -> Result<()> {
    let path = folder(data, name)?;
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    let gone = data.join(format!("{GONE}{own}"));
    if FileDisk.entry(&gone).at("look at", &gone)?.is_some() {
        remove_files(&gone)?;
    }
    FileDisk.rename(&path, &gone).at("rename", &path)?;
    FileDisk.sync_folder(data).at("sync", data)?;
    remove_files(&gone)
}

/// Removes what is left of collections whose removal was interrupted.
///
/// # Errors
/// Those of the disk.
pub fn sweep(data: &Path) -> Result<()> {
    let names = FileDisk.list(data).at("list", data)?;
    let gone = names.iter().filter(|name| name.starts_with(GONE));
    gone.map(|name| data.join(name)).try_for_each(|path| remove_files(&path))
}

fn remove_files(folder: &Path) -> Result<()> {
    for name in FileDisk.list(folder).at("list", folder)? {
        let path = folder.join(name);
        FileDisk.remove(&path).at("remove", &path)?;
    }
    FileDisk.remove_folder(folder).at("remove", folder)
}

/// The names of the collections in a folder, sorted: those of its folders that could be one.
///
/// # Errors
/// `not_found` if there is no such folder; those of the disk.
pub fn collections(data: &Path) -> Result<Vec<String>> {
    check_folder(&FileDisk, data)?;
    let names = FileDisk.list(data).at("list", data)?;
    let mut found = Vec::new();
    for own in names {
        let Some(name) = name_of_folder(&own) else { continue };
        let Ok(path) = folder(data, &name) else { continue };
        if FileDisk.entry(&path).at("look at", &path)? == Some(Entry::Folder) {
            found.push(name);
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_folder_of_its_own_that_leads_back_to_it() {
        let data = Path::new("data");
        for (name, own) in [
            ("notes", "notes"),
            ("sync notes", "sync%20notes"),
            ("a%20b", "a%2520b"),
            (".hidden", "%2Ehidden"),
            ("c.part", "c%2Epart"),
            (".part", "%2Epart"),
            ("c.party.1", "c.party.1"),
            ("höhe", "h%C3%B6he"),
        ] {
            assert_eq!(folder(data, name).unwrap(), data.join(own));
            assert_eq!(name_of_folder(own).as_deref(), Some(name));
        }
        let (long, wide) = ("a".repeat(256), "ä".repeat(50));
        for name in ["", ".", "..", "../c", "a/b", "a\\b", "a:b", "a\0", "a\n", "a*", &long, &wide]
        {
            assert_eq!(folder(data, name).unwrap_err().code(), "collection_name", "{name:?}");
        }
        for none in ["c.part", ".gone-c", "a%2", "a%zz", "a%C3", "a%61", "a b"] {
            assert_eq!(name_of_folder(none), None, "{none}");
        }
    }
}
