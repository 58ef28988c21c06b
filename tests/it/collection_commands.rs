//! What is kept of a collection can be told, verified, taken elsewhere and measured from the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nearkin::core::mix::stream;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Run;

const DIM: usize = 8;

/// A folder with a folder of collections, in which `c` has points.
struct Place(TempDir);

impl Place {
    fn new(n_points: u64) -> Self {
        let place = Self(TempDir::new().unwrap());
        place.add(0..n_points);
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn collection(&self) -> PathBuf {
        self.at("data/c")
    }

    /// `nearkin` in this folder.
    fn run(&self, args: &str) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearkin"));
        command.args(args.split_whitespace()).current_dir(self.0.path());
        command.output().expect("the program starts").into()
    }

    fn runs(&self, args: &str) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args}: {}", run.stderr);
        run.stdout
    }

    /// Points with vectors and payloads that their ids decide.
    fn add(&self, ids: std::ops::Range<u64>) {
        let line = |id: u64| {
            let vector: Vec<f64> =
                (0..DIM as u64).map(|i| (stream(id, i) % 1000) as f64 / 500.0 - 1.0).collect();
            let payload = json!({"owner": format!("t{}", id % 3), "size": id});
            format!("{}\n", json!({"id": id, "vector": vector, "payload": payload}))
        };
        fs::write(self.at("p.jsonl"), ids.map(line).collect::<String>()).unwrap();
        self.runs(
            "ingest data --collection c --jsonl p.jsonl --metric l2 --tenant-field owner \
             --index-field size:integer",
        );
    }

    /// A file of queries.
    fn queries(&self, n: usize) {
        let mut bytes = Vec::new();
        for q in 0..n as u64 {
            bytes.extend((DIM as i32).to_le_bytes());
            for i in 0..DIM as u64 {
                let value = (stream(9000 + q, i) % 1000) as f32 / 500.0 - 1.0;
                bytes.extend(value.to_le_bytes());
            }
        }
        fs::write(self.at("q.fvecs"), bytes).unwrap();
    }

    /// Exact answers of a collection, without the way that found them: ways are chosen by measured times.
    fn answers(&self, collection: &str) -> Vec<(Value, Value)> {
        self.queries(20);
        self.runs(&format!(
            "search data --collection {collection} --vectors q.fvecs --exact --out r.jsonl --overwrite"
        ));
        let lines = fs::read_to_string(self.at("r.jsonl")).unwrap();
        let answers = lines.lines().map(|line| {
            let answer: Value = serde_json::from_str(line).unwrap();
            (answer["ids"].clone(), answer["scores"].clone())
        });
        answers.collect()
    }

    fn stats(&self) -> Value {
        serde_json::from_str(&self.runs("stats data --collection c")).unwrap()
    }
}

fn json_of(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"))
}

