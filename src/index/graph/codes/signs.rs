//! Signs of rows: of every element of a code of four bits, whether it lies above the middle; a fourth of the bytes, and apart from
//! them, so that all fit a cache that the codes do not. They say how near a row may be, and rule out nearly all of a list.
//!
//! With `x̄` for the signs as numbers -1 and 1, `⟨r, s⟩` is estimated by `|r|² / ⟨r, x̄⟩ · ⟨x̄, s⟩`, as in `quant/rabitq.rs`. Its error has a
//! deviation of `|r|² / ⟨r, x̄⟩ · √((1 - ρ²) |s|² + |δ|²)`, where `ρ² = 2/π` is the square of the cosine between a row and its signs
//! and `δ` is what the query's rounding to four bits leaves out. The row's part is what multiplies the sum in any case, so that a lower
//! bound costs what an estimate does: `WIDTH` times the root is added to the sum.
//!
//! All of it is read off the codes: `r` is nearly a multiple of its points `p`, so that `⟨r, x̄⟩` is nearly `⟨r, p⟩ Σ|p| / Σp²`.
//!
//! Paper: Gao, Long, "RaBitQ", SIGMOD 2024, 3.2.

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::core::slab::Slab;
use crate::distance::Level;
use crate::distance::simd::coded::{Bits, FACTOR_BYTES, RowFactors};
use crate::distance::simd::few::largest;
use crate::distance::simd::signs::{self, PLANES, Pair, SignQuery, SignRows};
use crate::error::{Error, Result};
use crate::index::graph::codes::{CodeQuery, Codes, double_points};
use crate::quant::rabitq::plane;
use crate::quant::rotation::WORD;
use crate::store::sealed::{Sealed, SealedWriter};

/// Deviations between an estimate and its bound: of rows as far as the farthest that is looked for, six in a thousand have a bound beyond
/// it; of nearer ones fewer, and of the ten nearest of real sets 0 to 1 in a thousand (`docs/decisions/0027-signs.md`).
const WIDTH: f32 = 2.5;

/// What signs leave out of a row: `1 - ρ²`.
const LOST: f32 = 1.0 - std::f32::consts::FRAC_2_PI;

/// Numbers of a query of codes to one of signs.
const COARSE: i32 = 16;

/// Signs by slot.
#[derive(Clone, Debug)]
pub struct Signs {
    /// `[n_slots, n_words + 1]`: see [`SignRows`].
    words: Slab<u64>,
    n_words: usize,
    level: Level,
}

/// A query of [`Signs`].
#[derive(Clone, Debug)]
pub struct SignsQuery {
    pairs: Vec<Pair>,
    step: f32,
    offset: f32,
    add: f32,
}

impl Signs {
    /// Those of all codes. Cost: a pass over them.
    ///
    /// # Panics
    /// If the codes do not have four bits.
    pub fn of(pool: &ThreadPool, codes: &Codes) -> Self {
        assert_eq!(codes.encoder.bits, Bits::Four, "signs are read off codes of four bits");
        let n_words = n_words(codes);
        let mut words = vec![0; codes.n_slots * (n_words + 1)];
        let bytes = codes.bytes();
        pool.install(|| {
            let records = words.par_chunks_exact_mut(n_words + 1).with_min_len(64).enumerate();
            records.for_each_init(
                || vec![0; n_words * WORD],
                |points, (slot, record)| {
                    let code = &bytes[slot * codes.stride..][..codes.stride];
                    write(code, points, record);
                },
            );
        });
        Self { words: words.into(), n_words, level: codes.level }
    }

    /// The query of codes as one of signs.
    pub fn query(&self, query: &CodeQuery) -> SignsQuery {
        let mut pairs = vec![[0; 2 * PLANES]; self.n_words.div_ceil(2)];
        let (mut square, mut lost) = (0, 0);
        for (word, numbers) in query.numbers.as_chunks::<WORD>().0.iter().enumerate() {
            let coarse = numbers.map(|n| (n as u8 ^ 0x80) / COARSE as u8);
            for (&n, coarse) in numbers.iter().zip(coarse) {
                let n = i32::from(n);
                square += n * n;
                // In the middle of all that are rounded to the same, but for half a number.
                lost += (n - (COARSE * i32::from(coarse) - 120)).pow(2);
            }
            for bit in 0..PLANES {
                pairs[word / 2][2 * bit + word % 2] = plane(&coarse, bit);
            }
        }
        let margin = WIDTH * (LOST * square as f32 + lost as f32).sqrt();
        let all = 7.5 * (COARSE as usize * query.numbers.len()) as f32;
        SignsQuery {
            pairs,
            step: -(COARSE as f32) * query.step,
            offset: query.step * (all + margin),
            add: query.add,
        }
    }

