//! Memory of a sealed file: mapped, or brought by a test's disk.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use bytemuck::{Pod, Zeroable};
use memmap2::{Mmap, MmapOptions};

/// Bytes that are brought at once: whoever allocates meanwhile waits for that long, since the system changes what is mapped by one
/// at a time. A tenth of a millisecond; the whole of a large file is fifty.
#[cfg(target_os = "linux")]
const PART: usize = 1 << 20;

/// Bytes whose start is 64-byte aligned, for reading.
#[derive(Debug)]
pub struct Mapped(Memory);

#[derive(Debug)]
enum Memory {
    Map(Mmap),
    /// Lines, and the bytes of them that count.
    Heap(Vec<Line>, usize),
}

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Mapped {
    /// Maps a whole file.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn of_file(file: &File) -> io::Result<Self> {
        // SAFETY: the map is undefined if the file changes under it. Files that are mapped are sealed ones: nothing of
        // ours writes or shortens one once it has its name (a new one takes its place by a rename), and the folder is
        // locked against other writers. Another program that shortens one ends this process with a bus error.
        let map = unsafe { MmapOptions::new().map(file)? };
        Ok(Self(Memory::Map(map)))
    }

    /// Has the system bring all pages into memory, so that nothing that is met later has to wait for one. Where it cannot, each
    /// comes when it is met.
    pub(super) fn bring(&self) {
        #[cfg(target_os = "linux")]
        if let Memory::Map(map) = &self.0 {
            let starts = (0..map.len()).step_by(PART);
            // Systems before Linux 5.14 do not know how; that costs time, and nothing else.
            starts.for_each(|start| {
                let n_bytes = PART.min(map.len() - start);
                let _ = map.advise_range(memmap2::Advice::PopulateRead, start, n_bytes);
            });
        }
    }

    /// A copy of `bytes`, for disks that are not of this machine.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut lines = vec![Line([0; 64]); bytes.len().div_ceil(64)];
        bytemuck::cast_slice_mut(&mut lines)[..bytes.len()].copy_from_slice(bytes);
        Self(Memory::Heap(lines, bytes.len()))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Map(map) => map,
            Memory::Heap(lines, n_bytes) => &bytemuck::cast_slice(lines)[..*n_bytes],
        }
    }
}
