//! A device that is a processor: runs the CUDA kernels of this repository, compiled by g++, in the shape of the driver's
//! calls. For tests: it finds wrong answers, missing barriers, missing waits for copies, divergent barriers and, under the
//! address sanitizer, reads and writes out of bounds. It says nothing about speed or about memory order between blocks.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// In which order the warps of a block, and the lanes of a warp, take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// First to last.
    Forward,
    /// Last to first; blocks as well.
    Reverse,
    /// By seed, anew at every turn.
    Random(u64),
}

/// Memory and kernels. Addresses are those of the process, as a driver's are of its device.
#[derive(Debug)]
pub struct Emulator {
    schedule: Schedule,
    n_threads: u32,
    limit_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Layouts of live allocations, by address.
    live: BTreeMap<u64, Layout>,
    used_bytes: u64,
    launches: BTreeMap<String, u64>,
    /// From how many allocations on all are refused.
    refuse_after: Option<u64>,
    n_allocations: u64,
}

#[allow(unsafe_code)]
mod ffi {
    use super::*;

    unsafe extern "C" {
        pub fn nearkin_emulator_launch(
            name: *const c_char,
            grid: *const u32,
            block: *const u32,
            shared_bytes: u32,
            params: *mut *mut c_void,
            schedule: c_int,
            seed: u64,
            n_threads: u32,
            message: *mut c_char,
            message_bytes: usize,
        ) -> c_int;
        pub fn nearkin_emulator_lend(at: *mut c_void, n_used: usize, n_bytes: usize);
        pub fn nearkin_emulator_names(out: *mut c_char, n_bytes: usize) -> usize;
        pub fn nearkin_emulator_anchor();
    }
}

/// Allocations are aligned as the driver's are.
const ALIGN: usize = 256;

