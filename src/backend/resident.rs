//! Rows and codes held by a backend: opaque, counted in bytes, released on drop.

use std::any::Any;
use std::sync::Arc;

use crate::backend::budget::Reservation;
use crate::backend::codes::RabitqCodes;
use crate::core::metric::Metric;
use crate::core::rows::Rows;

/// Rows in the memory of a backend. The host's copy stays reachable, so that the CPU can answer when a device
/// cannot.
pub struct Resident {
    host: Arc<Rows>,
    metric: Metric,
    device: Box<dyn Any + Send + Sync>,
    reserved: Reservation,
}

impl Resident {
    /// Wraps what a backend keeps of `host`.
    pub fn new(
        host: Arc<Rows>,
        metric: Metric,
        device: Box<dyn Any + Send + Sync>,
        reserved: Reservation,
    ) -> Self {
        Self { host, metric, device, reserved }
    }

    /// The rows as they were given.
    pub fn host(&self) -> &Arc<Rows> {
        &self.host
    }

    /// What they are compared by.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// What the backend that made this keeps; `None` for another backend's.
    pub fn device<T: 'static>(&self) -> Option<&T> {
        self.device.downcast_ref()
    }

    /// Bytes that this takes of the backend's budget.
    pub fn n_bytes(&self) -> u64 {
        self.reserved.n_bytes()
    }
}

/// Codes in the memory of a backend.
pub struct ResidentCodes {
    host: Arc<RabitqCodes>,
    device: Box<dyn Any + Send + Sync>,
    reserved: Reservation,
}

impl ResidentCodes {
    /// Wraps what a backend keeps of `host`.
    pub fn new(
        host: Arc<RabitqCodes>,
        device: Box<dyn Any + Send + Sync>,
        reserved: Reservation,
    ) -> Self {
        Self { host, device, reserved }
    }

    /// The codes as they were given.
    pub fn host(&self) -> &Arc<RabitqCodes> {
        &self.host
    }

    /// What the backend that made this keeps; `None` for another backend's.
    pub fn device<T: 'static>(&self) -> Option<&T> {
        self.device.downcast_ref()
    }

    /// Bytes that this takes of the backend's budget.
    pub fn n_bytes(&self) -> u64 {
        self.reserved.n_bytes()
    }
}
