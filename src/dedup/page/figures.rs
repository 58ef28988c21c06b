//! The two sections with drawings: how similar the candidate pairs are, and how many similar pairs
//! the bands find.

use std::fmt::{self, Write};

use super::charts::{self, bin_edges};
use super::command::{is_exact, is_verified, parts, threshold};
use super::html::{
    Html, close_section, counted, grouped, open_section, open_table, percent, share,
};
use crate::dedup::report::{BandsReport, Report};

/// Bins just below the threshold whose pairs are told: those to look at before it is lowered.
const N_NEAR_BINS: usize = 3;

/// Writes the section on the similarity of the candidate pairs.
pub fn similarity(out: &mut String, report: &Report) -> fmt::Result {
    open_section(out, "similarity", "How similar the candidate pairs are")?;
    let bins = &report.pairs.similarity_histogram;
    if bins.iter().all(|n| *n == 0) {
        writeln!(out, "<p>{}</p>", why_no_pairs(report))?;
        return close_section(out);
    }
    let threshold = threshold(report);
    out.write_str("<div class=\"figure\">\n<figure>\n")?;
    charts::histogram(out, bins, threshold)?;
    if threshold.is_some() {
        out.write_str(
            "<figcaption class=\"legend\"><span><i class=\"fill-dropped\"></i>at or above the \
             threshold</span> <span><i class=\"fill-below\"></i>below</span></figcaption>\n",
        )?;
    }
    out.write_str("</figure>\n<div>\n")?;
    pair_sentences(out, report, threshold)?;
    let rows = bins.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| {
        let (from, to) = bin_edges(i, bins.len());
        (format!("{from:.2} to {to:.2}"), grouped(*n))
    });
    numbers(out, "Pairs", rows)?;
    out.write_str("</div>\n</div>\n")?;
    close_section(out)
}

fn why_no_pairs(report: &Report) -> String {
    if let Some(parts) = parts(report) {
        let parts = Html(&parts).to_string();
        return format!(
            "No pairs of records were compared: <code>--{parts}</code> removes repeated {parts} \
             from the texts."
        );
    }
    if is_exact(report) {
        return "No pairs were compared: <code>--method exact</code> drops a record only if its \
                normalised text is equal to another."
            .into();
    }
    match report.pairs.candidates {
        0 => "No pairs were compared: no two different texts share a band.".into(),
        n => format!(
            "The exact similarity of the {} was not computed.",
            counted(n, "candidate pair")
        ),
    }
}

fn pair_sentences(out: &mut String, report: &Report, threshold: Option<f64>) -> fmt::Result {
    let pairs = &report.pairs;
    let (candidates, verified) = (counted(pairs.candidates, "pair"), grouped(pairs.verified));
    let part = percent(share(pairs.verified, pairs.candidates));
    let at = threshold.map(|t| format!(" of {t}")).unwrap_or_default();
    writeln!(
        out,
        "<p>{candidates} of different texts shared a band and became candidates. <b>{verified}</b> \
         ({part}) are at or above the threshold{at}.</p>"
    )?;
    if let Some((n, from, to)) = threshold.and_then(|t| near_misses(&pairs.similarity_histogram, t))
    {
        let pairs = counted(n, "pair");
        let verb = if n == 1 { "lies" } else { "lie" };
        writeln!(
            out,
            "<p>{pairs} {verb} just below it, from {from:.2} to {to:.2}: what a slightly lower \
             threshold would add.</p>"
        )?;
    }
    if pairs.giant_buckets > 0 {
        let buckets = counted(pairs.giant_buckets, "bucket");
        let capped = counted(pairs.capped_members, "member");
        writeln!(
            out,
            "<p>{buckets} held too many records to compare all pairs: their members were compared \
             with leaders only, and {capped} reached the cap on comparisons.</p>"
        )?;
    }
    Ok(())
}

/// Pairs in the last [`N_NEAR_BINS`] bins below the threshold, and the range of those bins.
fn near_misses(bins: &[u64], threshold: f64) -> Option<(u64, f64, f64)> {
    let n_below =
        (0..bins.len()).take_while(|i| charts::is_below(*i, bins.len(), threshold)).count();
    let first = n_below.saturating_sub(N_NEAR_BINS);
    let n: u64 = bins[first..n_below].iter().sum();
    (n > 0).then(|| (n, bin_edges(first, bins.len()).0, bin_edges(n_below, bins.len()).0))
}

