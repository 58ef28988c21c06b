//! A text as the guard sees it: words, numbers and signs, each with its place.

use std::ops::Range;

use crate::cache::guard::tables::{TABLES, stem};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Carries no matter of its own.
    Function,
    /// Says no.
    Negation,
    /// Digits, dates, times and versions included, or a number in words.
    Number,
    /// Of measure or money.
    Unit,
    /// Any other word or sign.
    Content,
}

/// A token.
#[derive(Clone, Debug)]
pub struct Token {
    /// What equal tokens have in common: a stem, a number's digits, a unit's one spelling, `not`.
    pub norm: String,
    /// What it is.
    pub kind: Kind,
    /// Its bytes in the text.
    pub span: Range<usize>,
    /// Whether it is written as a name: a capital where no sentence begins, or among small letters.
    pub is_name: bool,
}

/// The tokens of a text, in order.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut begins = true;
    while let Some(first) = text[at..].chars().next() {
        let end = at + piece(&text[at..], text[..at].chars().next_back());
        if end > at {
            take(text, at..end, begins, &mut found);
            begins = false;
            at = end;
        } else {
            begins |= matches!(first, '!' | '?' | ':' | '\n' | '"' | '(' | '。' | '？')
                || first == '.' && !is_abbreviated(text, found.last());
            at += first.len_utf8();
        }
    }
    forget_capitals(text, &mut found);
    found
}

/// Bytes of the token at the beginning of `rest`; 0 if none begins there.
fn piece(rest: &str, before: Option<char>) -> usize {
    let mut chars = rest.char_indices();
    let Some((_, first)) = chars.next() else { return 0 };
    let next = rest[first.len_utf8()..].chars().next();
    let is_minus = first == '-' && before.is_none_or(|c| c.is_whitespace() || c == '(');
    if first.is_numeric() || is_minus && next.is_some_and(|c| c.is_ascii_digit()) {
        return number_len(rest);
    }
    if is_ideograph(first) {
        return first.len_utf8();
    }
    if first.is_alphabetic() {
        return word_len(rest);
    }
    let is_apart = |c: Option<char>| c.is_none_or(|c| !c.is_alphabetic());
    let is_sign = "$€£¥%+*×÷^<>=".contains(first)
        || "-/".contains(first) && before == Some(' ') && next == Some(' ');
    if is_sign && ("$€£¥%".contains(first) || is_apart(before) && is_apart(next)) {
        return first.len_utf8();
    }
    0
}

/// Digits, and signs between digits: `1,000.5`, `2024-01-05`, `10:30`, `3.10`.
fn number_len(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1).peekable();
    let mut end = rest.chars().next().map_or(0, char::len_utf8);
    while let Some((at, c)) = chars.next() {
        let joins = ".,:/-".contains(c) && chars.peek().is_some_and(|(_, c)| c.is_ascii_digit());
        if !c.is_numeric() && !joins {
            break;
        }
        end = at + c.len_utf8();
    }
    end
}

/// Letters, with apostrophes between them, and the signs of `c++` and `c#` behind.
fn word_len(rest: &str) -> usize {
    let mut chars = rest.char_indices().peekable();
    let mut end = 0;
    while let Some((at, c)) = chars.next() {
        let joins = matches!(c, '\'' | '’') && chars.peek().is_some_and(|(_, c)| c.is_alphabetic());
        let is_letter = (c.is_alphabetic() || is_mark(c)) && !is_ideograph(c);
        if !is_letter && !joins {
            break;
        }
        end = at + c.len_utf8();
    }
    match &rest[end..] {
        signs if end == 1 && signs.starts_with("++") => end + 2,
        sign if end == 1 && sign.starts_with('#') => end + 1,
        _ => end,
    }
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// Marks that letters of many scripts carry.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{93c}'..='\u{94d}' | '\u{200c}' | '\u{200d}')
}

/// Adds what one piece of text is: a word drawn together with a negation is two tokens.
fn take(text: &str, span: Range<usize>, begins: bool, found: &mut Vec<Token>) {
    let raw = &text[span.clone()];
    let lower = raw.to_lowercase().replace('’', "'");
    let mut push = |norm: String, kind: Kind, is_name: bool| {
        found.push(Token { norm, kind, span: span.clone(), is_name });
    };
    if raw.starts_with(|c: char| c.is_numeric() || c == '-' && raw.len() > 1) {
        return push(digits(&lower), Kind::Number, false);
    }
    let negated = TABLES.contracted(&lower).or_else(|| lower.strip_suffix("n't"));
    if let Some(word) = negated {
        push(stem(word), Kind::Function, false);
        return push("not".into(), Kind::Negation, false);
    }
    if TABLES.is_negation(&lower) {
        return push("not".into(), Kind::Negation, false);
    }
    let word = lower.split('\'').next().unwrap_or(&lower);
    let (norm, kind) = known(word);
    let is_part = text[..span.start].ends_with('_') || text[span.end..].starts_with('_');
    push(norm, kind, is_part || is_name(raw, begins));
}

