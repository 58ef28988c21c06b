//! Rows of numbers, checked once at the door.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::core::limits::DIM;
use crate::core::metric::Metric;
use crate::core::slab::Slab;
use crate::error::{Error, ErrorKind, Result};

/// Element type of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// 16-bit floats (IEEE), widened to 32 bits before arithmetic.
    F16,
    /// Bytes from 0 to 255; distances between them are exact integers.
    U8,
    /// Bytes from -127 to 127 (-128 is refused, so that `-x` exists); exact integers as well.
    I8,
}

impl Dtype {
    /// All element types.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::U8, Self::I8];

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::U8 | Self::I8 => 1,
        }
    }

    /// Whether sums of products are exact integers, equal bit for bit on every backend.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::U8 | Self::I8)
    }

    /// The name, as shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::U8 => "u8",
            Self::I8 => "int8",
        }
    }
}

/// The elements of rows, row after row, owned or lent.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// See [`Dtype::F32`].
    F32(Slab<f32>),
    /// See [`Dtype::F16`].
    F16(Slab<f16>),
    /// See [`Dtype::U8`].
    U8(Slab<u8>),
    /// See [`Dtype::I8`].
    I8(Slab<i8>),
}

impl Values {
    /// Element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
            Self::U8(_) => Dtype::U8,
            Self::I8(_) => Dtype::I8,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as bytes, little-endian.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::F16(values) => bytemuck::cast_slice(values),
            Self::U8(values) => values,
            Self::I8(values) => bytemuck::cast_slice(values),
        }
    }

    /// Element `i`, widened.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Self::F32(values) => values[i],
            Self::F16(values) => values[i].to_f32(),
            Self::U8(values) => f32::from(values[i]),
            Self::I8(values) => f32::from(values[i]),
        }
    }
}

/// `[n_rows, dim]`, row-major, every element finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    values: Values,
    n_rows: usize,
    dim: usize,
}

impl Rows {
    /// Rows of `dim` elements each.
    ///
    /// # Errors
    /// `dim_range`; `vector_dim` if the elements do not fill rows; `vector_not_finite` and `vector_int8`, which
    /// name row and position; `too_many_rows`.
    pub fn new(values: Values, dim: usize) -> Result<Self> {
        let n_rows = n_rows(&values, dim)?;
        let bad = match &values {
            Values::F32(values) => values.iter().position(|x| !x.is_finite()),
            Values::F16(values) => values.iter().position(|x| !x.is_finite()),
            Values::U8(_) => None,
            Values::I8(values) => values.iter().position(|&x| x == i8::MIN),
        };
        if let Some(at) = bad {
            let place = format!("row {}, element {}", at / dim, at % dim);
            let (code, message) = match &values {
                Values::I8(_) => ("vector_int8", format!("{place} is -128, expected -127 to 127")),
                _ => ("vector_not_finite", format!("{place} is {}", values.get(at))),
            };
            return Err(Error::new(ErrorKind::BadInput, code, message));
        }
        Ok(Self { values, n_rows, dim })
    }

    /// Rows whose elements passed [`Self::new`] before they were sealed in a file. None of them is looked at, so that a map
    /// stays unread. That is enough: the file holds the bytes that passed, a verification finds any that flipped since, and
    /// until then one that is not finite can only make a wrong distance, which sorts like any other.
    ///
    /// # Errors
    /// Those of [`Self::new`] about sizes.
    pub fn trusted(values: Values, dim: usize) -> Result<Self> {
        let n_rows = n_rows(&values, dim)?;
        Ok(Self { values, n_rows, dim })
    }

