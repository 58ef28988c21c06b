//! Stage 1: input files to sketch files, one per part.
//!
//! In: parts of input files. Out: for each part a file of frames, one per block: position, exact hash, keep
//! key and signature of every record, its id, and what could not be read. Next: `corpus.rs` reads them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::backend::cpu::minhash::MinHasher;
use crate::core::mix::{fold_mul, mix64, stream};
use crate::dedup::options::{Keep, Options};
use crate::dedup::reference::NgramSet;
use crate::dedup::spill::part_path;
use crate::dedup::walk::{Part, Sink, Work};
use crate::error::{IoContext, Result};
use crate::record::reader::{Bad, Block, Item, Position};
use crate::record::shingles::Shingler;
use crate::record::{FieldNames, Fields, Problem};

/// What is kept of one record. 72 bytes; the signature follows in its own array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct RecordMeta {
    /// First byte in the decompressed file, or row from 0.
    pub offset: u64,
    /// 128-bit hash of the normalised text and the group.
    pub exact: [u64; 2],
    /// Sort key of the keep policy; smaller is kept.
    pub keep_key: u64,
    /// Hash of the group's value; 0 without groups.
    pub group: u64,
    /// Bytes in the file, line end included; 0 for Parquet rows.
    pub len: u32,
    /// Line from 0 at the start of the frame.
    pub line: u32,
    /// Words of the text; 0 means an empty record.
    pub n_words: u32,
    /// Units (words, characters, tokens) that shingles are made of.
    pub n_units: u32,
    /// End of the id in the frame's heap; it starts where the one before ends.
    pub id_end: u32,
    /// Ordinal of the reference record that shares words with this one, plus 1; 0 for none.
    pub contains: u32,
    /// Share of this record's n-grams that occur in that reference.
    pub contains_share: f32,
    /// Bytes of the decoded text.
    pub text_len: u32,
}

/// Sizes at the start of a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct FrameHead {
    /// Records.
    pub n_records: u32,
    /// Lines, elements or rows.
    pub n_lines: u32,
    /// Quarantined records; damage to files is not counted.
    pub n_bad: u32,
    /// Signature slots per record.
    pub n_perm: u32,
    /// Bytes of ids.
    pub id_bytes: u32,
    /// Bytes of quarantine lines.
    pub bad_bytes: u32,
}

/// Where a frame is in its file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct FrameEntry {
    /// First byte.
    pub at: u64,
    /// Its sizes.
    pub head: FrameHead,
}

/// Last bytes of a sketch file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Tail {
    /// `MAGIC`.
    pub magic: u64,
    /// Frames.
    pub n_frames: u64,
    /// Hash of the name of the hash family.
    pub family: u64,
    /// Hash of all bytes before the tail.
    pub checksum: u64,
}

/// First word of the tail.
pub const MAGIC: u64 = u64::from_le_bytes(*b"nksketch");

/// An entry of the quarantine, as kept in a frame until its line number is known.
#[derive(Debug, Serialize, Deserialize)]
pub struct BadEntry {
    /// First byte in the decompressed file.
    pub offset: u64,
    /// Bytes in the file.
    pub len: u64,
    /// Line from 0 at the start of the frame.
    pub line: u64,
    /// Code of the problem.
    pub reason: String,
    /// What was expected and found.
    pub message: String,
    /// The bytes, if they are UTF-8.
    pub raw: Option<String>,
    /// The bytes otherwise.
    pub raw_base64: Option<String>,
    /// Whether it counts as a record.
    pub is_record: bool,
}

impl From<Bad> for BadEntry {
    fn from(bad: Bad) -> Self {
        let (raw, raw_base64) = match String::from_utf8(bad.raw) {
            Ok(text) if text.is_empty() => (None, None),
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(BASE64.encode(error.into_bytes()))),
        };
        Self {
            offset: bad.offset,
            len: bad.len,
            line: u64::from(bad.line),
            reason: bad.problem.code.to_owned(),
            message: bad.problem.message,
            raw,
            raw_base64,
            is_record: bad.is_record,
        }
    }
}

/// A frame in memory.
#[derive(Debug, Default)]
pub struct Frame {
    metas: Vec<RecordMeta>,
    signatures: Vec<u32>,
    ids: Vec<u8>,
    bad: Vec<u8>,
    n_bad: u32,
    n_lines: u32,
}

