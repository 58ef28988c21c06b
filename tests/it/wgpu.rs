//! The WGSL backend on whatever Vulkan driver is here; Mesa's software driver will do.

use std::process::Command;
use std::sync::Arc;

use nearkin::backend::codes::{Factors, Planes, RabitqCodes, RabitqQuery, Survivor};
use nearkin::backend::cpu::minhash::MinHasher;
use nearkin::backend::plain::Plain;
use nearkin::backend::wgpu::{Options, Subgroups, Wgpu};
use nearkin::backend::{Backend, Pair, RabitqScan, Stream, Tile};
use nearkin::core::allow::Allow;
use nearkin::core::bits::Bits;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::neighbors::Neighbor;
use nearkin::core::rows::{Rows, Values};

use crate::conformance::{self, Effort};

const STREAM: Stream = Stream(0);
/// Exit code of errors of the kind `Device`.
const DEVICE: u8 = 9;

/// Opens the first adapter, or says why the test is skipped.
fn open(options: Options) -> Option<Wgpu> {
    let budget_bytes = if options.budget_bytes == 0 { 1 << 30 } else { options.budget_bytes };
    match Wgpu::open_with(&Options { budget_bytes, ..options }) {
        Ok(wgpu) => Some(wgpu),
        Err(error) => {
            conformance::skip("wgpu", &error.to_string());
            None
        }
    }
}

#[test]
fn it_agrees_with_the_plain_loops_with_subgroup_operations() {
    let Some(wgpu) = open(Options::default()) else { return };
    if !wgpu.has_subgroups() {
        return conformance::skip("wgpu-subgroups", &wgpu.adapter().name);
    }
    conformance::run(&wgpu, Effort::Small);
}

#[test]
fn it_agrees_with_the_plain_loops_without_subgroup_operations() {
    let Some(wgpu) = open(Options { subgroups: Subgroups::Off, ..Options::default() }) else {
        return;
    };
    assert!(!wgpu.has_subgroups());
    conformance::run(&wgpu, Effort::Small);
}

/// Inputs of all operations, small.
struct Inputs {
    floats: Arc<Rows>,
    bytes: Arc<Rows>,
    codes: Arc<RabitqCodes>,
    query: RabitqQuery,
    allowed: Bits,
    shingles: Vec<u32>,
    ends: Vec<u32>,
}

