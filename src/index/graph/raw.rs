//! Distances of raw rows: the plain way to walk, and the verdict on what codes propose.

use std::ops::Deref;
use std::sync::Arc;

use crate::backend::cpu::placed::Placed;
use crate::core::metric::Metric;
use crate::core::rows::{Dtype, Rows, Values};
use crate::distance::Level;
use crate::distance::simd::coded::prefetch;
use crate::distance::simd::{Kernels, Sum};
use crate::error::{Error, ErrorKind, Result};
use crate::index::graph::distances::Distances;
use crate::quant::rabitq::dot;

/// Rows that are compared at once.
const BLOCK: usize = 64;

/// Bytes at the head of a row that are asked for early, and its number beside it: the loop over rows asks for the rest. All of a
/// row at once takes more of the processor's buffers than there are (62 rows of 768 bytes: 2.3 us for 3.0).
const HEAD_BYTES: usize = 128;

/// Rows of any type under any metric; slot `i` is row `i`.
#[derive(Debug)]
pub struct RawRows<'a> {
    rows: Held<'a>,
    metric: Metric,
    kernels: &'static Kernels,
    /// For cosine: inverse norms, and a copy of the rows if some norm is not comfortable.
    placed: Placed,
}

#[derive(Debug)]
enum Held<'a> {
    Borrowed(&'a Rows),
    Shared(Arc<Rows>),
}

impl Deref for Held<'_> {
    type Target = Rows;

    #[inline]
    fn deref(&self) -> &Rows {
        match self {
            Self::Borrowed(rows) => rows,
            Self::Shared(rows) => rows,
        }
    }
}

/// A query of [`RawRows`].
#[derive(Clone, Debug)]
pub struct RawQuery {
    wide: Wide,
    inverse: f32,
}

#[derive(Clone, Debug)]
enum Wide {
    Floats(Vec<f32>),
    Bytes(Vec<i16>),
}

impl<'a> RawRows<'a> {
    /// Rows compared by `metric`. Cost: one pass for cosine, and a copy if some norm is not comfortable.
    ///
    /// # Errors
    /// Those of [`Rows::check`].
    pub fn new(rows: &'a Rows, metric: Metric) -> Result<Self> {
        rows.check(metric)?;
        let placed = match metric {
            Metric::Cosine => Placed::new(rows, metric),
            _ => Placed::default(),
        };
        let kernels = Kernels::at(Level::best());
        Ok(Self { rows: Held::Borrowed(rows), metric, kernels, placed })
    }

