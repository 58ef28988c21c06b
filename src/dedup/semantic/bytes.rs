//! Rows as bytes, for the backend: which pairs may be near is asked of these, a quarter of the memory and a third of the time.
//!
//! The angle between a row and its bytes is known, so that rows at an angle `θ` have bytes at an angle of at most `θ` and
//! the largest angle of either side: nothing is missed, and a little more than the near pairs is found.

use std::sync::Arc;

use crate::backend::resident::Resident;
use crate::backend::{Backend, Pair, Stream, Tile};
use crate::core::metric::Metric;
use crate::core::rows::Rows;
use crate::error::Result;
use crate::quant::int8::Int8Codes;

/// Bytes of rows in the memory of a backend.
pub struct Bytes {
    resident: Resident,
    /// Largest angle between a row and its bytes.
    angle: f64,
}

impl Bytes {
    /// Places the bytes of rows, none of which is zero.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn place(backend: &dyn Backend, rows: &Rows) -> Result<Self> {
        let codes = Int8Codes::encode(Metric::Cosine, rows, None)?;
        // A unit row and the ray of its bytes are at most as far apart as the row and its bytes: the sine of the angle.
        let angle = f64::from(codes.worst().residual).min(1.0).asin();
        Ok(Self { resident: backend.upload(Arc::new(codes.rows), Metric::Cosine)?, angle })
    }

    /// Pairs of the tile that may be at or above `similarity`: all that are, and some that are not. Without `b`, pairs of
    /// rows of this side.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn near(
        &self,
        backend: &dyn Backend,
        b: Option<&Self>,
        tile: Tile,
        similarity: f64,
    ) -> Result<Vec<Pair>> {
        let angle = similarity.clamp(-1.0, 1.0).acos() + self.angle + b.unwrap_or(self).angle;
        let within = within(angle.min(std::f64::consts::PI).cos(), self.resident.host().dim());
        let b = b.map(|b| &b.resident);
        backend.pairs(Stream::default(), &self.resident, b, &[tile], within)
    }
}

/// Distance up to which a backend's 32-bit numbers may put a pair of this similarity.
fn within(similarity: f64, dim: usize) -> f32 {
    (1.0 - similarity) as f32 + (dim as f32 + 16.0) * f32::EPSILON
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::plain::Plain;
    use crate::core::mix::stream;
    use crate::core::rows::Values;
    use crate::dedup::semantic::{cosine, dot};

    #[test]
    fn every_near_pair_has_near_bytes() {
        let backend = Plain::new(1 << 30);
        for (dim, spike) in [(1, 1.0), (3, 1.0), (40, 1.0), (40, 30.0), (256, 1.0)] {
            let n = 60;
            let element = |i: u64| {
                let noise = (stream(9, i) >> 40) as f32 / (1 << 23) as f32 - 1.0;
                // Rows of one direction with noise, so that similarities of all sizes occur; some elements stand out.
                let row = (i / dim) as f32 / n as f32;
                let base = ((i % dim) as f32 + 0.5).sin();
                (base + 1.5 * row * noise) * if i.is_multiple_of(dim) { spike } else { 1.0 }
            };
            let values: Vec<f32> = (0..n * dim).map(element).collect();
            let rows = Rows::new(Values::F32(values.clone().into()), dim as usize).unwrap();
            let bytes = Bytes::place(&backend, &rows).unwrap();
            let row = |i: u32| &values[i as usize * dim as usize..][..dim as usize];
            for similarity in [-1.0, 0.0, 0.3, 0.8, 0.95, 0.999, 1.0] {
                let tile = Tile { a: 0..n as u32, b: 0..n as u32 };
                let near = bytes.near(&backend, None, tile, similarity).unwrap();
                for a in 0..n as u32 {
                    for b in a + 1..n as u32 {
                        let squares = (dot(row(a), row(a)), dot(row(b), row(b)));
                        let exact = f64::from(cosine(row(a), row(b), squares)) / f64::from(1 << 30);
                        let found = near.iter().any(|pair| (pair.a, pair.b) == (a, b));
                        assert!(found || exact < similarity, "{dim} {a} {b}: {exact} {similarity}");
                    }
                }
            }
        }
    }
}