    /// Fails if some slot has no row.
    ///
    /// # Errors
    /// `slot_range`.
    pub fn check(&self, slots: &[u32]) -> Result<()> {
        let n_slots = self.words.len() / (self.n_words + 1);
        let last = largest(self.level, slots) as usize;
        if last < n_slots || slots.is_empty() {
            return Ok(());
        }
        Err(Error::usage("slot_range", format!("{last} of {n_slots} rows")))
    }

    /// Sets `out` to lower bounds of the distances of the rows `slots`.
    ///
    /// # Panics
    /// If some slot has no row, or if there is not a bound for each.
    pub fn bounds(&self, query: &SignsQuery, slots: &[u32], out: &mut [f32]) {
        let SignsQuery { pairs, step, offset, add } = query;
        let query = SignQuery { pairs, step: *step, offset: *offset, add: *add };
        let rows = SignRows { words: &self.words, n_words: self.n_words };
        signs::estimates(self.level, rows, query, slots, out);
    }

    /// What values are compared at.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Bytes of all.
    pub fn n_bytes(&self) -> u64 {
        (self.words.len() * size_of::<u64>()) as u64
    }

    /// Sections that [`Self::seal`] writes.
    pub const N_SECTIONS: usize = 1;

    /// Writes the signs as one section, u64 `[n_slots, n_words + 1]`: the words of a row, then its factors.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn seal(&self, writer: &mut SealedWriter<'_>, name: &str) -> Result<()> {
        let stride = self.n_words + 1;
        writer.section::<u64>(name, &[(self.words.len() / stride) as u64, stride as u64])?;
        writer.append::<u64>(&self.words)
    }

    /// The signs of a file, none of which is looked at. Where it has none, which were written before there were signs, those of the
    /// codes, in memory.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn open(pool: &ThreadPool, sealed: &Sealed, name: &str, codes: &Codes) -> Result<Self> {
        if sealed.sections().iter().all(|section| section.name != name) {
            return Ok(Self::of(pool, codes));
        }
        let n_words = n_words(codes);
        let shape = [codes.n_slots as u64, n_words as u64 + 1];
        let words = sealed.slab_as::<u64, u64>(name, &shape)?;
        Ok(Self { words, n_words, level: codes.level })
    }
}

/// Words of the signs of a row.
fn n_words(codes: &Codes) -> usize {
    codes.encoder.rotation.padded() / WORD
}

