//! The keys of a running server: read once, and again as soon as their file is another.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::{Error, Result};
use crate::server::keys::file::{self, KeyRecord};
use crate::server::keys::refusal::Refusal;
use crate::server::keys::text::{Key, KeyId, SecretHash};
use crate::server::moment::Moment;

/// How often the file is looked at: a key that is revoked is refused after so long.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// All keys there are.
type Keys = Arc<HashMap<KeyId, Arc<KeyRecord>>>;

/// The keys of a folder of collections, as they are now.
#[derive(Debug)]
pub struct Ring {
    data: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// What the file was when it was read.
    seen: Option<Seen>,
    /// When it is looked at next.
    next_look: Duration,
    /// `None` while no file was ever there; an error if it cannot be read, or is gone.
    keys: Result<Option<Keys>>,
}

/// What changes whenever a file is written, replaced, or made readable to others.
type Seen = (u64, u64, i64, i64, u32);

/// Whether a key is asked for at all.
#[derive(Clone, Debug)]
pub enum Holder {
    /// There are no keys: whoever reaches the port may do everything.
    NoKeys,
    /// The key that came.
    Known(Arc<KeyRecord>),
}

impl Ring {
    /// Reads the keys of a folder of collections.
    ///
    /// # Errors
    /// Those of [`file::read`].
    pub fn open(data: &Path) -> Result<Self> {
        let seen = look(data)?;
        let keys = file::read(data)?.map(by_id);
        let known = Known { seen, next_look: Duration::ZERO, keys: Ok(keys) };
        Ok(Self { data: data.to_owned(), known: Mutex::new(known) })
    }

    /// Whether there are any, revoked ones included: without, everybody may do everything.
    pub fn has_keys(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(known.keys, Ok(None))
    }

    /// Why keys cannot be read at the moment.
    pub fn trouble(&self) -> Option<Error> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.keys.as_ref().err().cloned()
    }

    /// The holder of a key. What does not exist takes the same work as what does.
    ///
    /// # Errors
    /// `key_missing`, `key_invalid`, `keys_unreadable`.
    pub fn holder(&self, text: Option<&str>, now: Moment) -> Result<Holder, Refusal> {
        let keys = match self.keys(now) {
            Ok(Some(keys)) => keys,
            Ok(None) => return Ok(Holder::NoKeys),
            Err(_) => return Err(Refusal::keys_unreadable()),
        };
        let text = text.ok_or_else(Refusal::key_missing)?;
        find(&keys, text, now).map(Holder::Known).ok_or_else(Refusal::key_invalid)
    }

    /// The keys as they are now.
    fn keys(&self, now: Moment) -> Result<Option<Keys>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if now.steady >= known.next_look {
            known.next_look = now.steady + LOOK_EVERY;
            known.follow(&self.data);
        }
        known.keys.clone()
    }
}

impl Known {
    /// Reads the file again if it is another than it was.
    fn follow(&mut self, data: &Path) {
        let seen = match look(data) {
            Ok(seen) if seen == self.seen && self.keys.is_ok() => return,
            Ok(seen) => seen,
            Err(error) => {
                self.keys = Err(error);
                return;
            }
        };
        // Looked at before it was read: what is written in between is read again.
        self.seen = seen;
        self.keys = match file::read(data) {
            Ok(Some(keys)) => Ok(Some(by_id(keys))),
            Ok(None) if matches!(self.keys, Ok(None)) => Ok(None),
            // Whoever loses the file of keys has not decided to do without.
            Ok(None) => Err(Error::usage("keys_gone", file::path(data).display().to_string())),
            Err(error) => Err(error),
        };
    }
}

fn by_id(keys: Vec<KeyRecord>) -> Keys {
    Arc::new(keys.into_iter().map(|key| (key.id, Arc::new(key))).collect())
}

