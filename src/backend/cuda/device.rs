//! A card behind the seam: contexts, streams, pinned staging, modules, graphs, through the driver's library, which is opened at
//! run time. Every path to the driver begins at [`probe`]: without the library the wrappers below would panic.
//!
//! This file has not been run on a card; see `docs/kernels.md` for what was.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cudarc::driver::{DriverError, result, sys};

use super::launcher::{DeviceFacts, Launch, Launcher, Step};
use super::module::Module;
use crate::backend::{Queueing, Stream};
use crate::error::{Error, ErrorKind, Result};

/// Streams of a card: enough to overlap copies with kernels and two batches with one another.
const STREAMS: u32 = 4;
/// Pinned bytes of one half of a stream's staging.
const STAGING_BYTES: usize = 4 << 20;
/// Graphs that are kept; past this all are made anew.
const GRAPHS: usize = 128;
/// Oldest driver that takes the embedded PTX (ISA 8.3): CUDA 12.3.
const LEAST_DRIVER: i32 = 12_030;
/// Oldest driver with the timing call that is linked: CUDA 12.8.
const TIMING_DRIVER: i32 = 12_080;
/// Oldest cards: those with `cp.async` and int8 `mma.m16n8k32`.
const LEAST_CAPABILITY: (u32, u32) = (8, 0);

fn unavailable(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Device, "device_unavailable", message)
}

/// The number of cards, once the library is there and has started.
fn probe() -> Result<u32> {
    // SAFETY: this opens a library and closes it; the driver's library may be loaded at any time.
    if !unsafe { sys::is_culib_present() } {
        return Err(unavailable("libcuda.so.1 cannot be loaded: no NVIDIA driver is installed"));
    }
    // From here on a `DriverError` may be formatted: the library that is asked for its text is there.
    result::init().map_err(|e| unavailable(format!("libcuda.so.1 does not start: {e}")))?;
    let n = result::device::get_count().map_err(|e| unavailable(format!("cards: {e}")))?;
    if n < 1 {
        return Err(unavailable("libcuda.so.1 finds no card"));
    }
    Ok(n as u32)
}

/// A failed call of the driver, by what the caller can do.
fn failed(doing: &str, error: DriverError) -> Error {
    use sys::CUresult as Code;
    let code = match error.0 {
        Code::CUDA_ERROR_OUT_OF_MEMORY => "device_oom",
        Code::CUDA_ERROR_ILLEGAL_ADDRESS
        | Code::CUDA_ERROR_LAUNCH_FAILED
        | Code::CUDA_ERROR_LAUNCH_TIMEOUT
        | Code::CUDA_ERROR_ECC_UNCORRECTABLE
        | Code::CUDA_ERROR_HARDWARE_STACK_ERROR
        | Code::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | Code::CUDA_ERROR_DEINITIALIZED => "device_lost",
        _ => "device_failed",
    };
    Error::new(ErrorKind::Device, code, format!("{doing}: {error}"))
}

trait Doing<T> {
    fn doing(self, what: &str) -> Result<T>;
}

impl<T> Doing<T> for Result<T, DriverError> {
    fn doing(self, what: &str) -> Result<T> {
        self.map_err(|error| failed(what, error))
    }
}

/// One stream with its staging: two halves of pinned memory, each free again when its event has passed.
struct Lane {
    stream: sys::CUstream,
    staging: *mut u8,
    passed: [sys::CUevent; 2],
    next: usize,
    /// Measured launches that have not ended: the event before the kernel, the time of the call.
    pending: Vec<(sys::CUevent, f64)>,
}

#[derive(Default)]
struct Loaded {
    functions: HashMap<String, sys::CUfunction>,
    modules: HashMap<&'static str, sys::CUmodule>,
    graphs: HashMap<(u32, Vec<Step>), sys::CUgraphExec>,
}

/// An open card.
pub struct Card {
    facts: DeviceFacts,
    driver: i32,
    device: sys::CUdevice,
    context: sys::CUcontext,
    lanes: Vec<Mutex<Lane>>,
    loaded: Mutex<Loaded>,
    measures: AtomicBool,
    queueing: Mutex<Queueing>,
    /// An event and the host's time at which it had just passed.
    reference: Mutex<Option<(sys::CUevent, Instant)>>,
}

