//! Files to blocks of records.
//!
//! In: an [`InputFile`] cut into parts ([`PartRange`]). Out: [`Block`]s, each small enough to be worked on at once, with
//! the position of every record in the decompressed bytes of its file. Opening and cutting is sequential.
//! Next: `block.rs`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::core::limits::{
    BLOCK_BYTES, LEAST_PART_BYTES, OVERSIZE_HEAD_BYTES, PART_BYTES, RECORD_BYTES,
};
use crate::record::codec::{Compression, Stream, unreadable};
use crate::record::input::{Format, InputFile};
use crate::record::values::ValueReader;
use crate::record::{FieldNames, Problem};

pub use crate::record::block::{Bad, Block, Item, Position, Utf8, file_damage, read_json};
use crate::record::block::{Content, too_large};

/// A range of one file that is read, and resumed, as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartRange {
    /// The whole file.
    Whole,
    /// Lines that start in these bytes of an uncompressed JSON Lines file.
    Bytes(u64, u64),
    /// One Parquet row group.
    RowGroup(usize),
}

/// Cuts a file into parts.
///
/// # Errors
/// The file's own problem, or what its Parquet footer says.
pub fn parts(file: &InputFile) -> Result<Vec<PartRange>, Problem> {
    let (format, compression) = file.kind.clone()?;
    match (format, compression) {
        (Format::Jsonl, Compression::None) if file.size > LEAST_PART_BYTES => {
            // A file of middling size gives several threads something to read at once.
            let part_bytes = (file.size / 16).clamp(LEAST_PART_BYTES, PART_BYTES);
            let starts = (0..file.size).step_by(part_bytes as usize);
            Ok(starts.map(|at| PartRange::Bytes(at, (at + part_bytes).min(file.size))).collect())
        }
        (Format::Parquet, Compression::None) => parquet_parts(file),
        (Format::Parquet, _) => {
            let message = format!("{}: Parquet inside gzip or zstd", file.path.display());
            Err(Problem::new("format_unknown", message))
        }
        _ => Ok(vec![PartRange::Whole]),
    }
}

#[cfg(feature = "parquet")]
fn parquet_parts(file: &InputFile) -> Result<Vec<PartRange>, Problem> {
    let groups = crate::record::parquet::row_groups(&file.path)?;
    Ok((0..groups.len()).map(PartRange::RowGroup).collect())
}

#[cfg(not(feature = "parquet"))]
fn parquet_parts(_: &InputFile) -> Result<Vec<PartRange>, Problem> {
    Err(Problem::new("format_unknown", "Parquet: this build lacks the feature `parquet`"))
}

/// Blocks of one part, in order.
pub enum PartReader {
    /// JSON Lines.
    Lines(LineReader),
    /// Values of a JSON file.
    Values(ValueReader),
    /// One document.
    Document(Option<Stream>),
    /// Parquet rows.
    #[cfg(feature = "parquet")]
    Rows(Box<crate::record::parquet::RowGroupReader>),
}

impl PartReader {
    /// Opens one part of `file`.
    ///
    /// # Errors
    /// If it cannot be opened or is damaged at once.
    pub fn open(file: &InputFile, range: &PartRange, names: &FieldNames) -> Result<Self, Problem> {
        let (format, compression) = file.kind.clone()?;
        match (format, range) {
            (Format::Jsonl, &PartRange::Bytes(start, end)) => {
                LineReader::open_range(file, start, end).map(Self::Lines)
            }
            (Format::Jsonl, _) => {
                let bytes = Bytes::Stream(Stream::open(&file.path, compression)?);
                Ok(Self::Lines(LineReader::new(bytes, 0, u64::MAX)))
            }
            (Format::Json, _) => {
                Ok(Self::Values(ValueReader::new(Stream::open(&file.path, compression)?)))
            }
            (Format::Text, _) => Ok(Self::Document(Some(Stream::open(&file.path, compression)?))),
            #[cfg(feature = "parquet")]
            (Format::Parquet, &PartRange::RowGroup(group)) => {
                let rows = crate::record::parquet::RowGroupReader::open(&file.path, group, names)?;
                Ok(Self::Rows(Box::new(rows)))
            }
            (Format::Parquet, _) => {
                let _ = names;
                Err(Problem::new("format_unknown", "Parquet is read by row group"))
            }
        }
    }

