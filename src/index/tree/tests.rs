//! The whole way: rows to tree, run to skeleton, query to neighbors.

use std::collections::HashSet;
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::skeleton::MAX_LIST;
use super::*;
use crate::backend::cpu::Cpu;
use crate::backend::{Backend, Stream};
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::rows::{Rows, Values};
use crate::distance::simd::coded::Bits;
use crate::index::graph::codes::Codes;
use crate::index::graph::raw::RawRows;

pub(super) fn pool(n_threads: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap())
}

/// A number of mean 0 and deviation 1, nearly normal: four even ones summed.
fn normal(seed: u64, i: u64) -> f32 {
    let even = |j| (stream(seed, 4 * i + j) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    (0..4).map(even).sum::<f32>() * 3.0f32.sqrt()
}

/// Rows around 200 centres, as far from them as half of the centres' own spread.
pub(super) fn clustered(n_rows: usize, dim: usize, seed: u64) -> Rows {
    around(77, n_rows, dim, seed)
}

/// The same around other centres.
pub(super) fn around(centres: u64, n_rows: usize, dim: usize, seed: u64) -> Rows {
    let n_centres = 200;
    let element = |i: u64| {
        let (row, j) = (i / dim as u64, i % dim as u64);
        let centre = stream(seed, row) % n_centres;
        normal(centres, centre * dim as u64 + j) + 0.5 * normal(seed + 1, i) + 0.2
    };
    let values = (0..(n_rows * dim) as u64).map(element).collect();
    Rows::new(Values::F32(values), dim).unwrap()
}

pub(super) fn built(rows: &Rows, metric: Metric, params: &BuildParams, n_threads: usize) -> Built {
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

pub(super) fn query(queries: &Rows, q: usize) -> Vec<f32> {
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
        let mut n_beyond = 0;
        for leaf in leaves {
            let start = built.paths.partition_point(|&path| path < leaf.code);
            let end = built.paths.partition_point(|&path| path <= leaf.last_code());
            assert!(built.paths[start..end].iter().all(|&path| path == leaf.code));
            // Rows move to nearer leaves when all are there.
            assert!(end - start <= 256, "{metric}: {} rows", end - start);
            n_beyond += usize::from(end - start > 128);
            assert!(built.order[start..end].is_sorted(), "equal paths keep the order of slots");
            n_rows += end - start;
        }
        assert_eq!(n_rows, 3000, "each row has one leaf");
        assert!(n_beyond <= nodes.len() / 10, "{metric}: {n_beyond} leaves of more than max_leaf");
        let placed = built.tree.place(&pool(2), &rows).unwrap();
        let order = built.order.iter().map(|&row| placed[row as usize]);
        assert!(order.eq(built.paths.iter().copied()), "{metric}: placed as built");
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
        let skeleton = Skeleton::build(&built.tree, &built.paths, &run, max_list).unwrap();
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
    let code = |paths: &[u64], run: &Run, max_list| {
        Skeleton::build(&built.tree, paths, run, max_list).unwrap_err().code()
    };
    let run = |slots: &[u32], paths: &[u64]| Run::new(slots.to_vec(), paths).unwrap();
    let two = run(&[2998, 2999], &built.paths);
    assert_eq!(code(&built.paths[..2000], &two, 1), "slot_range");
    let elsewhere = [u64::MAX - 1, u64::MAX];
    assert_eq!(code(&elsewhere, &run(&[0, 1], &elsewhere), 1), "path_code");
    assert_eq!(code(&built.paths, &two, 0), "max_list");
}

/// A query of each kind that a search asks for.
struct Ask<'a> {
    built: &'a Built,
    raw: &'a RawRows<'a>,
    queries: &'a Rows,
}

impl Ask<'_> {
    fn flat(&self, run: &[u32], q: usize, k: usize) -> Found {
        let query = self.raw.query(self.queries, q).unwrap();
        flat(run, &mut DistanceScan::new(self.raw, &query), k, &mut Scratch::default()).unwrap()
    }

    fn search(
        &self,
        (skeleton, run): (&Skeleton, &[u32]),
        q: usize,
        params: &SearchParams,
        scratch: &mut Scratch,
    ) -> Found {
        let raw_query = self.raw.query(self.queries, q).unwrap();
        let mut scan = DistanceScan::new(self.raw, &raw_query);
        let on = (&self.built.tree, skeleton);
        search(on, run, &query(self.queries, q), &mut scan, params, scratch).unwrap()
    }
}