fn unit(seed: u64, i: u64) -> f32 {
    (stream(seed, i) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn words(n: usize, seed: u64) -> Vec<u64> {
    (0..n as u64).map(|i| stream(seed, i)).collect()
}

fn inputs(n_rows: usize) -> Inputs {
    let n = (n_rows * 24) as u64;
    let floats = Values::F32((0..n).map(|i| unit(1, i)).collect());
    let bytes = Values::I8((0..n).map(|i| (unit(2, i) * 127.0) as i8).collect());
    let factors = |seed| {
        let one =
            |i| Factors { add: unit(seed, 2 * i), rescale: 0.01 * unit(seed, 2 * i + 1), err: 0.1 };
        (0..n_rows as u64).map(one).collect()
    };
    let codes = RabitqCodes {
        metric: Metric::L2,
        n_rows,
        n_words: 3,
        signs: words(n_rows * 3, 3).into(),
        extra: words(n_rows * 9, 4).into(),
        coarse: factors(5),
        fine: factors(5),
    };
    let planes = |n_planes: usize| Planes {
        words: words(n_planes * 3, 6),
        n_planes,
        lo: -1.0,
        step: 2.0 / (1 << n_planes) as f32,
        sum: 3.0,
    };
    let mut allowed = Bits::new(n_rows as u32);
    (0..n_rows as u32).filter(|i| i % 3 != 1).for_each(|i| allowed.insert(i));
    Inputs {
        floats: Arc::new(Rows::new(floats, 24).unwrap()),
        bytes: Arc::new(Rows::new(bytes, 24).unwrap()),
        codes: Arc::new(codes),
        query: RabitqQuery {
            coarse: planes(4),
            fine: planes(8),
            add: 0.5,
            coarse_err: 1.0,
            fine_err: 0.2,
        },
        allowed,
        shingles: (0..5000).map(|i| stream(7, i) as u32).collect(),
        ends: vec![0, 10, 10, 4000, 4500, 5000],
    }
}

/// Answers of all operations.
#[derive(Debug, PartialEq)]
struct Answers {
    scanned: Vec<Vec<Neighbor>>,
    distances: Vec<f32>,
    gathered: Vec<Vec<f32>>,
    assigned: Vec<Neighbor>,
    pairs: Vec<Pair>,
    survivors: Vec<Vec<Survivor>>,
    signatures: Vec<u32>,
}

fn ask(backend: &dyn Backend, inputs: &Inputs) -> Result<Answers, nearkin::Error> {
    let n = inputs.floats.n_rows() as u32;
    let floats = backend.upload(Arc::clone(&inputs.floats), Metric::Cosine)?;
    let bytes = backend.upload(Arc::clone(&inputs.bytes), Metric::L2)?;
    let codes = backend.upload_codes(Arc::clone(&inputs.codes))?;
    let lists = [(3..n - 1, &inputs.query)];
    let scan = RabitqScan { lists: &lists, bound: f32::INFINITY, k: 7 };
    let allow = Allow::Bits(&inputs.allowed);
    let some = inputs.bytes.slice(5..12);
    let slots: Vec<Vec<u32>> = (0..7)
        .map(|q| (0..q * 9).map(|i| (stream(8, i) % u64::from(n)) as u32).collect())
        .collect();
    let tiles = [Tile { a: 0..n, b: 0..n }];
    Ok(Answers {
        scanned: backend.flat_scan(STREAM, &inputs.floats.slice(0..6), &floats, allow, 20)?,
        distances: backend.distances(STREAM, &some, &bytes, 1..n - 1)?,
        gathered: backend.gather(STREAM, &some, &bytes, &slots)?,
        assigned: backend.assign(STREAM, &bytes, 2..n, &some)?,
        pairs: backend.pairs(STREAM, &bytes, None, &tiles, 130_000.0)?,
        survivors: backend.rabitq_scan(STREAM, &[scan], &codes, allow)?,
        signatures: backend.minhash(
            STREAM,
            &MinHasher::new(40, 1),
            &inputs.shingles,
            &inputs.ends,
        )?,
    })
}

#[test]
fn shards_and_tiles_of_any_size_give_the_same_answers() {
    let Some(whole) = open(Options::default()) else { return };
    let inputs = inputs(450);
    let want = ask(&whole, &inputs).unwrap();
    // 64 rows of 96 bytes fit a shard, and 64 codes of 96; most launches of pairs find more than 50.
    let cut = Options { shard_bytes: Some(8 << 10), n_places: Some(50), ..Options::default() };
    let cut = open(cut).expect("it was opened before");
    let got = ask(&cut, &inputs).unwrap();
    assert!(want.pairs.len() > 500, "{} pairs try no overflow", want.pairs.len());
    assert_eq!(got, want);
    // Integers are those of the specification, bit for bit.
    let plain = ask(&Plain::new(1 << 30), &inputs).unwrap();
    assert_eq!(got.distances, plain.distances);
    assert_eq!(got.gathered, plain.gathered);
    assert_eq!(got.assigned, plain.assigned);
    assert_eq!(got.pairs, plain.pairs);
    assert_eq!(got.signatures, plain.signatures);
    let tiny = open(Options { shard_bytes: Some(1 << 10), ..Options::default() });
    let refused = tiny.expect("it was opened before").upload(inputs.floats, Metric::Dot);
    let error = refused.err().expect("no shard fits");
    assert_eq!((error.kind().exit_code(), error.code()), (DEVICE, "unsupported"));
}

#[test]
fn what_the_budget_does_not_hold_is_refused_and_comes_back_with_a_drop() {
    let Some(wgpu) = open(Options { budget_bytes: 60_000, ..Options::default() }) else { return };
    let rows = inputs(450).floats;
    let first = wgpu.upload(Arc::clone(&rows), Metric::L2).unwrap();
    assert!(first.n_bytes() >= rows.n_bytes());
    let error = wgpu.upload(Arc::clone(&rows), Metric::L2).err().expect("over the budget");
    assert_eq!((error.kind().exit_code(), error.code()), (DEVICE, "device_oom"));
    let message = error.to_string();
    for named in [wgpu.adapter().name.as_str(), "upload", "[450, 24] f32", "bytes asked"] {
        assert!(message.contains(named), "{message}: no {named}");
    }
    drop(first);
    wgpu.upload(rows, Metric::L2).unwrap();
}

#[test]
fn rows_of_another_device_are_refused() {
    let Some(wgpu) = open(Options::default()) else { return };
    let other = open(Options::default()).expect("it was opened before");
    let rows = inputs(10).floats;
    for held in [
        other.upload(Arc::clone(&rows), Metric::L2).unwrap(),
        Plain::new(1 << 20).upload(Arc::clone(&rows), Metric::L2).unwrap(),
    ] {
        let error = wgpu.flat_scan(STREAM, &rows, &held, Allow::All, 1).unwrap_err();
        assert_eq!(error.code(), "resident_elsewhere");
    }
    let held = wgpu.upload(Arc::clone(&rows), Metric::L2).unwrap();
    let error = wgpu.flat_scan(Stream(1), &rows, &held, Allow::All, 1).unwrap_err();
    assert_eq!(error.code(), "stream_range");
}

/// Random points of all operations: a device lost there is named, nothing is answered wrongly, and nothing panics.
#[test]
fn a_lost_device_is_an_error_wherever_it_is_lost() {
    let Some(wgpu) = open(Options::default()) else { return };
    let inputs = inputs(70);
    let want = ask(&wgpu, &inputs).unwrap();
    let (mut n_lost, mut n_answered) = (0, 0);
    for round in 0..64 {
        let at = if round < 2 { round } else { stream(9, round) % 130 };
        let wgpu = open(Options::default()).expect("it was opened before");
        wgpu.destroy_for_tests(at);
        match ask(&wgpu, &inputs) {
            Ok(answers) => {
                n_answered += 1;
                assert_eq!(answers, want, "step {at}");
            }
            Err(error) => {
                n_lost += 1;
                let kind = (error.kind().exit_code(), error.code());
                assert_eq!(kind, (DEVICE, "device_lost"), "step {at}: {error}");
                let again = wgpu.upload(Arc::clone(&inputs.floats), Metric::L2);
                assert_eq!(again.err().expect("lost for good").code(), "device_lost");
            }
        }
    }
    println!("lost in {n_lost} rounds, {n_answered} were done before");
    assert!(n_lost > 40, "{n_lost} losses");
}

#[test]
fn a_device_lost_under_running_threads_fails_them_all_by_name() {
    let Some(wgpu) = open(Options::default()) else { return };
    let inputs = inputs(70);
    let rows = wgpu.upload(Arc::clone(&inputs.floats), Metric::Dot).unwrap();
    let want = wgpu.flat_scan(STREAM, &inputs.floats, &rows, Allow::All, 5).unwrap();
    std::thread::scope(|scope| {
        let scans: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        match wgpu.flat_scan(STREAM, &inputs.floats, &rows, Allow::All, 5) {
                            Ok(got) => assert_eq!(got, want),
                            Err(error) => return error,
                        }
                    }
                })
            })
            .collect();
        wgpu.destroy_for_tests(100);
        for scan in scans {
            assert_eq!(scan.join().expect("no panic").code(), "device_lost");
        }
    });
}

