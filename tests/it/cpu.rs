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
    // All sizes at the level in use; the lower ones share its loops, and the plain side is slow.
    for level in Level::available() {
        let effort = if level == Level::best() { Effort::Full } else { Effort::Small };
        conformance::run(&Cpu::at_level(pool(2), 1 << 30, level), effort);
    }
    for level in [Level::Avx2, Level::Avx512, Level::Avx512Vnni] {
        if !Level::available().contains(&level) {
            conformance::skip(level.name(), "this processor does not have it");
        }
    }
}