#[test]
fn there_are_as_many_results_as_asked_for_or_as_rows_and_with_ef_of_all_they_are_the_nearest() {
    let mut scratch = Scratch::default();
    for metric in Metric::ALL {
        let (rows, built) = ordered(4000, 8, metric);
        let queries = clustered(8, 8, 31);
        let raw = RawRows::new(&rows, metric).unwrap();
        let ask = Ask { built: &built, raw: &raw, queries: &queries };
        let k = 10;
        for n in (0..=2 * k).chain([129, 500, 4000]) {
            let spread = (0..n).map(|i| (i * 4000 / n) as u32).collect();
            let run = Run::new(spread, &built.paths).unwrap();
            let skeleton = Skeleton::build(&built.tree, &built.paths, &run, 2).unwrap();
            let on = (&skeleton, run.slots());
            for q in 0..8 {
                let expected = ask.flat(run.slots(), q, k).neighbors;
                let params = |ef| SearchParams { k, ef, ..SearchParams::default() };
                let least = ask.search(on, q, &params(k), &mut scratch);
                let all = ask.search(on, q, &params(n.max(k)), &mut scratch);
                assert_eq!(least.neighbors.len(), k.min(n), "{metric}: {n} rows");
                assert!(least.neighbors.is_sorted());
                assert!(least.neighbors.iter().all(|near| on.1.contains(&near.slot)));
                assert_eq!(all.neighbors, expected, "{metric}: {n} rows");
            }
        }
    }
}

/// Mean recall@10 and share of rows compared, over a run.
pub(super) fn recall(
    (tree, paths): (&Tree, &[u64]),
    rows: &Rows,
    (run, queries): (&Run, &Rows),
    ef: usize,
) -> (f64, f64) {
    let raw = RawRows::new(rows, tree.metric()).unwrap();
    let built = Built { tree: tree.clone(), order: Vec::new(), paths: Vec::new() };
    let ask = Ask { built: &built, raw: &raw, queries };
    let skeleton = Skeleton::build(tree, paths, run, MAX_LIST).unwrap();
    let (mut n_found, mut n_rows, mut scratch) = (0, 0, Scratch::default());
    for q in 0..queries.n_rows() {
        let truth = ask.flat(run.slots(), q, 10).neighbors;
        let params = SearchParams { ef, ..SearchParams::default() };
        let found = ask.search((&skeleton, run.slots()), q, &params, &mut scratch);
        n_found += truth.iter().filter(|near| found.neighbors.contains(near)).count();
        n_rows += found.touched.n_rows;
    }
    let n = queries.n_rows();
    (n_found as f64 / (10 * n) as f64, n_rows as f64 / (n * run.len()) as f64)
}

#[test]
fn recall_grows_with_ef_to_99_percent_while_most_rows_are_not_looked_at() {
    for metric in Metric::ALL {
        for seed in 0..3 {
            let rows = clustered(20_000, 32, 100 * seed + 5);
            let params = BuildParams { seed, ..BuildParams::default() };
            let built = built(&rows, metric, &params, 2);
            let (rows, queries) = (built.ordered(&rows), clustered(100, 32, 100 * seed + 31));
            for step in [1, 10] {
                let run = Run::new(some_slots(20_000, step, seed), &built.paths).unwrap();
                let curve = [10, 40, 160].map(|ef| {
                    let on = (&built.tree, &built.paths[..]);
                    recall(on, &rows, (&run, &queries), ef)
                });
                let [(least, _), (some, few), (most, share)] = curve;
                let what = format!("{metric}, seed {seed}, one row in {step}: {curve:?}");
                assert!(least <= some + 0.01 && some <= most + 0.01, "{what}");
                // What is near under dot is near through its length too, and lies in more lists.
                let is_dot = metric == Metric::Dot;
                assert!(some >= if is_dot { 0.85 } else { 0.97 } && most >= 0.99, "{what}");
                // Ten times ef is nearly all of a run of 2,000.
                assert!(step == 10 || few <= 0.05 && share <= 0.4, "{what}");
            }
        }
    }
}