    /// The next block, or `None` at the end.
    ///
    /// # Errors
    /// Damage to the file; the blocks before it are good.
    pub fn next_block(&mut self) -> Result<Option<Block>, Problem> {
        match self {
            Self::Lines(lines) => lines.next_block(),
            Self::Values(values) => values.next_block(),
            Self::Document(stream) => stream.take().map(read_document).transpose(),
            #[cfg(feature = "parquet")]
            Self::Rows(rows) => {
                let batch = rows.next_batch()?;
                Ok(batch.map(|batch| Block { content: Content::Rows(batch), ..Block::default() }))
            }
        }
    }
}

fn read_document(mut stream: Stream) -> Result<Block, Problem> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; BLOCK_BYTES];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(Block { content: Content::Document(bytes), ..Block::default() });
        }
        bytes.extend_from_slice(&buffer[..n]);
        if bytes.len() > RECORD_BYTES {
            let mut len = bytes.len() as u64;
            loop {
                match stream.read(&mut buffer)? {
                    0 => break,
                    n => len += n as u64,
                }
            }
            bytes.truncate(OVERSIZE_HEAD_BYTES);
            let bad =
                Bad { offset: 0, len, line: 0, raw: bytes, problem: too_large(), is_record: true };
            return Ok(Block { tail: vec![bad], ..Block::default() });
        }
    }
}

enum Bytes {
    Stream(Stream),
    Plain(File),
}

impl Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        match self {
            Self::Stream(stream) => stream.read(buffer),
            Self::Plain(file) => file
                .read(buffer)
                .map_err(|error| Problem::new("input_unreadable", error.to_string())),
        }
    }
}

/// Cuts a stream into blocks at line ends.
pub struct LineReader {
    bytes: Bytes,
    /// Offset in the file of the next byte that `bytes` gives.
    at: u64,
    /// Lines that start here or later belong to the next part.
    limit: u64,
    /// Start of a line whose end has not been read.
    rest: Vec<u8>,
    first: bool,
    done: bool,
    failed: Option<Problem>,
}

impl LineReader {
    fn new(bytes: Bytes, at: u64, limit: u64) -> Self {
        Self { bytes, at, limit, rest: Vec::new(), first: at == 0, done: false, failed: None }
    }

    /// Lines that start in `start..end` of an uncompressed file.
    fn open_range(file: &InputFile, start: u64, end: u64) -> Result<Self, Problem> {
        let wrong = |error| unreadable(&file.path, &error);
        let mut plain = File::open(&file.path).map_err(wrong)?;
        // A line starts at `start` if the byte before it is a line end.
        let mut at = start.saturating_sub(1);
        plain.seek(SeekFrom::Start(at)).map_err(wrong)?;
        if start > 0 {
            at += skip_line(&mut plain).map_err(wrong)?;
            plain.seek(SeekFrom::Start(at)).map_err(wrong)?;
        }
        let mut reader = Self::new(Bytes::Plain(plain), at, end);
        reader.done = at >= end;
        Ok(reader)
    }

    fn next_block(&mut self) -> Result<Option<Block>, Problem> {
        if let Some(problem) = self.failed.take() {
            self.done = true;
            return Err(problem);
        }
        if self.done {
            return Ok(None);
        }
        let offset = self.at - self.rest.len() as u64;
        let mut bytes = std::mem::take(&mut self.rest);
        let mut whole = 0;
        while whole == 0 && !self.done {
            let before = bytes.len();
            let at_end = self.fill(&mut bytes, offset);
            if at_end {
                self.done = true;
                whole = bytes.len();
            } else {
                whole = memchr::memrchr(b'\n', &bytes[before..]).map_or(0, |n| before + n + 1);
                if whole == 0 && bytes.len() > RECORD_BYTES {
                    return Ok(Some(self.oversize(offset, bytes)));
                }
            }
        }
        let skip = self.skip_byte_order_mark(&bytes);
        if skip > 0 {
            bytes.drain(..skip);
            whole -= skip;
        }
        if let Some(problem) = &self.failed {
            return Ok(Some(self.cut_short(offset + skip as u64, bytes, problem.clone())));
        }
        self.rest = bytes.split_off(whole.min(bytes.len()));
        let block =
            Block { content: Content::Lines(bytes), offset: offset + skip as u64, tail: vec![] };
        Ok(Some(block))
    }

