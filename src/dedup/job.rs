//! A job's files and folders: what is read, where its stages leave their results, and how the output becomes
//! visible.
//!
//! Everything is written under `<out>/.work` and renamed into `<out>` at the end, `report.json` last: an output
//! folder with a report is whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dedup::corpus::{Corpus, CorpusPart};
use crate::dedup::options::{Existing, Options};
use crate::dedup::semantic::earlier;
use crate::dedup::semantic::source::Source;
use crate::dedup::sketch::family_hash;
use crate::dedup::walk::Part;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::input::{self, Fingerprint, InputFile};
use crate::record::{FieldNames, reader};

/// Hears how a job goes on. Called from many threads.
pub trait Progress: Sync {
    /// A stage begins; it will pass over this many bytes (0 if that is not known).
    fn stage(&self, name: &str, total_bytes: u64);
    /// The stage went over some more bytes.
    fn advance(&self, bytes: u64);
    /// Something that a person should know.
    fn warn(&self, message: &str);
}

/// Nobody listens.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn warn(&self, _: &str) {}
}

/// What decides a job's output; kept beside its results, and compared when it goes on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    version: String,
    /// Options that decide the output, by long name, and the embedder.
    pub options: Value,
    /// How many of `files` are references.
    pub n_reference_files: usize,
    /// References, then inputs.
    pub files: Vec<Fingerprint>,
    n_shards: usize,
}

/// A job with its inputs found and its work folder made.
pub struct Job<'j> {
    /// What was asked.
    pub options: &'j Options,
    /// References first, then inputs.
    pub files: Vec<InputFile>,
    /// How many of `files` are references.
    pub n_reference_files: usize,
    /// Of these, how many are segments of the index.
    pub n_index_files: usize,
    /// Ignored paths.
    pub ignored: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Where vectors come from, in semantic jobs.
    pub source: Option<Source>,
    /// Set to end the job.
    pub stop: &'j AtomicBool,
    /// Hears how it goes.
    pub progress: &'j dyn Progress,
    /// Whether results of an earlier run are used.
    pub resumed: bool,
    /// Identity of the inputs and options, without the index.
    pub id: u64,
    /// Held while the job runs.
    locks: Vec<File>,
}

/// Names of everything that a job publishes in its output folder, the last one last.
const PUBLISHED: [&str; 8] = [
    "kept",
    "dropped.jsonl",
    "quarantine.jsonl",
    "edges.rows",
    "edges.json",
    "similarity.jsonl",
    "report.html",
    "report.json",
];

/// Of these, what only semantic jobs publish.
const SEMANTIC: [&str; 3] = ["edges.rows", "edges.json", "similarity.jsonl"];

/// The work folder of a published job, on its way out.
const DONE: &str = ".work.done";

impl<'j> Job<'j> {
    /// Finds the inputs and makes, or goes on with, the work folder.
    ///
    /// # Errors
    /// Usage errors, missing inputs, `output_exists`, `output_is_input` or `resume_mismatch`.
    pub fn open(
        options: &'j Options,
        stop: &'j AtomicBool,
        progress: &'j dyn Progress,
    ) -> Result<Self> {
        options.check()?;
        let inputs = input::expand(&options.inputs)?;
        let mut job = Self {
            options,
            files: Vec::new(),
            n_reference_files: 0,
            n_index_files: 0,
            ignored: inputs.ignored,
            warnings: Vec::new(),
            source: None,
            stop,
            progress,
            resumed: false,
            id: job_id(options, &inputs.files),
            locks: Vec::new(),
        };
        if let Some(index) = &options.index {
            fs::create_dir_all(index).at("create", index)?;
            job.lock(&index.join("lock"))?;
            job.files = crate::dedup::index::segments(index, options, job.id)?;
            job.n_index_files = job.files.len();
        }
        if !options.against.is_empty() {
            let references = input::expand(&options.against)?;
            job.repeated(&references.repeated);
            job.files.extend(references.files);
        }
        job.n_reference_files = job.files.len();
        job.refuse_overlap(&inputs.files)?;
        job.repeated(&inputs.repeated);
        job.files.extend(inputs.files);
        job.warn_of_unchecked();
        job.open_source()?;
        job.prepare_folder()?;
        if let Some(from) = &options.from {
            earlier::check(&job, from)?;
        }
        Ok(job)
    }