fn look(data: &Path) -> Result<Option<Seen>> {
    let path = file::path(data);
    match fs::symlink_metadata(&path) {
        Ok(found) => {
            let changed = (found.ctime(), found.ctime_nsec());
            Ok(Some((found.ino(), found.size(), changed.0, changed.1, found.mode())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("look at", &path, &error)),
    }
}

/// The key of this text, if it is known, its secret is right, and it is live. All of it is looked at in any case.
fn find(keys: &Keys, text: &str, now: Moment) -> Option<Arc<KeyRecord>> {
    let parsed = text.parse::<Key>();
    let id = parsed.as_ref().map_or(KeyId(0), Key::id);
    // What is no key is hashed as it came, so that it takes as long.
    let given = parsed.as_ref().map_or_else(|_| hash_of_text(text), Key::hash);
    let found = keys.get(&id);
    let kept = found.map_or([0; 32], |key| key.secret_sha256.0);
    let is_same = given.0.ct_eq(&kept);
    let is_live = found.is_some_and(|key| key.is_live(now.unix_s()));
    (bool::from(is_same) & is_live & parsed.is_ok()).then(|| found.cloned()).flatten()
}

fn hash_of_text(text: &str) -> SecretHash {
    SecretHash(Sha256::digest(&text.as_bytes()[..text.len().min(32)]).into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::server::keys::file::tests::reader;

    fn at(ms: u64) -> Moment {
        Moment { unix_ms: 1_750_000_000_000 + ms, steady: Duration::from_millis(ms) }
    }

    fn put(data: &Path, record: &KeyRecord) {
        file::change(data, |keys| {
            keys.retain(|key| key.id != record.id);
            keys.push(record.clone());
            Ok(())
        })
        .unwrap();
    }

    fn status(ring: &Ring, text: &str, ms: u64) -> u16 {
        ring.holder(Some(text), at(ms)).map_or_else(|no| no.status, |_| 200)
    }

    #[test]
    fn malformed_unknown_ended_and_revoked_are_one_answer() {
        let dir = tempfile::tempdir().unwrap();
        let (key, good) = reader("good");
        let (ended_key, mut ended) = reader("ended");
        let (revoked_key, mut revoked) = reader("revoked");
        ended.expires = Some(at(0).unix_s());
        revoked.revoked = Some(1);
        for record in [&good, &ended, &revoked] {
            put(dir.path(), record);
        }
        let ring = Ring::open(dir.path()).unwrap();
        assert!(
            matches!(ring.holder(Some(&key.text()), at(0)), Ok(Holder::Known(k)) if *k == good)
        );
        let unknown = Key::random().unwrap().text();
        // The id of one key with the secret of another.
        let mixed = reader("mixed").1;
        let mixed = KeyRecord { id: good.id, ..mixed };
        assert!(mixed.secret_sha256 != good.secret_sha256);
        let cut = &key.text()[..90];
        for text in ["", "x", cut, &unknown, &ended_key.text(), &revoked_key.text()] {
            assert_eq!(ring.holder(Some(text), at(0)).unwrap_err(), Refusal::key_invalid());
        }
        put(dir.path(), &mixed);
        let ring = Ring::open(dir.path()).unwrap();
        assert_eq!(ring.holder(Some(&key.text()), at(0)).unwrap_err(), Refusal::key_invalid());
        assert_eq!(ring.holder(None, at(0)).unwrap_err(), Refusal::key_missing());
    }

    #[test]
    fn a_key_ends_at_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let (key, mut record) = reader("a day");
        record.expires = Some(at(10_000).unix_s());
        put(dir.path(), &record);
        let ring = Ring::open(dir.path()).unwrap();
        assert_eq!(status(&ring, &key.text(), 9_999), 200);
        assert_eq!(status(&ring, &key.text(), 10_000), 401);
    }

    #[test]
    fn a_running_server_follows_its_keys_within_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let ring = Ring::open(dir.path()).unwrap();
        assert!(!ring.has_keys());
        assert!(matches!(ring.holder(None, at(0)), Ok(Holder::NoKeys)));
        let ((old_key, mut old), (new_key, new)) = (reader("old"), reader("new"));
        put(dir.path(), &old);
        assert_eq!(status(&ring, &old_key.text(), 1000), 200);
        assert_eq!(ring.holder(None, at(1000)).unwrap_err().status, 401, "keys are asked for now");
        put(dir.path(), &new);
        let both = |ms| [status(&ring, &old_key.text(), ms), status(&ring, &new_key.text(), ms)];
        assert_eq!(both(2000), [200, 200]);
        old.revoked = Some(1);
        put(dir.path(), &old);
        assert_eq!(both(3000), [401, 200]);
        assert_eq!(ring.trouble(), None);
    }

    #[test]
    fn keys_that_cannot_be_read_open_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (key, record) = reader("one");
        put(dir.path(), &record);
        let ring = Ring::open(dir.path()).unwrap();
        let file = file::path(dir.path());
        let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert_eq!(status(&ring, &key.text(), 1000), 503);
        assert_eq!(ring.trouble().unwrap().code(), "key_file_mode");
        mode(0o600);
        assert_eq!(status(&ring, &key.text(), 2000), 200);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(status(&ring, &key.text(), 3000), 503);
        fs::remove_file(&file).unwrap();
        assert_eq!(status(&ring, &key.text(), 4000), 503, "no file is not no keys");
        assert_eq!(ring.holder(None, at(5000)).unwrap_err().status, 503);
        assert_eq!(ring.trouble().unwrap().code(), "keys_gone");
        fs::write(&file, whole).unwrap();
        mode(0o600);
        assert_eq!(status(&ring, &key.text(), 6000), 200);
    }
}
