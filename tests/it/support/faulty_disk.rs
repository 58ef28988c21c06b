//! A disk in memory that loses power, fills up, fails and rots, all by seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use nearkin::core::mix;
use nearkin::store::Mapped;
use nearkin::store::disk::{Disk, DiskFile, Entry, Lock, Mode};

/// Bytes that a disk writes at once, or not at all.
const SECTOR: usize = 512;

/// A disk, and what would be left of it.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    files: Vec<Bytes>,
    /// Names as programs see them.
    live: BTreeMap<PathBuf, Node>,
    /// Names that would survive.
    durable: BTreeMap<PathBuf, Node>,
    /// Names made and removed since their folders were synced, in order.
    names: Vec<(PathBuf, Option<Node>)>,
    locks: BTreeSet<PathBuf>,
    /// Writes and syncs so far.
    n_calls: u64,
    fault: Option<Fault>,
    ignores_syncs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder,
}

#[derive(Clone, Debug, Default)]
struct Bytes {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync.
    pending: Vec<Change>,
    /// A change that failed was done in part.
    is_torn: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Writes, syncs and changes of names.
    All,
    /// Writes and changes of lengths.
    Writes,
    /// Syncs.
    Syncs,
    /// Reads, which are not counted: all of them, as long as the fault is set.
    Reads,
}

/// Calls that fail, from one on.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which of them.
    pub calls: Calls,
    /// The first that fails, counted over all writes and syncs.
    pub from: u64,
    /// How many fail.
    pub n: u64,
    /// With what.
    pub kind: io::ErrorKind,
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, written) => {
                let end = at + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(written);
            }
            Self::SetLen(n_bytes) => bytes.resize(*n_bytes, 0),
        }
    }

    /// The same, of which only some sectors arrived.
    fn torn(&self, bytes: &mut Vec<u8>, draw: &mut impl FnMut(u64) -> u64) {
        let Self::Write(at, written) = self else { return self.apply(bytes) };
        for (index, sector) in written.chunks(SECTOR).enumerate() {
            if draw(2) == 0 {
                Self::Write(at + index * SECTOR, sector.to_vec()).apply(bytes);
            }
        }
    }
}

fn draws(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut n = 0;
    move |below| {
        n += 1;
        mix::stream(seed, n) % below
    }
}

impl FaultyDisk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// A disk with one empty folder.
    pub fn with_folder(path: &Path) -> Self {
        let disk = Self::default();
        disk.inner().live.insert(path.to_owned(), Node::Folder);
        disk.inner().durable.insert(path.to_owned(), Node::Folder);
        disk
    }

    /// Writes and syncs so far.
    pub fn n_calls(&self) -> u64 {
        self.inner().n_calls
    }

    /// Lets calls fail, or no longer.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.inner().fault = fault;
    }

    /// Says from now on that all is on disk, and does nothing.
    pub fn ignore_syncs(&self) {
        self.inner().ignores_syncs = true;
    }

    /// What is left after a power cut now: what was synced, and of the rest what the seed says.
    pub fn cut(&self, seed: u64) -> Self {
        let inner = self.inner();
        let mut draw = draws(seed);
        let policy = draw(5);
        let mut files = Vec::with_capacity(inner.files.len());
        for file in &inner.files {
            let mut bytes = file.durable.clone();
            let n_kept = draw(file.pending.len() as u64 + 1) as usize;
            for (index, change) in file.pending.iter().enumerate() {
                match policy {
                    0 => {}
                    1 => change.apply(&mut bytes),
                    2 if index < n_kept => change.apply(&mut bytes),
                    2 if index == n_kept => change.torn(&mut bytes, &mut draw),
                    2 => {}
                    _ => match draw(if policy == 3 { 2 } else { 3 }) {
                        0 => {}
                        1 => change.apply(&mut bytes),
                        _ => change.torn(&mut bytes, &mut draw),
                    },
                }
            }
            files.push(Bytes { live: bytes.clone(), durable: bytes, ..Bytes::default() });
        }
        let mut names = inner.durable.clone();
        let n_kept = match policy {
            0 => 0,
            1 => inner.names.len(),
            _ => draw(inner.names.len() as u64 + 1) as usize,
        };
        for (path, node) in &inner.names[..n_kept] {
            set_name(&mut names, path, *node);
        }
        let left = Inner { files, live: names.clone(), durable: names, ..Inner::default() };
        Self(Arc::new(Mutex::new(left)))
    }

    /// Changes bits of a file behind everybody's back.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut inner = self.inner();
        let index = inner.file(path).unwrap();
        inner.files[index].live[offset as usize] ^= mask;
    }

    /// The bytes of a file.
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let inner = self.inner();
        inner.files[inner.file(path).unwrap()].live.clone()
    }
}

fn set_name(names: &mut BTreeMap<PathBuf, Node>, path: &Path, node: Option<Node>) {
    match node {
        Some(node) => names.insert(path.to_owned(), node),
        None => names.remove(path),
    };
}