    /// The elements.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Elements per row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.values.dtype()
    }

    /// Bytes of all elements.
    pub fn n_bytes(&self) -> u64 {
        (self.values.len() * self.dtype().bytes()) as u64
    }

    /// One row, widened into `out` `[dim]`.
    pub fn widen(&self, row: usize, out: &mut [f32]) {
        let range = row * self.dim..(row + 1) * self.dim;
        match &self.values {
            Values::F32(values) => out.copy_from_slice(&values[range]),
            Values::F16(values) => values[range].convert_to_f32_slice(out),
            _ => out.iter_mut().zip(range).for_each(|(x, i)| *x = self.values.get(i)),
        }
    }

    /// A copy of some rows.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let (n_rows, range) = (range.len(), range.start * self.dim..range.end * self.dim);
        let values = match &self.values {
            Values::F32(values) => Values::F32(values[range].to_vec().into()),
            Values::F16(values) => Values::F16(values[range].to_vec().into()),
            Values::U8(values) => Values::U8(values[range].to_vec().into()),
            Values::I8(values) => Values::I8(values[range].to_vec().into()),
        };
        Self { values, n_rows, dim: self.dim }
    }

    /// A copy of the rows with these numbers, in their order.
    pub fn picked(&self, rows: &[usize]) -> Self {
        fn of<T: Copy>(values: &[T], rows: &[usize], dim: usize) -> Slab<T> {
            let mut out = Vec::with_capacity(rows.len() * dim);
            rows.iter().for_each(|&row| out.extend_from_slice(&values[row * dim..(row + 1) * dim]));
            out.into()
        }
        let values = match &self.values {
            Values::F32(values) => Values::F32(of(values, rows, self.dim)),
            Values::F16(values) => Values::F16(of(values, rows, self.dim)),
            Values::U8(values) => Values::U8(of(values, rows, self.dim)),
            Values::I8(values) => Values::I8(of(values, rows, self.dim)),
        };
        Self { values, n_rows: rows.len(), dim: self.dim }
    }

    /// A copy of these rows and then others.
    ///
    /// # Panics
    /// If their type or dim is another.
    pub fn followed_by(&self, others: &Self) -> Self {
        assert_eq!(self.dim, others.dim, "rows of one dim");
        let values = match (&self.values, &others.values) {
            (Values::F32(a), Values::F32(b)) => Values::F32([&a[..], b].concat().into()),
            (Values::F16(a), Values::F16(b)) => Values::F16([&a[..], b].concat().into()),
            (Values::U8(a), Values::U8(b)) => Values::U8([&a[..], b].concat().into()),
            (Values::I8(a), Values::I8(b)) => Values::I8([&a[..], b].concat().into()),
            (a, b) => panic!("{} rows and {} rows", a.dtype().name(), b.dtype().name()),
        };
        Self { values, n_rows: self.n_rows + others.n_rows, dim: self.dim }
    }

    /// Euclidean norm of every row, summed in 64 bits, one element after another.
    pub fn norms(&self) -> Vec<f64> {
        fn one_by_one<T: Copy + Into<f64>>(row: &[T]) -> f64 {
            row.iter().map(|&x| x.into().powi(2)).sum::<f64>()
        }
        self.norms_by(one_by_one, one_by_one, one_by_one)
    }

    /// The same but for the last bits, in a fraction of the time: for what is rounded to 32 bits afterwards.
    pub fn rough_norms(&self) -> Vec<f64> {
        self.norms_by(side_by_side, side_by_side, side_by_side)
    }

    fn norms_by(
        &self,
        floats: fn(&[f32]) -> f64,
        bytes: fn(&[u8]) -> f64,
        signed: fn(&[i8]) -> f64,
    ) -> Vec<f64> {
        fn of<T>(values: &[T], dim: usize, square: fn(&[T]) -> f64) -> Vec<f64> {
            values.chunks_exact(dim).map(|row| square(row).sqrt()).collect()
        }
        match &self.values {
            Values::F32(values) => of(values, self.dim, floats),
            Values::F16(values) => {
                let mut wide = vec![0.0f32; self.dim];
                let norm = |row: &[f16]| {
                    row.convert_to_f32_slice(&mut wide);
                    floats(&wide).sqrt()
                };
                values.chunks_exact(self.dim).map(norm).collect()
            }
            Values::U8(values) => of(values, self.dim, bytes),
            Values::I8(values) => of(values, self.dim, signed),
        }
    }

    /// Fails if distances of these rows could not be computed under `metric` in 32-bit floats.
    ///
    /// # Errors
    /// `vector_zero_norm` for cosine; `vector_magnitude` for the others.
    pub fn check(&self, metric: Metric) -> Result<()> {
        if metric == Metric::Cosine {
            // A norm is 0 if all elements are: squares of 32-bit floats do not vanish in 64 bits.
            let is_zero = |row: &usize| {
                (row * self.dim..(row + 1) * self.dim).all(|i| self.values.get(i) == 0.0)
            };
            return (0..self.n_rows).find(is_zero).map_or(Ok(()), |row| {
                let message =
                    format!("row {row} cannot be used with cosine; use dot or l2, or drop it");
                Err(Error::new(ErrorKind::BadInput, "vector_zero_norm", message))
            });
        }
        // Two such rows apart: (2 x)² dim must stay below the largest number.
        let largest = (f64::from(f32::MAX) / (4.0 * self.dim as f64)).sqrt();
        if let Values::F32(values) = &self.values
            && let Some(at) = values.iter().position(|&x| f64::from(x).abs() >= largest)
        {
            let (row, value) = (at / self.dim, values[at]);
            let message = format!("row {row}: {value:e} is too big for metric {metric}");
            return Err(Error::new(ErrorKind::BadInput, "vector_magnitude", message));
        }
        Ok(())
    }
}

