//! The sketches of all parts as one sequence of records, by ordinal.
//!
//! Reference records come first, then the input's, each in file order. Only the frame index is in memory;
//! everything else is read where it lies.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use crate::core::limits::RECORDS;
use crate::dedup::sketch::{BadEntry, FrameEntry, FrameHead, MAGIC, RecordMeta, Tail};
use crate::error::{Error, ErrorKind, IoContext, Result};

/// One frame and where its records stand in the corpus.
#[derive(Clone, Copy, Debug)]
pub struct FrameRef {
    /// Index of its part.
    pub part: u32,
    /// Ordinal of its first record.
    pub first: u32,
    /// Line (from 0) in the file of its first line.
    pub first_line: u64,
    entry: FrameEntry,
}

impl FrameRef {
    /// Sizes.
    pub fn head(&self) -> FrameHead {
        self.entry.head
    }

    /// Ordinals of its records.
    pub fn ordinals(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.entry.head.n_records
    }
}

/// A sketch file and the input file that it is of.
#[derive(Clone, Debug)]
pub struct CorpusPart {
    /// The sketch.
    pub path: PathBuf,
    /// Index of the input file in the job; parts of one file stand together.
    pub file: usize,
}

/// All records of a job.
pub struct Corpus {
    parts: Vec<CorpusPart>,
    frames: Vec<FrameRef>,
    n_records: u32,
    n_perm: usize,
    open: Mutex<HashMap<u32, Arc<File>>>,
}

/// Where a record comes from, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Index of its input file.
    pub file: usize,
    /// Line, element or row, from 1.
    pub line: u64,
    /// Id as a JSON token, if it has one.
    pub id: Option<String>,
}

/// Files kept open for random reads.
const OPEN_FILES: usize = 128;

impl Corpus {
    /// Opens the sketches of `parts`; `check` compares every checksum.
    ///
    /// # Errors
    /// `corrupt_file`, or `too_many_records`.
    pub fn open(parts: Vec<CorpusPart>, family: u64, check: bool) -> Result<Self> {
        let mut frames = Vec::new();
        let (mut first, mut first_line, mut n_perm) = (0u64, 0, 0);
        for (part, CorpusPart { path, file }) in parts.iter().enumerate() {
            if part > 0 && parts[part - 1].file != *file {
                first_line = 0;
            }
            for entry in read_entries(path, family, check)? {
                if first + u64::from(entry.head.n_records) > RECORDS {
                    let message = format!("more than {RECORDS} records in one job");
                    return Err(Error::new(ErrorKind::Limit, "too_many_records", message));
                }
                n_perm = entry.head.n_perm as usize;
                frames.push(FrameRef { part: part as u32, first: first as u32, first_line, entry });
                first += u64::from(entry.head.n_records);
                first_line += u64::from(entry.head.n_lines);
            }
        }
        Ok(Self { parts, frames, n_records: first as u32, n_perm, open: Mutex::default() })
    }

    /// Records.
    pub fn n_records(&self) -> u32 {
        self.n_records
    }

    /// Slots of each signature; 0 if there are none.
    pub fn n_perm(&self) -> usize {
        self.n_perm
    }

    /// All frames, in order.
    pub fn frames(&self) -> &[FrameRef] {
        &self.frames
    }

    /// Index of the input file of a frame.
    pub fn file_of(&self, frame: &FrameRef) -> usize {
        self.parts[frame.part as usize].file
    }

    /// The frame that holds a record.
    pub fn frame_of(&self, ordinal: u32) -> &FrameRef {
        let after = self.frames.partition_point(|frame| frame.first <= ordinal);
        // Frames without records share their first ordinal with the next: the last of them is the one.
        &self.frames[after - 1]
    }

    /// What is kept of the records of a frame.
    ///
    /// # Errors
    /// If the sketch cannot be read.
    pub fn metas(&self, frame: &FrameRef) -> Result<Vec<RecordMeta>> {
        let mut metas = vec![RecordMeta::default(); frame.head().n_records as usize];
        self.read_at(frame, 0, bytemuck::cast_slice_mut(&mut metas))?;
        Ok(metas)
    }

    /// Signatures `[n_records, n_perm]` of a frame.
    ///
    /// # Errors
    /// If the sketch cannot be read.
    pub fn signatures(&self, frame: &FrameRef) -> Result<Vec<u32>> {
        let head = frame.head();
        let mut rows = vec![0u32; head.n_records as usize * self.n_perm];
        let at = u64::from(head.n_records) * META_BYTES;
        self.read_at(frame, at, bytemuck::cast_slice_mut(&mut rows))?;
        Ok(rows)
    }

    /// What is kept of one record.
    ///
    /// # Errors
    /// If the sketch cannot be read.
    pub fn meta(&self, ordinal: u32) -> Result<RecordMeta> {
        let frame = self.frame_of(ordinal);
        let mut meta = RecordMeta::default();
        let at = u64::from(ordinal - frame.first) * META_BYTES;
        self.read_at(frame, at, bytemuck::bytes_of_mut(&mut meta))?;
        Ok(meta)
    }

    /// The signature of one record, into `row` `[n_perm]`.
    ///
    /// # Errors
    /// If the sketch cannot be read.
    pub fn signature(&self, ordinal: u32, row: &mut [u32]) -> Result<()> {
        let frame = self.frame_of(ordinal);
        let row_bytes = self.n_perm as u64 * 4;
        let at = u64::from(frame.head().n_records) * META_BYTES
            + u64::from(ordinal - frame.first) * row_bytes;
        self.read_at(frame, at, bytemuck::cast_slice_mut(row))
    }

