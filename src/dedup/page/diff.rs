//! The texts of two records side by side, with the words marked that only one of them has.

use std::fmt::{self, Write};

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::html::{Html, grouped};
use crate::dedup::report::Member;
use crate::record::shingles::is_unspaced;

/// Words compared per text. It bounds the work by the input alone, never by a clock, so that the
/// same job gives the same page.
const MAX_WORDS: usize = 800;
/// Equal words shown before and after a difference.
const N_AROUND: usize = 12;
/// Words shown of a text that is equal to the other.
const N_EQUAL: usize = 60;
/// A gap is only made for more words than this; a shorter one would save nothing.
const MIN_GAP: usize = 6;

/// Two texts as HTML, with their differences.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The kept text; words that the dropped one lacks are `<del>`.
    pub kept: String,
    /// The dropped text; words that the kept one lacks are `<ins>`.
    pub dropped: String,
    /// Words that only the kept text has.
    pub n_only_kept: usize,
    /// Words that only the dropped text has.
    pub n_only_dropped: usize,
}

/// Compares two texts word by word, as far as they are given.
pub fn compare(kept: &Member, dropped: &Member) -> Comparison {
    let (kept, dropped) = (Words::of(kept), Words::of(dropped));
    let ops = capture_diff_slices(Algorithm::Myers, &kept.words, &dropped.words);
    let mut result = Comparison::default();
    result.write(&ops, &kept, &dropped).expect("a String accepts every write");
    result
}

impl Comparison {
    fn write(&mut self, ops: &[DiffOp], kept: &Words, dropped: &Words) -> fmt::Result {
        for (i, op) in ops.iter().enumerate() {
            let (old, new) = (&kept.runs[op.old_range()], &dropped.runs[op.new_range()]);
            let is_last = i + 1 == ops.len();
            match op {
                DiffOp::Equal { .. } => {
                    let shown = Shown::of(i == 0, is_last);
                    write_equal(&mut self.kept, old, shown)?;
                    write_equal(&mut self.dropped, new, shown)?;
                }
                // The other text may have these words too, behind the place where it is cut.
                DiffOp::Delete { .. } if is_last && dropped.is_cut => {
                    write_gap(&mut self.kept, old.len())?
                }
                DiffOp::Insert { .. } if is_last && kept.is_cut => {
                    write_gap(&mut self.dropped, new.len())?
                }
                _ => {
                    self.n_only_kept += old.len();
                    self.n_only_dropped += new.len();
                    write_marked(&mut self.kept, "del", old)?;
                    write_marked(&mut self.dropped, "ins", new)?;
                }
            }
        }
        write_end(&mut self.kept, kept)?;
        write_end(&mut self.dropped, dropped)
    }
}

/// A text cut into words: white space separates them, and a character of a script that is written
/// without spaces is a word, as in the shingles.
struct Words<'a> {
    /// What is compared.
    words: Vec<&'a str>,
    /// The same words with the white space behind each.
    runs: Vec<(&'a str, &'a str)>,
    /// Whether the record has more text than this.
    is_cut: bool,
}

impl<'a> Words<'a> {
    fn of(member: &'a Member) -> Self {
        let mut rest = member.text.trim_start();
        let mut runs = Vec::new();
        while !rest.is_empty() && runs.len() < MAX_WORDS {
            let (word, tail) = rest.split_at(word_len(rest));
            let next = tail.trim_start();
            runs.push((word, &tail[..tail.len() - next.len()]));
            rest = next;
        }
        if member.truncated && rest.is_empty() && runs.len() > 1 {
            runs.pop(); // cut in the middle, it would be marked as another word
        }
        let words = runs.iter().map(|(word, _)| *word).collect();
        Self { words, runs, is_cut: member.truncated || !rest.is_empty() }
    }
}

/// Bytes of the first word of `text`, which starts with one.
fn word_len(text: &str) -> usize {
    let mut chars = text.char_indices();
    let first = chars.next().map_or(0, |(_, c)| if is_unspaced(c) { c.len_utf8() } else { 0 });
    if first > 0 {
        return first;
    }
    chars.find(|(_, c)| c.is_whitespace() || is_unspaced(*c)).map_or(text.len(), |(i, _)| i)
}

