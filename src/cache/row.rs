//! One vector: how it is kept, and how near another is.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::distance::scalar;
use crate::error::{Error, ErrorKind, Result};

/// A unit vector that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Query(Vec<f32>);

impl Query {
    /// The vector at norm 1.
    ///
    /// # Errors
    /// `vector_dim`, `vector_not_finite`, `vector_zero_norm`.
    pub fn new(vector: &[f32], dim: usize) -> Result<Self> {
        let refused = |code, message: String| Err(Error::new(ErrorKind::BadInput, code, message));
        if vector.len() != dim {
            let message = format!("a vector of {} values, the cache has {dim}", vector.len());
            return refused("vector_dim", message);
        }
        if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
            return refused("vector_not_finite", format!("element {at} is {}", vector[at]));
        }
        let norm = scalar::dot(vector, vector).sqrt();
        if norm == 0.0 {
            return refused("vector_zero_norm", "all elements are 0: there is no direction".into());
        }
        Ok(Self(vector.iter().map(|&x| (f64::from(x) / norm) as f32).collect()))
    }

    /// Its elements.
    pub fn row(&self) -> &[f32] {
        &self.0
    }

    /// As it is kept: elements of 16 bits, some of which round to 0.
    pub fn kept(&self) -> Vec<f16> {
        self.0.iter().map(|&x| f16::from_f32(x)).collect()
    }

    /// The query that equals a kept row.
    pub fn of_kept(row: &[f16]) -> Self {
        Self(wide(row))
    }

    /// The verdict: the cosine with a kept row, in `[-1, 1]`, summed in 64 bits.
    pub fn cosine(&self, row: &[f16]) -> f32 {
        let row = wide(row);
        let norms = scalar::dot(&self.0, &self.0) * scalar::dot(&row, &row);
        let cosine = scalar::dot(&self.0, &row) / norms.sqrt();
        // A row whose elements all round to 0 has no direction.
        if cosine.is_nan() { -1.0 } else { cosine.clamp(-1.0, 1.0) as f32 }
    }
}

/// With 32 bits an element.
fn wide(row: &[f16]) -> Vec<f32> {
    let mut wide = vec![0.0; row.len()];
    row.convert_to_f32_slice(&mut wide);
    wide
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_as_near_as_can_be_to_itself_as_it_is_kept() {
        let query = Query::new(&[3.0, -4.0, 1e-3, 7.7], 4).unwrap();
        let kept = query.kept();
        assert!(query.cosine(&kept) > 0.999_999, "{}", query.cosine(&kept));
        assert_eq!(Query::of_kept(&kept).cosine(&kept), 1.0);
        let opposite: Vec<f16> = kept.iter().map(|&x| -x).collect();
        assert_eq!(Query::of_kept(&kept).cosine(&opposite), -1.0);
    }

    #[test]
    fn what_has_no_direction_is_refused() {
        for (vector, code) in [
            (&[0.0, -0.0][..], "vector_zero_norm"),
            (&[1.0, f32::NAN], "vector_not_finite"),
            (&[1.0], "vector_dim"),
        ] {
            assert_eq!(Query::new(vector, 2).unwrap_err().code(), code);
        }
    }
}
