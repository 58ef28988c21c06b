//! Collections of a folder, open, and the aliases of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use rayon::ThreadPool;

use crate::engine::{self, Collection, Settings, Writer, collections, folder};
use crate::error::{Error, ErrorKind, Result};
use crate::server::aliases::Aliases;
use crate::server::keys::refusal::Refusal;
use crate::store::disk::{At, Disk, FileDisk, Lock};

/// The file that is locked while a server has the folder.
const LOCK: &str = ".server.lock";

/// What collections are opened with.
#[derive(Clone)]
pub struct Opening {
    /// Threads that search and build.
    pub pool: Arc<ThreadPool>,
    /// Memory for the vectors and codes of each.
    pub budget_bytes: u64,
    /// Share of the queries that are asked again.
    pub check_recall: f64,
}

/// A collection that is there: opened when it is first asked for.
pub struct Entry {
    name: String,
    folder: PathBuf,
    opening: Opening,
    opened: Mutex<Option<Arc<Collection>>>,
    /// Held by whoever changes it.
    pub writing: Arc<tokio::sync::Mutex<()>>,
    /// Whether it was changed since upkeep last looked.
    changed: AtomicBool,
}

impl Entry {
    fn new(data: &Path, name: &str, opening: &Opening) -> Result<Arc<Self>> {
        let (name, folder) = (name.to_owned(), folder(data, name)?);
        let (opened, writing, changed) = Default::default();
        Ok(Arc::new(Self { name, folder, opening: opening.clone(), opened, writing, changed }))
    }

    /// Its name, whatever alias it was asked for by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The collection.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn collection(&self) -> Result<Arc<Collection>> {
        let mut opened = self.opened.lock().expect("no holder panics");
        if let Some(collection) = &*opened {
            return Ok(Arc::clone(collection));
        }
        let Opening { pool, budget_bytes, check_recall } = &self.opening;
        let collection = Arc::new(Collection::open(&self.folder, pool, *budget_bytes)?);
        collection.sample_recall(*check_recall)?;
        *opened = Some(Arc::clone(&collection));
        Ok(collection)
    }

    /// The collection, if somebody asked for it.
    pub fn opened(&self) -> Option<Arc<Collection>> {
        self.opened.lock().expect("no holder panics").clone()
    }

    /// Lets go of the collection: whoever asks for it next opens it anew, and so checks it.
    pub fn close(&self) {
        *self.opened.lock().expect("no holder panics") = None;
    }

    /// Notes that it was changed.
    pub fn mark_changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Whether it was changed since this was last asked.
    pub fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }
}

/// All collections of a folder, by name, and their aliases.
pub struct Catalog {
    data: PathBuf,
    opening: Opening,
    entries: RwLock<BTreeMap<String, Arc<Entry>>>,
    aliases: RwLock<Aliases>,
    /// Held by whoever makes or deletes collections or changes aliases.
    changing: Mutex<()>,
    _lock: Lock,
}

impl Catalog {
    /// The collections of `data`, which is made if it is not there; none is opened yet.
    ///
    /// # Errors
    /// `locked` if another server has the folder; those of the disk and of reading aliases.
    pub fn open(data: &Path, opening: Opening) -> Result<Self> {
        if FileDisk.entry(data).at("look at", data)?.is_none() {
            FileDisk.create_folder(data).at("create", data)?;
        }
        let path = data.join(LOCK);
        let note = format!("a server, process {}", std::process::id());
        let lock = FileDisk.lock(&path, &note).at("lock", &path)?.map_err(|holder| {
            let message = format!("{} is held by {holder}", data.display());
            Error::new(ErrorKind::Locked, "locked", message)
        })?;
        engine::sweep(data)?;
        let mut entries = BTreeMap::new();
        for name in collections(data)? {
            let entry = Entry::new(data, &name, &opening)?;
            entries.insert(name, entry);
        }
        let aliases = RwLock::new(Aliases::read(data)?);
        let (data, entries, changing) = (data.to_owned(), RwLock::new(entries), Mutex::default());
        Ok(Self { data, opening, entries, aliases, changing, _lock: lock })
    }

