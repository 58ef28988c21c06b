//! Text and numbers as the page writes them.

use std::fmt::{self, Display, Formatter, Write};

/// Rows shown of a list as long as the input; `report.json` has them all.
pub const MAX_ROWS: usize = 50;

/// Text of others, written such that it stays text: in an element and in a quoted attribute.
pub struct Html<'a>(pub &'a str);

impl Display for Html<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                // HTML cannot hold control characters, not even as references.
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Opens a section that [`close_section`] closes.
pub fn open_section(out: &mut String, id: &str, title: &str) -> fmt::Result {
    writeln!(
        out,
        "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{title}</h2>"
    )
}

/// Closes a section.
pub fn close_section(out: &mut String) -> fmt::Result {
    out.write_str("</section>\n")
}

/// Writes the sentence on the rows past [`MAX_ROWS`], if there are any; `which` says what is shown.
pub fn more(out: &mut String, n_rows: usize, which: &str) -> fmt::Result {
    if n_rows <= MAX_ROWS {
        return Ok(());
    }
    let n_more = grouped((n_rows - MAX_ROWS) as u64);
    writeln!(
        out,
        "<p class=\"soft\">Shown: {which} {MAX_ROWS}. There are {n_more} more; \
         <code>report.json</code> has all.</p>"
    )
}

/// Opens a table up to its first body row. Columns are name and class; one without a name is for
/// bars, which say nothing new.
pub fn open_table(out: &mut String, class: &str, columns: &[(&str, &str)]) -> fmt::Result {
    write!(out, "<table class=\"{class}\">\n<thead><tr>")?;
    for (name, class) in columns {
        if name.is_empty() {
            write!(out, "<td class=\"{class}\"></td>")?;
        } else {
            write!(out, "<th scope=\"col\" class=\"{class}\">{name}</th>")?;
        }
    }
    out.write_str("</tr></thead>\n<tbody>\n")
}

/// A table cell with a bar of `part` (0 to 1) of its width, in the colour of `name`.
pub fn bar_cell(out: &mut String, name: &str, part: f64) -> fmt::Result {
    let none = if part > 0.0 { "" } else { " none" };
    let width = part.clamp(0.0, 1.0) * 100.0;
    let class = format!("bar{none} fill-{name}");
    write!(out, r#"<td class="bars"><span class="{class}" style="width:{width:.1}%"></span></td>"#)
}

/// `12,710`
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 record`, `12,710 records`
pub fn counted(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(n))
}

/// `n` of `all`; nothing of nothing is 0.
pub fn share(n: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { n as f64 / all as f64 }
}

/// `16.8 %`. Only nothing is 0 %, only all is 100 %: near both ends there are more digits.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value <= 0.0 || value == 100.0 {
        format!("{value:.0} %")
    } else if value < 0.001 {
        "under 0.001 %".into()
    } else if value < 0.1 {
        format!("{value:.3} %")
    } else if value > 99.9 && value < 100.0 {
        format!("{:.2} %", value.min(99.99))
    } else {
        format!("{value:.1} %")
    }
}

/// A similarity with three digits; only 1 is `1.000`.
pub fn similarity(value: f64) -> String {
    if value < 1.0 { format!("{:.3}", value.min(0.999)) } else { format!("{value:.3}") }
}

/// Decimal bytes, as files and MB/s are told: `1.23 GB`.
pub fn bytes(n: u64) -> String {
    scaled(n, 1000.0, ["bytes", "kB", "MB", "GB", "TB"])
}

/// Binary bytes, as memory is told and as `--memory` takes it: `1.2 GiB`.
pub fn binary_bytes(n: u64) -> String {
    scaled(n, 1024.0, ["bytes", "KiB", "MiB", "GiB", "TiB"])
}

fn scaled(n: u64, step: f64, units: [&str; 5]) -> String {
    let (mut value, mut unit) = (n as f64, 0);
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let n_digits = if unit == 0 || value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.n_digits$} {}", units[unit])
}

/// `0.042 s`, `4.2 s`, `3 min 05 s`, `2 h 07 min`
pub fn seconds(value: f64) -> String {
    let whole = value.round() as u64;
    match whole {
        _ if value < 1.0 => format!("{value:.3} s"),
        0..60 => format!("{value:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// `123 MB/s`, if there is something to divide.
pub fn rate(n_bytes: u64, seconds: f64) -> Option<String> {
    let mb = n_bytes as f64 / 1e6 / seconds;
    let n_digits = if mb >= 10.0 { 0 } else { 2 };
    (n_bytes > 0 && seconds > 0.0).then(|| format!("{mb:.n_digits$} MB/s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            [0, 999, 1_000, 12_710, 1_234_567].map(grouped),
            ["0", "999", "1,000", "12,710", "1,234,567"]
        );
        assert_eq!(
            [0.0, 0.0003, 0.168, 0.9996, 1.0].map(percent),
            ["0 %", "0.030 %", "16.8 %", "99.96 %", "100 %"]
        );
        assert_eq!([0.8, 0.99996, 1.0].map(similarity), ["0.800", "0.999", "1.000"]);
        assert_eq!([17, 1_500, 23_400_000].map(bytes), ["17 bytes", "1.50 kB", "23.4 MB"]);
        assert_eq!(
            [0.0421, 4.2, 185.0, 7_620.0].map(seconds),
            ["0.042 s", "4.2 s", "3 min 05 s", "2 h 07 min"]
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_page() {
        assert_eq!(Html("a\0\u{1b}b\n").to_string(), "a\u{fffd}\u{fffd}b\n");
    }
}
