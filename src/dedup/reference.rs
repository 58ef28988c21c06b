//! Against another corpus: which reference record shares words in a row with a text (decontamination).
//!
//! In: the n-grams of reference texts. Out: for a text, the reference with which it shares most of them.

use std::collections::HashMap;

use crate::record::shingles::{Shingler, roll};

/// Distinct n-grams of all reference records, by 64-bit hash. 16 bytes each, in memory: references are
/// benchmarks, not corpora.
#[derive(Debug, Default)]
pub struct NgramSet {
    n: usize,
    references: HashMap<u64, Vec<u32>>,
}

/// References remembered per n-gram; more only blur which one is named.
const PER_NGRAM: usize = 4;

impl NgramSet {
    /// An empty set of `n`-grams.
    pub fn new(n: usize) -> Self {
        Self { n, ..Self::default() }
    }

    /// Adds the text that `shingler` read last as reference record `ordinal`. A text of fewer than `n`
    /// words counts as one gram: only a record that is nothing else matches it.
    pub fn add(&mut self, units: &[u64], ordinal: u32) {
        let references = &mut self.references;
        roll(units, self.n, |gram| {
            let known = references.entry(gram).or_default();
            if known.len() < PER_NGRAM && !known.contains(&ordinal) {
                known.push(ordinal);
            }
        });
    }

    /// Memory taken, roughly.
    pub fn n_bytes(&self) -> u64 {
        self.references.len() as u64 * 64
    }

    /// The reference that has most of the n-grams of the text that `shingler` read last: its ordinal plus
    /// 1, and the share of the text's distinct n-grams that it has; `(0, 0.0)` if none has any.
    pub fn best_match(&self, shingler: &Shingler) -> (u32, f32) {
        let mut grams = Vec::new();
        roll(shingler.units(), self.n, |gram| grams.push(gram));
        if !grams.iter().any(|gram| self.references.contains_key(gram)) {
            return (0, 0.0);
        }
        grams.sort_unstable();
        grams.dedup();
        let mut counts: HashMap<u32, u32> = HashMap::new();
        for &reference in grams.iter().filter_map(|gram| self.references.get(gram)).flatten() {
            *counts.entry(reference).or_default() += 1;
        }
        // Most shared grams, then the first reference.
        let best =
            counts.into_iter().max_by_key(|&(reference, n)| (n, std::cmp::Reverse(reference)));
        best.map_or((0, 0.0), |(reference, n)| (reference + 1, n as f32 / grams.len() as f32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::normalize::Normalizer;

    #[test]
    fn a_text_is_found_by_words_in_a_row_and_named() {
        let mut shingler = Shingler::new("word:5".parse().unwrap(), Normalizer::PROSE);
        let mut set = NgramSet::new(4);
        for (ordinal, text) in ["what is the capital of France", "short one"].iter().enumerate() {
            shingler.read(text);
            set.add(shingler.units(), ordinal as u32);
        }
        let mut look = |text: &str| {
            shingler.read(text);
            set.best_match(&shingler)
        };
        assert_eq!(look("He asked: What is the Capital of France, twice"), (1, 2.0 / 6.0));
        assert_eq!(look("what is the price of capital"), (0, 0.0));
        assert_eq!(look("short one"), (2, 1.0));
        assert_eq!(look("a short one here"), (0, 0.0));
        assert_eq!(look(""), (0, 0.0));
    }
}
