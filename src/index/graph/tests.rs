//! What a graph promises, on small seeded sets.

use super::*;
use crate::core::allow::Allow;
use crate::core::bits::Bits as Set;
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::neighbors::Neighbor;
use crate::core::rows::{Rows, Values};
use crate::distance::simd::coded::Bits;
use crate::index::graph::codes::Codes;
use crate::index::graph::raw::RawRows;
use rayon::{ThreadPool, ThreadPoolBuilder};

pub(super) fn pool(n_threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap()
}

/// A normal variable, nearly: the sum of four uniform ones.
fn normal(seed: u64, i: u64) -> f32 {
    let uniform = |j| (stream(seed, 4 * i + j) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    (0..4).map(uniform).sum::<f32>() * 1.7
}

/// Rows around `n_clusters` centres that are two deviations apart per element.
pub(super) fn clustered(n_rows: usize, dim: usize, n_clusters: u64, seed: u64) -> Rows {
    let row = |i: u64| {
        let cluster = stream(seed ^ 1, i) % n_clusters;
        (0..dim as u64).map(move |j| {
            2.0 * normal(0xc1u64, cluster * dim as u64 + j) + normal(seed, i * dim as u64 + j)
        })
    };
    Rows::new(Values::F32((0..n_rows as u64).flat_map(row).collect()), dim).unwrap()
}

fn params() -> BuildParams {
    BuildParams { m: 8, ef_construction: 64, seed: 5 }
}

fn all(n: usize) -> Vec<u32> {
    (0..n as u32).collect()
}

/// The `k` nearest allowed rows, by comparing all.
fn exact(
    raw: &RawRows<'_>,
    query: &<RawRows<'_> as Distances>::Query,
    slots: &[u32],
    k: usize,
) -> Vec<Neighbor> {
    let mut found = remove::measured(raw, query, slots);
    found.sort_unstable();
    found.truncate(k);
    found
}

fn search(ef: usize) -> SearchParams {
    SearchParams { ef, ..SearchParams::default() }
}

/// Recall@10 of the rows of `queries` among `slots`, walked and judged raw.
fn recall(graph: &Graph, raw: &RawRows<'_>, queries: &Rows, slots: &[u32], ef: usize) -> f64 {
    let mut scratch = Scratch::default();
    let mut n_found = 0;
    for i in 0..queries.n_rows() {
        let query = raw.query(queries, i).unwrap();
        // Ties count: any row that is as near as the tenth.
        let tenth = exact(raw, &query, slots, 10)[9].distance;
        let found = graph.search(raw, &query, Allow::All, &search(ef), &mut scratch).unwrap();
        n_found += found.neighbors.iter().filter(|one| one.distance <= tenth).count();
    }
    n_found as f64 / (10 * queries.n_rows()) as f64
}

#[test]
fn nearly_all_neighbors_are_found_under_every_metric() {
    let (rows, queries) = (clustered(3000, 24, 20, 1), clustered(100, 24, 20, 2));
    for (metric, floor) in
        [(Metric::L2, 0.97), (Metric::Cosine, 0.97), (Metric::L1, 0.97), (Metric::Dot, 0.9)]
    {
        let raw = RawRows::new(&rows, metric).unwrap();
        let graph = Graph::build(params(), &pool(2), &raw, &all(3000)).unwrap();
        assert_eq!(graph.check().n_unreachable, 0);
        let found = recall(&graph, &raw, &queries, &all(3000), 64);
        assert!(found > floor, "{metric}: {found}");
    }
}

#[test]
fn rows_of_every_type_are_walked() {
    let floats = clustered(600, 24, 5, 1);
    let element = |i| floats.values().get(i);
    let n = floats.values().len();
    for values in [
        Values::F16((0..n).map(|i| half::f16::from_f32(element(i))).collect()),
        Values::U8((0..n).map(|i| (128.0 + 10.0 * element(i)).clamp(0.0, 255.0) as u8).collect()),
        Values::I8((0..n).map(|i| (10.0 * element(i)).clamp(-127.0, 127.0) as i8).collect()),
    ] {
        let rows = Rows::new(values, 24).unwrap();
        for metric in Metric::ALL {
            let raw = RawRows::new(&rows, metric).unwrap();
            let graph = Graph::build(params(), &pool(1), &raw, &all(600)).unwrap();
            let found = recall(&graph, &raw, &rows.slice(0..50), &all(600), 64);
            assert!(found > 0.85, "{} {metric}: {found}", rows.dtype().name());
        }
    }
}

#[test]
fn a_walk_on_codes_gives_exact_distances_and_nearly_all_neighbors() {
    let (rows, queries) = (clustered(3000, 24, 20, 1), clustered(100, 24, 20, 2));
    for metric in [Metric::L2, Metric::Cosine] {
        let raw = RawRows::new(&rows, metric).unwrap();
        let eight = Codes::of(&pool(2), metric, Bits::Eight, &rows, 1).unwrap();
        let codes = Codes::of(&pool(2), metric, Bits::Four, &rows, 1).unwrap();
        let graph = Graph::build(params(), &pool(2), &eight, &all(3000)).unwrap();
        let (mut scratch, mut n_found) = (Scratch::default(), 0);
        for i in 0..100 {
            let query = raw.query(&queries, i).unwrap();
            let code_query = codes.query(&queries, i).unwrap();
            let (on, by) = ((&codes, &code_query), (&raw, &query));
            let found = graph.search_reranked(on, by, Allow::All, &search(64), &mut scratch);
            let found = found.unwrap();
            let want = exact(&raw, &query, &all(3000), 3000);
            assert!(found.neighbors.iter().all(|one| want.contains(one)), "distances are exact");
            n_found += found.neighbors.iter().filter(|one| want[..10].contains(one)).count();
        }
        assert!(n_found > 970, "{metric}: {n_found}");
    }
}

#[test]
fn a_seed_gives_one_graph_for_any_number_of_threads() {
    let rows = clustered(2000, 16, 10, 3);
    let codes = Codes::of(&pool(1), Metric::L2, Bits::Eight, &rows, 1).unwrap();
    let build = |n_threads, seed| {
        let params = BuildParams { seed, ..params() };
        Graph::build(params, &pool(n_threads), &codes, &all(2000)).unwrap().parts()
    };
    assert!(build(1, 5) == build(2, 5) && build(1, 5) == build(3, 5));
    assert!(build(1, 5) != build(1, 6));
}

#[test]
fn small_graphs_answer_with_all_they_have() {
    let rows = clustered(3, 8, 1, 1);
    let raw = RawRows::new(&rows, Metric::L2).unwrap();
    let mut scratch = Scratch::default();
    let query = raw.query_of(0);
    for n in 0..=3 {
        let graph = Graph::build(params(), &pool(1), &raw, &all(n)).unwrap();
        let found = graph.search(&raw, &query, Allow::All, &search(64), &mut scratch).unwrap();
        assert_eq!(found.neighbors, exact(&raw, &query, &all(n), 10));
        assert_eq!(found.ended, if n == 0 { Ended::Short } else { found.ended });
        assert_eq!(graph.check(), Health { n_live: n, ..Health::default() });
    }
}

#[test]
fn a_filtered_walk_returns_allowed_rows_only_and_most_of_them() {
    let (rows, queries) = (clustered(4000, 24, 20, 1), clustered(60, 24, 20, 2));
    let raw = RawRows::new(&rows, Metric::L2).unwrap();
    let graph = Graph::build(params(), &pool(2), &raw, &all(4000)).unwrap();
    let mut scratch = Scratch::default();
    for (one_in, floor) in [(1, 0.97), (2, 0.95), (10, 0.9), (100, 0.0), (4000, 0.0)] {
        let mut set = Set::new(4000);
        let slots: Vec<u32> =
            (0..4000u32).filter(|&i| stream(8, i.into()).is_multiple_of(one_in)).collect();
        slots.iter().for_each(|&slot| set.insert(slot));
        let mut n_found = 0;
        for i in 0..60 {
            let query = raw.query(&queries, i).unwrap();
            let allow = Allow::Bits(&set);
            let found = graph.search(&raw, &query, allow, &search(64), &mut scratch).unwrap();
            assert!(found.neighbors.iter().all(|one| set.contains(one.slot)));
            assert!(found.neighbors.is_sorted());
            if found.neighbors.len() < 10 {
                assert_eq!(found.ended, Ended::Short);
            }
            let want = exact(&raw, &query, &slots, 10);
            n_found += found.neighbors.iter().filter(|one| want.contains(one)).count();
        }
        let found = n_found as f64 / (60 * slots.len().clamp(1, 10)) as f64;
        assert!(found >= floor, "one in {one_in}: {found}");
    }
}

#[test]
fn a_filtered_walk_says_what_it_could_not_do() {
    let rows = clustered(2000, 16, 10, 3);
    let raw = RawRows::new(&rows, Metric::L2).unwrap();
    let graph = Graph::build(params(), &pool(1), &raw, &all(2000)).unwrap();
    let (mut scratch, query) = (Scratch::default(), raw.query_of(7));
    let none = Set::new(2000);
    let found = graph.search(&raw, &query, Allow::Bits(&none), &search(64), &mut scratch).unwrap();
    assert_eq!((found.neighbors.len(), found.ended), (0, Ended::Short));
    let half = [0..500, 500..1000];
    let few = SearchParams { max_links: 500, ..search(64) };
    let found = graph.search(&raw, &query, Allow::Ranges(&half), &few, &mut scratch).unwrap();
    assert_eq!(found.ended, Ended::Budget);
    assert!(found.n_links >= 500 && found.neighbors.iter().all(|one| one.slot < 1000));
}

#[test]
fn equal_rows_are_all_reachable() {
    // 10,000 equal rows among 200 others: more than any beam or list of links can hold.
    let (others, n) = (clustered(200, 8, 4, 1), 10_200);
    let Values::F32(mut values) = others.values().clone() else { unreachable!() };
    values.to_mut().resize(n * 8, 0.5);
    let rows = Rows::new(Values::F32(values), 8).unwrap();
    let raw = RawRows::new(&rows, Metric::L2).unwrap();
    let graph = Graph::build(params(), &pool(2), &raw, &all(n)).unwrap();
    assert_eq!(graph.check().n_unreachable, 0);
    let found = recall(&graph, &raw, &others.slice(0..50), &all(n), 64);
    assert!(found > 0.95, "{found}");
    let mut scratch = Scratch::default();
    let query = raw.query_of(9000);
    let found = graph.search(&raw, &query, Allow::All, &search(64), &mut scratch).unwrap();
    assert!(found.neighbors.len() == 10 && found.neighbors.iter().all(|one| one.distance == 0.0));
}

/// A history of insertions and removals; after each step the graph is checked against the set of live slots.
fn history(seed: u64) {
    println!("seed {seed}");
    let n = 800u32;
    let rows = clustered(n as usize, 12, 8, seed);
    let raw = RawRows::new(&rows, Metric::L2).unwrap();
    let (pool, mut scratch) = (pool(2), Scratch::default());
    let mut graph = Graph::new(params()).unwrap();
    let mut live: Vec<u32> = Vec::new();
    for step in 0..30 {
        let drawn = |i: u64| stream(seed ^ step << 32, i);
        let size = drawn(0) % 200;
        if drawn(1) % 5 < 3 {
            let mut new: Vec<u32> =
                (2..2 + size).map(|i| (drawn(i) % u64::from(n)) as u32).collect();
            new.sort_unstable();
            new.dedup();
            new.retain(|slot| !live.contains(slot));
            graph.insert(&pool, &raw, &new).unwrap();
            live.extend(new);
        } else {
            let n_gone = (size as usize).min(live.len());
            let gone: Vec<u32> = (0..n_gone as u64)
                .map(|i| live.swap_remove((drawn(2 + i) % live.len() as u64) as usize))
                .collect();
            graph.remove(&raw, &gone, &mut scratch).unwrap();
        }
        let before = graph.check();
        assert_eq!(before.n_live, live.len());
        assert!(before.n_unreachable * 100 <= live.len(), "step {step}: {before:?}");
        graph.repair(&raw).unwrap();
        assert_eq!(graph.check().n_unreachable, 0, "step {step}");
        for slot in (0..n).step_by(7) {
            let query = raw.query_of(slot);
            let found = graph.search(&raw, &query, Allow::All, &search(32), &mut scratch).unwrap();
            assert!(found.neighbors.iter().all(|one| live.contains(&one.slot)), "step {step}");
            assert_eq!(found.neighbors.len(), live.len().min(10), "step {step}");
        }
        let parts = graph.parts();
        assert_eq!(Graph::from_parts(parts.clone()).unwrap().parts(), parts);
    }
}

#[test]
fn live_slots_are_found_and_removed_ones_are_not_after_any_history() {
    (1..=6).for_each(history);
}

#[test]
fn replacing_all_rows_four_times_costs_no_recall() {
    let (n, dim, step) = (2000usize, 16, 200);
    let queries = clustered(100, dim, 12, 77);
    let (pool, mut scratch) = (pool(2), Scratch::default());
    let mut values: Vec<f32> = Vec::new();
    let mut graph = Graph::new(params()).unwrap();
    for round in 0..5 {
        let new = clustered(n, dim, 12, 100 + round);
        let Values::F32(new) = new.values() else { unreachable!() };
        if round == 0 {
            values = new.to_vec();
            let rows = Rows::new(Values::F32(values.clone().into()), dim).unwrap();
            let raw = RawRows::new(&rows, Metric::L2).unwrap();
            graph.insert(&pool, &raw, &all(n)).unwrap();
            continue;
        }
        for first in (0..n).step_by(step) {
            // Slots far from one another, so that every step touches all clusters.
            let slots: Vec<u32> =
                (0..step).map(|i| ((first / step + i * (n / step)) % n) as u32).collect();
            let rows = Rows::new(Values::F32(values.clone().into()), dim).unwrap();
            graph.remove(&RawRows::new(&rows, Metric::L2).unwrap(), &slots, &mut scratch).unwrap();
            for &slot in &slots {
                let range = slot as usize * dim..(slot as usize + 1) * dim;
                values[range.clone()].copy_from_slice(&new[range]);
            }
            let rows = Rows::new(Values::F32(values.clone().into()), dim).unwrap();
            graph.insert(&pool, &RawRows::new(&rows, Metric::L2).unwrap(), &slots).unwrap();
        }
        let rows = Rows::new(Values::F32(values.clone().into()), dim).unwrap();
        graph.repair(&RawRows::new(&rows, Metric::L2).unwrap()).unwrap();
    }
    let rows = Rows::new(Values::F32(values.into()), dim).unwrap();
    let raw = RawRows::new(&rows, Metric::L2).unwrap();
    let fresh = Graph::build(params(), &pool, &raw, &all(n)).unwrap();
    for ef in [16, 32] {
        let (old, new) = (
            recall(&graph, &raw, &queries, &all(n), ef),
            recall(&fresh, &raw, &queries, &all(n), ef),
        );
        println!("ef {ef}: {old} after four replacements, {new} fresh");
        assert!(old > new - 0.01, "ef {ef}: {old}, fresh {new}");
    }
    let n_lost = all(n).into_iter().filter(|&slot| {
        let query = raw.query_of(slot);
        let found = graph.search(&raw, &query, Allow::All, &search(32), &mut scratch).unwrap();
        found.neighbors[0].slot != slot
    });
    let n_lost = n_lost.count();
    assert!(n_lost * 1000 <= n, "{n_lost} do not find themselves");
}

#[test]
fn a_whole_cluster_can_go() {
    let rows = clustered(1500, 16, 5, 3);
    let raw = RawRows::new(&rows, Metric::L2).unwrap();
    let mut graph = Graph::build(params(), &pool(2), &raw, &all(1500)).unwrap();
    let (gone, left): (Vec<u32>, Vec<u32>) =
        all(1500).into_iter().partition(|&slot| stream(3 ^ 1, slot.into()) % 5 == 2);
    assert!(gone.len() > 200);
    let mut scratch = Scratch::default();
    graph.remove(&raw, &gone, &mut scratch).unwrap();
    assert!(graph.check().n_unreachable * 100 <= left.len(), "{:?}", graph.check());
    graph.repair(&raw).unwrap();
    let found = recall(&graph, &raw, &clustered(60, 16, 5, 4), &left, 64);
    assert!(found > 0.95, "{found}");
    graph.sweep(&pool(1)).unwrap();
    assert_eq!(graph.check(), Health { n_live: left.len(), ..Health::default() });
    // And everything else: the graph is as empty as a new one.
    graph.remove(&raw, &left, &mut scratch).unwrap();
    assert_eq!((graph.n_live(), graph.check()), (0, Health::default()));
    graph.insert(&pool(1), &raw, &all(1500)).unwrap();
    let found = recall(&graph, &raw, &clustered(60, 16, 5, 4), &all(1500), 64);
    assert!(found > 0.95, "{found}");
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let rows = clustered(50, 8, 2, 3);
    let raw = RawRows::new(&rows, Metric::L2).unwrap();
    let mut graph = Graph::build(params(), &pool(1), &raw, &all(40)).unwrap();
    let before = graph.parts();
    let mut scratch = Scratch::default();
    for (slots, code) in
        [(&[41, 50][..], "slot_range"), (&[41, 3], "slot_live"), (&[41, 41], "slot_twice")]
    {
        assert_eq!(graph.insert(&pool(1), &raw, slots).unwrap_err().code(), code);
    }
    for slots in [&[3, 41][..], &[3, 3]] {
        let refused = graph.remove(&raw, slots, &mut scratch).unwrap_err();
        assert_eq!(refused.code(), "slot_absent");
    }
    let few = rows.slice(0..20);
    let few = RawRows::new(&few, Metric::L2).unwrap();
    assert_eq!(graph.remove(&few, &[3], &mut scratch).unwrap_err().code(), "slot_range");
    let mut code = |allow: Allow<'_>, params: SearchParams| {
        graph.search(&raw, &raw.query_of(0), allow, &params, &mut scratch).unwrap_err().code()
    };
    assert_eq!(code(Allow::Bits(&Set::new(400)), search(64)), "slot_range");
    assert_eq!(code(Allow::All, search(9)), "ef_range");
    assert_eq!(code(Allow::All, SearchParams { k: 0, ..search(64) }), "k_range");
    assert_eq!(code(Allow::All, SearchParams { n_rerank: 9, ..search(64) }), "rerank_range");
    let odd = BuildParams { m: 1, ..params() };
    assert_eq!(Graph::new(odd).unwrap_err().code(), "m_range");
    assert_eq!(graph.parts(), before);
}

