//! How the embedded store reaches the disk: its file, and its file seen through a layer that keeps all writes in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

use crate::error::Error;
use crate::store::disk::{DiskFile, io_error};

/// The call that failed and is told to the caller, which the embedded store itself forgets: the first, but for a full disk
/// before something worse.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<Failure>>);

const LOOK: &str = "look at";
pub(super) const READ: &str = "read";
const SYNC: &str = "sync";

/// A failed call.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) doing: &'static str,
    pub(super) kind: io::ErrorKind,
    pub(super) message: String,
}

impl Failure {
    /// Whether what was written before can still be trusted, so that all is well once there is room.
    pub(super) fn is_full(&self) -> bool {
        let is_full =
            matches!(self.kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        is_full && self.doing != SYNC
    }

    /// Whether it concerned what is on disk already.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.doing, READ | LOOK)
    }

    /// The same, naming the file.
    pub(super) fn named(&self, path: &Path) -> Error {
        io_error(self.doing, path, &io::Error::new(self.kind, self.message.as_str()))
    }
}

impl Health {
    pub(super) fn failure(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a call that failed.
    pub(super) fn note<T>(&self, doing: &'static str, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.as_ref().is_none_or(Failure::is_full) {
                *kept = Some(Failure { doing, kind: error.kind(), message: error.to_string() });
            }
        }
        result
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) health: Arc<Health>,
}

impl StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        self.health.note(LOOK, self.file.n_bytes())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.health.note(READ, self.file.read_at(offset, out))
    }

    fn set_len(&self, n_bytes: u64) -> io::Result<()> {
        self.health.note("lengthen", self.file.set_len(n_bytes))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.health.note(SYNC, self.file.sync())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.health.note("write", self.file.write_at(offset, bytes))
    }
}

/// The file as it is, under writes that stay in memory: a record that may need recovery is read without being touched.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Box<dyn DiskFile>,
    written: Mutex<Written>,
    last_read: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Written {
    n_bytes: u64,
    /// What of the file still counts.
    n_file_bytes: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

/// Bytes of a block that is copied when it is written to: a page of the embedded store.
const BLOCK: u64 = 4096;

impl Overlay {
    /// A layer over `file`.
    pub(super) fn new(file: Box<dyn DiskFile>) -> io::Result<Self> {
        let n_bytes = file.n_bytes()?;
        let written = Written { n_bytes, n_file_bytes: n_bytes, blocks: BTreeMap::new() };
        Ok(Self { file, written: Mutex::new(written), last_read: Arc::default() })
    }

    /// Where the last read began.
    pub(super) fn last_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.last_read)
    }

    fn block(&self, written: &Written, index: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = written.blocks.get(&index) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK as usize];
        let n = written.n_file_bytes.saturating_sub(index * BLOCK).min(BLOCK);
        self.file.read_at(index * BLOCK, &mut block[..n as usize])?;
        Ok(block)
    }
}

/// Parts of `n_bytes` from `offset` on: block, place in the block, place in the bytes, length.
fn parts(offset: u64, n_bytes: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let place = (at % BLOCK) as usize;
        let n = (BLOCK as usize - place).min(n_bytes - done);
        let part = (n > 0).then_some((at / BLOCK, place, done, n));
        done += n;
        part
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.lock().unwrap_or_else(PoisonError::into_inner).n_bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.last_read.store(offset, Ordering::Relaxed);
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > written.n_bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (index, place, from, n) in parts(offset, out.len()) {
            let block = self.block(&written, index)?;
            out[from..from + n].copy_from_slice(&block[place..place + n]);
        }
        Ok(())
    }

    fn set_len(&self, n_bytes: u64) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if n_bytes < written.n_bytes {
            written.n_file_bytes = written.n_file_bytes.min(n_bytes);
            written.blocks.split_off(&n_bytes.div_ceil(BLOCK));
            if let Some(last) = written.blocks.get_mut(&(n_bytes / BLOCK)) {
                last[(n_bytes % BLOCK) as usize..].fill(0);
            }
        }
        written.n_bytes = n_bytes;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, place, from, n) in parts(offset, bytes.len()) {
            let mut block = self.block(&written, index)?;
            block[place..place + n].copy_from_slice(&bytes[from..from + n]);
            written.blocks.insert(index, block);
        }
        written.n_bytes = written.n_bytes.max(offset + bytes.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix;
    use crate::store::disk::{Disk, FileDisk, Mode};

    #[test]
    fn a_layer_reads_as_a_file_would_and_leaves_the_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut model: Vec<u8> = (0..20_000u64).map(|at| mix::stream(1, at) as u8).collect();
        std::fs::write(&path, &model).unwrap();
        let before = model.clone();
        let layer = Overlay::new(FileDisk.open(&path, Mode::Read).unwrap()).unwrap();
        let mut random = (0..).map(|n| mix::stream(2, n) as usize);
        let mut draw = |n: usize| random.next().unwrap() % n;
        for step in 0..2000 {
            let at = draw(model.len());
            let n = draw(9000).min(model.len() - at);
            match draw(10) {
                0 => {
                    let n_bytes = draw(30_000) + 1;
                    model.resize(n_bytes, 0);
                    layer.set_len(n_bytes as u64).unwrap();
                }
                1..4 => {
                    model[at..at + n].fill(step as u8);
                    layer.write(at as u64, &vec![step as u8; n]).unwrap();
                }
                _ => {
                    let mut out = vec![0; n];
                    layer.read(at as u64, &mut out).unwrap();
                    assert_eq!(out, model[at..at + n], "step {step}");
                }
            }
            assert_eq!(layer.len().unwrap(), model.len() as u64);
        }
        assert!(layer.read(model.len() as u64, &mut [0]).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
