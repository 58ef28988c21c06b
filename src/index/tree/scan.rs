//! How the rows of a list are compared with a query.

use crate::backend::resident::Resident;
use crate::backend::{Backend, Stream};
use crate::core::metric::Metric;
use crate::core::rows::{Rows, Values};
use crate::distance::Level;
use crate::distance::simd::{Kernels, Sum};
use crate::error::{Error, ErrorKind, Result};

/// Norms whose products, and whose inverses' products, stay within 32-bit floats.
const COMFORTABLE: std::ops::RangeInclusive<f64> = 1e-9..=1e9;

/// One query's distances to any rows.
pub trait Scan {
    /// Sets `out` to the distances of the rows `slots`, in their order; smaller is nearer.
    ///
    /// # Errors
    /// `slot_range`; what the device says.
    fn distances(&mut self, slots: &[u32], out: &mut Vec<f32>) -> Result<()>;
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
}

/// Rows of floats in memory, and what cosine needs beside them: the short way for single queries.
pub struct FloatRows<'a> {
    rows: &'a Rows,
    metric: Metric,
    /// `1 / |row|` under cosine, otherwise empty.
    inverse: Vec<f32>,
}

impl<'a> FloatRows<'a> {
    /// Rows of 32- or 16-bit floats. Cost: under cosine one pass over the rows, and four bytes for each.
    ///
    /// # Errors
    /// `vector_dtype` for bytes and, under cosine, `vector_magnitude` for norms beyond 10^9 or under 10^-9, both of which
    /// [`BackendScan`] compares; those of [`Rows::check`].
    pub fn new(rows: &'a Rows, metric: Metric) -> Result<Self> {
        rows.check(metric)?;
        if rows.dtype().is_integer() {
            let message = format!("{}, expected f32 or f16", rows.dtype().name());
            return Err(Error::usage("vector_dtype", message));
        }
        let norms = if metric == Metric::Cosine { rows.norms() } else { Vec::new() };
        comfortable(&norms)?;
        let inverse = norms.iter().map(|norm| (1.0 / norm) as f32).collect();
        Ok(Self { rows, metric, inverse })
    }

    /// Query `q` of `queries`, of floats.
    ///
    /// # Errors
    /// `slot_range` if there is no such query; `vector_dim`, `vector_dtype`; as [`Self::new`] for a norm.
    pub fn scan(&self, queries: &Rows, q: usize) -> Result<FloatScan<'_>> {
        let query = one(queries, q)?;
        if query.dim() != self.rows.dim() {
            let message =
                format!("queries have {} values, rows have {}", query.dim(), self.rows.dim());
            return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
        }
        if query.dtype().is_integer() {
            let message =
                format!("{} queries, {} rows", query.dtype().name(), self.rows.dtype().name());
            return Err(Error::usage("vector_dtype", message));
        }
        query.check(self.metric)?;
        let mut values = vec![0.0; query.dim()];
        query.widen(0, &mut values);
        if self.metric == Metric::Cosine {
            let norms = query.norms();
            comfortable(&norms)?;
            values.iter_mut().for_each(|x| *x = (f64::from(*x) / norms[0]) as f32);
        }
        Ok(FloatScan { rows: self, query: values, starts: Vec::new() })
    }
}

fn comfortable(norms: &[f64]) -> Result<()> {
    match norms.iter().position(|norm| !COMFORTABLE.contains(norm)) {
        None => Ok(()),
        Some(row) => {
            let message = format!("row {row} has norm {:e}, expected 1e-9 to 1e9", norms[row]);
            Err(Error::new(ErrorKind::BadInput, "vector_magnitude", message))
        }
    }
}

fn one(queries: &Rows, q: usize) -> Result<Rows> {
    if q < queries.n_rows() {
        return Ok(queries.slice(q..q + 1));
    }
    Err(Error::usage("slot_range", format!("query {q} of {}", queries.n_rows())))
}

/// A query against [`FloatRows`].
pub struct FloatScan<'a> {
    rows: &'a FloatRows<'a>,
    query: Vec<f32>,
    starts: Vec<usize>,
}