    /// Adds up to a block of bytes; true at the end of the part. A failure is kept for later.
    fn fill(&mut self, bytes: &mut Vec<u8>, offset: u64) -> bool {
        let start = bytes.len();
        bytes.resize(start + BLOCK_BYTES, 0);
        let mut len = start;
        let mut ended = false;
        while len < bytes.len() && !ended {
            match self.bytes.read(&mut bytes[len..]) {
                Ok(0) => ended = true,
                Ok(n) => len += n,
                Err(problem) => {
                    self.failed = Some(problem);
                    ended = true;
                }
            }
        }
        bytes.truncate(len);
        self.at += (len - start) as u64;
        if self.at < self.limit {
            return ended;
        }
        // The line that holds byte `limit - 1` is the last of this part.
        let last = (self.limit - 1).saturating_sub(offset) as usize;
        if last < len
            && let Some(n) = memchr::memchr(b'\n', &bytes[last..])
        {
            bytes.truncate(last + n + 1);
            return true;
        }
        ended
    }

    fn skip_byte_order_mark(&mut self, bytes: &[u8]) -> usize {
        let marked = std::mem::take(&mut self.first) && bytes.starts_with(b"\xef\xbb\xbf");
        if marked { 3 } else { 0 }
    }

    /// Passes over a line that is too long, in bounded memory.
    fn oversize(&mut self, offset: u64, mut bytes: Vec<u8>) -> Block {
        let mut len = bytes.len() as u64;
        bytes.truncate(OVERSIZE_HEAD_BYTES);
        let mut buffer = vec![0; BLOCK_BYTES];
        loop {
            match self.bytes.read(&mut buffer) {
                Ok(0) => {
                    self.done = true;
                    break;
                }
                Ok(n) => {
                    self.at += n as u64;
                    if let Some(end) = memchr::memchr(b'\n', &buffer[..n]) {
                        len += end as u64 + 1;
                        self.rest = buffer[end + 1..n].to_vec();
                        // The next line may belong to the next part.
                        self.done = self.at - self.rest.len() as u64 >= self.limit;
                        break;
                    }
                    len += n as u64;
                }
                Err(problem) => {
                    self.failed = Some(problem);
                    break;
                }
            }
        }
        let bad = Bad { offset, len, line: 0, raw: bytes, problem: too_large(), is_record: true };
        Block { tail: vec![bad], ..Block::default() }
    }

    /// The block before a failure: whole lines, and the started one as a quarantined record.
    fn cut_short(&self, offset: u64, mut bytes: Vec<u8>, problem: Problem) -> Block {
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |n| n + 1);
        let raw = bytes.split_off(whole);
        let mut tail = Vec::new();
        if !raw.trim_ascii().is_empty() {
            let len = raw.len() as u64;
            let offset = offset + whole as u64;
            tail.push(Bad { offset, len, line: 0, raw, problem, is_record: true });
        }
        Block { content: Content::Lines(bytes), offset, tail }
    }
}

