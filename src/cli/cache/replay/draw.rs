//! Which prompt comes with each arrival, drawn by a seed.

use std::collections::HashMap;

use crate::cli::cache::calibrate::shuffle;
use crate::cli::cache::labelled::Request;
use crate::core::mix::stream;

/// How prompts are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    pub seed: u64,
    /// An intent's weight in its category is `1 / rank^zipf`.
    pub zipf: f64,
    /// Share of requests that repeat an earlier one word for word.
    pub repeats: f64,
    /// Share of requests that are of a trap: they come close to each other, and one answer is not right for both.
    pub traps: f64,
}

/// The prompts of one intent, drawn one after the other; after the last the first comes again.
struct Intent {
    rows: Vec<usize>,
    next: usize,
}

/// Intents of one category, the most frequent first, with the sums of their weights.
struct Category {
    intents: Vec<Intent>,
    sums: Vec<f64>,
    /// Rows of it.
    n: usize,
}

/// Draws prompts, as their rows.
pub struct Drawer {
    recipe: Recipe,
    categories: Vec<Category>,
    drawn: Vec<usize>,
    /// Pairs of rows, and how many of them were drawn from.
    traps: Vec<[usize; 2]>,
    n_traps: usize,
    n_draws: u64,
}

impl Drawer {
    /// Draws from requests; a request without intent is an intent of its own. `traps` are rows, two for each trap.
    pub fn new(recipe: Recipe, requests: &[Request], traps: Vec<[usize; 2]>) -> Self {
        let mut by_intent: HashMap<(u32, Option<u32>, usize), usize> = HashMap::new();
        let mut all: Vec<Vec<Intent>> = Vec::new();
        for (row, request) in requests.iter().enumerate() {
            let category = request.category as usize;
            all.resize_with(all.len().max(category + 1), Vec::new);
            // The row tells those without intent apart.
            let lone = if request.intent.is_none() { row } else { usize::MAX };
            let next = all[category].len();
            let at = *by_intent.entry((request.category, request.intent, lone)).or_insert(next);
            if at == next {
                all[category].push(Intent { rows: Vec::new(), next: 0 });
            }
            all[category][at].rows.push(row);
        }
        let categories = (1..).zip(all).map(|(i, intents)| Category::new(recipe, i, intents));
        let categories = categories.collect();
        Self { recipe, categories, drawn: Vec::new(), traps, n_traps: 0, n_draws: 0 }
    }

    /// The row of the next prompt.
    pub fn next(&mut self) -> usize {
        let kind = self.even();
        let row = if kind < self.recipe.repeats && !self.drawn.is_empty() {
            let at = self.even() * self.drawn.len() as f64;
            self.drawn[at as usize]
        } else if kind < self.recipe.repeats + self.recipe.traps && !self.traps.is_empty() {
            // One half, and with the next trap the other.
            let row = self.traps[self.n_traps / 2 % self.traps.len()][self.n_traps % 2];
            self.n_traps += 1;
            row
        } else {
            self.of_intent()
        };
        self.drawn.push(row);
        row
    }

    fn of_intent(&mut self) -> usize {
        let n: usize = self.categories.iter().map(|category| category.n).sum();
        let mut at = (self.even() * n as f64) as usize;
        let share = self.even();
        for category in &mut self.categories {
            if at < category.n {
                return category.next(share);
            }
            at -= category.n;
        }
        unreachable!("the number drawn is below the sum")
    }

    /// The next number of [0, 1).
    fn even(&mut self) -> f64 {
        self.n_draws += 1;
        (stream(self.recipe.seed, self.n_draws) >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Category {
    fn new(recipe: Recipe, number: u64, mut intents: Vec<Intent>) -> Self {
        let n = intents.iter().map(|intent| intent.rows.len()).sum();
        let seed = stream(recipe.seed, number << 32);
        let mut order: Vec<usize> = (0..intents.len()).collect();
        shuffle(&mut order, seed);
        for (i, intent) in (1..).zip(&mut intents) {
            shuffle(&mut intent.rows, stream(seed, i));
        }
        let mut slots: Vec<Option<Intent>> = intents.into_iter().map(Some).collect();
        let intents: Vec<Intent> = order.iter().filter_map(|&i| slots[i].take()).collect();
        let mut sum = 0.0;
        let weight = |rank: usize| (rank as f64 + 1.0).powf(-recipe.zipf);
        let sums = (0..intents.len()).map(|rank| {
            sum += weight(rank);
            sum
        });
        Self { sums: sums.collect(), intents, n }
    }

    fn next(&mut self, share: f64) -> usize {
        let at = share * self.sums.last().copied().unwrap_or(0.0);
        let rank = self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1);
        let intent = &mut self.intents[rank];
        let row = intent.rows[intent.next % intent.rows.len()];
        intent.next += 1;
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request> {
        let one = |i: u32| Request {
            text: format!("text {i}"),
            intent: (i % 11 < 10).then_some(i % 11),
            category: i % 2,
        };
        (0..440).map(one).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_and_shares_are_those_of_the_recipe() {
        let recipe = Recipe { seed: 5, zipf: 1.0, repeats: 0.1, traps: 0.05 };
        let rows = |seed| -> Vec<usize> {
            let traps = vec![[440, 441], [442, 443]];
            let mut drawer = Drawer::new(Recipe { seed, ..recipe }, &requests(), traps);
            (0..4000).map(|_| drawer.next()).collect()
        };
        assert_eq!(rows(5), rows(5));
        assert_ne!(rows(5), rows(6));
        let traps: Vec<usize> = rows(5).into_iter().filter(|row| *row >= 440).collect();
        assert!((150..300).contains(&traps.len()), "{}", traps.len());
        let firsts =
            [440, 441, 442, 443].map(|row| rows(5).iter().position(|x| *x == row).unwrap());
        assert!(firsts.is_sorted(), "{firsts:?}");
    }

    #[test]
    fn frequent_intents_come_more_often_and_no_prompt_twice_before_all_came() {
        let recipe = Recipe { seed: 1, zipf: 1.2, repeats: 0.0, traps: 0.0 };
        let all = requests();
        let mut drawer = Drawer::new(recipe, &all, Vec::new());
        let mut counts: HashMap<(u32, Option<u32>), Vec<usize>> = HashMap::new();
        for _ in 0..2000 {
            let row = drawer.next();
            counts.entry((all[row].category, all[row].intent)).or_default().push(row);
        }
        let mut sizes: Vec<usize> = counts.values().map(Vec::len).collect();
        sizes.sort_unstable();
        assert!(sizes[sizes.len() - 1] > 5 * sizes[0], "{sizes:?}");
        for ((_, intent), rows) in counts.iter().filter(|((_, intent), _)| intent.is_some()) {
            let mut first: Vec<usize> = rows.iter().copied().take(20).collect();
            first.sort_unstable();
            first.dedup();
            assert_eq!(first.len(), rows.len().min(20), "{intent:?}");
        }
    }
}