    /// Rows that are shared, with what was kept beside them: none is looked at.
    ///
    /// # Errors
    /// Those of [`Placed::check`].
    pub fn placed(rows: Arc<Rows>, metric: Metric, placed: Placed) -> Result<RawRows<'static>> {
        placed.check(&rows, metric)?;
        let kernels = Kernels::at(Level::best());
        Ok(RawRows { rows: Held::Shared(rows), metric, kernels, placed })
    }

    /// Row `i` of `queries` as a query.
    ///
    /// # Errors
    /// `vector_dim`; `vector_dtype` if only one side is of bytes, or of other bytes; those of [`Rows::check`].
    pub fn query(&self, queries: &Rows, i: usize) -> Result<RawQuery> {
        if queries.dim() != self.rows.dim() {
            let message = format!("{} values, expected {}", queries.dim(), self.rows.dim());
            return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
        }
        let (ours, theirs) = (self.rows.dtype(), queries.dtype());
        if ours != theirs && (ours.is_integer() || theirs.is_integer()) {
            let message = format!("{}, expected {}", theirs.name(), ours.name());
            return Err(Error::usage("vector_dtype", message));
        }
        check_query(queries, i, self.metric)?;
        Ok(self.prepared(queries, i))
    }

    /// As the processor's backend prepares a query, so that distances are those of [`Backend::gather`], bit for bit.
    ///
    /// [`Backend::gather`]: crate::backend::Backend::gather
    fn prepared(&self, rows: &Rows, i: usize) -> RawQuery {
        let range = i * rows.dim()..(i + 1) * rows.dim();
        let (mut scaled, mut inverse) = (None, 1.0);
        if self.metric == Metric::Cosine {
            let placed = Placed::new(&rows.slice(i..i + 1), self.metric);
            (scaled, inverse) = (placed.scaled, placed.inverse[0]);
        }
        let wide = match (scaled, rows.values()) {
            (Some(scaled), _) => Wide::Floats(scaled.into_vec()),
            (None, Values::U8(values)) => {
                Wide::Bytes(values[range].iter().map(|&x| x.into()).collect())
            }
            (None, Values::I8(values)) => {
                Wide::Bytes(values[range].iter().map(|&x| x.into()).collect())
            }
            (None, Values::F32(values)) => Wide::Floats(values[range].to_vec()),
            (None, Values::F16(_)) => {
                let mut row = vec![0.0; rows.dim()];
                widen(rows, i, &mut row);
                Wide::Floats(row)
            }
        };
        RawQuery { wide, inverse }
    }

    /// Distances of the rows `slots`, whose elements begin at `starts`.
    fn measure_at(&self, query: &RawQuery, (slots, starts): (&[u32], &[usize]), out: &mut [f32]) {
        match self.metric {
            Metric::L2 => self.sums(Sum::L2, query, starts, out),
            Metric::L1 => self.sums(Sum::L1, query, starts, out),
            Metric::Dot => {
                self.sums(Sum::Dot, query, starts, out);
                out.iter_mut().for_each(|x| *x = -*x);
            }
            Metric::Cosine => {
                self.sums(Sum::Dot, query, starts, out);
                let inverse: &[f32] = &self.placed.inverse;
                for (x, &slot) in out.iter_mut().zip(slots) {
                    *x = 1.0 - *x * (query.inverse * inverse[slot as usize]);
                }
            }
        }
    }

    fn sums(&self, sum: Sum, query: &RawQuery, starts: &[usize], out: &mut [f32]) {
        match (&query.wide, self.rows.values()) {
            (Wide::Floats(query), Values::F32(values)) => {
                let values: &[f32] = self.placed.scaled.as_ref().unwrap_or(values);
                self.kernels.rows_f32(sum, query, values, starts, out);
            }
            (Wide::Floats(query), Values::F16(values)) => {
                self.kernels.rows_f16(sum, query, values, starts, out);
            }
            (Wide::Bytes(query), values) => {
                let mut sums = vec![0; out.len()];
                match values {
                    Values::U8(values) => {
                        self.kernels.rows_u8(sum, query, values, starts, &mut sums);
                    }
                    Values::I8(values) => {
                        self.kernels.rows_i8(sum, query, values, starts, &mut sums);
                    }
                    _ => unreachable!("checked: queries and rows are bytes of one kind"),
                }
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
            }
            _ => unreachable!("checked: queries and rows are floats"),
        }
    }
}

/// Fails if row `i` cannot be compared by `metric`.
///
/// # Errors
/// Those of [`Rows::check`].
pub(super) fn check_query(queries: &Rows, i: usize, metric: Metric) -> Result<()> {
    let mut elements = i * queries.dim()..(i + 1) * queries.dim();
    let is_fine = match metric {
        // A norm is not 0 if an element is not.
        Metric::Cosine => elements.any(|at| queries.values().get(at) != 0.0),
        _ => queries.dtype() != Dtype::F32,
    };
    if is_fine { Ok(()) } else { queries.slice(i..i + 1).check(metric) }
}

/// Row `i`, widened.
pub(super) fn widen(rows: &Rows, i: usize, out: &mut [f32]) {
    match rows.values() {
        Values::F16(values) => {
            let row = &values[i * rows.dim()..(i + 1) * rows.dim()];
            Kernels::at(Level::best()).widen_f16(row, out);
        }
        _ => rows.widen(i, out),
    }
}

/// Scales a row to norm 1.
pub(super) fn to_norm_1(row: &mut [f32]) {
    let per_norm = 1.0 / dot(row, row).sqrt();
    row.iter_mut().for_each(|x| *x = (f64::from(*x) * per_norm) as f32);
}

