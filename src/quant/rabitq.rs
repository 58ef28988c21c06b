//! RaBitQ: one and four bits per element, with an unbiased estimate of every distance and bounds on its error.
//!
//! A row's residual `r = x - c` from its centroid is rotated at random and rounded to a grid `x̄`; a query's residual is
//! `s = q - c`. Then `⟨r, s⟩` is estimated by `|r|² / ⟨r, x̄⟩ · ⟨x̄, s⟩`, and distances follow:
//!
//! ```text
//! L2       |x - q|²  = |r|² + |s|² - 2 ⟨r, s⟩
//! dot      -⟨x, q⟩   = -⟨r, c⟩ - ⟨q, c⟩ - ⟨r, s⟩
//! cosine   the same plus 1, of rows and queries that were scaled to norm 1
//! ```
//!
//! **Bounds.** Write `ρ` for the cosine between `r` and `x̄`, `D` for the elements. `x̄ / (|x̄| ρ)` is `r / |r|` plus a vector
//! orthogonal to it, of norm `√(1/ρ² - 1)`, whose direction is random in the `D - 1` dimensions that remain: its product
//! with `s` has a standard deviation of at most `√((1/ρ² - 1) / (D - 1)) |s|`. The query is rounded too: what is multiplied
//! is `s' = s - δ`, and `x̄ / (|x̄| ρ)` times `δ` has a deviation of `|δ| / (ρ √D)`, for `δ` is fixed and `x̄` as random as the
//! rotation; both add as squares. So the error of `⟨r, s⟩` has a variance of at most
//!
//! ```text
//! |r|² / (ρ² (D - 1)) · ((1 - ρ²) |s|² + |δ|²)
//!     ≤ |r|² max(1 - ρ², g) / (ρ² (D - 1))  ·  (|s|² + |δ|² / g)        for any g > 0
//! ```
//!
//! where the first factor knows only the row and the second only the query: their roots are [`Factors::err`] (twice it for
//! L2) and, times `e0`, the query's. `g` stands a little below what `1 - ρ²` usually is, so that little is given away.
//! The sum of many small terms is nearly normal: a bound fails with the chance that a normal variable lies beyond `e0`
//! deviations (on one side: 2.9 % for 1.9, 0.0032 % for 4), less for near rows, whose `s` lies partly along `r`.
//!
//! Papers: Gao, Long, "RaBitQ", SIGMOD 2024, 3.2-3.3; Gao et al., "Practical and asymptotically optimal quantization", 2024,
//! 3.2. Ours: the query's own rounding is part of the bound; residuals of queries are taken after rotation.

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::backend::codes::{EXTRA_PLANES, Factors, Planes, RabitqCodes, RabitqQuery};
use crate::core::metric::Metric;
use crate::core::rows::Rows;
use crate::error::{Error, ErrorKind, Result};
use crate::quant::rotation::{Rotation, WORD};

/// Deviations between an estimate and its bounds that the papers use: 5.7 % of distances lie outside.
pub const E0_PAPER: f32 = 1.9;

/// `g` of the one-bit code: `1 - ρ²` is 0.36 on average, and rarely below 0.3.
const COARSE_SHARE: f64 = 0.3;

/// `g` of the four-bit code: `1 - ρ²` is 0.011 on average.
const FINE_SHARE: f64 = 0.009;

/// Grid points per deviation of an element at which 15 steps lose least of a normal variable (step 0.335).
const SCALE: f64 = 1.0 / 0.335;

/// Highest code of the planes beside the sign.
const TOP: f32 = 7.0;

/// Makes codes of rows and of queries.
#[derive(Clone, Debug)]
pub struct Rabitq {
    metric: Metric,
    rotation: Rotation,
    centroids: Vec<Centroid>,
}

#[derive(Clone, Debug)]
struct Centroid {
    raw: Vec<f32>,
    rotated: Vec<f32>,
}

/// A query of unit length where the metric asks for it, rotated once for all centroids.
#[derive(Clone, Debug)]
pub struct RotatedQuery {
    raw: Vec<f32>,
    rotated: Vec<f32>,
}

