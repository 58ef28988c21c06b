//! The two drawings of the page, as inline SVG: candidate pairs by similarity, and the S-curve.
//!
//! Colours and letters come from `style.css`. Each drawing has a text label for those who cannot
//! see it; its numbers are also in a table beside it.

use std::fmt::{self, Write};

use super::html::{grouped, percent};
use crate::dedup::report::BandsReport;

const WIDTH: f64 = 680.0;
const HEIGHT: f64 = 322.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 662.0;
const TOP: f64 = 54.0;
const BOTTOM: f64 = 270.0;
/// The largest bar over the smallest one from which on bars are drawn on a logarithmic scale: a bar
/// of a fiftieth is four pixels high.
const LOG_FROM_RATIO: u64 = 50;
/// Similarities closer than this are the same edge of a bar.
const EDGE: f64 = 1e-9;

/// Draws candidate pairs by similarity, `bins` of equal width over [0, 1], with those at or above
/// `threshold` coloured.
pub fn histogram(out: &mut String, bins: &[u64], threshold: Option<f64>) -> fmt::Result {
    let what = ["candidate pairs by exact similarity", "pairs", "similarity of the pair"];
    bars(out, bins, threshold, what)
}

/// Draws records by the similarity of the nearest other one, likewise.
pub fn nearest(out: &mut String, bins: &[u64], threshold: Option<f64>) -> fmt::Result {
    let what =
        ["records by the cosine of the nearest other", "records", "cosine of the nearest record"];
    bars(out, bins, threshold, what)
}

