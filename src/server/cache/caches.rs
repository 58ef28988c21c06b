//! The caches of a server, by name, open. They lie in a folder of their own beside the collections.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use rayon::ThreadPool;

use serde::{Deserialize, Serialize};

use crate::cache::{CacheSettings, MachineClock, Policies, Seams, SemanticCache};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::server::cache::upstream::Upstream;
use crate::store::disk::FileDisk;

/// Their folder, in that of collections: no collection's is called so.
const FOLDER: &str = ".caches";

/// In the folder of a cache: its answers, and whose vectors they have.
const ANSWERS: &str = "answers";
const SETTINGS: &str = "settings.json";

/// Longest name of a cache.
const NAME_BYTES: usize = 128;

/// What caches are opened with.
pub struct Caches {
    folder: PathBuf,
    pool: Arc<ThreadPool>,
    opened: Mutex<BTreeMap<String, Arc<SemanticCache>>>,
    policies: RwLock<Arc<Policies>>,
    file: Option<PolicyFile>,
}

/// Whose vectors a cache has, as written down.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    dim: usize,
    embedder: String,
}

/// The file of policies, and when it was changed last.
struct PolicyFile {
    path: PathBuf,
    seen: Mutex<Option<SystemTime>>,
}

impl Caches {
    /// The caches beside the collections of `data`; those that are there are opened.
    ///
    /// # Errors
    /// Those of the policy file, and of opening.
    pub fn open(data: &Path, policy: Option<&Path>, pool: Arc<ThreadPool>) -> Result<Self> {
        let file = policy.map(|path| PolicyFile { path: path.to_owned(), seen: Mutex::default() });
        let policies = file.as_ref().map(PolicyFile::read).transpose()?.unwrap_or_default();
        let folder = data.join(FOLDER);
        let caches = Self {
            folder,
            pool,
            opened: Mutex::default(),
            policies: RwLock::new(Arc::new(policies)),
            file,
        };
        for name in caches.there()? {
            let own = caches.folder.join(&name);
            let cache =
                caches.opened_at(&own).map_err(|error| error.within(format!("cache {name:?}")))?;
            caches.held().insert(name, cache);
        }
        Ok(caches)
    }

