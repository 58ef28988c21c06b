//! Which tokens of two texts stand for each other: what both have in the same order is aligned, the rest lies in gaps.

use std::collections::HashMap;
use std::ops::Range;

use crate::cache::guard::tokens::{Kind, Token};
use crate::core::limits::ALIGNED_TOKENS;

/// Tokens of a side of a gap that is as short as a word put for another.
const SHORT: usize = 3;

/// Tokens between two that are aligned, on both sides.
#[derive(Clone, Debug)]
pub struct Gap {
    /// Of the stored text.
    pub stored: Range<usize>,
    /// Of the text that is asked.
    pub asked: Range<usize>,
}

/// Two texts, aligned.
pub struct Pair<'a> {
    /// Tokens of the stored text.
    pub stored: &'a [Token],
    /// Tokens of the text that is asked.
    pub asked: &'a [Token],
    /// Where they differ.
    pub gaps: Vec<Gap>,
    /// Tokens of the stored text that the other has nowhere.
    pub stored_only: Vec<usize>,
    /// Tokens of the text that is asked that the other has nowhere.
    pub asked_only: Vec<usize>,
}

impl<'a> Pair<'a> {
    /// Aligns two texts; `None` if what is between their common beginning and their common end is longer than can be
    /// aligned.
    pub fn align(stored: &'a [Token], asked: &'a [Token]) -> Option<Self> {
        let is_equal = |(a, b): &(&Token, &Token)| a.norm == b.norm;
        let head = stored.iter().zip(asked).take_while(is_equal).count();
        let ends = stored[head..].iter().rev().zip(asked[head..].iter().rev());
        let tail = ends.take_while(is_equal).count();
        let (a, b) = (head..stored.len() - tail, head..asked.len() - tail);
        if a.len() > ALIGNED_TOKENS || b.len() > ALIGNED_TOKENS {
            return None;
        }
        let mut gaps = between(&stored[a], &asked[b]);
        for gap in &mut gaps {
            gap.stored = gap.stored.start + head..gap.stored.end + head;
            gap.asked = gap.asked.start + head..gap.asked.end + head;
        }
        let (stored_only, asked_only) = only(stored, asked, &gaps);
        Some(Self { stored, asked, gaps, stored_only, asked_only })
    }

    /// Whether two tokens lie in one short gap: one was put for the other.
    pub fn are_aligned(&self, stored: usize, asked: usize) -> bool {
        let gap = self.gaps.iter().find(|gap| gap.stored.contains(&stored));
        gap.is_some_and(|gap| gap.asked.contains(&asked) && gap.is_short())
    }

    /// Whether the texts have at least as much matter in common as either has alone.
    pub fn is_near(&self) -> bool {
        let matter = |tokens: &[Token], only: &[usize]| {
            let alone = only.iter().filter(|&&i| tokens[i].is_matter()).count();
            (alone, tokens.iter().filter(|token| token.is_matter()).count() - alone)
        };
        let (stored, common) = matter(self.stored, &self.stored_only);
        let (asked, _) = matter(self.asked, &self.asked_only);
        common > 0 && stored.max(asked) <= common
    }

    /// The tokens of a kind among those that one text has alone.
    pub fn of_kind(tokens: &[Token], only: &[usize], kind: Kind) -> Vec<usize> {
        only.iter().copied().filter(|&i| tokens[i].kind == kind).collect()
    }
}

impl Gap {
    /// Whether a few words stand for a few others.
    pub fn is_short(&self) -> bool {
        (1..=SHORT).contains(&self.stored.len()) && (1..=SHORT).contains(&self.asked.len())
    }
}

