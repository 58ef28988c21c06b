//! The processor's loops against the plain ones, at every level that this processor has.

use std::sync::Arc;

use nearkin::backend::cpu::Cpu;
use nearkin::distance::Level;

use crate::conformance::{self, Effort};

fn pool(n_threads: usize) -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap())
}

#[test]
fn every_level_of_the_processor_conforms() {
    for level in Level::available() {
        conformance::run(&Cpu::at_level(pool(2), 1 << 30, level), Effort::Full);
    }
    for level in [Level::Avx2, Level::Avx512, Level::Avx512Vnni] {
        if !Level::available().contains(&level) {
            conformance::skip(level.name(), "this processor does not have it");
        }
    }
}
