//! The sections that are tables: input files, reference files, stages.

use std::cmp::Reverse;
use std::fmt::{self, Write};

use super::html::{
    Html, MAX_ROWS, bar_cell, binary_bytes, bytes, close_section, grouped, more, open_section,
    open_table, percent, rate, seconds, share,
};
use crate::dedup::report::{FileReport, Report, StageReport};

/// Writes the section on the input files, those with the largest dropped share first.
pub fn sources(out: &mut String, report: &Report) -> fmt::Result {
    open_section(out, "sources", "Sources by share dropped")?;
    if report.files.is_empty() {
        out.write_str("<p>No input file was read.</p>\n")?;
        return close_section(out);
    }
    let files = by_share_dropped(&report.files);
    out.write_str(
        "<div class=\"scroll\" role=\"region\" aria-label=\"Sources\" tabindex=\"0\">\n",
    )?;
    let columns = [
        ("Source", ""),
        ("Read", "n"),
        ("Kept", "n wide"),
        ("Dropped", "n"),
        ("Quarantined", "n wide"),
        ("Share", "n"),
        ("", "bars"),
    ];
    open_table(out, "many", &columns)?;
    for file in files.iter().take(MAX_ROWS) {
        source_row(out, file)?;
    }
    out.write_str("</tbody>\n</table>\n</div>\n")?;
    more(out, files.len(), "the first")?;
    close_section(out)
}

/// By share, then by number dropped, both from the largest on; then by path.
fn by_share_dropped(files: &[FileReport]) -> Vec<&FileReport> {
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort_by(|a, b| {
        let share_of = |file: &FileReport| share(file.counts.dropped, file.counts.read);
        share_of(b).total_cmp(&share_of(a)).then_with(|| {
            (Reverse(a.counts.dropped), &a.source).cmp(&(Reverse(b.counts.dropped), &b.source))
        })
    });
    sorted
}

fn source_row(out: &mut String, file: &FileReport) -> fmt::Result {
    let counts = &file.counts;
    let part = share(counts.dropped, counts.read);
    write!(out, "<tr><th scope=\"row\"><code>{}</code></th>", Html(&file.source))?;
    write!(out, "<td class=\"n\">{}</td>", grouped(counts.read))?;
    write!(out, "<td class=\"n wide\">{}</td>", grouped(counts.kept))?;
    write!(out, "<td class=\"n\">{}</td>", grouped(counts.dropped))?;
    write!(out, "<td class=\"n wide\">{}</td>", grouped(counts.quarantined))?;
    write!(out, "<td class=\"n\">{}</td>", percent(part))?;
    bar_cell(out, "dropped", part)?;
    out.write_str("</tr>\n")
}

/// Writes the section on reference files; a job without any has no such section.
pub fn references(out: &mut String, report: &Report) -> fmt::Result {
    if report.references.is_empty() {
        return Ok(());
    }
    open_section(out, "references", "References: input records dropped for each")?;
    let columns = [("Reference", ""), ("Read", "n"), ("Unreadable", "n"), ("Dropped", "n")];
    open_table(out, "many", &columns)?;
    let mut sorted: Vec<_> = report.references.iter().collect();
    sorted.sort_by_key(|reference| (Reverse(reference.matched), &reference.source));
    for reference in sorted.iter().take(MAX_ROWS) {
        write!(out, "<tr><th scope=\"row\"><code>{}</code></th>", Html(&reference.source))?;
        for n in [reference.read, reference.quarantined, reference.matched] {
            write!(out, "<td class=\"n\">{}</td>", grouped(n))?;
        }
        out.write_str("</tr>\n")?;
    }
    out.write_str("</tbody>\n</table>\n")?;
    more(out, sorted.len(), "the first")?;
    close_section(out)
}

/// Writes the section on time and memory.
pub fn stages(out: &mut String, report: &Report) -> fmt::Result {
    open_section(out, "stages", "Stages")?;
    if report.stages.is_empty() {
        out.write_str("<p>This process ran no stage: an earlier one had done them all.</p>\n")?;
    } else {
        let columns =
            [("Stage", ""), ("Time", "n"), ("Read and written", "n"), ("Speed", "n"), ("", "bars")];
        open_table(out, "many", &columns)?;
        let longest = report.stages.iter().map(|stage| stage.seconds).fold(0.0, f64::max);
        for stage in &report.stages {
            stage_row(out, stage, longest)?;
        }
        out.write_str("</tbody>\n</table>\n")?;
    }
    write!(out, "<p>{} in all", seconds(report.seconds))?;
    match report.peak_memory_bytes {
        Some(n) => write!(out, ", {} of memory at most", binary_bytes(n))?,
        None => out.write_str("; the system does not tell how much memory was used")?,
    }
    out.write_str(".</p>\n")?;
    close_section(out)
}

fn stage_row(out: &mut String, stage: &StageReport, longest: f64) -> fmt::Result {
    write!(out, "<tr><th scope=\"row\">{}</th>", Html(&stage.name))?;
    write!(out, "<td class=\"n\">{}</td>", seconds(stage.seconds))?;
    let (read, speed) = if stage.bytes == 0 {
        (String::new(), String::new())
    } else {
        (bytes(stage.bytes), rate(stage.bytes, stage.seconds).unwrap_or_default())
    };
    write!(out, "<td class=\"n\">{read}</td><td class=\"n\">{speed}</td>")?;
    bar_cell(out, "kept", if longest > 0.0 { stage.seconds / longest } else { 0.0 })?;
    out.write_str("</tr>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::report::Counts;

    fn file(source: &str, read: u64, dropped: u64) -> FileReport {
        let counts = Counts { read, dropped, kept: read - dropped, ..Counts::default() };
        FileReport { source: source.into(), counts, ..FileReport::default() }
    }

    #[test]
    fn sources_are_sorted_by_share_then_number_then_path() {
        let files = [
            file("c", 0, 0),
            file("b", 10, 5),
            file("a", 10, 5),
            file("d", 100, 50),
            file("e", 2, 2),
        ];
        let order: Vec<_> =
            by_share_dropped(&files).iter().map(|file| file.source.as_str()).collect();
        assert_eq!(order, ["e", "d", "a", "b", "c"]);
    }

    #[test]
    fn a_long_list_of_sources_is_cut_and_says_so() {
        let files = (0..60).map(|i| file(&format!("part-{i:02}.jsonl"), 10, 1)).collect();
        let mut out = String::new();
        sources(&mut out, &Report { files, ..Report::default() }).unwrap();
        assert!(out.contains("part-49.jsonl") && !out.contains("part-50.jsonl"));
        assert!(out.contains("There are 10 more"));
    }
}
