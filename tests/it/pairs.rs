//! All near pairs: none is missed, whatever is skipped, and the file says what the rows say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use half::f16;
use nearkin::backend::cpu::Cpu;
use nearkin::backend::plain;
use nearkin::cluster::{JoinOptions, JoinReport, near_pairs};
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Dtype, Rows, Values};
use serde_json::Value;

use crate::support::Run;

/// Distances by pair, as bits: the join promises those of the plain loops.
type Found = BTreeMap<(u32, u32), u32>;

fn backend(n_threads: usize) -> Cpu {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
    Cpu::new(Arc::new(pool), 1 << 30)
}

fn uniform(seed: u64, i: u64) -> f64 {
    (stream(seed, i) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Rows around some centres; every fifth repeats an earlier one, exactly or nearly.
fn rows(dtype: Dtype, n_rows: usize, dim: usize, seed: u64) -> Rows {
    let made = |row: u64, i: u64| {
        let centre = uniform(seed, (row % 6) << 20 | i);
        0.6 * centre + 0.2 * uniform(seed ^ 1, row * dim as u64 + i) + 0.1
    };
    let element = |place: usize| {
        let (row, i) = ((place / dim) as u64, (place % dim) as u64);
        let noise = [0.0, 1e-3, 3e-2][row as usize % 3] * uniform(seed ^ 2, place as u64);
        if row % 5 == 4 { made(row / 2, i) + noise } else { made(row, i) }
    };
    let all = (0..n_rows * dim).map(element);
    let values = match dtype {
        Dtype::F32 => Values::F32(all.map(|x| x as f32).collect()),
        Dtype::F16 => Values::F16(all.map(f16::from_f64).collect()),
        Dtype::U8 => Values::U8(all.map(|x| (x * 100.0 + 101.0).max(1.0) as u8).collect()),
        Dtype::I8 => Values::I8(all.map(|x| (x * 100.0) as i8 | 1).collect()),
    };
    Rows::new(values, dim).unwrap()
}

fn all_pairs(a: &Rows, b: Option<&Rows>, metric: Metric) -> Vec<((u32, u32), f32)> {
    let other = b.unwrap_or(a);
    let mut all = Vec::new();
    for i in 0..a.n_rows() {
        for j in if b.is_some() { 0 } else { i + 1 }..other.n_rows() {
            let distance = plain::distance(metric, (a, i), (other, j));
            all.push(((i as u32, j as u32), distance));
        }
    }
    all
}

fn join(
    a: &Arc<Rows>,
    b: Option<&Arc<Rows>>,
    (metric, within): (Metric, f32),
    options: &JoinOptions<'_>,
) -> (Found, JoinReport) {
    let mut found = Found::new();
    let mut emit = |pairs: &[nearkin::backend::Pair]| {
        assert!(pairs.is_sorted_by_key(|pair| (pair.a, pair.b)));
        for pair in pairs {
            let bits = (pair.distance + 0.0).to_bits();
            let again = found.insert((pair.a, pair.b), bits);
            assert!(again.is_none(), "({}, {}) was given out twice", pair.a, pair.b);
        }
        Ok(())
    };
    let report = near_pairs(&backend(1), a, b, metric, within, options, &mut emit).unwrap();
    assert_eq!(report.n_pairs, found.len() as u64);
    (found, report)
}

/// Joins in every way and compares with all pairs, at thresholds that are distances of pairs.
fn check(a: Rows, b: Option<Rows>, metric: Metric, seed: u64) {
    let all = all_pairs(&a, b.as_ref(), metric);
    let mut distances: Vec<f32> = all.iter().map(|pair| pair.1).collect();
    distances.sort_by(f32::total_cmp);
    let (a, b) = (Arc::new(a), b.map(Arc::new));
    for share in [0, 2, 12] {
        let within = distances[(distances.len() - 1) * share / 100];
        let near = all.iter().filter(|pair| pair.1 <= within);
        let expected: Found = near.map(|&(pair, x)| (pair, (x + 0.0).to_bits())).collect();
        for n_cells in [None, Some(1), Some(12), Some(50)] {
            for exact in [false, true] {
                let options = JoinOptions { n_cells, exact, seed, ..JoinOptions::default() };
                let (found, _) = join(&a, b.as_ref(), (metric, within), &options);
                let what = format!("{metric} {:?} dim {} seed {seed}", a.dtype(), a.dim());
                assert_eq!(found, expected, "{what} {n_cells:?} {exact} within {within}");
            }
        }
    }
}

#[test]
fn every_type_and_metric_agrees_with_all_pairs() {
    for (i, dtype) in Dtype::ALL.into_iter().enumerate() {
        for metric in Metric::ALL {
            for dim in [1, 5, 70] {
                let seed = i as u64 * 10 + dim as u64;
                check(rows(dtype, 90, dim, seed), None, metric, seed);
                let (a, b) = (rows(dtype, 70, dim, seed), rows(dtype, 40, dim, seed + 1));
                check(a, Some(b), metric, seed);
            }
        }
    }
}

#[test]
fn skipping_never_loses_a_pair() {
    let mut n_skipped = 0;
    for seed in 0..40 {
        let (dim, metric) = ([2, 8, 40][seed as usize % 3], Metric::ALL[seed as usize % 4]);
        let a = rows(Dtype::F32, 240, dim, seed);
        let all = all_pairs(&a, None, metric);
        let mut distances: Vec<f32> = all.iter().map(|pair| pair.1).collect();
        distances.sort_by(f32::total_cmp);
        let within = distances[distances.len() * (1 + seed as usize % 4) / 200];
        let n_near = distances.iter().filter(|&&distance| distance <= within).count();
        let options = JoinOptions { n_cells: Some(30), seed, ..JoinOptions::default() };
        let (found, report) = join(&Arc::new(a), None, (metric, within), &options);
        assert_eq!(found.len(), n_near, "seed {seed} {metric} {dim} {report:?}");
        n_skipped += report.n_all - report.n_compared.min(report.n_all);
    }
    assert!(n_skipped > 200_000, "only {n_skipped} pairs were never looked at");
}

#[test]
fn thresholds_that_nothing_or_everything_meets() {
    let a = Arc::new(rows(Dtype::F32, 60, 12, 3));
    for n_cells in [None, Some(9)] {
        let options = JoinOptions { n_cells, ..JoinOptions::default() };
        for (metric, none, all) in [
            (Metric::Cosine, -0.5, 2.0),
            (Metric::Dot, -1e6, 1e6),
            (Metric::L2, -1.0, f32::MAX),
            (Metric::L1, -1.0, f32::MAX),
        ] {
            assert_eq!(join(&a, None, (metric, none), &options).0.len(), 0, "{metric}");
            assert_eq!(join(&a, None, (metric, all), &options).0.len(), 60 * 59 / 2, "{metric}");
        }
    }
}

#[test]
fn ten_thousand_equal_rows_give_all_their_pairs_in_bounded_batches() {
    let a = Arc::new(Rows::new(Values::I8(vec![7; 20_000].into()), 2).unwrap());
    for n_cells in [None, Some(20)] {
        let options = JoinOptions { memory_bytes: 40 << 20, n_cells, ..JoinOptions::default() };
        let (mut n_pairs, mut largest) = (0, 0);
        let mut emit = |pairs: &[nearkin::backend::Pair]| {
            n_pairs += pairs.len();
            largest = largest.max(pairs.len());
            Ok(())
        };
        near_pairs(&backend(2), &a, None, Metric::Cosine, 0.0, &options, &mut emit).unwrap();
        assert_eq!(n_pairs, 10_000 * 9_999 / 2);
        assert!(largest * 48 < 20 << 20, "{largest} pairs at once");
    }
}

#[test]
fn what_cannot_be_joined_is_refused() {
    let backend = backend(1);
    let rows = |values, dim| Arc::new(Rows::new(values, dim).unwrap());
    let a = rows(Values::F32(vec![1.0; 12].into()), 3);
    let code = |a: &Arc<Rows>, b: Option<&Arc<Rows>>, within, options: &JoinOptions<'_>| {
        let joined = near_pairs(&backend, a, b, Metric::Cosine, within, options, &mut |_| Ok(()));
        joined.unwrap_err().code()
    };
    let plain = JoinOptions::default();
    assert_eq!(code(&a, None, f32::NAN, &plain), "threshold_range");
    assert_eq!(
        code(&a, Some(&rows(Values::F32(vec![1.0; 4].into()), 2)), 0.1, &plain),
        "vector_dim"
    );
    assert_eq!(
        code(&a, Some(&rows(Values::U8(vec![1; 3].into()), 3)), 0.1, &plain),
        "vector_dtype"
    );
    assert_eq!(
        code(&rows(Values::U8(vec![0; 3].into()), 3), None, 0.1, &plain),
        "vector_zero_norm"
    );
    let small = JoinOptions { memory_bytes: 1 << 20, ..plain };
    assert_eq!(code(&a, None, 0.1, &small), "memory");
    let stop = AtomicBool::new(true);
    let stopped = JoinOptions { stop: Some(&stop), ..plain };
    assert_eq!(code(&a, None, 0.1, &stopped), "interrupted");
}

/// A `.npy` file as numpy writes it.
fn npy(path: &Path, rows: &Rows) {
    let descr = match rows.dtype() {
        Dtype::F32 => "<f4",
        Dtype::F16 => "<f2",
        Dtype::U8 => "|u1",
        Dtype::I8 => "|i1",
    };
    let shape = format!("({}, {})", rows.n_rows(), rows.dim());
    fs::write(path, npy_bytes(descr, "False", &shape, rows.values().bytes())).unwrap();
}

fn npy_bytes(descr: &str, order: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(body);
    bytes
}

fn pairs(folder: &Path, args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearkin"));
    command.arg("pairs").args(args).current_dir(folder);
    command.output().expect("the program starts").into()
}

/// A folder with `a.npy` and `b.npy`.
fn folder(dtype: Dtype) -> (tempfile::TempDir, Rows, Rows) {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (rows(dtype, 80, 20, 1), rows(dtype, 50, 20, 1));
    npy(&dir.path().join("a.npy"), &a);
    npy(&dir.path().join("b.npy"), &b);
    (dir, a, b)
}

fn read(path: PathBuf, key: &str) -> Vec<(u32, u32, f32)> {
    let number = |value: &Value| value.as_u64().unwrap() as u32;
    let lines = crate::support::jsonl(&path);
    let one =
        |line: &Value| (number(&line["a"]), number(&line["b"]), line[key].as_f64().unwrap() as f32);
    lines.iter().map(one).collect()
}

#[test]
fn the_file_holds_every_pair_in_order() {
    for (dtype, metric, ask, key) in [
        (Dtype::F32, Metric::Cosine, ["--similarity", "0.9"], "similarity"),
        (Dtype::F16, Metric::Dot, ["--similarity", "3.5"], "similarity"),
        (Dtype::U8, Metric::L2, ["--distance", "9000"], "distance"),
        (Dtype::I8, Metric::L1, ["--distance", "300"], "distance"),
    ] {
        let (dir, a, b) = folder(dtype);
        let number: f64 = ask[1].parse().unwrap();
        for other in [None, Some(&b)] {
            let (within, shown): (f32, fn(f32) -> f32) = match metric {
                Metric::Cosine => ((1.0 - number) as f32, |x| (1.0 - f64::from(x)) as f32),
                Metric::Dot => (-number as f32, |x| -x),
                _ => (number as f32, |x| x),
            };
            let near = all_pairs(&a, other, metric).into_iter().filter(|pair| pair.1 <= within);
            let expected: Vec<_> = near.map(|((a, b), x)| (a, b, shown(x))).collect();
            assert!(expected.len() > 10, "{metric}: {}", expected.len());
            let mut args = vec!["a.npy"];
            args.extend(other.map(|_| "b.npy"));
            args.extend(["--metric", metric.name(), "--out", "out.jsonl", "--overwrite"]);
            args.extend(ask);
            let run = pairs(dir.path(), &args);
            assert_eq!(run.code, 0, "{}", run.stderr);
            assert_eq!(read(dir.path().join("out.jsonl"), key), expected, "{metric}");
            assert!(run.stdout.contains(&format!("{} pairs within", expected.len())));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing else is left there");
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads_memory_seed_or_way() {
    let dir = tempfile::tempdir().unwrap();
    // Enough rows for codes and cells to be chosen.
    npy(&dir.path().join("a.npy"), &rows(Dtype::F32, 4200, 6, 8));
    let mut first = None;
    for args in [
        vec!["--threads", "1"],
        vec!["--threads", "2", "--memory", "13MiB", "--seed", "7"],
        vec!["--exact"],
    ] {
        let common = ["a.npy", "--similarity", "0.99", "--out", "o.jsonl", "--overwrite"];
        let run = pairs(dir.path(), &[common.to_vec(), args.clone()].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(run.stdout.contains("cells, codes"), args[0] != "--exact", "{}", run.stdout);
        let bytes = fs::read(dir.path().join("o.jsonl")).unwrap();
        assert!(bytes.len() > 20_000);
        assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes, "{args:?}");
    }
}

#[test]
fn rows_of_zeros_are_named_or_left_out_aloud() {
    let dir = tempfile::tempdir().unwrap();
    let values = vec![1.0, 2.0, 0.0, 0.0, 1.0, 2.0, 0.0, -0.0];
    npy(&dir.path().join("a.npy"), &Rows::new(Values::F32(values.into()), 2).unwrap());
    let ask = ["a.npy", "--similarity", "0.9", "--out", "o.jsonl"];
    let run = pairs(dir.path(), &ask);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("vector_zero_norm: a.npy: row 1"), "{}", run.stderr);
    let run = pairs(dir.path(), &[&ask[..], &["--skip-zero"]].concat());
    assert_eq!(run.code, 0);
    assert!(run.stderr.contains("2 rows of zeros left out"), "{}", run.stderr);
    assert_eq!(read(dir.path().join("o.jsonl"), "similarity"), [(0, 2, 1.0)]);
}

#[test]
fn files_that_are_no_rows_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let good = floats(&[1.0, 2.0, 3.0, 4.0]);
    for (bytes, code, says) in [
        (npy_bytes("<f4", "False", "(2, 2)", &good[..15]), 3, "npy_length"),
        (npy_bytes("<f4", "True", "(2, 2)", &good), 3, "numpy.ascontiguousarray"),
        (npy_bytes("<f8", "False", "(1, 2)", &good), 3, "rows.astype('<f4')"),
        (npy_bytes("<i4", "False", "(2, 2)", &good), 3, "npy_dtype"),
        (npy_bytes("<f4", "False", "(2, 2, 1)", &good), 3, "npy_shape"),
        (npy_bytes("<f4", "False", "(2, 2)", &floats(&[1.0, 2.0, f32::NAN, 0.0])), 3, "row 1"),
        (npy_bytes("<f4", "False", "(1, 2)", &floats(&[1.0, f32::INFINITY])), 3, "is inf"),
        (npy_bytes("|i1", "False", "(1, 2)", &[1, 128]), 3, "-128"),
        (b"\x93NUMPY\x01".to_vec(), 3, "npy_header"),
        (b"id,vector\n".to_vec(), 3, "npy_header"),
        (Vec::new(), 3, "npy_header"),
    ] {
        fs::write(dir.path().join("a.npy"), bytes).unwrap();
        let run = pairs(dir.path(), &["a.npy", "--similarity", "0.9", "--out", "o.jsonl"]);
        assert_eq!((run.code, run.stderr.contains(says)), (code, true), "{says}: {}", run.stderr);
        assert!(run.stderr.contains("a.npy") && !dir.path().join("o.jsonl").exists());
    }
    let run = pairs(dir.path(), &["no.npy", "--similarity", "0.9", "--out", "o.jsonl"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    fs::write(dir.path().join("a.npy"), npy_bytes("<f4", "False", "(0, 5)", &[])).unwrap();
    let run = pairs(dir.path(), &["a.npy", "--similarity", "0.9", "--out", "o.jsonl"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(fs::read(dir.path().join("o.jsonl")).unwrap().is_empty());
}

#[test]
fn what_cannot_be_asked_for_is_a_usage_error_that_says_why() {
    let (dir, ..) = folder(Dtype::F32);
    fs::write(dir.path().join("there.jsonl"), "mine").unwrap();
    for (args, code, says) in [
        (vec!["--out", "o.jsonl"], 2, "--similarity S is needed"),
        (vec!["--similarity", "1.5", "--out", "o.jsonl"], 2, "expected -1 to 1"),
        (vec!["--similarity", "NaN", "--out", "o.jsonl"], 2, "threshold_range"),
        (vec!["--distance", "1", "--out", "o.jsonl"], 2, "cosine is asked with --similarity"),
        (vec!["--metric", "l2", "--similarity", "1", "--out", "o.jsonl"], 2, "has no similarity"),
        (vec!["--metric", "l1", "--distance", "-1", "--out", "o.jsonl"], 2, "0 or more"),
        (vec!["--metric", "hamming", "--distance", "1", "--out", "o.jsonl"], 2, "cosine, dot, l2"),
        (vec!["--similarity", "0.9", "--out", "o.csv"], 2, "output_format"),
        (vec!["--similarity", "0.9", "--out", "there.jsonl"], 2, "output_exists"),
        (vec!["--similarity", "0.9", "--out", "no/o.jsonl"], 6, "not_found"),
        (vec!["--similarity", "0.9", "--out", "o.jsonl", "--threads", "0"], 2, "threads"),
        (vec!["--similarity", "0.9", "--out", "o.jsonl", "--memory", "1MiB"], 8, "memory"),
    ] {
        let run = pairs(dir.path(), &[vec!["a.npy"], args.clone()].concat());
        assert_eq!((run.code, run.stderr.contains(says)), (code, true), "{args:?} {}", run.stderr);
    }
    assert_eq!(fs::read(dir.path().join("there.jsonl")).unwrap(), b"mine");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    let (dir, ..) = folder(Dtype::F32);
    let ask = ["a.npy", "--similarity", "0.9", "--out", "o.jsonl", "--device"];
    for device in ["auto", "cpu"] {
        let run = pairs(dir.path(), &[&ask[..], &[device, "--overwrite"]].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    let run = pairs(dir.path(), &[&ask[..], &["cuda", "--overwrite"]].concat());
    if run.code != 0 {
        assert_eq!((run.code, run.stderr.contains("device_unavailable")), (9, true), "{run:?}");
    }
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_holds_the_same_pairs() {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, Int64Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let (dir, ..) = folder(Dtype::F32);
    for out in ["o.jsonl", "o.parquet"] {
        let run = pairs(dir.path(), &["a.npy", "--similarity", "0.9", "--out", out]);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    let file = fs::File::open(dir.path().join("o.parquet")).unwrap();
    let mut found = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let (a, b) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1));
        let (b, x) = (b.as_primitive::<Int64Type>(), batch.column(2).as_primitive::<Float64Type>());
        let row = |i| (a.value(i) as u32, b.value(i) as u32, x.value(i) as f32);
        found.extend((0..batch.num_rows()).map(row));
    }
    assert_eq!(found, read(dir.path().join("o.jsonl"), "similarity"));
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_needs_the_feature() {
    let (dir, ..) = folder(Dtype::F32);
    let run = pairs(dir.path(), &["a.npy", "--similarity", "0.9", "--out", "o.parquet"]);
    assert_eq!((run.code, run.stderr.contains("feature `parquet`")), (2, true), "{}", run.stderr);
}
