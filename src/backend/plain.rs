//! Every operation in its plainest form: the specification that fast backends are compared with. Sums of floats are
//! taken in 64 bits, sums of integers are exact.

use std::ops::Range;
use std::sync::Arc;

use crate::backend::budget::Budget;
use crate::backend::codes::{
    EXTRA_PLANES, Planes, RabitqCodes, RabitqQuery, Survivor, centre, estimate,
};
use crate::backend::cpu::minhash::{MinHasher, permute};
use crate::backend::resident::{Resident, ResidentCodes};
use crate::backend::{Backend, BackendKind, Facts, Pair, RabitqScan, Stream, Tile, check};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::neighbors::{Neighbor, TopK};
use crate::core::rows::Rows;
use crate::error::Result;

/// The specification as a backend.
#[derive(Debug)]
pub struct Plain {
    facts: Facts,
    budget: Budget,
}

impl Plain {
    /// A backend that may hold `budget_bytes`.
    pub fn new(budget_bytes: u64) -> Self {
        let name = "plain loops".to_owned();
        let facts = Facts { kind: BackendKind::Cpu, name, n_streams: 1, budget_bytes };
        Self { facts, budget: Budget::new(budget_bytes) }
    }
}

/// Distance of two rows.
pub fn distance(metric: Metric, a: (&Rows, usize), b: (&Rows, usize)) -> f32 {
    let dim = a.0.dim();
    let pairs = (0..dim).map(|i| {
        let element = |(rows, row): (&Rows, usize)| f64::from(rows.values().get(row * dim + i));
        (element(a), element(b))
    });
    let dot = || pairs.clone().map(|(x, y)| x * y).sum::<f64>();
    let exact = match metric {
        Metric::Cosine => {
            let square =
                |of: fn((f64, f64)) -> f64| pairs.clone().map(of).map(|x| x * x).sum::<f64>();
            1.0 - dot() / (square(|p| p.0).sqrt() * square(|p| p.1).sqrt())
        }
        Metric::Dot => -dot(),
        Metric::L2 => pairs.clone().map(|(x, y)| (x - y) * (x - y)).sum(),
        Metric::L1 => pairs.clone().map(|(x, y)| (x - y).abs()).sum(),
    };
    exact as f32
}

impl Backend for Plain {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn upload(&self, rows: Arc<Rows>, metric: Metric) -> Result<Resident> {
        rows.check(metric)?;
        let reserved = self.budget.reserve(rows.n_bytes())?;
        Ok(Resident::new(rows, metric, Box::new(()), reserved))
    }

    fn upload_codes(&self, codes: Arc<RabitqCodes>) -> Result<ResidentCodes> {
        codes.check()?;
        let reserved = self.budget.reserve(codes.n_bytes())?;
        Ok(ResidentCodes::new(codes, Box::new(()), reserved))
    }

    fn distances(
        &self,
        _: Stream,
        queries: &Rows,
        rows: &Resident,
        range: Range<u32>,
    ) -> Result<Vec<f32>> {
        check::queries(queries, rows)?;
        check::range(&range, rows.host().n_rows())?;
        let one = |q: usize, slot: u32| {
            distance(rows.metric(), (queries, q), (rows.host(), slot as usize))
        };
        Ok((0..queries.n_rows())
            .flat_map(|q| range.clone().map(move |slot| one(q, slot)))
            .collect())
    }

    fn flat_scan(
        &self,
        _: Stream,
        queries: &Rows,
        rows: &Resident,
        allow: Allow<'_>,
        k: usize,
    ) -> Result<Vec<Vec<Neighbor>>> {
        check::queries(queries, rows)?;
        check::allow(allow, rows.host().n_rows())?;
        check::k(k)?;
        let nearest = |q: usize| {
            let mut top = TopK::new(k);
            for slot in (0..rows.host().n_rows() as u32).filter(|&slot| allow.contains(slot)) {
                let distance = distance(rows.metric(), (queries, q), (rows.host(), slot as usize));
                top.push(Neighbor { slot, distance });
            }
            top.into_sorted()
        };
        Ok((0..queries.n_rows()).map(nearest).collect())
    }

    fn gather(
        &self,
        _: Stream,
        queries: &Rows,
        rows: &Resident,
        slots: &[Vec<u32>],
    ) -> Result<Vec<Vec<f32>>> {
        check::queries(queries, rows)?;
        check::slots(queries, rows, slots)?;
        let one = |q: usize, slot: u32| {
            distance(rows.metric(), (queries, q), (rows.host(), slot as usize))
        };
        Ok(slots
            .iter()
            .enumerate()
            .map(|(q, s)| s.iter().map(|&slot| one(q, slot)).collect())
            .collect())
    }

    fn assign(
        &self,
        _: Stream,
        rows: &Resident,
        range: Range<u32>,
        centroids: &Rows,
    ) -> Result<Vec<Neighbor>> {
        check::centroids(rows, centroids)?;
        check::range(&range, rows.host().n_rows())?;
        let nearest = |row: u32| {
            let to = |slot: usize| {
                let distance =
                    distance(rows.metric(), (rows.host(), row as usize), (centroids, slot));
                Neighbor { slot: slot as u32, distance }
            };
            (0..centroids.n_rows()).map(to).min().expect("checked: at least one centroid")
        };
        Ok(range.map(nearest).collect())
    }

