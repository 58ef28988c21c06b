//! A part of a policy file, as the cache reads it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::cache::calibrate::{Choice, threshold};
use crate::cli::cache::calibrate::Category;
use crate::error::{Error, IoContext, Result};

/// Writes the thresholds that were found, aside and renamed. Categories without one are named in a comment.
///
/// # Errors
/// `exists` if the file is there and is not to be replaced; what writing gives.
pub fn write(path: &Path, head: &[String], categories: &[Category], overwrite: bool) -> Result<()> {
    if path.exists() && !overwrite {
        let message = format!("{} is there; --overwrite replaces it", path.display());
        return Err(Error::usage("exists", message));
    }
    let part = path.with_extension("part");
    fs::write(&part, text(head, categories)).at("write", &part)?;
    fs::rename(&part, path).at("rename", &part)
}

fn text(head: &[String], categories: &[Category]) -> String {
    let mut text = String::new();
    for line in head {
        // A text in it must not end the comment.
        let _ = writeln!(text, "# {}", line.replace(['\n', '\r'], " "));
    }
    for category in categories {
        let name = key(&category.name);
        let n = category.curve.n;
        let _ = match category.choice {
            Choice::Threshold(i) => {
                let count = category.curve.counts[i];
                let seen =
                    format!("{} of {n} answered, {} of them wrongly", count.hits, count.errors);
                writeln!(text, "\n# {seen}\n[category.{name}]\nthreshold = {}", threshold(i))
            }
            Choice::TooFew { least } => writeln!(
                text,
                "\n# category {name} stays strict: {n} requests, at least {least} are needed"
            ),
            Choice::TooWrong => writeln!(
                text,
                "\n# category {name} stays strict: no threshold keeps the error below the target"
            ),
        };
    }
    text
}

/// A name as a key of TOML, whose strings are written as JSON's.
fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !name.is_empty() && name.chars().all(is_bare) {
        true => name.to_owned(),
        false => serde_json::to_string(name).expect("a string"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::calibrate::{Count, Curve, THRESHOLDS};

    #[test]
    fn a_fragment_sets_what_was_found_and_says_what_was_not() {
        let curve = |n| Curve { n, counts: vec![Count { hits: 30, errors: 1 }; THRESHOLDS] };
        let category =
            |name: &str, choice| Category { name: name.into(), curve: curve(600), choice };
        let categories = [
            category("code", Choice::Threshold(77)),
            category("a \"b\"\nc", Choice::Threshold(0)),
            category("few", Choice::TooFew { least: 299 }),
            category("wrong", Choice::TooWrong),
        ];
        let expected = "# made by\n\n# 30 of 600 answered, 1 of them wrongly\n[category.code]\nthreshold = 0.885\n\n\
            # 30 of 600 answered, 1 of them wrongly\n[category.\"a \\\"b\\\"\\nc\"]\nthreshold = 0.5\n\n\
            # category few stays strict: 600 requests, at least 299 are needed\n\n\
            # category wrong stays strict: no threshold keeps the error below the target\n";
        assert_eq!(text(&["made by".into()], &categories), expected);
    }
}
