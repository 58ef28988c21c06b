//! Arrivals of requests, from traces as they are published.

use std::path::Path;

use serde_json::Value;

use crate::cli::lines::{at, each};
use crate::error::{Error, ErrorKind, Result};

/// A request of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// Milliseconds since the first one.
    pub at_ms: f64,
    /// Tokens of the prompt, and of the answer: 0 if it failed.
    pub tokens: [u32; 2],
    /// What the answer took, where the trace says it.
    pub took_ms: Option<f64>,
}

/// How the columns of a format are named, in the order of [`Arrival`], and what a unit of time is.
struct Format {
    time: &'static str,
    tokens: [&'static str; 2],
    took_s: Option<&'static str>,
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Date,
}

const BURSTGPT: Format = Format {
    time: "Timestamp",
    tokens: ["Request tokens", "Response tokens"],
    took_s: Some("Elapsed time"),
    unit: Unit::Seconds,
};

const AZURE: Format = Format {
    time: "TIMESTAMP",
    tokens: ["ContextTokens", "GeneratedTokens"],
    took_s: None,
    unit: Unit::Date,
};

/// Reads a trace: BurstGPT's or Azure's CSV, known by the names in its first line, or Mooncake's lines of JSON. Arrivals come
/// in the order of their times, the first at 0.
///
/// # Errors
/// `trace_format` for other columns; `trace_row` with file, line and field; what reading gives.
pub fn read(path: &Path) -> Result<Vec<Arrival>> {
    let name = path.display().to_string();
    let mut arrivals = Vec::new();
    let mut columns: Option<Columns> = None;
    each(path, &mut |number, line| {
        let place = Place { file: &name, number };
        let arrival = match &columns {
            _ if line.starts_with('{') => mooncake(line, &place)?,
            Some(columns) => columns.arrival(line, &place)?,
            None if number == 1 => {
                columns = Some(Columns::of(line, &place)?);
                return Ok(());
            }
            None => return Err(place.wrong("expected a line of JSON, as those before it")),
        };
        arrivals.push(arrival);
        Ok(())
    })?;
    arrivals.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
    let Some(first) = arrivals.first().map(|first| first.at_ms) else {
        let message = format!("{name}: no requests");
        return Err(Error::new(ErrorKind::BadInput, "trace_format", message));
    };
    arrivals.iter_mut().for_each(|arrival| arrival.at_ms -= first);
    Ok(arrivals)
}

/// A line, for messages.
struct Place<'a> {
    file: &'a str,
    number: usize,
}

impl Place<'_> {
    fn wrong(&self, what: &str) -> Error {
        Error::new(ErrorKind::BadInput, "trace_row", at(self.file, self.number, what))
    }

    fn number(&self, field: &str, received: &str) -> Result<f64> {
        let number = received.trim().parse().ok().filter(|x: &f64| x.is_finite() && *x >= 0.0);
        number.ok_or_else(|| {
            self.wrong(&format!(
                "field {field:?}: expected a number of 0 or more, received {received:?}"
            ))
        })
    }

    fn tokens(&self, field: &str, received: &str) -> Result<u32> {
        let tokens = self.number(field, received)?;
        match tokens <= f64::from(u32::MAX) {
            true => Ok(tokens as u32),
            false => Err(self.wrong(&format!("field {field:?}: {received} tokens"))),
        }
    }
}

/// Where the columns of a format are.
struct Columns {
    format: &'static Format,
    n: usize,
    time: usize,
    tokens: [usize; 2],
    took_s: Option<usize>,
}

impl Columns {
    fn of(line: &str, place: &Place<'_>) -> Result<Self> {
        let names: Vec<&str> = line.split(',').map(|name| name.trim().trim_matches('"')).collect();
        let find = |name: &str| names.iter().position(|other| *other == name);
        for format in [&BURSTGPT, &AZURE] {
            let found = (find(format.time), find(format.tokens[0]), find(format.tokens[1]));
            if let (Some(time), Some(prompt), Some(answer)) = found {
                let (n, tokens) = (names.len(), [prompt, answer]);
                return Ok(Self { format, n, time, tokens, took_s: format.took_s.and_then(find) });
            }
        }
        let expected = "expected the columns Timestamp, Request tokens, Response tokens (BurstGPT) or TIMESTAMP, \
            ContextTokens, GeneratedTokens (Azure), or lines of JSON (Mooncake)";
        let message = at(place.file, place.number, &format!("{expected}, received {line:?}"));
        Err(Error::new(ErrorKind::BadInput, "trace_format", message))
    }

