//! Which files are read, and as what.
//!
//! In: paths, folders and globs as typed. Out: [`InputFile`]s in path order, each once, with its format
//! decided by its content; a file name only breaks ties among kinds of text.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::codec::{self, Compression};
use crate::record::{Problem, codec::unreadable};

/// What the (decompressed) bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Jsonl,
    /// One JSON array of objects, or objects one after another.
    Json,
    /// One document.
    Text,
    /// Parquet.
    Parquet,
}

/// One file to read.
#[derive(Clone, Debug)]
pub struct InputFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path relative to the common folder of all inputs, with `/` between names.
    pub source: String,
    /// Its size when the job began.
    pub size: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub modified: u128,
    /// Its kind, or why it has none.
    pub kind: Result<(Format, Compression), Problem>,
}

/// What identifies an input between a job and its resumption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// [`InputFile::source`].
    pub source: String,
    /// Absolute path.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: u128,
}

/// All inputs of a job.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// In path order.
    pub files: Vec<InputFile>,
    /// Paths inside folders that were not read, since their names are of no known format.
    pub ignored: Vec<String>,
    /// Files named more than once, read once.
    pub repeated: Vec<String>,
}

impl InputFile {
    /// `jsonl.gz` and the like, or `unknown`.
    pub fn format_name(&self) -> String {
        match &self.kind {
            Ok((format, compression)) => {
                let name = match format {
                    Format::Jsonl => "jsonl",
                    Format::Json => "json",
                    Format::Text => "text",
                    Format::Parquet => "parquet",
                };
                format!("{name}{}", compression.suffix())
            }
            Err(_) => "unknown".to_owned(),
        }
    }

    /// Identity for resuming.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            source: self.source.clone(),
            path: self.path.clone(),
            size: self.size,
            modified: self.modified,
        }
    }

    /// Size and time of change now, to be compared with [`Self::size`] and [`Self::modified`].
    ///
    /// # Errors
    /// If the file is gone.
    pub fn stat(&self) -> Result<(u64, u128)> {
        let meta = fs::metadata(&self.path).at("look at", &self.path)?;
        Ok((meta.len(), modified(&meta)))
    }
}

/// Expands what was typed. Folders are walked in name order; in them, hidden files and files of unknown
/// name are ignored (and listed); a file that is named itself is always read.
///
/// # Errors
/// `not_found` for a path or glob that names nothing; `input_empty` if no file is left.
pub fn expand(typed: &[PathBuf]) -> Result<Inputs> {
    let mut found = Found::default();
    for path in typed {
        found.add_typed(path)?;
    }
    let Found { mut paths, ignored, .. } = found;
    paths.sort();
    let mut inputs = Inputs { ignored, ..Inputs::default() };
    let root = common_folder(&paths);
    let mut seen = HashSet::new();
    for path in paths {
        let source = relative(&path, &root);
        let canonical = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if seen.insert(canonical) {
            inputs.files.push(inspect(path, source));
        } else {
            inputs.repeated.push(source);
        }
    }
    if inputs.files.is_empty() {
        let message = "the inputs hold no file of a known format (.jsonl .json .parquet .txt)";
        return Err(Error::new(ErrorKind::BadInput, "input_empty", message));
    }
    inputs.ignored.iter_mut().for_each(|path| *path = relative(Path::new(path), &root));
    inputs.ignored.sort();
    Ok(inputs)
}

#[derive(Default)]
struct Found {
    paths: Vec<PathBuf>,
    ignored: Vec<String>,
}

