//! The adapter, its device, and calls to it: nothing here panics on what a driver says.
//!
//! wgpu ends the process on errors that nobody asks for, so every creation and every submission stands in error scopes.
//! A lost device raises nothing by itself: a flag is set from its callback and looked at before and after every step.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use crate::backend::Stream;
use crate::backend::wgpu::pipeline::{Binding, GROUP, Pipeline, Pipelines};
use crate::error::{Error, ErrorKind, Result};

/// Longest wait for one submission. A launch is planned to take a small part of a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that go to the device at once: what wgpu holds twice on the way.
const PIECE_BYTES: usize = 16 << 20;
/// Storage buffers of the operation that binds most.
const STORAGE_BUFFERS: u32 = 8;
/// Workgroup memory that the operations need at most.
pub(super) const WORKGROUP_BYTES: u32 = 16 << 10;

/// What an adapter is and offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterFacts {
    /// Place in the list of adapters: what opens it.
    pub index: usize,
    /// Name, as its driver says.
    pub name: String,
    /// Kind of interface: `vulkan`.
    pub backend: String,
    /// Name and version of the driver.
    pub driver: String,
    /// Whether it is a program on the CPU: right, slow, and never to be chosen by itself.
    pub is_software: bool,
    /// Bytes of one buffer.
    pub max_buffer_bytes: u64,
    /// Bytes of a buffer that a shader can see at once.
    pub max_binding_bytes: u64,
    /// Workgroups of a launch in each direction.
    pub max_groups: u32,
    /// Least and greatest number of lanes that run together; `None` without subgroup operations.
    pub subgroup_lanes: Option<(u32, u32)>,
}

/// Whether shaders use subgroup operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subgroups {
    /// If the adapter has them.
    #[default]
    Auto,
    /// Not at all.
    Off,
}

/// How a device is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Place in the list of adapters; `None` for the first that is hardware, or the first if none is.
    pub adapter: Option<usize>,
    /// Bytes that resident rows may take.
    pub budget_bytes: u64,
    /// Use of subgroup operations.
    pub subgroups: Subgroups,
    /// Bytes of a shard of rows, below the adapter's own limit; `None` for that limit.
    pub shard_bytes: Option<u64>,
    /// Pairs and survivors that one launch has room for; `None` for 2^18. With less, tiles are cut smaller.
    pub n_places: Option<u32>,
}

/// A device and what belongs to it.
pub(super) struct Gpu {
    pub facts: AdapterFacts,
    pub has_subgroups: bool,
    pub shard_bytes: u64,
    pub n_places: u32,
    pub pipelines: Pipelines,
    device: wgpu::Device,
    queue: wgpu::Queue,
    state: Arc<State>,
    stream: Mutex<()>,
    /// Steps until a test destroys the device; `u64::MAX` for never.
    steps_left: AtomicU64,
}

/// What callbacks of the driver leave behind.
#[derive(Debug, Default)]
struct State {
    is_lost: AtomicBool,
    /// Why, and errors that no scope caught.
    messages: Mutex<VecDeque<String>>,
}

impl State {
    fn note(&self, message: String) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        // The first ones say most.
        if messages.len() < 8 {
            messages.push_back(message);
        }
    }

    fn first_message(&self) -> String {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.front().cloned().unwrap_or_default()
    }
}

fn adapters() -> Vec<wgpu::Adapter> {
    let mut wanted = wgpu::InstanceDescriptor::new_without_display_handle();
    wanted.backends = wgpu::Backends::VULKAN;
    wanted.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(wanted);
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN))
}

