//! Each option of `nearkin dedup` does what it says.

use std::fs;

use serde_json::{Value, json};

use crate::corpus::{
    Case, Random, arg, files_below, jaccard, jsonl, nearkin, read_records, record, shingles, write,
};

/// Three near-duplicates of different length and score, and a record like none of them.
fn trio() -> Vec<Value> {
    let page = Random(41).page(60);
    let texts = [
        page.join(" "),
        format!("{} and more", page.join(" ")),
        page[..58].join(" "),
        "alone".into(),
    ];
    let scores = [json!(5), json!(-1.5), json!(90), json!("no number")];
    let places = texts.iter().zip(scores).zip(["en", "en", "de", "de"]);
    places
        .enumerate()
        .map(|(i, ((text, score), lang))| {
            json!({"id": i + 1, "lang": lang, "score": score, "text": text})
        })
        .collect()
}

fn trio_case() -> Case {
    let case = Case::new();
    case.file("a.jsonl", jsonl(&trio()));
    case
}

#[test]
fn keep_decides_who_stays() {
    let case = trio_case();
    for (keep, kept) in [
        ("first", "1"),
        ("longest", "2"),
        ("shortest", "3"),
        ("max:score", "3"),
        ("min:score", "2"),
        ("max:absent", "1"),
    ] {
        for policy in ["cover", "components"] {
            let job = case.run(&["--keep", keep, "--policy", policy]);
            assert_eq!(job.kept_ids(), [kept, "4"], "{keep} {policy}");
            let rows = job.dropped();
            assert_eq!(rows.len(), 2);
            assert!(rows.iter().all(|row| row["kept_id"].to_string() == kept), "{keep}");
        }
    }
    assert!(case.refused(&["--keep", "best"]).contains("keep"));
}

#[test]
fn keep_none_drops_all_that_have_a_duplicate() {
    let case = trio_case();
    let job = case.run(&["--keep", "none"]);
    assert_eq!(job.kept_ids(), ["4"]);
    assert_eq!(job.dropped_ids(), ["1", "2", "3"]);
    for row in job.dropped() {
        assert!(row["kept_id"].is_null() && row["kept_source"].is_null(), "{row}");
    }
}

#[test]
fn keep_random_is_fixed_by_the_seed_and_differs_between_seeds() {
    let case = trio_case();
    let kept = |seed: &str| case.run(&["--keep", "random", "--seed", seed]).kept_ids();
    let seeds = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let mut found: Vec<Vec<String>> = seeds.iter().map(|seed| kept(seed)).collect();
    assert_eq!(kept("3"), found[2]);
    found.sort();
    found.dedup();
    assert!(found.len() > 1, "eight seeds chose {found:?}");
}

#[test]
fn keep_source_prefers_files_and_folders_in_the_order_listed() {
    let case = Case::new();
    let records = trio();
    for (name, record) in ["web.jsonl", "books/x.jsonl", "wiki.jsonl"].iter().zip(&records) {
        case.file(name, jsonl(std::slice::from_ref(record)));
    }
    // In input order books/x.jsonl comes first, then web.jsonl and wiki.jsonl.
    for (keep, kept) in [
        ("source:wiki.jsonl,books", "3"),
        ("source:books", "2"),
        ("source:web.jsonl,wiki.jsonl", "1"),
        ("source:absent", "2"),
    ] {
        assert_eq!(case.run(&["--keep", keep]).kept_ids(), [kept], "{keep}");
    }
}

#[test]
fn copies_stay_up_to_their_number() {
    let case = trio_case();
    assert_eq!(case.run(&["--copies", "2"]).kept_ids(), ["1", "2", "4"]);
    assert_eq!(case.run(&["--copies", "2", "--keep", "shortest"]).kept_ids(), ["1", "3", "4"]);
    assert_eq!(case.run(&["--copies", "3"]).kept_ids(), ["1", "2", "3", "4"]);
    assert!(case.refused(&["--copies", "0"]).contains("copies"));
    let case = Case::new();
    case.file("a.jsonl", jsonl(&[1, 2, 3, 4].map(|id| record(id, "the same"))));
    assert_eq!(case.run(&["--copies", "3"]).kept_ids(), ["1", "2", "3"]);
}

