//! Other names of collections: one small file, replaced whole.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{At, Disk, FileDisk, Mode};

const FILE: &str = ".aliases.json";

/// Aliases in a folder at once.
const LIMIT: usize = 10_000;

/// Bytes of an alias.
const NAME_BYTES: usize = 255;

/// Aliases, each with the collection that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases(BTreeMap<String, String>);

impl Aliases {
    /// Those of a folder.
    ///
    /// # Errors
    /// `corrupt_file`; those of the disk.
    pub fn read(data: &Path) -> Result<Self> {
        let path = data.join(FILE);
        if FileDisk.entry(&path).at("look at", &path)?.is_none() {
            return Ok(Self::default());
        }
        let file = FileDisk.open(&path, Mode::Read).at("open", &path)?;
        let n_bytes = file.n_bytes().at("look at", &path)?;
        let mut bytes = vec![0; n_bytes as usize];
        file.read_at(0, &mut bytes).at("read", &path)?;
        let aliases = serde_json::from_slice(&bytes);
        aliases.map(Self).map_err(|error| Error::corrupt(&path, 0, error))
    }

    /// Writes them aside, synced, and puts them in the place of those before.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&self, data: &Path) -> Result<()> {
        let (path, part) = (data.join(FILE), data.join(format!("{FILE}.part")));
        if FileDisk.entry(&part).at("look at", &part)?.is_some() {
            FileDisk.remove(&part).at("remove", &part)?;
        }
        let bytes = serde_json::to_vec(&self.0).expect("strings have a form in JSON");
        let file = FileDisk.open(&part, Mode::New).at("create", &part)?;
        file.write_at(0, &bytes).at("write", &part)?;
        file.sync().at("sync", &part)?;
        FileDisk.rename(&part, &path).at("rename", &part)?;
        FileDisk.sync_folder(data).at("sync", data)
    }

    /// The collection that an alias names.
    pub fn get(&self, alias: &str) -> Option<&str> {
        self.0.get(alias).map(String::as_str)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(alias, collection)| (&**alias, &**collection))
    }

    /// Gives a collection another name; an alias of that name is of this collection then.
    ///
    /// # Errors
    /// `alias_name`, `aliases`.
    pub fn create(&mut self, alias: &str, collection: &str) -> Result<()> {
        let is_seen = alias.chars().all(|c| !c.is_control() && !matches!(c, '/' | '\\'));
        if !(1..=NAME_BYTES).contains(&alias.len()) || !is_seen {
            let message = format!("{alias:?}, expected 1 to {NAME_BYTES} bytes without separators");
            return Err(Error::usage("alias_name", message));
        }
        if self.0.len() == LIMIT && !self.0.contains_key(alias) {
            return Err(Error::usage("aliases", format!("there are {LIMIT}, the limit")));
        }
        self.0.insert(alias.to_owned(), collection.to_owned());
        Ok(())
    }

    /// Takes an alias away.
    ///
    /// # Errors
    /// `alias_not_found`.
    pub fn delete(&mut self, alias: &str) -> Result<String> {
        self.0.remove(alias).ok_or_else(|| no_alias(alias))
    }

    /// Takes all aliases of a collection away.
    pub fn forget(&mut self, collection: &str) {
        self.0.retain(|_, own| own != collection);
    }
}

/// There is no alias of this name, or not for whoever asks.
pub fn no_alias(alias: &str) -> Error {
    Error::new(ErrorKind::NotFound, "alias_not_found", format!("there is no alias {alias:?}"))
}