#[test]
fn damaged_parts_are_refused() {
    let rows = clustered(300, 8, 2, 3);
    let raw = RawRows::new(&rows, Metric::L2).unwrap();
    let mut graph = Graph::build(params(), &pool(1), &raw, &all(300)).unwrap();
    graph.remove(&raw, &[17], &mut Scratch::default()).unwrap();
    let good = graph.parts();
    assert!(good.upper.len() >= 2, "levels to damage");
    let top = good.upper.len() - 1;
    let damages: [&dyn Fn(&mut Parts); 14] = [
        &|parts| parts.links.to_mut().truncate(300 * 16 - 1),
        &|parts| parts.links.to_mut()[0] = 300,
        &|parts| parts.links.to_mut()[16] = 1,
        &|parts| parts.links.to_mut()[..2].copy_from_slice(&[u32::MAX, 5]),
        &|parts| parts.links.to_mut()[17 * 16] = 3,
        &|parts| parts.live.truncate(4),
        &|parts| parts.live[4] |= 1 << 60,
        &|parts| parts.entry = None,
        &|parts| parts.entry = Some(17),
        &|parts| parts.entry = Some(u32::MAX),
        &|parts| parts.upper[0].0[0] = 17,
        &|parts| parts.upper[0].0[0] = parts.upper[0].0[1],
        &|parts| parts.upper[0].1[0] = 17,
        &|parts| parts.upper[top].1.clear(),
    ];
    for (i, damage) in damages.iter().enumerate() {
        let mut parts = good.clone();
        damage(&mut parts);
        let refused = Graph::from_parts(parts).err().map(|error| error.code());
        assert_eq!(refused, Some("graph_parts"), "damage {i}");
    }
    Graph::from_parts(good).unwrap();
}

#[test]
fn a_slot_is_used_again_only_when_no_link_leads_to_its_old_row() {
    let rows = clustered(1000, 16, 5, 3);
    let raw = RawRows::new(&rows, Metric::L2).unwrap();
    let mut graph = Graph::build(params(), &pool(1), &raw, &all(1000)).unwrap();
    graph.remove(&raw, &all(300), &mut Scratch::default()).unwrap();
    let n_stale = graph.check().n_stale_links;
    assert!(n_stale > 0, "some links are not found by a walk");
    // A graph that came from parts knows of them as well.
    let mut again = Graph::from_parts(graph.parts()).unwrap();
    for graph in [&mut graph, &mut again] {
        graph.insert(&pool(1), &raw, &all(300)).unwrap();
        assert_eq!(graph.check().n_stale_links, 0);
    }
    assert_eq!(graph.parts(), again.parts());
}