#[test]
fn group_by_compares_within_a_group_only() {
    let case = trio_case();
    let job = case.run(&["--group-by", "lang"]);
    assert_eq!(job.kept_ids(), ["1", "3", "4"]);
    let same = |id: i32, group: Value| json!({"id": id, "g": group, "text": "x"});
    let case = Case::new();
    let groups = [json!(1), json!("1"), json!(1), Value::Null];
    let mut records: Vec<Value> = groups.into_iter().zip(1..).map(|(g, id)| same(id, g)).collect();
    records.push(record(5, "x"));
    case.file("a.jsonl", jsonl(&records));
    assert_eq!(case.run(&["--group-by", "g"]).dropped_ids(), ["3", "5"], "null is no group");
    assert_eq!(case.run(&["--method", "exact", "--group-by", "g"]).dropped_ids(), ["3", "5"]);
}

#[test]
fn threshold_and_method_decide_what_is_near() {
    let case = trio_case();
    let records = trio();
    let text = |i: usize| shingles(records[i]["text"].as_str().unwrap());
    let similarity = jaccard(&text(0), &text(1));
    let at = case.run(&["--threshold", &similarity.to_string()]);
    assert!(at.dropped_ids().contains(&"2".to_owned()), "at the threshold is near");
    let over = case.run(&["--threshold", &(similarity + 1e-9).to_string()]);
    assert!(!over.dropped_ids().contains(&"2".to_owned()));
    assert_eq!(case.run(&["--method", "exact"]).dropped().len(), 0);
    assert_eq!(case.run(&["--threshold", "1"]).dropped().len(), 0);
    for wrong in ["0", "1.1", "-1", "NaN"] {
        let argument = format!("--threshold={wrong}");
        assert!(case.refused(&[&argument]).contains("threshold"), "{wrong}");
    }
    case.run(&["--threshold", "0", "--yes-everything"]);
}

const MENU: &str = "home about contact and imprint of the site";

#[test]
fn lines_are_cut_where_they_repeat_and_nothing_else_is_touched() {
    let case = Case::new();
    let input = [
        r#"{"id":"a", "n": 1.50, "text":"Only page one says this line of words\nhome about contact and imprint of the site\n}\nend of the page number one is here", "z":[1,  2]}"#,
        r#"{ "z" : {"text":"inner"}, "text" : "HOME about  contact and imprint of the site\r\nthe second page is not \u00e4hnlich\n}\n", "id":"b" }"#,
        r#"{"id":"c","text":"home about contact and imprint of the site"}"#,
        r#"{"id":"d","text":"}\n}\nbegin\nbegin"}"#,
    ];
    case.file("a.jsonl", input.map(|line| format!("{line}\n")).concat());
    let job = case.run(&["--lines"]);
    let kept = job.kept_text("a.jsonl");
    let lines: Vec<&str> = kept.lines().collect();
    assert_eq!(lines.len(), 3, "c has nothing left: {kept}");
    assert_eq!(lines[0], input[0], "the first copy stays");
    let (before, rest) = input[1].split_once("\"HOME").unwrap();
    assert!(lines[1].starts_with(before), "{}", lines[1]);
    assert!(lines[1].ends_with(rest.rsplit_once('"').map_or("", |_| ", \"id\":\"b\" }")));
    let second: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(second["text"], "the second page is not ähnlich\n}\n");
    assert_eq!(lines[2], input[3], "a line shorter than a shingle is no repeat");
    let rows = job.dropped();
    assert_eq!(job.dropped_ids(), ["b", "c"]);
    let texts: Vec<Value> = input.map(|line| serde_json::from_str(line).unwrap()).to_vec();
    for row in &rows {
        let text = texts[row["line"].as_u64().unwrap() as usize - 1]["text"].as_str().unwrap();
        let at = |i: usize| row["span"][i].as_u64().unwrap() as usize;
        let cut = text[at(0)..at(1)].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(cut.to_lowercase(), MENU);
        assert_eq!((&row["kept_id"], &row["kept_line"]), (&json!("a"), &json!(1)));
        let kept_start = row["kept_start"].as_u64().unwrap() as usize;
        assert!(texts[0]["text"].as_str().unwrap()[kept_start..].starts_with(MENU));
    }
    assert_eq!(job.report()["totals"]["dropped"], 1);
    assert_eq!(job.report()["totals"]["kept"], 3);
}

