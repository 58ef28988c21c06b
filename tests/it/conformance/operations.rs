//! The checks, by operation.

use std::ops::Range;
use std::sync::Arc;

use nearkin::backend::codes::{RabitqQuery, Survivor};
use nearkin::backend::cpu::minhash::MinHasher;
use nearkin::backend::plain::{self, Plain};
use nearkin::backend::resident::Resident;
use nearkin::backend::{Backend, RabitqScan, Stream, Tile};
use nearkin::core::allow::Allow;
use nearkin::core::bits::Bits;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::neighbors::Neighbor;
use nearkin::core::rows::{Dtype, Rows, Values};

use super::Effort;
use super::bounds::exact;
use super::inputs;

const STREAM: Stream = Stream(0);

/// Every element type under every metric.
fn kinds() -> impl Iterator<Item = (Dtype, Metric)> {
    Dtype::ALL.into_iter().flat_map(|dtype| Metric::ALL.into_iter().map(move |m| (dtype, m)))
}

fn place(backend: &dyn Backend, rows: Rows, metric: Metric) -> Resident {
    backend.upload(Arc::new(rows), metric).unwrap()
}

/// Sizes around every tile edge that a backend is likely to have.
fn dims(effort: Effort) -> Vec<usize> {
    match effort {
        Effort::Full => {
            let mut dims: Vec<usize> = (1..=70).collect();
            dims.extend([95, 96, 97, 127, 128, 129, 255, 257, 384, 511, 513, 768, 1536, 2049]);
            dims
        }
        Effort::Small => vec![1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 129],
    }
}

fn check_distance(metric: Metric, a: (&Rows, usize), b: (&Rows, usize), got: f32, context: &str) {
    let (want, slack) = exact(metric, a, b);
    let off = (f64::from(got) - want).abs();
    assert!(
        off <= slack,
        "{context}: {} {metric} dim {}: {got} instead of {want}, off by {off:e}, allowed {slack:e}",
        a.0.dtype().name(),
        a.0.dim()
    );
}

pub fn distances(backend: &dyn Backend, effort: Effort) {
    for (dtype, metric) in kinds() {
        for (round, dim) in dims(effort).into_iter().enumerate() {
            let n_rows = [1, 2, 5, 33, 17][round % 5];
            let n_queries = [1, 3, 2, 9][round % 4];
            let rows = place(backend, inputs::rows(dtype, n_rows, dim, 1), metric);
            let queries = inputs::rows(dtype, n_queries, dim, 2);
            let range = (n_rows as u32 / 3)..n_rows as u32;
            let got = backend.distances(STREAM, &queries, &rows, range.clone()).unwrap();
            assert_eq!(got.len(), n_queries * range.len());
            for (q, row) in got.chunks(range.len()).enumerate() {
                for (slot, &distance) in range.clone().zip(row) {
                    let b = (rows.host().as_ref(), slot as usize);
                    check_distance(metric, (&queries, q), b, distance, "distances");
                }
            }
        }
        let rows = place(backend, inputs::rows(dtype, 3, 4, 1), metric);
        let none = backend.distances(STREAM, &inputs::rows(dtype, 2, 4, 2), &rows, 1..1).unwrap();
        assert!(none.is_empty());
    }
    // Float queries of one width against rows of the other.
    for (q, r) in [(Dtype::F32, Dtype::F16), (Dtype::F16, Dtype::F32)] {
        let rows = place(backend, inputs::rows(r, 40, 37, 1), Metric::Cosine);
        let queries = inputs::rows(q, 3, 37, 2);
        let got = backend.distances(STREAM, &queries, &rows, 0..40).unwrap();
        for (i, &distance) in got.iter().enumerate() {
            let b = (rows.host().as_ref(), i % 40);
            check_distance(Metric::Cosine, (&queries, i / 40), b, distance, "mixed floats");
        }
    }
}