impl Found {
    fn add_typed(&mut self, typed: &Path) -> Result<()> {
        if fs::symlink_metadata(typed).is_ok() {
            return self.add(&absolute(typed)?);
        }
        let pattern = typed.to_string_lossy();
        let missing = || {
            let message = format!("{} names no file or folder", typed.display());
            Error::new(ErrorKind::NotFound, "not_found", message)
        };
        if !pattern.contains(['*', '?', '[']) {
            return Err(missing());
        }
        let wrong = |error: String| Error::usage("glob", format!("{pattern}: {error}"));
        // As a shell does it: hidden files only by name.
        let hidden = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
        let matches =
            glob::glob_with(&pattern, hidden).map_err(|error| wrong(error.to_string()))?;
        let before = self.paths.len();
        for path in matches {
            self.add(&absolute(&path.map_err(|error| wrong(error.to_string()))?)?)?;
        }
        if self.paths.len() == before { Err(missing()) } else { Ok(()) }
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        if !path.is_dir() {
            self.paths.push(path.to_owned());
            return Ok(());
        }
        let walk = WalkDir::new(path).follow_links(true).sort_by_file_name();
        let visible = |entry: &walkdir::DirEntry| {
            entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
        };
        for entry in walk.into_iter().filter_entry(visible) {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) if is_known_name(entry.path()) => {
                    self.paths.push(entry.path().to_owned());
                }
                Ok(entry) => self.ignored.push(entry.path().to_string_lossy().into_owned()),
                // A broken link or a folder that may not be read is named by `inspect`; a loop leads
                // back to files that are read anyway.
                Err(error) if error.loop_ancestor().is_some() => {
                    let path = error.path().unwrap_or(path);
                    self.ignored.push(path.to_string_lossy().into_owned());
                }
                Err(error) => self.paths.push(error.path().unwrap_or(path).to_owned()),
            }
        }
        Ok(())
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).at("resolve", path)?;
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    Ok(clean)
}

/// The deepest folder that holds every path.
fn common_folder(paths: &[PathBuf]) -> PathBuf {
    let Some(first) = paths.first() else { return PathBuf::new() };
    let mut root = first.parent().unwrap_or(Path::new("")).to_owned();
    for path in paths {
        while !path.starts_with(&root) {
            root.pop();
        }
    }
    root
}

fn relative(path: &Path, root: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    let names: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    names.join("/")
}

/// The extension before `.gz` or `.zst`, in lower case.
fn inner_extension(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = [".gz", ".gzip", ".zst", ".zstd"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(&name);
    name.rsplit_once('.').map_or("", |(_, extension)| extension).to_owned()
}

fn is_known_name(path: &Path) -> bool {
    matches!(
        inner_extension(path).as_str(),
        "jsonl" | "ndjson" | "json" | "parquet" | "pq" | "txt" | "text"
    )
}

fn modified(meta: &fs::Metadata) -> u128 {
    let time = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    time.map_or(0, |time| time.as_nanos())
}

fn inspect(path: PathBuf, source: String) -> InputFile {
    let (size, modified, kind) = match fs::metadata(&path) {
        Ok(meta) if meta.is_file() && meta.len() == 0 => {
            let message = format!("{}: 0 bytes", path.display());
            (0, modified(&meta), Err(Problem::new("input_unreadable", message)))
        }
        Ok(meta) if meta.is_file() => (meta.len(), modified(&meta), detect(&path)),
        Ok(_) => {
            let message = format!("{}: expected a regular file", path.display());
            (0, 0, Err(Problem::new("input_unreadable", message)))
        }
        Err(error) => (0, 0, Err(unreadable(&path, &error))),
    };
    InputFile { path, source, size, modified, kind }
}

/// Bytes looked at to tell the formats apart.
const HEAD_BYTES: usize = 64 << 10;

fn detect(path: &Path) -> Result<(Format, Compression), Problem> {
    let wrapped = codec::head(path, Compression::None, 8)?;
    let compression = Compression::of(&wrapped);
    let head = match codec::head(path, compression, HEAD_BYTES) {
        Ok(head) => head,
        // Nothing at all could be decompressed: the name says what it would have been.
        Err(problem) if problem.code != "input_unreadable" => Vec::new(),
        Err(problem) => return Err(problem),
    };
    Ok((text_or_parquet(path, &head)?, compression))
}

/// First bytes of what is not a corpus, whatever its name says: read as lines, every line of it would be a
/// quarantined record.
const FOREIGN: [(&[u8], &str); 12] = [
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF89a", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x04\x22\x4d\x18", "an LZ4 archive"),
    (b"Obj\x01", "an Avro file"),
    (b"ARROW1\0\0", "an Arrow file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x7fELF", "a program"),
];