#[test]
fn a_search_on_codes_that_reranks_enough_rows_is_the_plain_search() {
    let mut scratch = Scratch::default();
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let (rows, built) = ordered(6000, 64, metric);
        let queries = clustered(20, 64, 31);
        let raw = RawRows::new(&rows, metric).unwrap();
        let codes = Codes::of(&pool(1), metric, Bits::Four, &rows, 3).unwrap();
        let ask = Ask { built: &built, raw: &raw, queries: &queries };
        let run = Run::new(some_slots(6000, 3, 9), &built.paths).unwrap();
        let (few, run_slots) = (&run.slots()[..30], run.slots());
        let skeleton = Skeleton::build(&built.tree, &built.paths, &run, 32).unwrap();
        let (mut n_same, mut n_flat) = (0, 0);
        for q in 0..20 {
            let (code_query, raw_query) =
                (codes.query(&queries, q).unwrap(), raw.query(&queries, q).unwrap());
            let (by_code, by_row) = ((&codes, &code_query), (&raw, &raw_query));
            let flat = flat_reranked(run_slots, by_code, by_row, (10, 40), &mut scratch).unwrap();
            assert_eq!((flat.touched.n_rows, flat.touched.n_reranked), (run.len() as u64, 40));
            let truth = ask.flat(run_slots, q, 10).neighbors;
            n_flat += truth.iter().filter(|near| flat.neighbors.contains(near)).count();
            let exact = flat_reranked(few, by_code, by_row, (10, 40), &mut scratch).unwrap();
            assert_eq!(exact, ask.flat(few, q, 10), "raw alone");
            // As many are compared raw as are held: the lists that codes lead to are nearly the same.
            let params = SearchParams { k: 10, ef: 80, n_rerank: 80 };
            let on = (&built.tree, &skeleton);
            let found = search_reranked(
                on,
                run_slots,
                &query(&queries, q),
                by_code,
                by_row,
                &params,
                &mut scratch,
            )
            .unwrap();
            assert!(found.touched.n_rows < run.len() as u64 && found.touched.n_reranked == 80);
            let plain = ask.search((&skeleton, run_slots), q, &params, &mut scratch).neighbors;
            for near in &found.neighbors {
                let exact = ask.flat(&[near.slot], q, 1).neighbors[0];
                assert_eq!(*near, exact, "exact distances");
            }
            n_same += plain.iter().filter(|near| found.neighbors.contains(near)).count();
            let all = SearchParams { ef: run.len(), ..params };
            let all = search_reranked(
                on,
                run_slots,
                &query(&queries, q),
                by_code,
                by_row,
                &all,
                &mut scratch,
            );
            let flat = flat_reranked(run_slots, by_code, by_row, (10, 80), &mut scratch);
            assert_eq!(all.unwrap(), flat.unwrap());
        }
        assert!(n_same >= 195 && n_flat >= 195, "{metric}: {n_same} and {n_flat} of 200");
    }
}