/// A list is right if it is as long as it must be, in order, without repeats, of allowed rows, and if every distance
/// is right and as near as the exact list's at its rank.
fn check_neighbors(
    queries: (&Rows, usize),
    rows: &Resident,
    allow: Allow<'_>,
    k: usize,
    got: &[Neighbor],
) {
    let (host, metric) = (rows.host().as_ref(), rows.metric());
    let allowed = (0..host.n_rows() as u32).filter(|&slot| allow.contains(slot));
    let mut all: Vec<(f64, f64, u32)> = allowed
        .map(|slot| {
            let (distance, slack) = exact(metric, queries, (host, slot as usize));
            (distance, slack, slot)
        })
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)));
    let context =
        format!("{} {metric} dim {} rows {} k {k}", host.dtype().name(), host.dim(), host.n_rows());
    assert_eq!(got.len(), k.min(all.len()), "{context}");
    assert!(got.is_sorted(), "{context}: {got:?}");
    let widest = all.iter().map(|one| one.1).fold(0.0, f64::max);
    let mut seen = std::collections::HashSet::new();
    for (neighbor, want) in got.iter().zip(&all) {
        assert!(seen.insert(neighbor.slot), "{context}: slot {} twice", neighbor.slot);
        assert!(allow.contains(neighbor.slot), "{context}: slot {} not allowed", neighbor.slot);
        let b = (host, neighbor.slot as usize);
        check_distance(metric, queries, b, neighbor.distance, "flat_scan");
        let off = (f64::from(neighbor.distance) - want.0).abs();
        assert!(off <= 2.0 * widest, "{context}: {neighbor:?} at the rank of {want:?}");
        // Without a slack, ties are broken as the exact list breaks them.
        let is_exact = widest == 0.0;
        assert!(!is_exact || neighbor.slot == want.2, "{context}: {neighbor:?} for {want:?}");
    }
}

fn check_scan(backend: &dyn Backend, queries: &Rows, rows: &Resident, allow: Allow<'_>, k: usize) {
    let got = backend.flat_scan(STREAM, queries, rows, allow, k).unwrap();
    assert_eq!(got.len(), queries.n_rows());
    for (q, neighbors) in got.iter().enumerate() {
        check_neighbors((queries, q), rows, allow, k, neighbors);
    }
}

pub fn flat_scan_shapes(backend: &dyn Backend, effort: Effort) {
    let (counts, batches, ks): (&[usize], &[usize], &[usize]) = match effort {
        Effort::Full => (
            &[0, 1, 2, 7, 31, 32, 33, 63, 65, 127, 128, 129, 255, 257, 700, 2049],
            &[1, 2, 3, 8, 15, 16, 17, 33, 70],
            &[1, 2, 10, 33, 100, 1024],
        ),
        Effort::Small => (&[0, 1, 2, 31, 33, 65, 129, 300], &[1, 2, 5, 17], &[1, 10, 130, 1024]),
    };
    let dims = [1, 3, 8, 17, 33, 64, 100];
    let mut round = 0;
    for (dtype, metric) in kinds() {
        for &n_rows in counts {
            round += 1;
            let dim = dims[round % dims.len()];
            let (batch, k) = (batches[round % batches.len()], ks[round % ks.len()]);
            let rows = place(backend, inputs::rows(dtype, n_rows, dim, 1), metric);
            let queries = inputs::rows(dtype, batch, dim, 2);
            let n = n_rows as u32;
            check_scan(backend, &queries, &rows, Allow::All, k);
            for share in [0.0, 0.03, 0.5, 1.0] {
                let bits = inputs::some_bits(n, share, round as u64);
                check_scan(backend, &queries, &rows, Allow::Bits(&bits), k);
            }
            let ranges: [Range<u32>; 3] = [n / 9..n / 7, n / 3..n / 2, n - n / 8..n];
            check_scan(backend, &queries, &rows, Allow::Ranges(&ranges), k);
            check_scan(backend, &queries, &rows, Allow::Ranges(&[]), k);
        }
    }
}

