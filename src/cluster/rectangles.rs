//! Work cut to size: which rows meet which, in pieces whose answer fits in memory even if every pair is near.

/// Rows of `left` with rows of `right`; without `right`, pairs of rows of `left`, each once.
#[derive(Clone, Copy, Debug)]
pub struct Rectangle<'r> {
    /// Rows of one side.
    pub left: &'r [u32],
    /// Rows of the other, none of them among `left`.
    pub right: Option<&'r [u32]>,
}

/// The most that one piece may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pairs compared in one call.
    pub n_pairs: usize,
    /// Rows copied for one call.
    pub n_rows: usize,
}

impl<'r> Rectangle<'r> {
    /// Rows that take part.
    pub fn n_rows(&self) -> usize {
        self.left.len() + self.right.map_or(0, <[u32]>::len)
    }

    /// Pairs to compare.
    pub fn n_pairs(&self) -> usize {
        match self.right {
            Some(right) => self.left.len() * right.len(),
            None => self.left.len() * self.left.len().saturating_sub(1) / 2,
        }
    }

    /// Hands out pieces within `limits` that cover every pair once.
    ///
    /// # Errors
    /// The first of `each`.
    pub fn cut<E>(
        self,
        limits: Limits,
        each: &mut dyn FnMut(Rectangle<'r>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.n_pairs() == 0 {
            return Ok(());
        }
        let fits = self.n_pairs() <= limits.n_pairs && self.n_rows() <= limits.n_rows;
        // One pair cannot be cut.
        if fits || self.n_pairs() == 1 {
            return each(self);
        }
        let halves = |side: &'r [u32]| side.split_at(side.len() / 2);
        match self.right {
            None => {
                let (first, second) = halves(self.left);
                for left in [first, second] {
                    Rectangle { left, right: None }.cut(limits, each)?;
                }
                Rectangle { left: first, right: Some(second) }.cut(limits, each)
            }
            Some(right) if right.len() >= self.left.len() => {
                let (first, second) = halves(right);
                for right in [first, second] {
                    Rectangle { left: self.left, right: Some(right) }.cut(limits, each)?;
                }
                Ok(())
            }
            Some(_) => {
                let (first, second) = halves(self.left);
                for left in [first, second] {
                    Rectangle { left, right: self.right }.cut(limits, each)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn pieces_cover_every_pair_once_within_the_limits() {
        let (left, right): (Vec<u32>, Vec<u32>) = ((0..37).collect(), (100..111).collect());
        for limits in [(1, 2), (7, 10), (100, 9), (10_000, 1000)] {
            let limits = Limits { n_pairs: limits.0, n_rows: limits.1 };
            for right in [None, Some(right.as_slice())] {
                let whole = Rectangle { left: &left, right };
                let mut seen = BTreeSet::new();
                let mut each = |piece: Rectangle<'_>| {
                    assert!(piece.n_pairs() <= limits.n_pairs && piece.n_rows() <= limits.n_rows);
                    for (i, &x) in piece.left.iter().enumerate() {
                        let others = piece.right.unwrap_or(&piece.left[..i]);
                        others.iter().for_each(|&y| assert!(seen.insert((x, y))));
                    }
                    Ok::<(), ()>(())
                };
                whole.cut(limits, &mut each).unwrap();
                assert_eq!(seen.len(), whole.n_pairs());
            }
        }
    }
}
