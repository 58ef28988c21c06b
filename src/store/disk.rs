//! The one place where the store meets a disk. [`FileDisk`] is the real one; tests bring one that loses power.

use std::any::Any;
use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::store::mapped::Mapped;

/// What is at a path. Links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A link, a pipe, a device.
    Other,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One that exists, to be read.
    Read,
    /// One that exists, to be read and written.
    Write,
    /// One that does not exist yet, to be read and written.
    New,
}

/// An open file, of a length that only its holder changes.
pub trait DiskFile: Debug + Send + Sync {
    /// Length in bytes.
    ///
    /// # Errors
    /// Those of the system.
    fn n_bytes(&self) -> io::Result<u64>;

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before, and those of the system.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`; on disk only after [`DiskFile::sync`].
    ///
    /// # Errors
    /// Those of the system.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts, or lengthens with zeros.
    ///
    /// # Errors
    /// Those of the system.
    fn set_len(&self, n_bytes: u64) -> io::Result<()>;

    /// Returns once all that was written, and the length, would survive a power cut.
    ///
    /// # Errors
    /// Those of the system; after one, nothing is known of what was written since the last sync, and a second sync that
    /// succeeds does not change that.
    fn sync(&self) -> io::Result<()>;
}

/// Files and folders.
pub trait Disk: Debug + Send + Sync {
    /// What is at `path`, or `None` for nothing.
    ///
    /// # Errors
    /// Those of the system, loops of links among the parents included.
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>>;

    /// Opens a file. The caller has seen that no link lies there.
    ///
    /// # Errors
    /// Those of the system.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>>;

    /// The memory of a file: pages are read when they are touched.
    ///
    /// # Errors
    /// Those of the system.
    fn map(&self, path: &Path) -> io::Result<Mapped>;

    /// Names in a folder, sorted.
    ///
    /// # Errors
    /// Those of the system.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Makes one folder, which does not exist, in one that does.
    ///
    /// # Errors
    /// Those of the system.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a file or folder another name, replacing a file there.
    ///
    /// # Errors
    /// Those of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which does not exist yet.
    ///
    /// # Errors
    /// Those of the system; `CrossesDevices` if the two are on different file systems.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    ///
    /// # Errors
    /// Those of the system.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Returns once names that were made, changed or removed in this folder would survive a power cut.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Takes the lock that is the file at `path`, made if need be and holding `note` then; or what its holder noted. It
    /// is held until dropped, and by no process that has ended, however it did.
    ///
    /// # Errors
    /// Those of the system.
    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Lock, String>>;
}

/// A lock, held until it is dropped.
pub type Lock = Box<dyn Any + Send + Sync>;

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileDisk;

impl DiskFile for File {
    fn n_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, out, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&self, n_bytes: u64) -> io::Result<()> {
        File::set_len(self, n_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Disk for FileDisk {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() => Ok(Some(Entry::File)),
            Ok(found) if found.is_dir() => Ok(Some(Entry::Folder)),
            Ok(_) => Ok(Some(Entry::Other)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != Mode::Read).create_new(mode == Mode::New);
        Ok(Box::new(options.open(path)?))
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        Mapped::of_file(&File::open(path)?)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Lock, String>> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all(note.as_bytes())?;
                Ok(Ok(Box::new(Locked(file))))
            }
            Err(TryLockError::WouldBlock) => {
                Ok(Err(fs::read_to_string(path).unwrap_or_else(|error| error.to_string())))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A locked file.
struct Locked(File);

impl Drop for Locked {
    /// Closing is not enough: a process that was started meanwhile has the file open too until it becomes another program.
    fn drop(&mut self) {
        // What cannot be unlocked is when it is closed.
        let _ = self.0.unlock();
    }
}

/// A failed call on `path`, with the codes that a caller can act on.
pub(super) fn io_error(doing: &str, path: &Path, error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "store_readonly",
        io::ErrorKind::QuotaExceeded => "disk_full",
        _ => return Error::io(doing, path, error),
    };
    Error::new(ErrorKind::Io, code, format!("{doing} {}: {error}", path.display()))
}

/// Attaches what was being done, and to which path.
pub(crate) trait At<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|error| io_error(doing, path, &error))
    }
}

/// Opens the file that must be at `path`: no link, no folder.
pub(super) fn open_file(disk: &dyn Disk, path: &Path, mode: Mode) -> Result<Box<dyn DiskFile>> {
    let found = match disk.entry(path).at("look at", path)? {
        Some(Entry::File) => return disk.open(path, mode).at("open", path),
        None => {
            let message = format!("{} does not exist", path.display());
            return Err(Error::new(ErrorKind::NotFound, "not_found", message));
        }
        Some(Entry::Folder) => "a folder",
        Some(Entry::Other) => "a link or a device",
    };
    let message = format!("{} is {found}, expected a file", path.display());
    Err(Error::new(ErrorKind::Corrupt, "file_type", message))
}

/// Checks that a folder is at `path`, or a link to one.
pub(crate) fn check_folder(disk: &dyn Disk, path: &Path) -> Result<()> {
    let found = match disk.entry(path).at("look at", path)? {
        Some(Entry::Folder) => return Ok(()),
        Some(Entry::Other) => disk.list(path),
        Some(Entry::File) => Err(io::ErrorKind::NotADirectory.into()),
        None => {
            let message = format!("{} does not exist", path.display());
            return Err(Error::new(ErrorKind::NotFound, "not_found", message));
        }
    };
    match found {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let message = format!("{} is no folder, expected one", path.display());
            Err(Error::new(ErrorKind::Io, "not_a_folder", message))
        }
        Err(error) => Err(io_error("list", path, &error)),
    }
}

/// Makes a folder of whose parent the new name is on disk; refuses what exists.
pub(super) fn new_folder(disk: &dyn Disk, path: &Path) -> Result<()> {
    refuse_existing(disk, path)?;
    disk.create_folder(path).at("create", path)?;
    sync_parent(disk, path)
}

/// Refuses to go on if something is at `path`.
pub(super) fn refuse_existing(disk: &dyn Disk, path: &Path) -> Result<()> {
    if disk.entry(path).at("look at", path)?.is_none() {
        return Ok(());
    }
    let message = format!("{} exists, and nothing is overwritten", path.display());
    Err(Error::usage("output_exists", message))
}

/// Makes the name of `path` survive a power cut.
pub(super) fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    disk.sync_folder(parent).at("sync", parent)
}

/// `path` with `.part` behind it.
pub(super) fn part_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".part");
    PathBuf::from(name)
}

/// Removes what an earlier attempt left: a file, or a folder of files.
pub(super) fn clear(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.entry(path).at("look at", path)? {
        None => Ok(()),
        Some(Entry::Folder) => {
            for name in disk.list(path).at("list", path)? {
                let inside = path.join(name);
                disk.remove(&inside).at("remove", &inside)?;
            }
            disk.remove_folder(path).at("remove", path)
        }
        Some(_) => disk.remove(path).at("remove", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_it_is_dropped_and_says_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileDisk.lock(&path, "process 7").unwrap().unwrap();
        assert_eq!(FileDisk.lock(&path, "process 8").unwrap().unwrap_err(), "process 7");
        drop(held);
        assert!(FileDisk.lock(&path, "process 8").unwrap().is_ok());
        assert_eq!(fs::read_to_string(&path).unwrap(), "process 8");
    }

    #[test]
    fn links_folders_and_nothing_are_no_files() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("link", &link).unwrap();
        let code = |path: &Path| open_file(&FileDisk, path, Mode::Read).unwrap_err().code();
        assert_eq!(code(&link), "file_type");
        assert_eq!(code(dir.path()), "file_type");
        assert_eq!(code(&dir.path().join("absent")), "not_found");
        assert_eq!(code(&link.join("inside")), "io");
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        assert_eq!(check_folder(&FileDisk, &file).unwrap_err().code(), "not_a_folder");
        assert_eq!(check_folder(&FileDisk, &link).unwrap_err().code(), "io");
        assert_eq!(new_folder(&FileDisk, &file).unwrap_err().code(), "output_exists");
    }
}