pub fn flat_scan_ties(backend: &dyn Backend, effort: Effort) {
    let n = if effort == Effort::Full { 10_000 } else { 1500 };
    for (dtype, metric) in kinds() {
        let one = inputs::rows(dtype, 1, 9, 3);
        let repeat = |n: usize| {
            let values = match one.values() {
                Values::F32(x) => Values::F32(x.repeat(n).into()),
                Values::F16(x) => Values::F16(x.repeat(n).into()),
                Values::U8(x) => Values::U8(x.repeat(n).into()),
                Values::I8(x) => Values::I8(x.repeat(n).into()),
            };
            Rows::new(values, 9).unwrap()
        };
        let rows = place(backend, repeat(n), metric);
        for (batch, k) in [(1, 100), (20, 1024)] {
            let got = backend.flat_scan(STREAM, &repeat(batch), &rows, Allow::All, k).unwrap();
            for neighbors in got {
                let slots: Vec<u32> = neighbors.iter().map(|neighbor| neighbor.slot).collect();
                assert_eq!(slots, (0..k as u32).collect::<Vec<_>>(), "{dtype:?} {metric}");
            }
        }
    }
}

/// Huge, tiny and signed-zero values, and integer sums as large as they get.
pub fn extremes(backend: &dyn Backend) {
    let f32_rows =
        |values: &[f32], dim| Rows::new(Values::F32(values.to_vec().into()), dim).unwrap();
    let odd =
        f32_rows(&[1e30, 2e30, -1e30, 1e-30, 3e-30, 1e-31, 1.0, -0.0, 0.0, 1e30, 1e-30, 1.0], 3);
    let rows = place(backend, odd.clone(), Metric::Cosine);
    check_scan(backend, &odd, &rows, Allow::All, 4);
    let own = backend.distances(STREAM, &odd, &rows, 0..4).unwrap();
    for i in 0..4 {
        assert!(own[i * 4 + i].abs() < 1e-6, "a row is not itself: {own:?}");
    }
    for (metric, largest) in [(Metric::L2, 4e18), (Metric::Dot, 4e18), (Metric::L1, 4e18)] {
        let rows = f32_rows(&[largest, -largest, 1.0, 0.0, -0.0, 1e-20], 2);
        let resident = place(backend, rows.clone(), metric);
        check_scan(backend, &rows, &resident, Allow::All, 3);
    }
    for dim in [4096, 16_384] {
        let high = |values| Rows::new(values, dim).unwrap();
        let mut u8s = vec![255u8; 2 * dim];
        u8s[dim..].fill(0);
        u8s[dim] = 1;
        let mut i8s = vec![127i8; 2 * dim];
        i8s[dim..].fill(-127);
        for rows in [high(Values::U8(u8s.into())), high(Values::I8(i8s.into()))] {
            for metric in Metric::ALL {
                let resident = place(backend, rows.clone(), metric);
                check_scan(backend, &rows, &resident, Allow::All, 2);
            }
        }
    }
}

pub fn gather(backend: &dyn Backend, effort: Effort) {
    for (dtype, metric) in kinds() {
        for dim in dims(effort).into_iter().step_by(4) {
            let rows = place(backend, inputs::rows(dtype, 90, dim, 1), metric);
            let queries = inputs::rows(dtype, 4, dim, 2);
            let list = |n: u64, salt| (0..n).map(|i| (stream(salt, i) % 90) as u32).collect();
            let slots: Vec<Vec<u32>> = vec![list(7, 1), vec![], list(40, 2), vec![89, 0, 89]];
            let got = backend.gather(STREAM, &queries, &rows, &slots).unwrap();
            assert_eq!(got.len(), 4);
            for (q, (slots, distances)) in slots.iter().zip(&got).enumerate() {
                assert_eq!(slots.len(), distances.len());
                for (&slot, &distance) in slots.iter().zip(distances) {
                    let b = (rows.host().as_ref(), slot as usize);
                    check_distance(metric, (&queries, q), b, distance, "gather");
                }
            }
        }
    }
}

