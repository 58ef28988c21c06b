//! Whether two prompts that read nearly alike ask for the same: a second look at what similarity cannot see.
//!
//! In: the prompt that an answer is stored for, and the one that is asked. Out: `Same`, or one difference that matters, with
//! its place in both. The two are aligned word by word, and only what was put for something else counts: another number or
//! unit, another name of the same kind, an opposite, a negation more or less, two parts exchanged. It knows lists of English
//! words (`guard/words.rs`), and of any language what is written alike: numbers, signs, capitals. What it does not know it
//! lets pass: it makes hits rarer, it never makes one. Next: `guard/align.rs`, `guard/tokens.rs`, `guard/swap.rs`.

mod align;
#[cfg(test)]
mod corpus;
mod swap;
mod tables;
mod tokens;
mod words;

use std::ops::Range;

use crate::cache::guard::align::Pair;
use crate::cache::guard::tables::TABLES;
use crate::cache::guard::tokens::{Kind, Token, tokens};

/// Edits by which two words may differ and still be one name, misspelt.
const TYPO_EDITS: usize = 1;

/// What the guard says of two prompts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// Nothing was found that makes them two questions.
    Same,
    /// They ask for different things.
    Differs {
        /// In which way.
        what: What,
        /// Bytes of the stored prompt; empty where it lacks what the other has.
        stored: Range<usize>,
        /// Bytes of the prompt that is asked; empty where it lacks what the other has.
        asked: Range<usize>,
    },
}

/// In which way two prompts differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A number, a date, a time or a version.
    Number,
    /// A unit of measure.
    Unit,
    /// A name, or one of a known kind of things.
    Name,
    /// A word and its opposite.
    Polarity,
    /// One denies what the other says.
    Negation,
    /// Two parts are exchanged.
    Order,
    /// More differs than is compared: [`ALIGNED_TOKENS`](crate::core::limits::ALIGNED_TOKENS) tokens.
    TooLong,
}

impl What {
    /// The stable word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Unit => "unit",
            Self::Name => "name",
            Self::Polarity => "polarity",
            Self::Negation => "negation",
            Self::Order => "order",
            Self::TooLong => "too_long",
        }
    }
}

/// Whether an answer to `stored` may be one to `asked`, as far as words can tell. Deterministic, and the same whichever of the
/// two is stored. Linear in what is common at both ends, quadratic in what is between.
pub fn agrees(stored: &str, asked: &str) -> Guarded {
    // Of alignments that are equally good the one that is taken must not depend on the order.
    if stored > asked {
        return match agrees(asked, stored) {
            Guarded::Differs { what, stored, asked } => {
                Guarded::Differs { what, stored: asked, asked: stored }
            }
            Guarded::Same => Guarded::Same,
        };
    }
    if stored == asked {
        return Guarded::Same;
    }
    let (a, b) = (tokens(stored), tokens(asked));
    let Some(pair) = Pair::align(&a, &b) else {
        return Guarded::Differs {
            what: What::TooLong,
            stored: 0..stored.len(),
            asked: 0..asked.len(),
        };
    };
    if pair.gaps.is_empty() {
        return Guarded::Same;
    }
    let checks = [number, unit, class, name, polarity, swap::exchanged];
    checks.iter().find_map(|check| check(&pair)).unwrap_or(Guarded::Same)
}

/// The difference at two tokens.
fn differs(what: What, pair: &Pair<'_>, stored: usize, asked: usize) -> Option<Guarded> {
    let (stored, asked) = (pair.stored[stored].span.clone(), pair.asked[asked].span.clone());
    Some(Guarded::Differs { what, stored, asked })
}

/// The difference of a token that the other text lacks.
fn lacks(what: What, pair: &Pair<'_>, stored: Option<usize>, asked: Option<usize>) -> Guarded {
    let gap = pair.gaps.iter().find(|gap| {
        stored.is_some_and(|i| gap.stored.contains(&i))
            || asked.is_some_and(|j| gap.asked.contains(&j))
    });
    let place = |tokens: &[Token], token: Option<usize>, from: usize| match token {
        Some(token) => tokens[token].span.clone(),
        None => {
            let end = tokens.last().map_or(0, |last| last.span.end);
            let at = tokens.get(from).map_or(end, |token| token.span.start);
            at..at
        }
    };
    let (from_stored, from_asked) = gap.map_or((0, 0), |gap| (gap.stored.start, gap.asked.start));
    Guarded::Differs {
        what,
        stored: place(pair.stored, stored, from_stored),
        asked: place(pair.asked, asked, from_asked),
    }
}