    /// Where a record comes from.
    ///
    /// # Errors
    /// If the sketch cannot be read.
    pub fn origin(&self, ordinal: u32) -> Result<Origin> {
        let frame = *self.frame_of(ordinal);
        let meta = self.meta(ordinal)?;
        let start = if ordinal == frame.first { 0 } else { self.meta(ordinal - 1)?.id_end };
        let id = self.id(&frame, start, meta.id_end)?;
        Ok(self.origin_from(&frame, &meta, id))
    }

    /// As [`Self::origin`], with the parts at hand.
    pub fn origin_from(&self, frame: &FrameRef, meta: &RecordMeta, id: Option<String>) -> Origin {
        // Parquet rows have no bytes of their own; their offset is the row.
        let from_0 =
            if meta.len == 0 { meta.offset } else { frame.first_line + u64::from(meta.line) };
        let line = from_0 + 1;
        Origin { file: self.file_of(frame), line, id }
    }

    fn id(&self, frame: &FrameRef, start: u32, end: u32) -> Result<Option<String>> {
        let mut bytes = vec![0; (end - start) as usize];
        let at = self.ids_at(frame) + u64::from(start);
        self.read_at(frame, at, &mut bytes)?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| self.corrupt(frame, at, "an id is not UTF-8"))?;
        Ok(Some(text).filter(|id| !id.is_empty()))
    }

    /// All ids of a frame, one after another; see [`RecordMeta::id_end`].
    ///
    /// # Errors
    /// If the sketch cannot be read.
    pub fn ids(&self, frame: &FrameRef) -> Result<Vec<u8>> {
        let mut bytes = vec![0; frame.head().id_bytes as usize];
        self.read_at(frame, self.ids_at(frame), &mut bytes)?;
        Ok(bytes)
    }

    fn ids_at(&self, frame: &FrameRef) -> u64 {
        u64::from(frame.head().n_records) * (META_BYTES + self.n_perm as u64 * 4)
    }

    /// The quarantine of a frame, lines counted from the start of the file.
    ///
    /// # Errors
    /// If the sketch cannot be read.
    pub fn bad_entries(&self, frame: &FrameRef) -> Result<Vec<BadEntry>> {
        let head = frame.head();
        if head.bad_bytes == 0 {
            return Ok(Vec::new());
        }
        let at = self.ids_at(frame) + u64::from(head.id_bytes);
        let mut bytes = vec![0; head.bad_bytes as usize];
        self.read_at(frame, at, &mut bytes)?;
        let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let parse = |line: &[u8]| {
            let mut entry: BadEntry = serde_json::from_slice(line)
                .map_err(|error| self.corrupt(frame, at, &error.to_string()))?;
            entry.line += frame.first_line + 1;
            Ok(entry)
        };
        lines.map(parse).collect()
    }

    fn corrupt(&self, frame: &FrameRef, at: u64, what: &str) -> Error {
        Error::corrupt(&self.parts[frame.part as usize].path, frame.entry.at + at, what)
    }

    fn read_at(&self, frame: &FrameRef, at: u64, bytes: &mut [u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let path = &self.parts[frame.part as usize].path;
        let file = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.len() >= OPEN_FILES && !open.contains_key(&frame.part) {
                open.clear();
            }
            match open.entry(frame.part) {
                std::collections::hash_map::Entry::Occupied(entry) => Arc::clone(entry.get()),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    Arc::clone(entry.insert(Arc::new(File::open(path).at("open", path)?)))
                }
            }
        };
        file.read_exact_at(bytes, frame.entry.at + at).at("read", path)
    }
}

const META_BYTES: u64 = size_of::<RecordMeta>() as u64;
const TAIL_BYTES: u64 = size_of::<Tail>() as u64;
const ENTRY_BYTES: u64 = size_of::<FrameEntry>() as u64;

/// The frame index of a sketch file.
///
/// # Errors
/// `corrupt_file` if the file is not whole or is of another hash family.
pub fn read_entries(path: &Path, family: u64, check: bool) -> Result<Vec<FrameEntry>> {
    let mut file = File::open(path).at("open", path)?;
    let len = file.metadata().at("look at", path)?.len();
    let at = len
        .checked_sub(TAIL_BYTES)
        .ok_or_else(|| Error::corrupt(path, len, "shorter than its tail"))?;
    let mut tail = Tail::default();
    file.read_exact_at(bytemuck::bytes_of_mut(&mut tail), at).at("read", path)?;
    let index = tail.n_frames.checked_mul(ENTRY_BYTES).and_then(|bytes| at.checked_sub(bytes));
    let index = index.filter(|_| tail.magic == MAGIC);
    let index =
        index.ok_or_else(|| Error::corrupt(path, at, "the tail is not that of a sketch"))?;
    if tail.family != family {
        let message = "made with another hash family, shingle or normaliser";
        return Err(Error::corrupt(path, at, message));
    }
    if check {
        let mut hash = Xxh3::new();
        let mut buffer = vec![0; 1 << 20];
        let mut left = at;
        while left > 0 {
            let n = (buffer.len() as u64).min(left) as usize;
            file.read_exact(&mut buffer[..n]).at("read", path)?;
            hash.update(&buffer[..n]);
            left -= n as u64;
        }
        if hash.digest() != tail.checksum {
            return Err(Error::corrupt(path, 0, "checksum differs from what was written"));
        }
    }
    let mut entries = vec![FrameEntry::default(); tail.n_frames as usize];
    file.read_exact_at(bytemuck::cast_slice_mut(&mut entries), index).at("read", path)?;
    Ok(entries)
}