pub fn assign(backend: &dyn Backend, effort: Effort) {
    for (dtype, metric) in kinds() {
        for dim in dims(effort).into_iter().step_by(5) {
            for n_centroids in [1, 3, 16, 33] {
                let rows = place(backend, inputs::rows(dtype, 70, dim, 1), metric);
                let centroids = inputs::rows(dtype, n_centroids, dim, 4);
                let got = backend.assign(STREAM, &rows, 3..70, &centroids).unwrap();
                assert_eq!(got.len(), 67);
                for (row, &nearest) in (3..70).zip(&got) {
                    let host = rows.host();
                    let all =
                        (0..n_centroids).map(|slot| exact(metric, (host, row), (&centroids, slot)));
                    let (least, slack) =
                        all.clone().fold((f64::MAX, 0.0), |(least, widest), one| {
                            (one.0.min(least), one.1.max(widest))
                        });
                    let b = (&centroids, nearest.slot as usize);
                    check_distance(metric, (host, row), b, nearest.distance, "assign");
                    assert!(exact(metric, (host, row), b).0 <= least + 2.0 * slack);
                    if slack == 0.0 {
                        let first = all.clone().position(|one| one.0 == least).unwrap();
                        assert_eq!(nearest.slot as usize, first, "ties go to the lesser slot");
                    }
                }
            }
        }
        let rows = place(backend, inputs::rows(dtype, 5, 8, 1), metric);
        assert!(
            backend.assign(STREAM, &rows, 2..2, &inputs::rows(dtype, 2, 8, 4)).unwrap().is_empty()
        );
    }
}

/// All distances between two sides, sorted: thresholds are put between them.
fn threshold(metric: Metric, a: &Rows, b: &Rows, share: f64) -> f32 {
    let mut all: Vec<f64> = (0..a.n_rows())
        .flat_map(|i| (0..b.n_rows()).map(move |j| (i, j)))
        .filter(|(i, j)| i != j)
        .map(|(i, j)| exact(metric, (a, i), (b, j)).0)
        .collect();
    all.sort_by(f64::total_cmp);
    all.get((all.len() as f64 * share) as usize).copied().unwrap_or(0.0) as f32
}

fn check_pairs(
    backend: &dyn Backend,
    a: &Resident,
    b: Option<&Resident>,
    tiles: &[Tile],
    within: f32,
) {
    let (metric, left) = (a.metric(), a.host());
    let right = b.unwrap_or(a).host();
    let got = backend.pairs(STREAM, a, b, tiles, within).unwrap();
    let keys: Vec<(u32, u32)> = got.iter().map(|pair| (pair.a, pair.b)).collect();
    assert!(keys.windows(2).all(|two| two[0] < two[1]), "not sorted, or a pair twice");
    let mut wanted = std::collections::BTreeMap::new();
    for tile in tiles {
        for i in tile.a.clone() {
            for j in tile.b.clone() {
                let key = if b.is_none() { (i.min(j), i.max(j)) } else { (i, j) };
                if b.is_some() || i != j {
                    let one = exact(metric, (left, key.0 as usize), (right, key.1 as usize));
                    wanted.insert(key, one);
                }
            }
        }
    }
    for pair in &got {
        let one = wanted.get(&(pair.a, pair.b)).expect("a pair outside its tiles");
        assert!((f64::from(pair.distance) - one.0).abs() <= one.1, "{pair:?} for {one:?}");
        assert!(pair.distance <= within, "{pair:?} over {within}");
    }
    let found: std::collections::HashSet<(u32, u32)> = keys.into_iter().collect();
    for (key, (distance, slack)) in wanted {
        let must = distance + slack <= f64::from(within);
        assert!(!must || found.contains(&key), "{metric}: {key:?} at {distance} is missing");
    }
}

pub fn pairs(backend: &dyn Backend, effort: Effort) {
    let n = if effort == Effort::Full { 150 } else { 70 };
    for (dtype, metric) in kinds() {
        for dim in [1, 5, 16, 33, 64, 100] {
            let rows = inputs::rows(dtype, n, dim, 1);
            let other = inputs::rows(dtype, n / 2 + 3, dim, 2);
            let (a, b) = (place(backend, rows, metric), place(backend, other, metric));
            let (n_a, n_b) = (a.host().n_rows() as u32, b.host().n_rows() as u32);
            for share in [0.0, 0.02, 0.3, 1.0] {
                let within = threshold(metric, a.host(), a.host(), share);
                let all = [Tile { a: 0..n_a, b: 0..n_a }];
                check_pairs(backend, &a, None, &all, within);
                let within = threshold(metric, a.host(), b.host(), share);
                check_pairs(backend, &a, Some(&b), &[Tile { a: 0..n_a, b: 0..n_b }], within);
                let some = [
                    Tile { a: 1..n_a / 2, b: n_a / 3..n_a - 1 },
                    Tile { a: 0..1, b: 0..n_a },
                    Tile { a: 5..5, b: 0..n_a },
                ];
                check_pairs(backend, &a, None, &some, within);
            }
            check_pairs(backend, &a, None, &[], 1.0);
        }
    }
    let same = Rows::new(Values::I8(vec![3; 120 * 7].into()), 7).unwrap();
    let same = place(backend, same, Metric::L2);
    let got = backend.pairs(STREAM, &same, None, &[Tile { a: 0..120, b: 0..120 }], 0.0).unwrap();
    assert_eq!(got.len(), 120 * 119 / 2);
}

