//! The sections of a semantic job: how near the vectors are, and how many of the near pairs are found.

use std::fmt::{self, Write};

use super::charts::{self, bin_edges};
use super::figures::numbers;
use super::html::{Html, close_section, counted, grouped, open_section, percent, share};
use crate::dedup::report::{BorderReport, SemanticReport};

/// Writes both sections; `beside` a lexical job's they have names of their own.
pub fn section(out: &mut String, semantic: &SemanticReport, beside: bool) -> fmt::Result {
    let (near, found) = if beside { ("meaning", "border") } else { ("similarity", "recall") };
    open_section(out, near, "How near the records are in meaning")?;
    similarity(out, semantic)?;
    close_section(out)?;
    open_section(out, found, "How many of the near pairs in meaning are found")?;
    match &semantic.border {
        Some(border) => lost(out, semantic, border)?,
        None => writeln!(
            out,
            "<p>As many as the job in <code>{}</code> found; its report says how many.</p>",
            Html(semantic.from.as_deref().unwrap_or_default())
        )?,
    }
    close_section(out)
}

fn similarity(out: &mut String, semantic: &SemanticReport) -> fmt::Result {
    let threshold = Some(semantic.similarity);
    let has_nearest = semantic.nearest_histogram.iter().any(|n| *n > 0);
    let bins = if has_nearest { &semantic.nearest_histogram } else { &semantic.histogram };
    if bins.iter().any(|n| *n > 0) {
        out.write_str("<div class=\"figure\">\n<figure>\n")?;
        if has_nearest {
            charts::nearest(out, bins, threshold)?;
        } else {
            charts::histogram(out, bins, threshold)?;
        }
        out.write_str("</figure>\n<div>\n")?;
    } else {
        out.write_str("<div>\n<div>\n")?;
    }
    writeln!(
        out,
        "<p><b>{}</b> of different texts have a cosine of at least {}; {} dropped for one of \
         them. Vectors of {} numbers are from <code>{}</code>.</p>",
        counted(semantic.n_pairs, "pair"),
        semantic.similarity,
        counted(semantic.drops, "record"),
        semantic.dim,
        Html(&semantic.embedder)
    )?;
    if has_nearest {
        let n: u64 = bins.iter().sum();
        writeln!(
            out,
            "<p>The drawing shows {} of a sample by the cosine of the nearest other record: what \
             another <code>--similarity</code> would take.</p>",
            counted(n, "record")
        )?;
    }
    if semantic.n_without_vector > 0 {
        let n = counted(semantic.n_without_vector, "record");
        writeln!(
            out,
            "<p>{n} have no vector, since the embedder sees too little in them: they are \
                       kept unless another text is equal.</p>"
        )?;
    }
    if semantic.n_cut > 0 {
        let n = counted(semantic.n_cut, "record");
        writeln!(
            out,
            "<p>Of {n} the embedder read the beginning only, since the model reads no longer \
             texts.</p>"
        )?;
    }
    let rows = bins.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| {
        let (from, to) = bin_edges(i, bins.len());
        (format!("{from:.2} to {to:.2}"), grouped(*n))
    });
    numbers(out, if has_nearest { "Records" } else { "Pairs" }, rows)?;
    out.write_str("</div>\n</div>\n")
}

fn lost(out: &mut String, semantic: &SemanticReport, border: &BorderReport) -> fmt::Result {
    writeln!(
        out,
        "<p>Compared by {} ({}).</p>",
        Html(&semantic.device),
        Html(&semantic.device_why)
    )?;
    for note in &semantic.device_notes {
        writeln!(out, "<p>{}.</p>", Html(note))?;
    }
    if semantic.n_cells <= 1 {
        return out.write_str(
            "<p>Every record was compared with every other: no near pair is lost.</p>\n",
        );
    }
    writeln!(
        out,
        "<p>Records lie in {}, each in the two nearest; records that share none are not compared.</p>",
        counted(semantic.n_cells, "cell")
    )?;
    let sampled = counted(border.n_sampled, "record");
    if border.n_pairs == 0 {
        return writeln!(
            out,
            "<p>{sampled} of a sample, compared with all, have no near pair: what the cells lose \
                              is not known.</p>"
        );
    }
    writeln!(
        out,
        "<p>{sampled} of a sample were compared with all others: of their {} the cells lost <b>{}</b> \
         ({}; 95 % interval {} to {}).</p>",
        counted(border.n_pairs, "near pair"),
        grouped(border.n_missed),
        percent(share(border.n_missed, border.n_pairs)),
        percent(border.low),
        percent(border.high)
    )
}
