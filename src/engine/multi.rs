//! One vector of several rows of the points: how near each point is, always exact.
//!
//! The similarity of a point to rows of a query is the sum, over those, of the greatest similarity to one of its own. Distances
//! of all rows of the query to those of many points are computed in blocks by the backend.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::backend::cpu::Cpu;
use crate::backend::resident::Resident;
use crate::backend::{Backend, Stream};
use crate::core::metric::Metric;
use crate::core::rows::Rows;
use crate::core::slab::Slab;
use crate::engine::kept::Kept;
use crate::engine::postings::shared;
use crate::engine::settings::VectorSettings;
use crate::error::Result;
use crate::index::sealed::PlacedRows;
use crate::store::sealed::{Sealed, SealedWriter};

/// Rows of points whose distances are held at once.
const BLOCK_ROWS: u64 = 4096;

/// One vector of several rows.
pub(super) struct MultiSpace {
    settings: VectorSettings,
    /// Points of the base, then what came since: a chunk of each write, two of like size become one.
    chunks: Vec<Chunk>,
    /// Chunks of the base: none if no point of it has the vector.
    n_base: usize,
    /// Places that have or had the vector.
    has: RoaringBitmap,
}

/// Points and their rows.
struct Chunk {
    /// Ascending.
    places: Slab<u32>,
    /// `[n_points + 1]`: where the rows of each point begin.
    starts: Slab<u64>,
    rows: PlacedRows,
    held: Resident,
}

impl Chunk {
    fn new(
        backend: &Cpu,
        metric: Metric,
        places: Slab<u32>,
        starts: Slab<u64>,
        rows: Rows,
    ) -> Result<Self> {
        let rows = PlacedRows::new(Arc::new(rows), metric)?;
        let held = rows.upload(backend)?;
        Ok(Self { places, starts, rows, held })
    }

    fn followed_by(&self, other: &Self, backend: &Cpu, metric: Metric) -> Result<Self> {
        let n_rows = self.rows.rows().n_rows() as u64;
        let starts =
            self.starts.iter().copied().chain(other.starts[1..].iter().map(|s| s + n_rows));
        let places = self.places.iter().chain(&*other.places).copied().collect();
        let rows = self.rows.rows().followed_by(other.rows.rows());
        Self::new(backend, metric, places, starts.collect(), rows)
    }

    /// Adds to `found` what of each query is at these places, ascending, that are here.
    fn distances(
        &self,
        backend: &Cpu,
        queries: &[Rows],
        places: &[u32],
        found: &mut [Vec<f32>],
    ) -> Result<()> {
        let (mut ats, mut points) = (Vec::new(), Vec::new());
        shared(places, &self.places, |at, point| {
            ats.push(at);
            points.push(point);
        });
        let mut done = 0;
        while done < points.len() {
            let n = self.n_together(&points[done..]);
            let block = done..done + n;
            for (query, found) in queries.iter().zip(found.iter_mut()) {
                let sums = self.of_block(backend, query, &points[block.clone()])?;
                ats[block.clone()].iter().zip(sums).for_each(|(&at, sum)| found[at] = sum);
            }
            done += n;
        }
        Ok(())
    }

    /// How many of these points have at most [`BLOCK_ROWS`] rows together; one at least.
    fn n_together(&self, points: &[usize]) -> usize {
        let mut n_rows = 0;
        let fits = |point: &&usize| {
            n_rows += self.starts[**point + 1] - self.starts[**point];
            n_rows <= BLOCK_ROWS
        };
        points.iter().take_while(fits).count().max(1)
    }