pub fn rabitq_scan(backend: &dyn Backend, effort: Effort) {
    let counts: &[usize] = match effort {
        Effort::Full => &[0, 1, 31, 32, 33, 64, 100, 1000, 5000],
        Effort::Small => &[0, 1, 31, 33, 200],
    };
    for n_words in [1, 2, 3, 6, 12, 25] {
        for &n_rows in counts {
            let codes = Arc::new(inputs::codes(n_rows, n_words, 11));
            let resident = backend.upload_codes(Arc::clone(&codes)).unwrap();
            let n = n_rows as u32;
            let queries: Vec<RabitqQuery> =
                (0..4).map(|seed| inputs::rabitq_query(n_words, 20 + seed)).collect();
            let lists: [Vec<(Range<u32>, &RabitqQuery)>; 4] = [
                vec![(0..n, &queries[0])],
                vec![(0..n / 3, &queries[1]), (n / 2..n, &queries[2])],
                vec![],
                vec![(n..n, &queries[3]), (n / 4..n / 2, &queries[3])],
            ];
            let bits = inputs::some_bits(n, 0.4, 31);
            for (allow, k, bound) in [
                (Allow::All, 1, f32::INFINITY),
                (Allow::All, 10, 0.5),
                (Allow::Bits(&bits), 10, f32::INFINITY),
                (Allow::Bits(&Bits::new(n)), 3, f32::INFINITY),
            ] {
                let scans: Vec<RabitqScan<'_>> =
                    lists.iter().map(|lists| RabitqScan { lists, bound, k }).collect();
                let got = backend.rabitq_scan(STREAM, &scans, &resident, allow).unwrap();
                let plain = Plain::new(1 << 30);
                let kept = plain.upload_codes(Arc::clone(&codes)).unwrap();
                let want = plain.rabitq_scan(STREAM, &scans, &kept, allow).unwrap();
                assert_eq!(got.len(), 4);
                for ((got, want), lists) in got.iter().zip(&want).zip(&lists) {
                    check_survivors(got, want, lists, |slot, query| {
                        plain::look(&codes, slot, query)
                    });
                }
            }
        }
    }
}

/// Estimates are sums of a few 32-bit terms of size one: a millionth is a dozen roundings.
const ESTIMATE_SLACK: f32 = 4e-6;

fn check_survivors(
    got: &[Survivor],
    want: &[Survivor],
    lists: &[(Range<u32>, &RabitqQuery)],
    look: impl Fn(u32, &RabitqQuery) -> Survivor,
) {
    assert!(got.windows(2).all(|two| two[0].slot < two[1].slot), "survivors out of order");
    let near = |a: f32, b: f32| (a - b).abs() <= ESTIMATE_SLACK * (1.0 + a.abs());
    for one in got {
        let query = lists.iter().find(|(list, _)| list.contains(&one.slot)).expect("in a list").1;
        let right = look(one.slot, query);
        assert!(
            near(one.estimate, right.estimate)
                && near(one.lower, right.lower)
                && near(one.upper, right.upper),
            "{one:?} instead of {right:?}"
        );
    }
    let bound = want.iter().map(|one| one.lower).fold(f32::NEG_INFINITY, f32::max);
    let has = |list: &[Survivor], slot| list.binary_search_by_key(&slot, |one| one.slot).is_ok();
    for one in want.iter().filter(|one| !near(one.lower, bound)) {
        assert!(has(got, one.slot), "{one:?} is missing under {bound}");
    }
    // The bound is a k-th upper bound: it can be off by a rounding, and rows at it may be on either side.
    let extra = got.iter().filter(|one| !has(want, one.slot)).count();
    assert!(extra <= 2, "{extra} more than the specification");
}

