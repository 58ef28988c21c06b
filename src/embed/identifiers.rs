//! Names of code cut into the words that they are made of, where case shows them: `parseJSONFile` is `parse JSON File`.
//! (`_` needs no help: word pieces end at every sign.)

use std::borrow::Cow;
use std::ops::Range;

/// `text` with a space at each change of case inside of a run of ASCII letters that `is_word`, asked in lower case, does
/// not know as a whole: `JavaScript` stays if it is in the vocabulary.
pub fn words_apart<'t>(text: &'t str, is_word: &dyn Fn(&str) -> bool) -> Cow<'t, str> {
    let mut apart = String::new();
    let mut copied = 0;
    for run in runs(text.as_bytes()) {
        let name = &text.as_bytes()[run.clone()];
        let mut starts = (1..name.len()).filter(|&at| starts_word(name, at)).peekable();
        if starts.peek().is_none() || is_word(&text[run.clone()].to_ascii_lowercase()) {
            continue;
        }
        for start in starts {
            apart.push_str(&text[copied..run.start + start]);
            apart.push(' ');
            copied = run.start + start;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    apart.push_str(&text[copied..]);
    Cow::Owned(apart)
}

/// Runs of ASCII letters.
fn runs(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + bytes[at..].iter().position(u8::is_ascii_alphabetic)?;
        let len = bytes[start..].iter().position(|byte| !byte.is_ascii_alphabetic());
        at = len.map_or(bytes.len(), |len| start + len);
        Some(start..at)
    })
}

/// Whether letter `at`, which is not the first, starts a word: `B` of `aB`, and of `ABc`.
fn starts_word(name: &[u8], at: usize) -> bool {
    let is_upper = |at: usize| name[at].is_ascii_uppercase();
    let before_small = at + 1 < name.len() && !is_upper(at + 1);
    is_upper(at) && (!is_upper(at - 1) || before_small)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_where_case_changes_and_known_words_are_not() {
        let apart = |text| words_apart(text, &|word: &str| word == "javascript");
        for (text, expected) in [
            ("getObjectName", "get Object Name"),
            ("parseJSONFile(x)", "parse JSON File(x)"),
            ("HTTPServer XMLHttpRequest", "HTTP Server XML Http Request"),
            ("JavaScript JavaScripts", "JavaScript Java Scripts"),
            ("GLError v2Beta", "GL Error v2Beta"),
            ("a_snakeCase éCole Überall", "a_snake Case éCole Überall"),
        ] {
            assert_eq!(apart(text), expected);
        }
        for text in ["", "A", "plain words. Sentences Too, NASA", "語Aa"] {
            assert!(matches!(apart(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
