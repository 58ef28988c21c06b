//! Files to blocks of records.
//!
//! In: an [`InputFile`] cut into parts ([`PartRange`]). Out: [`Block`]s, each small enough to be worked on at once, with
//! the position of every record in the decompressed bytes of its file. Opening and cutting is sequential;
//! [`Block::visit`] does the parsing and can run on any thread.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::core::limits::{
    BLOCK_BYTES, LEAST_PART_BYTES, OVERSIZE_HEAD_BYTES, PART_BYTES, RECORD_BYTES,
};
use crate::record::codec::{Compression, Stream, unreadable};
use crate::record::input::{Format, InputFile};
use crate::record::json::{Split, ValueSplitter, read_fields};
use crate::record::{FieldNames, Fields, Problem};

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

/// Where a record is in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// First byte in the decompressed file, or row from 0.
    pub offset: u64,
    /// Bytes, line end included; 0 for Parquet rows.
    pub len: u32,
    /// Line, element or row, from 0 at the start of the block.
    pub line: u32,
}

/// What could not be read as a record.
#[derive(Clone, Debug)]
pub struct Bad {
    /// Where it starts.
    pub offset: u64,
    /// Its bytes in the file.
    pub len: u64,
    /// Line from 0 at the start of the block.
    pub line: u32,
    /// Its bytes, or the head of them if there are too many.
    pub raw: Vec<u8>,
    /// Why.
    pub problem: Problem,
    /// Whether it counts as a record; damage to a file as a whole does not.
    pub is_record: bool,
}

/// A run of records of one part.
#[derive(Debug, Default)]
pub struct Block {
    content: Content,
    /// Offset in the decompressed file of the first byte of `content`.
    offset: u64,
    /// What the reader itself found unreadable, after the records of `content`.
    tail: Vec<Bad>,
}

#[derive(Debug)]
enum Content {
    Lines(Vec<u8>),
    /// Bytes and the ranges of the values in them.
    Values(Vec<u8>, Vec<(usize, usize)>),
    Document(Vec<u8>),
    #[cfg(feature = "parquet")]
    Rows(crate::record::parquet::RowBatch),
}

impl Default for Content {
    fn default() -> Self {
        Self::Lines(Vec::new())
    }
}

/// A record or what is left of one, as [`Block::visit`] shows it.
#[derive(Debug)]
pub enum Item<'a> {
    /// A record: where it is, its bytes as read (empty for Parquet rows) and its fields.
    Record(Position, &'a [u8], Fields),
    /// Something that is not.
    Bad(Bad),
}

/// How text that is not UTF-8 is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Utf8 {
    /// The record is quarantined.
    Strict,
    /// Invalid sequences are read as U+FFFD; the record's bytes stay as they are.
    Lossy,
}