#[test]
fn adapters_say_what_they_are() {
    let adapters = Wgpu::adapters();
    if adapters.is_empty() {
        return conformance::skip("wgpu", "no adapter");
    }
    for (index, adapter) in adapters.iter().enumerate() {
        println!("{adapter:?}");
        assert_eq!(adapter.index, index);
        assert!(!adapter.name.is_empty() && adapter.max_binding_bytes >= 128 << 20);
        assert!(adapter.is_software || !adapter.name.starts_with("llvmpipe"));
        if let Some((least, most)) = adapter.subgroup_lanes {
            assert!(least.is_power_of_two() && least <= most, "{adapter:?}");
        }
    }
    let error = Wgpu::open(Some(adapters.len()), 1).unwrap_err();
    assert_eq!((error.kind().exit_code(), error.code()), (DEVICE, "device_index"));
}

/// Runs itself again without a driver: which one is used is settled once per process.
#[test]
fn without_a_driver_the_refusal_is_clean() {
    const MARK: &str = "NEARKIN_TEST_WITHOUT_DRIVER";
    if std::env::var_os(MARK).is_some() {
        assert!(Wgpu::adapters().is_empty());
        let error = Wgpu::open(None, 1).unwrap_err();
        assert_eq!((error.kind().exit_code(), error.code()), (DEVICE, "device_unavailable"));
        let message = error.to_string();
        assert!(message.contains("libvulkan.so.1") && message.contains("/nowhere"), "{message}");
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "wgpu::without_a_driver_the_refusal_is_clean", "--nocapture"])
        .env(MARK, "1")
        .env("VK_DRIVER_FILES", "/nowhere/icd.json")
        .env("VK_ICD_FILENAMES", "/nowhere/icd.json")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
