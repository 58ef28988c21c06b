//! The seam between the host's part of an operation and what runs kernels: the driver, or the emulator of the tests. Grid
//! sizes, packed arguments, merges, splits, retries and checks of answers all lie above it and run the same over both.

use std::collections::BTreeMap;
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;

use crate::backend::{Queueing, Stream};
use crate::error::{Error, ErrorKind, Result};

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Name of the card.
    pub name: String,
    /// Version of the driver: `13.0`.
    pub driver: String,
    /// Compute capability: `(9, 0)`.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub n_processors: u32,
    /// Shared memory that one block can ask for.
    pub shared_bytes: u32,
    /// Memory of the card.
    pub memory_bytes: u64,
    /// Streams that were opened; at least 1.
    pub n_streams: u32,
}

/// One launch of one kernel. Made only by the operations of this module, whose arguments name buffers that live.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    kernel: String,
    grid: [u32; 3],
    n_threads: u32,
    shared_bytes: u32,
    args: Vec<u8>,
}

/// What is done on a stream, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Bytes of device memory are set.
    Fill {
        /// First byte.
        address: u64,
        /// The value.
        byte: u8,
        /// How many.
        n_bytes: u64,
    },
    /// A kernel runs.
    Launch(Launch),
}

/// A device: memory, copies, kernels by name. Work on one stream is done in order.
///
/// # Errors
/// Of every method: `device_oom`, `device_lost`, `device_failed`, kind `Device`.
pub trait Launcher: Send + Sync {
    /// What the device is.
    fn facts(&self) -> &DeviceFacts;

    /// Bytes free and in all.
    fn memory(&self) -> Result<(u64, u64)>;

    /// A new piece of memory, its contents undefined, aligned to 256 bytes.
    fn allocate(&self, n_bytes: u64) -> Result<u64>;

    /// Gives a piece back; nothing may be running that uses it.
    fn free(&self, address: u64);

    /// Host to device; the slice may be reused when this returns.
    fn copy_in(&self, stream: Stream, address: u64, bytes: &[u8]) -> Result<()>;

    /// Device to host, after all that was asked of the stream; waits.
    fn copy_out(&self, stream: Stream, address: u64, bytes: &mut [u8]) -> Result<()>;

    /// Sets bytes.
    fn fill(&self, stream: Stream, address: u64, byte: u8, n_bytes: u64) -> Result<()>;

    /// Sets the first bytes of a piece to zero, for a call that will touch no others of it.
    fn lend(&self, stream: Stream, address: u64, n_bytes: u64) -> Result<()> {
        self.fill(stream, address, 0, n_bytes)
    }

    /// Starts a kernel.
    fn launch(&self, stream: Stream, launch: &Launch) -> Result<()>;

    /// Waits for the stream.
    fn synchronise(&self, stream: Stream) -> Result<()>;

    /// Makes the calls, and says how long launches waited meanwhile; `None` on a device without a clock of its own.
    fn queueing(&self, calls: &mut dyn FnMut() -> Result<()>) -> Result<Option<Queueing>> {
        calls().map(|()| None)
    }

    /// Does all steps. A device that can makes one graph of steps that come again.
    fn run(&self, stream: Stream, steps: &[Step]) -> Result<()> {
        steps.iter().try_for_each(|step| match step {
            Step::Fill { address, byte, n_bytes } => self.fill(stream, *address, *byte, *n_bytes),
            Step::Launch(launch) => self.launch(stream, launch),
        })
    }
}

impl Launch {
    /// A launch whose one parameter is the struct `args`; its addresses are those of live buffers.
    pub(super) fn new<Args: Pod>(
        kernel: String,
        grid: [u32; 3],
        n_threads: u32,
        shared_bytes: u32,
        args: &Args,
    ) -> Self {
        let args = bytemuck::bytes_of(args).to_vec();
        Self { kernel, grid, n_threads, shared_bytes, args }
    }

    /// Entry point: `{operation}_{metric}_{dtype}`.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Blocks.
    pub fn grid(&self) -> [u32; 3] {
        self.grid
    }

    /// Threads of a block.
    pub fn n_threads(&self) -> u32 {
        self.n_threads
    }

    /// Dynamic shared memory of a block.
    pub fn shared_bytes(&self) -> u32 {
        self.shared_bytes
    }

    /// The kernel's one parameter, as it lies in memory.
    pub fn args(&self) -> &[u8] {
        &self.args
    }
}