/// Makes frames; one per thread.
pub struct Sketcher<'o> {
    options: &'o Options,
    shingler: Shingler,
    hasher: Option<MinHasher>,
    ngrams: Option<&'o NgramSet>,
    names: FieldNames,
    shingles: Vec<u32>,
    /// Field of each record that must hold a vector, and its length.
    vector: Option<(&'o str, usize)>,
}

impl<'o> Sketcher<'o> {
    /// A sketcher for the options; with `ngrams`, records are also looked up in the reference n-grams; with
    /// `vector`, records without a good vector in that field are quarantined.
    pub fn new(
        options: &'o Options,
        names: FieldNames,
        ngrams: Option<&'o NgramSet>,
        vector: Option<(&'o str, usize)>,
    ) -> Self {
        let hasher =
            options.method.is_lexical().then(|| MinHasher::new(options.n_perm, options.seed));
        Self {
            options,
            shingler: Shingler::new(options.shingle, options.normalizer),
            hasher,
            ngrams,
            names,
            shingles: Vec::new(),
            vector,
        }
    }

    /// The frame of one block, or of the damage that ended a part.
    pub fn sketch(&mut self, part: &Part<'_>, work: Work) -> Frame {
        let mut frame = Frame::default();
        match work {
            Work::Block(block) => {
                let names = self.names.clone();
                let source = xxh3_64(part.file.source.as_bytes());
                frame.n_lines = block.visit(&names, self.options.utf8, &mut |item| match item {
                    Item::Record(position, raw, fields) => {
                        match self.bad_vector(&block, position) {
                            None => self.add(&mut frame, source, part, position, &fields),
                            Some(problem) => frame.add_bad(Bad {
                                offset: position.offset,
                                len: raw.len() as u64,
                                line: position.line,
                                raw: raw.to_vec(),
                                problem,
                                is_record: true,
                            }),
                        }
                    }
                    Item::Bad(bad) => frame.add_bad(bad),
                });
            }
            Work::Damage(problem) => {
                frame.add_bad(crate::record::reader::file_damage(0, problem));
            }
        }
        frame
    }

    fn add(
        &mut self,
        frame: &mut Frame,
        source: u64,
        part: &Part<'_>,
        position: Position,
        fields: &Fields,
    ) {
        let group = fields.group.as_ref().map_or(0, |group| xxh3_64(group.as_bytes()));
        let group = if self.options.group_by.is_some() { mix64(group ^ 1) } else { 0 };
        let exact = self.shingler.read(&fields.text);
        self.sign(frame);
        frame.ids.extend_from_slice(fields.id.as_deref().unwrap_or_default().as_bytes());
        let (contains, contains_share) =
            self.ngrams.map_or((0, 0.0), |ngrams| ngrams.best_match(&self.shingler));
        frame.metas.push(RecordMeta {
            offset: position.offset,
            exact: [exact as u64 ^ group, (exact >> 64) as u64],
            keep_key: keep_key(self.options, source, part, position, fields),
            group,
            len: position.len,
            line: position.line,
            n_words: self.shingler.n_words() as u32,
            n_units: self.shingler.units().len() as u32,
            id_end: frame.ids.len() as u32,
            contains,
            contains_share,
            text_len: fields.text.len() as u32,
        });
    }

    /// Why the vector of a record cannot be used, if one is asked for.
    fn bad_vector(&self, block: &Block, position: Position) -> Option<Problem> {
        let (field, dim) = self.vector?;
        block.vector(position, field, Some(dim)).err()
    }

    fn sign(&mut self, frame: &mut Frame) {
        let Some(hasher) = &self.hasher else { return };
        self.shingles.clear();
        let shingles = &mut self.shingles;
        // The high half: MinHash sees 32 bits, verification all 64.
        self.shingler.shingles(|hash| shingles.push((hash >> 32) as u32));
        hasher.sign(shingles, &mut frame.signatures);
    }
}

/// Sort key of a record under the keep policy: smaller is kept.
fn keep_key(
    options: &Options,
    source: u64,
    part: &Part<'_>,
    position: Position,
    fields: &Fields,
) -> u64 {
    match &options.keep {
        Keep::First | Keep::None => 0,
        Keep::Longest => !(fields.text.len() as u64),
        Keep::Shortest => fields.text.len() as u64,
        Keep::Max(_) => fields.rank.map_or(u64::MAX, |value| !ordered_bits(value)),
        Keep::Min(_) => fields.rank.map_or(u64::MAX, ordered_bits),
        Keep::Source(names) => source_rank(names, &part.file.source),
        Keep::Random => stream(options.seed, fold_mul(source, mix64(position.offset))),
    }
}

/// Bits that sort as the numbers do. No number maps to `u64::MAX`.
fn ordered_bits(value: f64) -> u64 {
    // Both zeros are one value.
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// Index of the first name that is `source`, one of its folders, or its file name with or without its
/// extensions; past the end if none is.
fn source_rank(names: &[String], source: &str) -> u64 {
    let matches = |name: &String| {
        let name = name.trim_end_matches('/');
        source == name
            || source.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
            || source.split('/').any(|part| part == name || part.split('.').next() == Some(name))
    };
    names.iter().position(matches).unwrap_or(names.len()) as u64
}

impl Frame {
    fn add_bad(&mut self, bad: Bad) {
        self.n_bad += u32::from(bad.is_record);
        let entry = serde_json::to_vec(&BadEntry::from(bad)).expect("strings and numbers");
        self.bad.extend_from_slice(&entry);
        self.bad.push(b'\n');
    }

    fn head(&self, n_perm: usize) -> FrameHead {
        FrameHead {
            n_records: self.metas.len() as u32,
            n_lines: self.n_lines,
            n_bad: self.n_bad,
            n_perm: n_perm as u32,
            id_bytes: self.ids.len() as u32,
            bad_bytes: self.bad.len() as u32,
        }
    }
}

/// Writes the frames of one part.
pub struct SketchWriter {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Xxh3,
    at: u64,
    entries: Vec<FrameEntry>,
    n_perm: usize,
    family: u64,
}

impl SketchWriter {
    /// Starts the sketch file that will be `path`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path, options: &Options) -> Result<Self> {
        let part = part_path(path);
        let file = File::create(&part).at("create", &part)?;
        let n_perm = if options.method.is_lexical() { options.n_perm } else { 0 };
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(256 << 10, file),
            hash: Xxh3::new(),
            at: 0,
            entries: Vec::new(),
            n_perm,
            family: family_hash(options),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        self.file.write_all(bytes).at("write", &self.path)
    }
}

/// Identity of the hash family in file tails.
pub fn family_hash(options: &Options) -> u64 {
    xxh3_64(options.hash_family().as_bytes())
}

impl Sink<Frame> for SketchWriter {
    fn take(&mut self, _: usize, frame: Frame) -> Result<()> {
        let head = frame.head(self.n_perm);
        self.entries.push(FrameEntry { at: self.at, head });
        self.write(bytemuck::cast_slice(&frame.metas))?;
        self.write(bytemuck::cast_slice(&frame.signatures))?;
        self.write(&frame.ids)?;
        self.write(&frame.bad)
    }