fn facts(index: usize, adapter: &wgpu::Adapter) -> AdapterFacts {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let has_subgroups = adapter.features().contains(wgpu::Features::SUBGROUP);
    AdapterFacts {
        index,
        name: info.name,
        backend: info.backend.to_str().to_owned(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        is_software: info.device_type == wgpu::DeviceType::Cpu,
        max_buffer_bytes: limits.max_buffer_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_groups: limits.max_compute_workgroups_per_dimension,
        subgroup_lanes: has_subgroups.then_some((info.subgroup_min_size, info.subgroup_max_size)),
    }
}

/// All adapters, in the order of their indexes; none without a driver.
pub(super) fn all_facts() -> Vec<AdapterFacts> {
    adapters().iter().enumerate().map(|(index, adapter)| facts(index, adapter)).collect()
}

fn unavailable(code: &'static str, message: String) -> Error {
    Error::new(ErrorKind::Device, code, message)
}

/// Which files the Vulkan loader was told to look at.
fn searched() -> String {
    let named: Vec<String> = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"]
        .into_iter()
        .filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)))
        .collect();
    if named.is_empty() { "the system's driver files".to_owned() } else { named.join(" ") }
}

fn choose(index: Option<usize>) -> Result<(wgpu::Adapter, AdapterFacts)> {
    let mut all: Vec<(wgpu::Adapter, AdapterFacts)> = adapters()
        .into_iter()
        .enumerate()
        .map(|(index, adapter)| {
            let facts = facts(index, &adapter);
            (adapter, facts)
        })
        .collect();
    if all.is_empty() {
        let message = format!("no vulkan adapter; tried libvulkan.so.1 with {}", searched());
        return Err(unavailable("device_unavailable", message));
    }
    let hardware = || all.iter().position(|(_, facts)| !facts.is_software).unwrap_or(0);
    let index = index.unwrap_or_else(hardware);
    if index >= all.len() {
        let message = format!("adapter {index}, found 0 to {}", all.len() - 1);
        return Err(unavailable("device_index", message));
    }
    Ok(all.swap_remove(index))
}

/// The defaults of WebGPU, with buffers as large as the adapter allows.
fn limits(adapter: &wgpu::Adapter, facts: &AdapterFacts) -> Result<wgpu::Limits> {
    let (wanted, offered) = (wgpu::Limits::defaults(), adapter.limits());
    for (what, needed, offered) in [
        ("storage buffers", STORAGE_BUFFERS, offered.max_storage_buffers_per_shader_stage),
        ("bytes of workgroup memory", WORKGROUP_BYTES, offered.max_compute_workgroup_storage_size),
        ("invocations", GROUP, offered.max_compute_invocations_per_workgroup),
    ] {
        if offered < needed {
            let message = format!("{}: {offered} {what}, {needed} needed", facts.name);
            return Err(unavailable("unsupported", message));
        }
    }
    Ok(wgpu::Limits {
        max_buffer_size: offered.max_buffer_size,
        max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
        ..wanted.or_worse_values_from(&offered)
    })
}

impl Gpu {
    pub fn open(options: &Options) -> Result<Self> {
        let (adapter, facts) = choose(options.adapter)?;
        let has_subgroups = options.subgroups == Subgroups::Auto && facts.subgroup_lanes.is_some();
        let required_features =
            if has_subgroups { wgpu::Features::SUBGROUP } else { wgpu::Features::empty() };
        let asked = wgpu::DeviceDescriptor {
            label: Some("nearkin"),
            required_features,
            required_limits: limits(&adapter, &facts)?,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&asked))
            .map_err(|e| unavailable("device_unavailable", format!("{}: {e}", facts.name)))?;
        let state = Arc::new(State::default());
        let (lost, uncaught) = (Arc::clone(&state), Arc::clone(&state));
        device.set_device_lost_callback(move |reason, message| {
            lost.note(format!("{reason:?}: {message}"));
            lost.is_lost.store(true, Ordering::SeqCst);
        });
        device.on_uncaptured_error(Arc::new(move |error| uncaught.note(error.to_string())));
        let largest = facts.max_binding_bytes.min(facts.max_buffer_bytes);
        Ok(Self {
            has_subgroups,
            shard_bytes: options.shard_bytes.map_or(largest, |bytes| bytes.min(largest)),
            n_places: options.n_places.unwrap_or(1 << 18),
            facts,
            pipelines: Pipelines::default(),
            device,
            queue,
            state,
            stream: Mutex::new(()),
            steps_left: AtomicU64::new(u64::MAX),
        })
    }

    /// Destroys the device after so many more steps.
    pub fn destroy_after(&self, n_steps: u64) {
        self.steps_left.store(n_steps, Ordering::SeqCst);
        if n_steps == 0 {
            self.device.destroy();
        }
    }

    fn step(&self) {
        let less = |left: u64| (left != u64::MAX && left > 0).then(|| left - 1);
        if self.steps_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) == Ok(1) {
            self.device.destroy();
        }
    }

    /// A call of `operation` on rows of some shape, alone on its stream until it is dropped.
    pub fn call(
        &self,
        stream: Stream,
        operation: &'static str,
        shape: impl fmt::Display,
    ) -> Result<Call<'_>> {
        if stream.0 != 0 {
            let message = format!("stream {}, {} has 1", stream.0, self.facts.name);
            return Err(Error::usage("stream_range", message));
        }
        let alone = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let call = Call { gpu: self, operation, shape: shape.to_string(), _alone: alone };
        call.alive()?;
        Ok(call)
    }
}

