//! Which differences between texts do not count: Unicode form, case, white space and the like.

use std::fmt;
use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::error::Error;

/// The normalisation steps, each on or off. Recorded in reports and in every index header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalizer {
    /// Unicode NFC. Ignored when `nfkc` is on, which includes it.
    pub nfc: bool,
    /// Unicode NFKC: compatibility characters become their plain forms.
    pub nfkc: bool,
    /// Lower case, character by character (no context rules, so a word's case never depends on its
    /// neighbours); the two lower-case sigmas are one.
    pub case: bool,
    /// Runs of Unicode white space count as one space, and none at both ends.
    pub space: bool,
    /// Characters that are neither letters, digits, marks nor white space are removed.
    pub punct: bool,
    /// Every decimal digit becomes `0`.
    pub digits: bool,
    /// Combining marks are removed after decomposition (`é` becomes `e`).
    pub marks: bool,
}

impl Normalizer {
    /// No step: texts are compared as they are.
    pub const NONE: Self = Self {
        nfc: false,
        nfkc: false,
        case: false,
        space: false,
        punct: false,
        digits: false,
        marks: false,
    };

    /// The default for prose: case and white space.
    pub const PROSE: Self = Self { case: true, space: true, ..Self::NONE };

    /// The default for source code: white space only.
    pub const CODE: Self = Self { space: true, ..Self::NONE };

    /// Whether some step needs the text rewritten before it is cut into words; case and white space
    /// are done while cutting.
    pub fn rewrites(&self) -> bool {
        self.nfc || self.nfkc || self.punct || self.digits || self.marks
    }

    /// `text` after the steps that [`Self::rewrites`] names.
    pub fn rewrite(&self, text: &str) -> String {
        let mut text = if self.nfkc {
            text.nfkc().collect()
        } else if self.nfc {
            text.nfc().collect::<String>()
        } else {
            text.to_owned()
        };
        if self.marks {
            text = text.nfd().filter(|&c| !is_combining_mark(c)).nfc().collect();
        }
        if self.punct {
            text.retain(|c| c.is_alphanumeric() || c.is_whitespace() || is_combining_mark(c));
        }
        if self.digits {
            text = text.chars().map(|c| if c.is_numeric() { '0' } else { c }).collect();
        }
        text
    }
}

/// Appends the lower-case form of `c`.
#[inline]
pub fn push_lower(c: char, out: &mut String) {
    if c.is_ascii() {
        out.push(c.to_ascii_lowercase());
    } else if c == 'ς' {
        out.push('σ');
    } else {
        out.extend(c.to_lowercase());
    }
}

const STEPS: &str = "nfc, nfkc, case, space, punct, digits, marks, or none alone";

impl FromStr for Normalizer {
    type Err = Error;

    fn from_str(list: &str) -> Result<Self, Error> {
        let mut steps = Self::NONE;
        if list == "none" {
            return Ok(steps);
        }
        for step in list.split(',') {
            match step.trim() {
                "nfc" => steps.nfc = true,
                "nfkc" => steps.nfkc = true,
                "case" => steps.case = true,
                "space" => steps.space = true,
                "punct" => steps.punct = true,
                "digits" => steps.digits = true,
                "marks" => steps.marks = true,
                other => {
                    let message = format!("unknown step {other:?}, expected {STEPS}");
                    return Err(Error::usage("normalize", message));
                }
            }
        }
        Ok(steps)
    }
}

impl fmt::Display for Normalizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = [
            (self.nfc, "nfc"),
            (self.nfkc, "nfkc"),
            (self.case, "case"),
            (self.space, "space"),
            (self.punct, "punct"),
            (self.digits, "digits"),
            (self.marks, "marks"),
        ];
        let on: Vec<&str> = steps.iter().filter(|s| s.0).map(|s| s.1).collect();
        f.write_str(if on.is_empty() { "none" } else { "" })?;
        f.write_str(&on.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_survive_a_round_trip_through_text() {
        for list in ["none", "case,space", "nfkc,case,space,punct,digits,marks"] {
            assert_eq!(list.parse::<Normalizer>().unwrap().to_string(), list);
        }
        let error = "cases".parse::<Normalizer>().unwrap_err();
        assert!(error.to_string().contains("\"cases\""), "{error}");
    }

    #[test]
    fn each_rewriting_step_does_what_it_says() {
        let steps = |list: &str| list.parse::<Normalizer>().unwrap();
        assert_eq!(steps("nfkc").rewrite("ﬁne ①"), "fine 1");
        assert_eq!(steps("marks").rewrite("Café naïve"), "Cafe naive");
        assert_eq!(steps("punct").rewrite("a-b, c!"), "ab c");
        assert_eq!(steps("digits").rewrite("v1.27"), "v0.00");
        assert!(!Normalizer::PROSE.rewrites());
    }
}
