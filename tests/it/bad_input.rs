//! No input, however damaged, stops a job, loses a record silently or is written to.
//!
//! One table over rows 117 to 136 of the bad-input catalogue. A [`Damage`] is a file beside a good one; a
//! [`Scene`] is a run that needs more than a file. A row that cannot be tried here is skipped aloud.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::support::{
    Run, await_path, dedup, dedup_command, gzip, jsonl, report, results, signal, skip, snapshot,
    unpack, wait, zstd,
};

/// What every job here may take: a debug build with two threads stays under it, whatever it is fed.
const MEMORY_BYTES: u64 = 256 << 20;

/// Arguments of every job here.
const ARGS: [&str; 4] = ["--memory", "256MiB", "--threads", "2"];

/// Words that no two records share.
fn text(n: usize) -> String {
    format!("a{n} b{n} c{n} d{n} e{n} f{n} g{n} h{n}")
}

fn line(n: usize) -> String {
    format!("{{\"id\": {n}, \"text\": \"{}\"}}\n", text(n))
}

fn lines(numbers: Range<usize>) -> Vec<u8> {
    numbers.map(line).collect::<String>().into_bytes()
}

fn texts_as_lines(texts: &[&str]) -> Vec<u8> {
    texts.iter().map(|text| format!("{{\"text\": \"{text}\"}}\n")).collect::<String>().into_bytes()
}

/// Two good lines around `bad`.
fn around(bad: &[u8]) -> Vec<u8> {
    [lines(0..1).as_slice(), bad, &lines(1..2)].concat()
}

/// What a decoder gives before it fails.
fn readable(mut decoder: impl Read) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 256 << 10]);
    while let Ok(n @ 1..) = decoder.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..n]);
    }
    bytes
}

fn whole_lines(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |n| n + 1));
    bytes
}

/// What must be left of a damaged file.
enum Kept {
    /// No file at all.
    Nothing,
    /// These bytes, unpacked.
    Bytes(Vec<u8>),
    /// These texts, in Parquet.
    #[cfg(feature = "parquet")]
    Texts(Vec<String>),
    /// Whatever the sums allow.
    Any,
}

/// A damaged file beside a good one, and what comes of it.
struct Damage {
    row: u32,
    name: &'static str,
    file: &'static str,
    bytes: Vec<u8>,
    args: &'static [&'static str],
    exit: i32,
    /// Word on the outputs, in the quarantine or in the report; empty for none.
    says: &'static str,
    kept: Kept,
    quarantined: u64,
}

impl Damage {
    fn new(row: u32, name: &'static str, file: &'static str, bytes: Vec<u8>) -> Self {
        let kept = Kept::Bytes(bytes.clone());
        Self { row, name, file, bytes, args: &[], exit: 0, says: "", kept, quarantined: 0 }
    }

    fn args(mut self, args: &'static [&'static str]) -> Self {
        self.args = args;
        self
    }

    /// The file is worth mentioning, but nothing is quarantined.
    fn warns(mut self, says: &'static str) -> Self {
        self.says = says;
        self
    }

    /// The job ends with 10, says the word, and quarantines so many records.
    fn quarantines(mut self, says: &'static str, quarantined: u64) -> Self {
        (self.exit, self.says, self.quarantined) = (10, says, quarantined);
        self
    }

    fn keeps(mut self, bytes: Vec<u8>) -> Self {
        self.kept = Kept::Bytes(bytes);
        self
    }

    fn keeps_as(mut self, kept: Kept) -> Self {
        self.kept = kept;
        self
    }

    fn run(&self) {
        let dir = tempfile::tempdir().unwrap();
        let (input, out) = (dir.path().join("in"), dir.path().join("out"));
        fs::create_dir(&input).unwrap();
        let (good, bad) = (input.join("a-good.jsonl"), input.join(self.file));
        fs::write(&good, lines(900_000..900_003)).unwrap();
        fs::write(&bad, &self.bytes).unwrap();
        let before = snapshot(&input);
        let run = dedup(&[good, bad], &out, &[&ARGS, self.args].concat());
        assert_eq!(run.code, self.exit, "{run:#?}");
        assert!(everything_said(&run, &out).contains(self.says), "{:?} in {run:#?}", self.says);
        let report = check_sums(&out);
        assert_eq!(report["totals"]["quarantined"], self.quarantined);
        assert_eq!(kept(&out, "a-good.jsonl"), Some(lines(900_000..900_003)), "the good file");
        self.check_kept(&out);
        self.check_quarantine(&out);
        assert!(snapshot(&input) == before, "the inputs changed");
    }

    fn check_kept(&self, out: &Path) {
        match &self.kept {
            Kept::Nothing => assert_eq!(kept(out, self.file), None),
            Kept::Bytes(bytes) => {
                let plain = unpack(bytes.clone());
                let found = kept(out, self.file).expect("a file of kept records");
                assert!(found == plain, "{:?}, expected {:?}", head(&found), head(&plain));
            }
            #[cfg(feature = "parquet")]
            Kept::Texts(texts) => {
                let path = out.join("kept").join(self.file);
                assert_eq!(&crate::support::parquet::texts(&path), texts);
            }
            Kept::Any => {}
        }
    }

    /// Lines of a plain file are found again in it, byte for byte, where the quarantine says.
    fn check_quarantine(&self, out: &Path) {
        if !self.file.ends_with(".jsonl") {
            return;
        }
        for row in jsonl(&out.join("quarantine.jsonl")) {
            let number = |field: &str| row[field].as_u64().expect("a number") as usize;
            let (start, len) = (number("offset"), number("len"));
            let n_lines = self.bytes[..start].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(number("line"), n_lines + 1, "{}", row["reason"]);
            let raw = match (&row["raw"], &row["raw_base64"]) {
                (Value::String(text), _) => text.clone().into_bytes(),
                (_, base64) => BASE64.decode(base64.as_str().expect("one of both")).unwrap(),
            };
            let cut = row["raw_is_cut"] == true;
            assert!(raw.len() == len || cut, "{} of {len} bytes", raw.len());
            assert!(self.bytes[start..start + len].starts_with(&raw), "raw differs");
        }
    }
}

