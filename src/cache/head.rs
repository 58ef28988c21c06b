//! What of an entry is in the record beside text, answer and row.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cache::identity::{Identity, PartitionKey, Scope};
use crate::error::{Error, ErrorKind, Result};

/// All that is known of an entry, in a form that later builds read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    pub tenant: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub category: String,
    pub model: String,
    /// Hexadecimal, as the next.
    pub compat: String,
    pub exact: String,
    pub scope: String,
    pub created_ms: u64,
    pub ttl_ms: u64,
    pub answer_hash: u64,
    pub n_bytes: u32,
    pub saved_ms: u32,
    pub saved_tokens: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Head {
    /// Who asked what of which model.
    ///
    /// # Errors
    /// `record_corrupt`.
    pub fn identity(&self) -> Result<Identity> {
        Ok(Identity {
            tenant: self.tenant.clone(),
            user: self.user.clone(),
            category: self.category.clone(),
            model: self.model.clone(),
            compat: hash(&self.compat)?,
        })
    }

    /// The partition that it was written to.
    ///
    /// # Errors
    /// `record_corrupt`.
    pub fn partition(&self) -> Result<PartitionKey> {
        let scope = Scope::ALL.into_iter().find(|scope| scope.word() == self.scope);
        let scope = scope.ok_or_else(|| broken(format!("scope {:?}", self.scope)))?;
        let key = PartitionKey::of(&self.identity()?, scope);
        key.ok_or_else(|| broken("an entry of a user without a user".into()))
    }

    /// The hash of the request.
    ///
    /// # Errors
    /// `record_corrupt`.
    pub fn exact(&self) -> Result<[u8; 32]> {
        hash(&self.exact)
    }

    /// As it is kept.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are JSON")
    }

    /// As it was kept.
    ///
    /// # Errors
    /// `record_corrupt`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))
    }
}

/// What changes of an entry after it was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub n_hits: u32,
    /// Of the last hits, if there were any.
    pub heat: Option<f64>,
    /// What was observed, as the estimate writes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<u8>,
}

impl Counters {
    /// As they are kept.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("finite numbers are JSON")
    }

    /// As they were kept.
    ///
    /// # Errors
    /// `record_corrupt`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))
    }
}

/// A hash in hexadecimal.
pub(super) fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(text: &str) -> Result<[u8; 32]> {
    let digit =
        |at: usize| text.get(2 * at..2 * at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(at).ok_or_else(|| broken(format!("hash {text:?}")))?;
    }
    Ok(bytes)
}

pub(super) fn broken(what: String) -> Error {
    let message = format!("the head of an entry cannot be read: {what}");
    Error::new(ErrorKind::Corrupt, "record_corrupt", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_and_damage_is_named() {
        let head = Head {
            tenant: "ann".into(),
            user: Some("u".into()),
            category: "faq".into(),
            model: "m".into(),
            compat: hex(&[0xab; 32]),
            exact: hex(&[1; 32]),
            scope: "user".into(),
            created_ms: 5,
            ttl_ms: 7,
            answer_hash: u64::MAX,
            n_bytes: 3,
            saved_ms: 4,
            saved_tokens: 9,
            writer: None,
            tags: vec!["t".into()],
            attributes: BTreeMap::from([("k".into(), "v".into())]),
        };
        let read = Head::decode(&head.encode()).unwrap();
        assert_eq!(read, head);
        assert_eq!((read.exact().unwrap(), read.identity().unwrap().compat), ([1; 32], [0xab; 32]));
        assert_eq!(read.partition().unwrap().scope(), Scope::User);
        for wrong in [
            Head { scope: "all".into(), ..head.clone() },
            Head { user: None, ..head.clone() },
            Head { compat: "ab".into(), ..head.clone() },
            Head { compat: "ä".repeat(32), ..head },
        ] {
            assert_eq!(wrong.partition().unwrap_err().code(), "record_corrupt");
        }
    }
}
