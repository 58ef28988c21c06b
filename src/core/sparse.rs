//! Sparse vectors: values at some of very many indices, 0 at all others.

use std::collections::BTreeMap;

use crate::core::limits::SPARSE_VALUES;
use crate::error::{Error, ErrorKind, Result};

/// The largest value: products of two of them, each weighted and [`SPARSE_VALUES`] summed, are numbers of 32 bits.
const LARGEST: f32 = 1e15;

/// Indices, ascending and each once, with a finite value each. It may have none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseVector {
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl SparseVector {
    /// These values at these indices, which may come in any order.
    ///
    /// # Errors
    /// `sparse_lengths` if there is not a value for each index, `sparse_duplicate` names an index that is there twice;
    /// `vector_not_finite`, `vector_magnitude`; of kind `Limit`, `sparse_size`.
    pub fn new(indices: Vec<u32>, values: Vec<f32>) -> Result<Self> {
        let bad = |code, message| Err(Error::new(ErrorKind::BadInput, code, message));
        if indices.len() != values.len() {
            let message = format!(
                "{} indices and {} values, expected as many of both",
                indices.len(),
                values.len()
            );
            return bad("sparse_lengths", message);
        }
        if indices.len() > SPARSE_VALUES {
            let message = format!("{} values, limit {SPARSE_VALUES}", indices.len());
            return Err(Error::new(ErrorKind::Limit, "sparse_size", message));
        }
        let mut pairs: Vec<(u32, f32)> = indices.into_iter().zip(values).collect();
        if let Some((index, value)) = pairs.iter().find(|(_, value)| !value.is_finite()) {
            return bad("vector_not_finite", format!("the value at index {index} is {value}"));
        }
        if let Some((index, value)) = pairs.iter().find(|(_, value)| value.abs() > LARGEST) {
            let message =
                format!("the value at index {index} is {value:e}, expected at most {LARGEST:e}");
            return bad("vector_magnitude", message);
        }
        pairs.sort_unstable_by_key(|(index, _)| *index);
        if let Some(two) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
            return bad("sparse_duplicate", format!("index {} is there twice", two[0].0));
        }
        let (indices, values) = pairs.into_iter().unzip();
        Ok(Self { indices, values })
    }

    /// The indices, ascending.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The value at each index.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Indices with their values.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.indices.iter().copied().zip(self.values.iter().copied())
    }

    /// As the record keeps it: all indices and then all values, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let indices = self.indices.iter().flat_map(|index| index.to_le_bytes());
        indices.chain(self.values.iter().flat_map(|value| value.to_le_bytes())).collect()
    }

    /// What [`Self::to_bytes`] was made of; `None` if it was made of nothing.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let (indices, values) = words.split_at(words.len() / 2);
        let indices: Vec<u32> = indices.iter().map(|&word| u32::from_le_bytes(word)).collect();
        let values: Vec<f32> = values.iter().map(|&word| f32::from_le_bytes(word)).collect();
        let is_whole = rest.is_empty() && indices.len() == values.len();
        let is_ascending = indices.windows(2).all(|two| two[0] < two[1]);
        let is_finite = values.iter().all(|value| value.is_finite());
        (is_whole && is_ascending && is_finite).then_some(Self { indices, values })
    }

    /// The sum of products of values at indices that both have, added up in their order; `None` if they share no index.
    pub fn dot(&self, other: &Self) -> Option<f32> {
        let (mut i, mut j, mut sum) = (0, 0, None);
        while let (Some(a), Some(b)) = (self.indices.get(i), other.indices.get(j)) {
            if a == b {
                let product = f64::from(self.values[i]) * f64::from(other.values[j]);
                sum = Some(sum.unwrap_or(0.0) + product);
            }
            (i, j) = (i + usize::from(a <= b), j + usize::from(b <= a));
        }
        sum.map(|sum| sum as f32)
    }

    /// The same with each value times the weight of its index.
    pub fn weighted(&self, mut weight: impl FnMut(u32) -> f64) -> Self {
        let value = |(index, value): (u32, f32)| (f64::from(value) * weight(index)) as f32;
        let values = self.pairs().map(value).collect();
        Self { indices: self.indices.clone(), values }
    }

    /// The sum of vectors, each times its weight. An index that any of them has is there, whatever its value.
    pub fn sum<'v>(parts: impl IntoIterator<Item = (f64, &'v Self)>) -> Self {
        let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
        for (weight, part) in parts {
            for (index, value) in part.pairs() {
                *sums.entry(index).or_default() += weight * f64::from(value);
            }
        }
        let (indices, values) = sums.into_iter().map(|(index, sum)| (index, sum as f32)).unzip();
        Self { indices, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(pairs: &[(u32, f32)]) -> SparseVector {
        let (indices, values) = pairs.iter().copied().unzip();
        SparseVector::new(indices, values).unwrap()
    }

    #[test]
    fn indices_are_sorted_and_what_is_no_vector_is_refused() {
        let made = sparse(&[(9, 1.0), (2, -0.5), (u32::MAX, 0.0)]);
        assert_eq!(made.indices(), [2, 9, u32::MAX]);
        assert_eq!(made.values(), [-0.5, 1.0, 0.0]);
        for (indices, values, expected) in [
            (vec![1, 2], vec![1.0], "sparse_lengths: 2 indices and 1 values"),
            (vec![7, 1, 7], vec![1.0; 3], "sparse_duplicate: index 7 is there twice"),
            (vec![1, 4], vec![0.0, f32::NAN], "vector_not_finite: the value at index 4 is NaN"),
            (vec![3], vec![-1e16], "vector_magnitude: the value at index 3 is -1e16"),
            (
                (0..=SPARSE_VALUES as u32).collect(),
                vec![1.0; SPARSE_VALUES + 1],
                "sparse_size: 65537 values, limit 65536",
            ),
        ] {
            let error = SparseVector::new(indices, values).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn bytes_are_read_back_and_those_of_no_vector_are_not() {
        for made in [SparseVector::default(), sparse(&[(0, 1.5), (7, -2.0), (900_000, 0.25)])] {
            assert_eq!(SparseVector::from_bytes(&made.to_bytes()), Some(made));
        }
        let bytes = sparse(&[(1, 1.0), (2, 2.0)]).to_bytes();
        assert_eq!(SparseVector::from_bytes(&bytes[..12]), None);
        assert_eq!(SparseVector::from_bytes(&bytes[..15]), None);
        let descending = [&bytes[4..8], &bytes[..4], &bytes[8..]].concat();
        assert_eq!(SparseVector::from_bytes(&descending), None);
    }

    #[test]
    fn only_shared_indices_count_and_none_is_not_zero() {
        let a = sparse(&[(1, 2.0), (3, 4.0), (5, 6.0)]);
        assert_eq!(a.dot(&sparse(&[(0, 9.0), (3, 0.5), (5, -1.0), (6, 9.0)])), Some(-4.0));
        assert_eq!(a.dot(&sparse(&[(3, 0.0)])), Some(0.0));
        assert_eq!(a.dot(&sparse(&[(2, 1.0), (4, 1.0)])), None);
        assert_eq!(a.dot(&SparseVector::default()), None);
    }

    #[test]
    fn sums_keep_every_index() {
        let (a, b) = (sparse(&[(1, 1.0), (2, 2.0)]), sparse(&[(2, 4.0), (3, 1.0)]));
        let sum = SparseVector::sum([(2.0, &a), (-1.0, &b)]);
        assert_eq!(sum, sparse(&[(1, 2.0), (2, 0.0), (3, -1.0)]));
        assert_eq!(a.weighted(|index| f64::from(index) * 10.0), sparse(&[(1, 10.0), (2, 40.0)]));
    }
}