/// Numbers differ if each text has one that the other lacks; in texts that are near, also if only one has.
fn number(pair: &Pair<'_>) -> Option<Guarded> {
    let a = Pair::of_kind(pair.stored, &pair.stored_only, Kind::Number);
    let b = Pair::of_kind(pair.asked, &pair.asked_only, Kind::Number);
    match (a.first(), b.first()) {
        (Some(&i), Some(&j)) => differs(What::Number, pair, i, j),
        (None, None) => None,
        (i, j) => pair.is_near().then(|| lacks(What::Number, pair, i.copied(), j.copied())),
    }
}

/// Units differ where one was put for the other, or where both follow a number.
fn unit(pair: &Pair<'_>) -> Option<Guarded> {
    let counts = |tokens: &[Token], i: usize| i > 0 && tokens[i - 1].kind == Kind::Number;
    let a = Pair::of_kind(pair.stored, &pair.stored_only, Kind::Unit);
    let b = Pair::of_kind(pair.asked, &pair.asked_only, Kind::Unit);
    let mut both = a.iter().flat_map(|&i| b.iter().map(move |&j| (i, j)));
    let (i, j) = both.find(|&(i, j)| {
        pair.are_aligned(i, j) || counts(pair.stored, i) && counts(pair.asked, j)
    })?;
    differs(What::Unit, pair, i, j)
}

/// Two members of one class that are not the same thing.
fn class(pair: &Pair<'_>) -> Option<Guarded> {
    for &i in &pair.stored_only {
        for &j in &pair.asked_only {
            let (a, b) = (&pair.stored[i].norm, &pair.asked[j].norm);
            let clash = TABLES.classes(a).iter().any(|m| {
                let other = |n: &&tables::Member| n.class == m.class && n.thing != m.thing;
                TABLES.classes(b).iter().any(|n| other(&n) && m.is_everywhere)
                    || pair.are_aligned(i, j) && TABLES.classes(b).iter().any(|n| other(&n))
            });
            if clash && !are_opposite(a, b) {
                return differs(What::Name, pair, i, j);
            }
        }
    }
    None
}

/// A name for another, a name for a word in the same place, or a name more in a text that else has nothing more.
fn name(pair: &Pair<'_>) -> Option<Guarded> {
    for &i in &pair.stored_only {
        for &j in &pair.asked_only {
            let (a, b) = (&pair.stored[i], &pair.asked[j]);
            let either = a.is_name || b.is_name;
            let both = a.is_name && b.is_name && (pair.is_near() || pair.are_aligned(i, j));
            let is_one_for_one = either && a.is_matter() && b.is_matter() && pair.are_aligned(i, j);
            if (both || is_one_for_one && is_lone(pair, i, j)) && !is_typo(&a.norm, &b.norm) {
                return differs(What::Name, pair, i, j);
            }
        }
    }
    let extra = |tokens: &[Token], only: &[usize], other: &[usize], others: &[Token]| {
        let has_none = !other.iter().any(|&j| others[j].is_matter());
        let found = only.iter().copied().find(|&i| names_something(&tokens[i]));
        found.filter(|_| has_none && pair.is_near())
    };
    let a = extra(pair.stored, &pair.stored_only, &pair.asked_only, pair.asked);
    let b = extra(pair.asked, &pair.asked_only, &pair.stored_only, pair.stored);
    (a.is_some() || b.is_some()).then(|| lacks(What::Name, pair, a, b))
}

/// Whether a gap holds these two tokens and nothing else.
fn is_lone(pair: &Pair<'_>, stored: usize, asked: usize) -> bool {
    let is_it =
        |gap: &align::Gap| gap.stored == (stored..stored + 1) && gap.asked == (asked..asked + 1);
    pair.gaps.iter().any(is_it)
}

fn names_something(token: &Token) -> bool {
    let is_known = || TABLES.classes(&token.norm).iter().any(|member| member.is_everywhere);
    token.is_name || token.kind == Kind::Content && is_known()
}

fn are_opposite(a: &str, b: &str) -> bool {
    TABLES.are_opposites(a, b) || TABLES.are_particles(a, b)
}

/// Opposites and negations. One of each cancel: `not enabled` is `disabled`.
fn polarity(pair: &Pair<'_>) -> Option<Guarded> {
    let flips = flips(pair);
    let is_odd = |tokens: &[Token]| {
        tokens.iter().filter(|token| token.kind == Kind::Negation).count() % 2 == 1
    };
    let is_denied = is_odd(pair.stored) != is_odd(pair.asked);
    match flips[..] {
        [_] if is_denied => None,
        [(i, j), ..] => differs(What::Polarity, pair, i, j),
        [] if is_denied && pair.is_near() => negation(pair),
        [] => None,
    }
}

