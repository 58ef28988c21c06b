//! What the API of our own has in common: whose answer may be given for what a body says, and where that lies.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::{Identity, SemanticCache};
use crate::server::cache::canonical::{Hash, Hasher};
use crate::server::cache::entries::{cache, check_text, identity, vectors};
use crate::server::call::Call;
use crate::server::limits::BATCH;
use crate::server::reply::Refusal;

/// A question of either kind, as far as it says whose answer may be its own.
pub struct Key {
    /// Who asks what.
    pub identity: Identity,
    /// Of an equal question.
    pub exact: Hash,
    /// Its text; empty without.
    pub text: String,
    /// Its vector, brought or made.
    pub vector: Option<Vec<f32>>,
}

/// What of a body makes a key.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The text.
    pub text: Option<String>,
    /// The vector.
    pub vector: Option<Vec<f32>>,
    /// What equal questions have in common.
    pub exact: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The category.
    pub category: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// All else that must be equal.
    pub partition: Option<String>,
}

impl Said {
    /// Whether it is a question, and not only what is said of several.
    pub fn is_question(&self) -> bool {
        self.text.is_some() || self.exact.is_some() || self.vector.is_some()
    }

    /// The same, with what it lacks of this that is not the question itself.
    pub fn or(mut self, rest: &Self) -> Self {
        self.model = self.model.or_else(|| rest.model.clone());
        self.category = self.category.or_else(|| rest.category.clone());
        self.user = self.user.or_else(|| rest.user.clone());
        self.partition = self.partition.or_else(|| rest.partition.clone());
        self
    }

    /// What it is found by.
    ///
    /// # Errors
    /// `question` if there is none; `text_size`.
    pub fn key(self, call: &Call<'_>) -> Result<Key, Refusal> {
        if !self.is_question() {
            return Err(Refusal::bad("question: none, expected text, vector or exact"));
        }
        let partition = self.partition.unwrap_or_default();
        let compat = Hasher::new("partition").text(&partition).hash();
        let mut identity = identity(call, compat);
        identity.user = self.user;
        identity.category = self.category.unwrap_or_default();
        identity.model = self.model.unwrap_or_default();
        let mut hasher = Hasher::new("own");
        hasher.bytes(&compat).text(&identity.model).text(&identity.category);
        match (&self.exact, &self.text, &self.vector) {
            (Some(exact), _, _) => hasher.text("exact").text(exact),
            (None, Some(text), _) => hasher.text("text").text(text),
            (None, None, vector) => {
                let bytes: Vec<u8> =
                    vector.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
                hasher.text("vector").bytes(&bytes)
            }
        };
        let text = self.text.unwrap_or_default();
        check_text("text", &text)?;
        Ok(Key { identity, exact: hasher.hash(), text, vector: self.vector })
    }
}

/// The cache, and a vector for every key whose text has one and which brings none.
///
/// # Errors
/// Those of the cache and of the embedder.
pub fn prepared(call: &Call<'_>, keys: &mut [Key]) -> Result<Arc<SemanticCache>, Refusal> {
    let given = keys.iter().find_map(|key| key.vector.as_ref().map(Vec::len));
    let cache = cache(call, given)?;
    let lacks = |key: &Key| key.vector.is_none() && !key.text.trim().is_empty();
    let is_text_cache = cache.settings().embedder == call.shared.front.vectors().identity();
    let texts: Vec<String> =
        keys.iter().filter(|key| lacks(key)).map(|key| key.text.clone()).collect();
    // Of a cache with vectors of others, a text without one is compared whole.
    if texts.is_empty() || !is_text_cache {
        return Ok(cache);
    }
    let mut made = vectors(call, &cache, texts)?.into_iter();
    for key in keys.iter_mut().filter(|key| lacks(key)) {
        key.vector = made.next().flatten();
    }
    Ok(cache)
}

/// Fails for a batch that is empty or too large.
///
/// # Errors
/// `batch_size`.
pub fn check_batch(what: &str, n: usize) -> Result<(), Refusal> {
    match n {
        1..=BATCH => Ok(()),
        _ => Err(Refusal::bad(format!("batch_size: {n} {what}, expected 1 to {BATCH}"))),
    }
}

/// Seconds as they were said.
///
/// # Errors
/// With the name of the field.
pub fn seconds(name: &str, seconds: f64) -> Result<Duration, Refusal> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| Refusal::bad(format!("{name}: {seconds}, expected seconds, at least 0")))
}