fn bars(
    out: &mut String,
    bins: &[u64],
    threshold: Option<f64>,
    [title, unit, axis]: [&str; 3],
) -> fmt::Result {
    let scale = Scale::of(bins);
    let at = threshold.map(|t| format!(", threshold at {t}")).unwrap_or_default();
    open(out, &format!("Bar chart of {title} from 0 to 1{at}"))?;
    let unit =
        if matches!(scale, Scale::Log(_)) { format!("{unit} (log scale)") } else { unit.into() };
    writeln!(out, r#"<text x="0" y="16">{unit}</text>"#)?;
    for (n, minor) in scale.ticks() {
        y_tick(out, scale.height(n), &short(n), minor)?;
    }
    for (i, &n) in bins.iter().enumerate().filter(|(_, n)| **n > 0) {
        let (from, to) = bin_edges(i, bins.len());
        bar(
            out,
            (from, to),
            threshold,
            scale.height(n),
            &format!("{from:.2} to {to:.2}: {}", grouped(n)),
        )?;
    }
    x_axis(out, axis)?;
    if let Some(t) = threshold {
        threshold_line(out, t, &format!("threshold {t}"))?;
    }
    out.write_str("</svg>\n")
}

/// Draws the chance that a pair becomes a candidate by its similarity, with the threshold's marked.
pub fn s_curve(out: &mut String, bands: &BandsReport, threshold: Option<f64>) -> fmt::Result {
    let recall = percent(bands.recall_at_threshold);
    open(
        out,
        &format!(
            "S-curve of {} bands of {} rows: the chance that a pair becomes a candidate, \
             by similarity; {recall} at the threshold",
            bands.n_bands, bands.rows_per_band
        ),
    )?;
    writeln!(out, r#"<text x="0" y="16">chance to become a candidate</text>"#)?;
    for quarter in 0..=4u8 {
        let share = f64::from(quarter) / 4.0;
        y_tick(out, share, &format!("{} %", u32::from(quarter) * 25), quarter % 2 == 1)?;
    }
    let points = bands.s_curve.iter().fold(String::new(), |mut line, [s, chance]| {
        let separator = if line.is_empty() { "" } else { " " };
        line += &format!("{separator}{:.1},{:.1}", x(*s), y(*chance));
        line
    });
    writeln!(
        out,
        r#"<polygon class="under" points="{:.1},{BOTTOM} {points} {:.1},{BOTTOM}"/>"#,
        x(0.0),
        x(1.0)
    )?;
    x_axis(out, "similarity of the pair")?;
    writeln!(out, r#"<polyline class="curve" points="{points}"/>"#)?;
    if let Some(t) = threshold {
        threshold_line(out, t, &format!("threshold {t}, recall {recall}"))?;
        let (cx, cy) = (x(t), y(bands.recall_at_threshold));
        writeln!(out, r#"<circle class="point" cx="{cx:.1}" cy="{cy:.1}" r="6"/>"#)?;
    }
    out.write_str("</svg>\n")
}

/// Lower and upper edge of bin `i` of `n_bins` over [0, 1].
pub fn bin_edges(i: usize, n_bins: usize) -> (f64, f64) {
    (i as f64 / n_bins as f64, (i + 1) as f64 / n_bins as f64)
}

/// Whether bin `i` of `n_bins` lies below `threshold` as a whole.
pub fn is_below(i: usize, n_bins: usize, threshold: f64) -> bool {
    bin_edges(i, n_bins).1 <= threshold + EDGE
}

/// How many pairs are how high.
#[derive(Clone, Copy)]
enum Scale {
    /// Up to the given number of pairs.
    Linear(u64),
    /// The same, by the logarithm of one more than the number, so that one pair can be seen.
    Log(u64),
}

impl Scale {
    fn of(bins: &[u64]) -> Self {
        let max = bins.iter().copied().max().unwrap_or(0).max(1);
        let min = bins.iter().copied().filter(|n| *n > 0).min().unwrap_or(1);
        if max / min >= LOG_FROM_RATIO { Self::Log(max) } else { Self::Linear(max) }
    }

    /// Height of a bar as a share of the drawing's.
    fn height(self, n: u64) -> f64 {
        match self {
            Self::Linear(max) => n as f64 / max as f64,
            Self::Log(max) => (n as f64).ln_1p() / (max as f64).ln_1p(),
        }
    }

    /// Numbers to write at the axis, and whether a small screen can do without.
    fn ticks(self) -> Vec<(u64, bool)> {
        match self {
            Self::Linear(max) => {
                let step = round_step(max.div_ceil(5));
                (0..=max / step).map(|i| (i * step, i % 2 == 1)).collect()
            }
            Self::Log(max) => {
                let powers = (0..=max.ilog10()).map(|p| (10u64.pow(p), p % 2 == 1));
                std::iter::once((0, true)).chain(powers).collect()
            }
        }
    }
}

/// The smallest of 1, 2, 5, 10, 20, 50, ... that is at least `n`.
fn round_step(n: u64) -> u64 {
    let power = 10u64.pow(n.max(1).ilog10());
    [1, 2, 5].into_iter().map(|m| m * power).find(|step| *step >= n).unwrap_or(10 * power)
}

/// A count in at most four letters, for an axis.
fn short(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{}k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{}M", n as f64 / 1e6),
        _ => format!("{}G", n as f64 / 1e9),
    }
}

fn x(similarity: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * similarity.clamp(0.0, 1.0)
}

fn y(share: f64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * share.clamp(0.0, 1.0)
}

fn open(out: &mut String, label: &str) -> fmt::Result {
    writeln!(out, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">"#)
}

fn y_tick(out: &mut String, share: f64, label: &str, minor: bool) -> fmt::Result {
    let (at, class) = (y(share), if minor { r#" class="minor""# } else { "" });
    writeln!(out, r#"<path class="grid" d="M{LEFT} {at:.1}H{RIGHT}"/>"#)?;
    let (text_x, text_y) = (LEFT - 8.0, at + 5.0);
    writeln!(out, r#"<text{class} x="{text_x}" y="{text_y:.1}" text-anchor="end">{label}</text>"#)
}

fn x_axis(out: &mut String, title: &str) -> fmt::Result {
    writeln!(out, r#"<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>"#)?;
    for tenth in 0..=10u8 {
        let (at, class) =
            (x(f64::from(tenth) / 10.0), if tenth % 2 == 1 { r#" class="minor""# } else { "" });
        let label = f64::from(tenth) / 10.0;
        writeln!(
            out,
            r#"<text{class} x="{at:.1}" y="{}" text-anchor="middle">{label}</text>"#,
            BOTTOM + 21.0
        )?;
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    writeln!(out, r#"<text x="{middle}" y="{}" text-anchor="middle">{title}</text>"#, HEIGHT - 6.0)
}

/// A bar; the one that holds the threshold has two parts.
fn bar(
    out: &mut String,
    (from, to): (f64, f64),
    threshold: Option<f64>,
    height: f64,
    label: &str,
) -> fmt::Result {
    let cut = threshold.unwrap_or(1.0 + EDGE).clamp(from, to);
    // A bar is never lower than a pixel and a half: one pair is there, and can be seen.
    let top = y(height).min(BOTTOM - 1.5);
    for (class, left, right) in [("below", x(from) + 0.5, x(cut)), ("above", x(cut), x(to) - 0.5)] {
        let left = left.max(x(from) + 0.5);
        let width = right.min(x(to) - 0.5) - left;
        if width > 0.1 {
            let height = BOTTOM - top;
            write!(out, r#"<rect class="{class}" x="{left:.1}" y="{top:.1}""#)?;
            writeln!(
                out,
                r#" width="{width:.1}" height="{height:.1}"><title>{label}</title></rect>"#
            )?;
        }
    }
    Ok(())
}

fn threshold_line(out: &mut String, threshold: f64, label: &str) -> fmt::Result {
    let at = x(threshold);
    let anchor = if threshold >= 0.5 { "end" } else { "start" };
    let text_x = if threshold >= 0.5 { at + 2.0 } else { at - 2.0 };
    writeln!(out, r#"<path class="cut" d="M{at:.1} {}V{BOTTOM}"/>"#, TOP - 8.0)?;
    writeln!(
        out,
        r#"<text class="cut-label" x="{text_x:.1}" y="{}" text-anchor="{anchor}">{label}</text>"#,
        TOP - 14.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_that_holds_the_threshold_has_two_parts() {
        let mut bins = vec![0; 50];
        bins[42] = 7;
        let mut out = String::new();
        histogram(&mut out, &bins, Some(0.85)).unwrap();
        assert_eq!(out.matches("<rect").count(), 2);
        out.clear();
        histogram(&mut out, &bins, Some(0.84)).unwrap();
        assert_eq!(out.matches("<rect class=\"above\"").count(), 1);
        assert_eq!(out.matches("<rect").count(), 1);
    }

    #[test]
    fn one_pair_beside_a_million_is_still_drawn() {
        let scale = Scale::of(&[1, 0, 1_000_000]);
        assert!(matches!(scale, Scale::Log(1_000_000)));
        assert!(scale.height(1) > 0.04);
        assert_eq!(scale.ticks().len(), 8);
    }

    #[test]
    fn axis_steps_are_round() {
        assert_eq!([1, 3, 6, 11, 40].map(round_step), [1, 5, 10, 20, 50]);
        assert_eq!([999, 2_500, 10_000_000].map(short), ["999", "2.5k", "10M"]);
    }
}
