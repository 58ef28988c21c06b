//! One sparse vector of the points: its lists, what came since, and the nearest in all of them, always exact.
//!
//! A point is found if it shares an index with the query. Cost of a search: the lists of the query's indices, or, where fewer
//! points may be found, those points.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use crate::backend::budget::Reservation;
use crate::backend::cpu::Cpu;
use crate::core::neighbors::{Neighbor, TopK};
use crate::core::sparse::SparseVector;
use crate::engine::kept::Kept;
use crate::engine::postings::{Entry, List, Postings, shared};
use crate::engine::settings::{VectorSettings, VectorShape};
use crate::error::Result;

/// Places whose sums are held at once: with 64 bits each they fit a second-level cache.
const WINDOW: u32 = 1 << 16;

/// How much longer all lists are than the points that may be found, from where on those are looked up in the lists.
const LISTED: u64 = 8;

/// Points of a set that are looked up in lists to be counted; of larger ones it is each place of a list that is looked up.
const COUNTED: u64 = 1 << 14;

/// Bytes of a list in memory beside its places and values.
const LIST_BYTES: u64 = 64;

/// One sparse vector.
pub(super) struct SparseSpace {
    settings: VectorSettings,
    base: Postings,
    /// What came since, by index: all places are after those of the base.
    recent: HashMap<u32, (Vec<u32>, Vec<f32>)>,
    /// Places that have or had the vector.
    has: RoaringBitmap,
    n_base: u64,
    reserved: [Option<Reservation>; 2],
}

/// One index of a query before the lists.
struct Term<'a> {
    weight: f64,
    list: List<'a>,
}

impl SparseSpace {
    /// A vector of points of a base.
    ///
    /// # Errors
    /// `record_corrupt`; `device_oom` if the lists do not fit the backend's budget.
    pub fn of(backend: &Cpu, settings: VectorSettings, kept: &Kept) -> Result<Self> {
        let mut entries: Vec<Entry> = Vec::new();
        for (&place, vector) in kept.places.iter().zip(kept.sparse()?) {
            entries.extend(vector.pairs().map(|(index, value)| (index, place, value)));
        }
        let has = kept.places.iter().copied().collect();
        Self::of_parts(backend, settings, Postings::new(entries), has)
    }

    /// A vector of lists that were made before, and the places that have it.
    ///
    /// # Errors
    /// `device_oom`.
    pub fn of_parts(
        backend: &Cpu,
        settings: VectorSettings,
        base: Postings,
        has: RoaringBitmap,
    ) -> Result<Self> {
        let reserved = [Some(backend.reserve(base.n_bytes())?), None];
        let (n_base, recent) = (has.len(), HashMap::new());
        Ok(Self { settings, base, recent, has, n_base, reserved })
    }

    /// Adds vectors at places after all others.
    ///
    /// # Errors
    /// Those of [`Self::of`].
    pub fn push(&mut self, backend: &Cpu, kept: &Kept) -> Result<()> {
        for (&place, vector) in kept.places.iter().zip(kept.sparse()?) {
            for (index, value) in vector.pairs() {
                let (places, values) = self.recent.entry(index).or_default();
                places.push(place);
                values.push(value);
            }
        }
        self.has.extend(kept.places.iter().copied());
        self.reserved[1] = None;
        self.reserved[1] = Some(backend.reserve(self.recent_bytes())?);
        Ok(())
    }

    /// The same points, where they lie by now.
    ///
    /// # Errors
    /// `device_oom`.
    pub fn moved(&self, backend: &Cpu, to: impl Fn(u32) -> Option<u32>) -> Result<Self> {
        let mut entries: Vec<Entry> = Vec::new();
        let recent = self.recent.iter().map(|(&index, own)| (index, list(own)));
        for (index, list) in self.base.lists().chain(recent) {
            let moved = list.places.iter().zip(list.values);
            entries.extend(moved.filter_map(|(&place, &value)| Some((index, to(place)?, value))));
        }
        let has = self.has.iter().filter_map(to).collect();
        Self::of_parts(backend, self.settings.clone(), Postings::new(entries), has)
    }

    /// Its settings.
    pub fn settings(&self) -> &VectorSettings {
        &self.settings
    }

    /// Places that have or had the vector.
    pub fn has(&self) -> &RoaringBitmap {
        &self.has
    }

    /// The lists of the base.
    pub fn base(&self) -> &Postings {
        &self.base
    }

    /// Points of the base that have or had the vector, and points that came since.
    pub fn n_points(&self) -> (u64, u64) {
        (self.n_base, self.has.len() - self.n_base)
    }

    /// Bytes of what came since.
    pub fn recent_bytes(&self) -> u64 {
        let n_bytes = |(places, _): &(Vec<u32>, Vec<f32>)| LIST_BYTES + 8 * places.len() as u64;
        self.recent.values().map(n_bytes).sum()
    }

