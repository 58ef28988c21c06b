//! One suite for every backend and every operation: the same answers as the plain loops, bit for bit where sums
//! are integers, within the bound of a 32-bit accumulator where they are floats.

mod bounds;
mod inputs;
mod operations;

use nearkin::backend::Backend;
use nearkin::backend::plain::Plain;

pub use crate::support::skip;

/// How much a backend can be asked to compute in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Hundreds of millions of multiplications: a processor or a card.
    Full,
    /// Some millions: a software device or an emulator.
    Small,
}

/// Runs the whole suite.
pub fn run(backend: &dyn Backend, effort: Effort) {
    let name = backend.facts().name.clone();
    let began = std::time::Instant::now();
    operations::distances(backend, effort);
    operations::flat_scan_shapes(backend, effort);
    operations::flat_scan_ties(backend, effort);
    operations::extremes(backend);
    operations::gather(backend, effort);
    operations::assign(backend, effort);
    operations::pairs(backend, effort);
    operations::rabitq_scan(backend, effort);
    operations::minhash(backend, effort);
    operations::refusals(backend);
    operations::budget(backend);
    println!("conformance: {name}: {:.1} s", began.elapsed().as_secs_f64());
}

#[test]
fn the_plain_backend_agrees_with_itself() {
    run(&Plain::new(1 << 30), Effort::Small);
}