fn head(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(300)];
    format!("{} bytes: {}", bytes.len(), String::from_utf8_lossy(shown))
}

fn kept(out: &Path, source: &str) -> Option<Vec<u8>> {
    fs::read(out.join("kept").join(source)).ok().map(unpack)
}

fn everything_said(run: &Run, out: &Path) -> String {
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_default();
    [&run.stdout, &run.stderr, &read("quarantine.jsonl"), &read("report.json")]
        .map(|s| &**s)
        .concat()
}

/// A finished job: every record accounted for in every file and in the lists, memory kept to.
fn check_sums(out: &Path) -> Value {
    let report = report(out);
    let sums = |counts: &Value| {
        let count = |name: &str| counts[name].as_u64().expect("a count");
        assert_eq!(
            count("read"),
            count("kept") + count("dropped") + count("quarantined"),
            "{counts:#}"
        );
    };
    sums(&report["totals"]);
    report["files"].as_array().expect("a list").iter().for_each(sums);
    let quarantine = jsonl(&out.join("quarantine.jsonl"));
    let n_records = quarantine.iter().filter(|row| !row["line"].is_null()).count();
    assert_eq!(report["totals"]["quarantined"], n_records);
    assert_eq!(report["totals"]["dropped"], jsonl(&out.join("dropped.jsonl")).len());
    if let Some(peak) = report["peak_memory_bytes"].as_u64() {
        assert!(peak <= MEMORY_BYTES, "{peak} bytes of memory");
    }
    assert!(!out.join(".work").exists(), "the work folder is left behind");
    report
}

/// Rows 117 to 127: files of lines and documents.
fn damages() -> Vec<Damage> {
    let mut damages = archives();
    damages.extend(names_and_bombs());
    damages.extend(broken_lines());
    damages.extend(odd_texts());
    damages
}

