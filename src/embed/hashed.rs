//! Words and their trigrams, hashed to places: no model, no meaning, always the same. For tests, and for texts that
//! no model knows.

use xxhash_rust::xxh3::xxh3_64;

use crate::core::rows::{Rows, Values};
use crate::embed::{Embedder, normalise};
use crate::error::Result;

/// Feature hashing into 256 places.
///
/// Paper: Weinberger et al., "Feature hashing for large scale multitask learning", ICML 2009.
#[derive(Clone, Copy, Debug)]
pub struct Hashed;

const DIM: usize = 256;
/// What a trigram counts beside its word.
const TRIGRAM: f32 = 0.5;

impl Embedder for Hashed {
    fn dim(&self) -> usize {
        DIM
    }

    fn identity(&self) -> String {
        "hashed/256 version 1".into()
    }

    fn embed(&self, texts: &[&str]) -> Result<Rows> {
        let mut values = Vec::with_capacity(texts.len() * DIM);
        for text in texts {
            let mut row = [0.0; DIM];
            for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
                let word: Vec<char> = format!("<{word}>").to_lowercase().chars().collect();
                add(&mut row, &word, 1.0);
                word.windows(3).for_each(|trigram| add(&mut row, trigram, TRIGRAM));
            }
            normalise(&mut row);
            values.extend_from_slice(&row);
        }
        Rows::new(Values::F32(values.into()), DIM)
    }
}

fn add(row: &mut [f32; DIM], feature: &[char], weight: f32) {
    let hash = xxh3_64(feature.iter().collect::<String>().as_bytes());
    row[hash as usize % DIM] += if hash >> 63 == 0 { weight } else { -weight };
}