fn known(word: &str) -> (String, Kind) {
    if let Some(number) = TABLES.number(word) {
        return (number.into(), Kind::Number);
    }
    if matches!(word, "one" | "a" | "an") {
        // As good as no number, and equal to 1.
        return (if word == "one" { "1" } else { "a" }.into(), Kind::Function);
    }
    let word = match word {
        "$" => "dollar",
        "€" => "euro",
        "£" => "pound",
        "¥" => "yen",
        word => word,
    };
    let stem = stem(word);
    if let Some(unit) = TABLES.unit(&stem) {
        return (unit.into(), Kind::Unit);
    }
    let kind = if TABLES.is_function(&stem) { Kind::Function } else { Kind::Content };
    (TABLES.alias(&stem).map_or(stem.clone(), str::to_owned), kind)
}

/// Digits without what only groups them or stands before them: `1,000` is `1000`, `07` is `7`. `3.10` and `3.1` stay two.
fn digits(number: &str) -> String {
    let parts: Vec<&str> = number.split(',').collect();
    let is_grouped = parts.len() > 1 && parts[1..].iter().all(|part| part.len() >= 3);
    let number = if is_grouped { parts.concat() } else { number.to_owned() };
    let rest = number.trim_start_matches('0');
    if rest.starts_with(|c: char| c.is_numeric()) { rest.to_owned() } else { number }
}

/// Whether a word is written as a name. A capital at the beginning of a sentence says nothing.
fn is_name(raw: &str, begins: bool) -> bool {
    let mut capitals = raw.chars().map(char::is_uppercase);
    let first = capitals.next().unwrap_or(false);
    let later = capitals.any(|is_capital| is_capital);
    raw.chars().count() > 1 && (later || first && !begins)
}

/// Whether a full stop behind this token ends an abbreviation, as in `Dr. No`.
fn is_abbreviated(text: &str, last: Option<&Token>) -> bool {
    let word = last.map_or("", |token| &text[token.span.clone()]);
    word.len() <= 3 && word.starts_with(char::is_uppercase)
}

/// Where function words have capitals, as in a text of CAPITALS or a Title Of Something, capitals name nothing.
fn forget_capitals(text: &str, tokens: &mut [Token]) {
    let is_capital = |token: &Token| text[token.span.clone()].starts_with(char::is_uppercase);
    let others = tokens.iter().filter(|token| token.kind == Kind::Function);
    let (n, capitals) = others
        .filter(|token| token.span.len() > 1)
        .fold((0, 0), |(n, capitals), token| (n + 1, capitals + usize::from(token.is_name)));
    let words = tokens.iter().filter(|token| token.kind == Kind::Content);
    let are_all = words.clone().count() >= 3 && words.clone().all(is_capital);
    let is_title = capitals > 0 && 2 * capitals >= n || n == 0 && are_all;
    for token in tokens {
        token.is_name &= token.kind == Kind::Content && !is_title;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norms(text: &str) -> Vec<String> {
        tokens(text).into_iter().map(|token| token.norm).collect()
    }

    #[test]
    fn numbers_units_negations_and_signs_have_one_spelling() {
        assert_eq!(norms("$1,000 isn't 07:30"), ["dollar", "1000", "is", "not", "7:30"]);
        assert_eq!(norms("two Kilometers, 2km; 5%"), ["2", "km", "2", "km", "5", "percent"]);
        assert_eq!(
            norms("I can’t use GPT-4 or python3.10"),
            ["i", "can", "not", "use", "gpt", "4", "or", "python", "3.10"]
        );
        assert_eq!(norms("C++ and c# or 3 - -4"), ["c++", "and", "c#", "or", "3", "-", "-4"]);
        assert_eq!(norms("第3章は"), ["第", "3", "章", "は"]);
        assert_eq!(norms(" ,.!?-- \u{0}"), [""; 0]);
    }

    #[test]
    fn names_have_capitals_where_no_sentence_begins() {
        let names = |text: &str| -> Vec<String> {
            let all = tokens(text).into_iter().filter(|token| token.is_name);
            all.map(|token| text[token.span].to_owned()).collect()
        };
        assert_eq!(names("Weather in Oslo? Maybe iPhone or NATO."), ["Oslo", "iPhone", "NATO"]);
        assert_eq!(names("Ask Dr. Meyer about sort_keys"), ["Dr", "Meyer", "sort", "keys"]);
        assert_eq!(names("WHERE CARD ARRIVES NOW"), [""; 0]);
        assert_eq!(names("How To Bake Fresh Bread"), [""; 0]);
    }

    #[test]
    fn spans_are_those_of_the_text() {
        let text = "Ünïcode: ﬁve “quotes” 10€ и слово";
        for token in tokens(text) {
            assert!(!text[token.span.clone()].is_empty(), "{token:?}");
        }
    }
}
