//! Corpora for these tests: the fixture read a second way, made-up pages by seed, a brute-force similarity,
//! and one short way to run a job and to read what it wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The program, with nothing on its standard input.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearkin"));
    command.stdin(Stdio::null());
    command
}

/// What one call of the program came to.
pub struct Ended {
    pub code: i32,
    pub stderr: String,
}

/// Runs the program to its end.
pub fn nearkin(args: &[&str]) -> Ended {
    let output = program().args(args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    Ended { code: output.status.code().unwrap_or(-1), stderr }
}

/// `path` as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Input files in a folder of their own, and jobs on them, each with its own output folder.
pub struct Case {
    pub dir: TempDir,
    n_jobs: AtomicUsize,
}

impl Case {
    pub fn new() -> Self {
        let case = Self { dir: tempfile::tempdir().unwrap(), n_jobs: AtomicUsize::new(0) };
        fs::create_dir(case.input()).unwrap();
        case
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn input(&self) -> PathBuf {
        self.path("in")
    }

    /// Writes an input file.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        write(&self.input().join(name), bytes);
        self
    }

    fn new_out(&self) -> PathBuf {
        self.path(&format!("out-{}", self.n_jobs.fetch_add(1, Ordering::Relaxed)))
    }

    /// A job on the input folder that must end well.
    pub fn run(&self, options: &[&str]) -> Job {
        self.run_on(&self.input(), options)
    }

    /// A job on some file or folder that must end well.
    pub fn run_on(&self, input: &Path, options: &[&str]) -> Job {
        let out = self.new_out();
        let ended = nearkin(&[&["dedup", arg(input), "--out", arg(&out)], options].concat());
        assert_eq!(ended.code, 0, "{options:?}: {}", ended.stderr);
        Job { out }
    }

    /// The message of a job that must be refused as wrong usage.
    pub fn refused(&self, options: &[&str]) -> String {
        let (input, out) = (self.input(), self.new_out());
        let ended = nearkin(&[&["dedup", arg(&input), "--out", arg(&out)], options].concat());
        assert_eq!(ended.code, 2, "{options:?}: {}", ended.stderr);
        assert!(!out.join("report.json").exists());
        ended.stderr
    }
}

/// A finished job.
pub struct Job {
    pub out: PathBuf,
}

impl Job {
    pub fn dropped(&self) -> Vec<Value> {
        read_records(&self.out.join("dropped.jsonl"))
    }

    /// Kept records of all files, in order of their paths.
    pub fn kept(&self) -> Vec<Value> {
        let kept = self.out.join("kept");
        files_below(&kept).iter().flat_map(|name| read_records(&kept.join(name))).collect()
    }

    pub fn kept_ids(&self) -> Vec<String> {
        self.kept().iter().map(|record| shown(&record["id"])).collect()
    }

    pub fn dropped_ids(&self) -> Vec<String> {
        self.dropped().iter().map(|row| shown(&row["id"])).collect()
    }

    pub fn kept_text(&self, name: &str) -> String {
        fs::read_to_string(self.out.join("kept").join(name)).unwrap()
    }

    pub fn report(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out.join("report.json")).unwrap()).unwrap()
    }
}

/// A JSON string without its quotes, or another value as it is.
pub fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Records as JSON Lines.
pub fn jsonl(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// A record of an id and a text.
pub fn record(id: impl Into<Value>, text: &str) -> Value {
    json!({"id": id.into(), "text": text})
}

pub fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    use std::io::Write;
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes.as_ref()).unwrap();
    writer.finish().unwrap()
}

pub fn zstd(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::encode_all(bytes.as_ref(), 1).unwrap()
}

/// Paths of all files in a folder, relative to it, sorted.
pub fn files_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                names.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

/// Name and bytes of all files in a folder.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| {
        let bytes = fs::read(folder.join(&name)).unwrap();
        (name, bytes)
    };
    files_below(folder).into_iter().map(read).collect()
}

/// What must be the same bytes however a job was run: all but the reports, which tell its times.
pub fn output(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = contents(out);
    assert!(all.remove("report.json").is_some() && all.remove("report.html").is_some());
    all
}

/// Fails with the names of the files that differ, not with their megabytes.
pub fn assert_same(
    found: &BTreeMap<String, Vec<u8>>,
    expected: &BTreeMap<String, Vec<u8>>,
    what: &str,
) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    let differ: Vec<&String> =
        found.keys().filter(|name| found[*name] != expected[*name]).collect();
    assert!(differ.is_empty(), "{what}: {differ:?} differ");
}