    /// For each of these points the sum, over rows of a query, of the least distance to one of its rows.
    fn of_block(&self, backend: &Cpu, query: &Rows, points: &[usize]) -> Result<Vec<f32>> {
        let range = |point: usize| self.starts[point] as u32..self.starts[point + 1] as u32;
        let (first, last) = (points[0], points[points.len() - 1]);
        let (stream, n_query) = (Stream::default(), query.n_rows());
        let distances = if last - first + 1 == points.len() {
            let all = range(first).start..range(last).end;
            backend.distances(stream, query, &self.held, all)?
        } else {
            let listed: Vec<u32> = points.iter().flat_map(|&point| range(point)).collect();
            let lists = vec![listed; n_query];
            backend.gather(stream, query, &self.held, &lists)?.concat()
        };
        let mut sums = vec![0.0f64; points.len()];
        for of_row in distances.chunks_exact(distances.len() / n_query) {
            let mut rest = of_row;
            for (sum, &point) in sums.iter_mut().zip(points) {
                let (own, others) = rest.split_at(range(point).len());
                *sum += f64::from(own.iter().copied().fold(f32::INFINITY, f32::min));
                rest = others;
            }
        }
        // Of cosines it is the similarities that are summed, of as many rows as the query has.
        let most = if self.rows.metric() == Metric::Cosine { n_query as f64 } else { 0.0 };
        Ok(sums.into_iter().map(|sum| (sum - most) as f32).collect())
    }

    fn n_bytes(&self) -> u64 {
        let n_bytes = 4 * self.places.len() + 8 * self.starts.len();
        n_bytes as u64 + self.rows.rows().n_bytes()
    }
}

impl MultiSpace {
    /// A vector of points of a base.
    ///
    /// # Errors
    /// Those of [`Backend::upload`].
    pub fn of(backend: &Cpu, settings: VectorSettings, kept: &Kept) -> Result<Self> {
        let mut made = Self { settings, chunks: Vec::new(), n_base: 0, has: RoaringBitmap::new() };
        made.push(backend, kept)?;
        made.n_base = made.chunks.len();
        Ok(made)
    }

    /// Adds rows of points at places after all others.
    ///
    /// # Errors
    /// Those of [`Backend::upload`].
    pub fn push(&mut self, backend: &Cpu, kept: &Kept) -> Result<()> {
        if kept.places.is_empty() {
            return Ok(());
        }
        let (metric, rows) = (self.settings.metric, kept.rows(&self.settings)?);
        let (places, starts) = (kept.places.clone().into(), kept.starts(&self.settings).into());
        let mut chunk = Chunk::new(backend, metric, places, starts, rows)?;
        while self.chunks.len() > self.n_base
            && let Some(last) =
                self.chunks.pop_if(|last| last.places.len() <= 2 * chunk.places.len())
        {
            chunk = last.followed_by(&chunk, backend, metric)?;
        }
        self.chunks.push(chunk);
        self.has.extend(kept.places.iter().copied());
        Ok(())
    }

    /// The same points, where they lie by now.
    ///
    /// # Errors
    /// Those of [`Backend::upload`].
    pub fn moved(&self, backend: &Cpu, to: impl Fn(u32) -> Option<u32>) -> Result<Self> {
        let mut kept = Kept::default();
        for Chunk { places, starts, rows, .. } in &self.chunks {
            let (bytes, row_bytes) = (rows.rows().values().bytes(), self.settings.row_bytes());
            for (&place, of) in places.iter().zip(starts.windows(2)) {
                kept.push(place, &bytes[of[0] as usize * row_bytes..of[1] as usize * row_bytes]);
            }
        }
        Self::of(backend, self.settings.clone(), &kept.moved(to))
    }

    /// Its settings.
    pub fn settings(&self) -> &VectorSettings {
        &self.settings
    }

    /// Places that have or had the vector.
    pub fn has(&self) -> &RoaringBitmap {
        &self.has
    }

    /// Points of the base that have or had the vector, and points that came since.
    pub fn n_points(&self) -> (u64, u64) {
        let of = |chunks: &[Chunk]| chunks.iter().map(|chunk| chunk.places.len() as u64).sum();
        let (base, recent) = self.chunks.split_at(self.n_base);
        (of(base), of(recent))
    }

