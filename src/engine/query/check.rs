//! What cannot be asked, before anything is looked at.

use crate::core::limits::{
    CANDIDATES, EXAMPLES, FORMULA_DEPTH, FORMULA_TERMS, PAGE, PREFETCH_DEPTH, PREFETCHES,
};
use crate::engine::query::formula::{Expression, Formula};
use crate::engine::query::request::{Example, Fusion, Kind, Prefetch, Query, Strategy};
use crate::error::{Error, ErrorKind, Result};

impl Query {
    /// Fails if nobody can be asked so, whatever the collection.
    ///
    /// # Errors
    /// `query_range`, `query_value`, `query_prefetch`, `query_examples` and, of kind `Limit`, `query_size` name the place as
    /// `prefetch[0].limit`.
    pub fn check(&self) -> Result<()> {
        let n_prefetches = self.stage.check("", 0)?;
        if n_prefetches > PREFETCHES {
            return Err(too_much("prefetch", n_prefetches, "prefetches", PREFETCHES));
        }
        match self.offset.checked_add(self.stage.limit) {
            Some(end) if end <= PAGE => Ok(()),
            _ => {
                let message = format!(
                    "offset: {} and a limit of {}, expected a sum of at most {PAGE}",
                    self.offset, self.stage.limit
                );
                Err(bad("query_range", message))
            }
        }
    }
}

impl Prefetch {
    /// The number of all prefetches below this stage, if it can be.
    fn check(&self, at: &str, depth: usize) -> Result<usize> {
        if depth > PREFETCH_DEPTH {
            return Err(too_much(&format!("{at}prefetch"), depth, "levels", PREFETCH_DEPTH));
        }
        if !(1..=PAGE).contains(&self.limit) {
            let message = format!("{at}limit: {}, expected 1 to {PAGE}", self.limit);
            return Err(bad("query_range", message));
        }
        if let Some(threshold) = self.threshold.filter(|threshold| !threshold.is_finite()) {
            let message = format!("{at}score_threshold: {threshold}, expected a finite number");
            return Err(bad("query_value", message));
        }
        self.check_prefetch(at)?;
        self.kind.check(at, self.prefetch.len())?;
        let mut n = self.prefetch.len();
        for (i, inner) in self.prefetch.iter().enumerate() {
            n += inner.check(&format!("{at}prefetch[{i}]."), depth + 1)?;
        }
        Ok(n)
    }

    fn check_prefetch(&self, at: &str) -> Result<()> {
        match (&self.kind, self.prefetch.is_empty()) {
            (Kind::Id, false) => {
                let message = format!("{at}query: none, expected one for what was prefetched");
                Err(bad("query_prefetch", message))
            }
            (Kind::Fusion(_) | Kind::Formula(_), true) => {
                let message = format!("{at}query: {} of no prefetch", self.kind.name());
                Err(bad("query_prefetch", message))
            }
            _ => Ok(()),
        }
    }
}

impl Kind {
    fn check(&self, at: &str, n_prefetches: usize) -> Result<()> {
        let examples = self.examples();
        if examples.len() > EXAMPLES {
            return Err(too_much(&format!("{at}query"), examples.len(), "examples", EXAMPLES));
        }
        examples.into_iter().try_for_each(|example| example.check(at))?;
        match self {
            Self::Diverse { diversity, candidates, .. } => {
                if !(0.0..=1.0).contains(diversity) {
                    let message = format!("{at}query.mmr.diversity: {diversity}, expected 0 to 1");
                    return Err(bad("query_range", message));
                }
                check_candidates(at, *candidates)
            }
            Self::Recommend { positive, negative, strategy } => {
                let is_enough = match strategy {
                    Strategy::AverageVector => !positive.is_empty(),
                    Strategy::BestScore | Strategy::SumScores => {
                        !positive.is_empty() || !negative.is_empty()
                    }
                };
                some_examples(is_enough, &format!("{at}query.recommend.positive"))
            }
            Self::Context(pairs) => some_examples(!pairs.is_empty(), &format!("{at}query.context")),
            Self::Feedback { rated, weights, .. } => {
                let mut numbers = rated.iter().map(|(_, score)| score).chain(weights);
                match numbers.find(|number| !number.is_finite()) {
                    None => Ok(()),
                    Some(number) => {
                        let message = format!("{at}query.relevance_feedback: {number} as a number");
                        Err(bad("query_value", message))
                    }
                }
            }
            Self::Fusion(Fusion::ReciprocalRank { k, weights }) => {
                check_ranks(at, *k, weights.as_deref(), n_prefetches)
            }
            Self::Formula(formula) => formula.check(at),
            _ => Ok(()),
        }
    }
}

