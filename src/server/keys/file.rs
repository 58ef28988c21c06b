//! `keys.json`: who holds a key, and what for. Of secrets it has hashes only.
//!
//! Written aside, synced and renamed, by one process at a time; readable by its owner only, or refused.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::limits;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::server::keys::rule::Scope;
use crate::server::keys::text::{KeyId, SecretHash};
use crate::store::disk::{Disk, Entry, FileDisk};

/// The version of the file that is written.
const FORMAT: u32 = 1;

/// What is at rest of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// What it is found by.
    pub id: KeyId,
    /// What a person calls it.
    pub name: String,
    /// What its secret is compared with.
    pub secret_sha256: SecretHash,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// Whose points it finds; all points without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The collections that there are for it; all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collections: Option<Vec<String>>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// From when on it is refused, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// When it was revoked, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// How much it may be used.
    #[serde(default)]
    pub quotas: Quotas,
}

/// How much a key may be used; without limit where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Points that its tenant may have in a collection, or a collection all together for a key without tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<u64>,
    /// Requests in a second; as many at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Share of the workers beside other users, each of whom has 1 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    format: u32,
    keys: Vec<KeyRecord>,
}

impl KeyRecord {
    /// Whether it is neither ended nor revoked.
    pub fn is_live(&self, unix_s: u64) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|end| unix_s < end)
    }

    /// Checks what cannot be said by types.
    ///
    /// # Errors
    /// `key_name`, `key_scopes`, `key_tenant`, `key_collections` or `key_quotas`.
    pub fn check(&self) -> Result<()> {
        let wrong = |code, message: String| Err(Error::usage(code, message));
        if !is_name(&self.name) {
            return wrong("key_name", format!("{:?}, {NAMED}", self.name));
        }
        if self.scopes.is_empty() {
            return wrong("key_scopes", "none, expected read, write, admin or metrics".to_owned());
        }
        if let Some(tenant) = &self.tenant {
            if !is_name(tenant) {
                return wrong("key_tenant", format!("{tenant:?}, {NAMED}"));
            }
            let wide = [Scope::Admin, Scope::Metrics].into_iter().find(|s| self.scopes.contains(s));
            if let Some(scope) = wide {
                let message = format!("{scope} is for all tenants, and this key is of {tenant:?}");
                return wrong("key_scopes", message);
            }
        }
        self.check_collections()?;
        self.quotas.check()
    }

    fn check_collections(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::usage("key_collections", message));
        let names = self.collections.as_deref().unwrap_or_default();
        if names.len() > limits::KEY_COLLECTIONS {
            return wrong(format!("{}, limit {}", names.len(), limits::KEY_COLLECTIONS));
        }
        names
            .iter()
            .find(|name| !is_name(name))
            .map_or(Ok(()), |name| wrong(format!("{name:?}, {NAMED}")))
    }
}

impl Quotas {
    fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::usage("key_quotas", message));
        if self.requests_per_second == Some(0) {
            return wrong("0 requests per second, expected at least 1".to_owned());
        }
        match self.weight {
            Some(weight) if !(1..=limits::KEY_WEIGHT).contains(&weight) => {
                wrong(format!("weight {weight}, expected 1 to {}", limits::KEY_WEIGHT))
            }
            _ => Ok(()),
        }
    }
}

const NAMED: &str = "expected 1 to 255 bytes and no control characters";

