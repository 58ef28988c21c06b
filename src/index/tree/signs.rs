//! A run of which all rows are compared by their signs first, and few again.
//!
//! Of a row that has a place among the `k` nearest, the bound lies below the distance of the `k`th of any rows. Such a distance is had
//! from a few rows of small bounds, by their codes; rows whose bound lies above it are done with. How many are left follows the data:
//! where signs say little, more are, and the answer is as good.

use crate::distance::simd::few::{at_most, least_by_lane};
use crate::error::Result;
use crate::index::graph::codes::signs::Signs;
use crate::index::graph::codes::{CodeQuery, Codes};
use crate::index::graph::distances::Distances;
use crate::index::tree::scan::{DistanceScan, Scan};
use crate::index::tree::search::{Found, Scratch, flat_reranked};

/// Lanes that rows are dealt to, per neighbor; the least bound of each is of a row that may be near. Rows that are near one another are
/// neighbors in the run, and go to different lanes.
const LANES_PER_NEIGHBOR: usize = 4;

/// Lanes come in so many.
const LANES: usize = 64;

/// Bounds that are made at once, and looked through for the least while they are near.
const BLOCK: usize = 2048;

/// Rows per lane, at least: of fewer, the codes of all are compared as fast.
const LEAST_PER_LANE: usize = 8;

/// Rows from which on a run is looked at by signs, for few neighbors.
pub const LEAST_ROWS: u64 = (LANES * LEAST_PER_LANE) as u64;

/// What a first look needs and the next one reuses.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    bounds: Vec<f32>,
    least: Vec<f32>,
    at: Vec<u32>,
    near: Vec<u32>,
}

/// As [`flat_reranked`] of the rows of a run whose signs say that they may be among the `k` nearest; of all rows of a short run.
///
/// # Errors
/// `slot_range` if signs, codes or rows do not cover the run.
pub fn flat_by_signs<R: Distances>(
    run: &[u32],
    (signs, codes, query): (&Signs, &Codes, &CodeQuery),
    raw: (&R, &R::Query),
    (k, n_rerank): (usize, usize),
    scratch: &mut Scratch,
) -> Result<Found> {
    let n_lanes = (LANES_PER_NEIGHBOR * k.max(1)).next_multiple_of(LANES);
    if run.len() < LEAST_PER_LANE * n_lanes {
        return flat_reranked(run, (codes, query), raw, (k, n_rerank), scratch);
    }
    scratch.look(run, (signs, codes, query), (k, n_lanes))?;
    let near = std::mem::take(&mut scratch.look.near);
    let found = flat_reranked(&near, (codes, query), raw, (k, n_rerank), scratch);
    scratch.look.near = near;
    let mut found = found?;
    found.touched.n_signs = run.len() as u64;
    found.touched.n_rows += n_lanes as u64;
    Ok(found)
}

impl Scratch {
    /// Leaves in `near` the rows of a run that may be among the `k` nearest, `k` of them at least, ascending.
    fn look(
        &mut self,
        run: &[u32],
        (signs, codes, query): (&Signs, &Codes, &CodeQuery),
        (k, n_lanes): (usize, usize),
    ) -> Result<()> {
        let Look { bounds, least, at, near } = &mut self.look;
        signs.check(run)?;
        let (by_signs, level) = (signs.query(query), signs.level());
        bounds.resize(run.len(), 0.0);
        least.clear();
        least.resize(n_lanes, f32::INFINITY);
        at.resize(n_lanes, 0);
        let block = n_lanes * (BLOCK / n_lanes).max(1);
        for (slots, bounds) in run.chunks(block).zip(bounds.chunks_mut(block)) {
            signs.bounds(&by_signs, slots, bounds);
            least_by_lane(level, (slots, bounds), least, at);
        }
        DistanceScan::new(codes, query).distances(at, &mut self.distances)?;
        // As many have bounds below this as below that of the `k`th, if their codes should say that they are nearer.
        let bound = kth(&mut self.distances, k).max(kth(least, k));
        at_most(level, (run, bounds), bound, near);
        Ok(())
    }
}

