//! `--method semantic`: what is near in meaning is found, what is dropped has a kept twin at the cosine that is told,
//! and the same input gives the same bytes. Vectors are given, so that the truth is known.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::corpus::{
    Case, Job, Random, arg, assert_same, files_below, jsonl, nearkin, output, program,
    read_records, record, write,
};
use crate::embed::{npy, serve, vectors};
use crate::support::{await_path, signal};

/// A row at an angle in degrees in the plane of two axes, of norm 2 so that a cosine is not a product.
fn at(plane: usize, degrees: f64) -> Vec<f32> {
    let mut row = vec![0.0; 8];
    row[plane * 2] = 2.0 * degrees.to_radians().cos() as f32;
    row[plane * 2 + 1] = 2.0 * degrees.to_radians().sin() as f32;
    row
}

fn with(id: usize, vector: &[f32]) -> Value {
    json!({"id": id, "text": format!("text number {id}"), "v": vector})
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}

/// The smaller a multiple of a base row the noise is, the nearer are the rows.
fn noisy(random: &mut Random, dim: usize, bases: &[Vec<f32>]) -> Vec<f32> {
    let number = |random: &mut Random| random.below(2001) as f32 / 1000.0 - 1.0;
    let noise = random.below(60) as f32 / 100.0;
    let base = bases[random.below(bases.len())].clone();
    (0..dim).map(|i| base[i] + noise * number(random)).collect()
}

/// Records around some centres, so that there are pairs at all similarities.
fn cloud(n: usize, dim: usize, n_bases: usize, seed: u64) -> Vec<Vec<f32>> {
    println!("seed {seed}");
    let mut random = Random(seed);
    let bases: Vec<Vec<f32>> = (0..n_bases)
        .map(|_| (0..dim).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect())
        .collect();
    (0..n).map(|_| noisy(&mut random, dim, &bases)).collect()
}

fn cloud_case(vectors: &[Vec<f32>]) -> Case {
    let case = Case::new();
    let records: Vec<Value> = vectors.iter().enumerate().map(|(i, v)| with(i, v)).collect();
    let (a, b) = records.split_at(records.len() / 3);
    case.file("a.jsonl", jsonl(a)).file("b.jsonl", jsonl(b));
    case
}

const GIVEN: [&str; 4] = ["--method", "semantic", "--embed", "given:v"];

fn run(case: &Case, options: &[&str]) -> Job {
    case.run(&[&GIVEN[..], options].concat())
}