fn is_name(text: &str) -> bool {
    (1..=limits::NAME_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The file of a folder of collections.
pub fn path(data: &Path) -> PathBuf {
    data.join("keys.json")
}

/// The keys of a folder of collections, in the order in which they were made; `None` if there is no file.
///
/// # Errors
/// `key_file_mode` if others can read it; `key_file_type`; `keys_invalid`; those of the disk.
pub fn read(data: &Path) -> Result<Option<Vec<KeyRecord>>> {
    let path = path(data);
    // A link is not followed: what it leads to may be readable by others tomorrow.
    match FileDisk.entry(&path).at("look at", &path)? {
        Some(Entry::File) => (),
        None => return Ok(None),
        Some(_) => {
            let message = format!("{} is a link or a folder, expected a file", path.display());
            return Err(Error::usage("key_file_type", message));
        }
    }
    let file = File::open(&path).at("open", &path)?;
    check_mode(&path, &file)?;
    let mut bytes = Vec::new();
    file.take(limits::KEY_FILE_BYTES + 1).read_to_end(&mut bytes).at("read", &path)?;
    parse(&bytes).map(Some).map_err(|error| error.within(path.display()))
}

fn check_mode(path: &Path, file: &File) -> Result<()> {
    let mode = file.metadata().at("look at", path)?.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    let message = format!("{path} has mode {mode:03o}, expected 600: chmod 600 {path}");
    Err(Error::usage("key_file_mode", message))
}

fn parse(bytes: &[u8]) -> Result<Vec<KeyRecord>> {
    let wrong = |message: String| Error::new(ErrorKind::BadInput, "keys_invalid", message);
    if bytes.len() as u64 > limits::KEY_FILE_BYTES {
        return Err(wrong(format!("over {} bytes", limits::KEY_FILE_BYTES)));
    }
    let file: KeyFile = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    if file.format != FORMAT {
        return Err(wrong(format!("format {}, expected {FORMAT}", file.format)));
    }
    if file.keys.len() > limits::KEYS {
        return Err(wrong(format!("{} keys, limit {}", file.keys.len(), limits::KEYS)));
    }
    let mut ids = HashSet::new();
    for key in &file.keys {
        key.check().map_err(|error| error.within(format_args!("key {}", key.id)))?;
        if !ids.insert(key.id) {
            return Err(wrong(format!("key {} is there twice", key.id)));
        }
    }
    Ok(file.keys)
}

/// Changes the keys of a folder of collections, alone. Returns what `change` does; nothing is written if it fails.
///
/// # Errors
/// `keys_locked` if another process does so now; those of `change`, of reading and of the disk.
pub fn change<T>(data: &Path, change: impl FnOnce(&mut Vec<KeyRecord>) -> Result<T>) -> Result<T> {
    let lock = data.join("keys.lock");
    let note = format!("process {}", std::process::id());
    let _held = FileDisk.lock(&lock, &note).at("lock", &lock)?.map_err(|holder| {
        let message = format!("{} is held by {holder}", lock.display());
        Error::new(ErrorKind::Locked, "keys_locked", message)
    })?;
    let mut keys = read(data)?.unwrap_or_default();
    let changed = change(&mut keys)?;
    let file = KeyFile { format: FORMAT, keys };
    let bytes = serde_json::to_vec_pretty(&file).expect("keys are strings and numbers");
    parse(&bytes)?;
    write(data, &bytes)?;
    Ok(changed)
}

fn write(data: &Path, bytes: &[u8]) -> Result<()> {
    let (path, aside) = (path(data), data.join("keys.json.part"));
    // What an attempt left that was killed half-way; the lock is ours.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).at("remove", &aside);
        }
        _ => (),
    }
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside);
    let mut file = options.at("create", &aside)?;
    file.write_all(bytes).at("write", &aside)?;
    file.sync_all().at("sync", &aside)?;
    fs::rename(&aside, &path).at("rename", &aside)?;
    FileDisk.sync_folder(data).at("sync", data)
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::server::keys::text::Key;

    /// A key that may read everything, and what is kept of it.
    pub fn reader(name: &str) -> (Key, KeyRecord) {
        let key = Key::random().unwrap();
        let record = KeyRecord {
            id: key.id(),
            name: name.to_owned(),
            secret_sha256: key.hash(),
            scopes: vec![Scope::Read],
            tenant: None,
            collections: None,
            created: 1_700_000_000,
            expires: None,
            revoked: None,
            quotas: Quotas::default(),
        };
        (key, record)
    }

    fn add(data: &Path, record: KeyRecord) -> Result<()> {
        change(data, |keys| {
            keys.push(record);
            Ok(())
        })
    }

    #[test]
    fn what_is_written_is_read_and_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let (key, mut full) = reader("all of it");
        full.tenant = Some("ann".into());
        full.collections = Some(vec!["notes".into()]);
        (full.expires, full.revoked) = (Some(2_000_000_000), Some(1_800_000_000));
        full.quotas = Quotas { points: Some(7), requests_per_second: Some(9), weight: Some(3) };
        let (_, plain) = reader("plain");
        add(dir.path(), full.clone()).unwrap();
        add(dir.path(), plain.clone()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(vec![full, plain]));
        let file = path(dir.path());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&file).unwrap();
        let secret = &key.text()[21..85];
        assert!(!text.contains(secret) && !text.contains(&secret[..12]), "{text}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(dir.path()).unwrap_err();
        assert_eq!((error.code(), error.kind().exit_code()), ("key_file_mode", 2));
        assert!(error.to_string().contains("mode 640, expected 600: chmod 600 "), "{error}");
    }

    #[test]
    fn a_change_that_fails_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (_, record) = reader("one");
        add(dir.path(), record.clone()).unwrap();
        fs::write(dir.path().join("keys.json.part"), "left by a killed attempt").unwrap();
        let twice = add(dir.path(), record.clone()).unwrap_err();
        assert!(twice.to_string().contains("is there twice"), "{twice}");
        let refused: Result<()> = change(dir.path(), |_| Err(Error::usage("no", "no")));
        assert_eq!(refused.unwrap_err().code(), "no");
        let held = FileDisk.lock(&dir.path().join("keys.lock"), "process 7").unwrap().unwrap();
        let locked = add(dir.path(), reader("two").1).unwrap_err();
        assert_eq!((locked.code(), locked.kind().exit_code()), ("keys_locked", 7));
        drop(held);
        assert_eq!(read(dir.path()).unwrap(), Some(vec![record]));
        add(dir.path(), reader("two").1).unwrap();
        assert_eq!(read(dir.path()).unwrap().unwrap().len(), 2);
    }

    #[test]
    fn a_file_that_is_not_what_we_write_is_refused_and_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let (_, record) = reader("one");
        add(dir.path(), record).unwrap();
        let whole = fs::read_to_string(path(dir.path())).unwrap();
        let cases = [
            ("\"read\"", "\"raed\"", "raed"),
            ("\"format\": 1", "\"format\": 2", "format 2, expected 1"),
            ("\"created\"", "\"kreated\"", "kreated"),
            ("\"name\": \"one\"", "\"name\": \"\"", "key_name"),
            ("\"read\"", "", "key_scopes"),
            ("]\n}", "]\n}}", "trailing characters"),
        ];
        for (from, to, said) in cases {
            assert!(whole.contains(from), "{from}");
            fs::write(path(dir.path()), whole.replacen(from, to, 1)).unwrap();
            let error = read(dir.path()).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("keys.json"), "{error}");
        }
        for cut in (0..whole.len()).step_by(7) {
            fs::write(path(dir.path()), &whole[..cut]).unwrap();
            assert_eq!(read(dir.path()).unwrap_err().code(), "keys_invalid", "{cut}");
        }
        fs::rename(path(dir.path()), dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", path(dir.path())).unwrap();
        assert_eq!(read(dir.path()).unwrap_err().code(), "key_file_type");
    }

    #[test]
    fn keys_that_contradict_themselves_are_refused() {
        let code = |change: &dyn Fn(&mut KeyRecord)| {
            let mut record = reader("one").1;
            change(&mut record);
            record.check().map_or_else(|error| error.code(), |()| "fine")
        };
        assert_eq!(code(&|_| ()), "fine");
        assert_eq!(code(&|key| key.name = "a\nb".into()), "key_name");
        assert_eq!(code(&|key| key.scopes.clear()), "key_scopes");
        assert_eq!(code(&|key| key.tenant = Some("x".repeat(256))), "key_tenant");
        assert_eq!(code(&|key| key.collections = Some(vec![String::new()])), "key_collections");
        assert_eq!(code(&|key| key.quotas.requests_per_second = Some(0)), "key_quotas");
        assert_eq!(code(&|key| key.quotas.weight = Some(101)), "key_quotas");
        for scope in [Scope::Admin, Scope::Metrics] {
            let both = |key: &mut KeyRecord| {
                (key.scopes, key.tenant) = (vec![Scope::Read, scope], Some("ann".into()));
            };
            assert_eq!(code(&both), "key_scopes");
        }
    }
}