// SAFETY: contexts, streams, events, modules and graphs of the driver may be used from any thread; what changes on our side lies
// behind mutexes, and every method makes the context current first.
unsafe impl Send for Card {}
// SAFETY: as above.
unsafe impl Sync for Card {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn attribute(device: sys::CUdevice, which: sys::CUdevice_attribute) -> Result<u32> {
    // SAFETY: `device` came from `device::get`.
    let value = unsafe { result::device::get_attribute(device, which) };
    value.doing("reading an attribute of the card").map(|value| value.max(0) as u32)
}

fn driver_version() -> Result<i32> {
    let mut version = 0;
    // SAFETY: writes one integer; `probe` found the library.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .doing("reading the driver's version")?;
    Ok(version)
}

fn facts(device: sys::CUdevice, driver: i32) -> Result<DeviceFacts> {
    use sys::CUdevice_attribute as A;
    let major = attribute(device, A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(device, A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let shared = A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    // SAFETY: `device` came from `device::get`.
    let memory = unsafe { result::device::total_mem(device) };
    Ok(DeviceFacts {
        name: result::device::get_name(device).doing("reading the card's name")?,
        driver: format!("{}.{}", driver / 1000, driver % 1000 / 10),
        capability: (major, minor),
        n_processors: attribute(device, A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?.max(1),
        shared_bytes: attribute(device, shared)?,
        memory_bytes: memory.doing("reading the card's memory")? as u64,
        n_streams: STREAMS,
    })
}

impl Card {
    /// Opens the card of that number.
    ///
    /// # Errors
    /// `device_unavailable` without a driver, without such a card, or if either is too old; `device_failed` when it cannot be
    /// opened.
    pub fn open(ordinal: u32) -> Result<Self> {
        let n = probe()?;
        if ordinal >= n {
            return Err(unavailable(format!("card {ordinal}, there are {n}")));
        }
        let driver = driver_version()?;
        let device = result::device::get(ordinal as i32).doing("finding the card")?;
        let facts = facts(device, driver)?;
        if driver < LEAST_DRIVER || facts.capability < LEAST_CAPABILITY {
            let message = format!(
                "{} of compute capability {:?} under driver {}; expected {LEAST_CAPABILITY:?} and 12.3",
                facts.name, facts.capability, facts.driver
            );
            return Err(unavailable(message));
        }
        // SAFETY: `device` came from `device::get`.
        let context = unsafe { result::primary_ctx::retain(device) }.doing("opening a context")?;
        let mut card = Self {
            facts,
            driver,
            device,
            context,
            lanes: Vec::new(),
            loaded: Mutex::default(),
            measures: AtomicBool::new(false),
            queueing: Mutex::default(),
            reference: Mutex::default(),
        };
        card.enter()?;
        for _ in 0..STREAMS {
            card.lanes.push(Mutex::new(lane()?));
        }
        Ok(card)
    }

    /// Makes the context current on this thread.
    fn enter(&self) -> Result<()> {
        // SAFETY: the context is retained until `self` is dropped.
        unsafe { result::ctx::set_current(self.context) }.doing("entering the context")
    }

    fn lane(&self, stream: Stream) -> Result<MutexGuard<'_, Lane>> {
        self.enter()?;
        Ok(lock(&self.lanes[stream.0 as usize]))
    }

    /// Sets the event and the time from which all waiting is counted, once.
    fn set_reference(&self) -> Result<()> {
        let lane = self.lane(Stream(0))?;
        let mut reference = lock(&self.reference);
        if reference.is_none() {
            let event = timed_event()?;
            // SAFETY: event and stream are live; polling returns as soon as the event is seen to have passed.
            unsafe {
                result::stream::synchronize(lane.stream).doing("waiting for the stream")?;
                result::event::record(event, lane.stream).doing("recording an event")?;
                while result::event::query(event).is_err() {
                    std::hint::spin_loop();
                }
            }
            *reference = Some((event, Instant::now()));
        }
        Ok(())
    }

    /// A function by name; its module is compiled by the driver when first asked for.
    fn function(&self, name: &str) -> Result<sys::CUfunction> {
        let mut loaded = lock(&self.loaded);
        if let Some(&function) = loaded.functions.get(name) {
            return Ok(function);
        }
        let module = Module::of(name).unwrap_or_else(|| panic!("{name} belongs to an operation"));
        let handle = match loaded.modules.get(module.stem) {
            Some(&handle) => handle,
            None => {
                let text = CString::new(module.ptx).expect("PTX is text");
                // SAFETY: the image is text that ends with a zero, as the driver expects of PTX.
                let handle = unsafe { result::module::load_data(text.as_ptr().cast()) }
                    .doing(&format!("compiling {}", module.stem))?;
                loaded.modules.insert(module.stem, handle);
                handle
            }
        };
        let text = CString::new(name).expect("names of kernels hold no zero");
        // SAFETY: the module is loaded and unloaded only on drop.
        let function = unsafe { result::module::get_function(handle, text) }
            .doing(&format!("finding {name}"))?;
        self.allow_shared(function)?;
        loaded.functions.insert(name.to_owned(), function);
        Ok(function)
    }

    /// Lets a function use all shared memory that a block may ask for.
    fn allow_shared(&self, function: sys::CUfunction) -> Result<()> {
        use sys::CUfunction_attribute_enum as A;
        // SAFETY: the function is of a loaded module.
        unsafe {
            let own = A::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
            let own = result::function::get_function_attribute(function, own)
                .doing("reading an attribute of a kernel")?;
            let most = A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let bytes = self.facts.shared_bytes as i32 - own;
            result::function::set_function_attribute(function, most, bytes)
                .doing("giving a kernel shared memory")
        }
    }

    fn start(&self, lane: &Lane, launch: &Launch) -> Result<()> {
        let function = self.function(launch.kernel())?;
        // The driver copies the parameter before it returns. Words, so that it is aligned as the struct is.
        let mut args: Vec<u64> = vec![0; launch.args().len().div_ceil(8)];
        bytemuck::cast_slice_mut::<u64, u8>(&mut args)[..launch.args().len()]
            .copy_from_slice(launch.args());
        let mut params = [args.as_mut_ptr().cast::<c_void>()];
        let [x, y, z] = launch.grid();
        // SAFETY: the function is loaded, its one parameter is a struct of this layout (made by `Launch::new` in the file of the
        // operation, from buffers that outlive the stream's work), and shape and shared memory are those it was written for.
        unsafe {
            let block = (launch.n_threads(), 1, 1);
            result::launch_kernel(
                function,
                (x, y, z),
                block,
                launch.shared_bytes(),
                lane.stream,
                &mut params,
            )
        }
        .doing(&format!("launching {} on {:?}", launch.kernel(), launch.grid()))
    }

    fn start_measured(
        &self,
        lane: &mut Lane,
        start: impl FnOnce(&Lane) -> Result<()>,
    ) -> Result<()> {
        let since = lock(&self.reference).as_ref().map(|(_, at)| at.elapsed().as_secs_f64() * 1e6);
        if let (true, Some(called_us)) = (self.measures.load(Ordering::Relaxed), since) {
            let event = timed_event()?;
            // SAFETY: both are live.
            unsafe { result::event::record(event, lane.stream) }.doing("recording an event")?;
            lane.pending.push((event, called_us));
        }
        start(lane)
    }

    /// Waits for the stream, then takes the times of its launches.
    fn wait(&self, lane: &mut Lane) -> Result<()> {
        // SAFETY: the stream lives as long as the lane.
        unsafe { result::stream::synchronize(lane.stream) }.doing("waiting for the stream")?;
        let reference = lock(&self.reference);
        let Some((first, _)) = *reference else { return Ok(()) };
        let mut queueing = lock(&self.queueing);
        for (event, called_us) in lane.pending.drain(..) {
            // SAFETY: both events have passed, and this one is not used again.
            let elapsed = unsafe {
                let elapsed = result::event::elapsed(first, event);
                result::event::destroy(event).doing("ending an event")?;
                elapsed.doing("reading an event")?
            };
            let waited = f64::from(elapsed) * 1e3 - called_us;
            queueing.n_launches += 1;
            queueing.total_us += waited;
            queueing.most_us = queueing.most_us.max(waited);
        }
        Ok(())
    }

    fn set(&self, lane: &Lane, address: u64, byte: u8, n_bytes: u64) -> Result<()> {
        if n_bytes == 0 {
            return Ok(());
        }
        // SAFETY: the bytes lie in a live buffer of this device; the caller is above the seam.
        unsafe { result::memset_d8_async(address, byte, n_bytes as usize, lane.stream) }
            .doing("clearing memory")
    }

    fn step(&self, lane: &Lane, step: &Step) -> Result<()> {
        match step {
            Step::Fill { address, byte, n_bytes } => self.set(lane, *address, *byte, *n_bytes),
            Step::Launch(launch) => self.start(lane, launch),
        }
    }

    /// The steps as one graph, recorded from the stream the first time.
    fn graph(&self, stream: Stream, lane: &Lane, steps: &[Step]) -> Result<sys::CUgraphExec> {
        let key = (stream.0, steps.to_vec());
        if let Some(&graph) = lock(&self.loaded).graphs.get(&key) {
            return Ok(graph);
        }
        // Modules are loaded before the recording: that may not happen inside.
        for step in steps {
            if let Step::Launch(launch) = step {
                self.function(launch.kernel())?;
            }
        }
        // SAFETY: the stream is live and this thread holds its lane, so nothing else is recorded; a recording is always ended.
        let graph = unsafe {
            let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            result::stream::begin_capture(lane.stream, mode).doing("recording a graph")?;
            let recorded = steps.iter().try_for_each(|step| self.step(lane, step));
            let ended = result::stream::end_capture(lane.stream).doing("recording a graph");
            recorded?;
            ended?
        };
        // SAFETY: the graph was just recorded; the executable one does not need it any more.
        let executable = unsafe {
            let made = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
            result::graph::destroy(graph).doing("ending a recording")?;
            made.doing("making a graph")?
        };
        let mut loaded = lock(&self.loaded);
        if loaded.graphs.len() >= GRAPHS {
            // Some of them may be running on other streams.
            // SAFETY: the context is current.
            unsafe { sys::cuCtxSynchronize() }.result().doing("waiting for the card")?;
            for (_, old) in loaded.graphs.drain() {
                // SAFETY: no launch of it is running, and it is forgotten.
                unsafe { result::graph::exec_destroy(old) }.doing("ending a graph")?;
            }
        }
        loaded.graphs.insert(key, executable);
        Ok(executable)
    }
}

fn timed_event() -> Result<sys::CUevent> {
    result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).doing("making an event")
}

fn lane() -> Result<Lane> {
    let kind = result::stream::StreamKind::NonBlocking;
    let stream = result::stream::create(kind).doing("opening a stream")?;
    let event = || {
        let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
        result::event::create(flags).doing("making an event")
    };
    let passed = [event()?, event()?];
    // SAFETY: a context is current; the bytes are freed with the lane.
    let staging = unsafe { result::malloc_host(2 * STAGING_BYTES, 0) }.doing("pinning memory")?;
    Ok(Lane { stream, staging: staging.cast(), passed, next: 0, pending: Vec::new() })
}

impl Lane {
    /// The half of the staging whose turn it is, once nothing uses it.
    fn half(&mut self) -> Result<(*mut u8, sys::CUevent)> {
        let at = self.next;
        self.next = 1 - at;
        // SAFETY: the event lives as long as the lane; one that was never recorded has passed.
        unsafe { result::event::synchronize(self.passed[at]) }.doing("waiting for a copy")?;
        // SAFETY: the staging has two halves of this size.
        Ok((unsafe { self.staging.add(at * STAGING_BYTES) }, self.passed[at]))
    }
}

impl Launcher for Card {
    fn facts(&self) -> &DeviceFacts {
        &self.facts
    }

    fn queueing(&self, calls: &mut dyn FnMut() -> Result<()>) -> Result<Option<Queueing>> {
        if self.driver < TIMING_DRIVER {
            return calls().map(|()| None);
        }
        self.set_reference()?;
        *lock(&self.queueing) = Queueing::default();
        self.measures.store(true, Ordering::Relaxed);
        let result = calls();
        self.measures.store(false, Ordering::Relaxed);
        result.map(|()| Some(*lock(&self.queueing)))
    }

    fn memory(&self) -> Result<(u64, u64)> {
        self.enter()?;
        let (free, all) = result::mem_get_info().doing("asking for free memory")?;
        Ok((free as u64, all as u64))
    }

    fn allocate(&self, n_bytes: u64) -> Result<u64> {
        self.enter()?;
        // SAFETY: the context is current; whoever takes the memory writes it before it is read.
        unsafe { result::malloc_sync(n_bytes as usize) }
            .doing(&format!("{}: allocating {n_bytes} bytes", self.facts.name))
    }

    fn free(&self, address: u64) {
        // SAFETY: the address came from `allocate`, and the caller says that nothing uses it. A failure means that the device is
        // lost, and the memory with it.
        let _ = self
            .enter()
            .and_then(|()| unsafe { result::free_sync(address) }.doing("giving memory back"));
    }

    fn copy_in(&self, stream: Stream, address: u64, bytes: &[u8]) -> Result<()> {
        let mut lane = self.lane(stream)?;
        for (i, chunk) in bytes.chunks(STAGING_BYTES).enumerate() {
            let (half, passed) = lane.half()?;
            let to = address + (i * STAGING_BYTES) as u64;
            // SAFETY: the half is free and large enough; it stays untouched until its event has passed; the destination is a live
            // buffer of this device.
            unsafe {
                half.copy_from_nonoverlapping(chunk.as_ptr(), chunk.len());
                sys::cuMemcpyHtoDAsync_v2(to, half.cast(), chunk.len(), lane.stream)
                    .result()
                    .doing("copying to the card")?;
                result::event::record(passed, lane.stream).doing("recording an event")?;
            }
        }
        Ok(())
    }

    fn copy_out(&self, stream: Stream, address: u64, bytes: &mut [u8]) -> Result<()> {
        let mut lane = self.lane(stream)?;
        for (i, chunk) in bytes.chunks_mut(STAGING_BYTES).enumerate() {
            let (half, _) = lane.half()?;
            let from = address + (i * STAGING_BYTES) as u64;
            // SAFETY: the half is free and large enough; the source is a live buffer of this device.
            unsafe { sys::cuMemcpyDtoHAsync_v2(half.cast(), from, chunk.len(), lane.stream) }
                .result()
                .doing("copying from the card")?;
            self.wait(&mut lane)?;
            // SAFETY: the copy has ended, and nothing else writes to the half.
            unsafe { chunk.as_mut_ptr().copy_from_nonoverlapping(half, chunk.len()) };
        }
        if bytes.is_empty() {
            self.wait(&mut lane)?;
        }
        Ok(())
    }

    fn fill(&self, stream: Stream, address: u64, byte: u8, n_bytes: u64) -> Result<()> {
        let lane = self.lane(stream)?;
        self.set(&lane, address, byte, n_bytes)
    }

    fn launch(&self, stream: Stream, launch: &Launch) -> Result<()> {
        let mut lane = self.lane(stream)?;
        self.start_measured(&mut lane, |lane| self.start(lane, launch))
    }

    fn synchronise(&self, stream: Stream) -> Result<()> {
        let mut lane = self.lane(stream)?;
        self.wait(&mut lane)
    }

    fn run(&self, stream: Stream, steps: &[Step]) -> Result<()> {
        let mut lane = self.lane(stream)?;
        let graph = self.graph(stream, &lane, steps)?;
        self.start_measured(&mut lane, |lane| {
            // SAFETY: the graph is kept until no stream runs it; its buffers are those of `steps`, which live.
            unsafe { result::graph::launch(graph, lane.stream) }.doing("launching a graph")
        })
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        let loaded = lock(&self.loaded);
        // SAFETY: nobody else holds the card any more; the streams are waited for before anything that they use goes. Failures
        // mean a lost device, whose handles the driver has dropped itself.
        unsafe {
            for lane in &self.lanes {
                let lane = lock(lane);
                let _ = result::stream::synchronize(lane.stream);
                for event in lane.passed.iter().chain(lane.pending.iter().map(|(event, _)| event)) {
                    let _ = result::event::destroy(*event);
                }
                let _ = result::free_host(lane.staging.cast());
                let _ = result::stream::destroy(lane.stream);
            }
            for graph in loaded.graphs.values() {
                let _ = result::graph::exec_destroy(*graph);
            }
            for module in loaded.modules.values() {
                let _ = result::module::unload(*module);
            }
            if let Some((event, _)) = *lock(&self.reference) {
                let _ = result::event::destroy(event);
            }
            let _ = result::primary_ctx::release(self.device);
        }
    }
}
