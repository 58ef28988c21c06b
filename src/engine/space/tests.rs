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
fn a_first_look_by_signs_is_planned_from_some_hundreds_on_and_says_what_it_looked_at() {
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    let backend = Cpu::new(pool, 1 << 30);
    let space = space(&backend);
    let base = space.base.as_ref().unwrap();
    let wanted = Wanted { k: 10, exact: false, ef: None, recall: 0.9 };
    let predicted = |n: u32, exact| {
        let set = Passing::new((0..n).collect());
        let plan = space.planned(Who::Some(&set), Wanted { exact, ..wanted }, Company::NONE);
        plan.choice.predicted.iter().any(|(way, seconds)| *way == Way::Signs && *seconds > 0.0)
    };
    assert!(predicted(512, false) && !predicted(511, false) && !predicted(512, true));
    let set = Passing::new((0..N_ROWS as u32).filter(|place| place % 3 != 1).collect());
    let plan = space.planned(Who::Some(&set), wanted, Company::NONE);
    let queries = base.rows().slice(0..50);
    let at = At {
        space: &space,
        base,
        backend: &backend,
        queries: &queries,
        who: Who::Some(&set),
        k: 10,
    };
    let exact = at.answer(Way::Listed, plan.question).unwrap();
    let mut n_found = 0;
    for (found, exact) in at.answer(Way::Signs, plan.question).unwrap().iter().zip(&exact) {
        assert_eq!((found.way, found.n_signs), (Way::Signs, set.n_matches()));
        assert!(found.n_distances.unwrap() < set.n_matches(), "{found:?}");
        n_found += found.neighbors.iter().filter(|near| exact.neighbors.contains(near)).count();
    }
    assert!(n_found >= 495, "{n_found} of 500");
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