fn archives() -> Vec<Damage> {
    let content = lines(0..20_000);
    let members = [gzip(&lines(0..3)), gzip(&lines(3..6)), gzip(b""), gzip(&lines(6..9))].concat();
    let gz = gzip(&content);
    let gz_cut = gz[..gz.len() / 2].to_vec();
    let gz_left = readable(flate2::read::MultiGzDecoder::new(&gz_cut[..]));
    let mut gz_crc = gz.clone();
    *gz_crc.iter_mut().nth_back(7).unwrap() ^= 1;
    let gz_tail = [gz.as_slice(), b"trailing garbage"].concat();
    let zst = zstd(&content, true);
    let zst_cut = zst[..zst.len() / 2].to_vec();
    let zst_left = readable(zstd::Decoder::new(&zst_cut[..]).unwrap());
    let mut zst_sum = zst.clone();
    *zst_sum.last_mut().unwrap() ^= 1;
    let partial = |left: &Vec<u8>| u64::from(*left != whole_lines(left.clone()));
    let (gz_partial, zst_partial) = (partial(&gz_left), partial(&zst_left));
    let left = (gz_left.len(), zst_left.len());
    assert!(left.0 > 1000 && left.1 > 1000, "the cuts leave something to keep: {left:?}");
    vec![
        Damage::new(117, "gzip of several members", "b.jsonl.gz", members),
        Damage::new(118, "gzip cut in the middle", "b.jsonl.gz", gz_cut)
            .quarantines("gzip_truncated", gz_partial)
            .keeps(whole_lines(gz_left)),
        Damage::new(118, "gzip with a bad CRC", "b.jsonl.gz", gz_crc)
            .quarantines("gzip_corrupt", 0)
            .keeps(content.clone()),
        Damage::new(118, "gzip with trailing garbage", "b.jsonl.gz", gz_tail)
            .quarantines("gzip_corrupt", 0)
            .keeps(content.clone()),
        Damage::new(118, "gzip with a mark, cut", "b.jsonl.gz", {
            let marked = gzip(&[b"\xef\xbb\xbf", lines(0..2).as_slice()].concat());
            marked[..marked.len() - 4].to_vec()
        })
        .quarantines("gzip_truncated", 0)
        .keeps(lines(0..2)),
        Damage::new(119, "zstd cut", "b.jsonl.zst", zst_cut)
            .quarantines("zstd_truncated", zst_partial)
            .keeps(whole_lines(zst_left)),
        // The decoder finds the checksum wrong at the end of the frame; what it gave before ends inside a
        // record, where depends on how it was read.
        Damage::new(119, "zstd with a bad checksum", "b.jsonl.zst", zst_sum)
            .quarantines("zstd_corrupt", 1)
            .keeps_as(Kept::Any),
        Damage::new(119, "zstd without checksum", "b.jsonl.zst", zstd(&content, false))
            .warns("zstd_no_checksum"),
    ]
}

