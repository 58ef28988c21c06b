//! What each way of answering is expected to take, from counts and from times measured on this machine.
//!
//! In: how many points there are and pass. Out: the way that is predicted to be faster, with both predictions. A fixed
//! share of passing points would be right on one machine, for one dim and one size only.

/// How the nearest of the passing points are found; each way is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// No point passes.
    Nothing,
    /// Every passing row is compared where it lies.
    Listed,
    /// Codes of all rows rule out nearly all, raw rows decide among the rest.
    Bounds,
    /// Every row is compared, in one pass: for metrics without codes.
    Scan,
}

impl Way {
    /// The name, as shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Listed => "listed",
            Self::Bounds => "bounds",
            Self::Scan => "scan",
        }
    }
}

/// Rows whose codes are looked at together: a block without a passing row is skipped.
const BLOCK: f64 = 32.0;

/// What skipping a block costs, as a share of looking at it.
const SKIP: f64 = 1.0 / 32.0;

/// Times of one query, measured when a collection is opened.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Rows.
    pub n_rows: u64,
    /// Seconds per row of comparing listed rows.
    pub row_s: f64,
    /// Seconds of a pass over all rows, by codes or raw.
    pub pass_s: f64,
    /// What that pass is.
    pub pass: Way,
}

/// What is chosen, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The way.
    pub way: Way,
    /// Seconds that comparing the listed rows would take.
    pub listed_s: f64,
    /// Seconds that the pass would take.
    pub pass_s: f64,
}

impl Costs {
    /// The way for one query of which `n_matches` points pass.
    pub fn choose(&self, n_matches: u64) -> Choice {
        let share = n_matches as f64 / self.n_rows.max(1) as f64;
        let listed_s = self.row_s * n_matches as f64;
        let looked_at = 1.0 - (1.0 - share).max(0.0).powf(BLOCK);
        let pass_s = self.pass_s * (SKIP + (1.0 - SKIP) * looked_at);
        let way = match n_matches {
            0 => Way::Nothing,
            _ if listed_s <= pass_s => Way::Listed,
            _ => self.pass,
        };
        Choice { way, listed_s, pass_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_listed_and_many_are_passed_over() {
        let costs = Costs { n_rows: 1_000_000, row_s: 1e-7, pass_s: 2e-3, pass: Way::Bounds };
        let way = |n| costs.choose(n).way;
        assert_eq!([way(0), way(1), way(1_000_000)], [Way::Nothing, Way::Listed, Way::Bounds]);
        let listed = (1..1_000_000u64).step_by(1000).filter(|&n| way(n) == Way::Listed).count();
        let turns = (1..999_000u64).step_by(1000).filter(|&n| way(n) != way(n + 1000)).count();
        assert!(
            listed > 1 && turns == 1,
            "{listed} counts are listed, the way changes {turns} times"
        );
    }

    #[test]
    fn the_prediction_follows_the_machine_and_not_a_share() {
        let slow_rows = Costs { n_rows: 1000, row_s: 1.0, pass_s: 10.0, pass: Way::Scan };
        let fast_rows = Costs { row_s: 1e-6, ..slow_rows };
        assert_eq!(
            (slow_rows.choose(500).way, fast_rows.choose(500).way),
            (Way::Scan, Way::Listed)
        );
    }
}
