//! Rows that came since the base was built: few, and all compared.
//!
//! Each write adds a chunk; two of like size become one, so that `n` rows lie in about `log n` chunks and each is copied as
//! often.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::backend::resident::Resident;
use crate::backend::{Backend, Stream};
use crate::core::metric::Metric;
use crate::core::neighbors::{Neighbor, TopK};
use crate::core::rows::Rows;
use crate::error::Result;

/// Rows and their places, ascending.
struct Chunk {
    places: Vec<u32>,
    rows: Resident,
}

/// All recent rows of one vector.
#[derive(Default)]
pub(super) struct Recent {
    chunks: Vec<Chunk>,
}

impl Recent {
    /// Adds rows, whose places come after all others.
    ///
    /// # Errors
    /// Those of [`Backend::upload`].
    pub fn push(
        &mut self,
        backend: &dyn Backend,
        metric: Metric,
        mut places: Vec<u32>,
        rows: Rows,
    ) -> Result<()> {
        let mut rows = rows;
        while let Some(last) = self.chunks.pop_if(|last| last.places.len() <= 2 * places.len()) {
            rows = last.rows.host().followed_by(&rows);
            places = [last.places, places].concat();
        }
        let rows = backend.upload(Arc::new(rows), metric)?;
        self.chunks.push(Chunk { places, rows });
        Ok(())
    }

    /// Rows, those of places that were given up included.
    pub fn n_rows(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.places.len()).sum()
    }

    /// Every row, by its place.
    pub fn rows(&self) -> HashMap<u32, Rows> {
        let of_chunk = |chunk: &Chunk| -> Vec<(u32, Rows)> {
            let row = |(i, &place): (usize, &u32)| (place, chunk.rows.host().slice(i..i + 1));
            chunk.places.iter().enumerate().map(row).collect()
        };
        self.chunks.iter().flat_map(of_chunk).collect()
    }

    /// Bytes of all rows.
    pub fn n_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.rows.host().n_bytes()).sum()
    }

    /// Distances of every query to the rows at these places, which are ascending and all here, in their order.
    ///
    /// # Errors
    /// Those of [`Backend::gather`].
    pub fn distances(
        &self,
        backend: &dyn Backend,
        queries: &Rows,
        places: &[u32],
    ) -> Result<Vec<Vec<f32>>> {
        let mut found = vec![vec![0.0; places.len()]; queries.n_rows()];
        for chunk in &self.chunks {
            let own = places.iter().enumerate().filter_map(|(at, place)| {
                let row = chunk.places.binary_search(place).ok()?;
                Some((at, row as u32))
            });
            let (ats, rows): (Vec<usize>, Vec<u32>) = own.unzip();
            if rows.is_empty() {
                continue;
            }
            let lists = vec![rows; queries.n_rows()];
            let some = backend.gather(Stream::default(), queries, &chunk.rows, &lists)?;
            for (found, some) in found.iter_mut().zip(some) {
                ats.iter().zip(some).for_each(|(&at, distance)| found[at] = distance);
            }
        }
        Ok(found)
    }

    /// The `k` nearest rows of every query among the places that are allowed: exact.
    ///
    /// # Errors
    /// Those of [`Backend::gather`].
    pub fn search(
        &self,
        backend: &dyn Backend,
        queries: &Rows,
        allowed: &RoaringBitmap,
        k: usize,
    ) -> Result<Vec<Vec<Neighbor>>> {
        let mut tops: Vec<TopK> = (0..queries.n_rows()).map(|_| TopK::new(k)).collect();
        for chunk in &self.chunks {
            let rows: Vec<u32> = (0u32..)
                .zip(&chunk.places)
                .filter(|&(_, &place)| allowed.contains(place))
                .map(|(row, _)| row)
                .collect();
            if rows.is_empty() {
                continue;
            }
            for (q, top) in tops.iter_mut().enumerate() {
                let query = queries.slice(q..q + 1);
                let lists = [rows.clone()];
                let distances = backend.gather(Stream::default(), &query, &chunk.rows, &lists)?;
                for (&row, &distance) in rows.iter().zip(&distances[0]) {
                    top.push(Neighbor { slot: chunk.places[row as usize], distance });
                }
            }
        }
        Ok(tops.into_iter().map(TopK::into_sorted).collect())
    }
}