fn id(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// Every drop is true, and no two kept records are near, under the greedy cover.
fn check(job: &Job, vectors: &[Vec<f32>], similarity: f64) -> usize {
    let rows = job.dropped();
    let kept: Vec<usize> = job.kept().iter().map(|record| id(&record["id"])).collect();
    assert_eq!(kept.len() + rows.len(), vectors.len());
    for row in &rows {
        let (here, twin) = (id(&row["id"]), id(&row["kept_id"]));
        assert!(kept.contains(&twin), "{row}");
        let told = row["similarity"].as_f64().unwrap();
        assert!((told - cosine(&vectors[here], &vectors[twin])).abs() < 1e-6, "{row}");
        assert!(told >= similarity && row["method"] == "semantic", "{row}");
    }
    for (i, &a) in kept.iter().enumerate() {
        for &b in &kept[i + 1..] {
            assert!(cosine(&vectors[a], &vectors[b]) < similarity + 1e-6, "{a} {b} are both kept");
        }
    }
    rows.len()
}

#[test]
fn planted_neighbours_are_found_and_every_drop_is_true() {
    let vectors = cloud(300, 16, 12, 1);
    let case = cloud_case(&vectors);
    let mut dropped = Vec::new();
    for similarity in ["0.6", "0.9", "0.97", "1"] {
        let job = run(&case, &["--similarity", similarity]);
        dropped.push(check(&job, &vectors, similarity.parse().unwrap()));
        let report = job.report();
        assert_eq!(report["semantic"]["n_embedded"], 300);
        assert_eq!(report["semantic"]["n_cells"], 1);
        assert_eq!(report["semantic"]["embedder"], "given/v/16");
    }
    assert!(dropped.is_sorted_by(|a, b| a > b), "{dropped:?}");
}

/// 0 and 1 are 10 degrees apart, 1 and 2 too, 0 and 2 twenty; 3 is alone. Lengths and scores differ.
fn chain() -> Vec<Value> {
    let places = [at(0, 0.0), at(0, 10.0), at(0, 20.0), at(1, 0.0)];
    let texts = ["a b c", "d e", "f g h i", "j"];
    let scores = [5.0, 9.0, 1.0, 0.0];
    (0..4)
        .map(|i| {
            json!({"id": i, "text": texts[i], "v": places[i], "score": scores[i],
                   "lang": if i == 1 { "de" } else { "en" }})
        })
        .collect()
}

/// Between the cosines of 10 and of 20 degrees.
const TEN: &str = "0.96";

#[test]
fn every_keep_policy_decides_who_stays() {
    let case = Case::new();
    case.file("a.jsonl", jsonl(&chain()));
    for (keep, kept) in [
        ("first", vec!["0", "2", "3"]),
        ("longest", vec!["0", "2", "3"]),
        ("shortest", vec!["1", "3"]),
        ("max:score", vec!["1", "3"]),
        ("min:score", vec!["0", "2", "3"]),
        ("source:a.jsonl", vec!["0", "2", "3"]),
        ("none", vec!["3"]),
    ] {
        let job = run(&case, &["--similarity", TEN, "--keep", keep]);
        assert_eq!(job.kept_ids(), kept, "{keep}");
    }
    let random = |seed| run(&case, &["--similarity", TEN, "--keep", "random", "--seed", seed]);
    assert_eq!(random("3").kept_ids(), random("3").kept_ids());
    let copies = run(&case, &["--similarity", TEN, "--copies", "2"]);
    assert_eq!(copies.kept_ids(), ["0", "1", "2", "3"]);
    let components = run(&case, &["--similarity", TEN, "--policy", "components"]);
    assert_eq!(components.kept_ids(), ["0", "3"]);
    // The far end of the chain is told as far as it is.
    let told = components.dropped()[1]["similarity"].as_f64().unwrap();
    assert!((told - 20f64.to_radians().cos()).abs() < 1e-6, "{told}");
}

#[test]
fn groups_are_apart() {
    let case = Case::new();
    case.file("a.jsonl", jsonl(&chain()));
    let job = run(&case, &["--similarity", TEN, "--group-by", "lang"]);
    assert_eq!(job.kept_ids(), ["0", "1", "2", "3"]);
    let job = run(&case, &["--similarity", "0.9", "--group-by", "lang"]);
    assert_eq!(job.dropped_ids(), ["2"]);
}

#[test]
fn references_stay_and_what_is_near_them_goes() {
    let case = Case::new();
    case.file("a.jsonl", jsonl(&chain()));
    let reference = case.path("ref/r.jsonl");
    write(
        &reference,
        jsonl(&[with(70, &at(0, 17.0)), with(71, &at(0, 17.5)), with(72, &at(3, 1.0))]),
    );
    let job = run(&case, &["--similarity", TEN, "--against", arg(&reference)]);
    assert_eq!(job.kept_ids(), ["0", "3"], "{:?}", job.dropped());
    let rows = job.dropped();
    assert!(rows.iter().all(|row| row["kept_source"] == "r.jsonl"), "{rows:?}");
    assert_eq!(job.report()["references"][0]["matched"], 2);
}

#[test]
fn equal_texts_go_first_and_their_vectors_are_compared_once() {
    let case = Case::new();
    let mut records = chain();
    records.push(json!({"id": 4, "text": "A  b c", "v": at(2, 0.0)}));
    case.file("a.jsonl", jsonl(&records));
    let job = run(&case, &["--similarity", TEN]);
    let rows = job.dropped();
    let methods: Vec<&str> = rows.iter().map(|row| row["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["semantic", "exact"]);
    assert_eq!(job.report()["semantic"]["n_embedded"], 4);
    assert_eq!(job.report()["pairs"]["exact_drops"], 1);
    assert_eq!(job.report()["semantic"]["drops"], 1);
}

#[test]
fn zero_vectors_are_told_apart_and_near_nothing() {
    let case = Case::new();
    let zero = vec![0.0; 8];
    case.file("a.jsonl", jsonl(&[with(0, &zero), with(1, &zero), with(2, &at(0, 1.0))]));
    let job = run(&case, &["--similarity", "0.01"]);
    assert_eq!(job.kept_ids(), ["0", "1", "2"]);
    assert_eq!(job.report()["semantic"]["n_without_vector"], 2);
    let all_zero = Case::new();
    all_zero.file("a.jsonl", jsonl(&[with(0, &zero), with(1, &zero)]));
    assert_eq!(run(&all_zero, &["--cells", "2"]).kept_ids(), ["0", "1"]);
    let rows = [vec![0.0; 3], vec![1.0, 2.0, 3.0], vec![0.0; 3]];
    write(&all_zero.path("v.npy"), npy(&rows[..2]));
    let given = format!("given:{}", all_zero.path("v.npy").display());
    let job = all_zero.run(&["--method", "semantic", "--embed", &given]);
    assert_eq!(job.report()["semantic"]["n_without_vector"], 1);
}

#[test]
fn a_bad_vector_is_quarantined_with_a_reason() {
    let case = Case::new();
    let mut lines =
        jsonl(&[with(0, &at(0, 0.0)), with(1, &at(0, 1.0)[..3]), record(2, "no vector")]);
    lines += r#"{"id": 3, "text": "big", "v": [1, 1e39, 0, 0, 0, 0, 0, 0]}"#;
    lines += "\n{\"id\": 4, \"text\": \"nan\", \"v\": [1, null, 0, 0, 0, 0, 0, 0]}\n";
    lines += "{\"id\": 5, \"text\": \"nan\", \"v\": [1, NaN, 0, 0, 0, 0, 0, 0]}\n";
    lines += &jsonl(&[with(6, &at(0, 2.0))]);
    case.file("a.jsonl", &lines);
    let out = case.path("out");
    let input = case.input();
    let ended = nearkin(&[&["dedup", arg(&input), "--out", arg(&out)], &GIVEN[..]].concat());
    assert_eq!(ended.code, 10, "{}", ended.stderr);
    let rows = read_records(&out.join("quarantine.jsonl"));
    let told: Vec<(u64, &str)> = rows
        .iter()
        .map(|row| (row["line"].as_u64().unwrap(), row["reason"].as_str().unwrap()))
        .collect();
    let expected = [
        (2, "vector_dim"),
        (3, "field_missing"),
        (4, "vector_not_finite"),
        (5, "field_type"),
        (6, "json_invalid"),
    ];
    assert_eq!(told, expected);
    assert!(rows[0]["message"].as_str().unwrap().contains("3 numbers"), "{}", rows[0]);
    let raw = rows[2]["raw"].as_str().unwrap();
    assert!(lines.contains(raw) && raw.contains("1e39"), "{raw}");
    assert_eq!(Job { out }.dropped_ids(), ["6"]);
}

/// The drops of a job without the ids and sources, which differ by format.
#[cfg(feature = "parquet")]
fn drops_by_line(job: &Job) -> Vec<(Value, Value, Value)> {
    let rows = job.dropped();
    rows.iter()
        .map(|row| (row["line"].clone(), row["kept_line"].clone(), row["similarity"].clone()))
        .collect()
}

#[cfg(feature = "parquet")]
#[test]
fn vectors_in_columns_of_parquet_give_what_the_same_vectors_in_json_give() {
    use crate::support::parquet::{with_fixed_vectors, with_vectors};
    let vectors = cloud(90, 8, 5, 3);
    let case = Case::new();
    let records: Vec<Value> = vectors.iter().enumerate().map(|(i, v)| with(i, v)).collect();
    case.file("a.jsonl", jsonl(&records));
    let expected = drops_by_line(&run(&case, &["--similarity", "0.9"]));
    assert!(expected.len() > 20, "{}", expected.len());
    let texts: Vec<String> = (0..90).map(|i| format!("text number {i}")).collect();
    let some: Vec<Option<Vec<f32>>> = vectors.iter().cloned().map(Some).collect();
    for bytes in [with_vectors(&texts, &some, 40), with_fixed_vectors(&texts, &vectors, 90)] {
        let case = Case::new();
        case.file("a.parquet", bytes);
        for threads in ["1", "3"] {
            let job = run(&case, &["--similarity", "0.9", "--threads", threads]);
            assert_eq!(drops_by_line(&job), expected);
            assert_eq!(job.report()["semantic"]["embedder"], "given/v/8");
        }
    }
}

#[cfg(feature = "parquet")]
#[test]
fn a_bad_vector_in_a_column_is_quarantined_with_its_row() {
    let case = Case::new();
    let texts: Vec<String> = (0..6).map(|i| format!("text number {i}")).collect();
    let nan = [vec![f32::NAN], at(0, 0.0)[1..].to_vec()].concat();
    let short = at(0, 0.5)[..3].to_vec();
    let vectors = [Some(at(0, 0.0)), None, Some(short), Some(nan), Some(vec![]), Some(at(0, 1.0))];
    let file = crate::support::parquet::with_vectors(&texts, &vectors, 4);
    case.file("a.parquet", file);
    let (out, input) = (case.path("out"), case.input());
    let ended = nearkin(&[&["dedup", arg(&input), "--out", arg(&out)], &GIVEN[..]].concat());
    assert_eq!(ended.code, 10, "{}", ended.stderr);
    let rows = read_records(&out.join("quarantine.jsonl"));
    let told: Vec<(u64, &str)> = rows
        .iter()
        .map(|row| (row["line"].as_u64().unwrap(), row["reason"].as_str().unwrap()))
        .collect();
    let expected =
        [(2, "field_type"), (3, "vector_dim"), (4, "vector_not_finite"), (5, "dim_range")];
    assert_eq!(told, expected);
    assert!(rows[0]["message"].as_str().unwrap().contains("null"), "{}", rows[0]);
    let kept = crate::support::parquet::texts(&out.join("kept/a.parquet"));
    assert_eq!(kept, ["text number 0"]);
    let lines: Vec<Value> = Job { out }.dropped().iter().map(|row| row["line"].clone()).collect();
    assert_eq!(lines, [6]);
}

#[test]
fn a_file_of_vectors_gives_what_the_same_vectors_in_a_field_give() {
    let vectors = cloud(90, 8, 5, 3);
    let case = cloud_case(&vectors);
    let field = run(&case, &["--similarity", "0.9"]);
    let path = case.path("rows.npy");
    write(&path, npy(&vectors));
    let given = format!("given:{}", path.display());
    let file = case.run(&["--method", "semantic", "--embed", &given, "--similarity", "0.9"]);
    assert_eq!(file.dropped(), field.dropped());
    write(&path, npy(&vectors[1..]));
    let out = case.path("short");
    let input = case.input();
    let arguments =
        ["dedup", arg(&input), "--out", arg(&out), "--method", "semantic", "--embed", &given];
    let ended = nearkin(&arguments);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("given_rows") && ended.stderr.contains("89 rows"),
        "{}",
        ended.stderr
    );
    let mut broken = vectors.clone();
    broken[7][3] = f32::NAN;
    write(&path, npy(&broken));
    let ended = nearkin(&[&arguments[..], &["--overwrite"]].concat());
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("row 7, element 3 is NaN"), "{}", ended.stderr);
}

#[test]
fn the_same_bytes_for_any_threads_memory_and_shards() {
    let vectors = cloud(900, 12, 40, 5);
    let case = cloud_case(&vectors);
    let options = ["--similarity", "0.92", "--cells", "6", "--keep", "longest"];
    let first = run(&case, &[&options[..], &["--threads", "1", "--memory", "100MiB"]].concat());
    let expected = output(&first.out);
    assert!(read_records(&first.out.join("dropped.jsonl")).len() > 50);
    for more in [["--threads", "2", "--memory", "4GiB"], ["--threads", "5", "--memory", "200MiB"]] {
        let again = run(&case, &[&options[..], &more].concat());
        assert_same(&output(&again.out), &expected, &more.join(" "));
    }
    let out = case.path("shards");
    let input = case.input();
    for shard in ["0/2", "1/2"] {
        let base = ["dedup", arg(&input), "--out", arg(&out), "--shard", shard];
        let ended = nearkin(&[&base[..], &GIVEN, &options].concat());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
    }
    let ended = nearkin(&["dedup", "merge", "--out", arg(&out)]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    // What the pairs were made of names the job's shards, and the rest is the same.
    let mut merged = output(&out);
    let mut expected = expected;
    assert!(merged.remove("edges.json").is_some() && expected.remove("edges.json").is_some());
    assert_same(&merged, &expected, "shards");
    let report = first.report();
    assert_eq!(report["semantic"]["n_cells"], 6);
    let border = &report["semantic"]["border"];
    assert_eq!(border["n_sampled"], 900);
    assert!(border["n_pairs"].as_u64().unwrap() > 100, "{border}");
    assert!(border["share"].as_f64().unwrap() < 0.1, "{border}");
    assert!(border["low"].as_f64() <= border["share"].as_f64(), "{border}");
    // Few records are one cell, which has no border.
    let whole = run(&case, &["--similarity", "0.92"]).report();
    assert_eq!(whole["semantic"]["n_cells"], 1);
    let border = &whole["semantic"]["border"];
    assert!(border["n_missed"] == 0 && border["high"] == 0.0, "{border}");
}

/// Rows so wide that little memory holds only some of a cell at once.
#[test]
fn a_cell_that_does_not_fit_is_joined_block_by_block() {
    let vectors = cloud(400, 4096, 20, 8);
    let case = Case::new();
    let records: Vec<Value> = (0..400).map(|i| record(i, &format!("text number {i}"))).collect();
    case.file("a.jsonl", jsonl(&records));
    write(&case.path("v.npy"), npy(&vectors));
    let given = format!("given:{}", case.path("v.npy").display());
    let run = |memory| {
        let options = ["--method", "semantic", "--embed", &given, "--similarity", "0.9"];
        case.run(&[&options[..], &["--threads", "1", "--memory", memory]].concat())
    };
    let (small, large) = (run("72MiB"), run("4GiB"));
    assert_same(&output(&small.out), &output(&large.out), "72MiB and 4GiB");
    assert!(!large.dropped().is_empty());
}

#[test]
fn a_killed_job_goes_on_to_the_same_bytes() {
    let vectors = cloud(500, 24, 30, 11);
    let case = cloud_case(&vectors);
    let options = ["--similarity", "0.9", "--cells", "4"];
    let expected = output(&run(&case, &options).out);
    let input = case.input();
    for stage in
        ["embed/000000.rows", "cells.rows", "semantic-edges.rows", "edges.json", "verdicts.rows"]
    {
        let out = case.path(&format!("killed-{}", stage.replace('/', "-")));
        let args = [&["dedup", arg(&input), "--out", arg(&out)], &GIVEN[..], &options].concat();
        let mut child =
            program().args(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if await_path(&mut child, &out.join(".work").join(stage)) {
            signal(&child, "KILL");
        }
        child.wait().unwrap();
        let ended = nearkin(&[&args[..], &["--resume"]].concat());
        assert_eq!(ended.code, 0, "{stage}: {}", ended.stderr);
        assert_same(&output(&out), &expected, stage);
    }
}

#[test]
fn a_job_does_not_go_on_with_other_vectors() {
    let case = cloud_case(&cloud(60, 8, 6, 13));
    let (input, out, path) = (case.input(), case.path("mixed"), case.path("rows.npy"));
    // One row too few ends the job after its manifest was written.
    write(&path, npy(&cloud(59, 8, 6, 13)));
    let given = format!("given:{}", path.display());
    let base = ["dedup", arg(&input), "--out", arg(&out), "--method", "semantic", "--embed"];
    assert_eq!(nearkin(&[&base[..], &[&given]].concat()).code, 3);
    // The same name with other content, and another name.
    write(&path, npy(&cloud(60, 8, 6, 13)));
    for embed in [given.as_str(), "given:v"] {
        let ended = nearkin(&[&base[..], &[embed, "--resume"]].concat());
        assert_eq!(ended.code, 2, "{embed}: {}", ended.stderr);
        assert!(ended.stderr.contains("resume_mismatch: embed"), "{}", ended.stderr);
    }
}

#[test]
fn a_higher_threshold_later_equals_a_fresh_run_byte_for_byte() {
    let vectors = cloud(300, 10, 12, 17);
    let case = cloud_case(&vectors);
    let low = run(&case, &["--similarity", "0.85", "--keep", "shortest", "--cells", "3"]);
    let mut n_dropped = Vec::new();
    for similarity in ["0.85", "0.9", "0.97", "1"] {
        let fresh = run(&case, &["--similarity", similarity, "--keep", "shortest", "--cells", "3"]);
        let out = case.path(&format!("again-{similarity}"));
        let ended = nearkin(&[
            "dedup",
            "rethreshold",
            "--from",
            arg(&low.out),
            "--out",
            arg(&out),
            "--similarity",
            similarity,
        ]);
        assert_eq!(ended.code, 0, "{similarity}: {}", ended.stderr);
        assert_same(&output(&out), &output(&fresh.out), similarity);
        n_dropped.push(fresh.dropped().len());
    }
    assert!(n_dropped.is_sorted_by(|a, b| a > b), "{n_dropped:?}");
    let refused = |from: &Path, similarity: &str| {
        let out = case.path("refused");
        let ended = nearkin(&[
            "dedup",
            "rethreshold",
            "--from",
            arg(from),
            "--out",
            arg(&out),
            "--similarity",
            similarity,
            "--overwrite",
        ]);
        assert!(!out.join("report.json").exists());
        (ended.code, ended.stderr)
    };
    let (code, message) = refused(&low.out, "0.8");
    assert!(code == 2 && message.contains("similarity 0.85"), "{code} {message}");
    let lexical = case.run(&[]);
    let (code, message) = refused(&lexical.out, "0.9");
    assert!(code == 4 && message.contains("no_edges"), "{code} {message}");
    case.file("a.jsonl", jsonl(&[with(0, &vectors[0])]));
    let (code, message) = refused(&low.out, "0.9");
    assert!(code == 2 && message.contains("rethreshold_mismatch"), "{code} {message}");
}

#[test]
fn the_nearest_record_of_each_is_listed() {
    let case = Case::new();
    case.file("a.jsonl", jsonl(&chain()));
    let job = run(&case, &["--similarity", "0.9"]);
    let rows = read_records(&job.out.join("similarity.jsonl"));
    let told: Vec<(usize, usize)> =
        rows.iter().map(|row| (id(&row["id"]), id(&row["nearest_id"]))).collect();
    // 2 is dropped for 0, since 1 is not kept; the nearest better-ranked record is 1 all the same.
    assert_eq!(told, [(1, 0), (2, 1)]);
    assert_eq!(job.dropped_ids(), ["1", "2"]);
    let similarity = rows[1]["similarity"].as_f64().unwrap();
    assert!((similarity - 10f64.to_radians().cos()).abs() < 1e-6);
}

#[test]
fn both_methods_together_say_which_one_it_was() {
    let page = Random(5).page(60).join(" ");
    let near = format!("{page} and more");
    let case = Case::new();
    let records = [
        json!({"id": 0, "text": page, "v": at(0, 0.0)}),
        json!({"id": 1, "text": near, "v": at(1, 0.0)}),
        json!({"id": 2, "text": "something else", "v": at(0, 1.0)}),
        json!({"id": 3, "text": format!("{page} or less"), "v": at(0, 0.5)}),
        json!({"id": 4, "text": "alone", "v": at(2, 0.0)}),
        json!({"id": 5, "text": page, "v": at(3, 0.0)}),
    ];
    case.file("a.jsonl", jsonl(&records));
    let both = ["--method", "minhash,semantic", "--embed", "given:v"];
    let job = case.run(&both);
    let told: BTreeMap<usize, String> = job
        .dropped()
        .iter()
        .map(|row| (id(&row["id"]), row["method"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [(1, "minhash"), (2, "semantic"), (3, "minhash"), (5, "exact")];
    assert_eq!(told, expected.map(|(id, method)| (id, method.to_owned())).into());
    // 3 is near 0 in words and in meaning: that is one kept copy, not two.
    let copies = case.run(&[&both[..], &["--copies", "2"]].concat());
    assert_eq!(copies.kept_ids(), ["0", "4", "5"], "{:?}", copies.dropped());
    let again = case.path("again");
    let ended = nearkin(&[
        "dedup",
        "rethreshold",
        "--from",
        arg(&job.out),
        "--out",
        arg(&again),
        "--similarity",
        "0.9999",
    ]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let fresh = case.run(&[&both[..], &["--similarity", "0.9999"]].concat());
    assert_same(&output(&again), &output(&fresh.out), "both methods at 0.9999");
    assert_eq!(fresh.dropped_ids(), ["1", "3", "5"]);
}

#[test]
fn a_record_whose_lexical_twin_goes_for_its_meaning_still_has_a_kept_twin() {
    // By words 2 is like 1; by meaning 1 is like 0. 2 may not go for 1, which is not kept, and is not near 0.
    let page = Random(6).page(60).join(" ");
    let case = Case::new();
    let records = [
        json!({"id": 0, "text": "first", "v": at(0, 0.0)}),
        json!({"id": 1, "text": page, "v": at(0, 1.0)}),
        json!({"id": 2, "text": format!("{page} more"), "v": at(1, 0.0)}),
    ];
    case.file("a.jsonl", jsonl(&records));
    let job = case.run(&["--method", "minhash,semantic", "--embed", "given:v"]);
    assert_eq!(job.kept_ids(), ["0", "2"]);
    assert_eq!(job.dropped()[0]["kept_id"], 0);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let case = Case::new();
    case.file("a.jsonl", jsonl(&chain()));
    for (options, word) in [
        (vec!["--similarity", "0.9"], "--similarity"),
        (vec!["--embed", "hashed"], "--embed"),
        (vec!["--method", "semantic", "--embed", "hashed", "--threshold", "0.9"], "--threshold"),
        (
            vec!["--method", "semantic", "--embed", "hashed", "--similarity", "0"],
            "similarity_range",
        ),
        (
            vec!["--method", "semantic", "--embed", "hashed", "--similarity", "1.01"],
            "similarity_range",
        ),
        (
            vec!["--method", "semantic", "--embed", "hashed", "--similarity", "NaN"],
            "similarity_range",
        ),
        (vec!["--method", "semantic", "--embed", "hashed", "--cells", "0"], "cells"),
        (vec!["--method", "semantic", "--embed", "hashed", "--no-verify"], "--no-verify"),
        (vec!["--method", "semantic", "--embed", "hashed", "--lines"], "--lines"),
        (vec!["--method", "semantic", "--embed", "nothing"], "embed"),
        (vec!["--method", "semantic", "--embed", "bert:model"], "bert"),
        (vec!["--method", "meaning"], "method"),
        (vec!["--method", "semantic", "--embed", "given:v", "--index", "index"], "--index"),
    ] {
        let message = case.refused(&options);
        assert!(message.contains(word), "{options:?}: {message}");
    }
    let input = case.input();
    let code = |options: &[&str]| {
        let out = case.path("no");
        let base =
            ["dedup", arg(&input), "--out", arg(&out), "--overwrite", "--method", "semantic"];
        let ended = nearkin(&[&base[..], options].concat());
        (ended.code, ended.stderr)
    };
    for device in ["cuda", "wgpu"] {
        let (code, message) = code(&["--embed", "hashed", "--device", device]);
        let is_absent = code == 9 && message.contains("device_unavailable");
        assert!(is_absent || code == 0, "neither used nor refused: {code} {message}");
    }
    let (absent, message) = code(&["--embed", "given:w"]);
    assert!(absent == 3 && message.contains("given_missing"), "{absent} {message}");
    case.file("b.txt", "a text has no fields");
    let (text, message) = code(&["--embed", "given:w"]);
    assert!(text == 2 && message.contains("given_format"), "{text} {message}");
}

#[test]
fn the_report_shows_what_was_done() {
    let vectors = cloud(200, 8, 8, 19);
    let case = cloud_case(&vectors);
    let job = run(&case, &["--similarity", "0.9", "--cells", "3", "--device", "cpu"]);
    let semantic = &job.report()["semantic"];
    assert!(semantic["device_why"].as_str().unwrap().starts_with("cpu: "), "{semantic}");
    let sum = |name: &str| -> u64 {
        semantic[name].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum()
    };
    assert_eq!(sum("histogram"), semantic["n_pairs"].as_u64().unwrap());
    assert_eq!(sum("nearest_histogram"), 200);
    assert!(sum("histogram") > 0);
    let page = fs::read_to_string(job.out.join("report.html")).unwrap();
    for words in [
        "How near the records are in meaning",
        "95 % interval",
        "given/v/8",
        "The largest clusters",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert!(page.contains("--embed given:v") && !page.contains("--embedder"), "the command");
}

#[test]
fn an_endpoint_serves_a_job_and_its_model_is_in_the_manifest() {
    let case = Case::new();
    let mut random = Random(23);
    let pages: Vec<Vec<String>> = (0..30).map(|_| random.page(20)).collect();
    let mut records: Vec<Value> = pages
        .iter()
        .map(|page| page.join(" "))
        .zip(0..)
        .map(|(text, id)| record(id, &text))
        .collect();
    records.push(record(30, &pages[4].iter().rev().cloned().collect::<Vec<_>>().join(" ")));
    case.file("a.jsonl", jsonl(&records));
    let url = serve(|_, body, head| {
        if head.contains("authorization: bearer secret") {
            (200, vectors(&body))
        } else {
            (401, "no key".into())
        }
    });
    let embed = format!("{url}#mini");
    let (input, out) = (case.input(), case.path("out"));
    let call = |key: Option<&str>| {
        let mut command = program();
        command.args(["dedup", arg(&input), "--out", arg(&out), "--overwrite"]);
        command.args(["--method", "semantic", "--embed", &embed]);
        command.env_remove("NEARKIN_EMBED_API_KEY");
        if let Some(key) = key {
            command.env("NEARKIN_EMBED_API_KEY", key);
        }
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, message) = call(None);
    assert!(
        code == 6 && message.contains("embed_http") && message.contains("no key"),
        "{code} {message}"
    );
    let (code, message) = call(Some("secret"));
    assert_eq!(code, 0, "{message}");
    let job = Job { out: out.clone() };
    assert_eq!(job.dropped_ids(), ["30"]);
    assert_eq!(job.dropped()[0]["kept_id"], 4);
    assert_eq!(job.report()["semantic"]["embedder"], "http/mini/256");
}

#[test]
fn an_index_of_texts_serves_semantic_jobs_too() {
    let case = Case::new();
    let mut random = Random(29);
    let page = random.page(20);
    let turned: Vec<String> = page.iter().rev().cloned().collect();
    let index = case.path("index");
    let options = ["--method", "semantic", "--embed", "hashed", "--index", arg(&index)];
    case.file("a.jsonl", jsonl(&[record(1, &page.join(" "))]));
    assert_eq!(case.run(&options).kept_ids(), ["1"]);
    case.file("a.jsonl", jsonl(&[record(2, &turned.join(" ")), record(3, "alone")]));
    let job = case.run(&options);
    assert_eq!(job.kept_ids(), ["3"]);
    assert_eq!(job.dropped()[0]["kept_id"], 1);
}

#[cfg(feature = "static-model")]
#[test]
fn the_shipped_model_finds_a_paraphrase_among_questions() {
    let case = Case::new();
    let texts = [
        "How can I change the password of my account?",
        "What is the capital of France?",
        "How can I change my account password?",
        "Which city is the capital of Spain?",
        "",
        "",
    ];
    let records: Vec<Value> = texts.iter().zip(0..).map(|(text, id)| record(id, text)).collect();
    case.file("a.jsonl", jsonl(&records));
    let job = case.run(&["--method", "semantic", "--similarity", "0.9"]);
    assert_eq!(job.dropped_ids(), ["2"], "{:?}", job.dropped());
    assert_eq!(job.report()["semantic"]["n_without_vector"], 2);
    let by_id: HashMap<String, u64> = files_below(&job.out.join("kept"))
        .iter()
        .map(|name| (name.clone(), read_records(&job.out.join("kept").join(name)).len() as u64))
        .collect();
    assert_eq!(by_id["a.jsonl"], 5);
}

#[cfg(feature = "bert")]
#[test]
fn a_bert_finds_a_paraphrase_and_the_report_says_which_texts_it_cut() {
    let Some(folder) = std::env::var_os("NEARKIN_BERT_DIR") else {
        return crate::support::skip("bert", "NEARKIN_BERT_DIR names no folder with a model");
    };
    let case = Case::new();
    let long = "The report names the record that stays. ".repeat(40);
    let texts =
        ["How do I change my password?", "Eggs and flour.", "How can I change my password?", &long];
    let records: Vec<Value> = texts.iter().zip(0..).map(|(text, id)| record(id, text)).collect();
    case.file("a.jsonl", jsonl(&records));
    let embed = format!("bert:{}", folder.to_str().unwrap());
    let options =
        ["--method", "semantic", "--embed", &embed, "--similarity", "0.9", "--threads", "2"];
    let job = case.run(&options);
    assert_eq!(job.dropped_ids(), ["2"], "{:?}", job.dropped());
    let report = job.report();
    assert_eq!(report["semantic"]["n_cut"], 1);
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("texts_cut: 1 records"), "{warnings}");
    assert!(report["semantic"]["embedder"].as_str().unwrap().starts_with("bert/"), "{report}");
    let one = case.run(&[&options[..7], &["1"]].concat());
    assert_same(&output(&one.out), &output(&job.out), "threads");
}