/// The memory of one device. Pieces that calls gave back wait here for the next call on the same stream, whose work is in
/// order with what they were used for.
pub(super) struct Memory {
    launcher: Arc<dyn Launcher>,
    waiting: Vec<Mutex<BTreeMap<u64, Vec<u64>>>>,
}

/// A piece of device memory; goes back on drop.
pub(super) struct Buffer {
    memory: Arc<Memory>,
    address: u64,
    n_bytes: u64,
    /// The stream it belongs to; none for rows that stay.
    stream: Option<Stream>,
}

impl Memory {
    pub(super) fn new(launcher: Arc<dyn Launcher>) -> Self {
        let waiting = (0..launcher.facts().n_streams).map(|_| Mutex::default()).collect();
        Self { launcher, waiting }
    }

    fn waiting(&self, stream: Stream) -> MutexGuard<'_, BTreeMap<u64, Vec<u64>>> {
        self.waiting[stream.0 as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn launcher(&self) -> &dyn Launcher {
        &*self.launcher
    }

    /// Allocates; if that fails, once more after everything that waits has been given back.
    fn allocate(&self, n_bytes: u64) -> Result<u64> {
        match self.launcher.allocate(n_bytes) {
            Err(error) if error.code() == "device_oom" => {
                self.release()?;
                self.launcher.allocate(n_bytes)
            }
            result => result,
        }
    }

    /// Gives back what waits, once nothing can be running that uses it.
    fn release(&self) -> Result<()> {
        for stream in (0..self.waiting.len() as u32).map(Stream) {
            self.launcher.synchronise(stream)?;
            let pieces = std::mem::take(&mut *self.waiting(stream));
            pieces.into_values().flatten().for_each(|address| self.launcher.free(address));
        }
        Ok(())
    }

    /// Memory that stays until the buffer is dropped.
    pub(super) fn keep(self: &Arc<Self>, n_bytes: u64) -> Result<Buffer> {
        let address = self.allocate(n_bytes.max(1))?;
        Ok(Buffer { memory: Arc::clone(self), address, n_bytes, stream: None })
    }

    /// Zeroed memory for one call: what another call left there is never seen.
    pub(super) fn take(self: &Arc<Self>, stream: Stream, n_bytes: u64) -> Result<Buffer> {
        let class = size_class(n_bytes);
        let waiting = self.waiting(stream).get_mut(&class).and_then(Vec::pop);
        let address = waiting.map_or_else(|| self.allocate(class), Ok)?;
        let buffer = Buffer { memory: Arc::clone(self), address, n_bytes, stream: Some(stream) };
        self.launcher.lend(stream, address, n_bytes)?;
        Ok(buffer)
    }

    /// Memory for one call that holds `values`.
    pub(super) fn place<T: Pod>(self: &Arc<Self>, stream: Stream, values: &[T]) -> Result<Buffer> {
        let buffer = self.take(stream, size_of_val(values) as u64)?;
        self.launcher.copy_in(stream, buffer.address, bytemuck::cast_slice(values))?;
        Ok(buffer)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A device that fails now has lost the memory anyway.
        let _ = self.release();
    }
}

/// Pieces come in powers of two, so that they can be used again.
fn size_class(n_bytes: u64) -> u64 {
    n_bytes.max(256).next_power_of_two()
}

impl Buffer {
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    pub(super) fn is_of(&self, memory: &Arc<Memory>) -> bool {
        Arc::ptr_eq(&self.memory, memory)
    }

    /// Writes at a byte offset; fails if the bytes do not fit, which would be our mistake.
    pub(super) fn write(&self, stream: Stream, at: u64, bytes: &[u8]) -> Result<()> {
        assert!(at + bytes.len() as u64 <= self.n_bytes, "a write stays inside its buffer");
        self.memory.launcher.copy_in(stream, self.address + at, bytes)
    }

    /// The first `n` values, once the stream has done what was asked of it.
    pub(super) fn read<T: Pod>(&self, stream: Stream, n: usize) -> Result<Vec<T>> {
        assert!((n * size_of::<T>()) as u64 <= self.n_bytes, "a read stays inside its buffer");
        let mut values = vec![T::zeroed(); n];
        let bytes = bytemuck::cast_slice_mut(&mut values);
        self.memory.launcher.copy_out(stream, self.address, bytes)?;
        Ok(values)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match self.stream {
            None => self.memory.launcher.free(self.address),
            Some(stream) => {
                let class = size_class(self.n_bytes);
                self.memory.waiting(stream).entry(class).or_default().push(self.address);
            }
        }
    }
}

/// A failure of the device, with the operation and its shape.
pub(super) fn failed(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Device, "device_failed", what)
}
