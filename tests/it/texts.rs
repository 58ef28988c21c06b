//! Texts that today's tools get wrong: short ones, scripts without spaces, line ends, huge clusters, and repeats
//! across file formats.

use std::fs;

use serde_json::{Value, json};

use crate::corpus::{Case, Random, arg, fixture, jaccard, jsonl, read_records, record, shingles};

#[test]
fn short_texts_are_duplicates_only_when_equal() {
    // Fewer words than a shingle has: tools that skip such texts merge all of them, or none.
    let case = Case::new();
    let texts =
        ["yes", "no", "Yes ", "thank you", "thank you very", "you thank", "", " \n", "a b c d"];
    let records: Vec<Value> = texts.iter().enumerate().map(|(i, text)| record(i, text)).collect();
    case.file("a.jsonl", jsonl(&records));
    for options in [&["--threshold", "0.8"], &["--threshold", "0.1"]] {
        let job = case.run(options);
        assert_eq!(job.dropped_ids(), ["2"], "only the second yes repeats something");
        assert_eq!(job.dropped()[0]["method"], "exact");
        assert_eq!(job.report()["totals"]["empty"], 2);
    }
    let job = case.run(&["--dedup-empty"]);
    assert_eq!(job.dropped_ids(), ["2", "7"], "texts without words are alike when asked for");
}

/// A passage, the same with one word changed in the middle, and the passage that follows it.
fn passages(text: &str, other: &str) -> [String; 3] {
    let middle = text.chars().count() / 2;
    let (first, second): (String, String) =
        (text.chars().take(middle).collect(), text.chars().skip(middle).collect());
    let mut edited: Vec<char> = first.chars().collect();
    let at = middle / 2;
    edited.splice(at..=at, other.chars());
    [first, edited.into_iter().collect(), second]
}

#[test]
fn near_duplicates_are_found_in_scripts_without_spaces_and_from_right_to_left() {
    // A Japanese page without a space is one word to a tool that splits at spaces.
    let manuals = read_records(&fixture().join("manuals.jsonl.gz"));
    let manual = |language: &str| {
        let of_language = |id: &str| id.contains(language);
        let found = manuals.iter().find(|record| of_language(record["id"].as_str().unwrap()));
        found.unwrap()["text"].as_str().unwrap().chars().take(1500).collect::<String>()
    };
    let alice = |language: &str| {
        fs::read_to_string(fixture().join(format!("alice/Carroll-11-{language}.txt"))).unwrap()
    };
    let languages = [
        ("ja", passages(&manual("/ja/"), "犬")),
        ("zh", passages(&manual("/zh-cn/"), "犬")),
        ("ar", passages(&alice("ar"), " كلمة ")),
        ("th", passages(&alice("th"), "ก")),
    ];
    let case = Case::new();
    for (language, passages) in &languages {
        let named = passages.iter().zip(["first", "edited", "second"]);
        let records: Vec<Value> =
            named.map(|(text, name)| record(format!("{language} {name}"), text)).collect();
        case.file(&format!("{language}.jsonl"), jsonl(&records));
    }
    let job = case.run(&[]);
    assert_eq!(job.dropped_ids(), ["ar edited", "ja edited", "th edited", "zh edited"]);
    for row in job.dropped() {
        let id = row["id"].as_str().unwrap();
        let (_, [first, edited, _]) =
            languages.iter().find(|(language, _)| id.starts_with(language)).unwrap();
        let similarity = jaccard(&shingles(first), &shingles(edited));
        assert!((row["similarity"].as_f64().unwrap() - similarity).abs() < 1e-9, "{row}");
        assert_eq!(row["kept_id"], id.replace("edited", "first"));
    }
}

#[test]
fn texts_that_differ_in_line_ends_are_equal() {
    let case = Case::new();
    let text = "first line\n\nsecond line of the text\n\tand a third, with a tab\n";
    case.file("a.txt", text).file("b.txt", text.replace('\n', "\r\n"));
    case.file("c.txt", text.replace('\n', "\u{2028}")).file("d.txt", text.replace('\n', ""));
    let job = case.run(&[]);
    let rows = job.dropped();
    assert_eq!(job.dropped_ids(), ["b.txt:1", "c.txt:1"]);
    assert!(rows.iter().all(|row| row["method"] == "exact" && row["kept_id"] == "a.txt:1"));
    // A record with CRLF behind it keeps it.
    let case = Case::new();
    let lines = "{\"id\":1,\"text\":\"one\"}\r\n{\"id\":2,\"text\":\"one\"}\n{\"id\":3,\"text\":\"two\"}\r\n";
    case.file("a.jsonl", lines);
    let kept = case.run(&[]).kept_text("a.jsonl");
    assert_eq!(kept, "{\"id\":1,\"text\":\"one\"}\r\n{\"id\":3,\"text\":\"two\"}\r\n");
}