#[test]
fn paragraphs_are_cut_where_they_repeat() {
    let case = Case::new();
    let notice = "All rights are reserved.\nAsk the owner before use.";
    let first = format!("A text of its own, long enough.\n\n{notice}\n\nAnd an end for it.\n");
    let second = format!("{notice}\n\n\nAnother text, also long enough.\n\n{notice}\n");
    let records = [record("a", &first), record("b", &second), record("c", notice)];
    case.file("a.jsonl", jsonl(&records)).file("b.txt", format!("A document.\n\n{notice}\n"));
    let job = case.run(&["--paragraphs"]);
    assert_eq!(job.kept()[0]["text"], first);
    assert_eq!(job.kept()[1]["text"], "Another text, also long enough.\n\n");
    assert_eq!(job.kept_text("b.txt"), "A document.\n\n");
    assert_eq!(job.dropped_ids(), ["b", "b", "c", "b.txt:1"]);
    assert!(job.dropped().iter().all(|row| row["method"] == "paragraph"));
    let three = case.run(&["--paragraphs", "--copies", "3"]);
    assert_eq!(three.dropped_ids(), ["c", "b.txt:1"]);
    assert!(case.refused(&["--paragraphs", "--annotate"]).contains("annotate"));
}

#[test]
fn annotate_writes_every_record_with_what_was_found() {
    let case = trio_case();
    case.file("b.txt", "alone");
    let job = case.run(&["--annotate", "--output-format", "jsonl"]);
    let dropped = job.dropped();
    let kept = job.kept();
    assert_eq!(kept.len(), 5, "all records are written");
    for record in &kept[..3] {
        let row = dropped.iter().find(|row| row["id"] == record["id"]);
        assert_eq!(record["nearkin_cluster_size"], 3);
        assert_eq!(record["nearkin_kept"], row.is_none());
        assert_eq!(record["nearkin_cluster"], dropped[0]["cluster"]);
        assert_eq!(
            record["nearkin_similarity"],
            row.map_or(Value::Null, |r| r["similarity"].clone())
        );
        assert!((record["nearkin_weight"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12);
    }
    assert_eq!(kept[4]["id"], "b.txt");
    assert_eq!(kept[4]["nearkin_kept"], false, "it repeats record 4");
    let original = jsonl(&trio());
    for (line, original) in job.kept_text("a.jsonl").lines().zip(original.lines()) {
        assert!(line.starts_with(original.strip_suffix('}').unwrap()), "{line}");
    }
    let case = Case::new();
    case.file("a.jsonl", jsonl(&[record(1, "some text")]));
    let alone = &case.run(&["--annotate"]).kept()[0];
    assert_eq!(
        alone,
        &json!({"id": 1, "text": "some text", "nearkin_cluster": null, "nearkin_cluster_size": 1,
            "nearkin_kept": true, "nearkin_similarity": null, "nearkin_weight": 1.0})
    );
}

#[test]
#[cfg(feature = "parquet")]
fn output_formats_hold_the_same_records() {
    let records: Vec<Value> = (0..300)
        .map(|i| {
            let text = Random(i).page(20).join(" ");
            json!({"id": i, "text": text, "score": i as f64 / 4.0, "ok": i % 2 == 0, "tag": format!("t\"{i}")})
        })
        .collect();
    let case = Case::new();
    let mut input = records.clone();
    input.extend_from_slice(&records[..50]);
    case.file("a.jsonl", jsonl(&input));
    let same = case.run(&[]);
    assert_eq!(same.kept(), records);
    for format in ["jsonl", "jsonl.zst", "parquet"] {
        let job = case.run(&["--output-format", format]);
        let kept = job.out.join("kept");
        assert_eq!(files_below(&kept), [format!("a.{format}")]);
        assert_eq!(job.kept(), records, "{format}");
        for back in ["jsonl", "parquet", "same"] {
            let again = case.run_on(&kept, &["--output-format", back]);
            assert_eq!(again.kept(), records, "{format} and back to {back}");
            assert_eq!(again.dropped().len(), 0);
        }
    }
    assert!(case.refused(&["--output-format", "csv"]).contains("output_format"));
}

#[test]
fn an_index_remembers_what_was_kept_before() {
    let case = Case::new();
    let mut random = Random(42);
    let pages: Vec<Vec<String>> = (0..4).map(|_| random.page(50)).collect();
    let near = random.edited(&pages[1]).join(" ");
    let text = |i: usize| pages[i].join(" ");
    let (monday, tuesday) = (case.path("monday"), case.path("tuesday"));
    let first = [record("m0", &text(0)), json!({"text": text(1)}), record("m2", &text(0))];
    write(&monday.join("a.jsonl"), jsonl(&first));
    let second =
        [record(20, &text(2)), record(21, &near), record(22, &text(0)), record(23, &text(3))];
    write(&tuesday.join("b.jsonl"), jsonl(&second));
    let index = case.path("index");
    let with_index = ["--index", arg(&index)];
    assert_eq!(case.run_on(&monday, &with_index).dropped_ids(), ["m2"]);
    let job = case.run_on(&tuesday, &with_index);
    assert_eq!(job.kept_ids(), ["20", "23"]);
    let rows = job.dropped();
    assert_eq!((&rows[0]["id"], &rows[0]["kept_id"]), (&json!(21), &json!("a.jsonl:2")));
    assert_eq!((&rows[0]["kept_source"], &rows[0]["kept_line"]), (&json!("a.jsonl"), &json!(2)));
    assert_eq!(rows[0]["method"], "minhash");
    assert_eq!((&rows[1]["kept_id"], &rows[1]["method"]), (&json!("m0"), &json!("exact")));
    assert_eq!(files_below(&job.out.join("kept")), ["b.jsonl"]);

    // The same job again finds the same and adds nothing.
    let before = crate::corpus::contents(&index);
    let again = case.run_on(&tuesday, &with_index);
    assert_eq!(again.kept_ids(), ["20", "23"]);
    crate::corpus::assert_same(&crate::corpus::contents(&index), &before, "index");

    for other in
        [["--seed", "1"], ["--shingle", "word:4"], ["--normalize", "case"], ["--method", "exact"]]
    {
        let out = case.path("other");
        let job = ["dedup", arg(&tuesday), "--out", arg(&out), "--index", arg(&index)];
        let ended = nearkin(&[&job[..], &other[..]].concat());
        assert_eq!(ended.code, 2, "{other:?}");
        assert!(ended.stderr.contains("index_mismatch"), "{}", ended.stderr);
    }
    crate::corpus::assert_same(&crate::corpus::contents(&index), &before, "index");
}

#[test]
fn contains_drops_what_shares_words_in_a_row_with_a_reference() {
    let case = Case::new();
    let question = "what is the boiling point of water at sea level";
    let reference = case.path("ref.jsonl");
    write(&reference, jsonl(&[record("q1", "unlike"), record("q2", question)]));
    let mut random = Random(43);
    let long = random.page(80).join(" ");
    let after = random.page(80).join(" ");
    let records = [
        record(
            "quoted",
            &format!("{long} What is the boiling point of WATER at sea level? {after}"),
        ),
        record("partly", &format!("{long} what is the boiling point of oil")),
        record("other", "something else"),
    ];
    case.file("a.jsonl", jsonl(&records));
    let against = ["--against", arg(&reference)];
    let job = case.run(&[&against[..], &["--contains", "8"]].concat());
    assert_eq!(job.dropped_ids(), ["quoted"]);
    let row = &job.dropped()[0];
    assert_eq!((&row["kept_id"], &row["kept_line"]), (&json!("q2"), &json!(2)));
    assert_eq!(row["method"], "contains");
    // 170 words make 163 8-grams, of which two are in the question ("level?" is another word).
    let told = row["similarity"].as_f64().unwrap();
    let n_words = 80 + 10 + 80;
    assert!((told - 2.0 / f64::from(n_words - 7)).abs() < 1e-6, "{told}");
    let job = case.run(&[&against[..], &["--contains", "6"]].concat());
    assert_eq!(job.dropped_ids(), ["quoted", "partly"]);
    assert_eq!(case.run(&against).dropped().len(), 0);
    assert!(case.refused(&["--contains", "8"]).contains("--against"));
}

#[test]
fn no_verify_takes_candidates_as_they_are_and_says_so() {
    let case = trio_case();
    let job = case.run(&["--no-verify"]);
    assert_eq!(job.kept_ids(), ["1", "4"]);
    for row in job.dropped() {
        assert_eq!(row["method"], "minhash-unverified");
        // An estimate from 128 slots: its steps are 1/128.
        let slots = row["similarity"].as_f64().unwrap() * 128.0;
        assert!((slots - slots.round()).abs() < 1e-9 && slots > 64.0, "{row}");
    }
    assert!(case.refused(&["--no-verify", "--method", "exact"]).contains("--no-verify"));
}

#[test]
fn bands_are_as_given() {
    let case = trio_case();
    let job = case.run(&["--bands", "20x6"]);
    let bands = &job.report()["bands"];
    assert_eq!((&bands["n_bands"], &bands["rows_per_band"]), (&json!(20), &json!(6)));
    assert_eq!(job.kept_ids(), ["1", "4"]);
    assert!(case.refused(&["--bands", "22x6"]).contains("bands"), "132 slots of 128");
    case.run(&["--bands", "22x6", "--n-perm", "132"]);
    for wrong in ["0x6", "6", "axb"] {
        assert!(case.refused(&["--bands", wrong]).contains("bands"), "{wrong}");
    }
}

#[test]
fn shingles_are_of_the_unit_asked_for() {
    // A letter in every tenth word leaves few word 5-grams, but most character 5-grams.
    let page = Random(44).page(100);
    let typos: Vec<String> = page
        .iter()
        .enumerate()
        .map(|(i, word)| if i % 10 == 5 { format!("{word}y") } else { word.clone() })
        .collect();
    let case = Case::new();
    case.file("a.jsonl", jsonl(&[record(1, &page.join(" ")), record(2, &typos.join(" "))]));
    assert_eq!(case.run(&[]).dropped().len(), 0);
    assert_eq!(case.run(&["--shingle", "char:5"]).dropped_ids(), ["2"]);

    // Code in another layout has the same tokens.
    let case = Case::new();
    let tight = "fn add(a:u32,b:u32)->u32{let sum=a+b;if sum>9{return 9;}sum}";
    let loose = "fn add(a: u32, b: u32) -> u32 {\n    let sum = a + b;\n    if sum > 9 {\n        \
                 return 9;\n    }\n    sum\n}\n";
    let other_case = tight.replace("add", "ADD").replace("sum", "SUM").replace('a', "A");
    case.file("a.jsonl", jsonl(&[record(1, tight), record(2, loose), record(3, &other_case)]));
    let job = case.run(&["--shingle", "code:5"]);
    assert_eq!(job.dropped_ids(), ["2"], "case counts in code");
    assert_eq!(job.dropped()[0]["similarity"], 1.0);
    assert_eq!(case.run(&[]).dropped_ids(), ["3"], "layout counts in words, and case does not");
    let caseless = case.run(&["--shingle", "code:5", "--normalize", "case,space"]);
    assert_eq!(caseless.dropped_ids(), ["2", "3"]);
    for wrong in ["word", "word:0", "line:5"] {
        assert!(case.refused(&["--shingle", wrong]).contains("shingle"), "{wrong}");
    }
}

#[test]
fn each_normalisation_step_hides_one_difference() {
    let pairs = [
        ("nfc", "caf\u{e9}", "cafe\u{301}"),
        ("nfkc", "\u{fb01}ne \u{2460}", "fine 1"),
        ("case", "Straße und \u{394}", "sTRAßE UND \u{3b4}"),
        ("space", " one  two\u{a0}", "one\ntwo"),
        ("punct", "well, yes!", "well yes"),
        ("digits", "in 1999", "in 2024"),
        ("marks", "na\u{ef}ve", "naive"),
    ];
    let case = Case::new();
    for (name, a, b) in pairs {
        case.file(&format!("{name}.jsonl"), jsonl(&[record(1, a), record(2, b)]));
    }
    let exact = ["--method", "exact", "--normalize"];
    let found = |steps: &str| -> Vec<String> {
        let job = case.run(&[&exact[..], &[steps]].concat());
        job.dropped().iter().map(|row| row["source"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found("none"), [""; 0]);
    for (name, ..) in pairs {
        let mut expected = vec![format!("{name}.jsonl")];
        match name {
            // These include composition, or take the marks away that differ.
            "nfkc" | "marks" => expected.push("nfc.jsonl".into()),
            _ => {}
        }
        expected.sort();
        assert_eq!(found(name), expected, "{name}");
    }
    assert_eq!(found("nfkc,case,space,punct,digits,marks").len(), pairs.len());
    assert_eq!(found("case,space"), ["case.jsonl", "space.jsonl"]);
    assert!(case.refused(&["--normalize", "upper"]).contains("upper"));
}

#[test]
fn ids_are_told_as_they_are_and_made_where_missing() {
    let case = Case::new();
    let input = [
        r#"{"text":"the same"}"#,
        r#"{"id":7,"text":"the same"}"#,
        r#"{"id":12345678901234567890123,"text":"the same"}"#,
        r#"{"id":1.50,"text":"the same"}"#,
        r#"{"id":"7","text":"the same"}"#,
        r#"{"id":null,"text":"the same"}"#,
        r#"{"id":"7","text":"the same"}"#,
    ];
    case.file("sub/a.jsonl", input.map(|line| format!("{line}\n")).concat());
    case.file("z.jsonl", "{\"text\":\"the same\"}\n");
    let job = case.run(&[]);
    let list = fs::read_to_string(job.out.join("dropped.jsonl")).unwrap();
    let ids: Vec<&str> = list
        .lines()
        .map(|line| line["{\"id\":".len()..].split_once(",\"source\"").unwrap().0)
        .collect();
    let expected = [
        "7",
        "12345678901234567890123",
        "1.50",
        "\"7\"",
        "\"sub/a.jsonl:6\"",
        "\"7\"",
        "\"z.jsonl:1\"",
    ];
    assert_eq!(ids, expected);
    let rows = job.dropped();
    assert!(rows.iter().all(|row| row["kept_id"] == "sub/a.jsonl:1" && row["kept_line"] == 1));
    let lines: Vec<u64> = rows.iter().map(|row| row["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7, 1]);
}

#[test]
fn fields_have_the_names_asked_for() {
    let case = Case::new();
    let records = [
        json!({"url": "u1", "body": "the page", "text": "a"}),
        json!({"url": "u2", "body": "the page"}),
    ];
    case.file("a.jsonl", jsonl(&records));
    let job = case.run(&["--text-field", "body", "--id-field", "url"]);
    assert_eq!(job.dropped()[0]["id"], "u2");
    assert_eq!(job.dropped()[0]["kept_id"], "u1");
    assert_eq!(read_records(&job.out.join("kept/a.jsonl")), records[..1]);
}

#[test]
fn an_output_folder_is_only_replaced_when_asked() {
    let case = trio_case();
    let (input, out) = (case.input(), case.path("out"));
    let job = ["dedup", arg(&input), "--out", arg(&out)];
    assert_eq!(nearkin(&job).code, 0);
    write(&out.join("mine.txt"), "a person's own file");
    let before = crate::corpus::contents(&out);
    let again = nearkin(&job);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("output_exists"), "{}", again.stderr);
    crate::corpus::assert_same(&crate::corpus::contents(&out), &before, "refused");
    assert_eq!(nearkin(&[&job[..], &["--resume"]].concat()).code, 0, "it is finished");
    crate::corpus::assert_same(&crate::corpus::contents(&out), &before, "finished already");
    assert_eq!(nearkin(&[&job[..], &["--overwrite", "--keep", "none"]].concat()).code, 0);
    assert_eq!(fs::read_to_string(out.join("mine.txt")).unwrap(), "a person's own file");
    assert_eq!(read_records(&out.join("kept/a.jsonl")).len(), 1);
}