impl Rabitq {
    /// Codes of residuals from `centroids` `[n_lists, dim]`; under cosine these are means of unit rows.
    ///
    /// # Errors
    /// `metric` for L1, which has no such code; `centroids` if there is none.
    pub fn new(metric: Metric, centroids: &Rows, seed: u64) -> Result<Self> {
        if metric == Metric::L1 {
            return Err(Error::usage("metric", "codes estimate cosine, dot and l2, not l1"));
        }
        if centroids.n_rows() == 0 {
            return Err(Error::usage("centroids", "0, expected at least 1"));
        }
        let rotation = Rotation::new(centroids.dim(), seed);
        let centroid = |row: usize| {
            let mut raw = vec![0.0; centroids.dim()];
            centroids.widen(row, &mut raw);
            let rotated = rotate(&rotation, &raw);
            Centroid { raw, rotated }
        };
        let centroids = (0..centroids.n_rows()).map(centroid).collect();
        Ok(Self { metric, rotation, centroids })
    }

    /// The same with the mean of all rows as the only centroid.
    ///
    /// # Errors
    /// Those of [`Self::new`] and of [`Rows::check`]; `no_rows`.
    pub fn of_mean(metric: Metric, rows: &Rows, seed: u64) -> Result<Self> {
        rows.check(metric)?;
        if rows.n_rows() == 0 {
            return Err(Error::new(ErrorKind::BadInput, "no_rows", "0 rows have no mean"));
        }
        let mut sums = vec![0.0f64; rows.dim()];
        let mut row = vec![0.0; rows.dim()];
        for i in 0..rows.n_rows() {
            unit_row(metric, rows, i, &mut row);
            sums.iter_mut().zip(&row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        let mean = sums.iter().map(|sum| (sum / rows.n_rows() as f64) as f32).collect();
        Self::new(metric, &Rows::new(crate::core::rows::Values::F32(mean), rows.dim())?, seed)
    }

    /// The rotation in use.
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// What the codes estimate.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Centroid of a list, not rotated: `[dim]`.
    ///
    /// # Panics
    /// If there is no such list.
    pub fn centroid(&self, list: usize) -> &[f32] {
        &self.centroids[list].raw
    }

    /// Centroids.
    pub fn n_lists(&self) -> usize {
        self.centroids.len()
    }

    /// Codes of all rows, each of the residual from centroid `list_of(row)`. Cost: `dim log dim` per row.
    ///
    /// # Errors
    /// `vector_dim`, those of [`Rows::check`], or `slot_range` for a list that is not there.
    pub fn encode(
        &self,
        pool: &ThreadPool,
        rows: &Rows,
        list_of: &(dyn Fn(usize) -> usize + Sync),
    ) -> Result<RabitqCodes> {
        self.check(rows)?;
        if let Some(row) = (0..rows.n_rows()).find(|&row| list_of(row) >= self.n_lists()) {
            let message = format!("row {row}: list {} of {}", list_of(row), self.n_lists());
            return Err(Error::usage("slot_range", message));
        }
        let n_words = self.rotation.padded() / WORD;
        let n_rows = rows.n_rows();
        let mut signs = vec![0; n_rows * n_words];
        let mut extra = vec![0; n_rows * n_words * EXTRA_PLANES];
        let mut coarse = vec![Factors::default(); n_rows];
        let mut fine = coarse.clone();
        let parts = (
            signs.par_chunks_exact_mut(n_words),
            extra.par_chunks_exact_mut(n_words * EXTRA_PLANES),
            &mut coarse,
            &mut fine,
        );
        pool.install(|| {
            parts.into_par_iter().with_min_len(64).enumerate().for_each_init(
                || vec![0.0; self.rotation.padded()],
                |row, (i, (signs, extra, coarse, fine))| {
                    (*coarse, *fine) = self.encode_row(rows, i, list_of(i), row, signs, extra);
                },
            );
        });
        Ok(RabitqCodes {
            metric: self.metric,
            n_rows,
            n_words,
            signs: signs.into(),
            extra: extra.into(),
            coarse: coarse.into(),
            fine: fine.into(),
        })
    }

    fn check(&self, rows: &Rows) -> Result<()> {
        if rows.dim() != self.rotation.dim() {
            let message = format!("{} values, expected {}", rows.dim(), self.rotation.dim());
            return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
        }
        rows.check(self.metric)
    }

    fn encode_row(
        &self,
        rows: &Rows,
        i: usize,
        list: usize,
        row: &mut [f32],
        signs: &mut [u64],
        extra: &mut [u64],
    ) -> (Factors, Factors) {
        let centroid = &self.centroids[list].raw;
        unit_row(self.metric, rows, i, &mut row[..rows.dim()]);
        row.iter_mut().zip(centroid).for_each(|(x, c)| *x -= c);
        let along = match self.metric {
            Metric::L2 => 0.0,
            _ => dot(&row[..rows.dim()], centroid),
        };
        self.rotation.apply(row);
        let square = dot(row, row);
        let scale = SCALE * (row.len() as f64 / square).sqrt();
        let sums = pack(row, if scale.is_finite() { scale as f32 } else { 0.0 }, signs, extra);
        let add = if self.metric == Metric::L2 { square } else { -along };
        (
            self.factors(square, add, sums.coarse, row.len() as f64 / 4.0, COARSE_SHARE),
            self.factors(square, add, sums.fine, sums.fine_square, FINE_SHARE),
        )
    }

    /// Factors from `|r|²`, `⟨r, x̄⟩` and `|x̄|²`.
    fn factors(&self, square: f64, add: f64, product: f64, grid: f64, share: f64) -> Factors {
        // A residual of nothing: the distance is known without the code.
        if square == 0.0 || product <= 0.0 {
            return Factors { add: add as f32, rescale: 0.0, err: 0.0 };
        }
        let twice = if self.metric == Metric::L2 { 2.0 } else { 1.0 };
        let cosine = (product * product / (square * grid)).min(1.0);
        let spread = (1.0 - cosine).max(share) / (cosine * (self.rotation.padded() - 1) as f64);
        Factors {
            add: add as f32,
            rescale: (-twice * square / product) as f32,
            err: (twice * (square * spread).sqrt()) as f32,
        }
    }

    /// All queries, rotated.
    ///
    /// # Errors
    /// `vector_dim`, or those of [`Rows::check`].
    pub fn rotate(&self, queries: &Rows) -> Result<Vec<RotatedQuery>> {
        self.check(queries)?;
        let one = |i: usize| {
            let mut raw = vec![0.0; queries.dim()];
            unit_row(self.metric, queries, i, &mut raw);
            let rotated = rotate(&self.rotation, &raw);
            RotatedQuery { raw, rotated }
        };
        Ok((0..queries.n_rows()).map(one).collect())
    }

    /// A query as rows of `list` see it, with bounds `e0` deviations wide.
    ///
    /// # Panics
    /// If there is no such list.
    pub fn prepare(&self, query: &RotatedQuery, list: usize, e0: f32) -> RabitqQuery {
        let centroid = &self.centroids[list];
        let residual: Vec<f32> =
            query.rotated.iter().zip(&centroid.rotated).map(|(q, c)| q - c).collect();
        let square = dot(&residual, &residual);
        let (coarse, coarse_off) = planes(&residual, 4);
        let (fine, fine_off) = planes(&residual, 8);
        let err = |off: f64, share: f64| e0 * (square + off / share).sqrt() as f32;
        RabitqQuery {
            coarse,
            fine,
            add: match self.metric {
                Metric::L2 => square as f32,
                Metric::Cosine => (1.0 - dot(&query.raw, &centroid.raw)) as f32,
                _ => -dot(&query.raw, &centroid.raw) as f32,
            },
            coarse_err: err(coarse_off, COARSE_SHARE),
            fine_err: err(fine_off, FINE_SHARE),
        }
    }
}

/// Row `i`, of norm 1 under cosine.
pub(crate) fn unit_row(metric: Metric, rows: &Rows, i: usize, out: &mut [f32]) {
    rows.widen(i, out);
    if metric == Metric::Cosine {
        let norm = dot(out, out).sqrt();
        out.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
}

/// Inner product in 64 bits, in eight sums.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let ((a8, a_rest), (b8, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..8 {
            sums[i] += f64::from(a[i]) * f64::from(b[i]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    sums.iter().sum::<f64>() + rest
}

fn rotate(rotation: &Rotation, raw: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; rotation.padded()];
    out[..raw.len()].copy_from_slice(raw);
    rotation.apply(&mut out);
    out
}

/// `⟨r, x̄⟩` of both codes, and `|x̄|²` of the fine one (of the coarse it is `D / 4`).
struct Sums {
    coarse: f64,
    fine: f64,
    fine_square: f64,
}

/// Writes the code of a residual at `scale` grid points per unit.
///
/// The sign plane says `r > 0`; the other three hold `⌊scale |r|⌋`, complemented where `r` is not above 0, so that the
/// whole code rises with `r`.
fn pack(residual: &[f32], scale: f32, signs: &mut [u64], extra: &mut [u64]) -> Sums {
    let n_words = signs.len();
    let mut sums = Sums { coarse: 0.0, fine: 0.0, fine_square: 0.0 };
    for (word, elements) in residual.as_chunks::<WORD>().0.iter().enumerate() {
        let mut codes = [0u8; WORD];
        let (mut coarse, mut fine, mut square) = ([0.0f32; 8], [0.0f32; 8], [0.0f32; 8]);
        for (i, &x) in elements.iter().enumerate() {
            let level = (scale * x.abs()).min(TOP) as u8;
            codes[i] = if x > 0.0 { 8 | level } else { 7 - level };
            let point = f32::from(level) + 0.5;
            coarse[i % 8] += x.abs();
            fine[i % 8] += x.abs() * point;
            square[i % 8] += point * point;
        }
        let total = |sums: [f32; 8]| sums.iter().map(|&x| f64::from(x)).sum::<f64>();
        sums.coarse += total(coarse) / 2.0;
        sums.fine += total(fine);
        sums.fine_square += total(square);
        signs[word] = plane(&codes, 3);
        for bit in 0..EXTRA_PLANES {
            extra[bit * n_words + word] = plane(&codes, bit);
        }
    }
    sums
}

/// Bit `bit` of 64 bytes, as a word.
pub(crate) fn plane(codes: &[u8; WORD], bit: usize) -> u64 {
    codes.as_chunks::<8>().0.iter().enumerate().fold(0, |word, (i, eight)| {
        let bits = u64::from_le_bytes(*eight) >> bit & 0x0101_0101_0101_0101;
        // Gathers the lowest bit of every byte in the highest byte.
        word | (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i)
    })
}

/// A residual on a grid of `2^bits` points between its least and largest element, and the square of what was rounded
/// away.
fn planes(residual: &[f32], bits: u32) -> (Planes, f64) {
    let n_words = residual.len() / WORD;
    let least = residual.iter().fold(f32::INFINITY, |least, x| least.min(*x));
    let most = residual.iter().fold(f32::NEG_INFINITY, |most, x| most.max(*x));
    let top = ((1u32 << bits) - 1) as f32;
    let step = (most - least) / top;
    let per_step = if step > 0.0 { 1.0 / step } else { 0.0 };
    let mut out = Planes {
        words: vec![0; n_words * bits as usize],
        n_planes: bits as usize,
        lo: least,
        step,
        sum: 0.0,
    };
    let (mut total, mut off) = (0u64, 0.0);
    for (word, elements) in residual.as_chunks::<WORD>().0.iter().enumerate() {
        let mut codes = [0u8; WORD];
        let mut lost = [0.0f32; WORD];
        for i in 0..WORD {
            codes[i] = ((elements[i] - least) * per_step + 0.5).min(top) as u8;
            lost[i] = elements[i] - (least + step * f32::from(codes[i]));
        }
        total += codes.iter().map(|&code| u64::from(code)).sum::<u64>();
        off += dot(&lost, &lost);
        for bit in 0..bits as usize {
            out.words[bit * n_words + word] = plane(&codes, bit);
        }
    }
    let sum = f64::from(least) * residual.len() as f64 + f64::from(step) * total as f64;
    out.sum = sum as f32;
    (out, off)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::codes::centre;
    use crate::core::mix::stream;

    /// A normal variable as the sum of twelve uniform ones.
    fn normal(seed: u64, i: u64) -> f32 {
        let uniform = |j| (stream(seed, 12 * i + j) >> 40) as f32 / (1 << 24) as f32;
        (0..12).map(uniform).sum::<f32>() - 6.0
    }

    /// `ρ²` at one scale, by definition.
    fn cosine(residual: &[f32], scale: f32) -> f64 {
        let (mut product, mut square) = (0.0, 0.0);
        for &x in residual {
            let point = f64::from((scale * x.abs()).min(TOP).floor()) + 0.5;
            product += f64::from(x.abs()) * point;
            square += point * point;
        }
        product * product / (square * dot(residual, residual))
    }

    /// The papers look for the best scale of every row. One scale for all loses this much, on normal residuals.
    #[test]
    fn one_scale_for_all_rows_loses_little() {
        for dim in [64, 128, 384, 768] {
            let (mut best_sum, mut ours_sum) = (0.0, 0.0);
            for row in 0..20 {
                let residual: Vec<f32> = (0..dim).map(|i| normal(row, i)).collect();
                // All scales at which some element steps up.
                let steps = residual
                    .iter()
                    .flat_map(|x| (1..=7).map(move |level| level as f32 / x.abs() * 1.000_001));
                let best = steps.map(|scale| cosine(&residual, scale)).fold(0.0, f64::max);
                let norm = (dot(&residual, &residual) / f64::from(dim as u32)).sqrt();
                best_sum += (1.0 - best).sqrt();
                ours_sum += (1.0 - cosine(&residual, (SCALE / norm) as f32)).sqrt();
            }
            let loss = ours_sum / best_sum - 1.0;
            println!("dim {dim}: bounds wider by {:.1} %", 100.0 * loss);
            assert!(loss < 0.12, "dim {dim}: {loss}");
        }
    }

    #[test]
    fn codes_rise_with_elements_and_planes_hold_them() {
        let residual: Vec<f32> = (0..128).map(|i| (i as f32 - 63.5) / 20.0).collect();
        let (mut signs, mut extra) = ([0; 2], [0; 6]);
        let sums = pack(&residual, 2.5, &mut signs, &mut extra);
        let bit = |plane: &[u64], i: usize| plane[i / 64] >> (i % 64) & 1;
        let code = |i| {
            8 * bit(&signs, i)
                + 4 * bit(&extra[4..], i)
                + 2 * bit(&extra[2..4], i)
                + bit(&extra[..2], i)
        };
        let codes: Vec<u64> = (0..128).map(code).collect();
        assert!(codes.is_sorted() && codes[0] == 0 && codes[127] == 15, "{codes:?}");
        let point = |i: usize| codes[i] as f64 + f64::from(centre(4));
        let product: f64 = (0..128).map(|i| f64::from(residual[i]) * point(i)).sum();
        let square: f64 = (0..128).map(|i| point(i).powi(2)).sum();
        assert!((sums.fine - product).abs() < 1e-3 && (sums.fine_square - square).abs() < 1e-3);
    }

    #[test]
    fn a_query_is_within_half_a_step_of_its_planes() {
        let residual: Vec<f32> = (0..192).map(|i| normal(8, i)).collect();
        for bits in [4, 8] {
            let (planes, off) = planes(&residual, bits);
            let (mut sum, mut lost) = (0.0, 0.0);
            for (i, &x) in residual.iter().enumerate() {
                let bit = |j: usize| planes.words[j * 3 + i / 64] >> (i % 64) & 1;
                let n: u64 = (0..bits as usize).map(|j| bit(j) << j).sum();
                let point = planes.lo + planes.step * n as f32;
                assert!((point - x).abs() <= 0.501 * planes.step);
                sum += f64::from(point);
                lost += f64::from(point - x).powi(2);
            }
            assert!((sum - f64::from(planes.sum)).abs() < 1e-3 && (lost / off - 1.0).abs() < 1e-3);
        }
    }
}