/// The `k`th least value.
fn kth(values: &mut [f32], k: usize) -> f32 {
    *values.select_nth_unstable_by(k.max(1) - 1, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::metric::Metric;
    use crate::core::mix::stream;
    use crate::core::neighbors::Neighbor;
    use crate::core::rows::{Rows, Values};
    use crate::distance::simd::coded::Bits;
    use crate::index::graph::raw::RawRows;
    use crate::index::tree::tests::{clustered, pool};

    const SIZES: (usize, usize) = (10, 40);

    /// Rows, and what they are compared by.
    struct Made<'a> {
        raw: RawRows<'a>,
        codes: Codes,
        signs: Signs,
        queries: &'a Rows,
    }

    impl<'a> Made<'a> {
        fn new(rows: &'a Rows, queries: &'a Rows, metric: Metric) -> Self {
            let codes = Codes::of(&pool(1), metric, Bits::Four, rows, 3).unwrap();
            let signs = Signs::of(&pool(1), &codes);
            Self { raw: RawRows::new(rows, metric).unwrap(), codes, signs, queries }
        }

        /// What is found with signs, and without.
        fn found(&self, run: &[u32], q: usize, sizes: (usize, usize)) -> Result<[Found; 2]> {
            let (by_code, by_row) =
                (self.codes.query(self.queries, q)?, self.raw.query(self.queries, q)?);
            let (by_signs, raw) = ((&self.signs, &self.codes, &by_code), (&self.raw, &by_row));
            let mut scratch = Scratch::default();
            let found = flat_by_signs(run, by_signs, raw, sizes, &mut scratch)?;
            let plain = flat_reranked(run, (&self.codes, &by_code), raw, sizes, &mut scratch)?;
            Ok([found, plain])
        }
    }

    fn some(n_rows: usize, step: u64) -> Vec<u32> {
        (0..n_rows as u32).filter(|&slot| stream(9, slot.into()).is_multiple_of(step)).collect()
    }

    /// Whatever the data, a look by signs loses at most one in two hundred of what codes alone find.
    #[test]
    fn nearly_all_that_codes_find_is_found_by_few_of_them() {
        for (dim, metric) in [
            (2, Metric::L2),
            (16, Metric::L2),
            (32, Metric::Cosine),
            (100, Metric::Dot),
            (128, Metric::L2),
            (384, Metric::Cosine),
            (784, Metric::L2),
        ] {
            let (rows, queries) = (clustered(9000, dim, 5), clustered(40, dim, 31));
            let (made, run) = (Made::new(&rows, &queries, metric), some(9000, 3));
            let (mut n_same, mut n_codes) = (0, 0);
            for q in 0..40 {
                let [found, plain] = made.found(&run, q, SIZES).unwrap();
                let is_same = |near: &&Neighbor| plain.neighbors.contains(near);
                n_same += found.neighbors.iter().filter(is_same).count();
                n_codes += found.touched.n_rows;
                assert_eq!((found.neighbors.len(), plain.neighbors.len()), (10, 10));
                assert_eq!(found.touched.n_signs, run.len() as u64);
            }
            let share = n_codes as f64 / (40 * run.len()) as f64;
            println!("{metric} {dim}: {n_same} of 400, {share} of all codes");
            assert!(n_same >= 398, "{metric} {dim}: {n_same} of 400");
            // Most of what lies around the same centre is as near as signs can tell.
            assert!(share < 0.2, "{metric} {dim}: {share} of all codes");
        }
    }

    #[test]
    fn equal_rows_are_all_looked_at_again() {
        let row = |slot: u64| (0..64).map(move |i| (stream(slot % 3, i) % 100) as f32);
        let rows = Rows::new(Values::F32((0..3000).flat_map(row).collect()), 64).unwrap();
        let made = Made::new(&rows, &rows, Metric::L2);
        let run: Vec<u32> = (0..3000).collect();
        for q in 0..3 {
            let [found, plain] = made.found(&run, q, SIZES).unwrap();
            assert_eq!(found.neighbors, plain.neighbors, "ties by slot");
        }
        let same = Rows::new(Values::F32(vec![0.5; 64 * 3000].into()), 64).unwrap();
        let made = Made::new(&same, &rows, Metric::L2);
        let [found, plain] = made.found(&run, 1, SIZES).unwrap();
        assert_eq!(found.neighbors, plain.neighbors, "of one row");
    }

    #[test]
    fn short_runs_and_runs_for_many_neighbors_are_compared_by_codes() {
        let rows = clustered(4000, 24, 5);
        let made = Made::new(&rows, &rows, Metric::L2);
        let run: Vec<u32> = (0..4000).collect();
        let least = LEAST_ROWS as usize;
        for (n, sizes) in [(0, SIZES), (5, SIZES), (least - 1, SIZES), (3583, (100, 220))] {
            let [found, plain] = made.found(&run[..n], 7, sizes).unwrap();
            assert_eq!(found, plain, "{n} rows");
        }
        for (n, (k, n_rerank)) in [(least, (1, 22)), (least, SIZES), (3584, (100, 220))] {
            let [found, _] = made.found(&run[..n], 7, (k, n_rerank)).unwrap();
            assert_eq!((found.touched.n_signs, found.neighbors.len()), (n as u64, k));
        }
        let past: Vec<u32> = (1..=4000).collect();
        assert_eq!(made.found(&past, 0, SIZES).unwrap_err().code(), "slot_range");
    }
}
