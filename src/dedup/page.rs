//! `report.html`: what a job did, for a person. One file without scripts, with nothing to fetch.
//!
//! In: the [`Report`] and samples of the largest clusters. Out: the page. Next: `figures.rs`,
//! `tables.rs` and `clusters.rs` (the sections), `charts.rs` (drawings), `diff.rs` (texts side by
//! side), `style.css`. What comes from the user's files and options goes through [`Html`].

mod charts;
mod clusters;
mod command;
mod diff;
mod figures;
mod html;
mod meaning;
mod tables;

use std::fmt::{self, Write};

use self::command::{command_line, option, threshold};
use self::html::{
    Html, MAX_ROWS, binary_bytes, bytes, counted, grouped, more, percent, rate, seconds, share,
};
use super::report::{ClusterSample, Counts, Report};

/// The page as one HTML document, the same for the same report.
pub fn render(report: &Report, samples: &[ClusterSample]) -> String {
    let mut out = String::with_capacity(128 * 1024);
    document(&mut out, report, samples).expect("a String accepts every write");
    out
}

fn document(out: &mut String, report: &Report, samples: &[ClusterSample]) -> fmt::Result {
    let (dropped, read) = (grouped(report.totals.dropped), grouped(report.totals.read));
    let css = include_str!("page/style.css");
    write!(
        out,
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>nearkin dedup: {dropped} of {read} records dropped</title>
<style>
{css}</style>
</head>
<body>
"#
    )?;
    header(out, report)?;
    out.write_str("<main>\n")?;
    warnings(out, report)?;
    if report.semantic.is_none() || !command::is_semantic(report) {
        figures::similarity(out, report)?;
        figures::recall(out, report)?;
    }
    if let Some(semantic) = &report.semantic {
        meaning::section(out, semantic, !command::is_semantic(report))?;
    }
    tables::sources(out, report)?;
    tables::references(out, report)?;
    clusters::sizes(out, report)?;
    clusters::largest(out, report, samples)?;
    tables::stages(out, report)?;
    out.write_str("</main>\n")?;
    footer(out, report)?;
    out.write_str("</body>\n</html>\n")
}

fn header(out: &mut String, report: &Report) -> fmt::Result {
    let totals = &report.totals;
    writeln!(
        out,
        "<header>\n<p class=\"kicker\">nearkin dedup</p>\n\
         <h1>{} read: {} kept, {} dropped ({}), {} quarantined</h1>",
        counted(totals.read, "record"),
        grouped(totals.kept),
        grouped(totals.dropped),
        percent(share(totals.dropped, totals.read)),
        grouped(totals.quarantined)
    )?;
    split_bar(out, totals)?;
    method(out, report)?;
    facts(out, report)?;
    out.write_str(
        r##"<nav aria-label="Sections"><a href="#similarity">Similarity</a>
<a href="#recall">Recall</a> <a href="#sources">Sources</a> <a href="#sizes">Cluster sizes</a>
<a href="#clusters">Largest clusters</a> <a href="#stages">Stages</a></nav>
</header>
"##,
    )
}