/// Bytes up to and with the next line end.
fn skip_line(file: &mut File) -> std::io::Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut skipped = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(skipped);
        }
        if let Some(end) = memchr::memchr(b'\n', &buffer[..n]) {
            return Ok(skipped + end as u64 + 1);
        }
        skipped += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::input;
    use std::path::Path;

    fn names() -> FieldNames {
        FieldNames {
            text: "text".into(),
            id: "id".into(),
            rank: None,
            group: None,
            vector: None,
            reserved: Vec::new(),
        }
    }

    /// `offset+len@line:text` of every record and `code@line` of every problem.
    fn read(path: &Path, ranges: &[PartRange]) -> Vec<String> {
        let inputs = input::expand(&[path.to_owned()]).unwrap();
        let file = &inputs.files[0];
        let mut out = Vec::new();
        for range in ranges {
            let mut first_line = 0;
            let mut reader = PartReader::open(file, range, &names()).unwrap();
            loop {
                match reader.next_block() {
                    Ok(None) => break,
                    Ok(Some(block)) => {
                        first_line += block.visit(&names(), Utf8::Strict, &mut |item| {
                            out.push(match item {
                                Item::Record(p, _, f) => {
                                    format!(
                                        "{}+{}@{}:{}",
                                        p.offset,
                                        p.len,
                                        first_line + p.line,
                                        f.text
                                    )
                                }
                                Item::Bad(bad) => {
                                    format!("{}@{}", bad.problem.code, first_line + bad.line)
                                }
                            });
                        });
                    }
                    Err(problem) => {
                        out.push(problem.code.to_owned());
                        break;
                    }
                }
            }
        }
        out
    }

    fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        (dir, path)
    }

    #[test]
    fn lines_keep_their_positions_through_blanks_crlf_marks_and_a_missing_end() {
        let (_dir, path) = file(
            "a.jsonl",
            b"\xef\xbb\xbf{\"text\":\"a\"}\r\n\n{\"text\":\"b\"}\nbad\n{\"text\":\"c\"}",
        );
        let got = read(&path, &[PartRange::Whole]);
        assert_eq!(got, ["3+14@0:a", "18+13@2:b", "json_invalid@3", "35+12@4:c"]);
    }

    #[test]
    fn any_cut_into_byte_ranges_reads_each_line_once() {
        let lines: Vec<String> =
            (0..40).map(|n| format!("{{\"text\":\"{}\"}}\n", "x".repeat(n))).collect();
        let (_dir, path) = file("a.jsonl", lines.concat().as_bytes());
        let size = lines.concat().len() as u64;
        let strip = |rows: Vec<String>| -> Vec<String> {
            rows.iter()
                .map(|row| {
                    format!(
                        "{}:{}",
                        row.split('@').next().unwrap(),
                        row.rsplit(':').next().unwrap()
                    )
                })
                .collect()
        };
        let whole = strip(read(&path, &[PartRange::Whole]));
        assert_eq!(whole.len(), 40);
        for step in [1, 7, 15, 64, 500] {
            let ranges: Vec<PartRange> = (0..size)
                .step_by(step)
                .map(|at| PartRange::Bytes(at, (at + step as u64).min(size)))
                .collect();
            assert_eq!(strip(read(&path, &ranges)), whole, "step {step}");
        }
    }

    #[test]
    fn a_line_over_the_limit_is_passed_over_and_the_rest_is_read() {
        let mut content = b"{\"text\":\"a\"}\n{\"text\":\"".to_vec();
        content.resize(content.len() + RECORD_BYTES + (3 << 20), b'x');
        content.extend_from_slice(b"\"}\n{\"text\":\"b\"}\n");
        let (_dir, path) = file("a.jsonl", &content);
        let got: Vec<String> = read(&path, &[PartRange::Whole])
            .iter()
            .map(|row| row.split(['+', '@']).next().unwrap().to_owned())
            .collect();
        let b = content.len() - 13;
        assert_eq!(got, ["0", "record_size", &b.to_string()]);
    }

    #[test]
    fn json_arrays_and_their_damage() {
        let (_dir, path) = file("a.json", b"[{\"text\":\"a\"}, {\"text\":\"b\"}, 7]");
        assert_eq!(read(&path, &[PartRange::Whole]), ["1+12@0:a", "15+12@1:b", "json_invalid@2"]);
        let (_dir, path) = file("b.json", b"[{\"text\":\"a\"}, {\"text\":");
        assert_eq!(
            read(&path, &[PartRange::Whole]),
            ["1+12@0:a", "json_truncated@1", "json_truncated"]
        );
    }

    #[test]
    fn cut_and_joined_archives_give_all_that_is_readable() {
        use std::io::Write;
        let gz = |text: &str| {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            writer.write_all(text.as_bytes()).unwrap();
            writer.finish().unwrap()
        };
        let two = [gz("{\"text\":\"a\"}\n"), gz("{\"text\":\"b\"}\n")].concat();
        let (_dir, path) = file("a.gz", &two);
        assert_eq!(read(&path, &[PartRange::Whole]), ["0+13@0:a", "13+13@1:b"]);
        let (_dir, path) = file("b.gz", &two[..two.len() - 3]);
        assert_eq!(read(&path, &[PartRange::Whole]), ["0+13@0:a", "13+13@1:b", "gzip_truncated"]);
        let (_dir, path) = file("c.gz", &[&two[..], b"trailing garbage"].concat());
        assert_eq!(read(&path, &[PartRange::Whole]), ["0+13@0:a", "13+13@1:b", "gzip_corrupt"]);
    }
}