/// The file in a folder whose name ends so.
fn file_of(folder: &Path, end: &str) -> PathBuf {
    let mut all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    all.find(|path| path.to_str().unwrap().ends_with(end)).unwrap()
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn stats_tell_what_there_is_and_what_each_part_takes() {
    let place = Place::new(600);
    let stats = place.stats();
    assert_eq!(stats["points"], 600);
    assert_eq!(stats["tenants"], 3);
    assert_eq!(stats["index"]["sealed"], true);
    assert_eq!(stats["index"]["version"], stats["version"]);
    assert_eq!(stats["index"]["points_since"], 0);
    let vector = &stats["vectors"][0];
    assert_eq!((&vector["name"], &vector["metric"]), (&json!("default"), &json!("l2")));
    assert_eq!((&vector["dim"], &vector["dtype"]), (&json!(DIM), &json!("f32")));
    assert_eq!(stats["parts"]["rows"], json!({"bytes": 600 * DIM * 4, "bytes_per_row": 32.0}));
    let bytes = |part: &Value| part["bytes"].as_u64().unwrap();
    let parts = stats["parts"].as_object().unwrap();
    let sum: u64 = parts.iter().filter(|(name, _)| *name != "total").map(|(_, p)| bytes(p)).sum();
    assert_eq!(bytes(&parts["total"]), sum);
    for name in ["codes", "exact_codes", "tree", "graph", "columns", "places"] {
        assert!(bytes(&parts[name]) > 0, "{name}");
    }
    let fields: Vec<&Value> =
        stats["columns"].as_array().unwrap().iter().map(|column| &column["field"]).collect();
    assert_eq!(fields, ["owner", "size"]);
    // Files are as long as they say.
    let files = stats["store"]["files"].as_object().unwrap();
    let length = |name: &str| fs::metadata(place.collection().join(name)).unwrap().len();
    assert!(files.len() >= 4);
    for (name, n_bytes) in files.iter().filter(|(name, _)| *name != "lock") {
        assert_eq!(n_bytes.as_u64().unwrap(), length(name), "{name}");
    }
    assert_eq!(bytes(&stats["store"]["record"]), length("record.redb"));
    // Without a name, all collections are told.
    let all: Value = serde_json::from_str(&place.runs("stats data")).unwrap();
    assert_eq!(all["collections"].as_array().unwrap().len(), 1);
    assert_eq!(all["collections"][0]["points"], 600);
}

#[test]
fn an_index_is_brought_to_all_points_once_and_rebuilt_when_asked() {
    let place = Place::new(500);
    place.add(490..540);
    assert_eq!(place.stats()["index"]["points_since"], 0, "ingest brings it to all");
    let answers = place.answers("c");
    assert!(place.runs("index data --collection c").contains("540 points of data/c were in"));
    for file in ["places.sealed", "vector-0.sealed", "columns.sealed"] {
        fs::remove_file(file_of(&place.collection(), file)).unwrap();
    }
    let stats = place.stats();
    assert_eq!((&stats["index"]["sealed"], &stats["points"]), (&json!(false), &json!(540)));
    assert_eq!(stats["parts"]["graph"]["bytes"], 0);
    assert!(place.runs("index data --collection c").contains("540 points of data/c are in"));
    assert_eq!(place.stats()["index"]["sealed"], true);
    assert!(place.runs("index data --collection c --rebuild").contains("are in its index"));
    assert_eq!(place.answers("c"), answers);
}

#[test]
fn a_damaged_index_is_named_by_file_and_offset_and_built_again() {
    let place = Place::new(400);
    let answers = place.answers("c");
    let whole = place.run("verify data");
    assert_eq!(whole.code, 0, "{whole:?}");
    assert!(whole.stdout.contains("data/c: whole, 4 files read"), "{whole:?}");
    let path = file_of(&place.collection(), "vector-0.sealed");
    let n_bytes = fs::metadata(&path).unwrap().len() as usize;
    for offset in [3, n_bytes / 2] {
        let before = fs::read(&path).unwrap();
        flip(&path, offset);
        let run = place.run("verify data --collection c --json");
        assert_eq!(run.code, 5, "byte {offset}: {run:?}");
        let found = json_of(&run);
        assert_eq!(found["whole"], false);
        let damages = found["folders"][0]["damages"].as_array().unwrap();
        let [damage] = damages.as_slice() else { panic!("byte {offset}: {damages:?}") };
        assert_eq!(damage["file"], path.file_name().unwrap().to_str().unwrap());
        // The section that the byte is in starts before it.
        assert!(damage["offset"].as_u64().unwrap() <= offset as u64, "{damage}");
        let lines = place.run("verify data").stdout;
        let named = format!("{} at byte {}: ", damage["file"].as_str().unwrap(), damage["offset"]);
        assert!(lines.contains(&named) && lines.contains("; lost: nothing"), "{lines}");
        fs::write(&path, before).unwrap();
    }
    // With a header that cannot be read, answers come from the record, and the index is built again.
    flip(&path, 3);
    let run = place.run("index data --collection c");
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("the index cannot be used"), "{run:?}");
    assert_eq!(place.run("verify data").code, 0);
    assert_eq!(place.answers("c"), answers);
}