    fn finish(&mut self) -> Result<()> {
        let entries = std::mem::take(&mut self.entries);
        self.write(bytemuck::cast_slice(&entries))?;
        let tail = Tail {
            magic: MAGIC,
            n_frames: entries.len() as u64,
            family: self.family,
            checksum: self.hash.digest(),
        };
        self.file.write_all(bytemuck::bytes_of(&tail)).at("write", &self.path)?;
        self.file.flush().at("write", &self.path)?;
        fs::rename(part_path(&self.path), &self.path).at("rename to", &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_order_as_bits() {
        let numbers = [f64::NEG_INFINITY, -2.5, -1e-300, 0.0, 1e-300, 1.0, 2.5, f64::INFINITY];
        let bits: Vec<u64> = numbers.iter().map(|&x| ordered_bits(x)).collect();
        assert!(bits.is_sorted());
        assert_eq!(ordered_bits(-0.0), ordered_bits(0.0));
        assert!(bits.iter().all(|&b| b < u64::MAX && !b < u64::MAX));
    }

    #[test]
    fn sources_match_by_path_folder_or_name() {
        let names: Vec<String> = ["wiki", "books/old", "web.jsonl"].map(String::from).to_vec();
        assert_eq!(source_rank(&names, "wiki/a.jsonl"), 0);
        assert_eq!(source_rank(&names, "wiki.jsonl.gz"), 0);
        assert_eq!(source_rank(&names, "books/old/x.parquet"), 1);
        assert_eq!(source_rank(&names, "books/older/x.parquet"), 3);
        assert_eq!(source_rank(&names, "in/web.jsonl"), 2);
    }
}