/// How many words of an equal run are shown at its start and at its end.
#[derive(Clone, Copy)]
struct Shown {
    n_head: usize,
    n_tail: usize,
}

impl Shown {
    fn of(is_first: bool, is_last: bool) -> Self {
        match (is_first, is_last) {
            (true, true) => Self { n_head: N_EQUAL, n_tail: 0 },
            (true, false) => Self { n_head: 0, n_tail: N_AROUND },
            (false, true) => Self { n_head: N_AROUND, n_tail: 0 },
            (false, false) => Self { n_head: N_AROUND, n_tail: N_AROUND },
        }
    }
}

fn write_equal(out: &mut String, run: &[(&str, &str)], shown: Shown) -> fmt::Result {
    if run.len() <= shown.n_head + shown.n_tail + MIN_GAP {
        return write_words(out, run);
    }
    let (head, rest) = run.split_at(shown.n_head);
    let (gap, tail) = rest.split_at(rest.len() - shown.n_tail);
    write_words(out, head)?;
    write_gap(out, gap.len())?;
    write_words(out, tail)
}

fn write_gap(out: &mut String, n_words: usize) -> fmt::Result {
    let plural = if n_words == 1 { "" } else { "s" };
    write!(out, r#"<span class="skip">… {} word{plural} …</span> "#, grouped(n_words as u64))
}

fn write_end(out: &mut String, words: &Words) -> fmt::Result {
    if words.is_cut { out.write_str(r#"<span class="skip">(cut here)</span>"#) } else { Ok(()) }
}

fn write_marked(out: &mut String, tag: &str, run: &[(&str, &str)]) -> fmt::Result {
    let Some(((word, space), before)) = run.split_last() else { return Ok(()) };
    write!(out, "<{tag}>")?;
    write_words(out, before)?;
    write!(out, "{}</{tag}>{}", Html(word), shown_space(space))
}

fn write_words(out: &mut String, run: &[(&str, &str)]) -> fmt::Result {
    run.iter().try_for_each(|(word, space)| write!(out, "{}{}", Html(word), shown_space(space)))
}

/// White space as the page shows it: one line end with the indentation behind it, or one space.
fn shown_space(space: &str) -> &str {
    match space.rfind('\n') {
        Some(at) => &space[at..],
        None if space.is_empty() => "",
        None => " ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Member {
        Member { text: text.into(), ..Member::default() }
    }

    #[test]
    fn the_changed_word_is_marked_on_both_sides() {
        let result = compare(&member("one two three"), &member("one zwei three"));
        assert_eq!(result.kept, "one <del>two</del> three");
        assert_eq!(result.dropped, "one <ins>zwei</ins> three");
        assert_eq!((result.n_only_kept, result.n_only_dropped), (1, 1));
    }

    #[test]
    fn characters_of_unspaced_scripts_are_words() {
        let result = compare(&member("日本語の本"), &member("日本語の木"));
        assert_eq!(result.dropped, "日本語の<ins>木</ins>");
    }

    #[test]
    fn long_equal_runs_are_told_by_their_length() {
        let same = "same ".repeat(100);
        let result = compare(&member(&format!("{same}a")), &member(&format!("{same}b")));
        assert!(result.kept.contains("… 88 words …"), "{}", result.kept);
        assert!(result.kept.ends_with("same <del>a</del>"));
    }

    #[test]
    fn words_behind_the_cut_of_the_other_text_are_no_difference() {
        let kept = Member { truncated: true, ..member("a b c d e f") };
        let dropped = Member { truncated: true, ..member("x a b c d") };
        let result = compare(&kept, &dropped);
        assert_eq!((result.n_only_kept, result.n_only_dropped), (0, 1));
        assert!(!result.kept.contains("<del>"), "{}", result.kept);
    }

    #[test]
    fn markup_in_a_text_is_only_text() {
        let result = compare(&member("<script>"), &member("</div> \"&'"));
        assert_eq!(result.kept, "<del>&lt;script&gt;</del>");
        assert_eq!(result.dropped, "<ins>&lt;/div&gt; &quot;&amp;&#39;</ins>");
    }
}