    fn repeated(&mut self, sources: &[String]) {
        for source in sources {
            self.warn(format!("input_repeated: {source} is read once"));
        }
    }

    /// The fields that are read of a file's records.
    pub fn names_of(&self, file: usize) -> FieldNames {
        if file < self.n_index_files {
            crate::dedup::index::names(self.options)
        } else {
            self.options.field_names()
        }
    }

    /// Records and shows a warning.
    pub fn warn(&mut self, message: String) {
        self.progress.warn(&message);
        self.warnings.push(message);
    }

    fn warn_of_unchecked(&mut self) {
        use crate::record::codec::{Compression, head, zstd_has_checksum};
        for number in 0..self.files.len() {
            let file = &self.files[number];
            if !matches!(file.kind, Ok((_, Compression::Zstd))) {
                continue;
            }
            let first = head(&file.path, Compression::None, 5);
            if first.is_ok_and(|bytes| !zstd_has_checksum(&bytes)) {
                let message = format!("zstd_no_checksum: {}: damage cannot be seen", file.source);
                self.warn(message);
            }
        }
    }

    fn open_source(&mut self) -> Result<()> {
        if self.options.method.is_semantic() {
            let names = self.options.field_names();
            let source = Source::open(self.options, &self.files, self.n_reference_files, &names)?;
            self.source = Some(source);
        }
        Ok(())
    }

    /// The output may not lie on an input, and no file is both reference and input.
    fn refuse_overlap(&self, inputs: &[InputFile]) -> Result<()> {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let out = real(&std::path::absolute(&self.options.out).at("resolve", &self.options.out)?);
        for file in inputs {
            let path = real(&file.path);
            if path.starts_with(&out) {
                let message =
                    format!("{} lies in the output folder {}", path.display(), out.display());
                return Err(Error::usage("output_is_input", message));
            }
            if self.files.iter().any(|reference| real(&reference.path) == path) {
                let message = format!("{} is both an input and a reference", path.display());
                return Err(Error::usage("input_is_reference", message));
            }
        }
        Ok(())
    }

    /// The folder of the stages' results.
    pub fn work(&self, name: &str) -> PathBuf {
        self.options.out.join(".work").join(name)
    }

    fn prepare_folder(&mut self) -> Result<()> {
        let out = &self.options.out;
        let manifest = self.work("manifest.json");
        let occupied = out.exists() && fs::read_dir(out).at("list", out)?.next().is_some();
        match self.options.existing {
            // Shards share the folder of one job, but not with a finished one.
            Existing::Refuse
                if occupied && (self.options.shard.is_none() || !self.work("").exists()) =>
            {
                let hint =
                    if manifest.exists() { "--resume or --overwrite" } else { "--overwrite" };
                let message = format!("{} is not empty (use {hint})", out.display());
                return Err(Error::usage("output_exists", message));
            }
            Existing::Overwrite if self.options.shard.is_none() || !manifest.exists() => {
                remove_output(out)?;
            }
            _ => {}
        }
        fs::create_dir_all(self.work("")).at("create", &self.work(""))?;
        if self.options.shard.is_none() {
            self.lock(&self.work("lock"))?;
        }
        for folder in ["sketch", "kept", "scratch"] {
            let folder = self.work(folder);
            fs::create_dir_all(&folder).at("create", &folder)?;
        }
        if manifest.exists() { self.compare(&manifest) } else { self.write_manifest(&manifest) }
    }

    /// Takes a lock that ends with the process, however it ends.
    fn lock(&mut self, path: &Path) -> Result<()> {
        let file = File::create(path).at("create", path)?;
        if file.try_lock().is_err() {
            let message = format!("{} is held by another job", path.display());
            return Err(Error::new(ErrorKind::Locked, "locked", message));
        }
        self.locks.push(file);
        Ok(())
    }

    /// What decides the output of this job.
    pub fn manifest(&self) -> Manifest {
        let mut options = self.options.identity();
        if let Some(source) = &self.source {
            options["embedder"] = source.identity().into();
        }
        Manifest {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            options,
            n_reference_files: self.n_reference_files,
            files: self.files.iter().map(InputFile::fingerprint).collect(),
            n_shards: self.options.shard.map_or(0, |(_, n)| n),
        }
    }

