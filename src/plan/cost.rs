//! What each way of answering is expected to take, from counts and from times measured on this machine.
//!
//! In: how many points there are and pass. Out: the way that is predicted to be fastest, with all predictions. A fixed share
//! of passing points would be right on one machine, for one dim and one size only.

use crate::index::tree::signs::LEAST_ROWS;

/// How the nearest of the passing points are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// No point passes.
    Nothing,
    /// Every passing row is compared where it lies: exact.
    Listed,
    /// The codes of every passing row are compared, and the best raw.
    Coded,
    /// The signs of every passing row are compared, the codes of those that may be near, and the best raw.
    Signs,
    /// Codes of all rows rule out nearly all, raw rows decide among the rest: exact.
    Bounds,
    /// Every row is compared, in one pass: exact, for metrics without codes.
    Scan,
    /// The lists of the passing rows' skeleton, nearest first, on codes, and the best raw.
    Tree,
    /// A walk over the graph on codes, and the best raw.
    Graph,
    /// As [`Self::Coded`], with all queries of the set at once.
    CodedTogether,
    /// As [`Self::Coded`], block by block with queries of any sets.
    CodedInBlocks,
}

impl Way {
    /// The name, as shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Listed => "listed",
            Self::Coded => "coded",
            Self::Signs => "signs",
            Self::Bounds => "bounds",
            Self::Scan => "scan",
            Self::Tree => "tree",
            Self::Graph => "graph",
            Self::CodedTogether => "coded_together",
            Self::CodedInBlocks => "coded_in_blocks",
        }
    }

    /// Whether every answer is exact.
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Nothing | Self::Listed | Self::Bounds | Self::Scan)
    }
}

/// Rows whose codes are looked at together: a block without a passing row is skipped.
const BLOCK: f64 = 32.0;

/// What skipping a block costs, as a share of looking at it.
const SKIP: f64 = 1.0 / 32.0;

/// Shares of passing rows at which walks are timed, the largest first. Below the last, too few links lead from one passing row to
/// the next: a walk ends before it was everywhere (recall 0.93 where one in a hundred passes, at any width that is faster
/// than the codes of all that pass), so that none is planned.
pub const SHARES: [f64; 4] = [1.0, 0.5, 0.125, 1.0 / 32.0];

/// Width at which walks are timed.
pub const TIMED_EF: usize = 64;

/// What a walk takes before it widens, in widths.
const DESCENT_EF: f64 = 16.0;

/// What a search of the tree takes until it has found the first lists, in widths.
const FIRST_LISTS_EF: f64 = 24.0;

/// Rows from which on a skeleton has several lists.
const LEAST_TREE: u64 = 256;

/// Times of one query, measured when a collection is opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Rows.
    pub n_rows: u64,
    /// Seconds per row of comparing listed rows.
    pub row_s: f64,
    /// Seconds of a pass over all rows, by codes or raw.
    pub pass_s: f64,
    /// What that pass is.
    pub pass: Way,
    /// What there is beside exact ways, if it was built.
    pub near: Option<NearCosts>,
}

/// Times of what is not exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearCosts {
    /// Seconds of preparing a query and comparing the best raw.
    pub query_s: f64,
    /// Seconds per code of comparing listed codes; none without codes.
    pub code_s: Option<f64>,
    /// What a first look by signs takes, where there is one.
    pub signs: Option<SignCosts>,
    /// Seconds of a walk at [`TIMED_EF`], for each of [`SHARES`].
    pub walks_s: [f64; SHARES.len()],
    /// What a search of the tree takes, where there is one.
    pub tree: Option<TreeCosts>,
    /// What queries take that are answered together, where there are codes.
    pub together: Option<TogetherCosts>,
}

/// Times of queries that are compared with the same codes at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TogetherCosts {
    /// Seconds per code of comparing listed codes that another query brought near.
    pub warm_s: f64,
    /// Seconds per row of making it ready for all queries that come to it.
    pub load_s: f64,
    /// Seconds per row and query.
    pub pair_s: f64,
}

/// Times of queries that look at signs first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignCosts {
    /// Seconds of preparing a query and comparing the best.
    pub query_s: f64,
    /// Seconds per row.
    pub row_s: f64,
}

/// Times of searches of skeletons at [`TIMED_EF`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TreeCosts {
    /// Rows of two runs, the fewer first, and seconds of their searches.
    pub searches: [(f64, f64); 2],
    /// Seconds per row of making a run and its skeleton.
    pub make_s: f64,
}

/// What is asked, as far as it decides the way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Question {
    /// Rows that may be returned.
    pub n_matches: u64,
    /// Whether only exact ways will do.
    pub exact: bool,
    /// Width of the beam of walks.
    pub ef: usize,
    /// Width of searches of the tree.
    pub tree_ef: usize,
    /// Whether the skeleton of these rows was made already.
    pub has_skeleton: bool,
    /// Which queries come with it.
    pub company: Company,
}

