//! The curves of a calibration as one SVG: for each category hits, and errors with their interval, by threshold.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::cache::calibrate::{Choice, Curve, THRESHOLDS, threshold};
use crate::cache::interval::interval;
use crate::cli::cache::calibrate::{CalibrateArgs, Category, percent};
use crate::error::{Error, IoContext, Result};

const PANEL_WIDTH: f64 = 340.0;
const PANEL_HEIGHT: f64 = 200.0;
/// Of the drawing above the first row of panels.
const HEAD: f64 = 60.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 30.0;

/// Colours that read on white and on paper.
const STYLE: &str = "text{font:12px sans-serif;fill:#222}.title{font-weight:bold}.grid{stroke:#ddd}\
    .curve{fill:none;stroke:#1f5fa8;stroke-width:2}.band{fill:#1f5fa8;fill-opacity:.18}\
    .target{stroke:#b3261e;stroke-dasharray:5 3}.chosen{stroke:#222;stroke-dasharray:2 2}";

/// Writes the drawing.
///
/// # Errors
/// `exists` if the file is there and is not to be replaced; what writing gives.
pub fn write(
    path: &Path,
    head: &[String],
    categories: &[Category],
    args: &CalibrateArgs,
) -> Result<()> {
    if path.exists() && !args.overwrite {
        let message = format!("{} is there; --overwrite replaces it", path.display());
        return Err(Error::usage("exists", message));
    }
    fs::write(path, drawing(head, categories, args)).at("write", path)
}

fn drawing(head: &[String], categories: &[Category], args: &CalibrateArgs) -> String {
    let (width, height) = (2.0 * PANEL_WIDTH, HEAD + PANEL_HEIGHT * categories.len() as f64);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\"><style>{STYLE}</style>\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    );
    for (i, line) in head.iter().enumerate() {
        let _ = writeln!(out, "<text x=\"8\" y=\"{}\">{}</text>", 20 + 18 * i, escaped(line));
    }
    for (i, category) in categories.iter().enumerate() {
        let top = HEAD + PANEL_HEIGHT * i as f64;
        let n = category.curve.n.max(1);
        let hits = |i: usize| category.curve.counts[i].hits as f64 / n as f64;
        let left = Panel { left: 0.0, top, most: 1.0 };
        left.frame(&mut out, &format!("{}: answered, of {n}", category.name), category.choice);
        left.curve(&mut out, &hits);
        let right = Panel { left: PANEL_WIDTH, top, most: 3.0 * args.target_error };
        right.frame(&mut out, "answered wrongly, of all", category.choice);
        right.errors(&mut out, &category.curve, args);
    }
    out.push_str("</svg>\n");
    out
}

/// One chart; shares go up to `most`.
struct Panel {
    left: f64,
    top: f64,
    most: f64,
}

impl Panel {
    fn x(&self, at: f64) -> f64 {
        let (from, to) = (f64::from(threshold(0)), 1.0);
        self.left + LEFT + (PANEL_WIDTH - LEFT - RIGHT) * (at - from) / (to - from)
    }

    /// Of a share; what is higher than the chart lies at its edge.
    fn y(&self, share: f64) -> f64 {
        let height = PANEL_HEIGHT - TOP - BOTTOM;
        self.top + TOP + height * (1.0 - (share / self.most).min(1.0))
    }

    fn frame(&self, out: &mut String, title: &str, choice: Choice) {
        let (left, right, bottom) = (self.x(0.5), self.x(1.0), self.y(0.0));
        let _ = writeln!(
            out,
            "<text class=\"title\" x=\"{left:.1}\" y=\"{:.1}\">{}</text>",
            self.top + 18.0,
            escaped(title)
        );
        for quarter in 0..=2 {
            let share = self.most * f64::from(quarter) / 2.0;
            let (y, text) = (self.y(share), percent(share));
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                left - 4.0,
                y + 4.0
            );
        }
        for tenth in 5..=10 {
            let at = f64::from(tenth) / 10.0;
            let (x, y) = (self.x(at), bottom + 16.0);
            let _ =
                writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{at}</text>");
        }
        if let Choice::Threshold(i) = choice {
            let (x, top) = (self.x(f64::from(threshold(i))), self.y(self.most));
            let _ = writeln!(out, "<path class=\"chosen\" d=\"M{x:.1} {bottom:.1}V{top:.1}\"/>");
        }
    }

    fn points(&self, share: &dyn Fn(usize) -> f64) -> Vec<String> {
        let point =
            |i: usize| format!("{:.1},{:.1}", self.x(f64::from(threshold(i))), self.y(share(i)));
        (0..THRESHOLDS).map(point).collect()
    }

    fn curve(&self, out: &mut String, share: &dyn Fn(usize) -> f64) {
        let points = self.points(share).join(" ");
        let _ = writeln!(out, "<polyline class=\"curve\" points=\"{points}\"/>");
    }

    fn errors(&self, out: &mut String, curve: &Curve, args: &CalibrateArgs) {
        let ranges: Vec<(f64, f64)> = curve
            .counts
            .iter()
            .map(|count| interval(count.errors, curve.n, args.confidence))
            .collect();
        let mut band = self.points(&|i| ranges[i].0);
        band.extend(self.points(&|i| ranges[i].1).into_iter().rev());
        let _ = writeln!(out, "<polygon class=\"band\" points=\"{}\"/>", band.join(" "));
        self.curve(out, &|i| curve.counts[i].errors as f64 / curve.n.max(1) as f64);
        let (y, left, right) = (self.y(args.target_error), self.x(0.5), self.x(1.0));
        let _ = writeln!(out, "<path class=\"target\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