    fn arrival(&self, line: &str, place: &Place<'_>) -> Result<Arrival> {
        let fields: Vec<&str> =
            line.split(',').map(|field| field.trim().trim_matches('"')).collect();
        if fields.len() != self.n {
            let what = format!("{} fields, expected {}", fields.len(), self.n);
            return Err(place.wrong(&what));
        }
        let Format { time, tokens, took_s, unit } = self.format;
        let at_ms = match unit {
            Unit::Seconds => place.number(time, fields[self.time])? * 1000.0,
            Unit::Date => date_ms(fields[self.time]).ok_or_else(|| {
                let expected = "a time such as 2023-11-16 18:17:03.9799600";
                place.wrong(&format!(
                    "field {time:?}: expected {expected}, received {:?}",
                    fields[self.time]
                ))
            })?,
        };
        let took = self.took_s.map(|i| fields[i]).filter(|field| !field.is_empty());
        let took_s =
            took.map(|field| place.number(took_s.unwrap_or_default(), field)).transpose()?;
        let [prompt, answer] = self.tokens;
        Ok(Arrival {
            at_ms,
            tokens: [
                place.tokens(tokens[0], fields[prompt])?,
                place.tokens(tokens[1], fields[answer])?,
            ],
            took_ms: took_s.map(|s| s * 1000.0),
        })
    }
}

/// A line of Mooncake's traces; its times are milliseconds.
fn mooncake(line: &str, place: &Place<'_>) -> Result<Arrival> {
    let value: Value = serde_json::from_str(line)
        .map_err(|error| place.wrong(&format!("expected a JSON object: {error}")))?;
    let field = |name: &str| value.get(name).map_or("nothing".into(), Value::to_string);
    let tokens = |name: &str| place.tokens(name, &field(name));
    Ok(Arrival {
        at_ms: place.number("timestamp", &field("timestamp"))?,
        tokens: [tokens("input_length")?, tokens("output_length")?],
        took_ms: None,
    })
}

/// Milliseconds since 1970 of `YYYY-MM-DD hh:mm:ss.fraction`.
fn date_ms(text: &str) -> Option<f64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let mut parts = time.splitn(3, ':');
    let whole = |part: Option<&str>, most: u32| part?.parse::<u32>().ok().filter(|x| *x <= most);
    let (hours, minutes) = (whole(parts.next(), 23)?, whole(parts.next(), 59)?);
    let seconds: f64 = parts.next()?.trim_end_matches('Z').parse().ok()?;
    if !(0.0..61.0).contains(&seconds) {
        return None;
    }
    // Years from March on, so that the day that a leap year has more is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469;
    Some((days * 86_400_000) as f64 + f64::from(hours * 60 + minutes) * 60_000.0 + seconds * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Arrival>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn three_formats_are_known_by_their_names_and_put_in_order() {
        let arrival = |at_ms, tokens, took_ms| Arrival { at_ms, tokens, took_ms };
        let burst = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
                     45.5,,2.5,ChatGPT,472,18,490,API log\n40,a,,GPT-4,1087,0,1087,Conversation log\n";
        let expected = [arrival(0.0, [1087, 0], None), arrival(5500.0, [472, 18], Some(2500.0))];
        assert_eq!(of(burst).unwrap(), expected);
        let old = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,API log\n";
        assert_eq!(of(old).unwrap(), [arrival(0.0, [472, 18], None)]);
        let azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.5000000,374,44\n\
                     2023-11-17 00:00:01.2500000,396,109\n";
        let found = of(azure).unwrap();
        assert_eq!((found[1].at_ms, found[1].tokens), (1750.0, [396, 109]));
        let mooncake = "{\"timestamp\": 0, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0]}\n";
        assert_eq!(of(mooncake).unwrap(), [arrival(0.0, [6758, 500], None)]);
    }

    #[test]
    fn dates_are_days_since_1970() {
        assert_eq!(date_ms("1970-01-01 00:00:00"), Some(0.0));
        assert_eq!(date_ms("2000-03-01T00:00:00Z"), Some(951_868_800_000.0));
        assert_eq!(date_ms("2024-02-29 12:00:00.5"), Some(1_709_208_000_500.0));
        for text in ["", "2024-13-01 00:00:00", "2024-01-01", "2024-01-01 24:00:00", "x-1-1 0:0:0"]
        {
            assert_eq!(date_ms(text), None, "{text}");
        }
    }

    #[test]
    fn a_bad_trace_is_refused_with_line_and_field() {
        for (text, code, what) in [
            ("", "trace_format", "no requests"),
            ("a,b\n1,2\n", "trace_format", "received \"a,b\""),
            (
                "TIMESTAMP,ContextTokens,GeneratedTokens\n5,1,1\n",
                "trace_row",
                "line 2: field \"TIMESTAMP\"",
            ),
            (
                "Timestamp,Request tokens,Response tokens\n1,-2,3\n",
                "trace_row",
                "field \"Request tokens\"",
            ),
            (
                "Timestamp,Request tokens,Response tokens\n1,2\n",
                "trace_row",
                "line 2: 2 fields, expected 3",
            ),
            ("{\"timestamp\": 1}\n", "trace_row", "field \"input_length\""),
        ] {
            let error = of(text).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