    fn write_manifest(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.manifest()).expect("strings and numbers");
        write_whole(path, &text)
    }

    fn compare(&mut self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).at("read", path)?;
        let earlier: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| Error::corrupt(path, 0, error))?;
        let now = self.manifest();
        let refuse = |what: String| Err(Error::usage("resume_mismatch", what));
        if earlier.version != now.version {
            return refuse(format!("version {} != {}", earlier.version, now.version));
        }
        for (name, value) in now.options.as_object().into_iter().flatten() {
            let before = earlier.options.get(name).unwrap_or(&Value::Null);
            if before != value {
                return refuse(format!("{name} {before} != {value}"));
            }
        }
        if earlier.n_shards != now.n_shards {
            return refuse(format!("shards {} != {}", earlier.n_shards, now.n_shards));
        }
        if earlier.files != now.files || earlier.n_reference_files != now.n_reference_files {
            let differs = earlier.files.iter().zip(&now.files).find(|(a, b)| a != b);
            let what = differs.map_or("the list of input files differs".to_owned(), |(a, b)| {
                format!(
                    "input {} of {} bytes != {} of {} bytes",
                    a.source, a.size, b.source, b.size
                )
            });
            return refuse(what);
        }
        self.resumed = true;
        Ok(())
    }

    /// Parts of all files; a file that cannot be cut becomes one part that tells why.
    pub fn parts(&mut self) -> Vec<(usize, reader::PartRange)> {
        let mut parts = Vec::new();
        for (number, file) in self.files.iter_mut().enumerate() {
            match reader::parts(file) {
                Ok(ranges) => parts.extend(ranges.into_iter().map(|range| (number, range))),
                Err(problem) => {
                    file.kind = Err(problem);
                    parts.push((number, reader::PartRange::Whole));
                }
            }
        }
        parts
    }

    /// Where the sketch of a part is.
    pub fn sketch_path(&self, part: usize) -> PathBuf {
        self.work("sketch").join(format!("{part:06}.sk"))
    }

    /// Opens the sketches of all parts.
    ///
    /// # Errors
    /// `sketch_missing` names a part that no shard has sketched yet.
    pub fn corpus(&self, parts: &[(usize, reader::PartRange)]) -> Result<Corpus> {
        let mut found = Vec::with_capacity(parts.len());
        for (number, (file, range)) in parts.iter().enumerate() {
            let path = self.sketch_path(number);
            if !path.exists() {
                let source = &self.files[*file].source;
                let message = format!("{source} ({range:?}) has no sketch; run its shard first");
                return Err(Error::new(ErrorKind::NotFound, "sketch_missing", message));
            }
            found.push(CorpusPart { path, file: *file });
        }
        Corpus::open(found, family_hash(self.options), self.resumed)
    }

    /// Fails if an input is not what it was when the job began.
    ///
    /// # Errors
    /// `input_changed`.
    pub fn check_unchanged(&self) -> Result<()> {
        for file in self.files.iter().filter(|file| file.kind.is_ok()) {
            let (size, modified) = file.stat()?;
            if (size, modified) != (file.size, file.modified) {
                let message = format!(
                    "{}: {} bytes when the job began, {size} now{}; nothing was published",
                    file.source,
                    file.size,
                    if size == file.size { ", and written since" } else { "" }
                );
                return Err(Error::new(ErrorKind::Accounting, "input_changed", message));
            }
        }
        Ok(())
    }

    /// Fails once the job was asked to stop.
    ///
    /// # Errors
    /// `interrupted`.
    pub fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            let message = "stopped before the end; go on with --resume";
            return Err(Error::new(ErrorKind::Interrupted, "interrupted", message));
        }
        Ok(())
    }

    /// Bytes that sorting and verification may use: the job's memory less what grows with the number of
    /// records and threads.
    ///
    /// # Errors
    /// `memory` if that leaves too little.
    pub fn budget(&self, n_records: u32) -> Result<u64> {
        // Rank, ordinal, representative, cluster, places, kept copies, fate: 4 bytes each; and bitmaps.
        let fixed =
            u64::from(n_records) * 32 + (40 << 20) + (self.options.threads as u64 * (12 << 20));
        let left = self.options.memory_bytes.saturating_sub(fixed);
        if left < 16 << 20 {
            let message = format!(
                "{} MiB for {n_records} records on {} threads, expected at least {} MiB",
                self.options.memory_bytes >> 20,
                self.options.threads,
                (fixed + (16 << 20)).div_ceil(1 << 20)
            );
            return Err(Error::new(ErrorKind::Limit, "memory", message));
        }
        Ok(left)
    }

    /// Moves the results into the output folder and removes the work folder.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn publish(&self) -> Result<()> {
        let has = |name: &&str| self.source.is_some() || !SEMANTIC.contains(name);
        for name in PUBLISHED.iter().copied().filter(has) {
            let (from, to) = (self.work(name), self.options.out.join(name));
            // An earlier run may have been killed between two of these: what it left is replaced.
            if to.is_dir() {
                fs::remove_dir_all(&to).at("remove", &to)?;
            }
            fs::rename(&from, &to).at("rename", &from)?;
        }
        // Removed under another name: half of a work folder would look like a job to go on with.
        let (work, done) = (self.options.out.join(".work"), self.options.out.join(DONE));
        fs::rename(&work, &done).at("rename", &work)?;
        fs::remove_dir_all(&done).at("remove", &done)
    }
}

