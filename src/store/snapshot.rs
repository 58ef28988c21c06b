//! One point in time, taken while others write; restored into a new folder, and named only once every byte was verified.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::core::limits;
use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{
    At, Disk, DiskFile, Mode, clear, new_folder, open_file, part_of, refuse_existing, sync_parent,
};
use crate::store::durable::{Durable, RECORD, check_record};
use crate::store::verify::SEALED;

/// The file that lists the others.
pub const MANIFEST: &str = "manifest.json";

/// The version of manifests that is written.
const FORMAT: u32 = 1;

const BUFFER_BYTES: usize = 1 << 20;

/// How sealed files get into a snapshot. The record is always copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By a second name of the same file, where the file system allows it: no room is taken, and damage is shared.
    Link,
    /// By a copy.
    Copy,
}

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// The collection from which it was taken.
    pub owner: u64,
    /// Its data version.
    pub version: u64,
    /// Its files.
    pub files: Vec<SnapshotFile>,
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotFile {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub n_bytes: u64,
    xxh3: String,
}

/// What was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What the snapshot holds.
    pub manifest: Manifest,
    /// Sealed files that were copied although links were asked for.
    pub copied: Vec<String>,
    /// Sealed files that were replaced or removed meanwhile: an index of which is built again.
    pub left_out: Vec<String>,
}

/// Takes a snapshot of an open collection into a new folder.
///
/// # Errors
/// `output_exists`, of kind `Usage`; `record_corrupt` if the copy of the record does not verify; those of the disk.
/// No folder of that name is then there.
pub fn take(store: &Durable, target: &Path, method: Method) -> Result<Taken> {
    let disk = &**store.disk();
    let part = begin(disk, target)?;
    let (mut copied, mut left_out, mut files) = (Vec::new(), Vec::new(), Vec::new());
    // Sealed files first: each is then of a version that the record has reached.
    for name in disk.list(store.folder()).at("list", store.folder())? {
        if !name.ends_with(SEALED) {
            continue;
        }
        let (from, to) = (store.folder().join(&name), part.join(&name));
        let linked =
            if method == Method::Link { disk.link(&from, &to).map(Some) } else { Ok(None) };
        match linked {
            Ok(Some(())) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                left_out.push(name);
                continue;
            }
            Err(error) if error.kind() != io::ErrorKind::CrossesDevices => {
                return Err(error).at("link", &from);
            }
            Ok(None) | Err(_) => {
                if method == Method::Link {
                    copied.push(name.clone());
                }
                copy(disk, &from, &to)?;
            }
        }
        files.push(SnapshotFile::of(disk, &part, name)?);
    }
    let view = store.view()?;
    let record = part.join(RECORD);
    view.copy_to(disk, &record)?;
    refuse_damaged(disk, &record)?;
    files.push(SnapshotFile::of(disk, &part, RECORD.to_owned())?);
    let manifest =
        Manifest { format: FORMAT, owner: store.owner(), version: view.version(), files };
    manifest.write(disk, &part)?;
    finish(disk, &part, target)?;
    Ok(Taken { manifest, copied, left_out })
}

/// Makes a collection in a new folder of a snapshot, and returns what it holds.
///
/// # Errors
/// `output_exists`, of kind `Usage`; `not_found`; of kind `Corrupt`: `snapshot_manifest`, `snapshot_entry` for a name
/// that no snapshot has, `snapshot_truncated`, `snapshot_checksum`, `record_corrupt`, `format_newer`; those of the
/// disk. No folder of that name is then there.
pub fn restore(disk: &dyn Disk, snapshot: &Path, target: &Path) -> Result<Manifest> {
    refuse_existing(disk, target)?;
    let manifest = Manifest::read(disk, snapshot)?;
    let corrupt = |code: &'static str, message: String| {
        Err(Error::new(ErrorKind::Corrupt, code, format!("{}: {message}", snapshot.display())))
    };
    for file in &manifest.files {
        let path = snapshot.join(&file.name);
        let found = open_file(disk, &path, Mode::Read)?.n_bytes().at("look at", &path)?;
        if found != file.n_bytes {
            let message = format!("{} has {found} bytes, expected {}", file.name, file.n_bytes);
            return corrupt("snapshot_truncated", message);
        }
    }
    let part = begin(disk, target)?;
    for file in &manifest.files {
        let to = part.join(&file.name);
        copy(disk, &snapshot.join(&file.name), &to)?;
        // What was written is what is verified.
        if !file.is_intact(disk, &part)? {
            let message = format!("{} does not match its checksum", file.name);
            return corrupt("snapshot_checksum", message);
        }
    }
    refuse_damaged(disk, &part.join(RECORD))?;
    finish(disk, &part, target)?;
    Ok(manifest)
}

/// The folder in which `target` is prepared, empty.
fn begin(disk: &dyn Disk, target: &Path) -> Result<std::path::PathBuf> {
    refuse_existing(disk, target)?;
    let part = part_of(target);
    clear(disk, &part)?;
    new_folder(disk, &part)?;
    Ok(part)
}

/// Gives a folder whose files are on disk its name.
fn finish(disk: &dyn Disk, part: &Path, target: &Path) -> Result<()> {
    disk.sync_folder(part).at("sync", part)?;
    refuse_existing(disk, target)?;
    disk.rename(part, target).at("rename", part)?;
    sync_parent(disk, target)
}