/// The gaps of the heaviest common subsequence: matter weighs more than function words.
fn between(a: &[Token], b: &[Token]) -> Vec<Gap> {
    let width = b.len() + 1;
    // Weight of the best alignment of what follows.
    let mut best = vec![0u16; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            let skip = best[(i + 1) * width + j].max(best[i * width + j + 1]);
            let take = match a[i].norm == b[j].norm {
                true => best[(i + 1) * width + j + 1] + a[i].weight(),
                false => 0,
            };
            best[i * width + j] = skip.max(take);
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut gaps: Vec<Gap> = Vec::new();
    while i < a.len() || j < b.len() {
        let here = best[i * width + j];
        let is_taken = i < a.len()
            && j < b.len()
            && a[i].norm == b[j].norm
            && here == best[(i + 1) * width + j + 1] + a[i].weight();
        if is_taken {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let from = (i, j);
        if i < a.len() && here == best[(i + 1) * width + j] {
            i += 1;
        } else {
            j += 1;
        }
        match gaps.last_mut() {
            Some(gap) if (gap.stored.end, gap.asked.end) == from => {
                (gap.stored.end, gap.asked.end) = (i, j);
            }
            _ => gaps.push(Gap { stored: from.0..i, asked: from.1..j }),
        }
    }
    gaps
}

/// What lies in gaps of one side and in none of the other.
fn only(stored: &[Token], asked: &[Token], gaps: &[Gap]) -> (Vec<usize>, Vec<usize>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for i in gaps.iter().flat_map(|gap| gap.asked.clone()) {
        *seen.entry(&asked[i].norm).or_default() += 1;
    }
    let mut moved: HashMap<&str, usize> = HashMap::new();
    let mut stored_only = Vec::new();
    for i in gaps.iter().flat_map(|gap| gap.stored.clone()) {
        match seen.get_mut(stored[i].norm.as_str()).filter(|left| **left > 0) {
            Some(left) => {
                *left -= 1;
                *moved.entry(&stored[i].norm).or_default() += 1;
            }
            None => stored_only.push(i),
        }
    }
    let is_only = |&i: &usize| match moved.get_mut(asked[i].norm.as_str()).filter(|n| **n > 0) {
        Some(left) => {
            *left -= 1;
            false
        }
        None => true,
    };
    let asked_only = gaps.iter().flat_map(|gap| gap.asked.clone()).filter(is_only).collect();
    (stored_only, asked_only)
}

impl Token {
    /// Whether it says what the text is about.
    pub fn is_matter(&self) -> bool {
        !matches!(self.kind, Kind::Function | Kind::Negation)
    }

    /// What its alignment is worth.
    fn weight(&self) -> u16 {
        if self.is_matter() { 4 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::guard::tokens::tokens;
    use crate::core::mix::stream;

    #[test]
    fn gaps_are_what_is_not_common_and_moved_words_are_only_moved() {
        let (a, b) = (tokens("send money from Oslo today"), tokens("today send cash from Rome"));
        let pair = Pair::align(&a, &b).unwrap();
        let of = |tokens: &[Token], only: &[usize]| -> Vec<String> {
            only.iter().map(|&i| tokens[i].norm.clone()).collect()
        };
        assert_eq!(of(&a, &pair.stored_only), ["money", "oslo"]);
        assert_eq!(of(&b, &pair.asked_only), ["cash", "rom"]);
        assert!(pair.are_aligned(1, 2) && pair.are_aligned(3, 4) && !pair.are_aligned(1, 4));
    }

    #[test]
    fn what_is_outside_of_gaps_is_equal_for_random_texts() {
        for seed in 0..300 {
            let text = |side: u64| -> String {
                let n = stream(seed, side) % 30;
                let words = (0..n).map(|i| {
                    let word = stream(seed * 2 + side, 9 + i) % 6;
                    ["card", "the", "not", "5", "paris", "to"][word as usize]
                });
                words.collect::<Vec<_>>().join(" ")
            };
            let (a, b) = (tokens(&text(0)), tokens(&text(1)));
            let pair = Pair::align(&a, &b).unwrap();
            let kept = |tokens: &[Token], side: fn(&Gap) -> Range<usize>| -> Vec<String> {
                let is_out = |i: &usize| !pair.gaps.iter().any(|gap| side(gap).contains(i));
                (0..tokens.len()).filter(is_out).map(|i| tokens[i].norm.clone()).collect()
            };
            let (stored, asked) = (kept(&a, |g| g.stored.clone()), kept(&b, |g| g.asked.clone()));
            assert_eq!(stored, asked, "seed {seed}");
        }
    }

    #[test]
    fn texts_whose_middles_are_too_long_are_not_aligned() {
        let long = |word: &str, n: usize| tokens(&format!("a {} z", format!("{word} ").repeat(n)));
        let (a, b) = (long("card", ALIGNED_TOKENS + 1), long("bank", 3));
        assert!(Pair::align(&a, &b).is_none() && Pair::align(&a, &a).is_some());
        assert!(Pair::align(&long("card", ALIGNED_TOKENS), &b).is_some());
    }
}
