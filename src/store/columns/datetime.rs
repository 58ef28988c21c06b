//! Moments in time, as text says them: microseconds since 1970 in UTC.
//!
//! Read are RFC 3339 and the shorter forms that Qdrant takes: a space for the `T`, a date alone, a time without seconds
//! or without an offset (then UTC), an offset of hours only or after a space. Digits past the microsecond are cut off.
//! Leap seconds and years outside 1-9999 are no moments.

const DAY_US: i64 = 86_400_000_000;

/// The moment that `text` says, or `None` if it says none.
pub fn parse(text: &str) -> Option<i64> {
    let mut rest = text.trim_start();
    let year = digits(&mut rest, 4, 4)?;
    let month = after(&mut rest, '-').then(|| digits(&mut rest, 1, 2))??;
    let day = after(&mut rest, '-').then(|| digits(&mut rest, 1, 2))??;
    let days = days_since_1970(year, month, day)?;
    let time = if rest.is_empty() { 0 } else { time_and_offset(rest)? };
    Some(days * DAY_US + time)
}

/// Microseconds after midnight, UTC.
fn time_and_offset(mut rest: &str) -> Option<i64> {
    if !after(&mut rest, 'T') && !after(&mut rest, 't') && !after(&mut rest, ' ') {
        return None;
    }
    let hour = digits(&mut rest, 1, 2).filter(|&hour| hour < 24)?;
    let minute = after(&mut rest, ':').then(|| digits(&mut rest, 1, 2))??;
    let minute = Some(minute).filter(|&minute| minute < 60)?;
    let mut us = (hour * 60 + minute) * 60_000_000;
    if rest.is_empty() {
        return Some(us);
    }
    let second = after(&mut rest, ':').then(|| digits(&mut rest, 1, 2))??;
    us += Some(second).filter(|&second| second < 60)? * 1_000_000;
    if after(&mut rest, '.') {
        let n = rest.bytes().take_while(u8::is_ascii_digit).count();
        let six: String = rest[..n].chars().chain("000000".chars()).take(6).collect();
        us += (n > 0).then(|| six.parse::<i64>().ok())??;
        rest = &rest[n..];
    }
    Some(us - offset(rest)?)
}

fn offset(mut rest: &str) -> Option<i64> {
    if matches!(rest, "" | "Z" | "z" | " UTC") {
        return Some(0);
    }
    after(&mut rest, ' ');
    let sign = if after(&mut rest, '+') {
        1
    } else if after(&mut rest, '-') {
        -1
    } else {
        return None;
    };
    let hours = digits(&mut rest, 2, 2).filter(|&hours| hours < 24)?;
    let minutes = if rest.is_empty() {
        0
    } else {
        after(&mut rest, ':');
        digits(&mut rest, 2, 2).filter(|&minutes| minutes < 60)?
    };
    rest.is_empty().then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

fn after(rest: &mut &str, expected: char) -> bool {
    let stripped = rest.strip_prefix(expected);
    *rest = stripped.unwrap_or(rest);
    stripped.is_some()
}

fn digits(rest: &mut &str, least: usize, most: usize) -> Option<i64> {
    let n = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let number = (n >= least).then(|| rest[..n].parse().ok())?;
    *rest = &rest[n..];
    number
}

/// Days from 1970-01-01 in the Gregorian calendar, counted from the first of March of year 0.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let n_days = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if year < 1 || day < 1 || day > n_days {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_year = year * 365 + year / 4 - year / 100 + year / 400;
    let before_month = (month * 153 + 2) / 5;
    Some(before_year + before_month + day - 1 - 719_468)
}

/// The moment as RFC 3339 in UTC, which [`parse`] reads back.
pub fn print(us: i64) -> String {
    let (days, us) = (us.div_euclid(DAY_US), us.rem_euclid(DAY_US));
    // Counted from the first of March of year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, in_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * of_era + of_era / 4 - of_era / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + of_era + i64::from(month <= 2);
    let (s, us) = (us / 1_000_000, us % 1_000_000);
    let (hour, minute, second) = (s / 3600, s / 60 % 60, s % 60);
    let fraction = if us == 0 { String::new() } else { format!(".{us:06}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    #[test]
    fn every_accepted_form_says_the_same_moment() {
        // 2000-02-29 is day 11,016; 12:30 UTC.
        let noon = 11_016 * DAY_US + 45_000_000_000;
        for text in [
            "2000-02-29T12:30:00Z",
            "2000-02-29t12:30:00z",
            "2000-02-29 12:30:00",
            "2000-02-29T12:30",
            "2000-02-29 12:30",
            "2000-2-29 12:30",
            "2000-02-29T12:30:00.000000999",
            "2000-02-29T13:30:00+01:00",
            "2000-02-29T13:30:00+0100",
            "2000-02-29T13:30:00.0+01",
            "2000-02-29 02:00:00 -10:30",
            "  2000-02-29 12:30:00 UTC",
            "2000-03-01T00:00:00+11:30",
        ] {
            assert_eq!(parse(text), Some(noon), "{text}");
        }
        assert_eq!(parse("1969-12-31T23:59:59.999999Z"), Some(-1));
        assert_eq!(parse("1970-01-02"), Some(DAY_US));
        assert_eq!(parse("0001-01-01"), Some(-719_162 * DAY_US));
    }

    #[test]
    fn what_says_no_moment_is_none() {
        for text in [
            "",
            "2000",
            "2000-02",
            "1900-02-29",
            "2000-02-30",
            "2000-13-01",
            "0000-01-01",
            "20000-01-01",
            "2000-02-29T",
            "2000-02-29T12",
            "2000-02-29T24:00:00Z",
            "2000-02-29T12:60",
            "2000-02-29T12:30Z",
            "2000-02-29T12:30:60Z",
            "2000-02-29T12:30:00.Z",
            "2000-02-29T12:30:00+1",
            "2000-02-29T12:30:00+24",
            "2000-02-29T12:30:00+01:00x",
            "2000-02-29Z",
            "2000-02-29T12:30:00  Z",
            "+2000-02-29",
            "2000-٠2-29",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let span = 9998 * 365 * DAY_US;
        for n in 0..2000 {
            let us = -719_162 * DAY_US + (stream(5, n) % span as u64) as i64;
            let us = if n % 2 == 0 { us } else { us - us.rem_euclid(1_000_000) };
            assert_eq!(parse(&print(us)), Some(us), "{}", print(us));
        }
        assert_eq!(print(-1), "1969-12-31T23:59:59.999999Z");
    }
}
