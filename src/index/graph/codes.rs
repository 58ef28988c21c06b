//! Codes of rows for the walk: four or eight bits per element and two factors, side by side, so that one row is a few
//! lines of memory. The estimates are those of `quant/rabitq.rs`, of residuals from one centroid.
//!
//! Four bits are for searches, whose best are compared raw; eight bits, whose estimates are off by a fifteenth of that, are
//! for building, where the distance of two codes decides.

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::core::metric::Metric;
use crate::core::rows::Rows;
use crate::core::slab::Slab;
use crate::distance::Level;
use crate::distance::simd::coded::{
    self, Bits, CodedQuery, CodedRows, FACTOR_BYTES, RowFactors, nibble_place, prefetch,
};
use crate::distance::simd::coded_tile::{RowTile, TileEstimates};
use crate::error::{Error, ErrorKind, Result};
use crate::index::graph::distances::Distances;
use crate::index::graph::raw::{check_query, to_norm_1, widen};
use crate::quant::rabitq::{dot, unit_row};
use crate::quant::rotation::Rotation;

mod sealed;
pub mod signs;

/// Records begin at multiples of it.
const ALIGN: usize = 16;

/// Bytes of a line of memory, at which the records begin.
const LINE: usize = 64;

#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
struct Line([u8; LINE]);

/// Makes codes of rows and of queries.
#[derive(Clone, Debug)]
struct Encoder {
    metric: Metric,
    bits: Bits,
    rotation: Rotation,
    centroid: Vec<f32>,
    rotated: Vec<f32>,
    /// Of the centroid's norm; every code that becomes a query needs it.
    square: f32,
}

/// Codes by slot.
#[derive(Clone, Debug)]
pub struct Codes {
    encoder: Encoder,
    level: Level,
    stride: usize,
    n_slots: usize,
    /// `[n_slots, stride]` bytes.
    lines: Slab<Line>,
}

/// A query of [`Codes`].
#[derive(Clone, Debug)]
pub struct CodeQuery {
    numbers: Vec<i8>,
    step: f32,
    offset: f32,
    add: f32,
}

impl Codes {
    /// No codes yet, of residuals from the mean of `sample`.
    ///
    /// # Errors
    /// `metric` for L1, which has no such code; `no_rows`; those of [`Rows::check`].
    pub fn train(metric: Metric, bits: Bits, sample: &Rows, seed: u64) -> Result<Self> {
        if metric == Metric::L1 {
            return Err(Error::usage("metric", "codes estimate cosine, dot and l2, not l1"));
        }
        sample.check(metric)?;
        if sample.n_rows() == 0 {
            return Err(Error::new(ErrorKind::BadInput, "no_rows", "0 rows have no mean"));
        }
        let mut sums = vec![0.0f64; sample.dim()];
        let mut row = vec![0.0; sample.dim()];
        for i in 0..sample.n_rows() {
            unit_row(metric, sample, i, &mut row);
            sums.iter_mut().zip(&row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let mean = |sum: &f64| (sum / sample.n_rows() as f64) as f32;
        let centroid: Vec<f32> = sums.iter().map(mean).collect();
        let encoder = Encoder::new(metric, bits, centroid, seed);
        let (level, stride) = (Level::best(), encoder.stride());
        Ok(Self { encoder, level, stride, n_slots: 0, lines: Slab::default() })
    }

    /// Codes of all rows, slot `i` of row `i`, of residuals from their mean.
    ///
    /// # Errors
    /// Those of [`Self::train`].
    pub fn of(
        pool: &ThreadPool,
        metric: Metric,
        bits: Bits,
        rows: &Rows,
        seed: u64,
    ) -> Result<Self> {
        let mut codes = Self::train(metric, bits, rows, seed)?;
        codes.put(pool, 0, rows)?;
        Ok(codes)
    }

    /// The same held to one level, for tests and benches.
    ///
    /// # Panics
    /// If this processor lacks the level.
    pub fn at_level(mut self, level: Level) -> Self {
        assert!(Level::available().contains(&level), "{level:?} is not available here");
        self.level = level;
        self
    }

    /// Sets the codes of the slots from `first` on to those of `rows`; room is made for them. Slots that never had a row
    /// hold zeros.
    ///
    /// # Errors
    /// `vector_dim`; those of [`Rows::check`].
    pub fn put(&mut self, pool: &ThreadPool, first: u32, rows: &Rows) -> Result<()> {
        self.encoder.check_dim(rows)?;
        rows.check(self.encoder.metric)?;
        let (first, stride) = (first as usize, self.stride);
        let n_slots = (first + rows.n_rows()).max(self.n_slots);
        let n_lines = (n_slots * stride).div_ceil(LINE);
        if n_lines > self.lines.len() {
            self.lines.to_mut().resize(n_lines, bytemuck::Zeroable::zeroed());
        }
        self.n_slots = n_slots;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(self.lines.to_mut());
        let records = &mut bytes[first * stride..(first + rows.n_rows()) * stride];
        let encoder = &self.encoder;
        pool.install(|| {
            let records = records.par_chunks_exact_mut(stride).with_min_len(64).enumerate();
            records.for_each_init(
                || vec![0.0; encoder.rotation.padded()],
                |row, (i, record)| encoder.encode(rows, i, row, record),
            );
        });
        Ok(())
    }

    /// Row `i` of `queries` as a query. Cost: `dim log dim`.
    ///
    /// # Errors
    /// `vector_dim`; those of [`Rows::check`].
    ///
    /// # Panics
    /// If there is no such row.
    pub fn query(&self, queries: &Rows, i: usize) -> Result<CodeQuery> {
        self.encoder.check_dim(queries)?;
        check_query(queries, i, self.encoder.metric)?;
        Ok(self.encoder.query(queries, i))
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.stride
    }

    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines)
    }