/// Queries that one thread answers together, this one counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Company {
    /// Those of the same set.
    pub n_same: usize,
    /// Those of any set.
    pub n_batch: usize,
}

impl Company {
    /// A query alone.
    pub const NONE: Self = Self { n_same: 1, n_batch: 1 };
}

/// What is chosen, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The way.
    pub way: Way,
    /// Seconds that each way that could be taken would take, in no order.
    pub predicted: Vec<(Way, f64)>,
}

impl Costs {
    /// The way for one query.
    pub fn choose(&self, question: Question) -> Choice {
        if question.n_matches == 0 {
            return Choice { way: Way::Nothing, predicted: Vec::new() };
        }
        let mut predicted = self.exact(question.n_matches);
        if let Some(near) = self.near.filter(|_| !question.exact) {
            near.add(question, self.n_rows, &mut predicted);
        }
        let best = predicted.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        Choice { way: best.expect("exact ways are always there").0, predicted }
    }

    fn exact(&self, n_matches: u64) -> Vec<(Way, f64)> {
        let share = n_matches as f64 / self.n_rows.max(1) as f64;
        let looked_at = 1.0 - (1.0 - share).max(0.0).powf(BLOCK);
        let pass_s = self.pass_s * (SKIP + (1.0 - SKIP) * looked_at);
        vec![(Way::Listed, self.row_s * n_matches as f64), (self.pass, pass_s)]
    }
}

impl NearCosts {
    fn add(&self, question: Question, n_rows: u64, predicted: &mut Vec<(Way, f64)>) {
        let n_matches = question.n_matches as f64;
        let coded = self.code_s.map(|code_s| (Way::Coded, self.query_s + code_s * n_matches));
        predicted.extend(coded);
        if let Some(signs) = self.signs.filter(|_| question.n_matches >= LEAST_ROWS) {
            predicted.push((Way::Signs, signs.query_s + signs.row_s * n_matches));
        }
        let share = n_matches / n_rows.max(1) as f64;
        if let Some(walk_s) = self.walk_s(share) {
            let widths = question.ef as f64 + DESCENT_EF;
            predicted.push((Way::Graph, walk_s * widths / (TIMED_EF as f64 + DESCENT_EF)));
        }
        if let Some(tree) = self.tree.filter(|_| question.n_matches > LEAST_TREE) {
            let n_same = question.company.n_same as f64;
            let make_s = if question.has_skeleton { 0.0 } else { tree.make_s * n_matches / n_same };
            let widths = question.tree_ef as f64 + FIRST_LISTS_EF;
            let widths = widths / (TIMED_EF as f64 + FIRST_LISTS_EF);
            predicted.push((Way::Tree, make_s + widths * tree.search_s(n_matches)));
        }
        if let Some(together) = self.together {
            let company = question.company;
            if company.n_same > 1 {
                let row_s = together.row_s(company.n_same as f64);
                predicted.push((Way::CodedTogether, self.query_s + n_matches * row_s));
            }
            if company.n_batch > 1 {
                let n_visits = (company.n_batch as f64 * share).max(1.0);
                let code_s = self.code_s.unwrap_or_default().max(together.warm_s);
                let code_s = together.warm_s + (code_s - together.warm_s) / n_visits;
                predicted.push((Way::CodedInBlocks, self.query_s + n_matches * code_s));
            }
        }
    }

    /// Seconds of a walk at [`TIMED_EF`] where a share of the rows passes, on a line between the logarithms of those
    /// timed.
    fn walk_s(&self, share: f64) -> Option<f64> {
        let after = SHARES.iter().position(|&timed| timed <= share)?;
        let Some(before) = after.checked_sub(1) else { return Some(self.walks_s[0]) };
        let part = (share / SHARES[after]).ln() / (SHARES[before] / SHARES[after]).ln();
        let (near, far) = (self.walks_s[after].ln(), self.walks_s[before].ln());
        Some((near + part * (far - near)).exp())
    }
}

impl TogetherCosts {
    /// Seconds of comparing a row with a query, when so many come to it.
    pub fn row_s(&self, n_queries: f64) -> f64 {
        self.pair_s + self.load_s / n_queries.max(1.0)
    }
}

