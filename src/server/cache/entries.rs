//! What the doors that bring their own prompts have in common: which cache, whose, where a text lies, and what became of it.

use std::sync::Arc;

use hyper::StatusCode;
use tokio::runtime::Handle;

use crate::cache::{CacheSettings, Identity, SemanticCache};
use crate::server::cache::canonical::Hash;
use crate::server::cache::vectors::Vector;
use crate::server::call::Call;
use crate::server::reply::Refusal;

/// Longest text of a prompt or an answer, in bytes.
pub const ENTRY_BYTES: usize = 1 << 20;

/// What made the vectors of a cache whose callers bring them.
const GIVEN: &str = "given";

/// The cache that a route names. Without keys it is made if there is none: for vectors of this length, or for texts.
///
/// # Errors
/// `cache_not_found`, `cache_name`.
pub fn cache(call: &Call<'_>, given: Option<usize>) -> Result<Arc<SemanticCache>, Refusal> {
    let front = &call.shared.front;
    front.cache(call.caller, call.segment("cache"), || match given {
        Some(dim) => CacheSettings { dim, embedder: GIVEN.into() },
        None => front.settings(),
    })
}

/// Who asks: the tenant is that of the key, whatever is said.
pub fn identity(call: &Call<'_>, compat: Hash) -> Identity {
    Identity {
        tenant: call.caller.tenant().unwrap_or_default().to_owned(),
        user: None,
        category: String::new(),
        model: String::new(),
        compat,
    }
}

/// The vectors of texts, for a cache whose vectors are of the same embedder.
///
/// # Errors
/// `cache_embedder`, 400; `embedder_down` and other words, 424: whoever asked can ask the model.
pub fn vectors(
    call: &Call<'_>,
    cache: &SemanticCache,
    texts: Vec<String>,
) -> Result<Vec<Vector>, Refusal> {
    let vectors = call.shared.front.vectors();
    let (own, theirs) = (vectors.identity(), &cache.settings().embedder);
    if own != *theirs {
        let message = format!(
            "cache_embedder: texts are embedded by {own}, and vectors of this cache are of {theirs}: send vectors"
        );
        return Err(Refusal::bad(message));
    }
    // A worker is a thread that may block; the embedder has its own limits.
    Handle::current().block_on(vectors.of(texts)).map_err(|why| {
        call.shared.front.failed_open(&call.shared.ledger, why);
        Refusal::new(
            StatusCode::FAILED_DEPENDENCY,
            format!("{why}: texts have no vectors at the moment"),
        )
    })
}

/// Fails for a text that is too long to be kept.
///
/// # Errors
/// `text_size`, 413.
pub fn check_text(what: &str, text: &str) -> Result<(), Refusal> {
    if text.len() <= ENTRY_BYTES {
        return Ok(());
    }
    let message = format!("text_size: {what}: {} bytes, limit {ENTRY_BYTES}", text.len());
    Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message))
}
