//! The text of a key: `nk1_<id>_<secret>_<check>`.
//!
//! The id finds the key and is no secret. The check tells a typing error, or a key in a log, from any other text without
//! asking anybody.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// What every key begins with.
const BEGIN: &str = "nk1_";

/// Bytes of a secret: nobody guesses one, so that a fast hash of it is safe at rest.
const SECRET_BYTES: usize = 32;

/// What a key is found by. Not secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u64);

/// The SHA-256 of a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(pub [u8; 32]);

/// A whole key, which only its holder knows. Shown once, by [`Key::text`].
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    secret: [u8; SECRET_BYTES],
}

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// `randomness` if the system has none.
    pub fn random() -> Result<Self> {
        let failed = |error: getrandom::Error| {
            Error::new(ErrorKind::Io, "randomness", format!("the system gives none: {error}"))
        };
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(failed)?;
        Ok(Self { id: KeyId(getrandom::u64().map_err(failed)?), secret })
    }

    /// What it is found by.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What is kept of its secret.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.secret).into())
    }

    /// The key as its holder sends it.
    pub fn text(&self) -> String {
        let body = format!("{BEGIN}{}_{}", self.id, hex(&self.secret));
        let check = check(&body);
        format!("{body}_{check}")
    }
}

impl FromStr for Key {
    type Err = Error;

    /// # Errors
    /// `key_malformed`, which does not repeat the text.
    fn from_str(text: &str) -> Result<Self> {
        read(text).ok_or_else(|| {
            let message = "no key: expected nk1_, 16 and 64 digits 0-9a-f, and the check of both";
            Error::usage("key_malformed", message)
        })
    }
}

fn read(text: &str) -> Option<Key> {
    let (body, given) = text.rsplit_once('_')?;
    let (id, secret) = body.strip_prefix(BEGIN)?.split_once('_')?;
    let key = Key { id: id.parse().ok()?, secret: bytes(secret)? };
    (given == check(body)).then_some(key)
}

/// The first 32 bits of the SHA-256 of what comes before them.
fn check(body: &str) -> String {
    hex(&Sha256::digest(body.as_bytes())[..4])
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, secret)", self.id)
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for KeyId {
    type Err = Error;

    /// # Errors
    /// `key_id`.
    fn from_str(text: &str) -> Result<Self> {
        let found = bytes(text).map(|bytes| Self(u64::from_be_bytes(bytes)));
        found.ok_or_else(|| Error::usage("key_id", format!("{text:?}, expected 16 digits 0-9a-f")))
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = bytes(&text).map(Self);
        found.ok_or_else(|| de::Error::custom("a hash is expected to have 64 digits 0-9a-f"))
    }
}

/// Digits of bytes.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of digits: exactly so many, in the one form that [`hex`] writes.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    fn key(seed: u64) -> Key {
        let mut secret = [0; SECRET_BYTES];
        secret.iter_mut().zip(0..).for_each(|(byte, n)| *byte = stream(seed, n) as u8);
        Key { id: KeyId(stream(seed, 99)), secret }
    }

    #[test]
    fn the_text_of_a_key_is_read_back() {
        for seed in 0..200 {
            let (made, text) = (key(seed), key(seed).text());
            let read: Key = text.parse().unwrap();
            assert_eq!((read.id, read.secret), (made.id, made.secret));
            assert_eq!((text.len(), text.matches('_').count()), (4 + 16 + 1 + 64 + 1 + 8, 3));
        }
    }

    #[test]
    fn a_key_with_one_other_character_is_found_to_be_none_offline() {
        let text = key(7).text();
        for at in 0..text.len() {
            for other in ["0", "f", "A", "_", "é", ""] {
                let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                let is_other = changed != text;
                assert_eq!(changed.parse::<Key>().is_err(), is_other, "{changed}");
            }
        }
    }

    #[test]
    fn random_bytes_are_no_key() {
        for n in 0..2000 {
            let text: String = (0..stream(3, n) % 120)
                .map(|i| char::from(b"nk1_0123456789abcdef"[(stream(n, i) % 20) as usize]))
                .collect();
            let error = text.parse::<Key>().unwrap_err();
            assert_eq!(error.code(), "key_malformed");
        }
    }

    #[test]
    fn keys_differ_and_show_no_secret() {
        let (one, other) = (Key::random().unwrap(), Key::random().unwrap());
        assert!(one.id != other.id && one.secret != other.secret);
        let shown = format!("{one:?} {:?}", one.hash());
        assert!(!shown.contains(&hex(&one.secret)[..8]), "{shown}");
        assert!(!shown.contains(&hex(&one.hash().0)[..8]), "{shown}");
    }
}