fn job_id(options: &Options, inputs: &[InputFile]) -> u64 {
    let files: Vec<Fingerprint> = inputs.iter().map(InputFile::fingerprint).collect();
    let text = serde_json::to_vec(&(options.identity(), files)).expect("strings and numbers");
    xxhash_rust::xxh3::xxh3_64(&text)
}

/// Whether the folder holds a finished job.
pub fn is_finished(out: &Path) -> bool {
    out.join("report.json").exists() && !out.join(".work").exists()
}

/// Removes the work folder of a published job that was killed while it did so.
///
/// # Errors
/// A failure of the disk.
pub fn clear_done(out: &Path) -> Result<()> {
    let done = out.join(DONE);
    if done.exists() { fs::remove_dir_all(&done).at("remove", &done) } else { Ok(()) }
}

/// Removes what a job writes, and nothing else.
fn remove_output(out: &Path) -> Result<()> {
    // The report goes first: without it the folder does not count as whole.
    for name in PUBLISHED.iter().rev().chain(&[".work", DONE]) {
        let path = out.join(name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads a small file of a stage.
///
/// # Errors
/// A failure of the disk, or `corrupt_file`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).at("read", path)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::corrupt(path, 0, error))
}

/// Writes a small file of a stage.
///
/// # Errors
/// A failure of the disk.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_whole(path, &serde_json::to_vec(value).expect("numbers"))
}

/// Writes a small file aside and gives it its name.
///
/// # Errors
/// A failure of the disk.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = crate::dedup::spill::part_path(path);
    fs::write(&part, bytes).at("write", &part)?;
    fs::rename(&part, path).at("rename to", path)
}

/// The parts of `parts` that belong to files for which `wanted` holds, one lane per file.
pub fn lanes_by_file<'f>(
    files: &'f [InputFile],
    parts: &[(usize, reader::PartRange)],
    wanted: &dyn Fn(usize) -> bool,
) -> Vec<Vec<Part<'f>>> {
    let mut lanes: Vec<Vec<Part<'f>>> = Vec::new();
    let mut last = None;
    for (number, (file, range)) in parts.iter().enumerate().filter(|(_, part)| wanted(part.0)) {
        if last != Some(*file) {
            lanes.push(Vec::new());
            last = Some(*file);
        }
        let part = Part { number, file: &files[*file], file_number: *file, range: range.clone() };
        lanes.last_mut().expect("pushed above").push(part);
    }
    lanes
}

/// Those parts for which `wanted` holds by number, each a lane.
pub fn lanes_by_part<'f>(
    files: &'f [InputFile],
    parts: &[(usize, reader::PartRange)],
    wanted: &dyn Fn(usize) -> bool,
) -> Vec<Vec<Part<'f>>> {
    let parts = parts.iter().enumerate().filter(|(number, _)| wanted(*number));
    let part = |(number, (file, range)): (usize, &(usize, reader::PartRange))| Part {
        number,
        file: &files[*file],
        file_number: *file,
        range: range.clone(),
    };
    parts.map(|found| vec![part(found)]).collect()
}