#[test]
fn a_hundred_thousand_equal_pages_leave_one() {
    let case = Case::new();
    let page = Random(11).page(12).join(" ");
    let line = format!("{}\n", json!({"text": page}));
    case.file("pages.jsonl", line.repeat(100_000));
    let job = case.run(&[]);
    assert_eq!(job.kept_text("pages.jsonl"), line);
    let rows = job.dropped();
    assert_eq!(rows.len(), 99_999);
    assert!(rows.iter().all(|row| row["kept_id"] == "pages.jsonl:1" && row["similarity"] == 1.0));
    assert_eq!(job.report()["clusters"]["sizes"], json!([[100_000, 1]]));
}

#[test]
fn twenty_thousand_pages_of_one_template_leave_no_near_pair() {
    // One bucket of all pages: all pairs would be 200 million comparisons, and a cap loses duplicates.
    let seed = 12;
    println!("seed {seed}");
    let mut random = Random(seed);
    let template = random.page(200);
    let pages: Vec<String> = (0..20_000).map(|_| random.edited(&template).join(" ")).collect();
    let records: Vec<Value> = pages.iter().enumerate().map(|(i, page)| record(i, page)).collect();
    let case = Case::new();
    case.file("pages.jsonl", jsonl(&records));
    let job = case.run(&[]);
    let kept: Vec<_> = job.kept().iter().map(|r| shingles(r["text"].as_str().unwrap())).collect();
    for _ in 0..2000.min(kept.len() * kept.len() / 2) {
        let (a, b) = (random.below(kept.len()), random.below(kept.len()));
        assert!(a == b || jaccard(&kept[a], &kept[b]) < 0.8, "two of {} kept pages", kept.len());
    }
    let rows = job.dropped();
    assert_eq!(rows.len() + kept.len(), pages.len());
    for _ in 0..2000 {
        let row = &rows[random.below(rows.len())];
        let text = |field: &str| shingles(&pages[row[field].as_u64().unwrap() as usize]);
        let similarity = jaccard(&text("id"), &text("kept_id"));
        assert!(
            similarity >= 0.8 && (row["similarity"].as_f64().unwrap() - similarity).abs() < 1e-9
        );
    }
}

#[test]
#[cfg(feature = "parquet")]
fn a_text_is_recognised_in_every_format() {
    use crate::corpus::{gzip, zstd};
    let case = Case::new();
    let page = Random(13).page(40).join(" ");
    let near = format!("{page} and one more");
    let lines = |id: &str| jsonl(&[record(id, &near), record("other", "something else entirely")]);
    case.file("1.jsonl", jsonl(&[record("one", &page)]));
    case.file("2.json", json!([record("two", &page), record("near two", &near)]).to_string());
    crate::corpus::write_parquet(
        &case.input().join("3.parquet"),
        &[("three".into(), page.clone())],
        1,
    );
    case.file("4.txt", &page).file("5.txt.zst", zstd(&page));
    case.file("6.jsonl.gz", gzip(lines("six"))).file("7.jsonl.zst", zstd(lines("seven")));
    // The format is told by content: a JSON Lines file under a name that says gzip.
    case.file("8.jsonl.gz", lines("eight"));
    let job = case.run(&[]);
    let kept: Vec<&str> = vec!["one", "other"];
    assert_eq!(job.kept_ids(), kept);
    let rows = job.dropped();
    assert_eq!(rows.len(), 10);
    for row in &rows {
        let first = row["id"] != "other";
        assert_eq!(row["kept_id"], if first { "one" } else { "other" }, "{row}");
    }
    let sources: Vec<&str> = rows.iter().map(|row| row["source"].as_str().unwrap()).collect();
    for source in ["2.json", "3.parquet", "4.txt", "5.txt.zst", "6.jsonl.gz", "8.jsonl.gz"] {
        assert!(sources.contains(&source), "{source} in {sources:?}");
    }
    assert!(!job.out.join("kept/4.txt").exists(), "a dropped document leaves no file");
}

#[test]
fn a_record_that_repeats_only_a_reference_is_dropped_and_names_it() {
    let case = Case::new();
    let mut random = Random(14);
    let (known, fresh) = (random.page(50), random.page(50));
    let near = random.edited(&known).join(" ");
    let (known, fresh) = (known.join(" "), fresh.join(" "));
    let reference = case.path("ref/test.jsonl");
    crate::corpus::write(&reference, jsonl(&[record("other", "unlike"), record("q7", &known)]));
    let before = fs::read(&reference).unwrap();
    case.file("a.jsonl", jsonl(&[record("fresh", &fresh), record("near", &near)]));
    for policy in ["cover", "components"] {
        for keep in ["first", "longest", "none"] {
            let job = case.run(&["--against", arg(&reference), "--policy", policy, "--keep", keep]);
            assert_eq!(job.kept_ids(), ["fresh"], "{policy} {keep}");
            let rows = job.dropped();
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0]["kept_id"], "q7");
            assert_eq!(rows[0]["kept_line"], 2);
            assert_eq!(rows[0]["kept_source"], "test.jsonl");
            assert_eq!(crate::corpus::files_below(&job.out.join("kept")), ["a.jsonl"]);
            assert_eq!(job.report()["references"][0]["matched"], 1);
        }
    }
    assert_eq!(fs::read(&reference).unwrap(), before);
}