#[test]
fn a_damaged_record_is_found_and_a_restored_snapshot_answers_as_before() {
    let place = Place::new(400);
    let answers = place.answers("c");
    place.runs("snapshot data --collection c --out kept");
    place.runs("snapshot data --collection c --out linked --link");
    for folder in ["kept", "linked"] {
        assert!(place.runs(&format!("verify {folder}")).contains("whole"), "{folder}");
    }
    let record = place.collection().join("record.redb");
    let bytes = fs::read(&record).unwrap();
    // Bytes of payloads, which the record's own checksums cover.
    let owner = b"\"owner\":\"t1\"";
    let offset = bytes.windows(owner.len()).position(|window| window == owner).unwrap();
    flip(&record, offset + 10);
    let run = place.run("verify data --json");
    assert_eq!(run.code, 5, "{run:?}");
    let found = json_of(&run);
    let damages = found["folders"][0]["damages"].as_array().unwrap();
    let named = damages.iter().find(|damage| damage["file"] == "record.redb").expect("named");
    let page = named["offset"].as_u64().unwrap() as usize;
    assert!(page <= offset + 10, "{named}");
    assert!(!named["lost"].as_str().unwrap().is_empty());
    // A damaged collection gives no snapshot that says it is whole.
    let refused = place.run("snapshot data --collection c --out bad");
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(!place.at("bad").exists());
    for folder in ["kept", "linked"] {
        place.runs(&format!("restore data --collection {folder} --from {folder}"));
        assert_eq!(place.answers(folder), answers, "{folder}");
        let stats: Value =
            serde_json::from_str(&place.runs(&format!("stats data --collection {folder}")))
                .unwrap();
        assert_eq!(stats["index"]["sealed"], true, "a snapshot opens with its index");
        assert_eq!(stats["notes"], json!([]));
    }
}

#[test]
fn a_damaged_snapshot_is_found_and_makes_no_collection() {
    let place = Place::new(300);
    place.runs("snapshot data --collection c --out kept");
    let path = file_of(&place.at("kept"), "vector-0.sealed");
    let offset = fs::metadata(&path).unwrap().len() as usize / 2;
    flip(&path, offset);
    let run = place.run("verify kept");
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stdout.contains("vector-0.sealed at byte "), "{run:?}");
    let run = place.run("restore data --collection back --from kept");
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("snapshot_checksum"), "{run:?}");
    assert!(!place.at("data/back").exists());
    // What the attempt left, if anything, is no collection.
    assert!(place.runs("verify data").contains("data/c: whole"));
}

#[test]
fn what_cannot_be_done_has_its_exit_code() {
    let place = Place::new(50);
    place.runs("snapshot data --collection c --out kept");
    for (args, code, says) in [
        ("stats data --collection d", 4, "not_found"),
        ("stats nowhere", 4, "not_found"),
        ("verify data --collection d", 4, "not_found"),
        ("verify nowhere", 4, "not_found"),
        ("verify data --collection ../c", 2, "collection_name"),
        ("verify data --collection c.part", 4, "not_found"),
        ("snapshot data --collection d --out e", 4, "not_found"),
        ("snapshot data --collection c --out kept", 2, "output_exists"),
        ("restore data --collection c --from kept", 2, "output_exists"),
        ("restore new --collection c --from nowhere", 4, "not_found"),
        ("index data --collection d", 4, "not_found"),
        ("bench data", 2, "--collection"),
        ("bench --collection c", 2, "DIR"),
        ("bench data --collection c --rows 5", 2, "--rows"),
        ("bench data --collection c --recalls 1.5", 2, "exact"),
        ("bench data --collection d", 4, "not_found"),
        ("bench data --collection c --threads 0", 2, "threads"),
    ] {
        let run = place.run(args);
        assert_eq!(run.code, code, "{args}: {run:?}");
        assert!(run.stderr.contains(says), "{args}: {run:?}");
    }
    assert!(!place.at("new").exists());
}

