//! Points that are near a query and unlike each other, one after another.
//!
//! Paper: Carbonell, Goldstein, "The use of MMR", SIGIR 1998.

/// A choice among candidates.
pub(super) struct Choice<'a> {
    /// Similarities to the query.
    near: &'a [f32],
    diversity: f32,
    /// Those that are not chosen yet, in their order.
    pending: Vec<usize>,
    /// Greatest similarity of each candidate to those that were chosen; none before the first.
    alike: Option<Vec<f32>>,
}

impl<'a> Choice<'a> {
    /// A choice among candidates with these similarities to the query, nearest first.
    pub fn new(near: &'a [f32], diversity: f32) -> Self {
        Self { near, diversity, pending: (0..near.len()).collect(), alike: None }
    }

    /// The next to be chosen: the nearest at first; of those that are as good the first.
    pub fn best(&self) -> Option<usize> {
        let Some(alike) = &self.alike else { return self.pending.first().copied() };
        let worth = |i: usize| (1.0 - self.diversity) * self.near[i] - self.diversity * alike[i];
        self.pending.iter().copied().reduce(|best, i| if worth(i) > worth(best) { i } else { best })
    }

    /// Chooses one, to which candidates are this alike.
    pub fn choose(&mut self, chosen: usize, alike: &[f32]) {
        self.pending.retain(|i| *i != chosen);
        match &mut self.alike {
            None => self.alike = Some(alike.to_vec()),
            Some(most) => most.iter_mut().zip(alike).for_each(|(most, own)| *most = most.max(*own)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All three candidates, the first two of which are nearly one.
    fn chosen(diversity: f32) -> Vec<usize> {
        let near = [0.9, 0.89, 0.5];
        let alike = [[1.0, 0.99, 0.1], [0.99, 1.0, 0.1], [0.1, 0.1, 1.0]];
        let mut choice = Choice::new(&near, diversity);
        let mut order = Vec::new();
        while let Some(best) = choice.best() {
            order.push(best);
            choice.choose(best, &alike[best]);
        }
        order
    }

    #[test]
    fn without_diversity_the_nearest_come_first_and_with_it_what_is_unlike_them() {
        assert_eq!(chosen(0.0), [0, 1, 2]);
        assert_eq!(chosen(0.5), [0, 2, 1]);
        assert_eq!(chosen(1.0), [0, 2, 1]);
    }
}