/// Writes the signs and the factors of a code.
fn write(code: &[u8], points: &mut [i8], record: &mut [u64]) {
    let (code, rest) = code.split_at(Bits::Four.code_bytes(points.len()));
    let factors: RowFactors = bytemuck::pod_read_unaligned(&rest[..FACTOR_BYTES]);
    double_points(code, points);
    let (factors_at, words) = record.split_last_mut().expect("factors follow the words");
    let (mut square, mut sum) = (0, 0);
    for (word, points) in words.iter_mut().zip(points.as_chunks::<WORD>().0) {
        // The upper bit says that a point is negative.
        *word = !plane(&points.map(|point| point as u8), 7);
        square += points.iter().map(|&point| i32::from(point).pow(2)).sum::<i32>();
        sum += points.iter().map(|&point| i32::from(point).abs()).sum::<i32>();
    }
    let rescale = factors.rescale * square as f32 / (2 * sum) as f32;
    *factors_at = RowFactors { rescale, ..factors }.to_word();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::metric::Metric;
    use crate::core::rows::{Rows, Values};
    use crate::index::graph::distances::Distances;
    use crate::index::graph::raw::RawRows;
    use crate::index::graph::tests::{clustered, pool};
    use crate::store::Identity;
    use crate::store::disk::FileDisk;

    fn signs_of(metric: Metric, rows: &Rows) -> (Codes, Signs) {
        let codes = Codes::of(&pool(1), metric, Bits::Four, rows, 7).unwrap();
        let signs = Signs::of(&pool(1), &codes);
        (codes, signs)
    }

    /// Bounds of one query to all rows, and the distances.
    fn bounded(
        of: (&Codes, &Signs),
        metric: Metric,
        rows: &Rows,
        q: usize,
    ) -> (Vec<f32>, Vec<f32>) {
        let slots: Vec<u32> = (0..rows.n_rows() as u32).collect();
        let query = of.0.query(rows, q).unwrap();
        let (mut bounds, mut exact) = (vec![0.0; slots.len()], vec![0.0; slots.len()]);
        of.1.bounds(&of.1.query(&query), &slots, &mut bounds);
        let raw = RawRows::new(rows, metric).unwrap();
        raw.measure(&raw.query_of(q as u32), &slots, &mut exact);
        (bounds, exact)
    }

    /// A normal variable lies that many deviations above its mean with a chance of 0.6 %; rows near the query less often. The bounds
    /// are no lower than they must be: their mean distance from the truth is that many deviations.
    #[test]
    fn bounds_hold_as_often_as_is_said_and_are_no_wider() {
        for dim in [16, 64, 100, 192, 200, 784] {
            let rows = clustered(500, dim, 8, 3);
            for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
                let (codes, signs) = signs_of(metric, &rows);
                let (mut n_over, mut below, mut spread) = (0, 0.0, 0.0);
                for q in 0..40 {
                    let (bounds, exact) = bounded((&codes, &signs), metric, &rows, q);
                    let below_of: Vec<f32> =
                        exact.iter().zip(&bounds).map(|(x, b)| x - b).collect();
                    n_over += below_of.iter().filter(|&&below| below < 0.0).count();
                    let mean = below_of.iter().sum::<f32>() / 500.0;
                    below += mean;
                    spread += below_of.iter().map(|one| (one - mean).powi(2)).sum::<f32>() / 500.0;
                }
                let share = n_over as f32 / 20_000.0;
                let widths = below / 40.0 / (spread / 40.0).sqrt();
                println!("{metric} {dim}: {share} over, {widths} deviations");
                assert!(share < 0.0065, "{metric} {dim}: {share}");
                assert!(widths < 1.2 * WIDTH, "{metric} {dim}: {widths} deviations");
            }
        }
    }

    #[test]
    fn rows_equal_to_their_mean_are_as_near_as_they_are() {
        let rows = Rows::new(Values::F32(vec![0.25; 3 * 64].into()), 64).unwrap();
        let (codes, signs) = signs_of(Metric::L2, &rows);
        assert_eq!(bounded((&codes, &signs), Metric::L2, &rows, 0).0, [0.0; 3]);
    }

    #[test]
    fn signs_are_opened_from_their_section_and_read_off_the_codes_where_there_is_none() {
        let identity = Identity { kind: "vector", owner: 7, version: 1 };
        let (codes, signs) = signs_of(Metric::L2, &clustered(300, 100, 4, 9));
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str, seal: &dyn Fn(&mut SealedWriter<'_>) -> Result<()>| {
            let path = dir.path().join(name);
            let mut writer = SealedWriter::create(&FileDisk, &path, identity, 1)?;
            seal(&mut writer)?;
            writer.finish()?;
            let sealed = Sealed::open(&FileDisk, &path, identity)?;
            Signs::open(&pool(1), &sealed, "signs", &codes)
        };
        let sealed = open("with", &|writer| signs.seal(writer, "signs")).unwrap();
        let before = open("before", &|writer| {
            writer.section::<u64>("other", &[1])?;
            writer.append(&[3u64])
        });
        let before = before.unwrap();
        assert!(sealed.words == signs.words && before.words == signs.words);
        assert_eq!((sealed.words.is_lent(), before.words.is_lent()), (true, false));
        let other = open("other", &|writer| {
            writer.section::<u64>("signs", &[299, 3])?;
            writer.append(&[0u64; 299 * 3])
        });
        assert_eq!(other.unwrap_err().code(), "corrupt_file");
    }

    #[test]
    fn signs_are_the_same_for_any_number_of_threads_and_rows_past_the_end_have_none() {
        let rows = clustered(300, 100, 4, 9);
        let (codes, signs) = signs_of(Metric::L2, &rows);
        assert!(Signs::of(&pool(2), &codes).words == signs.words);
        assert_eq!(signs.n_bytes(), 300 * 8 * 3);
        assert_eq!(signs.check(&[7, 300, 2]).unwrap_err().code(), "slot_range");
        assert!(signs.check(&[7, 299, 2]).is_ok() && signs.check(&[]).is_ok());
    }
}
