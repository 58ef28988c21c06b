//! How the rows of a list are compared with a query.

use crate::backend::resident::Resident;
use crate::backend::{Backend, Stream};
use crate::core::rows::Rows;
use crate::error::{Error, Result};
use crate::index::graph::distances::Distances;

/// One query's distances to any rows.
pub trait Scan {
    /// Sets `out` to the distances of the rows `slots`, in their order; smaller is nearer.
    ///
    /// # Errors
    /// `slot_range`; what the device says.
    fn distances(&mut self, slots: &[u32], out: &mut Vec<f32>) -> Result<()>;

    /// Says which rows are likely to be asked for next; any slots will do.
    fn prefetch(&mut self, slots: &[u32]);
}

/// Raw rows of any type on any backend.
pub struct BackendScan<'a> {
    backend: &'a dyn Backend,
    stream: Stream,
    rows: &'a Resident,
    query: Rows,
}

impl<'a> BackendScan<'a> {
    /// Query `q` of `queries` against resident rows.
    ///
    /// # Errors
    /// `slot_range` if there is no such query.
    pub fn new(
        (backend, stream): (&'a dyn Backend, Stream),
        rows: &'a Resident,
        queries: &Rows,
        q: usize,
    ) -> Result<Self> {
        Ok(Self { backend, stream, rows, query: one(queries, q)? })
    }
}

impl Scan for BackendScan<'_> {
    fn distances(&mut self, slots: &[u32], out: &mut Vec<f32>) -> Result<()> {
        let lists = [slots.to_vec()];
        let mut found = self.backend.gather(self.stream, &self.query, self.rows, &lists)?;
        *out = found.pop().expect("a list for the query");
        Ok(())
    }

    /// Nothing: a call to the backend takes far longer than memory.
    fn prefetch(&mut self, _: &[u32]) {}
}

fn one(queries: &Rows, q: usize) -> Result<Rows> {
    if q < queries.n_rows() {
        return Ok(queries.slice(q..q + 1));
    }
    Err(Error::usage("slot_range", format!("query {q} of {}", queries.n_rows())))
}

/// Rows that are compared at once, while memory is asked for as many more.
const BLOCK: usize = 16;

/// Codes or raw rows in memory: the short way for single queries.
pub struct DistanceScan<'a, D: Distances> {
    distances: &'a D,
    query: &'a D::Query,
}

impl<'a, D: Distances> DistanceScan<'a, D> {
    /// One of these distances' queries.
    pub fn new(distances: &'a D, query: &'a D::Query) -> Self {
        Self { distances, query }
    }
}

impl<D: Distances> Scan for DistanceScan<'_, D> {
    fn distances(&mut self, slots: &[u32], out: &mut Vec<f32>) -> Result<()> {
        let last = slots.iter().fold(0, |last, &slot| last.max(slot)) as usize;
        if last >= self.distances.n_slots() && !slots.is_empty() {
            let message = format!("{last} of {} rows", self.distances.n_slots());
            return Err(Error::usage("slot_range", message));
        }
        out.resize(slots.len(), 0.0);
        let ahead = slots.len().min(BLOCK);
        slots[..ahead].iter().for_each(|&slot| self.distances.prefetch(slot));
        let mut rest = &slots[ahead..];
        for (block, out) in slots.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
            let (next, later) = rest.split_at(rest.len().min(BLOCK));
            next.iter().for_each(|&slot| self.distances.prefetch(slot));
            rest = later;
            self.distances.measure(self.query, block, out);
        }
        Ok(())
    }

    fn prefetch(&mut self, slots: &[u32]) {
        slots.iter().take(BLOCK).for_each(|&slot| self.distances.prefetch(slot));
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::backend::plain::{Plain, distance};
    use crate::core::metric::Metric;
    use crate::core::mix::stream;
    use crate::core::rows::Values;
    use crate::index::graph::raw::RawRows;
    use std::sync::Arc;

    fn rows(n: usize, dim: usize, seed: u64) -> Rows {
        let element = |i| (stream(seed, i) % 1000) as f32 / 500.0 - 0.99;
        Rows::new(Values::F32((0..(n * dim) as u64).map(element).collect()), dim).unwrap()
    }

    #[test]
    fn both_scans_give_the_distances_of_the_specification() {
        let halves = |rows: &Rows| {
            let Values::F32(values) = rows.values() else { unreachable!() };
            Rows::new(Values::F16(values.iter().map(|&x| f16::from_f32(x)).collect()), rows.dim())
                .unwrap()
        };
        // More than two blocks, in no order.
        let slots: Vec<u32> = (0..41).map(|i| i * 29 % 50).chain([7, 7]).collect();
        for (dim, metric) in [1, 7, 300].into_iter().flat_map(|d| Metric::ALL.map(|m| (d, m))) {
            let (floats, queries) = (rows(50, dim, 1), rows(3, dim, 2));
            for base in [halves(&floats), floats] {
                let raw = RawRows::new(&base, metric).unwrap();
                let backend = Plain::new(1 << 30);
                let resident = backend.upload(Arc::new(base.clone()), metric).unwrap();
                let on = (&backend as &dyn Backend, Stream::default());
                for q in 0..3 {
                    let query = raw.query(&queries, q).unwrap();
                    let mut short = DistanceScan::new(&raw, &query);
                    let mut long = BackendScan::new(on, &resident, &queries, q).unwrap();
                    for scan in [&mut short as &mut dyn Scan, &mut long] {
                        let mut found = vec![9.0; 7];
                        scan.distances(&slots, &mut found).unwrap();
                        for (x, &slot) in found.iter().zip(&slots) {
                            let exact = distance(metric, (&queries, q), (&base, slot as usize));
                            // Sums of at most 300 terms of at most 4, in 32 bits.
                            let tolerance = 300.0 * 4.0 * f32::EPSILON * dim as f32;
                            assert!((x - exact).abs() <= tolerance, "{metric} {dim}: {x} {exact}");
                        }
                        assert_eq!(found.len(), slots.len());
                        let error = scan.distances(&[0, 50], &mut found).unwrap_err();
                        assert_eq!(error.code(), "slot_range");
                    }
                }
            }
        }
    }
}