impl Inner {
    fn call(&mut self, calls: Calls) -> io::Result<()> {
        self.n_calls += 1;
        let now = self.n_calls;
        let Some(fault) = &self.fault else { return Ok(()) };
        let is_one = fault.calls == Calls::All || fault.calls == calls;
        if is_one && now >= fault.from && now - fault.from < fault.n {
            return Err(io::Error::new(fault.kind, "as the test wants it"));
        }
        Ok(())
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.live.get(path) {
            Some(&Node::File(index)) => Ok(index),
            Some(Node::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn name(&mut self, path: &Path, node: Option<Node>) {
        set_name(&mut self.live, path, node);
        self.names.push((path.to_owned(), node));
    }

    fn change(&mut self, index: usize, change: Change) -> io::Result<()> {
        let result = self.call(Calls::Writes);
        let file = &mut self.files[index];
        match &result {
            Ok(()) => change.apply(&mut file.live),
            // A write that fails may have been done in part.
            Err(_) => {
                change.torn(&mut file.live, &mut draws(self.n_calls));
                file.is_torn = true;
            }
        }
        file.pending.push(change);
        result
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    index: usize,
}

impl DiskFile for FaultyFile {
    fn n_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.inner().files[self.index].live.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.disk.inner();
        if let Some(Fault { calls: Calls::Reads, kind, .. }) = inner.fault {
            return Err(kind.into());
        }
        let end = offset as usize + out.len();
        let bytes = inner.files[self.index].live.get(offset as usize..end);
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let change = Change::Write(offset as usize, bytes.to_vec());
        self.disk.inner().change(self.index, change)
    }

    fn set_len(&self, n_bytes: u64) -> io::Result<()> {
        self.disk.inner().change(self.index, Change::SetLen(n_bytes as usize))
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.call(Calls::Syncs)?;
        if inner.ignores_syncs {
            return Ok(());
        }
        let Bytes { live, durable, pending, is_torn } = &mut inner.files[self.index];
        for change in pending.drain(..) {
            change.apply(durable);
        }
        if std::mem::take(is_torn) {
            durable.clone_from(live);
        }
        Ok(())
    }
}

/// Held until it is dropped.
struct Held(FaultyDisk, PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.inner().locks.remove(&self.1);
    }
}

impl Disk for FaultyDisk {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        Ok(self.inner().live.get(path).map(|node| match node {
            Node::File(_) => Entry::File,
            Node::Folder => Entry::Folder,
        }))
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.inner();
        if mode == Mode::New {
            if inner.live.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            inner.call(Calls::Writes)?;
            inner.files.push(Bytes::default());
            let node = Node::File(inner.files.len() - 1);
            inner.name(path, Some(node));
        }
        let index = inner.file(path)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), index }))
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        let inner = self.inner();
        Ok(Mapped::of_bytes(&inner.files[inner.file(path)?].live))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let inner = self.inner();
        let inside = inner.live.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call(Calls::Writes)?;
        inner.name(path, Some(Node::Folder));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call(Calls::Writes)?;
        let moved: Vec<(PathBuf, Node)> = inner
            .live
            .iter()
            .filter(|(path, _)| path.starts_with(from))
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        if moved.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        for (path, node) in moved {
            let inside = path.strip_prefix(from).unwrap();
            let new = if inside.as_os_str().is_empty() { to.to_owned() } else { to.join(inside) };
            if path == from {
                inner.name(&path, None);
                inner.name(&new, Some(node));
            } else {
                // What lies in a folder has no name of its own to be synced when the folder gets another.
                set_name(&mut inner.live, &path, None);
                set_name(&mut inner.live, &new, Some(node));
                if inner.durable.remove(&path).is_some() {
                    inner.durable.insert(new, node);
                }
            }
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call(Calls::Writes)?;
        if inner.live.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let index = inner.file(from)?;
        inner.name(to, Some(Node::File(index)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call(Calls::Writes)?;
        inner.file(path)?;
        inner.name(path, None);
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call(Calls::Writes)?;
        inner.name(path, None);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call(Calls::Syncs)?;
        if inner.ignores_syncs {
            return Ok(());
        }
        let names = std::mem::take(&mut inner.names);
        let (inside, outside) =
            names.into_iter().partition(|(path, _)| path.parent() == Some(folder));
        inner.names = outside;
        for (path, node) in Vec::<(PathBuf, Option<Node>)>::into_iter(inside) {
            set_name(&mut inner.durable, &path, node);
        }
        Ok(())
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Lock, String>> {
        let mut inner = self.inner();
        if !inner.locks.insert(path.to_owned()) {
            return Ok(Err(note.to_owned()));
        }
        if inner.file(path).is_err() {
            inner.files.push(Bytes::default());
            let node = Node::File(inner.files.len() - 1);
            inner.name(path, Some(node));
        }
        Ok(Ok(Box::new(Held(self.clone(), path.to_owned()))))
    }
}
