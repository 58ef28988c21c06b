//! What tests of the program share: running it, and reading what it leaves.

pub mod browser;
pub mod faulty_disk;
#[cfg(feature = "parquet")]
pub mod parquet;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::SystemTime;

use serde_json::Value;

/// How a run of the program ended.
#[derive(Debug)]
pub struct Run {
    /// Exit code; 128 and the number of the signal if one ended it, as a shell has it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Self {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// `nearkin dedup INPUT... --out OUT ARG...`, both outputs caught.
pub fn dedup_command(inputs: &[PathBuf], out: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearkin"));
    command.arg("dedup").args(inputs).arg("--out").arg(out).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `nearkin dedup` to its end.
pub fn dedup(inputs: &[PathBuf], out: &Path, args: &[&str]) -> Run {
    dedup_command(inputs, out, args).output().expect("the program starts").into()
}

/// Waits for a child that was started with [`dedup_command`].
pub fn wait(child: Child) -> Run {
    child.wait_with_output().expect("the program was started").into()
}

/// Sends a signal such as `INT` or `KILL`.
pub fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args([&format!("-{name}"), &id]).status();
    assert!(sent.expect("kill starts").success(), "kill -{name} {id}");
}

/// Watches until `path` exists; false if the child ended before it did.
pub fn await_path(child: &mut Child, path: &Path) -> bool {
    loop {
        if path.exists() {
            return true;
        }
        if child.try_wait().expect("the program was started").is_some() {
            return path.exists();
        }
        std::thread::yield_now();
    }
}

/// `report.json`.
pub fn report(out: &Path) -> Value {
    let path = out.join("report.json");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("report.json is JSON")
}

/// Rows of a JSON Lines file.
pub fn jsonl(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// Everything that decides a job's result, by path in `out`: kept records and both lists.
pub fn results(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut results = BTreeMap::new();
    for path in files(out) {
        let name = path.strip_prefix(out).expect("it lies in there").to_owned();
        if !name.starts_with(".work") && !name.to_string_lossy().starts_with("report.") {
            results.insert(name, fs::read(&path).expect("our own output"));
        }
    }
    results
}

/// Every file under `folder`, links not followed, in path order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.expect("a folder of ours");
        if entry.file_type().expect("a folder of ours").is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Files up to this size are compared whole, larger ones by size and time.
const COMPARED_BYTES: u64 = 32 << 20;

/// What a file is, so that a change shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    len: u64,
    modified: SystemTime,
    bytes: Vec<u8>,
}

/// State of everything under `folder`.
pub fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Seen> {
    let see = |path: PathBuf| {
        let meta = fs::symlink_metadata(&path).expect("a file of ours");
        let read = meta.is_file() && meta.len() <= COMPARED_BYTES;
        let bytes = if read { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let modified = meta.modified().expect("the system keeps times");
        (path, Seen { len: meta.len(), modified, bytes })
    };
    files(folder).into_iter().map(see).collect()
}

/// One gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).expect("memory");
    writer.finish().expect("memory")
}

/// One zstd frame.
pub fn zstd(bytes: &[u8], with_checksum: bool) -> Vec<u8> {
    let mut writer = zstd::Encoder::new(Vec::new(), 1).expect("memory");
    writer.include_checksum(with_checksum).expect("a known option");
    writer.write_all(bytes).expect("memory");
    writer.finish().expect("memory")
}

/// Undoes gzip or zstd, told apart by the first bytes.
pub fn unpack(bytes: Vec<u8>) -> Vec<u8> {
    let mut plain = Vec::new();
    match bytes.as_slice() {
        [0x1f, 0x8b, ..] => {
            flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).expect("gzip");
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => plain = zstd::decode_all(&bytes[..]).expect("zstd"),
        _ => return bytes,
    }
    plain
}

/// Says aloud that something cannot be tested here; with `NEARKIN_REQUIRE=<name>,...` that is a failure.
pub fn skip(name: &str, why: &str) {
    let required = std::env::var("NEARKIN_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|wanted| wanted == name), "{name} is required: {why}");
    eprintln!("SKIPPED {name}: {why}");
}
