//! For every index of sparse vectors the places that have it, ascending, with their values.

use crate::core::slab::Slab;
use crate::error::Result;
use crate::store::sealed::{Sealed, SealedWriter};

/// A value at an index, of the point at a place.
pub(super) type Entry = (u32, u32, f32);

/// Places that have an index, ascending, and a value each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct List<'a> {
    pub places: &'a [u32],
    pub values: &'a [f32],
}

/// All lists of a base.
#[derive(Debug)]
pub(super) struct Postings {
    /// Ascending.
    indices: Slab<u32>,
    /// `[n_indices + 1]`: where each list begins.
    starts: Slab<u64>,
    places: Slab<u32>,
    values: Slab<f32>,
}

impl Postings {
    /// Sections that [`Self::seal`] writes.
    pub const N_SECTIONS: usize = 4;

    /// The lists of these entries, no place of which has an index twice.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by_key(|&(index, place, _)| (index, place));
        let (mut indices, mut starts): (Vec<u32>, Vec<u64>) = (Vec::new(), Vec::new());
        for (at, &(index, ..)) in entries.iter().enumerate() {
            if indices.last() != Some(&index) {
                indices.push(index);
                starts.push(at as u64);
            }
        }
        starts.push(entries.len() as u64);
        let (places, values) = entries.into_iter().map(|(_, place, value)| (place, value)).unzip();
        let (places, values): (Vec<u32>, Vec<f32>) = (places, values);
        let (indices, starts) = (indices.into(), starts.into());
        Self { indices, starts, places: places.into(), values: values.into() }
    }

    /// The places that have an index.
    pub fn list(&self, index: u32) -> List<'_> {
        self.indices.binary_search(&index).map(|at| self.at(at)).unwrap_or_default()
    }

    fn at(&self, at: usize) -> List<'_> {
        let range = self.starts[at] as usize..self.starts[at + 1] as usize;
        List { places: &self.places[range.clone()], values: &self.values[range] }
    }

    /// Every index with its list.
    pub fn lists(&self) -> impl Iterator<Item = (u32, List<'_>)> {
        self.indices.iter().enumerate().map(|(at, &index)| (index, self.at(at)))
    }

    /// Bytes of all lists.
    pub fn n_bytes(&self) -> u64 {
        4 * (self.indices.len() + 2 * self.starts.len() + self.places.len() + self.values.len())
            as u64
    }

    /// Writes the lists.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn seal(&self, writer: &mut SealedWriter<'_>) -> Result<()> {
        writer.section::<u32>("sparse.indices", &[self.indices.len() as u64])?;
        writer.append::<u32>(&self.indices)?;
        writer.section::<u64>("sparse.starts", &[self.starts.len() as u64])?;
        writer.append::<u64>(&self.starts)?;
        writer.section::<u32>("sparse.places", &[self.places.len() as u64])?;
        writer.append::<u32>(&self.places)?;
        writer.section::<f32>("sparse.values", &[self.values.len() as u64])?;
        writer.append::<f32>(&self.values)
    }

    /// The lists of a file, of places below `n_base`. All but their values are verified.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn open(sealed: &Sealed, n_base: u32) -> Result<Self> {
        for name in ["sparse.indices", "sparse.starts", "sparse.places"] {
            sealed.verify_memory(name)?;
        }
        let opened = Self {
            indices: sealed.slab("sparse.indices")?.0,
            starts: sealed.slab("sparse.starts")?.0,
            places: sealed.slab("sparse.places")?.0,
            values: sealed.slab("sparse.values")?.0,
        };
        match opened.is_whole(n_base) {
            true => Ok(opened),
            false => Err(sealed.refuse("sparse.starts", "lists that do not belong together")),
        }
    }

    fn is_whole(&self, n_base: u32) -> bool {
        let Self { indices, starts, places, values } = self;
        let ends = starts.first() == Some(&0) && starts.last() == Some(&(places.len() as u64));
        ends && starts.len() == indices.len() + 1
            && values.len() == places.len()
            && starts.is_sorted()
            && indices.is_sorted_by(|a, b| a < b)
            && self.lists().all(|(_, list)| list.places.is_sorted_by(|a, b| a < b))
            && places.iter().all(|&place| place < n_base)
    }
}

/// Calls `visit` with the positions of every number that is in both lists, which are ascending. Cost: about the length of the
/// shorter one, times the logarithm of how often it goes into the other.
pub(super) fn shared(a: &[u32], b: &[u32], mut visit: impl FnMut(usize, usize)) {
    let (mut i, mut j) = (0, 0);
    while let (Some(&one), Some(&other)) = (a.get(i), b.get(j)) {
        if one == other {
            visit(i, j);
            (i, j) = (i + 1, j + 1);
        } else if one < other {
            i += n_below(&a[i..], other);
        } else {
            j += n_below(&b[j..], one);
        }
    }
}

/// How many of ascending numbers are below a limit, looked for from the first on.
fn n_below(numbers: &[u32], limit: u32) -> usize {
    let mut step = 1;
    while numbers.get(step).is_some_and(|&number| number < limit) {
        step *= 2;
    }
    let (from, to) = (step / 2, (step + 1).min(numbers.len()));
    from + numbers[from..to].partition_point(|&number| number < limit)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::core::mix::stream;

    #[test]
    fn lists_are_those_of_their_entries() {
        let postings = Postings::new(vec![(7, 3, 0.5), (2, 9, 1.0), (7, 1, -1.0), (2, 4, 2.0)]);
        let list = postings.list(7);
        assert_eq!((list.places, list.values), (&[1, 3][..], &[-1.0, 0.5][..]));
        assert_eq!(postings.list(2).places, [4, 9]);
        assert!(postings.list(3).places.is_empty());
        assert!(postings.is_whole(10) && !postings.is_whole(9));
        assert!(Postings::new(Vec::new()).is_whole(0));
        let unsorted = Postings { places: vec![4, 4, 1, 3].into(), ..postings };
        assert!(!unsorted.is_whole(10), "a place twice");
    }

    #[test]
    fn shared_numbers_are_those_of_both_sets() {
        for seed in 0..200 {
            let set = |seed: u64, n: u64, below: u64| -> Vec<u32> {
                let numbers = (0..n).map(|i| (stream(seed, i) % below) as u32);
                numbers.collect::<BTreeSet<u32>>().into_iter().collect()
            };
            let (n, m) = (stream(seed, 900) % 40, stream(seed, 901) % 400);
            let (a, b) = (set(2 * seed, n, 300), set(2 * seed + 1, m, 300));
            let mut found = Vec::new();
            shared(&a, &b, |i, j| {
                assert_eq!(a[i], b[j], "seed {seed}");
                found.push(a[i]);
            });
            let expected: Vec<u32> =
                a.iter().copied().filter(|x| b.binary_search(x).is_ok()).collect();
            assert_eq!(found, expected, "seed {seed}");
        }
    }
}