/// One bar cut into kept, dropped and quarantined; the legend says the same in words.
fn split_bar(out: &mut String, totals: &Counts) -> fmt::Result {
    let parts =
        [("kept", totals.kept), ("dropped", totals.dropped), ("quarantined", totals.quarantined)];
    out.write_str("<div class=\"split\" aria-hidden=\"true\">")?;
    for (name, n) in parts.iter().filter(|(_, n)| *n > 0) {
        write!(out, r#"<span class="fill-{name}" style="flex:{n} 1 0"></span>"#)?;
    }
    out.write_str("</div>\n<div class=\"legend\">")?;
    for (name, n) in parts {
        let part = percent(share(n, totals.read));
        write!(out, r#"<span><i class="fill-{name}"></i>{name} {part}</span> "#)?;
    }
    out.write_str("</div>\n")
}

fn method(out: &mut String, report: &Report) -> fmt::Result {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(option(report, "method").map(|method| format!("Method {}", Html(&method))));
    parts.extend(threshold(report).map(|t| format!("threshold <b>{t}</b>")));
    let by_words = option(report, "method").is_none_or(|method| method != "semantic");
    let shingle = by_words.then_some(("shingle", "", " shingles"));
    let rest = [("keep", "keep ", ""), ("policy", "policy ", "")];
    for (key, before, after) in shingle.into_iter().chain(rest) {
        parts.extend(option(report, key).map(|value| format!("{before}{}{after}", Html(&value))));
    }
    let field = option(report, "text_field");
    parts.extend(field.map(|field| format!("text from the field <code>{}</code>", Html(&field))));
    if parts.is_empty() { Ok(()) } else { writeln!(out, "<p>{}.</p>", parts.join(", ")) }
}

fn facts(out: &mut String, report: &Report) -> fmt::Result {
    let (totals, pairs) = (&report.totals, &report.pairs);
    out.write_str("<dl class=\"facts\">\n")?;
    let similar = totals.dropped.saturating_sub(pairs.exact_drops);
    fact(out, "Exact duplicates", &grouped(pairs.exact_drops), "dropped: equal once normalised")?;
    fact(out, "Near-duplicates", &grouped(similar), "dropped: similar, not equal")?;
    let dropped = format!("{} of {}", bytes(totals.dropped_bytes), bytes(totals.bytes));
    fact(out, "Bytes dropped", &percent(share(totals.dropped_bytes, totals.bytes)), &dropped)?;
    let short = format!("{} more too short for one shingle", grouped(totals.short));
    fact(out, "Without any word", &grouped(totals.empty), &short)?;
    let speed = rate(totals.bytes, report.seconds).unwrap_or_default();
    fact(out, "Time", &seconds(report.seconds), &speed)?;
    let memory = report.peak_memory_bytes.map_or_else(|| "not known".into(), binary_bytes);
    let limit = option(report, "memory").map(|limit| format!("of {limit} allowed"));
    fact(out, "Peak memory", &memory, &limit.unwrap_or_default())?;
    out.write_str("</dl>\n")
}

fn fact(out: &mut String, name: &str, value: &str, note: &str) -> fmt::Result {
    let (value, note) = (Html(value), Html(note));
    writeln!(out, "<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>")
}

/// What a person should know before trusting the rest; nothing at all when all is well.
fn warnings(out: &mut String, report: &Report) -> fmt::Result {
    let damaged: Vec<_> = report
        .files
        .iter()
        .filter_map(|file| {
            let damage = file.damage.as_ref()?;
            Some(format!("<code>{}</code>: {}", Html(&file.source), Html(damage)))
        })
        .collect();
    let warned: Vec<_> = report.warnings.iter().map(|text| Html(text).to_string()).collect();
    let ignored: Vec<_> =
        report.ignored.iter().map(|path| format!("<code>{}</code>", Html(path))).collect();
    if damaged.is_empty() && warned.is_empty() && ignored.is_empty() {
        return Ok(());
    }
    out.write_str("<section class=\"warnings\">\n<h2>Before you use the result</h2>\n")?;
    list(out, "Warnings", &warned)?;
    list(out, "Damaged files", &damaged)?;
    list(out, "Not read: names that are not of a known format", &ignored)?;
    out.write_str("</section>\n")
}

/// A titled list of lines that are HTML already, cut to [`MAX_ROWS`].
fn list(out: &mut String, title: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h3>{title} ({})</h3>\n<ul>", grouped(lines.len() as u64))?;
    for line in lines.iter().take(MAX_ROWS) {
        writeln!(out, "<li>{line}</li>")?;
    }
    out.write_str("</ul>\n")?;
    more(out, lines.len(), "the first")
}

fn footer(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(
        out,
        "<footer>\n<p>To run this job again:</p>\n<pre><code>{}</code></pre>\n<p>nearkin {}. \
         Hash family <code>{}</code>: only signatures of the same family can be compared. Every \
         drop, with the kept record it repeats, is in <code>dropped.jsonl</code>; all numbers are \
         in <code>report.json</code>.</p>\n</footer>",
        Html(&command_line(report)),
        Html(&report.version),
        Html(&report.hash_family)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dedup::report::{FileReport, Member};

    fn minhash_report() -> Report {
        let mut report = Report {
            options: json!({"method": "minhash", "threshold": 0.85}),
            ..Report::default()
        };
        report.totals = Counts {
            read: 12_710,
            kept: 10_540,
            dropped: 2_130,
            quarantined: 40,
            ..Counts::default()
        };
        report.pairs.similarity_histogram = (0..50).collect();
        report
    }

    fn sample(kept: &str, dropped: &str) -> ClusterSample {
        let member = |text: &str| Member { text: text.into(), line: 1, ..Member::default() };
        ClusterSample {
            cluster: 7,
            size: 2,
            kept: member(kept),
            dropped: vec![(member(dropped), 0.9)],
        }
    }

    #[test]
    fn the_headline_counts_the_records() {
        let page = render(&minhash_report(), &[]);
        assert!(
            page.contains(
                "12,710 records read: 10,540 kept, 2,130 dropped (16.8 %), 40 quarantined"
            )
        );
    }

    #[test]
    fn markup_in_texts_paths_ids_and_options_is_only_text() {
        let evil = "<script>alert(1)</script>";
        let mut report = minhash_report();
        report.options = json!({"method": evil, "keep": evil, evil: evil});
        report.files = vec![FileReport {
            source: evil.into(),
            damage: Some(evil.into()),
            ..FileReport::default()
        }];
        report.ignored = vec![evil.into()];
        report.warnings = vec![evil.into()];
        let mut sample = sample(evil, "other");
        sample.kept.source = evil.into();
        sample.kept.id = evil.into();
        let page = render(&report, &[sample]);
        assert!(!page.contains("<script"));
        assert!(page.contains("&lt;script&gt;alert(1)"));
    }

    #[test]
    fn the_threshold_is_marked_in_the_histogram() {
        let page = render(&minhash_report(), &[]);
        assert!(page.contains("class=\"cut\"") && page.contains(">threshold 0.85</text>"));
    }

    #[test]
    fn a_report_of_nothing_has_sentences_instead_of_drawings() {
        let page = render(&Report::default(), &[]);
        assert!(!page.contains("<svg") && !page.contains("NaN") && !page.contains("inf"));
        for sentence in
            ["No pairs were compared", "no bands", "No input file", "No duplicate clusters"]
        {
            assert!(page.contains(sentence), "{sentence}");
        }
    }

    #[test]
    fn the_changed_word_is_marked() {
        let page = render(&minhash_report(), &[sample("the quick brown fox", "the quick red fox")]);
        assert!(page.contains("quick <del>brown</del> fox"));
        assert!(page.contains("quick <ins>red</ins> fox"));
    }

    #[test]
    fn the_page_fetches_nothing() {
        let page = render(&minhash_report(), &[sample("a", "b")]);
        for word in ["http://", "https://", "url(", "@import", "src=", "<link"] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
