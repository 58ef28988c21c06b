//! Codes: bounds hold as often as theory says, and exact search by bounds is the scan of all rows.

use std::sync::Arc;

use half::f16;
use nearkin::backend::codes::{RabitqQuery, Survivor};
use nearkin::backend::cpu::Cpu;
use nearkin::backend::plain::{self, Plain};
use nearkin::backend::{Backend, RabitqScan, Stream};
use nearkin::core::allow::Allow;
use nearkin::core::bits::Bits;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::neighbors::Neighbor;
use nearkin::core::rows::{Rows, Values};
use nearkin::distance::Level;
use nearkin::quant::int8::{self, Int8Codes};
use nearkin::quant::rabitq::{E0_PAPER, Rabitq};
use nearkin::quant::search::{ExactIndex, Keep};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];
const BUDGET: u64 = 1 << 30;

fn pool(n_threads: usize) -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap())
}

fn uniform(seed: u64, i: u64) -> f32 {
    (stream(seed, i) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Elements of embeddings: groups of rows, elements of very different size, a mean that is not zero.
fn element(seed: u64, row: usize, i: usize) -> f32 {
    let (row, i) = (row as u64, i as u64);
    let centre = uniform(77, (row % 16) << 20 | i);
    let size = 1.0 / (1.0 + i as f32 / 8.0).sqrt();
    size * (0.4 + centre + 0.8 * uniform(seed, row << 20 | i))
}

fn rows(n_rows: usize, dim: usize, seed: u64) -> Rows {
    let all = (0..n_rows).flat_map(|row| (0..dim).map(move |i| element(seed, row, i)));
    Rows::new(Values::F32(all.collect()), dim).unwrap()
}

fn rabitq(metric: Metric, rows: &Rows) -> Rabitq {
    Rabitq::of_mean(metric, rows, 5).unwrap()
}

/// A normal variable is beyond 1.9 deviations, on either side, this often.
const OUTSIDE: f64 = 0.0574;

#[test]
fn distances_lie_outside_the_bounds_as_often_as_theory_says() {
    for metric in METRICS {
        for dim in [64, 100, 384] {
            let (base, queries) = (rows(400, dim, 1), rows(50, dim, 2));
            let rabitq = rabitq(metric, &base);
            let codes = rabitq.encode(&pool(2), &base, &|_| 0).unwrap();
            let (mut coarse, mut fine, mut n) = (0, 0, 0);
            for (q, query) in rabitq.rotate(&queries).unwrap().iter().enumerate() {
                let query = rabitq.prepare(query, 0, E0_PAPER);
                // One estimate at a time: the other's bounds are made so wide that they say nothing.
                let without_fine = RabitqQuery { fine_err: 1e9, ..query.clone() };
                let without_coarse = RabitqQuery { coarse_err: 1e9, ..query };
                for slot in 0..base.n_rows() as u32 {
                    let exact = plain::distance(metric, (&queries, q), (&base, slot as usize));
                    let outside = |s: Survivor| exact < s.lower || exact > s.upper;
                    coarse += u32::from(outside(plain::look(&codes, slot, &without_fine)));
                    fine += u32::from(outside(plain::look(&codes, slot, &without_coarse)));
                    n += 1;
                }
            }
            let share = |count: u32| f64::from(count) / f64::from(n);
            println!("{metric} {dim}: outside {:.4} and {:.4}", share(coarse), share(fine));
            // Bounds are for rows at right angles to the query; nearer ones are bounded too widely. Every row's
            // errors share one rotation and every query one rounding, so shares scatter about that of theory.
            for share in [share(coarse), share(fine)] {
                assert!(
                    (0.3 * OUTSIDE..1.35 * OUTSIDE).contains(&share),
                    "{metric} {dim}: {share}"
                );
            }
        }
    }
}

#[test]
fn degenerate_rows_have_finite_codes_and_find_themselves() {
    let cases = [
        ("dim 1", rows(300, 1, 3)),
        ("dim 127", rows(300, 127, 3)),
        ("equal rows", Rows::new(Values::F32([0.5, -1.0, 2.0].repeat(10_000).into()), 3).unwrap()),
        (
            "constant rows",
            Rows::new(Values::F32((1..=200).map(|i| i as f32).collect()), 1).unwrap(),
        ),
        ("one row", rows(1, 70, 3)),
        (
            "tiny",
            Rows::new(Values::F32((1..=640).map(|i| i as f32 * 1e-20).collect()), 64).unwrap(),
        ),
    ];
    let cpu = Cpu::new(pool(2), BUDGET);
    for (name, base) in cases {
        for metric in METRICS {
            let rabitq = rabitq(metric, &base);
            let codes = rabitq.encode(&pool(2), &base, &|_| 0).unwrap();
            let all = codes.coarse.iter().chain(codes.fine.iter());
            assert!(all.map(|f| f.add + f.rescale + f.err).all(f32::is_finite), "{name} {metric}");
            let base = Arc::new(base.clone());
            let index = ExactIndex::build(&cpu, &pool(2), Arc::clone(&base), metric, Keep::Bits, 5)
                .unwrap();
            let query = base.slice(0..1);
            let found = index.search((&cpu, Stream(0)), &query, Allow::All, 3).unwrap();
            let want = cpu.flat_scan(Stream(0), &query, index.rows(), Allow::All, 3).unwrap();
            assert_eq!(slots(&found.neighbors), slots(&want), "{name} {metric}");
        }
    }
}

#[test]
fn a_row_equal_to_its_centroid_has_an_exact_code() {
    for metric in METRICS {
        let base = rows(3, 100, 4);
        let unit = |row: usize| -> Vec<f32> {
            let norm = if metric == Metric::Cosine { base.norms()[row] } else { 1.0 };
            (0..100).map(|i| (f64::from(base.values().get(row * 100 + i)) / norm) as f32).collect()
        };
        let centroids =
            Rows::new(Values::F32([unit(0), unit(1), unit(2)].concat().into()), 100).unwrap();
        let rabitq = Rabitq::new(metric, &centroids, 5).unwrap();
        let codes = rabitq.encode(&pool(1), &base, &|row| row).unwrap();
        let queries = rows(1, 100, 9);
        let rotated = rabitq.rotate(&queries).unwrap();
        for slot in 0..3 {
            let query = rabitq.prepare(&rotated[0], slot, E0_PAPER);
            let got = plain::look(&codes, slot as u32, &query);
            let exact = plain::distance(metric, (&queries, 0), (&base, slot));
            assert!((got.estimate - exact).abs() < 1e-4 * (1.0 + exact.abs()), "{got:?} {exact}");
            assert!((got.upper - got.lower).abs() < 1e-4 * (1.0 + exact.abs()), "{got:?}");
        }
        let error = rabitq.encode(&pool(1), &base, &|_| 3).unwrap_err();
        assert_eq!(error.code(), "slot_range");
    }
    assert_eq!(Rabitq::of_mean(Metric::L1, &rows(3, 4, 1), 1).unwrap_err().code(), "metric");
    let none = Rows::new(Values::F32(Vec::new().into()), 4).unwrap();
    assert_eq!(Rabitq::of_mean(Metric::L2, &none, 1).unwrap_err().code(), "no_rows");
}

fn slots(lists: &[Vec<Neighbor>]) -> Vec<Vec<u32>> {
    lists.iter().map(|list| list.iter().map(|neighbor| neighbor.slot).collect()).collect()
}

/// How many of the wanted neighbors are not there; distances of those that are must be the same.
fn n_missed(got: &[Vec<Neighbor>], want: &[Vec<Neighbor>]) -> usize {
    let missed = |(got, want): (&Vec<Neighbor>, &Vec<Neighbor>)| {
        assert_eq!(got.len(), want.len());
        let last = want.last().map_or(0.0, |neighbor| neighbor.distance);
        got.iter().filter(|one| one.distance > last + 1e-5 * last.abs().max(1.0)).count()
    };
    got.iter().zip(want).map(missed).sum()
}

#[test]
fn search_by_bounds_is_the_scan_of_all_rows() {
    let (n, dim) = (6_000, 96);
    let queries = rows(40, dim, 2);
    let mut bits = Bits::new(n as u32);
    (0..n as u32)
        .filter(|&slot| stream(3, u64::from(slot)).is_multiple_of(5))
        .for_each(|s| bits.insert(s));
    let ranges = [5..70, 1000..1001, 2040..4100, 5990..6000];
    let one = 7..9;
    let allows = [
        Allow::All,
        Allow::Bits(&bits),
        Allow::Ranges(&ranges),
        Allow::Ranges(std::slice::from_ref(&one)),
    ];
    let f32s = rows(n, dim, 1);
    let f16s = (0..n * dim).map(|i| f16::from_f32(f32s.values().get(i))).collect();
    let f16s = Rows::new(Values::F16(f16s), dim).unwrap();
    let cpu = Cpu::new(pool(2), BUDGET);
    let (mut missed, mut wanted) = ([0, 0], 0);
    for base in [Arc::new(f32s), Arc::new(f16s)] {
        for metric in METRICS {
            let keep = Keep::BitsAndBytes;
            let index =
                ExactIndex::build(&cpu, &pool(2), Arc::clone(&base), metric, keep, 5).unwrap();
            for allow in allows {
                for k in [1, 10, 100] {
                    let on = (&cpu as &dyn Backend, Stream(0));
                    let want = cpu.flat_scan(on.1, &queries, index.rows(), allow, k).unwrap();
                    let by_bits = index.search(on, &queries, allow, k).unwrap();
                    let by_bytes = index.search_bytes(on, &queries, allow, k).unwrap().unwrap();
                    missed[0] += n_missed(&by_bits.neighbors, &want);
                    missed[1] += n_missed(&by_bytes.neighbors, &want);
                    wanted += want.iter().map(Vec::len).sum::<usize>();
                    let n_codes = allow.count(n as u32) * queries.n_rows() as u64;
                    assert_eq!(by_bits.looked.n_codes, n_codes);
                    assert!(by_bits.looked.n_raw <= by_bits.looked.n_candidates);
                }
            }
        }
    }
    println!("missed {missed:?} of {wanted}");
    assert!(missed.iter().all(|&missed| missed * 10_000 <= wanted), "{missed:?} of {wanted}");
}

#[test]
fn survivors_do_not_depend_on_threads_or_level() {
    let base = rows(9_000, 200, 1);
    let rabitq = rabitq(Metric::L2, &base);
    let codes = Arc::new(rabitq.encode(&pool(2), &base, &|_| 0).unwrap());
    let queries: Vec<RabitqQuery> = rabitq
        .rotate(&rows(7, 200, 2))
        .unwrap()
        .iter()
        .map(|query| rabitq.prepare(query, 0, 3.0))
        .collect();
    let lists: Vec<_> =
        queries.iter().map(|query| [(10..4000, query), (4001..9000, query)]).collect();
    let scan = |lists| RabitqScan { lists, bound: f32::INFINITY, k: 10 };
    let scans: Vec<RabitqScan<'_>> = lists.iter().map(|lists| scan(lists)).collect();
    let plain = Plain::new(BUDGET);
    let held = plain.upload_codes(Arc::clone(&codes)).unwrap();
    let want = plain.rabitq_scan(Stream(0), &scans, &held, Allow::All).unwrap();
    assert!(want.iter().all(|list| (10..2000).contains(&list.len())));
    for level in Level::available() {
        for n_threads in [1, 2, 5] {
            let cpu = Cpu::at_level(pool(n_threads), BUDGET, level);
            let own = cpu.upload_codes(Arc::clone(&codes)).unwrap();
            // Codes that another backend placed are answered as well.
            for codes in [&own, &held] {
                let got = cpu.rabitq_scan(Stream(0), &scans, codes, Allow::All).unwrap();
                assert!(got == want, "{level:?}, {n_threads} threads");
            }
        }
    }
}

#[test]
fn bytes_are_never_further_off_than_is_certain_and_rarely_than_is_likely() {
    for metric in METRICS {
        let (base, queries) = (rows(200, 100, 1), rows(30, 100, 2));
        let scale = (metric != Metric::Cosine).then(|| int8::shared_scale(&base));
        let (a, b) = (
            Int8Codes::encode(metric, &base, scale).unwrap(),
            Int8Codes::encode(metric, &queries, scale).unwrap(),
        );
        let unit = |rows: &Rows, row: usize| {
            if metric == Metric::Cosine { 1.0 / rows.norms()[row] } else { 1.0 }
        };
        let (mut outside, mut below, mut n) = (0, 0, 0);
        for i in 0..base.n_rows() {
            for j in 0..queries.n_rows() {
                let product = |x: &Rows, y: &Rows| -> f64 {
                    let at = |rows: &Rows, row, e| f64::from(rows.values().get(row * 100 + e));
                    (0..100).map(|e| at(x, i, e) * at(y, j, e)).sum()
                };
                let exact = product(&base, &queries) * unit(&base, i) * unit(&queries, j);
                let steps = f64::from(a.rounding[i].scale) * f64::from(b.rounding[j].scale);
                let off = (product(&a.rows, &b.rows) * steps - exact).abs();
                let slack = int8::product_slack(a.rounding[i], b.rounding[j], 2.0);
                assert!(off <= slack.certain * 1.000_01 + 1e-6, "{metric}: {off} {slack:?}");
                outside += u32::from(off > slack.likely);
                let estimate = plain::distance(metric, (&a.rows, i), (&b.rows, j));
                let (row, query) = (a.worst(), b.rounding[j]);
                let lower = int8::lower_bound(metric, estimate, row, query, 2.0);
                below += u32::from(plain::distance(metric, (&base, i), (&queries, j)) < lower);
                n += 1;
            }
        }
        println!("{metric}: {outside} outside, {below} below, of {n}");
        // Beyond two deviations lie 4.6 % on both sides and 2.3 % on one.
        assert!(f64::from(outside) < 0.055 * f64::from(n), "{metric}: {outside} of {n}");
        assert!(f64::from(below) < 0.03 * f64::from(n), "{metric}: {below} of {n}");
    }
}