impl Distances for RawRows<'_> {
    type Query = RawQuery;

    fn n_slots(&self) -> usize {
        self.rows.n_rows()
    }

    fn query_of(&self, slot: u32) -> RawQuery {
        self.prepared(&self.rows, slot as usize)
    }

    fn measure(&self, query: &RawQuery, slots: &[u32], out: &mut [f32]) {
        let mut starts = [0; BLOCK];
        for (slots, out) in slots.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
            let starts = &mut starts[..slots.len()];
            for (start, &slot) in starts.iter_mut().zip(slots) {
                *start = slot as usize * self.rows.dim();
            }
            self.measure_at(query, (slots, starts), out);
        }
    }

    #[inline]
    fn prefetch(&self, slot: u32) {
        let start = slot as usize * self.rows.dim();
        let n = self.rows.dim().min(HEAD_BYTES / self.rows.dtype().bytes());
        match self.rows.values() {
            Values::F32(values) => {
                prefetch(self.placed.scaled.as_ref().unwrap_or(values), start, n);
            }
            Values::F16(values) => prefetch(values, start, n),
            Values::U8(values) => prefetch(values, start, n),
            Values::I8(values) => prefetch(values, start, n),
        }
        prefetch(&self.placed.inverse, slot as usize, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::backend::{Backend, Stream};
    use crate::distance::scalar;

    #[test]
    fn distances_are_those_of_the_definition_for_any_norm() {
        for scale in [1.0f32, 1e-30, 1e30] {
            let values: Vec<f32> = (0..40).map(|i| ((i * 7 % 11) as f32 - 4.5) * scale).collect();
            let rows = Rows::new(Values::F32(values.clone().into()), 10).unwrap();
            let raw = RawRows::new(&rows, Metric::Cosine).unwrap();
            let mut out = [0.0; 4];
            raw.measure(&raw.query(&rows, 2).unwrap(), &[0, 1, 2, 3], &mut out);
            for (row, got) in values.chunks(10).zip(out) {
                let wide = |a: &[f32]| a.iter().map(|x| x / scale).collect::<Vec<f32>>();
                let (a, b) = (wide(row), wide(&values[20..30]));
                let norms = (scalar::dot(&a, &a) * scalar::dot(&b, &b)).sqrt();
                let want = 1.0 - scalar::dot(&a, &b) / norms;
                assert!((f64::from(got) - want).abs() < 1e-6, "{scale}: {got} for {want}");
            }
        }
    }

    #[test]
    fn distances_are_those_of_the_backend_bit_for_bit() {
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        let backend = Cpu::new(pool, 1 << 30);
        let number = |i: usize| (i * 7 % 23) as f32 / 3.0 - 3.3;
        let (n, dim) = (40, 37);
        let all = || (0..n * dim).map(number);
        let kinds: [Values; 5] = [
            Values::F32(all().collect()),
            Values::F32(all().map(|x| x * 1e25).collect()),
            Values::F16(all().map(half::f16::from_f32).collect()),
            Values::U8(all().map(|x| (x + 4.0) as u8 * 9).collect()),
            Values::I8(all().map(|x| x as i8 * 9).collect()),
        ];
        for (values, metric) in kinds.iter().flat_map(|v| Metric::ALL.map(|metric| (v, metric))) {
            let rows = Arc::new(Rows::new(values.clone(), dim).unwrap());
            if rows.check(metric).is_err() {
                continue;
            }
            let raw = RawRows::new(&rows, metric).unwrap();
            let resident = backend.upload(Arc::clone(&rows), metric).unwrap();
            let slots: Vec<u32> = (0..n as u32).rev().collect();
            for q in 0..n {
                let query = rows.slice(q..q + 1);
                let lists = [slots.clone()];
                let want = backend.gather(Stream::default(), &query, &resident, &lists).unwrap();
                let mut got = vec![0.0; n];
                raw.measure(&raw.query(&query, 0).unwrap(), &slots, &mut got);
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                assert_eq!(bits(&got), bits(&want[0]), "{:?} {metric}", rows.dtype());
            }
        }
    }

    #[test]
    fn queries_that_do_not_fit_are_refused() {
        let bytes = Rows::new(Values::U8(vec![1; 8].into()), 4).unwrap();
        let floats = Rows::new(Values::F32(vec![1.0; 8].into()), 4).unwrap();
        let longer = Rows::new(Values::U8(vec![1; 8].into()), 8).unwrap();
        let raw = RawRows::new(&bytes, Metric::L2).unwrap();
        assert_eq!(raw.query(&floats, 0).unwrap_err().code(), "vector_dtype");
        assert_eq!(raw.query(&longer, 0).unwrap_err().code(), "vector_dim");
        let zero = Rows::new(Values::F32(vec![0.0; 4].into()), 4).unwrap();
        let raw = RawRows::new(&floats, Metric::Cosine).unwrap();
        assert_eq!(raw.query(&zero, 0).unwrap_err().code(), "vector_zero_norm");
    }
}
