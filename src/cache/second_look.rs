//! The second look at two texts that similarity takes for one question.

use crate::cache::guard::{Guarded, agrees};

/// What differs, in words, or `None` if nothing is found that matters.
pub(super) fn difference(stored: &str, asked: &str) -> Option<String> {
    match agrees(stored, asked) {
        Guarded::Same => None,
        Guarded::Differs { what, stored: then, asked: now } => {
            Some(format!("{}: {:?} then, {:?} now", what.word(), &stored[then], &asked[now]))
        }
    }
}
