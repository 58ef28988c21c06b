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

/// The prompts of one intent, drawn one after the other.
#[derive(Default)]
struct Intent {
    rows: Vec<usize>,
    next: usize,
}

impl Intent {
    fn is_spent(&self) -> bool {
        self.next == self.rows.len()
    }

    /// The next prompt; after the last the first comes again.
    fn next(&mut self) -> usize {
        self.next = if self.is_spent() { 1 } else { self.next + 1 };
        self.rows[self.next - 1]
    }
}

/// One category.
#[derive(Default)]
struct Category {
    /// The most frequent first.
    intents: Vec<Intent>,
    weights: Vec<f64>,
    /// Prompts without intent: as frequent as they are many.
    lone: Intent,
    /// Prompts of it.
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
    /// Draws from requests. `traps` are rows, two for each trap.
    pub fn new(recipe: Recipe, requests: &[Request], traps: Vec<[usize; 2]>) -> Self {
        let mut by_intent: HashMap<(u32, u32), usize> = HashMap::new();
        let mut categories: Vec<Category> = Vec::new();
        for (row, request) in requests.iter().enumerate() {
            let number = request.category as usize;
            categories.resize_with(categories.len().max(number + 1), Category::default);
            let category = &mut categories[number];
            category.n += 1;
            let Some(intent) = request.intent else {
                category.lone.rows.push(row);
                continue;
            };
            let next = category.intents.len();
            let at = *by_intent.entry((request.category, intent)).or_insert(next);
            if at == next {
                category.intents.push(Intent::default());
            }
            category.intents[at].rows.push(row);
        }
        for (number, category) in (1..).zip(&mut categories) {
            category.order(&recipe, number);
        }
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
                // What is left of the first number is even too, below the prompts of the category.
                return category.next(at < category.lone.rows.len(), share);
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
    /// Puts intents and their prompts into the order in which they come.
    fn order(&mut self, recipe: &Recipe, number: u64) {
        let seed = stream(recipe.seed, number << 32);
        let mut order: Vec<usize> = (0..self.intents.len()).collect();
        shuffle(&mut order, seed);
        let all = self.intents.iter_mut().chain([&mut self.lone]);
        (1..).zip(all).for_each(|(i, intent)| shuffle(&mut intent.rows, stream(seed, i)));
        let intents: Vec<Intent> =
            order.iter().map(|&i| std::mem::take(&mut self.intents[i])).collect();
        self.intents = intents;
        let weight = |rank: usize| (rank as f64 + 1.0).powf(-recipe.zipf);
        self.weights = (0..self.intents.len()).map(weight).collect();
    }

    /// The next prompt: one without intent, or one of the intents of which not all came yet. Once all of them came, they
    /// come again.
    fn next(&mut self, is_lone: bool, share: f64) -> usize {
        if is_lone {
            return self.lone.next();
        }
        if self.intents.iter().all(Intent::is_spent) {
            self.intents.iter_mut().for_each(|intent| intent.next = 0);
        }
        let left = self
            .intents
            .iter()
            .zip(&self.weights)
            .map(|(intent, weight)| if intent.is_spent() { 0.0 } else { *weight });
        let mut at = share * left.clone().sum::<f64>();
        let drawn = left.clone().position(|weight| {
            at -= weight;
            at < 0.0 && weight > 0.0
        });
        // Rounding may leave a little behind the last.
        let last = self.intents.iter().rposition(|intent| !intent.is_spent());
        let rank = drawn.or(last).expect("an intent has prompts left");
        self.intents[rank].next()
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
        let rows: Vec<usize> = (0..160).map(|_| drawer.next()).collect();
        let mut seen = rows.clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), rows.len(), "none twice");
        let mut counts: HashMap<(u32, u32), usize> = HashMap::new();
        for row in &rows {
            if let Some(intent) = all[*row].intent {
                *counts.entry((all[*row].category, intent)).or_default() += 1;
            }
        }
        let most = counts.values().max().unwrap();
        assert!((19..=20).contains(most), "the most frequent are spent: {counts:?}");
        let lone = rows.iter().filter(|row| all[**row].intent.is_none()).count();
        assert!((5..30).contains(&lone), "{lone} of 160, a share of one in eleven");
        // More than there are: they come again.
        (0..2000).for_each(|_| assert!(drawer.next() < all.len()));
    }
}