fn refuse_damaged(disk: &dyn Disk, record: &Path) -> Result<()> {
    let damages = check_record(disk, record)?;
    match damages.first() {
        None => Ok(()),
        Some(damage) => {
            let message = format!(
                "{} at byte {}: {}; lost: {}; {} damages in all",
                record.display(),
                damage.offset,
                damage.what,
                damage.lost,
                damages.len()
            );
            Err(Error::new(ErrorKind::Corrupt, "record_corrupt", message))
        }
    }
}

/// Copies a file, which is on disk when this returns.
fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    let source = open_file(disk, from, Mode::Read)?;
    let copy = disk.open(to, Mode::New).at("create", to)?;
    chunks(&*source, from, |offset, chunk| copy.write_at(offset, chunk).at("write", to))?;
    copy.sync().at("sync", to)
}

/// All bytes of a file, from the first on.
fn chunks(
    file: &dyn DiskFile,
    path: &Path,
    mut take: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<u64> {
    let n_bytes = file.n_bytes().at("look at", path)?;
    let mut buffer = vec![0; n_bytes.min(BUFFER_BYTES as u64) as usize];
    let mut at = 0;
    while at < n_bytes {
        let n = (n_bytes - at).min(BUFFER_BYTES as u64) as usize;
        file.read_at(at, &mut buffer[..n]).at("read", path)?;
        take(at, &buffer[..n])?;
        at += n as u64;
    }
    Ok(n_bytes)
}

impl SnapshotFile {
    fn of(disk: &dyn Disk, folder: &Path, name: String) -> Result<Self> {
        let path = folder.join(&name);
        let mut hash = Xxh3::new();
        let file = open_file(disk, &path, Mode::Read)?;
        let n_bytes = chunks(&*file, &path, |_, chunk| {
            hash.update(chunk);
            Ok(())
        })?;
        Ok(Self { name, n_bytes, xxh3: format!("{:016x}", hash.digest()) })
    }

    /// Whether the file of this name in a folder is this one. Reads all of it.
    ///
    /// # Errors
    /// `not_found`, `file_type`; those of the disk.
    pub(super) fn is_intact(&self, disk: &dyn Disk, folder: &Path) -> Result<bool> {
        Ok(Self::of(disk, folder, self.name.clone())? == *self)
    }
}

impl Manifest {
    /// What the snapshot in a folder says that it holds.
    ///
    /// # Errors
    /// `not_found`; of kind `Corrupt`: `snapshot_manifest`, `snapshot_entry`, `format_newer`; those of the disk.
    pub fn read(disk: &dyn Disk, folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let corrupt = |code: &'static str, what: String| {
            Error::new(ErrorKind::Corrupt, code, format!("{}: {what}", path.display()))
        };
        let broken = |what: &str| corrupt("snapshot_manifest", what.to_owned());
        let file = open_file(disk, &path, Mode::Read)?;
        let n_bytes = file.n_bytes().at("look at", &path)?;
        if n_bytes > limits::MANIFEST_BYTES {
            let limit = limits::MANIFEST_BYTES;
            return Err(broken(&format!("{n_bytes} bytes, expected at most {limit}")));
        }
        let mut bytes = Vec::new();
        chunks(&*file, &path, |_, chunk| {
            bytes.extend(chunk);
            Ok(())
        })?;
        let text = String::from_utf8(bytes).map_err(|_| broken("it is not text"))?;
        let (list, hash) = text.split_once('\n').ok_or_else(|| broken("it ends early"))?;
        let expected = format!("{:016x}\n", xxh3_64(list.as_bytes()));
        if hash != expected {
            return Err(broken("it does not match its checksum"));
        }
        let any: serde_json::Value =
            serde_json::from_str(list).map_err(|e| broken(&e.to_string()))?;
        if any["format"].as_u64().is_some_and(|format| format > u64::from(FORMAT)) {
            let what = format!("format {}, this build reads up to {FORMAT}", any["format"]);
            return Err(corrupt("format_newer", what));
        }
        let manifest: Self = serde_json::from_str(list).map_err(|e| broken(&e.to_string()))?;
        let mut names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            return Err(corrupt(
                "snapshot_entry",
                format!("{name:?} is the name of no file of ours"),
            ));
        }
        names.sort_unstable();
        if names.windows(2).any(|two| two[0] == two[1]) || !names.contains(&RECORD) {
            return Err(corrupt("snapshot_entry", format!("{names:?}, expected {RECORD} once")));
        }
        Ok(manifest)
    }

    fn write(&self, disk: &dyn Disk, folder: &Path) -> Result<()> {
        let list = serde_json::to_string(self).expect("numbers and text are JSON");
        let text = format!("{list}\n{:016x}\n", xxh3_64(list.as_bytes()));
        let path = folder.join(MANIFEST);
        let file = disk.open(&path, Mode::New).at("create", &path)?;
        file.write_at(0, text.as_bytes()).at("write", &path)?;
        file.sync().at("sync", &path)
    }
}

/// Whether a name is that of a record or sealed file: nothing that leads elsewhere.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (name == RECORD || name.ends_with(SEALED))
        && !name.starts_with('.')
        && name.len() <= limits::NAME_BYTES
        && name.bytes().all(is_plain)
}