    fn rows(&self) -> CodedRows<'_> {
        CodedRows { bytes: self.bytes(), stride: self.stride, bits: self.encoder.bits }
    }

    /// Takes the codes of `slots` into a tile.
    ///
    /// # Panics
    /// Those of [`RowTile::load`].
    pub fn load(&self, slots: &[u32], tile: &mut RowTile) {
        tile.load(self.level, self.rows(), self.encoder.rotation.padded(), slots);
    }

    /// Sets `out` to the estimates of a tile for a few queries.
    ///
    /// # Panics
    /// Those of [`RowTile::estimate`].
    pub fn estimate(
        &self,
        tile: &RowTile,
        queries: &[CodedQuery<'_>],
        bounds: &[f32],
        out: &mut TileEstimates,
    ) {
        tile.estimate(self.level, queries, bounds, out);
    }
}

impl CodeQuery {
    /// As kernels take it.
    pub fn coded(&self) -> CodedQuery<'_> {
        let Self { numbers, step, offset, add } = self;
        CodedQuery { numbers, step: *step, offset: *offset, add: *add }
    }
}

impl Encoder {
    fn new(metric: Metric, bits: Bits, centroid: Vec<f32>, seed: u64) -> Self {
        let rotation = Rotation::new(centroid.len(), seed);
        let rotated = rotate(&rotation, &centroid);
        let square = dot(&centroid, &centroid) as f32;
        Self { metric, bits, rotation, centroid, rotated, square }
    }

    /// Bytes of a record.
    fn stride(&self) -> usize {
        (self.bits.code_bytes(self.rotation.padded()) + FACTOR_BYTES).next_multiple_of(ALIGN)
    }

    fn check_dim(&self, rows: &Rows) -> Result<()> {
        if rows.dim() != self.centroid.len() {
            let message = format!("{} values, expected {}", rows.dim(), self.centroid.len());
            return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
        }
        Ok(())
    }

    /// The offset that centres a code.
    fn centre(&self) -> f32 {
        match self.bits {
            Bits::Four => -7.5,
            Bits::Eight => -127.5,
        }
    }

    /// Grid points per deviation of an element: the ends of the grid lie at 2.7 deviations with four bits, where least is
    /// lost of a normal variable, and at 4 with eight.
    fn scale(&self) -> f64 {
        match self.bits {
            Bits::Four => 1.0 / 0.335,
            Bits::Eight => 32.0,
        }
    }

    /// Writes the code and the factors of a row.
    fn encode(&self, rows: &Rows, i: usize, row: &mut [f32], record: &mut [u8]) {
        let dim = rows.dim();
        unit_row(self.metric, rows, i, &mut row[..dim]);
        row.iter_mut().zip(&self.centroid).for_each(|(x, c)| *x -= c);
        let along = dot(&row[..dim], &self.centroid);
        self.rotation.apply(row);
        let square = dot(row, row);
        let scale = self.scale() * (row.len() as f64 / square).sqrt();
        let scale = if scale.is_finite() { scale as f32 } else { 0.0 };
        let most = -self.centre();
        record.fill(0);
        let mut product = 0.0;
        for (i, &x) in row.iter().enumerate() {
            let point = ((x * scale).floor() + 0.5).clamp(-most, most);
            product += f64::from(x) * f64::from(point);
            let code = (point + most) as u8;
            match self.bits {
                Bits::Eight => record[i] = code,
                Bits::Four => {
                    let (byte, is_upper) = nibble_place(i, row.len());
                    record[byte] |= if is_upper { code << 4 } else { code };
                }
            }
        }
        let twice = if self.metric == Metric::L2 { 2.0 } else { 1.0 };
        // A residual of nothing: the distance is known without the code.
        let rescale = if product > 0.0 { -twice * square / product } else { 0.0 };
        let add = if self.metric == Metric::L2 { square } else { -along };
        let factors = RowFactors { add: add as f32, rescale: rescale as f32 };
        let code_bytes = self.bits.code_bytes(row.len());
        record[code_bytes..][..FACTOR_BYTES].copy_from_slice(bytemuck::bytes_of(&factors));
    }

