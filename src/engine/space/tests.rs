use std::sync::Arc;

use rayon::ThreadPoolBuilder;

use super::*;
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::rows::{Dtype, Values};
use crate::engine::base::SEED;
use crate::engine::settings::Settings;
use crate::index::tree;

const N_ROWS: u64 = 4000;
const DIM: u64 = 8;

/// Rows in a cube, with all that near answers come from.
fn space(backend: &Cpu) -> Space {
    let value = |i| (stream(3, i) % 1000) as f32 / 1000.0;
    let values: Vec<f32> = (0..N_ROWS * DIM).map(value).collect();
    let rows = Rows::new(Values::F32(values.into()), DIM as usize).unwrap();
    let params = tree::BuildParams { seed: SEED, ..tree::BuildParams::default() };
    let built = tree::build((backend, backend.pool()), &rows, Metric::L2, &params).unwrap();
    let order: Vec<usize> = built.order.iter().map(|&row| row as usize).collect();
    let base = Base::of((backend, backend.pool()), rows.picked(&order), Metric::L2).unwrap();
    let settings = Settings::of_vector(DIM as usize, Metric::L2, Dtype::F32).vectors.remove(0);
    let mut space = Space::new(backend, settings, Some(base), None).unwrap();
    let placed = Placed { tree: built.tree, paths: built.paths.into() };
    space.build_near(backend, placed).unwrap();
    space
}

#[test]
fn a_walk_that_ends_early_is_answered_exactly() {
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    let backend = Cpu::new(pool, 1 << 30);
    let space = space(&backend);
    let base = space.base.as_ref().unwrap();
    let mut n_early = 0;
    for place in (0..N_ROWS as u32).step_by(97) {
        // The place in the opposite corner of the order, alone: no walk of this width comes by.
        let alone = Passing::new([N_ROWS as u32 - 1 - place].into_iter().collect());
        let queries = base.rows().slice(place as usize..place as usize + 1);
        let question = Question {
            n_matches: 1,
            exact: false,
            ef: 1,
            tree_ef: 1,
            has_skeleton: false,
            company: Company::NONE,
        };
        let who = Who::Some(&alone);
        let at = At { space: &space, base, backend: &backend, queries: &queries, who, k: 1 };
        let found = at.answer(Way::Graph, question).unwrap().swap_remove(0);
        let places: Vec<u32> = found.neighbors.iter().map(|near| near.slot).collect();
        assert_eq!(places, [N_ROWS as u32 - 1 - place], "query {place}");
        n_early += usize::from(found.way != Way::Graph);
    }
    assert!(n_early > 0, "no walk ended early");
}
