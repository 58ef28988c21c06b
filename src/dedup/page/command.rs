//! The options of the job: single ones, and all as the command line that runs it again.

use serde_json::Value;

use crate::dedup::report::Report;

/// The value of an option as text; nothing if it is absent, off or has no one value.
pub fn option(report: &Report, key: &str) -> Option<String> {
    match report.options.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The similarity from which on two records are duplicates; exact jobs have none.
pub fn threshold(report: &Report) -> Option<f64> {
    let name = if is_semantic(report) { "similarity" } else { "threshold" };
    if is_exact(report) { None } else { option(report, name)?.parse().ok() }
}

/// Whether only equal texts were looked for.
pub fn is_exact(report: &Report) -> bool {
    option(report, "method").as_deref() == Some("exact")
}

/// Whether vectors were compared and nothing else.
pub fn is_semantic(report: &Report) -> bool {
    option(report, "method").as_deref() == Some("semantic")
}

/// Whether candidates were compared exactly.
pub fn is_verified(report: &Report) -> bool {
    report.options.get("verify") != Some(&Value::Bool(false))
}

/// `lines` or `paragraphs`, if the job removed those instead of records.
pub fn parts(report: &Report) -> Option<String> {
    option(report, "scope").filter(|scope| scope != "records")
}

/// The command that runs the job again, quoted for a POSIX shell. Inputs and the output folder are
/// place holders unless the options name them.
pub fn command_line(report: &Report) -> String {
    let options = report.options.as_object();
    let inputs = report.options.get("inputs").map_or_else(|| "INPUT...".into(), arguments);
    let mut words = vec!["nearkin dedup".to_owned(), inputs];
    if report.options.get("out").is_none() {
        words.push("--out DIR".into());
    }
    words.extend(options.into_iter().flatten().filter_map(|(key, value)| flag(key, value)));
    words.join(" ")
}

/// One option as it is typed; nothing if leaving it out says the same.
fn flag(key: &str, value: &Value) -> Option<String> {
    let name = key.replace('_', "-");
    match (key, value) {
        ("inputs" | "embedder", _) | ("verify", Value::Bool(true)) => None,
        ("verify", Value::Bool(false)) => Some("--no-verify".into()),
        ("memory_bytes", value) => Some(format!("--memory {value}")),
        ("scope", Value::String(scope)) => {
            (scope != "records").then(|| format!("--{}", quoted(scope)))
        }
        (_, Value::Null | Value::Bool(false)) => None,
        (_, Value::Array(all)) if all.is_empty() => None,
        (_, Value::Bool(true)) => Some(format!("--{name}")),
        (_, value) => Some(format!("--{name} {}", arguments(value))),
    }
}

fn arguments(value: &Value) -> String {
    match value {
        Value::Array(all) => all.iter().map(arguments).collect::<Vec<_>>().join(" "),
        Value::String(text) => quoted(text),
        other => quoted(&other.to_string()),
    }
}

fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./,:=+@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_command_line_repeats_the_options_and_quotes_them() {
        let options = json!({
            "inputs": ["a b.jsonl", "c"], "threshold": 0.8, "keep": "max:it's", "scope": "lines",
            "verify": true, "group_by": null, "annotate": true, "against": ["eval/x", "eval/y"]
        });
        let report = Report { options, ..Report::default() };
        let expected = concat!(
            r"nearkin dedup 'a b.jsonl' c --out DIR --threshold 0.8 --keep 'max:it'\''s' ",
            "--lines --annotate --against eval/x eval/y"
        );
        assert_eq!(command_line(&report), expected);
    }

    #[test]
    fn exact_jobs_have_no_threshold() {
        let options = json!({"method": "exact", "threshold": 0.8});
        assert_eq!(threshold(&Report { options, ..Report::default() }), None);
    }
}