    /// The collection of this name or alias.
    ///
    /// # Errors
    /// `collection_not_found`.
    pub fn entry(&self, name: &str) -> Result<Arc<Entry>> {
        if let Some(entry) = self.of_name(name) {
            return Ok(entry);
        }
        let target = self.aliases.read().expect("no holder panics").get(name).map(str::to_owned);
        target.and_then(|name| self.of_name(&name)).ok_or_else(|| not_found(name))
    }

    /// The name of the collection that is meant by a name or an alias; what is neither is a name of nothing.
    pub fn meant(&self, name: &str) -> String {
        let aliases = self.aliases.read().expect("no holder panics");
        let is_alias = self.of_name(name).is_none();
        aliases.get(name).filter(|_| is_alias).unwrap_or(name).to_owned()
    }

    /// The collection of this name.
    pub fn of_name(&self, name: &str) -> Option<Arc<Entry>> {
        self.entries.read().expect("no holder panics").get(name).cloned()
    }

    /// Whether queries are asked again to know recall.
    pub fn checks_recall(&self) -> bool {
        self.opening.check_recall > 0.0
    }

    /// All collections, by name.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.read().expect("no holder panics").values().cloned().collect()
    }

    /// Makes a collection.
    ///
    /// # Errors
    /// `collection_name`; `collection_exists` if there is one or an alias of this name; those of the settings and the disk.
    pub fn create(&self, name: &str, settings: &Settings) -> Result<()> {
        let _changing = self.changing.lock().expect("no holder panics");
        let is_alias = self.aliases.read().expect("no holder panics").get(name).is_some();
        if is_alias || self.of_name(name).is_some() {
            let what = if is_alias { "an alias" } else { "a collection" };
            let message = format!("there is {what} {name:?} already");
            return Err(Error::usage("collection_exists", message));
        }
        let entry = Entry::new(&self.data, name, &self.opening)?;
        drop(Writer::open(&entry.folder, settings)?);
        entry.collection()?;
        self.entries.write().expect("no holder panics").insert(name.to_owned(), entry);
        Ok(())
    }

    /// Deletes the collection of this name with its aliases; says whether there was one. What is being read of it is read to its end.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn delete(&self, name: &str) -> Result<bool> {
        let _changing = self.changing.lock().expect("no holder panics");
        let Some(entry) = self.of_name(name) else { return Ok(false) };
        let _writing = entry.writing.blocking_lock();
        self.edit_aliases(|aliases| {
            aliases.forget(name);
            Ok(())
        })?;
        engine::remove(&self.data, name)?;
        self.entries.write().expect("no holder panics").remove(name);
        entry.close();
        Ok(true)
    }

    /// Aliases, each with its collection.
    pub fn aliases(&self) -> Aliases {
        self.aliases.read().expect("no holder panics").clone()
    }

    /// Changes aliases, all that `edit` does or nothing.
    ///
    /// # Errors
    /// Those of `edit` and of the disk.
    pub fn change_aliases(&self, edit: impl FnOnce(&mut Aliases) -> Result<()>) -> Result<()> {
        let _changing = self.changing.lock().expect("no holder panics");
        self.edit_aliases(edit)
    }

    fn edit_aliases(&self, edit: impl FnOnce(&mut Aliases) -> Result<()>) -> Result<()> {
        let before = self.aliases();
        let mut after = before.clone();
        edit(&mut after)?;
        if after != before {
            after.write(&self.data)?;
            *self.aliases.write().expect("no holder panics") = after;
        }
        Ok(())
    }
}

/// There is no collection of this name, or not for whoever asks.
pub fn not_found(name: &str) -> Error {
    let refusal = Refusal::collection_not_found(name);
    Error::new(ErrorKind::NotFound, refusal.code, refusal.message)
}