pub fn minhash(backend: &dyn Backend, effort: Effort) {
    let lengths: &[u32] = match effort {
        Effort::Full => &[0, 1, 2, 7, 8, 31, 32, 33, 0, 100, 1000, 5000],
        Effort::Small => &[0, 1, 2, 7, 33, 0, 100],
    };
    for n_perm in [1, 31, 32, 33, 128, 200] {
        let hasher = MinHasher::new(n_perm, 42);
        let ends: Vec<u32> = lengths
            .iter()
            .scan(0, |end, n| {
                *end += n;
                Some(*end)
            })
            .collect();
        let n = *ends.last().unwrap();
        let shingles: Vec<u32> = (0..u64::from(n)).map(|i| stream(5, i) as u32).collect();
        let got = backend.minhash(STREAM, &hasher, &shingles, &ends).unwrap();
        let want = Plain::new(1).minhash(STREAM, &hasher, &shingles, &ends).unwrap();
        assert!(got == want, "minhash of {n_perm} slots differs");
        assert!(backend.minhash(STREAM, &hasher, &[], &[]).unwrap().is_empty());
    }
}

/// What every backend must refuse, and how.
pub fn refusals(backend: &dyn Backend) {
    let rows = place(backend, inputs::rows(Dtype::F32, 10, 4, 1), Metric::Cosine);
    let good = inputs::rows(Dtype::F32, 1, 4, 2);
    let code = |result: Result<Vec<Vec<Neighbor>>, nearkin::Error>| result.unwrap_err().code();
    let scan =
        |queries: &Rows, allow: Allow<'_>, k| backend.flat_scan(STREAM, queries, &rows, allow, k);
    assert_eq!(code(scan(&inputs::rows(Dtype::F32, 1, 5, 2), Allow::All, 1)), "vector_dim");
    assert_eq!(code(scan(&inputs::rows(Dtype::U8, 1, 4, 2), Allow::All, 1)), "vector_dtype");
    let zero = Rows::new(Values::F32(vec![0.0; 4].into()), 4).unwrap();
    assert_eq!(code(scan(&zero, Allow::All, 1)), "vector_zero_norm");
    assert_eq!(code(scan(&good, Allow::All, 0)), "k_range");
    assert_eq!(code(scan(&good, Allow::All, 1025)), "k_range");
    assert_eq!(code(scan(&good, Allow::Bits(&Bits::new(100)), 1)), "slot_range");
    assert_eq!(code(scan(&good, Allow::Ranges(&[1..2, 5..11]), 1)), "slot_range");
    assert_eq!(code(scan(&good, Allow::Ranges(&[5..7, 6..8]), 1)), "slot_range");
    let range = backend.distances(STREAM, &good, &rows, 5..11).unwrap_err();
    assert_eq!(range.code(), "slot_range");
    let slots = backend.gather(STREAM, &good, &rows, &[vec![10]]).unwrap_err();
    assert_eq!(slots.code(), "slot_range");
    let none = Rows::new(Values::F32(Vec::new().into()), 4).unwrap();
    assert_eq!(backend.assign(STREAM, &rows, 0..1, &none).unwrap_err().code(), "centroids");
    let tile = [Tile { a: 0..10, b: 0..10 }];
    let nan = backend.pairs(STREAM, &rows, None, &tile, f32::NAN).unwrap_err();
    assert_eq!(nan.code(), "threshold_range");
    let ends = backend.minhash(STREAM, &MinHasher::new(4, 0), &[1, 2], &[1]).unwrap_err();
    assert_eq!(ends.code(), "shingle_ends");
    let huge = Rows::new(Values::F32(vec![3e38; 4].into()), 4).unwrap();
    assert_eq!(
        backend.upload(Arc::new(huge), Metric::L2).err().unwrap().code(),
        "vector_magnitude"
    );
}

/// Bytes are counted, and come back when a handle is dropped.
pub fn budget(backend: &dyn Backend) {
    let rows = Arc::new(inputs::rows(Dtype::F32, 1000, 16, 1));
    for _ in 0..3 {
        let resident = backend.upload(Arc::clone(&rows), Metric::Dot).unwrap();
        assert!(resident.n_bytes() >= rows.n_bytes());
    }
}
