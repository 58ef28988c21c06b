//! What was refused and what was changed, by whom: lines of JSON that are only ever added to a file.
//!
//! A line is there before the answer is sent. It has no key, no vector and no payload; names of collections and tenants it has.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::error::{IoContext, Result};
use crate::server::keys::text::KeyId;
use crate::server::moment::Moment;

/// What is written down of a request.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// When it was answered.
    pub now: Moment,
    /// The request.
    pub request: &'a str,
    /// Who asked: the key, where one was valid.
    pub key: Option<KeyId>,
    /// The tenant of the key.
    pub tenant: Option<&'a str>,
    /// Method and pattern of the route; nothing for what has none.
    pub action: &'a str,
    /// The collection that was named.
    pub collection: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
    /// Why it was refused, in a word.
    pub code: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request: &'a str,
    key: Option<KeyId>,
    tenant: Option<&'a str>,
    action: &'a str,
    collection: Option<&'a str>,
    result: &'static str,
    status: u16,
    code: Option<&'a str>,
}

/// The file.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Whether the last line has no end: the next begins with one.
    is_torn: bool,
}

impl Audit {
    /// Opens the file, which is made for its owner alone if it is not there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), open: Mutex::new(open(path)?) })
    }

    /// Adds a line. A file that was given another name, so that it does not grow for ever, is followed by a new one.
    ///
    /// # Errors
    /// Those of the disk; the line is then not there, or not whole.
    pub fn record(&self, act: &Act<'_>) -> Result<()> {
        let mut bytes = line(act);
        let mut open_file = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_at(&open_file.file, &self.path).at("look at", &self.path)? {
            *open_file = open(&self.path)?;
        }
        if open_file.is_torn {
            bytes.insert(0, b'\n');
        }
        open_file.is_torn = true;
        open_file.file.write_all(&bytes).at("write", &self.path)?;
        open_file.is_torn = false;
        Ok(())
    }
}

fn line(act: &Act<'_>) -> Vec<u8> {
    let line = Line {
        time: act.now.rfc3339(),
        request: act.request,
        key: act.key,
        tenant: act.tenant,
        action: act.action,
        collection: act.collection,
        result: result(act.status),
        status: act.status,
        code: act.code,
    };
    let mut bytes = serde_json::to_vec(&line).expect("strings and numbers");
    bytes.push(b'\n');
    bytes
}

fn result(status: u16) -> &'static str {
    match status {
        200..=399 => "done",
        401 | 403 | 404 | 429 => "denied",
        _ => "failed",
    }
}

fn open(path: &Path) -> Result<Open> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).append(true).create(true).mode(0o600).open(path);
    let mut file = opened.at("open", path)?;
    let is_torn = !ends_with_line(&mut file).at("read", path)?;
    Ok(Open { file, is_torn })
}

/// Whether a file is empty or its last byte ends a line: a process that was killed may have left half of one.
fn ends_with_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Whether this file is the one that has the name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn act(request: &str, status: u16) -> Act<'_> {
        let now = Moment { unix_ms: 1_795_945_020_123, ..Moment::default() };
        Act {
            now,
            request,
            key: Some(KeyId(7)),
            tenant: Some("ann\n\"b\""),
            action: "DELETE /collections/{collection}",
            collection: Some("notes"),
            status,
            code: (status != 200).then_some("scope"),
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_says_who_did_what_when_and_how_it_went() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        audit.record(&act("r1", 200)).unwrap();
        audit.record(&act("r2", 403)).unwrap();
        let expected = serde_json::json!({
            "time": "2026-11-29T09:37:00.123Z", "request": "r1", "key": "0000000000000007",
            "tenant": "ann\n\"b\"", "action": "DELETE /collections/{collection}",
            "collection": "notes", "result": "done", "status": 200, "code": null,
        });
        let lines = lines(&path);
        assert_eq!((lines.len(), &lines[0]), (2, &expected));
        assert_eq!((&lines[1]["result"], &lines[1]["code"]), (&"denied".into(), &"scope".into()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn many_at_once_and_files_moved_away_meanwhile_lose_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        let (n_threads, n_each) = (4, 250);
        std::thread::scope(|scope| {
            for thread in 0..n_threads {
                let audit = &audit;
                scope.spawn(move || {
                    for n in 0..n_each {
                        audit.record(&act(&format!("{thread}-{n}"), 200)).unwrap();
                    }
                });
            }
            let moved = |n| dir.path().join(format!("audit.{n}"));
            for n in 0..20 {
                // Nothing there means that nothing was written since it was moved.
                let _ = fs::rename(&path, moved(n));
                std::thread::yield_now();
            }
        });
        let mut found = Vec::new();
        for entry in fs::read_dir(dir.path()).unwrap() {
            found.extend(lines(&entry.unwrap().path()));
        }
        let names: BTreeSet<String> =
            found.iter().map(|line| line["request"].to_string()).collect();
        assert_eq!((found.len(), names.len()), (n_threads * n_each, n_threads * n_each));
    }

    #[test]
    fn half_a_line_of_a_killed_process_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        Audit::open(&path).unwrap().record(&act("whole", 200)).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"time\":\"2026").unwrap();
        let audit = Audit::open(&path).unwrap();
        audit.record(&act("next", 200)).unwrap();
        audit.record(&act("after", 200)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let whole: Vec<Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let names: Vec<&str> = whole.iter().map(|line| line["request"].as_str().unwrap()).collect();
        assert_eq!((names, text.lines().count()), (vec!["whole", "next", "after"], 4));
    }

    #[test]
    fn a_line_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone").join("audit.jsonl");
        assert_eq!(Audit::open(&path).unwrap_err().code(), "not_found");
        fs::create_dir(dir.path().join("gone")).unwrap();
        let audit = Audit::open(&path).unwrap();
        fs::remove_dir_all(dir.path().join("gone")).unwrap();
        assert_eq!(audit.record(&act("r", 200)).unwrap_err().code(), "not_found");
        fs::create_dir(dir.path().join("gone")).unwrap();
        audit.record(&act("later", 200)).unwrap();
        assert_eq!(lines(&path).len(), 1);
    }
}