/// Squares that are summed side by side, so that none waits for the one before.
const CHAINS: usize = 8;

/// `Σ x²`, in [`CHAINS`] parts.
fn side_by_side<T: Copy + Into<f64>>(row: &[T]) -> f64 {
    let mut sums = [0.0; CHAINS];
    let (blocks, rest) = row.as_chunks::<CHAINS>();
    for block in blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            let x: f64 = x.into();
            *sum += x * x;
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        let x: f64 = x.into();
        *sum += x * x;
    }
    sums.iter().sum()
}

/// How many rows of `dim` elements these are.
fn n_rows(values: &Values, dim: usize) -> Result<usize> {
    if !(1..=DIM).contains(&dim) {
        let message = format!("{dim}, expected 1 to {DIM}");
        return Err(Error::new(ErrorKind::BadInput, "dim_range", message));
    }
    if !values.len().is_multiple_of(dim) {
        let message = format!("{} values do not fill rows of {dim}", values.len());
        return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
    }
    let n_rows = values.len() / dim;
    if n_rows > u32::MAX as usize {
        let message = format!("{n_rows} rows, expected at most {}", u32::MAX);
        return Err(Error::new(ErrorKind::Limit, "too_many_rows", message));
    }
    Ok(n_rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(rows: Result<Rows>) -> &'static str {
        rows.expect_err("refused").code()
    }

    #[test]
    fn what_is_not_a_row_is_refused_at_the_door() {
        assert_eq!(code(Rows::new(Values::F32(vec![1.0; 5].into()), 2)), "vector_dim");
        assert_eq!(code(Rows::new(Values::F32(vec![1.0; 5].into()), 0)), "dim_range");
        assert_eq!(code(Rows::new(Values::U8(vec![1; 16_385].into()), 16_385)), "dim_range");
        assert_eq!(
            code(Rows::new(Values::F32(vec![1.0, f32::NAN].into()), 2)),
            "vector_not_finite"
        );
        assert_eq!(
            code(Rows::new(Values::F16(vec![f16::INFINITY].into()), 1)),
            "vector_not_finite"
        );
        assert_eq!(code(Rows::new(Values::I8(vec![0, -128].into()), 1)), "vector_int8");
        let error = Rows::new(Values::F32(vec![0.0, 1.0, f32::INFINITY].into()), 1).unwrap_err();
        assert_eq!(error.to_string(), "vector_not_finite: row 2, element 0 is inf");
    }

    #[test]
    fn what_a_metric_cannot_compare_is_refused() {
        let rows = |values| Rows::new(Values::F32(values), 2).unwrap();
        assert_eq!(
            rows(vec![0.0, -0.0].into()).check(Metric::Cosine).unwrap_err().code(),
            "vector_zero_norm"
        );
        assert_eq!(
            rows(vec![1e19, 0.0].into()).check(Metric::L2).unwrap_err().code(),
            "vector_magnitude"
        );
        for (values, metric) in [
            (vec![1e-30, 0.0], Metric::Cosine),
            (vec![1e30, 1e30], Metric::Cosine),
            (vec![0.0, 0.0], Metric::L2),
        ] {
            rows(values.into()).check(metric).unwrap();
        }
    }

    #[test]
    fn rows_are_cut_and_widened() {
        let rows = Rows::new(Values::I8(vec![1, -2, 3, -4, 5, -6].into()), 2).unwrap();
        let mut row = [0.0; 2];
        rows.slice(1..3).widen(1, &mut row);
        assert_eq!((rows.n_rows(), row), (3, [5.0, -6.0]));
        assert_eq!(rows.norms()[0], 5.0f64.sqrt());
    }
}
