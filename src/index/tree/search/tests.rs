//! The whole way: rows to tree, run to skeleton, query to neighbors.

use std::collections::HashSet;
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::*;
use crate::backend::cpu::Cpu;
use crate::backend::{Backend, Stream};
use crate::core::mix::stream;
use crate::core::rows::{Rows, Values};
use crate::index::tree::build::{BuildParams, Built, build};
use crate::index::tree::run::Run;
use crate::index::tree::scan::{BackendScan, FloatRows};
use crate::index::tree::skeleton::MAX_LIST;

fn pool(n_threads: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap())
}

/// A number of mean 0 and deviation 1, nearly normal: four even ones summed.
fn normal(seed: u64, i: u64) -> f32 {
    let even = |j| (stream(seed, 4 * i + j) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    (0..4).map(even).sum::<f32>() * 3.0f32.sqrt()
}

/// Rows around `n_rows / 100` centres, as far from them as half of the centres' own spread.
fn clustered(n_rows: usize, dim: usize, seed: u64) -> Rows {
    let n_centres = (20_000 / 100) as u64;
    let element = |i: u64| {
        let (row, j) = (i / dim as u64, i % dim as u64);
        let centre = stream(seed, row) % n_centres;
        normal(77, centre * dim as u64 + j) + 0.5 * normal(seed + 1, i) + 0.2
    };
    let values = (0..(n_rows * dim) as u64).map(element).collect();
    Rows::new(Values::F32(values), dim).unwrap()
}

fn built(rows: &Rows, metric: Metric, params: &BuildParams, n_threads: usize) -> Built {
    let pool = pool(n_threads);
    let backend = Cpu::new(Arc::clone(&pool), 1 << 32);
    build((&backend, &pool), rows, metric, params).unwrap()
}

/// Rows in tree order and their tree.
fn ordered(n_rows: usize, dim: usize, metric: Metric) -> (Rows, Built) {
    let rows = clustered(n_rows, dim, 5);
    let built = built(&rows, metric, &BuildParams::default(), 2);
    (built.ordered(&rows), built)
}

/// Every `step`-th slot or so.
fn some_slots(n_rows: usize, step: u64, seed: u64) -> Vec<u32> {
    (0..n_rows as u32).filter(|&slot| stream(seed, u64::from(slot)).is_multiple_of(step)).collect()
}

fn query(queries: &Rows, q: usize) -> Vec<f32> {
    let mut values = vec![0.0; queries.dim()];
    queries.widen(q, &mut values);
    values
}

#[test]
fn rows_keep_to_the_intervals_of_their_leaves_and_leaves_to_their_size() {
    for (dim, metric) in [(1, Metric::L2), (300, Metric::Cosine), (8, Metric::Dot), (8, Metric::L1)]
    {
        let rows = clustered(3000, dim, 5);
        let built = built(&rows, metric, &BuildParams { fan_out: 6, ..Default::default() }, 1);
        let all: HashSet<u32> = built.order.iter().copied().collect();
        assert_eq!((all.len(), built.order.len()), (3000, 3000));
        assert!(built.paths.is_sorted());
        let nodes = built.tree.nodes();
        let leaves = nodes.iter().filter(|node| node.n_children == 0);
        let mut n_rows = 0;
        for leaf in leaves {
            let start = built.paths.partition_point(|&path| path < leaf.code);
            let end = built.paths.partition_point(|&path| path <= leaf.last_code());
            assert!(built.paths[start..end].iter().all(|&path| path == leaf.code));
            assert!((1..=128).contains(&(end - start)), "{metric}: {} rows", end - start);
            assert!(built.order[start..end].is_sorted(), "equal paths keep the order of slots");
            n_rows += end - start;
        }
        assert_eq!(n_rows, 3000, "each row has one leaf");
    }
}

#[test]
fn a_seed_gives_one_tree_for_any_number_of_threads() {
    let rows = clustered(4000, 24, 5);
    for metric in Metric::ALL {
        let params = BuildParams { seed: 3, ..BuildParams::default() };
        let one = built(&rows, metric, &params, 1);
        assert_eq!(one, built(&rows, metric, &params, 2), "{metric}");
        let other = BuildParams { seed: 4, ..BuildParams::default() };
        assert_ne!(one.order, built(&rows, metric, &other, 1).order, "{metric}");
    }
}

#[test]
fn equal_rows_are_one_leaf_and_the_few_others_are_told_from_them() {
    let equal = Rows::new(Values::F32(vec![0.5; 200_000].into()), 2).unwrap();
    let tree = built(&equal, Metric::L2, &BuildParams::default(), 2);
    assert_eq!((tree.tree.nodes().len(), tree.paths[99_999]), (1, 0));
    // One row in 100,000 differs: no sample can be expected to hold it.
    let mut values = vec![0.5; 200_000];
    values[123_456] = 9.0;
    let rows = Rows::new(Values::F32(values.into()), 2).unwrap();
    let tree = built(&rows, Metric::L2, &BuildParams::default(), 2);
    let place = tree.order.iter().position(|&row| row == 61_728).unwrap();
    let same_path = tree.paths.iter().filter(|&&path| path == tree.paths[place]).count();
    assert_eq!(same_path, 1);
}

#[test]
fn bytes_and_sets_smaller_than_a_leaf_have_trees() {
    let element = |i: u64| (100 * (i / 8 % 2) + stream(1, i) % 50) as u8;
    let bytes = Rows::new(Values::U8((0..16_000).map(element).collect()), 8).unwrap();
    for metric in Metric::ALL {
        let tree = built(&bytes, metric, &BuildParams::default(), 2);
        assert!(tree.paths[1999] > 0, "{metric}");
        let few = built(&bytes.slice(0..100), metric, &BuildParams::default(), 1);
        assert_eq!((few.tree.nodes().len(), few.order.len()), (1, 100));
    }
    let none = built(&bytes.slice(0..0), Metric::L2, &BuildParams::default(), 1);
    assert_eq!((none.tree.nodes().len(), none.order.len()), (1, 0));
}

#[test]
fn lists_of_a_skeleton_tile_its_run_within_the_nodes_they_name() {
    let (_, built) = ordered(6000, 8, Metric::L2);
    let nodes = built.tree.nodes();
    for (step, max_list) in [(1, 128), (1, 1), (3, 20), (50, 7), (7000, 128)] {
        let run = Run::new(some_slots(6000, step, 9), &built.paths).unwrap();
        let skeleton = Skeleton::build(&built.tree, &built.paths, run.slots(), max_list).unwrap();
        let mut lists: Vec<_> = Vec::new();
        for part in skeleton.parts() {
            let node = nodes[part.node as usize];
            let inside = node.code..=node.last_code();
            let slots = &run.slots()[part.range()];
            assert!(slots.iter().all(|&slot| inside.contains(&built.paths[slot as usize])));
            if part.n_children == 0 {
                assert!(slots.len() <= max_list || node.n_children == 0);
                lists.push(part.range());
                continue;
            }
            assert!(part.n_children > 1, "parts with one child are passed over");
            let first = part.first_child as usize;
            let children = &skeleton.parts()[first..first + part.n_children as usize];
            assert_eq!(
                (children[0].start, children[children.len() - 1].end),
                (part.start, part.end)
            );
            assert!(children.iter().all(|child| child.start < child.end));
            for pair in children.windows(2) {
                assert_eq!(pair[0].end, pair[1].start);
                let code = |i: usize| nodes[pair[i].node as usize].code;
                assert!(nodes[pair[0].node as usize].last_code() < code(1));
            }
        }
        lists.sort_unstable_by_key(|list| (list.start, list.end));
        let places: Vec<usize> = lists.into_iter().flatten().collect();
        assert_eq!(places, (0..run.len()).collect::<Vec<_>>(), "step {step}");
    }
}

#[test]
fn a_run_that_does_not_fit_the_tree_is_refused() {
    let (_, built) = ordered(3000, 4, Metric::L2);
    let code = |paths: &[u64], run: &[u32], max_list| {
        Skeleton::build(&built.tree, paths, run, max_list).unwrap_err().code()
    };
    assert_eq!(code(&built.paths, &[0, 3000], 1), "slot_range");
    assert_eq!(code(&built.paths, &[1, 0], 1), "path_code");
    assert_eq!(code(&built.paths, &[1, 1], 1), "path_code");
    assert_eq!(code(&[u64::MAX - 1, u64::MAX], &[0, 1], 1), "path_code");
    assert_eq!(code(&built.paths, &[0, 1], 0), "max_list");
}

#[test]
fn there_are_as_many_results_as_asked_for_or_as_rows_and_with_ef_of_all_they_are_the_nearest() {
    for metric in Metric::ALL {
        let (rows, built) = ordered(4000, 8, metric);
        let queries = clustered(8, 8, 31);
        let held = FloatRows::new(&rows, metric).unwrap();
        let k = 10;
        for n in (0..=2 * k).chain([129, 500, 4000]) {
            let spread = (0..n).map(|i| (i * 4000 / n) as u32).collect();
            let run = Run::new(spread, &built.paths).unwrap();
            let run = run.slots();
            let skeleton = Skeleton::build(&built.tree, &built.paths, run, 2).unwrap();
            for q in 0..8 {
                let mut scan = held.scan(&queries, q).unwrap();
                let expected = flat(run, &mut scan, k).unwrap().neighbors;
                let mut ask = |ef| {
                    let params = SearchParams { k, ef, beam: 1, patience: 1 };
                    let on = (&built.tree, &skeleton);
                    search(on, run, &query(&queries, q), &mut scan, &params).unwrap()
                };
                let (least, all) = (ask(k), ask(n.max(k)));
                assert_eq!(least.neighbors.len(), k.min(n), "{metric}: {n} rows");
                assert!(least.neighbors.is_sorted());
                assert!(least.neighbors.iter().all(|near| run.contains(&near.slot)));
                assert_eq!(all.neighbors, expected, "{metric}: {n} rows");
            }
        }
    }
}

/// Mean recall@10 and share of rows compared, over a run.
fn recall(built: &Built, rows: &Rows, metric: Metric, run: &Run, ef: usize) -> (f64, f64) {
    let queries = clustered(100, rows.dim(), 31);
    let held = FloatRows::new(rows, metric).unwrap();
    let run = run.slots();
    let skeleton = Skeleton::build(&built.tree, &built.paths, run, MAX_LIST).unwrap();
    let (mut n_found, mut n_rows) = (0, 0);
    for q in 0..100 {
        let mut scan = held.scan(&queries, q).unwrap();
        let truth = flat(run, &mut scan, 10).unwrap().neighbors;
        let params = SearchParams { ef, ..SearchParams::default() };
        let on = (&built.tree, &skeleton);
        let found = search(on, run, &query(&queries, q), &mut scan, &params).unwrap();
        n_found += truth.iter().filter(|near| found.neighbors.contains(near)).count();
        n_rows += found.touched.n_rows;
    }
    (n_found as f64 / 1000.0, n_rows as f64 / (100 * run.len()) as f64)
}

#[test]
fn ten_neighbors_are_found_at_a_recall_of_95_percent_looking_at_few_rows() {
    for metric in Metric::ALL {
        let (rows, built) = ordered(20_000, 32, metric);
        for (step, ef, most) in [(1, 96, 0.05), (10, 96, 0.5), (40, 64, 1.0)] {
            let run = Run::new(some_slots(20_000, step, 9), &built.paths).unwrap();
            // What is near under dot is near through its length too, and lies in more lists.
            let ef = if metric == Metric::Dot { 2 * ef } else { ef };
            let (recall, share) = recall(&built, &rows, metric, &run, ef);
            assert!(recall >= 0.95, "{metric}, one row in {step}: recall {recall}");
            assert!(share <= most, "{metric}, one row in {step}: {share} of the rows compared");
        }
    }
}

#[test]
fn rows_added_later_are_found_where_their_path_puts_them() {
    let (rows, built) = ordered(5000, 16, Metric::L2);
    let later = clustered(300, 16, 91);
    let values = |rows: &Rows| (0..rows.n_rows()).flat_map(|i| query(rows, i)).collect::<Vec<_>>();
    let all = Rows::new(Values::F32([values(&rows), values(&later)].concat().into()), 16).unwrap();
    let mut paths = built.paths.clone();
    paths.extend((0..300).map(|i| built.tree.path_of(&query(&later, i)).unwrap()));
    let mut run = Run::new((0..5000).collect(), &paths).unwrap();
    for slot in 5000..5300 {
        assert!(run.insert(slot, &paths).unwrap());
    }
    let skeleton = Skeleton::build(&built.tree, &paths, run.slots(), MAX_LIST).unwrap();
    let held = FloatRows::new(&all, Metric::L2).unwrap();
    let n_self = (0..300).filter(|&i| {
        let mut scan = held.scan(&later, i).unwrap();
        let params = SearchParams { k: 1, ef: 16, ..SearchParams::default() };
        let on = (&built.tree, &skeleton);
        let found = search(on, run.slots(), &query(&later, i), &mut scan, &params).unwrap();
        found.neighbors[0].slot == 5000 + i as u32
    });
    assert!(n_self.count() >= 297);
}

#[test]
fn a_backend_and_plain_loops_find_the_same() {
    let (rows, built) = ordered(3000, 24, Metric::Cosine);
    let queries = clustered(5, 24, 31);
    let (held, pool) = (FloatRows::new(&rows, Metric::Cosine).unwrap(), pool(1));
    let backend = Cpu::new(Arc::clone(&pool), 1 << 32);
    let resident = backend.upload(Arc::new(rows.clone()), Metric::Cosine).unwrap();
    let run: Vec<u32> = (0..3000).step_by(2).collect();
    let skeleton = Skeleton::build(&built.tree, &built.paths, &run, MAX_LIST).unwrap();
    for q in 0..5 {
        let on = (&backend as &dyn Backend, Stream::default());
        let mut long = BackendScan::new(on, &resident, &queries, q).unwrap();
        let mut short = held.scan(&queries, q).unwrap();
        let ask = |scan: &mut dyn Scan| {
            let params = SearchParams::default();
            search((&built.tree, &skeleton), &run, &query(&queries, q), scan, &params).unwrap()
        };
        let (long, short) = (ask(&mut long), ask(&mut short));
        let slots = |found: &Found| found.neighbors.iter().map(|n| n.slot).collect::<Vec<_>>();
        assert_eq!((slots(&long), long.touched), (slots(&short), short.touched));
    }
}

#[test]
fn a_question_that_cannot_be_asked_is_refused() {
    let (rows, built) = ordered(500, 4, Metric::Cosine);
    let held = FloatRows::new(&rows, Metric::Cosine).unwrap();
    let run: Vec<u32> = (0..500).collect();
    let skeleton = Skeleton::build(&built.tree, &built.paths, &run, 128).unwrap();
    let code = |run: &[u32], query: &[f32], params: SearchParams| {
        let mut scan = held.scan(&rows, 0).unwrap();
        let on = (&built.tree, &skeleton);
        search(on, run, query, &mut scan, &params).unwrap_err().code()
    };
    let right = SearchParams::default();
    assert_eq!(code(&run, &[1.0; 4], SearchParams { ef: 9, ..right }), "search_params");
    assert_eq!(code(&run, &[1.0; 4], SearchParams { patience: 0, ..right }), "search_params");
    assert_eq!(code(&run[1..], &[1.0; 4], right), "skeleton_run");
    assert_eq!(code(&run, &[1.0; 3], right), "vector_dim");
    assert_eq!(code(&run, &[0.0; 4], right), "vector_zero_norm");
    assert_eq!(code(&run, &[f32::NAN; 4], right), "vector_not_finite");
}