fn text_or_parquet(path: &Path, head: &[u8]) -> Result<Format, Problem> {
    if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        let message = format!("{}: {what}", path.display());
        return Err(Problem::new("format_unknown", message));
    }
    let extension = inner_extension(path);
    let named = match extension.as_str() {
        "jsonl" | "ndjson" => Some(Format::Jsonl),
        "json" => Some(Format::Json),
        "txt" | "text" => Some(Format::Text),
        "parquet" | "pq" => Some(Format::Parquet),
        _ => None,
    };
    if head.starts_with(b"PAR1") || (named == Some(Format::Parquet) && !looks_like_text(head)) {
        return Ok(Format::Parquet);
    }
    let body = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let first_line = body.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if first_line.starts_with(b"{") && is_whole_object(first_line, first_line.len() == body.len()) {
        return Ok(if named == Some(Format::Json) && !first_line.trim_ascii().ends_with(b"}") {
            Format::Json
        } else {
            Format::Jsonl
        });
    }
    match (named, body.first()) {
        (Some(Format::Jsonl), _) => Ok(Format::Jsonl),
        (Some(Format::Json), _) => Ok(Format::Json),
        (None, Some(b'[')) if body[1..].trim_ascii_start().starts_with(b"{") => Ok(Format::Json),
        _ if looks_like_text(head) => Ok(Format::Text),
        (Some(Format::Text), _) => Ok(Format::Text),
        _ => {
            let shown = &head[..head.len().min(8)];
            let message = format!(
                "{}: first bytes {shown:02x?} are none of JSON Lines, JSON, text, Parquet, gzip, zstd",
                path.display()
            );
            Err(Problem::new("format_unknown", message))
        }
    }
}

/// Whether a first line is an object by itself; one that goes on past the head is taken as one.
fn is_whole_object(line: &[u8], cut: bool) -> bool {
    cut && line.len() > HEAD_BYTES / 2
        || serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line).is_ok()
}

/// No NUL byte, and UTF-8 but for a character cut at the end or few stray bytes.
fn looks_like_text(head: &[u8]) -> bool {
    if memchr::memchr(0, head).is_some() {
        return false;
    }
    let broken: usize = head.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
    broken <= 1 + head.len() / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(name: &str, content: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        inspect(path, name.into()).kind.map_or_else(
            |problem| problem.code.to_owned(),
            |(format, compression)| format!("{format:?}{}", compression.suffix()),
        )
    }

    #[test]
    fn content_decides_and_names_break_ties_among_texts() {
        let line = b"{\"text\": \"a\"}\n";
        let zst = zstd::encode_all(&line[..], 1).unwrap();
        assert_eq!(detected("a.gz", &zst), "Jsonl.zst");
        assert_eq!(detected("a.gz", line), "Jsonl");
        assert_eq!(detected("a.parquet", line), "Jsonl");
        assert_eq!(detected("a.jsonl", b"PAR1...."), "Parquet");
        assert_eq!(detected("a.gz", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "format_unknown");
        assert_eq!(detected("a.jsonl.gz", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "format_unknown");
        assert_eq!(detected("a.txt", b"%PDF-1.7\n"), "format_unknown");
        assert_eq!(detected("a.jsonl", b"broken first line\n{\"text\": \"a\"}\n"), "Jsonl");
        assert_eq!(detected("a.json", b"[{\"text\": \"a\"}]"), "Json");
        assert_eq!(detected("a.json", b"{\n \"text\": \"a\"\n}"), "Json");
        assert_eq!(detected("a.txt", b"[Music] once upon a time"), "Text");
        assert_eq!(detected("a.txt", b"{not json}"), "Text");
        assert_eq!(detected("a.md", b"# title"), "Text");
        assert_eq!(detected("a.jsonl", b""), "input_unreadable");
        assert_eq!(detected("a.jsonl", b"\xef\xbb\xbf{\"text\": \"a\"}"), "Jsonl");
    }

    #[test]
    fn folders_are_walked_once_and_what_is_left_out_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("in/b")).unwrap();
        fs::write(root.join("in/b/two.jsonl"), "{\"text\": \"a\"}\n").unwrap();
        fs::write(root.join("in/one.txt"), "x").unwrap();
        fs::write(root.join("in/notes.pdf"), "x").unwrap();
        fs::write(root.join("in/.hidden.txt"), "x").unwrap();
        std::os::unix::fs::symlink("../../in", root.join("in/b/loop")).unwrap();
        std::os::unix::fs::symlink("one.txt", root.join("in/same.txt")).unwrap();
        let inputs = expand(&[root.join("in"), root.join("in/*.txt")]).unwrap();
        let sources: Vec<_> = inputs.files.iter().map(|file| file.source.as_str()).collect();
        assert_eq!(sources, ["b/two.jsonl", "one.txt"]);
        assert_eq!(inputs.repeated, ["one.txt", "same.txt", "same.txt"]);
        assert!(inputs.ignored.contains(&"notes.pdf".to_owned()), "{:?}", inputs.ignored);
        let error = expand(&[root.join("none/*.txt")]).unwrap_err();
        assert_eq!(error.code(), "not_found");
    }
}