impl Scan for FloatScan<'_> {
    fn distances(&mut self, slots: &[u32], out: &mut Vec<f32>) -> Result<()> {
        let (all, dim) = (self.rows.rows, self.query.len());
        if let Some(slot) = slots.iter().find(|&&slot| slot as usize >= all.n_rows()) {
            return Err(Error::usage("slot_range", format!("{slot} of {} rows", all.n_rows())));
        }
        self.starts.clear();
        self.starts.extend(slots.iter().map(|&slot| slot as usize * dim));
        out.clear();
        out.resize(slots.len(), 0.0);
        let sum = match self.rows.metric {
            Metric::Cosine | Metric::Dot => Sum::Dot,
            Metric::L2 => Sum::L2,
            Metric::L1 => Sum::L1,
        };
        let kernels = Kernels::at(Level::best());
        match all.values() {
            Values::F32(values) => kernels.rows_f32(sum, &self.query, values, &self.starts, out),
            Values::F16(values) => kernels.rows_f16(sum, &self.query, values, &self.starts, out),
            Values::U8(_) | Values::I8(_) => unreachable!("checked: rows are floats"),
        }
        match self.rows.metric {
            Metric::Cosine => {
                let inverse = slots.iter().map(|&slot| self.rows.inverse[slot as usize]);
                out.iter_mut().zip(inverse).for_each(|(x, inverse)| *x = 1.0 - *x * inverse);
            }
            Metric::Dot => out.iter_mut().for_each(|x| *x = -*x),
            Metric::L2 | Metric::L1 => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::backend::plain::{Plain, distance};
    use crate::core::mix::stream;
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
        for (dim, metric) in [1, 7, 300].into_iter().flat_map(|d| Metric::ALL.map(|m| (d, m))) {
            let (floats, queries) = (rows(50, dim, 1), rows(3, dim, 2));
            for base in [halves(&floats), floats] {
                let held = FloatRows::new(&base, metric).unwrap();
                let backend = Plain::new(1 << 30);
                let resident = backend.upload(Arc::new(base.clone()), metric).unwrap();
                let on = (&backend as &dyn Backend, Stream::default());
                let slots = [49, 0, 7, 7];
                for q in 0..3 {
                    let mut short = held.scan(&queries, q).unwrap();
                    let mut long = BackendScan::new(on, &resident, &queries, q).unwrap();
                    for scan in [&mut short as &mut dyn Scan, &mut long] {
                        let mut found = Vec::new();
                        scan.distances(&slots, &mut found).unwrap();
                        for (x, slot) in found.iter().zip(slots) {
                            let exact = distance(metric, (&queries, q), (&base, slot as usize));
                            // Sums of at most 300 terms of at most 4, in 32 bits.
                            let tolerance = 300.0 * 4.0 * f32::EPSILON * dim as f32;
                            assert!((x - exact).abs() <= tolerance, "{metric} {dim}: {x} {exact}");
                        }
                        assert_eq!(found.len(), 4);
                        assert_eq!(
                            scan.distances(&[50], &mut found).unwrap_err().code(),
                            "slot_range"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn rows_that_floats_cannot_compare_are_refused() {
        let bytes = Rows::new(Values::U8(vec![1, 2].into()), 2).unwrap();
        let tiny = Rows::new(Values::F32(vec![1e-12, 0.0].into()), 2).unwrap();
        let code = |rows, metric| FloatRows::new(rows, metric).err().map(|error| error.code());
        assert_eq!(code(&bytes, Metric::L2), Some("vector_dtype"));
        assert_eq!(code(&tiny, Metric::Cosine), Some("vector_magnitude"));
        assert_eq!(code(&tiny, Metric::L2), None);
        let (two, wide) = (rows(2, 2, 1), rows(1, 3, 1));
        let held = FloatRows::new(&two, Metric::L2).unwrap();
        let code = |rows, q| held.scan(rows, q).err().map(|error| error.code());
        assert_eq!(code(&wide, 0), Some("vector_dim"));
        assert_eq!(code(&bytes, 0), Some("vector_dtype"));
        assert_eq!(code(&two, 2), Some("slot_range"));
    }
}
