//! Lines of a text file, whole and decompressed, with their numbers.

use std::path::Path;

use crate::core::limits::RECORD_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Problem;
use crate::record::codec::{Compression, Stream, head};

/// Bytes that are looked at to see how a file is compressed.
const HEAD: usize = 8;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Calls `take` with every line of a file, counted from 1, without its end; a last line may lack one. gzip and zstd are
/// known by content.
///
/// # Errors
/// Those of [`Lines::open`] and [`Lines::next`]; those of `take`.
pub fn each(path: &Path, take: &mut dyn FnMut(usize, &str) -> Result<()>) -> Result<()> {
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next()? {
        take(number, line)?;
    }
    Ok(())
}

/// Lines of a file, one after the other.
pub struct Lines {
    name: String,
    stream: Stream,
    buffer: Vec<u8>,
    /// Where in `buffer` the next line starts.
    start: usize,
    number: usize,
    is_at_end: bool,
}

impl Lines {
    /// Opens the file at `path`; gzip and zstd are known by content.
    ///
    /// # Errors
    /// What reading the file gives; `input_unreadable` also for what is no regular file.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        // Opened more than once, as a pipe cannot be.
        if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            let message = format!("{name}: expected a regular file");
            return Err(Error::new(ErrorKind::BadInput, "input_unreadable", message));
        }
        let stream = head(path, Compression::None, HEAD)
            .and_then(|first| Stream::open(path, Compression::of(&first)));
        let stream = stream.map_err(|problem| named(&name, &problem))?;
        Ok(Self::of(name, stream))
    }

    /// The standard input.
    ///
    /// # Errors
    /// What reading it gives.
    pub fn stdin() -> Result<Self> {
        let name = "standard input".to_owned();
        let stream = Stream::stdin().map_err(|problem| named(&name, &problem))?;
        Ok(Self::of(name, stream))
    }

    fn of(name: String, stream: Stream) -> Self {
        Self { name, stream, buffer: Vec::new(), start: 0, number: 0, is_at_end: false }
    }

    /// What is read, as messages show it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lines that were read.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The next line without its end, and its number from 1; `None` at the end.
    ///
    /// # Errors
    /// What reading gives; `line_utf8`; `line_length` over 16 MiB.
    pub fn next(&mut self) -> Result<Option<(usize, &str)>> {
        let Some(end) = self.line_end()? else { return Ok(None) };
        self.number += 1;
        let bytes = &self.buffer[self.start..end];
        self.start = (end + 1).min(self.buffer.len());
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let line = simdutf8::compat::from_utf8(bytes).map_err(|error| {
            let what = format!("no UTF-8 from byte {} on", error.valid_up_to());
            Error::new(ErrorKind::BadInput, "line_utf8", at(&self.name, self.number, &what))
        })?;
        Ok(Some((self.number, line)))
    }

    /// Where the line that begins at `start` ends, once all of it is in the buffer.
    fn line_end(&mut self) -> Result<Option<usize>> {
        let mut seen = self.start;
        loop {
            if let Some(len) = memchr::memchr(b'\n', &self.buffer[seen..]) {
                return Ok(Some(seen + len));
            }
            if self.is_at_end {
                let end = self.buffer.len();
                return Ok((self.start < end).then_some(end));
            }
            if self.buffer.len() - self.start > RECORD_BYTES {
                let what = format!("over {RECORD_BYTES} bytes");
                let message = at(&self.name, self.number + 1, &what);
                return Err(Error::new(ErrorKind::Limit, "line_length", message));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            seen = self.buffer.len();
            self.buffer.resize(seen + CHUNK, 0);
            let read = self.stream.read(&mut self.buffer[seen..]);
            let n = read.map_err(|problem| named(&self.name, &problem))?;
            self.buffer.truncate(seen + n);
            self.is_at_end = n == 0;
        }
    }
}

/// `what`, with the line that it is about.
pub fn at(name: &str, number: usize, what: &str) -> String {
    format!("{name}, line {number}: {what}")
}

fn named(name: &str, problem: &Problem) -> Error {
    Error::new(ErrorKind::BadInput, problem.code, format!("{name}: {}", problem.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(usize, String)>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, bytes).unwrap();
        let mut all = Vec::new();
        each(&path, &mut |number, line| {
            all.push((number, line.to_owned()));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn lines_come_whole_wherever_the_file_is_cut_into_chunks() {
        let of = |lines: &[&str]| -> Vec<(usize, String)> {
            (1..).zip(lines.iter().map(|line| (*line).to_owned())).collect()
        };
        assert_eq!(read(b"").unwrap(), []);
        assert_eq!(read(b"a").unwrap(), of(&["a"]));
        assert_eq!(read(b"a\r\n\nb\n").unwrap(), of(&["a", "", "b"]));
        for len in [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let long = "x".repeat(len);
            let text = format!("{long}\n{long}\nz");
            assert_eq!(read(text.as_bytes()).unwrap(), of(&[&long, &long, "z"]));
            let zst = zstd::encode_all(text.as_bytes(), 1).unwrap();
            assert_eq!(read(&zst).unwrap().len(), 3);
        }
    }

    #[test]
    fn a_line_that_is_no_text_or_too_long_is_named() {
        let error = read(b"a\nb\xff\n").unwrap_err();
        assert_eq!(error.code(), "line_utf8");
        assert!(error.to_string().ends_with("a.txt, line 2: no UTF-8 from byte 1 on"), "{error}");
        let error = read(&vec![b'x'; RECORD_BYTES + 2 * CHUNK]).unwrap_err();
        assert_eq!(error.code(), "line_length");
        assert_eq!(Lines::open(Path::new("/")).err().unwrap().code(), "input_unreadable");
    }
}