/// A launch: shader, parameters, buffers in the order of its bindings, and workgroups.
pub(super) struct Launch<'a> {
    pub pipeline: &'a Pipeline,
    pub params: &'a [u32],
    pub buffers: &'a [&'a wgpu::Buffer],
    pub groups: [u32; 2],
}

/// One call of an operation; errors name it.
pub(super) struct Call<'a> {
    pub gpu: &'a Gpu,
    operation: &'static str,
    shape: String,
    _alone: MutexGuard<'a, ()>,
}

impl Call<'_> {
    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.gpu.device
    }

    /// An error of this call.
    pub fn error(&self, code: &'static str, what: impl fmt::Display) -> Error {
        let message =
            format!("{}: {} of {}: {what}", self.gpu.facts.name, self.operation, self.shape);
        Error::new(ErrorKind::Device, code, message)
    }

    /// Fails if the device is lost.
    fn alive(&self) -> Result<()> {
        // Callbacks run when they are asked for. What polling itself says is said again by the step that needs it.
        let _ = self.gpu.device.poll(wgpu::PollType::Poll);
        if self.gpu.state.is_lost.load(Ordering::SeqCst) {
            return Err(self.error("device_lost", self.gpu.state.first_message()));
        }
        Ok(())
    }

    /// Does one step; whatever wgpu says of it becomes an error.
    pub fn guarded<T>(&self, step: &str, n_bytes: u64, work: impl FnOnce() -> T) -> Result<T> {
        self.alive()?;
        self.gpu.step();
        let validation = self.gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = self.gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.gpu.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let done = work();
        let found = [
            pollster::block_on(internal.pop()),
            pollster::block_on(memory.pop()),
            pollster::block_on(validation.pop()),
        ];
        match found.into_iter().flatten().next() {
            None => self.alive().map(|()| done),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(self.failed("device_oom", format!("{step}: {n_bytes} bytes asked")))
            }
            Some(error) => {
                Err(self.failed("device_failed", format!("{step}, {n_bytes} bytes: {error}")))
            }
        }
    }

    /// The error of a step that failed: a lost device is the reason of whatever else was said.
    fn failed(&self, code: &'static str, what: impl fmt::Display) -> Error {
        // A destroyed device refuses at once, but says that it is lost only when its queue is empty.
        let wait = wgpu::PollType::Wait { submission_index: None, timeout: Some(PATIENCE) };
        let _ = self.gpu.device.poll(wait);
        self.alive().err().unwrap_or_else(|| self.error(code, what))
    }

    fn create(
        &self,
        what: &'static str,
        n_bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer> {
        // A binding of nothing is not allowed; 16 bytes are one element of any shader.
        let size = n_bytes.max(16).next_multiple_of(4);
        if size > self.gpu.facts.max_buffer_bytes {
            let message = format!(
                "{what}: {n_bytes} bytes asked, a buffer takes {}",
                self.gpu.facts.max_buffer_bytes
            );
            return Err(self.error("device_oom", message));
        }
        self.guarded(what, size, || {
            self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(what),
                size,
                usage,
                mapped_at_creation: false,
            })
        })
    }

    /// A buffer of zeros for shaders.
    pub fn buffer(&self, what: &'static str, n_bytes: u64) -> Result<wgpu::Buffer> {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        self.create(what, n_bytes, usage)
    }

    /// Copies words into a buffer from its byte `offset` on.
    pub fn write(&self, buffer: &wgpu::Buffer, offset: u64, words: &[u32]) -> Result<()> {
        let mut at = offset;
        for piece in bytemuck::cast_slice::<u32, u8>(words).chunks(PIECE_BYTES) {
            self.guarded("write", piece.len() as u64, || {
                self.gpu.queue.write_buffer(buffer, at, piece);
                self.gpu.queue.submit([]);
            })?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// A buffer with these words.
    pub fn upload(&self, what: &'static str, words: &[u32]) -> Result<wgpu::Buffer> {
        let buffer = self.buffer(what, size_of_val(words) as u64)?;
        self.write(&buffer, 0, words)?;
        Ok(buffer)
    }

    /// Runs a launch; its results stay on the device.
    pub fn run(&self, launch: &Launch<'_>) -> Result<()> {
        let mut params = launch.params.to_vec();
        params.resize(params.len().next_multiple_of(4), 0);
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let uniform = self.create("params", params.len() as u64 * 4, usage)?;
        self.guarded("launch", 0, || {
            self.gpu.queue.write_buffer(&uniform, 0, bytemuck::cast_slice(&params));
            let group = self.bind(launch, &uniform);
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&launch.pipeline.pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(launch.groups[0], launch.groups[1], 1);
            drop(pass);
            self.gpu.queue.submit([encoder.finish()]);
        })
    }

    /// Waits for the first `n_words` of a buffer.
    pub fn read(&self, buffer: &wgpu::Buffer, n_words: u64) -> Result<Vec<u32>> {
        if n_words == 0 {
            return Ok(Vec::new());
        }
        let n_bytes = n_words * 4;
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let target = self.create("results", n_bytes, usage)?;
        let index = self.guarded("copy", n_bytes, || {
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 0, &target, 0, n_bytes);
            self.gpu.queue.submit([encoder.finish()])
        })?;
        self.fetch(&target, n_bytes, index)
    }

    fn bind(&self, launch: &Launch<'_>, uniform: &wgpu::Buffer) -> wgpu::BindGroup {
        let mut buffers = launch.buffers.iter().copied();
        let entries: Vec<wgpu::BindGroupEntry<'_>> = (0..)
            .zip(launch.pipeline.bindings)
            .map(|(binding, kind)| {
                let buffer = match kind {
                    Binding::Params => uniform,
                    _ => buffers.next().expect("a launch of ours: one buffer per binding"),
                };
                wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }
            })
            .collect();
        self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &launch.pipeline.layout,
            entries: &entries,
        })
    }

    fn fetch(
        &self,
        buffer: &wgpu::Buffer,
        n_bytes: u64,
        index: wgpu::SubmissionIndex,
    ) -> Result<Vec<u32>> {
        let (sender, receiver) = mpsc::channel();
        self.guarded("map", n_bytes, || {
            buffer.map_async(wgpu::MapMode::Read, 0..n_bytes, move |mapped| {
                // The receiver is gone only if this call has failed already.
                let _ = sender.send(mapped);
            });
        })?;
        let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(PATIENCE) };
        let waited = self.gpu.device.poll(wait);
        self.alive()?;
        if let Err(wgpu::PollError::Timeout) = waited {
            return Err(self.error("device_failed", format!("no answer in {PATIENCE:?}")));
        }
        if let Err(error) = waited {
            return Err(self.failed("device_failed", format!("wait: {error}")));
        }
        match receiver.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.failed("device_failed", format!("map: {error}"))),
            Err(_) => return Err(self.failed("device_failed", "results were not mapped")),
        }
        let view = buffer
            .get_mapped_range(0..n_bytes)
            .map_err(|error| self.failed("device_failed", format!("read: {error}")))?;
        Ok(bytemuck::pod_collect_to_vec(&view[..]))
    }
}