impl Example {
    fn check(&self, at: &str) -> Result<()> {
        let rows = match self {
            Self::Vector(row) => std::slice::from_ref(row),
            Self::Rows(rows) if rows.is_empty() => {
                return Err(bad("vector_rows", format!("{at}query: a vector of no row")));
            }
            Self::Rows(rows) => rows,
            // Values of sparse ones were looked at when they were made.
            Self::Sparse(_) | Self::Id(_) => &[],
        };
        for values in rows {
            if let Some(i) = values.iter().position(|value| !value.is_finite()) {
                let message = format!("{at}query: element {i} of a vector is {}", values[i]);
                return Err(bad("vector_not_finite", message));
            }
        }
        Ok(())
    }
}

fn check_ranks(at: &str, k: u32, weights: Option<&[f32]>, n_prefetches: usize) -> Result<()> {
    if k == 0 {
        return Err(bad("query_range", format!("{at}query.rrf.k: 0, expected 1 or more")));
    }
    let Some(weights) = weights else { return Ok(()) };
    if weights.len() != n_prefetches || weights.iter().any(|weight| !weight.is_finite()) {
        let message = format!(
            "{at}query.rrf.weights: {weights:?}, expected a finite one for each of {n_prefetches} \
             prefetches"
        );
        return Err(bad("query_value", message));
    }
    Ok(())
}

impl Formula {
    fn check(&self, at: &str) -> Result<()> {
        let mut n_terms = 0;
        self.expression.check(&format!("{at}query.formula"), 1, &mut n_terms)
    }
}

impl Expression {
    fn check(&self, at: &str, depth: usize, n_terms: &mut usize) -> Result<()> {
        *n_terms += 1;
        if *n_terms > FORMULA_TERMS {
            return Err(too_much(at, *n_terms, "terms", FORMULA_TERMS));
        }
        if depth > FORMULA_DEPTH {
            return Err(too_much(at, depth, "levels", FORMULA_DEPTH));
        }
        if let Self::Decay { scale, midpoint, .. } = self {
            if !(*scale > 0.0 && scale.is_finite()) {
                let message = format!("{at}: a scale of {scale}, expected more than 0");
                return Err(bad("query_range", message));
            }
            if !(*midpoint > 0.0 && *midpoint < 1.0) {
                let message =
                    format!("{at}: a midpoint of {midpoint}, expected one between 0 and 1");
                return Err(bad("query_range", message));
            }
        }
        self.parts().into_iter().try_for_each(|part| part.check(at, depth + 1, n_terms))
    }
}

fn check_candidates(at: &str, n: Option<usize>) -> Result<()> {
    match n {
        Some(n) if !(1..=CANDIDATES).contains(&n) => {
            let at = format!("{at}query.mmr.candidates_limit");
            Err(bad("query_range", format!("{at}: {n}, expected 1 to {CANDIDATES}")))
        }
        _ => Ok(()),
    }
}

fn some_examples(is_enough: bool, at: &str) -> Result<()> {
    if is_enough { Ok(()) } else { Err(bad("query_examples", format!("{at}: no example"))) }
}

pub(super) fn bad(code: &'static str, message: String) -> Error {
    Error::new(ErrorKind::BadInput, code, message)
}

pub(super) fn too_much(at: &str, n: usize, of: &str, limit: usize) -> Error {
    let message = format!("{at}: {n} {of}, limit {limit}");
    Error::new(ErrorKind::Limit, "query_size", message)
}
