//! Stage 5: pairs to duplicate clusters.
//!
//! In: pairs of ranks. Out: connected components, named by their best rank, so that the result does not
//! depend on the order of the pairs.

/// Disjoint sets of ranks; the root of a set is its smallest member.
#[derive(Clone, Debug)]
pub struct UnionFind {
    parent: Vec<u32>,
}

impl UnionFind {
    /// Every rank below `n` by itself.
    pub fn new(n: u32) -> Self {
        Self { parent: (0..n).collect() }
    }

    /// The smallest member of the set of `x`.
    pub fn find(&mut self, mut x: u32) -> u32 {
        loop {
            let parent = self.parent[x as usize];
            if parent == x {
                return x;
            }
            let above = self.parent[parent as usize];
            // Path halving: keeps trees flat without a second pass.
            self.parent[x as usize] = above;
            x = above;
        }
    }

    /// Joins the sets of `a` and `b`.
    pub fn union(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a.max(b) as usize] = a.min(b);
    }
}

/// Clusters of two or more records.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    /// By rank: number of its cluster plus 1, or 0 for a record that is alone.
    number: Vec<u32>,
    /// By number: records in the cluster.
    sizes: Vec<u32>,
}

impl Clusters {
    /// Numbers the sets of `sets`, those with the best ranks first.
    pub fn number(mut sets: UnionFind) -> Self {
        let n = sets.parent.len() as u32;
        let mut size = vec![0u32; n as usize];
        (0..n).for_each(|rank| size[sets.find(rank) as usize] += 1);
        let mut clusters = Self { number: vec![0; n as usize], sizes: Vec::new() };
        for rank in 0..n {
            let root = sets.find(rank);
            if root == rank && size[rank as usize] > 1 {
                clusters.sizes.push(size[rank as usize]);
                clusters.number[rank as usize] = clusters.sizes.len() as u32;
            } else {
                clusters.number[rank as usize] = clusters.number[root as usize];
            }
        }
        clusters
    }

    /// Number of the cluster of a rank, from 0; `None` if the record is alone.
    pub fn of(&self, rank: u32) -> Option<u32> {
        self.number[rank as usize].checked_sub(1)
    }

    /// Records in each cluster, by number.
    pub fn sizes(&self) -> &[u32] {
        &self.sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_do_not_depend_on_the_order_of_pairs() {
        let mut pairs = [(5, 2), (9, 7), (2, 8), (7, 1), (3, 4)];
        for _ in 0..pairs.len() {
            pairs.rotate_left(1);
            let mut sets = UnionFind::new(10);
            pairs.iter().for_each(|&(a, b)| sets.union(a, b));
            let clusters = Clusters::number(sets);
            let numbers: Vec<Option<u32>> = (0..10).map(|rank| clusters.of(rank)).collect();
            let (a, b, c) = (Some(0), Some(1), Some(2));
            assert_eq!(numbers, [None, a, b, c, c, b, None, a, b, a]);
            assert_eq!(clusters.sizes(), [3, 3, 2]);
        }
    }
}