    fn query(&self, queries: &Rows, i: usize) -> CodeQuery {
        let mut raw = vec![0.0; queries.dim()];
        widen(queries, i, &mut raw);
        if self.metric == Metric::Cosine {
            to_norm_1(&mut raw);
        }
        let mut residual = rotate(&self.rotation, &raw);
        residual.iter_mut().zip(&self.rotated).for_each(|(x, c)| *x -= c);
        let most = residual.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let step = most / f32::from(i8::MAX);
        let per_step = if step > 0.0 { 1.0 / step } else { 0.0 };
        // `as` rounds towards zero; half a step away from it makes that the nearest number.
        let number = |x: &f32| (x * per_step + 0.5f32.copysign(*x)) as i8;
        let add = match self.metric {
            Metric::L2 => dot(&residual, &residual),
            Metric::Cosine => 1.0 - dot(&raw, &self.centroid),
            _ => -dot(&raw, &self.centroid),
        };
        self.prepared(residual.iter().map(number).collect(), step, add as f32)
    }

    /// A code as a query: `⟨r, s⟩` is estimated by the products of both rows' points, each rescaled.
    fn query_of(&self, record: &[u8]) -> CodeQuery {
        let n = self.rotation.padded();
        let (code, rest) = record.split_at(self.bits.code_bytes(n));
        let factors: RowFactors = bytemuck::pod_read_unaligned(&rest[..FACTOR_BYTES]);
        let doubled = || {
            let mut points = vec![0; n];
            double_points(code, &mut points);
            points
        };
        let (numbers, per_number): (Vec<i8>, f32) = match self.bits {
            // A point lies half a number above, which is small beside 128 of them.
            Bits::Eight => (code.iter().map(|&code| (code ^ 0x80) as i8).collect(), 1.0),
            // Points lie between integers: twice a point is one.
            Bits::Four => (doubled(), 0.5),
        };
        let (twice, add) = match self.metric {
            Metric::L2 => (2.0, factors.add),
            Metric::Cosine => (1.0, 1.0 - self.square + factors.add),
            _ => (1.0, factors.add - self.square),
        };
        self.prepared(numbers, -factors.rescale / twice * per_number, add)
    }

    fn prepared(&self, numbers: Vec<i8>, step: f32, add: f32) -> CodeQuery {
        let sum: i32 = numbers.iter().map(|&n| i32::from(n)).sum();
        CodeQuery { numbers, step, offset: self.centre() * step * sum as f32, add }
    }
}

impl Distances for Codes {
    type Query = CodeQuery;

    fn n_slots(&self) -> usize {
        self.n_slots
    }

    fn query_of(&self, slot: u32) -> CodeQuery {
        self.encoder.query_of(&self.bytes()[slot as usize * self.stride..][..self.stride])
    }

    fn measure(&self, query: &CodeQuery, slots: &[u32], out: &mut [f32]) {
        coded::estimates(self.level, self.rows(), query.coded(), slots, out);
    }

    #[inline]
    fn prefetch(&self, slot: u32) {
        prefetch(self.bytes(), slot as usize * self.stride, self.stride);
    }
}

/// Sets `out` to `2 u - 15` of every element of a code of four bits.
fn double_points(code: &[u8], out: &mut [i8]) {
    for (chunk, out) in code.chunks(64).zip(out.chunks_mut(128)) {
        let (low, high) = out.split_at_mut(chunk.len());
        for ((&byte, low), high) in chunk.iter().zip(low).zip(high) {
            (*low, *high) = (2 * (byte & 15) as i8 - 15, 2 * (byte >> 4) as i8 - 15);
        }
    }
}

