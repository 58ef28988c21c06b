//! Thresholds are found, and traces are replayed, from the command line.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nearkin::cache::Policies;
use nearkin::core::mix::stream;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Run;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, lines: impl IntoIterator<Item = Value>) {
        let text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.at(name), text).unwrap();
    }

    fn run(&self, args: &str) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearkin"));
        command.arg("cache").args(args.split_whitespace()).current_dir(self.0.path());
        command.output().expect("the program starts").into()
    }

    fn runs(&self, args: &str) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args}: {}", run.stderr);
        run.stdout
    }
}

/// A prompt of an intent, which five of its seven words name.
fn prompt(intent: u64, draw: u64) -> String {
    let named = (0..5).map(|i| word(stream(intent, i)));
    let drawn = (0..2).map(|i| word(stream(draw, 90 + i)));
    named.chain(drawn).collect::<Vec<_>>().join(" ")
}

/// A number as a word, which the guard takes for nothing that it knows.
fn word(number: u64) -> String {
    let letter = |i: u32| char::from(b'a' + (number / 26u64.pow(i) % 26) as u8);
    format!("{}{}q{}{}", letter(0), letter(1), letter(2), letter(3))
}

/// Pairs: those of category `safe` are right whenever they are near, those of `risky` not always.
fn pairs(n: u64) -> Vec<Value> {
    let pair = |i: u64| {
        let is_same = stream(1, i).is_multiple_of(2);
        let category = ["safe", "risky"][(i % 2) as usize];
        let other = if is_same || category == "risky" && i % 20 == 1 { i } else { i + 1 };
        json!({"a": prompt(i, i), "b": prompt(other, i + 5000), "same": is_same, "category": category})
    };
    let few = (0..9).map(|_| json!({"a": "x", "b": "y", "same": true, "category": "few 0"}));
    (0..n).map(pair).chain(few).collect()
}

#[test]
fn thresholds_are_fitted_by_category_and_the_policy_reads_them() {
    let place = Place::new();
    place.write("pairs.jsonl", pairs(2000));
    let told = place
        .runs("calibrate --pairs pairs.jsonl --embed hashed --out policy.toml --plot curves.svg");
    let row = |name: &str| told.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("few 0").contains("strict  at least 299 requests are needed"), "{told}");
    let text = fs::read_to_string(place.at("policy.toml")).unwrap();
    let policies = Policies::from_toml(&text, "policy.toml").unwrap();
    let of = |category: &str| policies.of(category).threshold;
    assert!(of("safe") < of("risky"), "{told}\n{text}");
    assert_eq!(of("few 0"), Policies::default().default.threshold);
    assert!(text.contains("# category \"few 0\" stays strict: 9 requests, at least 299"), "{text}");
    let drawing = fs::read_to_string(place.at("curves.svg")).unwrap();
    assert_eq!(drawing.matches("<polyline").count(), 6, "two curves for each of three categories");
    let again = place.run("calibrate --pairs pairs.jsonl --embed hashed --out policy.toml");
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("exists: policy.toml is there"), "{}", again.stderr);
}

#[test]
fn a_stricter_target_never_gives_a_laxer_threshold_and_bad_rows_name_line_and_field() {
    let place = Place::new();
    place.write("pairs.jsonl", pairs(2000));
    let threshold = |target: &str| {
        place.runs(&format!(
            "calibrate --pairs pairs.jsonl --embed hashed --target-error {target} --out p.toml --overwrite"
        ));
        let text = fs::read_to_string(place.at("p.toml")).unwrap();
        Policies::from_toml(&text, "p.toml").unwrap().of("risky").threshold
    };
    assert!(threshold("0.1") <= threshold("0.03") && threshold("0.03") <= threshold("0.008"));
    place.write("bad.jsonl", [json!({"a": "x", "b": "y", "same": true}), json!({"a": 1})]);
    let run = place.run("calibrate --pairs bad.jsonl");
    assert_eq!(run.code, 3);
    let message = "labelled_row: bad.jsonl, line 2: field \"a\": expected a string, received 1";
    assert!(run.stderr.contains(message), "{}", run.stderr);
    let run = place.run("calibrate --pairs pairs.jsonl --target-error 1.5");
    assert!(run.code == 2 && run.stderr.contains("target_error: 1.5"), "{}", run.stderr);
}

/// A trace of a request a second, of which every tenth comes with the one before.
fn trace(n: u64) -> String {
    let line = |i: u64| {
        format!("{},ChatGPT,{},{},0,API log\n", i - u64::from(i % 10 == 9), 50 + i % 7, 20)
    };
    let lines: String = (0..n).map(line).collect();
    format!("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n{lines}")
}