/// As small as gzip makes it: fast compression stays under the limit even for zeros.
fn gzip_best(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn names_and_bombs() -> Vec<Damage> {
    let mut zeros = lines(0..3);
    zeros.resize(96 << 20, 0);
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0\n{\n".to_vec();
    vec![
        Damage::new(120, "zstd bomb", "b.jsonl.zst", zstd(&zeros, true))
            .quarantines("expansion", 1)
            .keeps(lines(0..3)),
        Damage::new(120, "gzip bomb", "b.jsonl.gz", gzip_best(&zeros))
            .quarantines("expansion", 1)
            .keeps(lines(0..3)),
        Damage::new(120, "bomb of one document", "b.txt.zst", zstd(&zeros, true))
            .quarantines("expansion", 1)
            .keeps_as(Kept::Any),
        Damage::new(121, "zstd called .gz", "b.jsonl.gz", zstd(&lines(0..3), true)),
        Damage::new(121, "lines called .gz", "b.gz", lines(0..3)),
        Damage::new(121, "gzip without its extension", "b.jsonl", gzip(&lines(0..3))),
        Damage::new(121, "PNG called .gz", "b.gz", png.clone())
            .quarantines("format_unknown", 0)
            .keeps_as(Kept::Nothing),
        Damage::new(121, "PNG called .jsonl.gz", "b.jsonl.gz", png.clone())
            .quarantines("format_unknown", 0)
            .keeps_as(Kept::Nothing),
        Damage::new(121, "PNG called .txt", "b.txt", png)
            .quarantines("format_unknown", 0)
            .keeps_as(Kept::Nothing),
    ]
}

fn broken_lines() -> Vec<Damage> {
    let bad = |row, name, bytes: &[u8], says| {
        Damage::new(row, name, "b.jsonl", around(bytes)).quarantines(says, 1).keeps(lines(0..2))
    };
    let good = |row, name, bytes: &[u8]| Damage::new(row, name, "b.jsonl", bytes.to_vec());
    let open = lines(0..2).strip_suffix(b"\n").unwrap().to_vec();
    let crlf = String::from_utf8(lines(0..3)).unwrap().replace('\n', "\r\n").into_bytes();
    let marked = [b"\xef\xbb\xbf", lines(0..2).as_slice()].concat();
    let blank = [b"\n\n", line(0).as_bytes(), b"  \r\n\n", line(1).as_bytes(), b"\n"].concat();
    let stray = b"{\"text\": \"caf\xe9 au lait, one two three\"}\n";
    let deep =
        format!("{{\"text\": \"x\", \"a\": {}{}}}\n", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let objects = format!("{}1{}\n", "{\"a\":".repeat(1 << 18), "}".repeat(1 << 18));
    let mut long = b"{\"text\": \"".to_vec();
    long.resize(40 << 20, b'x');
    long.extend_from_slice(b"\"}\n");
    vec![
        bad(122, "a line that is not JSON", b"not json\n", "json_invalid"),
        bad(122, "a line that is cut", b"{\"text\": \"abc\n", "json_invalid"),
        bad(122, "two objects on a line", b"{\"text\": \"a\"} {\"text\": \"b\"}\n", "json_invalid"),
        good(123, "no line end at the end", &open),
        good(123, "CRLF", &crlf),
        good(123, "byte order mark", &marked).keeps(lines(0..2)),
        good(123, "blank lines", &blank).keeps(lines(0..2)),
        bad(124, "invalid UTF-8", stray, "utf8_invalid"),
        good(124, "invalid UTF-8, lossy", &around(stray)).args(&["--utf8", "lossy"]),
        bad(125, "a line of NUL bytes", b"\0\0\0\0\n", "json_invalid"),
        bad(125, "a NUL byte in a text", b"{\"text\": \"a\0b\"}\n", "json_invalid"),
        good(125, "an escaped NUL", &around(b"{\"text\": \"one \\u0000 two\"}\n")),
        bad(125, "a line of 40 MiB", &long, "record_size"),
        bad(125, "1 MiB of nested arrays", deep.as_bytes(), "json_depth"),
        bad(125, "1 MiB of open brackets", "[".repeat(1 << 20).as_bytes(), "json_invalid")
            .keeps(lines(0..1)),
        bad(125, "nested objects", objects.as_bytes(), "json_depth"),
        bad(126, "no text", b"{\"id\": 7}\n", "field_missing"),
        bad(126, "text is null", b"{\"text\": null}\n", "field_type"),
        bad(126, "text is a number", b"{\"text\": 7}\n", "field_type"),
        bad(126, "text is an array", b"{\"text\": [\"a\"]}\n", "field_type"),
    ]
}

fn odd_texts() -> Vec<Damage> {
    let empty = texts_as_lines(&["", "", " ", " ", "\\n\\t", "\\u00a0\\u3000"]);
    let short = texts_as_lines(&["yes", "no", "maybe", "so", "?", "!", "one two", "two one"]);
    let both = [empty.clone(), short].concat();
    vec![
        Damage::new(127, "empty, white and one-token texts", "b.jsonl", both.clone())
            .warns("\"short\": 8"),
        Damage::new(127, "the same, exactly", "b.jsonl", both)
            .args(&["--method", "exact"])
            .warns("\"empty\": 6"),
        Damage::new(127, "the same, if asked", "b.jsonl", empty)
            .args(&["--dedup-empty"])
            .keeps(texts_as_lines(&[""])),
    ]
}

#[cfg(feature = "parquet")]
mod parquet_damages {
    use super::*;
    use crate::support::parquet::{page_starts, with_numbers, with_texts};

    /// Row 128.
    pub fn damages() -> Vec<Damage> {
        let texts: Vec<String> = (0..300).map(text).collect();
        let whole = with_texts("text", &texts, 100);
        let bad = |name, bytes| {
            Damage::new(128, name, "p.parquet", bytes)
                .quarantines("parquet_corrupt", 0)
                .keeps_as(Kept::Nothing)
        };
        let patched = |at: usize, with: &[u8]| {
            let mut bytes = whole.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            bytes
        };
        let n = whole.len();
        // A list of two thousand million schema elements in nine bytes.
        let footer = [0x15, 0x02, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07];
        let list = [b"PAR1", &footer[..], &[9, 0, 0, 0], b"PAR1"].concat();
        let page = damaged_page(&whole);
        let others = [&texts[..100], &texts[200..]].concat();
        vec![
            Damage::new(128, "whole", "p.parquet", whole.clone())
                .keeps_as(Kept::Texts(texts.clone())),
            bad("cut footer", whole[..n - 20].to_vec()),
            bad("wrong magic at the end", patched(n - 4, b"XXXX")),
            bad("wrong magic at both ends", [b"XXXX", &whole[4..n - 4], b"XXXX"].concat()),
            bad("footer larger than the file", patched(n - 8, &[0xff, 0xff, 0xff, 0x7f])),
            bad("absurd list", list),
            bad("a bad page", page).warns("row group 1").keeps_as(Kept::Texts(others)),
            Damage::new(128, "zero rows", "p.parquet", with_texts("text", &[], 100))
                .keeps_as(Kept::Texts(Vec::new())),
            bad("wrong column", with_texts("body", &texts, 100))
                .quarantines("field_missing", 300)
                .keeps_as(Kept::Any),
            bad("text is a number", with_numbers())
                .quarantines("field_type", 9)
                .keeps_as(Kept::Any),
        ]
    }

    fn damaged_page(whole: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.parquet");
        fs::write(&path, whole).unwrap();
        let start = page_starts(&path)[1];
        let mut bytes = whole.to_vec();
        bytes[start..start + 200].fill(0xff);
        bytes
    }

    /// Bytes anywhere may be wrong: the job ends in order, whatever is left of the file.
    pub fn flipped_bytes(dir: &Path) {
        let input = dir.join("in");
        fs::create_dir(&input).unwrap();
        fs::write(input.join("a-good.jsonl"), lines(900_000..900_003)).unwrap();
        let texts: Vec<String> = (0..40).map(text).collect();
        let whole = with_texts("text", &texts, 10);
        for at in (0..whole.len()).step_by(whole.len() / 150) {
            for (name, mask) in [("low", 1), ("all", 0xff)] {
                let mut bytes = whole.clone();
                bytes[at] ^= mask;
                fs::write(input.join(format!("{at:05}-{name}.parquet")), bytes).unwrap();
            }
        }
        let (before, out) = (snapshot(&input), dir.join("out"));
        let run = dedup(std::slice::from_ref(&input), &out, &ARGS);
        assert_eq!(run.code, 10, "{run:#?}");
        assert!(everything_said(&run, &out).contains("parquet_corrupt"));
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        check_sums(&out);
        assert_eq!(kept(&out, "a-good.jsonl"), Some(lines(900_000..900_003)));
        assert!(snapshot(&input) == before, "the inputs changed");
    }
}

/// A run that needs more than a file; gets a folder of its own.
type Scene = (u32, &'static str, fn(&Path));

/// Rows that are about files as such, and about runs.
const SCENES: &[Scene] = &[
    (125, "a line of 600 MiB", line_of_600_mib),
    #[cfg(feature = "parquet")]
    (128, "flipped bytes", parquet_damages::flipped_bytes),
    (129, "what cannot be read beside what can", unreadable_beside_good),
    (129, "nothing to read", nothing_to_read),
    (130, "the same file twice", same_file_twice),
    (131, "an input grows while it is read", input_grows),
    (131, "an input is written over while it is read", input_is_written_over),
    (132, "the output exists", output_exists),
    (132, "the output is the input", output_is_input),
    (132, "the disk is full", disk_is_full),
    (133, "kill -9 and --resume", killed_and_resumed),
    (134, "--resume of another job", resume_mismatch),
    (135, "Ctrl-C and --resume", interrupted_and_resumed),
    (136, "thresholds", thresholds),
    (136, "nobody reads what is printed", closed_outputs),
];

/// A folder with lines that take a while.
fn large_input(dir: &Path) -> PathBuf {
    let input = dir.join("in");
    fs::create_dir(&input).unwrap();
    let mut file = std::io::BufWriter::new(fs::File::create(input.join("large.jsonl")).unwrap());
    for n in 0..30_000 {
        // Every third record repeats one that is far away, but for a word.
        let of = if n % 3 == 2 { n / 3 * 3 % 10_000 } else { n };
        let words: Vec<String> =
            (0..60).map(|w| format!("w{}", (of * 61 + w) % 1_000_003)).collect();
        writeln!(file, "{{\"id\": {n}, \"text\": \"{} {n}\"}}", words.join(" ")).unwrap();
    }
    writeln!(file, "not json").unwrap();
    file.flush().unwrap();
    input
}

fn manifest(out: &Path) -> PathBuf {
    out.join(".work/manifest.json")
}

fn assert_unpublished(out: &Path) {
    for name in ["kept", "dropped.jsonl", "quarantine.jsonl", "report.json", "report.html"] {
        assert!(!out.join(name).exists(), "{name} was published");
    }
}

/// A large job that is killed as soon as it has begun; returns its input and output.
fn begun(dir: &Path, name: &str) -> (PathBuf, PathBuf, Run) {
    let (input, out) = (large_input(dir), dir.join("out"));
    let mut child = dedup_command(std::slice::from_ref(&input), &out, &ARGS).spawn().unwrap();
    assert!(await_path(&mut child, &manifest(&out)), "the job ended before it began");
    signal(&child, name);
    (input, out, wait(child))
}

/// The line is a hole in the file: it takes no room on the disk, and would take all memory if it were held.
fn line_of_600_mib(dir: &Path) {
    let input = dir.join("in.jsonl");
    let mut file = fs::File::create(&input).unwrap();
    file.write_all(&lines(0..1)).unwrap();
    file.set_len(600 << 20).unwrap();
    drop(file);
    let mut file = fs::File::options().append(true).open(&input).unwrap();
    file.write_all(b"\n").unwrap();
    file.write_all(&lines(1..2)).unwrap();
    let out = dir.join("out");
    let mut child = dedup_command(&[input], &out, &ARGS).spawn().unwrap();
    let mut peak_kib = 0;
    while child.try_wait().unwrap().is_none() {
        // What the system says from outside, not what the program says of itself.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let seen =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
        peak_kib = peak_kib.max(seen.map_or(0, |kib| kib.parse::<u64>().unwrap()));
        std::thread::yield_now();
    }
    let run = wait(child);
    assert_eq!(run.code, 10, "{run:#?}");
    assert!(everything_said(&run, &out).contains("record_size"), "{run:#?}");
    assert!(peak_kib << 10 <= MEMORY_BYTES, "{peak_kib} KiB");
    let report = check_sums(&out);
    assert_eq!(report["totals"]["quarantined"], 1);
    assert_eq!(kept(&out, "in.jsonl"), Some(lines(0..2)));
}

fn unreadable_beside_good(dir: &Path) {
    let input = dir.join("in");
    fs::create_dir(&input).unwrap();
    fs::write(input.join("a-good.jsonl"), lines(0..3)).unwrap();
    fs::write(input.join("empty.jsonl"), "").unwrap();
    symlink("nowhere", input.join("broken.jsonl")).unwrap();
    symlink("loop.jsonl", input.join("loop.jsonl")).unwrap();
    symlink(".", input.join("folder-loop")).unwrap();
    let fifo = Command::new("mkfifo").arg(input.join("fifo.jsonl")).status();
    assert!(fifo.expect("mkfifo starts").success());
    let mut expected = BTreeSet::from(["empty.jsonl", "broken.jsonl", "loop.jsonl", "fifo.jsonl"]);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        skip("unreadable", "root may read every file");
    } else {
        let secret = input.join("secret.jsonl");
        fs::write(&secret, lines(5..6)).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
        expected.insert("secret.jsonl");
    }
    let before = snapshot(&input);
    let out = dir.join("out");
    let run = dedup(std::slice::from_ref(&input), &out, &ARGS);
    assert_eq!(run.code, 10, "{run:#?}");
    let report = check_sums(&out);
    let damaged =
        |file: &&Value| file["damage"].as_str().is_some_and(|d| d.starts_with("input_unreadable"));
    let damaged = report["files"].as_array().unwrap().iter().filter(damaged);
    let damaged: BTreeSet<&str> = damaged.map(|file| file["source"].as_str().unwrap()).collect();
    assert_eq!(damaged, expected, "{report:#}");
    assert_eq!(kept(&out, "a-good.jsonl"), Some(lines(0..3)));
    assert!(snapshot(&input) == before, "the inputs changed");
}

fn nothing_to_read(dir: &Path) {
    let (empty, out) = (dir.join("empty"), dir.join("out"));
    fs::create_dir(&empty).unwrap();
    let run = dedup(&[empty], &out, &ARGS);
    assert_eq!(run.code, 3, "{run:#?}");
    assert!(run.stderr.contains("input_empty"), "{run:#?}");
    let run = dedup(&[dir.join("none")], &out, &ARGS);
    assert_eq!(run.code, 4, "{run:#?}");
    assert!(run.stderr.contains("not_found"), "{run:#?}");
    assert!(!out.exists(), "a job that cannot begin leaves nothing");
}

fn same_file_twice(dir: &Path) {
    let input = dir.join("in");
    fs::create_dir(&input).unwrap();
    let path = input.join("a.jsonl");
    fs::write(&path, lines(0..3)).unwrap();
    symlink("a.jsonl", input.join("link.jsonl")).unwrap();
    let (before, out) = (snapshot(&input), dir.join("out"));
    let run = dedup(&[path.clone(), input.join("link.jsonl"), path, input.clone()], &out, &ARGS);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stderr.contains("input_repeated"), "{run:#?}");
    let report = check_sums(&out);
    assert_eq!((&report["totals"]["read"], &report["totals"]["dropped"]), (&3.into(), &0.into()));
    assert_eq!(kept(&out, "a.jsonl"), Some(lines(0..3)));
    assert!(snapshot(&input) == before, "the inputs changed");
}

/// Runs a large job and `change`s its input once it has begun.
fn changed_while_read(dir: &Path, change: fn(&Path)) {
    let (input, out) = (large_input(dir), dir.join("out"));
    let mut child = dedup_command(std::slice::from_ref(&input), &out, &ARGS).spawn().unwrap();
    assert!(await_path(&mut child, &manifest(&out)), "the job ended before it began");
    change(&input.join("large.jsonl"));
    let run = wait(child);
    assert_eq!(run.code, 11, "{run:#?}");
    assert!(run.stderr.contains("input_changed"), "{run:#?}");
    assert_unpublished(&out);
}

fn input_grows(dir: &Path) {
    changed_while_read(dir, |path| {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        file.write_all(&lines(0..1)).unwrap();
    });
}

fn input_is_written_over(dir: &Path) {
    changed_while_read(dir, |path| {
        let mut file = fs::File::options().write(true).open(path).unwrap();
        file.write_all(b"{").unwrap();
    });
}

fn output_exists(dir: &Path) {
    let (input, out) = (dir.join("in.jsonl"), dir.join("out"));
    fs::write(&input, lines(0..3)).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("mine.txt"), "not yours").unwrap();
    let before = snapshot(dir);
    let run = dedup(std::slice::from_ref(&input), &out, &ARGS);
    assert_eq!(run.code, 2, "{run:#?}");
    assert!(run.stderr.contains("output_exists") && run.stderr.contains("--overwrite"), "{run:#?}");
    assert!(snapshot(dir) == before, "something changed");
    let run = dedup(&[input], &out, &[&ARGS[..], &["--overwrite"]].concat());
    assert_eq!(run.code, 0, "{run:#?}");
    assert_eq!(fs::read(out.join("mine.txt")).unwrap(), b"not yours");
    check_sums(&out);
}

fn output_is_input(dir: &Path) {
    let input = dir.join("in");
    fs::create_dir(&input).unwrap();
    fs::write(input.join("a.jsonl"), lines(0..3)).unwrap();
    symlink("in", dir.join("alias")).unwrap();
    let before = snapshot(dir);
    for out in [input.clone(), dir.join("alias"), input.join("../in")] {
        for more in [&[][..], &["--overwrite"], &["--resume"]] {
            let run = dedup(std::slice::from_ref(&input), &out, &[&ARGS, more].concat());
            assert_eq!(run.code, 2, "{run:#?}");
            assert!(run.stderr.contains("output_is_input"), "{run:#?}");
        }
    }
    assert!(snapshot(dir) == before, "something changed");
}

/// A small disk of its own, for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let disk = Self(at);
        disk.with_options("size=1m").then_some(disk)
    }

    fn grow(&self) {
        assert!(self.with_options("remount,size=512m"));
    }

    fn with_options(&self, options: &str) -> bool {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&self.0);
        command.output().is_ok_and(|output| output.status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

fn disk_is_full(dir: &Path) {
    let Some(disk) = SmallDisk::mount(dir.join("disk")) else {
        return skip("disk_full", "no right to mount a small disk");
    };
    let (input, out) = (large_input(dir), disk.0.join("out"));
    let before = snapshot(&input);
    let run = dedup(std::slice::from_ref(&input), &out, &ARGS);
    assert_eq!(run.code, 6, "{run:#?}");
    assert!(run.stderr.contains("disk_full"), "{run:#?}");
    assert_unpublished(&out);
    disk.grow();
    check_resumed(dir, &input, &out);
    assert!(snapshot(&input) == before, "the inputs changed");
}

/// Resumes, and compares with a job that nothing happened to.
fn check_resumed(dir: &Path, input: &Path, out: &Path) {
    let undisturbed = dir.join("undisturbed");
    if !undisturbed.exists() {
        let run = dedup(&[input.to_owned()], &undisturbed, &ARGS);
        assert_eq!(run.code, 10, "{run:#?}");
    }
    let run = dedup(&[input.to_owned()], out, &[&ARGS[..], &["--resume"]].concat());
    assert!(run.code == 10 || run.stderr.contains("finished already"), "{run:#?}");
    check_sums(out);
    assert!(results(out) == results(&undisturbed), "the results differ");
}

fn killed_and_resumed(dir: &Path) {
    let input = large_input(dir);
    let before = snapshot(&input);
    let moments =
        ["manifest.json", "sketch/000000.sk", "kept/large.jsonl.part", "quarantine.jsonl"];
    for (number, moment) in moments.into_iter().enumerate() {
        let out = dir.join(format!("out-{number}"));
        let mut child = dedup_command(std::slice::from_ref(&input), &out, &ARGS).spawn().unwrap();
        if await_path(&mut child, &out.join(".work").join(moment)) {
            signal(&child, "KILL");
        }
        let run = wait(child);
        assert!(number > 0 || run.code == 137, "the job ended before it was killed: {run:#?}");
        check_resumed(dir, &input, &out);
    }
    assert!(snapshot(&input) == before, "the inputs changed");
}

fn resume_mismatch(dir: &Path) {
    let (input, out, run) = begun(dir, "KILL");
    assert_eq!(run.code, 137, "{run:#?}");
    let resume = |more: &[&str]| {
        let run =
            dedup(std::slice::from_ref(&input), &out, &[&ARGS[..], &["--resume"], more].concat());
        assert_eq!(run.code, 2, "{run:#?}");
        assert!(run.stderr.contains("resume_mismatch"), "{run:#?}");
        assert_unpublished(&out);
        run.stderr
    };
    let said = resume(&["--threshold", "0.85"]);
    assert!(said.contains("threshold 0.8 ") && said.contains(" 0.85"), "{said}");
    let path = input.join("large.jsonl");
    let earlier = fs::metadata(&path).unwrap().len();
    fs::File::options().append(true).open(&path).unwrap().write_all(&lines(0..1)).unwrap();
    let now = fs::metadata(&path).unwrap().len();
    let said = resume(&[]);
    assert!(said.contains(&earlier.to_string()) && said.contains(&now.to_string()), "{said}");
}

fn interrupted_and_resumed(dir: &Path) {
    let (input, out, run) = begun(dir, "INT");
    assert_eq!(run.code, 130, "{run:#?}");
    assert!(run.stderr.contains("interrupted") && run.stderr.contains("--resume"), "{run:#?}");
    assert_unpublished(&out);
    check_resumed(dir, &input, &out);
}

fn thresholds(dir: &Path) {
    let input = dir.join("in.jsonl");
    fs::write(&input, lines(0..3)).unwrap();
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--threshold", "0"], 2, "threshold_range"),
        (&["--threshold", "0", "--yes-everything"], 0, ""),
        (&["--yes-everything"], 0, ""),
        (&["--threshold", "1"], 0, ""),
        (&["--threshold", "1.1"], 2, "threshold_range"),
        (&["--threshold=-0.5"], 2, "threshold_range"),
        (&["--threshold", "NaN"], 2, "threshold_range"),
        (&["--threshold", "inf"], 2, "threshold_range"),
    ];
    for (number, (args, exit, says)) in cases.into_iter().enumerate() {
        let out = dir.join(number.to_string());
        let run = dedup(std::slice::from_ref(&input), &out, &[&ARGS, args].concat());
        assert_eq!(run.code, exit, "{args:?}: {run:#?}");
        assert!(run.stderr.contains(says), "{args:?}: {run:#?}");
        if exit == 0 {
            let report = check_sums(&out);
            assert_eq!(report["totals"]["read"], 3, "{args:?}");
        } else {
            assert!(!out.exists(), "a job that cannot begin leaves nothing");
        }
    }
}

