//! `nearkin doctor` and `nearkin bench`, as typed.

use std::process::{Command, Output};

use serde_json::Value;

fn doctor(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearkin"));
    command.arg("doctor").args(args);
    command.envs(environment.iter().copied()).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A machine without any Vulkan driver, whatever is installed here.
const NO_VULKAN: [(&str, &str); 2] =
    [("VK_DRIVER_FILES", "/nowhere.json"), ("VK_ICD_FILENAMES", "/nowhere.json")];

#[test]
fn doctor_shows_the_machine_and_what_would_be_used() {
    let output = doctor(&["--json"], &[]);
    assert!(output.status.success());
    let found = json(&output);
    assert_eq!(found["version"], env!("CARGO_PKG_VERSION"));
    let levels: Vec<&str> =
        nearkin::distance::Level::available().iter().map(|level| level.name()).collect();
    assert_eq!(found["processor"]["levels"], Value::from(levels));
    let best = nearkin::distance::Level::best().name();
    assert_eq!(found["processor"]["used"], best);
    for feature in found["processor"]["features"].as_array().unwrap() {
        let name = feature.as_str().unwrap();
        let is_of_best = !name.starts_with("avx512") || best.starts_with("avx512");
        let why = found["processor"]["why"].as_str().unwrap();
        assert!(is_of_best || why.contains("lacks"), "{name} found, {best} used: {why}");
    }
    for rate in ["float", "byte"] {
        for threads in ["one_thread", "all_threads"] {
            let name = format!("{rate}_operations_per_second_{threads}");
            assert!(found["processor"][&name].as_f64().unwrap() > 1e8, "{name}");
        }
    }
    assert!(found["memory"]["read_bytes_per_second_one_thread"].as_f64().unwrap() > 1e8);
    let kinds: Vec<&str> =
        found["cards"].as_array().unwrap().iter().map(|c| c["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["cuda", "wgpu"]);
    let screen = doctor(&[], &[]);
    let text = String::from_utf8(screen.stdout).unwrap();
    for word in
        ["processor", "features", "loops", "arithmetic", "memory", "cuda", "wgpu", "would use"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(text.lines().count() <= 24, "more than one screen: {text}");
}

#[test]
fn without_a_card_auto_uses_the_processor_and_says_so() {
    if json(&doctor(&["--json"], &NO_VULKAN))["cards"][0]["error"].is_null() {
        // A machine with an NVIDIA card: what auto does there is another test's matter.
        return crate::support::skip("no-cuda", "this machine has a card");
    }
    let found = json(&doctor(&["--json"], &NO_VULKAN));
    assert_eq!(found["use"]["backend"], "cpu");
    assert!(found["use"]["why"].as_str().unwrap().starts_with("gpu: none found"), "{found}");
    let cuda = found["cards"][0]["error"].as_str().unwrap().to_owned();
    assert!(cuda.contains("device_unavailable"), "{cuda}");
}

#[test]
fn a_card_that_is_named_and_not_there_is_exit_code_9() {
    for device in ["cuda", "wgpu"] {
        let output = doctor(&["--device", device], &NO_VULKAN);
        if output.status.success() {
            crate::support::skip("no-cuda", "this machine has a card");
            continue;
        }
        assert_eq!(output.status.code(), Some(9), "{device}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.starts_with("error: device_unavailable: "), "{error}");
    }
    let output = doctor(&["--device", "tpu"], &[]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn bench_times_every_operation() {
    let output = Command::new(env!("CARGO_BIN_EXE_nearkin"))
        .args(["bench", "--device", "cpu", "--rows", "512", "--dim", "32", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = json(&output);
    let cases = found["cases"].as_array().unwrap();
    for operation in
        ["flat_scan", "pairs", "gather", "distances", "assign", "rabitq_scan", "minhash"]
    {
        assert!(cases.iter().any(|case| case["operation"] == operation), "{operation}");
    }
    let (roofs, card) = (&found["roofs"], &found["card"]);
    for roof in ["memory_bytes", "float_operations", "byte_operations"] {
        assert!(roofs[format!("{roof}_per_second")].as_f64().unwrap() > 1e8, "{roof}: {roofs}");
    }
    assert_eq!(card, "no card");
    for case in cases {
        assert!(case["operations_per_second"].as_f64().unwrap() > 0.0, "{case}");
        assert!(case["share_of_reading"].as_f64().unwrap() > 0.0, "{case}");
        let is_multiplied =
            !["rabitq_scan", "minhash"].contains(&case["operation"].as_str().unwrap());
        assert_eq!(case["share_of_peak"].is_number(), is_multiplied, "{case}");
        assert!(case["tklqt_us"].is_null(), "{case}");
    }
}

#[test]
fn bench_fits_one_screen() {
    let output = Command::new(env!("CARGO_BIN_EXE_nearkin"))
        .args(["bench", "--device", "cpu", "--rows", "512", "--dim", "32", "--threads", "2"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("cpu: ") && text.contains(", 2 threads\nroofs: "), "{text}");
    assert!(text.contains("TKLQT, crossover: no card"), "{text}");
    assert!(text.lines().count() <= 24, "more than one screen: {text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "too wide: {text}");
}