/// Writes the section on the chance that a pair of duplicates is found.
pub fn recall(out: &mut String, report: &Report) -> fmt::Result {
    open_section(out, "recall", "How many of the similar pairs are found")?;
    match &report.bands {
        Some(bands) => curve_with_words(out, report, bands)?,
        None if is_exact(report) => out.write_str(
            "<p>All of them: equal texts are found by hash, so an exact job needs no bands.</p>\n",
        )?,
        None => out.write_str("<p>This job used no bands.</p>\n")?,
    }
    close_section(out)
}

fn curve_with_words(out: &mut String, report: &Report, bands: &BandsReport) -> fmt::Result {
    let threshold = threshold(report);
    let (n, rows) = (bands.n_bands, bands.rows_per_band);
    out.write_str("<div class=\"figure\">\n<figure>\n")?;
    charts::s_curve(out, bands, threshold)?;
    out.write_str("</figure>\n<div>\n")?;
    let at = threshold.map(|t| format!(" of {t}")).unwrap_or_default();
    let recall = percent(bands.recall_at_threshold);
    writeln!(
        out,
        "<p>A pair exactly at the threshold{at} is found with a chance of <b>{recall}</b>, and a \
         more similar pair with a higher one.</p>\n<p>Signatures are cut into {n} bands of {rows} \
         rows; two records become a candidate pair when they agree in all rows of a band. At \
         similarity <i>s</i> that has the chance \
         1 − (1 − <i>s</i><sup>{rows}</sup>)<sup>{n}</sup>.</p>"
    )?;
    writeln!(out, "<p>{}{}</p>", verdict(report), random_pairs(bands))?;
    writeln!(out, "<p>The same bands again: <code>--bands {n}x{rows}</code></p>")?;
    let rows =
        bands.s_curve.iter().step_by(10).map(|[s, chance]| (format!("{s:.1}"), percent(*chance)));
    numbers(out, "Chance", rows)?;
    out.write_str("</div>\n</div>\n")
}

fn verdict(report: &Report) -> &'static str {
    if is_verified(report) {
        "Each candidate pair was then compared exactly, so the part of the curve below the \
         threshold costs time and drops nothing."
    } else {
        "The candidate pairs were not compared exactly (<code>--no-verify</code>), so records \
         below the threshold may have been dropped."
    }
}

/// The price of the bands: the part of random pairs that they make candidates.
fn random_pairs(bands: &BandsReport) -> String {
    let (bins, curve) = (&bands.sampled_histogram, &bands.s_curve);
    let n_pairs: u64 = bins.iter().sum();
    if n_pairs == 0 || curve.is_empty() {
        return String::new();
    }
    let expected: f64 = bins
        .iter()
        .enumerate()
        .map(|(i, n)| {
            let (from, to) = bin_edges(i, bins.len());
            let at = f64::midpoint(from, to) * (curve.len() - 1) as f64;
            *n as f64 * curve[at.round() as usize][1]
        })
        .sum();
    let part = percent(expected / n_pairs as f64);
    format!(" Of {} sampled at random, {part} would become candidates.", counted(n_pairs, "pair"))
}

/// The numbers of a drawing as a table, for those who cannot see it or want to copy it.
pub fn numbers(
    out: &mut String,
    unit: &str,
    rows: impl Iterator<Item = (String, String)>,
) -> fmt::Result {
    out.write_str("<details><summary>The numbers</summary>\n")?;
    open_table(out, "small", &[("Similarity", ""), (unit, "n")])?;
    for (similarity, number) in rows {
        writeln!(out, "<tr><th scope=\"row\">{similarity}</th><td class=\"n\">{number}</td></tr>")?;
    }
    out.write_str("</tbody>\n</table>\n</details>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_end_at_the_threshold() {
        let mut bins = vec![0; 50];
        (bins[36], bins[37], bins[39], bins[40]) = (1, 10, 100, 1000);
        assert_eq!(near_misses(&bins, 0.8), Some((110, 0.74, 0.8)));
        assert_eq!(near_misses(&bins, 0.81), Some((110, 0.74, 0.8)));
        assert_eq!(near_misses(&bins, 0.0), None);
    }
}
