//! The sections on duplicate clusters: their sizes, and the texts of the largest.

use std::fmt::{self, Write};

use super::diff::{Comparison, compare};
use super::html::{
    Html, bar_cell, close_section, counted, grouped, open_section, open_table, share, similarity,
};
use crate::dedup::report::{ClusterSample, Member, Report};

/// Writes the section on the number of clusters by size.
pub fn sizes(out: &mut String, report: &Report) -> fmt::Result {
    open_section(out, "sizes", "Cluster sizes")?;
    let clusters = &report.clusters;
    if clusters.n_clusters == 0 {
        out.write_str(
            "<p>No duplicate clusters: no record has a duplicate within the input.</p>\n",
        )?;
        return close_section(out);
    }
    writeln!(
        out,
        "<p>{} of two or more records hold {}; the largest has {}.</p>",
        counted(clusters.n_clusters, "duplicate cluster"),
        counted(clusters.n_records, "record"),
        grouped(clusters.largest)
    )?;
    let columns = [("Records", ""), ("Clusters", "n"), ("Records in them", "n"), ("", "bars")];
    open_table(out, "few", &columns)?;
    let rows = size_rows(&clusters.sizes);
    let most = rows.iter().map(|row| row.n_records).max().unwrap_or(0);
    for row in &rows {
        write!(out, "<tr><th scope=\"row\" class=\"range\">{}</th>", row.label())?;
        write!(out, "<td class=\"n\">{}</td>", grouped(row.n_clusters))?;
        write!(out, "<td class=\"n\">{}</td>", grouped(row.n_records))?;
        bar_cell(out, "dropped", share(row.n_records, most))?;
        out.write_str("</tr>\n")?;
    }
    out.write_str("</tbody>\n</table>\n")?;
    close_section(out)
}

/// Clusters of `from` to `to` records.
#[derive(Debug, PartialEq)]
struct SizeRow {
    from: u64,
    to: u64,
    n_clusters: u64,
    n_records: u64,
}

impl SizeRow {
    fn label(&self) -> String {
        if self.from == self.to {
            grouped(self.from)
        } else {
            format!("{} to {}", grouped(self.from), grouped(self.to))
        }
    }
}

/// Sizes 2, 3, 4, then ranges from 5, 10, 20, 50, 100, ...; a range without clusters has no row.
fn size_rows(sizes: &[[u64; 2]]) -> Vec<SizeRow> {
    let mut rows: Vec<SizeRow> = Vec::new();
    for &[size, n] in sizes {
        let (from, to) = size_range(size);
        match rows.last_mut() {
            Some(row) if row.from == from => {
                row.n_clusters += n;
                row.n_records += size * n;
            }
            _ => rows.push(SizeRow { from, to, n_clusters: n, n_records: size * n }),
        }
    }
    rows
}

fn size_range(size: u64) -> (u64, u64) {
    if size < 5 {
        return (size, size);
    }
    let power = 10u64.pow(size.ilog10());
    match size / power {
        1 => (power, 2 * power - 1),
        2..5 => (2 * power, 5 * power - 1),
        _ => (5 * power, 10 * power - 1),
    }
}

/// Writes the section with the texts of the largest clusters.
pub fn largest(out: &mut String, report: &Report, samples: &[ClusterSample]) -> fmt::Result {
    open_section(out, "clusters", "The largest clusters")?;
    if samples.is_empty() {
        let why = match report.clusters.n_clusters {
            0 => "There is no duplicate cluster to show.",
            _ => "No texts were sampled; <code>dropped.jsonl</code> names every pair.",
        };
        writeln!(out, "<p>{why}</p>")?;
        return close_section(out);
    }
    writeln!(
        out,
        "<p>Each kept text beside texts dropped for it. Marked are <del>words that only the kept \
         text has</del> and <ins>words that only the dropped text has</ins>; of long equal \
         passages only the ends are shown.</p>"
    )?;
    for (i, sample) in samples.iter().enumerate() {
        cluster(out, sample, if i == 0 { " open" } else { "" })?;
    }
    close_section(out)
}

fn cluster(out: &mut String, sample: &ClusterSample, open: &str) -> fmt::Result {
    writeln!(
        out,
        "<details class=\"cluster\"{open}>\n<summary>{} like <code>{}</code> \
         <span class=\"soft\">· cluster {} · {} shown</span></summary>",
        counted(sample.size, "record"),
        place(&sample.kept),
        sample.cluster,
        grouped(sample.dropped.len() as u64)
    )?;
    for (dropped, value) in &sample.dropped {
        pair(out, &sample.kept, dropped, *value)?;
    }
    if sample.dropped.is_empty() {
        out.write_str("<div class=\"pair alone\">\n")?;
        let Comparison { kept, .. } = compare(&sample.kept, &sample.kept);
        member(out, "kept", &sample.kept, &kept)?;
        out.write_str("</div>\n")?;
    }
    out.write_str("</details>\n")
}

fn pair(out: &mut String, kept: &Member, dropped: &Member, value: f64) -> fmt::Result {
    let texts = compare(kept, dropped);
    let (n_kept, n_dropped) = (texts.n_only_kept, texts.n_only_dropped);
    write!(out, "<p class=\"verdict\">Similarity <b>{}</b>", similarity(value))?;
    if n_kept + n_dropped == 0 {
        out.write_str(": the words shown are the same")?;
    } else {
        let only_kept = counted(n_kept as u64, "word");
        write!(
            out,
            ": {only_kept} only in the kept text, {} only in the dropped",
            grouped(n_dropped as u64)
        )?;
    }
    out.write_str(".</p>\n<div class=\"pair\">\n")?;
    member(out, "kept", kept, &texts.kept)?;
    // The same text twice would only make the reader search for a difference.
    let is_same = n_kept + n_dropped == 0 && !texts.dropped.is_empty();
    let same = r#"<span class="skip">the same words</span>"#;
    member(out, "dropped", dropped, if is_same { same } else { &texts.dropped })?;
    out.write_str("</div>\n")
}

fn member(out: &mut String, fate: &str, record: &Member, text: &str) -> fmt::Result {
    let empty = r#"<span class="skip">no text</span>"#;
    writeln!(
        out,
        "<div class=\"member {fate}\"><b>{fate}</b> <code>{}</code> <span class=\"soft\">id \
         <code>{}</code></span>\n<div class=\"text\" dir=\"auto\">{}</div></div>",
        place(record),
        Html(&record.id),
        if text.is_empty() { empty } else { text }
    )
}

/// Where a record stands, as `path:line`.
fn place(record: &Member) -> String {
    format!("{}:{}", Html(&record.source), record.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_grouped_into_ranges() {
        let rows = size_rows(&[[2, 9], [3, 1], [7, 2], [9, 1], [4_000, 1]]);
        let labels: Vec<_> = rows.iter().map(SizeRow::label).collect();
        assert_eq!(labels, ["2", "3", "5 to 9", "2,000 to 4,999"]);
        assert_eq!((rows[2].n_clusters, rows[2].n_records), (3, 23));
    }
}