    /// A query as it is compared: with weights by how few points of a set have each index, if the vector has them.
    pub fn weighted(&self, query: &SparseVector, readable: &RoaringBitmap) -> SparseVector {
        if self.settings.shape != (VectorShape::Sparse { idf: true }) {
            return query.clone();
        }
        let n = readable.len() as f64;
        let few = (readable.len() <= COUNTED).then(|| readable.iter().collect::<Vec<u32>>());
        let is_all = self.has.is_subset(readable);
        query.weighted(|index| {
            let lists = self.lists(index);
            let count = |list: List<'_>| match &few {
                _ if is_all => list.places.len(),
                Some(few) => {
                    let mut n_shared = 0;
                    shared(few, list.places, |_, _| n_shared += 1);
                    n_shared
                }
                None => list.places.iter().filter(|place| readable.contains(**place)).count(),
            };
            let d = lists.map(count).iter().sum::<usize>() as f64;
            ((n - d + 0.5) / (d + 0.5) + 1.0).ln()
        })
    }

    /// The `k` nearest of the allowed places, by the inner product with a minus: those that share an index with the query.
    pub fn search(&self, query: &SparseVector, allowed: &RoaringBitmap, k: usize) -> Vec<Neighbor> {
        let terms = self.terms(query);
        let mut top = TopK::new(k.min(allowed.len() as usize));
        let mut push = |slot, sum| top.push(Neighbor { slot, distance: distance(sum) });
        let n_listed: u64 = terms.iter().map(|term| term.list.places.len() as u64).sum();
        if allowed.len() * LISTED < n_listed {
            let places: Vec<u32> = allowed.iter().collect();
            let sums = sums(&terms, &places);
            let found = places.iter().zip(sums).filter_map(|(&place, sum)| Some((place, sum?)));
            found.for_each(|(place, sum)| push(place, sum));
        } else {
            each_sum(&terms, |place, sum| {
                if allowed.contains(place) {
                    push(place, sum);
                }
            });
        }
        top.into_sorted()
    }

    /// Inner products with a minus of every query with the points at these places, which are ascending; 0 where no index is
    /// shared.
    pub fn distances(&self, queries: &[SparseVector], places: &[u32]) -> Vec<Vec<f32>> {
        let of_query = |query: &SparseVector| {
            let sums = sums(&self.terms(query), places);
            sums.into_iter().map(|sum| sum.map_or(0.0, distance)).collect()
        };
        queries.iter().map(of_query).collect()
    }

    fn lists(&self, index: u32) -> [List<'_>; 2] {
        [self.base.list(index), self.recent.get(&index).map(list).unwrap_or_default()]
    }

    fn terms(&self, query: &SparseVector) -> Vec<Term<'_>> {
        let of = |(index, weight)| {
            self.lists(index).map(|list| Term { weight: f64::from(weight), list })
        };
        query.pairs().flat_map(of).filter(|term| !term.list.places.is_empty()).collect()
    }
}

fn list((places, values): &(Vec<u32>, Vec<f32>)) -> List<'_> {
    List { places, values }
}

fn distance(sum: f64) -> f32 {
    0.0 - sum as f32
}

/// For each of these places the sum over all terms, `None` if it is in none of their lists.
fn sums(terms: &[Term<'_>], places: &[u32]) -> Vec<Option<f64>> {
    let mut sums = vec![None; places.len()];
    for Term { weight, list } in terms {
        shared(places, list.places, |at, n| {
            *sums[at].get_or_insert(0.0) += weight * f64::from(list.values[n]);
        });
    }
    sums
}

/// Calls `visit` with every place that is in a list, ascending, and its sum over all terms.
fn each_sum(terms: &[Term<'_>], mut visit: impl FnMut(u32, f64)) {
    let mut begins = vec![0; terms.len()];
    let mut sums = vec![0.0; WINDOW as usize];
    let mut met = vec![0u64; WINDOW as usize / 64];
    let next = |begins: &[usize]| {
        let firsts = terms.iter().zip(begins).filter_map(|(term, &at)| term.list.places.get(at));
        firsts.min().map(|first| first & !(WINDOW - 1))
    };
    while let Some(first) = next(&begins) {
        for (Term { weight, list }, begin) in terms.iter().zip(&mut begins) {
            let places = list.places[*begin..].iter().zip(&list.values[*begin..]);
            for (place, &value) in places.take_while(|(place, _)| *place - first < WINDOW) {
                let at = (place - first) as usize;
                sums[at] += weight * f64::from(value);
                met[at / 64] |= 1 << (at % 64);
                *begin += 1;
            }
        }
        for (word, bits) in met.iter_mut().enumerate() {
            while *bits != 0 {
                let at = 64 * word + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                visit(first + at as u32, std::mem::take(&mut sums[at]));
            }
        }
    }
}

#[cfg(test)]
mod tests;
