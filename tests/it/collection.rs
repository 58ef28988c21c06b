//! A collection answers completely, whatever the filter, and no tenant sees another's points.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nearkin::backend::plain;
use nearkin::core::ids::PointId;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Dtype, Rows, Values};
use nearkin::engine::{Ask, Collection, How, NewPoint, Settings, Vectors, Writer};
use nearkin::plan::cost::Way;
use nearkin::plan::filter::Filter;
use nearkin::plan::filter::plain::{Point, passes};
use nearkin::store::columns::Kind;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Run;

pub fn pool(n_threads: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap())
}

/// Rows around a few centres, so that neighbors are near and ties occur.
pub fn rows(dtype: Dtype, n_rows: usize, dim: usize, seed: u64) -> Rows {
    let uniform = |seed, i| (stream(seed, i) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    let element = |place: usize| {
        let (row, i) = ((place / dim) as u64, (place % dim) as u64);
        let own = if row % 7 == 6 { row - 1 } else { row };
        0.5 * uniform(7, (own % 9) << 20 | i) + 0.3 * uniform(seed, own * dim as u64 + i)
    };
    let all = (0..n_rows * dim).map(element);
    let values = match dtype {
        Dtype::F32 => Values::F32(all.map(|x| x as f32).collect()),
        Dtype::F16 => Values::F16(all.map(half::f16::from_f64).collect()),
        Dtype::U8 => Values::U8(all.map(|x| (x * 120.0 + 128.0) as u8).collect()),
        Dtype::I8 => Values::I8(all.map(|x| (x * 120.0) as i8).collect()),
    };
    Rows::new(values, dim).unwrap()
}

pub fn payload(seed: u64, i: u64) -> Value {
    let pick = |salt: u64, n: u64| stream(seed ^ salt, i) % n;
    let tenants: Vec<String> = (0..pick(1, 3)).map(|t| format!("t{}", pick(2 + t, 40))).collect();
    let kind = ["source", "docs", "page"][pick(9, 3) as usize];
    let mut payload = json!({
        "owner": tenants,
        "kind": kind,
        "size": pick(10, 1000),
        "meta": {"depth": pick(11, 5)},
    });
    if pick(12, 10) == 0 {
        payload.as_object_mut().unwrap().remove("kind");
    }
    payload
}

fn settings(dtype: Dtype, dim: usize, metric: Metric) -> Settings {
    Settings {
        tenant_field: Some("owner".parse().unwrap()),
        indexed: vec![
            ("kind".parse().unwrap(), Kind::Keyword),
            ("size".parse().unwrap(), Kind::Integer),
        ],
        ..Settings::of_vector(dim, metric, dtype)
    }
}

fn k(k: usize) -> How {
    How { k, ..How::default() }
}

/// What a collection holds, as a map.
pub type Model = BTreeMap<PointId, (Vec<f32>, Value)>;

pub struct Made {
    _folder: TempDir,
    pub path: std::path::PathBuf,
    pub model: Model,
}

/// A collection that was written in two goes; the second replaces some points of the first.
pub fn made(dtype: Dtype, metric: Metric, n_rows: usize, dim: usize) -> Made {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("c");
    let settings = settings(dtype, dim, metric);
    let mut model = Model::new();
    for (seed, ids) in [(1, 0..n_rows), (2, n_rows / 3..n_rows / 2)] {
        let rows = rows(dtype, ids.len(), dim, seed);
        let points: Vec<NewPoint> = ids
            .map(|i| NewPoint { id: PointId::Num(i as u64 * 3), payload: payload(seed, i as u64) })
            .collect();
        // A writer holds the folder; it is let go before the next.
        Writer::open(&path, &settings).unwrap().upsert(&points, &Vectors::only(&rows)).unwrap();
        for (i, point) in points.into_iter().enumerate() {
            let mut row = vec![0.0; dim];
            rows.widen(i, &mut row);
            model.insert(point.id, (row, point.payload));
        }
    }
    Made { _folder: folder, path, model }
}

fn may_read(payload: &Value, tenant: &str) -> bool {
    payload["owner"].as_array().unwrap().iter().any(|owner| owner == tenant)
}

/// The distances of the points that a question is about, nearest first.
pub fn truth(made: &Made, query: &Rows, ask: &Ask, metric: Metric) -> Vec<(f32, PointId)> {
    let mut all: Vec<(f32, PointId)> = made
        .model
        .iter()
        .filter(|(id, (_, payload))| {
            let point = Point { payload, id: Some(**id), has_vector: &|name| name == "default" };
            ask.tenant().is_none_or(|tenant| may_read(payload, tenant))
                && passes(ask.filter(), point)
        })
        .map(|(&id, (row, _))| {
            let row = Rows::new(Values::F32(row.clone().into()), row.len()).unwrap();
            (plain::distance(metric, (query, 0), (&row, 0)), id)
        })
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all
}

pub fn filter(value: Value) -> Filter {
    Filter::from_json(&value).unwrap()
}

pub fn asks() -> Vec<Ask> {
    let filters = [
        json!({}),
        json!({"must": [{"key": "kind", "match": {"value": "docs"}}]}),
        json!({"must": [{"key": "size", "range": {"lt": 20}}]}),
        json!({"must_not": [{"key": "kind", "match": {"any": ["docs", "page"]}}]}),
        json!({"should": [{"key": "size", "range": {"gte": 900}}, {"key": "meta.depth", "match": {"value": 2}}]}),
        json!({"must": [{"has_id": [0, 3, 6, 9, 12, 1, 2]}]}),
        json!({"must": [{"is_empty": {"key": "kind"}}]}),
        json!({"must": [{"key": "size", "range": {"gt": 5000}}]}),
    ];
    let mut asks = Vec::new();
    for tenant in [None, Some("t3"), Some("t17"), Some("nobody")] {
        for one in &filters {
            asks.push(Ask::new(tenant, filter(one.clone())));
        }
    }
    asks
}

#[test]
fn every_answer_is_whole_and_exact_for_any_filter_and_tenant() {
    let cases = [
        (Dtype::F32, Metric::Cosine, 2500, 48),
        (Dtype::F16, Metric::Dot, 900, 33),
        (Dtype::U8, Metric::L2, 900, 17),
        (Dtype::F32, Metric::L1, 600, 8),
        (Dtype::I8, Metric::Cosine, 300, 20),
        (Dtype::F32, Metric::L2, 1, 5),
    ];
    for (dtype, metric, n_rows, dim) in cases {
        let made = made(dtype, metric, n_rows, dim);
        let collection = Collection::open(&made.path, &pool(2), 1 << 30).unwrap();
        assert_eq!(collection.n_points().unwrap(), made.model.len() as u64);
        let asks = asks();
        let queries = rows(dtype, asks.len(), dim, 5);
        let mut ways = BTreeSet::new();
        for k in [1, 10, 1000] {
            let answers = collection.search(&queries, &asks, &How { k, ..How::default() }).unwrap();
            for (q, (ask, answer)) in asks.iter().zip(&answers).enumerate() {
                let truth = truth(&made, &queries.slice(q..q + 1), ask, metric);
                let place = format!("{dtype:?} {metric} k {k}: {ask:?}");
                ways.insert(answer.way);
                assert_eq!(answer.n_matches, truth.len() as u64, "{place}");
                assert_eq!(answer.points.len(), k.min(truth.len()), "{place}");
                let ids: BTreeSet<PointId> = answer.points.iter().map(|point| point.id).collect();
                assert_eq!(ids.len(), answer.points.len(), "{place}: a point twice");
                let by_id: BTreeMap<PointId, f32> = truth.iter().map(|&(d, id)| (id, d)).collect();
                for (point, wanted) in answer.points.iter().zip(&truth) {
                    let own =
                        by_id.get(&point.id).unwrap_or_else(|| panic!("{place}: {}", point.id));
                    let size = 1.0 + wanted.0.abs();
                    assert!((own - wanted.0).abs() <= 1e-4 * size, "{place}: {own} {}", wanted.0);
                    assert!((point.score - metric.score(*own)).abs() <= 1e-4 * size, "{place}");
                }
            }
        }
        assert!(ways.contains(&Way::Nothing), "some tenants may read nothing");
    }
}

#[test]
fn queries_together_and_one_by_one_have_the_same_answers_with_any_threads() {
    let made = made(Dtype::F32, Metric::Cosine, 2000, 40);
    let asks = asks();
    let queries = rows(Dtype::F32, asks.len(), 40, 6);
    let mut all = Vec::new();
    for n_threads in [1, 3] {
        let collection = Collection::open(&made.path, &pool(n_threads), 1 << 30).unwrap();
        let together = collection.search(&queries, &asks, &k(7)).unwrap();
        all.push(together.into_iter().map(|answer| answer.points).collect::<Vec<_>>());
        let alone = (0..asks.len()).map(|q| {
            let some = collection.search(&queries.slice(q..q + 1), &asks[q..q + 1], &k(7)).unwrap();
            some.into_iter().next().unwrap().points
        });
        all.push(alone.collect());
    }
    for answers in &all[1..] {
        for (one, first) in answers.iter().zip(&all[0]) {
            let ids = |points: &[nearkin::engine::Found]| -> Vec<PointId> {
                points.iter().map(|point| point.id).collect()
            };
            assert_eq!(ids(one), ids(first));
        }
    }
}

#[test]
fn equivalent_filters_have_equal_answers_and_a_stricter_one_never_gains() {
    let made = made(Dtype::F32, Metric::L2, 1500, 24);
    let collection = Collection::open(&made.path, &pool(1), 1 << 30).unwrap();
    let queries = rows(Dtype::F32, 20, 24, 8);
    let ask = |value: Value| vec![Ask::new(Some("t3"), filter(value)); 20];
    let plain = json!({"must": [{"key": "kind", "match": {"any": ["docs", "page"]}}]});
    let turned = json!({"must_not": [{"must_not": [{"should": [
        {"key": "kind", "match": {"value": "page"}}, {"key": "kind", "match": {"value": "docs"}}]}]}]});
    let stricter = json!({"must": [
        {"key": "kind", "match": {"any": ["docs", "page"]}}, {"key": "size", "range": {"lt": 500}}]});
    let [plain, turned, stricter] = [plain, turned, stricter]
        .map(|value| collection.search(&queries, &ask(value), &k(10)).unwrap());
    for ((plain, turned), stricter) in plain.iter().zip(&turned).zip(&stricter) {
        assert_eq!(plain.points, turned.points);
        assert!(
            stricter.n_matches < plain.n_matches && stricter.points.len() <= plain.points.len()
        );
        for (loose, strict) in plain.points.iter().zip(&stricter.points) {
            assert!(loose.score <= strict.score + 1e-6, "a stricter filter found a nearer point");
        }
    }
}

#[test]
fn a_filter_is_evaluated_once_and_its_slots_are_every_tenants_own() {
    let made = made(Dtype::F32, Metric::Cosine, 600, 12);
    let collection = Collection::open(&made.path, &pool(1), 1 << 30).unwrap();
    let query = rows(Dtype::F32, 1, 12, 9);
    let no_index = json!({"must": [{"key": "meta.depth", "match": {"value": 2}}]});
    let mut read = Vec::new();
    for tenant in [Some("t3"), None, Some("t17"), Some("nobody"), Some("t3")] {
        let ask = Ask::new(tenant, filter(no_index.clone()));
        let answer = &collection.search(&query, std::slice::from_ref(&ask), &k(1000)).unwrap()[0];
        let truth = truth(&made, &query, &ask, Metric::Cosine);
        let found: BTreeSet<PointId> = answer.points.iter().map(|point| point.id).collect();
        assert_eq!(found, truth.iter().map(|&(_, id)| id).collect(), "{tenant:?}");
        read.push(answer.payloads_read.0);
    }
    assert_eq!(read, [600, 0, 0, 0, 0]);
    // More filters than are remembered: all are answered.
    for n in 0..300 {
        let one = json!({"must": [{"key": "size", "range": {"lt": n}}]});
        let ask = Ask::new(None, filter(one));
        let answer = &collection.search(&query, std::slice::from_ref(&ask), &k(1000)).unwrap()[0];
        assert_eq!(answer.n_matches, truth(&made, &query, &ask, Metric::Cosine).len() as u64);
    }
}

#[test]
fn what_cannot_be_stored_or_asked_is_refused_and_nothing_is_written() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("c");
    let own = settings(Dtype::F32, 4, Metric::Cosine);
    let mut writer = Writer::open(&path, &own).unwrap();
    let good = rows(Dtype::F32, 2, 4, 1);
    let points = |payload: Value| -> Vec<NewPoint> {
        (0..2).map(|i| NewPoint { id: PointId::Num(i), payload: payload.clone() }).collect()
    };
    let zero = Rows::new(Values::F32(vec![0.0; 8].into()), 4).unwrap();
    for (payload, rows, code) in [
        (json!([1]), &good, "payload_type"),
        (json!({"owner": 1.5}), &good, "tenant_value"),
        (json!({"owner": {"a": 1}}), &good, "tenant_value"),
        (json!({"owner": ""}), &good, "tenant_name"),
        (json!({}), &zero, "vector_zero_norm"),
        (json!({}), &rows(Dtype::F32, 2, 5, 1), "vector_dim"),
        (json!({}), &rows(Dtype::F16, 2, 4, 1), "vector_dtype"),
    ] {
        let error = writer.upsert(&points(payload), &Vectors::only(rows)).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    let locked = Writer::open(&path, &own).err().unwrap();
    assert_eq!(locked.code(), "locked");
    drop(writer);
    let mut other = own.clone();
    other.vectors[0].metric = Metric::Dot;
    assert_eq!(Writer::open(&path, &other).err().unwrap().code(), "settings_differ");
    let collection = Collection::open(&path, &pool(1), 1 << 20).unwrap();
    assert_eq!(collection.n_points().unwrap(), 0);
    let ask = [Ask::default()];
    let nothing = collection.search(&good.slice(0..1), &ask, &k(3)).unwrap();
    assert!(nothing[0].points.is_empty() && nothing[0].way == Way::Nothing);
    for (queries, n, code) in [
        (good.slice(0..1), 0, "k_range"),
        (good.slice(0..1), 1025, "k_range"),
        (rows(Dtype::F32, 1, 5, 1), 1, "vector_dim"),
        (rows(Dtype::U8, 1, 4, 1), 1, "vector_dtype"),
        (zero.slice(0..1), 1, "vector_zero_norm"),
    ] {
        assert_eq!(collection.search(&queries, &ask, &k(n)).unwrap_err().code(), code);
    }
}

fn save_npy(path: &Path, rows: &Rows) {
    let kind = match rows.dtype() {
        Dtype::F32 => "<f4",
        Dtype::F16 => "<f2",
        Dtype::U8 => "|u1",
        Dtype::I8 => "|i1",
    };
    let mut header = format!(
        "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}, {}), }}",
        rows.n_rows(),
        rows.dim()
    );
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(rows.values().bytes());
    fs::write(path, bytes).unwrap();
}

fn nearkin(args: &[&str]) -> Run {
    let child = Command::new(env!("CARGO_BIN_EXE_nearkin"))
        .args(args)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    crate::support::wait(child.unwrap())
}

#[test]
fn files_go_in_and_answers_come_out() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (n, dim) = (700, 12);
    let base = rows(Dtype::F32, n, dim, 1);
    save_npy(folder.path().join("x.npy").as_path(), &base);
    save_npy(folder.path().join("q.npy").as_path(), &base.slice(10..13));
    let lines: String = (0..n as u64).map(|i| format!("{}\n", payload(1, i))).collect();
    fs::write(at("p.jsonl.zst"), crate::support::zstd(lines.as_bytes(), true)).unwrap();
    let ids: String = (0..n).map(|i| format!("00000000-0000-0000-0000-{i:012}\n")).collect();
    fs::write(at("ids.txt"), ids).unwrap();
    let (data, x, q, p) = (at("data"), at("x.npy"), at("q.npy"), at("p.jsonl.zst"));
    let ingest = |more: &[&str]| {
        let mut args =
            vec!["ingest", &data, "--collection", "c", "--vectors", &x, "--tenant-field", "owner"];
        args.extend(more);
        nearkin(&args)
    };
    let ids = at("ids.txt");
    let whole = ["--payload", &p, "--ids", &ids, "--index-field", "size:integer"];
    let run = ingest(&whole);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("700 points of 12 f32 values"), "{}", run.stdout);
    // The same again replaces every point by itself.
    assert_eq!(ingest(&whole).code, 0);
    fs::write(at("f.jsonl"), "{}\n{\"must\":[{\"key\":\"size\",\"range\":{\"lt\":500}}]}\n{\"must\":[{\"key\":\"kind\",\"match\":{\"value\":\"docs\"}}]}\n").unwrap();
    let (f, out) = (at("f.jsonl"), at("r.jsonl"));
    let search = |more: &[&str]| {
        let mut args = vec![
            "search",
            &data,
            "--collection",
            "c",
            "--vectors",
            &q,
            "--out",
            &out,
            "--overwrite",
        ];
        args.extend(more);
        nearkin(&args)
    };
    let run = search(&["--filters-from", &f, "--explain", "--k", "5", "--batch", "2"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let facts: Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(facts["queries"], 3);
    let answers: Vec<Value> = fs::read_to_string(&out)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0]["ids"][0], "00000000-0000-0000-0000-000000000010");
    assert!((answers[0]["scores"][0].as_f64().unwrap() - 1.0).abs() < 1e-5);
    assert_eq!(answers[0]["plan"]["matches"], 700);
    assert_eq!(answers[1]["plan"]["filter"]["payloads_read"], 0);
    assert_eq!(answers[2]["plan"]["filter"]["payloads_read"], 700);
    assert_eq!(answers[2]["plan"]["filter"]["read_for"], json!(["kind"]));
    let run = search(&["--tenant", "nobody"]);
    assert_eq!(run.code, 0);
    assert_eq!(
        fs::read_to_string(&out).unwrap(),
        "{\"ids\":[],\"scores\":[],\"plan\":\"nothing\"}\n".repeat(3)
    );

    fs::write(at("bad.txt"), "1\n1\n").unwrap();
    let bad = at("bad.txt");
    let (absent, wrong) = (at("absent.npy"), at("wrong.jsonl"));
    fs::write(&wrong, "{}\n[]\n").unwrap();
    for (run, code, word) in [
        (ingest(&["--ids", &bad]), 3, "rows_differ"),
        (ingest(&["--payload", &wrong]), 3, "payload_type"),
        (ingest(&["--metric", "dot"]), 2, "settings_differ"),
        (ingest(&["--index-field", "size"]), 2, "index_field"),
        (ingest(&["--index-field", "size:int"]), 2, "field_kind"),
        (
            nearkin(&["ingest", &data, "--collection", "../c", "--vectors", &x]),
            2,
            "collection_name",
        ),
        (nearkin(&["ingest", &data, "--collection", "d", "--vectors", &absent]), 4, "not_found"),
        (
            nearkin(&["search", &data, "--collection", "d", "--vectors", &q, "--out", &at("o")]),
            4,
            "not_found",
        ),
        (
            nearkin(&["search", &data, "--collection", "c", "--vectors", &q, "--out", &out]),
            2,
            "output_exists",
        ),
        (search(&["--filter", "{\"must\": 3}"]), 3, "filter"),
        (search(&["--filter", "{"]), 3, "filter_json"),
        (search(&["--filters-from", &bad]), 3, "filter"),
        (search(&["--k", "0"]), 3, "k_range"),
        (search(&["--threads", "0"]), 2, "threads"),
    ] {
        assert_eq!(run.code, code, "{word}: {}", run.stderr);
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
    // A search that fails leaves the earlier answer, and nothing else.
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 3);
    assert!(!Path::new(&at("r.jsonl.part")).exists());
}
