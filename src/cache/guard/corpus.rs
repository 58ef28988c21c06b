//! Pairs of our own: what must be refused, and what must pass.

use crate::cache::guard::{Guarded, agrees};

const TRAPS: &str = include_str!("../../../tests/it/fixtures/guard/traps.txt");
const PARAPHRASES: &str = include_str!("../../../tests/it/fixtures/guard/paraphrases.txt");

fn is_refused(stored: &str, asked: &str) -> bool {
    agrees(stored, asked) != Guarded::Same
}

#[test]
fn flips_of_polarity_number_unit_name_and_order_are_refused() {
    assert!(TRAPS.lines().count() >= 150);
    for line in TRAPS.lines() {
        let [kind, stored, asked] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        assert!(is_refused(stored, asked), "{kind}: {stored} | {asked}");
        // Other ends around the same difference change nothing.
        let around = |text: &str| format!("Hello, a question: {text} Thanks a lot.");
        assert!(is_refused(&around(stored), &around(asked)), "{kind}: {stored} | {asked}");
    }
}

#[test]
fn few_paraphrases_are_refused() {
    assert!(PARAPHRASES.lines().count() >= 100);
    let pairs = PARAPHRASES.lines().filter_map(|line| line.split_once(" | "));
    let refused: Vec<_> = pairs.filter(|(stored, asked)| is_refused(stored, asked)).collect();
    assert!(refused.len() <= 2, "{refused:#?}");
}

#[test]
fn every_text_agrees_with_itself() {
    for text in TRAPS.lines().chain(PARAPHRASES.lines()) {
        assert!(!is_refused(text, text) && !is_refused(text, &format!("{text}!")), "{text}");
    }
}