impl TreeCosts {
    /// Seconds of a search at [`TIMED_EF`], on a power law through the two that were timed.
    fn search_s(&self, n_rows: f64) -> f64 {
        let [few, many] = self.searches;
        let power = (many.1 / few.1).ln() / (many.0 / few.0).ln();
        few.1 * (n_rows / few.0).powf(power.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs =
        Costs { n_rows: 1_000_000, row_s: 1e-7, pass_s: 2e-3, pass: Way::Bounds, near: None };
    const NEAR: NearCosts = NearCosts {
        query_s: 4e-6,
        code_s: Some(1.5e-8),
        signs: None,
        walks_s: [6e-5, 8e-5, 3e-4, 6e-4],
        tree: None,
        together: None,
    };
    const TREE: TreeCosts =
        TreeCosts { searches: [(2048.0, 2e-5), (32_768.0, 8e-5)], make_s: 2e-9 };

    fn question(n_matches: u64, exact: bool, ef: usize) -> Question {
        Question { n_matches, exact, ef, tree_ef: ef, has_skeleton: false, company: Company::NONE }
    }

    fn ways(costs: Costs, exact: bool) -> Vec<Way> {
        let counts = (0..=20).map(|power| 1u64 << power).filter(|&n| n <= costs.n_rows);
        let mut ways: Vec<Way> =
            counts.map(|n_matches| costs.choose(question(n_matches, exact, 64)).way).collect();
        ways.dedup();
        ways
    }

    #[test]
    fn the_more_pass_the_less_is_looked_at_of_them() {
        assert_eq!(ways(COSTS, false), [Way::Listed, Way::Bounds]);
        let near = Costs { near: Some(NEAR), ..COSTS };
        assert_eq!(ways(near, false), [Way::Listed, Way::Coded, Way::Graph]);
        assert_eq!(ways(near, true), [Way::Listed, Way::Bounds], "exact ways only");
        let tree = Costs { near: Some(NearCosts { tree: Some(TREE), ..NEAR }), ..COSTS };
        assert_eq!(ways(tree, false), [Way::Listed, Way::Coded, Way::Tree, Way::Graph]);
        let signs = Some(SignCosts { query_s: 6e-6, row_s: 2e-9 });
        let signs = Costs { near: Some(NearCosts { tree: Some(TREE), signs, ..NEAR }), ..COSTS };
        assert_eq!(ways(signs, false), [Way::Listed, Way::Coded, Way::Signs, Way::Graph]);
        let few = signs.choose(question(LEAST_ROWS - 1, false, 64));
        assert!(few.predicted.iter().all(|(way, _)| *way != Way::Signs), "{few:?}");
        let none = near.choose(question(0, false, 64));
        assert_eq!((none.way, none.predicted.len()), (Way::Nothing, 0));
    }

    #[test]
    fn the_prediction_follows_the_machine_and_not_a_share() {
        let slow_rows = Costs { n_rows: 1000, row_s: 1.0, pass_s: 10.0, ..COSTS };
        let fast_rows = Costs { row_s: 1e-6, ..slow_rows };
        let way = |costs: Costs| costs.choose(question(500, true, 64)).way;
        assert_eq!((way(slow_rows), way(fast_rows)), (Way::Bounds, Way::Listed));
    }

    #[test]
    fn the_more_come_together_the_less_each_takes() {
        let together = TogetherCosts { warm_s: 5e-9, load_s: 5e-8, pair_s: 2e-9 };
        let near = NearCosts { tree: Some(TREE), together: Some(together), ..NEAR };
        let costs = Costs { near: Some(near), ..COSTS };
        let seconds = |way: Way, n_matches, n_same, n_batch| {
            let company = Company { n_same, n_batch };
            let choice = costs.choose(Question { company, ..question(n_matches, false, 64) });
            choice.predicted.iter().find(|(own, _)| *own == way).map(|&(_, seconds)| seconds)
        };
        assert_eq!(seconds(Way::CodedTogether, 10_000, 1, 1000), None, "no other has its set");
        assert_eq!(seconds(Way::CodedInBlocks, 10_000, 1, 1), None, "alone");
        for way in [Way::CodedTogether, Way::CodedInBlocks] {
            let [two, many] = [2, 1000].map(|n| seconds(way, 10_000, n, n).unwrap());
            assert!(many < two, "{}: {two} to {many}", way.name());
        }
    }

    #[test]
    fn a_wider_beam_takes_longer_and_a_walk_through_few_is_not_planned() {
        let near = Costs { near: Some(NEAR), ..COSTS };
        let walk_s = |n_matches, ef| {
            let choice = near.choose(question(n_matches, false, ef));
            choice.predicted.iter().find(|(way, _)| *way == Way::Graph).map(|&(_, seconds)| seconds)
        };
        let all = walk_s(1_000_000, TIMED_EF).unwrap();
        assert!((all - 6e-5).abs() < 1e-9 && walk_s(1_000_000, 256).unwrap() > 3.0 * all);
        let some: Vec<f64> = [1_000_000, 700_000, 500_000, 200_000, 125_000, 60_000, 31_250]
            .map(|n| walk_s(n, 64).unwrap())
            .into();
        assert!(some.is_sorted(), "{some:?}");
        assert_eq!(walk_s(31_000, 64), None);
    }
}
