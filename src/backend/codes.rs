//! RaBitQ codes as backends see them: bit planes, factors, prepared queries. `quant/rabitq.rs` makes them.
//!
//! A row of `dim` elements (padded to a multiple of 64) is a code `u` of four bits per element, in two parts: the sign plane,
//! whose bit says `r_i > 0`, and three planes of the rest. With one bit `u = s`, with four `u = 8 s + 4 e₂ + 2 e₁ + e₀`. The
//! distance between the row and a query, either with one bit or with four, is estimated by
//!
//! ```text
//! estimate = row.add + query.add + row.rescale · (⟨u, q⟩ + c · Σ q)      c = -1/2 with one bit, -15/2 with four
//! |distance - estimate| ≤ row.err · query.err                            with a chance that `quant` sets
//! ```
//!
//! where `q` is the query's residual on a grid: `q_i = lo + step · n_i` with integer `n_i`. All sums over elements are then
//! popcounts of `plane AND plane`, exact integers on every backend.
//!
//! Paper: Gao, Long, "RaBitQ", SIGMOD 2024, 3.2-3.3; Gao et al., "Practical and asymptotically optimal quantization", 2024.

use bytemuck::{Pod, Zeroable};

use crate::core::metric::Metric;
use crate::core::slab::Slab;
use crate::error::{Error, ErrorKind, Result};

/// Planes of a code beside its sign plane.
pub const EXTRA_PLANES: usize = 3;

/// What turns an inner product of codes into a distance.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Factors {
    /// Added.
    pub add: f32,
    /// Multiplies the inner product.
    pub rescale: f32,
    /// Half width of the bounds, for a query residual of norm 1.
    pub err: f32,
}

/// Codes of many rows, each plane of a row in whole words, element 0 in the lowest bit of the first.
#[derive(Clone, Debug, PartialEq)]
pub struct RabitqCodes {
    /// What the factors estimate.
    pub metric: Metric,
    /// Rows.
    pub n_rows: usize,
    /// 64-bit words of one plane of one row: padded elements over 64.
    pub n_words: usize,
    /// `[n_rows, n_words]`.
    pub signs: Slab<u64>,
    /// `[n_rows, EXTRA_PLANES, n_words]`, weights 1, 2, 4.
    pub extra: Slab<u64>,
    /// `[n_rows]`, for the sign plane alone.
    pub coarse: Slab<Factors>,
    /// `[n_rows]`, for all four bits.
    pub fine: Slab<Factors>,
}

impl RabitqCodes {
    /// Fails if the parts do not fit one another.
    ///
    /// # Errors
    /// `codes_shape`.
    pub fn check(&self) -> Result<()> {
        let plane = self.n_rows * self.n_words;
        let fits = self.signs.len() == plane
            && self.extra.len() == plane * EXTRA_PLANES
            && self.coarse.len() == self.n_rows
            && self.fine.len() == self.n_rows
            && self.n_words > 0;
        if fits {
            return Ok(());
        }
        let message = format!(
            "{} rows of {} words with {} sign words, {} extra words, {} and {} factors",
            self.n_rows,
            self.n_words,
            self.signs.len(),
            self.extra.len(),
            self.coarse.len(),
            self.fine.len()
        );
        Err(Error::new(ErrorKind::BadInput, "codes_shape", message))
    }

    /// Bytes of all parts.
    pub fn n_bytes(&self) -> u64 {
        ((self.signs.len() + self.extra.len()) * 8 + self.n_rows * 2 * size_of::<Factors>()) as u64
    }
}

/// A query residual on a grid of `2^n_planes` steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planes {
    /// `[n_planes, n_words]`, weights 1, 2, 4, ...
    pub words: Vec<u64>,
    /// Number of planes.
    pub n_planes: usize,
    /// Least grid point.
    pub lo: f32,
    /// Distance of grid points.
    pub step: f32,
    /// `Σ q_i` over all elements, of the grid points.
    pub sum: f32,
}

/// A query prepared for lists of one centroid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RabitqQuery {
    /// For the sign plane: four planes.
    pub coarse: Planes,
    /// For all four bits: eight planes.
    pub fine: Planes,
    /// Added to every estimate.
    pub add: f32,
    /// Multiplies [`Factors::err`] of the one-bit estimate.
    pub coarse_err: f32,
    /// Multiplies [`Factors::err`] of the four-bit estimate.
    pub fine_err: f32,
}

/// A row that may be among the nearest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Survivor {
    /// Row number.
    pub slot: u32,
    /// Four-bit estimate of the distance.
    pub estimate: f32,
    /// The distance is hardly below this.
    pub lower: f32,
    /// The distance is hardly above this.
    pub upper: f32,
}

/// `-(2^bits - 1) / 2`: the offset that centres a code of so many bits.
pub const fn centre(bits: u32) -> f32 {
    -(((1u32 << bits) - 1) as f32) / 2.0
}

/// The estimate of one row: `dot` is the integer `⟨u, n⟩`, `ones` the integer `Σ u`. The order of operations is part of
/// the contract, so that backends agree to the last bits.
#[inline(always)]
pub fn estimate(row: Factors, add: f32, query: &Planes, dot: u32, ones: u32, centre: f32) -> f32 {
    let product = query.lo * ones as f32 + query.step * dot as f32;
    row.add + add + row.rescale * (product + centre * query.sum)
}