impl Block {
    /// Calls `visit` for everything in the block, in order. Returns the number of lines (elements, rows)
    /// in it.
    pub fn visit(&self, names: &FieldNames, utf8: Utf8, visit: &mut dyn FnMut(Item<'_>)) -> u32 {
        let n_lines = match &self.content {
            Content::Lines(bytes) => self.visit_lines(bytes, names, utf8, visit),
            Content::Values(bytes, ranges) => {
                for (line, &(start, end)) in ranges.iter().enumerate() {
                    self.visit_json(&bytes[start..end], start, line as u32, names, utf8, visit);
                }
                ranges.len() as u32
            }
            Content::Document(bytes) => {
                self.visit_document(bytes, utf8, visit);
                1
            }
            #[cfg(feature = "parquet")]
            Content::Rows(batch) => visit_rows(batch, visit),
        };
        for bad in &self.tail {
            visit(Item::Bad(Bad { line: n_lines + bad.line, ..bad.clone() }));
        }
        n_lines + self.tail.iter().filter(|bad| bad.is_record).count() as u32
    }

    /// The bytes of a record of this block; `None` for Parquet rows.
    pub fn slice(&self, position: Position) -> Option<&[u8]> {
        let start = position.offset.checked_sub(self.offset)? as usize;
        match &self.content {
            Content::Lines(bytes) | Content::Values(bytes, _) | Content::Document(bytes) => {
                bytes.get(start..start + position.len as usize)
            }
            #[cfg(feature = "parquet")]
            Content::Rows(_) => None,
        }
    }

    /// Reads one record of this block again.
    ///
    /// # Errors
    /// If it is not what it was.
    pub fn fields(
        &self,
        position: Position,
        names: &FieldNames,
        utf8: Utf8,
    ) -> Result<Fields, Problem> {
        match &self.content {
            Content::Document(bytes) => {
                let mut fields = Err(too_large());
                self.visit_document(bytes, utf8, &mut |item| match item {
                    Item::Record(_, _, found) => fields = Ok(found),
                    Item::Bad(bad) => fields = Err(bad.problem),
                });
                fields
            }
            #[cfg(feature = "parquet")]
            Content::Rows(batch) => match batch.rows.get(position.line as usize) {
                Some(row) => row.clone(),
                None => Err(Problem::new("parquet_corrupt", "a row is gone")),
            },
            _ => {
                let gone = || Problem::new("input_changed", "a record is gone");
                read_json(self.slice(position).ok_or_else(gone)?, names, utf8)
            }
        }
    }

    /// Bytes of records in memory, roughly.
    pub fn n_bytes(&self) -> u64 {
        match &self.content {
            Content::Lines(bytes) | Content::Values(bytes, _) | Content::Document(bytes) => {
                bytes.len() as u64
            }
            #[cfg(feature = "parquet")]
            Content::Rows(batch) => batch.bytes,
        }
    }

    fn visit_lines(
        &self,
        bytes: &[u8],
        names: &FieldNames,
        utf8: Utf8,
        visit: &mut dyn FnMut(Item<'_>),
    ) -> u32 {
        let (mut start, mut line) = (0, 0);
        while start < bytes.len() {
            let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |n| start + n + 1);
            self.visit_json(&bytes[start..end], start, line, names, utf8, visit);
            start = end;
            line += 1;
        }
        line
    }

    fn visit_json(
        &self,
        raw: &[u8],
        start: usize,
        line: u32,
        names: &FieldNames,
        utf8: Utf8,
        visit: &mut dyn FnMut(Item<'_>),
    ) {
        let offset = self.offset + start as u64;
        if raw.trim_ascii().is_empty() {
            return;
        }
        let bad = |problem| Bad {
            offset,
            len: raw.len() as u64,
            line,
            raw: raw.to_vec(),
            problem,
            is_record: true,
        };
        if raw.len() > RECORD_BYTES {
            return visit(Item::Bad(Bad {
                raw: raw[..OVERSIZE_HEAD_BYTES].to_vec(),
                ..bad(too_large())
            }));
        }
        match read_json(raw, names, utf8) {
            Ok(fields) => {
                visit(Item::Record(Position { offset, len: raw.len() as u32, line }, raw, fields));
            }
            Err(problem) => visit(Item::Bad(bad(problem))),
        }
    }

    fn visit_document(&self, bytes: &[u8], utf8: Utf8, visit: &mut dyn FnMut(Item<'_>)) {
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = match (std::str::from_utf8(text), utf8) {
            (Ok(text), _) => text.to_owned(),
            (Err(_), Utf8::Lossy) => String::from_utf8_lossy(text).into_owned(),
            (Err(error), Utf8::Strict) => {
                let message = format!("byte {} of the file", error.valid_up_to());
                return visit(Item::Bad(Bad {
                    offset: 0,
                    len: bytes.len() as u64,
                    line: 0,
                    raw: bytes.to_vec(),
                    problem: Problem::new("utf8_invalid", message),
                    is_record: true,
                }));
            }
        };
        let position = Position { offset: 0, len: bytes.len() as u32, line: 0 };
        visit(Item::Record(position, bytes, Fields { text, ..Fields::default() }));
    }
}

#[cfg(feature = "parquet")]
fn visit_rows(batch: &crate::record::parquet::RowBatch, visit: &mut dyn FnMut(Item<'_>)) -> u32 {
    for (line, row) in batch.rows.iter().enumerate() {
        let (offset, line) = (batch.first_row + line as u64, line as u32);
        match row {
            Ok(fields) => {
                visit(Item::Record(Position { offset, len: 0, line }, &[], fields.clone()));
            }
            Err(problem) => visit(Item::Bad(Bad {
                offset,
                len: 0,
                line,
                raw: Vec::new(),
                problem: problem.clone(),
                is_record: true,
            })),
        }
    }
    batch.rows.len() as u32
}

/// Reads one JSON record, with replacement characters for what is not UTF-8 if asked.
///
/// # Errors
/// As [`read_fields`].
pub fn read_json(raw: &[u8], names: &FieldNames, utf8: Utf8) -> Result<Fields, Problem> {
    match read_fields(raw, names) {
        Err(problem) if problem.code == "utf8_invalid" && utf8 == Utf8::Lossy => {
            read_fields(String::from_utf8_lossy(raw).as_bytes(), names)
        }
        fields => fields,
    }
}

fn too_large() -> Problem {
    Problem::new("record_size", format!("limit {} MiB", RECORD_BYTES >> 20))
}

/// Damage to a file as a whole, as an entry of the quarantine.
pub fn file_damage(offset: u64, problem: Problem) -> Bad {
    Bad { offset, len: 0, line: 0, raw: Vec::new(), problem, is_record: false }
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
    Rows(crate::record::parquet::RowGroupReader),
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
                crate::record::parquet::RowGroupReader::open(&file.path, group, names)
                    .map(Self::Rows)
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

/// Cuts a JSON file into blocks of values.
pub struct ValueReader {
    stream: Stream,
    splitter: ValueSplitter,
    bytes: Vec<u8>,
    /// Offset in the file of the first of `bytes`.
    offset: u64,
    /// Bytes of `bytes` that the splitter has seen.
    seen: usize,
    start: Option<usize>,
    done: bool,
    failed: Option<Problem>,
}

impl ValueReader {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            splitter: ValueSplitter::default(),
            bytes: Vec::new(),
            offset: 0,
            seen: 0,
            start: None,
            done: false,
            failed: None,
        }
    }

    fn next_block(&mut self) -> Result<Option<Block>, Problem> {
        if let Some(problem) = self.failed.take() {
            return Err(problem);
        }
        let mut ranges = Vec::new();
        while !self.done && ranges.is_empty() {
            self.read_more();
            self.split(&mut ranges);
            let open = self.start.map_or(0, |start| self.bytes.len() - start);
            if open > RECORD_BYTES {
                self.fail(too_large());
            }
        }
        if ranges.is_empty() && self.start.is_none() {
            return self.failed.take().map_or(Ok(None), Err);
        }
        let mut tail = Vec::new();
        if self.done
            && let Some(start) = self.start.take()
        {
            tail.push(self.unfinished(start));
        }
        Ok(Some(self.cut(ranges, tail)))
    }

    fn read_more(&mut self) {
        let len = self.bytes.len();
        self.bytes.resize(len + BLOCK_BYTES, 0);
        let read = self.stream.read(&mut self.bytes[len..]);
        self.bytes.truncate(len + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.at_end(),
            Ok(_) => {
                if self.offset == 0 && len == 0 && self.bytes.starts_with(b"\xef\xbb\xbf") {
                    self.seen = 3;
                }
            }
            Err(problem) => self.fail(problem),
        }
    }

    fn at_end(&mut self) {
        self.done = true;
        if self.splitter.open_scalar() {
            self.bytes.push(b'\n');
        } else if !self.splitter.is_complete() {
            let message = format!("the file ends inside a value, at byte {}", self.position());
            self.fail(Problem::new("json_truncated", message));
        }
    }

    fn fail(&mut self, problem: Problem) {
        self.done = true;
        self.failed.get_or_insert(problem);
    }

    fn position(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    fn split(&mut self, ranges: &mut Vec<(usize, usize)>) {
        loop {
            match self.splitter.next(&self.bytes, self.seen) {
                Split::Start(at) => {
                    self.start = Some(at);
                    self.seen = at + 1;
                }
                Split::End(at) => {
                    ranges.extend(self.start.take().map(|start| (start, at)));
                    self.seen = at;
                }
                Split::More => {
                    self.seen = self.bytes.len();
                    return;
                }
                Split::Broken(at) => {
                    let message = format!(
                        "unexpected byte between values, at byte {}",
                        self.offset + at as u64
                    );
                    self.fail(Problem::new("json_invalid", message));
                    return;
                }
            }
        }
    }

    fn unfinished(&mut self, start: usize) -> Bad {
        let raw = &self.bytes[start..];
        let problem = self.failed.clone().unwrap_or_else(|| Problem::new("json_truncated", "cut"));
        Bad {
            offset: self.offset + start as u64,
            len: raw.len() as u64,
            line: 0,
            raw: raw[..raw.len().min(RECORD_BYTES)].to_vec(),
            problem,
            is_record: true,
        }
    }

    /// A block of what is complete; an open value stays for the next one.
    fn cut(&mut self, ranges: Vec<(usize, usize)>, tail: Vec<Bad>) -> Block {
        let keep_from = self.start.unwrap_or(self.seen);
        let rest = self.bytes.split_off(keep_from);
        let content = Content::Values(std::mem::replace(&mut self.bytes, rest), ranges);
        let block = Block { content, offset: self.offset, tail };
        self.offset += keep_from as u64;
        self.seen -= keep_from;
        self.start = self.start.map(|_| 0);
        block
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