#[test]
fn rows_added_later_are_found_where_their_path_puts_them() {
    let (rows, built) = ordered(5000, 16, Metric::L2);
    let later = clustered(300, 16, 91);
    let all = joined(&rows, &later);
    let mut paths = built.paths.clone();
    paths.extend(built.tree.place(&pool(1), &later).unwrap());
    let mut run = Run::new((0..5000).collect(), &paths).unwrap();
    for slot in 5000..5300 {
        assert!(run.insert(slot, &paths).unwrap());
    }
    let skeleton = Skeleton::build(&built.tree, &paths, &run, MAX_LIST).unwrap();
    let raw = RawRows::new(&all, Metric::L2).unwrap();
    let ask = Ask { built: &built, raw: &raw, queries: &later };
    let n_self = (0..300).filter(|&i| {
        let params = SearchParams { k: 1, ef: 16, n_rerank: 1 };
        let found = ask.search((&skeleton, run.slots()), i, &params, &mut Scratch::default());
        found.neighbors[0].slot == 5000 + i as u32
    });
    assert!(n_self.count() >= 297);
}

/// Rows of floats, one set after the other.
pub(super) fn joined(a: &Rows, b: &Rows) -> Rows {
    let values = |rows: &Rows| (0..rows.n_rows()).flat_map(|i| query(rows, i)).collect::<Vec<_>>();
    Rows::new(Values::F32([values(a), values(b)].concat().into()), a.dim()).unwrap()
}

#[test]
fn a_backend_and_plain_loops_find_the_same() {
    let (rows, built) = ordered(3000, 24, Metric::Cosine);
    let queries = clustered(5, 24, 31);
    let (raw, pool) = (RawRows::new(&rows, Metric::Cosine).unwrap(), pool(1));
    let backend = Cpu::new(Arc::clone(&pool), 1 << 32);
    let resident = backend.upload(Arc::new(rows.clone()), Metric::Cosine).unwrap();
    let run = Run::new((0..3000).step_by(2).collect(), &built.paths).unwrap();
    let skeleton = Skeleton::build(&built.tree, &built.paths, &run, MAX_LIST).unwrap();
    let ask = Ask { built: &built, raw: &raw, queries: &queries };
    let mut scratch = Scratch::default();
    for q in 0..5 {
        let on = (&backend as &dyn Backend, Stream::default());
        let mut scan = BackendScan::new(on, &resident, &queries, q).unwrap();
        let (params, tree) = (SearchParams::default(), (&built.tree, &skeleton));
        let asked = query(&queries, q);
        let long = search(tree, run.slots(), &asked, &mut scan, &params, &mut scratch).unwrap();
        let short = ask.search((&skeleton, run.slots()), q, &params, &mut scratch);
        let slots = |found: &Found| found.neighbors.iter().map(|n| n.slot).collect::<Vec<_>>();
        assert_eq!((slots(&long), long.touched), (slots(&short), short.touched));
    }
}

#[test]
fn a_question_that_cannot_be_asked_is_refused() {
    let (rows, built) = ordered(500, 4, Metric::Cosine);
    let raw = RawRows::new(&rows, Metric::Cosine).unwrap();
    let raw_query = raw.query(&rows, 0).unwrap();
    let run = Run::new((0..500).collect(), &built.paths).unwrap();
    let skeleton = Skeleton::build(&built.tree, &built.paths, &run, 128).unwrap();
    let code = |run: &[u32], query: &[f32], params: SearchParams| {
        let mut scan = DistanceScan::new(&raw, &raw_query);
        let (on, mut scratch) = ((&built.tree, &skeleton), Scratch::default());
        search(on, run, query, &mut scan, &params, &mut scratch).unwrap_err().code()
    };
    let (right, all) = (SearchParams::default(), run.slots());
    assert_eq!(code(all, &[1.0; 4], SearchParams { ef: 9, ..right }), "search_params");
    assert_eq!(code(all, &[1.0; 4], SearchParams { n_rerank: 9, ..right }), "search_params");
    assert_eq!(code(&all[1..], &[1.0; 4], right), "skeleton_run");
    assert_eq!(code(all, &[1.0; 3], right), "vector_dim");
    assert_eq!(code(all, &[0.0; 4], right), "vector_zero_norm");
    assert_eq!(code(all, &[f32::NAN; 4], right), "vector_not_finite");
}
