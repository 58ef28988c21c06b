//! Numbers as a file has them, and rows of the element type that they are kept in.

use half::f16;

use crate::core::rows::{Dtype, Rows, Values};
use crate::error::{Error, ErrorKind, Result};

/// Numbers of rows, row after row.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Of a type that rows have.
    Of(Values),
    /// 64-bit floats, which rows do not have.
    F64(Vec<f64>),
}

/// Says where row `i` of a block stands: `x.npy, row 7`.
pub type Place<'a> = &'a dyn Fn(usize) -> String;

impl Numbers {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Of(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type, if it is one of rows.
    pub fn dtype(&self) -> Option<Dtype> {
        match self {
            Self::Of(values) => Some(values.dtype()),
            Self::F64(_) => None,
        }
    }

    fn get(&self, i: usize) -> f64 {
        match self {
            Self::Of(values) => f64::from(values.get(i)),
            Self::F64(values) => values[i],
        }
    }

    /// The same numbers as rows of `dim` elements of type `dtype`. Floats are rounded to shorter floats; whole numbers stay
    /// what they are.
    ///
    /// # Errors
    /// `vector_not_finite` (also of what no 32-bit float is big enough for), `vector_range_f16`, `vector_range_u8`,
    /// `vector_int8`, each naming place, element and value; those of [`Rows::new`].
    pub fn into_rows(self, dim: usize, dtype: Dtype, place: Place<'_>) -> Result<Rows> {
        let values = match self {
            Self::Of(values) if values.dtype() == dtype => values,
            other => other.converted(dim, dtype, place)?,
        };
        if let Some(at) = (0..values.len()).find(|&i| is_refused(&values, i)) {
            let is_int8 = dtype == Dtype::I8;
            let code = if is_int8 { "vector_int8" } else { "vector_not_finite" };
            let expected = if is_int8 { ", expected -127 to 127" } else { "" };
            let what = format!("is {}{expected}", values.get(at));
            return Err(refused(code, place(at / dim.max(1)), at % dim.max(1), &what));
        }
        Rows::new(values, dim)
    }

    fn converted(&self, dim: usize, dtype: Dtype, place: Place<'_>) -> Result<Values> {
        let all = 0..self.len();
        let at =
            |i: usize, code, what: &str| refused(code, place(i / dim.max(1)), i % dim.max(1), what);
        Ok(match dtype {
            Dtype::F32 => {
                let one = |i| match self.get(i) as f32 {
                    single if single.is_infinite() && self.get(i).is_finite() => {
                        let what = format!("is {:e}, no finite 32-bit float", self.get(i));
                        Err(at(i, "vector_not_finite", &what))
                    }
                    single => Ok(single),
                };
                Values::F32(all.map(one).collect::<Result<_>>()?)
            }
            Dtype::F16 => {
                let one = |i| match f16::from_f64(self.get(i)) {
                    half if half.is_infinite() && self.get(i).is_finite() => {
                        let what = format!("is {}, expected at most 65504", self.get(i));
                        Err(at(i, "vector_range_f16", &what))
                    }
                    half => Ok(half),
                };
                Values::F16(all.map(one).collect::<Result<_>>()?)
            }
            Dtype::U8 => {
                let one = |i| match self.get(i) {
                    x if (0.0..=255.0).contains(&x) && x.fract() == 0.0 => Ok(x as u8),
                    x => {
                        let what = format!("is {x}, expected a whole number from 0 to 255");
                        Err(at(i, "vector_range_u8", &what))
                    }
                };
                Values::U8(all.map(one).collect::<Result<_>>()?)
            }
            Dtype::I8 => {
                let message = "int8 rows come from int8 numbers only";
                return Err(Error::usage("storage", message));
            }
        })
    }
}

fn is_refused(values: &Values, i: usize) -> bool {
    match values {
        Values::F32(values) => !values[i].is_finite(),
        Values::F16(values) => !values[i].is_finite(),
        Values::U8(_) => false,
        Values::I8(values) => values[i] == i8::MIN,
    }
}

fn refused(code: &'static str, place: String, element: usize, what: &str) -> Error {
    Error::new(ErrorKind::BadInput, code, format!("{place}, element {element} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(numbers: Numbers, dtype: Dtype) -> Result<Values> {
        let place = |row| format!("x, row {}", row + 10);
        numbers.into_rows(2, dtype, &place).map(|rows| rows.values().clone())
    }

    #[test]
    fn numbers_become_what_they_are_kept_as() {
        let wide = Numbers::F64(vec![0.1, 2.0, 255.0, -0.0]);
        let singles = vec![0.1f32, 2.0, 255.0, -0.0];
        assert_eq!(rows(wide.clone(), Dtype::F32).unwrap(), Values::F32(singles.clone().into()));
        let halves: Vec<f16> = singles.iter().map(|&x| f16::from_f32(x)).collect();
        assert_eq!(rows(wide, Dtype::F16).unwrap(), Values::F16(halves.clone().into()));
        let whole = Numbers::Of(Values::F16(vec![f16::from_f32(255.0), f16::NEG_ZERO].into()));
        assert_eq!(rows(whole, Dtype::U8).unwrap(), Values::U8(vec![255, 0].into()));
        let signed = Values::I8(vec![-127, 5].into());
        assert_eq!(rows(Numbers::Of(signed.clone()), Dtype::I8).unwrap(), signed);
        assert_eq!(
            rows(Numbers::Of(signed), Dtype::F32).unwrap(),
            Values::F32(vec![-127.0, 5.0].into())
        );
    }

    #[test]
    fn what_does_not_fit_names_place_element_and_value() {
        let single = |x: f32| Numbers::Of(Values::F32(vec![1.0, 1.0, 1.0, x].into()));
        for (numbers, dtype, message) in [
            (single(f32::NAN), Dtype::F32, "vector_not_finite: x, row 11, element 1 is NaN"),
            (single(f32::NAN), Dtype::F16, "vector_not_finite: x, row 11, element 1 is NaN"),
            (
                Numbers::F64(vec![1e39, 0.0]),
                Dtype::F32,
                "vector_not_finite: x, row 10, element 0 is 1e39, no finite 32-bit float",
            ),
            (
                single(65520.0),
                Dtype::F16,
                "vector_range_f16: x, row 11, element 1 is 65520, expected at most 65504",
            ),
            (
                single(0.5),
                Dtype::U8,
                "vector_range_u8: x, row 11, element 1 is 0.5, expected a whole number from 0 to 255",
            ),
            (
                single(256.0),
                Dtype::U8,
                "vector_range_u8: x, row 11, element 1 is 256, expected a whole number from 0 to 255",
            ),
            (
                Numbers::Of(Values::I8(vec![-128, 0].into())),
                Dtype::I8,
                "vector_int8: x, row 10, element 0 is -128, expected -127 to 127",
            ),
        ] {
            assert_eq!(rows(numbers, dtype).unwrap_err().to_string(), message);
        }
        assert_eq!(rows(single(65519.0), Dtype::F16).unwrap().get(3), 65504.0);
        assert_eq!(rows(single(1.0), Dtype::I8).unwrap_err().code(), "storage");
    }
}