fn rotate(rotation: &Rotation, raw: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; rotation.padded()];
    out[..raw.len()].copy_from_slice(raw);
    rotation.apply(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rows::Values;
    use crate::index::graph::raw::RawRows;
    use crate::index::graph::tests::{clustered, pool};

    /// An estimate of `⟨r, s⟩` is off by `√((1/ρ² - 1) / D) |r| |s|` in the root mean square: at 64 elements by 1.3 % with four
    /// bits. Of eight clusters that is 4 % of the spread of the distances.
    const LOST: [(Bits, f32); 2] = [(Bits::Four, 0.045), (Bits::Eight, 0.0045)];

    #[test]
    fn estimates_follow_the_distances() {
        for dim in [64, 100, 192, 200] {
            let rows = clustered(400, dim, 8, 3);
            let slots: Vec<u32> = (0..400).collect();
            for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
                let raw = RawRows::new(&rows, metric).unwrap();
                for (bits, lost) in LOST {
                    let codes = Codes::of(&pool(1), metric, bits, &rows, 7).unwrap();
                    let (mut off, mut off_of, mut spread) = (0.0, 0.0, 0.0);
                    for i in 0..20 {
                        let (mut exact, mut estimate, mut own) =
                            (vec![0.0; 400], vec![0.0; 400], vec![0.0; 400]);
                        raw.measure(&raw.query_of(i), &slots, &mut exact);
                        let query = codes.query(&rows, i as usize).unwrap();
                        codes.measure(&query, &slots, &mut estimate);
                        codes.measure(&codes.query_of(i), &slots, &mut own);
                        let mean = exact.iter().sum::<f32>() / 400.0;
                        for j in 0..400 {
                            off += (estimate[j] - exact[j]).powi(2);
                            off_of += (own[j] - exact[j]).powi(2);
                            spread += (exact[j] - mean).powi(2);
                        }
                    }
                    let (off, off_of) = ((off / spread).sqrt(), (off_of / spread).sqrt());
                    assert!(
                        off < lost && off_of < 2.0 * lost,
                        "{metric} {dim} {bits:?}: {off} {off_of}"
                    );
                }
            }
        }
    }

    #[test]
    fn codes_are_the_same_for_any_number_of_threads_and_level() {
        let rows = clustered(300, 100, 4, 9);
        let codes = Codes::of(&pool(1), Metric::L2, Bits::Four, &rows, 1).unwrap();
        let two = Codes::of(&pool(2), Metric::L2, Bits::Four, &rows, 1).unwrap();
        assert!(codes.lines == two.lines);
        let slots: Vec<u32> = (0..300).collect();
        let (mut want, mut got) = (vec![0.0; 300], vec![0.0; 300]);
        let query = codes.query(&rows, 5).unwrap();
        codes.measure(&query, &slots, &mut want);
        for level in Level::available() {
            codes.clone().at_level(level).measure(&query, &slots, &mut got);
            assert_eq!(got, want, "{level:?}");
        }
    }

    #[test]
    fn slots_are_put_one_by_one_and_again() {
        let rows = clustered(50, 64, 4, 9);
        let all = Codes::of(&pool(1), Metric::Cosine, Bits::Four, &rows, 1).unwrap();
        let mut some = Codes::train(Metric::Cosine, Bits::Four, &rows, 1).unwrap();
        some.put(&pool(1), 7, &rows.slice(0..2)).unwrap();
        for i in (0..50).rev() {
            some.put(&pool(1), i as u32, &rows.slice(i..i + 1)).unwrap();
        }
        assert!(some.lines == all.lines && some.n_slots() == 50);
    }

    #[test]
    fn rows_equal_to_their_mean_have_codes() {
        let rows = Rows::new(Values::F32(vec![0.25; 3 * 64].into()), 64).unwrap();
        let codes = Codes::of(&pool(1), Metric::L2, Bits::Four, &rows, 1).unwrap();
        let mut out = [1.0; 3];
        codes.measure(&codes.query(&rows, 0).unwrap(), &[0, 1, 2], &mut out);
        assert_eq!(out, [0.0; 3]);
    }

    #[test]
    fn what_has_no_code_is_refused() {
        let rows = clustered(5, 8, 1, 1);
        let code = |made: Result<Codes>| made.unwrap_err().code();
        assert_eq!(code(Codes::train(Metric::L1, Bits::Four, &rows, 1)), "metric");
        assert_eq!(code(Codes::train(Metric::L2, Bits::Four, &rows.slice(0..0), 1)), "no_rows");
        let mut codes = Codes::train(Metric::L2, Bits::Four, &rows, 1).unwrap();
        let other = clustered(5, 9, 1, 1);
        assert_eq!(codes.put(&pool(1), 0, &other).unwrap_err().code(), "vector_dim");
        assert_eq!(codes.query(&other, 0).unwrap_err().code(), "vector_dim");
    }
}