    /// Bytes of the base, and of what came since.
    pub fn n_bytes(&self) -> (u64, u64) {
        let of = |chunks: &[Chunk]| chunks.iter().map(Chunk::n_bytes).sum();
        let (base, recent) = self.chunks.split_at(self.n_base);
        (of(base), of(recent))
    }

    /// For every query the sums of least distances, for cosine of similarities with a minus, to the points at these places,
    /// which are ascending and have the vector.
    ///
    /// # Errors
    /// Those of [`Backend::distances`].
    pub fn distances(
        &self,
        backend: &Cpu,
        queries: &[Rows],
        places: &[u32],
    ) -> Result<Vec<Vec<f32>>> {
        let mut found = vec![vec![0.0; places.len()]; queries.len()];
        for chunk in &self.chunks {
            chunk.distances(backend, queries, places, &mut found)?;
        }
        Ok(found)
    }

    /// Sections that [`Self::seal`] writes.
    pub fn n_sections(&self) -> usize {
        let of_rows = if self.n_base == 0 { 0 } else { 2 + PlacedRows::N_SECTIONS };
        1 + of_rows
    }

    /// Writes the base, which must be all there is.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn seal(&self, writer: &mut SealedWriter<'_>) -> Result<()> {
        writer.section::<u64>("multi.parts", &[1])?;
        writer.append::<u64>(&[self.n_base as u64])?;
        for Chunk { places, starts, rows, .. } in &self.chunks[..self.n_base] {
            writer.section::<u32>("multi.places", &[places.len() as u64])?;
            writer.append::<u32>(places)?;
            writer.section::<u64>("multi.starts", &[starts.len() as u64])?;
            writer.append::<u64>(starts)?;
            rows.seal(writer, "rows")?;
        }
        Ok(())
    }

    /// The vector of a file, of places below `n_base`.
    ///
    /// # Errors
    /// `corrupt_file`; those of [`Backend::upload_placed`].
    pub fn open(
        backend: &Cpu,
        settings: VectorSettings,
        sealed: &Sealed,
        n_base: u32,
    ) -> Result<Self> {
        let [n_chunks] = sealed.about("multi.parts")?;
        if n_chunks == 0 {
            return Self::of(backend, settings, &Kept::default());
        }
        sealed.verify_memory("multi.places")?;
        sealed.verify_memory("multi.starts")?;
        let rows = PlacedRows::open(sealed, "rows")?;
        let own = (rows.rows().dim(), rows.rows().dtype(), rows.metric());
        let expected = (settings.dim, settings.dtype, settings.metric);
        if own != expected {
            return Err(sealed.refuse("rows.about", format!("{own:?}, expected {expected:?}")));
        }
        let places: Slab<u32> = sealed.slab("multi.places")?.0;
        let starts: Slab<u64> = sealed.slab("multi.starts")?.0;
        let is_whole = n_chunks == 1
            && starts.len() == places.len() + 1
            && starts.first() == Some(&0)
            && starts.last() == Some(&(rows.rows().n_rows() as u64))
            && starts.is_sorted_by(|a, b| a < b)
            && places.is_sorted_by(|a, b| a < b)
            && places.last().is_some_and(|&last| last < n_base);
        if !is_whole {
            return Err(sealed.refuse("multi.starts", "rows of points that do not belong together"));
        }
        let has = places.iter().copied().collect();
        let held = rows.upload(backend)?;
        Ok(Self { settings, chunks: vec![Chunk { places, starts, rows, held }], n_base: 1, has })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::core::mix::stream;
    use crate::core::rows::{Dtype, Values};
    use crate::engine::settings::{Settings, VectorShape};

    const DIM: usize = 5;
    type Row = [f32; DIM];

    fn rows(seed: u64, n: u64) -> Vec<Row> {
        let value = |i: u64| (stream(seed, i) % 2001) as f32 / 1000.0 - 1.0;
        (0..n).map(|row| std::array::from_fn(|i| value(row * DIM as u64 + i as u64))).collect()
    }

    fn settings(metric: Metric) -> VectorSettings {
        let own = Settings::of_vector(DIM, metric, Dtype::F32).vectors.remove(0);
        VectorSettings { shape: VectorShape::Multi, ..own }
    }

    /// Similarity of two rows, more is nearer.
    fn similarity(metric: Metric, a: &Row, b: &Row) -> f64 {
        let pairs = || a.iter().zip(b).map(|(&x, &y)| (f64::from(x), f64::from(y)));
        let dot = |a: &Row, b: &Row| -> f64 {
            a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
        };
        match metric {
            Metric::Cosine => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
            Metric::Dot => dot(a, b),
            Metric::L2 => -pairs().map(|(x, y)| (x - y).powi(2)).sum::<f64>(),
            Metric::L1 => -pairs().map(|(x, y)| (x - y).abs()).sum::<f64>(),
        }
    }

    fn check(
        space: &MultiSpace,
        backend: &Cpu,
        model: &BTreeMap<u32, Vec<Row>>,
        (metric, seed): (Metric, u64),
    ) {
        let queries = [rows(seed + 1, 1), rows(seed + 2, 4)];
        let asked = queries
            .each_ref()
            .map(|rows| Rows::new(Values::F32(rows.as_flattened().to_vec().into()), DIM).unwrap());
        for one_in in [1, 2, 9] {
            let chosen = |place: &&u32| stream(seed, u64::from(**place)).is_multiple_of(one_in);
            let places: Vec<u32> = model.keys().filter(chosen).copied().collect();
            let found = space.distances(backend, &asked, &places).unwrap();
            for (query, found) in queries.iter().zip(found) {
                for (place, found) in places.iter().zip(found) {
                    let best = |row: &Row| {
                        let own = model[place].iter().map(|own| similarity(metric, row, own));
                        own.fold(f64::NEG_INFINITY, f64::max)
                    };
                    let expected = -query.iter().map(best).sum::<f64>();
                    let is_near = (f64::from(found) - expected).abs() < 1e-5;
                    assert!(is_near, "{metric}, seed {seed}, {place}: {found}, {expected}");
                }
            }
        }
    }

    #[test]
    fn sums_of_best_similarities_are_those_of_comparing_all_rows() {
        let backend = Cpu::new(Arc::new(ThreadPoolBuilder::new().build().unwrap()), 1 << 30);
        for (seed, metric) in (0..).zip(Metric::ALL) {
            let mut model = BTreeMap::new();
            let mut kept = |from: u32, n: u32| {
                let mut kept = Kept::default();
                for place in from..from + n {
                    // One point has more rows than a block.
                    let n_rows =
                        if place == 40 { BLOCK_ROWS + 9 } else { u64::from(place % 7) + 1 };
                    let own = rows(seed * 1000 + u64::from(place), n_rows);
                    kept.push(place, bytemuck::cast_slice(own.as_flattened()));
                    model.insert(place, own);
                }
                kept
            };
            let mut space = MultiSpace::of(&backend, settings(metric), &kept(0, 300)).unwrap();
            for i in 0..9 {
                space.push(&backend, &kept(300 + 10 * i, 5)).unwrap();
            }
            assert_eq!(space.n_points(), (300, 45));
            check(&space, &backend, &model, (metric, seed));
            model.retain(|place, _| place % 3 != 0);
            let to = |place: u32| (!place.is_multiple_of(3)).then(|| 1000 - place);
            let moved = space.moved(&backend, to).unwrap();
            let model = model.into_iter().map(|(place, own)| (1000 - place, own)).collect();
            check(&moved, &backend, &model, (metric, seed));
            assert_eq!(moved.n_points(), (model.len() as u64, 0));
        }
    }
}
