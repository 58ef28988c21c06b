//! The few nearest rows that the loops found.

/// How many are kept: enough that ties and entries that do not pass seldom need a second look.
const KEPT: usize = 8;

/// A row and its cosine as the loops have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Near {
    pub cosine: f32,
    pub cell: usize,
    pub at: usize,
}

/// The nearest rows, nearest first.
#[derive(Clone, Debug)]
pub(super) struct Best {
    all: Vec<Near>,
    /// A row that is no nearer changes nothing.
    bound: f32,
}

impl Default for Best {
    fn default() -> Self {
        Self { all: Vec::with_capacity(KEPT + 1), bound: f32::NEG_INFINITY }
    }
}

impl Best {
    /// Nearest first.
    pub fn all(&self) -> &[Near] {
        &self.all
    }

    /// Takes one row if it is among the nearest.
    #[inline]
    pub fn push(&mut self, cosine: f32, cell: usize, at: usize) {
        if cosine > self.bound {
            self.insert(Near { cosine, cell, at });
        }
    }

    /// Takes rows of a cell, from `first` on: dot products and what makes cosines of them.
    pub fn take(&mut self, cell: usize, first: usize, sums: &[f32], inverse: &[f32]) {
        for (at, (&sum, &inverse)) in sums.iter().zip(inverse).enumerate() {
            self.push(sum * inverse, cell, first + at);
        }
    }

    fn insert(&mut self, near: Near) {
        let at = self.all.partition_point(|other| other.cosine >= near.cosine);
        self.all.insert(at, near);
        self.all.truncate(KEPT);
        if self.all.len() == KEPT {
            self.bound = self.all[KEPT - 1].cosine;
        }
    }

    /// Whether a row with at least this cosine may be missing.
    pub fn may_have_lost(&self, cosine: f32) -> bool {
        self.all.len() == KEPT && self.bound >= cosine
    }
}