fn flips(pair: &Pair<'_>) -> Vec<(usize, usize)> {
    let is_phrasal = |tokens: &[Token]| tokens.iter().any(|token| TABLES.is_phrasal(&token.norm));
    let are_phrasal = is_phrasal(pair.stored) && is_phrasal(pair.asked);
    let mut flips = Vec::new();
    for &i in &pair.stored_only {
        let is_flip = |&&j: &&usize| {
            let (a, b) = (&pair.stored[i].norm, &pair.asked[j].norm);
            TABLES.are_opposites(a, b)
                || TABLES.are_particles(a, b) && (are_phrasal || pair.are_aligned(i, j))
        };
        flips.extend(pair.asked_only.iter().find(is_flip).map(|&j| (i, j)));
    }
    flips
}

/// A gap in which nothing but a negation came or went.
fn negation(pair: &Pair<'_>) -> Option<Guarded> {
    let denials = |tokens: &[Token], range: &Range<usize>| {
        let is_plain = !tokens[range.clone()].iter().any(Token::is_matter);
        let found = range.clone().find(|&i| tokens[i].kind == Kind::Negation);
        (is_plain, found)
    };
    pair.gaps.iter().find_map(|gap| {
        let (is_plain, stored) = denials(pair.stored, &gap.stored);
        let (are_plain, asked) = denials(pair.asked, &gap.asked);
        let is_pure = is_plain && are_plain && stored.is_some() != asked.is_some();
        is_pure.then(|| lacks(What::Negation, pair, stored, asked))
    })
}

/// Whether two words are one, misspelt: long enough, and one edit apart.
fn is_typo(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let (short, long) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
    if short.len() < 5 || long.len() - short.len() > TYPO_EDITS {
        return false;
    }
    let head = short.iter().zip(long).take_while(|(x, y)| x == y).count();
    let tail = short.iter().rev().zip(long.iter().rev()).take_while(|(x, y)| x == y).count();
    head + tail + TYPO_EDITS >= long.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(stored: &str, asked: &str) -> Option<What> {
        match agrees(stored, asked) {
            Guarded::Same => None,
            Guarded::Differs { what, .. } => Some(what),
        }
    }

    #[test]
    fn a_difference_is_named_with_its_place_in_both() {
        let (stored, asked) = ("sort the list ascending", "sort the list descending, please");
        let Guarded::Differs { what, stored: a, asked: b } = agrees(stored, asked) else {
            panic!("no difference");
        };
        assert_eq!((what, &stored[a], &asked[b]), (What::Polarity, "ascending", "descending"));
        let (stored, asked) = ("Can I get a card", "Can I get a card at 16?");
        let Guarded::Differs { what, stored: a, asked: b } = agrees(stored, asked) else {
            panic!("no difference");
        };
        assert_eq!((what, a.len(), &asked[b]), (What::Number, 0, "16"));
    }

    #[test]
    fn one_negation_and_one_opposite_cancel_and_two_opposites_do_not() {
        assert_eq!(what("why is it not enabled", "why is it disabled"), None);
        assert_eq!(
            what("open the door, close the window", "close the door, open the window"),
            Some(What::Order)
        );
        assert_eq!(what("I can't log in", "I am unable to log in"), None);
    }

    #[test]
    fn empty_long_and_strange_texts_are_compared_or_refused_and_never_break_it() {
        assert_eq!(what("", ""), None);
        assert_eq!(what("", "?!"), None);
        assert_eq!(what("", "What is the capital of Spain?"), None);
        let long = |word: &str| format!("{} end", format!("{word} ").repeat(5000));
        assert_eq!(what(&long("card"), &long("bank")), Some(What::TooLong));
        assert_eq!(
            what(&format!("{}5", long("card")), &format!("{}6", long("card"))),
            Some(What::Number)
        );
        assert_eq!(what("第3章を要約して", "第4章を要約して"), Some(What::Number));
        assert_eq!(
            what("Wie kann ich das nicht tun", "Wie kann ich das tun"),
            Some(What::Negation)
        );
    }

    #[test]
    fn both_orders_of_two_random_texts_say_the_same() {
        use crate::core::mix::stream;
        let words =
            "open close not the card in Paris Rome 5 6 km mile from to on off é 漢 $ - without";
        let words: Vec<&str> = words.split(' ').collect();
        for seed in 0..2000 {
            let text = |side: u64| -> String {
                let n = stream(seed, side) % 12;
                let word = |i| words[stream(seed, 100 * (side + 1) + i) as usize % words.len()];
                (0..n).map(word).collect::<Vec<_>>().join(" ")
            };
            let (a, b) = (text(0), text(1));
            assert_eq!(what(&a, &b), what(&b, &a), "seed {seed}: {a:?} {b:?}");
        }
    }
}