#[test]
fn a_replay_counts_hits_errors_and_savings_and_the_same_seed_gives_the_same() {
    let place = Place::new();
    fs::write(place.at("trace.csv"), trace(600)).unwrap();
    let request = |i: u64| {
        let (intent, category) = (i % 12, ["a", "b"][(i % 2) as usize]);
        // Of the twelfth intent each prompt is of its own.
        let (named, intent) = if intent < 11 { (intent, Some(intent)) } else { (100 + i, None) };
        json!({"text": prompt(named, i), "intent": intent, "category": category})
    };
    place.write("prompts.jsonl", (0..400).map(request));
    let trap = |i: u64| json!({"a": format!("enable the {}", word(7 * i)), "b": format!("disable the {}", word(7 * i)), "same": false});
    place.write("traps.jsonl", (0..5).map(trap));
    fs::write(place.at("policy.toml"), "[default]\nthreshold = 0.6\n").unwrap();
    let args = "replay trace.csv --prompts prompts.jsonl --traps traps.jsonl --policy policy.toml --embed hashed";
    let object = |args: &str| -> Value { serde_json::from_str(&place.runs(args)).unwrap() };
    let told = object(&format!("{args} --json"));
    let all = &told["all"];
    assert_eq!(all["requests"], 600);
    let (exact, semantic) = (&all["hits"]["exact"], &all["hits"]["semantic"]);
    assert!(exact.as_u64().unwrap() > 20 && semantic.as_u64().unwrap() > 50, "{told}");
    let misses: u64 =
        told["misses"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let hits = exact.as_u64().unwrap() + semantic.as_u64().unwrap();
    assert_eq!(misses + hits, 600);
    assert!(told["tokens"]["saved"].as_u64().unwrap() > 0);
    // Without the times, which are the machine's.
    let seen = |mut told: Value| {
        told["lookup_us"] = Value::Null;
        told
    };
    assert_eq!(seen(object(&format!("{args} --json"))), seen(told.clone()));
    let other = seen(object(&format!("{args} --json --seed 3")));
    assert_ne!(other["all"], told["all"]);
    let stricter =
        object(&format!("{args} --json --policy policy.toml").replace("--policy policy.toml", ""));
    assert!(stricter["all"]["hit_rate"].as_f64() < all["hit_rate"].as_f64());
    let person = place.runs(args);
    assert!(person.contains("lookup: p50") && person.contains("saved: "), "{person}");
}

#[test]
fn a_burst_misses_together_where_the_same_requests_one_by_one_hit() {
    let place = Place::new();
    let csv = |gap: u64| {
        let lines: String = (0..30).map(|i| format!("{},5,100\n", i * gap)).collect();
        format!("Timestamp,Request tokens,Response tokens\n{lines}")
    };
    fs::write(place.at("burst.csv"), csv(0)).unwrap();
    fs::write(place.at("slow.csv"), csv(10)).unwrap();
    place.write("p.jsonl", (0..30).map(|_| json!({"text": "how do I reset it", "intent": 1})));
    let hits = |trace: &str, more: &str| {
        let args =
            format!("replay {trace} --prompts p.jsonl --in-order --embed hashed --json {more}");
        let told: Value = serde_json::from_str(&place.runs(&args)).unwrap();
        (told["all"]["hits"]["exact"].as_u64().unwrap(), told["misses_together"].as_u64().unwrap())
    };
    assert_eq!(hits("burst.csv", ""), (0, 29));
    assert_eq!(hits("slow.csv", ""), (29, 0));
    // An answer takes 2.5 s; a hundred times as fast, requests come every 0.1 s.
    assert_eq!(hits("slow.csv", "--speed 100"), (5, 24));
}

#[test]
fn a_replay_refuses_what_it_cannot_use() {
    let place = Place::new();
    fs::write(place.at("t.csv"), trace(5)).unwrap();
    place.write("p.jsonl", [json!({"text": "x", "intent": 1})]);
    place.write("pairs.jsonl", [json!({"a": "x", "b": "y", "same": true})]);
    for (args, code, what) in [
        (
            "t.csv --prompts p.jsonl --in-order",
            3,
            "prompts_few: p.jsonl: 1 prompts, expected one for each of 5",
        ),
        ("t.csv --prompts pairs.jsonl", 3, "labelled_row: pairs.jsonl: expected requests"),
        ("t.csv --prompts p.jsonl --traps pairs.jsonl", 3, "\"same\": false"),
        ("p.jsonl --prompts p.jsonl", 3, "trace_row: p.jsonl, line 1: field"),
        ("t.csv --prompts p.jsonl --speed 0", 2, "speed: 0"),
        ("t.csv --prompts p.jsonl --repeats 0.9 --trap-share 0.2", 2, "repeats: 1.1"),
        ("t.csv --prompts p.jsonl --embed given:f", 2, "embed: given:f"),
    ] {
        let run = place.run(&format!("replay {args}"));
        assert_eq!(run.code, code, "{args}: {}", run.stderr);
        assert!(run.stderr.contains(what), "{args}: {}", run.stderr);
    }
}
