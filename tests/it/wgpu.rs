//! The WGSL backend on whatever Vulkan driver is here; Mesa's software driver will do.

use nearkin::backend::wgpu::{Options, Subgroups, Wgpu};

use crate::conformance::{self, Effort};

/// Opens the first adapter, or says why the test is skipped.
fn open(options: Options) -> Option<Wgpu> {
    let options = Options { budget_bytes: 1 << 30, ..options };
    match Wgpu::open_with(&options) {
        Ok(wgpu) => Some(wgpu),
        Err(error) => {
            conformance::skip("wgpu", &error.to_string());
            None
        }
    }
}

#[test]
fn it_agrees_with_the_plain_loops_with_subgroup_operations() {
    let Some(wgpu) = open(Options::default()) else { return };
    conformance::run(&wgpu, Effort::Small);
}
