//! Two parts of a question that are exchanged: `from A to B` and `from B to A`, `is A better than B` and `is B better than A`.

use crate::cache::guard::align::Pair;
use crate::cache::guard::tables::TABLES;
use crate::cache::guard::tokens::{Kind, Token};
use crate::cache::guard::{Guarded, What, differs};

/// A word, where it stands, and the preposition before it.
struct Part<'a> {
    norm: &'a str,
    at: usize,
    marker: Option<&'a str>,
}

/// Two words that have changed places, unless their order does not matter (`the difference of A and B`).
pub fn exchanged(pair: &Pair<'_>) -> Option<Guarded> {
    let is_symmetric = |tokens: &[Token]| tokens.iter().any(|t| TABLES.is_symmetric(&t.norm));
    if is_symmetric(pair.stored) || is_symmetric(pair.asked) {
        return None;
    }
    let (stored, asked) = (parts(pair.stored), parts(pair.asked));
    // With other words around, a preposition may only be chosen otherwise.
    let is_all_moved = !pair.stored_only.iter().any(|&i| pair.stored[i].is_matter())
        && !pair.asked_only.iter().any(|&j| pair.asked[j].is_matter());
    let moved = roles(&stored, &asked, is_all_moved)
        .or_else(|| is_all_moved.then(|| places(pair, &stored, &asked)).flatten());
    moved.and_then(|(i, j)| differs(What::Order, pair, i, j))
}

fn parts(tokens: &[Token]) -> Vec<Part<'_>> {
    let mut marker = None;
    let mut parts = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Function && TABLES.is_marker(&token.norm) {
            marker = Some(token.norm.as_str());
        } else if token.is_matter() {
            parts.push(Part { norm: &token.norm, at, marker });
        }
    }
    parts
}

/// A word and the one that has its preposition in the other text, if those two exchanged theirs. With `any`, every
/// preposition counts.
fn roles(stored: &[Part<'_>], asked: &[Part<'_>], any: bool) -> Option<(usize, usize)> {
    let lone =
        |parts: &[Part<'_>], norm: &str| parts.iter().filter(|p| p.norm == norm).count() == 1;
    let mut changed = Vec::new();
    for part in stored.iter().filter(|part| lone(stored, part.norm) && lone(asked, part.norm)) {
        let other = asked.iter().find(|other| other.norm == part.norm);
        changed.extend(other.filter(|other| other.marker != part.marker).map(|o| (part, o)));
    }
    let counts = |marker: Option<&str>| marker.is_some_and(|m| any || TABLES.is_direction(m));
    for (x, x_asked) in &changed {
        let is_exchanged = |(y, y_asked): &&(&Part<'_>, &Part<'_>)| {
            x.marker == y_asked.marker && y.marker == x_asked.marker
        };
        if let Some((_, y)) = changed.iter().find(is_exchanged)
            && (counts(x.marker) || counts(x_asked.marker))
        {
            return Some((x.at, y.at));
        }
    }
    None
}

/// Two words that changed places over others that stayed, in a text of the same words.
fn places(pair: &Pair<'_>, stored: &[Part<'_>], asked: &[Part<'_>]) -> Option<(usize, usize)> {
    let unequal = |(a, b): &(&Part<'_>, &Part<'_>)| a.norm != b.norm;
    if stored.len() != asked.len() {
        return None;
    }
    let changed: Vec<_> = stored.iter().zip(asked).filter(unequal).collect();
    let [(a, b), (c, d)] = changed[..] else { return None };
    // With another preposition it may be the passive: `A did B`, `B was done by A`.
    let is_exchange =
        a.norm == d.norm && c.norm == b.norm && a.marker == b.marker && c.marker == d.marker;
    let is_over = stored.iter().any(|part| a.at < part.at && part.at < c.at);
    let has_function = pair.stored.iter().any(|token| token.kind == Kind::Function);
    (is_exchange && is_over && (has_function || stored.len() > 3)).then_some((a.at, b.at))
}