impl Emulator {
    /// A device of `limit_bytes` whose blocks run on `n_threads` threads.
    pub fn new(schedule: Schedule, n_threads: u32, limit_bytes: u64) -> Self {
        Self { schedule, n_threads: n_threads.max(1), limit_bytes, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name, with the schedule.
    pub fn name(&self) -> String {
        format!("emulator, {:?}", self.schedule)
    }

    /// Bytes free and in all.
    pub fn memory(&self) -> (u64, u64) {
        (self.limit_bytes - self.state().used_bytes, self.limit_bytes)
    }

    /// Launches so far, by kernel.
    pub fn launches(&self) -> BTreeMap<String, u64> {
        self.state().launches.clone()
    }

    /// Refuses all allocations after the next `n`.
    pub fn refuse_after(&self, n: u64) {
        let mut state = self.state();
        state.refuse_after = Some(state.n_allocations + n);
    }

    /// A new piece of memory, filled with a pattern; `None` if it does not fit.
    #[allow(unsafe_code)]
    pub fn allocate(&self, n_bytes: usize) -> Option<u64> {
        let mut state = self.state();
        state.n_allocations += 1;
        let refuses = state.refuse_after.is_some_and(|after| state.n_allocations > after);
        if refuses || state.used_bytes + n_bytes as u64 > self.limit_bytes {
            return None;
        }
        let layout = Layout::from_size_align(n_bytes.max(1), ALIGN).ok()?;
        // SAFETY: the layout has at least one byte.
        let at = unsafe { alloc(layout) };
        if at.is_null() {
            return None;
        }
        // SAFETY: `at` was just allocated with this size; what it holds is not to be relied on.
        unsafe { at.write_bytes(0xa5, layout.size()) };
        state.live.insert(at as u64, layout);
        state.used_bytes += layout.size() as u64;
        Some(at as u64)
    }

    /// Gives a piece of memory back.
    ///
    /// # Panics
    /// If it is not one.
    #[allow(unsafe_code)]
    pub fn free(&self, address: u64) {
        let mut state = self.state();
        let layout = state.live.remove(&address).expect("an address that is allocated");
        state.used_bytes -= layout.size() as u64;
        // SAFETY: `live` held it, so it came from `alloc` with this layout and was not given back before.
        unsafe { dealloc(address as *mut u8, layout) };
    }

    /// Panics unless the bytes lie within one live allocation.
    fn check(state: &State, address: u64, n_bytes: usize) {
        let (start, layout) = state.live.range(..=address).next_back().expect("a live allocation");
        let fits = address + n_bytes as u64 <= start + layout.size() as u64;
        assert!(fits, "{n_bytes} bytes at {address:#x} are not within one allocation");
    }

    /// Host to device.
    ///
    /// # Panics
    /// If the bytes do not lie within one allocation.
    #[allow(unsafe_code)]
    pub fn copy_in(&self, address: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let state = self.state();
        Self::check(&state, address, bytes.len());
        // SAFETY: checked to lie within a live allocation, which no slice of Rust overlaps.
        unsafe { (address as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Device to host.
    ///
    /// # Panics
    /// If the bytes do not lie within one allocation.
    #[allow(unsafe_code)]
    pub fn copy_out(&self, address: u64, bytes: &mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        let state = self.state();
        Self::check(&state, address, bytes.len());
        // SAFETY: as in `copy_in`; `allocate` has written every byte once.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(address as *const u8, bytes.len()) };
    }

    /// Sets bytes.
    ///
    /// # Panics
    /// If the bytes do not lie within one allocation.
    #[allow(unsafe_code)]
    pub fn fill(&self, address: u64, byte: u8, n_bytes: usize) {
        if n_bytes == 0 {
            return;
        }
        let state = self.state();
        Self::check(&state, address, n_bytes);
        // SAFETY: as in `copy_in`.
        unsafe { (address as *mut u8).write_bytes(byte, n_bytes) };
    }

    /// Sets the first `n_bytes` of a piece to zero; until it is lent again, the sanitizer lets nobody touch the others.
    ///
    /// # Panics
    /// If it is no piece, or a smaller one.
    #[allow(unsafe_code)]
    pub fn lend(&self, address: u64, n_bytes: usize) {
        let state = self.state();
        let layout = state.live.get(&address).expect("the address of a piece");
        assert!(n_bytes <= layout.size(), "{n_bytes} bytes of a piece of {}", layout.size());
        // SAFETY: a live allocation of this size.
        unsafe { ffi::nearkin_emulator_lend(address as *mut c_void, n_bytes, layout.size()) };
        drop(state);
        self.fill(address, 0, n_bytes);
    }

    /// Runs a kernel to its end; `args` is its one struct of arguments.
    ///
    /// # Errors
    /// What is wrong with the launch, or the barrier that not all threads reach.
    #[allow(unsafe_code)]
    pub fn launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        args: &[u8],
    ) -> Result<(), String> {
        *self.state().launches.entry(kernel.to_owned()).or_default() += 1;
        if grid.contains(&0) || block.contains(&0) || block.iter().product::<u32>() > 1024 {
            return Err(format!("{kernel}: grid {grid:?} of blocks {block:?}"));
        }
        let name = CString::new(kernel).map_err(|_| "a name with a zero".to_owned())?;
        let (schedule, seed) = match self.schedule {
            Schedule::Forward => (0, 0),
            Schedule::Reverse => (1, 0),
            Schedule::Random(seed) => (2, seed),
        };
        // Aligned as the struct of the kernel is.
        let mut args: Vec<u64> = args
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_ne_bytes(word)
            })
            .collect();
        let mut params = [args.as_mut_ptr().cast::<c_void>()];
        let mut message = [0u8; 512];
        // SAFETY: all pointers outlive the call and have the sizes that the C++ side reads; that the kernel keeps to the
        // memory named in its arguments is what the tests with the address sanitizer are for.
        let code = unsafe {
            ffi::nearkin_emulator_anchor();
            ffi::nearkin_emulator_launch(
                name.as_ptr(),
                grid.as_ptr(),
                block.as_ptr(),
                shared_bytes,
                params.as_mut_ptr(),
                schedule,
                seed,
                self.n_threads,
                message.as_mut_ptr().cast(),
                message.len(),
            )
        };
        if code == 0 {
            return Ok(());
        }
        let end = message.iter().position(|&byte| byte == 0).unwrap_or(message.len());
        Err(String::from_utf8_lossy(&message[..end]).into_owned())
    }
}

/// The names of all kernels.
#[allow(unsafe_code)]
pub fn kernels() -> Vec<String> {
    // SAFETY: without a buffer the function only counts.
    let n = unsafe {
        ffi::nearkin_emulator_anchor();
        ffi::nearkin_emulator_names(std::ptr::null_mut(), 0)
    };
    let mut bytes = vec![0u8; n];
    // SAFETY: the buffer has the size that was just told.
    unsafe { ffi::nearkin_emulator_names(bytes.as_mut_ptr().cast(), n) };
    String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
}

impl Drop for Emulator {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let live = std::mem::take(&mut self.state().live);
        for (address, layout) in live {
            // SAFETY: as in `free`.
            unsafe { dealloc(address as *mut u8, layout) };
        }
    }
}
