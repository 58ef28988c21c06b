//! Text to token ids as the uncased BERT models do it.
//!
//! Paper: Devlin et al., "BERT", NAACL 2019, for the vocabulary; Wu et al. 2016, section 4.1, for word pieces. What
//! is cleaned, and which characters stand alone, follows the models' published tokeniser, and is checked against it.

use unicode_general_category::{GeneralCategory as Category, get_general_category};
use unicode_normalization::UnicodeNormalization;
use xxhash_rust::xxh3::xxh3_64;

/// A longer word is unknown as a whole.
const WORD_CHARS: usize = 100;
/// Id of no token.
const NONE: u32 = u32::MAX;

/// Pieces of words by id, and the way back.
#[derive(Clone, Debug)]
pub struct WordPiece {
    pieces: Vec<Box<str>>,
    /// Open addressing over [`Self::pieces`]; a power of two, at most half full.
    slots: Vec<u32>,
    unknown: u32,
}

impl WordPiece {
    /// A tokeniser over `pieces`, id by id; pieces inside of a word begin with `##`.
    pub fn new<'p>(pieces: impl Iterator<Item = &'p str>) -> Self {
        let pieces: Vec<Box<str>> = pieces.map(Box::from).collect();
        let n_slots = (pieces.len() * 2).next_power_of_two().max(2);
        let mut vocabulary = Self { pieces, slots: vec![NONE; n_slots], unknown: NONE };
        for id in 0..vocabulary.pieces.len() as u32 {
            let mut slot = vocabulary.first_slot(vocabulary.pieces[id as usize].as_bytes());
            while vocabulary.slots[slot] != NONE {
                slot = (slot + 1) % n_slots;
            }
            vocabulary.slots[slot] = id;
        }
        vocabulary.unknown = vocabulary.find(b"[UNK]").unwrap_or(NONE);
        vocabulary
    }

    /// Whether this word, in lower case, is one piece.
    pub fn holds(&self, word: &str) -> bool {
        self.find(word.as_bytes()).is_some()
    }

    fn first_slot(&self, piece: &[u8]) -> usize {
        xxh3_64(piece) as usize % self.slots.len()
    }

    fn find(&self, piece: &[u8]) -> Option<u32> {
        let mut slot = self.first_slot(piece);
        loop {
            match self.slots[slot] {
                NONE => return None,
                id if self.pieces[id as usize].as_bytes() == piece => return Some(id),
                _ => slot = (slot + 1) % self.slots.len(),
            }
        }
    }

    /// Calls `token` with the id of each piece of `text`, in order. Marks such as `[MASK]` in a text are only text.
    pub fn encode(&self, text: &str, token: &mut dyn FnMut(u32)) {
        let mut word = String::new();
        let mut push = |c: char| match class(c) {
            Class::Space => self.end_word(&mut word, token),
            Class::Alone => {
                self.end_word(&mut word, token);
                word.push(c);
                self.end_word(&mut word, token);
            }
            Class::Part => word.push(c),
            Class::Nothing => {}
        };
        if text.is_ascii() {
            text.bytes().for_each(|byte| push(char::from(byte.to_ascii_lowercase())));
        } else {
            let cleaned = text.chars().filter(|&c| class(c) != Class::Nothing);
            let spaced = cleaned.map(|c| if class(c) == Class::Space { ' ' } else { c });
            let plain =
                spaced.nfd().filter(|&c| get_general_category(c) != Category::NonspacingMark);
            plain.flat_map(char::to_lowercase).for_each(&mut push);
        }
        self.end_word(&mut word, token);
    }

    /// The ids that [`Self::encode`] calls with.
    pub fn ids(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode(text, &mut |id| ids.push(id));
        ids
    }

    /// The longest pieces from the left; nothing but the unknown token if they do not make up the word.
    fn end_word(&self, word: &mut String, token: &mut dyn FnMut(u32)) {
        if word.is_empty() {
            return;
        }
        if let Some(id) = self.find(word.as_bytes()).filter(|_| word.len() <= WORD_CHARS) {
            token(id);
            return word.clear();
        }
        match self.pieces_of(word) {
            Some(ids) => ids.into_iter().for_each(token),
            None => token(self.unknown),
        }
        word.clear();
    }

    fn pieces_of(&self, word: &str) -> Option<Vec<u32>> {
        if word.chars().count() > WORD_CHARS {
            return None;
        }
        let mut ids = Vec::new();
        let mut rest = word;
        let mut piece = Vec::new();
        while !rest.is_empty() {
            let mut end = rest.len();
            let found = loop {
                piece.clear();
                if !ids.is_empty() {
                    piece.extend_from_slice(b"##");
                }
                piece.extend_from_slice(&rest.as_bytes()[..end]);
                if let Some(id) = self.find(&piece) {
                    break id;
                }
                // No piece is longer than its first character: the word is unknown.
                end = rest[..end]
                    .char_indices()
                    .next_back()
                    .map(|(at, _)| at)
                    .filter(|&at| at > 0)?;
            };
            ids.push(found);
            rest = &rest[end..];
        }
        Some(ids)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Space,
    Alone,
    Part,
    Nothing,
}

fn class(c: char) -> Class {
    if c.is_ascii() {
        return match c {
            ' ' | '\t' | '\n' | '\r' => Class::Space,
            '\0'..='\x1f' | '\x7f' => Class::Nothing,
            _ if c.is_ascii_punctuation() => Class::Alone,
            _ => Class::Part,
        };
    }
    use Category::*;
    match get_general_category(c) {
        _ if c == '\u{fffd}' => Class::Nothing,
        Control | Format | PrivateUse => Class::Nothing,
        _ if c.is_whitespace() => Class::Space,
        ConnectorPunctuation | DashPunctuation | OpenPunctuation | ClosePunctuation
        | InitialPunctuation | FinalPunctuation | OtherPunctuation => Class::Alone,
        _ if is_han(c) => Class::Alone,
        _ => Class::Part,
    }
}

/// Characters of the CJK blocks that the models split one by one.
fn is_han(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}'
        | '\u{2a700}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}'
        | '\u{2f800}'..='\u{2fa1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_into_the_longest_known_pieces() {
        let pieces = ["[UNK]", "un", "##aff", "##able", "##a", "!", "a", "##b"];
        let tokens = WordPiece::new(pieces.into_iter());
        let ids = |text: &str| tokens.ids(text);
        assert_eq!(ids("Unaffable!"), [1, 2, 3, 5]);
        assert_eq!(ids("unx a\u{301}B"), [0, 6, 7]);
        assert_eq!(ids(" \u{ad}\u{200b}\t"), [0u32; 0]);
        assert_eq!(ids(&"a".repeat(101)), [0]);
    }
}
