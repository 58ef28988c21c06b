//! What computes distances, and why.

use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::dedup::options::Device;
use crate::error::{Error, ErrorKind, Result};

/// A backend and the reason for it.
pub struct Chosen {
    /// The backend.
    pub backend: Box<dyn Backend>,
    /// Why this one, for the report.
    pub why: String,
}

/// Opens the device that was asked for. Asking for one that is not there is an error, `auto` never is.
///
/// # Errors
/// `device_absent`, or `threads` if the processor's threads cannot be started.
pub fn open(device: Device, budget_bytes: u64, threads: usize) -> Result<Chosen> {
    let why = match device {
        Device::Cpu => "asked for",
        Device::Auto => "dedup does not use other devices yet",
        Device::Cuda | Device::Wgpu => {
            let message = format!("{device}: dedup does not use it yet; --device auto or cpu");
            return Err(Error::new(ErrorKind::Device, "device_absent", message));
        }
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::new(ErrorKind::Io, "threads", error.to_string()))?;
    let backend = Box::new(Cpu::new(Arc::new(pool), budget_bytes));
    Ok(Chosen { backend, why: why.into() })
}
