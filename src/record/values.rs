//! The values of a JSON file, top-level or in one array, as blocks.

use crate::core::limits::{BLOCK_BYTES, RECORD_BYTES};
use crate::record::Problem;
use crate::record::block::{Bad, Block, Content, too_large};
use crate::record::codec::Stream;
use crate::record::json::{Split, ValueSplitter};

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
    pub(super) fn new(stream: Stream) -> Self {
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

    /// The next block, or `None` at the end.
    ///
    /// # Errors
    /// Damage to the file; the blocks before it are good.
    pub(super) fn next_block(&mut self) -> Result<Option<Block>, Problem> {
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