/// `nearkin ... | head -0` is no reason to fail, or to panic, after hours of work.
fn closed_outputs(dir: &Path) {
    let input = dir.join("in.jsonl");
    fs::write(&input, lines(0..3)).unwrap();
    // Named twice, so that there is a warning.
    let inputs = [input.clone(), input];
    let mut child = dedup_command(&inputs, &dir.join("one"), &ARGS).spawn().unwrap();
    drop(child.stdout.take());
    let run = wait(child);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(!run.stderr.contains("panicked"), "{run:#?}");
    check_sums(&dir.join("one"));
    let mut child = dedup_command(&inputs, &dir.join("two"), &ARGS).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(wait(child).code, 0);
    check_sums(&dir.join("two"));
}

#[test]
fn every_row_of_the_catalogue_ends_as_it_says() {
    let mut runs: Vec<(u32, String, Box<dyn Fn()>)> = Vec::new();
    let mut add = |damage: Damage| {
        runs.push((damage.row, damage.name.to_owned(), Box::new(move || damage.run())));
    };
    damages().into_iter().for_each(&mut add);
    #[cfg(feature = "parquet")]
    parquet_damages::damages().into_iter().for_each(&mut add);
    for &(row, name, scene) in SCENES {
        let in_folder = move || scene(tempfile::tempdir().unwrap().path());
        runs.push((row, name.to_owned(), Box::new(in_folder)));
    }
    let covered: BTreeSet<u32> = runs.iter().map(|run| run.0).collect();
    for row in (117..=136).filter(|row| !covered.contains(row)) {
        skip(&format!("row-{row}"), "not in this build");
    }
    let mut failed = Vec::new();
    for (row, name, run) in runs {
        eprintln!("row {row}: {name}");
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            failed.push(format!("row {row}: {name}"));
        }
    }
    assert!(failed.is_empty(), "{} rows fail: {failed:#?}", failed.len());
}