/// All records of a file, read without nearkin, in the order of their lines, elements or rows.
pub fn read_records(path: &Path) -> Vec<Value> {
    let name = path.to_str().unwrap();
    if name.ends_with(".parquet") {
        return parquet_rows(path);
    }
    let bytes = fs::read(path).unwrap();
    // By content: a file keeps its name, whatever it says.
    let text = if bytes.starts_with(b"\x1f\x8b") {
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        text
    } else if bytes.starts_with(b"\x28\xb5\x2f\xfd") {
        String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap()
    } else {
        String::from_utf8(bytes).unwrap()
    };
    if name.contains(".txt") {
        let id = path.file_name().unwrap().to_str().unwrap();
        return vec![record(id, &text)];
    }
    if name.contains(".jsonl") {
        return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    }
    serde_json::from_str(&text).unwrap()
}

#[cfg(feature = "parquet")]
fn parquet_rows(path: &Path) -> Vec<Value> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    let value = |field: &Field| match field {
        Field::Null => Value::Null,
        Field::Bool(value) => json!(value),
        Field::Int(value) => json!(value),
        Field::Long(value) => json!(value),
        Field::Double(value) => json!(value),
        Field::Str(value) => json!(value),
        other => json!(other.to_string()),
    };
    let object = |row: parquet::record::Row| {
        let fields = row.get_column_iter().map(|(name, field)| (name.clone(), value(field)));
        Value::Object(fields.collect::<serde_json::Map<String, Value>>())
    };
    reader.get_row_iter(None).unwrap().map(|row| object(row.unwrap())).collect()
}

#[cfg(not(feature = "parquet"))]
fn parquet_rows(_: &Path) -> Vec<Value> {
    Vec::new()
}

/// Writes a Parquet file of ids and texts, in row groups of `group` rows.
#[cfg(feature = "parquet")]
pub fn write_parquet(path: &Path, rows: &[(String, String)], group: usize) {
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use std::sync::Arc;
    let column = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
    let ids = column(rows.iter().map(|row| row.0.as_str()).collect());
    let texts = column(rows.iter().map(|row| row.1.as_str()).collect());
    let batch = RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(group));
    let mut writer = parquet::arrow::ArrowWriter::try_new(
        fs::File::create(path).unwrap(),
        batch.schema(),
        Some(properties.build()),
    )
    .unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// The fixture corpus.
pub fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/fixtures/corpus")
}

/// Words as the guide to the method says: lower-case by character, split at Unicode white space, and each
/// character of a script without spaces by itself.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for run in text.split(char::is_whitespace) {
        let mut word = String::new();
        for c in run.chars() {
            if is_unspaced(c) {
                words.push(std::mem::take(&mut word));
                words.push(c.to_string());
            } else {
                let lower: String = c.to_lowercase().collect();
                word.push_str(if lower == "ς" { "σ" } else { &lower });
            }
        }
        words.push(word);
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Han, kana, Thai, Lao and Khmer.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}' | '\u{1780}'..='\u{17ff}' | '\u{19e0}'..='\u{19ff}'
        | '々'..='〇' | '〡'..='〩' | '〸'..='〻'
        | 'ぁ'..='ヿ' | 'ㇰ'..='ㇿ' | 'ｦ'..='ﾟ' | '\u{1b000}'..='\u{1b16f}'
        | '㐀'..='䶿' | '一'..='\u{9fff}' | '豈'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// The set of word 5-grams; of a shorter text, all its words as one; of an empty one, nothing.
pub fn shingles(text: &str) -> BTreeSet<String> {
    let words = words(text);
    if words.is_empty() {
        return BTreeSet::new();
    }
    words.windows(words.len().min(5)).map(|window| window.join(" ")).collect()
}

/// Jaccard similarity by its definition.
pub fn jaccard(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    let shared = a.intersection(b).count();
    let union = a.len() + b.len() - shared;
    if union == 0 { 0.0 } else { shared as f64 / union as f64 }
}

/// Random numbers by seed: splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A made-up word, one of 8000.
    pub fn word(&mut self) -> String {
        const SYLLABLES: [&str; 20] = [
            "ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "qui", "ro",
            "su", "ta", "ve", "wi", "xo", "zu",
        ];
        (0..3).map(|_| SYLLABLES[self.below(20)]).collect()
    }

    /// A made-up text of `n` words.
    pub fn page(&mut self, n: usize) -> Vec<String> {
        (0..n).map(|_| self.word()).collect()
    }

    /// The text with one word replaced.
    pub fn edited(&mut self, page: &[String]) -> Vec<String> {
        let mut page = page.to_vec();
        let at = self.below(page.len());
        page[at] = format!("{}{}", self.word(), self.word());
        page
    }
}