    /// Names of the caches that are there.
    fn there(&self) -> Result<Vec<String>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder).at("list", &self.folder)? {
            let entry = entry.at("list", &self.folder)?;
            let name = entry.file_name().into_string().unwrap_or_default();
            // A cache is there from when its settings are: they are written last.
            if entry.path().join(SETTINGS).exists() && check_name(&name).is_ok() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn opened_at(&self, folder: &Path) -> Result<Arc<SemanticCache>> {
        let path = folder.join(SETTINGS);
        let text = std::fs::read_to_string(&path).at("read", &path)?;
        let Written { dim, embedder } =
            serde_json::from_str(&text).map_err(|error| Error::corrupt(&path, 0, error))?;
        let settings = CacheSettings { dim, embedder };
        let answers = folder.join(ANSWERS);
        let policies = Policies::clone(&self.policies());
        SemanticCache::open(&answers, settings, policies, self.seams()?).map(Arc::new)
    }

    fn seams(&self) -> Result<Seams> {
        let seed = getrandom::u64().map_err(|error| {
            Error::new(ErrorKind::Io, "randomness", format!("the system gives none: {error}"))
        })?;
        let (disk, clock) = (Arc::new(FileDisk), Arc::new(MachineClock::default()));
        Ok(Seams { disk, clock, pool: Arc::clone(&self.pool), seed })
    }

    /// The cache of this name, if there is one.
    pub fn get(&self, name: &str) -> Option<Arc<SemanticCache>> {
        self.held().get(name).cloned()
    }

    /// Names of all caches.
    pub fn names(&self) -> Vec<String> {
        self.held().keys().cloned().collect()
    }

    /// The cache of this name, made for rows of this embedder if there is none.
    ///
    /// # Errors
    /// `cache_name`; those of the library.
    pub fn made(&self, name: &str, settings: &CacheSettings) -> Result<Arc<SemanticCache>> {
        check_name(name)?;
        let mut held = self.held();
        if let Some(cache) = held.get(name) {
            return Ok(Arc::clone(cache));
        }
        let folder = self.folder.join(name);
        if folder.exists() {
            // Made halfway, by a server that was stopped meanwhile: it has no answers.
            std::fs::remove_dir_all(&folder).at("remove", &folder)?;
        }
        std::fs::create_dir_all(&folder).at("create", &folder)?;
        let (policies, seams) = (Policies::clone(&self.policies()), self.seams()?);
        let made = SemanticCache::create(&folder.join(ANSWERS), settings.clone(), policies, seams)?;
        write_settings(&folder, settings)?;
        let cache = Arc::new(made);
        held.insert(name.to_owned(), Arc::clone(&cache));
        Ok(cache)
    }

    /// The policies as they are now.
    pub fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the policy file again if it was changed. What cannot be read changes nothing.
    ///
    /// # Errors
    /// Those of the file: the policies stay what they were.
    pub fn follow(&self) -> Result<bool> {
        let Some(file) = self.file.as_ref().filter(|file| file.is_changed()) else {
            return Ok(false);
        };
        let policies = file.read()?;
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policies.clone());
        let all: Vec<_> = self.held().values().cloned().collect();
        for cache in all {
            cache.reload(policies.clone())?;
        }
        Ok(true)
    }

    /// Tells all caches how loaded the models are, 0 to 1.
    pub fn load(&self, load: f32) {
        for cache in self.held().values() {
            // Of a load in that range it says nothing.
            let _ = cache.load(load);
        }
    }

    /// Lets what is dead go, in all caches.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn upkeep(&self) -> Result<()> {
        let all: Vec<_> = self.held().values().cloned().collect();
        all.iter().try_for_each(|cache| cache.upkeep().map(drop))
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Arc<SemanticCache>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PolicyFile {
    fn read(&self) -> Result<Policies> {
        // Looked at before it is read: what is written in between is read again.
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = self.changed();
        let text = std::fs::read_to_string(&self.path).at("read", &self.path)?;
        let file = self.path.display().to_string();
        let policies = Policies::from_toml(&text, &file)?;
        for (key, url) in urls(&policies) {
            Upstream::check(url).map_err(|error| {
                Error::new(ErrorKind::BadInput, "policy", format!("{file}: {key}: {error}"))
            })?;
        }
        Ok(policies)
    }

    fn changed(&self) -> Option<SystemTime> {
        std::fs::metadata(&self.path).and_then(|found| found.modified()).ok()
    }

    fn is_changed(&self) -> bool {
        let changed = self.changed();
        changed.is_some() && changed != *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where policies send the server, and the keys that say so.
fn urls(policies: &Policies) -> Vec<(String, &str)> {
    let categories = policies.categories.iter();
    let categories = categories.map(|(name, own)| (format!("category.{name}"), own));
    let all = std::iter::once(("default".to_owned(), &policies.default)).chain(categories);
    let judges =
        all.filter_map(|(place, own)| Some((format!("{place}.judge"), own.judge.as_deref()?)));
    let load = policies.load.iter().map(|own| ("load.metrics".to_owned(), own.url.as_str()));
    judges.chain(load).collect()
}

/// Writes settings whole or not at all.
fn write_settings(folder: &Path, settings: &CacheSettings) -> Result<()> {
    let written = Written { dim: settings.dim, embedder: settings.embedder.clone() };
    let text = serde_json::to_vec(&written).expect("a number and a text");
    let (aside, path) = (folder.join("settings.part"), folder.join(SETTINGS));
    std::fs::write(&aside, text).at("write", &aside)?;
    let file = std::fs::File::open(&aside).at("open", &aside)?;
    file.sync_all().at("sync", &aside)?;
    std::fs::rename(&aside, &path).at("rename", &path)
}

/// Fails for what cannot be the name of a cache and of its folder.
fn check_name(name: &str) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if (1..=NAME_BYTES).contains(&name.len())
        && name.chars().all(is_plain)
        && !name.starts_with('.')
    {
        return Ok(());
    }
    let message = format!(
        "{name:?}, expected 1 to {NAME_BYTES} letters of ASCII, digits, '_', '-' and '.', of which the first is no '.'"
    );
    Err(Error::new(ErrorKind::BadInput, "cache_name", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_a_folder_and_of_nothing_else() {
        for name in ["proxy", "a", "A-1_b.c", "0f3a"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "x".repeat(NAME_BYTES + 1);
        for name in ["", ".", "..", ".a", "a/b", "a b", "é", "a\0", "{cache}", &long] {
            assert_eq!(check_name(name).unwrap_err().code(), "cache_name", "{name}");
        }
    }
}