    fn rabitq_scan(
        &self,
        _: Stream,
        scans: &[RabitqScan<'_>],
        codes: &ResidentCodes,
        allow: Allow<'_>,
    ) -> Result<Vec<Vec<Survivor>>> {
        check::scans(scans, codes, allow)?;
        Ok(scans.iter().map(|scan| survivors(scan, codes.host(), allow)).collect())
    }

    fn pairs(
        &self,
        _: Stream,
        a: &Resident,
        b: Option<&Resident>,
        tiles: &[Tile],
        within: f32,
    ) -> Result<Vec<Pair>> {
        check::pairs(a, b, tiles, within)?;
        let (metric, other) = (a.metric(), b.unwrap_or(a).host());
        let mut out = Vec::new();
        for tile in tiles {
            for i in tile.a.clone() {
                for j in tile.b.clone() {
                    if b.is_none() && i == j {
                        continue;
                    }
                    let distance = distance(metric, (a.host(), i as usize), (other, j as usize));
                    if distance <= within {
                        let (i, j) = if b.is_none() { (i.min(j), i.max(j)) } else { (i, j) };
                        out.push(Pair { a: i, b: j, distance });
                    }
                }
            }
        }
        out.sort_unstable_by_key(|pair| (pair.a, pair.b));
        out.dedup_by_key(|pair| (pair.a, pair.b));
        Ok(out)
    }

    fn minhash(
        &self,
        _: Stream,
        hasher: &MinHasher,
        shingles: &[u32],
        ends: &[u32],
    ) -> Result<Vec<u32>> {
        check::ends(shingles, ends)?;
        let mut out = Vec::with_capacity(ends.len() * hasher.n_perm());
        let mut start = 0;
        for &end in ends {
            let record = &shingles[start..end as usize];
            out.extend((0..hasher.n_perm()).map(|slot| {
                let (multiplier, mask) = hasher.constants(slot);
                record.iter().map(|&x| permute(x, multiplier, mask)).min().unwrap_or(u32::MAX)
            }));
            start = end as usize;
        }
        Ok(out)
    }
}

/// `⟨u, n⟩` and `Σ u` of one plane of a code.
fn plane_sums(plane: &[u64], query: &Planes) -> (u32, u32) {
    let ones = plane.iter().map(|word| word.count_ones()).sum();
    let planes = query.words.chunks_exact(plane.len()).enumerate();
    let dot = planes
        .map(|(weight, words)| {
            plane.iter().zip(words).map(|(a, b)| (a & b).count_ones()).sum::<u32>() << weight
        })
        .sum();
    (dot, ones)
}

/// What one row's code says of its distance.
pub fn look(codes: &RabitqCodes, slot: u32, query: &RabitqQuery) -> Survivor {
    let (row, n) = (slot as usize, codes.n_words);
    let signs = &codes.signs[row * n..(row + 1) * n];
    let (dot, ones) = plane_sums(signs, &query.coarse);
    let coarse = estimate(codes.coarse[row], query.add, &query.coarse, dot, ones, centre(1));
    let coarse_err = codes.coarse[row].err * query.coarse_err;
    let (mut dot, mut ones) = plane_sums(signs, &query.fine);
    (dot, ones) = (dot << EXTRA_PLANES, ones << EXTRA_PLANES);
    let extra = &codes.extra[row * n * EXTRA_PLANES..(row + 1) * n * EXTRA_PLANES];
    for (weight, plane) in extra.chunks_exact(n).enumerate() {
        let (plane_dot, plane_ones) = plane_sums(plane, &query.fine);
        dot += plane_dot << weight;
        ones += plane_ones << weight;
    }
    let fine = estimate(codes.fine[row], query.add, &query.fine, dot, ones, centre(4));
    let fine_err = codes.fine[row].err * query.fine_err;
    let lower = (coarse - coarse_err).max(fine - fine_err);
    // Both intervals hold the distance but for a small chance; where they miss one another, no row that the one-bit code
    // rules out may count towards the k-th upper bound, or it could not be ruled out.
    let upper = (coarse + coarse_err).min(fine + fine_err).max(lower);
    Survivor { slot, estimate: fine, lower, upper }
}

fn survivors(scan: &RabitqScan<'_>, codes: &RabitqCodes, allow: Allow<'_>) -> Vec<Survivor> {
    let mut all: Vec<Survivor> = Vec::new();
    for (range, query) in scan.lists {
        let slots = range.clone().filter(|&slot| allow.contains(slot));
        all.extend(slots.map(|slot| look(codes, slot, query)));
    }
    // Where the bounds of both codes miss one another, one of them failed. The greater counts, so that rows which the
    // one-bit code rules out need no second look: they cannot lower the k-th.
    let mut uppers: Vec<f32> = all.iter().map(|one| one.upper.max(one.lower)).collect();
    uppers.sort_unstable_by(f32::total_cmp);
    let bound = uppers.get(scan.k - 1).map_or(scan.bound, |&upper| upper.min(scan.bound));
    all.retain(|survivor| survivor.lower <= bound);
    all.sort_unstable_by_key(|survivor| survivor.slot);
    all
}
