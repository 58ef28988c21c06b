//! One prepared query against any rows: the step of `distances`, `gather` and of scans for few queries.

use crate::backend::cpu::placed::Placed;
use crate::core::metric::Metric;
use crate::core::rows::{Rows, Values};
use crate::distance::simd::{Kernels, Sum};

/// What is summed for a metric.
pub fn sum_of(metric: Metric) -> Sum {
    match metric {
        Metric::Cosine | Metric::Dot => Sum::Dot,
        Metric::L2 => Sum::L2,
        Metric::L1 => Sum::L1,
    }
}

/// Rows as the processor reads them.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The rows as given.
    pub host: &'a Rows,
    /// What is kept beside them.
    pub placed: &'a Placed,
    /// What they are compared by.
    pub metric: Metric,
}

impl<'a> Source<'a> {
    /// The 32-bit floats that are compared, if rows are such.
    pub fn floats(&self) -> Option<&'a [f32]> {
        match (&self.placed.scaled, self.host.values()) {
            (Some(scaled), _) => Some(scaled),
            (None, Values::F32(values)) => Some(values),
            _ => None,
        }
    }
}

/// The elements of a query, widened once.
enum Wide {
    Floats(Vec<f32>),
    Bytes(Vec<i16>),
}

/// A query that is ready to meet rows one by one.
pub struct Line {
    wide: Wide,
    inverse: f32,
    metric: Metric,
    /// Sums of bytes.
    sums: Vec<i32>,
    starts: Vec<usize>,
}

impl Line {
    /// Query `q` of `queries`.
    pub fn new(queries: &Source<'_>, q: usize) -> Self {
        let dim = queries.host.dim();
        let range = q * dim..(q + 1) * dim;
        let wide = match (queries.floats(), queries.host.values()) {
            (Some(values), _) => Wide::Floats(values[range].to_vec()),
            (_, Values::U8(values)) => {
                Wide::Bytes(values[range].iter().map(|&x| i16::from(x)).collect())
            }
            (_, Values::I8(values)) => {
                Wide::Bytes(values[range].iter().map(|&x| i16::from(x)).collect())
            }
            _ => {
                let mut wide = vec![0.0; dim];
                queries.host.widen(q, &mut wide);
                Wide::Floats(wide)
            }
        };
        let inverse = queries.placed.inverse.get(q).copied().unwrap_or(1.0);
        Self { wide, inverse, metric: queries.metric, sums: Vec::new(), starts: Vec::new() }
    }

    /// Sets `out` to the distances of the rows `slots`.
    pub fn distances(
        &mut self,
        kernels: &Kernels,
        rows: &Source<'_>,
        slots: impl Iterator<Item = u32>,
        out: &mut [f32],
    ) {
        let dim = rows.host.dim();
        self.starts.clear();
        self.starts.extend(slots.map(|slot| slot as usize * dim));
        let (sum, starts) = (sum_of(self.metric), &self.starts);
        match (&self.wide, rows.host.values()) {
            (Wide::Floats(query), Values::F16(values)) => {
                kernels.rows_f16(sum, query, values, starts, out);
            }
            (Wide::Floats(query), _) => {
                let values = rows.floats().expect("checked: queries and rows are floats");
                kernels.rows_f32(sum, query, values, starts, out);
            }
            (Wide::Bytes(query), values) => {
                self.sums.resize(out.len(), 0);
                match values {
                    Values::U8(values) => {
                        kernels.rows_u8(sum, query, values, starts, &mut self.sums);
                    }
                    Values::I8(values) => {
                        kernels.rows_i8(sum, query, values, starts, &mut self.sums);
                    }
                    _ => unreachable!("checked: queries and rows are bytes of one kind"),
                }
                out.iter_mut().zip(&self.sums).for_each(|(out, &sum)| *out = sum as f32);
            }
        }
        self.finish(rows, dim, out);
    }

    fn finish(&self, rows: &Source<'_>, dim: usize, out: &mut [f32]) {
        match self.metric {
            Metric::Cosine => {
                for (x, start) in out.iter_mut().zip(&self.starts) {
                    *x = 1.0 - *x * (self.inverse * rows.placed.inverse[start / dim]);
                }
            }
            Metric::Dot => out.iter_mut().for_each(|x| *x = -*x),
            Metric::L2 | Metric::L1 => {}
        }
    }
}