#[test]
fn a_collection_is_measured_against_its_own_exact_answers() {
    let place = Place::new(2000);
    let lines = |args: &str| -> Vec<Value> {
        let text = place.runs(&format!("bench data --collection c --passes 2 {args}"));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let curve = lines("--queries 100");
    let asked: Vec<&Value> = curve.iter().map(|line| &line["asked"]).collect();
    assert_eq!(asked, ["recall 0.9", "recall 0.95", "recall 0.98", "recall 0.99", "exact"]);
    for line in &curve {
        assert_eq!((&line["queries"], &line["k"]), (&json!(100), &json!(10)));
        assert_eq!(line["passes"].as_array().unwrap().len(), 2);
        let best = line["passes"].as_array().unwrap().iter().map(|rate| rate.as_f64().unwrap());
        assert_eq!(line["queries_per_second"].as_f64().unwrap(), best.fold(0.0, f64::max));
        let of = |name: &str| line[name].as_f64().unwrap();
        assert!(of("p50_us") <= of("p95_us") && of("p95_us") <= of("p99_us"), "{line}");
        let n_ways: u64 =
            line["ways"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(n_ways, 100);
        assert!(of("recall") >= 0.8, "{line}");
    }
    assert_eq!(curve[4]["recall"], 1.0);
    // A beam as narrow as can be misses some; recall is not made up.
    place.queries(50);
    let efs = lines("--vectors q.fvecs --efs 10,500 --k 10 --threads 2");
    assert_eq!(efs[0]["queries_are"], "given");
    assert_eq!((&efs[0]["asked"], &efs[1]["asked"]), (&json!("ef 10"), &json!("ef 500")));
    let recall = |line: &Value| line["recall"].as_f64().unwrap();
    assert!(recall(&efs[0]) < 1.0 || efs[0]["ways"]["graph"].is_null(), "{efs:?}");
    assert!(recall(&efs[1]) >= recall(&efs[0]));
    // Tenants and filters are asked for line by line.
    fs::write(place.at("t.txt"), "t0\nt1\n".repeat(25)).unwrap();
    let filter = "{\"must\": [{\"key\": \"size\", \"range\": {\"lt\": 40}}]}\n";
    fs::write(place.at("f.jsonl"), filter.repeat(50)).unwrap();
    let few =
        lines("--vectors q.fvecs --tenants-from t.txt --filters-from f.jsonl --recalls 0.9,exact");
    assert!(few.iter().all(|line| recall(line) == 1.0), "{few:?}");
    let run = place.run("bench data --collection c --tenants-from t.txt");
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("50 lines for 1000 queries"), "{run:?}");
    let run = place.run("bench data --collection c --vectors q.fvecs --storage u8");
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("vector_range_u8"), "{run:?}");
}

#[test]
fn recall_of_a_run_is_told_where_it_was_asked_for() {
    let place = Place::new(4000);
    place.queries(200);
    let search = |more: &str| -> Value {
        let search = "search data --collection c --vectors q.fvecs --ef 10 --out o.jsonl";
        let run = place.run(&format!("{search} --overwrite --batch 50 {more}"));
        assert_eq!(run.code, 0, "{run:?}");
        serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap()
    };
    assert_eq!(search("").get("recall"), None);
    let told = search("--check-recall 1");
    let n_near: u64 = ["graph", "tree", "signs", "coded", "coded_together", "coded_in_blocks"]
        .iter()
        .filter_map(|way| told["plans"][way].as_u64())
        .sum();
    let of = |name: &str| told["recall"][name].as_u64().unwrap();
    assert_eq!(of("checked") + of("left_out"), n_near, "{told}");
    if n_near > 0 {
        assert!((0.5..=1.0).contains(&told["recall"]["share"].as_f64().unwrap()), "{told}");
    }
    let run =
        place.run("search data --collection c --vectors q.fvecs --out p.jsonl --check-recall 2");
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("expected a number from 0 to 1"), "{run:?}");
}

#[test]
fn help_says_what_each_command_does_and_takes() {
    let place = Place::new(1);
    for (command, says) in [
        ("stats", "what collections hold"),
        ("verify", "what is damaged, where"),
        ("snapshot", "--link"),
        ("restore", "must not exist"),
        ("index", "--rebuild"),
        ("bench", "--recalls"),
    ] {
        let help = place.runs(&format!("{command} --help"));
        assert!(help.contains(says) && help.contains("DIR"), "{command}: {help}");
    }
}
