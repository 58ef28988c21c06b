//! The collection: points in a folder, found by vector, tenant and filter. Read this first.
//!
//! In: points (an id, vectors, a JSON payload). Out: for a query, a tenant and a filter the nearest points that the tenant may
//! read and that pass, never fewer than there are. Next: `write`, from a point to the record; `search`, from a question
//! to an answer; `state`, what is known in between and how it follows the record; `space`, one vector's base and what
//! came since; `base` and `near`, what the base is made of.
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
mod measure;
mod merge;
mod near;
mod passing;
mod places;
mod points;
pub mod query;
mod recent;
mod sample;
mod scroll;
mod seal;
mod search;
mod set_bits;
mod settings;
mod space;
mod state;
mod stored;
mod tenants;
mod together;
mod write;

pub use change::Which;
pub use collection::{Collection, Indexed};
pub use facet::FacetValue;
pub use facts::{Facts, IndexFacts, VectorFacts};
pub use scroll::{Direction, Offset, Order, Page, Scroll};
pub use search::{Answer, Ask, Found, How};
pub use settings::{DEFAULT_VECTOR, Settings, VectorSettings};
pub use stored::{StoredPoint, With, WithVectors};
pub use tenants::TenantsPage;
pub use write::{NewPoint, Vectors, Writer, tenants_at};

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::store::disk::{At, Disk, Entry, FileDisk, check_folder};

/// The folder of a collection within the folder of all.
///
/// # Errors
/// `collection_name`: names are 1 to 255 letters, digits, `_`, `-` and `.`, the first no `.`, the end no `.part`: so is called
/// what is being restored, and cleared away by the next attempt.
pub fn folder(data: &Path, name: &str) -> Result<PathBuf> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if (1..=255).contains(&name.len())
        && name.chars().all(is_plain)
        && !name.starts_with('.')
        && !name.ends_with(".part")
    {
        return Ok(data.join(name));
    }
    let message = format!(
        "{name:?}, expected 1 to 255 letters, digits, '_', '-' and '.', the first of them no '.', the end no '.part'"
    );
    Err(Error::usage("collection_name", message))
}

/// What the folder of a collection is called while it is removed, before its name.
const GONE: &str = ".gone-";

/// Removes a collection: first its name, at once, then its files. Whoever has it open may read on, and must not write.
///
/// # Errors
/// Those of [`folder`] and of the disk.
pub fn remove(data: &Path, name: &str) -> Result<()> {
    let path = folder(data, name)?;
    let gone = data.join(format!("{GONE}{name}"));
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
    for name in names {
        let Ok(path) = folder(data, &name) else { continue };
        if FileDisk.entry(&path).at("look at", &path)? == Some(Entry::Folder) {
            found.push(name);
        }
    }
    Ok(found)
}
