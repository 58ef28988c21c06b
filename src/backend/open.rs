//! Which backend a job uses, and why.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rayon::ThreadPool;

use crate::backend::cpu::Cpu;
use crate::backend::crossover::Crossover;
use crate::backend::fallback::WithFallback;
use crate::backend::{Backend, BackendKind};
use crate::error::{Error, ErrorKind, Result};

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// A card if there is one, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA card, or an error.
    Cuda,
    /// A card through WGSL, or an error.
    Wgpu,
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "wgpu" => Ok(Self::Wgpu),
            _ => Err(Error::usage("device", format!("{text:?}, expected auto, cpu, cuda or wgpu"))),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
        })
    }
}

/// A kind of device and what came of looking for it.
#[derive(Clone, Debug)]
pub struct Tried {
    /// What was looked for.
    pub kind: BackendKind,
    /// The device's name, or why there is none.
    pub found: Result<String>,
}

/// A backend that is ready, and how it was chosen.
pub struct Opened {
    /// Computes; a card comes with the processor behind it.
    pub backend: Arc<dyn Backend>,
    /// What was looked for on the way.
    pub tried: Vec<Tried>,
    /// What was measured of the card, if it was found unasked.
    pub crossover: Option<Crossover>,
    /// One line for people: `gpu: none found, using processor, avx2`.
    pub why: String,
}

/// Opens the asked device. A card is held to `device_bytes`, the processor to `host_bytes`.
///
/// # Errors
/// `device_unavailable` (exit code 9) if a named device is not there or was not built in; `auto` never fails.
pub fn open(
    device: Device,
    pool: &Arc<ThreadPool>,
    host_bytes: u64,
    device_bytes: Option<u64>,
) -> Result<Opened> {
    let cpu = || Cpu::new(Arc::clone(pool), host_bytes);
    let kinds: &[BackendKind] = match device {
        Device::Cpu => &[],
        Device::Auto => &[BackendKind::Cuda, BackendKind::Wgpu],
        Device::Cuda => &[BackendKind::Cuda],
        Device::Wgpu => &[BackendKind::Wgpu],
    };
    let mut tried = Vec::new();
    for &kind in kinds {
        match find(kind, device, device_bytes) {
            Ok(card) => {
                let name = card.facts().name.clone();
                tried.push(Tried { kind, found: Ok(name.clone()) });
                let cpu = cpu();
                // A card that was asked for by name gets everything.
                let crossover = match device {
                    Device::Auto => Some(Crossover::measure(card.as_ref(), &cpu)?),
                    _ => None,
                };
                let why = match crossover {
                    Some(measured) => why_auto(kind, &name, measured),
                    None => format!("{kind}: {name}"),
                };
                let backend = Arc::new(WithFallback::new(card, cpu, crossover));
                return Ok(Opened { backend, tried, crossover, why });
            }
            Err(error) if device == Device::Auto => tried.push(Tried { kind, found: Err(error) }),
            Err(error) => return Err(error),
        }
    }
    let cpu = cpu();
    let name = &cpu.facts().name;
    let why = match device {
        Device::Cpu => format!("cpu: {name}"),
        _ => format!("gpu: none found, using {name}"),
    };
    Ok(Opened { backend: Arc::new(cpu), tried, crossover: None, why })
}

fn why_auto(kind: BackendKind, name: &str, measured: Crossover) -> String {
    match measured.batch(1_000_000, 384) {
        Some(batch) => {
            format!("{kind}: {name}, from {batch} queries over a million rows of 384 on")
        }
        None => format!("{kind}: {name} is never faster than the processor, which is used"),
    }
}

/// A device of one kind. Unasked, a software device is passed over: it is slower than the processor's own loops.
fn find(kind: BackendKind, asked: Device, budget: Option<u64>) -> Result<Box<dyn Backend>> {
    match kind {
        BackendKind::Cuda => cuda(budget),
        BackendKind::Wgpu => wgpu(asked, budget),
        BackendKind::Cpu => Err(unavailable("the processor is no card")),
    }
}

fn unavailable(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Device, "device_unavailable", message)
}

#[cfg(feature = "cuda")]
fn cuda(budget_bytes: Option<u64>) -> Result<Box<dyn Backend>> {
    let card = crate::backend::cuda::Cuda::open(0, budget_bytes)?;
    Ok(Box::new(card))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: Option<u64>) -> Result<Box<dyn Backend>> {
    Err(unavailable("cuda: this build lacks the feature `cuda`"))
}

/// WGSL adapters do not say how much memory they have; a card with less answers `device_oom`, and rows pass in parts.
#[cfg(feature = "wgpu")]
const WGPU_BYTES: u64 = 2 << 30;

#[cfg(feature = "wgpu")]
fn wgpu(asked: Device, budget_bytes: Option<u64>) -> Result<Box<dyn Backend>> {
    use crate::backend::wgpu::Wgpu;
    let card = Wgpu::open(None, budget_bytes.unwrap_or(WGPU_BYTES))?;
    if asked == Device::Auto && card.adapter().is_software {
        let message = format!("wgpu: {} is software, used only when asked for", card.facts().name);
        return Err(unavailable(message));
    }
    Ok(Box::new(card))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_: Device, _: Option<u64>) -> Result<Box<dyn Backend>> {
    Err(unavailable("wgpu: this build lacks the feature `wgpu`"))
}
